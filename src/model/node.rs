//! `Node`: what one path of a tree holds.

use crate::model::{Digest, TreePath};
use std::fmt;

/// What a path holds: a file, a directory or a symbolic link, with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and content.
    pub kind: Kind,
    /// Mode, owner, time, attributes.
    pub metadata: Metadata,
    /// The first path, in the order of the manifest, of the hard-link group that this file belongs to.
    /// Nothing for the first path itself, and for a file with one name.
    pub leader: Option<TreePath>,
}

/// The type of a node and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; what is in it stands under its own path.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of the content. Holes read as zeros: a sparse file equals one that is written out.
        digest: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, never followed or checked.
        target: Box<[u8]>,
    },
}

/// What a node has besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky (`0o7777`). Always `0o777` for a symbolic link.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Extended attributes, ACLs and capabilities among them.
    pub xattrs: Xattrs,
}

/// Extended attributes, sorted by name: `user.*`, `system.posix_acl_*` and `security.capability`. Others belong to the
/// machine, not to the tree (SELinux labels, IMA signatures, overlay marks), and are not recorded.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// A point in time, as a file system keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// Which metadata is part of a tree's identity, besides type, content, mode, link target, hard-link groups and
/// extended attributes, which always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Owner and group count.
    pub owner: bool,
    /// Modification times count.
    pub mtime: bool,
}

/// How two nodes differ, for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// It should be there and is not.
    Missing,
    /// It is there and should not be.
    Unexpected,
    /// Another type of entry.
    Type,
    /// Other bytes.
    Content,
    /// The link points elsewhere.
    Target,
    /// Other permission bits.
    Mode,
    /// Another owner or group.
    Owner,
    /// Another modification time.
    Time,
    /// Other extended attributes.
    Xattrs,
    /// Another hard-link group.
    Links,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Unexpected => "not expected to exist",
            Self::Type => "another type",
            Self::Content => "other content",
            Self::Target => "another link target",
            Self::Mode => "another mode",
            Self::Owner => "another owner",
            Self::Time => "another modification time",
            Self::Xattrs => "other extended attributes",
            Self::Links => "other hard links",
        })
    }
}

impl Policy {
    /// The wire form: bit 0 owner, bit 1 time.
    pub fn bits(self) -> u8 {
        u8::from(self.owner) | u8::from(self.mtime) << 1
    }

    /// Reads the wire form; nothing for a bit that this version does not know.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits < 4).then_some(Self { owner: bits & 1 != 0, mtime: bits & 2 != 0 })
    }
}

impl Metadata {
    /// With everything that the policy leaves out set to zero: what goes into a digest.
    pub fn under(&self, policy: Policy) -> Self {
        Self {
            mode: self.mode,
            uid: if policy.owner { self.uid } else { 0 },
            gid: if policy.owner { self.gid } else { 0 },
            mtime: if policy.mtime { self.mtime } else { Time::default() },
            xattrs: self.xattrs.clone(),
        }
    }

    /// The first way in which it differs from `other`, under a policy.
    pub fn difference(&self, other: &Self, policy: Policy) -> Option<Difference> {
        if self.mode != other.mode {
            Some(Difference::Mode)
        } else if policy.owner && (self.uid, self.gid) != (other.uid, other.gid) {
            Some(Difference::Owner)
        } else if self.xattrs != other.xattrs {
            Some(Difference::Xattrs)
        } else if policy.mtime && self.mtime != other.mtime {
            Some(Difference::Time)
        } else {
            None
        }
    }
}

impl Kind {
    /// The first way in which it differs from `other`.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        match (self, other) {
            (Self::Directory, Self::Directory) => None,
            (Self::File { .. }, Self::File { .. }) => (self != other).then_some(Difference::Content),
            (Self::Symlink { .. }, Self::Symlink { .. }) => (self != other).then_some(Difference::Target),
            _ => Some(Difference::Type),
        }
    }

    /// Length in bytes of a file's content; zero for everything else.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }
}

impl Node {
    /// A node with one name.
    pub fn new(kind: Kind, metadata: Metadata) -> Self {
        Self { kind, metadata, leader: None }
    }

    /// The first way in which it differs from `other`, under a policy, hard links aside.
    pub fn difference(&self, other: &Self, policy: Policy) -> Option<Difference> {
        self.kind.difference(&other.kind).or_else(|| self.metadata.difference(&other.metadata, policy))
    }

    /// The same object, under a policy, hard links aside?
    pub fn matches(&self, other: &Self, policy: Policy) -> bool {
        self.difference(other, policy).is_none()
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }
}

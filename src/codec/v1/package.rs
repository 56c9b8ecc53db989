//! The manifest of a package. Its encoding is the compact one.

use super::Node;
use crate::limits;
use serde::{Deserialize, Serialize};

/// What the signed bytes begin with; the bytes of the manifest follow.
pub const PACKAGE_DOMAIN: &[u8] = b"surefoot package manifest v1\0";

/// What a package promises, in the compact encoding. Signed as bytes, before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageManifest {
    /// Patch or full.
    pub kind: PackageKind,
    /// The version that it makes, as text.
    #[serde(deserialize_with = "crate::codec::text")]
    pub to: String,
    /// Digest of the tree that it makes.
    pub target: [u8; 32],
    /// The architecture that it is for; nothing for every one.
    #[serde(deserialize_with = "crate::codec::optional_text")]
    pub architecture: Option<String>,
    /// Bit 0: owner counts; bit 1: time counts.
    pub policy: u8,
    /// Words for people.
    #[serde(deserialize_with = "crate::codec::text")]
    pub notes: String,
    /// Most memory that decoding a segment takes, in bytes.
    pub memory: u64,
    /// What changes, sorted by path. Of a full package: every entry.
    #[serde(deserialize_with = "crate::codec::at_most::<_, _, { limits::PACKAGE_CHANGES }>")]
    pub changes: Vec<Change>,
    /// The payload, in the order of the container.
    #[serde(deserialize_with = "crate::codec::at_most::<_, _, { limits::SEGMENTS }>")]
    pub segments: Vec<Segment>,
}

/// What a package starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageKind {
    /// Variant 0: any tree becomes the target.
    Full,
    /// Variant 1: exactly the base becomes the target.
    Patch {
        /// The version that it applies to, as text.
        #[serde(deserialize_with = "crate::codec::text")]
        from: String,
        /// Digest of the tree that it applies to.
        base: [u8; 32],
    },
}

/// What one path becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub path: Vec<u8>,
    /// First byte of the node digest of what the base holds there; nothing if it holds nothing. Only to say which path
    /// differs: the digest of the base is what counts.
    pub before: Option<u8>,
    /// What it becomes, and where its content comes from; nothing if it is removed. In a patch the digest of a file is
    /// zeros: it follows from the base and the payload, and the digest of the target covers it.
    pub after: Option<(Node, Source)>,
}

/// Where the content of a node comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Variant 0: it has none (a directory, a link), or it is another name of its hard-link leader.
    None,
    /// Variant 1: the payload makes it. In a full package it is the next content, in the order of the changes.
    Payload,
    /// Variant 2: the base holds it at this path.
    Base(Vec<u8>),
    /// Variant 3: an earlier change, of this index, has the same content.
    Change(u32),
}

/// One independent piece of the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// How it is coded. Of a full package, 0: stored; 1: one zstd frame. Of a patch, 2: the views; 3: a segment of a
    /// delta; 4: one that uses LZMA. More may come.
    pub codec: u16,
    /// Bytes in the container.
    pub packed: u64,
    /// SHA-256 of these.
    pub digest: [u8; 32],
    /// Bytes when decoded, at least one.
    pub unpacked: u64,
}

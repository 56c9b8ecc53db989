//! The wire types of format 1. Frozen: the order of fields and variants is the format, golden bytes hold it.
//!
//! They mirror the model and are read into it by checks, never trusted as they are.

mod download;
mod index;
mod journal;
mod package;
mod state;
mod unpacked;

pub use download::{DOWNLOAD_ENTRY, DOWNLOAD_MAGIC, Download};
pub use index::{INDEX_MAGIC, IndexEntry, decode_index, encode_index, index_key};
pub use journal::{Method, PLAN_MAGIC, Plan, PlanHeader, Record, Recovery, Step, Work};
pub use package::{Change, PACKAGE_DOMAIN, PackageKind, PackageManifest, Segment, Source};
pub use state::{GENERATION_MAGIC, Generation};
pub use unpacked::{
    Noted, UNPACKED_RECORD, UNPACKED_START, Unpacked, decode_unpacked, encode_unpacked, encode_unpacked_segment,
};

use crate::codec::{DecodeError, decode_prefix, encode_into, length};
use crate::limits;
use crate::model::{self, Digest, Hasher, Policy, Time, TreePath};
use serde::{Deserialize, Serialize};

/// The type of a node and its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Variant 0.
    Directory,
    /// Variant 1: length in bytes, SHA-256 of the content.
    File(u64, [u8; 32]),
    /// Variant 2: the target.
    Symlink(Vec<u8>),
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Type and content.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime_seconds: i64,
    /// And nanoseconds.
    pub mtime_nanoseconds: u32,
    /// Name and value, sorted by name.
    #[serde(deserialize_with = "crate::codec::at_most::<_, _, { limits::XATTRS }>")]
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Path of the first file of the hard-link group.
    pub leader: Option<Vec<u8>>,
}

/// A path and what it holds; nothing only in a delta, where the path is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub node: Option<Node>,
}

/// What stands before the entries of a manifest file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// Always `MANIFEST_MAGIC`.
    pub magic: [u8; 8],
    /// Bit 0: owner counts; bit 1: time counts.
    pub policy: u8,
    /// Does it hold changes to another manifest?
    pub delta: bool,
    /// How many entries follow.
    pub entries: u64,
}

/// First bytes of a manifest file.
pub const MANIFEST_MAGIC: [u8; 8] = *b"SFMANIF1";
/// What a tree digest begins with: no other digest of surefoot can be mistaken for one.
pub const TREE_DOMAIN: &[u8] = b"surefoot tree v1\0";

impl From<&model::Node> for Node {
    fn from(node: &model::Node) -> Self {
        let metadata = &node.metadata;
        Self {
            kind: match &node.kind {
                model::Kind::Directory => Kind::Directory,
                model::Kind::File { size, digest } => Kind::File(*size, digest.0),
                model::Kind::Symlink { target } => Kind::Symlink(target.to_vec()),
            },
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime_seconds: metadata.mtime.seconds,
            mtime_nanoseconds: metadata.mtime.nanoseconds,
            xattrs: metadata.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            leader: node.leader.as_ref().map(|path| path.as_bytes().to_vec()),
        }
    }
}

impl TryFrom<Node> for model::Node {
    type Error = DecodeError;

    fn try_from(wire: Node) -> Result<Self, DecodeError> {
        let invalid = DecodeError::invalid;
        let kind = match wire.kind {
            Kind::Directory => model::Kind::Directory,
            Kind::File(size, digest) => model::Kind::File { size, digest: Digest(digest) },
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > limits::LINK_TARGET_BYTES || target.contains(&0) {
                    return Err(invalid("link target", "empty, too long or with a NUL byte"));
                }
                model::Kind::Symlink { target: target.into() }
            }
        };
        if wire.mode > 0o7777 || wire.mtime_nanoseconds >= 1_000_000_000 {
            return Err(invalid("metadata", "mode or time out of range"));
        }
        if matches!(kind, model::Kind::Symlink { .. }) && (wire.mode != 0o777 || !wire.xattrs.is_empty()) {
            return Err(invalid("metadata", "a symbolic link has mode 0777 and no attributes"));
        }
        if wire.uid == u32::MAX || wire.gid == u32::MAX {
            return Err(invalid("metadata", "owner out of range"));
        }
        let fits = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let length = name.len();
            0 < length
                && length <= limits::XATTR_NAME_BYTES
                && value.len() <= limits::XATTR_VALUE_BYTES
                && !name.contains(&0)
        };
        if wire.xattrs.len() > limits::XATTRS
            || !wire.xattrs.iter().all(fits)
            || wire.xattrs.windows(2).any(|pair| pair[0].0 >= pair[1].0)
        {
            return Err(invalid("extended attributes", "too many, too long or out of order"));
        }
        let leader = wire.leader.map(|path| tree_path(&path)).transpose()?;
        if leader.is_some() && !matches!(kind, model::Kind::File { .. }) {
            return Err(invalid("hard link", "only files have hard links"));
        }
        Ok(Self {
            kind,
            metadata: model::Metadata {
                mode: wire.mode,
                uid: wire.uid,
                gid: wire.gid,
                mtime: Time { seconds: wire.mtime_seconds, nanoseconds: wire.mtime_nanoseconds },
                xattrs: wire.xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            },
            leader,
        })
    }
}

/// A path from the wire.
pub fn tree_path(bytes: &[u8]) -> Result<TreePath, DecodeError> {
    TreePath::parse(bytes).map_err(|error| DecodeError::invalid("path", error))
}

/// The digest of a tree: of its policy and its entries in order, with what the policy leaves out set to zero.
pub fn tree_digest(manifest: &model::Manifest) -> Digest {
    let policy = manifest.policy();
    let mut hasher = Hasher::new();
    hasher.update(TREE_DOMAIN);
    hasher.update(&[policy.bits()]);
    hasher.update(&(manifest.entries().len() as u64).to_le_bytes());
    let mut buffer = Vec::new();
    for entry in manifest.entries() {
        buffer.clear();
        encode_into(
            &Entry { path: entry.path.as_bytes().into(), node: Some(node_under(&entry.node, policy)) },
            &mut buffer,
        );
        hasher.update(&buffer);
    }
    hasher.finish()
}

/// The digest of one node under a policy: what a package names as the old state of a path.
pub fn node_digest(node: &model::Node, policy: Policy) -> Digest {
    let mut bytes = b"surefoot node v1\0".to_vec();
    encode_into(&node_under(node, policy), &mut bytes);
    Digest::of(&bytes)
}

fn node_under(node: &model::Node, policy: Policy) -> Node {
    Node::from(&model::Node {
        kind: node.kind.clone(),
        metadata: node.metadata.under(policy),
        leader: node.leader.clone(),
    })
}

/// The bytes of a whole manifest.
pub fn encode_manifest(manifest: &model::Manifest) -> Vec<u8> {
    let entries = manifest.entries();
    let mut out = manifest_start(manifest.policy(), false, entries.len());
    for entry in entries {
        encode_into(&Entry { path: entry.path.as_bytes().into(), node: Some(Node::from(&entry.node)) }, &mut out);
    }
    out
}

/// The bytes of some changes to a manifest.
pub fn encode_manifest_delta<'a>(
    policy: Policy,
    changes: impl ExactSizeIterator<Item = (&'a model::TreePath, Option<&'a model::Node>)>,
) -> Vec<u8> {
    let mut out = manifest_start(policy, true, changes.len());
    for (path, after) in changes {
        encode_into(&Entry { path: path.as_bytes().into(), node: after.map(Node::from) }, &mut out);
    }
    out
}

/// How many bytes some changes to a manifest will have.
pub fn manifest_delta_length<'a>(changes: impl Iterator<Item = (&'a model::TreePath, Option<&'a model::Node>)>) -> u64 {
    let entry = |(path, after): (&model::TreePath, Option<&model::Node>)| {
        length(&Entry { path: path.as_bytes().into(), node: after.map(Node::from) })
    };
    manifest_start(Policy::default(), true, 0).len() as u64 + changes.map(entry).sum::<u64>()
}

fn manifest_start(policy: Policy, delta: bool, entries: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 * entries + 32);
    let header = ManifestHeader { magic: MANIFEST_MAGIC, policy: policy.bits(), delta, entries: entries as u64 };
    encode_into(&header, &mut out);
    out
}

/// Reads a whole manifest.
pub fn decode_manifest(bytes: &[u8]) -> Result<model::Manifest, DecodeError> {
    let (policy, entries) = decode_entries(bytes, false, |path, node| {
        let node = node.ok_or_else(|| DecodeError::invalid("manifest", "an entry without a node"))?;
        Ok(model::Entry { path, node })
    })?;
    model::Manifest::new(policy, entries).map_err(|error| DecodeError::invalid("manifest", error))
}

/// Reads changes to a manifest.
pub fn decode_manifest_delta(bytes: &[u8]) -> Result<(Policy, Vec<model::ManifestChange>), DecodeError> {
    decode_entries(bytes, true, |path, after| Ok(model::ManifestChange { path, after }))
}

/// Bytes of the shortest entry that has a node.
const SHORTEST_ENTRY: usize = 46;

fn decode_entries<T>(
    bytes: &[u8],
    delta: bool,
    make: impl Fn(TreePath, Option<model::Node>) -> Result<T, DecodeError>,
) -> Result<(Policy, Vec<T>), DecodeError> {
    let (header, mut at) = decode_prefix::<ManifestHeader>(bytes)?;
    if header.magic != MANIFEST_MAGIC || header.delta != delta || header.entries > limits::ENTRIES as u64 {
        return Err(DecodeError::invalid("manifest", "not a manifest of this kind"));
    }
    let policy = Policy::from_bits(header.policy).ok_or_else(|| DecodeError::invalid("manifest", "unknown policy"))?;
    // One allocation of the right size, but never on the word of the header alone. Entries are read one at a time, so
    // that the wire form of only one is in memory.
    let possible = (bytes.len() - at) / SHORTEST_ENTRY;
    let mut entries = Vec::with_capacity(usize::try_from(header.entries).unwrap_or(possible).min(possible));
    for _ in 0..header.entries {
        let (entry, used) = decode_prefix::<Entry>(&bytes[at..])?;
        at += used;
        entries.push(make(tree_path(&entry.path)?, entry.node.map(model::Node::try_from).transpose()?)?);
    }
    if at == bytes.len() { Ok((policy, entries)) } else { Err(DecodeError::Trailing(bytes.len() - at)) }
}

#[cfg(test)]
mod tests;

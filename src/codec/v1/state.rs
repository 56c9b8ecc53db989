//! What is recorded about each generation of a tree.

use serde::{Deserialize, Serialize};

/// First bytes of a generation file.
pub const GENERATION_MAGIC: [u8; 8] = *b"SFGENER1";

/// One state that the tree is, was or is about to be in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Always `GENERATION_MAGIC`.
    pub magic: [u8; 8],
    /// Its identity: that of the transaction that makes it.
    pub id: [u8; 16],
    /// The generation before; nothing for the first.
    pub parent: Option<[u8; 16]>,
    /// The version, as text; empty if the tree has none.
    #[serde(deserialize_with = "crate::codec::text")]
    pub version: String,
    /// Digest of the tree; nothing if its content is not recorded.
    pub digest: Option<[u8; 32]>,
    /// The manifest files that together give the manifest: a full one, then deltas. Empty if nothing is recorded.
    pub manifests: Vec<[u8; 16]>,
    /// Bit 0: owner counts; bit 1: time counts.
    pub policy: u8,
    /// Seconds since 1970, for people.
    pub time: i64,
    /// What made it, for people.
    #[serde(deserialize_with = "crate::codec::text")]
    pub title: String,
}

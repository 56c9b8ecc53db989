//! `Release`: what surefoot says about a package in the metadata of a target.

use super::RepositoryError;
use super::metadata::Target;
use crate::limits;
use crate::model::{BlockMap, Digest, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The member of a target's `custom` that holds it.
const MEMBER: &str = "surefoot";

/// One package of a repository: everything that is asked before it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The path of the target.
    pub path: String,
    /// Bytes of the package.
    pub bytes: u64,
    /// SHA-256 of the package.
    pub digest: Digest,
    /// The digests of its blocks, if they are published.
    pub blocks: Option<BlockMap>,
    /// The version that it makes.
    pub version: Version,
    /// The architecture that it is for; nothing for every one.
    pub architecture: Option<String>,
    /// The channels that it is in.
    pub channels: Vec<String>,
    /// What it starts from.
    pub kind: ReleaseKind,
    /// Digest of the tree that it makes.
    pub target: Digest,
    /// The name of the package: the digest of its manifest.
    pub package: Digest,
    /// Most memory that decoding it takes, in bytes.
    pub memory_bytes: u64,
    /// Most bytes of new content that it stages.
    pub space_bytes: u64,
    /// The oldest version that can become this one; what is older goes through others first.
    pub minimum: Option<Version>,
    /// Versions that it may replace although they are newer.
    pub downgrade_from: Vec<Version>,
    /// Words for people.
    pub notes: String,
}

/// What a package starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// Any tree.
    Full,
    /// One tree.
    Patch(Base),
}

/// The tree that a patch starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its version.
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    channels: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<WireBase>,
    target: String,
    package: String,
    memory_bytes: u64,
    space_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<WireBlocks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    downgrade_from: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    notes: String,
}

#[derive(Serialize, Deserialize)]
struct WireBase {
    version: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct WireBlocks {
    bytes: u64,
    digests: String,
}

impl Release {
    /// Reads what a target says; nothing if it says nothing about surefoot.
    pub fn read(path: &str, target: &Target) -> Result<Option<Self>, RepositoryError> {
        let Some(value) = target.custom.as_ref().and_then(|custom| custom.get(MEMBER)) else { return Ok(None) };
        let bad = |why: String| RepositoryError::malformed(path, why);
        let wire = Wire::deserialize(value).map_err(|error| bad(error.to_string()))?;
        let version = |text: &str| Version::parse(text).map_err(|error| bad(error.to_string()));
        let digest = |text: &str| Digest::parse(text).ok_or_else(|| bad("a digest that is none".into()));
        let kind = match wire.base {
            None => ReleaseKind::Full,
            Some(base) => ReleaseKind::Patch(Base { version: version(&base.version)?, digest: digest(&base.digest)? }),
        };
        let release = Self {
            path: path.into(),
            bytes: target.length,
            digest: target.digest().ok_or_else(|| bad("no SHA-256".into()))?,
            blocks: match wire.blocks {
                Some(blocks) => {
                    let read = read_blocks(&blocks, target.length);
                    Some(read.ok_or_else(|| bad("digests of blocks that do not fit its length".into()))?)
                }
                None => None,
            },
            version: version(&wire.version)?,
            architecture: wire.architecture,
            channels: wire.channels,
            kind,
            target: digest(&wire.target)?,
            package: digest(&wire.package)?,
            memory_bytes: wire.memory_bytes,
            space_bytes: wire.space_bytes,
            minimum: wire.minimum.as_deref().map(version).transpose()?,
            downgrade_from: wire.downgrade_from.iter().map(|text| version(text)).collect::<Result<_, _>>()?,
            notes: wire.notes,
        };
        release.check().map_err(|why| bad(why.into()))?;
        Ok(Some(release))
    }

    /// The target that says this.
    pub fn to_target(&self) -> Target {
        let wire = Wire {
            version: self.version.to_string(),
            architecture: self.architecture.clone(),
            channels: self.channels.clone(),
            base: match &self.kind {
                ReleaseKind::Full => None,
                ReleaseKind::Patch(base) => {
                    Some(WireBase { version: base.version.to_string(), digest: base.digest.to_string() })
                }
            },
            target: self.target.to_string(),
            package: self.package.to_string(),
            memory_bytes: self.memory_bytes,
            space_bytes: self.space_bytes,
            blocks: self.blocks.as_ref().map(wire_blocks),
            minimum: self.minimum.as_ref().map(ToString::to_string),
            downgrade_from: self.downgrade_from.iter().map(ToString::to_string).collect(),
            notes: self.notes.clone(),
        };
        // Texts, numbers and lists of them are always JSON.
        let value = serde_json::to_value(wire).unwrap_or(Value::Null);
        Target {
            length: self.bytes,
            hashes: [("sha256".to_owned(), self.digest.to_string())].into(),
            custom: Some(json!({ MEMBER: value })),
            more: Default::default(),
        }
    }

    /// Where such a package stands: one place for each version, architecture and base.
    pub fn usual_path(&self) -> String {
        let architecture = self.architecture.as_deref().unwrap_or("any");
        match &self.kind {
            ReleaseKind::Full => format!("{architecture}/{}/full.sf", self.version),
            ReleaseKind::Patch(base) => format!("{architecture}/{}/from-{}.sf", self.version, base.version),
        }
    }

    /// Asks that texts are short and plain enough for paths and terminals, and that it can be fetched.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.architecture.as_deref().is_some_and(|name| !plain(name) || name == "any") {
            return Err("an architecture is letters, digits, '_', '-' and '.', and not \"any\"");
        }
        if self.channels.is_empty() || !self.channels.iter().all(|name| plain(name)) {
            return Err("a package is in one channel at least, and their names are letters, digits, '_', '-' and '.'");
        }
        if self.channels.len() > limits::RELEASE_NAMES || self.downgrade_from.len() > limits::RELEASE_NAMES {
            return Err("too many channels, or versions to replace");
        }
        if self.bytes > limits::DOWNLOAD_BYTES {
            return Err("it is longer than a download may be");
        }
        if self.notes.len() > limits::NOTES_BYTES {
            return Err("its notes are too long");
        }
        Ok(())
    }

    /// Is it in this channel, and for this architecture?
    pub fn is_for(&self, channel: &str, architecture: &str) -> bool {
        self.channels.iter().any(|name| name == channel)
            && self.architecture.as_deref().is_none_or(|name| name == architecture)
    }

    /// May it be installed over this version? A newer one only with the signed permission to go back.
    pub fn may_replace(&self, installed: &Version) -> bool {
        self.version >= *installed || self.downgrade_from.contains(installed)
    }
}

fn wire_blocks(blocks: &BlockMap) -> WireBlocks {
    let digests: Vec<u8> = blocks.digests().iter().flat_map(|digest| digest.0).collect();
    WireBlocks { bytes: blocks.block_bytes(), digests: BASE64.encode(digests) }
}

fn read_blocks(blocks: &WireBlocks, length: u64) -> Option<BlockMap> {
    let bytes = BASE64.decode(&blocks.digests).ok()?;
    let (digests, rest) = bytes.as_chunks::<32>();
    let digests = digests.iter().map(|digest| Digest(*digest)).collect();
    BlockMap::new(blocks.bytes, length, digests).filter(|_| rest.is_empty())
}

fn plain(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= limits::VERSION_BYTES && !name.starts_with('.') && name.bytes().all(good)
}

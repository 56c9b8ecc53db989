//! The four kinds of metadata, as section 4 of the specification describes them.
//!
//! What a program does not know is kept and written again (section 4): every object has a map of the rest.

use super::{Moment, RepositoryError, role};
use crate::codec::canonical_json::canonical;
use crate::limits;
use crate::model::Digest;
use crate::trust::{PublicKey, RoleKey, TrustError, hex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the specification that is written; others of the same first number are read.
pub const SPEC_VERSION: &str = "1.0.31";

/// The signed part of a metadata file.
pub trait Body: DeserializeOwned + Serialize {
    /// What `_type` says.
    const TYPE: &'static str;
    /// Largest file, in bytes, where nothing above it says less.
    const MOST: u64;

    /// What `_type` says in this one.
    fn type_name(&self) -> &str;
    /// Version of the specification.
    fn spec_version(&self) -> &str;
    /// Its own version.
    fn version(&self) -> u64;
    /// When it is not valid any more.
    fn expires(&self) -> Moment;
    /// What breaks a rule inside.
    fn check(&self) -> Result<(), String>;
}

macro_rules! body {
    ($name:ident, $type:expr, $most:expr) => {
        impl Body for $name {
            const TYPE: &'static str = $type;
            const MOST: u64 = $most;

            fn type_name(&self) -> &str {
                &self.type_name
            }
            fn spec_version(&self) -> &str {
                &self.spec_version
            }
            fn version(&self) -> u64 {
                self.version
            }
            fn expires(&self) -> Moment {
                self.expires
            }
            fn check(&self) -> Result<(), String> {
                self.check_rules()
            }
        }
    };
}

body!(Root, role::ROOT, limits::ROOT_BYTES);
body!(Targets, role::TARGETS, limits::TARGETS_BYTES);
body!(Snapshot, role::SNAPSHOT, limits::SNAPSHOT_BYTES);
body!(Timestamp, role::TIMESTAMP, limits::TIMESTAMP_BYTES);

/// Whose keys count for which role (4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Always `root`.
    #[serde(rename = "_type")]
    pub type_name: String,
    /// Version of the specification.
    pub spec_version: String,
    /// Do names of files carry versions and digests?
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Its version.
    pub version: u64,
    /// When it is not valid any more.
    pub expires: Moment,
    /// Every key, by its name.
    pub keys: BTreeMap<String, Key>,
    /// Every role, by its name.
    pub roles: BTreeMap<String, Role>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A public key (4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its type.
    pub keytype: String,
    /// How it signs.
    pub scheme: String,
    /// The key.
    pub keyval: KeyValue,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Its text.
    pub public: String,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Which keys count, and how many of them are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Names of keys.
    pub keyids: Vec<String>,
    /// How many different ones must have signed.
    pub threshold: u64,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Which snapshot is the newest (4.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Always `timestamp`.
    #[serde(rename = "_type")]
    pub type_name: String,
    /// Version of the specification.
    pub spec_version: String,
    /// Its version.
    pub version: u64,
    /// When it is not valid any more.
    pub expires: Moment,
    /// `snapshot.json`, and nothing else.
    pub meta: BTreeMap<String, FileInfo>,
    /// When it was signed: a moment that is over for sure. No part of the specification.
    #[serde(rename = "x-surefoot-signed", default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Moment>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Which targets metadata belong together (4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always `snapshot`.
    #[serde(rename = "_type")]
    pub type_name: String,
    /// Version of the specification.
    pub spec_version: String,
    /// Its version.
    pub version: u64,
    /// When it is not valid any more.
    pub expires: Moment,
    /// Every targets metadata, by its name without a version.
    pub meta: BTreeMap<String, FileInfo>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// What metadata says about metadata below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests, by the name of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Which packages there are, and who else may say so (4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Always `targets`.
    #[serde(rename = "_type")]
    pub type_name: String,
    /// Version of the specification.
    pub spec_version: String,
    /// Its version.
    pub version: u64,
    /// When it is not valid any more.
    pub expires: Moment,
    /// Every target, by its path.
    pub targets: BTreeMap<String, Target>,
    /// Roles that are trusted for some paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One file that can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests, by the name of the function.
    pub hashes: BTreeMap<String, String>,
    /// What the application says about it; see [`Release`](super::Release).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Roles that are trusted for some paths, and their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// Every key, by its name.
    pub keys: BTreeMap<String, Key>,
    /// The roles, the most trusted first.
    pub roles: Vec<Delegation>,
    /// What this program does not know.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One role that is trusted for some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// Whose signatures count.
    #[serde(flatten)]
    pub role: Role,
    /// Nobody after it is asked about its paths.
    pub terminating: bool,
    /// Patterns of paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Beginnings of the SHA-256 of paths, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl Root {
    /// One of a role that has no keys yet.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    fn check_rules(&self) -> Result<(), String> {
        check_keys(&self.keys)?;
        for name in role::TOP {
            if !self.roles.contains_key(name) {
                return Err(format!("the role {name} is missing"));
            }
        }
        self.roles.iter().try_for_each(|(name, role)| role.check(name))
    }
}

impl Key {
    /// The Ed25519 key.
    pub fn ed25519(key: &PublicKey) -> Self {
        Self {
            keytype: "ed25519".into(),
            scheme: "ed25519".into(),
            keyval: KeyValue { public: hex(&key.to_bytes()), more: BTreeMap::new() },
            more: BTreeMap::new(),
        }
    }

    /// Its name: the SHA-256 of its canonical form (4.2).
    pub fn id(&self) -> String {
        let form = json!({"keytype": self.keytype, "scheme": self.scheme, "keyval": {"public": self.keyval.public}});
        canonical(&form).map(|form| Digest::of(&form).to_string()).unwrap_or_default()
    }

    /// The key, if it is of a kind that can be used here.
    pub fn usable(&self) -> Result<RoleKey, TrustError> {
        RoleKey::parse(&self.keytype, &self.scheme, &self.keyval.public)
    }
}

impl Role {
    /// One that any `threshold` of these keys sign for.
    pub fn new(keyids: Vec<String>, threshold: u64) -> Self {
        Self { keyids, threshold, more: BTreeMap::new() }
    }

    fn check(&self, name: &str) -> Result<(), String> {
        if self.threshold == 0 {
            return Err(format!("the role {name} needs no signature"));
        }
        if self.keyids.len() > limits::METADATA_KEYS {
            return Err(format!("the role {name} has more than {} keys", limits::METADATA_KEYS));
        }
        let unique: BTreeSet<_> = self.keyids.iter().collect();
        if unique.len() == self.keyids.len() { Ok(()) } else { Err(format!("the role {name} names a key twice")) }
    }
}

impl Timestamp {
    /// What it says about the snapshot.
    pub fn snapshot(&self) -> Option<&FileInfo> {
        self.meta.get("snapshot.json")
    }

    fn check_rules(&self) -> Result<(), String> {
        if self.meta.len() != 1 {
            return Err("it describes something else than one snapshot".into());
        }
        self.snapshot().ok_or("it does not describe the snapshot")?.check()?;
        match self.signed_at {
            Some(signed) if signed >= self.expires => Err("it expires before it is signed".into()),
            _ => Ok(()),
        }
    }
}

impl Snapshot {
    /// What it says about the metadata of a role.
    pub fn info(&self, role: &str) -> Option<&FileInfo> {
        self.meta.get(&format!("{role}.json"))
    }

    fn check_rules(&self) -> Result<(), String> {
        for (name, info) in &self.meta {
            info.check().map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }
}

impl FileInfo {
    /// What describes these bytes.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(bytes).to_string())]);
        Self { version, length: Some(bytes.len() as u64), hashes: Some(hashes), more: BTreeMap::new() }
    }

    /// Are these the bytes that it describes? (5.5.2, 5.6.2)
    pub fn matches(&self, bytes: &[u8]) -> Result<(), String> {
        if self.length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        match &self.hashes {
            Some(hashes) if !hashes_match(hashes, &Digest::of(bytes)) => Err("it has another digest".into()),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("version 0".into());
        }
        self.hashes.as_ref().map_or(Ok(()), check_hashes)
    }
}

impl Target {
    /// Its SHA-256.
    pub fn digest(&self) -> Option<Digest> {
        self.hashes.get("sha256").and_then(|text| plain_digest(text))
    }

    fn check(&self, path: &str) -> Result<(), String> {
        let bad = |why: &str| Err(format!("target {:?}: {why}", path.chars().take(100).collect::<String>()));
        if path.is_empty() || path.len() > limits::TARGET_PATH_BYTES {
            return bad("its path is empty or too long");
        }
        check_hashes(&self.hashes).or_else(|why| bad(&why))
    }
}

impl Targets {
    fn check_rules(&self) -> Result<(), String> {
        self.targets.iter().try_for_each(|(path, target)| target.check(path))?;
        let Some(delegations) = &self.delegations else { return Ok(()) };
        check_keys(&delegations.keys)?;
        let mut names = BTreeSet::new();
        for delegation in &delegations.roles {
            delegation.check()?;
            if !names.insert(&delegation.name) {
                return Err(format!("the role {} is delegated twice", delegation.name));
            }
        }
        Ok(())
    }
}

impl Delegation {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.is_empty() || name.len() > limits::ROLE_BYTES || role::TOP.contains(&name.as_str()) {
            return Err("the name of a delegated role is empty, too long, or one of the top".into());
        }
        self.role.check(name)?;
        // One of the two, as the specification has it: neither would be a role for nothing, or for everything.
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(format!("the role {name} has not either paths or prefixes of their digests")),
        }
    }
}

fn check_keys(keys: &BTreeMap<String, Key>) -> Result<(), String> {
    if keys.len() > limits::METADATA_KEYS {
        return Err(format!("more than {} keys", limits::METADATA_KEYS));
    }
    Ok(())
}

/// Asks for a SHA-256 among digests: it is the one that is checked.
pub fn check_hashes(hashes: &BTreeMap<String, String>) -> Result<(), String> {
    let digest = hashes.get("sha256").ok_or("it has no SHA-256")?;
    plain_digest(digest).map(|_| ()).ok_or_else(|| "its SHA-256 is not 64 hexadecimal digits".into())
}

fn hashes_match(hashes: &BTreeMap<String, String>, digest: &Digest) -> bool {
    hashes.get("sha256").and_then(|text| plain_digest(text)) == Some(*digest)
}

/// A digest without any prefix.
fn plain_digest(text: &str) -> Option<Digest> {
    Digest::parse(text).filter(|_| text.len() == 64)
}

/// Reads a body, and asks that it is of its kind and breaks no rule.
pub(super) fn read_body<T: Body>(file: &str, value: &Map<String, Value>) -> Result<T, RepositoryError> {
    let body: T = T::deserialize(value).map_err(|error| RepositoryError::malformed(file, error))?;
    if body.type_name() != T::TYPE {
        return Err(RepositoryError::malformed(file, format!("it is not of type {}", T::TYPE)));
    }
    // Clients must verify that the version of the specification is one that they know (4.3).
    let mut numbers = body.spec_version().split('.');
    if numbers.next() != Some("1") || !numbers.all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
        return Err(RepositoryError::malformed(file, "it is not of version 1 of the specification"));
    }
    if body.version() == 0 {
        return Err(RepositoryError::malformed(file, "its version is 0"));
    }
    body.check().map_err(|why| RepositoryError::malformed(file, why))?;
    Ok(body)
}

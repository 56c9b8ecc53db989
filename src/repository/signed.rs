//! `Signed`: a metadata file, read, with its signatures.

use super::RepositoryError;
use super::metadata::{Body, Key, Role, read_body};
use crate::codec::canonical_json::{canonical, parse};
use crate::limits;
use crate::trust::{SecretKey, TrustError, hex, unhex};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A metadata file that has been read (4.2). Nobody vouches for it before [`Signed::verify`] has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What it says.
    pub body: T,
    file: String,
    canonical: Vec<u8>,
    signatures: BTreeMap<String, Vec<u8>>,
}

impl<T: Body> Signed<T> {
    /// Reads the bytes of a file, which errors call by this name.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RepositoryError> {
        let envelope = Envelope::parse(file, bytes, T::MOST)?;
        let body = read_body(file, envelope.signed()?)?;
        let canonical = envelope.canonical()?;
        let mut signatures = BTreeMap::new();
        for (id, signature) in envelope.signatures()? {
            // Something that is no signature does not keep the others from counting.
            if signatures.insert(id, unhex(&signature).unwrap_or_default()).is_some() {
                return Err(RepositoryError::malformed(file, "two signatures by one key"));
            }
        }
        Ok(Self { body, file: file.into(), canonical, signatures })
    }

    /// Asks for good signatures by as many different keys of the role as it needs.
    ///
    /// Keys are told apart by what they are: one that stands there under two names counts once.
    pub fn verify(&self, keys: &BTreeMap<String, Key>, role: &Role) -> Result<(), RepositoryError> {
        let mut refused = None;
        let mut have = BTreeSet::new();
        for id in &role.keyids {
            let (Some(signature), Some(key)) = (self.signatures.get(id), keys.get(id)) else { continue };
            let checked = key.usable().and_then(|key| key.verify(&self.canonical, signature).map(|()| key.identity()));
            match checked {
                Ok(identity) => _ = have.insert(identity),
                Err(error) => refused = Some(error),
            }
        }
        if have.len() as u64 >= role.threshold {
            return Ok(());
        }
        // A key that nobody has signed with may be of a kind that could not count anyway.
        let unusable = || role.keyids.iter().filter_map(|id| keys.get(id)?.usable().err()).next();
        let need = usize::try_from(role.threshold).unwrap_or(usize::MAX);
        Err(RepositoryError::Signatures {
            file: self.file.clone(),
            have: have.len(),
            need,
            refused: refused.filter(|error| *error != TrustError::Wrong).or_else(unusable),
        })
    }

    /// Is it signed by this key?
    pub fn is_signed_by(&self, key: &Key) -> bool {
        let Ok(usable) = key.usable() else { return false };
        self.signatures.values().any(|signature| usable.verify(&self.canonical, signature).is_ok())
    }
}

/// The bytes of a metadata file, signed by these keys.
pub fn sign<T: Body>(body: &T, keys: &[&SecretKey]) -> Result<Vec<u8>, RepositoryError> {
    let file = T::TYPE;
    let bad = |error: serde_json::Error| RepositoryError::malformed(file, error);
    let signed = serde_json::to_value(body).map_err(bad)?;
    read_body::<T>(file, signed.as_object().unwrap_or(&Map::new()))?;
    let mut envelope = Envelope { file, value: Map::new() };
    envelope.value.insert("signatures".into(), json!([]));
    envelope.value.insert("signed".into(), signed);
    keys.iter().try_for_each(|key| envelope.add(key))?;
    envelope.bytes(T::MOST)
}

/// Adds a signature to the bytes of a metadata file, whatever it is; one that the same key has made is replaced.
pub fn add_signature(file: &str, bytes: &[u8], key: &SecretKey) -> Result<Vec<u8>, RepositoryError> {
    let mut envelope = Envelope::parse(file, bytes, limits::TARGETS_BYTES)?;
    envelope.add(key)?;
    envelope.bytes(limits::TARGETS_BYTES)
}

/// The names of the keys that have signed a metadata file, so it says.
pub fn signers(file: &str, bytes: &[u8]) -> Result<Vec<String>, RepositoryError> {
    let signatures = Envelope::parse(file, bytes, limits::TARGETS_BYTES)?.signatures()?;
    Ok(signatures.into_iter().map(|(id, _)| id).collect())
}

/// A metadata file as JSON.
struct Envelope<'a> {
    file: &'a str,
    value: Map<String, Value>,
}

impl<'a> Envelope<'a> {
    fn parse(file: &'a str, bytes: &[u8], most: u64) -> Result<Self, RepositoryError> {
        if bytes.len() as u64 > most {
            return Err(RepositoryError::TooLong { file: file.into(), most });
        }
        let value = parse(bytes, limits::METADATA_VALUES).map_err(|error| RepositoryError::malformed(file, error))?;
        match value {
            Value::Object(value) => Ok(Self { file, value }),
            _ => Err(RepositoryError::malformed(file, "it is no object")),
        }
    }

    fn signed(&self) -> Result<&Map<String, Value>, RepositoryError> {
        let signed = self.value.get("signed").and_then(Value::as_object);
        signed.ok_or_else(|| RepositoryError::malformed(self.file, "it has no object \"signed\""))
    }

    fn canonical(&self) -> Result<Vec<u8>, RepositoryError> {
        self.signed()?;
        let form = self.value.get("signed").and_then(canonical);
        form.ok_or_else(|| RepositoryError::malformed(self.file, "it has no canonical form"))
    }

    fn signatures(&self) -> Result<Vec<(String, String)>, RepositoryError> {
        let bad = |why: &str| RepositoryError::malformed(self.file, why);
        let list = self.value.get("signatures").and_then(Value::as_array).ok_or_else(|| bad("it has no signatures"))?;
        if list.len() > limits::METADATA_KEYS {
            return Err(bad("it has too many signatures"));
        }
        let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
        list.iter()
            .map(|one| text(one, "keyid").zip(text(one, "sig")).ok_or_else(|| bad("a signature without key or value")))
            .collect()
    }

    fn add(&mut self, key: &SecretKey) -> Result<(), RepositoryError> {
        let id = Key::ed25519(&key.public()).id();
        let made = hex(&key.sign(b"", &self.canonical()?).0);
        let bad = || RepositoryError::malformed(self.file, "it has no signatures");
        let list = self.value.get_mut("signatures").and_then(Value::as_array_mut).ok_or_else(bad)?;
        list.retain(|one| one.get("keyid").and_then(Value::as_str) != Some(&id));
        list.push(json!({"keyid": id, "sig": made}));
        Ok(())
    }

    fn bytes(self, most: u64) -> Result<Vec<u8>, RepositoryError> {
        let bytes = serde_json::to_vec(&self.value).map_err(|error| RepositoryError::malformed(self.file, error))?;
        if bytes.len() as u64 > most {
            return Err(RepositoryError::TooLong { file: self.file.into(), most });
        }
        Ok(bytes)
    }
}

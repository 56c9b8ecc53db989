//! `PatchPackageInfo` and `FullPackageInfo`: where a package of the service manifest is, and how it is verified.

use super::operations::null_as_default;
use crate::limits;
use crate::model::{Digest, PatchOperations, Version};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The patch of one architecture: an entry of `patch` in the service manifest.
///
/// Everything here is as it was published; [`PatchPackageInfo::digest`], [`PatchPackageInfo::signature_bytes`] and
/// [`PatchOperations::validate`] check it. `version` and `size` are surefoot's own additions, which others ignore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatchPackageInfo {
    /// Where to fetch it; empty for a package that is at hand.
    #[serde(deserialize_with = "null_as_default")]
    pub url: String,
    /// SHA-256 of the package: `sha256:<hex>` or `<hex>`.
    pub hash: Option<String>,
    /// Ed25519 signature over the bytes of the package, in base64.
    pub signature: Option<String>,
    /// Words for people.
    pub notes: Option<String>,
    /// What it does.
    #[serde(deserialize_with = "null_as_default")]
    pub operations: PatchOperations,
    /// The version that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A full package: an entry of `packages` or `platforms` in the service manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FullPackageInfo {
    /// Where to fetch it.
    #[serde(deserialize_with = "null_as_default")]
    pub url: String,
    /// SHA-256 of the package: `sha256:<hex>` or `<hex>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Ed25519 signature over the bytes of the package, in base64.
    pub signature: Option<String>,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Why the description of a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageInfoError {
    /// Longer than any such description is.
    #[error("{0} bytes of JSON are more than {max}", max = limits::SMALL_FILE)]
    TooLong(usize),
    /// Not the JSON that it should be.
    #[error("the JSON is not what it should be")]
    Json(#[source] serde_json::Error),
    /// Not a SHA-256 digest.
    #[error("hash {0:?} is not a SHA-256 digest in hexadecimal digits")]
    Hash(String),
    /// Not an Ed25519 signature.
    #[error("signature {0:?} is not 64 bytes in base64")]
    Signature(String),
}

impl PatchPackageInfo {
    /// Reads the JSON of one entry.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PackageInfoError> {
        from_json(bytes)
    }

    /// The JSON of the entry, for people too.
    pub fn to_json(&self) -> Result<String, PackageInfoError> {
        to_json(self)
    }

    /// The digest that the package must have; nothing if none is published.
    pub fn digest(&self) -> Result<Option<Digest>, PackageInfoError> {
        digest(self.hash.as_deref())
    }

    /// The signature over the package; nothing if it is not signed.
    pub fn signature_bytes(&self) -> Result<Option<[u8; 64]>, PackageInfoError> {
        signature_bytes(self.signature.as_deref())
    }

    /// Says which digest the package has.
    pub fn set_digest(&mut self, digest: Digest) {
        self.hash = Some(format!("sha256:{digest}"));
    }

    /// Says which signature the package has.
    pub fn set_signature(&mut self, signature: &[u8; 64]) {
        self.signature = Some(BASE64.encode(signature));
    }
}

impl FullPackageInfo {
    /// The digest that the package must have; nothing if none is published.
    pub fn digest(&self) -> Result<Option<Digest>, PackageInfoError> {
        digest(self.hash.as_deref())
    }

    /// The signature over the package; nothing if it is not signed.
    pub fn signature_bytes(&self) -> Result<Option<[u8; 64]>, PackageInfoError> {
        signature_bytes(self.signature.as_deref())
    }
}

/// Reads JSON of bounded length.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PackageInfoError> {
    if bytes.len() as u64 > limits::SMALL_FILE {
        return Err(PackageInfoError::TooLong(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(PackageInfoError::Json)
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, PackageInfoError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(PackageInfoError::Json)
}

fn digest(hash: Option<&str>) -> Result<Option<Digest>, PackageInfoError> {
    let parse = |text: &str| Digest::parse(text).ok_or_else(|| PackageInfoError::Hash(beginning(text)));
    given(hash).map(parse).transpose()
}

fn signature_bytes(signature: Option<&str>) -> Result<Option<[u8; 64]>, PackageInfoError> {
    let parse = |text: &str| {
        // 64 bytes take 86 characters and two of padding.
        let bytes = if text.len() <= 88 { BASE64.decode(text).ok() } else { None };
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| PackageInfoError::Signature(beginning(text)))
    };
    given(signature).map(parse).transpose()
}

/// Publishers write an empty text where they have nothing.
fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Base64 with padding, which may be missing when it is read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn with(hash: Option<&str>, signature: Option<&str>) -> PatchPackageInfo {
        PatchPackageInfo { hash: hash.map(Into::into), signature: signature.map(Into::into), ..Default::default() }
    }

    #[test]
    fn both_notations_of_a_hash_are_read() {
        let expected = Some(Digest::of(b"abc"));
        let upper = ABC.to_uppercase();
        for text in [ABC.to_string(), format!("sha256:{ABC}"), upper, format!(" sha256:{ABC}\n")] {
            assert_eq!(with(Some(&text), None).digest().unwrap(), expected, "{text}");
        }
        for nothing in [None, Some(""), Some("  ")] {
            assert_eq!(with(nothing, None).digest().unwrap(), None);
        }
        for bad in ["sha256:", "sha512:00", &ABC[1..], "md5", &format!("{ABC}00")] {
            assert!(matches!(with(Some(bad), None).digest(), Err(PackageInfoError::Hash(_))), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_64_bytes_in_base64() {
        let mut info = PatchPackageInfo::default();
        assert_eq!(info.signature_bytes().unwrap(), None);
        let signature: [u8; 64] = std::array::from_fn(|at| at as u8 * 3);
        info.set_signature(&signature);
        let text = info.signature.clone().unwrap();
        assert_eq!(text.len(), 88);
        assert_eq!(info.signature_bytes().unwrap(), Some(signature));
        assert_eq!(with(None, Some(text.trim_end_matches('='))).signature_bytes().unwrap(), Some(signature));
        assert_eq!(with(None, Some(" ")).signature_bytes().unwrap(), None);
        for bad in ["AAAA", "!", &text[..84], &format!("{text}AAAA"), &"A".repeat(1000)] {
            assert!(matches!(with(None, Some(bad)).signature_bytes(), Err(PackageInfoError::Signature(_))), "{bad}");
        }
    }

    #[test]
    fn an_entry_is_written_as_others_read_it() {
        let mut info = PatchPackageInfo { url: "p.tar.gz".into(), ..Default::default() };
        info.set_digest(Digest::of(b"abc"));
        info.operations.replace.directories.push("front/".into());
        let json = info.to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({
            "url": "p.tar.gz", "hash": format!("sha256:{ABC}"), "signature": null, "notes": null,
            "operations": {
                "replace": {"files": [], "directories": ["front/"]}, "delete": {"files": [], "directories": []},
            },
        });
        assert_eq!(value, expected);
        assert_eq!(PatchPackageInfo::from_json(json.as_bytes()).unwrap(), info);
        info.version = Some(Version::new(1, 2, 3).with_build(4));
        info.size = Some(7);
        let json = info.to_json().unwrap();
        assert!(json.contains("\"1.2.3.4\"") && json.contains("\"size\": 7"), "{json}");
        assert_eq!(PatchPackageInfo::from_json(json.as_bytes()).unwrap(), info);
    }

    #[test]
    fn json_is_bounded() {
        let long = vec![b' '; limits::SMALL_FILE as usize + 1];
        assert!(matches!(PatchPackageInfo::from_json(&long), Err(PackageInfoError::TooLong(_))));
        let deep = "[".repeat(100_000);
        assert!(matches!(PatchPackageInfo::from_json(deep.as_bytes()), Err(PackageInfoError::Json(_))));
    }
}

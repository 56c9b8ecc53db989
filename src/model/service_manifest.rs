//! `ServiceManifest`: the JSON by which an existing update service says what there is.

use super::operations::null_as_default;
use super::package_info::{from_json, to_json};
use crate::model::{FullPackageInfo, PackageInfoError, PatchPackageInfo, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The newest version of a service, with its full packages and its patches.
///
/// Unknown fields are ignored, missing ones and nulls tolerated; only the version must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceManifest {
    /// The version that all packages make.
    pub version: Version,
    /// When it was released, as published.
    #[serde(default)]
    pub release_date: Option<String>,
    /// Words for people.
    #[serde(default)]
    pub release_notes: Option<String>,
    /// Packages for every architecture.
    #[serde(default, deserialize_with = "null_as_default")]
    pub packages: ServicePackages,
    /// Full packages by architecture.
    #[serde(default, deserialize_with = "entries")]
    pub platforms: BTreeMap<String, FullPackageInfo>,
    /// Patches by architecture.
    #[serde(default, deserialize_with = "entries")]
    pub patch: BTreeMap<String, PatchPackageInfo>,
}

/// The packages of the service manifest that are for every architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServicePackages {
    /// The full package.
    pub full: Option<FullPackageInfo>,
    /// A field of older services, which says nothing about operations and is not used.
    pub patch: Option<FullPackageInfo>,
}

impl ServiceManifest {
    /// A manifest of nothing but a version.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            release_date: None,
            release_notes: None,
            packages: ServicePackages::default(),
            platforms: BTreeMap::new(),
            patch: BTreeMap::new(),
        }
    }

    /// Reads the JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PackageInfoError> {
        from_json(bytes)
    }

    /// The JSON, for people too; equal manifests give equal bytes.
    pub fn to_json(&self) -> Result<String, PackageInfoError> {
        to_json(self)
    }

    /// The full package for an architecture: its own, else the one for all.
    pub fn full_package(&self, architecture: &str) -> Option<&FullPackageInfo> {
        let own = self.platforms.get(architecture);
        own.into_iter().chain(&self.packages.full).find(|package| !package.url.is_empty())
    }

    /// The patch for an architecture.
    pub fn patch_package(&self, architecture: &str) -> Option<&PatchPackageInfo> {
        self.patch.get(architecture).filter(|patch| !patch.url.is_empty())
    }
}

/// Reads a map in which `null` stands for nothing, as a whole and for one entry.
fn entries<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    let entries: Option<BTreeMap<String, Option<T>>> = Option::deserialize(deserializer)?;
    Ok(entries.into_iter().flatten().filter_map(|(name, entry)| Some((name, entry?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, word for word.
    const EXAMPLE: &str = r#"{ "version": "0.0.13.2", "release_date": "2025-01-12T10:00:00Z", "release_notes": "...",
  "packages":  { "full": {"url": "...", "hash": "sha256:<hex> or <hex>", "signature": "<base64>", "size": 104857600}, "patch": null },
  "platforms": { "x86_64": {"url": "...", "signature": "<base64>"}, "aarch64": {"url": "...", "signature": "<base64>"} },
  "patch":     { "x86_64": {"url": "...patch.tar.gz", "hash": "sha256:<hex>", "signature": "<base64 or null>", "notes": null,
                            "operations": { "replace": {"files": ["app.jar", "config.yml"], "directories": ["front/"]},
                                            "delete":  {"files": ["old/app.jar"], "directories": ["old/front/"]} } },
                 "aarch64": { "...": "..." } } }"#;

    fn example() -> ServiceManifest {
        ServiceManifest::from_json(EXAMPLE.as_bytes()).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let manifest = example();
        assert_eq!(manifest.version, Version::new(0, 0, 13).with_build(2));
        assert_eq!(manifest.release_date.as_deref(), Some("2025-01-12T10:00:00Z"));
        let full = manifest.packages.full.clone().unwrap();
        assert_eq!((full.url.as_str(), full.size), ("...", Some(104_857_600)));
        assert_eq!(manifest.packages.patch, None);
        assert_eq!(manifest.platforms["aarch64"].signature.as_deref(), Some("<base64>"));
        let patch = manifest.patch_package("x86_64").unwrap();
        assert_eq!(patch.url, "...patch.tar.gz");
        assert_eq!(patch.notes, None);
        let operations = patch.operations.validate().unwrap();
        let shown = |paths: &[crate::model::TreePath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(operations.replace_files()), ["app.jar", "config.yml"]);
        assert_eq!(shown(operations.replace_directories()), ["front"]);
        assert_eq!(shown(operations.delete_files()), ["old/app.jar"]);
        assert_eq!(shown(operations.delete_directories()), ["old/front"]);
        // The placeholders of the example are not digests and signatures, and are found out when they are used.
        assert!(matches!(patch.digest(), Err(PackageInfoError::Hash(_))));
        assert!(matches!(patch.signature_bytes(), Err(PackageInfoError::Signature(_))));
        assert_eq!(manifest.patch_package("aarch64"), None, "an entry without an address is no patch");
    }

    #[test]
    fn the_example_survives_a_round_trip() {
        let manifest = example();
        let json = manifest.to_json().unwrap();
        assert_eq!(ServiceManifest::from_json(json.as_bytes()).unwrap(), manifest);
        assert_eq!(ServiceManifest::from_json(json.as_bytes()).unwrap().to_json().unwrap(), json);
        let before: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        let after: serde_json::Value = serde_json::from_str(&json).unwrap();
        for same in ["version", "release_date", "release_notes", "packages", "platforms"] {
            assert_eq!(before[same], after[same], "{same}");
        }
        assert_eq!(before["patch"]["x86_64"], after["patch"]["x86_64"]);
    }

    #[test]
    fn what_is_missing_or_null_is_tolerated() {
        let bare = ServiceManifest::new(Version::new(1, 2, 3));
        let nulls = r#"{"version": "v1.2.3", "release_date": null, "packages": null, "platforms": null, "patch": null,
            "packages2": [1, {"a": null}]}"#;
        let entries = r#"{"version": "1.2.3", "patch": {"x86_64": null}, "platforms": {"x86_64": null}}"#;
        for json in [r#"{"version": "1.2.3"}"#, nulls, entries] {
            assert_eq!(ServiceManifest::from_json(json.as_bytes()).unwrap(), bare, "{json}");
        }
        assert_eq!(bare.full_package("x86_64"), None);
    }

    #[test]
    fn the_full_package_of_an_architecture_goes_before_the_one_for_all() {
        let mut manifest = example();
        manifest.platforms.get_mut("x86_64").unwrap().url = "own".into();
        assert_eq!(manifest.full_package("x86_64").unwrap().url, "own");
        assert_eq!(manifest.full_package("riscv64").unwrap().url, "...");
        manifest.platforms.get_mut("x86_64").unwrap().url.clear();
        assert_eq!(manifest.full_package("x86_64").unwrap().url, "...");
    }

    #[test]
    fn what_is_malformed_is_refused_in_words() {
        for (bad, word) in [
            ("", "EOF"),
            ("[]", "struct"),
            ("{}", "version"),
            (r#"{"version": 1}"#, "string"),
            (r#"{"version": "1.2"}"#, "1.2"),
            (r#"{"version": "1.2.3"} x"#, "trailing"),
            (r#"{"version": "1.2.3", "version": "1.2.3"}"#, "duplicate"),
            (r#"{"version": "1.2.3", "patch": []}"#, "map"),
            (r#"{"version": "1.2.3", "patch": {"x": {"url": 1}}}"#, "string"),
            (r#"{"version": "1.2.3", "patch": {"x": {"size": -1}}}"#, "u64"),
            (r#"{"version": "1.2.3", "patch": {"x": {"operations": {"replace": {"files": [1]}}}}}"#, "string"),
        ] {
            match ServiceManifest::from_json(bad.as_bytes()) {
                Err(PackageInfoError::Json(error)) => assert!(error.to_string().contains(word), "{bad}: {error}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
        for cut in 0..EXAMPLE.len() {
            assert!(ServiceManifest::from_json(&EXAMPLE.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }
}

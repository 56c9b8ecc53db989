//! `Version`: major.minor.patch[.build], the versions of the service manifest.

use crate::limits;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A version: `major.minor.patch` and, optionally, `.build`.
///
/// A missing build counts as 0 in order, equality and hash, so `1.2.3` and `1.2.3.0` are the same version; each is
/// shown as it was written. Leading zeros are read and not shown; a leading `v` or `V` likewise.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    build: Option<u32>,
}

/// Some text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a version of the form major.minor.patch[.build]")]
pub struct VersionError {
    /// The text, its beginning if it is long.
    pub text: String,
}

impl Version {
    /// A version without a build.
    pub fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, build: None }
    }

    /// The same base with another build.
    #[must_use]
    pub fn with_build(self, build: u32) -> Self {
        Self { build: Some(build), ..self }
    }

    /// Reads `1.2.3`, `1.2.3.4`, `v1.2.3`: digits only, three or four numbers of 32 bits.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        Self::read(text).ok_or_else(|| VersionError { text: text.chars().take(limits::VERSION_TEXT).collect() })
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > limits::VERSION_TEXT {
            return None;
        }
        let mut numbers = text.strip_prefix(['v', 'V']).unwrap_or(text).split('.').map(number);
        let mut next = || numbers.next().flatten();
        let (major, minor, patch) = (next()?, next()?, next()?);
        let build = match numbers.next() {
            None => None,
            Some(build) => Some(build?),
        };
        numbers.next().is_none().then_some(Self { major, minor, patch, build })
    }

    /// Major, minor and patch: patches lead only from one version to another of the same base.
    pub fn base(&self) -> (u32, u32, u32) {
        (self.major, self.minor, self.patch)
    }

    /// The build; 0 if there is none.
    pub fn build(&self) -> u32 {
        self.build.unwrap_or(0)
    }

    /// Are major, minor and patch the same?
    pub fn same_base(&self, other: &Self) -> bool {
        self.base() == other.base()
    }

    /// Can a patch lead from here to `target`? It can if the base is the same and the target is newer; a full package
    /// is needed otherwise.
    pub fn can_patch_to(&self, target: &Self) -> bool {
        self.same_base(target) && target > self
    }

    /// The version that the next patch makes: the build after this one. Nothing after the last build there can be.
    pub fn next_patch(&self) -> Option<Self> {
        self.build().checked_add(1).map(|build| self.with_build(build))
    }

    fn numbers(&self) -> (u32, u32, u32, u32) {
        (self.major, self.minor, self.patch, self.build())
    }
}

/// A number of digits only: `u32::from_str` would take a sign.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.numbers() == other.numbers()
    }
}

impl Eq for Version {}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.numbers().hash(state);
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        self.build.map_or(Ok(()), |build| write!(f, ".{build}"))
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::DefaultHasher;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn hash(version: &Version) -> u64 {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn versions_are_read_and_shown() {
        for (text, shown) in [
            ("1.2.3", "1.2.3"),
            ("v1.2.3", "1.2.3"),
            ("V0.0.13.2", "0.0.13.2"),
            ("1.2.3.0", "1.2.3.0"),
            ("01.002.0003.04", "1.2.3.4"),
            ("4294967295.0.0", "4294967295.0.0"),
        ] {
            assert_eq!(version(text).to_string(), shown);
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for bad in [
            "",
            "v",
            "1",
            "1.2",
            "1.2.",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "1.2.3.4.5",
            "+1.2.3",
            "1.-2.3",
            "1.2.3-rc1",
            " 1.2.3",
            "1.2.3\n",
            "vv1.2.3",
            "1.2.4294967296",
            "a.b.c",
            "1.2.\u{663}",
            "0x1.2.3",
        ] {
            assert_eq!(Version::parse(bad), Err(VersionError { text: bad.into() }), "{bad:?}");
        }
        let long = format!("1.2.{}", "0".repeat(10_000));
        let error = Version::parse(&long).unwrap_err();
        assert_eq!(error.text.len(), limits::VERSION_TEXT);
        assert!(Version::parse("x").unwrap_err().to_string().contains("\"x\""));
    }

    #[test]
    fn order_is_by_number_and_a_missing_build_is_zero() {
        let texts = ["0.0.13", "0.0.13.2", "0.0.13.10", "0.0.14", "0.1.0", "0.10.0", "1.0.0"];
        assert!(texts.windows(2).all(|pair| version(pair[0]) < version(pair[1])));
        assert_eq!(version("1.2.3"), version("1.2.3.0"));
        assert_eq!(hash(&version("1.2.3")), hash(&version("1.2.3.0")));
    }

    #[test]
    fn a_patch_stays_on_its_base_and_goes_forward() {
        let here = version("0.0.13.2");
        assert!(here.can_patch_to(&version("0.0.13.3")));
        assert!(version("0.0.13").can_patch_to(&version("0.0.13.1")));
        for other in ["0.0.13.2", "0.0.13.1", "0.0.13", "0.0.14", "0.0.14.3", "1.0.13.3"] {
            assert!(!here.can_patch_to(&version(other)), "{other}");
        }
        assert!(!version("0.0.13").can_patch_to(&version("0.0.13.0")));
        assert_eq!(here.next_patch(), Some(version("0.0.13.3")));
        assert_eq!(version("1.2.3").next_patch().unwrap().to_string(), "1.2.3.1");
        assert_eq!(version("1.2.3.4294967295").next_patch(), None);
    }

    #[test]
    fn it_is_a_string_in_json() {
        assert_eq!(serde_json::to_string(&version("v1.2.3.4")).unwrap(), "\"1.2.3.4\"");
        assert_eq!(serde_json::from_str::<Version>("\"v1.2.3\"").unwrap(), version("1.2.3"));
        assert!(serde_json::from_str::<Version>("\"1.2\"").unwrap_err().to_string().contains("1.2"));
        assert!(serde_json::from_str::<Version>("1.2").is_err());
    }

    fn any_version() -> impl Strategy<Value = Version> {
        let number = || prop_oneof![0..3_u32, any::<u32>()];
        (number(), number(), number(), proptest::option::of(number()))
            .prop_map(|(major, minor, patch, build)| Version { major, minor, patch, build })
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(version in any_version()) {
            let back = Version::parse(&version.to_string()).unwrap();
            prop_assert_eq!(back, version);
            prop_assert_eq!(back.to_string(), version.to_string());
        }

        #[test]
        fn order_equality_and_hash_agree(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
            prop_assert!(a != b || hash(&a) == hash(&b));
            prop_assert!(!(a <= b && b <= c) || a <= c);
            prop_assert!(!a.can_patch_to(&b) || (!b.can_patch_to(&a) && a.same_base(&b)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[vV]?[0-9.+ ]{0,40}") {
            if let Ok(version) = Version::parse(&text) {
                prop_assert_eq!(Version::parse(&version.to_string()).unwrap(), version);
            }
        }
    }
}

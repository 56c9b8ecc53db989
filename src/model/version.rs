//! Versions.

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version;
/// Not a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionError;

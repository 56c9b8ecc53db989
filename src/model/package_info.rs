//! Where a patch of the service manifest is and how it is verified.

/// Address, digest and signature of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchPackageInfo;

//! Building packages from two trees, or from one, and publishing them in a repository.

mod build;
mod repository;
mod delta;
#[cfg(test)]
mod tests;

pub use build::{BuildReport, Options, build_full, build_patch};
pub use delta::FileBuilt;
pub use repository::{
    Added, Findings, Lifetimes, NewRoles, PackageTerms, Publisher, Removed, RoleKeys, Rotated, Source, bundle,
    draft_first_root, mirror, read_release, verify_repository,
};

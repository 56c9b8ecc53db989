//! Building packages from two trees, or from one.

mod build;
mod delta;
#[cfg(test)]
mod tests;

pub use build::{BuildReport, Options, build_full, build_patch};
pub use delta::FileBuilt;

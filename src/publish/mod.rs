//! Building packages from two trees, or from one.

mod build;
#[cfg(test)]
mod tests;

pub use build::{BuildReport, Options, build_full, build_patch};

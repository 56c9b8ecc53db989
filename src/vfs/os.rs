//! The real disk.

/// The real disk.
#[derive(Debug)]
pub struct OsVfs;

//! The forgetful disk.

/// The forgetful disk.
#[derive(Debug)]
pub struct SimVfs;

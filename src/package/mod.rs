//! To come.
pub mod legacy;

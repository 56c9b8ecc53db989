//! What the fuzz targets and the maker of their seeds share.

pub mod archive;
pub mod container;
pub mod journal;
pub mod patch;
pub mod repository;
pub mod state;
pub mod transaction;

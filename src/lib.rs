//! surefoot updates a directory tree so that, wherever the power fails, the tree ends exactly at the old version or
//! exactly at the new one.
//!
//! The folders are the nouns of that flow, in tiers; a module imports lower tiers only. `docs/ARCHITECTURE.md` is the
//! way in, `docs/crash-safety.md` the promise and the protocol.

#[cfg(not(unix))]
compile_error!("surefoot needs a Unix file system with atomic rename; Linux is the platform it is tested on");

#[cfg(feature = "cli")]
pub mod cli;
pub mod codec;
#[cfg(any(test, feature = "sim"))]
pub mod crashtest;
pub mod delta;
pub mod device;
pub mod error;
pub mod fetch;
pub mod journal;
pub mod limits;
pub mod model;
pub mod package;
#[cfg(feature = "publish")]
pub mod publish;
pub mod repository;
pub mod strategy;
pub mod transaction;
pub mod tree;
pub mod trust;
pub mod vfs;

pub use error::{Advice, Code, Error, Finding};

/// The program of README, which is tested as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

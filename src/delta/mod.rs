//! Differences between trees: making new content from old content, in pieces that do not depend on one another.
//!
//! [`decode`] makes what one [`Segment`](crate::model::Segment) describes, in bounded memory and as a stream. [`build`]
//! (feature `publish`) finds the smallest segments it can. Old and new content are read through [`Contents`], so nothing
//! here touches a disk. Layouts stand in `docs/formats/delta.md`. [`archive`] makes the members of archives
//! and images visible, and packs them again to the same bytes.

pub mod archive;
#[cfg(feature = "publish")]
pub mod build;
mod btf;
mod code;
mod coder;
mod decode;
mod recipe;
#[cfg(all(test, feature = "publish"))]
mod tests;
mod view;

pub use coder::unpack;
pub use decode::{Sink, decode, memory};
pub use view::View;

use std::io;

/// Files by number, read at any place.
pub trait Contents: Sync {
    /// Length of a file; nothing if there is none of this number.
    fn length(&self, file: u32) -> Option<u64>;
    /// Fills `buffer` with what stands from `offset` on.
    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Why a segment does not decode.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The segment breaks a rule of its format.
    #[error("malformed segment: {0}")]
    Malformed(&'static str),
    /// It needs more memory than is allowed.
    #[error("the segment needs {needed} bytes of memory, {allowed} are allowed")]
    Memory {
        /// What it needs, in bytes.
        needed: u64,
        /// What is allowed, in bytes.
        allowed: u64,
    },
    /// A packed stream cannot be unpacked.
    #[error("unpack a stream: {0}")]
    Unpack(#[source] io::Error),
    /// Old content cannot be read.
    #[error("read old content: {0}")]
    Read(#[source] io::Error),
    /// New content cannot be written.
    #[error("write new content: {0}")]
    Write(#[source] io::Error),
    /// Whoever started it wants it to end.
    #[error("cancelled")]
    Cancelled,
}

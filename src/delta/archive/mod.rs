//! Files that hold deflated streams: zip archives (jar, whl, apk, office documents), gzip and PNG.
//!
//! A small change of a member changes most of its deflated bytes. So changed members are compared inflated, and
//! deflated again by whoever applies the patch. The builder proves that this gives the same bytes
//! ([`find_parameters`]); what it cannot prove stays raw.
//!
//! - [`parts`] cuts a file into raw ranges and members. Whatever is odd about a file is raw: it costs size, never
//!   correctness. Only a builder parses; a package names the ranges.
//! - [`Shown`] is what new content is compared with: ranges of an old file, and members of it inflated, read anywhere in
//!   memory that is bounded whatever the sizes.
//! - [`prepare`] decides which members of a new file are inflated, [`inflated`] reads the file so, and [`Assembler`]
//!   makes the file of that again, in less than 1 MiB whatever the sizes.

mod assemble;
mod deflate;
mod gzip;
mod inflate;
mod members;
mod parameters;
mod png;
mod prepare;
mod shown;
mod trees;
mod zip;

#[cfg(test)]
pub(in crate::delta) mod tests;

pub use assemble::Assembler;
pub use deflate::Deflater;
pub use inflate::inflate;
pub use members::{MemberSet, parts};
pub use parameters::{DeflateParameters, Family, Strategy, find_parameters, reproduces};
pub use prepare::{NewPart, inflated, prepare};
pub use shown::{Shown, shown_memory};

pub use crate::model::{Member, Part, Wrapper};

use std::io;

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills the buffer from an offset on; an error if there is not enough.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let bytes = range.and_then(|range| self.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self[..].size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self[..].read_exact_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// Why an archive, or what is to become one, was not read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Reading or writing failed.
    #[error("archive content: {0}")]
    Io(#[from] io::Error),
    /// A member does not inflate to what was stated.
    #[error("the member at {offset} does not inflate to {inflated_len} bytes")]
    Inflate {
        /// Where the member is.
        offset: u64,
        /// Its stated length.
        inflated_len: u64,
    },
    /// A member does not deflate to the stated length, or content is too short or too long.
    #[error("the file made differs from its parts: {0}")]
    Assemble(&'static str),
    /// A bound is exceeded.
    #[error("{what}: {actual} is more than {limit}")]
    Bound {
        /// What is bounded.
        what: &'static str,
        /// The value found.
        actual: u64,
        /// The bound.
        limit: u64,
    },
    /// A range lies outside its file.
    #[error("a range at {offset} of {len} bytes is outside its file")]
    Range {
        /// Where it begins.
        offset: u64,
        /// Its length.
        len: u64,
    },
}

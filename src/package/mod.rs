//! Packages: what a publisher makes and a device reads.
//!
//! A package is a manifest (zstd), the signatures over it, and the segments of the payload. The manifest promises every
//! change, and the size and digest of every segment and every content; nothing that it does not promise is accepted
//! ([`Promise`], [`Payload`]). The bytes around these parts are fixed to the last bit.
//!
//! [`Package`] is read as a stream and carries in its type whether it has been verified.

mod layout;
pub mod legacy;
mod promise;
mod reader;
mod segments;
mod sign;
#[cfg(test)]
mod tests;
mod writer;

pub use layout::most_front_bytes;
pub use promise::{Change, Codec, Expected, Head, Promise, Segment, Source, Start};
pub use reader::{Content, Package, Payload, Unverified, Verified};
pub use segments::Segments;
pub use sign::add_signature;
pub use writer::{Level, Outline, Piece, Written, write_package, write_patch};

use crate::codec::DecodeError;
use crate::model::TreePath;
use crate::trust::TrustError;
use std::io;

/// Why a package cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The bytes cannot be had.
    #[error("reading the package failed")]
    Read(#[source] io::Error),
    /// The bytes cannot be stored.
    #[error("writing the package failed")]
    Write(#[source] io::Error),
    /// What is to go into the package cannot be read.
    #[error("reading {path} failed")]
    Input {
        /// Where.
        path: TreePath,
        /// What the system said.
        source: io::Error,
    },
    /// What is to go into the package is not what the manifest says.
    #[error("{0} was changed while the package was built")]
    Changed(TreePath),
    /// It ends too early.
    #[error("the package is cut short")]
    Truncated,
    /// It is not a package, damaged, or holds what its manifest does not promise.
    #[error("the package is malformed: {0}")]
    Malformed(String),
    /// A part of it that is needed was not fetched.
    #[error("segment {0} of the package was not fetched")]
    Absent(usize),
    /// It uses something that this version does not know.
    #[error("the package uses {part} {number}, which this version does not know")]
    Unsupported {
        /// `format` or `codec`.
        part: &'static str,
        /// Which one.
        number: u64,
    },
    /// It is larger than a bound.
    #[error("the package has {what} beyond the limit of {most}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The bound.
        most: u64,
    },
    /// Some bytes do not have the digest that was promised.
    #[error("{0} does not have the digest that the package promises")]
    Digest(String),
    /// It is not signed as it should be.
    #[error("the package cannot be trusted")]
    Trust(#[from] TrustError),
}

impl PackageError {
    pub(crate) fn malformed(why: impl ToString) -> Self {
        Self::Malformed(why.to_string())
    }
}

impl From<DecodeError> for PackageError {
    fn from(error: DecodeError) -> Self {
        Self::malformed(error)
    }
}

/// For the readers that hand out content.
impl From<PackageError> for io::Error {
    fn from(error: PackageError) -> Self {
        let kind = match &error {
            PackageError::Read(source) | PackageError::Write(source) => source.kind(),
            PackageError::Truncated => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// An error of one of these readers is what went wrong with the package; any other comes from a decoder.
impl From<io::Error> for PackageError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => Self::malformed(error),
        }
    }
}

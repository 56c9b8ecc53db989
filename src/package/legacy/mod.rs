//! The tar.gz package of the service manifest: its members are the files and directories that its operations list.
//!
//! Before the tree is touched, [`verify_bytes`] checks the package as a whole and [`read_members`] every member of it:
//! a package holds exactly what its operations list, each with the right type, or it is refused. Both only read; where
//! the content goes is up to the caller.
//!
//! A tar.gz carries permission bits and nothing else: owners, times, extended attributes and hard links do not travel,
//! nor do setuid, setgid and the sticky bit, which nobody should get from an archive that may be unsigned.

mod blocks;
mod reader;
mod structure;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Member, MemberKind, list_top, read_members};
pub use writer::LegacyWriter;

use crate::limits;
use crate::model::{Digest, Hasher, PackageInfoError, PatchPackageInfo, PathError, TreePath};
use std::io::{self, Read};

/// Permission bits that a tar.gz package carries.
const MODE: u32 = 0o777;
/// Mode of a directory that a package only implies, by members inside it.
const IMPLIED_MODE: u32 = 0o755;
/// Size of a block of a tar archive, in bytes.
const BLOCK: usize = 512;

/// Why a tar.gz package cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// Its bytes cannot be read.
    #[error("cannot read the package")]
    Read(#[source] io::Error),
    /// Its bytes cannot be written.
    #[error("cannot write the package")]
    Write(#[source] io::Error),
    /// The content of a member cannot be read.
    #[error("cannot read {path}")]
    Content {
        /// Which.
        path: TreePath,
        /// Why.
        source: io::Error,
    },
    /// It is cut short or not a tar.gz archive.
    #[error("the package is damaged: {0}")]
    Damaged(String),
    /// A member is of a type that no package may hold.
    #[error("the package holds {path:?} as {what}: only files, directories and symbolic links are allowed")]
    Unsupported {
        /// Its name, as the archive spells it.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The name of a member is not a path inside the tree.
    #[error("the package has a member outside of the tree")]
    Path(#[source] PathError),
    /// A symbolic link without a proper target.
    #[error("the target of the link {0} is empty, too long or has a NUL byte")]
    Target(TreePath),
    /// A member that no operation lists.
    #[error("the package holds {0}, which its operations do not list")]
    Unlisted(TreePath),
    /// A path that comes twice.
    #[error("the package holds {0} twice")]
    Duplicate(TreePath),
    /// Something listed is not there.
    #[error("the package lacks {0}, which its operations list")]
    Missing(TreePath),
    /// Something is there with another type than it should.
    #[error("the package holds {path} not as {expected}")]
    WrongType {
        /// Which.
        path: TreePath,
        /// What it should be.
        expected: &'static str,
    },
    /// It would unpack to more than the caller allows.
    #[error("the package unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// More members, or longer names, than a package may have.
    #[error("the package has too many members or too long names")]
    TooMany,
    /// Members are written in the order of their paths.
    #[error("{0} is out of order")]
    Order(TreePath),
    /// The content of a member is longer or shorter than was said.
    #[error("{path} is not {expected} bytes long")]
    Size {
        /// Which.
        path: TreePath,
        /// The length that was said.
        expected: u64,
    },
    /// The package is longer or shorter than was published.
    #[error("the package is not {expected} bytes long")]
    PackageSize {
        /// The length that was published.
        expected: u64,
    },
    /// The package is not the one that was published.
    #[error("the package has the digest {found}, not {expected}")]
    Digest {
        /// The digest that was published.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// What was published about the package makes no sense.
    #[error("the description of the package cannot be used")]
    Info(#[from] PackageInfoError),
}

/// Reads a package to its end and compares it with the digest and the length that were published, as far as they were.
///
/// `also` sees all bytes in order: that is where the caller verifies the signature. Nothing that it saw counts before
/// this returns well.
pub fn verify_bytes(
    read: impl Read,
    info: &PatchPackageInfo,
    also: &mut dyn FnMut(&[u8]),
) -> Result<Digest, LegacyError> {
    let expected = info.digest()?;
    let mut reader = HashingReader::new(read);
    let mut buffer = vec![0; limits::COPY_BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => also(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LegacyError::Read(error)),
        }
        if let Some(expected) = info.size.filter(|size| reader.length() > *size) {
            return Err(LegacyError::PackageSize { expected });
        }
    }
    if let Some(expected) = info.size.filter(|size| reader.length() != *size) {
        return Err(LegacyError::PackageSize { expected });
    }
    let found = reader.finish();
    match expected {
        Some(expected) if expected != found => Err(LegacyError::Digest { expected, found }),
        _ => Ok(found),
    }
}

/// A reader that digests what passes through it.
///
/// Put under [`read_members`], which reads to the end of the package, it says which bytes were unpacked.
#[derive(Debug)]
pub struct HashingReader<R> {
    read: R,
    hasher: Hasher,
    length: u64,
}

impl<R: Read> HashingReader<R> {
    /// A reader over another one.
    pub fn new(read: R) -> Self {
        Self { read, hasher: Hasher::new(), length: 0 }
    }

    /// How many bytes have passed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of the bytes that have passed.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.read.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.length += length as u64;
        Ok(length)
    }
}

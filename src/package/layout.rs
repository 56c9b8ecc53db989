//! The container: a magic, the manifest, the signatures, the segments, and nothing else.
//!
//! ```text
//! magic 8 | format u16 | length of the manifest u32 | manifest | count u8 | count x signature 96 | segments
//! ```
//!
//! How long each segment is, the manifest says. There are no other parts and no padding.

use super::PackageError;
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::trust::Signature;
use std::io::{self, Read, Write};

/// First bytes of a package.
pub(super) const MAGIC: [u8; 8] = *b"surefoot";
/// The number of this format.
pub(super) const FORMAT: u16 = 1;
/// Bytes before the manifest.
const HEAD: usize = MAGIC.len() + 2 + 4;
/// Bytes of one signature: the name of the key, and the signature.
const SIGNATURE: usize = 32 + 64;

/// Who has signed, and how.
pub(super) type Signatures = Vec<(Digest, Signature)>;

/// Writes what comes before the segments; tells how many bytes that is.
pub(super) fn write_front(
    out: &mut dyn Write,
    manifest: &[u8],
    signatures: &[(Digest, Signature)],
) -> Result<u64, PackageError> {
    let length = u32::try_from(manifest.len()).map_err(|_| too_large(u64::from(u32::MAX)))?;
    let count = u8::try_from(signatures.len()).unwrap_or(u8::MAX);
    let mut front = Vec::with_capacity(HEAD + manifest.len() + 1 + signatures.len() * SIGNATURE);
    front.extend(MAGIC);
    front.extend(FORMAT.to_le_bytes());
    front.extend(length.to_le_bytes());
    front.extend(manifest);
    front.push(count);
    for (key, signature) in signatures {
        front.extend(key.0);
        front.extend(signature.0);
    }
    out.write_all(&front).map_err(PackageError::Write)?;
    Ok(front.len() as u64)
}

/// Bytes before the segments, if the manifest has so many, packed, and so many keys have signed it.
pub(super) fn front_bytes(manifest: u64, signatures: usize) -> u64 {
    (HEAD + 1 + signatures * SIGNATURE) as u64 + manifest
}

/// Most bytes that a package has before its segments, by its first bytes.
pub fn most_front_bytes(mut beginning: &[u8]) -> Result<u64, PackageError> {
    Ok(front_bytes(read_head(&mut beginning, limits::PACKAGE_MANIFEST)?, limits::SIGNATURES))
}

/// Reads up to the manifest; tells how long that is, at most `most` bytes.
pub(super) fn read_head(read: &mut dyn Read, most: u64) -> Result<u64, PackageError> {
    let mut head = [0; HEAD];
    let length = fill(read, &mut head).map_err(PackageError::Read)?;
    let magic = length.min(MAGIC.len());
    if head[..magic] != MAGIC[..magic] {
        return Err(PackageError::malformed("this is no package of surefoot"));
    }
    if length < HEAD {
        return Err(PackageError::Truncated);
    }
    let format = u16::from_le_bytes([head[8], head[9]]);
    if format != FORMAT {
        return Err(PackageError::Unsupported { part: "format", number: format.into() });
    }
    let size = u64::from(u32::from_le_bytes([head[10], head[11], head[12], head[13]]));
    if size > most { Err(too_large(most)) } else { Ok(size) }
}

/// Reads the signatures.
pub(super) fn read_signatures(read: &mut dyn Read) -> Result<Signatures, PackageError> {
    let mut count = [0];
    read_exact(read, &mut count)?;
    if usize::from(count[0]) > limits::SIGNATURES {
        return Err(PackageError::Limit { what: "signatures", most: limits::SIGNATURES as u64 });
    }
    let mut signatures: Signatures = Vec::with_capacity(count[0].into());
    for _ in 0..count[0] {
        let (mut key, mut signature) = ([0; 32], [0; 64]);
        read_exact(read, &mut key)?;
        read_exact(read, &mut signature)?;
        if signatures.last().is_some_and(|(last, _)| last.0 >= key) {
            return Err(PackageError::malformed("its signatures are not sorted by key, or two are of one key"));
        }
        signatures.push((Digest(key), Signature(signature)));
    }
    Ok(signatures)
}

/// Nothing may follow the last segment.
pub(super) fn expect_end(read: &mut dyn Read) -> Result<(), PackageError> {
    match fill(read, &mut [0]).map_err(PackageError::Read)? {
        0 => Ok(()),
        _ => Err(PackageError::malformed("something behind the last segment")),
    }
}

/// Copies the bytes of a segment.
pub(super) fn copy_piece(out: &mut dyn Write, size: u64, from: &mut dyn Read) -> Result<(), PackageError> {
    copy(&mut from.take(size), |bytes| out.write_all(bytes).map_err(PackageError::Write))
}

/// Hands everything that can be read to `sink`, in full pieces: they do not depend on how much a read returns.
pub(super) fn copy(
    from: &mut dyn Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let mut buffer = vec![0; limits::COPY_BUFFER];
    loop {
        let length = fill(from, &mut buffer)?;
        sink(&buffer[..length])?;
        if length < buffer.len() {
            return Ok(());
        }
    }
}

/// Reads past bytes that nobody looks at.
pub(super) fn pass_over(from: &mut dyn Read, size: u64) -> Result<(), PackageError> {
    let mut left = size;
    copy(&mut from.take(size), |bytes| {
        left -= bytes.len() as u64;
        Ok(())
    })?;
    if left == 0 { Ok(()) } else { Err(PackageError::Truncated) }
}

/// Reads until the buffer is full or nothing is left.
pub(super) fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match fill_some(from, &mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// The bytes of the manifest or of one segment, as they are in the container, hashed while they are read.
pub(super) struct Piece<R> {
    read: R,
    left: u64,
    hasher: Hasher,
}

impl<R: Read> Piece<R> {
    pub(super) fn new(read: R, size: u64) -> Self {
        Self { read, left: size, hasher: Hasher::new() }
    }

    /// Reads past what is left of the bytes, which have not been asked for.
    pub(super) fn drain(&mut self) -> Result<(), PackageError> {
        copy(self, |_| Ok(()))
    }

    /// Ends a piece that has been read to its end: the digest of its bytes, and what follows it.
    pub(super) fn finish(self) -> Result<(Digest, R), PackageError> {
        if self.left != 0 {
            return Err(PackageError::malformed(format!("{} bytes more than are decoded", self.left)));
        }
        Ok((self.hasher.finish(), self.read))
    }
}

impl<R: Read> Read for Piece<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match fill_some(&mut self.read, &mut buffer[..most]) {
            Ok(0) => Err(PackageError::Truncated.into()),
            Ok(length) => {
                self.hasher.update(&buffer[..length]);
                self.left -= length as u64;
                Ok(length)
            }
            Err(error) => Err(PackageError::Read(error).into()),
        }
    }
}

fn too_large(most: u64) -> PackageError {
    PackageError::Limit { what: "a manifest of a size", most }
}

fn read_exact(read: &mut dyn Read, buffer: &mut [u8]) -> Result<(), PackageError> {
    let length = fill(read, buffer).map_err(PackageError::Read)?;
    if length < buffer.len() { Err(PackageError::Truncated) } else { Ok(()) }
}

/// Reads once, but is not interrupted: a decoder above would take that for damage.
fn fill_some(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_is_read_back_as_it_was_written_and_nothing_else_is() {
        let signatures: Signatures = (1..=3).map(|n| (Digest([n; 32]), Signature([n + 10; 64]))).collect();
        let mut out = Vec::new();
        let written = write_front(&mut out, b"the manifest", &signatures).unwrap();
        assert_eq!((written as usize, out.len()), (out.len(), 14 + 12 + 1 + 3 * 96));
        let mut read = out.as_slice();
        let mut piece = Piece::new(&mut read, read_head(&mut out.as_slice(), 12).unwrap());
        let mut head = [0; HEAD];
        piece.read.read_exact(&mut head).unwrap();
        let mut manifest = Vec::new();
        piece.read_to_end(&mut manifest).unwrap();
        assert_eq!(manifest, b"the manifest");
        assert_eq!(piece.finish().unwrap().0, Digest::of(b"the manifest"));
        assert_eq!(read_signatures(&mut read).unwrap(), signatures);
        assert!(expect_end(&mut read).is_ok());
        assert!(matches!(read_head(&mut out.as_slice(), 11), Err(PackageError::Limit { .. })));
        for unsorted in [[0, 0], [1, 0]] {
            let mut out = Vec::new();
            write_front(&mut out, b"", &unsorted.map(|at: usize| signatures[at].clone())).unwrap();
            let error = read_signatures(&mut &out[HEAD..]).unwrap_err();
            assert!(matches!(error, PackageError::Malformed(_)), "{error}");
        }
        assert!(matches!(read_signatures(&mut &[65][..]), Err(PackageError::Limit { .. })));
    }

    #[test]
    fn another_format_is_named() {
        for number in [0, 2, 10, u16::MAX] {
            let mut out = Vec::new();
            write_front(&mut out, b"", &[]).unwrap();
            out[8..10].copy_from_slice(&number.to_le_bytes());
            let error = read_head(&mut out.as_slice(), 100).unwrap_err();
            let same = |n: u64| n == u64::from(number);
            assert!(matches!(error, PackageError::Unsupported { part: "format", number: n } if same(n)), "{error}");
        }
        for other in [&b"PK\x03\x04"[..], b"surefooT\x01\0\0\0\0\0", b"x"] {
            let error = read_head(&mut &other[..], 100).unwrap_err();
            assert!(matches!(error, PackageError::Malformed(_)), "{error}");
        }
        for cut in [&b""[..], b"sure", b"surefoot\x01"] {
            assert!(matches!(read_head(&mut &cut[..], 100), Err(PackageError::Truncated)));
        }
    }
}

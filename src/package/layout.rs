//! The container: which members, under which names, and the bytes around them.
//!
//! A header is never interpreted. Everything in it but the size is fixed and the size is promised or bounded, so the
//! one header that may stand there is made anew and compared. That leaves no room for other types of member, for
//! extensions, or for a second spelling of the same package.

use super::PackageError;
use crate::limits;
use crate::model::{Digest, Hasher};
use std::io::{self, Read, Write};

/// Size of a block of a tar, in bytes.
const BLOCK: usize = 512;
/// What every name begins with; the number of the format follows.
const PREFIX: &[u8] = b"surefoot/";
/// The number of this format.
const FORMAT: u64 = 1;
/// Name of the manifest.
pub(super) const MANIFEST: &str = "surefoot/1/manifest.zst";
/// Name of the signatures.
pub(super) const SIGNATURES: &str = "surefoot/1/signatures";
/// Zeros at the end of a tar.
const END: usize = 2 * BLOCK;

/// Name of a segment.
pub(super) fn segment_name(index: usize) -> String {
    format!("surefoot/1/segment/{index:08}")
}

/// The header of a member. Sizes of 8 GiB and more are written in the binary notation that GNU tar introduced.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// Writes a member whose bytes are at hand.
pub(super) fn write_member(out: &mut dyn Write, name: &str, bytes: &[u8]) -> Result<u64, PackageError> {
    let mut from = bytes;
    copy_member(out, name, bytes.len() as u64, &mut from)
}

/// Writes a member of `size` bytes that are read; tells how many bytes it takes in the container.
pub(super) fn copy_member(
    out: &mut dyn Write,
    name: &str,
    size: u64,
    from: &mut dyn Read,
) -> Result<u64, PackageError> {
    out.write_all(&header(name, size)).map_err(PackageError::Write)?;
    copy(&mut from.take(size), |bytes| out.write_all(bytes).map_err(PackageError::Write))?;
    let padding = padding(size);
    out.write_all(&[0; BLOCK][..padding]).map_err(PackageError::Write)?;
    Ok((BLOCK + padding) as u64 + size)
}

/// Writes the end of the container.
pub(super) fn write_end(out: &mut dyn Write) -> Result<u64, PackageError> {
    out.write_all(&[0; END]).and_then(|()| out.flush()).map_err(PackageError::Write)?;
    Ok(END as u64)
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

/// Reads the header of a member whose size is known.
pub(super) fn expect_header(read: &mut dyn Read, name: &str, size: u64) -> Result<(), PackageError> {
    check_header(&read_block(read)?, name, size)
}

/// Reads the header of a member that may have up to `most` bytes; tells how many.
pub(super) fn read_header(read: &mut dyn Read, name: &str, most: u64) -> Result<u64, PackageError> {
    let block = read_block(read)?;
    if let Some(format) = format_of(&block)
        && format != FORMAT
    {
        return Err(PackageError::Unsupported { part: "format", number: format });
    }
    let size = tar::Header::from_byte_slice(&block)
        .entry_size()
        .map_err(|_| PackageError::malformed(format!("a header without a size where {name} should be")))?;
    check_header(&block, name, size)?;
    if size > most {
        return Err(PackageError::Limit { what: "a manifest or signatures of a size", most });
    }
    Ok(size)
}

fn check_header(block: &[u8; BLOCK], name: &str, size: u64) -> Result<(), PackageError> {
    if *block == header(name, size) {
        Ok(())
    } else {
        Err(PackageError::malformed(format!("something else where {name} of {size} bytes should be")))
    }
}

/// The number of the format, as the name of a member says it.
fn format_of(block: &[u8; BLOCK]) -> Option<u64> {
    let rest = block[..100].strip_prefix(PREFIX)?;
    let digits = &rest[..rest.iter().position(|byte| *byte == b'/')?];
    if digits.is_empty() || digits.len() > 18 || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Reads the end of the container; nothing may follow.
pub(super) fn expect_end(read: &mut dyn Read) -> Result<(), PackageError> {
    let mut end = [0; END + 1];
    let length = fill(read, &mut end).map_err(PackageError::Read)?;
    if end[..length].iter().any(|byte| *byte != 0) || length > END {
        return Err(PackageError::malformed("something behind the last segment"));
    }
    if length < END { Err(PackageError::Truncated) } else { Ok(()) }
}

fn read_block(read: &mut dyn Read) -> Result<[u8; BLOCK], PackageError> {
    let mut block = [0; BLOCK];
    read_exact(read, &mut block)?;
    Ok(block)
}

fn read_exact(read: &mut dyn Read, buffer: &mut [u8]) -> Result<(), PackageError> {
    let length = fill(read, buffer).map_err(PackageError::Read)?;
    if length < buffer.len() { Err(PackageError::Truncated) } else { Ok(()) }
}

/// The bytes of one member, as they are in the container, hashed while they are read.
pub(super) struct Member<R> {
    read: R,
    size: u64,
    left: u64,
    hasher: Hasher,
}

impl<R: Read> Member<R> {
    pub(super) fn new(read: R, size: u64) -> Self {
        Self { read, size, left: size, hasher: Hasher::new() }
    }

    /// Reads past what is left of the bytes, which have not been asked for.
    pub(super) fn drain(&mut self) -> Result<(), PackageError> {
        copy(self, |_| Ok(()))
    }

    /// Ends a member that has been read to its end: the digest of its bytes, and what follows it.
    pub(super) fn finish(mut self) -> Result<(Digest, R), PackageError> {
        if self.left != 0 {
            return Err(PackageError::malformed(format!("{} bytes more than are decoded", self.left)));
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..padding(self.size)];
        read_exact(&mut self.read, rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(PackageError::malformed("a member is not filled up with zeros"));
        }
        Ok((self.hasher.finish(), self.read))
    }
}

impl<R: Read> Read for Member<R> {
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
    fn members_are_read_back_as_they_were_written_and_nothing_else_is() {
        for size in [0, 1, 511, 512, 513, 70_000] {
            let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut out = Vec::new();
            let written = write_member(&mut out, "surefoot/1/signatures", &bytes).unwrap();
            assert_eq!(written as usize, out.len());
            let mut read = out.as_slice();
            assert_eq!(read_header(&mut read, SIGNATURES, 70_000).unwrap(), size as u64);
            let mut member = Member::new(read, size as u64);
            let mut again = Vec::new();
            member.read_to_end(&mut again).unwrap();
            assert_eq!(again, bytes);
            let (digest, rest) = member.finish().unwrap();
            assert_eq!((digest, rest.len()), (Digest::of(&bytes), 0));
            let error = read_header(&mut out.as_slice(), MANIFEST, 70_000).unwrap_err();
            assert!(matches!(error, PackageError::Malformed(_)), "{error}");
        }
        let out = header(SIGNATURES, 11);
        assert!(matches!(read_header(&mut &out[..], SIGNATURES, 10), Err(PackageError::Limit { .. })));
    }

    #[test]
    fn another_format_is_named() {
        for (name, number) in [("surefoot/2/manifest.zst", 2), ("surefoot/10/anything", 10)] {
            let error = read_header(&mut &header(name, 5)[..], MANIFEST, 100).unwrap_err();
            assert!(matches!(error, PackageError::Unsupported { part: "format", number: n } if n == number), "{error}");
        }
        for name in ["surefoot/01/manifest.zst", "surefoot/x/manifest.zst", "surefoot//manifest.zst", "app.jar"] {
            let error = read_header(&mut &header(name, 5)[..], MANIFEST, 100).unwrap_err();
            assert!(matches!(error, PackageError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn sizes_beyond_8_gib_have_a_header() {
        let block = header("surefoot/1/segment/00000000", 9 << 30);
        assert_eq!(tar::Header::from_byte_slice(&block).entry_size().unwrap(), 9 << 30);
        assert!(expect_header(&mut &block[..], "surefoot/1/segment/00000000", 9 << 30).is_ok());
        assert!(expect_header(&mut &block[..], "surefoot/1/segment/00000000", 8 << 30).is_err());
    }
}

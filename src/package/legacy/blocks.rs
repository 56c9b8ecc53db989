//! `Blocks`: the tar archive inside a gzip stream, never trusted about how much there is.

use super::{BLOCK, LegacyError};
use crate::limits;
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};
use tar::Header;

/// The unpacked bytes of a package.
pub(super) struct Blocks<R> {
    gzip: MultiGzDecoder<R>,
    limit: u64,
    left: u64,
}

impl<R: Read> Blocks<R> {
    /// Of which at most `limit` bytes are unpacked.
    pub(super) fn new(read: R, limit: u64) -> Self {
        Self { gzip: MultiGzDecoder::new(read), limit, left: limit }
    }

    /// The next header; nothing at the end of the archive, and then the stream is read to its end: only zeros follow.
    pub(super) fn header(&mut self) -> Result<Option<Header>, LegacyError> {
        let mut header = Header::new_old();
        self.fill(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.expect_zeros()?;
            return Ok(None);
        }
        let sum = header.cksum().map_err(|_| damaged("a header without a checksum"))?;
        let found = header.as_bytes().iter().enumerate();
        // The checksum is over the header with spaces in its own place.
        let found: u32 = found.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        if found == sum { Ok(Some(header)) } else { Err(damaged("a header with a wrong checksum")) }
    }

    /// Is a member of this size within what may be unpacked?
    pub(super) fn check_size(&self, size: u64) -> Result<(), LegacyError> {
        if size <= self.left { Ok(()) } else { Err(LegacyError::TooLarge(self.limit)) }
    }

    /// The whole data of an extended header.
    pub(super) fn extended(&mut self, size: u64) -> Result<Vec<u8>, LegacyError> {
        if size > limits::LEGACY_HEADER_BYTES {
            return Err(LegacyError::TooMany);
        }
        let mut data = vec![0; usize::try_from(size).map_err(|_| LegacyError::TooMany)?];
        self.fill(&mut data)?;
        self.skip(padding(size))?;
        Ok(data)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<(), LegacyError> {
        let mut buffer = [0; 16 * BLOCK];
        while length > 0 {
            let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            length -= self.some(&mut buffer[..most])? as u64;
        }
        Ok(())
    }

    /// Some bytes, at least one: it is no end to expect.
    pub(super) fn some(&mut self, buffer: &mut [u8]) -> Result<usize, LegacyError> {
        match self.read(buffer)? {
            0 if !buffer.is_empty() => Err(damaged("it ends too early")),
            length => Ok(length),
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), LegacyError> {
        while !buffer.is_empty() {
            let length = self.some(buffer)?;
            buffer = &mut buffer[length..];
        }
        Ok(())
    }

    fn expect_zeros(&mut self) -> Result<(), LegacyError> {
        let mut buffer = [0; 16 * BLOCK];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                length if buffer[..length].iter().any(|byte| *byte != 0) => {
                    return Err(damaged("something follows its end"));
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LegacyError> {
        use io::ErrorKind::{Interrupted, InvalidData, InvalidInput, UnexpectedEof};
        loop {
            match self.gzip.read(buffer) {
                Ok(length) => {
                    self.left = self.left.checked_sub(length as u64).ok_or(LegacyError::TooLarge(self.limit))?;
                    return Ok(length);
                }
                Err(error) => match error.kind() {
                    Interrupted => {}
                    InvalidData | InvalidInput | UnexpectedEof => return Err(damaged(error)),
                    _ => return Err(LegacyError::Read(error)),
                },
            }
        }
    }
}

/// Bytes from the end of some data to the next block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

pub(super) fn damaged(what: impl ToString) -> LegacyError {
    LegacyError::Damaged(what.to_string())
}

//! Making a file of its raw ranges and the inflated content of its members.

use super::inflate::{PNG_HEAD, PNG_TAIL};
use super::{ArchiveError, DeflateParameters, Deflater, NewPart, Wrapper};
use crate::limits::ARCHIVE_CHUNK_BYTES;
use flate2::Crc;
use std::io::Write;

/// A file in the making: takes the raw ranges and the inflated members in order, and writes the file.
///
/// It keeps one deflater and less than 1 MiB in all, whatever the sizes.
#[derive(Debug)]
pub struct Assembler<W> {
    parts: std::vec::IntoIter<NewPart>,
    current: Current,
    out: W,
    made: Vec<u8>,
}

#[derive(Debug)]
enum Current {
    None,
    Raw { left: u64 },
    Member { writer: Box<MemberWriter>, left: u64, made: u64, len: u64 },
}

impl<W: Write> Assembler<W> {
    /// A file of these parts.
    pub fn new(parts: Vec<NewPart>, out: W) -> Self {
        Self { parts: parts.into_iter(), current: Current::None, out, made: Vec::new() }
    }

    /// Takes the next bytes of the content.
    pub fn write(&mut self, mut content: &[u8]) -> Result<(), ArchiveError> {
        while !content.is_empty() {
            match &mut self.current {
                Current::None => self.begin()?,
                Current::Raw { left } => {
                    let taken = split(&mut content, left);
                    self.out.write_all(taken)?;
                    if *left == 0 {
                        self.current = Current::None;
                    }
                }
                Current::Member { writer, left, made, len } => {
                    // In pieces, so that what is made stays small too.
                    let (mut piece, _) = content.split_at(content.len().min(ARCHIVE_CHUNK_BYTES));
                    let taken = split(&mut piece, left);
                    content = &content[taken.len()..];
                    writer.write(taken, &mut self.made);
                    *made += self.made.len() as u64;
                    if *made > *len {
                        return Err(ArchiveError::Assemble("a member is longer than stated"));
                    }
                    self.out.write_all(&self.made)?;
                    self.made.clear();
                    if *left == 0 {
                        self.end_member()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the file, and gives back what it was written to.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        loop {
            match &self.current {
                Current::None if self.parts.len() == 0 => return Ok(self.out),
                Current::None => self.begin()?,
                // A part without content.
                Current::Raw { left: 0 } => self.current = Current::None,
                Current::Member { left: 0, .. } => self.end_member()?,
                _ => return Err(ArchiveError::Assemble("the content ends early")),
            }
        }
    }

    fn begin(&mut self) -> Result<(), ArchiveError> {
        self.current = match self.parts.next() {
            None => return Err(ArchiveError::Assemble("there is more content than parts")),
            Some(NewPart::Raw { len }) => Current::Raw { left: len },
            Some(NewPart::Deflated { len, inflated_len, wrapper, parameters }) => {
                let writer = Box::new(MemberWriter::new(wrapper, parameters, len));
                Current::Member { writer, left: inflated_len, made: 0, len }
            }
        };
        Ok(())
    }

    fn end_member(&mut self) -> Result<(), ArchiveError> {
        let current = std::mem::replace(&mut self.current, Current::None);
        let Current::Member { writer, made, len, .. } = current else { return Ok(()) };
        writer.finish(&mut self.made);
        if made + self.made.len() as u64 != len {
            return Err(ArchiveError::Assemble("a member has another length than stated"));
        }
        self.out.write_all(&self.made)?;
        self.made.clear();
        Ok(())
    }
}

fn split<'a>(content: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let taken = usize::try_from(*left).map_or(content.len(), |left| left.min(content.len()));
    let (now, later) = content.split_at(taken);
    *content = later;
    *left -= taken as u64;
    now
}

/// A member in the making: deflates, and wraps.
#[derive(Debug)]
pub(super) struct MemberWriter {
    deflater: Deflater,
    end: End,
}

#[derive(Debug)]
enum End {
    Plain,
    Gzip(Crc),
    Png { adler: Adler, chunks: Chunks, deflated: Vec<u8> },
}

impl MemberWriter {
    /// A member that is to be `len` bytes long, wrapper included.
    pub(super) fn new(wrapper: Wrapper, parameters: DeflateParameters, len: u64) -> Self {
        let end = match wrapper {
            Wrapper::Plain => End::Plain,
            Wrapper::Gzip => End::Gzip(Crc::new()),
            Wrapper::Png { zlib_header, chunk_bytes } => End::Png {
                adler: Adler::default(),
                chunks: Chunks::new(chunk_bytes, len),
                deflated: zlib_header.to_vec(),
            },
        };
        Self { deflater: Deflater::new(parameters), end }
    }

    pub(super) fn write(&mut self, content: &[u8], out: &mut Vec<u8>) {
        match &mut self.end {
            End::Plain => self.deflater.write(content, out),
            End::Gzip(crc) => {
                crc.update(content);
                self.deflater.write(content, out);
            }
            End::Png { adler, chunks, deflated } => {
                adler.update(content);
                self.deflater.write(content, deflated);
                chunks.write(deflated, out);
                deflated.clear();
            }
        }
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) {
        match self.end {
            End::Plain => self.deflater.finish(out),
            End::Gzip(crc) => {
                self.deflater.finish(out);
                out.extend_from_slice(&crc.sum().to_le_bytes());
                out.extend_from_slice(&crc.amount().to_le_bytes());
            }
            End::Png { adler, mut chunks, mut deflated } => {
                self.deflater.finish(&mut deflated);
                deflated.extend_from_slice(&adler.sum().to_be_bytes());
                chunks.write(&deflated, out);
            }
        }
    }
}

/// Data on its way into PNG chunks. Their lengths follow from the stated length of all.
#[derive(Debug)]
struct Chunks {
    bytes: u64,
    /// Data that is still expected, and how much of it goes into this chunk.
    left: u64,
    chunk_left: u64,
    crc: Crc,
}

impl Chunks {
    fn new(chunk_bytes: u32, len: u64) -> Self {
        let bytes = u64::from(chunk_bytes.max(1));
        let framing = len.div_ceil(bytes + PNG_HEAD + PNG_TAIL) * (PNG_HEAD + PNG_TAIL);
        Self { bytes, left: len.saturating_sub(framing), chunk_left: 0, crc: Crc::new() }
    }

    fn write(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            if self.chunk_left == 0 {
                // More than stated goes into a chunk of its own, so that the length comes out wrong.
                self.chunk_left = if self.left == 0 { data.len() as u64 } else { self.left.min(self.bytes) };
                out.extend_from_slice(&(self.chunk_left as u32).to_be_bytes());
                out.extend_from_slice(b"IDAT");
                self.crc = Crc::new();
                self.crc.update(b"IDAT");
            }
            let taken = split(&mut data, &mut self.chunk_left);
            self.left = self.left.saturating_sub(taken.len() as u64);
            self.crc.update(taken);
            out.extend_from_slice(taken);
            if self.chunk_left == 0 {
                out.extend_from_slice(&self.crc.sum().to_be_bytes());
            }
        }
    }
}

/// The checksum of a zlib stream.
#[derive(Debug)]
struct Adler {
    low: u32,
    high: u32,
}

impl Default for Adler {
    fn default() -> Self {
        Self { low: 1, high: 0 }
    }
}

impl Adler {
    fn update(&mut self, content: &[u8]) {
        // As many as cannot overflow the sums.
        for content in content.chunks(5552) {
            for byte in content {
                self.low += u32::from(*byte);
                self.high += self.low;
            }
            self.low %= 65_521;
            self.high %= 65_521;
        }
    }

    fn sum(&self) -> u32 {
        self.high << 16 | self.low
    }
}

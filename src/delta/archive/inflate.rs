//! Inflating a member as a stream.

use super::{ArchiveError, Member, ReadAt, Wrapper};
use crate::limits::ARCHIVE_CHUNK_BYTES;
use flate2::{Decompress, FlushDecompress, Status};

/// Bytes before the data of a PNG chunk (length, type), and after it (checksum).
pub(super) const PNG_HEAD: u64 = 8;
pub(super) const PNG_TAIL: u64 = 4;
/// Bytes after the stream of a gzip member: checksum, length.
pub(super) const GZIP_TAIL: u64 = 8;
/// Bytes before and after the stream of a zlib stream.
pub(super) const ZLIB_HEAD: u64 = 2;
pub(super) const ZLIB_TAIL: u64 = 4;

/// Inflates a member into `sink`, in order and in pieces, until that gives `false`.
///
/// The stream must end where the member ends, and give exactly as much as stated; otherwise the error comes after some
/// of the content did. Takes about 200 KiB.
pub fn inflate(
    source: &dyn ReadAt,
    member: &Member,
    sink: &mut dyn FnMut(&[u8]) -> Result<bool, ArchiveError>,
) -> Result<(), ArchiveError> {
    let wrong = || ArchiveError::Inflate { offset: member.offset, inflated_len: member.inflated_len };
    if member.end().is_none_or(|end| end > source.size()) {
        return Err(ArchiveError::Range { offset: member.offset, len: member.len });
    }
    let mut stream = Stream::new(source, member).ok_or_else(wrong)?;
    let deflated = stream.left;
    match run(source, &mut stream, member.inflated_len, sink)? {
        Run::Ended(lengths) if lengths == (Lengths { deflated, inflated: member.inflated_len }) => Ok(()),
        Run::Stopped => Ok(()),
        Run::Ended(_) | Run::Wrong => Err(wrong()),
    }
}

/// How a stream came to an end.
pub(super) enum Run {
    Ended(Lengths),
    /// The sink had enough.
    Stopped,
    /// It is no deflate stream, has no end, or inflates to too much.
    Wrong,
}

/// How long a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) deflated: u64,
    pub(super) inflated: u64,
}

/// Inflates a stream to its end, which may come before the end of the range.
pub(super) fn run(
    source: &dyn ReadAt,
    stream: &mut Stream,
    limit: u64,
    sink: &mut dyn FnMut(&[u8]) -> Result<bool, ArchiveError>,
) -> Result<Run, ArchiveError> {
    let mut decoder = Decompress::new(false);
    let mut buffer = vec![0; ARCHIVE_CHUNK_BYTES];
    let mut input = Vec::new();
    let mut used = 0;
    loop {
        if used == input.len() {
            stream.next(source, &mut input)?;
            used = 0;
        }
        let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
        let Ok(status) = decoder.decompress(&input[used..], &mut buffer, FlushDecompress::None) else {
            return Ok(Run::Wrong);
        };
        let (taken, made) = (decoder.total_in() - before_in, decoder.total_out() - before_out);
        used += taken as usize;
        if decoder.total_out() > limit {
            return Ok(Run::Wrong);
        }
        if made > 0 && !sink(&buffer[..made as usize])? {
            return Ok(Run::Stopped);
        }
        if status == Status::StreamEnd {
            return Ok(Run::Ended(Lengths { deflated: decoder.total_in(), inflated: decoder.total_out() }));
        }
        if taken == 0 && made == 0 && (used < input.len() || stream.left == 0) {
            return Ok(Run::Wrong);
        }
    }
}

/// The deflated bytes of a member, without its wrapper.
#[derive(Clone)]
pub(super) struct Stream {
    /// Where the next byte is.
    offset: u64,
    /// Deflated bytes that are still to come.
    pub(super) left: u64,
    /// Those of the chunk, and of every chunk.
    chunk_left: u64,
    chunk_bytes: u64,
}

impl Stream {
    /// A stream of unknown length.
    pub(super) fn open_ended(source: &dyn ReadAt, offset: u64) -> Self {
        let left = source.size().saturating_sub(offset);
        Self { offset, left, chunk_left: u64::MAX, chunk_bytes: u64::MAX }
    }

    /// The stream, or nothing if the member is too short for its wrapper.
    pub(super) fn new(source: &dyn ReadAt, member: &Member) -> Option<Self> {
        let plain = Self { left: member.len, ..Self::open_ended(source, member.offset) };
        match member.wrapper {
            Wrapper::Plain => Some(plain),
            Wrapper::Gzip => Some(Self { left: member.len.checked_sub(GZIP_TAIL)?, ..plain }),
            Wrapper::Png { chunk_bytes, .. } => {
                let chunk_bytes = u64::from(chunk_bytes);
                if chunk_bytes <= ZLIB_HEAD {
                    return None;
                }
                let chunks = member.len.div_ceil(chunk_bytes + PNG_HEAD + PNG_TAIL);
                let data = member.len.checked_sub(chunks * (PNG_HEAD + PNG_TAIL))?;
                Some(Self {
                    offset: member.offset + PNG_HEAD + ZLIB_HEAD,
                    left: data.checked_sub(ZLIB_HEAD + ZLIB_TAIL)?,
                    chunk_left: chunk_bytes - ZLIB_HEAD,
                    chunk_bytes,
                })
            }
        }
    }

    /// Reads a piece of it; nothing at its end.
    pub(super) fn next(&mut self, source: &dyn ReadAt, out: &mut Vec<u8>) -> Result<(), ArchiveError> {
        if self.chunk_left == 0 {
            self.offset += PNG_TAIL + PNG_HEAD;
            self.chunk_left = self.chunk_bytes;
        }
        let len = self.left.min(self.chunk_left).min(ARCHIVE_CHUNK_BYTES as u64);
        out.resize(len as usize, 0);
        source.read_exact_at(self.offset, out)?;
        self.offset += len;
        self.left -= len;
        self.chunk_left -= len;
        Ok(())
    }
}

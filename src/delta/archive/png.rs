//! The content of a PNG image: the `IDAT` chunks as one stream.

use super::inflate::{PNG_HEAD, PNG_TAIL, Run, Stream, ZLIB_HEAD, run};
use super::members::inflated_limit;
use super::{ArchiveError, Member, ReadAt, Wrapper};
use crate::limits::ARCHIVE_MEMBERS;

pub(super) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The stream of the image, if its chunks are equally long but the last, which is how every encoder writes them.
pub(super) fn members(source: &dyn ReadAt) -> Result<Vec<Member>, ArchiveError> {
    let mut offset = SIGNATURE.len() as u64;
    let mut content: Option<Content> = None;
    for _ in 0..ARCHIVE_MEMBERS {
        if source.size().saturating_sub(offset) < PNG_HEAD + PNG_TAIL {
            break;
        }
        let mut head = [0; PNG_HEAD as usize];
        source.read_exact_at(offset, &mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let data = u32::from_be_bytes([a, b, c, d]);
        let end = offset + PNG_HEAD + u64::from(data) + PNG_TAIL;
        if end > source.size() {
            break;
        }
        match (&mut content, kind == *b"IDAT") {
            (None, true) => content = Some(Content { offset, end, chunk_bytes: data, last: data }),
            (Some(content), true) if content.last != content.chunk_bytes || data > content.chunk_bytes || data == 0 => {
                return Ok(Vec::new());
            }
            (Some(content), true) => (content.end, content.last) = (end, data),
            (Some(_), false) => break,
            (None, false) => {}
        }
        offset = end;
    }
    let member = match content {
        Some(content) => content.member(source)?,
        None => None,
    };
    Ok(member.into_iter().collect())
}

/// The chunks so far.
struct Content {
    offset: u64,
    end: u64,
    chunk_bytes: u32,
    last: u32,
}

impl Content {
    fn member(&self, source: &dyn ReadAt) -> Result<Option<Member>, ArchiveError> {
        if u64::from(self.chunk_bytes) <= ZLIB_HEAD {
            return Ok(None);
        }
        let mut zlib_header = [0; ZLIB_HEAD as usize];
        source.read_exact_at(self.offset + PNG_HEAD, &mut zlib_header)?;
        let wrapper = Wrapper::Png { zlib_header, chunk_bytes: self.chunk_bytes };
        let len = self.end - self.offset;
        let member = Member { offset: self.offset, len, inflated_len: 0, wrapper };
        let Some(mut stream) = Stream::new(source, &member) else { return Ok(None) };
        let deflated = stream.left;
        match run(source, &mut stream, inflated_limit(len), &mut |_| Ok(true))? {
            Run::Ended(lengths) if lengths.deflated == deflated => {
                Ok(Some(Member { inflated_len: lengths.inflated, ..member }))
            }
            _ => Ok(None),
        }
    }
}

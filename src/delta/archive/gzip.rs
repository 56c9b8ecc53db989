//! The members of a gzip file.

use super::inflate::{GZIP_TAIL, Run, Stream, run};
use super::members::inflated_limit;
use super::{ArchiveError, Member, ReadAt, Wrapper};
use crate::limits::{ARCHIVE_MEMBERS, ARCHIVE_TOTAL_BYTES};
use flate2::Crc;

const HEADER_BYTES: u64 = 10;
/// Longest header that is read: an extra field, a name and a comment.
const LONGEST_HEADER: u64 = 128 << 10;
/// Flags of the header.
const CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// The members from the beginning of the file, as far as they inflate to what their checksums say.
pub(super) fn members(source: &dyn ReadAt) -> Result<Vec<Member>, ArchiveError> {
    let mut out = Vec::new();
    let (mut offset, mut total) = (0, 0_u64);
    while out.len() < ARCHIVE_MEMBERS && total <= ARCHIVE_TOTAL_BYTES {
        let Some(member) = member(source, offset)? else { break };
        offset = member.offset + member.len;
        total = total.saturating_add(member.inflated_len);
        out.push(member);
    }
    Ok(out)
}

fn member(source: &dyn ReadAt, header: u64) -> Result<Option<Member>, ArchiveError> {
    let Some(offset) = after_header(source, header)? else { return Ok(None) };
    let mut crc = Crc::new();
    let limit = inflated_limit(source.size() - offset);
    let run = run(source, &mut Stream::open_ended(source, offset), limit, &mut |content| {
        crc.update(content);
        Ok(true)
    })?;
    let Run::Ended(lengths) = run else { return Ok(None) };
    let tail = offset + lengths.deflated;
    if source.size() - tail < GZIP_TAIL {
        return Ok(None);
    }
    let mut stated = [0; GZIP_TAIL as usize];
    source.read_exact_at(tail, &mut stated)?;
    let member =
        Member { offset, len: lengths.deflated + GZIP_TAIL, inflated_len: lengths.inflated, wrapper: Wrapper::Gzip };
    let actual = u64::from(crc.sum()) | u64::from(crc.amount()) << 32;
    Ok((stated == actual.to_le_bytes()).then_some(member))
}

/// Where the stream behind a header begins.
fn after_header(source: &dyn ReadAt, offset: u64) -> Result<Option<u64>, ArchiveError> {
    let len = source.size().saturating_sub(offset).min(LONGEST_HEADER);
    if len < HEADER_BYTES {
        return Ok(None);
    }
    let mut short = [0; HEADER_BYTES as usize];
    source.read_exact_at(offset, &mut short)?;
    let [0x1f, 0x8b, 8, flags, ..] = short else { return Ok(None) };
    if flags & !(CHECKSUM | EXTRA | NAME | COMMENT | 1) != 0 {
        return Ok(None);
    }
    let mut header = vec![0; len as usize];
    source.read_exact_at(offset, &mut header)?;
    let mut rest = &header[HEADER_BYTES as usize..];
    if flags & EXTRA != 0 {
        let Some((extra, after)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let Some(after) = after.get(usize::from(u16::from_le_bytes(*extra))..) else { return Ok(None) };
        rest = after;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { return Ok(None) };
            rest = &rest[end + 1..];
        }
    }
    if flags & CHECKSUM != 0 {
        let Some(after) = rest.get(2..) else { return Ok(None) };
        rest = after;
    }
    Ok(Some(offset + len - rest.len() as u64))
}

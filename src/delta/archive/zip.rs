//! The members of a zip archive, found in its directory and checked against their own headers.

use super::{Member, ReadAt, Wrapper};
use crate::limits::{ARCHIVE_DIRECTORY_BYTES, ARCHIVE_MEMBERS};
use std::io::{self, BufReader, Read};

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: u64 = 22;
const END_64: &[u8; 4] = b"PK\x06\x06";
const END_64_BYTES: u64 = 56;
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const ENTRY: &[u8; 4] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const LOCAL_BYTES: u64 = 30;
/// The end record may be followed by a comment of as many bytes.
const LONGEST_COMMENT: u64 = 65_535;
const DEFLATED: u16 = 8;
/// Flags of an entry.
const ENCRYPTED: u16 = 1;
const SIZES_FOLLOW: u16 = 8;
/// The extra field with numbers of 64 bits, and what stands in their stead.
const EXTRA_64: u16 = 1;
const SEE_EXTRA: u64 = 0xffff_ffff;

/// The deflated members, in no order. Those that are odd are left out.
pub(super) fn members(source: &dyn ReadAt) -> io::Result<Vec<Member>> {
    let Some(directory) = Directory::find(source)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    let mut reader = BufReader::new(Range { source, offset: directory.start, end: directory.end });
    for _ in 0..directory.entries {
        let Some(entry) = Entry::read(&mut reader)? else { break };
        if let Some(member) = entry.member(source, &directory)? {
            out.push(member);
        }
    }
    Ok(out)
}

/// Where the directory of the archive is.
struct Directory {
    start: u64,
    end: u64,
    entries: u64,
    /// What stands before the archive: every offset is from there.
    base: u64,
}

impl Directory {
    fn find(source: &dyn ReadAt) -> io::Result<Option<Self>> {
        let Some((mut end, record)) = end_record(source)? else { return Ok(None) };
        let mut entries = u64::from(u16_at(&record, 10));
        let mut len = u64::from(u32_at(&record, 12));
        let mut offset = u64::from(u32_at(&record, 16));
        if entries == 0xffff || len == SEE_EXTRA || offset == SEE_EXTRA {
            let Some((end_64, record)) = end_record_64(source, end)? else { return Ok(None) };
            end = end_64;
            entries = u64_at(&record, 32);
            len = u64_at(&record, 40);
            offset = u64_at(&record, 48);
        }
        let start = end.checked_sub(len);
        let base = start.and_then(|start| start.checked_sub(offset));
        let fine = entries <= ARCHIVE_MEMBERS as u64 && len <= ARCHIVE_DIRECTORY_BYTES;
        Ok(start.zip(base).filter(|_| fine).map(|(start, base)| Self { start, end, entries, base }))
    }
}

/// The end record, and where it is.
fn end_record(source: &dyn ReadAt) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(last) = source.size().checked_sub(END_BYTES) else { return Ok(None) };
    let record = read(source, last, END_BYTES)?;
    if record.starts_with(END) && u16_at(&record, 20) == 0 {
        return Ok(Some((last, record)));
    }
    // A comment: not looked for in files that do not begin as archives do.
    if read(source, 0, 2)? != LOCAL[..2] {
        return Ok(None);
    }
    let first = last.saturating_sub(LONGEST_COMMENT);
    let tail = read(source, first, source.size() - first)?;
    let whole = |at: &usize| {
        let at = *at;
        tail[at..].starts_with(END) && at + END_BYTES as usize + usize::from(u16_at(&tail[at..], 20)) == tail.len()
    };
    let found = (0..=tail.len() - END_BYTES as usize).rev().find(whole);
    Ok(found.map(|at| (first + at as u64, tail[at..at + END_BYTES as usize].to_vec())))
}

/// The end record with numbers of 64 bits, which stands before the other one, and where it is.
fn end_record_64(source: &dyn ReadAt, end: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(at) = end.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let locator = read(source, at, LOCATOR_BYTES)?;
    if !locator.starts_with(LOCATOR) {
        return Ok(None);
    }
    // Where the locator says, or, with something before the archive, right before the locator.
    for at in [Some(u64_at(&locator, 8)), at.checked_sub(END_64_BYTES)].into_iter().flatten() {
        if at.checked_add(END_64_BYTES).is_some_and(|after| after <= end) {
            let record = read(source, at, END_64_BYTES)?;
            if record.starts_with(END_64) {
                return Ok(Some((at, record)));
            }
        }
    }
    Ok(None)
}

/// What the directory says about a member.
struct Entry {
    flags: u16,
    method: u16,
    len: u64,
    inflated_len: u64,
    offset: u64,
    name: Vec<u8>,
}

impl Entry {
    /// The next entry, or nothing if there is none.
    fn read(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut fixed = [0; ENTRY_BYTES];
        if !read_whole(reader, &mut fixed)? || !fixed.starts_with(ENTRY) {
            return Ok(None);
        }
        let mut name = vec![0; usize::from(u16_at(&fixed, 28))];
        let mut extra = vec![0; usize::from(u16_at(&fixed, 30))];
        let mut comment = vec![0; usize::from(u16_at(&fixed, 32))];
        for field in [&mut name, &mut extra, &mut comment] {
            if !read_whole(reader, field)? {
                return Ok(None);
            }
        }
        let [mut inflated_len, mut len, mut offset] = [24, 20, 42].map(|at| u64::from(u32_at(&fixed, at)));
        let mut wide = extra_64(&extra).chunks_exact(8);
        for field in [&mut inflated_len, &mut len, &mut offset] {
            if *field == SEE_EXTRA
                && let Some(number) = wide.next()
            {
                *field = u64_at(number, 0);
            }
        }
        Ok(Some(Self { flags: u16_at(&fixed, 8), method: u16_at(&fixed, 10), len, inflated_len, offset, name }))
    }

    /// The member, if it is deflated and its own header agrees.
    fn member(&self, source: &dyn ReadAt, directory: &Directory) -> io::Result<Option<Member>> {
        if self.method != DEFLATED || self.flags & ENCRYPTED != 0 || self.inflated_len == 0 {
            return Ok(None);
        }
        let at = directory.base.checked_add(self.offset);
        let fits = |at: &u64| at.checked_add(LOCAL_BYTES).is_some_and(|end| end <= directory.start);
        let Some(at) = at.filter(fits) else { return Ok(None) };
        let header = read(source, at, LOCAL_BYTES)?;
        let agrees = |at: usize, len: u64| {
            let stated = u64::from(u32_at(&header, at));
            stated == len || stated == SEE_EXTRA || (stated == 0 && self.flags & SIZES_FOLLOW != 0)
        };
        let (name_len, extra_len) = (u64::from(u16_at(&header, 26)), u64::from(u16_at(&header, 28)));
        let offset = at + LOCAL_BYTES + name_len + extra_len;
        let inside = offset.checked_add(self.len).is_some_and(|end| end <= directory.start);
        let same = header.starts_with(LOCAL)
            && u16_at(&header, 8) == DEFLATED
            && name_len == self.name.len() as u64
            && agrees(18, self.len)
            && agrees(22, self.inflated_len);
        if !inside || !same || read(source, at + LOCAL_BYTES, name_len)? != self.name {
            return Ok(None);
        }
        Ok(Some(Member { offset, len: self.len, inflated_len: self.inflated_len, wrapper: Wrapper::Plain }))
    }
}

/// The content of the extra field with numbers of 64 bits.
fn extra_64(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (tag, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(content) = extra.get(4..4 + len) else { break };
        if tag == EXTRA_64 {
            return content;
        }
        extra = &extra[4 + len..];
    }
    &[]
}

/// A range of a file, to be read in order.
struct Range<'a> {
    source: &'a dyn ReadAt,
    offset: u64,
    end: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (self.end - self.offset).min(buffer.len() as u64);
        self.source.read_exact_at(self.offset, &mut buffer[..len as usize])?;
        self.offset += len;
        Ok(len as usize)
    }
}

/// Fills the buffer, if there is enough.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        done => done.map(|()| true),
    }
}

fn read(source: &dyn ReadAt, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut out = vec![0; len as usize];
    source.read_exact_at(offset, &mut out)?;
    Ok(out)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

//! The parts of a file, and sets of members.

use super::{ArchiveError, Member, Part, ReadAt, gzip, png, zip};
use crate::limits::{ARCHIVE_CHUNK_BYTES, ARCHIVE_RATIO, ARCHIVE_TOTAL_BYTES};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;

/// Cuts a file into raw ranges and deflated members, in order and without gaps.
///
/// The only error is one of reading. What is no archive, or odd, or too much, is raw. Members of a zip archive are not
/// inflated here, and may turn out not to inflate.
pub fn parts(source: &dyn ReadAt) -> Result<Vec<Part>, ArchiveError> {
    let mut start = [0; 8];
    let known = start.len().min(usize::try_from(source.size()).unwrap_or(usize::MAX));
    source.read_exact_at(0, &mut start[..known])?;
    let mut members = match start {
        [0x1f, 0x8b, 8, ..] => gzip::members(source)?,
        png::SIGNATURE => png::members(source)?,
        _ => zip::members(source)?,
    };
    members.sort_by_key(|member| member.offset);

    let mut out = Vec::with_capacity(2 * members.len() + 1);
    let (mut offset, mut inflated) = (0, 0_u64);
    for member in members {
        let Some(end) = member.end().filter(|end| member.offset >= offset && *end <= source.size()) else { continue };
        let total = inflated.saturating_add(member.inflated_len);
        if !is_plausible(&member) || total > ARCHIVE_TOTAL_BYTES {
            continue;
        }
        inflated = total;
        push_raw(&mut out, offset, member.offset);
        out.push(Part::Deflated(member));
        offset = end;
    }
    push_raw(&mut out, offset, source.size());
    Ok(out)
}

/// Is the member neither empty nor a bomb?
fn is_plausible(member: &Member) -> bool {
    member.len > 0 && (1..=inflated_limit(member.len)).contains(&member.inflated_len)
}

/// To how much as many deflated bytes may inflate.
pub(super) fn inflated_limit(len: u64) -> u64 {
    len.saturating_mul(ARCHIVE_RATIO).min(crate::limits::ARCHIVE_INFLATED_BYTES)
}

fn push_raw(out: &mut Vec<Part>, offset: u64, end: u64) {
    if end > offset {
        out.push(Part::Raw { offset, len: end - offset });
    }
}

/// The members of some files, by their deflated bytes.
#[derive(Clone, Debug, Default)]
pub struct MemberSet {
    digests: HashSet<(u64, [u8; 32])>,
    lengths: HashSet<u64>,
}

impl MemberSet {
    /// Adds the members of a file.
    pub fn insert(&mut self, source: &dyn ReadAt, parts: &[Part]) -> Result<(), ArchiveError> {
        for part in parts {
            if let Part::Deflated(member) = part {
                self.digests.insert((member.len, digest(source, member)?));
                self.lengths.insert(member.len);
            }
        }
        Ok(())
    }

    /// Are the deflated bytes of a member those of one of the set?
    pub fn contains(&self, source: &dyn ReadAt, member: &Member) -> Result<bool, ArchiveError> {
        Ok(self.lengths.contains(&member.len) && self.digests.contains(&(member.len, digest(source, member)?)))
    }

    /// The members of a file that are not in the set.
    pub fn missing(&self, source: &dyn ReadAt, parts: &[Part]) -> Result<Vec<Member>, ArchiveError> {
        let mut out = Vec::new();
        for part in parts {
            if let Part::Deflated(member) = part
                && !self.contains(source, member)?
            {
                out.push(*member);
            }
        }
        Ok(out)
    }
}

fn digest(source: &dyn ReadAt, member: &Member) -> Result<[u8; 32], ArchiveError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; ARCHIVE_CHUNK_BYTES];
    let (mut offset, mut left) = (member.offset, member.len);
    while left > 0 {
        let len = left.min(buffer.len() as u64);
        let buffer = &mut buffer[..len as usize];
        source.read_exact_at(offset, buffer)?;
        hash.update(&*buffer);
        offset += len;
        left -= len;
    }
    Ok(hash.finalize().into())
}

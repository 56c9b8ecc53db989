//! The record of what of a patch has been unpacked before its transaction.
//!
//! ```text
//! start   magic "SFUNPK_1" (8) | package (32) | base generation (16) | session (16) | crc32c of all that (4)
//! record  segment (4) | crc32c of what it has made (4) | bytes written for it (4) | crc32c of these twelve bytes (4)
//! ```
//!
//! Integers are little-endian. Nothing of it is durable by itself: a record says what was written, and whether that is
//! there is found out by reading it.

use crate::limits;
use crate::model::Digest;
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"SFUNPK_1";
/// Bytes of the start.
pub const UNPACKED_START: usize = 76;
/// Bytes of a record.
pub const UNPACKED_RECORD: usize = 16;

/// Of which package, for which generation, and which segments are said to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The name of the package.
    pub package: Digest,
    /// The generation that it starts from.
    pub base: [u8; 16],
    /// The session that it was written in: what is noted may be in the cache of that session only.
    pub session: [u8; 16],
    /// By number of the segment.
    pub segments: BTreeMap<u32, Noted>,
}

/// What one segment has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// crc32c of all of it, one output after the other.
    pub checksum: u32,
    /// Bytes that were written; stretches of zeros may be left out.
    pub written: u32,
}

/// The bytes of a record without segments.
pub fn encode_unpacked(package: Digest, base: [u8; 16], session: [u8; 16]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&package.0);
    out.extend_from_slice(&base);
    out.extend_from_slice(&session);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// The bytes that say that a segment is done.
pub fn encode_unpacked_segment(segment: u32, noted: Noted) -> [u8; UNPACKED_RECORD] {
    let mut out = [0; UNPACKED_RECORD];
    out[..4].copy_from_slice(&segment.to_le_bytes());
    out[4..8].copy_from_slice(&noted.checksum.to_le_bytes());
    out[8..12].copy_from_slice(&noted.written.to_le_bytes());
    let own = crc32c::crc32c(&out[..12]);
    out[12..].copy_from_slice(&own.to_le_bytes());
    out
}

/// Reads a record; nothing if its start is not sound. Of the segments, what is not sound is left out.
pub fn decode_unpacked(bytes: &[u8]) -> Option<Unpacked> {
    let (start, records) = bytes.split_at_checked(UNPACKED_START)?;
    let (body, checksum) = start.split_at(UNPACKED_START - 4);
    if &body[..8] != MAGIC || crc32c::crc32c(body).to_le_bytes() != checksum {
        return None;
    }
    let package = Digest(body[8..40].try_into().ok()?);
    let (base, session) = (body[40..56].try_into().ok()?, body[56..].try_into().ok()?);
    let mut segments = BTreeMap::new();
    for record in records.chunks_exact(UNPACKED_RECORD).take(2 * limits::SEGMENTS) {
        let word = |at: usize| record[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
        if crc32c::crc32c(&record[..12]) == word(12) {
            segments.insert(word(0), Noted { checksum: word(4), written: word(8) });
        }
    }
    Some(Unpacked { package, base, session, segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sound_is_read_and_nothing_else() {
        let mut bytes = encode_unpacked(Digest::of(b"package"), [7; 16], [8; 16]);
        assert_eq!(bytes.len(), UNPACKED_START);
        let noted = |checksum| Noted { checksum, written: 5 };
        for (segment, checksum) in [(0, 6), (3, u32::MAX), (1, 7)] {
            bytes.extend(encode_unpacked_segment(segment, noted(checksum)));
        }
        let segments = [(0, noted(6)), (1, noted(7)), (3, noted(u32::MAX))].into();
        let whole = Unpacked { package: Digest::of(b"package"), base: [7; 16], session: [8; 16], segments };
        assert_eq!(decode_unpacked(&bytes), Some(whole.clone()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            let read = decode_unpacked(&bad);
            assert_eq!(read.is_some(), at >= UNPACKED_START, "byte {at}");
            assert_ne!(read, Some(whole.clone()), "byte {at}");
            let cut = decode_unpacked(&bytes[..at]);
            let whole_records = |at: usize| at.checked_sub(UNPACKED_START).map(|rest| rest / UNPACKED_RECORD);
            assert_eq!(cut.map(|cut| cut.segments.len()), whole_records(at));
        }
        // Blocks that were never written.
        bytes.extend([0; 4096]);
        assert_eq!(decode_unpacked(&bytes), Some(whole));
    }
}

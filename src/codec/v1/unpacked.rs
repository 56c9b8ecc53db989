//! The record of what of a patch has been unpacked before its transaction.
//!
//! ```text
//! start   magic "SFUNPK_1" (8) | package (32) | base generation (16) | crc32c of all that (4)
//! record  segment (4) | crc32c of what it has made (4) | crc32c of these eight bytes (4)
//! ```
//!
//! Integers are little-endian. Nothing of it is durable by itself: a record says what was written, and whether that is
//! there is found out by reading it.

use crate::limits;
use crate::model::Digest;
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"SFUNPK_1";
/// Bytes of the start.
pub const UNPACKED_START: usize = 60;
/// Bytes of a record.
pub const UNPACKED_RECORD: usize = 12;

/// Of which package, for which generation, and which segments are said to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The name of the package.
    pub package: Digest,
    /// The generation that it starts from.
    pub base: [u8; 16],
    /// By number of the segment: crc32c of all that it has made, one output after the other.
    pub segments: BTreeMap<u32, u32>,
}

/// The bytes of a record without segments.
pub fn encode_unpacked(package: Digest, base: [u8; 16]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&package.0);
    out.extend_from_slice(&base);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// The bytes that say that a segment is done.
pub fn encode_unpacked_segment(segment: u32, checksum: u32) -> [u8; UNPACKED_RECORD] {
    let mut out = [0; UNPACKED_RECORD];
    out[..4].copy_from_slice(&segment.to_le_bytes());
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&out[..8]);
    out[8..].copy_from_slice(&own.to_le_bytes());
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
    let base = body[40..].try_into().ok()?;
    let mut segments = BTreeMap::new();
    for record in records.chunks_exact(UNPACKED_RECORD).take(2 * limits::SEGMENTS) {
        let word = |at: usize| record[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
        if crc32c::crc32c(&record[..8]) == word(8) {
            segments.insert(word(0), word(4));
        }
    }
    Some(Unpacked { package, base, segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sound_is_read_and_nothing_else() {
        let mut bytes = encode_unpacked(Digest::of(b"package"), [7; 16]);
        assert_eq!(bytes.len(), UNPACKED_START);
        for (segment, checksum) in [(0, 6), (3, u32::MAX), (1, 7)] {
            bytes.extend(encode_unpacked_segment(segment, checksum));
        }
        let whole = Unpacked {
            package: Digest::of(b"package"),
            base: [7; 16],
            segments: [(0, 6), (1, 7), (3, u32::MAX)].into(),
        };
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

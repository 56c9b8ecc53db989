//! The index of a tree: what each file looked like when its content was last read.

use crate::codec::{DecodeError, decode_prefix, encode_into};
use crate::limits;
use crate::model::{Digest, TreePath};
use serde::{Deserialize, Serialize};

/// First bytes of an index file. A count (`u64`) follows, so many entries sorted by key, and the SHA-256 of all that.
pub const INDEX_MAGIC: [u8; 8] = *b"SFINDEX1";

/// One file of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Which path, see `index_key`. Never decides alone: the inode and the times tell the file.
    pub key: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode: seconds since 1970 and nanoseconds.
    pub ctime: (i64, u32),
    /// Inode number.
    pub inode: u64,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
}

/// Bytes of an entry.
const ENTRY: usize = 80;
const DIGEST: usize = 32;

/// Stands for a path in an index: the first eight bytes of its SHA-256, little-endian. Paths themselves would double
/// the size of an index, on disk and in memory.
pub fn index_key(path: &TreePath) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(path.as_bytes()).0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The bytes of an index.
pub fn encode_index(entries: impl ExactSizeIterator<Item = IndexEntry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY * entries.len() + 64);
    encode_into(&(INDEX_MAGIC, entries.len() as u64), &mut out);
    for entry in entries {
        encode_into(&entry, &mut out);
    }
    let digest = Digest::of(&out);
    out.extend_from_slice(&digest.0);
    out
}

/// Reads an index, each entry by way of `make`. Any damage is an error: an index is whole or worthless.
pub fn decode_index<T>(bytes: &[u8], make: impl Fn(IndexEntry) -> T) -> Result<Vec<T>, DecodeError> {
    let damaged = |why| DecodeError::invalid("index", why);
    if bytes.len() as u64 > limits::INDEX_FILE {
        return Err(damaged("too large"));
    }
    let (body, digest) = bytes.split_last_chunk::<DIGEST>().ok_or_else(|| damaged("too short"))?;
    if Digest::of(body).0 != *digest {
        return Err(damaged("its digest does not match"));
    }
    let ((magic, count), mut at) = decode_prefix::<([u8; 8], u64)>(body)?;
    if magic != INDEX_MAGIC || count > limits::ENTRIES as u64 {
        return Err(damaged("not an index"));
    }
    if (body.len() - at) as u64 != count * ENTRY as u64 {
        return Err(damaged("not as long as it says"));
    }
    let mut entries = Vec::with_capacity((body.len() - at) / ENTRY);
    let mut before = None;
    for _ in 0..count {
        let (entry, used) = decode_prefix::<IndexEntry>(&body[at..])?;
        at += used;
        if entry.mtime.1 >= 1_000_000_000 || entry.ctime.1 >= 1_000_000_000 {
            return Err(damaged("a time out of range"));
        }
        if before.replace(entry.key) >= Some(entry.key) {
            return Err(damaged("keys out of order"));
        }
        entries.push(make(entry));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> IndexEntry {
        IndexEntry {
            key: index_key(&TreePath::parse(path).unwrap()),
            size: 3,
            mtime: (5, 6),
            ctime: (-7, 8),
            inode: 9,
            digest: Digest::of(b"abc").0,
        }
    }

    #[test]
    fn an_index_reads_back_and_any_flipped_bit_is_found() {
        let mut entries = vec![entry("a"), entry("b/c")];
        entries.sort_by_key(|entry| entry.key);
        let bytes = encode_index(entries.clone().into_iter());
        assert_eq!(decode_index(&bytes, |entry| entry).unwrap(), entries);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode_index(&bad, |entry| entry).is_err(), "byte {at}");
            assert!(decode_index(&bytes[..at], |entry| entry).is_err(), "cut at {at}");
        }
        entries.reverse();
        assert!(decode_index(&encode_index(entries.into_iter()), |entry| entry).is_err(), "out of order");
        assert_eq!(decode_index(&encode_index(std::iter::empty()), |entry| entry).unwrap(), []);
    }

    #[test]
    fn a_count_that_lies_is_refused_under_a_right_digest() {
        for count in [0, 2, u64::MAX, limits::ENTRIES as u64] {
            let mut bytes = Vec::new();
            encode_into(&(INDEX_MAGIC, count), &mut bytes);
            encode_into(&entry("a"), &mut bytes);
            let digest = Digest::of(&bytes);
            bytes.extend_from_slice(&digest.0);
            assert!(decode_index(&bytes, |entry| entry).is_err(), "{count}");
        }
    }

    #[test]
    fn the_bytes_of_an_index_are_frozen() {
        let bytes = encode_index([entry("a/b")].into_iter());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "5346494e44455831",         // SFINDEX1
            "0100000000000000",         // one entry
            "c14cddc033f64b9d",         // SHA-256 of a/b, its start
            "0300000000000000",         // size
            "050000000000000006000000", // modified
            "f9ffffffffffffff08000000", // changed
            "0900000000000000",         // inode
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "db90e65df67b7a57ec7be966546dddae35d80b1a0d21b6da31cc5bf38315483d",
        );
        assert_eq!(hex, expected);
    }
}

//! What a download remembers, so that it goes on after a crash.
//!
//! ```text
//! 0       crc32c of the rest of the block (4) | length of the header (4) | header | zeros
//! 4096    one entry a piece: crc32c of its bytes (4) | crc32c of nonce, number and the former (4)
//! ```
//!
//! An entry speaks for itself: it holds for the bytes that are there, or it does not. So none needs to be durable
//! before or after another, and zeros, garbage and what an earlier download left never hold.

use crate::codec::{DecodeError, decode, encode};
use crate::limits;
use serde::{Deserialize, Serialize};

/// First bytes of the header.
pub const DOWNLOAD_MAGIC: [u8; 8] = *b"SFDOWNL1";
/// Bytes of an entry.
pub const DOWNLOAD_ENTRY: usize = 8;

/// What is being fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Always `DOWNLOAD_MAGIC`.
    pub magic: [u8; 8],
    /// Random: entries hold for this download only.
    pub nonce: [u8; 16],
    /// Bytes of a piece.
    pub piece: u64,
    /// Length of the content; nothing if it is not known yet.
    pub length: Option<u64>,
    /// The digest that the content must have; nothing if none is published.
    pub digest: Option<[u8; 32]>,
    /// Digest of the published block map; nothing if there is none.
    pub blocks: Option<[u8; 32]>,
    /// Digest of the address that the entity tag is from.
    pub address: [u8; 32],
    /// The strong entity tag under which the first piece was sent; nothing if there was none.
    #[serde(deserialize_with = "crate::codec::optional_text")]
    pub tag: Option<String>,
    /// What it is, for people.
    #[serde(deserialize_with = "crate::codec::text")]
    pub label: String,
}

impl Download {
    /// The first block of the file.
    pub fn encode_block(&self) -> Vec<u8> {
        let header = encode(self);
        let mut rest = (header.len() as u32).to_le_bytes().to_vec();
        rest.extend_from_slice(&header);
        rest.resize(limits::DOWNLOAD_HEADER - 4, 0);
        let mut out = crc32c::crc32c(&rest).to_le_bytes().to_vec();
        out.extend_from_slice(&rest);
        out
    }

    /// Reads the first block of the file.
    pub fn decode_block(block: &[u8]) -> Result<Self, DecodeError> {
        let bad = |why: &str| DecodeError::invalid("the header of a download", why);
        if block.len() != limits::DOWNLOAD_HEADER {
            return Err(bad("cut short"));
        }
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        if crc32c::crc32c(&block[4..]) != word(0) {
            return Err(bad("wrong checksum"));
        }
        let length = word(4) as usize;
        let (header, padding) = block[8..].split_at_checked(length).ok_or_else(|| bad("longer than its block"))?;
        let header: Self = decode(header)?;
        let sound = header.magic == DOWNLOAD_MAGIC
            && padding.iter().all(|byte| *byte == 0)
            && header.piece == limits::DOWNLOAD_PIECE
            && header.length.is_none_or(|length| length <= limits::DOWNLOAD_BYTES);
        if sound { Ok(header) } else { Err(bad("not of format 1")) }
    }

    /// The entry of a piece whose bytes have this checksum.
    pub fn entry(&self, number: u64, checksum: u32) -> [u8; DOWNLOAD_ENTRY] {
        let mut seal = crc32c::crc32c(&self.nonce);
        seal = crc32c::crc32c_append(seal, &number.to_le_bytes());
        seal = crc32c::crc32c_append(seal, &checksum.to_le_bytes());
        let mut out = [0; DOWNLOAD_ENTRY];
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out[4..].copy_from_slice(&seal.to_le_bytes());
        out
    }

    /// The checksum in an entry; nothing if it is not one of this download and piece.
    pub fn checksum(&self, number: u64, entry: &[u8]) -> Option<u32> {
        let checksum = u32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
        (entry == self.entry(number, checksum)).then_some(checksum)
    }

    /// Where the entry of a piece stands, in bytes from the start of the file.
    pub fn entry_offset(number: u64) -> u64 {
        limits::DOWNLOAD_HEADER as u64 + number * DOWNLOAD_ENTRY as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Download {
        Download {
            magic: DOWNLOAD_MAGIC,
            nonce: [7; 16],
            piece: limits::DOWNLOAD_PIECE,
            length: Some(100_000),
            digest: Some([1; 32]),
            blocks: None,
            address: [2; 32],
            tag: Some("\"tag\"".into()),
            label: "1.2.3".into(),
        }
    }

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_is_believed() {
        let block = header().encode_block();
        assert_eq!(block.len(), limits::DOWNLOAD_HEADER);
        assert_eq!(Download::decode_block(&block), Ok(header()));
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Download::decode_block(&bad).is_err(), "{at}");
        }
        assert!(Download::decode_block(&block[1..]).is_err());
        assert!(Download::decode_block(&[0; limits::DOWNLOAD_HEADER]).is_err());
    }

    /// Once anything could stand behind the header, under a right checksum.
    #[test]
    fn what_follows_the_header_is_zeros() {
        let mut block = header().encode_block();
        block[limits::DOWNLOAD_HEADER - 1] = 1;
        let checksum = crc32c::crc32c(&block[4..]).to_le_bytes();
        block[..4].copy_from_slice(&checksum);
        assert!(Download::decode_block(&block).is_err());
    }

    #[test]
    fn an_entry_is_of_one_piece_of_one_download() {
        let entry = header().entry(3, 42);
        assert_eq!(header().checksum(3, &entry), Some(42));
        assert_eq!(header().checksum(4, &entry), None);
        assert_eq!(Download { nonce: [8; 16], ..header() }.checksum(3, &entry), None);
        assert_eq!(header().checksum(0, &[0; 8]), None);
        assert_eq!(header().checksum(3, &entry[..7]), None);
    }
}

//! The layout of the journal file: blocks of 4096 bytes.
//!
//! ```text
//! block 0        header slot of even epochs
//! block 1        header slot of odd epochs
//! blocks 2-32    frames of even epochs, one a block
//! blocks 33-63   frames of odd epochs, one a block
//!
//! header  magic "SFJRNL_1" (8) | crc32c (4) | zero (4) | journal id (16) | epoch (8) | current generation (16)
//! frame   length (4) | crc32c (4) | index (4) | crc of the frame before (4) | epoch (8) | durable (4) | payload (length)
//! ```
//!
//! `durable` counts the frames of the epoch that a barrier had covered when this one was written. Of what no barrier
//! has covered any part may be lost, also one before another; what was covered can only be missing through damage.
//!
//! Integers are little-endian. The checksum of a header covers the magic and what follows the checksum; that of a
//! frame covers the journal id, everything of the frame but the checksum, and so ties it to its journal, epoch, index
//! and predecessor. What follows a payload in its block is left from earlier epochs and means nothing.

use crate::limits::{FRAME_HEADER, FRAME_PAYLOAD, JOURNAL_BLOCK, JOURNAL_FRAMES};

const MAGIC: &[u8; 8] = b"SFJRNL_1";
const HEADER_BYTES: usize = 56;

/// What stands in a header slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random identity of the journal file.
    pub journal: [u8; 16],
    /// Counts the transactions; its parity says which slot and which half are in use.
    pub epoch: u64,
    /// The generation that the tree is when the epoch begins.
    pub current: [u8; 16],
}

/// A frame that was read and is sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub payload: Vec<u8>,
    /// Checksum of the frame before it; that of the first is zero.
    pub previous: u32,
    /// How many frames of the epoch were durable when it was written.
    pub durable: u32,
    /// Its own checksum.
    pub checksum: u32,
}

impl Header {
    /// Where the header of this epoch stands, in bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        (self.epoch % 2) * JOURNAL_BLOCK as u64
    }

    /// Where frame `index` of this epoch stands, in bytes from the start of the file.
    pub fn frame_offset(&self, index: u32) -> u64 {
        let first = 2 + (self.epoch % 2) * JOURNAL_FRAMES as u64;
        (first + u64::from(index)) * JOURNAL_BLOCK as u64
    }

    /// The bytes of the slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&self.journal);
        body.extend_from_slice(&self.epoch.to_le_bytes());
        body.extend_from_slice(&self.current);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(MAGIC), &body);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads a slot; nothing if it is not sound.
    pub fn decode(slot: &[u8]) -> Option<Self> {
        let slot = slot.get(..HEADER_BYTES)?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(MAGIC), &slot[12..]);
        if &slot[..8] != MAGIC || word(slot, 8)? != checksum || word(slot, 12)? != 0 {
            return None;
        }
        Some(Self {
            journal: slot[16..32].try_into().ok()?,
            epoch: u64::from_le_bytes(slot[32..40].try_into().ok()?),
            current: slot[40..56].try_into().ok()?,
        })
    }

    /// The bytes of a frame and its checksum.
    pub fn encode_frame(&self, index: u32, previous: u32, durable: u32, payload: &[u8]) -> (Vec<u8>, u32) {
        debug_assert!(payload.len() <= FRAME_PAYLOAD);
        let length = payload.len() as u32;
        let mut tail = Vec::with_capacity(FRAME_HEADER - 8 + payload.len());
        tail.extend_from_slice(&index.to_le_bytes());
        tail.extend_from_slice(&previous.to_le_bytes());
        tail.extend_from_slice(&self.epoch.to_le_bytes());
        tail.extend_from_slice(&durable.to_le_bytes());
        tail.extend_from_slice(payload);
        let checksum = self.checksum(length, &tail);
        let mut out = length.to_le_bytes().to_vec();
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&tail);
        (out, checksum)
    }

    /// Reads frame `index` of this epoch from its block; nothing if it is not sound.
    pub fn decode_frame(&self, index: u32, block: &[u8]) -> Option<Frame> {
        let length = word(block, 0)?;
        let end = FRAME_HEADER.checked_add(usize::try_from(length).ok()?)?;
        if end > JOURNAL_BLOCK || word(block, 8)? != index {
            return None;
        }
        let tail = block.get(8..end)?;
        let checksum = word(block, 4)?;
        let epoch = u64::from_le_bytes(block.get(16..24)?.try_into().ok()?);
        let durable = word(block, 24)?;
        if epoch != self.epoch || durable > index || checksum != self.checksum(length, tail) {
            return None;
        }
        Some(Frame { payload: block[FRAME_HEADER..end].to_vec(), previous: word(block, 12)?, durable, checksum })
    }

    fn checksum(&self, length: u32, tail: &[u8]) -> u32 {
        let seed = crc32c::crc32c_append(crc32c::crc32c(&self.journal), &length.to_le_bytes());
        // Zero is the predecessor of the first frame, so no frame may have it.
        crc32c::crc32c_append(seed, tail).max(1)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { journal: [7; 16], epoch: 5, current: [9; 16] };

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_does() {
        let bytes = HEADER.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Some(HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_belongs_to_its_journal_epoch_and_index() {
        let (bytes, checksum) = HEADER.encode_frame(3, 11, 2, b"payload");
        let frame = HEADER.decode_frame(3, &bytes).unwrap();
        assert_eq!((frame.payload.as_slice(), frame.previous, frame.durable), (&b"payload"[..], 11, 2));
        assert_eq!(frame.checksum, checksum);
        assert_eq!(HEADER.decode_frame(2, &bytes), None);
        assert_eq!(Header { epoch: 7, ..HEADER }.decode_frame(3, &bytes), None);
        assert_eq!(Header { journal: [8; 16], ..HEADER }.decode_frame(3, &bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(HEADER.decode_frame(3, &bad), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(HEADER.decode_frame(3, &bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn halves_do_not_overlap_and_fill_the_file() {
        let even = Header { epoch: 4, ..HEADER };
        let last = JOURNAL_FRAMES as u32 - 1;
        assert_eq!(even.frame_offset(last) + JOURNAL_BLOCK as u64, HEADER.frame_offset(0));
        assert_eq!(
            HEADER.frame_offset(last) + JOURNAL_BLOCK as u64,
            (crate::limits::JOURNAL_BLOCKS * JOURNAL_BLOCK) as u64
        );
    }
}

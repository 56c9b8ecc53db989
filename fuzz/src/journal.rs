//! Journals from chunks.

use surefoot::codec::frame::Header;
use surefoot::limits::{FRAME_PAYLOAD, JOURNAL_BLOCK, JOURNAL_BLOCKS, JOURNAL_FRAMES};

/// Bit of a block number: the bytes are not put there as they are, but made into a sound header or frame.
pub const SOUND: u8 = 0x80;
/// Bit of a block number: a barrier stands before the frame.
pub const BARRIER: u8 = 0x40;

/// Makes a journal file from chunks: number of the block, length (`u16`, little-endian), so many bytes.
///
/// With [`SOUND`], the bytes for a header slot are its epoch (8) and one byte for the journal and the generation each;
/// those for a frame are its payload, and it follows the frame that was made before in the same half, under the newest
/// header of that half.
pub fn build(mut data: &[u8]) -> Vec<u8> {
    let mut file = vec![0; JOURNAL_BLOCK * JOURNAL_BLOCKS];
    let mut headers = [Header { journal: [0; 16], epoch: 0, current: [0; 16] }; 2];
    headers[1].epoch = 1;
    let mut previous = [0; 2];
    let mut durable = [0; 2];
    while let [block, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(JOURNAL_BLOCK).min(rest.len());
        let (bytes, after) = rest.split_at(length);
        data = after;
        let number = usize::from(*block) % JOURNAL_BLOCKS;
        let at = number * JOURNAL_BLOCK;
        if block & SOUND == 0 {
            file[at..at + length].copy_from_slice(bytes);
            continue;
        }
        let sound = if number < 2 {
            let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
            let epoch = u64::from_le_bytes(std::array::from_fn(byte));
            headers[number] = Header { journal: [byte(8); 16], epoch, current: [byte(9); 16] };
            (previous[number], durable[number]) = (0, 0);
            headers[number].encode()
        } else {
            let (half, index) = ((number - 2) / JOURNAL_FRAMES, (number - 2) % JOURNAL_FRAMES);
            if block & BARRIER != 0 {
                durable[half] = index as u32;
            }
            let payload = &bytes[..length.min(FRAME_PAYLOAD)];
            let (sound, checksum) = headers[half].encode_frame(index as u32, previous[half], durable[half], payload);
            previous[half] = checksum;
            sound
        };
        file[at..at + sound.len()].copy_from_slice(&sound);
    }
    file
}

/// One chunk.
pub fn chunk(block: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![block];
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

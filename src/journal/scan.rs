//! Finding the current epoch and its frames, and telling a torn tail from damage.

use super::JournalError;
use crate::codec::frame::Header;
use crate::limits::{JOURNAL_BLOCK, JOURNAL_FRAMES};
use crate::vfs::IoError;

/// What a journal file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The header of the current epoch.
    pub header: Header,
    /// The payloads of its frames, in order.
    pub payloads: Vec<Vec<u8>>,
    /// Checksum of the last of them; zero if there is none.
    pub previous: u32,
    /// Do the frames say that a barrier has covered the header?
    pub settled: bool,
    /// Is the header itself not sound, and known by its frames only?
    pub torn: bool,
}

/// Reads a journal from its bytes.
pub fn scan_bytes(bytes: &[u8]) -> Result<Found, JournalError> {
    scan(|offset, buffer| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let there = buffer.len().min(bytes.len() - from);
        buffer[..there].copy_from_slice(&bytes[from..from + there]);
        buffer[there..].fill(0);
        Ok(())
    })
}

pub(super) fn scan(mut read: impl FnMut(u64, &mut [u8]) -> Result<(), IoError>) -> Result<Found, JournalError> {
    let mut block = vec![0; JOURNAL_BLOCK];
    let mut slots = [None, None];
    for (number, slot) in slots.iter_mut().enumerate() {
        read((number * JOURNAL_BLOCK) as u64, &mut block)?;
        *slot = Header::decode(&block).filter(|header| header.epoch % 2 == number as u64);
    }
    let mut header = match slots {
        [Some(even), Some(odd)] if even.journal != odd.journal || even.epoch.abs_diff(odd.epoch) != 1 => {
            return Err(JournalError::Damaged("its two headers contradict each other".into()));
        }
        [Some(even), Some(odd)] => {
            if even.epoch > odd.epoch {
                even
            } else {
                odd
            }
        }
        [Some(one), None] | [None, Some(one)] => one,
        [None, None] => return Err(JournalError::Damaged("neither header is sound".into())),
    };
    // A header that is not sound was never written, was torn, or rotted later. Its epoch is known, so its frames tell:
    // if the first stands, the epoch had begun.
    let next = header.epoch.checked_add(1).filter(|next| *next < u64::MAX);
    let next = next.ok_or_else(|| JournalError::Damaged("its epoch cannot have been reached by counting".into()))?;
    let other = Header { epoch: next, ..header };
    let slot = usize::from(other.epoch % 2 == 1);
    let mut torn = false;
    if slots[slot].is_none() {
        read(other.frame_offset(0), &mut block)?;
        if other.decode_frame(0, &block).is_some() {
            (header, torn) = (other, true);
        }
    }

    // The sound frames that follow one another from the first are the records. A sound frame after these is left from
    // a group that no barrier had covered, unless it says that a barrier had covered what is missing before it.
    let mut payloads = Vec::new();
    let (mut previous, mut ended) = (0, false);
    // The first epoch is durable before the file has its name.
    let mut settled = header.epoch == 0;
    for index in 0..JOURNAL_FRAMES as u32 {
        read(header.frame_offset(index), &mut block)?;
        let Some(frame) = header.decode_frame(index, &block) else {
            ended = true;
            continue;
        };
        ended |= frame.previous != previous;
        if !ended {
            previous = frame.checksum;
            settled |= frame.durable > 0;
            payloads.push(frame.payload);
        } else if frame.durable as usize > payloads.len() {
            return Err(JournalError::Damaged(format!(
                "record {} is not sound, but record {index} is",
                payloads.len()
            )));
        }
    }
    Ok(Found { header, payloads, previous, settled, torn })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The epoch after the last one there can be was computed: a panic, or the epoch 0 once more.
    #[test]
    fn an_epoch_that_has_no_next_one_is_damage() {
        for (epoch, sound) in [(u64::MAX, false), (u64::MAX - 1, false), (u64::MAX - 2, true)] {
            let header = Header { journal: [1; 16], epoch, current: [2; 16] };
            let mut file = vec![0; 2 * JOURNAL_BLOCK];
            let at = usize::try_from(header.offset()).unwrap();
            let bytes = header.encode();
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(scan_bytes(&file).is_ok(), sound, "{epoch}");
        }
    }
}

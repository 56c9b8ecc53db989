//! The write-ahead journal: a preallocated file of checked frames. It knows bytes, not meanings.
//!
//! The file has two halves, used in turn, one transaction each ([`crate::codec::frame`]). So beginning a transaction
//! destroys nothing of the one before, no stale frame can be taken for a current one, and no barrier is spent on
//! emptying it. Frames are only ever appended, each into a block of its own.

mod scan;

use crate::codec::frame::Header;
use crate::limits::{FRAME_PAYLOAD, JOURNAL_BLOCK, JOURNAL_BLOCKS, JOURNAL_FRAMES};
use crate::vfs::{Access, IoError, Place, Vfs};
use std::io::ErrorKind;

/// An open journal.
pub struct Journal<V: Vfs> {
    file: V::File,
    header: Header,
    next: u32,
    previous: u32,
    /// How many frames of the epoch a barrier of this process has covered.
    durable: u32,
    /// Is the epoch known to be durable? The next one overwrites the one before it, so until then it must not begin.
    settled: bool,
    /// Does the header of the epoch stand in its frames only? It is written again before anything else is.
    torn: bool,
}

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is damaged where a torn write cannot explain it.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// The half is full or the payload too long: a transaction never writes that much.
    #[error("the journal has no room for another record")]
    Full,
}

impl<V: Vfs> std::fmt::Debug for Journal<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("header", &self.header).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<V: Vfs> Journal<V> {
    /// Writes a new, empty journal at a place where nothing is. Not durable yet.
    pub fn create(vfs: &V, at: &Place, journal: [u8; 16], current: [u8; 16]) -> Result<(), IoError> {
        let file = vfs.create(at)?;
        // Real zeros: an append must never need a block.
        for block in 0..JOURNAL_BLOCKS {
            vfs.write_at(&file, (block * JOURNAL_BLOCK) as u64, &[0; JOURNAL_BLOCK])?;
        }
        let header = Header { journal, epoch: 0, current };
        vfs.write_at(&file, header.offset(), &header.encode())
    }

    /// Opens the journal: the payloads of the current epoch, in order, with a torn one at the end left out.
    pub fn open(vfs: &V, at: &Place) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let whole = (JOURNAL_BLOCKS * JOURNAL_BLOCK) as u64;
        // It is made in full size before it has its name, and no crash makes it shorter.
        if vfs.stat(at)?.is_some_and(|stat| stat.size < whole) {
            return Err(JournalError::Damaged("it is shorter than it was made".into()));
        }
        // Where nothing can be written it can still be looked at.
        let read_only =
            |error: &IoError| matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied);
        let file = match vfs.open(at, Access::Write) {
            Err(error) if read_only(&error) => vfs.open(at, Access::Read)?,
            opened => opened?,
        };
        let found = scan::scan(|offset, buffer| read_full(vfs, &file, offset, buffer))?;
        // What is read may still be in the cache only, so none of it counts as durable.
        let next = found.payloads.len() as u32;
        let Found { header, previous, settled, torn, .. } = found;
        // A header that is only inferred has to be written, and durable, before the next epoch takes the place of the
        // other one.
        let journal = Self { file, header, next, previous, durable: 0, settled: settled && !torn, torn };
        Ok((journal, found.payloads))
    }

    /// The header of the current epoch.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Says which generation the tree was when the epoch began, for a header that is known by its frames only: these say
    /// it, in their own words, and the header of the epoch before says what was then.
    pub fn begins_at(&mut self, current: [u8; 16]) {
        if self.torn {
            self.header.current = current;
        }
    }

    /// Makes the current epoch durable, unless it is known to be: what an abandoned transaction leaves may not be.
    pub fn settle(&mut self, vfs: &V) -> Result<(), IoError> {
        if self.settled {
            return Ok(());
        }
        self.mend(vfs)?;
        self.sync(vfs)
    }

    /// Begins the next epoch in the other half. Durable with the next barrier; until then the old epoch stands, which
    /// is settled first.
    pub fn turn(&mut self, vfs: &V, current: [u8; 16]) -> Result<(), JournalError> {
        self.settle(vfs)?;
        let header = Header { epoch: self.header.epoch + 1, current, ..self.header };
        vfs.write_at(&self.file, header.offset(), &header.encode())?;
        (self.header, self.next, self.previous, self.durable, self.settled) = (header, 0, 0, 0, false);
        Ok(())
    }

    /// Appends a frame. Durable with the next barrier.
    pub fn append(&mut self, vfs: &V, payload: &[u8]) -> Result<(), JournalError> {
        if payload.len() > FRAME_PAYLOAD || self.next as usize >= JOURNAL_FRAMES {
            return Err(JournalError::Full);
        }
        self.mend(vfs)?;
        let (bytes, checksum) = self.header.encode_frame(self.next, self.previous, self.durable, payload);
        vfs.write_at(&self.file, self.header.frame_offset(self.next), &bytes)?;
        (self.next, self.previous) = (self.next + 1, checksum);
        Ok(())
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self, vfs: &V) -> Result<(), IoError> {
        vfs.sync_file(&self.file)?;
        (self.durable, self.settled) = (self.next, !self.torn);
        Ok(())
    }

    /// Makes everything durable: what was appended, and whatever else was done on the file system.
    pub fn sync_all(&mut self, vfs: &V) -> Result<(), IoError> {
        let is_durable = self.settled && self.durable == self.next;
        if !is_durable && !vfs.sync_all_reports() {
            vfs.sync_file(&self.file)?;
        }
        vfs.sync_all()?;
        (self.durable, self.settled) = (self.next, !self.torn);
        Ok(())
    }

    fn mend(&mut self, vfs: &V) -> Result<(), IoError> {
        if self.torn {
            vfs.write_at(&self.file, self.header.offset(), &self.header.encode())?;
            self.torn = false;
        }
        Ok(())
    }
}

fn read_full<V: Vfs>(vfs: &V, file: &V::File, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
    let mut done = 0;
    while done < buffer.len() {
        match vfs.read_at(file, offset + done as u64, &mut buffer[done..])? {
            0 => break,
            n => done += n,
        }
    }
    // What is missing reads as zeros, and no zero is a sound header or frame.
    buffer[done..].fill(0);
    Ok(())
}

pub use scan::{Found, scan_bytes};

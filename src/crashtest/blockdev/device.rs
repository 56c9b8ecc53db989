//! The disk itself.

use super::{BLOCK, Block, Event, Image, Recording};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block device in memory. Clones are the same device.
#[derive(Clone)]
pub struct Device {
    blocks: u64,
    state: Arc<Mutex<State>>,
}

/// How a device fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    #[default]
    None,
    /// The write of this number, counted from when the fault was set, fails, and no other.
    Write(u64),
    /// This write and all that follow, and all flushes after it.
    WritesFrom(u64),
    /// The flush of this number, and no other: what it should have made durable is there nevertheless.
    Flush(u64),
    /// Every read.
    Reads,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) image: Image,
    recording: Option<Recording>,
    fault: Fault,
    reads: u64,
    writes: u64,
    flushes: u64,
    failed: u64,
}

/// The device failed: an input/output error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Device {
    /// A device of zeros.
    pub fn new(blocks: u64) -> Self {
        Self { blocks, state: Arc::default() }
    }

    /// The size.
    pub fn bytes(&self) -> u64 {
        self.blocks * BLOCK as u64
    }

    /// Replaces the content. Nothing may have it mounted. Faults, counters and recording are gone.
    pub fn load(&self, image: Image) {
        *self.lock() = State { image, ..State::default() };
    }

    /// The content.
    pub fn image(&self) -> Image {
        self.lock().image.clone()
    }

    /// Records from now on; what is there now counts as durable.
    pub fn record(&self) {
        let mut state = self.lock();
        state.image.settle();
        state.recording = Some(Recording { base: state.image.clone(), events: Vec::new() });
    }

    /// Notes something in the recording.
    pub fn mark(&self, mark: &str) {
        if let Some(recording) = &mut self.lock().recording {
            recording.events.push(Event::Mark(mark.to_owned()));
        }
    }

    /// Ends the recording. None if there was none, or if it does not lead to the content of the device.
    pub fn recorded(&self) -> Option<Recording> {
        let mut state = self.lock();
        let recording = state.recording.take()?;
        let mut image = recording.base.clone();
        for event in &recording.events {
            if let Event::Write(first, blocks) = event {
                (*first..).zip(blocks).for_each(|(number, block)| image.put(number, block.clone()));
            }
        }
        image.same(&state.image).then_some(recording)
    }

    /// Fails like this from now on; counting begins anew.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.lock();
        (state.fault, state.writes, state.flushes, state.failed) = (fault, 0, 0, 0);
    }

    /// Reads, writes and flushes that were served since the content or the fault was set, and how many of them failed.
    pub fn served(&self) -> (u64, u64, u64, u64) {
        let state = self.lock();
        (state.reads, state.writes, state.flushes, state.failed)
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Failed> {
        let mut state = self.lock();
        state.reads += 1;
        if state.fault == Fault::Reads {
            state.failed += 1;
            return Err(Failed);
        }
        let length = (bytes.len() as u64).min(self.bytes().saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < length {
            let (number, within) = place(offset + done as u64);
            let part = (BLOCK - within).min(length - done);
            let to = &mut bytes[done..done + part];
            match state.image.block(number) {
                Some(block) => to.copy_from_slice(&block.bytes()[within..within + part]),
                None => to.fill(0),
            }
            done += part;
        }
        Ok(length)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, Failed> {
        let mut state = self.lock();
        state.writes += 1;
        let fails = match state.fault {
            Fault::Write(number) => state.writes == number + 1,
            Fault::WritesFrom(number) => state.writes > number,
            _ => false,
        };
        let beyond = offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.bytes());
        if fails || beyond {
            state.failed += 1;
            return Err(Failed);
        }
        let (mut done, mut written) = (0, Vec::new());
        while done < bytes.len() {
            let (number, within) = place(offset + done as u64);
            let part = (BLOCK - within).min(bytes.len() - done);
            let from = &bytes[done..done + part];
            let block = if part == BLOCK {
                Block::new(from)
            } else {
                let mut whole = state.image.block(number).map_or([0; BLOCK], |block| *block.bytes());
                whole[within..within + part].copy_from_slice(from);
                Block::new(&whole)
            };
            state.image.put(number, block.clone());
            written.push(block);
            done += part;
        }
        if let Some(recording) = &mut state.recording {
            recording.events.push(Event::Write(offset / BLOCK as u64, written));
        }
        Ok(bytes.len())
    }

    pub(super) fn flush(&self) -> Result<(), Failed> {
        let mut state = self.lock();
        state.flushes += 1;
        let fails = match state.fault {
            Fault::Flush(number) => state.flushes == number + 1,
            Fault::WritesFrom(number) => state.writes > number,
            _ => false,
        };
        if fails {
            state.failed += 1;
            return Err(Failed);
        }
        if let Some(recording) = &mut state.recording {
            recording.events.push(Event::Flush);
        }
        Ok(())
    }

    /// A thread that panicked has left nothing half-done that matters here.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block of an offset, and where in it that is.
fn place(offset: u64) -> (u64, usize) {
    (offset / BLOCK as u64, (offset % BLOCK as u64) as usize)
}

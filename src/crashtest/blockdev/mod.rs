//! A block device in memory that records what a real file system writes to it, and the states in which a loss of power
//! may leave it.
//!
//! [`Device`] is the disk: blocks of [`BLOCK`] bytes, served to the kernel as one file by [`Export`], under which a loop
//! device and any file system fit. It serves one request after the other and keeps what it answered, so a
//! [`Recording`] is exact by construction. A [`Cut`] says when the power fails and what of the un-flushed writes
//! survives; the image that it leaves is loaded into a device and mounted by the real kernel.
//!
//! What is assumed of a disk: a block is written whole or not at all, a flush makes durable what was written before
//! it, and what was written after the last flush may survive in any combination of blocks.

mod cut;
mod device;
mod export;
mod log;
#[cfg(test)]
mod tests;

pub use cut::{Budget, Choice, Cut};
pub use device::{Device, Fault};
pub use export::Export;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

/// The bytes of a block: the unit that the disk writes whole or not at all.
pub const BLOCK: usize = 4096;

/// The content of a block with its hash.
#[derive(Clone)]
pub struct Block(Arc<(u64, [u8; BLOCK])>);

impl Block {
    /// A block of these bytes; missing ones are zero, further ones are left out.
    pub fn new(bytes: &[u8]) -> Self {
        let mut content = [0; BLOCK];
        let length = bytes.len().min(BLOCK);
        content[..length].copy_from_slice(&bytes[..length]);
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        Self(Arc::new((hasher.finish(), content)))
    }

    /// The content.
    pub fn bytes(&self) -> &[u8; BLOCK] {
        &self.0.1
    }

    /// A number that differs for other contents.
    pub fn hash(&self) -> u64 {
        self.0.0
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash() && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:016x})", self.hash())
    }
}

/// The content of a device: what is not there is zero. A clone costs what was written since the last [`Image::settle`].
#[derive(Clone, Debug, Default)]
pub struct Image {
    base: Arc<HashMap<u64, Block>>,
    top: HashMap<u64, Block>,
}

impl Image {
    /// The block of this number, unless it was never written.
    pub fn block(&self, number: u64) -> Option<&Block> {
        self.top.get(&number).or_else(|| self.base.get(&number))
    }

    /// Replaces a block.
    pub fn put(&mut self, number: u64, block: Block) {
        self.top.insert(number, block);
    }

    /// Makes later clones cheap.
    pub fn settle(&mut self) {
        Arc::make_mut(&mut self.base).extend(self.top.drain());
    }

    /// Every block that was written, in order.
    pub fn blocks(&self) -> Vec<(u64, &Block)> {
        let below = self.base.iter().filter(|(number, _)| !self.top.contains_key(number));
        let mut all: Vec<_> = below.chain(&self.top).map(|(number, block)| (*number, block)).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    /// Do both have the same content?
    pub fn same(&self, other: &Self) -> bool {
        let holds = |a: &Self, b: &Self| {
            a.blocks().into_iter().all(|(number, block)| match b.block(number) {
                Some(other) => other == block,
                None => block.bytes().iter().all(|byte| *byte == 0),
            })
        };
        holds(self, other) && holds(other, self)
    }
}

/// What happened on a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Blocks were written, from this one on.
    Write(u64, Vec<Block>),
    /// Everything written before is durable.
    Flush,
    /// Something that the recorder noted: what was acknowledged, for example.
    Mark(String),
}

/// All that happened on a device, from an image on.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The content at the beginning, all of it durable.
    pub base: Image,
    /// What happened then, in order.
    pub events: Vec<Event>,
}

impl Recording {
    /// The last mark before the power fails.
    pub fn mark(&self, cut: &Cut) -> Option<&str> {
        self.events[..cut.at.min(self.events.len())].iter().rev().find_map(|event| match event {
            Event::Mark(mark) => Some(mark.as_str()),
            _ => None,
        })
    }

    /// How many writes and flushes there were.
    pub fn counts(&self) -> (usize, usize) {
        let count = |which: fn(&Event) -> bool| self.events.iter().filter(|event| which(event)).count();
        (count(|event| matches!(event, Event::Write(..))), count(|event| matches!(event, Event::Flush)))
    }
}

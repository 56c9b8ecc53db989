//! Building of patches: the smallest segments that make new files out of old ones.

mod archives;
mod cover;
mod elf;
mod index;
mod modules;
mod pack;
mod plan;
mod select;
mod streams;
mod text;
mod views;

pub use streams::Encoded;

use crate::delta::{Contents, DeltaError};
use crate::limits::PATCH_WINDOW_LOG;
use crate::model::Relocation;
use select::Unit;
use std::collections::HashMap;

/// How much work goes into a small patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A little more than what copying costs.
    Fast,
    /// Small, at a cost that every release can bear.
    Default,
    /// As small as it gets.
    Best,
}

/// How a patch is built.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much work goes into it.
    pub level: Level,
    /// Most memory that content and indexes take while it is built, in bytes.
    pub memory: u64,
    /// About how many bytes one segment makes.
    pub segment: usize,
    /// About how many packed bytes one segment has at most: they are in memory while it is decoded.
    pub body: usize,
    /// Largest dictionary of a stream, as a power of two.
    pub window_log: u8,
}

impl Options {
    /// What a level stands for.
    pub fn new(level: Level, memory: u64) -> Self {
        let (segment, body) = if level == Level::Best { (32 << 20, 8 << 20) } else { (16 << 20, 2 << 20) };
        Self { level, memory, segment, body, window_log: PATCH_WINDOW_LOG }
    }
}

/// Files of one side, by number.
pub struct Tree<'a> {
    /// What is in them.
    pub contents: &'a dyn Contents,
    /// Their paths: files with similar ones are likely to be similar.
    pub paths: Vec<Vec<u8>>,
}

/// Sees a build going on.
pub trait Progress: Sync {
    /// So much of so much is done. The build ends if the answer is no.
    fn step(&self, done: u64, total: u64) -> bool;
}

impl<F: Fn(u64, u64) -> bool + Sync> Progress for F {
    fn step(&self, done: u64, total: u64) -> bool {
        self(done, total)
    }
}

/// How the bytes of a new file come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// It has no bytes.
    Empty,
    /// Nothing old is in it.
    Whole,
    /// Copies of old content, with differences.
    Cover,
    /// The same, from old content with its addresses moved.
    Relocated,
    /// An LZ coder that has old content as its history.
    History,
}

/// Whether the deflated members of a new file are compared inflated, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inflation {
    /// It has no deflated members.
    None,
    /// There is no old archive to compare it with.
    Alone,
    /// All of its members are in the old archive as they are.
    Unchanged,
    /// No deflater that is known makes the bytes of any member that has changed.
    NotReproduced,
    /// What has changed is too large.
    TooLarge,
    /// The bytes as they are make the smaller patch.
    NotSmaller,
    /// So many members are inflated.
    Members(u32),
}

/// What was found for one new file.
#[derive(Clone, Copy, Debug)]
pub struct FileReport {
    /// Number of the file.
    pub file: u32,
    /// What was chosen.
    pub way: Way,
    /// Its bytes in the patch. Streams are shared by files, so this is its part of them by what it has put in.
    pub packed: u64,
    /// Whether it is compared inflated. Then all lengths here are those of the inflated content.
    pub inflation: Inflation,
    /// Bytes of the content that is compared.
    pub content: u64,
    /// Bytes that are copied from old content.
    pub copied: u64,
    /// Of these, bytes that differ.
    pub differing: u64,
    /// The old file that most is copied from.
    pub from: Option<u32>,
}

/// What makes new files out of old ones.
pub struct Patch {
    /// Old files with moved addresses, which segments read.
    pub views: Vec<Relocation>,
    /// Headers and bodies. Together they make every byte of every new file that is not empty, in order of the files
    /// within each method.
    pub segments: Vec<Encoded>,
    /// For each new file.
    pub files: Vec<FileReport>,
}

/// Finds the smallest patch that the options allow.
pub fn encode(old: &Tree<'_>, new: &Tree<'_>, options: &Options, progress: &dyn Progress) -> Result<Patch, DeltaError> {
    plan::encode(old, new, options, progress)
}

/// A file, or a part of a large one, within a corpus.
#[derive(Clone, Copy, Debug)]
struct Placed {
    number: u32,
    /// Where in the file it begins, and whether it is all of it.
    offset: u64,
    whole: bool,
    start: usize,
    length: usize,
    view: Option<u32>,
}

/// Contents of files, one after the other.
struct Corpus {
    bytes: Vec<u8>,
    files: Vec<Placed>,
}

impl Corpus {
    fn load(contents: &dyn Contents, units: &[Unit]) -> Result<Self, DeltaError> {
        let mut bytes = vec![0; units.iter().map(|unit| unit.length).sum()];
        let mut files = Vec::with_capacity(units.len());
        let mut start = 0;
        for unit in units {
            let (number, offset, length) = (unit.file, unit.offset, unit.length);
            let whole = offset == 0 && contents.length(number) == Some(length as u64);
            files.push(Placed { number, offset, whole, start, length, view: None });
            contents.read_at(number, offset, &mut bytes[start..start + length]).map_err(DeltaError::Read)?;
            start += length;
        }
        Ok(Self { bytes, files })
    }

    /// The file that a position lies in.
    fn file_at(&self, position: usize) -> usize {
        self.files.partition_point(|file| file.start <= position).saturating_sub(1)
    }

    fn bytes_of(&self, file: usize) -> &[u8] {
        let file = &self.files[file];
        &self.bytes[file.start..file.start + file.length]
    }
}

/// The old file that most is copied from, and how much.
fn most_drawn(old: &Corpus, covers: &[cover::Cover]) -> Option<(usize, usize)> {
    let mut drawn = HashMap::<usize, usize>::new();
    for cover in covers {
        *drawn.entry(old.file_at(cover.old)).or_default() += cover.length;
    }
    drawn.into_iter().max_by_key(|(file, bytes)| (*bytes, usize::MAX - file))
}

/// Packs the views of a patch: coder and bytes.
pub fn pack_views(bytes: &[u8], level: Level) -> (crate::model::Coder, Vec<u8>) {
    let packed = pack::pack(bytes, pack::Kind::Integers, level, PATCH_WINDOW_LOG);
    (packed.coder, packed.bytes)
}

/// At how many places two contents of one length differ.
#[cfg(test)]
pub(super) fn differing(a: &[u8], b: &[u8]) -> usize {
    a.len() - index::agreement(a, b)
}

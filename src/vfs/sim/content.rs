//! The bytes of a simulated file, in pages that forks share.

use super::hash::{Hash, mix};
use std::sync::{Arc, OnceLock};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Bytes that a disk writes at once.
pub(super) const SECTOR: usize = 512;
/// Longest simulated file: the page table is a plain vector.
pub(super) const LONGEST_FILE: u64 = 1 << 30;

/// The content of a file: its length and its pages, which may reach beyond the length or end before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) length: u64,
    pages: Arc<Vec<Page>>,
}

/// One page of a file.
#[derive(Clone, Debug, Default)]
pub(super) enum Page {
    /// Never written: takes no space and reads as zeros.
    #[default]
    Hole,
    /// Written, with zeros: takes space on the simulated disk and none here.
    Zeros,
    /// Written.
    Bytes(Arc<Block>),
}

/// The bytes of a page and their hash, once somebody has asked for it.
#[derive(Debug)]
pub(super) struct Block {
    bytes: [u8; PAGE],
    hash: OnceLock<Hash>,
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, hash: OnceLock::new() }
    }
}

/// What one write has put into one page: the page as it was afterwards, and which whole sectors of it are meant.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) index: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    page: Page,
    /// Is the page zero outside `start..end`?
    fresh: bool,
}

impl Page {
    fn is_zero(&self) -> bool {
        !matches!(self, Self::Bytes(_))
    }

    fn bytes(&self) -> &[u8; PAGE] {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        match self {
            Self::Bytes(block) => &block.bytes,
            _ => &ZEROS,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        if self.is_zero() {
            *self = Self::Bytes(Arc::new(Block { bytes: [0; PAGE], hash: OnceLock::new() }));
        }
        match self {
            Self::Bytes(block) => {
                let block = Arc::make_mut(block);
                block.hash.take();
                &mut block.bytes
            }
            _ => unreachable!("the page has just been given bytes"),
        }
    }

    fn hash(&self) -> Hash {
        match self {
            Self::Bytes(block) => *block.hash.get_or_init(|| {
                let zero = block.bytes.iter().all(|byte| *byte == 0);
                if zero { Hash::default() } else { Hash::of(&block.bytes) }
            }),
            _ => Hash::default(),
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if self.is_zero() && bytes.iter().all(|byte| *byte == 0) {
            *self = Self::Zeros;
        } else {
            self.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

impl Content {
    /// How many pages take space.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.iter().filter(|page| !matches!(page, Page::Hole)).count() as u64
    }

    /// How many pages a write would newly take.
    pub(super) fn needed(&self, offset: u64, length: usize) -> u64 {
        let hole = |index: &usize| self.pages.get(*index).is_none_or(|page| matches!(page, Page::Hole));
        touched(offset, length).filter(hole).count() as u64
    }

    /// Reads up to the length.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let mut done = 0;
        while done < count {
            let at = offset as usize + done;
            let within = at % PAGE;
            let part = (PAGE - within).min(count - done);
            let target = &mut buffer[done..done + part];
            match self.pages.get(at / PAGE) {
                Some(page) => target.copy_from_slice(&page.bytes()[within..within + part]),
                None => target.fill(0),
            }
            done += part;
        }
        count
    }

    /// What a write will put where, to be applied by [`Content::put`]; the pages of the result are shared.
    pub(super) fn pieces(&self, offset: u64, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(bytes.len() / PAGE + 2);
        let mut done = 0;
        for index in touched(offset, bytes.len()) {
            let within = (offset as usize + done) % PAGE;
            let part = (PAGE - within).min(bytes.len() - done);
            let mut page = self.pages.get(index).cloned().unwrap_or_default();
            let fresh = page.is_zero();
            page.put(within, &bytes[done..done + part]);
            let start = within / SECTOR * SECTOR;
            let end = (within + part).next_multiple_of(SECTOR);
            pieces.push(Piece { index, start, end, page, fresh });
            done += part;
        }
        pieces
    }

    /// The pieces that make another file's content equal to this one.
    pub(super) fn all_pieces(&self) -> Vec<Piece> {
        let written = self.pages.iter().enumerate().filter(|(_, page)| !matches!(page, Page::Hole));
        written.map(|(index, page)| Piece { index, start: 0, end: PAGE, page: page.clone(), fresh: true }).collect()
    }

    /// Puts the bytes `start..end` of a piece's page into place. The length stays.
    pub(super) fn put(&mut self, piece: &Piece, start: usize, end: usize) {
        let page = self.page_mut(piece.index);
        let whole = (start, end) == (piece.start, piece.end);
        if whole && (end - start == PAGE || piece.fresh && page.is_zero()) {
            *page = piece.page.clone();
        } else {
            page.put(start, &piece.page.bytes()[start..end]);
        }
    }

    /// Fills a page that was never written with garbage: what the disk held there before.
    pub(super) fn rot(&mut self, index: usize, salt: u64) {
        let page = self.page_mut(index);
        if matches!(page, Page::Hole) {
            let mut state = mix(salt, index as u64);
            for chunk in page.bytes_mut().chunks_exact_mut(8) {
                state = mix(state, 0x5bd1);
                chunk.copy_from_slice(&(state | 0x0101_0101_0101_0101).to_le_bytes());
            }
        }
    }

    /// Sets the length; what lies beyond a shorter one is gone.
    pub(super) fn set_length(&mut self, length: u64, shrink: bool) {
        self.length = length;
        if shrink {
            self.trim();
        }
    }

    /// Is anything but zeros, or any allocated page, beyond the length?
    pub(super) fn reaches_beyond(&self) -> bool {
        let (keep, tail) = self.end();
        self.pages.len() > keep
            || tail > 0
                && self.pages.get(keep - 1).is_some_and(|page| page.bytes()[tail..].iter().any(|byte| *byte != 0))
    }

    /// Drops what lies beyond the length.
    pub(super) fn trim(&mut self) {
        if self.reaches_beyond() {
            let (keep, tail) = self.end();
            let pages = Arc::make_mut(&mut self.pages);
            pages.truncate(keep);
            if tail > 0
                && let Some(page) = pages.get_mut(keep - 1)
                && !page.is_zero()
            {
                page.bytes_mut()[tail..].fill(0);
            }
        }
    }

    /// How many pages the length takes, and how many bytes of the last one if that is not whole.
    fn end(&self) -> (usize, usize) {
        ((self.length as usize).div_ceil(PAGE), self.length as usize % PAGE)
    }

    /// The whole content as one vector.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.length as usize];
        self.read(0, &mut out);
        out
    }

    /// A hash of what can be read, and of nothing else, once the content is trimmed.
    pub(super) fn hash(&self) -> Hash {
        let mut hash = Hash::default();
        hash.add(self.length);
        for (index, page) in self.pages.iter().enumerate() {
            let page = page.hash();
            if page != Hash::default() {
                hash.add(index as u64);
                hash.absorb(page);
            }
        }
        hash
    }

    fn page_mut(&mut self, index: usize) -> &mut Page {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= index {
            pages.resize(index + 1, Page::Hole);
        }
        &mut pages[index]
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        if self.length != other.length {
            return false;
        }
        if Arc::ptr_eq(&self.pages, &other.pages) {
            return true;
        }
        let pages = (self.length as usize).div_ceil(PAGE);
        (0..pages.min(self.pages.len().max(other.pages.len()))).all(|index| {
            match (self.pages.get(index), other.pages.get(index)) {
                (Some(Page::Bytes(a)), Some(Page::Bytes(b))) if Arc::ptr_eq(a, b) => true,
                (a, b) => {
                    let end = (self.length as usize - index * PAGE).min(PAGE);
                    let bytes = |page: Option<&Page>| page.is_some_and(|p| !p.is_zero());
                    (!bytes(a) && !bytes(b))
                        || a.unwrap_or(&Page::Hole).bytes()[..end] == b.unwrap_or(&Page::Hole).bytes()[..end]
                }
            }
        })
    }
}

impl Eq for Content {}

/// The pages that a range of bytes touches.
fn touched(offset: u64, length: usize) -> std::ops::Range<usize> {
    let start = offset as usize / PAGE;
    if length == 0 { start..start } else { start..(offset as usize + length).div_ceil(PAGE) }
}

//! Old files as if the targets of their addresses had moved: computed block by block, the same on every machine.

use crate::delta::{Contents, DeltaError, btf};
use crate::limits::PATCH_TYPES;
use crate::model::{Region, Relocation, Rule};
use std::rc::Rc;

/// Bytes that are rewritten at a time: what is recognised depends on nothing outside of its block and region.
pub(super) const BLOCK: u64 = 4096;
/// Most blocks that a reader keeps.
const CACHED: u64 = 128;
/// Bytes of a view and its reader themselves.
const OVERHEAD: u64 = 1 << 10;
/// Most entries of the index over a map.
const COARSE: u64 = 1 << 16;

/// A relocation that can be read.
pub struct View<'a> {
    relocation: &'a Relocation,
    index: Rc<Index<'a>>,
    /// Addresses in memory, and those of code among them, from one to another.
    memory: Vec<(u64, u64)>,
    code: Vec<(u64, u64)>,
}

/// A map in which an entry is found at once. Many views may share one.
pub(super) struct Index<'a> {
    map: &'a [(u64, i64)],
    /// For each step of addresses the last map entry that does not begin after it.
    coarse: Vec<u32>,
    first: u64,
    step_log: u32,
}

/// Addresses that move by the same distance: those around an instruction are nearly always.
#[derive(Clone, Copy)]
struct Stretch {
    start: u64,
    length: u64,
    distance: i64,
}

impl Stretch {
    const NONE: Self = Self { start: 0, length: 0, distance: 0 };
}

/// Memory of a view that is being read besides its relocation, in bytes.
pub(super) fn memory(relocation: &Relocation) -> u64 {
    let sections = relocation.regions.iter().filter(|region| region.rule == Rule::TypeNumbers);
    let longest = sections.map(|region| region.length.min(PATCH_TYPES)).max().unwrap_or(0);
    let loads = relocation.loads.len() as u64 * 32;
    steps(&relocation.map) * 4 + kept(relocation) * (BLOCK + 32) + longest + loads + OVERHEAD
}

/// Most entries of the index over a map: of a small one fewer, as making them takes longer than finding an entry.
fn steps(map: &[(u64, i64)]) -> u64 {
    COARSE.min(map.len() as u64 + 16)
}

/// Blocks that a reader keeps.
fn kept(relocation: &Relocation) -> u64 {
    let end = relocation.regions.iter().map(|region| region.offset.saturating_add(region.length)).max();
    CACHED.min(end.unwrap_or(0).div_ceil(BLOCK) + 1)
}

impl<'a> Index<'a> {
    /// The index over the map of a relocation.
    pub(super) fn new(map: &'a [(u64, i64)]) -> Self {
        let first = map.first().map_or(0, |entry| entry.0);
        let span = map.last().map_or(0, |entry| entry.0) - first;
        let mut step_log = 8;
        while span >> step_log >= steps(map) {
            step_log += 1;
        }
        let mut coarse = Vec::with_capacity((span >> step_log) as usize + 1);
        let mut entry = 0;
        for step in 0..=span >> step_log {
            while map.get(entry + 1).is_some_and(|next| next.0 - first <= step << step_log) {
                entry += 1;
            }
            coarse.push(entry as u32);
        }
        Self { map, coarse, first, step_log }
    }

    /// Is it over this map?
    pub(super) fn is_over(&self, map: &[(u64, i64)]) -> bool {
        std::ptr::eq(self.map, map)
    }

    /// The last entry of the map that does not begin after an address.
    fn entry(&self, address: u64) -> Option<usize> {
        let map = self.map;
        if address < self.first || map.is_empty() {
            return None;
        }
        let step = (((address - self.first) >> self.step_log) as usize).min(self.coarse.len() - 1);
        let mut entry = self.coarse[step] as usize;
        // Within a step there may be many entries: look at a few, then halve.
        for _ in 0..8 {
            match map.get(entry + 1) {
                Some(next) if next.0 <= address => entry += 1,
                _ => return Some(entry),
            }
        }
        entry += map[entry..].partition_point(|next| next.0 <= address) - 1;
        Some(entry)
    }
}

impl<'a> View<'a> {
    /// Prepares a relocation for reading.
    pub fn new(relocation: &'a Relocation) -> Self {
        Self::with(relocation, Rc::new(Index::new(&relocation.map)))
    }

    fn with(relocation: &'a Relocation, index: Rc<Index<'a>>) -> Self {
        let loads = || relocation.loads.iter().map(|load| (load.code, (load.address, load.length)));
        let memory = loads().map(|(_, range)| range).collect();
        let code = loads().filter_map(|(is_code, range)| is_code.then_some(range)).collect();
        Self { relocation, index, memory, code }
    }

    /// How far an address moves.
    fn distance(&self, address: u64) -> i64 {
        self.index.entry(address).map_or(0, |entry| self.index.map[entry].1)
    }

    /// The addresses around this one that move as far as it does.
    fn stretch(&self, address: u64) -> Stretch {
        let map = self.index.map;
        match self.index.entry(address) {
            Some(entry) => {
                let (start, distance) = map[entry];
                let end = map.get(entry + 1).map_or(u64::MAX, |next| next.0);
                Stretch { start, length: end - start, distance }
            }
            None => Stretch { start: 0, length: map.first().map_or(u64::MAX, |first| first.0), distance: 0 },
        }
    }

    fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|(start, length)| address.wrapping_sub(*start) < *length)
    }

    fn is_address(&self, address: u64) -> bool {
        self.memory.iter().any(|(start, length)| address.wrapping_sub(*start) < *length)
    }

    /// Rewrites the bytes of the file that begin at `start`, the beginning of a block, in place.
    #[cfg(any(feature = "publish", test))]
    pub(crate) fn rewrite(&self, start: u64, bytes: &mut [u8]) {
        let end = start + bytes.len() as u64;
        for region in self.relocation.regions.iter().filter(|region| region.rule == Rule::TypeNumbers) {
            if region.offset >= start && region.offset + region.length <= end {
                let within = (region.offset - start) as usize;
                self.type_numbers(&mut bytes[within..within + region.length as usize]);
            }
        }
        self.rewrite_blocks(start, bytes);
    }

    /// The same, but for what can only be rewritten as a whole.
    fn rewrite_blocks(&self, start: u64, bytes: &mut [u8]) {
        let regions = &self.relocation.regions;
        let mut from = start;
        let end = start + bytes.len() as u64;
        let mut next = regions.partition_point(|region| region.offset + region.length <= start);
        while from < end {
            let Some(region) = regions.get(next).filter(|region| region.offset < end) else { break };
            let block_end = (from / BLOCK + 1) * BLOCK;
            let low = from.max(region.offset);
            let high = block_end.min(end).min(region.offset + region.length);
            if low < high {
                self.rewrite_piece(region, low, &mut bytes[(low - start) as usize..(high - start) as usize]);
            }
            if region.offset + region.length <= block_end {
                next += 1;
                from = from.max(region.offset + region.length);
            } else {
                from = block_end;
            }
        }
    }

    /// Rewrites what lies in one block and in one region.
    fn rewrite_piece(&self, region: &Region, offset: u64, piece: &mut [u8]) {
        let address = region.address.wrapping_add(offset - region.offset);
        match region.rule {
            Rule::CodeX86 => self.code_x86(address, piece),
            Rule::Words => self.words(address, piece),
            Rule::Relative => self.relative(address, piece),
            Rule::Mixed => self.mixed(address, piece),
            Rule::FrameTable => self.frame_table(region.address, address, piece),
            Rule::CodeArm64 => self.code_arm64(address, piece),
            // Cannot be read from the middle: rewritten as a whole.
            Rule::TypeNumbers => {}
        }
    }

    fn code_x86(&self, address: u64, piece: &mut [u8]) {
        let mut near = Stretch::NONE;
        let mut after = 0;
        let mut marks = [0; BLOCK as usize];
        mark_x86(piece, &mut marks);
        for start in (0..piece.len()).step_by(8) {
            let mut eight = read_u64(&marks, start);
            while eight != 0 {
                let at = start + (eight.trailing_zeros() / 8) as usize;
                eight &= eight - 1;
                // Not within what was rewritten just now.
                if at < after || at + 6 > piece.len() {
                    continue;
                }
                let (field, code_only) = match (piece[at], piece[at + 1]) {
                    (0xE8 | 0xE9, _) => (at + 1, true),
                    (0x0F, second) if second & 0xF0 == 0x80 => (at + 2, true),
                    (0x0F, _) if at + 7 <= piece.len() && piece[at + 2] & 0xC7 == 5 => (at + 3, false),
                    (first, _) if OPERAND[usize::from(first)] => (at + 2, false),
                    _ => continue,
                };
                let here = address.wrapping_add(field as u64);
                let value = read_i32(piece, field);
                let target = here.wrapping_add(4).wrapping_add_signed(i64::from(value));
                if if code_only { self.is_code(target) } else { self.is_address(target) } {
                    write_i32(piece, field, self.moved(value, target, here, &mut near));
                    after = field + 4;
                }
            }
        }
    }

    /// A distance from `here` to `target` after both have moved, in 32 bits.
    fn moved(&self, value: i32, target: u64, here: u64, near: &mut Stretch) -> i32 {
        if here.wrapping_sub(near.start) >= near.length {
            *near = self.stretch(here);
        }
        value.wrapping_add(self.distance(target).wrapping_sub(near.distance) as i32)
    }

    fn words(&self, address: u64, piece: &mut [u8]) {
        let mut at = misaligned(address, 8);
        while at + 8 <= piece.len() {
            self.word(piece, at);
            at += 8;
        }
    }

    fn word(&self, piece: &mut [u8], at: usize) -> bool {
        let value = read_u64(piece, at);
        let known = value >= BLOCK && self.is_address(value);
        if known {
            piece[at..at + 8].copy_from_slice(&value.wrapping_add_signed(self.distance(value)).to_le_bytes());
        }
        known
    }

    fn relative(&self, address: u64, piece: &mut [u8]) {
        let mut near = Stretch::NONE;
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            self.relative_word(address, piece, at, &mut near);
            at += 4;
        }
    }

    fn relative_word(&self, address: u64, piece: &mut [u8], at: usize, near: &mut Stretch) {
        let value = read_i32(piece, at);
        let here = address.wrapping_add(at as u64);
        let target = here.wrapping_add_signed(i64::from(value));
        if value.unsigned_abs() > 256 && self.is_code(target) {
            write_i32(piece, at, self.moved(value, target, here, near));
        }
    }

    fn mixed(&self, address: u64, piece: &mut [u8]) {
        let mut near = Stretch::NONE;
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            if address.wrapping_add(at as u64).is_multiple_of(8) && at + 8 <= piece.len() && self.word(piece, at) {
                at += 8;
            } else {
                self.relative_word(address, piece, at, &mut near);
                at += 4;
            }
        }
    }

    fn frame_table(&self, table: u64, address: u64, piece: &mut [u8]) {
        let mut at = misaligned(address, 4);
        let moved_table = self.distance(table);
        while at + 4 <= piece.len() {
            // The twelve bytes before the table are no entries.
            if address.wrapping_add(at as u64).wrapping_sub(table) >= 12 {
                let value = read_i32(piece, at);
                let target = table.wrapping_add_signed(i64::from(value));
                write_i32(piece, at, value.wrapping_add(self.distance(target).wrapping_sub(moved_table) as i32));
            }
            at += 4;
        }
    }

    fn code_arm64(&self, address: u64, piece: &mut [u8]) {
        let mut near = Stretch::NONE;
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            let word = read_i32(piece, at) as u32;
            let here = address.wrapping_add(at as u64);
            if word & 0x7C00_0000 == 0x1400_0000 {
                let value = ((word << 6) as i32) >> 4;
                let target = here.wrapping_add_signed(i64::from(value));
                if self.is_code(target) {
                    let moved = self.moved(value, target, here, &mut near);
                    write_i32(piece, at, (word & 0xFC00_0000 | (moved as u32 >> 2) & 0x03FF_FFFF) as i32);
                }
            } else if word & 0x9F00_0000 == 0x9000_0000 {
                self.page_pair(here, piece, at, word);
            }
            at += 4;
        }
    }

    fn type_numbers(&self, section: &mut [u8]) {
        btf::each_number(section, |section, at, space| {
            let number = read_i32(section, at) as u32;
            if number != 0 {
                let moved = self.distance(space + u64::from(number)) as i32;
                write_i32(section, at, (number as i32).wrapping_add(moved));
            }
        });
    }

    /// ADRP, and the low bits of its target in one of the four instructions that follow.
    fn page_pair(&self, here: u64, piece: &mut [u8], at: usize, word: u32) {
        let register = word & 31;
        let pages = ((word >> 3 & 0x1F_FFFC | word >> 29 & 3) << 11) as i32 >> 11;
        let page = (here & !0xFFF).wrapping_add_signed(i64::from(pages) << 12);
        let mut partner = None;
        for place in (at + 4..piece.len().saturating_sub(3)).step_by(4).take(4) {
            let next = read_i32(piece, place) as u32;
            let scale = if next & 0xFFC0_0000 == 0x9100_0000 {
                0
            } else if next & 0x3B00_0000 == 0x3900_0000 {
                if next & 0x0480_0000 == 0x0480_0000 { 4 } else { next >> 30 }
            } else {
                continue;
            };
            if next >> 5 & 31 == register {
                partner = Some((place, next, scale));
                break;
            }
        }
        let low = partner.map_or(0, |(_, next, scale)| u64::from(next >> 10 & 0xFFF) << scale);
        let target = page.wrapping_add(low);
        if !self.is_address(target) {
            return;
        }
        let moved = target.wrapping_add_signed(self.distance(target));
        let moved_here = here.wrapping_add_signed(self.distance(here));
        let pages = ((moved >> 12).wrapping_sub(moved_here >> 12)) as u32 & 0x1F_FFFF;
        write_i32(piece, at, (word & 0x9F00_001F | (pages & 3) << 29 | (pages >> 2) << 5) as i32);
        if let Some((place, next, scale)) = partner {
            let low = (moved & 0xFFF) >> scale;
            write_i32(piece, place, (next & !(0xFFF << 10) | (low as u32) << 10) as i32);
        }
    }
}

/// First bytes of x86-64 instructions with an operand.
const OPERANDS: [u8; 67] = [
    0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0A, 0x0B, 0x20, 0x21, 0x22, 0x23, 0x28, 0x29, 0x2A, 0x2B, 0x30, 0x31, 0x32,
    0x33, 0x38, 0x39, 0x3A, 0x3B, 0x63, 0x69, 0x6B, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B,
    0x8D, 0xC6, 0xC7, 0xD9, 0xDB, 0xDD, 0xDF, 0xF6, 0xF7, 0xFE, 0xFF, 0x10, 0x11, 0x12, 0x14, 0x16, 0x2E, 0x2F, 0x51,
    0x54, 0x57, 0x58, 0x59, 0x5C, 0x5E, 0x6F, 0x7F, 0xD6, 0xEF,
];

/// Is a byte one of these?
static OPERAND: [bool; 256] = {
    let mut is_operand = [false; 256];
    let mut at = 0;
    while at < OPERANDS.len() {
        is_operand[OPERANDS[at] as usize] = true;
        at += 1;
    }
    is_operand
};

/// Marks where a call, a jump, an instruction of two bytes or an operand relative to the instruction pointer may begin:
/// about one byte in fifteen. Without branches, so that the compiler makes it look at many bytes at a time.
fn mark_x86(piece: &[u8], marks: &mut [u8; BLOCK as usize]) {
    let bytes = piece.iter().zip(piece.iter().skip(1)).zip(piece.iter().skip(2));
    for (mark, ((first, second), third)) in marks.iter_mut().zip(bytes) {
        let operand = second & 0xC7 == 5;
        let escaped = (*first == 0x0F) & ((second & 0xF0 == 0x80) | (third & 0xC7 == 5));
        *mark = u8::from((first & 0xFE == 0xE8) | escaped | operand);
    }
}

fn misaligned(address: u64, alignment: u64) -> usize {
    (address.wrapping_neg() % alignment) as usize
}

fn read_i32(bytes: &[u8], at: usize) -> i32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    i32::from_le_bytes(word)
}

fn write_i32(bytes: &mut [u8], at: usize, value: i32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Reads a view, and keeps the blocks read last.
pub(super) struct ViewReader<'a> {
    view: View<'a>,
    blocks: Vec<(u64, Vec<u8>)>,
    /// The section that was rewritten as a whole last.
    section: Option<(Region, Vec<u8>)>,
}

impl<'a> ViewReader<'a> {
    /// A reader of a relocation, with the index over its map.
    pub(super) fn new(relocation: &'a Relocation, index: Rc<Index<'a>>) -> Self {
        let blocks = vec![(u64::MAX, Vec::new()); kept(relocation) as usize];
        Self { view: View::with(relocation, index), blocks, section: None }
    }

    /// Fills `out` with what the view shows from `offset` on.
    pub(super) fn read_at(&mut self, old: &dyn Contents, offset: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        let length = old.length(self.view.relocation.file).unwrap_or(0);
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let start = at / BLOCK * BLOCK;
            let whole = (out.len() - done) as u64 / BLOCK * BLOCK;
            if at == start && whole > 0 && whole <= length.saturating_sub(start) {
                // Blocks that are wanted as a whole need not be kept.
                let blocks = &mut out[done..done + whole as usize];
                self.show(old, start, blocks)?;
                done += blocks.len();
                continue;
            }
            let block = self.block(old, start)?;
            let from = (at - start) as usize;
            let count = block.len().saturating_sub(from).min(out.len() - done);
            if count == 0 {
                return Err(DeltaError::Malformed("a view is read beyond its end"));
            }
            out[done..done + count].copy_from_slice(&block[from..from + count]);
            done += count;
        }
        Ok(())
    }

    /// Reads blocks and rewrites them.
    fn show(&mut self, old: &dyn Contents, start: u64, blocks: &mut [u8]) -> Result<(), DeltaError> {
        old.read_at(self.view.relocation.file, start, blocks).map_err(DeltaError::Read)?;
        self.view.rewrite_blocks(start, blocks);
        self.put_sections(old, start, blocks)
    }

    fn block(&mut self, old: &dyn Contents, start: u64) -> Result<&[u8], DeltaError> {
        let file = self.view.relocation.file;
        let length = old.length(file).unwrap_or(0).saturating_sub(start).min(BLOCK) as usize;
        let place = (start / BLOCK) as usize % self.blocks.len();
        if self.blocks[place].0 != start {
            let mut block = std::mem::take(&mut self.blocks[place].1);
            self.blocks[place].0 = u64::MAX;
            block.resize(length, 0);
            self.show(old, start, &mut block)?;
            self.blocks[place] = (start, block);
        }
        Ok(&self.blocks[place].1)
    }

    /// Puts in what cannot be rewritten block by block.
    fn put_sections(&mut self, old: &dyn Contents, start: u64, blocks: &mut [u8]) -> Result<(), DeltaError> {
        let relocation = self.view.relocation;
        let end = start + blocks.len() as u64;
        let sections = relocation.regions.iter().filter(|region| region.rule == Rule::TypeNumbers);
        for region in sections.filter(|region| region.offset < end && region.offset + region.length > start) {
            if region.length > PATCH_TYPES {
                return Err(DeltaError::Malformed("a section of a view is too large"));
            }
            if self.section.as_ref().is_none_or(|(known, _)| known != region) {
                // The other one goes first: only one has room.
                self.section = None;
                let mut bytes = vec![0; region.length as usize];
                old.read_at(relocation.file, region.offset, &mut bytes).map_err(DeltaError::Read)?;
                self.view.type_numbers(&mut bytes);
                self.section = Some((*region, bytes));
            }
            if let Some((_, bytes)) = &self.section {
                let (from, to) = (region.offset.max(start), (region.offset + region.length).min(end));
                let within = &bytes[(from - region.offset) as usize..(to - region.offset) as usize];
                blocks[(from - start) as usize..(to - start) as usize].copy_from_slice(within);
            }
        }
        Ok(())
    }
}

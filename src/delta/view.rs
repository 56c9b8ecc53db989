//! Old files as if the targets of their addresses had moved: computed block by block, the same on every machine.

use crate::delta::{Contents, DeltaError, btf};
use crate::limits::PATCH_TYPES;
use crate::model::{Region, Relocation, Rule};

/// Bytes that are rewritten at a time: what is recognised depends on nothing outside of its block and region.
pub(super) const BLOCK: u64 = 4096;
/// Blocks that a reader keeps.
const CACHED: usize = 128;
/// Most entries of the index over a map.
const COARSE: u64 = 1 << 16;

/// A relocation that can be read.
pub struct View<'a> {
    relocation: &'a Relocation,
    /// For each step of addresses the last map entry that does not begin after it.
    coarse: Vec<u32>,
    first: u64,
    step_log: u32,
}

/// Memory of a view besides its relocation, and of its readers' blocks, in bytes.
pub(super) fn memory(relocation: Option<&Relocation>) -> u64 {
    let sections = relocation.into_iter().flat_map(|relocation| &relocation.regions);
    let sections =
        sections.filter(|region| region.rule == Rule::TypeNumbers).map(|region| region.length.min(PATCH_TYPES));
    // Of a section where its numbers are, too: one in four bytes.
    COARSE * 4 + CACHED as u64 * (BLOCK + 32) + 5 * sections.max().unwrap_or(0)
}

impl<'a> View<'a> {
    /// Prepares a relocation for reading.
    pub fn new(relocation: &'a Relocation) -> Self {
        let map = &relocation.map;
        let first = map.first().map_or(0, |entry| entry.0);
        let span = map.last().map_or(0, |entry| entry.0) - first;
        let mut step_log = 8;
        while span >> step_log >= COARSE {
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
        Self { relocation, coarse, first, step_log }
    }

    /// How far an address moves.
    fn distance(&self, address: u64) -> i64 {
        let map = &self.relocation.map;
        if address < self.first || map.is_empty() {
            return 0;
        }
        let step = (((address - self.first) >> self.step_log) as usize).min(self.coarse.len() - 1);
        let mut entry = self.coarse[step] as usize;
        // Within a step there may be many entries: look at a few, then halve.
        for _ in 0..8 {
            match map.get(entry + 1) {
                Some(next) if next.0 <= address => entry += 1,
                _ => return map[entry].1,
            }
        }
        entry += map[entry..].partition_point(|next| next.0 <= address) - 1;
        map[entry].1
    }

    fn is_code(&self, address: u64) -> bool {
        self.relocation.loads.iter().any(|load| load.code && address.wrapping_sub(load.address) < load.length)
    }

    fn is_address(&self, address: u64) -> bool {
        self.relocation.loads.iter().any(|load| address.wrapping_sub(load.address) < load.length)
    }

    /// Rewrites the bytes of the file that begin at `start`, the beginning of a block, in place.
    pub(crate) fn rewrite(&self, start: u64, bytes: &mut [u8]) {
        let regions = &self.relocation.regions;
        let mut from = start;
        let end = start + bytes.len() as u64;
        for region in regions.iter().filter(|region| region.rule == Rule::TypeNumbers) {
            if region.offset >= start && region.offset + region.length <= end {
                let within = (region.offset - start) as usize;
                self.type_numbers(&mut bytes[within..within + region.length as usize]);
            }
        }
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
        let mut at = 0;
        while at + 6 <= piece.len() {
            let (field, code_only) = match X86[usize::from(u16::from_le_bytes([piece[at], piece[at + 1]]))] {
                NOTHING => {
                    at += 1;
                    continue;
                }
                CALL => (at + 1, true),
                JUMP => (at + 2, true),
                OPERAND => (at + 2, false),
                ESCAPE if at + 7 <= piece.len() && piece[at + 2] & 0xC7 == 5 => (at + 3, false),
                _ => {
                    at += 1;
                    continue;
                }
            };
            let here = address.wrapping_add(field as u64);
            let value = read_i32(piece, field);
            let target = here.wrapping_add(4).wrapping_add_signed(i64::from(value));
            if if code_only { self.is_code(target) } else { self.is_address(target) } {
                write_i32(piece, field, self.moved(value, target, here));
                at = field + 4;
            } else {
                at += 1;
            }
        }
    }

    /// A distance from `here` to `target` after both have moved, in 32 bits.
    fn moved(&self, value: i32, target: u64, here: u64) -> i32 {
        value.wrapping_add(self.distance(target).wrapping_sub(self.distance(here)) as i32)
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
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            self.relative_word(address, piece, at);
            at += 4;
        }
    }

    fn relative_word(&self, address: u64, piece: &mut [u8], at: usize) {
        let value = read_i32(piece, at);
        let here = address.wrapping_add(at as u64);
        let target = here.wrapping_add_signed(i64::from(value));
        if value.unsigned_abs() > 256 && self.is_code(target) {
            write_i32(piece, at, self.moved(value, target, here));
        }
    }

    fn mixed(&self, address: u64, piece: &mut [u8]) {
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            if address.wrapping_add(at as u64).is_multiple_of(8) && at + 8 <= piece.len() && self.word(piece, at) {
                at += 8;
            } else {
                self.relative_word(address, piece, at);
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
        let mut at = misaligned(address, 4);
        while at + 4 <= piece.len() {
            let word = read_i32(piece, at) as u32;
            let here = address.wrapping_add(at as u64);
            if word & 0x7C00_0000 == 0x1400_0000 {
                let value = ((word << 6) as i32) >> 4;
                let target = here.wrapping_add_signed(i64::from(value));
                if self.is_code(target) {
                    let moved = self.moved(value, target, here);
                    write_i32(piece, at, (word & 0xFC00_0000 | (moved as u32 >> 2) & 0x03FF_FFFF) as i32);
                }
            } else if word & 0x9F00_0000 == 0x9000_0000 {
                self.page_pair(here, piece, at, word);
            }
            at += 4;
        }
    }

    fn type_numbers(&self, section: &mut [u8]) {
        let mut numbers = Vec::new();
        btf::each_number(section, |at, space| numbers.push((at, space)));
        for (at, space) in numbers {
            let number = read_i32(section, at) as u32;
            if number != 0 {
                let moved = self.distance(space + u64::from(number)) as i32;
                write_i32(section, at, (number as i32).wrapping_add(moved));
            }
        }
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

/// What two x86-64 bytes may begin.
const NOTHING: u8 = 0;
const CALL: u8 = 1;
const JUMP: u8 = 2;
const OPERAND: u8 = 3;
const ESCAPE: u8 = 4;

/// First bytes of instructions with an operand.
const OPERANDS: [u8; 67] = [
    0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0A, 0x0B, 0x20, 0x21, 0x22, 0x23, 0x28, 0x29, 0x2A, 0x2B, 0x30, 0x31, 0x32,
    0x33, 0x38, 0x39, 0x3A, 0x3B, 0x63, 0x69, 0x6B, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B,
    0x8D, 0xC6, 0xC7, 0xD9, 0xDB, 0xDD, 0xDF, 0xF6, 0xF7, 0xFE, 0xFF, 0x10, 0x11, 0x12, 0x14, 0x16, 0x2E, 0x2F, 0x51,
    0x54, 0x57, 0x58, 0x59, 0x5C, 0x5E, 0x6F, 0x7F, 0xD6, 0xEF,
];

/// Of each two bytes, the first one the lower, what they may begin: a call, a jump, an operand relative to the
/// instruction pointer, a two-byte instruction that may have one. One look, since most bytes begin nothing.
static X86: [u8; 1 << 16] = {
    let mut table = [NOTHING; 1 << 16];
    let mut second = 0;
    while second < 256 {
        table[0xE8 | second << 8] = CALL;
        table[0xE9 | second << 8] = CALL;
        table[0x0F | second << 8] = if second & 0xF0 == 0x80 { JUMP } else { ESCAPE };
        let mut at = 0;
        while second & 0xC7 == 5 && at < OPERANDS.len() {
            table[OPERANDS[at] as usize | second << 8] = OPERAND;
            at += 1;
        }
        second += 1;
    }
    table
};

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
    pub(super) fn new(relocation: &'a Relocation) -> Self {
        Self { view: View::new(relocation), blocks: vec![(u64::MAX, Vec::new()); CACHED], section: None }
    }

    /// Fills `out` with what the view shows from `offset` on.
    pub(super) fn read_at(&mut self, old: &dyn Contents, offset: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let start = at / BLOCK * BLOCK;
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

    fn block(&mut self, old: &dyn Contents, start: u64) -> Result<&[u8], DeltaError> {
        let file = self.view.relocation.file;
        let length = old.length(file).unwrap_or(0).saturating_sub(start).min(BLOCK) as usize;
        let place = (start / BLOCK) as usize % CACHED;
        if self.blocks[place].0 != start {
            let mut block = std::mem::take(&mut self.blocks[place].1);
            self.blocks[place].0 = u64::MAX;
            block.resize(length, 0);
            old.read_at(file, start, &mut block).map_err(DeltaError::Read)?;
            self.view.rewrite(start, &mut block);
            self.put_sections(old, start, &mut block)?;
            self.blocks[place] = (start, block);
        }
        Ok(&self.blocks[place].1)
    }

    /// Puts in what cannot be rewritten block by block.
    fn put_sections(&mut self, old: &dyn Contents, start: u64, block: &mut [u8]) -> Result<(), DeltaError> {
        let relocation = self.view.relocation;
        let end = start + block.len() as u64;
        let sections = relocation.regions.iter().filter(|region| region.rule == Rule::TypeNumbers);
        for region in sections.filter(|region| region.offset < end && region.offset + region.length > start) {
            if region.length > PATCH_TYPES {
                return Err(DeltaError::Malformed("a section of a view is too large"));
            }
            if self.section.as_ref().is_none_or(|(known, _)| known != region) {
                let mut bytes = vec![0; region.length as usize];
                old.read_at(relocation.file, region.offset, &mut bytes).map_err(DeltaError::Read)?;
                self.view.type_numbers(&mut bytes);
                self.section = Some((*region, bytes));
            }
            if let Some((_, bytes)) = &self.section {
                let (from, to) = (region.offset.max(start), (region.offset + region.length).min(end));
                let within = &bytes[(from - region.offset) as usize..(to - region.offset) as usize];
                block[(from - start) as usize..(to - start) as usize].copy_from_slice(within);
            }
        }
        Ok(())
    }
}

//! ELF files: what they load, what their sections hold, and how far addresses have moved between two of them.
//!
//! Nothing here can do harm: a header that lies makes a view that predicts badly, and is then not used.

use super::cover::Cover;
use crate::model::{Load, Region, Rule};

const LOADS: usize = 64;
const SECTIONS: usize = 1024;

/// What is known of an ELF file.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    /// Loaded parts: by address, `length` as it is in memory.
    pub(super) loads: Vec<Load>,
    /// Bytes of each loaded part in the file.
    stored: Vec<u64>,
    /// Where addresses may stand, with the rules worth trying, the likeliest first; by offset, without overlaps.
    pub(super) regions: Vec<(Region, &'static [Rule])>,
}

/// Reads the headers of a 64-bit little-endian ELF file for x86-64 or AArch64.
pub(super) fn parse(bytes: &[u8]) -> Option<Elf> {
    if bytes.len() < 64 || !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let code = match number(bytes, 18, 2)? {
        62 => &[Rule::CodeX86][..],
        183 => &[Rule::CodeArm64][..],
        _ => return None,
    };
    let (loads, stored, frame_table) = loads(bytes)?;
    let mut regions = sections(bytes, &loads, &stored, code, frame_table);
    if regions.is_empty() {
        for (load, stored) in loads.iter().zip(&stored) {
            let rules = if load.code { code } else { DATA };
            regions
                .push((Region { offset: load.offset, length: *stored, address: load.address, rule: rules[0] }, rules));
        }
    }
    regions.retain(|(region, _)| {
        region.length >= 16 && region.offset.checked_add(region.length).is_some_and(|end| end <= bytes.len() as u64)
    });
    regions.sort_by_key(|(region, _)| region.offset);
    let mut end = 0;
    regions.retain(|(region, _)| {
        let fits = region.offset >= end;
        if fits {
            end = region.offset + region.length;
        }
        fits
    });
    Some(Elf { loads, stored, regions })
}

const DATA: &[Rule] = &[Rule::Mixed, Rule::Words, Rule::Relative];
const TABLES: &[Rule] = &[Rule::Words];
const FRAMES: &[Rule] = &[Rule::Relative];
const FRAME_TABLE: &[Rule] = &[Rule::FrameTable];

type Loads = (Vec<Load>, Vec<u64>, Option<u64>);

fn loads(bytes: &[u8]) -> Option<Loads> {
    let (table, entry, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let mut found = Vec::new();
    let mut frame_table = None;
    for index in 0..count.min(LOADS as u64) {
        let at = usize::try_from(table.checked_add(index * entry)?).ok()?;
        let field = |from: usize| number(bytes, at.checked_add(from)?, 8);
        let (kind, flags) = (number(bytes, at, 4)?, number(bytes, at.checked_add(4)?, 4)?);
        let (offset, address, stored, length) = (field(8)?, field(16)?, field(32)?, field(40)?);
        match kind {
            1 if length >= stored && stored > 0 => {
                address.checked_add(length).filter(|end| *end < 1 << 62)?;
                offset.checked_add(stored).filter(|end| *end <= bytes.len() as u64)?;
                found.push((Load { offset, address, length, code: flags & 1 == 1 }, stored));
            }
            0x6474_e550 => frame_table = Some(offset),
            _ => {}
        }
    }
    found.sort_by_key(|(load, _)| load.address);
    let apart = found.windows(2).all(|two| two[0].0.address + two[0].0.length <= two[1].0.address);
    let (loads, stored): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    (apart && !loads.is_empty()).then_some((loads, stored, frame_table))
}

fn sections(
    bytes: &[u8],
    loads: &[Load],
    stored: &[u64],
    code: &'static [Rule],
    frame_table: Option<u64>,
) -> Vec<(Region, &'static [Rule])> {
    let header = |at, size| number(bytes, at, size).unwrap_or(0);
    let (table, entry, count) = (header(40, 8), header(58, 2), header(60, 2));
    let mut regions = Vec::new();
    for index in 0..if table == 0 { 0 } else { count.min(SECTIONS as u64) } {
        let Some(at) = table.checked_add(index * entry).and_then(|at| usize::try_from(at).ok()) else { break };
        let field = |from: usize, size| at.checked_add(from).and_then(|at| number(bytes, at, size)).unwrap_or(0);
        let (kind, flags) = (field(4, 4), field(8, 8));
        let (address, offset, length) = (field(16, 8), field(24, 8), field(32, 8));
        let inside = loads.iter().zip(stored).any(|(load, stored)| {
            offset >= load.offset
                && offset.checked_add(length).is_some_and(|end| end <= load.offset + stored)
                && address.wrapping_sub(load.address) == offset - load.offset
        });
        // Allocated and not empty in the file.
        if flags & 2 == 0 || kind == 8 || !inside {
            continue;
        }
        let rules = match kind {
            _ if Some(offset) == frame_table => FRAME_TABLE,
            _ if flags & 4 != 0 => code,
            // Symbols, relocations, arrays of functions, the dynamic section.
            4 | 6 | 11 | 14 | 15 | 16 => TABLES,
            1 if flags & 1 != 0 => DATA,
            0x7000_0001 => FRAMES,
            1 => DATA,
            _ => continue,
        };
        regions.push((Region { offset, length, address, rule: rules[0] }, rules));
    }
    regions
}

/// Where the type information (BTF) of a 64-bit file stands: offset and length.
pub(super) fn type_section(bytes: &[u8]) -> Option<(usize, usize)> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry, count) = (number(bytes, 40, 8)?, number(bytes, 58, 2)?, number(bytes, 60, 2)?);
    (0..count.min(SECTIONS as u64)).find_map(|index| {
        let at = usize::try_from(table.checked_add(index * entry)?).ok()?;
        let field = |from: usize| usize::try_from(number(bytes, at.checked_add(from)?, 8)?).ok();
        let (offset, length) = (field(24)?, field(32)?);
        let section = bytes.get(offset..offset.checked_add(length)?)?;
        (number(bytes, at.checked_add(4)?, 4)? == 1 && section.starts_with(&[0x9F, 0xEB, 1]))
            .then_some((offset, length))
    })
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let taken = bytes.get(at..at.checked_add(size)?)?;
    Some(taken.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl Elf {
    /// The address of an offset, and the next offset from which on it may be another one.
    fn address(&self, offset: u64) -> (Option<u64>, u64) {
        let mut border = u64::MAX;
        for (load, stored) in self.loads.iter().zip(&self.stored) {
            if offset < load.offset {
                border = border.min(load.offset);
            } else if offset < load.offset + stored {
                return (Some(load.address + (offset - load.offset)), load.offset + stored);
            }
        }
        (None, border)
    }

    /// Where the part after the stored bytes begins, for each loaded part that has one.
    fn unstored(&self) -> impl Iterator<Item = u64> + '_ {
        let parts = self.loads.iter().zip(&self.stored);
        parts.filter(|(load, stored)| load.length > **stored).map(|(load, stored)| load.address + stored)
    }
}

/// How far the addresses of `old` have moved, by covers between the two files that are at least `shortest` bytes long.
pub(super) fn map(covers: &[Cover], old: &Elf, new: &Elf, shortest: usize) -> Vec<(u64, i64)> {
    let mut pieces = Vec::new();
    for cover in owned(covers, shortest) {
        let mut at = 0;
        while at < cover.length {
            let (from, border) = old.address((cover.old + at) as u64);
            let (to, other) = new.address((cover.new + at) as u64);
            let length = (border - (cover.old + at) as u64).min(other - (cover.new + at) as u64);
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(cover.length - at);
            if let (Some(from), Some(to)) = (from, to) {
                pieces.push((from, to.wrapping_sub(from) as i64));
            }
            at += length.max(1);
        }
    }
    let ends: Vec<_> = new.unstored().collect();
    pieces.extend(old.unstored().zip(ends).map(|(from, to)| (from, to.wrapping_sub(from) as i64)));
    pieces.sort_unstable();
    pieces.dedup_by_key(|piece| piece.0);
    // Before the first match of a loaded part, what holds for that match holds as well.
    for load in &old.loads {
        let first = pieces.partition_point(|piece| piece.0 < load.address);
        if let Some(piece) = pieces.get_mut(first)
            && (load.address..load.address + load.length).contains(&piece.0)
        {
            piece.0 = load.address;
        }
    }
    pieces.dedup_by(|next, last| next.1 == last.1);
    pieces
}

/// The covers, by old position and without overlaps: the longest own what several want.
fn owned(covers: &[Cover], shortest: usize) -> Vec<Cover> {
    let mut by_length: Vec<_> = covers.iter().filter(|cover| cover.length >= shortest).collect();
    by_length.sort_by_key(|cover| (usize::MAX - cover.length, cover.new));
    let mut owned = std::collections::BTreeMap::<usize, Cover>::new();
    for cover in by_length {
        let (mut from, mut to) = (cover.old, cover.old_end());
        if let Some((_, before)) = owned.range(..=from).next_back() {
            from = from.max(before.old_end());
        }
        if let Some((after, _)) = owned.range(from..).next() {
            to = to.min(*after);
        }
        if to >= from + shortest {
            owned.insert(from, Cover { old: from, new: cover.new + (from - cover.old), length: to - from });
        }
    }
    owned.into_values().collect()
}

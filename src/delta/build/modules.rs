//! Kernel modules: their type information names types of the kernel by number, and every release numbers them anew.

use super::cover::{Cover, Pair};
use super::index::{Index, agreement};
use super::plan::{Effort, file_covers};
use super::{Corpus, elf};
use crate::delta::{DeltaError, View, btf};
use crate::limits::{PATCH_MAP, PATCH_TYPES, PATCH_VIEWS};
use crate::model::{Region, Relocation, Rule};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Numbers that are seen less often are left as they are: an entry of the map would cost more.
const SEEN: u32 = 3;

/// A view, the bytes that it shows, and covers from them.
type Moved = (Relocation, Vec<u8>, Vec<Cover>);

/// What a module is made from: numbers within the corpora, and the section of the old file.
struct Module {
    new: usize,
    old: usize,
    offset: usize,
    length: usize,
}

/// Views of old modules with their numbers as the new kernel has them. Changes the old content and the covers.
pub(super) fn relocate(
    old: &mut Corpus,
    new: &Corpus,
    covers: &mut [Vec<Cover>],
    effort: &Effort,
    views: &mut Vec<Relocation>,
) -> Result<(), DeltaError> {
    let modules = modules(old, new, covers);
    let mut votes = HashMap::<(u64, u64), u32>::new();
    for module in &modules {
        module.vote(old, new, &covers[module.new], &mut votes);
    }
    let map = Arc::new(map(&votes));
    let entries: usize = views.iter().map(|view| view.map.len()).sum();
    if modules.is_empty() || map.is_empty() || entries + map.len() > PATCH_MAP {
        return Ok(());
    }
    let changed: Vec<Option<Moved>> = modules
        .par_iter()
        .map(|module| module.moved(old, new, &covers[module.new], &map, effort))
        .collect::<Result<_, DeltaError>>()?;
    for (module, changed) in modules.iter().zip(changed) {
        let Some((relocation, bytes, moved)) = changed else { continue };
        if views.len() == PATCH_VIEWS {
            break;
        }
        let file = &mut old.files[module.old];
        file.view = Some(views.len() as u32);
        old.bytes[file.start..file.start + file.length].copy_from_slice(&bytes);
        covers[module.new] = moved;
        views.push(relocation);
    }
    Ok(())
}

fn modules(old: &Corpus, new: &Corpus, covers: &[Vec<Cover>]) -> Vec<Module> {
    let mut best = BTreeMap::<usize, (usize, usize)>::new();
    for (number, covers) in covers.iter().enumerate() {
        if !new.bytes_of(number).starts_with(b"\x7fELF") {
            continue;
        }
        let Some((from, bytes)) = super::most_drawn(old, covers) else { continue };
        let entry = best.entry(from).or_insert((bytes, number));
        if entry.0 < bytes {
            *entry = (bytes, number);
        }
    }
    let found = best.into_iter().filter(|(from, _)| old.files[*from].view.is_none() && old.files[*from].whole);
    found
        .filter_map(|(from, (_, number))| {
            let (offset, length) = elf::type_section(old.bytes_of(from))?;
            (length as u64 <= PATCH_TYPES).then_some(Module { new: number, old: from, offset, length })
        })
        .collect()
}

impl Module {
    /// Counts which new numbers stand where old ones were.
    fn vote(&self, old: &Corpus, new: &Corpus, covers: &[Cover], votes: &mut HashMap<(u64, u64), u32>) {
        let start = old.files[self.old].start + self.offset;
        let section = &old.bytes[start..start + self.length];
        let mut by_old: Vec<&Cover> =
            covers.iter().filter(|cover| cover.old < start + self.length && cover.old_end() > start).collect();
        by_old.sort_by_key(|cover| cover.old);
        btf::each_number(&mut section.to_vec(), |_, at, space| {
            let place = start + at;
            let next = by_old.partition_point(|cover| cover.old <= place);
            let Some(cover) = next.checked_sub(1).map(|last| by_old[last]) else { return };
            if place + 4 > cover.old_end() {
                return;
            }
            let number = |bytes: &[u8], at: usize| {
                bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
            };
            let (from, to) = (number(section, at), number(&new.bytes, cover.new + (place - cover.old)));
            if from != 0 {
                *votes.entry((space + from, space + to)).or_default() += 1;
            }
        });
    }

    fn moved(
        &self,
        old: &Corpus,
        new: &Corpus,
        covers: &[Cover],
        map: &Arc<Vec<(u64, i64)>>,
        effort: &Effort,
    ) -> Result<Option<Moved>, DeltaError> {
        let file = &old.files[self.old];
        let region =
            Region { offset: self.offset as u64, length: self.length as u64, address: 0, rule: Rule::TypeNumbers };
        let relocation = Relocation {
            file: file.number,
            pieces: Vec::new(),
            loads: Vec::new(),
            regions: vec![region],
            map: Arc::clone(map),
        };
        let mut bytes = old.bytes_of(self.old).to_vec();
        View::new(&relocation).rewrite(0, &mut bytes);
        let target = &new.files[self.new];
        let content = new.bytes_of(self.new);
        let index = Index::new(&bytes, &[(0, bytes.len())], effort.width, effort.step(bytes.len()));
        let pair = Pair { old: &bytes, new: content, search: effort.search };
        let local = file_covers(&pair, &index, 0, content.len(), Some(0))?;
        let price = |covers: &[Cover], old: &[u8], new: &[u8]| {
            let (mut copied, mut differing) = (0, 0);
            for cover in covers {
                copied += cover.length;
                differing +=
                    cover.length - agreement(&old[cover.old..cover.old_end()], &new[cover.new..cover.new_end()]);
            }
            content.len() - copied.min(content.len()) + differing + 6 * covers.len()
        };
        if price(&local, &bytes, content) + 16 >= price(covers, &old.bytes, &new.bytes) {
            return Ok(None);
        }
        let global =
            |cover: Cover| Cover { old: cover.old + file.start, new: cover.new + target.start, length: cover.length };
        Ok(Some((relocation, bytes, local.into_iter().map(global).collect())))
    }
}

/// How far each number has moved, by what most have seen.
fn map(votes: &HashMap<(u64, u64), u32>) -> Vec<(u64, i64)> {
    let mut sorted: Vec<(u64, u32, u64)> = votes.iter().map(|((from, to), count)| (*from, *count, *to)).collect();
    sorted.sort_unstable_by_key(|(from, count, to)| (*from, u32::MAX - count, *to));
    sorted.dedup_by_key(|vote| vote.0);
    // Neighbours that moved equally far are one run; a run that few have seen is noise.
    let mut runs: Vec<(u64, i64, u32)> = Vec::new();
    for (from, count, to) in sorted {
        let distance = to as i64 - from as i64;
        match runs.last_mut() {
            Some(run) if run.1 == distance && (run.0 < btf::NAMES) == (from < btf::NAMES) => run.2 += count,
            _ => runs.push((from, distance, count)),
        }
    }
    runs.retain(|run| run.2 >= SEEN);
    let names = runs.partition_point(|run| run.0 < btf::NAMES);
    if runs.get(names).is_some_and(|run| run.0 > btf::NAMES) {
        runs.insert(names, (btf::NAMES, 0, SEEN));
    }
    let mut map: Vec<(u64, i64)> = runs.into_iter().map(|(from, distance, _)| (from, distance)).collect();
    map.dedup_by(|next, last| next.1 == last.1 && (next.0 < btf::NAMES) == (last.0 < btf::NAMES));
    map
}

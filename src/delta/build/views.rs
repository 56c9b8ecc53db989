//! Views of old executables: which addresses to move, and how far, so that the new ones are predicted best.

use super::Corpus;
use super::cover::{Cover, Pair};
use super::elf::{self, Elf};
use super::index::Index;
use super::plan::{Effort, file_covers};
use crate::delta::{DeltaError, View};
use crate::limits::{PATCH_MAP, PATCH_REGIONS, PATCH_VIEWS};
use crate::model::{Region, Relocation};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shortest cover that goes into a map while it is only used to look again.
const SHORTEST: usize = 24;
/// Shortest covers that are tried for the map that goes into the patch.
const THINNED: usize = 32;
/// Bytes that an entry of a map takes in the patch, about.
const ENTRY: usize = 4;

/// Moves the addresses of old executables where that makes covers better. Changes the old content and the covers.
pub(super) fn relocate(
    old: &mut Corpus,
    new: &Corpus,
    covers: &mut [Vec<Cover>],
    effort: &Effort,
    room: usize,
) -> Result<Vec<Relocation>, DeltaError> {
    if effort.passes == 0 {
        return Ok(Vec::new());
    }
    let candidates = candidates(old, new, covers);
    let found: Vec<Option<Found>> = candidates
        .par_iter()
        .map(|candidate| candidate.best(old, new, &covers[candidate.new], effort))
        .collect::<Result<_, DeltaError>>()?;
    let mut views = Vec::new();
    let mut entries = 0;
    for (candidate, found) in candidates.iter().zip(found) {
        let Some(found) = found else { continue };
        entries += found.relocation.map.len();
        if entries > room || views.len() == PATCH_VIEWS {
            break;
        }
        let file = &mut old.files[candidate.old];
        file.view = Some(views.len() as u32);
        let range = file.start..file.start + file.length;
        View::new(&found.relocation).rewrite(0, &mut old.bytes[range]);
        covers[candidate.new] = found.covers;
        views.push(found.relocation);
    }
    Ok(views)
}

struct Candidate {
    old: usize,
    new: usize,
    old_elf: Elf,
    new_elf: Elf,
}

struct Found {
    relocation: Relocation,
    covers: Vec<Cover>,
}

/// Pairs of executables: each new one with the old one that most of it comes from. An old one has one view at most.
fn candidates(old: &Corpus, new: &Corpus, covers: &[Vec<Cover>]) -> Vec<Candidate> {
    let mut best = BTreeMap::<usize, (usize, usize)>::new();
    for (number, covers) in covers.iter().enumerate() {
        if !new.bytes_of(number).starts_with(b"\x7fELF") {
            continue;
        }
        let Some((from, bytes)) = super::most_drawn(old, covers) else { continue };
        if !old.files[from].whole || !new.files[number].whole {
            continue;
        }
        let entry = best.entry(from).or_insert((bytes, number));
        if entry.0 < bytes {
            *entry = (bytes, number);
        }
    }
    let parsed = best.into_iter().filter_map(|(from, (_, number))| {
        let (old_bytes, new_bytes) = (old.bytes_of(from), new.bytes_of(number));
        // Most executables that are the same are exactly the same.
        if old_bytes == new_bytes {
            return None;
        }
        Some(Candidate { old: from, new: number, old_elf: elf::parse(old_bytes)?, new_elf: elf::parse(new_bytes)? })
    });
    parsed.collect()
}

impl Candidate {
    /// The best view, if one is worth having.
    fn best(&self, old: &Corpus, new: &Corpus, covers: &[Cover], effort: &Effort) -> Result<Option<Found>, DeltaError> {
        let (old_start, new_start) = (old.files[self.old].start, new.files[self.new].start);
        let (plain, target) = (old.bytes_of(self.old), new.bytes_of(self.new));
        let before = cost(covers, &old.bytes, &new.bytes, new_start, target.len());
        // In positions of the two files.
        let mut local: Vec<Cover> = covers
            .iter()
            .filter(|cover| cover.old >= old_start && cover.old_end() <= old_start + plain.len())
            .map(|cover| Cover { old: cover.old - old_start, new: cover.new - new_start, length: cover.length })
            .collect();
        let mut result = None;
        for pass in 1..=effort.passes {
            let last = pass == effort.passes;
            let map = elf::map(&local, &self.old_elf, &self.new_elf, if last { THINNED } else { SHORTEST });
            let mut relocation = Relocation {
                file: old.files[self.old].number,
                pieces: Vec::new(),
                loads: self.old_elf.loads.clone(),
                regions: Vec::new(),
                map: Arc::new(map),
            };
            relocation.regions = self.rules(&relocation, plain, target, &local);
            if relocation.map.is_empty() || relocation.regions.is_empty() || relocation.map.len() > PATCH_MAP {
                return Ok(None);
            }
            // What is only looked at for the next map may miss some.
            let step = effort.step(plain.len()) * if last { 1 } else { 2 };
            let mut moved = plain.to_vec();
            View::new(&relocation).rewrite(0, &mut moved);
            let index = Index::new(&moved, &[(0, moved.len())], effort.width, step);
            let mut search = effort.search;
            search.local = if last { search.local } else { 0 };
            let pair = Pair { old: &moved, new: target, search };
            local = file_covers(&pair, &index, 0, target.len(), Some(0))?;
            if last {
                let after = cost(&local, &moved, target, 0, target.len()) + relocation.map.len() * ENTRY + 64;
                if after < before {
                    let global = |cover: &Cover| Cover {
                        old: cover.old + old_start,
                        new: cover.new + new_start,
                        length: cover.length,
                    };
                    result = Some(Found { relocation, covers: local.iter().map(global).collect() });
                }
                break;
            }
        }
        Ok(result)
    }

    /// For each region the rule that leaves the fewest differences; none if that is no rule.
    fn rules(&self, relocation: &Relocation, plain: &[u8], target: &[u8], covers: &[Cover]) -> Vec<Region> {
        let regions = &self.old_elf.regions[..self.old_elf.regions.len().min(PATCH_REGIONS)];
        let most = regions.iter().map(|(_, rules)| rules.len()).max().unwrap_or(0);
        let spans: Vec<(usize, usize)> = regions
            .iter()
            .map(|(region, _)| (region.offset as usize, (region.offset + region.length) as usize))
            .collect();
        let mut best: Vec<(usize, Option<Region>)> =
            differences(&spans, plain, target, covers).into_iter().map(|count| (count, None)).collect();
        for choice in 0..most {
            let tried: Vec<Region> = regions
                .iter()
                .filter_map(|(region, rules)| rules.get(choice).map(|rule| Region { rule: *rule, ..*region }))
                .collect();
            let attempt = Relocation { regions: tried.clone(), ..relocation.clone() };
            let mut moved = plain.to_vec();
            View::new(&attempt).rewrite(0, &mut moved);
            let counts = differences(&spans, &moved, target, covers);
            for (at, (region, rules)) in regions.iter().enumerate() {
                let Some(rule) = rules.get(choice) else { continue };
                if counts[at] + 8 < best[at].0 {
                    best[at] = (counts[at], Some(Region { rule: *rule, ..*region }));
                }
            }
        }
        best.into_iter().filter_map(|(_, region)| region).collect()
    }
}

/// Bytes that differ along the covers, for each span of the old file.
fn differences(spans: &[(usize, usize)], old: &[u8], new: &[u8], covers: &[Cover]) -> Vec<usize> {
    let mut counts = vec![0; spans.len()];
    for cover in covers {
        let first = spans.partition_point(|span| span.1 <= cover.old);
        for (span, count) in spans.iter().zip(&mut counts).skip(first) {
            let (from, to) = (span.0.max(cover.old), span.1.min(cover.old_end()));
            if from >= to {
                break;
            }
            let at = cover.new + (from - cover.old);
            *count += to - from - super::index::agreement(&old[from..to], &new[at..at + (to - from)]);
        }
    }
    counts
}

/// About how many bytes covers take in a patch, before coders: literals, differences, and the covers themselves.
fn cost(covers: &[Cover], old: &[u8], new: &[u8], start: usize, length: usize) -> usize {
    let mut copied = 0;
    let mut differing = 0;
    for cover in covers.iter().filter(|cover| cover.new >= start) {
        let (from, to) = (&old[cover.old..cover.old_end()], &new[cover.new..cover.new_end()]);
        copied += cover.length;
        differing += cover.length - super::index::agreement(from, to);
    }
    length - copied.min(length) + differing + 6 * covers.len()
}

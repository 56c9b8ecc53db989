//! What is compared with what: jobs of new content with the old content that it most likely comes from, each small
//! enough for the memory that a build may take.

use super::archives::Archives;
use super::index::word;
use super::{Level, Options, Tree};
use crate::delta::DeltaError;
use std::collections::HashMap;

/// Part of a file that is in memory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// New content, and old content to make it from.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) old: Vec<Unit>,
    pub(super) new: Vec<Unit>,
}

/// Bytes of memory that building takes for each byte of old and new content: the content itself, a copy of it with
/// addresses moved, the index, and streams.
const FACTOR: u64 = 5;
/// The same at the first level, where nothing is moved and the index is small.
const FAST_FACTOR: u64 = 3;
/// Most content of one job: positions have 32 bits.
const MOST: u64 = 3 << 30;
/// Old trees up to this length are compared with everything: looking first would save nothing.
const SMALL: u64 = 64 << 20;
/// Jobs that are remembered for a sample.
const KEPT: usize = 4;
/// No job.
const NONE: u32 = u32::MAX;
/// Old files with neighbouring names that a new file without a counterpart is compared with, at the first level.
const NEIGHBOURS: usize = 4;
/// Bytes of a sampled piece.
const PIECE: usize = 32;
/// Most samples of the new content.
const SAMPLES: usize = 4 << 20;
/// Bytes of memory that a sample takes while the table of them grows: an entry of 36 bytes, half of the places of the new
/// table and an eighth of those of the old one empty.
const SAMPLE: u64 = 128;

/// The jobs of a build. Together they have every byte of the new content once.
pub(super) fn jobs(
    old: &Tree<'_>,
    new: &Tree<'_>,
    pairs: &[Option<usize>],
    options: &Options,
    archives: &Archives,
) -> Result<Vec<Job>, DeltaError> {
    let fast = options.level == Level::Fast;
    let factor = if fast { FAST_FACTOR } else { FACTOR };
    let budget = (options.memory / factor).clamp(1 << 20, MOST);
    let chunk = usize::try_from(budget / 4).unwrap_or(usize::MAX).clamp(1 << 17, 256 << 20);
    let (old_units, new_units) = (units(old, chunk, None)?, units(new, chunk, Some(archives))?);
    let total = |units: &[Unit]| units.iter().map(|unit| unit.length as u64).sum::<u64>();
    let (old_total, new_total) = (total(&old_units), total(&new_units));
    if !fast && old_total <= SMALL && old_total + new_total <= budget {
        return Ok(vec![Job { old: old_units, new: new_units }]);
    }
    let mut jobs = Vec::<Job>::new();
    let mut room = 0;
    for unit in new_units {
        if jobs.is_empty() || unit.length as u64 > room {
            jobs.push(Job::default());
            room = budget / 3;
        }
        room = room.saturating_sub(unit.length as u64);
        if let Some(job) = jobs.last_mut() {
            job.new.push(unit);
        }
    }
    let rank = match fast {
        true => Ranking::by_name(old, new, pairs, &old_units, &jobs),
        false => {
            let most = usize::try_from(options.memory / 2 / SAMPLE).unwrap_or(SAMPLES).clamp(1 << 12, SAMPLES);
            Ranking::new(old, new, pairs, &old_units, &jobs, (new_total, most))?
        }
    };
    for (number, job) in jobs.iter_mut().enumerate() {
        let mut room = budget.saturating_sub(total(&job.new));
        let mut ranked: Vec<(u64, &Unit)> =
            old_units.iter().zip(&rank.hits).filter_map(|(unit, hits)| Some((*hits.get(&number)?, unit))).collect();
        ranked.sort_by_key(|(hits, unit)| (u64::MAX - hits, **unit));
        for (_, unit) in ranked {
            if unit.length as u64 <= room {
                room -= unit.length as u64;
                job.old.push(*unit);
            }
        }
        job.old.sort_unstable();
    }
    Ok(jobs)
}

fn units(tree: &Tree<'_>, chunk: usize, archives: Option<&Archives>) -> Result<Vec<Unit>, DeltaError> {
    let mut out = Vec::new();
    for file in 0..tree.paths.len() as u32 {
        let length = tree.contents.length(file).ok_or(DeltaError::Malformed("no such file"))?;
        let mut offset = 0;
        loop {
            let part = (length - offset).min(chunk as u64);
            let part = archives.map_or(part, |archives| archives.cut(file, offset, offset + part) - offset);
            out.push(Unit { file, offset, length: part as usize });
            offset += part;
            if offset == length {
                break;
            }
        }
    }
    Ok(out)
}

/// How much each old unit has in common with each job.
struct Ranking {
    hits: Vec<HashMap<usize, u64>>,
}

impl Ranking {
    /// Without a look into any file: counterparts, and neighbours of what has none.
    fn by_name(old: &Tree<'_>, new: &Tree<'_>, pairs: &[Option<usize>], old_units: &[Unit], jobs: &[Job]) -> Self {
        let mut sorted: Vec<u32> = (0..old.paths.len() as u32).collect();
        sorted.sort_unstable_by_key(|file| &old.paths[*file as usize]);
        // Of each old file the jobs that want it, with the parts that they have of its counterpart.
        let mut wanted = HashMap::<u32, Vec<(usize, u64, u64)>>::new();
        for (number, job) in jobs.iter().enumerate() {
            for unit in &job.new {
                let mut want =
                    |file: u32, span: (u64, u64)| wanted.entry(file).or_default().push((number, span.0, span.1));
                match pairs[unit.file as usize] {
                    // What a part of a large file comes from is not far from where it is.
                    Some(paired) => {
                        let reach = unit.length as u64 / 2;
                        want(
                            paired as u32,
                            (unit.offset.saturating_sub(reach), unit.offset + unit.length as u64 + reach),
                        );
                    }
                    None if unit.length > 0 => {
                        let path = &new.paths[unit.file as usize];
                        let place = sorted.partition_point(|file| old.paths[*file as usize] < *path);
                        let from = place.saturating_sub(NEIGHBOURS / 2);
                        sorted.iter().skip(from).take(NEIGHBOURS).for_each(|file| want(*file, (0, u64::MAX)));
                    }
                    None => {}
                }
            }
        }
        let hits = old_units.iter().map(|unit| {
            let end = unit.offset + unit.length as u64;
            let near =
                wanted.get(&unit.file).into_iter().flatten().filter(|(_, from, to)| unit.offset < *to && end > *from);
            near.map(|(job, ..)| (*job, 1)).collect()
        });
        Self { hits: hits.collect() }
    }

    fn new(
        old: &Tree<'_>,
        new: &Tree<'_>,
        pairs: &[Option<usize>],
        old_units: &[Unit],
        jobs: &[Job],
        (new_total, most): (u64, usize),
    ) -> Result<Self, DeltaError> {
        let sparse = (new_total / most as u64).max(64).next_power_of_two().trailing_zeros();
        // Of each sample the jobs that it was seen in first, and whether a file of the right name has it.
        let mut samples = HashMap::<u64, ([u32; KEPT], bool)>::new();
        let mut wanted = HashMap::<u32, Vec<usize>>::new();
        let mut buffer = Vec::new();
        for (number, job) in jobs.iter().enumerate() {
            for unit in &job.new {
                read(new, unit, &mut buffer)?;
                sample(&buffer, sparse, |hash| {
                    // How many come is a matter of luck.
                    if samples.len() == most && !samples.contains_key(&hash) {
                        return;
                    }
                    let (jobs, _) = samples.entry(hash).or_insert(([NONE; KEPT], false));
                    if let Some(place) = jobs.iter_mut().find(|job| [NONE, number as u32].contains(job)) {
                        *place = number as u32;
                    }
                });
                if let Some(paired) = pairs[unit.file as usize] {
                    let jobs = wanted.entry(paired as u32).or_default();
                    if jobs.last() != Some(&number) {
                        jobs.push(number);
                    }
                }
            }
        }
        let mut hits = vec![HashMap::new(); old_units.len()];
        for paired in [true, false] {
            for (unit, hits) in old_units.iter().zip(&mut hits) {
                let named = wanted.get(&unit.file);
                if named.is_some() != paired || unit.length == 0 {
                    continue;
                }
                let whole = named.filter(|_| old.contents.length(unit.file) == Some(unit.length as u64));
                for job in whole.into_iter().flatten() {
                    hits.insert(*job, 1 << 32);
                }
                read(old, unit, &mut buffer)?;
                sample(&buffer, sparse, |hash| {
                    let Some((jobs, explained)) = samples.get_mut(&hash) else { return };
                    if paired || !*explained {
                        for job in jobs.iter().filter(|job| **job != NONE) {
                            *hits.entry(*job as usize).or_insert(0) += 1;
                        }
                        *explained |= paired;
                    }
                });
            }
        }
        Ok(Self { hits })
    }
}

fn read(tree: &Tree<'_>, unit: &Unit, buffer: &mut Vec<u8>) -> Result<(), DeltaError> {
    buffer.resize(unit.length, 0);
    tree.contents.read_at(unit.file, unit.offset, buffer).map_err(DeltaError::Read)
}

/// Visits the hashes of some pieces: which ones depends on what is in them, not on where they are.
fn sample(bytes: &[u8], sparse: u32, mut visit: impl FnMut(u64)) {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    for piece in bytes.windows(PIECE) {
        let head = word(piece, 0);
        if head.wrapping_mul(ODD) >> (64 - sparse) == 1 && head != head.rotate_left(8) {
            let rest =
                [8, 16, 24].iter().fold(head, |hash, at| (hash ^ word(piece, *at)).wrapping_mul(ODD).rotate_left(29));
            visit(rest);
        }
    }
}

//! The course of a build: what is compared with what, and how the result is cut into segments.

use super::archives::{Archives, NewSide, OldSide};
use super::cover::{Cover, Pair, Search};
use super::index::Index;
use super::select::{self, Job};
use super::streams::{self, Encoded};
use super::{Corpus, FileReport, Level, Options, Patch, Placed, Progress, Tree, Way, modules, most_drawn, text, views};
use crate::delta::DeltaError;
use crate::limits::{PATCH_MAP, PATCH_OUTPUT};
use crate::model::{Extent, Method, Relocation};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes of new content that one task looks for covers of.
const PIECE: usize = 4 << 20;

/// Bytes that must be missing in one place to be looked for elsewhere, at the first level.
const LARGE_GAP: usize = 4 << 10;

/// How a level looks for covers.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Bytes of a piece that is looked for.
    pub(super) width: usize,
    /// Every how many positions a coarse index has; nothing for a full one.
    coarse: Option<usize>,
    pub(super) search: Search,
    /// How often addresses are moved and covers looked for again.
    pub(super) passes: usize,
}

impl Effort {
    pub(super) fn of(level: Level) -> Self {
        let (width, coarse, local, passes) = match level {
            Level::Fast => (24, Some(16), 0, 0),
            Level::Default => (12, None, 4 << 10, 2),
            Level::Best => (12, None, 16 << 10, 3),
        };
        Self { width, coarse, search: Search { keep: 44, gain: 8, hurry: coarse.is_some(), local }, passes }
    }

    /// The index of old content.
    pub(super) fn index(&self, old: &[u8]) -> Index {
        match self.coarse {
            Some(step) => Index::coarse(old, self.width, step),
            None => Index::new(old, &[(0, old.len())], self.width, self.step(old.len())),
        }
    }

    /// Every how many positions old content of this length is indexed.
    pub(super) fn step(&self, length: usize) -> usize {
        match length >> 20 {
            0..16 => 1,
            16..64 => 2,
            _ => 4,
        }
    }
}

/// Counts what is done, and ends the build when it is to end.
pub(super) struct Clock<'a> {
    progress: &'a dyn Progress,
    done: Mutex<u64>,
    total: u64,
}

impl Clock<'_> {
    pub(super) fn step(&self, bytes: usize) -> Result<(), DeltaError> {
        // Whoever tells it holds it, so that nobody is told of less than before.
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = (*done + bytes as u64).min(self.total);
        if self.progress.step(*done, self.total) { Ok(()) } else { Err(DeltaError::Cancelled) }
    }
}

pub(super) fn encode(
    old: &Tree<'_>,
    new: &Tree<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Patch, DeltaError> {
    let mut pairs = pairs(&old.paths, &new.paths);
    let archives = Archives::find(old, new, &pairs, options, progress)?;
    archives.pair(&mut pairs);
    let (old_side, new_side) = (
        OldSide { contents: old.contents, archives: &archives },
        NewSide { contents: new.contents, archives: &archives },
    );
    let real = (old.contents, new.contents);
    let old = &Tree { contents: &old_side, paths: archives.paths(&old.paths) };
    let new = &Tree { contents: &new_side, paths: new.paths.clone() };
    let jobs = select::jobs(old, new, &pairs, options, &archives)?;
    let bytes: usize = jobs.iter().flat_map(|job| &job.new).map(|unit| unit.length).sum();
    let clock = Clock { progress, done: Mutex::new(0), total: 2 * bytes as u64 };
    clock.step(0)?;
    let build = Build { old, new, pairs: &pairs, options, archives: &archives, clock: &clock };
    let mut patch = Patch { views: Vec::new(), segments: Vec::new(), files: Vec::new() };
    for job in jobs {
        encode_job(&build, &job, &mut patch)?;
    }
    patch.segments = archives.settle(real.0, real.1, patch.segments, &mut patch.views, options)?;
    Ok(patch)
}

/// What a build goes by.
struct Build<'a> {
    old: &'a Tree<'a>,
    new: &'a Tree<'a>,
    pairs: &'a [Option<usize>],
    options: &'a Options,
    archives: &'a Archives,
    clock: &'a Clock<'a>,
}

/// Adds to the patch what makes the new content of one job.
fn encode_job(build: &Build<'_>, job: &Job, patch: &mut Patch) -> Result<(), DeltaError> {
    let Build { options, archives, clock, .. } = *build;
    let effort = Effort::of(options.level);
    let mut old = Corpus::load(build.old.contents, &job.old)?;
    let new = Corpus::load(build.new.contents, &job.new)?;
    // Where the paired file begins; of a part of a large file the part at the same place.
    let pairs: Vec<Option<usize>> = new
        .files
        .iter()
        .map(|file| {
            let paired = build.pairs[file.number as usize]? as u32;
            let last = old.files.partition_point(|other| (other.number, other.offset) <= (paired, file.offset));
            last.checked_sub(1).filter(|last| old.files[*last].number == paired)
        })
        .collect();
    // At the first level text is not looked at twice.
    let skipped = |file: usize| options.level == Level::Fast && text::is_text(&new, file);
    let mut covers = all_covers(&old, &new, &pairs, &effort, &skipped, clock)?;
    let first = patch.views.len();
    let mut views = views::relocate(&mut old, &new, &mut covers, &effort, PATCH_MAP - mapped(&patch.views))?;
    if options.level != Level::Fast {
        modules::relocate(&mut old, &new, &mut covers, &effort, &mut views)?;
    }
    let mut segments = Vec::new();
    let mut history = vec![false; new.files.len()];
    for (files, encoded) in text::segments(&old, &new, &covers, &pairs, options)? {
        clock.step(files.iter().map(|file| new.files[*file].length).sum())?;
        files.into_iter().for_each(|file| history[file] = true);
        segments.push(encoded);
    }
    let encoded: Vec<Vec<Encoded>> = tasks(&new, &history, options, archives)
        .par_iter()
        .map(|outputs| {
            let mut out = Vec::new();
            cover_segments(&old, &new, outputs, &covers, options, archives, &mut out);
            clock.step(outputs.iter().map(|output| output.0.length as usize).sum())?;
            Ok(out)
        })
        .collect::<Result<_, DeltaError>>()?;
    segments.extend(encoded.into_iter().flatten());
    patch.files.extend(report(&old, &new, &covers, &segments, archives));
    for (segment, _) in &mut segments {
        for view in segment.sources.iter_mut().filter_map(|source| source.view.as_mut()) {
            *view += first as u32;
        }
    }
    patch.views.extend(views);
    patch.segments.extend(segments);
    Ok(())
}

/// Entries of all maps.
fn mapped(views: &[Relocation]) -> usize {
    views.iter().map(|view| view.map.len()).sum::<usize>().min(PATCH_MAP)
}

/// New content in pieces of the length of a segment.
fn tasks(new: &Corpus, history: &[bool], options: &Options, archives: &Archives) -> Vec<Vec<(Extent, usize)>> {
    let most = options.segment.clamp(1, PATCH_OUTPUT as usize);
    let mut tasks: Vec<Vec<(Extent, usize)>> = Vec::new();
    let mut room = 0;
    for (file, _) in new.files.iter().zip(history).filter(|(_, history)| !**history) {
        let mut at = 0;
        while at < file.length {
            if room == 0 {
                tasks.push(Vec::new());
                room = most;
            }
            let from = file.offset + at as u64;
            let end = archives.cut(file.number, from, from + room.min(file.length - at) as u64);
            let length = (end - from) as usize;
            if length > room && room < most {
                room = 0;
                continue;
            }
            let extent = Extent { file: file.number, offset: from, length: length as u64 };
            if let Some(task) = tasks.last_mut() {
                task.push((extent, file.start + at));
            }
            at += length;
            room = room.saturating_sub(length);
        }
    }
    tasks
}

/// One segment, or several if one would be too large.
fn cover_segments(
    old: &Corpus,
    new: &Corpus,
    outputs: &[(Extent, usize)],
    covers: &[Vec<Cover>],
    options: &Options,
    archives: &Archives,
    out: &mut Vec<Encoded>,
) {
    let used = clipped(new, outputs, covers);
    let encoded = streams::cover_segment(old, new, outputs, &used, options.level, options.window_log);
    let parts = match archives.fits(outputs, encoded.1.len()) {
        true => encoded.1.len().div_ceil(options.body),
        false => encoded.1.len().div_ceil(options.body).max(2),
    };
    let parts = in_parts(outputs.to_vec(), parts, archives);
    if parts.len() < 2 {
        out.push(encoded);
        return;
    }
    drop(encoded);
    for part in parts {
        cover_segments(old, new, &part, covers, options, archives, out);
    }
}

type Outputs = Vec<(Extent, usize)>;

/// Outputs cut into about so many parts of one length, as near to that as they can be.
fn in_parts(mut outputs: Outputs, parts: usize, archives: &Archives) -> Vec<Outputs> {
    let mut out = Vec::new();
    for left in (2..=parts as u64).rev() {
        let room = outputs.iter().map(|output| output.0.length).sum::<u64>() / left;
        let (first, rest) = cut(&outputs, room, archives);
        if first.is_empty() || rest.is_empty() {
            break;
        }
        out.push(first);
        outputs = rest;
    }
    out.push(outputs);
    out
}

/// Outputs cut after about so many bytes.
fn cut(outputs: &[(Extent, usize)], mut room: u64, archives: &Archives) -> (Outputs, Outputs) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (extent, start) in outputs {
        let end = extent.offset + extent.length.min(room);
        let head = match extent.length.min(room) {
            0 => 0,
            _ => archives.cut(extent.file, extent.offset, end) - extent.offset,
        };
        // A member over which the cut would go belongs to the first part, one that only begins there does not.
        let head = if head > room && !first.is_empty() { 0 } else { head };
        room = if head < extent.length { 0 } else { room.saturating_sub(head) };
        if head > 0 {
            first.push((Extent { length: head, ..*extent }, *start));
        }
        if head < extent.length {
            let tail = Extent { offset: extent.offset + head, length: extent.length - head, ..*extent };
            second.push((tail, start + head as usize));
        }
    }
    (first, second)
}

/// The covers within these outputs, cut at their borders.
pub(super) fn clipped(new: &Corpus, outputs: &[(Extent, usize)], covers: &[Vec<Cover>]) -> Vec<Cover> {
    let mut out = Vec::new();
    for (extent, start) in outputs {
        let end = start + extent.length as usize;
        let of_file = &covers[new.file_at(*start)];
        let first = of_file.partition_point(|cover| cover.new_end() <= *start);
        for cover in of_file[first..].iter().take_while(|cover| cover.new < end) {
            let from = cover.new.max(*start);
            let length = cover.new_end().min(end) - from;
            out.push(Cover { old: cover.old + (from - cover.new), new: from, length });
        }
    }
    out
}

/// Covers of every new file, from all old files.
fn all_covers(
    old: &Corpus,
    new: &Corpus,
    pairs: &[Option<usize>],
    effort: &Effort,
    skipped: &(dyn Fn(usize) -> bool + Sync),
    clock: &Clock<'_>,
) -> Result<Vec<Vec<Cover>>, DeltaError> {
    let all = OnceLock::new();
    let files: Vec<_> = new.files.iter().zip(pairs).enumerate().collect();
    files
        .par_iter()
        .map(|(number, (file, paired))| {
            clock.step(file.length)?;
            if skipped(*number) {
                return Ok(Vec::new());
            }
            let index = || all.get_or_init(|| effort.index(&old.bytes));
            let pair = Pair { old: &old.bytes, new: &new.bytes, search: effort.search };
            if let (Some(paired), Some(_)) = (**paired, effort.coarse) {
                let covers = own_covers(old, new, file, paired, effort)?;
                return if old.files.len() == 1 { Ok(covers) } else { fill_large(&pair, index, file, covers) };
            }
            let expected = paired.map(|paired| old.files[paired].start);
            file_covers(&pair, index(), file.start, file.start + file.length, expected)
        })
        .collect()
}

/// Covers of a new file from its counterpart alone: so small an index is in the caches of the processor.
fn own_covers(
    old: &Corpus,
    new: &Corpus,
    file: &Placed,
    paired: usize,
    effort: &Effort,
) -> Result<Vec<Cover>, DeltaError> {
    let (start, own) = (old.files[paired].start, old.bytes_of(paired));
    let pair = Pair { old: own, new: &new.bytes, search: effort.search };
    let mut covers = file_covers(&pair, &effort.index(own), file.start, file.start + file.length, Some(0))?;
    covers.iter_mut().for_each(|cover| cover.old += start);
    Ok(covers)
}

/// Covers, and those of what they leave out if that is much.
fn fill_large<'a>(
    pair: &Pair<'_>,
    index: impl Fn() -> &'a Index,
    file: &Placed,
    covers: Vec<Cover>,
) -> Result<Vec<Cover>, DeltaError> {
    let covered: usize = covers.iter().map(|cover| cover.length).sum();
    if covered >= file.length - file.length / 8 {
        return Ok(covers);
    }
    let mut filled = Vec::with_capacity(covers.len());
    let mut done = file.start;
    for cover in covers.iter().copied().map(Some).chain([None]) {
        let gap_end = cover.map_or(file.start + file.length, |cover| cover.new);
        if gap_end - done >= LARGE_GAP {
            filled.extend(file_covers(pair, index(), done, gap_end, None)?);
        }
        filled.extend(cover);
        done = cover.map_or(gap_end, |cover| cover.new_end());
    }
    Ok(pair.tidy(filled))
}

/// Covers of the new bytes from `from` to `to`, found in pieces.
pub(super) fn file_covers(
    pair: &Pair<'_>,
    index: &Index,
    from: usize,
    to: usize,
    expected: Option<usize>,
) -> Result<Vec<Cover>, DeltaError> {
    let starts: Vec<usize> = (from..to).step_by(PIECE).collect();
    let pieces: Vec<Vec<Cover>> = starts
        .into_par_iter()
        .map(|start| {
            let end = to.min(start + PIECE);
            let covers = pair.covers(index, start, end, expected.filter(|_| start == from));
            pair.tidy(pair.fill(covers, start, end))
        })
        .collect();
    Ok(pair.tidy(pieces.concat()))
}

/// What makes paths of the same file alike.
type Name<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// For each new path the old file that is most likely the same.
fn pairs(old: &[Vec<u8>], new: &[Vec<u8>]) -> Vec<Option<usize>> {
    let by = |name: Name<'_>| -> HashMap<Vec<u8>, usize> {
        old.iter().enumerate().map(|(number, path)| (name(path), number)).collect()
    };
    let names: [Name<'_>; 4] = [
        &<[u8]>::to_vec,
        // Versions and other numbers in names change.
        &|path| path.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect(),
        &|path| path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec(),
        &|path| {
            let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            base.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect()
        },
    ];
    let tables: Vec<_> = names.iter().map(|name| by(name)).collect();
    let find = |path: &Vec<u8>| tables.iter().zip(names).find_map(|(table, name)| table.get(&name(path)).copied());
    new.iter().map(find).collect()
}

/// What every file has cost: the packed bytes of its segments, by what each file has put into their streams.
fn report(
    old: &Corpus,
    new: &Corpus,
    covers: &[Vec<Cover>],
    segments: &[Encoded],
    archives: &Archives,
) -> Vec<FileReport> {
    let mut reports: Vec<FileReport> = new
        .files
        .iter()
        .zip(covers)
        .map(|(file, covers)| {
            let (mut copied, mut differing) = (0, 0);
            for cover in covers {
                let (from, to) = (&old.bytes[cover.old..cover.old_end()], &new.bytes[cover.new..cover.new_end()]);
                copied += cover.length;
                differing += cover.length - super::index::agreement(from, to);
            }
            let most = most_drawn(old, covers).map(|most| most.0);
            let way = match most {
                _ if file.length == 0 => Way::Empty,
                None => Way::Whole,
                Some(from) if old.files[from].view.is_some() => Way::Relocated,
                Some(_) => Way::Cover,
            };
            FileReport {
                file: file.number,
                way,
                packed: 0,
                inflation: archives.inflation(file.number),
                content: file.length as u64,
                copied: copied as u64,
                differing: differing as u64,
                from: most.map(|file| archives.old_file(old.files[file].number)),
            }
        })
        .collect();
    for (segment, body) in segments {
        let mut shares = Vec::with_capacity(segment.outputs.len());
        for extent in &segment.outputs {
            let place = new.files.partition_point(|file| (file.number, file.offset) <= (extent.file, extent.offset));
            let Some(at) = place.checked_sub(1) else { continue };
            let report = &mut reports[at];
            let whole = new.files[at].length.max(1) as u64;
            let put_in = match segment.method {
                Method::History => {
                    report.way = Way::History;
                    whole
                }
                Method::Cover => whole - report.copied.min(whole) + report.differing + 5 * covers[at].len() as u64,
            };
            shares.push((at, u128::from(put_in) * u128::from(extent.length) / u128::from(whole) + 1));
        }
        let sum: u128 = shares.iter().map(|share| share.1).sum();
        for (at, share) in shares {
            reports[at].packed += (body.len() as u128 * share / sum.max(1)) as u64;
        }
    }
    reports
}

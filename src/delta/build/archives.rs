//! Archives: which new ones are compared inflated, with what, and how their segments come to name real bytes again.
//!
//! Everything else here sees such a file as its inflated content ([`NewSide`]), and an inflated old one as one more old
//! file ([`OldSide`]). [`Archives::settle`] puts the real files in their place.

use super::cover::Pair;
use super::plan::{Effort, file_covers};
use super::streams::{self, Encoded};
use super::{Corpus, Inflation, Level, Options, Placed, Progress, Tree, pack};
use crate::delta::archive::{ArchiveError, MemberSet, NewPart, Part, ReadAt, Shown, inflate, parts, prepare};
use crate::delta::decode::OldFile;
use crate::delta::{Contents, DeltaError, recipe};
use crate::limits::{PATCH_BODY, PATCH_CONTENT, PATCH_OUTPUT, PATCH_PIECES, PATCH_RECIPE, PATCH_VIEWS};
use crate::model::{Extent, Member, Relocation, Segment};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// Largest member that is inflated: deflated, and inflated.
const MEMBER: u64 = PATCH_OUTPUT / 2;
const MEMBER_INFLATED: u64 = PATCH_CONTENT / 2;
/// Parts of the memory of a build that a pair may take to be looked at beside others, and to be tried at all.
const BESIDE: u64 = 256;
const TRIED: u64 = 32;
/// Bytes that describe a member in a patch, about.
const DESCRIBED: usize = 12;

/// The archives of both sides whose members are inflated.
#[derive(Default)]
pub(super) struct Archives {
    /// How many old files there are. Numbers from there on are those of `old`.
    files: u32,
    old: Vec<OldArchive>,
    new: BTreeMap<u32, NewArchive>,
    /// What was found for each new file with members.
    found: BTreeMap<u32, Inflation>,
}

struct OldArchive {
    file: u32,
    /// The new file that it is inflated for.
    new: u32,
    pieces: Vec<Part>,
}

/// A new file in parts.
struct NewArchive {
    parts: Vec<NewPart>,
    pieces: Vec<Part>,
    /// Where each part begins in the inflated content; one more for the end.
    starts: Vec<u64>,
}

/// What looking at one new file gave.
struct Looked {
    inflation: Inflation,
    new: Option<NewArchive>,
    old: Option<OldArchive>,
}

impl NewArchive {
    fn new(parts: Vec<NewPart>) -> Self {
        let (mut pieces, mut starts) = (Vec::with_capacity(parts.len()), vec![0]);
        let (mut offset, mut start) = (0, 0);
        for part in &parts {
            let piece = match part {
                NewPart::Raw { len } => Part::Raw { offset, len: *len },
                NewPart::Deflated { len, inflated_len, wrapper, .. } => {
                    Part::Deflated(Member { offset, len: *len, inflated_len: *inflated_len, wrapper: *wrapper })
                }
            };
            offset += piece.len();
            start += piece.shown();
            pieces.push(piece);
            starts.push(start);
        }
        Self { parts, pieces, starts }
    }

    fn members(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Part::Deflated(_))).count()
    }

    fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The part that a place of the inflated content lies in.
    fn part_at(&self, place: u64) -> usize {
        (self.starts.partition_point(|start| *start <= place) - 1).min(self.pieces.len() - 1)
    }

    /// The place of the file that a place of the inflated content stands for, at the border of a member or in what is raw.
    fn real(&self, place: u64) -> u64 {
        let at = self.part_at(place);
        let (within, piece) = (place - self.starts[at], &self.pieces[at]);
        piece.offset() + if within == piece.shown() { piece.len() } else { within }
    }
}

impl Archives {
    /// Looks at every new file: which of its members have changed, whether they can be made again, and whether that pays.
    pub(super) fn find(
        old: &Tree<'_>,
        new: &Tree<'_>,
        pairs: &[Option<usize>],
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, DeltaError> {
        let look = |file: usize| {
            if !progress.step(0, 1) {
                return Err(DeltaError::Cancelled);
            }
            Ok((file, look(old, new, file, pairs[file], options)?))
        };
        let length = |file: usize| new.contents.length(file as u32).unwrap_or(0);
        let small = |file: &usize| {
            let paired = pairs[*file].and_then(|paired| old.contents.length(paired as u32));
            length(*file).saturating_add(paired.unwrap_or(0)) <= options.memory / BESIDE
        };
        let (beside, alone): (Vec<usize>, Vec<usize>) = (0..new.paths.len()).partition(small);
        let mut looked: Vec<(usize, Option<Looked>)> = beside.into_par_iter().map(look).collect::<Result<_, _>>()?;
        for file in alone {
            looked.push(look(file)?);
        }
        looked.sort_by_key(|(file, _)| *file);
        let mut archives = Self { files: old.paths.len() as u32, ..Self::default() };
        let mut pieces = 0;
        for (file, looked) in looked {
            let Some(mut looked) = looked else { continue };
            pieces += looked.old.as_ref().map_or(0, |old| old.pieces.len());
            if looked.new.is_some() && (pieces > PATCH_PIECES || archives.old.len() == PATCH_VIEWS / 2) {
                looked = Looked { inflation: Inflation::TooLarge, new: None, old: None };
            }
            archives.found.insert(file as u32, looked.inflation);
            let Some(new) = looked.new else { continue };
            archives.new.insert(file as u32, new);
            archives.old.extend(looked.old);
        }
        Ok(archives)
    }

    /// Paths of the old files, and of those that are there once more, inflated.
    pub(super) fn paths(&self, old: &[Vec<u8>]) -> Vec<Vec<u8>> {
        old.iter().cloned().chain(self.old.iter().map(|archive| old[archive.file as usize].clone())).collect()
    }

    /// Pairs new files with what is inflated for them.
    pub(super) fn pair(&self, pairs: &mut [Option<usize>]) {
        for (number, archive) in self.old.iter().enumerate() {
            pairs[archive.new as usize] = Some(self.files as usize + number);
        }
    }

    /// What was found for a new file.
    pub(super) fn inflation(&self, file: u32) -> Inflation {
        self.found.get(&file).copied().unwrap_or(Inflation::None)
    }

    /// The real number of an old file.
    pub(super) fn old_file(&self, file: u32) -> u32 {
        self.inflated(file).map_or(file, |archive| archive.file)
    }

    fn inflated(&self, file: u32) -> Option<&OldArchive> {
        self.old.get(file.checked_sub(self.files)? as usize)
    }

    /// Where a file may be cut so that what is before ends at `to` or before; behind `to` if that would be nothing.
    pub(super) fn cut(&self, file: u32, from: u64, to: u64) -> u64 {
        let Some(archive) = self.new.get(&file) else { return to };
        let at = archive.part_at(to);
        let (start, end) = (archive.starts[at], archive.starts[at + 1]);
        match archive.pieces[at] {
            Part::Deflated(_) if start < to && to < end => {
                if start > from {
                    start
                } else {
                    end
                }
            }
            _ => to,
        }
    }

    /// Whether a segment that makes these outputs, with a body of this length, is within all bounds.
    pub(super) fn fits(&self, outputs: &[(Extent, usize)], body: usize) -> bool {
        let made = outputs.iter().map(|(extent, _)| extent.length).sum::<u64>();
        let extents: Vec<Extent> = outputs.iter().map(|(extent, _)| *extent).collect();
        let recipe = self.recipe(&extents).len() as u64;
        let real: u64 = extents.iter().map(|extent| self.real(extent).length).sum();
        body as u64 + recipe <= PATCH_BODY && recipe <= PATCH_RECIPE && made <= PATCH_CONTENT && real <= PATCH_OUTPUT
    }

    /// The part of the real file that comes out of a part of the inflated one.
    fn real(&self, extent: &Extent) -> Extent {
        let Some(archive) = self.new.get(&extent.file) else { return *extent };
        let offset = archive.real(extent.offset);
        Extent { offset, length: archive.real(extent.offset + extent.length) - offset, ..*extent }
    }

    /// How these outputs are assembled; nothing if no member is in them.
    fn recipe(&self, outputs: &[Extent]) -> Vec<u8> {
        let mut writer = recipe::Writer::default();
        for extent in outputs {
            let Some(archive) = self.new.get(&extent.file) else {
                writer.part(&NewPart::Raw { len: extent.length });
                continue;
            };
            let (mut at, end) = (extent.offset, extent.offset + extent.length);
            while at < end {
                let number = archive.part_at(at);
                let next = archive.starts[number + 1].min(end);
                match &archive.parts[number] {
                    NewPart::Raw { .. } => writer.part(&NewPart::Raw { len: next - at }),
                    member => writer.part(member),
                }
                at = next;
            }
        }
        writer.bytes
    }

    /// Puts real files into segments and views, proves every segment that has members, and makes plain ones of those
    /// that could not be decoded.
    pub(super) fn settle(
        &self,
        old: &dyn Contents,
        new: &dyn Contents,
        segments: Vec<Encoded>,
        views: &mut Vec<Relocation>,
        options: &Options,
    ) -> Result<Vec<Encoded>, DeltaError> {
        for view in views.iter_mut() {
            if let Some(archive) = self.inflated(view.file) {
                (view.file, view.pieces) = (archive.file, archive.pieces.clone());
            }
        }
        let mut numbers = HashMap::new();
        let mut settled = Vec::with_capacity(segments.len());
        for (mut segment, mut body) in segments {
            for source in &mut segment.sources {
                let Some(archive) = self.inflated(source.extent.file) else { continue };
                if source.view.is_none() {
                    source.view = Some(*numbers.entry(source.extent.file).or_insert_with(|| {
                        views.push(Relocation {
                            file: archive.file,
                            pieces: archive.pieces.clone(),
                            loads: Vec::new(),
                            regions: Vec::new(),
                            map: Arc::default(),
                        });
                        views.len() as u32 - 1
                    }));
                }
                source.extent.file = archive.file;
            }
            let recipe = self.recipe(&segment.outputs);
            for output in &mut segment.outputs {
                *output = self.real(output);
            }
            if !recipe.is_empty() {
                let packed = pack::pack(&recipe, pack::Kind::Integers, options.level, options.window_log);
                segment.streams.push(recipe.len() as u64);
                segment.packs.push(packed.pack());
                segment.assembled = true;
                body.extend_from_slice(&packed.bytes);
            }
            settled.push((segment, body));
        }
        let proved: Vec<Vec<Encoded>> = settled
            .into_par_iter()
            .map(|(segment, body)| {
                let reads_views = segment
                    .sources
                    .iter()
                    .any(|source| source.view.is_some_and(|view| !views[view as usize].pieces.is_empty()));
                if !(segment.assembled || reads_views) {
                    return Ok(vec![(segment, body)]);
                }
                match crate::delta::decode(&segment, &body, old, views, u64::MAX, &mut Compared::new(new, &segment)) {
                    Ok(()) => Ok(vec![(segment, body)]),
                    Err(_) => plain(new, &segment, options),
                }
            })
            .collect::<Result<_, DeltaError>>()?;
        Ok(proved.into_iter().flatten().collect())
    }
}

/// What is decoded only to see whether it is the same as the new files.
struct Compared<'a> {
    new: &'a dyn Contents,
    outputs: &'a [Extent],
    /// The output that comes, how much of it came, and what it should be.
    number: usize,
    done: u64,
    expected: Vec<u8>,
}

impl<'a> Compared<'a> {
    fn new(new: &'a dyn Contents, segment: &'a Segment) -> Self {
        Self { new, outputs: &segment.outputs, number: 0, done: 0, expected: Vec::new() }
    }
}

impl crate::delta::Sink for Compared<'_> {
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()> {
        if output != self.number {
            (self.number, self.done) = (output, 0);
        }
        let extent = self.outputs.get(output).ok_or(io::ErrorKind::InvalidData)?;
        self.expected.resize(bytes.len(), 0);
        self.new.read_at(extent.file, extent.offset + self.done, &mut self.expected)?;
        self.done += bytes.len() as u64;
        if self.expected == bytes { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// The outputs of a segment as they are.
fn plain(new: &dyn Contents, segment: &Segment, options: &Options) -> Result<Vec<Encoded>, DeltaError> {
    let mut out = Vec::new();
    let nothing = Corpus { bytes: Vec::new(), files: Vec::new() };
    for extent in &segment.outputs {
        let mut at = 0;
        while at < extent.length {
            let length = (extent.length - at).min(PATCH_BODY / 2);
            let part = Extent { offset: extent.offset + at, length, ..*extent };
            let mut bytes = vec![0; length as usize];
            new.read_at(part.file, part.offset, &mut bytes).map_err(DeltaError::Read)?;
            let corpus = Corpus { bytes, files: Vec::new() };
            out.push(streams::cover_segment(&nothing, &corpus, &[(part, 0)], &[], options.level, options.window_log));
            at += length;
        }
    }
    Ok(out)
}

/// Old files, and after them those that are inflated.
pub(super) struct OldSide<'a> {
    pub(super) contents: &'a dyn Contents,
    pub(super) archives: &'a Archives,
}

impl Contents for OldSide<'_> {
    fn length(&self, file: u32) -> Option<u64> {
        match self.archives.inflated(file) {
            Some(archive) => Some(archive.pieces.iter().map(Part::shown).sum()),
            None => self.contents.length(file),
        }
    }

    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.archives.inflated(file) {
            Some(archive) => read(self.contents, archive.file, &archive.pieces, offset, buffer),
            None => self.contents.read_at(file, offset, buffer),
        }
    }
}

/// New files, some of them inflated.
pub(super) struct NewSide<'a> {
    pub(super) contents: &'a dyn Contents,
    pub(super) archives: &'a Archives,
}

impl Contents for NewSide<'_> {
    fn length(&self, file: u32) -> Option<u64> {
        match self.archives.new.get(&file) {
            Some(archive) => Some(archive.size()),
            None => self.contents.length(file),
        }
    }

    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.archives.new.get(&file) {
            Some(archive) => read(self.contents, file, &archive.pieces, offset, buffer),
            None => self.contents.read_at(file, offset, buffer),
        }
    }
}

fn read(contents: &dyn Contents, file: u32, pieces: &[Part], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    Shown::new(OldFile { old: contents, file }, pieces).read_exact_at(offset, buffer)
}

/// Looks at one new file; nothing if it has no members.
fn look(
    old: &Tree<'_>,
    new: &Tree<'_>,
    file: usize,
    paired: Option<usize>,
    options: &Options,
) -> Result<Option<Looked>, DeltaError> {
    let plain = |inflation| Ok(Some(Looked { inflation, new: None, old: None }));
    let source = OldFile { old: new.contents, file: file as u32 };
    let new_parts = parts(&source).map_err(unread)?;
    if !has_members(&new_parts) {
        return Ok(None);
    }
    let Some((paired, old_parts)) = partner(old, &new.paths[file], paired)? else { return plain(Inflation::Alone) };
    let old_source = OldFile { old: old.contents, file: paired as u32 };
    let (mut of_old, mut of_new) = (MemberSet::default(), MemberSet::default());
    of_old.insert(&old_source, &old_parts).map_err(unread)?;
    of_new.insert(&source, &new_parts).map_err(unread)?;
    let changed = of_old.missing(&source, &new_parts).map_err(unread)?;
    if changed.is_empty() {
        return plain(Inflation::Unchanged);
    }
    let chunk = (options.memory / 40).clamp(1 << 17, MEMBER_INFLATED);
    let small = |member: &Member| member.len <= MEMBER && member.inflated_len <= chunk;
    if !changed.iter().any(small) {
        return plain(Inflation::TooLarge);
    }
    let new_parts: Vec<Part> = new_parts.into_iter().map(|part| if_small(part, &small)).collect();
    let archive = NewArchive::new(prepare(&source, &new_parts, &of_old).map_err(unread)?);
    if archive.members() == 0 {
        return plain(Inflation::NotReproduced);
    }
    let pieces = old_pieces(&old_source, &old_parts, &of_new, &small)?;
    let inflation = Inflation::Members(archive.members() as u32);
    let old_archive = has_members(&pieces).then_some(OldArchive { file: paired as u32, new: file as u32, pieces });
    let sizes = [source.size(), old_source.size(), archive.size()];
    let all = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
    // At the first level a trial would take longer than it saves.
    if all <= options.memory / TRIED && options.level != Level::Fast {
        let (plainly, inflated) = tried(&source, &old_source, &archive, old_archive.as_ref(), options)?;
        if inflated >= plainly {
            return plain(Inflation::NotSmaller);
        }
    }
    Ok(Some(Looked { inflation, new: Some(archive), old: old_archive }))
}

fn unread(error: ArchiveError) -> DeltaError {
    DeltaError::Read(error.into())
}

fn has_members(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::Deflated(_)))
}

fn if_small(part: Part, small: &dyn Fn(&Member) -> bool) -> Part {
    match part {
        Part::Deflated(member) if !small(&member) => Part::Raw { offset: member.offset, len: member.len },
        part => part,
    }
}

/// The old archive that a new one is compared with: the file it is paired with, or else the one whose name is the most
/// similar.
fn partner(old: &Tree<'_>, path: &[u8], paired: Option<usize>) -> Result<Option<(usize, Vec<Part>)>, DeltaError> {
    let parts_of = |file: usize| parts(&OldFile { old: old.contents, file: file as u32 }).map_err(unread);
    if let Some(paired) = paired {
        let parts = parts_of(paired)?;
        if has_members(&parts) {
            return Ok(Some((paired, parts)));
        }
    }
    let name = base_name(path);
    let alike = |other: &[u8]| {
        let other = base_name(other);
        let before = name.iter().zip(other).take_while(|(a, b)| a == b).count();
        let after = name.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
        (extension(name) == extension(other) && before > 0).then_some(before + after)
    };
    let best = old.paths.iter().enumerate().filter_map(|(file, path)| Some((alike(path)?, usize::MAX - file))).max();
    let Some((_, file)) = best else { return Ok(None) };
    let parts = parts_of(usize::MAX - file)?;
    Ok(has_members(&parts).then_some((usize::MAX - file, parts)))
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn extension(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'.').next().unwrap_or(name)
}

/// The old file with those members inflated that the new one does not have, too.
fn old_pieces(
    source: &OldFile<'_>,
    parts: &[Part],
    unchanged: &MemberSet,
    small: &dyn Fn(&Member) -> bool,
) -> Result<Vec<Part>, DeltaError> {
    let mut pieces: Vec<Part> = Vec::new();
    for part in parts {
        let piece = match if_small(*part, small) {
            Part::Deflated(member)
                if unchanged.contains(source, &member).map_err(unread)? || !inflates(source, &member)? =>
            {
                Part::Raw { offset: member.offset, len: member.len }
            }
            piece => piece,
        };
        match (pieces.last_mut(), piece) {
            (Some(Part::Raw { len, .. }), Part::Raw { len: more, .. }) => *len += more,
            _ => pieces.push(piece),
        }
    }
    Ok(pieces)
}

fn inflates(source: &OldFile<'_>, member: &Member) -> Result<bool, DeltaError> {
    match inflate(source, member, &mut |_| Ok(true)) {
        Ok(()) => Ok(true),
        Err(ArchiveError::Inflate { .. }) => Ok(false),
        Err(error) => Err(unread(error)),
    }
}

/// How many bytes the new file takes plainly, and inflated.
fn tried(
    new: &OldFile<'_>,
    old: &OldFile<'_>,
    archive: &NewArchive,
    old_archive: Option<&OldArchive>,
    options: &Options,
) -> Result<(usize, usize), DeltaError> {
    let old_bytes = all_of(old)?;
    let plainly = size(&[&old_bytes], &all_of(new)?, options)?;
    let content = all_of(&Shown::new(OldFile { ..*new }, &archive.pieces))?;
    let mut described = archive.members() * DESCRIBED;
    let inflated = match old_archive {
        None => size(&[&old_bytes], &content, options)?,
        Some(old_archive) => {
            described += old_archive.pieces.len() * DESCRIBED / 2;
            let shown = all_of(&Shown::new(OldFile { ..*old }, &old_archive.pieces))?;
            size(&[&shown, &old_bytes], &content, options)?
        }
    };
    Ok((plainly, inflated + described))
}

fn all_of(source: &dyn ReadAt) -> Result<Vec<u8>, DeltaError> {
    let mut bytes = vec![0; source.size() as usize];
    source.read_exact_at(0, &mut bytes).map_err(DeltaError::Read)?;
    Ok(bytes)
}

/// About how many bytes a patch from the old contents takes; the first is expected to be the most alike.
fn size(old: &[&[u8]], new: &[u8], options: &Options) -> Result<usize, DeltaError> {
    let corpus = |contents: &[&[u8]]| {
        let mut corpus = Corpus { bytes: contents.concat(), files: Vec::new() };
        let mut start = 0;
        for (number, content) in contents.iter().enumerate() {
            let (number, length) = (number as u32, content.len());
            corpus.files.push(Placed { number, offset: 0, whole: true, start, length, view: None });
            start += length;
        }
        corpus
    };
    let (old, new) = (corpus(old), corpus(&[new]));
    let effort = Effort::of(options.level);
    let index = effort.index(&old.bytes);
    let pair = Pair { old: &old.bytes, new: &new.bytes, search: effort.search };
    let covers = file_covers(&pair, &index, 0, new.bytes.len(), Some(0))?;
    let extent = Extent { file: 0, offset: 0, length: new.bytes.len() as u64 };
    let (_, body) = streams::cover_segment(&old, &new, &[(extent, 0)], &covers, Level::Fast, options.window_log);
    Ok(body.len())
}

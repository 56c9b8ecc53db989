//! The contents of a patch, made of the old tree.

use super::build::Options;
use crate::codec::segment;
use crate::delta::build::{self, FileReport, Inflation, Way};
use crate::delta::{Contents as _, DeltaError, memory};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Coder, Kind, Manifest, Segment, TreePath};
use crate::package::{Codec, Level, PackageError, Piece};
use crate::tree::{Files, TreeError, hash_file};
use crate::vfs::{Place, Vfs};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// How the content of one file comes about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileBuilt {
    /// Which file.
    pub path: TreePath,
    /// Its length in bytes.
    pub size: u64,
    /// What was chosen.
    pub way: Way,
    /// Its bytes in the package. Streams are shared, so this is its part of them by what it has put in.
    pub packed: u64,
    /// Bytes of it that the package does not have.
    pub saved: u64,
    /// Most memory, in bytes, that a device takes to make a part of it.
    pub memory: u64,
    /// Whether its deflated members are compared inflated. Then the lengths below are those of what is compared.
    pub inflation: Inflation,
    /// Bytes that are compared.
    pub content: u64,
    /// Bytes that are copied from old content.
    pub copied: u64,
    /// Of these, bytes that differ.
    pub differing: u64,
    /// The old file that most is copied from.
    pub from: Option<TreePath>,
}

/// The payload of a patch.
pub(super) struct Delta {
    pub(super) pieces: Vec<Piece>,
    /// Most memory that one segment takes to decode.
    pub(super) memory: u64,
    pub(super) files: Vec<FileBuilt>,
    /// Old files that are read.
    pub(super) sources: Vec<TreePath>,
}

impl Delta {
    /// Makes the files of `new` out of those of `old`. What was read must be what the manifests say.
    pub(super) fn encode<V: Vfs, W: Vfs>(
        (old, base): (&Files<'_, V>, &Manifest),
        (new, target): (&Files<'_, W>, &Manifest),
        options: &Options<'_>,
    ) -> Result<Self, Error> {
        let level = match options.level {
            Level::Fast => build::Level::Fast,
            Level::Default => build::Level::Default,
            Level::Best => build::Level::Best,
        };
        let mut how = build::Options::new(level, content_memory(options, (base, target)));
        how.segment = options.segment.unwrap_or(how.segment);
        let paths = |paths: &mut dyn Iterator<Item = &TreePath>| paths.map(|path| path.as_bytes().to_vec()).collect();
        let trees = (
            build::Tree { contents: old, paths: paths(&mut old.paths()) },
            build::Tree { contents: new, paths: paths(&mut new.paths()) },
        );
        let go_on = |_: u64, _: u64| true;
        let patch = build::encode(&trees.0, &trees.1, &how, options.progress.unwrap_or(&go_on)).map_err(build_error)?;
        drop(trees);

        let mut delta = Self { pieces: Vec::new(), memory: 0, files: Vec::new(), sources: Vec::new() };
        let views = segment::encode_views(&patch.views);
        if !patch.views.is_empty() {
            let (coder, packed) = build::pack_views(&views, level);
            let bytes = segment::encode_packed_views(coder, &packed);
            delta.pieces.push((Codec::Views, views.len() as u64, bytes));
        }
        let mut read: Vec<u32> = patch.views.iter().map(|view| view.file).collect();
        let mut memories = BTreeMap::<u32, u64>::new();
        for (header, body) in patch.segments {
            let mut bytes = segment::encode(&header, &(old, new));
            let memory = bytes.len() as u64 + memory(&header, &patch.views);
            delta.memory = delta.memory.max(memory);
            for output in &header.outputs {
                let most = memories.entry(output.file).or_default();
                *most = memory.max(*most);
            }
            bytes.extend_from_slice(&body);
            read.extend(header.sources.iter().map(|source| source.extent.file));
            let codec = if uses_lzma(&header) { Codec::DeltaLzma } else { Codec::Delta };
            delta.pieces.push((codec, header.output_length(), bytes));
        }
        read.sort_unstable();
        read.dedup();
        delta.sources = read.iter().filter_map(|file| old.path(*file)).cloned().collect();
        unchanged(old, base, delta.sources.iter())?;
        unchanged(new, target, new.paths())?;
        delta.files = files((&patch.files, &memories), old, new);
        Ok(delta)
    }
}

/// What is left for content, of the memory that building may take: manifests are there besides, and names of files.
fn content_memory(options: &Options<'_>, (base, target): (&Manifest, &Manifest)) -> u64 {
    let entries = (base.entries().len() + target.entries().len()) as u64;
    let others = limits::BUILD_OVERHEAD + entries * limits::BUILD_ENTRY;
    options.memory.unwrap_or(limits::BUILD_MEMORY).saturating_sub(others).max(limits::BUILD_LEAST)
}

fn uses_lzma(segment: &Segment) -> bool {
    segment.packs.iter().any(|pack| matches!(pack.coder, Coder::Lzma { .. }))
}

/// Are these files still what was recorded when the tree was read?
fn unchanged<'a, V: Vfs>(
    files: &Files<'_, V>,
    recorded: &Manifest,
    paths: impl Iterator<Item = &'a TreePath>,
) -> Result<(), Error> {
    let paths: Vec<&TreePath> = paths.collect();
    paths.into_par_iter().try_for_each(|path| {
        let failed = |error: TreeError| match error {
            TreeError::Io(error) => PackageError::Input { path: path.clone(), source: error.source }.into(),
            other => Error::from(PackageError::Changed(path.clone())).because(other),
        };
        let (size, digest) = hash_file(files.vfs(), &Place::tree(path)).map_err(failed)?;
        match recorded.get(path) {
            Some(node) if node.kind == (Kind::File { size, digest }) => Ok(()),
            _ => Err(PackageError::Changed(path.clone()).into()),
        }
    })
}

/// One line for each file, the most expensive one first. Parts of large files are added up.
fn files<V: Vfs, W: Vfs>(
    (reports, memories): (&[FileReport], &BTreeMap<u32, u64>),
    old: &Files<'_, V>,
    new: &Files<'_, W>,
) -> Vec<FileBuilt> {
    let mut all: BTreeMap<u32, FileReport> = BTreeMap::new();
    for report in reports {
        let sum =
            all.entry(report.file).or_insert(FileReport { packed: 0, content: 0, copied: 0, differing: 0, ..*report });
        sum.packed += report.packed;
        sum.content += report.content;
        sum.copied += report.copied;
        sum.differing += report.differing;
    }
    let built = |report: &FileReport| {
        let size = new.length(report.file)?;
        Some(FileBuilt {
            path: new.path(report.file)?.clone(),
            size,
            way: report.way,
            packed: report.packed,
            saved: size.saturating_sub(report.packed),
            memory: memories.get(&report.file).copied().unwrap_or(0),
            inflation: report.inflation,
            content: report.content,
            copied: report.copied,
            differing: report.differing,
            from: report.from.and_then(|file| old.path(file)).cloned(),
        })
    };
    let mut files: Vec<FileBuilt> = all.values().filter_map(built).collect();
    files.sort_by(|a, b| b.packed.cmp(&a.packed).then_with(|| a.path.cmp(&b.path)));
    files
}

fn build_error(error: DeltaError) -> Error {
    let code = match &error {
        DeltaError::Read(_) => Code::Io,
        DeltaError::Cancelled => Code::Cancelled,
        _ => Code::Internal,
    };
    Error::new(code, "the difference of the trees cannot be made").because(error)
}

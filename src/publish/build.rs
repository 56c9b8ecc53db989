//! From manifests to a package.

use super::delta::{Delta, FileBuilt};
use crate::codec::v1::{node_digest, tree_digest};
use crate::delta::build::Progress;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Entry, Kind, Manifest, ManifestChange, Node, TreePath};
use crate::package::{Change, Head, Level, Outline, Source, Start, Written, write_package, write_patch};
use crate::tree::{Files, changes};
use crate::trust::SecretKey;
use crate::vfs::{Access, Place, Vfs};
use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

/// What a publisher says about a package.
#[derive(Default)]
pub struct Options<'a> {
    /// The version that it makes, as text.
    pub to: String,
    /// The architecture that it is for; nothing for every one.
    pub architecture: Option<String>,
    /// Words for people.
    pub notes: String,
    /// How much time compression may take.
    pub level: Level,
    /// The keys that sign it.
    pub signers: &'a [&'a SecretKey],
    /// Most memory that building a patch takes, in bytes; nothing for [`BUILD_MEMORY`](crate::limits::BUILD_MEMORY). Below
    /// [`BUILD_OVERHEAD`](crate::limits::BUILD_OVERHEAD) and what manifests take it cannot be kept.
    pub memory: Option<u64>,
    /// About how many bytes one segment makes; nothing for what the level stands for. With smaller ones a full package is
    /// larger, and a device that has most of it fetches less.
    pub segment: Option<usize>,
    /// Sees the building of a patch going on, and may end it.
    pub progress: Option<&'a dyn Progress>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { to, architecture, level, memory, .. } = self;
        write!(f, "Options of {to} for {architecture:?}, {level:?}, memory {memory:?}")
    }
}

/// What has been built, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BuildReport {
    /// Its size.
    #[serde(flatten)]
    pub written: Written,
    /// Digest of the tree that it makes.
    pub target: Digest,
    /// The keys that have signed it.
    pub signers: Vec<Digest>,
    /// Number of changes; of a full package, of all entries.
    pub changes: usize,
    /// How many of them are new paths.
    pub added: usize,
    /// How many are removed paths.
    pub removed: usize,
    /// Files whose content the base has: moved, copied, or changed in their metadata only.
    pub from_base: usize,
    /// Files whose content another file of the package brings.
    pub duplicates: usize,
    /// Of a patch: how each content of the payload comes about, the most expensive one first.
    #[serde(skip)]
    pub files: Vec<FileBuilt>,
    /// Of a patch: the old files that its segments read.
    #[serde(skip)]
    pub sources: Vec<TreePath>,
}

/// Builds the patch that turns the tree `old`, version `from`, into the tree `new`; the contents of both are read from
/// their file systems.
///
/// `spool` takes the payload before it goes into `out`.
pub fn build_patch<V: Vfs, W: Vfs>(
    (from, old, old_vfs): (&str, &Manifest, &V),
    (new, new_vfs): (&Manifest, &W),
    options: &Options<'_>,
    spool: &mut (impl Read + Write + Seek),
    out: &mut dyn Write,
) -> Result<BuildReport, Error> {
    if old.policy() != new.policy() {
        return Err(Error::new(Code::Usage, "the two trees do not count the same metadata as identity"));
    }
    let mut sources = Sources::new(old, new);
    let mut contents = Vec::new();
    let change = |(index, change): (usize, ManifestChange)| Change {
        before: old.get(&change.path).map(|node| node_digest(node, old.policy()).fingerprint()),
        after: change.after.map(|mut node| {
            let source = sources.choose(index, &change.path, &node);
            if let Kind::File { size, digest } = &mut node.kind {
                if source == Source::Payload {
                    contents.push((change.path.clone(), *size));
                }
                *digest = Digest::UNSAID;
            }
            (node, source)
        }),
        path: change.path,
    };
    let changes: Vec<Change> = changes(old, new).into_iter().enumerate().map(change).collect();
    let start = Start::Base { version: from.to_string(), digest: tree_digest(old) };
    let counts = Counts::of(&changes);
    let files = (Files::of_base(old_vfs, old), Files::new(new_vfs, contents));
    let delta = Delta::encode((&files.0, old), (&files.1, new), options)?;
    let head = head(start, new, options);
    let target = head.target;
    let pieces = (delta.pieces.into_iter(), delta.memory);
    let written = write_patch(out, spool, Outline { head, changes }, pieces, options.level, options.signers)?;
    let report = BuildReport::new(written, &counts, target, options);
    Ok(BuildReport { files: delta.files, sources: delta.sources, ..report })
}

/// Builds the full package of a tree, whose content is read from `vfs`.
///
/// `spool` takes the payload before it goes into `out`.
pub fn build_full<V: Vfs>(
    tree: &Manifest,
    vfs: &V,
    options: &Options<'_>,
    spool: &mut (impl Read + Write + Seek),
    out: &mut dyn Write,
) -> Result<BuildReport, Error> {
    let mut sources = Sources::default();
    let change = |(index, entry): (usize, &Entry)| Change {
        path: entry.path.clone(),
        before: None,
        after: Some((entry.node.clone(), sources.choose(index, &entry.path, &entry.node))),
    };
    let changes: Vec<Change> = tree.entries().iter().enumerate().map(change).collect();
    let counts = Counts::of(&changes);
    let mut open = |change: &Change| -> io::Result<Box<dyn Read + '_>> {
        let file = vfs.open(&Place::tree(&change.path), Access::Read);
        Ok(Box::new(FileReader { vfs, file: file.map_err(|error| error.source)?, offset: 0 }))
    };
    let head = head(Start::Anything, tree, options);
    let target = head.target;
    let outline = Outline { head, changes };
    let how = (options.level, options.segment.map_or(limits::SEGMENT_BYTES, |segment| segment as u64));
    let written = write_package(out, spool, outline, &mut open, how, options.signers)?;
    Ok(BuildReport::new(written, &counts, target, options))
}

fn head(start: Start, new: &Manifest, options: &Options<'_>) -> Head {
    Head {
        start,
        to: options.to.clone(),
        target: tree_digest(new),
        architecture: options.architecture.clone(),
        policy: new.policy(),
        notes: options.notes.clone(),
    }
}

impl BuildReport {
    fn new(written: Written, counts: &Counts, target: Digest, options: &Options<'_>) -> Self {
        let Counts { changes, added, removed, from_base, duplicates } = *counts;
        let signers = options.signers.iter().map(|key| key.public().id()).collect();
        let (files, sources) = (Vec::new(), Vec::new());
        Self { written, target, signers, changes, added, removed, from_base, duplicates, files, sources }
    }
}

/// What the changes are, in numbers.
struct Counts {
    changes: usize,
    added: usize,
    removed: usize,
    from_base: usize,
    duplicates: usize,
}

impl Counts {
    fn of(changes: &[Change]) -> Self {
        let count = |matching: &dyn Fn(&Change) -> bool| changes.iter().filter(|change| matching(change)).count();
        Self {
            changes: changes.len(),
            added: count(&|change| change.before.is_none()),
            removed: count(&|change| change.after.is_none()),
            from_base: count(&|change| matches!(change.source(), Some(Source::Base(_)))),
            duplicates: count(&|change| matches!(change.source(), Some(Source::Change(_)))),
        }
    }
}

/// Where contents can be had without sending them.
#[derive(Default)]
struct Sources<'a> {
    old: Option<&'a Manifest>,
    /// By content: a path of the base, and whether it goes away.
    base: HashMap<Digest, (&'a TreePath, bool)>,
    /// By content: the change that brings it.
    sent: HashMap<Digest, usize>,
}

impl<'a> Sources<'a> {
    fn new(old: &'a Manifest, new: &Manifest) -> Self {
        let mut base: HashMap<Digest, (&TreePath, bool)> = HashMap::new();
        for entry in old.entries() {
            if let Kind::File { digest, .. } = &entry.node.kind {
                let gone = new.get(&entry.path).is_none();
                let known = base.entry(*digest).or_insert((&entry.path, gone));
                // The first path that goes away, which makes it a move; else the first one.
                if gone && !known.1 {
                    *known = (&entry.path, true);
                }
            }
        }
        Self { old: Some(old), base, sent: HashMap::new() }
    }

    fn choose(&mut self, index: usize, path: &TreePath, node: &Node) -> Source {
        let Kind::File { digest, .. } = &node.kind else { return Source::None };
        if node.leader.is_some() {
            return Source::None;
        }
        if self.old.and_then(|old| old.get(path)).is_some_and(|old| old.kind == node.kind) {
            return Source::Base(path.clone());
        }
        if let Some((path, _)) = self.base.get(digest) {
            return Source::Base((*path).clone());
        }
        if let Some(earlier) = self.sent.get(digest) {
            return Source::Change(*earlier);
        }
        self.sent.insert(*digest, index);
        Source::Payload
    }
}

/// Reads a file from its beginning to its end.
struct FileReader<'a, V: Vfs> {
    vfs: &'a V,
    file: V::File,
    offset: u64,
}

impl<V: Vfs> Read for FileReader<'_, V> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.vfs.read_at(&self.file, self.offset, buffer).map_err(|error| error.source)?;
        self.offset += length as u64;
        Ok(length)
    }
}

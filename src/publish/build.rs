//! From manifests to a package.

use crate::codec::v1::{node_digest, tree_digest};
use crate::error::{Code, Error};
use crate::model::{Digest, Entry, Kind, Manifest, ManifestChange, Node, TreePath};
use crate::package::{Change, Head, Level, Outline, Source, Start, Written, write_package};
use crate::tree::changes;
use crate::trust::SecretKey;
use crate::vfs::{Access, Place, Vfs};
use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

/// What a publisher says about a package.
#[derive(Debug, Default)]
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
}

/// Builds the patch that turns the tree `old`, version `from`, into the tree `new`, whose content is read from `new_vfs`.
///
/// `spool` takes the payload before it goes into `out`.
pub fn build_patch<V: Vfs>(
    (from, old): (&str, &Manifest),
    (new, new_vfs): (&Manifest, &V),
    options: &Options<'_>,
    spool: &mut (impl Read + Write + Seek),
    out: &mut dyn Write,
) -> Result<BuildReport, Error> {
    if old.policy() != new.policy() {
        return Err(Error::new(Code::Usage, "the two trees do not count the same metadata as identity"));
    }
    let mut sources = Sources::new(old, new);
    let change = |(index, change): (usize, ManifestChange)| Change {
        before: old.get(&change.path).map(|node| node_digest(node, old.policy()).fingerprint()),
        after: change.after.map(|node| {
            let source = sources.choose(index, &change.path, &node);
            (node, source)
        }),
        path: change.path,
    };
    let changes = changes(old, new).into_iter().enumerate().map(change).collect();
    let start = Start::Base { version: from.to_string(), digest: tree_digest(old) };
    build(start, changes, (new, new_vfs), options, spool, out)
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
    let changes = tree.entries().iter().enumerate().map(change).collect();
    build(Start::Anything, changes, (tree, vfs), options, spool, out)
}

fn build<V: Vfs>(
    start: Start,
    changes: Vec<Change>,
    (new, vfs): (&Manifest, &V),
    options: &Options<'_>,
    spool: &mut (impl Read + Write + Seek),
    out: &mut dyn Write,
) -> Result<BuildReport, Error> {
    let count = |matching: &dyn Fn(&Change) -> bool| changes.iter().filter(|change| matching(change)).count();
    let head = Head {
        start,
        to: options.to.clone(),
        target: tree_digest(new),
        architecture: options.architecture.clone(),
        policy: new.policy(),
        notes: options.notes.clone(),
    };
    let target = head.target;
    let all = changes.len();
    let added = count(&|change| change.before.is_none());
    let removed = count(&|change| change.after.is_none());
    let from_base = count(&|change| matches!(change.source(), Some(Source::Base(_))));
    let duplicates = count(&|change| matches!(change.source(), Some(Source::Change(_))));
    let mut open = |change: &Change| -> io::Result<Box<dyn Read + '_>> {
        let file = vfs.open(&Place::tree(&change.path), Access::Read);
        Ok(Box::new(FileReader { vfs, file: file.map_err(|error| error.source)?, offset: 0 }))
    };
    let outline = Outline { head, changes };
    let written = write_package(out, spool, outline, &mut open, options.level, options.signers)?;
    let signers = options.signers.iter().map(|key| key.public().id()).collect();
    Ok(BuildReport { written, target, signers, changes: all, added, removed, from_base, duplicates })
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

//! What is recorded of a tree: what changes start from, and how it is compared and written.

use super::engine::Engine;
use super::layout;
use super::observer::{Observer, Phase, Progress};
use super::request::{Base, Change, Request, Source, VerifyDepth};
use super::store::{self, Generation};
use crate::codec::v1;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Entry, Manifest, ManifestChange, Node, Policy, TreePath};
use crate::transaction::{Proposal, is_locked};
use crate::tree;
use crate::vfs::{FileType, Place, Vfs};
use std::collections::{BTreeMap, BTreeSet};

impl<V: Vfs> Engine<V> {
    /// What every change starts from. Adds what the manifest needs besides: unrecorded parents, and hard links whose
    /// first name changes.
    pub(super) fn before(
        &self,
        request: &mut Request,
        manifest: Option<&Manifest>,
    ) -> Result<Vec<Option<Node>>, Error> {
        if request.base == Base::Recorded {
            let manifest =
                manifest.ok_or_else(|| Error::new(Code::Untracked, "the content of the tree is not recorded"))?;
            return Ok(request.changes.iter().map(|change| manifest.get(&change.path).cloned()).collect());
        }
        let mut before = BTreeMap::new();
        for change in &request.changes {
            let mut node = tree::node_at(&self.vfs, &Place::tree(&change.path))?;
            if let (Some(node), Some(recorded)) = (&mut node, manifest.and_then(|manifest| manifest.get(&change.path)))
            {
                node.leader.clone_from(&recorded.leader);
            }
            before.insert(change.path.clone(), node);
        }
        if let Some(manifest) = manifest {
            self.add_parents(request, manifest, &mut before)?;
            add_followers(request, manifest, &mut before);
            // What was never recorded needs no record of its removal.
        }
        request.changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(before.into_values().collect())
    }

    /// Adds the directories whose time the changes disturb, where times are part of the identity, and those that have to
    /// be opened for a user who may not write to them.
    pub(super) fn add_disturbed(
        &self,
        request: &mut Request,
        manifest: Option<&Manifest>,
        policy: Policy,
    ) -> Result<(), Error> {
        let user = self.vfs.user();
        let recorded = |path: &TreePath| manifest.and_then(|manifest| manifest.get(path)).cloned();
        let base = request.base;
        if user == 0 && !policy.mtime {
            return Ok(());
        }
        add_disturbed(request, |path| {
            if let (Some(node), true) = (recorded(path), policy.mtime) {
                return Ok(Some(node));
            }
            let at = Place::tree(path);
            match self.vfs.stat(&at) {
                _ if user == 0 => Ok(None),
                Ok(Some(stat)) if stat.kind == FileType::Directory && stat.uid == user && is_locked(stat.mode) => {
                    if base == Base::Recorded {
                        Ok(recorded(path))
                    } else {
                        Ok(tree::node_at(&self.vfs, &at)?)
                    }
                }
                // What cannot be looked at is refused when it is.
                _ => Ok(None),
            }
        })
    }

    fn add_parents(
        &self,
        request: &mut Request,
        manifest: &Manifest,
        before: &mut BTreeMap<TreePath, Option<Node>>,
    ) -> Result<(), Error> {
        let mut added = Vec::new();
        for change in request.changes.iter().filter(|change| change.after.is_some()) {
            let mut parent = change.path.parent();
            while let Some(path) = parent {
                if before.contains_key(&path) || manifest.get(&path).is_some() {
                    break;
                }
                let node = tree::node_at(&self.vfs, &Place::tree(&path))?;
                added.push(Change { path: path.clone(), after: node.clone(), source: Source::None });
                parent = path.parent();
                before.insert(path, node);
            }
        }
        request.changes.extend(added);
        Ok(())
    }

    pub(super) fn verify_before(
        &self,
        manifest: Option<&Manifest>,
        depth: VerifyDepth,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let (Some(manifest), true) = (manifest, depth != VerifyDepth::Touched) else { return Ok(()) };
        let verification = self.compare(manifest, depth == VerifyDepth::Full, observer)?;
        if verification.findings.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::Changed, "the tree is not as it was recorded").listing(verification.findings))
    }

    /// Compares the tree with a manifest; `full` reads every content.
    pub(super) fn compare(
        &self,
        manifest: &Manifest,
        full: bool,
        observer: &dyn Observer,
    ) -> Result<tree::Verification, Error> {
        let index = if full { None } else { self.read_index() };
        let depth = index.as_ref().map_or(tree::Depth::Full, tree::Depth::Index);
        let progress = |done, total| {
            observer.report(Progress { phase: Phase::Check, done, total });
        };
        Ok(tree::verify(&self.vfs, manifest, true, depth, &progress)?)
    }

    fn read_index(&self) -> Option<tree::Index> {
        let bytes = store::read_file(&self.vfs, &layout::index(), limits::INDEX_FILE).ok()?;
        tree::Index::decode(&bytes).ok()
    }

    /// Records the stat cache. It is only a cache: nothing is lost if it is. What it describes becomes durable with it,
    /// since what was read may be in the kernel's cache only.
    pub fn write_index(&mut self, index: &tree::Index) -> Result<(), Error> {
        self.require_whole()?;
        let synced = self.vfs.sync_all().map_err(|error| store::sync_failed(&self.vfs, error));
        self.notice(synced)?;
        let result = store::replace_file(&self.vfs, &layout::index_new(), &layout::index(), &index.encode());
        match result {
            // Whoever only looks can do so without.
            Err(error) if is_read_only(&error) => Ok(()),
            other => self.notice(other),
        }
    }
}

fn is_read_only(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

pub(super) fn manifest_changes(changes: &[Change]) -> impl Iterator<Item = ManifestChange> {
    changes.iter().map(|change| ManifestChange { path: change.path.clone(), after: change.after.clone() })
}

/// Hard links whose first name goes or changes get another first name.
fn add_followers(request: &mut Request, manifest: &Manifest, before: &mut BTreeMap<TreePath, Option<Node>>) {
    let mut heirs: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    let mut added = Vec::new();
    for Entry { path, node } in manifest.entries() {
        let Some(leader) = &node.leader else { continue };
        if before.contains_key(path) || !before.contains_key(leader) {
            continue;
        }
        let mut after = node.clone();
        after.leader = heirs.get(leader).cloned();
        heirs.entry(leader.clone()).or_insert_with(|| path.clone());
        added.push((path.clone(), node.clone(), after));
    }
    for (path, node, after) in added {
        request.changes.push(Change { path: path.clone(), after: Some(after), source: Source::Base(path.clone()) });
        before.insert(path, Some(node));
    }
}

/// Adds the directories that the changes disturb, as these say.
///
/// What refers to a change by its index refers to the same change afterwards.
fn add_disturbed(
    request: &mut Request,
    disturbed: impl Fn(&TreePath) -> Result<Option<Node>, Error>,
) -> Result<(), Error> {
    let touched: BTreeSet<&TreePath> = request.changes.iter().map(|change| &change.path).collect();
    let parents: BTreeSet<TreePath> = request.changes.iter().filter_map(|change| change.path.parent()).collect();
    let mut added = Vec::new();
    for path in parents.into_iter().filter(|parent| !touched.contains(parent)) {
        if let Some(node) = disturbed(&path)? {
            added.push(Change { path, after: Some(node), source: Source::None });
        }
    }
    let referred: Vec<(TreePath, TreePath)> = request
        .changes
        .iter()
        .filter_map(|change| match change.source {
            Source::Change(index) => Some((change.path.clone(), request.changes.get(index as usize)?.path.clone())),
            _ => None,
        })
        .collect();
    request.changes.extend(added);
    request.changes.sort_by(|a, b| a.path.cmp(&b.path));
    let position = |changes: &[Change], path: &TreePath| {
        let missing = |_| Error::new(Code::Internal, format!("the change of {path} is gone"));
        changes.binary_search_by(|change| change.path.cmp(path)).map_err(missing)
    };
    for (path, other) in referred {
        let (at, other) = (position(&request.changes, &path)?, position(&request.changes, &other)?);
        request.changes[at].source = Source::Change(other as u32);
    }
    Ok(())
}

/// How long the file of a manifest will be that is written after these changes.
pub(super) fn manifest_length(base: &Generation, manifest: &Manifest, changes: &[Change]) -> u64 {
    if is_written_whole(base, manifest, changes.len()) {
        return v1::encode_manifest(manifest).len() as u64;
    }
    v1::manifest_delta_length(changes.iter().map(|change| (&change.path, change.after.as_ref())))
}

/// A delta of half the manifest, or a long chain of them, costs more to read than it saves to write.
fn is_written_whole(base: &Generation, manifest: &Manifest, changes: usize) -> bool {
    let known = manifest.entries().len();
    base.manifests.is_empty() || base.manifests.len() > limits::MANIFEST_DELTAS || 2 * changes > known
}

/// Writes what the tree will hold: as changes to what is written already, or whole when that is shorter to read. Gives
/// the digest of the file.
pub(super) fn write_manifest<V: Vfs>(
    vfs: &V,
    base: &Generation,
    generation: &mut Generation,
    manifest: Option<Manifest>,
    delta: &[Proposal],
) -> Result<Option<Digest>, Error> {
    let Some(manifest) = manifest else { return Ok(None) };
    let bytes = if is_written_whole(base, &manifest, delta.len()) {
        v1::encode_manifest(&manifest)
    } else {
        generation.manifests.clone_from(&base.manifests);
        let changes = delta.iter().map(|p| (&p.path, p.after.as_ref()));
        v1::encode_manifest_delta(manifest.policy(), changes)
    };
    generation.manifests.push(generation.id);
    store::write_file(vfs, &layout::manifest(generation.id), &bytes)?;
    Ok(Some(Digest::of(&bytes)))
}

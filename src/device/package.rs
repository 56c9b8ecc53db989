//! Applying a package: from what it promises to the changes of a transaction.

use super::baseline::manifest_length;
use super::blocks::{Blocks, is_there};
use super::engine::{Change, Engine, NoPayload, Payload, Report, Request, Settings, Sink, Source};
use super::observer::Observer;
use super::preflight::{self, Checked, Known, Room};
use super::store::Generation;
use super::sweep;
use super::unpack::{self, Stopped, Task};
use crate::codec::v1;
use crate::error::{Code, Error, Finding};
use crate::model::{Difference, Digest, Kind, Manifest, Policy, TreePath, Version};
use crate::package::{self, Codec, Head, Package, Promise, Start, Verified};
use crate::tree;
use crate::vfs::Vfs;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

/// What a caller allows a package to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageSettings {
    /// How the transaction is run.
    pub settings: Settings,
    /// The architecture of this device; nothing to take any package.
    pub architecture: Option<String>,
    /// Install an older version over a newer one.
    pub allow_downgrade: bool,
    /// Most memory that unpacking one segment may take, in bytes; nothing for what a package may ask for.
    pub memory: Option<u64>,
    /// Refuse packages that use LZMA: its decoder is the slow one.
    pub refuse_lzma: bool,
}

impl<V: Vfs> Engine<V> {
    /// Applies a package whose manifest is verified. The payload is read as a stream, so the package may still be
    /// arriving; nothing of the tree is changed before all of it is stored and verified.
    pub fn apply<R: Read>(
        &mut self,
        package: Package<R, Verified>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        self.make_idle()?;
        refuse_demands(package.promise(), settings)?;
        match package.promise().head().start {
            Start::Anything => self.apply_full(package, settings, observer),
            Start::Base { .. } => self.apply_patch(package, settings, observer),
        }
    }

    fn apply_full<R: Read>(
        &mut self,
        package: Package<R, Verified>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        let (promise, payload) = package.into_payload();
        self.commit_full(promise, payload, None, settings, observer)
    }

    /// Applies a full package of which only the blocks are here that the tree does not have.
    pub(super) fn apply_blocks<R: Read>(
        &mut self,
        package: Package<R, Verified>,
        blocks: &Blocks,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        self.make_idle()?;
        refuse_demands(package.promise(), settings)?;
        let (promise, payload) = package.into_payload_of(blocks.here.clone());
        self.commit_full(promise, payload, Some(&blocks.local), settings, observer)
    }

    fn commit_full<R: Read>(
        &mut self,
        promise: Promise,
        payload: package::Payload<R>,
        local: Option<&BTreeMap<TreePath, TreePath>>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        let (_, recorded, request) = self.request(promise.head(), settings)?;
        let (changes, names) = full_changes(&under(recorded, promise.head().policy)?, &promise, local)?;
        drop(promise);
        let base = |change: &Change| match &change.source {
            Source::Base(path) => Some(path.clone()),
            _ => None,
        };
        let sources: Vec<TreePath> = changes.iter().filter_map(base).collect();
        let committed = self.commit(Request { changes, ..request }, &mut FromPackage { payload, names }, observer);
        committed.map_err(|error| self.blamed_on(error, &sources))
    }

    /// A content that is not what was promised may come from a file of the tree that is not what is recorded.
    fn blamed_on(&self, error: Error, sources: &[TreePath]) -> Error {
        let recorded = self.manifest().ok().flatten().filter(|_| error.code() == Code::Digest);
        let changed = |recorded: Manifest| {
            let is_changed = |path: &&TreePath| match recorded.get(path).map(|node| &node.kind) {
                Some(Kind::File { size, digest }) => !is_there(&self.vfs, path, *size, *digest),
                _ => false,
            };
            sources.iter().find(is_changed).cloned()
        };
        let Some(path) = recorded.and_then(changed) else { return error };
        let message = format!("{path} is not what is recorded, and a part of the update was to be copied from it");
        let finding = Finding { path, difference: Difference::Content };
        Error::new(Code::Changed, message).because(error).listing(vec![finding])
    }

    /// Unpacks the contents of a patch first, which needs what it starts from to be there, and then commits them.
    fn apply_patch<R: Read>(
        &mut self,
        package: Package<R, Verified>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        let id = package.id();
        let (promise, mut segments) = package.into_segments();
        let head = promise.head();
        let (current, recorded, mut request) = self.request(head, settings)?;
        if let Start::Base { digest, version } = &head.start {
            let base = under(recorded.clone(), head.policy)?;
            let here = v1::tree_digest(&base);
            if here != *digest {
                if here == head.target && current.version == head.to {
                    // It is applied already: a full package would have nothing to change either.
                    return self.commit(request, &mut NoPayload, observer);
                }
                return Err(wrong_base(&base, &promise, version, &current.version));
            }
        }
        let changes = patch_changes(&promise, &recorded, &[])?;
        let before = changes.iter().map(|change| recorded.get(&change.path).cloned()).collect();
        let folder = unpack::find(&self.vfs, id, current.id, self.finished())?;
        let room = Room {
            spare: folder.as_ref().map_or(0, unpack::Folder::bytes),
            manifest: Some(manifest_length(&current, &recorded, &changes)),
            note: Some(unpack::note_length(promise.segments().len())).filter(|_| folder.is_none()),
            begun: folder.is_some(),
        };
        let Checked { proposals, seen, .. } =
            preflight::check(&self.vfs, changes, before, head.policy, (&Known::new(), room), observer)?;
        let seen = proposals.into_iter().zip(seen);
        request.known = seen.filter_map(|(proposal, seen)| Some((proposal.path, seen.tree?.0))).collect();
        let task = Task {
            package: id,
            base: (current.id, &recorded),
            known: &request.known,
            contents: unpack::Content::all(&promise),
            memory: promise.memory(),
        };
        let unpacked = unpack::run(&self.vfs, folder, task, &mut segments, observer);
        let result = match unpacked {
            Ok(made) => {
                request.changes = patch_changes(&promise, &recorded, &made.digests)?;
                (request.id, request.taken_slots) = (Some(made.id), made.digests.len() as u32);
                // A change is held once from here on.
                drop((promise, recorded));
                let committed = self.commit(request, &mut NoPayload, observer);
                committed.map_err(|error| self.blamed(error, &made.sources)).map_err(Stopped::from)
            }
            Err(stopped) => Err(stopped),
        };
        result.map_err(|Stopped { error, keep }| {
            // The next try would fail in the same way, or lacks the room.
            if !keep && self.require_idle().is_ok() {
                self.forget_unpacked();
            }
            error
        })
    }

    /// Contents that are not the promised ones may come from old files that were changed after they were compared.
    fn blamed(&self, error: Error, sources: &BTreeSet<u32>) -> Error {
        if error.code() != Code::PackageFormat {
            return error;
        }
        let base = self.current().and_then(|current| current.manifest(&self.vfs));
        let Ok(Some(base)) = base else { return error };
        unpack::still_base(&self.vfs, &base, sources.iter().copied()).err().unwrap_or(error)
    }

    /// Removes what was unpacked for a transaction that is not to be tried again.
    pub(super) fn forget_unpacked(&self) {
        if let Err(error) = unpack::forget(&self.vfs, self.current_id(), self.finished()) {
            tracing::warn!(error = %error, "what was unpacked before could not be removed");
        }
    }

    pub(super) fn finished(&self) -> Option<[u8; 16]> {
        sweep::finished(&self.records, self.state)
    }

    /// What every package asks for, and what it starts from.
    fn request(&self, head: &Head, settings: &PackageSettings) -> Result<(Generation, Manifest, Request), Error> {
        let current = self.current()?;
        refuse_by_head(head, &current.version, settings)?;
        let recorded = current
            .manifest(&self.vfs)?
            .ok_or_else(|| Error::new(Code::Untracked, "the content of the tree is not recorded"))?;
        let request = Request {
            policy: Some(head.policy),
            version: Some(head.to.clone()),
            target: Some(head.target),
            settings: settings.settings.clone(),
            ..Request::new(Vec::new(), format!("{} -> {}", shown(&current.version), head.to))
        };
        Ok((current, recorded, request))
    }
}

pub(super) fn under(recorded: Manifest, policy: Policy) -> Result<Manifest, Error> {
    recorded
        .under(policy)
        .map_err(|error| Error::new(Code::Base, "the recorded tree does not fit the package's policy").because(error))
}

fn shown(version: &str) -> &str {
    if version.is_empty() { "(no version)" } else { version }
}

fn refuse_by_head(head: &Head, current: &str, settings: &PackageSettings) -> Result<(), Error> {
    if let (Some(wanted), Some(here)) = (&head.architecture, &settings.architecture)
        && wanted != here
    {
        return Err(Error::new(Code::Architecture, format!("the package is for {wanted}, this device is {here}")));
    }
    if let (Ok(to), Ok(from)) = (head.to.parse::<Version>(), current.parse::<Version>())
        && to < from
        && !settings.allow_downgrade
    {
        return Err(Error::new(Code::Downgrade, format!("the package would install {to} over {from}")));
    }
    Ok(())
}

/// A package says before what its segments need.
fn refuse_demands(promise: &Promise, settings: &PackageSettings) -> Result<(), Error> {
    if let Some(most) = settings.memory.filter(|most| promise.memory() > *most) {
        let what = format!("the package needs {} bytes of memory, {most} are allowed", promise.memory());
        return Err(Error::new(Code::Demand, what));
    }
    let lzma = promise.segments().iter().any(|segment| segment.codec == Codec::DeltaLzma);
    if settings.refuse_lzma && lzma {
        return Err(Error::new(Code::Demand, "the package uses LZMA, which is not allowed"));
    }
    Ok(())
}

/// Says which of the touched paths are not what the package starts from.
fn wrong_base(recorded: &Manifest, promise: &Promise, version: &str, current: &str) -> Error {
    let policy = recorded.policy();
    let findings: Vec<Finding> = promise
        .changes()
        .iter()
        .filter_map(|change| {
            let difference = match (recorded.get(&change.path), change.before) {
                (None, None) => return None,
                (None, Some(_)) => Difference::Missing,
                (Some(_), None) => Difference::Unexpected,
                (Some(node), Some(print)) if v1::node_digest(node, policy).fingerprint() == print => return None,
                (Some(_), Some(_)) => Difference::Content,
            };
            Some(Finding { path: change.path.clone(), difference })
        })
        .collect();
    let tail = if findings.is_empty() { "; it differs outside of what the package touches" } else { "" };
    Error::new(
        Code::Base,
        format!("the package starts from version {version}, the tree is version {}{tail}", shown(current)),
    )
    .listing(findings)
}

/// The changes of a patch. What files become is known of contents that the base has, and of those in `made`, which are
/// the contents of the payload in their order; others keep the digest of nothing.
pub(super) fn patch_changes(promise: &Promise, recorded: &Manifest, made: &[Digest]) -> Result<Vec<Change>, Error> {
    let mut changes: Vec<Change> = Vec::with_capacity(promise.changes().len());
    let mut content = 0;
    let odd = |path: &TreePath, what: &str| Error::new(Code::PackageFormat, format!("{path}: {what}"));
    for change in promise.changes() {
        let path = change.path.clone();
        let Some((node, from)) = &change.after else {
            changes.push(Change { path, after: None, source: Source::None });
            continue;
        };
        let mut node = node.clone();
        let (source, kind) = match from {
            package::Source::None => match &node.leader {
                None => (Source::None, None),
                Some(leader) => {
                    let among = changes.binary_search_by(|other| other.path.cmp(leader)).ok();
                    let there = among.map_or_else(|| recorded.get(leader), |at| changes[at].after.as_ref());
                    (Source::None, Some(there.map(|node| &node.kind)))
                }
            },
            package::Source::Payload => {
                let number = content;
                content += 1;
                if let (Kind::File { digest, .. }, Some(known)) = (&mut node.kind, made.get(number)) {
                    *digest = *known;
                }
                (if made.is_empty() { Source::Payload } else { Source::Staged(number as u32) }, None)
            }
            package::Source::Base(base) => {
                (Source::Base(base.clone()), Some(recorded.get(base).map(|node| &node.kind)))
            }
            package::Source::Change(index) => {
                let other = changes.get(*index).and_then(|other| other.after.as_ref());
                (Source::Change(*index as u32), Some(other.map(|node| &node.kind)))
            }
        };
        if let Some(there) = kind {
            node.kind = match there {
                Some(kind @ Kind::File { size, .. }) if *size == node.kind.size() => kind.clone(),
                _ => return Err(odd(&path, "where its content should be something else is")),
            };
        }
        changes.push(Change { path, after: Some(node), source });
    }
    Ok(changes)
}

/// From whatever is recorded to everything that a full package holds, and for each of its changes the path that gets its
/// content. `local` says, of a package of which only a part is here, which contents are taken from the tree, by the path
/// that they will have, and from where.
fn full_changes(
    recorded: &Manifest,
    promise: &Promise,
    local: Option<&BTreeMap<TreePath, TreePath>>,
) -> Result<(Vec<Change>, Vec<TreePath>), Error> {
    let target = promise
        .manifest()
        .ok_or_else(|| Error::new(Code::PackageFormat, "a full package does not hold a whole tree"))?;
    let changes = tree::changes(recorded, &target);
    let at: HashMap<&TreePath, usize> = changes.iter().enumerate().map(|(at, change)| (&change.path, at)).collect();
    let all = promise.changes();
    let mut names: Vec<TreePath> = all.iter().map(|change| change.path.clone()).collect();
    // Contents that nobody has but the package, while the path that brings them there is not to be changed.
    let mut taken_over: HashMap<usize, u32> = HashMap::new();
    let mut source_of = |index: usize, path: &TreePath| {
        let position = all.binary_search_by(|change| change.path.cmp(path)).ok()?;
        let from_here = || local.and_then(|local| local.get(path)).map(|from| Source::Base(from.clone()));
        Some(match all[position].source()? {
            package::Source::None => Source::None,
            package::Source::Payload => from_here().unwrap_or(Source::Payload),
            package::Source::Base(path) => Source::Base(path.clone()),
            package::Source::Change(other) => {
                let first = &all[*other].path;
                match (at.get(first), taken_over.get(other)) {
                    (Some(at), _) => Source::Change(*at as u32),
                    // The first one is in the tree already, and nothing changes there.
                    (None, _) if local.is_none() => Source::Base(first.clone()),
                    (None, Some(at)) => Source::Change(*at),
                    (None, None) => from_here().unwrap_or_else(|| {
                        taken_over.insert(*other, index as u32);
                        names[*other] = path.clone();
                        Source::Payload
                    }),
                }
            }
        })
    };
    let changes = changes
        .iter()
        .enumerate()
        .map(|(index, change)| Change {
            path: change.path.clone(),
            after: change.after.clone(),
            source: change.after.as_ref().and_then(|_| source_of(index, &change.path)).unwrap_or(Source::None),
        })
        .collect();
    Ok((changes, names))
}

struct FromPackage<R> {
    payload: package::Payload<R>,
    /// The paths that get the contents of the package's changes, by index.
    names: Vec<TreePath>,
}

impl<R: Read> Payload for FromPackage<R> {
    fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        // What nobody wants is not read, and so not decoded.
        while let Some(mut content) = self.payload.next_content()? {
            let path = &self.names[content.change()];
            if sink.wants(path) {
                sink.take(path, &mut content)?;
            }
        }
        Ok(())
    }
}

//! `Engine`: transactions on one tree.

use super::executor::{self, Run, Staged, Staging};
use super::history::{self, HistoryEntry};
use super::layout::{self, Id};
use super::observer::Observer;
use super::preflight;
use super::stage::Stager;
use super::store::{self, Config, Generation};
use crate::codec::{self, v1};
use crate::error::{Code, Error};
use crate::journal::{Journal, JournalError};
use crate::limits;
use crate::model::{Digest, Entry, Manifest, ManifestChange, Node, Policy, TreePath};
use crate::transaction::{Cause, Input, Outcome, Plan, Record, Recovery, State, Work, cut};
use crate::tree;
use crate::vfs::{OsVfs, Place, Vfs};
use std::collections::BTreeMap;
use std::io::Read;

/// The transactions of one tree: holds its lock, its journal and its state directory.
pub struct Engine<V: Vfs = OsVfs> {
    pub(super) vfs: V,
    pub(super) config: Config,
    pub(super) journal: Journal<V>,
    /// The records of the current epoch.
    pub(super) records: Vec<Record>,
    pub(super) state: State,
    /// Something failed in a way that only a new look at the disk can mend.
    pub(super) broken: bool,
    _lock: V::Lock,
}

/// What one path should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What it should hold; nothing to remove it.
    pub after: Option<Node>,
    /// Where the content of a file comes from.
    pub source: Source,
}

/// Where the content of a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// There is none: a directory, a link, a removal, another name of a hard-linked file.
    None,
    /// The payload delivers it.
    Payload,
    /// It was stored before, in this slot of the transaction's folder.
    Staged(u32),
    /// The tree holds it at this path.
    Base(TreePath),
    /// The change of this index has the same content.
    Change(u32),
}

/// Delivers contents.
pub trait Payload {
    /// Hands every content that the sink wants to it, in any order.
    fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error>;
}

/// Takes contents.
pub trait Sink {
    /// Is the content of this path needed?
    fn wants(&self, path: &TreePath) -> bool;
    /// Takes the content of this path.
    fn take(&mut self, path: &TreePath, content: &mut dyn Read) -> Result<(), Error>;
}

/// A payload without contents.
#[derive(Clone, Copy, Debug)]
pub struct NoPayload;

impl Payload for NoPayload {
    fn deliver(&mut self, _: &mut dyn Sink) -> Result<(), Error> {
        Ok(())
    }
}

/// What changes are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// What is recorded must be there, or the transaction is refused.
    Recorded,
    /// Whatever is there.
    Observed,
}

/// How much of the tree is looked at before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VerifyDepth {
    /// The content of every path that changes.
    #[default]
    Touched,
    /// That, and of everything else whether size, times and inode are as recorded.
    Index,
    /// The content of everything.
    Full,
}

/// How a transaction is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Wait for `confirm` or `rollback` instead of confirming at once.
    pub trial: bool,
    /// Boots after which a trial that nobody confirmed is rolled back.
    pub attempts: u32,
    /// What recovery does when it finds the transaction half-way.
    pub recovery: Recovery,
    /// How much is verified before.
    pub verify: VerifyDepth,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trial: false, attempts: 3, recovery: Recovery::Forward, verify: VerifyDepth::Touched }
    }
}

/// One transaction that is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What changes.
    pub changes: Vec<Change>,
    /// What it is compared with.
    pub base: Base,
    /// What counts as identity from now on; nothing to leave it as it is.
    pub policy: Option<Policy>,
    /// The version that it makes; nothing to leave it as it is.
    pub version: Option<String>,
    /// The digest that the tree must have afterwards.
    pub target: Option<Digest>,
    /// What it is, for people.
    pub title: String,
    /// How it is run.
    pub settings: Settings,
    /// Identity of the transaction, if contents are stored in its folder already.
    pub(super) id: Option<[u8; 16]>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Identity of the transaction, in hexadecimal; empty if there was nothing to do.
    pub transaction: String,
    /// The version before.
    pub from: String,
    /// The version now.
    pub to: String,
    /// How many steps were taken.
    pub steps: u32,
    /// Is it on trial?
    pub trial: bool,
}

impl Request {
    /// A request for some changes, against what is recorded, confirmed at once.
    pub fn new(changes: Vec<Change>, title: impl Into<String>) -> Self {
        Self {
            changes,
            base: Base::Recorded,
            policy: None,
            version: None,
            target: None,
            title: title.into(),
            settings: Settings::default(),
            id: None,
        }
    }
}

impl<V: Vfs> std::fmt::Debug for Engine<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state", &self.state).field("records", &self.records).finish_non_exhaustive()
    }
}

impl<V: Vfs> Engine<V> {
    /// Takes a tree under care: writes its state directory. `manifest` is what it holds; without it nothing is
    /// recorded, and only what transactions touch is known.
    pub fn init(vfs: V, config: Config, version: &str, manifest: Option<&Manifest>) -> Result<Self, Error> {
        let lock = lock(&vfs)?;
        if vfs.stat(&layout::journal())?.is_some() {
            return Err(Error::new(Code::Initialised, "the tree is under surefoot's care already"));
        }
        let capabilities = {
            store::ensure_dir(&vfs, &layout::scratch())?;
            vfs.capabilities(&layout::scratch())?
        };
        if !capabilities.atomic_rename {
            return Err(Error::new(Code::FileSystem, "the file system of the tree does not rename atomically"));
        }
        // Without a journal nothing here counts: it is left from an init that was interrupted.
        for left in [layout::journal_new(), layout::config(), layout::config_new()] {
            if vfs.stat(&left)?.is_some() {
                vfs.remove_file(&left)?;
            }
        }
        store::ensure_dir(&vfs, &layout::generations())?;
        store::ensure_dir(&vfs, &layout::manifests())?;
        let id = vfs.fresh_id()?;
        vfs.mkdir(&layout::generation(id))?;
        let mut generation = Generation {
            id,
            parent: None,
            version: version.into(),
            digest: None,
            manifests: Vec::new(),
            policy: config.policy(),
            time: vfs.now().seconds,
            title: "init".into(),
        };
        if let Some(manifest) = manifest {
            store::write_file(&vfs, &layout::manifest(id), &v1::encode_manifest(manifest))?;
            generation.digest = Some(v1::tree_digest(manifest));
            generation.manifests.push(id);
            generation.policy = manifest.policy();
        }
        generation.write(&vfs)?;
        config.write(&vfs)?;
        Journal::create(&vfs, &layout::journal_new(), vfs.fresh_id()?, id)?;
        vfs.sync_all()?;
        vfs.rename(&layout::journal_new(), &layout::journal(), crate::vfs::Rename::NoReplace)?;
        vfs.sync_all()?;
        history::append(
            &vfs,
            &HistoryEntry {
                transaction: layout::hex(id),
                time: generation.time,
                work: "init".into(),
                from: String::new(),
                to: version.into(),
                outcome: "kept".into(),
                cause: String::new(),
                title: "init".into(),
            },
        )?;
        Self::with_lock(vfs, lock)
    }

    /// Takes the lock of a tree under care and reads its journal. Changes nothing: see [`Engine::recover`].
    pub fn open(vfs: V) -> Result<Self, Error> {
        if vfs.stat(&layout::root())?.is_none() || vfs.stat(&layout::journal())?.is_none() {
            return Err(not_initialised());
        }
        let lock = lock(&vfs)?;
        Self::with_lock(vfs, lock)
    }

    fn with_lock(vfs: V, lock: V::Lock) -> Result<Self, Error> {
        let config = Config::read(&vfs)?;
        let (journal, records, state) = read_journal(&vfs)?;
        Ok(Self { vfs, config, journal, records, state, broken: false, _lock: lock })
    }

    /// The file system.
    pub fn vfs(&self) -> &V {
        &self.vfs
    }

    /// What the tree trusts and keeps.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes what the tree trusts and keeps.
    pub fn set_config(&mut self, config: Config) -> Result<(), Error> {
        config.write(&self.vfs)?;
        self.config = config;
        Ok(())
    }

    /// What happened so far, the oldest first.
    pub fn history(&self) -> Result<Vec<HistoryEntry>, Error> {
        history::read(&self.vfs)
    }

    /// The records of the current epoch of the journal.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The generation that the tree is; during a trial, the one before it.
    pub fn current(&self) -> Result<Generation, Error> {
        Generation::read(&self.vfs, self.current_id())
    }

    /// What is recorded of the tree in its current generation.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        self.current()?.manifest(&self.vfs)
    }

    pub(super) fn current_id(&self) -> Id {
        executor::current(self.journal.header().current, &self.records)
    }

    /// Carries out a transaction: all of it or, wherever it is interrupted, nothing of it.
    pub fn commit(
        &mut self,
        mut request: Request,
        payload: &mut dyn Payload,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        self.require_idle()?;
        if !(1..=limits::TRIAL_ATTEMPTS).contains(&request.settings.attempts) {
            return Err(Error::new(Code::Usage, format!("a trial takes 1 to {} attempts", limits::TRIAL_ATTEMPTS)));
        }
        let base = self.current()?;
        let policy = request.policy.unwrap_or(base.policy);
        let mut manifest = base.manifest(&self.vfs)?;
        self.verify_before(manifest.as_ref(), request.settings.verify, observer)?;
        request.changes.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = request.changes.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(Error::new(Code::Path, format!("{} is given twice", pair[0].path)));
        }
        let before = self.before(&mut request, manifest.as_ref())?;
        let delta = manifest_changes(&request.changes);
        if let Some(old) = manifest.take() {
            let unfit = |error| Error::new(Code::Base, "the changes do not fit the tree").because(error);
            manifest = Some(old.under(policy).and_then(|old| old.with(delta.iter().cloned())).map_err(unfit)?);
        }
        let digest = manifest.as_ref().map(v1::tree_digest);
        if request.target.is_some() && request.target != digest {
            return Err(Error::new(Code::PackageFormat, "the changes do not lead to the tree that was promised"));
        }
        let checked = preflight::check(&self.vfs, &request.changes, before, policy, observer)?;

        let id = match request.id {
            Some(id) => id,
            None => {
                let id = self.vfs.fresh_id()?;
                self.vfs.mkdir(&layout::generation(id))?;
                id
            }
        };
        let generation = Generation {
            id,
            parent: Some(base.id),
            version: request.version.clone().unwrap_or_else(|| base.version.clone()),
            digest,
            manifests: Vec::new(),
            policy,
            time: self.vfs.now().seconds,
            title: cut(request.title.clone()),
        };
        let begin = self.begin(&generation, id, Work::Apply, &request.settings)?;
        let mut report = Report {
            transaction: layout::hex(id),
            from: base.version.clone(),
            to: generation.version.clone(),
            steps: 0,
            trial: request.settings.trial,
        };
        let steps = {
            let (vfs, changes) = (&self.vfs, &request.changes);
            let stager = Stager::new(vfs, id, changes, &checked, policy, observer);
            let mut stager = Some(stager);
            let mut generation = Some(generation);
            let method = checked.method;
            let stage: Box<Staging<'_>> = Box::new(move || {
                let again = || Error::new(Code::Internal, "staged twice");
                let (steps, seen) = stager.take().ok_or_else(again)?.run(payload)?;
                let mut generation = generation.take().ok_or_else(again)?;
                write_manifest(vfs, &base, &mut generation, manifest.take(), &delta)?;
                generation.write(vfs)?;
                let plan = Plan { transaction: id, slots: id, method, policy, steps };
                let prepared = write_plan(vfs, &plan)?;
                Ok(Staged { plan, seen, prepared })
            });
            let mut run = Run {
                vfs,
                journal: &mut self.journal,
                observer,
                state: self.state,
                records: &mut self.records,
                stage: Some(stage),
                plan: None,
                seen: Vec::new(),
                failure: None,
                keep: self.config.keep,
            };
            let result = run.drive(Input::Start(begin));
            let steps = run.plan.as_ref().map_or(0, |plan| plan.steps.len() as u32);
            let (state, failure) = (run.state, run.failure.take());
            drop(run);
            self.finish(state, failure, result)?;
            steps
        };
        report.steps = steps;
        Ok(report)
    }

    /// Ends a trial: the new version stays.
    pub fn confirm(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        self.require_whole()?;
        match self.state {
            State::Trial { .. } => self.resume(Input::Confirm, observer),
            _ => Err(Error::new(Code::NoTrial, "there is no trial to confirm")),
        }
    }

    /// Goes back to the version before: ends a trial, or takes back the last confirmed update.
    pub fn rollback(&mut self, observer: &dyn Observer) -> Result<Report, Error> {
        self.require_whole()?;
        match self.state {
            State::Trial { .. } => self.reject(observer),
            State::Idle => self.undo(observer),
            _ => Err(pending()),
        }
    }

    fn reject(&mut self, observer: &dyn Observer) -> Result<Report, Error> {
        let from = self.pending_generation()?;
        let plan = self.plan()?;
        executor::can_revert(&self.vfs, &plan)?;
        self.resume(Input::Reject(Cause::new("requested", "rolled back on request")), observer)?;
        Ok(Report {
            transaction: layout::hex(from.id),
            from: from.version,
            to: self.current()?.version,
            steps: plan.steps.len() as u32,
            trial: false,
        })
    }

    fn undo(&mut self, observer: &dyn Observer) -> Result<Report, Error> {
        let from = self.current()?;
        let nothing = || Error::new(Code::NoUndo, "no undo data is kept for the current version");
        let parent = from.parent.ok_or_else(nothing)?;
        if self.vfs.stat(&layout::plan(from.id))?.is_none()
            || self.vfs.stat(&layout::generation_state(parent))?.is_none()
        {
            return Err(nothing());
        }
        let parent = Generation::read(&self.vfs, parent)?;
        let bytes = store::read_file(&self.vfs, &layout::plan(from.id), limits::STATE_FILE)?;
        let plan = Plan::decode(&bytes)
            .map_err(|error| Error::new(Code::Format, "the undo plan is damaged").because(error))?;
        executor::can_revert(&self.vfs, &plan)?;
        let id = self.vfs.fresh_id()?;
        self.vfs.mkdir(&layout::generation(id))?;
        let title = format!("undo of {}", from.title);
        let generation = Generation { id, title: cut(title), time: self.vfs.now().seconds, ..parent.clone() };
        let begin = self.begin(&generation, parent.id, Work::Undo, &Settings::default())?;
        let plan = plan.inverse(id);
        let steps = plan.steps.len() as u32;
        let vfs = &self.vfs;
        let mut plan = Some(plan);
        let stage: Box<Staging<'_>> = Box::new(move || {
            let plan = plan.take().ok_or_else(|| Error::new(Code::Internal, "staged twice"))?;
            let prepared = write_plan(vfs, &plan)?;
            Ok(Staged { plan, seen: Vec::new(), prepared })
        });
        let mut run = Run {
            vfs,
            journal: &mut self.journal,
            observer,
            state: self.state,
            records: &mut self.records,
            stage: Some(stage),
            plan: None,
            seen: Vec::new(),
            failure: None,
            keep: self.config.keep,
        };
        let result = run.drive(Input::Start(begin));
        let (state, failure) = (run.state, run.failure.take());
        drop(run);
        self.finish(state, failure, result)?;
        Ok(Report { transaction: layout::hex(id), from: from.version, to: parent.version, steps, trial: false })
    }

    /// Feeds an input to a transaction that an earlier process, or an earlier call, left.
    pub(super) fn resume(&mut self, input: Input, observer: &dyn Observer) -> Result<(), Error> {
        let plan = self.plan_for_resume()?;
        let mut run = Run {
            vfs: &self.vfs,
            journal: &mut self.journal,
            observer,
            state: self.state,
            records: &mut self.records,
            stage: None,
            plan,
            seen: Vec::new(),
            failure: None,
            keep: self.config.keep,
        };
        let result = run.drive(input);
        let (state, failure) = (run.state, run.failure.take());
        drop(run);
        self.finish(state, failure, result)
    }

    /// Turns the end of a run into the answer to the caller.
    fn finish(&mut self, state: State, failure: Option<Error>, result: Result<(), Error>) -> Result<(), Error> {
        self.state = state;
        if let Err(error) = result {
            self.broken = true;
            return Err(error);
        }
        match (failure, executor::outcome(state, &self.records)) {
            (None, _) => Ok(()),
            // The tree was never touched: the error is that of staging.
            (Some(error), Some(Outcome::Abandoned)) => Err(error),
            (Some(error), _) => {
                Err(Error::new(Code::RolledBack, "the update failed and the old version is back").because(error))
            }
        }
    }

    fn begin(&mut self, generation: &Generation, target: Id, work: Work, settings: &Settings) -> Result<Record, Error> {
        let current = self.current_id();
        self.journal.turn(&self.vfs, current).map_err(journal_error)?;
        self.records.clear();
        self.state = State::Idle;
        Ok(Record::Begin {
            transaction: generation.id,
            base: current,
            target,
            work,
            trial: settings.trial,
            attempts: settings.attempts,
            recovery: settings.recovery,
            session: self.vfs.session()?.0,
            time: generation.time,
            title: generation.title.clone(),
        })
    }

    /// The generation that a pending transaction makes.
    pub(super) fn pending_generation(&self) -> Result<Generation, Error> {
        match self.records.first() {
            Some(Record::Begin { transaction, work: Work::Apply, .. }) => Generation::read(&self.vfs, *transaction),
            Some(Record::Begin { target, .. }) => Generation::read(&self.vfs, *target),
            _ => Err(Error::new(Code::NoTrial, "there is no pending transaction")),
        }
    }

    /// What every change starts from. Adds what the manifest needs besides: unrecorded parents, and hard links whose
    /// first name changes.
    fn before(&self, request: &mut Request, manifest: Option<&Manifest>) -> Result<Vec<Option<Node>>, Error> {
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

    fn verify_before(
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
            observer.report(super::Progress { phase: super::Phase::Check, done, total });
        };
        Ok(tree::verify(&self.vfs, manifest, true, depth, &progress)?)
    }

    fn read_index(&self) -> Option<tree::Index> {
        let bytes = store::read_file(&self.vfs, &layout::index(), limits::INDEX_FILE).ok()?;
        tree::Index::decode(&bytes).ok()
    }

    /// Records the stat cache. It is only a cache: nothing is lost if it is.
    pub fn write_index(&self, index: &tree::Index) -> Result<(), Error> {
        Ok(store::replace_file(&self.vfs, &layout::index_new(), &layout::index(), &index.encode())?)
    }

    pub(super) fn require_whole(&self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::new(Code::Undecided, "an earlier call failed in a way that only a new start can mend"));
        }
        super::recover::refuse_poisoned(&self.vfs)
    }

    pub(super) fn require_idle(&self) -> Result<(), Error> {
        self.require_whole()?;
        if self.state == State::Idle { Ok(()) } else { Err(pending()) }
    }
}

fn pending() -> Error {
    Error::new(Code::Pending, "an earlier transaction is not finished")
}

pub(super) fn not_initialised() -> Error {
    Error::new(Code::NotInitialised, "the tree is not under surefoot's care")
}

fn lock<V: Vfs>(vfs: &V) -> Result<V::Lock, Error> {
    vfs.lock(&layout::lock())?.ok_or_else(|| Error::new(Code::Locked, "another process works on the tree"))
}

/// Reads the journal and folds its records.
pub(super) fn read_journal<V: Vfs>(vfs: &V) -> Result<(Journal<V>, Vec<Record>, State), Error> {
    let damaged = |error: String| Error::new(Code::JournalDamaged, format!("the journal is damaged: {error}"));
    let (journal, payloads) = Journal::open(vfs, &layout::journal()).map_err(journal_error)?;
    let records: Vec<Record> = payloads
        .iter()
        .map(|payload| codec::decode(payload))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(error.to_string()))?;
    let state = records
        .iter()
        .try_fold(State::Idle, |state, record| state.replay(record))
        .map_err(|error| damaged(error.to_string()))?;
    Ok((journal, records, state))
}

fn journal_error(error: JournalError) -> Error {
    match error {
        JournalError::Io(error) => error.into(),
        JournalError::Damaged(what) => Error::new(Code::JournalDamaged, format!("the journal is damaged: {what}")),
        JournalError::Full => Error::new(Code::Internal, "the journal is full"),
    }
}

fn manifest_changes(changes: &[Change]) -> Vec<ManifestChange> {
    changes.iter().map(|change| ManifestChange { path: change.path.clone(), after: change.after.clone() }).collect()
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

/// Writes what the tree will hold: as changes to what is written already, or whole when that is shorter to read.
fn write_manifest<V: Vfs>(
    vfs: &V,
    base: &Generation,
    generation: &mut Generation,
    manifest: Option<Manifest>,
    delta: &[ManifestChange],
) -> Result<(), Error> {
    let Some(manifest) = manifest else { return Ok(()) };
    let known = manifest.entries().len();
    // A delta of half the manifest, or a long chain of them, costs more to read than it saves to write.
    let whole = base.manifests.is_empty() || base.manifests.len() > limits::MANIFEST_DELTAS || 2 * delta.len() > known;
    let bytes = if whole {
        v1::encode_manifest(&manifest)
    } else {
        generation.manifests.clone_from(&base.manifests);
        v1::encode_manifest_delta(manifest.policy(), delta)
    };
    generation.manifests.push(generation.id);
    Ok(store::write_file(vfs, &layout::manifest(generation.id), &bytes)?)
}

/// Writes the plan and gives the record that names it.
fn write_plan<V: Vfs>(vfs: &V, plan: &Plan) -> Result<Record, Error> {
    let (bytes, digest) = plan.encode();
    store::write_file(vfs, &layout::plan(plan.transaction), &bytes)?;
    Ok(Record::Prepared { plan: digest.0, plan_size: bytes.len() as u64, steps: plan.steps.len() as u32 })
}

impl From<tree::TreeError> for Error {
    fn from(error: tree::TreeError) -> Self {
        super::recover::tree_error(error)
    }
}

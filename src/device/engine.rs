//! `Engine`: transactions on one tree.

use super::baseline::{manifest_changes, manifest_length, write_manifest};
use super::executor::{self, Ended, Run, Staged, Staging};
use super::history::{self, HistoryEntry};
use super::layout::{self, Id};
use super::observer::Observer;
use super::preflight::{self, Room};
use super::stage::Stager;
use super::store::{self, Config, Generation};
use super::sweep;
use crate::codec::{self, v1};
use crate::error::{Code, Error};
use crate::journal::{Journal, JournalError};
use crate::limits;
use crate::model::Manifest;
use crate::transaction::{Input, Outcome, Plan, Record, State, Work, cut};
use crate::tree;
use crate::vfs::{OsVfs, Vfs};

pub use super::request::{Base, Change, NoPayload, Payload, Report, Request, Settings, Sink, Source, VerifyDepth};

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
    /// A sync failed: nothing that is read in this process can mend that, even where the mark of it could not be written.
    condemned: bool,
    _lock: V::Lock,
}

impl<V: Vfs> std::fmt::Debug for Engine<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state", &self.state).field("records", &self.records).finish_non_exhaustive()
    }
}

impl<V: Vfs> Engine<V> {
    /// Takes the lock of a tree under care and reads its journal. Changes nothing: see [`Engine::recover`].
    pub fn open(vfs: V) -> Result<Self, Error> {
        if vfs.stat(&layout::root())?.is_none() || vfs.stat(&layout::journal())?.is_none() {
            return Err(not_initialised());
        }
        let lock = lock(&vfs)?;
        Self::with_lock(vfs, lock)
    }

    pub(super) fn with_lock(vfs: V, lock: V::Lock) -> Result<Self, Error> {
        refuse_elsewhere(&vfs)?;
        let config = Config::read(&vfs)?;
        let (journal, records, state) = read_journal(&vfs)?;
        Ok(Self { vfs, config, journal, records, state, broken: false, condemned: false, _lock: lock })
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
        self.require_whole()?;
        let result = config.replace(&self.vfs);
        self.notice(result)?;
        self.config = config;
        Ok(())
    }

    /// After a failed sync nothing goes on, even where the mark of it could not be written.
    pub(super) fn notice<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.condemned |= matches!(&result, Err(error) if error.code() == Code::SyncFailed);
        self.broken |= self.condemned;
        result
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
        self.make_idle()?;
        if !(1..=limits::TRIAL_ATTEMPTS).contains(&request.settings.attempts) {
            return Err(Error::new(Code::Usage, format!("a trial takes 1 to {} attempts", limits::TRIAL_ATTEMPTS)));
        }
        if request.id.is_none() {
            // What was unpacked for another transaction would take its room.
            self.forget_unpacked();
        }
        let base = self.current()?;
        let policy = request.policy.unwrap_or(base.policy);
        let mut manifest = base.manifest(&self.vfs)?;
        self.verify_before(manifest.as_ref(), request.settings.verify, observer)?;
        request.changes.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = request.changes.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(Error::new(Code::Path, format!("{} is given twice", pair[0].path)));
        }
        self.add_disturbed(&mut request, manifest.as_ref(), policy)?;
        let before = self.before(&mut request, manifest.as_ref())?;
        if let Some(old) = manifest.take() {
            let unfit = |error| Error::new(Code::Base, "the changes do not fit the tree").because(error);
            manifest =
                Some(old.under(policy).and_then(|old| old.with(manifest_changes(&request.changes))).map_err(unfit)?);
        }
        let digest = manifest.as_ref().map(v1::tree_digest);
        if request.target.is_some() && request.target != digest {
            return Err(Error::new(Code::PackageFormat, "the changes do not lead to the tree that was promised"));
        }
        let length = |manifest: &Manifest| manifest_length(&base, manifest, &request.changes);
        let room = Room { manifest: manifest.as_ref().map(length), begun: request.id.is_some(), ..Room::default() };
        let known = std::mem::take(&mut request.known);
        let checked = preflight::check(&self.vfs, request.changes, before, policy, (&known, room), observer)?;
        drop(known);
        let version = request.version.clone().unwrap_or_else(|| base.version.clone());
        let same = (&version, digest, policy) == (&base.version, base.digest, base.policy);
        if same && checked.order.is_empty() && !request.settings.trial {
            // Nothing happens, so nothing is noted, and no undo data is displaced. What was stored beforehand goes.
            self.forget_unpacked();
            sweep::collect(&self.vfs, base.id, self.config.keep, self.finished())?;
            let to = base.version.clone();
            return Ok(Report { transaction: String::new(), from: base.version, to, steps: 0, trial: false });
        }

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
            version,
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
            let (vfs, method) = (&self.vfs, checked.method);
            let stager = Stager::new(vfs, id, checked, policy, request.taken_slots, observer);
            let mut once = Some((stager, generation, manifest));
            let stage: Box<Staging<'_>> = Box::new(move || {
                let again = || Error::new(Code::Internal, "staged twice");
                let (stager, mut generation, manifest) = once.take().ok_or_else(again)?;
                let manifest = write_manifest(vfs, &base, &mut generation, manifest, &stager.checked.proposals)?;
                let (steps, seen) = stager.run(payload)?;
                let state = Some(generation.write(vfs)?);
                let plan = Plan { transaction: id, slots: id, method, policy, state, manifest, steps };
                let prepared = write_plan(vfs, &plan)?;
                Ok(Staged { plan, seen, prepared })
            });
            let mut run = Run::new(vfs, &mut self.journal, &mut self.records, self.state, self.config.keep, observer);
            run.stage = Some(stage);
            let ended = run.run(Input::Start(begin));
            self.finish(ended)?
        };
        report.steps = steps;
        Ok(report)
    }

    /// Feeds an input to a transaction that an earlier process, or an earlier call, left.
    pub(super) fn resume(&mut self, input: Input, observer: &dyn Observer) -> Result<(), Error> {
        let plan = self.plan_for_resume()?;
        let keep = self.config.keep;
        let mut run = Run::new(&self.vfs, &mut self.journal, &mut self.records, self.state, keep, observer);
        run.plan = plan;
        let ended = run.run(input);
        self.finish(ended).map(drop)
    }

    /// Turns the end of a run into the answer to the caller: how many steps there were.
    pub(super) fn finish(&mut self, ended: Ended) -> Result<u32, Error> {
        let Ended { state, failure, result, steps } = ended;
        self.state = state;
        if let Err(error) = self.notice(result) {
            self.broken = true;
            return Err(error);
        }
        match (failure, executor::outcome(state, &self.records)) {
            (None, _) => Ok(steps),
            // The tree was never touched: the error is that of staging.
            (Some(error), Some(Outcome::Abandoned)) => Err(error),
            (Some(error), _) => {
                Err(Error::new(Code::RolledBack, "the update failed and the old version is back").because(error))
            }
        }
    }

    pub(super) fn begin(
        &mut self,
        generation: &Generation,
        target: Id,
        work: Work,
        settings: &Settings,
    ) -> Result<Record, Error> {
        let current = self.current_id();
        let settled = self.journal.settle(&self.vfs).map_err(|error| store::sync_failed(&self.vfs, error));
        self.notice(settled)?;
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

    pub(super) fn require_whole(&self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::new(Code::Undecided, "an earlier call failed in a way that only a new start can mend"));
        }
        self.require_trust()
    }

    /// Refuses as long as the cache in which a sync failed may still be the one that is read.
    pub(super) fn require_trust(&self) -> Result<(), Error> {
        if self.condemned {
            return Err(super::recover::untrusted());
        }
        super::recover::refuse_poisoned(&self.vfs)
    }

    /// Refuses unless another transaction may begin. One that has ended, but could not be swept, is swept now.
    pub(super) fn make_idle(&mut self) -> Result<(), Error> {
        self.require_whole()?;
        if matches!(self.state, State::Closing(_)) {
            self.recover(&())?;
        }
        self.require_idle()
    }

    pub(super) fn require_idle(&self) -> Result<(), Error> {
        self.require_whole()?;
        if self.state == State::Idle { Ok(()) } else { Err(pending()) }
    }
}

pub(super) fn pending() -> Error {
    Error::new(Code::Pending, "an earlier transaction is not finished")
}

pub(super) fn not_initialised() -> Error {
    Error::new(Code::NotInitialised, "the tree is not under surefoot's care")
}

pub(super) fn lock<V: Vfs>(vfs: &V) -> Result<V::Lock, Error> {
    vfs.lock(&layout::lock())?.ok_or_else(|| Error::new(Code::Locked, "another process works on the tree"))
}

/// One barrier must cover the tree and its state.
pub(super) fn refuse_elsewhere<V: Vfs>(vfs: &V) -> Result<(), Error> {
    if vfs.same_file_system()? {
        return Ok(());
    }
    Err(Error::new(Code::StateElsewhere, "the state directory is not on the file system of the tree"))
}

/// Reads the journal and folds its records.
pub(super) fn read_journal<V: Vfs>(vfs: &V) -> Result<(Journal<V>, Vec<Record>, State), Error> {
    let damaged = |error: String| Error::new(Code::JournalDamaged, format!("the journal is damaged: {error}"));
    let (mut journal, payloads) = Journal::open(vfs, &layout::journal()).map_err(journal_error)?;
    let records: Vec<Record> = payloads
        .iter()
        .map(|payload| codec::decode(payload))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(error.to_string()))?;
    let state = records
        .iter()
        .try_fold(State::Idle, |state, record| state.replay(record))
        .map_err(|error| damaged(error.to_string()))?;
    if let Some(Record::Begin { base, .. }) = records.first() {
        journal.begins_at(*base);
    }
    Ok((journal, records, state))
}

fn journal_error(error: JournalError) -> Error {
    match error {
        JournalError::Io(error) => error.into(),
        JournalError::Damaged(what) => Error::new(Code::JournalDamaged, format!("the journal is damaged: {what}")),
        JournalError::Full => Error::new(Code::Internal, "the journal is full"),
    }
}

/// Writes the plan and gives the record that names it.
pub(super) fn write_plan<V: Vfs>(vfs: &V, plan: &Plan) -> Result<Record, Error> {
    let (bytes, digest) = plan.encode();
    store::write_file(vfs, &layout::plan(plan.transaction), &bytes)?;
    Ok(Record::Prepared { plan: digest.0, plan_size: bytes.len() as u64, steps: plan.steps.len() as u32 })
}

impl From<tree::TreeError> for Error {
    fn from(error: tree::TreeError) -> Self {
        super::recover::tree_error(error)
    }
}

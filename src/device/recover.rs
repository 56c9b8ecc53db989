//! Recovery: read the journal, then let the state machine go on. There is no other algorithm.

use super::engine::{Engine, read_journal};
use super::evidence::{self, Directories, Position, Seen, Stores};
use super::executor;
use super::history::{self, HistoryEntry};
use super::layout;
use super::observer::Observer;
use super::request::Report;
use super::store::{self, Generation};
use super::sweep;
use crate::codec::frame::Header;
use crate::error::{Code, Error, Finding};
use crate::limits;
use crate::model::{Difference, Digest, Manifest};
use crate::transaction::{Cause, Input, Method, Outcome, Plan, Record, State, Work};
use crate::tree;
use crate::vfs::{Access, Place, Session, Vfs};

/// What is told of a trial that is used up, but stays.
const HELD: &str =
    "the trial is used up, but what was changed since keeps it from being taken back: the new version stays on trial";

/// What recovery did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    /// How the transaction that it found ended; nothing if it found none, or one on trial.
    pub outcome: Option<Outcome>,
    /// Is a new version on trial now?
    pub trial: bool,
    /// The version of the tree.
    pub version: String,
    /// Why it was taken back, if it was.
    pub cause: Option<String>,
    /// The way back that this was: what it has dropped or taken back, or the undoing that it has finished. Who was asked
    /// to go back before it has nothing more to do then: [`Engine::rollback`] would go back one version further.
    #[serde(skip)]
    pub went_back: Option<Report>,
}

/// What is known of a tree, without changing anything.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The version; during a trial, the one before it.
    pub version: String,
    /// Digest of the recorded tree; nothing if it is not recorded.
    pub digest: Option<Digest>,
    /// `idle`, `preparing`, `applying`, `trial`, `reverting` or `closing`.
    pub state: &'static str,
    /// The version that a pending transaction makes.
    pub pending: Option<String>,
    /// Boots that have found the trial.
    pub attempt: Option<u32>,
    /// Boots after which it is rolled back.
    pub attempts: Option<u32>,
    /// The version that a rollback leads to.
    pub rollback: Option<String>,
    /// Must the machine be rebooted, or the file system mounted anew, before recovery?
    pub poisoned: bool,
    /// The epoch of the journal: how many transactions have begun.
    pub epoch: u64,
}

impl<V: Vfs> Engine<V> {
    /// Finishes or takes back whatever a crash left. Safe to run always; a second run does nothing.
    pub fn recover(&mut self, observer: &dyn Observer) -> Result<Recovered, Error> {
        self.require_trust()?;
        if self.broken {
            let (journal, records, state) = read_journal(&self.vfs)?;
            (self.journal, self.records, self.state, self.broken) = (journal, records, state, false);
        }
        let found = self.state;
        let left = if found == State::Idle { None } else { self.left_version() };
        if found == State::Idle {
            // Garbage that cannot be removed now does no harm.
            if let Err(error) = sweep::collect(&self.vfs, self.current_id(), self.config.keep, self.finished()) {
                tracing::warn!(error = %error, "leavings of earlier transactions could not be removed");
            }
        } else {
            let (input, held) = self.resumption()?;
            self.resume(input, observer).or_else(|error| match error.code() {
                // Recovery has done its work: what failed was the update.
                Code::RolledBack => Ok(()),
                _ => Err(error),
            })?;
            if let Some(error) = held {
                return Err(error);
            }
        }
        let cause = self.records.iter().find_map(|record| match record {
            Record::Revert { cause, detail } if found != State::Idle => Some(format!("{cause}: {detail}")),
            _ => None,
        });
        let trial = matches!(self.state, State::Trial { .. });
        let cause = cause.or_else(|| match self.state {
            State::Trial { facts, attempt, .. } if attempt > facts.attempts => {
                Some(format!("{}: {HELD}", Code::Changed.as_str()))
            }
            _ => None,
        });
        let outcome = if found == State::Idle { None } else { executor::outcome(self.state, &self.records) };
        let version = self.current()?.version;
        let went_back = outcome.and_then(|outcome| self.went_back(outcome, left, &version));
        Ok(Recovered { outcome, trial, version, cause, went_back })
    }

    /// The version that the tree leaves if it goes back: the pending update's, or that which is being undone.
    fn left_version(&self) -> Option<String> {
        let Some(Record::Begin { transaction, base, work, .. }) = self.records.first() else { return None };
        let left = if *work == Work::Apply { transaction } else { base };
        Generation::read(&self.vfs, *left).ok().map(|generation| generation.version)
    }

    /// The way back that a transaction was which has ended so; nothing if the tree is not older than it would be without
    /// it. An undoing that was taken back or dropped is none: the version that it was to leave is here still.
    fn went_back(&self, outcome: Outcome, left: Option<String>, version: &str) -> Option<Report> {
        let Some(Record::Begin { transaction, work, .. }) = self.records.first() else { return None };
        let transaction = layout::hex(*transaction);
        let noted = || {
            // What a sweep that was cut short has removed already stands in the history.
            let entry = history::read(&self.vfs).ok()?.into_iter().find(|entry| entry.transaction == transaction)?;
            Some(if *work == Work::Apply { entry.to } else { entry.from })
        };
        let from = match (work, outcome) {
            (Work::Apply, Outcome::Abandoned) => version.to_owned(),
            (Work::Apply, Outcome::Restored) | (Work::Undo, Outcome::Kept) => left.or_else(noted).unwrap_or_default(),
            _ => return None,
        };
        let prepared = |record: &Record| match record {
            Record::Prepared { steps, .. } => Some(*steps),
            _ => None,
        };
        let steps = self.records.iter().find_map(prepared).unwrap_or(0);
        Some(Report { transaction, from, to: version.to_owned(), steps, trial: false })
    }

    /// With which input a transaction goes on that was found half-way or on trial; and the error to tell once, where a
    /// trial is used up but going back would destroy what others have done since.
    fn resumption(&self) -> Result<(Input, Option<Error>), Error> {
        let session = self.vfs.session()?.0;
        let (facts, attempt, seen) = match self.state {
            State::Trial { facts, attempt, session } if facts.trial => (facts, attempt, session),
            _ => return Ok((Input::Resume { session }, None)),
        };
        if self.was_going_back()? {
            // Half of it is taken back already: a tree that nothing may start from.
            executor::can_revert(&self.vfs, &self.plan()?).map_err(|error| {
                Error::new(Code::Stuck, "a trial was being taken back, which cannot be finished").because(error)
            })?;
            let cause = Cause::new("recovery.direction-lost", "steps were taken back, but no record says so");
            return Ok((Input::Reject(cause), None));
        }
        if seen != session && attempt >= facts.attempts {
            match executor::can_revert(&self.vfs, &self.plan()?) {
                Err(error) if matches!(error.code(), Code::Changed | Code::Stray | Code::Immutable | Code::Mount) => {
                    let findings = error.findings().0.to_vec();
                    let told = Error::new(error.code(), HELD).because(error).listing(findings);
                    return Ok((Input::Hold { session }, (attempt == facts.attempts).then_some(told)));
                }
                other => other?,
            }
        }
        Ok((Input::Resume { session }, None))
    }

    /// Is the tree what it should be? During a trial: what the new version should be.
    pub fn verify(&self, full: bool, observer: &dyn Observer) -> Result<tree::Verification, Error> {
        let (_, manifest) = self.expected()?;
        self.compare(&manifest, full, observer)
    }

    /// What the tree should be now, and what it should hold. During a trial: the new version.
    pub fn expected(&self) -> Result<(Generation, Manifest), Error> {
        let generation = match self.state {
            State::Trial { .. } => self.pending_generation()?,
            State::Idle | State::Closing(_) => self.current()?,
            _ => return Err(Error::new(Code::Pending, "a transaction is half-way; recover first")),
        };
        let manifest = generation
            .manifest(&self.vfs)?
            .ok_or_else(|| Error::new(Code::Untracked, "the content of the tree is not recorded"))?;
        Ok((generation, manifest))
    }

    /// Takes the word of somebody who has unmounted the file system and mounted it again after a sync failed: what is
    /// read now comes from the disk.
    pub fn forget_poison(&self) -> Result<(), Error> {
        forget(&self.vfs)
    }

    /// What is known without looking at the tree.
    pub fn status(&self) -> Result<Status, Error> {
        status(&self.vfs, &self.records, self.state, self.journal.header())
    }

    /// The plan of the pending transaction, which must be there.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        self.plan_for_resume()?.ok_or_else(|| Error::new(Code::JournalDamaged, "the plan of the transaction is gone"))
    }

    /// The plan of the pending transaction. Nothing if there is none yet, or if a crash before the first barrier took it;
    /// refused if it is gone although a step may have been taken.
    pub(super) fn plan_for_resume(&self) -> Result<Option<Plan>, Error> {
        let prepared = self.records.iter().find_map(|record| match record {
            Record::Prepared { plan, plan_size, steps } => Some((*plan, *plan_size, *steps)),
            _ => None,
        });
        let (Some(Record::Begin { transaction, .. }), Some((digest, size, steps))) = (self.records.first(), prepared)
        else {
            return Ok(None);
        };
        if matches!(self.state, State::Closing(_) | State::Idle) {
            return Ok(None);
        }
        let at = layout::plan(*transaction);
        let found = match self.vfs.stat(&at)? {
            Some(stat) if stat.size == size => Some(store::read_file(&self.vfs, &at, limits::STATE_FILE)?),
            _ => None,
        };
        if let Some(bytes) = found.filter(|bytes| Digest::of(bytes).0 == digest) {
            let bad = |why: String| Error::new(Code::JournalDamaged, format!("{at}: {why}"));
            let plan = Plan::decode(&bytes).map_err(|error| bad(error.to_string()))?;
            if plan.transaction != *transaction || plan.steps.len() != steps as usize {
                return Err(bad("it is the plan of another transaction".into()));
            }
            return Ok(Some(plan));
        }
        // The first barrier makes the plan durable before any step. So without a plan no step was taken, unless the
        // disk has lost what it had promised to keep: then a record, or the tree itself, tells.
        let went_on = self
            .records
            .iter()
            .any(|record| !matches!(record, Record::Begin { .. } | Record::Prepared { .. } | Record::Revert { .. }));
        if went_on || self.tree_shows_steps(*transaction)? {
            return Err(Error::new(Code::JournalDamaged, format!("{at} is damaged, but steps were taken")));
        }
        Ok(None)
    }

    /// Was a trial being taken back, although the record of it is gone? A crash cannot take that record, since it is
    /// durable before the first step back; rot can. Nothing is read but what stands where something was taken back.
    fn was_going_back(&self) -> Result<bool, Error> {
        let plan = self.plan()?;
        let directories = Directories::of(&plan);
        for step in plan.steps.iter().filter(|step| !step.in_place) {
            let Stores { new, old } = Stores::of(&plan, step);
            let (back, wanted) = match (&step.before, &step.after) {
                // What was replaced stands again where it was, and what had replaced it is no more.
                (Some(_), Some(_)) if plan.method == Method::Replace => {
                    (self.vfs.stat(&old)?.is_none(), Position::Unstaged)
                }
                (_, Some(_)) => {
                    let stored = self.vfs.stat(&new)?;
                    (stored.is_some_and(|stat| stat.inode == step.after_inode), Position::NotDone)
                }
                (_, None) => (self.vfs.stat(&old)?.is_none(), Position::NotDone),
            };
            // Somebody may have made another object of that name, and a number alone proves nothing.
            if back && evidence::examine(&self.vfs, &plan, &directories, step, &mut Seen::default())?.0 == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does the tree hold anything that only this transaction can have put there?
    fn tree_shows_steps(&self, transaction: [u8; 16]) -> Result<bool, Error> {
        let Some(manifest) = self.manifest()? else { return Ok(false) };
        let Ok(changes) = store::read_changes(&self.vfs, transaction, &manifest) else { return Ok(false) };
        for change in changes {
            let now = tree::node_at(&self.vfs, &Place::tree(&change.path))?;
            let policy = manifest.policy();
            let is = |wanted: Option<&crate::model::Node>| match (&now, wanted) {
                (None, None) => true,
                (Some(now), Some(wanted)) => now.matches(wanted, policy),
                _ => false,
            };
            if is(change.after.as_ref()) && !is(manifest.get(&change.path)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What is known of a tree, by its journal, without its lock.
pub fn peek<V: Vfs>(vfs: &V) -> Result<(Status, Vec<Record>), Error> {
    require_initialised(vfs)?;
    let (journal, records, state) = read_journal(vfs)?;
    Ok((status(vfs, &records, state, journal.header())?, records))
}

/// What happened to a tree so far, the oldest first, without its lock.
pub fn peek_history<V: Vfs>(vfs: &V) -> Result<Vec<HistoryEntry>, Error> {
    require_initialised(vfs)?;
    history::read(vfs)
}

fn require_initialised<V: Vfs>(vfs: &V) -> Result<(), Error> {
    if vfs.stat(&layout::journal())?.is_some() { Ok(()) } else { Err(super::engine::not_initialised()) }
}

fn status<V: Vfs>(vfs: &V, records: &[Record], state: State, header: Header) -> Result<Status, Error> {
    let current = Generation::read(vfs, executor::current(header.current, records))?;
    let rollback = match (state, current.parent) {
        (State::Trial { .. }, _) => Some(current.version.clone()),
        (_, Some(parent)) if vfs.stat(&layout::plan(current.id))?.is_some() => {
            Generation::read(vfs, parent).ok().map(|parent| parent.version)
        }
        _ => None,
    };
    let pending = match (state, records.first()) {
        (State::Idle | State::Closing(_) | State::Preparing(_), _) => None,
        (_, Some(Record::Begin { transaction, target, work, .. })) => {
            let id = if *work == Work::Apply { transaction } else { target };
            Generation::read(vfs, *id).ok().map(|generation| generation.version)
        }
        _ => None,
    };
    let (attempt, attempts) = match state {
        State::Trial { facts, attempt, .. } => (Some(attempt), Some(facts.attempts)),
        _ => (None, None),
    };
    Ok(Status {
        version: current.version,
        digest: current.digest,
        state: match state {
            State::Idle => "idle",
            State::Preparing(_) => "preparing",
            State::Applying { .. } => "applying",
            State::Trial { .. } => "trial",
            State::Reverting { .. } => "reverting",
            State::Closing(_) => "closing",
        },
        pending,
        attempt,
        attempts,
        rollback,
        poisoned: poisoned_by(vfs)?.is_some_and(|session| vfs.session().is_ok_and(|now| now == session)),
        epoch: header.epoch,
    })
}

/// Refuses as long as the cache in which a sync failed may still be the one that is read.
pub(super) fn refuse_poisoned<V: Vfs>(vfs: &V) -> Result<(), Error> {
    let Some(session) = poisoned_by(vfs)? else { return Ok(()) };
    if vfs.session()? == session {
        return Err(untrusted());
    }
    forget(vfs)
}

pub(super) fn untrusted() -> Error {
    Error::new(Code::SyncFailed, "a sync failed since the last reboot")
}

fn forget<V: Vfs>(vfs: &V) -> Result<(), Error> {
    if poisoned_by(vfs)?.is_some() {
        let file = vfs.open(&layout::poison(), Access::Write)?;
        vfs.write_at(&file, 0, &Session::default().0)?;
    }
    Ok(())
}

fn poisoned_by<V: Vfs>(vfs: &V) -> Result<Option<Session>, Error> {
    let at = layout::poison();
    if vfs.stat(&at)?.is_none() {
        return Ok(None);
    }
    let bytes = store::read_file(vfs, &at, 64)?;
    // One that a crash left incomplete is of an earlier session.
    let session = Session(bytes.get(..16).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default());
    Ok(Some(session).filter(|session| *session != Session::default()))
}

/// What an error of looking at a tree means.
pub(super) fn tree_error(error: tree::TreeError) -> Error {
    let message = error.to_string();
    let list = |paths: Vec<crate::model::TreePath>, difference: Difference| {
        paths.into_iter().map(|path| Finding { path, difference }).collect()
    };
    match error {
        tree::TreeError::Io(error) => error.into(),
        tree::TreeError::Special { paths, .. } => {
            Error::new(Code::Special, message).listing(list(paths, Difference::Type))
        }
        tree::TreeError::Mount { .. } => Error::new(Code::Mount, message),
        tree::TreeError::Changed { at } => {
            Error::new(Code::Foreign, message).listing(list(vec![at.path], Difference::Content))
        }
        other => Error::new(Code::Path, message).because(other),
    }
}

//! The loop that does what the state machine says: one effect at a time, and its answer fed back.

use super::evidence::{self, Directories, Position, Seen, Stores};
use super::layout::{self, Id};
use super::moves::{amend, holds_something, move_over, open_up, replace};
use super::observer::{Observer, Phase, Progress};
use super::preflight::{across_mount, refuse_pin};
use super::{store, sweep};
use crate::codec;
use crate::error::{Code, Error, Finding};
use crate::journal::Journal;
use crate::model::{Difference, Digest, Metadata, Node};
use crate::transaction::{
    Cause, Direction, Effect, Input, Method, Outcome, Plan, Record, Recovery, State, Step, Survey, is_locked, open_mode,
};
use crate::tree;
use crate::vfs::{Access, FileType, IoError, Place, Rename, RootId, Vfs};
use std::collections::{BTreeSet, VecDeque};

/// What `Stage` means for the transaction at hand: stores everything and gives the plan and its `Prepared` record.
pub(super) type Staging<'a> = dyn FnMut() -> Result<Staged, Error> + 'a;

/// What staging made.
pub(super) struct Staged {
    pub(super) plan: Plan,
    pub(super) seen: Vec<Seen>,
    pub(super) prepared: Record,
}

/// One transaction being run, from whatever state it was found in.
pub(super) struct Run<'a, V: Vfs> {
    pub(super) vfs: &'a V,
    pub(super) journal: &'a mut Journal<V>,
    pub(super) observer: &'a dyn Observer,
    pub(super) state: State,
    /// The records so far, those appended here included.
    pub(super) records: &'a mut Vec<Record>,
    pub(super) stage: Option<Box<Staging<'a>>>,
    /// The plan, once there is one. Nothing also where a crash took it before any step was taken.
    pub(super) plan: Option<Plan>,
    pub(super) seen: Vec<Seen>,
    /// The steps of the plan that move directories.
    pub(super) directories: Option<Directories>,
    /// Why the direction turned.
    pub(super) failure: Option<Error>,
    pub(super) keep: u32,
}

/// How a run ended.
pub(super) struct Ended {
    pub(super) state: State,
    /// Why the direction turned.
    pub(super) failure: Option<Error>,
    pub(super) result: Result<(), Error>,
    /// Steps of the plan.
    pub(super) steps: u32,
}

impl<'a, V: Vfs> Run<'a, V> {
    /// A run that has neither a plan nor anything to stage yet.
    pub(super) fn new(
        vfs: &'a V,
        journal: &'a mut Journal<V>,
        records: &'a mut Vec<Record>,
        state: State,
        keep: u32,
        observer: &'a dyn Observer,
    ) -> Self {
        let (stage, plan, directories, failure) = (None, None, None, None);
        Self { vfs, journal, observer, state, records, stage, plan, seen: Vec::new(), directories, failure, keep }
    }

    /// Feeds an input to the state machine and does everything that follows from it.
    pub(super) fn run(mut self, first: Input) -> Ended {
        let result = self.drive(first);
        let steps = self.plan.as_ref().map_or(0, |plan| plan.steps.len() as u32);
        Ended { state: self.state, failure: self.failure, result, steps }
    }

    fn drive(&mut self, first: Input) -> Result<(), Error> {
        let mut inputs = VecDeque::from([first]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.state = self
                .state
                .on(input, &mut effects)
                .map_err(|error| Error::new(Code::Internal, "the transaction cannot go on").because(error))?;
            for effect in std::mem::take(&mut effects) {
                inputs.extend(self.perform(effect)?);
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<Option<Input>, Error> {
        match effect {
            Effect::Append(record) => self.append(record).map(|()| None),
            Effect::SyncJournal => {
                let result = self.journal.sync(self.vfs);
                self.trust_sync(result).map(|()| None)
            }
            Effect::SyncAll => {
                let result = self.journal.sync_all(self.vfs);
                self.trust_sync(result).map(|()| None)
            }
            Effect::Stage => self.stage().map(Some),
            Effect::Survey => self.survey().map(|survey| Some(Input::Surveyed(survey))),
            Effect::Forward(step) => Ok(Some(match self.forward(step as usize) {
                Ok(()) => Input::Stepped,
                Err(error) if error.code() == Code::SyncFailed => return Err(error),
                Err(error) => self.fail(error),
            })),
            Effect::Backward(step) => match self.backward(step as usize) {
                Ok(()) => Ok(Some(Input::Stepped)),
                Err(error) if error.code() == Code::Stuck => Err(error),
                Err(error) => Err(Error::new(Code::Undecided, "stepping back stopped").because(error)),
            },
            Effect::Settle(direction) => match self.settle(direction) {
                Ok(()) => Ok(None),
                Err(error) => Err(Error::new(Code::Undecided, "setting times of directories failed").because(error)),
            },
            Effect::Sweep => {
                // The decision is durable. What cannot be swept now is swept by the next run.
                match sweep::sweep(self.vfs, self.journal.header().current, self.records, self.state, self.keep) {
                    Ok(()) => Ok(Some(Input::Swept)),
                    Err(error) => {
                        tracing::warn!(error = %error, "leavings of a finished transaction could not be removed");
                        Ok(None)
                    }
                }
            }
        }
    }

    fn fail(&mut self, error: Error) -> Input {
        let cause = Cause::new(error.code().as_str(), describe(&error));
        self.failure = Some(error);
        Input::Failed(cause)
    }

    fn append(&mut self, record: Record) -> Result<(), Error> {
        let begins = matches!(record, Record::Begin { .. });
        let result = self.journal.append(self.vfs, &codec::encode(&record));
        let ends = matches!(record, Record::End | Record::Started);
        self.records.push(record);
        match result {
            Ok(()) => Ok(()),
            Err(error) if begins => Err(Error::new(Code::Io, "the journal cannot be written").because(error)),
            // Nothing waits for these: without them recovery does the same again.
            Err(error) if ends => {
                tracing::warn!(error = %error, "an advisory record was not written");
                Ok(())
            }
            Err(error) => Err(Error::new(Code::Undecided, "the journal cannot be written").because(error)),
        }
    }

    /// After a failed sync nothing can be known through this cache, and a second sync would lie.
    fn trust_sync(&self, result: Result<(), IoError>) -> Result<(), Error> {
        result.map_err(|error| {
            mark_poisoned(self.vfs);
            Error::new(Code::SyncFailed, "a sync failed: what is on the disk is not known").because(error)
        })
    }

    fn stage(&mut self) -> Result<Input, Error> {
        let result = match &mut self.stage {
            Some(stage) => stage(),
            None => Err(Error::new(Code::Internal, "nothing to stage")),
        };
        match result {
            Ok(Staged { plan, seen, prepared }) => {
                self.plan = Some(plan);
                self.seen = seen;
                Ok(Input::Staged(prepared))
            }
            Err(error) if error.code() == Code::SyncFailed => Err(error),
            Err(error) => Ok(self.fail(error)),
        }
    }

    /// Looks at every step: can the transaction be finished?
    fn survey(&mut self) -> Result<Survey, Error> {
        let Some(plan) = &self.plan else { return Ok(Survey::Unstaged) };
        let mut foreign = Vec::new();
        let (mut unstaged, mut lost) = (!self.records_are_stored(plan)?, None);
        let directories = self.directories.get_or_insert_with(|| Directories::of(plan));
        let (positions, seen): (Vec<_>, Vec<_>) =
            evidence::examine_all(self.vfs, plan, directories)?.into_iter().unzip();
        self.seen = seen;
        for (step, position) in plan.steps.iter().zip(positions) {
            let homeless = directories.is_homeless(self.vfs, step, position)?;
            match position {
                // There is neither a way on nor one back.
                Position::Middle | Position::Unstaged if homeless => foreign.push(finding(step)),
                // Only in the way of who goes back.
                Position::Done if homeless => lost = Some(step),
                Position::NotDone | Position::Done | Position::Middle => {}
                Position::Unstaged => unstaged = true,
                Position::Lost => lost = Some(step),
                Position::ForeignBefore | Position::ForeignAfter => foreign.push(finding(step)),
            }
        }
        match (unstaged, lost) {
            _ if !foreign.is_empty() => Err(stuck(foreign)),
            (true, Some(lost)) => Err(stuck(vec![finding(lost)])),
            (true, None) => Ok(Survey::Unstaged),
            (false, _) => {
                // Once the direction has turned there is no way forward, so it is asked before.
                if matches!(self.state, State::Applying { facts, .. } if facts.recovery == Recovery::Backward) {
                    can_revert(self.vfs, plan)?;
                }
                Ok(Survey::Ready)
            }
        }
    }

    /// Are the files that describe the new generation what the plan says? Without them it cannot be recorded.
    fn records_are_stored(&self, plan: &Plan) -> Result<bool, Error> {
        let id = plan.transaction;
        let stored = |at: &Place, digest: Option<Digest>| match digest {
            Some(digest) => store::holds(self.vfs, at, digest),
            None => Ok(true),
        };
        Ok(stored(&layout::generation_state(id), plan.state)? && stored(&layout::manifest(id), plan.manifest)?)
    }

    fn forward(&mut self, index: usize) -> Result<(), Error> {
        if self.plan.as_ref().is_some_and(|plan| ends_directory(plan, index)) {
            // Where the directory cannot be exchanged it is removed, and with it goes what a lost rename leaves in it.
            let result = self.journal.sync_all(self.vfs);
            self.trust_sync(result)?;
        }
        let (plan, step, seen) = at_hand(&self.plan, &mut self.seen, index)?;
        let directories = self.directories.get_or_insert_with(|| Directories::of(plan));
        let (position, at) = evidence::examine(self.vfs, plan, directories, step, seen)?;
        report(self.observer, Phase::Apply, index, plan.steps.len());
        match position {
            Position::Done | Position::Lost => Ok(()),
            Position::NotDone if step.in_place => amend(self.vfs, &at, &step.after, plan.policy),
            // What is in it belongs to nobody that the plan knows: the rest has been taken out before.
            Position::NotDone if holds_something(self.vfs, &at, &step.before)? => Err(foreign(step)),
            Position::NotDone | Position::Middle => {
                open_up(self.vfs, plan, step, &at)?;
                replace(self.vfs, plan, step, &at, seen, position)
            }
            Position::Unstaged => {
                Err(Error::new(Code::Digest, format!("the new content of {at} is gone from the store")))
            }
            Position::ForeignBefore | Position::ForeignAfter => Err(foreign(step)),
        }
    }

    fn backward(&mut self, index: usize) -> Result<(), Error> {
        // A crash before the first barrier can take the plan, but then no step was taken.
        if self.plan.is_none() {
            return Ok(());
        }
        let applied = self.records.iter().any(|record| matches!(record, Record::Applied { .. }));
        let (plan, step, seen) = at_hand(&self.plan, &mut self.seen, index)?;
        let directories = self.directories.get_or_insert_with(|| Directories::of(plan));
        let (position, at) = evidence::examine(self.vfs, plan, directories, step, seen)?;
        report(self.observer, Phase::Revert, plan.steps.len() - index, plan.steps.len());
        if step.in_place {
            return match position {
                Position::ForeignBefore | Position::ForeignAfter => Err(stuck(vec![finding(step)])),
                _ => amend(self.vfs, &at, &step.before, plan.policy),
            };
        }
        let Stores { new, old } = Stores::of(plan, step);
        // Only for what is moved: after a stop nobody closes what was opened for nothing.
        let open = || open_up(self.vfs, plan, step, &at);
        let moved = |from: &Place, to: &Place| {
            open()?;
            Ok(self.vfs.rename(from, to, Rename::NoReplace)?)
        };
        match (position, &step.before, &step.after) {
            // Once every step was taken, a path that is neither end has lost its old object to the disk or to somebody.
            (Position::ForeignBefore, ..) if applied => Err(stuck(vec![finding(step)])),
            (Position::NotDone | Position::ForeignBefore, ..) => Ok(()),
            (Position::Middle | Position::Unstaged, Some(_), Some(_)) if self.vfs.stat(&at)?.is_none() => {
                moved(&old, &at)
            }
            (Position::Middle | Position::Unstaged, ..) => Ok(()),
            (Position::Done, ..) if holds_something(self.vfs, &at, &step.after)? => Err(stuck(vec![finding(step)])),
            (Position::Done, Some(_), Some(_)) if plan.method == Method::Exchange => {
                open()?;
                Ok(self.vfs.rename(&old, &at, Rename::Exchange)?)
            }
            // The new object goes: the direction is durable, so nobody will ask for it again.
            (Position::Done, Some(before), Some(after)) => {
                open()?;
                move_over(self.vfs, &old, before, &at, after)
            }
            (Position::Done, Some(_), None) => moved(&old, &at),
            (Position::Done, None, _) => moved(&at, &new),
            (Position::Lost | Position::ForeignAfter, ..) => Err(stuck(vec![finding(step)])),
        }
    }

    /// Sets what the steps disturb of directories: their times, where these are part of the identity, and the modes of
    /// those that had to be opened. From the leaves up, since a mode may keep from looking in.
    fn settle(&self, direction: Direction) -> Result<(), Error> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let mut directories: Vec<(&Step, &Metadata)> = plan
            .steps
            .iter()
            .filter_map(|step| match (direction, &step.before, &step.after) {
                (Direction::Forward, _, Some(end)) | (Direction::Backward, Some(end), _) => Some((step, end)),
                _ => None,
            })
            .filter(|(_, end)| end.is_directory() && (plan.policy.mtime || is_locked(end.metadata.mode)))
            .map(|(step, end)| (step, &end.metadata))
            .collect();
        directories.sort_by(|(a, _), (b, _)| b.path.cmp(&a.path));
        for (step, end) in directories {
            let at = evidence::tree_place(step);
            let Some(stat) = self.vfs.stat(&at)? else { continue };
            if stat.kind != FileType::Directory {
                // Somebody else's: it was left alone, and is not touched here either.
                continue;
            }
            if stat.mode != end.mode && stat.mode == open_mode(end.mode) {
                self.vfs.set_mode(&at, end.mode)?;
            }
            if plan.policy.mtime && stat.mtime != end.mtime {
                self.vfs.set_mtime(&at, end.mtime)?;
            }
        }
        Ok(())
    }
}

/// Looks whether every step can be taken back, without changing anything: before the direction turns on request.
pub(super) fn can_revert<V: Vfs>(vfs: &V, plan: &Plan) -> Result<(), Error> {
    let mut bad = Vec::new();
    let directories = Directories::of(plan);
    for (step, (position, _)) in plan.steps.iter().zip(evidence::examine_all(vfs, plan, &directories)?) {
        match position {
            // What is asked here must hold in `backward`, or the way back would end in the middle.
            Position::Lost | Position::ForeignAfter => bad.push(found_instead(vfs, plan, step, &step.after)),
            Position::ForeignBefore => bad.push(found_instead(vfs, plan, step, &step.before)),
            _ if directories.is_homeless(vfs, step, position)? => bad.push(finding(step)),
            _ => {}
        }
    }
    if !bad.is_empty() {
        return Err(Error::new(Code::Changed, "what was updated has been changed since, so it cannot be taken back")
            .listing(bad));
    }
    refuse_pinned(vfs, plan)?;
    let leaving: Vec<Place> = plan
        .steps
        .iter()
        .filter(|step| step.after.as_ref().is_some_and(Node::is_directory) && !step.in_place)
        .map(evidence::tree_place)
        .collect();
    refuse_strays(vfs, &leaving, plan.steps.iter().filter(|step| step.after.is_some()).map(|step| &step.path))
}

/// Refuses if a step back would be refused by the file system: a mark that was set since, or something mounted.
fn refuse_pinned<V: Vfs>(vfs: &V, plan: &Plan) -> Result<(), Error> {
    let touched = plan.steps.iter().map(|step| (step.root, step.path.clone()));
    let moved = plan.steps.iter().filter(|step| !step.in_place);
    let parents: BTreeSet<_> = moved.filter_map(|step| Some((step.root, step.path.parent()?))).collect();
    for (root, path) in touched.chain(parents) {
        let at = Place { root: RootId(root), path };
        if let Some(stat) = vfs.stat(&at).map_err(across_mount)? {
            refuse_pin(&at.path, &stat)?;
        }
    }
    Ok(())
}

/// Refuses if a directory that is to go holds anything but `known` paths.
pub(super) fn refuse_strays<'a, V: Vfs>(
    vfs: &V,
    leaving: &[Place],
    known: impl Iterator<Item = &'a crate::model::TreePath>,
) -> Result<(), Error> {
    let known: std::collections::HashSet<_> = known.collect();
    let strays = evidence::strays(vfs, leaving, |path| known.contains(path))?;
    if strays.is_empty() {
        return Ok(());
    }
    let findings = strays.into_iter().map(|path| Finding { path, difference: Difference::Unexpected }).collect();
    Err(Error::new(Code::Stray, "a directory that is to go holds what surefoot did not install").listing(findings))
}

/// Notes that a sync failed in this session, for every later process of the session. Best effort: where nothing can
/// be written, nothing can be recovered in this session either.
pub(super) fn mark_poisoned<V: Vfs>(vfs: &V) {
    let Ok(session) = vfs.session() else { return };
    // In place: a full disk must not keep it from being noted.
    if let Ok(file) = vfs.open(&layout::poison(), Access::Write) {
        let _ = vfs.write_at(&file, 0, &session.0);
    }
}

fn at_hand<'a>(
    plan: &'a Option<Plan>,
    seen: &'a mut Vec<Seen>,
    index: usize,
) -> Result<(&'a Plan, &'a Step, &'a mut Seen), Error> {
    let missing = || Error::new(Code::Internal, format!("there is no step {index}"));
    let plan = plan.as_ref().ok_or_else(missing)?;
    seen.resize(plan.steps.len(), Seen::default());
    Ok((plan, plan.steps.get(index).ok_or_else(missing)?, seen.get_mut(index).ok_or_else(missing)?))
}

/// Does a step put something else over a directory, without exchange?
fn ends_directory(plan: &Plan, index: usize) -> bool {
    plan.method != Method::Exchange
        && plan.steps.get(index).is_some_and(|step| match (&step.before, &step.after) {
            (Some(before), Some(after)) => before.is_directory() && !after.is_directory(),
            _ => false,
        })
}

fn finding(step: &Step) -> Finding {
    Finding { path: step.path.clone(), difference: Difference::Content }
}

/// How what stands in the tree differs from the end of a step that should be there.
fn found_instead<V: Vfs>(vfs: &V, plan: &Plan, step: &Step, wanted: &Option<Node>) -> Finding {
    let difference = match (tree::node_at(vfs, &evidence::tree_place(step)), wanted) {
        (Ok(None), Some(_)) => Some(Difference::Missing),
        (Ok(Some(_)), None) => Some(Difference::Unexpected),
        (Ok(Some(found)), Some(wanted)) => found.difference(wanted, plan.policy),
        _ => None,
    };
    Finding { difference: difference.unwrap_or(Difference::Content), ..finding(step) }
}

pub(super) fn foreign(step: &Step) -> Error {
    Error::new(Code::Foreign, format!("{} was changed while the update was under way", step.path))
        .listing(vec![finding(step)])
}

fn stuck(findings: Vec<Finding>) -> Error {
    Error::new(Code::Stuck, "something in the tree is neither the old nor the new version").listing(findings)
}

fn describe(error: &Error) -> String {
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}

fn report(observer: &dyn Observer, phase: Phase, done: usize, total: usize) {
    if done.is_multiple_of(64) || done + 1 >= total {
        observer.report(Progress { phase, done: done as u64 + 1, total: total as u64 });
    }
}

/// How a finished transaction ended, by its state before the sweep.
pub(super) fn outcome(state: State, records: &[Record]) -> Option<Outcome> {
    match state {
        State::Closing(outcome) => Some(outcome),
        State::Idle => records.iter().rev().find_map(|record| match record {
            Record::Confirmed => Some(Outcome::Kept),
            Record::Reverted => Some(Outcome::Restored),
            Record::Begin { .. } => Some(Outcome::Abandoned),
            _ => None,
        }),
        _ => None,
    }
}

/// The generation that the tree is, by the header and the records of the epoch.
pub(super) fn current(header: Id, records: &[Record]) -> Id {
    match records.first() {
        Some(Record::Begin { base, target, .. }) => {
            if records.contains(&Record::Confirmed) {
                *target
            } else {
                *base
            }
        }
        _ => header,
    }
}

//! The decisions about a version that is there: it stays, or the one before comes back.

use super::attempts::Attempts;
use super::engine::{Engine, pending, write_plan};
use super::executor::{self, Run, Staged, Staging};
use super::layout;
use super::observer::Observer;
use super::request::{Report, Settings};
use super::stage;
use super::store::{self, Generation};
use crate::error::{Code, Error};
use crate::limits;
use crate::transaction::{Cause, Input, Plan, State, Work, cut};
use crate::vfs::Vfs;

impl<V: Vfs> Engine<V> {
    /// Ends a trial: the new version stays.
    pub fn confirm(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        self.require_whole()?;
        match self.state {
            State::Trial { .. } => {
                self.resume(Input::Confirm, observer)?;
                // It stays, whether this is noted or not.
                let forgotten = Attempts::default().clear(&self.vfs);
                if let Err(error) = forgotten {
                    tracing::warn!(error = %error, "that the version stayed could not be noted");
                }
                Ok(())
            }
            _ => Err(Error::new(Code::NoTrial, "there is no trial to confirm")),
        }
    }

    /// Goes back to the version before: ends a trial, or takes back the last confirmed update. Who was asked for that
    /// before recovery looks at [`Recovered::went_back`](super::Recovered::went_back) first.
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
        let vfs = &self.vfs;
        let mut plan = Some(plan);
        let stage: Box<Staging<'_>> = Box::new(move || {
            let mut plan = plan.take().ok_or_else(|| Error::new(Code::Internal, "staged twice"))?;
            stage::stage_undo(vfs, from.id, &mut plan)?;
            let prepared = write_plan(vfs, &plan)?;
            Ok(Staged { plan, seen: Vec::new(), prepared })
        });
        let mut run = Run::new(vfs, &mut self.journal, &mut self.records, self.state, self.config.keep, observer);
        run.stage = Some(stage);
        let ended = run.run(Input::Start(begin));
        let steps = self.finish(ended)?;
        Ok(Report { transaction: layout::hex(id), from: from.version, to: parent.version, steps, trial: false })
    }
}

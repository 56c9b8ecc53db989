//! States, inputs, effects, and the two functions that join them.

use super::Record;
use crate::codec::v1::Recovery;
use crate::limits;

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No transaction, or a finished one.
    Idle,
    /// New content is being stored; the tree is untouched.
    Preparing(Facts),
    /// Stepping forward; `next` is the step at hand.
    Applying {
        /// About the transaction.
        facts: Facts,
        /// Index of the step at hand.
        next: u32,
    },
    /// Every step is taken; it is not decided whether it stays.
    Trial {
        /// About the transaction.
        facts: Facts,
        /// How many boots have found it, the one that applied it not counted.
        attempt: u32,
        /// The last of them.
        session: [u8; 16],
    },
    /// Stepping back; `left` steps are still to be looked at.
    Reverting {
        /// About the transaction.
        facts: Facts,
        /// How many steps are left.
        left: u32,
    },
    /// Decided; only the leavings are left to sweep.
    Closing(Outcome),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The tree is the new one.
    Kept,
    /// The tree is the old one again.
    Restored,
    /// The tree was never touched.
    Abandoned,
}

/// What the machine knows about a transaction: from `Begin`, and the number of steps from `Prepared`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Number of steps.
    pub steps: u32,
    /// Does it wait for a decision when applied?
    pub trial: bool,
    /// Boots that a trial may take.
    pub attempts: u32,
    /// What recovery does when it finds it half-way.
    pub recovery: Recovery,
    /// The session that works on it; a crash forgets it.
    pub session: [u8; 16],
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A transaction is asked for, by its `Begin` record.
    Start(Record),
    /// Everything is stored, by its `Prepared` record.
    Staged(Record),
    /// The step at hand is done.
    Stepped,
    /// What was being done cannot be done.
    Failed(Cause),
    /// What the places of all steps hold.
    Surveyed(Survey),
    /// Somebody wants the new version to stay.
    Confirm,
    /// Somebody wants the old version back.
    Reject(Cause),
    /// A process has found the journal in this state.
    Resume {
        /// The session it runs in.
        session: [u8; 16],
    },
    /// A process has found a trial that is used up, but cannot be taken back without destroying what others did.
    Hold {
        /// The session it runs in.
        session: [u8; 16],
    },
    /// The leavings are gone.
    Swept,
}

/// Why the direction turned: a stable code and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A stable error code, or `requested`.
    pub code: String,
    /// Words for people.
    pub detail: String,
}

/// What recovery found when it looked at every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survey {
    /// Each step is done or can be done.
    Ready,
    /// Some new content is missing or damaged: there is no way forward.
    Unstaged,
}

/// What must happen, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append a record.
    Append(Record),
    /// Make the journal durable.
    SyncJournal,
    /// Make everything durable: journal, store, tree.
    SyncAll,
    /// Store everything new and the plan, then say `Staged`.
    Stage,
    /// Look at every step, then say `Surveyed`.
    Survey,
    /// Take this step, then say `Stepped`.
    Forward(u32),
    /// Take this step back, then say `Stepped`.
    Backward(u32),
    /// Set what the steps disturb in passing (times of directories) to what it should be.
    Settle(super::Direction),
    /// Remove what is no longer needed, then say `Swept`.
    Sweep,
}

/// An input that the state has no answer to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input {input:?} in state {state:?}")]
pub struct Unexpected {
    /// The state.
    pub state: State,
    /// The input.
    pub input: Box<Input>,
}

/// A record that cannot follow the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record:?} in state {state:?}")]
pub struct OutOfOrder {
    /// The state before it.
    pub state: State,
    /// The record.
    pub record: Box<Record>,
}

impl State {
    /// Decides what an input means: appends the effects that must happen and gives the next state.
    pub fn on(self, input: Input, out: &mut Vec<Effect>) -> Result<Self, Unexpected> {
        use {Effect as E, Input as I, State as S};
        Ok(match (self, input) {
            (S::Idle, I::Resume { .. }) => S::Idle,
            (S::Idle, I::Start(begin)) => match Facts::of(&begin) {
                Some(facts) => {
                    out.extend([E::Append(begin), E::Stage]);
                    S::Preparing(facts)
                }
                None => return Err(Unexpected { state: self, input: Box::new(I::Start(begin)) }),
            },

            (S::Preparing(facts), I::Staged(Record::Prepared { plan, plan_size, steps })) => {
                // The journal, the store and the plan become durable together: before this barrier nothing of the
                // tree is touched, after it nothing is missing.
                out.extend([
                    E::Append(Record::Prepared { plan, plan_size, steps }),
                    E::SyncAll,
                    E::Append(Record::Started),
                ]);
                Facts { steps, ..facts }.forward(0, out)
            }
            (S::Preparing(_), I::Failed(_) | I::Resume { .. }) => {
                out.push(E::Sweep);
                S::Closing(Outcome::Abandoned)
            }

            (S::Applying { facts, next }, I::Stepped) if next < facts.steps => facts.forward(next + 1, out),
            (S::Applying { facts, .. }, I::Failed(cause)) => facts.revert(cause, out),
            // What a process has read may be in the cache only: the one before it was perhaps killed between writing
            // and the barrier. So every resumption begins with the barrier that its state stands on.
            (S::Applying { facts, .. }, I::Resume { session }) => {
                out.extend([E::SyncAll, E::Survey]);
                S::Applying { facts: Facts { session, ..facts }, next: 0 }
            }
            (S::Applying { facts, next: 0 }, I::Surveyed(survey)) => match (survey, facts.recovery) {
                (Survey::Ready, Recovery::Forward) => facts.forward(0, out),
                (Survey::Ready, Recovery::Backward) => {
                    facts.revert(Cause::new("recovery.backward", "as configured"), out)
                }
                (Survey::Unstaged, _) => facts.revert(Cause::new("recovery.unstaged", "new content is missing"), out),
            },

            (S::Trial { .. }, I::Confirm) => Self::confirm(out),
            (S::Trial { facts, .. }, I::Reject(cause)) => facts.revert(cause, out),
            (S::Trial { facts, .. }, I::Resume { .. }) if !facts.trial => Self::confirm(out),
            (S::Trial { session: seen, .. }, I::Resume { session }) if seen == session => {
                // The record that counts this boot is perhaps in the cache only, as above.
                out.push(E::SyncJournal);
                self
            }
            // Told once; from then on it waits for a decision, and says so.
            (S::Trial { facts, attempt, .. }, I::Hold { session }) if facts.trial && attempt >= facts.attempts => {
                if attempt > facts.attempts {
                    return Ok(self);
                }
                out.extend([E::Append(Record::Trying { attempt: attempt + 1, session }), E::SyncJournal]);
                S::Trial { facts, attempt: attempt + 1, session }
            }
            (S::Trial { facts, attempt, .. }, I::Resume { .. }) if attempt >= facts.attempts => {
                facts.revert(Cause::new("trial.attempts", format!("not confirmed after {} boots", facts.attempts)), out)
            }
            (S::Trial { facts, attempt, .. }, I::Resume { session }) => {
                out.extend([E::Append(Record::Trying { attempt: attempt + 1, session }), E::SyncJournal]);
                S::Trial { facts, attempt: attempt + 1, session }
            }

            (S::Reverting { facts, left }, I::Stepped) if left > 0 => facts.backward(left - 1, out),
            (S::Reverting { facts, .. }, I::Resume { .. }) => {
                out.push(E::SyncJournal);
                facts.backward(facts.steps, out)
            }

            (S::Closing(outcome), I::Resume { .. }) => {
                out.extend([E::SyncJournal, E::Sweep]);
                S::Closing(outcome)
            }
            (S::Closing(_), I::Swept) => {
                // Not waited for: without it the sweep is done again and finds nothing.
                out.push(E::Append(Record::End));
                S::Idle
            }
            (state, input) => return Err(Unexpected { state, input: Box::new(input) }),
        })
    }

    /// Folds one record of the journal.
    pub fn replay(self, record: &Record) -> Result<Self, OutOfOrder> {
        use {Record as R, State as S};
        Ok(match (self, record) {
            (S::Idle, begin @ R::Begin { .. }) => match Facts::of(begin) {
                Some(facts) => S::Preparing(facts),
                None => return Err(OutOfOrder { state: self, record: Box::new(record.clone()) }),
            },
            (S::Preparing(facts), R::Prepared { steps, .. }) => {
                S::Applying { facts: Facts { steps: *steps, ..facts }, next: 0 }
            }
            (S::Applying { .. }, R::Started) => self,
            (S::Applying { facts, .. }, R::Applied { session }) => S::Trial { facts, attempt: 0, session: *session },
            (S::Trial { facts, attempt, .. }, R::Trying { attempt: next, session }) if *next == attempt + 1 => {
                S::Trial { facts, attempt: *next, session: *session }
            }
            (S::Trial { .. }, R::Confirmed) => S::Closing(Outcome::Kept),
            (S::Applying { facts, .. } | S::Trial { facts, .. }, R::Revert { .. }) => {
                S::Reverting { facts, left: facts.steps }
            }
            (S::Reverting { .. }, R::Reverted) => S::Closing(Outcome::Restored),
            (S::Preparing(_) | S::Closing(_), R::End) => S::Idle,
            (state, record) => return Err(OutOfOrder { state, record: Box::new(record.clone()) }),
        })
    }

    /// What a crash leaves of the state: everything but the progress inside a phase and the session at work.
    #[must_use]
    pub fn durable(self) -> Self {
        let forget = |facts: Facts| Facts { session: [0; 16], ..facts };
        match self {
            Self::Preparing(facts) => Self::Preparing(forget(facts)),
            Self::Applying { facts, .. } => Self::Applying { facts: forget(facts), next: 0 },
            Self::Trial { facts, attempt, session } => Self::Trial { facts: forget(facts), attempt, session },
            Self::Reverting { facts, .. } => Self::Reverting { facts: forget(facts), left: facts.steps },
            Self::Idle | Self::Closing(_) => self,
        }
    }

    fn confirm(out: &mut Vec<Effect>) -> Self {
        out.extend([Effect::Append(Record::Confirmed), Effect::SyncJournal, Effect::Sweep]);
        Self::Closing(Outcome::Kept)
    }
}

impl Facts {
    fn of(begin: &Record) -> Option<Self> {
        match begin {
            Record::Begin { trial, attempts, recovery, session, .. }
                if (1..=limits::TRIAL_ATTEMPTS).contains(attempts) =>
            {
                Some(Self { steps: 0, trial: *trial, attempts: *attempts, recovery: *recovery, session: *session })
            }
            _ => None,
        }
    }

    fn forward(self, next: u32, out: &mut Vec<Effect>) -> State {
        if next < self.steps {
            out.push(Effect::Forward(next));
            return State::Applying { facts: self, next };
        }
        // `Applied` must not overtake the renames: on btrfs a synced journal does.
        let session = self.session;
        out.extend([
            Effect::Settle(super::Direction::Forward),
            Effect::SyncAll,
            Effect::Append(Record::Applied { session }),
        ]);
        if self.trial {
            out.push(Effect::SyncJournal);
            State::Trial { facts: self, attempt: 0, session }
        } else {
            State::confirm(out)
        }
    }

    /// Turns back. The direction is durable before the first step is taken back, so no later recovery, whatever its
    /// policy, can go forward over it.
    fn revert(self, Cause { code, detail }: Cause, out: &mut Vec<Effect>) -> State {
        out.extend([Effect::Append(Record::Revert { cause: code, detail }), Effect::SyncJournal]);
        self.backward(self.steps, out)
    }

    fn backward(self, left: u32, out: &mut Vec<Effect>) -> State {
        if left > 0 {
            out.push(Effect::Backward(left - 1));
            return State::Reverting { facts: self, left };
        }
        out.extend([
            Effect::Settle(super::Direction::Backward),
            Effect::SyncAll,
            Effect::Append(Record::Reverted),
            Effect::SyncJournal,
            Effect::Sweep,
        ]);
        State::Closing(Outcome::Restored)
    }
}

impl Cause {
    /// A cause whose words fit a record.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: cut(code.into()), detail: cut(detail.into()) }
    }
}

/// A text no longer than a record may carry, cut between two characters.
pub fn cut(mut text: String) -> String {
    if text.len() > limits::RECORD_TEXT {
        let end = (0..=limits::RECORD_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

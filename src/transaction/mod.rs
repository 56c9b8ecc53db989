//! The pure state machine: what must happen next, and what a journal says. No disk, no clock, no randomness.
//!
//! [`State::on`] is the one function that decides. It takes an [`Input`], appends the [`Effect`]s that must happen, in
//! order, and gives the next state. [`State::replay`] folds one journal record. The law between the two: after any
//! inputs, folding the records that `on` asked to append gives the live state, except for progress inside a phase.

mod plan;
mod state;
mod step;
pub mod table;

pub use crate::codec::v1::{Method, Record, Recovery, Work};
pub use plan::{Arrangement, Proposal, arrange};
pub use state::{Cause, Effect, Facts, Input, OutOfOrder, Outcome, State, Survey, Unexpected, cut};
pub use step::{Direction, Plan, Step, is_locked, open_mode};

//! The tests, in reading order.

mod architecture;
mod plan;
mod state_machine;
mod journal;
mod crash;
mod cli;
mod docs;

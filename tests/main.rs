//! The tests, in reading order.

mod architecture;
mod cli;
mod crash;
mod docs;
mod journal;
mod plan;
mod state_machine;

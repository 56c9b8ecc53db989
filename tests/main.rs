//! The tests, in reading order.

mod architecture;
mod cli;
mod crash;
mod docs;
mod journal;
mod kill;
mod plan;
mod service_patch;
mod state_machine;

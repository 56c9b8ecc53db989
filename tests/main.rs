//! The tests, in reading order.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod architecture;
mod plan;
mod state_machine;
mod journal;
mod crash;
mod unpack;
mod lies;
mod service_patch;
mod repository;
mod fetch;
mod strategy;
mod cli;
mod kill;
mod cargo;
mod coverage;
mod mutants;
mod soak;
mod traces;
mod lab;
mod docs;
mod examples;
mod formats;
mod python;

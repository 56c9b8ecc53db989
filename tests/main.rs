//! The tests, in reading order.

mod architecture;
mod crash;
mod journal;
mod state_machine;

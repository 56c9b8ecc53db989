//! The tests, in reading order.

mod architecture;
mod cli;

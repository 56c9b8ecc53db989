//! `check`: is there an update, which way would it go, what would it cost.

use crate::cli::args::{Check, Global};
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::service;
use crate::error::Error;

pub(super) fn run(asked: &Check, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let carriers = service::carriers(&asked.web)?;
    let decision = service::decide(&asked.way, &asked.web, &asked.arch, &managed, &carriers)?;
    service::tell(&decision.strategy, output);
    output.result(&decision.strategy);
    Ok(())
}

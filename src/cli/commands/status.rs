//! `status`: what is installed and pending. Takes no lock, so it answers while another process works.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::device::{Status, peek};
use crate::error::Error;

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let (status, _) = peek(&Managed::of(global)?.open()?)?;
    tell(&status, output);
    output.result(&status);
    Ok(())
}

fn tell(status: &Status, output: &Output) {
    output.line(format_args!("version   {}", shown(&status.version)));
    match &status.digest {
        Some(digest) => output.line(format_args!("tree      {digest}")),
        None => output.line("tree      not recorded"),
    }
    output.line(format_args!("state     {}", status.state));
    if let Some(pending) = &status.pending {
        output.line(format_args!("pending   {}", shown(pending)));
    }
    if let (Some(attempt), Some(attempts)) = (status.attempt, status.attempts) {
        output.line(format_args!("trial     {attempt} of {attempts} boots have seen it; confirm or rollback ends it"));
    }
    match &status.rollback {
        Some(version) => output.line(format_args!("rollback  leads to {}", shown(version))),
        None => output.line("rollback  nothing to go back to"),
    }
    if status.poisoned {
        output.line("poisoned  a sync failed: reboot or remount, then run recover");
    }
}

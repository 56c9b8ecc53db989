//! `status`: what is installed and pending. Takes no lock, so it answers while another process works.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::device::{Attempts, Status, peek, pending_downloads};
use crate::error::Error;
use crate::fetch::Pending;
use crate::limits;
use crate::model::Version;
use serde::Serialize;

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    status: Status,
    downloads: Vec<Pending>,
    tried: Vec<Tried>,
}

/// A version that was tried and is not here to stay, so far.
#[derive(Serialize)]
struct Tried {
    version: Version,
    times: u32,
    /// It is left alone.
    given_up: bool,
}

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let vfs = Managed::of(global)?.open()?;
    let (status, _) = peek(&vfs)?;
    let downloads = pending_downloads(&vfs)?;
    tell(&status, output);
    for Pending { label, done, total } in &downloads {
        let total = total.map_or("an unknown number".into(), bytes);
        output.line(format_args!("download  {label}: {} of {total} are here; update goes on", bytes(*done)));
    }
    let of = |(version, times): (Version, u32)| Tried { version, times, given_up: times >= limits::UPDATE_ATTEMPTS };
    let tried: Vec<Tried> = Attempts::read(&vfs)?.0.into_iter().map(of).collect();
    for Tried { version, times, given_up } in &tried {
        let then =
            if *given_up { "update leaves it alone, update --again tries it once more" } else { "update goes on" };
        output.line(format_args!("tried     {version}: {times} of {} times; {then}", limits::UPDATE_ATTEMPTS));
    }
    output.result(&Told { status, downloads, tried });
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

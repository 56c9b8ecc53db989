//! `status`: what is installed and pending. Takes no lock, so it answers while another process works.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::device::{Status, peek, pending_downloads};
use crate::error::Error;
use crate::fetch::Pending;
use serde::Serialize;

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    status: Status,
    downloads: Vec<Pending>,
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
    output.result(&Told { status, downloads });
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

//! The verbs, one file each.

mod apply;
mod apply_entry;
mod build;
mod build_entry;
mod check;
mod completions;
mod confirm;
mod crashtest;
mod diff;
mod history;
mod init;
mod inspect;
mod journal;
mod keygen;
mod man;
mod plan;
mod recover;
mod repo;
mod repo_export;
mod repo_tree;
mod rollback;
mod sign;
mod status;
mod update;
mod verify;

use super::args::{Arguments, Command, Identity};
use super::output::Output;
use super::progress::Meter;
use crate::error::{Code, Error};
use crate::model::{Manifest, Version};
use crate::tree::{self, Walk};
use crate::vfs::{OsVfs, Vfs as _};
use std::path::Path;

/// Does what is asked for.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Error> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Keygen(asked) => keygen::run(asked, output),
        Command::Diff(asked) => diff::run(asked, output),
        Command::Build(asked) => build::run(asked, output),
        Command::Sign(asked) => sign::run(asked, output),
        Command::Inspect(asked) => inspect::run(asked, output),
        Command::Repo(asked) => repo::run(asked, output),
        Command::Init(asked) => init::run(asked, global, output),
        Command::Apply(asked) => apply::run(asked, global, output),
        Command::Check(asked) => check::run(asked, global, output),
        Command::Update(asked) => update::run(asked, global, output),
        Command::Plan(asked) => plan::run(asked, global, output),
        Command::Confirm => confirm::run(global, output),
        Command::Rollback => rollback::run(global, output),
        Command::Recover(asked) => recover::run(asked, global, output),
        Command::Status => status::run(global, output),
        Command::History => history::run(global, output),
        Command::Verify(asked) => verify::run(asked, global, output),
        Command::Journal(_) => journal::run(global, output),
        Command::Crashtest(asked) => crashtest::run(asked, output),
        Command::Completions(asked) => completions::run(asked, output),
        Command::Man(asked) => man::run(asked, output),
    }
}

/// A tree that is only read, and what it holds. A state directory in it is no part of it.
fn read_tree(path: &Path, identity: Identity, meter: &Meter<'_>) -> Result<(OsVfs, Manifest), Error> {
    let vfs = OsVfs::open_tree(path)?;
    let how = Walk { policy: identity.policy(vfs.user()), state_inside: true };
    let manifest = tree::scan(&vfs, &how, &meter.check())?;
    Ok((vfs, manifest))
}

fn version(text: &str) -> Result<Version, Error> {
    Version::parse(text).map_err(|error| Error::new(Code::Version, error.to_string()))
}

/// A version for people.
fn shown(version: &str) -> &str {
    if version.is_empty() { "(no version)" } else { version }
}

//! The managed tree that `--root` names, and its state directory.

use super::args::Global;
use super::files::{directory_of, failed};
use super::output::Output;
use super::progress::Meter;
use crate::device::{Engine, Recovered, STATE_DIRECTORY, peek};
use crate::error::{Code, Error};
use crate::transaction::Outcome;
use crate::vfs::{OsVfs, Vfs as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a managed tree is, and where its state.
pub(super) struct Managed {
    root: PathBuf,
    state: PathBuf,
}

impl Managed {
    pub(super) fn of(global: &Global) -> Result<Self, Error> {
        let root = fs::canonicalize(&global.root).map_err(|error| failed("open", &global.root, error))?;
        let state = match &global.state_dir {
            None => root.join(STATE_DIRECTORY),
            Some(given) => resolve(given).map_err(|error| failed("open", given, error))?,
        };
        let usual = state == root.join(STATE_DIRECTORY);
        if usual && state.is_symlink() {
            return Err(elsewhere(&state, "is a symbolic link: name what it leads to with --state-dir"));
        }
        if !usual && (state.starts_with(&root) || root.starts_with(&state)) {
            return Err(elsewhere(&state, "lies inside the tree or around it"));
        }
        Ok(Self { root, state })
    }

    /// The path of the tree.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of the state directory.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Opens both, without any lock.
    pub(super) fn open(&self) -> Result<OsVfs, Error> {
        if !self.state.is_dir() {
            return Err(self.not_initialised());
        }
        self.checked(OsVfs::open(&self.root, &self.state)?)
    }

    /// Opens both; the state directory is made if it is missing.
    pub(super) fn open_or_create(&self) -> Result<OsVfs, Error> {
        let missing = !self.state.exists();
        let opened = OsVfs::open_or_create_state(&self.root, &self.state).map_err(Error::from);
        let checked = opened.and_then(|vfs| self.checked(vfs));
        if checked.is_err() && missing {
            // Only what was just made, and only while it is empty.
            let _ = fs::remove_dir(&self.state);
        }
        checked
    }

    /// Is the tree under care?
    pub(super) fn is_initialised(&self) -> Result<bool, Error> {
        match self.open().and_then(|vfs| peek(&vfs)) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotInitialised => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock.
    pub(super) fn engine(&self) -> Result<Engine, Error> {
        Engine::open(self.open()?)
    }

    /// Takes the lock and finishes or takes back what a crash left.
    pub(super) fn recovered(&self, output: &Output, meter: &Meter<'_>) -> Result<(Engine, Recovered), Error> {
        let mut engine = self.engine()?;
        let recovered = engine.recover(meter)?;
        if let Some(outcome) = recovered.outcome {
            output.message(format_args!("an interrupted update {}", told(outcome)));
        }
        Ok((engine, recovered))
    }

    pub(super) fn not_initialised(&self) -> Error {
        Error::new(Code::NotInitialised, format!("{} is not under surefoot's care", self.root.display()))
    }

    fn checked(&self, vfs: OsVfs) -> Result<OsVfs, Error> {
        if vfs.same_file_system()? {
            Ok(vfs)
        } else {
            Err(elsewhere(&self.state, "is not on the file system of the tree"))
        }
    }
}

/// How a transaction that recovery found has ended.
pub(super) fn told(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "was finished",
        Outcome::Restored => "was taken back",
        Outcome::Abandoned => "had not begun to change anything and is dropped",
    }
}

fn elsewhere(state: &Path, why: &str) -> Error {
    Error::new(Code::StateElsewhere, format!("the state directory {} {why}", state.display()))
}

/// The real path of something that may not exist yet, in a directory that does.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            Ok(fs::canonicalize(directory_of(path))?.join(name))
        }
        found => found,
    }
}

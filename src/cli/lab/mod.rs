//! The crash lab: a program on a real file system whose disk loses its power.
//!
//! Every block that the kernel writes and every flush is recorded while the program works, held up by a tracer so that
//! journal commits of others fall into its middle. States that a loss of power may leave are put on a disk, mounted by
//! the real kernel, recovered by the program, and judged by code that shares nothing with it.
//!
//! It takes root, FUSE, loop devices, and a few tools; [`lacking`] and [`FileSystem::missing`] say what is not there.

mod acts;
mod hunt;
mod machine;
mod oracle;
mod snapshot;

pub use acts::{Act, Start, about, apply};
pub use hunt::{Found, Hunt, Orders, Tally};
pub use machine::{FILE_SYSTEMS, FileSystem, Machine, Scratch, is_program, lacking, run};
pub use oracle::Ended;
pub use snapshot::Snapshot;

use std::path::{Path, PathBuf};

/// Makes something of a tree at a path.
pub type Make = Box<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;

/// A program, a package, and the tree that it updates: as it is before and after.
pub struct Update {
    /// What it is called in the names of states: without dots.
    pub name: String,
    /// The program, `surefoot` by the commands that it knows.
    pub program: PathBuf,
    /// What it applies.
    pub package: PathBuf,
    /// The version before.
    pub from: String,
    /// The version after; another one.
    pub to: String,
    /// The tree before.
    pub old: Snapshot,
    /// The tree after.
    pub new: Snapshot,
    /// Do modification times count?
    pub times: bool,
    /// Is all there that is recorded? Otherwise `verify` is not asked.
    pub whole: bool,
    /// Puts the old tree into an empty directory.
    pub build: Make,
    /// Takes it under care.
    pub take: Make,
}

/// Says what the system said of a path.
fn at<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

//! What must hold of a disk that lost its power: the machine boots, recovers, and is asked everything.

use super::acts::{APPLY, about, mark, status, text};
use super::machine::{FileSystem, Machine, run};
use super::snapshot::Snapshot;
use super::{Update, at};
use crate::crashtest::Promise;
use crate::crashtest::blockdev::{Image, Recording};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// The old tree.
    Old,
    /// The new tree.
    New,
    /// The new tree, on trial.
    Trial,
}

/// What is asked besides whether the tree is old or new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Nothing.
    None,
    /// Does a second recovery write nothing, and is nothing left behind?
    Quiet,
    /// Does the program itself find the tree to be as it should?
    Verified,
    /// Do confirm, roll back and apply still work?
    Futures,
    /// The same, the other way where there are two.
    OtherFutures,
}

impl Question {
    /// Of each of so many states, which one.
    pub(super) fn number(number: u64) -> Self {
        match number % 8 {
            0 | 4 => Self::Quiet,
            1 => Self::Verified,
            2 => Self::Futures,
            3 => Self::OtherFutures,
            _ => Self::None,
        }
    }
}

/// Boots from an image, recovers, and checks. With `record` the recovery is recorded, mounting included.
pub(super) fn judge(
    machine: &mut Machine,
    fs: &'static FileSystem,
    update: &Update,
    image: Image,
    promise: Promise,
    question: Question,
    record: bool,
) -> Result<(Ended, Option<Recording>), String> {
    machine.load(image)?;
    if record {
        machine.disk.record();
        machine.disk.mark(&mark(promise));
    }
    machine.mount(fs)?;
    let root = text(&machine.root())?;
    let ended = recover(update, &root)?;
    let mut recording = None;
    if record {
        // What this recovery has told is a promise to those who come after another cut.
        let told = match ended {
            Ended::Old => Promise::Old,
            Ended::New => Promise::New,
            Ended::Trial => Promise::Trial,
        };
        machine.disk.mark(&mark(told));
        recording = Some(machine.disk.recorded().ok_or("the recording does not lead to what is on the disk")?);
    }
    present(machine, update, ended)?;
    let kept = match promise {
        Promise::Nothing | Promise::GoingBack => true,
        Promise::Trial => ended != Ended::Old,
        Promise::New => ended == Ended::New,
        Promise::Old => ended == Ended::Old,
    };
    if !kept {
        return Err(format!("promised {}, but ended {ended:?}", mark(promise)));
    }
    match question {
        Question::None => {}
        Question::Quiet => quiet(machine, update, &root, ended)?,
        Question::Verified if !update.whole => {}
        Question::Verified => _ = run(&update.program, &about(&root, &["verify"]))?,
        Question::Futures | Question::OtherFutures => futures(machine, update, &root, ended, question)?,
    }
    machine.unmount()?;
    Ok((ended, recording))
}

/// One uninterrupted recovery, and what it tells.
fn recover(update: &Update, root: &str) -> Result<Ended, String> {
    let text = run(&update.program, &about(root, &["recover"]))?;
    let told: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
    match (told["trial"].as_bool(), told["version"].as_str()) {
        (Some(true), Some(version)) if version == update.from => Ok(Ended::Trial),
        (Some(false), Some(version)) if version == update.from => Ok(Ended::Old),
        (Some(false), Some(version)) if version == update.to => Ok(Ended::New),
        _ => Err(format!("recovery tells {text}")),
    }
}

/// The tree is what was told.
fn present(machine: &Machine, update: &Update, told: Ended) -> Result<(), String> {
    let tree = Snapshot::of(&machine.root(), update.times)?;
    let is = if tree == update.old {
        "old"
    } else if tree == update.new {
        "new"
    } else {
        let (old, new) = (tree.difference(&update.old), tree.difference(&update.new));
        return Err(format!("mixed: against old {old}; against new {new}"));
    };
    let expected = if told == Ended::Old { "old" } else { "new" };
    if is == expected { Ok(()) } else { Err(format!("the tree is {is}, but recovery told {told:?}")) }
}

/// A second recovery in the same boot writes nothing, and only what is needed is left.
fn quiet(machine: &Machine, update: &Update, root: &str, ended: Ended) -> Result<(), String> {
    let before = state_files(&machine.root())?;
    if recover(update, root)? != ended {
        return Err("a second recovery tells something else".to_owned());
    }
    let after = state_files(&machine.root())?;
    if before != after {
        return Err(format!("not quiet: {before:?} became {after:?}"));
    }
    let count = |tail: &str| after.keys().filter(|path| path.ends_with(tail)).count();
    let (states, plans) = (count("state"), count("plan"));
    let expected = if ended == Ended::Old { (1, 0) } else { (2, 1) };
    let known = ["journal", "lock", "config", "history", "index", "scratch", "poison", "manifests", "generations"];
    let odd =
        after.keys().find(|path| path.iter().next().is_some_and(|first| !known.iter().any(|known| *known == first)));
    match odd {
        Some(path) => Err(format!("not clean: {}", path.display())),
        None if (states, plans) != expected => Err(format!("not clean: {states} states and {plans} plans: {after:?}")),
        None => Ok(()),
    }
}

/// Inode, size and time of a file.
type Print = (u64, u64, i64, i64);

/// Every file of the state directory.
fn state_files(root: &Path) -> Result<BTreeMap<PathBuf, Print>, String> {
    let state = root.join(".surefoot");
    let (mut out, mut left) = (BTreeMap::new(), vec![state.clone()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let path = entry.map_err(at(&directory))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(at(&path))?;
            if metadata.is_dir() {
                left.push(path.clone());
            }
            let print: Print = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
            out.insert(path.strip_prefix(&state).unwrap_or(&path).to_owned(), print);
        }
    }
    Ok(out)
}

/// From here everything that should be possible is.
fn futures(machine: &Machine, update: &Update, root: &str, ended: Ended, which: Question) -> Result<(), String> {
    let package = text(&update.package)?;
    let apply = [&APPLY[..], &[package.as_str()]].concat();
    let act = |what: &[&str], then: Ended| -> Result<(), String> {
        run(&update.program, &about(root, what))?;
        present(machine, update, then).map_err(|error| format!("after {}: {error}", what[0]))?;
        let told = status(update, root)?;
        let expected = if then == Ended::Old { &update.from } else { &update.to };
        if told["version"] == **expected && told["state"] == "idle" {
            return Ok(());
        }
        Err(format!("after {}: status tells {told}", what[0]))
    };
    match (ended, which) {
        (Ended::Old, _) => act(&apply, Ended::New)?,
        (Ended::New, _) => act(&["rollback"], Ended::Old)?,
        (Ended::Trial, Question::Futures) => act(&["confirm"], Ended::New)?,
        (Ended::Trial, _) => act(&["rollback"], Ended::Old)?,
    }
    if which == Question::OtherFutures && ended != Ended::Trial {
        match ended {
            Ended::Old => act(&["rollback"], Ended::Old)?,
            _ => act(&apply, Ended::New)?,
        }
    }
    Ok(())
}

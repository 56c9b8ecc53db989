//! What is done while the disk records, and what may be expected after a loss of power in the middle of it.

use super::Update;
use super::machine::{Machine, run};
use crate::crashtest::Promise;
use crate::vfs::sim::Dice;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What was promised, as it is noted in a recording.
pub(super) fn mark(promise: Promise) -> String {
    format!("{promise:?}")
}

/// What such a note says; without one nothing was promised.
pub(super) fn promise(noted: Option<&str>) -> Promise {
    let all = [Promise::Trial, Promise::New, Promise::GoingBack, Promise::Old];
    all.into_iter().find(|promise| noted == Some(&mark(*promise))).unwrap_or(Promise::Nothing)
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Apply; a crash half-way leads forward.
    Apply,
    /// Apply; a crash half-way leads back.
    Backward,
    /// Apply on trial, then confirm.
    Confirm,
    /// Apply on trial, then go back.
    Reject,
    /// Go back from what was confirmed long ago.
    Undo,
    /// Apply, killed half-way, then recover.
    Killed,
    /// The same, and recovery leads back.
    KilledBack,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Apply, Self::Backward, Self::Confirm, Self::Reject, Self::Undo, Self::Killed, Self::KilledBack];

    /// What it is called in the names of states.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Backward => "backward",
            Self::Confirm => "confirm",
            Self::Reject => "reject",
            Self::Undo => "undo",
            Self::Killed => "killed",
            Self::KilledBack => "killed-back",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }

    /// What the disk holds before.
    pub(super) fn start(self) -> Start {
        match self {
            Self::Undo => Start::Updated,
            _ => Start::Old,
        }
    }
}

/// What a disk holds at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// The old tree, under nobody's care.
    Plain,
    /// The old tree.
    Old,
    /// The new tree, from which one can go back.
    Updated,
}

/// How a program is run.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// How long each call that changes something is held up.
    pub(super) delay_us: u64,
    /// Calls that are not made, but reported as done (in the words of strace).
    pub(super) ignored: Option<String>,
    /// Where it is killed (in the words of strace).
    pub(super) killed: Option<String>,
}

/// The calls that are held up: `?` lets those pass that this processor does not have.
const CHANGING: &str = "?open,openat,?openat2,write,pwrite64,?rename,renameat,renameat2,?link,linkat,?symlink,symlinkat,\
                        ?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?chmod,fchmod,fchmodat,?fchmodat2,?chown,?lchown,fchown,\
                        fchownat,utimensat,setxattr,fsetxattr,lsetxattr,ftruncate,fallocate,copy_file_range";

/// Runs a program under a tracer that holds it up; the answer is its exit code, none if it was killed.
pub(super) fn traced(manner: &Manner, program: &Path, arguments: &[&str]) -> Result<Option<i32>, String> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    let mut calls = vec![CHANGING.to_owned()];
    let mut inject = vec![format!("{CHANGING}:delay_exit={}", manner.delay_us)];
    for other in manner.ignored.iter().chain(&manner.killed) {
        calls.extend(other.split(':').next().map(str::to_owned));
        inject.push(other.clone());
    }
    command.arg("-e").arg(format!("trace={}", calls.join(",")));
    inject.iter().for_each(|inject| _ = command.arg("-e").arg(format!("inject={inject}")));
    command.arg(program).args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("strace: {error}"))?;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => Ok(Some(0)),
        // strace dies as the program died.
        None => Ok(None),
        Some(code) if code > 128 => Ok(None),
        Some(code) => Err(format!("{} {}: exit code {code}: {told}", program.display(), arguments.join(" "))),
    }
}

/// The arguments of every command about this tree.
pub fn about<'a>(root: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["--root", root, "--json", "-q"], rest].concat()
}

/// Does it, on a mounted disk that records.
pub(super) fn perform(
    act: Act,
    machine: &Machine,
    update: &Update,
    manner: &Manner,
    dice: &mut Dice,
) -> Result<(), String> {
    let root = text(&machine.root())?;
    let package = text(&update.package)?;
    let surefoot = |manner: &Manner, rest: &[&str]| traced(manner, &update.program, &about(&root, rest));
    let told = |promise: Promise| machine.disk.mark(&mark(promise));
    let apply = |rest: &[&str]| surefoot(manner, &[&APPLY, &[package.as_str()][..], rest].concat());
    match act {
        Act::Apply | Act::Backward => {
            let way = if act == Act::Apply { "forward" } else { "backward" };
            apply(&["--on-interrupt", way])?;
            told(Promise::New);
        }
        Act::Confirm | Act::Reject => {
            apply(&["--trial", "--max-attempts", "9"])?;
            told(Promise::Trial);
            if act == Act::Confirm {
                surefoot(manner, &["confirm"])?;
                told(Promise::New);
            } else {
                told(Promise::GoingBack);
                surefoot(manner, &["rollback"])?;
                told(Promise::Old);
            }
        }
        Act::Undo => {
            told(Promise::GoingBack);
            surefoot(manner, &["rollback"])?;
            told(Promise::Old);
        }
        Act::Killed | Act::KilledBack => {
            let (call, most) =
                [("renameat2", 12), ("write,pwrite64", 40), ("syncfs", 2), ("fdatasync", 3)][dice.below(4) as usize];
            let mut killed = manner.clone();
            killed.killed = Some(format!("{call}:signal=KILL:when={}", 1 + dice.below(most)));
            let way = if act == Act::Killed { "forward" } else { "backward" };
            let apply = [&APPLY, &[package.as_str(), "--on-interrupt", way][..]].concat();
            if surefoot(&killed, &apply)?.is_some() {
                told(Promise::New);
            }
            surefoot(manner, &["recover"])?;
            let status = status(update, &root)?;
            told(if status["version"] == *update.from { Promise::Old } else { Promise::New });
        }
    }
    Ok(())
}

/// The beginning of an update. Whether it may go back to an older version is not what is tested.
pub(super) const APPLY: [&str; 3] = ["apply", "--allow-unsigned", "--allow-downgrade"];

/// Applies a package to a tree under care.
pub fn apply(program: &Path, root: &Path, package: &Path) -> Result<(), String> {
    let (root, package) = (text(root)?, text(package)?);
    run(program, &about(&root, &[&APPLY, &[package.as_str()][..]].concat())).map(drop)
}

/// What is installed, as the program tells it.
pub(super) fn status(update: &Update, root: &str) -> Result<serde_json::Value, String> {
    let text = run(&update.program, &about(root, &["status"]))?;
    serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{}: a path that is no text", path.display()))
}

/// Somebody else on the same file system, who writes and syncs, so that journal commits fall into the middle.
pub(super) struct Stirrer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stirrer {
    pub(super) fn new(directory: PathBuf, mut dice: Dice) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let pause_us = 500 << dice.below(6);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A full or failing disk is the business of others.
                let _ = stir(&directory, &mut dice);
                std::thread::sleep(Duration::from_micros(1 + dice.below(pause_us)));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Stirrer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn stir(directory: &Path, dice: &mut Dice) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("other{}", dice.below(3)));
    let mut file = fs::File::create(&path)?;
    file.write_all(&vec![dice.below(256) as u8; 1 + dice.below(9000) as usize])?;
    match dice.below(8) {
        0..4 => file.sync_all(),
        4 => fs::rename(&path, directory.join("renamed")),
        5 => fs::File::open(directory)?.sync_all(),
        6 => {
            // What another thread starts meanwhile must not inherit it: the disk could not be unmounted.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(directory, flags, Mode::empty())?;
            Ok(rustix::fs::syncfs(fd)?)
        }
        _ => file.sync_data(),
    }
}

//! What is done while the disk records, and what may be expected after a loss of power in the middle of it.

use super::dice::Dice;
use super::machine::{Machine, run};
use super::workload::Prepared;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What somebody was told, and may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Promise {
    /// Nothing yet: old or new.
    Nothing,
    /// It is new, on trial.
    Trial,
    /// It is new for ever.
    New,
    /// It was new, or on trial; going back has begun.
    GoingBack,
    /// It is old for ever.
    Old,
}

impl Promise {
    const ALL: [Self; 5] = [Self::Nothing, Self::Trial, Self::New, Self::GoingBack, Self::Old];

    /// As it was noted in a recording.
    pub(super) fn of(mark: Option<&str>) -> Self {
        let find = |mark: &str| Self::ALL.into_iter().find(|promise| promise.name() == mark);
        mark.and_then(find).unwrap_or(Self::Nothing)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Trial => "trial",
            Self::New => "new",
            Self::GoingBack => "going-back",
            Self::Old => "old",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
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
    /// A peer: rsync.
    Rsync,
    /// A peer: one file after the other, each by rename.
    Naive,
}

pub(super) const ACTS: [Act; 7] =
    [Act::Apply, Act::Backward, Act::Confirm, Act::Reject, Act::Undo, Act::Killed, Act::KilledBack];

impl Act {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Backward => "backward",
            Self::Confirm => "confirm",
            Self::Reject => "reject",
            Self::Undo => "undo",
            Self::Killed => "killed",
            Self::KilledBack => "killed-back",
            Self::Rsync => "rsync",
            Self::Naive => "naive",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        ACTS.into_iter().chain([Self::Rsync, Self::Naive]).find(|act| act.name() == name)
    }

    pub(super) fn is_peer(self) -> bool {
        matches!(self, Self::Rsync | Self::Naive)
    }

    /// What the disk holds before.
    pub(super) fn start(self) -> Start {
        match self {
            Self::Undo => Start::Updated,
            Self::Rsync | Self::Naive => Start::Plain,
            _ => Start::Old,
        }
    }
}

/// What a disk holds at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Start {
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
pub(super) fn traced(manner: &Manner, program: &str, arguments: &[&str]) -> Result<Option<i32>, String> {
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
        Some(code) => Err(format!("{program} {}: exit code {code}: {told}", arguments.join(" "))),
    }
}

/// The arguments of every command about this tree.
pub(super) fn about<'a>(root: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["--root", root, "--json", "-q"], rest].concat()
}

/// Does it, on a mounted disk that records.
pub(super) fn perform(
    act: Act,
    machine: &Machine,
    prepared: &Prepared,
    manner: &Manner,
    dice: &mut Dice,
) -> Result<(), String> {
    let root = machine.root().to_str().unwrap().to_owned();
    let package = prepared.package.to_str().unwrap();
    let surefoot = |manner: &Manner, rest: &[&str]| traced(manner, super::SUREFOOT, &about(&root, rest));
    let told = |promise: Promise| machine.disk.mark(promise.name());
    let apply = |rest: &[&str]| surefoot(manner, &[&["apply", package, "--allow-unsigned"], rest].concat());
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
            let apply = ["apply", package, "--allow-unsigned", "--on-interrupt", way];
            if surefoot(&killed, &apply)?.is_some() {
                told(Promise::New);
            }
            surefoot(manner, &["recover"])?;
            let status = status(&root)?;
            told(if status["version"] == "1.0.0" { Promise::Old } else { Promise::New });
        }
        Act::Rsync | Act::Naive => {
            let (program, arguments) = peer(act, &prepared.new_tree, &machine.root());
            traced(manner, &program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

/// What is installed, as the program tells it.
pub(super) fn status(root: &str) -> Result<serde_json::Value, String> {
    let text = run(super::SUREFOOT, &about(root, &["status"]))?;
    serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))
}

/// The command of a peer.
pub(super) fn peer(act: Act, new_tree: &Path, root: &Path) -> (String, Vec<String>) {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    if act == Act::Rsync {
        let arguments = ["-aHX".to_owned(), "--delete".to_owned(), format!("{}/", text(new_tree)), text(root)];
        return ("rsync".to_owned(), arguments.into());
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["lab::peers::naive_updater", "--exact", "--ignored", "--nocapture"].map(str::to_owned);
    let paths = [format!("{}={}", super::peers::FROM, text(new_tree)), format!("{}={}", super::peers::TO, text(root))];
    ("env".to_owned(), paths.into_iter().chain([text(&program)]).chain(arguments).collect())
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
            fs::create_dir_all(&directory).unwrap();
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
    let path = directory.join(format!("other{}", dice.below(3)));
    let mut file = fs::File::create(&path)?;
    file.write_all(&vec![dice.below(256) as u8; 1 + dice.below(9000) as usize])?;
    match dice.below(8) {
        0..4 => file.sync_all(),
        4 => fs::rename(&path, directory.join("renamed")),
        5 => fs::File::open(directory)?.sync_all(),
        6 => {
            let fd = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            Ok(rustix::fs::syncfs(fd)?)
        }
        _ => file.sync_data(),
    }
}

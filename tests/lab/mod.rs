//! The crash lab: the released program on real file systems, whose disk loses its power.
//!
//! Every block that the kernel writes and every flush is recorded while the program works; states that a loss of power
//! may leave are put on a disk, mounted by the real kernel, recovered by the program, and judged.
//!
//! Where the host lacks what it takes (root, FUSE, loop devices, tools), a line with SKIPPED says so.

mod acts;
mod dice;
mod faults;
mod hunt;
mod machine;
mod oracle;
mod peers;
mod snapshot;
mod workload;

use hunt::{Hunt, Tally, Task};
use machine::FILE_SYSTEMS;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) const SUREFOOT: &str = env!("CARGO_BIN_EXE_surefoot");
const TASK: &str = "SUREFOOT_LAB_TASK";
const REPLAY: &str = "SUREFOOT_LAB_REPLAY";
const RESULT: &str = "LAB RESULT ";
const SKIPPED: &str = "SKIPPED:";
/// A sync that is left out is found long before.
const MISSED_SECONDS: f64 = 120.0;
/// Mounting is mostly waiting.
const WORKERS_PER_FS: u64 = 2;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How long the hunt takes: `SUREFOOT_LAB_SECONDS`.
fn seconds() -> f64 {
    number("SUREFOOT_LAB_SECONDS", 60) as f64
}

fn seed() -> u64 {
    number("SUREFOOT_SEED", 20_261_122)
}

impl Task {
    fn new(fs: &str, seconds: f64) -> Self {
        Self {
            fs: fs.to_owned(),
            worker: 0,
            seed: seed(),
            seconds,
            acts: Vec::new(),
            workloads: Vec::new(),
            alone: false,
            ignored: None,
            enough: 20,
            faults: false,
        }
    }
}

/// The file systems that can be tried here; the others are named with the reason.
fn file_systems() -> Vec<&'static str> {
    if let Some(reason) = machine::lacking() {
        println!("{SKIPPED} the crash lab: {reason}");
        return Vec::new();
    }
    let missing = |fs: &&machine::Fs| match fs.missing() {
        Some(reason) => {
            println!("{SKIPPED} the crash lab on {}: {reason}", fs.name);
            false
        }
        None => true,
    };
    FILE_SYSTEMS.iter().filter(missing).map(|fs| fs.name).collect()
}

/// Starts a process of its own mount namespace that does one task.
fn start(variable: &str, value: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(program)
        .args(["lab::worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does all tasks at once; gives the tallies of those that this host can do. What the workers say is said.
fn work(tasks: &[Task]) -> Vec<(Task, Tally)> {
    let workers: Vec<Child> = tasks.iter().map(|task| start(TASK, &serde_json::to_string(task).unwrap())).collect();
    let follow = |(mut worker, task): (Child, Task)| {
        std::thread::spawn(move || {
            let (mut tally, mut skipped) = (None, false);
            for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
                let line = line.unwrap();
                if let Some((_, result)) = line.split_once(RESULT) {
                    tally = serde_json::from_str(result).ok();
                } else {
                    skipped |= line.starts_with(SKIPPED);
                    say(&line);
                }
            }
            let status = worker.wait().unwrap();
            assert!(status.success(), "a worker on {} failed: {status}", task.fs);
            assert!(skipped || tally.is_some(), "a worker on {} ended without a result", task.fs);
            tally.map(|tally| (task, tally))
        })
    };
    let followers: Vec<_> = workers.into_iter().zip(tasks.to_vec()).map(follow).collect();
    followers.into_iter().filter_map(|follower| follower.join().unwrap()).collect()
}

/// Judges a state that was kept once more: is it as it should be?
fn replay(id: &str) -> bool {
    let mut worker = start(REPLAY, id);
    let mut fine = None;
    for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix(RESULT) {
            Some(result) => fine = Some(result == "fine"),
            None => say(&line),
        }
    }
    worker.wait().unwrap();
    fine.expect("a state that was kept can be judged")
}

/// Says what a worker says, but not what its test harness does.
fn say(line: &str) {
    if !(line.is_empty() || line == "ok" || ["running ", "test "].iter().any(|start| line.starts_with(start))) {
        println!("{line}");
    }
}

#[test]
#[ignore = "a process of the lab"]
fn worker() {
    // The harness has begun a line.
    println!();
    if let Ok(task) = std::env::var(TASK) {
        let task: Task = serde_json::from_str(&task).unwrap();
        let (fs, faults) = (task.fs.clone(), task.faults);
        let hunt = match Hunt::new(task) {
            Ok(hunt) => hunt,
            Err(reason) => return println!("{SKIPPED} the crash lab on {fs}: {reason}"),
        };
        let tally =
            if faults { Tally { ended: hunt.faults().unwrap(), ..Tally::default() } } else { hunt.run().unwrap() };
        println!("{RESULT}{}", serde_json::to_string(&tally).unwrap());
    } else if let Ok(id) = std::env::var(REPLAY) {
        let fs = id.split('.').next().unwrap();
        let fine = Hunt::new(Task::new(fs, 600.0)).unwrap().replay(&id).unwrap();
        println!("{RESULT}{}", if fine { "fine" } else { "violation" });
    }
}

/// The promise, on every file system: `SUREFOOT_LAB_SECONDS` of it, or one state again with `SUREFOOT_LAB_REPLAY`.
#[test]
fn no_state_of_a_real_file_system_is_mixed() {
    if let Ok(id) = std::env::var(REPLAY) {
        match machine::lacking() {
            Some(reason) => println!("{SKIPPED} the crash lab: {reason}"),
            None => assert!(replay(&id), "{id} is a violation"),
        }
        return;
    }
    let systems = file_systems();
    let tasks: Vec<Task> = systems
        .iter()
        .flat_map(|fs| (0..WORKERS_PER_FS).map(|worker| Task { worker, ..Task::new(fs, seconds()) }))
        .collect();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for (task, tally) in work(&tasks) {
        tallies.entry(task.fs.clone()).or_default().add(&tally);
    }
    let mut all = Tally::default();
    for (fs, tally) in &tallies {
        print(fs, tally);
        all.add(tally);
    }
    if !tallies.is_empty() {
        print("all", &all);
        println!("{} seconds, seed {}", seconds(), seed());
    }
    assert_eq!(all.violations, 0, "seed {}", seed());
    for (fs, tally) in &tallies {
        assert!(tally.states > 0 && tally.ended("old") > 0 && tally.ended("new") > 0, "{fs}: {tally:?}");
    }
}

/// Full disks, failing disks, strangers: old, new, or a stated stop, and old or new once it is over.
#[test]
fn a_fault_of_a_real_file_system_ends_old_new_or_stated() {
    let systems = file_systems();
    // Both kinds of ext4 fail alike.
    let tasks: Vec<Task> = systems
        .iter()
        .filter(|fs| **fs != "ext4-writeback")
        .map(|fs| Task { faults: true, ..Task::new(fs, seconds() / 4.0) })
        .collect();
    for (task, tally) in work(&tasks) {
        println!("{}: {:#?}", task.fs, tally.ended);
        for fault in faults::FAULTS {
            assert!(tally.ended.keys().any(|end| end.starts_with(fault)), "{}: {fault} was not tried", task.fs);
        }
        assert!(tally.ended.keys().any(|end| !end.ends_with(": done")), "{}: no fault was felt", task.fs);
    }
}

/// The lab can fail: with calls that are not made but reported as done it finds what is broken, on every file system.
#[test]
fn a_sync_that_is_not_made_is_missed() {
    let task = |fs: &str, call: &str, worker| Task {
        worker,
        // What somebody else syncs may make up for it.
        alone: call == "fdatasync",
        ignored: Some(format!("{call}:retval=0")),
        acts: ["confirm", "undo", "backward"].map(str::to_owned).into(),
        workloads: ["replace", "add-remove", "swap", "mixed"].map(str::to_owned).into(),
        enough: 2,
        ..Task::new(fs, MISSED_SECONDS)
    };
    let systems = file_systems();
    let tasks: Vec<Task> = systems.iter().flat_map(|fs| [task(fs, "syncfs", 0), task(fs, "fdatasync", 1)]).collect();
    for (task, tally) in work(&tasks) {
        let (fs, ignored) = (&task.fs, task.ignored.as_deref().unwrap_or_default());
        print(&format!("{fs} with {ignored}"), &tally);
        assert!(tally.violations > 0, "{fs}: {ignored} is missed by nobody, seed {}", seed());
        // Each can be seen again.
        assert!(!replay(&tally.found[0]), "{} was a violation, and is none", tally.found[0]);
        for id in &tally.found {
            let _ = std::fs::remove_dir_all(hunt::kept().join(id.rsplit_once(".c").unwrap().0));
        }
    }
}

/// Others who update trees, in the same lab: for the record.
#[test]
fn peers_leave_trees_that_are_neither_old_nor_new() {
    let tasks: Vec<Task> = file_systems()
        .iter()
        .flat_map(|fs| ["rsync", "naive"].map(|act| (fs, act)))
        .filter(|(_, act)| {
            let here = *act != "rsync" || machine::is_program("rsync");
            if !here {
                println!("{SKIPPED} the peer rsync: it is not installed");
            }
            here
        })
        .map(|(fs, act)| Task {
            acts: vec![act.to_owned()],
            workloads: vec!["everyday".to_owned()],
            ..Task::new(fs, seconds() / 4.0)
        })
        .collect();
    for (task, tally) in work(&tasks) {
        let (raw, again) = (tally.ended("raw"), tally.ended("after running it again"));
        println!(
            "{} on {}: neither old nor new in {raw} of {} states, not new in {again} after running it again",
            task.acts[0], task.fs, tally.states
        );
        assert!(raw > 0, "{} on {}: {tally:?}", task.acts[0], task.fs);
    }
}

fn print(name: &str, tally: &Tally) {
    println!(
        "{name}: {} recordings ({} writes, {} flushes), {} cuts, {} states judged, {} of them nested, {} futures; {:?}, \
         {} violations",
        tally.recordings,
        tally.writes,
        tally.flushes,
        tally.cuts,
        tally.states,
        tally.nested,
        tally.futures,
        tally.ended,
        tally.violations
    );
}

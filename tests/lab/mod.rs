//! The crash lab: the released program on real file systems, whose disk loses its power.
//!
//! Every block that the kernel writes and every flush is recorded while the program works; states that a loss of power
//! may leave are put on a disk, mounted by the real kernel, recovered by the program, and judged.
//!
//! How that is done is the program's own business ([`surefoot::cli::lab`], which `crashtest --real` uses as well); what
//! it is done to is here. Where the host lacks what it takes, a line with SKIPPED says so.

mod faults;
mod peers;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use surefoot::cli::lab::{self, Act, FILE_SYSTEMS, FileSystem, Hunt, Orders, Tally, Update};
use workload::{Prepared, WORKLOADS};

pub(crate) const SUREFOOT: &str = env!("CARGO_BIN_EXE_surefoot");
const REPLAY: &str = "SUREFOOT_LAB_REPLAY";
/// A sync that is left out is found long before.
const MISSED: Duration = Duration::from_secs(120);
/// Mounting is mostly waiting.
const WORKERS_PER_FS: u64 = 2;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How long the hunt takes: `SUREFOOT_LAB_SECONDS`.
fn time() -> Duration {
    Duration::from_secs(number("SUREFOOT_LAB_SECONDS", 60))
}

fn seed() -> u64 {
    number("SUREFOOT_SEED", 20_261_122)
}

/// Where violations are kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab")
}

fn orders(file_system: &'static FileSystem, updates: &[Arc<Update>]) -> Orders {
    Orders {
        file_system,
        room_mib: 0,
        updates: updates.to_vec(),
        acts: Act::ALL.to_vec(),
        seed: seed(),
        worker: 0,
        time: time(),
        alone: false,
        ignored: None,
        enough: 20,
        kept: Some(kept()),
    }
}

/// The file systems that can be tried here; the others are named with the reason.
fn file_systems() -> Vec<&'static FileSystem> {
    if let Some(reason) = lab::lacking() {
        println!("SKIPPED: the crash lab: {reason}");
        return Vec::new();
    }
    let missing = |fs: &&FileSystem| match fs.missing() {
        Some(reason) => {
            println!("SKIPPED: the crash lab on {}: {reason}", fs.name);
            false
        }
        None => true,
    };
    FILE_SYSTEMS.iter().filter(missing).collect()
}

/// Prepares these workloads, all if none is named.
fn prepare(scratch: &Path, names: &[&str]) -> Vec<Prepared> {
    let wanted = WORKLOADS.iter().filter(|workload| names.is_empty() || names.contains(&workload.name));
    wanted.map(|workload| Prepared::new(workload, scratch)).collect()
}

fn updates(prepared: &[Prepared]) -> Vec<Arc<Update>> {
    prepared.iter().map(|prepared| prepared.update.clone()).collect()
}

/// Does all tasks at once, each in a thread of its own, and gives what came of them.
fn work<T: Send>(tasks: Vec<Orders>, what: impl Fn(Orders) -> Result<T, String> + Sync) -> Vec<(Orders, T)> {
    std::thread::scope(|scope| {
        let what = &what;
        let start = |orders: Orders| (orders.clone(), scope.spawn(move || what(orders)));
        let workers: Vec<_> = tasks.into_iter().map(start).collect();
        let end = |(orders, worker): (Orders, std::thread::ScopedJoinHandle<'_, Result<T, String>>)| {
            let done = worker.join().unwrap();
            let done = done.unwrap_or_else(|error| panic!("a worker on {}: {error}", orders.file_system.name));
            (orders, done)
        };
        workers.into_iter().map(end).collect()
    })
}

fn hunt(orders: Orders) -> Result<Tally, String> {
    Hunt::new(orders)?.run()
}

/// Judges a state that was kept once more: what is wrong with it?
fn replay(state: &str) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let mut parts = state.split('.');
    let fs = FileSystem::named(parts.next().unwrap()).expect("the name begins with a file system");
    let prepared = prepare(scratch.path(), &[parts.next().expect("then comes a workload")]);
    let update = prepared[0].update.clone();
    let again = |orders| Hunt::new(orders)?.replay(&update, state);
    work(vec![orders(fs, &[])], again).pop().unwrap().1
}

/// The promise, on every file system: `SUREFOOT_LAB_SECONDS` of it, or one state again with `SUREFOOT_LAB_REPLAY`.
#[test]
fn no_state_of_a_real_file_system_is_mixed() {
    let systems = file_systems();
    if let Some(state) = std::env::var(REPLAY).ok().filter(|_| !systems.is_empty()) {
        return assert_eq!(replay(&state), [""; 0], "{state} is a violation");
    }
    let scratch = tempfile::tempdir().unwrap();
    let updates = updates(&prepare(scratch.path(), &[]));
    let workers = |fs| (0..WORKERS_PER_FS).map(move |worker| (fs, worker));
    let tasks = systems.into_iter().flat_map(workers);
    let tasks = tasks.map(|(fs, worker)| Orders { worker, ..orders(fs, &updates) }).collect();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for (orders, tally) in work(tasks, hunt) {
        tallies.entry(orders.file_system.name).or_default().add(&tally);
    }
    let mut all = Tally::default();
    for (fs, tally) in &tallies {
        print(fs, tally);
        all.add(tally);
    }
    if !tallies.is_empty() {
        print("all", &all);
        println!("{} seconds, seed {}", time().as_secs(), seed());
    }
    assert!(all.found.is_empty(), "seed {}: {:#?}: SUREFOOT_LAB_REPLAY=STATE shows it again", seed(), all.found);
    for (fs, tally) in &tallies {
        assert!(tally.states > 0 && tally.ended("old") > 0 && tally.ended("new") > 0, "{fs}: {tally:?}");
    }
}

/// Full disks, failing disks, strangers: old, new, or a stated stop, and old or new once it is over.
#[test]
fn a_fault_of_a_real_file_system_ends_old_new_or_stated() {
    let systems = file_systems();
    let scratch = tempfile::tempdir().unwrap();
    let prepared = prepare(scratch.path(), &["mixed"]).remove(0);
    // Both kinds of ext4 fail alike.
    let systems = systems.into_iter().filter(|fs| fs.name != "ext4-writeback");
    let tasks = systems.map(|fs| Orders { time: time() / 4, ..orders(fs, &[]) }).collect();
    for (orders, ended) in work(tasks, |orders| faults::hunt(orders, &prepared)) {
        let name = orders.file_system.name;
        println!("{name}: {ended:#?}");
        for fault in faults::FAULTS {
            assert!(ended.keys().any(|end| end.starts_with(fault)), "{name}: {fault} was not tried");
        }
        assert!(ended.keys().any(|end| !end.ends_with(": done")), "{name}: no fault was felt");
    }
}

/// The lab can fail: with calls that are not made but reported as done it finds what is broken, on every file system.
#[test]
fn a_sync_that_is_not_made_is_missed() {
    let systems = file_systems();
    let scratch = tempfile::tempdir().unwrap();
    let updates = updates(&prepare(scratch.path(), &["replace", "add-remove", "swap", "mixed"]));
    let task = |fs, call: &str, worker| Orders {
        worker,
        // What somebody else syncs may make up for it.
        alone: call == "fdatasync",
        ignored: Some(format!("{call}:retval=0")),
        acts: vec![Act::Confirm, Act::Undo, Act::Backward],
        time: MISSED,
        enough: 2,
        ..orders(fs, &updates)
    };
    let tasks = systems.into_iter().flat_map(|fs| [task(fs, "syncfs", 0), task(fs, "fdatasync", 1)]).collect();
    for (orders, tally) in work(tasks, hunt) {
        let (fs, ignored) = (orders.file_system.name, orders.ignored.unwrap_or_default());
        print(&format!("{fs} with {ignored}"), &tally);
        let found = tally.found.first();
        let found = found.unwrap_or_else(|| panic!("{fs}: {ignored} is missed by nobody, seed {}", seed()));
        println!("  {}: {}", found.state, found.message);
        // Each can be seen again.
        assert!(!replay(&found.state).is_empty(), "{} was a violation, and is none", found.state);
        for found in &tally.found {
            let _ = std::fs::remove_dir_all(kept().join(found.state.rsplit_once(".c").unwrap().0));
        }
    }
}

/// `crashtest --real` on a package of these tests.
fn crashtest_command(prepared: &Prepared, rest: &[&str]) -> Command {
    let base = prepared.new_tree.with_file_name("old");
    let mut command = Command::new(SUREFOOT);
    command.args(["--json", "crashtest"]).arg(&prepared.update.package).arg("--base").arg(base).args(rest);
    command
}

/// Runs it: its exit code, and what it tells.
fn crashtest(prepared: &Prepared, path: &str, rest: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = crashtest_command(prepared, rest).env("PATH", path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The same for whoever ships packages.
#[test]
fn a_package_is_tried_on_every_file_system() {
    let systems = file_systems();
    let scratch = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let seconds = (time().as_secs() / 3).max(20).to_string();
    let mut ended = [0, 0];
    for (kind, workload) in [("ext4", "replace"), ("xfs", "mixed"), ("btrfs", "add-remove")] {
        let tried = systems.iter().filter(|fs| fs.kind == kind).count();
        if tried == 0 {
            continue;
        }
        let prepared = prepare(scratch.path(), &[workload]).remove(0);
        let (code, told) = crashtest(&prepared, &path, &["--real", kind, "--seconds", &seconds]);
        assert_eq!(code, Some(0), "{kind}: {told:#?}");
        let told_of = told.iter().filter(|object| object["type"] == "file-system");
        assert_eq!(told_of.count(), tried, "{told:#?}");
        let answer = told.last().unwrap();
        println!("crashtest --real {kind}: {answer}");
        assert!(answer["states"].as_u64().unwrap() > 0, "{answer}");
        for (sum, end) in ended.iter_mut().zip(["old", "new"]) {
            *sum += answer["ended"][end].as_u64().unwrap_or(0);
        }
    }
    assert!(systems.is_empty() || ended.iter().all(|count| *count > 0), "{ended:?}");
}

/// A disk that lies is found out by it, too, and what was kept is judged again.
#[test]
fn what_a_lying_disk_does_to_a_package_is_told_and_can_be_seen_again() {
    let scratch = tempfile::tempdir().unwrap();
    let prepared = prepare(scratch.path(), &["replace"]).remove(0);
    // Where something is missing, that is what is told.
    let (code, told) = crashtest(&prepared, "/nowhere", &["--real", "ext4"]);
    assert_eq!((code, &told.last().unwrap()["code"]), (Some(1), &"unsupported.lab".into()), "{told:#?}");
    if !file_systems().iter().any(|fs| fs.kind == "ext4") {
        return;
    }
    let path = std::env::var("PATH").unwrap();
    let kept = scratch.path().join("kept");
    let lab = ["--real", "ext4", "--keep", kept.to_str().unwrap()];
    let (code, told) = crashtest(&prepared, &path, &[&lab[..], &["--ignore-sync", "0"]].concat());
    assert_eq!((code, &told.last().unwrap()["code"]), (Some(1), &"crashtest.violation".into()), "{told:#?}");
    let found = told.iter().find_map(|object| object["found"].as_array()?.first());
    let state = found.unwrap()["state"].as_str().unwrap();
    let (code, told) = crashtest(&prepared, &path, &[&lab[..], &["--replay", state]].concat());
    assert_eq!((code, &told.last().unwrap()["code"]), (Some(1), &"crashtest.violation".into()), "{told:#?}");
}

/// Others who update trees, in the same lab: for the record.
#[test]
fn peers_leave_trees_that_are_neither_old_nor_new() {
    let systems = file_systems();
    let scratch = tempfile::tempdir().unwrap();
    let prepared = prepare(scratch.path(), &["everyday"]).remove(0);
    for peer in ["rsync", "naive"] {
        if peer == "rsync" && !lab::is_program(peer) {
            println!("SKIPPED: the peer rsync: it is not installed");
            continue;
        }
        let tasks = systems.iter().map(|fs| Orders { time: time() / 4, ..orders(fs, &[]) }).collect();
        for (orders, [states, raw, again]) in work(tasks, |orders| peers::hunt(orders, &prepared, peer)) {
            let name = orders.file_system.name;
            println!(
                "{peer} on {name}: neither old nor new in {raw} of {states} states, not new in {again} after running \
                 it again"
            );
            assert!(raw > 0, "{peer} on {name}: {states} states");
        }
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
        tally.found.len()
    );
}

/// Whoever kills the lab kills who serves its disk, and the kernel would wait for that disk for ever: with it the
/// processes, the loop device and the mounts. A process of its own sees to it that all of them go.
#[test]
fn a_lab_that_is_killed_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let prepared = prepare(scratch.path(), &["replace"]).remove(0);
    let kinds: BTreeSet<&str> = file_systems().iter().map(|fs| fs.kind).collect();
    for (kind, delay) in kinds.into_iter().flat_map(|kind| [0, 500, 3000].map(|delay| (kind, delay))) {
        let temporary = scratch.path().join(format!("{kind}-{delay}"));
        std::fs::create_dir(&temporary).unwrap();
        let mut command = crashtest_command(&prepared, &["--real", kind, "--seconds", "600"]);
        let mut lab = command.env("TMPDIR", &temporary).stdout(Stdio::null()).spawn().unwrap();
        let begun = || left_behind(&temporary).iter().any(|path| path.starts_with("/sys/block/"));
        until(|| Vec::from_iter((!begun()).then(|| "to begin".to_owned())));
        std::thread::sleep(Duration::from_millis(delay));
        lab.kill().unwrap();
        until(|| Vec::from_iter(lab.try_wait().unwrap().is_none().then(|| "to end".to_owned())));
        until(|| left_behind(&temporary));
    }
}

/// Files of a lab, loop devices over them, and processes that name them.
fn left_behind(temporary: &Path) -> Vec<String> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    // A loop device tells the path of its file as it was mounted.
    let loops = entries(Path::new("/sys/block")).map(|device| device.join("loop/backing_file"));
    let processes = entries(Path::new("/proc")).map(|process| process.join("cmdline"));
    let known = temporary.to_str().unwrap();
    let named = loops.chain(processes).filter(|path| {
        let told = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&told).contains(known)
    });
    named.chain(entries(temporary)).map(|path| path.display().to_string()).collect()
}

/// Waits until nothing is missing any more.
fn until(mut missing: impl FnMut() -> Vec<String>) {
    let begun = std::time::Instant::now();
    while !missing().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "still: {:?}", missing());
        std::thread::sleep(Duration::from_millis(50));
    }
}

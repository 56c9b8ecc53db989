//! Journals of real runs of the program on a real disk, held against the state machine: it accepts each of them, and
//! refuses them with any record moved, left out or doubled. Some are kept in `tests/golden/journals`, one record a
//! line; `SUREFOOT_BLESS=1` records these anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use surefoot::codec;
use surefoot::journal::scan_bytes;
use surefoot::transaction::table::record_name;
use surefoot::transaction::{Outcome, Record, State};

const SUREFOOT: &str = env!("CARGO_BIN_EXE_surefoot");

/// What is recorded, and the records that it leaves.
const RUNS: &[(&str, &[&str])] = &[
    ("applied", &["Begin", "Prepared", "Started", "Applied", "Confirmed", "End"]),
    ("undone", &["Begin", "Prepared", "Started", "Applied", "Confirmed", "End"]),
    ("tried", &["Begin", "Prepared", "Started", "Applied"]),
    ("tried and confirmed", &["Begin", "Prepared", "Started", "Applied", "Confirmed", "End"]),
    ("tried and rejected", &["Begin", "Prepared", "Started", "Applied", "Revert", "Reverted", "End"]),
    ("killed", &["Begin", "Prepared", "Started"]),
    ("killed and finished", &["Begin", "Prepared", "Started", "Applied", "Confirmed", "End"]),
    ("killed and taken back", &["Begin", "Prepared", "Started", "Revert", "Reverted", "End"]),
    ("failed before a step", &["Begin", "End"]),
];

#[test]
fn journals_of_real_runs_are_accepted() {
    let traces = record();
    for (name, expected) in RUNS {
        let records = &traces[name];
        let names: Vec<&str> = records.iter().map(record_name).collect();
        assert_eq!(names, *expected, "{name}");
        replay(records).unwrap_or_else(|why| panic!("{name}: {why}"));
        if std::env::var_os("SUREFOOT_BLESS").is_some() {
            let lines: String = records.iter().map(|record| hex(&codec::encode(record)) + "\n").collect();
            fs::create_dir_all(kept(name).parent().unwrap()).unwrap();
            fs::write(kept(name), lines).unwrap();
        }
    }
}

#[test]
fn kept_journals_are_accepted_and_end_as_they_ended() {
    for (name, expected) in RUNS {
        let records = read_kept(name);
        assert_eq!(records.iter().map(record_name).collect::<Vec<_>>(), *expected, "{name}");
        let (ends, finished) = (replay(&records).unwrap(), expected.contains(&"End"));
        assert_eq!(ends == State::Idle, finished, "{name}: {ends:?}");
        // Wherever such a journal is cut it can be read.
        for cut in 0..records.len() {
            replay(&records[..cut]).unwrap_or_else(|why| panic!("{name}, cut at {cut}: {why}"));
        }
        if finished {
            let closing = replay(&records[..records.len() - 1]).unwrap();
            let outcome = match name {
                &"failed before a step" => None,
                _ if expected.contains(&"Reverted") => Some(Outcome::Restored),
                _ => Some(Outcome::Kept),
            };
            let found = if let State::Closing(outcome) = closing { Some(outcome) } else { None };
            assert_eq!(found, outcome, "{name}");
        }
    }
}

/// Only `Started` may come twice or not at all: nothing waits for it.
#[test]
fn a_changed_order_is_refused() {
    let mut refused = 0;
    for (name, _) in RUNS {
        let records = read_kept(name);
        let advisory = |at: usize| records[at] == Record::Started;
        let mut refuse = |changed: Vec<Record>, how: String| {
            assert!(replay(&changed).is_err(), "{name}: {how} is accepted: {changed:?}");
            refused += 1;
        };
        for at in 0..records.len() {
            for other in at + 1..records.len() {
                let mut changed = records.clone();
                changed.swap(at, other);
                refuse(changed, format!("{at} in the place of {other}"));
            }
            if !advisory(at) {
                let mut changed = records.clone();
                changed.insert(at, records[at].clone());
                refuse(changed, format!("{at} twice"));
            }
            // What is left out at the end is a shorter run; and it may turn back before all steps are taken.
            let turns = matches!(records.get(at + 1), Some(Record::Revert { .. }));
            let shorter = records[at + 1..].iter().all(|record| *record == Record::Started);
            if !(advisory(at) || turns || shorter) {
                let mut changed = records.clone();
                changed.remove(at);
                refuse(changed, format!("without {at}"));
            }
        }
    }
    assert!(refused > 150, "{refused}");
}

fn replay(records: &[Record]) -> Result<State, String> {
    records.iter().try_fold(State::Idle, |state, record| state.replay(record)).map_err(|error| error.to_string())
}

fn kept(name: &str) -> PathBuf {
    let name = name.replace(' ', "-");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journals").join(name)
}

fn read_kept(name: &str) -> Vec<Record> {
    let text = fs::read_to_string(kept(name)).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect::<Vec<u8>>())
        .map(|payload| codec::decode(&payload).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the program through everything and reads the journal after each.
fn record() -> BTreeMap<&'static str, Vec<Record>> {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for (name, version) in [("old", 0), ("new", 1), ("live", 0)] {
        make(&path(name), version);
    }
    let text = |name: &str| path(name).into_os_string().into_string().unwrap();
    let (live, package, torn) = (path("live"), text("patch"), text("torn"));
    let build = ["build", &text("old"), &text("new"), "--from", "1.0.0", "--to", "1.0.1", "--no-prove", "-o", &package];
    succeeds(&live, &build);
    succeeds(&live, &["init", "--version", "1.0.0"]);
    let mut out = BTreeMap::new();
    let apply = ["apply", &package, "--allow-unsigned"];
    let with = |more: &[&'static str]| -> Vec<String> { apply.iter().chain(more).map(ToString::to_string).collect() };
    succeeds(&live, &apply);
    out.insert("applied", journal(&live));
    succeeds(&live, &["rollback"]);
    out.insert("undone", journal(&live));
    succeeds(&live, &with(&["--trial"]));
    out.insert("tried", journal(&live));
    succeeds(&live, &["recover"]);
    assert_eq!(journal(&live), out["tried"], "the same boot counts twice");
    succeeds(&live, &["confirm"]);
    out.insert("tried and confirmed", journal(&live));
    succeeds(&live, &["rollback"]);
    succeeds(&live, &with(&["--trial"]));
    succeeds(&live, &["rollback"]);
    out.insert("tried and rejected", journal(&live));

    // A patch is unpacked before its transaction, so it takes a full package to fail in one.
    let full = text("full");
    succeeds(&live, &["build", "--full", &text("new"), "--to", "1.0.1", "--no-prove", "-o", &full]);
    let whole = fs::read(&full).unwrap();
    fs::write(&torn, &whole[..whole.len() - 2]).unwrap();
    let output = surefoot(&live, &["apply", &torn, "--allow-unsigned"]).output().unwrap();
    assert!(!output.status.success(), "half a package was applied");
    out.insert("failed before a step", journal(&live));

    for (name, way) in [("killed and finished", "forward"), ("killed and taken back", "backward")] {
        let killed = kill_while_applying(&live, &[&apply[..], &["--on-interrupt", way]].concat());
        out.insert("killed", killed);
        succeeds(&live, &["recover"]);
        out.insert(name, journal(&live));
        if way == "forward" {
            succeeds(&live, &["rollback"]);
        }
    }
    out
}

/// Kills the program as soon as the journal says that steps are taken; again if it was too fast.
fn kill_while_applying(live: &Path, arguments: &[&str]) -> Vec<Record> {
    for _ in 0..50 {
        let mut child = surefoot(live, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
            if journal(live).last() == Some(&Record::Started) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let records = journal(live);
        if records.last() == Some(&Record::Started) {
            return records;
        }
        succeeds(live, &["recover"]);
        if succeeds(live, &["status"]).contains("version   1.0.1") {
            succeeds(live, &["rollback"]);
        }
    }
    panic!("it is never killed in time");
}

fn journal(live: &Path) -> Vec<Record> {
    let found = scan_bytes(&fs::read(live.join(".surefoot/journal")).unwrap()).unwrap();
    found.payloads.iter().map(|payload| codec::decode(payload).unwrap()).collect()
}

fn surefoot(live: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(SUREFOOT);
    command.arg("--root").arg(live).arg("-q").args(arguments);
    command
}

fn succeeds(live: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let output = surefoot(live, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Enough files that a kill falls between two steps.
fn make(root: &Path, version: u64) {
    for n in 0..1500_u64 {
        let file = root.join(format!("d{}/f{n}", n % 20));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("file {n} of version {}\n", if n % 2 == 0 { version } else { 0 })).unwrap();
    }
}

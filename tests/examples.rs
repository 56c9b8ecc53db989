//! Every program in `examples/`, run: what it prints and what it leaves.

use crate::fetch::server::{Server, serve};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use surefoot::model::Digest;
use tempfile::TempDir;

/// The examples, each with the test that runs it.
const PROGRAMS: [(&str, &str, &str); 9] = [
    ("archives", file!(), "archives_are_told_of"),
    ("crash_state_file", file!(), "a_crash_test_tells_what_is_good_and_what_is_not"),
    ("crash_tree", file!(), "a_crash_test_tells_what_is_good_and_what_is_not"),
    ("delta_lab", file!(), "a_patch_is_measured"),
    ("fetch_file", file!(), "a_file_is_fetched_once"),
    ("follow_repository", "tests/fetch/follow.rs", "examples/follow_repository\""),
    ("plan_graph", file!(), "ways_are_chosen_from_many"),
    ("tree_transaction", file!(), "a_tree_is_changed_and_changed_back"),
    ("tuf_client", "tests/fetch/tuf_client.rs", "examples/tuf_client\""),
];

/// Runs a program; its exit code, what it printed, and what it said of errors. Cargo builds the examples with the tests.
fn run(name: &str, arguments: &[&Path]) -> (i32, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not there: cargo test builds it", program.display());
    let ran = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code().unwrap(), text(ran.stdout), text(ran.stderr))
}

/// Runs what must go well; the lines that it prints.
#[track_caller]
fn good(name: &str, arguments: &[&Path]) -> Vec<String> {
    let (code, out, error) = run(name, arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{name}: {out}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn every_example_is_run_by_a_test() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there = fs::read_dir(top.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeSet<String> = there
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, PROGRAMS.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for (name, file, test) in PROGRAMS {
        let text = fs::read_to_string(top.join(file)).unwrap();
        assert!(text.contains(test), "{name}: no {test} in {file}");
    }
}

fn numbers(from: u32, to: u32) -> String {
    (from..to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_tree_is_changed_and_changed_back() {
    let folder = TempDir::new().unwrap();
    let lines = good("tree_transaction", &[folder.path()]);
    assert_eq!(lines, ["3 steps taken, all at once", "3 steps taken back"]);
    let at = |path: &str| folder.path().join(path);
    assert_eq!(fs::read_to_string(at("etc/app.conf")).unwrap(), "threads = 4\n");
    assert_eq!(fs::read_link(at("bin/current")).unwrap(), PathBuf::from("app"));
    assert!(!at("etc/app.toml").exists());
    assert!(Command::new(at("bin/app")).status().unwrap().success(), "it may be run, and does");
    let (code, _, error) = run("tree_transaction", &[]);
    assert!(code == 1 && error.contains("name a directory"), "{code}: {error}");
}

#[test]
fn a_crash_test_tells_what_is_good_and_what_is_not() {
    for (name, right, wrong, found) in [
        ("crash_state_file", "careful: ", "careless: ", "neither old nor new: \"\\x00\\x00\\x00\""),
        ("crash_tree", "together: ", "one after the other: ", "neither old nor new: \"v2v1\""),
    ] {
        let lines = good(name, &[]);
        let states = lines[0].strip_prefix(right).and_then(|rest| rest.strip_suffix(" states, all of them good"));
        assert!(states.is_some_and(|states| states.parse::<u64>().unwrap() > 100), "{lines:?}");
        assert!(lines[1].starts_with(wrong) && lines[1].ends_with(found), "{}", lines[1]);
        assert!(lines.iter().any(|line| line.contains("<- here the power fails")), "{lines:?}");
    }
}

#[test]
fn archives_are_told_of() {
    let folder = TempDir::new().unwrap();
    let [plain, packed, missing] = ["a", "a.gz", "none"].map(|name| folder.path().join(name));
    fs::write(&plain, numbers(1, 5001)).unwrap();
    assert_eq!(run("archives", &[]).0, 2);
    let told = good("archives", &[&plain, &missing]);
    assert!(told[0].contains(": 0 of 0 members, 0 of 0 bytes, 23893 bytes inflated"), "{told:?}");
    assert!(told[1].contains("No such file"), "{told:?}");
    match Command::new("gzip").args(["-6", "-n", "-k"]).arg(&plain).status() {
        Ok(status) if status.success() => {}
        other => return println!("SKIPPED: no gzip here: {other:?}"),
    }
    let told = good("archives", &[&packed]).remove(0);
    assert!(told.contains(": 1 of 1 members, ") && told.contains("; 1 by DeflateParameters"), "{told}");
}

#[test]
fn a_patch_is_measured() {
    let folder = TempDir::new().unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    for (tree, text) in [(&old, numbers(1, 9000)), (&new, numbers(1, 4000) + &numbers(4100, 9000))] {
        fs::create_dir(tree).unwrap();
        fs::write(tree.join("changes"), text).unwrap();
        fs::write(tree.join("stays"), numbers(1, 3000)).unwrap();
    }
    let lines = good("delta_lab", &[&old, &new, Path::new("fast")]);
    let last = lines.last().unwrap();
    let bytes = last.strip_prefix(&format!("{} Fast: ", new.display())).and_then(|rest| rest.split(' ').next());
    let bytes: u64 = bytes.unwrap_or_else(|| panic!("{last}")).parse().unwrap();
    assert!((20..2000).contains(&bytes), "{last}");
    assert!(lines.iter().any(|line| line.starts_with("  headers ")), "{lines:?}");
}

#[test]
fn a_file_is_fetched_once() {
    let folder = TempDir::new().unwrap();
    let content = numbers(1, 40_000).into_bytes();
    let (digest, length) = (Digest::of(&content).to_string(), content.len());
    let server = Server::start(move |asked, stream| serve(asked, stream, &content, "\"t\""));
    let url = server.url("file");
    let arguments = [Path::new(&url), Path::new(&digest), folder.path()];
    assert_eq!(good("fetch_file", &arguments), [format!("{length} bytes, {length} of them fetched now")]);
    assert_eq!(good("fetch_file", &arguments), [format!("{length} bytes, 0 of them fetched now")]);
    let wrong = Digest::of(b"another").to_string();
    let elsewhere = TempDir::new().unwrap();
    let (code, out, _) = run("fetch_file", &[Path::new(&url), Path::new(&wrong), elsewhere.path()]);
    assert_eq!((code, out.as_str()), (1, ""));
}

#[test]
fn ways_are_chosen_from_many() {
    let lines = good("plan_graph", &[]);
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (pair, wish) in lines.chunks(2).zip(["Bytes", "Time", "Space"]) {
        assert!(pair[0].starts_with(&format!("{wish}: chain from 1.0.0.0 to 1.0.0.999: ")), "{lines:?}");
        assert!(pair[1].starts_with(&format!("{wish}: slowest of 100 decisions ")), "{lines:?}");
    }
}

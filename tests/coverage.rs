//! Branch coverage of the parts that decide: the journal, the state machine and recovery.
//!
//! `cargo test --release --all-features --test surefoot coverage -- --ignored --nocapture` builds the tests once more,
//! instrumented, runs them, and lists every branch that was never taken. It needs `llvm-profdata` and `llvm-cov`, of
//! LLVM 19 or later (Debian: `llvm-19`).

use crate::cargo;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What must be covered.
const PARTS: &[&str] = &["src/journal/", "src/transaction/", "src/device/recover.rs"];

/// Branches that no test takes: the line, which side, and why. Each reason stands in `docs/testing.md` as well.
const LEFT_OUT: &[(&str, bool)] = &[];

/// Tests that say nothing about the engine, or take too long under instruments.
const SKIPPED: &[&str] = &["architecture::", "coverage::", "docs::", "kill::", "mutants::", "soak::", "three_hundred"];

/// A condition: its file, where it begins and ends, by line and column.
type Place = (String, [u64; 4]);

#[test]
#[ignore = "builds everything once more: see docs/testing.md"]
fn every_branch_is_taken_both_ways() {
    let target = root().join("target/coverage");
    let profiles = target.join("profiles");
    let _ = fs::remove_dir_all(&profiles);
    let programs = build(&target);
    for program in programs.iter().filter(|program| program.components().any(|part| part.as_os_str() == "deps")) {
        let status = Command::new(program)
            .current_dir(root())
            .args(SKIPPED.iter().flat_map(|name| ["--skip", name]))
            .env("LLVM_PROFILE_FILE", profiles.join("%16m.profraw"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{} fails", program.display());
    }
    let merged = target.join("merged.profdata");
    let raw = fs::read_dir(&profiles).unwrap().map(|entry| entry.unwrap().path());
    run(Command::new(tool("llvm-profdata")).args(["merge", "-sparse", "-o"]).arg(&merged).args(raw));
    let mut export = Command::new(tool("llvm-cov"));
    export.arg("export").arg("--instr-profile").arg(&merged).arg(&programs[0]);
    export.args(programs[1..].iter().flat_map(|program| [Path::new("-object"), program]));
    export.args(PARTS.iter().map(|part| root().join(part)));
    let exported: serde_json::Value = serde_json::from_slice(&run(&mut export)).unwrap();

    let functions = exported["data"][0]["functions"].as_array().unwrap();
    // A generic function stands there once for each of its types: a branch is taken if any of them takes it.
    let branches = merge(functions, "branches", 2);
    let regions = merge(functions, "regions", 1);
    let mut left = BTreeSet::new();
    for part in PARTS {
        let of = |all: &BTreeMap<Place, Vec<u64>>| {
            let counts = || all.iter().filter(|((file, _), _)| file.starts_with(part)).flat_map(|(_, counts)| counts);
            (counts().filter(|count| **count > 0).count(), counts().count())
        };
        let ((branches, all_branches), (regions, all_regions)) = (of(&branches), of(&regions));
        println!("{part}: {branches} of {all_branches} branches, {regions} of {all_regions} regions");
        assert!(all_branches > 20, "{part} is not instrumented");
    }
    for ((file, at), counts) in &branches {
        for (side, _) in [true, false].iter().zip(counts).filter(|(_, count)| **count == 0) {
            let text = line(file, at[0]);
            println!("never {side}: {file}:{}:{}: {text}", at[0], at[1]);
            left.insert((text, *side));
        }
    }
    for ((file, at), _) in regions.iter().filter(|(_, counts)| counts[0] == 0) {
        println!("never reached: {file}:{}:{} to {}:{}: {}", at[0], at[1], at[2], at[3], line(file, at[0]));
    }
    let listed: BTreeSet<(String, bool)> = LEFT_OUT.iter().map(|(text, side)| (text.to_string(), *side)).collect();
    assert_eq!(left, listed, "left: what is never taken; right: what is listed");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The executables of the tests and the program, with counters in them.
fn build(target: &Path) -> Vec<PathBuf> {
    // Counting branches is not stable yet.
    let wrapper = target.join("rustc");
    let script = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec \"$@\" -C instrument-coverage -Z coverage-options=branch --cap-lints=allow\n";
    fs::create_dir_all(target).unwrap();
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["test", "--all-features", "--lib", "--test", "surefoot", "--no-run"];
    let environment = [("CARGO_TARGET_DIR", target.as_os_str()), ("RUSTC_WORKSPACE_WRAPPER", wrapper.as_os_str())];
    let programs: BTreeSet<PathBuf> = match cargo::build(root(), &arguments, &environment) {
        Ok(built) => built.into_iter().map(|built| built.path).collect(),
        Err(errors) => panic!("the instrumented tests cannot be built: {errors}"),
    };
    assert_eq!(programs.len(), 3, "{programs:?}");
    programs.into_iter().collect()
}

/// The counts of all places of one kind in all functions, summed over the types that a function was compiled for.
fn merge(functions: &[serde_json::Value], kind: &str, counts: usize) -> BTreeMap<Place, Vec<u64>> {
    let mut out: BTreeMap<Place, Vec<u64>> = BTreeMap::new();
    for function in functions {
        for entry in function[kind].as_array().unwrap() {
            let number = |at: usize| entry[at].as_u64().unwrap();
            let file = function["filenames"][number(4 + counts) as usize].as_str().unwrap();
            let Some(file) = Path::new(file).strip_prefix(root()).ok().and_then(Path::to_str) else { continue };
            // Kind 0 is code, 4 a branch; tests do not count.
            let is_code = kind == "branches" || number(7) == 0;
            if !PARTS.iter().any(|part| file.starts_with(part)) || !is_code || number(0) >= tests_begin(file) {
                continue;
            }
            let sums = out.entry((file.into(), [0, 1, 2, 3].map(number))).or_insert_with(|| vec![0; counts]);
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = sum.saturating_add(number(4 + at));
            }
        }
    }
    out
}

/// The line at which the tests in a file begin.
fn tests_begin(file: &str) -> u64 {
    let text = fs::read_to_string(root().join(file)).unwrap();
    text.lines().position(|line| line.starts_with("#[cfg(test)]")).map_or(u64::MAX, |at| at as u64 + 1)
}

fn line(file: &str, number: u64) -> String {
    let text = fs::read_to_string(root().join(file)).unwrap();
    text.lines().nth(number as usize - 1).unwrap().trim().to_string()
}

/// A tool of LLVM, by its plain name or that of Debian.
fn tool(name: &str) -> String {
    let found = |name: &String| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    let versions = (19..30).rev().map(|version| format!("{name}-{version}"));
    versions.chain([name.to_string()]).find(found).unwrap_or_else(|| panic!("{name} is not installed"))
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

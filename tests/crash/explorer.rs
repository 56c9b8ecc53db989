//! The public explorer: its examples, what it finds when something is broken on purpose, and how it tells it.

#[path = "../../examples/crash_state_file.rs"]
#[allow(dead_code)]
mod state_file;
#[path = "../../examples/crash_tree.rs"]
#[allow(dead_code)]
mod tree;

use super::options;
use super::workload::{Prepared, WORKLOADS};
use surefoot::crashtest::{Act, After, Before, Exploration, Explorer, Fate};
use surefoot::vfs::sim::{Budget, Faults, Profile};
use surefoot::vfs::{Access, Place, Vfs as _};

/// What a user writes: the code under test, and its crash test.
#[test]
fn a_crash_test_takes_less_than_twenty_lines() {
    let examples = [include_str!("../../examples/crash_state_file.rs"), include_str!("../../examples/crash_tree.rs")];
    for example in examples {
        let written = example.split("fn main").next().unwrap().lines().map(str::trim);
        let counts =
            |line: &&str| !(line.is_empty() || ["//", "use ", "#!["].iter().any(|start| line.starts_with(start)));
        let lines = written.filter(counts).count();
        assert!((10..20).contains(&lines), "{lines} lines:\n{example}");
    }
}

#[test]
fn a_state_file_that_is_not_synced_is_caught_and_the_schedule_says_why() {
    let tally = state_file::explore(true).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(tally.is_exhaustive() && tally.distinct > 20, "{tally:?}");
    let violation = state_file::explore(false).unwrap_err();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/violation.txt");
    if std::env::var_os("SUREFOOT_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(golden, violation.to_string()).unwrap();
    }
    assert_eq!(violation.to_string(), std::fs::read_to_string(golden).unwrap());
    assert_eq!(state_file::explore(false).unwrap_err().to_string(), violation.to_string(), "it repeats");
}

#[test]
fn a_transaction_in_two_halves_is_caught_and_the_schedule_says_why() {
    let tally = tree::explore(true).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(tally.is_exhaustive() && tally.distinct > 100, "{tally:?}");
    let violation = tree::explore(false).unwrap_err();
    assert_eq!(violation.message, "neither old nor new: \"v2v1\"");
    assert!(violation.to_string().contains("new     app: file of 2 bytes"), "{violation}");
}

/// A disk that ignores one sync: the violation names one effect, and it is one that the sync should have made durable.
#[test]
fn what_a_lying_disk_breaks_is_told_with_one_effect() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let mut lines = Vec::new();
    for ignored in 0..3 {
        let violation = Explorer::on(prepared.disk.fork())
            .faults(Faults::none().ignore_sync(ignored))
            .run(|disk| prepared.perform(Act::Apply, disk).0)
            .judge(|disk, promise| prepared.judge(disk, *promise).map(drop));
        // Not every workload misses every sync: see `barriers`.
        let Err(violation) = violation else { continue };
        let fewest = violation.lost().count().min(violation.survived().count());
        assert!(fewest <= 2, "sync {ignored}: {violation}");
        assert!(violation.effects.iter().all(|effect| effect.fate != Fate::Torn), "{violation}");
        lines.push(violation.to_string());
    }
    assert!(!lines.is_empty());
    println!("{}", lines.join("\n"));
}

/// The tree is mixed before recovery, and nothing is after it; a sample is a part of the whole, and says so.
#[test]
fn an_exploration_counts_what_was_before_and_after() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let explore = |most_states, faults| {
        Exploration { profiles: vec![Profile::Posix], seed: 7, budget: Budget::default(), most_states, faults }
            .explore(&prepared, &|_| {})
    };
    let whole = explore(1_000_000, Faults::none());
    assert_eq!(whole.len(), 4);
    for case in &whole {
        assert!(case.tally.is_exhaustive(), "{:?}", case.tally);
        assert_eq!(case.tally.crash_points, case.moments.len() as u64);
        assert_eq!(case.count(|_, _| true), case.tally.judged);
        assert!(case.count(|before, _| before == Before::Mixed) > 0);
        assert_eq!(case.count(|before, _| before == Before::Damaged), 0);
        assert_eq!(case.violations(), 0);
        assert!(case.count(|_, after| after == After::New) > 0);
    }
    let sample = explore(400, Faults::none());
    for (sample, whole) in sample.iter().zip(&whole) {
        assert!(!sample.tally.is_exhaustive());
        assert_eq!(sample.tally.moments, whole.tally.moments);
        assert!(sample.tally.states < whole.tally.states / 2 && sample.tally.states <= 400, "{:?}", sample.tally);
    }
    let broken = explore(4000, Faults::none().ignore_sync(1));
    assert!(broken.iter().any(|case| case.violations() > 0 && case.violation.is_some()));
}

#[test]
fn the_same_seed_gives_the_same_states() {
    let explore = |seed| {
        Explorer::new(|disk| _ = disk.write_file("a", vec![1; 20_000]))
            .seed(seed)
            .run(|disk| {
                let file = disk.open(&Place::parse("a").unwrap(), Access::Write).unwrap();
                disk.write_at(&file, 100, &[2; 19_000]).is_ok()
            })
            .judge(|disk, _| {
                let text = disk.read_file("a").unwrap();
                if text.iter().filter(|byte| **byte == 2).count() % 1024 == 7 { Err("odd".into()) } else { Ok(()) }
            })
    };
    assert_eq!(explore(1).unwrap(), explore(1).unwrap());
    assert_ne!(explore(1).unwrap(), explore(2).unwrap());
}

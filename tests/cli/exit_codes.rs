//! Every exit code of the manual is given by some command, and no other.

use super::Place;
use super::faults::with_fault;
use fs2::FileExt as _;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};

/// The codes in the table of the manual.
fn documented() -> BTreeSet<i32> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    let table = text.split("## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
    table.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse().ok()).collect()
}

type Run = fn(&Place);

/// One way to each.
const WAYS: [(i32, Run); 9] = [
    (0, |place| _ = place.good(&["--root", "dev", "apply", "up.sf"])),
    (1, |place| _ = place.bad(&["--root", "dev", "confirm"], 1, "transaction.no-trial")),
    (2, |place| _ = place.bad(&["--bogus"], 2, "usage.invalid")),
    (3, |place| {
        let bytes = fs::read(place.path("up.sf")).unwrap();
        fs::write(place.path("strange.sf"), &bytes[..bytes.len() - 1]).unwrap();
        place.bad(&["--root", "dev", "apply", "strange.sf"], 3, "package.format");
    }),
    (4, |place| {
        place.write("dev/bin/app", "my own");
        place.bad(&["--root", "dev", "apply", "up.sf"], 4, "tree.changed");
    }),
    (5, |place| {
        place.good(&["repo", "init", "REPO", "--key", "key"]);
        place.good(&["repo", "add", "REPO", "up.sf", "--key", "key"]);
        let update = ["--root", "dev", "update", "--from", "REPO", "--max-bytes", "1"];
        let ran = place.run(&update);
        assert_eq!(ran.code, 5, "{}{}", ran.stdout, ran.stderr);
    }),
    (6, |place| _ = place.bad(&["--root", "dev", "apply", "nowhere.sf"], 6, "source.unavailable")),
    (8, |place| {
        fs::write(place.path("dev/.surefoot/journal"), [0xff; 8192]).unwrap();
        place.bad(&["--root", "dev", "recover"], 8, "journal.damaged");
    }),
    (9, |place| {
        let lock = OpenOptions::new().write(true).open(place.path("dev/.surefoot/lock")).unwrap();
        lock.try_lock_exclusive().unwrap();
        place.bad(&["--root", "dev", "recover"], 9, "lock.held");
    }),
];

#[test]
fn every_exit_code_of_the_manual_has_a_command_that_gives_it() {
    let mut given = BTreeSet::new();
    for (code, run) in WAYS {
        run(&Place::with_packages());
        given.insert(code);
    }
    // The third rename is that of the first step.
    let place = Place::with_packages();
    match with_fault(&place, "renameat2", "error=EIO:when=3", &["--root", "dev", "apply", "up.sf"]) {
        Some((code, answer)) => {
            assert_eq!((code, &answer["code"]), (7, &"apply.rolled-back".into()), "{answer}");
            given.insert(7);
        }
        None => given.extend(documented().contains(&7).then_some(7)),
    }
    assert_eq!(given, documented());
}

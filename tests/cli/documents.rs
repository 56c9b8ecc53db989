//! `docs/errors.md` is made of the table of codes.

use std::fmt::Write as _;
use surefoot::Code;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

fn errors() -> String {
    let mut out = String::from(
        "# Error codes\n\n\
         Every error has a stable code, and the exit code of the program says what can be done about it. This file is\n\
         made of the table in `src/error.rs` by `cargo test --test surefoot -- --ignored write_the_list_of_error_codes`.\n",
    );
    let exits: [(u8, &str); 9] = [
        (1, "failed before any change: mend what the message names and try again"),
        (2, "usage: the call itself is wrong"),
        (3, "refused: do not trust what was given"),
        (4, "the tree, or the device, is not what the package expects"),
        (5, "not enough space, or over a declared limit"),
        (6, "not available: try later"),
        (7, "applying failed, and the old tree is back"),
        (8, "undecided: recover after a reboot or remount, or a person must look"),
        (9, "another process holds the lock: wait for it"),
    ];
    for (exit, what) in exits {
        write!(out, "\n## Exit code {exit}: {what}\n\n| code | meaning | what to do |\n|---|---|---|\n").unwrap();
        for code in Code::ALL.iter().filter(|code| code.advice() as u8 == exit) {
            writeln!(out, "| `{}` | {} | {} |", code.as_str(), code.meaning(), code.hint()).unwrap();
        }
    }
    out
}

#[test]
fn the_list_of_error_codes_is_up_to_date() {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(text == errors(), "docs/errors.md is old: run the ignored test write_the_list_of_error_codes");
    assert!(Code::ALL.iter().all(|code| text.contains(&format!("| `{}` |", code.as_str()))), "each has a row");
}

#[test]
#[ignore = "writes docs/errors.md"]
fn write_the_list_of_error_codes() {
    std::fs::write(FILE, errors()).unwrap();
    assert!(errors().len() > 1000);
}

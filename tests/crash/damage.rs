//! A journal or plan that is cut short, rots or is overwritten: old, new, or a report that destroyed nothing.

use super::oracle::{Act, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{options, seed};
use rayon::prelude::*;
use surefoot::device::Engine;
use surefoot::model::TreePath;
use surefoot::vfs::sim::{Budget, Profile};
use surefoot::vfs::{Access, Place, SimVfs, Vfs};

fn at(path: &str) -> Place {
    Place::tree(&TreePath::parse(path).unwrap())
}

/// Disks as a power cut may leave them: everything that was done up to each call.
fn moments(prepared: &Prepared, act: Act) -> Vec<(u64, SimVfs, super::Promise)> {
    let whole = prepared.disk.fork();
    perform(act, prepared, &whole);
    (0..=whole.calls())
        .map(|crash_at| {
            let vfs = prepared.disk.fork();
            vfs.crash_at(crash_at);
            let promise = perform(act, prepared, &vfs).0;
            let (images, _) = vfs.crash_images(&Budget::sample(0, seed()));
            // The last of the two is the one with everything that was pending.
            (crash_at, images[images.len() - 1].mount(), promise)
        })
        .collect()
}

/// After damage: exactly old, exactly new, or a refusal that has changed nothing of the tree.
fn survives(prepared: &Prepared, disk: &SimVfs, context: &str) -> Option<&'static str> {
    let before = prepared.snapshot(disk);
    match recover(disk) {
        Ok(_) => {
            let tree = prepared.snapshot(disk);
            assert!(
                tree == prepared.old || tree == prepared.new,
                "{context}: mixed: {:?}",
                tree.difference(&prepared.new)
            );
            Some("recovered")
        }
        Err(message) => {
            assert!(prepared.snapshot(disk) == before, "{context}: refused ({message}), but the tree was changed");
            let known = ["journal.damaged", "tree.stuck", "input.format"];
            assert!(known.iter().any(|code| message.contains(code)), "{context}: {message}");
            Some("refused")
        }
    }
}

fn write(disk: &SimVfs, path: &str, offset: u64, bytes: &[u8]) {
    let file = disk.open(&at(path), Access::Write).unwrap();
    disk.write_at(&file, offset, bytes).unwrap();
    disk.sync_all().unwrap();
}

fn plan_of(disk: &SimVfs) -> Option<String> {
    disk.state_listing()
        .into_iter()
        .find(|path| path.ends_with("/plan"))
        .map(|path| if path.starts_with(".surefoot/") { path } else { format!(".surefoot/{path}") })
}

#[test]
fn the_journal_is_cut_at_every_byte_that_holds_something() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let cases: usize = moments(&prepared, Act::Reject)
        .into_par_iter()
        .map(|(crash_at, disk, _)| {
            let journal = disk.read_file(".surefoot/journal").unwrap();
            let mut cases = 0;
            for block in 0..journal.len() / 4096 {
                let used = journal[block * 4096..(block + 1) * 4096].iter().rposition(|byte| *byte != 0);
                let Some(used) = used else { continue };
                for cut in 0..=used {
                    // Zeros from here on: what a file system leaves of an append that was torn.
                    let fork = disk.fork();
                    write(&fork, ".surefoot/journal", (block * 4096 + cut) as u64, &vec![0; used + 1 - cut]);
                    survives(&prepared, &fork.reboot_clean(), &format!("call {crash_at}, block {block} cut at {cut}"));
                    cases += 1;
                }
            }
            cases
        })
        .sum();
    println!("journal cuts: {cases}, seed {}", seed());
    assert!(cases > 10_000);
}

#[test]
fn bits_of_journal_and_plan_flip() {
    let prepared = Prepared::new(&WORKLOADS[1], options(Profile::Posix));
    let counts: Vec<(usize, usize)> = moments(&prepared, Act::Confirm)
        .into_par_iter()
        .map(|(crash_at, disk, _)| {
            let (mut recovered, mut refused) = (0, 0);
            let mut files = vec![".surefoot/journal".to_string()];
            files.extend(plan_of(&disk));
            for path in files {
                let bytes = disk.read_file(&path).unwrap();
                for (offset, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                    let bit = (offset as u64 + crash_at) % 8;
                    let fork = disk.fork();
                    write(&fork, &path, offset as u64, &[byte ^ (1 << bit)]);
                    let context = format!("call {crash_at}, {path}, bit {bit} of byte {offset}");
                    match survives(&prepared, &fork.reboot_clean(), &context) {
                        Some("recovered") => recovered += 1,
                        _ => refused += 1,
                    }
                }
            }
            (recovered, refused)
        })
        .collect();
    let (recovered, refused) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("flipped bits: {recovered} recovered, {refused} refused, seed {}", seed());
    assert!(recovered > 1000 && refused > 100);
}

/// Another process writes into the tree while the power is off: recovery stops, and goes on when it is put back.
#[test]
fn foreign_content_stops_recovery_and_nothing_is_destroyed() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let mut stopped = 0;
    for (crash_at, disk, promise) in moments(&prepared, Act::Apply) {
        let state = Engine::open(disk.fork()).unwrap().status().unwrap().state;
        if state != "applying" {
            continue;
        }
        let original = disk.read_file("b").unwrap();
        write(&disk, "b", 0, b"mine!");
        let before = disk.snapshot();
        let message = recover(&disk).expect_err("foreign content");
        assert!(message.contains("tree.stuck"), "call {crash_at}: {message}");
        assert!(disk.snapshot() == before, "call {crash_at}: something was changed");
        write(&disk, "b", 0, &original);
        judge(&prepared, &disk, promise).unwrap_or_else(|message| panic!("call {crash_at}: {message}"));
        stopped += 1;
    }
    assert!(stopped > 2, "{stopped}");
}

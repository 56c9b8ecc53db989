//! Somebody else who writes into the tree at the worst moment: between a look and the rename that it was for.
//!
//! The engine reports its progress just then, so whoever listens can be that somebody.

use super::oracle::recover;
use super::workload::{Prepared, WORKLOADS};
use super::{options, seed};
use std::sync::atomic::{AtomicBool, Ordering};
use surefoot::Error;
use surefoot::device::{Engine, Observer, Phase, Progress, Settings, Transaction, Tree, peek};
use surefoot::error::Code;
use surefoot::transaction::Recovery;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Options, Profile};

/// Does something to the disk at the first report of a phase.
struct Stranger<'a> {
    disk: &'a SimVfs,
    phase: Phase,
    act: fn(&SimVfs),
    came: AtomicBool,
}

impl Observer for Stranger<'_> {
    fn report(&self, progress: Progress) {
        if progress.phase == self.phase && !self.came.swap(true, Ordering::Relaxed) {
            (self.act)(self.disk);
        }
    }
}

fn stranger(disk: &SimVfs, phase: Phase, act: fn(&SimVfs)) -> Stranger<'_> {
    Stranger { disk, phase, act, came: AtomicBool::new(false) }
}

/// Commits a change while a stranger acts.
fn commit(disk: &SimVfs, change: fn(Transaction<'_, SimVfs>) -> Transaction<'_, SimVfs>, act: fn(&SimVfs)) -> Error {
    let mut tree = Tree::with(disk.clone()).unwrap();
    let stranger = stranger(disk, Phase::Apply, act);
    let result = change(tree.begin().unwrap()).commit_observed(&stranger);
    assert!(stranger.came.into_inner());
    result.expect_err("the stranger was not seen")
}

/// What a rename takes out is looked at, and put back where it is not what was meant.
#[test]
fn what_comes_out_of_the_tree_is_what_was_looked_at_or_goes_back() {
    type Change = for<'a> fn(Transaction<'a, SimVfs>) -> Transaction<'a, SimVfs>;
    let other_file: fn(&SimVfs) = |disk| _ = disk.remove_all("a").write_file("a", "mine");
    let filled: fn(&SimVfs) = |disk| _ = disk.write_file("d/x", "mine");
    let cases: [(&str, Change, fn(&SimVfs), &str); 4] = [
        ("a file is replaced", |change| change.put("a", &b"new"[..]), other_file, "a"),
        ("a file is removed", |change| change.remove("a"), other_file, "a"),
        ("a directory is removed", |change| change.remove("d"), filled, "d/x"),
        ("a directory becomes a file", |change| change.remove("d").put("d", &b"new"[..]), filled, "d/x"),
    ];
    for exchange in [true, false] {
        for (what, change, act, theirs) in cases {
            if !exchange && what == "a file is replaced" {
                // There what is replaced goes in one step, and cannot be looked at: see docs/crash-safety.md.
                continue;
            }
            let disk = SimVfs::with(Options { exchange, ..options(Profile::Posix) });
            disk.write_file("a", "old").make_dir("d").write_file("z", "z");
            let wanted = disk.fork();
            act(&wanted);
            let error = commit(&disk, change, act);
            let context = format!("{what}, exchange {exchange}: {error:?}");
            assert_eq!(disk.read_file(theirs).unwrap(), b"mine", "{context}");
            assert!(disk.snapshot() == wanted.snapshot(), "{context}");
            assert_eq!(recover(&disk).unwrap().state, "idle", "{context}");
            assert!(disk.reboot_clean().snapshot() == wanted.snapshot(), "{context}");
        }
    }
}

/// A directory that came with the update is filled while it is taken back: what is in it stays.
#[test]
fn a_directory_that_is_filled_while_it_is_taken_back_stays() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).make_dir("d").commit().unwrap();
    let stranger = stranger(&disk, Phase::Revert, |disk| _ = disk.write_file("d/x", "mine"));
    let error = tree.engine().rollback(&stranger).unwrap_err();
    assert!(stranger.came.load(Ordering::Relaxed));
    assert_eq!(error.code(), Code::Stuck, "{error:?}");
    assert_eq!(disk.read_file("d/x").unwrap(), b"mine");
    // Once it is empty again it goes.
    disk.remove_all("d/x");
    drop(tree);
    let mut engine = Engine::open(disk.clone()).unwrap();
    engine.recover(&()).unwrap();
    assert!(!disk.exists("d") && disk.exists("a"));
}

/// Recovery that is to go back asks first whether it can: once the direction has turned there is no other.
#[test]
fn recovery_that_is_to_go_back_does_not_begin_where_it_cannot_end() {
    let workload = WORKLOADS.iter().find(|workload| workload.name.starts_with("nested new directories")).unwrap();
    let prepared = Prepared::new(workload, options(Profile::Posix));
    let settings = || Settings { recovery: Recovery::Backward, ..Settings::default() };
    let apply = |disk: &SimVfs| prepared.apply(&mut Engine::open(disk.clone()).unwrap(), settings());
    let whole = prepared.disk.fork();
    apply(&whole).unwrap();
    type Act = fn(&SimVfs);
    let cases: [(&str, Act, Act); 2] = [
        ("tree.stray", |disk| _ = disk.write_file("n/mine", "mine"), |disk| _ = disk.remove_all("n/mine")),
        ("unsupported.immutable", |disk| _ = disk.set_immutable("n", true), |disk| _ = disk.set_immutable("n", false)),
    ];
    let mut stopped = 0;
    for crash_at in 0..whole.calls() {
        let cut = prepared.disk.fork();
        cut.crash_at(crash_at);
        if apply(&cut).is_ok() {
            continue;
        }
        let (images, _) = cut.crash_images(&Budget::sample(0, seed()));
        let disk = images[images.len() - 1].mount();
        if peek(&disk).unwrap().0.state != "applying" || !disk.exists("n") {
            continue;
        }
        for (code, act, undo) in cases {
            let disk = disk.fork();
            act(&disk);
            let before = disk.snapshot();
            let message = recover(&disk).expect_err(code);
            assert!(message.contains(code), "call {crash_at}: {message}");
            assert!(disk.snapshot() == before, "call {crash_at}: {code}, but something was changed");
            assert_eq!(
                peek(&disk).unwrap().0.state,
                "applying",
                "call {crash_at}: {code}, but the direction has turned"
            );
            undo(&disk);
            recover(&disk).unwrap();
            assert!(prepared.snapshot(&disk) == prepared.old, "call {crash_at}");
            stopped += 1;
        }
    }
    assert!(stopped > 4, "{stopped}");
}

//! What a disk does not keep, or does not let go, is refused while the old version stands.

use super::oracle::recover;
use super::workload::{Prepared, WORKLOADS, Workload};
use super::{PROFILES, options};
use surefoot::device::{Engine, Settings, Tree};
use surefoot::error::Code;
use surefoot::model::{Policy, TreePath};
use surefoot::vfs::sim::{Options, Profile};
use surefoot::vfs::{Place, SimVfs, Vfs};

const TIMED: Workload = Workload {
    name: "new times",
    old: |d| _ = d.write_file("a", "a").write_file("b", "old b").make_dir("d"),
    new: |d| _ = d.write_file("a", "a").write_file("b", "new b").write_file("d/c", "c"),
    policy: Policy { owner: false, mtime: true },
};

/// Only the mode or the time of what stays changes.
const IN_PLACE: [Workload; 2] = [
    Workload {
        name: "another mode",
        old: |d| _ = d.write_file("a", "a").make_dir("d").chmod("a", 0o644),
        new: |d| _ = d.write_file("a", "a").make_dir("d").chmod("a", 0o755),
        policy: Policy { owner: false, mtime: false },
    },
    Workload {
        name: "another time",
        old: |d| _ = d.write_file("a", "a"),
        new: |d| _ = d.write_file("z", "later").remove_all("z").write_file("a", "a"),
        policy: Policy { owner: false, mtime: true },
    },
];

fn refused_as(disk: &SimVfs, prepared: &Prepared, code: Code) {
    let before = disk.snapshot_with_times();
    let error = prepared.apply(&mut Engine::open(disk.clone()).unwrap(), Settings::default()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(disk.snapshot_with_times() == before, "the tree has changed");
    recover(disk).unwrap();
    assert!(disk.snapshot_with_times() == before, "the tree has changed in recovery");
}

/// On ext4 with inodes of 128 bytes times are whole seconds. A package with finer ones was applied and confirmed, then
/// was not what had been promised, and could never be taken back; a crash in the middle left a tree that nothing could
/// bring to an end. And some network file systems take modes and forget them.
#[test]
fn what_the_disk_does_not_keep_is_refused_before_the_first_step() {
    for profile in PROFILES {
        for workload in [&TIMED, &IN_PLACE[1]] {
            let prepared = Prepared::new(workload, options(profile));
            let disk = prepared.disk.fork();
            disk.set_options(|options| options.time_step_seconds = 2);
            refused_as(&disk, &prepared, Code::Metadata);
        }
        for workload in [&WORKLOADS[0], &IN_PLACE[0]] {
            let prepared = Prepared::new(workload, options(profile));
            let disk = prepared.disk.fork();
            disk.set_options(|options| options.forgets_modes = true);
            refused_as(&disk, &prepared, Code::Metadata);
            disk.set_options(|options| options.forgets_modes = false);
            prepared.apply(&mut Engine::open(disk.clone()).unwrap(), Settings::default()).unwrap();
            assert!(prepared.new.difference(&disk.snapshot()).is_none());
        }
    }
}

/// During a trial somebody marked a file immutable. A rollback wrote down that it goes back, took some steps, and was
/// refused: the tree was mixed, and no reboot helped.
#[test]
fn a_trial_is_not_taken_back_over_what_is_marked_immutable() {
    for path in ["b", ""] {
        let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
        let mut disk = prepared.disk.fork();
        let settings = Settings { trial: true, attempts: 1, ..Settings::default() };
        prepared.apply(&mut Engine::open(disk.clone()).unwrap(), settings).unwrap();
        disk.set_immutable(path, true);
        let new = disk.snapshot();
        let error = Engine::open(disk.clone()).unwrap().rollback(&()).unwrap_err();
        assert_eq!(error.code(), Code::Immutable, "{error}");
        assert!(disk.snapshot() == new, "half of it was taken back");
        // Used up, it waits for somebody who takes the mark away.
        disk = disk.reboot_clean();
        recover(&disk).unwrap();
        disk = disk.reboot_clean();
        let told = Engine::open(disk.clone()).unwrap().recover(&()).unwrap_err();
        assert_eq!(told.code(), Code::Immutable, "{told}");
        assert!(Engine::open(disk.clone()).unwrap().recover(&()).unwrap().trial);
        assert!(disk.snapshot() == new);
        disk.set_immutable(path, false);
        Engine::open(disk.clone()).unwrap().rollback(&()).unwrap();
        assert!(prepared.old.difference(&disk.snapshot()).is_none());
    }
}

/// Where a kept object had the number of a new one, by chance on a disk to which all was copied, the trial counted as
/// half taken back, and was taken back or got stuck.
#[test]
fn a_number_alone_does_not_say_that_a_trial_was_being_taken_back() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let disk = prepared.disk.fork();
    let settings = Settings { trial: true, attempts: 5, ..Settings::default() };
    prepared.apply(&mut Engine::open(disk.clone()).unwrap(), settings).unwrap();
    let slots = disk.state_listing();
    let old = slots.iter().find(|path| disk.read_file(&format!(".surefoot/{path}")).as_deref() == Some(b"old b"));
    let slot = format!(".surefoot/{}", old.unwrap());
    disk.remove_all(&slot).make_link("b", &slot);
    let mut engine = Engine::open(disk.clone()).unwrap();
    let recovered = engine.recover(&()).unwrap();
    assert!(recovered.trial && recovered.cause.is_none(), "{recovered:?}");
    assert!(prepared.new.difference(&disk.snapshot()).is_none());
}

/// A web server reads its configuration through its group. An update by a user of that group gave the new file to the
/// group of the user, and the server was locked out.
#[test]
fn a_file_that_a_user_replaces_keeps_its_group_if_it_is_one_of_his() {
    let disk = SimVfs::with(Options { user: 1000, second_group: Some(33), ..options(Profile::Posix) });
    disk.write_file("web", "old").chown("web", 1000, 33).chmod("web", 0o640);
    disk.write_file("other", "old").chown("other", 1000, 44).chmod("other", 0o640);
    disk.make_dir("shared").chown("shared", 1000, 33).chmod("shared", 0o2750);
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin()
        .unwrap()
        .put("web", &b"new"[..])
        .put("other", &b"new"[..])
        .put("shared/new", &b"new"[..])
        .put("new", &b"new"[..])
        .commit()
        .unwrap();
    let group = |path: &str| disk.stat(&at(path)).unwrap().unwrap().gid;
    assert_eq!(["web", "other", "shared/new", "new"].map(group), [33, 1000, 33, 1000]);
}

fn at(path: &str) -> Place {
    Place::tree(&TreePath::parse(path).unwrap())
}

//! Faults that were found, each with its story.

use super::oracle::{Act, Promise, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{PROFILES, options, seed};
use std::collections::BTreeSet;
use surefoot::codec::frame::Header;
use surefoot::crashtest::Explorer;
use surefoot::device::{Config, Engine, Settings, Transaction, Tree, peek};
use surefoot::error::Code;
use surefoot::model::TreePath;
use surefoot::tree::{Walk, scan_indexed};
use surefoot::vfs::sim::{Budget, Errno, Faults, Options, Profile, Repeat, When};
use surefoot::vfs::{Access, Place, SimVfs, Vfs};

fn at(path: &str) -> Place {
    Place::tree(&TreePath::parse(path).unwrap())
}

/// Removes the stored object with this content.
fn lose_slot(disk: &SimVfs, content: &[u8]) {
    let slots = disk.state_listing();
    let slot = slots.iter().find(|path| disk.read_file(&format!(".surefoot/{path}")).as_deref() == Some(content));
    disk.remove_all(&format!(".surefoot/{}", slot.expect("the stored object")));
}

/// A disk in trial whose next boot is the one after the last that may find it unconfirmed.
fn used_up() -> (Prepared, SimVfs) {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let mut disk = prepared.disk.fork();
    let settings = Settings { trial: true, attempts: 2, ..Settings::default() };
    prepared.apply(&mut Engine::open(disk.clone()).unwrap(), settings).unwrap();
    for attempt in 1..=2 {
        disk = disk.reboot_clean();
        assert_eq!(recover(&disk).unwrap().attempt, Some(attempt));
    }
    let disk = disk.reboot_clean();
    (prepared, disk)
}

/// A trial that was used up, and whose paths somebody had changed, failed every boot for ever: nothing that requires
/// recovery ever started again, although the tree was whole.
#[test]
fn a_used_up_trial_that_was_changed_is_told_once_and_then_waits() {
    let (prepared, disk) = used_up();
    let new = disk.read_file("b").unwrap();
    disk.write_file("b", "edited by somebody");
    let edited = disk.snapshot();
    let error = Engine::open(disk.clone()).unwrap().recover(&()).unwrap_err();
    assert_eq!(error.code(), Code::Changed);
    assert_eq!(error.findings().0[0].path.to_string(), "b");
    for boot in 0..3 {
        for again in 0..2 {
            let disk = if again == 0 && boot > 0 { disk.reboot_clean() } else { disk.fork() };
            let mutations = disk.mutations();
            let mut engine = Engine::open(disk.clone()).unwrap();
            let recovered = engine.recover(&()).unwrap();
            assert!(recovered.trial && recovered.cause.unwrap().starts_with("tree.changed"));
            assert_eq!(disk.mutations(), mutations, "quiet");
            assert!(disk.snapshot() == edited, "nothing is destroyed");
        }
    }
    // The ways out: keep it, or put back what was changed and let it go.
    let kept = disk.fork();
    Engine::open(kept.clone()).unwrap().confirm(&()).unwrap();
    assert_eq!((recover(&kept).unwrap().version.as_str(), kept.snapshot() == edited), ("2.0.0", true));
    let error = Engine::open(disk.fork()).unwrap().rollback(&()).unwrap_err();
    assert_eq!(error.code(), Code::Changed);
    disk.write_file("b", new);
    for reject in [true, false] {
        let disk = disk.reboot_clean();
        let mut engine = Engine::open(disk.clone()).unwrap();
        if reject {
            engine.rollback(&()).unwrap();
        } else {
            engine.recover(&()).unwrap();
        }
        drop(engine);
        judge(&prepared, &disk, Promise::Old).unwrap();
    }
}

/// The same, cut at every call: it is told at least once, and the tree is never touched.
#[test]
fn telling_of_a_used_up_trial_is_cut_at_every_call() {
    let (_, disk) = used_up();
    disk.write_file("b", "edited by somebody");
    let edited = disk.snapshot();
    let tell = |vfs: &SimVfs| Engine::open(vfs.clone()).and_then(|mut engine| engine.recover(&()).map(drop)).is_err();
    let judge = |vfs: &SimVfs, told: &bool| {
        let first = Engine::open(vfs.clone()).and_then(|mut engine| engine.recover(&()).map(|found| found.trial));
        let quiet = Engine::open(vfs.clone()).and_then(|mut engine| engine.recover(&()).map(|found| found.trial));
        match (first, quiet) {
            _ if vfs.snapshot() != edited => Err("the tree was touched".into()),
            (Err(error), Ok(true)) if error.code() == Code::Changed => Ok(()),
            (Ok(true), Ok(true)) if *told => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    let tally = Explorer::on(disk).run(tell).judge(judge).unwrap();
    assert!(tally.crash_points > 2, "{tally:?}");
}

/// A process that was killed between counting a boot and the barrier left a record in the cache that the next process
/// of the same boot believed. After a power cut the boot had not been counted.
#[test]
fn a_boot_is_counted_although_the_one_who_counted_was_killed() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let settings = Settings { trial: true, attempts: 2, ..Settings::default() };
    prepared.apply(&mut Engine::open(prepared.disk.clone()).unwrap(), settings).unwrap();
    let disk = prepared.disk.reboot_clean();
    let whole = disk.fork();
    recover(&whole).unwrap();
    for kill_at in 0..=whole.calls() {
        let vfs = disk.fork();
        vfs.crash_at(kill_at);
        let _ = recover(&vfs);
        let vfs = vfs.killed();
        assert_eq!(recover(&vfs).unwrap().attempt, Some(1), "killed at {kill_at}");
        vfs.for_each_crash_image(&Budget::default(), &mut |image| {
            let status = recover(&image.mount()).unwrap();
            assert_eq!(status.attempt, Some(2), "killed at {kill_at}, {}", image.choice());
        });
    }
}

/// An update that changed nothing of the tree displaced what could take back the one before it.
#[test]
fn an_update_that_changes_nothing_keeps_the_undo_data() {
    for exchange in [true, false] {
        let find = |name: &str| WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
        let empty = Prepared::new(find("empty patch"), options(Profile::Posix));
        let disk = empty.disk.fork();
        disk.set_options(|options| options.exchange = exchange);
        let before = disk.snapshot();
        let mut tree = Tree::with(disk.clone()).unwrap();
        tree.begin().unwrap().put("b", &b"b"[..]).commit().unwrap();
        tree.begin().unwrap().put("b", &b"c"[..]).commit().unwrap();
        tree.rollback().unwrap();
        assert_eq!(tree.rollback().unwrap_err().code(), Code::NoUndo, "one is kept");
        tree.begin().unwrap().put("b", &b"c"[..]).commit().unwrap();
        let undone = disk.snapshot();
        // Not even the version changes: nothing has happened.
        let history = tree.engine().history().unwrap().len();
        let report = tree.begin().unwrap().put("b", &b"c"[..]).commit().unwrap();
        assert_eq!((report.transaction.as_str(), report.steps), ("", 0));
        assert_eq!(tree.engine().history().unwrap().len(), history);
        assert_eq!(disk.state_listing().iter().filter(|path| path.ends_with("/plan")).count(), 1);
        let changed = disk.snapshot();
        let mut versions = vec![tree.engine().current().unwrap().version];
        for version in ["1.1.0", "1.2.0", "1.3.0"] {
            let mut request = surefoot::device::Request::new(Vec::new(), "nothing but a version");
            request.version = Some(version.into());
            tree.engine().commit(request, &mut surefoot::device::NoPayload, &()).unwrap();
            versions.push(version.into());
        }
        for pair in versions.windows(2).rev() {
            let report = tree.rollback().unwrap();
            assert_eq!(
                (&report.from, &report.to, report.steps),
                (&pair[1], &pair[0], 0),
                "what is said is what is done"
            );
            assert!(disk.snapshot() == changed);
        }
        let report = tree.rollback().unwrap();
        assert!(report.steps > 0 && disk.snapshot() != undone && disk.snapshot() != before);
        assert_eq!(disk.read_file("b").unwrap(), b"b");
    }
}

/// The syncs of `init` left no mark when they failed: the next call tried again, and believed what it read.
#[test]
fn a_failed_sync_of_init_is_not_tried_again() {
    for profile in PROFILES {
        let disk = SimVfs::with(options(profile));
        disk.write_file("a", "a");
        let whole = disk.fork();
        drop(Tree::with(whole.clone()).unwrap());
        for number in 0..whole.syncs() {
            let context = format!("{profile:?}, sync {number}");
            let vfs = disk.fork();
            vfs.set_faults(Faults::none().fail_sync(number));
            let error = Tree::with(vfs.clone()).map(drop).expect_err(&context);
            assert_eq!(error.code(), Code::SyncFailed, "{context}: {error:?}");
            let syncs = vfs.syncs();
            let error = Tree::with(vfs.clone()).map(drop).expect_err(&context);
            assert_eq!((error.code(), vfs.syncs()), (Code::SyncFailed, syncs), "{context}: {error:?}");
            vfs.for_each_crash_image(&Budget::sample(4, seed()), &mut |image| {
                let after = image.mount();
                let mut tree = Tree::with(after).unwrap_or_else(|error| panic!("{context}: {error:?}"));
                tree.begin().unwrap().put("b", &b"b"[..]).commit().unwrap();
            });
        }
    }
}

/// The configuration and the index were written, and synced, although a sync had failed before; and a failure of their
/// own stopped nobody.
#[test]
fn configuration_and_index_respect_a_failed_sync() {
    type Call = fn(&mut Engine<SimVfs>) -> Result<(), surefoot::Error>;
    let calls: [Call; 2] = [
        |engine| engine.set_config(Config { keep: 3, ..engine.config().clone() }),
        |engine| {
            let walk = Walk { policy: engine.config().policy(), state_inside: true };
            let (_, index) = scan_indexed(engine.vfs(), &walk, None, &|_, _| ()).unwrap();
            engine.write_index(&index)
        },
    ];
    for call in calls {
        let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
        let whole = prepared.disk.fork();
        call(&mut Engine::open(whole.clone()).unwrap()).unwrap();
        assert!(whole.syncs() > 0);
        for number in 0..whole.syncs() {
            let vfs = prepared.disk.fork();
            vfs.set_faults(Faults::none().fail_sync(number));
            let mut engine = Engine::open(vfs.clone()).unwrap();
            assert_eq!(call(&mut engine).unwrap_err().code(), Code::SyncFailed, "sync {number}");
            let syncs = vfs.syncs();
            let stopped = |result: Result<(), surefoot::Error>| {
                let code = result.unwrap_err().code();
                assert!(matches!(code, Code::SyncFailed | Code::Undecided), "sync {number}: {code:?}");
            };
            for again in calls {
                stopped(again(&mut engine));
            }
            drop(engine);
            let mut next = Engine::open(vfs.clone()).unwrap();
            for again in calls {
                stopped(again(&mut next));
            }
            stopped(prepared.apply(&mut next, Settings::default()));
            assert_eq!(vfs.syncs(), syncs, "synced again and hoped");
            drop(next);
            recover(&vfs.reboot_clean()).unwrap();
        }
    }
}

/// What a sweep set aside of a slot took the name of what it set aside of the second names: nothing was swept again.
#[test]
fn what_is_set_aside_has_names_that_do_not_collide() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let folder = format!(".surefoot/generations/{}", "ab".repeat(16));
    let disk = prepared.disk.fork();
    disk.write_file(&format!("{folder}/slots/000001/mine"), "1");
    disk.write_file(&format!("{folder}/aside/000001/mine"), "2");
    recover(&disk).unwrap();
    assert!(!disk.exists(&folder), "{:?}", disk.state_listing());
    let read = |name: &str| disk.read_file(&format!(".surefoot/set-aside/{}-{name}-000001/mine", "ab".repeat(16)));
    assert_eq!((read("slots").unwrap(), read("aside").unwrap()), (b"1".to_vec(), b"2".to_vec()));
}

/// A history that cannot be written kept the sweep from freeing anything, and a full disk stayed full.
#[test]
fn a_history_that_cannot_be_written_does_not_keep_the_sweep_from_freeing_space() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let disk = prepared.disk.fork();
    disk.remove_all(".surefoot/history").make_dir(".surefoot/history");
    for act in [Act::Undo, Act::Apply] {
        let (_, error) = perform(act, &prepared, &disk);
        assert!(error.is_none(), "{error:?}");
        let count = |tail: &str| disk.state_listing().iter().filter(|path| path.ends_with(tail)).count();
        assert_eq!(count("/plan"), usize::from(act == Act::Apply), "{:?}", disk.state_listing());
        assert_eq!(disk.stat(&at(".surefoot/history")).unwrap().unwrap().kind, surefoot::vfs::FileType::Directory);
        assert_eq!(recover(&disk).unwrap().state, "idle");
    }
}

/// What its owner may not read or look into could not be told from anything else after a crash: refused before.
#[test]
fn a_user_gets_nothing_that_he_could_not_look_at_again() {
    let disk = SimVfs::with(Options { user: 1000, ..options(Profile::Posix) });
    disk.write_file("a", "a").write_file("d/x", "x").chmod("d", 0o555);
    let mut tree = Tree::with(disk.clone()).unwrap();
    let before = disk.snapshot();
    let refused = |result: Result<surefoot::device::Report, surefoot::Error>| {
        assert_eq!(result.unwrap_err().code(), Code::Metadata);
        assert!(disk.snapshot() == before);
    };
    refused(tree.begin().unwrap().make_dir("n").set_mode("n", 0).commit());
    refused(tree.begin().unwrap().make_dir("n").set_mode("n", 0o311).commit());
    refused(tree.begin().unwrap().set_mode("a", 0o200).commit());
    refused(tree.begin().unwrap().set_mode("d", 0o600).commit());
    tree.begin()
        .unwrap()
        .put("d/y", &b"y"[..])
        .make_dir("n/m")
        .set_mode("n", 0o500)
        .set_mode("n/m", 0o511)
        .commit()
        .unwrap();
    assert!(disk.exists("d/y") && disk.exists("n/m"));
    let mode = |path: &str| disk.stat(&at(path)).unwrap().unwrap().mode;
    assert_eq!((mode("d"), mode("n"), mode("n/m")), (0o555, 0o500, 0o511));
    tree.rollback().unwrap();
    assert!(disk.snapshot() == before);
}

/// A user had a trial that made a file of mode 0444 writable and changed an attribute of it. On the way back the mode
/// came first, and then the kernel refused the attribute: each recovery stopped there, for ever. And no file of mode
/// 0444 that has one could be staged.
#[test]
fn a_user_can_take_back_attributes_of_a_file_that_he_may_not_write_to() {
    for (old, new) in [(0o444, 0o644), (0o644, 0o444), (0o444, 0o444), (0o644, 0o600)] {
        for boots in [0, 2] {
            let disk = SimVfs::with(Options { user: 1000, ..options(Profile::Posix) });
            disk.write_file("f", "f").attribute("f", "user.x", "a").chmod("f", old);
            disk.make_dir("d").attribute("d", "user.x", "a").chmod("d", old | 0o111);
            let before = disk.snapshot();
            let mut tree = Tree::with(disk.clone()).unwrap();
            let mut change = tree.begin().unwrap().trial(1);
            for (path, mode) in [("f", new), ("d", new | 0o111)] {
                change = change.set_mode(path, mode).set_xattr(path, b"user.x", Some(b"b"));
            }
            change.put("n", &b"n"[..]).set_xattr("n", b"user.x", Some(b"n")).set_mode("n", 0o400).commit().unwrap();
            let stat = |path: &str| disk.stat(&at(path)).unwrap().unwrap().mode;
            assert_eq!((stat("f"), stat("d"), stat("n")), (new, new | 0o111, 0o400));
            assert_eq!(*disk.xattrs(&at("f")).unwrap()[0].1, *b"b");
            drop(tree);
            let mut disk = disk;
            for _ in 0..boots {
                disk = disk.reboot_clean();
                recover(&disk).unwrap_or_else(|error| panic!("{old:o} to {new:o}: {error}"));
            }
            if boots == 0 {
                Tree::with(disk.clone()).unwrap().rollback().unwrap();
            }
            assert!(disk.snapshot() == before, "{old:o} to {new:o}");
        }
    }
}

/// A trial had removed `gone`. Its old object was lost from the slot, and somebody made another file of that name. The
/// check before going back let that pass, since nothing stood in the way of a step that moves; the direction turned, `kept`
/// went back to its old content, and only then was there no old object for `gone`: a whole new tree became a mixture.
#[test]
fn going_back_does_not_begin_where_it_cannot_end() {
    let disk = SimVfs::new();
    disk.write_file("gone", b"gone").write_file("kept", b"kept");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).remove("gone").put("kept", &b"new"[..]).commit().unwrap();
    lose_slot(&disk, b"gone");
    disk.write_file("gone", b"mine");
    let refused = tree.rollback().unwrap_err();
    assert_eq!(refused.code(), Code::Changed, "{refused:?}");
    assert_eq!(disk.read_file("kept").unwrap(), b"new");
    assert_eq!(disk.read_file("gone").unwrap(), b"mine");
}

/// A trial had removed a file, and somebody then removed the directory that it had been in. That there was nowhere to
/// put it back was seen when all else had gone back: a whole new tree became a mixture that no boot could end. Without
/// exchange the same happened to what had been replaced, and to recovery of an update half-way.
#[test]
fn going_back_does_not_begin_where_a_directory_is_gone() {
    for exchange in [true, false] {
        let disk = SimVfs::with(Options { exchange, ..options(Profile::Posix) });
        disk.write_file("d/gone", b"gone").write_file("kept", b"kept");
        let mut tree = Tree::with(disk.clone()).unwrap();
        tree.begin().unwrap().trial(3).remove("d/gone").put("kept", &b"new"[..]).commit().unwrap();
        disk.remove_all("d");
        let before = disk.snapshot();
        let refused = tree.rollback().unwrap_err();
        assert_eq!(refused.code(), Code::Changed, "{refused:?}");
        assert!(disk.snapshot() == before);
        disk.make_dir("d");
        tree.rollback().unwrap();
        assert_eq!(
            (disk.read_file("d/gone").unwrap(), disk.read_file("kept").unwrap()),
            (b"gone".to_vec(), b"kept".to_vec())
        );
    }
}

/// The plan of a transaction had rotted, and it was not seen that it had been followed where the new manifest was
/// written whole and not as changes: a tree that was half new was reported as old.
#[test]
fn a_plan_that_is_gone_is_missed_where_most_of_the_tree_changes() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    let apply = |disk: &SimVfs| prepared.apply(&mut Engine::open(disk.clone()).unwrap(), Settings::default());
    let whole = prepared.disk.fork();
    apply(&whole).unwrap();
    let mut refused = 0;
    for crash_at in 0..whole.calls() {
        let cut = prepared.disk.fork();
        cut.crash_at(crash_at);
        let _ = apply(&cut);
        let (images, _) = cut.crash_images(&Budget { seed: seed(), ..Budget::default() });
        for disk in images.iter().map(surefoot::vfs::sim::Image::mount) {
            let (status, records) = surefoot::device::peek(&disk).unwrap();
            if status.state != "applying" || records.len() != 2 || prepared.snapshot(&disk) == prepared.old {
                continue;
            }
            let before = disk.snapshot();
            let plan = disk.state_listing().into_iter().find(|path| path.ends_with("/plan")).unwrap();
            disk.remove_all(&format!(".surefoot/{plan}"));
            assert!(recover(&disk).unwrap_err().contains("journal.damaged"), "call {crash_at}");
            assert!(disk.snapshot() == before, "call {crash_at}");
            refused += 1;
        }
    }
    assert!(refused > 0, "nothing was tried");
}

/// A directory of mode 02555, of a group that the user is not in, was opened for a step. The kernel takes the set-group-id
/// bit away when such a user sets a mode, so it was neither old nor new afterwards: stuck.
#[test]
fn a_set_group_id_bit_that_would_be_lost_is_refused() {
    type Change = for<'a> fn(Transaction<'a, SimVfs>) -> Transaction<'a, SimVfs>;
    let changes: [(u32, Change); 5] = [
        (0o2555, |change| change.put("d/x", &b"y"[..])),
        (0o2555, |change| change.remove("d")),
        (0o2755, |change| change.set_mode("d", 0o2700)),
        (0o2755, |change| change.set_mode("d", 0o755)),
        (0o755, |change| change.set_mode("f", 0o2700)),
    ];
    for (number, (mode, change)) in changes.into_iter().enumerate() {
        for member in [false, true] {
            let disk = SimVfs::with(Options { user: 1000, ..options(Profile::Posix) });
            let group = if member { 1000 } else { 50 };
            disk.write_file("d/x", "x").chown("d", 1000, group).chmod("d", mode);
            disk.write_file("f", "f").chown("f", 1000, group);
            let before = disk.snapshot();
            let mut tree = Tree::with(disk.clone()).unwrap();
            let result = change(tree.begin().unwrap().trial(3)).commit();
            if member {
                result.unwrap_or_else(|error| panic!("{number}: {error:?}"));
                tree.rollback().unwrap();
            } else {
                assert_eq!(result.expect_err("it went through").code(), Code::Metadata, "{number}");
            }
            assert!(disk.snapshot() == before, "{number}");
        }
    }
}

/// A user may give what is his to a group of his, but not back to one that he is not in.
#[test]
fn a_group_that_cannot_be_given_back_is_refused() {
    let disk = SimVfs::with(Options { user: 1000, ..options(Profile::Posix) });
    disk.write_file("f", "f").chown("f", 1000, 50).make_dir("d").chown("d", 1000, 50);
    let config = Config { owner: true, ..Config::default() };
    drop(Engine::init(disk.clone(), config, "", None).unwrap());
    let mut tree = Tree::with(disk.clone()).unwrap();
    let before = disk.snapshot();
    for path in ["f", "d"] {
        let refused = tree.begin().unwrap().trial(3).set_owner(path, 1000, 1000).commit().unwrap_err();
        assert_eq!((refused.code(), disk.snapshot() == before), (Code::Metadata, true), "{path}: {refused:?}");
    }
}

/// The old object of a path that a trial had removed was gone from its slot, and somebody had made something else of that
/// name. That a name was there was taken for a step back, so every boot stopped at a tree that was whole.
#[test]
fn a_name_is_no_evidence_of_a_step_back() {
    let disk = SimVfs::new();
    disk.write_file("gone", b"gone").write_file("kept", b"kept");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(2).remove("gone").put("kept", &b"new"[..]).commit().unwrap();
    drop(tree);
    lose_slot(&disk, b"gone");
    let lost = disk.fork();
    disk.write_file("gone", b"mine");
    for attempt in 1..=2 {
        let disk = disk.reboot_clean();
        disk.write_file("kept", b"new");
        let status = recover(&disk).unwrap();
        assert_eq!((status.state, status.attempt), ("trial", Some(1)), "{attempt}");
    }
    Engine::open(disk.clone()).unwrap().recover(&()).unwrap();
    Engine::open(disk.clone()).unwrap().confirm(&()).unwrap();
    assert_eq!((disk.read_file("gone").unwrap(), disk.read_file("kept").unwrap()), (b"mine".to_vec(), b"new".to_vec()));
    // What was there before is evidence: a step was taken back, and the record of it is gone.
    lost.write_file("gone", b"gone");
    let lost = lost.reboot_clean();
    assert_eq!(recover(&lost).unwrap().state, "idle");
    assert_eq!(
        (lost.read_file("gone").unwrap(), lost.read_file("kept").unwrap()),
        (b"gone".to_vec(), b"kept".to_vec())
    );
}

/// A header that was known by its frames only named the generation of the epoch before, and so it was written. Whoever
/// read the header without its frames, as after a torn one, was a version behind.
#[test]
fn a_header_that_is_mended_names_the_generation_of_its_own_epoch() {
    let disk = SimVfs::new();
    disk.write_file("a", b"1");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().put("a", &b"2"[..]).commit().unwrap();
    let first = tree.engine().current().unwrap().id;
    tree.begin().unwrap().trial(3).put("a", &b"3"[..]).commit().unwrap();
    drop(tree);
    let header = |disk: &SimVfs| {
        let journal = disk.read_file(".surefoot/journal").unwrap();
        let slots = [&journal[..4096], &journal[4096..8192]];
        slots.into_iter().filter_map(Header::decode).max_by_key(|header| header.epoch).unwrap()
    };
    let whole = header(&disk);
    assert_eq!(whole.current, first);
    let file = disk.open(&at(".surefoot/journal"), Access::Write).unwrap();
    disk.write_at(&file, whole.offset(), &[0; 4096]).unwrap();
    drop(file);
    let disk = disk.reboot_clean();
    assert_ne!(header(&disk), whole);
    assert_eq!(recover(&disk).unwrap().attempt, Some(1));
    assert_eq!(header(&disk), whole, "the boot that was counted has mended it");
}

/// The mark of a failed sync could not be written either, and the same process recovered as if nothing had happened.
#[test]
fn a_failed_sync_is_remembered_where_it_cannot_be_noted() {
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
    prepared.disk.set_options(|options| options.trace = true);
    let apply = |engine: &mut Engine<SimVfs>| prepared.apply(engine, Settings { trial: true, ..Settings::default() });
    let whole = prepared.disk.fork();
    apply(&mut Engine::open(whole.clone()).unwrap()).unwrap();
    let numbers = prepared.disk.syncs()..whole.syncs();
    assert!(!numbers.is_empty());
    for number in numbers {
        let marked = prepared.disk.fork();
        marked.set_faults(Faults::none().fail_sync(number));
        apply(&mut Engine::open(marked.clone()).unwrap()).unwrap_err();
        let trace = marked.trace();
        let mark = trace.iter().rfind(|call| call.text.starts_with("open state:poison (Write)")).expect("no mark");
        let disk = prepared.disk.fork();
        disk.set_faults(Faults::none().fail_sync(number).fail_call(
            mark.number,
            Errno::IO,
            When::Before,
            Repeat::OneShot,
        ));
        let mut engine = Engine::open(disk.clone()).unwrap();
        assert_eq!(apply(&mut engine).unwrap_err().code(), Code::SyncFailed, "sync {number}");
        let (syncs, mutations) = (disk.syncs(), disk.mutations());
        for _ in 0..2 {
            assert_eq!(engine.recover(&()).unwrap_err().code(), Code::SyncFailed, "sync {number}");
        }
        assert!(apply(&mut engine).is_err() && engine.confirm(&()).is_err() && engine.rollback(&()).is_err());
        assert_eq!((disk.syncs(), disk.mutations()), (syncs, mutations), "sync {number}: believed again");
        drop(engine);
        recover(&disk.reboot_clean()).unwrap();
    }
}

/// A directory was opened for a step back that was none, since the path held something foreign, and stayed open.
#[test]
fn a_step_back_that_moves_nothing_opens_nothing() {
    let disk = SimVfs::with(Options { user: 1000, ..options(Profile::Posix) });
    disk.write_file("d/a", b"1").chmod("d", 0o555);
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).put("d/a", &b"2"[..]).commit().unwrap();
    drop(tree);
    let begun = disk.calls();
    let whole = disk.fork();
    Engine::open(whole.clone()).unwrap().rollback(&()).unwrap();
    let mut tried = 0;
    for cut in begun..whole.calls() {
        let disk = disk.fork();
        disk.crash_at(cut);
        let _ = Engine::open(disk.clone()).unwrap().rollback(&());
        let disk = disk.killed().reboot_clean();
        let state = Engine::open(disk.clone()).unwrap().status().unwrap().state;
        let untouched = disk.read_file("d/a").as_deref() == Some(&b"2"[..]);
        if state != "reverting" || !untouched || disk.stat(&at("d")).unwrap().unwrap().mode != 0o555 {
            continue;
        }
        tried += 1;
        disk.write_file("d/a", b"mine");
        for _ in 0..2 {
            let error = Engine::open(disk.clone()).unwrap().recover(&()).unwrap_err();
            assert_eq!(error.code(), Code::Stuck, "cut at {cut}");
            assert_eq!(disk.stat(&at("d")).unwrap().unwrap().mode, 0o555, "cut at {cut}: it stays open");
        }
    }
    assert!(tried > 0, "nothing was tried");
}

/// `init` trusted one sync of everything, also where that does not report what it loses: the journal, or what it names,
/// could be zeros after the next boot.
#[test]
fn init_syncs_each_file_where_a_sync_of_everything_may_fail_in_silence() {
    for profile in PROFILES {
        for seed in 0..8 {
            let disk = SimVfs::with(Options { sync_all_reports: false, seed, ..options(profile) });
            disk.write_file("a", "a");
            let whole = disk.fork();
            drop(Tree::with(whole.clone()).unwrap());
            for number in 0..whole.syncs() {
                let vfs = disk.fork();
                vfs.set_faults(Faults::none().fail_sync(number));
                let result = Tree::with(vfs.clone()).map(drop);
                if let Err(error) = &result {
                    assert_eq!(error.code(), Code::SyncFailed);
                }
                vfs.for_each_crash_image(&Budget::sample(2, seed), &mut |image| {
                    let mut tree = Tree::with(image.mount()).unwrap_or_else(|error| {
                        panic!("{profile:?}, seed {seed}, sync {number}, {}: {error:?}", image.choice())
                    });
                    tree.begin().unwrap().put("b", &b"b"[..]).commit().unwrap();
                });
            }
        }
    }
}

/// A small file was replaced by one whose content was durable and whose name was not: a file system that keeps the
/// rename of a name and loses the name left neither, and the tree could not be opened again.
#[test]
fn a_configuration_is_old_or_new() {
    for profile in PROFILES {
        let disk = SimVfs::with(options(profile));
        disk.write_file("a", "a");
        drop(Tree::with(disk.clone()).unwrap());
        let disk = disk.reboot_clean();
        let keep = |disk: &SimVfs, keep: u32| {
            let mut engine = Engine::open(disk.clone())?;
            let config = Config { keep, ..engine.config().clone() };
            engine.set_config(config)
        };
        let whole = disk.fork();
        keep(&whole, 7).unwrap();
        let mut found = [0; 2];
        for crash_at in 0..=whole.calls() {
            let cut = disk.fork();
            cut.crash_at(crash_at);
            let _ = keep(&cut, 7);
            cut.for_each_crash_image(&Budget::default(), &mut |image| {
                let after = image.mount();
                let engine = Engine::open(after.clone())
                    .unwrap_or_else(|error| panic!("{profile:?}, call {crash_at}, {}: {error:?}", image.choice()));
                let kept = engine.config().keep;
                assert!(kept == 1 || kept == 7, "{kept}");
                assert!(kept == 7 || crash_at < whole.calls(), "what was promised is lost");
                found[usize::from(kept == 7)] += 1;
                drop(engine);
                keep(&after, 3).unwrap();
                assert_eq!(Engine::open(after.reboot_clean()).unwrap().config().keep, 3);
            });
        }
        assert!(found.iter().all(|count| *count > 0), "{found:?}");
    }
}

/// Who went back was killed, or lost the power, and asked again: recovery finished the way back, and then went back one
/// version more.
#[test]
fn a_way_back_that_was_cut_anywhere_is_gone_once_when_it_is_asked_for_again() {
    let back = |vfs: &SimVfs| {
        let mut engine = Engine::open(vfs.clone())?;
        match engine.recover(&())?.went_back {
            Some(report) => Ok(report),
            None => engine.rollback(&()),
        }
    };
    let content = |vfs: &SimVfs| vfs.read_file("b").unwrap();
    for (trial, wanted) in
        [(true, &["trial", "reverting", "closing"][..]), (false, &["idle", "preparing", "applying", "closing"])]
    {
        let disk = SimVfs::with(options(Profile::Posix));
        let mut tree = Tree::with(disk.clone()).unwrap();
        let config = Config { keep: 3, ..tree.engine().config().clone() };
        tree.engine().set_config(config).unwrap();
        for text in ["1", "2", "3"] {
            let transaction = tree.begin().unwrap().put("b", text.as_bytes()).put(text, text.as_bytes());
            let on_trial = trial && text == "3";
            if on_trial { transaction.trial(3) } else { transaction }.commit().unwrap();
        }
        drop(tree);
        let whole = disk.fork();
        back(&whole).unwrap();
        let mut states = BTreeSet::new();
        let mut judge = |vfs: &SimVfs, context: &str| {
            let state = peek(vfs).unwrap().0.state;
            if state == "idle" && content(vfs) == b"2" {
                // It was over, and a second one is another one.
                return;
            }
            let report = back(vfs).unwrap_or_else(|error| panic!("{context}, {state}: {error:?}"));
            assert_eq!((content(vfs), report.transaction.len()), (b"2".to_vec(), 32), "{context}, {state}");
            states.insert(state);
        };
        for cut_at in 0..=whole.calls() {
            let vfs = disk.fork();
            vfs.crash_at(cut_at);
            let _ = back(&vfs);
            judge(&vfs.killed(), &format!("trial {trial}, killed at {cut_at}"));
            vfs.for_each_crash_image(&Budget::default(), &mut |image| {
                judge(&image.mount(), &format!("trial {trial}, power lost at {cut_at}, {}", image.choice()));
            });
        }
        assert!(wanted.iter().all(|state| states.contains(state)), "trial {trial}: {states:?}");
    }
}

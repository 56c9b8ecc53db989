//! Faults that were found, each with its story.

use super::oracle::{Act, Promise, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{PROFILES, options, seed};
use surefoot::crashtest::Explorer;
use surefoot::device::{Config, Engine, Settings, Tree};
use surefoot::error::Code;
use surefoot::model::TreePath;
use surefoot::tree::{Walk, scan_indexed};
use surefoot::vfs::sim::{Budget, Faults, Options, Profile};
use surefoot::vfs::{Place, RootId, SimVfs, Vfs};

fn at(path: &str) -> Place {
    Place::tree(&TreePath::parse(path).unwrap())
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

/// A trial had removed `gone`. Its old object was lost from the slot, and somebody made another file of that name. The
/// check before going back let that pass, since nothing stood in the way of a step that moves; the direction turned, `kept`
/// went back to its old content, and only then was there no old object for `gone`: a whole new tree became a mixture.
#[test]
fn going_back_does_not_begin_where_it_cannot_end() {
    let disk = SimVfs::new();
    disk.write_file("gone", b"gone").write_file("kept", b"kept");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).remove("gone").put("kept", &b"new"[..]).commit().unwrap();
    let slots = disk.state_listing();
    let slot = slots.iter().find(|path| disk.read_file(&format!(".surefoot/{path}")).as_deref() == Some(&b"gone"[..]));
    let slot = TreePath::parse(slot.expect("the old object").as_str()).unwrap();
    disk.remove_file(&Place { root: RootId::STATE, path: slot }).unwrap();
    disk.write_file("gone", b"mine");
    let refused = tree.rollback().unwrap_err();
    assert_eq!(refused.code(), Code::Changed, "{refused:?}");
    assert_eq!(disk.read_file("kept").unwrap(), b"new");
    assert_eq!(disk.read_file("gone").unwrap(), b"mine");
}

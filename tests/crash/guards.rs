//! Guards: one small test for each check of the engine that no sweep tells apart.

mod journal;
mod meddled;

use self::meddled::{Meddled, elsewhere};
use super::options;
use super::oracle::{ACTS, Act, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS, Workload};
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use surefoot::Error;
use surefoot::device::{
    Change, Config, Engine, NoPayload, PackageSettings, Payload, Phase, Progress, Request, Settings, Sink, Source,
    Transaction, Tree, peek,
};
use surefoot::error::Code;
use surefoot::model::{Digest, Kind, Metadata, Node, Policy, Time, TreePath};
use surefoot::package::{Level, Package};
use surefoot::publish::{Options as BuildOptions, build_full};
use surefoot::transaction::Outcome;
use surefoot::tree::{Walk, scan};
use surefoot::vfs::sim::{Errno, Faults, Options, Profile, Repeat, When};
use surefoot::vfs::{Place, SimVfs, Stat, Vfs};

const PLAIN: Policy = Policy { owner: false, mtime: false };

type Changes = for<'a> fn(Transaction<'a, SimVfs>) -> Transaction<'a, SimVfs>;

fn path(path: &str) -> TreePath {
    TreePath::parse(path).unwrap()
}

fn stat(disk: &SimVfs, at: &str) -> Stat {
    disk.stat(&Place::tree(&path(at))).unwrap().unwrap()
}

fn file(content: &[u8], mode: u32) -> Option<Node> {
    let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content) };
    let metadata = Metadata { mode, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() };
    Some(Node::new(kind, metadata))
}

fn change(at: &str, after: Option<Node>, source: Source) -> Change {
    Change { path: path(at), after, source }
}

/// A tree under care, with its content recorded.
fn recorded(disk: &SimVfs) -> Engine<SimVfs> {
    let manifest = scan(disk, &Walk { policy: PLAIN, state_inside: true }, &|_, _| ()).unwrap();
    Engine::init(disk.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap()
}

fn prepared(workload: &Workload, exchange: bool) -> Prepared {
    Prepared::new(workload, Options { exchange, ..options(Profile::Posix) })
}

fn apply(prepared: &Prepared, disk: &SimVfs) -> Result<(), Error> {
    prepared.apply(&mut Engine::open(disk.clone())?, Settings::default())
}

/// The names of the state directory that have this in them, as names of the tree.
fn stored(disk: &SimVfs, name: &str) -> Vec<String> {
    let found = disk.state_listing().into_iter().filter(|path| path.contains(name));
    found.map(|path| format!(".surefoot/{path}")).filter(|path| disk.read_file(path).is_some()).collect()
}

// What is refused.

#[test]
fn what_is_refused_is_refused_before_anything_is_written() {
    type Spoil = fn(&SimVfs);
    let new = |at: &str| change(at, file(b"new", 0o644), Source::Payload);
    let gone = |at: &str| change(at, None, Source::None);
    let mut closed = new("m");
    closed.source = Source::None;
    closed.after.as_mut().unwrap().kind = Kind::Directory;
    let cases: Vec<(&str, Spoil, Vec<Change>, Code)> = vec![
        ("other content", |d| _ = d.write_file("b", "c"), vec![new("b")], Code::Changed),
        ("another mode", |d| _ = d.chmod("b", 0o600), vec![gone("b")], Code::Changed),
        ("nothing", |d| _ = d.remove_all("b"), vec![gone("b")], Code::Changed),
        ("something where nothing was", |d| _ = d.write_file("new", "his"), vec![new("new")], Code::Changed),
        ("a name in what goes", |d| _ = d.write_file("d/his", "x"), vec![gone("d"), gone("d/a")], Code::Stray),
        ("another mode of a mount point", |d| _ = d.set_mount_point("m", true), vec![closed], Code::Mount),
        ("a mount point goes", |d| _ = d.set_mount_point("m", true), vec![gone("m")], Code::Mount),
        ("no room", |d| d.set_options(|options| options.limit_bytes = Some(1)), vec![new("b")], Code::Space),
    ];
    for (name, spoil, changes, code) in cases {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("b", "b").write_file("d/a", "a").make_dir("m");
        let mut engine = recorded(&disk);
        spoil(&disk);
        let (before, mutations) = (disk.snapshot_with_times(), disk.mutations());
        let error = engine.commit(Request::new(changes, "refused"), &mut NoPayload, &()).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error:?}");
        assert_eq!(disk.mutations(), mutations, "{name}");
        assert!(disk.snapshot_with_times() == before, "{name}");
    }
}

/// One barrier must cover the tree and its state.
#[test]
fn a_state_directory_on_another_file_system_is_refused() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a");
    drop(recorded(&disk));
    let mutations = disk.mutations();
    assert_eq!(Engine::open(elsewhere(&disk)).unwrap_err().code(), Code::StateElsewhere);
    assert_eq!(disk.mutations(), mutations);
    let fresh = SimVfs::with(options(Profile::Posix));
    let error = Engine::init(elsewhere(&fresh), Config::default(), "1", None).unwrap_err();
    assert_eq!(error.code(), Code::StateElsewhere);
    assert_eq!(peek(&fresh).unwrap_err().code(), Code::NotInitialised);
}

/// Content of another file that is not what was promised, of the same length and of another one.
#[test]
fn what_is_copied_is_what_was_promised_or_nothing_happens() {
    for (there, promised) in [(&b"old"[..], &b"new"[..]), (b"older", b"new"), (b"", b"new"), (b"old", b"")] {
        for reflink in [false, true] {
            let disk = SimVfs::with(Options { reflink, ..options(Profile::Posix) });
            disk.write_file("from", there);
            let mut engine = recorded(&disk);
            let before = disk.snapshot_with_times();
            let lies = vec![change("to", file(promised, 0o644), Source::Base(path("from")))];
            let error = engine.commit(Request::new(lies, "lies"), &mut NoPayload, &()).unwrap_err();
            assert_eq!(error.code(), Code::Digest, "{error:?}");
            assert!(disk.snapshot_with_times() == before && stored(&disk, "/slots/").is_empty());
        }
    }
}

/// A payload that delivers this for whatever is wanted.
struct Delivers<'a>(&'a str, &'a [u8]);

impl Payload for Delivers<'_> {
    fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.take(&path(self.0), &mut &*self.1)
    }
}

/// Contents that are held in memory, and such that are not.
#[test]
fn what_is_delivered_is_what_was_promised_or_nothing_happens() {
    for length in [3, 300_000] {
        let promised = vec![1; length];
        for delivered in [vec![2; length], vec![1; length - 1], vec![1; length + 1], Vec::new(), promised.clone()] {
            let disk = SimVfs::with(options(Profile::Posix));
            let mut engine = recorded(&disk);
            let before = disk.snapshot_with_times();
            let request = Request::new(vec![change("new", file(&promised, 0o644), Source::Payload)], "lies");
            let result = engine.commit(request, &mut Delivers("new", &delivered), &());
            if delivered == promised {
                result.unwrap();
                assert_eq!((disk.read_file("new").unwrap(), stat(&disk, "new").mode), (promised.clone(), 0o644));
            } else {
                assert_eq!(result.unwrap_err().code(), Code::Digest, "{} of {length}", delivered.len());
                assert!(disk.snapshot_with_times() == before && stored(&disk, "/slots/").is_empty());
            }
        }
    }
}

/// Without exchange and hard links what is to be replaced is copied first: it must be what was looked at.
#[test]
fn what_cannot_be_kept_stops_an_update_before_its_first_step() {
    let poor = Options { exchange: false, hard_links: false, trace: true, ..options(Profile::Posix) };
    let disk = SimVfs::with(poor);
    disk.write_file("a", "1").write_file("b", "2").write_file("new", "new");
    let mut engine = recorded(&disk);
    let copy = |at: &str| change(at, file(b"new", 0o644), Source::Base(path("new")));
    let stranger = |progress: Progress| {
        if progress.phase == Phase::Stage {
            disk.write_file("b", "mine");
        }
    };
    let request = Request::new(vec![copy("a"), copy("b")], "update");
    let error = engine.commit(request, &mut NoPayload, &stranger).unwrap_err();
    assert_eq!(error.code(), Code::Digest, "{error:?}");
    assert_eq!((disk.read_file("a").unwrap(), disk.read_file("b").unwrap()), (b"1".to_vec(), b"mine".to_vec()));
    let steps: Vec<_> = disk.trace().into_iter().filter(|call| call.text.contains("-> a")).collect();
    assert!(steps.is_empty(), "{steps:?}");
}

/// A full package over the simulated disk: contents that are held in memory, and one that is not.
#[test]
fn a_full_package_makes_the_tree_that_it_holds() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("gone", "gone").write_file("b", "old");
    let wanted = SimVfs::with(options(Profile::Posix));
    wanted.write_file("b", "new").chmod("b", 0o4755).write_file("long", vec![7; 300_000]).chmod("long", 0o640);
    wanted.write_file("zeros", vec![0; 9000]).write_file("empty", "");
    let tree = scan(&wanted, &Walk { policy: PLAIN, state_inside: true }, &|_, _| ()).unwrap();
    let how = BuildOptions { to: "2.0.0".into(), level: Level::Fast, ..BuildOptions::default() };
    let mut package = Vec::new();
    build_full(&tree, &wanted, &how, &mut Cursor::new(Vec::new()), &mut package).unwrap();
    let mut engine = recorded(&disk);
    let before = disk.snapshot();
    let package = Package::open(Cursor::new(package)).unwrap().accept_unsigned().unwrap();
    engine.apply(package, &PackageSettings::default(), &()).unwrap();
    assert!(disk.snapshot() == wanted.snapshot(), "{:?}", disk.snapshot().difference(&wanted.snapshot()));
    engine.rollback(&()).unwrap();
    assert!(disk.snapshot() == before);
}

// What shares an inode, and what is set in place.

#[test]
fn a_file_that_is_moved_or_copied_is_one_of_its_own() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("moved", "1").write_file("shared", "2").make_link("shared", "other").write_file("stays", "3");
    let mut tree = Tree::with(disk.clone()).unwrap();
    // What it becomes is not what it was.
    tree.begin().unwrap().rename("moved", "to").set_mode("to", 0o600).commit().unwrap();
    assert_eq!((stat(&disk, "to").mode, disk.read_file("to").unwrap()), (0o600, b"1".to_vec()));
    // Its other name stays.
    tree.begin().unwrap().rename("shared", "apart").commit().unwrap();
    disk.write_file("other", "changed");
    assert_eq!((stat(&disk, "apart").links, disk.read_file("apart").unwrap()), (1, b"2".to_vec()));
    // It stays itself.
    drop(tree);
    disk.remove_all(".surefoot").make_dir(".surefoot");
    let mut engine = recorded(&disk);
    let changes = vec![
        change("copy", file(b"3", 0o644), Source::Base(path("stays"))),
        change("stays", file(b"3", 0o600), Source::None),
    ];
    engine.commit(Request::new(changes, "a copy"), &mut NoPayload, &()).unwrap();
    let modes = ["copy", "stays"].map(|at| (stat(&disk, at).mode, stat(&disk, at).links));
    assert_eq!(modes, [(0o644, 1), (0o600, 1)]);
}

/// A file becomes the second name of a new one, which gets its content from it. If they were one inode from the start, each
/// boot would take the trial for one that was being taken back.
#[test]
fn a_file_that_joins_what_is_copied_from_it_is_not_taken_for_one_that_went_back() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("b", "1");
    let before = disk.snapshot();
    let mut engine = recorded(&disk);
    let mut follower = file(b"1", 0o644);
    follower.as_mut().unwrap().leader = Some(path("a"));
    let changes = vec![change("a", file(b"1", 0o644), Source::Base(path("b"))), change("b", follower, Source::None)];
    let mut request = Request::new(changes, "one file");
    request.settings.trial = true;
    engine.commit(request, &mut NoPayload, &()).unwrap();
    drop(engine);
    assert_eq!(stat(&disk, "a").inode, stat(&disk, "b").inode);
    let disk = disk.reboot_clean();
    assert_eq!(recover(&disk).unwrap().state, "trial");
    Engine::open(disk.clone()).unwrap().rollback(&()).unwrap();
    assert!(disk.snapshot() == before);
}

/// A name that the change does not mention is not changed, although it is a name of the same file.
#[test]
fn metadata_of_a_file_with_another_name_are_those_of_one_name_only() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a").make_link("a", "b");
    let before = disk.snapshot();
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().set_mode("a", 0o600).commit().unwrap();
    assert_eq!((stat(&disk, "a").mode, stat(&disk, "b").mode), (0o600, 0o644));
    tree.rollback().unwrap();
    assert!(disk.snapshot() == before);
}

/// Giving a file away clears its capabilities.
#[test]
fn who_gives_a_file_away_keeps_what_it_may_do() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a").attribute("a", "security.capability", "net").write_file("s", "s").chmod("s", 0o4755);
    let before = disk.snapshot();
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().set_owner("a", 5, 6).set_owner("s", 5, 6).commit().unwrap();
    assert_eq!(["a", "s"].map(|at| (stat(&disk, at).uid, stat(&disk, at).mode)), [(5, 0o644), (5, 0o4755)]);
    assert_eq!(disk.xattrs(&Place::tree(&path("a"))).unwrap()[0].0[..], *b"security.capability");
    tree.rollback().unwrap();
    assert!(disk.snapshot() == before);
}

/// What a trial has set in place is taken back from what it was set on, and from nothing else.
#[test]
fn metadata_are_not_set_over_what_somebody_else_has_made() {
    type Act = fn(&SimVfs);
    let cases: [(&str, Act); 4] = [
        ("another type", |d| _ = d.remove_all("a").make_dir("a").chmod("a", 0o600)),
        ("another owner", |d| _ = d.chown("a", 9, 0)),
        ("another group", |d| _ = d.chown("a", 0, 9)),
        ("another attribute", |d| _ = d.attribute("a", "user.his", "1")),
    ];
    for (name, act) in cases {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("a", "a");
        let mut tree = Tree::with(disk.clone()).unwrap();
        tree.begin().unwrap().trial(3).set_mode("a", 0o600).commit().unwrap();
        act(&disk);
        let his = disk.snapshot();
        assert_eq!(tree.rollback().expect_err(name).code(), Code::Changed, "{name}");
        assert!(disk.snapshot() == his, "{name}");
    }
}

// What is evidence.

/// Each step disturbs the time of the directory that it works in, also of one that another step has just put there.
const TIMED: Workload = Workload {
    name: "directories come and go, and times count",
    old: |d| {
        _ = d.write_file("b", "b").write_file("old/a", "a").write_file("old/b", "b").touch("old", 10).touch("", 40)
    },
    new: |d| {
        _ = d.write_file("b", "b").write_file("new/a", "1").write_file("new/b", "2").touch("new", 20).touch("", 40)
    },
    policy: Policy { owner: false, mtime: true },
};

#[test]
fn a_directory_whose_time_was_disturbed_on_the_way_is_still_known() {
    for exchange in [true, false] {
        let prepared = prepared(&TIMED, exchange);
        for act in [Act::Apply, Act::Reject] {
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            for crash_at in 0..whole.calls() {
                let disk = prepared.disk.fork();
                disk.crash_at(crash_at);
                let (promise, _) = perform(act, &prepared, &disk);
                judge(&prepared, &disk.reboot_clean(), promise)
                    .unwrap_or_else(|error| panic!("{act:?}, exchange {exchange}, call {crash_at}: {error}"));
            }
        }
    }
}

/// Every disk that is left where an update without exchange is cut before its first step.
fn not_begun(prepared: &Prepared) -> Vec<SimVfs> {
    let whole = prepared.disk.fork();
    apply(prepared, &whole).unwrap();
    let cut = |crash_at| {
        let disk = prepared.disk.fork();
        disk.crash_at(crash_at);
        let _ = apply(prepared, &disk);
        disk.reboot_clean()
    };
    let disks = (0..whole.calls()).map(cut);
    disks.filter(|disk| peek(disk).unwrap().0.state == "applying" && prepared.snapshot(disk) == prepared.old).collect()
}

/// Without exchange the second name of what is replaced is all that can bring it back.
#[test]
fn what_could_not_be_brought_back_is_not_replaced() {
    let prepared = prepared(&WORKLOADS[0], false);
    let disks = not_begun(&prepared);
    assert!(!disks.is_empty());
    for disk in disks {
        let kept = stored(&disk, "/aside/");
        assert_eq!(kept.len(), 2, "{kept:?}");
        kept.iter().for_each(|path| _ = disk.remove_all(path));
        // What is lost altogether stops it, and what is not is not touched.
        let lost = disk.fork();
        lost.remove_all("b");
        let before = lost.snapshot();
        assert!(recover(&lost).unwrap_err().contains("tree.stuck"));
        assert!(lost.snapshot() == before);
        assert_eq!(recover(&disk).unwrap().state, "idle");
        assert!(prepared.snapshot(&disk) == prepared.old);
    }
}

/// A trial of two files without exchange: one has been taken back, and the record that says so has rotted.
#[test]
fn without_exchange_what_was_taken_back_shows_that_it_was() {
    let disk = SimVfs::with(Options { exchange: false, ..options(Profile::Posix) });
    disk.write_file("a", "1").write_file("z", "1z");
    let before = disk.snapshot();
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).put("a", &b"2"[..]).put("z", &b"2z"[..]).commit().unwrap();
    drop(tree);
    let kept = stored(&disk, "/aside/").into_iter().find(|path| disk.read_file(path).unwrap() == b"1z").unwrap();
    disk.remove_all("z").make_link(&kept, "z").remove_all(&kept);
    let disk = disk.reboot_clean();
    let recovered = Engine::open(disk.clone()).unwrap().recover(&()).unwrap();
    assert!(recovered.cause.unwrap().starts_with("recovery.direction-lost"));
    assert!(disk.snapshot() == before);
}

/// The same with exchange, and somebody has changed what would be taken back after what is whole: nothing is touched.
#[test]
fn a_lost_direction_is_not_followed_to_where_it_gets_stuck() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("gone", "gone").write_file("kept", "kept").write_file("z", "old");
    let mut tree = Tree::with(disk.clone()).unwrap();
    let change = tree.begin().unwrap().trial(3).remove("gone");
    change.put("kept", &b"new"[..]).put("z", &b"new"[..]).commit().unwrap();
    drop(tree);
    let kept = stored(&disk, "/slots/").into_iter().find(|path| disk.read_file(path).unwrap() == b"gone").unwrap();
    disk.make_link(&kept, "gone").remove_all(&kept).write_file("kept", "mine");
    let disk = disk.reboot_clean();
    let before = disk.snapshot();
    assert!(recover(&disk).unwrap_err().contains("tree.stuck"));
    assert!(disk.snapshot() == before, "it was begun nevertheless");
}

// What happens meanwhile.

/// A stranger fills a directory before the look that every step begins with, and then the power fails.
#[test]
fn a_directory_that_was_filled_is_never_moved_with_what_is_in_it() {
    let changes: [Changes; 2] = [|change| change.remove("d"), |change| change.remove("d").put("d", &b"file"[..])];
    for (change, exchange) in changes.into_iter().flat_map(|change| [(change, true), (change, false)]) {
        let start = SimVfs::with(Options { exchange, ..options(Profile::Posix) });
        start.make_dir("d");
        drop(Tree::with(start.clone()).unwrap());
        let act = |disk: &SimVfs| {
            let came = AtomicBool::new(false);
            let stranger = |progress: Progress| {
                if progress.phase == Phase::Apply && !came.swap(true, Ordering::Relaxed) {
                    disk.write_file("d/x", "mine");
                }
            };
            let mut tree = Tree::with(disk.clone()).unwrap();
            assert!(change(tree.begin().unwrap()).commit_observed(&stranger).is_err());
            drop(tree);
            came.into_inner()
        };
        let whole = start.fork();
        assert!(act(&whole));
        for crash_at in start.calls()..whole.calls() {
            let disk = start.fork();
            disk.crash_at(crash_at);
            let came = act(&disk);
            let disk = disk.reboot_clean();
            recover(&disk).unwrap();
            assert_eq!(disk.read_file("d/x").is_some(), came, "exchange {exchange}, call {crash_at}");
        }
    }
}

/// And one who fills it after that look, right before the rename: what has come out goes back.
#[test]
fn a_directory_that_is_filled_at_the_last_moment_goes_back() {
    for replaced in [false, true] {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.make_dir("d");
        let came = AtomicBool::new(false);
        let fill = |disk: &SimVfs, places: [&Place; 2]| {
            let moves_it = places.iter().any(|place| **place == Place::tree(&path("d")));
            if moves_it && !came.swap(true, Ordering::Relaxed) {
                disk.write_file("d/x", "mine");
            }
        };
        let mut tree = Tree::with(Meddled { disk: disk.clone(), together: true, before_rename: fill }).unwrap();
        let change = tree.begin().unwrap().remove("d");
        let change = if replaced { change.put("d", &b"file"[..]) } else { change };
        let error = change.commit().expect_err("it was not seen");
        assert_eq!(error.code(), Code::RolledBack, "{error:?}");
        assert_eq!(disk.read_file("d/x").unwrap(), b"mine", "replaced {replaced}");
    }
}

/// Who looks at a file that is being replaced sees the old or the new one, also where objects cannot be exchanged.
#[test]
fn a_file_that_is_replaced_is_always_there() {
    let prepared = prepared(&WORKLOADS[0], false);
    for act in ACTS {
        let whole = prepared.disk.fork();
        perform(act, &prepared, &whole);
        for crash_at in 0..whole.calls() {
            let disk = prepared.disk.fork();
            disk.crash_at(crash_at);
            perform(act, &prepared, &disk);
            let disk = disk.killed();
            assert!(disk.exists("b") && disk.exists("c"), "{act:?}, call {crash_at}");
        }
    }
}

// What fails.

/// Every call that changes something fails once: who is told that it went well has what was promised, and whoever comes
/// next finds a tree that is old or new.
#[test]
fn whoever_is_told_that_it_went_well_has_what_was_promised() {
    let workload = WORKLOADS.iter().find(|workload| workload.name == "times count").unwrap();
    let prepared = prepared(workload, true);
    prepared.disk.set_options(|options| options.trace = true);
    let (mut failed, mut passed) = (0, 0);
    for act in ACTS {
        let whole = prepared.disk.fork();
        perform(act, &prepared, &whole);
        for call in whole.trace().iter().filter(|call| call.step.is_some() && !call.text.starts_with("sync")) {
            let disk = prepared.disk.fork();
            disk.set_faults(Faults::none().fail_call(call.number, Errno::IO, When::Before, Repeat::OneShot));
            let (promise, error) = perform(act, &prepared, &disk);
            *(if error.is_some() { &mut failed } else { &mut passed }) += 1;
            judge(&prepared, &disk.reboot_clean(), promise)
                .unwrap_or_else(|message| panic!("{act:?}: {call} failed, {error:?}: {message}"));
        }
    }
    assert!(failed > 50 && passed > 5, "{failed} {passed}");
}

/// Where a sync of everything does not report its errors each file is synced. Once that has failed nothing is changed but
/// the mark that says so, and no process of this boot goes on.
#[test]
fn after_a_staged_file_cannot_be_synced_nothing_goes_on() {
    let poorer = Options { sync_all_reports: false, trace: true, ..options(Profile::Posix) };
    let prepared = Prepared::new(&WORKLOADS[0], poorer);
    let whole = prepared.disk.fork();
    apply(&prepared, &whole).unwrap();
    let mut told = 0;
    for number in prepared.disk.syncs()..whole.syncs() {
        let disk = prepared.disk.fork();
        disk.set_faults(Faults::none().fail_sync(number));
        // A sync of everything fails in silence here.
        let Err(error) = apply(&prepared, &disk) else { continue };
        assert_eq!(error.code(), Code::SyncFailed, "sync {number}: {error:?}");
        let trace = disk.trace();
        let failed = trace.iter().rposition(|call| call.text.starts_with("sync") && call.error.is_some()).unwrap();
        let later: Vec<_> = trace[failed + 1..].iter().filter(|call| call.step.is_some()).collect();
        assert!(later.iter().all(|call| call.text.starts_with("write state:poison")), "sync {number}: {later:#?}");
        let (syncs, mutations) = (disk.syncs(), disk.mutations());
        assert!(recover(&disk).unwrap_err().contains("apply.sync-failed"), "sync {number}");
        assert_eq!((disk.syncs(), disk.mutations()), (syncs, mutations), "sync {number}");
        recover(&disk.reboot_clean()).unwrap();
        told += 1;
    }
    assert!(told > 4, "{told}");
}

/// An update that failed before its first step has left an epoch that is not durable: the next one begins with a sync of
/// it. If that fails it is a failed sync like any other.
#[test]
fn a_failed_sync_of_the_last_epoch_is_not_tried_again() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a");
    let mut engine = recorded(&disk);
    let missing = || Request::new(vec![change("new", file(b"new", 0o644), Source::Payload)], "its content never comes");
    engine.commit(missing(), &mut NoPayload, &()).unwrap_err();
    disk.set_faults(Faults::none().fail_sync(disk.syncs()));
    let error = engine.commit(missing(), &mut NoPayload, &()).unwrap_err();
    assert_eq!(error.code(), Code::SyncFailed, "{error:?}");
    let syncs = disk.syncs();
    for _ in 0..2 {
        let code = engine.commit(missing(), &mut NoPayload, &()).unwrap_err().code();
        assert!(matches!(code, Code::SyncFailed | Code::Undecided), "{code:?}");
    }
    drop(engine);
    assert!(recover(&disk).unwrap_err().contains("apply.sync-failed"));
    assert_eq!(disk.syncs(), syncs, "synced again and hoped");
}

/// What failed before its first step was given up: the answer is why, and the history says so.
#[test]
fn what_was_given_up_is_told_as_given_up() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a");
    let mut engine = recorded(&disk);
    let missing = vec![change("new", file(b"new", 0o644), Source::Payload)];
    let error = engine.commit(Request::new(missing, "never comes"), &mut NoPayload, &()).unwrap_err();
    assert_eq!(error.code(), Code::PackagePartial, "{error:?}");
    assert_eq!(engine.history().unwrap().last().unwrap().outcome, "abandoned");
    // So is what a cut left.
    let prepared = prepared(&WORKLOADS[0], true);
    let whole = prepared.disk.fork();
    apply(&prepared, &whole).unwrap();
    let mut found = 0;
    for crash_at in 0..whole.calls() {
        let disk = prepared.disk.fork();
        disk.crash_at(crash_at);
        let _ = apply(&prepared, &disk);
        let disk = disk.reboot_clean();
        if peek(&disk).unwrap().0.state == "preparing" {
            let mut engine = Engine::open(disk).unwrap();
            assert_eq!(engine.recover(&()).unwrap().outcome, Some(Outcome::Abandoned), "call {crash_at}");
            assert_eq!(engine.history().unwrap().last().unwrap().outcome, "abandoned", "call {crash_at}");
            found += 1;
        }
    }
    assert!(found > 2, "{found}");
}

/// An undo that was cut when all its steps were taken, and looked at before anybody recovers: the tree is the version
/// that it leads to.
#[test]
fn an_undo_that_has_been_carried_out_is_the_version_before() {
    let prepared = prepared(&WORKLOADS[0], true);
    let whole = prepared.disk.fork();
    perform(Act::Undo, &prepared, &whole);
    let mut found = 0;
    for crash_at in 0..whole.calls() {
        let disk = prepared.disk.fork();
        disk.crash_at(crash_at);
        perform(Act::Undo, &prepared, &disk);
        let disk = disk.reboot_clean();
        let (status, _) = peek(&disk).unwrap();
        if status.state == "trial" && status.version == "2.0.0" {
            let engine = Engine::open(disk.clone()).unwrap();
            assert!(prepared.snapshot(&disk) == prepared.old);
            assert_eq!(engine.expected().unwrap().0.version, "1.0.0", "call {crash_at}");
            assert_eq!(engine.verify(true, &()).unwrap().findings, [], "call {crash_at}");
            found += 1;
        }
    }
    assert!(found > 0);
}

/// What a generation needs that cannot be read is not known, so nothing goes.
#[test]
fn nothing_is_swept_while_an_earlier_generation_cannot_be_read() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "0");
    drop(Engine::init(disk.clone(), Config { keep: 3, ..Config::default() }, "1.0.0", None).unwrap());
    let mut tree = Tree::with(disk.clone()).unwrap();
    let mut generations = Vec::new();
    for n in 1..=3_u32 {
        tree.begin().unwrap().put("a", n.to_string().as_bytes()).commit().unwrap();
        generations.push(tree.engine().current().unwrap());
    }
    drop(tree);
    let id: String = generations[1].id.iter().map(|byte| format!("{byte:02x}")).collect();
    let state = format!(".surefoot/generations/{id}/state");
    let sound = disk.read_file(&state).unwrap();
    disk.write_file(&state, "rot");
    let before = disk.state_listing();
    recover(&disk).unwrap();
    assert_eq!(disk.state_listing(), before);
    // Once it can be read again all of it is of use.
    disk.write_file(&state, sound);
    let mut tree = Tree::with(disk.clone()).unwrap();
    for content in [b"2", b"1", b"0"] {
        tree.rollback().unwrap();
        assert_eq!(disk.read_file("a").unwrap(), content);
    }
}

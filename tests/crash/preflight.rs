//! What is refused before anything changes, and what an update costs: counted, not guessed.

use super::workload::{MANY, Prepared, WORKLOADS, Workload};
use super::{options, seed};
use std::collections::BTreeSet;
use surefoot::Error;
use surefoot::device::{Change, Config, Engine, NoPayload, Report, Request, Settings, Source, Tree};
use surefoot::error::Code;
use surefoot::model::{Digest, Kind, Metadata, Node, Policy, Time, TreePath};
use surefoot::tree::{Walk, scan};
use surefoot::vfs::sim::{Options, Profile};
use surefoot::vfs::{FileType, RootId, SimVfs, Vfs};

const PAGE: u64 = 4096;
const WALK: Walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };

fn path(path: &str) -> TreePath {
    TreePath::parse(path).unwrap()
}

fn node(kind: Kind) -> Option<Node> {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let metadata = Metadata { mode, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() };
    Some(Node::new(kind, metadata))
}

fn new_file(at: &str) -> Change {
    let kind = Kind::File { size: 3, digest: Digest::of(b"new") };
    Change { path: path(at), after: node(kind), source: Source::Payload }
}

fn new_directory(at: &str) -> Change {
    Change { path: path(at), after: node(Kind::Directory), source: Source::None }
}

fn removal(at: &str) -> Change {
    Change { path: path(at), after: None, source: Source::None }
}

/// A tree under care, with its content recorded.
fn recorded(disk: &SimVfs) -> Engine<SimVfs> {
    let manifest = scan(disk, &WALK, &|_, _| ()).unwrap();
    Engine::init(disk.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap()
}

#[test]
fn preflight_refuses_by_code() {
    type Spoil = fn(&SimVfs);
    let with = |change: fn(&mut Node)| {
        let mut changed = new_file("b");
        changed.after.as_mut().map(change).unwrap();
        vec![changed]
    };
    let link = Change { after: node(Kind::Symlink { target: b"b"[..].into() }), ..new_directory("l") };
    let cases: Vec<(&str, Spoil, Vec<Change>, Code)> = vec![
        ("a file", |d| _ = d.set_immutable("b", true), vec![new_file("b")], Code::Immutable),
        ("a file goes", |d| _ = d.set_immutable("b", true), vec![removal("b")], Code::Immutable),
        ("in a directory", |d| _ = d.set_immutable("d", true), vec![new_file("d/new")], Code::Immutable),
        ("out of a directory", |d| _ = d.set_immutable("d", true), vec![removal("d/a")], Code::Immutable),
        ("in the root", |d| _ = d.set_immutable("", true), vec![new_file("new")], Code::Immutable),
        ("a mount point goes", |d| _ = d.set_mount_point("m", true), vec![removal("m"), removal("m/x")], Code::Mount),
        ("across a mount", |d| _ = d.set_mount_point("m", true), vec![removal("m/x")], Code::Mount),
        ("new across a mount", |d| _ = d.set_mount_point("m", true), vec![new_file("m/new")], Code::Mount),
        (
            "two names",
            |d| d.set_options(|options| options.folds_case = true),
            vec![new_file("d/X"), new_file("d/x")],
            Code::CaseCollision,
        ),
        (
            "another name of what is there",
            |d| d.set_options(|options| options.folds_case = true),
            vec![new_file("d/A")],
            Code::CaseCollision,
        ),
        (
            "another name of what goes",
            |d| d.set_options(|options| options.folds_case = true),
            vec![removal("d/a"), new_file("d/A")],
            Code::CaseCollision,
        ),
        (
            "another name of what a stranger has put there",
            |d| {
                d.write_file("d/\u{e9}t\u{e9}", "mine").set_options(|options| options.folds_case = true);
            },
            vec![new_file("d/\u{c9}t\u{e9}")],
            Code::CaseCollision,
        ),
        (
            "two names in a new directory",
            |d| d.set_options(|options| options.folds_case = true),
            vec![new_directory("n"), new_file("n/X"), new_file("n/x")],
            Code::CaseCollision,
        ),
        (
            "attributes",
            |d| d.set_options(|options| options.xattrs = false),
            with(|node| node.metadata.xattrs.push((b"user.a"[..].into(), b"1"[..].into()))),
            Code::Metadata,
        ),
        ("a link", |d| d.set_options(|options| options.symlinks = false), vec![link], Code::Metadata),
        ("inodes", |d| d.set_options(|options| options.limit_inodes = Some(1)), vec![new_file("b")], Code::Inodes),
        ("space", |d| d.set_options(|options| options.limit_bytes = Some(1)), vec![new_file("b")], Code::Space),
    ];
    for (name, spoil, changes, code) in cases {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("b", "b").write_file("d/a", "a").write_file("m/x", "x");
        let mut engine = recorded(&disk);
        spoil(&disk);
        let before = (disk.snapshot_with_times(), disk.state_listing());
        let result = engine.commit(Request::new(changes, "refused"), &mut NoPayload, &());
        let error = result.expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error:?}");
        assert!((disk.snapshot_with_times(), disk.state_listing()) == before, "{name}");
        // Nothing is owed: what is not refused goes on.
        assert_eq!(engine.status().unwrap().state, "idle", "{name}");
    }
}

/// The fewest free pages (or inodes) with which an act is not refused. With fewer it is refused by this code, and
/// changes nothing; with as many it goes well.
fn least(disk: &SimVfs, code: Code, act: impl Fn(&SimVfs) -> Result<(), Error>) -> u64 {
    disk.set_options(|options| (options.limit_bytes, options.limit_inodes) = (None, None));
    let space = disk.space(RootId::TREE).unwrap();
    let unlimited = 1 << 30;
    for free in 0..10_000 {
        let disk = disk.fork();
        disk.set_options(|options| match code {
            Code::Inodes => options.limit_inodes = Some(unlimited - space.free_inodes.unwrap() + free),
            _ => options.limit_bytes = Some((unlimited + free) * PAGE - space.free_bytes),
        });
        let before = disk.snapshot_with_times();
        match act(&disk) {
            Ok(()) => return free,
            Err(error) => assert_eq!(error.code(), code, "{free} are free: {error:?}"),
        }
        assert!(disk.snapshot_with_times() == before, "{free} are free");
    }
    panic!("it is always refused");
}

/// What preflight says is needed, in pages or inodes, on a disk that has no room at all.
fn asked(disk: &SimVfs, code: Code, act: impl Fn(&SimVfs) -> Result<(), Error>) -> u64 {
    let disk = disk.fork();
    disk.set_options(|options| match code {
        Code::Inodes => options.limit_inodes = Some(0),
        _ => options.limit_bytes = Some(0),
    });
    let error = act(&disk).unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    let text = error.to_string();
    let number: u64 = text.split(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    if code == Code::Space { number.div_ceil(PAGE) } else { number }
}

/// The most pages and inodes that an act takes at any of its calls.
fn peak(disk: &SimVfs, act: impl Fn(&SimVfs) -> Result<(), Error>) -> (u64, u64) {
    let free = |disk: &SimVfs| {
        let space = disk.space(RootId::TREE).unwrap();
        (space.free_bytes / PAGE, space.free_inodes.unwrap())
    };
    let before = free(disk);
    let whole = disk.fork();
    act(&whole).unwrap();
    let taken = (0..=whole.calls()).map(|at| {
        let cut = disk.fork();
        cut.crash_at(at);
        let _ = act(&cut);
        let now = free(&cut.revive());
        (before.0.saturating_sub(now.0), before.1.saturating_sub(now.1))
    });
    taken.fold((0, 0), |most, taken| (most.0.max(taken.0), most.1.max(taken.1)))
}

/// What preflight asks for is what an update takes: in inodes just that, and in pages no more above it than it says.
#[test]
fn what_is_asked_for_is_what_is_taken() {
    fn many(disk: &SimVfs, version: u8) {
        for n in 0..20 {
            disk.write_file(&format!("d{version}/{n}"), vec![version; 5000 * (n % 3)]);
        }
        disk.write_file("same", vec![version; 30_000]).make_symlink("same", &format!("link{version}"));
        disk.make_symlink(&"long".repeat(20 + usize::from(version)), "long");
        disk.write_file(&format!("moved{version}"), vec![7; 40_000]);
        if version == 2 {
            disk.write_file("zeros", vec![0; 9 * PAGE as usize]);
        }
    }
    let room = Workload { name: "room", old: |d| many(d, 1), new: |d| many(d, 2), policy: WALK.policy };
    let mut most = 0;
    for workload in WORKLOADS.iter().filter(|workload| workload.name != "empty patch").chain([&room, &MANY]) {
        for (exchange, hard_links) in [(true, true), (false, true), (false, false)] {
            if workload.name == "hard-link group" && !hard_links {
                continue;
            }
            let how = Options { exchange, hard_links, ..options(Profile::Posix) };
            let prepared = Prepared::new(workload, how);
            let context = format!("{}, exchange {exchange}, hard links {hard_links}", workload.name);
            let act = |disk: &SimVfs| prepared.apply(&mut Engine::open(disk.clone())?, Settings::default());
            let (pages, inodes) = peak(&prepared.disk, act);
            let asked = (asked(&prepared.disk, Code::Space, act), asked(&prepared.disk, Code::Inodes, act));
            assert_eq!(asked.1, inodes, "inodes of {context}");
            let done = prepared.disk.fork();
            act(&done).unwrap();
            let bulky = bulky(&prepared.disk).symmetric_difference(&bulky(&done)).count() as u64;
            let zeros = done.read_file("zeros").map_or(0, |zeros| zeros.len() as u64 / PAGE);
            // Three folders, three blocks for what grows, and names.
            let names = 2 * 64 * prepared.built.changes as u64;
            let slack = 6 + names.div_ceil(PAGE) + bulky + zeros;
            assert!(
                (pages..=pages + slack).contains(&asked.0),
                "{context}: {pages} pages are taken, {} asked for, {slack} may be more",
                asked.0
            );
            most = most.max(asked.0 - pages);
            // Nothing that is checked later asks for more.
            assert_eq!(least(&prepared.disk, Code::Space, act), asked.0, "pages of {context}");
            assert_eq!(least(&prepared.disk, Code::Inodes, act), asked.1, "inodes of {context}");
        }
    }
    println!("at most {most} pages more are asked for than are taken");
}

/// What takes a block on file systems that this one is not: directories, and links with long texts.
fn bulky(disk: &SimVfs) -> BTreeSet<(TreePath, u64)> {
    let manifest = scan(disk, &WALK, &|_, _| ()).unwrap();
    let entries = manifest.entries().iter().map(|entry| (&entry.path, &entry.node.kind));
    let bulky = entries.filter_map(|(path, kind)| match kind {
        Kind::Directory => Some((path.clone(), 0)),
        Kind::Symlink { target } if target.len() >= 60 => Some((path.clone(), target.len() as u64)),
        _ => None,
    });
    bulky.collect()
}

/// A file of 14 MiB that only moved was charged with its length, although it is linked: with 10 MiB free the update was
/// refused.
#[test]
fn a_file_that_only_moves_takes_no_room() {
    for hard_links in [true, false] {
        let disk = SimVfs::with(Options { hard_links, ..options(Profile::Posix) });
        disk.write_file("a/big", vec![7; 400 * PAGE as usize]);
        let _ = recorded(&disk);
        let pages = least(&disk, Code::Space, |disk| {
            Tree::with(disk.clone())?.begin()?.rename("a/big", "b/moved").commit().map(drop)
        });
        assert_eq!(pages > 400, !hard_links, "{pages} pages");
    }
}

/// The 33rd update writes the manifest whole, and nothing had counted it: there was room for the update, said preflight,
/// and then there was none.
#[test]
fn a_manifest_that_is_written_whole_is_counted() {
    let disk = SimVfs::with(options(Profile::Posix));
    for n in 0..800 {
        disk.write_file(&format!("some/directory/with/a/longer/name/{n:04}"), "");
    }
    disk.write_file("a", "a");
    let mut engine = recorded(&disk);
    let change = |engine: &mut Engine<SimVfs>, mode| {
        let mut after = engine.manifest().unwrap().unwrap().get(&path("a")).unwrap().clone();
        after.metadata.mode = mode;
        let change = Change { path: path("a"), after: Some(after), source: Source::None };
        engine.commit(Request::new(vec![change], "mode"), &mut NoPayload, &()).map(drop)
    };
    for n in 0..31 {
        change(&mut engine, 0o600 + n).unwrap();
    }
    drop(engine);
    let longest = |disk: &SimVfs| {
        let files = disk.state_listing();
        let manifests = files.iter().filter(|path| path.starts_with("manifests/"));
        manifests.map(|path| disk.read_file(&format!(".surefoot/{path}")).unwrap().len() as u64).max().unwrap()
    };
    let act = |disk: &SimVfs| change(&mut Engine::open(disk.clone())?, 0o700);
    let ordinary = least(&disk, Code::Space, act);
    let mut whole = ordinary;
    for n in 0..3 {
        whole = whole.max(least(&disk, Code::Space, act));
        change(&mut Engine::open(disk.clone()).unwrap(), 0o650 + n).unwrap();
    }
    assert!(whole - ordinary >= longest(&disk) / PAGE, "{ordinary} pages, then {whole}");
}

/// The way back after a confirmation needs room for its plan. Where there is none it says so, and the tree stays new; the
/// way back from a trial needs none.
#[test]
fn going_back_on_a_full_disk_is_refused_before_it_begins() {
    for trial in [false, true] {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("a", vec![1; 20 * PAGE as usize]).write_file("b", "1");
        let _ = recorded(&disk);
        let mut tree = Tree::with(disk.clone()).unwrap();
        let change = if trial { tree.begin().unwrap().trial(3) } else { tree.begin().unwrap() };
        change.put("a", &vec![2; 20 * PAGE as usize][..]).remove("b").commit().unwrap();
        drop(tree);
        let pages = least(&disk, Code::Space, |disk| Tree::with(disk.clone())?.rollback().map(drop));
        assert!(if trial { pages == 0 } else { (1..10).contains(&pages) }, "{pages} pages, trial {trial}");
    }
}

#[test]
fn what_moves_is_linked_and_what_stays_is_not_read() {
    let disk = SimVfs::with(Options { trace: true, ..options(Profile::Posix) });
    disk.write_file("from/big", vec![9; 3 << 17]).write_file("stays/a", "a").write_file("stays/b", vec![1; 99_999]);
    disk.make_dir("to").write_file("changed", "1");
    let mut engine = recorded(&disk);
    let manifest = engine.manifest().unwrap().unwrap();
    let mut changed = manifest.get(&path("changed")).unwrap().clone();
    changed.metadata.mode = 0o600;
    let moved = manifest.get(&path("from/big")).cloned();
    let changes = vec![
        Change { path: path("to/moved"), after: moved, source: Source::Base(path("from/big")) },
        Change { path: path("changed"), after: Some(changed), source: Source::None },
        removal("from/big"),
    ];
    let done = disk.trace().len();
    engine.commit(Request::new(changes, "a move"), &mut NoPayload, &()).unwrap();
    let trace: Vec<String> = disk.trace()[done..].iter().map(|call| call.text.clone()).collect();
    assert_eq!(disk.read_file("to/moved").unwrap(), vec![9; 3 << 17]);
    assert!(trace.iter().any(|call| call.starts_with("link from/big -> state:")), "{trace:#?}");
    let written = |call: &String| -> Option<u64> {
        let (_, rest) = call.strip_prefix("write ")?.rsplit_once(", ")?;
        rest.split(' ').next()?.parse().ok()
    };
    let bytes: u64 = trace.iter().filter_map(written).sum();
    assert!(bytes > 0 && bytes < 20_000, "{bytes} bytes written: {trace:#?}");
    let stays: Vec<&String> = trace.iter().filter(|call| call.contains("stays")).collect();
    assert!(stays.is_empty(), "{stays:?}");
    // What moves is read to compare it, and again when it goes, since the link has changed the times of its inode.
    let reads = trace.iter().filter(|call| call.starts_with("read from/big")).count();
    assert_eq!(reads, 2 * 3, "{trace:#?}");
}

#[test]
fn as_many_updates_are_taken_back_as_are_kept() {
    for keep in 0..4_u32 {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("a", "0");
        drop(Engine::init(disk.clone(), Config { keep, ..Config::default() }, "1.0.0", None).unwrap());
        let mut tree = Tree::with(disk.clone()).unwrap();
        let content = |disk: &SimVfs| disk.read_file("a").unwrap();
        for n in 1..=5_u32 {
            tree.begin().unwrap().put("a", n.to_string().as_bytes()).commit().unwrap();
        }
        let mut boots = disk.reboot_clean();
        for back in 1..=keep {
            let mut tree = Tree::with(boots.clone()).unwrap();
            tree.rollback().unwrap();
            assert_eq!(content(&boots), (5 - back).to_string().as_bytes(), "keep {keep}");
            boots = boots.reboot_clean();
        }
        let error = Tree::with(boots.clone()).unwrap().rollback().unwrap_err();
        assert_eq!(error.code(), Code::NoUndo, "keep {keep}");
        assert_eq!(content(&boots), (5 - keep).to_string().as_bytes(), "keep {keep}");
        // A trial is taken back, whatever is kept; once it is confirmed, what is kept counts.
        tree.begin().unwrap().trial(3).put("a", &b"trial"[..]).commit().unwrap();
        tree.rollback().unwrap();
        assert_eq!(content(&disk), b"5");
        tree.begin().unwrap().trial(3).put("a", &b"trial"[..]).commit().unwrap();
        tree.confirm().unwrap();
        let plans = disk.state_listing().iter().filter(|path| path.ends_with("/plan")).count();
        assert_eq!(plans, keep as usize, "{:?}", disk.state_listing());
        assert_eq!(tree.rollback().is_ok(), keep > 0);
    }
}

/// What was made by somebody whose group has another number than he has was to belong to a group of his own number: the
/// update failed, or the file had the wrong group.
#[test]
fn what_is_new_belongs_to_the_group_of_its_maker() {
    let disk = SimVfs::with(Options { user: 1000, group: Some(100), ..options(Profile::Posix) });
    drop(Engine::init(disk.clone(), Config { owner: true, ..Config::default() }, "", None).unwrap());
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().put("d/a", &b"a"[..]).symlink("l", "d/a").commit().unwrap();
    for at in ["d", "d/a", "l"] {
        let stat = disk.stat(&surefoot::vfs::Place::tree(&path(at))).unwrap().unwrap();
        assert_eq!((stat.uid, stat.gid), (1000, 100), "{at}");
    }
    tree.rollback().unwrap();
    assert!(!disk.exists("d") && !disk.exists("l"));
}

/// A sweep that failed once left a process that runs for long with a transaction that was over but never ended: every
/// further update was refused as pending.
#[test]
fn a_sweep_that_failed_is_made_up_for_by_the_next_update() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "1").write_file("b", "1");
    let manifest = scan(&disk, &WALK, &|_, _| ()).unwrap();
    let config = Config { keep: 0, ..Config::default() };
    drop(Engine::init(disk.clone(), config, "1.0.0", Some(&manifest)).unwrap());
    let mut tree = Tree::with(disk.clone()).unwrap();
    type Next = fn(&mut Tree<SimVfs>) -> Result<Report, Error>;
    let by_tree: Next = |tree| tree.begin()?.put("a", &b"3"[..]).commit();
    let by_engine: Next = |tree| tree.engine().commit(Request::new(vec![removal("b")], "removal"), &mut NoPayload, &());
    for next in [by_tree, by_engine] {
        tree.begin().unwrap().trial(3).put("a", &b"2"[..]).commit().unwrap();
        let slots = disk.state_listing().into_iter().find(|path| path.contains("/slots/")).unwrap();
        let slot = format!(".surefoot/{slots}");
        disk.set_immutable(&slot, true);
        tree.confirm().unwrap();
        assert_eq!(tree.engine().status().unwrap().state, "closing");
        assert_eq!(next(&mut tree).unwrap_err().code(), Code::Pending, "as long as it cannot be swept");
        disk.set_immutable(&slot, false);
        next(&mut tree).unwrap();
        assert_eq!(tree.engine().status().unwrap().state, "idle");
        assert!(!disk.exists(&slot), "{:?}", disk.state_listing());
    }
}

/// Everything was durable, and then `init` failed since it could not write a line for people: who tried again was told
/// that the tree is under care already.
#[test]
fn a_tree_is_under_care_although_its_history_cannot_be_written() {
    let disk = SimVfs::with(Options { seed: seed(), ..options(Profile::Posix) });
    disk.write_file("a", "1").make_dir(".surefoot/history");
    let engine = recorded(&disk);
    assert_eq!(engine.status().unwrap().version, "1.0.0");
    drop(engine);
    let kind = disk.stat(&surefoot::vfs::Place::tree(&path(".surefoot/history"))).unwrap().unwrap().kind;
    assert_eq!(kind, FileType::Directory);
    Tree::with(disk).unwrap().begin().unwrap().put("a", &b"2"[..]).commit().unwrap();
}

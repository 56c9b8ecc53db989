//! Somebody else who writes into the tree at the worst moment: between a look and the rename that it was for.
//!
//! The engine reports its progress just then, so whoever listens can be that somebody.

use super::oracle::{Act, perform, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{options, seed};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use surefoot::Error;
use surefoot::device::{Engine, Observer, Phase, Progress, Settings, Transaction, Tree, peek};
use surefoot::error::Code;
use surefoot::transaction::Recovery;
use surefoot::vfs::sim::{Budget, Options, Profile, Side};
use surefoot::vfs::{FileType, Place, SimVfs, Stat, Vfs};

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
    type Act = fn(&SimVfs);
    let other_file: Act = |disk| _ = disk.remove_all("a").write_file("a", "mine");
    let filled: Act = |disk| _ = disk.write_file("d/x", "mine");
    let cases: [(&str, Change, Act, &str); 5] = [
        ("a file is created", |change| change.put("n", &b"new"[..]), |disk| _ = disk.write_file("n", "mine"), "n"),
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

/// Each step looks again: at what it replaces, and at what it puts there.
#[test]
fn what_has_changed_since_the_first_step_is_seen_by_the_next() {
    let in_place: fn(&SimVfs) = |disk| _ = disk.write_file("z", "mine");
    let another: fn(&SimVfs) = |disk| _ = disk.remove_all("z").write_file("z", "mine");
    let unstaged: fn(&SimVfs) = |disk| {
        let of_z = |path: &String| disk.read_file(path).as_deref() == Some(b"neuz");
        disk.remove_all(&stored(disk).find(of_z).unwrap());
    };
    for exchange in [true, false] {
        for (act, is_his) in [(in_place, true), (another, true), (unstaged, false)] {
            let disk = SimVfs::with(Options { exchange, ..options(Profile::Posix) });
            disk.write_file("a", "olda").write_file("z", "oldz");
            let wanted = disk.fork();
            if is_his {
                act(&wanted);
            }
            let error = commit(&disk, |change| change.put("a", &b"neua"[..]).put("z", &b"neuz"[..]), act);
            assert_eq!(error.code(), Code::RolledBack, "{error:?}");
            assert!(disk.snapshot() == wanted.snapshot(), "{:?}", disk.snapshot().difference(&wanted.snapshot()));
        }
    }
}

/// A step back stops at what is neither old nor new, and so does one that sets metadata.
#[test]
fn what_has_changed_since_the_first_step_back_stops_the_next() {
    type Change = for<'a> fn(Transaction<'a, SimVfs>) -> Transaction<'a, SimVfs>;
    type Act = fn(&SimVfs);
    let contents: Change = |change| change.put("a", &b"new"[..]).put("z", &b"new"[..]);
    let modes: Change = |change| change.set_mode("a", 0o600).set_mode("z", 0o600);
    let cases: [(Change, Act); 2] = [
        (contents, |disk| _ = disk.remove_all("a").write_file("a", "mine")),
        (modes, |disk| _ = disk.chmod("z", 0o641)),
    ];
    for (change, act) in cases {
        let disk = SimVfs::with(options(Profile::Posix));
        disk.write_file("a", "olda").write_file("z", "oldz");
        let mut tree = Tree::with(disk.clone()).unwrap();
        change(tree.begin().unwrap().trial(3)).commit().unwrap();
        let stranger = stranger(&disk, Phase::Revert, act);
        let error = tree.engine().rollback(&stranger).unwrap_err();
        assert!(stranger.came.load(Ordering::Relaxed));
        assert_eq!(error.code(), Code::Stuck, "{error:?}");
        let theirs = disk.fork();
        act(&theirs);
        assert!(disk.snapshot() == theirs.snapshot(), "{:?}", disk.snapshot().difference(&theirs.snapshot()));
    }
}

/// A directory that came with the update is filled while it is taken back: what is in it stays.
#[test]
fn a_directory_that_is_filled_while_it_is_taken_back_stays() {
    let disk = SimVfs::with(options(Profile::Posix));
    disk.write_file("a", "a");
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().trial(3).make_dir("d").commit().unwrap();
    let filled = disk.fork();
    filled.write_file("d/x", "mine");
    let error = Engine::open(filled.clone()).unwrap().rollback(&()).unwrap_err();
    assert_eq!(error.code(), Code::Stray, "{error:?}");
    assert_eq!(recover(&filled).unwrap().state, "trial");
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

/// What a stranger does to one path, of the tree or of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    Remove,
    /// Another file of the same length and mode, with another content.
    Replace,
    /// Another mode.
    Mark,
}

/// Content that no version has.
const MINE: &[u8] = b"mine";

impl Meddling {
    fn on(self, disk: &SimVfs, path: &str) {
        let content = disk.read_file(path);
        let Stat { kind, mode, .. } = disk.stat(&Place::parse(path).unwrap()).unwrap().unwrap();
        match self {
            // A link has no mode of its own, and a slot may hold another name of what is in the tree.
            Self::Mark if kind == FileType::Symlink || path.starts_with(".surefoot") => {}
            Self::Mark => _ = disk.chmod(path, 0o641),
            Self::Remove => _ = disk.remove_all(path),
            Self::Replace => {
                let mut mine = MINE.to_vec();
                mine.resize(content.map_or(MINE.len(), |content| content.len()).max(MINE.len()), b'!');
                disk.remove_all(path).write_file(path, mine).chmod(path, mode);
            }
        }
    }
}

/// Where strangers' content stands in the tree.
fn mine(disk: &SimVfs) -> Vec<String> {
    let is_mine = |path: &String| disk.read_file(path).is_some_and(|content| content.starts_with(MINE));
    disk.snapshot().paths().into_iter().filter(is_mine).collect()
}

/// Is the tree all old or all new, but for what was meddled with?
fn whole_but(prepared: &Prepared, disk: &SimVfs, meddled: &str) -> Result<(), String> {
    let near = |path: &str| {
        let below = |a: &str, b: &str| match b {
            "." => !a.starts_with(".surefoot/"),
            _ => a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/')),
        };
        path == meddled || below(path, meddled) || below(meddled, path)
    };
    let found = prepared.snapshot(disk).between(&prepared.old, &prepared.new);
    let sides: BTreeSet<Side> = found.iter().filter(|found| !near(&found.path)).map(|found| found.side).collect();
    if sides.len() > 1 || sides.contains(&Side::Neither) { Err(format!("mixed: {found:#?}")) } else { Ok(()) }
}

/// One moment of an act, one path meddled with while the power is off.
fn meddle(prepared: &Prepared, disk: &SimVfs, path: &str, meddling: Meddling) -> Result<bool, String> {
    // What he destroys himself is not missed, also where it is in use elsewhere for the other version.
    let below = format!("{path}/");
    let here = disk.snapshot().paths().into_iter().chain([path.to_owned()]);
    let here = here.filter(|other| other == path || other.starts_with(&below));
    let destroyed: BTreeSet<_> = here.filter_map(|other| disk.read_file(&other)).collect();
    meddling.on(disk, path);
    let disk = disk.reboot_clean();
    let check = |what: &str, result: Result<(), String>, before: &SimVfs| {
        let theirs = mine(before);
        if mine(&disk) != theirs {
            return Err(format!("{what}: theirs stood at {theirs:?}, and stands at {:?}", mine(&disk)));
        }
        match result {
            Ok(()) => whole_but(prepared, &disk, path).map_err(|error| format!("{what}: {error}")).map(|()| true),
            // There is no way on, but the old version is still all there, in the tree or in the store.
            Err(_) => {
                let (had, has) = (contents(before), contents(&disk));
                let old = &contents(&prepared.disk) - &destroyed;
                let lost = old.iter().find(|content| had.contains(*content) && !has.contains(*content));
                lost.map_or(Ok(false), |lost| Err(format!("{what}: stopped, but it lost {}", lost.escape_ascii())))
            }
        }
    };
    let before = disk.fork();
    if !check("recovery", recover(&disk).map(drop), &before)? {
        return Ok(false);
    }
    let before = disk.fork();
    let back = Engine::open(disk.clone()).and_then(|mut engine| engine.rollback(&()).map(drop));
    let refused = back.is_err();
    check("going back", back.map_err(|error| error.to_string()), &before)?;
    if refused && disk.snapshot() != before.snapshot() {
        return Err(format!(
            "going back was refused, but changed the tree: {:?}",
            disk.snapshot().difference(&before.snapshot())
        ));
    }
    Ok(true)
}

/// Every content that stands in tree or store.
fn contents(disk: &SimVfs) -> BTreeSet<Vec<u8>> {
    disk.snapshot().paths().into_iter().chain(stored(disk)).filter_map(|path| disk.read_file(&path)).collect()
}

/// What is stored: new objects and old ones.
fn stored(disk: &SimVfs) -> impl Iterator<Item = String> {
    let slots = disk.state_listing().into_iter().filter(|path| path.contains("slots/") || path.contains("aside/"));
    slots.map(|path| if path.starts_with(".surefoot") { path } else { format!(".surefoot/{path}") })
}

/// At every call of an act the power fails, and somebody removes or replaces one thing of tree or store. Recovery ends
/// old or new but for that, or stops; either way what is theirs stays where it is and goes nowhere else, and nothing of
/// the tree is lost. The same for going back.
#[test]
fn whatever_one_stranger_does_to_tree_or_store_he_breaks_nothing_else() {
    let cases: Vec<_> = WORKLOADS
        .iter()
        .filter(|workload| workload.name != "hard-link group")
        .flat_map(|workload| [Act::Apply, Act::Reject].map(|act| (workload, act)))
        .flat_map(|(workload, act)| [true, false].map(|exchange| (workload, act, exchange)))
        .collect();
    let results: Result<Vec<(u64, u64)>, String> = cases
        .into_par_iter()
        .map(|(workload, act, exchange)| {
            let prepared = Prepared::new(workload, Options { exchange, ..options(Profile::Posix) });
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let (mut recovered, mut stopped) = (0, 0);
            for crash_at in 0..whole.calls() {
                let cut = prepared.disk.fork();
                cut.crash_at(crash_at);
                perform(act, &prepared, &cut);
                let (images, _) = cut.crash_images(&Budget::sample(0, seed()));
                let disk = images[images.len() - 1].mount();
                for path in disk.snapshot().paths().into_iter().chain(stored(&disk)) {
                    for meddling in [Meddling::Remove, Meddling::Replace, Meddling::Mark] {
                        match meddle(&prepared, &disk.fork(), &path, meddling) {
                            Ok(true) => recovered += 1,
                            Ok(false) => stopped += 1,
                            Err(message) => {
                                return Err(format!(
                                    "{} {act:?}, exchange {exchange}, call {crash_at}, {meddling:?} {path}, seed {}: {message}",
                                    workload.name,
                                    seed()
                                ));
                            }
                        }
                    }
                }
            }
            Ok((recovered, stopped))
        })
        .collect();
    let results = results.unwrap_or_else(|failure| panic!("{failure}"));
    let sum = results.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("strangers: {} recovered, {} stopped, seed {}", sum.0, sum.1, seed());
    assert!(sum.0 > 1000 && sum.1 > 100, "{sum:?}");
}

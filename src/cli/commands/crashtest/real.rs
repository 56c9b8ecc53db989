//! `crashtest --real`: the same package on real file systems whose disk loses its power.

use super::{Chosen, require_promised};
use crate::cli::args::{Crashtest, RealDisk};
use crate::cli::files::failed;
use crate::cli::lab::{self, Act, FILE_SYSTEMS, FileSystem, Found, Hunt, Orders, Snapshot, Tally, Update};
use crate::cli::output::{Output, bytes};
use crate::device::{Config, Engine};
use crate::error::{Code, Error};
use crate::limits;
use crate::tree;
use crate::vfs::{Access, OsVfs, Vfs as _};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Workers on each file system: mounting is mostly waiting.
const WORKERS: u64 = 2;
/// Violations after which a worker has enough.
const ENOUGH: u64 = 5;
/// What the package is called in the names of states.
const NAME: &str = "package";

#[derive(Serialize)]
struct Real<'a> {
    file_system: &'a str,
    #[serde(flatten)]
    tally: &'a Tally,
}

#[derive(Serialize)]
struct Summary<'a> {
    package: String,
    base: String,
    from: &'a str,
    to: &'a str,
    seed: u64,
    seconds: u64,
    file_systems: Vec<&'a str>,
    #[serde(flatten)]
    tally: &'a Tally,
}

pub(super) fn run(asked: &Crashtest, chosen: Chosen, output: &Output) -> Result<(), Error> {
    let systems = file_systems(&asked.real)?;
    let size = chosen.size;
    let update = Arc::new(prepare(asked, chosen)?);
    if let Some(state) = &asked.replay {
        return replay(asked, &update, state, output);
    }
    let tasks = systems.iter().flat_map(|fs| (0..WORKERS).map(move |worker| (*fs, worker)));
    let tallies: Vec<(&str, Result<Tally, String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = tasks
            .map(|(fs, worker)| {
                let orders = Orders { worker, ..orders(asked, fs, &update, size) };
                (fs.name, scope.spawn(move || Hunt::new(orders)?.run()))
            })
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err("a worker of the lab broke down".to_owned()))
        };
        workers.into_iter().map(|(name, worker)| (name, join(worker))).collect()
    });
    let mut all = Tally::default();
    let mut by_system: Vec<(&str, Tally)> = Vec::new();
    for (name, tally) in tallies {
        let tally = tally.map_err(|error| broken(format!("{name}: {error}")))?;
        all.add(&tally);
        match by_system.last_mut() {
            Some((last, sum)) if *last == name => sum.add(&tally),
            _ => by_system.push((name, tally)),
        }
    }
    tell(asked, &update, &by_system, &all, output)
}

/// Those that are asked for; an error if one of them, or the lab, cannot be had here.
fn file_systems(asked: &[RealDisk]) -> Result<Vec<&'static FileSystem>, Error> {
    let missing = |why: String| Error::new(Code::NoLab, why);
    if let Some(why) = lab::lacking() {
        return Err(missing(why));
    }
    let wanted = |fs: &&FileSystem| asked.iter().any(|disk| disk.kind() == fs.kind);
    let systems: Vec<&'static FileSystem> = FILE_SYSTEMS.iter().filter(wanted).collect();
    match systems.iter().find_map(|fs| fs.missing()) {
        Some(why) => Err(missing(why)),
        None => Ok(systems),
    }
}

fn orders(asked: &Crashtest, fs: &'static FileSystem, update: &Arc<Update>, size: u64) -> Orders {
    Orders {
        file_system: fs,
        // The tree twice, and what is staged of it.
        room_mib: size.div_ceil(1 << 20) * 3,
        updates: vec![update.clone()],
        acts: Act::ALL.to_vec(),
        seed: asked.seed,
        worker: 0,
        time: Duration::from_secs(asked.seconds),
        alone: false,
        ignored: asked.ignore_sync.map(|sync| format!("syncfs:retval=0:when={}", sync.saturating_add(1))),
        enough: ENOUGH,
        kept: asked.keep.clone(),
    }
}

/// The update as the lab knows it: what the package touches of the base, before and after.
fn prepare(asked: &Crashtest, chosen: Chosen) -> Result<Update, Error> {
    let text = |error: Error| format!("{}: {error}", error.code().as_str());
    if chosen.size > limits::CRASHTEST_REAL_BYTES {
        let most = bytes(limits::CRASHTEST_REAL_BYTES);
        let what = format!("the package touches {}, and the lab takes at most {most}", bytes(chosen.size));
        return Err(Error::new(Code::Limit, what));
    }
    if chosen.from == chosen.to {
        let what = format!("from {0} to {0}: the lab could not tell what is installed", chosen.from);
        return Err(Error::new(Code::Usage, what));
    }
    let Chosen { base, old, target, from, to, paths, .. } = chosen;
    let (old, paths) = (Arc::new(old), Arc::new(paths));
    let times = old.policy().mtime;
    let build = {
        let (old, paths) = (old.clone(), paths.clone());
        move |root: &Path| -> Result<(), String> {
            let to = OsVfs::open_tree(root).map_err(|error| error.to_string())?;
            let copied = tree::copy(&to, &old, &paths, &|at| {
                tree::copy_bytes((&base, &base.open(at, Access::Read)?), (&to, &to.create(at)?))
            });
            copied.map_err(|error| error.to_string())
        }
    };
    let take = {
        let (old, from) = (old.clone(), from.clone());
        move |root: &Path| -> Result<(), String> {
            let vfs = OsVfs::open_or_create_state(root, &root.join(".surefoot")).map_err(|error| error.to_string())?;
            let config = Config { owner: old.policy().owner, mtime: times, ..Config::default() };
            Engine::init(vfs, config, &from, Some(&old)).map(drop).map_err(text)
        }
    };
    let program = std::env::current_exe().map_err(|error| broken(format!("this program: {error}")))?;
    let package = std::fs::canonicalize(&asked.package).map_err(|error| failed("open", &asked.package, error))?;
    let scratch = lab::Scratch::new().map_err(broken)?;
    let [before, after] = ["old", "new"].map(|name| scratch.path().join(name));
    for root in [&before, &after] {
        std::fs::create_dir(root).map_err(|error| failed("create", root, error))?;
        build(root).map_err(broken)?;
    }
    let snapshot = Snapshot::of(&before, times).map_err(broken)?;
    take(&after).map_err(broken)?;
    lab::apply(&program, &after, &package).map_err(broken)?;
    let vfs = OsVfs::open(&after, &after.join(".surefoot"))?;
    let expected = Engine::open(OsVfs::open(&after, &after.join(".surefoot"))?)?.expected()?;
    require_promised(&vfs, expected, target, &paths)?;
    Ok(Update {
        name: NAME.to_owned(),
        program,
        package,
        from,
        to,
        old: snapshot,
        new: Snapshot::of(&after, times).map_err(broken)?,
        times,
        whole: old.entries().len() == paths.len(),
        build: Box::new(build),
        take: Box::new(take),
    })
}

/// Judges a state that was kept once more.
fn replay(asked: &Crashtest, update: &Arc<Update>, state: &str, output: &Output) -> Result<(), Error> {
    let fs = FileSystem::named(state.split('.').next().unwrap_or_default());
    let fs = fs.ok_or_else(|| Error::new(Code::Usage, format!("{state:?} names no state")))?;
    // The disk is as large as the one that was kept.
    let mut hunt = Hunt::new(orders(asked, fs, update, 0)).map_err(broken)?;
    let wrong = hunt.replay(update, state).map_err(broken)?;
    wrong.iter().for_each(|wrong| output.line(format_args!("{state}: {wrong}")));
    match wrong.len() {
        0 => {
            output.line(format_args!("{state}: as it should be"));
            output.result(&serde_json::json!({ "state": state }));
            Ok(())
        }
        _ => Err(Error::new(Code::Violation, format!("{state} breaks a promise"))),
    }
}

fn tell(
    asked: &Crashtest,
    update: &Update,
    by_system: &[(&str, Tally)],
    all: &Tally,
    output: &Output,
) -> Result<(), Error> {
    output.line(format_args!(
        "{}: {} -> {} on {}, seed {}, {} s",
        asked.package.display(),
        update.from,
        update.to,
        asked.base.display(),
        asked.seed,
        asked.seconds
    ));
    output.line(format_args!(
        "{:<15} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "file system", "recordings", "cuts", "judged", "nested", "old", "trial", "new", "violations"
    ));
    for (name, tally) in by_system {
        output.line(format_args!(
            "{name:<15} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10}",
            tally.recordings,
            tally.cuts,
            tally.states,
            tally.nested,
            tally.ended("old"),
            tally.ended("trial"),
            tally.ended("new"),
            tally.found.len()
        ));
        output.item("file-system", &Real { file_system: name, tally });
    }
    for Found { state, message } in &all.found {
        output.line(format_args!("violation {state}: {message}"));
    }
    if !all.found.is_empty() {
        if let Some(directory) = &asked.keep {
            output.line(format_args!("to see one again: --keep {} --replay STATE", directory.display()));
        }
        return Err(Error::new(Code::Violation, format!("{} states break a promise", all.found.len())));
    }
    output.line(format_args!("{} states were recovered, none mixed after it", all.states));
    output.result(&Summary {
        package: asked.package.display().to_string(),
        base: asked.base.display().to_string(),
        from: &update.from,
        to: &update.to,
        seed: asked.seed,
        seconds: asked.seconds,
        file_systems: by_system.iter().map(|(name, _)| *name).collect(),
        tally: all,
    });
    Ok(())
}

fn broken(why: String) -> Error {
    Error::new(Code::Io, why)
}

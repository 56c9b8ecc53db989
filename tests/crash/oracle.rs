//! What must hold of a disk after a crash.

use crate::crash::workload::Prepared;
use surefoot::device::{Engine, Settings, Status};
use surefoot::vfs::SimVfs;

/// What an act does, one call after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Apply and confirm at once.
    Apply,
    /// Apply on trial, then confirm.
    Confirm,
    /// Apply on trial, then go back.
    Reject,
    /// Apply and confirm at once, then go back.
    Undo,
}

pub(super) const ACTS: [Act; 4] = [Act::Apply, Act::Confirm, Act::Reject, Act::Undo];

/// What was promised to the caller, and what may be of the tree therefore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nothing yet: old or new.
    Nothing,
    /// It was applied on trial.
    Trial,
    /// It is new for ever.
    New,
    /// Going back has begun: from new or trial, to old.
    GoingBack,
    /// It is old for ever.
    Old,
}

fn settings(trial: bool) -> Settings {
    Settings { trial, attempts: 2, ..Settings::default() }
}

/// Does an act; errors end it.
pub(super) fn perform(act: Act, prepared: &Prepared, vfs: &SimVfs) -> (Promise, Option<surefoot::Error>) {
    let mut promise = Promise::Nothing;
    let result = (|| {
        let mut engine = Engine::open(vfs.clone())?;
        engine.recover(&())?;
        prepared.apply(&mut engine, settings(matches!(act, Act::Confirm | Act::Reject)))?;
        match act {
            Act::Apply => promise = Promise::New,
            Act::Confirm => {
                promise = Promise::Trial;
                engine.confirm(&())?;
                promise = Promise::New;
            }
            Act::Reject | Act::Undo => {
                promise = Promise::GoingBack;
                engine.rollback(&())?;
                promise = Promise::Old;
            }
        }
        Ok(())
    })();
    (promise, result.err())
}

/// Recovers and checks everything: present, honest, quiet, clean, futures.
pub(super) fn judge(prepared: &Prepared, vfs: &SimVfs, promise: Promise) -> Result<(), String> {
    let status = recover(vfs)?;
    present(prepared, vfs, promise, &status)?;
    // Quiet: a second recovery in the same session writes nothing.
    let before = vfs.mutations();
    recover(vfs)?;
    if vfs.mutations() != before {
        return Err(format!("not quiet: a second recovery made {} changes", vfs.mutations() - before));
    }
    clean(vfs, &status)?;
    futures(prepared, vfs, &status)
}

/// One uninterrupted recovery.
pub(super) fn recover(vfs: &SimVfs) -> Result<Status, String> {
    let show = |error: surefoot::Error| {
        format!(
            "recovery failed: {}: {error}: {:?}",
            error.code().as_str(),
            std::error::Error::source(&error).map(ToString::to_string)
        )
    };
    let mut engine = Engine::open(vfs.clone()).map_err(show)?;
    engine.recover(&()).map_err(show)?;
    engine.status().map_err(show)
}

/// The tree is exactly old or new, as promised, and as reported.
pub(super) fn present(prepared: &Prepared, vfs: &SimVfs, promise: Promise, status: &Status) -> Result<(), String> {
    let tree = prepared.snapshot(vfs);
    let (is_old, is_new) = (tree == prepared.old, tree == prepared.new);
    if !is_old && !is_new {
        return Err(format!(
            "mixed tree: against old {:?}; against new {:?}",
            tree.difference(&prepared.old),
            tree.difference(&prepared.new)
        ));
    }
    let trial = status.state == "trial";
    let kept = match promise {
        Promise::Nothing => true,
        Promise::Trial => is_new,
        Promise::GoingBack => true,
        Promise::New => is_new && !trial,
        Promise::Old => is_old && !trial,
    };
    if !kept {
        return Err(format!("promised {promise:?}, but the tree is {}", if is_old { "old" } else { "new" }));
    }
    // Honest: what is reported is what is there.
    let reported = match (trial, status.version.as_str()) {
        (true, "1.0.0") | (false, "2.0.0") => is_new,
        (false, "1.0.0") => is_old,
        _ => false,
    };
    if !reported || !(trial || status.state == "idle") {
        return Err(format!("reported {} in state {}, which is not what the tree is", status.version, status.state));
    }
    Ok(())
}

/// Nothing is left but what the generations need.
fn clean(vfs: &SimVfs, status: &Status) -> Result<(), String> {
    let listing = vfs.state_listing();
    let count = |tail: &str| listing.iter().filter(|path| path.ends_with(tail)).count();
    let odd: Vec<_> = listing
        .iter()
        .filter(|path| {
            let known = ["journal", "lock", "config", "history", "scratch", "manifests", "generations", "poison"];
            let first = path.trim_start_matches(".surefoot/").split('/').next().unwrap_or_default();
            !known.contains(&first) && !path.trim_end_matches('/').ends_with(".surefoot")
        })
        .collect();
    if !odd.is_empty() {
        return Err(format!("not clean: {odd:?}"));
    }
    let (states, plans) = (count("/state"), count("/plan"));
    let expected = match (status.state, status.version.as_str()) {
        ("idle", "1.0.0") => (1, 0),
        ("idle", "2.0.0") | ("trial", _) => (2, 1),
        _ => (0, 0),
    };
    if (states, plans) != expected {
        return Err(format!("not clean: {states} states and {plans} plans, expected {expected:?}: {listing:#?}"));
    }
    Ok(())
}

/// From here everything that should be possible is: confirm, go back, apply, and another boot agrees.
fn futures(prepared: &Prepared, vfs: &SimVfs, status: &Status) -> Result<(), String> {
    let after = |what: &str, disk: SimVfs, want_new: bool| -> Result<(), String> {
        let disk = disk.reboot_clean();
        let status = recover(&disk).map_err(|error| format!("after {what}: {error}"))?;
        let promise = if want_new { Promise::New } else { Promise::Old };
        present(prepared, &disk, promise, &status).map_err(|error| format!("after {what}: {error}"))?;
        clean(&disk, &status).map_err(|error| format!("after {what}: {error}"))
    };
    let act = |what: &str, want_new: bool, act: &dyn Fn(&mut Engine<SimVfs>) -> Result<(), surefoot::Error>| {
        let disk = vfs.fork();
        let mut engine = Engine::open(disk.clone()).map_err(|error| format!("{what}: {error}"))?;
        act(&mut engine).map_err(|error| {
            format!(
                "{what}: {}: {error}: {:?}",
                error.code().as_str(),
                std::error::Error::source(&error).map(ToString::to_string)
            )
        })?;
        drop(engine);
        after(what, disk, want_new)
    };
    match (status.state, status.version.as_str()) {
        ("trial", _) => {
            act("confirm", true, &|engine| engine.confirm(&()))?;
            act("rollback", false, &|engine| engine.rollback(&()).map(drop))?;
            // Boots without a decision lead back.
            let mut disk = vfs.fork();
            for _ in 0..3 {
                disk = disk.reboot_clean();
                recover(&disk)?;
            }
            after("boots without a decision", disk, false)
        }
        ("idle", "2.0.0") => act("undo", false, &|engine| engine.rollback(&()).map(drop)),
        _ => act("apply again", true, &|engine| prepared.apply(engine, settings(false))),
    }
}

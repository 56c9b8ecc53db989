//! Sweeping: removing what no generation that is kept needs. It never deletes what it does not know.

use super::executor::current;
use super::history;
use super::layout::{self, Id};
use super::store;
use super::store::Generation;
use crate::error::Error;
use crate::limits;
use crate::transaction::{Plan, Record, State};
use crate::vfs::{FileType, Place, Rename, Vfs};
use std::collections::BTreeSet;

/// Ends a transaction: notes what happened, then removes what it leaves behind.
pub(super) fn sweep<V: Vfs>(vfs: &V, header: Id, records: &[Record], state: State, keep: u32) -> Result<(), Error> {
    // First, since it reads what the rest removes; but nothing depends on it, and the rest may free what it lacks.
    if let Err(error) = history::note(vfs, records, state) {
        tracing::warn!(error = %error, "the history cannot be written");
    }
    collect(vfs, current(header, records), keep)
}

/// Removes every folder and manifest that the kept generations do not need.
pub(super) fn collect<V: Vfs>(vfs: &V, current: Id, keep: u32) -> Result<(), Error> {
    let mut with_undo = BTreeSet::new();
    let mut generations = BTreeSet::new();
    let mut manifests = BTreeSet::new();
    let mut next = Some(current);
    let (mut depth, mut changes, mut empty) = (0, 0, 0);
    while let Some(id) = next {
        if depth > 0 && vfs.stat(&layout::generation_state(id))?.is_none() {
            break;
        }
        let generation = match Generation::read(vfs, id) {
            Err(error) if depth > 0 => {
                // What it needs is not known, so nothing is removed; the next transaction does without it.
                tracing::warn!(error = %error, "an earlier generation cannot be read");
                return Ok(());
            }
            read => read?,
        };
        generations.insert(id);
        manifests.extend(generation.manifests.iter().copied());
        if changes == keep {
            break;
        }
        with_undo.insert(id);
        // An update that changed nothing but the version must not displace what can take back one that did.
        if empty < limits::EMPTY_UPDATES && is_empty(vfs, id) {
            empty += 1;
        } else {
            changes += 1;
        }
        depth += 1;
        next = generation.parent;
    }
    for name in sorted(vfs, &layout::generations())? {
        match layout::unhex(&name) {
            Some(id) if with_undo.contains(&id) => {}
            Some(id) => remove_generation(vfs, id, generations.contains(&id))?,
            None => {}
        }
    }
    for name in sorted(vfs, &layout::manifests())? {
        if let Some(id) = layout::unhex(&name).filter(|id| !manifests.contains(id)) {
            vfs.remove_file(&layout::manifest(id))?;
        }
    }
    Ok(())
}

/// Has a generation been made by an update without steps? Where that cannot be told it counts as any other.
fn is_empty<V: Vfs>(vfs: &V, id: Id) -> bool {
    // The header of a plan has 113 bytes.
    store::read_start(vfs, &layout::plan(id), 128).is_ok_and(|bytes| Plan::is_empty(&bytes))
}

/// Removes the undo data of a generation, and unless `keep_state` the generation as well.
fn remove_generation<V: Vfs>(vfs: &V, id: Id, keep_state: bool) -> Result<(), Error> {
    if vfs.stat(&layout::plan(id))?.is_some() {
        vfs.remove_file(&layout::plan(id))?;
    }
    for directory in [layout::slots(id), layout::asides(id)] {
        if vfs.stat(&directory)?.is_none() {
            continue;
        }
        // From the last to the first: nothing depends on it, but the order is always the same.
        for name in sorted(vfs, &directory)?.into_iter().rev() {
            if let Ok(path) = directory.path.join(&name) {
                remove_object(vfs, id, &Place { root: directory.root, path })?;
            }
        }
        vfs.remove_dir(&directory)?;
    }
    if !keep_state {
        if vfs.stat(&layout::generation_state(id))?.is_some() {
            vfs.remove_file(&layout::generation_state(id))?;
        }
        vfs.remove_dir(&layout::generation(id))?;
    }
    Ok(())
}

/// Removes one stored object. A directory that holds something was filled by somebody else: it is set aside.
pub(super) fn remove_object<V: Vfs>(vfs: &V, id: Id, at: &Place) -> Result<(), Error> {
    match vfs.stat(at)? {
        None => Ok(()),
        Some(stat) if stat.kind != FileType::Directory => Ok(vfs.remove_file(at)?),
        Some(_) if vfs.list(at)?.is_empty() => Ok(vfs.remove_dir(at)?),
        Some(_) => {
            super::store::ensure_dir(vfs, &layout::set_asides())?;
            let to = layout::set_aside(id, at);
            tracing::warn!(path = %to, "a directory that was to be removed holds something unknown and is set aside");
            Ok(vfs.rename(at, &to, Rename::NoReplace)?)
        }
    }
}

fn sorted<V: Vfs>(vfs: &V, at: &Place) -> Result<Vec<Box<[u8]>>, Error> {
    let mut names = vfs.list(at)?;
    names.sort();
    Ok(names)
}

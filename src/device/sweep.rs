//! Sweeping: removing what no generation that is kept needs. It never deletes what it does not know.

use super::executor::{self, current};
use super::history;
use super::layout::{self, Id};
use super::store;
use super::store::Generation;
use crate::codec::v1;
use crate::error::Error;
use crate::limits;
use crate::transaction::{Outcome, Plan, Record, State};
use crate::vfs::{FileType, Place, Rename, Vfs};
use std::collections::BTreeSet;

/// Ends a transaction: notes what happened, then removes what it leaves behind.
pub(super) fn sweep<V: Vfs>(vfs: &V, header: Id, records: &[Record], state: State, keep: u32) -> Result<(), Error> {
    // First, since it reads what the rest removes; but nothing depends on it, and the rest may free what it lacks.
    if let Err(error) = history::note(vfs, records, state) {
        tracing::warn!(error = %error, "the history cannot be written");
    }
    collect(vfs, current(header, records), keep, finished(records, state))
}

/// The transaction of the journal, if it has come about or was taken back: nothing was unpacked for another try.
pub(super) fn finished(records: &[Record], state: State) -> Option<Id> {
    match (executor::outcome(state, records), records.first()) {
        (Some(Outcome::Kept | Outcome::Restored), Some(Record::Begin { transaction, .. })) => Some(*transaction),
        _ => None,
    }
}

/// Removes every folder and manifest that the kept generations do not need. What was unpacked for a transaction that did
/// not come about serves the next try, and stays.
pub(super) fn collect<V: Vfs>(vfs: &V, current: Id, keep: u32, finished: Option<Id>) -> Result<(), Error> {
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
    let unpacked = unpacked(vfs, current, finished)?;
    for name in sorted(vfs, &layout::generations())? {
        match layout::unhex(&name) {
            Some(id) if with_undo.contains(&id) => remove_mark(vfs, id)?,
            Some(id) if unpacked.contains(&id) => strip(vfs, id)?,
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

/// The folders with contents of a patch for a transaction from this generation that has not begun.
pub(super) fn unpacked<V: Vfs>(vfs: &V, current: Id, finished: Option<Id>) -> Result<Vec<Id>, Error> {
    let mut found = Vec::new();
    for id in sorted(vfs, &layout::generations())?.iter().filter_map(|name| layout::unhex(name)) {
        if finished == Some(id) || id == current || vfs.stat(&layout::unpacked(id))?.is_none() {
            continue;
        }
        let start = store::read_start(vfs, &layout::unpacked(id), v1::UNPACKED_START as u64)?;
        if v1::decode_unpacked(&start).is_some_and(|unpacked| unpacked.base == current) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Removes contents of a patch for a transaction that has not begun.
pub(super) fn remove_unpacked<V: Vfs>(vfs: &V, id: Id) -> Result<(), Error> {
    remove_generation(vfs, id, false)
}

/// Leaves of a transaction that was given up only what was unpacked before it.
pub(super) fn strip<V: Vfs>(vfs: &V, id: Id) -> Result<(), Error> {
    remove_folder(vfs, id, &layout::asides(id))?;
    for file in [layout::generation_state(id), layout::plan(id)] {
        if vfs.stat(&file)?.is_some() {
            vfs.remove_file(&file)?;
        }
    }
    Ok(())
}

fn remove_mark<V: Vfs>(vfs: &V, id: Id) -> Result<(), Error> {
    if vfs.stat(&layout::unpacked(id))?.is_some() {
        vfs.remove_file(&layout::unpacked(id))?;
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
    // First: a folder that is half removed serves nothing.
    remove_mark(vfs, id)?;
    if vfs.stat(&layout::plan(id))?.is_some() {
        vfs.remove_file(&layout::plan(id))?;
    }
    for directory in [layout::slots(id), layout::asides(id)] {
        remove_folder(vfs, id, &directory)?;
    }
    if !keep_state {
        if vfs.stat(&layout::generation_state(id))?.is_some() {
            vfs.remove_file(&layout::generation_state(id))?;
        }
        vfs.remove_dir(&layout::generation(id))?;
    }
    Ok(())
}

fn remove_folder<V: Vfs>(vfs: &V, id: Id, directory: &Place) -> Result<(), Error> {
    if vfs.stat(directory)?.is_none() {
        return Ok(());
    }
    // From the last to the first: nothing depends on it, but the order is always the same.
    for name in sorted(vfs, directory)?.into_iter().rev() {
        if let Ok(path) = directory.path.join(&name) {
            remove_object(vfs, id, &Place { root: directory.root, path })?;
        }
    }
    Ok(vfs.remove_dir(directory)?)
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

//! The walk over a tree, in the order of a manifest.

use super::TreeError;
use crate::limits;
use crate::model::TreePath;
use crate::vfs::{FileType, IoError, Place, Stat, Vfs};
use rayon::prelude::*;
use std::io::ErrorKind;

/// Name of the state directory where it lies at the top of the tree.
pub const STATE_NAME: &[u8] = b".surefoot";

/// Calls `visit` with everything at and below `start`, each directory right before what is in it.
///
/// With `state_inside`, the state directory at the top of the tree is passed over.
pub(super) fn walk<V: Vfs>(
    vfs: &V,
    start: &Place,
    state_inside: bool,
    visit: &mut dyn FnMut(TreePath, &Stat) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let stat = vfs.stat(start)?.ok_or_else(|| IoError::new("stat", start, ErrorKind::NotFound))?;
    if stat.mount_point && !start.path.is_root() {
        return Err(TreeError::Mount { at: start.clone() });
    }
    visit(start.path.clone(), &stat)?;
    if stat.kind == FileType::Directory {
        let mut entries = 1;
        descend(vfs, start, state_inside && start.path.is_root(), &mut entries, visit)?;
    }
    Ok(())
}

/// Visits what is below a directory. The depth is bounded by that of a path.
fn descend<V: Vfs>(
    vfs: &V,
    directory: &Place,
    skip_state: bool,
    entries: &mut usize,
    visit: &mut dyn FnMut(TreePath, &Stat) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let mut names = vfs.list(directory).map_err(|error| gone_is_changed(error, directory))?;
    // Sorted names, and each directory before the next name: that is the order of paths.
    names.sort_unstable();
    for name in names {
        if skip_state && *name == *STATE_NAME {
            continue;
        }
        let at = Place { root: directory.root, path: directory.path.join(&name)? };
        let Some(stat) = vfs.stat(&at)? else {
            return Err(TreeError::Changed { at });
        };
        if stat.mount_point {
            return Err(TreeError::Mount { at });
        }
        *entries += 1;
        if *entries > limits::ENTRIES {
            return Err(TreeError::TooMany);
        }
        if stat.kind == FileType::Directory {
            visit(at.path.clone(), &stat)?;
            descend(vfs, &at, false, entries, visit)?;
        } else {
            visit(at.path, &stat)?;
        }
    }
    Ok(())
}

/// What was there a moment ago and is not any more has changed.
pub(super) fn gone_is_changed(error: IoError, at: &Place) -> TreeError {
    if error.kind() == ErrorKind::NotFound { TreeError::Changed { at: at.clone() } } else { error.into() }
}

/// Does `work` on each item, on so many threads; with one, in order.
pub(super) fn each<T: Send>(
    threads: usize,
    items: &mut [T],
    work: impl Fn(usize, &mut T) -> Result<(), TreeError> + Sync + Send,
) -> Result<(), TreeError> {
    let many = threads > 1 && items.len() > 1;
    // Where no more threads are to be had, one does it all.
    let pool = many.then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok()).flatten();
    match pool {
        // Items differ in size by far: no two of them are bound together.
        Some(pool) => {
            pool.install(|| items.par_iter_mut().enumerate().with_max_len(1).try_for_each(|(at, item)| work(at, item)))
        }
        None => items.iter_mut().enumerate().try_for_each(|(at, item)| work(at, item)),
    }
}

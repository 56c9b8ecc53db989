//! What taking a step does to the tree: a rename, or metadata in place.

use super::evidence::{Position, Print, Seen, Stores};
use super::executor::foreign;
use crate::error::{Code, Error};
use crate::model::{Metadata, Node, Policy};
use crate::transaction::{Method, Plan, Step, is_locked, open_mode};
use crate::tree;
use crate::vfs::{FileType, Place, Rename, RootId, Vfs};

/// Opens the directory in which a step moves something, and the directory that it moves, where their owner may not
/// write to them; when all steps are taken they are closed again. Only what the plan names, or a slot
/// holds, is ever opened.
pub(super) fn open_up<V: Vfs>(vfs: &V, plan: &Plan, step: &Step, at: &Place) -> Result<(), Error> {
    let user = vfs.user();
    if user == 0 {
        return Ok(());
    }
    let Stores { new, old } = Stores::of(plan, step);
    let named = |place: &Place| plan.steps.iter().any(|step| step.path == place.path);
    let parent = at.path.parent().map(|path| Place { root: at.root, path });
    let moves = [&step.before, &step.after].into_iter().flatten().any(Node::is_directory);
    let moved = [at.clone(), new, old].into_iter().filter(|_| moves);
    for (place, is_parent) in parent.map(|at| (at, true)).into_iter().chain(moved.map(|at| (at, false))) {
        match vfs.stat(&place)? {
            Some(stat) if stat.kind == FileType::Directory && stat.uid == user && is_locked(stat.mode) => {
                if is_parent && place.root != RootId::STATE && !named(&place) {
                    continue;
                }
                vfs.set_mode(&place, open_mode(stat.mode))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Is the object that a step moves a directory with something in it?
pub(super) fn holds_something<V: Vfs>(vfs: &V, at: &Place, end: &Option<Node>) -> Result<bool, Error> {
    Ok(end.as_ref().is_some_and(Node::is_directory) && !vfs.list(at)?.is_empty())
}

/// Takes a step forward, and looks whether what came out is what should have been there.
pub(super) fn replace<V: Vfs>(
    vfs: &V,
    plan: &Plan,
    step: &Step,
    at: &Place,
    seen: &Seen,
    position: Position,
) -> Result<(), Error> {
    let Stores { new, old } = Stores::of(plan, step);
    let came_out = |out: &Place| -> Result<bool, Error> {
        let stat = vfs.stat(out)?;
        let empty = !holds_something(vfs, out, &step.before)?;
        let same = |known: Print| stat.is_some_and(|stat| stat.inode == known.inode);
        Ok(empty && seen.tree.is_none_or(|(known, _)| same(known)))
    };
    match (&step.before, &step.after) {
        (None, _) => Ok(vfs.rename(&new, at, Rename::NoReplace)?),
        (Some(_), Some(_)) if plan.method == Method::Exchange => {
            vfs.rename(&new, at, Rename::Exchange)?;
            if came_out(&old)? {
                return Ok(());
            }
            vfs.rename(&new, at, Rename::Exchange)?;
            Err(foreign(step))
        }
        (Some(_), Some(_)) if position == Position::Middle => Ok(vfs.rename(&new, at, Rename::NoReplace)?),
        (Some(before), Some(after)) => move_over(vfs, &new, after, at, before),
        (Some(_), None) => {
            vfs.rename(at, &old, Rename::NoReplace)?;
            if came_out(&old)? {
                return Ok(());
            }
            vfs.rename(&old, at, Rename::NoReplace)?;
            Err(foreign(step))
        }
    }
}

/// Moves an object over another one that is kept elsewhere: in one step where the types allow it.
pub(super) fn move_over<V: Vfs>(
    vfs: &V,
    from: &Place,
    moving: &Node,
    at: &Place,
    standing: &Node,
) -> Result<(), Error> {
    if moving.is_directory() || standing.is_directory() {
        if standing.is_directory() {
            vfs.remove_dir(at)?;
        } else {
            vfs.remove_file(at)?;
        }
        return Ok(vfs.rename(from, at, Rename::NoReplace)?);
    }
    Ok(vfs.rename(from, at, Rename::Replace)?)
}

/// Sets in place what differs: owner first, since that clears bits of the mode.
pub(super) fn amend<V: Vfs>(vfs: &V, at: &Place, to: &Option<Node>, policy: Policy) -> Result<(), Error> {
    let Some(Node { metadata: to, .. }) = to else {
        return Err(Error::new(Code::Internal, format!("the step for {at} has one end")));
    };
    let stat = vfs.stat(at)?.ok_or_else(|| Error::new(Code::Foreign, format!("{at} is gone")))?;
    let now = tree::metadata_of(vfs, at, &stat)?;
    let chown = policy.owner && (now.uid, now.gid) != (to.uid, to.gid);
    // Where its owner may not write to a directory, it is open to him for as long as its attributes take.
    let opens = vfs.user() != 0 && stat.kind == FileType::Directory && now.xattrs != to.xattrs;
    let mode = if opens { open_mode(to.mode) } else { to.mode };
    if chown {
        vfs.set_owner(at, to.uid, to.gid)?;
    }
    if chown || now.mode != mode {
        vfs.set_mode(at, mode)?;
    }
    let value = |metadata: &Metadata, name: &[u8]| {
        metadata.xattrs.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
    };
    for (name, _) in now.xattrs.iter().filter(|(name, _)| value(to, name).is_none()) {
        vfs.set_xattr(at, name, None)?;
    }
    // From the last: an ACL, which comes before attributes of users, sets the mode as well.
    for (name, wanted) in to.xattrs.iter().rev().filter(|(name, wanted)| value(&now, name).as_ref() != Some(wanted)) {
        vfs.set_xattr(at, name, Some(wanted))?;
    }
    if mode != to.mode {
        vfs.set_mode(at, to.mode)?;
    }
    if policy.mtime && now.mtime != to.mtime {
        vfs.set_mtime(at, to.mtime)?;
    }
    Ok(())
}

//! Looking: what stands in the tree and in the slot of a step, and so whether the step is taken.
//!
//! The only evidence is identity: an object is the old or the new one if its type, metadata and content say so. That a
//! name is missing proves nothing.

use super::layout;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Kind, Metadata, Node, Policy, TreePath};
use crate::transaction::{Method, Plan, Step, open_mode};
use crate::tree;
use crate::vfs::{FileType, Place, RootId, Stat, Vfs};
use rayon::prelude::*;
use std::collections::HashMap;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The old object is in the tree, the new one in the slot.
    NotDone,
    /// Nothing is in the tree: the old object is kept, the new one not moved yet (only without exchange).
    Middle,
    /// The new object is in the tree, the old one in the slot.
    Done,
    /// The old object is in the tree, or kept, but the new one is nowhere.
    Unstaged,
    /// The new object is in the tree, but the old one is nowhere.
    Lost,
    /// Something else is in the tree; the new object is still in its slot, so the step was not taken.
    ForeignBefore,
    /// Something else is in the tree, and the step may have been taken.
    ForeignAfter,
}

/// What was seen of the two places of a step, so that nothing is read twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// In the tree.
    pub(super) tree: Option<(Print, Ends)>,
    /// In the slot.
    pub(super) slot: Option<(Print, Ends)>,
}

/// What tells in a moment that an object is still what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    pub(super) inode: u64,
    size: u64,
    mtime: crate::model::Time,
    ctime: crate::model::Time,
}

/// Which ends of a step an object matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) before: bool,
    pub(super) after: bool,
}

impl Print {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { inode: stat.inode, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// The steps of a plan that move directories, by path.
#[derive(Debug, Default)]
pub(super) struct Directories(HashMap<TreePath, usize>);

impl Directories {
    pub(super) fn of(plan: &Plan) -> Self {
        let moves = |end: &Option<Node>| end.as_ref().is_some_and(Node::is_directory);
        let steps = plan.steps.iter().enumerate();
        let steps = steps.filter(|(_, step)| !step.in_place && (moves(&step.before) || moves(&step.after)));
        Self(steps.map(|(index, step)| (step.path.clone(), index)).collect())
    }

    /// Would the old object of a step have to be put back into a directory that is not there any more, and that no step
    /// puts back?
    pub(super) fn is_homeless<V: Vfs>(&self, vfs: &V, step: &Step, position: Position) -> Result<bool, Error> {
        let returns = match (position, &step.before, &step.after) {
            (Position::Done, Some(_), None) => true,
            (Position::Middle | Position::Unstaged, Some(_), Some(_)) => vfs.stat(&tree_place(step))?.is_none(),
            _ => false,
        };
        match step.path.parent().filter(|parent| returns && !self.0.contains_key(parent)) {
            Some(path) => {
                let found = vfs.stat(&Place { root: RootId(step.root), path })?;
                Ok(!found.is_some_and(|stat| stat.kind == FileType::Directory))
            }
            None => Ok(false),
        }
    }

    /// Where the object of a step is to be looked for when it is not at its path: a file system may keep the later of
    /// two renames and lose the earlier, and then what entered or should have left a directory is where that is.
    fn place<V: Vfs>(&self, vfs: &V, plan: &Plan, step: &Step) -> Result<Place, Error> {
        let at = tree_place(step);
        let parent = step.path.parent().and_then(|parent| self.0.get(&parent));
        let Some(parent) = parent.and_then(|index| plan.steps.get(*index)) else { return Ok(at) };
        let slot = layout::slot(plan.slots, parent.slot);
        let directory = match vfs.stat(&slot)? {
            Some(stat) if stat.kind == FileType::Directory => slot,
            _ => self.place(vfs, plan, parent)?,
        };
        let path = directory.path.join(step.path.name());
        Ok(path.map_or(at, |path| Place { root: directory.root, path }))
    }
}

/// Finds out where a step stands, and where its object in the tree is.
pub(super) fn examine<V: Vfs>(
    vfs: &V,
    plan: &Plan,
    directories: &Directories,
    step: &Step,
    seen: &mut Seen,
) -> Result<(Position, Place), Error> {
    let at = tree_place(step);
    if step.in_place {
        return Ok((examine_in_place(vfs, plan.policy, step)?, at));
    }
    let position = examine_at(vfs, plan, step, &at, seen)?;
    if matches!(position, Position::NotDone | Position::Middle | Position::Done) {
        return Ok((position, at));
    }
    let elsewhere = directories.place(vfs, plan, step)?;
    if elsewhere != at {
        let position = examine_at(vfs, plan, step, &elsewhere, seen)?;
        if matches!(position, Position::NotDone | Position::Middle | Position::Done) {
            return Ok((position, elsewhere));
        }
    }
    Ok((position, at))
}

/// Looks at every step. Cold, this is two small reads a step that each wait for the disk, so many wait at once.
pub(super) fn examine_all<V: Vfs>(
    vfs: &V,
    plan: &Plan,
    directories: &Directories,
) -> Result<Vec<(Position, Seen)>, Error> {
    let one = |step: &Step| {
        let mut seen = Seen::default();
        examine(vfs, plan, directories, step, &mut seen).map(|(position, _)| (position, seen))
    };
    if vfs.threads() > 1
        && let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(limits::READERS).build()
    {
        return pool.install(|| plan.steps.par_iter().with_min_len(8).map(one).collect());
    }
    plan.steps.iter().map(one).collect()
}

fn examine_at<V: Vfs>(vfs: &V, plan: &Plan, step: &Step, at: &Place, seen: &mut Seen) -> Result<Position, Error> {
    let stores = Stores::of(plan, step);
    let tree = look(vfs, at, step, plan.policy, &mut seen.tree)?;
    let stored = look(vfs, &stores.new, step, plan.policy, &mut seen.slot)?;
    use Position as P;
    Ok(match (&step.before, &step.after) {
        (Some(_), Some(_)) if plan.method != Method::Exchange => {
            let kept = look(vfs, &stores.old, step, plan.policy, &mut None)?;
            let old_is_kept = matches!(kept, Found::Is(k) if k.before);
            match (tree, stored) {
                (Found::Is(t), Found::Is(s)) if t.before && s.after && old_is_kept => P::NotDone,
                (Found::Absent, Found::Is(s)) if s.after && old_is_kept => P::Middle,
                (Found::Is(t), _) if t.after && old_is_kept => P::Done,
                (Found::Is(t), _) if t.before => P::Unstaged,
                (Found::Absent, _) if old_is_kept => P::Unstaged,
                (Found::Is(t), _) if t.after => P::Lost,
                (_, Found::Is(s)) if s.after => P::ForeignBefore,
                _ => P::ForeignAfter,
            }
        }
        (Some(_), Some(_)) => match (tree, stored) {
            (Found::Is(t), Found::Is(s)) if t.before && s.after => P::NotDone,
            (Found::Is(t), Found::Is(s)) if t.after && s.before => P::Done,
            (_, Found::Is(s)) if s.after => P::ForeignBefore,
            (Found::Is(t), _) if t.before => P::Unstaged,
            (Found::Is(t), _) if t.after => P::Lost,
            _ => P::ForeignAfter,
        },
        (None, _) => match (tree, stored) {
            (Found::Absent, Found::Is(s)) if s.after => P::NotDone,
            (Found::Is(t), Found::Absent) if t.after => P::Done,
            (Found::Absent, _) => P::Unstaged,
            (_, Found::Is(s)) if s.after => P::ForeignBefore,
            _ => P::ForeignAfter,
        },
        (Some(_), None) => match (tree, stored) {
            (Found::Is(t), Found::Absent) if t.before => P::NotDone,
            (Found::Absent, Found::Is(s)) if s.before => P::Done,
            (Found::Absent, _) => P::Lost,
            (_, Found::Absent) => P::ForeignBefore,
            _ => P::ForeignAfter,
        },
    })
}

/// Where a step finds its new object and leaves its old one.
pub(super) struct Stores {
    pub(super) new: Place,
    pub(super) old: Place,
}

impl Stores {
    pub(super) fn of(plan: &Plan, step: &Step) -> Self {
        let slot = layout::slot(plan.slots, step.slot);
        match (plan.method, &step.before, &step.after) {
            (Method::Replace, Some(_), Some(_)) => Self { new: slot, old: layout::aside(plan.slots, step.slot) },
            _ => Self { new: slot.clone(), old: slot },
        }
    }
}

/// The place of a step in its tree.
pub(super) fn tree_place(step: &Step) -> Place {
    Place { root: RootId(step.root), path: step.path.clone() }
}

enum Found {
    Absent,
    Is(Ends),
    Other,
}

/// Which end of a step stands at a place. What is in a directory is not asked here: whoever moves it asks.
fn look<V: Vfs>(
    vfs: &V,
    at: &Place,
    step: &Step,
    policy: Policy,
    seen: &mut Option<(Print, Ends)>,
) -> Result<Found, Error> {
    let Some(stat) = vfs.stat(at)? else { return Ok(Found::Absent) };
    let print = Print::of(&stat);
    let ends = match *seen {
        Some((known, ends)) if known == print => ends,
        _ => {
            let mut ends = compare(vfs, at, &stat, step, policy)?;
            if ends.before && ends.after && step.before_inode != step.after_inode {
                // Equal in all but their links: two names of one file, or two files.
                ends = Ends {
                    before: stat.inode == step.before_inode || step.before_inode == 0,
                    after: stat.inode == step.after_inode || step.after_inode == 0,
                };
            }
            *seen = Some((print, ends));
            ends
        }
    };
    Ok(if ends.before || ends.after { Found::Is(ends) } else { Found::Other })
}

fn compare<V: Vfs>(vfs: &V, at: &Place, stat: &Stat, step: &Step, policy: Policy) -> Result<Ends, Error> {
    let possible = |end: &Option<Node>| end.as_ref().is_some_and(|node| could_be(stat, node));
    if !possible(&step.before) && !possible(&step.after) {
        return Ok(Ends::default());
    }
    let found = tree::node_of(vfs, at, stat)?;
    // The time of a directory is disturbed by the steps inside it, and set when all are taken.
    let counting = Policy { mtime: policy.mtime && !found.is_directory(), ..policy };
    let is = |end: &Option<Node>| {
        let Some(node) = end else { return false };
        if found.is_directory() && found.metadata.mode == open_mode(node.metadata.mode) {
            let mut closed = found.clone();
            closed.metadata.mode = node.metadata.mode;
            return closed.matches(node, counting);
        }
        found.matches(node, counting)
    };
    Ok(Ends { before: is(&step.before), after: is(&step.after) })
}

/// Is it worth reading?
fn could_be(stat: &Stat, node: &Node) -> bool {
    match (&node.kind, stat.kind) {
        (Kind::File { size, .. }, FileType::File) => *size == stat.size && node.metadata.mode == stat.mode,
        (Kind::Directory, FileType::Directory) => {
            node.metadata.mode == stat.mode || open_mode(node.metadata.mode) == stat.mode
        }
        (Kind::Symlink { .. }, FileType::Symlink) => true,
        _ => false,
    }
}

/// Metadata set in place is several calls: after a crash each attribute is old or new.
fn examine_in_place<V: Vfs>(vfs: &V, policy: Policy, step: &Step) -> Result<Position, Error> {
    let at = tree_place(step);
    let (Some(before), Some(after)) = (&step.before, &step.after) else {
        return Err(Error::new(Code::Internal, format!("the step for {at} has one end")));
    };
    let Some(stat) = vfs.stat(&at)? else { return Ok(Position::ForeignAfter) };
    if !same_type(&stat, after) {
        return Ok(Position::ForeignAfter);
    }
    let now = tree::metadata_of(vfs, &at, &stat)?;
    if !is_mixture(&now, &before.metadata, &after.metadata, policy, after.is_directory()) {
        return Ok(Position::ForeignAfter);
    }
    // The time of a directory is set when all steps are taken.
    let counting = Policy { mtime: policy.mtime && !after.is_directory(), ..policy };
    Ok(if now.difference(&after.metadata, counting).is_none() { Position::Done } else { Position::NotDone })
}

fn same_type(stat: &Stat, node: &Node) -> bool {
    match &node.kind {
        // Not its length: content is not touched, so whoever changes it is not in the way.
        Kind::File { .. } => stat.kind == FileType::File,
        Kind::Directory => stat.kind == FileType::Directory,
        Kind::Symlink { .. } => stat.kind == FileType::Symlink,
    }
}

/// Is every attribute that of one of the two ends?
fn is_mixture(now: &Metadata, before: &Metadata, after: &Metadata, policy: Policy, directory: bool) -> bool {
    const ACL: &[u8] = b"system.posix_acl_access";
    let value = |metadata: &Metadata, name: &[u8]| {
        metadata.xattrs.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
    };
    // An ACL holds a copy of the group bits: setting one changes the other.
    let has_acl = value(before, ACL).is_some() || value(after, ACL).is_some();
    let bits = if has_acl { !0o070 } else { !0 };
    let mode = [before.mode, after.mode]
        .iter()
        .any(|mode| now.mode & bits == mode & bits || directory && now.mode & bits == open_mode(*mode) & bits);
    let owner = !policy.owner
        || ((now.uid == before.uid || now.uid == after.uid) && (now.gid == before.gid || now.gid == after.gid));
    let names = [before, after, now].into_iter().flat_map(|metadata| metadata.xattrs.iter().map(|(name, _)| name));
    let xattrs = names.filter(|name| !has_acl || &***name != ACL).all(|name| {
        let is = value(now, name);
        is == value(before, name) || is == value(after, name)
    });
    mode && owner && xattrs
}

/// Names that stand in directories which are to go, and which nothing takes out before: what surefoot did not install.
///
/// `leaving` are the directories, `known` says which paths go as well.
pub(super) fn strays<V: Vfs>(
    vfs: &V,
    leaving: &[Place],
    known: impl Fn(&TreePath) -> bool,
) -> Result<Vec<TreePath>, Error> {
    let mut out = Vec::new();
    for directory in leaving {
        if !matches!(vfs.stat(directory)?, Some(stat) if stat.kind == FileType::Directory) {
            continue;
        }
        for name in vfs.list(directory)? {
            match directory.path.join(&name) {
                Ok(path) if known(&path) => {}
                Ok(path) => out.push(path),
                Err(error) => {
                    return Err(
                        Error::new(Code::Path, format!("{directory} holds a name that is no path")).because(error)
                    );
                }
            }
        }
    }
    out.sort();
    Ok(out)
}

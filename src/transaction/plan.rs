//! From what should change to the steps that change it.

use super::is_locked;
use crate::model::{Node, Policy, TreePath, Xattrs};
use std::collections::{BTreeMap, BTreeSet};

/// What one path holds and should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Where.
    pub path: TreePath,
    /// What is there.
    pub before: Option<Node>,
    /// How many names the file there has; 1 for anything else.
    pub links: u64,
    /// What should be there.
    pub after: Option<Node>,
}

/// How one proposal is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Nothing to do: only the name of a hard-link group changed, not what it joins.
    Nothing,
    /// Through a slot.
    Swap,
    /// Metadata in place.
    InPlace,
}

/// Decides how each proposal is carried out, and the order in which steps are taken: removals from the leaves up,
/// then new and replaced objects from the root down, then metadata in place from the leaves up.
///
/// So a directory is empty before it goes, exists before something enters it, and gets its final mode (which may
/// forbid writing) last. The other way round the same holds.
///
/// `proposals` are sorted by path. The answer has one arrangement for each of them, and the order as indexes.
pub fn arrange(proposals: &[Proposal], policy: Policy) -> (Vec<Arrangement>, Vec<usize>) {
    let kept = kept_links(proposals, policy);
    let leaders: BTreeSet<&TreePath> =
        proposals.iter().filter_map(|p| p.after.as_ref().and_then(|node| node.leader.as_ref())).collect();
    let arrangements: Vec<Arrangement> = proposals
        .iter()
        .map(|p| match (&p.before, &p.after) {
            (None, None) => Arrangement::Nothing,
            (Some(before), Some(after)) if before.kind.difference(&after.kind).is_none() => {
                if before.matches(after, policy) && after.is_directory() {
                    // It is given because its time, or its mode, will be disturbed.
                    if policy.mtime || is_locked(before.metadata.mode) {
                        Arrangement::InPlace
                    } else {
                        Arrangement::Nothing
                    }
                } else if before.matches(after, policy) {
                    let same_group = before.leader == after.leader && !kept.regrouped.contains(&p.path);
                    if same_group || kept.paths.contains(&p.path) { Arrangement::Nothing } else { Arrangement::Swap }
                } else if after.is_directory() || (after.is_file() && changes_in_place(p, before, after, &leaders)) {
                    Arrangement::InPlace
                } else {
                    Arrangement::Swap
                }
            }
            _ => Arrangement::Swap,
        })
        .collect();

    let mut order = Vec::with_capacity(proposals.len());
    let removal = |p: &Proposal| p.after.is_none();
    let chosen = |wanted: Arrangement| {
        let arrangements = &arrangements;
        (0..proposals.len()).filter(move |i| arrangements[*i] == wanted)
    };
    order.extend(chosen(Arrangement::Swap).rev().filter(|i| removal(&proposals[*i])));
    order.extend(chosen(Arrangement::Swap).filter(|i| !removal(&proposals[*i])));
    order.extend(chosen(Arrangement::InPlace).rev());
    (arrangements, order)
}

/// May the metadata of this file be set in place?
///
/// Only if the inode has this one name, or other names (in the tree, or in kept undo data) would change with it; and
/// only if no attribute disturbs another on the way, so that after a crash each is either old or new.
fn changes_in_place(p: &Proposal, before: &Node, after: &Node, leaders: &BTreeSet<&TreePath>) -> bool {
    const SET_ID: u32 = 0o6000;
    let alone = p.links == 1 && before.leader.is_none() && after.leader.is_none() && !leaders.contains(&p.path);
    let (old, new) = (&before.metadata, &after.metadata);
    // chown clears these bits and the capabilities; an ACL and the group bits of the mode change each other.
    let owner_stays = (old.uid, old.gid) == (new.uid, new.gid);
    let coupled = |name: &[u8]| name == b"security.capability" || name == b"system.posix_acl_access";
    let has_coupled = old.xattrs.iter().chain(&new.xattrs).any(|(name, _)| coupled(name));
    // Attributes of users are taken for content: of what its owner may not write to he cannot set them.
    let of_users = |xattrs: &Xattrs| xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")).cloned().collect();
    let (old_users, new_users): (Xattrs, Xattrs) = (of_users(&old.xattrs), of_users(&new.xattrs));
    let may_be_set = old_users == new_users || old.mode & new.mode & 0o200 != 0;
    alone && !has_coupled && may_be_set && (owner_stays || (old.mode | new.mode) & SET_ID == 0)
}

struct KeptLinks {
    /// Files whose inode stays although the name of their group changes.
    paths: BTreeSet<TreePath>,
    /// Files without a leader before and after that must nevertheless get an inode of their own.
    regrouped: BTreeSet<TreePath>,
}

/// Finds the files that change nothing but their hard-link group, and which of them may keep their inode.
///
/// Of the files that shared one inode, those may keep it that share one afterwards; the others are staged anew.
fn kept_links(proposals: &[Proposal], policy: Policy) -> KeptLinks {
    let touched: BTreeMap<&TreePath, &Proposal> = proposals.iter().map(|p| (&p.path, p)).collect();
    let group = |path: &TreePath, node: &Node| node.leader.clone().unwrap_or_else(|| path.clone());
    let candidates: Vec<(&TreePath, TreePath, TreePath)> = proposals
        .iter()
        .filter_map(|p| match (&p.before, &p.after) {
            (Some(before), Some(after)) if before.is_file() && before.matches(after, policy) => {
                Some((&p.path, group(&p.path, before), group(&p.path, after)))
            }
            _ => None,
        })
        .collect();
    // The group that keeps the inode of an old group, and the old group whose inode a group keeps. A group whose
    // leader is not touched has members that stay as they are: these decide.
    let mut heir: BTreeMap<&TreePath, &TreePath> = BTreeMap::new();
    let mut source: BTreeMap<&TreePath, &TreePath> = BTreeMap::new();
    for (_, old, new) in &candidates {
        heir.entry(old).or_insert(if touched.contains_key(old) { new } else { old });
    }
    // A touched leader decides for its group: who keeps another inode than the leader does is no longer joined to it.
    for (path, old, new) in &candidates {
        if !touched.contains_key(new) {
            source.insert(new, new);
        } else if *path == new && heir.get(old) == Some(&new) {
            source.insert(new, old);
        }
    }
    let mut kept = KeptLinks { paths: BTreeSet::new(), regrouped: BTreeSet::new() };
    for (path, old, new) in &candidates {
        if heir.get(old) == Some(&new) && source.get(new) == Some(&old) {
            kept.paths.insert((*path).clone());
        } else {
            kept.regrouped.insert((*path).clone());
        }
    }
    kept
}

//! Preflight: every reason to refuse, found before anything changes.

use super::engine::{Change, Source};
use super::evidence::{Ends, Print, Seen};
use super::executor::refuse_strays;
use super::layout::{self, STATE_DIRECTORY};
use super::observer::{Observer, Phase, Progress};
use crate::error::{Code, Error, Finding};
use crate::model::{Difference, Kind, Metadata, Node, Policy, TreePath};
use crate::transaction::{Arrangement, Method, Plan, Proposal, arrange, is_locked};
use crate::tree;
use crate::vfs::{Capabilities, FileType, Place, RootId, Stat, Vfs};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks for what grows: the history, and the folders of generations and of manifests.
const GROWTH_BLOCKS: u64 = 3;
/// Bytes of a name in a folder of slots: of six digits, with what file systems keep beside it.
const NAME_BYTES: u64 = 64;

/// What preflight found out.
pub(super) struct Checked {
    pub(super) proposals: Vec<Proposal>,
    /// Where the content of each comes from.
    pub(super) sources: Vec<Source>,
    pub(super) arrangements: Vec<Arrangement>,
    pub(super) order: Vec<usize>,
    pub(super) seen: Vec<Seen>,
    /// Owner and group that a new object gets where these are not part of the identity.
    pub(super) owners: Vec<Option<(u32, u32)>>,
    /// Files that only move, by the index of their new path: they are linked, not copied, since their old names go when
    /// the steps for these are taken.
    pub(super) moved: BTreeSet<usize>,
    pub(super) method: Method,
}

/// Paths that have just been read and are what they should be, and what tells that they still are.
pub(super) type Known = HashMap<TreePath, Print>;

/// What is known of the room that staging takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Room {
    /// So many bytes of contents that are to come are on the disk already.
    pub(super) spare: u64,
    /// How long the file of the manifest will be, if one is written.
    pub(super) manifest: Option<u64>,
    /// How long the note of what is unpacked will be, if one is to come.
    pub(super) note: Option<u64>,
    /// Are the folders of the transaction and of its slots there already?
    pub(super) begun: bool,
}

/// Checks everything. `before` says what each change starts from.
pub(super) fn check<V: Vfs>(
    vfs: &V,
    changes: Vec<Change>,
    before: Vec<Option<Node>>,
    policy: Policy,
    (known, room): (&Known, Room),
    observer: &dyn Observer,
) -> Result<Checked, Error> {
    let capabilities = vfs.capabilities(&layout::scratch())?;
    if !capabilities.atomic_rename {
        return Err(Error::new(Code::FileSystem, "the file system of the tree does not rename atomically"));
    }
    refuse_reserved(&changes)?;
    // Before the comparison, which finds under the one name what has the other, and says less.
    refuse_case(vfs, &changes, &before)?;
    let looked = look(vfs, &changes, &before, policy, known, observer)?;
    let (proposals, sources): (Vec<Proposal>, Vec<Source>) = changes
        .into_iter()
        .zip(before)
        .zip(&looked)
        .map(|((Change { path, after, source }, before), looked)| {
            (Proposal { path, before, links: looked.links, after }, source)
        })
        .unzip();
    let (arrangements, order) = arrange(&proposals, policy);
    let leaving: Vec<Place> = proposals
        .iter()
        .filter(|p| {
            let was = p.before.as_ref().is_some_and(Node::is_directory);
            was && !p.after.as_ref().is_some_and(Node::is_directory)
        })
        .map(|p| Place::tree(&p.path))
        .collect();
    refuse_strays(vfs, &leaving, proposals.iter().filter(|p| p.after.is_none()).map(|p| &p.path))?;
    refuse_parents(vfs, &proposals, &arrangements)?;
    refuse_metadata(vfs, &proposals, capabilities, policy)?;
    for ((p, how), looked) in proposals.iter().zip(&arrangements).zip(&looked) {
        refuse_one_way(vfs, p, *how, looked.owner, policy)?;
    }
    let moved = moved(&sources, &proposals, &arrangements, policy, capabilities);
    refuse_space(vfs, &sources, &proposals, &arrangements, &moved, (capabilities, room))?;
    let owners = owners(&proposals, &looked, vfs, policy)?;
    Ok(Checked {
        proposals,
        sources,
        arrangements,
        order,
        seen: looked.iter().map(|looked| looked.seen).collect(),
        owners,
        moved,
        method: if capabilities.exchange { Method::Exchange } else { Method::Replace },
    })
}

fn refuse_reserved(changes: &[Change]) -> Result<(), Error> {
    let reserved = |path: &TreePath| path.components().next() == Some(STATE_DIRECTORY.as_bytes());
    match changes.iter().find(|change| reserved(&change.path)) {
        None => Ok(()),
        Some(change) => Err(Error::new(Code::Path, format!("{} is reserved for surefoot itself", change.path))),
    }
}

#[derive(Clone, Copy)]
struct Looked {
    seen: Seen,
    links: u64,
    owner: Option<(u32, u32)>,
    difference: Option<Difference>,
}

/// Reads every path that the changes touch and compares it with what it should be.
fn look<V: Vfs>(
    vfs: &V,
    changes: &[Change],
    before: &[Option<Node>],
    policy: Policy,
    known: &Known,
    observer: &dyn Observer,
) -> Result<Vec<Looked>, Error> {
    let total: u64 = before.iter().flatten().map(|node| node.kind.size()).sum();
    let done = AtomicU64::new(0);
    let one = |(change, before): (&Change, &Option<Node>)| -> Result<Looked, Error> {
        let looked = look_at(vfs, &change.path, before.as_ref(), policy, known)?;
        let size = before.as_ref().map_or(0, |node| node.kind.size());
        let so_far = done.fetch_add(size, Ordering::Relaxed) + size;
        observer.report(Progress { phase: Phase::Check, done: so_far, total });
        Ok(looked)
    };
    let looked: Vec<Looked> = if vfs.threads() > 1 {
        changes.par_iter().zip(before).with_min_len(16).map(one).collect::<Result<_, _>>()?
    } else {
        changes.iter().zip(before).map(one).collect::<Result<_, _>>()?
    };
    let findings: Vec<Finding> = changes
        .iter()
        .zip(&looked)
        .filter_map(|(change, looked)| Some(Finding { path: change.path.clone(), difference: looked.difference? }))
        .collect();
    if findings.is_empty() {
        return Ok(looked);
    }
    Err(Error::new(Code::Changed, format!("{} paths are not as they should be", findings.len())).listing(findings))
}

fn look_at<V: Vfs>(
    vfs: &V,
    path: &TreePath,
    before: Option<&Node>,
    policy: Policy,
    known: &Known,
) -> Result<Looked, Error> {
    let at = Place::tree(path);
    let mut looked = Looked { seen: Seen::default(), links: 1, owner: None, difference: None };
    let Some(stat) = vfs.stat(&at).map_err(across_mount)? else {
        looked.difference = before.map(|_| Difference::Missing);
        return Ok(looked);
    };
    refuse_pin(path, &stat)?;
    if stat.kind == FileType::Other {
        return Err(Error::new(Code::Special, format!("{path} is a pipe, socket or device")));
    }
    looked.links = if stat.kind == FileType::File { stat.links } else { 1 };
    looked.owner = Some((stat.uid, stat.gid));
    let Some(before) = before else {
        looked.difference = Some(Difference::Unexpected);
        return Ok(looked);
    };
    let same_length = stat.kind != FileType::File || !before.is_file() || stat.size == before.kind.size();
    looked.difference = if known.get(path) == Some(&Print::of(&stat)) {
        None
    } else if same_length {
        tree::node_of(vfs, &at, &stat)?.difference(before, policy)
    } else {
        Some(Difference::Content)
    };
    looked.seen.tree = Some((Print::of(&stat), Ends { before: true, after: false }));
    Ok(looked)
}

/// What is mounted over, or marked, stays where it is.
pub(super) fn refuse_pin(path: &TreePath, stat: &Stat) -> Result<(), Error> {
    if stat.mount_point {
        return Err(Error::new(Code::Mount, format!("{path} is a mount point")));
    }
    if stat.immutable {
        return Err(Error::new(Code::Immutable, format!("{path} is marked immutable or append-only")));
    }
    Ok(())
}

pub(super) fn across_mount(error: crate::vfs::IoError) -> Error {
    if error.kind() == std::io::ErrorKind::CrossesDevices {
        Error::new(Code::Mount, format!("{} lies on another mounted file system", error.path)).because(error.source)
    } else {
        error.into()
    }
}

/// The directories in which something will be renamed must allow it.
fn refuse_parents<V: Vfs>(vfs: &V, proposals: &[Proposal], arrangements: &[Arrangement]) -> Result<(), Error> {
    let swapped = proposals.iter().zip(arrangements).filter(|(_, how)| **how == Arrangement::Swap);
    let parents: BTreeSet<TreePath> = swapped.filter_map(|(p, _)| p.path.parent()).collect();
    let user = vfs.user();
    for parent in parents {
        let Some(stat) = vfs.stat(&Place::tree(&parent)).map_err(across_mount)? else { continue };
        if stat.immutable {
            return Err(Error::new(Code::Immutable, format!("{parent} is marked immutable or append-only")));
        }
        if user != 0 && stat.kind == FileType::Directory && stat.uid == user && stat.mode & 0o500 != 0o500 {
            // One that may be looked into is opened for as long as it takes.
            return Err(Error::new(Code::Metadata, format!("directory {parent} may not be looked into by its owner")));
        }
    }
    Ok(())
}

fn refuse_metadata<V: Vfs>(
    vfs: &V,
    proposals: &[Proposal],
    capabilities: Capabilities,
    policy: Policy,
) -> Result<(), Error> {
    let user = vfs.user();
    for p in proposals {
        let Some(after) = &p.after else { continue };
        if policy.owner && user != 0 && after.metadata.uid != user {
            return Err(Error::new(
                Code::Metadata,
                format!("{} must belong to user {}, which only root can arrange", p.path, after.metadata.uid),
            ));
        }
        let needed = if after.is_directory() { 0o500 } else { 0o400 };
        let stays = p.before.as_ref().is_some_and(|before| before.metadata.mode == after.metadata.mode);
        if user != 0 && !stays && !matches!(after.kind, Kind::Symlink { .. }) && after.metadata.mode & needed != needed
        {
            let message = format!(
                "{} gets mode {:o}: its owner could not read it, so after a crash nobody could tell what it is",
                p.path, after.metadata.mode
            );
            return Err(Error::new(Code::Metadata, message));
        }
        if !capabilities.xattrs && !after.metadata.xattrs.is_empty() {
            return Err(Error::new(
                Code::Metadata,
                format!("{} has extended attributes, the file system has none", p.path),
            ));
        }
        if !capabilities.symlinks && matches!(after.kind, Kind::Symlink { .. }) {
            return Err(Error::new(Code::Metadata, format!("{} is a symbolic link, the file system has none", p.path)));
        }
    }
    Ok(())
}

/// What a user who is not root would set, he must be able to set back.
fn refuse_one_way<V: Vfs>(
    vfs: &V,
    p: &Proposal,
    how: Arrangement,
    owner: Option<(u32, u32)>,
    policy: Policy,
) -> Result<(), Error> {
    if vfs.user() == 0 {
        return Ok(());
    }
    let refuse = |why: String| Err(Error::new(Code::Metadata, format!("{} {why}", p.path)));
    let opened = |node: &Node| node.is_directory() && is_locked(node.metadata.mode);
    let has_acl = |node: &Node| node.metadata.xattrs.iter().any(|(name, _)| &**name == b"system.posix_acl_access");
    if how == Arrangement::Swap && [&p.before, &p.after].into_iter().flatten().any(|node| opened(node) && has_acl(node))
    {
        return refuse("has an ACL that would change while its owner is let in".into());
    }
    let (Some(before), Some((_, gid))) = (&p.before, owner) else { return Ok(()) };
    let (old, new) = (&before.metadata, p.after.as_ref().map_or(&before.metadata, |after| &after.metadata));
    let has_bit = |metadata: &Metadata| metadata.mode & 0o2000 != 0;
    // Setting a mode takes it away from what belongs to a group of others.
    let loses_bit = match how {
        Arrangement::Nothing => false,
        Arrangement::Swap => has_bit(old) && opened(before),
        Arrangement::InPlace => {
            let sets = old.mode != new.mode || old.xattrs != new.xattrs || old.gid != new.gid || opened(before);
            sets && (has_bit(old) || has_bit(new))
        }
    };
    if loses_bit && !vfs.is_member(gid) {
        return refuse(format!("would lose its set-group-id bit, since it belongs to group {gid}"));
    }
    let regroups = policy.owner && how == Arrangement::InPlace && old.gid != new.gid;
    if regroups && !(vfs.is_member(old.gid) && vfs.is_member(new.gid)) {
        return refuse(format!("cannot be given from group {} to {} and back", old.gid, new.gid));
    }
    Ok(())
}

/// In a directory that does not tell case, no two names may be the same but for case.
fn refuse_case<V: Vfs>(vfs: &V, changes: &[Change], before: &[Option<Node>]) -> Result<(), Error> {
    let mut created: BTreeMap<TreePath, Vec<&TreePath>> = BTreeMap::new();
    for (change, _) in changes.iter().zip(before).filter(|(change, before)| before.is_none() && change.after.is_some())
    {
        if let Some(parent) = change.path.parent() {
            created.entry(parent).or_default().push(&change.path);
        }
    }
    for (parent, paths) in created {
        // A new directory takes after the nearest one that exists.
        let mut nearest = parent.clone();
        while vfs.stat(&Place::tree(&nearest))?.is_none_or(|stat| stat.kind != FileType::Directory) {
            match nearest.parent() {
                Some(above) => nearest = above,
                None => break,
            }
        }
        if !vfs.folds_case(&Place::tree(&nearest))? {
            continue;
        }
        let fold = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
        let mut names: BTreeMap<String, Box<[u8]>> = BTreeMap::new();
        if nearest == parent {
            let there = vfs.list(&Place::tree(&parent))?;
            names.extend(there.into_iter().map(|name| (fold(&name), name)));
        }
        for path in paths {
            let other = names.insert(fold(path.name()), path.name().into());
            // Whether this very name may be there the comparison tells.
            if other.is_some_and(|other| *other != *path.name()) {
                return Err(Error::new(Code::CaseCollision, format!("{path} differs from another name in case only")));
            }
        }
    }
    Ok(())
}

/// The files that only move: what they were is what they become, their old name goes, and nobody else needs them.
fn moved(
    sources: &[Source],
    proposals: &[Proposal],
    arrangements: &[Arrangement],
    policy: Policy,
    capabilities: Capabilities,
) -> BTreeSet<usize> {
    let mut moved = BTreeSet::new();
    if !capabilities.hard_links {
        return moved;
    }
    let leaders: BTreeSet<&TreePath> = proposals.iter().filter_map(|p| p.after.as_ref()?.leader.as_ref()).collect();
    let mut taken = BTreeSet::new();
    for (index, (source, proposal)) in sources.iter().zip(proposals).enumerate() {
        let Source::Base(from) = source else { continue };
        let (Some(after), Ok(source)) = (&proposal.after, proposals.binary_search_by(|p| p.path.cmp(from))) else {
            continue;
        };
        let leaves = arrangements[source] == Arrangement::Swap && proposals[source].links == 1 && source != index;
        let alike = proposals[source].before.as_ref().is_some_and(|before| before.matches(after, policy));
        let stored = arrangements[index] == Arrangement::Swap && after.is_file() && after.leader.is_none();
        if stored && leaves && alike && !leaders.contains(&proposal.path) && taken.insert(source) {
            moved.insert(index);
        }
    }
    moved
}

/// Everything that staging takes: in inodes exactly; in bytes what its files take, and [`GROWTH_BLOCKS`], [`NAME_BYTES`]
/// and a block for each new directory and long link. What is replaced takes nothing: it only changes places. Holes are
/// counted as if they were written, since nobody knows of them yet, and so are blocks that files will share.
fn refuse_space<V: Vfs>(
    vfs: &V,
    sources: &[Source],
    proposals: &[Proposal],
    arrangements: &[Arrangement],
    moved: &BTreeSet<usize>,
    (capabilities, room): (Capabilities, Room),
) -> Result<(), Error> {
    let space = vfs.space(RootId::STATE)?;
    let blocks = |bytes: u64| bytes.div_ceil(space.block.max(1)) * space.block.max(1);
    let steps = proposals.iter().zip(arrangements).filter(|(_, how)| **how != Arrangement::Nothing).map(|(p, _)| p);
    let files = [Some(1), Some(Plan::length(steps)), room.manifest, room.note].into_iter().flatten();
    let (mut bytes, mut inodes) = files.fold((0, 0), |(bytes, inodes), length| (bytes + blocks(length), inodes + 1));
    let folders = if room.begun { 0 } else { 2 } + u64::from(!capabilities.exchange);
    inodes += folders;
    bytes += (folders + GROWTH_BLOCKS) * blocks(1);
    for (index, ((source, p), how)) in sources.iter().zip(proposals).zip(arrangements).enumerate() {
        if *how != Arrangement::Swap {
            continue;
        }
        bytes += NAME_BYTES;
        if let (Some(before), Some(_), false) = (&p.before, &p.after, capabilities.exchange) {
            // What is replaced gets a second name, or is made again.
            bytes += NAME_BYTES;
            if before.is_directory() || !capabilities.hard_links {
                inodes += 1;
                bytes += content(before, blocks);
            }
        }
        if let Some(after) = &p.after {
            if after.leader.is_some() || matches!(source, Source::Staged(_)) || moved.contains(&index) {
                continue;
            }
            inodes += 1;
            bytes += content(after, blocks);
        }
    }
    bytes = bytes.saturating_sub(room.spare);
    if bytes > space.free_bytes {
        return Err(Error::new(Code::Space, format!("up to {bytes} bytes are needed, {} are free", space.free_bytes)));
    }
    match space.free_inodes {
        Some(free) if inodes > free => {
            Err(Error::new(Code::Inodes, format!("{inodes} inodes are needed, {free} are free")))
        }
        _ => Ok(()),
    }
}

/// Bytes that the content of an object takes.
fn content(node: &Node, blocks: impl Fn(u64) -> u64) -> u64 {
    match &node.kind {
        Kind::File { size, .. } => blocks(*size),
        Kind::Directory => blocks(1),
        // File systems keep short ones in the inode.
        Kind::Symlink { target } if target.len() < 60 => 0,
        Kind::Symlink { .. } => blocks(1),
    }
}

/// Where owners are not part of the identity, a new object belongs to whom the one it replaces belonged, or else to
/// the owner of its directory. A user keeps what he can of that: the group, if it is one of his, and that of a directory
/// only if its set-group-id bit says so.
fn owners<V: Vfs>(
    proposals: &[Proposal],
    looked: &[Looked],
    vfs: &V,
    policy: Policy,
) -> Result<Vec<Option<(u32, u32)>>, Error> {
    if policy.owner {
        return Ok(vec![None; proposals.len()]);
    }
    let user = vfs.user();
    // A user can give to his groups only.
    let possible = |(uid, gid): (u32, u32)| match user {
        0 => Some((uid, gid)),
        user => vfs.is_member(gid).then_some((user, gid)),
    };
    let inherited = |mode: u32| user == 0 || mode & 0o2000 != 0;
    let mut known: BTreeMap<TreePath, Option<(u32, u32)>> = BTreeMap::new();
    let mut out = Vec::with_capacity(proposals.len());
    for (p, looked) in proposals.iter().zip(looked) {
        let owner = match (looked.owner, p.path.parent()) {
            (Some(owner), _) => Some(owner),
            (None, Some(parent)) => match known.get(&parent) {
                Some(owner) => *owner,
                None => {
                    let stat = vfs.stat(&Place::tree(&parent))?.filter(|stat| inherited(stat.mode));
                    let owner = stat.map(|stat| (stat.uid, stat.gid));
                    known.insert(parent, owner);
                    owner
                }
            },
            (None, None) => None,
        };
        if let Some(after) = p.after.as_ref().filter(|after| after.is_directory()) {
            known.insert(p.path.clone(), owner.filter(|_| inherited(after.metadata.mode)));
        }
        out.push(owner.and_then(possible));
    }
    Ok(out)
}

//! Staging: storing every new object beside the tree, complete, before anything is touched.

use super::delivery::Delivery;
use super::engine::{Payload, Source};
use super::evidence::{Ends, Print, Seen};
use super::layout::{self, Id};
use super::observer::{Observer, Phase, Progress};
use super::preflight::Checked;
use crate::error::{Code, Error, Finding};
use crate::limits;
use crate::model::{Digest, Hasher, Kind, Metadata, Node, Policy, TreePath};
use crate::package::PackageError;
use crate::transaction::{Arrangement, Method, Plan, Step, open_mode};
use crate::tree;
use crate::vfs::{Access, FileType, IoError, Place, Stat, Vfs};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// Stores new objects into the slots of a transaction.
pub(super) struct Stager<'a, V: Vfs> {
    pub(super) vfs: &'a V,
    pub(super) id: Id,
    pub(super) checked: Checked,
    pub(super) policy: Policy,
    pub(super) observer: &'a dyn Observer,
    done: AtomicU64,
    total: u64,
    first_slot: u32,
    /// Owner and group of what is made here: those of the folder of the slots.
    maker: Option<(u32, u32)>,
}

impl<'a, V: Vfs> Stager<'a, V> {
    pub(super) fn new(
        vfs: &'a V,
        id: Id,
        checked: Checked,
        policy: Policy,
        taken_slots: u32,
        observer: &'a dyn Observer,
    ) -> Self {
        let mut stager = Self {
            vfs,
            id,
            checked,
            policy,
            observer,
            done: AtomicU64::new(0),
            total: 0,
            first_slot: taken_slots,
            maker: None,
        };
        stager.total =
            (0..stager.count()).filter(|index| stager.is_to_come(*index)).map(|index| stager.size(index)).sum();
        stager
    }

    /// Stores everything and gives the steps, in order, with what is known of their places.
    pub(super) fn run(mut self, payload: &mut dyn Payload) -> Result<(Vec<Step>, Vec<Seen>), Error> {
        super::store::ensure_bare_dir(self.vfs, &layout::slots(self.id))?;
        self.maker = self.vfs.stat(&layout::slots(self.id))?.map(|stat| (stat.uid, stat.gid));
        let mut stored = Delivery::run(&self, payload)?;
        stored.extend(self.dress_staged()?);
        for index in 0..self.count() {
            if self.observer.cancelled() {
                return Err(Error::new(Code::Cancelled, "stopped on request"));
            }
            self.store(index)?;
        }
        self.rehearse()?;
        // Leaders are stored by now.
        for index in 0..self.count() {
            self.store_follower(index)?;
        }
        let (vfs, method, id) = (self.vfs, self.checked.method, self.id);
        let (steps, seen) = self.into_steps(&stored)?;
        keep_old(vfs, method, id, &steps)?;
        Ok((steps, seen))
    }

    /// Gives contents that were stored before the transaction their metadata, and tells what they are known by.
    fn dress_staged(&self) -> Result<Vec<(usize, Print)>, Error> {
        let staged =
            |index: &usize| self.needs_content(*index) && matches!(self.checked.sources[*index], Source::Staged(_));
        let indices: Vec<usize> = (0..self.count()).filter(staged).collect();
        let one = |index: &usize| -> Result<(usize, Print), Error> {
            let slot = self.slot(*index);
            let gone = || Error::new(Code::Internal, format!("{slot} is gone"));
            if self.observer.cancelled() {
                return Err(Error::new(Code::Cancelled, "stopped on request"));
            }
            let after = self.after(*index).ok_or_else(gone)?;
            let stat = self.vfs.stat(&slot)?.ok_or_else(gone)?;
            let print = if self.is_dressed(&stat, after, *index) {
                Print::of(&stat)
            } else {
                self.dress(&slot, None, after, *index)?
            };
            Ok((*index, print))
        };
        if self.vfs.threads() > 1 {
            indices.par_iter().with_min_len(64).map(one).collect()
        } else {
            indices.iter().map(one).collect()
        }
    }

    /// Stores a content that is in memory, and gives what it is known by from now on.
    pub(super) fn put(&self, index: usize, bytes: &[u8]) -> Result<Print, Error> {
        let slot = self.slot(index);
        let after = self.after(index).ok_or_else(|| Error::new(Code::Internal, format!("{slot} has no content")))?;
        check_content(&self.checked.proposals[index].path, after, bytes.len() as u64, Digest::of(bytes))?;
        let file = self.vfs.create(&slot)?;
        if is_hole(bytes) {
            self.vfs.set_len(&file, bytes.len() as u64)?;
        } else if !bytes.is_empty() {
            self.vfs.write_at(&file, 0, bytes)?;
        }
        self.dress(&slot, Some(&file), after, index)
    }

    /// Stores a content while it is read, for one that is too long to be held in memory.
    pub(super) fn pour(&self, index: usize, content: &mut dyn Read) -> Result<Print, Error> {
        let slot = self.slot(index);
        let after = self.after(index).ok_or_else(|| Error::new(Code::Internal, format!("{slot} has no content")))?;
        let file = self.vfs.create(&slot)?;
        let (size, digest) = self.write(&file, &slot, content, after.kind.size())?;
        check_content(&self.checked.proposals[index].path, after, size, digest)?;
        self.dress(&slot, Some(&file), after, index)
    }

    /// How many changes there are.
    pub(super) fn count(&self) -> usize {
        self.checked.proposals.len()
    }

    fn after(&self, index: usize) -> Option<&Node> {
        self.checked.proposals[index].after.as_ref()
    }

    pub(super) fn size(&self, index: usize) -> u64 {
        self.after(index).map_or(0, |node| node.kind.size())
    }

    fn is_swapped(&self, index: usize) -> bool {
        self.checked.arrangements[index] == Arrangement::Swap
    }

    pub(super) fn needs_content(&self, index: usize) -> bool {
        self.is_swapped(index) && self.after(index).is_some_and(|node| node.is_file() && node.leader.is_none())
    }

    /// Is it a content that is not stored yet?
    fn is_to_come(&self, index: usize) -> bool {
        self.needs_content(index) && !matches!(self.checked.sources[index], Source::Staged(_))
    }

    fn slot_number(&self, index: usize) -> u32 {
        match self.checked.sources[index] {
            Source::Staged(slot) => slot,
            _ => self.first_slot + index as u32,
        }
    }

    pub(super) fn slot(&self, index: usize) -> Place {
        layout::slot(self.id, self.slot_number(index))
    }

    /// Stores one object that is not delivered by the payload and follows no hard-link leader.
    fn store(&self, index: usize) -> Result<(), Error> {
        let Some(after) = self.after(index).filter(|node| self.is_swapped(index) && node.leader.is_none()) else {
            return Ok(());
        };
        let slot = self.slot(index);
        match (&after.kind, &self.checked.sources[index]) {
            (Kind::Directory, _) => self.vfs.mkdir(&slot)?,
            (Kind::Symlink { target }, _) => self.vfs.symlink(target, &slot)?,
            (Kind::File { .. }, Source::Payload) => return Ok(()),
            (Kind::File { .. }, Source::Staged(_)) => return Ok(()),
            (Kind::File { .. }, Source::Base(path)) => {
                let from = Place::tree(path);
                // Refused links (other owner, too many, quota of another project) are copied instead.
                if self.checked.moved.contains(&index) && self.vfs.link(&from, &slot).is_ok() {
                    return Ok(());
                }
                self.copy(&from, &slot, after)?;
            }
            (Kind::File { .. }, Source::Change(other)) => {
                let other = *other as usize;
                let from = match self.checked.proposals.get(other) {
                    Some(proposal) if !self.is_swapped(other) => Place::tree(&proposal.path),
                    Some(_) => self.slot(other),
                    None => return Err(Error::new(Code::PackageFormat, format!("{slot} refers to no change"))),
                };
                self.copy(&from, &slot, after)?;
            }
            (Kind::File { .. }, Source::None) => {
                return Err(Error::new(
                    Code::PackagePartial,
                    format!("{} has no content", self.checked.proposals[index].path),
                ));
            }
        }
        self.dress(&slot, None, after, index).map(drop)
    }

    /// Sets what will be set in place on other objects of the same types first: what the file system does not keep is
    /// refused while it can be.
    fn rehearse(&self) -> Result<(), Error> {
        let place = layout::slot(self.id, self.first_slot + self.count() as u32);
        let mut done = HashSet::new();
        for (index, how) in self.checked.arrangements.iter().enumerate() {
            let Some(after) = self.after(index).filter(|_| *how == Arrangement::InPlace) else { continue };
            let Metadata { mode, uid, gid, mtime, xattrs } = &after.metadata;
            let time = self.policy.mtime.then_some(*mtime);
            if !done.insert((after.is_directory(), after.is_file(), *mode, *uid, *gid, time, xattrs)) {
                continue;
            }
            match &after.kind {
                Kind::Directory => self.vfs.mkdir(&place)?,
                Kind::Symlink { target } => self.vfs.symlink(target, &place)?,
                Kind::File { .. } => drop(self.vfs.create(&place)?),
            }
            self.dress(&place, None, after, index)?;
            match after.kind {
                Kind::Directory => self.vfs.remove_dir(&place)?,
                _ => self.vfs.remove_file(&place)?,
            }
        }
        Ok(())
    }

    fn store_follower(&self, index: usize) -> Result<(), Error> {
        let Some(leader) = self.after(index).filter(|_| self.is_swapped(index)).and_then(|node| node.leader.as_ref())
        else {
            return Ok(());
        };
        let from = match self.checked.proposals.binary_search_by(|proposal| proposal.path.cmp(leader)) {
            Ok(at) if self.is_swapped(at) => self.slot(at),
            _ => Place::tree(leader),
        };
        Ok(self.vfs.link(&from, &self.slot(index))?)
    }

    fn copy(&self, from: &Place, slot: &Place, node: &Node) -> Result<(), Error> {
        let source = self.vfs.open(from, Access::Read)?;
        let file = self.vfs.create(slot)?;
        if self.vfs.reflink(&source, &file)? {
            let (size, digest) = crate::tree::hash_file(self.vfs, slot)?;
            return check_content(from, node, size, digest);
        }
        let mut reader = FileReader { vfs: self.vfs, file: &source, offset: 0 };
        let (size, digest) = self.write(&file, slot, &mut reader, node.kind.size())?;
        check_content(from, node, size, digest)
    }

    /// Writes a content, at most one byte more than it should be.
    fn write(&self, file: &V::File, at: &Place, from: &mut dyn Read, size: u64) -> Result<(u64, Digest), Error> {
        let mut buffer = vec![0; limits::COPY_BUFFER.min(usize::try_from(size).unwrap_or(usize::MAX).max(1))];
        write_sparse(self.vfs, (file, at), &mut from.take(size.saturating_add(1)), &mut buffer, &|n| self.progress(n))
    }

    pub(super) fn progress(&self, bytes: u64) -> Result<(), Error> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.observer.report(Progress { phase: Phase::Stage, done, total: self.total });
        if self.observer.cancelled() { Err(Error::new(Code::Cancelled, "stopped on request")) } else { Ok(()) }
    }

    /// Owner and group that a new object must be given; nothing for those that it has from its folder.
    fn owner(&self, node: &Node, index: usize) -> Option<(u32, u32)> {
        let Metadata { uid, gid, .. } = node.metadata;
        let owner = if self.policy.owner { Some((uid, gid)) } else { self.checked.owners[index] };
        owner.filter(|owner| Some(*owner) != self.maker)
    }

    /// Did a file get all that [`Stager::dress`] would give it when it was made?
    fn is_dressed(&self, stat: &Stat, node: &Node, index: usize) -> bool {
        let Metadata { mode, mtime, ref xattrs, .. } = node.metadata;
        let owner = self.owner(node, index).or(self.maker);
        xattrs.is_empty() && owner == Some((stat.uid, stat.gid)) && (stat.mode, stat.mtime) == (mode, mtime)
    }

    /// Gives a stored object its metadata: owner first, since that clears bits of the mode; attributes before the mode,
    /// which may forbid them; time last. Gives what it is known by from now on, or an error if the file system did not
    /// keep what was set: after a crash nobody could tell that this is the new object.
    fn dress(&self, slot: &Place, file: Option<&V::File>, node: &Node, index: usize) -> Result<Print, Error> {
        let Metadata { mode, mtime, xattrs, .. } = &node.metadata;
        if let Some((uid, gid)) = self.owner(node, index) {
            match self.vfs.set_owner(slot, uid, gid) {
                // Where a user may not do it after all, the object is his like any other.
                Err(error) if self.is_refused_to_user(&error) => {}
                done => done?,
            }
        }
        // From the last: an ACL, which comes before attributes of users, sets the mode as well.
        for (name, value) in xattrs.iter().rev() {
            self.vfs.set_xattr(slot, name, Some(value))?;
        }
        match file {
            _ if matches!(node.kind, Kind::Symlink { .. }) => {}
            Some(file) => self.vfs.set_mode_of(file, slot, *mode)?,
            None if node.is_directory() && self.vfs.user() != 0 => self.vfs.set_mode(slot, open_mode(*mode))?,
            None => self.vfs.set_mode(slot, *mode)?,
        }
        match file {
            Some(file) => self.vfs.set_mtime_of(file, slot, *mtime)?,
            None => self.vfs.set_mtime(slot, *mtime)?,
        }
        let gone = || Error::new(Code::Internal, format!("{slot} is gone"));
        let stat = match file {
            Some(file) => self.vfs.stat_of(file, slot)?,
            None => self.vfs.stat(slot)?.ok_or_else(gone)?,
        };
        let mut kept =
            if xattrs.is_empty() { tree::bare_metadata(&stat) } else { tree::metadata_of(self.vfs, slot, &stat)? };
        if node.is_directory() && kept.mode == open_mode(*mode) {
            kept.mode = *mode;
        }
        let Some(difference) = kept.difference(&node.metadata, self.policy) else { return Ok(Print::of(&stat)) };
        let path = self.checked.proposals[index].path.clone();
        let message = format!("the file system does not keep what {path} should have: it got {difference}");
        Err(Error::new(Code::Metadata, message).listing(vec![Finding { path, difference }]))
    }

    fn is_refused_to_user(&self, error: &IoError) -> bool {
        let refused = matches!(error.source.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput);
        refused && self.vfs.user() != 0 && !self.policy.owner
    }

    /// The steps in order, each with the inodes of its ends. `stored` are new objects that were looked at already.
    fn into_steps(mut self, stored: &BTreeMap<usize, Print>) -> Result<(Vec<Step>, Vec<Seen>), Error> {
        let order = std::mem::take(&mut self.checked.order);
        let mut steps = Vec::with_capacity(order.len());
        let mut all_seen = Vec::with_capacity(order.len());
        for index in order {
            let proposal = &self.checked.proposals[index];
            let mut seen = self.checked.seen[index];
            let swapped = self.is_swapped(index);
            if swapped && proposal.after.is_some() {
                let slot = self.slot(index);
                let gone = || Error::new(Code::Internal, format!("{slot} is gone"));
                let print = match stored.get(&index) {
                    Some(print) => *print,
                    None => Print::of(&self.vfs.stat(&slot)?.ok_or_else(gone)?),
                };
                seen.slot = Some((print, Ends { before: false, after: true }));
                if !self.vfs.sync_all_reports() && proposal.after.as_ref().is_some_and(Node::is_file) {
                    let file = self.vfs.open(&slot, Access::Read)?;
                    self.vfs.sync_file(&file).map_err(|error| {
                        super::executor::mark_poisoned(self.vfs);
                        Error::new(Code::SyncFailed, "new content cannot be made durable").because(error)
                    })?;
                }
            }
            let inode = |known: &Option<(Print, Ends)>| known.map_or(0, |(print, _)| print.inode);
            let slot = self.slot_number(index);
            // Each change is one step at most.
            let proposal = &mut self.checked.proposals[index];
            steps.push(Step {
                root: 0,
                path: std::mem::replace(&mut proposal.path, TreePath::root()),
                slot,
                in_place: !swapped,
                before: proposal.before.take(),
                before_inode: inode(&seen.tree),
                after: proposal.after.take(),
                after_inode: inode(&seen.slot),
            });
            all_seen.push(seen);
        }
        Ok((steps, all_seen))
    }
}

/// Where objects cannot be exchanged: gives every object that will be replaced a second name, durable before the first
/// step, so that a file system that keeps one rename and loses another cannot lose the object.
pub(super) fn keep_old<V: Vfs>(vfs: &V, method: Method, slots: Id, steps: &[Step]) -> Result<(), Error> {
    if method == Method::Exchange {
        return Ok(());
    }
    super::store::ensure_bare_dir(vfs, &layout::asides(slots))?;
    for step in steps.iter().filter(|step| !step.in_place && step.after.is_some()) {
        if let Some(before) = &step.before {
            second_name(vfs, &super::evidence::tree_place(step), &layout::aside(slots, step.slot), before)?;
        }
    }
    Ok(())
}

/// Where objects cannot be exchanged: prepares an undo like any other transaction, with slots of its own that hold
/// second names of what the update before has kept. So whatever becomes of it, the kept objects are still there.
pub(super) fn stage_undo<V: Vfs>(vfs: &V, kept: Id, plan: &mut Plan) -> Result<(), Error> {
    if plan.method == Method::Exchange {
        return Ok(());
    }
    plan.slots = plan.transaction;
    super::store::ensure_bare_dir(vfs, &layout::slots(plan.slots))?;
    for step in plan.steps.iter_mut().filter(|step| !step.in_place) {
        let Some(after) = &step.after else { continue };
        let from = match step.before {
            Some(_) => layout::aside(kept, step.slot),
            None => layout::slot(kept, step.slot),
        };
        let to = layout::slot(plan.slots, step.slot);
        second_name(vfs, &from, &to, after)?;
        step.after_inode = vfs.stat(&to)?.map_or(0, |stat| stat.inode);
    }
    keep_old(vfs, plan.method, plan.slots, &plan.steps)
}

/// Gives an object a second name, or where that cannot be makes another one like it.
fn second_name<V: Vfs>(vfs: &V, from: &Place, to: &Place, node: &Node) -> Result<(), Error> {
    if !node.is_directory() && vfs.link(from, to).is_ok() {
        return Ok(());
    }
    match &node.kind {
        Kind::Directory => vfs.mkdir(to)?,
        Kind::Symlink { target } => vfs.symlink(target, to)?,
        Kind::File { .. } => {
            let source = vfs.open(from, Access::Read)?;
            let content = &mut FileReader { vfs, file: &source, offset: 0 };
            let (size, digest) = store_early(vfs, to, content)?;
            check_content(from, node, size, digest)?;
            super::store::sync_one(vfs, to)?;
        }
    }
    let stat = vfs.stat(from)?.ok_or_else(|| Error::new(Code::Foreign, format!("{from} is gone")))?;
    if vfs.user() == 0 {
        vfs.set_owner(to, stat.uid, stat.gid)?;
    }
    for (name, value) in node.metadata.xattrs.iter().rev() {
        vfs.set_xattr(to, name, Some(value))?;
    }
    if stat.kind != FileType::Symlink {
        let opened = node.is_directory() && vfs.user() != 0;
        vfs.set_mode(to, if opened { open_mode(stat.mode) } else { stat.mode })?;
    }
    Ok(vfs.set_mtime(to, stat.mtime)?)
}

/// Stores a content that comes before its transaction: the slot, its size and its digest.
pub(super) fn store_early<V: Vfs>(vfs: &V, slot: &Place, content: &mut dyn Read) -> Result<(u64, Digest), Error> {
    let file = vfs.create(slot)?;
    write_sparse(vfs, (&file, slot), content, &mut vec![0; limits::COPY_BUFFER], &|_| Ok(()))
}

/// Writes a content into an empty file, as much at a time as the buffer holds. Whole buffers of zeros become holes.
fn write_sparse<V: Vfs>(
    vfs: &V,
    (file, at): (&V::File, &Place),
    from: &mut dyn Read,
    buffer: &mut [u8],
    told: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(u64, Digest), Error> {
    let mut hasher = Hasher::new();
    let (mut offset, mut hole) = (0, false);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unwrap_error(error, at)),
            }
        }
        let bytes = &buffer[..filled];
        if filled > 0 {
            hasher.update(bytes);
            hole = is_hole(bytes);
            if !hole {
                vfs.write_at(file, offset, bytes)?;
            }
            offset += filled as u64;
            told(filled as u64)?;
        }
        if filled < buffer.len() {
            break;
        }
    }
    if hole {
        vfs.set_len(file, offset)?;
    }
    Ok((offset, hasher.finish()))
}

fn check_content(what: impl std::fmt::Display, node: &Node, size: u64, digest: Digest) -> Result<(), Error> {
    if node.kind == (Kind::File { size, digest }) {
        return Ok(());
    }
    Err(Error::new(Code::Digest, format!("the content of {what} is not what was promised")))
}

/// A whole buffer of zeros becomes a hole.
pub(super) fn is_hole(bytes: &[u8]) -> bool {
    bytes.len() >= 4096 && bytes.iter().all(|byte| *byte == 0)
}

/// The error that a reader carries, if it is one of ours or says what is wrong with the package.
pub(super) fn unwrap_error(error: std::io::Error, at: &Place) -> Error {
    let message = format!("reading the content for {at} failed");
    match error.downcast::<Error>().map_err(std::io::Error::downcast::<PackageError>) {
        Ok(ours) => ours,
        Err(Ok(package)) => package.into(),
        Err(Err(error)) => Error::new(Code::Io, message).because(error),
    }
}

/// Reads an open file from the start.
pub(super) struct FileReader<'a, V: Vfs> {
    pub(super) vfs: &'a V,
    pub(super) file: &'a V::File,
    pub(super) offset: u64,
}

impl<V: Vfs> Read for FileReader<'_, V> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.vfs.read_at(self.file, self.offset, buffer).map_err(std::io::Error::other)?;
        self.offset += n as u64;
        Ok(n)
    }
}

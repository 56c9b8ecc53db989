//! The calls of [`Vfs`] on a [`SimVfs`], with the errors that Linux gives.

use super::content::{LONGEST_FILE, PAGE};
use super::disk::{Body, Change, Directory, Id, Inode, Link, Mark, Name, ROOT};
use super::faults::Nature;
use super::{Errno, STATE_NAME, SimVfs, State};
use crate::limits;
use crate::model::{Time, TreePath, Xattrs};
use crate::vfs::{Access, Capabilities, FileType, IoError, Place, Rename, RootId, Session, Space, Stat, Vfs};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The number of the simulated device.
const DEVICE: u64 = 1;

/// An open file of a [`SimVfs`].
pub struct SimFile {
    shared: Arc<Mutex<State>>,
    id: Id,
    access: Access,
    at: Place,
}

/// A lock held on a [`SimVfs`].
pub struct SimLock {
    shared: Arc<Mutex<State>>,
    id: Id,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.open.get(&self.id).copied().unwrap_or(0).saturating_sub(1);
        if left > 0 {
            state.open.insert(self.id, left);
        } else {
            state.open.remove(&self.id);
            state.live.closed(self.id);
            state.settle();
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).locks.remove(&self.id);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({}, inode {})", self.at, self.id)
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLock(inode {})", self.id)
    }
}

/// Is this an attribute of the tree, rather than of the machine?
pub(super) fn is_recorded(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

impl SimVfs {
    /// One call: counted, perhaps failed on purpose, traced.
    fn call<T>(
        &self,
        nature: Nature,
        operation: &'static str,
        what: fmt::Arguments<'_>,
        act: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, IoError> {
        let mut state = self.state();
        let (number, step) = (state.counters.all, state.counters.steps);
        let was_crashed = state.crashed;
        let result = match state.begin(nature) {
            Err(error) => Err(error),
            Ok(None) => act(&mut state).map_err(Into::into),
            Ok(Some(errno)) => {
                // The handle that the call may have made is dropped without the lock that its drop takes.
                let made = act(&mut state);
                drop(state);
                drop(made);
                state = self.state();
                Err(errno.into())
            }
        };
        if state.options.trace && !was_crashed {
            state.trace.push(super::Call {
                number,
                step: (nature != Nature::Read).then_some(step),
                text: format!("{operation} {what}"),
                error: result.as_ref().err().map(ToString::to_string),
            });
        }
        result.map_err(|error| IoError::new(operation, what, error))
    }

    fn opened(&self, state: &mut State, id: Id, access: Access, at: &Place) -> SimFile {
        *state.open.entry(id).or_default() += 1;
        SimFile { shared: self.shared.clone(), id, access, at: at.clone() }
    }
}

/// Where a path leads: what stands there, and the entry that holds it (the root has none).
struct Spot {
    entry: Option<(Id, Name)>,
    id: Option<Id>,
}

impl State {
    fn spot(&self, at: &Place) -> Result<Spot, Errno> {
        let mut directory = match at.root {
            RootId::TREE => ROOT,
            RootId::STATE => self.entry(ROOT, STATE_NAME).1.ok_or(Errno::NOENT)?,
            RootId(_) => return Err(Errno::NOENT),
        };
        let mut components = at.path.components().peekable();
        while let Some(name) = components.next() {
            if self.is_marked(directory, Mark::MountPoint) {
                return Err(Errno::XDEV);
            }
            match self.live.inode(directory).map(|inode| &inode.body) {
                Some(Body::Directory(_)) => self.permit(directory, 0o1)?,
                Some(Body::File(_)) => return Err(Errno::NOTDIR),
                Some(Body::Symlink(_)) => return Err(Errno::LOOP),
                None => return Err(Errno::NOENT),
            }
            let (name, id) = self.entry(directory, name);
            if components.peek().is_none() {
                return Ok(Spot { entry: Some((directory, name)), id });
            }
            directory = id.ok_or(Errno::NOENT)?;
        }
        Ok(Spot { entry: None, id: Some(directory) })
    }

    /// May this user do that (bits as those of others in a mode) with an inode?
    fn permit(&self, id: Id, bits: u32) -> Result<(), Errno> {
        if bits & 0o2 != 0 && self.is_marked(id, Mark::Immutable) {
            return Err(Errno::PERM);
        }
        let (user, inode) = (self.options.user, self.live.inode(id).ok_or(Errno::NOENT)?);
        let shift = if user == inode.uid {
            6
        } else if self.is_in(inode.gid) {
            3
        } else {
            0
        };
        let permitted = user == 0 || self.outside || inode.mode >> shift & bits == bits;
        if permitted { Ok(()) } else { Err(Errno::ACCESS) }
    }

    /// Does a mark keep an inode from being changed? Tests pass over it.
    fn is_marked(&self, id: Id, mark: Mark) -> bool {
        !self.outside && self.live.inode(id).is_some_and(|inode| inode.mark == Some(mark))
    }

    /// May the names of an inode be changed, as far as it has a say?
    fn permit_names(&self, id: Id) -> Result<(), Errno> {
        match self.live.inode(id).and_then(|inode| inode.mark) {
            Some(Mark::Immutable) => Err(Errno::PERM),
            Some(Mark::MountPoint) => Err(Errno::BUSY),
            None => Ok(()),
        }
    }

    /// What a name holds, and the name as the directory spells it.
    fn entry(&self, directory: Id, name: &[u8]) -> (Name, Option<Id>) {
        let Some(directory) = self.live.directory(directory) else { return (name.into(), None) };
        let mut found = directory.entries.get_key_value(name);
        if found.is_none() && self.options.folds_case {
            found = directory.entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        }
        found.map_or_else(|| (name.into(), None), |(name, id)| (name.clone(), Some(*id)))
    }

    fn found(&self, at: &Place) -> Result<(Id, &Inode), Errno> {
        let id = self.spot(at)?.id.ok_or(Errno::NOENT)?;
        Ok((id, self.live.inode(id).ok_or(Errno::NOENT)?))
    }

    /// An entry that does not exist yet.
    fn vacant(&self, at: &Place) -> Result<(Id, Name), Errno> {
        match self.spot(at)? {
            Spot { entry: Some(entry), id: None } => Ok(entry),
            _ => Err(Errno::EXIST),
        }
    }

    /// An entry that exists; not the root.
    fn occupied(&self, at: &Place) -> Result<(Id, Name, Id), Errno> {
        let spot = self.spot(at)?;
        let (directory, name) = spot.entry.ok_or(Errno::BUSY)?;
        Ok((directory, name, spot.id.ok_or(Errno::NOENT)?))
    }

    pub(super) fn make(&mut self, at: &Place, body: Body, mode: u32) -> Result<Id, Errno> {
        let (directory, name) = self.vacant(at)?;
        self.permit(directory, 0o3)?;
        let parent = self.live.inode(directory).ok_or(Errno::NOENT)?;
        let inherits = parent.mode & 0o2000 != 0;
        let group = if inherits { parent.gid } else { self.options.group() };
        let mode = if inherits && matches!(body, Body::Directory(_)) { mode | 0o2000 } else { mode };
        let (id, number) = self.new_inode()?;
        let inode = Inode::new(body, number, mode, (self.options.user, group), self.time());
        let links = vec![Link { directory, name, id: Some(id) }];
        self.record(vec![Change::Entries { made: Some((id, Arc::new(inode))), links }]);
        Ok(id)
    }

    pub(super) fn write(&mut self, id: Id, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if offset.saturating_add(bytes.len() as u64) > LONGEST_FILE {
            return Err(Errno::FBIG);
        }
        let content = self.live.file(id).ok_or(Errno::BADF)?;
        let mut fits = bytes.len();
        while fits > 0 && content.needed(offset, fits) > self.free_pages() {
            // One page less: what a full disk still takes is written, as the kernel does.
            fits = (offset as usize + fits - 1) / PAGE * PAGE;
            fits = fits.saturating_sub(offset as usize);
        }
        if fits > 0 {
            let end = offset + fits as u64;
            let mut changes = vec![Change::Data { id, pieces: content.pieces(offset, &bytes[..fits]) }];
            if end > content.length {
                changes.push(Change::Size { id, length: end, shrink: false });
            }
            self.record(changes);
        }
        if fits < bytes.len() { Err(Errno::NOSPC) } else { Ok(()) }
    }

    pub(super) fn add_link(&mut self, from: &Place, to: &Place) -> Result<(), Errno> {
        let (_, _, id) = self.occupied(from)?;
        if self.live.directory(id).is_some() || !self.options.hard_links {
            return Err(Errno::PERM);
        }
        let (directory, name) = self.vacant(to)?;
        self.permit(directory, 0o3)?;
        self.permit_names(id)?;
        self.record(vec![Change::Entries { made: None, links: vec![Link { directory, name, id: Some(id) }] }]);
        Ok(())
    }

    fn rename(&mut self, from: &Place, to: &Place, how: Rename) -> Result<(), Errno> {
        if how == Rename::Exchange && !self.options.exchange {
            return Err(Errno::INVAL);
        }
        let (from_directory, from_name, from_id) = self.occupied(from)?;
        let spot = self.spot(to)?;
        let (to_directory, to_name) = spot.entry.ok_or(Errno::BUSY)?;
        match (how, spot.id) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if self.live.directory(from_id).is_some() && self.live.is_within(to_directory, from_id) {
            return Err(Errno::INVAL);
        }
        if let Some(id) = spot.id {
            if self.live.directory(id).is_some() && self.live.is_within(from_directory, id) {
                return Err(if how == Rename::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
            }
            if id == from_id {
                return Ok(());
            }
        }
        if let (Rename::Replace, Some(id)) = (how, spot.id) {
            match (self.live.directory(from_id), self.live.directory(id)) {
                (Some(_), None) => return Err(Errno::NOTDIR),
                (None, Some(_)) => return Err(Errno::ISDIR),
                (Some(_), Some(target)) if !target.entries.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.permit(from_directory, 0o3)?;
        self.permit(to_directory, 0o3)?;
        [Some(from_id), spot.id].into_iter().flatten().try_for_each(|id| self.permit_names(id))?;
        let back = if how == Rename::Exchange { spot.id } else { None };
        for moved in [Some(from_id), back].into_iter().flatten() {
            // Its entry ".." changes.
            if from_directory != to_directory && self.live.directory(moved).is_some() {
                self.permit(moved, 0o2)?;
            }
        }
        let links = vec![
            Link { directory: from_directory, name: from_name, id: back },
            Link { directory: to_directory, name: to_name, id: Some(from_id) },
        ];
        self.record(vec![Change::Entries { made: None, links }]);
        Ok(())
    }

    fn remove(&mut self, at: &Place, directory: bool) -> Result<(), Errno> {
        let (parent, name, id) = self.occupied(at)?;
        self.permit(parent, 0o3)?;
        self.permit_names(id)?;
        match (self.live.directory(id), directory) {
            (Some(_), false) => return Err(Errno::ISDIR),
            (None, true) => return Err(Errno::NOTDIR),
            (Some(Directory { entries, .. }), true) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.record(vec![Change::Entries { made: None, links: vec![Link { directory: parent, name, id: None }] }]);
        Ok(())
    }

    /// What stands at a place, for tests.
    pub(super) fn node(&self, at: &Place) -> Option<&Body> {
        self.found(at).ok().map(|(_, inode)| &inode.body)
    }

    /// The regular file at a place, for tests.
    pub(super) fn file_id(&self, at: &Place) -> Option<Id> {
        self.found(at).ok().filter(|(_, inode)| matches!(inode.body, Body::File(_))).map(|(id, _)| id)
    }

    /// Removes an entry whatever it holds, for tests.
    pub(super) fn unlink(&mut self, at: &Place) -> Result<(), Errno> {
        let (directory, name, _) = self.occupied(at)?;
        self.record(vec![Change::Entries { made: None, links: vec![Link { directory, name, id: None }] }]);
        Ok(())
    }

    /// The inode at a place, if this user may change its metadata.
    fn owned(&self, at: &Place) -> Result<(Id, &Inode), Errno> {
        let (id, inode) = self.found(at)?;
        if self.is_marked(id, Mark::Immutable) {
            return Err(Errno::PERM);
        }
        let user = self.options.user;
        if user == 0 || user == inode.uid { Ok((id, inode)) } else { Err(Errno::PERM) }
    }

    pub(super) fn set_mark(&mut self, at: &Place, mark: Option<Mark>) -> Result<(), Errno> {
        let (id, _) = self.found(at)?;
        self.record(vec![Change::Mark { id, mark }]);
        Ok(())
    }

    pub(super) fn set_mode(&mut self, at: &Place, mode: u32) -> Result<(), Errno> {
        let (id, inode) = self.owned(at)?;
        if let Body::Symlink(_) = inode.body {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = if self.options.user == 0 || self.is_in(inode.gid) { mode & 0o7777 } else { mode & 0o5777 };
        if !self.options.forgets_modes {
            self.record(vec![Change::Mode { id, mode }]);
        }
        Ok(())
    }

    pub(super) fn set_owner(&mut self, at: &Place, uid: u32, gid: u32) -> Result<(), Errno> {
        let (id, inode) = self.owned(at)?;
        if self.options.user != 0 && (uid != inode.uid || gid != inode.gid && !self.is_in(gid)) {
            return Err(Errno::PERM);
        }
        self.record(vec![Change::Owner { id, uid, gid }]);
        Ok(())
    }

    fn is_in(&self, gid: u32) -> bool {
        gid == self.options.group() || self.options.second_group == Some(gid)
    }

    pub(super) fn set_modified(&mut self, at: &Place, mtime: Time) -> Result<(), Errno> {
        let (id, _) = self.owned(at)?;
        let mtime = self.kept(mtime);
        self.record(vec![Change::Modified { id, mtime }]);
        Ok(())
    }

    pub(super) fn set_attribute(&mut self, at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), Errno> {
        let of_users = name.starts_with(b"user.");
        // These are taken for content: whoever may write to it may set them.
        let (id, inode) = if of_users { self.found(at)? } else { self.owned(at)? };
        if !self.options.xattrs {
            return Err(Errno::OPNOTSUPP);
        }
        if of_users && matches!(inode.body, Body::Symlink(_)) {
            return Err(Errno::PERM);
        }
        if of_users {
            self.permit(id, 0o2)?;
        }
        if name.starts_with(b"security.") && self.options.user != 0 {
            return Err(Errno::PERM);
        }
        if name.len() > limits::XATTR_NAME_BYTES || value.is_some_and(|value| value.len() > limits::XATTR_VALUE_BYTES) {
            return Err(Errno::RANGE);
        }
        if value.is_none() && !inode.xattrs.contains_key(name) {
            return Err(Errno::NODATA);
        }
        self.record(vec![Change::Xattr { id, name: name.into(), value: value.map(Into::into) }]);
        Ok(())
    }
}

impl Vfs for SimVfs {
    type File = SimFile;
    type Lock = SimLock;

    fn stat(&self, at: &Place) -> Result<Option<Stat>, IoError> {
        self.call(Nature::Read, "stat", format_args!("{at}"), |state| {
            let id = match state.spot(at) {
                Ok(Spot { id: Some(id), .. }) => id,
                // Where a file or a link stands, the directory that the path names does not exist.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno),
            };
            Ok(state.live.inode(id).map(stat_of))
        })
    }

    fn list(&self, at: &Place) -> Result<Vec<Box<[u8]>>, IoError> {
        self.call(Nature::Read, "list", format_args!("{at}"), |state| match state.found(at)? {
            (id, Inode { body: Body::Directory(directory), .. }) => {
                state.permit(id, 0o4)?;
                Ok(directory.entries.keys().map(|name| name[..].into()).collect())
            }
            (_, Inode { body: Body::File(_), .. }) => Err(Errno::NOTDIR),
            (_, Inode { body: Body::Symlink(_), .. }) => Err(Errno::LOOP),
        })
    }

    fn read_link(&self, at: &Place) -> Result<Box<[u8]>, IoError> {
        self.call(Nature::Read, "read link", format_args!("{at}"), |state| match &state.found(at)?.1.body {
            Body::Symlink(target) => Ok(target[..].into()),
            _ => Err(Errno::INVAL),
        })
    }

    fn xattrs(&self, at: &Place) -> Result<Xattrs, IoError> {
        self.call(Nature::Read, "read attributes of", format_args!("{at}"), |state| {
            let (id, inode) = state.found(at)?;
            let recorded = inode.xattrs.iter().filter(|(name, _)| is_recorded(name));
            if recorded.clone().any(|(name, _)| name.starts_with(b"user.")) {
                state.permit(id, 0o4)?;
            }
            Ok(recorded.map(|(name, value)| (name.clone(), value.clone())).collect())
        })
    }

    fn open(&self, at: &Place, access: Access) -> Result<SimFile, IoError> {
        self.call(Nature::Read, "open", format_args!("{at} ({access:?})"), |state| {
            let (id, inode) = state.found(at)?;
            match inode.body {
                Body::File(_) => {
                    state.permit(id, if access == Access::Read { 0o4 } else { 0o6 })?;
                    Ok(self.opened(state, id, access, at))
                }
                Body::Directory(_) => Err(Errno::ISDIR),
                Body::Symlink(_) => Err(Errno::LOOP),
            }
        })
    }

    fn create(&self, at: &Place) -> Result<SimFile, IoError> {
        self.call(Nature::Mutate, "create", format_args!("{at}"), |state| {
            let id = state.make(at, Body::File(super::content::Content::default()), 0o600)?;
            Ok(self.opened(state, id, Access::Write, at))
        })
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let wanted = buffer.len();
        self.call(Nature::Read, "read", format_args!("{}, {wanted} at {offset}", file.at), |state| {
            state.live.file(file.id).map(|content| content.read(offset, buffer)).ok_or(Errno::BADF)
        })
    }

    fn write_at(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.call(Nature::Mutate, "write", format_args!("{}, {} at {offset}", file.at, bytes.len()), |state| {
            if file.access == Access::Read { Err(Errno::BADF) } else { state.write(file.id, offset, bytes) }
        })
    }

    fn set_len(&self, file: &SimFile, length: u64) -> Result<(), IoError> {
        self.call(Nature::Mutate, "set length of", format_args!("{} to {length}", file.at), |state| {
            if file.access == Access::Read {
                return Err(Errno::INVAL);
            }
            if length > LONGEST_FILE {
                return Err(Errno::FBIG);
            }
            let before = state.live.file(file.id).ok_or(Errno::BADF)?.length;
            if before != length {
                state.record(vec![Change::Size { id: file.id, length, shrink: length < before }]);
            }
            Ok(())
        })
    }

    fn sync_file(&self, file: &SimFile) -> Result<(), IoError> {
        self.call(Nature::Sync, "sync", format_args!("{}", file.at), |state| state.sync(Some(file.id)))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.call(Nature::Sync, "sync", format_args!("everything"), |state| state.sync(None))
    }

    fn mkdir(&self, at: &Place) -> Result<(), IoError> {
        self.call(Nature::Mutate, "mkdir", format_args!("{at}"), |state| {
            state.make(at, Body::directory(), 0o700).map(|_| ())
        })
    }

    fn symlink(&self, target: &[u8], at: &Place) -> Result<(), IoError> {
        self.call(Nature::Mutate, "symlink", format_args!("{at} to {}", target.escape_ascii()), |state| {
            if !state.options.symlinks {
                return Err(Errno::PERM);
            }
            if target.is_empty() {
                return Err(Errno::NOENT);
            }
            if target.len() > limits::LINK_TARGET_BYTES {
                return Err(Errno::NAMETOOLONG);
            }
            state.make(at, Body::Symlink(target.into()), 0o777).map(|_| ())
        })
    }

    fn link(&self, from: &Place, to: &Place) -> Result<(), IoError> {
        self.call(Nature::Mutate, "link", format_args!("{from} -> {to}"), |state| state.add_link(from, to))
    }

    fn rename(&self, from: &Place, to: &Place, how: Rename) -> Result<(), IoError> {
        let mark = match how {
            Rename::NoReplace => "",
            Rename::Replace => " (replace)",
            Rename::Exchange => " (exchange)",
        };
        let what = format_args!("{from} -> {to}{mark}");
        self.call(Nature::Mutate, "rename", what, |state| state.rename(from, to, how))
    }

    fn remove_file(&self, at: &Place) -> Result<(), IoError> {
        self.call(Nature::Mutate, "remove", format_args!("{at}"), |state| state.remove(at, false))
    }

    fn remove_dir(&self, at: &Place) -> Result<(), IoError> {
        self.call(Nature::Mutate, "remove directory", format_args!("{at}"), |state| state.remove(at, true))
    }

    fn set_mode(&self, at: &Place, mode: u32) -> Result<(), IoError> {
        self.call(Nature::Mutate, "set mode of", format_args!("{at} to {mode:o}"), |state| state.set_mode(at, mode))
    }

    fn set_owner(&self, at: &Place, uid: u32, gid: u32) -> Result<(), IoError> {
        let what = format_args!("{at} to {uid}:{gid}");
        self.call(Nature::Mutate, "set owner of", what, |state| state.set_owner(at, uid, gid))
    }

    fn set_mtime(&self, at: &Place, mtime: Time) -> Result<(), IoError> {
        let what = format_args!("{at} to {}.{:09}", mtime.seconds, mtime.nanoseconds);
        self.call(Nature::Mutate, "set time of", what, |state| state.set_modified(at, mtime))
    }

    fn set_xattr(&self, at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), IoError> {
        let what = format_args!("{at}: {}", name.escape_ascii());
        self.call(Nature::Mutate, "set attribute of", what, |state| state.set_attribute(at, name, value))
    }

    fn reflink(&self, from: &SimFile, to: &SimFile) -> Result<bool, IoError> {
        let nature = if self.state().options.reflink { Nature::Mutate } else { Nature::Read };
        self.call(nature, "share blocks of", format_args!("{} with {}", from.at, to.at), |state| {
            if !state.options.reflink {
                return Ok(false);
            }
            let source = state.live.file(from.id).ok_or(Errno::BADF)?;
            let target = state.live.file(to.id).ok_or(Errno::BADF)?;
            if target.length > 0 || to.access == Access::Read {
                return Err(Errno::INVAL);
            }
            let (length, pieces) = (source.length, source.all_pieces());
            state.record(vec![Change::Data { id: to.id, pieces }, Change::Size { id: to.id, length, shrink: false }]);
            Ok(true)
        })
    }

    fn capabilities(&self, scratch: &Place) -> Result<Capabilities, IoError> {
        self.call(Nature::Read, "probe", format_args!("{scratch}"), |state| {
            let options = &state.options;
            Ok(Capabilities {
                exchange: options.exchange,
                hard_links: options.hard_links,
                symlinks: options.symlinks,
                xattrs: options.xattrs,
                atomic_rename: options.atomic_rename,
            })
        })
    }

    fn sync_all_reports(&self) -> bool {
        self.state().options.sync_all_reports
    }

    fn folds_case(&self, directory: &Place) -> Result<bool, IoError> {
        self.call(Nature::Read, "probe case of", format_args!("{directory}"), |state| Ok(state.options.folds_case))
    }

    fn space(&self, root: RootId) -> Result<Space, IoError> {
        let at = Place { root, path: TreePath::root() };
        self.call(Nature::Read, "measure", format_args!("{at}"), |state| {
            Ok(Space {
                block: PAGE as u64,
                free_bytes: state.free_pages() * PAGE as u64,
                free_inodes: Some(state.free_inodes()),
            })
        })
    }

    fn lock(&self, at: &Place) -> Result<Option<SimLock>, IoError> {
        let missing = matches!(self.state().spot(at), Ok(Spot { id: None, .. }));
        let nature = if missing { Nature::Mutate } else { Nature::Read };
        self.call(nature, "lock", format_args!("{at}"), |state| {
            let id = if missing {
                state.make(at, Body::File(super::content::Content::default()), 0o600)?
            } else {
                state.found(at)?.0
            };
            match state.live.inode(id).map(|inode| &inode.body) {
                Some(Body::File(_)) => {}
                Some(Body::Symlink(_)) => return Err(Errno::LOOP),
                _ => return Err(Errno::ISDIR),
            }
            Ok(state.locks.insert(id).then(|| SimLock { shared: self.shared.clone(), id }))
        })
    }

    fn session(&self) -> Result<Session, IoError> {
        self.call(Nature::Read, "name the session", format_args!("of the disk"), |state| {
            Ok(Session(sixteen(state.options.seed ^ 0x5e55, state.memory.boots)))
        })
    }

    fn now(&self) -> Time {
        self.state().time()
    }

    fn fresh_id(&self) -> Result<[u8; 16], IoError> {
        self.call(Nature::Read, "make", format_args!("an id"), |state| {
            state.memory.fresh_ids += 1;
            Ok(sixteen(state.options.seed, state.memory.fresh_ids))
        })
    }

    fn user(&self) -> u32 {
        self.state().options.user
    }

    fn is_member(&self, gid: u32) -> bool {
        self.state().is_in(gid)
    }

    fn threads(&self) -> usize {
        1
    }
}

fn stat_of(inode: &Inode) -> Stat {
    let (kind, size, links) = match &inode.body {
        Body::File(content) => (FileType::File, content.length, inode.names.into()),
        Body::Symlink(target) => (FileType::Symlink, target.len() as u64, inode.names.into()),
        Body::Directory(directory) => (FileType::Directory, PAGE as u64, 2 + directory.directories),
    };
    Stat {
        kind,
        size,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        ctime: inode.ctime,
        inode: inode.number,
        device: DEVICE,
        links,
        mount_point: inode.mark == Some(Mark::MountPoint),
        immutable: inode.mark == Some(Mark::Immutable),
    }
}

/// Sixteen bytes made of a seed and a counter: another counter, other bytes.
fn sixteen(seed: u64, counter: u64) -> [u8; 16] {
    let mut dice = super::Dice(seed);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(dice.roll() ^ counter).to_le_bytes());
    bytes[8..].copy_from_slice(&super::mix(dice.roll(), counter).to_le_bytes());
    bytes
}

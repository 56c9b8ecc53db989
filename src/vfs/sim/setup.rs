//! What tests do to a disk from outside: durable at once, with everything that was pending; not counted, not traced,
//! never failing on purpose.
//!
//! All of these panic on a mistake of the test, such as a path that is not there.

use super::disk::{Body, Mark};
use super::snapshot::place;
use super::{Errno, SimVfs, State};
use crate::model::Time;
use crate::vfs::Place;

impl SimVfs {
    /// Writes a whole file, mode `0o644` if it is new, and makes the directories above it.
    pub fn write_file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        self.make_parents(path);
        self.outside(path, |state, at| {
            if state.node(at).is_some() {
                let id = state.file_id(at).ok_or(Errno::ISDIR)?;
                let shorter = super::Change::Size { id, length: 0, shrink: true };
                state.record(vec![shorter]);
                return state.write(id, 0, bytes.as_ref());
            }
            let id = state.make(at, Body::File(super::content::Content::default()), 0o644)?;
            state.write(id, 0, bytes.as_ref())
        })
    }

    /// Makes a directory, mode `0o755`, and those above it, unless it exists.
    pub fn make_dir(&self, path: &str) -> &Self {
        self.make_parents(path);
        self.outside(path, |state, at| match state.node(at) {
            Some(Body::Directory(_)) => Ok(()),
            _ => state.make(at, Body::directory(), 0o755).map(|_| ()),
        })
    }

    /// Makes a symbolic link, and the directories above it.
    pub fn make_symlink(&self, target: &str, path: &str) -> &Self {
        self.make_parents(path);
        self.outside(path, |state, at| state.make(at, Body::Symlink(target.as_bytes().into()), 0o777).map(|_| ()))
    }

    /// Gives a file a second name, and makes the directories above that.
    pub fn make_link(&self, from: &str, path: &str) -> &Self {
        self.make_parents(path);
        self.outside(path, |state, at| state.add_link(&place(from), at))
    }

    /// Sets permission bits.
    pub fn chmod(&self, path: &str, mode: u32) -> &Self {
        self.outside(path, |state, at| as_root(state, |state| state.set_mode(at, mode)))
    }

    /// Sets owner and group.
    pub fn chown(&self, path: &str, uid: u32, gid: u32) -> &Self {
        self.outside(path, |state, at| as_root(state, |state| state.set_owner(at, uid, gid)))
    }

    /// Sets the time of last modification, in seconds.
    pub fn touch(&self, path: &str, seconds: i64) -> &Self {
        self.outside(path, |state, at| as_root(state, |state| state.set_modified(at, Time { seconds, nanoseconds: 0 })))
    }

    /// Sets an extended attribute.
    pub fn attribute(&self, path: &str, name: &str, value: impl AsRef<[u8]>) -> &Self {
        self.outside(path, |state, at| {
            as_root(state, |state| state.set_attribute(at, name.as_bytes(), Some(value.as_ref())))
        })
    }

    /// Marks what stands at a path immutable (`chattr +i`), or takes the mark away.
    pub fn set_immutable(&self, path: &str, on: bool) -> &Self {
        self.outside(path, |state, at| state.set_mark(at, on.then_some(Mark::Immutable)))
    }

    /// Mounts another file system on a directory, or takes it away.
    pub fn set_mount_point(&self, path: &str, on: bool) -> &Self {
        self.outside(path, |state, at| state.set_mark(at, on.then_some(Mark::MountPoint)))
    }

    /// Removes whatever stands at a path, with everything below it.
    pub fn remove_all(&self, path: &str) -> &Self {
        self.outside(path, |state, at| state.unlink(at))
    }

    /// The bytes of a file as they can be seen now; nothing if no regular file stands there.
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        match state.node(&place(path))? {
            Body::File(content) => Some(content.to_vec()),
            _ => None,
        }
    }

    /// Does anything stand at a path?
    pub fn exists(&self, path: &str) -> bool {
        self.state().node(&place(path)).is_some()
    }

    fn make_parents(&self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.make_dir(parent);
        }
    }

    #[allow(clippy::panic, reason = "the test asks for something that its own tree does not allow")]
    #[track_caller]
    fn outside(&self, path: &str, act: impl FnOnce(&mut State, &Place) -> Result<(), Errno>) -> &Self {
        let mut state = self.state();
        let mutations = state.counters.mutations;
        state.memory.ticks += 1;
        state.outside = true;
        let result = act(&mut state, &place(path));
        state.outside = false;
        state.counters.mutations = mutations;
        state.commit_all();
        drop(state);
        match result {
            Ok(()) => self,
            Err(errno) => panic!("cannot prepare {path}: {errno}"),
        }
    }
}

/// A test may change what its user may not.
fn as_root(state: &mut State, act: impl FnOnce(&mut State) -> Result<(), Errno>) -> Result<(), Errno> {
    let user = std::mem::take(&mut state.options.user);
    let result = act(state);
    state.options.user = user;
    result
}

//! `Vfs`: the only way to the disk.
//!
//! [`OsVfs`] is the real one; `SimVfs` (feature `sim`) is a disk in memory that can forget. Everything that surefoot
//! does to a file system goes through this trait, one small call at a time, so that each call can be a crash point.
//!
//! Paths are [`Place`]s: a root, opened once, and a [`TreePath`] below it. No caller can express a path that leaves
//! its root, no call follows a symbolic link, and no call crosses into another mounted file system.

mod os;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use os::{OsFiles, OsVfs};
#[cfg(any(test, feature = "sim"))]
pub use sim::SimVfs;

use crate::model::{PathError, Time, TreePath, Xattrs};
use std::fmt;
use std::io;

/// A file system that surefoot can work on.
///
/// Every method is one step as far as a crash is concerned, except that bytes of `write_at` may reach the disk in any
/// order and in part. Nothing is durable before [`Vfs::sync_file`] or [`Vfs::sync_all`] says so; after one of these has
/// failed nothing may be assumed and neither may be tried again.
pub trait Vfs: Send + Sync {
    /// An open regular file.
    type File: Send + Sync;
    /// A held lock; dropping it releases it, and so does the end of the process.
    type Lock: Send + Sync;

    /// What stands at a place; nothing if the place, or a directory on the way, does not exist.
    fn stat(&self, at: &Place) -> Result<Option<Stat>, IoError>;
    /// [`Vfs::stat`] of a file that is open, and stands at this place.
    fn stat_of(&self, file: &Self::File, at: &Place) -> Result<Stat, IoError> {
        let _ = file;
        self.stat(at)?.ok_or_else(|| IoError::new("stat", at, io::ErrorKind::NotFound))
    }
    /// The names in a directory, in no particular order.
    fn list(&self, at: &Place) -> Result<Vec<Box<[u8]>>, IoError>;
    /// What a symbolic link points to.
    fn read_link(&self, at: &Place) -> Result<Box<[u8]>, IoError>;
    /// The recorded extended attributes (see [`Xattrs`]), sorted by name; none where the file system has none.
    fn xattrs(&self, at: &Place) -> Result<Xattrs, IoError>;
    /// [`Vfs::xattrs`] of a file that is open, and stands at this place.
    fn xattrs_of(&self, file: &Self::File, at: &Place) -> Result<Xattrs, IoError> {
        let _ = file;
        self.xattrs(at)
    }

    /// Opens an existing regular file; anything else is an error.
    fn open(&self, at: &Place, access: Access) -> Result<Self::File, IoError>;
    /// Creates a regular file, empty, mode `0o600`; it must not exist.
    fn create(&self, at: &Place) -> Result<Self::File, IoError>;
    /// Reads some bytes at `offset`; zero at the end of the file.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> Result<(), IoError>;
    /// Sets the length; what is added reads as zeros.
    fn set_len(&self, file: &Self::File, length: u64) -> Result<(), IoError>;
    /// Makes the content and length of one file durable (`fdatasync`).
    fn sync_file(&self, file: &Self::File) -> Result<(), IoError>;
    /// Makes everything done so far, through whatever call, durable (`syncfs`).
    fn sync_all(&self) -> Result<(), IoError>;

    /// Creates a directory, mode `0o700`; it must not exist.
    fn mkdir(&self, at: &Place) -> Result<(), IoError>;
    /// Creates a symbolic link; it must not exist.
    fn symlink(&self, target: &[u8], at: &Place) -> Result<(), IoError>;
    /// Gives the file at `from` a second name `to`, which must not exist.
    fn link(&self, from: &Place, to: &Place) -> Result<(), IoError>;
    /// Renames, of whatever type.
    fn rename(&self, from: &Place, to: &Place, how: Rename) -> Result<(), IoError>;
    /// Removes a file or symbolic link.
    fn remove_file(&self, at: &Place) -> Result<(), IoError>;
    /// Removes an empty directory.
    fn remove_dir(&self, at: &Place) -> Result<(), IoError>;

    /// Sets the permission bits (`0o7777`) of a file or directory.
    fn set_mode(&self, at: &Place, mode: u32) -> Result<(), IoError>;
    /// [`Vfs::set_mode`] of a file that is open, and stands at this place.
    fn set_mode_of(&self, file: &Self::File, at: &Place, mode: u32) -> Result<(), IoError> {
        let _ = file;
        self.set_mode(at, mode)
    }
    /// Sets owner and group; of a file this clears setuid, setgid and capabilities, as the kernel does.
    fn set_owner(&self, at: &Place, uid: u32, gid: u32) -> Result<(), IoError>;
    /// Sets the time of last modification.
    fn set_mtime(&self, at: &Place, mtime: Time) -> Result<(), IoError>;
    /// [`Vfs::set_mtime`] of a file that is open, and stands at this place.
    fn set_mtime_of(&self, file: &Self::File, at: &Place, mtime: Time) -> Result<(), IoError> {
        let _ = file;
        self.set_mtime(at, mtime)
    }
    /// Sets an extended attribute, or removes it.
    fn set_xattr(&self, at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), IoError>;
    /// Makes `to`, which is empty, share the blocks of `from`. False where the file system cannot; nothing has changed
    /// then.
    fn reflink(&self, from: &Self::File, to: &Self::File) -> Result<bool, IoError> {
        let _ = (from, to);
        Ok(false)
    }

    /// What the file system can do, found out by trying inside the directory `scratch`, which is left as it was.
    fn capabilities(&self, scratch: &Place) -> Result<Capabilities, IoError>;
    /// Are all roots on one mounted file system, so that renames between them work and one [`Vfs::sync_all`] covers them?
    fn same_file_system(&self) -> Result<bool, IoError> {
        Ok(true)
    }
    /// Does [`Vfs::sync_all`] report every failure? `syncfs` does since Linux 5.17, on real block file systems. Elsewhere
    /// each file is synced as well.
    fn sync_all_reports(&self) -> bool;
    /// Are names that differ in case only the same name in this directory?
    fn folds_case(&self, directory: &Place) -> Result<bool, IoError>;
    /// What is free on the file system of a root.
    fn space(&self, root: RootId) -> Result<Space, IoError>;
    /// Takes the lock on the file at a place, which is created if it is missing; nothing if another process holds it.
    fn lock(&self, at: &Place) -> Result<Option<Self::Lock>, IoError>;
    /// Names the life of the kernel's cache: another value after a reboot.
    fn session(&self) -> Result<Session, IoError>;
    /// The time of day, for people to read; nothing is decided by it.
    fn now(&self) -> Time;
    /// Sixteen bytes that were never used before.
    fn fresh_id(&self) -> Result<[u8; 16], IoError>;
    /// The effective user: metadata of others can be set only by 0.
    fn user(&self) -> u32;
    /// Is the effective user in this group? Who is neither that nor 0 loses the set-group-id bit of what belongs to the
    /// group when he sets its mode.
    fn is_member(&self, gid: u32) -> bool;
    /// How many threads may use it at once; 1 where the order of calls must repeat.
    fn threads(&self) -> usize;
}

/// Which of the open directories a path starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(pub u16);

impl RootId {
    /// The managed tree.
    pub const TREE: Self = Self(0);
    /// The state directory.
    pub const STATE: Self = Self(u16::MAX);
}

/// A path below one of the roots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which root.
    pub root: RootId,
    /// The path below it.
    pub path: TreePath,
}

impl Place {
    /// A path of the managed tree.
    pub fn tree(path: &TreePath) -> Self {
        Self { root: RootId::TREE, path: path.clone() }
    }

    /// A path of the managed tree, as text.
    pub fn parse(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        Ok(Self { root: RootId::TREE, path: TreePath::parse(path)? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.root {
            RootId::TREE => write!(f, "{}", self.path),
            RootId::STATE => write!(f, "state:{}", self.path),
            RootId(n) => write!(f, "root {n}:{}", self.path),
        }
    }
}

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing in place.
    Write,
}

/// What a rename does about its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// It must not exist (`RENAME_NOREPLACE`, or a check before where the file system lacks it).
    NoReplace,
    /// It is replaced. Two names of one file: nothing happens, as in the kernel.
    Replace,
    /// The two places swap what they hold, whatever the types (`RENAME_EXCHANGE`).
    Exchange,
}

/// The type of what stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device: surefoot refuses these.
    Other,
}

/// What `lstat` tells, and a little more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub kind: FileType,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Number of names.
    pub links: u64,
    /// Is it the root of a file system that is mounted here?
    pub mount_point: bool,
    /// Is it marked immutable or append-only?
    pub immutable: bool,
}

/// What a file system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `RENAME_EXCHANGE`.
    pub exchange: bool,
    /// Hard links.
    pub hard_links: bool,
    /// Symbolic links.
    pub symlinks: bool,
    /// Extended attributes of users.
    pub xattrs: bool,
    /// Renames are atomic across a crash; false for vfat, exfat and ext2.
    pub atomic_rename: bool,
}

/// What is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of an allocation unit, in bytes.
    pub block: u64,
    /// Free bytes for this user.
    pub free_bytes: u64,
    /// Free inodes for this user; nothing where the file system makes them as needed.
    pub free_inodes: Option<u64>,
}

/// Names the life of the kernel's cache of one file system, until the machine is rebooted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Session(pub [u8; 16]);

/// A call to the file system that failed: which, where, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed at {path}")]
pub struct IoError {
    /// The operation, as a verb: `write`, `rename`.
    pub operation: &'static str,
    /// Where.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

impl IoError {
    /// Attaches operation and place to an error of the system.
    pub fn new(operation: &'static str, path: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.to_string(), source: source.into() }
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

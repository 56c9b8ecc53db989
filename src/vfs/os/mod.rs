//! `OsVfs`: the real disk, through Linux system calls.

mod files;
mod metadata;
mod probe;
mod resolve;
#[cfg(test)]
mod tests;

pub use files::OsFiles;

use crate::limits;
use crate::model::{Time, Xattrs};
use crate::vfs::{Access, Capabilities, IoError, Place, Rename, RootId, Session, Space, Stat, Vfs};
use resolve::{Mount, Resolver, Root};
use rustix::fs as sys;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use std::fmt;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes that one call for names returns at most.
const LIST_BUFFER: usize = 32 << 10;
/// For opening a file of which the type is not known yet: a pipe does not block, a terminal does not take over.
const CAREFULLY: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// The real disk: a managed tree and its state directory.
///
/// Directories are opened once and everything else is reached from their descriptors. The parent directories used last
/// stay open; they are forgotten at the start of a piece of work, which is [`Vfs::lock`] or [`Vfs::list`] of a root.
#[derive(Debug)]
pub struct OsVfs {
    resolver: Resolver,
    /// Open for reading, as `syncfs` wants it, and from the start: it reports the errors since it was opened.
    barrier: OwnedFd,
    /// A sync through it reports every error.
    reports: bool,
    /// `/proc` shows the descriptors of this process.
    proc: bool,
}

/// An open regular file.
#[derive(Debug)]
pub struct OsFile {
    descriptor: OwnedFd,
    at: Place,
}

/// A held lock.
#[derive(Debug)]
pub struct OsLock {
    held: fs::File,
}

impl Drop for OsLock {
    /// Gives the lock back at once. To close the file alone would leave it held as long as a process that another thread
    /// has just forked still has its copy of the descriptor. An error leaves what closing does.
    fn drop(&mut self) {
        let _ = fs2::FileExt::unlock(&self.held);
    }
}

impl OsVfs {
    /// Opens a managed tree and its state directory; both must exist.
    pub fn open(tree: &Path, state: &Path) -> Result<Self, IoError> {
        Self::open_roots(&[(RootId::TREE, tree), (RootId::STATE, state)])
    }

    /// Opens a managed tree and its state directory, which is created (mode `0o700`) if it is missing.
    pub fn open_or_create_state(tree: &Path, state: &Path) -> Result<Self, IoError> {
        match sys::mkdir(state, Mode::RWXU) {
            Err(Errno::EXIST) => return Self::open(tree, state),
            made => made.map_err(|cause| IoError::new("create", state.display(), cause))?,
        }
        let vfs = Self::open(tree, state)?;
        let made = Place { root: RootId::STATE, path: crate::model::TreePath::root() };
        // What the parent hands down would come back on every file that is staged here.
        vfs.set_xattr(&made, b"system.posix_acl_default", None)?;
        vfs.set_xattr(&made, b"system.posix_acl_access", None)?;
        vfs.set_mode(&made, 0o700)?;
        Ok(vfs)
    }

    /// Opens a tree without a state directory, for reading it.
    pub fn open_tree(tree: &Path) -> Result<Self, IoError> {
        Self::open_roots(&[(RootId::TREE, tree)])
    }

    fn open_roots(paths: &[(RootId, &Path)]) -> Result<Self, IoError> {
        let mut roots = Vec::with_capacity(paths.len());
        let mut barrier = None;
        for (id, path) in paths {
            let failed = |cause: Errno| IoError::new("open", path.display(), cause);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = retry_on_intr(|| sys::open(*path, flags, Mode::empty())).map_err(failed)?;
            if barrier.is_none() || *id == RootId::STATE {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                barrier = Some(sys::openat(&directory, c".", flags, Mode::empty()).map_err(failed)?);
            }
            let mount = Mount::of(directory.as_fd()).map_err(failed)?;
            roots.push(Root { id: *id, directory: Arc::new(directory), mount });
        }
        let barrier = barrier.ok_or_else(|| IoError::new("open", "no root", Errno::INVAL))?;
        let proc = metadata::has_proc(barrier.as_fd());
        let reports = probe::sync_reports(&barrier);
        Ok(Self { resolver: Resolver::new(roots), barrier, reports, proc })
    }

    fn open_file(&self, operation: &'static str, at: &Place, flags: OFlags, mode: Mode) -> Result<OsFile, IoError> {
        let failed = fail(operation, at);
        let spot = self.resolver.spot(operation, at)?;
        let descriptor = self.resolver.open(&spot, flags | CAREFULLY, mode).map_err(&failed)?;
        // What was just made is a regular file.
        let made = flags.contains(OFlags::EXCL);
        if !made
            && sys::FileType::from_raw_mode(sys::fstat(&descriptor).map_err(&failed)?.st_mode)
                != sys::FileType::RegularFile
        {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(IoError::new(operation, at, cause));
        }
        Ok(OsFile { descriptor, at: at.clone() })
    }
}

/// Makes errors of an operation at a place.
fn fail(operation: &'static str, at: impl fmt::Display + Copy) -> impl Fn(Errno) -> IoError {
    move |cause| IoError::new(operation, at, cause)
}

impl Vfs for OsVfs {
    type File = OsFile;
    type Lock = OsLock;

    fn stat(&self, at: &Place) -> Result<Option<Stat>, IoError> {
        let root = self.resolver.root("stat", at)?;
        let found = self
            .resolver
            .spot("stat", at)
            .and_then(|spot| metadata::stat_at(&spot, at.path.is_root(), &root.mount).map_err(fail("stat", at)));
        match found {
            // A symbolic link on the way is not followed: no directory stands there, and so nothing below it.
            Err(error) => match Errno::from_io_error(&error.source) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                _ => Err(error),
            },
            Ok(found) => Ok(Some(found)),
        }
    }

    fn stat_of(&self, file: &OsFile, at: &Place) -> Result<Stat, IoError> {
        let root = self.resolver.root("stat", at)?;
        metadata::stat_open(file.descriptor.as_fd(), &root.mount).map_err(fail("stat", at))
    }

    fn list(&self, at: &Place) -> Result<Vec<Box<[u8]>>, IoError> {
        if at.path.is_root() {
            self.resolver.forget_all();
        }
        let failed = fail("list", at);
        let spot = self.resolver.spot("list", at)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.resolver.open(&spot, flags, Mode::empty()).map_err(&failed)?;
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BUFFER];
        // Not `sys::Dir`: that takes a directory which vanishes meanwhile for the end of the list.
        let mut entries = sys::RawDir::new(&directory, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let name = match &entry {
                Ok(entry) => entry.file_name().to_bytes(),
                Err(Errno::INTR) => continue,
                Err(cause) => return Err(failed(*cause)),
            };
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limits::ENTRIES {
                return Err(failed(Errno::TOOBIG));
            }
            names.push(name.into());
        }
        Ok(names)
    }

    fn read_link(&self, at: &Place) -> Result<Box<[u8]>, IoError> {
        let spot = self.resolver.spot("read the link", at)?;
        let target = sys::readlinkat(&spot.directory, spot.name, Vec::new()).map_err(fail("read the link", at))?;
        Ok(target.into_bytes().into())
    }

    fn xattrs(&self, at: &Place) -> Result<Xattrs, IoError> {
        self.recorded_xattrs(at)
    }

    fn xattrs_of(&self, file: &OsFile, at: &Place) -> Result<Xattrs, IoError> {
        metadata::recorded(&metadata::Target::Open(file.descriptor.as_fd()), at)
    }

    fn open(&self, at: &Place, access: Access) -> Result<OsFile, IoError> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        self.open_file("open", at, flags, Mode::empty())
    }

    fn create(&self, at: &Place) -> Result<OsFile, IoError> {
        self.open_file("create", at, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
    }

    fn read_at(&self, file: &OsFile, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        retry_on_intr(|| pread(&file.descriptor, &mut *buffer, offset)).map_err(fail("read", &file.at))
    }

    fn write_at(&self, file: &OsFile, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let written = retry_on_intr(|| pwrite(&file.descriptor, rest, offset)).map_err(fail("write", &file.at))?;
            if written == 0 {
                return Err(IoError::new("write", &file.at, io::ErrorKind::WriteZero));
            }
            rest = &rest[written..];
            offset += written as u64;
        }
        Ok(())
    }

    fn set_len(&self, file: &OsFile, length: u64) -> Result<(), IoError> {
        retry_on_intr(|| sys::ftruncate(&file.descriptor, length)).map_err(fail("truncate", &file.at))
    }

    fn sync_file(&self, file: &OsFile) -> Result<(), IoError> {
        // Once, whatever it says: an error is reported once, and a second call would say that all is well.
        sys::fdatasync(&file.descriptor).map_err(fail("sync", &file.at))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        sys::syncfs(&self.barrier).map_err(fail("sync", "the file system"))
    }

    fn mkdir(&self, at: &Place) -> Result<(), IoError> {
        let spot = self.resolver.spot("create the directory", at)?;
        sys::mkdirat(&spot.directory, spot.name, Mode::RWXU).map_err(fail("create the directory", at))
    }

    fn symlink(&self, target: &[u8], at: &Place) -> Result<(), IoError> {
        let spot = self.resolver.spot("create the link", at)?;
        sys::symlinkat(target, &spot.directory, spot.name).map_err(fail("create the link", at))
    }

    fn link(&self, from: &Place, to: &Place) -> Result<(), IoError> {
        let source = self.resolver.spot("link", from)?;
        let target = self.resolver.spot("link", to)?;
        sys::linkat(&source.directory, source.name, &target.directory, target.name, AtFlags::empty())
            .map_err(fail("link", to))
    }

    fn rename(&self, from: &Place, to: &Place, how: Rename) -> Result<(), IoError> {
        let source = self.resolver.spot("rename", from)?;
        let target = self.resolver.spot("rename", to)?;
        let flagged = |flags| sys::renameat_with(&source.directory, source.name, &target.directory, target.name, flags);
        let plainly = || sys::renameat(&source.directory, source.name, &target.directory, target.name);
        let answer = match how {
            Rename::Replace => plainly(),
            Rename::Exchange => flagged(RenameFlags::EXCHANGE),
            Rename::NoReplace => match flagged(RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => match self.stat(to)? {
                    Some(_) => Err(Errno::EXIST),
                    None => plainly(),
                },
                answer => answer,
            },
        };
        // Even after an error: it may have happened nevertheless.
        self.resolver.forget(from);
        self.resolver.forget(to);
        answer.map_err(|cause| IoError::new("rename", format_args!("{from} -> {to}"), cause))
    }

    fn remove_file(&self, at: &Place) -> Result<(), IoError> {
        let spot = self.resolver.spot("remove", at)?;
        sys::unlinkat(&spot.directory, spot.name, AtFlags::empty()).map_err(fail("remove", at))
    }

    fn remove_dir(&self, at: &Place) -> Result<(), IoError> {
        let spot = self.resolver.spot("remove the directory", at)?;
        let answer = sys::unlinkat(&spot.directory, spot.name, AtFlags::REMOVEDIR);
        self.resolver.forget(at);
        answer.map_err(fail("remove the directory", at))
    }

    fn set_mode(&self, at: &Place, mode: u32) -> Result<(), IoError> {
        self.change_mode(at, mode)
    }

    fn set_mode_of(&self, file: &OsFile, at: &Place, mode: u32) -> Result<(), IoError> {
        sys::fchmod(&file.descriptor, Mode::from_raw_mode(mode)).map_err(fail("set mode of", at))
    }

    fn set_owner(&self, at: &Place, uid: u32, gid: u32) -> Result<(), IoError> {
        self.change_owner(at, uid, gid)
    }

    fn set_mtime(&self, at: &Place, mtime: Time) -> Result<(), IoError> {
        self.change_mtime(at, mtime)
    }

    fn set_mtime_of(&self, file: &OsFile, at: &Place, mtime: Time) -> Result<(), IoError> {
        let failed = fail("set the time of", at);
        let times = metadata::modified(mtime).map_err(&failed)?;
        sys::futimens(&file.descriptor, &times).map_err(failed)
    }

    fn set_xattr(&self, at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), IoError> {
        self.change_xattr(at, name, value)
    }

    fn reflink(&self, from: &OsFile, to: &OsFile) -> Result<bool, IoError> {
        match sys::ioctl_ficlone(&to.descriptor, &from.descriptor) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => Ok(false),
            Err(cause) => Err(IoError::new("clone", &to.at, cause)),
        }
    }

    fn capabilities(&self, scratch: &Place) -> Result<Capabilities, IoError> {
        self.probe(scratch)
    }

    fn same_file_system(&self) -> Result<bool, IoError> {
        let mounts: Vec<&Mount> = self.resolver.roots().iter().map(|root| &root.mount).collect();
        Ok(mounts.windows(2).all(|pair| pair[0].device == pair[1].device && pair[0].is_same(pair[1])))
    }

    fn sync_all_reports(&self) -> bool {
        self.reports
    }

    fn folds_case(&self, directory: &Place) -> Result<bool, IoError> {
        self.probe_case(directory)
    }

    fn space(&self, root: RootId) -> Result<Space, IoError> {
        let at = Place { root, path: crate::model::TreePath::root() };
        let root = self.resolver.root("measure", &at)?;
        let found = sys::fstatvfs(&root.directory).map_err(fail("measure", &at))?;
        Ok(Space {
            block: found.f_frsize,
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_inodes: (found.f_files != 0).then_some(found.f_favail),
        })
    }

    fn lock(&self, at: &Place) -> Result<Option<OsLock>, IoError> {
        self.resolver.forget_all();
        let opened = match self.open_file("lock", at, OFlags::RDWR | OFlags::CREATE, Mode::RUSR | Mode::WUSR) {
            // Whoever only looks can do so on a file system that is mounted read-only.
            Err(error) if error.source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                self.open_file("lock", at, OFlags::RDONLY, Mode::empty())?
            }
            other => other?,
        };
        let file = fs::File::from(opened.descriptor);
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => Ok(Some(OsLock { held: file })),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(cause) => Err(IoError::new("lock", at, cause)),
        }
    }

    fn session(&self) -> Result<Session, IoError> {
        self.probe_session()
    }

    fn now(&self) -> Time {
        let since =
            |time: std::time::Duration| (i64::try_from(time.as_secs()).unwrap_or(i64::MAX), time.subsec_nanos());
        let (seconds, nanoseconds) = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => since(after),
            Err(before) => match since(before.duration()) {
                (seconds, 0) => (-seconds, 0),
                (seconds, nanoseconds) => (-seconds - 1, 1_000_000_000 - nanoseconds),
            },
        };
        Time { seconds, nanoseconds }
    }

    fn fresh_id(&self) -> Result<[u8; 16], IoError> {
        let failed = fail("read", "the random source");
        let mut id = [0; 16];
        let flags = rustix::rand::GetRandomFlags::empty();
        // The kernel never cuts a request this short.
        match retry_on_intr(|| rustix::rand::getrandom(&mut id, flags)).map_err(&failed)? {
            16 => Ok(id),
            _ => Err(failed(Errno::AGAIN)),
        }
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn is_member(&self, gid: u32) -> bool {
        let gid = rustix::process::Gid::from_raw(gid);
        rustix::process::getegid() == gid || rustix::process::getgroups().is_ok_and(|groups| groups.contains(&gid))
    }

    fn threads(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

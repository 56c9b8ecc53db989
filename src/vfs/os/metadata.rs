//! Reading and setting what an entry has besides its content.

use super::resolve::{Mount, Spot};
use super::{OsVfs, fail};
use crate::limits;
use crate::model::{Time, Xattrs};
use crate::vfs::{FileType, IoError, Place, Stat};
use rustix::fs as sys;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp, XattrFlags};
use rustix::io::{Errno, Result as Answer};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What `stat` asks for.
const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// What an attribute call acts on.
pub(super) enum Target<F = OwnedFd> {
    /// `/proc/self/fd/<parent>/<name>`, of which the last name is not followed.
    Path(Vec<u8>),
    /// A file or directory that is open for reading: one that is anyway, or where there is no `/proc`.
    Open(F),
    /// Where there is no `/proc`, something that cannot be opened for its attributes: a symbolic link or special file.
    Closed,
}

pub(super) fn kind(found: &Statx) -> FileType {
    match sys::FileType::from_raw_mode(found.stx_mode.into()) {
        sys::FileType::RegularFile => FileType::File,
        sys::FileType::Directory => FileType::Directory,
        sys::FileType::Symlink => FileType::Symlink,
        _ => FileType::Other,
    }
}

pub(super) fn stat_at(spot: &Spot<'_>, is_root: bool, root: &Mount) -> Answer<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = sys::statx(&spot.directory, spot.name, flags, STAT)?;
    Ok(stat(&found, is_root, root))
}

/// The same of a file that is open.
pub(super) fn stat_open(file: BorrowedFd<'_>, root: &Mount) -> Answer<Stat> {
    Ok(stat(&sys::statx(file, c"", AtFlags::EMPTY_PATH, STAT)?, false, root))
}

fn stat(found: &Statx, is_root: bool, root: &Mount) -> Stat {
    let device = sys::makedev(found.stx_dev_major, found.stx_dev_minor);
    let mounted = if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    } else {
        device != root.device
    };
    Stat {
        kind: kind(found),
        size: found.stx_size,
        mode: u32::from(found.stx_mode) & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: time(&found.stx_mtime),
        ctime: time(&found.stx_ctime),
        inode: found.stx_ino,
        device,
        links: found.stx_nlink.into(),
        mount_point: mounted && !is_root,
        immutable: found.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
    }
}

fn time(stamp: &StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanoseconds: stamp.tv_nsec }
}

/// Is it an attribute that belongs to the tree? See [`Xattrs`].
fn is_recorded(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || [&b"system.posix_acl_access"[..], b"system.posix_acl_default", b"security.capability"].contains(&name)
}

impl OsVfs {
    pub(super) fn change_mode(&self, at: &Place, mode: u32) -> Result<(), IoError> {
        let failed = fail("chmod", at);
        let spot = self.resolver.spot("chmod", at)?;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        // `fchmodat` follows links and its younger sister is not everywhere: the entry is pinned first. A file of
        // mode 0 can be pinned by anybody who sees it.
        let pinned = self.resolver.open(&spot, OFlags::PATH, Mode::empty()).map_err(&failed)?;
        let found = sys::statx(&pinned, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(&failed)?;
        match kind(&found) {
            FileType::File | FileType::Directory => {}
            _ => return Err(failed(Errno::OPNOTSUPP)),
        }
        if self.proc {
            return sys::chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), mode).map_err(&failed);
        }
        let opened = self.resolver.open(&spot, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).map_err(&failed)?;
        sys::fchmod(&opened, mode).map_err(&failed)
    }

    pub(super) fn change_owner(&self, at: &Place, uid: u32, gid: u32) -> Result<(), IoError> {
        let failed = fail("chown", at);
        // The kernel takes all ones for "as it is", which nobody has asked for.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(failed(Errno::INVAL));
        }
        let spot = self.resolver.spot("chown", at)?;
        let (uid, gid) = (sys::Uid::from_raw(uid), sys::Gid::from_raw(gid));
        sys::chownat(&spot.directory, spot.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    pub(super) fn change_mtime(&self, at: &Place, mtime: Time) -> Result<(), IoError> {
        let failed = fail("set the time of", at);
        let times = modified(mtime).map_err(&failed)?;
        let spot = self.resolver.spot("set the time of", at)?;
        sys::utimensat(&spot.directory, spot.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    pub(super) fn recorded_xattrs(&self, at: &Place) -> Result<Xattrs, IoError> {
        let spot = self.resolver.spot("read the attributes of", at)?;
        recorded(&self.target(&spot).map_err(fail("read the attributes of", at))?, at)
    }

    pub(super) fn change_xattr(&self, at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), IoError> {
        let failed = fail("set an attribute of", at);
        if !is_recorded(name) {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "this attribute does not belong to a tree");
            return Err(IoError::new("set an attribute of", at, cause));
        }
        let spot = self.resolver.spot("set an attribute of", at)?;
        let target = self.target(&spot).map_err(&failed)?;
        match (target.set(name, value), value) {
            (Err(Errno::NODATA | Errno::OPNOTSUPP), None) => Ok(()),
            (answer, _) => answer.map_err(failed),
        }
    }

    fn target(&self, spot: &Spot<'_>) -> Answer<Target> {
        if self.proc {
            let mut path = format!("/proc/self/fd/{}/", spot.directory.as_raw_fd()).into_bytes();
            path.extend_from_slice(spot.name);
            return Ok(Target::Path(path));
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match kind(&sys::statx(&spot.directory, spot.name, flags, StatxFlags::TYPE)?) {
            FileType::File | FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                Ok(Target::Open(self.resolver.open(spot, flags, Mode::empty())?))
            }
            FileType::Symlink | FileType::Other => Ok(Target::Closed),
        }
    }
}

/// The recorded attributes of an entry.
pub(super) fn recorded<F: AsFd>(target: &Target<F>, at: &Place) -> Result<Xattrs, IoError> {
    let failed = fail("read the attributes of", at);
    let mut short = [0; 1024];
    let long;
    let names = match target.list(&mut short) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Ok(length) => &short[..length],
        // The kernel gives out at most XATTR_LIST_MAX, which is as much.
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; limits::XATTR_VALUE_BYTES];
            let length = target.list(&mut buffer).map_err(&failed)?;
            buffer.truncate(length);
            long = buffer;
            &long[..]
        }
        Err(cause) => return Err(failed(cause)),
    };
    let mut found = Xattrs::new();
    let mut value = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_recorded(name)) {
        if found.len() == limits::XATTRS {
            return Err(failed(Errno::TOOBIG));
        }
        value.resize(limits::XATTR_VALUE_BYTES, 0);
        match target.value(name, &mut value) {
            Ok(length) => found.push((name.into(), value[..length].into())),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    found.sort();
    Ok(found)
}

/// The modification time as the kernel takes it.
pub(super) fn modified(time: Time) -> Answer<sys::Timestamps> {
    // Larger numbers of nanoseconds are commands to the kernel: "now", "leave it".
    if time.nanoseconds > 999_999_999 {
        return Err(Errno::INVAL);
    }
    Ok(sys::Timestamps {
        last_access: sys::Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT },
        last_modification: sys::Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    })
}

impl<F: AsFd> Target<F> {
    fn list(&self, buffer: &mut [u8]) -> Answer<usize> {
        match self {
            Self::Path(path) => sys::llistxattr(path, buffer),
            Self::Open(file) => sys::flistxattr(file, buffer),
            Self::Closed => Ok(0),
        }
    }

    fn value(&self, name: &[u8], buffer: &mut [u8]) -> Answer<usize> {
        match self {
            Self::Path(path) => sys::lgetxattr(path, name, buffer),
            Self::Open(file) => sys::fgetxattr(file, name, buffer),
            Self::Closed => Err(Errno::NODATA),
        }
    }

    fn set(&self, name: &[u8], value: Option<&[u8]>) -> Answer<()> {
        match (self, value) {
            (Self::Path(path), Some(value)) => sys::lsetxattr(path, name, value, XattrFlags::empty()),
            (Self::Path(path), None) => sys::lremovexattr(path, name),
            (Self::Open(file), Some(value)) => sys::fsetxattr(file, name, value, XattrFlags::empty()),
            (Self::Open(file), None) => sys::fremovexattr(file, name),
            (Self::Closed, _) => Err(Errno::OPNOTSUPP),
        }
    }
}

/// Is `/proc` there, and is it the one that shows the descriptors of this process?
pub(super) fn has_proc(descriptor: BorrowedFd<'_>) -> bool {
    let inode = |path: &str, flags| sys::statx(descriptor.as_fd(), path, flags, StatxFlags::INO | StatxFlags::TYPE);
    let through_proc = inode(&format!("/proc/self/fd/{}", descriptor.as_raw_fd()), AtFlags::empty());
    let directly = inode("", AtFlags::EMPTY_PATH);
    through_proc.is_ok_and(|one| {
        directly.is_ok_and(|two| {
            let name = |x: &Statx| (x.stx_dev_major, x.stx_dev_minor, x.stx_ino);
            name(&one) == name(&two)
        })
    })
}

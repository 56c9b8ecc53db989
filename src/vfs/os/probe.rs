//! What a file system is and what it can do.

use super::resolve::Mount;
use super::{OsVfs, fail};
use crate::model::Digest;
use crate::vfs::{Capabilities, FileType, IoError, Place, Rename, Session, Vfs};
use rustix::fs as sys;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How the names begin that a probe makes and removes.
const PREFIX: &[u8] = b"probe-";
/// `FS_CASEFOLD_FL`.
const CASEFOLD: u32 = 0x4000_0000;

// File systems, as `statfs` numbers them.
const EXT: u32 = 0xef53;
const FAT: u32 = 0x4d44;
const EXFAT: u32 = 0x2011_bab0;
const NFS: u32 = 0x6969;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const BCACHEFS: u32 = 0xca45_1a4e;
const F2FS: u32 = 0xf2f5_2010;
const UBIFS: u32 = 0x2405_1905;
const TMPFS: u32 = 0x0102_1994;
const JFFS2: u32 = 0x72b6;
const HFS: u32 = 0x4244;
const HFS_PLUS: u32 = 0x482b;
const NTFS3: u32 = 0x7366_746e;
const UDF: u32 = 0x1501_3346;
const CIFS: u32 = 0xff53_4d42;
const SMB2: u32 = 0xfe53_4d42;

/// A rename may leave both names or none when power fails: no journal, or two separate writes.
const TORN_RENAME: [u32; 7] = [FAT, EXFAT, JFFS2, HFS, HFS_PLUS, NTFS3, UDF];
/// Their `sync_fs` passes on every error. All others (FUSE, NFS, 9p, overlay, unknown) may swallow some.
const SYNC_REPORTS: [u32; 7] = [EXT, XFS, BTRFS, BCACHEFS, F2FS, UBIFS, TMPFS];
/// Names are the same whatever their case.
const FOLDING: [u32; 6] = [FAT, EXFAT, HFS, HFS_PLUS, CIFS, SMB2];

/// Does a sync of its whole file system report every error?
pub(super) fn sync_reports(directory: &OwnedFd) -> bool {
    kind(directory).is_ok_and(|kind| SYNC_REPORTS.contains(&kind)) && kernel_is_at_least(5, 17)
}

impl OsVfs {
    pub(super) fn probe(&self, scratch: &Place) -> Result<Capabilities, IoError> {
        self.remove_probes(scratch)?;
        let tried = self.try_everything(scratch);
        let removed = self.remove_probes(scratch);
        let mut found = tried?;
        removed?;

        let failed = fail("probe", scratch);
        let directory = self.open_directory(scratch)?;
        let kind = kind(&directory).map_err(&failed)?;
        found.exchange &= kind != NFS;
        found.atomic_rename = match kind {
            EXT => is_journaled_ext(Mount::of(directory.as_fd()).map_err(&failed)?),
            kind => !TORN_RENAME.contains(&kind),
        };
        Ok(found)
    }

    fn try_everything(&self, scratch: &Place) -> Result<Capabilities, IoError> {
        let place = |name: &str| -> Result<Place, IoError> {
            let path = scratch.path.join([PREFIX, name.as_bytes()].concat());
            let path = path.map_err(|cause| IoError::new("probe", scratch, io::Error::other(cause)))?;
            Ok(Place { root: scratch.root, path })
        };
        let (file, other) = (place("file")?, place("other")?);
        drop((self.create(&file)?, self.create(&other)?));
        Ok(Capabilities {
            exchange: allowed(self.rename(&file, &other, Rename::Exchange))?,
            hard_links: allowed(self.link(&file, &place("link")?))?,
            symlinks: allowed(self.symlink(b"target", &place("symlink")?))?,
            xattrs: allowed(self.set_xattr(&file, b"user.surefoot-probe", Some(b"1")))?,
            atomic_rename: false,
        })
    }

    fn remove_probes(&self, scratch: &Place) -> Result<(), IoError> {
        for name in self.list(scratch)?.iter().filter(|name| name.starts_with(PREFIX)) {
            let path = scratch.path.join(name);
            let path = path.map_err(|cause| IoError::new("probe", scratch, io::Error::other(cause)))?;
            let at = Place { root: scratch.root, path };
            match self.stat(&at)?.map(|found| found.kind) {
                Some(FileType::Directory) => self.remove_dir(&at)?,
                Some(_) => self.remove_file(&at)?,
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn probe_case(&self, at: &Place) -> Result<bool, IoError> {
        let failed = fail("look at the names of", at);
        let directory = self.open_directory(at)?;
        if FOLDING.contains(&kind(&directory).map_err(&failed)?) {
            return Ok(true);
        }
        match sys::ioctl_getflags(&directory) {
            Ok(flags) => Ok(flags.bits() & CASEFOLD != 0),
            Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(cause) => Err(failed(cause)),
        }
    }

    pub(super) fn probe_session(&self) -> Result<Session, IoError> {
        const BOOT: &str = "/proc/sys/kernel/random/boot_id";
        let mut name = fs::read(BOOT).map_err(|cause| IoError::new("read", BOOT, cause))?;
        // Not the id of the mount: another mount of the same file system shares its cache.
        let failed = |cause: Errno| IoError::new("look at", "the state directory", cause);
        let device = Mount::of(self.barrier.as_fd()).map_err(failed)?.device;
        name.extend_from_slice(&device.to_le_bytes());
        let mut session = Session::default();
        session.0.copy_from_slice(&Digest::of(&name).0[..16]);
        Ok(session)
    }

    fn open_directory(&self, at: &Place) -> Result<OwnedFd, IoError> {
        let spot = self.resolver.spot("open", at)?;
        self.resolver.open(&spot, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map_err(fail("open", at))
    }
}

/// Was the call carried out? The answers of a file system that has no such thing, or of a sandbox, mean that it was
/// not; every other error is one.
fn allowed(answer: Result<(), IoError>) -> Result<bool, IoError> {
    const REFUSALS: [Errno; 9] = [
        Errno::PERM,
        Errno::ACCESS,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::INVAL,
        Errno::MLINK,
        Errno::XDEV,
        Errno::NOTTY,
        Errno::NODEV,
    ];
    let refused =
        |error: &IoError| REFUSALS.iter().any(|refusal| error.source.raw_os_error() == Some(refusal.raw_os_error()));
    match answer {
        Ok(()) => Ok(true),
        Err(error) if refused(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn kind(directory: &OwnedFd) -> Result<u32, Errno> {
    // All of these numbers have 32 bits; the type of the field depends on the machine.
    Ok(sys::fstatfs(directory)?.f_type as u32)
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_at_least(&release, major, minor))
}

fn is_at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= (major, minor))
}

/// ext2 has the number of ext4; only the list of mounts tells them apart. Without it nothing is promised.
fn is_journaled_ext(mount: Mount) -> bool {
    let Some((id, mounts)) = mount.id.zip(fs::read_to_string("/proc/thread-self/mountinfo").ok()) else { return false };
    matches!(mounted_type(&mounts, id), Some("ext3" | "ext4"))
}

fn mounted_type(mounts: &str, id: u64) -> Option<&str> {
    let line = mounts.lines().find(|line| line.split(' ').next().is_some_and(|first| first.parse() == Ok(id)))?;
    line.split_once(" - ")?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        for (release, expected) in [
            ("5.17.0-generic\n", true),
            ("5.16.99", false),
            ("6.1-rc3", true),
            ("10.0", true),
            ("5.9.1", false),
            ("4.19", false),
            ("", false),
            ("six", false),
        ] {
            assert_eq!(is_at_least(release, 5, 17), expected, "{release:?}");
        }
    }

    #[test]
    fn the_type_of_a_mount_stands_behind_its_optional_fields() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                      122 27 8:1 / / rw shared:1 master:2 - ext2 /dev/sda1 rw\n\
                      2 1 8:2 / /data rw - ext4 /dev/sda2 rw\n";
        assert_eq!(mounted_type(mounts, 122), Some("ext2"));
        assert_eq!(mounted_type(mounts, 2), Some("ext4"));
        assert_eq!(mounted_type(mounts, 3), None);
        assert_eq!(mounted_type("2 1", 2), None);
    }
}

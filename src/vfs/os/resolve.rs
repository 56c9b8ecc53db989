//! From places to descriptors: below a root, through no symbolic link, into no other mounted file system.
//!
//! A parent directory is resolved by one `openat2`, or by a walk over its components where that call is missing or
//! forbidden; the last name is then used with the `*at` calls on the parent, so nothing that is renamed meanwhile can
//! lead anywhere else. The walk checks what `openat2` checks: it is slower, never laxer.

use super::metadata;
use crate::vfs::{FileType, IoError, Place, RootId};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, makedev, openat, openat2, statx};
use rustix::io::{Errno, Result as Answer, retry_on_intr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What every resolution by the kernel is held to.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);
/// A directory as a place to start from; neither read nor write permission is needed.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Parent directories that stay open: a tree is worked on directory by directory, from one or two roots and the stage.
const PARENTS: usize = 8;

/// The open roots, and the way from a place to a descriptor.
#[derive(Debug)]
pub(super) struct Resolver {
    roots: Vec<Root>,
    parents: Mutex<Parents>,
    /// `openat2` is missing.
    walks: AtomicBool,
}

/// A root directory, open.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) id: RootId,
    pub(super) directory: Arc<OwnedFd>,
    pub(super) mount: Mount,
}

/// The parent directory of a place, open, and the last name in it; of a root the root itself and `.`.
#[derive(Debug)]
pub(super) struct Spot<'a> {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: &'a [u8],
    mount: Mount,
}

/// Which mounted file system a descriptor belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount {
    pub(super) device: u64,
    /// Nothing where neither `statx` (Linux 5.8) nor `/proc` tells it.
    pub(super) id: Option<u64>,
}

/// Parent directories that were resolved lately, the latest last.
#[derive(Debug, Default)]
struct Parents {
    open: Vec<(RootId, Box<[u8]>, Arc<OwnedFd>)>,
    /// Counts the calls of `forget`: what was resolved before one of them may be stale and is not kept.
    generation: u64,
}

impl Resolver {
    pub(super) fn new(roots: Vec<Root>) -> Self {
        Self { roots, parents: Mutex::default(), walks: AtomicBool::new(false) }
    }

    pub(super) fn roots(&self) -> &[Root] {
        &self.roots
    }

    pub(super) fn root(&self, operation: &'static str, at: &Place) -> Result<&Root, IoError> {
        let not_open = || IoError::new(operation, at, io::Error::new(io::ErrorKind::InvalidInput, "root is not open"));
        self.roots.iter().find(|root| root.id == at.root).ok_or_else(not_open)
    }

    /// Resolves the parent directory of a place.
    pub(super) fn spot<'a>(&self, operation: &'static str, at: &'a Place) -> Result<Spot<'a>, IoError> {
        let root = self.root(operation, at)?;
        let path = at.path.as_bytes();
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let directory = self.parent(root, parent).map_err(|cause| IoError::new(operation, at, cause))?;
        Ok(Spot { directory, name: if name.is_empty() { b"." } else { name }, mount: root.mount })
    }

    /// Opens what stands at a spot, never a symbolic link (except as an `O_PATH`) nor anything mounted there.
    pub(super) fn open(&self, spot: &Spot<'_>, flags: OFlags, mode: Mode) -> Answer<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Some(answer) = self.ask_kernel(spot.directory.as_fd(), spot.name, flags, mode) {
            return answer;
        }
        let opened = retry_on_intr(|| openat(&spot.directory, spot.name, flags, mode))?;
        if Mount::of(opened.as_fd())?.is_same(&spot.mount) { Ok(opened) } else { Err(Errno::XDEV) }
    }

    /// Forgets the directories at and below a place, which has been moved or removed.
    pub(super) fn forget(&self, at: &Place) {
        let gone = at.path.as_bytes();
        let stays = |path: &[u8]| match path.strip_prefix(gone) {
            Some(rest) => !(rest.is_empty() || rest[0] == b'/' || gone.is_empty()),
            None => true,
        };
        let mut parents = self.parents();
        parents.generation += 1;
        parents.open.retain(|(root, path, _)| *root != at.root || stays(path));
    }

    /// Forgets all directories: others may have changed the tree since the last piece of work.
    pub(super) fn forget_all(&self) {
        let mut parents = self.parents();
        parents.generation += 1;
        parents.open.clear();
    }

    #[cfg(test)]
    pub(super) fn walk_always(&self) {
        self.walks.store(true, Ordering::Relaxed);
    }

    fn parent(&self, root: &Root, path: &[u8]) -> Answer<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(root.directory.clone());
        }
        let mut parents = self.parents();
        if let Some(found) = parents.open.iter().rposition(|(id, known, _)| *id == root.id && **known == *path) {
            parents.open[found..].rotate_left(1);
            return Ok(parents.open[parents.open.len() - 1].2.clone());
        }
        let generation = parents.generation;
        drop(parents);

        let answer = self.ask_kernel(root.directory.as_fd(), path, DIRECTORY, Mode::empty());
        let opened = Arc::new(answer.unwrap_or_else(|| walk(root, path))?);
        let mut parents = self.parents();
        if parents.generation == generation {
            if parents.open.len() == PARENTS {
                parents.open.remove(0);
            }
            parents.open.push((root.id, path.into(), opened.clone()));
        }
        Ok(opened)
    }

    /// `openat2`; nothing where the kernel lacks it or a sandbox forbids it. A file can forbid being opened with the
    /// same error as a sandbox: the walk then gets it again.
    fn ask_kernel(&self, from: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Option<Answer<OwnedFd>> {
        if self.walks.load(Ordering::Relaxed) {
            return None;
        }
        match retry_on_intr(|| openat2(from, path, flags, mode, STRICT)) {
            Err(Errno::NOSYS) => {
                self.walks.store(true, Ordering::Relaxed);
                None
            }
            Err(Errno::PERM) => None,
            answer => Some(answer),
        }
    }

    fn parents(&self) -> MutexGuard<'_, Parents> {
        // No code panics while it holds the lock half-way through a change.
        self.parents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves a directory component by component, with the checks and the errors of `openat2`.
fn walk(root: &Root, path: &[u8]) -> Answer<OwnedFd> {
    let mut reached: Option<OwnedFd> = None;
    for name in path.split(|byte| *byte == b'/') {
        let from = reached.as_ref().map_or(root.directory.as_fd(), AsFd::as_fd);
        let next =
            retry_on_intr(|| openat(from, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())).map_err(|cause| {
                match cause {
                    Errno::NOTDIR if is_symlink(from, name) => Errno::LOOP,
                    cause => cause,
                }
            })?;
        if !Mount::of(next.as_fd())?.is_same(&root.mount) {
            return Err(Errno::XDEV);
        }
        reached = Some(next);
    }
    reached.ok_or(Errno::INVAL)
}

fn is_symlink(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(directory, name, flags, StatxFlags::TYPE).is_ok_and(|found| metadata::kind(&found) == FileType::Symlink)
}

impl Mount {
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> Answer<Self> {
        let found = statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            id: if told { Some(found.stx_mnt_id) } else { mount_id_from_proc(descriptor) },
        })
    }

    /// Devices decide only where no mount number is known: a subvolume of btrfs has a device number of its own but is
    /// no mount, and `openat2` lets it pass.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(one), Some(two)) => one == two,
            _ => self.device == other.device,
        }
    }
}

fn mount_id_from_proc(descriptor: BorrowedFd<'_>) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

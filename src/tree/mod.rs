//! A tree on a disk: what it holds, how two states of it differ, and whether it is what it should be.
//!
//! [`scan`] reads a tree into a manifest, [`changes`] and [`describe`] compare two manifests, [`verify`] compares a
//! manifest with the disk, and [`Index`] remembers contents so that unchanged files need not be read again.

mod check;
mod copy;
mod diff;
mod files;
mod index;
mod read;
mod scan;
#[cfg(test)]
mod testing;
mod walk;

pub use check::{Depth, Verification, verify};
pub use copy::{add_what_belongs, copy, copy_bytes};
pub use diff::{Change, Described, changes, describe};
pub use files::{Files, base_files};
pub use index::Index;
pub use read::{bare_metadata, hash_file, metadata_of, node_at, node_of};
pub use scan::{Walk, scan, scan_below, scan_indexed};
pub use walk::STATE_NAME;

use crate::model::{ManifestError, PathError, TreePath};
use crate::vfs::{IoError, Place};

/// Called with bytes read and bytes to read, now and then, from any thread.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call to the file system failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Pipes, sockets or devices.
    #[error("{found} of the entries are pipes, sockets or devices: {}", listed(paths))]
    Special {
        /// The first of them.
        paths: Vec<TreePath>,
        /// How many there are in all.
        found: usize,
    },
    /// A file system is mounted inside the tree.
    #[error("{at} is a mount point")]
    Mount {
        /// Where.
        at: Place,
    },
    /// Something changed while it was read.
    #[error("{at} changed while it was read")]
    Changed {
        /// Where.
        at: Place,
    },
    /// More or larger extended attributes than are recorded.
    #[error("{at} has extended attributes that are too many or too long")]
    Xattrs {
        /// Where.
        at: Place,
    },
    /// More entries than a tree may have.
    #[error("the tree has more than {} entries", crate::limits::ENTRIES)]
    TooMany,
    /// A name that no path can hold, or too deep a nesting.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What was read is not a canonical manifest: the file system gives names out of order or twice.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

fn listed(paths: &[TreePath]) -> String {
    paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

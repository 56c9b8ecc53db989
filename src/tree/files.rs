//! `Files`: the regular files of a tree by number, as deltas name them.

use crate::codec::segment::Lengths;
use crate::delta::Contents;
use crate::model::{Kind, Manifest, TreePath};
use crate::vfs::{Access, Place, Vfs};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Files that are kept open: those that were read last.
const OPEN: usize = 8;

/// Regular files of a tree, by number, read through a file system.
pub struct Files<'a, V: Vfs> {
    vfs: &'a V,
    files: Vec<(TreePath, u64)>,
    /// The last one at the end.
    open: Mutex<Vec<(u32, Arc<V::File>)>>,
}

/// The old files that a patch may read, by number, with their lengths: all of a tree, each once, in the order of their
/// paths. A hard link is its leader.
pub fn base_files(base: &Manifest) -> impl Iterator<Item = (&TreePath, u64)> {
    base.entries().iter().filter_map(|entry| match (&entry.node.kind, &entry.node.leader) {
        (Kind::File { size, .. }, None) => Some((&entry.path, *size)),
        _ => None,
    })
}

impl<'a, V: Vfs> Files<'a, V> {
    /// These files, with their lengths.
    pub fn new(vfs: &'a V, files: Vec<(TreePath, u64)>) -> Self {
        Self { vfs, files, open: Mutex::default() }
    }

    /// The old files that a patch may read.
    pub fn of_base(vfs: &'a V, base: &Manifest) -> Self {
        Self::new(vfs, base_files(base).map(|(path, size)| (path.clone(), size)).collect())
    }

    /// The file system that they are read through.
    pub fn vfs(&self) -> &'a V {
        self.vfs
    }

    /// Where a file is.
    pub fn path(&self, file: u32) -> Option<&TreePath> {
        self.files.get(file as usize).map(|(path, _)| path)
    }

    /// All paths, in order of the numbers.
    pub fn paths(&self) -> impl Iterator<Item = &TreePath> {
        self.files.iter().map(|(path, _)| path)
    }

    fn opened(&self, file: u32) -> io::Result<Arc<V::File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match open.iter().position(|(known, _)| *known == file) {
            Some(at) => open.remove(at).1,
            None => {
                let path = self.path(file).ok_or(io::ErrorKind::NotFound)?;
                let opened = self.vfs.open(&Place::tree(path), Access::Read).map_err(io::Error::other)?;
                if open.len() == OPEN {
                    open.remove(0);
                }
                Arc::new(opened)
            }
        };
        open.push((file, Arc::clone(&opened)));
        Ok(opened)
    }
}

impl<V: Vfs> Contents for Files<'_, V> {
    fn length(&self, file: u32) -> Option<u64> {
        self.files.get(file as usize).map(|(_, length)| *length)
    }

    fn read_at(&self, file: u32, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let opened = self.opened(file)?;
        while !buffer.is_empty() {
            match self.vfs.read_at(&opened, offset, buffer).map_err(io::Error::other)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
            }
        }
        Ok(())
    }
}

/// Lengths of the files on both sides of a patch.
impl<V: Vfs, W: Vfs> Lengths for (&Files<'_, V>, &Files<'_, W>) {
    fn old_length(&self, file: u32) -> Option<u64> {
        self.0.length(file)
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        self.1.length(file)
    }
}

impl<V: Vfs> fmt::Debug for Files<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.files.len())
    }
}

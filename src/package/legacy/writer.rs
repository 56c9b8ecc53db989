//! Writing a tar.gz package: equal members give equal bytes.

use super::blocks::padding;
use super::structure::{Seen, Structure};
use super::{BLOCK, LegacyError, MODE};
use crate::limits;
use crate::model::{Operations, TreePath};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::fmt;
use std::io::{Read, Write};
use tar::{EntryType, Header};

/// A package in the making. Members are given in the order of their paths: the listed files, and the listed
/// directories each with everything in it.
///
/// Owners and times are zero, names too long for the header are written as GNU tar does.
pub struct LegacyWriter<'a, W: Write> {
    out: GzEncoder<W>,
    structure: Structure<'a>,
    last: TreePath,
}

impl<'a, W: Write> LegacyWriter<'a, W> {
    /// A package that will do `operations`.
    pub fn new(out: W, operations: &'a Operations) -> Self {
        let out = GzBuilder::new().mtime(0).write(out, Compression::best());
        Self { out, structure: Structure::new(operations), last: TreePath::root() }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &TreePath, mode: u32) -> Result<(), LegacyError> {
        self.admit(path, Seen::Directory)?;
        self.header(EntryType::Directory, &[path.as_bytes(), b"/"].concat(), b"", mode, 0)
    }

    /// Adds a regular file of `size` bytes.
    pub fn file(&mut self, path: &TreePath, mode: u32, size: u64, content: &mut dyn Read) -> Result<(), LegacyError> {
        self.admit(path, Seen::File)?;
        self.header(EntryType::Regular, path.as_bytes(), b"", mode, size)?;
        let cannot_read = |source| LegacyError::Content { path: path.clone(), source };
        let other_size = || LegacyError::Size { path: path.clone(), expected: size };
        let mut buffer = vec![0; limits::COPY_BUFFER];
        let mut left = size;
        loop {
            let length = match content.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.map_err(cannot_read)?,
            };
            if length == 0 {
                break;
            }
            left = left.checked_sub(length as u64).ok_or_else(other_size)?;
            self.out.write_all(&buffer[..length]).map_err(LegacyError::Write)?;
        }
        if left > 0 {
            return Err(other_size());
        }
        self.pad(size)
    }

    /// Adds a symbolic link, inside a directory that is replaced as a whole.
    pub fn symlink(&mut self, path: &TreePath, target: &[u8]) -> Result<(), LegacyError> {
        if target.is_empty() || target.len() > limits::LINK_TARGET_BYTES || target.contains(&0) {
            return Err(LegacyError::Target(path.clone()));
        }
        self.admit(path, Seen::Symlink)?;
        self.header(EntryType::Symlink, path.as_bytes(), target, MODE, 0)
    }

    /// Ends the package, once everything that the operations list is in it.
    pub fn finish(mut self) -> Result<W, LegacyError> {
        self.structure.finish()?;
        self.out.write_all(&[0; 2 * BLOCK]).map_err(LegacyError::Write)?;
        self.out.finish().map_err(LegacyError::Write)
    }

    fn admit(&mut self, path: &TreePath, kind: Seen) -> Result<(), LegacyError> {
        if *path <= self.last {
            return Err(LegacyError::Order(path.clone()));
        }
        if !self.structure.admit(path, kind)? {
            return Err(LegacyError::Unlisted(path.clone()));
        }
        self.last = path.clone();
        Ok(())
    }

    fn header(&mut self, kind: EntryType, name: &[u8], target: &[u8], mode: u32, size: u64) -> Result<(), LegacyError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode & MODE);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let fields = header.as_old_mut();
        let long_target = !fits(&mut fields.linkname, target);
        let long_name = !fits(&mut fields.name, name);
        header.set_cksum();
        if long_target {
            self.long(EntryType::GNULongLink, target)?;
        }
        if long_name {
            self.long(EntryType::GNULongName, name)?;
        }
        self.out.write_all(header.as_bytes()).map_err(LegacyError::Write)
    }

    /// A name that does not fit, as a member of its own before the one that it belongs to.
    fn long(&mut self, kind: EntryType, name: &[u8]) -> Result<(), LegacyError> {
        let data = [name, b"\0"].concat();
        let size = data.len() as u64;
        self.header(kind, b"././@LongLink", b"", 0, size)?;
        self.out.write_all(&data).map_err(LegacyError::Write)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), LegacyError> {
        let length = usize::try_from(padding(size)).unwrap_or(0);
        self.out.write_all(&[0; BLOCK][..length]).map_err(LegacyError::Write)
    }
}

/// Puts a name into a field of the header, as much of it as fits. Is it all?
fn fits(field: &mut [u8], name: &[u8]) -> bool {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    length == name.len()
}

impl<W: Write> fmt::Debug for LegacyWriter<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyWriter").field("last", &self.last).finish_non_exhaustive()
    }
}

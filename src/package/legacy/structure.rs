//! `Structure`: which members a package may hold, and which it must.

use super::LegacyError;
use crate::limits;
use crate::model::{Operations, TreePath};
use std::collections::BTreeMap;

/// The members seen so far, against the operations that list them.
///
/// Nothing is ever inside a file or a link here, whichever of the two comes first: so no member can be written through
/// a link that the package itself brought.
#[derive(Debug)]
pub(super) struct Structure<'a> {
    operations: &'a Operations,
    seen: BTreeMap<TreePath, Seen>,
    path_bytes: usize,
}

/// The type of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A directory that has no member of its own, only members inside it.
    Implied,
    Directory,
    File,
    Symlink,
}

impl<'a> Structure<'a> {
    pub(super) fn new(operations: &'a Operations) -> Self {
        Self { operations, seen: BTreeMap::new(), path_bytes: 0 }
    }

    /// Lets a member in, or not. Is it part of the package, not only a directory on the way to something that is?
    pub(super) fn admit(&mut self, path: &TreePath, kind: Seen) -> Result<bool, LegacyError> {
        let part = self.place(path, kind)?;
        self.admit_parents(path)?;
        match self.seen.get_mut(path) {
            None => self.insert(path.clone(), kind)?,
            Some(seen @ Seen::Implied) if kind == Seen::Directory => *seen = kind,
            Some(Seen::Implied) => return Err(wrong_type(path, Seen::Directory)),
            // `tar c .` may name the directories on the way as often as it likes.
            Some(Seen::Directory) if !part => {}
            Some(_) => return Err(LegacyError::Duplicate(path.clone())),
        }
        Ok(part)
    }

    /// Checks that everything listed was there. Returns the directories that are part of the package but have no
    /// member of their own.
    pub(super) fn finish(self) -> Result<Vec<TreePath>, LegacyError> {
        for file in self.operations.required_files() {
            match self.seen.get(file) {
                Some(Seen::File) => {}
                Some(_) => return Err(wrong_type(file, Seen::File)),
                None => return Err(LegacyError::Missing(file.clone())),
            }
        }
        for directory in self.operations.required_directories() {
            match self.seen.get(directory) {
                Some(Seen::Directory | Seen::Implied) => {}
                Some(_) => return Err(wrong_type(directory, Seen::Directory)),
                None => return Err(LegacyError::Missing(directory.clone())),
            }
        }
        let implied = self.seen.into_iter().filter(|(_, seen)| *seen == Seen::Implied).map(|(path, _)| path);
        Ok(implied.filter(|path| self.operations.replaces_within(path)).collect())
    }

    /// Where the operations have a place for it: is it part of the package, or on the way?
    fn place(&self, path: &TreePath, kind: Seen) -> Result<bool, LegacyError> {
        let operations = self.operations;
        if operations.replaces_file(path) {
            return if kind == Seen::File { Ok(true) } else { Err(wrong_type(path, Seen::File)) };
        }
        if operations.replaces_within(path) {
            let listed = operations.replace_directories().binary_search(path).is_ok();
            return if listed && kind != Seen::Directory { Err(wrong_type(path, Seen::Directory)) } else { Ok(true) };
        }
        if path.is_root() || operations.replaces_below(path) {
            return if kind == Seen::Directory { Ok(false) } else { Err(wrong_type(path, Seen::Directory)) };
        }
        Err(LegacyError::Unlisted(path.clone()))
    }

    fn admit_parents(&mut self, path: &TreePath) -> Result<(), LegacyError> {
        let mut above = path.parent();
        while let Some(parent) = above {
            match self.seen.get(&parent) {
                Some(Seen::Directory | Seen::Implied) => break,
                Some(Seen::File | Seen::Symlink) => return Err(wrong_type(&parent, Seen::Directory)),
                None => above = parent.parent(),
            }
            self.insert(parent, Seen::Implied)?;
        }
        Ok(())
    }

    fn insert(&mut self, path: TreePath, kind: Seen) -> Result<(), LegacyError> {
        self.path_bytes += path.as_bytes().len();
        self.seen.insert(path, kind);
        let fits = self.seen.len() <= limits::LEGACY_MEMBERS && self.path_bytes <= limits::LEGACY_PATHS_BYTES;
        if fits { Ok(()) } else { Err(LegacyError::TooMany) }
    }
}

fn wrong_type(path: &TreePath, expected: Seen) -> LegacyError {
    let expected = if expected == Seen::File { "a file" } else { "a directory" };
    LegacyError::WrongType { path: path.clone(), expected }
}

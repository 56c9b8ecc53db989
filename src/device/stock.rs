//! `Stock`: new content that is stored before its transaction, and the changes that listed operations make of it.

use super::layout::{self, Id};
use super::observer::Observer;
use super::{Base, Change, Engine, NoPayload, Report, Request, Settings, Source, stage, store};
use crate::error::{Code, Error, Finding};
use crate::model::{Difference, Kind, Manifest, Metadata, Node, Operations, TreePath};
use crate::package::legacy::{Member, MemberKind};
use crate::tree;
use crate::vfs::{FileType, Place, Stat, Vfs};
use std::collections::BTreeMap;
use std::fmt;

/// Mode of a directory on the way to something listed, if it has to be made.
const WAY_MODE: u32 = 0o755;
/// The attribute that shares its bits with the mode.
const ACL: &[u8] = b"system.posix_acl_access";

/// Something that an update did although it was not as expected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub enum PatchWarning {
    /// Nobody has signed the package, or no key is trusted: it was accepted nevertheless, as asked.
    Unverified,
    /// To be deleted, but not there.
    NotThere {
        /// Which.
        path: TreePath,
    },
    /// Deleted as asked, but it was no directory.
    NoDirectory {
        /// Which.
        path: TreePath,
    },
}

impl fmt::Display for PatchWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unverified => f.write_str("the package was accepted without a verified signature"),
            Self::NotThere { path } => write!(f, "to delete: {path} is not there"),
            Self::NoDirectory { path } => write!(f, "to delete: {path} is no directory"),
        }
    }
}

/// New objects that are stored in the folder of a transaction which has not begun.
///
/// It borrows the engine, so that nothing else can sweep the folder; dropped without a commit, it leaves nothing behind.
pub(super) struct Stock<'a, V: Vfs> {
    engine: &'a mut Engine<V>,
    id: Id,
    slots: u32,
    held: BTreeMap<TreePath, Held>,
    committed: bool,
}

/// What a package holds at one path.
struct Held {
    mode: u32,
    kind: Kind,
    /// Where the content of a file is stored.
    slot: u32,
}

/// What listed operations come to.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<PatchWarning>,
}

impl<'a, V: Vfs> Stock<'a, V> {
    /// An empty one, in a folder of its own.
    pub(super) fn new(engine: &'a mut Engine<V>) -> Result<Self, Error> {
        engine.make_idle()?;
        // Removes what an earlier one has left, if a crash kept it from doing so itself.
        engine.recover(&())?;
        engine.forget_unpacked();
        let id = engine.vfs().fresh_id()?;
        let stock = Self { engine, id, slots: 0, held: BTreeMap::new(), committed: false };
        stock.vfs().mkdir(&layout::generation(id))?;
        store::ensure_bare_dir(stock.vfs(), &layout::slots(id))?;
        Ok(stock)
    }

    /// Stores one object.
    pub(super) fn put(&mut self, member: Member<'_>) -> Result<(), Error> {
        let mut slot = 0;
        let kind = match member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::Symlink { target } => Kind::Symlink { target },
            MemberKind::File { content, .. } => {
                slot = self.slots;
                self.slots += 1;
                let (size, digest) = stage::store_early(self.vfs(), &layout::slot(self.id, slot), content)?;
                Kind::File { size, digest }
            }
        };
        self.held.insert(member.path, Held { mode: member.mode, kind, slot });
        Ok(())
    }

    /// The changes that the operations make of what is stored and what the tree holds now.
    pub(super) fn plan(&mut self, operations: &Operations) -> Result<Planned, Error> {
        let held = std::mem::take(&mut self.held);
        let current = self.engine.current()?;
        let manifest = current.manifest(self.vfs())?;
        let mut planner = Planner {
            vfs: self.vfs(),
            id: self.id,
            found: BTreeMap::new(),
            planned: BTreeMap::new(),
            warnings: Vec::new(),
        };
        planner.replace(operations, held, manifest.as_ref())?;
        planner.delete(operations)?;
        if let Some(manifest) = &manifest {
            planner.forget(operations, manifest);
        }
        let Planner { planned, warnings, .. } = planner;
        let change = |(path, after): (TreePath, Option<(Node, Source)>)| match after {
            Some((node, source)) => Change { path, after: Some(node), source },
            None => Change { path, after: None, source: Source::None },
        };
        Ok(Planned { changes: planned.into_iter().map(change).collect(), warnings })
    }

    /// Makes the changes happen, all of them or none.
    pub(super) fn commit(
        mut self,
        changes: Vec<Change>,
        version: Option<String>,
        title: &str,
        settings: &Settings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        let request = Request {
            base: Base::Observed,
            version,
            settings: settings.clone(),
            id: Some(self.id),
            taken_slots: self.slots,
            ..Request::new(changes, title)
        };
        let report = self.engine.commit(request, &mut NoPayload, observer)?;
        self.committed = true;
        Ok(report)
    }

    fn vfs(&self) -> &V {
        self.engine.vfs()
    }
}

impl<V: Vfs> fmt::Debug for Stock<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock").field("id", &layout::hex(self.id)).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl<V: Vfs> Drop for Stock<'_, V> {
    fn drop(&mut self) {
        if !self.committed && self.engine.require_idle().is_ok() {
            // What cannot be removed now is removed by the next transaction.
            let _ = self.engine.recover(&());
        }
    }
}

/// Compares what is to be with what the tree holds.
struct Planner<'a, V: Vfs> {
    vfs: &'a V,
    id: Id,
    /// What the touched paths hold now, as far as anything is there.
    found: BTreeMap<TreePath, Node>,
    /// What they will hold.
    planned: BTreeMap<TreePath, Option<(Node, Source)>>,
    warnings: Vec<PatchWarning>,
}

impl<V: Vfs> Planner<'_, V> {
    fn replace(
        &mut self,
        operations: &Operations,
        held: BTreeMap<TreePath, Held>,
        manifest: Option<&Manifest>,
    ) -> Result<(), Error> {
        let mut mismatches = Vec::new();
        for path in operations.replace_directories() {
            self.make_way(path, &mut mismatches)?;
            self.remove(path)?;
        }
        for path in operations.replace_files() {
            self.make_way(path, &mut mismatches)?;
            match tree::node_at(self.vfs, &Place::tree(path))? {
                // What is recorded goes with it; what is not, preflight finds in a directory that is to go.
                Some(node) if node.is_directory() => match manifest.filter(|manifest| manifest.get(path).is_some()) {
                    Some(manifest) => self.remove_if(path, |path| manifest.get(path).is_some())?,
                    None => mismatches.push(path.clone()),
                },
                Some(node) => _ = self.found.insert(path.clone(), node),
                None => {}
            }
        }
        refuse_types(mismatches)?;
        for (path, held) in held {
            let (node, source) = self.node(&path, held)?;
            self.planned.insert(path, Some((node, source)));
        }
        Ok(())
    }

    /// What a path will hold. What is equal already stays as it is; a file that takes the place of another keeps its
    /// owner and its `user.*` attributes, and a directory everything but its mode.
    fn node(&self, path: &TreePath, held: Held) -> Result<(Node, Source), Error> {
        let found = self.found.get(path);
        let slot = layout::slot(self.id, held.slot);
        if let Some(found) = found.filter(|found| found.kind.difference(&held.kind).is_none()) {
            let mut node = Node { leader: None, ..found.clone() };
            let mut source = Source::None;
            if node.is_file() {
                // The tree has it already.
                self.vfs.remove_file(&slot)?;
                source = Source::Base(path.clone());
            }
            let has_acl = node.metadata.xattrs.iter().any(|(name, _)| **name == *ACL);
            if node.metadata.mode != held.mode && !(node.is_directory() && has_acl) {
                node.metadata.mode = held.mode;
                if node.is_file() {
                    keep_user_attributes(&mut node.metadata);
                }
            }
            return Ok((node, source));
        }
        let mut metadata = self.metadata(path, held.mode)?;
        if let (Some(found), Kind::File { .. }) = (found.filter(|found| found.is_file()), &held.kind) {
            metadata.xattrs.clone_from(&found.metadata.xattrs);
            keep_user_attributes(&mut metadata);
        }
        let source = if matches!(held.kind, Kind::File { .. }) { Source::Staged(held.slot) } else { Source::None };
        Ok((Node::new(held.kind, metadata), source))
    }

    /// Metadata of something new: it belongs to whom the one before it belonged, or else its directory.
    fn metadata(&self, path: &TreePath, mode: u32) -> Result<Metadata, Error> {
        let owner = |metadata: &Metadata| (metadata.uid, metadata.gid);
        let (mut uid, mut gid) = (self.vfs.user(), self.vfs.user());
        let mut at = Some(path.clone());
        while let Some(path) = at {
            let planned = || Some(&self.planned.get(&path)?.as_ref()?.0);
            if let Some(node) = self.found.get(&path).or_else(planned) {
                (uid, gid) = owner(&node.metadata);
                break;
            }
            if let Some(stat) = look(self.vfs, &path)? {
                (uid, gid) = (stat.uid, stat.gid);
                break;
            }
            at = path.parent();
        }
        if self.vfs.user() != 0 {
            uid = self.vfs.user();
        }
        Ok(Metadata { mode, uid, gid, mtime: self.vfs.now(), xattrs: Vec::new() })
    }

    /// Plans the directories above a path that are missing.
    fn make_way(&mut self, path: &TreePath, mismatches: &mut Vec<TreePath>) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut at = path.parent();
        while let Some(above) = at {
            match look(self.vfs, &above)? {
                Some(stat) if stat.kind == FileType::Directory => break,
                Some(_) => {
                    mismatches.push(above);
                    break;
                }
                None => missing.push(above.clone()),
            }
            at = above.parent();
        }
        for above in missing.into_iter().rev() {
            let node = Node::new(Kind::Directory, self.metadata(&above, WAY_MODE)?);
            self.planned.entry(above).or_insert(Some((node, Source::None)));
        }
        Ok(())
    }

    fn delete(&mut self, operations: &Operations) -> Result<(), Error> {
        let mut mismatches = Vec::new();
        for path in operations.delete_files() {
            match look(self.vfs, path)? {
                None => self.warnings.push(PatchWarning::NotThere { path: path.clone() }),
                Some(stat) if stat.kind == FileType::Directory => mismatches.push(path.clone()),
                Some(_) => self.remove(path)?,
            }
        }
        refuse_types(mismatches)?;
        for path in operations.delete_directories() {
            match look(self.vfs, path)? {
                None => self.warnings.push(PatchWarning::NotThere { path: path.clone() }),
                Some(stat) => {
                    if stat.kind != FileType::Directory {
                        self.warnings.push(PatchWarning::NoDirectory { path: path.clone() });
                    }
                    self.remove(path)?;
                }
            }
        }
        Ok(())
    }

    /// Plans that everything at and below a path goes, unless it is planned otherwise later.
    fn remove(&mut self, path: &TreePath) -> Result<(), Error> {
        self.remove_if(path, |_| true)
    }

    /// The same of those that are asked for.
    fn remove_if(&mut self, path: &TreePath, asked: impl Fn(&TreePath) -> bool) -> Result<(), Error> {
        for entry in tree::scan_below(self.vfs, &Place::tree(path))?.into_iter().filter(|entry| asked(&entry.path)) {
            self.planned.insert(entry.path.clone(), None);
            self.found.insert(entry.path, entry.node);
        }
        Ok(())
    }

    /// What is recorded in or below something listed, but is neither there nor to be: its record goes.
    fn forget(&mut self, operations: &Operations, manifest: &Manifest) {
        let lists = [
            operations.replace_files(),
            operations.replace_directories(),
            operations.delete_files(),
            operations.delete_directories(),
        ];
        for listed in lists.into_iter().flatten() {
            let itself = manifest.get(listed).map(|_| listed);
            for path in itself.into_iter().chain(manifest.below(listed).map(|entry| &entry.path)) {
                if !self.planned.contains_key(path) {
                    self.planned.insert(path.clone(), None);
                }
            }
        }
    }
}

/// ACLs go, since they share bits with the mode, and capabilities, which are not for another program.
fn keep_user_attributes(metadata: &mut Metadata) {
    metadata.xattrs.retain(|(name, _)| name.starts_with(b"user."));
}

fn look<V: Vfs>(vfs: &V, path: &TreePath) -> Result<Option<Stat>, Error> {
    vfs.stat(&Place::tree(path)).map_err(|error| {
        if error.kind() == std::io::ErrorKind::CrossesDevices {
            Error::new(Code::Mount, format!("{path} lies on another mounted file system")).because(error)
        } else {
            error.into()
        }
    })
}

fn refuse_types(mut mismatches: Vec<TreePath>) -> Result<(), Error> {
    mismatches.sort();
    mismatches.dedup();
    let Some(first) = mismatches.first() else { return Ok(()) };
    let message = format!("{first} is of another type in the tree than the operations take it for");
    let finding = |path| Finding { path, difference: Difference::Type };
    Err(Error::new(Code::Changed, message).listing(mismatches.into_iter().map(finding).collect()))
}

//! `Tree` and `Transaction`: the engine without packages.

use super::engine::{Base, Change, Engine, NoPayload, Report, Request, Settings, Source};
use super::layout::{self, Id};
use super::observer::Observer;
use super::stage;
use super::store::{self, Config};
use super::{Recovered, STATE_DIRECTORY};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Kind, Metadata, Node, TreePath};
use crate::tree;
use crate::vfs::{FileType, OsVfs, Place, Stat, Vfs};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// A directory tree that is changed by transactions: each happens as a whole or, wherever the power fails, not at all.
#[derive(Debug)]
pub struct Tree<V: Vfs = OsVfs> {
    engine: Engine<V>,
    recovered: Recovered,
}

/// Changes to a tree that will happen together.
///
/// Each call adds to them; the tree is untouched until [`Transaction::commit`], which also reports the first error of
/// the calls before. A transaction that is dropped leaves the tree as it is.
#[derive(Debug)]
pub struct Transaction<'a, V: Vfs = OsVfs> {
    engine: &'a mut Engine<V>,
    id: Option<Id>,
    slots: u32,
    /// What the touched paths will hold.
    planned: BTreeMap<TreePath, Option<(Node, Source)>>,
    settings: Settings,
    error: Option<Error>,
}

impl Tree<OsVfs> {
    /// Opens a directory, with its state in `.surefoot` inside it, and finishes what a crash left.
    ///
    /// A directory that was never under care is taken under care; what it holds is not recorded.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        let directory = directory.as_ref();
        Self::with(OsVfs::open_or_create_state(directory, &directory.join(STATE_DIRECTORY))?)
    }
}

impl<V: Vfs> Tree<V> {
    /// [`Tree::open`] on any file system.
    pub fn with(vfs: V) -> Result<Self, Error> {
        let mut engine = if vfs.stat(&layout::journal())?.is_some() {
            Engine::open(vfs)?
        } else {
            let config = Config { owner: vfs.user() == 0, ..Config::default() };
            Engine::init(vfs, config, "", None)?
        };
        let recovered = engine.recover(&())?;
        Ok(Self { engine, recovered })
    }

    /// What opening it has finished or taken back.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> Result<Transaction<'_, V>, Error> {
        self.engine.make_idle()?;
        // Removes what a transaction that was dropped has stored.
        self.engine.recover(&())?;
        Ok(Transaction {
            engine: &mut self.engine,
            id: None,
            slots: 0,
            planned: BTreeMap::new(),
            settings: Settings::default(),
            error: None,
        })
    }

    /// Ends a trial: the changes stay.
    pub fn confirm(&mut self) -> Result<(), Error> {
        self.engine.confirm(&())
    }

    /// Takes back the trial, or the last confirmed transaction. Who was to do that before this was opened, and was
    /// interrupted perhaps, looks at [`Tree::recovered`] first.
    pub fn rollback(&mut self) -> Result<Report, Error> {
        self.engine.rollback(&())
    }

    /// The engine underneath.
    pub fn engine(&mut self) -> &mut Engine<V> {
        &mut self.engine
    }
}

impl<V: Vfs> Transaction<'_, V> {
    /// Waits for [`Tree::confirm`] or [`Tree::rollback`]; `attempts` boots without either roll it back.
    #[must_use]
    pub fn trial(mut self, attempts: u32) -> Self {
        self.settings.trial = true;
        self.settings.attempts = attempts;
        self
    }

    /// Makes a regular file with this content. One that is there keeps its mode, owner and attributes; a new one gets
    /// mode `0o644`. Missing directories are made.
    #[must_use]
    pub fn put(self, path: impl AsRef<[u8]>, content: impl Read) -> Self {
        self.then(path, |this, path| this.plan_put(path, content))
    }

    /// Makes a directory, and those above it that are missing, with mode `0o755`.
    #[must_use]
    pub fn make_dir(self, path: impl AsRef<[u8]>) -> Self {
        self.then(path, |this, path| {
            if this.view(&path)?.is_some_and(|(node, _)| !node.is_directory()) {
                return Err(Error::new(Code::Path, format!("{path} is there and is no directory")));
            }
            this.plan_directories(Some(path))
        })
    }

    /// Makes a symbolic link, in place of a file or link that is there.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.then(path, |this, path| {
            let target = target.as_ref();
            if target.is_empty() || target.len() > limits::LINK_TARGET_BYTES || target.contains(&0) {
                return Err(Error::new(
                    Code::Path,
                    format!("the target of {path} is empty, too long or has a NUL byte"),
                ));
            }
            this.refuse_directory(&path)?;
            let node = Node::new(Kind::Symlink { target: target.into() }, this.metadata(0o777)?);
            this.plan_new(path, node, Source::None)
        })
    }

    /// Removes a file or link, or a directory with everything in it.
    #[must_use]
    pub fn remove(self, path: impl AsRef<[u8]>) -> Self {
        self.then(path, |this, path| {
            this.existing(&path)?;
            if path.is_root() {
                return Err(Error::new(Code::Path, "the root of the tree cannot be removed"));
            }
            for below in this.below(&path)? {
                this.planned.insert(below, None);
            }
            this.planned.insert(path, None);
            Ok(())
        })
    }

    /// Moves a file, link or directory with everything in it to a path where nothing is, or where a file or link is.
    #[must_use]
    pub fn rename(self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        let to = to.as_ref().to_vec();
        self.then(from, |this, from| {
            let to = parse(&to)?;
            if to == from || to.is_below(&from) {
                return Err(Error::new(Code::Path, format!("{from} cannot be moved into itself")));
            }
            this.refuse_directory(&to)?;
            let mut moved = vec![from.clone()];
            moved.extend(this.below(&from)?);
            for path in moved {
                let (node, source) = this.existing(&path)?;
                let rest = path.as_bytes()[from.as_bytes().len()..].strip_prefix(b"/").unwrap_or_default();
                let target = if rest.is_empty() { to.clone() } else { to.join(rest).map_err(bad_path)? };
                this.planned.insert(path, None);
                this.plan_new(target, node, source)?;
            }
            Ok(())
        })
    }

    /// Sets the permission bits (`0o7777`) of a file or directory; the root is the empty path.
    #[must_use]
    pub fn set_mode(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.amend(path, move |metadata| metadata.mode = mode & 0o7777)
    }

    /// Sets owner and group of a file or directory.
    #[must_use]
    pub fn set_owner(self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Self {
        self.amend(path, move |metadata| (metadata.uid, metadata.gid) = (uid, gid))
    }

    /// Sets an extended attribute of a file or directory, or removes it.
    #[must_use]
    pub fn set_xattr(self, path: impl AsRef<[u8]>, name: &[u8], value: Option<&[u8]>) -> Self {
        self.amend(path, |metadata| {
            metadata.xattrs.retain(|(known, _)| &**known != name);
            metadata.xattrs.extend(value.map(|value| (name.into(), value.into())));
            metadata.xattrs.sort();
        })
    }

    /// Makes everything happen.
    pub fn commit(self) -> Result<Report, Error> {
        self.commit_observed(&())
    }

    /// [`Transaction::commit`] with somebody who is told how far it is.
    pub fn commit_observed(mut self, observer: &dyn Observer) -> Result<Report, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let planned = std::mem::take(&mut self.planned);
        let changes = planned
            .into_iter()
            .map(|(path, after)| match after {
                Some((node, source)) => Change { path, after: Some(node), source },
                None => Change { path, after: None, source: Source::None },
            })
            .collect();
        let request = Request {
            base: Base::Observed,
            settings: self.settings.clone(),
            id: self.id,
            taken_slots: self.slots,
            ..Request::new(changes, "transaction")
        };
        self.engine.commit(request, &mut NoPayload, observer)
    }

    fn then(mut self, path: impl AsRef<[u8]>, plan: impl FnOnce(&mut Self, TreePath) -> Result<(), Error>) -> Self {
        if self.error.is_none() {
            self.error = parse(path.as_ref()).and_then(|path| plan(&mut self, path)).err();
        }
        self
    }

    fn amend(self, path: impl AsRef<[u8]>, change: impl FnOnce(&mut Metadata)) -> Self {
        self.then(path, |this, path| {
            let (mut node, source) = this.existing(&path)?;
            if matches!(node.kind, Kind::Symlink { .. }) {
                return Err(Error::new(
                    Code::Path,
                    format!("{path} is a symbolic link, which has no metadata of its own"),
                ));
            }
            change(&mut node.metadata);
            this.planned.insert(path, Some((node, source)));
            Ok(())
        })
    }

    fn plan_put(&mut self, path: TreePath, mut content: impl Read) -> Result<(), Error> {
        self.refuse_directory(&path)?;
        let metadata = match self.view(&path)? {
            Some((Node { kind: Kind::File { .. }, metadata, .. }, _)) => {
                Metadata { mtime: self.engine.vfs.now(), ..metadata }
            }
            _ => self.metadata(0o644)?,
        };
        let id = self.folder()?;
        let slot = self.slots;
        self.slots += 1;
        let (size, digest) = stage::store_early(&self.engine.vfs, &layout::slot(id, slot), &mut content)?;
        self.plan_new(path, Node::new(Kind::File { size, digest }, metadata), Source::Staged(slot))
    }

    fn plan_new(&mut self, path: TreePath, node: Node, source: Source) -> Result<(), Error> {
        self.plan_directories(path.parent())?;
        self.planned.insert(path, Some((node, source)));
        Ok(())
    }

    /// Makes the directory at `path`, and those above it, unless they are there.
    fn plan_directories(&mut self, path: Option<TreePath>) -> Result<(), Error> {
        let mut next = path;
        while let Some(path) = next {
            match self.view(&path)? {
                Some((node, _)) if node.is_directory() => break,
                Some(_) => return Err(Error::new(Code::Path, format!("{path} is no directory"))),
                None => {
                    let node = Node::new(Kind::Directory, self.metadata(0o755)?);
                    self.planned.insert(path.clone(), Some((node, Source::None)));
                }
            }
            next = path.parent();
        }
        Ok(())
    }

    /// That of something new: it belongs to whom belongs what this process makes.
    fn metadata(&mut self, mode: u32) -> Result<Metadata, Error> {
        let slots = layout::slots(self.folder()?);
        let missing = || Error::new(Code::Internal, format!("{slots} is gone"));
        let Stat { uid, gid, .. } = self.engine.vfs.stat(&slots)?.ok_or_else(missing)?;
        Ok(Metadata { mode, uid, gid, mtime: self.engine.vfs.now(), xattrs: Vec::new() })
    }

    fn refuse_directory(&self, path: &TreePath) -> Result<(), Error> {
        match self.view(path)? {
            Some((node, _)) if node.is_directory() => {
                Err(Error::new(Code::Path, format!("{path} is a directory; remove it first if it is to go")))
            }
            _ => Ok(()),
        }
    }

    fn existing(&self, path: &TreePath) -> Result<(Node, Source), Error> {
        self.view(path)?.ok_or_else(|| Error::new(Code::Path, format!("{path} does not exist")))
    }

    /// What a path holds, the calls before taken into account.
    fn view(&self, path: &TreePath) -> Result<Option<(Node, Source)>, Error> {
        if let Some(planned) = self.planned.get(path) {
            return Ok(planned.clone());
        }
        let Some(node) = tree::node_at(&self.engine.vfs, &Place::tree(path))? else { return Ok(None) };
        let source = if node.is_file() { Source::Base(path.clone()) } else { Source::None };
        Ok(Some((node, source)))
    }

    /// Every path below a directory, the calls before taken into account, parents first.
    fn below(&self, path: &TreePath) -> Result<Vec<TreePath>, Error> {
        let mut out = Vec::new();
        let mut directories = vec![path.clone()];
        while let Some(directory) = directories.pop() {
            let at = Place::tree(&directory);
            if !matches!(self.engine.vfs.stat(&at)?, Some(stat) if stat.kind == FileType::Directory) {
                continue;
            }
            for name in self.engine.vfs.list(&at)? {
                let path = directory.join(&name).map_err(bad_path)?;
                directories.push(path.clone());
                out.push(path);
            }
        }
        out.retain(|path| !matches!(self.planned.get(path), Some(None)));
        out.extend(
            self.planned
                .iter()
                .filter(|(known, after)| after.is_some() && known.is_below(path))
                .map(|(known, _)| known.clone()),
        );
        out.sort();
        out.dedup();
        Ok(out)
    }

    /// The folder of the transaction, where contents are stored as they come.
    fn folder(&mut self) -> Result<Id, Error> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let id = self.engine.vfs.fresh_id()?;
        self.engine.vfs.mkdir(&layout::generation(id))?;
        store::ensure_bare_dir(&self.engine.vfs, &layout::slots(id))?;
        self.id = Some(id);
        Ok(id)
    }
}

fn parse(path: &[u8]) -> Result<TreePath, Error> {
    TreePath::parse(path).map_err(bad_path)
}

fn bad_path(error: crate::model::PathError) -> Error {
    Error::new(Code::Path, error.to_string())
}

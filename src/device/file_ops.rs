//! `FileOperationExecutor`: files and directories replaced from a directory, or deleted, one transaction a call.

use super::processor::PatchReport;
use super::stage::FileReader;
use super::stock::{Planned, Stock};
use super::{Engine, Recovered, Report, Settings, Tree};
use crate::error::{Code, Error};
use crate::model::{Kind, Operations, TreePath};
use crate::package::legacy::{Member, MemberKind};
use crate::tree;
use crate::vfs::{Access, FileType, OsVfs, Place, Vfs};
use std::path::PathBuf;

/// Permission bits that are taken over from the source: nobody gets setuid or setgid from there.
const MODE: u32 = 0o777;

/// Replaces and deletes files and directories of one tree; each call happens as a whole or not at all.
#[derive(Debug)]
pub struct FileOperationExecutor<V: Vfs = OsVfs> {
    tree: Tree<V>,
    source: Option<OsVfs>,
}

impl FileOperationExecutor<OsVfs> {
    /// Opens a directory as [`Tree::open`] does: with its state in `.surefoot` inside it, and what a crash left is
    /// finished.
    pub fn new(work_dir: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        Ok(Self { tree: Tree::open(work_dir)?, source: None })
    }
}

impl<V: Vfs> FileOperationExecutor<V> {
    /// [`FileOperationExecutor::new`] on any file system.
    pub fn with(vfs: V) -> Result<Self, Error> {
        Ok(Self { tree: Tree::with(vfs)?, source: None })
    }

    /// Names the directory with the new content, at the same relative paths.
    pub fn set_patch_source(&mut self, directory: impl Into<PathBuf>) -> Result<&mut Self, Error> {
        self.source = Some(OsVfs::open_tree(&directory.into())?);
        Ok(self)
    }

    /// What opening the tree has finished or taken back.
    pub fn recovered(&self) -> &Recovered {
        self.tree.recovered()
    }

    /// The engine underneath.
    pub fn engine(&mut self) -> &mut Engine<V> {
        self.tree.engine()
    }

    /// Gives each of these files the content and the mode that it has in the source; new ones are made.
    pub fn replace_files<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<PatchReport, Error> {
        let operations = Operations::new(parsed(paths)?, Vec::new(), Vec::new(), Vec::new())?;
        self.run(&operations, "replace files")
    }

    /// Makes each of these directories exactly what it is in the source: everything else in it goes.
    pub fn replace_directories<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<PatchReport, Error> {
        let operations = Operations::new(Vec::new(), parsed(paths)?, Vec::new(), Vec::new())?;
        self.run(&operations, "replace directories")
    }

    /// Deletes files, links, and directories with everything in them; what is not there already is a warning.
    pub fn delete_items<P: AsRef<[u8]>>(&mut self, paths: &[P]) -> Result<PatchReport, Error> {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for path in parsed(paths)? {
            let stat = self.engine().vfs().stat(&Place::tree(&path))?;
            let is_directory = stat.is_some_and(|stat| stat.kind == FileType::Directory);
            if is_directory { &mut directories } else { &mut files }.push(path);
        }
        self.run(&Operations::new(Vec::new(), Vec::new(), files, directories)?, "delete items")
    }

    /// Takes back the last call while its undo data is kept.
    pub fn rollback(&mut self) -> Result<Report, Error> {
        self.tree.rollback()
    }

    fn run(&mut self, operations: &Operations, title: &str) -> Result<PatchReport, Error> {
        let mut stock = Stock::new(self.tree.engine())?;
        let replaced = || operations.replace_files().iter().chain(operations.replace_directories());
        if replaced().next().is_some() {
            let source = self
                .source
                .as_ref()
                .ok_or_else(|| Error::new(Code::Usage, "no directory with the new content was set"))?;
            for path in replaced() {
                take(&mut stock, source, path, operations.replaces_file(path))?;
            }
        }
        let Planned { changes, warnings } = stock.plan(operations)?;
        let report = stock.commit(changes, None, title, &Settings::default(), &())?;
        Ok(PatchReport { report, warnings })
    }
}

/// Stores what the source holds at a path, and below it.
fn take<V: Vfs>(stock: &mut Stock<'_, V>, source: &OsVfs, path: &TreePath, file: bool) -> Result<(), Error> {
    let expected = if file { FileType::File } else { FileType::Directory };
    let found = source.stat(&Place::tree(path))?;
    if found.is_none_or(|stat| stat.kind != expected) {
        let what = if file { "file" } else { "directory" };
        return Err(Error::new(Code::PackagePartial, format!("the source holds no {what} {path}")));
    }
    for entry in tree::scan_below(source, &Place::tree(path))? {
        let at = Place::tree(&entry.path);
        let mode = entry.node.metadata.mode & MODE;
        match entry.node.kind {
            Kind::Directory => stock.put(Member { path: entry.path, mode, kind: MemberKind::Directory })?,
            Kind::Symlink { target } => {
                stock.put(Member { path: entry.path, mode, kind: MemberKind::Symlink { target } })?;
            }
            Kind::File { size, .. } => {
                let opened = source.open(&at, Access::Read)?;
                let mut content = FileReader { vfs: source, file: &opened, offset: 0 };
                let kind = MemberKind::File { size, content: &mut content };
                stock.put(Member { path: entry.path, mode, kind })?;
            }
        }
    }
    Ok(())
}

fn parsed<P: AsRef<[u8]>>(paths: &[P]) -> Result<Vec<TreePath>, Error> {
    let parse = |path: &P| {
        let path = path.as_ref();
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        TreePath::parse(path).map_err(|error| Error::new(Code::Path, error.to_string()))
    };
    paths.iter().map(parse).collect()
}

//! `build --format tar.gz`: the package of the service manifest, and its JSON entry.

use super::build::usage;
use super::{read_tree, version};
use crate::cli::args::Build;
use crate::cli::files::{Draft, failed, open_package};
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::cli::prove::{self, EntryProof, same_for_tar};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Kind, Manifest, Node, Operations, PatchOperations, PatchPackageInfo, Policy, TreePath};
use crate::package::legacy::{LegacyWriter, verify_bytes};
use crate::tree;
use crate::trust::SecretKey;
use crate::vfs::{Access, OsVfs, Place, Vfs};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

#[derive(Serialize)]
struct Built<'a> {
    package: String,
    kind: &'static str,
    to: String,
    bytes: u64,
    entry: &'a PatchPackageInfo,
}

pub(super) fn run(asked: &Build, (old, new): (&Path, &Path), keys: &[SecretKey], output: &Output) -> Result<(), Error> {
    if asked.arch.is_some() {
        return Err(usage("the entry of a tar.gz package stands under its architecture, and does not name it"));
    }
    let key = match keys {
        [] => None,
        [key] => Some(key),
        _ => return Err(usage("the entry of a tar.gz package has room for one signature")),
    };
    let meter = Meter::new(output);
    let (old_vfs, old) = read_tree(old, asked.identity, &meter)?;
    let (vfs, new) = read_tree(new, asked.identity, &meter)?;
    drop(meter);
    let operations = operations(&old, &new)?;
    let mut draft = Draft::create(&asked.output)?;
    let out = BufWriter::with_capacity(limits::COPY_BUFFER, draft.file()?);
    let write_failed = |error| failed("write", &asked.output, error);
    write(&new, &vfs, &operations, out)?.flush().map_err(write_failed)?;
    let info = describe(asked, &operations, draft.temporary(), key)?;
    if !asked.no_prove {
        output.message("proving: it is applied to a copy, and taken back");
        let proof = EntryProof {
            package: draft.temporary(),
            info: &info,
            operations: &operations,
            old: (&old, &old_vfs),
            new: &new,
            signer: key,
        };
        prove::run_entry(&proof, &asked.output, &Meter::new(output))?;
    }
    draft.complete()?;
    let text = info.to_json()?;
    if let Some(path) = &asked.entry {
        let mut entry = Draft::create(path)?;
        entry.file()?.write_all(text.as_bytes()).map_err(|error| failed("write", path, error))?;
        entry.complete()?;
    }
    let size = info.size.unwrap_or(0);
    let name = asked.output.display().to_string();
    match &asked.entry {
        Some(path) => {
            output.line(format_args!("{name}: tar.gz to {}, {}", asked.to, bytes(size)));
            output.line(format_args!("{}: its entry", path.display()));
        }
        None => output.line(text.trim_end()),
    }
    output.result(&Built { package: name, kind: "tar.gz", to: asked.to.clone(), bytes: size, entry: &info });
    Ok(())
}

/// What the package must replace and delete to make `new` of `old`, as far as a tar.gz can carry it.
fn operations(old: &Manifest, new: &Manifest) -> Result<Operations, Error> {
    // Owners and times do not travel.
    let under = |manifest: &Manifest| manifest.clone().under(Policy::default());
    let unfit = |error: crate::model::ManifestError| Error::new(Code::Internal, error.to_string());
    let (old, new) = (under(old).map_err(unfit)?, under(new).map_err(unfit)?);
    let mut files = BTreeSet::new();
    let mut directories = BTreeSet::new();
    let mut gone_files = BTreeSet::new();
    let mut gone_directories = BTreeSet::new();
    for change in tree::changes(&old, &new) {
        let path = change.path;
        let before = old.get(&path);
        match (before, &change.after) {
            (Some(before), Some(after)) if same_for_tar(before, after) => {}
            (_, Some(node)) => match &node.kind {
                Kind::File { .. } if !before.is_some_and(Node::is_directory) => _ = files.insert(path),
                Kind::Directory => _ = directories.insert(not_root(path)?),
                // A directory that gives way, and a link, come with the directory that they are in.
                Kind::File { .. } | Kind::Symlink { .. } => {
                    _ = directories.insert(not_root(path.parent().unwrap_or_else(TreePath::root))?);
                }
            },
            (Some(node), None) if node.is_directory() => _ = gone_directories.insert(path),
            (_, None) => _ = gone_files.insert(path),
        }
    }
    // What lies in a directory that is replaced, or goes, is covered.
    let replaced = outermost(directories);
    let gone_directories = outermost(gone_directories);
    let covered = |path: &TreePath| is_within(path, &replaced) || is_within(path, &gone_directories);
    // A directory that turned into something else is no place where anything is left to be deleted.
    let stays = |path: &TreePath| {
        let turned = |above: &TreePath| new.get(above).is_some_and(|node| !node.is_directory());
        !covered(path) && !std::iter::successors(path.parent(), TreePath::parent).any(|above| turned(&above))
    };
    let keep = |paths: BTreeSet<TreePath>| paths.into_iter().filter(|path| stays(path)).collect::<Vec<_>>();
    let gone: Vec<TreePath> = gone_directories.iter().filter(|path| !is_within(path, &replaced)).cloned().collect();
    Ok(Operations::new(keep(files), replaced.iter().cloned().collect(), keep(gone_files), gone)?)
}

fn not_root(path: TreePath) -> Result<TreePath, Error> {
    if path.is_root() {
        let what = "a link at the top of the tree, or the mode of the tree itself, changes: a tar.gz package cannot";
        return Err(Error::new(Code::Usage, what));
    }
    Ok(path)
}

/// Without those that lie in another one.
fn outermost(paths: BTreeSet<TreePath>) -> BTreeSet<TreePath> {
    let mut out: BTreeSet<TreePath> = BTreeSet::new();
    for path in paths {
        // Sorted: what lies in a directory comes right after it.
        if !out.last().is_some_and(|last| path.is_below(last)) {
            out.insert(path);
        }
    }
    out
}

/// Is it one of these directories, or in one? None of them lies in another.
fn is_within(path: &TreePath, directories: &BTreeSet<TreePath>) -> bool {
    let before = directories.range(..=path.clone()).next_back();
    before.is_some_and(|directory| directory == path || path.is_below(directory))
}

fn write<W: io::Write>(new: &Manifest, vfs: &OsVfs, operations: &Operations, out: W) -> Result<W, Error> {
    let mut writer = LegacyWriter::new(out, operations);
    for entry in new.entries() {
        let path = &entry.path;
        if !operations.replaces_within(path) && !operations.replaces_file(path) {
            continue;
        }
        let mode = entry.node.metadata.mode;
        let written = match &entry.node.kind {
            Kind::Directory => writer.directory(path, mode),
            Kind::Symlink { target } => writer.symlink(path, target),
            Kind::File { size, .. } => {
                let file = vfs.open(&Place::tree(path), Access::Read)?;
                writer.file(path, mode, *size, &mut Reader { vfs, file, offset: 0 })
            }
        };
        written?;
    }
    Ok(writer.finish()?)
}

struct Reader<'a> {
    vfs: &'a OsVfs,
    file: <OsVfs as Vfs>::File,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.vfs.read_at(&self.file, self.offset, buffer).map_err(|error| error.source)?;
        self.offset += length as u64;
        Ok(length)
    }
}

fn describe(
    asked: &Build,
    operations: &Operations,
    package: &Path,
    key: Option<&SecretKey>,
) -> Result<PatchPackageInfo, Error> {
    let operations = PatchOperations::try_from(operations)?;
    let mut info = PatchPackageInfo {
        url: asked.output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        notes: asked.notes.clone(),
        operations,
        version: Some(version(&asked.to)?),
        ..PatchPackageInfo::default()
    };
    let mut size = 0;
    let mut count = |bytes: &[u8]| size += bytes.len() as u64;
    let digest = verify_bytes(open_package(package)?, &info, &mut count)?;
    info.set_digest(digest);
    info.size = Some(size);
    if let Some(key) = key {
        // Ed25519 passes over the message twice, so all of it is needed.
        let bytes = fs::read(package).map_err(|error| failed("read", package, error))?;
        info.set_signature(&key.sign(b"", &bytes).0);
    }
    Ok(info)
}

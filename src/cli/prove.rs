//! Proving a package: the real applier runs on a copy of what the package touches, forward and back.
//!
//! Applying looks only at the paths that change and at the files that serve as a base; what else is recorded is given
//! as a value. So these, and the directories that they are in, are all that has to be copied (or reflinked, where the
//! file system can).

use super::files::{beside, failed};
use super::progress::Meter;
use crate::device::{Config, Engine, Observer, PackageSettings, PatchExecutor};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Difference, Entry, Finding, Manifest, Node, Operations, PatchPackageInfo, Policy, TreePath};
use crate::package::{Package, Source};
use crate::tree::{self, Depth};
use crate::trust::{Keyring, SecretKey};
use crate::vfs::{Access, IoError, OsVfs, Place, Vfs as _};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What is to be proved.
pub(super) struct Proof<'a> {
    /// The package.
    pub(super) package: &'a Path,
    /// Version, content and place of the tree that it starts from; nothing for a full package.
    pub(super) old: Option<(&'a str, &'a Manifest, &'a OsVfs)>,
    /// Files of that tree that contents are made of.
    pub(super) sources: &'a [TreePath],
    /// What it must lead to.
    pub(super) new: &'a Manifest,
    /// Who has signed it.
    pub(super) signers: &'a [&'a SecretKey],
}

/// Applies the package in a directory beside `output`, looks at everything that it touched, takes it back, and looks
/// again.
pub(super) fn run(proof: &Proof<'_>, output: &Path, meter: &Meter<'_>) -> Result<(), Error> {
    let scratch = Scratch::create(output)?;
    prove(proof, &scratch.0, meter).map_err(unless_here)
}

/// What is to be proved of a package of the service manifest.
pub(super) struct EntryProof<'a> {
    /// The package.
    pub(super) package: &'a Path,
    /// Its entry.
    pub(super) info: &'a PatchPackageInfo,
    /// What it does.
    pub(super) operations: &'a Operations,
    /// Content and place of the tree that it starts from.
    pub(super) old: (&'a Manifest, &'a OsVfs),
    /// What it must lead to, as far as a tar.gz carries it.
    pub(super) new: &'a Manifest,
    /// Who has signed it.
    pub(super) signer: Option<&'a SecretKey>,
}

/// The same for a package of the service manifest, with the applier of these.
pub(super) fn run_entry(proof: &EntryProof<'_>, output: &Path, observer: &dyn Observer) -> Result<(), Error> {
    let scratch = Scratch::create(output)?;
    prove_entry(proof, &scratch.0, observer).map_err(unless_here)
}

/// Room for the copy, or the like, may be what lacks, and not a good package.
fn unless_here(error: Error) -> Error {
    match error.code() {
        Code::Space
        | Code::Inodes
        | Code::Io
        | Code::Metadata
        | Code::FileSystem
        | Code::CaseCollision
        | Code::Path => error,
        code => Error::new(code, "the package was built, but does not do what it should").because(error),
    }
}

fn prove_entry(proof: &EntryProof<'_>, scratch: &Path, observer: &dyn Observer) -> Result<(), Error> {
    let (old, source) = proof.old;
    let under = |manifest: &Manifest| {
        let unfit = |error| Error::new(Code::Internal, "a tree does not fit its own policy").because(error);
        manifest.clone().under(Policy::default()).map_err(unfit)
    };
    let (old, new) = (under(old)?, under(proof.new)?);
    let operations = proof.operations;
    let lists = [
        operations.replace_files(),
        operations.replace_directories(),
        operations.delete_files(),
        operations.delete_directories(),
    ];
    let mut touched: BTreeSet<TreePath> = BTreeSet::new();
    for listed in lists.into_iter().flatten() {
        touched.insert(listed.clone());
        touched.extend(old.below(listed).chain(new.below(listed)).map(|entry| entry.path.clone()));
    }
    let mut paths = touched.clone();
    tree::add_what_belongs(&mut paths, &old);
    let vfs = OsVfs::open_or_create_state(&scratch.join("tree"), &scratch.join("state"))?;
    tree::copy(&vfs, &old, &paths, &|at| copy_content(source, &vfs, at))?;
    drop(Engine::init(vfs, Config::default(), "", Some(&old))?);
    let mut executor =
        PatchExecutor::with(OsVfs::open_or_create_state(&scratch.join("tree"), &scratch.join("state"))?)?;
    let mut keyring = Keyring::new();
    if let Some(signer) = proof.signer {
        keyring.insert(signer.public())?;
    }
    executor.trust(&keyring)?;
    executor.allow_unsigned(proof.signer.is_none()).allow_downgrade(true);
    let mut info = proof.info.clone();
    let not_text = || Error::new(Code::Path, format!("{} is not text", proof.package.display()));
    let package = fs::canonicalize(proof.package).map_err(|error| failed("open", proof.package, error))?;
    info.url = package.to_str().ok_or_else(not_text)?.to_owned();
    let listed = std::mem::take(&mut info.operations);
    executor.apply_patch_observed(&info, &listed, observer)?;
    let engine = executor.engine();
    let mut findings = Vec::new();
    for path in touched {
        let found = tree::node_at(engine.vfs(), &Place::tree(&path))?;
        let difference = match (&found, new.get(&path)) {
            (Some(found), Some(wanted)) if same_for_tar(found, wanted) => continue,
            (None, None) => continue,
            (Some(found), Some(wanted)) => found.kind.difference(&wanted.kind).unwrap_or(Difference::Mode),
            (None, Some(_)) => Difference::Missing,
            (Some(_), None) => Difference::Unexpected,
        };
        findings.push(Finding { path, difference });
    }
    if !findings.is_empty() {
        return Err(Error::new(Code::Internal, "the copy is not what it should be").listing(findings));
    }
    engine.rollback(observer)?;
    compare(engine.vfs(), &old, &paths.into_iter().collect::<Vec<_>>(), &|_, _| ())
}

/// Nothing that a tar.gz carries differs.
pub(super) fn same_for_tar(before: &Node, after: &Node) -> bool {
    before.kind == after.kind && before.metadata.mode & 0o777 == after.metadata.mode & 0o777
}

fn prove(proof: &Proof<'_>, scratch: &Path, meter: &Meter<'_>) -> Result<(), Error> {
    let vfs = OsVfs::open_or_create_state(&scratch.join("tree"), &scratch.join("state"))?;
    let package = Package::open(open(proof.package)?)?;
    let package = if proof.signers.is_empty() {
        package.accept_unsigned()?
    } else {
        let mut keyring = Keyring::new();
        for signer in proof.signers {
            keyring.insert(signer.public())?;
        }
        package.verify(&keyring)?
    };
    let mut paths: BTreeSet<TreePath> = proof.sources.iter().cloned().collect();
    for change in package.promise().changes() {
        paths.insert(change.path.clone());
        if let Some(Source::Base(base)) = change.source() {
            paths.insert(base.clone());
        }
        // A new name may join a file that the package does not change.
        if let Some(leader) = change.node().and_then(|node| node.leader.as_ref()) {
            paths.insert(leader.clone());
        }
    }
    let (from, old) = match proof.old {
        Some((from, old, source)) => {
            tree::add_what_belongs(&mut paths, old);
            tree::copy(&vfs, old, &paths, &|at| copy_content(source, &vfs, at))?;
            (from, old.clone())
        }
        None => {
            let root = tree::node_at(&vfs, &Place::tree(&TreePath::root()))?;
            let root = root.map(|node| Entry { path: TreePath::root(), node });
            let empty = Manifest::new(proof.new.policy(), root.into_iter().collect());
            ("", empty.map_err(|error| Error::new(Code::Internal, "no empty tree").because(error))?)
        }
    };
    let paths: Vec<TreePath> = paths.into_iter().collect();
    let policy = proof.new.policy();
    let config = Config { owner: policy.owner, mtime: policy.mtime, ..Config::default() };
    let mut engine = Engine::init(vfs, config, from, Some(&old))?;
    let settings = PackageSettings { allow_downgrade: true, ..PackageSettings::default() };
    engine.apply(package, &settings, meter)?;
    compare(engine.vfs(), proof.new, &paths, &meter.check())?;
    engine.rollback(meter)?;
    compare(engine.vfs(), &old, &paths, &meter.check())
}

fn open(path: &Path) -> Result<BufReader<File>, Error> {
    let file = File::open(path).map_err(|error| failed("open", path, error))?;
    Ok(BufReader::with_capacity(limits::COPY_BUFFER, file))
}

fn compare(
    vfs: &OsVfs,
    manifest: &Manifest,
    paths: &[TreePath],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), Error> {
    let verification = tree::verify(vfs, manifest, false, Depth::Touched(paths), progress)?;
    if verification.findings.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Internal, "the copy is not what it should be").listing(verification.findings))
}

/// A copy that shares blocks where the file system can.
fn copy_content(from: &OsVfs, to: &OsVfs, at: &Place) -> Result<(), IoError> {
    let source = from.open(at, Access::Read)?;
    let target = to.create(at)?;
    if to.reflink(&source, &target)? { Ok(()) } else { tree::copy_bytes((from, &source), (to, &target)) }
}

/// A directory for the copy, gone at the end whatever happened.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// Beside a file, and gone when it is dropped.
    pub(super) fn create(output: &Path) -> Result<Self, Error> {
        let path = beside(output, "proof")?;
        let made = fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)));
        made.map_err(|error| failed("create", &path, error))?;
        let scratch = Self(path);
        let tree = scratch.0.join("tree");
        fs::create_dir(&tree).map_err(|error| failed("create", &tree, error))?;
        // What the surroundings hand down is no part of the copy.
        let vfs = OsVfs::open_tree(&tree)?;
        let root = Place::tree(&TreePath::root());
        vfs.set_xattr(&root, b"system.posix_acl_default", None)?;
        vfs.set_xattr(&root, b"system.posix_acl_access", None)?;
        vfs.set_mode(&root, 0o755)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err() {
            // The copy has directories that may not be written to.
            open_up(&self.0);
            if let Err(error) = fs::remove_dir_all(&self.0) {
                tracing::warn!(path = %self.0.display(), %error, "the copy cannot be removed");
            }
        }
    }
}

fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Global;
    use crate::package::legacy::LegacyWriter;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    /// What a package does not touch is not there to be copied.
    #[test]
    fn a_proof_copies_what_the_package_touches_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let tree = |name: &str, app: &str| {
            let root = folder.path().join(name);
            fs::create_dir_all(root.join("deep/er")).unwrap();
            for (path, content) in [("app", app), ("conf", "1"), ("stays", "stays"), ("deep/er/stays", "stays too")] {
                fs::write(root.join(path), content).unwrap();
            }
            fs::hard_link(root.join("conf"), root.join("deep/conf")).unwrap();
            let vfs = OsVfs::open_tree(&root).unwrap();
            let walk = tree::Walk { policy: Policy::default(), state_inside: true };
            let manifest = tree::scan(&vfs, &walk, &|_, _| ()).unwrap();
            (root, vfs, manifest)
        };
        let (root, vfs, old) = tree("old", "1");
        let (new_root, new_vfs, _) = tree("new", "2");
        fs::set_permissions(new_root.join("conf"), Permissions::from_mode(0o600)).unwrap();
        let new =
            tree::scan(&new_vfs, &tree::Walk { policy: Policy::default(), state_inside: true }, &|_, _| ()).unwrap();
        let package = folder.path().join("up.sf");
        let how = crate::publish::Options { to: "1.0.1".into(), ..Default::default() };
        let (mut bytes, mut spool) = (Vec::new(), std::io::Cursor::new(Vec::new()));
        let report =
            crate::publish::build_patch(("1.0.0", &old, &vfs), (&new, &new_vfs), &how, &mut spool, &mut bytes).unwrap();
        fs::write(&package, bytes).unwrap();
        for path in ["stays", "deep/er/stays"] {
            fs::remove_file(root.join(path)).unwrap();
        }
        let global = Global { root: ".".into(), state_dir: None, json: false, quiet: true, verbose: false };
        let output = crate::cli::output::Output::new(&global, "build");
        let meter = Meter::new(&output);
        let proof = || Proof {
            package: &package,
            old: Some(("1.0.0", &old, &vfs)),
            sources: &report.sources,
            new: &new,
            signers: &[],
        };
        run(&proof(), &package, &meter).unwrap();
        assert_eq!(fs::read(root.join("app")).unwrap(), b"1", "nothing of the tree itself is changed");
        assert_eq!(fs::metadata(root.join("conf")).unwrap().permissions().mode() & 0o777, 0o644);
        // The other name of a file whose mode changes belongs to what is touched.
        fs::remove_file(root.join("deep/conf")).unwrap();
        fs::remove_file(root.join("conf")).unwrap();
        assert_eq!(run(&proof(), &package, &meter).unwrap_err().code(), Code::Io);
    }

    /// A package that can be read to its end, and is signed, but does not lead to what was promised: only applying it
    /// shows that.
    #[test]
    fn a_package_of_the_service_manifest_that_leads_elsewhere_is_no_good() {
        let folder = tempfile::tempdir().unwrap();
        let tree = |name: &str, files: &[(&str, &str)]| {
            let root = folder.path().join(name);
            fs::create_dir(&root).unwrap();
            files.iter().for_each(|(path, content)| fs::write(root.join(path), content).unwrap());
            let vfs = OsVfs::open_tree(&root).unwrap();
            let walk = tree::Walk { policy: Policy::default(), state_inside: true };
            let manifest = tree::scan(&vfs, &walk, &|_, _| ()).unwrap();
            (vfs, manifest)
        };
        let (vfs, old) = tree("old", &[("a", "1"), ("b", "1"), ("c", "1")]);
        let (_, new) = tree("new", &[("a", "2"), ("b", "1")]);
        let (_, other) = tree("other", &[("a", "3"), ("b", "1")]);
        let (_, more) = tree("more", &[("a", "2"), ("b", "1"), ("c", "1")]);
        let operations = Operations::new(vec![path("a")], Vec::new(), vec![path("c")], Vec::new()).unwrap();
        let package = folder.path().join("p.tar.gz");
        let mut writer = LegacyWriter::new(File::create(&package).unwrap(), &operations);
        writer.file(&path("a"), 0o644, 1, &mut &b"2"[..]).unwrap();
        writer.finish().unwrap();
        let info = PatchPackageInfo { operations: (&operations).try_into().unwrap(), ..PatchPackageInfo::default() };
        let prove = |new: &Manifest| {
            let (old, operations) = ((&old, &vfs), &operations);
            let proof = EntryProof { package: &package, info: &info, operations, old, new, signer: None };
            run_entry(&proof, &package, &())
        };
        prove(&new).unwrap();
        assert_eq!(prove(&other).unwrap_err().code(), Code::Internal, "another content");
        assert_eq!(prove(&more).unwrap_err().code(), Code::Internal, "it deletes too much");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left of the copies");
    }
}

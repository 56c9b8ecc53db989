//! `repo add --tree`: builds the packages of a tree: the full one, and patches from the versions before.

use super::build::{make, memory, refuse_inside};
use super::{read_tree, version};
use crate::cli::files::{failed, open_package};
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::cli::prove::Scratch;
use crate::cli::repo_args::RepoAdd;
use crate::device::{Config, Engine, PackageSettings};
use crate::error::{Code, Error};
use crate::model::{Manifest, Policy};
use crate::package::Package;
use crate::publish::{Options, Publisher};
use crate::repository::{Release, ReleaseKind, TARGETS_DIRECTORY, blob_name};
use crate::tree::{self, Walk};
use crate::trust::SecretKey;
use crate::vfs::OsVfs;
use std::fs;
use std::path::{Path, PathBuf};

/// Packages that are there as long as this is.
pub(super) struct Made {
    _scratch: Scratch,
    pub(super) packages: Vec<PathBuf>,
}

pub(super) fn build(
    asked: &RepoAdd,
    tree: &Path,
    publisher: &Publisher<OsVfs>,
    signers: &[&SecretKey],
    output: &Output,
) -> Result<Made, Error> {
    let to = version(asked.to.as_deref().unwrap_or_default())?;
    let repository = fs::canonicalize(&asked.directory.repository)
        .map_err(|error| failed("open", &asked.directory.repository, error))?;
    refuse_inside(&repository, [tree].into_iter())?;
    let scratch = Scratch::create(&repository)?;
    let meter = Meter::new(output);
    let (vfs, new) = read_tree(tree, asked.identity, &meter)?;
    drop(meter);
    let options = Options {
        to: to.to_string(),
        architecture: asked.arch.clone(),
        notes: asked.notes.clone().unwrap_or_default(),
        level: asked.level.into(),
        signers,
        memory: memory(asked.max_memory),
        segment: None,
        progress: None,
    };
    let full = scratch.0.join("full.sf");
    let whole = make(None, (&new, &vfs), (&options, true), &full, output)?;
    let mut packages = vec![full];
    let mut before: Vec<Release> = publisher.releases()?;
    before.retain(|release| {
        release.kind == ReleaseKind::Full && release.architecture == asked.arch && release.version < to
    });
    before.sort_by_key(|release| std::cmp::Reverse(release.version));
    for (number, release) in before.iter().take(asked.patches_from as usize).enumerate() {
        let from = release.version.to_string();
        let name = blob_name(&release.path, &release.digest, publisher.root().consistent_snapshot);
        let place = scratch.0.join(format!("old-{number}"));
        let (old_vfs, old) = unpack(&repository.join(TARGETS_DIRECTORY).join(name), release, &place, output)?;
        let Ok(old) = old.under(new.policy()) else {
            output.message(format_args!("no patch from {from}: other metadata counts there"));
            continue;
        };
        let patch = scratch.0.join(format!("from-{number}.sf"));
        let report = make(Some((&from, &old, &old_vfs)), (&new, &vfs), (&options, true), &patch, output)?;
        if report.written.bytes < whole.written.bytes {
            packages.push(patch);
        } else {
            output.message(format_args!("no patch from {from}: it is not smaller than the full package"));
        }
    }
    Ok(Made { _scratch: scratch, packages })
}

/// The tree that a full package makes, and what it holds.
fn unpack(package: &Path, release: &Release, place: &Path, output: &Output) -> Result<(OsVfs, Manifest), Error> {
    let tree = place.join("tree");
    fs::create_dir_all(&tree).map_err(|error| failed("create", &tree, error))?;
    let package = Package::open(open_package(package)?)?.accept_unsigned()?;
    if package.id() != release.package {
        return Err(Error::new(Code::Digest, format!("{} is not what the repository says", release.path)));
    }
    let policy: Policy = package.promise().head().policy;
    let vfs = OsVfs::open_or_create_state(&tree, &place.join("state"))?;
    let empty = tree::scan(&vfs, &Walk { policy, state_inside: false }, &|_, _| ())?;
    let config = Config { owner: policy.owner, mtime: policy.mtime, keep: 0, ..Config::default() };
    let mut engine = Engine::init(vfs, config, "", Some(&empty))?;
    engine.apply(package, &PackageSettings::default(), &Meter::new(output))?;
    let untracked = || Error::new(Code::Internal, "a tree that was just made is not recorded");
    let manifest = engine.manifest()?.ok_or_else(untracked)?;
    Ok((OsVfs::open_tree(&tree)?, manifest))
}

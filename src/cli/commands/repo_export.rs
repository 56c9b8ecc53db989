//! `repo export-manifest`: the service manifest of what a repository offers.

use super::build::usage;
use crate::cli::files::{Draft, failed, read_secret, read_small};
use crate::cli::output::Output;
use crate::cli::repo_args::RepoExport;
use crate::error::{Code, Error};
use crate::fetch;
use crate::model::{Digest, FullPackageInfo, PatchPackageInfo, ServiceManifest};
use crate::publish::Publisher;
use crate::repository::{Release, ReleaseKind, TARGETS_DIRECTORY, blob_name};
use crate::vfs::OsVfs;
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::path::Path;

#[derive(Serialize)]
struct Exported {
    repository: String,
    manifest: String,
    version: String,
    packages: usize,
    patches: usize,
}

pub(super) fn run(asked: &RepoExport, output: &Output) -> Result<(), Error> {
    let key = asked.key.as_deref().map(read_secret).transpose()?;
    let publisher = Publisher::open(OsVfs::open_tree(&asked.directory.repository)?)?;
    let offered = |release: &Release| release.kind == ReleaseKind::Full && release.channels.contains(&asked.channel);
    let releases: Vec<Release> = publisher.releases()?.into_iter().filter(offered).collect();
    let newest = releases.iter().map(|release| release.version).max();
    let none = || Error::new(Code::NotPublished, format!("no full package is in the channel {}", asked.channel));
    let mut manifest = ServiceManifest::new(newest.ok_or_else(none)?);
    let mut packages = 0;
    for release in releases.iter().filter(|release| release.version == manifest.version) {
        let name = blob_name(&release.path, &release.digest, publisher.root().consistent_snapshot);
        let path = format!("{TARGETS_DIRECTORY}/{name}");
        let mut info = PatchPackageInfo::default();
        info.set_digest(release.digest);
        if let Some(key) = &key {
            // Ed25519 passes over the message twice, so all of it is needed.
            let file = asked.directory.repository.join(&path);
            let bytes = fs::read(&file).map_err(|error| failed("read", &file, error))?;
            // Whoever can write into the folder does not choose what the key of the services signs.
            if Digest::of(&bytes) != release.digest {
                let what = format!("{path} is not what the repository says: it is not signed");
                return Err(Error::new(Code::Digest, what));
            }
            info.set_signature(&key.sign(b"", &bytes).0);
        }
        let url = fetch::below(asked.url.as_deref().unwrap_or_default(), &path);
        let (hash, signature) = (info.hash, info.signature);
        let info = FullPackageInfo { url, hash, signature, size: Some(release.bytes) };
        match &release.architecture {
            None => manifest.packages.full = Some(info),
            Some(name) => _ = manifest.platforms.insert(name.clone(), info),
        }
        if !release.notes.is_empty() {
            manifest.release_notes = Some(release.notes.clone());
        }
        packages += 1;
    }
    for given in &asked.patch {
        let (architecture, path) = given.split_once('=').ok_or_else(|| usage("write it like x86_64=entry.json"))?;
        let info = PatchPackageInfo::from_json(&read_small(Path::new(path))?)?;
        info.operations.validate()?;
        if info.version.is_some_and(|version| version != manifest.version) {
            return Err(usage("the patch makes another version than the newest one of the repository"));
        }
        manifest.patch.insert(architecture.into(), info);
    }
    let mut draft = Draft::create(&asked.output)?;
    let text = manifest.to_json()?;
    draft.file()?.write_all(text.as_bytes()).map_err(|error| failed("write", &asked.output, error))?;
    draft.complete()?;
    let exported = Exported {
        repository: asked.directory.repository.display().to_string(),
        manifest: asked.output.display().to_string(),
        version: manifest.version.to_string(),
        packages,
        patches: manifest.patch.len(),
    };
    output.line(format_args!(
        "{}: version {}, {packages} full packages, {} patches",
        exported.manifest, exported.version, exported.patches
    ));
    output.result(&exported);
    Ok(())
}

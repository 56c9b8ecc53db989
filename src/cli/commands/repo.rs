//! `repo`: publishes packages in a repository.

use super::apply_entry::address;
use super::build::usage;
use super::{repo_export, repo_tree, version};
use crate::cli::files::{Draft, failed, open_package, read_secret, read_secrets, read_small};
use crate::cli::following::{self, now};
use crate::cli::output::{Output, bytes};
use crate::cli::repo_args::*;
use crate::cli::service;
use crate::error::{Code, Error};
use crate::fetch::{Carriers, Options};
use crate::limits;
use crate::model::Version;
use crate::publish::{
    Added, Lifetimes, NewRoles, PackageTerms, Publisher, RoleKeys, Rotated, Source, bundle, draft_first_root, mirror,
    verify_repository,
};
use crate::repository::{Clock, Key, Moment, OfflinePolicy, Release, ReleaseKind, Targets, role, sign};
use crate::trust::{PublicKey, SecretKey};
use crate::vfs::OsVfs;
use serde::Serialize;
use std::fs;
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

/// What a repository is after it was changed.
#[derive(Serialize)]
struct Published {
    repository: String,
    root: u64,
    targets: u64,
    timestamp: u64,
    expires: Moment,
    packages: usize,
}

/// One package of it.
#[derive(Serialize)]
struct Package<'a> {
    path: &'a str,
    /// `new`, `changed` or `known`.
    state: &'static str,
    version: String,
    from: Option<String>,
    architecture: &'a Option<String>,
    channels: &'a [String],
    bytes: u64,
    digest: String,
}

/// Something that other keys vouch for from now on.
#[derive(Serialize)]
struct Adopted<'a> {
    path: Option<&'a str>,
    role: Option<&'a str>,
    bytes: Option<u64>,
    digest: Option<String>,
}

#[derive(Serialize)]
struct Drafted {
    draft: String,
    version: u64,
    threshold: u64,
    signed_by: usize,
}

#[derive(Serialize)]
struct Verified {
    repository: String,
    root: u64,
    timestamp: u64,
    packages: usize,
    bytes: u64,
    expires: Moment,
}

#[derive(Serialize)]
struct Collected {
    repository: String,
    metadata: usize,
    packages: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Mirrored {
    repository: String,
    copy: String,
    copied: usize,
}

#[derive(Serialize)]
struct Bundled {
    repository: String,
    bundle: String,
    packages: usize,
    bytes: u64,
}

pub(super) fn run(asked: &Repo, output: &Output) -> Result<(), Error> {
    match &asked.what {
        RepoCommand::Init(asked) => init(asked, output),
        RepoCommand::Add(asked) => add(asked, output),
        RepoCommand::Remove(asked) => remove(asked, output),
        RepoCommand::Rotate(asked) => rotate(asked, output),
        RepoCommand::Expire(asked) => expire(asked, output),
        RepoCommand::Verify(asked) => verify(asked, output),
        RepoCommand::Gc(asked) => collect_garbage(asked, output),
        RepoCommand::Mirror(asked) => copy(asked, output),
        RepoCommand::Bundle(asked) => pack(asked, output),
        RepoCommand::ExportManifest(asked) => repo_export::run(asked, output),
    }
}

fn init(asked: &RepoInit, output: &Output) -> Result<(), Error> {
    let RoleKeyFiles { root_key, targets_key, online_key, root_threshold, targets_threshold } = &asked.keys;
    let mut ring = Ring::default();
    let of = |own: &[PathBuf], ring: &mut Ring| -> Result<Vec<PublicKey>, Error> {
        ring.read(if own.is_empty() { &asked.key } else { own })
    };
    let root = of(root_key, &mut ring)?;
    let targets = of(targets_key, &mut ring)?;
    let online = of(online_key, &mut ring)?;
    let now = now();
    let made = match &asked.offline.root_file {
        Some(path) => read_small(path)?.to_vec(),
        None => {
            let mut roles = NewRoles::new();
            let threshold = root_threshold.unwrap_or_else(|| majority(&root));
            roles.insert(role::ROOT, RoleKeys { keys: root, threshold });
            roles.insert(role::TARGETS, RoleKeys { keys: targets, threshold: *targets_threshold });
            for name in [role::SNAPSHOT, role::TIMESTAMP] {
                roles.insert(name, RoleKeys { keys: online.clone(), threshold: 1 });
            }
            let draft = draft_first_root(&roles, lifetimes(&asked.days), now)?;
            let ids = &draft.roles[role::ROOT].keyids;
            let signers: Vec<&SecretKey> =
                ring.secrets.iter().filter(|key| ids.contains(&Key::ed25519(&key.public()).id())).collect();
            let bytes = sign(&draft, &signers)?;
            if let Some(path) = &asked.offline.draft {
                return drafted(path, &bytes, (1, draft.roles[role::ROOT].threshold, signers.len()), output);
            }
            bytes
        }
    };
    let missing = !asked.repository.exists();
    fs::create_dir_all(&asked.repository).map_err(|error| failed("create", &asked.repository, error))?;
    let vfs = OsVfs::open_tree(&asked.repository)?;
    let publisher = Publisher::init(vfs, &made, &ring.signers(), now).inspect_err(|_| {
        if missing {
            // Only while it is empty.
            let _ = fs::remove_dir(&asked.repository);
        }
    })?;
    published(&asked.repository, &publisher, output);
    Ok(())
}

fn add(asked: &RepoAdd, output: &Output) -> Result<(), Error> {
    let keys = read_secrets(&asked.signing.key)?;
    let terms = PackageTerms {
        channels: asked.channel.clone(),
        minimum: asked.minimum.as_deref().map(version).transpose()?,
        downgrade_from: versions(&asked.downgrade_from)?,
    };
    let mut publisher = open_to_sign(&asked.directory, asked.signing.time)?;
    publisher.require_keys(&keys.iter().collect::<Vec<_>>(), now())?;
    let signers: Vec<&SecretKey> = keys.iter().collect();
    let built = asked.tree.as_deref().map(|tree| repo_tree::build(asked, tree, &publisher, &signers, output));
    let built = built.transpose()?;
    let mut changed = false;
    let mut told = Vec::new();
    for path in asked.packages.iter().chain(built.iter().flat_map(|built| &built.packages)) {
        let mut open = || -> Result<Box<dyn Read>, Error> { Ok(Box::new(open_package(path)?)) };
        let added = publisher.add(&mut open, &terms)?;
        changed |= !matches!(added, Added::Known(_));
        told.push(added);
    }
    if changed {
        publisher.commit(&keys.iter().collect::<Vec<_>>(), now())?;
    }
    for added in &told {
        let state = match added {
            Added::New(_) => "new",
            Added::Changed(_) => "changed",
            Added::Known(_) => "known",
        };
        tell(added.release(), state, output);
    }
    published(&asked.directory.repository, &publisher, output);
    Ok(())
}

fn remove(asked: &RepoRemove, output: &Output) -> Result<(), Error> {
    let keys = read_secrets(&asked.signing.key)?;
    let mut publisher = open_to_sign(&asked.directory, asked.signing.time)?;
    let gone = publisher.remove(&versions(&asked.versions)?)?;
    if gone.is_empty() {
        return Err(Error::new(Code::NotPublished, "none of these versions is in the repository"));
    }
    publisher.commit(&keys.iter().collect::<Vec<_>>(), now())?;
    gone.iter().for_each(|path| output.line(format_args!("removed {path}")));
    published(&asked.directory.repository, &publisher, output);
    Ok(())
}

fn rotate(asked: &RepoRotate, output: &Output) -> Result<(), Error> {
    let mut ring = Ring::default();
    ring.read(&asked.key)?;
    let RoleKeyFiles { root_key, targets_key, online_key, root_threshold, targets_threshold } = &asked.keys;
    let mut roles = NewRoles::new();
    if !root_key.is_empty() {
        let keys = ring.read(root_key)?;
        let threshold = root_threshold.unwrap_or_else(|| majority(&keys));
        roles.insert(role::ROOT, RoleKeys { keys, threshold });
    }
    if !targets_key.is_empty() {
        let keys = ring.read(targets_key)?;
        roles.insert(role::TARGETS, RoleKeys { keys, threshold: *targets_threshold });
    }
    if !online_key.is_empty() {
        let keys = ring.read(online_key)?;
        for name in [role::SNAPSHOT, role::TIMESTAMP] {
            roles.insert(name, RoleKeys { keys: keys.clone(), threshold: 1 });
        }
    }
    let now = now();
    let mut publisher = Publisher::open_to_rotate(OsVfs::open_tree(&asked.directory.repository)?)?;
    if asked.time.clock_is_right {
        publisher.believe_clock();
    }
    let root = match &asked.offline.root_file {
        Some(_) if !roles.is_empty() => return Err(usage("root metadata that is signed has its keys already")),
        Some(path) => read_small(path)?.to_vec(),
        None => {
            let draft = publisher.draft_root(&roles, now)?;
            let bytes = publisher.sign_root(&draft, &ring.signers())?;
            if let Some(path) = &asked.offline.draft {
                let signed = crate::repository::signers("root.json", &bytes)?.len();
                return drafted(path, &bytes, (draft.version, draft.roles[role::ROOT].threshold, signed), output);
            }
            bytes
        }
    };
    if asked.adopt {
        publisher.adopt();
    }
    let done = publisher.rotate(&root, &ring.signers(), now);
    let refused = done.as_ref().err().is_some_and(|error| error.code() == Code::Adoption);
    if let Some(targets) = publisher.adopted().filter(|_| refused || done.is_ok()) {
        tell_adopted(targets, refused, output);
    }
    if done? == Rotated::WithGap {
        output.message("the keys from before were not all there: devices that looked just now try again");
    }
    published(&asked.directory.repository, &publisher, output);
    Ok(())
}

/// Lists what keys have signed that are gone: packages, and roles that are delegated to.
fn tell_adopted(targets: &Targets, refused: bool, output: &Output) {
    let packages = targets.targets.iter().map(|(path, target)| Adopted {
        path: Some(path),
        role: None,
        bytes: Some(target.length),
        digest: target.digest().map(|digest| digest.to_string()),
    });
    let delegations = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    let roles = delegations.map(|role| Adopted { path: None, role: Some(&role.name), bytes: None, digest: None });
    let all: Vec<Adopted<'_>> = roles.chain(packages).collect();
    output.message(match refused {
        true => "published by the word of keys that do not sign again:",
        false => "signed by keys that are gone, and now by those that count:",
    });
    for (number, one) in all.iter().enumerate() {
        output.item("adopted", one);
        match (one.path, one.role) {
            _ if number >= limits::LISTED => {}
            (Some(path), _) => output.message(format_args!("  {path}")),
            (None, name) => output.message(format_args!("  whatever the role {} signs", name.unwrap_or_default())),
        }
    }
    if all.len() > limits::LISTED {
        output.message(format_args!("  and {} more; --json lists them all", all.len() - limits::LISTED));
    }
}

fn expire(asked: &RepoExpire, output: &Output) -> Result<(), Error> {
    let keys = read_secrets(&asked.signing.key)?;
    let mut publisher = open_to_sign(&asked.directory, asked.signing.time)?;
    let roles: &[&str] = if asked.targets { &[role::TARGETS] } else { &[] };
    publisher.renew(roles, &keys.iter().collect::<Vec<_>>(), now())?;
    published(&asked.directory.repository, &publisher, output);
    Ok(())
}

fn verify(asked: &RepoVerify, output: &Output) -> Result<(), Error> {
    let root = asked.trust.as_deref().map(read_small).transpose()?;
    let found =
        verify_repository(&OsVfs::open_tree(&asked.directory.repository)?, root.as_ref().map(|root| root.as_slice()))?;
    let (expires, first) = found.expires.first().copied().unwrap_or((Moment::FIRST, role::ROOT));
    if !found.problems.is_empty() {
        let what = format!("{} packages are not what they should be", found.problems.len());
        return Err(Error::new(Code::RepositoryBroken, what).listing(found.problems));
    }
    if let Some(signed) = found.signed_ahead(now()) {
        let what = format!("the timestamp says that it was signed at {signed}, which lies ahead");
        return Err(Error::new(Code::PublisherClock, what));
    }
    if expires <= now() {
        return Err(Error::new(Code::Expired, format!("the {first} metadata has expired at {expires}")));
    }
    output.line(format_args!("{} packages, {}, every byte verified", found.packages, bytes(found.bytes)));
    output.line(format_args!("the {first} metadata expires first, at {expires}"));
    output.result(&Verified {
        repository: asked.directory.repository.display().to_string(),
        root: found.root,
        timestamp: found.timestamp,
        packages: found.packages,
        bytes: found.bytes,
        expires,
    });
    Ok(())
}

fn collect_garbage(asked: &RepoGc, output: &Output) -> Result<(), Error> {
    let removed = open(&asked.directory.repository)?.collect_garbage(asked.keep)?;
    output.line(format_args!(
        "{} packages and {} metadata files removed, {}",
        removed.packages,
        removed.metadata,
        bytes(removed.bytes)
    ));
    output.result(&Collected {
        repository: asked.directory.repository.display().to_string(),
        metadata: removed.metadata,
        packages: removed.packages,
        bytes: removed.bytes,
    });
    Ok(())
}

fn copy(asked: &RepoMirror, output: &Output) -> Result<(), Error> {
    let root = asked.trust.as_deref().map(read_small).transpose()?;
    let carriers = service::carriers(&asked.web)?;
    let from = following::bundle(&asked.source)?;
    let missing = !asked.copy.exists();
    fs::create_dir_all(&asked.copy).map_err(|error| failed("create", &asked.copy, error))?;
    let copy = OsVfs::open_tree(&asked.copy)?;
    let root = root.as_ref().map(|root| root.as_slice());
    let options = service::options(&asked.web, None);
    let source = match &from {
        Some(bundle) => Source { address: "", carrier: bundle, options },
        None => Source { address: &asked.source, carrier: &carriers, options },
    };
    let copied = mirror(&source, copy, root, Clock::showing(now()), asked.offline_policy).inspect_err(|_| {
        if missing {
            // Only while nothing was copied.
            let _ = fs::remove_file(asked.copy.join(".lock")).and_then(|()| fs::remove_dir(&asked.copy));
        }
    })?;
    let name = crate::fetch::shown(&asked.source);
    output.line(format_args!("{copied} packages copied to {}", asked.copy.display()));
    output.result(&Mirrored { repository: name, copy: asked.copy.display().to_string(), copied });
    Ok(())
}

fn pack(asked: &RepoBundle, output: &Output) -> Result<(), Error> {
    let address = address(&asked.directory.repository)?;
    let carriers = Carriers::local();
    let source = Source { address: &address, carrier: &carriers, options: Options::default() };
    let mut draft = Draft::create(&asked.output)?;
    let mut out = BufWriter::with_capacity(limits::COPY_BUFFER, draft.file()?);
    let now = Clock::showing(now());
    let packages = bundle(&source, &versions(&asked.to)?, now, OfflinePolicy::Strict, &mut out)?;
    out.flush().map_err(|error| failed("write", &asked.output, error))?;
    drop(out);
    let size = draft.file()?.metadata().map_err(|error| failed("read", &asked.output, error))?.len();
    draft.complete()?;
    let name = asked.output.display().to_string();
    output.line(format_args!("{name}: {packages} packages, {}", bytes(size)));
    let repository = asked.directory.repository.display().to_string();
    output.result(&Bundled { repository, bundle: name, packages, bytes: size });
    Ok(())
}

fn open(path: &Path) -> Result<Publisher<OsVfs>, Error> {
    Publisher::open(OsVfs::open_tree(path)?)
}

fn open_to_sign(directory: &Directory, time: SigningTime) -> Result<Publisher<OsVfs>, Error> {
    let mut publisher = open(&directory.repository)?;
    if time.clock_is_right {
        publisher.believe_clock();
    }
    Ok(publisher)
}

fn versions(texts: &[String]) -> Result<Vec<Version>, Error> {
    texts.iter().map(|text| version(text)).collect()
}

fn majority(keys: &[PublicKey]) -> u64 {
    keys.len() as u64 / 2 + 1
}

fn lifetimes(given: &[(RoleName, u32)]) -> Lifetimes {
    let mut lifetimes = Lifetimes::default();
    for (role, days) in given {
        match role {
            RoleName::Root => lifetimes.root = *days,
            RoleName::Targets => lifetimes.targets = *days,
            RoleName::Snapshot => lifetimes.snapshot = *days,
            RoleName::Timestamp => lifetimes.timestamp = *days,
        }
    }
    lifetimes
}

/// The keys that were given, secret or public.
#[derive(Default)]
struct Ring {
    secrets: Vec<SecretKey>,
}

impl Ring {
    /// Reads key files; the secret ones will sign.
    fn read(&mut self, files: &[PathBuf]) -> Result<Vec<PublicKey>, Error> {
        let mut keys = Vec::new();
        for path in files {
            let text = read_small(path)?;
            if String::from_utf8_lossy(&text).contains("PRIVATE KEY") {
                let secret = read_secret(path)?;
                keys.push(secret.public());
                self.secrets.push(secret);
            } else {
                let mut ring = crate::trust::Keyring::new();
                crate::cli::files::add_trusted(&mut ring, std::slice::from_ref(path))?;
                keys.extend(ring.keys().cloned());
            }
        }
        Ok(keys)
    }

    fn signers(&self) -> Vec<&SecretKey> {
        self.secrets.iter().collect()
    }
}

fn drafted(
    path: &Path,
    bytes: &[u8],
    (version, threshold, signed_by): (u64, u64, usize),
    output: &Output,
) -> Result<(), Error> {
    let mut draft = Draft::create(path)?;
    draft.file()?.write_all(bytes).map_err(|error| failed("write", path, error))?;
    draft.complete()?;
    output.line(format_args!(
        "{} is root metadata of version {version}, signed by {signed_by} keys; it needs {threshold} of its own{}",
        path.display(),
        if version > 1 { ", and as many of the root before as that asks" } else { "" }
    ));
    output.result(&Drafted { draft: path.display().to_string(), version, threshold, signed_by });
    Ok(())
}

fn tell(release: &Release, state: &'static str, output: &Output) {
    let from = match &release.kind {
        ReleaseKind::Full => None,
        ReleaseKind::Patch(base) => Some(base.version.to_string()),
    };
    output.line(format_args!("{state:<8}{}  {}", release.path, bytes(release.bytes)));
    output.item(
        "release",
        &Package {
            path: &release.path,
            state,
            version: release.version.to_string(),
            from,
            architecture: &release.architecture,
            channels: &release.channels,
            bytes: release.bytes,
            digest: release.digest.to_string(),
        },
    );
}

fn published(path: &Path, publisher: &Publisher<OsVfs>, output: &Output) {
    let published = Published {
        repository: path.display().to_string(),
        root: publisher.root().version,
        targets: publisher.targets().version,
        timestamp: publisher.timestamp().version,
        expires: publisher.timestamp().expires,
        packages: publisher.targets().targets.len(),
    };
    output.line(format_args!(
        "{}: {} packages, root {}, timestamp {}, valid until {}",
        published.repository, published.packages, published.root, published.timestamp, published.expires
    ));
    output.result(&published);
}

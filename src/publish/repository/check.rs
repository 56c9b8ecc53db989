//! A repository as a whole: is it what it should be, and what does nobody need any more.

use super::look::{interrupted, look_behind, root_chain};
use super::{Publisher, metadata_place, place, read};
use crate::error::{Code, Error, Finding};
use crate::limits;
use crate::model::{Difference, TreePath};
use crate::repository::{
    Client, METADATA_DIRECTORY, Moment, Root, Signed, Stored, TARGETS_DIRECTORY, Target, Targets, Timestamp, blob_name,
    metadata_name, role, stored_role,
};
use crate::tree::hash_file;
use crate::vfs::{FileType, Place, Vfs};
use std::collections::{BTreeMap, BTreeSet};

/// What a repository is, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Version of the root metadata.
    pub root: u64,
    /// Version of the timestamp metadata.
    pub timestamp: u64,
    /// Number of packages.
    pub packages: usize,
    /// Bytes of all packages.
    pub bytes: u64,
    /// When metadata of the roles at the top expires, the first one first.
    pub expires: Vec<(Moment, &'static str)>,
    /// When the timestamp was signed, if it says so.
    pub signed: Option<Moment>,
    /// Packages that are not there, or not what they should be.
    pub problems: Vec<Finding>,
}

impl Findings {
    /// The moment at which the timestamp was signed, if that is ahead of the present by more than clocks differ, or the
    /// root had expired by then: devices that believe it take no earlier time for the present.
    pub fn signed_ahead(&self, now: Moment) -> Option<Moment> {
        let root = self.expires.iter().find(|(_, name)| *name == role::ROOT).map(|(expires, _)| *expires);
        let ahead = |signed: &Moment| {
            *signed > now.plus_days(limits::CLOCK_SKEW_DAYS) || root.is_some_and(|expires| *signed >= expires)
        };
        self.signed.filter(ahead)
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files of metadata.
    pub metadata: usize,
    /// Packages.
    pub packages: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// Verifies a repository from this root metadata on, from its own first one without any, and every byte of its
/// packages. Takes no lock and changes nothing.
pub fn verify_repository<V: Vfs>(vfs: &V, root: Option<&[u8]>) -> Result<Findings, Error> {
    let root = first_root(vfs, root)?;
    let (client, newest) = look_behind(vfs, &root)?;
    if client.root().is_some_and(|root| root.version != newest.version) {
        return Err(interrupted(newest.version));
    }
    let mut expires = Vec::new();
    expires.extend(client.root().map(|root| (root.expires, role::ROOT)));
    expires.extend(client.targets().map(|targets| (targets.expires, role::TARGETS)));
    expires.extend(client.snapshot().map(|snapshot| (snapshot.expires, role::SNAPSHOT)));
    expires.extend(client.timestamp().map(|timestamp| (timestamp.expires, role::TIMESTAMP)));
    expires.sort();
    let mut problems: Vec<Finding> = Vec::new();
    let (mut packages, mut bytes) = (0, 0);
    for (path, target) in all_targets(&client) {
        packages += 1;
        bytes += target.length;
        let at = blob_place(&path, &target)?;
        let difference = match vfs.stat(&at)?.filter(|stat| stat.kind == FileType::File) {
            None => Difference::Missing,
            Some(stat) if stat.size != target.length => Difference::Content,
            Some(_) if Some(hash_file(vfs, &at)?.1) != target.digest() => Difference::Content,
            Some(_) => continue,
        };
        problems.push(Finding { path: at.path, difference });
    }
    let signed = client.timestamp().and_then(|timestamp| timestamp.signed_at);
    let root = client.root().map_or(0, |root| root.version);
    let timestamp = client.timestamp().map_or(0, |timestamp| timestamp.version);
    Ok(Findings { root, timestamp, packages, bytes, expires, signed, problems })
}

impl<V: Vfs> Publisher<V> {
    /// Removes what nothing leads to any more: packages that neither the newest targets nor so many earlier versions of
    /// them name, and metadata older than these. Root metadata stays for ever.
    ///
    /// A device in the middle of a look or a download may need what the last timestamps led to.
    pub fn collect_garbage(&mut self, keep: u32) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        let mut needed: BTreeSet<TreePath> = BTreeSet::new();
        let mut need = |targets: &Targets| -> Result<(), Error> {
            for (path, target) in &targets.targets {
                needed.insert(blob_place(path, target)?.path);
            }
            Ok(())
        };
        need(&self.targets)?;
        for (name, at) in files(&self.vfs, &place(METADATA_DIRECTORY)?)? {
            let parts = name.split_once('.').and_then(|(number, rest)| Some((number.parse::<u64>().ok()?, rest)));
            let old = match parts {
                Some((_, "root.json")) => false,
                Some((version, "snapshot.json")) => version + u64::from(keep) < self.snapshot.version,
                Some((version, rest)) => {
                    let role = stored_role(rest);
                    let info = role.and_then(|role| self.snapshot.info(&role));
                    let current = info.map_or(u64::MAX, |info| info.version);
                    let old = version.saturating_add(keep.into()) < current;
                    if !old && let Some(bytes) = read(&self.vfs, &at, limits::TARGETS_BYTES)? {
                        // What a publisher that was killed has left may be anything.
                        if let Ok(targets) = Signed::<Targets>::parse(&name, &bytes) {
                            need(&targets.body)?;
                        }
                    }
                    old
                }
                None => name == ".new",
            };
            if old {
                removed.bytes += self.remove_file(&at)?;
                removed.metadata += 1;
            }
        }
        self.collect_below(&place(TARGETS_DIRECTORY)?, &needed, &mut removed)?;
        self.vfs.sync_all()?;
        Ok(removed)
    }

    fn collect_below(&self, at: &Place, needed: &BTreeSet<TreePath>, removed: &mut Removed) -> Result<bool, Error> {
        let mut empty = true;
        for (_, at) in entries(&self.vfs, at)? {
            match self.vfs.stat(&at)?.map(|stat| stat.kind) {
                Some(FileType::Directory) if self.collect_below(&at, needed, removed)? => self.vfs.remove_dir(&at)?,
                Some(FileType::File) if !needed.contains(&at.path) => {
                    removed.bytes += self.remove_file(&at)?;
                    removed.packages += 1;
                }
                None => {}
                Some(_) => empty = false,
            }
        }
        Ok(empty)
    }

    fn remove_file(&self, at: &Place) -> Result<u64, Error> {
        let size = self.vfs.stat(at)?.map_or(0, |stat| stat.size);
        self.vfs.remove_file(at)?;
        Ok(size)
    }
}

/// What a copy holds already.
pub(super) struct Known {
    /// Its roots, by their versions.
    pub(super) roots: BTreeMap<u64, Vec<u8>>,
    /// The newest root, and the timestamp and snapshot that were believed last, as a device would keep them: whatever a
    /// mirror that was interrupted has left, a look goes on from there.
    pub(super) stored: Stored,
}

impl Known {
    /// Nothing if there is no whole copy yet.
    pub(super) fn read<V: Vfs>(copy: &V) -> Result<Option<Self>, Error> {
        let name = metadata_name(role::TIMESTAMP, None);
        let Some(timestamp) = read(copy, &metadata_place(&name)?, limits::TIMESTAMP_BYTES)? else { return Ok(None) };
        let roots = root_chain(copy, &first_root(copy, None)?)?;
        let believed = Signed::<Timestamp>::parse(&name, &timestamp)?.body;
        let snapshot = metadata_name(role::SNAPSHOT, believed.snapshot().map(|info| info.version));
        let snapshot = read(copy, &metadata_place(&snapshot)?, limits::SNAPSHOT_BYTES)?;
        let mut stored = BTreeMap::from([(role::TIMESTAMP.to_owned(), timestamp)]);
        stored.extend(snapshot.map(|bytes| (role::SNAPSHOT.to_owned(), bytes)));
        stored.extend(roots.values().next_back().map(|bytes| (role::ROOT.to_owned(), bytes.clone())));
        Ok(Some(Self { roots, stored: Stored(stored) }))
    }
}

pub(super) fn first_root<V: Vfs>(vfs: &V, given: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    if let Some(root) = given {
        Signed::<Root>::parse("the root metadata that was given", root)?;
        return Ok(root.to_vec());
    }
    let first = metadata_name(role::ROOT, Some(1));
    let root = read(vfs, &metadata_place(&first)?, limits::ROOT_BYTES)?;
    root.ok_or_else(|| Error::new(Code::NoRepository, format!("there is no {first}: this is no repository")))
}

/// Every target of every role, by its path.
pub(super) fn all_targets(client: &Client) -> BTreeMap<String, Target> {
    client.all_targets().map(|(path, target)| (path.to_owned(), target.clone())).collect()
}

pub(super) fn blob_place(path: &str, target: &Target) -> Result<Place, Error> {
    let digest = target.digest().ok_or_else(|| Error::new(Code::BadMetadata, format!("{path} has no SHA-256")))?;
    Ok(place(&format!("{TARGETS_DIRECTORY}/{}", blob_name(path, &digest, true)))?)
}

/// The entries of a directory: names that are no text are none of ours.
fn entries<V: Vfs>(vfs: &V, at: &Place) -> Result<Vec<(String, Place)>, Error> {
    let mut out = Vec::new();
    if vfs.stat(at)?.is_none() {
        return Ok(out);
    }
    for name in vfs.list(at)? {
        if let Ok(text) = String::from_utf8(name.to_vec()) {
            out.push((text, Place { root: at.root, path: at.path.join(&name)? }));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

pub(super) fn files<V: Vfs>(vfs: &V, at: &Place) -> Result<Vec<(String, Place)>, Error> {
    let mut out = entries(vfs, at)?;
    let mut failed = None;
    out.retain(|(_, at)| match vfs.stat(at) {
        Ok(stat) => stat.is_some_and(|stat| stat.kind == FileType::File),
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(out), |error| Err(error.into()))
}

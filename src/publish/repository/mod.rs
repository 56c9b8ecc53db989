//! `Publisher`: a repository as a directory that any web server can serve.
//!
//! Every file but one has its version or digest in its name and is never changed. The one is `metadata/timestamp.json`:
//! it is replaced last and as a whole, when everything that it leads to is durable, so whoever reads sees the old
//! repository or the new one, wherever the publisher is killed. A kernel lock keeps two publishers apart.

mod check;
mod copy;
mod look;
mod package;
mod rotate;

pub use check::{Findings, Removed, verify_repository};
pub use copy::{Source, bundle, mirror};
pub use package::{Added, PackageTerms, read_release};
pub use rotate::{NewRoles, RoleKeys, Rotated, draft_first_root};

use look::{interrupted, look_behind};

use crate::error::{Code, Error};
use crate::limits;
use crate::model::{PathError, TreePath};
use crate::repository::{
    Body, FileInfo, Key, METADATA_DIRECTORY, Moment, Role, Root, SPEC_VERSION, Signed, Snapshot, Targets, Timestamp,
    metadata_name, role, sign,
};
use crate::trust::SecretKey;
use crate::vfs::{Access, FileType, Place, Rename, RootId, Vfs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The member of root metadata that says for how many days a role's metadata is valid when it is signed.
const DAYS: &str = "x-surefoot-days";

/// For how many days metadata is valid when it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of root metadata.
    pub root: u32,
    /// Of targets metadata.
    pub targets: u32,
    /// Of snapshot metadata.
    pub snapshot: u32,
    /// Of timestamp metadata.
    pub timestamp: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { root: 730, targets: 365, snapshot: 90, timestamp: 30 }
    }
}

/// A repository that is being changed, and the lock on it.
pub struct Publisher<V: Vfs> {
    vfs: V,
    root: Root,
    targets: Targets,
    snapshot: Snapshot,
    timestamp: Timestamp,
    /// The targets metadata is to be signed anew.
    changed: bool,
    /// The newest root is there, and the rest is signed as an older one asks: a rotation was interrupted.
    unfinished: bool,
    /// Whose signatures the timestamp has that is there.
    stamped_by: Option<Role>,
    /// The clock is right, whatever was signed before.
    clock_is_right: bool,
    /// What is there is vouched for although the keys from before do not sign it again.
    adopts: bool,
    /// The last rotation has done so, or was refused for it, or has taken away keys that have signed it.
    adopted: bool,
    _lock: V::Lock,
}

impl<V: Vfs> std::fmt::Debug for Publisher<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

impl<V: Vfs> Publisher<V> {
    /// Makes a repository without packages in an empty directory. `root` is the bytes of its first root metadata,
    /// signed as that asks.
    pub fn init(vfs: V, root: &[u8], keys: &[&SecretKey], now: Moment) -> Result<Self, Error> {
        let exists = || Error::new(Code::RepositoryExists, "there is a repository already");
        let timestamp = metadata_place(&metadata_name(role::TIMESTAMP, None))?;
        if vfs.stat(&timestamp)?.is_some() {
            return Err(exists());
        }
        let name = metadata_name(role::ROOT, Some(1));
        let signed: Signed<Root> = Signed::parse(&name, root)?;
        let body = signed.body.clone();
        check_clock(&body, None, now)?;
        signed.verify(&body.keys, top_role(&body, role::ROOT)?)?;
        if body.version != 1 || !body.consistent_snapshot {
            return Err(Error::new(Code::BadMetadata, "the first root has version 1 and consistent snapshots"));
        }
        let head = |name: &str| {
            let expires = now.plus_days(days(&body, name));
            json!({"_type": name, "spec_version": SPEC_VERSION, "version": 0, "expires": expires})
        };
        let targets: Targets = template(head(role::TARGETS), "targets")?;
        let snapshot: Snapshot = template(head(role::SNAPSHOT), "meta")?;
        let timestamp_body: Timestamp = template(head(role::TIMESTAMP), "meta")?;
        let chain = Chain::after((&targets, &snapshot, &timestamp_body), true, &[&body], keys, now)?;
        chain.check(&body)?;
        // Nothing was touched so far.
        let lock = lock(&vfs)?;
        if vfs.stat(&timestamp)?.is_some() {
            return Err(exists());
        }
        let mut publisher = Self {
            vfs,
            root: body,
            targets,
            snapshot,
            timestamp: timestamp_body,
            changed: true,
            unfinished: false,
            stamped_by: None,
            clock_is_right: false,
            adopts: false,
            adopted: false,
            _lock: lock,
        };
        publisher.stamped_by = publisher.root.role(role::TIMESTAMP).cloned();
        for directory in [METADATA_DIRECTORY, crate::repository::TARGETS_DIRECTORY] {
            publisher.ensure_directories(&place(directory)?)?;
        }
        publisher.write_metadata(&name, root)?;
        publisher.publish(chain, None)?;
        Ok(publisher)
    }

    /// Takes the lock and reads what is published. Everything is verified, as a device would; that something has
    /// expired does not matter to who renews it.
    pub fn open(vfs: V) -> Result<Self, Error> {
        let publisher = Self::open_to_rotate(vfs)?;
        if publisher.unfinished {
            return Err(interrupted(publisher.root.version));
        }
        Ok(publisher)
    }

    /// As [`Publisher::open`], and also where a rotation without the keys from before was interrupted after its root
    /// was in place: the rest is read as the last root asks that it is signed for. Only [`Publisher::rotate`] goes on
    /// from there, since whoever rotates has the root keys at hand; nobody else signs what only older keys vouch for.
    pub fn open_to_rotate(vfs: V) -> Result<Self, Error> {
        let first = metadata_name(role::ROOT, Some(1));
        if vfs.stat(&metadata_place(&metadata_name(role::TIMESTAMP, None))?)?.is_none() {
            return Err(Error::new(Code::NoRepository, "there is no repository, or its init was interrupted"));
        }
        let lock = lock(&vfs)?;
        let root = read(&vfs, &metadata_place(&first)?, limits::ROOT_BYTES)?;
        let root =
            root.ok_or_else(|| Error::new(Code::RepositoryMissing, format!("{first} is not in the repository")))?;
        let (client, newest) = look_behind(&vfs, &root)?;
        let missing = || Error::new(Code::Internal, "a look that is complete lacks metadata");
        let signed_for = client.root().ok_or_else(missing)?;
        Ok(Self {
            targets: client.targets().ok_or_else(missing)?.clone(),
            snapshot: client.snapshot().ok_or_else(missing)?.clone(),
            timestamp: client.timestamp().ok_or_else(missing)?.clone(),
            vfs,
            changed: signed_for.role(role::TARGETS) != newest.role(role::TARGETS),
            unfinished: signed_for.version != newest.version,
            stamped_by: signed_for.role(role::TIMESTAMP).cloned(),
            clock_is_right: false,
            adopts: false,
            adopted: false,
            root: newest,
            _lock: lock,
        })
    }

    /// The root metadata.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The targets metadata, with what was changed and is not published yet.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The timestamp metadata.
    pub fn timestamp(&self) -> &Timestamp {
        &self.timestamp
    }

    /// Signs whatever the clock shows: without it, nothing is signed long before the last timestamp, which was made with
    /// another clock then, or when the root has expired, after which no device believes it.
    pub fn believe_clock(&mut self) {
        self.clock_is_right = true;
    }

    /// Asks whether these keys are enough to publish changed targets, before anything is done for it.
    pub fn require_keys(&self, keys: &[&SecretKey], now: Moment) -> Result<(), Error> {
        self.chain_after(true, &[&self.root], keys, now)?.check(&self.root)
    }

    /// Signs and publishes what was changed. When this returns it is durable.
    pub fn commit(&mut self, keys: &[&SecretKey], now: Moment) -> Result<(), Error> {
        let chain = self.next_chain(&[&self.root], keys, now)?;
        chain.check(&self.root)?;
        self.publish(chain, None)
    }

    /// Lets the metadata be valid for its time again from now on: that of these roles; of the others it stays.
    pub fn renew(&mut self, roles: &[&str], keys: &[&SecretKey], now: Moment) -> Result<(), Error> {
        self.changed |= roles.contains(&role::TARGETS);
        self.commit(keys, now)
    }

    /// What is published next, signed by those of these keys that count for it under one of these roots.
    fn next_chain(&self, roots: &[&Root], keys: &[&SecretKey], now: Moment) -> Result<Chain, Error> {
        self.chain_after(self.changed, roots, keys, now)
    }

    fn chain_after(&self, changed: bool, roots: &[&Root], keys: &[&SecretKey], now: Moment) -> Result<Chain, Error> {
        if let (Some(root), false) = (roots.last(), self.clock_is_right) {
            // With the keys of the timestamp devices forget when it was signed.
            let same = root.role(role::TIMESTAMP) == self.stamped_by.as_ref();
            check_clock(root, self.timestamp.signed_at.filter(|_| same), now)?;
        }
        Chain::after((&self.targets, &self.snapshot, &self.timestamp), changed, roots, keys, now)
    }

    /// Writes everything that the timestamp leads to, then the root that it is signed for if that is not there yet,
    /// then the timestamp: nothing but these two is ever between the old repository and the new one.
    fn publish(&mut self, chain: Chain, root: Option<(&str, &[u8])>) -> Result<(), Error> {
        let Some(((name, timestamp), before)) = chain.files.split_last().map(|(last, rest)| (last.clone(), rest))
        else {
            return Ok(());
        };
        for (name, bytes) in before {
            self.write_metadata(name, bytes)?;
        }
        // Packages, folders and metadata: durable before anything leads to them.
        self.vfs.sync_all()?;
        if let Some((name, bytes)) = root {
            self.replace(name, bytes)?;
        }
        self.replace(&name, &timestamp)?;
        (self.targets, self.snapshot, self.timestamp) = (chain.targets, chain.snapshot, chain.timestamp);
        self.changed = false;
        Ok(())
    }

    fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.write(&metadata_place(name)?, &mut from_memory(bytes))
    }

    /// Writes a file that readers look for: durable, and there as a whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let at = metadata_place(name)?;
        let new = self.prepare(&at, &mut from_memory(bytes))?;
        // Its name too must be durable before the rename is: else only the rename might survive, and nothing, or what
        // had this name before, would be there.
        self.vfs.sync_all()?;
        self.vfs.rename(&new, &at, Rename::Replace)?;
        Ok(self.vfs.sync_all()?)
    }

    /// Writes a file that nothing leads to yet; not durable before the next barrier.
    fn write(&self, at: &Place, content: &mut Content<'_>) -> Result<(), Error> {
        let new = self.prepare(at, content)?;
        Ok(self.vfs.rename(&new, at, Rename::Replace)?)
    }

    /// Writes a file beside its place.
    fn prepare(&self, at: &Place, content: &mut Content<'_>) -> Result<Place, Error> {
        let directory = at.path.parent().unwrap_or_else(TreePath::root);
        let new = Place { root: at.root, path: directory.join(".new")? };
        if self.vfs.stat(&new)?.is_some() {
            self.vfs.remove_file(&new)?;
        }
        let file = self.vfs.create(&new)?;
        let (mut offset, mut buffer) = (0, vec![0; limits::COPY_BUFFER]);
        loop {
            let length = content(offset, &mut buffer)?;
            if length == 0 {
                break;
            }
            self.vfs.write_at(&file, offset, &buffer[..length])?;
            offset += length as u64;
        }
        // A web server of another user reads it.
        self.vfs.set_mode(&new, 0o644)?;
        self.vfs.sync_file(&file)?;
        Ok(new)
    }

    fn ensure_directories(&self, at: &Place) -> Result<(), Error> {
        if at.path.is_root() || self.vfs.stat(at)?.is_some() {
            return Ok(());
        }
        if let Some(parent) = at.path.parent() {
            self.ensure_directories(&Place { root: at.root, path: parent })?;
        }
        self.vfs.mkdir(at)?;
        self.vfs.set_mode(at, 0o755)?;
        Ok(())
    }
}

/// Gives the bytes at an offset, none at the end.
type Content<'a> = dyn FnMut(u64, &mut [u8]) -> Result<usize, Error> + 'a;

fn from_memory(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> Result<usize, Error> + '_ {
    move |offset, buffer| {
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// What is published next.
struct Chain {
    targets: Targets,
    snapshot: Snapshot,
    timestamp: Timestamp,
    /// In the order in which it is written.
    files: Vec<(String, Vec<u8>)>,
}

impl Chain {
    /// The next versions of targets (if it was changed), snapshot and timestamp; how long they are valid, the last of
    /// the roots says.
    fn after(
        (targets, snapshot, timestamp): (&Targets, &Snapshot, &Timestamp),
        changed: bool,
        roots: &[&Root],
        keys: &[&SecretKey],
        now: Moment,
    ) -> Result<Self, Error> {
        let (targets, snapshot, timestamp) = (targets.clone(), snapshot.clone(), timestamp.clone());
        let mut next = Self { targets, snapshot, timestamp, files: Vec::new() };
        let until = |name| now.plus_days(roots.last().map_or(0, |root| days(root, name)));
        if changed {
            next.targets.version = following(next.targets.version)?;
            next.targets.expires = until(role::TARGETS);
            let bytes = sign_for(&next.targets, roots, keys)?;
            let info = FileInfo::of(next.targets.version, &bytes);
            next.snapshot.meta.insert(metadata_name(role::TARGETS, None), info);
            next.files.push((metadata_name(role::TARGETS, Some(next.targets.version)), bytes));
        }
        next.snapshot.version = following(next.snapshot.version)?;
        next.snapshot.expires = until(role::SNAPSHOT);
        let bytes = sign_for(&next.snapshot, roots, keys)?;
        let info = FileInfo::of(next.snapshot.version, &bytes);
        next.timestamp.meta = BTreeMap::from([(metadata_name(role::SNAPSHOT, None), info)]);
        next.files.push((metadata_name(role::SNAPSHOT, Some(next.snapshot.version)), bytes));
        next.timestamp.version = following(next.timestamp.version)?;
        next.timestamp.expires = until(role::TIMESTAMP);
        next.timestamp.signed_at = Some(now);
        let bytes = sign_for(&next.timestamp, roots, keys)?;
        next.files.push((metadata_name(role::TIMESTAMP, None), bytes));
        Ok(next)
    }

    /// Is everything signed as this root asks? Asked before anything is written.
    fn check(&self, root: &Root) -> Result<(), Error> {
        for (name, bytes) in &self.files {
            match name.rsplit('.').nth(1) {
                Some(role::TARGETS) => check::<Targets>(name, bytes, root)?,
                Some(role::SNAPSHOT) => check::<Snapshot>(name, bytes, root)?,
                _ => check::<Timestamp>(name, bytes, root)?,
            }
        }
        Ok(())
    }
}

/// Does the clock fit to the root, and to when the last timestamp was signed?
fn check_clock(root: &Root, last: Option<Moment>, now: Moment) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(Code::PublisherClock, format!("the clock shows {now}, but {why}")));
    match last {
        _ if now >= root.expires => refuse(format!("root {} has expired at {}", root.version, root.expires)),
        Some(last) if now.plus_days(limits::CLOCK_SKEW_DAYS) < last => {
            refuse(format!("the last timestamp was signed at {last}"))
        }
        _ => Ok(()),
    }
}

fn check<T: Body>(name: &str, bytes: &[u8], root: &Root) -> Result<(), Error> {
    let signed: Signed<T> = Signed::parse(name, bytes)?;
    signed.verify(&root.keys, top_role(root, T::TYPE)?).map_err(|error| {
        let what = format!("the keys that were given are not enough to sign {}", T::TYPE);
        Error::new(Code::Threshold, what).because(error)
    })
}

/// Signs with those of the keys that count for it under one of the roots.
fn sign_for<T: Body>(body: &T, roots: &[&Root], keys: &[&SecretKey]) -> Result<Vec<u8>, Error> {
    let counts = |key: &SecretKey| {
        let id = Key::ed25519(&key.public()).id();
        roots.iter().any(|root| root.role(T::TYPE).is_some_and(|role| role.keyids.contains(&id)))
    };
    let keys: Vec<&SecretKey> = keys.iter().copied().filter(|key| counts(key)).collect();
    Ok(sign(body, &keys)?)
}

/// A file of at most so many bytes, and one more if it is longer; nothing if there is none.
fn read<V: Vfs>(vfs: &V, at: &Place, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(stat) = vfs.stat(at)?.filter(|stat| stat.kind == FileType::File) else { return Ok(None) };
    let file = vfs.open(at, Access::Read)?;
    let size = usize::try_from(stat.size.min(most + 1)).unwrap_or(usize::MAX);
    let (mut bytes, mut done) = (vec![0; size], 0);
    while done < size {
        match vfs.read_at(&file, done as u64, &mut bytes[done..])? {
            0 => break,
            length => done += length,
        }
    }
    bytes.truncate(done);
    Ok(Some(bytes))
}

fn lock<V: Vfs>(vfs: &V) -> Result<V::Lock, Error> {
    let held = || Error::new(Code::Locked, "another process changes the repository");
    vfs.lock(&place(".lock")?)?.ok_or_else(held)
}

fn template<T: serde::de::DeserializeOwned>(mut head: Value, member: &str) -> Result<T, Error> {
    head[member] = json!({});
    serde_json::from_value(head).map_err(|error| Error::new(Code::Internal, "metadata without content").because(error))
}

/// For how many days metadata of a role is valid, as the root says.
fn days(root: &Root, name: &str) -> u32 {
    let usual = Lifetimes::default();
    let usual = match name {
        role::ROOT => usual.root,
        role::TARGETS => usual.targets,
        role::SNAPSHOT => usual.snapshot,
        _ => usual.timestamp,
    };
    let said = root.more.get(DAYS).and_then(|days| days.get(name)).and_then(Value::as_u64);
    said.and_then(|days| u32::try_from(days).ok()).unwrap_or(usual)
}

fn following(version: u64) -> Result<u64, Error> {
    version.checked_add(1).ok_or_else(|| Error::new(Code::Limit, "there is no version after this one"))
}

fn top_role<'a>(root: &'a Root, name: &str) -> Result<&'a Role, Error> {
    root.role(name).ok_or_else(|| Error::new(Code::BadMetadata, format!("the root has no role {name}")))
}

fn place(path: &str) -> Result<Place, PathError> {
    Ok(Place { root: RootId::TREE, path: TreePath::parse(path)? })
}

fn metadata_place(name: &str) -> Result<Place, PathError> {
    place(&format!("{METADATA_DIRECTORY}/{name}"))
}

//! The state directory: generations, manifests, configuration, and small files written so that no crash shows.

use super::layout::{self, Id};
use crate::codec::{self, v1};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Manifest, ManifestChange, Policy};
use crate::vfs::{Access, FileType, IoError, Place, Vfs};
use serde::{Deserialize, Serialize};

/// What a tree trusts and keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Format of the state directory.
    pub format: u32,
    /// How many updates can be taken back after they were confirmed.
    pub keep: u32,
    /// Owner and group are part of the identity of the tree.
    pub owner: bool,
    /// Modification times are part of the identity of the tree.
    pub mtime: bool,
    /// Public keys that packages must be signed by, one of them, as SPKI PEM.
    pub keys: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: 1, keep: 1, owner: false, mtime: false, keys: Vec::new() }
    }
}

/// One state that the tree is or was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its identity.
    pub id: [u8; 16],
    /// The one before.
    pub parent: Option<[u8; 16]>,
    /// Its version; empty if it has none.
    pub version: String,
    /// Digest of its tree; nothing if its content is not recorded.
    pub digest: Option<Digest>,
    /// The manifest files that give its manifest.
    pub(super) manifests: Vec<Id>,
    /// What counts as identity.
    pub policy: Policy,
    /// Seconds since 1970, for people.
    pub time: i64,
    /// What made it, for people.
    pub title: String,
}

impl Config {
    /// What counts as identity.
    pub fn policy(&self) -> Policy {
        Policy { owner: self.owner, mtime: self.mtime }
    }

    pub(super) fn read<V: Vfs>(vfs: &V) -> Result<Self, Error> {
        let at = layout::config();
        let bytes = read_file(vfs, &at, limits::SMALL_FILE)?;
        serde_json::from_slice::<Self>(&bytes)
            .ok()
            .filter(|config| config.format == 1 && config.keep <= limits::KEEP)
            .ok_or_else(|| Error::new(Code::Format, format!("{at} is not a configuration of format 1")))
    }

    /// Writes it where there is none. Durable after the next sync of everything.
    pub(super) fn create<V: Vfs>(&self, vfs: &V) -> Result<(), Error> {
        write_file(vfs, &layout::config(), &self.bytes()?)
    }

    pub(super) fn replace<V: Vfs>(&self, vfs: &V) -> Result<(), Error> {
        replace_file(vfs, &layout::config_new(), &layout::config(), &self.bytes()?)
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(Code::Internal, "the configuration cannot be written").because(error))
    }
}

impl Generation {
    pub(super) fn read<V: Vfs>(vfs: &V, id: Id) -> Result<Self, Error> {
        let at = layout::generation_state(id);
        let bytes = read_file(vfs, &at, limits::SMALL_FILE)?;
        let bad = |why: String| Error::new(Code::Format, format!("{at}: {why}"));
        let wire: v1::Generation = codec::decode(&bytes).map_err(|error| bad(error.to_string()))?;
        let policy = Policy::from_bits(wire.policy).ok_or_else(|| bad("unknown policy".into()))?;
        if wire.magic != v1::GENERATION_MAGIC || wire.id != id || wire.manifests.len() > limits::MANIFEST_DELTAS + 1 {
            return Err(bad("not the state of this generation".into()));
        }
        Ok(Self {
            id,
            parent: wire.parent,
            version: wire.version,
            digest: wire.digest.map(Digest),
            manifests: wire.manifests,
            policy,
            time: wire.time,
            title: wire.title,
        })
    }

    /// Writes it into its folder, which exists, and gives the digest of the file. Not durable yet.
    pub(super) fn write<V: Vfs>(&self, vfs: &V) -> Result<Digest, Error> {
        let wire = v1::Generation {
            magic: v1::GENERATION_MAGIC,
            id: self.id,
            parent: self.parent,
            version: self.version.clone(),
            digest: self.digest.map(|digest| digest.0),
            manifests: self.manifests.clone(),
            policy: self.policy.bits(),
            time: self.time,
            title: self.title.clone(),
        };
        let bytes = codec::encode(&wire);
        write_file(vfs, &layout::generation_state(self.id), &bytes)?;
        Ok(Digest::of(&bytes))
    }

    /// Everything that the tree holds in this generation; nothing if it is not recorded.
    pub(super) fn manifest<V: Vfs>(&self, vfs: &V) -> Result<Option<Manifest>, Error> {
        let Some((first, deltas)) = self.manifests.split_first() else { return Ok(None) };
        let bad = |id: Id, error: codec::DecodeError| {
            Error::new(Code::Format, format!("{} is damaged", layout::manifest(id))).because(error)
        };
        let mut manifest = {
            let bytes = read_file(vfs, &layout::manifest(*first), limits::STATE_FILE)?;
            v1::decode_manifest(&bytes).map_err(|error| bad(*first, error))?
        };
        let mut changes = std::collections::BTreeMap::new();
        for id in deltas {
            for change in read_delta(vfs, *id)? {
                changes.insert(change.path, change.after);
            }
        }
        if !changes.is_empty() {
            let changes = changes.into_iter().map(|(path, after)| ManifestChange { path, after });
            manifest = manifest.with(changes).map_err(|error| {
                Error::new(Code::Format, "the recorded manifest does not fit together").because(error)
            })?;
        }
        Ok(Some(manifest))
    }
}

/// The changes in one manifest file.
pub(super) fn read_delta<V: Vfs>(vfs: &V, id: Id) -> Result<Vec<ManifestChange>, Error> {
    let at = layout::manifest(id);
    let bytes = read_file(vfs, &at, limits::STATE_FILE)?;
    let (_, changes) = v1::decode_manifest_delta(&bytes)
        .map_err(|error| Error::new(Code::Format, format!("{at} is damaged")).because(error))?;
    Ok(changes)
}

/// What a generation changes of the tree before it, whichever way its manifest is written.
pub(super) fn read_changes<V: Vfs>(vfs: &V, id: Id, old: &Manifest) -> Result<Vec<ManifestChange>, Error> {
    read_delta(vfs, id).or_else(|error| {
        let bytes = read_file(vfs, &layout::manifest(id), limits::STATE_FILE)?;
        v1::decode_manifest(&bytes).map(|new| crate::tree::changes(old, &new)).map_err(|_| error)
    })
}

/// Does a file stand there whose content has this digest?
pub(super) fn holds<V: Vfs>(vfs: &V, at: &Place, digest: Digest) -> Result<bool, Error> {
    match vfs.stat(at)? {
        Some(stat) if stat.kind == FileType::File => Ok(crate::tree::hash_file(vfs, at)?.1 == digest),
        _ => Ok(false),
    }
}

/// Reads a whole file of bounded size.
pub(super) fn read_file<V: Vfs>(vfs: &V, at: &Place, limit: u64) -> Result<Vec<u8>, Error> {
    let size = vfs.stat(at)?.map_or(0, |stat| stat.size);
    if size > limit {
        return Err(Error::new(Code::Limit, format!("{at} is larger than {limit} bytes")));
    }
    read_start(vfs, at, size)
}

/// Reads the first bytes of a file, as many as there are.
pub(super) fn read_start<V: Vfs>(vfs: &V, at: &Place, size: u64) -> Result<Vec<u8>, Error> {
    let file = vfs.open(at, Access::Read)?;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match vfs.read_at(&file, done as u64, &mut bytes[done..])? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Creates a file with content. Durable after the next sync of everything.
pub(super) fn write_file<V: Vfs>(vfs: &V, at: &Place, bytes: &[u8]) -> Result<(), Error> {
    let file = vfs.create(at)?;
    for (number, chunk) in bytes.chunks(1 << 20).enumerate() {
        vfs.write_at(&file, (number as u64) << 20, chunk)?;
    }
    // While it is open: an error of writing it back is told to whoever had it open then.
    if vfs.sync_all_reports() { Ok(()) } else { vfs.sync_file(&file).map_err(|error| sync_failed(vfs, error)) }
}

/// Replaces a file by one with other content: durable, and never seen half-written.
pub(super) fn replace_file<V: Vfs>(vfs: &V, new: &Place, at: &Place, bytes: &[u8]) -> Result<(), Error> {
    if vfs.stat(new)?.is_some() {
        vfs.remove_file(new)?;
    }
    write_file(vfs, new, bytes)?;
    // The new name as well: if it were lost and the rename kept, neither file would be left.
    vfs.sync_all().map_err(|error| sync_failed(vfs, error))?;
    vfs.rename(new, at, crate::vfs::Rename::Replace)?;
    vfs.sync_all().map_err(|error| sync_failed(vfs, error))
}

/// Makes the content of one file durable where the next sync of everything may lose it in silence.
pub(super) fn sync_one<V: Vfs>(vfs: &V, at: &Place) -> Result<(), Error> {
    if vfs.sync_all_reports() {
        return Ok(());
    }
    let file = vfs.open(at, Access::Write)?;
    vfs.sync_file(&file).map_err(|error| sync_failed(vfs, error))
}

/// What a failed sync means, wherever it was: nobody may sync again in this session and believe it.
pub(super) fn sync_failed<V: Vfs>(vfs: &V, error: IoError) -> Error {
    super::executor::mark_poisoned(vfs);
    Error::new(Code::SyncFailed, "a sync failed: what is on the disk is not known").because(error)
}

/// Creates a directory for new objects, unless it is there, and takes from it what it would hand down to them: a
/// default ACL of the directories above.
pub(super) fn ensure_bare_dir<V: Vfs>(vfs: &V, at: &Place) -> Result<(), IoError> {
    ensure_dir(vfs, at)?;
    for (name, _) in vfs.xattrs(at)? {
        vfs.set_xattr(at, &name, None)?;
    }
    Ok(())
}

/// Creates a directory unless it is there.
pub(super) fn ensure_dir<V: Vfs>(vfs: &V, at: &Place) -> Result<(), IoError> {
    if vfs.stat(at)?.is_none() {
        vfs.mkdir(at)?;
    }
    Ok(())
}

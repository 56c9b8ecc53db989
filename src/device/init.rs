//! `Engine::init`: a tree is taken under care.

use super::engine::{Engine, lock};
use super::history::{self, HistoryEntry};
use super::layout;
use super::store::{self, Config, Generation};
use super::trust;
use crate::codec::v1;
use crate::error::{Code, Error, Finding};
use crate::journal::Journal;
use crate::limits;
use crate::model::{Difference, Manifest, TreePath};
use crate::vfs::{Place, Rename, Session, Vfs};

impl<V: Vfs> Engine<V> {
    /// Takes a tree under care: writes its state directory. `manifest` is what it holds; without it nothing is
    /// recorded, and only what transactions touch is known.
    pub fn init(vfs: V, config: Config, version: &str, manifest: Option<&Manifest>) -> Result<Self, Error> {
        Self::init_trusting(vfs, config, version, manifest, None)
    }

    /// [`Engine::init`], and this root metadata of a repository is where its trust begins.
    pub fn init_trusting(
        vfs: V,
        config: Config,
        version: &str,
        manifest: Option<&Manifest>,
        root: Option<&[u8]>,
    ) -> Result<Self, Error> {
        if vfs.stat(&layout::journal())?.is_none() {
            // Before the lock, which is a file.
            super::engine::refuse_elsewhere(&vfs)?;
            refuse_occupied(&vfs)?;
        }
        let lock = lock(&vfs)?;
        if vfs.stat(&layout::journal())?.is_some() {
            return Err(Error::new(Code::Initialised, "the tree is under surefoot's care already"));
        }
        // That of an init whose own sync failed.
        super::recover::refuse_poisoned(&vfs)?;
        let capabilities = {
            store::ensure_dir(&vfs, &layout::scratch())?;
            vfs.capabilities(&layout::scratch())?
        };
        if !capabilities.atomic_rename {
            return Err(Error::new(Code::FileSystem, "the file system of the tree does not rename atomically"));
        }
        // Without a journal nothing here counts: it is left from an init that was interrupted.
        for left in [layout::journal_new(), layout::config(), layout::config_new(), layout::poison()] {
            if vfs.stat(&left)?.is_some() {
                vfs.remove_file(&left)?;
            }
        }
        // The mark of a failed sync comes before the first sync. What is lost of it reads as no mark.
        vfs.write_at(&vfs.create(&layout::poison())?, 0, &Session::default().0)?;
        config.create(&vfs)?;
        store::ensure_dir(&vfs, &layout::generations())?;
        store::ensure_dir(&vfs, &layout::manifests())?;
        let id = vfs.fresh_id()?;
        vfs.mkdir(&layout::generation(id))?;
        let mut generation = Generation {
            id,
            parent: None,
            version: version.into(),
            digest: None,
            manifests: Vec::new(),
            policy: config.policy(),
            time: vfs.now().seconds,
            title: "init".into(),
        };
        if let Some(manifest) = manifest {
            store::write_file(&vfs, &layout::manifest(id), &v1::encode_manifest(manifest))?;
            generation.digest = Some(v1::tree_digest(manifest));
            generation.manifests.push(id);
            generation.policy = manifest.policy();
        }
        generation.write(&vfs)?;
        if let Some(root) =
            manifest.and_then(|manifest| manifest.get(&TreePath::root())).filter(|_| generation.policy.mtime)
        {
            // The state directory has just been made in it.
            vfs.set_mtime(&Place::tree(&TreePath::root()), root.metadata.mtime)?;
        }
        trust::provision(&vfs, root)?;
        Journal::create(&vfs, &layout::journal_new(), vfs.fresh_id()?, id)?;
        store::sync_one(&vfs, &layout::journal_new())?;
        vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?;
        vfs.rename(&layout::journal_new(), &layout::journal(), Rename::NoReplace)?;
        vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?;
        let entry = HistoryEntry {
            transaction: layout::hex(id),
            time: generation.time,
            work: "init".into(),
            from: String::new(),
            to: version.into(),
            outcome: "kept".into(),
            cause: String::new(),
            title: "init".into(),
        };
        // The tree is under care: nothing depends on the history.
        if let Err(error) = history::append(&vfs, &entry) {
            tracing::warn!(error = %error, "the history cannot be written");
        }
        Self::with_lock(vfs, lock)
    }
}

/// What is not ours would be taken for ours.
fn refuse_occupied<V: Vfs>(vfs: &V) -> Result<(), Error> {
    let names = vfs.list(&layout::root())?.into_iter().filter(|name| !is_left_by_init(vfs, name));
    let paths: Vec<TreePath> = names.filter_map(|name| TreePath::root().join(&name).ok()).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let findings = paths.into_iter().map(|path| Finding { path, difference: Difference::Unexpected }).collect();
    Err(Error::new(Code::Stray, "the state directory holds what surefoot did not put there").listing(findings))
}

fn is_left_by_init<V: Vfs>(vfs: &V, name: &[u8]) -> bool {
    if name != b"config" || vfs.stat(&layout::scratch()).is_ok_and(|stat| stat.is_some()) {
        return layout::is_of_init(name);
    }
    // The only one that would be written anew. Of one that was cut off, nothing may be there, or zeros.
    let config = store::read_file(vfs, &layout::config(), limits::SMALL_FILE);
    config.is_ok_and(|bytes| bytes.iter().find(|byte| **byte != 0).is_none_or(|byte| *byte == b'{'))
}

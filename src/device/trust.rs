//! What a device keeps of the metadata of its repository: the newest root, and the versions that it has seen.
//!
//! One file for each role, replaced as a whole and durable before anything is built on it, so that no loss of power
//! brings back an older one.

use super::engine::Engine;
use super::layout;
use super::store;
use crate::error::{Code, Error};
use crate::limits;
use crate::repository::{Anchor, Client, Clock, OfflinePolicy, Stored, role, stored_role};
use crate::trust::Keyring;
use crate::vfs::{Place, Vfs};

impl<V: Vfs> Engine<V> {
    /// Begins a look at a repository with what is kept of it, or with the keys of the configuration before anything
    /// is. What the look wants kept goes to [`Engine::keep_trust`].
    pub fn repository_client(&self, clock: Clock, policy: OfflinePolicy) -> Result<Client, Error> {
        let mut keys = Keyring::new();
        for text in &self.config.keys {
            for key in Keyring::from_pem(text)?.keys() {
                keys.insert(key.clone())?;
            }
        }
        let anchor = if keys.is_empty() { Anchor::Stored } else { Anchor::Keys(keys) };
        Ok(Client::new(self.stored_trust()?, anchor, clock, policy)?)
    }

    /// What is kept of the metadata of the repository.
    pub fn stored_trust(&self) -> Result<Stored, Error> {
        let mut stored = Stored::default();
        for (role, at) in roles(&self.vfs)? {
            stored.0.insert(role, store::read_file(&self.vfs, &at, limits::SMALL_FILE)?);
        }
        Ok(stored)
    }

    /// Keeps the metadata of a role, or forgets it without any. When this returns, it is durable.
    pub fn keep_trust(&mut self, role: &str, bytes: Option<&[u8]>) -> Result<(), Error> {
        self.require_whole()?;
        let result = self.replace_trust(role, bytes);
        self.notice(result)
    }

    fn replace_trust(&self, role: &str, bytes: Option<&[u8]>) -> Result<(), Error> {
        let vfs = &self.vfs;
        match bytes {
            Some(bytes) => {
                store::ensure_dir(vfs, &layout::trust())?;
                drop_delegated(vfs, role)?;
                store::replace_file(vfs, &layout::trust_new(), &layout::trust_of(role), bytes)
            }
            None if vfs.stat(&layout::trust_of(role))?.is_none() => Ok(()),
            None => {
                vfs.remove_file(&layout::trust_of(role))?;
                vfs.sync_all().map_err(|error| store::sync_failed(vfs, error))
            }
        }
    }
}

/// Writes the root metadata that a tree is provisioned with. Not durable yet.
pub(super) fn provision<V: Vfs>(vfs: &V, root: Option<&[u8]>) -> Result<(), Error> {
    if vfs.stat(&layout::trust())?.is_some() {
        // That of an init which was interrupted: nothing of it counts.
        for name in vfs.list(&layout::trust())? {
            vfs.remove_file(&layout::trust_named(&name)?)?;
        }
    }
    let Some(root) = root else { return Ok(()) };
    // It must be one that a look can begin with.
    let stored = Stored([(role::ROOT.to_owned(), root.to_vec())].into());
    Client::new(stored, Anchor::Stored, Clock::Unknown, OfflinePolicy::Strict).map_err(|error| {
        Error::new(Code::BadMetadata, "this is not root metadata that is signed as it asks itself").because(error)
    })?;
    store::ensure_dir(vfs, &layout::trust())?;
    store::write_file(vfs, &layout::trust_of(role::ROOT), root)?;
    Ok(())
}

/// Every role of which something is kept, and where.
fn roles<V: Vfs>(vfs: &V) -> Result<Vec<(String, Place)>, Error> {
    if vfs.stat(&layout::trust())?.is_none() {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for name in vfs.list(&layout::trust())? {
        let role = std::str::from_utf8(&name).ok().and_then(stored_role);
        out.extend(role.map(|role| (role.clone(), layout::trust_of(&role))));
    }
    Ok(out)
}

/// Metadata of delegated roles only saves fetching it again: where too much has gathered, it goes.
fn drop_delegated<V: Vfs>(vfs: &V, role: &str) -> Result<(), Error> {
    let roles = roles(vfs)?;
    if roles.len() < 2 * limits::DELEGATIONS || roles.iter().any(|(known, _)| known == role) {
        return Ok(());
    }
    for (_, at) in roles.iter().filter(|(known, _)| !role::TOP.contains(&known.as_str())) {
        vfs.remove_file(at)?;
    }
    Ok(())
}

//! Roots: the first one, and the next one with other keys.

use super::{DAYS, Lifetimes, Publisher, check, check_clock, days, following, sign_for};
use crate::error::{Code, Error};
use crate::limits;
use crate::repository::{Key, Moment, Role, Root, SPEC_VERSION, Signed, Targets, metadata_name, role};
use crate::trust::{PublicKey, SecretKey};
use crate::vfs::Vfs;
use serde_json::json;
use std::collections::BTreeMap;

/// The keys of a role, and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u64,
}

/// The roles that get other keys, by their names.
pub type NewRoles = BTreeMap<&'static str, RoleKeys>;

/// How a rotation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// At every moment there was a repository that devices believe.
    Seamless,
    /// The keys that counted before were not there to sign: for the moment between two files a device had to try
    /// again.
    WithGap,
}

/// The first root metadata, without any signature.
pub fn draft_first_root(roles: &NewRoles, lifetimes: Lifetimes, now: Moment) -> Result<Root, Error> {
    let mut root = Root {
        type_name: role::ROOT.into(),
        spec_version: SPEC_VERSION.into(),
        consistent_snapshot: true,
        version: 1,
        expires: now.plus_days(lifetimes.root),
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
        more: BTreeMap::new(),
    };
    let Lifetimes { root: own, targets, snapshot, timestamp } = lifetimes;
    let lifetimes = json!({"root": own, "targets": targets, "snapshot": snapshot, "timestamp": timestamp});
    root.more.insert(DAYS.into(), lifetimes);
    set(&mut root, roles)?;
    match role::TOP.iter().find(|name| !root.roles.contains_key(**name)) {
        Some(name) => Err(Error::new(Code::Usage, format!("the role {name} needs a key"))),
        None => Ok(root),
    }
}

impl<V: Vfs> Publisher<V> {
    /// The next root metadata, with other keys for these roles, without any signature.
    ///
    /// Where a rotation to these very keys was interrupted, that is the root which is there already.
    pub fn draft_root(&self, roles: &NewRoles, now: Moment) -> Result<Root, Error> {
        let mut root = self.root.clone();
        if self.unfinished {
            set(&mut root, roles)?;
            if root == self.root {
                return Ok(root);
            }
        }
        root.version = following(root.version)?;
        root.expires = now.plus_days(days(&root, role::ROOT));
        set(&mut root, roles)?;
        Ok(root)
    }

    /// Signs a draft with those of these keys that count for it, now or from then on.
    pub fn sign_root(&self, root: &Root, keys: &[&SecretKey]) -> Result<Vec<u8>, Error> {
        sign_for(root, &[&self.root, root], keys)
    }

    /// Publishes the next root metadata, and what else must be signed anew because of it.
    ///
    /// Where both the keys from before and those from then on are there, targets, snapshot and timestamp are published
    /// with the signatures of both before the root is, so that devices believe them at every moment. Otherwise there is
    /// a moment between the root and the timestamp in which they refuse both; interrupted in it, the same call ends it.
    ///
    /// Whoever has the keys from before can have put something there, or something older back. Where they do not sign
    /// again, because they are lost or stolen, only [`Publisher::adopt`] lets the new keys vouch for what is there.
    pub fn rotate(&mut self, root: &[u8], keys: &[&SecretKey], now: Moment) -> Result<Rotated, Error> {
        self.adopted = false;
        let name = metadata_name(role::ROOT, Some(following(self.root.version)?));
        let next: Signed<Root> = Signed::parse(&name, root)?;
        if self.unfinished && next.body == self.root {
            return self.finish(keys, now);
        }
        if next.body.version != self.root.version + 1 {
            return Err(Error::new(Code::BadMetadata, format!("the next root is version {}", self.root.version + 1)));
        }
        check::<Root>(&name, root, &self.root)?;
        check::<Root>(&name, root, &next.body)?;
        let next = next.body;
        if !self.clock_is_right {
            check_clock(&next, None, now)?;
        }
        let others = [role::TARGETS, role::SNAPSHOT, role::TIMESTAMP];
        if !self.unfinished && others.iter().all(|name| self.root.role(name) == next.role(name)) {
            self.replace(&name, root)?;
            self.root = next;
            return Ok(Rotated::Seamless);
        }
        self.changed |= self.root.role(role::TARGETS) != next.role(role::TARGETS);
        let chain = self.next_chain(&[&self.root, &next], keys, now)?;
        chain.check(&next)?;
        let seamless = chain.check(&self.root).is_ok();
        self.adopted = has_lost_keys(&self.root, &next, role::TARGETS);
        self.require_adoption(seamless && !self.unfinished)?;
        if seamless {
            self.publish(chain, None)?;
            self.replace(&name, root)?;
        } else {
            self.publish(chain, Some((&name, root)))?;
        }
        self.stamped_by = next.role(role::TIMESTAMP).cloned();
        (self.root, self.unfinished) = (next, false);
        Ok(if seamless { Rotated::Seamless } else { Rotated::WithGap })
    }

    /// Lets a rotation vouch for what is in the repository although the keys from before do not sign it again.
    pub fn adopt(&mut self) {
        self.adopts = true;
    }

    /// What the last rotation has vouched for, or has refused to, although keys have signed it that count no longer, or
    /// were not there to sign again.
    pub fn adopted(&self) -> Option<&Targets> {
        Some(&self.targets).filter(|_| self.adopted)
    }

    fn require_adoption(&mut self, signed_again: bool) -> Result<(), Error> {
        self.adopted |= !signed_again;
        let Targets { targets, delegations, .. } = &self.targets;
        let nothing = targets.is_empty() && delegations.as_ref().is_none_or(|all| all.roles.is_empty());
        if signed_again || self.adopts || nothing {
            return Ok(());
        }
        let what = format!("keys that do not sign again vouch for what is published ({} in all)", targets.len());
        Err(Error::new(Code::Adoption, what))
    }

    /// Publishes what the root that is there already is still without.
    fn finish(&mut self, keys: &[&SecretKey], now: Moment) -> Result<Rotated, Error> {
        let chain = self.next_chain(&[&self.root], keys, now)?;
        chain.check(&self.root)?;
        self.require_adoption(false)?;
        self.publish(chain, None)?;
        self.stamped_by = self.root.role(role::TIMESTAMP).cloned();
        self.unfinished = false;
        Ok(Rotated::WithGap)
    }
}

/// Does a key of the role count no longer?
fn has_lost_keys(before: &Root, after: &Root, name: &str) -> bool {
    let ids = |root: &Root| root.role(name).map(|role| role.keyids.clone()).unwrap_or_default();
    let left = ids(after);
    ids(before).iter().any(|id| !left.contains(id))
}

/// Gives roles their keys, and drops keys that nobody has any more.
fn set(root: &mut Root, roles: &NewRoles) -> Result<(), Error> {
    for (name, RoleKeys { keys, threshold }) in roles {
        let keys: BTreeMap<String, Key> = keys.iter().map(Key::ed25519).map(|key| (key.id(), key)).collect();
        if *threshold == 0 || *threshold > keys.len() as u64 || keys.len() > limits::METADATA_KEYS {
            let what = format!("{threshold} of {} different keys cannot sign for {name}", keys.len());
            return Err(Error::new(Code::Usage, what));
        }
        root.roles.insert((*name).into(), Role::new(keys.keys().cloned().collect(), *threshold));
        root.keys.extend(keys);
    }
    let Root { keys, roles, .. } = root;
    keys.retain(|id, _| roles.values().any(|role| role.keyids.contains(id)));
    Ok(())
}

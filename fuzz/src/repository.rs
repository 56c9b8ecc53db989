//! A repository whose root key nobody has, and whose other key everybody has.

use surefoot::publish::{Lifetimes, NewRoles, RoleKeys, draft_first_root};
use surefoot::repository::{Moment, role, sign};
use surefoot::trust::SecretKey;

/// The key of all roles but the root.
pub fn online_key() -> SecretKey {
    SecretKey::generate([8; 32])
}

/// Root metadata of version 1.
pub fn first_root() -> Vec<u8> {
    let root = SecretKey::generate([7; 32]);
    let with = |key: &SecretKey| RoleKeys { keys: vec![key.public()], threshold: 1 };
    let mut roles: NewRoles = role::TOP.iter().map(|name| (*name, with(&online_key()))).collect();
    roles.insert(role::ROOT, with(&root));
    let now = Moment::from_seconds(1_900_000_000);
    let draft = draft_first_root(&roles, Lifetimes::default(), now).expect("good roles");
    sign(&draft, &[&root]).expect("good metadata")
}

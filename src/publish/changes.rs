//! What differs between two manifests.

use crate::model::{Entry, Manifest, ManifestChange};
use std::cmp::Ordering;

/// The changes that turn `old` into `new`, sorted by path. Both are of the policy of `new`.
pub(super) fn changes(old: &Manifest, new: &Manifest) -> Vec<ManifestChange> {
    let set = |entry: &Entry| ManifestChange { path: entry.path.clone(), after: Some(entry.node.clone()) };
    let remove = |entry: &Entry| ManifestChange { path: entry.path.clone(), after: None };
    let (mut changes, mut old, mut new_entries) = (Vec::new(), old.entries(), new.entries());
    loop {
        match (old, new_entries) {
            ([], rest) => {
                changes.extend(rest.iter().map(set));
                return changes;
            }
            (rest, []) => {
                changes.extend(rest.iter().map(remove));
                return changes;
            }
            ([a, more_old @ ..], [b, more_new @ ..]) => match a.path.cmp(&b.path) {
                Ordering::Less => {
                    changes.push(remove(a));
                    old = more_old;
                }
                Ordering::Greater => {
                    changes.push(set(b));
                    new_entries = more_new;
                }
                Ordering::Equal => {
                    if !a.node.matches(&b.node, new.policy()) || a.node.leader != b.node.leader {
                        changes.push(set(b));
                    }
                    (old, new_entries) = (more_old, more_new);
                }
            },
        }
    }
}

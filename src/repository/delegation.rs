//! Which role is asked about which path: the search of section 5.6.7, over metadata that is loaded.

use super::metadata::{Delegation, Target, Targets};
use crate::limits;
use crate::model::Digest;
use crate::trust::hex;
use std::collections::{BTreeMap, BTreeSet};

/// Who has delegated, and to whom: a role counts with the keys that its delegator names, so one name under two
/// delegators is two roles, over one file. The role at the top is delegated by `root`.
pub(super) type Edge = (String, String);

/// Targets metadata that is trusted.
pub(super) type Loaded = BTreeMap<Edge, Targets>;

/// How a search goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search<'a> {
    /// This role describes it.
    Found(&'a Edge, &'a Target),
    /// Nobody who may describes it.
    Missing,
    /// The metadata of this delegator's role is needed.
    Needs(String, String),
}

/// Looks for a path, in the order of trust.
pub(super) fn search<'a>(loaded: &'a Loaded, path: &str) -> Search<'a> {
    let mut open = Open::new(limits::DELEGATIONS);
    // 5.6.7: pre-order, depth first, beginning with the targets role at the top.
    while let Some(trail) = open.next() {
        let edge = edge_of(&trail);
        let Some((edge, targets)) = loaded.get_key_value(&edge) else { return Search::Needs(edge.0, edge.1) };
        if let Some(target) = targets.targets.get(path) {
            return Search::Found(edge, target);
        }
        // 5.6.7.2: its delegations in order of appearance; after a terminating one nobody else is asked.
        let mut next = Vec::new();
        for delegation in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if delegation.covers(path) {
                next.push(delegation.name.as_str());
                if delegation.terminating {
                    open.trails.clear();
                    break;
                }
            }
        }
        open.add(&trail, next);
    }
    Search::Missing
}

/// A delegation of loaded metadata that is not loaded itself, if there is one; only so many roles are.
pub(super) fn unloaded(loaded: &Loaded) -> Option<Edge> {
    let mut open = Open::new(limits::DELEGATIONS);
    while let Some(trail) = open.next() {
        let edge = edge_of(&trail);
        let Some(targets) = loaded.get(&edge) else { return Some(edge) };
        let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        open.add(&trail, roles.map(|delegation| delegation.name.as_str()).collect());
    }
    None
}

/// What is still to be visited: roles, each behind those that lead to it.
struct Open<'a> {
    trails: Vec<Vec<&'a str>>,
    visited: BTreeSet<Edge>,
    most: usize,
}

impl<'a> Open<'a> {
    /// From the role at the top, which comes besides so many others.
    fn new(most: usize) -> Self {
        Self { trails: vec![vec![super::role::TARGETS]], visited: BTreeSet::new(), most }
    }

    /// 5.6.7.1: a role that was visited is skipped, so that there is no cycle, and only so many are visited. What one
    /// delegator says of a name does not keep what another one says of it from being asked.
    fn next(&mut self) -> Option<Vec<&'a str>> {
        while self.visited.len() <= self.most {
            let trail = self.trails.pop()?;
            let cycle = trail.split_last().is_some_and(|(name, before)| before.contains(name));
            if !cycle && self.visited.insert(edge_of(&trail)) {
                return Some(trail);
            }
        }
        None
    }

    fn add(&mut self, trail: &[&'a str], next: Vec<&'a str>) {
        self.trails.extend(next.into_iter().rev().map(|name| [trail, &[name]].concat()));
    }
}

fn edge_of(trail: &[&str]) -> Edge {
    let mut last = trail.iter().rev().copied();
    let name = last.next().unwrap_or(super::role::TARGETS);
    (last.next().unwrap_or(super::role::ROOT).to_owned(), name.to_owned())
}

impl Delegation {
    /// Is the role trusted for this path?
    pub fn covers(&self, path: &str) -> bool {
        let digest = || hex(&Digest::of(path.as_bytes()).0);
        let by_pattern = self.paths.iter().flatten().any(|pattern| path_matches(pattern, path));
        by_pattern
            || self.path_hash_prefixes.as_ref().is_some_and(|prefixes| {
                let digest = digest();
                prefixes.iter().any(|prefix| digest.starts_with(prefix.as_str()))
            })
    }
}

/// Does a path match a pattern? `*` and `?` stand for any characters, or for one, but never for a slash.
fn path_matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(pattern, name)| name_matches(pattern, name))
}

/// In time proportional to the product of the lengths: after a mismatch only the last star is tried again.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some('?') => (at, from) = (at + 1, from + 1),
            Some(c) if *c == name[from] => (at, from) = (at + 1, from + 1),
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                (at, from) = (back + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_a_name_only() {
        for (pattern, path) in [
            ("*", "a"),
            ("*.py", "x.py"),
            ("a/*", "a/b"),
            ("a/*/c", "a/b/c"),
            ("v-?.sf", "v-1.sf"),
            ("**", "abc"),
            ("a*b*c", "aXbYbZc"),
            ("[a]", "[a]"),
            ("", ""),
        ] {
            assert!(path_matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*", "a/b"), ("a/*", "a"), ("a/*", "a/b/c"), ("?", ""), ("a", "A"), ("*.py", "x.pyc"), ("[a]", "a")]
        {
            assert!(!path_matches(pattern, path), "{pattern} {path}");
        }
        assert!(!name_matches(&"*a".repeat(300), &"a".repeat(250)), "and it ends");
    }
}

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
    search_within(loaded, path, limits::DELEGATIONS)
}

/// The role that would be asked about a path if one more could be.
pub(super) fn not_asked(loaded: &Loaded, path: &str) -> Option<Edge> {
    match search_within(loaded, path, limits::DELEGATIONS + 1) {
        Search::Needs(delegator, name) => Some((delegator, name)),
        Search::Found(..) | Search::Missing => None,
    }
}

fn search_within<'a>(loaded: &'a Loaded, path: &str, most: usize) -> Search<'a> {
    let mut open = Open::new(most);
    // 5.6.7: pre-order, depth first, beginning with the targets role at the top.
    while let Some(trail) = open.next() {
        let edge = edge_of(&trail);
        let Some((edge, targets)) = loaded.get_key_value(&edge) else { return Search::Needs(edge.0, edge.1) };
        if let Some(target) = targets.targets.get(path) {
            return Search::Found(edge, target);
        }
        // 5.6.7.2: its delegations in order of appearance; after a terminating one nobody else is asked.
        let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        let covering = roles.filter(|delegation| delegation.covers(path));
        open.add(&trail, covering.map(|delegation| (delegation.name.as_str(), delegation.terminating)));
    }
    Search::Missing
}

/// A delegation of loaded metadata that is not loaded itself, if there is one; only so many roles are.
pub(super) fn unloaded(loaded: &Loaded) -> Option<Edge> {
    unloaded_within(loaded, limits::DELEGATIONS)
}

/// The role that would be loaded if one more could be.
pub(super) fn not_loaded(loaded: &Loaded) -> Option<Edge> {
    unloaded_within(loaded, limits::DELEGATIONS + 1)
}

fn unloaded_within(loaded: &Loaded, most: usize) -> Option<Edge> {
    let mut open = Open::new(most);
    while let Some(trail) = open.next() {
        let edge = edge_of(&trail);
        let Some(targets) = loaded.get(&edge) else { return Some(edge) };
        let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        open.add(&trail, roles.map(|delegation| (delegation.name.as_str(), false)));
    }
    None
}

/// What is still to be visited: roles, each behind those that lead to it. However many roles somebody delegates to, that
/// is at most as many trails for each role that was visited as there are visits.
struct Open<'a> {
    trails: Vec<Vec<&'a str>>,
    visited: BTreeSet<(&'a str, &'a str)>,
    most: usize,
}

impl<'a> Open<'a> {
    /// From the role at the top, which comes besides so many others.
    fn new(most: usize) -> Self {
        Self { trails: vec![vec![super::role::TARGETS]], visited: BTreeSet::new(), most }
    }

    /// 5.6.7.1: a role that was visited is skipped, and only so many are visited. What one delegator says of a name does
    /// not keep what another one says of it from being asked.
    fn next(&mut self) -> Option<Vec<&'a str>> {
        while self.left() > 0 {
            let trail = self.trails.pop()?;
            if self.visited.insert(last_two(&trail)) {
                return Some(trail);
            }
        }
        None
    }

    /// How many may still be visited.
    fn left(&self) -> usize {
        (self.most + 1).saturating_sub(self.visited.len())
    }

    /// Puts those that the last one of a trail delegates to before everything else, in their order; after a terminating
    /// one nobody else is asked. One that leads to itself is skipped, so that there is no cycle.
    ///
    /// No more are taken than may still be visited. Each that is taken is visited when its turn comes, or was before
    /// that, so the turn of what comes after them never comes.
    fn add(&mut self, trail: &[&'a str], next: impl Iterator<Item = (&'a str, bool)>) {
        let (delegator, left) = (last_two(trail).1, self.left());
        let mut taken: Vec<&str> = Vec::new();
        for (name, terminating) in next {
            let known = trail.contains(&name) || taken.contains(&name) || self.visited.contains(&(delegator, name));
            if !known {
                taken.push(name);
            }
            if terminating {
                self.trails.clear();
            }
            if terminating || taken.len() >= left {
                break;
            }
        }
        self.trails.extend(taken.into_iter().rev().map(|name| [trail, &[name]].concat()));
    }
}

fn edge_of(trail: &[&str]) -> Edge {
    let (delegator, name) = last_two(trail);
    (delegator.to_owned(), name.to_owned())
}

fn last_two<'a>(trail: &[&'a str]) -> (&'a str, &'a str) {
    let mut last = trail.iter().rev().copied();
    let name = last.next().unwrap_or(super::role::TARGETS);
    (last.next().unwrap_or(super::role::ROOT), name)
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

    /// A delegate once had memory held for every way to every role that it named, each with all the names on it.
    #[test]
    fn however_many_roles_are_delegated_to_few_are_held() {
        let names: Vec<String> = (0..50_000).map(|number| format!("role-{number}")).collect();
        let mut open = Open::new(limits::DELEGATIONS);
        let (mut visited, mut most) = (Vec::new(), 0);
        while let Some(trail) = open.next() {
            open.add(&trail, names.iter().map(|name| (name.as_str(), false)));
            visited.push(edge_of(&trail).1);
            most = most.max(open.trails.iter().map(Vec::len).sum());
        }
        // In the order of trust: the first of the first of the first, as deep as it may go.
        let first: Vec<String> = names[..limits::DELEGATIONS].to_vec();
        assert_eq!((&visited[0], &visited[1..]), (&super::super::role::TARGETS.to_owned(), &first[..]));
        assert!(most <= (limits::DELEGATIONS + 1).pow(3), "{most} names are held");
    }

    /// What is not held is what is never reached.
    #[test]
    fn those_that_are_held_are_those_that_would_be_visited() {
        let names: Vec<String> = (0..9).map(|number| format!("{number}")).collect();
        // Role n delegates to these, some of them twice, some of them back.
        let of = |n: usize| (0..9).map(move |step| (n * n + step * (n + 2)) % 9);
        for most in 0..20 {
            let mut open = Open::new(most);
            let mut held_all = vec![vec![super::super::role::TARGETS]];
            let mut seen = BTreeSet::new();
            while let Some(trail) = open.next() {
                let expected = loop {
                    let trail = held_all.pop().unwrap();
                    let cycle = trail.split_last().is_some_and(|(name, before)| before.contains(name));
                    if !cycle && seen.insert(last_two(&trail)) {
                        break trail;
                    }
                };
                assert_eq!(trail, expected, "of {most}");
                let next: Vec<&str> =
                    of(trail[trail.len() - 1].parse().unwrap_or(0)).map(|n| names[n].as_str()).collect();
                open.add(&trail, next.iter().map(|name| (*name, false)));
                held_all.extend(next.into_iter().rev().map(|name| [&trail[..], &[name]].concat()));
            }
            assert_eq!(seen.len(), most + 1);
        }
    }

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

//! `Manifest`: everything a tree holds, in canonical order.

use crate::model::{Node, Policy, TreePath};
use std::collections::BTreeMap;

/// One path of a tree and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: TreePath,
    /// What.
    pub node: Node,
}

/// One difference between two manifests: what a path holds afterwards; nothing if it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestChange {
    /// Where.
    pub path: TreePath,
    /// What it holds afterwards.
    pub after: Option<Node>,
}

/// A whole tree: its entries in the order of their paths, the root first.
///
/// A value of this type is canonical: sorted, no path twice, every parent present and a directory, every hard-link
/// leader the first of its group and alike in all but the name. Two trees are the same under their policy exactly if
/// the digests of their manifests are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    policy: Policy,
    entries: Vec<Entry>,
}

/// Why some entries are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The first entry is not the root directory.
    #[error("the manifest does not begin with the root directory")]
    NoRoot,
    /// Not sorted, or twice.
    #[error("entry {0} is out of order or given twice")]
    Order(TreePath),
    /// The parent is missing or no directory.
    #[error("entry {0} has no parent directory")]
    Orphan(TreePath),
    /// The hard-link leader is missing, not first, or different.
    #[error("entry {0} is a hard link to something that is not the same file")]
    Leader(TreePath),
}

impl Manifest {
    /// Checks that `entries` are canonical.
    pub fn new(policy: Policy, entries: Vec<Entry>) -> Result<Self, ManifestError> {
        let manifest = Self { policy, entries };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        match self.entries.first() {
            Some(first) if first.path.is_root() && first.node.is_directory() && first.node.leader.is_none() => {}
            _ => return Err(ManifestError::NoRoot),
        }
        // The directories on the way from the root to the entry at hand.
        let mut way: Vec<&TreePath> = vec![&self.entries[0].path];
        for pair in self.entries.windows(2) {
            let (before, entry) = (&pair[0], &pair[1]);
            if before.path >= entry.path {
                return Err(ManifestError::Order(entry.path.clone()));
            }
            while way.last().is_some_and(|directory| !entry.path.is_below(directory)) {
                way.pop();
            }
            let depth = entry.path.components().count();
            if way.len() != depth {
                return Err(ManifestError::Orphan(entry.path.clone()));
            }
            if entry.node.is_directory() {
                way.push(&entry.path);
            }
            if let Some(leader) = &entry.node.leader {
                let alike = leader < &entry.path
                    && self.get(leader).is_some_and(|first| {
                        first.leader.is_none() && first.is_file() && first.matches(&entry.node, self.policy)
                    });
                if !alike {
                    return Err(ManifestError::Leader(entry.path.clone()));
                }
            }
        }
        Ok(())
    }

    /// What counts as identity in this tree.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// All entries, sorted by path, the root first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What stands at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.position(path).ok().map(|at| &self.entries[at].node)
    }

    /// Where `path` stands among the entries, or where it would.
    pub fn position(&self, path: &TreePath) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.path.cmp(path))
    }

    /// Every entry strictly below `directory`, in order.
    pub fn below<'a>(&'a self, directory: &'a TreePath) -> impl Iterator<Item = &'a Entry> {
        let start = self.position(directory).map_or_else(|at| at, |at| at + 1);
        self.entries[start..].iter().take_while(move |entry| entry.path.is_below(directory))
    }

    /// The same entries under another policy.
    pub fn under(self, policy: Policy) -> Result<Self, ManifestError> {
        if policy == self.policy { Ok(self) } else { Self::new(policy, self.entries) }
    }

    /// The manifest after some changes, in place of this one.
    pub fn with(self, changes: impl IntoIterator<Item = ManifestChange>) -> Result<Self, ManifestError> {
        let mut changes: BTreeMap<TreePath, Option<Node>> =
            changes.into_iter().map(|change| (change.path, change.after)).collect();
        let mut entries = Vec::with_capacity(self.entries.len() + changes.len());
        for entry in self.entries {
            while let Some(first) = changes.first_entry() {
                if *first.key() >= entry.path {
                    break;
                }
                let (path, after) = first.remove_entry();
                entries.extend(after.map(|node| Entry { path, node }));
            }
            match changes.remove(&entry.path) {
                Some(Some(node)) => entries.push(Entry { path: entry.path, node }),
                Some(None) => {}
                None => entries.push(entry),
            }
        }
        entries.extend(changes.into_iter().filter_map(|(path, after)| after.map(|node| Entry { path, node })));
        Self::new(self.policy, entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Kind, Metadata, Time};

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    fn directory(at: &str) -> Entry {
        Entry { path: path(at), node: Node::new(Kind::Directory, Metadata::default()) }
    }

    fn file(at: &str, content: &str) -> Entry {
        let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content.as_bytes()) };
        Entry { path: path(at), node: Node::new(kind, Metadata::default()) }
    }

    fn link(at: &str, content: &str, leader: &str) -> Entry {
        let mut entry = file(at, content);
        entry.node.leader = Some(path(leader));
        entry
    }

    fn manifest(entries: Vec<Entry>) -> Result<Manifest, ManifestError> {
        Manifest::new(Policy::default(), entries)
    }

    fn gone(at: &str) -> ManifestChange {
        ManifestChange { path: path(at), after: None }
    }

    fn put(entry: Entry) -> ManifestChange {
        ManifestChange { path: entry.path, after: Some(entry.node) }
    }

    #[test]
    fn a_manifest_begins_with_the_root() {
        assert_eq!(manifest(vec![]), Err(ManifestError::NoRoot));
        assert_eq!(manifest(vec![directory("a")]), Err(ManifestError::NoRoot));
        assert_eq!(manifest(vec![file("", "x")]), Err(ManifestError::NoRoot));
        let mut root = directory("");
        root.node.leader = Some(TreePath::root());
        assert_eq!(manifest(vec![root]), Err(ManifestError::NoRoot));
        assert!(manifest(vec![directory("")]).is_ok());
    }

    #[test]
    fn entries_are_sorted_by_component_and_never_twice() {
        let bad = manifest(vec![directory(""), file("b", ""), file("a", "")]);
        assert_eq!(bad, Err(ManifestError::Order(path("a"))));
        let bad = manifest(vec![directory(""), file("a", ""), file("a", "")]);
        assert_eq!(bad, Err(ManifestError::Order(path("a"))));
        let bad = manifest(vec![directory(""), directory("")]);
        assert_eq!(bad, Err(ManifestError::Order(path(""))));
        let bad = manifest(vec![directory(""), directory("a"), file("a.b", ""), file("a/b", "")]);
        assert_eq!(bad, Err(ManifestError::Order(path("a/b"))));
    }

    #[test]
    fn every_parent_is_a_directory_that_is_there() {
        for bad in [
            vec![directory(""), file("a/b", "")],
            vec![directory(""), file("a", ""), file("a/b", "")],
            vec![directory(""), directory("a"), file("a/b/c", "")],
            vec![directory(""), directory("a"), directory("a/b"), file("a/c/d", "")],
        ] {
            let last = bad.last().unwrap().path.clone();
            assert_eq!(manifest(bad), Err(ManifestError::Orphan(last)));
        }
        let good =
            vec![directory(""), directory("a"), directory("a/b"), file("a/b/c", ""), file("a/d", ""), file("b", "")];
        assert!(manifest(good).is_ok());
    }

    #[test]
    fn a_leader_is_the_first_name_of_the_same_file() {
        let mut moved = link("b", "x", "a");
        moved.node.metadata.mode = 0o600;
        let mut linked_directory = directory("b");
        linked_directory.node.leader = Some(path("a"));
        for (bad, why) in [
            (vec![directory(""), link("b", "x", "a")], "no leader"),
            (vec![directory(""), file("a", "x"), link("b", "y", "a")], "other content"),
            (vec![directory(""), file("a", "x"), moved], "other mode"),
            (vec![directory(""), directory("a"), linked_directory], "not a file"),
            (vec![directory(""), link("b", "x", "c"), file("c", "x")], "the leader comes later"),
            (vec![directory(""), link("b", "x", "b")], "its own leader"),
        ] {
            assert_eq!(manifest(bad), Err(ManifestError::Leader(path("b"))), "{why}");
        }
        let chain = vec![directory(""), file("a", "x"), link("b", "x", "a"), link("c", "x", "b")];
        assert_eq!(manifest(chain), Err(ManifestError::Leader(path("c"))));
        let mut late = link("b", "x", "a");
        late.node.metadata.mtime = Time { seconds: 1, nanoseconds: 0 };
        let group = vec![directory(""), file("a", "x"), late, link("c", "x", "a")];
        assert!(manifest(group.clone()).is_ok(), "a time that does not count may differ");
        assert!(Manifest::new(Policy { owner: false, mtime: true }, group).is_err());
    }

    #[test]
    fn what_is_below_a_directory_is_found_without_its_neighbours() {
        let manifest = manifest(vec![
            directory(""),
            directory("a"),
            directory("a/b"),
            file("a/b/c", ""),
            file("a/d", ""),
            file("a.txt", ""),
            directory("b"),
        ])
        .unwrap();
        let below = |at: &str| manifest.below(&path(at)).map(|entry| entry.path.to_string()).collect::<Vec<_>>();
        assert_eq!(below("a"), ["a/b", "a/b/c", "a/d"]);
        assert_eq!(below("a/b"), ["a/b/c"]);
        assert_eq!(below("").len(), 6);
        assert!(below("b").is_empty() && below("a.txt").is_empty() && below("0").is_empty());
        assert!(manifest.get(&path("a/d")).is_some_and(Node::is_file));
        assert_eq!(manifest.get(&path("a/e")), None);
    }

    #[test]
    fn changes_replace_insert_and_remove() {
        let before = manifest(vec![directory(""), directory("a"), file("a/b", "1"), file("c", "2")]).unwrap();
        let changes =
            vec![put(file("z", "5")), put(directory("c")), put(file("c/d", "4")), gone("a/b"), put(file("0", "3"))];
        let after = before.clone().with(changes).unwrap();
        let expected =
            vec![directory(""), file("0", "3"), directory("a"), directory("c"), file("c/d", "4"), file("z", "5")];
        assert_eq!(after, manifest(expected).unwrap());
        assert_eq!(before.clone().with([gone("a")]), Err(ManifestError::Orphan(path("a/b"))));
        assert_eq!(before.clone().with([gone("")]), Err(ManifestError::NoRoot));
        assert_eq!(before.clone().with([gone("not there")]).unwrap(), before, "removing what is gone changes nothing");
        let twice = before.with([put(file("c", "3")), put(file("c", "4"))]).unwrap();
        assert_eq!(twice.get(&path("c")), Some(&file("c", "4").node), "the last word counts");
    }
}

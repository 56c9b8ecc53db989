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
            Some(first) if first.path.is_root() && first.node.is_directory() => {}
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

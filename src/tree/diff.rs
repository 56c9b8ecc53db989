//! What changes from one manifest to another: for the engine, and for people.

use crate::model::{Difference, Digest, Entry, Kind, Manifest, ManifestChange, Node, TreePath};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// The fewest changes that make `new` of `old`, sorted by path; what the policy of `new` leaves out is no change.
pub fn changes(old: &Manifest, new: &Manifest) -> Vec<ManifestChange> {
    pairs(old, new)
        .filter(|pair| pair.differs(new))
        .map(|Pair { path, after, .. }| ManifestChange { path: path.clone(), after: after.cloned() })
        .collect()
}

/// How one path changed, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// A file that is new here and gone there, with the same content.
    Moved {
        /// There.
        from: TreePath,
    },
    /// A file that is new, with the content of an old one that did not move here.
    Copied {
        /// The old one.
        from: TreePath,
    },
    /// Another type of entry.
    Type,
    /// Other bytes.
    Content,
    /// The link points elsewhere.
    Target,
    /// Same content, other metadata.
    Metadata {
        /// The first that differs.
        what: Difference,
    },
    /// Same content and metadata, other hard links.
    Links,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Described {
    /// Where.
    pub path: TreePath,
    /// How.
    #[serde(flatten)]
    pub change: Change,
    /// Length of the file before, in bytes; nothing if there was no file. Of a moved or copied one: the length there.
    pub size_before: Option<u64>,
    /// Length of the file afterwards, in bytes; nothing if there is none.
    pub size_after: Option<u64>,
}

/// The changes from `old` to `new` as a person would tell them, sorted by path. The old name of a moved file is not
/// told as removed.
pub fn describe(old: &Manifest, new: &Manifest) -> Vec<Described> {
    let mut described = BTreeMap::new();
    let mut added: Vec<(&TreePath, &Node)> = Vec::new();
    for pair in pairs(old, new).filter(|pair| pair.differs(new)) {
        let change = match (pair.before, pair.after) {
            (Some(before), Some(after)) => match before.difference(after, new.policy()) {
                None => Change::Links,
                Some(Difference::Type) => Change::Type,
                Some(Difference::Content) => Change::Content,
                Some(Difference::Target) => Change::Target,
                Some(what) => Change::Metadata { what },
            },
            (Some(_), None) => Change::Removed,
            (None, after) => {
                added.extend(after.map(|node| (pair.path, node)));
                Change::Added
            }
        };
        described.insert(pair.path, (change, pair.before.and_then(size), pair.after.and_then(size)));
    }
    for (path, from) in origins(old, new, &added) {
        let size = old.get(from).and_then(size);
        let gone = described.get(from).is_some_and(|(change, ..)| *change == Change::Removed);
        let from_path = from.clone();
        let change = if gone { Change::Moved { from: from_path } } else { Change::Copied { from: from_path } };
        described.insert(path, (change, size, size));
        if gone {
            described.remove(from);
        }
    }
    let tell = |(path, (change, size_before, size_after)): (&TreePath, _)| Described {
        path: path.clone(),
        change,
        size_before,
        size_after,
    };
    described.into_iter().map(tell).collect()
}

fn size(node: &Node) -> Option<u64> {
    node.is_file().then(|| node.kind.size())
}

/// Where the content of added files comes from: the same name elsewhere first, then any file that is gone, each once,
/// then any other old file. Empty files have no origin.
fn origins<'a>(
    old: &'a Manifest,
    new: &Manifest,
    added: &[(&'a TreePath, &'a Node)],
) -> Vec<(&'a TreePath, &'a TreePath)> {
    let mut added: Vec<_> = added.iter().filter_map(|(path, node)| Some((*path, digest(node)?))).collect();
    // The old files of each content that is sought, last path first: taken from the end.
    let mut sought: HashMap<Digest, Sources<'a>> =
        added.iter().map(|(_, digest)| (*digest, Sources::default())).collect();
    for Entry { path, node } in old.entries().iter().rev() {
        let Some(sources) = digest(node).and_then(|digest| sought.get_mut(&digest)) else { continue };
        sources.first = Some(path);
        if new.get(path).is_none() {
            sources.gone.push(path);
            sources.named.entry(path.name()).or_default().push(path);
        }
    }
    let mut found = Vec::new();
    added.retain(|(path, digest)| {
        let origin = sought.get_mut(digest).and_then(|sources| sources.named.get_mut(path.name())?.pop());
        found.extend(origin.map(|from| (*path, from)));
        origin.is_none()
    });
    let used: std::collections::HashSet<&TreePath> = found.iter().map(|(_, from)| *from).collect();
    for (path, digest) in added {
        let Some(sources) = sought.get_mut(&digest) else { continue };
        while sources.gone.last().is_some_and(|from| used.contains(from)) {
            sources.gone.pop();
        }
        found.extend(sources.gone.pop().or(sources.first).map(|from| (path, from)));
    }
    found
}

/// Old files of one content.
#[derive(Default)]
struct Sources<'a> {
    first: Option<&'a TreePath>,
    gone: Vec<&'a TreePath>,
    named: HashMap<&'a [u8], Vec<&'a TreePath>>,
}

fn digest(node: &Node) -> Option<Digest> {
    match &node.kind {
        Kind::File { size, digest } if *size > 0 => Some(*digest),
        _ => None,
    }
}

/// One path of either manifest, and what both hold there.
struct Pair<'a> {
    path: &'a TreePath,
    before: Option<&'a Node>,
    after: Option<&'a Node>,
}

impl Pair<'_> {
    fn differs(&self, new: &Manifest) -> bool {
        match (self.before, self.after) {
            (Some(before), Some(after)) => !before.matches(after, new.policy()) || before.leader != after.leader,
            _ => true,
        }
    }
}

/// All paths of two manifests, in order.
fn pairs<'a>(old: &'a Manifest, new: &'a Manifest) -> impl Iterator<Item = Pair<'a>> {
    let (mut old, mut new) = (old.entries().iter().peekable(), new.entries().iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some(before), Some(after)) => before.path.cmp(&after.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let path = &before.or(after)?.path;
        Some(Pair { path, before: before.map(|entry| &entry.node), after: after.map(|entry| &entry.node) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::v1::{
        decode_manifest, decode_manifest_delta, encode_manifest, encode_manifest_delta, manifest_delta_length,
        tree_digest,
    };
    use crate::model::Policy;
    use crate::tree::testing::{any_manifest, manifest_of, path};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_changes_make_the_new_tree_of_the_old_one((old, new) in (any_manifest(), any_manifest())) {
            let changes = changes(&old, &new);
            prop_assert!(changes.windows(2).all(|pair| pair[0].path < pair[1].path));
            for change in &changes {
                prop_assert_ne!(old.get(&change.path), change.after.as_ref(), "{} does not change", change.path);
            }
            if old.policy() == new.policy() {
                let wire = changes.iter().map(|change| (&change.path, change.after.as_ref()));
                let bytes = encode_manifest_delta(new.policy(), wire.clone());
                prop_assert_eq!(manifest_delta_length(wire), bytes.len() as u64);
                let (_, read) = decode_manifest_delta(&bytes).unwrap();
                prop_assert_eq!(&read, &changes);
                let made = old.clone().with(read).unwrap();
                prop_assert_eq!(tree_digest(&made), tree_digest(&new));
                prop_assert!(super::changes(&made, &new).is_empty());
                // Fewer do not do: without any one of them the tree is another one, or none.
                for left_out in 0..changes.len().min(8) {
                    let mut fewer = changes.clone();
                    fewer.remove(left_out);
                    let made = old.clone().with(fewer);
                    prop_assert!(made.map_or(true, |made| tree_digest(&made) != tree_digest(&new)));
                }
            }
        }

        #[test]
        fn equal_digests_and_no_changes_are_the_same_thing((old, new) in (any_manifest(), any_manifest())) {
            if old.policy() == new.policy() {
                prop_assert_eq!(changes(&old, &new).is_empty(), tree_digest(&old) == tree_digest(&new));
            }
            prop_assert!(changes(&new, &new).is_empty());
            prop_assert_eq!(decode_manifest(&encode_manifest(&new)).unwrap(), new);
        }

        #[test]
        fn every_changed_path_is_told_once((old, new) in (any_manifest(), any_manifest())) {
            let told = describe(&old, &new);
            prop_assert!(told.windows(2).all(|pair| pair[0].path < pair[1].path));
            let mut paths: Vec<&TreePath> = told.iter().map(|told| &told.path).collect();
            paths.extend(told.iter().filter_map(|told| match &told.change {
                Change::Moved { from } => Some(from),
                _ => None,
            }));
            paths.sort();
            let changes = changes(&old, &new);
            prop_assert_eq!(paths, changes.iter().map(|change| &change.path).collect::<Vec<_>>());
        }
    }

    fn told(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<(String, Change)> {
        let told = describe(&manifest_of(old), &manifest_of(new));
        told.into_iter().map(|told| (told.path.to_string(), told.change)).collect()
    }

    #[test]
    fn moves_and_copies_are_told_by_content() {
        let moved = |from| Change::Moved { from: path(from) };
        let copied = |from| Change::Copied { from: path(from) };
        assert_eq!(told(&[("a", "=x")], &[("b", "=x")]), [("b".into(), moved("a"))]);
        assert_eq!(told(&[("a", "=x")], &[("a", "=x"), ("b", "=x")]), [("b".into(), copied("a"))]);
        let both = told(&[("a", "=x"), ("z", "=x")], &[("d", "/"), ("d/z", "=x"), ("e", "=x"), ("f", "=x")]);
        let expected = [
            ("d".into(), Change::Added),
            ("d/z".into(), moved("z")),
            ("e".into(), moved("a")),
            ("f".into(), copied("a")),
        ];
        assert_eq!(both, expected, "the same name first, then any, then copies");
        let empty = told(&[("a", "=")], &[("b", "=")]);
        assert_eq!(empty, [("a".into(), Change::Removed), ("b".into(), Change::Added)]);
    }

    #[test]
    fn every_kind_of_change_has_its_word() {
        let old = [("a", "/"), ("b", "=1"), ("c", "=1"), ("f", "@x"), ("g", "=2"), ("h", "=2"), ("i", "=3")];
        let new = [("a", "=9"), ("b", "=2"), ("c", "=1!"), ("f", "@y"), ("g", "=2"), ("h", ">g"), ("k", "/")];
        let expected = [
            ("a", Change::Type),
            ("b", Change::Content),
            ("c", Change::Metadata { what: Difference::Mode }),
            ("f", Change::Target),
            ("h", Change::Links),
            ("i", Change::Removed),
            ("k", Change::Added),
        ];
        assert_eq!(told(&old, &new), expected.map(|(path, change)| (path.to_owned(), change)));
    }

    #[test]
    fn a_description_is_flat_json() {
        let told = describe(&manifest_of(&[("a", "=xy")]), &manifest_of(&[("b", "=xy")]));
        let json = serde_json::to_value(&told).unwrap();
        let expected = serde_json::json!([
            { "path": "b", "change": "moved", "from": "a", "size_before": 2, "size_after": 2 },
        ]);
        assert_eq!(json, expected);
    }

    #[test]
    fn what_does_not_count_is_no_change() {
        let at = |seconds| {
            let mut entries = manifest_of(&[("a", "=x")]).entries().to_vec();
            entries[1].node.metadata.mtime.seconds = seconds;
            move |mtime| Manifest::new(Policy { owner: false, mtime }, entries.clone()).unwrap()
        };
        assert!(changes(&at(1)(true), &at(2)(false)).is_empty(), "the policy of the new one counts");
        assert_eq!(changes(&at(1)(false), &at(2)(true)).len(), 1);
    }
}

//! Packages of random trees.

use super::*;
use crate::codec::v1::tree_digest;
use crate::error::Code;
use crate::model::*;
use crate::package::{Level, Package, Promise, Source, Start};
use crate::trust::{Keyring, SecretKey};
use crate::vfs::SimVfs;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

/// The contents of a tree, by path.
#[derive(Clone, Debug, Default)]
struct Contents(BTreeMap<Vec<u8>, Vec<u8>>);

impl Contents {
    /// A disk that holds them.
    fn disk(&self) -> SimVfs {
        let disk = SimVfs::new();
        for (path, bytes) in &self.0 {
            disk.write_file(std::str::from_utf8(path).unwrap(), bytes);
        }
        disk
    }
}

/// What a path of a test tree holds.
#[derive(Clone, Debug)]
enum Item {
    Directory,
    Link(String),
    File(Vec<u8>, u32),
    /// Another name of the first file of the tree.
    Twin,
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A manifest and its contents. Paths below something that is no directory are left out.
fn tree(items: &BTreeMap<String, Item>) -> (Manifest, Contents) {
    let node = |kind, mode| Node::new(kind, Metadata { mode, ..Metadata::default() });
    let mut sorted: Vec<_> = items.iter().map(|(name, item)| (path(name), item)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut entries = vec![Entry { path: TreePath::root(), node: node(Kind::Directory, 0o755) }];
    let mut contents = Contents::default();
    let mut first: Option<(Entry, Vec<u8>)> = None;
    for (path, item) in sorted {
        let parent = path.parent().unwrap();
        if !entries.iter().any(|entry| entry.path == parent && entry.node.is_directory()) {
            continue;
        }
        let node = match (item, &first) {
            (Item::Directory, _) => node(Kind::Directory, 0o755),
            (Item::Link(target), _) => node(Kind::Symlink { target: target.as_bytes().into() }, 0o777),
            (Item::Twin, None) => continue,
            (Item::Twin, Some((leader, bytes))) => {
                contents.0.insert(path.as_bytes().into(), bytes.clone());
                Node { leader: Some(leader.path.clone()), ..leader.node.clone() }
            }
            (Item::File(bytes, mode), _) => {
                contents.0.insert(path.as_bytes().into(), bytes.clone());
                let node = node(Kind::File { size: bytes.len() as u64, digest: Digest::of(bytes) }, *mode);
                first.get_or_insert((Entry { path: path.clone(), node: node.clone() }, bytes.clone()));
                node
            }
        };
        entries.push(Entry { path, node });
    }
    (Manifest::new(Policy::default(), entries).unwrap(), contents)
}

fn tree_of(items: &[(&str, Item)]) -> (Manifest, Contents) {
    tree(&items.iter().map(|(name, item)| ((*name).to_string(), item.clone())).collect())
}

fn file(text: &str) -> Item {
    Item::File(text.into(), 0o644)
}

fn key() -> SecretKey {
    SecretKey::generate([5; 32])
}

fn options<'a>(signers: &'a [&'a SecretKey]) -> Options<'a> {
    Options { to: "1.0.1".into(), level: Level::Fast, signers, ..Options::default() }
}

fn patch(old: &Manifest, new: &(Manifest, Contents)) -> (BuildReport, Vec<u8>) {
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    let report =
        build_patch(("1.0.0", old), (&new.0, &new.1.disk()), &options(&[&key()]), &mut spool, &mut out).unwrap();
    assert_eq!(report.written.bytes, out.len() as u64);
    (report, out)
}

fn full(new: &(Manifest, Contents)) -> Vec<u8> {
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    build_full(&new.0, &new.1.disk(), &options(&[&key()]), &mut spool, &mut out).unwrap();
    out
}

/// Applies a package to a tree in memory, as its promise says.
fn apply(package: &[u8], old: &(Manifest, Contents)) -> (Promise, Manifest, Contents) {
    let mut keyring = Keyring::new();
    keyring.insert(key().public()).unwrap();
    let (promise, mut payload) = Package::open(package).unwrap().verify(&keyring).unwrap().into_payload();
    let (base, mut contents) = match promise.head().start {
        Start::Anything => (None, Contents::default()),
        Start::Base { .. } => (Some(old.0.clone()), old.1.clone()),
    };
    let mut new = BTreeMap::new();
    while let Some(mut content) = payload.next_content().unwrap() {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        new.insert(content.change(), bytes);
    }
    for (index, change) in promise.changes().iter().enumerate() {
        let bytes = match &change.after {
            Some((_, Source::Base(path))) => old.1.0[path.as_bytes()].clone(),
            Some((_, Source::Change(earlier))) => new[earlier].clone(),
            _ => continue,
        };
        new.insert(index, bytes);
    }
    for (index, change) in promise.changes().iter().enumerate() {
        contents.0.remove(change.path.as_bytes());
        if let Some(bytes) = new.remove(&index) {
            contents.0.insert(change.path.as_bytes().into(), bytes);
        }
        if let Some((Node { leader: Some(leader), .. }, _)) = &change.after {
            let bytes = contents.0[leader.as_bytes()].clone();
            contents.0.insert(change.path.as_bytes().into(), bytes);
        }
    }
    let manifest = match base {
        None => promise.manifest().unwrap(),
        Some(base) => base
            .with(promise.changes().iter().map(|change| ManifestChange {
                path: change.path.clone(),
                after: change.after.as_ref().map(|(node, _)| node.clone()),
            }))
            .unwrap(),
    };
    assert_eq!(tree_digest(&manifest), promise.head().target);
    (promise, manifest, contents)
}

#[test]
fn what_the_base_has_is_not_sent() {
    let old = tree_of(&[
        ("a", file("kept")),
        ("b", file("moved away")),
        ("c", file("in two places")),
        ("d", file("in two places")),
        ("gone", file("moved, too")),
        ("mode", Item::File("script".into(), 0o644)),
    ]);
    let new = tree_of(&[
        ("a", file("kept")),
        ("c", file("changed")),
        ("d", file("in two places")),
        ("e", file("moved away")),
        ("f", file("in two places")),
        ("g", file("changed")),
        ("mode", Item::File("script".into(), 0o755)),
        ("n", file("new")),
        ("twin", Item::Twin),
    ]);
    let (report, package) = patch(&old.0, &new);
    let (promise, manifest, contents) = apply(&package, &old);
    assert_eq!((manifest, contents.0), (new.0, new.1.0));
    let sources: BTreeMap<_, _> = promise
        .changes()
        .iter()
        .map(|change| (change.path.to_string(), change.after.as_ref().map(|(_, source)| source.clone())))
        .collect();
    let expected: BTreeMap<_, _> = [
        ("b", None),
        ("c", Some(Source::Payload)),
        ("e", Some(Source::Base(path("b")))),
        ("f", Some(Source::Base(path("c")))),
        ("g", Some(Source::Change(1))),
        ("gone", None),
        ("mode", Some(Source::Base(path("mode")))),
        ("n", Some(Source::Payload)),
        ("twin", Some(Source::None)),
    ]
    .map(|(name, source)| (name.to_string(), source))
    .into();
    assert_eq!(sources, expected);
    let counts = (report.changes, report.added, report.removed, report.from_base, report.duplicates);
    assert_eq!(counts, (9, 5, 2, 3, 1));
    assert_eq!((report.written.contents, report.written.payload_bytes), (2, 10));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["bytes"], &json["duplicates"]), (&package.len().into(), &1.into()));
}

#[test]
fn a_move_is_taken_from_the_path_that_goes() {
    let old = tree_of(&[("a", file("same")), ("b", file("same")), ("c", file("same"))]);
    let new = tree_of(&[("a", file("same")), ("c", file("same")), ("d", file("same"))]);
    let (promise, ..) = apply(&patch(&old.0, &new).1, &old);
    let (_, source) = promise.changes()[1].after.as_ref().unwrap();
    assert_eq!((promise.changes().len(), source), (2, &Source::Base(path("b"))));
}

#[test]
fn a_tree_that_is_not_as_recorded_gives_no_package() {
    let old = tree_of(&[]);
    let mut new = tree_of(&[("a", file("one")), ("b", file("two"))]);
    let build = |new: &(Manifest, Contents)| {
        let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
        build_patch(("1.0.0", &old.0), (&new.0, &new.1.disk()), &options(&[]), &mut spool, &mut out)
            .map_err(|e| (e.code(), e.to_string()))
    };
    assert!(build(&new).is_ok());
    new.1.0.insert(b"b".to_vec(), b"TWO".to_vec());
    assert_eq!(build(&new), Err((Code::Foreign, "b was changed while the package was built".into())));
    new.1.0.remove(&b"b"[..]);
    assert_eq!(build(&new), Err((Code::Io, "reading b failed".into())));

    let other = Manifest::new(Policy { owner: true, mtime: false }, old.0.entries().to_vec()).unwrap();
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    let error = build_patch(("1", &other), (&new.0, &new.1.disk()), &options(&[]), &mut spool, &mut out).unwrap_err();
    assert_eq!(error.code(), Code::Usage);
}

fn items() -> impl Strategy<Value = BTreeMap<String, Item>> {
    let item = prop_oneof![
        2 => Just(Item::Directory),
        1 => "[a-c]{1,3}".prop_map(Item::Link),
        6 => ("[xyz]{0,3}", prop_oneof![Just(0o644_u32), Just(0o755)]).prop_map(|(text, mode)| Item::File(text.into(), mode)),
        1 => (any::<u8>(), 0_usize..100_000).prop_map(|(byte, size)| Item::File(vec![byte; size], 0o600)),
        1 => Just(Item::Twin),
    ];
    proptest::collection::btree_map("[a-d](/[a-d](/[a-d])?)?", item, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_package_makes_the_new_tree_of_the_old_one(old in items(), new in items()) {
        let (old, new) = (tree(&old), tree(&new));
        let (_, package) = patch(&old.0, &new);
        prop_assert_eq!(&package, &patch(&old.0, &new).1);
        let (_, manifest, contents) = apply(&package, &old);
        prop_assert_eq!((&manifest, &contents.0), (&new.0, &new.1.0));

        let (_, manifest, contents) = apply(&full(&new), &old);
        prop_assert_eq!((&manifest, &contents.0), (&new.0, &new.1.0));
    }
}

//! What goes into a patch, and what does not. That it makes the new tree is tested where there is a device to apply it.

use super::*;
use crate::error::Code;
use crate::model::*;
use crate::package::{Level, Package, Promise, Source};
use crate::trust::{Keyring, SecretKey};
use crate::vfs::SimVfs;
use std::collections::BTreeMap;
use std::io::Cursor;

type Tree = (Manifest, SimVfs);

/// A tree of files without directories, and a second name of its first file.
fn tree_of(files: &[(&str, &str, u32)], twin: bool) -> Tree {
    let disk = SimVfs::new();
    let metadata = |mode| Metadata { mode, ..Metadata::default() };
    let root = Entry { path: TreePath::root(), node: Node::new(Kind::Directory, metadata(0o755)) };
    let mut entries = vec![root];
    for (name, text, mode) in files {
        disk.write_file(name, text.as_bytes());
        let kind = Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
        entries.push(Entry { path: path(name), node: Node::new(kind, metadata(*mode)) });
    }
    if twin {
        let Entry { path: leader, node } = entries[1].clone();
        entries.push(Entry { path: path("twin"), node: Node { leader: Some(leader), ..node } });
    }
    (Manifest::new(Policy::default(), entries).unwrap(), disk)
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn key() -> SecretKey {
    SecretKey::generate([5; 32])
}

fn build(old: &Tree, new: &Tree) -> Result<(BuildReport, Vec<u8>), crate::Error> {
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    let key = key();
    let options = Options { to: "1.0.1".into(), level: Level::Fast, signers: &[&key], ..Options::default() };
    let report = build_patch(("1.0.0", &old.0, &old.1), (&new.0, &new.1), &options, &mut spool, &mut out)?;
    assert_eq!(report.written.bytes, out.len() as u64);
    Ok((report, out))
}

fn promise(package: &[u8]) -> Promise {
    let mut keyring = Keyring::new();
    keyring.insert(key().public()).unwrap();
    Package::open(package).unwrap().verify(&keyring).unwrap().promise().clone()
}

#[test]
fn what_the_base_has_is_not_sent() {
    let old = tree_of(
        &[
            ("a", "kept", 0o644),
            ("b", "moved away", 0o644),
            ("c", "in two places", 0o644),
            ("d", "in two places", 0o644),
            ("gone", "moved, too", 0o644),
            ("mode", "script", 0o644),
        ],
        false,
    );
    let new = tree_of(
        &[
            ("a", "kept", 0o644),
            ("c", "changed", 0o644),
            ("d", "in two places", 0o644),
            ("e", "moved away", 0o644),
            ("f", "in two places", 0o644),
            ("g", "changed", 0o644),
            ("mode", "script", 0o755),
            ("n", "new", 0o644),
        ],
        true,
    );
    let (report, package) = build(&old, &new).unwrap();
    assert_eq!(package, build(&old, &new).unwrap().1);
    let promise = promise(&package);
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
    let files: Vec<_> = report.files.iter().map(|file| (file.path.to_string(), file.size)).collect();
    assert_eq!(files, [("c".to_string(), 7), ("n".to_string(), 3)]);
    // Nothing is said that follows from the base and the payload.
    let unsaid = |change: &crate::package::Change| match change.node().map(|node| &node.kind) {
        Some(Kind::File { digest, .. }) => *digest == Digest::UNSAID,
        _ => true,
    };
    assert!(promise.changes().iter().all(unsaid));
}

#[test]
fn a_move_is_taken_from_the_path_that_goes() {
    let old = tree_of(&[("a", "same", 0o644), ("b", "same", 0o644), ("c", "same", 0o644)], false);
    let new = tree_of(&[("a", "same", 0o644), ("c", "same", 0o644), ("d", "same", 0o644)], false);
    let promise = promise(&build(&old, &new).unwrap().1);
    let (_, source) = promise.changes()[1].after.as_ref().unwrap();
    assert_eq!((promise.changes().len(), source), (2, &Source::Base(path("b"))));
}

#[test]
fn a_tree_that_is_not_as_recorded_gives_no_package() {
    let text = "a text that is long enough to be found again in a file like it\n".repeat(20);
    let old = tree_of(&[("a", &text, 0o644)], false);
    let new = tree_of(&[("a", &format!("{text}more"), 0o644), ("b", "two", 0o644)], false);
    let refused = |old: &Tree, new: &Tree| build(old, new).map(drop).map_err(|e| (e.code(), e.to_string()));
    assert_eq!(refused(&old, &new), Ok(()));
    let changed = |name: &str| Err((Code::Foreign, format!("{name} was changed while the package was built")));
    new.1.write_file("b", b"TWO");
    assert_eq!(refused(&old, &new), changed("b"));
    new.1.write_file("b", b"two");
    old.1.write_file("a", text.to_uppercase().into_bytes());
    assert_eq!(refused(&old, &new), changed("a"));
    old.1.write_file("a", text.clone().into_bytes());
    let short = tree_of(&[("a", &format!("{text}more"), 0o644)], false).1;
    assert_eq!(refused(&old, &(new.0.clone(), short)).unwrap_err().0, Code::Io);

    let other = Manifest::new(Policy { owner: true, mtime: false }, old.0.entries().to_vec()).unwrap();
    assert_eq!(refused(&(other, old.1.clone()), &new).unwrap_err().0, Code::Usage);
}

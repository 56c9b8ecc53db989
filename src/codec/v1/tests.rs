//! Golden bytes of nodes, entries, manifests and digests. A constant here never changes: it is the format.

use super::*;
use crate::model::{Manifest, ManifestChange, Metadata};

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn metadata(mode: u32) -> Metadata {
    Metadata { mode, uid: 1000, gid: 100, mtime: Time { seconds: -2, nanoseconds: 999_999_999 }, xattrs: vec![] }
}

fn sample(policy: Policy) -> Manifest {
    let directory = model::Node::new(model::Kind::Directory, metadata(0o755));
    let kind = model::Kind::File { size: 3, digest: Digest::of(b"abc") };
    let xattrs = vec![(b"user.k".as_slice().into(), b"v".as_slice().into())];
    let file = model::Node::new(kind, Metadata { xattrs, ..metadata(0o4644) });
    let second = model::Node { leader: Some(path("d/f")), ..file.clone() };
    let link = model::Node::new(model::Kind::Symlink { target: b"d/f".as_slice().into() }, metadata(0o777));
    let entry = |at, node| model::Entry { path: path(at), node };
    let entries = vec![
        entry("", directory.clone()),
        entry("d", directory),
        entry("d/f", file),
        entry("g\u{e9}", second),
        entry("l", link),
    ];
    Manifest::new(policy, entries).unwrap()
}

const BOTH: Policy = Policy { owner: true, mtime: true };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node_hex(node: &model::Node) -> String {
    let mut bytes = Vec::new();
    encode_into(&Node::from(node), &mut bytes);
    hex(&bytes)
}

#[test]
fn the_bytes_of_a_node_are_frozen() {
    let manifest = sample(BOTH);
    let node = |at| manifest.get(&path(at)).unwrap();
    let directory = concat!(
        "00000000",         // variant: directory
        "ed010000",         // mode
        "e8030000",         // owner
        "64000000",         // group
        "feffffffffffffff", // seconds
        "ffc99a3b",         // nanoseconds
        "0000000000000000", // no attributes
        "00",               // no leader
    );
    assert_eq!(node_hex(node("d")), directory);
    let file = concat!(
        "01000000",
        "0300000000000000",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "a4090000",
        "e8030000",
        "64000000",
        "feffffffffffffff",
        "ffc99a3b",
        "0100000000000000", // one attribute
        "0600000000000000", // length of its name
        "757365722e6b",     // user.k
        "0100000000000000", // length of its value
        "76",               // v
        "01",               // a leader
        "0300000000000000", // length of its path
        "642f66",           // d/f
    );
    assert_eq!(node_hex(node("g\u{e9}")), file);
    let link = concat!(
        "02000000",
        "0300000000000000",
        "642f66",
        "ff010000",
        "e8030000",
        "64000000",
        "feffffffffffffff",
        "ffc99a3b",
        "0000000000000000",
        "00",
    );
    assert_eq!(node_hex(node("l")), link);
}

#[test]
fn the_bytes_of_a_manifest_are_frozen() {
    let manifest = sample(BOTH);
    let bytes = encode_manifest(&manifest);
    let start = concat!(
        "53464d414e494631", // SFMANIF1
        "03",               // owner and time count
        "00",               // no delta
        "0500000000000000", // five entries
        "0000000000000000", // length of the first path: the root
        "01",               // it has a node
    );
    assert_eq!(hex(&bytes[..27]), start);
    let second = concat!("0100000000000000", "64", "01");
    assert_eq!(hex(&bytes[27 + 37..][..10]), second);
    assert_eq!((bytes.len(), Digest::of(&bytes).to_string().as_str()), (MANIFEST_LENGTH, MANIFEST_SHA256));
    assert_eq!(decode_manifest(&bytes).unwrap(), manifest);

    let node = manifest.get(&path("l")).cloned();
    let changes = [ManifestChange { path: path("l"), after: node }, ManifestChange { path: path("z"), after: None }];
    let bytes = encode_manifest_delta(Policy::default(), changes.iter().map(|c| (&c.path, c.after.as_ref())));
    assert_eq!(hex(&bytes[..18]), "53464d414e49463100010200000000000000");
    assert_eq!(hex(&bytes[bytes.len() - 10..]), "01000000000000007a00", "a path that is gone");
    assert_eq!(decode_manifest_delta(&bytes).unwrap(), (Policy::default(), changes.to_vec()));
    assert!(decode_manifest(&bytes).is_err(), "a delta is no manifest");
}

#[test]
fn the_digests_of_trees_and_nodes_are_frozen() {
    let digests = [0, 1, 2, 3].map(|bits| tree_digest(&sample(Policy::from_bits(bits).unwrap())).to_string());
    assert_eq!(digests, TREE_SHA256);
    let manifest = sample(BOTH);
    let node = manifest.get(&path("d/f")).unwrap();
    assert_eq!([node_digest(node, BOTH), node_digest(node, Policy::default())].map(|d| d.to_string()), NODE_SHA256);

    // The layout, spelled out once by hand: domain, policy, count, and the entries of the file without what is left out.
    let mut bytes = b"surefoot tree v1\0\x00".to_vec();
    bytes.extend_from_slice(&5_u64.to_le_bytes());
    for entry in sample(Policy::default()).entries() {
        let mut node = entry.node.clone();
        (node.metadata.uid, node.metadata.gid, node.metadata.mtime) = (0, 0, Time::default());
        encode_into(&(entry.path.as_bytes(), Some(Node::from(&node))), &mut bytes);
    }
    assert_eq!(Digest::of(&bytes).to_string(), TREE_SHA256[0]);
}

const MANIFEST_LENGTH: usize = 404;
const MANIFEST_SHA256: &str = "5389cf960dddcb9aca3e9d3d97e8564d3afb663d4c5259934cf5142470d590ce";
/// By the bits of the policy.
const TREE_SHA256: [&str; 4] = [
    "98f18a5cfe58ad37fa5b21eb3b4fcf959dcedb337b5997398fbe184e838bbfb7",
    "c79b45426922de4d2efa63333be83e9aa3d5eb4f6e74ebc2d01c9469ae04a4bf",
    "fbfc0535f4543f32c0b1ca49586516177aaf18bc470c33b5aff8baf5203b21b2",
    "a6bbc97be05e5c167ffc5ef93c0885807643753cc12c2088b3a5776b44dcb523",
];
/// Under the policies 3 and 0.
const NODE_SHA256: [&str; 2] = [
    "d019a892866c9e90bd45e14aadf5a34e2a25cc6d61d8642c4d8a06eb7ccfa1e1",
    "6c4280ae29816765f5262245795e48c76a1ab1811f035bd57d5b5048fb744d2d",
];

#[test]
fn every_cut_of_a_manifest_and_every_byte_too_many_is_refused() {
    let bytes = encode_manifest(&sample(BOTH));
    for length in 0..bytes.len() {
        assert!(decode_manifest(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(decode_manifest(&[bytes.clone(), vec![0]].concat()), Err(DecodeError::Trailing(1)));
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0xff;
        if let Ok(read) = decode_manifest(&other) {
            assert_eq!(encode_manifest(&read), other, "byte {at}: what is read is what is written");
        }
    }
}

#[test]
fn a_count_that_lies_takes_no_memory() {
    for entries in [6, limits::ENTRIES as u64, limits::ENTRIES as u64 + 1, u64::MAX] {
        let mut bytes = encode_manifest(&sample(BOTH));
        bytes[10..18].copy_from_slice(&entries.to_le_bytes());
        assert!(decode_manifest(&bytes).is_err(), "{entries}");
    }
}

#[test]
fn nodes_that_cannot_be_are_refused() {
    let manifest = sample(BOTH);
    let wire = |at| Node::from(manifest.get(&path(at)).unwrap());
    type Spoil = fn(&mut Node);
    let changes: [(&str, &str, Spoil); 13] = [
        ("mode", "d", |node| node.mode = 0o10000),
        ("time", "d", |node| node.mtime_nanoseconds = 1_000_000_000),
        ("owner", "d", |node| node.uid = u32::MAX),
        ("group", "d", |node| node.gid = u32::MAX),
        ("empty target", "l", |node| node.kind = Kind::Symlink(vec![])),
        ("long target", "l", |node| node.kind = Kind::Symlink(vec![b'x'; limits::LINK_TARGET_BYTES + 1])),
        ("target with NUL", "l", |node| node.kind = Kind::Symlink(vec![b'x', 0])),
        ("mode of a link", "l", |node| node.mode = 0o755),
        ("attributes of a link", "l", |node| node.xattrs = vec![(b"user.k".to_vec(), vec![])]),
        ("linked directory", "d", |node| node.leader = Some(b"a".to_vec())),
        ("leader outside", "d/f", |node| node.leader = Some(b"../a".to_vec())),
        ("attribute twice", "d/f", |node| node.xattrs = vec![node.xattrs[0].clone(), node.xattrs[0].clone()]),
        ("attribute too long", "d/f", |node| node.xattrs[0].1 = vec![0; limits::XATTR_VALUE_BYTES + 1]),
    ];
    for (what, at, change) in changes {
        let mut node = wire(at);
        assert!(model::Node::try_from(node.clone()).is_ok());
        change(&mut node);
        assert!(model::Node::try_from(node).is_err(), "{what}");
    }
}

#[test]
fn the_shortest_entry_is_as_short_as_said() {
    let manifest = sample(BOTH);
    let mut bytes = Vec::new();
    encode_into(&Entry { path: vec![], node: Some(Node::from(&manifest.entries()[0].node)) }, &mut bytes);
    assert_eq!(bytes.len(), SHORTEST_ENTRY);
}

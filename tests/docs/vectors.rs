//! The test vectors of `docs/formats/`, made by the code and read back by it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use surefoot::codec::frame::Header;
use surefoot::codec::v1::{self, Record, Recovery, Work};
use surefoot::codec::{decode, encode};
use surefoot::device::{Config, HistoryEntry};
use surefoot::journal::scan_bytes;
use surefoot::limits::{JOURNAL_BLOCK, JOURNAL_BLOCKS};
use surefoot::model::{
    BlockMap, Digest, Entry, Kind, Manifest, ManifestChange, Metadata, Node, PatchPackageInfo, Policy, Time, TreePath,
};
use surefoot::package::{Change, Codec, Head, Level, Outline, Package, Source, Start, write_package, write_patch};
use surefoot::repository::{Key, Release, Signed, Target, Timestamp, sign};
use surefoot::transaction::{Method, Plan, Step};
use surefoot::trust::{Keyring, PublicKey, SecretKey};

const POLICY: Policy = Policy { owner: true, mtime: true };
const TRANSACTION: [u8; 16] = *b"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
const BASE: [u8; 16] = *b"\x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f";
const SESSION: [u8; 16] = *b"\x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\x3c\x3d\x3e\x3f";
const JOURNAL: [u8; 16] = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";

/// Every vector as it stands in its document, by name.
pub(super) fn all() -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    manifests(&mut out);
    journal(&mut out);
    plan(&mut out);
    generation(&mut out);
    keys_and_packages(&mut out);
    index(&mut out);
    out.extend(super::delta::all().map(|(name, bytes)| (name, hex(&bytes))));
    download(&mut out);
    texts(&mut out);
    repository(&mut out);
    out
}

fn manifests(out: &mut BTreeMap<&'static str, String>) {
    let manifest = sample(POLICY);
    let bytes = v1::encode_manifest(&manifest);
    assert_eq!(v1::decode_manifest(&bytes).unwrap(), manifest);
    out.insert("manifest", hex(&bytes));
    let digest = |bits| v1::tree_digest(&sample(Policy::from_bits(bits).unwrap()));
    let digests = (0..4).fold(String::new(), |text, bits| text + &format!("policy {bits}: {}\n", digest(bits)));
    out.insert("tree-digests", digests);
    let node = manifest.get(&path("d/f")).unwrap();
    out.insert("node-digest", format!("{}\n", v1::node_digest(node, POLICY)));

    let changes = [
        ManifestChange { path: path("d/f"), after: None },
        ManifestChange { path: path("g"), after: Some(Node { leader: None, ..node.clone() }) },
    ];
    let bytes = v1::encode_manifest_delta(POLICY, changes.iter().map(|change| (&change.path, change.after.as_ref())));
    assert_eq!(v1::decode_manifest_delta(&bytes).unwrap(), (POLICY, changes.to_vec()));
    assert!(v1::decode_manifest(&bytes).is_err());
    out.insert("manifest-delta", hex(&bytes));
    let after = manifest.with(changes).unwrap();
    out.insert("tree-digest-after-delta", format!("{}\n", v1::tree_digest(&after)));
}

fn repository(out: &mut BTreeMap<&'static str, String>) {
    let release = crate::repository::release("1.0.0", b"abc");
    assert_eq!(Release::read("any/1.0.0/full.sf", &release.to_target()).unwrap(), Some(release.clone()));
    out.insert("repository-target", format!("{}\n", serde_json::to_string(&release.to_target()).unwrap()));
    let mut large = crate::repository::release("1.0.0", &[7; 65_537]);
    large.blocks = BlockMap::of(65_536, &[7; 65_537]);
    assert_eq!(Release::read("any/1.0.0/full.sf", &large.to_target()).unwrap(), Some(large.clone()));
    let blocks = &large.to_target().custom.unwrap()["surefoot"]["blocks"];
    out.insert("repository-blocks", format!("{}\n", serde_json::to_string(blocks).unwrap()));
    let of_another_length = Target { length: 131_073, ..large.to_target() };
    assert!(Release::read("any/1.0.0/full.sf", &of_another_length).is_err());
    let timestamp: Timestamp = serde_json::from_str(
        r#"{"_type":"timestamp","spec_version":"1.0.31","version":1,"expires":"2030-01-01T00:00:00Z",
            "x-surefoot-signed":"2029-12-02T00:00:00Z","meta":{"snapshot.json":{"version":1}}}"#,
    )
    .unwrap();
    let key = SecretKey::generate([7; 32]);
    let bytes = sign(&timestamp, &[&key]).unwrap();
    let read: Signed<Timestamp> = Signed::parse("timestamp.json", &bytes).unwrap();
    assert!(read.body == timestamp && read.is_signed_by(&Key::ed25519(&key.public())));
    out.insert("repository-timestamp", format!("{}\n", String::from_utf8(bytes).unwrap()));
}

fn journal(out: &mut BTreeMap<&'static str, String>) {
    let header = Header { journal: JOURNAL, epoch: 5, current: BASE };
    assert_eq!(Header::decode(&header.encode()), Some(header));
    out.insert("journal-header", hex(&header.encode()));

    let records = [
        ("journal-record-begin", begin()),
        ("journal-record-prepared", Record::Prepared { plan: Digest::of(b"").0, plan_size: 300, steps: 3 }),
        ("journal-record-started", Record::Started),
        ("journal-record-applied", Record::Applied { session: SESSION }),
        ("journal-record-trying", Record::Trying { attempt: 1, session: TRANSACTION }),
        ("journal-record-confirmed", Record::Confirmed),
        ("journal-record-revert", Record::Revert { cause: "requested".into(), detail: "why".into() }),
        ("journal-record-reverted", Record::Reverted),
        ("journal-record-end", Record::End),
    ];
    let mut file = vec![0; JOURNAL_BLOCK * JOURNAL_BLOCKS];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(header.offset(), &header.encode());
    let (mut previous, mut payloads) = (0, Vec::new());
    for (index, (name, record)) in (0..).zip(&records) {
        let payload = encode(record);
        assert_eq!(&decode::<Record>(&payload).unwrap(), record);
        let durable = if index < 2 { 0 } else { 2 };
        let (frame, checksum) = header.encode_frame(index, previous, durable, &payload);
        assert_eq!(header.decode_frame(index, &frame).unwrap().payload, payload);
        put(header.frame_offset(index), &frame);
        match index {
            0 => _ = out.insert("journal-frame-0", hex(&frame)),
            1 => _ = out.insert("journal-frame-1", hex(&frame)),
            2 => _ = out.insert("journal-frame-2", hex(&frame)),
            _ => {}
        }
        out.insert(name, hex(&payload));
        previous = checksum;
        payloads.push(payload);
    }
    let found = scan_bytes(&file).unwrap();
    assert_eq!((found.header, found.payloads), (header, payloads));
}

fn begin() -> Record {
    Record::Begin {
        transaction: TRANSACTION,
        base: BASE,
        target: TRANSACTION,
        work: Work::Apply,
        trial: true,
        attempts: 3,
        recovery: Recovery::Forward,
        session: SESSION,
        time: 1_700_000_000,
        title: "1 -> 2".into(),
    }
}

fn plan(out: &mut BTreeMap<&'static str, String>) {
    let step = |at: &str, slot, before: Option<Node>, after: Option<Node>| Step {
        root: 0,
        path: path(at),
        slot,
        in_place: false,
        before_inode: if before.is_some() { 100 + u64::from(slot) } else { 0 },
        after_inode: if after.is_some() { 200 + u64::from(slot) } else { 0 },
        before,
        after,
    };
    let link = Node::new(Kind::Symlink { target: b"d/f".as_slice().into() }, metadata(0o777));
    let directory = |mode| Some(Node::new(Kind::Directory, metadata(mode)));
    let plan = Plan {
        transaction: TRANSACTION,
        slots: TRANSACTION,
        method: Method::Exchange,
        policy: POLICY,
        state: Some(Digest::of(b"the bytes of a generation")),
        manifest: None,
        steps: vec![
            step("l", 2, Some(link), None),
            step("d/f", 1, Some(file(b"abc")), Some(file(b"abcd"))),
            Step { in_place: true, after_inode: 0, ..step("d", 0, directory(0o755), directory(0o700)) },
        ],
    };
    let (bytes, digest) = plan.encode();
    assert_eq!(Plan::decode(&bytes).unwrap(), plan);
    out.insert("plan", hex(&bytes));
    out.insert("plan-digest", format!("{digest}\n"));
}

fn generation(out: &mut BTreeMap<&'static str, String>) {
    let generation = v1::Generation {
        magic: v1::GENERATION_MAGIC,
        id: TRANSACTION,
        parent: Some(BASE),
        version: "2.0.0".into(),
        digest: Some(v1::tree_digest(&sample(POLICY)).0),
        manifests: vec![BASE, TRANSACTION],
        policy: POLICY.bits(),
        time: 1_700_000_000,
        title: "1 -> 2".into(),
    };
    let bytes = encode(&generation);
    assert_eq!(decode::<v1::Generation>(&bytes).unwrap(), generation);
    out.insert("generation", hex(&bytes));
}

fn keys_and_packages(out: &mut BTreeMap<&'static str, String>) {
    let key = SecretKey::generate([7; 32]);
    assert_eq!(SecretKey::from_pem(&key.to_pem()).unwrap().public(), key.public());
    assert_eq!(PublicKey::from_pem(&key.public().to_pem()).unwrap(), key.public());
    out.insert("key-secret", key.to_pem().to_string());
    out.insert("key-public", key.public().to_pem());
    out.insert("key-name", format!("{}\n", key.public().id()));
    out.insert("plain-signature", format!("{}\n", key.sign(b"", b"the bytes of a package")));

    let tree = sample(POLICY);
    let all = tree.entries().iter().map(|Entry { path, node }| {
        let source = if node.is_file() && node.leader.is_none() { Source::Payload } else { Source::None };
        Change { path: path.clone(), before: None, after: Some((node.clone(), source)) }
    });
    let full = package(Start::Anything, v1::tree_digest(&tree), all.collect(), &key);
    out.insert("package-manifest-full", hex(&manifest_of(&full)));
    out.insert("package-full", hex(&full));
    out.insert("package-name", format!("{}\n", Digest::of(&manifest_of(&full))));

    let node = tree.get(&path("d/f")).unwrap().clone();
    let print = Some(v1::node_digest(&node, POLICY).fingerprint());
    let second = tree.get(&path("g")).unwrap();
    let changes = vec![
        Change { path: path("d/f"), before: print, after: None },
        Change {
            path: path("g"),
            before: Some(v1::node_digest(second, POLICY).fingerprint()),
            after: Some((Node { leader: None, ..node.clone() }, Source::Base(path("d/f")))),
        },
        Change { path: path("h"), before: None, after: Some((file(b"abcabc!"), Source::Payload)) },
    ];
    let delta =
        changes.iter().map(|change| ManifestChange { path: change.path.clone(), after: change.node().cloned() });
    let target = v1::tree_digest(&tree.clone().with(delta).unwrap());
    let start = Start::Base { version: "2.0.0".into(), digest: v1::tree_digest(&tree) };
    let unsaid = |mut change: Change| {
        if let Some((Node { kind: Kind::File { digest, .. }, .. }, _)) = &mut change.after {
            *digest = Digest::UNSAID;
        }
        change
    };
    let patch = package(start, target, changes.into_iter().map(unsaid).collect(), &key);
    out.insert("package-manifest-patch", hex(&manifest_of(&patch)));
    out.insert("package-patch", hex(&patch));
}

/// The segment of the patch: twice the old file, and a literal.
fn twice() -> Vec<u8> {
    use surefoot::codec::segment::{Lengths, encode};
    use surefoot::model::{Coder, Extent, Method, Pack, Segment, Source};

    struct Files;
    impl Lengths for Files {
        fn old_length(&self, file: u32) -> Option<u64> {
            (file == 0).then_some(3)
        }
        fn new_length(&self, file: u32) -> Option<u64> {
            (file == 0).then_some(7)
        }
    }

    let streams: [&[u8]; 5] = [&[0, 3, 0, 3], &[0, 5], &[], &[], b"!"];
    let pack = |stream: &&[u8]| Pack { coder: Coder::Stored, length: stream.len() as u64 };
    let segment = Segment {
        method: Method::Cover,
        outputs: vec![Extent { file: 0, offset: 0, length: 7 }],
        sources: vec![Source { extent: Extent { file: 0, offset: 0, length: 3 }, view: None }],
        streams: streams.iter().map(|stream| stream.len() as u64).collect(),
        packs: streams.iter().filter(|stream| !stream.is_empty()).map(pack).collect(),
        joined: false,
        assembled: false,
        code: false,
    };
    [encode(&segment, &Files), streams.concat()].concat()
}

/// A package; it is read back and its signature verified.
fn package(start: Start, target: Digest, changes: Vec<Change>, key: &SecretKey) -> Vec<u8> {
    let patch = start != Start::Anything;
    let to = if patch { "2.0.1" } else { "2.0.0" };
    let head =
        Head { start, to: to.into(), target, architecture: Some("x86_64".into()), policy: POLICY, notes: "".into() };
    let mut bytes = Vec::new();
    let mut spool = Cursor::new(Vec::new());
    let mut open = |_: &Change| -> std::io::Result<Box<dyn Read>> { Ok(Box::new(&b"abc"[..])) };
    let outline = Outline { head, changes };
    if patch {
        let pieces = [(Codec::Delta, 7, twice())];
        write_patch(&mut bytes, &mut spool, outline, (pieces.into_iter(), 1 << 20), Level::Fast, &[key]).unwrap();
    } else {
        write_package(
            &mut bytes,
            &mut spool,
            outline,
            &mut open,
            (Level::Fast, surefoot::limits::SEGMENT_BYTES),
            &[key],
        )
        .unwrap();
    }
    let mut keyring = Keyring::new();
    keyring.insert(key.public()).unwrap();
    let verified = Package::open(bytes.as_slice()).unwrap().verify(&keyring).unwrap();
    assert_eq!(verified.id(), Digest::of(&manifest_of(&bytes)));
    if patch {
        let (promise, mut segments) = verified.into_segments();
        assert_eq!(promise.contents().map(|content| content.size).sum::<u64>(), 7);
        assert_eq!(segments.next_segment().unwrap().unwrap().1, twice());
        assert!(segments.next_segment().unwrap().is_none());
        return bytes;
    }
    let (promise, mut payload) = verified.into_payload();
    while let Some(mut content) = payload.next_content().unwrap() {
        let mut read = Vec::new();
        content.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abc");
    }
    assert!(promise.contents().count() <= 1);
    bytes
}

/// The manifest of a package: one frame of zstd, behind the magic, the number of the format and its length.
fn manifest_of(package: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(package[10..14].try_into().unwrap());
    zstd::decode_all(&package[14..][..length as usize]).unwrap()
}

fn download(out: &mut BTreeMap<&'static str, String>) {
    let header = v1::Download {
        magic: v1::DOWNLOAD_MAGIC,
        nonce: TRANSACTION,
        piece: 65_536,
        length: Some(100_000),
        digest: Some(Digest::of(b"abc").0),
        blocks: None,
        address: Digest::of(b"https://example.org/p").0,
        tag: Some("\"1f-a\"".into()),
        label: "1.2.3.4".into(),
    };
    let block = header.encode_block();
    assert_eq!(v1::Download::decode_block(&block).as_ref(), Ok(&header));
    let used = block.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    out.insert("download-header", hex(&block[..used]));
    out.insert("download-entry", hex(&header.entry(1, 0x0102_0304)));
}

fn index(out: &mut BTreeMap<&'static str, String>) {
    let entry = v1::IndexEntry {
        key: v1::index_key(&path("d/f")),
        size: 3,
        mtime: (1_700_000_000, 500),
        ctime: (1_700_000_001, 0),
        inode: 42,
        digest: Digest::of(b"abc").0,
    };
    let bytes = v1::encode_index([entry.clone()].into_iter());
    assert_eq!(v1::decode_index(&bytes, |entry| entry).unwrap(), [entry]);
    out.insert("index", hex(&bytes));
}

fn texts(out: &mut BTreeMap<&'static str, String>) {
    let config =
        Config { owner: true, keys: vec![SecretKey::generate([7; 32]).public().to_pem()], ..Config::default() };
    out.insert("config", serde_json::to_string_pretty(&config).unwrap() + "\n");
    let entry = HistoryEntry {
        transaction: "101112131415161718191a1b1c1d1e1f".into(),
        time: 1_700_000_000,
        work: "apply".into(),
        from: "1.0.0".into(),
        to: "2.0.0".into(),
        outcome: "restored".into(),
        cause: "requested: rolled back on request".into(),
        title: "1.0.0 -> 2.0.0".into(),
    };
    out.insert("history", serde_json::to_string(&entry).unwrap() + "\n");

    let mut info = PatchPackageInfo { url: "app-1.2.3.4.tar.gz".into(), ..PatchPackageInfo::default() };
    info.set_digest(Digest::of(b"the bytes of a package"));
    info.set_signature(&SecretKey::generate([7; 32]).sign(b"", b"the bytes of a package").0);
    info.operations.replace.files = vec!["app.jar".into(), "config.yml".into()];
    info.operations.replace.directories = vec!["front/".into()];
    info.operations.delete.directories = vec!["old/front/".into()];
    info.operations.validate().unwrap();
    let json = info.to_json().unwrap();
    assert_eq!(PatchPackageInfo::from_json(json.as_bytes()).unwrap(), info);
    out.insert("tar-gz-entry", json);
}

/// A root, a directory, a file with an attribute, a second name of it, and a symbolic link.
fn sample(policy: Policy) -> Manifest {
    let entry = |at: &str, node| Entry { path: path(at), node };
    let directory = Node::new(Kind::Directory, metadata(0o755));
    let first = file(b"abc");
    let second = Node { leader: Some(path("d/f")), ..first.clone() };
    let link = Node::new(Kind::Symlink { target: b"d/f".as_slice().into() }, metadata(0o777));
    let entries = vec![
        entry("", directory.clone()),
        entry("d", directory),
        entry("d/f", first),
        entry("g", second),
        entry("l", link),
    ];
    Manifest::new(policy, entries).unwrap()
}

fn file(content: &[u8]) -> Node {
    let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content) };
    let xattrs = vec![(b"user.k".as_slice().into(), b"v".as_slice().into())];
    Node::new(kind, Metadata { xattrs, ..metadata(0o644) })
}

fn metadata(mode: u32) -> Metadata {
    Metadata { mode, uid: 1000, gid: 100, mtime: Time { seconds: 1_700_000_000, nanoseconds: 500 }, xattrs: vec![] }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A dump as `xxd` writes it, and `xxd -r` reads it.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let pairs: Vec<String> =
            chunk.chunks(2).map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect()).collect();
        let shown: String = chunk.iter().map(|b| if (32..127).contains(b) { char::from(*b) } else { '.' }).collect();
        let _ = writeln!(out, "{:08x}: {:<39}  {shown}", 16 * line, pairs.join(" "));
    }
    out
}

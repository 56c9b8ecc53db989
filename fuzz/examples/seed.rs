//! Writes the corpus: a few meaningful inputs for every target. The same every time.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seed`

use std::fs;
use std::io::Cursor;
use std::path::Path;
use surefoot::codec::segment::{self, Lengths};
use surefoot::codec::{self, v1};
use surefoot::delta::Contents;
use surefoot::delta::archive::{DeflateParameters, Deflater, Strategy};
use surefoot::delta::build::{self, Level as PatchLevel, Options, encode};
use surefoot::device::{Config, Engine, Tree};
use surefoot::model::{
    PatchOperations, PatchPackageInfo, Policy, ReplaceOperations, ServiceManifest, TreePath, Version,
};
use surefoot::package::Level;
use surefoot::package::legacy::LegacyWriter;
use surefoot::publish::{self, build_full, build_patch};
use surefoot::repository::{Key, add_signature};
use surefoot::transaction::{Record, Recovery, Work};
use surefoot::tree::Walk;
use surefoot::trust::SecretKey;
use surefoot::vfs::SimVfs;
use surefoot_fuzz::container::{CODED, CONTENTS, RAW};
use surefoot_fuzz::journal::{BARRIER, SOUND, chunk};
use surefoot_fuzz::repository::{first_root, online_key};
use surefoot_fuzz::transaction::{check, random};
use surefoot_fuzz::{archive, container, patch, state};

fn main() {
    journals();
    wire();
    packages();
    archives();
    deflated();
    patches();
    texts();
    transactions();
    repositories();
    downloads();
    bundles();
    states();
    let random: Vec<u8> = Dice(3).bytes(200);
    save("frame", "random", &random);
    save("frame", "zeros", &[0; 100]);
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a place for the corpus");
    fs::write(folder.join(name), bytes).expect("a place for the corpus");
}

fn repositories() {
    let json = [
        r#"{"b":[1,-2,true,null,{}],"a":"x\"\\\\\u00e9"}"#,
        r#"[[],[[]],{"":0},18446744073709551615,-9223372036854775808]"#,
        r#"{"a":1,"a":2}"#,
        "1.5",
    ];
    json.iter().enumerate().for_each(|(number, text)| save("canonical_json", &number.to_string(), text.as_bytes()));
    let key = online_key();
    let timestamp = |version: u64| {
        format!(
            r#"{{"_type":"timestamp","spec_version":"1.0.31","version":{version},"expires":"2031-01-01T00:00:00Z","meta":{{"snapshot.json":{{"version":{version}}}}},"x-surefoot-signed":"2030-01-01T00:00:00Z"}}"#
        )
    };
    let snapshot = |version: u64| {
        format!(
            r#"{{"_type":"snapshot","spec_version":"1.0.31","version":{version},"expires":"2031-01-01T00:00:00Z","meta":{{"targets.json":{{"version":{version}}},"team.json":{{"version":1}}}}}}"#
        )
    };
    let public = Key::ed25519(&key.public());
    let id = public.id();
    let public = serde_json::to_string(&public).expect("a key is JSON");
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let targets = |version: u64| {
        format!(
            r#"{{"_type":"targets","spec_version":"1.0.31","version":{version},"expires":"2031-01-01T00:00:00Z","targets":{{"any/1.0.0/full.sf":{{"length":3,"hashes":{{"sha256":"{sum}"}},"custom":{{"surefoot":{{"version":"1.0.0","channels":["stable"],"target":"{sum}","package":"{sum}","memory_bytes":1,"space_bytes":2,"base":{{"version":"0.9.0","digest":"{sum}"}}}}}}}}}},"delegations":{{"keys":{{"{id}":{public}}},"roles":[{{"name":"team","keyids":["{id}"],"threshold":1,"terminating":false,"paths":["*/*/t?am-*"]}}]}}}}"#
        )
    };
    let team =
        r#"{"_type":"targets","spec_version":"1.0.31","version":1,"expires":"2031-01-01T00:00:00Z","targets":{}}"#;
    save("repository_metadata", "root", &first_root());
    for (name, text) in [("timestamp", timestamp(1)), ("snapshot", snapshot(1)), ("targets", targets(1))] {
        let text = format!("{{\"signatures\":[],\"signed\":{text}}}");
        save("repository_metadata", name, &add_signature(name, text.as_bytes(), &key).expect("good metadata"));
    }
    let look = |version| [String::new(), timestamp(version), snapshot(version), targets(version), team.into()];
    let join = |parts: &[String]| parts.iter().map(String::as_bytes).collect::<Vec<_>>().join(&0xff);
    save("repository_client", "look", &join(&look(1)));
    save("repository_client", "two", &join(&[look(1).to_vec(), look(2).to_vec()].concat()));
    save("repository_client", "back", &join(&[look(2).to_vec(), look(1).to_vec()].concat()));
}

fn bundles() {
    let member = |name: &str, kind: u8, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("a short name");
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        let mut out = [header.as_bytes(), content].concat();
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    let file = member("metadata/timestamp.json", b'0', b"{}");
    let long = [member("x", b'L', b"targets/long/name\0"), member("cut", b'0', b"abc")].concat();
    save("bundle", "files", &[&file[..], &member("./targets/", b'5', b""), &long, &[0; 1024]].concat());
    save("bundle", "twice", &[&file[..], &file, &[0; 512]].concat());
}

fn downloads() {
    save("download", "range", b"\x00bytes 0-9/10");
    save("download", "tag", b"\x00\"1f-a\"");
    save("download", "date", b"\x00Sun, 06 Nov 1994 08:49:37 GMT");
    save("download", "addresses", b"\x00https://h/a/m.json\np.tar.gz");
    let header = v1::Download {
        magic: v1::DOWNLOAD_MAGIC,
        nonce: [7; 16],
        piece: 65_536,
        length: Some(100_000),
        digest: Some([1; 32]),
        blocks: None,
        address: [2; 32],
        tag: Some("\"tag\"".into()),
        label: "1.2.3".into(),
    };
    let block = header.encode_block();
    let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    save("download", "header", &[b"\x01", &block[..used]].concat());
    for (name, kind) in [("plain", 2_u8), ("sized", 10), ("digest", 26), ("blocks", 58)] {
        // A whole body in parts, a broken one, and one that goes on.
        let mut dialogue = vec![kind, 0x02, 200, 200, 0, 0x22, 255, 255, 255, 1, 0, 0x42];
        dialogue.extend([255; 20]);
        save("download", name, &dialogue);
    }
}

/// What an engine writes, each file under its number.
fn states() {
    for (number, name) in state::FILES.iter().enumerate() {
        let bytes = state::template().bytes(number);
        let name = name.replace(['/', '<', '>'], "_");
        let input = |kind: usize, bytes: &[u8]| [&[kind as u8], bytes].concat();
        // The bytes of a download are long, and those of the journal are chunks.
        match name.as_str() {
            "downloads__id_.part" => save("state_directory", &name, &input(number, &bytes[..3000])),
            "journal" => {
                let frames: Vec<u8> = records()
                    .iter()
                    .zip(2_u8..)
                    .flat_map(|(record, at)| chunk(SOUND | at, &codec::encode(record)))
                    .collect();
                let header = chunk(SOUND, &[0, 0, 0, 0, 0, 0, 0, 0, 7, 7]);
                save("state_directory", &name, &input(128 + number, &[header, frames].concat()));
            }
            "index" => save("state_directory", &name, &input(128 + number, &bytes[..bytes.len() - 32])),
            "history.old" => save("state_directory", &name, &input(number, &state::template().bytes(1))),
            "poison" => save("state_directory", &name, &input(number, &[1; 16])),
            _ => save("state_directory", &name, &input(128 + number, &bytes)),
        }
        if name.ends_with("unpacked") && bytes.len() > 100 {
            save("unpacked", "engine", &[&[0], &bytes[..]].concat());
            save("unpacked", "sealed", &[&[1], &bytes[..]].concat());
            save("unpacked", "torn", &[&[0], &bytes[..bytes.len() - 5]].concat());
            let twice = [&bytes[..], &bytes[v1::UNPACKED_START..]].concat();
            save("unpacked", "twice", &[&[1], &twice[..]].concat());
        }
    }
    save("state_directory", "history_torn", b"\x01{\"transaction\":\n\n{}\n");
    save("state_directory", "attempts_odd", b"\x03{\"1.0.3\":4294967295,\"v1.0.3\":1}");
    save(
        "state_directory",
        "config_owner",
        &[&[0], &br#"{"format":1,"keep":1,"owner":true,"mtime":false,"keys":[]}"#[..]].concat(),
    );
    save("unpacked", "start", &[&[1], &[7; 80][..]].concat());
}

fn records() -> Vec<Record> {
    vec![
        Record::Begin {
            transaction: [1; 16],
            base: [2; 16],
            target: [1; 16],
            work: Work::Apply,
            trial: true,
            attempts: 3,
            recovery: Recovery::Forward,
            session: [3; 16],
            time: 1_700_000_000,
            title: "seed".into(),
        },
        Record::Prepared { plan: [4; 32], plan_size: 200, steps: 2 },
        Record::Started,
        Record::Applied { session: [3; 16] },
        Record::Trying { attempt: 1, session: [5; 16] },
        Record::Revert { cause: "requested".into(), detail: "words".into() },
        Record::Reverted,
        Record::End,
    ]
}

fn journals() {
    let header = |number: u8, epoch: u64| {
        let mut bytes = epoch.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[7, 9]);
        chunk(SOUND | number, &bytes)
    };
    let frames = |first: u8, records: &[Record]| -> Vec<u8> {
        let barrier = |record: &Record| if matches!(record, Record::Started | Record::Confirmed) { BARRIER } else { 0 };
        let frame = |(at, record): (usize, &Record)| {
            chunk(SOUND | barrier(record) | (first + at as u8), &codec::encode(record))
        };
        records.iter().enumerate().flat_map(frame).collect()
    };
    let records = records();
    save("journal_scan", "empty", &header(0, 0));
    save("journal_scan", "reverted", &[header(0, 0), frames(2, &records)].concat());
    let kept = [&records[..4], &[Record::Confirmed, Record::End]].concat();
    let both = [header(0, 4), header(1, 3), frames(2, &records[..4]), frames(33, &kept)].concat();
    save("journal_scan", "two_halves", &both);
    save("journal_scan", "torn", &[both.clone(), chunk(5, &[1, 2, 3])].concat());
    save("journal_scan", "rotten_header", &[both, chunk(0, b"SFJRNL_1")].concat());
    save("journal_scan", "last_epoch", &[header(1, u64::MAX), chunk(0, &[1])].concat());
    save("journal_scan", "raw", b"SFJRNL_1");
}

/// A tree on a disk in memory, by two versions.
fn trees() -> (SimVfs, SimVfs) {
    let old = SimVfs::new();
    old.write_file("bin/app", vec![b'x'; 3000]).chmod("bin/app", 0o755).write_file("etc/conf", b"one\n");
    old.make_symlink("app", "bin/current").make_link("etc/conf", "etc/conf.default").make_dir("empty");
    old.attribute("bin/app", "user.note", b"value").write_file("gone", b"soon");
    let new = old.reboot_clean();
    new.remove_all("gone").write_file("bin/app", vec![b'y'; 3100]).write_file("lib/new", b"new").chmod("etc", 0o700);
    (old, new)
}

fn scan(vfs: &SimVfs) -> surefoot::model::Manifest {
    let how = Walk { policy: Policy { owner: true, mtime: false }, state_inside: true };
    surefoot::tree::scan(vfs, &how, &|_, _| {}).expect("a tree that can be scanned")
}

fn wire() {
    let typed = |name: &str, kind: u8, bytes: &[u8]| save("wire", name, &[&[kind], bytes].concat());
    for (at, record) in records().iter().enumerate() {
        typed(&format!("record_{at}"), 0, &codec::encode(record));
    }
    let (old, new) = trees();
    let (before, after) = (scan(&old), scan(&new));
    typed("manifest", 9, &v1::encode_manifest(&before));
    typed("manifest_header", 6, &v1::encode_manifest(&before)[..18]);
    let changes = surefoot::tree::changes(&before, &after);
    typed(
        "delta",
        10,
        &v1::encode_manifest_delta(before.policy(), changes.iter().map(|c| (&c.path, c.after.as_ref()))),
    );
    for entry in before.entries().iter().take(4) {
        let node = v1::Node::from(&entry.node);
        let name = entry.path.to_string().replace('/', "_");
        typed(&format!("node_{name}"), 12, &codec::encode(&node));
        typed(
            &format!("entry_{name}"),
            7,
            &codec::encode(&v1::Entry { path: entry.path.as_bytes().into(), node: Some(node) }),
        );
    }
    let entry = |key| v1::IndexEntry { key, size: 3, mtime: (5, 6), ctime: (7, 8), inode: 9, digest: [1; 32] };
    let index = v1::encode_index([entry(1), entry(2)].into_iter());
    typed("index", 11, &index[..index.len() - 32]);

    // What an engine writes.
    let disk = SimVfs::new();
    disk.write_file("a", b"old").write_file("c", b"c");
    Engine::init(disk.clone(), Config::default(), "1.0.0", Some(&scan(&disk))).expect("a new tree");
    let mut tree = Tree::with(disk.clone()).expect("a tree");
    let transaction = tree.begin().expect("nothing is pending").put("a", &b"new"[..]).put("d/e", &b"e"[..]).remove("c");
    transaction.set_mode("", 0o700).commit().expect("a transaction");
    for path in disk.state_listing() {
        let Some(bytes) = disk.read_file(&format!(".surefoot/{path}")) else { continue };
        if bytes.starts_with(&v1::PLAN_MAGIC) {
            typed("plan", 8, &bytes);
            typed("plan_header", 1, &bytes[..113]);
        } else if bytes.starts_with(&v1::GENERATION_MAGIC) {
            typed("generation", 3, &bytes);
        }
    }
}

/// Zip archives, gzip files and images, and deflate streams.
fn deflated() {
    let content = [&b"the quick brown fox and the lazy dog, "[..]; 30].concat();
    for (name, container) in containers() {
        save("archive_parts", name, &container(&content));
    }
    for (name, parameters) in [
        ("zlib", DeflateParameters::zlib(6, Strategy::Default, 8, 15)),
        ("fast", DeflateParameters::zlib(1, Strategy::Filtered, 1, 9)),
        ("runs", DeflateParameters::zlib(9, Strategy::Rle, 9, 15)),
        ("gzip", DeflateParameters::gzip(4)),
        ("info_zip", DeflateParameters::info_zip(9)),
    ] {
        let parameters = parameters.expect("parameters").to_bytes();
        save("archive_round_trip", name, &[&parameters[..], &content[..200], &[40; 30]].concat());
    }
}

type Container = fn(&[u8]) -> Vec<u8>;

fn containers() -> [(&'static str, Container); 3] {
    [("zip", zip), ("gzip", gzip), ("png", png)]
}

fn stream(content: &[u8]) -> (Vec<u8>, u32) {
    let mut stream = Vec::new();
    let mut deflater = Deflater::new(DeflateParameters::zlib(6, Strategy::Default, 8, 15).expect("parameters"));
    deflater.write(content, &mut stream);
    deflater.finish(&mut stream);
    let mut crc = flate2::Crc::new();
    crc.update(content);
    (stream, crc.sum())
}

fn zip(content: &[u8]) -> Vec<u8> {
    let (stream, crc) = stream(content);
    let sizes = [crc, stream.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
    let header = [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0][..], &sizes, &[1, 0, 0, 0]].concat();
    let local = [b"PK\x03\x04", &header[..], b"a", &stream].concat();
    let entry = [b"PK\x01\x02\x14\0", &header[..], &[0; 14], b"a"].concat();
    let places = [entry.len() as u32, local.len() as u32].map(u32::to_le_bytes).concat();
    let end = [b"PK\x05\x06", &[0, 0, 0, 0, 1, 0, 1, 0][..], &places, &[0, 0]].concat();
    [local, entry, end].concat()
}

/// Two members.
fn gzip(content: &[u8]) -> Vec<u8> {
    let (stream, crc) = stream(content);
    let tail = [crc, content.len() as u32].map(u32::to_le_bytes).concat();
    [b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0", &stream[..], &tail].concat().repeat(2)
}

fn png(content: &[u8]) -> Vec<u8> {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    let zlib = [&[0x78, 0x9c][..], &stream(content).0, &(high << 16 | low).to_be_bytes()].concat();
    let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
    for data in zlib.chunks(30) {
        let typed = [b"IDAT", data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&typed);
        image.extend([&(data.len() as u32).to_be_bytes()[..], &typed, &crc.sum().to_be_bytes()].concat());
    }
    image
}

/// Archives with a change inside, and what a patch of them is.
fn patches() {
    struct Files(Vec<Vec<u8>>);
    impl Contents for Files {
        fn length(&self, file: u32) -> Option<u64> {
            self.0.get(file as usize).map(|bytes| bytes.len() as u64)
        }

        fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            buffer.copy_from_slice(&self.0[file as usize][offset as usize..][..buffer.len()]);
            Ok(())
        }
    }
    struct Both<'a>(&'a Files, &'a Files);
    impl Lengths for Both<'_> {
        fn old_length(&self, file: u32) -> Option<u64> {
            self.0.length(file)
        }

        fn new_length(&self, file: u32) -> Option<u64> {
            self.1.length(file)
        }
    }
    let text: Vec<u8> =
        (0..120_u32).flat_map(|line| format!("line {} of it\n", line * line % 89).into_bytes()).collect();
    let changed = [&text[..700], b"something new\n", &text[900..]].concat();
    let plain: (&str, Container) = ("plain", <[u8]>::to_vec);
    for (name, container) in containers().into_iter().chain([plain]) {
        let (old, new) = (Files(vec![container(&text), Dice(4).bytes(60)]), Files(vec![container(&changed)]));
        let tree = |files| build::Tree { contents: files, paths: vec![b"a".to_vec(), b"b".to_vec()] };
        let new_tree = build::Tree { contents: &new, paths: vec![b"a".to_vec()] };
        for (level, number) in [(PatchLevel::Fast, 0), (PatchLevel::Default, 1)] {
            let options = Options { segment: 1 << 15, ..Options::new(level, 256 << 20) };
            let made = encode(&tree(&old), &new_tree, &options, &|_, _| true).expect("every pair has a patch");
            let (header, body) = &made.segments[0];
            assert_eq!(header.assembled, name != "plain", "{name}");
            let input = patch::Input {
                level: number,
                segment: 1 << 15,
                old: old.0.clone(),
                new: new.0.clone(),
                header: segment::encode(header, &Both(&old, &new)),
                body: body.clone(),
                views: segment::encode_views(&made.views),
            };
            save("delta", &format!("{name}{number}"), &patch::write(&input));
        }
    }
}

fn packages() {
    let (old, new) = trees();
    let (before, after) = (scan(&old), scan(&new));
    let key = SecretKey::generate([5; 32]);
    let signers = [&key];
    let options = publish::Options { to: "1.0.1".into(), level: Level::Best, signers: &signers, ..Default::default() };
    let mut patch = Vec::new();
    let spool = || Cursor::new(Vec::new());
    build_patch(("1.0.0", &before, &old), (&after, &new), &options, &mut spool(), &mut patch).expect("a patch");
    save("package_reader", "patch", &[&[RAW], &patch[..]].concat());
    let mut full = Vec::new();
    build_full(&before, &old, &options, &mut spool(), &mut full).expect("a full package");
    save("package_reader", "full", &[&[RAW], &full[..]].concat());
    for (name, package) in [("patch", &patch), ("full", &full)] {
        let (mut manifest, segments) = parts(package);
        save("package_reader", &format!("{name}_coded"), &container::write(CODED, &manifest, &segments));
        save("wire", &format!("package_{name}"), &[&[4], &codec::encode_compact(&manifest)[..]].concat());
        // Five short segments, coded in turn in both ways.
        let template = manifest.segments[0].clone();
        manifest.segments = (0..5).map(|at| v1::Segment { codec: at % 2, unpacked: 700, ..template.clone() }).collect();
        save("package_reader", &format!("{name}_contents"), &container::write(CONTENTS, &manifest, &[b'z'; 5000]));
    }
}

/// The manifest of a package and the bytes of its segments.
fn parts(package: &[u8]) -> (v1::PackageManifest, Vec<u8>) {
    let length = u32::from_le_bytes([package[10], package[11], package[12], package[13]]) as usize;
    let manifest = zstd::bulk::decompress(&package[14..][..length], 1 << 20).expect("a manifest");
    let signatures = 96 * usize::from(package[14 + length]);
    (codec::decode_compact(&manifest).expect("a manifest"), package[15 + length + signatures..].to_vec())
}

fn archives() {
    let operations = PatchOperations {
        replace: ReplaceOperations { files: vec!["app.jar".into()], directories: vec!["front".into()] },
        ..PatchOperations::default()
    };
    let operations = operations.validate().expect("operations");
    let path = |text: &str| TreePath::parse(text).expect("a path");
    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    writer.file(&path("app.jar"), 0o644, 5, &mut &b"bytes"[..]).expect("a member");
    writer.directory(&path("front"), 0o755).expect("a member");
    writer.file(&path(&format!("front/{}", "n".repeat(120))), 0o600, 0, &mut &b""[..]).expect("a member");
    writer.symlink(&path("front/link"), b"target").expect_err("out of order");
    writer.symlink(&path("front/o"), b"target").expect("a member");
    let gzip = writer.finish().expect("an archive");
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut tar).expect("an archive");
    let listed = "fapp.jar\ndfront/\nFold/app.jar\nDold/front/\n";
    save("legacy_tar_gz", "gzip", &archive::write(0, 255, listed, &gzip));
    save("legacy_tar_gz", "tar", &archive::write(archive::TAR | archive::SUMS, 255, listed, &tar));
    save("legacy_tar_gz", "small_limit", &archive::write(archive::TAR | archive::SUMS, 2, listed, &tar));
    save("legacy_tar_gz", "pax", &archive::write(archive::TAR | archive::SUMS, 255, "fa\ndd\n", &pax()));
}

fn pax() -> Vec<u8> {
    let mut out = Vec::new();
    let mut member = |kind: u8, name: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    member(b'5', "./", b"");
    member(b'x', "pax", b"9 path=a\n9 size=3\n20 mtime=1700000000.5\n");
    member(b'0', "b", b"abc");
    member(b'g', "global", b"11 comment=\n");
    member(b'5', "./d/", b"");
    member(b'x', "pax", b"12 path=d/l\n14 linkpath=t\n");
    member(b'2', "b", b"");
    out.resize(out.len() + 1024, 0);
    out
}

fn texts() {
    let key = SecretKey::generate([5; 32]);
    let other = SecretKey::generate([6; 32]);
    save("pem_keys", "secret", key.to_pem().as_bytes());
    save("pem_keys", "public", key.public().to_pem().as_bytes());
    save("pem_keys", "two", format!("one\n{}two\n{}", key.public().to_pem(), other.public().to_pem()).as_bytes());
    save("pem_keys", "signature", key.sign(b"domain", b"bytes").to_string().as_bytes());
    save("version", "versions", b"1.2.3\nv1.2.3.4\n0.0.13.2\n4294967295.0.0.4294967295\n01.1.1");
    save("tree_path", "two", b"a/b/c.txt\na/b");
    save("tree_path", "odd", b"caf\xe9/\x07\\/...\n-/ ");
    save("tree_path", "bad", b"a/../b\n/etc");

    let mut manifest = ServiceManifest::new(Version::new(1, 2, 3).with_build(4));
    let mut info = PatchPackageInfo { url: "p.tar.gz".into(), size: Some(7), ..Default::default() };
    info.set_digest(surefoot::model::Digest::of(b"abc"));
    info.set_signature(&key.sign(b"", b"abc").0);
    info.operations.replace.files = vec!["app.jar".into(), "./front/x".into()];
    info.operations.replace.directories = vec!["front/".into()];
    info.operations.delete.directories = vec!["old".into()];
    save("service_manifest", "info", info.to_json().expect("JSON").as_bytes());
    manifest.patch.insert("x86_64".into(), info);
    save("service_manifest", "manifest", manifest.to_json().expect("JSON").as_bytes());
    let nulls =
        br#"{"version": "v1.2.3", "packages": null, "platforms": {"x": null}, "patch": {"x": {"operations": null}}}"#;
    save("service_manifest", "nulls", nulls);
}

/// Random inputs, of which those are kept that get far.
fn transactions() {
    let mut kept = 0;
    for seed in 0..u64::MAX {
        let (Some(scenario), bytes) = random(seed) else { continue };
        if scenario.committed() > kept / 20 {
            if let Err(why) = check(&scenario) {
                println!("scenario {seed} is a finding: {why}");
            }
            save("transaction", &format!("random_{kept:02}"), &bytes);
            kept += 1;
        }
        if kept == 40 {
            break;
        }
    }
}

struct Dice(u64);

impl Dice {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut roll = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as u8
        };
        (0..count).map(|_| roll()).collect()
    }
}

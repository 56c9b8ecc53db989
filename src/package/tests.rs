//! Round trips, hostile packages, and the bytes of one package for ever.

use super::layout;
use super::*;
use crate::codec;
use crate::codec::v1::{self, tree_digest};
use crate::limits;
use crate::model::{Digest, Entry, Kind, Manifest, Metadata, Node, Policy};
use crate::trust::{Keyring, SecretKey, TrustError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

/// Contents by their paths.
type Files = BTreeMap<String, Vec<u8>>;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn file_node(bytes: &[u8]) -> Node {
    let metadata = Metadata { mode: 0o644, ..Metadata::default() };
    Node::new(Kind::File { size: bytes.len() as u64, digest: Digest::of(bytes) }, metadata)
}

fn directory() -> Node {
    Node::new(Kind::Directory, Metadata { mode: 0o755, ..Metadata::default() })
}

/// A full package of some files without directories, each content from the payload.
fn full(files: &Files) -> Outline {
    let mut nodes = vec![(TreePath::root(), directory(), Source::None)];
    nodes.extend(files.iter().map(|(name, bytes)| (path(name), file_node(bytes), Source::Payload)));
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    let entries = nodes.iter().map(|(path, node, _)| Entry { path: path.clone(), node: node.clone() }).collect();
    let target = tree_digest(&Manifest::new(Policy::default(), entries).unwrap());
    let head = Head {
        start: Start::Anything,
        to: "1.2.3".into(),
        target,
        architecture: Some("x86_64".into()),
        policy: Policy::default(),
        notes: "first".into(),
    };
    let change = |(path, node, source)| Change { path, before: None, after: Some((node, source)) };
    Outline { head, changes: nodes.into_iter().map(change).collect() }
}

fn patch(mut changes: Vec<Change>) -> Outline {
    for (node, _) in changes.iter_mut().filter_map(|change| change.after.as_mut()) {
        if let Kind::File { digest, .. } = &mut node.kind {
            *digest = Digest::UNSAID;
        }
    }
    let start = Start::Base { version: "1.2.2".into(), digest: Digest::of(b"old") };
    let head = Head {
        start,
        to: "1.2.3".into(),
        target: Digest::of(b"new"),
        architecture: None,
        policy: Policy::default(),
        notes: String::new(),
    };
    Outline { head, changes }
}

fn keys() -> [SecretKey; 2] {
    [1, 2].map(|seed| SecretKey::generate([seed; 32]))
}

fn ring(key: &SecretKey) -> Keyring {
    let mut ring = Keyring::new();
    ring.insert(key.public()).unwrap();
    ring
}

fn build(outline: Outline, files: &Files, level: Level, signers: &[&SecretKey]) -> Result<Vec<u8>, PackageError> {
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    if outline.head.start != Start::Anything {
        // What is in the segment of a patch nobody looks at here.
        let unpacked = super::promise::expected(&outline.changes).map(|content| content.size).sum();
        let piece = (Codec::Delta, unpacked, b"a segment".to_vec());
        let pieces = (Some(piece).into_iter().filter(|piece| piece.1 > 0), 1 << 20);
        write_patch(&mut out, &mut spool, outline, pieces, level, signers)?;
        return Ok(out);
    }
    let mut open = |change: &Change| -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(files[&change.path.to_string()].clone())))
    };
    let written = write_package(&mut out, &mut spool, outline, &mut open, (level, limits::SEGMENT_BYTES), signers)?;
    assert_eq!(written.bytes, out.len() as u64);
    Ok(out)
}

/// What a package promises, and its contents with the changes that they belong to.
type Given = (Promise, Vec<(usize, Vec<u8>)>);

/// Everything that a package gives to somebody who trusts the first key.
fn read_all(bytes: &[u8]) -> Result<Given, PackageError> {
    read_with(bytes, &ring(&keys()[0]))
}

fn read_with(bytes: &[u8], keyring: &Keyring) -> Result<Given, PackageError> {
    let (promise, mut payload) = Package::open(bytes)?.verify(keyring)?.into_payload();
    let mut contents = Vec::new();
    while let Some(mut content) = payload.next_content()? {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        contents.push((content.change(), bytes));
    }
    Ok((promise, contents))
}

fn some_files() -> Files {
    let text = |n: usize| format!("line {n} of a file\n").repeat(n).into_bytes();
    let noise: Vec<u8> = (0..3000_u32).flat_map(|n| Digest::of(&n.to_le_bytes()).0).collect();
    [("a", text(3)), ("b.bin", noise), ("c", Vec::new()), ("d", text(500))].map(|(n, b)| (n.to_string(), b)).into()
}

/// What is wrong with an outline, or with what a reader makes of it.
fn refusal(outline: Outline) -> String {
    let built = build(outline, &some_files(), Level::Fast, &[]);
    built.expect_err("it should be refused").to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let mut files = some_files();
    // Wider than the widest window that a decoder allows.
    files.insert("zeros".into(), vec![0; (1 << limits::ZSTD_WINDOW_LOG) + 1]);
    for level in [Level::Fast, Level::Default, Level::Best] {
        let bytes = build(full(&files), &files, level, &[&keys()[0]]).unwrap();
        let (promise, contents) = read_all(&bytes).unwrap();
        assert_eq!(promise.head(), &full(&files).head);
        assert_eq!(promise.changes(), full(&files).changes);
        assert_eq!(tree_digest(&promise.manifest().unwrap()), promise.head().target);
        let read: Files =
            contents.into_iter().map(|(change, bytes)| (promise.changes()[change].path.to_string(), bytes)).collect();
        assert_eq!(read, files);
    }
}

#[test]
fn a_package_is_the_same_bytes_for_ever() {
    let files: Files = [("hello".to_string(), b"hello, world\n".to_vec())].into();
    let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
    let manifest = Package::open(bytes.as_slice()).unwrap().accept_unsigned().unwrap().id();
    assert_eq!(
        (bytes.len(), manifest.to_string(), Digest::of(&bytes).to_string()),
        (VECTOR_BYTES, VECTOR_MANIFEST.into(), VECTOR.into())
    );
}

// The manifest is frozen. The package depends on zstd besides: if only this one changes after an update of zstd, packages
// built before and after are different files with the same name and the same signatures, and both are good.
const VECTOR_BYTES: usize = 262;
const VECTOR_MANIFEST: &str = "4db6f5047e202a81528b54ebf28c3c88d14cf49cd2516d13ab8fd22fecf89b43";
const VECTOR: &str = "318035b629c9bc5102cedb8f614beff51fb737736208b9bfe251fb5be0bf38f9";

#[test]
fn large_contents_are_alone_and_small_ones_share() {
    let size = limits::SEGMENT_BYTES as usize;
    let content = |seed: u32, size: usize| -> Vec<u8> {
        (0..size as u32 / 4).flat_map(|n| ((n / 7) ^ seed).wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
    };
    let files: Files = [
        ("a", content(1, 1000)),
        ("b", content(2, size + 4)),
        ("c", content(3, size / 2)),
        ("d", content(4, size / 2)),
        ("e", content(5, 4)),
        ("f", content(6, 3 * size)),
        ("g", Vec::new()),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes))
    .into();
    let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
    assert_eq!(bytes, build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap());
    let (promise, contents) = read_all(&bytes).unwrap();
    let sizes: Vec<_> = promise.segments().iter().map(|segment| segment.unpacked as usize).collect();
    assert_eq!(sizes, [1000, size + 4, size, 4, 3 * size]);
    assert!(contents.iter().map(|(_, bytes)| bytes).eq(files.values()));

    // One thread writes the same.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(bytes, pool.install(|| build(full(&files), &files, Level::Fast, &[&keys()[0]])).unwrap());

    // Every choice of which contents are read at all, begun, or passed over.
    for choice in 0..3_u32.pow(7) {
        let package = Package::open(bytes.as_slice()).unwrap().verify(&ring(&keys()[0])).unwrap();
        if choice % 97 != 0 {
            continue;
        }
        let (_, mut payload) = package.into_payload();
        for (index, expected) in files.values().enumerate() {
            let mut content = payload.next_content().unwrap().unwrap();
            assert_eq!(content.change(), index + 1);
            let mut bytes = Vec::new();
            match choice / 3_u32.pow(index as u32) % 3 {
                0 => {}
                1 => assert_eq!(content.read(&mut [0; 10]).unwrap().min(1), expected.len().min(1)),
                _ => {
                    content.read_to_end(&mut bytes).unwrap();
                    assert_eq!(&bytes, expected);
                }
            }
        }
        assert!(payload.next_content().unwrap().is_none());
        assert!(payload.next_content().unwrap().is_none());
    }
    // What is passed over is checked all the same.
    for at in [bytes.len() - 1, bytes.len() / 2] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let (_, mut payload) = Package::open(changed.as_slice()).unwrap().accept_unsigned().unwrap().into_payload();
        let error = (0..8).find_map(|_| payload.next_content().err()).unwrap();
        assert!(matches!(error, PackageError::Digest(_)), "{error}");
        assert!(payload.next_content().is_err());
    }
}

#[test]
fn of_a_package_in_parts_whatever_is_there_can_be_read_and_nothing_else() {
    let noise = |seed: u32| -> Vec<u8> {
        (0..100_u32).flat_map(|n| Digest::of(&[n, seed].map(u32::to_le_bytes).concat()).0).collect()
    };
    let files: Files = (0..5).map(|n| (format!("f{n}"), noise(n))).chain([("g".into(), Vec::new())]).collect();
    let (mut bytes, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    let mut open = |change: &Change| -> std::io::Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(files[&change.path.to_string()].clone())))
    };
    write_package(&mut bytes, &mut spool, full(&files), &mut open, (Level::Fast, 4000), &[&keys()[0]]).unwrap();
    let opened = || Package::open(bytes.as_slice()).unwrap().accept_unsigned().unwrap();
    let (front, promise) = (opened().front_bytes(), opened().promise().clone());
    assert!(most_front_bytes(&bytes[..100]).unwrap() >= front && promise.segments().len() == 5);
    let ranges: Vec<_> = promise.segment_ranges(front).collect();
    assert_eq!(ranges.last().unwrap().1, bytes.len() as u64);
    for choice in 0..32_usize {
        let here: Vec<bool> = (0..5).map(|segment| choice >> segment & 1 == 1).collect();
        // Each change but the first, which is the root, has a segment of its own.
        assert_eq!(promise.segments_holding(&|change| change < 6 && here[change - 1]), here);
        let mut holes = bytes.clone();
        for (at, (start, end)) in ranges.iter().enumerate() {
            if !here[at] {
                holes[*start as usize..*end as usize].fill(0);
            }
        }
        let part = |bytes: &[u8], here: &[bool], wanted: &[bool]| -> Result<(), PackageError> {
            let package = Package::open(bytes)?.accept_unsigned()?;
            let (_, mut payload) = package.into_payload_of(here.to_vec());
            for (at, expected) in files.values().enumerate() {
                let mut content = payload.next_content()?.unwrap();
                if wanted.get(at).is_none_or(|wanted| *wanted) {
                    let mut read = Vec::new();
                    content.read_to_end(&mut read)?;
                    assert!(read == *expected);
                }
            }
            assert!(payload.next_content()?.is_none());
            Ok(())
        };
        part(&holes, &here, &here).unwrap();
        assert!(matches!(part(&holes[..holes.len() - 1], &here, &here), Err(PackageError::Truncated)));
        assert!(part(&[&holes[..], &[0]].concat(), &here, &here).is_err());
        if let Some(absent) = here.iter().position(|here| !here) {
            let error = part(&holes, &here, &[true; 5]).unwrap_err();
            assert!(matches!(error, PackageError::Absent(at) if at == absent), "{error}");
        }
        if let Some(at) = here.iter().position(|here| *here) {
            holes[ranges[at].0 as usize + 9] ^= 1;
            assert!(matches!(part(&holes, &here, &here), Err(PackageError::Digest(_) | PackageError::Malformed(_))));
            assert!(
                matches!(part(&holes, &here, &[false; 5]), Err(PackageError::Digest(_))),
                "what is here is checked"
            );
        }
    }
}

/// Segments may cut contents anywhere.
#[test]
fn the_segments_of_a_content_are_those_with_a_byte_of_it() {
    let files: Files = [("a", 3), ("b", 5), ("c", 0), ("d", 7), ("e", 1)]
        .map(|(name, size)| (name.to_string(), vec![name.as_bytes()[0]; size]))
        .into();
    for cuts in 0..1_usize << 15 {
        let mut segments = vec![0_u64];
        for at in 0..16 {
            *segments.last_mut().unwrap() += 1;
            if at < 15 && cuts >> at & 1 == 1 {
                segments.push(0);
            }
        }
        if cuts % 37 != 0 {
            continue;
        }
        let segment = |unpacked: &u64| Segment {
            codec: Codec::Stored,
            packed: *unpacked,
            digest: Digest([0; 32]),
            unpacked: *unpacked,
        };
        let Outline { head, changes } = full(&files);
        let promise = Promise::new(head, changes, segments.iter().map(segment).collect(), 0).unwrap();
        for wanted in 0..32_usize {
            let is_wanted = |change: usize| wanted >> (change - 1) & 1 == 1;
            let mut expected = Vec::new();
            let mut owners = files.values().enumerate().flat_map(|(at, bytes)| vec![at + 1; bytes.len()]);
            for length in &segments {
                expected.push(owners.by_ref().take(*length as usize).fold(false, |any, at| any | is_wanted(at)));
            }
            assert_eq!(promise.segments_holding(&is_wanted), expected, "{segments:?} {wanted}");
        }
    }
}

#[test]
fn reading_in_small_pieces_and_not_at_all_gives_the_same() {
    struct Drip<'a>(&'a [u8], usize);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = (self.1 * 7 + 3) % 11;
            if self.1 == 0 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let length = self.1.min(buffer.len()).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }
    let files = some_files();
    let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
    let package = Package::open(Drip(&bytes, 1)).unwrap().verify(&ring(&keys()[0])).unwrap();
    let (_, mut payload) = package.into_payload();
    let mut count = 0;
    while let Some(mut content) = payload.next_content().unwrap() {
        // Every other content is left alone, and checked all the same.
        if count % 2 == 0 {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            assert_eq!(&bytes, files.values().nth(count).unwrap());
        }
        count += 1;
    }
    assert_eq!(count, files.len());
}

#[test]
fn any_trusted_key_among_the_signers_is_enough() {
    let [a, b] = keys();
    let files = some_files();
    let unsigned = build(full(&files), &files, Level::Fast, &[]).unwrap();
    let error = read_with(&unsigned, &ring(&a)).unwrap_err();
    assert!(matches!(error, PackageError::Trust(TrustError::Unsigned)), "{error:?}");
    let accepted = Package::open(unsigned.as_slice()).unwrap().accept_unsigned().unwrap();
    assert_eq!((accepted.signer(), accepted.promise().head().to.as_str()), (None, "1.2.3"));

    let mut once = Vec::new();
    assert_eq!(add_signature(unsigned.as_slice(), &mut once, &a).unwrap(), accepted.id());
    assert_eq!(once, build(full(&files), &files, Level::Fast, &[&a]).unwrap());
    assert!(matches!(
        read_with(&once, &ring(&b)).unwrap_err(),
        PackageError::Trust(TrustError::Untrusted(keys)) if keys == [a.public().id()]
    ));
    let mut twice = Vec::new();
    add_signature(once.as_slice(), &mut twice, &b).unwrap();
    for key in [&a, &b] {
        let verified = Package::open(twice.as_slice()).unwrap().verify(&ring(key)).unwrap();
        assert_eq!((verified.signer(), verified.id()), (Some(key.public().id()), accepted.id()));
        assert_eq!(read_with(&twice, &ring(key)).unwrap().1.len(), files.len());
    }
    let mut again = Vec::new();
    add_signature(twice.as_slice(), &mut again, &b).unwrap();
    assert_eq!(again, twice);
    let claimed: Vec<_> = Package::open(twice.as_slice()).unwrap().claimed_signers().collect();
    let mut signers = [a.public().id(), b.public().id()];
    signers.sort_by_key(|key| key.0);
    assert_eq!(claimed, signers);
    // Whoever signs first, it is the same package.
    let (mut first, mut other) = (Vec::new(), Vec::new());
    add_signature(unsigned.as_slice(), &mut first, &b).unwrap();
    add_signature(first.as_slice(), &mut other, &a).unwrap();
    assert_eq!(other, twice);
    assert!(add_signature(&twice[..twice.len() - 1], &mut Vec::new(), &b).is_err());
}

fn small_package() -> (Files, Vec<u8>) {
    let files: Files = [("a", &b"first\n"[..]), ("b", b""), ("c", &[b'x'; 700])]
        .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
        .into();
    let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
    (files, bytes)
}

#[test]
fn a_package_with_any_bit_changed_is_refused_or_the_same() {
    let (_, bytes) = small_package();
    let good = read_all(&bytes).unwrap();
    let mut same = 0;
    for at in 0..bytes.len() {
        for bit in [1, 16, 128, 255] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            if let Ok(read) = read_all(&changed) {
                assert_eq!(read, good, "byte {at}, mask {bit}");
                same += 1;
            }
        }
    }
    // The frame of the manifest has some slack; nothing else has.
    assert!(same < 30, "{same} changes went unnoticed");
}

#[test]
fn a_package_cut_anywhere_or_with_more_at_its_end_is_refused() {
    let (_, bytes) = small_package();
    for length in 0..bytes.len() {
        let error = read_all(&bytes[..length]).expect_err("cut");
        assert!(matches!(error, PackageError::Truncated), "cut at {length}: {error}");
    }
    for more in [&[0][..], &[1], &[0; 512], &[0; 10_240], &bytes] {
        let longer = [&bytes, more].concat();
        assert!(matches!(read_all(&longer), Err(PackageError::Malformed(_))));
    }
}

#[test]
fn segments_in_another_order_or_number_are_refused() {
    let size = limits::SEGMENT_BYTES as usize;
    let files: Files = ["a", "b"].map(|name| (name.to_string(), vec![name.as_bytes()[0]; size])).into();
    let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
    let (promise, _) = read_all(&bytes).unwrap();
    let [first, second] = promise.segments() else { panic!("two segments") };
    let (front, payload) = bytes.split_at(bytes.len() - (first.packed + second.packed) as usize);
    let (one, two) = payload.split_at(first.packed as usize);
    let parts = [one, two];
    let with =
        |order: &[usize]| [front].into_iter().chain(order.iter().map(|at| parts[*at])).collect::<Vec<_>>().concat();
    assert_eq!(with(&[0, 1]), bytes);
    for order in [&[1, 0][..], &[0], &[1], &[0, 0], &[1, 1], &[0, 1, 1], &[0, 1, 0], &[]] {
        assert!(read_all(&with(order)).is_err(), "{order:?}");
    }
}

/// A signed package of a manifest and of segments as they are given.
fn assemble(manifest: &[u8], segments: &[&[u8]]) -> Vec<u8> {
    let mut signatures = Vec::new();
    sign::add(&mut signatures, &keys()[0], manifest).unwrap();
    let mut out = Vec::new();
    layout::write_front(&mut out, &zstd::bulk::compress(manifest, 3).unwrap(), &signatures).unwrap();
    out.extend(segments.concat());
    out
}

/// A package of one file whose segment a hostile signer made.
fn with_segment(content: &[u8], codec: u16, packed: &[u8], unpacked: u64) -> Result<usize, PackageError> {
    let files: Files = [("a".to_string(), content.to_vec())].into();
    let good = build(full(&files), &files, Level::Fast, &[]).unwrap();
    let promise = Package::open(good.as_slice()).unwrap().inspect_untrusted().unwrap();
    let mut wire: v1::PackageManifest = codec::decode_compact(&promise.encode()).unwrap();
    let size = packed.len() as u64;
    wire.segments = vec![v1::Segment { codec, packed: size, digest: Digest::of(packed).0, unpacked }];
    wire.memory = 9 << 20;
    read_all(&assemble(&codec::encode_compact(&wire), &[packed])).map(|(_, contents)| contents.len())
}

#[test]
fn segments_that_decode_to_something_else_are_refused() {
    let content = b"promised ".repeat(100);
    let size = content.len() as u64;
    let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    assert_eq!(with_segment(&content, 1, &frame(&content), size).unwrap(), 1);
    assert_eq!(with_segment(&content, 0, &content, size).unwrap(), 1);
    let malformed = |result: Result<usize, PackageError>| {
        let error = result.expect_err("it should be refused");
        assert!(matches!(error, PackageError::Malformed(_) | PackageError::Digest(_)), "{error:?}");
    };
    // A bomb: a frame that decodes to far more than promised, with and without its size in it.
    malformed(with_segment(&content, 1, &frame(&vec![b'p'; 64 << 20])[..], size));
    let mut streamed = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    std::io::Write::write_all(&mut streamed, &content.repeat(2)).unwrap();
    malformed(with_segment(&content, 1, &streamed.finish().unwrap(), size));
    // Less, more behind, two frames, an empty frame, nothing, something else.
    malformed(with_segment(&content, 1, &frame(&content[1..]), size));
    malformed(with_segment(&content, 1, &[&frame(&content)[..], b"x"].concat(), size));
    malformed(with_segment(&content, 1, &[frame(&content[..9]), frame(&content[9..])].concat(), size));
    malformed(with_segment(&content, 1, &[frame(b""), frame(&content)].concat(), size));
    malformed(with_segment(&content, 1, &frame(&content)[..20], size));
    malformed(with_segment(&content, 1, b"", size));
    malformed(with_segment(&content, 1, &frame(&vec![b'q'; content.len()]), size));
    malformed(with_segment(&content, 1, &content, size));
    malformed(with_segment(&content, 0, &content[1..], size));
    malformed(with_segment(&content, 0, &vec![b'q'; content.len()], size));
    malformed(with_segment(&content, 1, &frame(&content), size + 1));
    assert!(matches!(
        with_segment(&content, 7, &content, size),
        Err(PackageError::Unsupported { part: "codec", number: 7 })
    ));
    // A frame whose window is larger than allowed.
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(limits::ZSTD_WINDOW_LOG + 1).unwrap();
    std::io::Write::write_all(&mut wide, &content).unwrap();
    malformed(with_segment(&content, 1, &wide.finish().unwrap(), size));
}

#[test]
fn a_manifest_that_unpacks_beyond_the_limit_is_refused() {
    let (_, bytes) = small_package();
    let error = Package::open_with_limit(bytes.as_slice(), 100).unwrap_err();
    assert!(matches!(error, PackageError::Limit { .. }), "{error}");
    let bomb = assemble(&vec![0; 1 << 20], &[]);
    assert!(bomb.len() < 512);
    let error = Package::open_with_limit(bomb.as_slice(), 1 << 19).unwrap_err();
    assert!(matches!(error, PackageError::Limit { most: 0x8_0000, .. }), "{error}");
    // Within the limit it is read, trusted, and still not believed.
    assert!(matches!(read_all(&bomb), Err(PackageError::Malformed(_))));
    let mut more = Package::open(bytes.as_slice()).unwrap().inspect_untrusted().unwrap().encode();
    more.push(0);
    assert!(matches!(read_all(&assemble(&more, &[])), Err(PackageError::Malformed(_))));
}

#[test]
fn a_file_that_changes_during_the_build_stops_it() {
    let files = some_files();
    for other in [&b"line 3 of a fil"[..], b"line 3 of a file\nline 3 of a file\nline 3 of a fileX", &[b'x'; 9000]] {
        let mut changed = files.clone();
        changed.insert("a".into(), other.to_vec());
        let error = build(full(&files), &changed, Level::Fast, &[]).unwrap_err();
        assert_eq!(error.to_string(), "a was changed while the package was built");
    }
    let mut open = |_: &Change| -> std::io::Result<Box<dyn Read>> { Err(std::io::ErrorKind::NotFound.into()) };
    let mut spool = Cursor::new(Vec::new());
    let error =
        write_package(&mut Vec::new(), &mut spool, full(&files), &mut open, (Level::Fast, limits::SEGMENT_BYTES), &[])
            .unwrap_err();
    assert!(matches!(error, PackageError::Input { path, .. } if path.to_string() == "a"));
}

#[test]
fn promises_that_contradict_themselves_are_refused() {
    let files = some_files();
    let change = |name: &str, source: Source| Change {
        path: path(name),
        before: None,
        after: Some((file_node(&files[name]), source)),
    };
    let with = |edit: &dyn Fn(&mut Outline)| {
        let mut outline = full(&files);
        edit(&mut outline);
        refusal(outline)
    };
    let source = |outline: &mut Outline, at: usize, source: Source| {
        outline.changes[at].after.as_mut().unwrap().1 = source;
    };
    // Full packages.
    assert!(with(&|o| o.changes.swap(1, 2)).contains("out of order"));
    assert!(with(&|o| o.changes[2] = o.changes[1].clone()).contains("out of order"));
    assert!(with(&|o| drop(o.changes.pop())).contains("digest"));
    assert!(with(&|o| drop(o.changes.remove(0))).contains("root"));
    assert!(with(&|o| o.head.target = Digest::of(b"")).contains("digest"));
    assert!(with(&|o| o.changes[1].before = Some(1)).contains("full package"));
    assert!(with(&|o| o.changes[1].after = None).contains("not from a base"));
    assert!(with(&|o| source(o, 1, Source::None)).contains("without content"));
    assert!(with(&|o| source(o, 1, Source::Base(path("a")))).contains("no base"));
    assert!(with(&|o| source(o, 0, Source::Payload)).contains("no file"));
    assert!(with(&|o| source(o, 2, Source::Change(1))).contains("same content"));
    assert!(with(&|o| o.head.to.clear()).contains("version"));
    assert!(with(&|o| o.head.to = "1".repeat(65)).contains("version"));
    assert!(with(&|o| o.head.to = "1\n2".into()).contains("version"));
    assert!(with(&|o| o.head.architecture = Some("arm 64".into())).contains("architecture"));
    assert!(with(&|o| o.head.notes = "n".repeat(limits::NOTES_BYTES + 1)).contains("limit"));

    // Patches.
    let twin = |name: &str, of: usize| Change { path: path(name), before: None, ..change("a", Source::Change(of)) };
    let gone = |name: &str, before| Change { path: path(name), before, after: None };
    let good = vec![change("a", Source::Payload), gone("b", Some(5)), twin("c", 0)];
    assert!(build(patch(good.clone()), &files, Level::Fast, &[]).is_ok());
    assert!(build(patch(Vec::new()), &files, Level::Fast, &[]).is_ok());
    assert!(build(patch(vec![change("a", Source::Base(path("x")))]), &files, Level::Fast, &[]).is_ok());
    assert!(refusal(patch(vec![gone("a", None)])).contains("not from a base"));
    assert!(refusal(patch(vec![gone("", Some(1))])).contains("not from a base"));
    assert!(refusal(patch(vec![twin("a", 0)])).contains("same content"));
    assert!(refusal(patch(vec![gone("A", Some(1)), twin("a", 0)])).contains("same content"));
    assert!(refusal(patch(vec![change("a", Source::Payload), twin("b", 0), twin("c", 1)])).contains("same content"));
    let mut root = change("a", Source::Payload);
    root.path = TreePath::root();
    assert!(refusal(patch(vec![root])).contains("root"));

    let mut said = patch(vec![change("a", Source::Payload)]);
    said.changes[0] = change("a", Source::Payload);
    assert!(refusal(said).contains("no digests"));

    // Hard links.
    let link = |name: &str, leader: &str, source: Source| {
        let mut link = change("a", source);
        link.path = path(name);
        link.after.as_mut().unwrap().0.leader = Some(path(leader));
        link
    };
    assert!(build(patch(vec![link("b", "a", Source::None)]), &files, Level::Fast, &[]).is_ok());
    let pair = vec![change("a", Source::Payload), link("b", "a", Source::None)];
    assert!(build(patch(pair), &files, Level::Fast, &[]).is_ok());
    assert!(refusal(patch(vec![link("b", "a", Source::Payload)])).contains("of its own"));
    assert!(refusal(patch(vec![link("b", "c", Source::None)])).contains("hard link"));
    assert!(refusal(patch(vec![gone("a", Some(1)), link("b", "a", Source::None)])).contains("hard link"));
    let chain = vec![change("a", Source::Payload), link("b", "a", Source::None), link("c", "b", Source::None)];
    assert!(refusal(patch(chain)).contains("hard link"));
}

#[test]
fn a_manifest_has_one_spelling() {
    let files = some_files();
    let change = |name: &str, source| Change {
        path: path(name),
        before: Some(9),
        after: Some((file_node(&files[name]), source)),
    };
    let gone = Change { path: path("b.bin"), before: Some(1), after: None };
    let changes = vec![change("a", Source::Base(path("x"))), gone, change("c", Source::Payload)];
    for outline in [full(&files), patch(changes)] {
        let bytes = build(outline, &files, Level::Fast, &[]).unwrap();
        let good = Package::open(bytes.as_slice()).unwrap().inspect_untrusted().unwrap().encode();
        let mut accepted = 0;
        for at in 0..good.len() {
            for mask in [1, 2, 128, 255] {
                let mut changed = good.clone();
                changed[at] ^= mask;
                if let Ok(promise) = Promise::decode(&changed) {
                    assert_eq!(promise.encode(), changed, "byte {at}, mask {mask}");
                    accepted += 1;
                }
            }
            assert!(Promise::decode(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(accepted > 0);
    }
}

#[test]
fn segments_that_do_not_fit_the_contents_are_refused() {
    let (_, bytes) = small_package();
    let manifest = Package::open(bytes.as_slice()).unwrap().inspect_untrusted().unwrap().encode();
    let with = |edit: &dyn Fn(&mut v1::PackageManifest)| {
        let mut wire: v1::PackageManifest = codec::decode_compact(&manifest).unwrap();
        edit(&mut wire);
        Promise::decode(&codec::encode_compact(&wire)).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let refused = |edit: &dyn Fn(&mut v1::PackageManifest), why: &str| {
        let message = with(edit).expect_err(why);
        assert!(message.contains(why), "{message}");
    };
    refused(&|m| m.policy = 4, "policy");
    refused(&|m| m.memory = 1, "memory");
    refused(&|m| m.memory = u64::MAX, "memory");
    refused(&|m| m.segments.clear(), "not as large as the contents");
    refused(&|m| m.segments[0].unpacked = 0, "empty");
    refused(&|m| m.segments[0].unpacked += 1, "not as large as the contents");
    refused(&|m| m.segments[0].packed = u64::MAX, "size of its code");
    refused(&|m| m.segments[0].codec = 2, "no place");
    refused(&|m| m.segments[0].codec = 5, "codec 5");
    refused(&|m| m.segments.push(m.segments[0].clone()), "not as large as the contents");
    refused(&|m| m.changes[1].path = b"../etc".to_vec(), "path");
    refused(&|m| m.changes[1].path = b"/etc".to_vec(), "path");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_files_are_read_back(files in proptest::collection::btree_map(
        "[a-z]{1,12}",
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..2000),
            (any::<u8>(), 0_usize..200_000).prop_map(|(byte, size)| vec![byte; size]),
        ],
        0..12,
    )) {
        let bytes = build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap();
        let (promise, contents) = read_all(&bytes).unwrap();
        prop_assert_eq!(promise.changes(), full(&files).changes);
        prop_assert!(contents.iter().map(|(_, bytes)| bytes).eq(files.values()));
        prop_assert_eq!(&bytes, &build(full(&files), &files, Level::Fast, &[&keys()[0]]).unwrap());
    }

    #[test]
    fn rubbish_is_no_package(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(Package::open(bytes.as_slice()).is_err());
        prop_assert!(Promise::decode(&bytes).is_err());
    }
}

#[test]
fn segments_of_a_patch_are_where_and_what_they_may_be() {
    let files = some_files();
    let size = files["d"].len() as u64;
    let changes =
        || vec![Change { path: path("d"), before: None, after: Some((file_node(&files["d"]), Source::Payload)) }];
    let write = |pieces: Vec<Piece>, memory: u64| {
        let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
        write_patch(&mut out, &mut spool, patch(changes()), (pieces.into_iter(), memory), Level::Fast, &[&keys()[0]])
            .map(|_| out)
    };
    let delta = |unpacked| (Codec::DeltaLzma, unpacked, vec![7; 10]);
    let views = (Codec::Views, 500, vec![8; 20]);
    let good = write(vec![views.clone(), delta(5), delta(size - 5)], 100).unwrap();
    let read = |bytes: &[u8]| -> Result<Vec<Vec<u8>>, PackageError> {
        let (_, mut segments) = Package::open(bytes)?.verify(&ring(&keys()[0]))?.into_segments();
        let mut all = Vec::new();
        while let Some((segment, bytes)) = segments.next_segment()? {
            assert_eq!(segment.packed, bytes.len() as u64);
            all.push(bytes);
        }
        assert!(segments.next_segment().unwrap().is_none());
        Ok(all)
    };
    assert_eq!(read(&good).unwrap(), [vec![8; 20], vec![7; 10], vec![7; 10]]);
    for at in good.len() - 40..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(matches!(read(&bad), Err(PackageError::Digest(_))), "byte {at}");
        assert!(matches!(read(&good[..at]), Err(PackageError::Truncated)), "cut at {at}");
    }
    assert!(matches!(read(&[&good[..], b"x"].concat()), Err(PackageError::Malformed(_))));
    // Nothing of a patch can be had as if it were a full package.
    let (_, mut payload) = Package::open(good.as_slice()).unwrap().accept_unsigned().unwrap().into_payload();
    let mut content = payload.next_content().unwrap().unwrap();
    assert!(content.read(&mut [0; 10]).is_err());

    let refused = |pieces, memory| write(pieces, memory).unwrap_err().to_string();
    assert!(refused(vec![delta(size - 1)], 0).contains("as large as the contents"));
    assert!(refused(vec![delta(size), views], 0).contains("no place"));
    assert!(refused(vec![(Codec::Stored, size, vec![0; size as usize])], 0).contains("no place"));
    assert!(refused(vec![(Codec::Zstd, size, vec![0; 9])], 0).contains("no place"));
    assert!(refused(vec![delta(size)], limits::PACKAGE_MEMORY + 1).contains("memory"));
    assert!(refused(vec![delta(limits::PATCH_OUTPUT + 1)], 0).contains("size of its code"));
    let large = (Codec::Views, limits::PATCH_VIEW_BYTES + 1, vec![0; 4]);
    assert!(refused(vec![large, delta(size)], 0).contains("size of its code"));
    assert!(refused(vec![delta(0), delta(size)], 0).contains("empty"));
}

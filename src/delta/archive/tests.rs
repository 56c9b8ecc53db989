//! Archives made here, by the real deflaters, and by people who mean harm.

use super::*;
use crate::limits::{ARCHIVE_MEMBERS, ARCHIVE_RATIO};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as _;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;

/// Content that deflaters have to search: words, noise, repetitions near and far, runs.
pub(in crate::delta) fn sample(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"the ", b"update", b" of a tree", b"\0\0\0\0", b"journal\n", b"fn ", b"\xff\xfe", b"abcabcabc"];
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut out = Vec::new();
    while out.len() < len {
        let dice = next();
        match dice % 4 {
            0 => out.extend_from_slice(WORDS[(dice >> 2) % 8]),
            1 => out.push((dice >> 3) as u8),
            2 => {
                let (back, count) = (next(), 3 + next() % 60);
                if !out.is_empty() {
                    let back = 1 + back % out.len().min(40_000);
                    for _ in 0..count {
                        out.push(out[out.len() - back]);
                    }
                }
            }
            _ => {
                let count = next() % 20;
                out.resize(out.len() + count, (dice >> 2) as u8);
            }
        }
    }
    out.truncate(len);
    out
}

pub(in crate::delta) fn default_parameters() -> DeflateParameters {
    DeflateParameters::zlib(6, Strategy::Default, 8, 15).unwrap()
}

pub(in crate::delta) fn deflated(content: &[u8], parameters: DeflateParameters) -> Vec<u8> {
    let mut out = Vec::new();
    let mut deflater = Deflater::new(parameters);
    deflater.write(content, &mut out);
    deflater.finish(&mut out);
    out
}

fn plainly_inflated(deflated: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 1);
    let status = Decompress::new(false).decompress_vec(deflated, &mut out, FlushDecompress::Finish).unwrap();
    assert_eq!(status, Status::StreamEnd);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What zlib 1.2.13, gzip 1.12 and Info-ZIP 3.0 made of `sample(7, 400_000)`: family, level, strategy, memory level,
/// window bits; length, and the beginning of the SHA-256.
const VECTORS: &[(&str, u8, usize, u8, u8, usize, &str)] = &[
    ("zlib", 1, 0, 8, 15, 111294, "6779bab1b209a417"),
    ("zlib", 2, 0, 8, 15, 104198, "b228537f0f529f78"),
    ("zlib", 3, 0, 8, 15, 99811, "880716026d879445"),
    ("zlib", 4, 0, 8, 15, 90468, "9df6542023f9f9e6"),
    ("zlib", 5, 0, 8, 15, 81774, "d5f55047bc7069f5"),
    ("zlib", 6, 0, 8, 15, 75440, "21223bc6c4aebbb0"),
    ("zlib", 7, 0, 8, 15, 73634, "a9c3668085e758ee"),
    ("zlib", 8, 0, 8, 15, 72981, "500e5ee19af16a26"),
    ("zlib", 9, 0, 8, 15, 72970, "93f282c4947b0369"),
    ("zlib", 1, 0, 9, 15, 111904, "7fd4ab3cba009cb2"),
    ("zlib", 2, 0, 9, 15, 104224, "d65a3faaab812d2e"),
    ("zlib", 3, 0, 9, 15, 99689, "857f55f8516ea4e2"),
    ("zlib", 4, 0, 9, 15, 90423, "d464c4253139b270"),
    ("zlib", 5, 0, 9, 15, 81713, "c951677b9cd0667d"),
    ("zlib", 6, 0, 9, 15, 75419, "81bd85e182ff1d70"),
    ("zlib", 7, 0, 9, 15, 73629, "610eb56f75de23c1"),
    ("zlib", 8, 0, 9, 15, 72957, "8544b229618f950e"),
    ("zlib", 9, 0, 9, 15, 72945, "39dfebe4d0805ea7"),
    ("zlib", 3, 1, 9, 15, 99689, "857f55f8516ea4e2"),
    ("zlib", 6, 1, 9, 15, 81384, "69b12aaa3ea40a64"),
    ("zlib", 9, 1, 9, 15, 78726, "afe5be55412a1e56"),
    ("zlib", 6, 2, 8, 15, 357198, "ac05ea95cf37501d"),
    ("zlib", 6, 3, 8, 15, 187587, "62d0e1c7697816ca"),
    ("zlib", 6, 4, 8, 15, 82240, "bc2eea6ee8aac03d"),
    ("zlib", 1, 3, 9, 15, 187177, "522839ce7ff746db"),
    ("zlib", 2, 4, 1, 15, 148844, "5057bf0451e0728a"),
    ("zlib", 6, 0, 1, 15, 85740, "589faea174ceccfe"),
    ("zlib", 6, 0, 2, 15, 83442, "738d3c916ea3a89d"),
    ("zlib", 6, 0, 3, 15, 81224, "0135c02b5d6df88d"),
    ("zlib", 6, 0, 4, 15, 78353, "332dd82385d6eb69"),
    ("zlib", 6, 0, 5, 15, 76896, "c0e95c13a840dfe1"),
    ("zlib", 6, 0, 6, 15, 76043, "b974960816eb0c6f"),
    ("zlib", 6, 0, 7, 15, 75600, "91f34216723f3d30"),
    ("zlib", 6, 0, 8, 9, 149804, "b864e358c77491b5"),
    ("zlib", 1, 1, 9, 9, 153912, "bf6ca52467bcdae1"),
    ("zlib", 6, 0, 8, 10, 139546, "a1610805d10db5e5"),
    ("zlib", 1, 1, 9, 10, 147970, "6dd97dd0c4545f6f"),
    ("zlib", 6, 0, 8, 11, 134570, "e55ee618e93c67a5"),
    ("zlib", 1, 1, 9, 11, 146607, "282a1c0e2531ffea"),
    ("zlib", 6, 0, 8, 12, 126888, "21b4a2115064fb59"),
    ("zlib", 1, 1, 9, 12, 144471, "bc3a2344e3af1613"),
    ("zlib", 6, 0, 8, 13, 114912, "d2772f25415457d8"),
    ("zlib", 1, 1, 9, 13, 137746, "3f23db782f4b1698"),
    ("zlib", 6, 0, 8, 14, 97593, "b324a980d455f03e"),
    ("zlib", 1, 1, 9, 14, 126364, "64e9756c2b3a131f"),
    ("gzip", 1, 0, 9, 15, 111180, "ae0255ac240f33db"),
    ("gzip", 2, 0, 9, 15, 104067, "a792bffde80475bf"),
    ("gzip", 3, 0, 9, 15, 99672, "d0093cdddb27065c"),
    ("gzip", 4, 0, 9, 15, 90413, "18cc5766ee8fbd3e"),
    ("gzip", 5, 0, 9, 15, 81727, "bcf8e1262480fdb6"),
    ("gzip", 6, 0, 9, 15, 75413, "480e42d07ac3e16f"),
    ("gzip", 7, 0, 9, 15, 73618, "007481e9c75bb857"),
    ("gzip", 8, 0, 9, 15, 72957, "8544b229618f950e"),
    ("gzip", 9, 0, 9, 15, 72945, "39dfebe4d0805ea7"),
    ("info-zip", 1, 0, 9, 15, 111180, "ae0255ac240f33db"),
    ("info-zip", 2, 0, 9, 15, 104067, "a792bffde80475bf"),
    ("info-zip", 3, 0, 9, 15, 99672, "d0093cdddb27065c"),
    ("info-zip", 4, 0, 9, 15, 90413, "18cc5766ee8fbd3e"),
    ("info-zip", 5, 0, 9, 15, 81727, "bcf8e1262480fdb6"),
    ("info-zip", 6, 0, 9, 15, 75413, "480e42d07ac3e16f"),
    ("info-zip", 7, 0, 9, 15, 73618, "007481e9c75bb857"),
    ("info-zip", 8, 0, 9, 15, 72957, "8544b229618f950e"),
    ("info-zip", 9, 0, 9, 15, 72945, "39dfebe4d0805ea7"),
];

const STRATEGIES: [Strategy; 5] =
    [Strategy::Default, Strategy::Filtered, Strategy::HuffmanOnly, Strategy::Rle, Strategy::Fixed];

#[test]
fn the_real_deflaters_make_the_same_bytes() {
    let content = sample(7, 400_000);
    assert_eq!(hex(&Sha256::digest(&content)[..8]), "64424523d85e9fb1");
    for (family, level, strategy, memory_level, window_bits, len, digest) in VECTORS {
        let parameters = match *family {
            "zlib" => DeflateParameters::zlib(*level, STRATEGIES[*strategy], *memory_level, *window_bits),
            "gzip" => DeflateParameters::gzip(*level),
            _ => DeflateParameters::info_zip(*level),
        };
        let made = deflated(&content, parameters.unwrap());
        assert_eq!((made.len(), hex(&Sha256::digest(&made)[..8]).as_str()), (*len, *digest), "{parameters:?}");
    }
}

#[test]
fn parameters_come_back_from_their_bytes_and_others_are_refused() {
    let mut valid = 0;
    for family in 0..4_u8 {
        for level in 0..12_u8 {
            for strategy in 0..7_u8 {
                for sizes in 0..=255_u8 {
                    let bytes = [family, level, strategy, sizes];
                    if let Some(parameters) = DeflateParameters::from_bytes(bytes) {
                        assert_eq!(parameters.to_bytes(), bytes);
                        valid += 1;
                    }
                }
            }
        }
    }
    assert_eq!(valid, 9 * 5 * 9 * 7 + 9 + 9);
}

/// One member of a zip archive to be made.
pub(in crate::delta) struct Entry<'a> {
    pub(in crate::delta) name: &'a str,
    pub(in crate::delta) content: Vec<u8>,
    pub(in crate::delta) parameters: Option<DeflateParameters>,
    /// The sizes stand behind the content.
    pub(in crate::delta) streamed: bool,
}

pub(in crate::delta) fn entry(name: &str, content: Vec<u8>) -> Entry<'_> {
    Entry { name, content, parameters: Some(default_parameters()), streamed: false }
}

fn numbers(out: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (number, len) in numbers {
        out.extend_from_slice(&number.to_le_bytes()[..*len]);
    }
}

/// A zip archive; `wide` ones have numbers of 64 bits wherever they may.
pub(in crate::delta) fn zip_of(prefix: &[u8], entries: &[Entry<'_>], wide: bool, comment: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = (out.len() - prefix.len()) as u64;
        let stored = match entry.parameters {
            Some(parameters) => deflated(&entry.content, parameters),
            None => entry.content.clone(),
        };
        let mut crc = Crc::new();
        crc.update(&entry.content);
        let method = if entry.parameters.is_some() { 8 } else { 0 };
        let flags = if entry.streamed { 8 } else { 0 };
        let (len, inflated_len) = (stored.len() as u64, entry.content.len() as u64);
        let sizes = [(u64::from(crc.sum()), 4), (len, 4), (inflated_len, 4)];
        out.extend_from_slice(b"PK\x03\x04");
        numbers(&mut out, &[(20, 2), (flags, 2), (method, 2), (0, 4)]);
        numbers(&mut out, if entry.streamed { &[(0, 4), (0, 4), (0, 4)] } else { &sizes });
        numbers(&mut out, &[(entry.name.len() as u64, 2), (0, 2)]);
        out.extend_from_slice(entry.name.as_bytes());
        out.extend_from_slice(&stored);
        if entry.streamed {
            out.extend_from_slice(b"PK\x07\x08");
            numbers(&mut out, &sizes);
        }
        directory.extend_from_slice(b"PK\x01\x02");
        numbers(&mut directory, &[(20, 2), (20, 2), (flags, 2), (method, 2), (0, 4)]);
        let narrow = |number: u64| if wide { 0xffff_ffff } else { number };
        numbers(&mut directory, &[sizes[0], (narrow(len), 4), (narrow(inflated_len), 4)]);
        numbers(&mut directory, &[(entry.name.len() as u64, 2), (if wide { 28 } else { 0 }, 2), (0, 2)]);
        numbers(&mut directory, &[(0, 2), (0, 2), (0, 4), (narrow(offset), 4)]);
        directory.extend_from_slice(entry.name.as_bytes());
        if wide {
            numbers(&mut directory, &[(1, 2), (24, 2), (inflated_len, 8), (len, 8), (offset, 8)]);
        }
    }
    let (offset, len) = ((out.len() - prefix.len()) as u64, directory.len() as u64);
    let count = entries.len() as u64;
    out.extend_from_slice(&directory);
    if wide {
        let at = out.len() as u64;
        out.extend_from_slice(b"PK\x06\x06");
        numbers(&mut out, &[(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8), (len, 8), (offset, 8)]);
        out.extend_from_slice(b"PK\x06\x07");
        numbers(&mut out, &[(0, 4), (at, 8), (1, 4)]);
    }
    let narrow = |number: u64, most: u64| if wide { most } else { number };
    out.extend_from_slice(b"PK\x05\x06");
    numbers(&mut out, &[(0, 2), (0, 2), (narrow(count, 0xffff), 2), (narrow(count, 0xffff), 2)]);
    numbers(&mut out, &[(narrow(len, 0xffff_ffff), 4), (narrow(offset, 0xffff_ffff), 4)]);
    numbers(&mut out, &[(comment.len() as u64, 2)]);
    out.extend_from_slice(comment);
    out
}

pub(in crate::delta) fn gzip_of(content: &[u8], parameters: DeflateParameters) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x02\0XXname\0comment\0cc".to_vec();
    let mut crc = Crc::new();
    crc.update(content);
    out.extend_from_slice(&deflated(content, parameters));
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out
}

fn chunk(kind: &[u8; 4], data: &[u8], out: &mut Vec<u8>) {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
    out.extend_from_slice(&crc.sum().to_be_bytes());
}

pub(in crate::delta) fn png_of(content: &[u8], parameters: DeflateParameters, chunk_bytes: usize) -> Vec<u8> {
    let mut out = png::SIGNATURE.to_vec();
    chunk(b"IHDR", &[0; 13], &mut out);
    let mut stream = vec![0x78, 0x9c];
    stream.extend_from_slice(&deflated(content, parameters));
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend_from_slice(&(high << 16 | low).to_be_bytes());
    for data in stream.chunks(chunk_bytes) {
        chunk(b"IDAT", data, &mut out);
    }
    chunk(b"IEND", &[], &mut out);
    out
}

fn members_of(file: &[u8]) -> Vec<Member> {
    let parts = parts(&file.to_vec()).unwrap();
    let mut end = 0;
    for part in &parts {
        assert!(!part.is_empty());
        let (Part::Raw { offset, .. } | Part::Deflated(Member { offset, .. })) = part;
        assert_eq!(*offset, end, "{parts:?}");
        end += part.len();
    }
    assert_eq!(end, file.len() as u64);
    let members = parts.into_iter().filter_map(|part| match part {
        Part::Deflated(member) => Some(member),
        Part::Raw { .. } => None,
    });
    members.collect()
}

/// Takes a file apart and makes it again; gives how many members were inflated.
fn journey(file: &[u8], unchanged: &MemberSet) -> usize {
    let file = file.to_vec();
    let new = prepare(&file, &parts(&file).unwrap(), unchanged).unwrap();
    let mut assembler = Assembler::new(new.clone(), Vec::new());
    inflated(&file, &new, &mut |content| assembler.write(content)).unwrap();
    assert!(assembler.finish().unwrap() == file, "the file comes out the same");
    new.iter().filter(|part| matches!(part, NewPart::Deflated { .. })).count()
}

#[test]
fn every_kind_of_zip_is_cut_and_made_again() {
    let entries = || {
        let mut streamed = entry("streamed", sample(2, 70_000));
        streamed.streamed = true;
        let mut stored = entry("stored", sample(3, 5_000));
        stored.parameters = None;
        let mut old = entry("old", sample(4, 300_000));
        old.parameters = DeflateParameters::info_zip(9);
        let small = entry("small", b"a".to_vec());
        [entry("plain", sample(1, 100_000)), streamed, stored, old, small, entry("empty", Vec::new())]
    };
    for wide in [false, true] {
        for prefix in [&b""[..], b"PK-like\n", b"#!/bin/sh\n"] {
            for comment in [&b""[..], b"words PK\x05\x06 and words that follow them"] {
                let file = zip_of(prefix, &entries(), wide, comment);
                // Without the beginning of an archive a comment is not looked for.
                let count = if prefix.starts_with(b"#") && !comment.is_empty() { 0 } else { 4 };
                assert_eq!(members_of(&file).len(), count, "{wide} {prefix:?} {comment:?}");
                assert_eq!(journey(&file, &MemberSet::default()), count);
            }
        }
    }
}

#[test]
fn every_member_of_a_gzip_file_is_found() {
    let mut file = gzip_of(&sample(1, 200_000), DeflateParameters::gzip(6).unwrap());
    file.extend(gzip_of(&sample(2, 1_000), default_parameters()));
    assert_eq!(members_of(&file).iter().map(|member| member.inflated_len).collect::<Vec<_>>(), [200_000, 1_000]);
    assert_eq!(journey(&file, &MemberSet::default()), 2);
    file.extend(b"what follows");
    assert_eq!(journey(&file, &MemberSet::default()), 2);
    // A wrong checksum is not what would be made.
    let at = file.len() - 20;
    file[at] ^= 1;
    assert_eq!(journey(&file, &MemberSet::default()), 1);
}

#[test]
fn images_with_even_chunks_are_made_again_and_others_stay_raw() {
    let parameters = DeflateParameters::zlib(9, Strategy::Filtered, 9, 15).unwrap();
    let content = sample(5, 300_000);
    for chunk_bytes in [3, 100, 8_192, 1 << 24] {
        let file = png_of(&content, parameters, chunk_bytes);
        assert_eq!(members_of(&file).len(), 1, "{chunk_bytes}");
        assert_eq!(journey(&file, &MemberSet::default()), 1, "{chunk_bytes}");
    }
    let mut file = png::SIGNATURE.to_vec();
    let stream = [vec![0x78, 0x9c], deflated(&content, parameters), vec![0; 4]].concat();
    let (one, other) = stream.split_at(1_000);
    chunk(b"IDAT", one, &mut file);
    chunk(b"IDAT", other, &mut file);
    assert_eq!(members_of(&file), []);
    // The checksum of the stream is wrong: found, but not reproduced.
    let mut file = png::SIGNATURE.to_vec();
    chunk(b"IDAT", &stream, &mut file);
    assert_eq!(members_of(&file).len(), 1);
    assert_eq!(journey(&file, &MemberSet::default()), 0);
}

#[test]
fn only_changed_members_are_inflated() {
    let old = zip_of(b"", &[entry("same", sample(1, 50_000)), entry("other", sample(2, 50_000))], false, b"");
    let mut changed = sample(2, 50_000);
    changed[25_000] ^= 1;
    let new = zip_of(b"", &[entry("moved", sample(1, 50_000)), entry("other", changed.clone())], false, b"");
    let (old_parts, new_parts) = (parts(&old).unwrap(), parts(&new).unwrap());
    let (mut old_set, mut new_set) = (MemberSet::default(), MemberSet::default());
    old_set.insert(&old, &old_parts).unwrap();
    new_set.insert(&new, &new_parts).unwrap();
    assert_eq!(journey(&new, &old_set), 1);
    assert_eq!(journey(&new, &new_set), 0);
    let missing = new_set.missing(&old, &old_parts).unwrap();
    assert_eq!(missing.len(), 1, "the old content of the changed member");

    // The two differ in one byte, as they are compared.
    let mut content = vec![0; 50_000];
    Shown::new(&old, &[Part::Deflated(missing[0])]).read_exact_at(0, &mut content).unwrap();
    assert_eq!(content.iter().zip(&changed).filter(|(one, other)| one != other).count(), 1);
}

#[test]
fn what_is_shown_are_the_pieces_in_a_row() {
    let (content, more) = (sample(9, 150_000), sample(10, 900));
    let zip = zip_of(b"", &[entry("a", content.clone()), entry("b", more.clone())], false, b"");
    let [member, small] = members_of(&zip)[..] else { panic!("two members") };
    let pieces = [
        Part::Deflated(small),
        Part::Raw { offset: 3, len: 40 },
        Part::Deflated(member),
        Part::Raw { offset: 0, len: 1 },
        Part::Deflated(small),
    ];
    let whole = [&more[..], &zip[3..43], &content, &zip[..1], &more].concat();
    let shown = Shown::new(&zip, &pieces);
    assert_eq!(shown.size(), whole.len() as u64);
    for (offset, len) in [(0, whole.len()), (0, 0), (899, 2), (900, 60_000), (70_499, 50), (whole.len() - 1, 1), (3, 1)]
    {
        let mut read = vec![0; len];
        shown.read_exact_at(offset as u64, &mut read).unwrap();
        assert!(read == whole[offset..offset + len], "{offset} {len}");
    }
    assert_eq!(shown.inflated(), 150_000 + 2 * 900, "each member once: all of them are kept");
    assert!(shown.read_exact_at(whole.len() as u64 - 1, &mut [0; 2]).is_err());
    assert!(shown.read_exact_at(u64::MAX, &mut [0; 2]).is_err());

    let refused = |piece: Part| {
        let pieces = [piece];
        let shown = Shown::new(&zip, &pieces);
        let mut read = vec![0; shown.size().min(200_000) as usize];
        let error = shown.read_exact_at(0, &mut read).unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
            "{piece:?}: {error}"
        );
    };
    refused(Part::Raw { offset: zip.len() as u64, len: 1 });
    refused(Part::Raw { offset: u64::MAX, len: 2 });
    for lie in [
        Member { inflated_len: member.inflated_len + 1, ..member },
        Member { inflated_len: u64::MAX, ..member },
        Member { len: u64::MAX, ..member },
        Member { len: zip.len() as u64, ..member },
        Member { len: member.len / 2, ..member },
        Member { offset: member.offset + 1, ..member },
        Member { len: 3, wrapper: Wrapper::Gzip, ..member },
        Member { wrapper: Wrapper::Png { zlib_header: [0; 2], chunk_bytes: 0 }, ..member },
        Member { wrapper: Wrapper::Png { zlib_header: [0; 2], chunk_bytes: 3 }, ..member },
    ] {
        refused(Part::Deflated(lie));
    }
}

#[test]
fn large_members_are_read_anywhere_without_beginning_anew() {
    let content = sample(11, 9_000_000);
    let block = 64 << 10;
    for file in [
        gzip_of(&content, default_parameters()),
        png_of(&content, default_parameters(), 3_000),
        zip_of(b"", &[entry("a", content.clone())], false, b""),
    ] {
        let pieces = [Part::Deflated(members_of(&file)[0])];
        let shown = Shown::new(&file, &pieces);
        let read = |offset: usize, len: usize| {
            let mut read = vec![0; len];
            shown.read_exact_at(offset as u64, &mut read).unwrap();
            assert!(read == content[offset..offset + len], "{offset} {len}");
        };
        read(8_999_999, 1);
        assert_eq!(shown.inflated(), 9_000_000);
        // Backwards, a block at a time: from a mark at most three blocks before it.
        for offset in (0..9_000_000 - block).step_by(block).rev() {
            read(offset + 7, 100);
        }
        let steps = 9_000_000 / block as u64;
        assert!(shown.inflated() <= 9_000_000 + steps * 4 * block as u64, "{}", shown.inflated());
        let before = shown.inflated();
        for (number, offset) in sample(12, 64).chunks(2).enumerate() {
            let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]])) * 135;
            read(offset, 1 + number * 999);
        }
        assert!(shown.inflated() - before <= 32 * 5 * block as u64, "{}", shown.inflated() - before);
        // What it keeps is what it says: 9 MB of blocks are not kept.
        assert!(shown_memory(&pieces) < 5 << 20, "{}", shown_memory(&pieces));
    }
}

#[test]
fn members_that_can_be_kept_are_inflated_once() {
    let content = sample(13, 3_000_000);
    let file = gzip_of(&content, default_parameters());
    let pieces = [Part::Deflated(members_of(&file)[0])];
    let shown = Shown::new(&file, &pieces);
    for (number, offset) in sample(14, 2000).chunks(2).enumerate() {
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]])) * 45;
        let mut read = vec![0; 1 + number];
        shown.read_exact_at(offset as u64, &mut read).unwrap();
        assert!(read == content[offset..offset + read.len()], "{offset}");
    }
    assert!(shown.inflated() <= 3_000_000, "{}", shown.inflated());
    assert!((3 << 20..7 << 20).contains(&shown_memory(&pieces)), "{}", shown_memory(&pieces));
}

#[test]
fn what_is_made_has_the_stated_lengths_or_is_an_error() {
    let content = sample(1, 100_000);
    let stream = deflated(&content, default_parameters());
    let part = |len: usize, inflated_len: usize, wrapper| NewPart::Deflated {
        len: len as u64,
        inflated_len: inflated_len as u64,
        wrapper,
        parameters: default_parameters(),
    };
    let make = |parts: &[NewPart], content: &[u8]| {
        let mut assembler = Assembler::new(parts.to_vec(), Vec::new());
        assembler.write(content)?;
        assembler.finish()
    };
    let fine = part(stream.len(), content.len(), Wrapper::Plain);
    let tail = NewPart::Raw { len: 3 };
    assert_eq!(make(&[fine], &content).unwrap(), stream);
    assert_eq!(make(&[tail], b"abc").unwrap(), b"abc");
    assert_eq!(make(&[], b"").unwrap(), b"");
    assert_eq!(make(&[NewPart::Raw { len: 0 }, tail, NewPart::Raw { len: 0 }], b"abc").unwrap(), b"abc");
    assert_eq!(make(&[part(2, 0, Wrapper::Plain), tail], b"abc").unwrap(), b"\x03\0abc");
    let png = Wrapper::Png { zlib_header: [0x78, 0x9c], chunk_bytes: 1_000 };
    for (parts, content) in [
        (vec![fine], &content[1..]),
        (vec![fine, tail], &content),
        (vec![tail], b"abcd"),
        (vec![], b"a"),
        (vec![part(stream.len() - 1, content.len(), Wrapper::Plain)], &content),
        (vec![part(stream.len() + 1, content.len(), Wrapper::Plain)], &content),
        (vec![part(stream.len(), content.len(), Wrapper::Gzip)], &content),
        (vec![part(stream.len(), content.len(), png)], &content),
        (vec![part(0, content.len(), png)], &content),
        (vec![part(usize::MAX, content.len(), png)], &content),
    ] {
        assert!(matches!(make(&parts, content), Err(ArchiveError::Assemble(_))), "{parts:?}");
    }
}

/// Where in an archive of one member its directory entry begins.
fn directory_of(file: &[u8]) -> usize {
    file.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap()
}

#[test]
fn a_lying_directory_makes_raw_ranges() {
    let file = zip_of(b"", &[entry("name", sample(1, 10_000))], false, b"");
    assert_eq!(members_of(&file).len(), 1);
    let at = directory_of(&file);
    let lies: [(&str, usize, &[u8]); 12] = [
        ("encrypted", at + 8, &[1, 0]),
        ("method of the entry", at + 10, &[9, 0]),
        ("length", at + 20, &[1, 1, 0, 0]),
        ("huge length", at + 20, &[0xfe, 0xff, 0xff, 0xff]),
        ("inflated length", at + 24, &[1, 0, 0, 0]),
        ("no inflated length", at + 24, &[0, 0, 0, 0]),
        ("offset", at + 42, &[1, 0, 0, 0]),
        ("huge offset", at + 42, &[0xff, 0xff, 0xff, 0x7f]),
        ("name", at + 46, b"x"),
        ("local method", 8, &[0, 0]),
        ("local name length", 26, &[5, 0]),
        ("local signature", 3, &[5]),
    ];
    for (what, at, bytes) in lies {
        let mut bad = file.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(members_of(&bad), [], "{what}");
    }
    // The same lie in both places is found when the member is inflated.
    let mut bad = file.clone();
    for at in [at + 24, 22] {
        bad[at] ^= 1;
    }
    assert_eq!(members_of(&bad).len(), 1);
    assert_eq!(journey(&bad, &MemberSet::default()), 0);
    let end = file.len() - 22;
    for (what, at, bytes) in [
        ("directory length", end + 12, [0xff, 0xff, 0xff, 0x7f]),
        ("directory offset", end + 16, [0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut bad = file.clone();
        bad[at..at + 4].copy_from_slice(&bytes);
        assert_eq!(members_of(&bad), [], "{what}");
    }
    let mut more = file.clone();
    more[end + 10] = 200;
    assert_eq!(members_of(&more).len(), 1, "there are fewer entries than stated");
}

#[test]
fn members_that_overlap_are_taken_once() {
    // Two entries, both for the first member: the directory is read, and copied, from the archive of one.
    let file = zip_of(b"", &[entry("name", sample(1, 10_000))], false, b"");
    let (at, end) = (directory_of(&file), file.len() - 22);
    let directory = &file[at..end];
    let mut bomb = file[..at].to_vec();
    for _ in 0..100 {
        bomb.extend_from_slice(directory);
    }
    bomb.extend_from_slice(&file[end..]);
    let end = bomb.len() - 22;
    bomb[end + 8..end + 16].copy_from_slice(&[100, 0, 100, 0, 0, 0, 0, 0]);
    let len = (100 * directory.len()) as u32;
    bomb[end + 12..end + 16].copy_from_slice(&len.to_le_bytes());
    assert_eq!(members_of(&bomb).len(), 1);
    assert_eq!(journey(&bomb, &MemberSet::default()), 1);
}

#[test]
fn bombs_stay_raw() {
    let zeros = vec![0; 4 << 20];
    let stream = deflated(&zeros, default_parameters());
    assert!(stream.len() as u64 * ARCHIVE_RATIO < zeros.len() as u64, "it is a bomb");
    assert_eq!(members_of(&zip_of(b"", &[entry("zeros", zeros.clone())], false, b"")), []);
    assert_eq!(members_of(&gzip_of(&zeros, default_parameters())), []);
    assert_eq!(members_of(&png_of(&zeros, default_parameters(), 8_192)), []);
    // A directory that promises more entries than are looked at.
    let mut file = zip_of(b"", &[entry("name", sample(1, 10_000))], true, b"");
    let at = file.windows(4).position(|bytes| bytes == b"PK\x06\x06").unwrap();
    file[at + 32..at + 40].copy_from_slice(&(ARCHIVE_MEMBERS as u64 + 1).to_le_bytes());
    assert_eq!(members_of(&file), []);
}

#[test]
fn every_truncation_is_survived() {
    let content = sample(1, 3_000);
    for file in [
        zip_of(b"", &[entry("a", content.clone()), entry("b", sample(2, 300))], true, b"comment"),
        [gzip_of(&content, default_parameters()), gzip_of(&sample(2, 300), default_parameters())].concat(),
        png_of(&content, default_parameters(), 100),
    ] {
        for len in (0..file.len()).step_by(7) {
            journey(&file[..len], &MemberSet::default());
        }
    }
}

#[test]
fn what_no_known_deflater_made_stays_raw() {
    let content = sample(3, 50_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(&content).unwrap();
    let file = encoder.finish().unwrap();
    assert_eq!(members_of(&file).len(), 1);
    assert_eq!(journey(&file, &MemberSet::default()), 0);
}

fn any_parameters() -> impl proptest::strategy::Strategy<Value = DeflateParameters> {
    let zlib = (1..=9_u8, 0..5_usize, 1..=9_u8, 9..=15_u8).prop_map(|(level, strategy, memory_level, window_bits)| {
        DeflateParameters::zlib(level, STRATEGIES[strategy], memory_level, window_bits).unwrap()
    });
    let old = (1..=9_u8, any::<bool>()).prop_map(|(level, gzip)| {
        if gzip { DeflateParameters::gzip(level) } else { DeflateParameters::info_zip(level) }.unwrap()
    });
    prop_oneof![4 => zlib, 1 => old]
}

fn any_content() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    prop_oneof![
        (any::<u64>(), 0..200_000_usize).prop_map(|(seed, len)| sample(seed, len)),
        prop::collection::vec(any::<u8>(), 0..2_000),
        (any::<u8>(), 0..100_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everything_deflated_inflates_again(content in any_content(), parameters in any_parameters()) {
        let stream = deflated(&content, parameters);
        prop_assert!(plainly_inflated(&stream, content.len()) == content);
    }

    #[test]
    fn the_output_does_not_depend_on_the_pieces(
        content in any_content(),
        parameters in any_parameters(),
        piece in 1..70_000_usize,
    ) {
        let mut out = Vec::new();
        let mut deflater = Deflater::new(parameters);
        for piece in content.chunks(piece) {
            deflater.write(piece, &mut out);
        }
        deflater.finish(&mut out);
        prop_assert!(out == deflated(&content, parameters));
    }

    #[test]
    fn archives_are_made_again_whatever_is_flipped(
        seed in any::<u64>(),
        kind in 0..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let content = sample(seed, 5_000);
        let mut file = match kind {
            0 => zip_of(b"", &[entry("a", content), entry("b", sample(!seed, 500))], seed % 2 == 0, b""),
            1 => gzip_of(&content, DeflateParameters::gzip(6).unwrap()),
            _ => png_of(&content, default_parameters(), 1_000),
        };
        let whole = members_of(&file).len();
        let inflated = journey(&file, &MemberSet::default());
        prop_assert_eq!(inflated, whole);
        prop_assert!(whole > 0);
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] ^= value;
        }
        journey(&file, &MemberSet::default());
    }
}

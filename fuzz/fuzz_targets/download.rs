//! What servers and a damaged disk say to a download: heads, bodies, headers, entries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::codec::v1::Download;
use surefoot::fetch::{
    BlockMap, ContentRange, Failure, Head, Next, Patience, Resume, Section, Sections, Wanted, resolve, shown,
    strong_tag,
};
use surefoot::limits;
use surefoot::model::Digest;
use surefoot_fuzz::state::crc32c;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => texts(&String::from_utf8_lossy(data)),
        1 => header(data),
        _ => dialogue(*kind, data),
    }
});

fn texts(text: &str) {
    if let Some(ContentRange::Part { first, last, total }) = ContentRange::parse(text) {
        assert!(first <= last && total.is_none_or(|total| last < total));
    }
    if let Some(tag) = strong_tag(text) {
        assert!(tag.len() <= limits::ENTITY_TAG_BYTES && tag.is_ascii());
        assert_eq!(strong_tag(tag), Some(tag));
    }
    let head = Head { retry_after: Some(text.into()), date: Some(text.into()), ..Head::default() };
    let _ = head.retry_after();
    if let Some((base, address)) = text.split_once('\n')
        && let Ok(full) = resolve(base, address)
    {
        assert!(full.len() <= limits::ADDRESS_BYTES);
        let _ = shown(&full);
    }
}

fn header(data: &[u8]) {
    let mut block = data.to_vec();
    block.resize(limits::DOWNLOAD_HEADER, 0);
    // Past the checksum, where the fuzzer cannot get alone.
    let sum = crc32c(&block[4..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
    if let Ok(header) = Download::decode_block(&block) {
        assert_eq!(header.encode_block(), block, "one spelling");
        let entry = header.entry(7, 9);
        assert_eq!((header.checksum(7, &entry), header.checksum(8, &entry)), (Some(9), None));
    }
}

/// Any server, any disk: what is held never exceeds the content, nothing is written outside of it, and it comes to an
/// end as soon as nothing new comes.
fn dialogue(kind: u8, data: &[u8]) {
    let piece = limits::DOWNLOAD_PIECE;
    let length = u64::from(kind) * 1500 + 1;
    let content = vec![0; length as usize];
    let wanted = Wanted {
        addresses: vec!["a".into(), "b".into()],
        size: (kind & 8 != 0).then_some(length),
        digest: (kind & 16 != 0).then(|| Digest::of(&content)),
        blocks: if kind & 96 == 32 { BlockMap::of(piece, &content) } else { None },
        signature: None,
        sections: if kind & 64 != 0 { sections(&content) } else { None },
        label: String::new(),
    };
    let mut resume = Resume::new(wanted.clone(), Patience::default());
    let mut input = data.iter().copied();
    let mut byte = || input.next();
    let mut idle = 0;
    loop {
        let held = resume.held_bytes();
        let failure = match resume.proceed() {
            Next::Fail => return,
            Next::Check => match byte() {
                Some(right) if right % 2 == 1 => resume.whole_is_wrong(),
                _ => {
                    assert_eq!(resume.wanted_bytes(), Some(resume.held_bytes()));
                    return;
                }
            },
            Next::Ask(ask) => {
                let end = wanted.length().or(resume.length()).unwrap_or(u64::MAX);
                assert!(
                    ask.address < 2 && ask.range.is_none_or(|(start, to)| start < end && to.unwrap_or(end) > start)
                );
                let Some(choice) = byte() else { return };
                let (start, to) = ask.range.map_or((0, length), |(start, to)| (start, to.unwrap_or(length)));
                let total = length + u64::from(choice & 1);
                let head = Head {
                    status: [200, 206, 206, 206, 416, 404, 503, 200][usize::from(choice >> 5)],
                    content_length: (choice & 2 != 0).then(|| to.saturating_sub(start)),
                    content_range: Some(format!("bytes {start}-{}/{total}", to.saturating_sub(1))),
                    etag: Some(format!("\"{}\"", choice & 4)),
                    ..Head::default()
                };
                answer(&mut resume, &head, &mut byte).err().unwrap_or(Failure::Truncated)
            }
        };
        if let Some(length) = resume.length() {
            assert!(resume.held_bytes() <= length.div_ceil(piece) * piece);
        }
        idle = if resume.held_bytes() > held { 0 } else { idle + 1 };
        assert!(idle < 500, "it goes on for ever");
        if resume.failed(failure, 1).is_none() {
            return;
        }
    }
}

/// Some stretches that share pieces, with and without digests, and gaps between them.
fn sections(content: &[u8]) -> Option<Sections> {
    let length = content.len() as u64;
    let ends = [(3, 7000), (9000, 30_000), (30_000, 150_000), (250_000, length)];
    let inside = ends.into_iter().filter(|(start, end)| start < end && *end <= length);
    let section = |(start, end): (u64, u64)| {
        let digest = (start != 3).then(|| Digest::of(&content[start as usize..end as usize]));
        Section { start, end, digest }
    };
    Sections::new(length, inside.map(section).collect())
}

fn answer(resume: &mut Resume, head: &Head, byte: &mut dyn FnMut() -> Option<u8>) -> Result<(), Failure> {
    resume.head(head)?;
    let chunk = vec![0_u8; 40_000];
    while let Some(count) = byte().filter(|count| *count > 0) {
        let mut rest = &chunk[..(usize::from(count) * 157).min(chunk.len())];
        while !rest.is_empty() {
            let taken = resume.take(rest)?;
            assert!(taken.rest.len() < rest.len(), "every call takes something");
            rest = taken.rest;
            if let (Some((at, bytes)), Some(length)) = (taken.write, resume.length()) {
                assert!(at + bytes.len() as u64 <= length);
            }
            let Some(finished) = taken.finished else { continue };
            while let Some((block, _)) = resume.due_block(finished.piece) {
                resume.block(block, byte().is_some_and(|good| good % 4 != 0))?;
            }
        }
    }
    resume.end().map(drop)
}

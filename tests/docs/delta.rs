//! The test vectors of `docs/formats/delta.md`: each is decoded, and makes what the page says.

use std::io;
use std::sync::Arc;
use surefoot::codec::segment::{Lengths, decode_views, encode, encode_views};
use surefoot::delta::archive::{DeflateParameters, Deflater};
use surefoot::delta::{Contents, Sink, decode};
use surefoot::model::{
    Coder, Extent, Load, Member, Method, Pack, Part, Region, Relocation, Rule, Segment, Source, Wrapper,
};

/// Every vector by name.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let [old, views, assembled] = assembled();
    let [moving, moves, moved] = moved();
    [
        ("delta-segment", plain()),
        ("delta-code", code()),
        ("delta-old", old),
        ("delta-views", views),
        ("delta-assembled", assembled),
        ("delta-moved-old", moving),
        ("delta-moved-views", moves),
        ("delta-moved", moved),
    ]
    .into_iter()
}

/// Two copies, one byte that differs, five literals.
fn plain() -> Vec<u8> {
    let files = Files { old: letters(), new: b"klmnopqrstuvwXyz and abcdefghij".to_vec() };
    let different = [b'X'.wrapping_sub(b'x')];
    made(&files, &[], false, &[&[0, 16, 5, 10], &[20, 51], &[13, 1], &different, b" and "])
}

/// A call whose opcode is copied, and literals that are code: two operands, a jump that is too far, a call that is cut
/// off.
fn code() -> Vec<u8> {
    let new = b"abcdefghi\xe8\x32\0\0\0\x48\x8d\x05\x2b\0\0\0\x0f\x10\x05\xe4\xff\xff\xff\xe9\x04\x03\x02\x01\xe8\0\0";
    let literals = b"\0\0\x40\0\x48\x8d\x05\0\0\x40\0\x0f\x10\x05\0\0\0\0\xe9\x04\x03\x02\x01\xe8\0\0";
    let files = Files { old: letters(), new: new.to_vec() };
    made(&files, &[], true, &[&[0, 10], &[0], &[9, 1], &[0xE8 - b'j'], literals])
}

/// A gzip file, the view of it, and a segment that makes another gzip file of that.
fn assembled() -> [Vec<u8>; 3] {
    let parameters = DeflateParameters::gzip(6).unwrap();
    let gzip = |content: &[u8]| {
        let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
        let mut deflater = Deflater::new(parameters);
        deflater.write(content, &mut out);
        deflater.finish(&mut out);
        let mut checksum = flate2::Crc::new();
        checksum.update(content);
        out.extend_from_slice(&checksum.sum().to_le_bytes());
        out.extend_from_slice(&checksum.amount().to_le_bytes());
        out
    };
    let files = Files { old: gzip(&letters()), new: gzip(&letters()[..25].repeat(2)) };
    let member = Member { offset: 10, len: files.old.len() as u64 - 10, inflated_len: 26, wrapper: Wrapper::Gzip };
    let view = Relocation {
        file: 0,
        pieces: vec![Part::Raw { offset: 0, len: 10 }, Part::Deflated(member)],
        loads: Vec::new(),
        regions: Vec::new(),
        map: Arc::default(),
    };
    let recipe = [&[10, files.new.len() as u8 - 10, 50, 2][..], &parameters.to_bytes()].concat();
    let views = [view];
    let segment = made(&files, &views, false, &[&[0, 10, 0, 25, 0, 25], &[0, 0, 49], &[], &[], &[], &recipe]);
    [files.old, encode_views(&views), segment]
}

/// A file with a region for each rule, the view of it, and what the view shows.
fn moved() -> [Vec<u8>; 3] {
    // Code at 0x10000, and what begins at 0x10010 moves by 0x10; data at 0x20000 moves by 0x1000. Types from number 5
    // on move by 2, names from number 9 on by 3.
    let map = vec![(5, 2), (0x1_0000, 0), (0x1_0010, 0x10), (0x2_0000, 0x1000), (1 << 32, 0), ((1 << 32) + 9, 3)];
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let parts: [(Rule, u64, Vec<u8>, Vec<u8>); 7] = [
        (
            Rule::CodeX86,
            0x1_0000,
            // call 0x10014; lea rax, [0x20000]; movups xmm0, [0x20008]; jump to nowhere
            b"\xe8\x0f\0\0\0\x48\x8d\x05\xf4\xff\0\0\x0f\x10\x05\xf5\xff\0\0\xe9\0\0\0\x70".to_vec(),
            b"\xe8\x1f\0\0\0\x48\x8d\x05\xf4\x0f\x01\0\x0f\x10\x05\xf5\x0f\x01\0\xe9\0\0\0\x70".to_vec(),
        ),
        (Rule::Words, 0x2_0000, words(&[0x1_0010, 0]), words(&[0x1_0020, 0])),
        (
            Rule::Mixed,
            0x2_0008,
            words(&[0x2_0010, 0, 0xFFFF_0008, 7]),
            // The second one is at 0x20010, and its target at 0x10018.
            words(&[0x2_1010, 0, 0xFFFF_0008 - 0x1000 + 0x10, 7]),
        ),
        (Rule::Relative, 0x2_0018, words(&[0xFFFF_0000, 100]), words(&[0xFFFF_0000 - 0x1000 + 0x10, 100])),
        (
            Rule::FrameTable,
            0x2_0020,
            words(&[0x3B03_1B01, 0xFFFE_FFF4, 1, 0xFFFE_FFF4]),
            words(&[0x3B03_1B01, 0xFFFE_FFF4, 1, 0xFFFE_FFF4 - 0x1000 + 0x10]),
        ),
        (
            Rule::CodeArm64,
            0x1_0030,
            // bl 0x10000; adrp x1, 0x20000; nop; ldr q0, [x1, #0x30]
            words(&[0x97FF_FFF4, 0x9000_0081, 0xD503_201F, 0x3DC0_0C20]),
            words(&[0x97FF_FFF0, 0xB000_0081, 0xD503_201F, 0x3DC0_0C20]),
        ),
        (
            Rule::TypeNumbers,
            0,
            // A pointer to type 7, named 10; a structure without a name of 8 bytes with one member, named 8, of type 4.
            words(&[0x0001_EB9F, 24, 0, 36, 36, 0, 10, 2 << 24, 7, 0, 4 << 24 | 1, 8, 8, 4, 0]),
            words(&[0x0001_EB9F, 24, 0, 36, 36, 0, 13, 2 << 24, 9, 0, 4 << 24 | 1, 8, 8, 4, 0]),
        ),
    ];
    let mut files = Files { old: Vec::new(), new: Vec::new() };
    let mut regions = Vec::new();
    for (rule, address, before, after) in parts {
        regions.push(Region { offset: files.old.len() as u64, length: before.len() as u64, address, rule });
        files.old.extend(before);
        files.new.extend(after);
    }
    let load = |address, offset, length, code| Load { address, offset, length, code };
    let loads = vec![load(0x1_0000, 0, 0x40, true), load(0x2_0000, 24, 0x60, false)];
    let views = [Relocation { file: 0, pieces: Vec::new(), loads, regions, map: Arc::new(map) }];
    let length = files.new.len() as u8;
    made(&files, &views, false, &[&[0, length & 127 | 128, length >> 7], &[0], &[], &[], &[]]);
    [files.old, encode_views(&views), files.new]
}

fn letters() -> Vec<u8> {
    (b'a'..=b'z').collect()
}

/// The one old file and the one new file.
struct Files {
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Contents for Files {
    fn length(&self, file: u32) -> Option<u64> {
        self.old_length(file)
    }

    fn read_at(&self, _: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.old[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

impl Lengths for Files {
    fn old_length(&self, file: u32) -> Option<u64> {
        (file == 0).then_some(self.old.len() as u64)
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        (file == 0).then_some(self.new.len() as u64)
    }
}

struct Made(Vec<u8>);

impl Sink for Made {
    fn write(&mut self, _: usize, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Header and body of the segment of these streams, stored, that reads all of the old file, through the view if there
/// is one. It was decoded and has made the new file.
#[track_caller]
fn made(files: &Files, views: &[Relocation], code: bool, streams: &[&[u8]]) -> Vec<u8> {
    if !views.is_empty() {
        assert_eq!(decode_views(&encode_views(views), files).unwrap(), views);
    }
    let length = views.first().map_or(files.old.len() as u64, |view| view.length(files.old.len() as u64));
    let used = || streams.iter().filter(|stream| !stream.is_empty());
    let body: Vec<u8> = used().flat_map(|stream| stream.iter().copied()).collect();
    let segment = Segment {
        method: Method::Cover,
        outputs: vec![Extent { file: 0, offset: 0, length: files.new.len() as u64 }],
        sources: vec![Source { extent: Extent { file: 0, offset: 0, length }, view: (!views.is_empty()).then_some(0) }],
        streams: streams.iter().map(|stream| stream.len() as u64).collect(),
        packs: used().map(|stream| Pack { coder: Coder::Stored, length: stream.len() as u64 }).collect(),
        joined: false,
        assembled: streams.len() > 5,
        code,
    };
    let mut made = Made(Vec::new());
    decode(&segment, &body, files, views, 4 << 20, &mut made).unwrap();
    assert_eq!(made.0, files.new);
    [encode(&segment, files), body].concat()
}

//! Round trips of arbitrary pairs, and segments that lie.

#![allow(clippy::unwrap_used, clippy::panic)]

mod archives;

use super::build::{Level, Options, Patch, Tree, encode};
use super::{Contents, DeltaError, Sink, View, decode, memory};
use crate::model::{Coder, Load, Method, Region, Relocation, Rule, Segment};
use proptest::prelude::*;
use std::io;
use std::sync::Arc;

pub(super) struct Memory(pub(super) Vec<Vec<u8>>);

impl Contents for Memory {
    fn length(&self, file: u32) -> Option<u64> {
        self.0.get(file as usize).map(|bytes| bytes.len() as u64)
    }

    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.0.get(file as usize).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).unwrap().min(file.len());
        let taken = file[from..].get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(taken);
        Ok(())
    }
}

#[derive(Default)]
struct Gathered(Vec<Vec<u8>>);

impl Sink for Gathered {
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()> {
        self.0.resize(self.0.len().max(output + 1), Vec::new());
        self.0[output].extend_from_slice(bytes);
        Ok(())
    }
}

fn patch_of(old: &Memory, new: &Memory, level: Level, segment: usize) -> Patch {
    let paths = |files: &Memory| (0..files.0.len()).map(|number| format!("d/file{number}").into_bytes()).collect();
    let options = Options { segment, ..Options::new(level, 1 << 30) };
    let old = Tree { contents: old, paths: paths(old) };
    let new = Tree { contents: new, paths: paths(new) };
    encode(&old, &new, &options, &|_, _| true).unwrap()
}

fn made_by(patch: &Patch, old: &Memory, new: &Memory) -> Vec<Vec<u8>> {
    let mut made: Vec<Vec<u8>> = new.0.iter().map(|file| vec![0; file.len()]).collect();
    let mut total = 0;
    for (segment, body) in &patch.segments {
        let mut sink = Gathered::default();
        decode(segment, body, old, &patch.views, memory(segment, &patch.views), &mut sink).unwrap();
        for (extent, bytes) in segment.outputs.iter().zip(sink.0.into_iter().chain(std::iter::repeat(Vec::new()))) {
            assert_eq!(bytes.len() as u64, extent.length);
            made[extent.file as usize][extent.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            total += bytes.len();
        }
    }
    assert_eq!(total, new.0.iter().map(Vec::len).sum::<usize>(), "every byte is made once");
    made
}

fn packed(patch: &Patch) -> usize {
    patch.segments.iter().map(|segment| segment.1.len()).sum()
}

/// Bytes without any pattern, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

const LEVELS: [Level; 3] = [Level::Fast, Level::Default, Level::Best];

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Overwrite(usize, Vec<u8>),
    Move(usize, usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<usize>(), 1_usize..200).prop_map(|(at, length)| Edit::Delete(at, length)),
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Edit::Overwrite(at, bytes)),
        (any::<usize>(), any::<usize>(), 1_usize..500).prop_map(|(from, to, length)| Edit::Move(from, to, length)),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let place = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
        match edit {
            Edit::Insert(at, what) => {
                let at = place(*at, &bytes);
                bytes.splice(at..at, what.iter().copied());
            }
            Edit::Delete(at, length) => {
                let at = place(*at, &bytes);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Edit::Overwrite(at, what) => {
                let at = place(*at, &bytes);
                let end = (at + what.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&what[..end - at]);
            }
            Edit::Move(from, to, length) => {
                let from = place(*from, &bytes);
                let taken: Vec<u8> = bytes.drain(from..(from + length).min(bytes.len())).collect();
                let to = place(*to, &bytes);
                bytes.splice(to..to, taken);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_pairs_round_trip(
        old in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..5),
        new in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..5),
        level in 0_usize..3,
        segment in 1_usize..900,
    ) {
        let (old, new) = (Memory(old), Memory(new));
        let patch = patch_of(&old, &new, LEVELS[level], segment);
        prop_assert_eq!(made_by(&patch, &old, &new), new.0);
    }

    #[test]
    fn edits_cost_about_what_they_change(
        seed in any::<u64>(),
        length in 2000_usize..9000,
        edits in proptest::collection::vec(edit(), 0..6),
        level in 1_usize..3,
    ) {
        let old = Memory(vec![noise(seed, length)]);
        let new = Memory(vec![edited(old.0[0].clone(), &edits)]);
        let patch = patch_of(&old, &new, LEVELS[level], 1 << 20);
        prop_assert_eq!(&made_by(&patch, &old, &new), &new.0);
        // Each edit brings at most 40 new bytes and a few covers; short pieces between edits may be lost.
        prop_assert!(packed(&patch) < 80 + edits.len() * 110, "{} for {} edits", packed(&patch), edits.len());
    }
}

#[test]
fn moved_and_copied_files_are_nearly_free() {
    let file = noise(1, 100_000);
    let old = Memory(vec![noise(2, 50_000), file.clone(), noise(3, 70_000)]);
    let new = Memory(vec![file.clone(), file[..60_000].to_vec(), [&file[..30_000], &old.0[2][..]].concat()]);
    for level in LEVELS {
        let patch = patch_of(&old, &new, level, 1 << 20);
        assert_eq!(made_by(&patch, &old, &new), new.0);
        assert!(packed(&patch) < 60, "{level:?}: {}", packed(&patch));
    }
}

#[test]
fn text_takes_old_files_as_history() {
    let line = |seed: u64| format!("export const value{} = compute({});\n", seed % 997, seed * 7 % 1009).into_bytes();
    let file = |from: u64| (from..from + 300).flat_map(|seed| line(seed * 2_654_435_761 % 65_537)).collect::<Vec<u8>>();
    let old = Memory((0..20).map(|number| file(number * 211)).collect());
    let mixed = |number: u64| (0..300).flat_map(|at| line((number + at * at) * 2_654_435_761 % 65_537)).collect();
    let new = Memory((0..20).map(mixed).collect());
    let patch = patch_of(&old, &new, Level::Default, 1 << 20);
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert!(patch.segments.iter().any(|(segment, _)| segment.method == Method::History));
    let fast = patch_of(&old, &new, Level::Fast, 1 << 20);
    assert_eq!(made_by(&fast, &old, &new), new.0);
}

/// New code calls old functions by distances that are nowhere else; as places they are few.
#[test]
fn new_code_is_packed_by_what_it_calls() {
    let old = Memory(vec![noise(1, 60_000)]);
    let mut file = old.0[0].clone();
    for call in 0..2_000_usize {
        file.extend(noise(call as u64 % 7, 5));
        file.push(0xe8);
        let target = (call * call % 11) * 5_000;
        file.extend((target as i32 - (file.len() as i32 + 4)).to_le_bytes());
    }
    let new = Memory(vec![file]);
    for level in LEVELS {
        let patch = patch_of(&old, &new, level, 1 << 20);
        assert_eq!(made_by(&patch, &old, &new), new.0);
        let codes = patch.segments.iter().filter(|(segment, _)| segment.code).count();
        assert!(codes > 0, "{level:?}");
        // Eleven targets and seven beginnings: without places each call takes about two bytes more than its noise.
        assert!(packed(&patch) < 4_000, "{level:?}: {}", packed(&patch));
    }
    let text = Memory(vec![noise(2, 30_000)]);
    let plain = patch_of(&old, &text, Level::Default, 1 << 20);
    assert!(plain.segments.iter().all(|(segment, _)| !segment.code));
}

/// An executable of one segment whose functions call each other, with `extra` bytes before the last ones.
fn executable(functions: &[Vec<u8>], calls: &[(usize, usize)]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let mut out = vec![0; 120];
    out[..6].copy_from_slice(b"\x7fELF\x02\x01");
    out[16] = 3;
    out[18] = 62;
    out[32] = 64;
    out[54] = 56;
    out[56] = 1;
    let mut starts = Vec::new();
    let mut calls_at = Vec::new();
    for (number, function) in functions.iter().enumerate() {
        starts.push(out.len());
        for (place, part) in function.chunks(12).enumerate() {
            out.extend_from_slice(part);
            if let Some((_, target)) = calls.get((number * 31 + place) % calls.len()) {
                calls_at.push((out.len() + 1, *target));
                out.extend([0xE8, 0, 0, 0, 0]);
            }
        }
    }
    for (at, target) in calls_at {
        let distance = starts[target % starts.len()] as i32 - (at as i32 + 4);
        out[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    let length = out.len() as u64;
    out[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for (at, value) in [(72, 0), (80, BASE), (88, BASE), (96, length), (104, length)] {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    out
}

#[test]
fn calls_in_an_executable_are_predicted() {
    let functions: Vec<Vec<u8>> = (0..200).map(|seed| noise(seed, 300 + seed as usize % 97)).collect();
    let calls: Vec<(usize, usize)> = (0..2000).map(|number| (number, number * 7919 % 200)).collect();
    let mut changed = functions.clone();
    for place in [20, 60, 100, 140, 180] {
        changed[place].splice(0..0, noise(place as u64 + 900, 24));
    }
    let old = Memory(vec![executable(&functions, &calls)]);
    let new = Memory(vec![executable(&changed, &calls)]);
    let plain = patch_of(&old, &new, Level::Fast, 1 << 20);
    let patch = patch_of(&old, &new, Level::Best, 1 << 20);
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert_eq!(patch.views.len(), 1, "the addresses are moved");
    assert!(packed(&patch) * 3 < packed(&plain), "{} of {}", packed(&patch), packed(&plain));
}

#[test]
fn damaged_executables_cost_size_at_worst() {
    let functions: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 200)).collect();
    let calls: Vec<(usize, usize)> = (0..300).map(|number| (number, number * 13 % 40)).collect();
    let old = executable(&functions, &calls);
    let mut moved = functions.clone();
    moved[10].extend(noise(77, 32));
    let new = executable(&moved, &calls);
    for at in (0..120).chain([old.len() - 1]) {
        for value in [0, 1, 0x7F, 0xFF] {
            let (mut old, mut new) = (old.clone(), new.clone());
            old[at] = value;
            new[at] = value;
            let (old, new) = (Memory(vec![old]), Memory(vec![new]));
            let patch = patch_of(&old, &new, Level::Default, 1 << 20);
            assert_eq!(made_by(&patch, &old, &new), new.0, "byte {at} is {value}");
        }
    }
}

#[test]
fn a_view_is_the_same_in_pieces_as_in_one() {
    let rules = [Rule::CodeX86, Rule::Words, Rule::Relative, Rule::Mixed, Rule::FrameTable, Rule::CodeArm64];
    let region = |(number, rule): (usize, Rule)| Region {
        offset: 1000 + 9000 * number as u64,
        length: 8990,
        address: 0x1_0000 + 9000 * number as u64,
        rule,
    };
    let relocation = Relocation {
        file: 0,
        pieces: Vec::new(),
        loads: vec![Load { offset: 0, address: 0x1_0000 - 1000, length: 1 << 30, code: true }],
        regions: rules.into_iter().enumerate().map(region).collect(),
        map: Arc::new((0..400_u64).map(|step| (0x1_0000 + step * step * 37, step as i64 * 8 - 900)).collect()),
    };
    // Small words, so that many are addresses.
    let bytes: Vec<u8> =
        noise(5, 60_000).iter().enumerate().map(|(at, byte)| if at % 4 > 1 { 0 } else { *byte }).collect();
    let view = View::new(&relocation);
    let mut whole = bytes.clone();
    view.rewrite(0, &mut whole);
    assert!(super::build::differing(&bytes, &whole) > 1000, "the view changes something");
    let old = Memory(vec![bytes]);
    let index = std::rc::Rc::new(super::view::Index::new(&relocation.map));
    let mut reader = super::view::ViewReader::new(&relocation, index);
    for (from, length) in [(0, 60_000), (17, 5000), (4095, 2), (40_961, 8193), (59_999, 1), (3, 50_001)] {
        let mut part = vec![0; length];
        reader.read_at(&old, from as u64, &mut part).unwrap();
        assert!(part == whole[from..from + length], "from {from}");
    }
    assert!(reader.read_at(&old, 59_999, &mut [0; 2]).is_err());
}

fn sample() -> (Memory, Patch, Vec<u8>) {
    let old = Memory(vec![noise(1, 20_000)]);
    let new = Memory(vec![[&old.0[0][3000..], &noise(9, 500)[..], &old.0[0][..2500]].concat()]);
    let patch = patch_of(&old, &new, Level::Default, 1 << 20);
    let [made] = <[Vec<u8>; 1]>::try_from(new.0).unwrap();
    (old, patch, made)
}

fn attempt(segment: &Segment, body: &[u8], old: &Memory) -> Result<Vec<u8>, DeltaError> {
    let mut made = Gathered::default();
    decode(segment, body, old, &[], 64 << 20, &mut made).map(|()| made.0.concat())
}

#[test]
fn nothing_false_decodes() {
    let (old, patch, new) = sample();
    let (segment, body) = &patch.segments[0];
    assert_eq!(attempt(segment, body, &old).unwrap(), new);
    for at in 0..body.len() {
        let mut bad = body.clone();
        bad[at] ^= 0x41;
        assert!(attempt(segment, &bad, &old).map_or(true, |made| made != new), "byte {at} of the body");
        assert!(attempt(segment, &body[..at], &old).is_err(), "cut at {at}");
    }
    let mut other = Memory(old.0.clone());
    other.0[0][5000] ^= 1;
    assert_ne!(attempt(segment, body, &other).unwrap(), new);
    let mut short = Memory(old.0.clone());
    short.0[0].truncate(4000);
    assert!(matches!(attempt(segment, body, &short), Err(DeltaError::Read(_))));
}

#[test]
fn lying_headers_are_refused() {
    let (old, patch, _) = sample();
    let (segment, body) = &patch.segments[0];
    let refuse = |change: &dyn Fn(&mut Segment)| {
        let mut bad = segment.clone();
        change(&mut bad);
        let result = attempt(&bad, body, &old);
        assert!(result.is_err(), "{bad:?}");
    };
    refuse(&|segment| segment.outputs[0].length += 1);
    refuse(&|segment| segment.outputs[0].length -= 1);
    refuse(&|segment| segment.outputs[0].length = u64::MAX);
    refuse(&|segment| segment.outputs.clear());
    refuse(&|segment| segment.sources[0].extent.length = 100);
    refuse(&|segment| segment.sources[0].extent.length = u64::MAX);
    refuse(&|segment| segment.sources[0].view = Some(0));
    refuse(&|segment| segment.sources.clear());
    refuse(&|segment| segment.streams[0] = u64::MAX);
    refuse(&|segment| segment.streams[4] += 1);
    refuse(&|segment| segment.packs.clear());
    refuse(&|segment| segment.packs[0].length = u64::MAX);
    refuse(&|segment| segment.packs[0].coder = Coder::Lzma { properties: 255, dictionary_log: 12 });
    refuse(&|segment| segment.packs[0].coder = Coder::Lzma { properties: 0, dictionary_log: 63 });
    refuse(&|segment| segment.packs[0].coder = Coder::Zstd { window_log: 63 });
    refuse(&|segment| segment.joined = !segment.joined);
    refuse(&|segment| segment.method = Method::History);
    let needed = memory(segment, &[]);
    let result = decode(segment, body, &old, &[], needed - 1, &mut Gathered::default());
    assert!(matches!(result, Err(DeltaError::Memory { .. })));
}

#[test]
fn a_build_ends_when_it_is_cancelled() {
    let (old, new) = (Memory(vec![noise(1, 1000)]), Memory(vec![noise(2, 1000)]));
    let tree = |files| Tree { contents: files, paths: vec![b"a".to_vec()] };
    let options = Options::new(Level::Default, 1 << 30);
    let result = encode(&tree(&old), &tree(&new), &options, &|_, _| false);
    assert!(matches!(result, Err(DeltaError::Cancelled)));
}

#[test]
fn builds_repeat_to_the_byte() {
    let old = Memory((0..30).map(|seed| noise(seed, 4000)).collect());
    let new = Memory((0..30).map(|seed| [&noise(seed, 3000)[..], &noise(seed + 100, 300)].concat()).collect());
    let first = patch_of(&old, &new, Level::Default, 20_000);
    let second = patch_of(&old, &new, Level::Default, 20_000);
    assert_eq!(first.segments, second.segments);
    assert!(first.segments.len() > 3);
}

#[test]
fn a_build_keeps_within_its_memory_and_still_finds_what_moved() {
    let old = Memory((0..12).map(|seed| noise(seed, 1 << 20)).collect());
    // One large file of parts of the old ones, in another order, and some that only changed a little.
    let mut large = Vec::new();
    for file in [7, 2, 9, 4] {
        large.extend_from_slice(&old.0[file][1000..]);
    }
    let mut new = Memory(vec![large]);
    new.0.extend((0..12).map(|file| edited(old.0[file].clone(), &[Edit::Insert(5000 * file, vec![7; 30])])));
    let paths = |count: usize| (0..count).map(|number| format!("file{number}").into_bytes()).collect();
    // The memory of one job is less than the new content: there are several.
    let options = Options::new(Level::Default, 24 << 20);
    let old_tree = Tree { contents: &old, paths: paths(12) };
    let new_tree = Tree { contents: &new, paths: paths(13) };
    let patch = encode(&old_tree, &new_tree, &options, &|_, _| true).unwrap();
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert!(patch.segments.len() > 3, "{} segments", patch.segments.len());
    assert!(packed(&patch) < 3000, "{} bytes", packed(&patch));
}

/// A module with type information: `types` pointers to types of the kernel, each named.
fn module(types: &[u32], names: u32, code: &[u8]) -> Vec<u8> {
    let mut section = vec![0x9F, 0xEB, 1, 0];
    let body: Vec<u8> =
        types.iter().flat_map(|number| [number * 3 + names, 2 << 24, *number]).flat_map(u32::to_le_bytes).collect();
    for word in [24, 0, body.len() as u32, body.len() as u32, 0] {
        section.extend_from_slice(&u32::to_le_bytes(word));
    }
    section.extend_from_slice(&body);
    let mut out = b"\x7fELF\x02\x01".to_vec();
    out.resize(64, 0);
    out[16] = 1;
    out[18] = 62;
    let offset = out.len() as u64;
    out.extend_from_slice(&section);
    out.extend_from_slice(code);
    let table = out.len() as u64;
    let mut header = vec![0; 64];
    header[4] = 1;
    header[24..32].copy_from_slice(&offset.to_le_bytes());
    header[32..40].copy_from_slice(&(section.len() as u64).to_le_bytes());
    out.extend_from_slice(&header);
    out[40..48].copy_from_slice(&table.to_le_bytes());
    out[58] = 64;
    out[60] = 1;
    out
}

#[test]
fn numbers_of_types_in_kernel_modules_are_predicted() {
    // The new kernel has 40 types more from number 700 on, and its strings begin 9 later.
    let types =
        |module: u64| -> Vec<u32> { (0..300).map(|at: u64| ((module * 7 + at * at * 13) % 2000) as u32 + 1).collect() };
    let newer = |types: Vec<u32>| {
        types.into_iter().map(|number| if number < 700 { number } else { number + 40 }).collect::<Vec<_>>()
    };
    let code = |number: u64| noise(number, 2000);
    let old = Memory((0..40).map(|number| module(&types(number), 100, &code(number))).collect());
    let new = Memory((0..40).map(|number| module(&newer(types(number)), 109, &code(number))).collect());
    let patch = patch_of(&old, &new, Level::Default, 60_000);
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert!(patch.views.len() > 30, "{} views", patch.views.len());
    assert!(packed(&patch) < 6000, "{} bytes", packed(&patch));
    let fast = patch_of(&old, &new, Level::Fast, 60_000);
    assert!(packed(&patch) * 2 < packed(&fast), "{} of {}", packed(&patch), packed(&fast));
}

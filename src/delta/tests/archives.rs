//! Archives whose members change: what is inflated, why not, and that everything comes out the same.

use super::*;
use crate::delta::archive::tests::{Entry, default_parameters, deflated, entry, gzip_of, png_of, sample, zip_of};
use crate::delta::archive::{DeflateParameters, Member, Part, Strategy as Deflating, Wrapper};
use crate::delta::build::{FileReport, Inflation};
use crate::limits::PATCH_BODY;
use crate::model::{Extent, Pack, Source};
use std::io::Write as _;

fn zip(contents: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..contents.len()).map(|number| format!("member{number}")).collect();
    let entries: Vec<Entry<'_>> =
        names.iter().zip(contents).map(|(name, content)| entry(name, content.clone())).collect();
    zip_of(b"", &entries, false, b"")
}

/// A container of each kind with this content.
fn containers(content: &[u8]) -> [Vec<u8>; 3] {
    let other = |seed: u64| sample(seed, 20_000);
    [
        zip(&[other(50), content.to_vec(), other(51)]),
        gzip_of(content, DeflateParameters::gzip(9).unwrap()),
        png_of(content, DeflateParameters::zlib(9, Deflating::Filtered, 9, 15).unwrap(), 8192),
    ]
}

fn inflations(patch: &Patch) -> Vec<Inflation> {
    patch.files.iter().map(|file: &FileReport| file.inflation).collect()
}

#[test]
fn a_change_inside_of_a_member_costs_about_what_changed() {
    let content = sample(1, 60_000);
    let mut changed = content.clone();
    changed[30_000..30_010].copy_from_slice(b"0123456789");
    for (old, new) in containers(&content).into_iter().zip(containers(&changed)) {
        let different =
            super::super::build::differing(&old[..new.len().min(old.len())], &new[..new.len().min(old.len())]);
        assert!(different > 5000, "deflated, {different} bytes differ");
        let (old, new) = (Memory(vec![old]), Memory(vec![new]));
        for level in LEVELS {
            let patch = patch_of(&old, &new, level, 1 << 20);
            assert_eq!(made_by(&patch, &old, &new), new.0);
            assert_eq!(inflations(&patch), [Inflation::Members(1)]);
            assert!(patch.segments.iter().all(|(segment, _)| segment.assembled));
            assert!(packed(&patch) < 250, "{level:?}: {} bytes", packed(&patch));
        }
    }
}

#[test]
fn what_is_not_inflated_says_why() {
    let content = sample(1, 40_000);
    let foreign = |seed: u64| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&sample(seed, 40_000)).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = |content: &[u8]| gzip_of(content, default_parameters());
    let member = zip(std::slice::from_ref(&content));
    let cases = [
        (content.clone(), sample(2, 3000), Inflation::None),
        (content.clone(), member.clone(), Inflation::Alone),
        (member.clone(), zip_of(b"#!", &[entry("other", content.clone())], true, b""), Inflation::Unchanged),
        (foreign(3), foreign(4), Inflation::NotReproduced),
        (gzip(&noise(5, 3000)), gzip(&noise(6, 3000)), Inflation::NotSmaller),
        (gzip(&content), gzip(&content[7..]), Inflation::Members(1)),
    ];
    for (old, new, expected) in cases {
        let (old, new) = (Memory(vec![old]), Memory(vec![new]));
        let patch = patch_of(&old, &new, Level::Default, 1 << 20);
        assert_eq!(inflations(&patch), [expected]);
        assert_eq!(made_by(&patch, &old, &new), new.0);
    }
    // A member of more bytes than a build may have in memory.
    let (old, new) = (Memory(vec![gzip(&sample(7, 300_000))]), Memory(vec![gzip(&sample(7, 300_001))]));
    let tree = |files| Tree { contents: files, paths: vec![b"a".to_vec()] };
    let patch = encode(&tree(&old), &tree(&new), &Options::new(Level::Fast, 8 << 20), &|_, _| true).unwrap();
    assert_eq!(inflations(&patch), [Inflation::TooLarge]);
    assert_eq!(made_by(&patch, &old, &new), new.0);
}

#[test]
fn an_archive_of_another_name_is_compared_with_the_one_most_like_it() {
    let content = sample(1, 40_000);
    let changed = [&content[..20_000], b"new", &content[20_000..]].concat();
    let old = Memory(vec![gzip_of(&sample(2, 40_000), default_parameters()), gzip_of(&content, default_parameters())]);
    let new = Memory(vec![gzip_of(&changed, default_parameters())]);
    let paths = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let old_tree = Tree { contents: &old, paths: paths(&["w/styles.7fe1.css.gz", "w/main.bd01fa.js.gz"]) };
    let new_tree = Tree { contents: &new, paths: paths(&["w/main.c0ffee.js.gz"]) };
    let patch = encode(&old_tree, &new_tree, &Options::new(Level::Default, 1 << 30), &|_, _| true).unwrap();
    assert_eq!(inflations(&patch), [Inflation::Members(1)]);
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert!(packed(&patch) < 200, "{} bytes", packed(&patch));
}

#[test]
fn the_old_archive_is_still_there_as_it_is() {
    // One file is the old archive under another name, one is the archive with a change.
    let contents: Vec<Vec<u8>> = (0..4).map(|seed| sample(seed, 30_000)).collect();
    let mut changed = contents.clone();
    for content in &mut changed {
        content[15_000] ^= 0x55;
    }
    let old = Memory(vec![zip(&contents)]);
    let new = Memory(vec![zip(&changed), zip(&contents)]);
    let patch = patch_of(&old, &new, Level::Default, 1 << 20);
    assert_eq!(made_by(&patch, &old, &new), new.0);
    assert_eq!(inflations(&patch)[0], Inflation::Members(4));
    assert!(packed(&patch) < 400, "{} bytes", packed(&patch));
}

#[test]
fn outputs_are_cut_between_members() {
    let contents: Vec<Vec<u8>> = (0..30).map(|seed| sample(seed, 3_000 + 500 * seed as usize)).collect();
    let changed: Vec<Vec<u8>> = contents.iter().map(|content| [b"x", &content[..]].concat()).collect();
    let old = Memory(vec![zip(&contents)]);
    let new = Memory(vec![zip(&changed)]);
    let patch = patch_of(&old, &new, Level::Default, 25_000);
    assert_eq!(inflations(&patch), [Inflation::Members(30)]);
    assert!(patch.segments.len() > 8, "{} segments", patch.segments.len());
    assert_eq!(patch.views.len(), 1, "the view is named once");
    assert_eq!(made_by(&patch, &old, &new), new.0);
}

#[test]
fn what_does_not_fit_into_a_segment_is_made_plainly() {
    // One member without any pattern: its content is more than the body of a segment, and it cannot be cut.
    let content = noise(1, PATCH_BODY as usize + (4 << 20));
    let old = Memory(vec![gzip_of(b"something else", default_parameters())]);
    let new = Memory(vec![gzip_of(&content, default_parameters())]);
    let tree = |files| Tree { contents: files, paths: vec![b"a".to_vec()] };
    // So little memory that nothing is tried before.
    let patch = encode(&tree(&old), &tree(&new), &Options::new(Level::Fast, 512 << 20), &|_, _| true).unwrap();
    assert_eq!(inflations(&patch), [Inflation::Members(1)]);
    assert!(patch.segments.len() > 1 && patch.segments.iter().all(|(segment, _)| !segment.assembled));
    assert!(made_by(&patch, &old, &new) == new.0);
}

#[derive(Clone, Debug)]
enum Change {
    Inside(usize, Vec<Edit>),
    Remove(usize),
    Add(usize, u64),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), proptest::collection::vec(edit(), 1..3)).prop_map(|(at, edits)| Change::Inside(at, edits)),
        1 => any::<usize>().prop_map(Change::Remove),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(at, seed)| Change::Add(at, seed)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn changed(mut members: Vec<(String, Vec<u8>)>, changes: &[Change]) -> Vec<(String, Vec<u8>)> {
    for change in changes {
        let count = members.len().max(1);
        match change {
            Change::Inside(at, edits) => {
                if let Some(member) = members.get_mut(at % count) {
                    member.1 = edited(std::mem::take(&mut member.1), edits);
                }
            }
            Change::Remove(at) => drop((at % count < members.len()).then(|| members.remove(at % count))),
            Change::Add(at, seed) => {
                members.insert(at % (members.len() + 1), (format!("more{seed}"), sample(*seed, 2500)));
            }
            Change::Swap(a, b) if !members.is_empty() => members.swap(a % count, b % count),
            Change::Swap(..) => {}
        }
    }
    members
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_archives_round_trip(
        seed in any::<u64>(),
        count in 1_u64..9,
        changes in proptest::collection::vec(change(), 0..5),
        level in 0_usize..3,
        parameters in 0_usize..4,
        segment in 500_usize..40_000,
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..2),
    ) {
        let parameters = [
            default_parameters(),
            DeflateParameters::zlib(9, Deflating::Default, 9, 15).unwrap(),
            DeflateParameters::info_zip(6).unwrap(),
            DeflateParameters::zlib(1, Deflating::Default, 8, 15).unwrap(),
        ][parameters];
        let archive = |members: &[(String, Vec<u8>)]| {
            let entries: Vec<Entry<'_>> = members
                .iter()
                .enumerate()
                .map(|(at, (name, content))| Entry {
                    // One member in five is stored.
                    parameters: (at % 5 != 4).then_some(parameters),
                    ..entry(name, content.clone())
                })
                .collect();
            zip_of(b"", &entries, false, b"")
        };
        let before: Vec<_> =
            (0..count).map(|at| (format!("name{at}"), sample(seed.wrapping_add(at), 500 + 700 * at as usize))).collect();
        let after = changed(before.clone(), &changes);
        let mut file = archive(&after);
        for (at, value) in &flips {
            let at = at % file.len();
            file[at] ^= value;
        }
        let gz = |members: &[(String, Vec<u8>)]| {
            gzip_of(&members.iter().flat_map(|member| member.1.clone()).collect::<Vec<u8>>(), default_parameters())
        };
        let old = Memory(vec![archive(&before), gz(&before), noise(seed, 300)]);
        let new = Memory(vec![file, gz(&after), noise(seed, 200)]);
        let patch = patch_of(&old, &new, LEVELS[level], segment);
        prop_assert_eq!(made_by(&patch, &old, &new), new.0);
        for file in &patch.files {
            prop_assert!(file.copied <= file.content && file.differing <= file.copied, "{:?}", file);
        }
    }

    #[test]
    fn damaged_patches_of_archives_fail_or_make_as_much(
        seed in any::<u64>(),
        kind in 0_usize..3,
        at in any::<usize>(),
        value in 1_u8..,
    ) {
        let content = sample(seed, 4_000);
        let newer = edited(content.clone(), &[Edit::Insert(2_000, b"new".to_vec())]);
        let (old, new) = (Memory(vec![containers(&content)[kind].clone()]), Memory(vec![containers(&newer)[kind].clone()]));
        let patch = patch_of(&old, &new, Level::Default, 1 << 20);
        let (segment, body) = &patch.segments[0];
        let mut bad = body.clone();
        let place = at % bad.len();
        bad[place] ^= value;
        let promised = segment.output_length() as usize;
        let mut made = Gathered::default();
        // Whoever uses what was made compares its digest; here only its length is certain.
        if decode(segment, &bad, &old, &patch.views, 64 << 20, &mut made).is_ok() {
            prop_assert_eq!(made.0.concat().len(), promised);
        }
        let mut other = Memory(old.0.clone());
        let place = at % other.0[0].len();
        other.0[0][place] ^= value;
        let mut made = Gathered::default();
        if decode(segment, body, &other, &patch.views, 64 << 20, &mut made).is_ok() {
            prop_assert_eq!(made.0.concat().len(), promised);
        }
    }
}

/// A segment that copies a view of one member and deflates what it makes; and the view.
fn lie_in_waiting() -> (Memory, Segment, Vec<u8>, Relocation) {
    let content = sample(1, 20_000);
    let old = Memory(vec![gzip_of(&content, default_parameters())]);
    let new = Memory(vec![gzip_of(&content[1..], default_parameters())]);
    let patch = patch_of(&old, &new, Level::Fast, 1 << 20);
    let (segment, body) = patch.segments.into_iter().next().unwrap();
    let [view] = <[Relocation; 1]>::try_from(patch.views).unwrap();
    (old, segment, body, view)
}

#[test]
fn lying_views_and_recipes_are_refused() {
    let (old, segment, body, view) = lie_in_waiting();
    let attempt = |segment: &Segment, body: &[u8], view: &Relocation| {
        decode(segment, body, &old, std::slice::from_ref(view), 64 << 20, &mut Gathered::default())
    };
    attempt(&segment, &body, &view).unwrap();
    let Some(at) = view.pieces.iter().position(|piece| matches!(piece, Part::Deflated(_))) else { panic!("a member") };
    let Part::Deflated(member) = view.pieces[at] else { panic!("a member") };
    for lie in [
        Member { inflated_len: member.inflated_len + 1, ..member },
        Member { inflated_len: u64::MAX, ..member },
        Member { offset: u64::MAX, ..member },
        Member { len: u64::MAX, ..member },
        Member { len: 12, ..member },
        Member { wrapper: Wrapper::Plain, offset: member.offset + 1, ..member },
        Member { wrapper: Wrapper::Png { zlib_header: [0; 2], chunk_bytes: 0 }, ..member },
        Member { wrapper: Wrapper::Png { zlib_header: [0; 2], chunk_bytes: 5000 }, ..member },
    ] {
        let mut bad = view.clone();
        bad.pieces[at] = Part::Deflated(lie);
        // All of what is shown is named, so that no lie goes unread.
        assert!(attempt(&segment, &body, &bad).is_err(), "{lie:?}");
    }
    let mut nothing = view.clone();
    nothing.pieces.clear();
    assert!(attempt(&segment, &body, &nothing).is_err());
    let mut beyond = segment.clone();
    beyond.sources[0].extent.length += 1;
    assert!(matches!(attempt(&beyond, &body, &view), Err(DeltaError::Malformed(_))));

    // The recipe is the last pack: any other one is refused, and so is one more or one fewer.
    let recipe = segment.packs.last().unwrap().length as usize;
    for length in [0, 1, 200] {
        let mut bad = segment.clone();
        let bytes = vec![1; length];
        *bad.streams.last_mut().unwrap() = length as u64;
        *bad.packs.last_mut().unwrap() = Pack { coder: Coder::Stored, length: length as u64 };
        let body = [&body[..body.len() - recipe], &bytes].concat();
        assert!(attempt(&bad, &body, &view).is_err(), "{length}");
    }
    let mut plain = segment.clone();
    plain.assembled = false;
    assert!(attempt(&plain, &body, &view).is_err());
    let needed = memory(&segment, std::slice::from_ref(&view));
    assert!(needed > 1 << 20, "deflating is counted");
    let result = decode(&segment, &body, &old, std::slice::from_ref(&view), needed - 1, &mut Gathered::default());
    assert!(matches!(result, Err(DeltaError::Memory { .. })));
}

#[test]
fn a_segment_inflates_only_so_much() {
    // Every copy is one byte, by turns at the beginning and at the end of members that are too many to be kept open.
    let content = vec![0; 3 << 20];
    let file = gzip_of(&content, default_parameters());
    // Too much for one who builds: the member is written down here.
    let offset = file.len() as u64 - deflated(&content, default_parameters()).len() as u64 - 8;
    let member =
        Member { offset, len: file.len() as u64 - offset, inflated_len: content.len() as u64, wrapper: Wrapper::Gzip };
    let piece = Part::Deflated(member);
    let view = Relocation { file: 0, pieces: vec![piece], loads: Vec::new(), regions: Vec::new(), map: Arc::default() };
    let views = vec![view; 3];
    let extent = Extent { file: 0, offset: content.len() as u64 - 1, length: 1 };
    let sources: Vec<Source> = (0..6000_u32).map(|at| Source { extent, view: Some(at % 3) }).collect();
    let segment = Segment {
        method: Method::History,
        outputs: vec![Extent { file: 0, offset: 0, length: 1 }],
        sources,
        streams: vec![1],
        packs: vec![Pack { coder: Coder::Stored, length: 1 }],
        joined: false,
        assembled: false,
        code: false,
    };
    let old = Memory(vec![file]);
    let result = decode(&segment, &[7], &old, &views, 64 << 20, &mut Gathered::default());
    assert!(matches!(result, Err(DeltaError::Malformed(what)) if what.contains("inflate")), "{result:?}");
    let fewer = Segment { sources: segment.sources[..6].to_vec(), ..segment };
    decode(&fewer, &[7], &old, &views, 64 << 20, &mut Gathered::default()).unwrap();
}

//! Patches that lie: what they claim and hold is changed, and everything is refused before the tree is touched.

use crate::unpack::noise;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use surefoot::Code;
use surefoot::codec::segment::{self, Lengths};
use surefoot::delta::memory;
use surefoot::device::{Config, Engine, Observer, PackageSettings, Phase, Progress};
use surefoot::model::{Coder, Extent, Manifest, Policy, Segment, Source};
use surefoot::package::{Codec, Level, Outline, Package, Piece, write_patch};
use surefoot::publish::{Options, build_patch};
use surefoot::tree::{Walk, scan};
use surefoot::vfs::SimVfs;

const OLD: [(&str, usize, u64); 3] = [("a", 60_000, 1), ("b", 20_000, 2), ("c", 100, 3)];

fn recorded(disk: &SimVfs) -> Manifest {
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    scan(disk, &walk, &|_, _| ()).unwrap()
}

/// The lengths of both sides, by number: all files of the old tree, and the new contents.
struct Sizes(Vec<u64>, Vec<u64>);

impl Lengths for Sizes {
    fn old_length(&self, file: u32) -> Option<u64> {
        self.0.get(file as usize).copied()
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        self.1.get(file as usize).copied()
    }
}

/// A tree under care, a good package for it, and the pieces that this is made of.
struct Scene {
    start: SimVfs,
    package: Vec<u8>,
    pieces: Vec<Piece>,
    sizes: Sizes,
}

impl Scene {
    fn new() -> Self {
        let (before, after) = (SimVfs::new(), SimVfs::new());
        for (name, length, seed) in OLD {
            before.write_file(name, noise(seed, length));
            let mut changed = noise(seed, length);
            changed[length / 2] ^= 1;
            changed.extend(noise(seed + 10, 40));
            after.write_file(name, changed);
        }
        let (old, new) = (recorded(&before), recorded(&after));
        let (mut package, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
        let how = Options { to: "2.0.0".into(), segment: Some(25_000), ..Options::default() };
        build_patch(("1.0.0", &old, &before), (&new, &after), &how, &mut spool, &mut package).unwrap();
        drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&old)).unwrap());
        let opened = Package::open(package.as_slice()).unwrap().accept_unsigned().unwrap();
        let (promise, mut segments) = opened.into_segments();
        let mut pieces = Vec::new();
        while let Some((promised, bytes)) = segments.next_segment().unwrap() {
            pieces.push((promised.codec, promised.unpacked, bytes));
        }
        assert!(pieces.len() >= 3, "{}", pieces.len());
        let sizes = Sizes(
            OLD.iter().map(|file| file.1 as u64).collect(),
            promise.contents().map(|content| content.size).collect(),
        );
        Self { start: before.reboot_clean(), package, pieces, sizes }
    }

    /// The package with other pieces.
    fn with(&self, pieces: Vec<Piece>, memory: u64) -> Result<Vec<u8>, String> {
        let opened = Package::open(self.package.as_slice()).unwrap().accept_unsigned().unwrap();
        let promise = opened.promise();
        let outline = Outline { head: promise.head().clone(), changes: promise.changes().to_vec() };
        let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
        let written = write_patch(&mut out, &mut spool, outline, (pieces.into_iter(), memory), Level::Fast, &[]);
        written.map(|_| out).map_err(|error| error.to_string())
    }

    fn memory(&self) -> u64 {
        Package::open(self.package.as_slice()).unwrap().accept_unsigned().unwrap().promise().memory()
    }

    /// Applies a package, which must be refused; nothing of the tree may change, and nothing be left in the slots.
    fn refused(&self, package: &[u8], settings: &PackageSettings) -> Code {
        let disk = self.start.fork();
        let found = disk.snapshot();
        let mut engine = Engine::open(disk.clone()).unwrap();
        let opened = match Package::open(package).and_then(Package::accept_unsigned) {
            Ok(opened) => opened,
            Err(error) => return surefoot::Error::from(error).code(),
        };
        let code = engine.apply(opened, settings, &()).unwrap_err().code();
        assert_eq!(disk.snapshot(), found, "{code:?}");
        assert_eq!(disk.state_listing().iter().filter(|path| path.contains("/slots/")).count(), 0, "{code:?}");
        // The same engine still takes the good one.
        let good = Package::open(self.package.as_slice()).unwrap().accept_unsigned().unwrap();
        engine.apply(good, &PackageSettings::default(), &()).unwrap();
        code
    }

    /// A package whose segment `number` has been changed, header and body.
    fn lie(&self, number: usize, change: impl Fn(&mut Segment, &mut Vec<u8>)) -> Code {
        let mut pieces = self.pieces.clone();
        let (_, unpacked, bytes) = &mut pieces[number];
        let (mut header, length) = segment::decode(bytes, &self.sizes).unwrap();
        let mut body = bytes.split_off(length);
        change(&mut header, &mut body);
        *unpacked = header.output_length();
        *bytes = segment::encode(&header, &self.sizes);
        bytes.append(&mut body);
        let package = self.with(pieces, limits_of_memory());
        package.map_or(Code::PackageFormat, |package| self.refused(&package, &PackageSettings::default()))
    }
}

/// What a package may ask for.
fn limits_of_memory() -> u64 {
    surefoot::limits::PACKAGE_MEMORY
}

#[test]
fn segments_that_are_missing_doubled_or_of_another_length_are_refused() {
    let scene = Scene::new();
    let last = scene.pieces.len() - 1;
    let try_it = |what: &str, change: &dyn Fn(&mut Vec<Piece>)| {
        let mut pieces = scene.pieces.clone();
        change(&mut pieces);
        // What contradicts itself cannot even be written: then the reader's own test has it (`package::tests`).
        let Ok(package) = scene.with(pieces, scene.memory()) else { return false };
        assert_eq!(scene.refused(&package, &PackageSettings::default()), Code::PackageFormat, "{what}");
        true
    };
    // One that replaces another of the same length: the one is made twice, the other not at all.
    let lengths: Vec<u64> = scene.pieces.iter().map(|piece| piece.1).collect();
    let twins = (0..last).find(|at| lengths[*at] == lengths[at + 1]).expect("two of one length");
    assert!(try_it("twice", &|pieces| pieces[twins] = pieces[twins + 1].clone()));
    // The sum is as promised, but neither is what it says.
    assert!(try_it("longer and shorter", &|pieces| {
        pieces[0].1 += 1;
        pieces[1].1 -= 1;
    }));
    assert!(!try_it("missing", &|pieces| drop(pieces.remove(last))), "the contents need it");
    assert!(!try_it("one more", &|pieces| pieces.push(pieces[0].clone())), "the contents do not need it");
    // A segment with a coder that the manifest does not name.
    let lzma = (0..=last).find(|at| scene.pieces[*at].0 == Codec::DeltaLzma);
    if let Some(lzma) = lzma {
        assert!(try_it("another coder", &|pieces| pieces[lzma].0 = Codec::Delta));
    }
}

#[test]
fn headers_that_name_what_is_not_there_or_what_others_make_are_refused() {
    let scene = Scene::new();
    let whole = Extent { file: 0, offset: 0, length: scene.sizes.1[0] };
    type Lie<'a> = (&'a str, Box<dyn Fn(&mut Segment, &mut Vec<u8>)>);
    let lies: Vec<Lie<'_>> = vec![
        ("an output beyond the end", Box::new(|header, _| header.outputs[0].offset = 1 << 40)),
        ("an output of no content", Box::new(|header, _| header.outputs[0].file = 99)),
        ("a part that another one makes", Box::new(|header, _| header.outputs[0].offset += 1)),
        ("a content that others make", Box::new(move |header, _| header.outputs[0] = whole)),
        ("nothing", Box::new(|header, _| header.outputs[0].length = 0)),
        ("a source that is no file", Box::new(|header, _| header.sources[0].extent.file = 99)),
        ("a source beyond its file", Box::new(|header, _| header.sources[0].extent.length += 1)),
        ("a source before its file", Box::new(|header, _| header.sources[0].extent.offset = u64::MAX)),
        ("a view that is not there", Box::new(|header, _| header.sources[0].view = Some(3))),
        ("streams that are too long", Box::new(|header, _| header.streams[0] = 1 << 50)),
        (
            "streams that are too short",
            Box::new(|header, _| {
                header.streams.iter_mut().filter(|length| **length > 0).for_each(|length| *length -= 1)
            }),
        ),
        ("a window that is too large", Box::new(|header, _| header.packs[0].coder = Coder::Zstd { window_log: 31 })),
        ("a body that is longer", Box::new(|_, body| body.push(0))),
        ("a body that is cut", Box::new(|_, body| body.truncate(body.len() - 1))),
        ("a body of zeros", Box::new(|_, body| body.fill(0))),
        (
            "sources in another order",
            Box::new(|header, _| {
                let extent = Extent { file: 2, offset: 0, length: 100 };
                header.sources.insert(0, Source { extent, view: None });
            }),
        ),
    ];
    for (what, lie) in lies {
        let code = scene.lie(0, lie);
        assert_eq!(code, Code::PackageFormat, "{what}");
    }
}

#[test]
fn memory_is_what_the_package_says_or_less() {
    let scene = Scene::new();
    let mut needed = 0;
    for (codec, _, bytes) in &scene.pieces {
        assert_ne!(*codec, Codec::Views);
        let (header, length) = segment::decode(bytes, &scene.sizes).unwrap();
        needed = needed.max(memory(&header, &[]) + length as u64);
    }
    assert_eq!(needed, scene.memory());
    // Less than what a segment takes.
    let package = scene.with(scene.pieces.clone(), 1).unwrap();
    assert_eq!(scene.refused(&package, &PackageSettings::default()), Code::PackageFormat);
    // More than the device allows.
    let settings = PackageSettings { memory: Some(needed - 1), ..PackageSettings::default() };
    let code = scene.refused(&scene.package, &settings);
    assert_eq!(code, Code::Demand);
}

/// Changes a file once unpacking has begun.
struct Meddler {
    disk: SimVfs,
    name: &'static str,
    done: AtomicBool,
}

impl Observer for Meddler {
    fn report(&self, progress: Progress) {
        if progress.phase == Phase::Stage && !self.done.swap(true, Ordering::Relaxed) {
            let length = OLD.iter().find(|file| file.0 == self.name).map_or(0, |file| file.1);
            self.disk.write_file(self.name, noise(99, length));
        }
    }
}

/// Once the package was blamed: its segments did not decode, or made something else than promised.
#[test]
fn a_source_that_changes_while_it_is_read_is_what_is_blamed() {
    let scene = Scene::new();
    for name in ["a", "b", "c"] {
        let disk = scene.start.fork();
        let meddler = Meddler { disk: disk.clone(), name, done: AtomicBool::new(false) };
        let opened = Package::open(scene.package.as_slice()).unwrap().accept_unsigned().unwrap();
        let error = Engine::open(disk).unwrap().apply(opened, &PackageSettings::default(), &meddler).unwrap_err();
        assert!(meddler.done.load(Ordering::Relaxed));
        assert_eq!(error.code(), Code::Changed, "{name}: {error}");
        assert_eq!(error.findings().0[0].path.to_string(), name);
    }
}

#[test]
fn progress_never_goes_back() {
    let scene = Scene::new();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    std::fs::create_dir_all(root.join(".surefoot")).unwrap();
    for (name, length, seed) in OLD {
        std::fs::write(root.join(name), noise(seed, length)).unwrap();
    }
    let vfs = surefoot::vfs::OsVfs::open(&root, &root.join(".surefoot")).unwrap();
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    let manifest = scan(&vfs, &walk, &|_, _| ()).unwrap();
    let after = SimVfs::new();
    for (name, length, seed) in OLD {
        let mut changed = noise(seed, length);
        changed.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
        after.write_file(name, changed);
    }
    let (new, mut package) = (recorded(&after), Vec::new());
    let built = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&built);
    let watch = move |done: u64, total: u64| {
        seen.lock().unwrap().push((done, total));
        true
    };
    let how = Options { to: "2.0.0".into(), segment: Some(4000), progress: Some(&watch), ..Options::default() };
    let base = ("1.0.0", &manifest, &vfs);
    build_patch(base, (&new, &after), &how, &mut Cursor::new(Vec::new()), &mut package).unwrap();
    let built = built.lock().unwrap();
    assert!(built.windows(2).all(|two| two[0].0 <= two[1].0), "{built:?}");
    assert!(built.last().is_some_and(|(done, total)| done == total && *total > 0), "{built:?}");
    drop(scene);

    let mut engine = Engine::init(vfs, Config::default(), "1.0.0", Some(&manifest)).unwrap();
    let reports = Mutex::new(Vec::<Progress>::new());
    let watch = |progress: Progress| reports.lock().unwrap().push(progress);
    let opened = Package::open(package.as_slice()).unwrap().accept_unsigned().unwrap();
    engine.apply(opened, &PackageSettings::default(), &watch).unwrap();
    let reports = reports.into_inner().unwrap();
    let staged: Vec<u64> =
        reports.iter().filter(|report| report.phase == Phase::Stage).map(|report| report.done).collect();
    assert!(staged.len() > 20 && staged.is_sorted(), "{staged:?}");
}

//! Patches unpacked: files of several segments, several threads, and tries that were interrupted.

use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use surefoot::Code;
use surefoot::device::{Config, Engine, Observer, PackageSettings, Phase, Progress};
use surefoot::model::{Manifest, Policy, TreePath};
use surefoot::package::{Level, Package};
use surefoot::publish::{Options, build_patch};
use surefoot::tree::{Walk, scan};
use surefoot::vfs::{Access, OsVfs, Place, RootId, SimVfs, Vfs};

/// About how many bytes a segment makes here.
const SEGMENT: usize = 20_000;

/// Bytes that no coder makes shorter.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

/// Names and contents of two versions: one large file with scattered changes and a hole, and many small ones.
fn versions() -> [Vec<(String, Vec<u8>)>; 2] {
    let mut old = vec![("large".to_string(), noise(1, 400_000)), ("same".to_string(), noise(2, 5000))];
    let mut large = old[0].1.clone();
    for at in (0..large.len()).step_by(3001) {
        large[at] ^= 1;
    }
    large.splice(1000..1000, noise(3, 777));
    large.splice(200_000..200_000, vec![0; 150_000]);
    let mut new = vec![("large".to_string(), large), ("same".to_string(), noise(2, 5000))];
    for n in 0..60 {
        let text = |version: u32| format!("file {n} of version {version}\n").repeat(n % 13).into_bytes();
        old.push((format!("small/{n}"), text(1)));
        new.push((format!("small/{n}"), text(2)));
    }
    new.push(("empty".to_string(), Vec::new()));
    new.push(("new".to_string(), noise(4, 90_000)));
    [old, new]
}

const WALK: Walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };

fn recorded<V: Vfs>(vfs: &V) -> Manifest {
    scan(vfs, &WALK, &|_, _| ()).unwrap()
}

fn disk(files: &[(String, Vec<u8>)]) -> SimVfs {
    let disk = SimVfs::new();
    for (name, bytes) in files {
        disk.write_file(name, bytes);
    }
    disk
}

fn patch<V: Vfs, W: Vfs>(old: &V, new: &W) -> Vec<u8> {
    let (mut out, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    let how = Options { to: "2.0.0".into(), level: Level::Default, segment: Some(SEGMENT), ..Options::default() };
    let trees = ((recorded(old), old), (recorded(new), new));
    let base = ("1.0.0", &trees.0.0, trees.0.1);
    build_patch(base, (&trees.1.0, trees.1.1), &how, &mut spool, &mut out).unwrap();
    out
}

fn apply<V: Vfs>(engine: &mut Engine<V>, package: impl Read, observer: &dyn Observer) -> Result<(), surefoot::Error> {
    let package = Package::open(package)?.accept_unsigned()?;
    engine.apply(package, &PackageSettings::default(), observer).map(drop)
}

/// Stops when so much is unpacked.
struct Stop {
    most: u64,
    seen: AtomicU64,
    stopped: AtomicBool,
}

impl Stop {
    fn at(most: u64) -> Self {
        Self { most, seen: AtomicU64::new(0), stopped: AtomicBool::new(false) }
    }
}

impl Observer for Stop {
    fn report(&self, progress: Progress) {
        if progress.phase == Phase::Stage {
            self.seen.fetch_max(progress.done, Ordering::Relaxed);
            self.stopped.fetch_or(progress.done >= self.most, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// The tree on a real disk, under care.
fn real(root: &std::path::Path, files: &[(String, Vec<u8>)]) -> Engine {
    std::fs::create_dir_all(root.join("small")).unwrap();
    std::fs::create_dir_all(root.join(".surefoot")).unwrap();
    for (name, bytes) in files {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let vfs = OsVfs::open(root, &root.join(".surefoot")).unwrap();
    let manifest = recorded(&vfs);
    Engine::init(vfs, Config::default(), "1.0.0", Some(&manifest)).unwrap()
}

#[test]
fn a_patch_of_many_segments_is_unpacked_by_several_threads() {
    let [old, new] = versions();
    let scratch = tempfile::tempdir().unwrap();
    let mut engine = real(&scratch.path().join("old"), &old);
    let target = real(&scratch.path().join("new"), &new);
    let package = patch(engine.vfs(), target.vfs());
    let segments = Package::open(package.as_slice()).unwrap().inspect_untrusted().unwrap().segments().len();
    assert!(segments > 30, "{segments} segments");
    apply(&mut engine, package.as_slice(), &()).unwrap();
    for (name, bytes) in &new {
        assert!(std::fs::read(scratch.path().join("old").join(name)).unwrap() == *bytes, "{name}");
    }
    assert_eq!(engine.verify(true, &()).unwrap().findings, []);
    assert_eq!(engine.current().unwrap().digest, target.current().unwrap().digest);
    engine.rollback(&()).unwrap();
    for (name, bytes) in &old {
        assert!(std::fs::read(scratch.path().join("old").join(name)).unwrap() == *bytes, "{name}");
    }
    let kept: Vec<_> = std::fs::read_dir(scratch.path().join("old/.surefoot/generations")).unwrap().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[test]
fn an_interrupted_try_goes_on_where_it_was() {
    let [old, new] = versions();
    let (before, after) = (disk(&old), disk(&new));
    let package = patch(&before, &after);
    let total: u64 = Package::open(package.as_slice()).unwrap().inspect_untrusted().unwrap().payload_bytes();
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    let written =
        |disk: &SimVfs| -> u64 { disk.state_listing().iter().filter(|path| path.contains("/slots/")).count() as u64 };
    for part in [1, 30, 60, 99] {
        let disk = start.fork();
        let mut engine = Engine::open(disk.clone()).unwrap();
        let stop = Stop::at(total * part / 100);
        assert_eq!(apply(&mut engine, package.as_slice(), &stop).unwrap_err().code(), Code::Cancelled);
        assert_eq!(disk.snapshot(), start.snapshot(), "nothing of the tree");
        let kept = written(&disk);
        assert!(kept > 0);
        drop(engine);
        // What was written is on the disk by now; another process goes on.
        disk.sync_all().unwrap();
        let disk = disk.reboot_clean();
        let mut engine = Engine::open(disk.clone()).unwrap();
        engine.recover(&()).unwrap();
        assert_eq!(written(&disk), kept, "recovery keeps it");
        let calls = disk.mutations();
        apply(&mut engine, package.as_slice(), &()).unwrap();
        let again = disk.mutations() - calls;
        let whole = {
            let disk = start.fork();
            let calls = disk.mutations();
            apply(&mut Engine::open(disk.clone()).unwrap(), package.as_slice(), &()).unwrap();
            disk.mutations() - calls
        };
        assert!(part < 60 || again < whole - whole / 10, "{part} %: {again} changes, {whole} without an earlier try");
        assert_eq!(disk.snapshot(), {
            let new = after.reboot_clean();
            new.snapshot()
        });
        assert_eq!(disk.state_listing().iter().filter(|path| path.ends_with("/unpacked")).count(), 0);
    }
}

#[test]
fn what_was_unpacked_counts_only_if_it_reads_back() {
    let [old, new] = versions();
    let (before, after) = (disk(&old), disk(&new));
    let package = patch(&before, &after);
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    let total: u64 = Package::open(package.as_slice()).unwrap().inspect_untrusted().unwrap().payload_bytes();
    let stopped = start.fork();
    let stop = Stop::at(total * 9 / 10);
    apply(&mut Engine::open(stopped.clone()).unwrap(), package.as_slice(), &stop).unwrap_err();
    stopped.sync_all().unwrap();
    let stopped = stopped.reboot_clean();
    let slots: Vec<String> = stopped.state_listing().into_iter().filter(|path| path.contains("/slots/")).collect();
    assert!(slots.len() > 20);
    for slot in slots.iter().step_by(7) {
        for damage in ["flip", "cut", "gone", "long"] {
            let disk = stopped.fork();
            let at = Place { root: RootId::STATE, path: TreePath::parse(slot).unwrap() };
            let file = disk.open(&at, Access::Write).unwrap();
            let size = disk.stat(&at).unwrap().unwrap().size;
            match damage {
                "flip" if size > 0 => disk.write_at(&file, size / 2, b"\x13\x17").unwrap(),
                "cut" => disk.set_len(&file, size / 2).unwrap(),
                "long" => disk.set_len(&file, size + 1).unwrap(),
                _ => disk.remove_file(&at).unwrap(),
            }
            let mut engine = Engine::open(disk.clone()).unwrap();
            apply(&mut engine, package.as_slice(), &()).unwrap();
            assert_eq!(disk.snapshot(), after.reboot_clean().snapshot(), "{damage} {slot}");
        }
    }
}

/// Gives so much of a package, and then an end.
fn cut(package: &[u8], part: usize) -> &[u8] {
    &package[..package.len() * part / 100]
}

/// Once a download that broke off threw away what had been unpacked of it.
#[test]
fn a_package_that_ends_too_early_leaves_what_it_brought_and_no_other_update_waits_for_that() {
    let [old, new] = versions();
    let (before, after) = (disk(&old), disk(&new));
    let package = patch(&before, &after);
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    let slots = |disk: &SimVfs| disk.state_listing().iter().filter(|path| path.contains("/slots/")).count();
    let broken = start.fork();
    let mut engine = Engine::open(broken.clone()).unwrap();
    let error = apply(&mut engine, cut(&package, 80), &()).unwrap_err();
    assert_eq!(error.code(), Code::PackageFormat);
    let kept = slots(&broken);
    assert!(kept > 20, "{kept}");
    // In the same session what is in the cache proves nothing: it is made again.
    apply(&mut engine, package.as_slice(), &()).unwrap();
    assert_eq!(broken.snapshot(), after.reboot_clean().snapshot());

    // Another update removes it, since it needs the room.
    let broken = start.fork();
    let mut engine = Engine::open(broken.clone()).unwrap();
    apply(&mut engine, cut(&package, 80), &()).unwrap_err();
    drop(engine);
    let mut tree = surefoot::device::Tree::with(broken.clone()).unwrap();
    tree.begin().unwrap().put("mine", &b"mine"[..]).commit().unwrap();
    assert!(slots(&broken) <= 2, "{:?}", broken.state_listing());
    assert_eq!(broken.state_listing().iter().filter(|path| path.ends_with("/unpacked")).count(), 0);
}

#[test]
fn a_real_disk_and_several_threads_are_interrupted_anywhere() {
    let [old, new] = versions();
    let scratch = tempfile::tempdir().unwrap();
    let target = real(&scratch.path().join("new"), &new);
    let mut package = Vec::new();
    for part in [0, 5, 20, 40, 60, 80, 95, 99] {
        let root = scratch.path().join(format!("old{part}"));
        let mut engine = real(&root, &old);
        if package.is_empty() {
            package = patch(engine.vfs(), target.vfs());
        }
        let total = Package::open(package.as_slice()).unwrap().inspect_untrusted().unwrap().payload_bytes();
        let stop = Stop::at(total * part / 100);
        assert_eq!(apply(&mut engine, package.as_slice(), &stop).unwrap_err().code(), Code::Cancelled, "{part}");
        assert_eq!(apply(&mut engine, cut(&package, 50), &()).unwrap_err().code(), Code::PackageFormat, "{part}");
        assert_eq!(engine.verify(true, &()).unwrap().findings, [], "{part}");
        apply(&mut engine, package.as_slice(), &()).unwrap();
        for (name, bytes) in &new {
            assert!(std::fs::read(root.join(name)).unwrap() == *bytes, "{part}: {name}");
        }
    }
}

/// Where owners do not count, a slot of an earlier try could keep the owner that it was to have then.
#[test]
fn what_was_unpacked_belongs_to_whom_it_would_belong_now() {
    let [old, new] = versions();
    let (before, after) = (disk(&old), disk(&new));
    before.chown("large", 1000, 1000);
    let package = patch(&before, &after);
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    let whole = start.fork();
    apply(&mut Engine::open(whole.clone()).unwrap(), package.as_slice(), &()).unwrap();
    let calls = whole.calls() - start.calls();
    let at = Place::tree(&TreePath::parse("large").unwrap());
    let mut kept = 0;
    for call in (calls / 2..calls).step_by(7) {
        let disk = start.fork();
        disk.crash_at(disk.calls() + call);
        let _ = Engine::open(disk.clone()).and_then(|mut engine| apply(&mut engine, package.as_slice(), &()));
        let disk = disk.killed().reboot_clean();
        let mut engine = Engine::open(disk.clone()).unwrap();
        engine.recover(&()).unwrap();
        if engine.current().unwrap().version != "1.0.0" {
            continue;
        }
        kept += 1;
        disk.chown("large", 0, 0);
        apply(&mut engine, package.as_slice(), &()).unwrap();
        assert_eq!(disk.stat(&at).unwrap().map(|stat| stat.uid), Some(0), "call {call}");
    }
    assert!(kept > 5, "{kept}");
}

#[test]
fn an_old_file_that_is_not_what_it_should_be_is_named_before_anything_changes() {
    let [old, new] = versions();
    let (before, after) = (disk(&old), disk(&new));
    let package = patch(&before, &after);
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    for name in ["large", "small/12"] {
        let disk = start.fork();
        disk.write_file(name, noise(9, 400_000));
        let found = disk.snapshot();
        let error = apply(&mut Engine::open(disk.clone()).unwrap(), package.as_slice(), &()).unwrap_err();
        assert_eq!(error.code(), Code::Changed);
        let paths: Vec<&TreePath> = error.findings().0.iter().map(|finding| &finding.path).collect();
        assert_eq!(paths, [&TreePath::parse(name).unwrap()]);
        assert_eq!(disk.snapshot(), found);
    }
}

/// Once a segment could take its bytes from a file that no step touches, and that nobody had compared.
#[test]
fn an_old_file_that_does_not_change_is_compared_as_well() {
    let old = vec![("a".to_string(), noise(1, 30_000)), ("b".to_string(), b"small".to_vec())];
    let new = vec![
        ("a".to_string(), noise(1, 30_000)),
        ("b".to_string(), [b"a copy: ", &noise(1, 30_000)[..20_000]].concat()),
    ];
    let (before, after) = (disk(&old), disk(&new));
    let package = patch(&before, &after);
    assert!(package.len() < 2000, "it reads a");
    let manifest = recorded(&before);
    drop(Engine::init(before.clone(), Config::default(), "1.0.0", Some(&manifest)).unwrap());
    let start = before.reboot_clean();
    let disk = start.fork();
    apply(&mut Engine::open(disk.clone()).unwrap(), package.as_slice(), &()).unwrap();
    assert_eq!(disk.snapshot(), after.reboot_clean().snapshot());
    let disk = start.fork();
    disk.write_file("a", noise(2, 30_000));
    let error = apply(&mut Engine::open(disk.clone()).unwrap(), package.as_slice(), &()).unwrap_err();
    assert_eq!((error.code(), error.findings().0[0].path.to_string()), (Code::Changed, "a".to_string()));
    assert_eq!(disk.state_listing().iter().filter(|path| path.contains("/slots/")).count(), 0, "nothing is left");
}

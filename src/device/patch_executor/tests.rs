//! Patches of the service manifest on the forgetful disk.

use super::*;
use crate::device::{Config, Engine, PatchWarning, StagedPatch};
use crate::model::{DeleteOperations, Digest, Policy, ReplaceOperations, TreePath};
use crate::package::legacy::LegacyWriter;
use crate::tree::{Walk, scan};
use crate::trust::SecretKey;
use crate::vfs::sim::{Budget, Options, SimVfs, Snapshot};
use crate::vfs::{Place, RootId};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives one package after the other; the last one for ever.
struct Memory(Mutex<VecDeque<Vec<u8>>>);

impl Memory {
    fn of<const N: usize>(packages: [&[u8]; N]) -> Self {
        Self(Mutex::new(packages.iter().map(|package| package.to_vec()).collect()))
    }
}

impl PackageSource for Memory {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        let mut packages = self.0.lock().unwrap();
        let package = if packages.len() > 1 { packages.pop_front() } else { packages.front().cloned() };
        Ok(Box::new(io::Cursor::new(package.ok_or(io::ErrorKind::NotFound)?)))
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn key() -> SecretKey {
    SecretKey::generate([9; 32])
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::new();
    keyring.insert(key().public()).unwrap();
    keyring
}

fn operations(lists: [&[&str]; 4]) -> PatchOperations {
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let [files, directories, gone_files, gone_directories] = lists.map(own);
    PatchOperations {
        replace: ReplaceOperations { files, directories },
        delete: DeleteOperations { files: gone_files, directories: gone_directories },
    }
}

/// A package: `text` for a file, `/` for a directory, `@target` for a link; `+` before it for mode 755 of a file.
fn package(operations: &PatchOperations, members: &[(&str, &str)]) -> Vec<u8> {
    let operations = operations.validate().unwrap();
    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    for (name, what) in members {
        let (mode, what) = what.strip_prefix('+').map_or((0o644, *what), |rest| (0o755, rest));
        match what.as_bytes() {
            b"/" => writer.directory(&path(name), 0o755).unwrap(),
            [b'@', target @ ..] => writer.symlink(&path(name), target).unwrap(),
            text => writer.file(&path(name), mode, text.len() as u64, &mut &*text).unwrap(),
        }
    }
    writer.finish().unwrap()
}

fn info(package: &[u8]) -> PatchPackageInfo {
    let mut info = PatchPackageInfo { url: "memory".into(), ..PatchPackageInfo::default() };
    info.set_digest(Digest::of(package));
    info.set_signature(&key().sign(b"", package).0);
    info.size = Some(package.len() as u64);
    info.version = Some("1.0.0.1".parse().unwrap());
    info
}

/// A tree as the old version left it, and what people and programs have added.
fn old_tree() -> SimVfs {
    let vfs = SimVfs::new();
    vfs.write_file("app.jar", "old application").chmod("app.jar", 0o750).chown("app.jar", 10, 20);
    vfs.attribute("app.jar", "user.note", "kept").attribute("app.jar", "security.capability", "gone");
    vfs.write_file("same", "the same in both").chown("same", 10, 20);
    vfs.make_dir("front").chmod("front", 0o700).chown("front", 30, 40);
    vfs.write_file("front/index", "old index")
        .write_file("front/same", "same page")
        .write_file("front/cache/unknown", "x");
    vfs.make_symlink("index", "front/link").make_link("front/index", "front/twin").chmod("front/cache", 0o711);
    vfs.write_file("old/app.jar", "very old").write_file("old/front/page", "very old page").chmod("old/front", 0o755);
    vfs.write_file("data", "not ours");
    vfs
}

fn patch() -> (PatchOperations, Vec<u8>) {
    let operations = operations([
        &["app.jar", "etc/new/config.yml", "same"],
        &["front/", "back"],
        &["old/app.jar", "old/none"],
        &["old/front/"],
    ]);
    let members = [
        ("app.jar", "+new application"),
        ("back", "/"),
        ("back/empty", "/"),
        ("back/server", "+server"),
        ("etc/new/config.yml", "port: 1"),
        ("front", "/"),
        ("front/index", "/"),
        ("front/index/page", "new page"),
        ("front/link", "@index/page"),
        ("front/same", "same page"),
        ("same", "the same in both"),
    ];
    let bytes = package(&operations, &members);
    (operations, bytes)
}

fn executor(vfs: &SimVfs, package: &[u8]) -> PatchExecutor<SimVfs> {
    let mut executor = PatchExecutor::with(vfs.clone()).unwrap();
    executor.trust(&keyring()).unwrap().set_source(Memory::of([package]));
    executor
}

/// What a reference applier makes of the old tree, with tools that know nothing of transactions.
fn new_snapshot() -> Snapshot {
    let vfs = old_tree();
    vfs.remove_all("app.jar").write_file("app.jar", "new application").chmod("app.jar", 0o755).chown("app.jar", 10, 20);
    vfs.attribute("app.jar", "user.note", "kept");
    vfs.write_file("etc/new/config.yml", "port: 1");
    for gone in ["front/index", "front/twin", "front/cache", "front/link", "old/app.jar", "old/front"] {
        vfs.remove_all(gone);
    }
    vfs.chmod("front", 0o755).make_symlink("index/page", "front/link").write_file("front/index/page", "new page");
    vfs.make_dir("back/empty").write_file("back/server", "server").chmod("back/server", 0o755);
    for (name, uid, gid) in [("front/index", 0, 0), ("front/index/page", 0, 0), ("front/link", 0, 0)] {
        vfs.chown(name, uid, gid);
    }
    vfs.snapshot()
}

fn assert_same(found: &Snapshot, expected: &Snapshot, what: &str) {
    assert!(found == expected, "{what}: {}", found.difference(expected).unwrap_or_default());
}

fn inode(vfs: &SimVfs, name: &str) -> u64 {
    vfs.stat(&Place::tree(&path(name))).unwrap().unwrap().inode
}

#[test]
fn a_patch_makes_exactly_the_new_tree_and_rollback_exactly_the_old_one() {
    let (operations, bytes) = patch();
    let vfs = old_tree();
    let old = vfs.snapshot();
    let kept = ["same", "front", "front/same", "data"].map(|name| inode(&vfs, name));
    let mut executor = executor(&vfs, &bytes);
    let told = Mutex::new(Vec::new());
    let result = executor.apply_patch(&info(&bytes), &operations, |part| told.lock().unwrap().push(part));
    let report = result.as_ref().unwrap();
    assert_same(&vfs.snapshot(), &new_snapshot(), "applied");
    assert_eq!(["same", "front", "front/same", "data"].map(|name| inode(&vfs, name)), kept, "what is equal stays");
    assert_eq!(report.warnings, [PatchWarning::NotThere { path: path("old/none") }]);
    assert_eq!((report.report.to.as_str(), report.report.trial), ("1.0.0.1", false));
    let json = serde_json::to_value(PatchOutcome::of(&result)).unwrap();
    assert_eq!((&json["outcome"], &json["to"]), (&"applied".into(), &"1.0.0.1".into()));
    assert_eq!(json["warnings"][0], serde_json::json!({ "warning": "not-there", "path": "old/none" }));
    let told = told.into_inner().unwrap();
    assert_eq!((told[0], told[told.len() - 1]), (0.0, 1.0));
    assert!(told.len() > 5 && told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");

    let undone = executor.rollback().unwrap();
    assert_eq!(undone.from, "1.0.0.1");
    assert_same(&vfs.snapshot(), &old, "rolled back");
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    let (operations, bytes) = patch();
    let vfs = old_tree();
    let mut executor = executor(&vfs, &bytes);
    executor.apply_patch_observed(&info(&bytes), &operations, &()).unwrap();
    let again = executor.apply_patch_observed(&info(&bytes), &operations, &()).unwrap();
    assert_eq!(again.report.steps, 0);
    assert_eq!(again.warnings.len(), 3, "{:?}", again.warnings);
    assert_same(&vfs.snapshot(), &new_snapshot(), "again");
}

#[test]
fn a_trial_waits_and_undo_data_is_kept_only_if_wanted() {
    let (operations, bytes) = patch();
    let vfs = old_tree();
    let old = vfs.snapshot();
    let mut executor = executor(&vfs, &bytes);
    executor.set_settings(Settings { trial: true, ..Settings::default() });
    assert!(executor.apply_patch_observed(&info(&bytes), &operations, &()).unwrap().report.trial);
    let again = executor.apply_patch_observed(&info(&bytes), &operations, &()).unwrap_err();
    assert_eq!(again.code(), Code::Pending);
    executor.rollback().unwrap();
    assert_same(&vfs.snapshot(), &old, "rejected");
    executor.enable_backup(false).unwrap();
    executor.apply_patch_observed(&info(&bytes), &operations, &()).unwrap();
    executor.confirm().unwrap();
    assert_same(&vfs.snapshot(), &new_snapshot(), "confirmed");
    assert_eq!(executor.rollback().unwrap_err().code(), Code::NoUndo);
    drop(executor);
    assert_eq!(PatchExecutor::with(vfs).unwrap().engine().config().keep, 0, "it is recorded");
}

/// Applies and expects to be refused with the tree and the state directory as they were.
fn refused(
    vfs: &SimVfs,
    executor: &mut PatchExecutor<SimVfs>,
    info: &PatchPackageInfo,
    list: &PatchOperations,
) -> Error {
    let (tree, state) = (vfs.snapshot_with_times(), vfs.state_listing());
    let result = executor.apply_patch_observed(info, list, &());
    assert!(matches!(PatchOutcome::of(&result), PatchOutcome::Unchanged(_)), "{result:?}");
    let error = result.unwrap_err();
    assert_same(&vfs.snapshot_with_times(), &tree, &error.to_string());
    assert_eq!(vfs.state_listing(), state, "{error}");
    error
}

#[test]
fn every_bad_package_is_refused_with_its_own_code() {
    let (list, bytes) = patch();
    let vfs = old_tree();
    let good = info(&bytes);
    let check = |served: &[u8], info: &PatchPackageInfo, list: &PatchOperations, code: Code, word: &str| {
        let mut executor = executor(&vfs, served);
        let error = refused(&vfs, &mut executor, info, list);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    };
    let with = |change: fn(&mut PatchPackageInfo)| {
        let mut info = good.clone();
        change(&mut info);
        info
    };

    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    check(&flipped, &good, &list, Code::Digest, "digest");
    check(&bytes[..bytes.len() - 9], &good, &list, Code::Digest, "bytes long");
    check(&[&bytes[..], b"more"].concat(), &good, &list, Code::Digest, "bytes long");
    check(&bytes, &with(|info| info.hash = Some("sha256:12".into())), &list, Code::Format, "12");
    check(&bytes, &with(|info| info.signature = Some("AAAA".into())), &list, Code::Format, "AAAA");
    check(&bytes, &with(|info| info.signature = None), &list, Code::Unsigned, "not signed");
    check(&bytes, &with(|info| info.set_signature(&[3; 64])), &list, Code::Signature, "wrong");
    let mut other = good.clone();
    other.set_signature(&SecretKey::generate([1; 32]).sign(b"", &bytes).0);
    check(&bytes, &other, &list, Code::Signature, "wrong");
    other.set_signature(&key().sign(b"", &flipped).0);
    check(&bytes, &other, &list, Code::Signature, "wrong");

    // Listed, but not in the package; in the package, but not listed; listed as something else.
    let lists = |files: &[&str], directories: &[&str]| operations([files, directories, &[], &[]]);
    let files = ["app.jar", "etc/new/config.yml", "same"];
    check(
        &bytes,
        &good,
        &lists(&[&files[..], &["lacking"]].concat(), &["front", "back"]),
        Code::PackagePartial,
        "lacking",
    );
    check(&bytes, &good, &lists(&files, &["front", "back", "lib"]), Code::PackagePartial, "lib");
    check(&bytes, &good, &lists(&[&files[..], &["back"]].concat(), &["front"]), Code::PackagePartial, "back");
    check(&bytes, &good, &lists(&files, &["front"]), Code::PackageFormat, "back");
    check(&bytes, &good, &lists(&["../app.jar"], &[]), Code::Path, "..");
    check(&bytes, &good, &lists(&[".surefoot/journal"], &[]), Code::Path, "surefoot");
    check(&bytes, &good, &operations([&["a"], &[], &["a"], &[]]), Code::Format, "a is to be");

    // What is cut short and was never described is found by unpacking.
    let bare = PatchPackageInfo { url: "memory".into(), ..PatchPackageInfo::default() };
    for cut in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        let mut executor = executor(&vfs, &bytes[..cut]);
        executor.allow_unsigned(true);
        assert_eq!(refused(&vfs, &mut executor, &bare, &list).code(), Code::PackageFormat, "{cut}");
    }

    // A tree that trusts nobody.
    let mut alone = PatchExecutor::with(vfs.clone()).unwrap();
    alone.set_source(Memory::of([&bytes]));
    assert_eq!(refused(&vfs, &mut alone, &good, &list).code(), Code::NoKeys);
    assert_eq!(refused(&vfs, &mut alone, &with(|info| info.signature = None), &list).code(), Code::NoKeys);
    alone.limit_unpacked(Some(2000)).allow_unsigned(true);
    assert_eq!(refused(&vfs, &mut alone, &good, &list).code(), Code::Limit);
    alone.limit_unpacked(None);
    let report = alone.apply_patch_observed(&good, &list, &()).unwrap();
    assert_eq!(report.warnings[0], PatchWarning::Unverified);
    let mut older = good.clone();
    older.version = Some("1.0.0".parse().unwrap());
    assert_eq!(refused(&vfs, &mut alone, &older, &list).code(), Code::Downgrade);
    alone.allow_downgrade(true).apply_patch_observed(&older, &list, &()).unwrap();
    assert_eq!(alone.engine().current().unwrap().version, "1.0.0");
}

#[test]
fn a_wrong_signature_is_refused_even_where_none_is_needed() {
    let (list, bytes) = patch();
    let vfs = old_tree();
    let mut executor = executor(&vfs, &bytes);
    executor.allow_unsigned(true);
    let mut wrong = info(&bytes);
    wrong.set_signature(&[3; 64]);
    assert_eq!(refused(&vfs, &mut executor, &wrong, &list).code(), Code::Signature);
    wrong.signature = None;
    assert_eq!(executor.apply_patch_observed(&wrong, &list, &()).unwrap().warnings[0], PatchWarning::Unverified);
}

#[test]
fn a_package_that_is_swapped_after_it_was_verified_comes_to_nothing() {
    let (list, bytes) = patch();
    let evil = {
        let listed = list.validate().unwrap();
        let mut writer = LegacyWriter::new(Vec::new(), &listed);
        for (name, text) in
            [("app.jar", "evil"), ("back/x", "evil"), ("etc/new/config.yml", "evil"), ("front/x", "evil")]
        {
            writer.file(&path(name), 0o644, 4, &mut text.as_bytes()).unwrap();
        }
        writer.file(&path("same"), 0o644, 4, &mut &b"evil"[..]).unwrap();
        writer.finish().unwrap()
    };
    let vfs = old_tree();
    let mut executor = executor(&vfs, &bytes);
    // Once to look whether it is there, once to verify it; then another one.
    executor.set_source(Memory::of([&bytes, &bytes, &evil]));
    let error = refused(&vfs, &mut executor, &info(&bytes), &list);
    assert_eq!((error.code(), error.message()), (Code::Digest, "the package changed after it was verified"));
}

#[test]
fn what_is_of_another_type_in_the_tree_is_refused_or_replaced_as_a_whole() {
    let vfs = SimVfs::new();
    vfs.write_file("file", "x").write_file("directory/inner", "x").make_symlink("directory", "link");
    let check = |list: PatchOperations, members: &[(&str, &str)], first: &str| {
        let bytes = package(&list, members);
        let error = refused(&vfs, &mut executor(&vfs, &bytes), &info(&bytes), &list);
        assert_eq!((error.code(), error.findings().0[0].path.to_string()), (Code::Changed, first.into()), "{error}");
    };
    check(operations([&["directory"], &[], &[], &[]]), &[("directory", "text")], "directory");
    check(operations([&["file/a"], &[], &[], &[]]), &[("file/a", "text")], "file");
    check(operations([&[], &["link/a"], &[], &[]]), &[("link/a", "/")], "link");
    check(operations([&[], &[], &["directory"], &[]]), &[], "directory");

    // Links are replaced and deleted themselves, never followed; what would be behind one is not there.
    let list = operations([&["link"], &["file"], &["file2/none"], &["directory/inner"]]);
    let bytes = package(&list, &[("file", "/"), ("file/a", "new"), ("link", "text")]);
    let report = executor(&vfs, &bytes).apply_patch_observed(&info(&bytes), &list, &()).unwrap();
    let expected = [
        PatchWarning::NotThere { path: path("file2/none") },
        PatchWarning::NoDirectory { path: path("directory/inner") },
    ];
    assert_eq!(report.warnings, expected);
    assert_eq!(vfs.snapshot().paths(), ["directory", "file", "file/a", "link"]);
    assert_eq!(vfs.read_file("link").unwrap(), b"text");
}

#[test]
fn a_full_disk_is_found_before_anything_changes() {
    let list = operations([&["large"], &["front"], &[], &[]]);
    let bytes = package(&list, &[("front", "/"), ("front/page", "new"), ("large", &"x".repeat(400 << 10))]);
    let info = info(&bytes);
    let vfs = old_tree();
    drop(PatchExecutor::with(vfs.clone()).unwrap());
    vfs.set_options(|options| options.limit_bytes = Some(1 << 30));
    let used = (1 << 30) - vfs.space(RootId::STATE).unwrap().free_bytes;
    let mut codes = Vec::new();
    for free in (0..=160).map(|pages| pages * 4096) {
        let vfs = vfs.fork();
        vfs.set_options(|options| options.limit_bytes = Some(used + free));
        let mut executor = executor(&vfs, &bytes);
        // With and without a limit of the caller: the disk is full while unpacking, or known not to suffice.
        executor.limit_unpacked((free % 8192 == 0).then_some(1 << 20));
        let old = vfs.snapshot();
        match executor.apply_patch_observed(&info, &list, &()) {
            Ok(_) => codes.push(None),
            Err(error) => {
                assert_same(&vfs.snapshot(), &old, &error.to_string());
                let listing = vfs.state_listing();
                assert!(!listing.iter().any(|name| name.contains("slots/")), "{error}: {listing:?}");
                codes.push(Some(error.code()));
            }
        }
    }
    assert_eq!((codes[0], codes[codes.len() - 1]), (Some(Code::Space), None));
    assert!(codes.iter().flatten().all(|code| *code == Code::Space), "{codes:?}");
}

/// It was told as a bound that the package exceeds, although nobody had set one: there is no room for it.
#[test]
fn a_full_package_that_is_larger_than_the_disk_is_told_as_that() {
    let bytes = package(&operations([&["large"], &[], &[], &[]]), &[("large", &"x".repeat(400 << 10))]);
    let vfs = old_tree();
    drop(PatchExecutor::with(vfs.clone()).unwrap());
    vfs.set_options(|options| options.limit_bytes = Some(1 << 30));
    let used = (1 << 30) - vfs.space(RootId::STATE).unwrap().free_bytes;
    vfs.set_options(|options| options.limit_bytes = Some(used + (100 << 10)));
    let mut executor = executor(&vfs, &bytes);
    let code =
        |executor: &mut PatchExecutor<SimVfs>| executor.apply_full_observed(&info(&bytes), &()).unwrap_err().code();
    assert_eq!(code(&mut executor), Code::Space);
    executor.limit_unpacked(Some(100 << 10));
    assert_eq!(code(&mut executor), Code::Limit, "a bound that was set is one");
}

#[test]
fn it_stops_on_request_before_anything_changes() {
    struct Stop(AtomicBool, Phase);
    impl Observer for Stop {
        fn report(&self, progress: Progress) {
            self.0.fetch_or(progress.phase == self.1, Ordering::Relaxed);
        }
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }
    let (list, bytes) = patch();
    let vfs = old_tree();
    for phase in [Phase::Check, Phase::Download, Phase::Verify, Phase::Stage] {
        let (old, mut executor) = (vfs.snapshot_with_times(), executor(&vfs, &bytes));
        let stop = Stop(AtomicBool::new(false), phase);
        let error = executor.apply_patch_observed(&info(&bytes), &list, &stop).unwrap_err();
        assert_eq!(error.code(), Code::Cancelled, "{phase:?}: {error}");
        assert_same(&vfs.snapshot_with_times(), &old, "stopped");
    }
}

#[test]
fn a_recorded_tree_is_recorded_afterwards_too() {
    let (list, bytes) = patch();
    for policy in [0, 1, 2, 3].map(|bits| Policy::from_bits(bits).unwrap()) {
        let vfs = old_tree();
        let walk = Walk { policy, state_inside: true };
        let manifest = scan(&vfs, &walk, &|_, _| ()).unwrap();
        let config = Config { owner: policy.owner, mtime: policy.mtime, ..Config::default() };
        drop(Engine::init(vfs.clone(), config, "1.0.0", Some(&manifest)).unwrap());
        // Since then: something unknown has come, something known has gone.
        vfs.write_file("front/stray/deep", "unknown")
            .write_file("etc/other", "unknown")
            .write_file("old/front/more", "x");
        vfs.remove_all("front/same").remove_all("old/app.jar").remove_all("front/cache/unknown");
        let old = vfs.snapshot();
        let mut executor = executor(&vfs, &bytes);
        let findings = |executor: &mut PatchExecutor<SimVfs>| executor.engine().verify(true, &()).unwrap().findings;
        let before = findings(&mut executor);
        let report = executor.apply_patch_observed(&info(&bytes), &list, &()).unwrap();
        assert_eq!(report.warnings.len(), 2);
        // Only the stranger that no operation names is not as recorded.
        let after: Vec<String> = findings(&mut executor).iter().map(|finding| finding.path.to_string()).collect();
        assert_eq!(after, ["etc/other"], "{policy:?}");
        executor.rollback().unwrap();
        assert_same(&vfs.snapshot(), &old, "rolled back");
        assert_eq!(findings(&mut executor), before, "{policy:?}");
    }
}

#[test]
fn a_staged_patch_that_is_dropped_leaves_nothing() {
    let (list, bytes) = patch();
    let vfs = old_tree();
    let mut tree = Tree::with(vfs.clone()).unwrap();
    let (old, state) = (vfs.snapshot_with_times(), vfs.state_listing());
    let processor = PatchProcessor::new(keyring()).from_source(Memory::of([&bytes]));
    let verified = processor.download_patch(&info(&bytes), &()).unwrap();
    let verified = processor.verify_patch_integrity(verified, &()).unwrap();
    assert_eq!((verified.digest(), verified.size()), (Digest::of(&bytes), bytes.len() as u64));
    assert_eq!(verified.signer(), Some(key().public().id()));
    let operations = list.validate().unwrap();
    let staged: StagedPatch<'_, _> = processor.extract_patch(verified, &operations, tree.engine(), &()).unwrap();
    assert!(vfs.state_listing().iter().any(|name| name.contains("/slots/")));
    assert_same(&vfs.snapshot_with_times(), &old, "staged");
    drop(staged);
    assert_eq!(vfs.state_listing(), state);
}

#[test]
fn wherever_power_fails_the_tree_is_old_or_new() {
    let list = operations([&["app.jar", "etc/new"], &["front/"], &["old/app.jar"], &[]]);
    let bytes = package(&list, &[("app.jar", "+new"), ("etc/new", "1"), ("front", "/"), ("front/page", "new page")]);
    let info = info(&bytes);
    let mut tried = 0;
    for (exchange, mtime) in [(true, false), (false, false), (true, true), (false, true)] {
        let start = old_tree();
        start.set_options(|options| options.exchange = exchange);
        let policy = Policy { owner: true, mtime };
        let manifest = mtime.then(|| scan(&start, &Walk { policy, state_inside: true }, &|_, _| ()).unwrap());
        let config = Config { owner: true, mtime, ..Config::default() };
        drop(Engine::init(start.clone(), config, "", manifest.as_ref()).unwrap());
        let snapshot = |vfs: &SimVfs| if mtime { vfs.snapshot_with_times() } else { vfs.snapshot() };
        let apply = |vfs: &SimVfs| executor(vfs, &bytes).apply_patch_observed(&info, &list, &());
        let old = snapshot(&start);
        let whole = start.fork();
        apply(&whole).unwrap();
        let new = snapshot(&whole);
        assert!(old != new);
        let (mut olds, mut news) = (0, 0);
        for step in start.calls()..whole.calls() {
            let vfs = start.fork();
            vfs.crash_at(step);
            let executor = PatchExecutor::with(vfs.clone());
            if let Ok(mut executor) = executor {
                executor.trust(&keyring()).unwrap().set_source(Memory::of([&bytes]));
                // It may succeed: what follows the decision is only cleaning up.
                let _ = executor.apply_patch_observed(&info, &list, &());
            }
            vfs.for_each_crash_image(&Budget::sample(4, step), &mut |image| {
                let disk = image.mount();
                let recovered = PatchExecutor::with(disk.clone());
                let found = snapshot(&disk);
                assert!(recovered.is_ok(), "step {step}, {}: {recovered:?}", image.choice());
                let is_old = found == old;
                assert!(is_old || found == new, "step {step}, {}: {:?}", image.choice(), found.difference(&new));
                let version = recovered.unwrap().engine().current().unwrap().version;
                assert_eq!(version, if is_old { "" } else { "1.0.0.1" }, "step {step}, {}", image.choice());
                tried += 1;
                if is_old { olds += 1 } else { news += 1 }
            });
        }
        assert!(olds > 0 && news > 0, "{olds} old, {news} new");
    }
    println!("{tried} images");
}

#[test]
fn a_user_who_is_not_root_applies_too() {
    let vfs = SimVfs::with(Options { user: 1000, ..Options::default() });
    vfs.write_file("app.jar", "old").write_file("front/page", "old");
    let list = operations([&["app.jar"], &["front"], &[], &[]]);
    let bytes = package(&list, &[("app.jar", "+new"), ("front", "/"), ("front/page", "new")]);
    executor(&vfs, &bytes).apply_patch_observed(&info(&bytes), &list, &()).unwrap();
    let stat = vfs.stat(&Place::tree(&path("app.jar"))).unwrap().unwrap();
    assert_eq!((stat.uid, stat.mode), (1000, 0o755));
}

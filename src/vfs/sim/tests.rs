use super::*;
use crate::vfs::{Access, FileType, Place, Rename, RootId, Vfs};
use snapshot::place;

fn disk(profile: Profile) -> SimVfs {
    SimVfs::with(Options { profile, trace: true, ..Options::default() })
}

fn create(vfs: &SimVfs, path: &str, bytes: &[u8]) -> SimFile {
    let file = vfs.create(&place(path)).unwrap();
    vfs.write_at(&file, 0, bytes).unwrap();
    file
}

fn rename(vfs: &SimVfs, from: &str, to: &str, how: Rename) -> Result<(), Errno> {
    vfs.rename(&place(from), &place(to), how).map_err(errno)
}

fn errno(error: crate::vfs::IoError) -> Errno {
    Errno::from_io_error(&error.source).unwrap()
}

fn images(vfs: &SimVfs) -> Vec<Image> {
    vfs.crash_images(&Budget::default()).0
}

/// What a file holds in each image.
fn outcomes(vfs: &SimVfs, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    images(vfs).iter().map(|image| image.mount().read_file(path)).collect()
}

fn is_garbage(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().any(|byte| *byte != 0) && !b"new".starts_with(&bytes[..3.min(bytes.len())])
}

/// Stage, rename without a sync of the data: the classic mistake.
fn careless(profile: Profile) -> SimVfs {
    let vfs = disk(profile);
    vfs.write_file("a", b"old");
    create(&vfs, "a.new", b"new");
    rename(&vfs, "a.new", "a", Rename::Replace).unwrap();
    vfs
}

#[test]
fn a_prefix_is_old_or_new() {
    let found = outcomes(&careless(Profile::Prefix), "a");
    assert_eq!(found, BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
}

#[test]
fn without_a_sync_of_data_a_rename_leaves_an_empty_or_zero_file() {
    let found = outcomes(&careless(Profile::Somc), "a");
    for expected in [&b"old"[..], b"new", b"", b"\0\0\0"] {
        assert!(found.contains(&Some(expected.to_vec())), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn lost_data_of_new_blocks_is_garbage_where_the_profile_says_so() {
    let found = outcomes(&careless(Profile::SomcStale), "a");
    assert!(found.iter().any(|bytes| is_garbage(bytes.as_ref().unwrap()) && bytes.as_ref().unwrap() != b"old"));
    assert!(!found.contains(&Some(b"\0\0\0".to_vec())), "{found:?}");
    // Blocks that were written before hold what they held.
    let vfs = disk(Profile::SomcStale);
    vfs.write_file("journal", [0; 8192]);
    let file = vfs.open(&place("journal"), Access::Write).unwrap();
    vfs.write_at(&file, 4096, &[7; 512]).unwrap();
    let found = outcomes(&vfs, "journal");
    assert_eq!(found.len(), 2);
    assert!(found.contains(&Some(vec![0; 8192])));
}

#[test]
fn metadata_keeps_its_order_in_somc_and_a_file_sync_commits_it() {
    let vfs = disk(Profile::Somc);
    vfs.mkdir(&place("one")).unwrap();
    vfs.mkdir(&place("two")).unwrap();
    assert!(images(&vfs).iter().map(Image::mount).all(|v| v.exists("one") || !v.exists("two")));
    assert_eq!(images(&vfs).len(), 3);
    let file = create(&vfs, "file", b"x");
    vfs.mkdir(&place("three")).unwrap();
    vfs.sync_file(&file).unwrap();
    assert_eq!(images(&vfs).len(), 1, "{:?}", vfs.pending());
}

#[test]
fn a_synced_file_jumps_ahead_in_per_inode() {
    let vfs = disk(Profile::PerInode);
    vfs.write_file("old/gone", b"1");
    vfs.mkdir(&place("new")).unwrap();
    rename(&vfs, "old/gone", "new/here", Rename::NoReplace).unwrap();
    vfs.mkdir(&place("dir")).unwrap();
    let file = create(&vfs, "dir/log", b"applied");
    vfs.sync_file(&file).unwrap();
    let after: Vec<SimVfs> = images(&vfs).iter().map(Image::mount).collect();
    assert!(after.iter().all(|v| v.read_file("dir/log").unwrap() == b"applied"));
    assert!(after.iter().any(|v| v.exists("old/gone") && !v.exists("new")));
    assert!(after.iter().any(|v| v.exists("new/here")));
    assert!(after.iter().all(|v| v.exists("old/gone") != v.exists("new/here")), "a rename stays whole");
    vfs.sync_all().unwrap();
    assert_eq!(images(&vfs).len(), 1);
}

#[test]
fn posix_keeps_any_subset_but_what_was_forced() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("log", [0; 4096]);
    let log = vfs.open(&place("log"), Access::Write).unwrap();
    for name in ["a", "b", "c"] {
        vfs.mkdir(&place(name)).unwrap();
    }
    vfs.write_at(&log, 0, b"record").unwrap();
    vfs.sync_file(&log).unwrap();
    let mut sets = BTreeSet::new();
    for image in images(&vfs) {
        let after = image.mount();
        assert_eq!(&after.read_file("log").unwrap()[..6], b"record", "{}", image.choice());
        sets.insert(["a", "b", "c"].map(|name| after.exists(name)));
    }
    assert_eq!(sets.len(), 8);
}

#[test]
fn posix_forces_neither_the_name_nor_the_mode_of_a_synced_file() {
    let vfs = disk(Profile::Posix);
    let file = create(&vfs, "f", b"data");
    vfs.set_mode(&place("f"), 0o755).unwrap();
    vfs.sync_file(&file).unwrap();
    assert!(outcomes(&vfs, "f") == BTreeSet::from([None, Some(b"data".to_vec())]));
    let mode = |image: &Image| image.mount().stat(&place("f")).unwrap().map(|stat| stat.mode);
    let modes: BTreeSet<_> = images(&vfs).iter().map(mode).collect();
    assert_eq!(modes, BTreeSet::from([None, Some(0o600), Some(0o755)]));
}

#[test]
fn below_a_lost_directory_everything_is_lost_and_directories_have_one_name() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("x/y/f", b"1").write_file("z/g", b"2");
    vfs.mkdir(&place("new")).unwrap();
    rename(&vfs, "x", "new/x", Rename::NoReplace).unwrap();
    rename(&vfs, "new/x/y", "top", Rename::NoReplace).unwrap();
    rename(&vfs, "new", "top/deep", Rename::NoReplace).unwrap();
    rename(&vfs, "z", "top/z", Rename::Exchange).unwrap_err();
    rename(&vfs, "z", "top/deep", Rename::Exchange).unwrap();
    for image in images(&vfs) {
        let state = image.mount().state().clone();
        let mut named: BTreeMap<Id, u32> = BTreeMap::from([(ROOT, 1)]);
        for (_, inode) in state.live.all() {
            if let Body::Directory(directory) = &inode.body {
                let below = directory.entries.values().filter(|id| state.live.directory(**id).is_some()).count();
                assert_eq!(below as u64, directory.directories, "{}", image.choice());
                directory.entries.values().for_each(|id| *named.entry(*id).or_default() += 1);
            }
        }
        for (id, inode) in state.live.all() {
            assert_eq!(named.get(&id), Some(&inode.names), "inode {id}: {}", image.choice());
            assert!(inode.names == 1 || !matches!(inode.body, Body::Directory(_)), "{}", image.choice());
            let file = matches!(inode.body, Body::File(_));
            assert!(file || state.live.is_within(id, ROOT), "inode {id}: {}", image.choice());
        }
        assert_eq!(state.live.inodes as usize, state.live.all().count());
    }
}

#[test]
fn a_split_rename_leaves_both_names_or_none() {
    for (profile, expected) in [(Profile::Posix, 2), (Profile::Split, 4)] {
        let vfs = disk(profile);
        vfs.write_file("a", b"1");
        rename(&vfs, "a", "b", Rename::NoReplace).unwrap();
        let found: BTreeSet<_> =
            images(&vfs).iter().map(Image::mount).map(|v| (v.exists("a"), v.exists("b"))).collect();
        assert_eq!(found.len(), expected, "{profile:?}: {found:?}");
    }
}

#[test]
fn a_failed_sync_loses_data_that_can_still_be_read() {
    let mut lost = 0;
    for seed in 0..20 {
        let vfs = SimVfs::with(Options { seed, ..Options::default() });
        vfs.set_faults(Faults::none().fail_sync(0));
        let file = create(&vfs, "f", b"data");
        assert_eq!(errno(vfs.sync_all().unwrap_err()), Errno::IO);
        vfs.sync_all().unwrap();
        vfs.sync_file(&file).unwrap();
        assert_eq!(vfs.read_file("f").unwrap(), b"data", "the cache knows no better");
        let after = vfs.reboot_clean().read_file("f").unwrap();
        assert!(after == b"data" || after == b"\0\0\0\0", "seed {seed}: {after:?}");
        lost += u32::from(after != b"data");
        assert_eq!(images(&vfs).len(), 1, "seed {seed}");
    }
    assert!((4..=16).contains(&lost), "{lost} of 20");
}

#[test]
fn an_ignored_sync_does_nothing() {
    for ignored in 0..2 {
        let vfs = disk(Profile::Posix);
        vfs.set_faults(Faults::none().ignore_sync(ignored));
        vfs.mkdir(&place("a")).unwrap();
        vfs.sync_all().unwrap();
        let kept = images(&vfs).iter().all(|image| image.mount().exists("a"));
        assert_eq!(kept, ignored == 1);
        assert_eq!((vfs.syncs(), vfs.barriers()), (1, (0, 1)));
    }
}

#[test]
fn calls_fail_before_or_after_their_effect_once_or_for_ever() {
    for (when, repeat) in [
        (When::Before, Repeat::OneShot),
        (When::Before, Repeat::Sticky),
        (When::After, Repeat::OneShot),
        (When::After, Repeat::Sticky),
    ] {
        let vfs = disk(Profile::Posix);
        vfs.stat(&place("a")).unwrap();
        vfs.set_faults(Faults::none().fail_call(1, Errno::ROFS, when, repeat));
        assert_eq!(errno(vfs.create(&place("a")).unwrap_err()), Errno::ROFS);
        assert_eq!(vfs.stat(&place("a")).unwrap().is_some(), when == When::After);
        assert_eq!(vfs.mkdir(&place("b")).is_ok(), repeat == Repeat::OneShot);
        assert_eq!((vfs.calls(), vfs.reads(), vfs.all_calls()), (2, 2, 4));
    }
}

#[test]
fn after_the_loss_of_power_nothing_works() {
    let vfs = disk(Profile::Posix);
    vfs.crash_at(1);
    let file = vfs.create(&place("a")).unwrap();
    vfs.stat(&place("a")).unwrap();
    assert!(!vfs.has_crashed());
    assert!(is_power_loss(&vfs.write_at(&file, 0, b"x").unwrap_err().source));
    assert!(vfs.has_crashed());
    for result in [vfs.sync_all(), vfs.stat(&place("a")).map(|_| ()), vfs.session().map(|_| ())] {
        assert!(is_power_loss(&result.unwrap_err().source));
    }
    assert_eq!(vfs.calls(), 1);
    let trace = vfs.trace();
    assert_eq!(trace.len(), 3);
    assert_eq!(trace[2].to_string(), "    2     1 write a, 1 at 0: power was lost");
    assert!(images(&vfs).iter().all(|image| image.mount().read_file("a").is_none_or(|bytes| bytes.is_empty())));
    assert!(!is_power_loss(&std::io::Error::other("something else")));
}

#[test]
fn a_full_disk_says_so_and_takes_what_fits() {
    let options = Options { limit_bytes: Some(8192), limit_inodes: Some(4), ..Options::default() };
    let vfs = SimVfs::with(options);
    let file = vfs.create(&place("a")).unwrap();
    vfs.create(&place("b")).unwrap();
    assert_eq!(errno(vfs.create(&place("c")).unwrap_err()), Errno::NOSPC);
    assert_eq!(errno(vfs.mkdir(&place("c")).unwrap_err()), Errno::NOSPC);
    assert_eq!(errno(vfs.write_at(&file, 100, &[1; 9000]).unwrap_err()), Errno::NOSPC);
    assert_eq!(vfs.read_file("a").unwrap().len(), 8192);
    vfs.write_at(&file, 0, &[2; 8192]).unwrap();
    assert_eq!(vfs.space(RootId::TREE).unwrap().free_bytes, 0);
    vfs.remove_file(&place("a")).unwrap();
    assert_eq!(vfs.space(RootId::TREE).unwrap().free_bytes, 0, "the file is still open");
    drop(file);
    let space = vfs.space(RootId::TREE).unwrap();
    assert_eq!((space.free_bytes, space.free_inodes), (8192, Some(1)));
}

#[test]
fn the_errors_are_those_of_linux() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("f", b"1").write_file("full/g", b"2").make_dir("empty").make_symlink("full", "s");
    let stat = |path: &str| vfs.stat(&place(path)).map_err(errno);
    assert_eq!(stat("none/x"), Ok(None));
    assert_eq!(stat("f/x"), Ok(None));
    assert_eq!(stat("s/g"), Ok(None));
    assert_eq!(stat("s").unwrap().unwrap().kind, FileType::Symlink);
    assert_eq!(stat("").unwrap().unwrap().links, 5, "three directories and the state");
    use Rename::{Exchange, NoReplace, Replace};
    for (from, to, how, expected) in [
        ("none", "x", Replace, Errno::NOENT),
        ("f", "f/x", Replace, Errno::NOTDIR),
        ("f", "s/x", Replace, Errno::LOOP),
        ("f", "full", Replace, Errno::ISDIR),
        ("full", "f", Replace, Errno::NOTDIR),
        ("empty", "full", Replace, Errno::NOTEMPTY),
        ("full", "full/x", NoReplace, Errno::INVAL),
        ("full/g", "full", Replace, Errno::NOTEMPTY),
        ("full/g", "full", Exchange, Errno::INVAL),
        ("f", "empty", NoReplace, Errno::EXIST),
        ("f", "x", Exchange, Errno::NOENT),
        ("", "x", Replace, Errno::BUSY),
    ] {
        assert_eq!(rename(&vfs, from, to, how), Err(expected), "{from} -> {to} {how:?}");
    }
    assert_eq!(vfs.create(&place("s")).map_err(errno).unwrap_err(), Errno::EXIST);
    assert_eq!(vfs.open(&place("full"), Access::Read).map_err(errno).unwrap_err(), Errno::ISDIR);
    assert_eq!(vfs.open(&place("s"), Access::Read).map_err(errno).unwrap_err(), Errno::LOOP);
    assert_eq!(vfs.remove_file(&place("full")).map_err(errno), Err(Errno::ISDIR));
    assert_eq!(vfs.remove_dir(&place("f")).map_err(errno), Err(Errno::NOTDIR));
    assert_eq!(vfs.remove_dir(&place("full")).map_err(errno), Err(Errno::NOTEMPTY));
    assert_eq!(vfs.link(&place("full"), &place("x")).map_err(errno), Err(Errno::PERM));
    assert_eq!(vfs.link(&place("f"), &place("s")).map_err(errno), Err(Errno::EXIST));
    assert_eq!(vfs.set_xattr(&place("f"), b"user.x", None).map_err(errno), Err(Errno::NODATA));
    let reader = vfs.open(&place("f"), Access::Read).unwrap();
    assert_eq!(vfs.write_at(&reader, 0, b"x").map_err(errno), Err(Errno::BADF));
    assert_eq!(vfs.mutations(), 0);
    assert_eq!(vfs.pending(), []);
}

#[test]
fn an_exchange_crosses_types_and_is_its_own_inverse() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("f", b"1").write_file("d/e/g", b"2").make_symlink("f", "d/s");
    let before = vfs.snapshot();
    for (a, b) in [("f", "d"), ("f", "d/e"), ("d/s", "f"), ("d/e", "d/s")] {
        rename(&vfs, a, b, Rename::Exchange).unwrap();
        assert!(before.difference(&vfs.snapshot()).is_some());
        rename(&vfs, a, b, Rename::Exchange).unwrap();
        assert_eq!(before.difference(&vfs.snapshot()), None);
    }
    assert_eq!(vfs.stat(&place("d")).unwrap().unwrap().links, 3);
}

#[test]
fn a_rename_between_two_names_of_one_file_does_nothing() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("a", b"1").make_link("a", "b");
    for how in [Rename::Replace, Rename::Exchange] {
        rename(&vfs, "a", "b", how).unwrap();
    }
    assert!(vfs.exists("a") && vfs.exists("b"));
    assert_eq!(vfs.stat(&place("a")).unwrap().unwrap().links, 2);
    assert_eq!(vfs.mutations(), 0);
    assert!(vfs.pending().is_empty());
}

#[test]
fn a_new_owner_takes_privileges_away() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("f", b"1").chmod("f", 0o6755).attribute("f", "security.capability", b"x").make_dir("d");
    vfs.chmod("d", 0o2755).chown("d", 0, 7);
    vfs.set_owner(&place("f"), 1, 2).unwrap();
    let stat = vfs.stat(&place("f")).unwrap().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o755, 1, 2));
    assert!(vfs.xattrs(&place("f")).unwrap().is_empty());
    vfs.mkdir(&place("d/sub")).unwrap();
    let stat = vfs.stat(&place("d/sub")).unwrap().unwrap();
    assert_eq!((stat.mode, stat.gid), (0o2700, 7), "setgid is inherited");
}

#[test]
fn a_user_may_not_do_everything_with_what_is_his() {
    let vfs = SimVfs::with(Options { user: 1000, ..Options::default() });
    vfs.write_file("f", b"1").attribute("f", "user.a", "1").chown("f", 1000, 50).chmod("f", 0o444);
    let (at, mode) = (place("f"), || vfs.stat(&place("f")).unwrap().unwrap().mode);
    for value in [None, Some(&b"2"[..])] {
        assert_eq!(errno(vfs.set_xattr(&at, b"user.a", value).unwrap_err()), Errno::ACCESS);
    }
    vfs.set_xattr(&at, b"system.posix_acl_access", Some(b"x")).unwrap();
    vfs.set_mode(&at, 0o2640).unwrap();
    assert_eq!((mode(), vfs.is_member(50), vfs.is_member(1000)), (0o640, false, true), "no member sets that bit");
    vfs.set_xattr(&at, b"user.a", Some(b"2")).unwrap();
    vfs.chown("f", 1000, 1000).set_mode(&at, 0o2240).unwrap();
    assert_eq!((mode(), errno(vfs.xattrs(&at).unwrap_err())), (0o2240, Errno::ACCESS));
}

#[test]
fn what_is_marked_immutable_stays_as_it_is_even_for_root() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("d/a", b"a").write_file("b", b"b").set_immutable("d", true).set_immutable("b", true);
    assert!(vfs.stat(&place("b")).unwrap().unwrap().immutable && vfs.stat(&place("d")).unwrap().unwrap().immutable);
    let refused = |result: Result<(), crate::vfs::IoError>| assert_eq!(result.map_err(errno), Err(Errno::PERM));
    refused(vfs.open(&place("b"), Access::Write).map(|_| ()));
    refused(vfs.set_mode(&place("b"), 0o600));
    refused(vfs.set_xattr(&place("b"), b"user.a", Some(b"1")));
    refused(vfs.link(&place("b"), &place("c")));
    refused(vfs.remove_file(&place("b")));
    refused(vfs.rename(&place("d/a"), &place("b"), Rename::Exchange));
    refused(vfs.remove_file(&place("d/a")));
    refused(vfs.create(&place("d/c")).map(|_| ()));
    vfs.set_mode(&place("d/a"), 0o600).unwrap();
    let after = vfs.reboot_clean();
    assert!(after.stat(&place("b")).unwrap().unwrap().immutable, "a mark survives the boot");
    after.set_immutable("b", false).remove_file(&place("b")).unwrap();
}

#[test]
fn nothing_crosses_into_what_is_mounted() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("d/a", b"a").set_mount_point("d", true);
    assert!(vfs.stat(&place("d")).unwrap().unwrap().mount_point);
    assert_eq!(vfs.stat(&place("d/a")).map_err(errno), Err(Errno::XDEV));
    assert_eq!(rename(&vfs, "d", "e", Rename::NoReplace), Err(Errno::BUSY));
    vfs.set_mount_point("d", false);
    rename(&vfs, "d", "e", Rename::NoReplace).unwrap();
}

#[test]
fn a_sync_of_everything_may_fail_in_silence() {
    let mut lost = 0;
    for seed in 0..20 {
        let vfs = SimVfs::with(Options { seed, sync_all_reports: false, ..Options::default() });
        vfs.set_faults(Faults::none().fail_sync(0).fail_sync(2));
        let file = create(&vfs, "f", b"data");
        vfs.sync_all().unwrap();
        vfs.sync_file(&file).unwrap();
        let after = vfs.reboot_clean().read_file("f").unwrap();
        assert_eq!(images(&vfs).len(), 1, "seed {seed}: the name is durable");
        lost += u32::from(after != b"data");
        assert_eq!(errno(vfs.sync_file(&file).unwrap_err()), Errno::IO, "that of a file is told");
    }
    assert!((4..=16).contains(&lost), "{lost} of 20");
}

#[test]
fn both_roots_see_the_state_directory() {
    let vfs = SimVfs::new();
    let at = |name: &str| Place { root: RootId::STATE, path: place(name).path };
    assert_eq!(vfs.list(&place("")).unwrap(), [b".surefoot".to_vec().into_boxed_slice()]);
    vfs.mkdir(&at("txn")).unwrap();
    vfs.create(&at("txn/x")).unwrap();
    assert!(vfs.exists(".surefoot/txn/x"));
    assert_eq!(vfs.state_listing(), ["txn", "txn/x"]);
    assert!(vfs.snapshot().paths().is_empty());
    vfs.rename(&at("txn/x"), &place("x"), Rename::NoReplace).unwrap();
    assert_eq!(vfs.snapshot().paths(), ["x"]);
    let none = SimVfs::with(Options { state_directory: false, ..Options::default() });
    assert!(none.list(&at("")).is_err());
    none.mkdir(&place(".surefoot")).unwrap();
    assert!(none.list(&at("")).unwrap().is_empty());
}

#[test]
fn capabilities_can_be_switched_off() {
    let vfs = SimVfs::with(Options {
        exchange: false,
        hard_links: false,
        symlinks: false,
        xattrs: false,
        folds_case: true,
        user: 1000,
        ..Options::default()
    });
    vfs.write_file("Foo", b"1").write_file("b", b"2");
    assert_eq!(rename(&vfs, "foo", "b", Rename::Exchange), Err(Errno::INVAL));
    assert_eq!(vfs.link(&place("b"), &place("c")).map_err(errno), Err(Errno::PERM));
    assert_eq!(vfs.symlink(b"x", &place("c")).map_err(errno), Err(Errno::PERM));
    assert_eq!(vfs.set_xattr(&place("b"), b"user.x", Some(b"1")).map_err(errno), Err(Errno::OPNOTSUPP));
    assert_eq!(vfs.create(&place("FOO")).map_err(errno).unwrap_err(), Errno::EXIST);
    assert_eq!(vfs.set_owner(&place("b"), 0, 0).map_err(errno), Err(Errno::PERM));
    vfs.chown("b", 0, 0);
    assert_eq!(vfs.set_mode(&place("b"), 0o644).map_err(errno), Err(Errno::PERM));
    let told = vfs.capabilities(&place("")).unwrap();
    assert!(!told.exchange && !told.hard_links && !told.symlinks && !told.xattrs && told.atomic_rename);
    assert!(vfs.folds_case(&place("")).unwrap() && vfs.user() == 1000);
}

#[test]
fn locks_exclude_and_end_with_the_holder_or_the_boot() {
    let vfs = SimVfs::new();
    let held = vfs.lock(&place(".surefoot/lock")).unwrap().unwrap();
    assert!(vfs.clone().lock(&place(".surefoot/lock")).unwrap().is_none());
    assert!(vfs.fork().lock(&place(".surefoot/lock")).unwrap().is_some());
    assert!(vfs.reboot_clean().lock(&place(".surefoot/lock")).unwrap().is_some());
    assert_eq!(vfs.mutations(), 1);
    drop(held);
    assert!(vfs.lock(&place(".surefoot/lock")).unwrap().is_some());
    assert_eq!(vfs.mutations(), 1);
}

#[test]
fn every_boot_is_another_session_and_ids_never_repeat() {
    let vfs = SimVfs::new();
    let mut ids = BTreeSet::from([vfs.fresh_id().unwrap(), vfs.fresh_id().unwrap()]);
    let first = vfs.session().unwrap();
    assert_eq!(first, vfs.fork().session().unwrap());
    let second = images(&vfs)[0].mount();
    ids.insert(second.fresh_id().unwrap());
    let third = second.reboot_clean();
    ids.insert(third.fresh_id().unwrap());
    assert_eq!(ids.len(), 4);
    assert!(first != second.session().unwrap() && second.session().unwrap() != third.session().unwrap());
    let other = SimVfs::with(Options { seed: 2, ..Options::default() });
    assert!(!ids.contains(&other.fresh_id().unwrap()));
}

#[test]
fn forks_are_independent_and_clones_are_not() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("a", b"1");
    let file = vfs.open(&place("a"), Access::Write).unwrap();
    vfs.write_at(&file, 0, b"2").unwrap();
    let (fork, clone) = (vfs.fork(), vfs.clone());
    vfs.write_at(&file, 0, b"3").unwrap();
    fork.mkdir(&place("d")).unwrap();
    assert_eq!((fork.read_file("a").unwrap(), clone.read_file("a").unwrap()), (b"2".to_vec(), b"3".to_vec()));
    assert!(!vfs.exists("d"));
    assert_eq!(images(&fork).iter().filter(|image| image.mount().exists("d")).count(), 2);
}

#[test]
fn an_open_file_lives_on_without_a_name_until_the_crash() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("a", b"1234");
    let file = vfs.open(&place("a"), Access::Write).unwrap();
    vfs.remove_file(&place("a")).unwrap();
    vfs.write_at(&file, 4, b"5").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(vfs.read_at(&file, 1, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"2345");
    vfs.sync_all().unwrap();
    assert_eq!(images(&vfs)[0].mount().state().live.inodes, 2);
    drop(file);
    assert_eq!(vfs.state().live.inodes, 2);
}

/// A workload of every kind of call, chosen by the seed; errors are part of it.
fn random_work(vfs: &SimVfs, seed: u64, calls: usize) {
    let mut dice = Dice(seed);
    let paths = ["a", "b", "d", "d/x", "d/y", "e", "e/x", "e/d", ".surefoot/t", "d/z/q", "d/z"];
    let mut any = {
        let mut dice = Dice(seed ^ 1);
        move || place(paths[dice.below(paths.len() as u64) as usize])
    };
    for _ in 0..calls {
        let kind = dice.below(16);
        let number = dice.below(20_000);
        let _ = match kind {
            0..=2 => {
                vfs.create(&any()).and_then(|f| vfs.write_at(&f, number % 600, &vec![kind as u8 + 1; number as usize]))
            }
            3 => vfs.open(&any(), Access::Write).and_then(|f| vfs.write_at(&f, number, b"patch")),
            4 => vfs.open(&any(), Access::Write).and_then(|f| vfs.set_len(&f, number)),
            5 => vfs.open(&any(), Access::Write).and_then(|f| vfs.sync_file(&f)),
            6 | 7 => vfs.mkdir(&any()),
            8 => vfs.rename(&any(), &any(), Rename::Replace),
            9 => vfs.rename(&any(), &any(), Rename::Exchange),
            10 => vfs.rename(&any(), &any(), Rename::NoReplace),
            11 => vfs.link(&any(), &any()),
            12 => vfs.remove_file(&any()),
            13 => vfs.remove_dir(&any()),
            14 => vfs.set_mode(&any(), number as u32),
            _ if number.is_multiple_of(8) => vfs.sync_all(),
            _ => vfs.symlink(b"target", &any()),
        };
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_images() {
    let run = |seed| {
        let vfs = SimVfs::with(Options { seed, trace: true, ..Options::default() });
        vfs.set_faults(Faults::none().fail_sync(1).fail_call(9, Errno::IO, When::After, Repeat::OneShot));
        random_work(&vfs, seed, 60);
        let hashes: Vec<u128> = images(&vfs).iter().map(Image::hash).collect();
        (vfs.trace(), vfs.pending(), hashes)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    assert!(run(7).0.iter().any(|call| call.to_string().contains("rename ")), "{:?}", run(7).0);
}

#[test]
fn every_image_is_sound_in_every_profile() {
    for profile in Profile::ALL {
        for seed in 0..25 {
            let vfs = SimVfs::with(Options { profile, seed, ..Options::default() });
            random_work(&vfs, seed, 60);
            let budget = Budget { pairs_up_to: 8, byte_cuts: 2, ..Budget::default() };
            let mut seen = BTreeSet::new();
            let live = vfs.snapshot();
            let mut all = false;
            let counts = vfs.for_each_crash_image(&budget, &mut |image| {
                let what = format!("{profile:?}, seed {seed}: {}", image.choice());
                assert!(seen.insert(image.hash()), "{what}");
                let after = image.mount();
                let state = after.state().clone();
                assert_eq!(state.live.inodes as usize, state.live.all().count(), "{what}");
                let pages: u64 = state.live.all().filter_map(|(id, _)| Some(state.live.file(id)?.allocated())).sum();
                assert_eq!(state.live.pages, pages, "{what}");
                for (id, inode) in state.live.all() {
                    assert!(inode.names > 0, "inode {id}: {what}");
                    assert!(!matches!(inode.body, Body::Directory(_)) || state.live.is_within(id, ROOT), "{what}");
                }
                all |= image.choice() == Choice::All && live.difference(&after.snapshot()).is_none();
                random_work(&after, seed, 10);
            });
            // Everything is either its own image or the same as nothing, which comes first.
            let only = vfs.reboot_clean().snapshot();
            assert_eq!(only.difference(&live), None, "{profile:?}, seed {seed}");
            assert!(all || counts.distinct == 1, "{profile:?}, seed {seed}: {counts:?}");
            assert_eq!(counts.distinct, seen.len());
            assert!(counts.generated >= counts.distinct);
        }
    }
}

#[test]
fn ordered_profiles_leave_only_what_was_there_at_some_moment() {
    for profile in [Profile::Prefix, Profile::Somc, Profile::SomcStale] {
        for seed in 0..12 {
            let run = |crash| {
                let vfs = SimVfs::with(Options { profile, seed, ..Options::default() });
                vfs.crash_at(crash);
                random_work(&vfs, seed, 40);
                vfs
            };
            let whole = run(u64::MAX);
            let moments: Vec<Snapshot> = (0..=whole.calls()).map(|step| run(step).snapshot()).collect();
            let budget = Budget { torn_writes: 0, pairs_up_to: 0, ..Budget::default() };
            for image in whole.crash_images(&budget).0 {
                let (after, what) = (image.mount().snapshot(), image.choice());
                let known = match profile {
                    Profile::Prefix if !matches!(what, Choice::Random(_)) => moments.contains(&after),
                    _ => moments.iter().any(|moment| moment.paths() == after.paths()),
                };
                assert!(known, "{profile:?}, seed {seed}: {what}: {after:?}");
            }
        }
    }
}

#[test]
fn the_weaker_the_profile_the_more_images() {
    let count = |profile| {
        let vfs = disk(profile);
        vfs.write_file("a", b"old").write_file("b", b"old");
        for name in ["a", "b"] {
            create(&vfs, "t", b"new");
            rename(&vfs, "t", name, Rename::Replace).unwrap();
        }
        vfs.crash_images(&Budget::default()).1
    };
    let (prefix, somc, posix, split) =
        (count(Profile::Prefix), count(Profile::Somc), count(Profile::Posix), count(Profile::Split));
    assert_eq!(prefix.pending, 8);
    assert!(prefix.distinct == 9, "{prefix:?}");
    assert!(prefix.distinct < somc.distinct && somc.distinct < posix.distinct && posix.distinct < split.distinct);
    assert!(split.pending == 10 && posix.generated > 3 * 8 + 8 * 7, "{posix:?}, {split:?}");
    let sample = disk(Profile::Posix);
    random_work(&sample, 3, 40);
    let (few, counts) = sample.crash_images(&Budget::sample(4, 9));
    assert!(counts.generated == 6 && counts.distinct > 2, "{counts:?}");
    assert!(few.iter().all(|image| matches!(image.choice(), Choice::None | Choice::All | Choice::Random(_))));
}

#[test]
fn torn_writes_keep_whole_sectors_unless_bytes_are_asked_for() {
    let vfs = disk(Profile::Posix);
    vfs.write_file("log", vec![0; 16384]);
    let file = vfs.open(&place("log"), Access::Write).unwrap();
    vfs.write_at(&file, 4096, &[9; 8192]).unwrap();
    let mut torn = 0;
    for image in images(&vfs) {
        let bytes = image.mount().read_file("log").unwrap();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        torn += u32::from(bytes[4096..12288].iter().any(|byte| *byte != bytes[4096]));
    }
    assert!(torn >= 8, "{torn}");
    let (all, _) = vfs.crash_images(&Budget { byte_cuts: usize::MAX, ..Budget::default() });
    let cuts: BTreeSet<usize> = all
        .iter()
        .map(|image| image.mount().read_file("log").unwrap())
        .filter_map(|bytes| bytes.iter().position(|byte| *byte == 9).filter(|at| *at == 4096).map(|_| bytes))
        .filter_map(|bytes| bytes[4096..].iter().position(|byte| *byte == 0))
        .collect();
    assert!((1..8192).all(|cut| cuts.contains(&cut)), "{} cuts", cuts.len());
}

#[test]
fn inode_numbers_are_used_again_only_where_nobody_knows_them() {
    let vfs = SimVfs::with(Options { reuse_inodes: true, ..Options::default() });
    vfs.write_file("a", b"1");
    let number = |path: &str| vfs.stat(&place(path)).unwrap().unwrap().inode;
    let old = number("a");
    vfs.remove_file(&place("a")).unwrap();
    vfs.create(&place("b")).unwrap();
    assert_ne!(number("b"), old, "the disk still holds it");
    vfs.sync_all().unwrap();
    vfs.create(&place("c")).unwrap();
    assert_eq!(number("c"), old);
}

#[test]
fn times_follow_the_calls_and_the_step_of_the_disk() {
    let vfs = disk(Profile::Posix);
    let times = |path: &str| vfs.stat(&place(path)).unwrap().map(|stat| (stat.mtime, stat.ctime)).unwrap();
    vfs.write_file("d/f", b"1");
    let (before, file) = (times("d"), times("d/f"));
    vfs.remove_file(&place("d/f")).unwrap();
    assert!(times("d").0 > before.0 && times("d").1 > before.1);
    assert!(times("d").0 > file.0);
    vfs.touch("d", 5);
    assert_eq!(times("d").0, Time { seconds: 5, nanoseconds: 0 });
    vfs.set_options(|options| options.time_step_seconds = 2);
    vfs.set_mtime(&place("d"), Time { seconds: 7, nanoseconds: 9 }).unwrap();
    assert_eq!(times("d").0, Time { seconds: 6, nanoseconds: 0 });
}

#[test]
fn snapshots_tell_what_differs() {
    let make = || {
        let vfs = SimVfs::new();
        vfs.write_file("a", b"1").write_file("d/b", b"2").make_link("a", "d/c").make_symlink("x", "s");
        vfs
    };
    let base = make().snapshot();
    assert_eq!(base, make().snapshot());
    let differs = |change: &dyn for<'a> Fn(&'a SimVfs) -> &'a SimVfs| {
        let vfs = make();
        change(&vfs);
        base.difference(&vfs.snapshot()).unwrap_or_default()
    };
    assert!(differs(&|v| v.write_file("d/b", b"3")).starts_with("d/b: file of 1 bytes \"2\""));
    assert!(differs(&|v| v.chmod("d", 0o700)).contains("d: directory 755 0:0 | directory 700"));
    assert_eq!(differs(&|v| v.chmod("", 0o700)), ".: directory 755 0:0 | directory 700 0:0");
    assert!(differs(&|v| v.chown("s", 3, 0)).starts_with("s: "));
    assert!(differs(&|v| v.attribute("a", "user.x", b"1")).contains("user.x=1"));
    assert!(differs(&|v| v.remove_all("d/c").write_file("d/c", b"1")).contains("same file as a"));
    assert!(differs(&|v| v.remove_all("d")).contains("d/b: file of 1 bytes"));
    assert_eq!(differs(&|v| v.touch("a", 1).write_file(".surefoot/x", b"")), "");
    let vfs = make();
    let times = vfs.snapshot_with_times();
    assert!(times.difference(&vfs.touch("a", 1).snapshot_with_times()).is_some());
}

#[test]
fn blocks_can_be_shared() {
    let vfs = SimVfs::with(Options { reflink: true, ..Options::default() });
    vfs.write_file("a", vec![5; 5000]);
    let from = vfs.open(&place("a"), Access::Write).unwrap();
    let to = vfs.create(&place("b")).unwrap();
    assert!(vfs.reflink(&from, &to).unwrap());
    vfs.write_at(&from, 0, b"x").unwrap();
    assert_eq!(vfs.read_file("b").unwrap(), vec![5; 5000]);
    vfs.set_options(|options| options.reflink = false);
    assert!(!vfs.reflink(&from, &vfs.create(&place("c")).unwrap()).unwrap());
}

#[test]
fn how_fast_it_is() {
    let vfs = SimVfs::new();
    vfs.write_file(".surefoot/journal", vec![0; 256 << 10]);
    for n in 0..40 {
        vfs.write_file(&format!("d{}/f{n}", n % 5), vec![n as u8; 3000]);
    }
    let plan = |vfs: &SimVfs| {
        let journal = vfs.open(&place(".surefoot/journal"), Access::Write).unwrap();
        vfs.mkdir(&place(".surefoot/txn")).unwrap();
        let at = |n| (place(&format!(".surefoot/txn/{n}")), place(&format!("d{}/f{n}", n % 5)));
        for n in 0..10 {
            let file = vfs.create(&at(n).0).unwrap();
            vfs.write_at(&file, 0, &[7; 3000]).unwrap();
            vfs.set_mode(&at(n).0, 0o644).unwrap();
            vfs.set_mtime(&at(n).0, Time::default()).unwrap();
        }
        vfs.sync_all().unwrap();
        vfs.write_at(&journal, 8192, &[1; 4096]).unwrap();
        vfs.sync_file(&journal).unwrap();
        for n in 0..10 {
            vfs.stat(&at(n).0).unwrap();
            vfs.stat(&at(n).1).unwrap();
            vfs.rename(&at(n).0, &at(n).1, Rename::Exchange).unwrap();
        }
        vfs.sync_all().unwrap();
        for n in 0..10 {
            vfs.remove_file(&at(n).0).unwrap();
        }
    };
    let image = vfs.crash_images(&Budget::default()).0.remove(0);
    let rounds = 2000;
    let start = std::time::Instant::now();
    (0..rounds).for_each(|_| plan(&image.mount()));
    let each = start.elapsed() / rounds;
    let start = std::time::Instant::now();
    (0..rounds).for_each(|_| drop(std::hint::black_box(vfs.fork())));
    let fork = start.elapsed() / rounds;
    let staged = vfs.fork();
    staged.set_faults(Faults::none().ignore_sync(0).ignore_sync(1).ignore_sync(2));
    plan(&staged);
    let start = std::time::Instant::now();
    let counts = staged.for_each_crash_image(&Budget::default(), &mut |image| drop(image.mount()));
    let image = start.elapsed() / counts.distinct as u32;
    println!("mount and {} calls {each:?}, fork {fork:?}, image {image:?} of {counts:?}", staged.all_calls());
    assert_eq!(staged.mutations(), 1 + 40 + 1 + 10 + 10);
}

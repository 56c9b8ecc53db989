use super::*;
use crate::model::TreePath;
use crate::vfs::FileType;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// A tree and a state directory on a real disk.
struct Disk {
    vfs: OsVfs,
    root: PathBuf,
    _kept: tempfile::TempDir,
}

/// Runs a test with all the help the kernel gives, without `openat2`, and without `openat2` and `/proc`.
fn in_every_mode(test: impl Fn(&Disk)) {
    for (walks, proc) in [(false, true), (true, true), (true, false)] {
        println!("without openat2: {walks}, with /proc: {proc}");
        test(&disk(walks, proc));
    }
}

fn disk(walks: bool, proc: bool) -> Disk {
    let kept = tempfile::tempdir().unwrap();
    let root = kept.path().join("tree");
    fs::create_dir(&root).unwrap();
    let mut vfs = OsVfs::open_or_create_state(&root, &root.join(".state")).unwrap();
    assert!(vfs.proc, "the tests need /proc");
    vfs.proc = proc;
    if walks {
        vfs.resolver.walk_always();
    }
    Disk { vfs, root, _kept: kept }
}

fn at(path: impl AsRef<[u8]>) -> Place {
    Place::tree(&TreePath::parse(path).unwrap())
}

fn state(path: &str) -> Place {
    Place { root: RootId::STATE, path: TreePath::parse(path).unwrap() }
}

fn is_root_user() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: needs user 0");
    }
    root
}

fn errno<T: fmt::Debug>(answer: Result<T, IoError>) -> Errno {
    Errno::from_io_error(&answer.unwrap_err().source).unwrap()
}

fn read(vfs: &OsVfs, place: &Place) -> Vec<u8> {
    let file = vfs.open(place, Access::Read).unwrap();
    let mut content = vec![0; 100];
    let length = vfs.read_at(&file, 0, &mut content).unwrap();
    content.truncate(length);
    content
}

impl Disk {
    fn file(&self, path: &str, content: &[u8]) {
        fs::write(self.root.join(path), content).unwrap();
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.root.join(path)).unwrap();
    }

    fn read(&self, place: &Place) -> Vec<u8> {
        read(&self.vfs, place)
    }

    fn names(&self, place: &Place) -> Vec<Box<[u8]>> {
        let mut names = self.vfs.list(place).unwrap();
        names.sort();
        names
    }

    fn kind(&self, place: &Place) -> FileType {
        self.vfs.stat(place).unwrap().unwrap().kind
    }
}

#[test]
fn files_are_created_written_read_and_cut() {
    in_every_mode(|disk| {
        disk.directory("a/b");
        let place = at("a/b/file");
        let file = disk.vfs.create(&place).unwrap();
        assert_eq!(errno(disk.vfs.create(&place)), Errno::EXIST);
        disk.vfs.write_at(&file, 3, b"content").unwrap();
        disk.vfs.sync_file(&file).unwrap();
        disk.vfs.sync_all().unwrap();
        assert_eq!(fs::read(disk.root.join("a/b/file")).unwrap(), b"\0\0\0content");

        let again = disk.vfs.open(&place, Access::Write).unwrap();
        disk.vfs.set_len(&again, 5).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(disk.vfs.read_at(&again, 2, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"\0co");
        assert_eq!(disk.vfs.read_at(&again, 5, &mut buffer).unwrap(), 0);
        let for_reading = disk.vfs.open(&place, Access::Read).unwrap();
        assert_eq!(errno(disk.vfs.write_at(&for_reading, 0, b"x")), Errno::BADF);

        let found = disk.vfs.stat(&place).unwrap().unwrap();
        let real = fs::metadata(disk.root.join("a/b/file")).unwrap();
        assert_eq!((found.kind, found.size, found.mode, found.links), (FileType::File, 5, 0o600, 1));
        assert_eq!((found.inode, found.device, found.uid, found.gid), (real.ino(), real.dev(), real.uid(), real.gid()));
        assert_eq!((found.mtime.seconds, i64::from(found.mtime.nanoseconds)), (real.mtime(), real.mtime_nsec()));
        assert_eq!((found.ctime.seconds, i64::from(found.ctime.nanoseconds)), (real.ctime(), real.ctime_nsec()));
        assert!(!found.mount_point && !found.immutable);
    });
}

#[test]
fn an_error_says_what_and_where() {
    in_every_mode(|disk| {
        let error = disk.vfs.open(&at("not/there"), Access::Read).unwrap_err();
        assert_eq!(error.to_string(), "open failed at not/there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = disk.vfs.rename(&at("x"), &state("y"), Rename::Replace).unwrap_err();
        assert_eq!(error.to_string(), "rename failed at x -> state:y");
    });
}

#[test]
fn nothing_stands_where_the_way_ends() {
    in_every_mode(|disk| {
        disk.file("file", b"");
        for path in ["none", "none/below", "file/below", "file/below/deeper"] {
            assert_eq!(disk.vfs.stat(&at(path)).unwrap(), None, "{path}");
        }
        assert_eq!(disk.vfs.list(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.vfs.list(&at("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    });
}

#[test]
fn a_symbolic_link_on_the_way_is_refused_by_every_call() {
    in_every_mode(|disk| {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), b"theirs").unwrap();
        fs::create_dir(outside.path().join("directory")).unwrap();
        symlink(outside.path(), disk.root.join("link")).unwrap();
        disk.directory("real/directory");
        symlink("../real", disk.root.join("real/inner")).unwrap();
        disk.file("mine", b"mine");
        let vfs = &disk.vfs;
        for way in ["link", "real/inner"] {
            let (file, deep) = (at(format!("{way}/file")), at(format!("{way}/directory/new")));
            assert_eq!(vfs.stat(&file).unwrap(), None);
            assert_eq!(vfs.stat(&deep).unwrap(), None);
            assert_eq!(errno(vfs.open(&file, Access::Write)), Errno::LOOP);
            assert_eq!(errno(vfs.create(&deep)), Errno::LOOP);
            assert_eq!(errno(vfs.lock(&deep).map(|_| ())), Errno::LOOP);
            assert_eq!(errno(vfs.mkdir(&deep)), Errno::LOOP);
            assert_eq!(errno(vfs.symlink(b"x", &deep)), Errno::LOOP);
            assert_eq!(errno(vfs.link(&at("mine"), &deep)), Errno::LOOP);
            assert_eq!(errno(vfs.rename(&at("mine"), &deep, Rename::Replace)), Errno::LOOP);
            assert_eq!(errno(vfs.rename(&file, &at("stolen"), Rename::NoReplace)), Errno::LOOP);
            assert_eq!(errno(vfs.remove_file(&file)), Errno::LOOP);
            assert_eq!(errno(vfs.remove_dir(&at(format!("{way}/directory")))), Errno::LOOP);
            assert_eq!(errno(vfs.set_mode(&file, 0o777)), Errno::LOOP);
            assert_eq!(errno(vfs.set_owner(&file, 1, 1)), Errno::LOOP);
            assert_eq!(errno(vfs.set_mtime(&file, Time::default())), Errno::LOOP);
            assert_eq!(errno(vfs.set_xattr(&file, b"user.x", Some(b""))), Errno::LOOP);
            assert_eq!(errno(vfs.xattrs(&file)), Errno::LOOP);
            assert_eq!(errno(vfs.list(&at(format!("{way}/directory")))), Errno::LOOP);
            assert_eq!(errno(vfs.read_link(&file)), Errno::LOOP);
            assert!(vfs.list(&at(way)).is_err());
            assert!(vfs.folds_case(&at(way)).is_err());
            assert!(vfs.capabilities(&at(way)).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"theirs");
    });
}

#[test]
fn a_symbolic_link_itself_is_never_followed() {
    in_every_mode(|disk| {
        disk.file("target", b"content");
        let before = disk.vfs.stat(&at("target")).unwrap();
        disk.vfs.symlink(b"target", &at("link")).unwrap();
        assert_eq!(errno(disk.vfs.symlink(b"x", &at("link"))), Errno::EXIST);
        assert_eq!(&*disk.vfs.read_link(&at("link")).unwrap(), b"target");
        assert_eq!(disk.kind(&at("link")), FileType::Symlink);
        let long = vec![b'x'; limits::LINK_TARGET_BYTES];
        disk.vfs.symlink(&long, &at("long")).unwrap();
        assert_eq!(disk.vfs.read_link(&at("long")).unwrap().len(), long.len());

        for access in [Access::Read, Access::Write] {
            assert_eq!(errno(disk.vfs.open(&at("link"), access)), Errno::LOOP);
        }
        assert_eq!(errno(disk.vfs.create(&at("link"))), Errno::EXIST);
        assert_eq!(errno(disk.vfs.lock(&at("link")).map(|_| ())), Errno::LOOP);
        assert_eq!(errno(disk.vfs.set_mode(&at("link"), 0o777)), Errno::OPNOTSUPP);
        disk.vfs.set_mtime(&at("link"), Time { seconds: 5, nanoseconds: 6 }).unwrap();
        assert_eq!(disk.vfs.stat(&at("link")).unwrap().unwrap().mtime, Time { seconds: 5, nanoseconds: 6 });
        assert!(disk.vfs.set_xattr(&at("link"), b"user.x", Some(b"1")).is_err());
        disk.vfs.set_xattr(&at("target"), b"user.x", Some(b"1")).unwrap();
        assert_eq!(disk.vfs.xattrs(&at("link")).unwrap(), Xattrs::new());
        if is_root_user() {
            disk.vfs.set_owner(&at("link"), 5, 6).unwrap();
            let found = disk.vfs.stat(&at("link")).unwrap().unwrap();
            assert_eq!((found.uid, found.gid), (5, 6));
        }
        // Linking the link makes a second name of the link.
        disk.vfs.link(&at("link"), &at("second")).unwrap();
        assert_eq!(disk.kind(&at("second")), FileType::Symlink);

        let after = disk.vfs.stat(&at("target")).unwrap();
        assert_eq!(after.map(|x| (x.mode, x.uid, x.mtime)), before.map(|x| (x.mode, x.uid, x.mtime)));
    });
}

#[test]
fn no_path_leads_out_of_a_root() {
    for path in ["..", "a/..", "a/../..", "../a", "/etc", "."] {
        assert!(TreePath::parse(path).is_err(), "{path}");
    }
    // What cannot be said would be refused nevertheless.
    let disk = disk(false, true);
    let root = at("");
    let mut spot = disk.vfs.resolver.spot("open", &root).unwrap();
    for name in [&b".."[..], b"../tree", b"/", b"/proc"] {
        spot.name = name;
        assert_eq!(disk.vfs.resolver.open(&spot, OFlags::PATH, Mode::empty()).unwrap_err(), Errno::XDEV);
    }
}

#[test]
fn hard_links_and_removal() {
    in_every_mode(|disk| {
        disk.file("one", b"1");
        disk.directory("d");
        disk.vfs.link(&at("one"), &at("d/two")).unwrap();
        assert_eq!(disk.vfs.stat(&at("one")).unwrap().unwrap().links, 2);
        assert_eq!(errno(disk.vfs.link(&at("one"), &at("d/two"))), Errno::EXIST);
        assert_eq!(errno(disk.vfs.remove_dir(&at("d"))), Errno::NOTEMPTY);
        assert_eq!(errno(disk.vfs.remove_file(&at("d"))), Errno::ISDIR);
        assert_eq!(errno(disk.vfs.remove_dir(&at("one"))), Errno::NOTDIR);
        disk.vfs.remove_file(&at("d/two")).unwrap();
        disk.vfs.remove_dir(&at("d")).unwrap();
        assert_eq!(errno(disk.vfs.remove_file(&at("d/two"))), Errno::NOENT);
        assert_eq!(disk.names(&at("")), [Box::from(*b".state"), Box::from(*b"one")]);
    });
}

#[test]
fn the_three_renames() {
    in_every_mode(|disk| {
        let (one, two) = (at("one"), at("d/two"));
        disk.directory("d");
        disk.file("one", b"1");
        disk.vfs.rename(&one, &two, Rename::NoReplace).unwrap();
        assert_eq!((disk.vfs.stat(&one).unwrap(), disk.read(&two)), (None, b"1".to_vec()));
        disk.file("one", b"new");
        assert_eq!(errno(disk.vfs.rename(&one, &two, Rename::NoReplace)), Errno::EXIST);
        assert_eq!((disk.read(&one), disk.read(&two)), (b"new".to_vec(), b"1".to_vec()));
        disk.vfs.rename(&one, &two, Rename::Exchange).unwrap();
        assert_eq!((disk.read(&one), disk.read(&two)), (b"1".to_vec(), b"new".to_vec()));
        disk.vfs.rename(&one, &two, Rename::Replace).unwrap();
        assert_eq!((disk.vfs.stat(&one).unwrap(), disk.read(&two)), (None, b"1".to_vec()));
        assert_eq!(errno(disk.vfs.rename(&one, &two, Rename::Exchange)), Errno::NOENT);

        // Between the roots, and of different types.
        disk.vfs.mkdir(&state("stage")).unwrap();
        disk.vfs.rename(&two, &state("stage"), Rename::Exchange).unwrap();
        assert_eq!((disk.kind(&two), disk.read(&state("stage"))), (FileType::Directory, b"1".to_vec()));
        disk.vfs.rename(&state("stage"), &at("d/two/three"), Rename::NoReplace).unwrap();
        assert_eq!(disk.read(&at("d/two/three")), b"1");
    });
}

#[test]
fn directories_that_have_moved_are_not_taken_from_memory() {
    in_every_mode(|disk| {
        disk.directory("a/b/c");
        disk.directory("x/b/c");
        disk.file("a/b/c/file", b"a");
        disk.file("x/b/c/file", b"x");
        let file = at("a/b/c/file");
        assert_eq!(disk.read(&file), b"a");
        assert_eq!(disk.read(&at("x/b/c/file")), b"x");
        disk.vfs.rename(&at("a"), &at("x"), Rename::Exchange).unwrap();
        assert_eq!((disk.read(&file), disk.read(&at("x/b/c/file"))), (b"x".to_vec(), b"a".to_vec()));
        disk.vfs.rename(&at("a/b"), &at("b"), Rename::NoReplace).unwrap();
        assert_eq!(disk.vfs.stat(&file).unwrap(), None);
        assert_eq!(disk.read(&at("b/c/file")), b"x");
        disk.vfs.remove_file(&at("b/c/file")).unwrap();
        disk.vfs.remove_dir(&at("b/c")).unwrap();
        disk.vfs.mkdir(&at("b/c")).unwrap();
        drop(disk.vfs.create(&at("b/c/file")).unwrap());
        assert_eq!(fs::read(disk.root.join("b/c/file")).unwrap(), b"");

        // More directories than are remembered, in a changing order.
        for round in 0..3 {
            for n in 0..20 {
                let n = (n * 7 + round) % 20;
                if round == 0 {
                    disk.directory(&format!("many/{n}"));
                    disk.file(&format!("many/{n}/file"), &[n]);
                }
                assert_eq!(disk.read(&at(format!("many/{n}/file"))), [n]);
            }
        }
        // A name that only begins alike is another directory.
        disk.directory("many/1x");
        disk.file("many/1x/file", b"1x");
        assert_eq!(disk.read(&at("many/1x/file")), b"1x");
        disk.vfs.rename(&at("many/1"), &at("gone"), Rename::NoReplace).unwrap();
        assert_eq!(disk.read(&at("many/1x/file")), b"1x");
        assert_eq!(disk.vfs.stat(&at("many/1/file")).unwrap(), None);
    });
}

#[test]
fn changes_by_others_are_seen_by_the_next_piece_of_work() {
    in_every_mode(|disk| {
        disk.directory("d");
        disk.file("d/file", b"old");
        for locks in [true, false] {
            assert!(disk.vfs.stat(&at("d/file")).unwrap().is_some());
            fs::remove_dir_all(disk.root.join("d")).unwrap();
            disk.directory("d");
            disk.file("d/file", b"new");
            if locks {
                drop(disk.vfs.lock(&state("lock")).unwrap());
            } else {
                disk.names(&at(""));
            }
            assert_eq!(disk.read(&at("d/file")), b"new");
        }
    });
}

#[test]
fn many_threads_share_one_disk() {
    in_every_mode(|disk| {
        for n in 0..30 {
            disk.directory(&format!("{n}"));
            disk.file(&format!("{n}/file"), &[n]);
        }
        std::thread::scope(|scope| {
            for start in 0..4 {
                scope.spawn(move || {
                    for step in 0..300 {
                        let n = u8::try_from((start * 11 + step * 7) % 30).unwrap();
                        assert_eq!(disk.read(&at(format!("{n}/file"))), [n]);
                    }
                });
            }
            scope.spawn(|| {
                disk.vfs.mkdir(&at("moving")).unwrap();
                for _ in 0..100 {
                    disk.vfs.rename(&at("moving"), &at("moved"), Rename::NoReplace).unwrap();
                    assert_eq!(disk.vfs.stat(&at("moving/file")).unwrap(), None);
                    disk.vfs.rename(&at("moved"), &at("moving"), Rename::NoReplace).unwrap();
                }
            });
        });
    });
}

#[test]
fn the_root_itself() {
    in_every_mode(|disk| {
        let root = at("");
        disk.file("file", b"");
        disk.vfs.set_mode(&root, 0o750).unwrap();
        disk.vfs.set_mtime(&root, Time { seconds: -1, nanoseconds: 999_999_999 }).unwrap();
        disk.vfs.set_xattr(&root, b"user.note", Some(b"root")).unwrap();
        assert_eq!(disk.vfs.xattrs(&root).unwrap(), [(Box::from(*b"user.note"), Box::from(*b"root"))]);
        let found = disk.vfs.stat(&root).unwrap().unwrap();
        assert_eq!((found.kind, found.mode, found.mount_point), (FileType::Directory, 0o750, false));
        assert_eq!(found.mtime, Time { seconds: -1, nanoseconds: 999_999_999 });
        if is_root_user() {
            disk.vfs.set_owner(&root, 12, 34).unwrap();
            let found = disk.vfs.stat(&root).unwrap().unwrap();
            assert_eq!((found.uid, found.gid), (12, 34));
        }
        assert_eq!(disk.names(&root), [Box::from(*b".state"), Box::from(*b"file")]);
        assert!(disk.vfs.remove_dir(&root).is_err());
        assert!(disk.vfs.rename(&root, &at("x"), Rename::Replace).is_err());
        assert!(disk.vfs.create(&root).is_err() && disk.vfs.mkdir(&root).is_err());
        assert!(!disk.vfs.folds_case(&root).unwrap());
    });
}

#[test]
fn modes_of_files_that_nobody_may_read() {
    in_every_mode(|disk| {
        disk.file("file", b"secret");
        disk.vfs.mkdir(&at("directory")).unwrap();
        assert_eq!(disk.vfs.stat(&at("directory")).unwrap().unwrap().mode, 0o700);
        for place in [at("file"), at("directory")] {
            for mode in [0o000, 0o1751, 0o4755, 0o2711, 0o644] {
                let answer = disk.vfs.set_mode(&place, mode);
                if !disk.vfs.proc && rustix::process::geteuid().as_raw() != 0 && answer.is_err() {
                    println!("SKIPPED: without /proc only user 0 changes a file that it cannot read");
                    return;
                }
                answer.unwrap();
                assert_eq!(disk.vfs.stat(&place).unwrap().unwrap().mode, mode);
            }
        }
    });
}

#[test]
fn owners_take_the_special_bits_with_them() {
    if !is_root_user() {
        return;
    }
    in_every_mode(|disk| {
        disk.file("file", b"");
        disk.vfs.set_mode(&at("file"), 0o6755).unwrap();
        disk.vfs.set_owner(&at("file"), 1000, 1001).unwrap();
        let found = disk.vfs.stat(&at("file")).unwrap().unwrap();
        assert_eq!((found.uid, found.gid, found.mode), (1000, 1001, 0o755));
        disk.vfs.set_mode(&at("file"), 0o6755).unwrap();
        assert_eq!(disk.vfs.stat(&at("file")).unwrap().unwrap().mode, 0o6755);
        assert_eq!(errno(disk.vfs.set_owner(&at("file"), u32::MAX, 0)), Errno::INVAL);
        assert_eq!(errno(disk.vfs.set_owner(&at("file"), 0, u32::MAX)), Errno::INVAL);
    });
}

#[test]
fn times_are_kept_to_the_nanosecond_and_the_last_access_stays() {
    in_every_mode(|disk| {
        disk.file("file", b"");
        let before = fs::metadata(disk.root.join("file")).unwrap();
        for mtime in [Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 }, Time { seconds: -10, nanoseconds: 1 }]
        {
            disk.vfs.set_mtime(&at("file"), mtime).unwrap();
            assert_eq!(disk.vfs.stat(&at("file")).unwrap().unwrap().mtime, mtime);
        }
        let after = fs::metadata(disk.root.join("file")).unwrap();
        assert_eq!((after.atime(), after.atime_nsec()), (before.atime(), before.atime_nsec()));
        // "Now" and "leave it" for the kernel.
        for nanoseconds in [1_000_000_000, 0x3fff_ffff, 0x3fff_fffe] {
            assert_eq!(errno(disk.vfs.set_mtime(&at("file"), Time { seconds: 0, nanoseconds })), Errno::INVAL);
        }
    });
}

#[test]
fn attributes_are_set_listed_in_order_and_removed() {
    in_every_mode(|disk| {
        disk.directory("d");
        for path in ["file", "d/file"] {
            let place = at(path);
            disk.file(path, b"");
            assert_eq!(disk.vfs.xattrs(&place).unwrap(), Xattrs::new());
            disk.vfs.set_xattr(&place, b"user.none", None).unwrap();
            let mut expected = Xattrs::new();
            for n in 0..6_u8 {
                // Names long enough that the list outgrows the first buffer.
                let name = format!("user.{}{}", 9 - n, "n".repeat(190)).into_bytes();
                let value = vec![n; usize::from(n) * 30];
                disk.vfs.set_xattr(&place, &name, Some(&value)).unwrap();
                expected.insert(0, (name.into(), value.into()));
            }
            assert_eq!(disk.vfs.xattrs(&place).unwrap(), expected);
            disk.vfs.set_xattr(&place, &expected[0].0, Some(b"other")).unwrap();
            expected[0].1 = Box::from(*b"other");
            for (name, _) in expected.drain(2..) {
                disk.vfs.set_xattr(&place, &name, None).unwrap();
                disk.vfs.set_xattr(&place, &name, None).unwrap();
            }
            assert_eq!(disk.vfs.xattrs(&place).unwrap(), expected);
        }
        for name in ["trusted.overlay.opaque", "security.selinux", "security.ima", "system.nfs4_acl", "users"] {
            let refused = disk.vfs.set_xattr(&at("file"), name.as_bytes(), Some(b"x"));
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(errno(disk.vfs.xattrs(&at("none"))), Errno::NOENT);
    });
}

/// An access control list: its version, then tag, permissions and identity of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, identity) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&identity.to_le_bytes());
    }
    bytes
}

#[test]
fn access_control_lists_and_capabilities_come_back() {
    if !is_root_user() {
        return;
    }
    in_every_mode(|disk| {
        disk.file("file", b"");
        disk.directory("d");
        let any = u32::MAX;
        let list = acl(&[(1, 7, any), (2, 5, 1000), (4, 5, any), (0x10, 5, any), (0x20, 0, any)]);
        let capability = [&0x0200_0000_u32.to_le_bytes()[..], &[0, 4, 0, 0], &[0; 12]].concat();
        if errno_of(disk.vfs.set_xattr(&at("d"), b"system.posix_acl_default", Some(&list))) == Some(Errno::OPNOTSUPP) {
            println!("SKIPPED: the file system has no access control lists");
            return;
        }
        disk.vfs.set_xattr(&at("file"), b"system.posix_acl_access", Some(&list)).unwrap();
        disk.vfs.set_xattr(&at("file"), b"security.capability", Some(&capability)).unwrap();
        let expected: Xattrs = vec![
            (Box::from(*b"security.capability"), capability.into()),
            (Box::from(*b"system.posix_acl_access"), list.clone().into()),
        ];
        assert_eq!(disk.vfs.xattrs(&at("file")).unwrap(), expected);
        assert_eq!(disk.vfs.xattrs(&at("d")).unwrap(), [(Box::from(*b"system.posix_acl_default"), list.into())]);
        disk.vfs.set_owner(&at("file"), 0, 0).unwrap();
        assert_eq!(disk.vfs.xattrs(&at("file")).unwrap(), expected[1..]);
        disk.vfs.set_xattr(&at("file"), b"system.posix_acl_access", None).unwrap();
        assert_eq!(disk.vfs.xattrs(&at("file")).unwrap(), Xattrs::new());

        // A state directory does not take over what its parent hands down.
        let list = disk.vfs.xattrs(&at("d")).unwrap()[0].1.clone();
        disk.vfs.set_mode(&at("d"), 0o2755).unwrap();
        let inner = OsVfs::open_or_create_state(&disk.root, &disk.root.join("d/state")).unwrap();
        assert!(!list.is_empty());
        assert_eq!(inner.xattrs(&state("")).unwrap(), Xattrs::new());
        assert_eq!(inner.stat(&state("")).unwrap().unwrap().mode, 0o700);
    });
}

fn errno_of(answer: Result<(), IoError>) -> Option<Errno> {
    answer.err().and_then(|error| Errno::from_io_error(&error.source))
}

#[test]
fn special_files_are_seen_and_not_opened() {
    in_every_mode(|disk| {
        assert!(Command::new("mkfifo").arg(disk.root.join("pipe")).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(disk.root.join("socket")).unwrap();
        for name in ["pipe", "socket"] {
            assert_eq!(disk.kind(&at(name)), FileType::Other);
            assert!(disk.vfs.open(&at(name), Access::Read).is_err());
            assert!(disk.vfs.open(&at(name), Access::Write).is_err());
            assert_eq!(disk.vfs.xattrs(&at(name)).unwrap(), Xattrs::new());
        }
        let pipe = disk.vfs.open(&at("pipe"), Access::Read).unwrap_err();
        assert_eq!(pipe.kind(), io::ErrorKind::InvalidInput);
        let directory = disk.vfs.open(&at(".state"), Access::Read).unwrap_err();
        assert_eq!(directory.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_large_directory_is_listed_completely() {
    in_every_mode(|disk| {
        disk.directory("d");
        let mut expected = Vec::new();
        for n in 0..3000 {
            let name = format!("{n}-{}", "x".repeat(n % 100));
            disk.file(&format!("d/{name}"), b"");
            expected.push(Box::from(name.as_bytes()));
        }
        expected.push(Box::from(*b"\xff\n\\"));
        drop(disk.vfs.create(&at(b"d/\xff\n\\")).unwrap());
        expected.sort();
        assert_eq!(disk.names(&at("d")), expected);
    });
}

#[test]
fn a_lock_is_held_once() {
    in_every_mode(|disk| {
        let place = state("lock");
        let held = disk.vfs.lock(&place).unwrap();
        assert!(held.is_some());
        let other = OsVfs::open(&disk.root, &disk.root.join(".state")).unwrap();
        assert!(other.lock(&place).unwrap().is_none());
        assert!(disk.vfs.lock(&place).unwrap().is_none());
        drop(held);
        let held = other.lock(&place).unwrap();
        assert!(held.is_some() && disk.vfs.lock(&place).unwrap().is_none());
    });
}

/// A child that another thread starts has a copy of each descriptor until it runs its program. A tree whose lock had just
/// been given back was "locked" for that long.
#[test]
fn a_lock_is_given_back_whoever_else_has_a_copy_of_its_descriptor() {
    in_every_mode(|disk| {
        let place = state("lock");
        let held = disk.vfs.lock(&place).unwrap().unwrap();
        let copy = held.held.try_clone().unwrap();
        assert!(disk.vfs.lock(&place).unwrap().is_none());
        drop(held);
        assert!(disk.vfs.lock(&place).unwrap().is_some());
        drop(copy);
    });
}

#[test]
fn a_probe_leaves_nothing_behind() {
    in_every_mode(|disk| {
        disk.directory("d/probe-crashed");
        disk.file("d/probe-file", b"left over");
        disk.file("d/kept", b"");
        let found = disk.vfs.capabilities(&at("d")).unwrap();
        assert_eq!(disk.names(&at("d")), [Box::from(*b"kept")]);
        assert_eq!(disk.vfs.capabilities(&state("")).unwrap(), found);
        assert_eq!(disk.vfs.list(&state("")).unwrap().len(), 0);
        let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(&disk.root).output().unwrap();
        let kind = String::from_utf8(kind.stdout).unwrap();
        if ["ext2/ext3", "xfs", "btrfs"].contains(&kind.trim()) {
            assert!(found.exchange && found.hard_links && found.symlinks && found.xattrs && found.atomic_rename);
        } else {
            println!("SKIPPED: nothing is known beforehand about {kind}");
        }
        // A name that is taken and cannot be freed is an error.
        disk.directory("d/probe-link/full");
        assert_eq!(errno(disk.vfs.capabilities(&at("d"))), Errno::NOTEMPTY);
        assert_eq!(disk.names(&at("d")), [Box::from(*b"kept"), Box::from(*b"probe-link")]);
    });
}

#[test]
fn clones_share_or_say_that_they_cannot() {
    in_every_mode(|disk| {
        disk.file("from", b"content");
        let from = disk.vfs.open(&at("from"), Access::Read).unwrap();
        let to = disk.vfs.create(&at("to")).unwrap();
        let shared = disk.vfs.reflink(&from, &to).unwrap();
        assert_eq!(disk.read(&at("to")), if shared { &b"content"[..] } else { b"" });
    });
}

#[test]
fn what_is_free_and_who_and_when() {
    in_every_mode(|disk| {
        for root in [RootId::TREE, RootId::STATE] {
            let space = disk.vfs.space(root).unwrap();
            assert!(space.block.is_power_of_two() && space.free_bytes > 0);
            assert_ne!(space.free_inodes, Some(0));
        }
        assert!(disk.vfs.now().seconds > 1_700_000_000 && disk.vfs.now().nanoseconds < 1_000_000_000);
        assert_ne!(disk.vfs.fresh_id().unwrap(), disk.vfs.fresh_id().unwrap());
        assert_eq!(disk.vfs.user(), rustix::process::geteuid().as_raw());
        let groups = rustix::process::getgroups().unwrap();
        let strange = (1..)
            .map(rustix::process::Gid::from_raw)
            .find(|gid| !groups.contains(gid) && *gid != rustix::process::getegid());
        assert!(disk.vfs.is_member(rustix::process::getegid().as_raw()));
        assert!(
            groups.iter().all(|gid| disk.vfs.is_member(gid.as_raw())) && !disk.vfs.is_member(strange.unwrap().as_raw())
        );
        assert!(disk.vfs.threads() >= 1);
        let session = disk.vfs.session().unwrap();
        assert_ne!(session, Session::default());
        assert_eq!(OsVfs::open_tree(&disk.root).unwrap().session().unwrap(), session);
        assert!(disk.vfs.same_file_system().unwrap());
    });
}

#[test]
fn a_root_that_is_not_open_is_an_error() {
    let disk = disk(false, true);
    let vfs = OsVfs::open_tree(&disk.root).unwrap();
    assert!(vfs.stat(&at("")).unwrap().is_some());
    assert_eq!(vfs.stat(&state("")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(vfs.create(&state("x")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(vfs.space(RootId::STATE).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let missing = OsVfs::open(&disk.root, &disk.root.join("none")).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    disk.file("file", b"");
    assert_eq!(errno(OsVfs::open_tree(&disk.root.join("file"))), Errno::NOTDIR);
    assert_eq!(fs::metadata(disk.root.join(".state")).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn other_mounted_file_systems_are_not_entered() {
    let unshare: &[&str] = if rustix::process::geteuid().is_root() { &["-m"] } else { &["-r", "-m"] };
    let possible = Command::new("unshare").args(unshare).arg("true").output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no mounts of our own here: {possible:?}");
        return;
    }
    let inner = "vfs::os::tests::in_a_mount_namespace_of_its_own";
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", inner, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"));
}

#[test]
#[ignore = "mounts: run by other_mounted_file_systems_are_not_entered, where nobody else sees it"]
fn in_a_mount_namespace_of_its_own() {
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let parent = fs::read_to_string("/proc/self/stat").unwrap();
    let parent = parent.rsplit(')').next().unwrap().split(' ').nth(2).unwrap();
    if fs::read_link(format!("/proc/{parent}/ns/mnt")).is_ok_and(|parents| parents == own) {
        println!("SKIPPED: started by hand, the mounts would be everybody's");
        return;
    }
    in_every_mode(|disk| {
        disk.directory("mounted/inside");
        disk.directory("bound");
        disk.directory("plain/below");
        disk.file("plain/below/file", b"plain");
        disk.file("file", b"");
        if !mount(&["-t", "tmpfs", "none"], &disk.root.join("mounted"))
            || !mount(&["--bind", &disk.root.join("plain").to_string_lossy()], &disk.root.join("bound"))
            || !mount(&["--bind", "/proc/version"], &disk.root.join("file"))
        {
            println!("SKIPPED: mount is not allowed");
            return;
        }
        fs::create_dir(disk.root.join("mounted/inside")).unwrap();
        fs::write(disk.root.join("mounted/file"), b"theirs").unwrap();
        for name in ["mounted", "bound", "file"] {
            assert!(disk.vfs.stat(&at(name)).unwrap().unwrap().mount_point, "{name}");
        }
        assert!(!disk.vfs.stat(&at("plain")).unwrap().unwrap().mount_point);
        for path in ["mounted/file", "mounted/inside", "mounted/none", "mounted/inside/none", "bound/below/file"] {
            assert_eq!(errno(disk.vfs.stat(&at(path))), Errno::XDEV, "{path}");
        }
        assert_eq!(errno(disk.vfs.open(&at("mounted/file"), Access::Read)), Errno::XDEV);
        assert_eq!(errno(disk.vfs.open(&at("file"), Access::Read)), Errno::XDEV);
        assert_eq!(errno(disk.vfs.create(&at("mounted/new"))), Errno::XDEV);
        assert_eq!(errno(disk.vfs.list(&at("mounted"))), Errno::XDEV);
        assert_eq!(errno(disk.vfs.list(&at("bound"))), Errno::XDEV);
        assert_eq!(errno(disk.vfs.set_mode(&at("mounted"), 0o700)), Errno::XDEV);
        assert!(disk.vfs.remove_dir(&at("bound")).is_err());
        // The root may be a mount point.
        let (tree, state) = (disk.root.join("mounted"), disk.root.join("plain"));
        let root = OsVfs::open_tree(&tree).unwrap();
        assert!(!root.stat(&at("")).unwrap().unwrap().mount_point);
        assert_eq!(read(&root, &at("file")), b"theirs");
        assert!(!OsVfs::open(&tree, &state).unwrap().same_file_system().unwrap());
        // Another mount of the same file system is another one too: no rename crosses it.
        assert!(!OsVfs::open(&disk.root, &disk.root.join("bound")).unwrap().same_file_system().unwrap());
        assert!(root.session().unwrap() != disk.vfs.session().unwrap());
        let memory = root.capabilities(&at("")).unwrap();
        assert!(memory.exchange && memory.hard_links && memory.atomic_rename);

        let image = disk.root.join("image");
        fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
        disk.directory("ext2");
        let made = Command::new("mkfs.ext2").arg("-q").arg(&image).output();
        if !made.is_ok_and(|output| output.status.success())
            || !mount(&["-t", "ext2", "-o", "loop", &image.to_string_lossy()], &disk.root.join("ext2"))
        {
            println!("SKIPPED: no ext2 here");
            return;
        }
        let found = OsVfs::open_tree(&disk.root.join("ext2")).unwrap().capabilities(&at("")).unwrap();
        assert!(!found.atomic_rename && found.hard_links);
    });
}

fn mount(how: &[&str], target: &Path) -> bool {
    let output = Command::new("mount").args(how).arg(target).output().unwrap();
    println!("mount {how:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

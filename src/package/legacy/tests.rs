//! Packages by our writer, by GNU tar, and by people who mean harm.

use super::*;
use crate::model::{DeleteOperations, Operations, PatchOperations, ReplaceOperations};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use tar::{EntryType, Header};

const LIMIT: u64 = 64 << 20;

/// What a test read: path, and type with content and mode.
type Tree = BTreeMap<String, String>;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn operations(files: &[&str], directories: &[&str]) -> Operations {
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let replace = ReplaceOperations { files: own(files), directories: own(directories) };
    PatchOperations { replace, delete: DeleteOperations::default() }.validate().unwrap()
}

fn read_limited(package: &[u8], operations: &Operations, limit: u64) -> Result<Tree, LegacyError> {
    let mut tree = Tree::new();
    read_members(package, operations, limit, &mut |member: Member<'_>| {
        let shown = match member.kind {
            MemberKind::Directory => format!("dir {:o}", member.mode),
            MemberKind::Symlink { target } => format!("-> {}", target.escape_ascii()),
            MemberKind::File { size, content } => {
                let mut bytes = Vec::new();
                let result = content.read_to_end(&mut bytes);
                let source = |source| LegacyError::Content { path: member.path.clone(), source };
                result.map_err(source)?;
                assert_eq!(bytes.len() as u64, size, "a file is handed over whole or fails");
                format!("file {:o} {}", member.mode, bytes.escape_ascii())
            }
        };
        assert!(tree.insert(member.path.to_string(), shown).is_none(), "{} is handed over twice", member.path);
        Ok::<_, LegacyError>(())
    })?;
    Ok(tree)
}

fn read(package: &[u8], operations: &Operations) -> Result<Tree, LegacyError> {
    read_limited(package, operations, LIMIT)
}

fn tree(entries: &[(&str, &str)]) -> Tree {
    entries.iter().map(|(path, shown)| (path.to_string(), shown.to_string())).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// One member as raw bytes of an archive, with any name at all.
fn raw(kind: u8, name: &str, target: &str, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    gzip(&[members.concat(), vec![0; 2 * BLOCK]].concat())
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let record = |length: usize| format!("{length} {key}={value}\n");
    let mut length = 0;
    while record(length).len() != length {
        length = record(length).len();
    }
    raw(b'x', "PaxHeaders/x", "", record(length).as_bytes())
}

/// A package of everything that there is: files, nested and empty directories, links, long names.
fn sample() -> (Operations, Vec<u8>, Tree) {
    let long = format!("{}/{}", "long".repeat(30), "name".repeat(40));
    let target = "up/".repeat(50);
    let operations = operations(&["app.jar", &long], &["front/"]);
    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    writer.file(&path("app.jar"), 0o100_4755, 7, &mut &b"content"[..]).unwrap();
    writer.directory(&path("front"), 0o750).unwrap();
    writer.directory(&path("front/empty"), 0o2700).unwrap();
    writer.file(&path("front/index"), 0o644, 1500, &mut &[b'x'; 1500][..]).unwrap();
    writer.symlink(&path("front/link"), target.as_bytes()).unwrap();
    writer.symlink(&path("front/out"), b"../../etc//./passwd").unwrap();
    writer.file(&path(&long), 0o600, 0, &mut &b""[..]).unwrap();
    let expected = tree(&[
        ("app.jar", "file 755 content"),
        ("front", "dir 750"),
        ("front/empty", "dir 700"),
        ("front/index", &format!("file 644 {}", "x".repeat(1500))),
        ("front/link", &format!("-> {target}")),
        ("front/out", "-> ../../etc//./passwd"),
        (&long, "file 600 "),
    ]);
    let package = writer.finish().unwrap();
    (operations, package, expected)
}

#[test]
fn what_is_written_reads_back_and_is_reproducible() {
    let (operations, package, expected) = sample();
    assert_eq!(read(&package, &operations).unwrap(), expected);
    assert_eq!(sample().1, package);
    assert_eq!(&package[4..8], [0; 4], "no time in the gzip header");
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let operations = operations(&["a", "z"], &["d"]);
    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    let empty = &mut &b""[..];
    assert!(matches!(writer.directory(&path("a"), 0o755), Err(LegacyError::WrongType { .. })));
    assert!(matches!(writer.file(&path("b"), 0o644, 0, empty), Err(LegacyError::Unlisted(_))));
    assert!(matches!(writer.symlink(&path("d"), b"x"), Err(LegacyError::WrongType { .. })));
    assert!(matches!(writer.symlink(&path("d/l"), b""), Err(LegacyError::Target(_))));
    writer.directory(&path("d"), 0o755).unwrap();
    assert!(matches!(writer.directory(&path("d"), 0o755), Err(LegacyError::Order(_))));
    assert!(matches!(writer.file(&path("a"), 0o644, 0, empty), Err(LegacyError::Order(_))));
    assert!(matches!(writer.finish(), Err(LegacyError::Missing(missing)) if missing == path("a")));
    for (said, content) in [(3, "four"), (5, "four"), (0, "four")] {
        let mut writer = LegacyWriter::new(Vec::new(), &operations);
        let error = writer.file(&path("a"), 0o644, said, &mut content.as_bytes()).unwrap_err();
        assert!(matches!(error, LegacyError::Size { expected, .. } if expected == said), "{error}");
    }
}

#[test]
fn the_structure_must_be_what_the_operations_list() {
    let listed = operations(&["a", "etc/b"], &["d"]);
    let file = |name: &str| raw(b'0', name, "", b"x");
    let directory = |name: &str| raw(b'5', name, "", b"");
    let link = |name: &str, target: &str| raw(b'2', name, target, b"");
    let good = [file("a"), file("etc/b"), directory("d/")];
    assert_eq!(read(&archive(&good), &listed).unwrap().len(), 3);
    let with = |more: &[Vec<u8>]| read(&archive(&[&good[..], more].concat()), &listed);
    let cases: [(&str, Vec<Vec<u8>>); 22] = [
        ("outside of the tree", vec![file("../x")]),
        ("outside of the tree", vec![file("d/../../x")]),
        ("outside of the tree", vec![file("/etc/passwd")]),
        ("outside of the tree", vec![file("d//x")]),
        ("outside of the tree", vec![file("d/x/")]),
        ("a hard link", vec![raw(b'1', "d/x", "a", b"")]),
        ("a device", vec![raw(b'3', "d/x", "", b"")]),
        ("a device", vec![raw(b'4', "d/x", "", b"")]),
        ("a pipe", vec![raw(b'6', "d/x", "", b"")]),
        ("a sparse file", vec![raw(b'S', "d/x", "", b"")]),
        ("something unknown", vec![raw(b'M', "d/x", "", b"")]),
        ("holds a twice", vec![file("a")]),
        ("holds a twice", vec![file("./a")]),
        ("holds d twice", vec![directory("d")]),
        ("holds d/x twice", vec![file("d/x"), link("d/x", "y")]),
        ("d/l not as a directory", vec![link("d/l", "/etc"), file("d/l/passwd")]),
        ("d/l not as a directory", vec![file("d/l/passwd"), link("d/l", "/etc")]),
        ("d/f not as a directory", vec![file("d/f"), directory("d/f/sub")]),
        ("do not list", vec![file("c")]),
        ("do not list", vec![directory("logs/")]),
        ("do not list", vec![link("lib", "/usr/lib")]),
        ("target of the link d/l", vec![link("d/l", "")]),
    ];
    for (word, more) in cases {
        let error = with(&more).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let alone = |members: &[Vec<u8>]| read(&archive(members), &listed).unwrap_err().to_string();
    assert!(alone(&[]).contains("lacks a"));
    assert!(alone(&good[..2]).contains("lacks d"));
    assert!(alone(&[file("a"), directory("d")]).contains("lacks etc/b"));
    assert!(alone(&[directory("a")]).contains("a not as a file"));
    assert!(alone(&[link("a", "x")]).contains("a not as a file"));
    assert!(alone(&[file("d")]).contains("d not as a directory"));
    assert!(alone(&[link("d", "/etc"), file("d/x")]).contains("d not as a directory"));
    assert!(alone(&[link("etc", "/etc"), file("etc/b")]).contains("etc not as a directory"));
    assert!(alone(&[raw(b'5', "d", "", b"content")]).contains("is no file"));
}

#[test]
fn what_is_listed_inside_a_listed_directory_must_be_there_too() {
    let listed = operations(&["d/a"], &["d", "d/sub"]);
    let sub = raw(b'5', "d/sub", "", b"");
    assert!(read(&archive(&[raw(b'0', "d/a", "", b""), sub.clone()]), &listed).is_ok());
    let error = read(&archive(std::slice::from_ref(&sub)), &listed).unwrap_err();
    assert!(matches!(error, LegacyError::Missing(missing) if missing == path("d/a")));
    let error = read(&archive(&[raw(b'2', "d/a", "x", b""), sub]), &listed).unwrap_err();
    assert!(matches!(error, LegacyError::WrongType { .. }), "{error}");
}

#[test]
fn directories_on_the_way_are_passed_over_and_implied_ones_come_last() {
    let listed = operations(&["etc/app/b"], &["x/d"]);
    let directory = |name: &str| raw(b'5', name, "", b"");
    let file = |name: &str| raw(b'0', name, "", b"");
    let members = [
        directory("./"),
        directory("etc/"),
        directory("./etc/"),
        file("etc/app/b"),
        file("x/d/e/f"),
        directory("x/d/z"),
    ];
    let expected = tree(&[
        ("etc/app/b", "file 644 "),
        ("x/d", "dir 755"),
        ("x/d/e", "dir 755"),
        ("x/d/e/f", "file 644 "),
        ("x/d/z", "dir 644"),
    ]);
    assert_eq!(read(&archive(&members), &listed).unwrap(), expected);
    // A directory may come after what is inside it, and then once.
    let late = [file("etc/app/b"), file("x/d/f"), directory("x/d")];
    assert_eq!(read(&archive(&late), &listed).unwrap()["x/d"], "dir 644");
    assert!(read(&archive(&[&late[..], &[directory("x/d")]].concat()), &listed).is_err());
}

#[test]
fn long_names_of_both_kinds_are_read_and_strange_headers_refused() {
    let long = format!("d/{}", "n".repeat(200));
    let listed = operations(&[], &["d"]);
    let file = raw(b'0', "short", "", b"x");
    let link = raw(b'2', "d/l", "short", b"");
    let expected = tree(&[("d", "dir 755"), (&long, "file 644 x")]);
    let gnu = raw(b'L', "././@LongLink", "", format!("{long}\0").as_bytes());
    assert_eq!(read(&archive(&[gnu.clone(), file.clone()]), &listed).unwrap(), expected);
    let named = pax("path", &long);
    let global = raw(b'g', "pax_global_header", "", b"20 comment=whatever\n");
    let time = pax("mtime", "1.5");
    assert_eq!(read(&archive(&[global, named.clone(), file.clone()]), &listed).unwrap(), expected);
    assert_eq!(read(&archive(&[gnu.clone(), time, file.clone()]), &listed).unwrap(), expected);
    let linked = read(&archive(&[pax("linkpath", "far away"), link]), &listed).unwrap();
    assert_eq!(linked["d/l"], "-> far away");
    let mut short = file.clone();
    short[124..135].copy_from_slice(b"00000000000");
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(&short[..BLOCK]);
    header.set_cksum();
    short[..BLOCK].copy_from_slice(header.as_bytes());
    let sized = [gnu.clone(), pax("size", "1"), short];
    assert_eq!(read(&archive(&sized), &listed).unwrap(), expected, "the extended header has the last word on a size");
    for (what, members) in [
        ("escape by GNU name", vec![raw(b'L', "", "", b"../../x\0"), file.clone()]),
        ("escape by pax name", vec![pax("path", "d/../../x"), file.clone()]),
        ("absolute pax name", vec![pax("path", "/etc/passwd"), file.clone()]),
        ("NUL inside a name", vec![raw(b'L', "", "", b"d/a\0b\0"), file.clone()]),
        ("empty name", vec![raw(b'L', "", "", b"\0"), file.clone()]),
        ("two names", vec![gnu.clone(), gnu.clone(), file.clone()]),
        ("two names of two kinds", vec![gnu.clone(), named, file.clone()]),
        ("no member follows", vec![raw(b'5', "d", "", b""), gnu]),
        ("sparse", vec![pax("GNU.sparse.major", "1"), file.clone()]),
        ("global name", vec![raw(b'g', "", "", b"12 path=d/x\n"), file.clone()]),
        ("malformed record", vec![raw(b'x', "", "", b"99 path=d/x\n"), file.clone()]),
        ("record without end", vec![raw(b'x', "", "", b"11 path=d/x"), file.clone()]),
        ("record without sign", vec![raw(b'x', "", "", b"0"), file.clone()]),
        ("record of nothing", vec![raw(b'x', "", "", b"2 "), file.clone()]),
        ("size of a bomb", vec![pax("size", "18446744073709551615"), file.clone()]),
        ("long header", vec![raw(b'L', "", "", &vec![b'n'; limits::LEGACY_HEADER_BYTES as usize + 1]), file]),
    ] {
        assert!(read(&archive(&members), &listed).is_err(), "{what}");
    }
}

#[test]
fn what_is_unpacked_is_bounded() {
    let listed = operations(&["a"], &["d"]);
    let bomb = archive(&[raw(b'0', "a", "", &vec![0; 8 << 20]), raw(b'5', "d", "", b"")]);
    assert!(bomb.len() < 100_000);
    assert!(read(&bomb, &listed).is_ok());
    assert!(matches!(read_limited(&bomb, &listed, 4 << 20), Err(LegacyError::TooLarge(_))));
    // Zeros after the end of the archive count as well.
    let zeros = gzip(&[raw(b'0', "a", "", b""), raw(b'5', "d", "", b""), vec![0; 8 << 20]].concat());
    assert!(read(&zeros, &listed).is_ok());
    assert!(matches!(read_limited(&zeros, &listed, 4 << 20), Err(LegacyError::TooLarge(_))));
    // A size that is only said is refused before anything of it is read.
    let mut header = Header::new_gnu();
    header.set_size(1 << 60);
    header.set_mode(0o644);
    header.as_old_mut().name[0] = b'a';
    header.set_cksum();
    assert!(matches!(read(&gzip(header.as_bytes()), &listed), Err(LegacyError::TooLarge(_))));
}

#[test]
fn members_of_gzip_are_joined_and_garbage_is_refused() {
    let (operations, package, expected) = sample();
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&package[..]).read_to_end(&mut plain).unwrap();
    let (front, back) = plain.split_at(700);
    assert_eq!(read(&[gzip(front), gzip(back)].concat(), &operations).unwrap(), expected);
    assert!(matches!(read(&gzip(front), &operations), Err(LegacyError::Damaged(_))), "only the first of two");
    for garbage in [&b"garbage"[..], b"\x1f\x8b", &[0; 100]] {
        assert!(read(&[&package[..], garbage].concat(), &operations).is_err(), "{garbage:?} after the gzip stream");
    }
    assert!(read(&gzip(&[&plain[..], b"x"].concat()), &operations).is_err(), "garbage after the archive");
    assert!(read(&[package, gzip(b"x")].concat(), &operations).is_err(), "a second gzip member of garbage");
    assert!(read(&gzip(&plain[..plain.len() - 2 * BLOCK]), &operations).is_err(), "no end of the archive");
    assert!(read(b"", &operations).is_err() && read(&plain, &operations).is_err());
}

#[test]
fn a_package_cut_short_anywhere_is_refused() {
    let (operations, package, _) = sample();
    for length in 0..package.len() {
        assert!(read(&package[..length], &operations).is_err(), "{length} of {} bytes", package.len());
    }
}

#[test]
fn flipped_bits_never_change_what_is_read() {
    let (operations, package, expected) = sample();
    let mut passed = 0;
    for at in 0..package.len() {
        for bit in 0..8 {
            let mut bad = package.clone();
            bad[at] ^= 1 << bit;
            // Some bits mean nothing: the time in the gzip header, or which of many zeros a match refers to.
            if let Ok(tree) = read(&bad, &operations) {
                assert_eq!(tree, expected, "bit {bit} of byte {at}");
                passed += 1;
            }
        }
    }
    assert!(passed < package.len() / 2, "{passed} of {} flips passed", package.len() * 8);
}

#[test]
fn a_failing_source_is_told_from_a_failing_caller() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    // Random bytes do not compress: the gzip stream cannot be read ahead to its end.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(1 << 20)
    .collect();
    let listed = operations(&["a"], &[]);
    let package = archive(&[raw(b'0', "a", "", &noise)]);
    let half = package.len() / 2;
    let swallow = &mut |member: Member<'_>| {
        if let MemberKind::File { content, .. } = member.kind {
            assert!(content.read_to_end(&mut Vec::new()).is_err());
            assert!(content.read(&mut [0]).is_err(), "it stays failed");
        }
        Ok(())
    };
    let error: LegacyError = read_members(package[..half].chain(Failing), &listed, LIMIT, swallow).unwrap_err();
    assert!(matches!(error, LegacyError::Read(_)), "{error}");
    let error = read_members(&package[..half], &listed, LIMIT, swallow).unwrap_err();
    assert!(matches!(error, LegacyError::Damaged(_)), "{error}");
    let own = &mut |_: Member<'_>| Err(LegacyError::TooMany);
    assert!(matches!(read_members(&package[..], &listed, LIMIT, own), Err(LegacyError::TooMany)));
    // Content that the caller does not read is passed over.
    read_members(&package[..], &listed, LIMIT, &mut |_: Member<'_>| Ok::<_, LegacyError>(())).unwrap();
}

#[test]
fn the_bytes_are_verified_as_published() {
    let bytes = vec![7; limits::COPY_BUFFER + 1];
    let mut info = PatchPackageInfo::default();
    let verify = |info: &PatchPackageInfo| {
        let mut seen = Vec::new();
        verify_bytes(&bytes[..], info, &mut |part| seen.extend_from_slice(part)).map(|digest| (digest, seen))
    };
    assert_eq!(verify(&info).unwrap(), (Digest::of(&bytes), bytes.clone()));
    info.set_digest(Digest::of(&bytes));
    info.size = Some(bytes.len() as u64);
    assert_eq!(verify(&info).unwrap().0, Digest::of(&bytes));
    info.size = Some(bytes.len() as u64 - 1);
    assert!(matches!(verify(&info), Err(LegacyError::PackageSize { .. })));
    info.size = Some(bytes.len() as u64 + 1);
    assert!(matches!(verify(&info), Err(LegacyError::PackageSize { .. })));
    info.size = None;
    info.set_digest(Digest::of(b"other"));
    assert!(matches!(verify(&info), Err(LegacyError::Digest { .. })));
    info.hash = Some("nonsense".into());
    assert!(matches!(verify(&info), Err(LegacyError::Info(_))));
}

#[test]
fn the_digest_of_what_was_unpacked_is_that_of_the_package() {
    let (operations, package, _) = sample();
    let mut reader = HashingReader::new(&package[..]);
    read_members(&mut reader, &operations, LIMIT, &mut |_: Member<'_>| Ok::<_, LegacyError>(())).unwrap();
    assert_eq!(reader.length(), package.len() as u64);
    assert_eq!(reader.finish(), Digest::of(&package));
}

/// Runs GNU tar; false if there is none.
fn gnu_tar(arguments: &[&str], directory: &std::path::Path) -> bool {
    match Command::new("tar").args(arguments).current_dir(directory).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            println!("skipped: tar cannot be run: {error}");
            false
        }
    }
}

#[test]
fn packages_by_gnu_tar_are_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let long = format!("front/{}/{}", "deep".repeat(30), "name".repeat(40));
    std::fs::create_dir_all(root.join(&long).parent().unwrap()).unwrap();
    for (name, content) in [("app.jar", "jar"), (&long, "long"), ("front/a", "a")] {
        std::fs::write(root.join(name), content).unwrap();
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o4755)).unwrap();
    }
    for name in ["front", long.rsplit_once('/').unwrap().0] {
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o711)).unwrap();
    }
    std::os::unix::fs::symlink("t".repeat(150), root.join("front/link")).unwrap();
    let expected = tree(&[
        ("app.jar", "file 755 jar"),
        ("front", "dir 711"),
        ("front/a", "file 755 a"),
        ("front/link", &format!("-> {}", "t".repeat(150))),
        (long.rsplit_once('/').unwrap().0, "dir 711"),
        (&long, "file 755 long"),
    ]);
    let listed = operations(&["app.jar"], &["front"]);
    let output = tempfile::tempdir().unwrap();
    for format in ["gnu", "pax", "oldgnu"] {
        for members in [&["."][..], &["./app.jar", "./front"], &["app.jar", "front/"]] {
            let package = output.path().join("p.tar.gz");
            let format = format!("--format={format}");
            let mut arguments = vec!["czf", package.to_str().unwrap(), &format];
            arguments.extend(members);
            if !gnu_tar(&arguments, root) {
                return;
            }
            let package = std::fs::read(&package).unwrap();
            assert_eq!(read(&package, &listed).unwrap(), expected, "{format} {members:?}");
            for length in (0..package.len()).step_by(7) {
                assert!(read(&package[..length], &listed).is_err());
            }
        }
    }
}

#[test]
fn gnu_tar_reads_our_packages() {
    let (operations, package, _) = sample();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("p.tar.gz"), package).unwrap();
    if !gnu_tar(&["xzf", "p.tar.gz"], directory.path()) {
        return;
    }
    for file in operations.required_files() {
        assert!(directory.path().join(file.to_string()).is_file(), "{file}");
    }
    let front = directory.path().join("front");
    assert_eq!(std::fs::read(front.join("index")).unwrap(), [b'x'; 1500]);
    assert_eq!(std::fs::read_link(front.join("link")).unwrap().to_str().unwrap(), "up/".repeat(50));
    assert!(front.join("empty").is_dir());
}

fn any_member() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(&b"0000555522217gxLKS\0"[..]);
    let name = prop::sample::select(vec!["a", "./a", "d", "d/", "d/x", "d/x/y", "d/l", "e", "..", "d/../e", "", "."]);
    let data = prop::sample::select(vec!["", "", "", "d/x\0", "11 path=d/y\n", "d/"]);
    (kind, name, data).prop_map(|(kind, name, data)| raw(kind, name, "t", data.as_bytes()))
}

proptest! {
    #[test]
    fn whatever_passes_has_the_structure(
        members in prop::collection::vec(any_member(), 0..8),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..3),
        complete in any::<bool>(),
    ) {
        let listed = operations(&["a"], &["d"]);
        let mut plain = members.concat();
        if complete {
            plain = [raw(b'0', "a", "", b"x"), raw(b'5', "d", "", b""), plain].concat();
        }
        plain.resize(plain.len() + 2 * BLOCK, 0);
        for (at, bit) in flips {
            let at = at.index(plain.len());
            plain[at] ^= 1 << bit;
        }
        if let Ok(tree) = read(&gzip(&plain), &listed) {
            prop_assert!(tree["a"].starts_with("file ") && tree["d"].starts_with("dir "));
            for path in tree.keys() {
                prop_assert!(path == "a" || path == "d" || path.starts_with("d/"), "{}", path);
                let parent = path.rsplit_once('/').map(|(parent, _)| &tree[parent]);
                prop_assert!(parent.is_none_or(|parent| parent.starts_with("dir ")), "{}", path);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let listed = operations(&["a"], &[]);
        prop_assert!(read(&bytes, &listed).is_err());
        prop_assert!(read(&gzip(&bytes), &listed).is_err());
    }
}

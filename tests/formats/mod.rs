//! Another program reads packages: `decode.py` is written from the pages of `docs/formats/`, in another language, with
//! other libraries. It makes of packages the trees that they were built from, and meets what the pages describe.

use crate::python;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// What the packages have to bring the decoder to, under the names that it prints.
#[rustfmt::skip]
const MET: &[&str] = &[
    "codec 0", "codec 1", "codec 2", "codec 3", "codec 4",
    "source 0", "source 1", "source 2", "source 3", "removed",
    "shape 0", "shape 1", "shape 2", "shape 6", "shape 8", "shape 12", "code",
    "coder 0", "coder 1", "coder 2", "history 1", "history 2",
    "rule 0", "rule 1", "rule 2", "rule 3", "rule 4", "rule 5", "rule 6",
    "piece 0", "piece 1", "piece 2", "member 1", "member 2", "member 3", "deflater 0", "deflater 1", "deflater 2",
];

/// The trees whole, and parts of them by name: of less content come other segments.
const PARTS: &[&str] = &["", "text app code", "text modules", "page log info picture", "noise"];

#[test]
fn a_decoder_written_from_the_documents_makes_the_same_trees() {
    let packages = ["zstandard", "cryptography"];
    let Some(python) = python::with("decoder-1", &packages, "zstandard, cryptography.hazmat.primitives") else {
        println!("SKIPPED: no Python with pip here: nobody else reads packages");
        return;
    };
    // Deflate streams of these programs are a part of the format, and those of another zlib are others.
    let stock = "import shutil, zlib; exit('ng' in zlib.ZLIB_RUNTIME_VERSION or not shutil.which('gzip') or not \
        shutil.which('zip'))";
    if python::runs(Command::new(&python).args(["-c", stock])).is_err() {
        println!("SKIPPED: no gzip, zip and stock zlib here: nobody else reads packages");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let run = |program: &Path, arguments: &[&str]| {
        python::runs(Command::new(program).args(arguments).current_dir(place.path()))
            .unwrap_or_else(|why| panic!("{}, {arguments:?}: {why}", program.display()))
    };
    let script =
        |name: &str, arguments: &[&str]| run(&python, &[&[here.join(name).to_str().unwrap()], arguments].concat());
    let surefoot = |arguments: &[&str]| run(Path::new(env!("CARGO_BIN_EXE_surefoot")), arguments);
    surefoot(&["keygen", "-o", "key"]);

    let mut met = BTreeSet::new();
    for (number, parts) in PARTS.iter().enumerate() {
        let [old, new] = ["old", "new"].map(|tree| format!("{tree}{number}"));
        script("trees.py", &[&[&*old, &*new], &*parts.split_whitespace().collect::<Vec<_>>()].concat());
        let levels = [["--level", "default"], ["--level", "fast"]];
        let patches = levels.map(|level| [&["--from", "1.0.0", "--mtime"], &level[..], &[&*old, &*new]].concat());
        let full = vec!["--full", "--mtime", &*new];
        for (package, what) in patches.iter().chain([&full]).enumerate() {
            let [package, made] = ["package", "made"].map(|file| format!("{file}{number}{package}"));
            surefoot(&[&["build", "--to", "2.0.0", "--key", "key", "-o", &*package], &**what].concat());
            let told = script("decode.py", &[&*package, "key.pub", &*made, &*old]);
            assert_eq!(listing(&place.path().join(&made)), listing(&place.path().join(&new)), "{what:?}");
            met.extend(told.lines().map(str::to_owned));
        }
    }
    for wanted in MET {
        assert!(met.contains(*wanted), "nothing made the decoder meet {wanted}, but {met:?}");
    }

    // It is not that it takes anything.
    let told = |old| {
        let decode = here.join("decode.py");
        let mut command = Command::new(&python);
        python::runs(command.arg(decode).args(["package00", "key.pub", "no", old]).current_dir(place.path()))
    };
    assert!(told("new0").unwrap_err().contains("refused: the base"));
    let mut damaged = fs::read(place.path().join("package00")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(place.path().join("package00"), damaged).unwrap();
    assert!(told("old0").unwrap_err().contains("refused: the digest of a segment"));
    assert!(!place.path().join("no").exists());
}

/// Everything in a tree, but for owners: paths, modes, times, contents, which names are of one file.
fn listing(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = vec![root.to_path_buf()];
    while let Some(path) = next.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if metadata.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else {
            format!("{}, {} names", surefoot::model::Digest::of(&fs::read(&path).unwrap()), metadata.nlink())
        };
        let (mode, time, below) = (metadata.mode(), metadata.mtime(), path.strip_prefix(root).unwrap());
        out.push(format!("{}: {what}, {mode:o}, {time}.{:09}", below.display(), metadata.mtime_nsec()));
    }
    out.sort();
    out
}

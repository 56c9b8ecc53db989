//! The real program, really killed, on a real disk, a few hundred times.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};
use surefoot::model::Xattrs;
use surefoot::vfs::{OsVfs, Place, Vfs as _};

const SUREFOOT: &str = env!("CARGO_BIN_EXE_surefoot");

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn surefoot(root: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(SUREFOOT).arg("--root").arg(root).arg("-q").args(arguments).output().unwrap()
}

fn succeeds(root: &Path, arguments: &[&str]) -> String {
    let output = surefoot(root, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What stands at one path, as far as it counts.
#[derive(PartialEq, Eq)]
struct Found {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    /// Of a file its bytes, of a link where it leads.
    content: Vec<u8>,
    attributes: Xattrs,
    /// Every name of a file that has several.
    group: Vec<PathBuf>,
}

fn snapshot(root: &Path) -> BTreeMap<PathBuf, Found> {
    let vfs = OsVfs::open_tree(root).unwrap();
    let mut out = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path == root.join(".surefoot") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let key = path.strip_prefix(root).unwrap().to_path_buf();
            if metadata.nlink() > 1 && !metadata.is_dir() {
                groups.entry(metadata.ino()).or_default().push(key.clone());
            }
            let found = Found {
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                content,
                attributes: vfs.xattrs(&place(&key)).unwrap(),
                group: Vec::new(),
            };
            out.insert(key, found);
        }
    }
    for mut group in groups.into_values() {
        group.sort();
        for path in &group {
            out.get_mut(path).unwrap().group.clone_from(&group);
        }
    }
    out
}

fn place(path: &Path) -> Place {
    Place::parse(path.as_os_str().as_bytes()).unwrap()
}

/// A tree of some thousand files; the two versions differ in a third of them.
fn make(root: &Path, version: u64) {
    for n in 0..3000_u64 {
        let path = root.join(format!("d{}/e{}/f{n}", n % 20, n % 7));
        let absent = n % 11 == 10 - version;
        if absent {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let changed = if n % 3 == 0 { version } else { 0 };
        fs::write(&path, format!("file {n} of version {changed}\n").repeat(1 + (n % 40) as usize)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(if n % 5 == version { 0o755 } else { 0o644 })).unwrap();
        if n % 50 == 0 {
            let target = format!("f{n}-{version}");
            std::os::unix::fs::symlink(target, root.join(format!("d{}/link{n}", n % 20))).unwrap();
        }
    }
    // Groups of names of one file, and attributes: some stay, some differ between the versions.
    let vfs = OsVfs::open_tree(root).unwrap();
    let mut with_attributes = 0;
    for n in (0..3000_u64).filter(|n| n % 11 != 10 - version) {
        let name = format!("d{}/e{}/f{n}", n % 20, n % 7);
        if n % 60 < 2 + version {
            fs::hard_link(root.join(&name), root.join(format!("d{}/name{n}", (n + version) % 20))).unwrap();
        }
        if n % 40 == 7 {
            let value = format!("{}", if n % 80 == 7 { version } else { n });
            with_attributes +=
                usize::from(vfs.set_xattr(&place(Path::new(&name)), b"user.kill", Some(value.as_bytes())).is_ok());
        }
    }
    println!("version {version}: {with_attributes} files with attributes");
    let big: Vec<u8> = (0..4_000_000_u64).map(|n| (n.wrapping_mul(2_654_435_761 + version) >> 13) as u8).collect();
    fs::write(root.join("big"), big).unwrap();
    // Times count in this test: what is the same in both versions has the same time.
    for (path, Found { mode, .. }) in snapshot(root) {
        let (path, n) = (root.join(&path), path.as_os_str().len() as u64);
        if mode & 0o170_000 != 0o120_000 {
            let changed = if fs::metadata(&path).unwrap().is_dir() { 0 } else { version * 86_400 };
            let time = UNIX_EPOCH + Duration::new(1_600_000_000 + n + changed * (n % 2), 123_456_789 + version as u32);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

#[test]
fn killed_at_random_moments_a_few_hundred_times() {
    let (kills, seed) = (number("SUREFOOT_KILLS", 200), number("SUREFOOT_SEED", 20_261_122));
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for (name, version) in [("old", 0), ("new", 1)] {
        fs::create_dir(path(name)).unwrap();
        make(&path(name), version);
    }
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let (old_tree, new_tree, package) = (text(path("old")), text(path("new")), text(path("patch")));
    let build =
        ["build", &old_tree, &new_tree, "--from", "1.0.0", "--to", "1.0.1", "--mtime", "--no-prove", "-o", &package];
    succeeds(scratch.path(), &build);
    let live = path("live");
    assert!(Command::new("cp").arg("-a").arg(path("old")).arg(&live).status().unwrap().success());
    succeeds(&live, &["init", "--version", "1.0.0", "--mtime"]);
    let (old, new) = (snapshot(&path("old")), snapshot(&path("new")));
    assert!(snapshot(&live) == old);

    // How long the whole takes, so that the kills fall into it.
    let begun = Instant::now();
    succeeds(&live, &["apply", &package, "--allow-unsigned"]);
    let whole = begun.elapsed();
    assert!(snapshot(&live) == new);
    succeeds(&live, &["rollback"]);
    assert!(snapshot(&live) == old);

    let mut random = seed;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n.max(1)
    };
    let (mut ends, mut killed, mut window) = (BTreeMap::new(), 0, whole.as_nanos() as u64);
    for round in 0..kills {
        let is_new = snapshot(&live) == new;
        let mut run = Command::new(SUREFOOT);
        run.arg("--root").arg(&live).arg("-q").stdout(Stdio::null()).stderr(Stdio::null());
        if is_new {
            run.arg("rollback");
        } else {
            run.args(["apply", &package, "--allow-unsigned"]);
        }
        let mut child = run.spawn().unwrap();
        std::thread::sleep(Duration::from_nanos(below(window)));
        child.kill().unwrap();
        let in_time = !child.wait().unwrap().success();
        killed += u64::from(in_time);
        // How long a run takes changes with what the disk has to do: the window follows.
        window = if in_time { window + window / 8 } else { window - window / 4 };
        // Sometimes recovery is killed as well.
        for _ in 0..below(3) {
            let mut recovery = Command::new(SUREFOOT);
            recovery.arg("--root").arg(&live).args(["-q", "recover"]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut recovery = recovery.spawn().unwrap();
            std::thread::sleep(Duration::from_nanos(below(window / 2)));
            recovery.kill().unwrap();
            recovery.wait().unwrap();
        }
        succeeds(&live, &["recover"]);
        let now = snapshot(&live);
        let end = if now == old {
            "old"
        } else if now == new {
            "new"
        } else {
            "mixed"
        };
        *ends.entry((if is_new { "rollback" } else { "apply" }, end)).or_insert(0) += 1;
        assert!(end != "mixed", "round {round}, seed {seed}");
        let status: serde_json::Value = serde_json::from_str(&succeeds(&live, &["--json", "status"])).unwrap();
        assert_eq!(status["version"], if end == "old" { "1.0.0" } else { "1.0.1" }, "round {round}: {status}");
    }
    println!("{kills} rounds, {killed} killed in time, ends {ends:?}, seed {seed}");
    assert!(killed > kills / 4, "{killed} of {kills}");
    assert!(ends.contains_key(&("apply", "old")) && ends.contains_key(&("apply", "new")), "{ends:?}");
    assert!(snapshot(&live).len() > 2000);
    succeeds(&live, &["verify"]);
}

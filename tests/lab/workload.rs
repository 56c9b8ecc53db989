//! What is updated: pairs of small trees, each of which has something to tell.

use super::SUREFOOT;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use surefoot::cli::lab::{Snapshot, Update, about, run};

const FROM: &str = "1.0.0";
const TO: &str = "2.0.0";

/// A tree and what becomes of it.
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// Makes version 0 or 1.
    make: fn(&Tree<'_>, usize),
    /// Do modification times count?
    pub(super) times: bool,
}

const fn workload(name: &'static str, times: bool, make: fn(&Tree<'_>, usize)) -> Workload {
    Workload { name, make, times }
}

pub(super) const WORKLOADS: [Workload; 11] = [
    workload("mixed", true, mixed),
    workload("replace", false, replace),
    workload("add-remove", true, add_remove),
    workload("chain", false, chain),
    workload("swap", true, swap),
    workload("metadata", false, metadata),
    workload("symlinks", false, symlinks),
    workload("links", false, links),
    workload("many", false, many),
    workload("big", true, big),
    workload("everyday", false, everyday),
];

impl Workload {
    /// Builds one of its trees in an empty directory.
    pub(super) fn build(&self, root: &Path, version: usize) {
        fs::create_dir_all(root).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        (self.make)(&Tree(root), version);
        set_times(root);
    }
}

/// The trees of a workload, the new one for peers, and what becomes of the old one.
pub(super) struct Prepared {
    pub(super) new_tree: PathBuf,
    pub(super) update: Arc<Update>,
}

impl Prepared {
    /// Builds trees and package below a directory.
    pub(super) fn new(workload: &'static Workload, scratch: &Path) -> Self {
        let directory = scratch.join(workload.name);
        let trees = [0, 1].map(|version| {
            let tree = directory.join(["old", "new"][version]);
            workload.build(&tree, version);
            tree
        });
        let package = directory.join("package");
        let [old, new] = trees.each_ref().map(|tree| tree.to_str().unwrap());
        let mut arguments = vec!["-q", "build", old, new, "--from", FROM, "--to", TO, "--no-prove", "-o"];
        arguments.push(package.to_str().unwrap());
        arguments.extend(workload.times.then_some("--mtime"));
        run(SUREFOOT, &arguments).unwrap();
        let [old, new] = trees.each_ref().map(|tree| Snapshot::of(tree, workload.times).unwrap());
        assert!(old != new && old.paths() > 1, "{}: nothing to do", workload.name);
        let take = |root: &Path| {
            let mut arguments = about(root.to_str().unwrap(), &["init", "--version", FROM]);
            arguments.extend(workload.times.then_some("--mtime"));
            run(SUREFOOT, &arguments).map(drop)
        };
        let update = Update {
            name: workload.name.to_owned(),
            program: SUREFOOT.into(),
            package,
            from: FROM.to_owned(),
            to: TO.to_owned(),
            old,
            new,
            times: workload.times,
            whole: true,
            build: Box::new(|root| {
                workload.build(root, 0);
                Ok(())
            }),
            take: Box::new(take),
        };
        let [_, new_tree] = trees;
        Self { new_tree, update: Arc::new(update) }
    }
}

/// A tree that is being built.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn at(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.mode(path, content, 0o644)
    }

    fn mode(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> &Self {
        fs::write(self.at(path), content).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn directory(&self, path: &str, mode: u32) -> &Self {
        fs::create_dir_all(self.at(path)).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn symlink(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.at(path)).unwrap();
        self
    }

    fn link(&self, path: &str, first: &str) -> &Self {
        fs::hard_link(self.0.join(first), self.at(path)).unwrap();
        self
    }

    fn attribute(&self, path: &str, value: &str) -> &Self {
        let path = self.at(path);
        rustix::fs::lsetxattr(&path, "user.lab", value.as_bytes(), XattrFlags::empty()).unwrap();
        self
    }

    /// Another workload in a directory of its own.
    fn below(&self, name: &str, make: fn(&Tree<'_>, usize), version: usize) -> &Self {
        let path = self.at(name);
        fs::create_dir_all(&path).unwrap();
        make(&Tree(&path), version);
        self
    }

    fn owner(&self, path: &str, owner: u32) -> &Self {
        std::os::unix::fs::lchown(self.at(path), Some(owner), Some(owner)).unwrap();
        self
    }
}

/// Bytes that no compression shrinks and no other file has.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u8
    };
    (0..length).map(|_| step(&mut state)).collect()
}

fn replace(tree: &Tree<'_>, version: usize) {
    for n in 0..8 {
        let changed = if n < 6 { version } else { 0 };
        tree.mode(&format!("bin/app{n}"), noise(n * 2 + changed, 900 * (n + 1) + 5000 * changed), 0o755);
    }
    tree.file("etc/conf", ["threads = 2\n", "threads = 4\n"][version]).file("empty", ["", "no more"][version]);
}

fn add_remove(tree: &Tree<'_>, version: usize) {
    tree.file("a-kept", "kept").file("z/kept", "kept too").directory("z/empty", 0o711);
    if version == 0 {
        tree.file("a-gone", noise(1, 3000))
            .file("gone/x/y", noise(2, 5000))
            .file("gone/z", "z")
            .directory("gone/e", 0o700);
        tree.symlink("gone/link", "z");
    } else {
        tree.file("b-new", noise(3, 3000)).file("new/x/y", noise(4, 9000)).file("new/z", "").directory("new/e", 0o750);
        tree.symlink("new/link", "x/y").mode("z/more", "more", 0o600);
    }
}

fn chain(tree: &Tree<'_>, version: usize) {
    for n in 0..6 {
        tree.file(&format!("f{}", n + version), noise(n, 2000 + n));
    }
    let (one, other) = if version == 0 { ("one", "other") } else { ("other", "one") };
    tree.file(&format!("d/{one}"), noise(10, 4096)).file(&format!("d/{other}"), noise(11, 4096));
}

fn swap(tree: &Tree<'_>, version: usize) {
    let (left, right) = if version == 0 { ("left", "right") } else { ("right", "left") };
    tree.file(&format!("{left}/a"), noise(1, 2500)).file(&format!("{left}/deep/b"), noise(2, 2500));
    tree.file(&format!("{right}/a"), noise(3, 2500)).mode(&format!("{right}/c"), "c", 0o600);
    if version == 0 {
        tree.file("turns", "from a file").file("back/into", "one").file("back/more", noise(4, 100));
    } else {
        tree.file("turns/into", "a directory").file("back", "a file now");
    }
}

fn metadata(tree: &Tree<'_>, version: usize) {
    tree.mode("set", "mode", [0o644, 0o4755][version]).directory("d", [0o700, 0o1777][version]);
    tree.file("owned", "owner").owner("owned", [0, 1234][version] as u32);
    tree.file("labelled", "attribute").attribute("labelled", ["one", "another"][version]);
    tree.file("d/inside", "same").directory("e", 0o755).owner("e", [7, 8][version] as u32);
    tree.attribute("e", ["x", "y"][version]).mode("all", "all", [0o600, 0o640][version]);
    tree.owner("all", [1, 2][version] as u32);
}

fn symlinks(tree: &Tree<'_>, version: usize) {
    tree.file("one", "1").file("two", "2").symlink("current", ["one", "two"][version]);
    if version == 0 {
        tree.symlink("a", "one").file("b", "file").directory("c", 0o755).symlink("dangling", "nowhere");
    } else {
        tree.file("a", "file").symlink("b", "two").symlink("c", "..").symlink("d/new", "../one");
    }
}

fn links(tree: &Tree<'_>, version: usize) {
    tree.file("a", noise(version, 3000)).link("b", "a").link("sub/c", "a");
    if version == 0 {
        tree.file("p", "alone").file("q", "alone").file("s", "pair").link("t", "s");
    } else {
        tree.file("p", "alone").link("q", "p").file("s", "pair").file("t", "pair").link("sub/s", "s");
    }
}

fn many(tree: &Tree<'_>, version: usize) {
    for n in 0..130 {
        if n % 10 == 9 - version {
            continue;
        }
        let changed = if n % 2 == 0 { version } else { 0 };
        tree.file(&format!("d{}/f{n}", n % 7), noise(n * 2 + changed, 40 * n));
    }
}

fn big(tree: &Tree<'_>, version: usize) {
    tree.file("big", noise(version, 3 << 20)).file("small", ["1", "2"][version]);
    tree.file("moved-not", noise(5, 300_000));
}

/// What every way to update a tree can do.
fn everyday(tree: &Tree<'_>, version: usize) {
    tree.below("a-r", add_remove, version).below("replace", replace, version).below("links", symlinks, version);
}

/// A little of everything.
fn mixed(tree: &Tree<'_>, version: usize) {
    tree.below("a-r", add_remove, version).below("chain", chain, version).below("links", links, version);
    tree.below("meta", metadata, version).below("swap", swap, version);
    tree.file("top", noise(version, 20_000));
}

/// Times that follow from what is there, so that what is the same in both versions has the same time.
fn set_times(root: &Path) {
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let at = root.join(&path);
        let mut hasher = DefaultHasher::new();
        hasher.write(path.as_os_str().as_bytes());
        let metadata = fs::symlink_metadata(&at).unwrap();
        if metadata.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.retain(|name| name != ".surefoot");
            names.sort();
            names.iter().for_each(|name| hasher.write(name.as_bytes()));
            left.extend(names.iter().map(|name| path.join(name)));
        } else if metadata.is_file() {
            hasher.write(&fs::read(&at).unwrap());
            // All names of a file must agree.
            if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
                hasher = DefaultHasher::new();
            }
        }
        let time = Timespec { tv_sec: 1_600_000_000 + (hasher.finish() % 10_000_000) as i64, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

//! The workloads, as a table that reads like the specification.

use std::io::{Cursor, Read};
use std::sync::Arc;
use surefoot::crashtest::Scenario;
use surefoot::model::Policy;
use surefoot::package::Level;
use surefoot::publish::{BuildReport, Options as BuildOptions, build_patch};
use surefoot::tree::{Walk, scan};
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::Options;

/// One workload: a tree before and a tree after.
#[derive(Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) old: fn(&SimVfs),
    pub(super) new: fn(&SimVfs),
    pub(super) policy: Policy,
}

const PLAIN: Policy = Policy { owner: false, mtime: false };

const fn workload(name: &'static str, old: fn(&SimVfs), new: fn(&SimVfs)) -> Workload {
    Workload { name, old, new, policy: PLAIN }
}

/// Every workload that is swept.
pub(super) const WORKLOADS: &[Workload] = &[
    workload(
        "removal first",
        |d| _ = d.write_file("a", "gone").write_file("b", "old b").write_file("c", "old c"),
        |d| _ = d.write_file("b", "new b").write_file("c", "new c, longer"),
    ),
    workload(
        "removal last",
        |d| _ = d.write_file("a", "old a").write_file("z/z", "gone"),
        |d| _ = d.write_file("a", "new a").write_file("b", "brand new"),
    ),
    workload(
        "mode only",
        |d| {
            _ = d
                .write_file("a", "a")
                .write_file("b", "b")
                .make_dir("d")
                .chmod("a", 0o644)
                .chmod("d", 0o700)
                .chmod("", 0o755)
        },
        |d| {
            _ = d
                .write_file("a", "a")
                .write_file("b", "b")
                .make_dir("d")
                .chmod("a", 0o4755)
                .chmod("d", 0o711)
                .chmod("", 0o750)
        },
    ),
    workload(
        "file to directory and back",
        |d| _ = d.write_file("a", "file").write_file("d/x", "x").write_file("d/y", "y"),
        |d| _ = d.write_file("a/x", "x").write_file("a/b/y", "y").write_file("d", "file"),
    ),
    workload(
        "file to symlink, symlink to directory",
        |d| _ = d.write_file("a", "file").make_symlink("a", "l").write_file("k", "k"),
        |d| _ = d.make_symlink("k", "a").write_file("l/x", "x").write_file("k", "k"),
    ),
    workload(
        "rename chain and swap",
        |d| {
            _ = d
                .write_file("a", "1")
                .write_file("b", "2")
                .write_file("c", "3")
                .write_file("x", "x")
                .write_file("y", "y")
        },
        |d| {
            _ = d
                .write_file("b", "1")
                .write_file("c", "2")
                .write_file("d", "3")
                .write_file("x", "y")
                .write_file("y", "x")
        },
    ),
    workload(
        "nested new directories, empty ones too",
        |d| _ = d.write_file("keep", "k"),
        |d| {
            _ = d
                .write_file("keep", "k")
                .write_file("n/e/s/t", "deep")
                .make_dir("empty/er")
                .make_symlink("../keep", "n/k")
        },
    ),
    workload(
        "replaced running binary",
        |d| _ = d.write_file("bin/app", vec![1; 9000]).chmod("bin/app", 0o755).write_file("lib/so", vec![2; 5000]),
        |d| _ = d.write_file("bin/app", vec![3; 9100]).chmod("bin/app", 0o755).write_file("lib/so", vec![4; 4000]),
    ),
    workload(
        "zero-byte file",
        |d| _ = d.write_file("empty", "").write_file("full", "x").write_file("third", "3"),
        |d| _ = d.write_file("empty", "y").write_file("full", "").write_file("new", ""),
    ),
    workload(
        "hard-link group",
        |d| {
            _ = d
                .write_file("a", "1")
                .make_link("a", "b")
                .make_link("a", "c")
                .write_file("p", "p")
                .write_file("q", "p")
                .write_file("s", "s")
                .make_link("s", "t")
        },
        |d| {
            _ = d
                .write_file("b", "1")
                .make_link("b", "c")
                .make_link("b", "d")
                .write_file("p", "p")
                .make_link("p", "q")
                .write_file("s", "s")
                .write_file("t", "s")
        },
    ),
    workload("empty patch", |d| _ = d.write_file("a", "1"), |d| _ = d.write_file("a", "1")),
    Workload {
        policy: Policy { owner: true, mtime: false },
        ..workload(
            "owner and xattr change",
            |d| {
                _ = d
                    .write_file("a", "1")
                    .chown("a", 1, 1)
                    .write_file("b", "2")
                    .attribute("b", "user.k", "old")
                    .make_dir("d")
                    .chown("d", 5, 5)
                    .write_file("e", "e")
            },
            |d| {
                _ = d
                    .write_file("a", "1")
                    .chown("a", 2, 3)
                    .write_file("b", "2")
                    .attribute("b", "user.k", "new")
                    .attribute("b", "user.l", "")
                    .make_dir("d")
                    .chown("d", 6, 5)
                    .attribute("d", "user.d", "d")
                    .write_file("e", "e")
                    .chown("e", 7, 7)
                    .chmod("e", 0o4755)
            },
        )
    },
    Workload {
        policy: Policy { owner: true, mtime: true },
        ..workload(
            "times count",
            |d| {
                _ = d
                    .write_file("d/a", "1")
                    .write_file("d/b", "2")
                    .touch("d/a", 10)
                    .touch("d/b", 20)
                    .touch("d", 30)
                    .touch("", 40)
            },
            |d| {
                _ = d
                    .write_file("d/a", "1")
                    .write_file("d/b", "3")
                    .write_file("d/c", "4")
                    .write_file("d/e", "4")
                    .touch("d/e", 23)
                    .touch("d/a", 11)
                    .touch("d/b", 21)
                    .touch("d/c", 22)
                    .touch("d", 30)
                    .touch("", 40)
            },
        )
    },
];

/// Directories that their owner may not write to: swept as a user who is not root.
pub(super) const LOCKED: Workload = workload(
    "directories that their owner may not write to",
    |d| {
        _ = d
            .write_file("changed/a", "1")
            .write_file("changed/gone", "x")
            .chmod("changed", 0o555)
            .write_file("gone/away/x", "x")
            .chmod("gone/away", 0o555)
            .chmod("gone", 0o500)
            .make_dir("closed")
            .write_file("opened/k", "k")
            .chmod("opened", 0o555)
    },
    |d| {
        _ = d
            .write_file("changed/a", "2")
            .write_file("changed/b", "3")
            .chmod("changed", 0o555)
            .write_file("new/f", "f")
            .write_file("new/er/g", "g")
            .chmod("new/er", 0o511)
            .chmod("new", 0o555)
            .write_file("closed/c", "c")
            .chmod("closed", 0o555)
            .write_file("opened/l", "l")
            .chmod("opened", 0o755)
    },
);

/// Attributes of what their owner may not write to: swept as a user who is not root.
pub(super) const READ_ONLY: Workload = workload(
    "attributes of what their owner may not write to",
    |d| {
        _ = d
            .write_file("opened", "1")
            .attribute("opened", "user.x", "a")
            .chmod("opened", 0o444)
            .write_file("closed", "2")
            .attribute("closed", "user.x", "a")
            .write_file("stays", "3")
            .attribute("stays", "user.x", "a")
            .chmod("stays", 0o444)
            .write_file("other", "4")
            .attribute("other", "user.x", "a")
            .chmod("other", 0o444)
            .make_dir("d")
            .attribute("d", "user.x", "a")
            .chmod("d", 0o555)
            .make_dir("e")
            .attribute("e", "user.x", "a")
    },
    |d| {
        _ = d
            .write_file("opened", "1")
            .attribute("opened", "user.x", "b")
            .write_file("closed", "2")
            .attribute("closed", "user.x", "b")
            .chmod("closed", 0o444)
            .write_file("stays", "3")
            .attribute("stays", "user.y", "b")
            .chmod("stays", 0o444)
            .write_file("other", "5")
            .attribute("other", "user.x", "a")
            .chmod("other", 0o444)
            .write_file("d/new", "6")
            .attribute("d/new", "user.x", "c")
            .chmod("d/new", 0o400)
            .attribute("d", "user.x", "b")
            .chmod("d", 0o555)
            .make_dir("e")
            .attribute("e", "user.x", "b")
            .chmod("e", 0o500)
    },
);

/// Three hundred files: swept with a smaller budget.
pub(super) const MANY: Workload = workload("300 files", |d| many(d, 0), |d| many(d, 1));

fn many(disk: &SimVfs, version: u32) {
    for n in 0..300 {
        let gone = n % 7 == 3;
        match (version, n % 3) {
            (1, _) if gone => {}
            (1, 0) => _ = disk.write_file(&format!("d{}/f{n}", n % 10), format!("version 1 of {n}")),
            _ => _ = disk.write_file(&format!("d{}/f{n}", n % 10), format!("file {n}")),
        }
    }
}

/// A workload made ready.
pub(super) struct Prepared {
    scenario: Scenario,
    /// What its package holds.
    pub(super) built: BuildReport,
}

impl std::ops::Deref for Prepared {
    type Target = Scenario;

    fn deref(&self) -> &Scenario {
        &self.scenario
    }
}

impl Prepared {
    pub(super) fn new(workload: &Workload, options: Options) -> Self {
        Self::between(workload.old, workload.new, workload.policy, options)
    }

    /// A package that leads from one tree to another.
    pub(super) fn between(old: impl Fn(&SimVfs), new: impl Fn(&SimVfs), policy: Policy, options: Options) -> Self {
        let disk = SimVfs::with(options.clone());
        old(&disk);
        let wanted = SimVfs::with(Options { limit_bytes: None, limit_inodes: None, ..options });
        new(&wanted);
        let walk = Walk { policy, state_inside: true };
        let before = scan(&disk, &walk, &|_, _| ()).unwrap();
        let after = scan(&wanted, &walk, &|_, _| ()).unwrap();
        let mut package = Vec::new();
        // Small segments, so that there are several, and files of more than one.
        let how =
            BuildOptions { to: "2.0.0".into(), level: Level::Fast, segment: Some(700), ..BuildOptions::default() };
        let mut spool = Cursor::new(Vec::new());
        let built = build_patch(("1.0.0", &before, &disk), (&after, &wanted), &how, &mut spool, &mut package).unwrap();
        let package: Arc<[u8]> = package.into();
        let open = move || Ok(Box::new(Cursor::new(package.clone())) as Box<dyn Read>);
        let mut scenario = Scenario::new(&disk, "1.0.0", &before, open).unwrap();
        // What it should be, not what the engine makes of it.
        scenario.new = scenario.snapshot(&wanted);
        Self { scenario, built }
    }
}

//! Random trees, random changes, random crash points.

use super::{PROFILES, Random, options, seed};
use rayon::prelude::*;
use surefoot::device::Tree;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::Budget;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn path(random: &mut Random) -> String {
    let depth = 1 + random.below(3);
    (0..depth).map(|_| NAMES[random.below(5) as usize]).collect::<Vec<_>>().join("/")
}

fn tree(random: &mut Random, disk: &SimVfs) {
    for _ in 0..random.below(8) {
        let path = path(random);
        // What does not fit what is there already is left out.
        let parents_fit = path.match_indices('/').all(|(end, _)| disk.read_file(&path[..end]).is_none());
        if disk.exists(&path) || !parents_fit {
            continue;
        }
        match random.below(4) {
            0 => disk.make_dir(&path),
            _ => disk.write_file(&path, vec![b'x'; random.below(3000) as usize]),
        };
    }
}

/// A transaction of random calls, by a seed: the calls that make no sense end it, and then nothing may happen.
fn transact(vfs: &SimVfs, seed: u64) -> Result<(), surefoot::Error> {
    let mut random = Random::new(seed);
    let mut tree = Tree::with(vfs.clone())?;
    let mut transaction = tree.begin()?;
    for _ in 0..1 + random.below(5) {
        let (at, to) = (path(&mut random), path(&mut random));
        transaction = match random.below(6) {
            0 | 1 => transaction.put(at, vec![b'y'; random.below(2000) as usize].as_slice()),
            2 => transaction.remove(at),
            3 => transaction.rename(at, to),
            4 => transaction.symlink(at, to),
            _ => transaction.set_mode(at, 0o700 + random.below(0o100) as u32),
        };
    }
    transaction.commit().map(drop)
}

#[test]
fn a_random_transaction_happens_or_does_not() {
    let runs: u64 = std::env::var("SUREFOOT_RANDOM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4000);
    let results: Result<Vec<(bool, u64)>, String> = (0..runs)
        .into_par_iter()
        .map(|run| {
            let seed = seed().wrapping_mul(1_000_003).wrapping_add(run);
            let mut random = Random::new(seed);
            let profile = PROFILES[random.below(5) as usize];
            let disk = SimVfs::with(options(profile));
            tree(&mut random, &disk);
            drop(Tree::with(disk.clone()).map_err(|error| format!("run {run}: {error}"))?);
            let disk = disk.reboot_clean();
            let old = disk.snapshot();
            let whole = disk.fork();
            let done = transact(&whole, seed).is_ok();
            let new = whole.snapshot();
            if !done && new != old {
                return Err(format!("run {run} in {profile:?}: refused, but changed: {:?}", new.difference(&old)));
            }
            let mut judged = 0;
            for _ in 0..6 {
                let vfs = disk.fork();
                let crash_at = random.below(whole.calls() + 1);
                vfs.crash_at(crash_at);
                let promised = transact(&vfs, seed).is_ok();
                let (images, _) = vfs.crash_images(&Budget::sample(4, seed));
                for image in images {
                    judged += 1;
                    let after = image.mount();
                    let context =
                        || format!("run {run}, seed {seed}, {profile:?}, call {crash_at}, {}", image.choice());
                    Tree::with(after.clone()).map_err(|error| format!("{}: {error}", context()))?;
                    let now = after.snapshot();
                    if now != new && (promised || now != old) {
                        return Err(format!("{}: {:?} | {:?}", context(), now.difference(&old), now.difference(&new)));
                    }
                }
            }
            Ok((done, judged))
        })
        .collect();
    let results = results.unwrap_or_else(|failure| panic!("{failure}"));
    let done = results.iter().filter(|(done, _)| *done).count();
    let judged: u64 = results.iter().map(|(_, judged)| judged).sum();
    println!("random transactions: {runs} runs, {done} of them carried out, {judged} states, seed {}", seed());
    assert!(done as u64 > runs / 10, "{done} of {runs}");
}

/// Taking a tree under care is interrupted as well: afterwards it is under care, or can be taken again.
#[test]
fn init_is_cut_at_every_call() {
    for profile in PROFILES {
        let disk = SimVfs::with(options(profile));
        disk.write_file("a", "a");
        let old = disk.snapshot();
        let whole = disk.fork();
        drop(Tree::with(whole.clone()).unwrap());
        for crash_at in 0..=whole.calls() {
            let vfs = disk.fork();
            vfs.crash_at(crash_at);
            let _ = Tree::with(vfs.clone());
            vfs.for_each_crash_image(&Budget { pairs_up_to: 0, ..Budget::default() }, &mut |image| {
                let after = image.mount();
                let context = format!("{profile:?}, call {crash_at}, {}", image.choice());
                let mut tree =
                    Tree::with(after.clone()).unwrap_or_else(|error| panic!("{context}: {error}: {error:?}"));
                tree.begin()
                    .and_then(|t| t.put("b", &b"b"[..]).commit())
                    .unwrap_or_else(|error| panic!("{context}: {error:?}"));
                tree.rollback().unwrap_or_else(|error| panic!("{context}: {error:?}"));
                drop(tree);
                assert!(after.snapshot() == old, "{context}");
            });
        }
    }
}

/// A content that was put and then removed again had left its slot taken: a removal got the same slot, and what was
/// removed could be neither stored there nor brought back. The transaction was stuck for good.
#[test]
fn a_content_that_is_dropped_again_keeps_its_slot() {
    let disk = SimVfs::new();
    disk.write_file("a", "a").write_file("z", "z");
    let old = disk.snapshot();
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().put("z", &b"new"[..]).remove("z").make_dir("d").commit().unwrap();
    assert!(!disk.exists("z") && disk.exists("d"));
    tree.rollback().unwrap();
    assert!(disk.snapshot() == old);
}

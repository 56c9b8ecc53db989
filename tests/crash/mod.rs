//! Cutting the power at every call, in every profile, and judging every state that it may leave.

mod barriers;
mod damage;
mod decisions;
mod explorer;
mod faults;
mod guards;
mod kept;
mod nested;
mod oracle;
mod preflight;
mod random;
mod regressions;
mod sample;
mod split;
mod strangers;
mod workload;

use oracle::{ACTS, Act, Promise, judge, perform};
use rayon::prelude::*;
use std::sync::Mutex;
use surefoot::crashtest::{Explorer, Tally};
use surefoot::vfs::sim::{Budget, Options, Profile};
use workload::{LOCKED, MANY, Prepared, READ_ONLY, WORKLOADS, Workload};

/// The profiles in which a rename is atomic. (In `Split` it is not, and preflight refuses such file systems.)
const PROFILES: [Profile; 5] = Profile::ATOMIC;

fn seed() -> u64 {
    std::env::var("SUREFOOT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// A small generator whose numbers repeat with its seed (splitmix64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

fn options(profile: Profile) -> Options {
    Options { profile, seed: seed(), ..Options::default() }
}

fn sweep_one(workload: &Workload, act: Act, options: Options, budget: &Budget) -> Result<Tally, String> {
    let profile = options.profile;
    let prepared = Prepared::new(workload, options);
    let (promise, error) = perform(act, &prepared, &prepared.disk.fork());
    if let Some(error) = error {
        return Err(format!(
            "{} {act:?} in {profile:?} fails without a crash after {promise:?}: {error:?}",
            workload.name
        ));
    }
    Explorer::on(prepared.disk.fork())
        .budget(budget.clone())
        .run(|vfs| perform(act, &prepared, vfs).0)
        .judge(|vfs, promise| judge(&prepared, vfs, *promise))
        .map_err(|violation| format!("{} {act:?} in {profile:?}, seed {}: {violation}", workload.name, seed()))
}

/// Sweeps everything of a list of cases on all cores, up to the first violation; prints what was judged.
fn sweep_all(title: &str, cases: Vec<(Workload, Act, Options, Budget)>) -> Tally {
    let total = Mutex::new(Tally::default());
    let failure = cases.par_iter().find_map_any(|(workload, act, options, budget)| {
        match sweep_one(workload, *act, options.clone(), budget) {
            Ok(tally) => {
                *total.lock().unwrap() += tally;
                None
            }
            Err(failure) => Some(failure),
        }
    });
    let total = total.into_inner().unwrap();
    println!("{title}: seed {}, {total:?}", seed());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    total
}

#[test]
fn every_call_of_every_workload_is_a_crash_point() {
    let budget = Budget { seed: seed(), ..Budget::default() };
    let mut cases = Vec::new();
    // The hardest first: whoever breaks something sees it soon.
    for profile in PROFILES.into_iter().rev() {
        for act in ACTS {
            for workload in WORKLOADS {
                cases.push((*workload, act, options(profile), budget.clone()));
            }
        }
    }
    let tally = sweep_all("every call", cases);
    assert!(tally.states > 1_000_000 && tally.distinct > 100_000, "{tally:?}");
    assert_eq!(tally.crash_points, tally.moments, "every call is a crash point");
}

#[test]
fn three_hundred_files() {
    let budget = Budget { systematic: false, random: 2, seed: seed(), ..Budget::default() };
    let cases = [Profile::Somc, Profile::PerInode, Profile::Posix]
        .into_iter()
        .flat_map(|profile| [Act::Apply, Act::Reject].map(|act| (MANY, act, options(profile), budget.clone())))
        .collect();
    sweep_all("300 files", cases);
}

/// A file system without exchange, without hard links, or whose sync does not report every error: other calls, same
/// promise.
#[test]
fn poorer_file_systems_keep_the_promise() {
    let budget = Budget { pairs_up_to: 0, seed: seed(), ..Budget::default() };
    let mut cases = Vec::new();
    for workload in WORKLOADS {
        let hard_links = workload.name != "hard-link group";
        for act in ACTS {
            for profile in [Profile::Somc, Profile::Posix] {
                let without_exchange = Options { exchange: false, ..options(profile) };
                cases.push((*workload, act, without_exchange, budget.clone()));
                let poorer =
                    Options { hard_links: !hard_links, sync_all_reports: false, reflink: true, ..options(profile) };
                cases.push((*workload, act, poorer, budget.clone()));
            }
        }
    }
    sweep_all("poorer file systems", cases);
}

/// A user who is not root may not write to some directories that he owns: they are opened, and closed again whatever
/// happens.
#[test]
fn directories_that_their_owner_may_not_write_to() {
    let budget = Budget { pairs_up_to: 0, random: 8, seed: seed(), ..Budget::default() };
    let mut cases = Vec::new();
    for act in ACTS {
        for profile in [Profile::Somc, Profile::Posix] {
            for exchange in [true, false] {
                cases.push((LOCKED, act, Options { user: 1000, exchange, ..options(profile) }, budget.clone()));
            }
        }
    }
    let tally = sweep_all("directories that may not be written to", cases);
    assert!(tally.crash_points > 1000, "{tally:?}");
}

/// The kernel takes attributes of users for content: of what its owner may not write to he may not set them either.
#[test]
fn attributes_of_what_their_owner_may_not_write_to() {
    let budget = Budget { pairs_up_to: 0, random: 8, seed: seed(), ..Budget::default() };
    let mut cases = Vec::new();
    for act in ACTS {
        for profile in PROFILES {
            for (exchange, hard_links) in [(true, true), (false, true), (false, false)] {
                let options = Options { user: 1000, exchange, hard_links, ..options(profile) };
                cases.push((READ_ONLY, act, options, budget.clone()));
            }
        }
    }
    let tally = sweep_all("attributes of what may not be written to", cases);
    assert!(tally.crash_points > 1000, "{tally:?}");
}

//! A little of every sweep, in seconds: what is broken coarsely shows here.

use super::oracle::{ACTS, Promise, judge, present, recover};
use super::workload::{LOCKED, Prepared, READ_ONLY, WORKLOADS};
use super::{options, seed, sweep_all};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use surefoot::crashtest::Explorer;
use surefoot::device::{Engine, Settings, peek};
use surefoot::transaction::Recovery;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Options, Profile};

/// Every workload and act on the disk that promises least, and on one that does it all without exchange or links.
#[test]
fn a_few_states_of_every_call() {
    let budget = Budget::sample(2, seed());
    let mut cases = Vec::new();
    for act in ACTS {
        for workload in WORKLOADS.iter().chain([&LOCKED, &READ_ONLY]) {
            let user = if [LOCKED.name, READ_ONLY.name].contains(&workload.name) { 1000 } else { 0 };
            let rich = Options { user, ..options(Profile::Posix) };
            let hard_links = workload.name == "hard-link group";
            let poor = Options { exchange: false, hard_links, sync_all_reports: false, ..rich.clone() };
            cases.extend([rich, poor].map(|options| (*workload, act, options, budget.clone())));
        }
    }
    let tally = sweep_all("a sample", cases);
    assert!(tally.states > 10_000, "{tally:?}");
}

/// Whoever asks for it gets the old version back from every crash between the first step and the last.
#[test]
fn recovery_that_is_to_go_back_goes_back() {
    let went_back: u64 = WORKLOADS
        .par_iter()
        .map(|workload| {
            let prepared = Prepared::new(workload, options(Profile::Posix));
            let settings = Settings { recovery: Recovery::Backward, ..Settings::default() };
            let run = |disk: &SimVfs| {
                let done = prepared.apply(&mut Engine::open(disk.clone()).unwrap(), settings.clone()).is_ok();
                if done { Promise::New } else { Promise::Nothing }
            };
            let went_back = AtomicU64::new(0);
            let judged = |disk: &SimVfs, promise: &Promise| {
                let is_applying = peek(disk).map_err(|error| error.to_string())?.0.state == "applying";
                let uncut = disk.fork();
                judge(&prepared, &uncut, *promise)?;
                if is_applying {
                    went_back.fetch_add(1, Ordering::Relaxed);
                    present(&prepared, &uncut, Promise::Old, &recover(&uncut)?)?;
                }
                Ok(())
            };
            Explorer::on(prepared.disk.fork())
                .budget(Budget::sample(2, seed()))
                .run(run)
                .judge(judged)
                .unwrap_or_else(|violation| panic!("{}, seed {}: {violation}", workload.name, seed()));
            went_back.into_inner()
        })
        .sum();
    println!("recovery backward: {went_back} states while steps were taken, seed {}", seed());
    assert!(went_back > 100, "{went_back}");
}

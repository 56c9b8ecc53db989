//! The power fails again while recovery is at work, and again while that is recovered.

use super::oracle::{ACTS, Promise, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{PROFILES, options, seed};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use surefoot::crashtest::judge_images;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Profile};

/// What recovery may promise: once it has gone back, or gone forward, that holds.
fn recovered_promise(result: &Result<surefoot::device::Status, String>, promise: Promise) -> Promise {
    match result {
        Ok(status) if status.state == "idle" && status.version == "2.0.0" => Promise::New,
        Ok(status) if status.state == "idle" && status.version == "1.0.0" => Promise::Old,
        // Enough boots without a decision end a trial.
        _ if promise == Promise::Trial => Promise::Nothing,
        _ => promise,
    }
}

/// Depth 2: recovery of a sample of the images of every crash point is cut at every call.
#[test]
fn recovery_is_cut_at_every_call() {
    let judged = AtomicU64::new(0);
    let failures: Vec<String> = WORKLOADS
        .par_iter()
        .flat_map(|workload| ACTS.par_iter().map(move |act| (workload, *act)))
        .flat_map(|(workload, act)| {
            [Profile::Somc, Profile::PerInode, Profile::Posix]
                .into_par_iter()
                .map(move |profile| (workload, act, profile))
        })
        .filter_map(|(workload, act, profile)| {
            let prepared = Prepared::new(workload, options(profile));
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let mut outer_seen = HashSet::new();
            for at in 0..=whole.calls() {
                let vfs = prepared.disk.fork();
                vfs.crash_at(at);
                let promise = perform(act, &prepared, &vfs).0;
                let (images, _) = vfs.crash_images(&Budget::sample(1, seed() + at));
                for image in images {
                    if !outer_seen.insert((image.hash(), promise as u8)) {
                        continue;
                    }
                    let uncut = image.mount();
                    let _ = recover(&uncut);
                    let mut seen = HashSet::new();
                    for inner in 0..uncut.calls() {
                        let disk = image.mount();
                        disk.crash_at(inner);
                        let promise = recovered_promise(&recover(&disk), promise);
                        let mut tally = Default::default();
                        let result = judge_images(
                            &disk,
                            inner,
                            &promise,
                            &|disk: &SimVfs, promise| judge(&prepared, disk, *promise),
                            &Budget::sample(1, seed() + inner),
                            &mut seen,
                            &mut tally,
                        );
                        judged.fetch_add(tally.distinct, Ordering::Relaxed);
                        if let Err(violation) = result {
                            return Some(format!(
                                "{} {act:?} in {profile:?}, seed {}, cut at {at} ({}), recovery cut: {violation}",
                                workload.name,
                                seed(),
                                image.choice()
                            ));
                        }
                    }
                }
            }
            None
        })
        .collect();
    println!("nested, depth 2: seed {}, {} states judged", seed(), judged.load(Ordering::Relaxed));
    assert!(failures.is_empty(), "{} violations:\n{}", failures.len(), failures.join("\n"));
}

/// Depth 5: five random cuts in a row, then one uninterrupted recovery.
#[test]
fn five_cuts_in_a_row() {
    let runs = 3000;
    let failures: Vec<String> = (0..runs)
        .into_par_iter()
        .filter_map(|run: u64| {
            let mut random = super::Random::new(seed() + run);
            let mut below = |n: u64| random.below(n);
            let workload = &WORKLOADS[below(WORKLOADS.len() as u64) as usize];
            let act = ACTS[below(4) as usize];
            let profile = PROFILES[below(5) as usize];
            let prepared = Prepared::new(workload, options(profile));
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let mut disk = prepared.disk.fork();
            disk.crash_at(below(whole.calls() + 1));
            let mut promise = perform(act, &prepared, &disk).0;
            let mut story = Vec::new();
            for depth in 0..4 {
                let (images, _) = disk.crash_images(&Budget::sample(3, seed() + run + depth));
                let image = &images[below(images.len() as u64) as usize];
                story.push(image.choice().to_string());
                disk = image.mount();
                disk.crash_at(below(40));
                promise = recovered_promise(&recover(&disk), promise);
            }
            let (images, _) = disk.crash_images(&Budget::sample(3, seed() + run));
            images.iter().find_map(|image| {
                let result = judge(&prepared, &image.mount(), promise);
                result.err().map(|message| {
                    format!(
                        "run {run}, seed {}: {} {act:?} in {profile:?}: {story:?}: {message}",
                        seed(),
                        workload.name
                    )
                })
            })
        })
        .collect();
    println!("nested, depth 5: seed {}, {runs} runs", seed());
    assert!(failures.is_empty(), "{} violations:\n{}", failures.len(), failures.join("\n"));
}

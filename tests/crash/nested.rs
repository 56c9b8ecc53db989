//! The power fails again while recovery is at work, and again while that is recovered.

use super::oracle::{ACTS, Act, Promise, judge, perform, recover};
use super::workload::{Prepared, WORKLOADS, Workload};
use super::{PROFILES, options, seed};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use surefoot::crashtest::{Tally, judge_images};
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Profile};

/// The workloads of at most three steps that differ in kind: removal and replacement, metadata, one new object.
const SMALL: [&str; 3] = ["removal first", "mode only", "zero-byte file"];

/// What recovery may promise: once it has gone back, or gone forward, that holds.
pub(super) fn recovered_promise(result: &Result<surefoot::device::Status, String>, promise: Promise) -> Promise {
    match result {
        Ok(status) if status.state == "idle" && status.version == "2.0.0" => Promise::New,
        Ok(status) if status.state == "idle" && status.version == "1.0.0" => Promise::Old,
        // Enough boots without a decision end a trial.
        _ if promise == Promise::Trial => Promise::Nothing,
        _ => promise,
    }
}

/// Cuts recovery at every call, of every state that the outer budget finds at every crash point of an act. What was
/// judged with the same promise before, from whatever outer state, is not judged again. Gives the outer and the inner
/// states.
fn cut_recovery(prepared: &Prepared, act: Act, outer: &Budget, inner: &Budget) -> Result<(u64, u64), String> {
    let whole = prepared.disk.fork();
    perform(act, prepared, &whole);
    let mut outer_seen = HashSet::new();
    let mut seen: HashMap<u8, HashSet<u128>> = HashMap::new();
    let mut judged = 0;
    for at in 0..=whole.calls() {
        let vfs = prepared.disk.fork();
        vfs.crash_at(at);
        let promise = perform(act, prepared, &vfs).0;
        let budget = Budget { seed: outer.seed + at, ..outer.clone() };
        let mut failure = None;
        vfs.for_each_crash_image(&budget, &mut |image| {
            if failure.is_some() || !outer_seen.insert((image.hash(), promise as u8)) {
                return;
            }
            let uncut = image.mount();
            let _ = recover(&uncut);
            for cut in 0..uncut.calls() {
                let disk = image.mount();
                disk.crash_at(cut);
                let promise = recovered_promise(&recover(&disk), promise);
                let mut tally = Tally::default();
                let result = judge_images(
                    &disk,
                    cut,
                    &promise,
                    &|disk: &SimVfs, promise| judge(prepared, disk, *promise),
                    &Budget { seed: inner.seed + cut, ..inner.clone() },
                    seen.entry(promise as u8).or_default(),
                    &mut tally,
                );
                judged += tally.distinct;
                if let Err(violation) = result {
                    let choice = image.choice();
                    failure = Some(format!("cut at {at} ({choice}), recovery cut: {violation}"));
                    return;
                }
            }
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok((outer_seen.len() as u64, judged))
}

/// Cuts recovery in every case of some workloads; prints and gives the outer and the inner states.
fn cut_all(title: &str, workloads: &[Workload], outer: &Budget, inner: &Budget) -> (u64, u64) {
    let profiles = [Profile::Somc, Profile::PerInode, Profile::Posix];
    let mut cases = Vec::new();
    for workload in workloads {
        cases.extend(ACTS.into_iter().flat_map(|act| profiles.map(|profile| (workload, act, profile))));
    }
    let results: Result<Vec<(u64, u64)>, String> = cases
        .into_par_iter()
        .with_max_len(1)
        .map(|(workload, act, profile)| {
            let prepared = Prepared::new(workload, options(profile));
            cut_recovery(&prepared, act, outer, inner)
                .map_err(|failure| format!("{} {act:?} in {profile:?}, seed {}, {failure}", workload.name, seed()))
        })
        .collect();
    let results = results.unwrap_or_else(|failure| panic!("{failure}"));
    let sum = results.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{title}: seed {}, {} outer states, {} judged", seed(), sum.0, sum.1);
    sum
}

/// Depth 2: recovery of a sample of the states of every crash point is cut at every call, for every workload.
#[test]
fn recovery_is_cut_at_every_call() {
    let sample = Budget::sample(1, seed());
    let (_, judged) = cut_all("nested, depth 2, sampled", WORKLOADS, &sample, &sample);
    assert!(judged > 10_000);
}

/// Depth 2, exhaustive: every state of every crash point of small plans, and recovery of each cut at every call.
#[test]
fn recovery_of_every_state_of_small_plans_is_cut_at_every_call() {
    let small: Vec<Workload> = WORKLOADS.iter().filter(|workload| SMALL.contains(&workload.name)).copied().collect();
    assert_eq!(small.len(), SMALL.len());
    let outer = Budget { seed: seed(), ..Budget::default() };
    let inner = Budget { pairs_up_to: 0, random: 2, torn_writes: 1, seed: seed(), ..Budget::default() };
    let (states, judged) = cut_all("nested, depth 2, exhaustive", &small, &outer, &inner);
    assert!(states > 5_000 && judged > 5_000, "{states} {judged}");
}

/// The process is killed while the machine runs on, so the next one reads what is in the cache only; then the power
/// fails while that one resumes. Whoever resumes without a barrier builds on what the disk never had.
#[test]
fn a_process_is_killed_and_the_power_fails_while_the_next_one_resumes() {
    let judged = AtomicU64::new(0);
    let failure = WORKLOADS
        .par_iter()
        .flat_map(|workload| ACTS.par_iter().map(move |act| (workload, *act)))
        .flat_map(|(workload, act)| {
            [Profile::PerInode, Profile::Posix].into_par_iter().map(move |p| (workload, act, p))
        })
        .find_map_any(|(workload, act, profile)| {
            let prepared = Prepared::new(workload, options(profile));
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let mut seen: HashMap<u8, HashSet<u128>> = HashMap::new();
            for at in 0..whole.calls() {
                let vfs = prepared.disk.fork();
                vfs.crash_at(at);
                let promise = perform(act, &prepared, &vfs).0;
                let killed = vfs.revive();
                let uncut = killed.fork();
                let _ = recover(&uncut);
                for inner in killed.calls()..=uncut.calls() {
                    let disk = killed.fork();
                    disk.crash_at(inner);
                    let promise = recovered_promise(&recover(&disk), promise);
                    let mut tally = Tally::default();
                    let result = judge_images(
                        &disk,
                        inner,
                        &promise,
                        &|disk: &SimVfs, promise| judge(&prepared, disk, *promise),
                        &Budget::sample(1, seed() + inner),
                        seen.entry(promise as u8).or_default(),
                        &mut tally,
                    );
                    judged.fetch_add(tally.distinct, Ordering::Relaxed);
                    if let Err(violation) = result {
                        let name = workload.name;
                        return Some(format!(
                            "{name} {act:?} in {profile:?}, seed {}, killed at {at}: {violation}",
                            seed()
                        ));
                    }
                }
            }
            None
        });
    println!("killed, then cut: seed {}, {} states judged", seed(), judged.load(Ordering::Relaxed));
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    assert!(judged.into_inner() > 1000);
}

/// Depth 5: five random cuts in a row, then one uninterrupted recovery.
#[test]
fn five_cuts_in_a_row() {
    let runs = 3000;
    let failure: Option<String> = (0..runs).into_par_iter().find_map_any(|run: u64| {
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
                format!("run {run}, seed {}: {} {act:?} in {profile:?}: {story:?}: {message}", seed(), workload.name)
            })
        })
    });
    println!("nested, depth 5: seed {}, {runs} runs", seed());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

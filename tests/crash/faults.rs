//! Errors of the system: every call fails with every error, then the power may fail as well.

use super::oracle::{Act, Promise, judge, perform, present, recover};
use super::workload::{Prepared, WORKLOADS, Workload};
use super::{options, seed};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::Mutex;
use surefoot::crashtest::{Tally, judge_images};
use surefoot::error::Advice;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Errno, Faults, Options, Profile, Repeat, When};

const ERRORS: [Errno; 9] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::ROFS,
    Errno::INTR,
    Errno::NOMEM,
    Errno::MFILE,
    Errno::ACCESS,
    Errno::XDEV,
];

fn by_name(name: &str) -> Workload {
    *WORKLOADS.iter().find(|workload| workload.name == name).unwrap()
}

/// What the answer of an act allows, besides what it had promised before.
fn check_answer(
    prepared: &Prepared,
    vfs: &SimVfs,
    promise: Promise,
    error: Option<&surefoot::Error>,
) -> Result<(), String> {
    let tree = prepared.snapshot(vfs);
    let is = |what: &str, holds: bool| if holds { Ok(()) } else { Err(format!("answered {error:?}, but {what}")) };
    match (promise, error.map(surefoot::Error::advice)) {
        (_, Some(Advice::Undecided)) => Ok(()),
        (Promise::Nothing, Some(Advice::RolledBack)) => is("the old tree is not back", tree == prepared.old),
        (Promise::Nothing, Some(_)) => is("the tree was changed", tree == prepared.old),
        (Promise::New, None) => is("the tree is not new", tree == prepared.new),
        (Promise::Old, None) => is("the tree is not old", tree == prepared.old),
        (Promise::Trial, _) => is("the tree is not new", tree == prepared.new),
        (Promise::GoingBack, Some(_)) => is("the tree is mixed", tree == prepared.new || tree == prepared.old),
        other => Err(format!("an answer that makes no sense: {other:?}")),
    }
}

fn one_fault(prepared: &Prepared, act: Act, faults: Faults, budget: &Budget, tally: &mut Tally) -> Result<(), String> {
    let vfs = prepared.disk.fork();
    vfs.set_faults(faults);
    let (promise, error) = perform(act, prepared, &vfs);
    check_answer(prepared, &vfs, promise, error.as_ref())?;
    // The fault is over and the process starts again, without a reboot.
    let again = vfs.fork();
    again.set_faults(Faults::none());
    let undecided = error.as_ref().is_some_and(|error| error.advice() == Advice::Undecided);
    match recover(&again) {
        Ok(status) => present(prepared, &again, promise, &status)?,
        Err(message) if undecided && message.contains("apply.sync-failed") => {}
        Err(message) => return Err(format!("after {error:?}: {message}")),
    }
    // And the power may fail right then.
    judge_images(
        &vfs,
        0,
        &promise,
        &|disk, promise| judge(prepared, disk, *promise),
        budget,
        &mut HashSet::new(),
        tally,
    )
    .map_err(|violation| format!("after {error:?}: {violation}"))
}

fn run_all(title: &str, cases: Vec<(Workload, Act, Profile, bool)>, budget: &Budget) -> Tally {
    let total = Mutex::new((Tally::default(), 0));
    let failure = cases
        .par_iter()
        .find_map_any(|(workload, act, profile, exchange)| {
            let options = Options { exchange: *exchange, ..options(*profile) };
            let prepared = Prepared::new(workload, options);
            let whole = prepared.disk.fork();
            perform(*act, &prepared, &whole);
            (0..whole.all_calls())
                .into_par_iter()
                .flat_map_iter(|number| ERRORS.iter().map(move |errno| (number, *errno)))
                .flat_map_iter(|(number, errno)| {
                    [When::Before, When::After].into_iter().flat_map(move |when| {
                        [Repeat::OneShot, Repeat::Sticky].into_iter().map(move |repeat| (number, errno, when, repeat))
                    })
                })
                .find_map_any(|(number, errno, when, repeat)| {
                    let mut tally = Tally::default();
                    let faults = Faults::none().fail_call(number, errno, when, repeat);
                    let result = one_fault(&prepared, *act, faults, budget, &mut tally);
                    let mut total = total.lock().unwrap();
                    total.0 += tally;
                    total.1 += 1;
                    result.err().map(|message| {
                        format!("{} {act:?} in {profile:?}, seed {}: call {number} fails with {errno:?} {when:?} {repeat:?}: {message}", workload.name, seed())
                    })
                })
        });
    let (tally, faults) = total.into_inner().unwrap();
    println!("{title}: seed {}, {faults} faults, {tally:?}", seed());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    tally
}

#[test]
fn every_call_fails_with_every_error_and_then_the_power_fails() {
    let budget = Budget::sample(2, seed());
    let cases = vec![
        (by_name("removal first"), Act::Apply, Profile::Posix, true),
        (by_name("removal first"), Act::Reject, Profile::Somc, true),
        (by_name("mode only"), Act::Undo, Profile::PerInode, true),
        (by_name("rename chain and swap"), Act::Apply, Profile::Posix, false),
        // Without exchange the way back used to eat what a second try needs.
        (by_name("removal first"), Act::Undo, Profile::Posix, false),
        (by_name("file to directory and back"), Act::Undo, Profile::Somc, false),
    ];
    run_all("every error", cases, &budget);
}

/// fsyncgate: a failed sync marks the pages clean, and the next one reports success.
#[test]
fn a_failed_sync_is_never_followed_by_one_that_is_believed() {
    let mut stopped = 0;
    for workload in WORKLOADS {
        for act in [Act::Apply, Act::Confirm, Act::Reject, Act::Undo] {
            for profile in [Profile::Somc, Profile::Posix] {
                let prepared = Prepared::new(workload, options(profile));
                let whole = prepared.disk.fork();
                perform(act, &prepared, &whole);
                for number in 0..whole.syncs() {
                    let vfs = prepared.disk.fork();
                    vfs.set_faults(Faults::none().fail_sync(number));
                    let (promise, error) = perform(act, &prepared, &vfs);
                    let context = format!("{} {act:?} in {profile:?}, sync {number}, seed {}", workload.name, seed());
                    let error = error.unwrap_or_else(|| panic!("{context}: nobody noticed"));
                    assert_eq!(error.code().as_str(), "apply.sync-failed", "{context}: {error:?}");
                    // In the same boot every process stops.
                    let syncs = vfs.syncs();
                    let message = recover(&vfs).expect_err(&context);
                    assert!(message.contains("apply.sync-failed"), "{context}: {message}");
                    assert_eq!(vfs.syncs(), syncs, "{context}: synced again and hoped");
                    stopped += 1;
                    // After a boot the disk decides.
                    let mut tally = Tally::default();
                    let judge = |disk: &SimVfs, promise: &Promise| judge(&prepared, disk, *promise);
                    judge_images(&vfs, number, &promise, &judge, &Budget::default(), &mut HashSet::new(), &mut tally)
                        .unwrap_or_else(|violation| panic!("{context}: {violation}"));
                }
            }
        }
    }
    println!("failed syncs: {stopped}, seed {}", seed());
    assert!(stopped > 200);
}

/// Where a sync of everything does not report its errors it loses data in silence: of the journal, the plan, of what was
/// stored. Whatever is lost so, nothing that was said is untrue, and the tree is old or new.
#[test]
fn a_sync_of_everything_that_fails_in_silence_loses_nothing_that_counts() {
    let cases: Vec<_> = WORKLOADS
        .iter()
        .flat_map(|workload| Act::ALL.map(|act| (workload, act)))
        .flat_map(|(workload, act)| [(true, true), (false, false)].map(|how| (workload, act, how)))
        .collect();
    let (silent, told) = cases
        .into_par_iter()
        .filter(|(workload, _, (exchange, _))| *exchange || workload.name != "hard-link group")
        .map(|(workload, act, (exchange, hard_links))| {
            let poorer = Options { sync_all_reports: false, exchange, hard_links, ..options(Profile::Posix) };
            let prepared = Prepared::new(workload, poorer);
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let (mut silent, mut told) = (0, 0);
            for number in 0..whole.syncs() {
                let vfs = prepared.disk.fork();
                vfs.set_faults(Faults::none().fail_sync(number));
                let (promise, error) = perform(act, &prepared, &vfs);
                let context = format!("{} {act:?}, exchange {exchange}, sync {number}, seed {}", workload.name, seed());
                match error {
                    None => silent += 1,
                    Some(error) => {
                        assert_eq!(error.code().as_str(), "apply.sync-failed", "{context}: {error:?}");
                        told += 1;
                    }
                }
                let mut tally = Tally::default();
                let judge = |disk: &SimVfs, promise: &Promise| judge(&prepared, disk, *promise);
                let budget = Budget::sample(4, seed());
                judge_images(&vfs, number, &promise, &judge, &budget, &mut HashSet::new(), &mut tally)
                    .unwrap_or_else(|violation| panic!("{context}: {violation}"));
            }
            (silent, told)
        })
        .reduce(|| (0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("syncs that fail where not all report: {silent} in silence, {told} told, seed {}", seed());
    assert!(silent > 200 && told > 200, "{silent} {told}");
}

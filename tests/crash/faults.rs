//! Errors of the system: every call fails with every error, then the power may fail as well.

use super::nested::recovered_promise;
use super::oracle::{ACTS, Act, Promise, judge, perform, present, recover};
use super::workload::{Prepared, WORKLOADS, Workload};
use super::{PROFILES, Random, options, seed};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fmt;
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

/// How a call fails.
type Kind = (Errno, When, Repeat);

/// Every way in which a call may fail.
fn kinds() -> Vec<Kind> {
    let whens = [When::Before, When::After].into_iter();
    let how = whens.flat_map(|when| [Repeat::OneShot, Repeat::Sticky].map(|repeat| (when, repeat)));
    how.flat_map(|(when, repeat)| ERRORS.map(|errno| (errno, when, repeat))).collect()
}

/// Some of these ways.
fn drawn(random: &mut Random, count: u64) -> Vec<Kind> {
    let kinds = kinds();
    (0..count).map(|_| kinds[random.below(kinds.len() as u64) as usize]).collect()
}

fn fault(number: u64, (errno, when, repeat): Kind) -> Faults {
    Faults::none().fail_call(number, errno, when, repeat)
}

/// An act on a disk, of which calls fail.
struct Case {
    workload: Workload,
    act: Act,
    options: Options,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, act, options: Options { profile, exchange, sync_all_reports, .. } } = self;
        write!(f, "{} {act:?} in {profile:?}, exchange {exchange}, sync reports {sync_all_reports}", workload.name)
    }
}

/// Every act of every workload, each on a disk that is drawn for it.
fn every_act() -> Vec<Case> {
    let mut random = Random::new(seed());
    let acts = WORKLOADS.iter().flat_map(|workload| ACTS.map(|act| (*workload, act)));
    let drawn = |(workload, act)| {
        let profile = PROFILES[random.below(PROFILES.len() as u64) as usize];
        let (exchange, sync_all_reports) = (random.below(3) > 0, random.below(3) > 0);
        Case { workload, act, options: Options { exchange, sync_all_reports, ..options(profile) } }
    };
    acts.map(drawn).collect()
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

/// One case, made ready, and what was tried of it.
struct Trial<'a> {
    prepared: Prepared,
    act: Act,
    budget: &'a Budget,
    faults: u64,
    tally: Tally,
}

impl Trial<'_> {
    /// The power fails now: every state that this may leave is judged.
    fn cut(&mut self, vfs: &SimVfs, promise: Promise) -> Result<(), String> {
        let judge = |disk: &SimVfs, promise: &Promise| judge(&self.prepared, disk, *promise);
        judge_images(vfs, vfs.calls(), &promise, &judge, self.budget, &mut HashSet::new(), &mut self.tally)
            .map_err(|violation| violation.to_string())
    }

    /// A call of the act fails.
    fn fail(&mut self, faults: Faults) -> Result<(), String> {
        self.faults += 1;
        let vfs = self.prepared.disk.fork();
        vfs.set_faults(faults);
        let (promise, error) = perform(self.act, &self.prepared, &vfs);
        check_answer(&self.prepared, &vfs, promise, error.as_ref())?;
        // The fault is over and the process starts again, without a reboot.
        let again = vfs.fork();
        again.set_faults(Faults::none());
        let undecided = error.as_ref().is_some_and(|error| error.advice() == Advice::Undecided);
        match recover(&again) {
            Ok(status) => present(&self.prepared, &again, promise, &status)?,
            Err(message) if undecided && message.contains("apply.sync-failed") => {}
            Err(message) => return Err(format!("after {error:?}: {message}")),
        }
        self.cut(&vfs, promise).map_err(|violation| format!("after {error:?}: {violation}"))
    }

    /// A call of the act fails, and at a later one the power, whatever that call is by then.
    fn fail_and_cut(&mut self, faults: Faults, at: u64) -> Result<(), String> {
        self.faults += 1;
        let vfs = self.prepared.disk.fork();
        vfs.set_faults(faults);
        vfs.crash_at(at);
        let promise = perform(self.act, &self.prepared, &vfs).0;
        self.cut(&vfs, promise).map_err(|violation| format!("then the power at {at}: {violation}"))
    }

    /// A call of recovery fails. Then it runs again, or the power fails first.
    fn fail_recovery(&mut self, disk: &SimVfs, promise: Promise, faults: Faults) -> Result<(), String> {
        self.faults += 1;
        let vfs = disk.fork();
        vfs.set_faults(faults);
        let first = recover(&vfs);
        let promise = recovered_promise(&first, promise);
        let again = vfs.fork();
        again.set_faults(Faults::none());
        let distrusts =
            |result: &Result<_, String>| result.as_ref().is_err_and(|why| why.contains("apply.sync-failed"));
        match recover(&again) {
            Ok(status) => present(&self.prepared, &again, promise, &status)?,
            second if distrusts(&first) && distrusts(&second) => {}
            Err(message) => return Err(format!("after {first:?}: {message}")),
        }
        self.cut(&vfs, promise).map_err(|violation| format!("after {first:?}: {violation}"))
    }
}

/// Tries every case on all cores, up to the first that fails; prints and gives how many faults there were.
fn try_all(
    title: &str,
    cases: &[Case],
    budget: &Budget,
    one: impl Fn(&mut Trial<'_>) -> Result<(), String> + Sync,
) -> u64 {
    let total = Mutex::new((0, Tally::default()));
    let failure = cases.par_iter().with_max_len(1).find_map_any(|case| {
        let prepared = Prepared::new(&case.workload, case.options.clone());
        let mut trial = Trial { prepared, act: case.act, budget, faults: 0, tally: Tally::default() };
        let result = one(&mut trial);
        let mut total = total.lock().unwrap();
        total.0 += trial.faults;
        total.1 += trial.tally;
        result.err().map(|message| format!("{case}, seed {}: {message}", seed()))
    });
    let (faults, tally) = total.into_inner().unwrap();
    println!("{title}: seed {}, {faults} faults, {tally:?}", seed());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    faults
}

#[test]
fn every_call_fails_with_every_error_and_then_the_power_fails() {
    let case = |name, act, profile, exchange| {
        let workload = *WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
        Case { workload, act, options: Options { exchange, ..options(profile) } }
    };
    let cases = [
        case("removal first", Act::Apply, Profile::Posix, true),
        case("removal first", Act::Reject, Profile::Somc, true),
        case("mode only", Act::Undo, Profile::PerInode, true),
        case("rename chain and swap", Act::Apply, Profile::Posix, false),
        // Without exchange the way back used to eat what a second try needs.
        case("removal first", Act::Undo, Profile::Posix, false),
        case("file to directory and back", Act::Undo, Profile::Somc, false),
    ];
    try_all("every error", &cases, &Budget::sample(2, seed()), |trial| {
        let whole = trial.prepared.disk.fork();
        perform(trial.act, &trial.prepared, &whole);
        for number in 0..whole.all_calls() {
            for kind in kinds() {
                trial.fail(fault(number, kind)).map_err(|why| format!("call {number} fails with {kind:?}: {why}"))?;
            }
        }
        Ok(())
    });
}

/// Every call of every act of every workload fails in some way; in another way, and then the power at a later call.
#[test]
fn every_call_of_every_workload_fails_in_some_way() {
    let faults = try_all("an error everywhere", &every_act(), &Budget::sample(1, seed()), |trial| {
        let whole = trial.prepared.disk.fork();
        whole.set_options(|options| options.trace = true);
        perform(trial.act, &trial.prepared, &whole);
        let mut random = Random::new(seed());
        let (mut step, last) = (0, whole.calls());
        for call in whole.trace() {
            let number = call.number;
            step = call.step.map_or(step, |step| step + 1);
            for kind in drawn(&mut random, 1) {
                trial.fail(fault(number, kind)).map_err(|why| format!("call {number} fails with {kind:?}: {why}"))?;
            }
            let at = step + random.below(last + 1 - step);
            for kind in drawn(&mut random, 1) {
                let failed = trial.fail_and_cut(fault(number, kind), at);
                failed.map_err(|why| format!("call {number} fails with {kind:?}, {why}"))?;
            }
        }
        Ok(())
    });
    assert!(faults > 20_000, "{faults}");
}

/// Every call of recovery fails in some way: of who was killed, and of who lost the power, at moments that are drawn.
#[test]
fn every_call_of_recovery_fails_in_some_way() {
    let faults = try_all("errors of recovery", &every_act(), &Budget::sample(1, seed()), |trial| {
        let whole = trial.prepared.disk.fork();
        perform(trial.act, &trial.prepared, &whole);
        let mut random = Random::new(seed());
        for at in 0..=whole.calls() {
            if random.below(20) > 0 {
                continue;
            }
            let cut = trial.prepared.disk.fork();
            cut.crash_at(at);
            let promise = perform(trial.act, &trial.prepared, &cut).0;
            let images = cut.crash_images(&Budget::sample(2, seed() + at)).0;
            let lost = images[random.below(images.len() as u64) as usize].mount();
            for (what, disk) in [("was killed", cut.revive()), ("lost the power", lost)] {
                let uncut = disk.fork();
                let _ = recover(&uncut);
                for number in disk.all_calls()..uncut.all_calls() {
                    for kind in drawn(&mut random, 1) {
                        trial.fail_recovery(&disk, promise, fault(number, kind)).map_err(|why| {
                            format!("{what} at {at}, and call {number} of recovery fails with {kind:?}: {why}")
                        })?;
                    }
                }
            }
        }
        Ok(())
    });
    assert!(faults > 10_000, "{faults}");
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

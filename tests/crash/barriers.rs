//! Barriers: how many there are, and that each of them is missed when it is not there.

use super::oracle::{ACTS, Act, Promise, judge, perform};
use super::workload::{MANY, Prepared, WORKLOADS};
use super::{options, seed};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use surefoot::device::peek;
use surefoot::transaction::table::record_name;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Faults, Options, Profile};

/// Whether what a disk holds is what was promised.
type Judge = Box<dyn Fn(&SimVfs, Promise) -> Result<(), String> + Send + Sync>;

/// Something that is done on a disk, and what must be of whatever a cut leaves of that.
struct Case {
    what: String,
    /// Where, for people.
    of: String,
    disk: SimVfs,
    run: Box<dyn Fn(&SimVfs) -> Promise + Send + Sync>,
    judge: Judge,
}

/// A sync that a case makes.
struct Barrier {
    /// Its number among the syncs of the disk.
    number: u64,
    /// Its number among the calls that mutate or sync.
    step: u64,
}

impl Case {
    /// Every sync of the case, by what it is for: the last record of the journal, what is synced, and how many of the
    /// same come after it.
    fn syncs(&self) -> Vec<(String, Barrier)> {
        let whole = self.disk.fork();
        whole.set_options(|options| options.trace = true);
        let first = whole.syncs();
        (self.run)(&whole);
        let trace = whole.trace();
        let calls: Vec<(u64, &str)> =
            trace.iter().filter_map(|call| Some((call.step?, call.text.strip_prefix("sync ")?))).collect();
        let mut later: BTreeMap<String, u32> = BTreeMap::new();
        let mut syncs: Vec<(String, Barrier)> = Vec::new();
        for (number, (step, target)) in (first..).zip(&calls).collect::<Vec<_>>().into_iter().rev() {
            let before = self.disk.fork();
            before.crash_at(*step);
            (self.run)(&before);
            let last = peek(&before.revive()).ok().and_then(|(_, records)| records.last().map(record_name));
            let role = format!("{}, after {}: {}", self.what, last.unwrap_or("nothing"), generic(target));
            let count = later.entry(role.clone()).or_default();
            let role = if *count == 0 { role } else { format!("{role}, {count} before the last") };
            *count += 1;
            syncs.push((role, Barrier { number, step: *step }));
        }
        syncs
    }

    /// A state that is wrong if a sync is ignored.
    fn witness(&self, faults: &Faults, sync: &Barrier, budget: &Budget) -> Option<String> {
        let last = {
            let whole = self.disk.fork();
            whole.set_faults(faults.clone());
            (self.run)(&whole);
            whole.calls()
        };
        (sync.step + 1..=last).find_map(|at| {
            let cut = self.disk.fork();
            cut.set_faults(faults.clone());
            cut.crash_at(at);
            let told = (self.run)(&cut);
            let mut found = None;
            cut.for_each_crash_image(budget, &mut |image| {
                if found.is_none() {
                    let message = (self.judge)(&image.mount(), told).err();
                    found = message.map(|message| format!("{}, {}: {message}", self.of, image.choice()));
                }
            });
            found
        })
    }

    /// How the loss of a sync shows.
    fn missed(&self, sync: &Barrier) -> Option<String> {
        let budget = Budget { pairs_up_to: 0, random: 4, torn_writes: 1, seed: seed(), ..Budget::default() };
        self.witness(&Faults::none().ignore_sync(sync.number), sync, &budget)
    }
}

/// The name of what is synced, without numbers.
fn generic(target: &str) -> String {
    let is_number = |part: &str| part.len() >= 6 && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = target.split('/').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join("/")
}

/// The disks whose barriers are others.
fn disks() -> [(&'static str, Options); 2] {
    let rich = options(Profile::Posix);
    [("", rich.clone()), (" without exchange", Options { exchange: false, ..rich })]
}

/// Asserts that every sync of these cases is missed.
fn every_sync_is_missed(cases: &[Case]) {
    let mut roles: BTreeMap<String, Vec<(&Case, Barrier)>> = BTreeMap::new();
    let found: Vec<_> = cases.par_iter().map(|case| (case, case.syncs())).collect();
    for (case, syncs) in found {
        for (role, sync) in syncs {
            roles.entry(role).or_default().push((case, sync));
        }
    }
    assert!(roles.len() > 2, "{:?}", roles.keys());
    let mut nobody = BTreeSet::new();
    for (role, instances) in &roles {
        let witness = instances.par_iter().find_map_any(|(case, sync)| case.missed(sync));
        println!("{role} ({} of them): {}", instances.len(), witness.as_deref().unwrap_or("NOBODY MISSES IT"));
        if witness.is_none() {
            nobody.insert(role.as_str());
        }
    }
    println!("{} syncs, {} of them not missed, seed {}", roles.len(), nobody.len(), seed());
    assert!(nobody.is_empty(), "missed by no test: {nobody:#?}");
}

/// What is lost if a barrier is left out must be seen by somebody, on a disk with exchange and on one without.
#[test]
fn every_sync_is_missed_when_it_is_ignored() {
    let mut cases = Vec::new();
    for (name, options) in disks() {
        for workload in WORKLOADS {
            let prepared = Arc::new(Prepared::new(workload, options.clone()));
            for act in ACTS {
                let (done, checked) = (prepared.clone(), prepared.clone());
                cases.push(Case {
                    what: format!("{act}{name}"),
                    of: workload.name.into(),
                    disk: prepared.disk.fork(),
                    run: Box::new(move |disk| perform(act, &done, disk).0),
                    judge: Box::new(move |disk, told| judge(&checked, disk, told)),
                });
            }
        }
    }
    every_sync_is_missed(&cases);
}

/// At most four barriers for a transaction, whatever the number of files.
#[test]
fn barriers_do_not_grow_with_the_number_of_files() {
    for workload in [&WORKLOADS[0], &MANY] {
        for (act, expected) in [(Act::Apply, 3), (Act::Confirm, 4)] {
            let prepared = Prepared::new(workload, options(Profile::Posix));
            let disk = prepared.disk.fork();
            let (promise, error) = perform(act, &prepared, &disk);
            assert_eq!((promise, error.is_none()), (Promise::New, true), "{error:?}");
            let (file, all) = disk.barriers();
            assert_eq!(file + all, expected, "{} {act:?}: {file} of files and {all} of everything", workload.name);
        }
    }
}

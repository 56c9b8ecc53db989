//! Barriers: how many there are, and that each of them is missed when it is not there.

use super::oracle::{ACTS, Act, Promise, judge, perform};
use super::workload::{MANY, Prepared, WORKLOADS};
use super::{options, seed};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use surefoot::codec::v1::tree_digest;
use surefoot::device::{Config, Engine, Tree, peek};
use surefoot::error::Code;
use surefoot::transaction::table::record_name;
use surefoot::tree::{Walk, scan};
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
    /// Its number among the syncs of the disk, and that of the next one of everything if it is itself of one file.
    number: u64,
    next: Option<u64>,
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
        let calls = trace.iter().filter_map(|call| Some((call.step?, call.text.strip_prefix("sync ")?)));
        let mut later: BTreeMap<String, u32> = BTreeMap::new();
        let mut syncs: Vec<(String, Barrier)> = Vec::new();
        let mut of_all = None;
        for (number, (step, target)) in (first..).zip(calls).collect::<Vec<_>>().into_iter().rev() {
            let before = self.disk.fork();
            before.crash_at(step);
            (self.run)(&before);
            let last = peek(&before.revive()).ok().and_then(|(_, records)| records.last().map(record_name));
            let role = format!("{}, after {}: {}", self.what, last.unwrap_or("nothing"), generic(target));
            let count = later.entry(role.clone()).or_default();
            // There are as many slots as there are files.
            let role = match *count {
                count if count > 0 && !role.ends_with("/*") => format!("{role}, {count} before the last"),
                _ => role,
            };
            *count += 1;
            if before.pending().is_empty() {
                // It has nothing to do.
                continue;
            }
            let next = of_all.filter(|_| target != "everything");
            if target == "everything" {
                of_all = Some(number);
            }
            syncs.push((role, Barrier { number, next, step }));
        }
        syncs
    }

    /// A state that is wrong if there are these faults.
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

    /// How the loss of a sync shows when besides the next one of everything fails, where that is not told.
    fn missed_in_silence(&self, sync: &Barrier) -> Option<String> {
        let next = sync.next.filter(|_| !self.disk.options().sync_all_reports)?;
        let budget = Budget::sample(1, seed());
        let found = self.witness(&Faults::none().ignore_sync(sync.number).fail_sync(next), sync, &budget)?;
        // Without the first fault the second does no harm.
        let alone = self.witness(&Faults::none().fail_sync(next), sync, &budget);
        assert!(alone.is_none(), "{}: {alone:?}", self.what);
        Some(format!("the next one fails in silence: {found}"))
    }

    /// How the loss of a sync shows when it is ignored.
    fn missed(&self, sync: &Barrier) -> Option<String> {
        let ignored = Faults::none().ignore_sync(sync.number);
        let budget = Budget { pairs_up_to: 0, random: 4, torn_writes: 1, seed: seed(), ..Budget::default() };
        self.witness(&ignored, sync, &budget)
    }
}

/// The name of what is synced, without numbers.
fn generic(target: &str) -> String {
    let is_number = |part: &str| part.len() >= 6 && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = target.split('/').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join("/")
}

/// The disks whose barriers are others.
fn disks() -> [(&'static str, Options); 3] {
    let rich = options(Profile::Posix);
    [
        ("", rich.clone()),
        (" without exchange", Options { exchange: false, ..rich.clone() }),
        (" where a sync of everything hides its errors", Options { sync_all_reports: false, ..rich }),
    ]
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
        let witness = instances
            .par_iter()
            .find_map_any(|(case, sync)| case.missed_in_silence(sync))
            .or_else(|| instances.par_iter().find_map_any(|(case, sync)| case.missed(sync)));
        println!("{role} ({} of them): {}", instances.len(), witness.as_deref().unwrap_or("NOBODY MISSES IT"));
        if witness.is_none() {
            nobody.insert(role.as_str());
        }
    }
    println!("{} syncs, {} of them not missed, seed {}", roles.len(), nobody.len(), seed());
    assert!(nobody.is_empty(), "missed by no test: {nobody:#?}");
}

/// Everything that is promised, and what is recorded can be read.
fn judged(prepared: &Prepared, disk: &SimVfs, promise: Promise) -> Result<(), String> {
    judge(prepared, disk, promise)?;
    match Engine::open(disk.clone()).and_then(|engine| engine.expected()) {
        Ok((generation, manifest)) if generation.digest == Some(tree_digest(&manifest)) => Ok(()),
        other => Err(format!("what is recorded is not what it was: {other:?}")),
    }
}

/// What is lost if a barrier is left out must be seen by somebody, on every kind of disk.
#[test]
fn every_sync_is_missed_when_it_is_ignored() {
    let mut cases = Vec::new();
    for (name, options) in disks() {
        for (number, workload) in WORKLOADS.iter().enumerate() {
            // What a failed sync loses depends on the seed.
            let seed = seed() + number as u64;
            let prepared = Arc::new(Prepared::new(workload, Options { seed, ..options.clone() }));
            for act in ACTS {
                let (done, checked) = (prepared.clone(), prepared.clone());
                cases.push(Case {
                    what: format!("{act}{name}"),
                    of: workload.name.into(),
                    disk: prepared.disk.fork(),
                    run: Box::new(move |disk| perform(act, &done, disk).0),
                    judge: Box::new(move |disk, told| judged(&checked, disk, told)),
                });
            }
        }
    }
    every_sync_is_missed(&cases);
}

/// Of a tree that is recorded and of one that is not: afterwards it is under care, or can be taken again.
#[test]
fn every_sync_of_init_is_missed_when_it_is_ignored() {
    let mut cases = Vec::new();
    for (name, options) in disks() {
        // What a failed sync loses depends on the seed.
        for (recorded, seed) in [false, true]
            .into_iter()
            .flat_map(|recorded| (0..if options.sync_all_reports { 1 } else { 8 }).map(move |n| (recorded, seed() + n)))
        {
            let disk = SimVfs::with(Options { seed, ..options.clone() });
            disk.write_file("a", "a");
            let init = move |disk: &SimVfs| {
                let walk = Walk { policy: Config::default().policy(), state_inside: true };
                let manifest = scan(disk, &walk, &|_, _| ()).ok().filter(|_| recorded);
                Engine::init(disk.clone(), Config { keep: 7, ..Config::default() }, "1.0.0", manifest.as_ref())
            };
            let judge = move |disk: &SimVfs, promise| {
                let told = |error: surefoot::Error| format!("{error:?}");
                let engine = match Engine::open(disk.clone()) {
                    Err(error) if promise == Promise::Nothing && error.code() == Code::NotInitialised => init(disk),
                    opened => opened,
                };
                let engine = engine.map_err(told)?;
                if engine.config().keep != 7 || engine.current().map_err(told)?.version != "1.0.0" {
                    return Err("it is under care as another".into());
                }
                if engine.manifest().map_err(told)?.is_some() != recorded {
                    return Err("what it holds is forgotten".into());
                }
                drop(engine);
                let mut tree = Tree::with(disk.clone()).map_err(told)?;
                tree.begin().and_then(|next| next.put("a", &b"b"[..]).commit()).map_err(told)?;
                tree.rollback().map_err(told)?;
                if disk.read_file("a").as_deref() == Some(b"a") { Ok(()) } else { Err("it is not old".into()) }
            };
            cases.push(Case {
                what: format!("init{name}"),
                of: format!("a tree, recorded: {recorded}"),
                disk: disk.reboot_clean(),
                run: Box::new(move |disk| if init(disk).is_ok() { Promise::New } else { Promise::Nothing }),
                judge: Box::new(judge),
            });
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

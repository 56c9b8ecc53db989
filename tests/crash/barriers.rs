//! Barriers: how many there are, and that each of them is missed when it is not there.

use super::oracle::{ACTS, Act, Promise, judge, perform};
use super::workload::{MANY, Prepared, WORKLOADS};
use super::{PROFILES, options, seed};
use rayon::prelude::*;
use surefoot::crashtest::Explorer;
use surefoot::vfs::sim::{Budget, Faults, Profile};

/// The barriers of each act, in order: what is lost if one is left out must be seen by somebody.
#[test]
fn every_sync_is_missed_when_it_is_ignored() {
    let budget = Budget { seed: seed(), ..Budget::default() };
    for act in ACTS {
        let syncs = {
            let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Posix));
            let disk = prepared.disk.fork();
            perform(act, &prepared, &disk);
            disk.syncs()
        };
        for ignored in 0..syncs {
            let faults = Faults::none().ignore_sync(ignored);
            let witness = WORKLOADS.par_iter().find_map_any(|workload| {
                PROFILES.iter().find_map(|profile| {
                    let prepared = Prepared::new(workload, options(*profile));
                    Explorer::on(prepared.disk.fork())
                        .faults(faults.clone())
                        .budget(budget.clone())
                        .run(|vfs| perform(act, &prepared, vfs).0)
                        .judge(|vfs, promise| judge(&prepared, vfs, *promise))
                        .err()
                        .map(|violation| format!("{} in {profile:?}: {}", workload.name, violation.message))
                })
            });
            println!(
                "{act:?}: sync {ignored} of {syncs} ignored: {}",
                witness.as_deref().unwrap_or("NOBODY MISSES IT")
            );
            assert!(witness.is_some(), "{act:?}: sync {ignored} of {syncs} is missed by no test");
        }
    }
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

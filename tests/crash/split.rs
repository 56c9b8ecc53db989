//! A disk on which a rename may be cut: refused where it says so; where it does not, nothing false is reported and no
//! last copy destroyed.

use super::oracle::{ACTS, perform, present, recover};
use super::workload::{Prepared, WORKLOADS};
use super::{options, seed};
use rayon::prelude::*;
use std::collections::BTreeSet;
use surefoot::device::{Settings, Tree};
use surefoot::error::Code;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Options, Profile};

#[test]
fn a_disk_that_cuts_renames_is_refused() {
    let disk = SimVfs::with(Options { atomic_rename: false, ..options(Profile::Split) });
    disk.write_file("a", "a");
    let before = disk.snapshot();
    let error = Tree::with(disk.clone()).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::FileSystem, "{error}");
    // One that was taken under care before it was moved, or mounted in another way.
    let prepared = Prepared::new(&WORKLOADS[0], options(Profile::Split));
    prepared.disk.set_options(|options| options.atomic_rename = false);
    let mut engine = surefoot::device::Engine::open(prepared.disk.clone()).unwrap();
    let error = prepared.apply(&mut engine, Settings::default()).unwrap_err();
    assert_eq!(error.code(), Code::FileSystem, "{error}");
    assert!(disk.snapshot() == before && prepared.disk.snapshot() == prepared.old);
}

/// Every content that stands anywhere on the disk.
fn contents(disk: &SimVfs) -> BTreeSet<Vec<u8>> {
    let state = disk.state_listing().into_iter();
    let state = state.map(|path| if path.starts_with(".surefoot") { path } else { format!(".surefoot/{path}") });
    disk.snapshot().paths().into_iter().chain(state).filter_map(|path| disk.read_file(&path)).collect()
}

/// The contents of a tree.
fn of_tree(disk: &SimVfs) -> BTreeSet<Vec<u8>> {
    disk.snapshot().paths().into_iter().filter_map(|path| disk.read_file(&path)).collect()
}

/// Forced past the refusal: recovery says old and it is old, or new and it is new, or it stops. Where it stops it has
/// destroyed nothing, and where it ends the contents of the version that it names are all there.
#[test]
fn a_cut_rename_is_never_taken_for_old_or_new() {
    let results: Vec<Result<(u64, u64), String>> = WORKLOADS
        .par_iter()
        .flat_map(|workload| ACTS.par_iter().map(move |act| (workload, *act)))
        .map(|(workload, act)| {
            let prepared = Prepared::new(workload, options(Profile::Split));
            let mut wanted = of_tree(&prepared.disk);
            let whole = prepared.disk.fork();
            perform(act, &prepared, &whole);
            let applied = prepared.disk.fork();
            perform(super::Act::Apply, &prepared, &applied);
            wanted.extend(of_tree(&applied));
            let (mut recovered, mut stopped) = (0, 0);
            for crash_at in 0..=whole.calls() {
                let vfs = prepared.disk.fork();
                vfs.crash_at(crash_at);
                let promise = perform(act, &prepared, &vfs).0;
                let mut failure = None;
                let budget = Budget { pairs_up_to: 10, seed: seed() + crash_at, ..Budget::default() };
                vfs.for_each_crash_image(&budget, &mut |image| {
                    let disk = image.mount();
                    let before = contents(&disk);
                    let result = recover(&disk);
                    let lost: Vec<_> =
                        before.difference(&contents(&disk)).filter(|c| wanted.contains(*c)).cloned().collect();
                    let said = match result {
                        Ok(status) => {
                            recovered += 1;
                            present(&prepared, &disk, promise, &status)
                        }
                        Err(_) if !lost.is_empty() => Err(format!("stopped, but {} contents are gone", lost.len())),
                        Err(_) => {
                            stopped += 1;
                            Ok(())
                        }
                    };
                    if let (Err(message), None) = (said, &failure) {
                        failure = Some(format!(
                            "{} {act:?}, call {crash_at}, {}, seed {}: {message}",
                            workload.name,
                            image.choice(),
                            seed()
                        ));
                    }
                });
                if let Some(failure) = failure {
                    return Err(failure);
                }
            }
            Ok((recovered, stopped))
        })
        .collect();
    let failures: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    let sum = results.iter().flatten().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("renames cut: seed {}, {} recovered, {} stopped", seed(), sum.0, sum.1);
    assert!(failures.is_empty(), "{} violations, some: {:#?}", failures.len(), &failures[..failures.len().min(8)]);
    assert!(sum.0 > 1000 && sum.1 > 10, "{sum:?}");
}

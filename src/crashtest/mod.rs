//! The crash explorer: cuts the power at every call of a run on the simulated disk, and judges every state that each
//! cut may leave.
//!
//! It knows nothing of packages or transactions. A *run* is any code that works on a [`SimVfs`] and says how far it got;
//! a *judge* is any code that recovers such a disk and says what is wrong with it.

use crate::vfs::sim::{Budget, Faults, SimVfs};
use std::collections::HashSet;
use std::fmt;

/// A run: works on the disk until it is done or the power fails, and gives what it had promised its caller by then.
pub type Run<'a, P> = &'a (dyn Fn(&SimVfs) -> P + Sync);

/// A judge: is this disk, just booted, what it may be after these promises?
pub type Judge<'a, P> = &'a (dyn Fn(&SimVfs, &P) -> Result<(), String> + Sync);

/// How many states were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Moments at which the power was cut.
    pub crash_points: u64,
    /// States that the model allows at these moments.
    pub states: u64,
    /// Those of them that differ within their moment, and were judged.
    pub judged: u64,
    /// Those of the judged that no earlier moment had left just so.
    pub distinct: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.crash_points += other.crash_points;
        self.states += other.states;
        self.judged += other.judged;
        self.distinct += other.distinct;
    }
}

/// A state that broke a promise, and how to get there again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The mutating or syncing call, counted from 0, at which the power was cut.
    pub crash_at: u64,
    /// Which of the pending effects survived.
    pub choice: String,
    /// What the judge said.
    pub message: String,
    /// What was pending.
    pub pending: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "power cut at call {}, {}: {}", self.crash_at, self.choice, self.message)?;
        self.pending.iter().enumerate().try_for_each(|(number, effect)| writeln!(f, "  pending {number}: {effect}"))
    }
}

/// Cuts the power at every call of a run and judges what each cut may leave.
///
/// `disk` is the disk before the run; `faults` happen in every run. States that were judged with the same promises
/// before are not judged again, but counted.
pub fn sweep<P: PartialEq + Clone>(
    disk: &SimVfs,
    faults: &Faults,
    run: Run<'_, P>,
    judge: Judge<'_, P>,
    budget: &Budget,
) -> Result<Tally, Box<Violation>> {
    let whole = disk.fork();
    whole.set_faults(faults.clone());
    run(&whole);
    let mut tally = Tally::default();
    let mut seen: Vec<(P, HashSet<u128>)> = Vec::new();
    for crash_at in 0..=whole.calls() {
        let vfs = disk.fork();
        vfs.set_faults(faults.clone());
        vfs.crash_at(crash_at);
        let promised = run(&vfs);
        tally.crash_points += 1;
        let known = match seen.iter().position(|(promise, _)| *promise == promised) {
            Some(at) => at,
            None => {
                seen.push((promised.clone(), HashSet::new()));
                seen.len() - 1
            }
        };
        judge_images(&vfs, crash_at, &promised, judge, budget, &mut seen[known].1, &mut tally)?;
    }
    Ok(tally)
}

/// Judges what a cut at this moment may leave.
pub fn judge_images<P>(
    vfs: &SimVfs,
    crash_at: u64,
    promised: &P,
    judge: Judge<'_, P>,
    budget: &Budget,
    seen: &mut HashSet<u128>,
    tally: &mut Tally,
) -> Result<(), Box<Violation>> {
    let mut violation = None;
    let counts = vfs.for_each_crash_image(budget, &mut |image| {
        if violation.is_some() || !seen.insert(image.hash()) {
            return;
        }
        tally.distinct += 1;
        if let Err(message) = judge(&image.mount(), promised) {
            let choice = image.choice().to_string();
            violation = Some(Box::new(Violation { crash_at, choice, message, pending: vfs.pending() }));
        }
    });
    tally.states += counts.generated as u64;
    tally.judged += counts.distinct as u64;
    violation.map_or(Ok(()), Err)
}

//! The explorer: which moments there are, which states each may leave, and which of them have been judged before.

use super::Violation;
use crate::vfs::sim::{Budget, Faults, Image, Profile, SimVfs, Snapshot};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow::{self, Break, Continue};

/// At least this many states of each moment are judged; if that is too much, fewer moments are.
const LEAST_STATES: u64 = 16;

/// Cuts the power at every call of a run and has every state judged that a cut may leave; see [the module](super).
#[derive(Clone, Debug)]
pub struct Explorer {
    disk: SimVfs,
    profiles: Vec<Profile>,
    faults: Faults,
    budget: Budget,
    most_states: Option<u64>,
}

/// An [`Explorer`] that knows what to run.
#[derive(Clone, Debug)]
pub struct Run<R> {
    explorer: Explorer,
    run: R,
}

/// How many states were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Moments at which the power can be cut: before each call that mutates or syncs, and at the end.
    pub moments: u64,
    /// Moments at which the power was cut.
    pub crash_points: u64,
    /// States that the model allows at these moments, as far as the budget goes.
    pub choices: u64,
    /// States of these that were looked at.
    pub states: u64,
    /// Those of them that differ within their moment, and were judged.
    pub judged: u64,
    /// Those of the judged that no earlier moment had left just so.
    pub distinct: u64,
}

impl Tally {
    /// Was every moment tried, with every state of the budget?
    pub fn is_exhaustive(&self) -> bool {
        self.crash_points == self.moments && self.states == self.choices
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.moments += other.moments;
        self.crash_points += other.crash_points;
        self.choices += other.choices;
        self.states += other.states;
        self.judged += other.judged;
        self.distinct += other.distinct;
    }
}

impl Explorer {
    /// What is on the disk before the run. It is tried in every profile in which a rename is atomic.
    pub fn new(setup: impl FnOnce(&SimVfs)) -> Self {
        let disk = SimVfs::new();
        setup(&disk);
        Self::on(disk.reboot_clean()).profiles(&Profile::ATOMIC)
    }

    /// A disk that is ready, with its options and in its own profile.
    pub fn on(disk: SimVfs) -> Self {
        let profiles = vec![disk.options().profile];
        Self { disk, profiles, faults: Faults::none(), budget: Budget::default(), most_states: None }
    }

    /// The profiles that are tried.
    #[must_use]
    pub fn profiles(mut self, profiles: &[Profile]) -> Self {
        self.profiles = profiles.to_vec();
        self
    }

    /// Where everything that looks random comes from: the same seed, the same states.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.budget.seed = seed;
        self.disk = self.disk.fork();
        self.disk.set_options(|options| options.seed = seed);
        self
    }

    /// How many states of each moment are tried.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// What goes wrong in the run besides.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// At most about this many states in each profile: the moments and states that are tried are spread evenly over
    /// all there are, and [`Tally::is_exhaustive`] tells whether any were left out. The run is repeated for every
    /// moment, so this is for long ones.
    #[must_use]
    pub fn most_states(mut self, most: u64) -> Self {
        self.most_states = Some(most);
        self
    }

    /// What is cut: works on the disk, and gives back what it had promised its caller when it ended or was cut.
    pub fn run<P, R: Fn(&SimVfs) -> P + Sync>(self, run: R) -> Run<R> {
        Run { explorer: self, run }
    }
}

impl<R> Run<R> {
    /// Judges every state: the disk as the next boot finds it, and what had been promised by then.
    ///
    /// Gives what was tried or, of the first profile that has any, the first violation, made as small as it gets.
    pub fn judge<P>(self, judge: impl Fn(&SimVfs, &P) -> Result<(), String> + Sync) -> Result<Tally, Box<Violation>>
    where
        P: PartialEq,
        R: Fn(&SimVfs) -> P + Sync,
    {
        let Self { explorer: Explorer { disk, profiles, faults, budget, most_states }, run } = self;
        let one = |profile: &Profile| {
            let disk = disk.fork();
            disk.set_options(|options| options.profile = *profile);
            let sweep = Sweep {
                disk: &disk,
                faults: faults.clone(),
                budget: budget.clone(),
                most_states,
                ends: None,
                run: &run,
                judge: &judge,
            };
            let mut violation = None;
            let tally = sweep.run(&mut |event| match event {
                Event::State { verdict: Err(_), cut, crash_at, promised, image } => {
                    violation = Some(Box::new(Violation::of(&sweep, cut, crash_at, promised, image)));
                    Break(())
                }
                _ => Continue(()),
            });
            violation.map_or(Ok(tally), Err)
        };
        let results: Vec<_> = profiles.par_iter().map(one).collect();
        let mut total = Tally::default();
        for result in results {
            total += result?;
        }
        Ok(total)
    }
}

/// A run in one profile, with a judge that also says what it found.
pub(super) struct Sweep<'a, P, O> {
    /// The disk before the run.
    pub(super) disk: &'a SimVfs,
    /// What goes wrong in the run besides.
    pub(super) faults: Faults,
    /// How many states of each moment are tried.
    pub(super) budget: Budget,
    /// How many in all.
    pub(super) most_states: Option<u64>,
    /// The tree before and after, if that is not simply what it is before and after the run.
    pub(super) ends: Option<(&'a Snapshot, &'a Snapshot)>,
    /// What is cut.
    pub(super) run: &'a (dyn Fn(&SimVfs) -> P + Sync),
    /// What says whether a state is good.
    pub(super) judge: &'a (dyn Fn(&SimVfs, &P) -> Result<O, String> + Sync),
}

/// What the judge said, by the hash of the image.
type Verdicts<O> = HashMap<u128, Result<O, String>>;

/// What happens in a sweep.
pub(super) enum Event<'a, P, O> {
    /// The power was cut.
    Moment {
        /// At which call.
        crash_at: u64,
        /// The disk then, off.
        cut: &'a SimVfs,
    },
    /// A state that this moment may leave, judged now or before.
    State {
        /// At which call.
        crash_at: u64,
        /// The disk then, off.
        cut: &'a SimVfs,
        /// What had been promised.
        promised: &'a P,
        /// The state.
        image: &'a Image,
        /// What the judge said.
        verdict: &'a Result<O, String>,
    },
}

impl<P: PartialEq, O> Sweep<'_, P, O> {
    /// The disk, ready for a run.
    pub(super) fn start(&self) -> SimVfs {
        let disk = self.disk.fork();
        disk.set_faults(self.faults.clone());
        disk
    }

    fn cut_at(&self, crash_at: u64) -> (SimVfs, P) {
        let cut = self.start();
        cut.crash_at(crash_at);
        let promised = (self.run)(&cut);
        (cut, promised)
    }

    /// Cuts the power at every moment, or at as many as the bound allows.
    pub(super) fn run(&self, watch: &mut dyn FnMut(Event<'_, P, O>) -> ControlFlow<()>) -> Tally {
        let whole = self.start();
        whole.set_options(|options| options.trace = self.most_states.is_some());
        (self.run)(&whole);
        let mut tally = Tally { moments: whole.calls() + 1, ..Tally::default() };
        let (moments, share) = self.spread(&whole);
        let budget = Budget { share, ..self.budget.clone() };
        let mut known: Vec<(P, Verdicts<O>)> = Vec::new();
        for crash_at in moments {
            let (cut, promised) = self.cut_at(crash_at);
            tally.crash_points += 1;
            if watch(Event::Moment { crash_at, cut: &cut }).is_break() {
                return tally;
            }
            let at = known.iter().position(|(known, _)| *known == promised).unwrap_or_else(|| {
                known.push((promised, HashMap::new()));
                known.len() - 1
            });
            let (promised, verdicts) = &mut known[at];
            let mut flow = Continue(());
            let counts = cut.for_each_crash_image(&budget, &mut |image| {
                if flow.is_break() {
                    return;
                }
                let verdict = verdicts.entry(image.hash()).or_insert_with(|| {
                    tally.distinct += 1;
                    (self.judge)(&image.mount(), promised)
                });
                flow = watch(Event::State { crash_at, cut: &cut, promised, image: &image, verdict });
            });
            tally.choices += counts.choices as u64;
            tally.states += counts.generated as u64;
            tally.judged += counts.distinct as u64;
            if flow.is_break() {
                return tally;
            }
        }
        tally
    }

    /// The moments that are tried, and how many states of each.
    fn spread(&self, whole: &SimVfs) -> (Vec<u64>, usize) {
        let last = whole.calls();
        let Some(most) = self.most_states else { return ((0..=last).collect(), self.budget.share) };
        let tried = (most / LEAST_STATES).clamp(2, last.max(1) + 1);
        let moments: BTreeSet<u64> = if tried > last {
            (0..=last).collect()
        } else {
            // What surrounds a barrier is never left out.
            let syncs =
                whole.trace().into_iter().filter(|call| call.text.starts_with("sync")).filter_map(|call| call.step);
            let barriers = syncs.flat_map(|step| [step, step + 1]);
            (0..tried).map(|n| n * last / (tried - 1)).chain(barriers).collect()
        };
        let moments: Vec<u64> = moments.into_iter().collect();
        if tried <= last {
            // Long runs have much to lose at almost every moment: each gets the same.
            return (moments, self.budget.share.min(LEAST_STATES as usize));
        }
        let needs: Vec<usize> =
            moments.iter().map(|moment| self.cut_at(*moment).0.count_crash_choices(&self.budget)).collect();
        (moments, share(needs, most))
    }
}

/// How many states of each moment may be tried so that all together are at most `most`.
fn share(mut needs: Vec<usize>, most: u64) -> usize {
    needs.sort_unstable();
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    for (done, need) in needs.iter().enumerate() {
        let each = left / (needs.len() - done);
        if *need > each {
            return each.max(2);
        }
        left -= need;
    }
    usize::MAX
}

/// Judges what a cut at this moment may leave, but for the states that were seen before.
pub fn judge_images<P: PartialEq>(
    cut: &SimVfs,
    crash_at: u64,
    promised: &P,
    judge: &(dyn Fn(&SimVfs, &P) -> Result<(), String> + Sync),
    budget: &Budget,
    seen: &mut HashSet<u128>,
    tally: &mut Tally,
) -> Result<(), Box<Violation>> {
    let mut violation = None;
    let counts = cut.for_each_crash_image(budget, &mut |image| {
        if violation.is_some() || !seen.insert(image.hash()) {
            return;
        }
        tally.distinct += 1;
        let judge = |disk: &SimVfs| judge(disk, promised).err();
        if judge(&image.mount()).is_some() {
            violation = Some(Box::new(Violation::at(cut, crash_at, &image, &judge, None)));
        }
    });
    tally.choices += counts.choices as u64;
    tally.states += counts.generated as u64;
    tally.judged += counts.distinct as u64;
    violation.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn what_small_moments_leave_goes_to_large_ones() {
        assert_eq!(share(vec![10, 10, 10], 30), usize::MAX);
        assert_eq!(share(vec![100, 2, 100], 42), 20);
        assert_eq!(share(vec![5, 5, 1000], 100), 90);
    }
}

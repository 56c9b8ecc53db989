//! What an exploration of a package found, state by state.

use super::explorer::{Event, Sweep};
use super::scenario::{Act, Promise, Scenario};
use super::{Tally, Violation};
use crate::device::peek;
use crate::transaction::Record;
use crate::vfs::SimVfs;
use crate::vfs::sim::{Budget, Faults, Profile};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashSet;
use std::ops::ControlFlow::Continue;
use std::sync::{Mutex, PoisonError};

/// What the tree was as the power cut left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Before {
    /// Exactly the old tree.
    Old,
    /// Some paths old, some new.
    Mixed,
    /// Something that is in neither.
    Damaged,
    /// Exactly the new tree.
    New,
}

/// What the tree is after recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum After {
    /// Exactly the old tree, and all promises kept.
    Old,
    /// Exactly the new tree, and all promises kept.
    New,
    /// A promise is broken.
    Violation,
}

/// Where the engine was when the power failed: by the last record of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing has begun, or all is over.
    Idle,
    /// New content is being stored.
    Staging,
    /// Everything is stored, and no step is taken.
    Prepared,
    /// Stepping forward.
    Steps,
    /// Every step is taken; on trial, perhaps.
    Applied,
    /// Stepping back.
    Back,
    /// Decided; leavings are swept.
    Closing,
}

/// One moment at which the power was cut.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The call that did not happen any more, by its number among those that mutate or sync.
    pub call: u64,
    /// What it was.
    pub text: String,
    /// Where the engine was.
    pub phase: Phase,
    /// How many states: by what the tree was [before](Before) recovery, then by what it was [after](After).
    pub states: [[u32; 3]; 4],
}

/// One act on one kind of disk.
#[derive(Clone, Debug)]
pub struct Case {
    /// The kind of disk: the name of a profile, or of a file system.
    pub disk: String,
    /// What was done.
    pub act: Act,
    /// How much was tried.
    pub tally: Tally,
    /// How many different disks recovery left, times aside: from each the futures were tried once.
    pub recovered: u64,
    /// What was found, moment by moment.
    pub moments: Vec<Moment>,
    /// The first violation, made as small as it gets.
    pub violation: Option<Box<Violation>>,
}

/// What is explored of a [`Scenario`], and how far.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// In these profiles.
    pub profiles: Vec<Profile>,
    /// Where everything random comes from.
    pub seed: u64,
    /// How many states of each moment are tried.
    pub budget: Budget,
    /// How many states are tried in all.
    pub most_states: u64,
    /// What goes wrong besides.
    pub faults: Faults,
}

impl Case {
    /// How many states there were of a kind.
    pub fn count(&self, is: impl Fn(Before, After) -> bool) -> u64 {
        let count = |moment: &Moment| -> u64 {
            BEFORES
                .iter()
                .flat_map(|before| AFTERS.iter().map(move |after| (*before, *after)))
                .filter(|(before, after)| is(*before, *after))
                .map(|(before, after)| u64::from(moment.states[before as usize][after as usize]))
                .sum()
        };
        self.moments.iter().map(count).sum()
    }

    /// How many states broke a promise.
    pub fn violations(&self) -> u64 {
        self.count(|_, after| after == After::Violation)
    }
}

const BEFORES: [Before; 4] = [Before::Old, Before::Mixed, Before::Damaged, Before::New];
const AFTERS: [After; 3] = [After::Old, After::New, After::Violation];

impl Exploration {
    /// Explores every act in every profile; `done` is told of each as it ends, in any order.
    pub fn explore(&self, scenario: &Scenario, done: &(dyn Fn(&Case) + Sync)) -> Vec<Case> {
        let cases: Vec<(Profile, Act)> =
            self.profiles.iter().flat_map(|profile| Act::ALL.map(|act| (*profile, act))).collect();
        let share = self.most_states / (cases.len().max(1) as u64);
        let explore = |(profile, act): &(Profile, Act)| {
            let case = self.case(scenario, *profile, *act, share);
            done(&case);
            case
        };
        cases.par_iter().map(explore).collect()
    }

    fn case(&self, scenario: &Scenario, profile: Profile, act: Act, most_states: u64) -> Case {
        let disk = scenario.disk_of(profile, self.seed);
        let traced = disk.fork();
        traced.set_faults(self.faults.clone());
        traced.set_options(|options| options.trace = true);
        scenario.perform(act, &traced);
        let mut texts: Vec<String> =
            traced.trace().into_iter().filter(|call| call.step.is_some()).map(|call| call.text).collect();
        texts.push("nothing: the run had ended".into());
        let known: Mutex<HashSet<u128>> = Mutex::default();
        let sweep = Sweep {
            disk: &disk,
            faults: self.faults.clone(),
            budget: self.budget.clone(),
            most_states: Some(most_states),
            ends: Some((&scenario.old, &scenario.new)),
            run: &|disk| scenario.perform(act, disk).0,
            judge: &|disk: &SimVfs, promise: &Promise| {
                let before = scenario.before(disk);
                scenario.judge_once(disk, *promise, &known).map(|after| (before, after))
            },
        };
        let mut moments: Vec<Moment> = Vec::new();
        let mut violation = None;
        let tally = sweep.run(&mut |event| {
            match event {
                Event::Moment { crash_at, cut } => moments.push(Moment {
                    call: crash_at,
                    text: texts.get(crash_at as usize).cloned().unwrap_or_default(),
                    phase: Phase::of(cut),
                    states: Default::default(),
                }),
                Event::State { crash_at, cut, promised, image, verdict } => {
                    let (before, after) = match verdict {
                        Ok(found) => *found,
                        Err(_) => {
                            violation
                                .get_or_insert_with(|| Box::new(Violation::of(&sweep, cut, crash_at, promised, image)));
                            (scenario.before(&image.mount()), After::Violation)
                        }
                    };
                    if let Some(moment) = moments.last_mut() {
                        moment.states[before as usize][after as usize] += 1;
                    }
                }
            }
            Continue(())
        });
        let recovered = known.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Case { disk: profile.to_string(), act, tally, recovered, moments, violation }
    }
}

impl Phase {
    /// By the journal as it can be seen at the moment of the cut.
    fn of(cut: &SimVfs) -> Self {
        let Ok((_, records)) = peek(&cut.reboot_clean()) else { return Self::Idle };
        match records.last() {
            None | Some(Record::End) => Self::Idle,
            Some(Record::Begin { .. }) => Self::Staging,
            Some(Record::Prepared { .. }) => Self::Prepared,
            Some(Record::Started) => Self::Steps,
            Some(Record::Applied { .. } | Record::Trying { .. }) => Self::Applied,
            Some(Record::Revert { .. }) => Self::Back,
            Some(Record::Confirmed | Record::Reverted) => Self::Closing,
        }
    }
}

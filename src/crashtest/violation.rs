//! A state that breaks a promise, made as small as it gets, and told so that a person can follow it.

use super::explorer::Sweep;
use super::minimise::minimise;
use crate::vfs::SimVfs;
use crate::vfs::sim::{Call, Found, Image, Profile, Side, Snapshot, Survivors};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many calls before the end are shown, how many effects, and how many paths.
const SHOWN: usize = 16;

/// A state that broke a promise: the schedule that leads to it.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// What the disk may lose.
    pub profile: Profile,
    /// Where everything random came from.
    pub seed: u64,
    /// The mutating or syncing call, counted from 0, at which the power was cut: it did nothing any more.
    pub crash_at: u64,
    /// What the judge said.
    pub message: String,
    /// Every mutating or syncing call before the cut, and the one that it hit.
    pub calls: Vec<Call>,
    /// What these calls had done that was not durable yet.
    pub effects: Vec<Fated>,
    /// Which paths were neither as before the run nor as after it, or not all the same, when the power came back.
    pub found: Vec<Found>,
    /// The same after the judge, which recovers what can be recovered.
    pub left: Vec<Found>,
}

/// An effect that was not durable when the power failed, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fated {
    /// The number of the call that made it.
    pub call: u64,
    /// What it is.
    pub text: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It had reached the disk.
    Survived,
    /// A part of it had.
    Torn,
    /// It had not.
    Lost,
}

impl Violation {
    /// What had not reached the disk, or not all of it.
    pub fn lost(&self) -> impl Iterator<Item = &Fated> {
        self.effects.iter().filter(|effect| effect.fate != Fate::Survived)
    }

    /// What had reached the disk on its own account.
    pub fn survived(&self) -> impl Iterator<Item = &Fated> {
        self.effects.iter().filter(|effect| effect.fate == Fate::Survived)
    }

    /// The smallest schedule of a state that a sweep found, with all of its calls and what came of the tree.
    pub(super) fn of<P, O>(sweep: &Sweep<'_, P, O>, cut: &SimVfs, crash_at: u64, promised: &P, image: &Image) -> Self
    where
        P: PartialEq,
    {
        let whole = sweep.start();
        whole.set_options(|options| options.trace = true);
        (sweep.run)(&whole);
        let (before, after) = (sweep.disk.snapshot(), whole.snapshot());
        let ends = sweep.ends.unwrap_or((&before, &after));
        let judge = |disk: &SimVfs| (sweep.judge)(disk, promised).err();
        let mut violation = Self::at(cut, crash_at, image, &judge, Some(ends));
        let is_before = |call: &Call| call.step.is_some_and(|step| step <= crash_at);
        violation.calls = whole.trace().into_iter().filter(is_before).collect();
        violation
    }

    /// Makes a state smaller while it is still judged bad: as few losses, or as few survivors, as it takes.
    pub(super) fn at(
        cut: &SimVfs,
        crash_at: u64,
        image: &Image,
        judge: &dyn Fn(&SimVfs) -> Option<String>,
        ends: Option<(&Snapshot, &Snapshot)>,
    ) -> Self {
        let pending = cut.pending();
        let fails = |survivors: &Survivors| judge(&cut.crash_image(survivors).mount()).is_some();
        let shown = smallest(image.survivors(), &|index| pending[index].forced, &fails);
        let image = cut.crash_image(&shown);
        let (found, left) = (image.mount(), image.mount());
        let message = judge(&left).unwrap_or_else(|| "the judge does not say the same twice".into());
        let survivors = image.survivors();
        let fate = |index: usize| match (survivors.holds(index), survivors.tears(index)) {
            (true, true) => Fate::Torn,
            (true, false) => Fate::Survived,
            (false, _) => Fate::Lost,
        };
        let effects = pending.iter().enumerate();
        let between = |disk: &SimVfs| ends.map_or_else(Vec::new, |(old, new)| disk.snapshot().between(old, new));
        let options = cut.options();
        Self {
            profile: options.profile,
            seed: options.seed,
            crash_at,
            message,
            calls: cut.trace().into_iter().filter(|call| call.step.is_some()).collect(),
            effects: effects
                .map(|(index, effect)| Fated { call: effect.call, text: effect.text.clone(), fate: fate(index) })
                .collect(),
            found: between(&found),
            left: between(&left),
        }
    }
}

/// The smallest state that still fails: few losses or few survivors, whichever is shorter to tell.
fn smallest(survivors: &Survivors, forced: &dyn Fn(usize) -> bool, fails: &dyn Fn(&Survivors) -> bool) -> Survivors {
    let whole = survivors.whole();
    let base = if fails(&whole) { whole } else { survivors.clone() };
    let free = (0..base.effects()).filter(|index| !forced(*index));
    let (kept, lost): (Vec<usize>, Vec<usize>) = free.partition(|index| base.holds(*index));
    let keeping = |kept: &[usize]| {
        let kept: BTreeSet<usize> = kept.iter().copied().collect();
        base.chosen(|index| forced(index) || kept.contains(&index))
    };
    let losing = |lost: &[usize]| {
        let lost: BTreeSet<usize> = lost.iter().copied().collect();
        base.chosen(|index| !lost.contains(&index))
    };
    let kept = minimise(kept, &mut |kept| fails(&keeping(kept)));
    let lost = minimise(lost, &mut |lost| fails(&losing(lost)));
    let (keeping, losing) = (keeping(&kept), losing(&lost));
    if lost.len() <= kept.len() && fails(&losing) { losing } else { keeping }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, seed, crash_at, message, .. } = self;
        writeln!(f, "power cut at call {crash_at}, profile {profile}, seed {seed}: {}", shorten(message))?;
        writeln!(f, "calls:")?;
        let skipped = self.calls.len().saturating_sub(SHOWN);
        if skipped > 0 {
            writeln!(f, "  {skipped} calls before these")?;
        }
        for call in &self.calls[skipped..] {
            let step = call.step.unwrap_or_default();
            let cut = if step == *crash_at { "   <- here the power fails: it does nothing" } else { "" };
            let error = call.error.iter().map(|error| format!(": {error}")).collect::<String>();
            writeln!(f, "  {step:5} {}{error}{cut}", shorten(&call.text))?;
        }
        let lists: [(&str, Vec<&Fated>); 2] =
            [("had reached the disk", self.survived().collect()), ("had not", self.lost().collect())];
        writeln!(f, "of what no sync had made durable,")?;
        for (title, effects) in lists {
            let none = if effects.is_empty() { " nothing" } else { "" };
            writeln!(f, "  {title}:{none}")?;
            let skipped = effects.len().saturating_sub(SHOWN);
            if skipped > 0 {
                writeln!(f, "    {skipped} effects before these")?;
            }
            for Fated { call, text, fate } in &effects[skipped..] {
                let part = if *fate == Fate::Torn { ", in part only" } else { "" };
                writeln!(f, "    call {call}: {}{part}", shorten(text))?;
            }
        }
        tell_tree(f, "the tree when the power came back", &self.found)?;
        if self.left == self.found {
            return Ok(());
        }
        tell_tree(f, "the tree after recovery", &self.left)
    }
}

fn tell_tree(f: &mut fmt::Formatter<'_>, title: &str, found: &[Found]) -> fmt::Result {
    let mut sides: BTreeMap<Side, Vec<&Found>> = BTreeMap::new();
    found.iter().for_each(|found| sides.entry(found.side).or_default().push(found));
    let all = if found.is_empty() { " as before" } else { "" };
    writeln!(f, "{title}:{all}")?;
    for (side, found) in sides.iter().rev() {
        let side = match side {
            Side::Old => "old",
            Side::New => "new",
            Side::Neither => "NEITHER",
        };
        for Found { path, text, .. } in found.iter().take(SHOWN) {
            writeln!(f, "  {side:7} {path}: {}", shorten(text))?;
        }
        if found.len() > SHOWN {
            writeln!(f, "  {side:7} and {} more", found.len() - SHOWN)?;
        }
    }
    Ok(())
}

/// A text with long hexadecimal names cut to their first eight digits.
fn shorten(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() == 32 { &run[..8] } else { &run });
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

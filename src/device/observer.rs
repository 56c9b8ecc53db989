//! Who is told how far it is.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looking at what is there.
    Check,
    /// Getting the package.
    Download,
    /// Verifying the package.
    Verify,
    /// Storing new content beside the tree.
    Stage,
    /// Stepping forward.
    Apply,
    /// Stepping back.
    Revert,
    /// Removing what is no longer needed.
    Sweep,
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// How much of it is done: bytes while content is read or stored, steps while applying.
    pub done: u64,
    /// How much it is in all; zero if that is not known.
    pub total: u64,
}

/// Somebody who wants to know, and may ask to stop.
///
/// A closure that takes a [`Progress`] is an observer; so is `()`, who does not care.
pub trait Observer: Sync {
    /// Told from time to time.
    fn report(&self, progress: Progress);

    /// Asked before anything of the tree is changed: shall it stop? Later nobody is asked.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Observer for () {
    fn report(&self, _: Progress) {}
}

impl<F: Fn(Progress) + Sync> Observer for F {
    fn report(&self, progress: Progress) {
        self(progress);
    }
}

impl Progress {
    /// The part of the whole update that is done, from 0.0 to 1.0: check, download, verify, stage, apply.
    pub fn fraction(&self) -> f64 {
        let (start, share) = match self.phase {
            Phase::Check => (0.0, 0.1),
            Phase::Download => (0.1, 0.4),
            Phase::Verify => (0.5, 0.1),
            Phase::Stage => (0.6, 0.3),
            Phase::Apply | Phase::Revert => (0.9, 0.1),
            Phase::Sweep => return 1.0,
        };
        let part = if self.total == 0 { 0.0 } else { self.done.min(self.total) as f64 / self.total as f64 };
        start + share * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_runs_from_zero_to_one_and_never_back() {
        let phases = [Phase::Check, Phase::Download, Phase::Verify, Phase::Stage, Phase::Apply, Phase::Sweep];
        let steps: Vec<f64> = phases
            .iter()
            .flat_map(|phase| (0..=4).map(|done| Progress { phase: *phase, done, total: 4 }.fraction()))
            .collect();
        assert!(steps.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9), "{steps:?}");
        assert_eq!((steps[0], steps[steps.len() - 1]), (0.0, 1.0));
    }
}

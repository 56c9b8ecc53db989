//! Progress: a bar for people at a terminal, a few objects a second for programs, nothing for anybody else.

use super::output::Output;
use crate::device::{Observer, Phase, Progress};
use crate::fetch::Speed;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At least this long between two reports of one phase.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells how far the work is.
pub(super) struct Meter<'a> {
    output: &'a Output,
    last: Mutex<Option<(Phase, Instant)>>,
    start: Instant,
    speed: Mutex<Speed>,
    bar: Option<ProgressBar>,
}

#[derive(Serialize)]
struct Object {
    phase: Phase,
    done: u64,
    total: u64,
    fraction: f64,
    /// Of a download.
    #[serde(flatten)]
    rate: Option<Rate>,
}

/// How fast a download is, and when it will be done, as far as that can be told.
#[derive(Serialize)]
struct Rate {
    bytes_per_second: Option<u64>,
    seconds_left: Option<u64>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        let drawn = output.terminal && output.talkative && !output.json;
        let bar = drawn.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self { output, last: Mutex::new(None), start: Instant::now(), speed: Mutex::default(), bar }
    }

    /// For those who only say how many bytes are read.
    pub(super) fn check(&self) -> impl Fn(u64, u64) + Sync + '_ {
        |done, total| self.report(Progress { phase: Phase::Check, done, total })
    }

    fn rate(&self, progress: Progress) -> Option<Rate> {
        if progress.phase != Phase::Download {
            return None;
        }
        let mut speed = self.speed.lock().unwrap_or_else(PoisonError::into_inner);
        speed.note(self.start.elapsed(), progress.done);
        let seconds_left = speed.seconds_left(progress.total);
        Some(Rate { bytes_per_second: speed.bytes_per_second(), seconds_left })
    }

    /// Is it time to say something again?
    fn due(&self, phase: Phase) -> Option<bool> {
        // Whoever has the lock is just reporting.
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(std::sync::TryLockError::Poisoned(last)) => PoisonError::into_inner(last),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        let other = last.is_none_or(|(before, _)| before != phase);
        if !other && last.is_some_and(|(_, when)| when.elapsed() < PAUSE) {
            return None;
        }
        *last = Some((phase, Instant::now()));
        Some(other)
    }
}

impl Observer for Meter<'_> {
    fn report(&self, progress: Progress) {
        if self.bar.is_none() && !self.output.json {
            return;
        }
        let Some(other) = self.due(progress.phase) else { return };
        let Progress { phase, done, total } = progress;
        match &self.bar {
            Some(bar) => {
                if other {
                    bar.set_style(style(phase));
                    bar.set_message(word(phase));
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                let (rate, fraction) = (self.rate(progress), progress.fraction());
                self.output.progress(&Object { phase, done, total, fraction, rate });
            }
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Apply | Phase::Revert | Phase::Sweep => "{msg:10} [{bar:30}] {pos}/{len}",
        Phase::Download => "{msg:10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        _ => "{msg:10} [{bar:30}] {bytes}/{total_bytes}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Check => "checking",
        Phase::Download => "fetching",
        Phase::Verify => "verifying",
        Phase::Stage => "storing",
        Phase::Apply => "applying",
        Phase::Revert => "reverting",
        Phase::Sweep => "sweeping",
    }
}

//! Progress: a bar for people at a terminal, a few objects a second for programs, nothing for anybody else.

use super::interrupt::Interrupt;
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
    interrupt: Option<&'a Interrupt>,
    last: Mutex<Option<(Work, Instant)>>,
    start: Instant,
    speed: Mutex<Speed>,
    bar: Option<ProgressBar>,
}

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    /// A package is being built.
    Build,
    #[serde(untagged)]
    Update(Phase),
}

#[derive(Serialize)]
struct Object {
    phase: Work,
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
        Self { output, interrupt: None, last: Mutex::new(None), start: Instant::now(), speed: Mutex::default(), bar }
    }

    /// The same, which says when to stop.
    pub(super) fn until(mut self, interrupt: &'a Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// A package is built so far. Shall it go on?
    pub(super) fn built(&self, done: u64, total: u64) -> bool {
        let fraction = if total == 0 { 0.0 } else { done as f64 / total as f64 };
        self.tell(Work::Build, done, total, || (None, fraction));
        !self.cancelled()
    }

    fn tell(&self, work: Work, done: u64, total: u64, more: impl FnOnce() -> (Option<Rate>, f64)) {
        if self.bar.is_none() && !self.output.json {
            return;
        }
        let Some(other) = self.due(work) else { return };
        match &self.bar {
            Some(bar) => {
                if other {
                    bar.set_style(style(work));
                    bar.set_message(word(work));
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                let (rate, fraction) = more();
                self.output.progress(&Object { phase: work, done, total, fraction, rate });
            }
        }
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
    fn due(&self, work: Work) -> Option<bool> {
        // Whoever has the lock is just reporting.
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(std::sync::TryLockError::Poisoned(last)) => PoisonError::into_inner(last),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        let other = last.is_none_or(|(before, _)| before != work);
        if !other && last.is_some_and(|(_, when)| when.elapsed() < PAUSE) {
            return None;
        }
        *last = Some((work, Instant::now()));
        Some(other)
    }
}

impl Observer for Meter<'_> {
    fn report(&self, progress: Progress) {
        let Progress { phase, done, total } = progress;
        self.tell(Work::Update(phase), done, total, || (self.rate(progress), progress.fraction()));
    }

    fn cancelled(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::asked)
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(work: Work) -> ProgressStyle {
    let template = match work {
        Work::Update(Phase::Apply | Phase::Revert | Phase::Sweep) => "{msg:10} [{bar:30}] {pos}/{len}",
        Work::Update(Phase::Download) => "{msg:10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        // Content is looked at twice.
        Work::Build => "{msg:10} [{bar:30}] {percent}%",
        Work::Update(_) => "{msg:10} [{bar:30}] {bytes}/{total_bytes}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn word(work: Work) -> &'static str {
    match work {
        Work::Build => "packing",
        Work::Update(Phase::Check) => "checking",
        Work::Update(Phase::Download) => "fetching",
        Work::Update(Phase::Verify) => "verifying",
        Work::Update(Phase::Stage) => "storing",
        Work::Update(Phase::Apply) => "applying",
        Work::Update(Phase::Revert) => "reverting",
        Work::Update(Phase::Sweep) => "sweeping",
    }
}

//! `Pace`: time, as far as downloads need any; and how fast something goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time for downloads: pauses, limits, estimates. Nothing of the content depends on it.
pub trait Pace: Sync {
    /// Time since some fixed moment; never runs backwards.
    fn now(&self) -> Duration;
    /// Waits. May return early if somebody wants to stop.
    fn wait(&self, pause: Duration, stop: &dyn Fn() -> bool);
}

/// The time of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemPace {
    start: Instant,
}

impl Default for SystemPace {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Pace for SystemPace {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait(&self, pause: Duration, stop: &dyn Fn() -> bool) {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || stop() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// How fast something goes, over the last seconds, and when it will be done.
#[derive(Clone, Debug, Default)]
pub struct Speed {
    seen: VecDeque<(Duration, u64)>,
}

impl Speed {
    /// Over so many seconds.
    const WINDOW: Duration = Duration::from_secs(10);
    /// At most one sample in so long.
    const STEP: Duration = Duration::from_millis(200);

    /// So much is done by now.
    pub fn note(&mut self, now: Duration, done: u64) {
        if self.seen.back().is_some_and(|(_, before)| *before > done) {
            self.seen.clear();
        }
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(when, _)| now - *when > Self::WINDOW) {
            self.seen.pop_front();
        }
        let len = self.seen.len();
        if len >= 2 && now.saturating_sub(self.seen[len - 2].0) < Self::STEP {
            self.seen.pop_back();
        }
        self.seen.push_back((now, done));
    }

    /// Bytes a second; nothing before there is anything to tell.
    pub fn bytes_per_second(&self) -> Option<u64> {
        let ((first, before), (last, after)) = (self.seen.front()?, self.seen.back()?);
        let nanoseconds = last.checked_sub(*first)?.as_nanos();
        let bytes = u128::from(after.checked_sub(*before)?);
        (bytes * 1_000_000_000).checked_div(nanoseconds).map(|speed| u64::try_from(speed).unwrap_or(u64::MAX))
    }

    /// Seconds until all is done.
    pub fn seconds_left(&self, total: u64) -> Option<u64> {
        let left = total.checked_sub(self.seen.back()?.1)?;
        self.bytes_per_second().filter(|speed| *speed > 0).map(|speed| left.div_ceil(speed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut speed = Speed::default();
        assert_eq!((speed.bytes_per_second(), speed.seconds_left(10)), (None, None));
        for second in 0..=100_u64 {
            // 1000 bytes a second, and then 10.
            let done = if second <= 50 { second * 1000 } else { 50_000 + (second - 50) * 10 };
            speed.note(Duration::from_secs(second), done);
        }
        assert_eq!(speed.bytes_per_second(), Some(10));
        assert_eq!(speed.seconds_left(50_600), Some(10));
        speed.note(Duration::from_secs(101), 0);
        assert_eq!(speed.bytes_per_second(), None, "it began anew");
        assert!(speed.seen.len() < 100);
    }

    #[test]
    fn a_wait_ends_when_it_is_to_stop() {
        let pace = SystemPace::default();
        let before = pace.now();
        pace.wait(Duration::from_secs(3600), &|| true);
        pace.wait(Duration::from_millis(1), &|| false);
        assert!(pace.now() - before >= Duration::from_millis(1) && pace.now() - before < Duration::from_secs(1800));
    }
}

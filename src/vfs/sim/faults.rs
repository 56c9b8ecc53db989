//! What goes wrong on purpose: calls that fail, syncs that fail or lie, and the loss of power.

use rustix::io::Errno;
use std::io;

/// A schedule of failures. Build it in a chain and hand it to [`SimVfs::set_faults`](super::SimVfs::set_faults).
#[derive(Clone, Debug, Default)]
pub struct Faults {
    calls: Vec<CallFault>,
    ignored_syncs: Vec<u64>,
    failed_syncs: Vec<u64>,
}

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing was done.
    Before,
    /// All was done, and an error is reported nevertheless.
    After,
}

/// How often a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// This once.
    OneShot,
    /// This call and every later one to which the error can happen: calls that only read do not run out of space and do
    /// not mind a read-only file system.
    Sticky,
}

/// The source of the error of every call from the moment that power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("power was lost")]
pub struct PowerLoss;

/// Is this how a call fails once power is lost?
pub fn is_power_loss(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerLoss>())
}

/// What a call is to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It only reads.
    Read,
    /// It changes the disk.
    Mutate,
    /// It makes changes durable.
    Sync,
}

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncFate {
    /// What it should.
    Works,
    /// Nothing, and it reports success.
    Lies,
    /// It fails, and may lose data for good.
    Fails,
}

#[derive(Clone, Copy, Debug)]
struct CallFault {
    number: u64,
    errno: Errno,
    when: When,
    repeat: Repeat,
}

impl Faults {
    /// Nothing fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// The call with this number, counting every call from 0 (see `all_calls`), fails.
    #[must_use]
    pub fn fail_call(mut self, number: u64, errno: Errno, when: When, repeat: Repeat) -> Self {
        self.calls.push(CallFault { number, errno, when, repeat });
        self
    }

    /// The sync with this number, counting both kinds from 0, does nothing and reports success.
    #[must_use]
    pub fn ignore_sync(mut self, number: u64) -> Self {
        self.ignored_syncs.push(number);
        self
    }

    /// The sync with this number, counting both kinds from 0, fails with `EIO`. Each piece of data that was to become
    /// durable is, with probability 1/2, lost for good, though it can still be read until the next boot; later syncs
    /// know nothing of it.
    #[must_use]
    pub fn fail_sync(mut self, number: u64) -> Self {
        self.failed_syncs.push(number);
        self
    }

    pub(super) fn of_call(&self, number: u64, nature: Nature) -> Option<(Errno, When)> {
        let hit = |fault: &&CallFault| match fault.repeat {
            Repeat::OneShot => fault.number == number,
            Repeat::Sticky => {
                let writes_only = matches!(fault.errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS);
                fault.number == number || fault.number < number && (nature != Nature::Read || !writes_only)
            }
        };
        self.calls.iter().find(hit).map(|fault| (fault.errno, fault.when))
    }

    pub(super) fn of_sync(&self, number: u64) -> SyncFate {
        if self.failed_syncs.contains(&number) {
            SyncFate::Fails
        } else if self.ignored_syncs.contains(&number) {
            SyncFate::Lies
        } else {
            SyncFate::Works
        }
    }
}

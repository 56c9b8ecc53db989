//! `Memory`: what segments that are unpacked at the same time may take together.

use super::lock;
use crate::limits;
use std::sync::{Condvar, Mutex, PoisonError};

/// Memory for segments that are unpacked at the same time.
#[derive(Default)]
pub(super) struct Memory {
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// Some of it, until dropped.
pub(super) struct Reservation<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    /// Waits until there is as much.
    pub(super) fn reserve(&self, bytes: u64) -> Reservation<'_> {
        let mut reservation = Reservation { memory: self, bytes: 0 };
        reservation.grow(bytes);
        reservation
    }
}

impl Reservation<'_> {
    /// Waits until there is as much in all; what is more than there is waits until nobody else has any.
    pub(super) fn grow(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes);
        let own = self.bytes;
        let too_much = |taken: &mut u64| *taken > own && taken.saturating_add(more) > limits::UNPACK_MEMORY;
        let taken = self.memory.given_back.wait_while(lock(&self.memory.taken), too_much);
        *taken.unwrap_or_else(PoisonError::into_inner) += more;
        self.bytes += more;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *lock(&self.memory.taken) -= self.bytes;
        self.memory.given_back.notify_one();
    }
}

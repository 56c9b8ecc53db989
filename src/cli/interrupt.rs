//! Ctrl-C: the first one asks to stop, a second one ends the program at once.

use crate::error::{Code, Error};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The exit code of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Whether somebody wants the program to stop.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From the first call on Ctrl-C, and SIGTERM, only ask.
    pub(super) fn catch() -> &'static Self {
        static CAUGHT: OnceLock<Interrupt> = OnceLock::new();
        CAUGHT.get_or_init(Self::register)
    }

    fn register() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal finds that nobody has asked yet. One that cannot be caught ends the program.
            let caught = flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)));
            if let Err(error) = caught {
                tracing::debug!(%error, signal, "a signal cannot be caught");
            }
        }
        Self(asked)
    }

    /// Shall it stop?
    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Stops here if it is to stop.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.asked() { Err(Error::new(Code::Cancelled, "stopped on request")) } else { Ok(()) }
    }
}

//! Transactions on a disk that forgets, with a crash in them and a crash in the recovery (see `transaction::check`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot_fuzz::transaction::{Scenario, check};

fuzz_target!(|scenario: Scenario| {
    if let Err(why) = check(&scenario) {
        panic!("{why}\n{scenario:#?}");
    }
});

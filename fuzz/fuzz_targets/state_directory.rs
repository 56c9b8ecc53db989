//! A state directory in which one file holds anything (see `state::FILES`; the first byte says which).

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot_fuzz::state;

fuzz_target!(|data: &[u8]| {
    let Some((file, bytes)) = data.split_first() else { return };
    if let Err(why) = state::check(*file, bytes) {
        panic!("{why}");
    }
});

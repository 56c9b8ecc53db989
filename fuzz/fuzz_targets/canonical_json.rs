//! Bytes as JSON, and its canonical form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::codec::canonical_json::{canonical, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = parse(bytes, 10_000) else { return };
    let form = canonical(&value).expect("what was read has a form");
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again = parse(&text, 10_000).expect("and read again");
    assert_eq!(again, value);
    assert_eq!(canonical(&again), Some(form.clone()));
    // Where nothing needs to be escaped but quotes and backslashes, the form is JSON of the same value.
    if !form.iter().any(|byte| *byte < 0x20) {
        assert_eq!(parse(&form, 10_000).expect("a form without control characters is JSON"), value);
    }
});

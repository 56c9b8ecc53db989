//! Bytes as a bundle: whatever is found in it lies in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use surefoot::fetch::{Member, bundle_members};
use surefoot::limits;

fuzz_target!(|bytes: &[u8]| {
    let Ok(members) = bundle_members(&mut Cursor::new(bytes)) else { return };
    assert!(members.len() <= limits::BUNDLE_FILES);
    for (name, Member { start, length }) in &members {
        assert!(name.len() <= limits::TARGET_PATH_BYTES + 512, "a long name");
        let end = start.checked_add(*length).expect("no overflow");
        assert!(*start >= 512 && end <= bytes.len() as u64, "{name} lies outside");
    }
});

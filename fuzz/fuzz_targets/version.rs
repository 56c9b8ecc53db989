//! Texts as versions.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::model::Version;

fuzz_target!(|text: &str| {
    let mut before: Option<Version> = None;
    for part in text.split('\n') {
        let Ok(version) = Version::parse(part) else { continue };
        let again = Version::parse(&version.to_string()).expect("what is shown reads back");
        assert_eq!(again, version);
        assert_eq!(again.to_string(), version.to_string());
        if let Some(next) = version.next_patch() {
            assert!(version.can_patch_to(&next) && !next.can_patch_to(&version));
        }
        if let Some(before) = before.replace(version) {
            assert_eq!(before.cmp(&version), version.cmp(&before).reverse());
            assert_eq!(before == version, before.cmp(&version).is_eq());
        }
    }
});

//! JSON as the manifest of a service and as the description of a package.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::model::{PatchOperations, PatchPackageInfo, ServiceManifest};

fuzz_target!(|json: &[u8]| {
    if let Ok(manifest) = ServiceManifest::from_json(json) {
        let text = manifest.to_json().unwrap();
        let again = ServiceManifest::from_json(text.as_bytes()).unwrap();
        assert_eq!(again, manifest);
        assert_eq!(again.to_json().unwrap(), text);
        for (architecture, package) in &manifest.patch {
            check(package);
            assert_eq!(manifest.patch_package(architecture).is_some(), !package.url.is_empty());
        }
        for architecture in manifest.platforms.keys().map(String::as_str).chain(["x86_64"]) {
            if let Some(full) = manifest.full_package(architecture) {
                let _ = (full.digest(), full.signature_bytes());
            }
        }
    }
    if let Ok(package) = PatchPackageInfo::from_json(json) {
        assert_eq!(PatchPackageInfo::from_json(package.to_json().unwrap().as_bytes()).unwrap(), package);
        check(&package);
    }
});

fn check(package: &PatchPackageInfo) {
    let mut again = package.clone();
    if let Ok(Some(digest)) = package.digest() {
        again.set_digest(digest);
        assert_eq!(again.digest().unwrap(), Some(digest));
    }
    if let Ok(Some(signature)) = package.signature_bytes() {
        again.set_signature(&signature);
        assert_eq!(again.signature_bytes().unwrap(), Some(signature));
    }
    let Ok(operations) = package.operations.validate() else { return };
    let published = PatchOperations::try_from(&operations).expect("what was text is text");
    assert_eq!(published.validate().as_ref(), Ok(&operations));
    for path in operations.required_files() {
        assert!(operations.replaces_file(path) || operations.replaces_within(path));
        assert!(
            path.parent().is_some_and(|above| operations.replaces_below(&above) || operations.replaces_within(&above))
        );
    }
    for path in operations.required_directories() {
        assert!(operations.replaces_within(path) && !operations.replaces_file(path));
    }
    for path in operations.delete_files().iter().chain(operations.delete_directories()) {
        assert!(
            !operations.replaces_file(path) && !operations.replaces_within(path) && !operations.replaces_below(path)
        );
    }
}

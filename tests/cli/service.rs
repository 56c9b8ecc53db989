//! The tar.gz package of the service manifest.

use super::Place;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use surefoot::model::{Digest, PatchPackageInfo};
use surefoot::trust::{PublicKey, Signature};

fn build(place: &Place) -> Vec<&'static str> {
    let _ = place;
    vec!["build", "old", "new", "--to", "1.0.0.1", "--format", "tar.gz", "--owner", "no", "-o", "up.tar.gz"]
}

fn entry(place: &Place) -> PatchPackageInfo {
    PatchPackageInfo::from_json(place.read("up.json").as_bytes()).unwrap()
}

#[test]
fn a_package_and_its_entry_say_the_same() {
    let place = Place::with_packages();
    place.good(&[&build(&place)[..], &["--key", "key", "--notes", "better", "--entry", "up.json"]].concat());
    let entry = entry(&place);
    let bytes = fs::read(place.path("up.tar.gz")).unwrap();
    assert_eq!((entry.url.as_str(), entry.size), ("up.tar.gz", Some(bytes.len() as u64)));
    assert_eq!(entry.hash.as_deref(), Some(format!("sha256:{}", Digest::of(&bytes)).as_str()));
    assert_eq!(entry.version.unwrap().to_string(), "1.0.0.1");
    assert_eq!(entry.notes.as_deref(), Some("better"));
    let key = PublicKey::from_pem(&place.read("key.pub")).unwrap();
    let signature = Signature::parse(entry.signature.as_deref().unwrap()).unwrap();
    assert_eq!(key.verify(b"", &bytes, &signature), Ok(()));

    let operations = &entry.operations;
    assert_eq!(operations.replace.files, ["bin/app", "etc/conf", "lib/kept"]);
    assert_eq!(operations.replace.directories, ["etc/more/"]);
    assert_eq!(operations.delete.files, ["lib/keep", "lib/other name"]);
    assert_eq!(operations.delete.directories, ["lib/x/"]);

    let file = File::open(place.path("up.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let members: BTreeMap<String, u32> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        })
        .collect();
    let expected =
        [("bin/app", 0o644), ("etc/conf", 0o600), ("lib/kept", 0o644), ("etc/more/", 0o755), ("etc/more/conf", 0o644)];
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(names, ["bin/app", "etc/conf", "etc/more/", "etc/more/conf", "lib/kept"]);
    assert!(expected.iter().all(|(name, mode)| members[*name] & 0o600 == mode & 0o600), "{members:?}");
}

#[test]
fn the_package_is_applied_with_its_entry_and_taken_back() {
    let place = Place::with_packages();
    place.good(&[&build(&place)[..], &["--key", "key", "--entry", "up.json"]].concat());
    let apply = ["--root", "dev", "apply", "up.tar.gz", "--entry", "up.json"];
    let told = place.good(&[&apply[..], &["--trial"]].concat()).stdout;
    assert!(told.starts_with("1.0.0 -> 1.0.0.1, ") && told.contains("on trial"), "{told}");
    place.assert_same("dev", "new");
    place.bad(&apply, 1, "transaction.pending");
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");
    place.good(&apply);
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "verify"]);
}

#[test]
fn a_package_that_is_not_what_its_entry_says_is_refused() {
    let place = Place::with_packages();
    place.good(&[&build(&place)[..], &["--key", "stranger", "--entry", "up.json"]].concat());
    let apply = ["--root", "dev", "apply", "up.tar.gz", "--entry", "up.json"];
    place.bad(&apply, 3, "trust.signature");
    place.good(&[&build(&place)[..], &["--entry", "up.json"]].concat());
    place.bad(&apply, 3, "trust.unsigned");
    place.good(&[&build(&place)[..], &["--key", "key", "--entry", "up.json"]].concat());
    place.bad(&["--root", "old", "apply", "up.tar.gz", "--entry", "up.json"], 1, "tree.not-initialised");
    place.bad(&["--root", "dev", "apply", "no.tar.gz", "--entry", "up.json"], 6, "source.unavailable");
    place.bad(&["--root", "dev", "apply", "up.tar.gz", "--entry", "up.sf"], 1, "input.format");
    let good = fs::read(place.path("up.tar.gz")).unwrap();
    fs::write(place.path("up.tar.gz"), &good[1..]).unwrap();
    place.bad(&apply, 3, "trust.digest");
    place.assert_same("dev", "old");
}

#[test]
fn without_a_file_for_it_the_entry_is_the_result() {
    let place = Place::with_packages();
    let told = place.good(&build(&place)).stdout;
    let entry = PatchPackageInfo::from_json(told.as_bytes()).unwrap();
    assert_eq!(entry.signature, None);
    assert_eq!(entry.url, "up.tar.gz");
}

#[test]
fn a_link_that_changes_brings_its_directory() {
    let place = Place::with_packages();
    fs::remove_file(place.path("new/bin/current")).unwrap();
    symlink("elsewhere", place.path("new/bin/current")).unwrap();
    // A directory becomes a file, a file a directory.
    fs::create_dir(place.path("old/lib/turns")).unwrap();
    fs::write(place.path("old/lib/turns/inside"), "x").unwrap();
    fs::write(place.path("new/lib/turns"), "a file now").unwrap();
    place.write("old/etc/grows", "a file");
    place.write("new/etc/grows/inside", "y");
    place.good(&[&build(&place)[..], &["--entry", "up.json"]].concat());
    let operations = entry(&place).operations;
    assert_eq!(operations.replace.directories, ["bin/", "etc/grows/", "etc/more/", "lib/"]);
    assert_eq!(operations.replace.files, ["etc/conf"]);
    assert!(operations.delete.files.is_empty() && operations.delete.directories.is_empty(), "{operations:?}");
}

#[test]
fn what_a_tar_gz_cannot_say_is_refused() {
    let place = Place::with_packages();
    symlink("bin/app", place.path("new/app")).unwrap();
    place.bad(&build(&place), 2, "usage.invalid");
    fs::remove_file(place.path("new/app")).unwrap();
    place.bad(&[&build(&place)[..], &["--arch", "x86_64"]].concat(), 2, "usage.invalid");
    place.bad(&[&build(&place)[..], &["--key", "key", "--key", "stranger"]].concat(), 2, "usage.invalid");
    assert!(!place.path("up.tar.gz").exists());
}

/// Forty megabytes of zeros that were a hole with the publisher became forty megabytes on the device, when they came in a
/// tar.gz.
#[test]
fn holes_arrive_as_holes_in_packages_of_both_kinds() {
    const LENGTH: u64 = 8 << 20;
    let place = Place::with_packages();
    let file = File::create(place.path("new/lib/sparse")).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_at(b"in the middle", LENGTH / 2 + 5).unwrap();
    drop(file);
    let blocks = |path: &str| fs::metadata(place.path(path)).unwrap().blocks() * 512;
    if blocks("new/lib/sparse") > LENGTH / 8 {
        println!("skipped: no holes on this file system");
        return;
    }
    place.build("old", "new", "1.0.0", "1.0.0.1", "patch.sf");
    place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--key", "key", "--owner", "no", "-o", "full.sf"]);
    place.good(&[&build(&place)[..], &["--key", "key", "--entry", "up.json"]].concat());
    for package in [&["patch.sf"][..], &["full.sf"], &["up.tar.gz", "--entry", "up.json"]] {
        place.good(&[&["--root", "dev", "apply"], package].concat());
        place.assert_same("dev", "new");
        let taken = blocks("dev/lib/sparse");
        assert!(taken > 0 && taken < LENGTH / 8, "{package:?}: {taken} bytes on the disk");
        place.good(&["--root", "dev", "rollback"]);
    }
}

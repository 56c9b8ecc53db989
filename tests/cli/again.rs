//! Commands that are given again, after they or what was before them were interrupted.

use super::Place;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use surefoot::device::Phase;
use surefoot::transaction::Recovery;

/// The answer of a command that must go well.
#[track_caller]
fn answer(place: &Place, arguments: &[&str]) -> Value {
    let told = place.good(&[&["--json", "--root", "dev"], arguments].concat()).stdout;
    serde_json::from_str(told.lines().last().unwrap()).unwrap()
}

/// A device that came from 1.0.0 to 1.0.0.1, and can go back two versions; and a patch and a full package for 1.0.0.2.
fn device() -> Place {
    let place = Place::new();
    place.good(&["keygen", "-o", "key"]);
    place.build("old", "new", "1.0.0", "1.0.0.1", "up.sf");
    place.build("new", "old", "1.0.0.1", "1.0.0.2", "on.sf");
    place.good(&["build", "--full", "old", "--to", "1.0.0.2", "--owner", "no", "-o", "full.sf"]);
    place.copy("old", "dev");
    let init = ["--root", "dev", "init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no", "--keep", "2"];
    place.good(&init);
    place.good(&["--root", "dev", "apply", "up.sf"]);
    place
}

type Interrupt = fn(&Place);

/// A rollback was killed half-way and asked for again. Recovery went back one version, which was what had been asked
/// for, and then the command went back another one: two versions, and nothing said so. The same after an update was
/// killed: recovery dropped it, and the version before it went as well.
#[test]
fn a_rollback_after_an_interruption_goes_back_once() {
    // How it was interrupted, what `status` says then, and the version that is left.
    let cases: [(Interrupt, &str, &str); 5] = [
        (
            |place| {
                place.good(&["--root", "dev", "apply", "on.sf", "--trial"]);
                place.kill("dev", Phase::Revert, |engine, observer| _ = engine.rollback(observer));
            },
            "reverting",
            "1.0.0.2",
        ),
        (
            |place| {
                place.good(&["--root", "dev", "apply", "on.sf"]);
                place.kill("dev", Phase::Apply, |engine, observer| _ = engine.rollback(observer));
            },
            "applying",
            "1.0.0.2",
        ),
        (|place| place.interrupt("dev", "full.sf", Phase::Stage, Recovery::Forward), "preparing", "1.0.0.1"),
        (|place| place.interrupt("dev", "on.sf", Phase::Apply, Recovery::Backward), "applying", "1.0.0.2"),
        // Recovery finishes this one, so there is something to take back.
        (|place| place.interrupt("dev", "on.sf", Phase::Apply, Recovery::Forward), "applying", "1.0.0.2"),
    ];
    for (number, (interrupt, state, from)) in cases.into_iter().enumerate() {
        let place = device();
        interrupt(&place);
        assert_eq!(answer(&place, &["status"])["state"], state, "case {number}");
        let told = answer(&place, &["rollback"]);
        assert_eq!((&told["from"], &told["to"]), (&from.into(), &"1.0.0.1".into()), "case {number}: {told}");
        assert_eq!(told["steps"] == 0, state == "preparing", "case {number}: {told}");
        assert_eq!(told["transaction"].as_str().unwrap().len(), 32, "case {number}: {told}");
        let status = answer(&place, &["status"]);
        assert_eq!((&status["version"], &status["state"]), (&"1.0.0.1".into(), &"idle".into()), "case {number}");
        place.assert_same("dev", "new");
        // What is asked for now is asked for anew.
        assert_eq!(answer(&place, &["rollback"])["to"], "1.0.0", "case {number}");
        place.assert_same("dev", "old");
    }
}

/// With nothing to go back to besides, the second `rollback` failed, although what it was for was done.
#[test]
fn a_rollback_that_recovery_has_finished_is_no_failure() {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf", "--trial"]);
    place.kill("dev", Phase::Revert, |engine, observer| _ = engine.rollback(observer));
    let told = place.good(&["--root", "dev", "rollback"]);
    assert!(told.stdout.starts_with("1.0.0.1 -> 1.0.0, "), "{}", told.stdout);
    place.assert_same("dev", "old");
    place.bad(&["--root", "dev", "rollback"], 1, "transaction.no-undo");
}

/// The power failed in an update, recovery finished it, and the same `apply` said that the tree was the wrong one and
/// named every path that was already what it should become.
#[test]
fn a_patch_that_is_applied_already_has_nothing_to_change() {
    let place = Place::with_packages();
    place.interrupt("dev", "up.sf", Phase::Apply, Recovery::Forward);
    for verify in ["touched", "full"] {
        let told = answer(&place, &["apply", "up.sf", "--verify", verify]);
        assert_eq!((&told["from"], &told["to"]), (&"1.0.0.1".into(), &"1.0.0.1".into()), "{told}");
        assert_eq!((&told["transaction"], &told["steps"]), (&"".into(), &0.into()), "{told}");
    }
    let told = place.good(&["--root", "dev", "apply", "up.sf"]).stdout;
    assert_eq!(told, "1.0.0.1 -> 1.0.0.1, nothing had to change\nconfirmed\n");
    place.assert_same("dev", "new");
    // Nothing was noted, so the undo data is that of the update.
    assert_eq!(answer(&place, &["status"])["rollback"], "1.0.0");
    // Who has made it counts before what it makes; and another version of the same tree is not this one.
    let build = ["build", "old", "new", "--from", "1.0.0", "--owner", "no"];
    place.good(&[&build[..], &["--to", "1.0.0.1", "--key", "stranger", "-o", "stranger.sf"]].concat());
    place.bad(&["--root", "dev", "apply", "stranger.sf"], 3, "trust.signature");
    place.good(&[&build[..], &["--to", "1.0.0.2", "--key", "key", "-o", "other.sf"]].concat());
    place.bad(&["--root", "dev", "apply", "other.sf"], 4, "tree.base");
}

/// Whatever was done to what an update has made was told as other content.
#[test]
fn what_keeps_an_update_from_being_taken_back_is_named_for_what_it_is() {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf"]);
    fs::remove_file(place.path("dev/bin/app")).unwrap();
    place.write("dev/etc/more/conf", "b = 3");
    fs::remove_file(place.path("dev/lib/kept")).unwrap();
    symlink("elsewhere", place.path("dev/lib/kept")).unwrap();
    fs::set_permissions(place.path("dev/etc/more"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("dev/lib/keep", "back again");
    let error = place.bad(&["--root", "dev", "rollback"], 4, "tree.changed");
    let told: Vec<(&str, &str)> = error["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["path"].as_str().unwrap(), finding["difference"].as_str().unwrap()))
        .collect();
    for expected in [
        ("bin/app", "missing"),
        ("etc/more", "mode"),
        ("etc/more/conf", "content"),
        ("lib/keep", "unexpected"),
        ("lib/kept", "type"),
    ] {
        assert!(told.contains(&expected), "{expected:?}: {told:?}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
}

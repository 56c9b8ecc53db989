//! What everybody does: keys, a package, a device, there and back.

use super::Place;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_package_is_built_inspected_applied_taken_back_tried_and_confirmed() {
    let place = Place::with_packages();
    let mode = fs::metadata(place.path("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(place.read("key.pub").starts_with("-----BEGIN PUBLIC KEY-----"));

    let told = place.good(&["inspect", "up.sf"]).stdout;
    assert!(told.starts_with("patch from 1.0.0 to 1.0.0.1\n") && told.contains("NOT verified"), "{told}");
    let told = place.good(&["inspect", "up.sf", "--trust", "key.pub"]).stdout;
    assert!(told.contains("verified: every byte, signed by the trusted key"), "{told}");
    assert!(told.contains("from lib/keep"), "a move costs no content: {told}");

    let told = place.good(&["--root", "dev", "status"]).stdout;
    assert!(told.contains("version   1.0.0\n") && told.contains("nothing to go back to"), "{told}");
    let told = place.good(&["--root", "dev", "apply", "up.sf"]).stdout;
    assert!(told.starts_with("1.0.0 -> 1.0.0.1, ") && told.ends_with("\nconfirmed\n"), "{told}");
    place.assert_same("dev", "new");
    assert!(place.good(&["--root", "dev", "verify"]).stdout.starts_with("the tree is version 1.0.0.1: 4 files"));

    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");
    assert!(place.good(&["--root", "dev", "verify", "--quick"]).stdout.starts_with("the tree is version 1.0.0: 5 "));

    let told = place.good(&["--root", "dev", "apply", "up.sf", "--trial", "--max-attempts", "5"]).stdout;
    assert!(told.contains("on trial"), "{told}");
    let told = place.good(&["--root", "dev", "status"]).stdout;
    assert!(told.contains("state     trial\npending   1.0.0.1\ntrial     0 of 5 boots"), "{told}");
    place.good(&["--root", "dev", "recover"]);
    assert!(place.good(&["--root", "dev", "verify"]).stdout.starts_with("the tree is version 1.0.0.1"));
    assert_eq!(place.good(&["--root", "dev", "confirm"]).stdout, "version 1.0.0.1 stays\n");
    place.assert_same("dev", "new");

    let told = place.good(&["--root", "dev", "history"]).stdout;
    let told: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(
        told,
        [
            vec!["init", "1.0.0", "kept"],
            vec!["apply", "1.0.0", "->", "1.0.0.1", "kept"],
            vec!["undo", "1.0.0.1", "->", "1.0.0", "kept"],
            vec!["apply", "1.0.0", "->", "1.0.0.1", "kept"],
        ]
    );
    assert!(place.good(&["--root", "dev", "recover"]).stdout.starts_with("nothing to do"));
}

#[test]
fn a_trial_is_rolled_back_on_request() {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf", "--trial"]);
    place.assert_same("dev", "new");
    let told = place.good(&["--root", "dev", "rollback"]).stdout;
    assert!(told.starts_with("1.0.0.1 -> 1.0.0, "), "{told}");
    place.assert_same("dev", "old");
    assert!(place.good(&["--root", "dev", "journal", "show"]).stdout.contains("revert: back to the old version"));
}

#[test]
fn a_full_package_makes_its_tree_of_any_other() {
    let place = Place::with_packages();
    place.good(&["build", "--full", "new", "--to", "v2.0.0", "--owner", "no", "--level", "fast", "-o", "full.sf"]);
    place.good(&["sign", "full.sf", "--key", "key"]);
    let told = place.good(&["inspect", "full.sf", "--trust", "key.pub"]).stdout;
    assert!(told.starts_with("full package of 2.0.0\n"), "{told}");
    place.good(&["--root", "dev", "apply", "full.sf", "--verify", "full"]);
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");
}

#[test]
fn a_difference_is_told_in_one_line_a_path() {
    let place = Place::new();
    let told = place.good(&["diff", "old", "new", "--owner", "no"]).stdout;
    assert_eq!(
        told,
        "M bin/app  (3 B)\nm etc/conf  (another mode)\nA etc/more\nA etc/more/conf  (5 B)\n\
         R lib/keep -> lib/kept  (28 B)\nD lib/other name  (28 B)\nD lib/x\nD lib/x/gone  (4 B)\n\
         2 added, 1 modified, 3 removed, 1 moved, 0 copied, 1 with other metadata; 8 B of new content\n"
    );
}

#[test]
fn equal_inputs_give_equal_packages() {
    let place = Place::with_packages();
    let first = fs::read(place.path("up.sf")).unwrap();
    place.build("old", "new", "1.0.0", "1.0.0.1", "again.sf");
    assert_eq!(fs::read(place.path("again.sf")).unwrap(), first);
    let names: Vec<_> = fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "nothing is left: {names:?}");
}

#[test]
fn what_makes_a_package_large_is_drawn_to_the_byte() {
    let place = Place::with_packages();
    let text: String = (0..3000).map(|n| format!("line {n} of {}\n", n * n % 977)).collect();
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(33 + (state >> 40) as u8 % 90)
    };
    let noise: String = (0..4000).map(|_| noise()).collect();
    place.write("old/lib/text", &text);
    place.write("new/lib/text", &text.replace("line 5", "LINE 5"));
    place.write("new/lib/<script>", &noise);
    place.build("old", "new", "1.0.0", "1.0.0.1", "large.sf");
    place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--key", "key", "--owner", "no", "-o", "whole.sf"]);
    for package in ["large.sf", "whole.sf"] {
        place.bad(&["inspect", package, "--html", "page.html"], 2, "usage.invalid");
        place.good(&["inspect", package, "--trust", "key.pub", "--html", "page.html"]);
        let page = place.read("page.html");
        let line = page.lines().find_map(|line| line.strip_prefix("const data = ")).unwrap();
        assert!(!line.contains('<'), "nothing in a name ends the script");
        let data: serde_json::Value = serde_json::from_str(line.trim_end_matches(';')).unwrap();
        let tiles = data["map"]["tiles"].as_array().unwrap();
        let bytes = |tile: &serde_json::Value| -> f64 {
            tile["causes"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum()
        };
        let drawn = tiles.iter().map(bytes).sum::<f64>()
            + data["map"]["views"].as_f64().unwrap()
            + data["map"]["manifest"].as_f64().unwrap();
        let file = std::fs::metadata(place.path(package)).unwrap().len();
        assert!((drawn - file as f64).abs() < 1.0, "{drawn} of {file} bytes");
        let noisy = tiles.iter().find(|tile| tile["path"] == "lib/<script>").unwrap();
        assert!(bytes(noisy) > 1000.0, "{noisy}");
    }
}

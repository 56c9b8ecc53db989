//! Repositories, as a publisher and a device meet them on the command line.

use super::Place;
use std::fs;
use std::process::Stdio;

fn with_repository() -> Place {
    let place = Place::with_packages();
    place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--owner", "no", "-o", "full.sf"]);
    place.good(&["repo", "init", "REPO", "--key", "key"]);
    place
}

#[test]
fn one_key_makes_a_repository_in_one_command() {
    let place = with_repository();
    let told = place.good(&["repo", "add", "REPO", "full.sf", "up.sf", "--key", "key"]).stdout;
    assert!(told.starts_with("new     any/1.0.0.1/full.sf") && told.contains("\nREPO: 2 packages, root 1"), "{told}");
    let told = place.good(&["repo", "add", "REPO", "up.sf", "--key", "key"]).stdout;
    assert!(told.starts_with("known "), "{told}");
    let told = place.good(&["repo", "add", "REPO", "up.sf", "--key", "key", "--channel", "beta"]).stdout;
    assert!(told.starts_with("changed "), "{told}");
    assert!(place.good(&["repo", "verify", "REPO"]).stdout.starts_with("2 packages, "));
    place.good(&["repo", "verify", "REPO", "--trust", "REPO/metadata/1.root.json"]);
    place.good(&["repo", "mirror", "REPO", "MIRROR"]);
    assert!(place.good(&["repo", "verify", "MIRROR"]).stdout.starts_with("2 packages, "));
    place.good(&["repo", "remove", "REPO", "1.0.0.1", "--key", "key"]);
    place.good(&["repo", "gc", "REPO", "--keep", "0"]);
    assert!(place.good(&["repo", "verify", "REPO"]).stdout.starts_with("0 packages, "));
    place.copy("old", "dev2");
    let told = place.good(&[
        "--root",
        "dev2",
        "init",
        "--version",
        "1.0.0",
        "--owner",
        "no",
        "--trust",
        "REPO/metadata/1.root.json",
        "--trust",
        "key.pub",
    ]);
    assert!(told.stdout.contains("believed from its root metadata of version 1 on"), "{}", told.stdout);
    assert_eq!(place.read("dev2/.surefoot/trust/root.json"), place.read("REPO/metadata/1.root.json"));
}

#[test]
fn keys_that_stay_offline_sign_a_draft() {
    let place = with_repository();
    for name in ["anna", "ben", "cleo", "online"] {
        place.good(&["keygen", "-o", name]);
    }
    let roots = ["--root-key", "anna.pub", "--root-key", "ben.pub", "--root-key", "cleo.pub"];
    let roles = ["--targets-key", "key.pub", "--online-key", "online.pub", "--draft", "root.json"];
    place.good(&[&["repo", "init", "OFF"], &roots[..], &roles].concat());
    assert!(!place.path("OFF").exists());
    let init = ["repo", "init", "OFF", "--root-metadata", "root.json", "--key", "key", "--key", "online"];
    assert_eq!(place.run(&init).code, 3);
    place.good(&["sign", "root.json", "--key", "anna"]);
    assert_eq!(place.run(&init).code, 3, "one of two");
    let told = place.good(&["sign", "root.json", "--key", "cleo"]).stdout;
    assert!(told.ends_with("is signed by 2 keys\n"), "{told}");
    place.good(&init);
    place.good(&["repo", "add", "OFF", "full.sf", "--key", "key", "--key", "online"]);
    place.bad(&["repo", "add", "OFF", "up.sf", "--key", "online"], 3, "trust.threshold");

    place.good(&["keygen", "-o", "online2"]);
    place.good(&["repo", "rotate", "OFF", "--online-key", "online2.pub", "--draft", "next.json"]);
    place.good(&["sign", "next.json", "--key", "ben"]);
    let rotate = ["repo", "rotate", "OFF", "--root-metadata", "next.json", "--key", "online2", "--key", "online"];
    place.bad(&rotate, 3, "trust.threshold");
    place.good(&["sign", "next.json", "--key", "cleo"]);
    let told = place.good(&rotate);
    assert!(told.stdout.contains("root 2") && told.stderr.is_empty(), "{}{}", told.stdout, told.stderr);
    place.good(&["repo", "expire", "OFF", "--key", "online2"]);
    place.bad(&["repo", "expire", "OFF", "--key", "online"], 3, "trust.threshold");
    place.good(&["repo", "verify", "OFF"]);

    // That key is lost: what stands there by its word is listed, and somebody has to say that it is his.
    place.good(&["keygen", "-o", "online3"]);
    place.good(&["repo", "rotate", "OFF", "--online-key", "online3.pub", "--draft", "third.json"]);
    for name in ["ben", "anna"] {
        place.good(&["sign", "third.json", "--key", name]);
    }
    let rotate = ["repo", "rotate", "OFF", "--root-metadata", "third.json", "--key", "online3"];
    let told = place.run(&rotate);
    assert!(
        told.code == 3 && told.stderr.contains("any/1.0.0.1/full.sf") && told.stderr.contains("--adopt"),
        "{}",
        told.stderr
    );
    let told = place.run(&[&["--json"], &rotate[..]].concat()).stdout;
    let listed = r#"{"type":"adopted","path":"any/1.0.0.1/full.sf","role":null,"bytes":"#;
    assert!(told.contains(listed) && told.contains(r#""code":"trust.adoption""#), "{told}");
    let told = place.good(&[&rotate[..], &["--adopt"]].concat());
    assert!(told.stdout.contains("root 3") && told.stderr.contains("any/1.0.0.1/full.sf"), "{}", told.stderr);
    place.good(&["repo", "verify", "OFF"]);
}

#[test]
fn what_cannot_be_published_is_refused_by_name() {
    let place = with_repository();
    place.good(&["repo", "add", "REPO", "full.sf", "--key", "key"]);
    place.bad(&["repo", "init", "REPO", "--key", "key"], 1, "repository.exists");
    place.bad(&["repo", "add", "new", "full.sf", "--key", "key"], 1, "repository.none");
    place.bad(&["repo", "verify", "new"], 1, "repository.none");
    place.bad(&["repo", "remove", "REPO", "9.9.9", "--key", "key"], 1, "repository.not-published");
    place.good(&["build", "--full", "old", "--to", "1.0.0.1", "--owner", "no", "-o", "other.sf"]);
    place.bad(&["repo", "add", "REPO", "other.sf", "--key", "key"], 1, "repository.published");
    place.bad(&["repo", "add", "REPO", "key.pub", "--key", "key"], 3, "package.format");
    place.bad(&["repo", "add", "REPO", "full.sf", "--key", "key", "--channel", "a/b"], 2, "usage.invalid");
    place.bad(&["repo", "add", "REPO", "none.sf", "--key", "key"], 6, "source.unavailable");
    place.bad(&["repo", "init", "NONE", "--key", "key.pub"], 3, "trust.threshold");
    place.bad(&["repo", "init", "NONE"], 2, "usage.invalid");
    place.bad(&["repo", "init", "NONE", "--key", "key", "--days", "moon=3"], 2, "usage.invalid");
    place.copy("old", "dev2");
    let init = ["--root", "dev2", "init", "--version", "1.0.0", "--trust"];
    place.write("bad.json", "{}");
    place.bad(&[&init[..], &["bad.json"]].concat(), 3, "trust.metadata");
    place.bad(&[&init[..], &["REPO/metadata/timestamp.json"]].concat(), 3, "trust.metadata");
    let root = "REPO/metadata/1.root.json";
    place.bad(&[&init[..], &[root, "--trust", root]].concat(), 2, "usage.invalid");
    let blob = fs::read_dir(place.path("REPO/targets/any/1.0.0.1")).unwrap().next().unwrap().unwrap().path();
    fs::write(blob, b"something else").unwrap();
    place.bad(&["repo", "verify", "REPO"], 1, "repository.broken");
    place.bad(&["repo", "verify", "REPO", "--trust", "bad.json"], 3, "trust.metadata");
}

#[test]
fn a_publisher_that_is_killed_leaves_a_repository_that_is_believed() {
    let place = with_repository();
    place.good(&["repo", "add", "REPO", "full.sf", "--key", "key"]);
    let mut killed = 0;
    for round in 0..20_u64 {
        let mut child = place
            .command(&["repo", "expire", "REPO", "--key", "key", "--targets"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 700));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        place.good(&["repo", "verify", "REPO"]);
    }
    // The lock has gone with the last of them.
    place.good(&["repo", "expire", "REPO", "--key", "key"]);
    assert!(killed > 0, "every one was done before it was killed");
}

//! The objects that programs read: `docs/cli.md` shows each one, and these tests hold the program to it.

use super::Place;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The objects in the manual.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("{\"type\""));
    lines.map(|line| normal(&serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))).collect()
}

/// Keys and types, with every value that varies put to a fixed one.
fn normal(value: &Value) -> String {
    fn walk(key: &str, value: &Value) -> Value {
        match value {
            Value::Null => Value::Null,
            Value::Bool(_) if matches!(key, "proved" | "exhaustive") => Value::Bool(true),
            Value::Bool(value) => Value::Bool(*value),
            Value::Number(number) => {
                if number.is_f64() {
                    0.5.into()
                } else {
                    0.into()
                }
            }
            Value::String(text) => match key {
                "id" | "key" | "keys" | "target" | "base" | "digest" | "signers" | "signer" | "claimed_signers"
                | "plan" | "transaction" | "session" | "hash" | "signature" | "expires" => key.into(),
                "at" | "root" | "message" | "hint" | "causes" | "phase" | "text" | "package" | "path" | "from"
                | "code" | "file" | "files" | "directories" | "fate" | "act" => key.into(),
                // Numbers of bytes are in it.
                "reason" => text.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>().concat().into(),
                _ => text.clone().into(),
            },
            // Paths of a tree, if there are any to tell: see `crashtest`.
            Value::Array(_) if matches!(key, "found" | "left") => key.into(),
            Value::Array(values) => {
                let mut values: Vec<Value> = values.iter().map(|value| walk(key, value)).collect();
                values.dedup();
                values.into()
            }
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), walk(key, value))).collect::<Map<_, _>>().into()
            }
        }
    }
    walk("", value).to_string()
}

#[test]
fn every_object_is_in_the_manual_and_the_manual_tells_of_no_other() {
    let place = Place::with_packages();
    let device = |arguments: &[&'static str]| [&["--root", "dev"], arguments].concat();
    let build = ["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--owner", "no"];
    let full = ["build", "--full", "new", "--to", "1.0.0.1", "--owner", "no", "-o", "full.sf"];
    let service = ["build", "old", "new", "--to", "1.0.0.1", "--owner", "no", "--format", "tar.gz", "--key", "key"];
    place.copy("dev", "dev2");
    place.copy("old", "spare");
    place.copy("dev", "dev3");
    place.good(&[&service[..], &["-o", "up.tar.gz", "--entry", "signed.json"]].concat());
    let entry: Value = serde_json::from_str(&place.read("signed.json")).unwrap();
    let manifest = serde_json::json!({"version": "1.0.0.1", "patch": {"x86_64": entry}}).to_string();
    // The package without a signature takes the name of the signed one.
    let manifest = manifest.replace("up.tar.gz", "signed.tar.gz");
    place.write("manifest.json", &manifest);
    place.copy("up.tar.gz", "signed.tar.gz");
    place.good(&[&service[..9], &["-o", "up.tar.gz", "--entry", "bare.json"]].concat());
    let runs: Vec<Vec<&str>> = vec![
        vec!["keygen", "-o", "k2"],
        vec!["diff", "old", "new", "--owner", "no"],
        vec!["diff", "old", "old", "--owner", "no"],
        [&build[..], &["--key", "key", "-o", "up.sf"]].concat(),
        full.to_vec(),
        [&service[..], &["-o", "up.tar.gz"]].concat(),
        vec!["sign", "full.sf", "--key", "key"],
        vec!["inspect", "up.sf"],
        vec!["inspect", "up.sf", "--trust", "key.pub"],
        vec!["inspect", "full.sf", "--allow-unsigned"],
        vec!["--root", "new", "init", "--version", "1.0.0", "--owner", "no", "--trust", "key.pub"],
        device(&["status"]),
        device(&["recover"]),
        device(&["apply", "up.sf", "--trial"]),
        device(&["status"]),
        device(&["recover"]),
        device(&["journal", "show"]),
        device(&["confirm"]),
        device(&["status"]),
        device(&["rollback"]),
        device(&["apply", "up.sf", "--trial"]),
        device(&["rollback"]),
        device(&["journal", "show"]),
        device(&["apply", "up.sf", "--allow-unsigned"]),
        device(&["journal", "show"]),
        device(&["history"]),
        vec!["--root", "dev2", "apply", "up.tar.gz", "--entry", "signed.json"],
        vec!["--root", "dev2", "rollback"],
        vec!["--root", "dev2", "apply", "up.tar.gz", "--entry", "bare.json", "--allow-unsigned"],
        vec!["--root", "dev3", "check", "--from", "manifest.json", "--manifest", "service", "--arch", "x86_64"],
        vec!["--root", "dev3", "plan", "--from", "manifest.json", "--manifest", "service", "--arch", "x86_64"],
        vec!["--root", "dev3", "update", "--from", "manifest.json", "--manifest", "service", "--arch", "x86_64"],
        vec!["--root", "dev3", "check", "--from", "manifest.json", "--manifest", "service"],
        vec!["--root", "dev3", "plan", "--from", "manifest.json", "--manifest", "service"],
        vec!["--root", "dev3", "update", "--from", "manifest.json", "--manifest", "service"],
        device(&["verify"]),
        device(&["confirm"]),
        device(&["verify", "--bogus"]),
        vec!["crashtest", "up.sf", "--base", "old", "--profile", "posix", "--max-states", "200"],
        vec!["crashtest", "up.sf", "--base", "old", "--profile", "posix", "--max-states", "9000", "--ignore-sync", "0"],
        vec!["repo", "init", "REPO", "--key", "key"],
        vec!["repo", "init", "REPO2", "--root-key", "key.pub", "--key", "key.pub", "--draft", "root.json"],
        vec!["sign", "root.json", "--key", "key"],
        vec!["repo", "add", "REPO", "full.sf", "up.sf", "--key", "key"],
        vec!["--root", "spare", "init", "--version", "1.0.0", "--owner", "no", "--trust", "REPO/metadata/1.root.json"],
        vec!["repo", "rotate", "REPO", "--key", "key", "--targets-key", "k2", "--online-key", "k2"],
        vec!["repo", "expire", "REPO", "--key", "k2", "--key", "key", "--targets"],
        vec!["repo", "verify", "REPO"],
        vec!["repo", "mirror", "REPO", "MIRROR"],
        vec!["repo", "bundle", "REPO", "-o", "repo.sfb"],
        vec!["repo", "export-manifest", "REPO", "-o", "offer.json"],
        vec!["--root", "spare", "check", "--from", "REPO"],
        vec!["--root", "spare", "plan", "--from", "REPO"],
        vec!["--root", "spare", "update", "--from", "REPO"],
        vec!["--root", "spare", "check", "--from", "repo.sfb"],
        vec!["--root", "spare", "plan", "--from", "REPO"],
        vec!["--root", "spare", "update", "--from", "REPO"],
        vec!["repo", "remove", "REPO", "1.0.0.1", "--key", "k2", "--key", "key"],
        vec!["repo", "gc", "REPO", "--keep", "0"],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["man", "."],
    ];
    let documented = documented();
    let mut seen = BTreeSet::new();
    let mut look = |arguments: &[&str]| {
        let ran = place.run(&[&["--json"], arguments].concat());
        for line in ran.stdout.lines() {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let normal = normal(&object);
            assert!(documented.contains(&normal), "not in docs/cli.md, of {arguments:?}:\n{line}");
            seen.insert(normal);
        }
        let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["type"], if ran.code == 0 { "result" } else { "error" }, "the last object is the answer");
    };
    for arguments in runs {
        look(&arguments);
    }
    // A full package of which most is there.
    place.copy("old", "large");
    for seed in [1_u64, 2] {
        let mut state = seed;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..4 << 20).map(|_| step()).collect();
        std::fs::write(place.path(&format!("large/{seed}")), noise).unwrap();
    }
    place.good(&["repo", "init", "LARGE", "--key", "key"]);
    let init = ["--root", "large", "init", "--version", "1.0.0", "--owner", "no", "--trust", "key.pub"];
    place.copy("large", "larger");
    place.write("larger/app", "a new application");
    let add = ["repo", "add", "LARGE", "--tree", "larger", "--to", "1.1.0", "--key", "key", "--owner", "no"];
    place.good(&add);
    place.good(&init);
    look(&["--root", "large", "check", "--from", "LARGE"]);
    place.write("dev/bin/app", "changed");
    // As it is when nobody has renewed it for a year.
    let keys = ["k2", "key"].map(|name| surefoot::trust::SecretKey::from_pem(&place.read(name)).unwrap());
    let vfs = surefoot::vfs::OsVfs::open_tree(&place.path("REPO")).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let then = surefoot::repository::Moment::from_seconds(now - 365 * 86_400);
    let mut publisher = surefoot::publish::Publisher::open(vfs).unwrap();
    publisher.believe_clock();
    publisher.renew(&["targets"], &[&keys[0], &keys[1]], then).unwrap();
    drop(publisher);
    look(&["--root", "spare", "check", "--from", "REPO", "--offline-policy", "ignore-expiry"]);
    look(&["--root", "dev", "verify"]);
    // What takes longer than these runs do.
    let slow =
        |object: &str| ["\"trying\"", "\"bytes_per_second\"", "\"label\""].iter().any(|key| object.contains(key));
    let untold: Vec<&String> = documented.difference(&seen).filter(|object| !slow(object)).collect();
    assert!(untold.is_empty(), "in docs/cli.md, but never seen: {untold:#?}");
}

#[test]
fn quiet_leaves_out_progress() {
    let place = Place::with_packages();
    let told = place.good(&["--json", "--root", "dev", "verify"]).stdout;
    assert!(told.starts_with("{\"type\":\"progress\""), "{told}");
    let told = place.good(&["--json", "-q", "--root", "dev", "verify"]).stdout;
    assert_eq!(told.lines().count(), 1, "{told}");
}

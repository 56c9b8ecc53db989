//! The objects that programs read: `docs/cli.md` shows each one, and these tests hold the program to it.

use super::{Place, Ran};
use crate::fetch::server::{Server, send, serve};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use surefoot::cli::lab::{FILE_SYSTEMS, FileSystem, lacking};
use surefoot::device::{Attempts, Phase};
use surefoot::transaction::Recovery;
use surefoot::vfs::OsVfs;

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
                "name" if text.ends_with(".tar.gz") => "name.tar.gz".into(),
                "file_system" | "file_systems" => "file_system".into(),
                "state" if text.contains('.') => key.into(),
                // Numbers of bytes are in it.
                "reason" => text.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>().concat().into(),
                _ => text.clone().into(),
            },
            // Paths of a tree or states, if there are any to tell: see `crashtest`.
            Value::Array(_) if matches!(key, "found" | "left") => key.into(),
            // By how they ended, which depends on time.
            Value::Object(_) if key == "ended" => key.into(),
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
    let mut manual = Manual { documented: documented(), seen: BTreeSet::new(), untold: BTreeMap::new() };
    let mut look = |arguments: &[&str]| manual.look(arguments, &place.run(&[&["--json"], arguments].concat()));
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
    let mut skipped = downloads(&mut manual);
    skipped.extend(boots(&mut manual));
    skipped.extend(interrupted(&mut manual));
    skipped.extend(real_file_systems(&mut manual));
    assert!(manual.untold.is_empty(), "not in docs/cli.md: {:#?}", manual.untold);
    let untold = |object: &&String| !skipped.iter().any(|key| object.contains(key));
    let untold: Vec<&String> = manual.documented.difference(&manual.seen).filter(untold).collect();
    assert!(untold.is_empty(), "in docs/cli.md, but never seen: {untold:#?}");
}

/// The objects in the manual, and those of them that the program has told.
struct Manual {
    documented: BTreeSet<String>,
    seen: BTreeSet<String>,
    /// Objects that the manual does not have, and where they are from.
    untold: BTreeMap<String, String>,
}

/// What of the manual's objects cannot be told on this machine: each has one of these in it.
type Skipped = Vec<&'static str>;

impl Manual {
    /// Holds what the program told to the manual.
    fn look(&mut self, arguments: &[&str], ran: &Ran) {
        for line in ran.stdout.lines() {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let normal = normal(&object);
            if !self.documented.contains(&normal) {
                self.untold.insert(normal.clone(), format!("of {arguments:?}: {line}"));
            }
            self.seen.insert(normal);
        }
        let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["type"], if ran.code == 0 { "result" } else { "error" }, "the last object is the answer");
    }
}

/// Downloads that take their time, of a length that is told or not, and one that is interrupted.
fn downloads(manual: &mut Manual) -> Skipped {
    let place = Place::with_packages();
    let text: String = (0..60_000_u64).map(|n| char::from(33 + ((n * n * 2_654_435_761) >> 20) as u8 % 90)).collect();
    place.write("new/large", &text);
    let build = ["build", "old", "new", "--to", "1.0.0.1", "--owner", "no", "--format", "tar.gz", "--key", "key"];
    place.good(&[&build[..], &["-o", "up.tar.gz", "--entry", "entry.json"]].concat());
    let bytes = std::fs::read(place.path("up.tar.gz")).unwrap();
    assert!(bytes.len() > 40_000, "{}", bytes.len());
    let mut entry: Value = serde_json::from_str(&place.read("entry.json")).unwrap();
    let mut manifests = Vec::new();
    for name in ["sized", "cut", "unsized"] {
        if name == "unsized" {
            entry.as_object_mut().unwrap().remove("size");
        }
        entry["url"] = format!("{name}.tar.gz").into();
        let manifest = serde_json::json!({"version": "1.0.0.1", "patch": {"x86_64": entry, "aarch64": entry}});
        manifests.push((format!("/{name}.json"), manifest.to_string()));
    }
    let server = Server::start(move |asked, stream| match asked.path.as_str() {
        "/sized.tar.gz" => serve(asked, stream, &bytes, "\"a\""),
        "/cut.tar.gz" => send(stream, "200 OK", &["Content-Length: 200000"], &bytes[..20_000]),
        "/unsized.tar.gz" => send(stream, "200 OK", &[], &bytes),
        path => match manifests.iter().find(|(name, _)| name == path) {
            Some((_, text)) => send(stream, "200 OK", &[], text.as_bytes()),
            None => send(stream, "404 Not Found", &[], b""),
        },
    });
    let update = |name: &str, more: &[&str]| -> Vec<String> {
        let url = server.url(&format!("{name}.json"));
        let start = ["--json", "--root", "dev", "update", "--from", &url, "--manifest", "service", "--limit-rate"];
        [&start[..], &["25000"], more].concat().into_iter().map(str::to_owned).collect()
    };
    for name in ["sized", "unsized"] {
        let arguments = update(name, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        manual.look(&arguments, &place.run(&arguments));
        place.good(&["--root", "dev", "rollback"]);
    }
    // A version that was given up, and is tried again, and interrupted.
    let vfs = OsVfs::open(&place.path("dev"), &place.path("dev/.surefoot")).unwrap();
    let mut attempts = Attempts::default();
    (0..3).for_each(|_| attempts.note(&vfs, "1.0.0.1".parse().unwrap()).unwrap());
    let arguments = update("cut", &["--again", "--retries", "0"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = place.run(&arguments);
    assert_eq!(ran.code, 6, "{}", ran.stdout);
    manual.look(&arguments, &ran);
    manual.look(&["status"], &place.run(&["--json", "--root", "dev", "status"]));
    Vec::new()
}

/// A trial that nobody confirms, from boot to boot.
fn boots(manual: &mut Manual) -> Skipped {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf", "--trial", "--max-attempts", "1"]);
    for boot in ["a", "b"] {
        for arguments in [&["recover"][..], &["journal", "show"], &["status"]] {
            let arguments = [&["--json", "--root", "dev"], arguments].concat();
            let Some(ran) = place.boot(boot, &arguments) else {
                return vec!["\"trying\"", "\"attempts-exhausted"];
            };
            assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
            manual.look(&arguments, &ran);
        }
    }
    place.assert_same("dev", "old");
    Vec::new()
}

/// Updates that end in the middle of something, and what recovery makes of them.
fn interrupted(manual: &mut Manual) -> Skipped {
    for (phase, recovery, outcome) in [
        (Phase::Stage, Recovery::Forward, "abandoned"),
        (Phase::Apply, Recovery::Forward, "kept"),
        (Phase::Apply, Recovery::Backward, "restored"),
    ] {
        let place = Place::with_packages();
        // The contents of a patch are made before its transaction begins, those of a full package in it.
        place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--owner", "no", "-o", "full.sf"]);
        place.interrupt("dev", "full.sf", phase, recovery);
        for arguments in [["status"], ["recover"]] {
            let arguments = [&["--json", "--root", "dev"], &arguments[..]].concat();
            let ran = place.run(&arguments);
            assert!(!arguments.contains(&"recover") || ran.stdout.contains(outcome), "{phase:?}: {}", ran.stdout);
            manual.look(&arguments, &ran);
        }
        place.assert_same("dev", if outcome == "kept" { "new" } else { "old" });
    }
    Vec::new()
}

/// A moment of the crash lab, where it can be had.
fn real_file_systems(manual: &mut Manual) -> Skipped {
    let skipped = vec!["\"file-system\"", "\"file_systems\"", "\"state\":\"state\""];
    let systems = FILE_SYSTEMS.iter().filter(|system| system.kind == "ext4");
    if let Some(why) = lacking().or_else(|| systems.filter_map(FileSystem::missing).next()) {
        println!("SKIPPED: crashtest --real, {why}");
        return skipped;
    }
    let place = Place::with_packages();
    let arguments = ["crashtest", "up.sf", "--base", "old", "--real", "ext4", "--seconds", "3"];
    manual.look(&arguments, &place.run(&[&["--json"], &arguments[..]].concat()));
    // A disk that lies leaves states to look at again: those, and others of the same recording that are in order.
    let lies = ["crashtest", "up.sf", "--base", "old", "--real", "ext4", "--ignore-sync", "0", "--keep", "kept"];
    let ran = place.run(&[&["--json"], &lies[..]].concat());
    manual.look(&lies, &ran);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let kept = std::fs::read_dir(place.path("kept")).unwrap().next().unwrap().unwrap().file_name();
    let state = format!("{}.c0.all.0", kept.to_str().unwrap());
    let again = [&lies[..6], &["--keep", "kept", "--replay", &state]].concat();
    manual.look(&again, &place.run(&[&["--json"], &again[..]].concat()));
    Vec::new()
}

#[test]
fn quiet_leaves_out_progress() {
    let place = Place::with_packages();
    let told = place.good(&["--json", "--root", "dev", "verify"]).stdout;
    assert!(told.starts_with("{\"type\":\"progress\""), "{told}");
    let told = place.good(&["--json", "-q", "--root", "dev", "verify"]).stdout;
    assert_eq!(told.lines().count(), 1, "{told}");
}

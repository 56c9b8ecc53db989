//! The command line following a repository: over paths, `file:` URLs and nginx.

use super::nginx::Nginx;
use super::noise;
use super::server::{Asked, Server, send, serve as serve_file};
use super::update::Place;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use surefoot::publish::Publisher;
use surefoot::repository::Moment;
use surefoot::trust::SecretKey;
use surefoot::vfs::OsVfs;

/// A repository `REPO` with version 1.0.0 of the tree `old`, which `dev` has.
pub(super) fn with_repository() -> Place {
    let place = Place::new();
    place.good(&["repo", "init", "REPO", "--key", "key"]);
    full(&place, "old", "1.0.0", &[]);
    place
}

pub(super) fn full(place: &Place, tree: &str, version: &str, terms: &[&str]) {
    let build = ["build", "--full", tree, "--to", version, "--owner", "no", "--no-prove", "-o", "full.sf"];
    place.good(&build);
    place.good(&[&["repo", "add", "REPO", "full.sf", "--key", "key"], terms].concat());
}

pub(super) fn patch(place: &Place, (old, from): (&str, &str), (new, to): (&str, &str), terms: &[&str]) {
    let build = ["build", old, new, "--from", from, "--to", to, "--owner", "no", "--no-prove", "-o", "patch.sf"];
    place.good(&build);
    place.good(&[&["repo", "add", "REPO", "patch.sf", "--key", "key"], terms].concat());
}

pub(super) fn copy(place: &Place, from: &str, to: &str) {
    let _ = fs::remove_dir_all(place.path(to));
    assert!(Command::new("cp").arg("-a").arg(place.path(from)).arg(place.path(to)).status().unwrap().success());
}

pub(super) fn on_device<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--root", "dev", verb, "--from", "REPO"], more].concat()
}

/// The last object that the program told.
pub(super) fn object(place: &Place, arguments: &[&str]) -> Value {
    let (_, stdout, stderr) = place.run(&[&["--json"], arguments].concat());
    serde_json::from_str(stdout.lines().last().unwrap_or_else(|| panic!("{stderr}"))).unwrap()
}

/// Signs the metadata of the repository as if it were this moment.
fn renew_at(place: &Place, moment: Moment) {
    let key = SecretKey::from_pem(&fs::read_to_string(place.path("key")).unwrap()).unwrap();
    let vfs = OsVfs::open_tree(&place.path("REPO")).unwrap();
    let mut publisher = Publisher::open(vfs).unwrap();
    publisher.believe_clock();
    publisher.renew(&["targets"], &[&key], moment).unwrap();
}

fn days_from_now(days: i64) -> Moment {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Moment::from_seconds(now as i64 + days * 86_400)
}

#[test]
fn a_device_follows_a_publisher_from_version_to_version() {
    let place = with_repository();
    let up_to_date = "nothing to do: 1.0.0 is the newest version\n";
    assert_eq!(place.good(&on_device("update", &[])), up_to_date);
    full(&place, "new", "1.0.0.1", &[]);
    patch(&place, ("old", "1.0.0"), ("new", "1.0.0.1"), &[]);
    let told = place.good(&on_device("check", &[]));
    assert!(told.starts_with("patch from 1.0.0 to 1.0.0.1: a patch takes "), "{told}");
    place.assert_same("dev", "old");
    let told = place.good(&on_device("plan", &[]));
    assert!(told.contains("\nfetch    any/1.0.0.1/from-1.0.0.sf  "), "{told}");
    let planned = object(&place, &on_device("plan", &[]));
    assert_eq!((&planned["strategy"], &planned["operations"]), (&json!("patch"), &Value::Null));
    let url = format!("file://{}", place.path("REPO").display());
    let told = place.good(&["--json", "--root", "dev", "update", "--from", &url]);
    let phases = ["check", "download", "stage", "apply"];
    assert!(phases.iter().all(|phase| told.contains(&format!("\"phase\":\"{phase}\""))), "{told}");
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&last["from"], &last["to"], &last["trial"]), (&json!("1.0.0"), &json!("1.0.0.1"), &json!(false)));
    place.assert_same("dev", "new");
    let left: Vec<_> = fs::read_dir(place.path("dev/.surefoot/downloads")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock");

    copy(&place, "new", "newer");
    place.write("newer/app", "the newest application");
    full(&place, "newer", "2.0.0", &["--channel", "stable", "--channel", "beta"]);
    let told = place.good(&on_device("update", &["--force-full"]));
    assert!(told.starts_with("1.0.0.1 -> 2.0.0, "), "{told}");
    place.assert_same("dev", "newer");
    place.good(&["--root", "dev", "verify"]);
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "new");
}

#[test]
fn a_chain_is_gone_in_one_update_and_on_trial_one_package_at_a_time() {
    let place = with_repository();
    copy(&place, "new", "newer");
    place.write("newer/app", "the newest application");
    // The full package is larger than both patches together.
    for tree in ["old", "new", "newer"] {
        fs::write(place.path(tree).join("ballast"), noise(200_000, 3)).unwrap();
    }
    place.device();
    full(&place, "newer", "1.2.0", &[]);
    patch(&place, ("old", "1.0.0"), ("new", "1.1.0"), &[]);
    patch(&place, ("new", "1.1.0"), ("newer", "1.2.0"), &[]);
    let told = object(&place, &on_device("check", &[]));
    assert_eq!((&told["strategy"], told["steps"].as_array().unwrap().len()), (&json!("chain"), 2), "{told}");
    let sizes = fs::metadata(place.path("full.sf")).unwrap().len();
    assert!(told["bytes"].as_u64().unwrap() < sizes, "{told}");
    place.bad(&on_device("update", &["--max-bytes", "100"]), 5, "strategy.budget");
    place.assert_same("dev", "old");
    let told = object(&place, &on_device("update", &[]));
    assert_eq!((&told["from"], &told["to"]), (&json!("1.0.0"), &json!("1.2.0")));
    assert!(told["steps"].as_u64().unwrap() >= 4, "the steps of both: {told}");
    place.assert_same("dev", "newer");

    place.device();
    let told = object(&place, &on_device("update", &["--trial"]));
    assert_eq!((&told["to"], &told["trial"]), (&json!("1.1.0"), &json!(true)));
    place.bad(&on_device("update", &[]), 1, "transaction.pending");
    assert_eq!(place.good(&on_device("check", &[])).lines().count(), 1, "looking is allowed on trial");
    place.good(&["--root", "dev", "confirm"]);
    place.good(&on_device("update", &["--trial"]));
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "new");
}

#[test]
fn a_chain_that_fails_on_its_way_says_how_far_it_has_come() {
    let place = with_repository();
    copy(&place, "new", "newer");
    place.write("newer/extra", "a file that the last version brings");
    patch(&place, ("old", "1.0.0"), ("new", "1.1.0"), &[]);
    patch(&place, ("new", "1.1.0"), ("newer", "1.2.0"), &[]);
    place.write("dev/extra", "a file of somebody else");
    let (code, _, stderr) = place.run(&on_device("update", &[]));
    assert!(code == 4 && stderr.contains("1.1.0 was installed on the way to 1.2.0, which failed"), "{code} {stderr}");
    assert!(stderr.contains("because: "), "{stderr}");
    assert_eq!(object(&place, &["--root", "dev", "status"])["version"], "1.1.0");
    fs::remove_file(place.path("dev/extra")).unwrap();
    place.good(&on_device("update", &[]));
    place.assert_same("dev", "newer");
}

#[test]
fn a_patch_of_a_tree_that_is_not_here_is_not_chosen() {
    let place = with_repository();
    full(&place, "new", "1.0.0.1", &[]);
    patch(&place, ("new", "1.0.0"), ("new", "1.0.0.1"), &[]);
    let told = object(&place, &on_device("check", &[]));
    assert_eq!(told["strategy"], "full", "{told}");
    place.good(&on_device("update", &[]));
    place.assert_same("dev", "new");
}

#[test]
fn the_rules_of_the_device_decide_what_is_installed() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &["--channel", "beta"]);
    let nothing = "nothing to do: 1.0.0 is the newest version\n";
    assert_eq!(place.good(&on_device("check", &[])), nothing, "it is in another channel");
    assert!(place.good(&on_device("check", &["--channel", "beta"])).starts_with("full from 1.0.0 to 1.1.0"));
    let told = place.good(&on_device("check", &["--channel", "beta", "--hold", "1.1.0"]));
    assert!(told.contains("1.1.0: it is held"), "{told}");

    let build = ["build", "--full", "new", "--to", "1.2.0", "--arch", "riscv64", "--owner", "no", "-o", "risc.sf"];
    place.good(&build);
    place.good(&["repo", "add", "REPO", "risc.sf", "--key", "key"]);
    assert_eq!(place.good(&on_device("check", &["--arch", "x86_64"])), nothing, "it is for another architecture");
    let told = place.good(&on_device("check", &["--arch", "riscv64"]));
    assert!(told.starts_with("full from 1.0.0 to 1.2.0"), "{told}");

    // What is older than 1.1.5 goes through that.
    copy(&place, "new", "newer");
    place.write("newer/app", "the newest application");
    full(&place, "newer", "2.0.0", &["--minimum", "1.1.5"]);
    place.bad(&on_device("check", &["--arch", "x86_64"]), 6, "strategy.no-way");
    full(&place, "new", "1.1.5", &[]);
    let told = object(&place, &on_device("check", &["--arch", "x86_64"]));
    assert_eq!((&told["strategy"], &told["steps"][0]["to"]), (&json!("chain"), &json!("1.1.5")), "{told}");
    place.good(&on_device("update", &["--arch", "x86_64", "--prefer", "time"]));
    place.assert_same("dev", "newer");
    place.bad(&on_device("update", &["--trust", "key.pub"]), 2, "usage.invalid");
    place.bad(&on_device("update", &["--allow-unsigned"]), 2, "usage.invalid");
    place.bad(&on_device("check", &["--manifest", "service", "--channel", "beta"]), 2, "usage.invalid");
}

#[test]
fn an_older_version_needs_the_word_of_the_repository_and_of_the_device() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    place.good(&on_device("update", &[]));
    place.good(&["repo", "remove", "REPO", "1.1.0", "--key", "key"]);
    let told = place.good(&on_device("update", &["--allow-downgrade"]));
    assert!(told.contains("the repository permits no older one over it"), "{told}");
    place.good(&["repo", "add", "REPO", "full.sf", "--key", "key"]);
    full(&place, "old", "1.0.0", &["--downgrade-from", "1.1.0"]);
    assert!(place.good(&on_device("update", &[])).starts_with("nothing to do"));
    place.assert_same("dev", "new");
    let told = place.good(&on_device("check", &["--allow-downgrade"]));
    assert!(told.starts_with("full from 1.1.0 to 1.0.0") && told.contains("permits 1.0.0 over 1.1.0"), "{told}");
    place.good(&on_device("update", &["--allow-downgrade"]));
    place.assert_same("dev", "old");
    assert_eq!(object(&place, &["--root", "dev", "status"])["version"], "1.0.0");
}

#[test]
fn a_release_that_does_not_stay_is_given_up_after_three_tries() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    for _ in 0..3 {
        place.good(&on_device("update", &["--trial"]));
        place.good(&["--root", "dev", "rollback"]);
    }
    let told = place.good(&on_device("update", &[]));
    assert!(told.contains("1.1.0: it was tried 3 times and did not stay; --again tries it once more"), "{told}");
    assert_eq!(place.good(&on_device("check", &[])), told);
    let told = place.good(&["--root", "dev", "status"]);
    let words = "tried     1.1.0: 3 of 3 times; update leaves it alone, update --again tries it once more\n";
    assert!(told.ends_with(words), "{told}");
    let tried = json!([{"version": "1.1.0", "times": 3, "given_up": true}]);
    assert_eq!(object(&place, &["--root", "dev", "status"])["tried"], tried);
    place.good(&on_device("update", &["--again"]));
    place.assert_same("dev", "new");
    assert_eq!(object(&place, &["--root", "dev", "status"])["tried"], json!([]));
}

#[test]
fn expiry_freeze_rollback_and_foreign_keys_are_refused_by_update() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    copy(&place, "REPO", "OLDER");
    place.good(&["repo", "expire", "REPO", "--key", "key"]);
    place.good(&on_device("check", &[]));
    let from = |repository: &'static str| ["--root", "dev", "update", "--from", repository];
    place.bad(&from("OLDER"), 3, "trust.rollback");

    place.good(&["keygen", "-o", "other"]);
    place.good(&["repo", "init", "STRANGE", "--key", "other"]);
    place.bad(&from("STRANGE"), 3, "trust.threshold");
    copy(&place, "REPO", "BAD");
    let blob = fs::read_dir(place.path("BAD/targets/any/1.1.0")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    place.bad(&[&from("BAD")[..], &["--retries", "0"]].concat(), 3, "trust.digest");
    // A mirror that lies is not a release that fails, and others are asked.
    for _ in 0..3 {
        place.bad(&[&from("BAD")[..], &["--retries", "0"]].concat(), 3, "trust.digest");
    }
    place.assert_same("dev", "old");

    // Nobody has renewed it for a year: it is frozen, or the device was away.
    renew_at(&place, days_from_now(-365));
    place.bad(&from("REPO"), 3, "trust.expired");
    place.bad(&[&from("REPO")[..], &["--offline-policy", "grace:300"]].concat(), 3, "trust.expired");
    assert_eq!(place.run(&[&from("REPO")[..], &["--offline-policy", "lenient"]].concat()).0, 2);
    place.assert_same("dev", "old");
    let (code, _, stderr) = place.run(&[&from("REPO")[..], &["--offline-policy", "grace:400"]].concat());
    assert!(code == 0 && stderr.contains("warning: timestamp.json has expired at "), "{code} {stderr}");
    place.assert_same("dev", "new");
    let told = place.good(&["--json", "--root", "dev", "check", "--from", "REPO", "--offline-policy", "ignore-expiry"]);
    assert!(told.contains("{\"type\":\"notice\",\"notice\":\"expired\",\"file\":\"timestamp.json\""), "{told}");
}

#[test]
fn a_clock_that_jumps_back_brings_nothing_back() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    // What the device has believed was signed in a month, as its clock is now: so that is a month behind.
    renew_at(&place, days_from_now(35));
    let (code, stdout, stderr) = place.run(&on_device("check", &[]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let (code, _, stderr) = place.run(&on_device("check", &[]));
    assert!(code == 0 && stderr.contains("which is taken instead"), "{stderr}");
    // By the clock it is still valid, and it is not by what was seen.
    renew_at(&place, days_from_now(1));
    place.bad(&on_device("update", &[]), 3, "trust.expired");
    place.assert_same("dev", "old");
}

/// As docs/operations.md says it, section "The clock".
#[test]
fn after_a_signature_in_the_future_devices_come_back_by_a_rotation() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    renew_at(&place, days_from_now(35));
    place.good(&on_device("check", &[]));
    place.bad(&["repo", "verify", "REPO"], 1, "repository.clock");
    place.bad(&["repo", "expire", "REPO", "--key", "key"], 1, "repository.clock");
    place.bad(&["repo", "remove", "REPO", "1.0.0", "--key", "key"], 1, "repository.clock");
    place.good(&["repo", "expire", "REPO", "--key", "key", "--clock-is-right"]);
    place.good(&["repo", "verify", "REPO"]);
    place.bad(&on_device("update", &[]), 3, "trust.expired");
    place.good(&["keygen", "-o", "online"]);
    place.good(&["repo", "rotate", "REPO", "--key", "key", "--online-key", "online"]);
    place.good(&on_device("update", &[]));
    place.assert_same("dev", "new");
}

#[test]
fn a_mirror_takes_over_where_the_first_address_fails_or_lies() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    copy(&place, "REPO", "MIRROR");
    let update = |more: &[&str]| {
        let from = ["--root", "dev", "update", "--from", "REPO", "--retries", "1"];
        place.run(&[&from[..], more].concat()).0
    };
    fs::write(place.path("REPO/metadata/timestamp.json"), "{}").unwrap();
    assert_eq!(update(&[]), 3);
    fs::remove_dir_all(place.path("REPO/targets")).unwrap();
    fs::create_dir(place.path("REPO/targets")).unwrap();
    assert_eq!(update(&["--mirror", "MIRROR"]), 0);
    place.assert_same("dev", "new");
    let told = place.run(&["--root", "dev", "update", "--from", "NOWHERE", "--retries", "0"]);
    assert!(told.0 == 6 && told.2.contains("repository.missing"), "{told:?}");
}

#[test]
fn a_tree_that_was_given_no_keys_follows_nobody() {
    let place = with_repository();
    copy(&place, "old", "bare");
    place.good(&["--root", "bare", "init", "--version", "1.0.0", "--owner", "no"]);
    place.bad(&["--root", "bare", "check", "--from", "REPO"], 3, "trust.no-root");
    // A wrong address once looked like a repository of somebody else to a device with public keys.
    copy(&place, "old", "keys");
    place.good(&["keygen", "-o", "stranger"]);
    place.good(&["--root", "keys", "init", "--version", "1.0.0", "--owner", "no", "--trust", "stranger.pub"]);
    place.bad(&["--root", "keys", "check", "--from", "REPO"], 3, "trust.no-root");
    let told = place.run(&["--root", "keys", "check", "--from", "NOWHERE"]);
    assert!(told.0 == 6 && told.2.contains("repository.missing"), "{told:?}");
    assert!(told.2.contains("NOWHERE/metadata/1.root.json"), "the address is named: {told:?}");
    copy(&place, "old", "given");
    let trust = ["--trust", "REPO/metadata/1.root.json"];
    place.good(&[&["--root", "given", "init", "--version", "1.0.0", "--owner", "no"], &trust[..]].concat());
    full(&place, "new", "1.1.0", &[]);
    place.good(&["--root", "given", "update", "--from", "REPO"]);
    place.assert_same("given", "new");
    place.bad(&["--root", "old", "update", "--from", "REPO"], 1, "tree.not-initialised");
}

#[test]
fn an_update_waits_for_others() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let lock = fs::File::open(place.path("dev/.surefoot/lock")).unwrap();
    lock.try_lock().unwrap();
    place.bad(&on_device("update", &[]), 9, "lock.held");
    place.bad(&on_device("check", &[]), 9, "lock.held");
    lock.unlock().unwrap();
    place.good(&on_device("update", &[]));
}

/// Moves the repository to where nginx serves it.
pub(super) fn serve(place: &Place, www: &Path) {
    let _ = fs::remove_dir_all(www.join("repo"));
    assert!(Command::new("cp").arg("-a").arg(place.path("REPO")).arg(www.join("repo")).status().unwrap().success());
}

#[test]
fn over_http_and_tls_a_device_follows_what_the_publisher_adds() {
    let Some(nginx) = Nginx::start("") else { return };
    let www = nginx.folder.path().join("www");
    let place = with_repository();
    full(&place, "new", "1.0.0.1", &[]);
    patch(&place, ("old", "1.0.0"), ("new", "1.0.0.1"), &[]);
    serve(&place, &www);
    let url = nginx.url("repo");
    let told = place.good(&["--root", "dev", "update", "--from", &url]);
    assert!(told.starts_with("1.0.0 -> 1.0.0.1"), "{told}");
    place.assert_same("dev", "new");
    // Nothing that is believed already is fetched again: the timestamp, and whether there is another root.
    let before = nginx.read("access.log").lines().count();
    assert!(place.good(&["--root", "dev", "update", "--from", &url]).starts_with("nothing to do"));
    let log = nginx.read("access.log");
    let asked: Vec<&str> = log.lines().skip(before).map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(asked, ["/repo/metadata/2.root.json", "/repo/metadata/timestamp.json"]);

    copy(&place, "new", "newer");
    place.write("newer/app", "the newest application");
    full(&place, "newer", "1.0.0.2", &[]);
    place.good(&["keygen", "-o", "key2"]);
    place.good(&["repo", "rotate", "REPO", "--online-key", "key2", "--key", "key"]);
    serve(&place, &www);
    let ca = nginx.authority();
    let tls = nginx.tls_url("repo/");
    place.bad(&["--root", "dev", "update", "--from", &tls, "--retries", "0"], 6, "source.unavailable");
    place.good(&["--root", "dev", "update", "--from", &tls, "--ca", ca.to_str().unwrap()]);
    place.assert_same("dev", "newer");
}

/// Serves the repository, and says this of what is not there; `odd` answers instead where it wants to.
pub(super) fn server(place: &Place, missing: &'static str, odd: fn(&Asked, &mut TcpStream) -> bool) -> Server {
    let root = place.path("REPO");
    Server::start(move |asked, stream| {
        if odd(asked, stream) {
            return;
        }
        match fs::read(root.join(asked.path.trim_start_matches('/'))) {
            Ok(content) => serve_file(asked, stream, &content, "\"t\""),
            Err(_) => send(stream, missing, &["Content-Length: 2"], b"no"),
        }
    })
}

#[test]
fn a_store_that_forbids_what_it_does_not_have_is_followed() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let store = server(&place, "403 Forbidden", |_, _| false);
    place.good(&["--root", "dev", "update", "--from", &store.url(""), "--retries", "0"]);
    place.assert_same("dev", "new");
    // Not so of a file that must be there.
    fs::remove_file(place.path("REPO/metadata/timestamp.json")).unwrap();
    place.bad(&["--root", "dev", "check", "--from", &store.url(""), "--retries", "0"], 6, "source.unavailable");
}

#[test]
fn endless_metadata_is_refused_at_its_bound() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let endless = server(&place, "404 Not Found", |asked, stream| {
        let of_it = asked.path.ends_with("timestamp.json");
        if of_it {
            send(stream, "200 OK", &[], &vec![b' '; 1 << 20]);
        }
        of_it
    });
    let url = endless.url("");
    place.bad(&["--root", "dev", "update", "--from", &url, "--retries", "0"], 3, "trust.metadata");
    place.good(&["--root", "dev", "update", "--from", &url, "--retries", "1", "--mirror", "REPO"]);
    place.assert_same("dev", "new");
}

/// The program of `examples/follow_repository.rs`, which Cargo builds with the tests.
#[test]
fn a_program_of_ones_own_follows_with_a_callback() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let program = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap().join("examples/follow_repository");
    let run = |address: &str| {
        let output = Command::new(&program).args(["dev", address]).current_dir(place.path(".")).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (done, told) = run("REPO");
    assert!(done && told.contains("Download: 10 %\n") && told.contains("\n1.0.0 -> 1.1.0: the full package"), "{told}");
    place.assert_same("dev", "new");
    let (done, told) = run("REPO");
    assert!(done && told.ends_with("nothing to do: 1.1.0 is the newest version\n"), "{told}");
    assert!(!run("NOWHERE").0);
}

#[test]
fn killed_at_random_moments_an_update_from_a_repository_ends_new_and_believes_the_newest() {
    let Some(nginx) = Nginx::start("limit_rate 4m;") else { return };
    let www = nginx.folder.path().join("www");
    let place = with_repository();
    fs::write(place.path("new/big"), noise(40 << 20, 7)).unwrap();
    for number in 0..300 {
        place.write(&format!("new/many/{}/{number}", number % 9), &format!("content {number}"));
    }
    place.good(&["--root", "dev", "check", "--from", "REPO"]);
    full(&place, "new", "1.1.0", &[]);
    let package = fs::metadata(place.path("full.sf")).unwrap().len();
    serve(&place, &www);
    let (seed, kills) = super::nginx::kill_until_done(
        &place,
        &["--root", "dev", "-q", "update", "--again", "--from", &nginx.url("repo")],
    );
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "verify"]);
    let name = fs::read_dir(place.path("REPO/targets/any/1.1.0")).unwrap().next().unwrap().unwrap().file_name();
    let served: u64 =
        nginx.log(&format!("/repo/targets/any/1.1.0/{}", name.to_str().unwrap())).iter().map(|(_, bytes)| bytes).sum();
    println!("seed {seed}: {kills} kills, {served} bytes served of a package of {package}");
    assert!(served * 100 <= package * 105, "seed {seed}: {served} of {package}");
    let kept = fs::read(place.path("dev/.surefoot/trust/timestamp.json")).unwrap();
    assert_eq!(kept, fs::read(place.path("REPO/metadata/timestamp.json")).unwrap());
}

#[test]
fn the_packages_of_a_tree_are_built_from_the_versions_before() {
    let place = Place::new();
    place.good(&["repo", "init", "REPO", "--key", "key"]);
    // Large enough for patches to be worth it.
    for tree in ["old", "new"] {
        fs::write(place.path(tree).join("ballast"), noise(100_000, 5)).unwrap();
    }
    place.device();
    let add = |tree: &str, version: &str, more: &[&str]| {
        let add = ["repo", "add", "REPO", "--tree", tree, "--to", version, "--key", "key", "--owner", "no"];
        place.good(&[&add[..], more].concat())
    };
    let told = add("old", "1.0.0", &[]);
    assert!(told.contains("any/1.0.0/full.sf") && told.contains("REPO: 1 packages"), "{told}");
    copy(&place, "old", "between");
    place.write("between/app", "another application");
    add("between", "1.0.1", &["--level", "fast", "--notes", "something"]);
    let told = add("new", "1.0.2", &["--channel", "stable", "--channel", "beta"]);
    for path in ["any/1.0.2/full.sf", "any/1.0.2/from-1.0.1.sf", "any/1.0.2/from-1.0.0.sf"] {
        assert!(told.contains(&format!("new     {path}")), "{told}");
    }
    assert_eq!(add("new", "1.0.2", &["--channel", "stable", "--channel", "beta"]).matches("known ").count(), 3);
    let told = object(&place, &on_device("check", &[]));
    assert_eq!((&told["strategy"], &told["steps"][0]["name"]), (&json!("patch"), &json!("any/1.0.2/from-1.0.0.sf")));
    place.good(&on_device("update", &[]));
    place.assert_same("dev", "new");
    // From as many versions before as are asked for; a tree that shares nothing gets no patch.
    fs::create_dir(place.path("other")).unwrap();
    fs::write(place.path("other/data"), noise(50_000, 6)).unwrap();
    let told = add("other", "2.0.0", &[]);
    assert!(told.contains("full.sf") && !told.contains("from-"), "{told}");
    let told = add("new", "1.0.3", &["--patches-from", "1"]);
    assert!(told.contains("1.0.3/from-1.0.2.sf") && !told.contains("from-1.0.1"), "{told}");
    assert!(!add("new", "1.0.4", &["--patches-from", "0"]).contains("from-"));
    let left: Vec<_> = fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".REPO")), "{left:?}");
    assert_eq!(place.run(&["repo", "add", "REPO", "--tree", "new", "--key", "key"]).0, 2);
    place.bad(&["repo", "add", "REPO", "--tree", ".", "--to", "9.0.0", "--key", "key"], 2, "usage.invalid");
}

#[test]
fn a_bundle_brings_an_update_without_a_network_and_with_the_same_trust() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    patch(&place, ("old", "1.0.0"), ("new", "1.1.0"), &[]);
    let told = place.good(&["repo", "bundle", "REPO", "-o", "stick.sfb"]);
    assert!(told.starts_with("stick.sfb: 3 packages, "), "{told}");
    place.good(&["repo", "bundle", "REPO", "-o", "again.sfb"]);
    assert!(fs::read(place.path("stick.sfb")).unwrap() == fs::read(place.path("again.sfb")).unwrap());
    // Any tar unpacks it to a repository, and what any tar packs is a bundle.
    fs::create_dir(place.path("unpacked")).unwrap();
    let tar = |arguments: &[&str]| {
        let done = Command::new("tar").args(arguments).current_dir(place.path(".")).status().unwrap();
        assert!(done.success());
    };
    tar(&["xf", "stick.sfb", "-C", "unpacked"]);
    place.good(&["repo", "verify", "unpacked"]);
    tar(&["cf", "own.tar", "-C", "unpacked", "."]);
    for bundle in ["stick.sfb", "own.tar"] {
        place.device();
        let told = place.good(&["--root", "dev", "update", "--from", bundle]);
        assert!(told.starts_with("1.0.0 -> 1.1.0"), "{told}");
        place.assert_same("dev", "new");
    }
    // A part of the packages is enough; what is not there is not chosen.
    place.good(&["repo", "remove", "REPO", "1.1.0", "--key", "key"]);
    place.good(&["repo", "add", "REPO", "full.sf", "--key", "key"]);
    copy(&place, "new", "newer");
    place.write("newer/app", "the newest application");
    full(&place, "newer", "1.2.0", &[]);
    place.good(&["repo", "bundle", "REPO", "--to", "1.1.0", "-o", "part.sfb"]);
    place.device();
    let told = place.good(&["--root", "dev", "update", "--from", "part.sfb"]);
    assert!(told.starts_with("1.0.0 -> 1.1.0"), "{told}");
    place.bad(&["--root", "dev", "check", "--from", "stick.sfb"], 3, "trust.rollback");
    place.bad(&["--root", "dev", "check", "--from", "part.sfb", "--mirror", "REPO"], 2, "usage.invalid");
    place.bad(&["repo", "bundle", "REPO", "--to", "9.9.9", "-o", "none.sfb"], 1, "repository.not-published");
    place.bad(&["repo", "bundle", "new", "-o", "none.sfb"], 1, "repository.none");
    assert!(!place.path("none.sfb").exists());

    // A stick that lay in a drawer: the policy decides, as for every repository.
    renew_at(&place, days_from_now(-60));
    place.bad(&["repo", "bundle", "REPO", "-o", "none.sfb"], 3, "trust.expired");
    copy(&place, "REPO", "unpacked");
    tar(&["cf", "late.sfb", "-C", "unpacked", "metadata", "targets"]);
    place.bad(&["--root", "dev", "update", "--from", "late.sfb"], 3, "trust.expired");
    let late = ["--root", "dev", "update", "--from", "late.sfb", "--offline-policy", "grace:60"];
    let (code, _, stderr) = place.run(&late);
    assert!(code == 0 && stderr.contains("has expired at"), "{stderr}");
    place.assert_same("dev", "newer");

    // Damaged, or something else.
    let bytes = fs::read(place.path("stick.sfb")).unwrap();
    fs::write(place.path("cut.sfb"), &bytes[..bytes.len() - 2000]).unwrap();
    place.device();
    place.bad(&["--root", "dev", "update", "--from", "cut.sfb"], 1, "input.format");
    place.bad(&["--root", "dev", "update", "--from", "key.pub"], 1, "input.format");
    let at = bytes.windows(6).rposition(|window| window == b"ustar ").unwrap() + 400;
    let mut bad = bytes.clone();
    bad[at] ^= 1;
    fs::write(place.path("bad.sfb"), bad).unwrap();
    place.bad(&["--root", "dev", "update", "--from", "bad.sfb", "--force-full"], 3, "trust.digest");
    place.assert_same("dev", "old");
}

#[test]
fn a_mirror_is_made_of_an_address_and_of_a_bundle() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    place.good(&["repo", "bundle", "REPO", "-o", "stick.sfb"]);
    assert_eq!(place.good(&["repo", "mirror", "stick.sfb", "UNPACKED"]), "2 packages copied to UNPACKED\n");
    place.good(&["repo", "verify", "UNPACKED"]);
    place.bad(&["repo", "mirror", "NOWHERE", "NONE"], 1, "repository.none");
    assert!(!place.path("NONE").exists());
    let Some(nginx) = Nginx::start("") else { return };
    serve(&place, &nginx.folder.path().join("www"));
    let url = nginx.url("repo/");
    assert_eq!(place.good(&["repo", "mirror", &url, "COPY"]), "2 packages copied to COPY\n");
    assert_eq!(place.good(&["repo", "mirror", &url, "COPY"]), "0 packages copied to COPY\n");
    let listing = |folder: &str| {
        let script = format!("cd {folder} && sha256sum metadata/timestamp.json $(find targets -type f | sort)");
        Command::new("sh").args(["-c", &script]).current_dir(place.path(".")).output().unwrap().stdout
    };
    assert_eq!(listing("COPY"), listing("REPO"));
    assert!(listing("COPY").len() > 300);
    place.good(&["repo", "verify", "COPY"]);
    place.good(&["--root", "dev", "update", "--from", "COPY"]);
    place.assert_same("dev", "new");
    // A server that lies is found out, and the copy stays as it was.
    let blob = fs::read_dir(place.path("REPO/targets/any/1.1.0")).unwrap().next().unwrap().unwrap().file_name();
    let served = nginx.folder.path().join("www/repo/targets/any/1.1.0").join(&blob);
    let length = fs::metadata(&served).unwrap().len() as usize;
    fs::write(served, vec![0; length]).unwrap();
    fs::remove_file(place.path("COPY/targets/any/1.1.0").join(&blob)).unwrap();
    place.bad(&["repo", "mirror", &url, "COPY", "--retries", "0"], 3, "trust.digest");
    assert!(!place.path("COPY/targets/any/1.1.0").join(&blob).exists());
}

#[test]
fn a_service_manifest_is_generated_of_a_repository_and_followed() {
    let place = Place::new();
    place.good(&["repo", "init", "REPO", "--key", "key"]);
    let add = ["repo", "add", "REPO", "--key", "key", "--owner", "no", "--tree"];
    place.good(&[&add[..], &["old", "--to", "1.0.0"]].concat());
    place.good(&[&add[..], &["new", "--to", "1.1.0", "--notes", "better"]].concat());
    place.good(&[&add[..], &["new", "--to", "1.1.0", "--arch", "riscv64"]].concat());
    let export = ["repo", "export-manifest", "REPO", "--key", "key", "-o", "REPO/manifest.json"];
    assert_eq!(place.good(&export), "REPO/manifest.json: version 1.1.0, 2 full packages, 0 patches\n");
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("REPO/manifest.json")).unwrap()).unwrap();
    // Nothing else is signed than what the repository vouches for.
    let riscv = place.path("REPO").join(manifest["platforms"]["riscv64"]["url"].as_str().unwrap());
    let good = fs::read(&riscv).unwrap();
    fs::write(&riscv, "something else").unwrap();
    place.bad(&[&export[..6], &["evil.json"]].concat(), 3, "trust.digest");
    assert!(!place.path("evil.json").exists());
    fs::write(&riscv, good).unwrap();
    assert_eq!((&manifest["version"], &manifest["release_notes"]), (&json!("1.1.0"), &json!("better")));
    let riscv = manifest["platforms"]["riscv64"]["url"].as_str().unwrap();
    assert!(riscv.starts_with("targets/riscv64/1.1.0/") && place.path("REPO").join(riscv).is_file(), "{riscv}");
    let update = ["--root", "dev", "update", "--from", "REPO/manifest.json", "--manifest", "service"];
    assert!(place.good(&update).starts_with("1.0.0 -> 1.1.0"));
    place.assert_same("dev", "new");

    // With a patch of the kind that such services have; and elsewhere.
    place.device();
    let build = ["build", "old", "new", "--to", "1.0.0.1", "--format", "tar.gz", "--key", "key", "--owner", "no"];
    place.good(&[&build[..], &["--no-prove", "--entry", "up.json", "-o", "REPO/up.tar.gz"]].concat());
    let with_patch = [&export[..], &["--patch", "x86_64=up.json"]].concat();
    place.bad(&with_patch, 2, "usage.invalid");
    place.good(&["repo", "remove", "REPO", "1.1.0", "--key", "key"]);
    place.good(&[&add[..], &["new", "--to", "1.0.0.1"]].concat());
    place.good(&with_patch);
    let told = place.good(&[&update[..], &["--arch", "x86_64"]].concat());
    assert!(told.starts_with("1.0.0 -> 1.0.0.1"), "{told}");
    place.assert_same("dev", "new");
    place.good(&[&export[..6], &["elsewhere.json", "--url", "https://host/repo"]].concat());
    let text = fs::read_to_string(place.path("elsewhere.json")).unwrap();
    assert!(text.contains("\"https://host/repo/targets/any/1.0.0.1/"), "{text}");
    place.bad(&[&export[..6], &["none.json", "--channel", "beta"]].concat(), 1, "repository.not-published");
}

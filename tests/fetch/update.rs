//! The command line following a service manifest.

use super::server::{Asked, Server, send, serve};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use surefoot::model::{Digest, PatchPackageInfo};
use surefoot::trust::SecretKey;
use tempfile::TempDir;

/// Two versions of a tree, keys, and a device that has the first.
pub(super) struct Place {
    folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("old/app", "the old application");
        place.write("old/gone", "a file that goes");
        place.write("new/app", "the new application");
        place.write("new/more/file", "a file that comes");
        place.good(&["keygen", "-o", "key"]);
        place.device();
        place
    }

    /// The device as it was in the beginning.
    pub(super) fn device(&self) {
        let _ = fs::remove_dir_all(self.path("dev"));
        assert!(Command::new("cp").arg("-a").arg(self.path("old")).arg(self.path("dev")).status().unwrap().success());
        self.good(&["--root", "dev", "init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no"]);
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surefoot"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["SUREFOOT_ROOT", "http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    pub(super) fn good(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}\n{stdout}{stderr}");
        stdout
    }

    #[track_caller]
    pub(super) fn bad(&self, arguments: &[&str], exit: i32, code: &str) {
        let (status, stdout, stderr) = self.run(arguments);
        assert!(status == exit && stderr.contains(&format!("({code})")), "{arguments:?}: {status}\n{stdout}{stderr}");
    }

    #[track_caller]
    pub(super) fn assert_same(&self, path: &str, other: &str) {
        assert_eq!(self.good(&["diff", path, other, "--owner", "no"]), "no difference\n");
    }

    /// Builds the patch from old to new and a manifest that offers it; gives the length of the package.
    pub(super) fn publish(&self, version: &str, folder: &Path) -> u64 {
        let package = folder.join("up.tar.gz");
        let build = ["build", "old", "new", "--to", version, "--format", "tar.gz", "--key", "key", "--owner", "no"];
        let rest = ["--no-prove", "--entry", "up.json", "-o", package.to_str().unwrap()];
        self.good(&[&build[..], &rest].concat());
        let entry: Value = serde_json::from_slice(&fs::read(self.path("up.json")).unwrap()).unwrap();
        let manifest = json!({"version": version, "patch": {"x86_64": entry.clone(), "aarch64": entry}});
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        fs::metadata(package).unwrap().len()
    }

    /// Publishes into the place itself, and gives the manifest to change.
    pub(super) fn manifest(&self, version: &str) -> Value {
        self.publish(version, self.folder.path());
        serde_json::from_slice(&fs::read(self.path("manifest.json")).unwrap()).unwrap()
    }

    fn set_manifest(&self, manifest: &Value) {
        fs::write(self.path("manifest.json"), manifest.to_string()).unwrap();
    }
}

const FROM: [&str; 4] = ["--from", "manifest.json", "--manifest", "service"];

fn device<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--root", "dev", verb], &FROM[..], more].concat()
}

#[test]
fn check_plan_and_update_follow_a_patch_of_the_same_base() {
    let place = Place::new();
    place.manifest("1.0.0.1");
    let told = place.good(&device("check", &[]));
    assert!(told.starts_with("patch from 1.0.0 to 1.0.0.1: ") && told.contains("same base"), "{told}");
    let told = place.good(&device("plan", &[]));
    assert!(told.contains("replace  app\n") && told.contains("delete   gone\n"), "{told}");
    let object: Value = serde_json::from_str(&place.good(&[&["--json"], &device("check", &[])[..]].concat())).unwrap();
    let told = [&object["strategy"], &object["to"], &object["steps"][0]["kind"]];
    assert_eq!(told, [&json!("patch"), &json!("1.0.0.1"), &json!("patch")]);
    assert!(object["bytes"].as_u64().unwrap() > 0 && object["reason"].is_string());
    place.assert_same("dev", "old");
    let told = place.good(&[&["--json"], &device("update", &[])[..]].concat());
    assert!(told.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{told}");
    assert!(told.contains("\"phase\":\"download\"") && told.contains("\"type\":\"result\""), "{told}");
    place.assert_same("dev", "new");
    assert!(place.good(&device("update", &[])).starts_with("nothing to do: 1.0.0.1 is the newest version"));
    let left: Vec<_> = fs::read_dir(place.path("dev/.surefoot/downloads")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock");
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");
}

#[test]
fn another_base_or_a_wish_takes_the_full_package() {
    let place = Place::new();
    let full = ["build", "--full", "new", "--to", "2.0.0", "--key", "key", "--owner", "no", "-o", "full.sf"];
    place.good(&full);
    let mut manifest = place.manifest("1.0.0.1");
    manifest["version"] = json!("2.0.0");
    place.set_manifest(&manifest);
    place.bad(&device("check", &[]), 6, "strategy.no-way");
    manifest["packages"] =
        json!({"full": {"url": "full.sf", "size": fs::metadata(place.path("full.sf")).unwrap().len()}});
    place.set_manifest(&manifest);
    assert!(place.good(&device("check", &[])).contains("do not have the same base"));
    place.bad(&device("update", &["--max-bytes", "10"]), 5, "strategy.budget");
    place.assert_same("dev", "old");
    place.good(&device("update", &[]));
    place.assert_same("dev", "new");

    place.device();
    place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--key", "key", "--owner", "no", "-o", "forced.sf"]);
    let mut manifest = place.manifest("1.0.0.1");
    manifest["platforms"] = json!({"x86_64": {"url": "forced.sf"}, "aarch64": {"url": "forced.sf"}});
    place.set_manifest(&manifest);
    let told = place.good(&device("check", &["--force-full"]));
    assert!(told.starts_with("full from 1.0.0 to 1.0.0.1: the full package was asked for"), "{told}");
    place.good(&device("update", &["--force-full"]));
    place.assert_same("dev", "new");
}

#[test]
fn an_announced_version_that_the_full_package_does_not_make_is_refused() {
    let place = Place::new();
    place.good(&["build", "--full", "new", "--to", "1.5.0", "--key", "key", "--owner", "no", "-o", "full.sf"]);
    place.set_manifest(&json!({"version": "2.0.0", "packages": {"full": {"url": "full.sf"}}}));
    place.bad(&device("update", &[]), 1, "input.format");
    place.assert_same("dev", "old");
}

/// The full packages of such a service are archives, as its patches are: `check` said "full", and `update` refused them
/// when they were here.
#[test]
fn a_full_package_that_is_an_archive_replaces_what_it_has_at_its_top() {
    let place = Place::new();
    place.write("old/more/stale", "a file that the package does not have");
    place.device();
    place.write("dev/of-the-user", "a file that nobody knows");
    let tar = ["-czf", "full.tar.gz", "-C", "new", "."];
    assert!(Command::new("tar").args(tar).current_dir(place.path(".")).status().unwrap().success());
    let key = SecretKey::from_pem(&fs::read_to_string(place.path("key")).unwrap()).unwrap();
    let bytes = fs::read(place.path("full.tar.gz")).unwrap();
    let mut info = PatchPackageInfo { url: "full.tar.gz".into(), ..PatchPackageInfo::default() };
    let offer = |info: &PatchPackageInfo| {
        let full = json!({"url": info.url, "hash": info.hash, "signature": info.signature});
        place.set_manifest(&json!({"version": "2.0.0", "packages": {"full": full}}));
    };
    offer(&info);
    place.bad(&device("update", &[]), 3, "trust.unsigned");
    info.set_signature(&key.sign(b"", b"another package").0);
    offer(&info);
    place.bad(&device("update", &[]), 3, "trust.signature");
    place.assert_same("dev/more", "old/more");
    info.set_signature(&key.sign(b"", &bytes).0);
    info.set_digest(Digest::of(&bytes));
    offer(&info);
    assert!(place.good(&device("check", &[])).starts_with("full from 1.0.0 to 2.0.0"));
    let told = place.good(&device("update", &[]));
    assert!(told.contains("1.0.0 -> 2.0.0"), "{told}");
    place.assert_same("dev/more", "new/more");
    let text = |path: &str| fs::read_to_string(place.path(path)).unwrap();
    assert_eq!(text("dev/app"), text("new/app"));
    assert_eq!(
        (text("dev/gone").as_str(), text("dev/of-the-user").as_str()),
        ("a file that goes", "a file that nobody knows")
    );
    place.good(&["--root", "dev", "rollback"]);
    fs::remove_file(place.path("dev/of-the-user")).unwrap();
    place.assert_same("dev", "old");
}

/// The page said that whatever is at the top of such an archive replaces what the tree has there, and the program refused
/// it where the one was a file and the other a directory. What surefoot did not install is not removed for that.
#[test]
fn a_full_package_puts_files_in_the_place_of_directories_and_directories_in_that_of_files() {
    let place = Place::new();
    place.write("old/turned/one/deep", "a file in a directory that goes");
    place.device();
    place.write("new/turned", "a file where there was a directory");
    place.write("new/gone/inside", "a file in a directory where there was a file");
    let tar = ["-czf", "full.tar.gz", "-C", "new", "."];
    assert!(Command::new("tar").args(tar).current_dir(place.path(".")).status().unwrap().success());
    let key = SecretKey::from_pem(&fs::read_to_string(place.path("key")).unwrap()).unwrap();
    let signature = STANDARD.encode(key.sign(b"", &fs::read(place.path("full.tar.gz")).unwrap()).0);
    let full = json!({"url": "full.tar.gz", "signature": signature});
    place.set_manifest(&json!({"version": "2.0.0", "packages": {"full": full}}));
    place.write("dev/turned/one/of-the-user", "a file that nobody knows");
    let (status, _, stderr) = place.run(&device("update", &[]));
    assert!(status == 4 && stderr.contains("(tree.stray)") && stderr.contains("turned/one/of-the-user"), "{stderr}");
    fs::remove_file(place.path("dev/turned/one/of-the-user")).unwrap();
    place.assert_same("dev", "old");
    place.good(&device("update", &[]));
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");
}

/// A server that breaks off once after 300,000 bytes of the package, and then does as is said; and how large that is.
fn breaking_off(place: &Place, then: fn(&Asked, &mut TcpStream, &[u8])) -> (Server, usize) {
    fs::write(place.path("new/big"), super::noise(600_000, 1)).unwrap();
    let manifest = place.manifest("1.0.0.1").to_string();
    let package = fs::read(place.path("up.tar.gz")).unwrap();
    let (length, times) = (package.len(), AtomicUsize::new(0));
    let server = Server::start(move |asked, stream| match asked.path.as_str() {
        "/manifest.json" => send(stream, "200 OK", &[], manifest.as_bytes()),
        _ if times.fetch_add(1, Ordering::Relaxed) == 0 => {
            super::server::serve_up_to(asked, stream, &package, "\"a\"", 300_000);
        }
        _ => then(asked, stream, &package),
    });
    (server, length)
}

/// What an interrupted download had left was counted once more: a device with a budget never came to its end.
#[test]
fn what_is_here_of_the_package_of_a_service_does_not_count_for_max_bytes() {
    let place = Place::new();
    let (server, length) = breaking_off(&place, |asked, stream, package| serve(asked, stream, package, "\"a\""));
    let url = server.url("manifest.json");
    let told = |verb| super::follow::object(&place, &["--root", "dev", verb, "--from", &url, "--manifest", "service"]);
    let before = told("check");
    assert_eq!((&before["bytes"], &before["space"]), (&json!(length), &json!(2 * length)));
    let update = ["--root", "dev", "update", "--from", &url, "--manifest", "service"];
    place.bad(&[&update[..], &["--retries", "0"]].concat(), 6, "source.unavailable");
    let left = length - 4 * 65_536;
    for verb in ["check", "plan"] {
        let told = told(verb);
        assert_eq!((&told["bytes"], &told["steps"][0]["bytes"]), (&json!(left), &json!(left)), "{verb}");
        assert_eq!(told["space"], json!(left + length), "{verb}");
    }
    place.bad(&[&update[..], &["--max-bytes", &(left - 1).to_string()]].concat(), 5, "strategy.budget");
    place.good(&[&update[..], &["--max-bytes", &left.to_string()]].concat());
    place.assert_same("dev", "new");
}

/// The budget was looked at when the package was chosen, and not while it came.
#[test]
fn a_server_that_begins_anew_does_not_exceed_max_bytes() {
    let place = Place::new();
    let (server, length) = breaking_off(&place, |_, stream, package| {
        send(stream, "200 OK", &["ETag: \"b\"", &format!("Content-Length: {}", package.len())], package);
    });
    let (url, most) = (server.url("manifest.json"), length.to_string());
    let update = ["--root", "dev", "update", "--from", &url, "--manifest", "service"];
    place.bad(&[&update[..], &["--max-bytes", &most]].concat(), 5, "strategy.budget");
    place.assert_same("dev", "old");
    place.good(&update);
    place.assert_same("dev", "new");
}

/// A device without the right key fetched a package of which no digest is published again at every run, for ever.
#[test]
fn what_nobody_here_can_verify_is_not_fetched_again_and_again() {
    let place = Place::new();
    let mut manifest = place.manifest("1.0.0.1");
    ["x86_64", "aarch64"].iter().for_each(|name| drop(manifest["patch"][name].as_object_mut().unwrap().remove("hash")));
    let (good, mut unsigned, mut other) = (manifest.to_string(), manifest.clone(), manifest);
    ["x86_64", "aarch64"].iter().for_each(|name| unsigned["patch"][name]["signature"] = Value::Null);
    ["x86_64", "aarch64"].iter().for_each(|name| other["patch"][name]["signature"] = json!(STANDARD.encode([7; 64])));
    let package = fs::read(place.path("up.tar.gz")).unwrap();
    let server = Server::start(move |asked, stream| match asked.path.as_str() {
        "/good" => send(stream, "200 OK", &[], good.as_bytes()),
        "/unsigned" => send(stream, "200 OK", &[], unsigned.to_string().as_bytes()),
        "/other" => send(stream, "200 OK", &[], other.to_string().as_bytes()),
        _ => serve(asked, stream, &package, "\"a\""),
    });
    let fetched = || server.asked().iter().filter(|asked| asked.path.ends_with(".tar.gz")).count();
    let urls = ["good", "unsigned", "other"].map(|name| server.url(name));
    let update = |which: usize| ["--root", "dev", "update", "--from", &urls[which], "--manifest", "service"];
    place.good(&["keygen", "-o", "stranger"]);
    let init = |keys: &[&str]| {
        let _ = fs::remove_dir_all(place.path("dev/.surefoot"));
        place.good(&[&["--root", "dev", "init", "--version", "1.0.0", "--owner", "no"], keys].concat());
    };
    init(&[]);
    place.bad(&update(0), 3, "trust.no-keys");
    init(&["--trust", "stranger.pub"]);
    place.bad(&update(1), 3, "trust.unsigned");
    assert_eq!(fetched(), 0, "nobody could verify it");
    place.bad(&update(0), 3, "trust.signature");
    place.bad(&update(0), 3, "trust.signature");
    assert_eq!(fetched(), 1, "it is here");
    // It may have been spoiled on its way: a day later it is fetched anew.
    let part = fs::read_dir(place.path("dev/.surefoot/downloads")).unwrap().map(|entry| entry.unwrap().path());
    let part = part.into_iter().find(|path| path.extension().is_some_and(|name| name == "part")).unwrap();
    let touch = ["-d", "25 hours ago", part.to_str().unwrap()];
    assert!(Command::new("touch").args(touch).status().unwrap().success());
    place.bad(&update(0), 3, "trust.signature");
    place.bad(&update(0), 3, "trust.signature");
    assert_eq!(fetched(), 2);
    // A clock that never gets so far once kept it for ever: each refusal counts as an hour.
    let touch = ["-d", "22 hours ago", part.to_str().unwrap()];
    assert!(Command::new("touch").args(touch).status().unwrap().success());
    (0..3).for_each(|_| place.bad(&update(0), 3, "trust.signature"));
    assert_eq!(fetched(), 2);
    place.bad(&update(0), 3, "trust.signature");
    assert_eq!(fetched(), 3);
    // That somebody asked for it again did not help: what had been refused was refused again.
    place.bad(&[&update(0)[..], &["--again"]].concat(), 3, "trust.signature");
    assert_eq!(fetched(), 4);
    // Another signature is another package.
    place.bad(&update(2), 3, "trust.signature");
    assert_eq!(fetched(), 5);
    place.bad(&update(0), 3, "trust.signature");
    place.good(&[&update(0)[..], &["--trust", "key.pub"]].concat());
    assert_eq!(fetched(), 6, "with the right key nothing is fetched that is here");
    place.assert_same("dev", "new");
}

#[test]
fn a_version_that_does_not_stay_is_not_tried_for_ever() {
    let place = Place::new();
    place.manifest("1.0.0.1");
    for _ in 0..3 {
        place.good(&device("update", &["--trial"]));
        place.good(&["--root", "dev", "rollback"]);
    }
    let told = place.good(&device("update", &[]));
    assert!(told.contains("1.0.0.1 is passed over: it was tried 3 times"), "{told}");
    place.good(&device("update", &["--again", "--trial"]));
    place.good(&["--root", "dev", "rollback"]);
    let told = place.good(&device("check", &["--again", "--hold", "1.0.0.1"]));
    assert!(told.contains("it is held"), "{told}");
    place.manifest("1.0.0.2");
    place.good(&device("update", &[]));
    place.assert_same("dev", "new");
    assert!(!place.path("dev/.surefoot/attempts").exists());
}

/// Nobody signs such a manifest: whoever could answer three times in the place of the service once had a version given
/// up for good.
#[test]
fn what_somebody_announces_in_the_place_of_the_service_gives_no_version_up() {
    let place = Place::new();
    let good = place.manifest("1.0.0.1");
    let spoiled = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        ["x86_64", "aarch64"].iter().for_each(|name| change(&mut manifest["patch"][name]));
        place.set_manifest(&manifest);
    };
    let another = STANDARD.encode([7; 64]);
    for _ in 0..3 {
        spoiled(&|entry| entry["signature"] = Value::Null);
        place.bad(&device("update", &[]), 3, "trust.unsigned");
        spoiled(&|entry| entry["signature"] = json!(another));
        place.bad(&device("update", &[]), 3, "trust.signature");
        spoiled(&|entry| entry["operations"]["replace"]["files"] = json!(["app", "more/file", "no such file"]));
        place.bad(&device("update", &[]), 3, "package.partial");
    }
    assert!(!place.path("dev/.surefoot/attempts").exists());
    place.set_manifest(&good);
    place.good(&device("update", &[]));
    place.assert_same("dev", "new");
}

#[test]
fn what_is_not_what_was_published_is_refused_and_what_is_not_there_is_for_later() {
    let place = Place::new();
    let manifest = place.manifest("1.0.0.1");
    fs::write(place.path("up.tar.gz"), b"something else").unwrap();
    place.bad(&device("update", &["--retries", "0"]), 6, "source.unavailable");
    let mut unsized_one = manifest.clone();
    for name in ["x86_64", "aarch64"] {
        unsized_one["patch"][name].as_object_mut().unwrap().remove("size");
    }
    place.set_manifest(&unsized_one);
    place.bad(&device("update", &["--retries", "0"]), 3, "trust.digest");
    fs::remove_file(place.path("up.tar.gz")).unwrap();
    place.bad(&device("update", &["--retries", "0"]), 6, "source.unavailable");
    fs::remove_file(place.path("manifest.json")).unwrap();
    place.bad(&device("check", &[]), 6, "source.unavailable");
    fs::write(place.path("manifest.json"), "{").unwrap();
    place.bad(&device("check", &[]), 1, "input.format");
    place.assert_same("dev", "old");
}

#[test]
fn status_tells_of_a_download_that_waits() {
    let place = Place::new();
    fs::write(place.path("new/big"), super::noise(600_000, 1)).unwrap();
    let manifest = place.manifest("1.0.0.1");
    let package = fs::read(place.path("up.tar.gz")).unwrap();
    let (text, bytes) = (manifest.to_string(), package.clone());
    let server = Server::start(move |asked, stream| match asked.path.as_str() {
        "/manifest.json" => send(stream, "200 OK", &[], text.as_bytes()),
        // The first two requests are for the manifest and the package.
        _ if asked.number < 2 => super::server::serve_up_to(asked, stream, &bytes, "\"a\"", 300_000),
        _ if asked.number < 3 => send(stream, "404 Not Found", &[], b"none"),
        _ => serve(asked, stream, &bytes, "\"a\""),
    });
    let url = server.url("manifest.json");
    let update = ["--root", "dev", "update", "--from", &url, "--manifest", "service"];
    place.bad(&update, 6, "source.unavailable");
    let told = place.good(&["--root", "dev", "status"]);
    assert!(told.contains("\ndownload  1.0.0.1: 256.00 KiB of "), "{told}");
    let object: Value = serde_json::from_str(&place.good(&["--root", "dev", "--json", "status"])).unwrap();
    assert_eq!(object["downloads"][0]["done"], json!(4 * 65_536));
    assert_eq!(object["downloads"][0]["total"], json!(package.len()));
    place.good(&update);
    place.assert_same("dev", "new");
    assert_eq!(server.ranges().last().unwrap().as_deref(), Some("bytes=262144-"));
    assert!(!place.good(&["--root", "dev", "status"]).contains("download"));
}

#[test]
fn a_mirror_helps_out() {
    let place = Place::new();
    place.manifest("1.0.0.1");
    fs::create_dir(place.path("mirror")).unwrap();
    fs::rename(place.path("up.tar.gz"), place.path("mirror/up.tar.gz")).unwrap();
    place.bad(&device("update", &["--retries", "1"]), 6, "source.unavailable");
    place.good(&device("update", &["--mirror", "mirror/"]));
    place.assert_same("dev", "new");
}

//! Every refusal has its exit code and its error code, and changes nothing.

use super::Place;
use fs2::FileExt as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Stdio;
use std::time::Duration;
use surefoot::device::{Config, Engine};
use surefoot::error::Code;
use surefoot::vfs::OsVfs;

#[test]
fn a_package_that_is_not_trusted_is_refused() {
    let place = Place::with_packages();
    let apply = ["--root", "dev", "apply", "up.sf"];
    place.copy("old", "plain");
    place.good(&["--root", "plain", "init", "--version", "1.0.0", "--owner", "no"]);
    place.bad(&["--root", "plain", "apply", "up.sf"], 3, "trust.no-keys");

    place.build("old", "new", "1.0.0", "1.0.0.1", "strange.sf");
    let unsigned = ["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--owner", "no", "-o", "unsigned.sf"];
    place.good(&unsigned);
    place.bad(&["--root", "dev", "apply", "unsigned.sf"], 3, "trust.unsigned");
    place.good(&["sign", "unsigned.sf", "--key", "stranger"]);
    place.bad(&["--root", "dev", "apply", "unsigned.sf"], 3, "trust.signature");
    place.bad(&["inspect", "unsigned.sf", "--trust", "key.pub"], 3, "trust.signature");

    // A flipped bit in the manifest, and one in the payload.
    let good = fs::read(place.path("up.sf")).unwrap();
    for (at, codes) in
        [(60, ["trust.signature", "package.format"]), (good.len() - 3, ["package.format", "trust.digest"])]
    {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(place.path("up.sf"), bytes).unwrap();
        let ran = place.run(&apply);
        assert_eq!(ran.code, 3, "byte {at}: {}", ran.stderr);
        assert!(codes.iter().any(|code| ran.stderr.contains(code)), "byte {at}: {}", ran.stderr);
    }
    for length in [0, 100, good.len() / 2, good.len() - 1] {
        fs::write(place.path("up.sf"), &good[..length]).unwrap();
        place.bad(&apply, 3, "package.format");
    }
    place.assert_same("dev", "old");
    fs::write(place.path("up.sf"), good).unwrap();
    place.good(&["--root", "plain", "apply", "up.sf", "--trust", "key.pub"]);
    place.good(&["--root", "dev", "apply", "unsigned.sf", "--allow-unsigned"]);
}

#[test]
fn a_tree_that_the_package_does_not_expect_is_refused_by_path() {
    let place = Place::with_packages();
    let apply = ["--root", "dev", "apply", "up.sf"];
    place.write("dev/bin/app", "my own");
    let error = place.bad(&apply, 4, "tree.changed");
    assert_eq!(error["findings"], serde_json::json!([{"path": "bin/app", "difference": "content"}]));
    let error = place.bad(&["--root", "dev", "verify"], 4, "tree.changed");
    assert_eq!(error["found"], 1);
    place.write("dev/bin/app", "one");

    place.write("dev/lib/x/mine", "mine");
    let error = place.bad(&apply, 4, "tree.stray");
    assert_eq!(error["findings"][0]["path"], "lib/x/mine");
    fs::remove_file(place.path("dev/lib/x/mine")).unwrap();

    // Another version of the tree: recorded as such, so the base is wrong.
    place.copy("old", "third");
    place.write("third/bin/app", "three");
    place.build("third", "new", "1.0.0", "1.0.0.1", "wrong.sf");
    let error = place.bad(&["--root", "dev", "apply", "wrong.sf"], 4, "tree.base");
    assert_eq!(error["findings"], serde_json::json!([{"path": "bin/app", "difference": "content"}]));

    let build = ["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--arch", "pdp11", "--key", "key"];
    place.good(&[&build[..], &["--owner", "no", "-o", "pdp11.sf"]].concat());
    place.bad(&["--root", "dev", "apply", "pdp11.sf"], 4, "package.architecture");
    place.assert_same("dev", "old");
    place.good(&["--root", "dev", "apply", "pdp11.sf", "--arch", "pdp11"]);
}

/// What no patch touches is compared first only if that is asked for: by what the index tells, or by its content.
#[test]
fn how_much_of_the_tree_is_compared_first_is_up_to_the_device() {
    let place = Place::new();
    place.good(&["keygen", "-o", "key"]);
    for tree in ["old", "new"] {
        place.write(&format!("{tree}/stays"), "as it was");
    }
    place.build("old", "new", "1.0.0", "1.0.0.1", "up.sf");
    place.copy("old", "dev");
    place.good(&["--root", "dev", "init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no"]);
    let apply = |depth| ["--root", "dev", "apply", "up.sf", "--verify", depth];
    let changed = |difference| serde_json::json!([{"path": "stays", "difference": difference}]);

    let modified = fs::metadata(place.path("dev/stays")).unwrap().modified().unwrap();
    place.write("dev/stays", "as I want");
    OpenOptions::new().write(true).open(place.path("dev/stays")).unwrap().set_modified(modified).unwrap();
    let error = place.bad(&apply("full"), 4, "tree.changed");
    assert_eq!(error["findings"], changed("content"));
    place.write("dev/stays", "as I want it to be");
    for depth in ["index", "full"] {
        let error = place.bad(&apply(depth), 4, "tree.changed");
        assert_eq!(error["findings"], changed("content"), "{depth}");
    }
    place.good(&apply("touched"));
    assert_eq!(place.read("dev/stays"), "as I want it to be");
    place.good(&["--root", "dev", "rollback"]);
    place.write("dev/stays", "as it was");
    place.good(&apply("full"));
    place.assert_same("dev", "new");
}

/// One update can be rolled back, or as many as were asked for.
#[test]
fn as_many_updates_can_be_rolled_back_as_init_was_told() {
    let place = Place::with_packages();
    place.build("new", "old", "1.0.0.1", "1.0.0.2", "again.sf");
    for (keep, steps) in [(&[][..], 1), (&["--keep", "0"], 0), (&["--keep", "2"], 2)] {
        let device = format!("device{steps}");
        place.copy("old", &device);
        let root = |arguments: &[&'static str]| [&["--root", device.as_str()], arguments].concat();
        place.good(&root(&[&["init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no"], keep].concat()));
        place.good(&root(&["apply", "up.sf"]));
        place.good(&root(&["apply", "again.sf"]));
        for _ in 0..steps {
            place.good(&root(&["rollback"]));
        }
        place.bad(&root(&["rollback"]), 1, "transaction.no-undo");
        place.assert_same(&device, if steps == 1 { "new" } else { "old" });
    }
}

/// Owners are a part of what a tree is where root says nothing else.
#[test]
fn owners_count_for_root_unless_he_says_otherwise() {
    let place = Place::new();
    if std::os::unix::fs::chown(place.path("old/etc/conf"), Some(1), Some(1)).is_err() {
        return println!("SKIPPED: not root, who alone can give files away");
    }
    for (number, (owner, counts)) in
        [(&[][..], true), (&["--owner", "yes"], true), (&["--owner", "no"], false)].into_iter().enumerate()
    {
        let device = format!("device{number}");
        place.copy("old", &device);
        place.good(&[&["--root", device.as_str(), "init", "--version", "1.0.0"], owner].concat());
        std::os::unix::fs::chown(place.path(&format!("{device}/etc/conf")), Some(2), Some(1)).unwrap();
        let verify = ["--root", device.as_str(), "verify"];
        if counts {
            let error = place.bad(&verify, 4, "tree.changed");
            assert_eq!(error["findings"], serde_json::json!([{"path": "etc/conf", "difference": "owner"}]));
        } else {
            place.good(&verify);
        }
    }
}

/// A journal that makes no sense is for a person to look at, and says so by its exit code.
#[test]
fn a_damaged_journal_stops_everything() {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf", "--trial"]);
    let mut journal = fs::read(place.path("dev/.surefoot/journal")).unwrap();
    journal[..8192].fill(0xff);
    fs::write(place.path("dev/.surefoot/journal"), journal).unwrap();
    for command in [&["recover"][..], &["rollback"], &["confirm"], &["apply", "up.sf"]] {
        place.bad(&[&["--root", "dev"], command].concat(), 8, "journal.damaged");
    }
    place.assert_same("dev", "new");
}

#[test]
fn a_package_that_asks_for_more_than_the_device_allows_is_refused() {
    let place = Place::with_packages();
    let text: String = (0..4000).map(|n| format!("line {n} of {}\n", n * n % 977)).collect();
    place.write("new/lib/text", &text);
    place.build("old", "new", "1.0.0", "1.0.0.1", "text.sf");
    let apply = ["--root", "dev", "apply", "text.sf"];
    place.bad(&[&apply[..], &["--max-memory", "0"]].concat(), 4, "package.demand");
    place.bad(&[&apply[..], &["--no-lzma"]].concat(), 4, "package.demand");
    place.assert_same("dev", "old");
    // Without LZMA at the first level.
    let build = ["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--level", "fast", "--key", "key"];
    place.good(&[&build[..], &["--owner", "no", "-o", "fast.sf"]].concat());
    place.good(&["--root", "dev", "apply", "fast.sf", "--no-lzma", "--max-memory", "9"]);
    place.assert_same("dev", "new");
}

#[test]
fn an_older_version_is_installed_only_on_request() {
    let place = Place::with_packages();
    place.good(&["--root", "dev", "apply", "up.sf"]);
    place.build("new", "old", "1.0.0.1", "1.0.0", "down.sf");
    place.bad(&["--root", "dev", "apply", "down.sf"], 3, "trust.downgrade");
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "apply", "down.sf", "--allow-downgrade"]);
    place.assert_same("dev", "old");
}

#[test]
fn a_lock_that_another_process_holds_is_respected_and_status_needs_none() {
    let place = Place::with_packages();
    let lock = OpenOptions::new().write(true).open(place.path("dev/.surefoot/lock")).unwrap();
    lock.try_lock_exclusive().unwrap();
    for arguments in [&["apply", "up.sf"][..], &["rollback"], &["recover"], &["verify"], &["confirm"]] {
        place.bad(&[&["--root", "dev"], arguments].concat(), 9, "lock.held");
    }
    for arguments in [&["status"][..], &["history"], &["journal", "show"]] {
        place.good(&[&["--root", "dev"], arguments].concat());
    }
    lock.unlock().unwrap();
    place.good(&["--root", "dev", "recover"]);
}

#[test]
fn what_makes_no_sense_now_is_refused() {
    let place = Place::with_packages();
    for arguments in
        [&["status"][..], &["recover"], &["apply", "up.sf"], &["history"], &["verify"], &["journal", "show"]]
    {
        place.bad(&[&["--root", "old"], arguments].concat(), 1, "tree.not-initialised");
    }
    place.bad(&["--root", "dev", "init", "--version", "1.0.0"], 1, "tree.initialised");
    place.bad(&["--root", "dev", "confirm"], 1, "transaction.no-trial");
    place.bad(&["--root", "dev", "rollback"], 1, "transaction.no-undo");
    place.good(&["--root", "dev", "apply", "up.sf", "--trial"]);
    place.bad(&["--root", "dev", "apply", "up.sf"], 1, "transaction.pending");
    place.bad(&["--root", "nowhere", "status"], 1, "io.failed");
    place.bad(&["--root", "dev", "init", "--version", "one"], 1, "input.version");
    place.bad(&["keygen", "-o", "key"], 1, "io.failed");
    place.bad(&["--root", "old", "init", "--version", "1.0.0", "--trust", "key"], 1, "input.key");
    place.bad(&["sign", "up.sf", "--key", "key.pub"], 1, "input.key");
    place.bad(&["sign", "up.sf", "--key", "old/bin/app"], 1, "input.key");
    place.bad(&["inspect", "nothing.sf"], 6, "source.unavailable");
    place.bad(&["inspect", "old/bin/app"], 3, "package.format");
}

#[test]
fn wrong_usage_is_told_as_such() {
    let place = Place::new();
    for arguments in [
        &["--bogus"][..],
        &["status", "--bogus"],
        &["frobnicate"],
        &["init"],
        &["apply"],
        &["apply", "x", "--max-attempts", "0"],
        &["apply", "x", "--max-attempts", "1000"],
        &["-q", "-v", "status"],
        &["build", "old", "--to", "1.0.0", "-o", "x"],
        &["build", "old", "new", "--to", "1.0.0", "-o", "x"],
        &["build", "old", "new", "--full", "--to", "1.0.0", "-o", "x"],
        &["build", "old", "new", "--from", "1.0.0", "--to", "1.0.1", "-o", "new/x"],
        &["build", "old", "new", "--from", "1.0.0", "--to", "1.0.1", "--entry", "e", "-o", "x"],
        &["build", "--full", "new", "--to", "1.0.0", "--format", "tar.gz", "-o", "x"],
    ] {
        place.bad(arguments, 2, "usage.invalid");
    }
    let ran = place.run(&["status", "--", "--json"]);
    assert!(ran.code == 2 && ran.stdout.is_empty() && ran.stderr.contains("Usage"), "{}", ran.stderr);
    assert_eq!(place.run(&[]).code, 2);
}

#[test]
fn a_broken_package_is_never_signed_and_the_old_one_stays() {
    let place = Place::with_packages();
    let good = fs::read(place.path("up.sf")).unwrap();
    fs::write(place.path("cut.sf"), &good[..good.len() - 3]).unwrap();
    place.bad(&["sign", "cut.sf", "--key", "key"], 3, "package.format");
    assert_eq!(fs::read(place.path("cut.sf")).unwrap(), &good[..good.len() - 3]);
}

#[test]
fn a_tree_that_cannot_be_managed_is_left_alone() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo").arg(place.path("old/pipe")).status().unwrap();
    assert!(made.success());
    let error = place.bad(&["--root", "old", "init", "--version", "1.0.0"], 4, "tree.special");
    assert_eq!(error["findings"][0]["path"], "pipe");
    assert!(!place.path("old/.surefoot").exists());
}

#[test]
fn the_state_directory_lies_beside_the_tree_or_where_it_usually_does() {
    let place = Place::new();
    let init = ["--root", "old", "init", "--version", "1.0.0", "--state-dir"];
    place.bad(&[&init[..], &["old/lib/state"]].concat(), 1, "unsupported.state-dir");
    place.bad(&[&init[..], &["."]].concat(), 1, "unsupported.state-dir");
    symlink("old/lib", place.path("way")).unwrap();
    place.bad(&[&init[..], &["way/state"]].concat(), 1, "unsupported.state-dir");
    place.good(&[&init[..], &["state"]].concat());
    place.good(&["--root", "old", "--state-dir", "state", "verify"]);
    assert!(!place.path("old/.surefoot").exists());
    place.bad(&["--root", "old", "status"], 1, "tree.not-initialised");
    place.good(&["--root", "new", "init", "--version", "1.0.0", "--state-dir", "new/.surefoot"]);
    place.good(&["--root", "new", "status"]);
}

/// Content that building looks at for some seconds.
fn long_to_build(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        b'a' + (state >> 60) as u8
    };
    (0..24 << 20).map(step).collect()
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_behind() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("old/large"), long_to_build(1)).unwrap();
    fs::write(place.path("new/large"), long_to_build(2)).unwrap();
    let asked = ["build", "old", "new", "--from", "1.0.0", "--to", "2.0.0", "--owner", "no", "--level", "best"];
    let mut command = place.command(&[&asked[..], &["-o", "out/up.sf"]].concat());
    let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // It has begun to pack when the package is there under its first name.
    while fs::read_dir(place.path("out")).unwrap().count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("(apply.cancelled)"), "{told}");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
}

#[test]
fn programs_are_told_how_far_a_build_is() {
    let place = Place::new();
    let asked = ["--json", "build", "old", "new", "--from", "1.0.0", "--to", "2.0.0", "--owner", "no", "-o", "up.sf"];
    let ran = place.good(&asked);
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let built: Vec<_> = lines.filter(|line| line["type"] == "progress" && line["phase"] == "build").collect();
    assert!(!built.is_empty(), "{}", ran.stdout);
    assert!(built.windows(2).all(|two| two[0]["done"].as_u64() <= two[1]["done"].as_u64()), "{built:?}");
}

/// One barrier must cover the tree and its state, and renames must work between them.
#[test]
fn a_state_directory_on_another_file_system_is_refused() {
    let place = Place::with_packages();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: there is no /dev/shm here");
        return;
    };
    let device = |path: &std::path::Path| fs::metadata(path).unwrap().dev();
    if device(memory.path()) == device(place.directory.path()) {
        println!("skipped: temporary files are in /dev/shm");
        return;
    }
    let state = memory.path().join("state");
    let name = state.to_str().unwrap();
    place.bad(&["--root", "new", "--state-dir", name, "init", "--version", "1.0.0"], 1, "unsupported.state-dir");
    assert!(!state.exists());
    // One that has got there since: nobody works with it, whoever opens it.
    let copied = std::process::Command::new("cp").arg("-a").arg(place.path("dev/.surefoot")).arg(&state).status();
    assert!(copied.unwrap().success());
    for arguments in [&["recover"][..], &["apply", "up.sf"], &["verify"], &["status"]] {
        place.bad(&[&["--root", "dev", "--state-dir", name], arguments].concat(), 1, "unsupported.state-dir");
    }
    let opened = || OsVfs::open(&place.path("dev"), &state).unwrap();
    assert_eq!(Engine::open(opened()).unwrap_err().code(), Code::StateElsewhere);
    fs::remove_file(state.join("journal")).unwrap();
    assert_eq!(Engine::init(opened(), Config::default(), "1", None).unwrap_err().code(), Code::StateElsewhere);
    place.assert_same("dev", "old");
}

/// It once wrote its configuration over whatever file of that name was there.
#[test]
fn a_directory_with_something_else_in_it_becomes_no_state_directory() {
    let place = Place::with_packages();
    place.copy("old", "plain");
    for (name, content) in [("config", "[mine]"), ("index", "mine"), ("notes.txt", "mine")] {
        let at = format!("state-{name}/{name}");
        place.write(&at, content);
        let state = format!("state-{name}");
        let told =
            place.bad(&["--root", "plain", "--state-dir", &state, "init", "--version", "1.0.0"], 4, "tree.stray");
        assert!(told.to_string().contains(name), "{told}");
        assert_eq!(place.read(&at), content);
        assert_eq!(fs::read_dir(place.path(&state)).unwrap().count(), 1, "{name}");
    }
    symlink(place.path("state-config"), place.path("plain/.surefoot")).unwrap();
    place.bad(&["--root", "plain", "init", "--version", "1.0.0"], 1, "unsupported.state-dir");
    assert_eq!(place.read("state-config/config"), "[mine]");
    fs::remove_file(place.path("plain/.surefoot")).unwrap();
    place.assert_same("plain", "old");
    // What an init that was cut off has left is no hindrance.
    place.write("cut/config", "{\"for");
    place.write("cut/journal.new", "");
    place.good(&["--root", "plain", "--state-dir", "cut", "init", "--version", "1.0.0"]);
}

/// A bind mount of the same file system has the same device number, but no rename crosses it.
#[test]
fn a_state_directory_behind_a_bind_mount_is_refused() {
    let place = Place::with_packages();
    fs::create_dir(place.path("bound")).unwrap();
    // In a mount namespace of its own, which goes with its process. The exit code says who has failed.
    let script = "mount --bind dev/.surefoot bound || exit 77; \"$0\" --root dev --state-dir bound --json \"$@\"";
    for arguments in [&["recover"][..], &["apply", "up.sf"]] {
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_surefoot")]).args(arguments);
        let Ok(ran) = command.current_dir(place.directory.path()).output() else {
            return println!("skipped: no unshare");
        };
        let (code, told) = (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned());
        if code == Some(77) || told.is_empty() {
            return println!("skipped: nothing can be mounted here");
        }
        assert!(code == Some(1) && told.contains("\"unsupported.state-dir\""), "{arguments:?}: {code:?} {told}");
    }
    place.good(&["--root", "dev", "verify"]);
    place.assert_same("dev", "old");
}

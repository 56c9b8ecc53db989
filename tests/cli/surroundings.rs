//! The environment: variables, pipes, terminals, odd names.

use super::Place;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

#[test]
fn the_root_comes_from_the_environment_or_is_the_current_directory() {
    let place = Place::with_packages();
    let told = place.command(&["status"]).env("SUREFOOT_ROOT", "dev").output().unwrap();
    assert!(told.status.success());
    let here = place.command(&["status"]).current_dir(place.path("dev")).output().unwrap();
    assert_eq!(here.stdout, told.stdout);
    let other = place.command(&["--root", "old", "status"]).env("SUREFOOT_ROOT", "dev").output().unwrap();
    assert_eq!(other.status.code(), Some(1), "the argument goes before the environment");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    for number in 0..3000 {
        place.write(&format!("new/many/a file with a rather long name, so that no pipe holds them all {number}"), "");
    }
    let mut child =
        place.command(&["diff", "old", "new"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full here");
        return;
    };
    let ran = place.command(&["diff", "old", "new"]).stdout(full).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("writing to standard output failed"));
}

#[test]
fn results_are_on_stdout_messages_on_stderr_and_quiet_is_quiet() {
    let place = Place::with_packages();
    let build = ["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--owner", "no", "-o", "x.sf"];
    let ran = place.good(&build);
    assert!(ran.stdout.starts_with("x.sf: patch 1.0.0 -> 1.0.0.1") && ran.stderr.contains("proving"), "{}", ran.stderr);
    let ran = place.good(&[&["-q"], &build[..]].concat());
    assert_eq!(ran.stderr, "");
    let ran = place.good(&[&["--json"], &build[..]].concat());
    assert_eq!(ran.stderr, "");
    assert!(!ran.stdout.contains('\u{1b}'));
}

#[test]
fn odd_names_are_carried_and_shown_on_one_line() {
    let place = Place::new();
    let name = std::ffi::OsStr::from_bytes(b"odd \x07\n\xff name");
    fs::write(place.path("new").join(name), "odd").unwrap();
    place.good(&["keygen", "-o", "key"]);
    let told = place.good(&["diff", "old", "new"]).stdout;
    assert!(told.contains("A odd \\x07\\x0a\\xff name  (3 B)\n"), "{told}");
    place.build("old", "new", "1.0.0", "1.0.0.1", "up.sf");
    place.good(&["--root", "old", "init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no"]);
    place.good(&["--root", "old", "apply", "up.sf"]);
    assert_eq!(fs::read(place.path("old").join(name)).unwrap(), b"odd");
}

#[test]
fn help_version_completions_and_manual_pages_are_there() {
    let place = Place::new();
    assert!(place.good(&["--version"]).stdout.starts_with("surefoot "));
    let help = place.good(&["--help"]).stdout;
    for command in ["keygen", "build", "apply", "recover", "Exit codes"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(place.good(&["apply", "--help"]).stdout.contains("--allow-unsigned"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.good(&["completions", shell]).stdout.contains("surefoot"), "{shell}");
    }
    assert!(place.good(&["man"]).stdout.contains(".TH surefoot 1"));
    fs::create_dir(place.path("pages")).unwrap();
    place.good(&["man", "pages"]);
    assert!(place.read("pages/surefoot-apply.1").contains("trial"));
    place.bad(&["man", "nowhere"], 1, "io.failed");
}

/// A default ACL that somebody sets on the tree is handed down to whatever is made in it: to staged objects too, which
/// then were not what the package promised, and a crash left the tree stuck between the versions.
#[test]
fn a_default_acl_is_not_handed_down_to_what_is_staged() {
    let place = Place::with_packages();
    let acl = ["-R", "-d", "-m", "u:1:rX"];
    let set = std::process::Command::new("setfacl").args(acl).arg(place.path("dev/.surefoot")).status();
    if !set.is_ok_and(|status| status.success()) {
        println!("skipped: no setfacl here, or no ACLs on this file system");
        return;
    }
    place.good(&["--root", "dev", "apply", "up.sf"]);
    place.good(&["--root", "dev", "verify"]);
    place.good(&["--root", "dev", "rollback"]);
    place.good(&["--root", "dev", "verify"]);
}

/// Recovery runs before whatever uses the tree. Where its file system was mounted read-only it could not take its lock,
/// and nothing started, although there was nothing to recover.
#[test]
fn a_tree_that_is_mounted_read_only_can_be_looked_at() {
    let place = Place::with_packages();
    let run = |arguments: &str| {
        let script = format!(
            "mount --bind dev dev && mount -o remount,bind,ro dev && exec {} --root dev {arguments}",
            env!("CARGO_BIN_EXE_surefoot")
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", &script]).current_dir(place.path("")).output().unwrap()
    };
    if !run("status").status.success() {
        println!("SKIPPED: no mounts of our own here");
        return;
    }
    for arguments in ["recover", "verify", "verify --quick", "history", "journal show"] {
        let ran = run(arguments);
        assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let ran = run("apply up.sf");
    assert!(!ran.status.success() && place.read("dev/bin/app") == "one");
    place.good(&["--root", "dev", "apply", "up.sf"]);
}

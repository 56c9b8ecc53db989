//! A disk that fails in the middle of a command: the answer, the exit code, and the way on from there.

use super::Place;
use serde_json::Value;
use std::fs;
use std::process::Command;
use surefoot::vfs::{OsVfs, Vfs as _};

/// Runs the program with a call that fails as said, as `strace` can make it; nothing where it cannot.
pub(super) fn with_fault(place: &Place, call: &str, how: &str, arguments: &[&str]) -> Option<(i32, Value)> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
    command.arg(format!("inject={call}:{how}")).args([env!("CARGO_BIN_EXE_surefoot"), "--json"]).args(arguments);
    let ran = command.current_dir(place.path("")).output();
    let last = |text: &[u8]| serde_json::from_str(String::from_utf8_lossy(text).lines().last()?).ok();
    match ran.map(|ran| (ran.status.code(), last(&ran.stdout))) {
        Ok((Some(code), Some(answer))) => Some((code, answer)),
        other => {
            println!("SKIPPED: strace does not run here: {other:?}");
            None
        }
    }
}

/// Every rename of an update fails in turn: before the first step nothing has happened, after it the old tree is back,
/// and each time that is what is said.
#[test]
fn an_update_that_fails_between_its_steps_is_taken_back_and_says_so() {
    let place = Place::with_packages();
    let [mut failed, mut taken_back] = [0, 0];
    for number in 1.. {
        let how = format!("error=EIO:when={number}");
        let Some((code, answer)) = with_fault(&place, "renameat2", &how, &["--root", "dev", "apply", "up.sf"]) else {
            return;
        };
        place.good(&["--root", "dev", "verify"]);
        let status: Value = serde_json::from_str(&place.good(&["--json", "--root", "dev", "status"]).stdout).unwrap();
        assert_eq!(status["state"], "idle", "rename {number}: {answer}");
        match code {
            0 => break,
            1 => {
                assert_eq!(answer["code"], "io.failed", "{answer}");
                failed += 1;
            }
            7 => {
                assert_eq!(answer["code"], "apply.rolled-back", "{answer}");
                taken_back += 1;
            }
            code => panic!("rename {number}: exit code {code}: {answer}"),
        }
        place.assert_same("dev", "old");
    }
    place.assert_same("dev", "new");
    assert!(failed > 0 && taken_back > 3, "{failed} failed, {taken_back} were taken back");
    let outcome = |entry: &str| place.good(&["--root", "dev", "history"]).stdout.matches(entry).count();
    assert_eq!(outcome("restored"), taken_back);
}

/// After a failed sync nothing goes on in this session, unless somebody says that the file system was mounted anew.
#[test]
fn after_a_failed_sync_a_reboot_or_the_word_of_a_person_goes_on() {
    let place = Place::with_packages();
    let apply = ["--root", "dev", "apply", "up.sf"];
    if let Some((code, answer)) = with_fault(&place, "syncfs", "error=EIO:when=1", &apply) {
        assert_eq!((code, &answer["code"]), (8, &"apply.sync-failed".into()), "{answer}");
    } else {
        let vfs = OsVfs::open(&place.path("dev"), &place.path("dev/.surefoot")).unwrap();
        fs::write(place.path("dev/.surefoot/poison"), vfs.session().unwrap().0).unwrap();
    }
    let poisoned = |root: &str| {
        let told = place.good(&["--json", "--root", root, "status"]).stdout;
        serde_json::from_str::<Value>(&told).unwrap()["poisoned"].clone()
    };
    assert_eq!(poisoned("dev"), true);
    for command in [&["recover"][..], &["apply", "up.sf"], &["rollback"], &["confirm"]] {
        place.bad(&[&["--root", "dev"], command].concat(), 8, "apply.sync-failed");
    }
    place.assert_same("dev", "old");
    place.copy("dev", "rebooted");
    if let Some(ran) = place.boot("another boot", &["--root", "rebooted", "recover"]) {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        place.good(&["--root", "rebooted", "verify"]);
    }
    place.good(&["--root", "dev", "recover", "--remounted"]);
    assert_eq!(poisoned("dev"), false);
    place.good(&["--root", "dev", "verify"]);
    place.good(&["--root", "dev", "recover"]);
    // It means nothing where no sync has failed.
    place.good(&["--root", "dev", "recover", "--remounted"]);
}

//! What a device keeps of a repository, through any loss of power: never older than what was acknowledged, never
//! half-written, and always something that the next look goes on from.

use super::{Publisher, now};
use std::collections::BTreeMap;
use surefoot::crashtest::Explorer;
use surefoot::device::{Config, Engine};
use surefoot::repository::*;
use surefoot::trust::Keyring;
use surefoot::vfs::SimVfs;

type Files = BTreeMap<String, Vec<u8>>;

/// One look with everything kept in the state directory. Tells what was acknowledged as kept: roles and versions, in
/// their order; 0 where something was forgotten.
fn look(disk: &SimVfs, files: &Files) -> (Vec<(String, u64)>, Result<(), String>) {
    let mut promised = Vec::new();
    let mut run = || -> Result<(), surefoot::Error> {
        let mut engine = Engine::open(disk.clone())?;
        let mut client = engine.repository_client(Clock::Now(now()), OfflinePolicy::Strict)?;
        client.look_for_everything();
        loop {
            match client.step()? {
                Step::Done => return Ok(()),
                Step::Fetch(request) => {
                    let found = files.get(&request.name).cloned();
                    client.answer(found.map_or(Answer::Missing, Answer::Bytes))?;
                }
                Step::Keep(Kept { role, bytes }) => {
                    engine.keep_trust(&role, Some(&bytes))?;
                    promised.push((role, version(&bytes)));
                }
                Step::Forget(role) => {
                    engine.keep_trust(&role, None)?;
                    promised.push((role, 0));
                }
            }
        }
    };
    let result = run().map_err(|error| format!("{error:?}"));
    (promised, result)
}

fn version(bytes: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["signed"]["version"].as_u64().unwrap()
}

fn stored(disk: &SimVfs) -> BTreeMap<String, u64> {
    let stored = Engine::open(disk.clone()).unwrap().stored_trust().unwrap();
    stored.0.iter().map(|(role, bytes)| (role.clone(), version(bytes))).collect()
}

fn disk() -> SimVfs {
    let disk = SimVfs::new();
    disk.write_file("app", "one");
    disk.reboot_clean()
}

#[test]
fn no_loss_of_power_rolls_back_what_was_believed() {
    let mut publisher = Publisher::new();
    let first = publisher.clone();
    let before = disk();
    let root = first.files["1.root.json"].clone();
    drop(Engine::init_trusting(before.clone(), Config::default(), "1.0.0", None, Some(&root)).unwrap());
    look(&before, &first.files).1.unwrap();
    assert_eq!(stored(&before).len(), 4);

    // Two new roots, the second with other keys for timestamp and snapshot, so that what they signed is forgotten; a
    // delegated role; and new versions of everything.
    publisher.next_root(&[1]);
    publisher.set_keys(role::TIMESTAMP, &[14], 1);
    publisher.set_keys(role::SNAPSHOT, &[13], 1);
    publisher.next_root(&[1]);
    publisher.delegate("a/team", &["*/*/*"], 9, false);
    publisher.release_next();
    let (all, result) = look(&before.reboot_clean(), &publisher.files);
    result.unwrap();
    let expected = [("root", 2), ("root", 3), ("timestamp", 0), ("snapshot", 0), ("timestamp", 2), ("snapshot", 2)];
    let expected = expected.iter().chain(&[("targets", 2), ("a/team", 1)]);
    assert_eq!(all, expected.map(|(role, version)| ((*role).to_owned(), *version)).collect::<Vec<_>>());

    let judge = |disk: &SimVfs, promised: &Vec<(String, u64)>| -> Result<(), String> {
        let kept = stored(disk);
        for (number, (role, version)) in promised.iter().enumerate() {
            let later = promised[number + 1..].iter().any(|(other, _)| other == role);
            let have = kept.get(role).copied().unwrap_or(0);
            if !later && have < *version {
                return Err(format!("{role} was acknowledged with version {version}, and {have} is there"));
            }
            if !later && *version == 0 && have == 1 {
                return Err(format!("{role} was forgotten, and the old one is there"));
            }
        }
        if kept["root"] < 1 {
            return Err("no root".into());
        }
        let (_, result) = look(disk, &publisher.files);
        result?;
        let end = stored(disk);
        let all = [("a/team", 1), ("root", 3), ("snapshot", 2), ("targets", 2), ("timestamp", 2)];
        let all: BTreeMap<String, u64> = all.iter().map(|(role, version)| ((*role).to_owned(), *version)).collect();
        if end == all { Ok(()) } else { Err(format!("the next look ends at {end:?}")) }
    };
    let explorer = Explorer::on(before.reboot_clean()).profiles(&surefoot::vfs::sim::Profile::ATOMIC);
    let tally = explorer.run(|disk| look(disk, &publisher.files).0).judge(judge).unwrap();
    println!("{} states of a look", tally.states);
    assert!(tally.states > 500, "{}", tally.states);
}

#[test]
fn a_device_that_was_given_keys_is_never_without_a_root_once_it_had_one() {
    let publisher = Publisher::new();
    let before = disk();
    let mut ring = Keyring::new();
    ring.insert(super::key(1).public()).unwrap();
    let config = Config { keys: ring.keys().map(|key| key.to_pem()).collect(), ..Config::default() };
    drop(Engine::init(before.clone(), config, "1.0.0", None).unwrap());
    assert_eq!(stored(&before), BTreeMap::new());
    let tally = Explorer::on(before.reboot_clean())
        .run(|disk| look(disk, &publisher.files).0)
        .judge(|disk, promised| {
            let kept = stored(disk);
            match promised.iter().find(|(role, version)| kept.get(role) != Some(version)) {
                Some((role, _)) => Err(format!("{role} is not as it was acknowledged")),
                None => look(disk, &publisher.files).1,
            }
        })
        .unwrap();
    assert!(tally.states > 50, "{}", tally.states);
}

#[test]
fn provisioning_is_part_of_init_or_did_not_happen() {
    let publisher = Publisher::new();
    let root = publisher.files["1.root.json"].clone();
    let init = |disk: &SimVfs| {
        Engine::init_trusting(disk.clone(), Config::default(), "1.0.0", None, Some(&root)).map(drop).is_ok()
    };
    let tally = Explorer::on(disk())
        .run(init)
        .judge(|disk, done| match Engine::open(disk.clone()) {
            Ok(engine) => match engine.stored_trust().map(|stored| stored.0.get("root").cloned()) {
                Ok(Some(found)) if found == root => Ok(()),
                other => Err(format!("under care with {other:?} as its root")),
            },
            Err(_) if *done => Err("it was acknowledged".into()),
            Err(_) if init(disk) => Ok(()),
            Err(error) => Err(format!("and init does not work again: {error:?}")),
        })
        .unwrap();
    assert!(tally.states > 50, "{}", tally.states);
    // Something that is no root metadata provisions nothing.
    for bad in [b"{}".to_vec(), publisher.files["timestamp.json"].clone(), super::sign_by(&publisher.root, &[66])] {
        let disk = disk();
        let made = Engine::init_trusting(disk.clone(), Config::default(), "1.0.0", None, Some(&bad));
        assert_eq!(made.err().unwrap().code().as_str(), "trust.metadata");
        assert!(Engine::open(disk).is_err());
    }
}

#[test]
fn what_gathers_of_delegated_roles_is_dropped_and_nothing_else() {
    let mut publisher = Publisher::new();
    let before = disk();
    let root = publisher.files["1.root.json"].clone();
    drop(Engine::init_trusting(before.clone(), Config::default(), "1.0.0", None, Some(&root)).unwrap());
    for round in 0..3 {
        publisher.targets.delegations = None;
        publisher.delegated.clear();
        for number in 0..30 {
            publisher.delegate(&format!("role-{round}-{number}"), &["*"], 9, false);
        }
        publisher.release_next();
        look(&before, &publisher.files).1.unwrap_or_else(|error| {
            // A role that is gone from the snapshot looks like a rollback, and rightly so: rotate for that.
            assert!(error.contains("no longer listed"), "{error}");
        });
        let kept = stored(&before);
        assert!(kept.len() <= 2 * surefoot::limits::DELEGATIONS + 1, "{}", kept.len());
        assert!(role::TOP.iter().all(|name| kept.contains_key(*name)), "{kept:?}");
    }
}

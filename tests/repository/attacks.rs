//! One test for each attack that the specification of TUF lists (section 1.5.2), named after it.

use super::{Publisher, key, now, release, sign_by};
use surefoot::limits;
use surefoot::model::Digest;
use surefoot::repository::*;

type Files = std::collections::BTreeMap<String, Vec<u8>>;

fn signatures(error: RepositoryError) -> (String, usize, usize) {
    match error {
        RepositoryError::Signatures { file, have, need, .. } => (file, have, need),
        other => panic!("{other}"),
    }
}

/// An attacker answers with files of his own.
#[test]
fn arbitrary_installation() {
    let mut publisher = Publisher::new();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    let before = device.stored.clone();

    // Everything signed by a key of the attacker's, under the names of the publisher's keys or under their own.
    let honest = publisher.clone();
    publisher.add("6.6.6", b"malware");
    for name in role::TOP {
        publisher.signers.insert(name, vec![66]);
    }
    publisher.release_next();
    assert_eq!(signatures(device.look(&publisher.files).unwrap_err()), ("timestamp.json".into(), 0, 1));
    let ours = Key::ed25519(&key(4).public()).id();
    let theirs = Key::ed25519(&key(66).public()).id();
    let forged = String::from_utf8(publisher.files["timestamp.json"].clone()).unwrap().replace(&theirs, &ours);
    publisher.files.insert("timestamp.json".into(), forged.into_bytes());
    assert_eq!(signatures(device.look(&publisher.files).unwrap_err()), ("timestamp.json".into(), 0, 1));
    assert_eq!(device.stored, before, "nothing of it is kept");

    // Another byte in metadata that is signed.
    for (name, byte) in [("timestamp.json", 300), ("2.snapshot.json", 300), ("2.targets.json", 300)] {
        let mut publisher = honest.clone();
        publisher.release_next();
        publisher.files.get_mut(name).unwrap()[byte] ^= 1;
        let error = honest.device().look(&publisher.files).unwrap_err();
        assert!(error.to_string().contains(name.trim_start_matches("2.")), "{name}: {error}");
    }

    // Every file of a target is checked by its digest: another one of the same length is another one.
    let mut device = honest.device();
    let client = device.look(&honest.files).unwrap();
    let (releases, _) = client.releases();
    assert_eq!(releases.len(), 1);
    assert_eq!((releases[0].digest, releases[0].bytes), (Digest::of(b"the package"), 11));
    assert_ne!(releases[0].digest, Digest::of(b"the-package"));
}

/// An attacker answers with files that never end. The client says how much of each file it takes.
#[test]
fn endless_data() {
    let mut publisher = Publisher::new();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    let honest = publisher.clone();
    publisher.release_next();
    for (name, most) in [
        ("2.root.json", limits::ROOT_BYTES),
        ("timestamp.json", limits::TIMESTAMP_BYTES),
        ("2.snapshot.json", publisher.files["2.snapshot.json"].len() as u64),
        ("2.targets.json", publisher.files["2.targets.json"].len() as u64),
    ] {
        let mut files = publisher.files.clone();
        let mut endless = files.get(name).cloned().unwrap_or_default();
        endless.resize(usize::try_from(most).unwrap() + 100_000, b' ');
        files.insert(name.into(), endless);
        let error = device.clone().look(&files).unwrap_err();
        assert!(matches!(error, RepositoryError::TooLong { most: bound, .. } if bound == most), "{name}: {error}");
    }
    // Where the metadata above says no length, or an absurd one, there is a bound all the same.
    let mut publisher = honest;
    publisher.hashes = false;
    publisher.release_next();
    let mut client = Client::new(device.stored.clone(), Anchor::Stored, device.clock, device.policy).unwrap();
    client.look_for_everything();
    let mut bounds = Vec::new();
    let mut fetch = |request: &Request| -> Result<Answer, ()> {
        bounds.push((request.name.clone(), request.most));
        Ok(publisher.files.get(&request.name).map_or(Answer::Missing, |bytes| Answer::Bytes(bytes.clone())))
    };
    client.run(&mut fetch, &mut |_, _| Ok(())).unwrap();
    assert_eq!(
        bounds[2..],
        [("2.snapshot.json".to_owned(), limits::SNAPSHOT_BYTES), ("2.targets.json".to_owned(), limits::TARGETS_BYTES)]
    );
    publisher.hashes = true;
    publisher.release_next();
    publisher.timestamp.meta.get_mut("snapshot.json").unwrap().length = Some(u64::MAX);
    publisher.timestamp.version += 1;
    publisher.publish_timestamp();
    let mut client = Client::new(device.stored, Anchor::Stored, device.clock, device.policy).unwrap();
    let mut asked = Vec::new();
    let mut fetch = |request: &Request| -> Result<Answer, ()> {
        asked.push(request.most);
        Ok(publisher.files.get(&request.name).map_or(Answer::Missing, |bytes| Answer::Bytes(bytes.clone())))
    };
    client.run(&mut fetch, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(asked.iter().max(), Some(&limits::SNAPSHOT_BYTES));
    // And no chain of roots keeps it busy for ever.
    assert!(publisher.files.len() < limits::ROOT_ROTATIONS as usize);
}

/// An attacker makes a device install something besides. A package has no dependencies, and what a device may install
/// is what a role says that is trusted for just this path.
#[test]
fn extraneous_dependencies() {
    let mut publisher = Publisher::new();
    publisher.delegate("team", &["x86_64/*/*"], 9, false);
    let team = &mut publisher.delegated.get_mut("team").unwrap().0;
    let good =
        Release { architecture: Some("x86_64".into()), path: "x86_64/2.0.0/full.sf".into(), ..release("2.0.0", b"x") };
    team.targets.insert(good.path.clone(), good.to_target());
    // Not its to say: another path, and one that the publisher has described.
    let extra = release("9.9.9", b"extra");
    team.targets.insert(extra.path.clone(), extra.to_target());
    let twin = release("1.0.0", b"another package");
    team.targets.insert(twin.path.clone(), twin.to_target());
    publisher.release_next();
    let mut device = publisher.device();
    let client = device.look(&publisher.files).unwrap();
    let (releases, bad) = client.releases();
    let paths: Vec<_> = releases.iter().map(|release| release.path.as_str()).collect();
    assert_eq!(paths, ["any/1.0.0/full.sf", "x86_64/2.0.0/full.sf"]);
    assert_eq!(releases[0].digest, Digest::of(b"the package"));
    assert!(bad.is_empty());
    let client = device.look_for(&publisher.files, Some(&extra.path)).unwrap();
    assert_eq!(client.found(&extra.path), None);
    assert_eq!(client.found("any/1.0.0/full.sf").unwrap().role, "targets");
}

/// An attacker who had keys for a while has driven version numbers up, so that honest ones look old. Other keys for
/// timestamp and snapshot make an end of it.
#[test]
fn fast_forward() {
    let mut publisher = Publisher::new();
    let honest = publisher.clone();
    publisher.timestamp.version = u64::MAX - 1;
    publisher.snapshot.version = u64::MAX - 1;
    publisher.targets.version = u64::MAX - 1;
    publisher.publish();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    assert_eq!(device.versions(), [1, u64::MAX - 1, u64::MAX - 1, u64::MAX - 1]);

    // Without a rotation the honest ones are a rollback.
    let mut publisher = honest;
    publisher.release_next();
    assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Rollback { .. })));

    for rotated in [&[role::TIMESTAMP, role::SNAPSHOT][..], &[role::TIMESTAMP], &[role::SNAPSHOT]] {
        let (mut publisher, mut device) = (publisher.clone(), device.clone());
        for (seed, name) in (14..).zip(rotated) {
            publisher.set_keys(name, &[seed], 1);
        }
        publisher.next_root(&[1]);
        publisher.publish();
        device.look(&publisher.files).unwrap();
        assert_eq!(device.versions(), [2, 2, 2, 2], "{rotated:?}");
        // What was forgotten is protected again from now on.
        let recovered = device.clone();
        publisher.release_next();
        device.look(&publisher.files).unwrap();
        assert!(matches!(
            device.look(&files_with(&publisher.files, &recovered.stored, "timestamp")),
            Err(RepositoryError::Rollback { .. })
        ));
    }
}

fn files_with(files: &Files, stored: &Stored, role: &str) -> Files {
    let mut files = files.clone();
    files.insert(stored_name(role), stored.0[role].clone());
    files
}

/// An attacker answers with the same old files for ever. They expire.
#[test]
fn indefinite_freeze() {
    let publisher = Publisher::new();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    device.clock = Clock::Now(now().plus_days(29));
    device.look(&publisher.files).unwrap();
    device.clock = Clock::Now(now().plus_days(30));
    let error = device.look(&publisher.files).unwrap_err();
    assert!(matches!(&error, RepositoryError::Expired { file, .. } if file == "root.json"), "{error}");

    // Each of the roles by itself, fresh on the device or known to it.
    for name in role::TOP {
        let mut publisher = Publisher::new();
        let later = now().plus_days(1000);
        publisher.root.expires = later;
        publisher.targets.expires = later;
        publisher.snapshot.expires = later;
        publisher.timestamp.expires = later;
        *match name {
            role::ROOT => &mut publisher.root.expires,
            role::TARGETS => &mut publisher.targets.expires,
            role::SNAPSHOT => &mut publisher.snapshot.expires,
            _ => &mut publisher.timestamp.expires,
        } = now();
        publisher.publish_root();
        publisher.publish();
        for known in [false, true] {
            let mut device = publisher.device();
            if known {
                let clock = Clock::Now(now().plus_days(0));
                device.clock = Clock::Now(Moment::from_seconds(now().seconds() - 1));
                device.look(&publisher.files).unwrap();
                device.clock = clock;
            }
            let error = device.look(&publisher.files).unwrap_err();
            let file = format!("{name}.json");
            assert!(matches!(&error, RepositoryError::Expired { file: named, .. } if *named == file), "{error}");
        }
    }
}

/// A mirror that answers with rubbish, or with nothing, does not keep a good one from being asked.
#[test]
fn malicious_mirrors_preventing_updates() {
    let mut publisher = Publisher::new();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    publisher.root.more.insert("x".into(), 1.into());
    publisher.next_root(&[1]);
    publisher.add("1.0.1", b"next");
    publisher.release_next();
    let mut client = Client::new(device.stored, Anchor::Stored, device.clock, device.policy).unwrap();
    let mut refused = 0;
    loop {
        match client.step().unwrap() {
            Step::Done => break,
            Step::Keep(_) | Step::Forget(_) => {}
            Step::Fetch(request) => {
                let good = publisher.files.get(&request.name);
                let mut bad = vec![b"rubbish".to_vec(), b"{}".to_vec(), vec![b'['; 2000], Vec::new()];
                bad.extend(good.map(|bytes| bytes[1..].to_vec()));
                bad.extend(good.map(|bytes| [bytes.as_slice(), b" x"].concat()));
                for bytes in bad {
                    // Refused, and asked for again.
                    client.answer(Answer::Bytes(bytes)).unwrap_err();
                    assert_eq!(client.step(), Ok(Step::Fetch(request.clone())));
                    refused += 1;
                }
                client.answer(good.map_or(Answer::Missing, |bytes| Answer::Bytes(bytes.clone()))).unwrap();
            }
        }
    }
    assert_eq!(refused, 4 * 6 + 4);
    assert!(client.targets().unwrap().targets.contains_key("any/1.0.1/full.sf"));
}

/// An attacker puts files together that were never there at the same time.
#[test]
fn mix_and_match() {
    let mut publisher = Publisher::new();
    let old = publisher.files.clone();
    publisher.add("1.0.1", b"next");
    publisher.release_next();
    for (new, earlier) in [("2.snapshot.json", "1.snapshot.json"), ("2.targets.json", "1.targets.json")] {
        let mut files = publisher.files.clone();
        files.insert(new.into(), old[earlier].clone());
        let error = publisher.device().look(&files).unwrap_err();
        // Longer, shorter or different: not the one that was described.
        assert!(matches!(error, RepositoryError::Mismatch { .. }), "{new}: {error}");
        // Nor by its version alone, where no digest is told.
        let mut publisher = publisher.clone();
        publisher.hashes = false;
        publisher.release_next();
        let mut files = publisher.files.clone();
        files.insert(new.replace('2', "3"), old[earlier].clone());
        let error = publisher.device().look(&files).unwrap_err();
        assert!(matches!(error, RepositoryError::Mismatch { .. }), "{new}: {error}");
    }
    // Metadata of a role that the snapshot does not know.
    let mut publisher = Publisher::new();
    publisher.delegate("team", &["*/*/*"], 9, false);
    publisher.targets.version += 1;
    publisher.release_next();
    publisher.snapshot.meta.remove("team.json");
    publisher.snapshot.version += 1;
    publisher.timestamp.version += 1;
    publisher.publish_snapshot();
    let error = publisher.device().look(&publisher.files).unwrap_err();
    assert!(matches!(error, RepositoryError::Mismatch { .. }), "{error}");
}

/// An attacker offers what is older than what the device has seen.
#[test]
fn rollback() {
    let mut publisher = Publisher::new();
    let first = publisher.clone();
    publisher.add("1.0.1", b"next");
    publisher.release_next();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();

    // The timestamp of before.
    let error = device.look(&first.files).unwrap_err();
    assert_eq!(error, RepositoryError::Rollback { file: "timestamp.json".into(), trusted: 2, offered: 1 });

    // A new timestamp, by whoever has its key, for the snapshot of before.
    let mut evil = first.clone();
    evil.timestamp.version = 3;
    evil.publish_timestamp();
    let error = device.look(&evil.files).unwrap_err();
    assert_eq!(error, RepositoryError::Rollback { file: "snapshot.json".into(), trusted: 2, offered: 1 });

    // That, and a new snapshot, for the targets of before; or for none.
    let mut evil = first.clone();
    (evil.timestamp.version, evil.snapshot.version) = (3, 3);
    evil.publish();
    let error = device.clone().look(&evil.files).unwrap_err();
    assert_eq!(error, RepositoryError::Rollback { file: "targets.json".into(), trusted: 2, offered: 1 });
    let mut evil = publisher.clone();
    (evil.timestamp.version, evil.snapshot.version) = (4, 4);
    evil.snapshot.meta.clear();
    evil.publish_snapshot();
    let mut later = device.clone();
    assert_eq!(later.look(&evil.files).unwrap_err(), RepositoryError::Unlisted { file: "targets.json".into() });

    // Another file of the version that is known does not replace it.
    let mut evil = publisher.clone();
    evil.timestamp.meta.get_mut("snapshot.json").unwrap().version = 100;
    evil.publish_timestamp();
    let kept = device.stored.clone();
    device.look(&evil.files).unwrap();
    assert_eq!(device.stored, kept);
    assert_eq!(device.asked, ["2.root.json", "timestamp.json"]);

    // An older root as the next one, and a root that skips a version.
    for version in [1, 3] {
        let mut evil = publisher.clone();
        evil.root.version = version;
        evil.files.insert("2.root.json".into(), sign_by(&evil.root, &[1]));
        let error = device.look(&evil.files).unwrap_err();
        assert!(error.to_string().starts_with("2.root.json"), "{error}");
    }
    device.look(&publisher.files).unwrap();
    assert_eq!(device.versions(), [1, 2, 2, 2]);
}

/// An attacker answers so slowly that nothing ever comes. How slow is too slow is for the transport to say; what the
/// client does about it: nothing is lost when a look is given up anywhere, and the time of the look stays fixed.
#[test]
fn slow_retrieval() {
    let mut publisher = Publisher::new();
    publisher.add("1.0.1", b"next");
    publisher.release_next();
    let mut device = publisher.device();
    // Each look gets some files, then the connection is given up.
    for (number, patience) in [0, 1, 2, 3, 3].into_iter().enumerate() {
        let mut client = Client::new(device.stored.clone(), Anchor::Stored, device.clock, device.policy).unwrap();
        let mut left = patience;
        let mut fetch = |request: &Request| {
            left -= 1;
            if left < 0 { Err("too slow") } else { Ok(publisher.files.get(&request.name).cloned()) }
                .map(|bytes| bytes.map_or(Answer::Missing, Answer::Bytes))
        };
        let stored = &mut device.stored;
        let mut keep = |role: &str, bytes: Option<&[u8]>| {
            stored.0.insert(role.into(), bytes.unwrap().into());
            Ok(())
        };
        let ended = client.run(&mut fetch, &mut keep);
        assert_eq!(ended, if number < 4 { Err(RunError::Driver("too slow")) } else { Ok(()) }, "{number}");
    }
    // Timestamp and snapshot came in earlier looks and were not asked for again.
    assert_eq!(device.versions(), [1, 2, 2, 2]);
}

/// An attacker has some keys, but not enough of them.
#[test]
fn vulnerability_to_key_compromises() {
    let mut publisher = Publisher::new();
    publisher.set_keys(role::ROOT, &[21, 22, 23], 2);
    publisher.set_keys(role::TARGETS, &[31, 32, 33], 2);
    publisher.publish_root();
    publisher.publish();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();

    // The keys that are online: what they can do is hold back, until it expires, and nothing else.
    let mut evil = publisher.clone();
    evil.add("6.6.6", b"malware");
    evil.signers.insert(role::TARGETS, vec![3, 4]);
    evil.release_next();
    assert_eq!(signatures(device.look(&evil.files).unwrap_err()), ("targets.json".into(), 0, 2));

    // One of two keys; that one twice, and the same key under two names.
    let mut device = publisher.device();
    let mut evil = publisher.clone();
    evil.add("6.6.6", b"malware");
    evil.signers.insert(role::TARGETS, vec![31]);
    evil.release_next();
    assert_eq!(signatures(device.look(&evil.files).unwrap_err()), ("targets.json".into(), 1, 2));
    let twice = String::from_utf8(evil.files["2.targets.json"].clone()).unwrap();
    let (at, id) = (twice.find("{\"keyid\"").unwrap(), Key::ed25519(&key(31).public()).id());
    let end = at + twice[at..].find('}').unwrap() + 1;
    let mut evil = publisher.clone();
    evil.hashes = false;
    evil.release_next();
    let doubled = format!("{}{},{}", &twice[..at], &twice[at..end], &twice[at..]);
    evil.files.insert("2.targets.json".into(), doubled.into_bytes());
    assert!(matches!(publisher.device().look(&evil.files), Err(RepositoryError::Malformed { .. })));

    let mut evil = Publisher::new();
    let alias = Key::ed25519(&key(2).public());
    evil.root.keys.insert("alias".into(), alias.clone());
    evil.root.roles.insert("targets".into(), Role::new(vec![alias.id(), "alias".into()], 2));
    evil.publish_root();
    evil.hashes = false;
    evil.release_next();
    let text = String::from_utf8(evil.files["2.targets.json"].clone()).unwrap();
    let (at, id2) = (text.find("{\"keyid\"").unwrap(), alias.id());
    let end = at + text[at..].find('}').unwrap() + 1;
    let named = text[at..end].replace(&id2, "alias");
    let both = format!("{}{named},{}", &text[..at], &text[at..]);
    evil.files.insert("2.targets.json".into(), both.into_bytes());
    assert_eq!(signatures(evil.device().look(&evil.files).unwrap_err()), ("targets.json".into(), 1, 2));
    assert_ne!(id, id2);

    // One root key makes no root; nor do two keys that counted, or will count, but not both.
    for (signers, have, need) in [(&[21][..], 1, 2), (&[21, 66], 1, 2), (&[66, 67], 0, 2)] {
        let mut evil = publisher.clone();
        evil.set_keys(role::ROOT, &[66, 67], 1);
        evil.next_root(signers);
        let error = publisher.device().look(&evil.files).unwrap_err();
        assert_eq!(signatures(error), ("2.root.json".into(), have, need), "{signers:?}");
    }
    // A key that is taken from its role counts no more, from the next root on.
    let mut later = publisher.clone();
    later.set_keys(role::TARGETS, &[32, 33], 2);
    later.next_root(&[22, 23]);
    later.signers.insert(role::TARGETS, vec![31, 32]);
    later.release_next();
    assert_eq!(signatures(publisher.device().look(&later.files).unwrap_err()), ("targets.json".into(), 1, 2));
    later.signers.insert(role::TARGETS, vec![32, 33]);
    later.publish();
    publisher.device().look(&later.files).unwrap();
}

/// An attacker offers a file that is trusted, but not the one that was wanted.
#[test]
fn wrong_software_installation() {
    let mut publisher = Publisher::new();
    publisher.add("2.0.0", b"other");
    let arm = Release { architecture: Some("aarch64".into()), ..release("3.0.0", b"arm") };
    publisher.targets.targets.insert(arm.usual_path(), Release { path: arm.usual_path(), ..arm.clone() }.to_target());
    let beta = Release { channels: vec!["beta".into()], ..release("4.0.0", b"beta") };
    publisher.targets.targets.insert(beta.usual_path(), beta.to_target());
    publisher.release_next();
    let mut device = publisher.device();
    let client = device.look(&publisher.files).unwrap();
    // A path stands for one content.
    let found = client.found("any/1.0.0/full.sf").unwrap();
    assert_eq!(found.target.digest(), Some(Digest::of(b"the package")));
    assert_eq!(
        blob_name("any/1.0.0/full.sf", &found.target.digest().unwrap(), found.consistent),
        format!("any/1.0.0/{}.full.sf", Digest::of(b"the package"))
    );
    assert_eq!(client.found("any/5.0.0/full.sf"), None);
    // Version, architecture and channel are signed too.
    let (releases, _) = client.releases();
    let mine: Vec<String> = releases
        .iter()
        .filter(|release| release.is_for("stable", "x86_64"))
        .map(|release| release.version.to_string())
        .collect();
    assert_eq!(mine, ["1.0.0", "2.0.0"]);
    // And so is the permission to go back.
    let two = releases.iter().find(|release| release.version.to_string() == "2.0.0").unwrap();
    let one = releases.iter().find(|release| release.version.to_string() == "1.0.0").unwrap();
    assert!(two.may_replace(&one.version) && two.may_replace(&two.version) && !one.may_replace(&two.version));
    let allowed = Release { downgrade_from: vec![two.version], ..one.clone() };
    publisher.targets.targets.insert(one.path.clone(), allowed.to_target());
    publisher.release_next();
    let (releases, _) = device.look(&publisher.files).unwrap().releases();
    let one = releases.iter().find(|release| release.version.to_string() == "1.0.0").unwrap();
    assert!(one.may_replace(&two.version) && !one.may_replace(&beta.version));
}

//! The workflow where nobody attacks: what is asked for, in which order, what is kept, and what a device does about
//! time.

use super::{Publisher, key, now, release, sign_by};
use serde_json::{Value, json};
use surefoot::limits;
use surefoot::repository::*;
use surefoot::trust::{Keyring, TrustError};

#[test]
fn a_look_asks_for_what_has_changed_and_nothing_else() {
    let mut publisher = Publisher::new();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    assert_eq!(device.versions(), [1, 1, 1, 1]);
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["2.root.json", "timestamp.json"]);
    publisher.timestamp.version += 1;
    publisher.publish_timestamp();
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["2.root.json", "timestamp.json"]);
    publisher.snapshot.version += 1;
    publisher.timestamp.version += 1;
    publisher.publish_snapshot();
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["2.root.json", "timestamp.json", "2.snapshot.json"]);
    assert_eq!(device.versions(), [1, 1, 2, 3]);
    publisher.root.consistent_snapshot = false;
    publisher.next_root(&[1]);
    publisher.release_next();
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"]);
}

#[test]
fn what_is_not_there_is_told_and_an_earlier_look_is_resumed() {
    let publisher = Publisher::new();
    for (name, kept) in
        [("timestamp.json", [1, 0, 0, 0]), ("1.snapshot.json", [1, 0, 0, 1]), ("1.targets.json", [1, 0, 1, 1])]
    {
        let mut device = publisher.device();
        let mut files = publisher.files.clone();
        files.remove(name);
        assert_eq!(device.look(&files).unwrap_err(), RepositoryError::Missing { file: name.replace("1.", "") });
        assert_eq!(device.versions(), kept, "{name}");
        device.look(&publisher.files).unwrap();
        assert_eq!(device.versions(), [1, 1, 1, 1]);
    }
}

#[test]
fn roots_follow_one_another() {
    // Keys and threshold of each root, who signs it, and whether it is believed.
    type Version = (&'static [u8], u64, &'static [u8], bool);
    let cases: &[&[Version]] = &[
        &[(&[1], 1, &[1], true), (&[2], 1, &[2, 1], true), (&[2], 1, &[2], true)],
        &[(&[1], 1, &[1, 8], true), (&[2], 1, &[9, 2, 1], true)],
        &[(&[1, 2, 3, 4, 5], 3, &[1, 3, 5], true), (&[1, 2, 3, 4, 5], 3, &[2, 4, 5], true)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[4, 5, 6], 2, &[1, 3, 4, 6], true), (&[4, 5, 6], 2, &[5, 6], true)],
        &[(&[1, 2, 3], 1, &[1], true), (&[1, 2, 3], 2, &[1, 2], true)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1, 2], true), (&[1, 2, 3], 1, &[3], true)],
        &[(&[1], 1, &[1], true), (&[2], 1, &[2], false)],
        &[(&[1], 1, &[1], true), (&[2], 1, &[1], false)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 4], 2, &[1, 4], false)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 4, 5], 2, &[1, 2], false)],
        &[(&[1, 2, 3], 1, &[1], true), (&[1, 2, 3], 2, &[2], false)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1], false)],
        &[(&[1], 2, &[1], false)],
    ];
    for (number, case) in cases.iter().enumerate() {
        let mut publisher = Publisher::new();
        publisher.root.version = 0;
        for (keys, threshold, signers, _) in *case {
            publisher.set_keys(role::ROOT, keys, *threshold);
            publisher.next_root(signers);
        }
        let mut device = publisher.device();
        let good = case.iter().all(|(.., good)| *good);
        assert_eq!(device.look(&publisher.files).is_ok(), good, "case {number}");
        let believed = case.iter().take_while(|(.., good)| *good).count() as u64;
        assert_eq!(device.version("root"), believed.max(1), "case {number}");
        let kept = &device.stored.0["root"];
        assert_eq!(*kept, publisher.files[&format!("{}.root.json", believed.max(1))]);
    }
}

#[test]
fn an_expired_root_is_followed_and_an_expired_last_one_is_refused() {
    let mut publisher = Publisher::new();
    publisher.root.expires = now().plus_days(0);
    publisher.next_root(&[1]);
    let mut device = publisher.device();
    assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Expired { .. })));
    assert_eq!(device.versions(), [2, 0, 0, 0], "the root is kept, and nothing was asked of the rest");
    publisher.root.expires = now().plus_days(1);
    publisher.next_root(&[1]);
    device.look(&publisher.files).unwrap();
    assert_eq!(device.versions(), [3, 1, 1, 1]);
}

#[test]
fn every_policy_says_what_it_does_about_time() {
    let mut publisher = Publisher::new();
    publisher.root.expires = now().plus_days(4000);
    publisher.publish_root();
    let look = |days: i64, policy: &str, known: bool| {
        let mut device = publisher.device();
        if known {
            device.look(&publisher.files).unwrap();
        }
        device.clock = Clock::Now(Moment::from_seconds(now().seconds() + days * 86_400));
        device.policy = policy.parse().unwrap();
        device.look(&publisher.files).map(|client| client.notices().to_vec())
    };
    for known in [false, true] {
        assert_eq!(look(29, "strict", known), Ok(vec![]));
        assert!(matches!(look(30, "strict", known), Err(RepositoryError::Expired { .. })));
        assert!(matches!(look(30, "grace:0", known), Err(RepositoryError::Expired { .. })));
        let noticed = look(395, "grace:366", known).unwrap();
        let files: Vec<_> = noticed.iter().map(ToString::to_string).collect();
        assert_eq!(files.len(), 3, "timestamp, snapshot and targets: {files:?}");
        assert!(files.iter().all(|notice| notice.contains("is accepted by policy")));
        assert!(matches!(look(396, "grace:366", known), Err(RepositoryError::Expired { .. })));
        assert_eq!(look(3999, "ignore-expiry", known).unwrap().len(), 3);
        assert_eq!(look(4000, "ignore-expiry", known).unwrap().len(), 4);
    }
    for text in ["strict", "grace:0", "grace:3650", "ignore-expiry"] {
        assert_eq!(text.parse::<OfflinePolicy>().unwrap().to_string(), text);
    }
    for bad in ["", "grace", "grace:", "grace:-1", "grace:+1", "grace:3651", "ignore", "Strict", "grace:9999999999999"]
    {
        assert!(bad.parse::<OfflinePolicy>().is_err(), "{bad}");
    }
}

#[test]
fn a_device_without_a_clock_says_so() {
    let mut publisher = Publisher::new();
    let mut device = publisher.device();
    device.clock = Clock::Unknown;
    for policy in [OfflinePolicy::Strict, OfflinePolicy::Grace(3650)] {
        device.policy = policy;
        assert_eq!(device.look(&publisher.files).unwrap_err(), RepositoryError::NoClock { file: "root.json".into() });
    }
    device.policy = OfflinePolicy::IgnoreExpiry;
    let client = device.look(&publisher.files).unwrap();
    assert_eq!(client.notices().len(), 4);
    // A rollback stays one.
    let first = publisher.clone();
    publisher.release_next();
    device.look(&publisher.files).unwrap();
    assert!(matches!(device.look(&first.files), Err(RepositoryError::Rollback { .. })));
}

#[test]
fn a_clock_that_jumps_back_does_not_bring_back_what_has_expired() {
    let mut publisher = Publisher::new();
    publisher.root.expires = now().plus_days(1000);
    publisher.publish_root();
    publisher.targets.expires = now().plus_days(50);
    publisher.snapshot.expires = now().plus_days(1000);
    // Signed long after now.
    publisher.timestamp.expires = now().plus_days(1000);
    publisher.timestamp.signed_at = Some(now().plus_days(60));
    publisher.release_next();
    let mut device = publisher.device();
    device.clock = Clock::Now(now());
    let error = device.look(&publisher.files).unwrap_err();
    assert!(matches!(&error, RepositoryError::Expired { file, .. } if file == "targets.json"), "{error}");
    publisher.targets.expires = now().plus_days(70);
    publisher.release_next();
    let client = device.look(&publisher.files).unwrap();
    let behind = Notice::ClockBehind { clock: now(), signed: now().plus_days(60) };
    assert_eq!(client.notices(), [behind]);
    // Metadata that says it was signed after it has expired is nonsense.
    publisher.timestamp.signed_at = Some(now().plus_days(1000));
    publisher.timestamp.version += 1;
    assert!(sign(&publisher.timestamp, &[&key(4)]).is_err());
}

/// One look once moved the floor under the clock as far as a publisher's clock was wrong: for ever, if that was years.
#[test]
fn a_timestamp_that_was_signed_when_the_root_had_expired_moves_nothing() {
    let mut publisher = Publisher::new();
    publisher.root.expires = now().plus_days(100);
    publisher.publish_root();
    let mut device = publisher.device();
    device.look(&publisher.files).unwrap();
    let before = device.stored.clone();
    let wrong = |publisher: &mut Publisher, days: u32| {
        publisher.timestamp.expires = now().plus_days(days + 30);
        publisher.timestamp.signed_at = Some(now().plus_days(days));
        publisher.snapshot.expires = now().plus_days(days + 30);
        publisher.targets.expires = now().plus_days(days + 30);
        publisher.release_next();
    };
    for days in [100, 3000] {
        wrong(&mut publisher, days);
        let error = device.look(&publisher.files).unwrap_err();
        assert!(matches!(&error, RepositoryError::SignedLate { .. }), "{error}");
        assert_eq!(device.stored, before);
        // Whoever lets the root expire takes this, too.
        let mut careless = device.clone();
        careless.policy = OfflinePolicy::IgnoreExpiry;
        careless.look(&publisher.files).unwrap();
    }
    // With the right clock again it goes on, and up to the root a signature counts.
    wrong(&mut publisher, 0);
    device.look(&publisher.files).unwrap();
    wrong(&mut publisher, 99);
    device.look(&publisher.files).unwrap();
    // Then it takes a root with other keys for the timestamp, as for every floor that is wrong.
    wrong(&mut publisher, 1);
    assert!(matches!(device.look(&publisher.files).unwrap_err(), RepositoryError::Expired { .. }));
    publisher.set_keys(role::TIMESTAMP, &[14], 1);
    publisher.next_root(&[1]);
    publisher.release_next();
    device.look(&publisher.files).unwrap();
}

#[test]
fn a_device_that_was_given_keys_finds_the_root_that_all_of_them_have_signed() {
    let mut publisher = Publisher::new();
    publisher.set_keys(role::ROOT, &[21, 22, 23], 2);
    publisher.next_root(&[1, 21, 22, 23]);
    publisher.next_root(&[22, 23]);
    let device = |seeds: &[u8]| {
        let mut ring = Keyring::new();
        seeds.iter().for_each(|seed| _ = ring.insert(key(*seed).public()).unwrap());
        super::Device { anchor: Anchor::Keys(ring), ..super::Device::default() }
    };
    for (seeds, first) in [(&[1][..], "1.root.json"), (&[22, 23], "1.root.json"), (&[21, 22], "1.root.json")] {
        let mut device = device(seeds);
        device.look(&publisher.files).unwrap();
        assert_eq!(device.versions(), [3, 1, 1, 1]);
        assert_eq!(device.asked[0], first);
        // From now on what is kept is believed, and the keys do not matter.
        device.anchor = Anchor::Stored;
        device.look(&publisher.files).unwrap();
        assert_eq!(device.asked[0], "4.root.json");
    }
    for seeds in [&[66][..], &[1, 66], &[21, 22, 23, 1, 66]] {
        let mut device = device(seeds);
        assert_eq!(device.look(&publisher.files).unwrap_err(), RepositoryError::Anchor, "{seeds:?}");
        assert_eq!(device.stored, Stored::default());
    }
    assert_eq!(device(&[]).look(&publisher.files).unwrap_err(), RepositoryError::Anchor);
    let missing = RepositoryError::Missing { file: "1.root.json".into() };
    assert_eq!(device(&[1]).look(&Default::default()).unwrap_err(), missing);
    assert_eq!(super::Device::default().look(&publisher.files).unwrap_err(), RepositoryError::Anchor);
}

#[test]
fn a_damaged_root_is_told_before_anything_is_asked_for() {
    let publisher = Publisher::new();
    for (text, by) in [("\"version\"", "\"versiom\""), ("\"root\"", "\"toor\"")] {
        let mut device = publisher.device();
        let root = String::from_utf8(device.stored.0["root"].clone()).unwrap();
        device.stored.0.insert("root".into(), root.replace(text, by).into_bytes());
        assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Damaged { .. })), "{text}");
        assert!(device.asked.is_empty());
    }
    let mut device = publisher.device();
    device.stored.0.insert("root".into(), sign_by(&publisher.root, &[66]));
    assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Signatures { .. })));
    device = publisher.device();
    device.look(&publisher.files).unwrap();
    device.stored.0.insert("timestamp".into(), b"{}".to_vec());
    // A damaged timestamp is no reason to forget which versions were seen.
    assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Damaged { .. })));
}

#[test]
fn what_a_program_does_not_know_is_signed_too_and_kept() {
    let mut publisher = Publisher::new();
    let extra = json!({"a": [1, null, true], "b": "\u{e9}\n\"\\"});
    publisher.root.more.insert("custom".into(), extra.clone());
    publisher.root.roles.get_mut("root").unwrap().more.insert("x".into(), extra.clone());
    publisher.root.keys.values_mut().for_each(|key| _ = key.more.insert("x".into(), extra.clone()));
    publisher.next_root(&[1]);
    publisher.targets.more.insert("custom".into(), extra.clone());
    publisher.targets.targets.values_mut().for_each(|target| _ = target.more.insert("x".into(), extra.clone()));
    publisher.release_next();
    let mut device = publisher.device();
    let client = device.look(&publisher.files).unwrap();
    assert_eq!(client.root(), Some(&publisher.root));
    assert_eq!(client.targets(), Some(&publisher.targets));
    let changed = String::from_utf8(publisher.files["2.targets.json"].clone()).unwrap().replace("null", "true");
    publisher.hashes = false;
    publisher.release_next();
    publisher.files.insert("3.targets.json".into(), changed.into_bytes());
    assert!(matches!(device.look(&publisher.files), Err(RepositoryError::Signatures { .. })));
}

#[test]
fn keys_of_other_kinds_do_not_count_and_are_named() {
    let mut publisher = Publisher::new();
    let rsa: Key = serde_json::from_value(json!({
        "keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "-----BEGIN PUBLIC KEY-----"}
    }))
    .unwrap();
    publisher.root.keys.insert(rsa.id(), rsa.clone());
    publisher.root.roles.get_mut("targets").unwrap().keyids.push(rsa.id());
    publisher.publish_root();
    publisher.device().look(&publisher.files).unwrap();
    publisher.root.roles.get_mut("targets").unwrap().threshold = 2;
    publisher.publish_root();
    let error = publisher.device().look(&publisher.files).unwrap_err();
    let RepositoryError::Signatures { refused: Some(TrustError::KeyKind { kind, .. }), .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(kind, "rsa");
    assert!(error.to_string().contains("1 of the 2 keys") && error.to_string().contains("rsassa-pss-sha256"));
    assert_eq!(surefoot::Error::from(error).code().as_str(), "trust.key-type");
}

#[test]
fn delegations_are_searched_in_the_order_of_trust() {
    // Who delegates what to whom, terminating or not; and in which order roles are asked for a path nobody has.
    type Edge = (&'static str, &'static str, bool, &'static str);
    let cases: &[(&[Edge], &[&str])] = &[
        (&[("targets", "A", false, "*")], &["A"]),
        (&[("targets", "A", false, "*"), ("targets", "B", false, "*"), ("A", "C", false, "*")], &["A", "C", "B"]),
        (&[("targets", "A", true, "*"), ("targets", "B", false, "*"), ("A", "C", false, "*")], &["A", "C"]),
        (
            &[
                ("targets", "A", false, "*"),
                ("A", "C", true, "*"),
                ("A", "D", false, "*"),
                ("targets", "B", false, "*"),
            ],
            &["A", "C"],
        ),
        (&[("targets", "A", false, "*.py"), ("targets", "B", false, "*")], &["B"]),
        (&[("targets", "A", true, "*.py"), ("targets", "B", false, "*")], &["B"]),
        (&[("targets", "A", false, "*"), ("A", "B", false, "*"), ("B", "A", false, "*")], &["A", "B"]),
        (
            &[
                ("targets", "A", false, "*"),
                ("targets", "B", false, "*"),
                ("A", "C", false, "*"),
                ("B", "C", false, "*"),
            ],
            &["A", "C", "B"],
        ),
    ];
    for (number, (edges, order)) in cases.iter().enumerate() {
        let mut publisher = Publisher::new();
        let mut bodies = std::collections::BTreeMap::new();
        for (from, to, terminating, paths) in *edges {
            let mut other = Publisher::new();
            other.delegate(to, &[paths], 9, *terminating);
            let made = other.targets.delegations.unwrap();
            bodies.entry(*to).or_insert_with(|| other.delegated[*to].0.clone());
            let add = |targets: &mut Targets| match &mut targets.delegations {
                None => targets.delegations = Some(made.clone()),
                Some(known) => known.roles.extend(made.roles.clone()),
            };
            if *from == "targets" { add(&mut publisher.targets) } else { add(bodies.get_mut(from).unwrap()) }
        }
        publisher.delegated = bodies.into_iter().map(|(name, body)| (name.to_owned(), (body, vec![9]))).collect();
        publisher.release_next();
        let mut device = publisher.device();
        let client = device.look_for(&publisher.files, Some("nowhere")).unwrap();
        assert_eq!(client.found("nowhere"), None);
        let expected: Vec<String> = order.iter().map(|name| format!("1.{name}.json")).collect();
        assert_eq!(device.asked[4..], expected, "case {number}");
        // And all of them come from what is kept the next time.
        device.look_for(&publisher.files, Some("nowhere")).unwrap();
        assert_eq!(device.asked.len(), 2, "case {number}");
    }
}

/// Each of so many roles had a bound, and all of them together had half a gigabyte.
#[test]
fn the_metadata_of_all_roles_together_has_a_bound() {
    let mut publisher = Publisher::new();
    let size = usize::try_from(surefoot::limits::TARGETS_BYTES).unwrap() * 7 / 8;
    for (seed, name) in (20..).zip(["one", "two", "three", "four", "five"]) {
        publisher.delegate(name, &["x/*"], seed, false);
        let mut large = release("1.0.0", name.as_bytes()).to_target();
        large.custom = Some(json!("x".repeat(size)));
        publisher.delegated.get_mut(name).unwrap().0.targets.insert("x/y".into(), large);
    }
    publisher.publish();
    let mut device = publisher.device();
    for _ in 0..2 {
        let RepositoryError::TooLong { file, most } = device.look(&publisher.files).unwrap_err() else { panic!() };
        assert_eq!(file, "five.json");
        assert!(most < size as u64, "{most}");
    }
    // One who asks for a path is not kept from what comes before that.
    assert_eq!(device.look_for(&publisher.files, Some("x/y")).unwrap().found("x/y").unwrap().role, "one");
}

#[test]
fn a_delegated_role_counts_with_the_keys_it_was_given_and_for_no_more_than_so_many_roles() {
    let mut publisher = Publisher::new();
    publisher.delegate("team", &["*/*/*"], 9, false);
    let extra = release("7.0.0", b"team's");
    publisher.delegated.get_mut("team").unwrap().0.targets.insert(extra.path.clone(), extra.to_target());
    publisher.release_next();
    let mut device = publisher.device();
    let client = device.look_for(&publisher.files, Some(&extra.path)).unwrap();
    let found = client.found(&extra.path).unwrap();
    assert_eq!((found.role, found.target.length), ("team", 6));
    publisher.delegated.get_mut("team").unwrap().1 = vec![10];
    publisher.release_next();
    assert!(matches!(
        publisher.device().look_for(&publisher.files, Some(&extra.path)),
        Err(RepositoryError::Signatures { .. })
    ));

    let mut publisher = Publisher::new();
    for number in 0..40 {
        publisher.delegate(&format!("role{number}"), &["*"], 9, false);
    }
    publisher.release_next();
    let mut device = publisher.device();
    let client = device.look_for(&publisher.files, Some("nowhere")).unwrap();
    assert_eq!(device.asked.len(), 4 + surefoot::limits::DELEGATIONS);
    // Those that are passed over once were so in silence.
    let notice = [Notice::PassedOver { role: "role32".into() }];
    assert_eq!(client.notices(), notice);
    assert_eq!(publisher.device().look(&publisher.files).unwrap().notices(), notice);
    let few = publisher.device().look_for(&publisher.files, Some("any/1.0.0/full.sf")).unwrap();
    assert_eq!(few.notices(), [], "it was found before");
}

/// Whoever compares the client with the specification finds each step of its workflow by its number.
#[test]
fn every_step_of_the_workflow_names_its_section() {
    let files = ["repository/client.rs", "repository/delegation.rs", "repository/policy.rs", "device/follow.rs"];
    let read = |file| std::fs::read_to_string(format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let text: String = files.into_iter().map(read).collect();
    let steps = [("5.3", 12), ("5.4", 5), ("5.5", 7), ("5.6", 7), ("5.7", 3)];
    let numbered =
        steps.into_iter().flat_map(|(section, last)| (1..=last).map(move |step| format!("{section}.{step}")));
    let deeper = ["5.1", "5.2", "5.4.3.1", "5.4.3.2", "5.6.7.1", "5.6.7.2"].map(str::to_owned);
    let names = |section: &String| {
        text.match_indices(section.as_str())
            .any(|(at, _)| !text[at + section.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    let missing: Vec<String> = numbered.chain(deeper).filter(|section| !names(section)).collect();
    assert_eq!(missing, [""; 0]);
}

/// Two roles `a` and `b`, who delegate to one name `team`, for paths of their own and with keys of their own.
fn two_who_delegate_to_one_name(seeds: [u8; 2], signers: &[u8]) -> Publisher {
    let mut publisher = Publisher::new();
    publisher.targets.targets.clear();
    for (name, seed) in ["a", "b"].into_iter().zip(seeds) {
        let path = format!("{name}/*/*");
        publisher.delegate(name, &[&path], seed, false);
        let mut other = Publisher::new();
        other.delegate("team", &[&path], seed, false);
        publisher.delegated.get_mut(name).unwrap().0.delegations = other.targets.delegations.clone();
        publisher.delegated.insert("team".into(), (other.delegated["team"].0.clone(), signers.to_vec()));
    }
    for (architecture, content) in [("a", b"for a"), ("b", b"for b")] {
        let extra = Release { architecture: Some(architecture.into()), ..release("7.0.0", content) };
        let extra = Release { path: extra.usual_path(), ..extra };
        publisher.delegated.get_mut("team").unwrap().0.targets.insert(extra.path.clone(), extra.to_target());
    }
    publisher.release_next();
    publisher
}

/// A name that two delegate to was only followed for the one who comes first, and packages of the other were not seen.
#[test]
fn a_role_that_two_delegate_to_is_followed_for_both() {
    let publisher = two_who_delegate_to_one_name([9, 10], &[9, 10]);
    let client = publisher.device().look(&publisher.files).unwrap();
    let (releases, bad) = client.releases();
    let paths: Vec<&str> = releases.iter().map(|release| release.path.as_str()).collect();
    assert_eq!((paths, bad), (vec!["a/7.0.0/full.sf", "b/7.0.0/full.sf"], vec![]));
    assert_eq!(client.all_targets().count(), 2);
    for path in ["a/7.0.0/full.sf", "b/7.0.0/full.sf"] {
        let mut device = publisher.device();
        let client = device.look_for(&publisher.files, Some(path)).unwrap();
        assert_eq!(client.found(path).unwrap().role, "team");
        assert_eq!(device.asked.len(), 6, "{:?}", device.asked);
    }
    // What one of them has not signed for is not believed where it has delegated.
    let publisher = two_who_delegate_to_one_name([9, 10], &[9]);
    publisher.device().look_for(&publisher.files, Some("a/7.0.0/full.sf")).unwrap();
    let error = publisher.device().look_for(&publisher.files, Some("b/7.0.0/full.sf")).unwrap_err();
    assert!(matches!(&error, RepositoryError::Signatures { file, .. } if file == "team.json"), "{error}");
    assert!(publisher.device().look(&publisher.files).is_err());
}

/// Where the snapshot tells no digests, whoever has the key of one delegator could once have served a file of its own,
/// and what that says of the paths of the other was believed as well.
#[test]
fn of_a_role_that_two_delegate_to_one_file_is_believed() {
    let by = |seed: u8| {
        let mut publisher = two_who_delegate_to_one_name([9, 10], &[seed]);
        publisher.hashes = false;
        let mine = release("6.6.6", b"mine");
        let mine = Release { path: format!("a/6.6.6/{seed}.sf"), ..mine };
        publisher.delegated.get_mut("team").unwrap().0.targets.insert(mine.path.clone(), mine.to_target());
        publisher.publish();
        publisher
    };
    let (good, evil) = (by(9), by(10));
    let device = good.device();
    let mut client = Client::new(device.stored, device.anchor, device.clock, device.policy).unwrap();
    let mut look_for = |path: &str, files: &std::collections::BTreeMap<String, Vec<u8>>| {
        client.look_for(path);
        let mut fetch = |request: &Request| -> Result<Answer, ()> {
            Ok(files.get(&request.name).map_or(Answer::Missing, |bytes| Answer::Bytes(bytes.clone())))
        };
        let done = client.run(&mut fetch, &mut |_, _| Ok(()));
        let paths: Vec<String> = client.releases().0.into_iter().map(|release| release.path).collect();
        (done, paths)
    };
    let mut served = good.files.clone();
    served.insert("1.team.json".into(), evil.files["1.team.json"].clone());
    let (done, paths) = look_for("b/7.0.0/full.sf", &served);
    assert_eq!((done, paths), (Ok(()), vec!["b/7.0.0/full.sf".to_owned()]));
    let (done, paths) = look_for("a/7.0.0/full.sf", &good.files);
    assert!(matches!(done, Err(RunError::Refused(RepositoryError::Mismatch { .. }))), "{done:?}");
    assert!(!paths.iter().any(|path| path.starts_with("a/")), "{paths:?}");
}

/// What is broken, and how.
type Broken<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[test]
fn metadata_that_breaks_a_rule_is_refused() {
    let publisher = Publisher::new();
    let breaks: &[Broken<'_>] = &[
        ("timestamp.json", &|signed| signed["_type"] = json!("snapshot")),
        ("timestamp.json", &|signed| signed["version"] = json!(0)),
        ("timestamp.json", &|signed| signed["version"] = json!(-1)),
        ("timestamp.json", &|signed| signed["version"] = json!("1")),
        ("timestamp.json", &|signed| signed["spec_version"] = json!("2.0.0")),
        ("timestamp.json", &|signed| signed["spec_version"] = json!("1.x")),
        ("timestamp.json", &|signed| signed["expires"] = json!("tomorrow")),
        ("timestamp.json", &|signed| signed["meta"] = json!({})),
        ("timestamp.json", &|signed| signed["meta"]["targets.json"] = json!({"version": 1})),
        ("timestamp.json", &|signed| signed["meta"]["snapshot.json"]["version"] = json!(0)),
        ("timestamp.json", &|signed| signed["meta"]["snapshot.json"]["hashes"] = json!({"md5": "00"})),
        ("timestamp.json", &|signed| _ = signed.as_object_mut().unwrap().remove("expires")),
        ("1.root.json", &|signed| signed["roles"]["root"]["threshold"] = json!(0)),
        ("1.root.json", &|signed| _ = signed["roles"].as_object_mut().unwrap().remove("snapshot")),
        ("1.root.json", &|signed| {
            let id = signed["roles"]["root"]["keyids"][0].clone();
            signed["roles"]["root"]["keyids"] = json!([id, id]);
        }),
        ("1.root.json", &|signed| signed["keys"] = json!([])),
    ];
    for (number, (name, change)) in breaks.iter().enumerate() {
        let mut value: Value = serde_json::from_slice(&publisher.files[*name]).unwrap();
        change(&mut value["signed"]);
        value["signatures"] = json!([]);
        let seed = if *name == "1.root.json" { 1 } else { 4 };
        let bytes = add_signature(name, value.to_string().as_bytes(), &key(seed)).unwrap();
        let mut publisher = publisher.clone();
        publisher.files.insert((*name).into(), bytes);
        let error = publisher.device().look(&publisher.files).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Malformed { .. } | RepositoryError::Damaged { .. }),
            "break {number}: {error}"
        );
    }
    // The same change, harmless, passes: it is the rule that refuses and not the signature.
    let mut value: Value = serde_json::from_slice(&publisher.files["timestamp.json"]).unwrap();
    value["signed"]["spec_version"] = json!("1.0");
    value["signatures"] = json!([]);
    let bytes = add_signature("timestamp.json", value.to_string().as_bytes(), &key(4)).unwrap();
    let mut publisher = publisher;
    publisher.files.insert("timestamp.json".into(), bytes);
    publisher.device().look(&publisher.files).unwrap();
}

#[test]
fn a_release_reads_back_and_a_bad_one_hides_no_good_one() {
    let full = Release {
        architecture: Some("x86_64".into()),
        channels: vec!["stable".into(), "beta".into()],
        minimum: Some("0.9.0".parse().unwrap()),
        downgrade_from: vec!["2.0.0".parse().unwrap()],
        notes: "words".into(),
        ..release("1.2.3", b"abc")
    };
    let base = Base { version: "1.2.2".parse().unwrap(), digest: full.target };
    let patch = Release { kind: ReleaseKind::Patch(base), ..full.clone() };
    assert_eq!(full.usual_path(), "x86_64/1.2.3/full.sf");
    assert_eq!(patch.usual_path(), "x86_64/1.2.3/from-1.2.2.sf");
    for release in [full, patch] {
        let again = Release::read(&release.path, &release.to_target()).unwrap();
        assert_eq!(again, Some(release.clone()));
        for (member, value) in [
            ("version", json!("1.2")),
            ("channels", json!([])),
            ("channels", json!(["../x"])),
            ("architecture", json!("any")),
            ("architecture", json!("a/b")),
            ("target", json!("00")),
            ("memory_bytes", json!(-1)),
            ("base", json!({"version": "x", "digest": "y"})),
        ] {
            let mut target = release.to_target();
            target.custom.as_mut().unwrap()["surefoot"][member] = value;
            assert!(Release::read("p", &target).is_err(), "{member}");
        }
        // What nobody could fetch; sums of such lengths once wrapped around.
        for (length, good) in [(limits::DOWNLOAD_BYTES, true), (limits::DOWNLOAD_BYTES + 1, false), (u64::MAX, false)] {
            let target = Target { length, ..release.to_target() };
            assert_eq!(Release::read("p", &target).is_ok(), good, "{length}");
        }
    }
    let mut publisher = Publisher::new();
    let mut bad = release("3.0.0", b"x").to_target();
    bad.custom = Some(json!({"surefoot": {"version": 3}}));
    publisher.targets.targets.insert("bad".into(), bad);
    let mut other = release("3.0.0", b"x").to_target();
    other.custom = None;
    publisher.targets.targets.insert("other".into(), other);
    publisher.release_next();
    let client = publisher.device().look(&publisher.files).unwrap();
    let (good, bad) = client.releases();
    assert_eq!((good.len(), bad.len()), (1, 1));
}

/// Garbage in the place of the first root once made a device skip that version, whatever the next mirror had.
#[test]
fn garbage_in_the_place_of_the_first_root_is_refused_and_another_mirror_is_believed() {
    let publisher = Publisher::new();
    let mut keys = surefoot::trust::Keyring::new();
    keys.insert(super::key(1).public()).unwrap();
    let (clock, policy) = (Clock::Now(now()), OfflinePolicy::Strict);
    let mut client = Client::new(Stored::default(), Anchor::Keys(keys), clock, policy).unwrap();
    let good = publisher.files["1.root.json"].clone();
    let mut other = publisher.clone();
    other.root.version = 2;
    let other = other.sign(&other.root);
    for garbage in [b"garbage".to_vec(), good[1..].to_vec(), other] {
        assert!(matches!(client.step(), Ok(Step::Fetch(request)) if request.name == "1.root.json"));
        client.answer(Answer::Bytes(garbage)).unwrap_err();
    }
    client.answer(Answer::Bytes(good)).unwrap();
    assert!(matches!(client.step(), Ok(Step::Keep(kept)) if kept.role == "root"));
}

//! The publisher's side: what is published is what a device believes, wherever the publisher is interrupted.

use super::follow::{Served, options};
use super::{key, now};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use surefoot::Error;
use surefoot::crashtest::Explorer;
use surefoot::fetch::{Carrier, Failure, Request, Response};
use surefoot::model::{Digest, Policy, Version};
use surefoot::package::{Level, Package};
use surefoot::publish::*;
use surefoot::repository::*;
use surefoot::tree::{Walk, scan};
use surefoot::trust::SecretKey;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::Profile;

/// The package of a tree with one file; from another such tree with a third argument.
pub(super) fn package(version: &str, content: &str, from: Option<(&str, &str)>) -> Vec<u8> {
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    let tree = |content: &str| {
        let disk = SimVfs::new();
        disk.write_file("app", content);
        let manifest = scan(&disk, &walk, &|_, _| ()).unwrap();
        (disk, manifest)
    };
    let options = Options { to: version.into(), level: Level::Fast, ..Options::default() };
    let ((disk, new), mut spool, mut out) = (tree(content), Cursor::new(Vec::new()), Vec::new());
    match from {
        None => build_full(&new, &disk, &options, &mut spool, &mut out).unwrap(),
        Some((version, content)) => {
            let (before, old) = tree(content);
            build_patch((version, &old, &before), (&new, &disk), &options, &mut spool, &mut out).unwrap()
        }
    };
    out
}

pub(super) fn terms() -> PackageTerms {
    PackageTerms { channels: vec!["stable".into()], minimum: None, downgrade_from: Vec::new() }
}

pub(super) fn one_key(secret: &SecretKey) -> NewRoles {
    role::TOP.iter().map(|name| (*name, RoleKeys { keys: vec![secret.public()], threshold: 1 })).collect()
}

pub(super) fn first_root(roles: &NewRoles, signers: &[&SecretKey]) -> Vec<u8> {
    sign(&draft_first_root(roles, Lifetimes::default(), now()).unwrap(), signers).unwrap()
}

pub(super) fn add(publisher: &mut Publisher<SimVfs>, bytes: &[u8]) -> Result<Added, Error> {
    let mut open = || -> Result<Box<dyn Read>, Error> { Ok(Box::new(Cursor::new(bytes.to_vec()))) };
    publisher.add(&mut open, &terms())
}

/// A repository of one key with version 1.0.0.
pub(super) fn repository() -> SimVfs {
    let disk = SimVfs::new();
    let secret = key(1);
    let root = first_root(&one_key(&secret), &[&secret]);
    let mut publisher = Publisher::init(disk.clone(), &root, &[&secret], now()).unwrap();
    add(&mut publisher, &package("1.0.0", "one", None)).unwrap();
    publisher.commit(&[&secret], now()).unwrap();
    drop(publisher);
    disk.reboot_clean()
}

/// What a device sees that was given the first root: the versions of root and timestamp, and the paths of packages.
/// Every package must be there, byte for byte.
pub(super) fn seen(disk: &SimVfs) -> Result<(u64, u64, Vec<String>), String> {
    let mut device = super::Device::default();
    let root = disk.read_file("metadata/1.root.json").ok_or("no first root")?;
    device.stored = Stored([("root".to_owned(), root)].into());
    let listed: BTreeMap<String, Vec<u8>> = std::iter::once("timestamp.json".to_owned())
        .chain((1..9).flat_map(|n| ["root", "snapshot", "targets"].map(|role| format!("{n}.{role}.json"))))
        .filter_map(|name| Some((name.clone(), disk.read_file(&format!("metadata/{name}"))?)))
        .collect();
    let client = device.look(&listed).map_err(|error| error.to_string())?;
    let (releases, bad) = client.releases();
    if !bad.is_empty() {
        return Err(format!("{bad:?}"));
    }
    for release in &releases {
        let name = format!("targets/{}", blob_name(&release.path, &release.digest, true));
        let bytes = disk.read_file(&name).ok_or(format!("{name} is not there"))?;
        if Digest::of(&bytes) != release.digest {
            return Err(format!("{name} is something else"));
        }
    }
    let paths = releases.into_iter().map(|release| release.path).collect();
    Ok((client.root().unwrap().version, client.timestamp().unwrap().version, paths))
}

#[test]
fn a_package_becomes_a_target_with_its_terms() {
    let disk = repository();
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    let patch = package("1.0.0.1", "two", Some(("1.0.0", "one")));
    let Added::New(release) = add(&mut publisher, &patch).unwrap() else { panic!("it is new") };
    assert_eq!(release.path, "any/1.0.0.1/from-1.0.0.sf");
    assert_eq!((release.bytes, release.digest), (patch.len() as u64, Digest::of(&patch)));
    let memory = Package::open(patch.as_slice()).unwrap().inspect_untrusted().unwrap().memory();
    assert_eq!((release.memory_bytes, release.space_bytes), (memory, 4096));
    let ReleaseKind::Patch(base) = &release.kind else { panic!("it is a patch") };
    let full = publisher.releases().unwrap().into_iter().find(|release| release.kind == ReleaseKind::Full).unwrap();
    assert_eq!((base.version, base.digest), (full.version, full.target));
    publisher.commit(&[&key(1)], now()).unwrap();
    assert!(matches!(add(&mut publisher, &patch).unwrap(), Added::Known(_)));
    // The same version with other bytes, or as another tree, is refused.
    for other in [package("1.0.0", "other", None), package("1.0.0.1", "other", None)] {
        assert_eq!(add(&mut publisher, &other).unwrap_err().code().as_str(), "repository.published");
    }
    let full = package("1.0.0.1", "two", None);
    assert!(matches!(add(&mut publisher, &full).unwrap(), Added::New(_)));
    let mut damaged = full.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(add(&mut publisher, &damaged).unwrap_err().code().as_str(), "trust.digest");
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    let (root, timestamp, paths) = seen(&disk).unwrap();
    assert_eq!((root, timestamp), (1, 4));
    assert_eq!(paths, ["any/1.0.0.1/from-1.0.0.sf", "any/1.0.0.1/full.sf", "any/1.0.0/full.sf"]);
}

#[test]
fn a_publisher_that_is_cut_off_anywhere_leaves_the_old_repository_or_the_new_one() {
    let before = repository();
    let (old, next) = (seen(&before).unwrap(), package("1.0.1", "two", None));
    let run = |disk: &SimVfs| {
        let run = || -> Result<(), Error> {
            let mut publisher = Publisher::open(disk.clone())?;
            add(&mut publisher, &next)?;
            publisher.commit(&[&key(1)], now())
        };
        run().is_ok()
    };
    let new = (1, 3, vec!["any/1.0.0/full.sf".to_owned(), "any/1.0.1/full.sf".to_owned()]);
    let tally = Explorer::on(before)
        .profiles(&Profile::ATOMIC)
        .run(run)
        .judge(|disk, done| {
            let now_seen = seen(disk)?;
            if now_seen != new && (*done || now_seen != old) {
                return Err(format!("a device sees {now_seen:?}"));
            }
            // The next publisher goes on from there, and nothing is left behind after gc.
            if !run(disk) {
                return Err("the next publisher cannot go on".into());
            }
            let (_, timestamp, paths) = seen(disk)?;
            if paths != new.2 || !(3..=4).contains(&timestamp) {
                return Err(format!("and then a device sees {paths:?}, {timestamp}"));
            }
            let mut publisher = Publisher::open(disk.clone()).map_err(|error| error.to_string())?;
            publisher.collect_garbage(0).map_err(|error| error.to_string())?;
            drop(publisher);
            let left: Vec<String> = disk.snapshot().paths().into_iter().filter(|path| path.ends_with(".new")).collect();
            if !left.is_empty() {
                return Err(format!("{left:?} is left"));
            }
            seen(disk).map(|_| ())
        })
        .unwrap();
    println!("{} states of a publisher", tally.states);
    assert!(tally.states > 300, "{}", tally.states);
}

#[test]
fn an_init_that_is_cut_off_is_done_again() {
    let secret = key(1);
    let root = first_root(&one_key(&secret), &[&secret]);
    let run = |disk: &SimVfs| Publisher::init(disk.clone(), &root, &[&secret], now()).map(drop).is_ok();
    Explorer::on(SimVfs::new().reboot_clean())
        .run(run)
        .judge(|disk, done| match seen(disk) {
            Ok(_) if disk.exists("metadata/timestamp.json") => Ok(()),
            _ if *done => Err("it was acknowledged".into()),
            _ if run(disk) => seen(disk).map(|_| ()),
            other => Err(format!("it cannot be done again: {other:?}")),
        })
        .unwrap();
}

#[test]
fn a_rotation_with_all_keys_is_believed_at_every_moment() {
    let before = repository();
    let (old, new) = (key(1), key(2));
    let run = |disk: &SimVfs| {
        let run = || -> Result<Rotated, Error> {
            let mut publisher = Publisher::open(disk.clone())?;
            let draft = publisher.draft_root(&one_key(&new), now())?;
            let root = publisher.sign_root(&draft, &[&old, &new])?;
            publisher.rotate(&root, &[&old, &new], now())
        };
        run().ok()
    };
    Explorer::on(before.fork())
        .run(run)
        .judge(|disk, done| {
            let (root, ..) = seen(disk)?;
            let acknowledged = *done == Some(Rotated::Seamless);
            if done.is_some() != acknowledged || (acknowledged && root != 2) {
                return Err(format!("{done:?}, and a device sees root {root}"));
            }
            // From the new keys to themselves is a rotation too.
            let again = run(disk);
            let (root, ..) = seen(disk)?;
            if again == Some(Rotated::Seamless) && root >= 2 { Ok(()) } else { Err(format!("{again:?}, root {root}")) }
        })
        .unwrap();
    let disk = before.reboot_clean();
    assert_eq!(run(&disk), Some(Rotated::Seamless));
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    publisher.renew(&[], &[&new], now()).unwrap();
    assert_eq!(publisher.renew(&[], &[&old], now()).unwrap_err().code().as_str(), "trust.threshold");
    drop(publisher);
    assert_eq!(seen(&disk).unwrap().0, 2);
}

#[test]
fn a_lost_online_key_is_replaced_without_it() {
    let disk = SimVfs::new();
    let (offline, lost, new) = (key(1), key(2), key(3));
    let mut roles = one_key(&offline);
    for name in [role::SNAPSHOT, role::TIMESTAMP] {
        roles.insert(name, RoleKeys { keys: vec![lost.public()], threshold: 1 });
    }
    let root = first_root(&roles, &[&offline]);
    let without = Publisher::init(disk.clone(), &root, &[&offline], now());
    assert_eq!(without.unwrap_err().code().as_str(), "trust.threshold");
    let mut publisher = Publisher::init(disk.clone(), &root, &[&offline, &lost], now()).unwrap();
    let keys = RoleKeys { keys: vec![new.public()], threshold: 1 };
    let changed = [role::SNAPSHOT, role::TIMESTAMP].map(|name| (name, keys.clone())).into();
    let draft = publisher.draft_root(&changed, now()).unwrap();
    let root = publisher.sign_root(&draft, &[&new]).unwrap();
    assert_eq!(publisher.rotate(&root, &[&new], now()).unwrap_err().code().as_str(), "trust.threshold");
    let root = publisher.sign_root(&draft, &[&offline]).unwrap();
    assert_eq!(publisher.rotate(&root, &[&new], now()).unwrap(), Rotated::WithGap);
    drop(publisher);
    assert_eq!(seen(&disk).unwrap(), (2, 2, vec![]));
}

#[test]
fn two_publishers_do_not_meet() {
    let disk = repository();
    let first = Publisher::open(disk.clone()).unwrap();
    assert_eq!(Publisher::open(disk.clone()).unwrap_err().code().as_str(), "lock.held");
    drop(first);
    drop(Publisher::open(disk.clone()).unwrap());
    let secret = key(1);
    let root = first_root(&one_key(&secret), &[&secret]);
    let again = Publisher::init(disk, &root, &[&secret], now());
    assert_eq!(again.unwrap_err().code().as_str(), "repository.exists");
    let nothing = Publisher::open(SimVfs::new());
    assert_eq!(nothing.unwrap_err().code().as_str(), "repository.none");
}

#[test]
fn garbage_is_what_nothing_leads_to() {
    let disk = repository();
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    let one: Version = "1.0.0".parse().unwrap();
    assert_eq!(publisher.remove(&[one]).unwrap(), ["any/1.0.0/full.sf"]);
    publisher.commit(&[&key(1)], now()).unwrap();
    disk.write_file("targets/any/1.0.0/.new", "left behind");
    // One version back still needs both packages.
    let removed = publisher.collect_garbage(1).unwrap();
    assert_eq!(removed.packages, 1, "what was left behind");
    assert_eq!(disk.snapshot().paths().iter().filter(|path| path.ends_with("full.sf")).count(), 2);
    let removed = publisher.collect_garbage(0).unwrap();
    assert_eq!((removed.packages, removed.metadata), (1, 2));
    assert!(!disk.exists("targets/any/1.0.0"), "the folder is gone too");
    assert!(disk.exists("metadata/1.root.json"));
    drop(publisher);
    assert_eq!(seen(&disk).unwrap().2, ["any/1.0.1/full.sf"]);
    assert_eq!(verify_repository(&disk, None).unwrap().problems, []);
}

#[test]
fn verification_finds_what_is_missing_or_changed() {
    let disk = repository();
    let found = verify_repository(&disk, None).unwrap();
    assert_eq!((found.packages, found.problems.len(), found.root, found.timestamp), (1, 0, 1, 2));
    assert_eq!(found.expires[0], (now().plus_days(30), role::TIMESTAMP));
    let path = disk.snapshot().paths().into_iter().find(|path| path.ends_with("full.sf")).unwrap();
    let good = disk.read_file(&path).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    for content in [bad, good[1..].to_vec()] {
        disk.write_file(&path, content);
        assert_eq!(verify_repository(&disk, None).unwrap().problems[0].path.to_string(), path);
    }
    disk.remove_all(&path);
    assert_eq!(verify_repository(&disk, None).unwrap().problems.len(), 1);
    let stranger = first_root(&one_key(&key(66)), &[&key(66)]);
    assert!(verify_repository(&disk, Some(&stranger)).is_err());
    disk.write_file("metadata/timestamp.json", "{}");
    assert_eq!(verify_repository(&disk, None).unwrap_err().code().as_str(), "trust.metadata");
}

/// Devices take no earlier time for the present than that of the last signature.
#[test]
fn nothing_is_signed_by_a_clock_that_does_not_fit() {
    let (disk, secret) = (repository(), key(1));
    let renew = |moment: Moment, right: bool| {
        let mut publisher = Publisher::open(disk.clone()).unwrap();
        if right {
            publisher.believe_clock();
        }
        let asked = publisher.require_keys(&[&secret], moment).map_err(|error| error.code().as_str());
        let done = publisher.renew(&[], &[&secret], moment).map_err(|error| error.code().as_str());
        assert_eq!(asked, done);
        done
    };
    let ahead = |moment: Moment| verify_repository(&disk, None).unwrap().signed_ahead(moment);
    let later = now().plus_days(35);
    assert_eq!((ahead(now()), renew(later, false)), (None, Ok(())));
    assert_eq!((ahead(now()), ahead(now().plus_days(34))), (Some(later), None));
    assert_eq!(renew(now(), false), Err("repository.clock"));
    assert_eq!(renew(now().plus_days(34), false), Ok(()), "clocks differ");
    assert_eq!(renew(now().plus_days(730), false), Err("repository.clock"), "the root has expired by then");
    assert_eq!(renew(now().plus_days(729), false), Ok(()));
    assert_eq!(renew(now(), true), Ok(()));
    assert_eq!(ahead(now()), None);
    assert_eq!(renew(now().plus_days(730), true), Ok(()));
    assert_eq!(ahead(now().plus_days(800)), Some(now().plus_days(730)), "no device believes it");
    let root = first_root(&one_key(&secret), &[&secret]);
    let late = Publisher::init(SimVfs::new(), &root, &[&secret], now().plus_days(730));
    assert_eq!(late.unwrap_err().code().as_str(), "repository.clock");
    // With other keys for the timestamp devices forget when it was signed; so that is the way out.
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    for (new, moment, expected) in [(2, now().plus_days(730), Some("repository.clock")), (2, now(), None)] {
        let draft = publisher.draft_root(&one_key(&key(new)), now()).unwrap();
        let root = publisher.sign_root(&draft, &[&secret, &key(new)]).unwrap();
        let done = publisher.rotate(&root, &[&secret, &key(new)], moment);
        assert_eq!(done.err().map(|error| error.code().as_str()), expected);
    }
    drop(publisher);
    assert_eq!(ahead(now()), None);
    seen(&disk).unwrap();
}

/// A package that has rotted once stayed so for ever: only its size was compared.
#[test]
fn adding_or_mirroring_again_repairs_what_is_damaged() {
    let (source, copy) = (repository(), SimVfs::new());
    let path = source.snapshot().paths().into_iter().find(|path| path.ends_with("full.sf")).unwrap();
    let good = source.read_file(&path).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    let carrier = Served(source.clone());
    let from = Source { address: "", carrier: &carrier, options: options() };
    let bring = || mirror(&from, copy.clone(), None, Clock::Now(now()), OfflinePolicy::Strict).unwrap();
    assert_eq!(bring(), 1);
    copy.write_file(&path, bad.clone());
    assert_eq!((bring(), copy.read_file(&path).as_ref()), (1, Some(&good)));
    source.write_file(&path, bad);
    let mut publisher = Publisher::open(source.clone()).unwrap();
    assert!(matches!(add(&mut publisher, &package("1.0.0", "one", None)).unwrap(), Added::Known(_)));
    assert_eq!(source.read_file(&path), Some(good));
}

/// Names of roles are escaped in names of files, and not in the snapshot: gc once took a role like `a/b` for one that
/// nobody knows, and removed its metadata and its packages.
#[test]
fn gc_and_mirrors_find_the_metadata_of_a_role_whose_name_is_escaped() {
    let mut made = super::Publisher::new();
    made.targets.targets.clear();
    made.delegate("a/b", &["a/*"], 20, false);
    made.publish();
    let disk = SimVfs::new();
    for (name, bytes) in &made.files {
        disk.write_file(&format!("metadata/{name}"), bytes.clone());
    }
    assert!(disk.exists("metadata/1.a%2Fb.json"), "{:?}", disk.snapshot().paths());
    Publisher::open(disk.clone()).unwrap().collect_garbage(0).unwrap();
    assert!(disk.exists("metadata/1.a%2Fb.json"));
    let (carrier, copy) = (Served(disk.clone()), SimVfs::new());
    let source = Source { address: "", carrier: &carrier, options: options() };
    mirror(&source, copy.clone(), None, Clock::Now(now()), OfflinePolicy::IgnoreExpiry).unwrap();
    assert_eq!(copy.read_file("metadata/1.a%2Fb.json"), disk.read_file("metadata/1.a%2Fb.json"));
    verify_repository(&copy, None).unwrap();
}

#[test]
fn a_mirror_is_a_copy_that_is_never_led_astray() {
    let (source, copy) = (repository(), SimVfs::new());
    let bring = |source: &SimVfs| {
        let carrier = Served(source.clone());
        let source = Source { address: "", carrier: &carrier, options: options() };
        mirror(&source, copy.clone(), None, Clock::Now(now()), OfflinePolicy::Strict)
    };
    assert_eq!(bring(&source).unwrap(), 1);
    assert_eq!(seen(&copy), seen(&source));
    assert_eq!(bring(&source).unwrap(), 0);
    let older = source.reboot_clean();
    let mut publisher = Publisher::open(source.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    let draft = publisher.draft_root(&one_key(&key(2)), now()).unwrap();
    let root = publisher.sign_root(&draft, &[&key(1), &key(2)]).unwrap();
    publisher.rotate(&root, &[&key(1), &key(2)], now()).unwrap();
    drop(publisher);
    assert_eq!(bring(&source).unwrap(), 1);
    assert_eq!(seen(&copy), seen(&source));
    assert_eq!(verify_repository(&copy, None).unwrap().problems, []);
    // The repository of before the rotation, one of a moment ago, and one of somebody else.
    assert_eq!(bring(&older).unwrap_err().code().as_str(), "trust.threshold");
    let older = source.reboot_clean();
    Publisher::open(source.clone()).unwrap().renew(&[], &[&key(2)], now()).unwrap();
    bring(&source).unwrap();
    assert_eq!(bring(&older).unwrap_err().code().as_str(), "trust.rollback");
    let stranger = SimVfs::new();
    let root = first_root(&one_key(&key(66)), &[&key(66)]);
    drop(Publisher::init(stranger.clone(), &root, &[&key(66)], now()).unwrap());
    assert!(bring(&stranger).is_err());
    assert_eq!(seen(&copy), seen(&source));
    let carrier = Served(source.clone());
    let source = Source { address: "", carrier: &carrier, options: options() };
    let expired = mirror(&source, SimVfs::new(), None, Clock::Now(now().plus_days(31)), OfflinePolicy::Strict);
    assert_eq!(expired.unwrap_err().code().as_str(), "trust.expired");
}

/// The publisher takes a package out, and collects garbage, right before it is asked for.
struct TakesOut(SimVfs);

impl Carrier for TakesOut {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        if request.address.contains("/1.0.1/") && self.0.exists(&request.address) {
            let mut publisher = Publisher::open(self.0.clone()).unwrap();
            publisher.remove(&[Version::new(1, 0, 1)]).unwrap();
            publisher.commit(&[&key(1)], now()).unwrap();
            publisher.collect_garbage(0).unwrap();
        }
        Served(self.0.clone()).get(request)
    }
}

/// A mirror over HTTP takes no lock: it failed when its publisher collected garbage meanwhile.
#[test]
fn a_mirror_looks_once_more_when_a_package_is_gone_since_its_look() {
    let (repository, copy) = (repository(), SimVfs::new());
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    let bring = |carrier: &dyn Carrier, copy: &SimVfs| {
        let source = Source { address: "", carrier, options: options() };
        mirror(&source, copy.clone(), None, Clock::Now(now()), OfflinePolicy::Strict)
    };
    assert_eq!(bring(&TakesOut(repository.clone()), &copy).unwrap(), 1);
    assert_eq!(seen(&copy), seen(&repository));
    assert_eq!(verify_repository(&copy, None).unwrap().problems, []);
    // Where nothing newer says that it is gone it is missing.
    let path = repository.snapshot().paths().into_iter().find(|path| path.ends_with("full.sf")).unwrap();
    repository.remove_all(&path);
    let refused = bring(&Served(repository), &SimVfs::new()).unwrap_err();
    assert_eq!(refused.code().as_str(), "repository.missing");
}

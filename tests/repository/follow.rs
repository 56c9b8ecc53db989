//! A device that follows a repository while its power fails: at every call, it ends with the old tree or the new one,
//! believes nothing older than before, and goes on.

use super::publisher::{add, one_key, package, repository};
use super::{key, now};
use std::collections::BTreeMap;
use surefoot::crashtest::Explorer;
use surefoot::device::{Config, Engine, Follower, PackageSettings, Settings};
use surefoot::fetch::{Body, Carrier, Failure, Head, Options, Patience, Request, Response};
use surefoot::model::{Policy, Version};
use surefoot::publish::{PackageTerms, Publisher};
use surefoot::repository::{Clock, Moment, OfflinePolicy, role};
use surefoot::strategy;
use surefoot::tree::{Walk, scan};
use surefoot::vfs::sim::{Budget, Profile};
use surefoot::vfs::{RootId, SimVfs, Vfs as _};

/// What a web server gives of a repository.
pub(super) struct Served(pub(super) SimVfs);

struct Whole(Option<Vec<u8>>, Vec<u8>);

impl Carrier for Served {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let content = self.0.read_file(&request.address).ok_or(Failure::Status { status: 404, retry_after: None })?;
        let mut head = Head { status: 200, content_length: Some(content.len() as u64), ..Head::default() };
        let mut bytes = content.clone();
        if let Some((start, end)) = request.range {
            let end = end.unwrap_or(content.len() as u64).min(content.len() as u64);
            bytes = content[start as usize..end as usize].to_vec();
            head.status = 206;
            head.content_length = Some(bytes.len() as u64);
            head.content_range = Some(format!("bytes {start}-{}/{}", end - 1, content.len()));
        }
        Ok(Response { head, body: Box::new(Whole(Some(bytes), Vec::new())) })
    }
}

impl Body for Whole {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.1 = self.0.take().unwrap_or_default();
        Ok(Some(&self.1[..]).filter(|bytes| !bytes.is_empty()))
    }
}

/// Nothing is tried twice.
pub(super) fn options() -> Options {
    Options { patience: Patience { attempts: 0, ..Patience::default() }, ..Options::default() }
}

pub(super) fn follower(carrier: &dyn Carrier, clock: Clock) -> Follower<'_> {
    Follower {
        addresses: vec![String::new()],
        carrier,
        options: options(),
        clock,
        offline: OfflinePolicy::Strict,
        rules: strategy::Policy { channel: Some("stable".into()), ..strategy::Policy::new("x86_64") },
        again: false,
    }
}

/// A device with version 1.0.0, which has looked at the repository.
pub(super) fn device(repository: &SimVfs) -> SimVfs {
    let disk = SimVfs::new();
    disk.write_file("app", "one");
    let disk = disk.reboot_clean();
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    let manifest = scan(&disk, &walk, &|_, _| ()).unwrap();
    let root = repository.read_file("metadata/1.root.json").unwrap();
    let config = Config { owner: false, mtime: false, ..Config::default() };
    drop(Engine::init_trusting(disk.clone(), config, "1.0.0", Some(&manifest), Some(&root)).unwrap());
    let look = follower(&Served(repository.clone()), Clock::Now(now())).look(&|| Ok(disk.clone()), &()).unwrap();
    assert!(look.strategy.is_none(), "{}", look.strategy);
    disk
}

fn update(disk: &SimVfs, repository: &SimVfs) -> Result<Option<String>, String> {
    let carrier = Served(repository.clone());
    let done = follower(&carrier, Clock::Now(now())).update(&|| Ok(disk.clone()), &PackageSettings::default(), &());
    done.map(|(_, report)| report.map(|report| report.to))
        .map_err(|error| format!("{}: {error}", error.code().as_str()))
}

fn versions(disk: &SimVfs) -> BTreeMap<String, u64> {
    let stored = Engine::open(disk.clone()).unwrap().stored_trust().unwrap();
    let version =
        |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["signed"]["version"].as_u64();
    stored.0.iter().map(|(role, bytes)| (role.clone(), version(bytes).unwrap())).collect()
}

/// The publisher adds two versions, a patch to each, and gets other keys.
pub(super) fn publish_more(repository: &SimVfs) {
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two, which is longer", Some(("1.0.0", "one")))).unwrap();
    let third = package("1.0.2", "three", Some(("1.0.1", "two, which is longer")));
    add(&mut publisher, &third).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    let draft = publisher.draft_root(&one_key(&key(2)), now()).unwrap();
    let root = publisher.sign_root(&draft, &[&key(1), &key(2)]).unwrap();
    publisher.rotate(&root, &[&key(1), &key(2)], now()).unwrap();
}

/// A repository that has published more than a device has seen, and the device.
fn two_versions_behind() -> (SimVfs, SimVfs) {
    let repository = repository();
    let disk = device(&repository);
    publish_more(&repository);
    (repository, disk)
}

#[test]
fn no_loss_of_power_leaves_a_follower_between_versions_or_with_older_trust() {
    let repository = repository();
    let before = device(&repository);
    let old = versions(&before);
    publish_more(&repository);
    assert_eq!(update(&before.reboot_clean(), &repository), Ok(Some("1.0.2".into())));
    let judge = |disk: &SimVfs, done: &bool| -> Result<(), String> {
        let noted = disk.exists(".surefoot/attempts");
        let mut engine = Engine::open(disk.clone()).map_err(|error| error.to_string())?;
        let recovered = engine.recover(&()).map_err(|error| error.to_string())?;
        // It is forgotten when the last one is there, which may show before the end of its journal is durable.
        if recovered.outcome.is_some() && !noted && recovered.version != "1.0.2" {
            return Err("applying was cut off, and that it was tried is not noted".into());
        }
        let version = engine.current().unwrap().version;
        drop(engine);
        let content = match version.as_str() {
            "1.0.0" => "one",
            "1.0.1" => "two, which is longer",
            _ => "three",
        };
        if disk.read_file("app").as_deref() != Some(content.as_bytes()) {
            return Err(format!("version {version} holds something else"));
        }
        if *done && version != "1.0.2" {
            return Err(format!("it was told that 1.0.2 is there, and {version} is"));
        }
        let kept = versions(disk);
        // Timestamp and snapshot are forgotten with the keys that signed them, and only after the new root is kept.
        let forgotten = kept["root"] == 2;
        for (name, version) in &old {
            let may_go = forgotten && (name == role::TIMESTAMP || name == role::SNAPSHOT);
            if kept.get(name).copied().unwrap_or(if may_go { u64::MAX } else { 0 }) < *version {
                return Err(format!("{name} was believed with version {version}, and {kept:?} is there"));
            }
        }
        update(disk, &repository)?;
        let kept = versions(disk);
        let newest = (kept["root"], disk.read_file("app"), disk.read_file(".surefoot/attempts"));
        if newest != (2, Some(b"three".to_vec()), None) {
            return Err(format!("the next update ends with {newest:?}"));
        }
        Ok(())
    };
    let tally = Explorer::on(before.reboot_clean())
        .profiles(&Profile::ATOMIC)
        .budget(Budget::sample(6, 1))
        .run(|disk| update(disk, &repository).is_ok())
        .judge(judge)
        .unwrap_or_else(|violation| panic!("{violation}"));
    println!("{tally:?}");
    assert!(tally.crash_points > 150 && tally.states > 500, "{tally:?}");
}

#[test]
fn a_device_without_a_clock_says_no_unless_its_policy_says_yes() {
    let (repository, disk) = two_versions_behind();
    let clock = Clock::showing(Moment::from_seconds(0));
    assert_eq!(clock, Clock::Unknown);
    assert_eq!(Clock::showing(now()), Clock::Now(now()));
    let carrier = Served(repository.clone());
    let look = |offline: OfflinePolicy| {
        let follower = Follower { offline, ..follower(&carrier, clock) };
        follower.look(&|| Ok(disk.clone()), &()).map_err(|error| error.code().as_str())
    };
    assert_eq!(look(OfflinePolicy::Strict).map(|_| ()), Err("trust.clock"));
    assert_eq!(look(OfflinePolicy::Grace(3650)).map(|_| ()), Err("trust.clock"));
    let look = look(OfflinePolicy::IgnoreExpiry).unwrap();
    assert!(look.notices.len() >= 4, "each of the four is told: {:?}", look.notices);
    assert_eq!(look.strategy.to, Version::new(1, 0, 2));
}

#[test]
fn a_package_that_is_described_as_something_else_is_not_applied() {
    let (repository, disk) = two_versions_behind();
    let carrier = Served(repository.clone());
    let follower = follower(&carrier, Clock::Now(now()));
    let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
    let tell = |change: &dyn Fn(&mut surefoot::repository::Release)| {
        let mut lie = look.clone();
        change(&mut lie.packages[0]);
        let open = || Ok(disk.clone());
        let settings = PackageSettings { settings: Settings::default(), ..PackageSettings::default() };
        follower.install(&open, &lie, &settings, &()).unwrap_err().code().as_str()
    };
    // Room is looked for before the first byte.
    assert_eq!(tell(&|release| release.space_bytes = 1 << 60), "space.short");
    let parts: Vec<String> = disk.state_listing().into_iter().filter(|path| path.ends_with(".part")).collect();
    assert!(!parts.is_empty());
    assert!(parts.iter().all(|path| disk.read_file(&format!(".surefoot/{path}")) == Some(vec![])), "{parts:?}");
    // For each of both steps there is, and not for the second one beside what the first one leaves to go back.
    let mut both = look.clone();
    let free = disk.space(RootId::STATE).unwrap().free_bytes;
    both.packages.iter_mut().for_each(|release| release.space_bytes = free / 3 * 2);
    let refused = follower.install(&|| Ok(disk.clone()), &both, &PackageSettings::default(), &()).unwrap_err();
    assert_eq!((both.packages.len(), refused.code().as_str()), (2, "space.short"));
    assert!(parts.iter().all(|path| disk.read_file(&format!(".surefoot/{path}")) == Some(vec![])), "{parts:?}");
    let other = surefoot::model::Digest([7; 32]);
    assert_eq!(tell(&|release| release.package = other), "trust.digest");
    assert_eq!(tell(&|release| release.target = other), "input.format");
    assert_eq!(tell(&|release| release.version = Version::new(9, 0, 0)), "input.format");
    assert_eq!(tell(&|release| release.architecture = Some("x86_64".into())), "input.format");
    assert_eq!(tell(&|release| release.kind = surefoot::repository::ReleaseKind::Full), "input.format");
    assert_eq!(disk.read_file("app"), Some(b"one".to_vec()));
    // Each counts against its version, which is not the network's fault.
    assert!(disk.read_file(".surefoot/attempts").is_some());
    follower.install(&|| Ok(disk.clone()), &look, &PackageSettings::default(), &()).unwrap();
    assert_eq!(disk.read_file("app"), Some(b"three".to_vec()));
}

/// A device that died of a version each time once tried it for ever: only what failed by itself was noted.
#[test]
fn a_version_that_the_power_fails_in_each_time_is_left_alone() {
    let repository = repository();
    let before = device(&repository);
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    // The first call at which a transaction has begun, and nothing of it is in the tree.
    let cut_off = |disk: &SimVfs, step: u64| {
        let run = disk.reboot_clean();
        run.crash_at(step);
        update(&run, &repository).unwrap_err();
        run.reboot_clean()
    };
    let begun = |disk: &SimVfs| Engine::open(disk.fork()).unwrap().recover(&()).unwrap().outcome.is_some();
    let mut disk = before;
    for _ in 0..3 {
        disk = (1..).map(|step| cut_off(&disk, step)).find(begun).unwrap();
        let mut engine = Engine::open(disk.clone()).unwrap();
        engine.recover(&()).unwrap();
        assert_eq!(engine.current().unwrap().version, "1.0.0");
    }
    assert_eq!(disk.read_file(".surefoot/attempts").as_deref(), Some(&br#"{"1.0.1":3}"#[..]));
    assert_eq!(update(&disk, &repository), Ok(None), "it is left alone");
    // The next version is another matter, and what stays is not held against any.
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &package("1.0.2", "three", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    assert_eq!(update(&disk, &repository), Ok(Some("1.0.2".into())));
    assert!(!disk.exists(".surefoot/attempts"));
}

/// What is on trial is noted until it is confirmed; confirming it once left it noted.
#[test]
fn a_trial_is_noted_until_it_is_confirmed() {
    let (repository, disk) = two_versions_behind();
    let carrier = Served(repository.clone());
    let follower = follower(&carrier, Clock::Now(now()));
    let open = || Ok(disk.clone());
    let trial = Settings { trial: true, ..Settings::default() };
    let settings = PackageSettings { settings: trial, ..PackageSettings::default() };
    for _ in 0..2 {
        follower.update(&open, &settings, &()).unwrap();
        assert!(disk.exists(".surefoot/attempts"));
        assert_eq!(follower.update(&open, &settings, &()).unwrap_err().code().as_str(), "transaction.pending");
        assert!(disk.exists(".surefoot/attempts"));
        Engine::open(disk.clone()).unwrap().confirm(&()).unwrap();
        assert!(!disk.exists(".surefoot/attempts"));
    }
    assert_eq!(disk.read_file("app").as_deref(), Some(&b"three"[..]));
}

/// The device has not agreed to go back: that is no fault of the version.
#[test]
fn a_downgrade_that_is_refused_is_not_counted_as_an_attempt() {
    let repository = repository();
    let disk = device(&repository);
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    let (older, terms) = (package("0.9.0", "zero", None), super::publisher::terms());
    let terms = PackageTerms { downgrade_from: vec![Version::new(1, 0, 0)], ..terms };
    publisher.add(&mut || Ok(Box::new(std::io::Cursor::new(older.clone()))), &terms).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    let carrier = Served(repository.clone());
    let mut follower = follower(&carrier, Clock::Now(now()));
    follower.rules.allow_downgrade = true;
    let open = || Ok(disk.clone());
    let look = follower.look(&open, &()).unwrap();
    assert!(look.downgrade);
    let mut refused = look.clone();
    refused.downgrade = false;
    for _ in 0..4 {
        let error = follower.install(&open, &refused, &PackageSettings::default(), &()).unwrap_err();
        assert_eq!(error.code().as_str(), "trust.downgrade");
        assert!(!disk.exists(".surefoot/attempts"));
    }
    let look = follower.look(&open, &()).unwrap();
    assert_eq!(follower.install(&open, &look, &PackageSettings::default(), &()).unwrap().unwrap().to, "0.9.0");
}

#[test]
fn a_package_that_nobody_understands_is_passed_over_and_told() {
    let mut publisher = super::Publisher::new();
    publisher.add("1.0.1", b"next");
    let mut odd = super::release("1.0.2", b"odd").to_target();
    odd.custom = Some(serde_json::json!({"surefoot": {"version": 2}}));
    publisher.targets.targets.insert("any/1.0.2/full.sf".into(), odd);
    publisher.release_next();
    let served = SimVfs::new();
    served.write_file("targets/x", "");
    for (name, bytes) in &publisher.files {
        served.write_file(&format!("metadata/{name}"), bytes);
    }
    let disk = SimVfs::new();
    disk.write_file("app", "one");
    let disk = disk.reboot_clean();
    let root = &publisher.files["1.root.json"];
    drop(Engine::init_trusting(disk.clone(), Config::default(), "1.0.0", None, Some(root)).unwrap());
    let look = follower(&Served(served), Clock::Now(now())).look(&|| Ok(disk.clone()), &()).unwrap();
    assert_eq!((look.strategy.to, look.unusable.len()), (Version::new(1, 0, 1), 1));
    assert!(look.unusable[0].to_string().contains("any/1.0.2/full.sf"), "{:?}", look.unusable);
}

/// While one looks, something else happens.
struct Meanwhile<'a>(Served, &'a (dyn Fn() + Sync), std::sync::Mutex<bool>);

impl Carrier for Meanwhile<'_> {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let answer = self.0.get(request);
        if request.address.ends_with("timestamp.json") && !std::mem::replace(&mut *self.2.lock().unwrap(), true) {
            (self.1)();
        }
        answer
    }
}

#[test]
fn of_two_who_look_at_once_the_slower_one_brings_nothing_back() {
    let repository = repository();
    let disk = device(&repository);
    let older = repository.reboot_clean();
    publish_more(&older);
    let newer = older.reboot_clean();
    Publisher::open(newer.clone()).unwrap().renew(&[], &[&key(2)], now()).unwrap();
    let others = || {
        let carrier = Served(newer.clone());
        follower(&carrier, Clock::Now(now())).look(&|| Ok(disk.clone()), &()).unwrap();
    };
    let carrier = Meanwhile(Served(older), &others, std::sync::Mutex::default());
    let slower = follower(&carrier, Clock::Now(now()));
    let refused = slower.look(&|| Ok(disk.clone()), &()).unwrap_err();
    assert_eq!(refused.code().as_str(), "lock.held");
    let newest = newer.read_file("metadata/timestamp.json");
    assert_eq!(disk.read_file(".surefoot/trust/timestamp.json"), newest);
    // Now it is known that what it sees is older.
    assert_eq!(slower.look(&|| Ok(disk.clone()), &()).unwrap_err().code().as_str(), "trust.rollback");
}

/// Between a look and what is installed by it the tree is not locked.
#[test]
fn what_a_look_has_chosen_is_not_installed_after_another_one() {
    let (repository, disk) = two_versions_behind();
    let carrier = Served(repository.clone());
    let follower = follower(&carrier, Clock::Now(now()));
    let open = || Ok(disk.clone());
    let install = |look| follower.install(&open, look, &PackageSettings::default(), &());
    let look = follower.look(&open, &()).unwrap();
    Publisher::open(repository.clone()).unwrap().renew(&[], &[&key(2)], now()).unwrap();
    let newer = follower.look(&open, &()).unwrap();
    assert_eq!(install(&look).unwrap_err().code().as_str(), "lock.held", "something newer is believed");
    assert_eq!(disk.read_file("app").as_deref(), Some(&b"one"[..]));
    assert_eq!(install(&newer).unwrap().unwrap().to, "1.0.2");
    assert_eq!(install(&newer).unwrap_err().code().as_str(), "lock.held", "another version is here");
}

/// Two copies of a repository, at `old/` and `new/`.
pub(super) struct Two(pub(super) Served, pub(super) Served);

impl Carrier for Two {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let (folder, address) = request.address.split_once('/').unwrap();
        let carrier = if folder == "old" { &self.0 } else { &self.1 };
        carrier.get(&Request { address: address.into(), ..request.clone() })
    }
}

/// A copy that is behind once ended the chain of roots for all of them.
#[test]
fn one_copy_does_not_say_alone_that_there_is_no_newer_root() {
    let repository = repository();
    let disk = device(&repository);
    let behind = repository.reboot_clean();
    publish_more(&repository);
    let carrier = Two(Served(behind), Served(repository));
    let addresses = vec!["old".to_owned(), "new".to_owned()];
    let follower = Follower { addresses, ..follower(&carrier, Clock::Now(now())) };
    let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
    assert_eq!((look.strategy.to.to_string().as_str(), versions(&disk)["root"]), ("1.0.2", 2));
}

/// Bytes that look like nothing, as text.
pub(super) fn noise(length: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 57) as u8 % 64)
    };
    (0..length).map(step).collect()
}

/// Five files: one changes, one moves, one is copied, of two only one has a twin, which is new.
fn large_tree(new: bool) -> BTreeMap<&'static str, String> {
    let size = 100_000;
    let mut files: BTreeMap<_, _> =
        ["a", "b", "c", "d"].into_iter().zip(1..).map(|(name, n)| (name, noise(size, n))).collect();
    files.insert("app", if new { "two".into() } else { "one".into() });
    if new {
        files.insert("a", noise(size, 10));
        let moved = files.remove("b").unwrap();
        files.insert("moved", moved);
        files.insert("twin", files["c"].clone());
        files.insert("twins/other", files["c"].clone());
    }
    files
}

fn on_disk(files: &BTreeMap<&'static str, String>) -> SimVfs {
    let disk = SimVfs::new();
    for (path, content) in files {
        disk.write_file(path, content);
    }
    disk.reboot_clean()
}

/// A repository with a full package of the new tree, and a device with the old one.
pub(super) fn mostly_the_same() -> (SimVfs, SimVfs) {
    let repository = repository();
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    let new = on_disk(&large_tree(true));
    let tree = scan(&new, &walk, &|_, _| ()).unwrap();
    let options = surefoot::publish::Options {
        to: "1.1.0".into(),
        level: surefoot::package::Level::Fast,
        segment: Some(1 << 16),
        ..surefoot::publish::Options::default()
    };
    let (mut spool, mut out) = (std::io::Cursor::new(Vec::new()), Vec::new());
    surefoot::publish::build_full(&tree, &new, &options, &mut spool, &mut out).unwrap();
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &out).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    let device = on_disk(&large_tree(false));
    let manifest = scan(&device, &walk, &|_, _| ()).unwrap();
    let root = repository.read_file("metadata/1.root.json").unwrap();
    let config = Config { owner: false, mtime: false, ..Config::default() };
    drop(Engine::init_trusting(device.clone(), config, "1.0.0", Some(&manifest), Some(&root)).unwrap());
    (repository.reboot_clean(), device.reboot_clean())
}

fn holds(disk: &SimVfs, files: &BTreeMap<&'static str, String>) -> bool {
    let walk = Walk { policy: Policy { owner: false, mtime: false }, state_inside: true };
    let there = scan(disk, &walk, &|_, _| ()).unwrap();
    surefoot::tree::changes(&there, &scan(&on_disk(files), &walk, &|_, _| ()).unwrap()).is_empty()
}

/// Counts the bytes of packages.
struct Counting(Served, std::sync::atomic::AtomicU64);

impl Carrier for Counting {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let answer = self.0.get(request)?;
        if request.address.starts_with("targets/") {
            let length = answer.head.content_length.unwrap_or(0);
            self.1.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(answer)
    }
}

#[test]
fn no_loss_of_power_leaves_a_mixed_tree_when_only_missing_blocks_are_fetched() {
    let (repository, before) = mostly_the_same();
    let planned = {
        let carrier = Served(repository.clone());
        let disk = before.reboot_clean();
        let look = follower(&carrier, Clock::Now(now())).look(&|| Ok(disk.clone()), &()).unwrap();
        assert_eq!(look.strategy.way, strategy::Way::Blocks, "{}", look.strategy);
        assert!(look.strategy.bytes.unwrap() * 2 < look.packages[0].bytes, "{}", look.strategy);
        look.strategy.bytes.unwrap()
    };
    let counted = |disk: &SimVfs| {
        let carrier = Counting(Served(repository.clone()), Default::default());
        let done = follower(&carrier, Clock::Now(now())).update(&|| Ok(disk.clone()), &PackageSettings::default(), &());
        (done.map(|(_, report)| report.map(|report| report.to)), carrier.1.into_inner())
    };
    let tally = Explorer::on(before.reboot_clean())
        .profiles(&Profile::ATOMIC)
        .budget(Budget::sample(3, 1))
        .run(|disk| counted(disk).0.is_ok())
        .judge(|disk, done| {
            let mut engine = Engine::open(disk.clone()).map_err(|error| error.to_string())?;
            engine.recover(&()).map_err(|error| error.to_string())?;
            let version = engine.current().unwrap().version;
            drop(engine);
            if !holds(disk, &large_tree(version == "1.1.0")) || (*done && version != "1.1.0") {
                return Err(format!("version {version} holds something else"));
            }
            let (next, bytes) = counted(disk);
            next.map_err(|error| error.to_string())?;
            if bytes > planned || !holds(disk, &large_tree(true)) {
                return Err(format!("the next update took {bytes} bytes, and is not new"));
            }
            Ok(())
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
    println!("{tally:?}");
    assert!(tally.crash_points > 100 && tally.states > 200, "{tally:?}");
}

/// What was compared in a look may be changed before it is used: of that nothing gets into the tree.
#[test]
fn what_is_changed_after_a_look_stops_the_update_and_is_looked_at_again() {
    let (repository, before) = mostly_the_same();
    let carrier = Served(repository);
    let follower = follower(&carrier, Clock::Now(now()));
    for (path, lasting) in [("a", true), ("b", true), ("c", false)] {
        let disk = before.reboot_clean();
        let open = || Ok(disk.clone());
        let look = follower.look(&open, &()).unwrap();
        let good = disk.read_file(path).unwrap();
        disk.write_file(path, noise(good.len(), 77));
        let refused = follower.install(&open, &look, &PackageSettings::default(), &()).unwrap_err();
        assert_eq!(refused.code().as_str(), "tree.changed", "{path}: {refused}");
        assert_eq!(disk.read_file(".surefoot/attempts"), None, "it is not the release that has failed");
        let mut odd = large_tree(false);
        odd.insert(path, noise(good.len(), 77));
        assert!(holds(&disk, &odd), "{path}");
        // What is only copied is fetched instead, from now on; everything else is here.
        let again = follower.look(&open, &()).unwrap();
        assert_eq!((again.strategy.way, again.strategy.bytes == Some(0)), (strategy::Way::Blocks, lasting), "{path}");
        if lasting {
            disk.write_file(path, &good);
        }
        follower.install(&open, &again, &PackageSettings::default(), &()).unwrap();
        let mut new = large_tree(true);
        if !lasting {
            new.insert(path, noise(good.len(), 77));
        }
        assert!(holds(&disk, &new), "{path}");
    }
}

/// A copy of the repository whose package of 1.1.0 is spoiled.
pub(super) fn spoiled(repository: &SimVfs, how: impl Fn(&mut [u8])) -> SimVfs {
    let copy = repository.fork();
    let is_it = |path: &String| path.starts_with("targets/any/1.1.0/") && path.ends_with("full.sf");
    let path = copy.snapshot().paths().into_iter().find(is_it).unwrap();
    let mut bytes = copy.read_file(&path).unwrap();
    how(&mut bytes);
    copy.write_file(&path, bytes);
    copy
}

/// A byte of its front is another one.
fn with_a_spoiled_front(repository: &SimVfs) -> SimVfs {
    spoiled(repository, |bytes| bytes[40] ^= 1)
}

/// One copy that spoiled the front of a package once cost all of it: the others were not asked for the front.
#[test]
fn a_front_that_one_copy_spoils_is_had_from_another() {
    let (repository, disk) = mostly_the_same();
    let carrier = Two(Served(with_a_spoiled_front(&repository)), Served(repository));
    let addresses = vec!["old".to_owned(), "new".to_owned()];
    let follower = Follower { addresses, ..follower(&carrier, Clock::Now(now())) };
    let open = || Ok(disk.clone());
    let look = follower.look(&open, &()).unwrap();
    assert_eq!(look.strategy.way, strategy::Way::Blocks, "{}", look.strategy);
    follower.install(&open, &look, &PackageSettings::default(), &()).unwrap();
    assert!(holds(&disk, &large_tree(true)));
}

/// A front that had to be fetched again was believed as it came, and three copies of it gave the version up.
#[test]
fn a_front_that_is_spoiled_after_the_look_is_not_the_fault_of_the_version() {
    let (repository, disk) = mostly_the_same();
    let open = || Ok(disk.clone());
    let good = Served(repository.clone());
    let look = follower(&good, Clock::Now(now())).look(&open, &()).unwrap();
    assert_eq!(look.strategy.way, strategy::Way::Blocks, "{}", look.strategy);
    let forget = || {
        assert!(disk.exists(".surefoot/downloads/lock"));
        disk.remove_all(".surefoot/downloads");
    };
    forget();
    let bad = Served(with_a_spoiled_front(&repository));
    let refused = follower(&bad, Clock::Now(now())).install(&open, &look, &PackageSettings::default(), &());
    assert_eq!(refused.unwrap_err().code().as_str(), "trust.digest");
    assert_eq!(disk.read_file(".surefoot/attempts"), None, "it is not the release that has failed");
    assert!(holds(&disk, &large_tree(false)));
    forget();
    let both = Two(bad, good);
    let addresses = vec!["old".to_owned(), "new".to_owned()];
    let follower = Follower { addresses, ..follower(&both, Clock::Now(now())) };
    follower.install(&open, &look, &PackageSettings::default(), &()).unwrap();
    assert!(holds(&disk, &large_tree(true)));
}

/// Gives parts that do not begin at the beginning from the second.
struct Parts(Served, Served);

impl Carrier for Parts {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let carrier = if request.range.is_some_and(|(start, _)| start > 0) { &self.1 } else { &self.0 };
        carrier.get(request)
    }
}

/// A server whose parts are wrong once kept a device from the package that it gives as a whole.
#[test]
fn where_only_the_parts_are_wrong_all_of_it_is_fetched() {
    let (repository, disk) = mostly_the_same();
    let bad = spoiled(&repository, |bytes| bytes[65_536..].iter_mut().for_each(|byte| *byte ^= 1));
    let carrier = Parts(Served(repository), Served(bad));
    let patience = Patience { attempts: 2, pause: std::time::Duration::ZERO, ..Patience::default() };
    let options = Options { patience, ..Options::default() };
    let follower = Follower { options, ..follower(&carrier, Clock::Now(now())) };
    let (look, _) = follower.update(&|| Ok(disk.clone()), &PackageSettings::default(), &()).unwrap();
    assert_eq!(look.strategy.way, strategy::Way::Blocks, "{}", look.strategy);
    assert!(holds(&disk, &large_tree(true)));
}

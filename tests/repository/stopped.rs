//! What stops an update, who is told of it, and what is here when it goes on.

use super::follow::{Served, Two, device, follower, mostly_the_same, noise, spoiled};
use super::publisher::{add, package, repository};
use super::{Publisher as Draft, key, now};
use std::sync::Mutex;
use surefoot::device::{Follower, PackageSettings};
use surefoot::fetch::{Carrier, Failure, Request, Response};
use surefoot::limits;
use surefoot::model::Digest;
use surefoot::publish::Publisher;
use surefoot::repository::{Anchor, Answer, Client, Clock, OfflinePolicy, RepositoryError, Step};
use surefoot::strategy::Way;
use surefoot::vfs::sim::{Errno, Faults, Repeat, When};
use surefoot::vfs::{RootId, SimVfs, Vfs as _};

const SETTINGS: fn() -> PackageSettings = PackageSettings::default;

/// A device at 1.0.0, and a repository with large patches to 1.0.1 and from there to 1.0.2.
fn two_large_patches() -> (SimVfs, SimVfs) {
    let repository = repository();
    let disk = device(&repository);
    let (second, third) = (noise(600_000, 1), noise(600_000, 2));
    let mut publisher = Publisher::open(repository.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", &second, Some(("1.0.0", "one")))).unwrap();
    add(&mut publisher, &package("1.0.2", &third, Some(("1.0.1", &second)))).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    (repository, disk)
}

/// What was here of a later package of a chain was asked room for once more, so that a chain which had been interrupted
/// could refuse itself. And what a look tells of space is what must be free.
#[test]
fn a_chain_that_was_interrupted_needs_no_room_for_what_is_here() {
    let (repository, disk) = two_large_patches();
    let carrier = Served(repository);
    let follower = follower(&carrier, Clock::Now(now()));
    let open = || Ok(disk.clone());
    let look = follower.look(&open, &()).unwrap();
    assert_eq!((look.strategy.way, look.packages.len()), (Way::Chain, 2), "{}", look.strategy);
    // Everything is fetched, and nothing applied.
    let mut lie = look.clone();
    lie.packages[0].package = Digest([7; 32]);
    assert_eq!(follower.install(&open, &lie, &SETTINGS(), &()).unwrap_err().code().as_str(), "trust.digest");
    disk.set_options(|options| options.limit_bytes = Some(1 << 40));
    let used = (1 << 40) - disk.space(RootId::STATE).unwrap().free_bytes;
    let left = follower.look(&open, &()).unwrap();
    assert_eq!((left.strategy.way, left.strategy.bytes), (Way::Chain, Some(0)));
    let fetched = look.strategy.bytes.unwrap();
    assert!(fetched > 700_000 && look.strategy.space == left.strategy.space + fetched, "{fetched}");
    disk.set_options(|options| options.limit_bytes = Some(used + left.strategy.space - 1));
    let short = follower.install(&open, &left, &SETTINGS(), &()).unwrap_err();
    assert_eq!(short.code().as_str(), "space.short");
    // The records of two transactions take some room besides.
    assert!(left.packages[1].bytes > 1 << 18);
    disk.set_options(|options| options.limit_bytes = Some(used + left.strategy.space + (1 << 17)));
    assert_eq!(follower.install(&open, &left, &SETTINGS(), &()).unwrap().unwrap().to, "1.0.2");
}

/// That the file with what was fetched could not be opened once counted as a try of the version.
#[test]
fn a_disk_that_fails_at_what_was_fetched_is_no_try_of_the_version() {
    let repository = repository();
    let disk = device(&repository);
    super::follow::publish_more(&repository);
    let carrier = Served(repository);
    let follower = follower(&carrier, Clock::Now(now()));
    let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
    let install = |disk: &SimVfs| follower.install(&|| Ok(disk.clone()), &look, &SETTINGS(), &());
    disk.set_options(|options| options.trace = true);
    let traced = disk.fork();
    install(&traced).unwrap();
    let opened = |call: &&surefoot::vfs::sim::Call| call.text.starts_with("open") && call.text.contains(".part");
    let trace = traced.trace();
    let calls: Vec<_> = trace.iter().filter(opened).collect();
    assert_eq!(calls.len(), 2, "two packages are read: {calls:?}");
    for (at, call) in calls.iter().enumerate() {
        let run = disk.fork();
        run.set_faults(Faults::none().fail_call(call.number, Errno::IO, When::Before, Repeat::OneShot));
        assert_eq!(install(&run).unwrap_err().code().as_str(), "io.failed", "{at}: {call}");
        // What was there before it stays, and is forgotten with the next look at it.
        let noted = run.read_file(".surefoot/attempts").map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(noted.as_deref(), [None, Some(r#"{"1.0.1":1}"#)][at], "{at}: {call}");
    }
}

/// Keeps the addresses that it is asked for.
struct Noting<'a>(&'a dyn Carrier, Mutex<Vec<String>>);

impl Carrier for Noting<'_> {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        self.1.lock().unwrap().push(request.address.clone());
        self.0.get(request)
    }
}

/// A copy that says that the front of a package is huge once cost the saving: nobody else was asked.
#[test]
fn a_copy_that_says_that_a_front_is_huge_is_not_believed_alone() {
    let (repository, disk) = mostly_the_same();
    let huge = spoiled(&repository, huge_front);
    for (good, way, asked) in [(repository, Way::Blocks, 2), (huge.clone(), Way::Full, 2)] {
        let disk = disk.fork();
        let both = Two(Served(huge.clone()), Served(good));
        let carrier = Noting(&both, Mutex::default());
        let addresses = ["old", "new", "third"].map(str::to_owned).to_vec();
        let follower = Follower { addresses, ..follower(&carrier, Clock::Now(now())) };
        let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
        assert_eq!(look.strategy.way, way, "{}", look.strategy);
        let of_packages = |addresses: &[String]| addresses.iter().filter(|at| at.contains("/targets/")).count();
        assert_eq!(of_packages(&carrier.1.lock().unwrap()), asked, "two who say the same are believed");
        // It is not asked again for what is known; but what somebody has said once may have been a lie.
        let again = if way == Way::Blocks { 0 } else { 2 };
        follower.look(&|| Ok(disk.clone()), &()).unwrap();
        assert_eq!(of_packages(&carrier.1.into_inner().unwrap()), asked + again);
    }
}

/// Says of packages that it has none.
struct Without(Served);

impl Carrier for Without {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        match request.address.contains("targets/") {
            true => Err(Failure::Status { status: 404, retry_after: None }),
            false => self.0.get(request),
        }
    }
}

/// Three copies of a repository, at `one/`, `two/` and `three/`.
struct Three<'a>([&'a dyn Carrier; 3]);

impl Carrier for Three<'_> {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let (folder, address) = request.address.split_once('/').unwrap();
        let number = ["one", "two", "three"].iter().position(|name| *name == folder).unwrap();
        self.0[number].get(&Request { address: address.into(), ..request.clone() })
    }
}

/// A front is huge, whoever sends this says.
fn huge_front(bytes: &mut [u8]) {
    let claim = (bytes.len() / 4 * 3) as u32;
    bytes[10..14].copy_from_slice(&claim.to_le_bytes());
}

/// A copy without the package left an empty file, and what the next one said was once believed as if it had been here.
#[test]
fn a_dead_copy_before_one_that_lies_about_a_front_does_not_cost_the_saving() {
    let (repository, disk) = mostly_the_same();
    let (huge, good) = (Served(spoiled(&repository, huge_front)), Served(repository.clone()));
    let dead = Without(Served(repository));
    let carrier = Three([&dead, &huge, &good]);
    let addresses = ["one", "two", "three"].map(str::to_owned).to_vec();
    let follower = Follower { addresses, ..follower(&carrier, Clock::Now(now())) };
    let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
    assert_eq!(look.strategy.way, Way::Blocks, "{}", look.strategy);
}

/// What the only copy had said of a front once stayed, and nobody was ever asked for it again.
#[test]
fn a_lie_about_a_front_does_not_outlive_the_copy_that_told_it() {
    let (repository, disk) = mostly_the_same();
    let (huge, good) = (Served(spoiled(&repository, huge_front)), Served(repository));
    for (carrier, way) in [(&huge, Way::Full), (&huge, Way::Full), (&good, Way::Blocks)] {
        let follower = follower(carrier, Clock::Now(now()));
        let look = follower.look(&|| Ok(disk.clone()), &()).unwrap();
        assert_eq!(look.strategy.way, way, "{}", look.strategy);
    }
}

/// When as many roots had come as are followed and the last one was refused, the next one was asked for all the same.
#[test]
fn what_is_refused_of_the_last_root_ends_the_look() {
    let mut publisher = Draft::new();
    publisher.root.expires = now().plus_days(0);
    for _ in 0..limits::ROOT_ROTATIONS {
        publisher.next_root(&[1]);
    }
    publisher.root.expires = now().plus_days(30);
    publisher.next_root(&[1]);
    let device = publisher.device();
    let mut client = Client::new(device.stored, Anchor::Stored, Clock::Now(now()), OfflinePolicy::Strict).unwrap();
    let (mut asked, mut kept, mut refusals) = (0, 0, Vec::new());
    // Whoever asks several addresses goes on after a refusal.
    while refusals.len() < 3 {
        match client.step() {
            Err(error) => refusals.push(error),
            Ok(Step::Keep(root)) => {
                assert_eq!(root.role, "root");
                kept += 1;
            }
            Ok(Step::Fetch(request)) => {
                asked += 1;
                let answer = client.answer(Answer::Bytes(publisher.files[&request.name].clone()));
                refusals.extend(answer.err());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((asked, kept), (limits::ROOT_ROTATIONS, limits::ROOT_ROTATIONS));
    assert!(refusals.iter().all(|error| matches!(error, RepositoryError::Expired { .. })), "{refusals:?}");
}

//! Publishers that are cut off: a rotation without the keys from before, a mirror over a rotation, gc. At every call the
//! folder is the old repository or the new one, or, between a root and a timestamp that no common key signs, one that
//! devices refuse; and the same command once more ends it.

use super::follow::{Served, options};
use super::publisher::{add, first_root, one_key, package, repository, seen};
use super::{key, now};
use surefoot::Error;
use surefoot::crashtest::{Explorer, Tally};
use surefoot::fetch::{self, Carrier};
use surefoot::publish::*;
use surefoot::repository::*;
use surefoot::trust::SecretKey;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Profile};

type Seen = (u64, u64, Vec<String>);

/// What a device says of a timestamp that its root does not know.
const GAP: &str = "timestamp.json is signed by 0 of the 1 keys that are needed";

/// A repository with version 1.0.0 whose root has key 1, its targets key 4, and the rest key 2.
fn several_keys() -> SimVfs {
    let disk = SimVfs::new();
    let (root, online, targets) = (key(1), key(2), key(4));
    let mut roles = online_is(&online);
    roles.insert(role::ROOT, RoleKeys { keys: vec![root.public()], threshold: 1 });
    roles.insert(role::TARGETS, RoleKeys { keys: vec![targets.public()], threshold: 1 });
    let bytes = first_root(&roles, &[&root]);
    let mut publisher = Publisher::init(disk.clone(), &bytes, &[&targets, &online], now()).unwrap();
    add(&mut publisher, &package("1.0.0", "one", None)).unwrap();
    publisher.commit(&[&targets, &online], now()).unwrap();
    drop(publisher);
    disk.reboot_clean()
}

fn online_is(online: &SecretKey) -> NewRoles {
    let keys = RoleKeys { keys: vec![online.public()], threshold: 1 };
    [role::SNAPSHOT, role::TIMESTAMP].map(|name| (name, keys.clone())).into()
}

/// Cuts off a publisher at every call. After `run` once more the repository is `new`, and it can be added to by these
/// keys.
fn cut_off_everywhere(
    before: SimVfs,
    new: &Seen,
    keys: &[&SecretKey],
    gap: bool,
    run: impl Fn(&SimVfs) -> Result<(), Error> + Sync,
) -> Tally {
    let old = seen(&before).unwrap();
    let is_one = |at: u64, paths: &Vec<String>| (at, paths) == (old.1, &old.2) || (at, paths) == (new.1, &new.2);
    let gaps = std::sync::atomic::AtomicUsize::new(0);
    let tally = Explorer::on(before)
        .profiles(&Profile::ATOMIC)
        .budget(Budget::sample(8, 1))
        .run(|disk| run(disk).is_ok())
        .judge(|disk, done| {
            match seen(disk) {
                Ok(now_seen) if now_seen == *new => {}
                Ok((root, at, paths)) if !*done && (old.0..=new.0).contains(&root) && is_one(at, &paths) => {}
                // What devices see, nobody builds on.
                Err(why) if why.contains(GAP) && !*done => {
                    gaps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let refused = Publisher::open(disk.clone()).map(drop).map_err(|error| error.code().as_str());
                    let verified = verify_repository(disk, None).map(drop).map_err(|error| error.code().as_str());
                    if (refused, verified) != (Err("trust.threshold"), Err("trust.threshold")) {
                        return Err(format!("{refused:?}, {verified:?}"));
                    }
                }
                other => return Err(format!("a device sees {other:?}, told: {done}")),
            }
            run(disk).map_err(|error| format!("it cannot be done again: {error:?}"))?;
            let (root, timestamp, paths) = seen(disk)?;
            if (root, &paths) != (new.0, &new.2) || timestamp < new.1 {
                return Err(format!("and then a device sees {root}, {timestamp}, {paths:?}"));
            }
            let mut publisher = Publisher::open(disk.clone()).map_err(|error| error.to_string())?;
            publisher.renew(&[role::TARGETS], keys, now()).map_err(|error| error.to_string())
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
    let gaps = gaps.into_inner();
    println!("{} states, {gaps} of them between root and timestamp", tally.states);
    assert_eq!(gaps > 0, gap, "the moment between them: {gaps} states");
    tally
}

/// A publisher that was killed in this rotation once left a folder that no command could mend.
#[test]
fn a_rotation_without_the_old_key_that_is_cut_off_is_ended_by_the_same_command() {
    let (root, new, targets) = (key(1), key(3), key(4));
    let new_seen = (2, 3, vec!["any/1.0.0/full.sf".to_owned()]);
    let before = several_keys();
    // Drafted and signed on the way, as with the root key at hand.
    let drafted = |disk: &SimVfs| -> Result<(), Error> {
        let mut publisher = Publisher::open_to_rotate(disk.clone())?;
        publisher.adopt();
        let draft = publisher.draft_root(&online_is(&new), now())?;
        if draft.version == 3 {
            // It is over, so this would be another one.
            return Ok(());
        }
        let bytes = publisher.sign_root(&draft, &[&root])?;
        publisher.rotate(&bytes, &[&new], now()).map(drop)
    };
    let tally = cut_off_everywhere(before.fork(), &new_seen, &[&targets, &new], true, drafted);
    assert!(tally.crash_points > 20 && tally.states > 200, "{tally:?}");

    // Signed elsewhere, and the targets key is lost as well.
    let mut publisher = Publisher::open(before.fork()).unwrap();
    let mut roles = online_is(&new);
    roles.insert(role::TARGETS, RoleKeys { keys: vec![key(5).public()], threshold: 1 });
    let draft = publisher.draft_root(&roles, now()).unwrap();
    let bytes = publisher.sign_root(&draft, &[&root]).unwrap();
    let old_keys = publisher.rotate(&bytes, &[&new, &targets], now()).unwrap_err();
    assert_eq!(old_keys.code().as_str(), "trust.threshold");
    drop(publisher);
    let signed_elsewhere = |disk: &SimVfs| -> Result<(), Error> {
        let mut publisher = Publisher::open_to_rotate(disk.clone())?;
        publisher.adopt();
        match publisher.rotate(&bytes, &[&new, &key(5)], now()) {
            // The root is there, and so is everything else.
            Err(error) if error.code().as_str() == "trust.metadata" && publisher.root().version == 2 => Ok(()),
            other => other.map(drop),
        }
    };
    cut_off_everywhere(before, &new_seen, &[&key(5), &new], true, signed_elsewhere);
}

/// With new keys the time of the last signature does not count; when the root was in place already it counted again, and
/// the command that was to be repeated was refused.
#[test]
fn a_rotation_away_from_a_wrong_clock_that_is_cut_off_is_ended_by_the_same_command() {
    let (root, new) = (key(1), key(3));
    let disk = several_keys();
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    publisher.renew(&[], &[&key(2)], now().plus_days(300)).unwrap();
    assert_eq!(publisher.renew(&[], &[&key(2)], now()).unwrap_err().code().as_str(), "repository.clock");
    let draft = publisher.draft_root(&online_is(&new), now()).unwrap();
    let bytes = publisher.sign_root(&draft, &[&root]).unwrap();
    drop(publisher);
    // As if it was killed right behind the root.
    disk.write_file("metadata/2.root.json", bytes.clone());
    let mut publisher = Publisher::open_to_rotate(disk.clone()).unwrap();
    publisher.adopt();
    assert_eq!(publisher.rotate(&bytes, &[&new], now()).unwrap(), Rotated::WithGap);
    publisher.renew(&[], &[&new], now()).unwrap();
    drop(publisher);
    assert_eq!(seen(&disk).unwrap().0, 2);
}

/// What a rotation was cut off in may be ended by another one: the first new key may be lost, too.
#[test]
fn a_rotation_that_was_cut_off_may_be_ended_by_another_one() {
    let (root, lost, new, targets) = (key(1), key(3), key(6), key(4));
    let disk = several_keys();
    let publisher = Publisher::open(disk.clone()).unwrap();
    let draft = publisher.draft_root(&online_is(&lost), now()).unwrap();
    let bytes = publisher.sign_root(&draft, &[&root]).unwrap();
    drop(publisher);
    // As if it was killed right behind the root.
    disk.write_file("metadata/2.root.json", bytes);
    let refused = Publisher::open(disk.clone()).unwrap_err();
    assert!(refused.to_string().contains("a rotation was interrupted"), "{refused}");
    let mut publisher = Publisher::open_to_rotate(disk.clone()).unwrap();
    publisher.adopt();
    let draft = publisher.draft_root(&online_is(&new), now()).unwrap();
    assert_eq!(draft.version, 3);
    let bytes = publisher.sign_root(&draft, &[&root]).unwrap();
    assert_eq!(publisher.rotate(&bytes, &[&new], now()).unwrap(), Rotated::WithGap);
    publisher.renew(&[role::TARGETS], &[&targets, &new], now()).unwrap();
    drop(publisher);
    assert_eq!(seen(&disk).unwrap().0, 3);
    verify_repository(&disk, None).unwrap();
}

/// Keys are rotated away because somebody else has them. What he had put into the repository got the signatures of the new
/// keys, and nobody was told.
#[test]
fn what_keys_that_are_gone_have_signed_is_told_and_not_adopted_unasked() {
    let (root, online, targets, new) = (key(1), key(2), key(4), key(5));
    let disk = several_keys();
    // The thief publishes.
    let mut thief = Publisher::open(disk.clone()).unwrap();
    add(&mut thief, &package("6.6.6", "bad", None)).unwrap();
    thief.commit(&[&targets, &online], now()).unwrap();
    drop(thief);
    let old = seen(&disk).unwrap();
    let all = Some(vec!["any/1.0.0/full.sf".to_owned(), "any/6.6.6/full.sf".to_owned()]);
    let told = |publisher: &Publisher<SimVfs>| {
        publisher.adopted().map(|targets| targets.targets.keys().cloned().collect::<Vec<_>>())
    };
    let roles: NewRoles = [(role::TARGETS, RoleKeys { keys: vec![new.public()], threshold: 1 })].into();
    let rotate = |disk: &SimVfs, roles: &NewRoles, keys: &[&SecretKey], adopt: bool| {
        let mut publisher = Publisher::open_to_rotate(disk.clone()).unwrap();
        if adopt {
            publisher.adopt();
        }
        let draft = publisher.draft_root(roles, now()).unwrap();
        let bytes = publisher.sign_root(&draft, &[&root]).unwrap();
        let done = publisher.rotate(&bytes, keys, now()).map_err(|error| error.code().as_str());
        (done, told(&publisher))
    };
    // Without the key that was stolen it is a choice; whoever still signs with it is told.
    assert_eq!(rotate(&disk, &roles, &[&new, &online], false), (Err("trust.adoption"), all.clone()));
    assert_eq!(seen(&disk).unwrap(), old, "nothing has changed");
    let fork = disk.reboot_clean();
    assert_eq!(rotate(&fork, &roles, &[&new, &online, &targets], false), (Ok(Rotated::Seamless), all.clone()));
    let fork = disk.reboot_clean();
    assert_eq!(rotate(&fork, &roles, &[&new, &online], true), (Ok(Rotated::WithGap), all.clone()));
    // With the online key alone a thief can put back what was taken out.
    let fork = disk.reboot_clean();
    assert_eq!(rotate(&fork, &online_is(&key(3)), &[&key(3)], false), (Err("trust.adoption"), all.clone()));
    assert_eq!(rotate(&fork, &online_is(&key(3)), &[&key(3), &online], false), (Ok(Rotated::Seamless), None));
    // What older keys have signed, put into the folder later, looks like a rotation that was cut off.
    let fork = disk.reboot_clean();
    let mut publisher = Publisher::open(fork.clone()).unwrap();
    publisher.remove(&["6.6.6".parse().unwrap()]).unwrap();
    publisher.commit(&[&targets, &online], now()).unwrap();
    drop(publisher);
    let (done, _) = rotate(&fork, &roles, &[&new, &online], true);
    assert_eq!((done, seen(&fork).unwrap().2), (Ok(Rotated::WithGap), vec!["any/1.0.0/full.sf".to_owned()]));
    for path in disk.snapshot().paths().into_iter().filter(|path| !path.ends_with(".root.json")) {
        if let Some(bytes) = disk.read_file(&path) {
            fork.write_file(&path, bytes);
        }
    }
    assert_eq!(rotate(&fork, &roles, &[&new, &online], false), (Err("trust.adoption"), all.clone()));
    let (done, listed) = rotate(
        &fork,
        &NewRoles::from([(role::TARGETS, RoleKeys { keys: vec![key(6).public()], threshold: 1 })]),
        &[&new, &key(6), &online],
        false,
    );
    assert_eq!(
        (done, listed),
        (Err("trust.adoption"), all),
        "nor does another rotation, with the keys from in between"
    );
}

/// Root metadata of a stranger is no rotation that was interrupted.
#[test]
fn a_root_that_nobody_before_has_signed_is_not_gone_on_from() {
    let disk = several_keys();
    let mut stranger = Publisher::open(disk.clone()).unwrap().draft_root(&online_is(&key(3)), now()).unwrap();
    stranger.more.clear();
    disk.write_file("metadata/2.root.json", sign(&stranger, &[&key(66)]).unwrap());
    assert_eq!(Publisher::open_to_rotate(disk.clone()).unwrap_err().code().as_str(), "trust.threshold");
    assert_eq!(verify_repository(&disk, None).unwrap_err().code().as_str(), "trust.threshold");
}

fn bring(source: &SimVfs, copy: &SimVfs, trusted: Option<&[u8]>) -> Result<(), Error> {
    let carrier = Served(source.clone());
    let source = Source { address: "", carrier: &carrier, options: options() };
    mirror(&source, copy.clone(), trusted, Clock::Now(now()), OfflinePolicy::Strict).map(drop)
}

/// `repository()`, and what becomes of it: version 1.0.1, and two rotations, after which nothing is signed by the first
/// key any more.
fn rotated() -> (SimVfs, SimVfs) {
    let before = repository();
    let source = before.reboot_clean();
    let mut publisher = Publisher::open(source.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    for (old, new) in [(1, 2), (2, 3)] {
        let draft = publisher.draft_root(&one_key(&key(new)), now()).unwrap();
        let root = publisher.sign_root(&draft, &[&key(old), &key(new)]).unwrap();
        assert_eq!(publisher.rotate(&root, &[&key(old), &key(new)], now()).unwrap(), Rotated::Seamless);
    }
    publisher.renew(&[role::TARGETS], &[&key(3)], now()).unwrap();
    drop(publisher);
    (before, source)
}

/// A mirror that was killed over a rotation once was a folder that no command could mend.
#[test]
fn a_mirror_that_is_cut_off_over_rotations_is_ended_by_the_same_command() {
    let (before, source) = rotated();
    let copy = SimVfs::new();
    bring(&before, &copy, None).unwrap();
    let new = seen(&source).unwrap();
    let tally = cut_off_everywhere(copy.reboot_clean(), &new, &[&key(3)], true, |disk| bring(&source, disk, None));
    assert!(tally.crash_points > 40 && tally.states > 300, "{tally:?}");
    // A first copy is there when it is whole.
    let run = |disk: &SimVfs| bring(&source, disk, None);
    Explorer::on(SimVfs::new().reboot_clean())
        .budget(Budget::sample(8, 1))
        .run(|disk| run(disk).is_ok())
        .judge(|disk, done| {
            let whole = disk.exists("metadata/timestamp.json");
            if whole && seen(disk)? != new || !whole && *done {
                return Err(format!("a device sees {:?}, told: {done}", seen(disk)));
            }
            run(disk).map_err(|error| format!("it cannot be done again: {error:?}"))?;
            if seen(disk)? == new { Ok(()) } else { Err(format!("and then a device sees {:?}", seen(disk))) }
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
}

/// Whoever rotates with the keys of before and after leaves no such moment. A mirror of that once did, since it wrote the
/// roots first whatever had signed the timestamp.
#[test]
fn a_mirror_that_is_cut_off_over_a_rotation_with_all_keys_is_believed_at_every_moment() {
    let before = repository();
    let source = before.reboot_clean();
    let copy = SimVfs::new();
    bring(&before, &copy, None).unwrap();
    let mut publisher = Publisher::open(source.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    // First a root without new keys, then one with others.
    for (roles, keys) in [(online_is(&key(1)), &[1][..]), (one_key(&key(2)), &[1, 2])] {
        let keys: Vec<SecretKey> = keys.iter().map(|seed| key(*seed)).collect();
        let keys: Vec<&SecretKey> = keys.iter().collect();
        let draft = publisher.draft_root(&roles, now()).unwrap();
        let root = publisher.sign_root(&draft, &keys).unwrap();
        assert_eq!(publisher.rotate(&root, &keys, now()).unwrap(), Rotated::Seamless);
    }
    drop(publisher);
    let new = seen(&source).unwrap();
    assert_eq!((new.0, new.2.len()), (3, 2));
    cut_off_everywhere(copy.reboot_clean(), &new, &[&key(2)], false, |disk| bring(&source, disk, None));
}

/// The roots of the repository whose first copy was interrupted once stayed, and devices that followed the other one
/// stopped at the first of them.
#[test]
fn what_the_first_copy_of_another_repository_has_left_is_gone() {
    let (_, source) = rotated();
    let copy = SimVfs::new();
    for version in 1..=3 {
        let name = format!("metadata/{version}.root.json");
        copy.write_file(&name, source.read_file(&name).unwrap());
    }
    let other = SimVfs::new();
    let root = first_root(&one_key(&key(66)), &[&key(66)]);
    let mut publisher = Publisher::init(other.clone(), &root, &[&key(66)], now()).unwrap();
    add(&mut publisher, &package("2.0.0", "other", None)).unwrap();
    publisher.commit(&[&key(66)], now()).unwrap();
    drop(publisher);
    bring(&other, &copy, None).unwrap();
    assert_eq!(seen(&copy).unwrap(), seen(&other).unwrap());
    bring(&other, &copy, None).unwrap();
    assert!(!copy.exists("metadata/3.root.json"));
}

/// Going on from what an interrupted mirror has left does not lead back to an older repository.
#[test]
fn a_mirror_that_was_cut_off_is_not_led_back() {
    let (before, source) = rotated();
    let copy = SimVfs::new();
    bring(&before, &copy, None).unwrap();
    for name in ["metadata/2.root.json", "metadata/3.root.json"] {
        copy.write_file(name, source.read_file(name).unwrap());
    }
    assert_eq!(bring(&before, &copy, None).unwrap_err().code().as_str(), "trust.threshold");
    bring(&source, &copy, None).unwrap();
    assert_eq!(seen(&copy), seen(&source));
}

/// Gives every root once, and then something else.
struct Fickle(Served, std::sync::Mutex<Vec<String>>);

impl Carrier for Fickle {
    fn get(&self, request: &fetch::Request) -> Result<fetch::Response, fetch::Failure> {
        let mut asked = self.1.lock().unwrap();
        let again = asked.contains(&request.address) && request.address.ends_with(".root.json");
        asked.push(request.address.clone());
        let served = if again { Served(SimVfs::new()) } else { Served(self.0.0.clone()) };
        if again {
            served.0.write_file(&request.address, "something else");
        }
        served.get(request)
    }
}

/// Roots were once fetched a second time to be written, and written without a look at them.
#[test]
fn a_mirror_writes_what_it_has_verified_and_nothing_else() {
    let (_, source) = rotated();
    let fickle = Fickle(Served(source.clone()), std::sync::Mutex::default());
    let copy = SimVfs::new();
    let from = Source { address: "", carrier: &fickle, options: options() };
    mirror(&from, copy.clone(), None, Clock::Now(now()), OfflinePolicy::Strict).unwrap();
    for version in 1..=3 {
        let name = format!("metadata/{version}.root.json");
        assert_eq!(copy.read_file(&name), source.read_file(&name));
    }
    assert_eq!(seen(&copy), seen(&source));
    // The roots that the copy has are not asked for again.
    fickle.1.lock().unwrap().clear();
    mirror(&from, copy.clone(), None, Clock::Now(now()), OfflinePolicy::Strict).unwrap();
    let asked = fickle.1.lock().unwrap().clone();
    let roots: Vec<&String> = asked.iter().filter(|name| name.ends_with(".root.json")).collect();
    assert_eq!(roots, ["metadata/4.root.json"]);
    // What only the snapshot names is what the snapshot says.
    let mut made = super::Publisher::new();
    made.targets.targets.clear();
    made.snapshot.meta.insert("ghost.json".into(), FileInfo::of(1, b"as it was"));
    made.snapshot.meta.insert("unknown.json".into(), FileInfo { hashes: None, ..FileInfo::of(1, b"whatever") });
    made.publish();
    let source = SimVfs::new();
    for (name, bytes) in &made.files {
        source.write_file(&format!("metadata/{name}"), bytes);
    }
    source.write_file("metadata/1.unknown.json", "whatever");
    source.write_file("metadata/1.ghost.json", "as it is");
    assert_eq!(bring(&source, &SimVfs::new(), None).unwrap_err().code().as_str(), "trust.mismatch");
    source.write_file("metadata/1.ghost.json", "as it was");
    let copy = SimVfs::new();
    bring(&source, &copy, None).unwrap();
    assert_eq!(copy.read_file("metadata/1.ghost.json"), Some(b"as it was".to_vec()));
    assert!(!copy.exists("metadata/1.unknown.json"), "nobody vouches for it");
}

/// A chain that begins somewhere else is not what devices begin with.
#[test]
fn a_mirror_begins_with_the_first_root_and_goes_through_the_one_that_is_trusted() {
    let (before, source) = rotated();
    let root = |version: u64| source.read_file(&format!("metadata/{version}.root.json")).unwrap();
    for trusted in 1..=3 {
        let copy = SimVfs::new();
        bring(&source, &copy, Some(&root(trusted))).unwrap();
        assert_eq!(seen(&copy), seen(&source));
    }
    let refused = |source: &SimVfs, trusted: Option<&[u8]>| {
        let copy = SimVfs::new();
        let code = bring(source, &copy, trusted).unwrap_err().code().as_str();
        assert!(!copy.exists("metadata"), "something was written");
        code
    };
    let stranger = first_root(&one_key(&key(66)), &[&key(66)]);
    assert_eq!(refused(&source, Some(&stranger)), "trust.metadata");
    assert_eq!(refused(&before, Some(&root(2))), "trust.rollback");
    let beheaded = source.reboot_clean();
    beheaded.write_file("metadata/1.root.json", root(2));
    assert_eq!(refused(&beheaded, None), "trust.metadata");
    // A copy that is there is held to it as well.
    let copy = SimVfs::new();
    bring(&before, &copy, None).unwrap();
    assert_eq!(bring(&source, &copy, Some(&stranger)).unwrap_err().code().as_str(), "trust.metadata");
    bring(&source, &copy, Some(&root(3))).unwrap();
}

#[test]
fn a_collection_of_garbage_that_is_cut_off_harms_nothing() {
    let disk = repository();
    let mut publisher = Publisher::open(disk.clone()).unwrap();
    add(&mut publisher, &package("1.0.1", "two", None)).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    publisher.remove(&["1.0.0".parse().unwrap()]).unwrap();
    publisher.commit(&[&key(1)], now()).unwrap();
    drop(publisher);
    let old = seen(&disk).unwrap();
    let run = |disk: &SimVfs| Publisher::open(disk.clone())?.collect_garbage(0).map(drop);
    Explorer::on(disk.reboot_clean())
        .run(|disk| run(disk).is_ok())
        .judge(|disk, _| {
            run(disk).map_err(|error: Error| error.to_string())?;
            if disk.exists("targets/any/1.0.0") {
                return Err("something is left".into());
            }
            if seen(disk)? == old { Ok(()) } else { Err("a device sees something else".into()) }
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
}

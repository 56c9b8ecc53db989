//! Random pairs of trees: the package between them, and a transaction of the same changes, cut at random moments. What
//! fails is made small before it is told.

use super::oracle::{ACTS, Act, judge, perform};
use super::workload::Prepared;
use super::{PROFILES, options, seed};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use surefoot::crashtest::{Explorer, Tally};
use surefoot::device::Tree;
use surefoot::model::Policy;
use surefoot::vfs::SimVfs;
use surefoot::vfs::sim::{Budget, Options};

/// What a file holds: zeros, then bytes that follow from their kind, in which others were put some times. So two
/// contents are often the same, or nearly.
#[derive(Clone, Copy, PartialEq)]
struct Content {
    zeros: usize,
    noise: usize,
    kind: u8,
    edits: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Object {
    Directory,
    /// Files of the same group are names of one file, which holds what the first of them says.
    File(Content, Option<u8>),
    Symlink(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Marks {
    mode: u32,
    owner: u32,
    seconds: i64,
    attribute: Option<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, Content),
    MakeDir(String),
    Symlink(String, String),
    Edit(String),
    Copy(String, String),
    Join(String, u8),
    Mark(String, Marks),
    Rename(String, String),
    Remove(String),
}

/// Objects by their paths; the root is among them.
#[derive(Clone)]
struct Picture(BTreeMap<String, (Object, Marks)>);

/// Two trees, and what is done on what disk.
#[derive(Clone)]
struct Case {
    old: Picture,
    changes: Vec<Change>,
    new: Picture,
    policy: Policy,
    act: Act,
    disk: Options,
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        let mut random = super::Random::new(u64::from(self.kind));
        let mut bytes = vec![0; self.zeros];
        // Text more than noise: what is the same in two files is found.
        bytes.extend((0..self.noise).map(|_| b'a' + random.below(20) as u8));
        for edit in 0..self.edits {
            bytes.insert(self.zeros + edit * self.noise / self.edits, b'#');
        }
        bytes
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zeros, noise, kind, edits } = self;
        write!(f, "{zeros} zeros and {noise} bytes of kind {kind} with {edits} edits")
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, (object, marks))| {
            let Marks { mode, owner, seconds, attribute } = marks;
            write!(f, "\n    /{path}: {object:?}, {mode:o}, owner {owner}, time {seconds}, attribute {attribute:?}")
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, changes, new, policy, act, disk } = self;
        let Options { profile, exchange, sync_all_reports, .. } = disk;
        write!(f, "{act} in {profile}, exchange {exchange}, sync reports {sync_all_reports}, {policy:?}, ")?;
        write!(f, "seed {}\n  old:{old:?}\n  changes: {changes:#?}\n  new:{new:?}", disk.seed)
    }
}

const PLAIN: Marks = Marks { mode: 0o755, owner: 0, seconds: 7, attribute: None };

impl Picture {
    fn empty() -> Self {
        Self(BTreeMap::from([(String::new(), (Object::Directory, PLAIN))]))
    }

    /// Puts an object where whatever is; what is in the way above becomes a directory. The metadata of what is replaced
    /// stay.
    fn put(&mut self, path: &str, object: Object) {
        for (end, _) in path.match_indices('/') {
            self.put(&path[..end], Object::Directory);
        }
        let old = self.0.get(path).cloned();
        if path.is_empty() {
            return;
        }
        if object != Object::Directory {
            self.remove(path);
        }
        let marks = old.map_or(PLAIN, |(_, marks)| marks);
        self.0.insert(path.into(), (object, marks));
    }

    fn remove(&mut self, path: &str) -> Vec<(String, (Object, Marks))> {
        let is_in = |at: &str| at.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.0.extract_if(.., |at, _| !path.is_empty() && is_in(at)).collect()
    }

    fn content(&self, path: &str) -> Option<Content> {
        match self.0.get(path)?.0 {
            Object::File(content, _) => Some(content),
            _ => None,
        }
    }

    /// Makes a change, unless it makes no sense.
    fn change(&mut self, change: &Change) {
        match change {
            Change::Put(path, content) => self.put(path, Object::File(*content, None)),
            Change::MakeDir(path) => self.put(path, Object::Directory),
            Change::Symlink(path, target) => self.put(path, Object::Symlink(target.clone())),
            Change::Edit(path) => {
                if let Some((Object::File(content, _), _)) = self.0.get_mut(path) {
                    content.edits += 1;
                }
            }
            Change::Copy(from, to) => {
                if let Some(content) = self.content(from) {
                    self.put(to, Object::File(content, None));
                }
            }
            Change::Join(path, to) => {
                if let Some((Object::File(_, group), _)) = self.0.get_mut(path) {
                    *group = Some(*to);
                }
            }
            Change::Mark(path, marks) => {
                if let Some((_, of)) = self.0.get_mut(path) {
                    *of = *marks;
                }
            }
            Change::Rename(from, to) => {
                let inside = format!("{to}/").starts_with(&format!("{from}/"));
                if ![from, to].contains(&&String::new()) && self.0.contains_key(from) && !inside {
                    let moved = self.remove(from);
                    self.put(to, Object::Directory);
                    self.remove(to);
                    self.0.extend(moved.into_iter().map(|(at, object)| (format!("{to}{}", &at[from.len()..]), object)));
                }
            }
            Change::Remove(path) => _ = self.remove(path),
        }
    }

    fn draw(&self, disk: &SimVfs, policy: Policy) {
        let mut groups: BTreeMap<u8, &str> = BTreeMap::new();
        for (path, (object, _)) in &self.0 {
            match object {
                Object::Directory if path.is_empty() => {}
                Object::Directory => _ = disk.make_dir(path),
                Object::Symlink(target) => _ = disk.make_symlink(target, path),
                Object::File(content, group) => match group.and_then(|group| groups.get(&group)) {
                    Some(leader) => _ = disk.make_link(leader, path),
                    None => {
                        disk.write_file(path, content.bytes());
                        groups.extend(group.map(|group| (group, path.as_str())));
                    }
                },
            }
        }
        // From the leaves up, since to make something in a directory changes its time.
        for (path, (object, marks)) in self.0.iter().rev() {
            if matches!(object, Object::File(_, Some(group)) if groups[group] != path) {
                continue;
            }
            if policy.owner {
                disk.chown(path, marks.owner, marks.owner);
            }
            if !matches!(object, Object::Symlink(_)) {
                disk.chmod(path, marks.mode);
                marks.attribute.iter().for_each(|value| _ = disk.attribute(path, "user.note", [*value]));
            }
            disk.touch(path, marks.seconds);
        }
    }
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn contents() -> impl Strategy<Value = Content> {
    let zeros = prop_oneof![6 => Just(0_usize), 1 => select(vec![4096_usize, 8192, 150_000])];
    (zeros, select(vec![0_usize, 1, 600, 2000, 5000, 20_000]), 0..2_u8, 0..3_usize)
        .prop_map(|(zeros, noise, kind, edits)| Content { zeros, noise, kind, edits })
}

fn marks() -> impl Strategy<Value = Marks> {
    let modes = select(vec![0o755_u32, 0o644, 0o600, 0o4755, 0o2755, 0o444]);
    (modes, 0..3_u32, 7..9_i64, option::of(0..2_u8)).prop_map(|(mode, owner, seconds, attribute)| Marks {
        mode,
        owner,
        seconds,
        attribute,
    })
}

/// One change more of a tree: of what is there, or at a path where nothing or anything may be.
fn change(
    known: &Picture,
    kind: u8,
    (old, new, target): (Index, String, Index),
    content: Content,
    marks: Marks,
) -> Change {
    let there = |index: Index| index.get(&known.0.keys().collect::<Vec<_>>()).to_string();
    match kind {
        0..4 => Change::Put(new, content),
        4 => Change::Put(there(old), content),
        5 => Change::MakeDir(new),
        6 => Change::Symlink(new, format!("./{}", there(target))),
        7..10 => Change::Edit(there(old)),
        10 => Change::Copy(there(old), new),
        11..13 => Change::Join(there(old), marks.owner as u8 % 2),
        13..15 => Change::Mark(there(old), marks),
        15 => Change::Rename(there(old), new),
        16 => Change::Rename(there(old), there(target)),
        _ => Change::Remove(there(old)),
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let drawn = || (0..19_u8, any::<Index>(), paths(), any::<Index>(), contents(), marks());
    let drawn = |most| prop::collection::vec(drawn(), 0..most);
    let disk = (select(&PROFILES[..]), any::<bool>(), any::<bool>(), any::<u64>());
    let disk = disk.prop_map(|(profile, exchange, sync_all_reports, seed)| Options {
        exchange,
        sync_all_reports,
        seed,
        ..options(profile)
    });
    let policy = (any::<bool>(), any::<bool>()).prop_map(|(owner, mtime)| Policy { owner, mtime });
    (drawn(14), drawn(8), policy, select(&ACTS[..]), disk).prop_map(|(before, after, policy, act, disk)| {
        let grow = |picture: &mut Picture, drawn: Vec<_>| -> Vec<Change> {
            let one = |(kind, old, new, target, content, marks)| {
                let change = change(picture, kind, (old, new, target), content, marks);
                picture.change(&change);
                change
            };
            drawn.into_iter().map(one).collect()
        };
        let mut picture = Picture::empty();
        grow(&mut picture, before);
        let old = picture.clone();
        let changes = grow(&mut picture, after);
        Case { old, changes, new: picture, policy, act, disk }
    })
}

/// Tries random cases on all cores. The first that fails is made small, and told.
fn try_cases(title: &str, one: impl Fn(&Case) -> Result<(), String> + Sync) {
    let runs: u32 = std::env::var("SUREFOOT_RANDOM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(320);
    let parts = 8;
    let failure = (0..parts).into_par_iter().find_map_any(|part| {
        let config = Config {
            cases: runs.div_ceil(parts),
            rng_seed: RngSeed::Fixed(seed().wrapping_mul(1_000_003).wrapping_add(part.into())),
            failure_persistence: None,
            max_shrink_iters: 3000,
            ..Config::default()
        };
        let tried = TestRunner::new(config).run(&cases(), |case| one(&case).map_err(TestCaseError::fail));
        tried.err().map(|error| match error {
            TestError::Fail(why, case) => format!("{why}\n{case:?}"),
            TestError::Abort(why) => format!("nothing was tried: {why}"),
        })
    });
    assert!(failure.is_none(), "{title}, SUREFOOT_SEED={}: {}", seed(), failure.unwrap_or_default());
}

fn explorer(case: &Case, disk: SimVfs) -> Explorer {
    let budget = Budget { pairs_up_to: 0, random: 2, torn_writes: 1, seed: case.disk.seed, ..Budget::default() };
    Explorer::on(disk).budget(budget).most_states(150)
}

#[test]
fn a_package_between_random_trees_is_applied_or_not() {
    #[derive(Debug, Default)]
    struct Sum {
        pairs: u32,
        deltas: u32,
        from_base: u32,
        duplicates: u32,
    }
    let sum = Mutex::new((Sum::default(), Tally::default()));
    try_cases("packages", |case| {
        let prepared = Prepared::between(
            |disk| case.old.draw(disk, case.policy),
            |disk| case.new.draw(disk, case.policy),
            case.policy,
            case.disk.clone(),
        );
        let (_, error) = perform(case.act, &prepared, &prepared.disk.fork());
        if let Some(error) = error {
            return Err(format!("it fails without a crash: {error:?}"));
        }
        let tally = explorer(case, prepared.disk.fork())
            .run(|vfs| perform(case.act, &prepared, vfs).0)
            .judge(|vfs, promise| judge(&prepared, vfs, *promise))
            .map_err(|violation| violation.to_string())?;
        let mut sum = sum.lock().unwrap();
        sum.0.pairs += 1;
        sum.0.deltas += u32::from(!prepared.built.sources.is_empty());
        sum.0.from_base += u32::from(prepared.built.from_base > 0);
        sum.0.duplicates += u32::from(prepared.built.duplicates > 0);
        sum.1 += tally;
        Ok(())
    });
    let (sum, tally) = sum.into_inner().unwrap();
    println!("random packages: seed {}, {sum:?}, {tally:?}", seed());
    assert!(sum.deltas > sum.pairs / 10 && sum.from_base > 0, "{sum:?}");
}

/// A transaction of the same changes: the calls that make no sense end it, and then nothing may happen.
fn transact(vfs: &SimVfs, case: &Case) -> Result<(), surefoot::Error> {
    let mut tree = Tree::with(vfs.clone())?;
    let mut next = tree.begin()?;
    let mut picture = case.old.clone();
    for change in &case.changes {
        let content = |path: &str, edits| {
            picture.content(path).map(|content| Content { edits: content.edits + edits, ..content })
        };
        next = match change {
            Change::Put(path, content) => next.put(path, &content.bytes()[..]),
            Change::MakeDir(path) => next.make_dir(path),
            Change::Symlink(path, target) => next.symlink(path, target),
            Change::Edit(path) => match content(path, 1) {
                Some(content) => next.put(path, &content.bytes()[..]),
                None => next,
            },
            Change::Copy(from, to) => match content(from, 0) {
                Some(content) => next.put(to, &content.bytes()[..]),
                None => next,
            },
            // There is no call for it.
            Change::Join(..) => next,
            Change::Mark(path, marks) => {
                let next = next.set_owner(path, marks.owner, marks.owner).set_mode(path, marks.mode);
                next.set_xattr(path, b"user.note", marks.attribute.as_ref().map(std::slice::from_ref))
            }
            Change::Rename(from, to) => next.rename(from, to),
            Change::Remove(path) => next.remove(path),
        };
        picture.change(change);
    }
    next.commit().map(drop)
}

#[test]
fn a_random_transaction_happens_or_does_not() {
    let sum = Mutex::new((0, 0, Tally::default()));
    try_cases("transactions", |case| {
        let told = |error: surefoot::Error| format!("{error:?}");
        let disk = SimVfs::with(case.disk.clone());
        case.old.draw(&disk, case.policy);
        drop(Tree::with(disk.clone()).map_err(told)?);
        let disk = disk.reboot_clean();
        let old = disk.snapshot();
        let whole = disk.fork();
        let done = transact(&whole, case).is_ok();
        let new = whole.snapshot();
        if !done && new != old {
            return Err(format!("refused, but changed: {:?}", new.difference(&old)));
        }
        let tally = explorer(case, disk)
            .run(|vfs| transact(vfs, case).is_ok())
            .judge(|vfs, promised| {
                Tree::with(vfs.clone()).map_err(told)?;
                let now = vfs.snapshot();
                if now == new || (!promised && now == old) {
                    return Ok(());
                }
                Err(format!("{:?} | {:?}", now.difference(&old), now.difference(&new)))
            })
            .map_err(|violation| violation.to_string())?;
        let mut sum = sum.lock().unwrap();
        (sum.0, sum.1) = (sum.0 + 1, sum.1 + u32::from(done));
        sum.2 += tally;
        Ok(())
    });
    let (runs, done, tally) = sum.into_inner().unwrap();
    println!("random transactions: seed {}, {runs} runs, {done} of them carried out, {tally:?}", seed());
    assert!(done > runs / 10, "{done} of {runs}");
}

/// Taking a tree under care is interrupted as well: afterwards it is under care, or can be taken again.
#[test]
fn init_is_cut_at_every_call() {
    for profile in PROFILES {
        let disk = SimVfs::with(options(profile));
        disk.write_file("a", "a");
        let old = disk.snapshot();
        let whole = disk.fork();
        drop(Tree::with(whole.clone()).unwrap());
        for crash_at in 0..=whole.calls() {
            let vfs = disk.fork();
            vfs.crash_at(crash_at);
            let _ = Tree::with(vfs.clone());
            vfs.for_each_crash_image(&Budget { pairs_up_to: 0, ..Budget::default() }, &mut |image| {
                let after = image.mount();
                let context = format!("{profile:?}, call {crash_at}, {}", image.choice());
                let mut tree =
                    Tree::with(after.clone()).unwrap_or_else(|error| panic!("{context}: {error}: {error:?}"));
                tree.begin()
                    .and_then(|t| t.put("b", &b"b"[..]).commit())
                    .unwrap_or_else(|error| panic!("{context}: {error:?}"));
                tree.rollback().unwrap_or_else(|error| panic!("{context}: {error:?}"));
                drop(tree);
                assert!(after.snapshot() == old, "{context}");
            });
        }
    }
}

/// A content that was put and then removed again had left its slot taken: a removal got the same slot, and what was
/// removed could be neither stored there nor brought back. The transaction was stuck for good.
#[test]
fn a_content_that_is_dropped_again_keeps_its_slot() {
    let disk = SimVfs::new();
    disk.write_file("a", "a").write_file("z", "z");
    let old = disk.snapshot();
    let mut tree = Tree::with(disk.clone()).unwrap();
    tree.begin().unwrap().put("z", &b"new"[..]).remove("z").make_dir("d").commit().unwrap();
    assert!(!disk.exists("z") && disk.exists("d"));
    tree.rollback().unwrap();
    assert!(disk.snapshot() == old);
}

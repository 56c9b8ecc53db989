//! Whole transactions on `SimVfs` from fuzz input, and the promise that they are held to.

use arbitrary::Arbitrary;
use std::collections::BTreeMap;
use surefoot::device::{Transaction, Tree};
use surefoot::error::{Code, Error};
use surefoot::vfs::sim::{Budget, Errno, Faults, Options, Profile, Repeat, Snapshot, When};
use surefoot::vfs::{SimVfs, Vfs};

/// Most calls of each kind that are taken from an input: small ones find as much and run faster.
const MOST: usize = 6;
/// Every trial that takes more boots than this is still on at the end.
const BOOTS: u32 = 6;

/// Everything that one run is made of.
#[derive(Arbitrary, Clone, Debug)]
pub struct Scenario {
    /// Which promises the disk keeps.
    pub profile: u8,
    /// What the disk lacks or does oddly, one bit each.
    pub quirks: u8,
    /// What is there before.
    pub initial: Vec<Seed>,
    /// What is done.
    pub actions: Vec<Action>,
    /// What goes wrong besides.
    pub fault: Option<Fault>,
    /// At which mutating call the power is lost, by the number of all of them and a few more: then it is lost after
    /// everything.
    pub crash: u16,
    /// What survives.
    pub image: Pick,
    /// The same during recovery.
    pub second: Option<(u8, Pick)>,
    /// The same during the recovery after that.
    pub third: Option<(u8, Pick)>,
}

/// One entry of the tree before.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Seed {
    /// A file.
    File(At, u8),
    /// A directory.
    Directory(At),
    /// A symbolic link.
    Link(At, u8),
    /// Another name of a file.
    Twin(At, At),
    /// An attribute.
    Attribute(At, u8),
}

/// One call on a `Tree`.
#[derive(Arbitrary, Clone, Debug)]
pub enum Action {
    /// A transaction.
    Commit(Vec<Operation>),
    /// A transaction on trial, for so many boots.
    Trial(u8, Vec<Operation>),
    /// Ends a trial.
    Confirm,
    /// Takes back a trial or the last transaction.
    Rollback,
    /// An orderly end of the process and start of another.
    Reopen,
}

/// One call on a `Transaction`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Operation {
    /// Content of a file.
    Put(At, u8),
    /// A directory.
    MakeDir(At),
    /// A symbolic link.
    Symlink(At, u8),
    /// Removes what is there.
    Remove(At),
    /// Moves what is there.
    Rename(At, At),
    /// Permission bits.
    Mode(At, u8),
    /// Owner.
    Owner(At, u8),
    /// An attribute.
    Attribute(At, u8),
}

/// A path of up to three names of three, few enough to meet often.
#[derive(Arbitrary, Clone, Copy)]
pub struct At(pub u8);

impl std::fmt::Debug for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

/// Which image of a crash.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Pick(pub u8, pub u8);

/// A call that fails.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Fault {
    /// A call, counted from the beginning: which error is told by the bits of the second number.
    Call(u16, u8),
    /// A sync.
    Sync(u8),
}

impl At {
    /// The path as text.
    pub fn text(self) -> String {
        let names = ["a", "b", "a", "c"];
        let name = |shift: u8| names[usize::from(self.0 >> shift & 3)];
        match self.0 >> 6 {
            0 => name(0).into(),
            1 | 2 => format!("{}/{}", name(0), name(2)),
            _ => format!("{}/{}/{}", name(0), name(2), name(4)),
        }
    }
}

fn content(kind: u8) -> Vec<u8> {
    // Lengths below, at and above a page.
    let length = [0, 1, 5, 700, 4096, 5000, 9000, 3][usize::from(kind & 7)];
    vec![b'a' + (kind >> 3) % 26; length]
}

fn attribute(kind: u8) -> (&'static str, Option<&'static [u8]>) {
    let names = ["user.a", "user.b", "security.capability", "user.c"];
    let values: [Option<&[u8]>; 4] = [None, Some(b"1"), Some(b"2"), Some(b"")];
    (names[usize::from(kind & 3)], values[usize::from(kind >> 2 & 3)])
}

const MODES: [u32; 8] = [0o644, 0o755, 0o600, 0o400, 0o4755, 0o1777, 0, 0o2750];

impl Scenario {
    /// How many transactions work if nothing goes wrong.
    pub fn committed(&self) -> usize {
        let works = |reference: Reference| {
            let commits =
                |action: &&Action| matches!(action, Action::Commit(list) | Action::Trial(_, list) if !list.is_empty());
            let all = self.actions.iter().zip(&reference.after);
            all.filter(|(action, (worked, ..))| *worked && commits(action)).count()
        };
        reference(self, &disk(self)).map_or(0, works)
    }
}

/// Runs a scenario; says what promise was broken.
pub fn check(scenario: &Scenario) -> Result<(), String> {
    check_on(scenario, false)
}

/// [`check`], on request with a disk whose syncs do nothing and report success: then promises must break.
fn check_on(scenario: &Scenario, lies: bool) -> Result<(), String> {
    let disk = disk(scenario);
    let reference = reference(scenario, &disk)?;
    if lies {
        disk.set_faults((0..1000).fold(Faults::none(), Faults::ignore_sync));
    } else if let Some(Fault::Call(number, kind)) = scenario.fault {
        let errno = if kind & 1 == 0 { Errno::IO } else { Errno::NOSPC };
        let when = if kind & 2 == 0 { When::Before } else { When::After };
        let repeat = if kind & 4 == 0 { Repeat::OneShot } else { Repeat::Sticky };
        let number = u64::from(number) % (reference.all_calls + 4);
        disk.set_faults(Faults::none().fail_call(number + disk.all_calls(), errno, when, repeat));
    } else if let Some(Fault::Sync(number)) = scenario.fault {
        disk.set_faults(Faults::none().fail_sync(u64::from(number) % 16 + disk.syncs()));
    }
    let (disk, allowed) = interrupted(scenario, disk, &reference)?;
    let mut disk = image(&disk, scenario.image);
    for (step, pick) in [scenario.second, scenario.third].into_iter().flatten() {
        disk.crash_at(u64::from(step % 64));
        let _ = Tree::with(disk.clone());
        disk = image(&disk, pick);
    }
    let tree = Tree::with(disk.clone()).map_err(|error| format!("recovery failed: {}", words(&error)))?;
    drop(tree);
    let after = disk.snapshot();
    if !allowed.contains(&after) {
        let differences: Vec<_> = allowed.iter().filter_map(|one| one.difference(&after)).collect();
        return Err(format!("neither old nor new: {differences:#?}"));
    }
    let mutations = disk.mutations();
    let mut tree = Tree::with(disk.clone()).map_err(|error| format!("second recovery failed: {}", words(&error)))?;
    if disk.mutations() != mutations {
        return Err(format!("second recovery changed something: {:?}", disk.trace()));
    }
    still_works(&mut tree, &disk)
}

/// After everything, a transaction can be made and taken back.
fn still_works(tree: &mut Tree<SimVfs>, disk: &SimVfs) -> Result<(), String> {
    disk.set_options(|options| (options.limit_bytes, options.limit_inodes) = (None, None));
    let failed = |error: Error| format!("the tree is no longer of use: {}", words(&error));
    if tree.recovered().trial {
        tree.rollback().map_err(failed)?;
    }
    let before = disk.snapshot();
    tree.begin().map_err(failed)?.put("last", &b"word"[..]).commit().map_err(failed)?;
    if disk.read_file("last").as_deref() != Some(b"word") {
        return Err("a transaction did nothing".into());
    }
    tree.rollback().map_err(failed)?;
    match before.difference(&disk.snapshot()) {
        Some(difference) => Err(format!("not taken back: {difference}")),
        None => Ok(()),
    }
}

fn disk(scenario: &Scenario) -> SimVfs {
    let profiles = [Profile::Prefix, Profile::Somc, Profile::SomcStale, Profile::PerInode, Profile::Posix];
    let quirk = |bit: u8| scenario.quirks >> bit & 1 != 0;
    let disk = SimVfs::with(Options {
        profile: profiles[usize::from(scenario.profile) % profiles.len()],
        exchange: !quirk(0),
        hard_links: !quirk(1),
        reflink: quirk(2),
        reuse_inodes: quirk(3),
        sync_all_reports: !quirk(4),
        user: if quirk(5) { 1000 } else { 0 },
        time_step_seconds: if quirk(6) { 2 } else { 0 },
        trace: false,
        ..Options::default()
    });
    let is_free = |path: &str| {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if disk.exists(parent) && !is_directory(&disk, parent) {
                return false;
            }
            above = parent;
        }
        !disk.exists(path)
    };
    for seed in scenario.initial.iter().take(MOST) {
        match *seed {
            Seed::File(at, kind) if is_free(&at.text()) => {
                disk.write_file(&at.text(), content(kind)).chmod(&at.text(), MODES[usize::from(kind >> 5)]);
            }
            Seed::Directory(at) if is_free(&at.text()) => {
                disk.make_dir(&at.text());
            }
            Seed::Link(at, kind) if is_free(&at.text()) => {
                disk.make_symlink(&At(kind).text(), &at.text());
            }
            Seed::Twin(from, to)
                if !quirk(1) && disk.read_file(&from.text()).is_some() && is_free(&to.text()) && from.0 != to.0 =>
            {
                disk.make_link(&from.text(), &to.text());
            }
            Seed::Attribute(at, kind) if disk.read_file(&at.text()).is_some() => {
                if let (name, Some(value)) = attribute(kind) {
                    disk.attribute(&at.text(), name, value);
                }
            }
            _ => {}
        }
    }
    disk
}

fn is_directory(disk: &SimVfs, path: &str) -> bool {
    let path = surefoot::model::TreePath::parse(path).expect("a path of a test");
    let stat = disk.stat(&surefoot::vfs::Place::tree(&path));
    matches!(stat, Ok(Some(stat)) if stat.kind == surefoot::vfs::FileType::Directory)
}

/// What happens without a crash.
struct Reference {
    /// The tree before.
    initial: Snapshot,
    /// After each action: did it work, what is the tree, and what would it be if a trial ran out?
    after: Vec<(bool, Snapshot, Option<Snapshot>)>,
    /// How many calls there were that mutate or sync.
    calls: u64,
    /// How many calls there were.
    all_calls: u64,
}

fn reference(scenario: &Scenario, disk: &SimVfs) -> Result<Reference, String> {
    let mut disk = disk.fork();
    let initial = disk.snapshot();
    let (mut calls, mut all_calls) = (0, 0);
    let mut count = |disk: &SimVfs| (calls, all_calls) = (calls + disk.calls(), all_calls + disk.all_calls());
    let mut model = Model::of(scenario, &disk);
    let mut tree = Tree::with(disk.clone()).map_err(|error| format!("cannot be opened: {}", words(&error)))?;
    let mut trial: Option<Snapshot> = None;
    let mut after: Vec<(bool, Snapshot, Option<Snapshot>)> = Vec::new();
    for action in scenario.actions.iter().take(MOST) {
        let before = disk.snapshot();
        let worked = act(&mut tree, action);
        if matches!(action, Action::Reopen) {
            drop(tree);
            count(&disk);
            disk = disk.reboot_clean();
            tree = Tree::with(disk.clone()).map_err(|error| format!("cannot be opened again: {}", words(&error)))?;
            if !tree.recovered().trial
                && let Some(old) = trial.take()
                && let Some(difference) = old.difference(&disk.snapshot())
            {
                return Err(format!("a trial ran out, but not to the old tree: {difference}"));
            }
        } else if let Err(error) = &worked {
            if error.code() == Code::Internal {
                return Err(format!("{action:?}: {}", words(error)));
            }
            if let Some(difference) = before.difference(&disk.snapshot()) {
                return Err(format!("{action:?} failed ({}) but changed the tree: {difference}", words(error)));
            }
        }
        let now = disk.snapshot();
        match (action, &worked) {
            (Action::Trial(attempts, _), Ok(true)) if u32::from(*attempts % 10) < BOOTS => trial = Some(before.clone()),
            (Action::Confirm | Action::Rollback, Ok(_)) => trial = None,
            _ => {}
        }
        model.follow(action, worked.is_ok(), &now)?;
        after.push((worked.is_ok(), now, trial.clone()));
    }
    count(&disk);
    Ok(Reference { initial, after, calls, all_calls })
}

/// Runs until something goes wrong: the disk then, and the trees that may be found after recovery.
fn interrupted(scenario: &Scenario, disk: SimVfs, reference: &Reference) -> Result<(SimVfs, Vec<Snapshot>), String> {
    let mut disk = disk;
    let mut left = u64::from(scenario.crash) % (reference.calls + 4);
    disk.crash_at(left);
    let mut allowed = vec![reference.initial.clone()];
    let Ok(mut tree) = Tree::with(disk.clone()) else { return Ok((disk, allowed)) };
    for (action, (works, after, trial)) in scenario.actions.iter().take(MOST).zip(&reference.after) {
        let worked = act(&mut tree, action);
        if matches!(action, Action::Reopen) && !disk.has_crashed() {
            drop(tree);
            left = left.saturating_sub(disk.calls());
            disk = disk.reboot_clean();
            disk.crash_at(left);
            let opened = Tree::with(disk.clone());
            tree = match opened {
                Ok(tree) => tree,
                Err(_) if disk.has_crashed() => {
                    allowed.push(after.clone());
                    return Ok((disk, allowed));
                }
                Err(error) => return Err(format!("cannot be opened again: {}", words(&error))),
            };
        }
        let failed = worked.is_err() && *works;
        if failed || disk.has_crashed() && !works {
            allowed.push(after.clone());
            allowed.extend(trial.clone());
            return Ok((disk, allowed));
        }
        // It was acknowledged: the old tree must not come back.
        allowed = vec![after.clone()];
        allowed.extend(trial.clone());
        if worked.is_ok() && !*works {
            return Err(format!("{action:?} works only when something else fails"));
        }
        if disk.has_crashed() {
            return Ok((disk, allowed));
        }
        // A failure is often survived; but the tree is already what it is.
        if let Some(difference) = after.difference(&disk.snapshot()) {
            return Err(format!("{action:?} was acknowledged, but the tree is not what it should be: {difference}"));
        }
    }
    Ok((disk, allowed))
}

/// What survives a loss of power now.
fn image(disk: &SimVfs, pick: Pick) -> SimVfs {
    let Pick(kind, which) = pick;
    let seed = u64::from(which);
    let budget = match kind % 4 {
        0..=2 => Budget::sample(4, seed),
        _ => Budget { pairs_up_to: 0, random: 0, torn_writes: 1, ..Budget::default() },
    };
    let (images, _) = disk.crash_images(&budget);
    images[usize::from(which ^ kind >> 2) % images.len()].mount()
}

/// Carries out an action; says whether a trial began.
fn act(tree: &mut Tree<SimVfs>, action: &Action) -> Result<bool, Error> {
    match action {
        Action::Commit(operations) => Ok(commit(tree.begin()?, operations)?.trial),
        Action::Trial(attempts, operations) => {
            Ok(commit(tree.begin()?.trial(u32::from(*attempts % 10) + 1), operations)?.trial)
        }
        Action::Confirm => tree.confirm().map(|()| false),
        Action::Rollback => tree.rollback().map(|_| false),
        Action::Reopen => Ok(false),
    }
}

fn commit(
    mut transaction: Transaction<'_, SimVfs>,
    operations: &[Operation],
) -> Result<surefoot::device::Report, Error> {
    for operation in operations.iter().take(MOST) {
        transaction = match *operation {
            Operation::Put(at, kind) => transaction.put(at.text(), &content(kind)[..]),
            Operation::MakeDir(at) => transaction.make_dir(at.text()),
            Operation::Symlink(at, kind) => transaction.symlink(at.text(), At(kind).text()),
            Operation::Remove(at) => transaction.remove(at.text()),
            Operation::Rename(from, to) => transaction.rename(from.text(), to.text()),
            Operation::Mode(at, kind) => transaction.set_mode(at.text(), MODES[usize::from(kind & 7)]),
            Operation::Owner(at, kind) => {
                transaction.set_owner(at.text(), u32::from(kind & 3), u32::from(kind >> 2 & 3))
            }
            Operation::Attribute(at, kind) => {
                let (name, value) = attribute(kind);
                transaction.set_xattr(at.text(), name.as_bytes(), value)
            }
        };
    }
    transaction.commit()
}

/// An error with its causes.
pub(crate) fn words(error: &Error) -> String {
    let mut out = format!("{}: {error}", error.code().as_str());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    out
}

/// What the tree should be, by much simpler means: paths and contents in a map.
///
/// It knows no attributes, owners and hard links, and gives up where these are used.
struct Model {
    known: Option<BTreeMap<String, Thing>>,
    user: u32,
    /// The tree before the last transaction, as long as it can be taken back.
    undo: Option<BTreeMap<String, Thing>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Thing {
    File(Vec<u8>, u32),
    Directory(u32),
    Link(String),
}

impl Model {
    fn of(scenario: &Scenario, disk: &SimVfs) -> Self {
        let strange = |seed: &Seed| matches!(seed, Seed::Twin(..) | Seed::Attribute(..));
        let user = disk.options().user;
        if scenario.initial.iter().any(strange) {
            return Self { known: None, user, undo: None };
        }
        let mut known = BTreeMap::new();
        for path in disk.snapshot().paths() {
            let at = surefoot::vfs::Place::tree(&surefoot::model::TreePath::parse(&path).expect("a path of a test"));
            let mode = disk.stat(&at).ok().flatten().map_or(0, |stat| stat.mode);
            let thing = match (disk.read_file(&path), disk.read_link(&at)) {
                (Some(bytes), _) => Thing::File(bytes, mode),
                (None, Ok(target)) => Thing::Link(String::from_utf8_lossy(&target).into_owned()),
                _ => Thing::Directory(mode),
            };
            known.insert(path, thing);
        }
        Self { known: Some(known), user, undo: None }
    }

    fn follow(&mut self, action: &Action, worked: bool, now: &Snapshot) -> Result<(), String> {
        let Some(known) = &mut self.known else { return Ok(()) };
        let before = known.clone();
        match action {
            Action::Commit(operations) => {
                let possible = operations.iter().take(MOST).try_for_each(|one| one.on(known));
                match (possible, worked) {
                    // What changes nothing leaves no trace, and what could be taken back still can.
                    (Some(()), true) if before == *known => {}
                    (Some(()), true) => self.undo = Some(before),
                    (_, false) => *known = before,
                    (None, true) => {
                        self.known = None;
                        return Ok(());
                    }
                }
            }
            Action::Rollback if worked => match self.undo.take() {
                Some(undo) => *known = undo,
                None => {
                    self.known = None;
                    return Ok(());
                }
            },
            Action::Trial(..) => {
                self.known = None;
                return Ok(());
            }
            Action::Rollback | Action::Confirm | Action::Reopen => {}
        }
        let disk = SimVfs::with(Options { user: self.user, ..Options::default() });
        for (path, thing) in known.iter() {
            match thing {
                Thing::File(bytes, mode) => disk.write_file(path, bytes).chmod(path, *mode),
                Thing::Directory(mode) => disk.make_dir(path).chmod(path, *mode),
                Thing::Link(target) => disk.make_symlink(target, path),
            };
        }
        match disk.snapshot().difference(now) {
            Some(difference) => Err(format!("{action:?} did something else than it says: {difference}")),
            None => Ok(()),
        }
    }
}

impl Operation {
    /// Does it in a model; nothing where the model does not know how.
    fn on(&self, tree: &mut BTreeMap<String, Thing>) -> Option<()> {
        fn parents(tree: &mut BTreeMap<String, Thing>, path: &str) {
            if let Some((parent, _)) = path.rsplit_once('/') {
                parents(tree, parent);
                tree.entry(parent.into()).or_insert(Thing::Directory(0o755));
            }
        }
        let below = |tree: &BTreeMap<String, Thing>, path: &str| -> Vec<String> {
            let inside = format!("{path}/");
            tree.keys().filter(|other| *other == path || other.starts_with(&inside)).cloned().collect()
        };
        match *self {
            Self::Put(at, kind) => {
                parents(tree, &at.text());
                let mode = match tree.get(&at.text()) {
                    Some(Thing::File(_, mode)) => *mode,
                    _ => 0o644,
                };
                tree.insert(at.text(), Thing::File(content(kind), mode));
            }
            Self::MakeDir(at) => {
                parents(tree, &at.text());
                tree.entry(at.text()).or_insert(Thing::Directory(0o755));
            }
            Self::Symlink(at, kind) => {
                parents(tree, &at.text());
                tree.insert(at.text(), Thing::Link(At(kind).text()));
            }
            Self::Remove(at) => {
                for path in below(tree, &at.text()) {
                    tree.remove(&path);
                }
            }
            Self::Rename(from, to) => {
                let moved: Vec<_> =
                    below(tree, &from.text()).into_iter().map(|path| (tree.remove(&path), path)).collect();
                parents(tree, &to.text());
                for (thing, path) in moved {
                    tree.insert(format!("{}{}", to.text(), &path[from.text().len()..]), thing?);
                }
            }
            Self::Mode(at, kind) => match tree.get_mut(&at.text())? {
                Thing::File(_, mode) | Thing::Directory(mode) => *mode = MODES[usize::from(kind & 7)],
                Thing::Link(_) => return None,
            },
            Self::Owner(..) | Self::Attribute(..) => return None,
        }
        Some(())
    }
}

/// A scenario from a seed, and the bytes that say the same to the fuzz target.
pub fn random(seed: u64) -> (Option<Scenario>, Vec<u8>) {
    let mut state = seed;
    let mut roll = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as u8
    };
    let bytes: Vec<u8> = (0..220).map(|_| roll()).collect();
    (read(&bytes), bytes)
}

/// The scenario of an input of the fuzz target.
pub fn read(bytes: &[u8]) -> Option<Scenario> {
    Scenario::arbitrary_take_rest(arbitrary::Unstructured::new(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_disk_keeps_the_promise_and_one_that_lies_is_found_out() {
        let mut broken = 0;
        for seed in 0..2000 {
            let Some(scenario) = random(seed).0 else { continue };
            assert_eq!(check(&scenario), Ok(()), "seed {seed}: {scenario:?}");
            broken += usize::from(check_on(&scenario, true).is_err());
        }
        assert!(broken > 10, "only {broken} of 2000 runs noticed that no sync works");
    }
}

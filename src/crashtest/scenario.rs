//! A package and a tree, and everything that surefoot promises of them.

use super::oracle::quiet;
use super::{After, Before};
use crate::device::{Config, Engine, PackageSettings, Settings, Status};
use crate::error::{Code, Error};
use crate::model::{Manifest, Policy};
use crate::package::Package;
use crate::vfs::SimVfs;
use crate::vfs::sim::{Found, Profile, Side, Snapshot};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

/// Opens the package, each time it is needed.
type Open = Box<dyn Fn() -> io::Result<Box<dyn Read>> + Sync + Send>;

/// A tree under care on a simulated disk, a package for it, and what the tree is before and after.
pub struct Scenario {
    /// The disk, with the tree at its old version.
    pub disk: SimVfs,
    /// The tree before.
    pub old: Snapshot,
    /// The tree after.
    pub new: Snapshot,
    /// The version before.
    pub from: String,
    /// The version after.
    pub to: String,
    times: bool,
    package: Open,
}

/// What is done to the tree, one call after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Apply, confirmed at once.
    Apply,
    /// Apply on trial, then confirm.
    Confirm,
    /// Apply on trial, then go back.
    Reject,
    /// Apply, confirmed at once, then go back.
    Undo,
}

/// What was promised to the caller, and what may be of the tree therefore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Nothing yet: old or new.
    Nothing,
    /// It was applied on trial.
    Trial,
    /// It is new for ever.
    New,
    /// Going back has begun: from new or trial, to old.
    GoingBack,
    /// It is old for ever.
    Old,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Apply, Self::Confirm, Self::Reject, Self::Undo];

    /// What it does, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Confirm => "apply on trial, confirm",
            Self::Reject => "apply on trial, roll back",
            Self::Undo => "apply, roll back",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Scenario {
    /// Takes the tree on a disk under care as version `from`, with `recorded` as what it holds, and applies the package
    /// once to see what it makes of it.
    ///
    /// The disk may lack what the package does not touch, as long as it is recorded.
    pub fn new(
        disk: &SimVfs,
        from: &str,
        recorded: &Manifest,
        package: impl Fn() -> io::Result<Box<dyn Read>> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let Policy { owner, mtime } = recorded.policy();
        let disk = disk.reboot_clean();
        let config = Config { owner, mtime, ..Config::default() };
        drop(Engine::init(disk.clone(), config, from, Some(recorded))?);
        let disk = disk.reboot_clean();
        let old = snapshot(&disk, mtime);
        let mut scenario = Self {
            disk,
            new: old.clone(),
            old,
            from: from.into(),
            to: String::new(),
            times: mtime,
            package: Box::new(package),
        };
        let done = scenario.disk.fork();
        let mut engine = Engine::open(done.clone())?;
        scenario.apply(&mut engine, settings(false))?;
        scenario.to = engine.current()?.version;
        scenario.new = scenario.snapshot(&done);
        Ok(scenario)
    }

    /// The same on a disk of another profile and seed.
    #[must_use]
    pub fn disk_of(&self, profile: Profile, seed: u64) -> SimVfs {
        let disk = self.disk.fork();
        disk.set_options(|options| (options.profile, options.seed) = (profile, seed));
        disk
    }

    /// The tree on a disk, as far as it counts.
    pub fn snapshot(&self, disk: &SimVfs) -> Snapshot {
        snapshot(disk, self.times)
    }

    /// Applies the package.
    pub fn apply(&self, engine: &mut Engine<SimVfs>, settings: Settings) -> Result<(), Error> {
        let unreadable = |error| Error::new(Code::Io, "the package cannot be read again").because(error);
        let package = Package::open((self.package)().map_err(unreadable)?)?.accept_unsigned()?;
        let settings = PackageSettings { settings, allow_downgrade: true, ..PackageSettings::default() };
        engine.apply(package, &settings, &()).map(drop)
    }

    /// Does an act; errors end it. Gives what had been promised by then.
    pub fn perform(&self, act: Act, disk: &SimVfs) -> (Promise, Option<Error>) {
        let mut promise = Promise::Nothing;
        let result = self.act(act, disk, &mut promise);
        (promise, result.err())
    }

    fn act(&self, act: Act, disk: &SimVfs, promise: &mut Promise) -> Result<(), Error> {
        let mut engine = Engine::open(disk.clone())?;
        engine.recover(&())?;
        self.apply(&mut engine, settings(matches!(act, Act::Confirm | Act::Reject)))?;
        match act {
            Act::Apply => *promise = Promise::New,
            Act::Confirm => {
                *promise = Promise::Trial;
                engine.confirm(&())?;
                *promise = Promise::New;
            }
            Act::Reject | Act::Undo => {
                *promise = Promise::GoingBack;
                engine.rollback(&())?;
                *promise = Promise::Old;
            }
        }
        Ok(())
    }

    /// What the tree on a disk is as the power cut left it.
    pub fn before(&self, disk: &SimVfs) -> Before {
        let tree = self.snapshot(disk);
        match (tree == self.old, tree == self.new) {
            (true, _) => Before::Old,
            (_, true) => Before::New,
            _ if tree.holds_only(&self.old, &self.new) => Before::Mixed,
            _ => Before::Damaged,
        }
    }

    /// Recovers and checks everything that is promised. Gives which of the two trees it is.
    ///
    /// The tree is exactly old or new, as promised (*present*), and what is reported is what is there (*honest*); a
    /// second recovery writes nothing (*quiet*); nothing is left but what the generations need (*clean*); and confirm,
    /// roll back, apply and further boots still work (*futures*).
    pub fn judge(&self, disk: &SimVfs, promise: Promise) -> Result<After, String> {
        self.judge_once(disk, promise, &Mutex::default())
    }

    /// [`Scenario::judge`], but the futures of a disk that recovery leaves are tried only once: nothing of them depends
    /// on times. `known` has the hashes of those whose futures were good.
    pub(super) fn judge_once(
        &self,
        disk: &SimVfs,
        promise: Promise,
        known: &Mutex<HashSet<u128>>,
    ) -> Result<After, String> {
        let status = recover(disk)?;
        let after = self.present(disk, promise, &status)?;
        quiet(disk, recover)?;
        self.clean(disk, &status)?;
        let known = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = disk.hash_without_times();
        if !known().contains(&hash) {
            self.futures(disk, &status)?;
            known().insert(hash);
        }
        Ok(after)
    }

    /// The tree is exactly old or new, as promised, and as reported.
    pub fn present(&self, disk: &SimVfs, promise: Promise, status: &Status) -> Result<After, String> {
        let tree = self.snapshot(disk);
        let (is_old, is_new) = (tree == self.old, tree == self.new);
        if !is_old && !is_new {
            return Err(format!("neither old nor new: {}", sides(&tree.between(&self.old, &self.new))));
        }
        let trial = status.state == "trial";
        let kept = match promise {
            Promise::Nothing | Promise::GoingBack => true,
            Promise::Trial => is_new,
            Promise::New => is_new && !trial,
            Promise::Old => is_old && !trial,
        };
        if !kept {
            return Err(format!("promised {promise:?}, but the tree is {}", if is_old { "old" } else { "new" }));
        }
        let at_new = self.is_new(status);
        let honest = if at_new { is_new } else { is_old };
        if !honest || !(trial && status.version == self.from || status.state == "idle") {
            return Err(format!(
                "reported {} in state {}, which is not what the tree is",
                status.version, status.state
            ));
        }
        Ok(if at_new { After::New } else { After::Old })
    }

    /// Does the engine say that the tree is the new one?
    fn is_new(&self, status: &Status) -> bool {
        let kept = if self.from == self.to { status.rollback.is_some() } else { status.version == self.to };
        status.state == "trial" || kept
    }

    /// Nothing is left but what the generations need.
    fn clean(&self, disk: &SimVfs, status: &Status) -> Result<(), String> {
        let listing = disk.state_listing();
        let count = |tail: &str| listing.iter().filter(|path| path.ends_with(tail)).count();
        let is_odd = |path: &&String| {
            let parts: Vec<&str> = path.split('/').collect();
            let beside = |name: &str| listing.contains(&format!("generations/{}/{name}", parts[1]));
            match parts[..] {
                ["journal" | "lock" | "config" | "history" | "poison" | "scratch" | "manifests" | "generations"]
                | ["manifests", _]
                | ["generations", _, "state" | "plan"] => false,
                // What was unpacked before a transaction is not unpacked again. During a trial nothing is swept.
                ["generations", _, "unpacked"] => beside("state") && status.state != "trial",
                ["generations", _] => !beside("state") && !beside("unpacked"),
                ["generations", _, "slots" | "aside", ..] => !beside("plan") && !beside("unpacked"),
                _ => true,
            }
        };
        let odd: Vec<_> = listing.iter().filter(is_odd).collect();
        if !odd.is_empty() {
            return Err(format!("not clean: {odd:?}"));
        }
        let manifests = listing.iter().filter(|path| path.starts_with("manifests/")).count();
        let (states, plans) = (count("/state"), count("/plan"));
        let expected = if self.is_new(status) { (2, 1) } else { (1, 0) };
        if (states, plans) != expected || manifests > states || count("/unpacked") > 1 {
            return Err(format!(
                "not clean: {states} states, {plans} plans and {manifests} manifests, expected {expected:?}: {listing:#?}"
            ));
        }
        Ok(())
    }

    /// From here everything that should be possible is: confirm, go back, apply, and another boot agrees.
    fn futures(&self, disk: &SimVfs, status: &Status) -> Result<(), String> {
        if status.state != "trial" {
            return if self.is_new(status) {
                self.future(disk, "undo", Promise::Old, |engine| engine.rollback(&()).map(drop))
            } else {
                self.future(disk, "apply again", Promise::New, |engine| self.apply(engine, settings(false)))
            };
        }
        self.future(disk, "confirm", Promise::New, |engine| engine.confirm(&()))?;
        self.future(disk, "rollback", Promise::Old, |engine| engine.rollback(&()).map(drop))?;
        // Boots without a decision lead back.
        let mut disk = disk.fork();
        for _ in 0..=ATTEMPTS {
            disk = disk.reboot_clean();
            recover(&disk)?;
        }
        self.rebooted("boots without a decision", &disk, Promise::Old)
    }

    fn future(
        &self,
        disk: &SimVfs,
        what: &str,
        promise: Promise,
        act: impl FnOnce(&mut Engine<SimVfs>) -> Result<(), Error>,
    ) -> Result<(), String> {
        let disk = disk.fork();
        let mut engine = Engine::open(disk.clone()).map_err(|error| format!("{what}: {}", told(&error)))?;
        act(&mut engine).map_err(|error| format!("{what}: {}", told(&error)))?;
        drop(engine);
        self.rebooted(what, &disk, promise)
    }

    fn rebooted(&self, what: &str, disk: &SimVfs, promise: Promise) -> Result<(), String> {
        let disk = disk.reboot_clean();
        let agrees = || {
            let status = recover(&disk)?;
            self.present(&disk, promise, &status)?;
            self.clean(&disk, &status)
        };
        agrees().map_err(|error| format!("after {what}: {error}"))
    }
}

/// Which paths are whose: the first few of each kind.
fn sides(found: &[Found]) -> String {
    let of = |side: Side, title: &str| {
        let paths: Vec<&str> = found.iter().filter(|found| found.side == side).map(|found| &*found.path).collect();
        let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
        (!paths.is_empty()).then(|| format!("{title} {}{more}", paths[..paths.len().min(3)].join(", ")))
    };
    let parts = [of(Side::Neither, "changed"), of(Side::Old, "old"), of(Side::New, "new")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Boots that a trial may take here.
const ATTEMPTS: u32 = 2;

fn settings(trial: bool) -> Settings {
    Settings { trial, attempts: ATTEMPTS, ..Settings::default() }
}

fn snapshot(disk: &SimVfs, times: bool) -> Snapshot {
    if times { disk.snapshot_with_times() } else { disk.snapshot() }
}

/// One uninterrupted recovery.
pub fn recover(disk: &SimVfs) -> Result<Status, String> {
    let recovered = || {
        let mut engine = Engine::open(disk.clone())?;
        engine.recover(&())?;
        engine.status()
    };
    recovered().map_err(|error| format!("recovery failed: {}", told(&error)))
}

fn told(error: &Error) -> String {
    let mut text = format!("{}: {error}", error.code().as_str());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

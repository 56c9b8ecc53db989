//! The forgetful disk: a file system in memory that knows what a crash may leave of it.
//!
//! Every call takes effect at once for whoever looks, and adds its *effects* to a list of what is not durable yet. A
//! sync moves effects from the list to the durable image, as far as the [`Profile`] of the disk promises. At any moment
//! [`SimVfs::for_each_crash_image`] enumerates the images that a loss of power may leave, and [`Image::mount`] boots one.
//!
//! ```
//! use surefoot::vfs::sim::{Budget, Options, Profile, SimVfs};
//! use surefoot::vfs::{Place, Rename, Vfs};
//! use surefoot::model::TreePath;
//!
//! let disk = SimVfs::with(Options { profile: Profile::Posix, ..Options::default() });
//! disk.write_file("a", b"old");
//! let at = |path| Place::tree(&TreePath::parse(path).unwrap());
//! let file = disk.create(&at("a.new")).unwrap();
//! disk.write_at(&file, 0, b"new").unwrap();
//! disk.sync_all().unwrap();
//! disk.rename(&at("a.new"), &at("a"), Rename::Replace).unwrap();
//! let counts = disk.for_each_crash_image(&Budget::default(), &mut |image| {
//!     let after = image.mount().read_file("a").unwrap();
//!     assert!(after == b"old" || after == b"new", "{}", image.choice());
//! });
//! assert_eq!(counts.distinct, 2);
//! ```

mod calls;
mod content;
mod crash;
mod disk;
mod faults;
mod hash;
mod setup;
mod snapshot;
#[cfg(test)]
mod tests;

pub use calls::{SimFile, SimLock};
pub use crash::{Budget, Choice, Counts, Image, Survivors};
pub use faults::{Faults, PowerLoss, Repeat, When, is_power_loss};
pub(crate) use hash::Dice;
pub use rustix::io::Errno;
pub use snapshot::{Found, Side, Snapshot};

use crate::model::Time;
use content::PAGE;
use disk::{Body, Change, Disk, Effect, Id, Inode, ROOT};
use faults::{Nature, SyncFate};
use hash::mix;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of the state directory in the root of the tree.
const STATE_NAME: &[u8] = b".surefoot";

/// A disk in memory that can forget. A clone is the same disk; [`SimVfs::fork`] makes another one.
#[derive(Clone)]
pub struct SimVfs {
    shared: Arc<Mutex<State>>,
}

/// Which effects may survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// What was done up to some moment, and nothing after it. A sync of a file makes all before it durable.
    Prefix,
    /// Metadata up to some moment; data and length of files in any subset, where lost data reads as zeros. A sync of a
    /// file makes its data and all metadata before it durable. (ext4 ordered, xfs, ubifs.)
    Somc,
    /// As [`Profile::Somc`], but lost data of new blocks reads as garbage. (ext4 writeback.)
    SomcStale,
    /// As [`Profile::Somc`], but a sync of a file makes only that file durable, with the name it was created under and
    /// the directories made for it: it jumps ahead of everything else. (btrfs, f2fs.)
    PerInode,
    /// Any subset. A sync of a file makes durable its data and length, not its name and not its metadata.
    Posix,
    /// As [`Profile::Posix`], and a rename, exchange or replacement may be cut: both names, or none. (vfat, ext2.)
    Split,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Prefix, Self::Somc, Self::SomcStale, Self::PerInode, Self::Posix, Self::Split];
    /// Those in which a rename is atomic: what a file system must give for surefoot to work on it.
    pub const ATOMIC: [Self; 5] = [Self::Prefix, Self::Somc, Self::SomcStale, Self::PerInode, Self::Posix];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Somc => "somc",
            Self::SomcStale => "somc-stale",
            Self::PerInode => "per-inode",
            Self::Posix => "posix",
            Self::Split => "split",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of disk it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which effects may survive a crash.
    pub profile: Profile,
    /// Where everything that looks random comes from.
    pub seed: u64,
    /// Is there a state directory from the start?
    pub state_directory: bool,
    /// `RENAME_EXCHANGE` works; `EINVAL` otherwise.
    pub exchange: bool,
    /// Hard links work; `EPERM` otherwise.
    pub hard_links: bool,
    /// Symbolic links work; `EPERM` otherwise.
    pub symlinks: bool,
    /// Extended attributes work; `EOPNOTSUPP` otherwise.
    pub xattrs: bool,
    /// Files can share blocks.
    pub reflink: bool,
    /// What `capabilities` says of renames across a crash.
    pub atomic_rename: bool,
    /// A sync of everything reports its errors. One that does not loses data in silence when it fails.
    pub sync_all_reports: bool,
    /// Names that differ in ASCII case only are the same name.
    pub folds_case: bool,
    /// The effective user; only 0 may give files away, change those of others, or pass over permissions.
    pub user: u32,
    /// The effective group; nothing for the one with the number of the user.
    pub group: Option<u32>,
    /// Another group that this user is in, besides the effective one.
    pub second_group: Option<u32>,
    /// Modes are taken and forgotten, as on some network file systems.
    pub forgets_modes: bool,
    /// Inode numbers are used again, once neither memory nor disk knows them.
    pub reuse_inodes: bool,
    /// Times are kept in steps of this many seconds; 0 keeps nanoseconds.
    pub time_step_seconds: u32,
    /// Size of the disk in bytes of file content, counted in pages of 4096.
    pub limit_bytes: Option<u64>,
    /// Most inodes, the root included.
    pub limit_inodes: Option<u64>,
    /// Keep a list of all calls, for [`SimVfs::trace`].
    pub trace: bool,
}

impl Options {
    fn group(&self) -> u32 {
        self.group.unwrap_or(self.user)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Posix,
            seed: 1,
            state_directory: true,
            exchange: true,
            hard_links: true,
            symlinks: true,
            xattrs: true,
            reflink: false,
            atomic_rename: true,
            sync_all_reports: true,
            folds_case: false,
            user: 0,
            group: None,
            second_group: None,
            forgets_modes: false,
            reuse_inodes: false,
            time_step_seconds: 0,
            limit_bytes: None,
            limit_inodes: None,
            trace: false,
        }
    }
}

/// One call, as the trace shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    /// Its number among all calls: what [`Faults::fail_call`] takes.
    pub number: u64,
    /// Its number among those that mutate or sync: what [`SimVfs::crash_at`] takes.
    pub step: Option<u64>,
    /// What was called.
    pub text: String,
    /// The error, if it failed.
    pub error: Option<String>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} ", self.number)?;
        match self.step {
            Some(step) => write!(f, "{step:5} ")?,
            None => f.write_str("    - ")?,
        }
        f.write_str(&self.text)?;
        self.error.iter().try_for_each(|error| write!(f, ": {error}"))
    }
}

/// An effect that is not durable on its own account, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEffect {
    /// The call that made it: its number among those that mutate or sync.
    pub call: u64,
    /// Has a sync made sure that it survives? It waits only for its turn behind those that need not.
    pub forced: bool,
    /// What it is.
    pub text: String,
}

impl fmt::Display for PendingEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}: {}", self.call, self.text)
    }
}

/// Everything that a disk and its kernel know.
#[derive(Clone)]
struct State {
    options: Options,
    /// What can be seen: the durable image with every pending effect, and the data that a failed sync has lost.
    live: Disk,
    durable: Disk,
    pending: Vec<Pending>,
    /// Does the cache hold data that the disk has lost?
    diverged: bool,
    memory: Memory,
    faults: Faults,
    crash_at: Option<u64>,
    crashed: bool,
    counters: Counters,
    /// A test changes the disk from outside: nobody asks for permission.
    outside: bool,
    open: BTreeMap<Id, u32>,
    locks: BTreeSet<Id>,
    trace: Vec<Call>,
}

/// An effect that is not durable on its own account.
#[derive(Clone)]
struct Pending {
    effect: Arc<Effect>,
    /// Must it survive? It waits only for its turn behind those that need not.
    forced: bool,
}

/// What never repeats on one disk, crash or not.
#[derive(Clone, Copy)]
struct Memory {
    next_inode: Id,
    boots: u64,
    fresh_ids: u64,
    ticks: u64,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    all: u64,
    steps: u64,
    file_syncs: u64,
    full_syncs: u64,
    mutations: u64,
}

impl SimVfs {
    /// A disk with default [`Options`]: `posix`, the adversary, with every capability.
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// A disk that holds nothing but, if wanted, the state directory.
    pub fn with(options: Options) -> Self {
        let memory = Memory { next_inode: ROOT + 1, boots: 0, fresh_ids: 0, ticks: 0 };
        let owner = (options.user, options.group());
        let disk = Disk::new(Inode::new(Body::directory(), ROOT, 0o755, owner, Time::default()));
        let made = options.state_directory;
        let vfs = Self::boot(options, memory, disk);
        if made {
            vfs.make_dir(".surefoot").chmod(".surefoot", 0o700);
        }
        vfs
    }

    /// An independent copy, with the same cache, pending effects, counters and faults; no file of it is open and no
    /// lock held.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.open.clear();
        state.locks.clear();
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// The disk as the next process finds it when this one was killed at the call of [`SimVfs::crash_at`]: nothing is
    /// lost, and the session is the same.
    #[must_use]
    pub fn killed(&self) -> Self {
        let next = self.fork();
        {
            let mut state = next.state();
            (state.crashed, state.crash_at) = (false, None);
        }
        next
    }

    /// The disk after an orderly shutdown and start: everything pending is durable, the session is another one, and
    /// the faults and counters are gone.
    pub fn reboot_clean(&self) -> Self {
        let mut state = self.state().clone();
        state.commit_all();
        Self::boot(state.options, state.memory, state.durable)
    }

    /// The options.
    pub fn options(&self) -> Options {
        self.state().options.clone()
    }

    /// Changes options from now on.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.state().options);
    }

    /// Replaces the schedule of failures. Its numbers count from the start of this disk, not from now.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Power is lost at the mutating-or-sync call with this number, counting from 0: it and every later call of any
    /// kind fail with [`PowerLoss`] and do nothing.
    pub fn crash_at(&self, step: u64) {
        self.state().crash_at = Some(step);
    }

    /// The disk as the next process finds it when this one was killed at [`SimVfs::crash_at`] and the machine runs on:
    /// cache, pending effects, counters and session are as they were.
    pub fn revive(&self) -> Self {
        let next = self.fork();
        {
            let mut state = next.state();
            (state.crash_at, state.crashed) = (None, false);
        }
        next
    }

    /// Has power been lost?
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// How many calls were made that mutate or sync.
    pub fn calls(&self) -> u64 {
        self.state().counters.steps
    }

    /// How many calls were made that do neither.
    pub fn reads(&self) -> u64 {
        let counters = self.state().counters;
        counters.all - counters.steps
    }

    /// How many calls were made.
    pub fn all_calls(&self) -> u64 {
        self.state().counters.all
    }

    /// How many syncs of both kinds were made: each is a barrier.
    pub fn syncs(&self) -> u64 {
        let counters = self.state().counters;
        counters.file_syncs + counters.full_syncs
    }

    /// How many syncs were made of one file, and of everything.
    pub fn barriers(&self) -> (u64, u64) {
        let counters = self.state().counters;
        (counters.file_syncs, counters.full_syncs)
    }

    /// How many calls have changed something.
    pub fn mutations(&self) -> u64 {
        self.state().counters.mutations
    }

    /// The calls so far, if [`Options::trace`] is set.
    pub fn trace(&self) -> Vec<Call> {
        self.state().trace.clone()
    }

    /// The effects that are not durable, oldest first.
    pub fn pending(&self) -> Vec<PendingEffect> {
        let state = self.state();
        let mut names = BTreeMap::new();
        state.live.names(&mut names);
        state.durable.names(&mut names);
        let name = |id: Id| match names.get(&id) {
            Some(path) if !path.is_empty() => format!("{path} (inode {id})"),
            Some(_) => "the root".into(),
            None => format!("inode {id}"),
        };
        let path = |id: Id| names.get(&id).cloned().unwrap_or_else(|| format!("inode {id}"));
        let told = |Pending { effect, forced }: &Pending| {
            let text = match effect.change {
                Change::Entries { .. } => effect.describe(&path),
                _ => effect.describe(&name),
            };
            PendingEffect { call: effect.call, forced: *forced, text }
        };
        state.pending.iter().map(told).collect()
    }

    fn boot(options: Options, memory: Memory, disk: Disk) -> Self {
        let state = State {
            options,
            live: disk.clone(),
            durable: disk,
            pending: Vec::new(),
            diverged: false,
            memory: Memory { boots: memory.boots + 1, ..memory },
            faults: Faults::none(),
            crash_at: None,
            crashed: false,
            counters: Counters::default(),
            outside: false,
            open: BTreeMap::new(),
            locks: BTreeSet::new(),
            trace: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SimVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let counters = state.counters;
        f.debug_struct("SimVfs")
            .field("profile", &state.options.profile)
            .field("seed", &state.options.seed)
            .field("steps", &counters.steps)
            .field("pending", &state.pending.len())
            .field("crashed", &state.crashed)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Counts a call and decides whether it happens: the error it fails with instead, or the one it fails with after.
    fn begin(&mut self, nature: Nature) -> Result<Option<Errno>, std::io::Error> {
        let step = self.counters.steps;
        self.crashed |= nature != Nature::Read && self.crash_at.is_some_and(|at| step >= at);
        if self.crashed {
            return Err(std::io::Error::other(PowerLoss));
        }
        let number = self.counters.all;
        self.counters.all += 1;
        self.counters.steps += u64::from(nature != Nature::Read);
        self.memory.ticks += u64::from(nature == Nature::Mutate);
        match self.faults.of_call(number, nature) {
            Some((errno, When::Before)) => Err(errno.into()),
            Some((errno, When::After)) => Ok(Some(errno)),
            None => Ok(None),
        }
    }

    /// Makes changes visible, and pending.
    fn record(&mut self, changes: Vec<Change>) {
        self.counters.mutations += 1;
        let (call, time) = (self.counters.steps.saturating_sub(1), self.time());
        for change in changes {
            let parts = match change {
                Change::Entries { mut made, links } if self.options.profile == Profile::Split && links.len() > 1 => {
                    links.into_iter().map(|link| Change::Entries { made: made.take(), links: vec![link] }).collect()
                }
                whole => vec![whole],
            };
            for change in parts {
                let effect = Arc::new(Effect { change, call, time });
                self.live.apply(&effect);
                self.pending.push(Pending { effect, forced: false });
            }
        }
        self.settle();
    }

    /// Frees what has neither a name nor a handle.
    fn settle(&mut self) {
        let open = &self.open;
        self.live.settle(|id| open.contains_key(&id));
    }

    /// Makes one file durable, or everything.
    fn sync(&mut self, file: Option<Id>) -> Result<(), Errno> {
        let number = self.counters.file_syncs + self.counters.full_syncs;
        match file {
            Some(_) => self.counters.file_syncs += 1,
            None => self.counters.full_syncs += 1,
        }
        match self.faults.of_sync(number) {
            SyncFate::Works => {
                self.force(file);
                Ok(())
            }
            SyncFate::Lies => Ok(()),
            SyncFate::Fails => {
                self.lose(file, number);
                if file.is_none() && !self.options.sync_all_reports {
                    self.force(None);
                    return Ok(());
                }
                Err(Errno::IO)
            }
        }
    }

    fn force(&mut self, file: Option<Id>) {
        let Some(id) = file.filter(|_| self.options.profile != Profile::Prefix) else {
            return self.commit_all();
        };
        let profile = self.options.profile;
        for pending in &mut self.pending {
            let change = &pending.effect.change;
            let own = change.inode() == Some(id);
            pending.forced |= match profile {
                Profile::Prefix => true,
                Profile::Somc | Profile::SomcStale => own || !change.is_data(),
                Profile::PerInode => own,
                Profile::Posix | Profile::Split => own && change.is_data(),
            };
        }
        if profile == Profile::PerInode {
            self.force_name(id);
        }
        let ready = self.pending.iter().take_while(|pending| pending.forced).count();
        self.pending.drain(..ready).for_each(|pending| self.durable.apply(&pending.effect));
        self.durable.settle(|_| false);
    }

    /// Forces the entry that an inode was created under, and those of the directories above that are new too.
    fn force_name(&mut self, id: Id) {
        let mut wanted = vec![id];
        while let Some(id) = wanted.pop() {
            for pending in &mut self.pending {
                if let Change::Entries { made: Some((made, _)), links } = &pending.effect.change
                    && *made == id
                    && !pending.forced
                {
                    pending.forced = true;
                    wanted.extend(links.iter().map(|link| link.directory));
                }
            }
        }
    }

    fn commit_all(&mut self) {
        if self.diverged {
            self.pending.drain(..).for_each(|pending| self.durable.apply(&pending.effect));
        } else {
            self.pending.clear();
            self.durable = self.live.clone();
            self.open.keys().for_each(|id| self.durable.closed(*id));
        }
        self.durable.settle(|_| false);
    }

    /// What a failed sync does: data is lost, and the kernel forgets that it was dirty.
    fn lose(&mut self, file: Option<Id>, number: u64) {
        let mut dice = Dice(mix(self.options.seed, number));
        let before = self.pending.len();
        self.pending.retain(|pending| {
            let change = &pending.effect.change;
            let concerned = matches!(change, Change::Data { .. }) && (file.is_none() || change.inode() == file);
            pending.forced || !concerned || dice.chance(1, 2)
        });
        self.diverged |= self.pending.len() < before;
    }

    /// The logical clock: a millisecond for each call that mutates.
    fn time(&self) -> Time {
        let ticks = self.memory.ticks;
        let time =
            Time { seconds: 1_700_000_000 + (ticks / 1000) as i64, nanoseconds: (ticks % 1000) as u32 * 1_000_000 };
        self.kept(time)
    }

    /// A time as this disk can keep it.
    fn kept(&self, time: Time) -> Time {
        match i64::from(self.options.time_step_seconds) {
            0 => time,
            step => Time { seconds: time.seconds.div_euclid(step) * step, nanoseconds: 0 },
        }
    }

    fn free_pages(&self) -> u64 {
        let limit = self.options.limit_bytes.map_or(1 << 30, |bytes| bytes / PAGE as u64);
        limit.saturating_sub(self.live.pages)
    }

    fn free_inodes(&self) -> u64 {
        self.options.limit_inodes.unwrap_or(1 << 30).saturating_sub(self.live.inodes)
    }

    /// A new inode, its id and its number.
    fn new_inode(&mut self) -> Result<(Id, u64), Errno> {
        if self.free_inodes() == 0 {
            return Err(Errno::NOSPC);
        }
        let id = self.memory.next_inode;
        self.memory.next_inode += 1;
        let number = if self.options.reuse_inodes {
            let used: BTreeSet<u64> =
                self.live.all().chain(self.durable.all()).map(|(_, inode)| inode.number).collect();
            (ROOT..).find(|number| !used.contains(number)).unwrap_or(id)
        } else {
            id
        };
        Ok((id, number))
    }
}

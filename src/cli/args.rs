//! What can be asked for.

use super::repo_args::Repo;
use crate::device::{PackageSettings, Settings, VerifyDepth};
use crate::limits;
use crate::model::Policy;
use crate::package::Level;
use crate::transaction::Recovery;
use crate::vfs::sim::Profile;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Updates a directory tree so that, wherever the power fails, it ends exactly old or exactly new
#[derive(Debug, Parser)]
#[command(name = "surefoot", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed before any change; 2 usage; 3 not trusted; 4 the tree is not as \
                          expected; 5 no space; 6 not available, try later; 7 failed and the old tree is back; \
                          8 undecided, run recover after a reboot; 9 another process holds the lock";

#[derive(Debug, Args)]
pub(super) struct Global {
    /// The managed tree
    #[arg(long, global = true, env = "SUREFOOT_ROOT", hide_env_values = true, default_value = ".", value_name = "DIR")]
    pub(super) root: PathBuf,
    /// Where its state is [default: .surefoot in the tree]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// One JSON object per line on stdout, errors too, and nothing else
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress and no messages
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// What is being done, on stderr
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key pair: NAME (secret) and NAME.pub
    Keygen(Keygen),
    /// Tell what changed between two trees
    Diff(Diff),
    /// Build a package from two trees, or a full one from one
    Build(Build),
    /// Add a signature to a package, or to root metadata
    Sign(Sign),
    /// Show what a package is and does
    Inspect(Inspect),
    /// Publish packages in a repository that any web server can serve
    Repo(Repo),
    /// Take a tree under care, as some version
    Init(Init),
    /// Apply a package
    Apply(Apply),
    /// Ask whether there is an update, which way it would go, and what it would cost
    Check(Check),
    /// Fetch the update, going on where it was interrupted, verify and apply it
    Update(Update),
    /// Tell every operation of an update, and what it would cost
    Plan(Plan),
    /// End the trial: the new version stays
    Confirm,
    /// Go back to the version before
    Rollback,
    /// Finish or undo whatever a crash left; safe to run always
    Recover(Recover),
    /// Tell what is installed and pending
    Status,
    /// Tell what happened
    History,
    /// Ask whether the tree is what it should be
    Verify(Verify),
    /// Look into the write-ahead journal
    Journal(Journal),
    /// Cut the power at every call of an update, on a simulated disk
    Crashtest(Crashtest),
    /// Print the completions for a shell
    Completions(Completions),
    /// Print the manual page, or write all of them
    Man(Man),
}

impl Command {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Keygen(_) => "keygen",
            Self::Diff(_) => "diff",
            Self::Build(_) => "build",
            Self::Sign(_) => "sign",
            Self::Inspect(_) => "inspect",
            Self::Repo(Repo { what }) => what.name(),
            Self::Init(_) => "init",
            Self::Apply(_) => "apply",
            Self::Check(_) => "check",
            Self::Update(_) => "update",
            Self::Plan(_) => "plan",
            Self::Confirm => "confirm",
            Self::Rollback => "rollback",
            Self::Recover(_) => "recover",
            Self::Status => "status",
            Self::History => "history",
            Self::Verify(_) => "verify",
            Self::Journal(Journal { what: JournalCommand::Show }) => "journal show",
            Self::Crashtest(_) => "crashtest",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// Where the secret key goes; the public one goes beside it, as NAME.pub
    #[arg(short, long, value_name = "NAME")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The one tree
    pub(super) old: PathBuf,
    /// The other
    pub(super) new: PathBuf,
    #[command(flatten)]
    pub(super) identity: Identity,
}

/// What counts as the identity of a tree besides content, mode, links and extended attributes.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Identity {
    /// Owner and group count; auto: when run as root
    #[arg(long, value_enum, default_value_t = Owner::Auto)]
    pub(super) owner: Owner,
    /// Modification times count
    #[arg(long)]
    pub(super) mtime: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Owner {
    Auto,
    Yes,
    No,
}

impl Identity {
    /// As this user has it.
    pub(super) fn policy(self, user: u32) -> Policy {
        let owner = match self.owner {
            Owner::Auto => user == 0,
            Owner::Yes => true,
            Owner::No => false,
        };
        Policy { owner, mtime: self.mtime }
    }
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// The tree before and the tree after; with --full, the tree alone
    #[arg(required = true, num_args = 1..=2, value_names = ["OLD", "NEW"])]
    pub(super) trees: Vec<PathBuf>,
    /// A package of the whole tree, for whatever is there
    #[arg(long, conflicts_with = "from")]
    pub(super) full: bool,
    /// The version of OLD
    #[arg(long, value_name = "VERSION")]
    pub(super) from: Option<String>,
    /// The version of NEW
    #[arg(long, value_name = "VERSION")]
    pub(super) to: String,
    /// The architecture that it is for [default: every one]
    #[arg(long)]
    pub(super) arch: Option<String>,
    /// A secret key that signs it; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) key: Vec<PathBuf>,
    /// How much time compression may take
    #[arg(long, value_enum, default_value_t = Effort::Default)]
    pub(super) level: Effort,
    /// Most memory that building a patch takes, in MiB [default: half of what the machine, or the control group, has]
    #[arg(long, value_name = "MIB")]
    pub(super) max_memory: Option<u64>,
    /// Words for people
    #[arg(long, value_name = "TEXT")]
    pub(super) notes: Option<String>,
    #[command(flatten)]
    pub(super) identity: Identity,
    /// The kind of package; tar.gz is that of the service manifest
    #[arg(long, value_enum, default_value_t = Format::Surefoot)]
    pub(super) format: Format,
    /// Where the JSON entry of a tar.gz package goes [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(super) entry: Option<PathBuf>,
    /// Do not try the package before it is called good
    #[arg(long)]
    pub(super) no_prove: bool,
    /// Where the package goes
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Surefoot,
    #[value(name = "tar.gz")]
    TarGz,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Effort {
    Fast,
    Default,
    Best,
}

impl From<Effort> for Level {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Fast => Self::Fast,
            Effort::Default => Self::Default,
            Effort::Best => Self::Best,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The package, or root metadata of a repository
    pub(super) package: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The package
    pub(super) package: PathBuf,
    /// A file with public keys, one of which must have signed it; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Vec<PathBuf>,
    /// Check its content although nobody vouches for it
    #[arg(long, conflicts_with = "trust")]
    pub(super) allow_unsigned: bool,
    /// Draw what makes it large, as a page
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The version that the tree is
    #[arg(long, value_name = "VERSION")]
    pub(super) version: String,
    /// A file with public keys that packages may be signed by, or root metadata of a repository; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Vec<PathBuf>,
    /// How many updates can be rolled back after they were confirmed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=i64::from(limits::KEEP)))]
    pub(super) keep: u32,
    #[command(flatten)]
    pub(super) identity: Identity,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The package
    pub(super) package: PathBuf,
    /// The JSON entry of a tar.gz package of the service manifest
    #[arg(long, value_name = "FILE")]
    pub(super) entry: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: Applying,
}

/// How a package is applied.
#[derive(Debug, Args)]
pub(super) struct Applying {
    /// Wait for confirm or rollback
    #[arg(long)]
    pub(super) trial: bool,
    /// Boots after which a trial that nobody confirmed is rolled back
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::TRIAL_ATTEMPTS)))]
    pub(super) max_attempts: u32,
    /// A file with public keys that are trusted this time, besides those of the tree; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Vec<PathBuf>,
    /// Apply it whoever has made it
    #[arg(long)]
    pub(super) allow_unsigned: bool,
    /// Install an older version over a newer one
    #[arg(long)]
    pub(super) allow_downgrade: bool,
    /// The architecture of this device
    #[arg(long, default_value = std::env::consts::ARCH)]
    pub(super) arch: String,
    /// Most memory that unpacking a part of the package may take, in MiB [default: what a package may ask for]
    #[arg(long, value_name = "MIB")]
    pub(super) max_memory: Option<u64>,
    /// Refuse a package that uses LZMA, whose decoder is slow
    #[arg(long)]
    pub(super) no_lzma: bool,
    /// How much of the tree is compared with its record first
    #[arg(long, value_enum, default_value_t = Depth::Touched)]
    pub(super) verify: Depth,
    /// What recovery does if the power fails half-way
    #[arg(long, value_enum, default_value_t = OnInterrupt::Forward)]
    pub(super) on_interrupt: OnInterrupt,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Depth {
    /// The content of every path that changes
    Touched,
    /// That, and size, times and inode of everything else
    Index,
    /// The content of everything
    Full,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnInterrupt {
    Forward,
    Backward,
}

impl Applying {
    pub(super) fn package_settings(&self) -> PackageSettings {
        PackageSettings {
            settings: self.settings(),
            architecture: Some(self.arch.clone()),
            allow_downgrade: self.allow_downgrade,
            memory: self.max_memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
            refuse_lzma: self.no_lzma,
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            trial: self.trial,
            attempts: self.max_attempts,
            recovery: match self.on_interrupt {
                OnInterrupt::Forward => Recovery::Forward,
                OnInterrupt::Backward => Recovery::Backward,
            },
            verify: match self.verify {
                Depth::Touched => VerifyDepth::Touched,
                Depth::Index => VerifyDepth::Index,
                Depth::Full => VerifyDepth::Full,
            },
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) way: Choosing,
    #[command(flatten)]
    pub(super) web: Web,
    /// Look for an older version, too, if there is no newer one and the repository permits it
    #[arg(long)]
    pub(super) allow_downgrade: bool,
    /// The architecture of this device
    #[arg(long, default_value = std::env::consts::ARCH)]
    pub(super) arch: String,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    pub(super) way: Choosing,
    #[command(flatten)]
    pub(super) web: Web,
    #[command(flatten)]
    pub(super) how: Applying,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) way: Choosing,
    #[command(flatten)]
    pub(super) web: Web,
    /// Look for an older version, too, if there is no newer one and the repository permits it
    #[arg(long)]
    pub(super) allow_downgrade: bool,
    /// The architecture of this device
    #[arg(long, default_value = std::env::consts::ARCH)]
    pub(super) arch: String,
}

/// Where updates come from, and which is chosen.
#[derive(Debug, Args)]
pub(super) struct Choosing {
    /// Where updates come from: an http(s) or file: URL, or a path
    #[arg(long, value_name = "URL")]
    pub(super) from: String,
    /// What is there
    #[arg(long, value_enum, default_value_t = ManifestKind::Repository)]
    pub(super) manifest: ManifestKind,
    /// Rather fail than fetch more bytes
    #[arg(long, value_name = "N")]
    pub(super) max_bytes: Option<u64>,
    /// The full package, whatever patches there are
    #[arg(long)]
    pub(super) force_full: bool,
    /// A version that is not installed; may be given again
    #[arg(long, value_name = "VERSION")]
    pub(super) hold: Vec<String>,
    /// Try a version that was given up, and fetch anew what was refused
    #[arg(long)]
    pub(super) again: bool,
    #[command(flatten)]
    pub(super) repository: Following,
}

/// How a repository is followed.
#[derive(Debug, Args)]
pub(super) struct Following {
    /// The channel of the repository that is followed [default: stable]
    #[arg(long, value_name = "NAME")]
    pub(super) channel: Option<String>,
    /// What makes a way the better one [default: bytes]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) prefer: Option<Prefer>,
    /// What to do about expired metadata: strict, grace:DAYS, ignore-expiry [default: strict]
    #[arg(long, value_name = "POLICY")]
    pub(super) offline_policy: Option<crate::repository::OfflinePolicy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Prefer {
    /// Fewer bytes to fetch
    Bytes,
    /// Less time, at a megabyte a second
    Time,
    /// Less space at once
    Space,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ManifestKind {
    /// A repository, or a bundle of one
    Repository,
    /// The JSON of an update service: its newest version, with packages and patches
    Service,
}

/// How the web is reached.
#[derive(Debug, Args)]
pub(super) struct Web {
    /// Another place where the packages are: an address that takes the place of all before the name; may be given again
    #[arg(long, value_name = "URL")]
    pub(super) mirror: Vec<String>,
    /// Most bytes a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit_rate: Option<u64>,
    /// A file with certificates of authorities that are trusted besides those of the system; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Vec<PathBuf>,
    /// Seconds for a connection to be made
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) connect_timeout: u64,
    /// Seconds without any byte; there is no limit on the whole
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) stall_timeout: u64,
    /// Failures in a row, with nothing new between them, that are put up with
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(super) retries: u32,
}

#[derive(Debug, Args)]
pub(super) struct Recover {
    /// After a failed sync: the file system was unmounted and mounted again since
    #[arg(long)]
    pub(super) remounted: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Do not read files that look as they did when they were last read
    #[arg(long)]
    pub(super) quick: bool,
}

#[derive(Debug, Args)]
pub(super) struct Journal {
    #[command(subcommand)]
    pub(super) what: JournalCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Every record of the current epoch, in words
    Show,
}

#[derive(Debug, Args)]
pub(super) struct Crashtest {
    /// The package
    pub(super) package: PathBuf,
    /// The tree that it is applied to; it is only read
    #[arg(long, value_name = "DIR")]
    pub(super) base: PathBuf,
    /// What the disk may lose; may be given again [default: each of them]
    #[arg(long, value_enum)]
    pub(super) profile: Vec<DiskProfile>,
    /// Where everything that looks random comes from: the same seed, the same states
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// At most about this many states, spread evenly if there are more [default: by the size of the update]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_states: Option<u64>,
    /// Draw what was found, as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Let the disk ignore the sync with this number, counted from 0, to see what a violation looks like; with --real, of
    /// the syncs of everything that each command makes
    #[arg(long, value_name = "N")]
    pub(super) ignore_sync: Option<u64>,
    /// On this file system of the running kernel instead, in a lab that needs root; may be given again
    #[arg(long, value_enum, conflicts_with_all = ["profile", "max_states", "html"])]
    pub(super) real: Vec<RealDisk>,
    /// How long the lab goes on
    #[arg(long, value_name = "N", default_value_t = 60, requires = "real")]
    pub(super) seconds: u64,
    /// Where the lab keeps image and log of states that break a promise
    #[arg(long, value_name = "DIR", requires = "real")]
    pub(super) keep: Option<PathBuf>,
    /// Judge a state again that was kept, by its name
    #[arg(long, value_name = "STATE", requires = "keep")]
    pub(super) replay: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RealDisk {
    /// With data=ordered, and with data=writeback and noauto_da_alloc
    Ext4,
    /// As it is
    Xfs,
    /// As it is
    Btrfs,
}

impl RealDisk {
    /// What the kernel calls it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DiskProfile {
    /// All up to some moment
    Prefix,
    /// Metadata up to some moment, any subset of data: ext4, xfs, ubifs
    Somc,
    /// That, and lost data reads as garbage: ext4 writeback
    SomcStale,
    /// A synced file jumps ahead of the rest: btrfs, f2fs
    PerInode,
    /// Any subset
    Posix,
}

impl From<DiskProfile> for Profile {
    fn from(profile: DiskProfile) -> Self {
        match profile {
            DiskProfile::Prefix => Self::Prefix,
            DiskProfile::Somc => Self::Somc,
            DiskProfile::SomcStale => Self::SomcStale,
            DiskProfile::PerInode => Self::PerInode,
            DiskProfile::Posix => Self::Posix,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write the pages of all commands there, instead of printing the main one
    pub(super) directory: Option<PathBuf>,
}

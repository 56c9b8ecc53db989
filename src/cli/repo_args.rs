//! What can be asked for of a repository.

use super::args::{Effort, Identity, Web};
use crate::limits;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Repo {
    #[command(subcommand)]
    pub(super) what: RepoCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum RepoCommand {
    /// Make a repository; one key for everything will do
    Init(RepoInit),
    /// Publish packages
    Add(RepoAdd),
    /// Take versions out of the repository
    Remove(RepoRemove),
    /// Publish the next root metadata, with other keys
    Rotate(RepoRotate),
    /// Sign metadata anew, so that it is valid for its time again
    Expire(RepoExpire),
    /// Verify the metadata and every byte of every package
    Verify(RepoVerify),
    /// Remove what nothing leads to any more
    Gc(RepoGc),
    /// Copy a repository to another directory, or bring the copy up to date
    Mirror(RepoMirror),
    /// Write a repository into one file, for devices without a network
    Bundle(RepoBundle),
    /// Write the manifest of an update service that offers the newest version
    ExportManifest(RepoExport),
}

impl RepoCommand {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "repo init",
            Self::Add(_) => "repo add",
            Self::Remove(_) => "repo remove",
            Self::Rotate(_) => "repo rotate",
            Self::Expire(_) => "repo expire",
            Self::Verify(_) => "repo verify",
            Self::Gc(_) => "repo gc",
            Self::Mirror(_) => "repo mirror",
            Self::Bundle(_) => "repo bundle",
            Self::ExportManifest(_) => "repo export-manifest",
        }
    }
}

/// The repository that is there.
#[derive(Debug, Args)]
pub(super) struct Directory {
    /// The directory
    pub(super) repository: PathBuf,
}

/// Whose keys count for which role. A secret key also signs.
#[derive(Debug, Args)]
pub(super) struct RoleKeyFiles {
    /// A key of the root role, secret or public; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) root_key: Vec<PathBuf>,
    /// A key of the targets role, secret or public; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) targets_key: Vec<PathBuf>,
    /// A key of snapshot and timestamp, secret or public; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) online_key: Vec<PathBuf>,
    /// How many root keys must sign [default: more than half of several]
    #[arg(long, value_name = "N")]
    pub(super) root_threshold: Option<u64>,
    /// How many targets keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) targets_threshold: u64,
}

/// What metadata is signed with.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// A secret key of targets, snapshot or timestamp; may be given again
    #[arg(long, value_name = "FILE", required = true)]
    pub(super) key: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) time: SigningTime,
}

/// When metadata is signed.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SigningTime {
    /// Sign although the last timestamp was signed later than this clock shows, or the root has expired by it
    #[arg(long)]
    pub(super) clock_is_right: bool,
}

/// Roots that are signed elsewhere.
#[derive(Debug, Args)]
pub(super) struct Offline {
    /// Write the root metadata there, to be signed, and publish nothing
    #[arg(long, value_name = "FILE", conflicts_with = "root_file")]
    pub(super) draft: Option<PathBuf>,
    /// Publish this root metadata, which has been signed
    #[arg(long = "root-metadata", value_name = "FILE", id = "root_file")]
    pub(super) root_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RepoInit {
    /// The directory; it is made if it is missing
    pub(super) repository: PathBuf,
    /// A key of every role that has no other; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) key: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) keys: RoleKeyFiles,
    #[command(flatten)]
    pub(super) offline: Offline,
    /// For how many days metadata of a role is valid: root=730, targets=365, snapshot=90, timestamp=30
    #[arg(long, value_name = "ROLE=DAYS", value_parser = lifetime)]
    pub(super) days: Vec<(RoleName, u32)>,
}

#[derive(Debug, Args)]
pub(super) struct RepoAdd {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// The packages
    #[arg(required_unless_present = "tree")]
    pub(super) packages: Vec<PathBuf>,
    /// Build the packages of this tree: the full one, and patches from the versions before
    #[arg(long, value_name = "DIR", requires = "to")]
    pub(super) tree: Option<PathBuf>,
    /// The version of the tree
    #[arg(long, value_name = "VERSION", requires = "tree")]
    pub(super) to: Option<String>,
    /// From how many versions before there are patches, of those that the repository has full packages of
    #[arg(long, value_name = "N", default_value_t = 3, requires = "tree")]
    pub(super) patches_from: u32,
    /// The architecture that the tree is for [default: every one]
    #[arg(long, requires = "tree")]
    pub(super) arch: Option<String>,
    /// How much time compression may take
    #[arg(long, value_enum, default_value_t = Effort::Default, requires = "tree")]
    pub(super) level: Effort,
    /// Most memory that building a patch takes, in MiB [default: half of what the machine, or the control group, has]
    #[arg(long, value_name = "MIB", requires = "tree")]
    pub(super) max_memory: Option<u64>,
    /// Words for people
    #[arg(long, value_name = "TEXT", requires = "tree")]
    pub(super) notes: Option<String>,
    #[command(flatten)]
    pub(super) identity: Identity,
    #[command(flatten)]
    pub(super) signing: Signing,
    /// A channel that they are in; may be given again
    #[arg(long, value_name = "NAME", default_value = "stable")]
    pub(super) channel: Vec<String>,
    /// The oldest version that can become theirs; what is older goes through others first
    #[arg(long, value_name = "VERSION")]
    pub(super) minimum: Option<String>,
    /// A newer version that they may be installed over; may be given again
    #[arg(long, value_name = "VERSION")]
    pub(super) downgrade_from: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RepoRemove {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// The versions
    #[arg(required = true)]
    pub(super) versions: Vec<String>,
    #[command(flatten)]
    pub(super) signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct RepoRotate {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// A secret key that signs, of before or from now on; may be given again
    #[arg(long, value_name = "FILE")]
    pub(super) key: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) keys: RoleKeyFiles,
    /// Vouch for what is in the repository although keys that signed it, lost or stolen ones, do not sign again
    #[arg(long)]
    pub(super) adopt: bool,
    #[command(flatten)]
    pub(super) time: SigningTime,
    #[command(flatten)]
    pub(super) offline: Offline,
}

#[derive(Debug, Args)]
pub(super) struct RepoExpire {
    #[command(flatten)]
    pub(super) directory: Directory,
    #[command(flatten)]
    pub(super) signing: Signing,
    /// Sign the targets metadata anew as well, not only snapshot and timestamp
    #[arg(long)]
    pub(super) targets: bool,
}

#[derive(Debug, Args)]
pub(super) struct RepoVerify {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// The root metadata where trust begins [default: the first one of the repository]
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RepoGc {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// How many earlier versions of the metadata stay, with what they lead to
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) keep: u32,
}

#[derive(Debug, Args)]
pub(super) struct RepoMirror {
    /// The repository: a path, an http(s) or file: URL, or a bundle
    pub(super) source: String,
    /// The copy; it is made if it is missing
    pub(super) copy: PathBuf,
    /// The root metadata where trust begins, for a new copy [default: the first one of the repository]
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Option<PathBuf>,
    /// What to do about expired metadata: strict, grace:DAYS, ignore-expiry
    #[arg(long, value_name = "POLICY", default_value = "strict")]
    pub(super) offline_policy: crate::repository::OfflinePolicy,
    #[command(flatten)]
    pub(super) web: Web,
}

#[derive(Debug, Args)]
pub(super) struct RepoBundle {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// Only packages that make this version; may be given again
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Vec<String>,
    /// Where the bundle goes
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RepoExport {
    #[command(flatten)]
    pub(super) directory: Directory,
    /// The channel
    #[arg(long, value_name = "NAME", default_value = "stable")]
    pub(super) channel: String,
    /// A secret key that signs the bytes of the packages
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// The address of the repository [default: where the manifest is]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// The entry of a tar.gz patch for an architecture; may be given again
    #[arg(long, value_name = "ARCH=FILE")]
    pub(super) patch: Vec<String>,
    /// Where the manifest goes
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// A role at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

fn lifetime(text: &str) -> Result<(RoleName, u32), String> {
    let (role, days) = text.split_once('=').ok_or("write it like timestamp=30")?;
    let days = days.parse().ok().filter(|days| (1..=limits::GRACE_DAYS).contains(days));
    let days = days.ok_or_else(|| format!("from 1 to {} days", limits::GRACE_DAYS))?;
    Ok((RoleName::from_str(role, false)?, days))
}

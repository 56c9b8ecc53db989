//! The one error that callers see: a stable code, what and where, the cause, and what to do next.

use crate::fetch::FetchError;
use crate::model::{OperationsError, PackageInfoError, PathError};
use crate::package::PackageError;
use crate::package::legacy::LegacyError;
use crate::repository::RepositoryError;
use crate::strategy::StrategyError;
use crate::trust::TrustError;
use crate::vfs::IoError;
use std::fmt;

pub use crate::model::Finding;

/// What went wrong.
///
/// [`Error::code`] is for programs and never changes its meaning; [`Error::advice`] says what the caller can do; the
/// message names what and where; [`std::error::Error::source`] gives the chain of causes.
#[derive(Debug)]
pub struct Error {
    code: Code,
    message: String,
    findings: Vec<Finding>,
    /// How many findings there were in all.
    found: usize,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller can do next. Each is one exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing has changed; mend what the message names and try again.
    Mend = 1,
    /// The call itself is wrong.
    Usage = 2,
    /// Do not trust what was given.
    Distrust = 3,
    /// The tree is not what was expected.
    Tree = 4,
    /// Make room, or raise a limit.
    Space = 5,
    /// Try later.
    Later = 6,
    /// It failed and the old tree is back.
    RolledBack = 7,
    /// Run recovery after a reboot or remount, or look at it.
    Undecided = 8,
    /// Another process holds the lock: wait for it.
    Busy = 9,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal $advice:ident $hint:literal;)+) => {
        /// The stable codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The dotted name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What a caller can do about it.
            pub fn advice(self) -> Advice {
                match self { $(Self::$name => Advice::$advice,)+ }
            }

            /// What a person can do about it.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)+ }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

codes! {
    /// A call to the file system failed before anything changed.
    Io "io.failed" Mend "look at the cause; permissions and the health of the disk are the usual ones";
    /// The arguments do not make sense together.
    Usage "usage.invalid" Usage "see --help";
    /// A path is absolute, too long, or leaves the tree.
    Path "input.path" Mend "paths are relative to the tree, without '..'";
    /// A version is not of the form major.minor.patch[.build].
    Version "input.version" Mend "write it like 1.2.3 or 1.2.3.4";
    /// A file is not of the format it should be.
    Format "input.format" Mend "get or build the file again";
    /// A key file is not what it should be.
    Key "input.key" Mend "keys are Ed25519: PKCS#8 PEM for a secret one, SPKI PEM for a public one";
    /// A package is damaged, cut short, or holds what its manifest does not promise.
    PackageFormat "package.format" Distrust "get the package again; if it stays so, the publisher must build it again";
    /// A package needs a newer surefoot.
    PackageUnsupported "package.unsupported" Mend "update surefoot";
    /// A package lacks a file that its operations list, or holds it with another type.
    PackagePartial "package.partial" Distrust "the publisher must build the package again";
    /// No key that the tree trusts has signed this.
    Signature "trust.signature" Distrust "check where it comes from; a new publisher's key is added when the tree is initialised (--trust)";
    /// There is no signature.
    Unsigned "trust.unsigned" Distrust "have it signed, or accept the risk with --allow-unsigned";
    /// The tree trusts no key.
    NoKeys "trust.no-keys" Distrust "name a public key with --trust, or accept the risk with --allow-unsigned";
    /// Content does not have the digest that was promised.
    Digest "trust.digest" Distrust "get the file again";
    /// The package would install an older version.
    Downgrade "trust.downgrade" Distrust "use rollback to go back, or --allow-downgrade if this is meant";
    /// Too few of the keys that count have signed metadata of a repository.
    Threshold "trust.threshold" Distrust "check where it comes from; if keys were changed, the publisher must sign anew with enough of them";
    /// A repository holds what nobody vouches for but keys that are lost or stolen.
    Adoption "trust.adoption" Distrust "look whether every package listed is yours and none came back; then say --adopt, or give the keys from before as well";
    /// A key is of a type that cannot be used here.
    KeyType "trust.key-type" Distrust "Ed25519 always works; ECDSA P-256 needs a build with the feature ecdsa";
    /// Metadata of a repository is not valid any more.
    Expired "trust.expired" Distrust "try again when the publisher has renewed it, check the clock of the device, or choose another --offline-policy";
    /// Without a clock it cannot be told whether metadata of a repository is still valid.
    NoClock "trust.clock" Distrust "set the clock, or accept the risk with --offline-policy ignore-expiry";
    /// A repository offers older metadata than was seen before.
    Rollback "trust.rollback" Distrust "try another mirror; if it stays so, ask the publisher";
    /// Files of a repository do not belong together.
    Mixed "trust.mismatch" Distrust "try again: the mirror may be half-way through a change; else try another one";
    /// Metadata of a repository is not what it should be.
    BadMetadata "trust.metadata" Distrust "get it again, or from another mirror; if it stays so, ask the publisher";
    /// The device has no root of trust for this repository.
    NoRoot "trust.no-root" Distrust "give init --trust the root metadata of the repository, or public keys that have signed it";
    /// What the device keeps of a repository's metadata is damaged.
    TrustDamaged "trust.damaged" Mend "see docs/operations.md, section 'Damaged trust state'";
    /// The package is for another architecture.
    Architecture "package.architecture" Tree "get the package for this architecture";
    /// Unpacking the package takes more memory than this device allows, or a coder that it does not.
    Demand "package.demand" Tree "build the package at another level, or allow more with --max-memory or without --no-lzma";
    /// The tree is not the one that the package was built for.
    Base "tree.base" Tree "use a package for this version, or a full package; restore the paths that were changed";
    /// Something in the tree is not as it was recorded.
    Changed "tree.changed" Tree "put the paths listed back as they were recorded, then try again";
    /// Something in the tree was changed while surefoot worked on it.
    Foreign "tree.foreign" Tree "stop what else writes into the tree, then try again";
    /// A directory that is to go holds something that surefoot did not install.
    Stray "tree.stray" Tree "move what is listed elsewhere, then try again";
    /// The tree holds a pipe, socket or device.
    Special "tree.special" Tree "only files, directories and symbolic links can be managed: remove it or move it out";
    /// The tree is not under surefoot's care yet.
    NotInitialised "tree.not-initialised" Mend "run init first";
    /// The tree is under surefoot's care already.
    Initialised "tree.initialised" Mend "nothing to do; status shows the version";
    /// No content of the tree is recorded, so there is nothing to compare with.
    Untracked "tree.untracked" Mend "run init --version V to record the tree";
    /// An earlier transaction is not finished.
    Pending "transaction.pending" Mend "run recover; a trial is ended by confirm or rollback";
    /// There is nothing to confirm.
    NoTrial "transaction.no-trial" Mend "only a trial can be confirmed; see status";
    /// There is nothing to go back to.
    NoUndo "transaction.no-undo" Mend "no undo data is kept; apply a full package of the version wanted";
    /// The file system, or the way it is mounted, cannot keep the promise.
    FileSystem "unsupported.filesystem" Mend "move the tree to ext4, xfs, btrfs, f2fs or another journaled file system";
    /// A mounted file system lies inside the tree where something must change.
    Mount "unsupported.mount" Mend "unmount it first, or manage it as a tree of its own";
    /// Something that must change is marked immutable or append-only.
    Immutable "unsupported.immutable" Mend "remove the mark with chattr -i -a";
    /// Two names would differ in case only, in a directory that does not tell case.
    CaseCollision "unsupported.case" Mend "rename one of the two";
    /// The metadata cannot be set here: owners by a user, attributes on this file system.
    Metadata "unsupported.metadata" Mend "run as root, or on a file system with extended attributes";
    /// The state directory is not on the file system of the tree.
    StateElsewhere "unsupported.state-dir" Mend "put the state directory on the file system of the tree, outside of it or as .surefoot";
    /// This host has not got what the crash lab takes.
    NoLab "unsupported.lab" Mend "run as root, where there are FUSE, loop devices, strace and the tools of the file system";
    /// There is not enough free space.
    Space "space.short" Space "free the bytes named, then try again";
    /// There are not enough free inodes.
    Inodes "space.inodes" Space "free the inodes named, then try again";
    /// A declared limit would be passed.
    Limit "space.limit" Space "raise the limit, or use a smaller package";
    /// There is a repository already.
    RepositoryExists "repository.exists" Mend "nothing to do; repo verify shows it";
    /// There is no repository.
    NoRepository "repository.none" Mend "make one with repo init";
    /// A repository has something else under this name or version, and what is published never changes.
    Published "repository.published" Mend "publish it as another version";
    /// A repository does not have what should be taken out of it.
    NotPublished "repository.not-published" Mend "inspect the versions with repo verify";
    /// What the clock of a publisher shows does not fit to what was signed before.
    PublisherClock "repository.clock" Mend "set the clock, or rotate if the root has expired; if the last signature was made with a wrong clock, say --clock-is-right, and see docs/operations.md, section 'The clock'";
    /// A repository is not what it should be.
    RepositoryBroken "repository.broken" Mend "see docs/operations.md; restore the files named, or publish anew";
    /// The place where a package should be cannot be read.
    Unavailable "source.unavailable" Later "try again later, or check the address";
    /// A repository lacks a file that it must have.
    RepositoryMissing "repository.missing" Later "try again later, or another mirror; the publisher can run repo verify";
    /// No packages lead to the version that is wanted.
    NoWay "strategy.no-way" Later "the publisher offers no way from the version that is here; see check";
    /// The way to the version that is wanted costs more than is allowed.
    Budget "strategy.budget" Space "raise --max-bytes, or wait for a link that costs less";
    /// It was stopped on request before anything changed.
    Cancelled "apply.cancelled" Mend "start again when it suits";
    /// Applying failed, and the old tree is back.
    RolledBack "apply.rolled-back" RolledBack "see the cause; the tree is as it was before";
    /// Applying stopped where going on or back could do harm.
    Undecided "apply.undecided" Undecided "nothing is lost: reboot or remount, then run recover";
    /// A sync failed, so the disk may not hold what the cache shows.
    SyncFailed "apply.sync-failed" Undecided "nothing is lost: check the disk, reboot, then run recover; after a remount instead, recover --remounted";
    /// Something in the tree is neither what it was nor what it should become.
    Stuck "tree.stuck" Undecided "nothing is lost: put the paths listed back as they were, then run recover";
    /// The journal is damaged in the middle.
    JournalDamaged "journal.damaged" Undecided "nothing is touched: see the runbook, section 'A damaged journal'";
    /// Another process works on the tree.
    Locked "lock.held" Busy "wait for it; the lock goes with the process that holds it";
    /// A crash test has found a state that breaks a promise.
    Violation "crashtest.violation" Mend "the schedule shows how; the same seed finds it again";
    /// Something that cannot happen did.
    Internal "internal.unexpected" Mend "please report this with the output of journal show";
}

impl Error {
    /// An error with a code, and what and where.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), findings: Vec::new(), found: 0, source: None }
    }

    fn from_io_kind(error: &IoError) -> Code {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::Space,
            _ => Code::Io,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the paths that stand in the way: the first ones, and how many there are.
    #[must_use]
    pub fn listing(mut self, mut findings: Vec<Finding>) -> Self {
        self.found = findings.len();
        findings.truncate(crate::limits::LISTED);
        self.findings = findings;
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the caller can do.
    pub fn advice(&self) -> Advice {
        self.code.advice()
    }

    /// What a person can do.
    pub fn hint(&self) -> &'static str {
        self.code.hint()
    }

    /// What and where, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The first paths that stand in the way, and how many there are in all.
    pub fn findings(&self) -> (&[Finding], usize) {
        (&self.findings, self.found)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Self::new(Self::from_io_kind(&error), error.to_string()).because(error.source)
    }
}

impl From<TrustError> for Error {
    fn from(error: TrustError) -> Self {
        Self::new(trust_code(&error), error.to_string())
    }
}

fn trust_code(error: &TrustError) -> Code {
    match error {
        TrustError::Key { .. } | TrustError::WeakKey | TrustError::TooManyKeys(_) => Code::Key,
        TrustError::KeyKind { .. } => Code::KeyType,
        TrustError::NoKeys => Code::NoKeys,
        TrustError::Unsigned => Code::Unsigned,
        TrustError::Malformed(_) | TrustError::Untrusted(_) | TrustError::Wrong => Code::Signature,
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::new(Code::Path, error.to_string())
    }
}

impl From<RepositoryError> for Error {
    fn from(error: RepositoryError) -> Self {
        let code = match &error {
            RepositoryError::Signatures { refused: Some(TrustError::KeyKind { .. }), .. } => Code::KeyType,
            RepositoryError::Signatures { .. } => Code::Threshold,
            RepositoryError::Rollback { .. } | RepositoryError::Unlisted { .. } => Code::Rollback,
            RepositoryError::Mismatch { .. } => Code::Mixed,
            RepositoryError::Expired { .. } => Code::Expired,
            RepositoryError::SignedLate { .. } => Code::Expired,
            RepositoryError::NoClock { .. } => Code::NoClock,
            RepositoryError::Missing { .. } => Code::RepositoryMissing,
            RepositoryError::Anchor => Code::NoRoot,
            RepositoryError::Damaged { .. } => Code::TrustDamaged,
            RepositoryError::Malformed { .. } | RepositoryError::TooLong { .. } => Code::BadMetadata,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Self {
        let code = match &error {
            PackageError::Write(source) if source.kind() == std::io::ErrorKind::StorageFull => Code::Space,
            PackageError::Read(_) | PackageError::Write(_) | PackageError::Input { .. } => Code::Io,
            PackageError::Changed(_) => Code::Foreign,
            PackageError::Absent(_) => Code::Changed,
            PackageError::Truncated | PackageError::Malformed(_) => Code::PackageFormat,
            PackageError::Unsupported { .. } => Code::PackageUnsupported,
            PackageError::Limit { .. } => Code::Limit,
            PackageError::Digest(_) => Code::Digest,
            PackageError::Trust(error) => trust_code(error),
        };
        let message = error.to_string();
        match error {
            PackageError::Read(source) | PackageError::Write(source) | PackageError::Input { source, .. } => {
                Self::new(code, message).because(source)
            }
            PackageError::Trust(source) => Self::new(code, message).because(source),
            _ => Self::new(code, message),
        }
    }
}

impl From<LegacyError> for Error {
    fn from(error: LegacyError) -> Self {
        use std::io::ErrorKind;
        let code = match &error {
            LegacyError::Missing(_) | LegacyError::WrongType { .. } => Code::PackagePartial,
            LegacyError::Digest { .. } | LegacyError::PackageSize { .. } => Code::Digest,
            LegacyError::TooLarge(_) | LegacyError::TooMany => Code::Limit,
            LegacyError::Write(source) if source.kind() == ErrorKind::StorageFull => Code::Space,
            LegacyError::Read(_) | LegacyError::Write(_) | LegacyError::Content { .. } => Code::Io,
            LegacyError::Info(_) => Code::Format,
            _ => Code::PackageFormat,
        };
        let message = error.to_string();
        match error {
            // A reader may carry an error of ours: that it was cancelled, for one.
            LegacyError::Read(source) => match source.downcast::<Self>() {
                Ok(ours) => ours,
                Err(source) => Self::new(code, message).because(source),
            },
            LegacyError::Write(source) | LegacyError::Content { source, .. } => {
                Self::new(code, message).because(source)
            }
            LegacyError::Path(source) => Self::new(code, message).because(source),
            LegacyError::Info(source) => source.into(),
            _ => Self::new(code, message),
        }
    }
}

impl From<OperationsError> for Error {
    fn from(error: OperationsError) -> Self {
        let code = match &error {
            OperationsError::Path { .. } | OperationsError::Root(_) | OperationsError::Reserved(_) => Code::Path,
            OperationsError::TooMany(_) => Code::Limit,
            _ => Code::Format,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PackageInfoError> for Error {
    fn from(error: PackageInfoError) -> Self {
        let code = if matches!(error, PackageInfoError::TooLong(_)) { Code::Limit } else { Code::Format };
        let message = error.to_string();
        match error {
            PackageInfoError::Json(source) => Self::new(code, message).because(source),
            _ => Self::new(code, message),
        }
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        let code = match &error {
            FetchError::Disk(source) | FetchError::Sync(source) => Self::from_io_kind(source),
            FetchError::Space { .. } => Code::Space,
            FetchError::Cancelled => Code::Cancelled,
            FetchError::Budget { .. } => Code::Budget,
            FetchError::TooLong { .. } => Code::Limit,
            FetchError::Address(_) => Code::Usage,
            FetchError::Bundle(..) => Code::Format,
            FetchError::GaveUp { .. } if error.is_distrust() => Code::Digest,
            FetchError::GaveUp { .. } => Code::Unavailable,
        };
        let message = error.to_string();
        match error {
            FetchError::Disk(source) | FetchError::Sync(source) => Self::new(code, message).because(source.source),
            _ => Self::new(code, message),
        }
    }
}

impl From<StrategyError> for Error {
    fn from(error: StrategyError) -> Self {
        let code = match &error {
            StrategyError::NoWay { .. } => Code::NoWay,
            StrategyError::OverBytes { .. } | StrategyError::OverSpace { .. } => Code::Budget,
            StrategyError::Target { .. } => Code::NoWay,
            StrategyError::TooMany(_) => Code::Limit,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_dotted_unique_and_explained() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.as_str().contains('.') && !code.hint().is_empty() && !code.meaning().is_empty(), "{code:?}");
        }
    }
}

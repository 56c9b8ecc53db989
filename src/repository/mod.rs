//! Repositories: what a publisher signs and a device believes, by The Update Framework (TUF 1.0).
//!
//! Four kinds of [metadata](Signed) say who may say what (root), which packages there are (targets), which targets
//! belong together (snapshot), and which of that is the newest (timestamp). [`Client`] is the workflow of section 5 of
//! the specification as a state machine: it says which file it wants next and how many bytes of it at most, is given
//! bytes, and says what must be kept. It reads no file, no network and no clock: whoever drives it does.

mod client;
mod delegation;
mod metadata;
mod moment;
mod names;
mod policy;
mod release;
mod signed;

pub use client::{Anchor, Answer, Client, Found, Keep, Kept, Request, RunError, Step, Stored};
pub use metadata::{
    Body, Delegation, Delegations, FileInfo, Key, KeyValue, Role, Root, SPEC_VERSION, Snapshot, Target, Targets,
    Timestamp, check_hashes,
};
pub use moment::Moment;
pub use names::{METADATA_DIRECTORY, TARGETS_DIRECTORY, blob_name, escape, metadata_name, stored_name, stored_role};
pub use policy::{Clock, Notice, OfflinePolicy};
pub use release::{Base, Release, ReleaseKind};
pub use signed::{Signed, add_signature, sign, signers};

use crate::trust::TrustError;

/// Names of the roles at the top.
pub mod role {
    /// Says whose keys count for which role, itself included.
    pub const ROOT: &str = "root";
    /// Says which packages there are.
    pub const TARGETS: &str = "targets";
    /// Says which targets metadata belong together.
    pub const SNAPSHOT: &str = "snapshot";
    /// Says which snapshot is the newest.
    pub const TIMESTAMP: &str = "timestamp";
    /// All of them.
    pub const TOP: [&str; 4] = [ROOT, TARGETS, SNAPSHOT, TIMESTAMP];
}

/// Why metadata of a repository, or something that it describes, is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// It is not metadata of the kind that it should be.
    #[error("{file} is malformed: {why}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// It goes on beyond what was asked for.
    #[error("{file} is longer than {most} bytes")]
    TooLong {
        /// Which file.
        file: String,
        /// How long it may be.
        most: u64,
    },
    /// Too few of the keys that count for it have signed it.
    #[error("{file} is signed by {have} of the {need} keys that are needed{}", reason(.refused))]
    Signatures {
        /// Which file.
        file: String,
        /// By how many different keys of its role.
        have: usize,
        /// How many are needed.
        need: usize,
        /// A key that might have counted, and why it does not.
        refused: Option<TrustError>,
    },
    /// It is older than one that was seen before.
    #[error("{file} has version {offered}, but version {trusted} was seen before")]
    Rollback {
        /// Which file.
        file: String,
        /// The version that is known.
        trusted: u64,
        /// The version that is offered.
        offered: u64,
    },
    /// A file that was listed before is no longer.
    #[error("{file} is no longer listed by the snapshot")]
    Unlisted {
        /// Which file.
        file: String,
    },
    /// It is not the file that the metadata above it describes.
    #[error("{file} is not the one that belongs to this snapshot: {why}")]
    Mismatch {
        /// Which file.
        file: String,
        /// What differs.
        why: String,
    },
    /// It is not valid any more.
    #[error("{file} has expired at {expires}")]
    Expired {
        /// Which file.
        file: String,
        /// When.
        expires: Moment,
    },
    /// It says that it was signed when the root had expired.
    #[error("{file} says that it was signed at {signed}, but the root has expired at {expires}")]
    SignedLate {
        /// Which file.
        file: String,
        /// When it was signed.
        signed: Moment,
        /// When the root expires.
        expires: Moment,
    },
    /// Whether it is valid cannot be said.
    #[error("whether {file} has expired cannot be told without a clock")]
    NoClock {
        /// Which file.
        file: String,
    },
    /// A file that must be there is not.
    #[error("{file} is not in the repository")]
    Missing {
        /// Which file.
        file: String,
    },
    /// No root metadata is signed by the keys that the device was given.
    #[error("no root metadata is signed by every key that this device was given")]
    Anchor,
    /// What the device keeps of an earlier look is damaged.
    #[error("the stored {file} is damaged: {why}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl RepositoryError {
    fn malformed(file: &str, why: impl ToString) -> Self {
        Self::Malformed { file: file.into(), why: why.to_string() }
    }

    fn mismatch(file: &str, why: impl ToString) -> Self {
        Self::Mismatch { file: file.into(), why: why.to_string() }
    }
}

fn reason(refused: &Option<TrustError>) -> String {
    refused.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
}

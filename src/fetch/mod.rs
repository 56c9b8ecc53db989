//! Downloads that go on where they stopped: after a broken connection, a crash, a power cut.
//!
//! ```text
//! wanted, failure, head, resume   what to ask for and what to keep: pure
//! part, download                  the bytes on the disk, and the loop between disk and carrier
//! carrier, http, local, bundle    who brings bytes
//! small                           metadata: bounded, whole, in memory
//! ```
//!
//! A dropped or killed download loses nothing: what is on the disk says for itself which pieces are there.

mod address;
mod bundle;
mod carrier;
mod download;
mod failure;
mod head;
#[cfg(feature = "http")]
mod http;
mod local;
mod pace;
mod part;
mod resume;
mod small;
mod wanted;

pub use crate::model::BlockMap;
pub use address::{below, below_quoted, local_path, resolve, shown};
pub use bundle::{Bundle, Member, bundle_members};
pub use carrier::{Body, Carrier, Carriers, Request, Response};
pub use download::{Download, Fetched, Options, Watch};
pub use failure::Failure;
pub use head::{ContentRange, Head, strong_tag};
#[cfg(feature = "http")]
pub use http::{HttpCarrier, HttpOptions, Proxies, on_a_thread};
pub use local::LocalCarrier;
pub use pace::{Pace, Speed, SystemPace};
pub use part::{Files, Held, Pending, held, pending};
pub use resume::{Ask, Finished, Next, Patience, Resume, Taken};
pub use small::{Asking, Verdict, fetch_small};
pub use wanted::{Section, Sections, Wanted};

use crate::vfs::IoError;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk failed; what is there stays for another try.
    #[error("{0}")]
    Disk(#[source] IoError),
    /// A sync failed, so what was fetched is not known to be on the disk: it is removed.
    #[error("what was fetched is removed: {0}")]
    Sync(#[source] IoError),
    /// There is not enough room; looked at before the first byte.
    #[error("{needed} bytes are needed to fetch and store {label}, {free} are free")]
    Space {
        /// What was wanted.
        label: String,
        /// So much is needed.
        needed: u64,
        /// So much is there.
        free: u64,
    },
    /// It was stopped on request.
    #[error("stopped on request")]
    Cancelled,
    /// It takes more bytes than are allowed; what is there stays.
    #[error("fetching {label} takes more than the {allowed} bytes that are allowed for it")]
    Budget {
        /// What was wanted.
        label: String,
        /// So many are allowed.
        allowed: u64,
    },
    /// Longer than it may be.
    #[error("{address} has more than {limit} bytes")]
    TooLong {
        /// Where.
        address: String,
        /// So many it may have.
        limit: u64,
    },
    /// An address, or their number, is not what it should be.
    #[error("{0}")]
    Address(String),
    /// A bundle is not what it should be.
    #[error("{0} is no bundle of a repository: {1}")]
    Bundle(String, String),
    /// Nobody has it, or nobody who was asked often enough gave it.
    #[error("{label} cannot be fetched{}", .failures.iter().map(|(address, why)| format!("; {}: {why}", shown(address))).collect::<String>())]
    GaveUp {
        /// What was wanted.
        label: String,
        /// What each address has failed with last.
        failures: Vec<(String, Failure)>,
    },
}

impl From<IoError> for FetchError {
    fn from(error: IoError) -> Self {
        Self::Disk(error)
    }
}

impl FetchError {
    /// Did everybody who was asked say that there is no such thing?
    pub fn missing(&self) -> bool {
        match self {
            Self::GaveUp { failures, .. } => {
                let gone = |failure: &Failure| matches!(failure, Failure::Status { status: 404 | 410, .. });
                !failures.is_empty() && failures.iter().all(|(_, failure)| gone(failure))
            }
            _ => false,
        }
    }

    /// Does somebody who was asked give something, and no part, or not the right one? All of it may be had there.
    pub fn fails_in_parts(&self) -> bool {
        match self {
            Self::GaveUp { failures, .. } => {
                failures.iter().any(|(_, failure)| matches!(failure, Failure::Range(_)) || failure.is_distrust())
            }
            _ => false,
        }
    }

    /// Did what came differ from what was published, everywhere?
    pub fn is_distrust(&self) -> bool {
        match self {
            Self::GaveUp { failures, .. } => {
                !failures.is_empty() && failures.iter().all(|(_, failure)| failure.is_distrust())
            }
            _ => false,
        }
    }
}

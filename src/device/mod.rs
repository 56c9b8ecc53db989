//! The device: the imperative shell around the pure state machine.
//!
//! [`Engine`] owns the state directory of one tree and runs transactions on it: it looks (`preflight`), stores
//! everything new (`stage`), does what the state machine says (`executor`) by looking at evidence (`evidence`),
//! and sweeps. The faces that callers use stand on top of it: [`Tree`] without packages, [`PatchExecutor`] with them.

mod attempts;
mod baseline;
mod blocks;
mod choose;
mod decide;
mod delivery;
mod downloads;
mod engine;
mod evidence;
mod executor;
mod file_ops;
mod follow;
mod history;
mod init;
mod install;
mod layout;
mod moves;
mod observer;
mod package;
mod patch_executor;
mod preflight;
mod preview;
mod processor;
mod recover;
mod request;
mod stage;
mod stock;
mod store;
mod sweep;
mod tree;
mod trust;
mod unpack;

pub use attempts::Attempts;
pub use downloads::{DownloadSource, Downloads, held_of, holds_all_of, pending_downloads};
pub use engine::{Base, Change, Engine, NoPayload, Payload, Report, Request, Settings, Sink, Source, VerifyDepth};
pub use file_ops::FileOperationExecutor;
pub use follow::{Follower, Look};
pub use history::HistoryEntry;
pub use layout::STATE_DIRECTORY;
pub use observer::{Observer, Phase, Progress};
pub use package::PackageSettings;
pub use patch_executor::{PatchExecutor, PatchOutcome, Why};
pub use processor::{DownloadedPatch, PackageSource, PatchProcessor, PatchReport, StagedPatch, VerifiedPatch};
pub use recover::{Recovered, Status, peek, peek_history};
pub use stock::PatchWarning;
pub use store::{Config, Generation};
pub use tree::{Transaction, Tree};
pub use unpack::read_sources;

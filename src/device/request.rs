//! What a transaction is asked for, and what it says when it is done.

use super::preflight::Known;
use crate::error::Error;
use crate::model::{Digest, Node, Policy, TreePath};
use crate::transaction::Recovery;
use std::io::Read;

/// What one path should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What it should hold; nothing to remove it.
    pub after: Option<Node>,
    /// Where the content of a file comes from.
    pub source: Source,
}

/// Where the content of a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// There is none: a directory, a link, a removal, another name of a hard-linked file.
    None,
    /// The payload delivers it.
    Payload,
    /// It was stored before, in this slot of the transaction's folder.
    Staged(u32),
    /// The tree holds it at this path.
    Base(TreePath),
    /// The change of this index has the same content.
    Change(u32),
}

/// Delivers contents.
pub trait Payload {
    /// Hands every content that the sink wants to it, in any order.
    fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error>;
}

/// Takes contents.
pub trait Sink {
    /// Is the content of this path needed?
    fn wants(&self, path: &TreePath) -> bool;
    /// Takes the content of this path.
    fn take(&mut self, path: &TreePath, content: &mut dyn Read) -> Result<(), Error>;
}

/// A payload without contents.
#[derive(Clone, Copy, Debug)]
pub struct NoPayload;

impl Payload for NoPayload {
    fn deliver(&mut self, _: &mut dyn Sink) -> Result<(), Error> {
        Ok(())
    }
}

/// What changes are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// What is recorded must be there, or the transaction is refused.
    Recorded,
    /// Whatever is there.
    Observed,
}

/// How much of the tree is looked at before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VerifyDepth {
    /// The content of every path that changes.
    #[default]
    Touched,
    /// That, and of everything else whether size, times and inode are as recorded.
    Index,
    /// The content of everything.
    Full,
}

/// How a transaction is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Wait for `confirm` or `rollback` instead of confirming at once.
    pub trial: bool,
    /// Boots after which a trial that nobody confirmed is rolled back.
    pub attempts: u32,
    /// What recovery does when it finds the transaction half-way.
    pub recovery: Recovery,
    /// How much is verified before.
    pub verify: VerifyDepth,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trial: false, attempts: 3, recovery: Recovery::Forward, verify: VerifyDepth::Touched }
    }
}

/// One transaction that is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What changes.
    pub changes: Vec<Change>,
    /// What it is compared with.
    pub base: Base,
    /// What counts as identity from now on; nothing to leave it as it is.
    pub policy: Option<Policy>,
    /// The version that it makes; nothing to leave it as it is.
    pub version: Option<String>,
    /// The digest that the tree must have afterwards.
    pub target: Option<Digest>,
    /// What it is, for people.
    pub title: String,
    /// How it is run.
    pub settings: Settings,
    /// Identity of the transaction, if contents are stored in its folder already.
    pub(super) id: Option<[u8; 16]>,
    /// How many slots of that folder are taken, by contents that are used or not.
    pub(super) taken_slots: u32,
    /// What of the tree has just been read.
    pub(super) known: Known,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Identity of the transaction, in hexadecimal; empty if there was nothing to do.
    pub transaction: String,
    /// The version before.
    pub from: String,
    /// The version now.
    pub to: String,
    /// How many steps were taken.
    pub steps: u32,
    /// Is it on trial?
    pub trial: bool,
}

impl Request {
    /// A request for some changes, against what is recorded, confirmed at once.
    pub fn new(changes: Vec<Change>, title: impl Into<String>) -> Self {
        Self {
            changes,
            base: Base::Recorded,
            policy: None,
            version: None,
            target: None,
            title: title.into(),
            settings: Settings::default(),
            id: None,
            taken_slots: 0,
            known: Known::new(),
        }
    }
}

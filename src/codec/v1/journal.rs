//! The records of the journal and the plan of a transaction.

use super::Node;
use serde::{Deserialize, Serialize};

/// One record of the write-ahead journal. The last durable one decides what the tree will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Variant 0: a transaction begins; the tree is untouched.
    Begin {
        /// Its identity, and the name of its folder in the state directory.
        transaction: [u8; 16],
        /// The generation that the tree is.
        base: [u8; 16],
        /// The generation that the tree becomes when this is confirmed.
        target: [u8; 16],
        /// Apply something new, or undo a confirmed generation.
        work: Work,
        /// Does `Applied` open a trial, or is it confirmed at once?
        trial: bool,
        /// A trial is rolled back when this many boots have seen it unconfirmed.
        attempts: u32,
        /// What recovery does with a transaction that was interrupted while stepping forward.
        recovery: Recovery,
        /// The session (boot) in which it begins.
        session: [u8; 16],
        /// Seconds since 1970, for people.
        time: i64,
        /// What it is, for people.
        #[serde(deserialize_with = "crate::codec::text")]
        title: String,
    },
    /// Variant 1: everything old and new is stored, the plan is complete. From here the tree may be touched.
    Prepared {
        /// SHA-256 of the plan file.
        plan: [u8; 32],
        /// Its length in bytes.
        plan_size: u64,
        /// How many steps it has.
        steps: u32,
    },
    /// Variant 2: the first step is about to be taken. Never waited for: only its presence says something.
    Started,
    /// Variant 3: every step is taken and durable.
    Applied {
        /// The session (boot) that ended it; it does not count as an attempt.
        session: [u8; 16],
    },
    /// Variant 4: another boot has found the new version unconfirmed.
    Trying {
        /// Counted from 1.
        attempt: u32,
        /// The session (boot) that it counts.
        session: [u8; 16],
    },
    /// Variant 5: the new version stays. Never stepped back by this transaction.
    Confirmed,
    /// Variant 6: the direction is back to the old version, and never forward again.
    Revert {
        /// A stable error code, or `requested`.
        #[serde(deserialize_with = "crate::codec::text")]
        cause: String,
        /// What happened, for people.
        #[serde(deserialize_with = "crate::codec::text")]
        detail: String,
    },
    /// Variant 7: every step is taken back and durable.
    Reverted,
    /// Variant 8: nothing is left to do; the leavings are swept.
    End,
}

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Variant 0: brings new content.
    Apply,
    /// Variant 1: takes back the generation whose undo data its plan uses.
    Undo,
}

/// What recovery does with a transaction interrupted between `Prepared` and `Applied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovery {
    /// Variant 0: finishes it.
    Forward,
    /// Variant 1: takes it back.
    Backward,
}

/// First bytes of a plan file.
pub const PLAN_MAGIC: [u8; 8] = *b"SFPLAN_1";

/// What stands before the steps of a plan file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHeader {
    /// Always `PLAN_MAGIC`.
    pub magic: [u8; 8],
    /// The transaction that it belongs to.
    pub transaction: [u8; 16],
    /// The transaction whose folder holds the slots: itself, or for an undo the one being undone.
    pub slots: [u8; 16],
    /// How an object in the tree is replaced.
    pub method: Method,
    /// Bit 0: owner counts; bit 1: time counts.
    pub policy: u8,
    /// SHA-256 of the generation file that the transaction has written; zeros if it has written none.
    pub state: [u8; 32],
    /// SHA-256 of the manifest file that it has written; zeros if it has written none.
    pub manifest: [u8; 32],
    /// How many steps follow.
    pub steps: u32,
}

/// How one object replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Variant 0: one atomic exchange with the slot.
    Exchange,
    /// Variant 1: a second name of the old one is kept aside beforehand; the new one moves from the slot over the old.
    Replace,
}

/// One step: this path goes from `before` to `after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Index of the root.
    pub root: u16,
    /// The path below it.
    pub path: Vec<u8>,
    /// Number of the slot that holds the new object before and the old one after.
    pub slot: u32,
    /// Only metadata changes, in place: the slot is not used.
    pub in_place: bool,
    /// What stands there before; nothing if it is created.
    pub before: Option<Node>,
    /// Inode number of that.
    pub before_inode: u64,
    /// What stands there afterwards; nothing if it is removed.
    pub after: Option<Node>,
    /// Inode number of that.
    pub after_inode: u64,
}

/// A whole plan file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The header.
    pub header: PlanHeader,
    /// The steps, in the order of going forward.
    pub steps: Vec<Step>,
}

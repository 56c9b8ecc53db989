//! `Step` and `Plan`: what goes from what to what, in which order.

use super::{Method, Proposal};
use crate::codec::{self, DecodeError, v1};
use crate::limits;
use crate::model::{Digest, Node, Policy, TreePath};

/// One conditional change: this path goes from `before` to `after`. Undo is the step with its ends swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Index of the root.
    pub root: u16,
    /// The path below it.
    pub path: TreePath,
    /// Number of the slot that holds the new object before and the old one after.
    pub slot: u32,
    /// Only metadata changes, in place; the slot is not used.
    pub in_place: bool,
    /// What stands there before; nothing if it is created.
    pub before: Option<Node>,
    /// Inode number of that, zero if unknown. Settles what content cannot: whether two equal files have changed places.
    pub before_inode: u64,
    /// What stands there afterwards; nothing if it is removed.
    pub after: Option<Node>,
    /// Inode number of that.
    pub after_inode: u64,
}

/// The mode of a directory in which steps are taken: one that its owner may not write to is open to him meanwhile.
pub fn open_mode(mode: u32) -> u32 {
    mode | 0o700
}

/// Must a directory of this mode be opened for steps of its owner in it?
pub fn is_locked(mode: u32) -> bool {
    mode & 0o300 != 0o300
}

/// Which way a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From old to new.
    Forward,
    /// From new to old.
    Backward,
}

/// Everything that a transaction does to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The transaction that it belongs to.
    pub transaction: [u8; 16],
    /// The transaction whose folder holds the slots.
    pub slots: [u8; 16],
    /// How an object is replaced.
    pub method: Method,
    /// What counts as identity.
    pub policy: Policy,
    /// Digest of the generation file that the transaction has written, if it has.
    pub state: Option<Digest>,
    /// Digest of the manifest file that it has written, if it has.
    pub manifest: Option<Digest>,
    /// The steps, in the order of going forward.
    pub steps: Vec<Step>,
}

impl Step {
    /// The same step the other way round.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            before: self.after,
            before_inode: self.after_inode,
            after: self.before,
            after_inode: self.before_inode,
            ..self
        }
    }
}

impl Plan {
    /// The plan of another transaction that takes this one back, with the same slots.
    #[must_use]
    pub fn inverse(self, transaction: [u8; 16]) -> Self {
        let steps = self.steps.into_iter().rev().map(Step::inverse).collect();
        Self { transaction, state: None, manifest: None, steps, ..self }
    }

    /// The bytes of the plan file, and their digest.
    pub fn encode(&self) -> (Vec<u8>, Digest) {
        let mut out = Vec::with_capacity(64 + 300 * self.steps.len());
        codec::encode_into(&self.header(), &mut out);
        for step in &self.steps {
            let inodes = (step.before_inode, step.after_inode);
            let wire =
                wire(&step.path, (step.slot, step.in_place), (step.before.as_ref(), step.after.as_ref()), inodes);
            codec::encode_into(&v1::Step { root: step.root, ..wire }, &mut out);
        }
        let digest = Digest::of(&out);
        (out, digest)
    }

    /// How many bytes the file of a plan with these steps will have.
    pub fn length<'a>(steps: impl Iterator<Item = &'a Proposal>) -> u64 {
        let step =
            |p: &Proposal| codec::length(&wire(&p.path, (0, false), (p.before.as_ref(), p.after.as_ref()), (0, 0)));
        let empty = Self {
            transaction: [0; 16],
            slots: [0; 16],
            method: Method::Exchange,
            policy: Policy::default(),
            state: None,
            manifest: None,
            steps: Vec::new(),
        };
        codec::length(&empty.header()) + steps.map(step).sum::<u64>()
    }

    fn header(&self) -> v1::PlanHeader {
        v1::PlanHeader {
            magic: v1::PLAN_MAGIC,
            transaction: self.transaction,
            slots: self.slots,
            method: self.method,
            policy: self.policy.bits(),
            state: self.state.map_or([0; 32], |digest| digest.0),
            manifest: self.manifest.map_or([0; 32], |digest| digest.0),
            steps: self.steps.len() as u32,
        }
    }

    /// Does a plan file that begins with these bytes hold no step?
    pub fn is_empty(start: &[u8]) -> bool {
        codec::decode_prefix::<v1::PlanHeader>(start)
            .is_ok_and(|(header, _)| header.magic == v1::PLAN_MAGIC && header.steps == 0)
    }

    /// Reads a plan file.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (header, mut at) = codec::decode_prefix::<v1::PlanHeader>(bytes)?;
        let policy = Policy::from_bits(header.policy);
        let (Some(policy), true) = (policy, header.magic == v1::PLAN_MAGIC) else {
            return Err(DecodeError::invalid("plan", "not a plan of format 1"));
        };
        let mut steps = Vec::new();
        for _ in 0..header.steps {
            let (wire, used) = codec::decode_prefix::<v1::Step>(&bytes[at..])?;
            at += used;
            let node = |wire: Option<v1::Node>| wire.map(Node::try_from).transpose();
            let step = Step {
                root: wire.root,
                path: v1::tree_path(&wire.path)?,
                slot: wire.slot,
                in_place: wire.in_place,
                before: node(wire.before)?,
                before_inode: wire.before_inode,
                after: node(wire.after)?,
                after_inode: wire.after_inode,
            };
            let sound = match (&step.before, &step.after) {
                (None, None) => false,
                (Some(before), Some(after)) if step.in_place => before.kind.difference(&after.kind).is_none(),
                _ => !step.in_place && !step.path.is_root(),
            };
            if !sound || step.root >= limits::ROOTS {
                return Err(DecodeError::invalid("plan", format!("step for {} makes no sense", step.path)));
            }
            steps.push(step);
        }
        if at != bytes.len() {
            return Err(DecodeError::Trailing(bytes.len() - at));
        }
        let written = |digest: [u8; 32]| (digest != [0; 32]).then_some(Digest(digest));
        Ok(Self {
            transaction: header.transaction,
            slots: header.slots,
            method: header.method,
            policy,
            state: written(header.state),
            manifest: written(header.manifest),
            steps,
        })
    }
}

/// A step of the tree as it is written.
fn wire(
    path: &TreePath,
    (slot, in_place): (u32, bool),
    (before, after): (Option<&Node>, Option<&Node>),
    (before_inode, after_inode): (u64, u64),
) -> v1::Step {
    v1::Step {
        root: 0,
        path: path.as_bytes().to_vec(),
        slot,
        in_place,
        before: before.map(v1::Node::from),
        before_inode,
        after: after.map(v1::Node::from),
        after_inode,
    }
}

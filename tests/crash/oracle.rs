//! What must hold of a disk after a crash: the public judge of packages, under the names that these tests use.

use crate::crash::workload::Prepared;
pub(super) use surefoot::crashtest::{Act, Promise, recover};
use surefoot::device::Status;
use surefoot::vfs::SimVfs;

pub(super) const ACTS: [Act; 4] = Act::ALL;

/// Does an act; errors end it.
pub(super) fn perform(act: Act, prepared: &Prepared, vfs: &SimVfs) -> (Promise, Option<surefoot::Error>) {
    prepared.perform(act, vfs)
}

/// Recovers and checks everything: present, honest, quiet, clean, futures.
pub(super) fn judge(prepared: &Prepared, vfs: &SimVfs, promise: Promise) -> Result<(), String> {
    prepared.judge(vfs, promise).map(drop)
}

/// The tree is exactly old or new, as promised, and as reported.
pub(super) fn present(prepared: &Prepared, vfs: &SimVfs, promise: Promise, status: &Status) -> Result<(), String> {
    prepared.present(vfs, promise, status).map(drop)
}

//! How often each version was tried: a release that does not stay is not tried for ever.

use super::layout;
use super::store::{read_file, replace_file};
use crate::error::{Advice, Code, Error};
use crate::limits;
use crate::model::Version;
use crate::vfs::Vfs;
use std::collections::BTreeMap;

/// How often each version was tried since the last one that stayed: failed by its own fault, or put on trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts(pub BTreeMap<Version, u32>);

impl Attempts {
    /// What is recorded. A record that cannot be read counts as none: it only spares work.
    pub fn read<V: Vfs>(vfs: &V) -> Result<Self, Error> {
        let at = layout::attempts();
        if vfs.stat(&at)?.is_none() {
            return Ok(Self::default());
        }
        let bytes = read_file(vfs, &at, limits::SMALL_FILE)?;
        Ok(Self(serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// Notes that a version was tried and did not stay, or is on trial. Durable.
    pub fn note<V: Vfs>(&mut self, vfs: &V, version: Version) -> Result<(), Error> {
        let count = self.0.entry(version).or_insert(0);
        *count = count.saturating_add(1);
        self.write(vfs)
    }

    /// Notes that a version stayed: what was before it is forgotten.
    pub fn clear<V: Vfs>(&mut self, vfs: &V) -> Result<(), Error> {
        self.0.clear();
        if vfs.stat(&layout::attempts())?.is_some() {
            vfs.remove_file(&layout::attempts())?;
        }
        Ok(())
    }

    /// Was it the release that failed, and not the network, the disk, the way that was chosen, or whoever pulled the
    /// plug?
    pub fn counts(error: &Error) -> bool {
        let failed = matches!(error.advice(), Advice::Distrust | Advice::RolledBack) || error.code() == Code::Format;
        failed && error.code() != Code::Downgrade
    }

    fn write<V: Vfs>(&self, vfs: &V) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&self.0)
            .map_err(|error| Error::new(Code::Internal, "the attempts cannot be written").because(error))?;
        replace_file(vfs, &layout::attempts_new(), &layout::attempts(), &bytes)
    }
}

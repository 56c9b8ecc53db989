//! How often each version was tried: a release that does not stay is not tried for ever.

use super::layout;
use super::store::{read_file, replace_file};
use crate::error::{Advice, Code, Error};
use crate::limits;
use crate::model::Version;
use crate::vfs::Vfs;
use std::collections::BTreeMap;

/// How often each version was tried since the last one that stayed. A try is noted before it begins, so that one which
/// ends with the power counts as well, and taken back if it ends in a way that is not the version's fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts(pub BTreeMap<Version, u32>);

impl Attempts {
    /// What is recorded. A record that cannot be read counts as none: it only spares work.
    pub fn read<V: Vfs>(vfs: &V) -> Result<Self, Error> {
        let at = layout::attempts();
        if vfs.stat(&at)?.is_none() {
            return Ok(Self::default());
        }
        match read_file(vfs, &at, limits::SMALL_FILE) {
            Err(error) if error.code() == Code::Limit => Ok(Self::default()),
            bytes => Ok(Self(serde_json::from_slice(&bytes?).unwrap_or_default())),
        }
    }

    /// Notes that a version is about to be tried. Durable when this returns.
    pub fn note<V: Vfs>(&mut self, vfs: &V, version: Version) -> Result<(), Error> {
        let count = self.0.entry(version).or_insert(0);
        *count = count.saturating_add(1);
        self.write(vfs)
    }

    /// Judges a try that has failed: it stays noted if it counts, and while it is not decided how it ends. Nothing is
    /// written then, since what stopped it may be the disk.
    ///
    /// The error is the one that matters, so that this fails is only told to the log.
    pub fn judge<V: Vfs>(&mut self, vfs: &V, version: Version, error: &Error) {
        self.judge_by(vfs, version, error, Self::counts(error));
    }

    /// The same where nobody has signed what is said about the version: whoever can answer in the place of its publisher
    /// can say anything, and must not make a device give it up. Only what was applied and is taken back counts.
    pub fn judge_announced<V: Vfs>(&mut self, vfs: &V, version: Version, error: &Error) {
        self.judge_by(vfs, version, error, error.advice() == Advice::RolledBack);
    }

    fn judge_by<V: Vfs>(&mut self, vfs: &V, version: Version, error: &Error, counts: bool) {
        if counts || error.advice() == Advice::Undecided {
            return;
        }
        let count = self.0.get(&version).copied().unwrap_or(0);
        match count {
            0 => return,
            1 => _ = self.0.remove(&version),
            _ => _ = self.0.insert(version, count - 1),
        }
        if let Err(error) = self.write(vfs) {
            tracing::warn!(error = %error, "that a try does not count could not be noted");
        }
    }

    /// Notes that a version is here and stays, which a crash may have kept from being noted.
    pub fn settle<V: Vfs>(&mut self, vfs: &V, version: Version) -> Result<(), Error> {
        match self.0.remove(&version) {
            None => Ok(()),
            Some(_) => self.write(vfs),
        }
    }

    /// Notes that a version stayed: what was before it is forgotten.
    pub fn clear<V: Vfs>(&mut self, vfs: &V) -> Result<(), Error> {
        self.0.clear();
        self.write(vfs)
    }

    /// Was it the release that failed, and not the network, the disk, the way that was chosen, or whoever pulled the
    /// plug?
    pub fn counts(error: &Error) -> bool {
        let failed = matches!(error.advice(), Advice::Distrust | Advice::RolledBack) || error.code() == Code::Format;
        failed && error.code() != Code::Downgrade
    }

    fn write<V: Vfs>(&self, vfs: &V) -> Result<(), Error> {
        if self.0.is_empty() {
            // What comes back with the power is one try too many, and no harm.
            return match vfs.stat(&layout::attempts())? {
                Some(_) => Ok(vfs.remove_file(&layout::attempts())?),
                None => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(&self.0)
            .map_err(|error| Error::new(Code::Internal, "the attempts cannot be written").because(error))?;
        replace_file(vfs, &layout::attempts_new(), &layout::attempts(), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;

    /// Once a record that was too large stood in the way of every update.
    #[test]
    fn a_record_that_cannot_be_read_counts_as_none() {
        let disk = SimVfs::new();
        for bytes in [vec![b' '; limits::SMALL_FILE as usize + 1], b"{\"1.0.0\":".to_vec(), b"[]".to_vec()] {
            disk.write_file(".surefoot/attempts", bytes);
            assert_eq!(Attempts::read(&disk).unwrap(), Attempts::default());
        }
        disk.write_file(".surefoot/attempts", "{\"1.0.0\":2}");
        assert_eq!(Attempts::read(&disk).unwrap().0, [(Version::new(1, 0, 0), 2)].into());
    }
}

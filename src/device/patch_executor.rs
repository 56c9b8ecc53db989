//! `PatchExecutor`: patches of the service manifest, from the description to the report.

use super::observer::{Observer, Phase, Progress};
use super::processor::{PackageSource, PatchProcessor, PatchReport};
use super::{Engine, Recovered, Report, Settings, Tree};
use crate::error::{Advice, Code, Error};
use crate::model::{PatchOperations, PatchPackageInfo, Version};
use crate::trust::Keyring;
use crate::vfs::{OsVfs, Vfs};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Applies patches of the service manifest to one directory tree: each as a whole or, wherever the power fails, not at
/// all.
#[derive(Debug)]
pub struct PatchExecutor<V: Vfs = OsVfs> {
    tree: Tree<V>,
    processor: PatchProcessor,
    settings: Settings,
    version: Option<Version>,
    allow_downgrade: bool,
}

/// How applying a patch ended, for a report.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum PatchOutcome {
    /// It is applied.
    Applied(PatchReport),
    /// It failed, and the old tree is back.
    RolledBack(Why),
    /// It failed before anything of the tree was changed.
    Unchanged(Why),
    /// It failed and is not rolled back: recovery decides.
    Undecided(Why),
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Why {
    /// The stable code.
    pub code: &'static str,
    /// What and where.
    pub message: String,
    /// The causes, the nearest first.
    pub causes: Vec<String>,
    /// What a person can do.
    pub hint: &'static str,
}

impl PatchOutcome {
    /// How it ended, by what was returned.
    pub fn of(result: &Result<PatchReport, Error>) -> Self {
        match result {
            Ok(report) => Self::Applied(report.clone()),
            Err(error) => match error.advice() {
                Advice::RolledBack => Self::RolledBack(Why::of(error)),
                Advice::Undecided => Self::Undecided(Why::of(error)),
                _ => Self::Unchanged(Why::of(error)),
            },
        }
    }
}

impl Why {
    fn of(error: &Error) -> Self {
        let first = std::error::Error::source(error);
        let causes = std::iter::successors(first, |cause| cause.source()).map(ToString::to_string).collect();
        Self { code: error.code().as_str(), message: error.message().to_owned(), causes, hint: error.hint() }
    }
}

impl PatchExecutor<OsVfs> {
    /// Opens a directory as [`Tree::open`] does: with its state in `.surefoot` inside it, and what a crash left is
    /// finished.
    pub fn new(work_dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::over(Tree::open(work_dir)?)
    }
}

impl<V: Vfs> PatchExecutor<V> {
    /// [`PatchExecutor::new`] on any file system.
    pub fn with(vfs: V) -> Result<Self, Error> {
        Self::over(Tree::with(vfs)?)
    }

    fn over(mut tree: Tree<V>) -> Result<Self, Error> {
        let mut keyring = Keyring::new();
        for pem in &tree.engine().config().keys {
            for key in Keyring::from_pem(pem)?.keys() {
                keyring.insert(key.clone())?;
            }
        }
        let processor = PatchProcessor::new(keyring);
        Ok(Self { tree, processor, settings: Settings::default(), version: None, allow_downgrade: false })
    }

    /// Keeps the undo data of an update after it is confirmed, so that `rollback` still works; or not. It is recorded
    /// with the tree.
    pub fn enable_backup(&mut self, enabled: bool) -> Result<&mut Self, Error> {
        let mut config = self.engine().config().clone();
        let keep = if enabled { config.keep.max(1) } else { 0 };
        if keep != config.keep {
            config.keep = keep;
            self.engine().set_config(config)?;
        }
        Ok(self)
    }

    /// Trusts these keys besides those that the tree trusts. They are not recorded.
    pub fn trust(&mut self, keyring: &Keyring) -> Result<&mut Self, Error> {
        self.processor.trust(keyring)?;
        Ok(self)
    }

    /// Accepts packages as [`PatchProcessor::allow_unsigned`] does.
    pub fn allow_unsigned(&mut self, allowed: bool) -> &mut Self {
        self.processor.set_allow_unsigned(allowed);
        self
    }

    /// Accepts a version that is older than the one installed.
    pub fn allow_downgrade(&mut self, allowed: bool) -> &mut Self {
        self.allow_downgrade = allowed;
        self
    }

    /// Most bytes that a package may unpack to; nothing for what is free on the file system.
    pub fn limit_unpacked(&mut self, bytes: Option<u64>) -> &mut Self {
        self.processor.set_unpacked_limit(bytes);
        self
    }

    /// Takes packages from somewhere else than the disk.
    pub fn set_source(&mut self, source: impl PackageSource + 'static) -> &mut Self {
        self.processor.set_source(Box::new(source));
        self
    }

    /// How transactions are run: on trial or not, and what is verified before.
    pub fn set_settings(&mut self, settings: Settings) -> &mut Self {
        self.settings = settings;
        self
    }

    /// The version that a patch makes whose description does not say; without either, the version stays.
    pub fn set_version(&mut self, version: Option<Version>) -> &mut Self {
        self.version = version;
        self
    }

    /// What opening the tree has finished or taken back.
    pub fn recovered(&self) -> &Recovered {
        self.tree.recovered()
    }

    /// The engine underneath.
    pub fn engine(&mut self) -> &mut Engine<V> {
        self.tree.engine()
    }

    /// Verifies and applies a package; `progress` is told the part that is done, from 0.0 to 1.0, never falling.
    ///
    /// [`PatchOutcome::of`] makes a report of the answer.
    pub fn apply_patch(
        &mut self,
        info: &PatchPackageInfo,
        operations: &PatchOperations,
        progress: impl Fn(f64) + Sync,
    ) -> Result<PatchReport, Error> {
        let rising = Rising { tell: progress, last: Mutex::new(f64::NEG_INFINITY) };
        let report = self.apply_patch_observed(info, operations, &rising)?;
        rising.tell_if_more(1.0);
        Ok(report)
    }

    /// [`PatchExecutor::apply_patch`] with somebody who is told more, and may stop it.
    pub fn apply_patch_observed(
        &mut self,
        info: &PatchPackageInfo,
        operations: &PatchOperations,
        observer: &dyn Observer,
    ) -> Result<PatchReport, Error> {
        observer.report(Progress { phase: Phase::Check, done: 0, total: 0 });
        self.engine().require_idle()?;
        let operations = operations.validate()?;
        let version = info.version.or(self.version);
        self.refuse_downgrade(version)?;
        let patch = self.processor.download_patch(info, observer)?;
        let patch = self.processor.verify_patch_integrity(patch, observer)?;
        let staged = self.processor.extract_patch(patch, &operations, self.tree.engine(), observer)?;
        staged.or_version(version.map(|version| version.to_string())).apply(&self.settings, observer)
    }

    /// Verifies and applies a full package, as [`PatchProcessor::list_full`] lists it.
    pub fn apply_full_observed(
        &mut self,
        info: &PatchPackageInfo,
        observer: &dyn Observer,
    ) -> Result<PatchReport, Error> {
        observer.report(Progress { phase: Phase::Check, done: 0, total: 0 });
        self.engine().require_idle()?;
        let version = info.version.or(self.version);
        self.refuse_downgrade(version)?;
        let patch = self.processor.download_patch(info, observer)?;
        let patch = self.processor.verify_patch_integrity(patch, observer)?;
        let operations = self.processor.list_full(&patch, self.tree.engine(), observer)?;
        let staged = self.processor.extract_patch(patch, &operations, self.tree.engine(), observer)?;
        staged.or_version(version.map(|version| version.to_string())).apply(&self.settings, observer)
    }

    fn refuse_downgrade(&mut self, to: Option<Version>) -> Result<(), Error> {
        let current = self.engine().current()?.version;
        match (to, current.parse::<Version>()) {
            (Some(to), Ok(from)) if to < from && !self.allow_downgrade => {
                Err(Error::new(Code::Downgrade, format!("the package would install {to} over {from}")))
            }
            _ => Ok(()),
        }
    }

    /// Goes back to the version before: ends a trial, or takes back the last update while its undo data is kept.
    pub fn rollback(&mut self) -> Result<Report, Error> {
        self.tree.rollback()
    }

    /// Ends a trial: the new version stays.
    pub fn confirm(&mut self) -> Result<(), Error> {
        self.tree.confirm()
    }

    /// Finishes or takes back whatever a failure left; opening has done so already.
    pub fn recover(&mut self) -> Result<Recovered, Error> {
        self.engine().recover(&())
    }
}

/// Tells a closure the part that is done, whenever it has grown.
struct Rising<F> {
    tell: F,
    last: Mutex<f64>,
}

impl<F: Fn(f64)> Rising<F> {
    fn tell_if_more(&self, part: f64) {
        // Held while telling, so that two threads do not tell out of order.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if part > *last {
            *last = part;
            (self.tell)(part);
        }
    }
}

impl<F: Fn(f64) + Sync> Observer for Rising<F> {
    fn report(&self, progress: Progress) {
        self.tell_if_more(progress.fraction());
    }
}

#[cfg(test)]
mod tests;

//! `apply --entry`: applies a package of the service manifest.

use super::apply::{refuse_trial, tell};
use crate::cli::args::{Apply, Applying};
use crate::cli::files::{add_trusted, failed, read_small};
use crate::cli::managed::{Managed, told};
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::device::{PatchExecutor, PatchReport};
use crate::error::{Code, Error};
use crate::model::PatchPackageInfo;
use crate::trust::Keyring;
use std::fs;
use std::path::Path;

pub(super) fn run(asked: &Apply, entry: &Path, managed: &Managed, output: &Output) -> Result<(), Error> {
    let mut info = PatchPackageInfo::from_json(&read_small(entry)?)?;
    info.url = address(&asked.package)?;
    apply_archive(info, Holds::Operations, &asked.how, managed, output)
}

/// What a tar.gz package holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// What its operations list.
    Operations,
    /// All that is in it: a full package.
    Everything,
}

/// Applies a tar.gz package that is on the disk.
pub(super) fn apply_archive(
    mut info: PatchPackageInfo,
    holds: Holds,
    how: &Applying,
    managed: &Managed,
    output: &Output,
) -> Result<(), Error> {
    // The executor would take care of any directory; here that is what init is for.
    if !managed.is_initialised()? {
        return Err(managed.not_initialised());
    }
    let mut executor = PatchExecutor::with(managed.open()?)?;
    if let Some(outcome) = executor.recovered().outcome {
        output.message(format_args!("an interrupted update {}", told(outcome)));
    }
    refuse_trial(executor.recovered())?;
    let mut keyring = Keyring::new();
    add_trusted(&mut keyring, &how.trust)?;
    executor.trust(&keyring)?;
    executor.allow_unsigned(how.allow_unsigned).allow_downgrade(how.allow_downgrade).set_settings(how.settings());
    let operations = std::mem::take(&mut info.operations);
    let meter = Meter::new(output);
    let report: PatchReport = match holds {
        Holds::Operations => executor.apply_patch_observed(&info, &operations, &meter)?,
        Holds::Everything => executor.apply_full_observed(&info, &meter)?,
    };
    drop(meter);
    tell(&report.report, output);
    for warning in &report.warnings {
        output.message(format_args!("warning: {warning}"));
    }
    output.result(&report);
    Ok(())
}

/// The package on the disk, wherever the entry says that it is to be fetched from.
pub(super) fn address(package: &Path) -> Result<String, Error> {
    let unavailable = |error| Error::new(Code::Unavailable, failed("open", package, error).message());
    let path = fs::canonicalize(package).map_err(unavailable)?;
    let not_text = |_| Error::new(Code::Path, format!("{} is not text", package.display()));
    path.into_os_string().into_string().map_err(not_text)
}

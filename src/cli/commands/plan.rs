//! `plan --from`: every operation of an update, and what it would cost.

use crate::cli::args::{Global, Plan};
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::service::{self, Decision};
use crate::error::Error;
use crate::model::PatchOperations;
use crate::strategy::{UpgradeStrategy, Way};
use serde::Serialize;

#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    strategy: &'a UpgradeStrategy,
    /// What a patch does; nothing for a full package, of which only the package itself tells.
    operations: Option<&'a PatchOperations>,
}

pub(super) fn run(asked: &Plan, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let carriers = service::carriers(&asked.web)?;
    let decision = service::decide(&asked.way, &asked.web, &asked.arch, &managed, &carriers)?;
    let Decision { manifest, strategy, .. } = &decision;
    let patch = manifest.patch_package(&asked.arch).filter(|_| strategy.way == Way::Patch);
    let operations = patch.map(|patch| &patch.operations);
    service::tell(strategy, output);
    if let Some(operations) = operations {
        operations.validate()?;
        let lists = [
            ("replace", &operations.replace.files),
            ("replace", &operations.replace.directories),
            ("delete", &operations.delete.files),
            ("delete", &operations.delete.directories),
        ];
        for (what, paths) in lists {
            paths.iter().for_each(|path| output.line(format_args!("{what:8} {path}")));
        }
    }
    output.result(&Planned { strategy, operations });
    Ok(())
}

//! `plan --from`: every operation of an update, and what it would cost.

use super::diff::told;
use crate::cli::args::{Global, ManifestKind, Plan};
use crate::cli::following;
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::cli::service::{self, Decision};
use crate::device::Look;
use crate::error::Error;
use crate::model::PatchOperations;
use crate::strategy::{UpgradeStrategy, Way};
use crate::tree::Described;
use serde::Serialize;

/// One package of a way through a repository.
#[derive(Serialize)]
struct Package<'a> {
    path: &'a str,
    version: String,
    bytes: u64,
    digest: String,
    space_bytes: u64,
    memory_bytes: u64,
    notes: &'a str,
}

#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    strategy: &'a UpgradeStrategy,
    /// What a patch of a service does; packages of a repository tell it themselves.
    operations: Option<&'a PatchOperations>,
}

pub(super) fn run(asked: &Plan, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let carriers = service::carriers(&asked.web)?;
    if asked.way.manifest == ManifestKind::Repository {
        let bundle = following::bundle(&asked.way.from)?;
        let source = (bundle.as_ref(), &carriers);
        let follower = following::follower((&asked.way, &asked.web), &asked.arch, asked.allow_downgrade, source)?;
        let look = follower.look(&|| managed.open(), &())?;
        following::tell(&look, output);
        let doings = follower.preview(&|| managed.open(), &look)?;
        tell_packages(&look, &doings, output);
        return Ok(());
    }
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

/// What each package takes, and as far as that is at hand, what it does.
fn tell_packages(look: &Look, doings: &[Vec<Described>], output: &Output) {
    service::tell(&look.strategy, output);
    for (number, (release, step)) in look.packages.iter().zip(&look.strategy.steps).enumerate() {
        let space = bytes(release.space_bytes);
        let missing = if step.kind == Way::Blocks { "missing blocks of " } else { "" };
        let fetched = bytes(step.bytes.unwrap_or(release.bytes));
        output.line(format_args!("{:<8} {missing}{}  {fetched}, stages {space}", "fetch", release.path));
        output.item(
            "package",
            &Package {
                path: &release.path,
                version: release.version.to_string(),
                bytes: release.bytes,
                digest: release.digest.to_string(),
                space_bytes: release.space_bytes,
                memory_bytes: release.memory_bytes,
                notes: &release.notes,
            },
        );
        for change in doings.get(number).into_iter().flatten() {
            output.item("change", change);
            output.line(told(change));
        }
    }
    output.result(&Planned { strategy: &look.strategy, operations: None });
}

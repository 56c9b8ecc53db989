//! `plan --from`: every operation of an update, and what it would cost.

use crate::cli::args::{Global, ManifestKind, Plan};
use crate::cli::following;
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::cli::service::{self, Decision};
use crate::device::Look;
use crate::error::Error;
use crate::model::PatchOperations;
use crate::strategy::{UpgradeStrategy, Way};
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
    /// What a patch does; nothing for a full package, of which only the package itself tells.
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
        tell_packages(&look, output);
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

/// What each package takes. What it does, only the package itself tells.
fn tell_packages(look: &Look, output: &Output) {
    service::tell(&look.strategy, output);
    for release in &look.packages {
        let space = bytes(release.space_bytes);
        output.line(format_args!("{:<8} {}  {}, stages {space}", "fetch", release.path, bytes(release.bytes)));
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
    }
    output.result(&Planned { strategy: &look.strategy, operations: None });
}

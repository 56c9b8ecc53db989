//! `apply`: applies a local package.

use super::shown;
use crate::cli::args::{Apply, Global};
use crate::cli::files::{add_trusted, open_package, read_small};
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::device::{Engine, PackageSettings, PatchProcessor, Report};
use crate::error::{Code, Error};
use crate::model::{Digest, PatchPackageInfo, Version};
use crate::package::{Package, Verified};
use crate::trust::Keyring;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

#[derive(Serialize)]
struct Applied {
    #[serde(flatten)]
    report: Report,
    /// The name of the package.
    package: Digest,
    /// The key that vouches for it; nothing if it was accepted without.
    signer: Option<Digest>,
}

pub(super) fn run(asked: &Apply, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let meter = Meter::new(output);
    let (mut engine, recovered) = managed.recovered(output, &meter)?;
    if recovered.trial {
        let message = format!("a trial is under way, of the update from version {}", shown(&recovered.version));
        return Err(Error::new(Code::Pending, message));
    }
    let keyring = keyring(&engine, asked)?;
    if let Some(entry) = &asked.entry {
        return apply_entry(asked, entry, keyring, &mut engine, meter, output);
    }
    let package = believe(Package::open(open_package(&asked.package)?)?, &keyring, asked.allow_unsigned)?;
    let (id, signer) = (package.id(), package.signer());
    let settings = PackageSettings {
        settings: asked.settings(),
        architecture: Some(asked.arch.clone()),
        allow_downgrade: asked.allow_downgrade,
    };
    let report = engine.apply(package, &settings, &meter)?;
    drop(meter);
    let applied = Applied { report, package: id, signer };
    tell(&applied.report, output);
    output.result(&applied);
    Ok(())
}

/// The keys of the tree, and those of this call.
fn keyring(engine: &Engine, asked: &Apply) -> Result<Keyring, Error> {
    let mut keyring = Keyring::new();
    for text in &engine.config().keys {
        for key in Keyring::from_pem(text)?.keys() {
            keyring.insert(key.clone())?;
        }
    }
    add_trusted(&mut keyring, &asked.trust)?;
    Ok(keyring)
}

fn believe<R: Read>(
    package: Package<R, crate::package::Unverified>,
    keyring: &Keyring,
    allow_unsigned: bool,
) -> Result<Package<R, Verified>, Error> {
    if !allow_unsigned {
        return Ok(package.verify(keyring)?);
    }
    // A signature that can be verified is, and then it must be good.
    let known = package.claimed_signers().any(|key| keyring.contains(&key));
    Ok(if known { package.verify(keyring)? } else { package.accept_unsigned()? })
}

/// Applies a package of the service manifest by its JSON entry. Whatever address the entry names, the file given is it.
fn apply_entry(
    asked: &Apply,
    entry: &Path,
    keyring: Keyring,
    engine: &mut Engine,
    meter: Meter<'_>,
    output: &Output,
) -> Result<(), Error> {
    let mut info = PatchPackageInfo::from_json(&read_small(entry)?)?;
    info.url = asked
        .package
        .to_str()
        .ok_or_else(|| Error::new(Code::Path, format!("{} is not UTF-8", asked.package.display())))?
        .to_owned();
    if let (Some(to), Ok(from)) = (&info.version, engine.current()?.version.parse::<Version>())
        && *to < from
        && !asked.allow_downgrade
    {
        return Err(Error::new(Code::Downgrade, format!("the package would install {to} over {from}")));
    }
    let operations = info.operations.validate()?;
    let processor = PatchProcessor::new(keyring).allow_unsigned(asked.allow_unsigned);
    let verified = processor.verify_patch_integrity(processor.download_patch(&info, &meter)?, &meter)?;
    let (package, signer) = (verified.digest(), verified.signer());
    let version = info.version.as_ref().map(ToString::to_string);
    let staged = processor.extract_patch(verified, &operations, engine, &meter)?.or_version(version);
    let done = staged.apply(&asked.settings(), &meter)?;
    drop(meter);
    for warning in &done.warnings {
        output.message(format_args!("warning: {warning}"));
    }
    tell(&done.report, output);
    output.result(&Applied { report: done.report, package, signer });
    Ok(())
}

fn tell(report: &Report, output: &Output) {
    let Report { from, to, steps, trial, transaction } = report;
    if transaction.is_empty() || *steps == 0 {
        output.line(format_args!("{} -> {}, nothing had to change", shown(from), shown(to)));
    } else {
        output.line(format_args!("{} -> {}, {steps} steps", shown(from), shown(to)));
    }
    if *trial {
        output.line("on trial: confirm keeps it, rollback takes it back");
    } else {
        output.line("confirmed");
    }
}

//! `apply`: applies a local package.

use super::{apply_entry, shown};
use crate::cli::args::{Apply, Applying, Global};
use crate::cli::files::{add_trusted, open_package};
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::device::{Engine, Recovered, Report};
use crate::error::{Code, Error};
use crate::model::Digest;
use crate::package::{Package, Verified};
use crate::trust::Keyring;
use serde::Serialize;
use std::io::Read;

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
    if let Some(entry) = &asked.entry {
        return apply_entry::run(asked, entry, &managed, output);
    }
    let meter = Meter::new(output);
    let (mut engine, recovered) = managed.recovered(output, &meter)?;
    refuse_trial(&recovered)?;
    let keyring = keyring(&engine, &asked.how)?;
    let package = believe(Package::open(open_package(&asked.package)?)?, &keyring, asked.how.allow_unsigned)?;
    let (id, signer) = (package.id(), package.signer());
    let settings = asked.how.package_settings();
    let report = engine.apply(package, &settings, &meter)?;
    drop(meter);
    let applied = Applied { report, package: id, signer };
    tell(&applied.report, output);
    output.result(&applied);
    Ok(())
}

pub(super) fn refuse_trial(recovered: &Recovered) -> Result<(), Error> {
    if !recovered.trial {
        return Ok(());
    }
    let message = format!("a trial is under way, of the update from version {}", shown(&recovered.version));
    Err(Error::new(Code::Pending, message))
}

/// The keys of the tree, and those of this call.
pub(super) fn keyring(engine: &Engine, asked: &Applying) -> Result<Keyring, Error> {
    let mut keyring = Keyring::new();
    for text in &engine.config().keys {
        for key in Keyring::from_pem(text)?.keys() {
            keyring.insert(key.clone())?;
        }
    }
    add_trusted(&mut keyring, &asked.trust)?;
    Ok(keyring)
}

pub(super) fn believe<R: Read>(
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

pub(super) fn tell(report: &Report, output: &Output) {
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

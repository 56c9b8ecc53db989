//! `update`: asks, chooses, fetches, verifies, applies.

use super::apply::{believe, keyring, refuse_trial, tell};
use super::apply_entry::{Holds, address, apply_archive};
use crate::cli::args::{Applying, Global, ManifestKind, Update};
use crate::cli::files::{open_package, starts_with};
use crate::cli::following;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::cli::service::{self, Decision};
use crate::device::{Attempts, Downloads, Engine, PatchProcessor};
use crate::error::{Advice, Code, Error};
use crate::fetch::{Carriers, Options};
use crate::model::PatchPackageInfo;
use crate::package::Package;
use crate::strategy::Way;
use crate::trust::Keyring;
use crate::vfs::OsVfs;
use std::path::Path;

/// The first bytes of a tar.gz.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Those of a package of surefoot's.
const PACKAGE: &[u8] = b"surefoot";

pub(super) fn run(asked: &Update, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let meter = Meter::new(output);
    // Whatever a crash left is settled first: it may have finished the update.
    let engine = settled(&managed, output, &meter)?;
    let keyring = keyring(&engine, &asked.how)?;
    drop(engine);
    let carriers = service::carriers(&asked.web)?;
    if asked.way.manifest == ManifestKind::Repository {
        return follow(asked, &managed, &carriers, output, meter);
    }
    let decision = service::decide(&asked.way, &asked.web, &asked.how.arch, &managed, &carriers)?;
    let vfs = managed.open()?;
    let downloads = Downloads::open(&vfs)?;
    let mut attempts = Attempts::read(&vfs)?;
    attempts.settle(&vfs, decision.strategy.from)?;
    let Some(info) = chosen(&decision, &asked.how.arch)? else {
        // What is left of earlier downloads leads nowhere any more.
        downloads.keep_only(&[])?;
        service::tell(&decision.strategy, output);
        output.result(&decision.strategy);
        return Ok(());
    };
    output.message(&decision.strategy);
    output.item("strategy", &decision.strategy);
    refuse_unverifiable(&info, decision.strategy.way, &keyring, asked.how.allow_unsigned)?;
    let wanted = service::wanted(&decision.base, &info, decision.manifest.version, &asked.web.mirror)?;
    let kept = (!service::is_asked_for_anew(&asked.way, &vfs, &wanted)?).then_some(&wanted);
    downloads.keep_only(kept.as_slice())?;
    let options = Options { most_bytes: asked.way.max_bytes, ..service::options(&asked.web, info.size) };
    let fetched = downloads.fetch(&wanted, &carriers, &options, &meter);
    drop(meter);
    let done = fetched.and_then(|_| {
        let path = Downloads::<OsVfs>::path(&wanted, managed.state());
        let info = PatchPackageInfo { url: address(&path)?, version: Some(decision.manifest.version), ..info };
        attempts.note(&vfs, decision.manifest.version)?;
        if decision.strategy.way == Way::Full {
            apply_full(info, &path, &asked.how, &managed, output)
        } else {
            apply_archive(info, Holds::Operations, &asked.how, &managed, output)
        }
        .inspect_err(|error| attempts.judge_announced(&vfs, decision.manifest.version, error))
    });
    if let (Err(error), None) = (&done, wanted.digest)
        && error.advice() == Advice::Distrust
    {
        // Nothing says that it would be another one if it was fetched again, and nothing that it would not: what may be a
        // package stays for a while, for when the right key is here.
        let path = Downloads::<OsVfs>::path(&wanted, managed.state());
        let known = [GZIP, PACKAGE].iter().any(|magic| starts_with(&path, magic).unwrap_or(false));
        if known { downloads.refuse(&wanted)? } else { downloads.keep_only(&[])? }
    }
    if done.is_ok() {
        // From here on a failure costs some space, and nothing else.
        downloads.keep_only(&[])?;
        // What is on trial stays noted until it is confirmed.
        if !asked.how.trial {
            attempts.clear(&vfs)?;
        }
    }
    done
}

/// Follows a repository.
fn follow(
    asked: &Update,
    managed: &Managed,
    carriers: &Carriers,
    output: &Output,
    meter: Meter<'_>,
) -> Result<(), Error> {
    following::refuse_keys(!asked.how.trust.is_empty(), asked.how.allow_unsigned)?;
    let bundle = following::bundle(&asked.way.from)?;
    let (way, source) = ((&asked.way, &asked.web), (bundle.as_ref(), carriers));
    let follower = following::follower(way, &asked.how.arch, asked.how.allow_downgrade, source)?;
    let look = follower.look(&|| managed.open(), &meter)?;
    following::tell(&look, output);
    if look.strategy.is_none() {
        service::tell(&look.strategy, output);
    } else {
        output.message(&look.strategy);
        output.item("strategy", &look.strategy);
    }
    let report = follower.install(&|| managed.open(), &look, &asked.how.package_settings(), &meter)?;
    drop(meter);
    match report {
        None => output.result(&look.strategy),
        Some(report) => {
            tell(&report, output);
            output.result(&report);
        }
    }
    Ok(())
}

/// Finishes or takes back what a crash left.
fn settled(managed: &Managed, output: &Output, meter: &Meter<'_>) -> Result<Engine, Error> {
    let (engine, recovered) = managed.recovered(output, meter)?;
    refuse_trial(&recovered)?;
    Ok(engine)
}

/// The package that was chosen; nothing if there is nothing to do.
fn chosen(decision: &Decision, architecture: &str) -> Result<Option<PatchPackageInfo>, Error> {
    let missing = || Error::new(Code::Internal, "the package that was chosen is not in the manifest");
    match decision.strategy.way {
        Way::None => Ok(None),
        Way::Patch => {
            let patch = service::package(&decision.manifest, Way::Patch, architecture).ok_or_else(missing)?;
            patch.operations.validate()?;
            if patch.version.is_some_and(|version| version != decision.manifest.version) {
                return Err(Error::new(Code::Format, "the patch makes another version than the manifest says"));
            }
            Ok(Some(patch))
        }
        way => Ok(Some(service::package(&decision.manifest, way, architecture).ok_or_else(missing)?)),
    }
}

/// What nobody could verify when it is here is not fetched.
fn refuse_unverifiable(info: &PatchPackageInfo, way: Way, keyring: &Keyring, unsigned: bool) -> Result<(), Error> {
    let signature = info.signature_bytes()?;
    if unsigned {
        return Ok(());
    }
    if keyring.is_empty() {
        return Err(Error::new(Code::NoKeys, "no key is trusted to sign packages"));
    }
    // A full package may carry its signature in itself.
    if way == Way::Patch && signature.is_none() {
        return Err(Error::new(Code::Unsigned, "the package is not signed"));
    }
    Ok(())
}

/// Applies a full package: one of surefoot's own, which says for itself what it holds, or a tar.gz.
fn apply_full(
    info: PatchPackageInfo,
    path: &Path,
    how: &Applying,
    managed: &Managed,
    output: &Output,
) -> Result<(), Error> {
    if starts_with(path, GZIP)? {
        return apply_archive(info, Holds::Everything, how, managed, output);
    }
    let meter = Meter::new(output);
    let mut engine = settled(managed, output, &meter)?;
    let keyring = keyring(&engine, how)?;
    // The signature in the manifest is one over the file; it is not asked for where the package carries its own.
    let unsigned = how.allow_unsigned || info.signature_bytes()?.is_none();
    let processor = PatchProcessor::new(keyring.clone()).allow_unsigned(unsigned);
    let downloaded = processor.download_patch(&info, &meter)?;
    drop(processor.verify_patch_integrity(downloaded, &meter)?);
    let package = believe(Package::open(open_package(path)?)?, &keyring, how.allow_unsigned)?;
    let made = package.promise().head().to.clone();
    if info.version.is_some_and(|version| version.to_string() != made) {
        return Err(Error::new(Code::Format, format!("the full package makes version {made}, not the one announced")));
    }
    let settings = how.package_settings();
    let report = engine.apply(package, &settings, &meter)?;
    drop(meter);
    tell(&report, output);
    output.result(&report);
    Ok(())
}

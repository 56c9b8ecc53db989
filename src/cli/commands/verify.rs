//! `verify`: is the tree what it should be?

use crate::cli::args::{Global, Verify};
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::device::Engine;
use crate::error::{Code, Error};
use crate::model::{Finding, Manifest};
use crate::tree::{self, Verification, Walk};
use serde::Serialize;

#[derive(Serialize)]
struct Verified {
    version: String,
    checked_files: u64,
    hashed_bytes: u64,
}

pub(super) fn run(asked: &Verify, global: &Global, output: &Output) -> Result<(), Error> {
    let mut engine = Managed::of(global)?.engine()?;
    let meter = Meter::new(output);
    let (generation, manifest) = engine.expected()?;
    let clean = if asked.quick { None } else { read_all(&mut engine, &manifest, &meter)? };
    let Verification { findings, checked_files, hashed_bytes } = match clean {
        Some(clean) => clean,
        None => engine.verify(!asked.quick, &meter)?,
    };
    drop(meter);
    if findings.is_empty() {
        let verified = Verified { version: generation.version, checked_files, hashed_bytes };
        output.line(format_args!(
            "the tree is version {}: {checked_files} files, {} read",
            super::shown(&verified.version),
            bytes(hashed_bytes)
        ));
        output.result(&verified);
        return Ok(());
    }
    let changed = Error::new(Code::Changed, format!("{} paths are not as they were recorded", findings.len()));
    for finding in &findings {
        output.item("finding", finding);
        let Finding { path, difference } = finding;
        output.line(format_args!("{path}: {difference}"));
    }
    // People have just seen all of them.
    Err(if output.json { changed.listing(findings) } else { changed })
}

/// Reads the whole tree once, and if it is what it should be records what its files look like. Nothing if it is not:
/// then it is compared path by path.
fn read_all(engine: &mut Engine, manifest: &Manifest, meter: &Meter<'_>) -> Result<Option<Verification>, Error> {
    let how = Walk { policy: manifest.policy(), state_inside: true };
    let Ok((found, index)) = tree::scan_indexed(engine.vfs(), &how, None, &meter.check()) else { return Ok(None) };
    if !tree::changes(manifest, &found).is_empty() {
        return Ok(None);
    }
    engine.write_index(&index)?;
    let files = || found.entries().iter().filter(|entry| entry.node.is_file());
    Ok(Some(Verification {
        findings: Vec::new(),
        checked_files: files().count() as u64,
        hashed_bytes: files().filter(|entry| entry.node.leader.is_none()).map(|entry| entry.node.kind.size()).sum(),
    }))
}

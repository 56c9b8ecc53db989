//! `confirm`: ends the trial; the new version stays.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::error::Error;
use serde::Serialize;

#[derive(Serialize)]
struct Confirmed {
    from: String,
    version: String,
}

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let meter = Meter::new(output);
    let (mut engine, recovered) = Managed::of(global)?.recovered(output, &meter)?;
    engine.confirm(&meter)?;
    drop(meter);
    let confirmed = Confirmed { from: recovered.version, version: engine.current()?.version };
    output.line(format_args!("version {} stays", shown(&confirmed.version)));
    output.result(&confirmed);
    Ok(())
}

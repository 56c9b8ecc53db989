//! `rollback`: goes back to the version before.

use super::shown;
use crate::cli::args::Global;
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::error::Error;

pub(super) fn run(global: &Global, output: &Output) -> Result<(), Error> {
    let meter = Meter::new(output);
    let (mut engine, recovered) = Managed::of(global)?.recovered(output, &meter)?;
    // Who asks again after an interruption wants to go back once.
    let report = match recovered.went_back {
        Some(report) => report,
        None => engine.rollback(&meter)?,
    };
    drop(meter);
    output.line(format_args!("{} -> {}, {} steps taken back", shown(&report.from), shown(&report.to), report.steps));
    output.result(&report);
    Ok(())
}

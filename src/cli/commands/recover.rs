//! `recover`: finishes or undoes whatever a crash left.

use super::shown;
use crate::cli::args::{Global, Recover};
use crate::cli::managed::{Managed, told};
use crate::cli::output::Output;
use crate::cli::progress::Meter;
use crate::error::Error;

pub(super) fn run(asked: &Recover, global: &Global, output: &Output) -> Result<(), Error> {
    let mut engine = Managed::of(global)?.engine()?;
    if asked.remounted {
        engine.forget_poison()?;
    }
    let meter = Meter::new(output);
    let recovered = engine.recover(&meter)?;
    drop(meter);
    let version = shown(&recovered.version);
    output.line(match (recovered.outcome, recovered.trial) {
        (Some(outcome), _) => format!("an interrupted update {}; the tree is version {version}", told(outcome)),
        (None, true) => format!("a trial is under way; version {version} is what a rollback leads to"),
        (None, false) => format!("nothing to do; the tree is version {version}"),
    });
    if let Some(cause) = &recovered.cause {
        output.line(format_args!("because: {cause}"));
    }
    output.result(&recovered);
    Ok(())
}

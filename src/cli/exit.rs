//! Exit codes: each is one [`Advice`](crate::error::Advice) of an error.

use super::output::Output;
use crate::error::{Code, Error};
use std::io::Write as _;
use std::process::ExitCode;

/// Tells the error, if there is one, and gives the exit code.
pub(super) fn with(result: Result<(), Error>, output: &Output) -> ExitCode {
    match result.and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            // Where not even the error can be written, the exit code still says it.
            let _ = output.finish();
            ExitCode::from(error.advice() as u8)
        }
    }
}

/// Tells what is wrong with the arguments, or the help that was asked for.
pub(super) fn with_usage(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let error = Error::new(Code::Usage, first.strip_prefix("error: ").unwrap_or(first));
        let _ = writeln!(std::io::stdout(), "{}", Output::error_object(&error));
    } else {
        // A reader that went away needs no help any more.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

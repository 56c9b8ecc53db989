//! The command line: one contract for people and for scripts. `docs/cli.md` describes it.
//!
//! `args` says what can be asked for, `commands` does it, `output` tells what came of it, `exit` turns that
//! into an exit code. Nothing here decides anything about a tree: that is the device's business.

mod args;
mod commands;
mod exit;
mod files;
mod following;
mod interrupt;
pub mod lab;
mod managed;
mod output;
mod progress;
mod prove;
mod repo_args;
mod service;

use args::{Arguments, Command};
use clap::Parser as _;
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    match Arguments::try_parse_from(&given) {
        Ok(arguments) => {
            start_tracing(&arguments);
            let output = Output::new(&arguments.global, arguments.command.name());
            let result = commands::run(&arguments, &output);
            exit::with(result, &output)
        }
        Err(error) => {
            exit::with_usage(&error, given.iter().take_while(|part| *part != "--").any(|part| part == "--json"))
        }
    }
}

/// What the library has to say besides results goes to stderr.
fn start_tracing(arguments: &Arguments) {
    let global = &arguments.global;
    // In a crash test everything fails that can, and the engine warns of all of it.
    let quiet = global.quiet || matches!(arguments.command, Command::Crashtest(_));
    let level = match (quiet && !global.verbose, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, false) => LevelFilter::WARN,
        (false, true) => LevelFilter::DEBUG,
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr);
    // It can only fail where there is one already, and then that one is as good.
    let _ = subscriber.without_time().with_target(false).try_init();
}

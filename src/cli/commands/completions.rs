//! `completions`: for the shell.

use crate::cli::args::{Arguments, Completions};
use crate::cli::output::Output;
use crate::error::Error;
use clap::CommandFactory as _;
use serde::Serialize;

#[derive(Serialize)]
struct Script {
    shell: String,
    text: String,
}

pub(super) fn run(asked: &Completions, output: &Output) -> Result<(), Error> {
    let mut bytes = Vec::new();
    clap_complete::generate(asked.shell, &mut Arguments::command(), "surefoot", &mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    output.line(text.trim_end());
    output.result(&Script { shell: asked.shell.to_string(), text });
    Ok(())
}

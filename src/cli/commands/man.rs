//! `man`: for man(1).

use crate::cli::args::{Arguments, Man};
use crate::cli::files::failed;
use crate::cli::output::Output;
use crate::error::{Code, Error};
use clap::CommandFactory as _;
use serde::Serialize;

#[derive(Serialize)]
struct Pages {
    directory: Option<String>,
    text: Option<String>,
}

pub(super) fn run(asked: &Man, output: &Output) -> Result<(), Error> {
    let command = Arguments::command();
    if let Some(directory) = &asked.directory {
        clap_mangen::generate_to(command, directory).map_err(|error| failed("write", directory, error))?;
        let directory = directory.display().to_string();
        output.line(format_args!("the pages are in {directory}"));
        output.result(&Pages { directory: Some(directory), text: None });
        return Ok(());
    }
    let mut bytes = Vec::new();
    let rendered = clap_mangen::Man::new(command).render(&mut bytes);
    rendered.map_err(|error| Error::new(Code::Internal, "the page cannot be made").because(error))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    output.line(text.trim_end());
    output.result(&Pages { directory: None, text: Some(text) });
    Ok(())
}

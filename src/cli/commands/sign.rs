//! `sign`: adds a signature to a package.

use crate::cli::args::Sign;
use crate::cli::files::{Draft, failed, open_package, read_secret};
use crate::cli::output::Output;
use crate::error::Error;
use crate::limits;
use crate::model::Digest;
use crate::package::add_signature;
use serde::Serialize;
use std::io::{BufWriter, Write as _};

#[derive(Serialize)]
struct Signed {
    package: String,
    id: Digest,
    key: Digest,
}

pub(super) fn run(asked: &Sign, output: &Output) -> Result<(), Error> {
    let key = read_secret(&asked.key)?;
    let package = open_package(&asked.package)?;
    let mut draft = Draft::create(&asked.package)?;
    let mut out = BufWriter::with_capacity(limits::COPY_BUFFER, draft.file()?);
    let id = add_signature(package, &mut out, &key)?;
    out.flush().map_err(|error| failed("write", &asked.package, error))?;
    drop(out);
    draft.complete()?;
    let signed = Signed { package: asked.package.display().to_string(), id, key: key.public().id() };
    output.line(format_args!("{} is signed by key {}", signed.package, signed.key));
    output.result(&signed);
    Ok(())
}

//! `sign`: adds a signature to a package, or to root metadata of a repository.

use crate::cli::args::Sign;
use crate::cli::files::{Draft, failed, open_package, read_secret, read_small};
use crate::cli::output::Output;
use crate::error::Error;
use crate::limits;
use crate::model::Digest;
use crate::package;
use crate::repository::{Key, Root, add_signature, signers};
use crate::trust::SecretKey;
use serde::Serialize;
use std::io::{BufWriter, Read as _, Write as _};

#[derive(Serialize)]
struct Signed {
    package: String,
    id: Digest,
    key: Digest,
}

#[derive(Serialize)]
struct SignedRoot {
    root: String,
    version: u64,
    /// The name that the metadata has for the key.
    key: String,
    signed_by: usize,
}

pub(super) fn run(asked: &Sign, output: &Output) -> Result<(), Error> {
    let key = read_secret(&asked.key)?;
    let mut first = [0];
    let length =
        open_package(&asked.package)?.read(&mut first).map_err(|error| failed("read", &asked.package, error))?;
    if first[..length] == *b"{" {
        return sign_root(asked, &key, output);
    }
    let package = open_package(&asked.package)?;
    let mut draft = Draft::create(&asked.package)?;
    let mut out = BufWriter::with_capacity(limits::COPY_BUFFER, draft.file()?);
    let id = package::add_signature(package, &mut out, &key)?;
    out.flush().map_err(|error| failed("write", &asked.package, error))?;
    drop(out);
    draft.complete()?;
    let signed = Signed { package: asked.package.display().to_string(), id, key: key.public().id() };
    output.line(format_args!("{} is signed by key {}", signed.package, signed.key));
    output.result(&signed);
    Ok(())
}

fn sign_root(asked: &Sign, key: &SecretKey, output: &Output) -> Result<(), Error> {
    let name = asked.package.display().to_string();
    let bytes = add_signature(&name, &read_small(&asked.package)?, key)?;
    // Nothing else is signed by hand: the publisher signs it when it is published.
    let root: crate::repository::Signed<Root> = crate::repository::Signed::parse(&name, &bytes)?;
    let id = Key::ed25519(&key.public()).id();
    let mut draft = Draft::create(&asked.package)?;
    draft.file()?.write_all(&bytes).map_err(|error| failed("write", &asked.package, error))?;
    draft.complete()?;
    let signed_by = signers(&name, &bytes)?.len();
    let version = root.body.version;
    output.line(format_args!("{name}, root metadata of version {version}, is signed by {signed_by} keys"));
    output.result(&SignedRoot { root: name, version, key: id, signed_by });
    Ok(())
}

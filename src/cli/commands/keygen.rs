//! `keygen`: makes a key pair.

use crate::cli::args::Keygen;
use crate::cli::files::{random, with_suffix, write_new};
use crate::cli::output::Output;
use crate::error::Error;
use crate::model::Digest;
use crate::trust::SecretKey;
use serde::Serialize;

#[derive(Serialize)]
struct Made {
    secret: String,
    public: String,
    key: Digest,
}

pub(super) fn run(asked: &Keygen, output: &Output) -> Result<(), Error> {
    let secret = SecretKey::generate(random()?);
    let beside = with_suffix(&asked.output, ".pub");
    write_new(&asked.output, 0o600, secret.to_pem().as_bytes())?;
    write_new(&beside, 0o644, secret.public().to_pem().as_bytes()).inspect_err(|_| {
        // A secret whose other half is another key's would only confuse.
        let _ = std::fs::remove_file(&asked.output);
    })?;
    let made = Made {
        secret: asked.output.display().to_string(),
        public: beside.display().to_string(),
        key: secret.public().id(),
    };
    output.line(format_args!("{} is the secret key: keep it", made.secret));
    output.line(format_args!("{} is the public key {}", made.public, made.key));
    output.result(&made);
    Ok(())
}

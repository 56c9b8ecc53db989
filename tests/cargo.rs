//! Building this crate once more, otherwise, for the tests that need such a build.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One executable that a build has made.
pub(crate) struct Built {
    /// `lib`, `bin`, `test` or `example`: what it was made of.
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

/// Runs cargo in a directory, in the profile of a release, and gives the executables; or what the compiler said.
pub(crate) fn build(at: &Path, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Result<Vec<Built>, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(at)
        .args(arguments)
        .args(["--release", "--message-format=json"])
        // Whoever builds often builds what has changed only.
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
        .envs(environment.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if output.status.success() {
        let built = |message: &serde_json::Value| {
            let kind = message["target"]["kind"][0].as_str()?.to_string();
            Some(Built { kind, path: message["executable"].as_str()?.into() })
        };
        return Ok(messages.iter().filter_map(built).collect());
    }
    let errors = messages.iter().filter(|message| message["message"]["level"] == "error");
    Err(errors.filter_map(|message| message["message"]["rendered"].as_str()).collect())
}

//! A Python with packages of PyPI in it, for tests in which somebody else's code judges.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python in a folder of this name under that of the build, in which these modules can be imported; installed once.
/// Nothing where there is no Python with `pip`; where there is one and that does not work, the test fails.
pub(crate) fn with(folder: &str, packages: &[&str], modules: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let python = folder.join("bin/python");
    let works = || runs(Command::new(&python).args(["-c", &format!("import {modules}")]));
    if works().is_ok() {
        return Some(python);
    }
    runs(Command::new("python3").args(["-c", "import pip, venv, ensurepip"])).ok()?;
    runs(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .and_then(|_| runs(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages)))
        .and_then(|_| works())
        .unwrap_or_else(|why| panic!("there is a Python with pip, and {packages:?} cannot be installed: {why}"));
    Some(python)
}

/// Runs a program; its standard output, or what it said when it failed.
pub(crate) fn runs(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

//! The program, as people and scripts meet it: results, exit codes, error codes, JSON.

#![allow(clippy::unwrap_used, clippy::panic)]

mod again;
mod crashtest;
mod documents;
mod exit_codes;
mod faults;
mod json;
mod main_job;
mod memory;
mod metadata;
mod refusals;
mod repository;
mod service;
mod surroundings;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use surefoot::device::{Engine, Observer, PackageSettings, Phase, Progress, Settings};
use surefoot::package::Package;
use surefoot::transaction::Recovery;
use surefoot::vfs::OsVfs;

/// A directory with two trees, `old` and `new`, where the program runs.
struct Place {
    directory: tempfile::TempDir,
}

/// What came of one run.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        for (path, content) in [
            ("old/bin/app", "one"),
            ("old/lib/keep", "content that stays and moves"),
            ("old/lib/x/gone", "gone"),
            ("old/etc/conf", "a = 1"),
        ] {
            place.write(path, content);
        }
        symlink("app", place.path("old/bin/current")).unwrap();
        fs::hard_link(place.path("old/lib/keep"), place.path("old/lib/other name")).unwrap();
        for (path, content) in [("new/bin/app", "two"), ("new/lib/kept", "content that stays and moves")] {
            place.write(path, content);
        }
        place.write("new/etc/conf", "a = 1");
        place.write("new/etc/more/conf", "b = 2");
        symlink("app", place.path("new/bin/current")).unwrap();
        fs::set_permissions(place.path("new/etc/conf"), fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    /// With keys, packages both ways, and `dev`: the old tree under care.
    fn with_packages() -> Self {
        let place = Self::new();
        place.good(&["keygen", "-o", "key"]);
        place.good(&["keygen", "-o", "stranger"]);
        place.build("old", "new", "1.0.0", "1.0.0.1", "up.sf");
        place.copy("old", "dev");
        place.good(&["--root", "dev", "init", "--version", "1.0.0", "--trust", "key.pub", "--owner", "no"]);
        place
    }

    fn build(&self, old: &str, new: &str, from: &str, to: &str, package: &str) -> Ran {
        self.good(&["build", old, new, "--from", from, "--to", to, "--key", "key", "--owner", "no", "-o", package])
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn copy(&self, from: &str, to: &str) {
        let done = Command::new("cp").args(["-a"]).arg(self.path(from)).arg(self.path(to)).status().unwrap();
        assert!(done.success());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surefoot"));
        command.args(arguments).current_dir(self.directory.path()).env_remove("SUREFOOT_ROOT").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        Ran { code: status.code().unwrap(), stdout: String::from_utf8(stdout).unwrap(), stderr }
    }

    /// The same as if the machine had been started anew, for the time of this name; nothing where that cannot be shown.
    fn boot(&self, name: &str, arguments: &[&str]) -> Option<Ran> {
        self.write("boot", name);
        // In a mount namespace of its own, which goes with its process. The exit code says who has failed.
        let script = "mount --bind boot /proc/sys/kernel/random/boot_id || exit 77; exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", script, env!("CARGO_BIN_EXE_surefoot")]).args(arguments);
        let Output { status, stdout, stderr } = command.current_dir(self.directory.path()).output().ok()?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        if status.code() == Some(77) || stderr.starts_with("unshare") {
            println!("SKIPPED: no boots can be shown here: {stderr}");
            return None;
        }
        Some(Ran { code: status.code().unwrap(), stdout: String::from_utf8(stdout).unwrap(), stderr })
    }

    /// Applies a package up to some moment, and leaves it there as a process does that is killed.
    fn interrupt(&self, root: &str, package: &str, phase: Phase, recovery: Recovery) {
        let opened = Package::open(fs::File::open(self.path(package)).unwrap()).unwrap().accept_unsigned().unwrap();
        let settings = Settings { recovery, ..Settings::default() };
        let settings = PackageSettings { settings, ..PackageSettings::default() };
        self.kill(root, phase, |engine, observer| _ = engine.apply(opened, &settings, observer));
    }

    /// Does something up to some moment, and leaves it there as a process does that is killed.
    fn kill(&self, root: &str, phase: Phase, act: impl FnOnce(&mut Engine, &dyn Observer)) {
        struct Until(Phase);

        impl Observer for Until {
            fn report(&self, progress: Progress) {
                if progress.phase == self.0 && (progress.done > 0 || progress.phase == Phase::Stage) {
                    std::panic::resume_unwind(Box::new("killed"));
                }
            }
        }

        let vfs = OsVfs::open(&self.path(root), &self.path(&format!("{root}/.surefoot"))).unwrap();
        let mut engine = Engine::open(vfs).unwrap();
        assert!(
            catch_unwind(AssertUnwindSafe(|| act(&mut engine, &Until(phase)))).is_err(),
            "{phase:?} is never reached"
        );
    }

    /// Runs what must go well.
    #[track_caller]
    fn good(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Runs what must fail with these codes, for people and as an object. Gives the object.
    #[track_caller]
    fn bad(&self, arguments: &[&str], exit: i32, code: &str) -> Value {
        let before = tree_listing(self.directory.path());
        let ran = self.run(arguments);
        assert_eq!(ran.code, exit, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        if code != "usage.invalid" {
            assert!(ran.stderr.contains(&format!("({code})")), "{arguments:?}\n{}", ran.stderr);
            assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
        }
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, exit, "{arguments:?}");
        let object: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(object["type"], "error", "{object}");
        assert_eq!(object["code"], code, "{object}");
        assert_eq!(tree_listing(self.directory.path()), before, "a failure leaves nothing behind");
        object
    }

    /// The tree at `path` holds exactly what the one at `other` does.
    #[track_caller]
    fn assert_same(&self, path: &str, other: &str) {
        let ran = self.good(&["diff", path, other, "--owner", "no"]);
        assert_eq!(ran.stdout, "no difference\n");
    }
}

/// Every path below a directory with its size, but for the insides of state directories.
fn tree_listing(directory: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = vec![directory.to_path_buf()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            out.push(format!("{} {size}", entry.path().display()));
            if metadata.is_dir() && entry.file_name() != ".surefoot" {
                next.push(entry.path());
            }
        }
    }
    out.sort();
    out
}

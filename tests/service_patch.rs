//! Patches of the service manifest on a real disk: built, signed, applied, taken back.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use surefoot::device::{FileOperationExecutor, PatchExecutor, PatchOutcome, PatchWarning};
use surefoot::model::{DeleteOperations, Digest, PatchOperations, PatchPackageInfo, ReplaceOperations, TreePath};
use surefoot::package::legacy::LegacyWriter;
use surefoot::trust::{Keyring, SecretKey};
use surefoot::{Code, Error};
use tempfile::TempDir;

/// What is wrong with a description.
type Spoil<'a> = &'a dyn Fn(&mut PatchPackageInfo);

/// A tree under `tree`, and beside it whatever a test needs.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.file("tree/app.jar", "old application", 0o750);
        place.file("tree/front/index.html", "old page", 0o644);
        place.file("tree/front/uploads/unknown", "a user's", 0o600);
        place.mode("tree/front/uploads", 0o711);
        place.file("tree/front/run.sh", "script", 0o4755);
        symlink("../app.jar", place.at("tree/front/link")).unwrap();
        place.file("tree/old/app.jar", "very old", 0o644);
        place.file("tree/old/front/page", "very old page", 0o644);
        place.file("tree/data/user.db", "not ours", 0o600);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
        self.mode(name, mode);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Everything in the tree but the state: type, mode, owner, content.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        collect(&self.at("tree"), "", &mut out);
        out
    }
}

fn collect(directory: &Path, prefix: &str, out: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if name == ".surefoot" {
            continue;
        }
        let found = entry.path().symlink_metadata().unwrap();
        let owner = format!("{:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid());
        let text = if found.is_dir() {
            collect(&entry.path(), &format!("{name}/"), out);
            format!("dir {owner}")
        } else if found.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else {
            format!("file {owner} {}", fs::read_to_string(entry.path()).unwrap())
        };
        out.insert(name, text);
    }
}

fn operations() -> PatchOperations {
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    PatchOperations {
        replace: ReplaceOperations { files: own(&["app.jar", "etc/config.yml"]), directories: own(&["front/"]) },
        delete: DeleteOperations { files: own(&["old/app.jar", "old/none"]), directories: own(&["old/front/"]) },
    }
}

fn build() -> Vec<u8> {
    let operations = operations().validate().unwrap();
    let path = |text: &str| TreePath::parse(text).unwrap();
    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    writer.file(&path("app.jar"), 0o755, 15, &mut &b"new application"[..]).unwrap();
    writer.file(&path("etc/config.yml"), 0o640, 4, &mut &b"a: 1"[..]).unwrap();
    writer.directory(&path("front"), 0o750).unwrap();
    writer.directory(&path("front/css"), 0o755).unwrap();
    writer.file(&path("front/css/main"), 0o644, 5, &mut &b"style"[..]).unwrap();
    writer.file(&path("front/index.html"), 0o644, 8, &mut &b"new page"[..]).unwrap();
    writer.symlink(&path("front/link"), b"css/main").unwrap();
    writer.finish().unwrap()
}

fn key() -> SecretKey {
    SecretKey::generate([42; 32])
}

fn keyring() -> Keyring {
    Keyring::from_pem(&key().public().to_pem()).unwrap()
}

/// Publishes the package beside the tree; its entry goes through JSON as a service sends it.
fn publish(place: &Place, package: &[u8]) -> PatchPackageInfo {
    fs::write(place.at("p 1.tar.gz"), package).unwrap();
    let url = format!("file://{}", place.at("p%201.tar.gz").display());
    let mut info = PatchPackageInfo { url, operations: operations(), ..PatchPackageInfo::default() };
    info.set_digest(Digest::of(package));
    info.set_signature(&key().sign(b"", package).0);
    info.version = Some("0.0.13.2".parse().unwrap());
    PatchPackageInfo::from_json(info.to_json().unwrap().as_bytes()).unwrap()
}

fn executor(place: &Place) -> PatchExecutor {
    let mut executor = PatchExecutor::new(place.at("tree")).unwrap();
    executor.trust(&keyring()).unwrap();
    executor
}

#[test]
fn a_patch_is_applied_and_taken_back_exactly() {
    let place = Place::new();
    let old = place.tree();
    let info = publish(&place, &build());
    let mut executor = executor(&place);
    let result = executor.apply_patch(&info, &info.operations, |_| ());
    let report = result.as_ref().unwrap();
    assert_eq!(report.warnings, [PatchWarning::NotThere { path: TreePath::parse("old/none").unwrap() }]);
    assert!(matches!(PatchOutcome::of(&result), PatchOutcome::Applied(_)));

    let owner =
        |path: &str| fs::metadata(place.at(path)).map(|found| format!("{}:{}", found.uid(), found.gid())).unwrap();
    let owner = owner("tree");
    let expected: BTreeMap<String, String> = [
        ("app.jar", format!("file 755 {owner} new application")),
        ("data", old["data"].clone()),
        ("data/user.db", old["data/user.db"].clone()),
        ("etc", format!("dir 755 {owner}")),
        ("etc/config.yml", format!("file 640 {owner} a: 1")),
        ("front", format!("dir 750 {owner}")),
        ("front/css", format!("dir 755 {owner}")),
        ("front/css/main", format!("file 644 {owner} style")),
        ("front/index.html", format!("file 644 {owner} new page")),
        ("front/link", "-> css/main".into()),
        ("old", old["old"].clone()),
    ]
    .map(|(path, text)| (path.to_owned(), text))
    .into();
    assert_eq!(place.tree(), expected);
    assert_eq!(executor.engine().current().unwrap().version, "0.0.13.2");

    executor.rollback().unwrap();
    assert_eq!(place.tree(), old, "strangers in replaced directories are back, and every mode");
    assert!(executor.apply_patch(&info, &info.operations, |_| ()).is_ok(), "and forth again");
    assert_eq!(place.tree(), expected);
}

#[test]
fn each_failure_has_its_own_code_and_changes_nothing() {
    let place = Place::new();
    let old = place.tree();
    let package = build();
    let info = publish(&place, &package);
    let refused = |change: Spoil<'_>| -> Error {
        let mut info = info.clone();
        change(&mut info);
        let error = executor(&place).apply_patch(&info, &info.operations, |_| ()).unwrap_err();
        assert_eq!(place.tree(), old, "{error}");
        error
    };
    let cases: [(Code, Spoil<'_>); 10] = [
        (Code::PackagePartial, &|info| info.operations.replace.files.push("missing".into())),
        (Code::PackagePartial, &|info| info.operations.replace.directories.push("missing/".into())),
        (Code::Digest, &|info| info.set_digest(Digest::of(b"other"))),
        (Code::Digest, &|info| info.size = Some(17)),
        (Code::Signature, &|info| info.set_signature(&key().sign(b"other domain", b"").0)),
        (Code::Unsigned, &|info| info.signature = None),
        (Code::Format, &|info| info.signature = Some("looks signed".into())),
        (Code::Unavailable, &|info| info.url = "https://updates.example.com/p.tar.gz".into()),
        (Code::Unavailable, &|info| info.url = place.at("none").display().to_string()),
        (Code::Unavailable, &|info| info.url = place.at("tree").display().to_string()),
    ];
    for (number, (code, change)) in cases.iter().enumerate() {
        let error = refused(*change);
        assert_eq!(error.code(), *code, "case {number}: {error}");
    }

    fs::write(place.at("cut"), &package[..package.len() / 2]).unwrap();
    let cut = |info: &mut PatchPackageInfo| info.url = place.at("cut").display().to_string();
    assert_eq!(refused(&cut).code(), Code::Digest);
    let mut bare = PatchPackageInfo { url: place.at("cut").display().to_string(), ..PatchPackageInfo::default() };
    bare.operations = operations();
    let error = executor(&place).allow_unsigned(true).apply_patch(&bare, &bare.operations, |_| ()).unwrap_err();
    assert_eq!(error.code(), Code::PackageFormat);
    let mut nobody = PatchExecutor::new(place.at("tree")).unwrap();
    assert_eq!(nobody.apply_patch(&info, &info.operations, |_| ()).unwrap_err().code(), Code::NoKeys);
    assert_eq!(place.tree(), old);
}

#[test]
fn openssl_verifies_the_signature_too() {
    if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: there is no openssl here");
        return;
    }
    let place = Place::new();
    let package = build();
    let info = publish(&place, &package);
    fs::write(place.at("key.pem"), key().public().to_pem()).unwrap();
    fs::write(place.at("signature"), info.signature_bytes().unwrap().unwrap()).unwrap();
    let verify = || {
        let mut command = Command::new("openssl");
        command.current_dir(place.folder.path()).args(["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]);
        command.args(["-in", "p 1.tar.gz", "-sigfile", "signature"]).output().unwrap()
    };
    let output = verify();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(place.at("p 1.tar.gz"), [&package[..], b"x"].concat()).unwrap();
    assert!(!verify().status.success(), "openssl tells a wrong one");
}

#[test]
fn file_operations_are_transactions_each() {
    let place = Place::new();
    let old = place.tree();
    place.file("source/app.jar", "new application", 0o4755);
    place.file("source/front/index.html", "new page", 0o644);
    place.mode("source/front", 0o755);
    symlink("index.html", place.at("source/front/link")).unwrap();
    let mut executor = FileOperationExecutor::new(place.at("tree")).unwrap();
    assert_eq!(executor.replace_files(&["app.jar"]).unwrap_err().code(), Code::Usage);
    executor.set_patch_source(place.at("source")).unwrap();
    for (paths, code) in [(["app.jar", "none"], Code::PackagePartial), (["app.jar", "../x"], Code::Path)] {
        assert_eq!(executor.replace_files(&paths).unwrap_err().code(), code);
        assert_eq!(place.tree(), old);
    }
    assert_eq!(executor.replace_files(&["front"]).unwrap_err().code(), Code::PackagePartial);
    assert_eq!(executor.replace_directories(&[".surefoot"]).unwrap_err().code(), Code::Path);

    executor.replace_files(&["app.jar"]).unwrap();
    assert!(place.tree()["app.jar"].starts_with("file 755 "), "no setuid from a source");
    let between = place.tree();
    executor.replace_directories(&["front/"]).unwrap();
    let front: Vec<String> = place.tree().into_keys().filter(|path| path.starts_with("front")).collect();
    assert_eq!(front, ["front", "front/index.html", "front/link"]);
    executor.rollback().unwrap();
    assert_eq!(place.tree(), between);

    let report = executor.delete_items(&["old", "app.jar", "none/at/all", "front/link"]).unwrap();
    assert_eq!(report.warnings, [PatchWarning::NotThere { path: TreePath::parse("none/at/all").unwrap() }]);
    assert!(!place.at("tree/old").exists() && !place.at("tree/app.jar").exists());
    executor.rollback().unwrap();
    assert_eq!(place.tree(), between);
}

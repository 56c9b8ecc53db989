//! Another implementation judges: `tuf` of PyPI, the reference implementation, reads what we publish, and we read what
//! it publishes. Where there is no Python with `pip`, a line that begins with `SKIPPED:` says so; where there is one and
//! `tuf` cannot be installed, the tests fail.

use super::{Device, Publisher};
use crate::python;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use surefoot::model::Digest;
use surefoot::repository::*;

/// A Python with `tuf` in it, installed once.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || python::with("tuf-7", &["tuf>=6", "securesystemslib[crypto]"], "tuf.ngclient, cryptography");
    PYTHON.get_or_init(install).as_deref()
}

/// Runs a program text; its standard output, or what it said when it failed.
fn run(python: &Path, program: &str, folder: &Path) -> Result<String, String> {
    python::runs(Command::new(python).args(["-c", program]).current_dir(folder))
}

/// A client that reads the folder as a server would give it, and downloads the target that it is asked for.
const CLIENT: &str = r#"
import datetime, os, sys
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface
import tuf.ngclient._internal.trusted_metadata_set as inner

class Folder(FetcherInterface):
    def _fetch(self, url):
        path = url.removeprefix("http://server/")
        if not os.path.exists(path):
            raise DownloadHTTPError("no such file", 404)
        yield open(path, "rb").read()

class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2030, 6, 1, 12, tzinfo=datetime.timezone.utc)

class Module:
    pass

Module.datetime, Module.timezone = Fixed, datetime.timezone
inner.datetime = Module
os.makedirs("client", exist_ok=True)
updater = Updater("client", "http://server/metadata/", "client", "http://server/targets/", fetcher=Folder(),
                  bootstrap=open("metadata/1.root.json", "rb").read())
updater.refresh()
info = updater.get_targetinfo("any/1.0.0/full.sf")
print(open(updater.download_target(info), "rb").read().decode())
print(sorted(updater._trusted_set.targets.targets))
print(info.custom["surefoot"]["version"])
"#;

#[test]
fn the_reference_implementation_believes_what_we_publish_and_refuses_what_we_refuse() {
    let Some(python) = python() else {
        println!("SKIPPED: no Python with tuf here: the reference implementation judges nothing");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new();
    publisher.set_keys(role::ROOT, &[21, 22, 23], 2);
    publisher.next_root(&[1, 21, 22]);
    publisher.add("1.0.1", b"next");
    publisher.targets.more.insert("x".into(), serde_json::json!("\u{e9}\n\"\\\u{1}"));
    publisher.release_next();
    let write = |files: &BTreeMap<String, Vec<u8>>| {
        fs::create_dir_all(folder.path().join("metadata")).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join("metadata").join(name), bytes).unwrap());
    };
    write(&publisher.files);
    let blob = blob_name("any/1.0.0/full.sf", &Digest::of(b"the package"), true);
    let blob = folder.path().join("targets").join(blob);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, b"the package").unwrap();
    let told = run(python, CLIENT, folder.path()).unwrap();
    assert_eq!(told, "the package\n['any/1.0.0/full.sf', 'any/1.0.1/full.sf']\n1.0.0\n");
    // What it keeps, a device of ours goes on with.
    let mut device = Device::default();
    for name in ["root", "timestamp", "snapshot", "targets"] {
        device.stored.0.insert(name.into(), fs::read(folder.path().join(format!("client/{name}.json"))).unwrap());
    }
    device.look(&publisher.files).unwrap();
    assert_eq!(device.asked, ["3.root.json", "timestamp.json"]);

    // Every byte counts for both.
    for (name, at) in [("timestamp.json", 250), ("2.snapshot.json", 250), ("2.targets.json", 300), ("2.root.json", 700)]
    {
        fs::remove_dir_all(folder.path().join("client")).unwrap();
        let mut files = publisher.files.clone();
        files.get_mut(name).unwrap()[at] ^= 1;
        write(&files);
        assert!(publisher.device().look(&files).is_err(), "{name}");
        let said = run(python, CLIENT, folder.path()).unwrap_err();
        assert!(said.contains("tuf.api") || said.contains("Error"), "{name}: {said}");
    }
    write(&publisher.files);
    fs::write(&blob, b"the-package").unwrap();
    assert!(run(python, CLIENT, folder.path()).unwrap_err().contains("LengthOrHashMismatchError"));
}

/// A publisher that makes two roots, a delegation and a target.
const PUBLISHER: &str = r#"
import datetime, os
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import *

expires = datetime.datetime(2031, 1, 1, tzinfo=datetime.timezone.utc)
make = CryptoSigner.generate_ecdsa if os.path.exists("ecdsa") else CryptoSigner.generate_ed25519
keys = {name: make() for name in ["root", "targets", "snapshot", "timestamp", "team"]}
new = make()
root = Metadata(Root(expires=expires))
for name in ["root", "targets", "snapshot", "timestamp"]:
    root.signed.add_key(keys[name].public_key, name)
targets, team = Metadata(Targets(expires=expires)), Metadata(Targets(expires=expires))
content = b"from python"
team.signed.targets["team/file \u00e9"] = TargetFile.from_data("team/file \u00e9", content, ["sha256", "sha512"])
role = DelegatedRole("the team", [], 1, True, ["team/*"])
targets.signed.delegations = Delegations({}, {"the team": role})
targets.signed.add_key(keys["team"].public_key, "the team")
snapshot = Metadata(Snapshot(expires=expires, meta={"targets.json": MetaFile(1), "the team.json": MetaFile(1)}))
timestamp = Metadata(Timestamp(expires=expires))
os.makedirs("metadata", exist_ok=True)
def put(name, metadata, *signers):
    for number, signer in enumerate(signers):
        metadata.sign(signer, append=number > 0)
    metadata.to_file("metadata/" + name)
put("1.root.json", root, keys["root"])
root.signed.version = 2
root.signed.revoke_key(keys["root"].public_key.keyid, "root")
root.signed.add_key(new.public_key, "root")
put("2.root.json", root, keys["root"], new)
put("1.targets.json", targets, keys["targets"])
put("1.the%20team.json", team, keys["team"])
put("1.snapshot.json", snapshot, keys["snapshot"])
put("timestamp.json", timestamp, keys["timestamp"])
"#;

#[test]
fn we_believe_what_the_reference_implementation_publishes() {
    let Some(python) = python() else {
        println!("SKIPPED: no Python with tuf here: nothing of the reference implementation is read");
        return;
    };
    let kinds = if cfg!(feature = "ecdsa") { &["ed25519", "ecdsa"][..] } else { &["ed25519"] };
    for kind in kinds {
        let folder = tempfile::tempdir().unwrap();
        if *kind == "ecdsa" {
            fs::write(folder.path().join("ecdsa"), b"").unwrap();
        }
        run(python, PUBLISHER, folder.path()).unwrap();
        let names = fs::read_dir(folder.path().join("metadata")).unwrap();
        let files: BTreeMap<String, Vec<u8>> = names
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        assert_eq!(files.len(), 6, "{:?}", files.keys());
        let mut device = Device::default();
        device.stored.0.insert("root".into(), files["1.root.json"].clone());
        let client = device.look_for(&files, Some("team/file \u{e9}")).unwrap();
        let found = client.found("team/file \u{e9}").unwrap();
        assert_eq!((found.role, found.target.digest()), ("the team", Some(Digest::of(b"from python"))));
        assert_eq!(device.versions(), [2, 1, 1, 1]);
        for name in ["timestamp.json", "1.targets.json", "1.the%20team.json"] {
            let mut files = files.clone();
            let text = String::from_utf8(files[name].clone()).unwrap();
            files.insert(name.into(), text.replace("2031-01-01", "2032-01-01").into_bytes());
            let mut device = Device::default();
            device.stored.0.insert("root".into(), files["1.root.json"].clone());
            let refused = device.look_for(&files, Some("team/file \u{e9}"));
            assert!(matches!(refused, Err(RepositoryError::Signatures { .. })), "{kind} {name}");
        }
    }
}

//! `examples/tuf_client.rs`, driven as suites that test such clients drive it.

use super::server::{Server, send, serve};
use super::update::Place;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use surefoot::model::Digest;
use surefoot::repository::escape;

/// Cargo builds the examples with the tests.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap().join("examples/tuf_client");
    assert!(path.exists(), "{} is not there: cargo test builds it", path.display());
    path
}

/// Its exit code.
fn client(arguments: &[&str]) -> i32 {
    let output = Command::new(program()).args(arguments).output().unwrap();
    let code = output.status.code().unwrap();
    assert_eq!(code == 0, output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    code
}

#[test]
fn the_client_under_test_protocol_is_spoken() {
    let place = Place::new();
    place.good(&["build", "--full", "old", "--to", "1.0.0", "--owner", "no", "--no-prove", "-o", "full.sf"]);
    place.good(&["repo", "init", "REPO", "--key", "key"]);
    place.good(&["repo", "add", "REPO", "full.sf", "--key", "key"]);
    let folder = place.path("REPO");
    let root = folder.clone();
    let server = Server::start(move |asked, stream| match fs::read(root.join(asked.path.trim_start_matches('/'))) {
        Ok(content) => serve(asked, stream, &content, "\"t\""),
        Err(_) => send(stream, "404 Not Found", &["Content-Length: 2"], b"no"),
    });
    let at = |name: &str| place.path(name).display().to_string();
    let (kept, got) = (at("kept"), at("got"));
    let (metadata, targets) = (server.url("metadata"), server.url("targets/"));
    let look = |more: &[&str]| client(&[&["--metadata-dir", &kept, "--metadata-url", &metadata], more].concat());
    let name = "any/1.0.0/full.sf";
    let download = ["--target-base-url", &targets, "--target-dir", &got, "--target-name", name];
    assert_eq!(client(&["--metadata-dir", &kept, "init", &at("no such root")]), 1);
    // Any file once was copied.
    for no_root in ["key.pub", "REPO/metadata/timestamp.json", "REPO/metadata/1.targets.json"] {
        assert_eq!(client(&["--metadata-dir", &kept, "init", &at(no_root)]), 1, "{no_root}");
    }
    assert!(!place.path("kept/root.json").exists());
    assert_eq!(client(&["--metadata-dir", &kept, "init", &at("REPO/metadata/1.root.json")]), 0);
    assert_eq!(look(&["refresh"]), 0);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["root.json", "snapshot.json", "targets.json", "timestamp.json"]);
    assert_eq!(
        fs::read(place.path("kept/timestamp.json")).unwrap(),
        fs::read(folder.join("metadata/timestamp.json")).unwrap()
    );

    // The package, and nothing of the metadata that is there already.
    let before = server.asked().len();
    assert_eq!(look(&[&download[..], &["download"]].concat()), 0);
    let asked: Vec<String> = server.asked()[before..].iter().map(|asked| asked.path.clone()).collect();
    let package = fs::read(place.path("full.sf")).unwrap();
    let blob = format!("/targets/any/1.0.0/{}.full.sf", Digest::of(&package));
    assert_eq!(asked, ["/metadata/2.root.json", "/metadata/timestamp.json", &blob]);
    assert!(fs::read(place.path("got").join(escape(name))).unwrap() == package);
    // It is there, so it is not fetched again; nor is it when it is named twice.
    let before = server.asked().len();
    assert_eq!(look(&[&download[..], &["--target-name", name, "download"]].concat()), 0);
    assert_eq!(server.asked().len(), before + 2);
    // What is not what it should be is.
    fs::write(place.path("got").join(escape(name)), "something else").unwrap();
    assert_eq!(look(&[&download[..], &["download"]].concat()), 0);
    assert!(fs::read(place.path("got").join(escape(name))).unwrap() == package);

    // Refused: a target that is not there, a package and metadata that are something else, no command.
    let other = ["--target-base-url", &targets, "--target-dir", &got, "--target-name", "other"];
    assert_eq!(look(&[&other[..], &["download"]].concat()), 1);
    fs::write(folder.join(&blob[1..]), vec![0; package.len()]).unwrap();
    fs::remove_dir_all(&got).unwrap();
    assert_eq!(look(&[&download[..], &["download"]].concat()), 1);
    assert!(!place.path("got").join(escape(name)).exists());
    place.good(&["repo", "expire", "REPO", "--key", "key"]);
    let timestamp = fs::read_to_string(folder.join("metadata/timestamp.json")).unwrap();
    fs::write(folder.join("metadata/timestamp.json"), timestamp.replace("\"version\":3", "\"version\":9")).unwrap();
    assert_eq!(look(&["refresh"]), 1);
    fs::write(folder.join("metadata/timestamp.json"), timestamp).unwrap();
    assert_eq!(look(&["refresh"]), 0);
    assert_eq!(look(&[]), 1);
}

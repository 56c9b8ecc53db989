//! The missing blocks of a full package: from nginx, and from servers that cannot or will not.

use super::follow::{copy, full, object, on_device, patch, serve, server, with_repository};
use super::nginx::{Nginx, kill_until_done};
use super::noise;
use super::server::{Asked, send, serve as serve_file};
use super::update::Place;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;

/// Each is a segment of its own.
const LARGE: usize = 4 << 20;

/// A repository whose version 1.1.0 is, for most of it, what a device with 1.0.0 has; and the length of its package. Of
/// six large files one is changed, one is moved, one is copied and one is gone.
fn mostly_the_same(changed: u64) -> (Place, u64) {
    let place = with_repository();
    for number in 0..6 {
        fs::write(place.path(&format!("old/large{number}")), noise(LARGE, number)).unwrap();
    }
    place.device();
    fs::remove_dir_all(place.path("new")).unwrap();
    copy(&place, "old", "new");
    for number in 0..changed {
        fs::write(place.path(&format!("new/large{number}")), noise(LARGE, 100 + number)).unwrap();
    }
    let new = |name: &str| place.path(&format!("new/{name}"));
    fs::rename(new("large3"), new("moved")).unwrap();
    fs::copy(new("large4"), new("twin")).unwrap();
    fs::remove_file(new("large5")).unwrap();
    fs::remove_file(new("gone")).unwrap();
    place.write("new/app", "the new application");
    place.write("new/more/file", "a file that comes");
    full(&place, "new", "1.1.0", &[]);
    let package = fs::metadata(place.path("full.sf")).unwrap().len();
    (place, package)
}

/// The same, served by nginx, and the address of it there; nothing where there is no nginx.
fn served_mostly_the_same(settings: &str, changed: u64) -> Option<(Nginx, Place, u64, String)> {
    let nginx = Nginx::start(settings)?;
    let (place, package) = mostly_the_same(changed);
    serve(&place, &nginx.folder.path().join("www"));
    let url = nginx.url("repo");
    Some((nginx, place, package, url))
}

fn blob(place: &Place) -> String {
    let name = fs::read_dir(place.path("REPO/targets/any/1.1.0")).unwrap().next().unwrap().unwrap().file_name();
    format!("targets/any/1.1.0/{}", name.to_str().unwrap())
}

fn from<'a>(verb: &'a str, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--root", "dev", verb, "--from", url, "--retries", "1"], more].concat()
}

#[test]
fn a_device_fetches_only_what_of_a_full_package_it_does_not_have() {
    let Some((nginx, place, package, url)) = served_mostly_the_same("", 1) else { return };
    let path = format!("/repo/{}", blob(&place));
    let served = || nginx.log(&path).iter().map(|(_, bytes)| bytes).sum::<u64>();

    let told = place.good(&from("check", &url, &[]));
    let words = "blocks from 1.0.0 to 1.1.0: the missing blocks of the full package take ";
    assert!(told.starts_with(words) && told.contains(&format!(", the full package {package} bytes")), "{told}");
    assert_eq!(served(), 65_536, "its first piece tells what the rest is");
    let told = object(&place, &from("check", &url, &[]));
    let planned = told["bytes"].as_u64().unwrap() + 65_536;
    assert_eq!((&told["strategy"], &told["steps"][0]["kind"]), (&json!("blocks"), &json!("blocks")), "{told}");
    assert_eq!(told["steps"][0]["bytes"], json!(planned - 65_536), "that is here");
    assert!(planned > LARGE as u64 && planned < package * 2 / 5, "{planned} of {package}");
    place.assert_same("dev", "old");

    let told = place.good(&from("plan", &url, &[]));
    let lines =
        ["\nfetch    missing blocks of any/1.1.0/full.sf  ", "\nR large3 -> moved  (", "\nM app  ", "\nD gone  ("];
    assert!(lines.iter().all(|line| told.contains(line)) && told.contains("\nC large4 -> twin  ("), "{told}");
    let told = place.good(&[&["--json"], &from("plan", &url, &[])[..]].concat());
    assert!(told.contains("\"type\":\"change\",\"path\":\"more/file\",\"change\":\"added\""), "{told}");
    assert_eq!(served(), 65_536);

    // One byte less than it takes, and it is not begun; as many as it takes are enough.
    let less = (planned - 65_537).to_string();
    place.bad(&from("update", &url, &["--max-bytes", &less]), 5, "strategy.budget");
    assert_eq!(served(), 65_536, "what is here is not fetched again");
    let told = place
        .good(&[&["--json"], &from("update", &url, &["--max-bytes", &(planned - 65_536).to_string()])[..]].concat());
    assert!(told.contains("\"strategy\":\"blocks\""), "{told}");
    place.assert_same("dev", "new");
    println!("{} bytes served, {planned} planned, of a package of {package}", served());
    assert_eq!(served(), planned);
    assert!(nginx.log(&path).iter().all(|(status, _)| *status == 206));
    place.good(&["--root", "dev", "verify"]);
    let left: Vec<_> = fs::read_dir(place.path("dev/.surefoot/downloads")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock");
    place.good(&["--root", "dev", "rollback"]);
    place.assert_same("dev", "old");

    // With a patch that costs less nothing is looked for.
    let before = served();
    patch(&place, ("old", "1.0.0"), ("new", "1.1.0"), &[]);
    fs::write(place.path("old/large1"), noise(LARGE, 50)).unwrap();
    serve(&place, &nginx.folder.path().join("www"));
    assert_eq!(object(&place, &from("check", &url, &[]))["strategy"], "patch");
    assert_eq!(served(), before + 65_536, "the first piece was worth it: the patch has 4 MiB");

    // It once was thrown away with the first try of the patch, and fetched again by the next look.
    let folder = nginx.folder.path().join("www/repo/targets/any/1.1.0");
    let is_patch = |name: &std::path::PathBuf| name.to_str().is_some_and(|name| name.ends_with("from-1.0.0.sf"));
    let patch = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(is_patch).unwrap();
    fs::rename(&patch, folder.join("elsewhere")).unwrap();
    place.bad(&from("update", &url, &[]), 6, "source.unavailable");
    fs::rename(folder.join("elsewhere"), &patch).unwrap();
    place.good(&from("update", &url, &[]));
    place.assert_same("dev", "new");
    assert_eq!(served(), before + 65_536, "what is here is not fetched again");
}

#[test]
fn killed_at_random_moments_it_fetches_nothing_of_them_twice() {
    let Some((nginx, place, package, url)) = served_mostly_the_same("limit_rate 2m;", 3) else { return };
    let planned = object(&place, &from("check", &url, &[]))["bytes"].as_u64().unwrap();
    let (seed, kills) = kill_until_done(&place, &["--root", "dev", "-q", "update", "--from", &url]);
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "verify"]);
    let log = nginx.log(&format!("/repo/{}", blob(&place)));
    let served: u64 = log.iter().map(|(_, bytes)| bytes).sum();
    println!("seed {seed}: {kills} kills, {served} bytes served of {planned} planned, of a package of {package}");
    // What was on its way when the process died is what a server counts besides.
    assert!(served * 100 <= planned * 115 && served < package, "seed {seed}: {served} of {planned}");
    assert!(log.iter().all(|(status, _)| *status == 206), "{log:?}");
}

#[test]
fn a_server_without_ranges_gives_all_of_it() {
    let (place, package) = mostly_the_same(1);
    let root = place.path("REPO");
    let whole = |asked: &Asked, stream: &mut TcpStream, root: &std::path::Path| {
        let content = fs::read(root.join(asked.path.trim_start_matches('/'))).unwrap();
        send(stream, "200 OK", &[&format!("Content-Length: {}", content.len())], &content);
    };
    let at = root.clone();
    let never = super::server::Server::start(move |asked, stream| match at.join(&asked.path[1..]).exists() {
        true => whole(asked, stream, &at),
        false => send(stream, "404 Not Found", &[], b""),
    });
    let told = object(&place, &from("check", &never.url(""), &[]));
    assert_eq!((&told["strategy"], &told["bytes"]), (&json!("full"), &json!(package)), "{told}");
    place.good(&from("update", &never.url(""), &[]));
    place.assert_same("dev", "new");

    // It has ranges when it is asked first, and then no longer.
    place.device();
    let later = super::server::Server::start(move |asked, stream| {
        let content = fs::read(root.join(asked.path.trim_start_matches('/')));
        match content {
            Err(_) => send(stream, "404 Not Found", &[], b""),
            Ok(content) if asked.range() == Some((0, Some(65_535))) => serve_file(asked, stream, &content, "\"t\""),
            Ok(_) => whole(asked, stream, &root),
        }
    });
    assert_eq!(object(&place, &from("check", &later.url(""), &[]))["strategy"], "blocks");
    place.bad(&from("update", &later.url(""), &["--max-bytes", &(package - 1).to_string()]), 5, "strategy.budget");
    place.assert_same("dev", "old");
    place.good(&from("update", &later.url(""), &[]));
    place.assert_same("dev", "new");
}

/// Answers for packages with one byte of the middle changed.
fn lies(asked: &Asked, stream: &mut TcpStream) -> bool {
    lie_at(asked, stream, 300_000)
}

/// The same with one byte of the beginning.
fn lies_first(asked: &Asked, stream: &mut TcpStream) -> bool {
    lie_at(asked, stream, 40)
}

/// The same with a signature more, and as long as before. Its name is the same, and everything in it is what its front
/// says; but that is not where it was published. A device that believed it gave the version up after three tries.
fn adds_a_signature(asked: &Asked, stream: &mut TcpStream) -> bool {
    lie(asked, stream, |content| {
        let (length, count) = (content.len(), 14 + u32::from_le_bytes(*content[10..].first_chunk().unwrap()) as usize);
        content[count] += 1;
        content.splice(count + 1..count + 1, [7; 96]);
        content.truncate(length);
    })
}

fn lie_at(asked: &Asked, stream: &mut TcpStream, at: usize) -> bool {
    lie(asked, stream, |content| content[at] ^= 1)
}

fn lie(asked: &Asked, stream: &mut TcpStream, how: impl FnOnce(&mut Vec<u8>)) -> bool {
    let Some((root, path)) = asked.path.split_once("/targets/") else { return false };
    let path = std::path::Path::new(&root[1..]).join("targets").join(path);
    let Ok(mut content) = fs::read(std::path::Path::new("/").join(path)) else { return false };
    how(&mut content);
    serve_file(asked, stream, &content, "\"t\"");
    true
}

#[test]
fn blocks_of_a_server_that_lies_are_refused_and_had_elsewhere() {
    let (place, _) = mostly_the_same(1);
    let below = place.path("REPO").display().to_string();
    let at = |port: &super::server::Server| port.url(&below[1..]);
    // `server` serves the folder `REPO` as its root; these two are asked by its whole path.
    let good = server(&place, "404 Not Found", |_, _| false);
    for odd in [lies as fn(&Asked, &mut TcpStream) -> bool, lies_first, adds_a_signature] {
        let liar = super::server::Server::start(move |asked, stream| {
            if !odd(asked, stream) {
                match fs::read(&asked.path) {
                    Ok(content) => serve_file(asked, stream, &content, "\"t\""),
                    Err(_) => send(stream, "404 Not Found", &[], b""),
                }
            }
        });
        let url = at(&liar);
        place.bad(&from("update", &url, &[]), 3, "trust.digest");
        place.assert_same("dev", "old");
        let good = good.url("");
        place.good(&from("update", &url, &["--mirror", &good]));
        place.assert_same("dev", "new");
        place.device();
    }
}

#[test]
fn what_was_changed_here_does_not_count_or_stops_it() {
    let (place, package) = mostly_the_same(1);
    let bytes = |place: &Place| {
        let told = object(place, &on_device("check", &[]));
        assert_eq!(told["strategy"], "blocks", "{told}");
        told["bytes"].as_u64().unwrap()
    };
    let before = bytes(&place);
    // A file that stays as it is was to be copied: now its content has to come over the wire.
    fs::write(place.path("dev/large4"), noise(LARGE, 77)).unwrap();
    let after = bytes(&place);
    assert!(after > before + LARGE as u64 - 200_000 && after < package, "{before} {after} {package}");
    place.good(&on_device("update", &[]));
    assert!(fs::read(place.path("dev/twin")).unwrap() == noise(LARGE, 4));
    assert!(fs::read(place.path("dev/large4")).unwrap() == noise(LARGE, 77), "nobody touches what does not change");
    fs::write(place.path("dev/large4"), noise(LARGE, 4)).unwrap();
    place.assert_same("dev", "new");

    // What is replaced or moved must be what is recorded, whichever way is gone.
    for touched in ["large0", "large3"] {
        place.device();
        fs::write(place.path("dev").join(touched), noise(LARGE, 78)).unwrap();
        place.bad(&on_device("update", &[]), 4, "tree.changed");
        fs::write(place.path("dev").join(touched), noise(LARGE, touched.as_bytes()[5] as u64 - 48)).unwrap();
        place.assert_same("dev", "old");
        place.good(&on_device("update", &[]));
        place.assert_same("dev", "new");
    }
}

#[test]
fn small_or_forced_packages_are_not_looked_into() {
    let (place, package) = mostly_the_same(1);
    let told: Value = object(&place, &on_device("check", &["--force-full"]));
    assert_eq!((&told["strategy"], &told["bytes"]), (&json!("full"), &json!(package)));
    assert!(!place.path("dev/.surefoot/downloads").exists());
    place.good(&["repo", "remove", "REPO", "1.1.0", "--key", "key"]);
    // What costs too much altogether may do so for what is missing of it.
    full(&place, "new", "1.2.0", &[]);
    let told = object(&place, &on_device("check", &["--max-bytes", &(package / 2).to_string()]));
    assert_eq!(told["strategy"], "blocks", "{told}");
    place.bad(&on_device("check", &["--max-bytes", "70000"]), 5, "strategy.budget");
}

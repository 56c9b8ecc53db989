//! Several addresses of one repository: some dead, some busy, some with bytes that are not right.

use super::follow::{full, object, with_repository};
use super::server::{Asked, Server, send, serve, serve_up_to};
use super::update::Place;
use super::{PIECE, Site, files, noise};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use surefoot::fetch::{Body, Carrier, Download, Failure, Head, Options, Pace, Patience, Request, Response, Wanted};
use surefoot::publish::Publisher;
use surefoot::vfs::OsVfs;

/// Nine tries of each file with pauses between them, three minutes in all, once came before the mirror was asked.
#[test]
fn a_primary_that_is_dead_is_asked_once_and_not_for_every_file() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let dead = Server::start(|_, stream| send(stream, "503 Service Unavailable", &["Content-Length: 0"], b""));
    place.good(&["--root", "dev", "update", "--from", &dead.url(""), "--mirror", "REPO"]);
    place.assert_same("dev", "new");
    let paths: Vec<String> = dead.asked().into_iter().map(|asked| asked.path).collect();
    // The second time it is asked because it could have what the other one has not. Who has answered is asked first for
    // the rest, packages too.
    assert_eq!(paths, ["/metadata/1.root.json", "/metadata/2.root.json"]);
}

/// A repository with a version 1.1.0 of which the package has a bit more than 3 MiB.
fn with_three_megabytes() -> (Place, u64) {
    let place = with_repository();
    fs::write(place.path("new/big"), noise(3 << 20, 9)).unwrap();
    full(&place, "new", "1.1.0", &[]);
    let length = fs::metadata(place.path("full.sf")).unwrap().len();
    let publisher = Publisher::open(OsVfs::open_tree(&place.path("REPO")).unwrap()).unwrap();
    let blocks = publisher.releases().unwrap().into_iter().map(|release| release.blocks.map(|blocks| blocks.count()));
    assert_eq!(blocks.collect::<Vec<_>>(), [None, Some(4)], "of what is larger than a block");
    (place, length)
}

/// Serves the repository; what is sent of version 1.1.0 has another byte at 1.5 MB, for the first so many requests.
fn spoiling(place: &Place, times: usize) -> Server {
    let (root, spoiled) = (place.path("REPO"), AtomicUsize::new(0));
    Server::start(move |asked, stream| {
        let Ok(mut content) = fs::read(root.join(&asked.path[1..])) else {
            return send(stream, "404 Not Found", &["Content-Length: 0"], b"");
        };
        // The front is asked for before, and has nothing to do with it.
        let front = asked.range().is_some_and(|(_, last)| last == Some(65_535));
        if asked.path.contains("/1.1.0/") && !front && spoiled.fetch_add(1, Ordering::Relaxed) < times {
            content[1_500_000] ^= 1;
        }
        serve(asked, stream, &content, "\"t\"");
    })
}

fn of_package(server: &Server) -> Vec<String> {
    let of_it = |asked: &Asked| asked.path.contains("/1.1.0/");
    let range = |asked: Asked| asked.field("range").unwrap_or("all").to_owned();
    server.asked().into_iter().filter(of_it).map(range).collect()
}

/// Nothing but the digest of the whole was published, so that one corrupted byte cost all of the package.
#[test]
fn a_corrupted_byte_costs_one_block_and_is_the_fault_of_who_has_sent_it() {
    let (place, length) = with_three_megabytes();
    let (bad, good) = (spoiling(&place, usize::MAX), spoiling(&place, 0));
    // All of it, and a block: not a byte more is allowed.
    let most = (length + (1 << 20)).to_string();
    let update = ["--root", "dev", "update", "--from", &bad.url(""), "--mirror", &good.url(""), "--max-bytes", &most];
    place.good(&update);
    place.assert_same("dev", "new");
    assert_eq!(of_package(&bad), ["bytes=0-65535", "bytes=65536-"]);
    assert_eq!(of_package(&good), ["bytes=1048576-2097151"]);
}

#[test]
fn who_sends_the_right_bytes_the_second_time_is_asked_for_that_block_only() {
    let (place, _) = with_three_megabytes();
    let server = spoiling(&place, 1);
    place.good(&["--root", "dev", "update", "--from", &server.url("")]);
    place.assert_same("dev", "new");
    assert_eq!(of_package(&server), ["bytes=0-65535", "bytes=65536-", "bytes=1048576-2097151"]);
    let server = spoiling(&place, 1);
    place.good(&["repo", "mirror", &server.url(""), "COPY"]);
    assert_eq!(of_package(&server), ["all", "bytes=1048576-2097151"]);
    place.good(&["repo", "verify", "COPY"]);
}

/// What an interrupted download has left was counted again, so that a device on a metered link never came to its end.
#[test]
fn what_is_here_of_a_package_does_not_count_for_max_bytes() {
    let (place, length) = with_three_megabytes();
    let (root, cut) = (place.path("REPO"), AtomicUsize::new(0));
    let server = Server::start(move |asked, stream| {
        let Ok(content) = fs::read(root.join(&asked.path[1..])) else {
            return send(stream, "404 Not Found", &["Content-Length: 0"], b"");
        };
        let first = asked.path.contains("/1.1.0/") && cut.fetch_add(1, Ordering::Relaxed) < 2;
        serve_up_to(asked, stream, &content, "\"t\"", if first { 2 << 20 } else { usize::MAX });
    });
    let url = server.url("");
    let cut_off = ["--root", "dev", "update", "--from", &url, "--retries", "0"];
    place.bad(&cut_off, 6, "source.unavailable");
    let told = object(&place, &["--root", "dev", "check", "--from", &url]);
    let left = told["bytes"].as_u64().unwrap();
    assert!(left <= length - (2 << 20), "{left} of {length} are left");
    let less = ["--root", "dev", "update", "--from", &url, "--max-bytes", &(left - 1).to_string()];
    place.bad(&less, 5, "strategy.budget");
    place.good(&["--root", "dev", "update", "--from", &url, "--max-bytes", &left.to_string()]);
    place.assert_same("dev", "new");
}

/// Time that passes only while somebody waits.
#[derive(Default)]
struct Waiting(Mutex<Vec<Duration>>);

impl Pace for Waiting {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().iter().sum()
    }

    fn wait(&self, pause: Duration, _: &dyn Fn() -> bool) {
        self.0.lock().unwrap().push(pause);
    }
}

/// Fails once, and then gives so many pieces.
struct Second(AtomicUsize, usize);

struct Pieces(usize, Vec<u8>);

impl Body for Pieces {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        let more = self.0.checked_sub(1);
        self.0 = more.unwrap_or(0);
        Ok(more.map(|_| &self.1[..]))
    }
}

impl Carrier for Second {
    fn get(&self, _: &Request) -> Result<Response, Failure> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(Failure::Connection("refused".into()));
        }
        let head = Head { status: 200, ..Head::default() };
        Ok(Response { head, body: Box::new(Pieces(self.1, vec![0; PIECE])) })
    }
}

/// While nobody answered the time went on, and what could have come in it was fetched at once.
#[test]
fn what_was_not_fetched_during_a_pause_is_not_made_up_for() {
    let (site, waiting) = (Site::new(), Waiting::default());
    let patience = Patience { pause: Duration::from_secs(100), ..Patience::default() };
    let options = Options { patience, bytes_per_second: Some(PIECE as u64), ..Options::default() };
    let (files, carrier) = (files(), Second(AtomicUsize::new(0), 10));
    let download =
        Download { vfs: &site.vfs, files: &files, carrier: &carrier, pace: &waiting, options: &options, watch: &() };
    assert_eq!(download.run(&Wanted::at("somewhere")).unwrap().size, 10 * PIECE as u64);
    let waits = waiting.0.into_inner().unwrap();
    assert!(waits[0] >= Duration::from_secs(25), "{waits:?}");
    assert_eq!(waits[1..].iter().sum::<Duration>(), Duration::from_secs(10), "{waits:?}");
}

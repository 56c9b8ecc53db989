//! What servers do wrong, one test each, over real connections.

use super::server::{Asked, Server, send, serve, serve_up_to};
use super::{PIECE, Site, Told, files, noise, options, wanted, web};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use surefoot::fetch::{BlockMap, Failure, FetchError, HttpCarrier, HttpOptions, Options, Proxies, Wanted, Watch};

const TAG: &str = "\"v1\"";

fn content() -> Vec<u8> {
    noise(4 * PIECE + 77, 1)
}

/// The first answer is cut in the third piece; the next ones are `then`'s.
fn cut_and_then(then: impl Fn(&Asked, &mut TcpStream, &[u8]) + Send + Sync + 'static) -> Server {
    let content = content();
    Server::start(move |asked, stream| match asked.number {
        0 => serve_up_to(asked, stream, &content, TAG, 2 * PIECE + 100),
        _ => then(asked, stream, &content),
    })
}

/// Fetches, and gives what was asked for: the content must be exact.
#[track_caller]
fn exact(server: &Server) -> Vec<Option<String>> {
    let site = Site::new();
    let fetched = site.fetch(&wanted(server.url("it"), &content())).unwrap();
    assert!(fetched.verified);
    assert!(std::fs::read(site.content()).unwrap() == content());
    server.ranges()
}

fn from(piece: usize) -> Option<String> {
    Some(format!("bytes={}-", piece * PIECE))
}

#[track_caller]
fn only_failure(result: Result<surefoot::fetch::Fetched, FetchError>) -> Failure {
    match result {
        Err(FetchError::GaveUp { failures, .. }) if failures.len() == 1 => failures[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_truncated_body_is_completed_from_the_next_piece_on() {
    let server = cut_and_then(|asked, stream, content| serve(asked, stream, content, TAG));
    assert_eq!(exact(&server), [None, from(2)]);
    let asked = server.asked();
    assert_eq!(asked[1].field("if-range"), Some(TAG));
    assert!(asked.iter().all(|asked| asked.field("accept-encoding") == Some("identity")));
}

#[test]
fn a_206_with_a_wrong_content_range_is_not_written() {
    for wrong in ["bytes 0-9/262221", "bytes 131073-262220/262221", "bytes nonsense", "items 1-2/3"] {
        let server = cut_and_then(move |asked, stream, content| match asked.number {
            1 => {
                let range = format!("Content-Range: {wrong}");
                send(stream, "206 Partial Content", &[&range, "ETag: \"v1\""], &content[..PIECE]);
            }
            _ => serve(asked, stream, content, TAG),
        });
        assert_eq!(exact(&server), [None, from(2), None], "{wrong}");
    }
}

#[test]
fn a_200_instead_of_a_206_is_the_whole_again() {
    let server = cut_and_then(|_, stream, content| send(stream, "200 OK", &["ETag: \"v1\""], content));
    assert_eq!(exact(&server), [None, from(2)]);
}

#[test]
fn a_416_is_not_repeated_for_ever() {
    let server = cut_and_then(|asked, stream, content| match asked.range() {
        Some(_) => send(stream, "416 Range Not Satisfiable", &[], b"no such range, says the body"),
        None => serve(asked, stream, content, TAG),
    });
    assert_eq!(exact(&server), [None, from(2), None]);
}

#[test]
fn a_changed_content_is_not_mixed_with_the_old_one() {
    // The old content is another one; the server changes to the new one between two requests.
    let old = noise(4 * PIECE + 77, 2);
    for heeds_if_range in [true, false] {
        let old = old.clone();
        let server = Server::start(move |asked, stream| match asked.number {
            0 => serve_up_to(asked, stream, &old, "\"v0\"", 2 * PIECE + 100),
            _ if heeds_if_range => serve(asked, stream, &content(), TAG),
            _ => serve(asked, stream, &content(), asked.field("if-range").map_or(TAG, |_| "\"v0\"")),
        });
        let ranges = exact(&server);
        // Who lies about tags is found out by the digest, and the whole is fetched again from nobody else.
        let expected = if heeds_if_range { vec![None, from(2)] } else { vec![None, from(2), None] };
        assert_eq!(ranges, expected);
    }
}

#[test]
fn bodies_of_errors_are_never_content() {
    for (status, ends) in [("404 Not Found", true), ("403 Forbidden", true), ("500 Oops", false), ("503 Later", false)]
    {
        let server = cut_and_then(move |asked, stream, content| match asked.number {
            1 => send(stream, status, &["Content-Range: bytes 131072-262220/262221"], &vec![b'x'; 2 * PIECE + 77]),
            _ => serve(asked, stream, content, TAG),
        });
        if ends {
            let site = Site::new();
            let failure = only_failure(site.fetch(&wanted(server.url("it"), &content())));
            assert!(matches!(failure, Failure::Status { .. }), "{status}: {failure}");
            // What was here stays, and the next run goes on with it.
            site.fetch(&wanted(server.url("it"), &content())).unwrap();
            assert!(std::fs::read(site.content()).unwrap() == content(), "{status}");
            assert_eq!(server.ranges(), [None, from(2), from(2)], "{status}");
        } else {
            assert_eq!(exact(&server), [None, from(2), from(2)], "{status}");
        }
    }
}

#[test]
fn an_overlong_body_is_refused() {
    let server = Server::start(|_, stream| {
        let mut body = content();
        body.extend_from_slice(b"and more");
        send(stream, "200 OK", &[], &body);
    });
    let failure = only_failure(Site::new().fetch(&wanted(server.url("it"), &content())));
    assert_eq!(failure, Failure::Overlong);
}

#[test]
fn another_length_is_refused_before_the_first_byte() {
    let server = Server::start(|_, stream| send(stream, "200 OK", &["Content-Length: 5"], b"login"));
    let site = Site::new();
    let failure = only_failure(site.fetch(&wanted(server.url("it"), &content())));
    assert!(matches!(failure, Failure::Length { promised: 5, .. }), "{failure}");
    assert_eq!(std::fs::metadata(site.content()).unwrap().len(), 0);
}

#[test]
fn redirections_are_followed_but_not_in_circles() {
    let server = Server::start(|asked, stream| match asked.path.as_str() {
        "/it" => send(stream, "302 Found", &["Location: /there", "Content-Length: 0"], b""),
        "/there" => serve(asked, stream, &content(), TAG),
        "/circle" => send(stream, "302 Found", &["Location: /circle", "Content-Length: 0"], b""),
        path => {
            let next = path.trim_start_matches("/n").parse::<u32>().unwrap() + 1;
            send(stream, "302 Found", &[&format!("Location: /n{next}"), "Content-Length: 0"], b"");
        }
    });
    exact(&server);
    for (path, word) in [("circle", "circle"), ("n0", "too often")] {
        let before = server.asked().len();
        let failure = only_failure(Site::new().fetch(&wanted(server.url(path), &content())));
        assert!(matches!(&failure, Failure::Refused(why) if why.contains(word)), "{failure}");
        assert!(server.asked().len() - before <= 12, "{path}");
    }
}

#[test]
fn a_body_that_is_coded_in_transit_is_refused() {
    let server = Server::start(|_, stream| send(stream, "200 OK", &["Content-Encoding: gzip"], b"\x1f\x8b..."));
    let failure = only_failure(Site::new().fetch(&wanted(server.url("it"), &content())));
    assert_eq!(failure, Failure::Coded("gzip".into()));
}

#[test]
fn a_stall_ends_the_request_and_not_the_download() {
    let server = cut_and_then(|asked, stream, content| match asked.number {
        1 => {
            let head =
                "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 131072-262220/262221\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&content[2 * PIECE..3 * PIECE]).unwrap();
            thread::sleep(Duration::from_secs(20));
        }
        _ => serve(asked, stream, content, TAG),
    });
    let site = Site::new();
    let stall_timeout = Duration::from_millis(300);
    let carrier = web(HttpOptions { stall_timeout, ..HttpOptions::default() });
    let start = Instant::now();
    site.fetch_by(&wanted(server.url("it"), &content()), &carrier, &options(), &()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "nobody waited for the rest");
    assert_eq!(server.ranges(), [None, from(2), from(3)]);
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let server = cut_and_then(|asked, stream, content| match asked.number {
        1 => send(stream, "503 Later", &["Retry-After: 1"], b""),
        _ => serve(asked, stream, content, TAG),
    });
    let start = Instant::now();
    exact(&server);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let server = Server::start(|_, stream| send(stream, "429 Too Many", &["Retry-After: 86400"], b""));
    let start = Instant::now();
    let failure = only_failure(Site::new().fetch(&wanted(server.url("it"), &content())));
    assert!(matches!(failure, Failure::Status { status: 429, .. }) && start.elapsed() < Duration::from_secs(60));
}

#[test]
fn nobody_is_asked_for_ever() {
    let server = Server::start(|_, stream| send(stream, "500 Oops", &[], b""));
    only_failure(Site::new().fetch(&wanted(server.url("it"), &content())));
    assert_eq!(server.asked().len(), options().patience.attempts as usize + 1);
    let nobody = "http://127.0.0.1:9/it";
    let failure = only_failure(Site::new().fetch(&wanted(nobody, &content())));
    assert!(matches!(failure, Failure::Connection(_)), "{failure}");
}

#[test]
fn a_mirror_takes_over_and_content_that_does_not_fit_is_fetched_from_one_alone() {
    let (good, dead) = (content(), Server::start(|_, stream| send(stream, "404 Not Found", &[], b"")));
    let cut = good.clone();
    let first = Server::start(move |asked, stream| match asked.number {
        0 => serve_up_to(asked, stream, &cut, TAG, 2 * PIECE + 5),
        _ => send(stream, "404 Not Found", &[], b""),
    });
    let rest = good.clone();
    let second = Server::start(move |asked, stream| serve(asked, stream, &rest, "\"other tag\""));
    let site = Site::new();
    let addresses = vec![dead.url("it"), first.url("it"), second.url("it")];
    let fetched = site.fetch(&Wanted { addresses, ..wanted("", &good) }).unwrap();
    assert!(std::fs::read(site.content()).unwrap() == good);
    assert_eq!(second.ranges(), [from(2)], "it goes on at the mirror, by the digest");
    assert!(fetched.received < good.len() as u64 + PIECE as u64);

    // A mirror with another content of the same length is found out by the digest.
    let other = noise(good.len(), 9);
    let wrong = Server::start(move |asked, stream| serve(asked, stream, &other, TAG));
    let site = Site::new();
    let rest = good.clone();
    let right = Server::start(move |asked, stream| serve(asked, stream, &rest, TAG));
    site.fetch(&Wanted { addresses: vec![wrong.url("it"), right.url("it")], ..wanted("", &good) }).unwrap();
    assert!(std::fs::read(site.content()).unwrap() == good);
    let failure = only_failure(Site::new().fetch(&wanted(wrong.url("it"), &good)));
    assert_eq!(failure, Failure::Digest);
}

#[test]
fn a_corrupted_block_costs_a_block() {
    let good = noise(8 << 20, 3);
    let blocks = BlockMap::of(1 << 20, &good).unwrap();
    let mut bad = good.clone();
    bad[(3 << 20) + 5] ^= 1;
    let first = Server::start(move |asked, stream| serve(asked, stream, &bad, TAG));
    let rest = good.clone();
    let second = Server::start(move |asked, stream| serve(asked, stream, &rest, TAG));
    let site = Site::new();
    let addresses = vec![first.url("it"), second.url("it")];
    let wanted = Wanted { addresses, blocks: Some(blocks), ..wanted("", &good) };
    let fetched = site.fetch(&wanted).unwrap();
    assert!(std::fs::read(site.content()).unwrap() == good);
    assert_eq!(fetched.received, 9 << 20, "a corrupted megabyte costs a megabyte");
    assert_eq!(second.ranges(), [Some(format!("bytes={}-{}", 3 << 20, (4 << 20) - 1))], "and is taken from another");
    assert_eq!(first.asked().len(), 1);
}

#[test]
fn a_proxy_stands_between() {
    let proxy = Server::start(|asked, stream| {
        assert!(asked.path.starts_with("http://example.invalid/"), "{}", asked.path);
        serve(asked, stream, &content(), TAG);
    });
    let direct = Server::start(|asked, stream| serve(asked, stream, &content(), TAG));
    let proxies =
        Proxies { http: Some(proxy.url("")), none_for: Some("127.0.0.1,localhost".into()), ..Proxies::default() };
    let carrier = web(HttpOptions { proxies, ..HttpOptions::default() });
    for (address, proxied) in [("http://example.invalid/it".to_owned(), 1), (direct.url("it"), 1)] {
        let site = Site::new();
        site.fetch_by(&wanted(address, &content()), &carrier, &options(), &()).unwrap();
        assert_eq!(proxy.asked().len(), proxied);
    }
    assert_eq!(direct.asked().len(), 1);
    assert!(
        HttpCarrier::new(&HttpOptions { authorities: b"-----BEGIN CERT".to_vec(), ..HttpOptions::default() }).is_err()
    );
}

#[test]
fn it_goes_no_faster_than_it_may_and_tells_how_far_it_is() {
    let server = Server::start(|asked, stream| serve(asked, stream, &content(), TAG));
    let told = Told::default();
    let slow = Options { bytes_per_second: Some(content().len() as u64), ..options() };
    let start = Instant::now();
    Site::new().fetch_by(&wanted(server.url("it"), &content()), &web(HttpOptions::default()), &slow, &told).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    let told = told.0.into_inner().unwrap();
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert_eq!(told.last().unwrap(), &(content().len() as u64, Some(content().len() as u64)));
}

/// Wants to stop after some reports.
struct Stopping(AtomicUsize);

impl Watch for Stopping {
    fn progress(&self, _: u64, _: Option<u64>) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn what_is_stopped_goes_on_later_without_fetching_anything_twice() {
    let content = noise(64 * PIECE, 5);
    let served = content.clone();
    let server = Server::start(move |asked, stream| serve(asked, stream, &served, TAG));
    let site = Site::new();
    let wanted = wanted(server.url("it"), &content);
    let carrier = web(HttpOptions::default());
    let stopped = site.fetch_by(&wanted, &carrier, &options(), &Stopping(AtomicUsize::new(5)));
    assert!(matches!(stopped, Err(FetchError::Cancelled)), "{stopped:?}");
    let told = Told::default();
    let fetched = site.fetch_by(&wanted, &carrier, &options(), &told).unwrap();
    let held = told.0.into_inner().unwrap()[0].0;
    assert!(held > 0 && fetched.received == content.len() as u64 - held, "{held} {fetched:?}");
    let again = site.fetch_by(&wanted, &carrier, &options(), &()).unwrap();
    assert_eq!(again.received, 0, "what is here and verified is not fetched again");
    assert_eq!(server.asked().len(), 2);
}

/// A piece that is spoilt on the disk was not fetched, and was told as here by whoever asked before the end of the next
/// download: what it costs was told too low.
#[test]
fn a_piece_that_is_spoilt_on_the_disk_is_not_told_as_here_again() {
    let content = noise(8 * PIECE, 6);
    let served = content.clone();
    let server = Server::start(move |asked, stream| match asked.number {
        0 => serve_up_to(asked, stream, &served, TAG, 5 * PIECE),
        1 | 2 => send(stream, "404 Not Found", &["Content-Length: 0"], b""),
        _ => serve(asked, stream, &served, TAG),
    });
    let (site, wanted) = (Site::new(), wanted(server.url("it"), &content));
    let held = || {
        let held = surefoot::fetch::held(&site.vfs, &files()).unwrap();
        assert_eq!(held.bytes, (held.pieces.len() * PIECE) as u64);
        held.pieces.into_iter().collect::<Vec<_>>()
    };
    site.fetch(&wanted).unwrap_err();
    assert_eq!(held(), [0, 1, 2, 3, 4]);
    let mut bytes = std::fs::read(site.content()).unwrap();
    bytes[2 * PIECE + 5] ^= 1;
    std::fs::write(site.content(), bytes).unwrap();
    assert_eq!(held(), [0, 1, 2, 3, 4], "nobody has looked");
    site.fetch(&wanted).unwrap_err();
    assert_eq!(held(), [0, 1, 3, 4]);
    assert_eq!(site.fetch(&wanted).unwrap().received, 4 * PIECE as u64);
    assert_eq!(std::fs::read(site.content()).unwrap(), content);
}

#[test]
fn a_content_of_which_nothing_is_known_is_fetched_as_it_comes() {
    for length in [0, 1, PIECE, 3 * PIECE + 1] {
        let content = noise(length, 8);
        let served = content.clone();
        let server = Server::start(move |_, stream| send(stream, "200 OK", &[], &served));
        let site = Site::new();
        let fetched = site.fetch(&Wanted { label: "it".into(), ..Wanted::at(server.url("it")) }).unwrap();
        assert_eq!((fetched.size, fetched.verified), (length as u64, false));
        assert!(std::fs::read(site.content()).unwrap() == content);
    }
}

#[test]
fn a_file_of_this_machine_is_fetched_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a package");
    std::fs::write(&path, content()).unwrap();
    let site = Site::new();
    let address = format!("file://{}/a%20package", folder.path().display());
    site.fetch(&wanted(address.as_str(), &content())).unwrap();
    assert!(std::fs::read(site.content()).unwrap() == content());
    std::fs::remove_file(path).unwrap();
    assert_eq!(site.fetch(&wanted(address.as_str(), &content())).unwrap().received, 0);
    let failure = only_failure(Site::new().fetch(&wanted(address, &content())));
    assert_eq!(failure, Failure::Status { status: 404, retry_after: None });
}

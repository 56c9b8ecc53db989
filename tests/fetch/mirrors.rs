//! Several addresses of one repository: some dead, some busy, some with bytes that are not right.

use super::follow::{full, with_repository};
use super::server::{Server, send};

/// Nine tries of each file with pauses between them, three minutes in all, once came before the mirror was asked.
#[test]
fn a_primary_that_is_dead_is_asked_once_and_not_for_every_file() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let dead = Server::start(|_, stream| send(stream, "503 Service Unavailable", &["Content-Length: 0"], b""));
    place.good(&["--root", "dev", "update", "--from", &dead.url(""), "--mirror", "REPO"]);
    place.assert_same("dev", "new");
    let paths: Vec<String> = dead.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/metadata/2.root.json"], "who has answered is asked first for the rest, packages too");
}

//! The environment says which proxies stand between.

use super::follow::{full, serve as publish, with_repository};
use super::nginx::Nginx;
use super::server::{Asked, Server, send, serve};
use super::update::Place;
use std::fs;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::thread;

/// Runs the program with these variables set.
#[track_caller]
fn run_with(place: &Place, variables: &[(&str, &str)], arguments: &[&str]) -> i32 {
    let mut command = place.command(arguments);
    command.env_remove("no_proxy").env_remove("NO_PROXY").envs(variables.iter().copied());
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn http_goes_through_the_proxy_that_http_proxy_names_and_not_where_no_proxy_says_so() {
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    let root = place.path("REPO");
    // It is the only one who knows where this is.
    let proxy = Server::start(move |asked, stream| {
        let path = asked.path.strip_prefix("http://updates.invalid/").unwrap_or("-");
        match fs::read(root.join(path)) {
            Ok(content) => serve(asked, stream, &content, "\"t\""),
            Err(_) => send(stream, "404 Not Found", &["Content-Length: 0"], b""),
        }
    });
    let update = ["--root", "dev", "update", "--from", "http://updates.invalid/", "--retries", "0"];
    let url = proxy.url("");
    assert_eq!(run_with(&place, &[], &update), 6);
    assert_eq!(run_with(&place, &[("http_proxy", &url), ("no_proxy", "updates.invalid")], &update), 6);
    // In capitals it could come from a request to a CGI program.
    assert_eq!(run_with(&place, &[("HTTP_PROXY", &url)], &update), 6);
    assert_eq!(proxy.asked().len(), 0);
    assert_eq!(run_with(&place, &[("http_proxy", &url), ("no_proxy", "example.org")], &update), 0);
    place.assert_same("dev", "new");
    assert!(proxy.asked().iter().all(|asked| asked.path.starts_with("http://updates.invalid/")));
}

/// Opens the way that is asked for, and carries bytes both ways.
fn tunnel(asked: &Asked, stream: &mut TcpStream) {
    let Ok(mut there) = TcpStream::connect(asked.path.replace("localhost", "127.0.0.1")) else {
        return send(stream, "502 Bad Gateway", &[], b"");
    };
    let _ = io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\n\r\n");
    let (mut back, mut here) = (there.try_clone().unwrap(), stream.try_clone().unwrap());
    let other = thread::spawn(move || {
        let _ = io::copy(&mut back, &mut here);
        let _ = here.shutdown(Shutdown::Write);
    });
    let _ = io::copy(stream, &mut there);
    let _ = there.shutdown(Shutdown::Write);
    let _ = other.join();
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy_that_https_proxy_names() {
    let Some(nginx) = Nginx::start("") else { return };
    let place = with_repository();
    full(&place, "new", "1.1.0", &[]);
    publish(&place, &nginx.folder.path().join("www"));
    let proxy = Server::start(tunnel);
    let (url, tls, ca) = (proxy.url(""), nginx.tls_url("repo/"), nginx.authority());
    let from = |verb| ["--root", "dev", verb, "--from", &tls, "--ca", ca.to_str().unwrap(), "--retries", "0"];
    assert_eq!(run_with(&place, &[("https_proxy", &url), ("no_proxy", "localhost")], &from("check")), 0);
    assert_eq!(run_with(&place, &[("http_proxy", &url)], &from("check")), 0);
    assert_eq!(proxy.asked().len(), 0, "one is for http, the other one was not wanted");
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy"] {
        let before = proxy.asked().len();
        assert_eq!(run_with(&place, &[(name, &url)], &from("check")), 0, "{name}");
        assert!(proxy.asked().len() > before, "{name}");
    }
    assert_eq!(run_with(&place, &[("https_proxy", &url)], &from("update")), 0);
    place.assert_same("dev", "new");
    let port = tls.split([':', '/']).nth(4).unwrap();
    assert!(proxy.asked().iter().all(|asked| asked.path == format!("localhost:{port}")), "{:?}", proxy.asked());
    // Who is in between sees and changes nothing, and is nobody whom the device trusts.
    assert_eq!(run_with(&place, &[("https_proxy", "http://127.0.0.1:9/")], &from("check")), 6);
}

//! A real server: nginx, with ranges, a limited rate, TLS under a private authority; and a program that is killed.

use super::update::Place;
use super::{Site, noise, options, wanted, web};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use surefoot::fetch::{Failure, FetchError, HttpOptions};
use tempfile::TempDir;

/// It serves the folder until it is dropped.
pub(super) struct Nginx {
    pub(super) folder: TempDir,
    child: Child,
    port: u16,
    tls_port: u16,
}

impl Nginx {
    /// Nothing, said aloud, where it is not installed.
    pub(super) fn start(more: &str) -> Option<Self> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let (Some(program), true) = (program, openssl(&["version"], Path::new("/"))) else {
            println!("SKIPPED: nginx or openssl is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(at("www")).unwrap();
        certificates(folder.path());
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, tls_port) = (free(), free());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", at(name)))
            .concat();
        let configuration = format!(
            "{user} daemon off; master_process off; pid {}; error_log {};
             events {{ worker_connections 64; }}
             http {{ {temporary} log_format bytes '$status $body_bytes_sent $request_uri'; access_log {} bytes;
               server {{ listen 127.0.0.1:{port} sndbuf=64k; root {}; {more}
                 location /to-tls {{ return 302 https://localhost:{tls_port}/it; }} }}
               server {{ listen 127.0.0.1:{tls_port} ssl; root {}; ssl_certificate {}; ssl_certificate_key {};
                 location /down {{ return 302 http://localhost:{port}/it; }} }} }}",
            at("pid"),
            at("error.log"),
            at("access.log"),
            at("www"),
            at("www"),
            at("server.pem"),
            at("server.key"),
        );
        fs::write(at("nginx.conf"), configuration).unwrap();
        let mut command = Command::new(program);
        command.args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")]);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let mut nginx = Self { folder, child, port, tls_port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", nginx.tls_port)).is_err() {
            let gone = nginx.child.try_wait().unwrap();
            assert!(gone.is_none() && start.elapsed() < Duration::from_secs(30), "{}", nginx.read("error.log"));
            thread::sleep(Duration::from_millis(20));
        }
        Some(nginx)
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn publish(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.path().join("www").join(name), content).unwrap();
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(super) fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.tls_port)
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Status and bytes of each answer for this path.
    pub(super) fn log(&self, path: &str) -> Vec<(u16, u64)> {
        let log = self.read("access.log");
        let lines = log.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let of_path = lines.filter(|words| words[2] == path);
        of_path.map(|words| (words[0].parse().unwrap(), words[1].parse().unwrap())).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(arguments: &[&str], folder: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// An authority of our own, and what it vouches for.
fn certificates(folder: &Path) {
    fs::write(folder.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=private", "-keyout", "ca.key", "-out", "ca.pem"];
    assert!(openssl(&[&authority[..], &key].concat(), folder));
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    assert!(openssl(&[&request[..], &key].concat(), folder));
    let sign = "x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile san -out server.pem";
    assert!(openssl(&sign.split(' ').collect::<Vec<_>>(), folder));
}

#[track_caller]
fn failure(result: Result<surefoot::fetch::Fetched, FetchError>) -> Failure {
    match result {
        Err(FetchError::GaveUp { failures, .. }) => failures[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_private_authority_is_trusted_only_when_it_is_named_and_nothing_leads_out_of_tls() {
    let Some(nginx) = Nginx::start("") else { return };
    let content = noise(300_000, 1);
    nginx.publish("it", &content);
    let trusting = web(HttpOptions { authorities: fs::read(nginx.authority()).unwrap(), ..HttpOptions::default() });
    let strange = web(HttpOptions::default());
    let site = Site::new();
    let it = wanted(nginx.tls_url("it"), &content);
    let refused = failure(site.fetch_by(&it, &strange, &options(), &()));
    assert!(matches!(refused, Failure::Connection(_)), "{refused}");
    site.fetch_by(&it, &trusting, &options(), &()).unwrap();
    assert!(fs::read(site.content()).unwrap() == content);
    let refused = failure(Site::new().fetch_by(&wanted(nginx.tls_url("down"), &content), &trusting, &options(), &()));
    assert!(matches!(&refused, Failure::Refused(why) if why.contains("not safe")), "{refused}");
    Site::new().fetch_by(&wanted(nginx.url("to-tls"), &content), &trusting, &options(), &()).unwrap();
}

#[test]
fn a_new_content_at_the_same_address_is_begun_anew() {
    let Some(nginx) = Nginx::start("limit_rate 8m;") else { return };
    let (old, new) = (noise(12_000_000, 1), noise(12_000_000, 2));
    nginx.publish("it", &old);
    let site = Site::new();
    struct Until(Instant);
    impl surefoot::fetch::Watch for Until {
        fn progress(&self, _: u64, _: Option<u64>) {}
        fn cancelled(&self) -> bool {
            Instant::now() > self.0
        }
    }
    // Without a digest only the tag says that the content is another one.
    let unknown = surefoot::fetch::Wanted { label: "it".into(), ..surefoot::fetch::Wanted::at(nginx.url("it")) };
    let soon = Until(Instant::now() + Duration::from_millis(400));
    let stopped = site.fetch_by(&unknown, &web(HttpOptions::default()), &options(), &soon);
    assert!(matches!(stopped, Err(FetchError::Cancelled)), "{stopped:?}");
    thread::sleep(Duration::from_millis(1100));
    nginx.publish("it", &new);
    site.fetch_by(&unknown, &web(HttpOptions::default()), &options(), &()).unwrap();
    assert!(fs::read(site.content()).unwrap() == new);
    assert!(nginx.log("/it").iter().all(|(status, _)| *status == 200));
}

#[test]
fn killed_at_random_moments_an_update_from_nginx_ends_new_and_fetches_hardly_anything_twice() {
    let Some(nginx) = Nginx::start("limit_rate 4m;") else { return };
    let place = Place::new();
    fs::write(place.path("new/big"), noise(40 << 20, 7)).unwrap();
    for number in 0..400 {
        place.write(&format!("new/many/{}/{number}", number % 9), &format!("content {number}"));
    }
    let package = place.publish("1.0.0.1", &nginx.folder.path().join("www"));
    let url = nginx.url("manifest.json");
    let (seed, kills) =
        kill_until_done(&place, &["--root", "dev", "-q", "update", "--again", "--from", &url, "--manifest", "service"]);
    place.assert_same("dev", "new");
    place.good(&["--root", "dev", "verify"]);
    let served: u64 = nginx.log("/up.tar.gz").iter().map(|(_, bytes)| bytes).sum();
    println!("seed {seed}: {kills} kills, {served} bytes served of a package of {package}");
    assert!(served * 100 <= package * 105, "seed {seed}: {served} of {package}");
    assert!(nginx.log("/up.tar.gz").iter().any(|(status, _)| *status == 206));
}

/// Starts a command again and again and kills it at random moments, until it finishes: the seed, and how many kills.
pub(super) fn kill_until_done(place: &Place, command: &[&str]) -> (u64, u32) {
    let seed = std::env::var("SUREFOOT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_122_u64);
    let mut dice = seed;
    for kills in 0..300 {
        let mut child = place.command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Instant::now() + Duration::from_millis(20 + (dice >> 33) % 1200);
        while child.try_wait().unwrap().is_none() && Instant::now() < moment {
            thread::sleep(Duration::from_millis(2));
        }
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            assert!(status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(kills > 3, "seed {seed}: {kills} kills");
            return (seed, kills);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("seed {seed}: it does not come to an end");
}

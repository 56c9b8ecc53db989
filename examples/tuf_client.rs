//! A client of any repository of The Update Framework, as suites that test such clients drive it:
//!
//! ```text
//! tuf_client --metadata-dir DIR init ROOT.json
//! tuf_client --metadata-dir DIR --metadata-url URL refresh
//! tuf_client --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL --target-dir DIR download
//! ```
//!
//! The name of a target may be given again. Trusted metadata is kept in DIR as `root.json`, `timestamp.json` and so on.
//! The exit code is 0 or 1. Addresses begin with `http://` or `file://`; the transport is as small as it gets, since
//! everything that matters happens in `repository::Client`, which knows no transport.

#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a program of its own, without a tree")]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use surefoot::model::Digest;
use surefoot::repository::{
    Anchor, Answer, Client, Clock, Moment, OfflinePolicy, Request, RunError, Stored, blob_name, escape, stored_name,
    stored_role,
};

type Failure = Box<dyn Error>;

#[derive(Default)]
struct Arguments {
    metadata: PathBuf,
    metadata_url: String,
    names: Vec<String>,
    target_url: String,
    target: PathBuf,
    command: Vec<String>,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--metadata-dir" => arguments.metadata = value()?.into(),
            "--metadata-url" => arguments.metadata_url = value()?,
            "--target-name" => arguments.names.push(value()?),
            "--target-base-url" => arguments.target_url = value()?,
            "--target-dir" => arguments.target = value()?.into(),
            _ => arguments.command.push(name),
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let command: Vec<&str> = arguments.command.iter().map(String::as_str).collect();
    match command[..] {
        ["init", root] => {
            let root = fs::read(root)?;
            // Asks whether it is one.
            let stored = Stored([("root".to_owned(), root.clone())].into());
            Client::new(stored, Anchor::Stored, clock()?, OfflinePolicy::Strict)?;
            fs::create_dir_all(&arguments.metadata)?;
            let new = arguments.metadata.join("new");
            fs::write(&new, root)?;
            Ok(fs::rename(new, arguments.metadata.join(stored_name("root")))?)
        }
        ["refresh"] => refresh(arguments).map(|_| ()),
        ["download"] => {
            let mut client = refresh(arguments)?;
            arguments.names.iter().try_for_each(|name| download(arguments, &mut client, name))
        }
        _ => Err("the command is init ROOT.json, refresh or download".into()),
    }
}

fn refresh(arguments: &Arguments) -> Result<Client, Failure> {
    let mut client = Client::new(stored(&arguments.metadata)?, Anchor::Stored, clock()?, OfflinePolicy::Strict)?;
    go_on(arguments, &mut client)?;
    Ok(client)
}

fn clock() -> Result<Clock, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    Ok(Clock::Now(Moment::from_seconds(i64::try_from(now)?)))
}

fn stored(folder: &Path) -> Result<Stored, Failure> {
    let mut stored = Stored::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(role) = entry.file_name().to_str().and_then(stored_role) {
            stored.0.insert(role, fs::read(entry.path())?);
        }
    }
    Ok(stored)
}

fn go_on(arguments: &Arguments, client: &mut Client) -> Result<(), Failure> {
    let base = arguments.metadata_url.trim_end_matches('/');
    let mut fetch = |request: &Request| -> Result<Answer, Failure> {
        Ok(get(&format!("{base}/{}", request.name), request.most)?.map_or(Answer::Missing, Answer::Bytes))
    };
    let mut keep = |role: &str, bytes: Option<&[u8]>| -> Result<(), Failure> {
        let path = arguments.metadata.join(stored_name(role));
        match bytes {
            Some(bytes) => {
                let new = arguments.metadata.join("new");
                fs::write(&new, bytes)?;
                Ok(fs::rename(new, path)?)
            }
            None if path.exists() => Ok(fs::remove_file(path)?),
            None => Ok(()),
        }
    };
    client.run(&mut fetch, &mut keep).map_err(|error| match error {
        RunError::Refused(error) => error.into(),
        RunError::Driver(error) => error,
    })
}

fn download(arguments: &Arguments, client: &mut Client, name: &str) -> Result<(), Failure> {
    client.look_for(name);
    go_on(arguments, client)?;
    let found = client.found(name).ok_or(format!("there is no target {name}"))?;
    let digest = found.target.digest().ok_or("it has no digest")?;
    let path = arguments.target.join(escape(name));
    // What is there already is not fetched again.
    if fs::read(&path).is_ok_and(|bytes| Digest::of(&bytes) == digest) {
        return Ok(());
    }
    let base = arguments.target_url.trim_end_matches('/');
    let address = format!("{base}/{}", blob_name(name, &digest, found.consistent));
    // 5.7.3: up to the number of bytes of the metadata, and its digest.
    let bytes = get(&address, found.target.length)?.ok_or(format!("{address} is not there"))?;
    if bytes.len() as u64 != found.target.length || Digest::of(&bytes) != digest {
        return Err(format!("{address} is not what the metadata says").into());
    }
    fs::create_dir_all(&arguments.target)?;
    Ok(fs::write(path, bytes)?)
}

/// A file of at most so many bytes, and one more if it is longer; nothing if there is none.
fn get(address: &str, most: u64) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    if let Some(path) = address.strip_prefix("file://") {
        return match fs::File::open(path) {
            Ok(file) => {
                file.take(most + 1).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let rest = address.strip_prefix("http://").ok_or("an address begins with http:// or file://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let stream = TcpStream::connect(if host.contains(':') { host.to_owned() } else { format!("{host}:80") })?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!("GET /{} HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: identity\r\n\r\n", quote(path));
    (&stream).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream.take(most + (64 << 10)));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse::<u64>().ok()
            }
            Some(_) => {}
            None => break,
        }
    }
    match status.as_str() {
        "200" => {}
        "403" | "404" => return Ok(None),
        _ => return Err(format!("{address}: status {status}").into()),
    }
    reader.take(length.unwrap_or(u64::MAX).min(most + 1)).read_to_end(&mut bytes)?;
    if length.is_some_and(|length| (bytes.len() as u64) < length.min(most + 1)) {
        return Err(format!("{address} is cut short").into());
    }
    Ok(Some(bytes))
}

/// What an address cannot hold as it is.
fn quote(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>');
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

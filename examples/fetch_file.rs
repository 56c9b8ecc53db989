//! Fetches one file into a directory, going on where it was interrupted, and verifies it: what `benches/download.sh`
//! measures.
//!
//! `cargo run --release --example fetch_file -- URL SHA256 DIRECTORY`

#![allow(clippy::print_stdout)]

use std::path::Path;
use surefoot::fetch::{Carriers, Download, Files, HttpCarrier, HttpOptions, Options, SystemPace, Wanted};
use surefoot::model::Digest;
use surefoot::vfs::{OsVfs, Place};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, digest, directory] = arguments.as_slice() else { return Err("URL SHA256 DIRECTORY".into()) };
    let digest = Digest::parse(digest).ok_or("not a SHA-256 digest")?;
    let vfs = OsVfs::open_tree(Path::new(directory))?;
    let files = Files { content: Place::parse("file.part")?, memory: Place::parse("file.have")? };
    let carrier = Carriers::with_web(HttpCarrier::new(&HttpOptions::default())?);
    let wanted = Wanted { digest: Some(digest), label: "file".into(), ..Wanted::at(address) };
    let (pace, options) = (SystemPace::default(), Options::default());
    let download = Download { vfs: &vfs, files: &files, carrier: &carrier, pace: &pace, options: &options, watch: &() };
    let fetched = download.run(&wanted)?;
    println!("{} bytes, {} of them fetched now", fetched.size, fetched.received);
    Ok(())
}

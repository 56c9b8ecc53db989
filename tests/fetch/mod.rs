//! Downloads: real connections that misbehave, a disk that forgets, nginx, and a program that is killed.

mod blocks;
mod crash;
mod embedding;
mod follow;
mod mirrors;
mod misbehaviour;
mod nginx;
mod proxies;
pub(crate) mod server;
mod tuf_client;
mod update;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use surefoot::fetch::{
    Carrier, Carriers, Download, FetchError, Fetched, Files, HttpCarrier, HttpOptions, Options, Patience, SystemPace,
    Wanted, Watch,
};
use surefoot::limits;
use surefoot::model::{Digest, TreePath};
use surefoot::vfs::{OsVfs, Place, RootId};
use tempfile::TempDir;

const PIECE: usize = limits::DOWNLOAD_PIECE as usize;

/// Bytes that look like nothing.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state
    };
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| step(&mut state).to_le_bytes()).collect();
    out.truncate(length);
    out
}

fn files() -> Files {
    let at = |path: &str| Place { root: RootId::STATE, path: TreePath::parse(path).unwrap() };
    Files { content: at("it.part"), memory: at("it.have") }
}

/// A place for one download.
struct Site {
    folder: TempDir,
    vfs: OsVfs,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("tree")).unwrap();
        std::fs::create_dir(at("state")).unwrap();
        let vfs = OsVfs::open(&at("tree"), &at("state")).unwrap();
        Self { folder, vfs }
    }

    fn content(&self) -> PathBuf {
        self.folder.path().join("state/it.part")
    }

    fn fetch(&self, wanted: &Wanted) -> Result<Fetched, FetchError> {
        self.fetch_by(wanted, &web(HttpOptions::default()), &options(), &())
    }

    fn fetch_by(
        &self,
        wanted: &Wanted,
        carrier: &dyn Carrier,
        options: &Options,
        watch: &dyn Watch,
    ) -> Result<Fetched, FetchError> {
        let (files, pace) = (files(), SystemPace::default());
        Download { vfs: &self.vfs, files: &files, carrier, pace: &pace, options, watch }.run(wanted)
    }
}

fn web(options: HttpOptions) -> Carriers {
    Carriers::with_web(HttpCarrier::new(&options).unwrap())
}

/// Patient, but in a hurry.
fn options() -> Options {
    let patience = Patience { attempts: 6, pause: Duration::from_millis(2), longest_pause: Duration::from_millis(5) };
    Options { patience, ..Options::default() }
}

fn wanted(address: impl Into<String>, content: &[u8]) -> Wanted {
    Wanted {
        size: Some(content.len() as u64),
        digest: Some(Digest::of(content)),
        label: "it".into(),
        ..Wanted::at(address)
    }
}

/// Remembers what it was told.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Option<u64>)>>);

impl Watch for Told {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

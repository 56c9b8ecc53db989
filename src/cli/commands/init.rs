//! `init`: takes a tree under care.

use super::version;
use crate::cli::args::{Global, Init};
use crate::cli::files::{add_trusted, read_small};
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::codec::v1::tree_digest;
use crate::device::{Config, Engine};
use crate::error::{Code, Error};
use crate::model::Digest;
use crate::repository::{Anchor, Client, Clock, OfflinePolicy, Stored, role};
use crate::tree::{self, Walk};
use crate::trust::{Keyring, PublicKey};
use crate::vfs::{OsVfs, Vfs as _};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Adopted {
    root: String,
    version: String,
    digest: Digest,
    entries: usize,
    bytes: u64,
    keys: Vec<Digest>,
    /// Version of the root metadata where trust in a repository begins.
    root_metadata: Option<u64>,
    keep: u32,
    owner: bool,
    mtime: bool,
}

pub(super) fn run(asked: &Init, global: &Global, output: &Output) -> Result<(), Error> {
    let version = version(&asked.version)?.to_string();
    let managed = Managed::of(global)?;
    let (root, files) = root_among(&asked.trust)?;
    let mut keyring = Keyring::new();
    add_trusted(&mut keyring, &files)?;
    if managed.is_initialised()? {
        return Err(Error::new(Code::Initialised, "the tree is under surefoot's care already"));
    }
    // Read first: nothing is left behind in a tree that cannot be managed.
    let reader = OsVfs::open_tree(managed.root())?;
    let policy = asked.identity.policy(reader.user());
    let how = Walk { policy, state_inside: true };
    let meter = Meter::new(output);
    let (manifest, index) = tree::scan_indexed(&reader, &how, None, &meter.check())?;
    drop(meter);
    let config = Config {
        keep: asked.keep,
        owner: policy.owner,
        mtime: policy.mtime,
        keys: keyring.keys().map(PublicKey::to_pem).collect(),
        ..Config::default()
    };
    let vfs = managed.open_or_create()?;
    let mut engine = Engine::init_trusting(
        vfs,
        config,
        &version,
        Some(&manifest),
        root.as_ref().map(|(bytes, _)| bytes.as_slice()),
    )?;
    // Everything that was scanned is durable now, so the cache is true after a crash too.
    engine.write_index(&index)?;
    let adopted = Adopted {
        root: managed.root().display().to_string(),
        version,
        digest: tree_digest(&manifest),
        entries: manifest.entries().len(),
        bytes: manifest.entries().iter().map(|entry| entry.node.kind.size()).sum(),
        keys: keyring.keys().map(PublicKey::id).collect(),
        root_metadata: root.map(|(_, version)| version),
        keep: asked.keep,
        owner: policy.owner,
        mtime: policy.mtime,
    };
    output.line(format_args!(
        "{} is version {} now: {} entries, {}",
        adopted.root,
        adopted.version,
        adopted.entries,
        bytes(adopted.bytes)
    ));
    for key in &adopted.keys {
        output.line(format_args!("packages may be signed by key {key}"));
    }
    if let Some(version) = adopted.root_metadata {
        output.line(format_args!("a repository is believed from its root metadata of version {version} on"));
    } else if adopted.keys.is_empty() {
        output.message("no key is trusted: packages need --trust or --allow-unsigned");
    }
    output.result(&adopted);
    Ok(())
}

/// The bytes of root metadata, and its version.
type RootMetadata = (Vec<u8>, u64);

/// The root metadata among the files; and the other files.
fn root_among(files: &[PathBuf]) -> Result<(Option<RootMetadata>, Vec<PathBuf>), Error> {
    let (mut root, mut others) = (None, Vec::new());
    for path in files {
        let bytes = read_small(path)?;
        if bytes.first() != Some(&b'{') {
            others.push(path.clone());
            continue;
        }
        let stored = Stored([(role::ROOT.to_owned(), bytes.to_vec())].into());
        let client = Client::new(stored, Anchor::Stored, Clock::Unknown, OfflinePolicy::Strict).map_err(|error| {
            let what = format!("{} is not root metadata that is signed as it asks itself", path.display());
            Error::new(Code::BadMetadata, what).because(error)
        })?;
        let version = client.root().map_or(0, |root| root.version);
        if root.replace((bytes.to_vec(), version)).is_some() {
            return Err(Error::new(Code::Usage, "a tree follows one repository: one root metadata file will do"));
        }
    }
    Ok((root, others))
}

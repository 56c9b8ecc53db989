//! `init`: takes a tree under care.

use super::version;
use crate::cli::args::{Global, Init};
use crate::cli::files::add_trusted;
use crate::cli::managed::Managed;
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::codec::v1::tree_digest;
use crate::device::{Config, Engine};
use crate::error::{Code, Error};
use crate::model::Digest;
use crate::tree::{self, Walk};
use crate::trust::{Keyring, PublicKey};
use crate::vfs::{OsVfs, Vfs as _};
use serde::Serialize;

#[derive(Serialize)]
struct Adopted {
    root: String,
    version: String,
    digest: Digest,
    entries: usize,
    bytes: u64,
    keys: Vec<Digest>,
    keep: u32,
    owner: bool,
    mtime: bool,
}

pub(super) fn run(asked: &Init, global: &Global, output: &Output) -> Result<(), Error> {
    let version = version(&asked.version)?.to_string();
    let managed = Managed::of(global)?;
    let mut keyring = Keyring::new();
    add_trusted(&mut keyring, &asked.trust)?;
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
    let mut engine = Engine::init(managed.open_or_create()?, config, &version, Some(&manifest))?;
    // Everything that was scanned is durable now, so the cache is true after a crash too.
    engine.write_index(&index)?;
    let adopted = Adopted {
        root: managed.root().display().to_string(),
        version,
        digest: tree_digest(&manifest),
        entries: manifest.entries().len(),
        bytes: manifest.entries().iter().map(|entry| entry.node.kind.size()).sum(),
        keys: keyring.keys().map(PublicKey::id).collect(),
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
    if adopted.keys.is_empty() {
        output.message("no key is trusted: packages need --trust or --allow-unsigned");
    }
    output.result(&adopted);
    Ok(())
}

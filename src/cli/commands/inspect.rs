//! `inspect`: what a package is and does.

mod map;
mod page;

use super::build::usage;
use super::shown;
use crate::cli::args::Inspect;
use crate::cli::files::{Draft, add_trusted, failed, open_package};
use crate::cli::output::{Output, bytes};
use crate::cli::progress::Meter;
use crate::device::{Observer as _, Phase, Progress};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Kind, TreePath};
use crate::package::{Change, Package, PackageError, Promise, Source, Start, Verified};
use crate::trust::Keyring;
use map::Map;
use serde::Serialize;
use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;

/// What is known of a package.
#[derive(Serialize)]
struct Inspected {
    package: String,
    /// The name of the package; nothing as long as nobody has vouched for it.
    id: Option<Digest>,
    kind: &'static str,
    from: Option<String>,
    base: Option<Digest>,
    to: String,
    target: Digest,
    architecture: Option<String>,
    owner: bool,
    mtime: bool,
    notes: String,
    /// `signature`: signed by a trusted key, and whole. `accepted`: whole, but nobody vouches for it. `no`: nothing
    /// but what it says about itself.
    verified: &'static str,
    signer: Option<Digest>,
    claimed_signers: Vec<Digest>,
    changes: usize,
    contents: usize,
    segments: usize,
    payload_bytes: u64,
    packed_bytes: u64,
    memory_bytes: u64,
}

/// What one path becomes.
#[derive(Serialize)]
struct Item<'a> {
    path: &'a TreePath,
    /// `remove`, `directory`, `file`, `symlink` or `hard-link`.
    becomes: &'static str,
    /// `payload`, `base` or `package`, for a file.
    source: Option<&'static str>,
    /// Where the base or the package has the content, or the first name of a hard link.
    from: Option<&'a TreePath>,
    size: Option<u64>,
    mode: Option<String>,
    digest: Option<Digest>,
}

pub(super) fn run(asked: &Inspect, output: &Output) -> Result<(), Error> {
    let package = Package::open(open_package(&asked.package)?)?;
    let claimed_signers: Vec<Digest> = package.claimed_signers().collect();
    let mut map = None;
    let (promise, id, signer, verified) = if asked.trust.is_empty() && !asked.allow_unsigned {
        (package.inspect_untrusted()?, None, None, "no")
    } else {
        let (package, verified) = if asked.allow_unsigned {
            (package.accept_unsigned()?, "accepted")
        } else {
            let mut keyring = Keyring::new();
            add_trusted(&mut keyring, &asked.trust)?;
            (package.verify(&keyring)?, "signature")
        };
        let (id, signer) = (package.id(), package.signer());
        let meter = Meter::new(output);
        let progress = |done, total| meter.report(Progress { phase: Phase::Verify, done, total });
        let (promise, drawn) = map::draw(package, progress)?;
        map = Some(drawn);
        (promise, Some(id), signer, verified)
    };
    let head = promise.head();
    let (kind, from, base) = match &head.start {
        Start::Anything => ("full", None, None),
        Start::Base { version, digest } => ("patch", Some(version.clone()), Some(*digest)),
    };
    let inspected = Inspected {
        package: asked.package.display().to_string(),
        id,
        kind,
        from,
        base,
        to: head.to.clone(),
        target: head.target,
        architecture: head.architecture.clone(),
        owner: head.policy.owner,
        mtime: head.policy.mtime,
        notes: head.notes.clone(),
        verified,
        signer,
        claimed_signers,
        changes: promise.changes().len(),
        contents: promise.contents().count(),
        segments: promise.segments().len(),
        payload_bytes: promise.payload_bytes(),
        packed_bytes: promise.packed_bytes(),
        memory_bytes: promise.memory(),
    };
    if let Some(at) = &asked.html {
        let unread = || usage("what is drawn is read to its end first: name a key with --trust, or --allow-unsigned");
        let bytes = fs::metadata(&asked.package).map_err(|error| failed("open", &asked.package, error))?.len();
        write_page(at, &inspected, bytes, map.ok_or_else(unread)?)?;
    }
    tell(&inspected, output);
    for change in promise.changes() {
        let item = item(change, &promise);
        output.item("change", &item);
        output.line(item.told());
    }
    output.result(&inspected);
    Ok(())
}

/// Reads the contents of a full package, so that everything has been checked.
fn read_contents<R: Read>(package: Package<R, Verified>, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
    let (total, mut done) = (package.promise().payload_bytes(), 0);
    let (_, mut payload) = package.into_payload();
    let mut buffer = vec![0; limits::COPY_BUFFER];
    while let Some(mut content) = payload.next_content()? {
        loop {
            let length = content.read(&mut buffer).map_err(PackageError::from)?;
            if length == 0 {
                break;
            }
            done += length as u64;
            progress(done, total);
        }
    }
    Ok(())
}

/// What the page draws.
#[derive(Serialize)]
struct Drawn<'a> {
    package: &'a str,
    kind: &'a str,
    from: Option<&'a str>,
    to: &'a str,
    bytes: u64,
    map: &'a Map,
}

fn write_page(at: &Path, inspected: &Inspected, bytes: u64, map: Map) -> Result<(), Error> {
    let Inspected { package, kind, from, to, packed_bytes, .. } = inspected;
    let map = &map.with_manifest(bytes.saturating_sub(*packed_bytes));
    let drawn = Drawn { package, kind, from: from.as_deref(), to, bytes, map };
    let unwritable = |error| Error::new(Code::Internal, "the page cannot be written").because(error);
    // Nothing in a string may end the script.
    let data = serde_json::to_string(&drawn).map_err(unwritable)?.replace('<', "\\u003c");
    let mut draft = Draft::create(at)?;
    let page = page::PAGE.replacen("@DATA@", &data, 1);
    draft.file()?.write_all(page.as_bytes()).map_err(|error| failed("write", at, error))?;
    draft.complete()
}

fn tell(inspected: &Inspected, output: &Output) {
    let Inspected { to, from, kind, changes, .. } = inspected;
    match from {
        Some(from) => output.line(format_args!("{kind} from {} to {}", shown(from), shown(to))),
        None => output.line(format_args!("{kind} package of {}", shown(to))),
    }
    output.line(format_args!("for {}", inspected.architecture.as_deref().unwrap_or("every architecture")));
    output.line(match (inspected.verified, inspected.signer) {
        ("signature", Some(key)) => format!("verified: every byte, signed by the trusted key {key}"),
        ("accepted", _) => "verified: every byte is as the package says, but nobody vouches for what it says".into(),
        _ => "NOT verified: this is what the package says about itself (name a key with --trust)".into(),
    });
    for key in &inspected.claimed_signers {
        output.line(format_args!("it says that key {key} has signed it"));
    }
    let counted = match (inspected.owner, inspected.mtime) {
        (false, false) => "content, mode, links and attributes",
        (true, false) => "content, mode, owner, links and attributes",
        (false, true) => "content, mode, time, links and attributes",
        (true, true) => "content, mode, owner, time, links and attributes",
    };
    output.line(format_args!("what counts: {counted}"));
    output.line(format_args!(
        "{changes} paths; {} in {} contents, packed {}; {} of memory to unpack",
        bytes(inspected.payload_bytes),
        inspected.contents,
        bytes(inspected.packed_bytes),
        bytes(inspected.memory_bytes)
    ));
    for line in inspected.notes.lines() {
        // Words of a stranger: no control characters on the terminal.
        output.line(format_args!("| {}", line.replace(char::is_control, " ")));
    }
}

fn item<'a>(change: &'a Change, promise: &'a Promise) -> Item<'a> {
    let mut item =
        Item { path: &change.path, becomes: "remove", source: None, from: None, size: None, mode: None, digest: None };
    let Some((node, source)) = &change.after else { return item };
    item.becomes = match (&node.kind, &node.leader) {
        (Kind::Directory, _) => "directory",
        (Kind::Symlink { .. }, _) => "symlink",
        (Kind::File { .. }, None) => "file",
        (Kind::File { .. }, Some(_)) => "hard-link",
    };
    if let Kind::File { size, digest } = &node.kind {
        item.size = Some(*size);
        item.digest = Some(*digest).filter(|digest| *digest != Digest::UNSAID);
    }
    if !matches!(node.kind, Kind::Symlink { .. }) {
        item.mode = Some(format!("{:04o}", node.metadata.mode));
    }
    (item.source, item.from) = match source {
        Source::None => (None, node.leader.as_ref()),
        Source::Payload => (Some("payload"), None),
        Source::Base(path) => (Some("base"), Some(path)),
        Source::Change(index) => (Some("package"), promise.changes().get(*index).map(|other| &other.path)),
    };
    item
}

impl Item<'_> {
    fn told(&self) -> String {
        let Self { path, becomes, source, from, size, mode, .. } = self;
        let mut text = format!("{becomes:<9} {path}");
        if let Some(mode) = mode {
            text += &format!("  {mode}");
        }
        if let Some(size) = size {
            text += &format!("  {}", bytes(*size));
        }
        match (source, from) {
            (Some("payload"), _) => text += "  from the payload",
            (Some("base"), Some(from)) if from == path => text += "  keeps its content",
            (_, Some(from)) => text += &format!("  from {from}"),
            _ => {}
        }
        text
    }
}

//! State directories in which one file holds anything, and the promise that they are held to.

use crate::journal;
use crate::transaction::words;
use std::io::Cursor;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use surefoot::codec::v1::{self, UNPACKED_RECORD, UNPACKED_START, Unpacked};
use surefoot::device::{
    Attempts, Config, Downloads, Engine, HistoryEntry, Observer, PackageSettings, Phase, Progress, Tree, peek,
    peek_history, pending_downloads,
};
use surefoot::error::{Code, Error};
use surefoot::fetch::{Body, Carrier, Failure, Head, Options, Patience, Request, Response, Wanted};
use surefoot::limits;
use surefoot::model::{Digest, Manifest, Policy, Version};
use surefoot::package::{Level, Package};
use surefoot::publish::{self, build_patch};
use surefoot::repository::{Clock, OfflinePolicy};
use surefoot::tree::{Walk, scan, scan_indexed};
use surefoot::vfs::sim::{self, Snapshot};
use surefoot::vfs::{SimVfs, Vfs as _};

/// The files that may hold anything, by number. What stands here for an id is what the template has there.
pub const FILES: [&str; 14] = [
    "config",
    "history",
    "history.old",
    "attempts",
    "poison",
    "index",
    "journal",
    "generations/<current>/state",
    "generations/<current>/plan",
    "manifests/<current>",
    "generations/<unpacked>/unpacked",
    "downloads/<id>.have",
    "downloads/<id>.part",
    "trust/root.json",
];

/// The bytes that are downloaded: two pieces and a bit.
const CONTENT: usize = 2 * limits::DOWNLOAD_PIECE as usize + 100;

/// A tree with everything that its state directory can hold while nothing is pending in the tree.
pub struct Template {
    /// After an orderly end of the machine.
    pub disk: SimVfs,
    /// The trees: before the update that can be taken back, now, and with the package applied.
    trees: [Snapshot; 3],
    package: Vec<u8>,
    paths: Vec<String>,
}

impl Template {
    /// The bytes of a file, by its number.
    pub fn bytes(&self, file: usize) -> Vec<u8> {
        self.disk.read_file(&self.paths[file]).unwrap_or_default()
    }
}

/// Made once.
pub fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(make)
}

fn recorded(disk: &SimVfs) -> Manifest {
    let how = Walk { policy: Policy::default(), state_inside: true };
    scan(disk, &how, &|_, _| {}).expect("a tree that can be scanned")
}

fn make() -> Template {
    let words = |seed: u8| -> Vec<u8> { (0..6000_u32).map(|n| (n * n >> 7) as u8 ^ seed).collect() };
    let disk = SimVfs::with(sim::Options { trace: false, ..sim::Options::default() });
    disk.write_file("bin/app", words(1)).write_file("etc/conf", "a = 1").make_symlink("app", "bin/current");
    let first = disk.snapshot();
    drop(Engine::init(disk.clone(), Config::default(), "1.0.0", Some(&recorded(&disk))).expect("a new tree"));
    let mut tree = Tree::with(disk.clone()).expect("a tree");
    let update = tree.begin().expect("nothing is pending").put("etc/conf", &b"a = 2"[..]).put("new", &b"new"[..]);
    update.commit().expect("an update");
    // Time passes, so that the index knows files.
    (0..4000).for_each(|_| _ = disk.make_dir("bin"));
    let how = Walk { policy: Policy::default(), state_inside: true };
    let (_, index) = scan_indexed(&disk, &how, None, &|_, _| {}).expect("a tree that can be scanned");
    tree.engine().write_index(&index).expect("a cache");
    Attempts::default().note(&disk, Version::new(1, 0, 3)).expect("a note");
    disk.write_file(".surefoot/trust/root.json", crate::repository::first_root());
    download(&disk, false).expect_err("it breaks off");

    let target = SimVfs::new();
    target.write_file("bin/app", words(2)).write_file("etc/conf", "a = 2").make_symlink("app", "bin/current");
    target.write_file("new", "newer").write_file("large", words(3).repeat(4));
    let how = publish::Options { to: "1.0.2".into(), level: Level::Fast, segment: Some(4096), ..Default::default() };
    let (before, after) = (recorded(&disk), recorded(&target));
    let (mut package, mut spool) = (Vec::new(), Cursor::new(Vec::new()));
    build_patch(("1.0.0", &before, &disk), (&after, &target), &how, &mut spool, &mut package).expect("a patch");
    let now = disk.snapshot();
    let done = disk.fork();
    apply(&mut Engine::open(done.clone()).expect("a tree"), &package, &()).expect("it can be applied");
    // What a try leaves that is stopped while it unpacks.
    drop(tree);
    let mut engine = Engine::open(disk.clone()).expect("a tree");
    apply(&mut engine, &package, &Stop::default()).expect_err("it is stopped");
    drop(engine);
    disk.sync_all().expect("a disk that works");
    let disk = disk.reboot_clean();
    let trees = [first, now, done.snapshot()];
    let mut template = Template { disk, trees, package, paths: Vec::new() };
    template.paths = FILES.iter().map(|name| format!(".surefoot/{}", template.path(name))).collect();
    template
}

impl Template {
    fn path(&self, name: &str) -> String {
        let (start, end) = match (name.split_once('<'), name.split_once('>')) {
            (Some((start, _)), Some((_, end))) => (start, end),
            _ => return name.into(),
        };
        let listing = self.disk.state_listing();
        let is_unpacked = |path: &str| path.starts_with("generations/") && path.ends_with("/unpacked");
        let current = Engine::open(self.disk.fork()).and_then(|engine| engine.current()).expect("a generation");
        let current: String = current.id.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = match name {
            _ if name.contains("<current>") => Some(format!("{start}{current}{end}")),
            _ if name.contains("<unpacked>") => listing.into_iter().find(|path| is_unpacked(path)),
            _ => listing.into_iter().find(|path| path.starts_with(start) && path.ends_with(end)),
        };
        found.unwrap_or_else(|| panic!("nothing is {name}"))
    }
}

fn apply(engine: &mut Engine<SimVfs>, package: &[u8], observer: &dyn Observer) -> Result<(), Error> {
    let package = Package::open(package)?.accept_unsigned()?;
    engine.apply(package, &PackageSettings::default(), observer).map(drop)
}

/// Stops as soon as something is unpacked.
#[derive(Default)]
struct Stop(AtomicBool);

impl Observer for Stop {
    fn report(&self, progress: Progress) {
        self.0.fetch_or(progress.phase == Phase::Stage && progress.done > 12_000, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn content() -> &'static [u8] {
    static CONTENT_BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT_BYTES.get_or_init(|| (0..CONTENT as u32).map(|n| (n / 7 * 13 >> 3) as u8).collect())
}

/// Brings the content, or only its first piece.
struct Net {
    whole: bool,
}

struct Pieces {
    rest: Vec<u8>,
    at: usize,
    whole: bool,
}

impl Carrier for Net {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let (start, end) = request.range.unwrap_or((0, None));
        let end = end.unwrap_or(CONTENT as u64).min(CONTENT as u64);
        if start > 0 && !self.whole {
            return Err(Failure::Truncated);
        }
        let mut head = Head { status: 200, content_length: Some(end - start), ..Head::default() };
        if request.range.is_some() {
            head.status = 206;
            head.content_range = Some(format!("bytes {start}-{}/{CONTENT}", end - 1));
        }
        let rest = content()[start as usize..end as usize].to_vec();
        Ok(Response { head, body: Box::new(Pieces { rest, at: 0, whole: self.whole }) })
    }
}

impl Body for Pieces {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        if self.at > 0 && !self.whole {
            return Err(Failure::Truncated);
        }
        let from = self.at;
        self.at = (from + limits::DOWNLOAD_PIECE as usize).min(self.rest.len());
        Ok((from < self.at).then_some(&self.rest[from..self.at]))
    }
}

fn download(disk: &SimVfs, whole: bool) -> Result<(), Error> {
    let wanted = Wanted {
        size: Some(CONTENT as u64),
        digest: Some(Digest::of(content())),
        label: "1.0.2".into(),
        ..Wanted::at("a")
    };
    let options = Options {
        patience: Patience { attempts: 1, pause: Duration::ZERO, longest_pause: Duration::ZERO },
        sync_every: Duration::ZERO,
        ..Options::default()
    };
    Downloads::open(disk)?.fetch(&wanted, &Net { whole }, &options, &()).map(drop)
}

/// The bytes of a mark.
pub fn mark(unpacked: &Unpacked) -> Vec<u8> {
    let mut out = v1::encode_unpacked(unpacked.package, unpacked.base, unpacked.session);
    for (segment, noted) in &unpacked.segments {
        out.extend(v1::encode_unpacked_segment(*segment, *noted));
    }
    out
}

/// Puts the checksums of a mark right, of its start and of every second record, and its first bytes.
pub fn seal_mark(bytes: &mut [u8]) {
    let Some((start, records)) = bytes.split_at_mut_checked(UNPACKED_START) else { return };
    start[..8].copy_from_slice(b"SFUNPK_1");
    seal(start);
    records.chunks_exact_mut(UNPACKED_RECORD).filter(|record| record[12] & 1 == 0).for_each(seal);
}

fn seal(bytes: &mut [u8]) {
    let (body, checksum) = bytes.split_at_mut(bytes.len() - 4);
    checksum.copy_from_slice(&crc32c(body).to_le_bytes());
}

/// CRC-32C, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

/// Puts right what stands before or behind the bytes of a file that only look right to who knows them all.
fn sealed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match name {
        "index" => out.extend_from_slice(&Digest::of(bytes).0),
        "journal" => out = journal::build(bytes),
        "generations/<unpacked>/unpacked" => seal_mark(&mut out),
        "downloads/<id>.have" => {
            out.resize(out.len().max(limits::DOWNLOAD_HEADER), 0);
            let checksum = crc32c(&out[4..limits::DOWNLOAD_HEADER]).to_le_bytes();
            out[..4].copy_from_slice(&checksum);
        }
        _ => {}
    }
    out
}

/// Puts bytes into one file and does everything that reads it; says what promise was broken. With 128, checksums are
/// put right first.
///
/// Whatever one file says, nothing of the tree is touched but by what reports success, and that leaves exactly what it
/// promised.
pub fn check(file: u8, bytes: &[u8]) -> Result<(), String> {
    let template = template();
    let number = usize::from(file & 127) % FILES.len();
    let name = FILES[number];
    let bytes = if file & 128 == 0 { bytes.to_vec() } else { sealed(name, bytes) };
    let disk = template.disk.fork();
    disk.write_file(&template.paths[number], &bytes);
    let [first, now, new] = &template.trees;
    let must_be = |what: &str, tree: &Snapshot| match tree.difference(&disk.snapshot()) {
        Some(difference) => Err(format!("{name}: {what}, but the tree is not as it should be then: {difference}")),
        None => Ok(()),
    };

    // Whoever only looks.
    let _ = peek(&disk);
    let _ = pending_downloads(&disk);
    if let Ok(entries) = peek_history(&disk) {
        for entry in entries {
            let text = serde_json::to_string(&entry).map_err(|error| error.to_string())?;
            if serde_json::from_str::<HistoryEntry>(&text).ok().as_ref() != Some(&entry) {
                return Err(format!("an entry of the history does not read back: {text}"));
            }
        }
    }
    let mut attempts = Attempts::read(&disk).map_err(|error| format!("attempts are in the way: {}", words(&error)))?;
    attempts.note(&disk, Version::new(9, 9, 9)).map_err(|error| words(&error))?;
    if Attempts::read(&disk).ok().as_ref() != Some(&attempts) {
        return Err(format!("attempts do not read back: {attempts:?}"));
    }
    must_be("it was only looked at", now)?;

    if name.starts_with("downloads/") {
        // What arrived is believed only as far as it is right.
        download(&disk, true).map_err(|error| format!("a download does not go on: {}", words(&error)))?;
        let part = &template.paths[FILES.iter().position(|name| name.ends_with(".part")).unwrap_or(0)];
        return match disk.read_file(part).as_deref() == Some(content()) {
            true => must_be("something was fetched", now),
            false => Err("a download ended with something else".into()),
        };
    }

    let Ok(mut engine) = Engine::open(disk.clone()) else { return must_be("it could not be opened", now) };
    let config = engine.config().clone();
    if serde_json::to_vec(&config).ok().and_then(|text| serde_json::from_slice::<Config>(&text).ok()) != Some(config) {
        return Err("the configuration does not read back".into());
    }
    let recovered = engine.recover(&());
    // A journal that says so may take the update back that the template has made.
    let came_back = name == "journal" && first.difference(&disk.snapshot()).is_none();
    must_be("it was recovered", if came_back { first } else { now })?;
    if recovered.is_err() || came_back {
        return Ok(());
    }
    let _ = (engine.status(), engine.history(), engine.verify(false, &()).is_ok());
    let _ = engine.repository_client(Clock::Unknown, OfflinePolicy::Strict);
    must_be("it was compared", now)?;
    match apply(&mut engine, &template.package, &()) {
        Ok(()) => {
            must_be("the package was applied", new)?;
            match engine.rollback(&()) {
                Ok(_) => must_be("it was rolled back", now),
                Err(error) if error.code() == Code::Internal => Err(words(&error)),
                Err(_) => must_be("it was not rolled back", new),
            }
        }
        Err(error) if error.code() == Code::Internal => Err(words(&error)),
        Err(_) => {
            must_be("the package was refused", now)?;
            match engine.rollback(&()) {
                Ok(_) => must_be("the update was rolled back", first),
                Err(error) if error.code() == Code::Internal => Err(words(&error)),
                Err(_) => must_be("the update was not rolled back", now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file of the template is there, and as it is everything works.
    #[test]
    fn the_template_is_sound() {
        for (number, name) in FILES.iter().enumerate() {
            let there = template().disk.exists(&template().paths[number]);
            assert!(there || matches!(*name, "history.old" | "poison"), "{name}");
            if there {
                assert_eq!(check(number as u8, &template().bytes(number)), Ok(()), "{name}");
            }
        }
    }
}

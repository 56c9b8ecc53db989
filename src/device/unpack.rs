//! Unpacking: the contents of a patch are made before its transaction, in slots of a folder that a crash leaves behind.
//!
//! Segments are decoded by several threads while the next ones arrive. What a segment has made is noted, but not synced:
//! after a crash it is read back and counts only if it is what was noted, so an interrupted update goes on at the first
//! segment that is not on the disk. Nothing of the tree is touched. Whether the contents are the promised ones the
//! digest of the target tells; here it is made sure that they come from old content that is what it should be.

mod claims;
mod memory;

use self::claims::Claims;
use self::memory::{Memory, Reservation};
use super::layout::{self, Id};
use super::observer::{Observer, Phase, Progress};
use super::preflight::Known;
use super::stage::is_hole;
use super::{store, sweep};
use crate::codec::segment::{self, Lengths};
use crate::codec::v1::{self, Noted};
use crate::delta::{self, Contents, DeltaError};
use crate::error::{Code, Error, Finding};
use crate::limits;
use crate::model::{Coder, Difference, Digest, Extent, Hasher, Kind, Manifest, Relocation, Segment, Time, TreePath};
use crate::package::{self, Codec, Expected, Package, Promise, Segments, Verified};
use crate::tree::{Files, base_files, hash_file};
use crate::vfs::{Access, FileType, Place, Vfs};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are read back at a time.
const CHUNK: usize = 64 << 10;

/// A folder with contents of one package.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) id: Id,
    /// What an earlier try has noted.
    done: BTreeMap<u32, Noted>,
}

impl Folder {
    /// Bytes of it that are on the disk already.
    pub(super) fn bytes(&self) -> u64 {
        self.done.values().map(|noted| u64::from(noted.written)).sum()
    }
}

/// Looks for the folder that an earlier try with this package has left, and removes all others.
///
/// One of this session is no such folder: what it holds may be in the cache only, and whether it ever reached the disk
/// nobody might tell.
pub(super) fn find<V: Vfs>(vfs: &V, package: Digest, base: Id, finished: Option<Id>) -> Result<Option<Folder>, Error> {
    let session = vfs.session()?.0;
    let mut found = None;
    for id in sweep::unpacked(vfs, base, finished)? {
        let most = v1::UNPACKED_START + 2 * limits::SEGMENTS * v1::UNPACKED_RECORD;
        let mark = store::read_file(vfs, &layout::unpacked(id), most as u64);
        match mark.ok().and_then(|bytes| v1::decode_unpacked(&bytes)) {
            Some(mark) if mark.package == package && mark.session != session && found.is_none() => {
                found = Some(Folder { id, done: mark.segments });
            }
            _ => sweep::remove_unpacked(vfs, id)?,
        }
    }
    Ok(found)
}

/// The old files that the segments of a patch read, sorted.
pub fn read_sources<R: Read>(package: Package<R, Verified>, base: &Manifest) -> Result<Vec<TreePath>, Error> {
    struct Sizes(Vec<u64>, Vec<u64>);

    impl Lengths for Sizes {
        fn old_length(&self, file: u32) -> Option<u64> {
            self.0.get(file as usize).copied()
        }

        fn new_length(&self, file: u32) -> Option<u64> {
            self.1.get(file as usize).copied()
        }
    }

    let (promise, mut segments) = package.into_segments();
    let (paths, old): (Vec<&TreePath>, _) = base_files(base).unzip();
    let sizes = Sizes(old, promise.contents().map(|content| content.size).collect());
    let mut read = BTreeSet::new();
    while let Some((promised, bytes)) = segments.next_segment()? {
        if promised.codec != Codec::Views {
            let malformed = |error: crate::codec::DecodeError| bad("a segment").because(error);
            let (header, _) = segment::decode(&bytes, &sizes).map_err(malformed)?;
            read.extend(header.sources.iter().map(|source| source.extent.file));
        }
    }
    Ok(read.into_iter().filter_map(|file| paths.get(file as usize).map(|path| (*path).clone())).collect())
}

/// How long the note of what is unpacked gets, of so many segments.
pub(super) fn note_length(segments: usize) -> u64 {
    (v1::UNPACKED_START + segments * v1::UNPACKED_RECORD) as u64
}

/// Removes what was unpacked for a transaction from this generation.
pub(super) fn forget<V: Vfs>(vfs: &V, base: Id, finished: Option<Id>) -> Result<(), Error> {
    sweep::unpacked(vfs, base, finished)?.into_iter().try_for_each(|id| sweep::remove_unpacked(vfs, id))
}

/// What is to be unpacked.
pub(super) struct Task<'a> {
    /// The name of the package.
    pub(super) package: Digest,
    /// The generation that it starts from, and what that holds.
    pub(super) base: (Id, &'a Manifest),
    /// Paths whose content has been compared with that already.
    pub(super) known: &'a Known,
    /// What the contents will be, by number.
    pub(super) contents: Vec<Content>,
    /// Most memory that a segment may take.
    pub(super) memory: u64,
}

/// What a content will be.
#[derive(Clone, Copy)]
pub(super) struct Content {
    pub(super) size: u64,
    /// Mode and time that it gets while it is open, if it is made at once: `Stager::dress_staged` then has less to do.
    /// Nothing where it gets attributes as well, which a mode may forbid.
    pub(super) dress: Option<(u32, Time)>,
}

impl Content {
    /// The contents of a package, in their order.
    pub(super) fn all(promise: &Promise) -> Vec<Self> {
        let content = |content: Expected| {
            let metadata = promise.changes()[content.change].node().map(|node| &node.metadata);
            let bare = metadata.filter(|metadata| metadata.xattrs.is_empty());
            Self { size: content.size, dress: bare.map(|metadata| (metadata.mode, metadata.mtime)) }
        };
        promise.contents().map(content).collect()
    }
}

/// Why unpacking stopped.
pub(super) struct Stopped {
    pub(super) error: Error,
    /// Does what was unpacked so far serve another try?
    pub(super) keep: bool,
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        let error = error.into();
        let keep = matches!(error.code(), Code::Cancelled | Code::Io);
        Self { error, keep }
    }
}

/// Contents that were made.
pub(super) struct Made {
    /// The folder that they are in.
    pub(super) id: Id,
    /// The digest of each.
    pub(super) digests: Vec<Digest>,
    /// Numbers of the old files that they were made from.
    pub(super) sources: BTreeSet<u32>,
}

/// Are these old files still what the package starts from?
pub(super) fn still_base<V: Vfs>(vfs: &V, base: &Manifest, mut files: impl Iterator<Item = u32>) -> Result<(), Error> {
    let old = Files::of_base(vfs, base);
    files.try_for_each(|file| old.path(file).map_or(Ok(()), |path| is_base(vfs, base, path)))
}

fn is_base<V: Vfs>(vfs: &V, base: &Manifest, path: &TreePath) -> Result<(), Error> {
    let at = Place::tree(path);
    let stat = vfs.stat(&at)?;
    let size = stat.as_ref().filter(|stat| stat.kind == FileType::File).map(|stat| stat.size);
    let same = match (size, base.get(path).map(|node| &node.kind)) {
        (Some(size), Some(Kind::File { size: recorded, digest })) if size == *recorded => {
            hash_file(vfs, &at)?.1 == *digest
        }
        _ => false,
    };
    if same {
        return Ok(());
    }
    let difference = match (stat, size) {
        (None, _) => Difference::Missing,
        (_, None) => Difference::Type,
        _ => Difference::Content,
    };
    let message = format!("{path} is not what the package starts from");
    Err(Error::new(Code::Changed, message).listing(vec![Finding { path: path.clone(), difference }]))
}

/// Makes all contents, content `n` in slot `n`.
pub(super) fn run<V: Vfs, R: Read>(
    vfs: &V,
    folder: Option<Folder>,
    task: Task<'_>,
    segments: &mut Segments<R>,
    observer: &dyn Observer,
) -> Result<Made, Stopped> {
    let id = vfs.fresh_id()?;
    let resumed = folder.is_some();
    let done = match folder {
        Some(folder) => {
            vfs.rename(&layout::generation(folder.id), &layout::generation(id), crate::vfs::Rename::NoReplace)?;
            sweep::strip(vfs, id)?;
            make_ready(vfs, id, task.contents.len())?;
            vfs.remove_file(&layout::unpacked(id))?;
            folder.done
        }
        None => {
            vfs.mkdir(&layout::generation(id))?;
            BTreeMap::new()
        }
    };
    let mut mark = v1::encode_unpacked(task.package, task.base.0, vfs.session()?.0);
    for (segment, noted) in &done {
        mark.extend(v1::encode_unpacked_segment(*segment, *noted));
    }
    // Not synced: it only says what was written.
    let log = vfs.create(&layout::unpacked(id))?;
    vfs.write_at(&log, 0, &mark)?;
    store::ensure_bare_dir(vfs, &layout::slots(id))?;
    let unpacker = Unpacker {
        vfs,
        id,
        old: Files::of_base(vfs, task.base.1),
        targets: task.contents.iter().map(|_| Mutex::default()).collect(),
        compared: Mutex::default(),
        read: Mutex::default(),
        log: Mutex::new((log, mark.len() as u64)),
        made: Mutex::new(0),
        total: task.contents.iter().map(|content| content.size).sum(),
        resumed,
        memory: Memory::default(),
        cut_short: AtomicBool::new(false),
        done,
        observer,
        task,
    };
    unpacker.read_all(segments).map_err(|error| {
        // The name of the package stands for its bytes: they only have to be had once more.
        let cut_short = unpacker.cut_short.load(Ordering::Relaxed);
        let Stopped { error, keep } = error.into();
        Stopped { error, keep: keep || cut_short }
    })?;
    let digests = unpacker.digests()?;
    let sources = unpacker.read.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Made { id, digests, sources })
}

/// Leaves in the slots only what an earlier try may have made of contents, and that open to be written.
fn make_ready<V: Vfs>(vfs: &V, id: Id, contents: usize) -> Result<(), Error> {
    let slots = layout::slots(id);
    if vfs.stat(&slots)?.is_none() {
        return Ok(());
    }
    let maker = vfs.stat(&slots)?.filter(|_| vfs.user() == 0).map(|stat| (stat.uid, stat.gid));
    let mut names = vfs.list(&slots)?;
    names.sort();
    for name in names {
        let path = slots.path.join(&name).map_err(|error| Error::new(Code::Internal, "a slot").because(error))?;
        let at = Place { root: slots.root, path };
        let number = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<usize>().ok());
        match vfs.stat(&at)? {
            Some(stat) if stat.kind == FileType::File && number.is_some_and(|number| number < contents) => {
                // As if it were made now: who gets it is decided when it is dressed.
                if let Some((uid, gid)) = maker.filter(|maker| *maker != (stat.uid, stat.gid)) {
                    vfs.set_owner(&at, uid, gid)?;
                }
                if stat.mode != 0o600 {
                    vfs.set_mode(&at, 0o600)?;
                }
            }
            _ => sweep::remove_object(vfs, id, &at)?,
        }
    }
    Ok(())
}

struct Unpacker<'a, V: Vfs> {
    vfs: &'a V,
    id: Id,
    task: Task<'a>,
    old: Files<'a, V>,
    targets: Vec<Mutex<Target<V::File>>>,
    /// Old files whose content was compared with what is recorded.
    compared: Mutex<HashMap<u32, Arc<Mutex<bool>>>>,
    /// Old files that contents were made from.
    read: Mutex<BTreeSet<u32>>,
    /// The record, and where its end is.
    log: Mutex<(V::File, u64)>,
    done: BTreeMap<u32, Noted>,
    /// What is left for segments that are made at the same time.
    memory: Memory,
    /// Could the package not be read to its end?
    cut_short: AtomicBool,
    /// May there be slots with something in them?
    resumed: bool,
    made: Mutex<u64>,
    total: u64,
    observer: &'a dyn Observer,
}

/// A content that is being made.
struct Target<F> {
    digest: Option<Digest>,
    /// Of one that several segments make.
    parts: Option<Box<Parts<F>>>,
}

impl<F> Default for Target<F> {
    fn default() -> Self {
        Self { digest: None, parts: None }
    }
}

struct Parts<F> {
    file: Arc<F>,
    /// Parts that are there, but not hashed, by where they begin.
    waiting: BTreeMap<u64, u64>,
    /// How far it is hashed, and the hash; nothing while a thread has it.
    hashed: u64,
    hasher: Option<Hasher>,
}

/// A segment that has arrived.
struct Job<'a> {
    number: u32,
    header: Segment,
    bytes: Vec<u8>,
    /// Where in these the body begins.
    body: usize,
    views: Arc<Vec<Relocation>>,
    /// Held as long as it is being made.
    _memory: Reservation<'a>,
}

fn bad(what: &str) -> Error {
    Error::new(Code::PackageFormat, format!("the package is malformed: {what}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Vfs> Lengths for Unpacker<'_, V> {
    fn old_length(&self, file: u32) -> Option<u64> {
        self.old.length(file)
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        self.task.contents.get(file as usize).map(|content| content.size)
    }
}

impl<V: Vfs> Unpacker<'_, V> {
    fn read_all<R: Read>(&self, segments: &mut Segments<R>) -> Result<(), Error> {
        for (number, _) in self.task.contents.iter().enumerate().filter(|(_, content)| content.size == 0) {
            let slot = layout::slot(self.id, number as u32);
            if self.resumed && self.vfs.stat(&slot)?.is_some() {
                self.vfs.remove_file(&slot)?;
            }
            self.vfs.create(&slot)?;
            lock(&self.targets[number]).digest = Some(Digest::of(b""));
        }
        // Who is one of many threads that do tasks cannot wait for the others: they may wait for this one.
        if self.vfs.threads() <= 1 || rayon::current_thread_index().is_some() {
            return self.arrive(segments, &mut |job| self.make(&job));
        }
        let failed = Mutex::new(None);
        let arrived = rayon::in_place_scope(|scope| {
            let failed = &failed;
            // A task never waits for what is still to arrive: the threads belong to everybody.
            self.arrive(segments, &mut |job| {
                scope.spawn(move |_| self.make_unless(failed, &job));
                if lock(failed).is_some() { Err(Error::new(Code::Internal, "no more is needed")) } else { Ok(()) }
            })
        });
        // What stopped a task has stopped the arrival.
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(arrived, Err)
    }

    fn make_unless(&self, failed: &Mutex<Option<Error>>, job: &Job<'_>) {
        if lock(failed).is_none()
            && let Err(error) = self.make(job)
        {
            lock(failed).get_or_insert(error);
        }
    }

    /// Reads the segments as they come and hands them on.
    fn arrive<'a, R: Read>(
        &'a self,
        segments: &mut Segments<R>,
        hand_on: &mut dyn FnMut(Job<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let malformed = |error: crate::codec::DecodeError| bad("a segment").because(error);
        let mut views = Arc::new(Vec::new());
        let mut claims = Claims::default();
        let mut number = 0;
        loop {
            // No more segments are here at a time than the memory of a small machine holds.
            let mut memory = self.memory.reserve(segments.upcoming().unwrap_or(0));
            let Some((promised, bytes)) = self.next(segments)? else { return Ok(()) };
            if promised.codec == Codec::Views {
                let (coder, packed) = segment::decode_packed_views(&bytes).map_err(malformed)?;
                let length = usize::try_from(promised.unpacked).unwrap_or(usize::MAX);
                let plain = delta::unpack(coder, packed, length).map_err(delta_error)?;
                views = Arc::new(segment::decode_views(&plain, self).map_err(malformed)?);
                continue;
            }
            let (header, body) = segment::decode(&bytes, self).map_err(malformed)?;
            self.check(&promised, &header, body)?;
            header.outputs.iter().try_for_each(|output| claims.claim(*output, self.is_whole(output)))?;
            memory.grow(delta::memory(&header, &views).saturating_add(body as u64));
            hand_on(Job { number, header, bytes, body, views: Arc::clone(&views), _memory: memory })?;
            number += 1;
        }
    }

    fn next<R: Read>(&self, segments: &mut Segments<R>) -> Result<Option<(package::Segment, Vec<u8>)>, Error> {
        let next = segments.next_segment();
        self.cut_short.fetch_or(next.is_err(), Ordering::Relaxed);
        Ok(next?)
    }

    /// Is a segment what the manifest says of it?
    fn check(&self, promised: &package::Segment, header: &Segment, body: usize) -> Result<(), Error> {
        let lzma = header.packs.iter().any(|pack| matches!(pack.coder, Coder::Lzma { .. }));
        if lzma && promised.codec != Codec::DeltaLzma {
            return Err(bad("a segment uses another coder than the manifest says"));
        }
        if promised.unpacked != header.output_length() || promised.packed != body as u64 + header.body_length() {
            return Err(bad("a segment is not as long as the manifest says"));
        }
        Ok(())
    }

    fn make(&self, job: &Job<'_>) -> Result<(), Error> {
        let noted = self.done.get(&job.number);
        if let Some(noted) = noted
            && self.read_back(&job.header, noted.checksum)?
        {
            return Ok(());
        }
        for source in &job.header.sources {
            self.compare(source.extent.file)?;
        }
        lock(&self.read).extend(job.header.sources.iter().map(|source| source.extent.file));
        let mut maker = Maker { unpacker: self, outputs: &job.header.outputs, at: None, checksum: 0, written: 0 };
        let allowed = self.task.memory.saturating_sub(job.body as u64);
        delta::decode(&job.header, &job.bytes[job.body..], &self.old, &job.views, allowed, &mut maker)
            .map_err(|error| self.blamed(delta_error(error), job))?;
        maker.end()?;
        let noted = Noted { checksum: maker.checksum, written: maker.written };
        let record = v1::encode_unpacked_segment(job.number, noted);
        let mut log = lock(&self.log);
        self.vfs.write_at(&log.0, log.1, &record)?;
        log.1 += record.len() as u64;
        Ok(())
    }

    /// Is an old file what the package starts from? Each is read once, unless that has been found out already.
    fn compare(&self, file: u32) -> Result<(), Error> {
        let path = self.old.path(file).ok_or_else(|| bad("a segment reads a file that is not there"))?;
        if self.task.known.contains_key(path) {
            return Ok(());
        }
        let known = Arc::clone(lock(&self.compared).entry(file).or_default());
        let mut known = lock(&known);
        if *known {
            return Ok(());
        }
        is_base(self.vfs, self.task.base.1, path)?;
        *known = true;
        Ok(())
    }

    /// An old file that was changed after it was compared makes a segment fail that is as it should be.
    fn blamed(&self, error: Error, job: &Job<'_>) -> Error {
        if error.code() != Code::PackageFormat {
            return error;
        }
        let files = job.header.sources.iter().map(|source| source.extent.file);
        still_base(self.vfs, self.task.base.1, files).err().unwrap_or(error)
    }

    /// Is what a segment has made in an earlier try there? Then it counts, and is not made again.
    fn read_back(&self, header: &Segment, noted: u32) -> Result<bool, Error> {
        let mut checksum = 0;
        let mut whole = Vec::new();
        let mut buffer = vec![0; CHUNK];
        for output in &header.outputs {
            let slot = layout::slot(self.id, output.file);
            let size = self.vfs.stat(&slot)?.map(|stat| stat.size);
            if size != self.new_length(output.file) {
                return Ok(false);
            }
            let file = self.vfs.open(&slot, Access::Read)?;
            let mut hasher = Hasher::new();
            let mut at = output.offset;
            let end = output.offset + output.length;
            while at < end {
                let most = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let read = self.vfs.read_at(&file, at, &mut buffer[..most])?;
                if read == 0 {
                    return Ok(false);
                }
                checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
                if self.is_whole(output) {
                    hasher.update(&buffer[..read]);
                }
                at += read as u64;
            }
            whole.push(hasher.finish());
        }
        if checksum != noted {
            return Ok(false);
        }
        for (output, digest) in header.outputs.iter().zip(whole) {
            if self.is_whole(output) {
                lock(&self.targets[output.file as usize]).digest = Some(digest);
            } else {
                drop(self.open_target(output.file)?);
                self.end_part(output, None)?;
            }
            self.told(output.length)?;
        }
        Ok(true)
    }

    fn is_whole(&self, output: &Extent) -> bool {
        output.offset == 0 && self.new_length(output.file) == Some(output.length)
    }

    /// Opens a content that is made in parts, if it is not open.
    fn open_target(&self, content: u32) -> Result<MutexGuard<'_, Target<V::File>>, Error> {
        let mut target = lock(&self.targets[content as usize]);
        if target.parts.is_none() {
            let slot = layout::slot(self.id, content);
            let there = self.resumed && self.vfs.stat(&slot)?.is_some();
            let file = Arc::new(if there { self.vfs.open(&slot, Access::Write)? } else { self.vfs.create(&slot)? });
            self.vfs.set_len(&file, self.new_length(content).unwrap_or(0))?;
            let (waiting, hasher) = (BTreeMap::new(), Some(Hasher::new()));
            target.parts = Some(Box::new(Parts { file, waiting, hashed: 0, hasher }));
        }
        Ok(target)
    }

    /// The file that a part goes into, and the hash if it is the next part to be hashed.
    fn open_part(&self, output: &Extent) -> Result<(Arc<V::File>, Option<Hasher>), Error> {
        let mut target = self.open_target(output.file)?;
        let parts = target.parts.as_mut().ok_or_else(|| Error::new(Code::Internal, "no such part"))?;
        let hasher = if parts.hashed == output.offset { parts.hasher.take() } else { None };
        Ok((Arc::clone(&parts.file), hasher))
    }

    /// Notes that a part is there; `hasher` has read it, or nobody has. Then reads what can be hashed now.
    fn end_part(&self, output: &Extent, mut hasher: Option<Hasher>) -> Result<(), Error> {
        let size = self.new_length(output.file).unwrap_or(0);
        let mut hashed = output.offset + output.length;
        if hasher.is_none() {
            let mut target = lock(&self.targets[output.file as usize]);
            let parts = target.parts.as_mut().ok_or_else(|| Error::new(Code::Internal, "no such part"))?;
            parts.waiting.insert(output.offset, hashed);
            let next = parts.hashed;
            if next == output.offset || parts.waiting.contains_key(&next) {
                hasher = parts.hasher.take();
            }
            hashed = next;
        }
        let mut buffer = Vec::new();
        while let Some(mut state) = hasher.take() {
            let (file, next) = {
                let mut target = lock(&self.targets[output.file as usize]);
                if hashed == size {
                    *target = Target { digest: Some(state.finish()), parts: None };
                    return Ok(());
                }
                let parts = target.parts.as_mut().ok_or_else(|| Error::new(Code::Internal, "no such part"))?;
                match parts.waiting.remove(&hashed) {
                    Some(next) => (Arc::clone(&parts.file), next),
                    None => {
                        (parts.hashed, parts.hasher) = (hashed, Some(state));
                        return Ok(());
                    }
                }
            };
            buffer.resize(CHUNK, 0);
            while hashed < next {
                let most = buffer.len().min(usize::try_from(next - hashed).unwrap_or(usize::MAX));
                let read = self.vfs.read_at(&file, hashed, &mut buffer[..most])?;
                if read == 0 {
                    return Err(Error::new(Code::Foreign, "what was unpacked is cut short"));
                }
                state.update(&buffer[..read]);
                hashed += read as u64;
            }
            hasher = Some(state);
        }
        Ok(())
    }

    fn told(&self, bytes: u64) -> Result<(), Error> {
        {
            // Whoever reports holds it, so that nobody is told of less than before.
            let mut made = lock(&self.made);
            *made += bytes;
            self.observer.report(Progress { phase: Phase::Stage, done: *made, total: self.total });
        }
        if self.observer.cancelled() { Err(Error::new(Code::Cancelled, "stopped on request")) } else { Ok(()) }
    }

    fn digests(&self) -> Result<Vec<Digest>, Error> {
        let missing = || Error::new(Code::PackagePartial, "the package does not hold all that it promises");
        self.targets.iter().map(|target| lock(target).digest.ok_or_else(missing)).collect()
    }
}

/// Writes what one segment makes.
struct Maker<'a, V: Vfs> {
    unpacker: &'a Unpacker<'a, V>,
    outputs: &'a [Extent],
    at: Option<Making<V>>,
    checksum: u32,
    written: u32,
}

/// The output that is being written.
struct Making<V: Vfs> {
    output: usize,
    offset: u64,
    file: Arc<V::File>,
    /// May stretches of zeros be left out?
    fresh: bool,
    /// Was the last piece left out?
    hole: bool,
    whole: bool,
    hasher: Option<Hasher>,
}

impl<V: Vfs> Maker<'_, V> {
    fn begin(&mut self, number: usize) -> Result<(), Error> {
        self.end()?;
        let output = self.outputs.get(number).ok_or_else(|| bad("a segment makes more than it says"))?;
        let unpacker = self.unpacker;
        let whole = unpacker.is_whole(output);
        let (file, hasher) = if whole {
            let slot = layout::slot(unpacker.id, output.file);
            if unpacker.resumed && unpacker.vfs.stat(&slot)?.is_some() {
                unpacker.vfs.remove_file(&slot)?;
            }
            (Arc::new(unpacker.vfs.create(&slot)?), Some(Hasher::new()))
        } else {
            unpacker.open_part(output)?
        };
        let fresh = whole || !unpacker.resumed;
        self.at = Some(Making { output: number, offset: output.offset, file, fresh, hole: false, whole, hasher });
        Ok(())
    }

    fn take(&mut self, number: usize, bytes: &[u8]) -> Result<(), Error> {
        if self.at.as_ref().is_none_or(|making| making.output != number) {
            self.begin(number)?;
        }
        let Some(making) = &mut self.at else { return Ok(()) };
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        if let Some(hasher) = &mut making.hasher {
            hasher.update(bytes);
        }
        making.hole = making.fresh && is_hole(bytes);
        if !making.hole {
            self.unpacker.vfs.write_at(&making.file, making.offset, bytes)?;
            self.written = self.written.saturating_add(bytes.len() as u32);
        }
        making.offset += bytes.len() as u64;
        self.unpacker.told(bytes.len() as u64)
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(making) = self.at.take() else { return Ok(()) };
        let output = &self.outputs[making.output];
        if !making.whole {
            return self.unpacker.end_part(output, making.hasher);
        }
        if making.hole {
            self.unpacker.vfs.set_len(&making.file, output.length)?;
        }
        if let Some((mode, mtime)) = self.unpacker.task.contents[output.file as usize].dress {
            let slot = layout::slot(self.unpacker.id, output.file);
            self.unpacker.vfs.set_mode_of(&making.file, &slot, mode)?;
            self.unpacker.vfs.set_mtime_of(&making.file, &slot, mtime)?;
        }
        lock(&self.unpacker.targets[output.file as usize]).digest = making.hasher.map(Hasher::finish);
        Ok(())
    }
}

impl<V: Vfs> delta::Sink for Maker<'_, V> {
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()> {
        self.take(output, bytes).map_err(io::Error::other)
    }
}

/// An error of ours that came through the decoder is still ours; the rest says what is wrong with the package.
fn delta_error(error: DeltaError) -> Error {
    match error {
        DeltaError::Read(source) | DeltaError::Write(source) => match source.downcast::<Error>() {
            Ok(ours) => ours,
            Err(source) => match source.downcast::<crate::vfs::IoError>() {
                Ok(error) => error.into(),
                Err(source) => Error::new(Code::Io, "old content cannot be read").because(source),
            },
        },
        other => bad("a segment does not decode").because(other),
    }
}

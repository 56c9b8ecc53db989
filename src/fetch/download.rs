//! `Download`: the loop between the disk and whoever brings bytes.

use super::part::{self, Part};
use super::{Ask, Carrier, Failure, FetchError, Files, Next, Pace, Patience, Request, Resume, Wanted};
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::vfs::{IoError, Vfs};
use std::time::Duration;

/// Somebody who wants to know how a download goes, and may ask to stop.
pub trait Watch: Sync {
    /// Told from time to time: bytes that are here, of how many.
    fn progress(&self, done: u64, total: Option<u64>);
    /// Shall it stop? What is here stays.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Watch for () {
    fn progress(&self, _: u64, _: Option<u64>) {}
}

/// How a download is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long to go on with those who fail.
    pub patience: Patience,
    /// Most bytes a second.
    pub bytes_per_second: Option<u64>,
    /// What arrived is made durable this often.
    pub sync_every: Duration,
    /// Most bytes that come over the wire for it; rather than take more, it fails.
    pub most_bytes: Option<u64>,
    /// Bytes that must be free besides what is still to come: for what is done with the content.
    pub room: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            bytes_per_second: None,
            sync_every: Duration::from_secs(5),
            most_bytes: None,
            room: 0,
        }
    }
}

/// A content that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its length, whatever of it was wanted.
    pub size: u64,
    /// Bytes that came over the wire for it this time.
    pub received: u64,
    /// It has the digest, or the digests of the blocks or sections, that were published; without any it is just what was
    /// sent.
    pub verified: bool,
}

/// One download: what is wanted, where it goes, and who brings it.
pub struct Download<'a, V: Vfs> {
    /// Where it goes.
    pub vfs: &'a V,
    /// The two files that it is in. Whoever calls sees to it that nobody else uses them.
    pub files: &'a Files,
    /// Who brings it.
    pub carrier: &'a dyn Carrier,
    /// The time.
    pub pace: &'a dyn Pace,
    /// How it is done.
    pub options: &'a Options,
    /// Who is told.
    pub watch: &'a dyn Watch,
}

impl<V: Vfs> Download<'_, V> {
    /// Fetches what is still missing, and verifies the whole. Interrupted anywhere, it goes on where it stopped when it
    /// is called again with the same files and wishes.
    pub fn run(&self, wanted: &Wanted) -> Result<Fetched, FetchError> {
        self.run_counted(wanted, &mut 0)
    }

    /// The same; the bytes that come over the wire are added to `received`, however it ends.
    pub fn run_counted(&self, wanted: &Wanted, received: &mut u64) -> Result<Fetched, FetchError> {
        refuse_odd(wanted)?;
        let mut resume = Resume::new(wanted.clone(), self.options.patience);
        let part = Part::open(self.vfs, self.files, &mut resume)?;
        let mut random = self.vfs.fresh_id()?;
        random.rotate_left(3);
        let mut run = Run {
            download: self,
            part,
            resume,
            digest: Rolling::default(),
            block: BlockDigest::default(),
            received: 0,
            synced: self.pace.now(),
            paced: (self.pace.now(), 0),
            jitter: u64::from_le_bytes([
                random[0], random[1], random[2], random[3], random[4], random[5], random[6], random[7],
            ]),
            roomy: false,
        };
        let done = run.all();
        *received = received.saturating_add(run.received);
        if matches!(done, Err(FetchError::Cancelled | FetchError::GaveUp { .. } | FetchError::Budget { .. })) {
            run.part.sync().map_err(FetchError::Sync)?;
        }
        done
    }

    /// Removes what is here.
    pub fn remove(&self) -> Result<(), FetchError> {
        Ok(part::remove(self.vfs, self.files)?)
    }
}

struct Run<'a, V: Vfs> {
    download: &'a Download<'a, V>,
    part: Part<'a, V>,
    resume: Resume,
    digest: Rolling,
    block: BlockDigest,
    received: u64,
    synced: Duration,
    /// When the last request began, and what had come before it: only so many bytes may come since.
    paced: (Duration, u64),
    jitter: u64,
    /// There is room for all of it.
    roomy: bool,
}

/// Ends a request: the disk, or something that is asked for again.
enum Trouble {
    Fatal(FetchError),
    Again(Failure),
}

impl From<IoError> for Trouble {
    fn from(error: IoError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Fatal(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Again(failure)
    }
}

impl<V: Vfs> Run<'_, V> {
    fn all(&mut self) -> Result<Fetched, FetchError> {
        self.require_room()?;
        self.tell();
        loop {
            self.stop_if_asked()?;
            self.resume.note_time(self.download.pace.now());
            let trouble = match self.resume.proceed() {
                Next::Fail => return Err(self.gave_up()),
                Next::Check => match self.check() {
                    Ok(fetched) => return Ok(fetched),
                    Err(trouble) => trouble,
                },
                Next::Ask(ask) => match self.request(&ask) {
                    Ok(()) => continue,
                    Err(trouble) => trouble,
                },
            };
            let failure = match trouble {
                Trouble::Fatal(error) => return Err(error),
                Trouble::Again(failure) => failure,
            };
            tracing::debug!(label = %self.resume.wanted().label, %failure, "a request failed");
            self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.resume.note_time(self.download.pace.now());
            let Some(pause) = self.resume.failed(failure, self.jitter >> 1) else { return Err(self.gave_up()) };
            self.wait(pause);
        }
    }

    fn wait(&self, pause: Duration) {
        if !pause.is_zero() {
            let watch = self.download.watch;
            self.download.pace.wait(pause, &|| watch.cancelled());
        }
    }

    fn request(&mut self, ask: &Ask) -> Result<(), Trouble> {
        let (start, end) = ask.range.unwrap_or((0, None));
        self.require_budget(end.or(self.resume.length()).map_or(0, |end| end.saturating_sub(start)))?;
        self.wait(self.resume.wait_before(ask));
        self.stop_if_asked()?;
        let address = self.resume.wanted().addresses[ask.address].clone();
        let request = Request { address, range: ask.range, if_range: ask.if_range.clone() };
        // What was not fetched while nobody answered is not made up for.
        self.paced = (self.download.pace.now(), self.received);
        let mut response = self.download.carrier.get(&request)?;
        if self.resume.head(&response.head)? {
            self.part.begin(&self.resume)?;
            self.digest = Rolling::default();
        }
        self.require_room()?;
        while let Some(bytes) = response.body.chunk()? {
            self.received += bytes.len() as u64;
            self.take(bytes)?;
            self.require_budget(0)?;
            self.tell();
            self.stop_if_asked()?;
            self.keep_pace()?;
        }
        if let Some(finished) = self.resume.end()? {
            self.part.remember(finished)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.resume.take(rest)?;
            rest = taken.rest;
            if let Some((at, bytes)) = taken.write {
                self.part.write(at, bytes)?;
                self.digest.add(at, bytes);
                if let Some(blocks) = &self.resume.wanted().blocks {
                    self.block.add(at, bytes, blocks.block_bytes());
                }
            }
            let Some(finished) = taken.finished else { continue };
            self.digest.keep();
            self.part.remember(finished)?;
            while let Some((block, range)) = self.resume.due_block(finished.piece) {
                let wanted = self.resume.wanted();
                let good = match self.block.take(range) {
                    Some(digest) => wanted.block_digest(block) == Some(digest),
                    None => self.part.block_is_good(wanted, block, range)?,
                };
                if !good {
                    let address = super::shown(self.resume.serving());
                    tracing::warn!(%address, block, "a block does not have its digest");
                    self.part.forget(range)?;
                    self.digest.forget_from(range.0);
                }
                self.resume.block(block, good)?;
            }
        }
        Ok(())
    }

    /// Everything is here: is it what was published?
    fn check(&mut self) -> Result<Fetched, Trouble> {
        let size = self.resume.length().unwrap_or(0);
        self.part.cut(size)?;
        let wanted = self.resume.wanted();
        let sections = wanted.sections.as_ref().map(|sections| sections.all().iter().all(|one| one.digest.is_some()));
        let verified = sections.unwrap_or(wanted.digest.is_some() || wanted.blocks.is_some());
        if let Some(expected) = wanted.digest.filter(|_| sections.is_none()) {
            let mut digest = std::mem::take(&mut self.digest);
            self.part.read_into(&mut digest.kept, digest.length, size)?;
            if digest.kept.finish() != expected {
                let failure = self.resume.whole_is_wrong();
                self.part.begin(&self.resume)?;
                return Err(failure.into());
            }
        }
        self.part.sync().map_err(FetchError::Sync)?;
        Ok(Fetched { size, received: self.received, verified })
    }

    /// Before the first byte that is written, of this content or of another that turned out to be longer.
    fn require_room(&mut self) -> Result<(), FetchError> {
        let (Some(length), false) = (self.resume.wanted_bytes(), self.roomy) else { return Ok(()) };
        let free = self.download.vfs.space(self.download.files.content.root)?.free_bytes;
        let needed = (length - self.resume.held_bytes().min(length)).saturating_add(self.download.options.room);
        if needed > free {
            return Err(FetchError::Space { label: self.resume.wanted().label.clone(), needed, free });
        }
        self.roomy = true;
        Ok(())
    }

    /// May so many bytes come besides those that came?
    fn require_budget(&self, asked: u64) -> Result<(), FetchError> {
        match self.download.options.most_bytes {
            Some(allowed) if self.received.saturating_add(asked) > allowed => {
                Err(FetchError::Budget { label: self.resume.wanted().label.clone(), allowed })
            }
            _ => Ok(()),
        }
    }

    fn stop_if_asked(&self) -> Result<(), FetchError> {
        if self.download.watch.cancelled() { Err(FetchError::Cancelled) } else { Ok(()) }
    }

    fn tell(&self) {
        self.download.watch.progress(self.resume.held_bytes(), self.resume.wanted_bytes());
    }

    /// Makes durable what arrived, now and then, and does not go faster than it may.
    fn keep_pace(&mut self) -> Result<(), FetchError> {
        let Download { pace, options, .. } = self.download;
        let mut now = pace.now();
        if now.saturating_sub(self.synced) >= options.sync_every {
            self.part.sync().map_err(FetchError::Sync)?;
            now = pace.now();
            self.synced = now;
        }
        if let Some(limit) = options.bytes_per_second.filter(|limit| *limit > 0) {
            let (since, before) = self.paced;
            let due = u128::from(self.received - before) * 1_000_000_000 / u128::from(limit);
            let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
            let early = since.saturating_add(due).saturating_sub(now);
            self.wait(early);
        }
        Ok(())
    }

    fn gave_up(&self) -> FetchError {
        let failures = self.resume.failures().map(|(address, failure)| (address.to_owned(), failure.clone())).collect();
        FetchError::GaveUp { label: self.resume.wanted().label.clone(), failures }
    }
}

/// The digest of the content up to where it was taken in, in order and in whole pieces.
#[derive(Default)]
struct Rolling {
    kept: Hasher,
    length: u64,
    /// The same, and what arrived of the piece after it.
    ahead: Option<(Hasher, u64)>,
}

impl Rolling {
    fn add(&mut self, at: u64, bytes: &[u8]) {
        if at == self.length {
            self.ahead = Some((self.kept.clone(), at));
        }
        match &mut self.ahead {
            Some((hasher, length)) if *length == at => {
                hasher.update(bytes);
                *length += bytes.len() as u64;
            }
            _ => self.ahead = None,
        }
    }

    /// The piece is complete.
    fn keep(&mut self) {
        if let Some((hasher, length)) = self.ahead.take() {
            (self.kept, self.length) = (hasher, length);
        }
    }

    /// What is there from some byte on will be another.
    fn forget_from(&mut self, start: u64) {
        if start < self.length {
            *self = Self::default();
        }
    }
}

/// The digest of one block, if all of it was taken in in order.
#[derive(Default)]
struct BlockDigest {
    hasher: Hasher,
    start: u64,
    length: u64,
}

impl BlockDigest {
    fn add(&mut self, at: u64, bytes: &[u8], block: u64) {
        if at.is_multiple_of(block) {
            *self = Self { hasher: Hasher::new(), start: at, length: 0 };
        }
        if at == self.start + self.length {
            self.hasher.update(bytes);
            self.length += bytes.len() as u64;
        } else {
            *self = Self::default();
        }
    }

    /// That of these bytes, if it is theirs.
    fn take(&mut self, (start, end): (u64, u64)) -> Option<Digest> {
        let this = std::mem::take(self);
        (this.start == start && this.start + this.length == end && end > start).then(|| this.hasher.finish())
    }
}

fn refuse_odd(wanted: &Wanted) -> Result<(), FetchError> {
    let odd = |why: &str| Err(FetchError::Address(format!("{}: {why}", wanted.label)));
    if wanted.addresses.is_empty() || wanted.addresses.len() > limits::MIRRORS {
        return odd("it has no address, or too many");
    }
    if wanted.addresses.iter().any(|address| address.len() > limits::ADDRESS_BYTES) {
        return odd("an address is too long");
    }
    if wanted.length().is_some_and(|length| length > limits::DOWNLOAD_BYTES) {
        return odd("it is longer than anything that is fetched");
    }
    if let (Some(blocks), Some(size)) = (&wanted.blocks, wanted.size)
        && blocks.length() != size
    {
        return odd("its size and its blocks do not agree");
    }
    if let Some(sections) = &wanted.sections
        && (wanted.blocks.is_some() || wanted.size.is_some_and(|size| size != sections.length()))
    {
        return odd("its size and its sections do not agree");
    }
    Ok(())
}

//! The logic of resuming: which bytes to ask for, from whom, and what to keep of what comes. Pure.
//!
//! [`Resume`] is fed with the heads and bodies of responses, and with what the disk says; it never sees either. Content
//! is held in pieces of [`limits::DOWNLOAD_PIECE`] bytes. Pieces that came at different times are put together only if
//! something vouches that they belong together: a published block map, a strong entity tag of the same address, or, as
//! a guess that is checked before anybody believes it, the published digest of the whole.

use super::failure::Failure;
use super::head::{ContentRange, Head};
use super::wanted::{Sections, Wanted};
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PIECE: u64 = limits::DOWNLOAD_PIECE;

/// One request: what to ask, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Number of the address.
    pub address: usize,
    /// The first byte, and the one after the last if that is not the end; nothing for the whole content.
    pub range: Option<(u64, Option<u64>)>,
    /// The entity tag that the content must still have for a part of it to be of use.
    pub if_range: Option<String>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for bytes.
    Ask(Ask),
    /// Everything is here: compare the whole with its digest, and say what came of it.
    Check,
    /// Nobody is left to ask.
    Fail,
}

/// What to do with the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    /// To be written there; nothing if these bytes are held already.
    pub write: Option<(u64, &'a [u8])>,
    /// What is left for the next call.
    pub rest: &'a [u8],
    /// The piece that is complete with it.
    pub finished: Option<Finished>,
}

/// A piece that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its number.
    pub piece: u64,
    /// CRC-32C of its bytes, as they arrived.
    pub checksum: u32,
}

/// How long to go on with those who fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failures in a row, without any new piece between them, that are put up with.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 8, pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

/// The state of one download.
#[derive(Clone, Debug)]
pub struct Resume {
    wanted: Wanted,
    patience: Patience,
    length: Option<u64>,
    /// Which pieces are wanted; nothing if all of them are.
    needed: Option<Vec<bool>>,
    /// Bytes that are wanted, where not all of them are.
    needed_bytes: Option<u64>,
    held: Vec<bool>,
    held_bytes: u64,
    good_blocks: Vec<bool>,
    /// The address, and its tag, under which everything that is held was sent.
    tag: Option<(usize, String)>,
    /// What is held came in parts, which may not belong together whatever their tags say; the digest of the whole will
    /// tell.
    guessed: bool,
    /// Parts did not belong together once: from now on only a tag vouches for them, and whoever sends it answers for it.
    strict: bool,
    /// Tags change all the time: the digest of the whole decides instead.
    tagless: bool,
    restarts: u32,
    addresses: Vec<Standing>,
    /// The moment it is, as far as is known.
    now: Duration,
    at: usize,
    /// Whose answer is being read.
    serving: usize,
    tries: u32,
    /// Something new came since the last failure.
    fed: bool,
    /// Blocks that were bad when their pieces had come at several times: nobody knows whose fault it was.
    mixed: BTreeSet<usize>,
    /// Who has sent a block that was bad.
    blamed: BTreeMap<usize, BTreeSet<usize>>,
    asked: Option<Ask>,
    body: Option<Body>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    /// Nothing more is asked of it.
    dead: bool,
    /// It does ranges wrong.
    whole_only: bool,
    bad_blocks: u32,
    /// It has failed in this round.
    failed: bool,
    /// It has asked to be left alone until then.
    not_before: Duration,
    last: Option<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    position: u64,
    /// The end, if it is known.
    until: Option<u64>,
    /// Of the piece in which the position is, if it was taken from its first byte on.
    checksum: Option<u32>,
    /// It has completed a piece.
    useful: bool,
    /// From there on everything came with this body.
    new_from: u64,
}

impl Resume {
    /// Nothing is here yet.
    pub fn new(wanted: Wanted, patience: Patience) -> Self {
        let length = wanted.length();
        let blocks = wanted.block_count();
        let needed = wanted.sections.as_ref().map(|sections| {
            let some = |piece: u64| !wanted.blocks_over(piece * PIECE, (piece + 1) * PIECE).is_empty();
            (0..pieces(sections.length())).map(some).collect()
        });
        let needed_bytes = wanted.sections.as_ref().map(Sections::bytes);
        let addresses = vec![Standing::default(); wanted.addresses.len()];
        let mut new = Self {
            wanted,
            patience,
            length,
            needed,
            needed_bytes,
            held: Vec::new(),
            held_bytes: 0,
            good_blocks: vec![false; blocks],
            tag: None,
            guessed: false,
            strict: false,
            tagless: false,
            restarts: 0,
            addresses,
            now: Duration::ZERO,
            at: 0,
            serving: 0,
            tries: 0,
            fed: false,
            mixed: BTreeSet::new(),
            blamed: BTreeMap::new(),
            asked: None,
            body: None,
        };
        new.reset(length);
        new
    }

    /// What an earlier run learned. The address is gone if nobody has it any more.
    pub fn remember(&mut self, length: Option<u64>, address: Option<usize>, tag: Option<String>) {
        if self.length.is_none() && length.is_some_and(|length| length <= limits::DOWNLOAD_BYTES) {
            self.reset(length);
        }
        self.tag = address.filter(|address| *address < self.addresses.len()).zip(tag);
    }

    /// A piece of an earlier run is still what it was.
    pub fn hold(&mut self, piece: u64) {
        let outside = self.length.is_some_and(|length| piece * PIECE >= length);
        if piece >= limits::DOWNLOAD_BYTES / PIECE || outside || !self.is_needed(piece as usize) {
            return;
        }
        // It may have been put together by a guess: the digest is to be asked before an address is blamed.
        self.guessed = !self.wanted.is_vouched();
        self.mark(piece);
    }

    /// It is this moment now, since some fixed one: said before it is asked what comes next, or told what went wrong.
    pub fn note_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// For how long whoever is asked next wants to be left alone still.
    pub fn wait_before(&self, ask: &Ask) -> Duration {
        self.addresses[ask.address].not_before.saturating_sub(self.now)
    }

    /// What comes next.
    pub fn proceed(&mut self) -> Next {
        let Some((start, end)) = self.first_gap() else { return Next::Check };
        let bad = |block: &usize| !self.good_blocks[*block] && self.blamed.contains_key(block);
        let block = self.wanted.blocks_over(start, start + PIECE).find(bad);
        let blamed = block.and_then(|block| self.blamed.get(&block));
        let ready = |address: &usize| self.addresses[*address].not_before <= self.now;
        let innocent = |address: &usize| blamed.is_none_or(|blamed| !blamed.contains(address));
        let order = (0..self.addresses.len()).map(|step| (self.at + step) % self.addresses.len());
        let alive: Vec<usize> = order.filter(|address| !self.addresses[*address].dead).collect();
        let best = alive.iter().find(|address| ready(address) && innocent(address));
        let Some(&address) = best
            .or_else(|| alive.iter().find(|address| ready(address)))
            .or_else(|| alive.iter().min_by_key(|address| self.addresses[**address].not_before))
        else {
            return Next::Fail;
        };
        // A block that was bad is fetched alone, from somebody else if there is anybody.
        let end = match block {
            Some(block) => {
                let block_end = self.wanted.block_range(block).1.next_multiple_of(PIECE);
                Some(end.unwrap_or(u64::MAX).min(block_end).min(self.length.unwrap_or(u64::MAX)))
            }
            None => end,
        };
        let punished = blamed.is_some();
        if !punished {
            self.at = address;
        }
        self.serving = address;
        let (range, if_range) = self.range_for(address, start, end);
        let ask = Ask { address, range, if_range };
        self.asked = Some(ask.clone());
        self.body = None;
        Next::Ask(ask)
    }

    fn range_for(&self, address: usize, start: u64, end: Option<u64>) -> (Option<(u64, Option<u64>)>, Option<String>) {
        let open = end.filter(|end| self.length != Some(*end));
        let range = Some((start, open));
        if self.wanted.sections.is_some() {
            return (range, None);
        }
        if self.addresses[address].whole_only || (self.held_bytes == 0 && start == 0 && open.is_none()) {
            return (None, None);
        }
        if self.wanted.blocks.is_some() {
            return (range, None);
        }
        match &self.tag {
            Some((owner, tag)) if *owner == address && !self.tagless => (range, Some(tag.clone())),
            _ if self.wanted.digest.is_some() && !self.strict => (range, None),
            _ => (None, None),
        }
    }

    /// A response begins. True if nothing that was held is of use any more: what comes is the beginning of it all.
    pub fn head(&mut self, head: &Head) -> Result<bool, Failure> {
        let asked = self.asked.take().ok_or(Failure::Unasked)?;
        if let (200 | 206, Some(coding)) = (head.status, head.coding()) {
            return Err(Failure::Coded(coding.chars().take(100).collect()));
        }
        match head.status {
            200 => self.whole(head, asked.address),
            206 => self.part(head, &asked),
            416 => Err(self.unsatisfied(head, &asked)),
            status => Err(Failure::Status { status, retry_after: head.retry_after() }),
        }
    }

    fn whole(&mut self, head: &Head, address: usize) -> Result<bool, Failure> {
        let promised = head.content_length;
        if self.wanted.sections.is_some() {
            // Nobody wants all of it.
            return Err(Failure::Range("all of it".into()));
        }
        if let (Some(promised), Some(wanted)) = (promised, self.wanted.length())
            && promised != wanted
        {
            return Err(Failure::Length { promised, wanted });
        }
        if promised.is_some_and(|length| length > limits::DOWNLOAD_BYTES) {
            return Err(Failure::TooLong);
        }
        let same_tag =
            head.tag().is_some() && self.tag.as_ref().is_some_and(|(_, tag)| Some(tag.as_str()) == head.tag());
        let same_length = promised.is_none() || promised == self.length;
        let keep = self.held_bytes > 0 && same_length && (self.wanted.blocks.is_some() || same_tag);
        if !keep {
            if self.held_bytes > 0 {
                self.count_restart();
            }
            self.reset(self.wanted.length().or(promised));
            self.tag = head.tag().map(|tag| (address, tag.to_owned()));
        }
        self.body = Some(Body { position: 0, until: self.length, checksum: None, useful: false, new_from: 0 });
        Ok(!keep)
    }

    fn part(&mut self, head: &Head, asked: &Ask) -> Result<bool, Failure> {
        let text = head.content_range.as_deref().unwrap_or_default();
        let wrong = || Failure::Range(text.chars().take(100).collect());
        let Some((start, end)) = asked.range else { return Err(wrong()) };
        let Some(ContentRange::Part { first, last, total }) = ContentRange::parse(text) else { return Err(wrong()) };
        let until = last.checked_add(1).ok_or_else(wrong)?;
        if let (Some(total), Some(wanted)) = (total, self.wanted.length())
            && total != wanted
        {
            return Err(Failure::Length { promised: total, wanted });
        }
        if let (Some(total), Some(length)) = (total, self.length)
            && total != length
        {
            return Err(Failure::Changed);
        }
        let length = self.length.or(total).filter(|length| *length <= limits::DOWNLOAD_BYTES).ok_or_else(wrong)?;
        let fits = first == start
            && until <= end.unwrap_or(length)
            && head.content_length.is_none_or(|sent| sent == until - first);
        if !fits {
            return Err(wrong());
        }
        match (&asked.if_range, head.tag()) {
            (Some(expected), Some(tag)) if expected != tag => return Err(Failure::Changed),
            // It was told to send a part of the same only, but does not say that it did.
            (Some(_), None) if self.wanted.digest.is_none() => return Err(Failure::Changed),
            _ => {}
        }
        self.guessed |= !self.wanted.is_vouched() && self.held_bytes > 0;
        if self.length.is_none() {
            self.length = Some(length);
            self.held.resize(pieces(length) as usize, false);
        }
        self.body = Some(Body { position: start, until: Some(until), checksum: None, useful: false, new_from: start });
        Ok(false)
    }

    /// 416: bytes that should be there are not.
    fn unsatisfied(&mut self, head: &Head, asked: &Ask) -> Failure {
        let total = match head.content_range.as_deref().and_then(ContentRange::parse) {
            Some(ContentRange::Unsatisfied { total }) => Some(total),
            _ => None,
        };
        match (total, self.wanted.length()) {
            (Some(promised), Some(wanted)) if promised != wanted => Failure::Length { promised, wanted },
            // It has the bytes, or will not say: it cannot do ranges.
            (total, Some(_)) if total == self.length || total.is_none() => {
                Failure::Range(format!("none of the bytes from {}", asked.range.map_or(0, |range| range.0)))
            }
            _ => Failure::Changed,
        }
    }

    /// Takes the beginning of some bytes of the body: call it again with the rest until nothing is left.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Taken<'a>, Failure> {
        let body = self.body.as_mut().ok_or(Failure::Unasked)?;
        let left = body.until.map_or(u64::MAX, |until| until - body.position);
        if left == 0 && !bytes.is_empty() {
            return Err(Failure::Overlong);
        }
        if body.position >= limits::DOWNLOAD_BYTES {
            return Err(Failure::TooLong);
        }
        let piece = body.position / PIECE;
        let piece_end = ((piece + 1) * PIECE).min(self.length.unwrap_or(u64::MAX));
        let count = (bytes.len() as u64).min(left).min(piece_end - body.position);
        let (now, rest) = bytes.split_at(usize::try_from(count).unwrap_or(bytes.len()));
        if body.position.is_multiple_of(PIECE) {
            body.checksum = Some(0);
        }
        body.checksum = body.checksum.map(|so_far| crc32c::crc32c_append(so_far, now));
        let at = body.position;
        body.position += count;
        let (complete, checksum) = (body.position == piece_end, body.checksum);
        if self.held.get(piece as usize).copied().unwrap_or(false) {
            body.new_from = piece_end;
            return Ok(Taken { write: None, rest, finished: None });
        }
        let finished = checksum.filter(|_| complete).map(|checksum| Finished { piece, checksum });
        if finished.is_some() {
            body.useful = true;
            self.fed = true;
            self.mark(piece);
        }
        Ok(Taken { write: Some((at, now)), rest, finished })
    }

    /// The body has ended, as its sender sees it. The last piece may be complete with that.
    pub fn end(&mut self) -> Result<Option<Finished>, Failure> {
        let body = self.body.take().ok_or(Failure::Unasked)?;
        match body.until {
            Some(until) if body.position < until => Err(Failure::Truncated),
            // Parts so small that no piece ever comes of them lead nowhere.
            Some(_) if !body.useful => Err(Failure::Range(format!("parts of less than {PIECE} bytes"))),
            Some(_) => Ok(None),
            // Nobody has said how long it is, so this is how.
            None => {
                self.length = Some(body.position);
                self.held.resize(pieces(body.position) as usize, false);
                let open = !body.position.is_multiple_of(PIECE);
                let finished = body.checksum.filter(|_| open);
                let finished = finished.map(|checksum| Finished { piece: body.position / PIECE, checksum });
                if let Some(finished) = finished {
                    self.fed = true;
                    self.mark(finished.piece);
                }
                Ok(finished)
            }
        }
    }

    /// A block, or a section with a digest, that is complete with this piece and not verified yet: its number and its
    /// bytes.
    pub fn due_block(&self, piece: u64) -> Option<(usize, (u64, u64))> {
        self.wanted.blocks_over(piece * PIECE, (piece + 1) * PIECE).find_map(|block| Some((block, self.due(block)?)))
    }

    /// The bytes of a block if it is complete and not verified yet.
    pub fn due(&self, block: usize) -> Option<(u64, u64)> {
        let (start, end) = self.wanted.block_range(block);
        if self.good_blocks[block] || self.wanted.block_digest(block).is_none() {
            return None;
        }
        // From the end: pieces arrive in order, so as long as it is not complete the last one is missing.
        let complete = (start / PIECE..end.div_ceil(PIECE)).rev().all(|piece| self.held[piece as usize]);
        complete.then_some((start, end))
    }

    /// What the digest of a block says. A bad one is fetched again; whoever sends too many of them is not asked again.
    ///
    /// Who has sent all of it in one body is to blame. Otherwise nobody is, the first time, and whoever completed it the
    /// next time: else two who send a half each would be asked for ever.
    pub fn block(&mut self, block: usize, good: bool) -> Result<(), Failure> {
        if good {
            self.good_blocks[block] = true;
            return Ok(());
        }
        self.drop_block(block);
        let (start, end) = self.wanted.block_range(block);
        let at_once = self.body.is_some_and(|body| body.new_from <= start && body.position >= end);
        if !at_once && self.mixed.insert(block) {
            return Ok(());
        }
        let address = self.serving;
        self.blamed.entry(block).or_default().insert(address);
        let standing = &mut self.addresses[address];
        standing.bad_blocks += 1;
        standing.last = Some(Failure::Block(block));
        if standing.bad_blocks >= limits::BAD_BLOCKS { Err(Failure::Block(block)) } else { Ok(()) }
    }

    /// A block that an earlier run left is not what it should be; nobody is blamed for that.
    pub fn drop_block(&mut self, block: usize) {
        let (start, end) = self.wanted.block_range(block);
        let (first, last) = (start / PIECE, end.div_ceil(PIECE));
        for piece in first..last {
            if std::mem::take(&mut self.held[piece as usize]) {
                self.held_bytes -= self.piece_bytes(piece);
            }
        }
        // Sections share pieces with those beside them.
        for other in self.wanted.blocks_over(first * PIECE, last * PIECE) {
            self.good_blocks[other] = false;
        }
    }

    /// What the digest of the whole says. If it is not the right one, nothing is held any more.
    pub fn whole_is_wrong(&mut self) -> Failure {
        let guessed = self.guessed && !self.strict;
        self.reset(self.wanted.length());
        self.strict = true;
        if guessed { Failure::Mixed } else { Failure::Digest }
    }

    /// Something went wrong with the last request. Gives how long to wait; nothing if it is time to give up.
    ///
    /// `jitter` is random, so that a thousand devices do not come back in the same second.
    pub fn failed(&mut self, failure: Failure, jitter: u64) -> Option<Duration> {
        self.body = None;
        self.asked = None;
        let address = self.serving;
        if std::mem::take(&mut self.fed) {
            self.tries = 0;
            self.addresses.iter_mut().for_each(|standing| standing.failed = false);
        }
        self.tries += 1;
        match &failure {
            Failure::Range(_) => {
                self.addresses[address].whole_only = true;
                self.addresses[address].dead |= self.wanted.sections.is_some();
            }
            Failure::Changed | Failure::Overlong if !self.wanted.is_vouched() => {
                self.count_restart();
                self.reset(self.wanted.length());
            }
            _ => {}
        }
        let asked_to_wait = failure.retry_after().unwrap_or_default();
        let standing = &mut self.addresses[address];
        standing.failed = true;
        standing.not_before = self.now.saturating_add(asked_to_wait);
        standing.dead |= failure.is_final() || asked_to_wait.as_secs() > limits::RETRY_AFTER_SECONDS;
        standing.dead |= self.restarts > limits::RESTARTS && !self.tagless;
        standing.last = Some(failure);
        if self.tries > self.patience.attempts {
            return None;
        }
        let count = self.addresses.len();
        let others = |wanted: &dyn Fn(&Standing) -> bool| {
            (1..=count).map(|step| (address + step) % count).find(|other| wanted(&self.addresses[*other]))
        };
        let ready = |standing: &Standing, then: Duration| !standing.dead && standing.not_before <= then;
        if let Some(other) = others(&|standing| ready(standing, self.now) && !standing.failed) {
            self.at = other;
            return Some(Duration::ZERO);
        }
        let living = || self.addresses.iter().filter(|standing| !standing.dead);
        let earliest = living().map(|standing| standing.not_before).min()?;
        let round = (self.tries - 1) / living().count().max(1) as u32;
        let pause = self.patience.pause_of(round, jitter).max(earliest.saturating_sub(self.now));
        self.at = others(&|standing| ready(standing, self.now.saturating_add(pause)))?;
        self.addresses.iter_mut().for_each(|standing| standing.failed = false);
        Some(pause)
    }

    /// What each address has failed with last.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        let both = self.wanted.addresses.iter().zip(&self.addresses);
        both.filter_map(|(address, standing)| Some((address.as_str(), standing.last.as_ref()?)))
    }

    /// Is a piece held?
    pub fn holds(&self, piece: u64) -> bool {
        self.held.get(piece as usize).copied().unwrap_or(false)
    }

    /// Bytes that are held of those that are wanted.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Bytes that are wanted, if that is known: all of the content, or whole pieces for its sections.
    pub fn wanted_bytes(&self) -> Option<u64> {
        self.needed_bytes.or(self.length)
    }

    /// Length of the content, if it is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// What is wanted.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The address of whoever is asked at present.
    pub fn serving(&self) -> &str {
        self.wanted.addresses.get(self.serving).map_or("", String::as_str)
    }

    /// The address that what is held came from, and the tag that it had there.
    pub fn tag(&self) -> Option<(usize, &str)> {
        self.tag.as_ref().map(|(address, tag)| (*address, tag.as_str()))
    }

    fn reset(&mut self, length: Option<u64>) {
        self.length = length;
        self.held = vec![false; pieces(length.unwrap_or(0)) as usize];
        self.held_bytes = 0;
        self.good_blocks.fill(false);
        self.tag = None;
        self.guessed = false;
    }

    /// The content is another one than before. If that goes on, tags do not say what they should.
    fn count_restart(&mut self) {
        self.restarts += 1;
        self.tagless |= self.restarts > limits::RESTARTS && self.wanted.digest.is_some() && !self.strict;
    }

    fn mark(&mut self, piece: u64) {
        let at = piece as usize;
        if at >= self.held.len() {
            self.held.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.held[at], true) {
            self.held_bytes += self.piece_bytes(piece);
        }
    }

    fn piece_bytes(&self, piece: u64) -> u64 {
        self.length.map_or(PIECE, |length| length.saturating_sub(piece * PIECE).min(PIECE))
    }

    /// The first run of bytes that is missing, and its end unless that is unknown; nothing if all is here.
    fn first_gap(&self) -> Option<(u64, Option<u64>)> {
        let missing = |piece: &usize| !self.held[*piece] && self.is_needed(*piece);
        let Some(first) = (0..self.held.len()).find(missing) else {
            return self.length.is_none().then_some((self.held.len() as u64 * PIECE, None));
        };
        let run = (first..self.held.len()).position(|piece| !missing(&piece));
        let start = first as u64 * PIECE;
        match (run, self.length) {
            (Some(run), _) => Some((start, Some((first + run) as u64 * PIECE))),
            (None, length) => Some((start, length)),
        }
    }

    fn is_needed(&self, piece: usize) -> bool {
        self.needed.as_ref().is_none_or(|needed| needed.get(piece).copied().unwrap_or(false))
    }
}

impl Patience {
    /// The pause before the next round: twice as long each time, and anything from half of it to all of it.
    pub(super) fn pause_of(&self, round: u32, jitter: u64) -> Duration {
        let factor = 1_u32.checked_shl(round.min(16)).unwrap_or(u32::MAX);
        let full = self.pause.saturating_mul(factor).min(self.longest_pause);
        let half = full / 2;
        let nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(jitter % (nanoseconds + 1))
    }
}

fn pieces(length: u64) -> u64 {
    length.div_ceil(PIECE)
}

#[cfg(test)]
mod tests;

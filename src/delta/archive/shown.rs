//! Old content as it is compared and copied from: some members inflated, and read anywhere.

use super::inflate::Stream;
use super::{ArchiveError, Member, Part, ReadAt};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress_with_limit};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are inflated at a time: a power of two, and the window of the decoder.
const BLOCK: u64 = 64 << 10;
/// Bytes of inflated blocks that are kept, with what the keeping takes for each. Where all large members together have
/// no more than `ALL_KEPT`, they are kept as well: a text that is put together from everywhere in an old one would
/// inflate it a hundred times.
const KEPT: u64 = 2 << 20;
const ALL_KEPT: u64 = 8 << 20;
const KEEPING: u64 = 128;
/// Marks from which members can be inflated on, without beginning at their beginning: how many, how far apart at least, and
/// the bytes of each.
const MARKS: u64 = 64;
const NEAREST: u64 = 4 * BLOCK;
const MARK: u64 = 48 << 10;
/// Bytes of what inflates: window, input, state.
const CURSOR: u64 = 192 << 10;

/// Pieces of a file, one after the other, with members inflated, as one thing that is read anywhere.
///
/// Its memory is bounded whatever the sizes: some blocks are kept, and some states of the decoder, so that going back in a
/// large member does not begin at its beginning.
pub struct Shown<'a, S> {
    source: S,
    pieces: &'a [Part],
    /// Where each piece begins.
    starts: Vec<u64>,
    size: u64,
    /// Inflated bytes between two marks.
    spacing: u64,
    /// Most bytes of blocks that are kept.
    kept: u64,
    state: Mutex<State>,
}

/// Memory that showing these pieces takes at most, in bytes.
pub fn shown_memory(pieces: &[Part]) -> u64 {
    let members = || pieces.iter().filter(|piece| matches!(piece, Part::Deflated(_)));
    let blocks = members().fold(0, |sum: u64, piece| sum.saturating_add(piece.shown().saturating_add(KEEPING)));
    let marks = large(pieces) / spacing(pieces);
    blocks.min(kept(pieces) + BLOCK) + marks * MARK + CURSOR + 8 * pieces.len() as u64
}

/// Bytes of members that are large enough for marks.
fn large(pieces: &[Part]) -> u64 {
    let members = pieces.iter().filter(|piece| matches!(piece, Part::Deflated(_)) && piece.shown() > NEAREST);
    members.fold(0, |sum: u64, piece| sum.saturating_add(piece.shown()))
}

/// Bytes of blocks that are kept of these pieces.
fn kept(pieces: &[Part]) -> u64 {
    let large = large(pieces);
    KEPT + if large <= ALL_KEPT { large + large.div_ceil(BLOCK) * KEEPING } else { 0 }
}

fn spacing(pieces: &[Part]) -> u64 {
    large(pieces).div_ceil(MARKS).div_ceil(BLOCK).saturating_mul(BLOCK).max(NEAREST)
}

impl<'a, S: ReadAt> Shown<'a, S> {
    /// The pieces of a file.
    pub fn new(source: S, pieces: &'a [Part]) -> Self {
        let mut size = 0_u64;
        let mut starts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            starts.push(size);
            size = size.saturating_add(piece.shown());
        }
        Self { source, pieces, starts, size, spacing: spacing(pieces), kept: kept(pieces), state: Mutex::default() }
    }

    /// How many bytes were inflated for what was read.
    pub fn inflated(&self) -> u64 {
        self.state().inflated
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from a member. It holds as much.
    fn inflate(&self, piece: usize, member: &Member, mut offset: u64, mut out: &mut [u8]) -> Result<(), ArchiveError> {
        let mut state = self.state();
        while !out.is_empty() {
            let (number, from) = (offset / BLOCK, (offset % BLOCK) as usize);
            let block = state.block(&self.source, piece, member, number, (self.spacing, self.kept))?;
            let count = (block.len() - from).min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&block[from..from + count]);
            (offset, out) = (offset + count as u64, later);
        }
        Ok(())
    }
}

impl<S: ReadAt> ReadAt for Shown<'_, S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let mut at = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        while !out.is_empty() {
            let piece = self.pieces.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let within = offset - self.starts[at];
            let count = piece.shown().saturating_sub(within).min(out.len() as u64);
            let (now, later) = out.split_at_mut(count as usize);
            match piece {
                Part::Raw { offset, .. } => {
                    let from = offset.checked_add(within).ok_or(io::ErrorKind::UnexpectedEof)?;
                    self.source.read_exact_at(from, now)?;
                }
                Part::Deflated(member) => self.inflate(at, member, within, now).map_err(io::Error::from)?,
            }
            (offset, out, at) = (offset + count, later, at + 1);
        }
        Ok(())
    }
}

impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

#[derive(Default)]
struct State {
    /// Blocks by piece and number, with when they were used last.
    blocks: HashMap<(usize, u64), (u64, Vec<u8>)>,
    kept: u64,
    clock: u64,
    cursor: Option<Cursor>,
    /// By piece and position.
    marks: BTreeMap<(usize, u64), Mark>,
    inflated: u64,
}

impl State {
    /// A block of a member.
    fn block(
        &mut self,
        source: &dyn ReadAt,
        piece: usize,
        member: &Member,
        number: u64,
        (spacing, kept): (u64, u64),
    ) -> Result<&[u8], ArchiveError> {
        self.clock += 1;
        let key = (piece, number);
        if !self.blocks.contains_key(&key) {
            let block = self.inflate(source, piece, member, number * BLOCK, (spacing, kept))?;
            self.make_room(block.len() as u64 + KEEPING, kept);
            self.blocks.insert(key, (0, block));
        }
        let clock = self.clock;
        let (used, block) = self.blocks.entry(key).or_default();
        *used = clock;
        Ok(block)
    }

    /// Lets those blocks go that have not been used for the longest time.
    fn make_room(&mut self, wanted: u64, most: u64) {
        self.kept += wanted;
        while self.kept > most {
            let Some(oldest) = self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key) else {
                break;
            };
            let gone = self.blocks.remove(&oldest).map_or(0, |(_, block)| block.len() as u64 + KEEPING);
            self.kept -= gone;
        }
    }

    fn inflate(
        &mut self,
        source: &dyn ReadAt,
        piece: usize,
        member: &Member,
        wanted: u64,
        (spacing, kept): (u64, u64),
    ) -> Result<Vec<u8>, ArchiveError> {
        let wrong = || ArchiveError::Inflate { offset: member.offset, inflated_len: member.inflated_len };
        let mark = self.marks.range((piece, 0)..=(piece, wanted)).next_back();
        let marked = mark.map_or(0, |((_, at), _)| *at);
        let usable = |cursor: &Cursor| cursor.piece == piece && (marked..=wanted).contains(&cursor.position);
        let mut cursor = match (self.cursor.take().filter(usable), mark) {
            (Some(cursor), _) => cursor,
            (None, Some((_, mark))) => mark.cursor(source, piece, marked)?,
            (None, None) => {
                if member.end().is_none_or(|end| end > source.size()) {
                    return Err(ArchiveError::Range { offset: member.offset, len: member.len });
                }
                Cursor::new(piece, Stream::new(source, member).ok_or_else(wrong)?)
            }
        };
        loop {
            let start = cursor.position;
            if start > 0 && start.is_multiple_of(spacing) {
                self.marks.entry((piece, start)).or_insert_with(|| cursor.mark());
            }
            let length = (member.inflated_len - start).min(BLOCK);
            if !cursor.step(source, length as usize)? {
                return Err(wrong());
            }
            self.inflated = self.inflated.saturating_add(length);
            if start == wanted {
                let block = cursor.ring[..length as usize].to_vec();
                self.cursor = Some(cursor);
                return Ok(block);
            }
            // What is passed may be wanted next.
            if self.kept + length + KEEPING <= kept
                && let Entry::Vacant(vacant) = self.blocks.entry((piece, start / BLOCK))
            {
                vacant.insert((self.clock, cursor.ring[..length as usize].to_vec()));
                self.kept += length + KEEPING;
            }
        }
    }
}

/// A member that is being inflated, block by block.
struct Cursor {
    piece: usize,
    /// The next byte of the member; at the beginning of a block or at the end.
    position: u64,
    decoder: Box<DecompressorOxide>,
    /// The block before, over which the next one is written.
    ring: Vec<u8>,
    /// What the input was read from, and where that goes on.
    before: Stream,
    stream: Stream,
    input: Vec<u8>,
    used: usize,
}

/// A cursor that rests.
struct Mark {
    decoder: Box<DecompressorOxide>,
    window: Vec<u8>,
    before: Stream,
    used: usize,
}

impl Cursor {
    fn new(piece: usize, stream: Stream) -> Self {
        let ring = vec![0; BLOCK as usize];
        let (before, decoder) = (stream.clone(), Box::default());
        Self { piece, position: 0, decoder, ring, before, stream, input: Vec::new(), used: 0 }
    }

    /// Inflates `wanted` bytes to the beginning of the ring; or there are not as many.
    fn step(&mut self, source: &dyn ReadAt, wanted: usize) -> Result<bool, ArchiveError> {
        let mut made = 0;
        while made < wanted {
            if self.used == self.input.len() {
                self.before = self.stream.clone();
                self.stream.next(source, &mut self.input)?;
                self.used = 0;
            }
            let input = &self.input[self.used..];
            let left = wanted - made;
            let (status, taken, more) =
                decompress_with_limit(&mut self.decoder, input, &mut self.ring, made, left, TINFL_FLAG_HAS_MORE_INPUT);
            self.used += taken;
            made += more;
            let goes_on = match status {
                TINFLStatus::HasMoreOutput => taken > 0 || more > 0,
                TINFLStatus::NeedsMoreInput => self.stream.left > 0,
                _ => false,
            };
            if made < wanted && !goes_on {
                return Ok(false);
            }
        }
        self.position += made as u64;
        Ok(true)
    }

    fn mark(&self) -> Mark {
        let window = self.ring[self.ring.len() - TINFL_LZ_DICT_SIZE..].to_vec();
        Mark { decoder: self.decoder.clone(), window, before: self.before.clone(), used: self.used }
    }
}

impl Mark {
    fn cursor(&self, source: &dyn ReadAt, piece: usize, position: u64) -> Result<Cursor, ArchiveError> {
        let mut cursor = Cursor::new(piece, self.before.clone());
        cursor.stream.next(source, &mut cursor.input)?;
        let window = cursor.ring.len() - self.window.len();
        cursor.ring[window..].copy_from_slice(&self.window);
        (cursor.position, cursor.used) = (position, self.used.min(cursor.input.len()));
        cursor.decoder = self.decoder.clone();
        Ok(cursor)
    }
}

//! A deflater whose output is that of stock zlib, or of gzip and Info-ZIP, byte for byte.
//!
//! What other deflaters make is as valid but not the same: a member of an archive is only reproduced by the very
//! search that made it. So the search is part of the package format, and stands here rather than in a library whose
//! next version may find better matches. `trees` chooses and writes the blocks.

use super::parameters::{DeflateParameters, Family, Strategy};
use super::trees::Blocks;

const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// Bytes that must be known ahead before a position is searched, unless the input ends.
const MIN_LOOKAHEAD: usize = MAX_MATCH + MIN_MATCH + 1;
/// A match of three bytes that lies farther back costs more than three literals.
const TOO_FAR: usize = 4096;

/// How hard a level searches.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// A match of this length shortens the search for a better one.
    good: usize,
    /// A match of this length is taken without trying the next position (lazy), or not entered into the chains (fast).
    lazy: usize,
    /// A match of this length ends the search.
    nice: usize,
    /// Most candidates that are looked at.
    chain: usize,
}

const fn effort(good: usize, lazy: usize, nice: usize, chain: usize) -> Effort {
    Effort { good, lazy, nice, chain }
}

/// By level, from 1 on. The first three are fast.
const EFFORTS: [Effort; 9] = [
    effort(4, 4, 8, 4),
    effort(4, 5, 16, 8),
    effort(4, 6, 32, 32),
    effort(4, 4, 16, 16),
    effort(8, 16, 32, 32),
    effort(8, 16, 128, 128),
    effort(8, 32, 128, 256),
    effort(32, 128, 258, 1024),
    effort(32, 258, 258, 4096),
];

/// A running deflate stream. It takes less than 512 KiB, whatever the length of its input.
#[derive(Debug)]
pub struct Deflater {
    parameters: DeflateParameters,
    effort: Effort,
    /// Two windows: the search is in the upper one, and what lies in the lower one can be matched.
    window: Vec<u8>,
    window_size: usize,
    /// Where the most recent string with a hash stands; zero is nowhere.
    head: Vec<u16>,
    /// Where the string before with the same hash stands, by position modulo the window.
    previous: Vec<u16>,
    hash_shift: u32,
    hash_mask: usize,
    position: usize,
    lookahead: usize,
    /// The lazy search: the match at the position before.
    match_start: usize,
    match_length: usize,
    literal_waits: bool,
    blocks: Blocks,
}

impl Deflater {
    /// A stream at its beginning.
    pub fn new(parameters: DeflateParameters) -> Self {
        let window_size = 1_usize << parameters.window_bits();
        let hash_bits = parameters.hash_bits();
        Self {
            parameters,
            effort: EFFORTS[usize::from(parameters.level()) - 1],
            window: vec![0; 2 * window_size + MAX_MATCH],
            window_size,
            head: vec![0; 1 << hash_bits],
            previous: vec![0; window_size],
            hash_shift: hash_bits.div_ceil(MIN_MATCH as u32),
            hash_mask: (1 << hash_bits) - 1,
            position: 0,
            lookahead: 0,
            match_start: 0,
            match_length: MIN_MATCH - 1,
            literal_waits: false,
            blocks: Blocks::new(parameters),
        }
    }

    /// Takes more input and appends what is ready to `out`.
    pub fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            // Full windows only, so that the output depends on the content and not on how it arrives.
            input = self.fill(input);
            if self.position + self.lookahead == 2 * self.window_size {
                self.search(false, out);
            }
        }
    }

    /// Ends the stream and appends the rest of it to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.search(true, out);
        if self.literal_waits {
            self.literal(self.position - 1);
        }
        self.end_block(true, out);
    }

    /// Moves input into the window and gives what found no room.
    fn fill<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        self.slide();
        let end = self.position + self.lookahead;
        let (taken, rest) = input.split_at(input.len().min(2 * self.window_size - end));
        self.window[end..end + taken.len()].copy_from_slice(taken);
        self.lookahead += taken.len();
        rest
    }

    /// Forgets the lower window when the search is about to leave the upper one.
    fn slide(&mut self) {
        if self.lookahead >= MIN_LOOKAHEAD || self.position < self.window_size + self.max_distance() {
            return;
        }
        let size = self.window_size;
        self.window.copy_within(size..2 * size, 0);
        self.match_start = self.match_start.saturating_sub(size);
        self.position -= size;
        self.blocks.start -= size as i64;
        for place in self.head.iter_mut().chain(&mut self.previous) {
            *place = place.saturating_sub(size as u16);
        }
    }

    fn max_distance(&self) -> usize {
        self.window_size - MIN_LOOKAHEAD
    }

    fn search(&mut self, last: bool, out: &mut Vec<u8>) {
        match (self.parameters.strategy(), self.parameters.level()) {
            (Strategy::HuffmanOnly, _) => self.search_nothing(last, out),
            (Strategy::Rle, _) => self.search_runs(last, out),
            (_, 1..=3) => self.search_fast(last, out),
            _ => self.search_lazy(last, out),
        }
    }

    /// Is there enough to look at the next position?
    fn is_ready(&mut self, last: bool) -> bool {
        if last {
            self.slide();
            self.lookahead > 0
        } else {
            self.lookahead >= MIN_LOOKAHEAD
        }
    }

    /// Takes every match at once.
    fn search_fast(&mut self, last: bool, out: &mut Vec<u8>) {
        while self.is_ready(last) {
            let candidate = self.insert_if_whole(self.position);
            let mut length = 0;
            if candidate != 0 && self.position - candidate <= self.max_distance() {
                length = self.longest_match(candidate, MIN_MATCH - 1);
            }
            let full = if length >= MIN_MATCH {
                let full = self.blocks.matched(self.position - self.match_start, length, self.position);
                self.lookahead -= length;
                if length <= self.effort.lazy && self.lookahead >= MIN_MATCH {
                    for position in self.position + 1..self.position + length {
                        self.insert(position);
                    }
                }
                self.position += length;
                full
            } else {
                self.literal_here()
            };
            if full {
                self.end_block(false, out);
            }
        }
    }

    /// Takes a match only if the next position has no longer one.
    fn search_lazy(&mut self, last: bool, out: &mut Vec<u8>) {
        while self.is_ready(last) {
            let candidate = self.insert_if_whole(self.position);
            let (before_length, before_start) = (self.match_length, self.match_start);
            self.match_length = MIN_MATCH - 1;
            if candidate != 0 && before_length < self.effort.lazy && self.position - candidate <= self.max_distance() {
                self.match_length = self.longest_match(candidate, before_length);
                let useless = self.match_length <= 5 && self.parameters.strategy() == Strategy::Filtered
                    || self.match_length == MIN_MATCH && self.position - self.match_start > TOO_FAR;
                if useless {
                    self.match_length = MIN_MATCH - 1;
                }
            }
            if before_length >= MIN_MATCH && self.match_length <= before_length {
                let whole = self.position + self.lookahead;
                let full = self.blocks.matched(self.position - 1 - before_start, before_length, self.position);
                for position in self.position + 1..self.position + before_length - 1 {
                    if position + MIN_MATCH <= whole {
                        self.insert(position);
                    }
                }
                self.lookahead -= before_length - 1;
                self.position += before_length - 1;
                self.literal_waits = false;
                self.match_length = MIN_MATCH - 1;
                if full {
                    self.end_block(false, out);
                }
            } else {
                if self.literal_waits && self.literal(self.position - 1) {
                    self.end_block(false, out);
                }
                self.literal_waits = true;
                self.position += 1;
                self.lookahead -= 1;
            }
        }
    }

    /// Looks for repetitions of the last byte only.
    fn search_runs(&mut self, last: bool, out: &mut Vec<u8>) {
        while self.is_ready(last) {
            let mut length = 0;
            if self.lookahead >= MIN_MATCH && self.position > 0 {
                let byte = self.window[self.position - 1];
                let ahead = &self.window[self.position..self.position + self.lookahead.min(MAX_MATCH)];
                length = ahead.iter().take_while(|other| **other == byte).count();
            }
            let full = if length >= MIN_MATCH {
                let full = self.blocks.matched(1, length, self.position);
                self.lookahead -= length;
                self.position += length;
                full
            } else {
                self.literal_here()
            };
            if full {
                self.end_block(false, out);
            }
        }
    }

    fn search_nothing(&mut self, last: bool, out: &mut Vec<u8>) {
        while self.is_ready(last) {
            if self.literal_here() {
                self.end_block(false, out);
            }
        }
    }

    /// The longest match at the position that beats `best` bytes, cut to what is there.
    fn longest_match(&mut self, mut candidate: usize, mut best: usize) -> usize {
        let Effort { good, mut nice, mut chain, .. } = self.effort;
        if best >= good {
            chain >>= 2;
        }
        // gzip looks beyond the end, at what the window held before.
        if self.parameters.family() != Family::Gzip {
            nice = nice.min(self.lookahead);
        }
        let limit = self.position.saturating_sub(self.max_distance());
        let window = &self.window[..];
        let here = &window[self.position..self.position + MAX_MATCH];
        loop {
            let there = &window[candidate..candidate + MAX_MATCH];
            if there[best] == here[best]
                && there[best - 1] == here[best - 1]
                && there[0] == here[0]
                && there[1] == here[1]
            {
                let length = common(there, here);
                if length > best {
                    self.match_start = candidate;
                    best = length;
                    if length >= nice {
                        break;
                    }
                }
            }
            candidate = usize::from(self.previous[candidate & (self.window_size - 1)]);
            chain -= 1;
            if candidate <= limit || chain == 0 {
                break;
            }
        }
        best.min(self.lookahead)
    }

    fn insert_if_whole(&mut self, position: usize) -> usize {
        if self.lookahead >= MIN_MATCH { self.insert(position) } else { 0 }
    }

    /// Enters the string at a position and gives the place of the last one with its hash.
    fn insert(&mut self, position: usize) -> usize {
        let byte = |at: usize| usize::from(self.window[position + at]);
        let shift = self.hash_shift;
        let hash = (byte(0) << (2 * shift) ^ byte(1) << shift ^ byte(2)) & self.hash_mask;
        let before = self.head[hash];
        self.previous[position & (self.window_size - 1)] = before;
        self.head[hash] = position as u16;
        usize::from(before)
    }

    fn literal_here(&mut self) -> bool {
        let full = self.literal(self.position);
        self.position += 1;
        self.lookahead -= 1;
        full
    }

    fn literal(&mut self, at: usize) -> bool {
        self.blocks.literal(self.window[at], self.position)
    }

    fn end_block(&mut self, last: bool, out: &mut Vec<u8>) {
        let start = usize::try_from(self.blocks.start).ok();
        let stored = start.map(|start| &self.window[start..self.position]);
        self.blocks.end(stored, (self.position as i64 - self.blocks.start) as u64, last, out);
        self.blocks.start = self.position as i64;
    }
}

fn common(one: &[u8], other: &[u8]) -> usize {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let mut length = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        let differing = word(one) ^ word(other);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + one[length..].iter().zip(&other[length..]).take_while(|(one, other)| one == other).count()
}

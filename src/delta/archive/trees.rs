//! The blocks of a deflate stream: where they end, which code each takes, and their bits.

use super::parameters::{DeflateParameters, Family, Strategy};

const LITERALS: usize = 256;
const END_OF_BLOCK: usize = 256;
/// Literals, the end of the block, and the classes of lengths.
const LENGTH_CODES: usize = 286;
const DISTANCE_CODES: usize = 30;
const BIT_LENGTH_CODES: usize = 19;
/// Nodes that the largest tree may have, and one more.
const HEAP: usize = 2 * LENGTH_CODES + 1;
const LONGEST_CODE: usize = 15;
/// The order in which the lengths of the codes for code lengths are sent.
const BIT_LENGTH_ORDER: [usize; BIT_LENGTH_CODES] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// A stored block has its length in 16 bits.
const LONGEST_STORED: usize = 65_535;

/// Bits after the code of a length.
const fn length_extra(code: usize) -> u32 {
    if code < 8 || code == 28 { 0 } else { (code as u32 - 4) / 4 }
}

/// Bits after the code of a distance.
const fn distance_extra(code: usize) -> u32 {
    if code < 4 { 0 } else { (code as u32 - 2) / 2 }
}

/// The class of a match length, less three.
fn length_code(length: usize) -> usize {
    match length {
        0..8 => length,
        255 => 28,
        _ => spread(length, 2),
    }
}

/// The class of a distance, less one.
fn distance_code(distance: usize) -> usize {
    if distance < 4 { distance } else { spread(distance, 1) }
}

/// Classes that double in width after every `1 << bits` of them.
fn spread(value: usize, bits: u32) -> usize {
    let extra = value.ilog2() - bits;
    ((extra as usize) << bits) + (value >> extra)
}

/// A prefix code under construction: how often each symbol comes, and then its bits.
#[derive(Debug)]
struct Code {
    frequencies: Vec<u32>,
    lengths: Vec<u8>,
    bits: Vec<u16>,
    /// The last symbol that has a code.
    last: usize,
}

impl Code {
    fn new(symbols: usize) -> Self {
        Self { frequencies: vec![0; symbols], lengths: vec![0; symbols], bits: vec![0; symbols], last: 0 }
    }

    /// A code with given lengths.
    fn fixed(lengths: Vec<u8>) -> Self {
        let mut code = Self::new(lengths.len());
        code.last = lengths.len() - 1;
        code.lengths = lengths;
        code.assign();
        code
    }

    fn clear(&mut self) {
        self.frequencies.fill(0);
    }

    /// Lengths of an optimal code of at most `longest` bits. Which one of several is part of the format.
    fn build(&mut self, longest: usize) {
        let symbols = self.frequencies.len();
        let mut heap = Heap::new(&self.frequencies);
        self.last = heap.last;
        let mut parents = [0_usize; HEAP];
        let mut order = Vec::with_capacity(HEAP);
        let mut node = symbols;
        loop {
            let least = heap.pop();
            let next = heap.first();
            order.extend([least, next]);
            heap.frequencies[node] = heap.frequencies[least] + heap.frequencies[next];
            heap.depths[node] = heap.depths[least].max(heap.depths[next]) + 1;
            (parents[least], parents[next]) = (node, node);
            heap.replace_first(node);
            node += 1;
            if heap.nodes.len() < 3 {
                break;
            }
        }
        order.push(heap.first());

        let mut lengths = [0_usize; HEAP];
        let mut counts = [0_usize; LONGEST_CODE + 1];
        let mut overflow = 0_isize;
        for &node in order.iter().rev().skip(1) {
            let mut length = lengths[parents[node]] + 1;
            if length > longest {
                length = longest;
                overflow += 1;
            }
            lengths[node] = length;
            if node < symbols {
                counts[length] += 1;
            }
        }
        if overflow > 0 {
            while overflow > 0 {
                let Some(length) = (1..longest).rev().find(|length| counts[*length] > 0) else { break };
                counts[length] -= 1;
                counts[length + 1] += 2;
                counts[longest] -= 1;
                overflow -= 2;
            }
            let mut leaves = order.iter().filter(|node| **node < symbols);
            for length in (1..=longest).rev() {
                for leaf in leaves.by_ref().take(counts[length]) {
                    lengths[*leaf] = length;
                }
            }
        }
        for (symbol, length) in self.lengths.iter_mut().enumerate() {
            *length = lengths[symbol] as u8;
        }
        self.assign();
    }

    /// The canonical bits of the lengths, the first bit lowest.
    fn assign(&mut self) {
        let mut counts = [0_u16; LONGEST_CODE + 1];
        for length in &self.lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut next = [0_u16; LONGEST_CODE + 1];
        for length in 1..=LONGEST_CODE {
            next[length] = (next[length - 1].wrapping_add(counts[length - 1])) << 1;
        }
        for (bits, length) in self.bits.iter_mut().zip(&self.lengths).filter(|(_, length)| **length > 0) {
            let next = &mut next[usize::from(*length)];
            *bits = next.reverse_bits() >> (16 - u32::from(*length));
            *next = next.wrapping_add(1);
        }
    }

    /// Bits of everything counted, coded with `lengths`.
    fn cost(&self, lengths: &[u8], extra: impl Fn(usize) -> u32) -> u64 {
        let symbols = self.frequencies.iter().zip(lengths).enumerate();
        symbols.map(|(at, (count, length))| u64::from(*count) * u64::from(u32::from(*length) + extra(at))).sum()
    }
}

/// The nodes without a parent, the rarest first; of equals, the one whose tree is flatter.
struct Heap {
    /// The heap begins at one.
    nodes: Vec<usize>,
    frequencies: [u32; HEAP],
    depths: [u8; HEAP],
    last: usize,
}

impl Heap {
    fn new(frequencies: &[u32]) -> Self {
        let mut heap = Self { nodes: vec![0], frequencies: [0; HEAP], depths: [0; HEAP], last: 0 };
        heap.frequencies[..frequencies.len()].copy_from_slice(frequencies);
        heap.nodes.extend((0..frequencies.len()).filter(|symbol| frequencies[*symbol] > 0));
        // A code needs two symbols.
        let mut last = heap.nodes[1..].last().copied();
        while heap.nodes.len() < 3 {
            let forced = match last {
                None => 0,
                Some(last) if last < 2 => last + 1,
                Some(_) => 0,
            };
            if last.is_none_or(|last| last < 2) {
                last = Some(forced);
            }
            heap.nodes.push(forced);
            heap.frequencies[forced] = 1;
        }
        heap.last = last.unwrap_or(0);
        for at in (1..=(heap.nodes.len() - 1) / 2).rev() {
            heap.sink(at);
        }
        heap
    }

    fn first(&self) -> usize {
        self.nodes[1]
    }

    fn pop(&mut self) -> usize {
        let first = self.nodes.swap_remove(1);
        self.sink(1);
        first
    }

    fn replace_first(&mut self, node: usize) {
        self.nodes[1] = node;
        self.sink(1);
    }

    fn sink(&mut self, mut at: usize) {
        let node = self.nodes[at];
        while 2 * at < self.nodes.len() {
            let mut child = 2 * at;
            if child + 1 < self.nodes.len() && self.precedes(self.nodes[child + 1], self.nodes[child]) {
                child += 1;
            }
            if self.precedes(node, self.nodes[child]) {
                break;
            }
            self.nodes[at] = self.nodes[child];
            at = child;
        }
        self.nodes[at] = node;
    }

    fn precedes(&self, one: usize, other: usize) -> bool {
        (self.frequencies[one], self.depths[one]) <= (self.frequencies[other], self.depths[other])
    }
}

/// Code lengths as they are sent: runs of equal ones are shortened.
#[derive(Clone, Copy, Debug)]
struct Run {
    symbol: usize,
    extra: u32,
    extra_bits: u32,
}

/// The runs of one code.
fn runs(lengths: &[u8], out: &mut Vec<Run>) {
    let plain = |symbol: u8| Run { symbol: usize::from(symbol), extra: 0, extra_bits: 0 };
    let mut before = None;
    let mut rest = lengths;
    while let [length, ..] = *rest {
        let same = rest.iter().take_while(|other| **other == length).count();
        let most = match length {
            0 => 138,
            _ if before == Some(length) => 6,
            _ => 7,
        };
        let count = same.min(most);
        let least = if length != 0 && before != Some(length) { 4 } else { 3 };
        if count < least {
            out.extend(vec![plain(length); count]);
        } else if length == 0 {
            let (symbol, extra_bits, less) = if count <= 10 { (17, 3, 3) } else { (18, 7, 11) };
            out.push(Run { symbol, extra: (count - less) as u32, extra_bits });
        } else {
            let mut repeated = count;
            if before != Some(length) {
                out.push(plain(length));
                repeated -= 1;
            }
            out.push(Run { symbol: 16, extra: (repeated - 3) as u32, extra_bits: 2 });
        }
        before = Some(length);
        rest = &rest[count..];
    }
}

/// Symbols gathered into blocks, and bits that do not fill a byte yet.
#[derive(Debug)]
pub(super) struct Blocks {
    parameters: DeflateParameters,
    /// Distance (zero for a literal) above, byte or length less three below.
    symbols: Vec<u32>,
    matches: usize,
    lengths: Code,
    distances: Code,
    fixed_lengths: Code,
    fixed_distances: Code,
    bits: u64,
    bit_count: u32,
    /// Where the block begins in the window of the deflater; negative when that is forgotten.
    pub(super) start: i64,
}

impl Blocks {
    pub(super) fn new(parameters: DeflateParameters) -> Self {
        let fixed = |symbol: usize| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        };
        Self {
            parameters,
            symbols: Vec::with_capacity(parameters.block_symbols()),
            matches: 0,
            lengths: Code::new(LENGTH_CODES),
            distances: Code::new(DISTANCE_CODES),
            fixed_lengths: Code::fixed((0..288).map(fixed).collect()),
            fixed_distances: Code::fixed(vec![5; DISTANCE_CODES]),
            bits: 0,
            bit_count: 0,
            start: 0,
        }
    }

    /// Adds a literal. Is the block to end?
    pub(super) fn literal(&mut self, byte: u8, position: usize) -> bool {
        self.symbols.push(u32::from(byte));
        self.lengths.frequencies[usize::from(byte)] += 1;
        self.is_full(position)
    }

    /// Adds a match. Is the block to end?
    pub(super) fn matched(&mut self, distance: usize, length: usize, position: usize) -> bool {
        let length = length - 3;
        self.symbols.push((distance as u32) << 8 | length as u32);
        self.matches += 1;
        self.lengths.frequencies[LITERALS + 1 + length_code(length)] += 1;
        self.distances.frequencies[distance_code(distance - 1)] += 1;
        self.is_full(position)
    }

    fn is_full(&self, position: usize) -> bool {
        let count = self.symbols.len();
        if self.parameters.family() != Family::Zlib && self.parameters.level() > 2 && count.is_multiple_of(4096) {
            // A guess whether a block that ends here pays.
            let distances = self.distances.frequencies.iter().enumerate();
            let bits: u64 =
                distances.map(|(code, count)| u64::from(*count) * u64::from(5 + distance_extra(code))).sum();
            let taken = (position as i64 - self.start) as u64;
            if self.matches < count / 2 && (8 * count as u64 + bits) / 8 < taken / 2 {
                return true;
            }
        }
        count == self.parameters.block_symbols() - 1
    }

    /// Writes the block, in the shortest of three ways. `stored` is its content if that is still there.
    pub(super) fn end(&mut self, stored: Option<&[u8]>, length: u64, last: bool, out: &mut Vec<u8>) {
        self.lengths.frequencies[END_OF_BLOCK] = 1;
        self.lengths.build(LONGEST_CODE);
        self.distances.build(LONGEST_CODE);
        let mut sent = Vec::with_capacity(LENGTH_CODES + DISTANCE_CODES);
        runs(&self.lengths.lengths[..=self.lengths.last], &mut sent);
        runs(&self.distances.lengths[..=self.distances.last], &mut sent);
        let mut code = Code::new(BIT_LENGTH_CODES);
        for run in &sent {
            code.frequencies[run.symbol] += 1;
        }
        code.build(7);
        let codes = BIT_LENGTH_ORDER.iter().rposition(|at| code.lengths[*at] > 0).map_or(4, |at| (at + 1).max(4));

        let extra = |at: usize| if at > LITERALS { length_extra(at - LITERALS - 1) } else { 0 };
        let symbols = |lengths: &Code, distances: &Code| {
            self.lengths.cost(&lengths.lengths, extra) + self.distances.cost(&distances.lengths, distance_extra)
        };
        let header: u64 = sent.iter().map(|run| u64::from(code.lengths[run.symbol]) + u64::from(run.extra_bits)).sum();
        let dynamic = symbols(&self.lengths, &self.distances) + header + 3 * codes as u64 + 14;
        let fixed = symbols(&self.fixed_lengths, &self.fixed_distances);
        let bytes = |bits: u64| (bits + 3).div_ceil(8);
        let take_fixed = self.parameters.strategy() == Strategy::Fixed || bytes(fixed) <= bytes(dynamic);
        let best = if take_fixed { bytes(fixed) } else { bytes(dynamic) };

        let symbols = std::mem::take(&mut self.symbols);
        match stored {
            Some(stored) if length + 4 <= best && stored.len() <= LONGEST_STORED => {
                self.write_stored(stored, last, out)
            }
            _ if take_fixed => {
                self.send(2 | u32::from(last), 3, out);
                let codes = (
                    std::mem::replace(&mut self.fixed_lengths, Code::new(0)),
                    std::mem::replace(&mut self.fixed_distances, Code::new(0)),
                );
                self.write_symbols(&symbols, &codes.0, &codes.1, out);
                (self.fixed_lengths, self.fixed_distances) = codes;
            }
            _ => {
                self.send(4 | u32::from(last), 3, out);
                self.send(self.lengths.last as u32 + 1 - 257, 5, out);
                self.send(self.distances.last as u32, 5, out);
                self.send(codes as u32 - 4, 4, out);
                for at in &BIT_LENGTH_ORDER[..codes] {
                    self.send(u32::from(code.lengths[*at]), 3, out);
                }
                for run in &sent {
                    self.send(u32::from(code.bits[run.symbol]), u32::from(code.lengths[run.symbol]), out);
                    self.send(run.extra, run.extra_bits, out);
                }
                let codes = (
                    std::mem::replace(&mut self.lengths, Code::new(0)),
                    std::mem::replace(&mut self.distances, Code::new(0)),
                );
                self.write_symbols(&symbols, &codes.0, &codes.1, out);
                (self.lengths, self.distances) = codes;
            }
        }
        if last {
            self.align(out);
        }
        self.symbols = symbols;
        self.symbols.clear();
        self.matches = 0;
        self.lengths.clear();
        self.distances.clear();
    }

    fn write_stored(&mut self, stored: &[u8], last: bool, out: &mut Vec<u8>) {
        self.send(u32::from(last), 3, out);
        self.align(out);
        let length = stored.len() as u16;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(stored);
    }

    fn write_symbols(&mut self, symbols: &[u32], lengths: &Code, distances: &Code, out: &mut Vec<u8>) {
        for symbol in symbols {
            let (distance, value) = (symbol >> 8, symbol & 0xff);
            if distance == 0 {
                self.send_code(lengths, value as usize, out);
                continue;
            }
            let code = length_code(value as usize);
            let extra = length_extra(code);
            self.send_code(lengths, LITERALS + 1 + code, out);
            self.send(value & ((1 << extra) - 1), extra, out);
            let distance = distance - 1;
            let code = distance_code(distance as usize);
            let extra = distance_extra(code);
            self.send_code(distances, code, out);
            self.send(distance & ((1 << extra) - 1), extra, out);
        }
        self.send_code(lengths, END_OF_BLOCK, out);
    }

    fn send_code(&mut self, code: &Code, symbol: usize, out: &mut Vec<u8>) {
        self.send(u32::from(code.bits[symbol]), u32::from(code.lengths[symbol]), out);
    }

    fn send(&mut self, value: u32, count: u32, out: &mut Vec<u8>) {
        self.bits |= u64::from(value) << self.bit_count;
        self.bit_count += count;
        if self.bit_count >= 32 {
            out.extend_from_slice(&(self.bits as u32).to_le_bytes());
            self.bits >>= 32;
            self.bit_count -= 32;
        }
    }

    /// Fills up the last byte.
    fn align(&mut self, out: &mut Vec<u8>) {
        let bytes = self.bit_count.div_ceil(8) as usize;
        out.extend_from_slice(&self.bits.to_le_bytes()[..bytes]);
        (self.bits, self.bit_count) = (0, 0);
    }
}

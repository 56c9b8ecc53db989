//! Where short pieces of content occur in old content.

/// Most occurrences of one piece that are looked at, on either side of where one is expected.
const NEAREST: usize = 6;

/// Positions of pieces of `width` bytes in old content, by their hash.
pub(super) struct Index {
    width: usize,
    shift: u32,
    /// Only pieces are indexed whose first bytes have a product with so many zeros in front.
    sparse: u32,
    /// Of each hash, where its positions begin; one more for the end.
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Index {
    /// Indexes every `step`th position of the ranges of `old` for pieces of `width` (8 to 16, or 32) bytes; of these, if
    /// `sparse` is not zero, one in two to its power, chosen by what is there.
    pub(super) fn new(old: &[u8], ranges: &[(usize, usize)], width: usize, step: usize, sparse: u32) -> Self {
        let total: usize = ranges.iter().map(|(from, to)| (((to - from) / step) >> sparse) + 1).sum();
        let bits = (usize::BITS - total.leading_zeros()).clamp(10, 25);
        let mut index = Self { width, shift: 64 - bits, sparse, starts: Vec::new(), positions: Vec::new() };
        let each = |visit: &mut dyn FnMut(usize, usize)| {
            for (from, to) in ranges {
                for at in (*from..(*to + 1).saturating_sub(width)).step_by(step) {
                    if let Some(hash) = hash(&old[at..], width, index.shift, sparse) {
                        visit(at, hash);
                    }
                }
            }
        };
        // A few pieces are remembered; for many it is looked twice, which takes less memory.
        let mut few = Vec::new();
        if sparse > 0 {
            few.reserve(total);
            each(&mut |at, hash| few.push((at as u32, hash as u32)));
        }
        let each = |visit: &mut dyn FnMut(usize, usize)| match sparse {
            0 => each(visit),
            _ => few.iter().for_each(|(at, hash)| visit(*at as usize, *hash as usize)),
        };
        let mut starts = vec![0_u32; (1 << bits) + 1];
        each(&mut |_, hash| starts[hash + 1] += 1);
        let mut sum = 0_u32;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut positions = vec![0; sum as usize];
        // Each start moves to its end while positions are put in: afterwards it is the start of the next.
        each(&mut |at, hash| {
            positions[starts[hash] as usize] = at as u32;
            starts[hash] += 1;
        });
        starts.rotate_right(1);
        starts[0] = 0;
        index.starts = starts;
        index.positions = positions;
        index
    }

    /// The longest match of the beginning of `new` in `old`, the nearest to `expected` among equals: position, length.
    pub(super) fn find(&self, old: &[u8], new: &[u8], expected: i64) -> Option<(usize, usize)> {
        let hash = hash(new, self.width, self.shift, self.sparse)?;
        let all = &self.positions[self.starts[hash] as usize..self.starts[hash + 1] as usize];
        let near = if all.len() <= 2 * NEAREST {
            all
        } else {
            let middle = all.partition_point(|at| i64::from(*at) < expected);
            let from = middle.saturating_sub(NEAREST).min(all.len() - 2 * NEAREST);
            &all[from..from + 2 * NEAREST]
        };
        let mut best: Option<(usize, usize)> = None;
        for at in near {
            let at = *at as usize;
            let length = common_prefix(&old[at..], new);
            let distance = |at: usize| (at as i64 - expected).unsigned_abs();
            if length >= self.width
                && best.is_none_or(|(other, most)| length > most || (length == most && distance(at) < distance(other)))
            {
                best = Some((at, length));
            }
        }
        best
    }
}

/// The hash of the first `width` bytes; nothing for one byte repeated, of which there is too much everywhere.
fn hash(bytes: &[u8], width: usize, shift: u32, sparse: u32) -> Option<usize> {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let bytes = bytes.get(..width)?;
    let head = word(bytes, 0);
    if head.wrapping_mul(ODD).leading_zeros() < sparse {
        return None;
    }
    let tail = word(bytes, width - 8);
    if head == tail && head == head.rotate_left(8) {
        return None;
    }
    let mut mixed = head.wrapping_mul(ODD) ^ tail.wrapping_mul(0xC2B2_AE3D_27D4_EB4F).rotate_left(31);
    if width == 32 {
        mixed ^= (word(bytes, 8).wrapping_mul(ODD) ^ word(bytes, 16)).rotate_left(17);
    }
    Some((mixed.wrapping_mul(ODD) >> shift) as usize)
}

/// The eight bytes from `at` on.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// How many bytes both begin with.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    for (at, (x, y)) in a.chunks_exact(8).zip(b.chunks_exact(8)).enumerate() {
        let differing = word(x, 0) ^ word(y, 0);
        if differing != 0 {
            return at * 8 + (differing.trailing_zeros() / 8) as usize;
        }
    }
    let whole = length / 8 * 8;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(x, y)| x == y).count()
}

/// At how many places both have the same byte.
pub(super) fn agreement(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).map(|(x, y)| usize::from(x == y)).sum()
}

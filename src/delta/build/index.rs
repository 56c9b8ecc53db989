//! Where short pieces of content occur in old content.

/// Most occurrences of one piece that are looked at, on either side of where one is expected.
const NEAREST: usize = 6;

/// Bits of a hash that are kept beside a position, and bits of that.
const TAG: u32 = 4;
const STEPS: u32 = 32 - TAG;

/// Positions of pieces of `width` bytes in old content, by their hash.
pub(super) struct Index {
    width: usize,
    shift: u32,
    /// Of each hash, where its positions begin, and one more for the end; empty if each hash has one position only.
    starts: Vec<u32>,
    /// With one position for each hash: four more bits of the hash, then which `step` it is, from 1 on; or zero.
    positions: Vec<u32>,
    step: usize,
}

impl Index {
    /// Indexes every `step`th position of the ranges of `old` for pieces of `width` (8 to 16) bytes.
    pub(super) fn new(old: &[u8], ranges: &[(usize, usize)], width: usize, step: usize) -> Self {
        let total: usize = ranges.iter().map(|(from, to)| (to - from) / step + 1).sum();
        let bits = (usize::BITS - total.leading_zeros()).clamp(10, 25);
        let shift = 64 - bits;
        // It is looked twice, which takes less memory than remembering.
        let each = |visit: &mut dyn FnMut(usize, usize)| {
            for (from, to) in ranges {
                for at in (*from..(*to + 1).saturating_sub(width)).step_by(step) {
                    if let Some(hash) = hash(&old[at..], width, shift) {
                        visit(at, hash);
                    }
                }
            }
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
        Self { width, shift, starts, positions, step }
    }

    /// Indexes one position in `step` (16 or more) for pieces of `width` (8 to 32) bytes, and keeps one for each hash:
    /// quick to make. Most that are none are seen without a look at the old content.
    pub(super) fn coarse(old: &[u8], width: usize, step: usize) -> Self {
        let total = old.len() / step + 1;
        let bits = (usize::BITS - total.leading_zeros()).clamp(10, 25);
        let mut positions = vec![0_u32; 1 << bits];
        let shift = 64 - bits;
        for at in (0..(old.len() + 1).saturating_sub(width)).step_by(step) {
            if let Some(hash) = hash(&old[at..], width, shift - TAG) {
                positions[hash >> TAG] = tag(hash) | (at / step + 1) as u32;
            }
        }
        Self { width, shift: shift - TAG, starts: Vec::new(), positions, step }
    }

    /// The longest match of the beginning of `new` in `old`, the nearest to `expected` among equals: position, length.
    pub(super) fn find(&self, old: &[u8], new: &[u8], expected: i64) -> Option<(usize, usize)> {
        let hash = hash(new, self.width, self.shift)?;
        if self.starts.is_empty() {
            let found = self.positions[hash >> TAG];
            if found == 0 || found >> STEPS != tag(hash) >> STEPS {
                return None;
            }
            let at = ((found & ((1 << STEPS) - 1)) as usize - 1) * self.step;
            let length = common_prefix(&old[at..], new);
            return (length >= self.width).then_some((at, length));
        }
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

/// The bits of a hash that are kept beside a position.
fn tag(hash: usize) -> u32 {
    (hash as u32) << STEPS
}

/// The hash of the first `width` bytes; nothing for one byte repeated, of which there is too much everywhere.
fn hash(bytes: &[u8], width: usize, shift: u32) -> Option<usize> {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let bytes = bytes.get(..width)?;
    let head = word(bytes, 0);
    let tail = word(bytes, width - 8);
    if head == tail && head == head.rotate_left(8) {
        return None;
    }
    let mut mixed = head.wrapping_mul(ODD) ^ tail.wrapping_mul(0xC2B2_AE3D_27D4_EB4F).rotate_left(31);
    if width > 16 {
        mixed ^= (word(bytes, 8).wrapping_mul(ODD) ^ word(bytes, width - 16)).rotate_left(17);
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
    let length = a.len().min(b.len());
    let (a, b) = (a[..length].chunks_exact(64), b[..length].chunks_exact(64));
    let same = |x: &[u8], y: &[u8]| x.iter().zip(y).fold(0_u8, |sum, (x, y)| sum.wrapping_add(u8::from(x == y)));
    let rest = same(a.remainder(), b.remainder());
    a.zip(b).map(|(x, y)| usize::from(same(x, y))).sum::<usize>() + usize::from(rest)
}

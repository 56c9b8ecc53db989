//! Covers: which old bytes new bytes are copied from.

use super::index::{Index, agreement, common_prefix};

/// Bytes of the window that decides whether an alignment is kept.
const WINDOW: usize = 64;
/// Most bytes of a cover that is extended backwards without becoming any better.
const PATIENCE: usize = 1 << 12;

/// What the lengths of a cover take in a patch, in bits, about.
const COVER_BITS: usize = 28;
/// What a literal or a difference takes.
const BYTE_BITS: usize = 6;

/// New bytes that are copied, with differences, from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) length: usize,
}

impl Cover {
    pub(super) fn new_end(&self) -> usize {
        self.new + self.length
    }

    pub(super) fn old_end(&self) -> usize {
        self.old + self.length
    }

    fn alignment(&self) -> i64 {
        self.old as i64 - self.new as i64
    }
}

/// How covers are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// How many of the next 64 bytes must agree for an alignment to be kept.
    pub(super) keep: usize,
    /// How many bytes more than the kept alignment a match must have.
    pub(super) gain: usize,
    /// Whether fewer and fewer places are looked at where nothing is found.
    pub(super) hurry: bool,
    /// Bytes around a gap that are searched for short matches; none are with zero.
    pub(super) local: usize,
}

/// Old and new content, and the index of the old.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) old: &'a [u8],
    pub(super) new: &'a [u8],
    pub(super) search: Search,
}

impl Pair<'_> {
    /// Covers of the new bytes from `from` to `to`. The first ones are expected at the old position `expected`.
    pub(super) fn covers(&self, index: &Index, from: usize, to: usize, expected: Option<usize>) -> Vec<Cover> {
        let mut covers = Vec::new();
        // The alignment in use, and where it begins.
        let mut alignment = expected.map(|old| old as i64 - from as i64);
        let mut begin = from;
        let mut at = from;
        while at < to {
            if let Some(current) = alignment {
                at = self.follow(at, to, current);
                if at >= to {
                    break;
                }
            }
            match self.better(index, at, to, alignment) {
                Next::Resume(place) => at = place,
                Next::Switch(place, old) => {
                    let (end, start) = self.border(begin, alignment, place, old);
                    if let Some(current) = alignment {
                        push(&mut covers, begin, end, current);
                    }
                    alignment = Some(old as i64 - place as i64);
                    begin = start;
                    at = place;
                }
                Next::End => break,
            }
        }
        if let Some(current) = alignment {
            let end = begin + self.forward(begin, to, current);
            push(&mut covers, begin, end, current);
        }
        covers
    }

    /// Goes on along an alignment while it is good; where it is not any more.
    fn follow(&self, mut at: usize, to: usize, alignment: i64) -> usize {
        while at < to {
            let Some(old) = self.aligned(at, alignment) else { return at };
            at += common_prefix(&self.old[old..], &self.new[at..to]);
            if at >= to || !self.is_good(at, to, alignment) {
                return at;
            }
            at += 1;
        }
        at
    }

    fn aligned(&self, at: usize, alignment: i64) -> Option<usize> {
        usize::try_from(at as i64 + alignment).ok().filter(|old| *old < self.old.len())
    }

    fn is_good(&self, at: usize, to: usize, alignment: i64) -> bool {
        let Some(old) = self.aligned(at, alignment) else { return false };
        let new = &self.new[at..to.min(at + WINDOW)];
        let agree = agreement(new, &self.old[old..]);
        agree * WINDOW >= self.search.keep * new.len()
    }

    /// The next place where the alignment is good again or another one is better.
    fn better(&self, index: &Index, from: usize, to: usize, alignment: Option<i64>) -> Next {
        let mut at = from;
        while at < to {
            if (at - from).is_multiple_of(4) && alignment.is_some_and(|current| self.is_good(at, to, current)) {
                return Next::Resume(at);
            }
            let expected = at as i64 + alignment.unwrap_or(0);
            if let Some((old, length)) = index.find(self.old, &self.new[at..to], expected) {
                if alignment.is_some() && old as i64 == expected {
                    return Next::Resume(at);
                }
                let kept = alignment
                    .and_then(|current| self.aligned(at, current))
                    .map_or(0, |old| agreement(&self.new[at..at + length], &self.old[old..]));
                if length >= kept + self.search.gain {
                    return Next::Switch(at, old);
                }
            }
            // Odd, so that every place between two that are indexed is met.
            at += if self.search.hurry { 1 + 2 * ((at - from) >> 10).min(7) } else { 1 };
        }
        Next::End
    }

    /// Where the alignment in use ends, and where the one that is better at `place` begins.
    fn border(&self, begin: usize, alignment: Option<i64>, place: usize, old: usize) -> (usize, usize) {
        let mut end = begin + alignment.map_or(0, |current| self.forward(begin, place, current));
        let next = old as i64 - place as i64;
        let mut start = place - self.backward(place, old, begin);
        if let (Some(current), true) = (alignment, end > start) {
            // Both want what lies between: it is cut where that leaves the most bytes that agree.
            let mut score = 0_i64;
            let (mut best, mut cut) = (0, start);
            for at in start..end {
                score += i64::from(self.agrees(at, current)) - i64::from(self.agrees(at, next));
                if score > best {
                    (best, cut) = (score, at + 1);
                }
            }
            (end, start) = (cut, cut);
        }
        (end.max(begin), start)
    }

    fn agrees(&self, at: usize, alignment: i64) -> bool {
        self.aligned(at, alignment).is_some_and(|old| self.old[old] == self.new[at])
    }

    /// How far an alignment is worth following from `begin` on.
    fn forward(&self, begin: usize, to: usize, alignment: i64) -> usize {
        let Some(old) = self.aligned(begin, alignment) else { return 0 };
        let (old, new) = (&self.old[old..], &self.new[begin..to]);
        let end = old.len().min(new.len());
        let (mut score, mut best, mut length, mut at) = (0_i64, 0, 0, 0);
        while at < end {
            let same = common_prefix(&old[at..end], &new[at..end]);
            at += same;
            score += same as i64;
            if score > best {
                (best, length) = (score, at);
            }
            // The byte that ended it.
            score -= 1;
            at += 1;
        }
        length
    }

    /// How far back a match is worth extending, not beyond `limit`.
    fn backward(&self, new: usize, old: usize, limit: usize) -> usize {
        let (mut score, mut best, mut length) = (0_i64, 0, 0);
        let pairs = self.new[limit..new].iter().rev().zip(self.old[..old].iter().rev());
        for (at, (x, y)) in pairs.enumerate() {
            score += if x == y { 1 } else { -1 };
            if score > best {
                (best, length) = (score, at + 1);
            }
            if at > length + PATIENCE {
                break;
            }
        }
        length
    }

    /// Looks for short matches in what is not covered, near to where the neighbours are copied from.
    pub(super) fn fill(&self, covers: Vec<Cover>, from: usize, to: usize) -> Vec<Cover> {
        if self.search.local == 0 {
            return covers;
        }
        let mut filled = Vec::with_capacity(covers.len());
        let mut done = from;
        let mut last: Option<Cover> = None;
        for cover in covers.iter().copied().map(Some).chain([None]) {
            let gap_end = cover.map_or(to, |cover| cover.new);
            if gap_end >= done + 12 {
                filled.extend(self.fill_gap(done, gap_end, last, cover));
            }
            done = cover.map_or(to, |cover| cover.new_end());
            filled.extend(cover);
            last = cover;
        }
        filled
    }

    fn fill_gap(&self, from: usize, to: usize, before: Option<Cover>, after: Option<Cover>) -> Vec<Cover> {
        let reach = (4 * (to - from) + 256).min(self.search.local);
        let mut ranges = Vec::new();
        let near = |middle: usize| (middle.saturating_sub(reach), (middle + reach).min(self.old.len()));
        ranges.extend(before.map(|cover| near(cover.old_end())));
        ranges.extend(after.map(|cover| near(cover.old)));
        ranges.sort_unstable();
        if let [first, second] = &mut ranges[..]
            && second.0 < first.1
        {
            first.1 = first.1.max(second.1);
            ranges.pop();
        }
        if ranges.is_empty() {
            return Vec::new();
        }
        let index = Index::new(self.old, &ranges, 8, 1);
        let expected = before.map(|cover| cover.old_end());
        let found = Pair { search: Search { local: 0, ..self.search }, ..*self }.covers(&index, from, to, expected);
        found.into_iter().filter(|cover| cover.length >= 8).collect()
    }

    /// Joins covers of one alignment, and leaves out those that cost more than they save.
    pub(super) fn tidy(&self, covers: Vec<Cover>) -> Vec<Cover> {
        let mut out: Vec<Cover> = Vec::with_capacity(covers.len());
        for cover in covers {
            if let Some(last) = out.last_mut() {
                let gap = cover.new - last.new_end();
                if cover.alignment() == last.alignment() && gap <= 32 {
                    last.length += gap + cover.length;
                    continue;
                }
            }
            out.push(cover);
        }
        let mut kept: Vec<Cover> = Vec::with_capacity(out.len());
        for (at, cover) in out.iter().enumerate() {
            let before = kept.last().map_or(0, |last| last.old_end());
            let jump = bits(cover.old as i64 - before as i64);
            let next = out.get(at + 1).map_or(jump, |next| {
                bits(next.old as i64 - cover.old_end() as i64).saturating_sub(bits(next.old as i64 - before as i64))
            });
            let agree = agreement(&self.new[cover.new..cover.new_end()], &self.old[cover.old..]);
            // In bits: the lengths and the jump, against literals that are worth a little less than a byte.
            let cost = COVER_BITS + jump + next + BYTE_BITS * (cover.length - agree);
            if agree * BYTE_BITS > cost {
                kept.push(*cover);
            }
        }
        kept
    }
}

enum Next {
    /// The alignment is good again from here on.
    Resume(usize),
    /// From this place on another one is better, with this old position there.
    Switch(usize, usize),
    End,
}

fn bits(distance: i64) -> usize {
    (64 - distance.unsigned_abs().leading_zeros()) as usize
}

fn push(covers: &mut Vec<Cover>, begin: usize, end: usize, alignment: i64) {
    if end > begin {
        covers.push(Cover { old: (begin as i64 + alignment) as usize, new: begin, length: end - begin });
    }
}

//! `Wanted`: what is to be fetched, from where, and how it is known when it is here. Pure.

use crate::limits;
use crate::model::{BlockMap, Digest, Hasher};
use std::collections::BTreeSet;
use std::ops::Range;

/// One content that is to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is, the best address first; all of them have the same content.
    pub addresses: Vec<String>,
    /// Its length, if it is published.
    pub size: Option<u64>,
    /// Its digest, if it is published.
    pub digest: Option<Digest>,
    /// Its signature, if one is published: where there is no digest, another signature means another content.
    pub signature: Option<[u8; 64]>,
    /// The digests of its blocks, if they are published.
    pub blocks: Option<BlockMap>,
    /// The sections of it that are wanted; nothing if all of it is. Not together with blocks.
    pub sections: Option<Sections>,
    /// What it is, for people.
    pub label: String,
}

/// Stretches of a content that are wanted, while the rest of it is not. What is fetched of them serves whoever wants
/// all of it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    length: u64,
    sections: Vec<Section>,
}

/// One stretch of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// The digest that it must have; nothing if whoever asks for it can tell in another way what it should be.
    pub digest: Option<Digest>,
}

impl Sections {
    /// Sections of a content of that length, in order and apart from each other. Nothing if the numbers do not fit.
    pub fn new(length: u64, sections: Vec<Section>) -> Option<Self> {
        let ends = std::iter::once(0).chain(sections.iter().map(|section| section.end));
        let in_order =
            sections.iter().zip(ends).all(|(section, end)| end <= section.start && section.start < section.end);
        let inside = sections.last().is_some_and(|last| last.end <= length) && length <= limits::DOWNLOAD_BYTES;
        (in_order && inside && sections.len() <= limits::SEGMENTS + 1).then_some(Self { length, sections })
    }

    /// Length of the whole content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All of them.
    pub fn all(&self) -> &[Section] {
        &self.sections
    }

    /// Bytes to fetch for them: whole pieces of [`limits::DOWNLOAD_PIECE`] bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes_besides(&BTreeSet::new())
    }

    /// The same, while pieces with these numbers are here.
    pub fn bytes_besides(&self, here: &BTreeSet<u64>) -> u64 {
        const PIECE: u64 = limits::DOWNLOAD_PIECE;
        let (mut bytes, mut counted) = (0, 0);
        for section in &self.sections {
            let pieces = (section.start / PIECE).max(counted)..section.end.div_ceil(PIECE);
            counted = pieces.end;
            let length = |piece: u64| PIECE.min(self.length - piece * PIECE);
            bytes += pieces.filter(|piece| !here.contains(piece)).map(length).sum::<u64>();
        }
        bytes
    }
}

impl Wanted {
    /// A content at one address, about which nothing is published.
    pub fn at(address: impl Into<String>) -> Self {
        Self { addresses: vec![address.into()], ..Self::default() }
    }

    /// These sections of it only.
    pub fn only(&self, sections: Sections) -> Self {
        Self { sections: Some(sections), blocks: None, ..self.clone() }
    }

    /// Its length, if anything published says so.
    pub fn length(&self) -> Option<u64> {
        let sections = self.sections.as_ref().map(Sections::length);
        self.blocks.as_ref().map(BlockMap::length).or(sections).or(self.size)
    }

    /// Do digests of parts say what belongs together, whatever servers say?
    pub(super) fn is_vouched(&self) -> bool {
        self.blocks.is_some() || self.sections.is_some()
    }

    /// How many parts there are, blocks or sections.
    pub(super) fn block_count(&self) -> usize {
        let sections = self.sections.as_ref().map_or(0, |sections| sections.sections.len());
        self.blocks.as_ref().map_or(sections, BlockMap::count)
    }

    /// The first byte of a part, and the one after its last.
    pub(super) fn block_range(&self, block: usize) -> (u64, u64) {
        match (&self.blocks, &self.sections) {
            (Some(blocks), _) => blocks.range(block),
            (None, Some(sections)) => sections.sections.get(block).map_or((0, 0), |part| (part.start, part.end)),
            (None, None) => (0, 0),
        }
    }

    /// The digest that a part must have.
    pub(super) fn block_digest(&self, block: usize) -> Option<Digest> {
        match (&self.blocks, &self.sections) {
            (Some(blocks), _) => blocks.digest(block),
            (None, Some(sections)) => sections.sections.get(block)?.digest,
            (None, None) => None,
        }
    }

    /// The parts that some of these bytes are in.
    pub(super) fn blocks_over(&self, start: u64, end: u64) -> Range<usize> {
        match (&self.blocks, &self.sections) {
            (Some(blocks), _) => match (blocks.at(start), end.checked_sub(1)) {
                (Some(first), Some(last)) => first..blocks.at(last).unwrap_or(blocks.count() - 1) + 1,
                _ => 0..0,
            },
            (None, Some(Sections { sections, .. })) => {
                let first = sections.partition_point(|section| section.end <= start);
                first..sections.partition_point(|section| section.start < end).max(first)
            }
            (None, None) => 0..0,
        }
    }

    /// Names what is wanted: by its digest, else by its first address and its signature. Downloads of the same go on with each other.
    pub fn name(&self) -> [u8; 16] {
        let mut hasher = Hasher::new();
        hasher.update(b"surefoot download v1\0");
        match (&self.digest, &self.blocks) {
            (Some(digest), _) => hasher.update(&digest.0),
            (None, Some(blocks)) => hasher.update(&blocks.name().0),
            (None, None) => {
                hasher.update(self.addresses.first().map_or("", String::as_str).as_bytes());
                self.signature.iter().for_each(|signature| hasher.update(signature));
            }
        }
        let mut name = [0; 16];
        name.copy_from_slice(&hasher.finish().0[..16]);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_stand_in_order_and_cost_whole_pieces() {
        let piece = limits::DOWNLOAD_PIECE;
        let of = |ranges: &[(u64, u64)]| {
            let section = |&(start, end): &(u64, u64)| Section { start, end, digest: None };
            Sections::new(10 * piece + 5, ranges.iter().map(section).collect())
        };
        for bad in [&[][..], &[(5, 5)], &[(5, 9), (8, 10)], &[(5, 9), (1, 2)], &[(0, 10 * piece + 6)]] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        for (ranges, bytes) in [
            (&[(0, 1)][..], piece),
            (&[(0, 1), (2, 3), (piece - 1, piece)], piece),
            (&[(0, 1), (2, piece + 1), (piece + 1, piece + 2)], 2 * piece),
            (&[(piece - 1, piece + 1), (5 * piece, 6 * piece)], 3 * piece),
            (&[(10 * piece, 10 * piece + 1)], 5),
            (&[(0, 10 * piece + 5)], 10 * piece + 5),
        ] {
            assert_eq!(of(ranges).unwrap().bytes(), bytes, "{ranges:?}");
        }
        let sections = of(&[(piece - 1, piece + 1), (5 * piece, 6 * piece), (10 * piece, 10 * piece + 5)]).unwrap();
        for (here, bytes) in
            [(&[][..], 3 * piece + 5), (&[2, 7], 3 * piece + 5), (&[1, 2], 2 * piece + 5), (&[0, 1, 5, 10], 0)]
        {
            assert_eq!(sections.bytes_besides(&here.iter().copied().collect()), bytes, "{here:?}");
        }
        let sections = of(&[(5, 9), (9, 20), (30, 40)]);
        let wanted = Wanted { sections, ..Wanted::at("a") };
        for (start, end, over) in [(0, 5, 0..0), (0, 6, 0..1), (8, 10, 0..2), (20, 30, 2..2), (0, piece, 0..3)] {
            assert_eq!(wanted.blocks_over(start, end), over, "{start} {end}");
        }
    }

    #[test]
    fn the_same_content_has_the_same_name_wherever_it_is() {
        let digest = Some(Digest([1; 32]));
        let name = |address: &str, digest| Wanted { digest, ..Wanted::at(address) }.name();
        assert_eq!(name("a", digest), name("b", digest));
        assert_ne!(name("a", None), name("b", None));
        assert_ne!(name("a", None), name("a", digest));
        let signed = |byte| Wanted { signature: Some([byte; 64]), ..Wanted::at("a") }.name();
        assert!(signed(1) != signed(2) && signed(1) != name("a", None));
        assert_eq!(Wanted { signature: Some([1; 64]), digest, ..Wanted::at("a") }.name(), name("a", digest));
    }
}

//! `BlockMap`: the digests of the blocks of a content.

use super::{Digest, Hasher};
use crate::limits;

/// The digests of the blocks of a content: a corrupted byte costs one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMap {
    block: u64,
    length: u64,
    digests: Vec<Digest>,
}

impl BlockMap {
    /// Blocks of that many bytes, a multiple of 64 KiB; the last may be shorter. Nothing if the numbers do not fit.
    pub fn new(block: u64, length: u64, digests: Vec<Digest>) -> Option<Self> {
        let sound = (limits::BLOCK_BYTES_MIN..=limits::BLOCK_BYTES_MAX).contains(&block)
            && block.is_multiple_of(limits::DOWNLOAD_PIECE)
            && length <= limits::DOWNLOAD_BYTES
            && length.div_ceil(block) == digests.len() as u64;
        sound.then_some(Self { block, length, digests })
    }

    /// The block map of some content.
    pub fn of(block: u64, content: &[u8]) -> Option<Self> {
        let size = usize::try_from(block).ok().filter(|size| *size > 0)?;
        Self::new(block, content.len() as u64, content.chunks(size).map(Digest::of).collect())
    }

    /// Bytes of a block that is published for a content of that length: as few as may be, so that the digests do not
    /// get out of hand. Nothing for a content that is hardly more than one.
    pub fn usual_block(length: u64) -> Option<u64> {
        let few = length.div_ceil(limits::PUBLISHED_BLOCKS).max(limits::PUBLISHED_BLOCK_BYTES).next_power_of_two();
        (length > limits::PUBLISHED_BLOCK_BYTES).then_some(few.min(limits::BLOCK_BYTES_MAX))
    }

    /// Bytes of a block; the last may have less.
    pub fn block_bytes(&self) -> u64 {
        self.block
    }

    /// The digests, in order.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Length of the content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.digests.len()
    }

    /// The first byte of a block, and the one after its last.
    pub fn range(&self, block: usize) -> (u64, u64) {
        let start = block as u64 * self.block;
        (start, (start + self.block).min(self.length))
    }

    /// The block that a byte is in.
    pub fn at(&self, offset: u64) -> Option<usize> {
        (offset < self.length).then_some((offset / self.block) as usize)
    }

    /// The digest that a block must have.
    pub fn digest(&self, block: usize) -> Option<Digest> {
        self.digests.get(block).copied()
    }

    /// Names the map: a download goes on only under the same one.
    pub fn name(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(b"surefoot block map v1\0");
        hasher.update(&self.block.to_le_bytes());
        hasher.update(&self.length.to_le_bytes());
        self.digests.iter().for_each(|digest| hasher.update(&digest.0));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_map_must_fit_its_content() {
        let block = limits::DOWNLOAD_PIECE;
        let content = vec![1; block as usize * 2 + 5];
        let map = BlockMap::of(block, &content).unwrap();
        assert_eq!((map.count(), map.length()), (3, content.len() as u64));
        assert_eq!((map.range(2), map.at(2 * block), map.at(map.length())), ((2 * block, map.length()), Some(2), None));
        assert_eq!(map.digest(2), Some(Digest::of(&[1; 5])));
        for (bad_block, length) in
            [(0, 0), (block - 1, 5), (block + 1, 5), (limits::BLOCK_BYTES_MAX * 2, 5), (block, 0)]
        {
            assert_eq!(BlockMap::new(bad_block, length, vec![Digest([0; 32])]), None, "{bad_block} {length}");
        }
        assert_ne!(map.name(), BlockMap::of(2 * block, &content).unwrap().name());
    }

    #[test]
    fn blocks_that_are_published_are_few() {
        let mib = 1 << 20;
        for (length, block) in [
            (0, None),
            (mib, None),
            (mib + 1, Some(mib)),
            (256 * mib, Some(mib)),
            (256 * mib + 1, Some(2 * mib)),
            (1024 * mib, Some(4 * mib)),
            (limits::DOWNLOAD_BYTES, Some(limits::BLOCK_BYTES_MAX)),
        ] {
            assert_eq!(BlockMap::usual_block(length), block, "{length}");
            let count = block.map_or(0, |block| length.div_ceil(block));
            assert!(count <= limits::PUBLISHED_BLOCKS || block == Some(limits::BLOCK_BYTES_MAX), "{length}");
            assert!(block.is_none_or(|block| block.is_multiple_of(limits::DOWNLOAD_PIECE)));
        }
    }
}

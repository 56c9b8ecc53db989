//! `Wanted`: what is to be fetched, from where, and how it is known when it is here. Pure.

use crate::limits;
use crate::model::{Digest, Hasher};

/// One content that is to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is, the best address first; all of them have the same content.
    pub addresses: Vec<String>,
    /// Its length, if it is published.
    pub size: Option<u64>,
    /// Its digest, if it is published.
    pub digest: Option<Digest>,
    /// The digests of its blocks, if they are published.
    pub blocks: Option<BlockMap>,
    /// What it is, for people.
    pub label: String,
}

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

impl Wanted {
    /// A content at one address, about which nothing is published.
    pub fn at(address: impl Into<String>) -> Self {
        Self { addresses: vec![address.into()], ..Self::default() }
    }

    /// Its length, if anything published says so.
    pub fn length(&self) -> Option<u64> {
        self.blocks.as_ref().map(BlockMap::length).or(self.size)
    }

    /// Names what is wanted: by its digest, else by its first address. Downloads of the same go on with each other.
    pub fn name(&self) -> [u8; 16] {
        let mut hasher = Hasher::new();
        hasher.update(b"surefoot download v1\0");
        match (&self.digest, &self.blocks) {
            (Some(digest), _) => hasher.update(&digest.0),
            (None, Some(blocks)) => hasher.update(&blocks.name().0),
            (None, None) => hasher.update(self.addresses.first().map_or("", String::as_str).as_bytes()),
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
    fn the_same_content_has_the_same_name_wherever_it_is() {
        let digest = Some(Digest([1; 32]));
        let name = |address: &str, digest| Wanted { digest, ..Wanted::at(address) }.name();
        assert_eq!(name("a", digest), name("b", digest));
        assert_ne!(name("a", None), name("b", None));
        assert_ne!(name("a", None), name("a", digest));
    }
}

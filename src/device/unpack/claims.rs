//! `Claims`: every part of a content is made once.

use super::bad;
use crate::error::Error;
use crate::model::Extent;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Which parts of the contents the segments so far make: each must be made once.
#[derive(Default)]
pub(super) struct Claims {
    /// Contents that one segment makes: most, and there are many.
    whole: HashSet<u32>,
    /// Parts of others, by where they begin.
    parts: HashMap<u32, BTreeMap<u64, u64>>,
}

impl Claims {
    /// Notes that a segment makes this, all of the content or a part.
    pub(super) fn claim(&mut self, extent: Extent, is_whole: bool) -> Result<(), Error> {
        let twice = || bad("a segment makes what another one makes, or nothing");
        if self.whole.contains(&extent.file) || is_whole && self.parts.contains_key(&extent.file) {
            return Err(twice());
        }
        if is_whole && extent.length > 0 {
            self.whole.insert(extent.file);
            return Ok(());
        }
        let parts = self.parts.entry(extent.file).or_default();
        let before = parts.range(..=extent.offset).next_back().map_or(0, |(_, end)| *end);
        let after = parts.range(extent.offset..).next().map_or(u64::MAX, |(start, _)| *start);
        let end = extent.offset + extent.length;
        if extent.length == 0 || before > extent.offset || end > after {
            return Err(twice());
        }
        parts.insert(extent.offset, end);
        // Neighbours become one, so that a large file takes no memory for each of its parts.
        if let Some((start, end)) = parts.range(..extent.offset).next_back().map(|(start, end)| (*start, *end))
            && end == extent.offset
        {
            parts.remove(&extent.offset);
            parts.insert(start, extent.offset + extent.length);
        }
        Ok(())
    }
}

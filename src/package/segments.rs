//! The segments of a patch, one after the other.

use super::PackageError;
use super::layout::{self, Piece};
use super::promise::Segment;
use std::fmt;
use std::io::Read;

/// The segments of a verified patch, as they are in the container.
///
/// When [`Segments::next_segment`] has returned nothing, everything has been checked to the end of the container. After
/// an error it is of no more use.
pub struct Segments<R> {
    read: Option<R>,
    segments: Vec<Segment>,
    next: usize,
}

impl<R: Read> Segments<R> {
    pub(super) fn new(read: R, segments: Vec<Segment>) -> Self {
        Self { read: Some(read), segments, next: 0 }
    }

    /// How many bytes the next segment has; nothing at the end.
    pub fn upcoming(&self) -> Option<u64> {
        self.segments.get(self.next).map(|segment| segment.packed)
    }

    /// Reads the next segment and compares it with its digest. Nothing at the end.
    pub fn next_segment(&mut self) -> Result<Option<(Segment, Vec<u8>)>, PackageError> {
        let spent = || PackageError::malformed("reading went on after an error");
        let mut read = self.read.take().ok_or_else(spent)?;
        let Some(segment) = self.segments.get(self.next).copied() else {
            layout::expect_end(&mut read)?;
            self.read = Some(read);
            return Ok(None);
        };
        let mut piece = Piece::new(read, segment.packed);
        // Bounded by the rules of a promise.
        let mut bytes = Vec::with_capacity(usize::try_from(segment.packed).unwrap_or(0));
        piece.read_to_end(&mut bytes)?;
        let (digest, read) = piece.finish()?;
        if digest != segment.digest {
            return Err(PackageError::Digest(format!("segment {}", self.next)));
        }
        self.next += 1;
        self.read = Some(read);
        Ok(Some((segment, bytes)))
    }
}

impl<R> fmt::Debug for Segments<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segments at {} of {}", self.next, self.segments.len())
    }
}

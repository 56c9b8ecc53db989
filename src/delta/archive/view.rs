//! Old content as it is compared and copied from.

use super::{ArchiveError, Member, ReadAt, inflate};
use crate::limits::{ARCHIVE_PARTS, ARCHIVE_TOTAL_BYTES};
use std::io;

/// To how many bytes one deflated byte inflates at most.
const DEFLATE_RATIO: u64 = 1_032;

/// A piece of old content. Files are named by their place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Bytes of a file as they are.
    Raw {
        /// The file.
        file: u32,
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The inflated content of a member, or a slice of it.
    Inflated {
        /// The file.
        file: u32,
        /// The member in it.
        member: Member,
        /// Where the slice begins. What stands before is inflated and dropped.
        skip: u64,
        /// How long it is.
        len: u64,
    },
}

impl Source {
    /// The whole content of a member.
    pub fn whole(file: u32, member: Member) -> Self {
        Source::Inflated { file, member, skip: 0, len: member.inflated_len }
    }

    /// How many bytes of the view it is.
    pub fn len(&self) -> u64 {
        match self {
            Source::Raw { len, .. } | Source::Inflated { len, .. } => *len,
        }
    }

    /// Is it nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes in memory while a view of it is open.
    pub fn held_bytes(&self) -> u64 {
        match self {
            Source::Raw { .. } => 0,
            Source::Inflated { len, .. } => *len,
        }
    }
}

/// Pieces of old content, one after the other, as one thing that is read anywhere.
///
/// Raw pieces are read when they are asked for; inflated ones are held from the beginning.
pub struct View<'a> {
    files: &'a [&'a dyn ReadAt],
    pieces: Vec<Piece>,
    size: u64,
}

struct Piece {
    /// Where it begins in the view.
    start: u64,
    len: u64,
    content: Content,
}

enum Content {
    File { file: usize, offset: u64 },
    Held(Vec<u8>),
}

impl<'a> View<'a> {
    /// Opens a view. Its inflated pieces may not take more than `held_limit` bytes.
    pub fn open(files: &'a [&'a dyn ReadAt], sources: &[Source], held_limit: u64) -> Result<Self, ArchiveError> {
        check(sources, held_limit)?;
        let mut view = Self { files, pieces: Vec::with_capacity(sources.len()), size: 0 };
        for source in sources.iter().filter(|source| !source.is_empty()) {
            let (file, offset, len) = match source {
                Source::Raw { file, offset, len } => (*file, *offset, *len),
                Source::Inflated { file, member, .. } => (*file, member.offset, member.len),
            };
            let at = usize::try_from(file).unwrap_or(usize::MAX);
            let outside = ArchiveError::Range { offset, len };
            let Some(content) = files.get(at) else { return Err(outside) };
            if offset.checked_add(len).is_none_or(|end| end > content.size()) {
                return Err(outside);
            }
            let content = match source {
                Source::Raw { .. } => Content::File { file: at, offset },
                Source::Inflated { member, skip, len, .. } => Content::Held(slice(*content, member, *skip, *len)?),
            };
            view.pieces.push(Piece { start: view.size, len: source.len(), content });
            view.size = view.size.checked_add(source.len()).ok_or(ArchiveError::Range { offset, len })?;
        }
        Ok(view)
    }
}

/// Refuses what would take too much memory or time.
fn check(sources: &[Source], held_limit: u64) -> Result<(), ArchiveError> {
    let (mut held, mut inflated) = (0_u64, 0_u64);
    for source in sources {
        held = held.saturating_add(source.held_bytes());
        if let Source::Inflated { member, skip, len, .. } = source {
            let end = skip.saturating_add(*len);
            if end > member.inflated_len {
                return Err(ArchiveError::Range { offset: *skip, len: *len });
            }
            inflated = inflated.saturating_add(end);
        }
    }
    let bounds = [
        ("pieces of old content", sources.len() as u64, ARCHIVE_PARTS as u64),
        ("old content held in memory", held, held_limit),
        ("old content inflated", inflated, ARCHIVE_TOTAL_BYTES),
    ];
    match bounds.into_iter().find(|(_, actual, limit)| actual > limit) {
        Some((what, actual, limit)) => Err(ArchiveError::Bound { what, actual, limit }),
        None => Ok(()),
    }
}

/// Inflates a slice of a member.
fn slice(source: &dyn ReadAt, member: &Member, skip: u64, len: u64) -> Result<Vec<u8>, ArchiveError> {
    // A length is believed as far as the deflated bytes can carry it.
    let capacity = len.min(member.len.saturating_mul(DEFLATE_RATIO));
    let (mut out, mut skip) = (Vec::with_capacity(usize::try_from(capacity).unwrap_or(0)), skip);
    inflate(source, member, &mut |content| {
        let skipped = skip.min(content.len() as u64);
        skip -= skipped;
        let content = &content[skipped as usize..];
        let wanted = (len - out.len() as u64).min(content.len() as u64);
        out.extend_from_slice(&content[..wanted as usize]);
        Ok((out.len() as u64) < len || len == member.inflated_len)
    })?;
    Ok(out)
}

impl ReadAt for View<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let mut at = self.pieces.partition_point(|piece| piece.start + piece.len <= offset);
        while !buffer.is_empty() {
            let piece = self.pieces.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let skip = offset - piece.start;
            let len = (piece.len - skip).min(buffer.len() as u64);
            let (now, later) = buffer.split_at_mut(len as usize);
            match &piece.content {
                Content::File { file, offset } => self.files[*file].read_exact_at(offset + skip, now)?,
                Content::Held(content) => content[..].read_exact_at(skip, now)?,
            }
            (buffer, offset, at) = (later, offset + len, at + 1);
        }
        Ok(())
    }
}

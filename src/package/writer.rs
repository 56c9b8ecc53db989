//! Writing a package.
//!
//! The manifest comes first in the container and names the digest of every segment, so the segments are made first, in
//! a spool that the caller gives. Small ones are compressed on all cores; what is written does not depend on that.

use super::layout;
use super::promise::{Change, Codec, Expected, Head, Promise, Segment, check_changes, check_head, expected};
use super::{PackageError, sign};
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::trust::SecretKey;
use rayon::prelude::*;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What a package is to promise, before its payload is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// What it is.
    pub head: Head,
    /// What changes, sorted by path; of a full package, every entry.
    pub changes: Vec<Change>,
}

/// How much time compression may take for how small a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For trying out.
    Fast,
    /// For every day.
    #[default]
    Default,
    /// For a release that many download.
    Best,
}

/// What has been written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// The name of the package: the digest of its manifest.
    pub id: Digest,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of the manifest, packed.
    pub manifest_bytes: u64,
    /// Bytes of the payload, packed.
    pub packed_bytes: u64,
    /// Bytes of the payload when decoded.
    pub payload_bytes: u64,
    /// Number of contents in the payload.
    pub contents: usize,
    /// Number of segments in the payload.
    pub segments: usize,
    /// Most memory that decoding one of them takes, in bytes.
    pub memory_bytes: u64,
}

impl Level {
    fn zstd(self) -> i32 {
        match self {
            Self::Fast => 3,
            Self::Default => 12,
            Self::Best => 19,
        }
    }
}

/// Writes a full package. `open` gives the content of a change whose source is the payload; it is called once for each,
/// in their order, and what it gives must have the promised size and digest. `spool` takes the payload meanwhile.
///
/// Contents are gathered into segments of at most so many bytes, and of no more than [`limits::SEGMENT_BYTES`].
///
/// The same input gives the same bytes.
pub fn write_package<'a, S: Read + Write + Seek>(
    out: &mut dyn Write,
    spool: &mut S,
    outline: Outline,
    open: &mut dyn FnMut(&Change) -> io::Result<Box<dyn Read + 'a>>,
    (level, segment): (Level, u64),
    signers: &[&SecretKey],
) -> Result<Written, PackageError> {
    let Outline { head, changes } = outline;
    check_head(&head)?;
    check_changes(&head, &changes)?;
    let start = spool.stream_position().map_err(PackageError::Write)?;
    let segments = write_segments(spool, &changes, open, (level, segment))?;
    spool.seek(SeekFrom::Start(start)).map_err(PackageError::Write)?;

    finish(out, spool, Promise::new(head, changes, segments, 0)?, level, signers)
}

/// A segment of a patch: its code, how many bytes it makes, or of views how many they are unpacked, and its bytes.
pub type Piece = (Codec, u64, Vec<u8>);

/// Writes a patch. `pieces` are its segments in their order, of which one takes at most `memory` bytes to decode;
/// `spool` takes them meanwhile.
pub fn write_patch<S: Read + Write + Seek>(
    out: &mut dyn Write,
    spool: &mut S,
    outline: Outline,
    (pieces, memory): (impl Iterator<Item = Piece>, u64),
    level: Level,
    signers: &[&SecretKey],
) -> Result<Written, PackageError> {
    let start = spool.stream_position().map_err(PackageError::Write)?;
    let mut segments = Vec::new();
    for (codec, unpacked, bytes) in pieces {
        spool.write_all(&bytes).map_err(PackageError::Write)?;
        segments.push(Segment { codec, packed: bytes.len() as u64, digest: Digest::of(&bytes), unpacked });
    }
    spool.seek(SeekFrom::Start(start)).map_err(PackageError::Write)?;
    finish(out, spool, Promise::new(outline.head, outline.changes, segments, memory)?, level, signers)
}

/// Writes manifest and signatures, and behind them the segments that are in the spool.
fn finish<S: Read>(
    out: &mut dyn Write,
    spool: &mut S,
    promise: Promise,
    level: Level,
    signers: &[&SecretKey],
) -> Result<Written, PackageError> {
    let manifest = promise.encode();
    if manifest.len() as u64 > limits::PACKAGE_MANIFEST {
        return Err(PackageError::Limit { what: "a manifest of a size", most: limits::PACKAGE_MANIFEST });
    }
    // A small manifest is a large part of a small package.
    let small = manifest.len() as u64 <= limits::SEGMENT_BYTES;
    let packed = compress(&manifest, if small { Level::Best } else { level })?;
    let mut signatures = Vec::new();
    for signer in signers {
        sign::add(&mut signatures, signer, &manifest)?;
    }
    let front = layout::write_front(out, &packed, &signatures)?;
    for segment in promise.segments() {
        layout::copy_piece(out, segment.packed, &mut Unspool(&mut *spool))?;
    }
    Ok(Written {
        id: Digest::of(&manifest),
        bytes: front + promise.packed_bytes(),
        manifest_bytes: packed.len() as u64,
        packed_bytes: promise.packed_bytes(),
        payload_bytes: promise.payload_bytes(),
        contents: promise.contents().count(),
        segments: promise.segments().len(),
        memory_bytes: promise.memory(),
    })
}

/// Contents that share a segment.
struct Group {
    contents: Vec<Expected>,
    size: u64,
}

fn write_segments<'a, S: Write>(
    spool: &mut S,
    changes: &[Change],
    open: &mut dyn FnMut(&Change) -> io::Result<Box<dyn Read + 'a>>,
    (level, segment): (Level, u64),
) -> Result<Vec<Segment>, PackageError> {
    let groups = group(changes, segment.min(limits::SEGMENT_BYTES));
    let mut segments = Vec::with_capacity(groups.len());
    let mut rest = groups.as_slice();
    while let [first, others @ ..] = rest {
        if first.size > limits::SEGMENT_BYTES {
            segments.push(write_large(spool, changes, first, open, level)?);
            rest = others;
            continue;
        }
        let small = rest.iter().take_while(|group| group.size <= limits::SEGMENT_BYTES).count();
        let (batch, others) = rest.split_at(small.min(rayon::current_num_threads()));
        rest = others;
        let mut contents = Vec::with_capacity(batch.len());
        for group in batch {
            contents.push(read_small(changes, group, open)?);
        }
        let packed: Vec<_> = contents.into_par_iter().map(|bytes| pack(bytes, level)).collect::<Result<_, _>>()?;
        for (group, (codec, bytes)) in batch.iter().zip(packed) {
            spool.write_all(&bytes).map_err(PackageError::Write)?;
            segments.push(group.segment(codec, bytes.len() as u64, Digest::of(&bytes)));
        }
    }
    Ok(segments)
}

/// Gathers contents up to so many bytes; a larger one is alone.
fn group(changes: &[Change], most: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for content in expected(changes).filter(|content| content.size > 0) {
        match groups.last_mut() {
            Some(last) if last.size.saturating_add(content.size) <= most => {
                last.size += content.size;
                last.contents.push(content);
            }
            _ => groups.push(Group { size: content.size, contents: vec![content] }),
        }
    }
    groups
}

impl Group {
    fn segment(&self, codec: Codec, packed: u64, digest: Digest) -> Segment {
        Segment { codec, packed, digest, unpacked: self.size }
    }
}

fn read_small<'a>(
    changes: &[Change],
    group: &Group,
    open: &mut dyn FnMut(&Change) -> io::Result<Box<dyn Read + 'a>>,
) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::with_capacity(usize::try_from(group.size).unwrap_or(0));
    for content in &group.contents {
        read_content(&changes[content.change], content, open, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
    }
    Ok(bytes)
}

/// Compresses a segment; keeps it as it is where that is not smaller.
fn pack(bytes: Vec<u8>, level: Level) -> Result<(Codec, Vec<u8>), PackageError> {
    let packed = compress(&bytes, level)?;
    Ok(if packed.len() < bytes.len() { (Codec::Zstd, packed) } else { (Codec::Stored, bytes) })
}

fn compress(bytes: &[u8], level: Level) -> Result<Vec<u8>, PackageError> {
    zstd::bulk::compress(bytes, level.zstd()).map_err(PackageError::Write)
}

/// Compresses a content that is not held in memory.
fn write_large<'a, S: Write>(
    spool: &mut S,
    changes: &[Change],
    group: &Group,
    open: &mut dyn FnMut(&Change) -> io::Result<Box<dyn Read + 'a>>,
    level: Level,
) -> Result<Segment, PackageError> {
    let sink = Hashed { spool, hasher: Hasher::new(), length: 0 };
    let encoder = zstd::stream::write::Encoder::new(sink, level.zstd());
    let mut encoder = encoder.map_err(PackageError::Write)?;
    encoder.set_pledged_src_size(Some(group.size)).map_err(PackageError::Write)?;
    for content in &group.contents {
        let change = &changes[content.change];
        read_content(change, content, open, |piece| encoder.write_all(piece).map_err(PackageError::Write))?;
    }
    let sink = encoder.finish().map_err(PackageError::Write)?;
    Ok(group.segment(Codec::Zstd, sink.length, sink.hasher.finish()))
}

/// Reads one content and checks that it is the promised one.
fn read_content<'a>(
    change: &Change,
    content: &Expected,
    open: &mut dyn FnMut(&Change) -> io::Result<Box<dyn Read + 'a>>,
    mut sink: impl FnMut(&[u8]) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let failed = |source| PackageError::Input { path: change.path.clone(), source };
    let mut from = open(change).map_err(failed)?;
    let (mut size, mut hasher) = (0_u64, Hasher::new());
    let mut buffer = vec![0; limits::COPY_BUFFER];
    loop {
        let length = layout::fill(&mut from, &mut buffer).map_err(failed)?;
        size = size.saturating_add(length as u64);
        if size > content.size {
            return Err(PackageError::Changed(change.path.clone()));
        }
        hasher.update(&buffer[..length]);
        sink(&buffer[..length])?;
        if length < buffer.len() {
            break;
        }
    }
    if size == content.size && hasher.finish() == content.digest {
        Ok(())
    } else {
        Err(PackageError::Changed(change.path.clone()))
    }
}

/// Hashes and counts what goes into the spool.
struct Hashed<'a, S> {
    spool: &'a mut S,
    hasher: Hasher,
    length: u64,
}

impl<S: Write> Write for Hashed<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.spool.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.flush()
    }
}

/// Reads the spool; an error there is one of writing the package.
struct Unspool<'a, S>(&'a mut S);

impl<S: Read> Read for Unspool<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => PackageError::Write(error).into(),
        })
    }
}

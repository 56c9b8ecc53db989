//! Decoding of one segment: from old content, header and body to new content, as a stream.

use crate::delta::coder::{self, Unpacked};
use crate::delta::view::{self, ViewReader};
use crate::delta::{Contents, DeltaError};
use crate::limits::{PATCH_BODY, PATCH_JOINED, PATCH_OUTPUT, PATCH_SOURCE, PATCH_WINDOW_LOG};
use crate::model::{COVER_STREAMS, Coder, Method, Relocation, Segment};
use std::cell::RefCell;
use std::io;

/// Views that are open at a time: others are prepared again when they are read again.
const OPEN: usize = 2;
/// Bytes that are made at a time.
const CHUNK: usize = 64 << 10;

/// Where new content goes.
pub trait Sink {
    /// Takes the next bytes of output number `output` of the segment. Outputs come in their order, bytes without gaps.
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()>;
}

/// Most memory that decoding this segment takes, in bytes: its body, its decoders, its history, its buffers.
///
/// The relocations of its views are the caller's, and not counted.
pub fn memory(segment: &Segment, views: &[Relocation]) -> u64 {
    let lengths = segment.streams.iter().filter(|length| **length > 0);
    let streams = if segment.joined {
        let all: u64 = segment.streams.iter().fold(0, |sum, length| sum.saturating_add(*length));
        segment.packs.iter().fold(all, |sum, pack| sum.saturating_add(coder::memory(pack.coder, all)))
    } else {
        segment
            .packs
            .iter()
            .zip(lengths)
            .fold(0, |sum: u64, (pack, length)| sum.saturating_add(coder::memory(pack.coder, *length)))
    };
    let history = if segment.method == Method::History { segment.source_length() } else { 0 };
    let mut read: Vec<u64> =
        segment.sources.iter().filter_map(|source| Some(view::memory(views.get(source.view? as usize)))).collect();
    read.sort_unstable_by_key(|bytes| u64::MAX - bytes);
    let extents = (segment.sources.len() + segment.outputs.len()) as u64 * 48;
    [streams, history, read.iter().take(OPEN).sum(), extents, 2 * CHUNK as u64]
        .iter()
        .fold(segment.body_length(), |sum, part| sum.saturating_add(*part))
}

/// Makes what the segment describes, out of old content and the body, and gives it to the sink in order.
///
/// Fails if more than `allowed` bytes of memory are needed. Whether the old content was the right one it cannot tell:
/// whoever uses what was made compares its digest.
pub fn decode(
    segment: &Segment,
    body: &[u8],
    old: &dyn Contents,
    views: &[Relocation],
    allowed: u64,
    sink: &mut dyn Sink,
) -> Result<(), DeltaError> {
    check(segment, body, views, allowed)?;
    let mut output = Output { segment, sink, number: 0, written: 0, left: segment.output_length() };
    match segment.method {
        Method::History => decode_history(segment, body, old, views, &mut output)?,
        Method::Cover => decode_cover(segment, body, old, views, &mut output)?,
    }
    output.finish()
}

fn check(segment: &Segment, body: &[u8], views: &[Relocation], allowed: u64) -> Result<(), DeltaError> {
    let needed = memory(segment, views);
    if needed > allowed {
        return Err(DeltaError::Memory { needed, allowed });
    }
    let expected = if segment.method == Method::Cover { COVER_STREAMS } else { 1 };
    let packs = match segment.joined {
        true => 1,
        false => segment.streams.iter().filter(|length| **length > 0).count(),
    };
    let total = segment.streams.iter().fold(0, |sum: u64, length| sum.saturating_add(*length));
    let wrong = if segment.streams.len() != expected || segment.packs.len() != packs {
        Some("number of streams")
    } else if segment.output_length() > PATCH_OUTPUT || segment.source_length() > PATCH_SOURCE {
        Some("too large")
    } else if segment.body_length() != body.len() as u64 || body.len() as u64 > PATCH_BODY {
        Some("length of the body")
    } else if segment.joined && total > PATCH_JOINED {
        Some("joined streams are too long")
    } else if segment.packs.iter().any(|pack| window(pack.coder) > PATCH_WINDOW_LOG) {
        Some("window is too large")
    } else if segment.method == Method::History && segment.source_length() > 1 << PATCH_WINDOW_LOG {
        Some("history is too long")
    } else {
        None
    };
    wrong.map_or(Ok(()), |what| Err(DeltaError::Malformed(what)))
}

fn window(coder: Coder) -> u8 {
    match coder {
        Coder::Stored => 0,
        Coder::Zstd { window_log } => window_log,
        Coder::Lzma { dictionary_log, .. } => dictionary_log,
    }
}

fn decode_history(
    segment: &Segment,
    body: &[u8],
    old: &dyn Contents,
    views: &[Relocation],
    output: &mut Output<'_>,
) -> Result<(), DeltaError> {
    let Some(pack) = segment.packs.first() else { return Ok(()) };
    let sources = Sources::new(segment, old, views)?;
    let mut history = vec![0; segment.source_length() as usize];
    sources.read_at(0, &mut history)?;
    let mut stream = Unpacked::with_history(pack.coder, body, segment.streams[0], &history)?;
    while !stream.is_empty() {
        let count = output.write(stream.peek()?)?;
        stream.take(count);
    }
    Ok(())
}

fn decode_cover(
    segment: &Segment,
    body: &[u8],
    old: &dyn Contents,
    views: &[Relocation],
    output: &mut Output<'_>,
) -> Result<(), DeltaError> {
    let sources = Sources::new(segment, old, views)?;
    let joined;
    let mut streams = Vec::with_capacity(COVER_STREAMS);
    if segment.joined {
        let total = segment.streams.iter().sum::<u64>() as usize;
        joined = coder::unpack(segment.packs[0].coder, body, total)?;
        let mut rest = joined.as_slice();
        for length in &segment.streams {
            let (stream, after) = rest.split_at(*length as usize);
            streams.push(Unpacked::plain(stream));
            rest = after;
        }
    } else {
        let mut rest = body;
        let mut packs = segment.packs.iter();
        for length in &segment.streams {
            if *length == 0 {
                streams.push(Unpacked::plain(&[]));
            } else if let Some(pack) = packs.next() {
                let (packed, after) = rest.split_at(pack.length as usize);
                streams.push(Unpacked::new(pack.coder, packed, *length)?);
                rest = after;
            }
        }
    }
    let Ok([lengths, jumps, runs, differences, literals]) = <[Unpacked<'_>; COVER_STREAMS]>::try_from(streams) else {
        return Err(DeltaError::Malformed("number of streams"));
    };
    let runs = Runs { runs, differences, same: 0, different: 0 };
    Covers { lengths, jumps, runs, literals, position: 0 }.make(&sources, output)
}

/// The streams of covers, in use.
struct Covers<'a> {
    lengths: Unpacked<'a>,
    jumps: Unpacked<'a>,
    runs: Runs<'a>,
    literals: Unpacked<'a>,
    /// End of the last copy in the space of the sources.
    position: u64,
}

impl Covers<'_> {
    fn make(mut self, sources: &Sources<'_>, output: &mut Output<'_>) -> Result<(), DeltaError> {
        let mut chunk = vec![0; CHUNK];
        while !self.lengths.is_empty() {
            let literal = self.lengths.integer()?;
            let copy = self.lengths.integer()?;
            if literal.checked_add(copy).is_none_or(|sum| sum > output.left) {
                return Err(DeltaError::Malformed("more is made than promised"));
            }
            self.literal(literal, output)?;
            let jump = self.jumps.integer()?;
            let jump = (jump >> 1) as i64 ^ -((jump & 1) as i64);
            let from = self.position.checked_add_signed(jump).ok_or(DeltaError::Malformed("position of a copy"))?;
            let end = from.checked_add(copy).filter(|end| *end <= sources.length);
            self.position = end.ok_or(DeltaError::Malformed("a copy goes beyond its sources"))?;
            let mut done = 0;
            while done < copy {
                let part = &mut chunk[..(copy - done).min(CHUNK as u64) as usize];
                sources.read_at(from + done, part)?;
                self.runs.add_to(part)?;
                output.write_all(part)?;
                done += part.len() as u64;
            }
        }
        self.literal(output.left, output)?;
        if self.jumps.is_empty() && self.literals.is_empty() && self.runs.is_finished() {
            Ok(())
        } else {
            Err(DeltaError::Malformed("a stream is longer than what is made"))
        }
    }

    fn literal(&mut self, mut count: u64, output: &mut Output<'_>) -> Result<(), DeltaError> {
        while count > 0 {
            let next = self.literals.peek()?;
            let part = count.min(next.len() as u64) as usize;
            if part == 0 {
                return Err(DeltaError::Malformed("a stream ends too early"));
            }
            let written = output.write(&next[..part])?;
            self.literals.take(written);
            count -= written as u64;
        }
        Ok(())
    }
}

/// Differences between what is copied and what is made: runs of equal bytes, runs of others, by turns.
struct Runs<'a> {
    runs: Unpacked<'a>,
    differences: Unpacked<'a>,
    same: u64,
    different: u64,
}

impl Runs<'_> {
    fn add_to(&mut self, mut bytes: &mut [u8]) -> Result<(), DeltaError> {
        while !bytes.is_empty() {
            if self.same == 0 && self.different == 0 {
                // After the last run all is equal.
                if self.runs.is_empty() {
                    return Ok(());
                }
                self.same = self.runs.integer()?;
                self.different = self.runs.integer()?;
            }
            let skipped = self.same.min(bytes.len() as u64);
            self.same -= skipped;
            bytes = &mut bytes[skipped as usize..];
            let next = self.differences.peek()?;
            let count = self.different.min(bytes.len() as u64).min(next.len() as u64) as usize;
            if count == 0 && self.different > 0 && !bytes.is_empty() {
                return Err(DeltaError::Malformed("a stream ends too early"));
            }
            for (byte, difference) in bytes.iter_mut().zip(&next[..count]) {
                *byte = byte.wrapping_add(*difference);
            }
            self.differences.take(count);
            self.different -= count as u64;
            bytes = &mut bytes[count..];
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.same == 0 && self.different == 0 && self.runs.is_empty() && self.differences.is_empty()
    }
}

/// The sources of a segment as one space of positions.
struct Sources<'a> {
    segment: &'a Segment,
    /// Where each begins.
    starts: Vec<u64>,
    length: u64,
    old: &'a dyn Contents,
    views: &'a [Relocation],
    /// Views in use, the last one used at the end.
    open: RefCell<Vec<(u32, ViewReader<'a>)>>,
}

impl<'a> Sources<'a> {
    fn new(segment: &'a Segment, old: &'a dyn Contents, views: &'a [Relocation]) -> Result<Self, DeltaError> {
        let mut starts = Vec::with_capacity(segment.sources.len());
        let mut length = 0;
        for source in &segment.sources {
            starts.push(length);
            length += source.extent.length;
            let Some(number) = source.view else { continue };
            let relocation = views.get(number as usize).ok_or(DeltaError::Malformed("no such view"))?;
            if relocation.file != source.extent.file {
                return Err(DeltaError::Malformed("the view is of another file"));
            }
        }
        Ok(Self { segment, starts, length, old, views, open: RefCell::new(Vec::new()) })
    }

    fn read_at(&self, mut position: u64, mut out: &mut [u8]) -> Result<(), DeltaError> {
        while !out.is_empty() {
            let number = self.starts.partition_point(|start| *start <= position).wrapping_sub(1);
            let source = self.segment.sources.get(number).ok_or(DeltaError::Malformed("position of a copy"))?;
            let within = position - self.starts[number];
            let count = source.extent.length.saturating_sub(within).min(out.len() as u64) as usize;
            if count == 0 {
                return Err(DeltaError::Malformed("position of a copy"));
            }
            let (now, rest) = out.split_at_mut(count);
            let offset = source.extent.offset + within;
            match source.view {
                Some(view) => self.read_view(view, offset, now)?,
                None => self.old.read_at(source.extent.file, offset, now).map_err(DeltaError::Read)?,
            }
            position += count as u64;
            out = rest;
        }
        Ok(())
    }
}

impl Sources<'_> {
    fn read_view(&self, number: u32, offset: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        let mut open = self.open.borrow_mut();
        let reader = match open.iter().position(|(known, _)| *known == number) {
            Some(at) => open.remove(at).1,
            None => {
                if open.len() == OPEN {
                    open.remove(0);
                }
                ViewReader::new(self.views.get(number as usize).ok_or(DeltaError::Malformed("no such view"))?)
            }
        };
        open.push((number, reader));
        match open.last_mut() {
            Some((_, reader)) => reader.read_at(self.old, offset, out),
            None => Ok(()),
        }
    }
}

/// What was made so far.
struct Output<'a> {
    segment: &'a Segment,
    sink: &'a mut dyn Sink,
    /// The output that is being written, and how much of it was.
    number: usize,
    written: u64,
    /// Bytes that all outputs still lack.
    left: u64,
}

impl Output<'_> {
    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), DeltaError> {
        while !bytes.is_empty() {
            let count = self.write(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes what fits into the current output, and says how much that was.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, DeltaError> {
        while self.segment.outputs.get(self.number).is_some_and(|output| output.length == self.written) {
            self.number += 1;
            self.written = 0;
        }
        let output =
            self.segment.outputs.get(self.number).ok_or(DeltaError::Malformed("more is made than promised"))?;
        let count = bytes.len().min(usize::try_from(output.length - self.written).unwrap_or(usize::MAX));
        self.sink.write(self.number, &bytes[..count]).map_err(DeltaError::Write)?;
        self.written += count as u64;
        self.left -= count as u64;
        Ok(count)
    }

    fn finish(self) -> Result<(), DeltaError> {
        if self.left > 0 { Err(DeltaError::Malformed("less is made than promised")) } else { Ok(()) }
    }
}

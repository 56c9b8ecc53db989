//! Decoding of one segment: from old content, header and body to new content, as a stream.

use crate::delta::archive::{ArchiveError, Assembler, ReadAt, Shown, shown_memory};
use crate::delta::code;
use crate::delta::coder::{self, Unpacked};
use crate::delta::view::{self, Index, ViewReader};
use crate::delta::{Contents, DeltaError, recipe};
use crate::limits::{
    PATCH_BODY, PATCH_INFLATED, PATCH_JOINED, PATCH_OUTPUT, PATCH_RECIPE, PATCH_SOURCE, PATCH_WINDOW_LOG,
};
use crate::model::{COVER_STREAMS, Coder, Method, Pack, Relocation, Segment};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::rc::Rc;

/// Of so many views, the largest, is the memory for all that are open: others are prepared again when they are read again.
const OPEN: usize = 2;
/// Bytes that are made at a time.
const CHUNK: usize = 64 << 10;
/// Bytes of what deflates members.
const ASSEMBLER: u64 = 1 << 20;

/// Where new content goes.
pub trait Sink {
    /// Takes the next bytes of output number `output` of the segment. Outputs come in their order, bytes without gaps.
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()>;
}

/// Most memory that decoding this segment takes, in bytes: its body, its decoders, its history, its buffers.
///
/// The views themselves are the caller's, and not counted.
pub fn memory(segment: &Segment, views: &[Relocation]) -> u64 {
    let (own, recipe) = split_recipe(segment);
    let add = |sum: u64, part: u64| sum.saturating_add(part);
    let joined: u64 = if segment.joined { own.iter().copied().fold(0, add) } else { 0 };
    let lengths = segment.joined.then_some(joined).into_iter();
    let lengths = lengths.chain(segment.streams[own.len() * usize::from(segment.joined)..].iter().copied());
    let packs = segment.packs.iter().zip(lengths.filter(|length| *length > 0));
    let streams = packs.map(|(pack, length)| coder::memory(pack.coder, length)).fold(joined, add);
    let history = if segment.method == Method::History { segment.source_length() } else { 0 };
    let assembled = recipe.map_or(0, |length| recipe::memory(length).saturating_add(ASSEMBLER));
    let extents = (segment.sources.len() + segment.outputs.len()) as u64 * 48;
    let views = views_memory(segment, views);
    let buffers = (2 + u64::from(segment.code)) * CHUNK as u64;
    [streams, history, views, assembled, extents, buffers].into_iter().fold(segment.body_length(), add)
}

/// Memory of the views that a segment reads.
fn views_memory(segment: &Segment, views: &[Relocation]) -> u64 {
    let numbers: BTreeSet<u32> = segment.sources.iter().filter_map(|source| source.view).collect();
    let mut read: Vec<u64> =
        numbers.into_iter().filter_map(|number| views.get(number as usize).map(open_memory)).collect();
    read.sort_unstable_by_key(|bytes| u64::MAX - bytes);
    read.into_iter().take(OPEN).fold(0, u64::saturating_add)
}

/// Memory of an open view.
fn open_memory(view: &Relocation) -> u64 {
    let shown = if view.pieces.is_empty() { 0 } else { shown_memory(&view.pieces) };
    let moved = if view.regions.is_empty() { 0 } else { view::memory(view) };
    shown.saturating_add(moved)
}

/// The lengths of the streams that make content, and that of the recipe.
fn split_recipe(segment: &Segment) -> (&[u64], Option<u64>) {
    match segment.streams.split_last() {
        Some((recipe, own)) if segment.assembled => (own, Some(*recipe)),
        _ => (&segment.streams, None),
    }
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
    let sources = Sources::new(segment, old, views)?;
    let (own, recipe_length) = split_recipe(segment);
    let mut packs = Packs { packs: segment.packs.iter(), body };
    let history;
    let joined;
    let mut streams = Vec::with_capacity(own.len());
    if segment.method == Method::History {
        history = sources.history()?;
        if let Some((coder, packed)) = packs.next(own[0]) {
            streams.push(Unpacked::with_history(coder, packed, own[0], &history)?);
        }
    } else if segment.joined {
        let total = own.iter().sum::<u64>();
        joined = match packs.next(total) {
            Some((coder, packed)) => coder::unpack(coder, packed, total as usize)?,
            None => Vec::new(),
        };
        let mut rest = joined.as_slice();
        for length in own {
            let (stream, after) = rest.split_at(*length as usize);
            streams.push(Unpacked::plain(stream));
            rest = after;
        }
    } else {
        for length in own {
            streams.push(match packs.next(*length) {
                Some((coder, packed)) => Unpacked::new(coder, packed, *length)?,
                None => Unpacked::plain(&[]),
            });
        }
    }
    let files = Files { segment, sink, number: 0, written: 0 };
    let last = [0; code::BEFORE];
    let mut output = match recipe_length {
        None => Output { left: segment.output_length(), last, target: Target::Files(files) },
        Some(length) => {
            let (coder, packed) = packs.next(length).ok_or(DeltaError::Malformed("number of streams"))?;
            let (parts, left) = recipe::read(Unpacked::new(coder, packed, length)?, length, segment.output_length())?;
            Output { left, last, target: Target::Assembler(Box::new(Assembler::new(parts, files))) }
        }
    };
    match <[Unpacked<'_>; COVER_STREAMS]>::try_from(streams) {
        Ok([lengths, jumps, runs, differences, literals]) => {
            let code = segment.code.then_some(output.left);
            let runs = Runs { runs, differences, same: 0, different: 0 };
            Covers { lengths, jumps, runs, literals, position: 0, code }.make(&sources, &mut output)?;
        }
        Err(streams) => {
            for mut stream in streams {
                while !stream.is_empty() {
                    let count = output.write(stream.peek()?)?;
                    stream.take(count);
                }
            }
        }
    }
    output.finish()
}

/// The packed streams of a body.
struct Packs<'a> {
    packs: std::slice::Iter<'a, Pack>,
    body: &'a [u8],
}

impl<'a> Packs<'a> {
    /// The pack of the next stream, of this length unpacked; an empty one has none.
    fn next(&mut self, length: u64) -> Option<(Coder, &'a [u8])> {
        // A pack that all streams share is there even if they are empty.
        let pack = if length > 0 { self.packs.next()? } else { return None };
        let (packed, rest) = self.body.split_at(pack.length as usize);
        self.body = rest;
        Some((pack.coder, packed))
    }
}

fn check(segment: &Segment, body: &[u8], views: &[Relocation], allowed: u64) -> Result<(), DeltaError> {
    if segment.streams.len() != segment.stream_count() || segment.packs.len() != segment.pack_count() {
        return Err(DeltaError::Malformed("number of streams"));
    }
    let needed = memory(segment, views);
    if needed > allowed {
        return Err(DeltaError::Memory { needed, allowed });
    }
    let (own, recipe) = split_recipe(segment);
    let total = own.iter().fold(0, |sum: u64, length| sum.saturating_add(*length));
    let wrong = if segment.output_length() > PATCH_OUTPUT || segment.source_length() > PATCH_SOURCE {
        Some("too large")
    } else if segment.body_length() != body.len() as u64 || body.len() as u64 > PATCH_BODY {
        Some("length of the body")
    } else if segment.joined && (total > PATCH_JOINED || total == 0 || segment.method == Method::History) {
        Some("joined streams")
    } else if segment.packs.iter().any(|pack| window(pack.coder) > PATCH_WINDOW_LOG) {
        Some("window is too large")
    } else if segment.method == Method::History && segment.source_length() > 1 << PATCH_WINDOW_LOG {
        Some("history is too long")
    } else if recipe.is_some_and(|length| !(1..=PATCH_RECIPE).contains(&length)) {
        Some("length of a recipe")
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

/// The streams of covers, in use.
struct Covers<'a> {
    lengths: Unpacked<'a>,
    jumps: Unpacked<'a>,
    runs: Runs<'a>,
    literals: Unpacked<'a>,
    /// End of the last copy in the space of the sources.
    position: u64,
    /// If literals are code: how many bytes are made in all.
    code: Option<u64>,
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
            self.run(literal, output)?;
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
                output.write(part)?;
                done += part.len() as u64;
            }
        }
        self.run(output.left, output)?;
        if self.jumps.is_empty() && self.literals.is_empty() && self.runs.is_finished() {
            Ok(())
        } else {
            Err(DeltaError::Malformed("a stream is longer than what is made"))
        }
    }

    /// Makes a run of literals.
    fn run(&mut self, count: u64, output: &mut Output<'_>) -> Result<(), DeltaError> {
        match self.code {
            Some(total) => self.code(count, total, output),
            None => self.literal(count, output),
        }
    }

    fn code(&mut self, mut count: u64, total: u64, output: &mut Output<'_>) -> Result<(), DeltaError> {
        // An instruction may begin in what was made before.
        let mut held = output.last.to_vec();
        let mut fixed = held.len();
        while count > 0 {
            let next = self.literals.peek()?;
            let part = count.min(next.len() as u64).min((CHUNK - held.len()) as u64) as usize;
            if part == 0 {
                return Err(DeltaError::Malformed("a stream ends too early"));
            }
            held.extend_from_slice(&next[..part]);
            self.literals.take(part);
            count -= part as u64;
            if count == 0 || held.len() == CHUNK {
                let done = code::to_distances(&mut held, fixed, total - output.left, count == 0);
                output.write(&held[fixed..done])?;
                held.drain(..done);
                fixed = 0;
            }
        }
        Ok(())
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
    open: RefCell<Opened<'a>>,
}

/// Views in use.
struct Opened<'a> {
    /// The last one used at the end.
    readers: Vec<Open<'a>>,
    /// Memory that they take, and the most that they may.
    memory: u64,
    allowed: u64,
    /// Bytes that were inflated for readers that are closed.
    inflated: u64,
    /// The index that was made last.
    index: Option<Rc<Index<'a>>>,
}

struct Open<'a> {
    number: u32,
    memory: u64,
    reader: Reader<'a>,
}

impl<'a> Opened<'a> {
    /// The reader of a view, which may close others.
    fn reader(
        &mut self,
        number: u32,
        views: &'a [Relocation],
        old: &'a dyn Contents,
    ) -> Result<&mut Reader<'a>, DeltaError> {
        let at = self.readers.iter().rposition(|open| open.number == number);
        let open = match at {
            Some(at) => self.readers.remove(at),
            None => {
                let view = views.get(number as usize).ok_or(DeltaError::Malformed("no such view"))?;
                let memory = open_memory(view);
                self.make_room(memory);
                self.memory += memory;
                Open { number, memory, reader: Reader::new(view, old, &mut self.index) }
            }
        };
        self.readers.push(open);
        let last = self.readers.last_mut().map(|open| &mut open.reader);
        last.ok_or(DeltaError::Malformed("no such view"))
    }

    /// Closes those that were not used for the longest time, what has to be inflated again last.
    fn make_room(&mut self, wanted: u64) {
        while self.memory.saturating_add(wanted) > self.allowed && !self.readers.is_empty() {
            let cheap = self.readers.iter().position(|open| open.reader.shown.is_none());
            let closed = self.readers.remove(cheap.unwrap_or(0));
            self.memory -= closed.memory;
            self.inflated = self.inflated.saturating_add(closed.reader.inflated());
            drop(closed);
            // Nobody has room for it any more.
            self.index = self.index.take().filter(|index| Rc::strong_count(index) > 1);
        }
    }

    fn inflated(&self) -> u64 {
        self.readers.iter().fold(self.inflated, |sum, open| sum.saturating_add(open.reader.inflated()))
    }
}

impl<'a> Sources<'a> {
    fn new(segment: &'a Segment, old: &'a dyn Contents, views: &'a [Relocation]) -> Result<Self, DeltaError> {
        let mut starts = Vec::with_capacity(segment.sources.len());
        let mut length = 0;
        for source in &segment.sources {
            starts.push(length);
            length += source.extent.length;
            let Some(number) = source.view else { continue };
            let view = views.get(number as usize).ok_or(DeltaError::Malformed("no such view"))?;
            if view.file != source.extent.file {
                return Err(DeltaError::Malformed("the view is of another file"));
            }
            let shown = view.length(old.length(view.file).unwrap_or(0));
            if source.extent.offset.checked_add(source.extent.length).is_none_or(|end| end > shown) {
                return Err(DeltaError::Malformed("a source goes beyond its view"));
            }
        }
        let allowed = views_memory(segment, views);
        let open = Opened { readers: Vec::new(), memory: 0, allowed, inflated: 0, index: None };
        Ok(Self { segment, starts, length, old, views, open: RefCell::new(open) })
    }

    /// All of them.
    fn history(&self) -> Result<Vec<u8>, DeltaError> {
        let mut history = vec![0; self.length as usize];
        self.read_at(0, &mut history)?;
        Ok(history)
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

    fn read_view(&self, number: u32, offset: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        let mut open = self.open.borrow_mut();
        open.reader(number, self.views, self.old)?.read_at(self.old, offset, out)?;
        let too_much = open.inflated() > PATCH_INFLATED;
        if too_much { Err(DeltaError::Malformed("its sources inflate to too much")) } else { Ok(()) }
    }
}

/// A view that is being read: first inflated, then moved.
struct Reader<'a> {
    shown: Option<Shown<'a, OldFile<'a>>>,
    moved: Option<ViewReader<'a>>,
}

impl<'a> Reader<'a> {
    fn new(view: &'a Relocation, old: &'a dyn Contents, last: &mut Option<Rc<Index<'a>>>) -> Self {
        let shown = (!view.pieces.is_empty()).then(|| Shown::new(OldFile { old, file: view.file }, &view.pieces));
        let mut index = || {
            let known = last.take().filter(|index| index.is_over(&view.map));
            Rc::clone(last.insert(known.unwrap_or_else(|| Rc::new(Index::new(&view.map)))))
        };
        Self { shown, moved: (!view.regions.is_empty()).then(|| ViewReader::new(view, index())) }
    }

    fn inflated(&self) -> u64 {
        self.shown.as_ref().map_or(0, Shown::inflated)
    }

    fn read_at(&mut self, old: &dyn Contents, offset: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        match (&self.shown, &mut self.moved) {
            (None, Some(moved)) => moved.read_at(old, offset, out),
            (Some(shown), Some(moved)) => moved.read_at(&OnlyFile(shown), offset, out),
            (Some(shown), None) => shown.read_exact_at(offset, out).map_err(DeltaError::Read),
            (None, None) => Err(DeltaError::Malformed("a view that changes nothing")),
        }
    }
}

/// One old file.
pub(super) struct OldFile<'a> {
    pub(super) old: &'a dyn Contents,
    pub(super) file: u32,
}

impl ReadAt for OldFile<'_> {
    fn size(&self) -> u64 {
        self.old.length(self.file).unwrap_or(0)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.old.read_at(self.file, offset, buffer)
    }
}

/// What is shown of a file, whatever its number.
struct OnlyFile<'a>(&'a Shown<'a, OldFile<'a>>);

impl Contents for OnlyFile<'_> {
    fn length(&self, _: u32) -> Option<u64> {
        Some(self.0.size())
    }

    fn read_at(&self, _: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buffer)
    }
}

/// Where what the streams make goes to.
struct Output<'a> {
    target: Target<'a>,
    /// Bytes that are still to be made.
    left: u64,
    /// The last ones that were made.
    last: [u8; code::BEFORE],
}

enum Target<'a> {
    Files(Files<'a>),
    Assembler(Box<Assembler<Files<'a>>>),
}

impl Output<'_> {
    /// Takes all of the bytes, and says how many they are.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, DeltaError> {
        let more = DeltaError::Malformed("more is made than promised");
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(more)?;
        self.last = code::last(self.last, bytes);
        match &mut self.target {
            Target::Files(files) => files.write_all(bytes).map_err(DeltaError::Write)?,
            Target::Assembler(assembler) => assembler.write(bytes).map_err(wrong)?,
        }
        Ok(bytes.len())
    }

    fn finish(self) -> Result<(), DeltaError> {
        if self.left > 0 {
            return Err(DeltaError::Malformed("less is made than promised"));
        }
        if let Target::Assembler(assembler) = self.target {
            assembler.finish().map_err(wrong)?;
        }
        Ok(())
    }
}

fn wrong(error: ArchiveError) -> DeltaError {
    match error {
        ArchiveError::Io(error) => DeltaError::Write(error),
        ArchiveError::Assemble(what) => DeltaError::Malformed(what),
        _ => DeltaError::Malformed("a member cannot be assembled"),
    }
}

/// The outputs of the segment.
struct Files<'a> {
    segment: &'a Segment,
    sink: &'a mut dyn Sink,
    /// The output that is being written, and how much of it was.
    number: usize,
    written: u64,
}

impl Write for Files<'_> {
    /// Writes what fits into the current output.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.segment.outputs.get(self.number).is_some_and(|output| output.length == self.written) {
            self.number += 1;
            self.written = 0;
        }
        let Some(output) = self.segment.outputs.get(self.number) else { return Ok(0) };
        let count = bytes.len().min(usize::try_from(output.length - self.written).unwrap_or(usize::MAX));
        self.sink.write(self.number, &bytes[..count])?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::archive::parts;
    use crate::model::{Region, Rule};
    use std::sync::Arc;

    struct Same(Vec<u8>);

    impl Contents for Same {
        fn length(&self, _: u32) -> Option<u64> {
            Some(self.0.len() as u64)
        }

        fn read_at(&self, _: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0[..].read_exact_at(offset, buffer)
        }
    }

    /// The change log of a kernel was put together from everywhere in the old one, in a segment that reads many modules
    /// as well. Whatever was read between two of its pieces closed it, so it was inflated 113 times: a third of the time
    /// of the update.
    #[test]
    fn what_was_inflated_stays_open_while_others_are_read() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        gzip.write_all(&text).unwrap();
        let old = Same(gzip.finish().unwrap());
        let view = |number: u32| Relocation {
            file: number,
            pieces: Vec::new(),
            loads: Vec::new(),
            regions: vec![Region { offset: 0, length: 4096, address: 0, rule: Rule::CodeX86 }],
            map: Arc::default(),
        };
        let mut views: Vec<Relocation> = (0..9).map(view).collect();
        (views[0].pieces, views[0].regions) = (parts(&old.0).unwrap(), Vec::new());
        let allowed = open_memory(&views[0]) + open_memory(&views[1]);
        let mut opened = Opened { readers: Vec::new(), memory: 0, allowed, inflated: 0, index: None };
        for round in 0..100_u64 {
            for number in [0, round % 8 + 1, (round + 1) % 8 + 1] {
                let reader = opened.reader(number as u32, &views, &old).unwrap();
                reader.read_at(&old, round * 9_000 % 4_000, &mut [0; 20]).unwrap();
                assert!(opened.memory <= allowed);
            }
        }
        assert!(opened.inflated() <= 1_000_000, "{}", opened.inflated());
    }
}

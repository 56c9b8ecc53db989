//! From covers to segments: streams, packs, headers.

use super::cover::Cover;
use super::index::common_prefix;
use super::pack::{self, Kind, Packed};
use super::{Corpus, Level};
use crate::delta::code;
use crate::delta::coder::put;
use crate::limits::PATCH_JOINED;
use crate::model::{COVER_STREAMS, Extent, Method, Segment, Source};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Literals of a segment are taken for code if they hold more than one distance in so many bytes.
const SPARSE: usize = 256;

const KINDS: [Kind; COVER_STREAMS] = [Kind::Integers, Kind::Integers, Kind::Integers, Kind::Differences, Kind::Content];

/// A header and its body.
pub type Encoded = (Segment, Vec<u8>);

/// Makes a segment of covers: `outputs` are extents of new files that lie at these places of the new content.
pub(super) fn cover_segment(
    old: &Corpus,
    new: &Corpus,
    outputs: &[(Extent, usize)],
    covers: &[Cover],
    level: Level,
    window_log: u8,
) -> Encoded {
    let used: BTreeSet<usize> =
        covers.iter().flat_map(|cover| old.file_at(cover.old)..=old.file_at(cover.old_end() - 1)).collect();
    let mut sources = Vec::with_capacity(used.len());
    // Where each source begins: in the old content, and among the sources.
    let mut places = Vec::with_capacity(used.len());
    let mut length = 0;
    for file in &used {
        let file = &old.files[*file];
        places.push((file.start, length));
        length += file.length;
        let extent = Extent { file: file.number, offset: file.offset, length: file.length as u64 };
        sources.push(Source { extent, view: file.view });
    }
    let position = |at: usize| {
        let place = places.partition_point(|place| place.0 <= at).saturating_sub(1);
        places.get(place).map_or(0, |(start, position)| position + (at - start))
    };
    let mut streams: [Vec<u8>; COVER_STREAMS] = Default::default();
    let mut writer = Writer { streams: &mut streams, same: 0, differing: 0, last: 0 };
    let mut literal = 0;
    let mut runs = Vec::new();
    let (mut made, mut before) = (0, [0; code::BEFORE]);
    let mut next = covers.iter().peekable();
    for (extent, start) in outputs {
        let (mut at, end) = (*start, *start + extent.length as usize);
        while at < end {
            let Some(cover) = next.peek().filter(|cover| cover.new < end) else {
                literal += end - at;
                writer.streams[4].extend_from_slice(&new.bytes[at..end]);
                break;
            };
            writer.streams[4].extend_from_slice(&new.bytes[at..cover.new]);
            literal += cover.new - at;
            let (from, to) = (&old.bytes[cover.old..cover.old_end()], &new.bytes[cover.new..cover.new_end()]);
            writer.cover(literal, position(cover.old), from, to);
            let end = writer.streams[4].len();
            runs.push(Run { before, made, end });
            made += (literal + to.len()) as u64;
            before = code::last(code::last(before, &writer.streams[4][end - literal..]), to);
            literal = 0;
            at = cover.new_end();
            next.next();
        }
    }
    writer.finish();
    runs.push(Run { before, made, end: streams[4].len() });
    let ((packs, body, joined), code) = match code_of(&streams[4], &runs) {
        None => (pack_streams(&streams, level, window_log), false),
        Some(code) => {
            let plain = (level == Level::Best).then(|| pack_streams(&streams, level, window_log));
            streams[4] = code;
            let coded = pack_streams(&streams, level, window_log);
            match plain.filter(|plain| plain.1.len() <= coded.1.len()) {
                Some(plain) => (plain, false),
                None => (coded, true),
            }
        }
    };
    let segment = Segment {
        method: Method::Cover,
        outputs: outputs.iter().map(|output| output.0).collect(),
        sources,
        streams: streams.iter().map(|stream| stream.len() as u64).collect(),
        packs: packs.iter().map(Packed::pack).collect(),
        joined,
        assembled: false,
        code,
    };
    (segment, body)
}

/// A run of literals.
struct Run {
    /// The last bytes that were made before it.
    before: [u8; code::BEFORE],
    /// How many there were.
    made: u64,
    /// Where it ends in the stream of literals.
    end: usize,
}

/// The literals with places for distances, if they look like code.
fn code_of(literals: &[u8], runs: &[Run]) -> Option<Vec<u8>> {
    let mut code = literals.to_vec();
    let (mut turned, mut start) = (0, 0);
    for run in runs {
        turned += code::to_places(run.before, &mut code[start..run.end], run.made);
        start = run.end;
    }
    (turned * SPARSE > literals.len()).then_some(code)
}

struct Writer<'a> {
    streams: &'a mut [Vec<u8>; COVER_STREAMS],
    /// Lengths of the runs that are not written yet.
    same: u64,
    differing: u64,
    last: usize,
}

impl Writer<'_> {
    fn cover(&mut self, literal: usize, position: usize, from: &[u8], to: &[u8]) {
        put(literal as u64, &mut self.streams[0]);
        put(to.len() as u64, &mut self.streams[0]);
        let jump = position as i64 - self.last as i64;
        put((jump << 1 ^ jump >> 63) as u64, &mut self.streams[1]);
        self.last = position + to.len();
        let mut at = 0;
        while at < to.len() {
            let same = common_prefix(&from[at..], &to[at..]);
            if same > 0 && self.differing > 0 {
                self.run();
            }
            self.same += same as u64;
            at += same;
            if let (Some(old), Some(new)) = (from.get(at), to.get(at)) {
                self.differing += 1;
                self.streams[3].push(new.wrapping_sub(*old));
                at += 1;
            }
        }
    }

    fn run(&mut self) {
        put(self.same, &mut self.streams[2]);
        put(self.differing, &mut self.streams[2]);
        (self.same, self.differing) = (0, 0);
    }

    fn finish(&mut self) {
        if self.differing > 0 {
            self.run();
        }
    }
}

fn pack_streams(streams: &[Vec<u8>; COVER_STREAMS], level: Level, window_log: u8) -> (Vec<Packed>, Vec<u8>, bool) {
    let apart: Vec<Packed> = streams
        .par_iter()
        .zip(KINDS)
        .filter(|(stream, _)| !stream.is_empty())
        .map(|(stream, kind)| pack::pack(stream, kind, level, window_log))
        .collect();
    let length = |packs: &[Packed]| packs.iter().map(|packed| packed.bytes.len() + 4).sum::<usize>();
    let total: usize = streams.iter().map(Vec::len).sum();
    if total > 0 && total as u64 <= PATCH_JOINED.min(16 << 10) {
        let all = streams.concat();
        let together = vec![pack::pack(&all, Kind::Content, level, window_log)];
        if length(&together) < length(&apart) {
            let body = together[0].bytes.clone();
            return (together, body, true);
        }
    }
    let body = apart.iter().flat_map(|packed| packed.bytes.iter().copied()).collect();
    (apart, body, false)
}

/// Makes a segment of one stream with old files as its history.
pub(super) fn history_segment(
    old: &Corpus,
    new: &Corpus,
    outputs: &[(Extent, usize)],
    history: &[usize],
    level: Level,
    window_log: u8,
) -> Option<Encoded> {
    let mut before = Vec::new();
    let mut sources = Vec::new();
    for file in history {
        let file = &old.files[*file];
        before.extend_from_slice(&old.bytes[file.start..file.start + file.length]);
        let extent = Extent { file: file.number, offset: file.offset, length: file.length as u64 };
        sources.push(Source { extent, view: file.view });
    }
    let mut content = Vec::new();
    for (extent, start) in outputs {
        content.extend_from_slice(&new.bytes[*start..*start + extent.length as usize]);
    }
    let log = pack::window(before.len() + content.len(), window_log);
    let packed = match level {
        Level::Fast => pack::zstd(&content, 4, log, Some(&before))?,
        _ => pack::lzma_with_history(&content, &before, log, level)?,
    };
    let segment = Segment {
        method: Method::History,
        outputs: outputs.iter().map(|output| output.0).collect(),
        sources,
        streams: vec![content.len() as u64],
        packs: if content.is_empty() { Vec::new() } else { vec![packed.pack()] },
        joined: false,
        assembled: false,
        code: false,
    };
    let body = if content.is_empty() { Vec::new() } else { packed.bytes };
    Some((segment, body))
}

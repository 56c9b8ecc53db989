//! The layout of a segment's header and of the views of a patch: variable-length integers and single bytes.
//!
//! ```text
//! integer   7 bits a byte, the lowest first; every byte but the last has bit 7 set; at most 10 bytes, the shortest form
//! signed    integer of (n << 1) ^ (n >> 63)
//!
//! segment   shape | outputs | sources | streams | packs
//! shape     byte: 0 covers, 1 history; + 2 if the streams share one pack (covers only); + 4 if members are assembled;
//!             + 8 if literals are code (covers only)
//! outputs   integer: number of groups, then the groups
//! sources   the same; each group is followed by an integer: 0 no view, n + 1 for view n
//! group     integer: 2 * (number of the first file - 1 - number of the last file before) for whole files, + 1 for a part
//!             whole files: integer: how many more follow directly
//!             part: integer offset, integer length
//! streams   integer for each: its unpacked length
//! packs     for each: coder, integer: packed length
//! coder     byte 0 stored | byte 1 zstd, byte window | byte 2 lzma, byte properties, byte dictionary
//!
//! views     integer: number of views, then the views
//! view      signed file - file of the view before | pieces | loads | regions | map
//! pieces    integer: number, then for each: integer 2 * length, + 1 if it inflates; signed: offset - end of the piece before;
//!             if it inflates: integer: inflated length, wrapper
//! wrapper   byte 0 none | byte 1 gzip | byte 2 png, two bytes, integer
//! loads     integer: number, then integers: address - end of the load before, offset, length, 1 if code
//! regions   integer: number, then integers: offset - end of the region before, length, address; byte rule
//! map       only with regions; integer: number, 0 for the last map; then all addresses, each minus the one before, then
//!             all distances, each signed and minus the one before
//! ```
//!
//! The difference of file numbers is signed: files may be named in any order.

use crate::codec::DecodeError;
use crate::limits::{
    ARCHIVE_INFLATED_BYTES, PATCH_BODY, PATCH_CONTENT, PATCH_EXTENTS, PATCH_HEADER, PATCH_JOINED, PATCH_MAP,
    PATCH_OUTPUT, PATCH_PARTS, PATCH_PIECES, PATCH_RECIPE, PATCH_REGIONS, PATCH_SOURCE, PATCH_TYPES, PATCH_VIEWS,
    PATCH_WINDOW_LOG,
};
use crate::model::{
    COVER_STREAMS, Coder, Extent, Load, Member, Method, Pack, Part, Region, Relocation, Rule, Segment, Source, Wrapper,
};
use std::sync::Arc;

/// Lengths of the files that a patch names by number.
pub trait Lengths {
    /// Length of a file of the old tree.
    fn old_length(&self, file: u32) -> Option<u64>;
    /// Length of a new file.
    fn new_length(&self, file: u32) -> Option<u64>;
}

/// The bytes of a header.
pub fn encode(segment: &Segment, lengths: &dyn Lengths) -> Vec<u8> {
    let mut out = Vec::new();
    let shape = [segment.method == Method::History, segment.joined, segment.assembled, segment.code];
    out.push(shape.iter().rev().fold(0, |bits, bit| bits << 1 | u8::from(*bit)));
    let outputs: Vec<_> = segment.outputs.iter().map(|extent| (*extent, None)).collect();
    put_groups(&outputs, &|file| lengths.new_length(file), false, &mut out);
    let sources: Vec<_> = segment.sources.iter().map(|source| (source.extent, source.view)).collect();
    put_groups(&sources, &|file| lengths.old_length(file), true, &mut out);
    for length in &segment.streams {
        put(*length, &mut out);
    }
    for pack in &segment.packs {
        put_coder(pack.coder, &mut out);
        put(pack.length, &mut out);
    }
    out
}

/// Reads a header, and how many bytes it took. Everything in it is within the limits, files exist, extents lie in them;
/// only parts of views are not known here.
pub fn decode(bytes: &[u8], lengths: &dyn Lengths) -> Result<(Segment, usize), DecodeError> {
    let mut input = Input { bytes: &bytes[..bytes.len().min(PATCH_HEADER)], at: 0 };
    let segment = parse(&mut input, lengths)?;
    check(&segment)?;
    Ok((segment, input.at))
}

/// Reads of a header what can be read without the old tree, to be shown: it has no sources.
pub fn decode_made(bytes: &[u8], new_length: &dyn Fn(u32) -> Option<u64>) -> Result<Segment, DecodeError> {
    struct NewOnly<'a>(&'a dyn Fn(u32) -> Option<u64>);

    impl Lengths for NewOnly<'_> {
        fn old_length(&self, _: u32) -> Option<u64> {
            Some(PATCH_SOURCE)
        }

        fn new_length(&self, file: u32) -> Option<u64> {
            self.0(file)
        }
    }

    let mut input = Input { bytes: &bytes[..bytes.len().min(PATCH_HEADER)], at: 0 };
    let segment = parse(&mut input, &NewOnly(new_length))?;
    Ok(Segment { sources: Vec::new(), ..segment })
}

fn parse(input: &mut Input<'_>, lengths: &dyn Lengths) -> Result<Segment, DecodeError> {
    let shape = input.byte()?;
    let method = if shape & 1 == 1 { Method::History } else { Method::Cover };
    let (joined, assembled, code) = (shape & 2 != 0, shape & 4 != 0, shape & 8 != 0);
    if shape > 15 || ((joined || code) && method == Method::History) {
        return Err(DecodeError::invalid("shape of a segment", shape));
    }
    let outputs = take_groups(input, &|file| lengths.new_length(file), false)?;
    let sources = take_groups(input, &|file| lengths.old_length(file), true)?;
    let mut segment = Segment {
        method,
        outputs: outputs.into_iter().map(|(extent, _)| extent).collect(),
        sources: sources.into_iter().map(|(extent, view)| Source { extent, view }).collect(),
        streams: Vec::new(),
        packs: Vec::new(),
        joined,
        assembled,
        code,
    };
    for _ in 0..segment.stream_count() {
        segment.streams.push(input.bounded("length of a stream", 2 * PATCH_OUTPUT)?);
    }
    for _ in 0..segment.pack_count() {
        let coder = take_coder(input)?;
        segment.packs.push(Pack { coder, length: input.bounded("length of a pack", PATCH_BODY)? });
    }
    Ok(segment)
}

fn check(segment: &Segment) -> Result<(), DecodeError> {
    if segment.output_length() > PATCH_OUTPUT {
        return Err(DecodeError::invalid("output of a segment", segment.output_length()));
    }
    if segment.source_length() > PATCH_SOURCE {
        return Err(DecodeError::invalid("sources of a segment", segment.source_length()));
    }
    if segment.body_length() > PATCH_BODY {
        return Err(DecodeError::invalid("body of a segment", segment.body_length()));
    }
    if segment.joined && segment.streams.iter().take(COVER_STREAMS).sum::<u64>() > PATCH_JOINED {
        return Err(DecodeError::invalid("joined streams", "too long"));
    }
    if segment.method == Method::History {
        if segment.source_length() > 1 << PATCH_WINDOW_LOG {
            return Err(DecodeError::invalid("history of a segment", segment.source_length()));
        }
        let made = segment.streams[0];
        if made != segment.output_length() && !(segment.assembled && made <= PATCH_CONTENT) {
            return Err(DecodeError::invalid("stream of a segment", "its length is not that of the output"));
        }
    }
    if segment.assembled && segment.streams.last().is_none_or(|recipe| !(1..=PATCH_RECIPE).contains(recipe)) {
        return Err(DecodeError::invalid("stream of a segment", "it does not say how to assemble"));
    }
    Ok(())
}

/// The bytes of the views of a patch.
pub fn encode_views(views: &[Relocation]) -> Vec<u8> {
    let mut out = Vec::new();
    put(views.len() as u64, &mut out);
    let mut file = 0;
    let mut shared: Option<&Arc<Vec<(u64, i64)>>> = None;
    for view in views {
        put_signed(i64::from(view.file) - file, &mut out);
        file = i64::from(view.file);
        put_pieces(&view.pieces, &mut out);
        put(view.loads.len() as u64, &mut out);
        let mut end = 0;
        for load in &view.loads {
            for value in [load.address.wrapping_sub(end), load.offset, load.length, u64::from(load.code)] {
                put(value, &mut out);
            }
            end = load.address.wrapping_add(load.length);
        }
        put(view.regions.len() as u64, &mut out);
        end = 0;
        for region in &view.regions {
            for value in [region.offset.wrapping_sub(end), region.length, region.address] {
                put(value, &mut out);
            }
            out.push(rule_number(region.rule));
            end = region.offset.wrapping_add(region.length);
        }
        if view.regions.is_empty() {
            continue;
        }
        if shared.is_some_and(|shared| shared == &view.map) {
            put(0, &mut out);
            continue;
        }
        shared = Some(&view.map);
        put(view.map.len() as u64, &mut out);
        let mut before = 0;
        for (address, _) in view.map.iter() {
            put(address.wrapping_sub(before), &mut out);
            before = *address;
        }
        let mut before = 0;
        for (_, distance) in view.map.iter() {
            put_signed(distance.wrapping_sub(before), &mut out);
            before = *distance;
        }
    }
    out
}

/// The bytes of the views of a patch as they travel: their coder, and what it has made of them.
pub fn encode_packed_views(coder: Coder, packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed.len() + 3);
    put_coder(coder, &mut out);
    out.extend_from_slice(packed);
    out
}

/// Reads what [`encode_packed_views`] has written.
pub fn decode_packed_views(bytes: &[u8]) -> Result<(Coder, &[u8]), DecodeError> {
    let mut input = Input { bytes, at: 0 };
    let coder = take_coder(&mut input)?;
    Ok((coder, &bytes[input.at..]))
}

/// Reads the views of a patch, which take all of `bytes`. Their loads and regions are sorted and do not overlap.
pub fn decode_views(bytes: &[u8], lengths: &dyn Lengths) -> Result<Vec<Relocation>, DecodeError> {
    let mut input = Input { bytes, at: 0 };
    let count = input.count("number of views", PATCH_VIEWS)?;
    let mut views = Vec::new();
    let mut file = 0_i64;
    let (mut entries, mut pieces, mut parts) = (0, 0, 0);
    let mut shared: Option<Arc<Vec<(u64, i64)>>> = None;
    for _ in 0..count {
        file = file.checked_add(input.signed()?).ok_or_else(|| DecodeError::invalid("file of a view", "too large"))?;
        let known = u32::try_from(file).ok().and_then(|file| Some((file, lengths.old_length(file)?)));
        let (number, length) =
            known.ok_or_else(|| DecodeError::invalid("file of a view", format!("no file {file}")))?;
        let mut view = Relocation {
            file: number,
            pieces: take_pieces(&mut input, length, PATCH_PIECES - pieces)?,
            loads: Vec::new(),
            regions: Vec::new(),
            map: Arc::default(),
        };
        pieces += view.pieces.len();
        (view.loads, view.regions) = take_parts(&mut input, view.length(length))?;
        parts += view.loads.len() + view.regions.len();
        if parts > PATCH_PARTS {
            return Err(DecodeError::invalid("parts of views", "too many"));
        }
        if view.regions.is_empty() {
            views.push(view);
            continue;
        }
        let map = match (take_map(&mut input)?, shared) {
            (map, _) if !map.is_empty() => {
                entries += map.len();
                Arc::new(map)
            }
            (_, Some(shared)) => shared,
            (..) => return Err(DecodeError::invalid("address map", "it is empty")),
        };
        if entries > PATCH_MAP {
            return Err(DecodeError::invalid("address maps", "too many entries"));
        }
        shared = Some(Arc::clone(&map));
        views.push(Relocation { map, ..view });
    }
    if input.at != bytes.len() {
        return Err(DecodeError::Trailing(bytes.len() - input.at));
    }
    Ok(views)
}

/// A sum that leaves room for more.
fn sum(a: u64, b: u64) -> Option<u64> {
    a.checked_add(b).filter(|sum| *sum < 1 << 63)
}

fn invalid(what: &'static str) -> DecodeError {
    DecodeError::invalid(what, "outside of its bounds")
}

fn put_pieces(pieces: &[Part], out: &mut Vec<u8>) {
    put(pieces.len() as u64, out);
    let mut end = 0;
    for piece in pieces {
        put(piece.len().wrapping_shl(1) | u64::from(matches!(piece, Part::Deflated(_))), out);
        put_signed(piece.offset().wrapping_sub(end) as i64, out);
        end = piece.offset().wrapping_add(piece.len());
        let Part::Deflated(member) = piece else { continue };
        put(member.inflated_len, out);
        match member.wrapper {
            Wrapper::Plain => out.push(0),
            Wrapper::Gzip => out.push(1),
            Wrapper::Png { zlib_header, chunk_bytes } => {
                out.push(2);
                out.extend_from_slice(&zlib_header);
                put(u64::from(chunk_bytes), out);
            }
        }
    }
}

fn take_pieces(input: &mut Input<'_>, length: u64, most: usize) -> Result<Vec<Part>, DecodeError> {
    let bad = || DecodeError::invalid("piece of a view", "outside of its bounds");
    let mut pieces = Vec::new();
    let (mut end, mut shown) = (0_u64, 0_u64);
    for _ in 0..input.count("pieces of views", most)? {
        let head = input.integer()?;
        let len = head >> 1;
        let offset = end.checked_add_signed(input.signed()?).ok_or_else(bad)?;
        end = offset.checked_add(len).filter(|end| len > 0 && *end <= length).ok_or_else(bad)?;
        let piece = if head & 1 == 0 {
            Part::Raw { offset, len }
        } else {
            let inflated_len = input.bounded("inflated length", ARCHIVE_INFLATED_BYTES)?;
            let wrapper = match input.byte()? {
                0 => Wrapper::Plain,
                1 => Wrapper::Gzip,
                2 => {
                    let zlib_header = [input.byte()?, input.byte()?];
                    Wrapper::Png { zlib_header, chunk_bytes: input.bounded("chunk", u64::from(u32::MAX))? as u32 }
                }
                other => return Err(DecodeError::invalid("wrapper of a member", other)),
            };
            Part::Deflated(Member { offset, len, inflated_len, wrapper })
        };
        shown = shown.checked_add(piece.shown()).filter(|shown| *shown <= PATCH_SOURCE).ok_or_else(bad)?;
        pieces.push(piece);
    }
    Ok(pieces)
}

fn take_parts(input: &mut Input<'_>, length: u64) -> Result<(Vec<Load>, Vec<Region>), DecodeError> {
    let mut loads = Vec::new();
    let mut end = 0;
    for _ in 0..input.count("number of loads", PATCH_REGIONS)? {
        let address = sum(end, input.integer()?).ok_or_else(|| invalid("load"))?;
        let (offset, bytes) = (input.integer()?, input.integer()?);
        let code = input.bounded("kind of a load", 1)? == 1;
        end = sum(address, bytes).ok_or_else(|| invalid("load"))?;
        sum(offset, bytes).ok_or_else(|| invalid("load"))?;
        loads.push(Load { offset, address, length: bytes, code });
    }
    let mut regions = Vec::new();
    let mut end = 0;
    for _ in 0..input.count("number of regions", PATCH_REGIONS)? {
        let offset = sum(end, input.integer()?).ok_or_else(|| invalid("region"))?;
        let (bytes, address) = (input.integer()?, input.integer()?);
        let rule = rule_of(input.byte()?)?;
        end = sum(offset, bytes).filter(|end| *end <= length).ok_or_else(|| invalid("region"))?;
        sum(address, bytes).ok_or_else(|| invalid("region"))?;
        if rule == Rule::TypeNumbers && bytes > PATCH_TYPES {
            return Err(invalid("region"));
        }
        regions.push(Region { offset, length: bytes, address, rule });
    }
    Ok((loads, regions))
}

fn take_map(input: &mut Input<'_>) -> Result<Vec<(u64, i64)>, DecodeError> {
    let entries = input.count("entries of a map", PATCH_MAP.min(input.bytes.len()))?;
    let mut map = Vec::with_capacity(entries);
    let mut address = 0;
    for _ in 0..entries {
        address = sum(address, input.integer()?).ok_or_else(|| invalid("address"))?;
        map.push((address, 0));
    }
    let mut before = 0_i64;
    for (_, distance) in &mut map {
        before = before.wrapping_add(input.signed()?);
        *distance = before;
    }
    Ok(map)
}

const RULES: [Rule; 7] =
    [Rule::CodeX86, Rule::Words, Rule::Relative, Rule::Mixed, Rule::FrameTable, Rule::CodeArm64, Rule::TypeNumbers];

fn rule_number(rule: Rule) -> u8 {
    RULES.iter().position(|known| *known == rule).unwrap_or_default() as u8
}

fn rule_of(number: u8) -> Result<Rule, DecodeError> {
    RULES.get(usize::from(number)).copied().ok_or_else(|| DecodeError::invalid("rule of a region", number))
}

fn put_coder(coder: Coder, out: &mut Vec<u8>) {
    match coder {
        Coder::Stored => out.push(0),
        Coder::Zstd { window_log } => out.extend([1, window_log]),
        Coder::Lzma { properties, dictionary_log } => out.extend([2, properties, dictionary_log]),
    }
}

fn take_coder(input: &mut Input<'_>) -> Result<Coder, DecodeError> {
    let window = |log: u8| {
        if (10..=PATCH_WINDOW_LOG).contains(&log) {
            Ok(log)
        } else {
            Err(DecodeError::invalid("window of a coder", log))
        }
    };
    match input.byte()? {
        0 => Ok(Coder::Stored),
        1 => Ok(Coder::Zstd { window_log: window(input.byte()?)? }),
        2 => {
            let properties = input.byte()?;
            let (lc, lp) = (properties % 9, properties / 9 % 5);
            if properties >= 9 * 5 * 5 || lc + lp > 4 {
                return Err(DecodeError::invalid("properties of an lzma stream", properties));
            }
            Ok(Coder::Lzma { properties, dictionary_log: window(input.byte()?)? })
        }
        other => Err(DecodeError::invalid("coder", other)),
    }
}

type Named = (Extent, Option<u32>);

fn put_groups(named: &[Named], length: &dyn Fn(u32) -> Option<u64>, views: bool, out: &mut Vec<u8>) {
    let whole = |(extent, _): &Named| extent.offset == 0 && length(extent.file) == Some(extent.length);
    let mut body = Vec::new();
    let mut groups = 0;
    let mut last = -1_i64;
    let mut at = 0;
    while let Some((extent, view)) = named.get(at) {
        let step = i64::from(extent.file) - 1 - last;
        groups += 1;
        let part = !whole(&named[at]);
        put(zigzag(step) << 1 | u64::from(part), &mut body);
        last = i64::from(extent.file);
        at += 1;
        if part {
            put(extent.offset, &mut body);
            put(extent.length, &mut body);
        } else {
            let first = at;
            while named.get(at).is_some_and(|next| {
                i64::from(next.0.file) == last + 1 && next.1 == *view && view.is_none() && whole(next)
            }) {
                last += 1;
                at += 1;
            }
            put((at - first) as u64, &mut body);
        }
        if views {
            put(view.map_or(0, |view| u64::from(view) + 1), &mut body);
        }
    }
    put(groups, out);
    out.extend_from_slice(&body);
}

fn take_groups(
    input: &mut Input<'_>,
    length: &dyn Fn(u32) -> Option<u64>,
    views: bool,
) -> Result<Vec<Named>, DecodeError> {
    let bad = |what: &str| DecodeError::invalid("extent", what);
    let mut out = Vec::new();
    let mut next = 0_i64;
    for _ in 0..input.count("number of extents", PATCH_EXTENTS)? {
        let head = input.integer()?;
        let first = next.checked_add(unzigzag(head >> 1)).ok_or_else(|| bad("number of a file"))?;
        let first = u32::try_from(first).map_err(|_| bad("number of a file"))?;
        let from = out.len();
        if head & 1 == 1 {
            let (offset, bytes) = (input.integer()?, input.integer()?);
            offset.checked_add(bytes).filter(|end| *end <= PATCH_SOURCE).ok_or_else(|| bad("length"))?;
            out.push((Extent { file: first, offset, length: bytes }, None));
            next = i64::from(first) + 1;
        } else {
            let more = input.integer()?;
            if more >= (PATCH_EXTENTS - out.len().min(PATCH_EXTENTS)) as u64 {
                return Err(bad("too many"));
            }
            for file in u64::from(first)..=u64::from(first) + more {
                let file = u32::try_from(file).map_err(|_| bad("number of a file"))?;
                let length = length(file).ok_or_else(|| bad("no such file"))?;
                out.push((Extent { file, offset: 0, length }, None));
            }
            next = i64::from(first) + 1 + more as i64;
        }
        if views {
            let view = input.bounded("view of a source", PATCH_VIEWS as u64)?;
            for (_, named) in &mut out[from..] {
                *named = view.checked_sub(1).map(|view| view as u32);
            }
        }
        // How much a view shows is known to whoever has it.
        let outside = |(extent, view): &Named| {
            length(extent.file).is_none_or(|length| view.is_none() && extent.offset + extent.length > length)
        };
        if out[from..].iter().any(outside) {
            return Err(bad("outside of its file"));
        }
    }
    Ok(out)
}

/// Appends an integer.
pub fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(value: i64, out: &mut Vec<u8>) {
    put(zigzag(value), out);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| DecodeError::Malformed("it ends too early".into()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    fn integer(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift > 63 || (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(DecodeError::invalid("integer", "not in its shortest form"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<i64, DecodeError> {
        Ok(unzigzag(self.integer()?))
    }

    fn bounded(&mut self, what: &'static str, most: u64) -> Result<u64, DecodeError> {
        let value = self.integer()?;
        if value > most { Err(DecodeError::invalid(what, value)) } else { Ok(value) }
    }

    /// A count of things that take at least one byte each.
    fn count(&mut self, what: &'static str, most: usize) -> Result<usize, DecodeError> {
        let value = self.bounded(what, most as u64)? as usize;
        if value > self.bytes.len() - self.at { Err(DecodeError::invalid(what, value)) } else { Ok(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed;

    impl Lengths for Fixed {
        fn old_length(&self, file: u32) -> Option<u64> {
            (file < 5000).then_some(1000 + u64::from(file))
        }

        fn new_length(&self, file: u32) -> Option<u64> {
            (file < 100).then_some(2000)
        }
    }

    fn segment() -> Segment {
        let whole = |file: u32| Source {
            extent: Extent { file, offset: 0, length: 1000 + u64::from(file) },
            view: (file == 9).then_some(3),
        };
        Segment {
            method: Method::Cover,
            outputs: vec![
                Extent { file: 0, offset: 0, length: 2000 },
                Extent { file: 1, offset: 0, length: 2000 },
                Extent { file: 2, offset: 5, length: 100 },
            ],
            sources: [3, 4, 5, 9, 10, 2].map(whole).to_vec(),
            streams: vec![10, 20, 0, 0, 300],
            packs: vec![
                Pack { coder: Coder::Stored, length: 10 },
                Pack { coder: Coder::Zstd { window_log: 12 }, length: 15 },
                Pack { coder: Coder::Lzma { properties: 93, dictionary_log: 16 }, length: 200 },
            ],
            joined: false,
            assembled: false,
            code: false,
        }
    }

    #[test]
    fn the_bytes_of_a_header_do_not_change() {
        let bytes = encode(&segment(), &Fixed);
        let golden = [
            vec![0],
            // Files 0 and 1, then bytes 5 to 105 of file 2.
            vec![2, 0, 1, 1, 5, 100],
            // Files 3 to 5, file 9 through view 3, file 10, file 2.
            vec![4, 12, 2, 0, 12, 0, 4, 0, 0, 0, 34, 0, 0],
            vec![10, 20, 0, 0, 0xAC, 2],
            vec![0, 10, 1, 12, 15, 2, 93, 16, 0xC8, 1],
        ]
        .concat();
        assert_eq!(bytes, golden);
        assert_eq!(decode(&bytes, &Fixed).unwrap(), (segment(), bytes.len()));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], &Fixed).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn only_literals_may_be_code() {
        let covers = Segment { code: true, ..segment() };
        let mut bytes = encode(&covers, &Fixed);
        assert_eq!(bytes[0], 8);
        assert_eq!(decode(&bytes, &Fixed).unwrap(), (covers, bytes.len()));
        bytes[0] = 9;
        assert!(decode(&bytes, &Fixed).is_err());
    }

    #[test]
    fn an_assembled_segment_has_one_stream_and_one_pack_more() {
        let plain = segment();
        let streams = [&plain.streams[..], &[33]].concat();
        let packs = [&plain.packs[..], &[Pack { coder: Coder::Stored, length: 33 }]].concat();
        let more = Segment { assembled: true, streams, packs, ..plain };
        let bytes = encode(&more, &Fixed);
        assert_eq!(bytes[0], 4);
        assert_eq!(decode(&bytes, &Fixed).unwrap(), (more.clone(), bytes.len()));
        // What the streams make is longer than the output, so the history may be, too.
        let history = Segment {
            method: Method::History,
            streams: vec![5000, 20],
            packs: more.packs[2..].to_vec(),
            ..more.clone()
        };
        let bytes = encode(&history, &Fixed);
        assert_eq!(bytes[0], 5);
        assert_eq!(decode(&bytes, &Fixed).unwrap().0, history);
        assert!(decode(&encode(&Segment { streams: vec![PATCH_CONTENT + 1, 20], ..history }, &Fixed), &Fixed).is_err());
        for recipe in [0, PATCH_RECIPE + 1] {
            let mut bad = more.clone();
            bad.streams[COVER_STREAMS] = recipe;
            assert!(decode(&encode(&bad, &Fixed), &Fixed).is_err(), "{recipe}");
        }
        let mut other = encode(&more, &Fixed);
        for shape in [3, 7, 9, 11, 13, 15, 16] {
            other[0] = shape;
            assert!(decode(&other, &Fixed).is_err(), "{shape}");
        }
    }

    #[test]
    fn a_part_of_a_view_may_lie_beyond_the_file() {
        let part = |view| Source { extent: Extent { file: 9, offset: 900, length: 5000 }, view };
        let of = |view| Segment { sources: vec![part(view)], ..segment() };
        assert_eq!(decode(&encode(&of(Some(0)), &Fixed), &Fixed).unwrap().0, of(Some(0)));
        assert!(decode(&encode(&of(None), &Fixed), &Fixed).is_err());
    }

    #[test]
    fn counts_and_lengths_are_bounded_before_they_are_believed() {
        let bytes = encode(&segment(), &Fixed);
        for at in 0..bytes.len() {
            let mut bad = bytes[..at].to_vec();
            bad.extend([0xFF; 8]);
            bad.push(0x7F);
            bad.extend_from_slice(&bytes[at..]);
            if let Ok((read, _)) = decode(&bad, &Fixed) {
                panic!("a huge number at {at} is {read:?}");
            }
        }
        let huge = Segment { outputs: vec![Extent { file: 0, offset: 0, length: 2001 }], ..segment() };
        assert!(decode(&encode(&huge, &Fixed), &Fixed).is_err());
        let body = Segment { packs: vec![Pack { coder: Coder::Stored, length: PATCH_BODY }; 3], ..segment() };
        assert!(decode(&encode(&body, &Fixed), &Fixed).is_err());
    }

    fn relocation() -> Relocation {
        Relocation {
            file: 17,
            pieces: Vec::new(),
            loads: vec![
                Load { offset: 0, address: 4096, length: 100, code: false },
                Load { offset: 100, address: 8192, length: 900, code: true },
            ],
            regions: vec![
                Region { offset: 20, length: 80, address: 4116, rule: Rule::Mixed },
                Region { offset: 100, length: 700, address: 8192, rule: Rule::CodeX86 },
            ],
            map: Arc::new(vec![(4096, 16), (8192, -300), (8500, 1 << 40)]),
        }
    }

    /// Three members, one of them a second time, and nothing moved.
    fn inflated() -> Relocation {
        let member = |offset, len, inflated_len, wrapper| Part::Deflated(Member { offset, len, inflated_len, wrapper });
        Relocation {
            file: 20,
            pieces: vec![
                Part::Raw { offset: 0, len: 30 },
                member(30, 100, 500, Wrapper::Plain),
                member(200, 80, 90, Wrapper::Gzip),
                member(400, 70, 7000, Wrapper::Png { zlib_header: [0x78, 0x9C], chunk_bytes: 40 }),
                member(30, 100, 500, Wrapper::Plain),
            ],
            loads: Vec::new(),
            regions: Vec::new(),
            map: Arc::default(),
        }
    }

    #[test]
    fn pieces_outside_of_their_files_are_refused() {
        let refused = |pieces: &[Part]| {
            let view = Relocation { pieces: pieces.to_vec(), ..inflated() };
            assert!(decode_views(&encode_views(&[view]), &Fixed).is_err(), "{pieces:?}");
        };
        refused(&[Part::Raw { offset: 1000, len: 21 }]);
        refused(&[Part::Raw { offset: 0, len: 0 }]);
        refused(&[Part::Raw { offset: u64::MAX, len: 2 }]);
        let huge = Member { offset: 0, len: 9, inflated_len: ARCHIVE_INFLATED_BYTES + 1, wrapper: Wrapper::Plain };
        refused(&[Part::Deflated(huge)]);
        refused(&vec![Part::Raw { offset: 0, len: 1 }; PATCH_PIECES + 1]);
        // Offsets of regions are those of what is shown, which is more than the file has.
        let view = Relocation { regions: relocation().regions, loads: relocation().loads, ..inflated() };
        let mut view = Relocation { map: relocation().map, ..view };
        view.regions[1].length = 6000;
        assert_eq!(decode_views(&encode_views(&[view.clone()]), &Fixed).unwrap(), [view.clone()]);
        view.regions[1].length = 30 + 500 + 90 + 7000 + 500 - 99;
        assert!(decode_views(&encode_views(&[view]), &Fixed).is_err());
    }

    #[test]
    fn views_read_back_and_no_cut_does() {
        let other = Relocation { file: 400, map: Arc::new(vec![(7, 7)]), ..relocation() };
        let views = [relocation(), inflated(), Relocation { file: 4, ..relocation() }, other];
        let bytes = encode_views(&views);
        assert_eq!(decode_views(&bytes, &Fixed).unwrap(), views);
        for cut in 0..bytes.len() {
            assert!(decode_views(&bytes[..cut], &Fixed).is_err(), "cut at {cut}");
        }
        let outside = Relocation { file: 5001, ..relocation() };
        assert!(decode_views(&encode_views(&[outside]), &Fixed).is_err());
        let mut beyond = relocation();
        beyond.regions[1].length = 1000;
        assert!(decode_views(&encode_views(&[beyond]), &Fixed).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((segment, used)) = decode(&bytes, &Fixed) {
                let again = encode(&segment, &Fixed);
                prop_assert_eq!(decode(&again, &Fixed).unwrap().0, segment);
                prop_assert!(used <= bytes.len());
            }
            if let Ok(views) = decode_views(&bytes, &Fixed) {
                prop_assert_eq!(decode_views(&encode_views(&views), &Fixed).unwrap(), views);
            }
        }

        #[test]
        fn integers_read_back(value in any::<u64>(), signed in any::<i64>()) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            put_signed(signed, &mut bytes);
            let mut input = Input { bytes: &bytes, at: 0 };
            prop_assert_eq!((input.integer().unwrap(), input.signed().unwrap()), (value, signed));
        }
    }
}

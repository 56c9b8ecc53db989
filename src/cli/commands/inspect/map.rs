//! What the bytes of a package are for, file by file.

use crate::codec::segment;
use crate::delta;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{COVER_STREAMS, Method, Segment, TreePath};
use crate::package::{Codec, Package, Promise, Start, Verified};
use serde::Serialize;
use std::io::Read;

/// Why bytes are in a package. Of a stream that files share, each has its part by its length.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Causes {
    /// Content that is nowhere in the base.
    new: f64,
    /// How copies differ from what they were copied from.
    differences: f64,
    /// Where copies are taken from, and where they differ.
    places: f64,
    /// Text that is packed behind old text.
    text: f64,
    /// How archives are assembled, headers, and what is packed together.
    other: f64,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tile {
    path: String,
    size: u64,
    causes: Causes,
}

/// The bytes of a package.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Map {
    manifest: u64,
    views: u64,
    tiles: Vec<Tile>,
}

impl Causes {
    fn add(&mut self, other: &Self, share: &Share) {
        self.new += other.new * share.new;
        self.differences += other.differences * share.differences;
        self.places += other.places * share.places;
        self.text += other.text * share.length;
        self.other += other.other * share.length;
    }

    /// What the packs of a segment are for.
    fn of(segment: &Segment, packed: u64) -> Self {
        let mut causes = Self::default();
        let mut packs = segment.packs.iter().map(|pack| pack.length as f64);
        // Streams in one pack have their parts of it by their lengths.
        let together: u64 = segment.streams.iter().take(COVER_STREAMS).sum();
        let shared = segment.packs.first().filter(|_| segment.joined).map(|pack| pack.length as f64);
        if shared.is_some() {
            packs.next();
        }
        let mut rest = packed as f64;
        for (number, unpacked) in segment.streams.iter().enumerate().filter(|(_, length)| **length > 0) {
            let length = match shared.filter(|_| number < COVER_STREAMS) {
                Some(pack) => pack * *unpacked as f64 / together.max(1) as f64,
                None => packs.next().unwrap_or(0.0),
            };
            rest -= length;
            match (segment.method, number) {
                (Method::History, 0) => causes.text += length,
                (Method::Cover, 0..=2) => causes.places += length,
                (Method::Cover, 3) => causes.differences += length,
                (Method::Cover, 4) => causes.new += length,
                _ => causes.other += length,
            }
        }
        causes.other += rest.max(0.0);
        causes
    }
}

/// Reads a package to its end and tells what its bytes are for.
pub(super) fn draw<R: Read>(
    package: Package<R, Verified>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(Promise, Map), Error> {
    let promise = package.promise().clone();
    let sizes: Vec<u64> = promise.contents().map(|content| content.size).collect();
    let path = |change: usize| promise.changes()[change].path.clone();
    let tile = |change: usize, size| Tile { path: shown(&path(change)), size, causes: Causes::default() };
    let mut tiles: Vec<Tile> = promise.contents().map(|content| tile(content.change, content.size)).collect();
    let (mut views, mut done, total) = (0, 0, promise.packed_bytes());
    if promise.head().start == Start::Anything {
        share_out(&promise, &sizes, &mut tiles);
        super::read_contents(package, &mut progress)?;
    } else {
        let (_, mut segments) = package.into_segments();
        while let Some((promised, bytes)) = segments.next_segment()? {
            done += promised.packed;
            progress(done, total);
            if promised.codec == Codec::Views {
                views = promised.packed;
                continue;
            }
            let malformed =
                |error| Error::new(Code::PackageFormat, "a segment of the package is malformed").because(error);
            let lengths = |file: u32| sizes.get(file as usize).copied();
            let segment = segment::decode_made(&bytes, &lengths).map_err(malformed)?;
            let causes = Causes::of(&segment, promised.packed);
            let shares = shares(&segment, &bytes[bytes.len() - segment.body_length() as usize..]);
            for (output, share) in segment.outputs.iter().zip(shares) {
                if let Some(tile) = tiles.get_mut(output.file as usize) {
                    tile.causes.add(&causes, &share);
                }
            }
        }
    }
    Ok((promise, Map { manifest: 0, views, tiles }))
}

/// The part of an output in what its segment is made of: in its length, and in its new bytes, differences and copies.
#[derive(Clone, Copy, Default)]
struct Share {
    length: f64,
    new: f64,
    differences: f64,
    places: f64,
}

/// The part of each output. Of covers the streams say it; of others it goes by length.
fn shares(segment: &Segment, body: &[u8]) -> Vec<Share> {
    let whole = segment.output_length().max(1) as f64;
    let mut shares: Vec<Share> = segment
        .outputs
        .iter()
        .map(|output| {
            let length = output.length as f64 / whole;
            Share { length, new: length, differences: length, places: length }
        })
        .collect();
    if segment.method == Method::Cover && !segment.assembled {
        let mut counts = vec![Share::default(); shares.len()];
        if count(segment, body, &mut counts).is_some() {
            let sum = |of: fn(&Share) -> f64| counts.iter().map(of).sum::<f64>();
            let (new, differences, places) = (sum(|c| c.new), sum(|c| c.differences), sum(|c| c.places));
            let part = |count: f64, sum: f64, length: f64| if sum > 0.0 { count / sum } else { length };
            for (share, count) in shares.iter_mut().zip(&counts) {
                share.new = part(count.new, new, share.length);
                share.differences = part(count.differences, differences, share.length);
                share.places = part(count.places, places, share.length);
            }
        }
    }
    shares
}

/// Counts, by output, bytes of literals, bytes that differ, and copies. Nothing if the streams break their rules.
fn count(segment: &Segment, body: &[u8], counts: &mut [Share]) -> Option<()> {
    let streams = unpack(segment, body)?;
    let (mut lengths, mut runs) = (streams.first()?.as_slice(), streams.get(2)?.as_slice());
    let ends: Vec<u64> = segment
        .outputs
        .iter()
        .scan(0, |end, output| {
            *end += output.length;
            Some(*end)
        })
        .collect();
    let at = |position: u64| ends.partition_point(|end| *end <= position);
    // Gives bytes from `from` on to the outputs that they are in.
    let spread = |counts: &mut [Share], mut from: u64, mut length: u64, add: fn(&mut Share, f64)| {
        while length > 0 {
            let (Some(end), Some(count)) = (ends.get(at(from)), counts.get_mut(at(from))) else { return };
            let part = length.min(end - from);
            add(count, part as f64);
            (from, length) = (from + part, length - part);
        }
    };
    let (mut position, mut same, mut differing) = (0, 0, 0);
    while !lengths.is_empty() {
        let (literal, mut copy) = (integer(&mut lengths)?, integer(&mut lengths)?);
        spread(counts, position, literal, |count, bytes| count.new += bytes);
        position = position.checked_add(literal)?;
        if let Some(count) = counts.get_mut(at(position)) {
            count.places += 1.0;
        }
        while copy > 0 {
            if same == 0 && differing == 0 {
                if runs.is_empty() {
                    same = u64::MAX;
                } else {
                    (same, differing) = (integer(&mut runs)?, integer(&mut runs)?);
                    if same == 0 && differing == 0 {
                        return None;
                    }
                }
            }
            let equal = same.min(copy);
            (same, copy, position) = (same - equal, copy - equal, position.checked_add(equal)?);
            let other = differing.min(copy);
            spread(counts, position, other, |count, bytes| count.differences += bytes);
            (differing, copy, position) = (differing - other, copy - other, position.checked_add(other)?);
        }
    }
    spread(counts, position, segment.output_length().saturating_sub(position), |count, bytes| count.new += bytes);
    Some(())
}

/// The streams of covers, unpacked; only the lengths and the runs where each has its own pack.
fn unpack(segment: &Segment, mut body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let length = |bytes: u64| usize::try_from(bytes).ok().filter(|bytes| *bytes as u64 <= limits::PATCH_OUTPUT);
    let mut streams = Vec::new();
    if segment.joined {
        let total = length(segment.streams.iter().sum())?;
        let all = delta::unpack(segment.packs.first()?.coder, body, total).ok()?;
        let mut rest = all.as_slice();
        for bytes in &segment.streams {
            let (stream, behind) = rest.split_at_checked(length(*bytes)?)?;
            streams.push(stream.to_vec());
            rest = behind;
        }
        return Some(streams);
    }
    let mut packs = segment.packs.iter();
    for (number, bytes) in segment.streams.iter().enumerate() {
        let mut stream = Vec::new();
        if *bytes > 0 {
            let pack = packs.next()?;
            let (packed, behind) = body.split_at_checked(length(pack.length)?)?;
            body = behind;
            if number == 0 || number == 2 {
                stream = delta::unpack(pack.coder, packed, length(*bytes)?).ok()?;
            }
        }
        streams.push(stream);
    }
    Some(streams)
}

/// Takes an integer of seven bits a byte.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

/// In a full package contents stand one after the other, and the segments cut that.
fn share_out(promise: &Promise, sizes: &[u64], tiles: &mut [Tile]) {
    let (mut content, mut taken) = (0, 0);
    for segment in promise.segments() {
        let rate = segment.packed as f64 / segment.unpacked.max(1) as f64;
        let mut left = segment.unpacked;
        while let (Some(size), Some(tile)) = (sizes.get(content), tiles.get_mut(content)) {
            let part = left.min(size - taken);
            tile.causes.new += part as f64 * rate;
            (left, taken) = (left - part, taken + part);
            if taken < *size {
                break;
            }
            (content, taken) = (content + 1, 0);
        }
    }
}

impl Map {
    /// The same with the bytes of everything that is no segment.
    pub(super) fn with_manifest(self, bytes: u64) -> Self {
        Self { manifest: bytes, ..self }
    }
}

fn shown(path: &TreePath) -> String {
    path.to_string()
}

//! What the bytes of a package are for, file by file.

use crate::codec::segment;
use crate::error::{Code, Error};
use crate::model::{Method, Segment, TreePath};
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
    fn add(&mut self, other: &Self, share: f64) {
        self.new += other.new * share;
        self.differences += other.differences * share;
        self.places += other.places * share;
        self.text += other.text * share;
        self.other += other.other * share;
    }

    /// What the packs of a segment are for.
    fn of(segment: &Segment, packed: u64) -> Self {
        let mut causes = Self::default();
        let mut packs = segment.packs.iter().map(|pack| pack.length as f64);
        let mut rest = packed as f64;
        let streams = segment.streams.iter().enumerate().filter(|(_, length)| **length > 0);
        for (number, _) in streams {
            if segment.joined {
                break;
            }
            let Some(length) = packs.next() else { break };
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
            let made = segment.output_length().max(1) as f64;
            for output in &segment.outputs {
                if let Some(tile) = tiles.get_mut(output.file as usize) {
                    tile.causes.add(&causes, output.length as f64 / made);
                }
            }
        }
    }
    Ok((promise, Map { manifest: 0, views, tiles }))
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

//! Segments of a patch: what one makes, from which old content, through which streams.

use crate::model::Part;
use std::sync::Arc;

/// A part of a file: `length` bytes from `offset` on of file number `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Number of the file: of the old tree for what is read, of the list of new files for what is made.
    pub file: u32,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Old content that a segment reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Where it stands.
    pub extent: Extent,
    /// Number of the view it is read through; none reads the bytes as they are.
    pub view: Option<u32>,
}

/// How new bytes come out of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Copies from the sources with differences, and literals between them.
    Cover,
    /// One stream of an LZ coder that has the sources as its history.
    History,
}

/// What packed a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coder {
    /// Nothing: the bytes as they are.
    Stored,
    /// A zstd frame with a window of at most two to this power.
    Zstd {
        /// Power of two.
        window_log: u8,
    },
    /// LZMA without a header.
    Lzma {
        /// Literal context bits, literal position bits and position bits, as in the header of an .lzma file.
        properties: u8,
        /// The dictionary is two to this power.
        dictionary_log: u8,
    },
}

/// Packed bytes in the body of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pack {
    /// What packed them.
    pub coder: Coder,
    /// How many there are.
    pub length: u64,
}

/// Streams of the method [`Method::Cover`], in their order.
pub const COVER_STREAMS: usize = 5;

/// The header of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// How the bytes come out.
    pub method: Method,
    /// What it makes, in this order.
    pub outputs: Vec<Extent>,
    /// What it reads: one space of positions, one after the other.
    pub sources: Vec<Source>,
    /// Unpacked length of each stream: five with [`Method::Cover`], one with [`Method::History`], and, if `assembled`, one
    /// more, which says how.
    pub streams: Vec<u64>,
    /// One pack for every stream that is not empty, or, if `joined`, one for all of them together but the last of
    /// `assembled`.
    pub packs: Vec<Pack>,
    /// Whether one pack holds all streams of covers, one after the other.
    pub joined: bool,
    /// Whether what comes out of the streams is inflated, and members are deflated to make the outputs of it.
    pub assembled: bool,
    /// Whether the literals of covers are code, in which distances have become places.
    pub code: bool,
}

impl Segment {
    /// How many streams it has.
    pub fn stream_count(&self) -> usize {
        let own = if self.method == Method::Cover { COVER_STREAMS } else { 1 };
        own + usize::from(self.assembled)
    }

    /// How many packs it has, by the lengths of its streams.
    pub fn pack_count(&self) -> usize {
        let separate = if self.joined { COVER_STREAMS.min(self.streams.len()) } else { 0 };
        let apart = self.streams[separate..].iter().filter(|length| **length > 0).count();
        apart + usize::from(self.joined)
    }

    /// Bytes that it makes.
    pub fn output_length(&self) -> u64 {
        self.outputs.iter().fold(0, |sum: u64, output| sum.saturating_add(output.length))
    }

    /// Bytes of the sources together.
    pub fn source_length(&self) -> u64 {
        self.sources.iter().fold(0, |sum: u64, source| sum.saturating_add(source.extent.length))
    }

    /// Packed bytes of the body.
    pub fn body_length(&self) -> u64 {
        self.packs.iter().fold(0, |sum: u64, pack| sum.saturating_add(pack.length))
    }
}

/// What a region of an old file holds, and so how its addresses are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// x86-64 instructions: 32-bit displacements of calls, jumps and operands relative to the instruction pointer.
    CodeX86,
    /// Aligned 64-bit words that are addresses.
    Words,
    /// Aligned 32-bit words relative to themselves that point into code.
    Relative,
    /// [`Rule::Words`] where the word is an address, otherwise [`Rule::Relative`].
    Mixed,
    /// The table of `.eh_frame_hdr`: 32-bit words relative to the start of the region.
    FrameTable,
    /// Type information of kernel modules (BTF): numbers of types, and, 2 to the 32 higher in the map, of strings.
    TypeNumbers,
    /// AArch64 instructions: calls, branches, and pairs of ADRP and ADD or a load.
    CodeArm64,
}

/// A part of a file that the system loads into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Where it stands in the file.
    pub offset: u64,
    /// Its address.
    pub address: u64,
    /// Bytes in memory that count as addresses of it.
    pub length: u64,
    /// Whether code is in it.
    pub code: bool,
}

/// A part of a file with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Where it stands in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Address of its first byte.
    pub address: u64,
    /// What it holds.
    pub rule: Rule,
}

/// A view of an old file: some of its members inflated, and then as if the targets of its addresses had moved to where
/// they are in a new file. Either may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relocation {
    /// Number of the old file.
    pub file: u32,
    /// What of the file is shown, in this order; if there is nothing here, all of it as it is.
    pub pieces: Vec<Part>,
    /// What is loaded, by address. Offsets, here and in regions, are those of what is shown.
    pub loads: Vec<Load>,
    /// What is rewritten, by offset.
    pub regions: Vec<Region>,
    /// From each address on, up to the next one, how far it moves. Views may share one. Empty if there are no regions.
    pub map: Arc<Vec<(u64, i64)>>,
}

impl Relocation {
    /// How many bytes it shows of a file of this length.
    pub fn length(&self, file: u64) -> u64 {
        if self.pieces.is_empty() {
            return file;
        }
        self.pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.shown()))
    }
}

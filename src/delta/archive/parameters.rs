//! What a deflater was told, and the search for it.

use super::assemble::MemberWriter;
use super::inflate::inflate;
use super::{ArchiveError, Member, ReadAt, Wrapper};
use crate::limits::ARCHIVE_CHUNK_BYTES;

/// The program whose search is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// zlib as released (1.2 and 1.3): Java, Python, libpng, and most else.
    Zlib,
    /// gzip, whose deflater is older: it ends blocks early where that may pay, and looks for matches beyond the end.
    Gzip,
    /// Info-ZIP: as gzip, but it does not look beyond the end.
    InfoZip,
}

/// What a deflater is told about its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nothing.
    Default,
    /// It has been filtered, as the lines of an image: short matches are useless.
    Filtered,
    /// No matches at all.
    HuffmanOnly,
    /// Repetitions of the last byte only.
    Rle,
    /// No codes made for the block.
    Fixed,
}

const STRATEGIES: [Strategy; 5] =
    [Strategy::Default, Strategy::Filtered, Strategy::HuffmanOnly, Strategy::Rle, Strategy::Fixed];

/// Everything that decides which bytes a deflater makes of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateParameters {
    family: Family,
    level: u8,
    strategy: Strategy,
    memory_level: u8,
    window_bits: u8,
}

impl DeflateParameters {
    /// zlib with what `deflateInit2` takes, or nothing if that is out of bounds: level 1-9, memory level 1-9, window
    /// bits 9-15.
    pub fn zlib(level: u8, strategy: Strategy, memory_level: u8, window_bits: u8) -> Option<Self> {
        let fine = (1..=9).contains(&level) && (1..=9).contains(&memory_level) && (9..=15).contains(&window_bits);
        fine.then_some(Self { family: Family::Zlib, level, strategy, memory_level, window_bits })
    }

    /// gzip at a level from 1 to 9.
    pub fn gzip(level: u8) -> Option<Self> {
        Self::old(Family::Gzip, level)
    }

    /// Info-ZIP at a level from 1 to 9.
    pub fn info_zip(level: u8) -> Option<Self> {
        Self::old(Family::InfoZip, level)
    }

    fn old(family: Family, level: u8) -> Option<Self> {
        let out = Self { family, level, strategy: Strategy::Default, memory_level: 9, window_bits: 15 };
        (1..=9).contains(&level).then_some(out)
    }

    /// The parameters in four bytes, as a package has them.
    pub fn to_bytes(self) -> [u8; 4] {
        let family = match self.family {
            Family::Zlib => 0,
            Family::Gzip => 1,
            Family::InfoZip => 2,
        };
        [family, self.level, self.strategy as u8, self.memory_level << 4 | self.window_bits]
    }

    /// What `to_bytes` made, or nothing.
    pub fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        let [family, level, strategy, sizes] = bytes;
        let strategy = *STRATEGIES.get(usize::from(strategy))?;
        let out = match family {
            0 => Self::zlib(level, strategy, sizes >> 4, sizes & 15),
            1 => Self::gzip(level),
            2 => Self::info_zip(level),
            _ => None,
        };
        out.filter(|out| out.to_bytes() == bytes)
    }

    /// The program whose search is repeated.
    pub fn family(self) -> Family {
        self.family
    }

    /// How hard it searches, from 1 to 9.
    pub fn level(self) -> u8 {
        self.level
    }

    /// What it is told about its input.
    pub fn strategy(self) -> Strategy {
        self.strategy
    }

    pub(super) fn window_bits(self) -> u32 {
        u32::from(self.window_bits)
    }

    pub(super) fn hash_bits(self) -> u32 {
        match self.family {
            Family::Zlib => u32::from(self.memory_level) + 7,
            Family::Gzip | Family::InfoZip => 15,
        }
    }

    /// Literals and matches that one block has room for, and one.
    pub(super) fn block_symbols(self) -> usize {
        1 << (u32::from(self.memory_level) + 6)
    }
}

/// Finds the parameters with which deflating the content of a member gives its bytes again, all of them, or nothing.
///
/// Most wrong ones differ in the first block, so that trying them costs little. `hints` are tried first: members of
/// one archive mostly have the same ones.
pub fn find_parameters(
    source: &dyn ReadAt,
    member: &Member,
    hints: &[DeflateParameters],
) -> Result<Option<DeflateParameters>, ArchiveError> {
    let candidates = candidates(&member.wrapper);
    let rest = candidates.iter().filter(|candidate| !hints.contains(candidate));
    for parameters in hints.iter().chain(rest) {
        if reproduces(source, member, *parameters)? {
            return Ok(Some(*parameters));
        }
    }
    Ok(None)
}

/// Does deflating give the bytes of the member?
pub fn reproduces(source: &dyn ReadAt, member: &Member, parameters: DeflateParameters) -> Result<bool, ArchiveError> {
    let mut made = Compared { source, offset: member.offset, left: member.len, buffer: Vec::new(), same: true };
    let mut writer = MemberWriter::new(member.wrapper, parameters, member.len);
    let mut out = Vec::new();
    inflate(source, member, &mut |content| {
        writer.write(content, &mut out);
        made.compare(&mut out)?;
        Ok(made.same)
    })?;
    if made.same {
        writer.finish(&mut out);
        made.compare(&mut out)?;
    }
    Ok(made.same && made.left == 0)
}

/// Bytes compared with a range of a file as they come.
struct Compared<'a> {
    source: &'a dyn ReadAt,
    offset: u64,
    left: u64,
    buffer: Vec<u8>,
    same: bool,
}

impl Compared<'_> {
    fn compare(&mut self, made: &mut Vec<u8>) -> Result<(), ArchiveError> {
        for made in made.chunks(ARCHIVE_CHUNK_BYTES) {
            if !self.same || made.len() as u64 > self.left {
                self.same = false;
                break;
            }
            self.buffer.resize(made.len(), 0);
            self.source.read_exact_at(self.offset, &mut self.buffer)?;
            self.same = self.buffer == made;
            self.offset += made.len() as u64;
            self.left -= made.len() as u64;
        }
        made.clear();
        Ok(())
    }
}

/// What is worth a try, the likely first.
fn candidates(wrapper: &Wrapper) -> Vec<DeflateParameters> {
    const LEVELS: [u8; 9] = [6, 9, 1, 8, 7, 5, 4, 3, 2];
    let mut out = Vec::new();
    let mut zlib = |strategies: &[Strategy], memory_levels: &[u8], window_bits: u8| {
        for memory_level in memory_levels {
            for strategy in strategies {
                for level in LEVELS {
                    out.extend(DeflateParameters::zlib(level, *strategy, *memory_level, window_bits));
                }
            }
        }
    };
    match wrapper {
        Wrapper::Png { zlib_header, .. } => {
            let window_bits = ((zlib_header[0] >> 4) + 8).clamp(9, 15);
            let likely = [Strategy::Filtered, Strategy::Default];
            zlib(&likely, &[8, 9], window_bits);
            zlib(&[Strategy::Rle, Strategy::HuffmanOnly, Strategy::Fixed], &[8, 9], window_bits);
            if window_bits < 15 {
                zlib(&likely, &[8, 9], 15);
            }
            zlib(&likely, &[7, 6, 5, 4, 3, 2, 1], window_bits);
        }
        Wrapper::Plain | Wrapper::Gzip => {
            zlib(&[Strategy::Default], &[8, 9], 15);
            let old = if *wrapper == Wrapper::Gzip { DeflateParameters::gzip } else { DeflateParameters::info_zip };
            out.extend(LEVELS.iter().filter_map(|level| old(*level)));
            let mut zlib = |strategies: &[Strategy], memory_levels: &[u8]| {
                for memory_level in memory_levels {
                    for strategy in strategies {
                        for level in [6, 9, 1] {
                            out.extend(DeflateParameters::zlib(level, *strategy, *memory_level, 15));
                        }
                    }
                }
            };
            zlib(&STRATEGIES[1..], &[8, 9]);
            zlib(&[Strategy::Default], &[7, 6, 5, 4, 3, 2, 1]);
        }
    }
    out
}

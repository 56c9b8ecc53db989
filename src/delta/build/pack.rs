//! Packing of streams: the smallest of what the level tries.

use super::Level;
use crate::delta::coder;
use crate::model::{Coder, Pack};
use liblzma::stream::{Action, Filters, LzmaOptions, MatchFinder, Mode, Status, Stream};
use std::io::Write as _;

/// Streams up to this length lose what follows the last byte that their decoder needs.
const TRIMMED: usize = 64 << 10;

/// A packed stream.
pub(super) struct Packed {
    pub(super) coder: Coder,
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    pub(super) fn pack(&self) -> Pack {
        Pack { coder: self.coder, length: self.bytes.len() as u64 }
    }
}

/// What a stream holds: which parameters are worth trying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Integers of variable length.
    Integers,
    /// Differences of bytes.
    Differences,
    /// Any content.
    Content,
}

/// Packs a stream.
pub(super) fn pack(bytes: &[u8], kind: Kind, level: Level, window_log: u8) -> Packed {
    let mut best = Packed { coder: Coder::Stored, bytes: bytes.to_vec() };
    let log = window(bytes.len(), window_log);
    let mut offer = |packed: Option<Packed>| {
        if let Some(packed) = packed {
            // Parameters take one or two bytes.
            if packed.bytes.len() + 2 < best.bytes.len() {
                best = packed;
            }
        }
    };
    if level == Level::Fast {
        offer(zstd(bytes, 3, log, None));
        return best;
    }
    let parameters: &[(u32, u32, u32)] = match (level, kind) {
        (Level::Best, Kind::Content) => &[(3, 0, 2), (4, 0, 0), (2, 2, 2)],
        (Level::Best, Kind::Integers) => &[(0, 0, 0), (1, 0, 0), (3, 0, 0), (4, 0, 0)],
        (Level::Best, Kind::Differences) => &[(3, 0, 2), (0, 0, 0), (4, 0, 0), (0, 2, 2)],
        (_, Kind::Content) => &[(3, 0, 2)],
        (_, Kind::Integers) => &[(1, 0, 0)],
        (_, Kind::Differences) => &[(0, 0, 0)],
    };
    for parameters in parameters {
        offer(lzma(bytes, *parameters, log, level));
    }
    best
}

/// The smallest window that holds all of it, within the bounds.
pub(super) fn window(length: usize, most: u8) -> u8 {
    let needed = (usize::BITS - length.saturating_sub(1).leading_zeros()) as u8;
    needed.clamp(12, most.max(12))
}

fn lzma(bytes: &[u8], (lc, lp, pb): (u32, u32, u32), log: u8, level: Level) -> Option<Packed> {
    let mut options = LzmaOptions::new_preset(if level == Level::Best { 9 } else { 6 }).ok()?;
    options.dict_size(1 << log).literal_context_bits(lc).literal_position_bits(lp).position_bits(pb);
    if level == Level::Best {
        options.mode(Mode::Normal).match_finder(MatchFinder::BinaryTree4).nice_len(273).depth(512);
    }
    let mut filters = Filters::new();
    filters.lzma1(&options);
    let mut stream = Stream::new_raw_encoder(&filters).ok()?;
    let mut out = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let read = stream.total_in() as usize;
        if stream.process_vec(&bytes[read..], &mut out, Action::Finish).ok()? == Status::StreamEnd {
            break;
        }
        if out.len() > bytes.len() + 64 {
            return None;
        }
        out.reserve(out.len() / 2 + 1024);
    }
    let coder = Coder::Lzma { properties: ((pb * 5 + lp) * 9 + lc) as u8, dictionary_log: log };
    if bytes.len() <= TRIMMED {
        // The end marker is not needed: the length is known.
        for length in out.len().saturating_sub(12)..out.len() {
            if coder::unpack(coder, &out[..length], bytes.len()).is_ok_and(|unpacked| unpacked == bytes) {
                out.truncate(length);
                break;
            }
        }
    }
    Some(Packed { coder, bytes: out })
}

/// A zstd frame, with history before it if there is any.
pub(super) fn zstd(bytes: &[u8], level: i32, log: u8, history: Option<&[u8]>) -> Option<Packed> {
    let mut encoder = match history {
        Some(history) => zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), level, history).ok()?,
        None => zstd::stream::write::Encoder::new(Vec::new(), level).ok()?,
    };
    encoder.window_log(u32::from(log)).ok()?;
    encoder.long_distance_matching(history.is_some()).ok()?;
    encoder.include_checksum(false).ok()?;
    encoder.include_contentsize(false).ok()?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64)).ok()?;
    encoder.write_all(bytes).ok()?;
    Some(Packed { coder: Coder::Zstd { window_log: log }, bytes: encoder.finish().ok()? })
}

/// LZMA2 with history before it.
pub(super) fn lzma_with_history(bytes: &[u8], history: &[u8], log: u8, level: Level) -> Option<Packed> {
    let mut options = lzma_rust2::LzmaOptions::with_preset(if level == Level::Best { 9 } else { 6 });
    (options.lc, options.lp, options.pb) = (4, 0, 0);
    options.dict_size = 1 << log;
    if level == Level::Best {
        options.nice_len = 273;
        options.depth_limit = 1000;
    }
    // A first chunk that does not empty the dictionary is right only where history has emptied it before.
    options.preset_dict = (!history.is_empty()).then(|| history.to_vec());
    let coder = Coder::Lzma { properties: ((options.pb * 5 + options.lp) * 9 + options.lc) as u8, dictionary_log: log };
    let mut writer = lzma_rust2::Lzma2Writer::new(
        Vec::new(),
        lzma_rust2::Lzma2Options { lzma_options: options, ..Default::default() },
    );
    writer.write_all(bytes).ok()?;
    Some(Packed { coder, bytes: writer.finish().ok()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The fuzzer found it: a new text that has no old one to follow was packed as if there were history before it, and
    /// no decoder read that.
    #[test]
    fn a_text_reads_back_with_history_and_without() {
        let text: String = (0..120).map(|number| format!("line {} of it\n", number * number % 89)).collect();
        for history in ["", "l", &text, &text.repeat(3)] {
            let log = window(text.len() + history.len(), 23);
            let fast = zstd(text.as_bytes(), 3, log, Some(history.as_bytes())).unwrap();
            let small = lzma_with_history(text.as_bytes(), history.as_bytes(), log, Level::Best).unwrap();
            for packed in [fast, small] {
                let length = text.len() as u64;
                let history = history.as_bytes();
                let mut unpacked = coder::Unpacked::with_history(packed.coder, &packed.bytes, length, history).unwrap();
                let mut made = vec![0; text.len()];
                unpacked.fill(&mut made).unwrap();
                assert_eq!(made, text.as_bytes(), "{:?} after {} bytes", packed.coder, history.len());
            }
        }
    }
}

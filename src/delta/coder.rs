//! Unpacking of streams, each with a bound on its memory and on its length.

use crate::delta::DeltaError;
use crate::model::Coder;
use liblzma::stream::{Filters, LzmaOptions, Stream};
use std::io::{self, BufRead, Read};

/// Bytes of the buffer between a coder and its reader.
const BUFFER: usize = 32 << 10;
/// Memory of an LZMA decoder besides its dictionary: its probabilities and state.
const LZMA_STATE: u64 = 64 << 10;
/// Memory of a zstd decoder besides its window: tables and one block.
const ZSTD_STATE: u64 = 512 << 10;

/// The unpacked bytes of one stream: never more than were promised.
pub(super) struct Unpacked<'a> {
    source: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes that the source still owes.
    left: u64,
}

/// Memory of the decoder of a stream, in bytes.
pub(super) fn memory(coder: Coder, length: u64) -> u64 {
    let buffer = length.min(BUFFER as u64);
    match coder {
        Coder::Stored => buffer,
        Coder::Zstd { window_log } => (1 << window_log.min(63)) + ZSTD_STATE + buffer,
        Coder::Lzma { dictionary_log, .. } => (1 << dictionary_log.min(63)) + LZMA_STATE + buffer,
    }
}

/// Unpacks a stream of `length` bytes at once. The caller has bounded the length.
pub fn unpack(coder: Coder, packed: &[u8], length: usize) -> Result<Vec<u8>, DeltaError> {
    let mut out = vec![0; length];
    let mut reader = Unpacked::new(coder, packed, length as u64)?;
    reader.fill(&mut out)?;
    Ok(out)
}

impl<'a> Unpacked<'a> {
    /// A stream of `length` bytes in `packed`.
    pub(super) fn new(coder: Coder, packed: &'a [u8], length: u64) -> Result<Self, DeltaError> {
        let source: Box<dyn Read + 'a> = match coder {
            Coder::Stored => Box::new(packed),
            Coder::Zstd { window_log } => Box::new(zstd_reader(packed, window_log).map_err(DeltaError::Unpack)?),
            Coder::Lzma { properties, dictionary_log } => {
                let mut filters = Filters::new();
                filters.lzma1(&lzma_options(properties, dictionary_log)?);
                let stream = Stream::new_raw_decoder(&filters).map_err(|error| DeltaError::Unpack(error.into()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
        };
        Ok(Self::over(source, length))
    }

    /// A stream of `length` bytes whose LZ coder has `history` before it.
    pub(super) fn with_history(
        coder: Coder,
        packed: &'a [u8],
        length: u64,
        history: &'a [u8],
    ) -> Result<Self, DeltaError> {
        let source: Box<dyn Read + 'a> = match coder {
            Coder::Stored => Box::new(packed),
            Coder::Zstd { window_log } => {
                let mut reader =
                    zstd::stream::read::Decoder::with_ref_prefix(packed, history).map_err(DeltaError::Unpack)?;
                zstd_limits(&mut reader, window_log).map_err(DeltaError::Unpack)?;
                Box::new(reader.single_frame())
            }
            Coder::Lzma { properties, dictionary_log } => {
                let mut filters = Filters::new();
                filters.lzma2(&lzma_options(properties, dictionary_log)?);
                let stream = Stream::new_raw_decoder(&filters).map_err(|error| DeltaError::Unpack(error.into()))?;
                let chunks = io::BufReader::new(HistoryChunks { history, at: 0, left: 0, header: [0; 3], head: 3 });
                let mut reader = liblzma::bufread::XzDecoder::new_stream(chunks.chain(packed), stream);
                skip(&mut reader, history.len() as u64).map_err(DeltaError::Unpack)?;
                Box::new(reader)
            }
        };
        Ok(Self::over(source, length))
    }

    /// Bytes that are there already.
    pub(super) fn plain(bytes: &'a [u8]) -> Self {
        Self::over(Box::new(bytes), bytes.len() as u64)
    }

    fn over(source: Box<dyn Read + 'a>, length: u64) -> Self {
        Self { source, buffer: Vec::new(), at: 0, left: length }
    }

    /// What is there next; empty at the end.
    pub(super) fn peek(&mut self) -> Result<&[u8], DeltaError> {
        if self.at == self.buffer.len() && self.left > 0 {
            let want = self.left.min(BUFFER as u64) as usize;
            self.buffer.resize(want, 0);
            self.source.read_exact(&mut self.buffer).map_err(DeltaError::Unpack)?;
            self.left -= want as u64;
            self.at = 0;
        }
        Ok(&self.buffer[self.at..])
    }

    /// Takes what [`Self::peek`] has shown.
    pub(super) fn take(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
    }

    /// Fills `out`.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), DeltaError> {
        while !out.is_empty() {
            let next = self.peek()?;
            let count = next.len().min(out.len());
            if count == 0 {
                return Err(DeltaError::Malformed("a stream ends too early"));
            }
            let (now, rest) = out.split_at_mut(count);
            now.copy_from_slice(&next[..count]);
            self.take(count);
            out = rest;
        }
        Ok(())
    }

    /// The next integer.
    pub(super) fn integer(&mut self) -> Result<u64, DeltaError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.peek()?.first().ok_or(DeltaError::Malformed("a stream ends too early"))?;
            self.take(1);
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DeltaError::Malformed("an integer is too large"))
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0 && self.at == self.buffer.len()
    }
}

/// Appends an integer: seven bits a byte, the lowest first.
#[cfg(any(test, feature = "publish"))]
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn lzma_options(properties: u8, dictionary_log: u8) -> Result<LzmaOptions, DeltaError> {
    let malformed = DeltaError::Malformed("parameters of an lzma stream");
    let properties = u32::from(properties);
    let (context, position_context, position) = (properties % 9, properties / 9 % 5, properties / 45);
    if context + position_context > 4 || position > 4 || !(10..=30).contains(&dictionary_log) {
        return Err(malformed);
    }
    let mut options = LzmaOptions::new_preset(0).map_err(|_| malformed)?;
    options.dict_size(1 << dictionary_log.max(12));
    options.literal_context_bits(context).literal_position_bits(position_context).position_bits(position);
    Ok(options)
}

fn zstd_reader(packed: &[u8], window_log: u8) -> io::Result<impl Read + '_> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(packed)?;
    zstd_limits(&mut reader, window_log)?;
    Ok(reader.single_frame())
}

fn zstd_limits<R: BufRead>(reader: &mut zstd::stream::read::Decoder<'_, R>, window_log: u8) -> io::Result<()> {
    reader.window_log_max(u32::from(window_log))
}

fn skip(reader: &mut impl Read, count: u64) -> io::Result<()> {
    let copied = io::copy(&mut reader.take(count), &mut io::sink())?;
    if copied == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The history as chunks of LZMA2 that are not packed: the decoder takes it into its dictionary.
struct HistoryChunks<'a> {
    history: &'a [u8],
    at: usize,
    /// Bytes of the chunk that are still to come.
    left: usize,
    header: [u8; 3],
    head: usize,
}

impl Read for HistoryChunks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.head == 3 {
            let length = (self.history.len() - self.at).min(1 << 16);
            if length == 0 {
                return Ok(0);
            }
            // The first chunk empties the dictionary.
            let [high, low] = ((length - 1) as u16).to_be_bytes();
            self.header = [if self.at == 0 { 1 } else { 2 }, high, low];
            (self.head, self.left) = (0, length);
        }
        if self.head < 3 {
            let count = out.len().min(3 - self.head);
            out[..count].copy_from_slice(&self.header[self.head..self.head + count]);
            self.head += count;
            return Ok(count);
        }
        let count = out.len().min(self.left);
        out[..count].copy_from_slice(&self.history[self.at..self.at + count]);
        self.at += count;
        self.left -= count;
        Ok(count)
    }
}

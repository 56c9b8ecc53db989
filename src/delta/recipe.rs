//! How the outputs of a segment are assembled from what its streams make: which bytes are raw, and which are members to
//! be deflated, and how.

use crate::delta::DeltaError;
use crate::delta::archive::{DeflateParameters, NewPart, Wrapper};
use crate::delta::coder::Unpacked;
#[cfg(any(test, feature = "publish"))]
use crate::delta::coder::put;
use crate::limits::PATCH_CONTENT;

/// Bytes that a member takes in a recipe at least.
const SHORTEST: u64 = 4;

/// Memory of a recipe of so many bytes.
pub(super) fn memory(length: u64) -> u64 {
    capacity(length).saturating_mul(size_of::<NewPart>() as u64)
}

/// Parts that it has at most: each member, what is before it, and what is at the end.
fn capacity(length: u64) -> u64 {
    length / SHORTEST * 2 + 1
}

/// Reads a recipe for outputs of so many bytes. Says also how many bytes the streams have to make for it.
pub(super) fn read(mut stream: Unpacked<'_>, length: u64, made: u64) -> Result<(Vec<NewPart>, u64), DeltaError> {
    let mut parts = Vec::with_capacity(capacity(length) as usize);
    let (mut left, mut content) = (made, made);
    let mut kind = None;
    while !stream.is_empty() {
        let raw = stream.integer()?;
        let len = stream.integer()?;
        let inflated_len = stream.integer()?;
        left = raw.checked_add(len).and_then(|used| left.checked_sub(used)).ok_or(TOO_LONG)?;
        content = (content - len).checked_add(inflated_len).filter(|all| *all <= PATCH_CONTENT).ok_or(TOO_LONG)?;
        kind = read_kind(&mut stream)?.or(kind);
        let Some((wrapper, parameters)) = kind else {
            return Err(DeltaError::Malformed("the first member is like none before"));
        };
        if raw > 0 {
            parts.push(NewPart::Raw { len: raw });
        }
        parts.push(NewPart::Deflated { len, inflated_len, wrapper, parameters });
    }
    if left > 0 {
        parts.push(NewPart::Raw { len: left });
    }
    Ok((parts, content))
}

const TOO_LONG: DeltaError = DeltaError::Malformed("members are longer than what is made");

/// Wrapper and parameters of a member; nothing if they are those of the member before.
fn read_kind(stream: &mut Unpacked<'_>) -> Result<Option<(Wrapper, DeflateParameters)>, DeltaError> {
    let mut bytes = [0; 4];
    stream.fill(&mut bytes[..1])?;
    let wrapper = match bytes[0] {
        0 => return Ok(None),
        1 => Wrapper::Plain,
        2 => Wrapper::Gzip,
        3 => {
            let mut zlib_header = [0; 2];
            stream.fill(&mut zlib_header)?;
            let chunk_bytes =
                u32::try_from(stream.integer()?).map_err(|_| DeltaError::Malformed("a chunk is too long"))?;
            Wrapper::Png { zlib_header, chunk_bytes }
        }
        _ => return Err(DeltaError::Malformed("no such wrapper")),
    };
    stream.fill(&mut bytes)?;
    let parameters = DeflateParameters::from_bytes(bytes).ok_or(DeltaError::Malformed("no such deflater"))?;
    Ok(Some((wrapper, parameters)))
}

/// The bytes of a recipe: members, each with the raw bytes before it.
#[cfg(any(test, feature = "publish"))]
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// Raw bytes that no member follows yet.
    raw: u64,
    kind: Option<(Wrapper, DeflateParameters)>,
}

#[cfg(any(test, feature = "publish"))]
impl Writer {
    pub(super) fn part(&mut self, part: &NewPart) {
        let (len, inflated_len, wrapper, parameters) = match part {
            NewPart::Raw { len } => {
                self.raw += len;
                return;
            }
            NewPart::Deflated { len, inflated_len, wrapper, parameters } => {
                (*len, *inflated_len, *wrapper, *parameters)
            }
        };
        for value in [std::mem::take(&mut self.raw), len, inflated_len] {
            put(value, &mut self.bytes);
        }
        if self.kind == Some((wrapper, parameters)) {
            self.bytes.push(0);
            return;
        }
        self.kind = Some((wrapper, parameters));
        match wrapper {
            Wrapper::Plain => self.bytes.push(1),
            Wrapper::Gzip => self.bytes.push(2),
            Wrapper::Png { zlib_header, chunk_bytes } => {
                self.bytes.push(3);
                self.bytes.extend_from_slice(&zlib_header);
                put(u64::from(chunk_bytes), &mut self.bytes);
            }
        }
        self.bytes.extend_from_slice(&parameters.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::archive::{Part, Strategy};

    fn member(len: u64, inflated_len: u64, wrapper: Wrapper, level: u8) -> NewPart {
        let parameters = DeflateParameters::zlib(level, Strategy::Default, 8, 15).unwrap();
        NewPart::Deflated { len, inflated_len, wrapper, parameters }
    }

    fn written(parts: &[NewPart]) -> Vec<u8> {
        let mut writer = Writer::default();
        parts.iter().for_each(|part| writer.part(part));
        writer.bytes
    }

    fn read_back(bytes: &[u8], made: u64) -> Result<(Vec<NewPart>, u64), DeltaError> {
        read(Unpacked::plain(bytes), bytes.len() as u64, made)
    }

    #[test]
    fn recipes_read_back_and_say_how_much_content_they_take() {
        let png = Wrapper::Png { zlib_header: [0x78, 0x9C], chunk_bytes: 8192 };
        let parts = [
            NewPart::Raw { len: 30 },
            member(100, 500, Wrapper::Plain, 6),
            member(7, 9, Wrapper::Plain, 6),
            NewPart::Raw { len: 300 },
            member(40, 10, png, 9),
            member(41, 11, Wrapper::Gzip, 9),
            NewPart::Raw { len: 5 },
        ];
        let bytes = written(&parts);
        let all = 30 + 100 + 7 + 300 + 40 + 41 + 5;
        assert_eq!(read_back(&bytes, all).unwrap(), (parts.to_vec(), 30 + 500 + 9 + 300 + 10 + 11 + 5));
        assert_eq!(bytes[..9], [30, 100, 0xF4, 3, 1, 0, 6, 0, 0x8F]);
        assert_eq!(bytes[9..13], [0, 7, 9, 0], "the second member is like the first");
        assert!(read_back(&bytes, all - 6).is_err(), "more than is made");
        for cut in 1..bytes.len() {
            if let Ok((fewer, _)) = read_back(&bytes[..cut], all) {
                assert!(fewer.len() < parts.len(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn lies_are_refused() {
        let much = [member(10, PATCH_CONTENT, Wrapper::Plain, 6), NewPart::Raw { len: 1 }];
        assert!(read_back(&written(&much), 11).is_err());
        assert!(read_back(&written(&much), 10).is_ok());
        let endless = [member(u64::MAX, 1, Wrapper::Plain, 6)];
        assert!(read_back(&written(&endless), 100).is_err());
        assert!(read_back(&[0, 1, 1, 0], 100).is_err(), "no member before");
        assert!(read_back(&[0, 1, 1, 4, 0, 6, 0, 0x8F], 100).is_err(), "no such wrapper");
        assert!(read_back(&[0, 1, 1, 1, 3, 6, 0, 0x8F], 100).is_err(), "no such family");
        assert!(read_back(&[0, 1, 1, 1, 0, 6, 0, 0x8F], 100).is_ok());
    }

    #[test]
    fn the_stated_memory_is_that_of_the_parts() {
        assert!(size_of::<NewPart>() <= 32 && size_of::<Part>() <= 48);
        // The shortest members there are, each with a byte before it.
        let parts: Vec<NewPart> =
            (0..1000).flat_map(|_| [NewPart::Raw { len: 1 }, member(1, 1, Wrapper::Plain, 6)]).collect();
        let bytes = written(&parts);
        let (read, _) = read_back(&bytes, 2000).unwrap();
        assert_eq!(read, parts);
        assert!(read.capacity() as u64 * 32 <= memory(bytes.len() as u64));
        assert!(memory(bytes.len() as u64) <= 16 * bytes.len() as u64 + 32);
    }
}

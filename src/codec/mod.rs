//! Bytes and nothing but: every layout that surefoot writes to a disk or into a package.
//!
//! [`v1`] holds the wire types of format 1, which never change: their field and variant order *is* the format
//! (`docs/formats/`). [`frame`] is the layout of the journal file, [`segment`] that of
//! a patch, [`canonical_json`] what signatures of repositories are made over. This is the only folder that names
//! `bincode`.

pub mod canonical_json;
pub mod frame;
pub mod segment;
pub mod v1;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Why bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early or hold a value that the type does not have.
    #[error("malformed: {0}")]
    Malformed(String),
    /// More bytes follow than the value takes.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A value breaks a rule: what, and how.
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
}

impl DecodeError {
    /// A value that breaks a rule.
    pub fn invalid(what: &'static str, why: impl ToString) -> Self {
        Self::Invalid(what, why.to_string())
    }
}

/// The encoding of every wire type: little-endian, integers of fixed size, lengths as `u64`, variants as `u32`.
///
/// The limit bounds what one decode call may claim to allocate; lengths are checked against it before memory is taken.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<{ 2 << 30 }>()
}

/// The encoding of what goes over the wire and not onto a disk: as above, but an integer takes one byte if it is below
/// 251, and lengths and variants are such integers.
fn compact_config() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_limit::<{ 2 << 30 }>()
}

/// The bytes of a wire value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends the bytes of a wire value.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let result = bincode::serde::encode_into_std_write(value, out, config());
    debug_assert!(result.is_ok(), "wire types hold nothing that cannot be encoded");
}

/// How many bytes a wire value has.
pub fn length<T: Serialize>(value: &T) -> u64 {
    let result = bincode::serde::encode_into_std_write(value, &mut std::io::sink(), config());
    debug_assert!(result.is_ok(), "wire types hold nothing that cannot be encoded");
    result.map_or(0, |length| length as u64)
}

/// Reads a wire value that takes all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = decode_prefix(bytes)?;
    if used == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing(bytes.len() - used)) }
}

/// Reads a wire value from the front of `bytes`, and how many bytes it took.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(bytes, config()).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// The compact bytes of a wire value.
pub fn encode_compact<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let result = bincode::serde::encode_into_std_write(value, &mut out, compact_config());
    debug_assert!(result.is_ok(), "wire types hold nothing that cannot be encoded");
    out
}

/// Reads a wire value that takes all of `bytes`, and of which these are the only compact spelling: an integer that is
/// written longer than it need be is refused.
pub fn decode_compact<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, compact_config())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if used != bytes.len() {
        return Err(DecodeError::Trailing(bytes.len() - used));
    }
    let mut rest = Compare(bytes);
    match bincode::serde::encode_into_std_write(&value, &mut rest, compact_config()) {
        Ok(_) if rest.0.is_empty() => Ok(value),
        _ => Err(DecodeError::invalid("an integer", "longer than it need be")),
    }
}

/// Takes the bytes that it holds and no others.
struct Compare<'a>(&'a [u8]);

impl std::io::Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a text, byte by byte: a length that lies takes no memory.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::from_utf8(Vec::deserialize(from)?).map_err(D::Error::custom)
}

/// Reads a text that may not be there.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<Vec<u8>>::deserialize(from)?.map(|bytes| String::from_utf8(bytes).map_err(D::Error::custom)).transpose()
}

/// Reads a list of at most `MOST`: its elements may take far more memory than bytes.
pub(crate) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut out = Vec::new();
            while let Some(element) = list.next_element()? {
                if out.len() == MOST {
                    return Err(A::Error::custom(format_args!("a list of more than {MOST}")));
                }
                out.push(element);
            }
            Ok(out)
        }
    }

    from.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Few {
        #[serde(deserialize_with = "at_most::<_, _, 3>")]
        list: Vec<(u8, Option<u64>)>,
        #[serde(deserialize_with = "text")]
        text: String,
        #[serde(deserialize_with = "optional_text")]
        more: Option<String>,
    }

    fn few(count: u8) -> Few {
        Few { list: (0..count).map(|n| (n, None)).collect(), text: "text".into(), more: Some("more".into()) }
    }

    /// A list of more elements than allowed once took as much memory as its elements, and a text as much as it said.
    #[test]
    fn lists_and_texts_take_no_more_memory_than_they_may() {
        for count in 0..6 {
            let value = few(count);
            let read = (decode_compact::<Few>(&encode_compact(&value)), decode::<Few>(&encode(&value)));
            if count <= 3 {
                assert_eq!(read, (Ok(few(count)), Ok(value)));
            } else {
                assert!(matches!(read, (Err(DecodeError::Malformed(_)), Err(DecodeError::Malformed(_)))), "{read:?}");
            }
        }
        let mut bytes = encode(&few(0));
        bytes[8..16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Few>(&bytes), Err(DecodeError::Malformed(_))));
        let mut bytes = encode(&few(0));
        bytes[16] = 0xFF;
        assert!(matches!(decode::<Few>(&bytes), Err(DecodeError::Malformed(_))), "not UTF-8");
    }
}

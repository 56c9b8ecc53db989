//! A new file as it is compared: raw ranges, and those members inflated for which that pays.

use super::{ArchiveError, DeflateParameters, Member, MemberSet, Part, ReadAt, Wrapper, find_parameters, inflate};
use crate::limits::ARCHIVE_CHUNK_BYTES;

/// A piece of a new file, as a package describes it. The pieces are in order and without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPart {
    /// Bytes as they are.
    Raw {
        /// How many.
        len: u64,
    },
    /// A member that is made of its inflated content.
    Deflated {
        /// Its length in the file.
        len: u64,
        /// The length of its content.
        inflated_len: u64,
        /// What is made around the stream.
        wrapper: Wrapper,
        /// How the stream is made.
        parameters: DeflateParameters,
    },
}

/// Decides which members of a new file are inflated: those that are not `unchanged`, and that are proved to come out
/// the same when they are deflated again.
pub fn prepare(source: &dyn ReadAt, parts: &[Part], unchanged: &MemberSet) -> Result<Vec<NewPart>, ArchiveError> {
    let mut out = Vec::new();
    let mut hints = Vec::new();
    for part in parts {
        let found = match part {
            Part::Deflated(member) if !unchanged.contains(source, member)? => found(source, member, &hints)?,
            _ => None,
        };
        match (found, part) {
            (Some(parameters), Part::Deflated(member)) => {
                hints.retain(|hint| *hint != parameters);
                hints.insert(0, parameters);
                let Member { len, inflated_len, wrapper, .. } = *member;
                out.push(NewPart::Deflated { len, inflated_len, wrapper, parameters });
            }
            _ => match out.last_mut() {
                Some(NewPart::Raw { len }) => *len += part.len(),
                _ => out.push(NewPart::Raw { len: part.len() }),
            },
        }
    }
    Ok(out)
}

/// The parameters of a member; none too if it does not even inflate.
fn found(
    source: &dyn ReadAt,
    member: &Member,
    hints: &[DeflateParameters],
) -> Result<Option<DeflateParameters>, ArchiveError> {
    match find_parameters(source, member, hints) {
        Err(ArchiveError::Inflate { .. }) => Ok(None),
        found => found,
    }
}

/// Reads a new file as it is compared, in order and in pieces: what an `Assembler` of the same parts takes.
pub fn inflated(
    source: &dyn ReadAt,
    parts: &[NewPart],
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut offset = 0;
    for part in parts {
        let end = match part {
            NewPart::Raw { len } => {
                let mut buffer = Vec::new();
                let (mut at, mut left) = (offset, *len);
                while left > 0 {
                    let piece = left.min(ARCHIVE_CHUNK_BYTES as u64);
                    buffer.resize(piece as usize, 0);
                    source.read_exact_at(at, &mut buffer)?;
                    sink(&buffer)?;
                    at += piece;
                    left -= piece;
                }
                at
            }
            NewPart::Deflated { len, inflated_len, wrapper, .. } => {
                let member = Member { offset, len: *len, inflated_len: *inflated_len, wrapper: *wrapper };
                inflate(source, &member, &mut |content| sink(content).map(|()| true))?;
                offset + len
            }
        };
        offset = end;
    }
    Ok(())
}

//! `Bundle`: a repository in one file, and who brings what is in it.
//!
//! A bundle is a tar archive of the folder of a repository, so any tar unpacks it. What is in it is believed as what a
//! server gives: not at all, before it is verified.

use super::local::part_of;
use super::{Carrier, Failure, FetchError, Request, Response};
use crate::limits;
use crate::vfs::OsFiles;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tar::Header;

const BLOCK: u64 = 512;

/// A bundle on this machine. Addresses are the paths in it.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    members: BTreeMap<String, Member>,
}

/// Where a file of a bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

impl Bundle {
    /// Reads what is in the bundle at a path: the headers, nothing else.
    pub fn open(path: &Path) -> Result<Self, FetchError> {
        let bad = |why: String| FetchError::Bundle(path.display().to_string(), why);
        let mut file = OsFiles.open_file(path).map_err(|error| bad(error.to_string()))?;
        let members = bundle_members(&mut file).map_err(bad)?;
        Ok(Self { path: path.into(), members })
    }
}

impl Carrier for Bundle {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let member = self.members.get(&request.address);
        let Member { start, length } = *member.ok_or(Failure::Status { status: 404, retry_after: None })?;
        let failed = |error: io::Error| Failure::Connection(format!("{}: {error}", self.path.display()));
        let file = OsFiles.open_file(&self.path).map_err(failed)?;
        part_of(file, (start, length), request).map_err(failed)
    }

    fn lacks(&self, address: &str) -> bool {
        !self.members.contains_key(address)
    }
}

/// The files of a tar archive, by their paths.
pub fn bundle_members(read: &mut (impl Read + Seek)) -> Result<BTreeMap<String, Member>, String> {
    let failed = |error: io::Error| format!("reading failed: {error}");
    let end = read.seek(SeekFrom::End(0)).map_err(failed)?;
    let (mut at, mut long) = (0_u64, None);
    let mut members = BTreeMap::new();
    loop {
        if end.saturating_sub(at) < BLOCK {
            return Err("it ends too early".into());
        }
        read.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut header = Header::new_old();
        read.read_exact(header.as_mut_bytes()).map_err(failed)?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        if header.cksum().ok() != Some(checksum(&header)) {
            return Err("it is no tar archive, or damaged".into());
        }
        let length = header.entry_size().map_err(|_| "a header without a size")?;
        let start = at + BLOCK;
        let padded = length.checked_next_multiple_of(BLOCK);
        at = padded.and_then(|padded| start.checked_add(padded)).filter(|at| *at <= end).ok_or("it ends too early")?;
        let name = long.take().unwrap_or_else(|| header.path_bytes().into_owned());
        match header.entry_type().as_byte() {
            b'5' if length == 0 => {}
            // What follows has this name, which is too long for its header.
            b'L' if length <= limits::TARGET_PATH_BYTES as u64 + BLOCK => {
                let mut bytes = vec![0; length as usize];
                read.read_exact(&mut bytes).map_err(failed)?;
                bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
                long = Some(bytes);
            }
            b'0' | 0 => {
                let name = String::from_utf8(name).map_err(|_| "a name that is no text")?;
                let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
                if members.len() >= limits::BUNDLE_FILES {
                    return Err(format!("it holds more than {} files", limits::BUNDLE_FILES));
                }
                if members.insert(name, Member { start, length }).is_some() {
                    return Err("two files of one name".into());
                }
            }
            _ => return Err(format!("{:?} is no file", String::from_utf8_lossy(&name))),
        }
    }
}

/// Over the header with spaces in the place of its checksum.
fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes().iter().enumerate();
    bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        let mut out = [header.as_bytes(), content].concat();
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        out
    }

    fn read(parts: &[Vec<u8>]) -> Result<BTreeMap<String, Member>, String> {
        bundle_members(&mut Cursor::new([&parts.concat()[..], &[0; 1024]].concat()))
    }

    #[test]
    fn files_are_found_by_their_names_and_nothing_else_is_taken() {
        let long = "t/".repeat(60) + "name";
        let good = [
            member(b"./metadata/", b'5', b""),
            member(b"./metadata/timestamp.json", b'0', b"{}"),
            member(b"x", b'L', format!("{long}\0").as_bytes()),
            member(b"cut off", b'0', &[1; 600]),
        ];
        let members = read(&good).unwrap();
        let one = Member { start: 1024, length: 2 };
        let other = Member { start: 1024 + 512 + 1024 + 512, length: 600 };
        assert_eq!(members, BTreeMap::from([("metadata/timestamp.json".into(), one), (long, other)]));
        assert_eq!(read(&[]), Ok(BTreeMap::new()));
        for (bad, word) in [
            (vec![member(b"a", b'0', b""), member(b"./a", b'0', b"")], "two files"),
            (vec![member(b"a", b'2', b"")], "no file"),
            (vec![member(b"a", b'5', b"x")], "no file"),
            (vec![member(b"a", b'L', &[1; 4000])], "no file"),
            (vec![member(b"\xff", b'0', b"")], "no text"),
            (vec![vec![1; 512]], "no tar archive"),
        ] {
            assert!(read(&bad).unwrap_err().contains(word), "{word}");
        }
        let whole = [good.concat(), vec![0; 512]].concat();
        for cut in 0..whole.len() - 1 {
            assert!(bundle_members(&mut Cursor::new(&whole[..cut])).is_err(), "{cut}");
        }
        let mut huge = Header::new_gnu();
        huge.set_size(u64::MAX);
        huge.set_cksum();
        assert!(read(&[huge.as_bytes().to_vec()]).unwrap_err().contains("too early"));
    }
}

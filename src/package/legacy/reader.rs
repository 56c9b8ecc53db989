//! Reading a tar.gz package, member by member.

use super::blocks::{Blocks, damaged, padding};
use super::structure::{Seen, Structure};
use super::{IMPLIED_MODE, LegacyError, MODE};
use crate::limits;
use crate::model::{Operations, PatchOperations, TreePath};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use tar::Header;

/// One thing that a package holds.
#[derive(Debug)]
pub struct Member<'a> {
    /// Where it belongs.
    pub path: TreePath,
    /// Permission bits, without setuid, setgid and sticky; `0o777` for a link.
    pub mode: u32,
    /// What it is.
    pub kind: MemberKind<'a>,
}

/// The type of a member, and its content.
pub enum MemberKind<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Gives exactly that many bytes, or an error. What is not read is passed over.
        content: &'a mut dyn Read,
    },
    /// A symbolic link, only ever inside a directory that is replaced as a whole.
    Symlink {
        /// What it points to; not followed, not checked.
        target: Box<[u8]>,
    },
}

/// Reads a package to its very end and hands over what it holds, in the order of the archive.
///
/// Every member is checked against the operations before it is handed over, and the package as a whole at the end: so
/// nothing that `take` was given counts before this returns well. A directory may come after what is inside it;
/// directories that the archive only implies come last. Directories on the way to something listed are not handed
/// over. `limit` bounds the bytes that are unpacked, headers and padding of the archive included.
pub fn read_members<E: From<LegacyError>>(
    read: impl Read,
    operations: &Operations,
    limit: u64,
    take: &mut dyn FnMut(Member<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut blocks = Blocks::new(read, limit);
    let mut structure = Structure::new(operations);
    while let Some(Raw { name, size, mode, kind, target }) = next(&mut blocks)? {
        let path = tree_path(&name, kind)?;
        let part = structure.admit(&path, kind)?;
        let kind = match kind {
            Seen::File => {
                blocks.check_size(size)?;
                let mut content = Content { blocks: &mut blocks, left: size, failed: None };
                let taken = take(Member { path, mode, kind: MemberKind::File { size, content: &mut content } });
                let Content { left, failed, .. } = content;
                // What went wrong here goes before what the caller made of it.
                if let Some(error) = failed {
                    return Err(error.into());
                }
                taken?;
                blocks.skip(left)?;
                blocks.skip(padding(size))?;
                continue;
            }
            Seen::Symlink => MemberKind::Symlink { target: link_target(target, &path)? },
            Seen::Directory | Seen::Implied => MemberKind::Directory,
        };
        if part {
            take(Member { path, mode, kind })?;
        }
    }
    for path in structure.finish()? {
        take(Member { path, mode: IMPLIED_MODE, kind: MemberKind::Directory })?;
    }
    Ok(())
}

/// The operations of an archive that nobody lists operations for: everything at its top replaces what is there under the
/// same name, and everything else stays. It is read to its end.
pub fn list_top(read: impl Read, limit: u64) -> Result<PatchOperations, LegacyError> {
    let mut blocks = Blocks::new(read, limit);
    let mut top: BTreeMap<TreePath, Seen> = BTreeMap::new();
    while let Some(Raw { name, size, kind, .. }) = next(&mut blocks)? {
        let path = tree_path(&name, kind)?;
        if let Some(first) = path.components().next() {
            let first = TreePath::parse(first).map_err(LegacyError::Path)?;
            let kind = if first == path { kind } else { Seen::Directory };
            if kind == Seen::Symlink {
                return Err(LegacyError::Unsupported { path: shown(&name), what: "a symbolic link at its top" });
            }
            top.insert(first, kind);
            if top.len() > limits::OPERATIONS {
                return Err(LegacyError::TooMany);
            }
        }
        if kind == Seen::File {
            blocks.check_size(size)?;
            blocks.skip(size)?;
            blocks.skip(padding(size))?;
        }
    }
    let mut operations = PatchOperations::default();
    for (path, kind) in &top {
        let list = match kind {
            Seen::File => &mut operations.replace.files,
            _ => &mut operations.replace.directories,
        };
        list.push(text(path)?);
    }
    Ok(operations)
}

fn text(path: &TreePath) -> Result<String, LegacyError> {
    let not_text = || damaged(format!("the name {path} at its top is not text"));
    std::str::from_utf8(path.as_bytes()).map(str::to_owned).map_err(|_| not_text())
}

/// A member as the archive describes it.
struct Raw {
    name: Vec<u8>,
    size: u64,
    mode: u32,
    kind: Seen,
    target: Vec<u8>,
}

/// What extended headers say about the member that follows them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

/// The next member, with its extended headers put in; nothing at the end of the archive.
fn next<R: Read>(blocks: &mut Blocks<R>) -> Result<Option<Raw>, LegacyError> {
    let mut extended = Extended::default();
    while let Some(header) = blocks.header()? {
        let size = header.entry_size().map_err(|_| damaged("a header without a size"))?;
        let kind = match header.entry_type().as_byte() {
            b'L' => {
                set(&mut extended.name, without_nul(blocks.extended(size)?))?;
                continue;
            }
            b'K' => {
                set(&mut extended.target, without_nul(blocks.extended(size)?))?;
                continue;
            }
            b'x' => {
                read_pax(&blocks.extended(size)?, &mut extended)?;
                continue;
            }
            b'g' => {
                let mut global = Extended::default();
                read_pax(&blocks.extended(size)?, &mut global)?;
                if global.name.is_some() || global.target.is_some() || global.size.is_some() {
                    return Err(damaged("a global header that names a member"));
                }
                continue;
            }
            b'0' | 0 | b'7' => Ok(Seen::File),
            b'5' => Ok(Seen::Directory),
            b'2' => Ok(Seen::Symlink),
            b'1' => Err("a hard link"),
            b'3' | b'4' => Err("a device"),
            b'6' => Err("a pipe"),
            b'S' => Err("a sparse file of an old kind"),
            _ => Err("something unknown"),
        };
        let name = extended.name.take().unwrap_or_else(|| header_name(&header));
        let kind = kind.map_err(|what| LegacyError::Unsupported { path: shown(&name), what })?;
        let size = extended.size.unwrap_or(size);
        if kind != Seen::File && size != 0 {
            return Err(damaged(format!("{:?} has content but is no file", shown(&name))));
        }
        let mode = match kind {
            Seen::Symlink => MODE,
            _ => header.mode().map_err(|_| damaged("a header without a mode"))? & MODE,
        };
        let target = extended.target.take().unwrap_or_else(|| cut(&header.as_old().linkname).to_vec());
        return Ok(Some(Raw { name, size, mode, kind, target }));
    }
    let dangling = extended.name.is_some() || extended.target.is_some() || extended.size.is_some();
    if dangling { Err(damaged("an extended header without a member")) } else { Ok(None) }
}

/// Reads the records `length key=value\n`; those that say nothing about name, target or size are passed over.
fn read_pax(mut rest: &[u8], extended: &mut Extended) -> Result<(), LegacyError> {
    let malformed = || damaged("a malformed extended header");
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = decimal(&rest[..digits]).ok_or_else(malformed)?;
        let (record, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
        let record = record.get(digits..).and_then(|record| record.strip_prefix(b" "));
        let record = record.and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => set(&mut extended.name, value.to_vec())?,
            b"linkpath" => set(&mut extended.target, value.to_vec())?,
            b"size" => set(&mut extended.size, decimal(value).ok_or_else(malformed)?)?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(damaged("a sparse file: build the archive without --sparse"));
            }
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), LegacyError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged("two extended headers that say the same of one member")),
    }
}

fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
}

/// The name that fits into the header itself.
fn header_name(header: &Header) -> Vec<u8> {
    let name = cut(&header.as_old().name);
    match header.as_ustar().map(|ustar| cut(&ustar.prefix)) {
        Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

/// A field up to its NUL, if it has one.
fn cut(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// The data of a long name: some writers end it with a NUL.
fn without_nul(mut data: Vec<u8>) -> Vec<u8> {
    if data.last() == Some(&0) {
        data.pop();
    }
    data
}

/// Strict but for `./` before everything and the slash after a directory, which tar itself writes.
fn tree_path(name: &[u8], kind: Seen) -> Result<TreePath, LegacyError> {
    let mut path = name;
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    if kind == Seen::Directory {
        path = match path.strip_suffix(b"/") {
            Some(rest) if !rest.is_empty() => rest,
            _ => path,
        };
        if path == b"." {
            path = b"";
        }
    }
    if name.is_empty() {
        return Err(damaged("a member without a name"));
    }
    TreePath::parse(path).map_err(LegacyError::Path)
}

fn link_target(target: Vec<u8>, path: &TreePath) -> Result<Box<[u8]>, LegacyError> {
    if target.is_empty() || target.len() > limits::LINK_TARGET_BYTES || target.contains(&0) {
        return Err(LegacyError::Target(path.clone()));
    }
    Ok(target.into())
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

/// The content of one file.
struct Content<'a, R> {
    blocks: &'a mut Blocks<R>,
    left: u64,
    failed: Option<LegacyError>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        if self.failed.is_none() {
            match self.blocks.some(&mut buffer[..most]) {
                Ok(length) => {
                    self.left -= length as u64;
                    return Ok(length);
                }
                Err(error) => self.failed = Some(error),
            }
        }
        Err(io::Error::other("the package cannot be read"))
    }
}

impl fmt::Debug for MemberKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("Directory"),
            Self::File { size, .. } => write!(f, "File({size})"),
            Self::Symlink { target } => write!(f, "Symlink({})", target.escape_ascii()),
        }
    }
}

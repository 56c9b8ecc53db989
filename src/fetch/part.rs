//! What is here of a content, on the disk: the bytes, and beside them what remembers which of them arrived.
//!
//! Nothing is believed that the bytes do not prove again when a download goes on: see [`crate::codec::v1::Download`].

use super::{Finished, Resume, Wanted};
use crate::codec::v1;
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::vfs::{Access, FileType, IoError, Place, Vfs};
use std::collections::BTreeSet;

const PIECE: u64 = limits::DOWNLOAD_PIECE;

/// The two files of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The bytes, each at its place.
    pub content: Place,
    /// Which of them are here.
    pub memory: Place,
}

/// A download that waits to go on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// What it is.
    pub label: String,
    /// How many bytes arrived.
    pub done: u64,
    /// How many there are; nothing if that is not known yet.
    pub total: Option<u64>,
}

/// What is here of a content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// So many bytes.
    pub bytes: u64,
    /// The numbers of the pieces of [`limits::DOWNLOAD_PIECE`] bytes that these are.
    pub pieces: BTreeSet<u64>,
}

/// The two files, open.
pub(super) struct Part<'v, V: Vfs> {
    vfs: &'v V,
    files: Files,
    content: V::File,
    memory: V::File,
    header: v1::Download,
    /// Their names are not durable yet.
    new: bool,
    dirty: bool,
}

impl<'v, V: Vfs> Part<'v, V> {
    /// Opens what an earlier run left, and tells `resume` what of it is good; or begins anew.
    pub(super) fn open(vfs: &'v V, files: &Files, resume: &mut Resume) -> Result<Self, IoError> {
        let here = |at: &Place| Ok(vfs.stat(at)?.is_some_and(|stat| stat.kind == FileType::File));
        if here(&files.content)? && here(&files.memory)? {
            let content = vfs.open(&files.content, Access::Write)?;
            let memory = vfs.open(&files.memory, Access::Write)?;
            let block = read_up_to(vfs, &memory, 0, limits::DOWNLOAD_HEADER)?;
            if let Some(header) = v1::Download::decode_block(&block).ok().filter(|it| is_of(it, resume.wanted())) {
                // Names that an earlier run made may not be durable either.
                let mut part = Self { vfs, files: files.clone(), content, memory, header, new: true, dirty: false };
                part.believe(resume)?;
                return Ok(part);
            }
        }
        remove(vfs, files)?;
        let content = vfs.create(&files.content)?;
        let memory = vfs.create(&files.memory)?;
        let header = header(vfs, resume)?;
        vfs.write_at(&memory, 0, &header.encode_block())?;
        Ok(Self { vfs, files: files.clone(), content, memory, header, new: true, dirty: true })
    }

    /// Looks at every piece that is remembered, and holds those that are what they were.
    fn believe(&mut self, resume: &mut Resume) -> Result<(), IoError> {
        let addresses = &resume.wanted().addresses;
        let owner = addresses.iter().position(|address| Digest::of(address.as_bytes()).0 == self.header.address);
        resume.remember(self.header.length, owner, self.header.tag.clone());
        let mut buffer = vec![0; PIECE as usize];
        let chunk = limits::COPY_BUFFER / v1::DOWNLOAD_ENTRY * v1::DOWNLOAD_ENTRY;
        let mut number = 0;
        'all: loop {
            let entries = read_up_to(self.vfs, &self.memory, v1::Download::entry_offset(number), chunk)?;
            for entry in entries.chunks_exact(v1::DOWNLOAD_ENTRY) {
                if number >= limits::DOWNLOAD_BYTES / PIECE {
                    break 'all;
                }
                if let Some(checksum) = self.header.checksum(number, entry) {
                    let start = number * PIECE;
                    let length = resume.length().map_or(PIECE, |length| length.saturating_sub(start).min(PIECE));
                    let bytes = &mut buffer[..length as usize];
                    let got = fill(self.vfs, &self.content, start, bytes)?;
                    if got as u64 == length && length > 0 && crc32c::crc32c(bytes) == checksum {
                        resume.hold(number);
                    } else {
                        // Whoever asks what is here before the next download goes on is not told of it again.
                        self.forget((start, start + PIECE))?;
                    }
                }
                number += 1;
            }
            if entries.len() < chunk {
                break;
            }
        }
        // What is published about blocks goes before what was remembered.
        for block in 0..resume.wanted().block_count() {
            let Some(range) = resume.due(block) else { continue };
            if self.block_is_good(resume.wanted(), block, range)? {
                let _ = resume.block(block, true);
            } else {
                resume.drop_block(block);
                self.forget(range)?;
            }
        }
        Ok(())
    }

    /// Nothing that is here is of use: what comes next is another content.
    pub(super) fn begin(&mut self, resume: &Resume) -> Result<(), IoError> {
        self.header = header(self.vfs, resume)?;
        // A new nonce, so whatever survives of the old pieces is not believed.
        self.vfs.write_at(&self.memory, 0, &self.header.encode_block())?;
        self.vfs.set_len(&self.content, 0)?;
        self.dirty = true;
        Ok(())
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.dirty = true;
        self.vfs.write_at(&self.content, at, bytes)
    }

    pub(super) fn remember(&mut self, finished: Finished) -> Result<(), IoError> {
        let entry = self.header.entry(finished.piece, finished.checksum);
        self.vfs.write_at(&self.memory, v1::Download::entry_offset(finished.piece), &entry)
    }

    /// What is here is not of use.
    pub(super) fn forget(&mut self, (start, end): (u64, u64)) -> Result<(), IoError> {
        let count = (end.div_ceil(PIECE) - start / PIECE) as usize;
        let zeros = vec![0; count * v1::DOWNLOAD_ENTRY];
        self.vfs.write_at(&self.memory, v1::Download::entry_offset(start / PIECE), &zeros)
    }

    /// Cuts what a longer content may have left behind the end.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), IoError> {
        if self.vfs.stat_of(&self.content, &self.files.content)?.size > length {
            self.vfs.set_len(&self.content, length)?;
            self.dirty = true;
        }
        Ok(())
    }

    pub(super) fn block_is_good(&self, wanted: &Wanted, block: usize, range: (u64, u64)) -> Result<bool, IoError> {
        let mut hasher = Hasher::new();
        self.read_into(&mut hasher, range.0, range.1)?;
        Ok(wanted.block_digest(block) == Some(hasher.finish()))
    }

    /// Adds bytes of the content to a digest, as many as there are.
    pub(super) fn read_into(&self, hasher: &mut Hasher, start: u64, end: u64) -> Result<(), IoError> {
        let mut buffer = vec![0; limits::COPY_BUFFER];
        let mut at = start;
        while at < end {
            let length = (end - at).min(buffer.len() as u64) as usize;
            let got = fill(self.vfs, &self.content, at, &mut buffer[..length])?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            at += got as u64;
        }
        Ok(())
    }

    /// Makes durable what is here. If that fails, nothing of it is.
    pub(super) fn sync(&mut self) -> Result<(), IoError> {
        if !self.dirty && !self.new {
            return Ok(());
        }
        let done = if self.new {
            self.vfs.sync_all()
        } else {
            self.vfs.sync_file(&self.content).and_then(|()| self.vfs.sync_file(&self.memory))
        };
        if let Err(error) = done {
            // The cache shows what the disk may not have, and another sync would succeed and mean nothing.
            let _ = remove(self.vfs, &self.files);
            return Err(error);
        }
        (self.new, self.dirty) = (false, false);
        Ok(())
    }
}

/// Removes a download.
pub(super) fn remove<V: Vfs>(vfs: &V, files: &Files) -> Result<(), IoError> {
    for at in [&files.memory, &files.content] {
        if vfs.stat(at)?.is_some() {
            vfs.remove_file(at)?;
        }
    }
    Ok(())
}

/// What a download that waits has; nothing if it remembers nothing.
pub fn pending<V: Vfs>(vfs: &V, files: &Files) -> Result<Option<Pending>, IoError> {
    let mut done = 0;
    let header = remembered(vfs, files, &mut |_, length| done += length)?;
    Ok(header.map(|header| Pending { label: header.label, done, total: header.length }))
}

/// The pieces of a content that are here, as far as is remembered.
pub fn held<V: Vfs>(vfs: &V, files: &Files) -> Result<Held, IoError> {
    let mut held = Held::default();
    remembered(vfs, files, &mut |piece, length| {
        held.bytes += length;
        held.pieces.insert(piece);
    })?;
    Ok(held)
}

/// Tells the number and the length of every piece that is remembered.
fn remembered<V: Vfs>(
    vfs: &V,
    files: &Files,
    piece: &mut dyn FnMut(u64, u64),
) -> Result<Option<v1::Download>, IoError> {
    if !vfs.stat(&files.memory)?.is_some_and(|stat| stat.kind == FileType::File) {
        return Ok(None);
    }
    let memory = vfs.open(&files.memory, Access::Read)?;
    let block = read_up_to(vfs, &memory, 0, limits::DOWNLOAD_HEADER)?;
    let Ok(header) = v1::Download::decode_block(&block) else { return Ok(None) };
    let chunk = limits::COPY_BUFFER / v1::DOWNLOAD_ENTRY * v1::DOWNLOAD_ENTRY;
    let mut number = 0;
    loop {
        let entries = read_up_to(vfs, &memory, v1::Download::entry_offset(number), chunk)?;
        for entry in entries.chunks_exact(v1::DOWNLOAD_ENTRY) {
            if number < limits::DOWNLOAD_BYTES / PIECE && header.checksum(number, entry).is_some() {
                let left = header.length.map_or(PIECE, |length| length.saturating_sub(number * PIECE));
                piece(number, left.min(PIECE));
            }
            number += 1;
        }
        if entries.len() < chunk {
            return Ok(Some(header));
        }
    }
}

fn header<V: Vfs>(vfs: &V, resume: &Resume) -> Result<v1::Download, IoError> {
    let wanted = resume.wanted();
    let address = resume.tag().map_or(0, |(address, _)| address);
    let address = wanted.addresses.get(address).map_or("", String::as_str);
    let mut label = wanted.label.clone();
    while label.len() > limits::RECORD_TEXT {
        label.pop();
    }
    Ok(v1::Download {
        magic: v1::DOWNLOAD_MAGIC,
        nonce: vfs.fresh_id()?,
        piece: PIECE,
        length: resume.length(),
        digest: wanted.digest.map(|digest| digest.0),
        blocks: wanted.blocks.as_ref().map(|blocks| blocks.name().0),
        address: Digest::of(address.as_bytes()).0,
        tag: resume.tag().map(|(_, tag)| tag.to_owned()),
        label,
    })
}

fn is_of(header: &v1::Download, wanted: &Wanted) -> bool {
    // Where the whole has a digest, its blocks are another way to say the same, and sections are a part of it.
    let same_blocks = || header.blocks == wanted.blocks.as_ref().map(|blocks| blocks.name().0);
    header.digest == wanted.digest.map(|digest| digest.0)
        && (wanted.digest.is_some() || same_blocks())
        && (wanted.length().is_none() || wanted.length() == header.length)
}

fn read_up_to<V: Vfs>(vfs: &V, file: &V::File, offset: u64, most: usize) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0; most];
    let got = fill(vfs, file, offset, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

fn fill<V: Vfs>(vfs: &V, file: &V::File, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
    let mut done = 0;
    while done < buffer.len() {
        match vfs.read_at(file, offset + done as u64, &mut buffer[done..])? {
            0 => break,
            length => done += length,
        }
    }
    Ok(done)
}

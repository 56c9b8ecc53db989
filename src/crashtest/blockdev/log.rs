//! A recording as files: the image as it is, and what happened in the format of the kernel's `dm-log-writes` target, so
//! that the tools that know it can replay it.

use super::{BLOCK, Block, Event, Image, Recording};
use std::io::{self, Read, Seek, SeekFrom, Write};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Where the text of a mark begins in its block.
const ENTRY: usize = 32;
/// No file system writes more at once.
const MOST_BLOCKS: u64 = 1 << 16;

impl Image {
    /// Writes the blocks to their places.
    pub fn write_to(&self, mut file: impl Write + Seek, bytes: u64) -> io::Result<()> {
        for (number, block) in self.blocks() {
            file.seek(SeekFrom::Start(number * BLOCK as u64))?;
            file.write_all(block.bytes())?;
        }
        if bytes > 0 && self.block(bytes / BLOCK as u64 - 1).is_none() {
            file.seek(SeekFrom::Start(bytes - 1))?;
            file.write_all(&[0])?;
        }
        file.flush()
    }

    /// Reads an image to its end; zeros are left out.
    pub fn read_from(mut file: impl Read) -> io::Result<Self> {
        let (mut image, mut bytes, mut number) = (Self::default(), [0; BLOCK], 0);
        while read_block(&mut file, &mut bytes)? {
            if bytes.iter().any(|byte| *byte != 0) {
                image.put(number, Block::new(&bytes));
            }
            number += 1;
        }
        image.settle();
        Ok(image)
    }
}

impl Recording {
    /// Writes what happened.
    pub fn write_to(&self, mut file: impl Write) -> io::Result<()> {
        let mut header = words(&[MAGIC, VERSION, self.events.len() as u64]);
        header.extend((BLOCK as u32).to_le_bytes());
        file.write_all(Block::new(&header).bytes())?;
        for event in &self.events {
            let (first, blocks, flags, mark) = match event {
                Event::Write(first, blocks) => (*first, blocks.as_slice(), 0, ""),
                Event::Flush => (0, &[][..], FLUSH, ""),
                Event::Mark(mark) => (0, &[][..], MARK, mark.as_str()),
            };
            let mut entry = words(&[first, blocks.len() as u64, flags, mark.len() as u64]);
            entry.extend(mark.bytes());
            file.write_all(Block::new(&entry).bytes())?;
            blocks.iter().try_for_each(|block| file.write_all(block.bytes()))?;
        }
        file.flush()
    }

    /// Reads what happened to this image. A discard becomes zeros, a write with its own flush a write and a flush.
    pub fn read_from(base: Image, mut file: impl Read) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut bytes = [0; BLOCK];
        let header = read_block(&mut file, &mut bytes)?;
        let word =
            |bytes: &[u8; BLOCK], at: usize| bytes[at * 8..].first_chunk::<8>().copied().map_or(0, u64::from_le_bytes);
        if !header || word(&bytes, 0) != MAGIC || word(&bytes, 1) != VERSION {
            return Err(wrong("no log of dm-log-writes"));
        }
        if word(&bytes, 3) as u32 as usize != BLOCK {
            return Err(wrong("the sectors of the log are not of 4096 bytes"));
        }
        let mut events = Vec::new();
        for _ in 0..word(&bytes, 2) {
            if !read_block(&mut file, &mut bytes)? {
                return Err(wrong("the log ends early"));
            }
            let (first, count, flags) = (word(&bytes, 0), word(&bytes, 1), word(&bytes, 2));
            if count > MOST_BLOCKS {
                return Err(wrong("an impossible length in the log"));
            }
            if flags & MARK != 0 {
                let end = ENTRY + (word(&bytes, 3) as usize).min(BLOCK - ENTRY);
                events.push(Event::Mark(String::from_utf8_lossy(&bytes[ENTRY..end]).into_owned()));
                continue;
            }
            if flags & FLUSH != 0 {
                events.push(Event::Flush);
            }
            let mut blocks = Vec::new();
            for _ in 0..count {
                if flags & DISCARD != 0 {
                    bytes.fill(0);
                } else if !read_block(&mut file, &mut bytes)? {
                    return Err(wrong("the log ends early"));
                }
                blocks.push(Block::new(&bytes));
            }
            if !blocks.is_empty() {
                events.push(Event::Write(first, blocks));
            }
            if flags & FUA != 0 {
                events.push(Event::Flush);
            }
        }
        Ok(Self { base, events })
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One block, or false at the end.
fn read_block(file: &mut impl Read, bytes: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut done = 0;
    while done < BLOCK {
        match file.read(&mut bytes[done..]) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

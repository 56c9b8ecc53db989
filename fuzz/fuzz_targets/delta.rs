//! Headers, bodies and views of segments from anywhere; and pairs of contents, archives among them, that are made into
//! patches and back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io;
use surefoot::codec::segment::{self, Lengths};
use surefoot::delta::archive::parts;
use surefoot::delta::build::{Level, Options, Tree, encode};
use surefoot::delta::{Contents, Sink, decode, memory};
use surefoot::model::Part;
use surefoot_fuzz::patch;

/// More is left alone: trying every deflater on a megabyte takes seconds under the sanitizer.
const INFLATED: u64 = 256 << 10;

struct Files<'a>(&'a [Vec<u8>]);

impl Contents for Files<'_> {
    fn length(&self, file: u32) -> Option<u64> {
        self.0.get(file as usize).map(|bytes| bytes.len() as u64)
    }

    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(file as usize).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct Both<'a>(Files<'a>, Files<'a>);

impl Lengths for Both<'_> {
    fn old_length(&self, file: u32) -> Option<u64> {
        self.0.length(file)
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        self.1.length(file)
    }
}

#[derive(Default)]
struct Gathered(Vec<u8>);

impl Sink for Gathered {
    fn write(&mut self, _: usize, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let input = patch::read(data);
    let both = Both(Files(&input.old), Files(&input.new));

    // Whatever stands there is refused, or makes just what it promises.
    let mut views = segment::decode_views(&input.views, &both).unwrap_or_default();
    // A bomb is bounded, but takes longer than a fuzzer has.
    views.retain(|view| view.pieces.iter().map(Part::shown).sum::<u64>() <= INFLATED);
    if let Ok((header, _)) = segment::decode(&input.header, &both) {
        let mut made = Gathered::default();
        let result = decode(&header, &input.body, &both.0, &views, 32 << 20, &mut made);
        assert!(made.0.len() as u64 <= header.output_length());
        if result.is_ok() {
            assert_eq!(made.0.len() as u64, header.output_length());
        }
    }

    let inflated = |file: &Vec<u8>| parts(file).expect("memory can be read").iter().map(Part::shown).sum::<u64>();
    if input.old.iter().chain(&input.new).map(inflated).sum::<u64>() > INFLATED {
        return;
    }
    let level = [Level::Fast, Level::Default, Level::Best][usize::from(input.level) % 3];
    let options = Options { segment: usize::from(input.segment).max(16), ..Options::new(level, 256 << 20) };
    let paths = |files: &[Vec<u8>]| (0..files.len()).map(|number| vec![b'a', number as u8]).collect();
    let old = Tree { contents: &both.0, paths: paths(&input.old) };
    let new = Tree { contents: &both.1, paths: paths(&input.new) };
    let patch = encode(&old, &new, &options, &|_, _| true).expect("every pair has a patch");
    let wire = segment::encode_views(&patch.views);
    let views = segment::decode_views(&wire, &both).expect("views read back");
    let mut made: Vec<Vec<u8>> = input.new.iter().map(|file| vec![0; file.len()]).collect();
    for (header, body) in &patch.segments {
        let (read, _) = segment::decode(&segment::encode(header, &both), &both).expect("a header reads back");
        let mut sink = Gathered::default();
        decode(&read, body, &both.0, &views, memory(&read, &views), &mut sink).expect("a segment decodes");
        let mut at = 0;
        for extent in &read.outputs {
            let (offset, length) = (extent.offset as usize, extent.length as usize);
            made[extent.file as usize][offset..offset + length].copy_from_slice(&sink.0[at..at + length]);
            at += length;
        }
    }
    assert_eq!(made, input.new);
});

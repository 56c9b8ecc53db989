//! Content deflated with any parameters and inflated again; and what names places in it that may not be there.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;
use surefoot::delta::archive::{
    Assembler, DeflateParameters, Deflater, Member, NewPart, Part, ReadAt, Shown, Wrapper, find_parameters, reproduces,
};

#[derive(Arbitrary, Debug)]
struct Tail {
    repeat: u8,
    piece: u16,
    wrapper: u8,
    chunk_bytes: u32,
    raw: bool,
    numbers: [u16; 4],
    huge: u8,
    len: u16,
}

fuzz_target!(|data: &[u8]| {
    let Some((bytes, data)) = data.split_first_chunk::<4>() else { return };
    let Some(parameters) = DeflateParameters::from_bytes(*bytes) else { return };
    assert_eq!(parameters.to_bytes(), *bytes);
    let (content, tail) = data.split_at(data.len().saturating_sub(30));
    let Ok(tail) = Tail::arbitrary(&mut Unstructured::new(tail)) else { return };
    let content = content.repeat(1 + usize::from(tail.repeat % 16));

    let mut stream = Vec::new();
    let mut deflater = Deflater::new(parameters);
    for piece in content.chunks(1 + usize::from(tail.piece)) {
        deflater.write(piece, &mut stream);
    }
    deflater.finish(&mut stream);
    let mut plain = Vec::with_capacity(content.len() + 1);
    let status = Decompress::new(false).decompress_vec(&stream, &mut plain, FlushDecompress::Finish);
    assert_eq!(status.expect("a stream"), Status::StreamEnd);
    assert_eq!(plain, content);

    let len = stream.len() as u64;
    let inflated_len = content.len() as u64;
    let member = Member { offset: 0, len, inflated_len, wrapper: Wrapper::Plain };
    assert!(reproduces(&stream, &member, parameters).expect("a stream"));
    if content.len() < 4 << 10 {
        let found = find_parameters(&stream, &member, &[parameters]).expect("a stream");
        assert_eq!(found, Some(parameters));
    }

    // Whatever is named, it is an error or as long as stated.
    let wrapper = match tail.wrapper % 3 {
        0 => Wrapper::Plain,
        1 => Wrapper::Gzip,
        _ => Wrapper::Png { zlib_header: [0x78, 0x9c], chunk_bytes: tail.chunk_bytes },
    };
    let number = |at: usize| match tail.huge >> (2 * at) & 3 {
        0 => u64::from(tail.numbers[at]),
        1 => len - u64::from(tail.numbers[at]).min(len),
        2 => inflated_len - u64::from(tail.numbers[at]).min(inflated_len),
        _ => u64::MAX - u64::from(tail.numbers[at]),
    };
    let piece = if tail.raw {
        Part::Raw { offset: number(0), len: number(1) }
    } else {
        Part::Deflated(Member { offset: number(0), len: number(1), inflated_len: number(2), wrapper })
    };
    let pieces = [piece, piece];
    let shown = Shown::new(&stream, &pieces);
    assert_eq!(shown.size(), piece.shown().saturating_mul(2));
    if piece.shown() <= 1 << 20 {
        let mut read = vec![0; shown.size() as usize];
        if shown.read_exact_at(0, &mut read).is_ok() {
            let (one, other) = read.split_at(read.len() / 2);
            assert_eq!(one, other);
        }
    } else {
        let mut read = vec![0; usize::from(tail.len)];
        let _ = shown.read_exact_at(number(3) % shown.size(), &mut read);
    }
    let part = NewPart::Deflated { len: number(1), inflated_len: number(2), wrapper, parameters };
    let mut assembler = Assembler::new(vec![part, NewPart::Raw { len: number(3) }], Vec::new());
    if assembler.write(&content).is_ok()
        && let Ok(made) = assembler.finish()
    {
        assert_eq!(Some(made.len() as u64), number(1).checked_add(number(3)));
    }
});

//! Bytes as header slots and frames of the journal, as they are and with the right checksum.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use surefoot::codec::frame::Header;
use surefoot::limits::FRAME_PAYLOAD;

#[derive(Arbitrary, Debug)]
struct Input {
    journal: [u8; 16],
    epoch: u64,
    current: [u8; 16],
    index: u32,
    previous: u32,
    durable: u32,
    flip: u16,
    payload: Vec<u8>,
    raw: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let header = Header { journal: input.journal, epoch: input.epoch, current: input.current };
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes), Some(header));
    assert_eq!(Header::decode(&flipped(&bytes, input.flip)), None);
    if let Some(header) = Header::decode(&input.raw) {
        assert!(input.raw.starts_with(&header.encode()));
    }

    let payload = &input.payload[..input.payload.len().min(FRAME_PAYLOAD)];
    let durable = input.durable.min(input.index);
    let (bytes, checksum) = header.encode_frame(input.index, input.previous, durable, payload);
    let frame = header.decode_frame(input.index, &bytes).expect("a frame reads back");
    assert_eq!((frame.payload.as_slice(), frame.checksum), (payload, checksum));
    assert_eq!((frame.previous, frame.durable), (input.previous, durable));
    assert_eq!(header.decode_frame(input.index, &flipped(&bytes, input.flip)), None);
    assert_eq!(header.decode_frame(input.index, &bytes[..bytes.len() - 1]), None);
    assert_eq!(header.decode_frame(input.index.wrapping_add(1), &bytes), None);
    if let Some(frame) = header.decode_frame(input.index, &input.raw) {
        assert!(
            input.raw.starts_with(&header.encode_frame(input.index, frame.previous, frame.durable, &frame.payload).0)
        );
    }
});

fn flipped(bytes: &[u8], flip: u16) -> Vec<u8> {
    let bit = usize::from(flip) % (bytes.len() * 8);
    let mut bad = bytes.to_vec();
    bad[bit / 8] ^= 1 << (bit % 8);
    bad
}

//! The mark of what is unpacked. The first byte says whether checksums are put right, behind which the fuzzer cannot
//! look alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::codec::v1::{UNPACKED_RECORD, UNPACKED_START, decode_unpacked};
use surefoot_fuzz::state::{mark, seal_mark};

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if kind & 1 == 1 {
        seal_mark(&mut bytes);
    }
    let Some(read) = decode_unpacked(&bytes) else { return };
    let records = (bytes.len() - UNPACKED_START) / UNPACKED_RECORD;
    assert!(read.segments.len() <= records, "a segment out of nothing");
    let again = mark(&read);
    assert_eq!(decode_unpacked(&again).as_ref(), Some(&read));
    assert_eq!(again[..UNPACKED_START], bytes[..UNPACKED_START], "one spelling of the start");
    // Every segment stands there as it is written; where nothing else does, and in order, it is the whole file.
    let (written, found) = (again[UNPACKED_START..].as_chunks().0, bytes[UNPACKED_START..].as_chunks().0);
    let is_there = |record: &[u8; UNPACKED_RECORD]| found.contains(record);
    assert!(written.iter().all(is_there));
    if written.len() == records
        && found.is_sorted_by_key(|record| u32::from_le_bytes([record[0], record[1], record[2], record[3]]))
    {
        assert_eq!(written, found);
    }
    // What follows a record that is whole, and is not whole itself, means nothing.
    let whole = UNPACKED_START + records * UNPACKED_RECORD;
    assert_eq!(decode_unpacked(&bytes[..whole]), Some(read));
});

//! Bytes as a zip archive, a gzip file or an image: cut, inflated, and made again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::delta::archive::{
    ArchiveError, Assembler, MemberSet, NewPart, Part, ReadAt, Shown, inflate, inflated, parts, prepare, shown_memory,
};

/// More is left alone: trying every deflater on a megabyte takes seconds under the sanitizer.
const INFLATED: u64 = 256 << 10;

fuzz_target!(|data: &[u8]| {
    let file = data.to_vec();
    let parts = parts(&file).expect("memory can be read");
    let (mut end, mut total) = (0, 0);
    let mut members = Vec::new();
    for part in &parts {
        let offset = match part {
            Part::Raw { offset, .. } => *offset,
            Part::Deflated(member) => {
                total += member.inflated_len;
                members.push(*member);
                member.offset
            }
        };
        assert_eq!(offset, end, "no gap, no overlap");
        assert!(!part.is_empty());
        end += part.len();
    }
    assert_eq!(end, file.len() as u64);
    if total > INFLATED {
        return;
    }

    let new = prepare(&file, &parts, &MemberSet::default()).expect("what is odd stays raw");
    let mut assembler = Assembler::new(new.clone(), Vec::new());
    inflated(&file, &new, &mut |content| assembler.write(content)).expect("it was proved");
    assert_eq!(assembler.finish().expect("it was proved"), file);
    assert!(new.iter().filter(|part| matches!(part, NewPart::Deflated { .. })).count() <= members.len());

    for member in members {
        let mut content = Vec::new();
        let plain = inflate(&file, &member, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(true)
        });
        let pieces = [Part::Raw { offset: 0, len: 2 }, Part::Deflated(member), Part::Deflated(member)];
        assert!(shown_memory(&pieces) < 16 << 20);
        let shown = Shown::new(&file, &pieces);
        let mut read = vec![0; shown.size() as usize];
        match (shown.read_exact_at(0, &mut read), plain) {
            (Ok(()), Ok(())) => {
                assert_eq!(read, [&file[..2], &content, &content].concat());
                // And anywhere, again.
                for start in [content.len(), content.len() / 2, 0] {
                    let mut part = vec![0; content.len() - start / 2];
                    shown.read_exact_at(2 + start as u64, &mut part).expect("it was there before");
                    assert_eq!(part, read[2 + start..][..part.len()]);
                }
            }
            // What stands after the content, or is left out of it, does not matter to who reads so much of it.
            (_, Err(ArchiveError::Inflate { .. })) => {}
            (shown, plain) => panic!("inflated {plain:?}, but shown {shown:?}"),
        }
    }
});

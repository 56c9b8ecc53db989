//! Bytes as a zip archive, a gzip file or an image: cut, inflated, and made again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::delta::archive::{
    ArchiveError, Assembler, MemberSet, NewPart, Part, ReadAt, Source, View, inflate, inflated, parts, prepare,
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

    let files: [&dyn ReadAt; 1] = [&file];
    for member in members {
        let mut content = Vec::new();
        let plain = inflate(&file, &member, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(true)
        });
        match (View::open(&files, &[Source::whole(0, member)], INFLATED), plain) {
            (Ok(view), Ok(())) => {
                let mut read = vec![0; view.size() as usize];
                view.read_exact_at(0, &mut read).expect("all of the view");
                assert_eq!(read, content);
            }
            (Err(ArchiveError::Inflate { .. }), Err(ArchiveError::Inflate { .. })) => {}
            (_, plain) => panic!("inflated {plain:?}, but not in a view"),
        }
    }
});

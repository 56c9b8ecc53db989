use super::*;
use std::io::Cursor;

fn block(byte: u8) -> Block {
    Block::new(&[byte; BLOCK])
}

/// Blocks 0 to 3 by their first bytes; zero where nothing was written.
fn content(image: &Image) -> [u8; 4] {
    [0, 1, 2, 3].map(|number| image.block(number).map_or(0, |block| block.bytes()[0]))
}

/// 0 = 1, flush, 1 = 2 and 2 = 3 at once, 0 = 4, a mark.
fn recording() -> Recording {
    let mut base = Image::default();
    base.put(3, block(9));
    base.settle();
    let events = vec![
        Event::Write(0, vec![block(1)]),
        Event::Flush,
        Event::Write(1, vec![block(2), block(3)]),
        Event::Write(0, vec![block(4)]),
        Event::Mark("done".to_owned()),
    ];
    Recording { base, events }
}

#[test]
fn what_was_flushed_survives_and_the_rest_as_chosen() {
    let recording = recording();
    let left = |at, choice| content(&recording.image(&Cut { at, choice }).0);
    assert_eq!(left(0, Choice::All), [0, 0, 0, 9]);
    assert_eq!(left(1, Choice::None), [0, 0, 0, 9]);
    assert_eq!(left(1, Choice::All), [1, 0, 0, 9]);
    assert_eq!(left(2, Choice::None), [1, 0, 0, 9]);
    assert_eq!(left(4, Choice::None), [1, 0, 0, 9]);
    assert_eq!(left(4, Choice::All), [4, 2, 3, 9]);
    assert_eq!(left(4, Choice::Drop(0)), [4, 0, 0, 9]);
    assert_eq!(left(4, Choice::Keep(0)), [1, 2, 3, 9]);
    assert_eq!(left(3, Choice::All), [1, 2, 3, 9]);
    let torn: std::collections::BTreeSet<_> = (0..64).map(|seed| left(3, Choice::Torn(seed))).collect();
    assert_eq!(torn.len(), 4, "every subset of a torn write: {torn:?}");
    let blocks: std::collections::BTreeSet<_> = (0..256).map(|seed| left(4, Choice::Blocks(seed))).collect();
    assert_eq!(blocks.len(), 8, "every subset of the pending blocks: {blocks:?}");
    let random: std::collections::BTreeSet<_> = (0..64).map(|seed| left(4, Choice::Random(seed))).collect();
    assert_eq!(random.len(), 4, "whole writes only: {random:?}");
}

#[test]
fn images_are_equal_where_their_hashes_are() {
    let recording = recording();
    let cuts = recording.cuts(&Budget { seed: 7, most: 1000 });
    let images: Vec<_> = cuts.iter().map(|cut| recording.image(cut)).collect();
    for (a, a_hash) in &images {
        for (b, b_hash) in &images {
            assert_eq!(a_hash == b_hash, a.same(b));
        }
    }
}

#[test]
fn cuts_hold_every_flush_and_every_prefix_and_are_written_as_they_are_read() {
    let recording = recording();
    let cuts = recording.cuts(&Budget { seed: 1, most: 1000 });
    for at in [1, 3, 4] {
        assert!(cuts.contains(&Cut { at, choice: Choice::All }), "{at}: {cuts:?}");
    }
    assert!(cuts.contains(&Cut { at: 5, choice: Choice::None }), "{cuts:?}");
    assert!(cuts.iter().any(|cut| matches!(cut.choice, Choice::Torn(_))), "{cuts:?}");
    assert_eq!(cuts, recording.cuts(&Budget { seed: 1, most: 1000 }));
    assert_eq!(recording.cuts(&Budget { seed: 1, most: 5 }).len(), 5);
    for cut in &cuts {
        assert_eq!(cut.to_string().parse(), Ok(*cut));
    }
    for bad in ["", "1", "1.all", "x.all.0", "1.some.0", "1.all.x"] {
        assert!(bad.parse::<Cut>().is_err(), "{bad}");
    }
    let mark = |at| recording.mark(&Cut { at, choice: Choice::All });
    assert_eq!((mark(4), mark(5)), (None, Some("done")));
}

#[test]
fn a_device_records_what_it_is_asked_and_fails_as_it_is_told() {
    let device = Device::new(4);
    assert_eq!(device.write(0, &[1; BLOCK]), Ok(BLOCK));
    device.record();
    assert_eq!(device.write(BLOCK as u64 - 1, &[2; 2]), Ok(2), "parts of blocks are put into theirs");
    assert_eq!(device.flush(), Ok(()));
    device.mark("here");
    let mut bytes = [0; 4];
    assert_eq!(device.read(BLOCK as u64 - 2, &mut bytes), Ok(4));
    assert_eq!(bytes, [1, 2, 2, 0]);
    assert_eq!(device.read(4 * BLOCK as u64 - 2, &mut bytes), Ok(2), "nothing behind the end");
    assert!(device.write(4 * BLOCK as u64, &[1]).is_err(), "nothing behind the end");
    let recording = device.recorded().unwrap();
    assert_eq!(recording.counts(), (1, 1));
    assert_eq!(recording.events.last(), Some(&Event::Mark("here".to_owned())));
    assert!(device.recorded().is_none());

    // A recording that does not lead to what is there is none.
    device.record();
    let mut image = device.image();
    image.put(2, block(7));
    device.lock().image = image;
    assert!(device.recorded().is_none());

    let answers = |fault| {
        device.set_fault(fault);
        let writes = [0, 1, 2].map(|_| device.write(0, &[1; BLOCK]).is_ok());
        let flushes = [0, 1].map(|_| device.flush().is_ok());
        (writes, flushes, device.read(0, &mut [0; 8]).is_ok())
    };
    assert_eq!(answers(Fault::None), ([true; 3], [true; 2], true));
    assert_eq!(answers(Fault::Write(1)), ([true, false, true], [true; 2], true));
    assert_eq!(answers(Fault::WritesFrom(1)), ([true, false, false], [false; 2], true));
    assert_eq!(answers(Fault::Flush(1)), ([true; 3], [true, false], true));
    assert_eq!(answers(Fault::Reads), ([true; 3], [true; 2], false));
}

#[test]
fn a_recording_comes_back_from_its_files() {
    let recording = recording();
    let (mut image, mut log) = (Cursor::new(Vec::new()), Vec::new());
    recording.base.write_to(&mut image, 8 * BLOCK as u64).unwrap();
    recording.write_to(&mut log).unwrap();
    assert_eq!((image.get_ref().len(), log.len()), (8 * BLOCK, 10 * BLOCK));
    let base = Image::read_from(image.get_ref().as_slice()).unwrap();
    assert!(base.same(&recording.base));
    let back = Recording::read_from(base, log.as_slice()).unwrap();
    assert_eq!(back.events, recording.events);
    for end in [0, 100, BLOCK, log.len() - 1, log.len() - BLOCK] {
        assert!(Recording::read_from(Image::default(), &log[..end]).is_err(), "{end}");
    }
}

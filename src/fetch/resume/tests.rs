use super::*;
use crate::fetch::{BlockMap, Section};
use crate::model::Digest;

const LENGTH: u64 = 5 * PIECE + 7;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

fn wanted(addresses: &[&str]) -> Wanted {
    Wanted {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        size: Some(LENGTH),
        digest: Some(Digest::of(&content())),
        blocks: None,
        signature: None,
        sections: None,
        label: "it".into(),
    }
}

fn resume(wanted: Wanted) -> Resume {
    Resume::new(wanted, Patience::default())
}

fn ok(tag: Option<&str>) -> Head {
    Head { status: 200, content_length: Some(LENGTH), etag: tag.map(Into::into), ..Head::default() }
}

fn part(first: u64, last: u64, tag: Option<&str>) -> Head {
    Head {
        status: 206,
        content_length: Some(last - first + 1),
        content_range: Some(format!("bytes {first}-{last}/{LENGTH}")),
        etag: tag.map(Into::into),
        ..Head::default()
    }
}

/// What a good server answers, as far as there.
fn part_or_whole(asked: &Ask, end: u64) -> Head {
    asked.range.map_or_else(|| ok(None), |(start, to)| part(start, to.map_or(LENGTH, |to| to.min(end)) - 1, None))
}

fn ask(resume: &mut Resume) -> Ask {
    match resume.proceed() {
        Next::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

/// Feeds bytes of the content in odd bits; gives what was written.
fn feed(resume: &mut Resume, start: u64, end: u64) -> Vec<(u64, Vec<u8>)> {
    let content = content();
    let mut out = Vec::new();
    for bit in content[start as usize..end as usize].chunks(10_001) {
        let mut rest = bit;
        while !rest.is_empty() {
            let taken = resume.take(rest).unwrap();
            out.extend(taken.write.map(|(at, bytes)| (at, bytes.to_vec())));
            rest = taken.rest;
        }
    }
    out
}

fn broken() -> Failure {
    Failure::Connection("reset".into())
}

/// The first two pieces are here, from the first address, with a tag.
fn two_pieces(tag: Option<&str>, addresses: &[&str]) -> Resume {
    let mut resume = resume(wanted(addresses));
    ask(&mut resume);
    assert_eq!(resume.head(&ok(tag)), Ok(true));
    feed(&mut resume, 0, 2 * PIECE + 100);
    let pause = if addresses.len() == 1 { Duration::from_millis(500) } else { Duration::ZERO };
    assert_eq!(resume.failed(broken(), 0), Some(pause));
    assert_eq!(resume.held_bytes(), 2 * PIECE, "what is not a whole piece is asked for again");
    resume
}

#[test]
fn a_download_in_one_go_asks_for_the_whole() {
    let mut resume = resume(wanted(&["a"]));
    assert_eq!(ask(&mut resume), Ask { address: 0, range: None, if_range: None });
    assert_eq!(resume.head(&ok(None)), Ok(true));
    let written: Vec<u8> = feed(&mut resume, 0, LENGTH).into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(written, content());
    assert_eq!(resume.end(), Ok(None));
    assert_eq!(resume.proceed(), Next::Check);
}

#[test]
fn a_broken_one_goes_on_under_the_same_tag_only() {
    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    let asked = ask(&mut resume);
    assert_eq!(asked, Ask { address: 0, range: Some((2 * PIECE, None)), if_range: Some("\"x\"".into()) });
    assert_eq!(resume.head(&part(2 * PIECE, LENGTH - 1, Some("\"x\""))), Ok(false));
    feed(&mut resume, 2 * PIECE, LENGTH);
    assert_eq!(resume.end(), Ok(None));
    assert_eq!(resume.proceed(), Next::Check);
    assert_eq!(resume.whole_is_wrong(), Failure::Mixed, "the tag may have lied");
    resume.failed(Failure::Mixed, 0).unwrap();
    assert_eq!(ask(&mut resume).range, None);
    resume.head(&ok(Some("\"x\""))).unwrap();
    feed(&mut resume, 0, LENGTH);
    assert_eq!(resume.whole_is_wrong(), Failure::Digest);
}

#[test]
fn a_206_of_another_content_is_not_taken() {
    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    ask(&mut resume);
    assert_eq!(resume.head(&part(2 * PIECE, LENGTH - 1, Some("\"y\""))), Err(Failure::Changed));
    resume.failed(Failure::Changed, 0).unwrap();
    assert_eq!((resume.held_bytes(), ask(&mut resume).range), (0, None), "begins anew");
}

#[test]
fn a_206_with_a_wrong_content_range_is_not_taken_and_ranges_not_asked_for_again() {
    let wrong = [
        part(0, LENGTH - 1, Some("\"x\"")),
        part(2 * PIECE + 1, LENGTH - 1, Some("\"x\"")),
        Head { content_range: None, ..part(2 * PIECE, LENGTH - 1, Some("\"x\"")) },
        Head { content_range: Some("bytes what".into()), ..part(2 * PIECE, LENGTH - 1, None) },
        Head { content_length: Some(5), ..part(2 * PIECE, LENGTH - 1, Some("\"x\"")) },
    ];
    for head in wrong {
        let mut resume = two_pieces(Some("\"x\""), &["a"]);
        ask(&mut resume);
        let failure = resume.head(&head).unwrap_err();
        assert!(matches!(failure, Failure::Range(_)), "{failure:?}");
        resume.failed(failure, 0).unwrap();
        assert_eq!(ask(&mut resume).range, None, "{head:?}");
        assert_eq!(resume.held_bytes(), 2 * PIECE, "what is here stays");
    }
    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    ask(&mut resume);
    let longer =
        Head { content_range: Some(format!("bytes {}-{LENGTH}/{}", 2 * PIECE, LENGTH + 1)), ..part(0, 0, None) };
    assert!(matches!(resume.head(&longer), Err(Failure::Length { .. })));
}

#[test]
fn a_206_that_was_not_asked_for_is_not_taken() {
    let mut resume = resume(wanted(&["a"]));
    ask(&mut resume);
    assert!(matches!(resume.head(&part(0, LENGTH - 1, None)), Err(Failure::Range(_))));
}

#[test]
fn a_200_instead_of_a_206_keeps_pieces_under_the_same_tag_and_drops_them_under_another() {
    for (tag, kept) in [(Some("\"x\""), true), (Some("\"y\""), false), (None, false), (Some("W/\"x\""), false)] {
        let mut resume = two_pieces(Some("\"x\""), &["a"]);
        ask(&mut resume);
        assert_eq!(resume.head(&ok(tag)), Ok(!kept), "{tag:?}");
        let written = feed(&mut resume, 0, LENGTH);
        let first = written.iter().map(|(at, _)| *at).min().unwrap();
        assert_eq!(first, if kept { 2 * PIECE } else { 0 }, "{tag:?}");
        assert_eq!(resume.proceed(), Next::Check);
    }
}

#[test]
fn a_416_begins_anew_or_ends_with_who_has_another_length() {
    let unsatisfied =
        |total: u64| Head { status: 416, content_range: Some(format!("bytes */{total}")), ..Head::default() };
    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    ask(&mut resume);
    assert_eq!(resume.head(&unsatisfied(5)), Err(Failure::Length { promised: 5, wanted: LENGTH }));
    assert_eq!(resume.failed(Failure::Length { promised: 5, wanted: LENGTH }, 0), None, "nobody is left");

    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    ask(&mut resume);
    let failure = resume.head(&unsatisfied(LENGTH)).unwrap_err();
    assert!(matches!(failure, Failure::Range(_)), "it has the bytes: {failure:?}");

    let mut unknown = Resume::new(Wanted { size: None, ..wanted(&["a"]) }, Patience::default());
    ask(&mut unknown);
    unknown.head(&ok(Some("\"x\""))).unwrap();
    feed(&mut unknown, 0, 2 * PIECE);
    unknown.failed(broken(), 0).unwrap();
    ask(&mut unknown);
    assert_eq!(unknown.head(&unsatisfied(5)), Err(Failure::Changed));
    unknown.failed(Failure::Changed, 0).unwrap();
    assert_eq!(ask(&mut unknown), Ask { address: 0, range: None, if_range: None }, "and not 416 for ever");
}

#[test]
fn errors_of_servers_are_never_content() {
    for (status, again) in
        [(404, false), (403, false), (410, false), (500, true), (503, true), (429, true), (408, true)]
    {
        let mut resume = two_pieces(Some("\"x\""), &["a"]);
        ask(&mut resume);
        let head = Head { status, content_length: Some(100), ..Head::default() };
        let failure = resume.head(&head).unwrap_err();
        assert!(resume.take(b"<html>").is_err(), "{status}: the body is not taken");
        assert_eq!(resume.failed(failure, 0).is_some(), again, "{status}");
        assert_eq!(resume.held_bytes(), 2 * PIECE, "{status}");
    }
}

#[test]
fn a_coded_body_is_refused() {
    let mut resume = resume(wanted(&["a"]));
    ask(&mut resume);
    let head = Head { content_encoding: Some("gzip".into()), ..ok(None) };
    assert_eq!(resume.head(&head), Err(Failure::Coded("gzip".into())));
}

#[test]
fn a_content_of_another_length_is_refused_before_its_first_byte() {
    let mut resume = resume(wanted(&["a", "b"]));
    ask(&mut resume);
    let failure = resume.head(&Head { content_length: Some(LENGTH - 1), ..ok(None) }).unwrap_err();
    assert_eq!(resume.failed(failure, 0), Some(Duration::ZERO));
    assert_eq!(ask(&mut resume).address, 1);
}

#[test]
fn a_truncated_body_goes_on_and_an_overlong_one_is_thrown_away() {
    let mut resume = resume(wanted(&["a"]));
    ask(&mut resume);
    resume.head(&Head { content_length: None, ..ok(None) }).unwrap();
    feed(&mut resume, 0, LENGTH - 1);
    assert_eq!(resume.end(), Err(Failure::Truncated));
    resume.failed(Failure::Truncated, 0).unwrap();
    assert_eq!(ask(&mut resume).range, Some((5 * PIECE, None)), "by the digest, for want of a tag");
    resume.head(&part(5 * PIECE, LENGTH - 1, None)).unwrap();
    feed(&mut resume, 5 * PIECE, LENGTH);
    assert_eq!(resume.take(b"more"), Err(Failure::Overlong));
    assert_eq!(resume.failed(Failure::Overlong, 0), None);
    assert_eq!(resume.held_bytes(), 0);
}

#[test]
fn without_tag_digest_and_blocks_there_is_no_resuming() {
    let mut resume = Resume::new(Wanted { digest: None, ..wanted(&["a"]) }, Patience::default());
    ask(&mut resume);
    resume.head(&ok(Some("W/\"x\""))).unwrap();
    feed(&mut resume, 0, 3 * PIECE);
    resume.failed(broken(), 0).unwrap();
    assert_eq!(ask(&mut resume).range, None);
    assert_eq!(resume.head(&ok(Some("W/\"x\""))), Ok(true));
    assert_eq!(resume.held_bytes(), 0);
}

#[test]
fn a_wrong_guess_is_made_once() {
    let mut resume = two_pieces(None, &["a", "b"]);
    let asked = ask(&mut resume);
    assert_eq!((asked.address, asked.range, asked.if_range), (1, Some((2 * PIECE, None)), None));
    resume.head(&part(2 * PIECE, LENGTH - 1, None)).unwrap();
    feed(&mut resume, 2 * PIECE, LENGTH);
    assert_eq!(resume.proceed(), Next::Check);
    assert_eq!(resume.whole_is_wrong(), Failure::Mixed);
    resume.failed(Failure::Mixed, 0).unwrap();
    ask(&mut resume);
    resume.head(&ok(None)).unwrap();
    feed(&mut resume, 0, 3 * PIECE);
    resume.failed(broken(), 0).unwrap();
    assert_eq!(ask(&mut resume).range, None, "no second guess");
}

#[test]
fn a_bad_block_is_fetched_alone_from_somebody_else() {
    let blocks = BlockMap::of(2 * PIECE, &content()).unwrap();
    let mut resume = resume(Wanted { blocks: Some(blocks), ..wanted(&["a", "b"]) });
    ask(&mut resume);
    resume.head(&ok(None)).unwrap();
    feed(&mut resume, 0, LENGTH);
    for block in 0..3 {
        assert!(resume.due_block(block * 2).is_some());
        resume.block(block as usize, block != 1).unwrap();
    }
    let asked = ask(&mut resume);
    assert_eq!(asked, Ask { address: 1, range: Some((2 * PIECE, Some(4 * PIECE))), if_range: None });
    resume.head(&part(2 * PIECE, 4 * PIECE - 1, Some("\"other\""))).unwrap();
    feed(&mut resume, 2 * PIECE, 4 * PIECE);
    assert_eq!(resume.due_block(3), Some((1, (2 * PIECE, 4 * PIECE))));
    resume.block(1, true).unwrap();
    assert_eq!(resume.proceed(), Next::Check);
}

/// Whoever sent the last piece of a block once answered for those that an earlier run, or somebody else, had left of it.
#[test]
fn of_a_bad_block_that_came_in_parts_nobody_is_blamed_the_first_time() {
    let blocks = || BlockMap::of(2 * PIECE, &content());
    let mut resume = resume(Wanted { blocks: blocks(), ..wanted(&["a", "b"]) });
    resume.hold(0);
    assert_eq!(ask(&mut resume), Ask { address: 0, range: Some((PIECE, None)), if_range: None });
    resume.head(&part(PIECE, LENGTH - 1, None)).unwrap();
    feed(&mut resume, PIECE, LENGTH);
    resume.block(0, false).unwrap();
    [1, 2].iter().for_each(|block| resume.block(*block, true).unwrap());
    assert_eq!(resume.failures().count(), 0);
    for expected in [(0, 1), (1, 2)] {
        let asked = ask(&mut resume);
        assert_eq!((asked.address, asked.range), (expected.0, Some((0, Some(2 * PIECE)))));
        resume.head(&part(0, 2 * PIECE - 1, None)).unwrap();
        feed(&mut resume, 0, 2 * PIECE);
        resume.block(0, false).unwrap();
        assert_eq!(resume.failures().count(), expected.1);
    }
    // Two who send a half each, one of them a bad one, are not asked for ever.
    let mut resume = super::Resume::new(Wanted { blocks: blocks(), ..wanted(&["a", "b"]) }, Patience::default());
    let mut rounds = 0;
    while let Next::Ask(asked) = resume.proceed() {
        let (start, end) = asked.range.unwrap_or((0, None));
        let end = end.unwrap_or(LENGTH).min(2 * PIECE);
        resume.head(&part_or_whole(&asked, end)).unwrap();
        let until = if start == 0 { PIECE } else { end };
        feed(&mut resume, start, until);
        let bad = if until == end { resume.block(0, false) } else { Err(Failure::Truncated) };
        if let Err(failure) = bad.and(Err::<(), _>(Failure::Truncated)) {
            resume.failed(failure, 0);
        }
        rounds += 1;
        assert!(rounds < 50, "it goes on for ever");
    }
}

#[test]
fn whoever_sends_too_many_bad_blocks_is_not_asked_again() {
    let blocks = BlockMap::of(PIECE, &content()).unwrap();
    let mut resume = resume(Wanted { blocks: Some(blocks), ..wanted(&["a"]) });
    let mut answers = Vec::new();
    for _ in 0..limits::BAD_BLOCKS {
        let asked = ask(&mut resume);
        match asked.range {
            None => assert_eq!(resume.head(&ok(None)), Ok(true)),
            Some((start, end)) => assert_eq!(resume.head(&part(start, end.unwrap() - 1, None)), Ok(false)),
        }
        feed(&mut resume, 0, PIECE);
        answers.push(resume.block(0, false));
    }
    assert_eq!(answers.pop().unwrap(), Err(Failure::Block(0)));
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(resume.failed(Failure::Block(0), 0), None);
}

#[test]
fn pauses_grow_with_jitter_and_heed_the_server() {
    let mut resume = resume(wanted(&["a"]));
    let mut pauses = Vec::new();
    loop {
        ask(&mut resume);
        match resume.failed(broken(), u64::MAX / 3) {
            Some(pause) => pauses.push(pause),
            None => break,
        }
    }
    assert_eq!(pauses.len(), Patience::default().attempts as usize);
    for (at, pause) in pauses.iter().enumerate() {
        let full = Duration::from_secs(1 << at).min(Duration::from_secs(60));
        assert!(*pause >= full / 2 && *pause <= full, "{at}: {pause:?}");
    }
    for (asked, expected) in [(7, Some(7)), (limits::RETRY_AFTER_SECONDS + 1, None)] {
        let mut resume = super::Resume::new(wanted(&["a"]), Patience::default());
        ask(&mut resume);
        let failure = Failure::Status { status: 503, retry_after: Some(Duration::from_secs(asked)) };
        assert_eq!(resume.failed(failure, 0), expected.map(Duration::from_secs));
    }
}

/// With two addresses only what the one that has failed last asked for was heeded.
#[test]
fn each_address_is_left_alone_for_as_long_as_it_has_asked_for() {
    let mut resume = resume(wanted(&["a", "b"]));
    let busy = |seconds| Failure::Status { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
    assert_eq!(ask(&mut resume).address, 0);
    assert_eq!(resume.failed(busy(30), 0), Some(Duration::ZERO));
    let mut now = Duration::ZERO;
    let mut asked = Vec::new();
    for _ in 0..5 {
        let next = ask(&mut resume);
        assert_eq!(resume.wait_before(&next), Duration::ZERO);
        asked.push((next.address, now.as_secs()));
        now += resume.failed(broken(), 0).unwrap();
        resume.note_time(now);
    }
    assert!(asked.iter().all(|(address, second)| *address == 1 || *second >= 30), "{asked:?}");
    assert!(asked.iter().filter(|(address, _)| *address == 1).count() >= 4, "{asked:?}");
    // Both want to be left alone: the one for a shorter time is asked when that is over.
    let mut resume = super::Resume::new(wanted(&["a", "b"]), Patience::default());
    ask(&mut resume);
    assert_eq!(resume.failed(busy(50), 0), Some(Duration::ZERO));
    ask(&mut resume);
    assert_eq!(resume.failed(busy(70), 0), Some(Duration::from_secs(50)));
    resume.note_time(Duration::from_secs(50));
    assert_eq!(ask(&mut resume).address, 0);
}

#[test]
fn patience_is_about_failures_in_a_row() {
    let mut resume = Resume::new(wanted(&["a"]), Patience { attempts: 2, ..Patience::default() });
    for piece in 0..5 {
        ask(&mut resume);
        if piece == 0 {
            resume.head(&ok(Some("\"x\""))).unwrap();
        } else {
            resume.head(&part(piece * PIECE, LENGTH - 1, Some("\"x\""))).unwrap();
        }
        feed(&mut resume, piece * PIECE, (piece + 1) * PIECE + 5);
        assert!(resume.failed(broken(), 0).is_some(), "something came each time");
    }
    ask(&mut resume);
    assert!(resume.failed(broken(), 0).is_some());
    ask(&mut resume);
    assert!(resume.failed(broken(), 0).is_none());
}

/// A server that answers with parts too small to be remembered was asked for the same bytes for ever.
#[test]
fn parts_that_lead_nowhere_are_a_failure() {
    let mut resume = two_pieces(Some("\"x\""), &["a"]);
    ask(&mut resume);
    resume.head(&part(2 * PIECE, 2 * PIECE + 9, Some("\"x\""))).unwrap();
    feed(&mut resume, 2 * PIECE, 2 * PIECE + 10);
    assert!(matches!(resume.end(), Err(Failure::Range(_))));
}

#[test]
fn tags_that_change_all_the_time_end_in_trust_in_the_digest_or_in_nothing() {
    for (digest, asked_again) in [(wanted(&["a"]).digest, true), (None, false)] {
        let mut resume = Resume::new(Wanted { digest, ..wanted(&["a"]) }, Patience::default());
        let mut alive = true;
        for round in 0..=limits::RESTARTS + 1 {
            ask(&mut resume);
            resume.head(&ok(Some(&format!("\"{round}\"")))).unwrap();
            feed(&mut resume, 0, PIECE);
            alive = resume.failed(broken(), 0).is_some();
        }
        assert_eq!(alive, asked_again);
        if alive {
            let asked = ask(&mut resume);
            assert_eq!((asked.range, asked.if_range), (Some((PIECE, None)), None));
        }
    }
}

#[test]
fn a_content_of_unknown_length_ends_where_its_body_ends() {
    for length in [0, 5, PIECE, 2 * PIECE, 2 * PIECE + 5] {
        let mut resume = Resume::new(Wanted { size: None, ..wanted(&["a"]) }, Patience::default());
        ask(&mut resume);
        resume.head(&Head { content_length: None, ..ok(None) }).unwrap();
        feed(&mut resume, 0, length);
        let last = resume.end().unwrap();
        assert_eq!(last.is_some(), !length.is_multiple_of(PIECE));
        assert_eq!((resume.length(), resume.held_bytes()), (Some(length), length));
        assert_eq!(resume.proceed(), Next::Check, "{length}");
    }
}

/// In pieces 0, 2 to 3, and 5; the second begins in the piece that the first ends in.
fn some_sections() -> Sections {
    let content = content();
    let digest = |start: u64, end: u64| Some(Digest::of(&content[start as usize..end as usize]));
    let section = |start, end, digest| Section { start, end, digest };
    let list = vec![
        section(0, 500, None),
        section(2 * PIECE + 9, 3 * PIECE + 10, digest(2 * PIECE + 9, 3 * PIECE + 10)),
        section(3 * PIECE + 10, 3 * PIECE + 20, digest(3 * PIECE + 10, 3 * PIECE + 20)),
        section(5 * PIECE + 1, LENGTH, digest(5 * PIECE + 1, LENGTH)),
    ];
    Sections::new(LENGTH, list).unwrap()
}

#[test]
fn of_sections_only_their_pieces_are_asked_for() {
    let mut resume = resume(Wanted { sections: Some(some_sections()), ..wanted(&["a"]) });
    assert_eq!(resume.wanted_bytes(), Some(3 * PIECE + 7));
    // What an earlier run has brought beside them does not count here.
    resume.hold(1);
    for (range, bytes) in [((0, Some(PIECE)), PIECE), ((2 * PIECE, Some(4 * PIECE)), 2 * PIECE), ((5 * PIECE, None), 7)]
    {
        let before = resume.held_bytes();
        assert_eq!(ask(&mut resume), Ask { address: 0, range: Some(range), if_range: None });
        let end = range.1.unwrap_or(LENGTH);
        assert_eq!(resume.head(&part(range.0, end - 1, Some("\"any\""))), Ok(false));
        feed(&mut resume, range.0, end);
        assert_eq!(resume.end(), Ok(None));
        assert_eq!(resume.held_bytes(), before + bytes);
    }
    assert_eq!(resume.proceed(), Next::Check);
    assert_eq!(resume.due_block(0), None, "nobody has said what it should be");
    let due = |resume: &Resume, piece| resume.due_block(piece).map(|(block, _)| block);
    assert_eq!((due(&resume, 2), due(&resume, 3), due(&resume, 5)), (Some(1), Some(1), Some(3)));
    resume.block(1, true).unwrap();
    assert_eq!((due(&resume, 2), due(&resume, 3)), (None, Some(2)));
}

#[test]
fn a_bad_section_costs_its_pieces_and_those_beside_it_are_looked_at_again() {
    let mut resume = resume(Wanted { sections: Some(some_sections()), ..wanted(&["a", "b"]) });
    for piece in [0, 2, 3, 5] {
        resume.hold(piece);
    }
    resume.block(2, true).unwrap();
    resume.block(1, false).unwrap();
    // An earlier run has left it, so nobody is to blame yet; the second time it is had of somebody else.
    for address in 0..2 {
        let asked = ask(&mut resume);
        assert_eq!((asked.address, asked.range), (address, Some((2 * PIECE, Some(4 * PIECE)))));
        resume.head(&part(2 * PIECE, 4 * PIECE - 1, None)).unwrap();
        feed(&mut resume, 2 * PIECE, 4 * PIECE);
        if address == 0 {
            resume.block(1, false).unwrap();
        }
    }
    for block in [1, 2] {
        assert_eq!(resume.due_block(3).map(|(block, _)| block), Some(block));
        resume.block(block, true).unwrap();
    }
    resume.block(3, true).unwrap();
    assert_eq!(resume.proceed(), Next::Check);
}

#[test]
fn whoever_sends_all_of_it_instead_of_a_section_is_not_asked_again() {
    let mut resume = resume(Wanted { sections: Some(some_sections()), ..wanted(&["a", "b"]) });
    for address in 0..2 {
        assert_eq!(ask(&mut resume).address, address);
        let failure = resume.head(&ok(Some("\"x\""))).unwrap_err();
        assert!(matches!(failure, Failure::Range(_)), "{failure:?}");
        assert!(resume.take(b"x").is_err());
        assert_eq!(resume.failed(failure, 0).is_some(), address == 0);
    }
    assert_eq!(resume.proceed(), Next::Fail);
}

//! The journal: what it says after every cut, every flipped bit and every crash.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use surefoot::codec::frame::Header;
use surefoot::journal::{Found, Journal, JournalError, scan_bytes};
use surefoot::limits::{FRAME_HEADER, FRAME_PAYLOAD, JOURNAL_BLOCK, JOURNAL_BLOCKS, JOURNAL_FRAMES};
use surefoot::model::TreePath;
use surefoot::vfs::sim::{Budget, Options, Profile};
use surefoot::vfs::{Place, Rename, RootId, SimVfs, Vfs};

const ID: [u8; 16] = [7; 16];
const FIRST: [u8; 16] = [1; 16];
const SECOND: [u8; 16] = [2; 16];

fn place() -> Place {
    Place { root: RootId::STATE, path: TreePath::parse("journal").unwrap() }
}

fn disk(profile: Profile) -> SimVfs {
    let vfs = SimVfs::with(Options { profile, ..Options::default() });
    let new = Place { root: RootId::STATE, path: TreePath::parse("journal.new").unwrap() };
    Journal::create(&vfs, &new, ID, FIRST).unwrap();
    vfs.sync_all().unwrap();
    vfs.rename(&new, &place(), Rename::NoReplace).unwrap();
    vfs.sync_all().unwrap();
    vfs
}

fn open(vfs: &SimVfs) -> (Journal<SimVfs>, Vec<Vec<u8>>) {
    Journal::open(vfs, &place()).unwrap()
}

fn bytes(vfs: &SimVfs) -> Vec<u8> {
    vfs.read_file(".surefoot/journal").unwrap()
}

/// Payloads of many lengths that no two epochs share.
fn payload(epoch: u64, index: usize) -> Vec<u8> {
    let length = [5, 40, 0, 300, 1, FRAME_PAYLOAD][index % 6];
    (0..length).map(|at| (at as u64 * 31 + epoch * 101 + index as u64 * 7 + 1) as u8).collect()
}

/// A journal in epoch `epoch`, whose half was used before if there were two epochs more, with a barrier after each
/// record: so all is durable but the last.
fn filled(vfs: &SimVfs, epoch: u64, records: usize) -> Vec<Vec<u8>> {
    let (mut journal, _) = open(vfs);
    for number in 0..=epoch {
        if number > 0 {
            journal.turn(vfs, if number % 2 == 1 { SECOND } else { FIRST }).unwrap();
        }
        // Earlier epochs are longer, so that their frames stand behind those of later ones.
        let count = if number == epoch { records } else { records + 3 };
        for index in 0..count {
            journal.sync(vfs).unwrap();
            journal.append(vfs, &payload(number, index)).unwrap();
        }
    }
    journal.sync(vfs).unwrap();
    (0..records).map(|index| payload(epoch, index)).collect()
}

fn header(epoch: u64) -> Header {
    Header { journal: ID, epoch, current: if epoch % 2 == 1 { SECOND } else { FIRST } }
}

#[test]
fn a_new_journal_is_empty_and_full_size() {
    let vfs = disk(Profile::Posix);
    let (journal, payloads) = open(&vfs);
    assert_eq!((journal.header(), payloads), (header(0), vec![]));
    assert_eq!(bytes(&vfs).len(), JOURNAL_BLOCKS * JOURNAL_BLOCK);
    assert!(Journal::create(&vfs, &place(), ID, FIRST).is_err(), "another one is never overwritten");
}

#[test]
fn what_is_appended_is_read_in_every_epoch() {
    let vfs = disk(Profile::Posix);
    for epoch in 0..5 {
        let (mut journal, _) = open(&vfs);
        if epoch > 0 {
            journal.turn(&vfs, header(epoch).current).unwrap();
            assert_eq!(open(&vfs).1, Vec::<Vec<u8>>::new(), "an epoch begins empty");
        }
        let mut expected = Vec::new();
        for index in 0..9 - epoch as usize {
            expected.push(payload(epoch, index));
            journal.append(&vfs, &expected[index]).unwrap();
            let (reopened, payloads) = open(&vfs);
            assert_eq!((reopened.header(), &payloads), (header(epoch), &expected));
        }
    }
}

#[test]
fn records_written_by_several_processes_follow_one_another() {
    let vfs = disk(Profile::Posix);
    let expected: Vec<_> = (0..7).map(|index| payload(0, index)).collect();
    for (index, payload) in expected.iter().enumerate() {
        let (mut journal, before) = open(&vfs);
        assert_eq!(before, expected[..index]);
        journal.append(&vfs, payload).unwrap();
        if index % 2 == 0 {
            journal.sync(&vfs).unwrap();
        }
    }
    assert_eq!(open(&vfs).1, expected);
}

#[test]
fn a_full_half_and_a_long_payload_are_refused_and_change_nothing() {
    let vfs = disk(Profile::Posix);
    let (mut journal, _) = open(&vfs);
    let full = |result| matches!(result, Err(JournalError::Full));
    assert!(full(journal.append(&vfs, &vec![1; FRAME_PAYLOAD + 1])));
    for index in 0..JOURNAL_FRAMES {
        journal.append(&vfs, &payload(0, index)).unwrap();
    }
    let before = bytes(&vfs);
    assert!(full(journal.append(&vfs, b"one more")));
    assert_eq!(bytes(&vfs), before);
    assert_eq!(open(&vfs).1.len(), JOURNAL_FRAMES);
    let (mut reopened, _) = open(&vfs);
    assert!(full(reopened.append(&vfs, b"one more")));
    journal.turn(&vfs, SECOND).unwrap();
    journal.append(&vfs, b"there is room again").unwrap();
    assert_eq!(open(&vfs).1, [b"there is room again".to_vec()]);
}

/// A file that ends early, or ends in zeros, at every byte: what it says is a beginning of what was written, with every
/// record that lies before the cut, or it is damaged. Cut inside the headers it may fall back to the epoch before, but
/// then it holds none of its records.
#[test]
fn a_cut_at_every_byte_leaves_a_beginning() {
    for epoch in [0, 1, 2, 3] {
        let vfs = disk(Profile::Posix);
        let expected = filled(&vfs, epoch, 6);
        let whole = bytes(&vfs);
        assert_eq!(scan_bytes(&whole).unwrap().payloads, expected);
        let last = header(epoch).frame_offset(6) as usize;
        let (mut damaged, mut prefixes) = (0, vec![0; 7]);
        for cut in 0..=last {
            for zeros in [false, true] {
                let mut bytes = whole[..cut].to_vec();
                if zeros {
                    // Only the part that can matter is compared, the rest is zeros in either form.
                    bytes.resize(last.min(cut + JOURNAL_BLOCK), 0);
                }
                let intact = (0..6).take_while(|index| frame_end(epoch, *index, &expected) <= cut).count();
                match scan_bytes(&bytes) {
                    Ok(found) if found.header.epoch == epoch => {
                        let got = found.payloads.len();
                        assert_eq!(found.payloads, expected[..got], "epoch {epoch}, cut at {cut}");
                        // A frame whose last bytes are zeros anyway is sound although they are cut.
                        assert!(got == intact || (got == intact + 1 && cut_zeros(&whole, cut, epoch, intact)));
                        prefixes[got] += 1;
                    }
                    Ok(found) => {
                        assert!(cut < 2 * JOURNAL_BLOCK && found.payloads.is_empty(), "epoch {epoch}, cut at {cut}");
                    }
                    Err(JournalError::Damaged(_)) => {
                        assert!(cut < 56, "epoch {epoch}, cut at {cut}");
                        damaged += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(damaged > 0 && prefixes.iter().all(|count| *count > 0), "epoch {epoch}: {prefixes:?}");
    }
}

fn frame_end(epoch: u64, index: usize, payloads: &[Vec<u8>]) -> usize {
    header(epoch).frame_offset(index as u32) as usize + FRAME_HEADER + payloads[index].len()
}

/// Are all the bytes of frame `index` behind the cut zeros?
fn cut_zeros(whole: &[u8], cut: usize, epoch: u64, index: usize) -> bool {
    let end = header(epoch).frame_offset(index as u32) as usize + FRAME_HEADER + payload(epoch, index).len();
    whole[cut..end].iter().all(|byte| *byte == 0)
}

#[test]
fn a_journal_that_is_shorter_than_it_was_made_is_damaged() {
    let vfs = disk(Profile::Posix);
    filled(&vfs, 1, 4);
    let whole = bytes(&vfs);
    for cut in [0, 1, 55, 4096, 8192, header(1).frame_offset(2) as usize, whole.len() - 1] {
        let vfs = vfs.fork();
        vfs.write_file(".surefoot/journal", &whole[..cut]);
        let result = Journal::open(&vfs, &place());
        assert!(matches!(result, Err(JournalError::Damaged(_))), "cut at {cut}");
    }
}

/// Every bit of every block that was written.
#[test]
fn no_flipped_bit_is_believed() {
    for (epoch, records) in [(0, 5), (1, 1), (2, 4), (3, 5)] {
        let vfs = disk(Profile::Posix);
        let expected = filled(&vfs, epoch, records);
        let mut bytes = bytes(&vfs);
        let (mut damaged, mut cut) = (0, 0);
        let frame = |index: usize| header(epoch).frame_offset(index as u32) as usize;
        let ends: Vec<usize> = (0..records).map(|index| frame_end(epoch, index, &expected)).collect();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at..].iter().all(|byte| *byte == 0) {
                break;
            }
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let hit = (0..records).find(|index| (frame(*index)..ends[*index]).contains(&at));
                match (scan_bytes(&bytes), hit) {
                    (Ok(Found { payloads, header, .. }), None) => {
                        assert_eq!((payloads, header.epoch), (expected.clone(), epoch), "byte {at}, bit {bit}");
                    }
                    (Ok(found), Some(index)) => {
                        assert_eq!(index, records - 1, "byte {at}, bit {bit}");
                        assert_eq!(found.payloads, expected[..index], "byte {at}, bit {bit}");
                        cut += 1;
                    }
                    (Err(JournalError::Damaged(_)), hit) => {
                        let header_only = hit.is_none() && at < 56 && epoch == 0;
                        assert!(header_only || hit.is_some_and(|index| index < records - 1), "byte {at}, bit {bit}");
                        damaged += 1;
                    }
                    (Err(other), _) => panic!("{other}"),
                }
                bytes[at] ^= 1 << bit;
            }
            // All of what means something, and a sample of what means nothing.
            let meant = at < 64
                || (JOURNAL_BLOCK..JOURNAL_BLOCK + 64).contains(&at)
                || (0..records).any(|index| (frame(index)..ends[index]).contains(&(at + 1)));
            at += if meant { 1 } else { (JOURNAL_BLOCK - at % JOURNAL_BLOCK).min(97) };
        }
        assert!(cut > 0 && (damaged > 0 || records == 1), "epoch {epoch}: {cut} cut, {damaged} damaged");
    }
}

#[test]
fn frames_of_an_older_epoch_never_count() {
    let vfs = disk(Profile::Posix);
    filled(&vfs, 2, 3);
    let (journal, payloads) = open(&vfs);
    assert_eq!((journal.header().epoch, payloads.len()), (2, 3));
    let whole = bytes(&vfs);
    let stale = header(0).frame_offset(3) as usize;
    assert!(header(0).decode_frame(3, &whole[stale..stale + JOURNAL_BLOCK]).is_some(), "an old frame stands there");
    // Not even where it takes the place of a torn one.
    let mut torn = whole.clone();
    let (from, to) = (header(0).frame_offset(4) as usize, header(2).frame_offset(2) as usize);
    torn.copy_within(from..from + JOURNAL_BLOCK, to);
    assert_eq!(scan_bytes(&torn).unwrap().payloads.len(), 2);
    // Nor frames of another journal, or a frame at another index.
    let other = Header { journal: [8; 16], ..header(2) };
    torn[to..to + FRAME_HEADER + 1].copy_from_slice(&other.encode_frame(2, 0, 0, b"x").0);
    assert_eq!(scan_bytes(&torn).unwrap().payloads.len(), 2);
    let mut moved = whole;
    let (from, to) = (header(2).frame_offset(2) as usize, header(2).frame_offset(3) as usize);
    moved.copy_within(from..from + JOURNAL_BLOCK, to);
    assert_eq!(scan_bytes(&moved).unwrap().payloads.len(), 3);
}

#[test]
fn a_torn_header_is_adopted_if_its_first_frame_stands() {
    let vfs = disk(Profile::Posix);
    let old = filled(&vfs, 2, 3);
    let mut journal = open(&vfs).0;
    journal.turn(&vfs, SECOND).unwrap();
    let turned = bytes(&vfs);
    journal.append(&vfs, b"begins").unwrap();
    let begun = bytes(&vfs);
    for cut in 0..56 {
        let tear = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[JOURNAL_BLOCK + cut] ^= 0x55;
            bytes
        };
        let found = scan_bytes(&tear(&turned)).unwrap();
        assert_eq!((found.header.epoch, found.payloads), (2, old.clone()), "nothing says that the epoch began");
        let found = scan_bytes(&tear(&begun)).unwrap();
        assert_eq!((found.header.epoch, found.payloads), (3, vec![b"begins".to_vec()]));
        // It goes on from there.
        let vfs = vfs.fork();
        vfs.write_file(".surefoot/journal", tear(&begun));
        let (mut journal, _) = open(&vfs);
        journal.append(&vfs, b"goes on").unwrap();
        assert_eq!(open(&vfs).1, [b"begins".to_vec(), b"goes on".to_vec()]);
        journal.turn(&vfs, FIRST).unwrap();
        journal.append(&vfs, b"next").unwrap();
        let (journal, payloads) = open(&vfs);
        assert_eq!((journal.header().epoch, payloads), (4, vec![b"next".to_vec()]));
    }
}

/// The header of an epoch that was adopted by its frames was not written again. The next epoch then takes the place of
/// the other header: torn as well, it left a journal without any.
#[test]
fn an_adopted_header_is_written_before_the_other_one_goes() {
    let vfs = disk(Profile::Posix);
    filled(&vfs, 1, 2);
    let file = vfs.open(&place(), surefoot::vfs::Access::Write).unwrap();
    vfs.write_at(&file, header(1).offset(), &[0; JOURNAL_BLOCK]).unwrap();
    vfs.sync_all().unwrap();
    let (mut journal, payloads) = open(&vfs);
    assert_eq!((journal.header().epoch, payloads.len()), (1, 2));
    journal.sync(&vfs).unwrap();
    journal.turn(&vfs, FIRST).unwrap();
    vfs.write_at(&file, header(2).offset(), &[0; JOURNAL_BLOCK]).unwrap();
    let mut epochs = BTreeSet::new();
    vfs.for_each_crash_image(&Budget::default(), &mut |image| {
        epochs.insert(open(&image.mount()).0.header().epoch);
    });
    assert_eq!(epochs, BTreeSet::from([1, 2]));
}

#[test]
fn headers_that_contradict_each_other_are_damage() {
    let vfs = disk(Profile::Posix);
    filled(&vfs, 1, 2);
    let whole = bytes(&vfs);
    for bad in [header(3), header(7), Header { journal: [9; 16], ..header(1) }] {
        let mut bytes = whole.clone();
        bytes[JOURNAL_BLOCK..JOURNAL_BLOCK + 56].copy_from_slice(&bad.encode());
        let result = scan_bytes(&bytes);
        assert!(matches!(result, Err(JournalError::Damaged(_))), "{bad:?} beside epoch 0 gives {result:?}");
    }
    // An even epoch in the odd slot is no header at all.
    let mut bytes = whole;
    bytes[JOURNAL_BLOCK..JOURNAL_BLOCK + 56].copy_from_slice(&header(2).encode());
    assert_eq!(scan_bytes(&bytes).unwrap().header.epoch, 1, "the frames of epoch 1 stand");
}

#[test]
fn a_hole_is_damage_only_below_a_barrier() {
    for barrier in [false, true] {
        let vfs = disk(Profile::Posix);
        let (mut journal, _) = open(&vfs);
        journal.append(&vfs, b"zero").unwrap();
        journal.sync(&vfs).unwrap();
        journal.append(&vfs, b"one").unwrap();
        if barrier {
            journal.sync_all(&vfs).unwrap();
        }
        journal.append(&vfs, b"two").unwrap();
        let mut bytes = bytes(&vfs);
        bytes[header(0).frame_offset(1) as usize + FRAME_HEADER] ^= 1;
        match scan_bytes(&bytes) {
            Ok(found) => assert!(!barrier && found.payloads == [b"zero".to_vec()]),
            Err(error) => assert!(barrier && matches!(error, JournalError::Damaged(_)), "{error}"),
        }
        // What is appended in the hole takes nothing of the lost group along.
        if !barrier {
            vfs.write_file(".surefoot/journal", &bytes);
            let (mut journal, _) = open(&vfs);
            journal.append(&vfs, b"another").unwrap();
            assert_eq!(open(&vfs).1, [b"zero".to_vec(), b"another".to_vec()]);
            journal.sync(&vfs).unwrap();
            journal.append(&vfs, b"and on").unwrap();
            assert_eq!(open(&vfs).1, [b"zero".to_vec(), b"another".to_vec(), b"and on".to_vec()]);
        }
    }
}

#[test]
fn a_torn_tail_is_overwritten() {
    for keep in [0, 1, 7, FRAME_HEADER, FRAME_HEADER + 3] {
        let vfs = disk(Profile::Posix);
        let expected = filled(&vfs, 1, 4);
        let mut torn = bytes(&vfs);
        let last = header(1).frame_offset(3) as usize;
        torn[last + keep..last + JOURNAL_BLOCK].fill(0xee);
        vfs.write_file(".surefoot/journal", &torn);
        let (mut journal, payloads) = open(&vfs);
        assert_eq!(payloads, expected[..3]);
        journal.append(&vfs, b"new").unwrap();
        let (_, payloads) = open(&vfs);
        assert_eq!((payloads.len(), payloads[3].as_slice()), (4, &b"new"[..]));
    }
}

/// Power is lost around every call: what was synced is there, and after it stands nothing but a beginning of what was
/// appended later.
#[test]
fn what_was_synced_survives_every_crash() {
    let budget = Budget { seed: 20_261_122, byte_cuts: usize::MAX, ..Budget::default() };
    let mut images = 0;
    for profile in Profile::ALL {
        let vfs = disk(profile);
        let mut model = Model { epoch: 0, records: vec![], synced: (0, 0), begun: vec![(0, vec![])] };
        let (mut journal, _) = open(&vfs);
        // One barrier for several records, one for each, none at all, and halves that are used again.
        for (epoch, script) in ["aas", "asaaSas", "aaa", "a", "", "asasa", "a", "aaaSaa"].iter().enumerate() {
            if epoch > 0 {
                if epoch % 3 == 0 {
                    // Another process goes on.
                    journal = open(&vfs).0;
                }
                journal.turn(&vfs, header(epoch as u64).current).unwrap();
                model.turn();
                images += model.judge(&vfs, &budget);
            }
            for act in script.chars() {
                match act {
                    'a' => {
                        let payload = payload(epoch as u64, model.records.len());
                        journal.append(&vfs, &payload).unwrap();
                        model.append(payload);
                    }
                    's' => {
                        journal.sync(&vfs).unwrap();
                        model.synced = (model.epoch, model.records.len());
                    }
                    _ => {
                        journal.sync_all(&vfs).unwrap();
                        model.synced = (model.epoch, model.records.len());
                    }
                }
                images += model.judge(&vfs, &budget);
            }
        }
    }
    println!("{images} images, seed {}", budget.seed);
    assert!(images > 1_000, "only {images} images");
}

struct Model {
    epoch: u64,
    records: Vec<Vec<u8>>,
    /// The epoch and how many of its records a barrier has covered.
    synced: (u64, usize),
    /// Every epoch and its records.
    begun: Vec<(u64, Vec<Vec<u8>>)>,
}

impl Model {
    fn turn(&mut self) {
        self.epoch += 1;
        self.records.clear();
        self.begun.push((self.epoch, Vec::new()));
    }

    fn append(&mut self, payload: Vec<u8>) {
        self.records.push(payload.clone());
        self.begun.last_mut().unwrap().1.push(payload);
    }

    fn judge(&self, vfs: &SimVfs, budget: &Budget) -> usize {
        let profile = vfs.options().profile;
        let counts = vfs.for_each_crash_image(budget, &mut |image| {
            let at = format!("{profile:?}, epoch {}, {} records, {}", self.epoch, self.records.len(), image.choice());
            let disk = image.mount();
            let (mut journal, payloads) =
                Journal::open(&disk, &place()).unwrap_or_else(|error| panic!("{at}: {error}"));
            let epoch = journal.header().epoch;
            let written = &self.begun.iter().find(|(number, _)| *number == epoch).unwrap_or_else(|| panic!("{at}")).1;
            assert!(written.starts_with(&payloads), "{at}: {payloads:?} instead of {written:?}");
            assert!((epoch, payloads.len()) >= self.synced, "{at}: {} of epoch {epoch}", payloads.len());
            // And it can be written on.
            journal.append(&disk, b"after").unwrap();
            let (_, after) = open(&disk);
            assert_eq!((after.len(), after.last().unwrap().as_slice()), (payloads.len() + 1, &b"after"[..]), "{at}");
        });
        counts.distinct
    }
}

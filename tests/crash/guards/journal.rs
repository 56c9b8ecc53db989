//! Guards of the journal: what it takes for a record, and when an epoch begins.

use super::path;
use crate::crash::{options, seed};
use surefoot::codec::frame::Header;
use surefoot::journal::{Journal, JournalError};
use surefoot::vfs::sim::{Budget, Profile};
use surefoot::vfs::{Access, Place, RootId, SimVfs, Vfs};

fn journal_place() -> Place {
    Place { root: RootId::STATE, path: path("journal") }
}

/// A disk with a journal that has just been made.
fn with_journal() -> SimVfs {
    let disk = SimVfs::with(options(Profile::Posix));
    Journal::create(&disk, &journal_place(), [7; 16], [0; 16]).unwrap();
    disk.reboot_clean()
}

fn open(disk: &SimVfs) -> Result<(Journal<SimVfs>, Vec<Vec<u8>>), JournalError> {
    Journal::open(disk, &journal_place())
}

fn write(disk: &SimVfs, offset: u64, bytes: &[u8]) {
    let file = disk.open(&journal_place(), Access::Write).unwrap();
    disk.write_at(&file, offset, bytes).unwrap();
}

/// The next epoch takes the place of the one before the last: if the last one is not durable by then, a power cut may
/// leave two headers that cannot be of one journal. By one process, and by one after the other.
#[test]
fn an_epoch_begins_when_the_one_before_it_is_durable() {
    for another_process in [false, true] {
        let disk = with_journal();
        let (mut journal, _) = open(&disk).unwrap();
        for epoch in 1..=4 {
            journal.turn(&disk, [epoch; 16]).unwrap();
            if another_process {
                drop(journal);
                journal = open(&disk).unwrap().0;
            }
            disk.for_each_crash_image(&Budget { seed: seed(), ..Budget::default() }, &mut |image| {
                let (journal, _) = open(&image.mount()).unwrap_or_else(|error| {
                    panic!("another process {another_process}, epoch {epoch}, {}: {error}", image.choice())
                });
                assert!(journal.header().epoch + 1 >= u64::from(epoch));
            });
        }
    }
}

/// The header of the epoch has rotted, and its frames tell that it had begun. The next epoch takes the place of the only
/// header that is left, so the other one is mended first.
#[test]
fn a_header_that_is_known_by_its_frames_is_written_before_the_next_epoch() {
    let disk = with_journal();
    let (mut journal, _) = open(&disk).unwrap();
    journal.turn(&disk, [1; 16]).unwrap();
    for record in [b"1", b"2"] {
        journal.append(&disk, record).unwrap();
        journal.sync(&disk).unwrap();
    }
    let last = journal.header();
    drop(journal);
    write(&disk, last.offset(), &[0; 4096]);
    let disk = disk.reboot_clean();
    let (mut journal, records) = open(&disk).unwrap();
    assert_eq!((journal.header().epoch, records.len()), (1, 2));
    journal.turn(&disk, [2; 16]).unwrap();
    let next = journal.header();
    drop(journal);
    // The write of the new header is torn.
    write(&disk, next.offset(), &[0; 4096]);
    let (journal, records) = open(&disk.reboot_clean()).unwrap();
    assert_eq!((journal.header().epoch, records.len()), (1, 2));
}

/// Nobody waits for a disk that has said already that all is on it.
#[test]
fn the_records_tell_that_their_epoch_is_durable() {
    let disk = with_journal();
    let (mut journal, _) = open(&disk).unwrap();
    journal.turn(&disk, [1; 16]).unwrap();
    for record in [b"1", b"2"] {
        journal.append(&disk, record).unwrap();
        journal.sync(&disk).unwrap();
    }
    drop(journal);
    let syncs = disk.syncs();
    open(&disk).unwrap().0.turn(&disk, [2; 16]).unwrap();
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn a_journal_that_was_cut_short_is_damaged() {
    let whole = with_journal().read_file(".surefoot/journal").unwrap();
    for length in [0, 4096, 3 * 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        let disk = with_journal();
        disk.write_file(".surefoot/journal", &whole[..length]);
        assert!(matches!(open(&disk), Err(JournalError::Damaged(_))), "{length}");
    }
}

#[test]
fn two_headers_that_cannot_be_of_one_journal_are_damage() {
    let header = |journal, epoch| Header { journal: [journal; 16], epoch, current: [0; 16] };
    for (even, odd, sound) in [
        (header(7, 2), header(7, 1), true),
        (header(7, 2), header(7, 3), true),
        (header(7, 2), header(8, 1), false),
        (header(7, 2), header(7, 5), false),
        (header(7, 4), header(7, 1), false),
    ] {
        let disk = with_journal();
        write(&disk, even.offset(), &even.encode());
        write(&disk, odd.offset(), &odd.encode());
        assert_eq!(open(&disk).is_ok(), sound, "{even:?} {odd:?}");
    }
}

/// What no barrier had covered may survive without what was written before it. It counts neither beside another record
/// that takes the place of what was lost, nor beyond a gap.
#[test]
fn records_follow_one_another_without_a_gap() {
    let disk = with_journal();
    let (mut journal, _) = open(&disk).unwrap();
    let header = journal.header();
    for record in [b"1", b"2", b"3"] {
        journal.append(&disk, record).unwrap();
    }
    drop(journal);
    write(&disk, header.frame_offset(1), &[0; 4096]);
    let disk = disk.reboot_clean();
    let (mut journal, records) = open(&disk).unwrap();
    assert_eq!(records, [b"1"]);
    journal.append(&disk, b"other").unwrap();
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, [&b"1"[..], b"other"]);
    // Not even where its checksum says, by chance, that it follows.
    write(&disk, header.frame_offset(1), &[0; 4096]);
    let (_, first) = header.encode_frame(0, 0, 0, b"1");
    let (by_chance, _) = header.encode_frame(2, first, 0, b"3");
    write(&disk, header.frame_offset(2), &by_chance);
    assert_eq!(open(&disk.reboot_clean()).unwrap().1, [b"1"]);
}

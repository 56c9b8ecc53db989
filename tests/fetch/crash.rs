//! The power fails while something is fetched: at every call, with everything that may then be on the disk.

use super::{PIECE, files, noise, wanted};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use surefoot::crashtest::Explorer;
use surefoot::fetch::{
    BlockMap, Body, Carrier, Download, Failure, FetchError, Fetched, Head, Options, Pace, Request, Response, Section,
    Sections, Wanted,
};
use surefoot::model::Digest;
use surefoot::vfs::sim::{Budget, Faults, Profile, SimVfs};

const LENGTH: usize = 6 * PIECE + 1000;

fn content() -> Vec<u8> {
    noise(LENGTH, 1)
}

/// Brings the content in chunks of a piece and a half; knows what was safe when it was last asked for more.
struct Net {
    content: Vec<u8>,
    safe: std::sync::Arc<AtomicU64>,
}

impl Net {
    fn new() -> Self {
        Self { content: content(), safe: std::sync::Arc::default() }
    }
}

struct Chunks {
    rest: Vec<u8>,
    at: usize,
    start: u64,
    safe: std::sync::Arc<AtomicU64>,
}

impl Carrier for Net {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let (start, end) = request.range.unwrap_or((0, None));
        let end = end.unwrap_or(LENGTH as u64);
        let mut head = Head { status: 200, etag: Some("\"t\"".into()), ..Head::default() };
        if request.range.is_some() {
            head.status = 206;
            head.content_range = Some(format!("bytes {start}-{}/{LENGTH}", end - 1));
        }
        let rest = self.content[start as usize..end as usize].to_vec();
        Ok(Response { head, body: Box::new(Chunks { rest, at: 0, start, safe: self.safe.clone() }) })
    }
}

impl Body for Chunks {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        // Everything that was handed over before was made durable before more is asked for.
        self.safe.fetch_max(self.start + self.at as u64, Ordering::Relaxed);
        let from = self.at;
        self.at = (from + PIECE * 3 / 2).min(self.rest.len());
        Ok((from < self.at).then_some(&self.rest[from..self.at]))
    }
}

/// No time passes.
struct Still;

impl Pace for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wait(&self, _: Duration, _: &dyn Fn() -> bool) {}
}

fn fetch(disk: &SimVfs, net: &Net, wanted: &Wanted) -> Result<Fetched, FetchError> {
    let options = Options { sync_every: Duration::ZERO, ..Options::default() };
    let files = files();
    Download { vfs: disk, files: &files, carrier: net, pace: &Still, options: &options, watch: &() }.run(wanted)
}

fn in_state(disk: &SimVfs) -> Option<Vec<u8>> {
    use surefoot::vfs::{Access, Vfs as _};
    let file = disk.open(&files().content, Access::Read).ok()?;
    let size = disk.stat_of(&file, &files().content).ok()?.size as usize;
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        done += disk.read_at(&file, done as u64, &mut bytes[done..]).ok()?;
    }
    Some(bytes)
}

/// After a cut it goes on, ends with the exact bytes, and fetches nothing that was durable and nothing twice.
fn judge(disk: &SimVfs, wanted: &Wanted, done: bool, safe: u64) -> Result<(), String> {
    let held = if done { LENGTH as u64 } else { safe / PIECE as u64 * PIECE as u64 };
    let fetched = fetch(disk, &Net::new(), wanted).map_err(|error| error.to_string())?;
    if in_state(disk).as_deref() != Some(&content()[..]) {
        return Err("the content is not what it should be".into());
    }
    if fetched.received + held > LENGTH as u64 {
        return Err(format!("{held} bytes were durable, {} were fetched", fetched.received));
    }
    Ok(())
}

#[test]
fn no_cut_at_any_call_makes_a_download_believe_what_is_not_there() {
    let with_digest = wanted("x", &content());
    let with_blocks = Wanted { blocks: BlockMap::of(PIECE as u64, &content()), ..with_digest.clone() };
    for wanted in [with_digest, with_blocks] {
        let tally = Explorer::new(|_| ())
            .budget(Budget::sample(60, 1))
            .run(|disk| {
                let net = Net::new();
                let done = fetch(disk, &net, &wanted).is_ok();
                (done, net.safe.load(Ordering::Relaxed))
            })
            .judge(|disk, (done, safe)| judge(disk, &wanted, *done, *safe))
            .unwrap_or_else(|violation| panic!("{violation}"));
        println!("{tally:?}");
        assert!(tally.crash_points > 100 && tally.states > 5000, "{tally:?}");
    }
}

/// Two stretches that share no piece: pieces 1 and 2, and 5.
fn some_sections() -> Sections {
    let content = content();
    let section = |start: usize, end: usize| Section {
        start: start as u64,
        end: end as u64,
        digest: Some(Digest::of(&content[start..end])),
    };
    Sections::new(LENGTH as u64, vec![section(PIECE + 5, 2 * PIECE + 9), section(5 * PIECE, 5 * PIECE + 1)]).unwrap()
}

/// After a cut the rest of the sections is fetched and nothing else, and what is here serves whoever wants all of it.
#[test]
fn no_cut_at_any_call_makes_sections_believe_what_is_not_there() {
    let whole = wanted("x", &content());
    let sections = Wanted { sections: Some(some_sections()), ..whole.clone() };
    let pieces = [1, 2, 5];
    let judge = |disk: &SimVfs, done: bool, safe: u64| -> Result<(), String> {
        let durable = |piece: &&u64| done || (**piece + 1) * PIECE as u64 <= safe;
        let held = pieces.iter().filter(durable).count() * PIECE;
        let fetched = fetch(disk, &Net::new(), &sections).map_err(|error| error.to_string())?;
        if fetched.received as usize + held > 3 * PIECE || !fetched.verified {
            return Err(format!("{held} bytes were durable, {} were fetched", fetched.received));
        }
        let bytes = in_state(disk).ok_or("nothing is here")?;
        for range in [PIECE..3 * PIECE, 5 * PIECE..6 * PIECE] {
            if bytes.get(range.clone()) != Some(&content()[range]) {
                return Err("a section is not what it should be".into());
            }
        }
        let fetched = fetch(disk, &Net::new(), &whole).map_err(|error| error.to_string())?;
        if fetched.received as usize != LENGTH - 3 * PIECE || in_state(disk).as_deref() != Some(&content()[..]) {
            return Err(format!("all of it took {} more bytes", fetched.received));
        }
        Ok(())
    };
    let tally = Explorer::new(|_| ())
        .budget(Budget::sample(60, 1))
        .run(|disk| {
            let net = Net::new();
            let done = fetch(disk, &net, &sections).is_ok();
            (done, net.safe.load(Ordering::Relaxed))
        })
        .judge(|disk, (done, safe)| judge(disk, *done, *safe))
        .unwrap_or_else(|violation| panic!("{violation}"));
    println!("{tally:?}");
    assert!(tally.crash_points > 50 && tally.states > 1000, "{tally:?}");
}

#[test]
fn no_more_bytes_come_than_are_allowed() {
    let (whole, allowed) = (wanted("x", &content()), 3 * PIECE as u64);
    let disk = SimVfs::new();
    let fetch = |wanted: &Wanted, most_bytes| {
        let options = Options { most_bytes: Some(most_bytes), ..Options::default() };
        let (files, net) = (files(), Net::new());
        Download { vfs: &disk, files: &files, carrier: &net, pace: &Still, options: &options, watch: &() }.run(wanted)
    };
    let refused = fetch(&whole, LENGTH as u64 - 1);
    assert!(matches!(refused, Err(FetchError::Budget { .. })), "{refused:?}");
    let sections = Wanted { sections: Some(some_sections()), ..whole.clone() };
    let refused = fetch(&sections, allowed - 1);
    assert!(matches!(refused, Err(FetchError::Budget { .. })), "{refused:?}");
    assert_eq!(fetch(&sections, PIECE as u64).unwrap().received, PIECE as u64, "two pieces of it came before");
    assert_eq!(fetch(&whole, LENGTH as u64 - allowed).unwrap().received, LENGTH as u64 - allowed);
}

/// A sync that nobody misses is useless or untested.
#[test]
fn every_sync_is_missed_when_it_is_ignored() {
    let wanted = wanted("x", &content());
    let clean = SimVfs::new();
    fetch(&clean, &Net::new(), &wanted).unwrap();
    for sync in 0..clean.syncs() {
        let found = Explorer::new(|_| ())
            .budget(Budget::sample(8, 1))
            .faults(Faults::none().ignore_sync(sync))
            .run(|disk| {
                let net = Net::new();
                let done = fetch(disk, &net, &wanted).is_ok();
                (done, net.safe.load(Ordering::Relaxed))
            })
            .judge(|disk, (done, safe)| judge(disk, &wanted, *done, *safe));
        assert!(found.is_err(), "sync {sync} is missed by nobody: {found:?}");
    }
}

#[test]
fn cut_again_and_again_it_ends_with_the_exact_bytes() {
    let wanted = wanted("x", &content());
    let mut dice = 20_261_122_u64;
    let mut roll = move |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let mut cuts = 0;
    for round in 0..200 {
        let disk = SimVfs::new();
        disk.set_options(|options| options.profile = Profile::ATOMIC[round % Profile::ATOMIC.len()]);
        let mut disk = disk.reboot_clean();
        for _ in 0..5 {
            disk.crash_at(roll(25));
            let finished = fetch(&disk, &Net::new(), &wanted).is_ok();
            cuts += u32::from(!finished);
            let (images, _) = disk.crash_images(&Budget::sample(6, roll(1 << 30)));
            disk = images[roll(images.len() as u64) as usize].mount();
        }
        judge(&disk, &wanted, false, 0).unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
    println!("{cuts} cuts");
    assert!(cuts > 300);
}

/// A failed sync leaves in the cache what may not be on the disk, and the next one succeeds and means nothing.
#[test]
fn after_a_failed_sync_nothing_of_it_is_used() {
    let wanted = wanted("x", &content());
    let clean = SimVfs::new();
    fetch(&clean, &Net::new(), &wanted).unwrap();
    let syncs = clean.syncs();
    assert!(syncs >= 3, "{syncs}");
    for sync in 0..syncs {
        let disk = SimVfs::new();
        disk.set_faults(Faults::none().fail_sync(sync));
        let failed = fetch(&disk, &Net::new(), &wanted);
        assert!(matches!(failed, Err(FetchError::Sync(_))), "sync {sync}: {failed:?}");
        assert_eq!(in_state(&disk), None, "sync {sync}");
        disk.set_faults(Faults::none());
        let fetched = fetch(&disk, &Net::new(), &wanted).unwrap();
        assert_eq!((fetched.received, in_state(&disk)), (LENGTH as u64, Some(content())), "sync {sync}");
    }
}

#[test]
fn what_rots_on_the_disk_is_fetched_again_and_nothing_else() {
    use surefoot::vfs::{Access, Vfs as _};
    let wanted = wanted("x", &content());
    let disk = SimVfs::new();
    fetch(&disk, &Net::new(), &wanted).unwrap();
    let file = disk.open(&files().content, Access::Write).unwrap();
    disk.write_at(&file, PIECE as u64 + 7, b"rot").unwrap();
    let fetched = fetch(&disk, &Net::new(), &wanted).unwrap();
    assert_eq!((fetched.received, in_state(&disk)), (PIECE as u64, Some(content())));
}

#[test]
fn a_memory_that_is_damaged_costs_what_it_no_longer_tells() {
    use surefoot::vfs::{Access, Vfs as _};
    let wanted = wanted("x", &content());
    for (offset, expected) in [(0, LENGTH), (4096, PIECE), (4096 + 8 * 6, 1000), (4000, LENGTH)] {
        let disk = SimVfs::new();
        fetch(&disk, &Net::new(), &wanted).unwrap();
        let file = disk.open(&files().memory, Access::Write).unwrap();
        disk.write_at(&file, offset, b"\xff\xff\xff").unwrap();
        let fetched = fetch(&disk, &Net::new(), &wanted).unwrap();
        assert_eq!((fetched.received, in_state(&disk)), (expected as u64, Some(content())), "{offset}");
    }
}

#[test]
fn room_is_looked_for_before_the_first_byte() {
    let wanted = wanted("x", &content());
    let disk = SimVfs::new();
    disk.set_options(|options| options.limit_bytes = Some(LENGTH as u64));
    let net = Net::new();
    match fetch(&disk, &net, &wanted) {
        Err(FetchError::Space { needed, free, .. }) => assert!(needed > free),
        other => panic!("{other:?}"),
    }
    assert_eq!(in_state(&disk), Some(Vec::new()), "no byte of it");
}

#[test]
fn a_full_disk_half_way_loses_nothing() {
    let unknown = Wanted { size: None, ..wanted("x", &content()) };
    let disk = SimVfs::new();
    disk.set_options(|options| options.limit_bytes = Some(2 * PIECE as u64 + 16_384));
    let failed = fetch(&disk, &Net::new(), &unknown);
    assert!(matches!(&failed, Err(FetchError::Disk(_))), "{failed:?}");
    disk.set_options(|options| options.limit_bytes = None);
    let fetched = fetch(&disk, &Net::new(), &unknown).unwrap();
    assert!(fetched.received < LENGTH as u64, "{fetched:?}");
    assert_eq!(in_state(&disk), Some(content()));
}

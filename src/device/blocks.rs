//! The missing blocks of a full package: which of its segments hold content that the tree does not have.
//!
//! The front of a package, its manifest and signatures, says what every segment is and what every file will be. It is
//! fetched first, and is the right one if its name is the one that the repository has signed. The digests of the segments
//! say then what of the rest is what it should be, so nothing of this is believed by whoever sent it.

use super::choose::{Decided, Offered, decide, is_described};
use super::downloads::{self, Downloads};
use super::engine::Engine;
use super::follow::Follower;
use super::observer::Observer;
use super::package::under;
use crate::error::{Code, Error};
use crate::fetch::{Carrier, FetchError, Options, Patience, Section, Sections, Wanted};
use crate::limits;
use crate::model::{Digest, Kind, Manifest, ManifestChange, TreePath};
use crate::package::{self, Package, Promise, Start};
use crate::repository::{Release, ReleaseKind};
use crate::strategy::StrategyError;
use crate::tree::{self, hash_file};
use crate::vfs::{FileType, Place, Stat, Vfs};
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

/// What comes before the segments of a package, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) promise: Promise,
    /// How long it is.
    pub(super) bytes: u64,
    /// Its digest: it may have to be fetched again, from somebody else.
    digest: Digest,
}

/// What to fetch of a full package, and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// What to fetch.
    pub(super) sections: Sections,
    /// Which segments that brings.
    pub(super) here: Vec<bool>,
    /// Contents that it does not bring, by the path that they will have: where the tree holds them.
    pub(super) local: BTreeMap<TreePath, TreePath>,
}

impl Blocks {
    /// Compares a full package of so many bytes with what is recorded of the tree. A file that nothing else is going to
    /// look at is read: its content has to be what is recorded to be of use. Nothing if all segments are needed.
    pub(super) fn compare<V: Vfs>(
        vfs: &V,
        recorded: &Manifest,
        front: &Front,
        length: u64,
    ) -> Result<Option<Self>, Error> {
        let promise = &front.promise;
        if promise.head().start != Start::Anything {
            return Ok(None);
        }
        let Some(target) = promise.manifest() else { return Ok(None) };
        let changes = tree::changes(recorded, &target);
        let changed = |path: &TreePath| changes.binary_search_by(|change| change.path.cmp(path)).is_ok();
        let mut sources = Sources::new(vfs, recorded, &changes);
        let all = promise.changes();
        let (mut local, mut missing) = (BTreeMap::new(), vec![false; all.len()]);
        for change in &changes {
            let Ok(at) = all.binary_search_by(|other| other.path.cmp(&change.path)) else { continue };
            let Some(node) = &change.after else { continue };
            // What has the content of another one that changes comes from where that does.
            let content = match all[at].source() {
                Some(package::Source::Payload) => at,
                Some(package::Source::Change(first)) if !changed(&all[*first].path) => *first,
                _ => continue,
            };
            match sources.of(&change.path, &node.kind) {
                Some(from) => drop(local.insert(change.path.clone(), from)),
                None => missing[content] = true,
            }
        }
        let here = promise.segments_holding(&|change| missing[change]);
        if here.iter().all(|here| *here) {
            return Ok(None);
        }
        let mut sections = vec![Section { start: 0, end: front.bytes, digest: Some(front.digest) }];
        let ranges = promise.segment_ranges(front.bytes).zip(promise.segments()).zip(&here);
        sections.extend(ranges.filter(|(_, here)| **here).map(|(((start, end), segment), _)| Section {
            start,
            end,
            digest: Some(segment.digest),
        }));
        Ok(Sections::new(length, sections).map(|sections| Self { sections, here, local }))
    }
}

/// Where the tree holds contents.
struct Sources<'a, V> {
    vfs: &'a V,
    recorded: &'a Manifest,
    /// By content: where it is, and whether that is what it should be.
    at: HashMap<(u64, Digest), (&'a TreePath, Held)>,
}

/// Is the content there?
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    No,
    /// As far as is recorded.
    Recorded,
    /// It was read.
    Read,
    /// It is going to be read, and nothing is changed if it is another.
    Touched,
    /// The same, and its path goes away: it can be moved.
    Leaving,
}

impl<'a, V: Vfs> Sources<'a, V> {
    fn new(vfs: &'a V, recorded: &'a Manifest, changes: &[ManifestChange]) -> Self {
        let mut at: HashMap<(u64, Digest), (&TreePath, Held)> = HashMap::new();
        for entry in recorded.entries() {
            let Kind::File { size, digest } = &entry.node.kind else { continue };
            let held = match changes.binary_search_by(|change| change.path.cmp(&entry.path)) {
                Ok(change) if changes[change].after.is_none() => Held::Leaving,
                Ok(_) => Held::Touched,
                Err(_) => Held::Recorded,
            };
            let known = at.entry((*size, *digest)).or_insert((&entry.path, held));
            if held > known.1 {
                *known = (&entry.path, held);
            }
        }
        Self { vfs, recorded, at }
    }

    /// Where the content is that this path will have.
    fn of(&mut self, path: &TreePath, kind: &Kind) -> Option<TreePath> {
        let Kind::File { size: size @ 1.., digest } = kind else { return None };
        if self.recorded.get(path).is_some_and(|node| node.kind == *kind) {
            return Some(path.clone());
        }
        let (from, held) = self.at.get_mut(&(*size, *digest))?;
        if *held == Held::Recorded {
            *held = if is_there(self.vfs, from, *size, *digest) { Held::Read } else { Held::No };
        }
        (*held != Held::No).then(|| (*from).clone())
    }
}

/// What cannot be read is not there.
pub(super) fn is_there<V: Vfs>(vfs: &V, path: &TreePath, size: u64, digest: Digest) -> bool {
    let at = Place::tree(path);
    let like_it = |stat: Stat| stat.kind == FileType::File && stat.size == size;
    vfs.stat(&at).is_ok_and(|stat| stat.is_some_and(like_it))
        && hash_file(vfs, &at).is_ok_and(|(_, found)| found == digest)
}

impl Follower<'_> {
    /// The full package of the version that is chosen, and how many bytes its front may have, if it may be that fetching
    /// only what is missing of it costs less than the way that is known.
    pub(super) fn worth_looking_into<'o>(&self, offered: &'o Offered, first: &Decided) -> Option<(&'o Release, u64)> {
        let Offered { rules, usable, installed, .. } = offered;
        let (to, known) = match first {
            Ok((strategy, _)) if !strategy.is_none() => (strategy.to, Some(strategy)),
            Err(StrategyError::OverBytes { to, .. }) => (*to, None),
            _ => return None,
        };
        let from_here = |release: &&Release| {
            let full = release.kind == ReleaseKind::Full && release.version == to;
            full && release.minimum.is_none_or(|minimum| *installed >= minimum)
        };
        let full = usable.iter().filter(from_here).min_by_key(|release| release.bytes);
        let release = full.filter(|_| !rules.force_full)?;
        let most = rules.max_bytes.unwrap_or(u64::MAX);
        let worth = match known {
            // The whole of it is going to be fetched anyhow.
            Some(known) if known.steps.iter().all(|step| step.name == release.path) => release.bytes / 2,
            Some(known) => {
                let cost = known.bytes.unwrap_or(u64::MAX);
                (cost / limits::FRONT_SHARE).min(most.saturating_sub(cost))
            }
            None => most.min(release.bytes / 2),
        };
        // What is here of the whole may be all that is missing of it.
        let other = known.filter(|known| known.steps.iter().any(|step| step.name != release.path));
        let cost = other.and_then(|known| known.bytes).unwrap_or(release.bytes).min(release.bytes);
        (cost >= limits::BLOCKS_WORTH).then_some((release, worth))
    }

    /// The front of a full package, fetched, or what is left of an earlier look.
    pub(super) fn front<'o, V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        Offered { rules, site, .. }: &Offered,
        (release, worth): (&'o Release, u64),
        (observer, received): (&dyn Observer, &mut u64),
    ) -> Result<Option<(&'o Release, Front)>, Error> {
        let vfs = open()?;
        let downloads = match Downloads::open(&vfs) {
            // Somebody is fetching already.
            Err(error) if error.code() == Code::Locked => return Ok(None),
            downloads => downloads?,
        };
        let wanted = self.wanted(release, *site);
        // All of it can still be had if this cannot, so nobody is asked for ever: each of several once, one twice.
        let attempts = self.options.patience.attempts.min((self.addresses.len() == 1).into());
        let patience = Patience { attempts, ..self.options.patience };
        let options = Options { most_bytes: rules.max_bytes, patience, ..self.options.clone() };
        let how = (self.carrier, &options);
        let front = fetch_front(&downloads, (&wanted, release.package), worth, how, (observer, received))?;
        Ok(front.filter(|front| is_described(front.promise.head(), release)).map(|front| (release, front)))
    }

    /// What is to be done, now that it is known what is missing of a full package; so many bytes were received for that.
    pub(super) fn choose_again<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        offered: &Offered,
        (first, release, front): (Decided, &Release, &Front),
        received: u64,
    ) -> Result<(Decided, Option<Blocks>), Error> {
        let engine = Engine::open(open()?)?;
        let Some(recorded) = engine.manifest()? else { return Ok((first, None)) };
        let Ok(recorded) = under(recorded, front.promise.head().policy) else { return Ok((first, None)) };
        let blocks = Blocks::compare(engine.vfs(), &recorded, front, release.bytes)?;
        let Some(blocks) = blocks.filter(|blocks| blocks.sections.bytes() < release.bytes) else {
            return Ok((first, None));
        };
        // What is here of the package may be what the blocks leave out.
        let held = downloads::held_of(engine.vfs(), &self.wanted(release, offered.site))?;
        let bytes = blocks.sections.bytes_besides(&held.pieces).saturating_add(received);
        Ok((decide(offered, Some((&release.path, bytes))), Some(blocks)))
    }
}

/// What came for the front of a package.
enum Came {
    Right(Box<Front>),
    /// It is not the one with that name; what is here of it was removed.
    Wrong,
    /// It says that it has so many bytes, and what is not here of them is more than it is worth.
    Large(u64),
    Nothing,
}

/// Fetches the front of a package, if at most `worth` bytes have to come for that, from one address after the other; they
/// are added to `received`. Nothing if it cannot be had in this way, or is nowhere the one with that name.
pub(super) fn fetch_front<V: Vfs>(
    downloads: &Downloads<'_, V>,
    (wanted, name): (&Wanted, Digest),
    worth: u64,
    (carrier, options): (&dyn Carrier, &Options),
    (observer, received): (&dyn Observer, &mut u64),
) -> Result<Option<Front>, Error> {
    let (before, mut claimed) = (*received, None);
    for (number, address) in wanted.addresses.iter().enumerate() {
        let one = Wanted { addresses: vec![address.clone()], ..wanted.clone() };
        loop {
            // What is left of an earlier look is not the fault of whoever is asked now.
            let left = downloads.held(wanted)?.pieces;
            let worth = worth.saturating_sub(received.saturating_sub(before));
            match front_of(downloads, (&one, name), worth, (carrier, options), (observer, received))? {
                Came::Right(front) => return Ok(Some(*front)),
                // Somebody else has said so then. What was fetched of the rest is not thrown away for that.
                Came::Large(_) if left.contains(&0) && left.len() == 1 => downloads.forget(wanted)?,
                // One alone may lie about it: the next one is asked, and what both say is believed.
                Came::Large(bytes)
                    if !left.contains(&0) && claimed != Some(bytes) && number + 1 < wanted.addresses.len() =>
                {
                    downloads.forget(wanted)?;
                    claimed = Some(bytes);
                    break;
                }
                Came::Large(_) => return Ok(None),
                Came::Wrong if !left.is_empty() => {}
                Came::Wrong | Came::Nothing => break,
            }
        }
    }
    Ok(None)
}

fn front_of<V: Vfs>(
    downloads: &Downloads<'_, V>,
    (wanted, name): (&Wanted, Digest),
    worth: u64,
    (carrier, options): (&dyn Carrier, &Options),
    (observer, received): (&dyn Observer, &mut u64),
) -> Result<Came, Error> {
    let length = wanted.size.unwrap_or(0);
    let first = limits::DOWNLOAD_PIECE.min(length);
    let (mut end, held) = (first, downloads.held(wanted)?);
    loop {
        let Some(sections) = Sections::new(length, vec![Section { start: 0, end, digest: None }]) else {
            return Ok(Came::Nothing);
        };
        // What is here of it costs nothing.
        if sections.bytes_besides(&held.pieces) > worth {
            return Ok(if end > first { Came::Large(end) } else { Came::Nothing });
        }
        let part = wanted.only(sections);
        let most_bytes = options.most_bytes.map(|most| most.saturating_sub(*received));
        let options = Options { most_bytes, ..options.clone() };
        match downloads.bring(&part, carrier, &options, (observer, received)) {
            Ok(_) => {}
            Err(error @ (FetchError::Cancelled | FetchError::Disk(_) | FetchError::Sync(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::debug!(%error, "the front of a full package cannot be had");
                return Ok(Came::Nothing);
            }
        }
        let mut beginning = Vec::new();
        downloads.read(wanted)?.take(limits::DOWNLOAD_PIECE).read_to_end(&mut beginning).map_err(package_error)?;
        let Ok(most) = package::most_front_bytes(&beginning) else { break };
        let most = most.min(length);
        if most <= end {
            break;
        }
        end = most;
    }
    let most = end.saturating_mul(limits::FRONT_RATIO);
    let opened = Package::open_with_limit(downloads.read(wanted)?.take(end), most).and_then(Package::accept_unsigned);
    match opened {
        Ok(package) if package.id() == name && package.front_bytes() + package.promise().packed_bytes() == length => {
            let bytes = package.front_bytes();
            let digest = downloads.digest(wanted, bytes)?;
            Ok(Came::Right(Box::new(Front { promise: package.into_payload().0, bytes, digest })))
        }
        // Whoever sent it lies, or it is too large: the digest of the whole will tell. The name covers the manifest
        // unpacked, so one that is packed in another way, or signed by others, has the name and another length: all
        // segments would be looked for in the wrong place.
        _ => {
            downloads.forget(wanted)?;
            Ok(Came::Wrong)
        }
    }
}

fn package_error(error: std::io::Error) -> Error {
    package::PackageError::Read(error).into()
}

//! `Follower`: a tree follows a repository: looks, chooses, fetches, applies.
//!
//! What is believed of the repository is durable before anything is built on it, what is fetched waits in the state
//! directory through any loss of power, and only then the tree is worked on: as by [`Engine::apply`].

use super::attempts::Attempts;
use super::blocks::{Blocks, Front};
use super::downloads::{Downloads, Watching};
use super::engine::{Engine, Report};
use super::observer::{Observer, Phase, Progress};
use super::package::PackageSettings;
use crate::codec::v1::tree_digest;
use crate::error::{Code, Error};
use crate::fetch::{self, Carrier, Failure, FetchError, Options, Patience, SystemPace, Wanted};
use crate::limits;
use crate::model::{Digest, Policy as Identity, Version};
use crate::package::{Head, Package, Start};
use crate::repository::{
    Answer, Base, Client, Clock, METADATA_DIRECTORY, Notice, OfflinePolicy, Release, ReleaseKind, RepositoryError,
    Request, Step, Stored, TARGETS_DIRECTORY, blob_name,
};
use crate::strategy::{
    Catalogue, Offer, OfferKind, Policy, Release as OfferedVersion, StrategyError, UpgradeStrategy,
    UpgradeStrategyManager, Way,
};
use crate::vfs::Vfs;
use std::io::Read as _;

/// A tree's way to its repository, and the rules by which it follows.
pub struct Follower<'a> {
    /// Where the repository is, and copies of it: addresses of folders, the best first. The others are asked for what
    /// the ones before do not give, or give wrong.
    pub addresses: Vec<String>,
    /// Who brings the bytes.
    pub carrier: &'a dyn Carrier,
    /// How they are fetched.
    pub options: Options,
    /// What the device knows of the time.
    pub clock: Clock,
    /// What is done about metadata that has expired.
    pub offline: OfflinePolicy,
    /// Which version is chosen, and by which way. An older version needs the permission of the repository besides
    /// `allow_downgrade`; how often each was tried is read from the state directory, unless `again` is asked for.
    pub rules: Policy,
    /// Try versions that were given up.
    pub again: bool,
}

/// What a look at a repository has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What is to be done.
    pub strategy: UpgradeStrategy,
    /// The packages for it, in the order in which they are applied.
    pub packages: Vec<Release>,
    /// What was accepted although not everything is as it should be.
    pub notices: Vec<Notice>,
    /// Packages that the repository describes in a way that nobody understands; they are passed over.
    pub unusable: Vec<RepositoryError>,
    /// The way leads back, and the repository permits it.
    pub downgrade: bool,
    /// Names of packages carry digests.
    consistent: bool,
    /// What was believed of the repository when the look was over.
    trust: Stored,
    /// The full package of which the front was fetched, by its path.
    front: Option<(String, Front)>,
    /// What of it is missing here, if the way is to fetch that.
    blocks: Option<Blocks>,
    /// Bytes of packages that came over the wire for the look.
    received: u64,
}

impl Look {
    pub(super) fn front(&self) -> Option<&(String, Front)> {
        self.front.as_ref()
    }

    pub(super) fn is_consistent(&self) -> bool {
        self.consistent
    }
}

/// What a repository offers to this device.
pub(super) struct Offered {
    pub(super) rules: Policy,
    pub(super) usable: Vec<Release>,
    pub(super) installed: Version,
    pub(super) consistent: bool,
    trust: Stored,
}

impl Follower<'_> {
    /// Looks at the repository and decides; `open` opens the tree, more than once. Nothing of the tree changes; what is
    /// believed is kept.
    ///
    /// The tree is locked while something is read or kept, and not while something is fetched.
    pub fn look<V: Vfs>(&self, open: &dyn Fn() -> Result<V, Error>, observer: &dyn Observer) -> Result<Look, Error> {
        observer.report(Progress { phase: Phase::Check, done: 0, total: 0 });
        let engine = Engine::open(open()?)?;
        let mut client = engine.repository_client(self.clock, self.offline)?;
        let mut known = engine.stored_trust()?;
        drop(engine);
        client.look_for_everything();
        loop {
            let (role, bytes) = match client.step()? {
                Step::Done => break,
                Step::Fetch(request) => {
                    self.ask(&mut client, &request, observer)?;
                    continue;
                }
                Step::Keep(kept) => (kept.role, Some(kept.bytes)),
                Step::Forget(role) => (role, None),
            };
            let mut engine = Engine::open(open()?)?;
            // Of two who look at once, the slower one could bring back what is older.
            if engine.stored_trust()? != known {
                return Err(Error::new(Code::Locked, "another process looks at the repository"));
            }
            engine.keep_trust(&role, bytes.as_deref())?;
            known = engine.stored_trust()?;
        }
        let engine = Engine::open(open()?)?;
        let (offered, unusable) = self.offered(&client, &engine)?;
        drop(engine);
        let first = decide(&offered, None);
        let mut received = 0;
        let front = self.front(open, &offered, &first, (observer, &mut received))?;
        let (chosen, blocks) = match &front {
            Some((release, front)) => self.choose_again(open, &offered, (first, release, front))?,
            None => (first, None),
        };
        let (strategy, downgrade) = chosen?;
        let of_step = |name: &String| offered.usable.iter().find(|release| release.path == *name).cloned();
        let packages = strategy.steps.iter().filter_map(|step| of_step(&step.name)).collect();
        let front = front.map(|(release, front)| (release.path.clone(), front));
        let blocks = blocks.filter(|_| strategy.way == Way::Blocks);
        let (notices, consistent, trust) = (client.notices().to_vec(), offered.consistent, offered.trust);
        let unusable = unusable.into_iter().collect();
        Ok(Look { strategy, packages, notices, unusable, downgrade, consistent, trust, front, blocks, received })
    }

    /// What there is to choose from, by what a look that is over believes.
    fn offered<V: Vfs>(&self, client: &Client, engine: &Engine<V>) -> Result<(Offered, Vec<RepositoryError>), Error> {
        let installed = Version::parse(&engine.current()?.version).map_err(|error| {
            Error::new(Code::Version, "the version that is installed cannot be compared with others").because(error)
        })?;
        let (releases, unusable) = client.releases();
        let mut rules = self.rules.clone();
        if !self.again {
            rules.attempts = Attempts::read(engine.vfs())?.0;
        }
        let consistent = client.root().is_some_and(|root| root.consistent_snapshot);
        let mut usable = usable(releases, &rules, engine, installed)?;
        // A bundle may hold a part of what the metadata describes.
        let nobody_has = |release: &Release| {
            self.wanted(release, consistent).addresses.iter().all(|address| self.carrier.lacks(address))
        };
        usable.retain(|release| !nobody_has(release));
        Ok((Offered { rules, usable, installed, consistent, trust: engine.stored_trust()? }, unusable))
    }

    /// Fetches what a look has chosen, and applies it. On trial, that is the first package only: each version is tried
    /// before another one is built on it. A look is over when another one has believed something newer, or when another
    /// version is here: what it has chosen is refused then, and has to be looked for again.
    pub fn install<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        look: &Look,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Option<Report>, Error> {
        let vfs = open()?;
        let downloads = Downloads::open(&vfs)?;
        let count = if settings.settings.trial { 1 } else { look.packages.len() };
        let packages: Vec<(&Release, Wanted)> =
            look.packages.iter().take(count).map(|release| (release, self.wanted(release, look.consistent))).collect();
        // What is left of earlier downloads and not among these leads nowhere any more.
        downloads.keep_only(&packages.iter().map(|(_, wanted)| wanted).collect::<Vec<_>>())?;
        let mut blocks = look.blocks.as_ref();
        let bytes = |release: &Release| look.blocks.as_ref().map_or(release.bytes, |blocks| blocks.sections.bytes());
        let total = packages.iter().map(|(release, _)| bytes(release)).sum();
        let room = packages.iter().map(|(release, _)| release.space_bytes).max().unwrap_or(0);
        let (mut before, mut received) = (0, look.received);
        for (release, wanted) in &packages {
            let so_far = before + bytes(release);
            let left = u64::saturating_sub(total, so_far);
            let mut fetch = |wanted: &Wanted| {
                let most_bytes = self.rules.max_bytes.map(|most| most.saturating_sub(received));
                let options = Options { room: room.saturating_add(left), most_bytes, ..self.options.clone() };
                let part = Part { observer, before, total };
                downloads.bring(wanted, self.carrier, &options, (&part, &mut received))
            };
            let part =
                blocks.map(|Blocks { sections, .. }| Wanted { sections: Some(sections.clone()), ..wanted.clone() });
            match fetch(part.as_ref().unwrap_or(wanted)) {
                // All of it serves as well.
                Err(error) if part.is_some() && error.lacks_ranges() && !error.is_distrust() => {
                    fetch(wanted)?;
                    blocks = None;
                }
                fetched => {
                    fetched?;
                }
            }
            before = so_far;
        }
        let mut engine = Engine::open(open()?)?;
        let recovered = engine.recover(observer)?;
        if recovered.trial {
            return Err(Error::new(Code::Pending, "a trial is under way"));
        }
        let here = Version::parse(&engine.current()?.version).ok();
        let mut attempts = Attempts::read(&vfs)?;
        if let Some(here) = here {
            attempts.settle(&vfs, here)?;
        }
        if packages.is_empty() {
            return Ok(None);
        }
        // The tree was not locked since the look.
        if here != Some(look.strategy.from) || engine.stored_trust()? != look.trust {
            return Err(Error::new(
                Code::Locked,
                "another process has looked or installed since this look: look again",
            ));
        }
        let mut done: Option<Report> = None;
        for (release, wanted) in &packages {
            let settings = PackageSettings { allow_downgrade: look.downgrade, ..settings.clone() };
            attempts.note(&vfs, release.version)?;
            // In the place of what was not fetched anything of its length will do.
            let padding = if blocks.is_some() { release.bytes } else { 0 };
            let read = downloads.read(wanted)?.chain(std::io::repeat(0).take(padding));
            let applied = Package::open(read.take(if blocks.is_some() { release.bytes } else { u64::MAX }))
                .map_err(Error::from)
                .and_then(|package| Ok(package.accept_unsigned()?))
                .and_then(|package| {
                    refuse_other(&package, release)?;
                    match blocks {
                        Some(blocks) => engine.apply_blocks(package, blocks, &settings, observer),
                        None => engine.apply(package, &settings, observer),
                    }
                });
            let report = applied.map_err(|error| {
                attempts.judge(&vfs, release.version, &error);
                match &done {
                    None => error,
                    Some(Report { to, .. }) => {
                        let what = format!("{to} was installed on the way to {}, which failed", look.strategy.to);
                        Error::new(error.code(), what).because(error)
                    }
                }
            })?;
            if !report.trial {
                // Written with the next one.
                attempts.0.remove(&release.version);
            }
            done = Some(match done {
                None => report,
                Some(first) => Report { from: first.from, steps: first.steps.saturating_add(report.steps), ..report },
            });
        }
        // From here on a failure costs some space, and nothing else.
        downloads.keep_only(&[])?;
        // What is on trial stays noted until it is confirmed.
        if done.as_ref().is_some_and(|report| !report.trial) {
            attempts.clear(&vfs)?;
        }
        Ok(done)
    }

    /// Recovers, looks, and installs what was chosen; the whole of an update in one call.
    pub fn update<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<(Look, Option<Report>), Error> {
        let mut engine = Engine::open(open()?)?;
        if engine.recover(observer)?.trial {
            return Err(Error::new(Code::Pending, "a trial is under way"));
        }
        drop(engine);
        let look = self.look(open, observer)?;
        let report = self.install(open, &look, settings, observer)?;
        Ok((look, report))
    }

    /// Asks one address after the other for a file of metadata, until one has it and it is believed.
    ///
    /// That a file which may be missing is missing is not the word of one address alone: a copy that is behind would
    /// end the chain of roots there. Once one has said so the others are asked once, and one that fails has no say.
    fn ask(&self, client: &mut Client, request: &Request, observer: &dyn Observer) -> Result<(), Error> {
        let (mut first, mut missing) = (None, false);
        let mut patience = self.options.patience;
        for address in &self.addresses {
            let answer = self.metadata(address, request, patience, observer);
            if request.optional && matches!(answer, Ok(Answer::Missing)) {
                missing = true;
                patience = Patience { attempts: 0, ..patience };
                continue;
            }
            match answer.and_then(|answer| Ok(client.answer(answer)?)) {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == Code::Cancelled => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        if missing {
            return Ok(client.answer(Answer::Missing)?);
        }
        Err(first.unwrap_or_else(|| Error::new(Code::Usage, "a repository without an address")))
    }

    fn metadata(
        &self,
        address: &str,
        request: &Request,
        patience: Patience,
        observer: &dyn Observer,
    ) -> Result<Answer, Error> {
        let address = fetch::below_quoted(&fetch::below(address, METADATA_DIRECTORY), &request.name);
        let (pace, watch) = (SystemPace::default(), Watching(observer));
        let found = fetch::fetch_small(self.carrier, &address, request.most, patience, &pace, &watch);
        match found {
            // Stores that do not list what they hold say so of what they do not hold, too.
            Err(FetchError::GaveUp { failures, .. })
                if request.optional
                    && failures.iter().all(|(_, why)| matches!(why, Failure::Status { status: 403, .. })) =>
            {
                Ok(Answer::Missing)
            }
            Err(FetchError::TooLong { limit, .. }) => {
                Err(RepositoryError::TooLong { file: request.name.clone(), most: limit }.into())
            }
            found => Ok(found?.map_or(Answer::Missing, Answer::Bytes)),
        }
    }

    pub(super) fn wanted(&self, release: &Release, consistent: bool) -> Wanted {
        let path = format!("{TARGETS_DIRECTORY}/{}", blob_name(&release.path, &release.digest, consistent));
        Wanted {
            addresses: self.addresses.iter().map(|address| fetch::below(address, &path)).collect(),
            size: Some(release.bytes),
            digest: Some(release.digest),
            blocks: None,
            sections: None,
            label: release.version.to_string(),
        }
    }
}

impl std::fmt::Debug for Follower<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, options, clock, offline, rules, again, .. } = self;
        let mut out = f.debug_struct("Follower");
        out.field("addresses", addresses).field("options", options).field("clock", clock).field("offline", offline);
        out.field("rules", rules).field("again", again).finish_non_exhaustive()
    }
}

/// The packages that this device may use: in its channel, for its architecture, and patches only of trees that are, or
/// will be, what they start from.
fn usable<V: Vfs>(
    mut releases: Vec<Release>,
    rules: &Policy,
    engine: &Engine<V>,
    installed: Version,
) -> Result<Vec<Release>, Error> {
    releases.retain(|release| match &rules.channel {
        Some(channel) => release.is_for(channel, &rules.architecture),
        None => release.architecture.as_ref().is_none_or(|name| *name == rules.architecture),
    });
    let base = |release: &Release| match &release.kind {
        ReleaseKind::Patch(base) => Some(base.clone()),
        ReleaseKind::Full => None,
    };
    let mut here: Vec<Digest> = engine.current()?.digest.into_iter().collect();
    let other = |base: Base| base.version == installed && !here.contains(&base.digest);
    if releases.iter().filter_map(base).any(other) {
        here = trees_here(engine)?;
    }
    let made: Vec<(Version, Digest)> = releases.iter().map(|release| (release.version, release.target)).collect();
    releases.retain(|release| match base(release) {
        None => true,
        Some(Base { version, digest }) if version == installed => here.contains(&digest),
        Some(Base { version, digest }) => made.contains(&(version, digest)),
    });
    Ok(releases)
}

/// The digests that the recorded tree has under each policy that a package may count by.
fn trees_here<V: Vfs>(engine: &Engine<V>) -> Result<Vec<Digest>, Error> {
    let Some(manifest) = engine.manifest()? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (owner, mtime) in [(true, true), (true, false), (false, true), (false, false)] {
        out.extend(manifest.clone().under(Identity { owner, mtime }).ok().map(|manifest| tree_digest(&manifest)));
    }
    Ok(out)
}

/// What is to be done, and whether it leads back.
pub(super) type Decided = Result<(UpgradeStrategy, bool), StrategyError>;

/// What is to be done with what is offered, and with the missing blocks of one full package: its path, and their bytes.
pub(super) fn decide(offered: &Offered, blocks: Option<(&str, u64)>) -> Decided {
    let Offered { rules, usable, installed, .. } = offered;
    let (rules, installed) = (rules.clone(), *installed);
    let catalogue = |releases: &mut dyn Iterator<Item = &Release>| catalogue(releases, installed, blocks);
    let back = rules.allow_downgrade && rules.target.is_none_or(|target| target < installed);
    let ahead = match rules.target {
        Some(target) if target < installed => None,
        _ => {
            let rules = Policy { allow_downgrade: false, ..rules.clone() };
            Some(UpgradeStrategyManager::new(rules).decide(&catalogue(&mut usable.iter()), installed)?)
        }
    };
    if let Some(strategy) = ahead.filter(|strategy| !strategy.is_none() || !back) {
        return Ok((strategy, false));
    }
    // Back, then: only by packages that are signed to be installed over this very version, and in one step.
    let permitted = |release: &&Release| {
        release.version < installed
            && release.downgrade_from.contains(&installed)
            && match &release.kind {
                ReleaseKind::Full => true,
                ReleaseKind::Patch(base) => base.version == installed,
            }
    };
    let permitted = catalogue(&mut usable.iter().filter(permitted));
    let newest = permitted.releases.iter().map(|release| release.version).filter(|version| rules.may_install(version));
    let Some(target) = rules.target.or(newest.max()) else {
        let reason = format!("{installed} is the newest version, and the repository permits no older one over it");
        return Ok((UpgradeStrategy::none(installed, reason), false));
    };
    let rules = Policy { target: Some(target), ..rules };
    let mut strategy = UpgradeStrategyManager::new(rules).decide(&permitted, installed)?;
    strategy.reason += &format!("; the repository permits {target} over {installed}");
    Ok((strategy, true))
}

fn catalogue(
    releases: &mut dyn Iterator<Item = &Release>,
    installed: Version,
    blocks: Option<(&str, u64)>,
) -> Catalogue {
    let mut out = Catalogue::default();
    for release in releases {
        out.releases.push(OfferedVersion { version: release.version, channels: Vec::new(), minimum: release.minimum });
        let offer = Offer {
            name: release.path.clone(),
            kind: match &release.kind {
                ReleaseKind::Full => OfferKind::Full,
                ReleaseKind::Patch(base) => OfferKind::Patch(base.version),
            },
            to: release.version,
            base: match &release.kind {
                ReleaseKind::Full => None,
                ReleaseKind::Patch(base) => Some(base.digest),
            },
            tree: Some(release.target),
            architecture: release.architecture.clone(),
            bytes: Some(release.bytes),
            space: release.space_bytes,
            apply_ms: release.space_bytes / limits::APPLY_BYTES_PER_MS,
        };
        if let Some((_, bytes)) = blocks.filter(|(path, _)| release.path == *path) {
            out.offers.push(Offer { kind: OfferKind::Blocks(installed), bytes: Some(bytes), ..offer.clone() });
        }
        out.offers.push(offer);
    }
    out
}

/// Is this the package that the metadata describes? Its name is, and then so is everything in it; what else is said
/// of it must not be something else.
fn refuse_other<R: std::io::Read>(
    package: &Package<R, crate::package::Verified>,
    release: &Release,
) -> Result<(), Error> {
    if package.id() != release.package {
        let what = format!("{} holds package {}, not {}", release.path, package.id(), release.package);
        return Err(Error::new(Code::Digest, what));
    }
    if is_described(package.promise().head(), release) {
        return Ok(());
    }
    Err(Error::new(Code::Format, format!("{} is described as something else than it is", release.path)))
}

pub(super) fn is_described(head: &Head, release: &Release) -> bool {
    let start = match &release.kind {
        ReleaseKind::Full => Start::Anything,
        ReleaseKind::Patch(base) => Start::Base { version: base.version.to_string(), digest: base.digest },
    };
    let same_start = match (&head.start, &start) {
        (Start::Base { version, digest }, Start::Base { version: other, digest: wanted }) => {
            digest == wanted && Version::parse(version).ok() == Version::parse(other).ok()
        }
        (one, other) => one == other,
    };
    let same_version = Version::parse(&head.to).ok() == Some(release.version);
    same_start && same_version && head.target == release.target && head.architecture == release.architecture
}

/// One download of several.
struct Part<'a> {
    observer: &'a dyn Observer,
    before: u64,
    total: u64,
}

impl Observer for Part<'_> {
    fn report(&self, progress: Progress) {
        self.observer.report(Progress { done: self.before + progress.done, total: self.total, ..progress });
    }

    fn cancelled(&self) -> bool {
        self.observer.cancelled()
    }
}

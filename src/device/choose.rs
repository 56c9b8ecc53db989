//! What a device may choose from of a repository, and what it chooses.

use super::attempts::Attempts;
use super::downloads;
use super::engine::Engine;
use super::follow::{Follower, Site};
use crate::codec::v1::tree_digest;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Digest, Policy as Identity, Version};
use crate::package::{Head, Start};
use crate::repository::{Base, Client, Release, ReleaseKind, RepositoryError, Stored};
use crate::strategy::{
    Catalogue, Offer, OfferKind, Policy, Release as OfferedVersion, StrategyError, UpgradeStrategy,
    UpgradeStrategyManager,
};
use crate::vfs::Vfs;
use std::collections::{HashMap, HashSet};

/// What a repository offers to this device.
pub(super) struct Offered {
    pub(super) rules: Policy,
    pub(super) usable: Vec<Release>,
    pub(super) installed: Version,
    pub(super) site: Site,
    pub(super) trust: Stored,
    /// Bytes of packages that earlier downloads left, by the paths of the packages.
    pub(super) held: HashMap<String, u64>,
}

impl Follower<'_> {
    /// What there is to choose from, by what a look that is over believes.
    pub(super) fn offered<V: Vfs>(
        &self,
        client: &Client,
        engine: &Engine<V>,
        answered: usize,
    ) -> Result<(Offered, Vec<RepositoryError>), Error> {
        let installed = Version::parse(&engine.current()?.version).map_err(|error| {
            Error::new(Code::Version, "the version that is installed cannot be compared with others").because(error)
        })?;
        let (releases, unusable) = client.releases();
        let mut rules = Policy { keep: engine.config().keep, ..self.rules.clone() };
        if !self.again {
            rules.attempts = Attempts::read(engine.vfs())?.0;
        }
        let site = Site { consistent: client.root().is_some_and(|root| root.consistent_snapshot), answered };
        let mut usable = usable(releases, &rules, engine, installed)?;
        // A bundle may hold a part of what the metadata describes.
        let nobody_has =
            |release: &Release| self.wanted(release, site).addresses.iter().all(|address| self.carrier.lacks(address));
        usable.retain(|release| !nobody_has(release));
        let held = downloads::held(engine.vfs())?;
        let held_of = |release: &Release| held.get(&self.wanted(release, site).name()).map(|held| held.bytes);
        let held = match held.is_empty() {
            true => HashMap::new(),
            false => usable.iter().filter_map(|release| Some((release.path.clone(), held_of(release)?))).collect(),
        };
        Ok((Offered { rules, usable, installed, site, trust: engine.stored_trust()?, held }, unusable))
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
    let made: HashSet<(Version, Digest)> = releases.iter().map(|release| (release.version, release.target)).collect();
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

/// What is to be done with what is offered, and with the missing blocks of one full package: its path, and the bytes
/// that these take.
pub(super) fn decide(offered: &Offered, blocks: Option<(&str, u64)>) -> Decided {
    let Offered { rules, usable, installed, .. } = offered;
    let (rules, installed) = (rules.clone(), *installed);
    let catalogue = |releases: &mut dyn Iterator<Item = &Release>| catalogue(releases, offered, blocks);
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
    Offered { installed, held, .. }: &Offered,
    blocks: Option<(&str, u64)>,
) -> Catalogue {
    let mut out = Catalogue::default();
    for release in releases {
        let held = held.get(&release.path).copied().unwrap_or(0);
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
            bytes: Some(release.bytes.saturating_sub(held)),
            space: release.space_bytes,
            apply_ms: release.space_bytes / limits::APPLY_BYTES_PER_MS,
        };
        if let Some((_, bytes)) = blocks.filter(|(path, _)| release.path == *path) {
            let bytes = Some(bytes);
            out.offers.push(Offer { kind: OfferKind::Blocks(*installed), bytes, ..offer.clone() });
        }
        out.offers.push(offer);
    }
    out
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

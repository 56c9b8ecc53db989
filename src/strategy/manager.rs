//! `UpgradeStrategyManager`: none, patch, chain or full, and why.

use super::graph::{self, Edge, Price};
use super::{Catalogue, Offer, OfferKind};
use crate::limits;
use crate::model::{Digest, Version};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// The rules of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The architecture of the device.
    pub architecture: String,
    /// The channel that it follows; nothing to see all.
    pub channel: Option<String>,
    /// What makes a way the better one.
    pub prefer: Prefer,
    /// More bytes are not fetched, whatever comes of it.
    pub max_bytes: Option<u64>,
    /// More space is not taken. In a catalogue that is larger than any that is meant to be used, not every amount of
    /// space is looked at ([`limits::SEARCHED_EDGES`]), so that a way that fits may not be seen. By time, the fastest of the ways that fit is looked for among those for which no other
    /// one is faster and stages less.
    pub max_space: Option<u64>,
    /// Updates that can be taken back when they are over: what such a one has staged takes its space until then.
    pub keep: u32,
    /// Bytes a second that the link carries: what fetching costs in time.
    pub bytes_per_second: u64,
    /// A full package, whatever patches there are.
    pub force_full: bool,
    /// This version, not the newest.
    pub target: Option<Version>,
    /// An older version may be the target.
    pub allow_downgrade: bool,
    /// Versions that are never installed.
    pub hold: BTreeSet<Version>,
    /// How often each version was tried and did not stay.
    pub attempts: BTreeMap<Version, u32>,
    /// A version that was tried so often is left alone.
    pub max_attempts: u32,
}

/// What makes a way the better one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// Fewer bytes to fetch.
    #[default]
    Bytes,
    /// Less time: to fetch and to apply.
    Time,
    /// Less space at once.
    Space,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpgradeStrategy {
    /// What is to be done.
    #[serde(rename = "strategy")]
    pub way: Way,
    /// The version that is here.
    pub from: Version,
    /// The version that will be; the same if nothing is to be done.
    pub to: Version,
    /// Packages, in the order in which they are applied.
    pub steps: Vec<Step>,
    /// Bytes that are still to be fetched of all of them; nothing if one does not tell.
    pub bytes: Option<u64>,
    /// Bytes that must be free: for what is still to be fetched of the packages, all of which come first, and for what is
    /// staged of them, or kept to go back, at most at one time.
    pub space: u64,
    /// Why, in words.
    pub reason: String,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Nothing.
    None,
    /// One patch.
    Patch,
    /// Several packages, one after the other.
    Chain,
    /// One full package.
    Full,
    /// The blocks of a full package that are not here.
    Blocks,
}

/// One package to apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is: patch, full, or blocks.
    pub kind: Way,
    /// The version before.
    pub from: Version,
    /// The version after.
    pub to: Version,
    /// The name of the offer.
    pub name: String,
    /// Bytes to fetch.
    pub bytes: Option<u64>,
}

/// Why there is no way that may be gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// No packages lead there.
    #[error("no packages for {architecture} lead from {from} to {to}")]
    NoWay {
        /// From here.
        from: Version,
        /// To there.
        to: Version,
        /// For this device.
        architecture: String,
    },
    /// There is a way, and it costs more than is allowed.
    #[error("the cheapest way from {from} to {to} takes {needed} bytes to fetch, {allowed} are allowed")]
    OverBytes {
        /// From here.
        from: Version,
        /// To there.
        to: Version,
        /// So many, or more if that is not told.
        needed: Needed,
        /// So many are allowed.
        allowed: u64,
    },
    /// There is a way, and it takes more space than is allowed.
    #[error("no way from {from} to {to} takes less than {needed} bytes of space, {allowed} are allowed")]
    OverSpace {
        /// From here.
        from: Version,
        /// To there.
        to: Version,
        /// So many.
        needed: u64,
        /// So many are allowed.
        allowed: u64,
    },
    /// The version that was asked for is not there, held, or older.
    #[error("version {version} cannot be the target: {why}")]
    Target {
        /// This one.
        version: Version,
        /// Why not.
        why: String,
    },
    /// More than is looked at.
    #[error("the catalogue lists more {0} than are looked at")]
    TooMany(&'static str),
}

/// A number of bytes that may not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed(pub Option<u64>);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("an unknown number of"),
        }
    }
}

/// Chooses the way from the version that is here to the one that should be.
#[derive(Clone, Debug)]
pub struct UpgradeStrategyManager {
    pub(super) policy: Policy,
}

/// A version that may not be installed, and why.
type PassedOver = (Version, String);

impl Policy {
    /// The newest version, by the fewest bytes.
    pub fn new(architecture: impl Into<String>) -> Self {
        Self {
            architecture: architecture.into(),
            channel: None,
            prefer: Prefer::default(),
            max_bytes: None,
            max_space: None,
            keep: 0,
            bytes_per_second: 1_000_000,
            force_full: false,
            target: None,
            allow_downgrade: false,
            hold: BTreeSet::new(),
            attempts: BTreeMap::new(),
            max_attempts: limits::UPDATE_ATTEMPTS,
        }
    }

    /// May a version be installed: is it not held, and was it not given up?
    pub fn may_install(&self, version: &Version) -> bool {
        self.refusal(version).is_none()
    }

    /// Why a version is not to be installed; nothing if it may.
    pub(super) fn refusal(&self, version: &Version) -> Option<String> {
        let tried = self.attempts.get(version).copied().unwrap_or(0);
        if self.hold.contains(version) {
            Some("it is held".into())
        } else if tried >= self.max_attempts {
            Some(format!("it was tried {tried} times and did not stay; --again tries it once more"))
        } else {
            None
        }
    }
}

impl UpgradeStrategyManager {
    /// One that goes by these rules.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// The rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The way from `current` to the newest version that may be installed and that packages lead to.
    pub fn decide(&self, catalogue: &Catalogue, current: Version) -> Result<UpgradeStrategy, StrategyError> {
        if catalogue.releases.len() > limits::CATALOGUE_VERSIONS {
            return Err(StrategyError::TooMany("versions"));
        }
        if catalogue.offers.len() > limits::CATALOGUE_PACKAGES {
            return Err(StrategyError::TooMany("packages"));
        }
        let search = Search::new(&self.policy, catalogue, current)?;
        let (targets, passed_over) = self.targets(catalogue, current)?;
        let Some(newest) = targets.first().copied() else {
            let reason = match passed_over {
                Some((version, why)) => format!("nothing newer than {current} may be installed: {version}: {why}"),
                None => format!("{current} is the newest version"),
            };
            return Ok(UpgradeStrategy::none(current, reason));
        };
        // Which version is reached does not depend on budgets: those fail, and do not choose an older one.
        let reached = search.reachable();
        let found = targets.into_iter().find(|version| reached.contains(version));
        let Some(target) = found else {
            let architecture = self.policy.architecture.clone();
            return Err(StrategyError::NoWay { from: current, to: newest, architecture });
        };
        let way = search.best(target)?;
        let mut strategy = search.strategy(&way, target);
        if let Some((version, why)) = passed_over {
            strategy.reason += &format!("; {version} is passed over: {why}");
        }
        if target != newest {
            strategy.reason += &format!("; no packages lead to {newest}");
        }
        Ok(strategy)
    }

    /// The versions that may be installed, the newest first, and the newest one that may not.
    fn targets(
        &self,
        catalogue: &Catalogue,
        current: Version,
    ) -> Result<(Vec<Version>, Option<PassedOver>), StrategyError> {
        let policy = &self.policy;
        let mut targets = Vec::new();
        let mut passed_over: Option<PassedOver> = None;
        for release in &catalogue.releases {
            let version = release.version;
            let in_channel = policy.channel.as_ref().is_none_or(|channel| {
                release.channels.is_empty() || release.channels.iter().any(|name| name == channel)
            });
            let older = version <= current;
            let is_asked = policy.target == Some(version);
            if let Some(asked) = policy.target {
                let refuse = |why: String| Err(StrategyError::Target { version, why });
                match policy.refusal(&version) {
                    _ if version != asked => continue,
                    Some(why) => return refuse(why),
                    None if older && version != current && !policy.allow_downgrade => {
                        return refuse(format!("it is older than {current}"));
                    }
                    None if !in_channel => return refuse("it is not in the channel".into()),
                    None => {}
                }
            }
            if version == current || !in_channel || (older && !is_asked) {
                continue;
            }
            match policy.refusal(&version) {
                None => targets.push(version),
                Some(why) if passed_over.as_ref().is_none_or(|(other, _)| *other < version) => {
                    passed_over = Some((version, why));
                }
                Some(_) => {}
            }
        }
        if let Some(version) = policy.target
            && version != current
            && targets.is_empty()
        {
            return Err(StrategyError::Target { version, why: "it is not offered".into() });
        }
        targets.sort_unstable_by(|a, b| b.cmp(a));
        targets.dedup();
        let newest = targets.first().copied();
        Ok((targets, passed_over.filter(|(version, _)| newest.is_none_or(|newest| *version > newest))))
    }
}

/// Most bytes that are staged at one time, of packages that are applied one after the other, each staging so many. What
/// a package replaces stays where it was staged until `keep` others have come, and is not more than what it brings,
/// unless the tree gets smaller with it: then it was there before.
pub fn staged_at_once(staged: &[u64], keep: u32) -> u64 {
    let together = (keep as usize).saturating_add(1).min(staged.len()).max(1);
    let sums = staged.windows(together).map(|some| some.iter().copied().fold(0, u64::saturating_add));
    sums.max().unwrap_or(0)
}

/// The trees and packages that may be used, as a graph.
struct Search<'a> {
    policy: &'a Policy,
    offers: &'a [Offer],
    /// A version may be several trees: a package for all architectures and one for this one need not make the same.
    trees: Vec<Tree>,
    edges: Vec<Edge>,
    current: usize,
}

type Tree = (Version, Option<Digest>);

impl<'a> Search<'a> {
    fn new(policy: &'a Policy, catalogue: &'a Catalogue, current: Version) -> Result<Self, StrategyError> {
        let released: HashSet<Version> = catalogue.releases.iter().map(|release| release.version).collect();
        let mut minimum: HashMap<Version, Version> = HashMap::new();
        for release in &catalogue.releases {
            if let Some(least) = release.minimum {
                let known = minimum.entry(release.version).or_insert(least);
                *known = (*known).max(least);
            }
        }
        let fits = |offer: &&Offer| {
            offer.architecture.as_ref().is_none_or(|name| *name == policy.architecture)
                && offer.to != current
                && released.contains(&offer.to)
                && policy.refusal(&offer.to).is_none()
        };
        let fitting = || catalogue.offers.iter().enumerate().filter(|(_, offer)| fits(offer));
        let here: Tree = (current, None);
        let mut trees: Vec<Tree> = fitting().map(|(_, offer)| (offer.to, offer.tree)).collect();
        trees.push(here);
        trees.sort_unstable();
        trees.dedup();
        let number: HashMap<Tree, usize> = trees.iter().enumerate().map(|(number, tree)| (*tree, number)).collect();
        let mut search = Self { policy, offers: &catalogue.offers, trees, edges: Vec::new(), current: number[&here] };
        for (at, offer) in fitting() {
            let to = number[&(offer.to, offer.tree)];
            let least = minimum.get(&offer.to);
            match &offer.kind {
                OfferKind::Patch(_) | OfferKind::Blocks(_) if policy.force_full => {}
                OfferKind::Patch(from) | OfferKind::Blocks(from) => {
                    let tree = if *from == current { here } else { (*from, offer.base) };
                    if let Some(from_number) = number.get(&tree)
                        && least.is_none_or(|least| from >= least)
                    {
                        search.add(at, *from_number, to);
                    }
                }
                // Whatever came before a full package was in vain, unless it has to come before.
                OfferKind::Full => match least.filter(|least| current < **least) {
                    None => search.add(at, search.current, to),
                    Some(least) => {
                        let first = search.trees.partition_point(|(version, _)| version < least);
                        let before = search.trees.partition_point(|(version, _)| *version < offer.to);
                        let last = if policy.allow_downgrade { search.trees.len() } else { before };
                        for from in first..last {
                            search.add(at, from, to);
                            if search.edges.len() > limits::CATALOGUE_EDGES {
                                return Err(StrategyError::TooMany("ways from version to version"));
                            }
                        }
                    }
                },
            }
        }
        Ok(search)
    }

    /// Every step leads to another version and on, so no way goes through a version before the one that is here or
    /// behind the target: the device would refuse to install it.
    fn add(&mut self, offer: usize, from: usize, to: usize) {
        let (before, after) = (self.trees[from].0, self.trees[to].0);
        if before == after || (before > after && !self.policy.allow_downgrade) {
            return;
        }
        let told = &self.offers[offer];
        // What does not tell counts as more than everything that does.
        let bytes = told.bytes.map_or(1_u128 << 80, u128::from);
        let speed = u128::from(self.policy.bytes_per_second.max(1));
        let time = (bytes * 1000).div_ceil(speed) + u128::from(told.apply_ms);
        let price = match self.policy.prefer {
            Prefer::Time => Price(time, bytes, 1),
            Prefer::Bytes | Prefer::Space => Price(bytes, time, 1),
        };
        self.edges.push(Edge { offer, from, to, price, staging: told.space });
    }

    /// The trees of a version.
    fn numbers(&self, version: Version) -> Range<usize> {
        let start = self.trees.partition_point(|(other, _)| *other < version);
        start..self.trees.partition_point(|(other, _)| *other <= version)
    }

    fn reachable(&self) -> BTreeSet<Version> {
        let mut seen = vec![false; self.trees.len()];
        seen[self.current] = true;
        let mut starts: Vec<Vec<usize>> = vec![Vec::new(); self.trees.len()];
        self.edges.iter().for_each(|edge| starts[edge.from].push(edge.to));
        let mut open = vec![self.current];
        while let Some(node) = open.pop() {
            for to in std::mem::take(&mut starts[node]) {
                if !std::mem::replace(&mut seen[to], true) {
                    open.push(to);
                }
            }
        }
        let reached = self.trees.iter().zip(&seen).filter(|(_, seen)| **seen);
        reached.map(|((version, _), _)| *version).collect()
    }

    /// The best way within the budgets.
    fn best(&self, target: Version) -> Result<Vec<usize>, StrategyError> {
        let (count, from, to) = (self.trees.len(), self.current, self.numbers(target));
        let here = self.trees[self.current].0;
        let none = || StrategyError::NoWay { from: here, to: target, architecture: self.policy.architecture.clone() };
        let first_that_fits =
            |edges: &[Edge]| graph::descend(edges, count, from, &to, |way, _| self.fits(&way).then_some(way));
        let by_bytes = || {
            let mut edges = self.edges.clone();
            if self.policy.prefer == Prefer::Time {
                edges.iter_mut().for_each(|edge| edge.price = Price(edge.price.1, edge.price.0, edge.price.2));
            }
            edges
        };
        let preferred = match self.policy.prefer {
            Prefer::Space => self.smallest(&self.edges, &to).filter(|way| self.fits(way)),
            Prefer::Bytes | Prefer::Time => first_that_fits(&self.edges),
        };
        // By time the ways between may all be too large, and the one that takes the least space may still fit.
        let way = match preferred.or_else(|| first_that_fits(&by_bytes())) {
            Some(way) => way,
            None => {
                let smallest = self.smallest(&by_bytes(), &to).ok_or_else(none)?;
                if !self.fits(&smallest) {
                    let needed = self.space(&smallest).unwrap_or(u64::MAX);
                    let allowed = self.policy.max_space.unwrap_or(u64::MAX);
                    return Err(StrategyError::OverSpace { from: here, to: target, needed, allowed });
                }
                smallest
            }
        };
        let Some(budget) = self.policy.max_bytes else { return Ok(way) };
        if self.bytes(&way).is_some_and(|bytes| bytes <= budget) {
            return Ok(way);
        }
        // What is preferred costs too many bytes: the way with the fewest, if that is within the budget.
        let way = first_that_fits(&by_bytes()).unwrap_or(way);
        match self.bytes(&way) {
            Some(bytes) if bytes <= budget => Ok(way),
            needed => Err(StrategyError::OverBytes { from: here, to: target, needed: Needed(needed), allowed: budget }),
        }
    }

    /// The way that takes the least space, and the fewest bytes of those; the edges are priced by bytes.
    fn smallest(&self, edges: &[Edge], to: &Range<usize>) -> Option<Vec<usize>> {
        let mut best: Option<(u64, Vec<usize>)> = None;
        graph::descend(edges, self.trees.len(), self.current, to, |way, _| {
            let least = best.as_ref().map_or(u64::MAX, |(least, _)| *least);
            let bytes = self.bytes(&way).unwrap_or(u64::MAX);
            let space = self.space(&way).unwrap_or(u64::MAX);
            if best.is_none() || space < least {
                best = Some((space, way));
            }
            // The next ones take more bytes.
            (bytes >= least).then_some(())
        });
        // What is kept adds up along a way, so that it may be another one which takes the least.
        let adding_up: Vec<Edge> = edges.iter().map(Edge::with_staging).collect();
        let other = graph::cheapest(&adding_up, self.trees.len(), self.current, to, u64::MAX);
        let other = other.filter(|_| self.policy.keep > 0).map(|way| (self.space(&way).unwrap_or(u64::MAX), way));
        best.into_iter().chain(other).min_by_key(|(space, _)| *space).map(|(_, way)| way)
    }

    fn fits(&self, way: &[usize]) -> bool {
        self.policy.max_space.is_none_or(|allowed| self.space(way).is_some_and(|space| space <= allowed))
    }

    /// Space that a way takes at most at one time: its packages, which are all fetched before the first is applied, and
    /// what they stage. Nothing if a package does not tell its size.
    fn space(&self, way: &[usize]) -> Option<u64> {
        Some(self.bytes(way)?.saturating_add(self.staging(way)))
    }

    fn staging(&self, way: &[usize]) -> u64 {
        let staged: Vec<u64> = way.iter().map(|at| self.edges[*at].staging).collect();
        staged_at_once(&staged, self.policy.keep)
    }

    fn bytes(&self, way: &[usize]) -> Option<u64> {
        way.iter().try_fold(0_u64, |sum, at| sum.checked_add(self.offers[self.edges[*at].offer].bytes?))
    }

    fn strategy(&self, way: &[usize], target: Version) -> UpgradeStrategy {
        let steps: Vec<Step> = way
            .iter()
            .map(|at| {
                let edge = &self.edges[*at];
                let offer = &self.offers[edge.offer];
                let kind = match offer.kind {
                    OfferKind::Patch(_) => Way::Patch,
                    OfferKind::Full => Way::Full,
                    OfferKind::Blocks(_) => Way::Blocks,
                };
                let from = self.trees[edge.from].0;
                Step { kind, from, to: offer.to, name: offer.name.clone(), bytes: offer.bytes }
            })
            .collect();
        let kind = match steps.as_slice() {
            [only] => only.kind,
            _ => Way::Chain,
        };
        let bytes = self.bytes(way);
        let space = self.space(way).unwrap_or_else(|| self.staging(way));
        let reason = self.reason(kind, &steps, bytes, target);
        UpgradeStrategy { way: kind, from: self.trees[self.current].0, to: target, steps, bytes, space, reason }
    }

    fn reason(&self, kind: Way, steps: &[Step], bytes: Option<u64>, target: Version) -> String {
        let told = |bytes: Option<u64>| bytes.map_or("an unknown number of bytes".into(), |b| format!("{b} bytes"));
        let what = match kind {
            Way::Chain => format!("{} packages in a row take {}", steps.len(), told(bytes)),
            Way::Patch => format!("a patch takes {}", told(bytes)),
            Way::Blocks => format!("the missing blocks of the full package take {}", told(bytes)),
            Way::Full | Way::None => format!("the full package takes {}", told(bytes)),
        };
        let full = self.offers.iter().filter(|offer| {
            let fits = offer.architecture.as_ref().is_none_or(|name| *name == self.policy.architecture);
            offer.kind == OfferKind::Full && offer.to == target && fits
        });
        let full = full.filter_map(|offer| offer.bytes).min();
        let instead = match (kind, full) {
            (Way::Full, _) if self.policy.force_full => " and was asked for".to_owned(),
            (Way::Full, _) => self.other_way(target),
            (_, Some(full)) => format!(", the full package {full} bytes"),
            (_, None) => ", and there is no full package of a known size".to_owned(),
        };
        let by = match self.policy.prefer {
            Prefer::Bytes => "bytes",
            Prefer::Time => "time",
            Prefer::Space => "space",
        };
        format!("{what}{instead} (by {by})")
    }

    /// What patches would have cost, or that there are none.
    fn other_way(&self, target: Version) -> String {
        let patches: Vec<Edge> =
            self.edges.iter().filter(|edge| self.offers[edge.offer].kind != OfferKind::Full).copied().collect();
        let found = graph::cheapest(&patches, self.trees.len(), self.current, &self.numbers(target), u64::MAX)
            .map(|way| way.iter().try_fold(0_u64, |sum, at| sum.checked_add(self.offers[patches[*at].offer].bytes?)));
        match found {
            Some(Some(bytes)) => format!(", patches {bytes} bytes"),
            Some(None) => ", patches an unknown number".to_owned(),
            None => ", and no patches lead there".to_owned(),
        }
    }
}

impl UpgradeStrategy {
    /// Nothing is to be done, and why.
    pub fn none(current: Version, reason: String) -> Self {
        Self { way: Way::None, from: current, to: current, steps: Vec::new(), bytes: Some(0), space: 0, reason }
    }

    /// Is there nothing to do?
    pub fn is_none(&self) -> bool {
        self.way == Way::None
    }
}

impl fmt::Display for UpgradeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::None => return write!(f, "nothing to do: {}", self.reason),
            Way::Patch => "patch",
            Way::Chain => "chain",
            Way::Full => "full",
            Way::Blocks => "blocks",
        };
        write!(f, "{way} from {} to {}: {}", self.from, self.to, self.reason)
    }
}

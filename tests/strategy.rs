//! Choosing the way: against brute force on small graphs, and rule by rule.

use proptest::prelude::*;
use std::collections::BTreeSet;
use surefoot::model::{Digest, FullPackageInfo, PatchPackageInfo, ServiceManifest, Version};
use surefoot::strategy::{
    Catalogue, Offer, OfferKind, Policy, Prefer, Release, StrategyError, UpgradeStrategy, UpgradeStrategyManager, Way,
};

fn version(number: u32) -> Version {
    Version::new(1, 0, 0).with_build(number)
}

fn offer(kind: OfferKind, to: u32, bytes: u64) -> Offer {
    let name = format!("{kind:?} to {to}");
    let (base, tree, architecture) = (None, None, None);
    Offer { name, kind, to: version(to), base, tree, architecture, bytes: Some(bytes), space: 0, apply_ms: 0 }
}

fn patch(from: u32, to: u32, bytes: u64) -> Offer {
    offer(OfferKind::Patch(version(from)), to, bytes)
}

fn full(to: u32, bytes: u64) -> Offer {
    offer(OfferKind::Full, to, bytes)
}

fn catalogue(releases: u32, offers: Vec<Offer>) -> Catalogue {
    Catalogue { releases: (0..releases).map(|number| Release::new(version(number))).collect(), offers }
}

fn decide(policy: Policy, catalogue: &Catalogue, current: u32) -> Result<UpgradeStrategy, StrategyError> {
    UpgradeStrategyManager::new(policy).decide(catalogue, version(current))
}

fn policy() -> Policy {
    Policy::new("x86_64")
}

type Tree = (Version, Option<Digest>);

/// Every way without a version twice, by trying them all: bytes, milliseconds and largest staging of each.
fn all_ways(catalogue: &Catalogue, policy: &Policy, current: u32, target: u32) -> Vec<(u64, u64, u64)> {
    fn walk(
        catalogue: &Catalogue,
        policy: &Policy,
        target: Version,
        seen: &mut Vec<Tree>,
        so_far: (u64, u64, u64),
        out: &mut Vec<(u64, u64, u64)>,
    ) {
        let (at, tree) = *seen.last().unwrap();
        if at == target {
            out.push(so_far);
            return;
        }
        for offer in &catalogue.offers {
            // Whatever the tree is called that is here, patches of its version are for it.
            let same_tree = seen.len() == 1 || offer.base == tree;
            let leads = match &offer.kind {
                OfferKind::Patch(from) | OfferKind::Blocks(from) => *from == at && same_tree && !policy.force_full,
                OfferKind::Full => true,
            };
            let least = catalogue.releases.iter().find(|release| release.version == offer.to).unwrap().minimum;
            let fits = offer.architecture.as_ref().is_none_or(|name| *name == policy.architecture)
                && least.is_none_or(|least| at >= least)
                && !policy.hold.contains(&offer.to)
                && (at < offer.to || policy.allow_downgrade)
                && !seen.iter().any(|(version, _)| *version == offer.to);
            if leads && fits {
                let bytes = offer.bytes.unwrap();
                let time = (bytes * 1000).div_ceil(policy.bytes_per_second) + offer.apply_ms;
                seen.push((offer.to, offer.tree));
                let next = (so_far.0 + bytes, so_far.1 + time, so_far.2.max(offer.space));
                walk(catalogue, policy, target, seen, next, out);
                seen.pop();
            }
        }
    }
    let mut out = Vec::new();
    walk(catalogue, policy, version(target), &mut vec![(version(current), None)], (0, 0, 0), &mut out);
    out
}

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let tree = || prop::option::of((0..2_u8).prop_map(|number| Digest([number; 32])));
    let one = (0..6_u32, 0..6_u32, 0..3_u8, 1..40_u64, 0..60_u64, 0..30_u64, 0..4_u8, tree(), tree());
    let one = one.prop_map(|(from, to, kind, bytes, space, apply_ms, architecture, base, tree)| {
        let kind = match kind {
            0 => OfferKind::Full,
            1 => OfferKind::Patch(version(from)),
            _ => OfferKind::Blocks(version(from)),
        };
        let architecture = (architecture == 0).then(|| "riscv64".to_owned());
        Offer { space, apply_ms, architecture, base, tree, ..offer(kind, to, bytes) }
    });
    let named = |mut offers: Vec<Offer>| {
        offers.iter_mut().enumerate().for_each(|(number, offer)| offer.name = number.to_string());
        offers
    };
    prop::collection::vec(one, 0..12).prop_map(named)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_way_is_cheaper_than_the_one_that_is_chosen(
        offers in offers(),
        minimums in prop::collection::vec(prop::option::weighted(0.3, 0..6_u32), 6),
        held in prop::collection::btree_set(0..6_u32, 0..2),
        prefer in prop::sample::select(vec![Prefer::Bytes, Prefer::Time, Prefer::Space]),
        max_bytes in prop::option::of(1..80_u64),
        max_space in prop::option::of(0..120_u64),
        force_full: bool,
        current in 0..5_u32,
    ) {
        let mut catalogue = catalogue(6, offers);
        for (release, minimum) in catalogue.releases.iter_mut().zip(&minimums) {
            release.minimum = minimum.map(version);
        }
        let hold: BTreeSet<Version> = held.iter().map(|number| version(*number)).collect();
        let policy = Policy { prefer, max_bytes, max_space, force_full, hold, bytes_per_second: 1000, ..policy() };
        let free: Policy = Policy { max_bytes: None, max_space: None, ..policy.clone() };
        let newer = (current + 1..6).rev().filter(|number| !held.contains(number));
        let target = newer.clone().find(|number| !all_ways(&catalogue, &free, current, *number).is_empty());
        let answer = decide(policy.clone(), &catalogue, current);
        let Some(target) = target else {
            if newer.clone().next().is_some() {
                prop_assert!(matches!(answer, Err(StrategyError::NoWay { .. })), "{answer:?}");
            } else {
                prop_assert!(answer.unwrap().is_none());
            }
            return Ok(());
        };
        let all = all_ways(&catalogue, &policy, current, target);
        let roomy: Vec<_> = all.iter().filter(|way| way.0 + way.2 <= max_space.unwrap_or(u64::MAX)).collect();
        if roomy.is_empty() {
            let least = all.iter().map(|way| way.0 + way.2).min().unwrap();
            match answer {
                Err(StrategyError::OverSpace { needed, .. }) => prop_assert_eq!(needed, least),
                other => prop_assert!(false, "{:?}", other),
            }
            return Ok(());
        }
        let fewest = roomy.iter().map(|way| way.0).min().unwrap();
        let budget = max_bytes.unwrap_or(u64::MAX);
        if fewest > budget {
            match answer {
                Err(StrategyError::OverBytes { needed, .. }) => prop_assert_eq!(needed.0, Some(fewest)),
                other => prop_assert!(false, "{:?}", other),
            }
            return Ok(());
        }
        let chosen = answer.unwrap();
        prop_assert_eq!(chosen.to, version(target));
        // What is told of the way is true of its steps.
        let (mut at, mut tree) = (version(current), None);
        let (mut bytes, mut time, mut staging) = (0, 0, 0);
        for (number, step) in chosen.steps.iter().enumerate() {
            prop_assert_eq!(step.from, at);
            let offer = &catalogue.offers[step.name.parse::<usize>().unwrap()];
            prop_assert!(number == 0 || offer.kind == OfferKind::Full || offer.base == tree, "{:?}", chosen);
            (at, tree) = (offer.to, offer.tree);
            bytes += offer.bytes.unwrap();
            time += (offer.bytes.unwrap() * 1000).div_ceil(1000) + offer.apply_ms;
            staging = staging.max(offer.space);
        }
        prop_assert_eq!((at, chosen.bytes, chosen.space), (version(target), Some(bytes), bytes + staging));
        prop_assert!(bytes <= budget && chosen.space <= max_space.unwrap_or(u64::MAX));
        // No way is better, unless the budget forbids it.
        match prefer {
            Prefer::Bytes => prop_assert_eq!(bytes, fewest),
            Prefer::Time => {
                let best = roomy.iter().map(|way| (way.1, way.0)).min().unwrap();
                // Whether some way is within two limits on sums cannot be told quickly: the fastest is found unless it
                // is the space that forbids it.
                let fastest = all.iter().map(|way| (way.1, way.0)).min().unwrap();
                prop_assert!(
                    best.1 > budget || time <= best.0 || bytes == fewest || best != fastest,
                    "{} {:?}", time, best
                );
                if max_bytes.is_none() && max_space.is_none() {
                    prop_assert!(time <= best.0);
                }
            }
            Prefer::Space => {
                let least = roomy.iter().map(|way| way.0 + way.2).min().unwrap();
                let best = roomy.iter().filter(|way| way.0 + way.2 == least).map(|way| way.0).min().unwrap();
                prop_assert!(best > budget || (chosen.space == least && bytes == best), "{:?} {}", chosen, staging);
            }
        }
    }
}

#[test]
fn a_chain_is_taken_when_it_costs_less_than_one_patch_or_the_full_package() {
    let all = |middle| catalogue(4, vec![patch(0, 1, 10), patch(1, 3, middle), patch(0, 3, 40), full(3, 100)]);
    let chosen = decide(policy(), &all(20), 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes, chosen.steps.len()), (Way::Chain, Some(30), 2));
    assert_eq!(chosen.reason, "2 packages in a row take 30 bytes, the full package 100 bytes (by bytes)");
    let chosen = decide(policy(), &all(31), 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Patch, Some(40)));
    let chosen = decide(Policy { force_full: true, ..policy() }, &all(20), 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Full, Some(100)));
    assert!(chosen.reason.contains("asked for"), "{}", chosen.reason);
    let json = serde_json::to_value(decide(policy(), &all(20), 0).unwrap()).unwrap();
    assert_eq!((json["strategy"].as_str(), json["steps"][1]["from"].as_str()), (Some("chain"), Some("1.0.0.1")));
}

/// All packages of a way are fetched before the first one is applied; only the largest was once charged.
#[test]
fn a_chain_takes_the_space_of_all_its_packages_and_of_the_largest_staging() {
    let with = |offer: Offer, space| Offer { space, ..offer };
    let chain = [with(patch(0, 1, 30), 10), with(patch(1, 2, 30), 50), with(patch(2, 3, 30), 20)];
    let all = catalogue(4, [chain.to_vec(), vec![with(full(3, 100), 30)]].concat());
    let chosen = decide(policy(), &all, 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes, chosen.space), (Way::Chain, Some(90), 140));
    let limited = |max_space| decide(Policy { max_space: Some(max_space), ..policy() }, &all, 0);
    assert_eq!(limited(140).unwrap().way, Way::Chain);
    assert_eq!(limited(139).unwrap().way, Way::Full);
    assert!(matches!(limited(129), Err(StrategyError::OverSpace { needed: 130, allowed: 129, .. })));
    assert_eq!(decide(Policy { prefer: Prefer::Space, ..policy() }, &all, 0).unwrap().way, Way::Full);
}

/// What a step leaves behind to go back once was not counted, so that a chain ran out of space half-way.
#[test]
fn what_is_kept_of_the_steps_before_takes_space_too() {
    let with = |offer: Offer, space| Offer { space, ..offer };
    let chain = [with(patch(0, 1, 30), 10), with(patch(1, 2, 30), 50), with(patch(2, 3, 30), 20)];
    let all = catalogue(4, [chain.to_vec(), vec![with(full(3, 100), 55)]].concat());
    for (keep, space) in [(0, 140), (1, 160), (2, 170), (u32::MAX, 170)] {
        let keeping = Policy { keep, ..policy() };
        let chosen = decide(keeping.clone(), &all, 0).unwrap();
        assert_eq!((chosen.way, chosen.space), (Way::Chain, space), "{keep}");
        let limited = |max_space| decide(Policy { max_space: Some(max_space), ..keeping.clone() }, &all, 0);
        assert_eq!(limited(space).unwrap().way, Way::Chain, "{keep}");
        let needed = space.min(155);
        assert_eq!(limited(space - 1).map(|chosen| chosen.way).ok(), (needed < space).then_some(Way::Full), "{keep}");
        assert!(matches!(limited(139), Err(StrategyError::OverSpace { needed: told, .. }) if told == needed), "{keep}");
        let small = decide(Policy { prefer: Prefer::Space, ..keeping }, &all, 0).unwrap();
        assert_eq!(small.space, needed, "{keep}");
    }
}

/// A version for all architectures and the same version for one of them once were one point of the graph.
#[test]
fn a_patch_is_only_for_the_tree_that_the_step_before_has_made() {
    let tree = |number: u8| Some(Digest([number; 32]));
    let any = Offer { tree: tree(1), ..full(1, 5) };
    let own = Offer { tree: tree(2), architecture: Some("x86_64".into()), ..full(1, 50) };
    let next = Offer { base: tree(2), tree: tree(3), ..patch(1, 2, 1) };
    let mut all = catalogue(3, vec![any.clone(), own, next.clone()]);
    let chosen = decide(policy(), &all, 0).unwrap();
    assert_eq!((chosen.to, chosen.bytes, chosen.steps.len()), (version(2), Some(51), 2));
    assert_eq!(decide(Policy::new("riscv64"), &all, 0).unwrap().to, version(1));
    // To a version by whatever tree of it is cheaper; and patches of the version that is here are for what is here.
    assert_eq!(decide(Policy { target: Some(version(1)), ..policy() }, &all, 0).unwrap().bytes, Some(5));
    assert_eq!(decide(policy(), &all, 1).unwrap().bytes, Some(1));
    all.offers = vec![any, next];
    assert_eq!(decide(policy(), &all, 0).unwrap().to, version(1));
}

/// Every full package of a version with a minimum had an edge from every version, which is the square of a catalogue.
#[test]
fn a_catalogue_whose_graph_is_too_large_is_refused() {
    let count = 2100;
    let mut all = catalogue(count, (1..count).map(|to| full(to, 100)).collect());
    all.releases.iter_mut().skip(2).for_each(|release| release.minimum = Some(version(1)));
    let refused = decide(policy(), &all, 0).unwrap_err();
    assert_eq!(refused.to_string(), "the catalogue lists more ways from version to version than are looked at");
    // What comes before a full package is in vain where nothing has to.
    assert_eq!(decide(policy(), &all, 1).unwrap().steps.len(), 1);
    all.offers.truncate(1000);
    assert_eq!(decide(policy(), &all, 0).unwrap().steps.len(), 2);
}

#[test]
fn missing_blocks_are_one_more_way() {
    let blocks = offer(OfferKind::Blocks(version(0)), 1, 15);
    let all = catalogue(2, vec![patch(0, 1, 20), full(1, 100), blocks]);
    let chosen = decide(policy(), &all, 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Blocks, Some(15)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A device looks twice: what a full package would cost without what is here is known only when its front is. The
    /// second look keeps the target, and never costs more.
    #[test]
    fn a_second_look_with_the_missing_blocks_is_never_worse(
        offers in offers(),
        minimums in prop::collection::vec(prop::option::weighted(0.3, 0..6_u32), 6),
        prefer in prop::sample::select(vec![Prefer::Bytes, Prefer::Time, Prefer::Space]),
        max_bytes in prop::option::of(1..80_u64),
        missing in 1..40_u64,
        current in 0..5_u32,
    ) {
        let only = |offer: &Offer| !matches!(offer.kind, OfferKind::Blocks(_));
        let mut catalogue = catalogue(6, offers.into_iter().filter(only).collect());
        for (release, minimum) in catalogue.releases.iter_mut().zip(&minimums) {
            release.minimum = minimum.map(version);
        }
        let policy = Policy { prefer, max_bytes, bytes_per_second: 1000, ..policy() };
        let first = decide(policy.clone(), &catalogue, current);
        let target = match &first {
            Ok(strategy) if !strategy.is_none() => strategy.to,
            Err(StrategyError::OverBytes { to, .. }) => *to,
            _ => return Ok(()),
        };
        let of_target = |offer: &&Offer| offer.kind == OfferKind::Full && offer.to == target;
        let Some(full) = catalogue.offers.iter().find(of_target).cloned() else { return Ok(()) };
        let bytes = missing.min(full.bytes.unwrap());
        catalogue.offers.push(Offer { kind: OfferKind::Blocks(version(current)), bytes: Some(bytes), ..full });
        let numbers = (0..6).find(|number| version(*number) == target).unwrap();
        let ways = all_ways(&catalogue, &policy, current, numbers);
        match (first, decide(policy, &catalogue, current)) {
            (Ok(first), Ok(second)) => {
                prop_assert_eq!(second.to, first.to);
                if prefer == Prefer::Bytes {
                    prop_assert!(second.bytes <= first.bytes);
                    prop_assert_eq!(second.bytes, ways.iter().map(|way| way.0).min());
                }
                if second.way == Way::Blocks {
                    prop_assert!(second.reason.starts_with("the missing blocks of the full package take "));
                }
            }
            (Err(_), Ok(second)) => prop_assert!(second.to == target && second.bytes <= max_bytes),
            (Err(_), Err(StrategyError::OverBytes { needed, .. })) => {
                prop_assert_eq!(needed.0, ways.iter().map(|way| way.0).min());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_package_that_does_not_tell_its_size_is_the_last_choice_and_never_within_a_budget() {
    let mut unknown = patch(0, 1, 0);
    unknown.bytes = None;
    let both = catalogue(2, vec![unknown.clone(), full(1, u64::MAX / 2)]);
    assert_eq!(decide(policy(), &both, 0).unwrap().way, Way::Full);
    let alone = catalogue(2, vec![unknown]);
    assert_eq!(decide(policy(), &alone, 0).unwrap().bytes, None);
    let budget = Policy { max_bytes: Some(u64::MAX), ..policy() };
    let error = decide(budget, &alone, 0).unwrap_err();
    assert!(error.to_string().contains("an unknown number of"), "{error}");
}

#[test]
fn channels_holds_and_attempts_choose_the_version_and_budgets_do_not() {
    let mut all = catalogue(4, vec![full(1, 5), full(2, 5), full(3, 50)]);
    all.releases[3].channels = vec!["beta".into()];
    let in_channel = |channel: &str| Policy { channel: Some(channel.into()), ..policy() };
    assert_eq!(decide(in_channel("stable"), &all, 0).unwrap().to, version(2));
    assert_eq!(decide(in_channel("beta"), &all, 0).unwrap().to, version(3));
    let tried = Policy { attempts: [(version(3), 3)].into(), ..policy() };
    let chosen = decide(tried, &all, 0).unwrap();
    assert_eq!(chosen.to, version(2));
    assert!(
        chosen
            .reason
            .ends_with("1.0.0.3 is passed over: it was tried 3 times and did not stay; --again tries it once more"),
        "{chosen}"
    );
    let held = Policy { hold: [version(3), version(2)].into(), ..policy() };
    assert_eq!(decide(held.clone(), &all, 0).unwrap().to, version(1));
    let chosen = decide(held, &all, 1).unwrap();
    assert!(chosen.is_none() && chosen.reason.contains("it is held"), "{chosen}");
    let over = decide(Policy { max_bytes: Some(49), ..policy() }, &all, 0);
    assert!(
        matches!(over, Err(StrategyError::OverBytes { allowed: 49, .. })),
        "not an older version instead: {over:?}"
    );
    assert!(decide(policy(), &all, 3).unwrap().reason.contains("newest"));
}

#[test]
fn a_target_is_reached_or_refused_and_older_only_when_that_is_allowed() {
    let all = catalogue(3, vec![full(0, 1), full(1, 1), full(2, 1)]);
    let to = |number, allow_downgrade| Policy { target: Some(version(number)), allow_downgrade, ..policy() };
    assert_eq!(decide(to(1, false), &all, 0).unwrap().to, version(1));
    assert!(matches!(decide(to(0, false), &all, 2), Err(StrategyError::Target { .. })));
    assert_eq!(decide(to(0, true), &all, 2).unwrap().to, version(0));
    assert!(matches!(decide(to(9, true), &all, 2), Err(StrategyError::Target { .. })));
    assert!(decide(to(2, false), &all, 2).unwrap().is_none());
}

/// A chain through an older full package was cheaper than the newest one, and the device refused its first step.
#[test]
fn no_way_goes_through_a_version_before_the_one_that_is_here_or_behind_the_target() {
    let all = catalogue(3, vec![full(0, 100), patch(0, 2, 1), full(2, 120)]);
    let chosen = decide(policy(), &all, 1).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Full, Some(120)));
    let behind = catalogue(4, vec![patch(0, 3, 1), patch(3, 1, 1), full(1, 120)]);
    let target = Some(version(1));
    let chosen = decide(Policy { target, ..policy() }, &behind, 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Full, Some(120)));
    let permitted = decide(Policy { target, allow_downgrade: true, ..policy() }, &behind, 0).unwrap();
    assert_eq!((permitted.way, permitted.bytes), (Way::Chain, Some(2)));
    let only = catalogue(3, vec![full(0, 100), patch(0, 2, 1)]);
    assert!(matches!(decide(policy(), &only, 1), Err(StrategyError::NoWay { .. })));
}

#[test]
fn what_is_too_old_goes_through_another_version_first() {
    let mut all = catalogue(4, vec![full(2, 50), full(3, 10)]);
    all.releases[3].minimum = Some(version(2));
    let chosen = decide(policy(), &all, 0).unwrap();
    assert_eq!((chosen.way, chosen.bytes), (Way::Chain, Some(60)));
    assert_eq!(decide(policy(), &all, 2).unwrap().way, Way::Full);
}

fn service(to: &str, patch: bool, full: bool) -> ServiceManifest {
    let mut manifest = ServiceManifest::new(to.parse().unwrap());
    if patch {
        let info = PatchPackageInfo { url: "p".into(), size: Some(10), ..PatchPackageInfo::default() };
        manifest.patch.insert("x86_64".into(), info);
    }
    if full {
        manifest.packages.full = Some(FullPackageInfo { url: "f".into(), size: Some(100), ..Default::default() });
    }
    manifest
}

#[test]
fn the_rules_of_the_service_manifest_are_kept() {
    for (from, to, patch, full, forced, expected) in [
        ("1.2.3", "1.2.3", true, true, false, Some(Way::None)),
        ("1.2.3", "1.2.3.0", true, true, false, Some(Way::None)),
        ("1.2.3.5", "1.2.3.4", true, true, true, Some(Way::None)),
        ("1.2.3", "1.2.3.1", true, true, false, Some(Way::Patch)),
        ("1.2.3", "1.2.3.1", true, false, false, Some(Way::Patch)),
        ("1.2.3", "1.2.3.1", true, true, true, Some(Way::Full)),
        ("1.2.3", "1.2.3.1", false, true, false, Some(Way::Full)),
        ("1.2.3", "1.2.4", true, true, false, Some(Way::Full)),
        ("1.2.3", "1.2.4", true, false, false, None),
        ("1.2.3", "1.2.3.1", true, false, true, None),
        ("1.2.3", "1.2.3.1", false, false, false, None),
    ] {
        let manager = UpgradeStrategyManager::new(Policy { force_full: forced, ..policy() });
        let answer = manager.decide_service(&service(to, patch, full), from.parse().unwrap(), &|_| 0);
        let way = answer.as_ref().ok().map(|strategy| strategy.way);
        assert_eq!(way, expected, "{from} {to} {patch} {full} {forced}: {answer:?}");
        assert!(answer.is_ok_and(|strategy| !strategy.reason.is_empty()) || expected.is_none());
    }
    let poor = UpgradeStrategyManager::new(Policy { max_bytes: Some(9), ..policy() });
    let over = poor.decide_service(&service("1.2.3.1", true, true), "1.2.3".parse().unwrap(), &|_| 0);
    assert!(matches!(over, Err(StrategyError::OverBytes { .. })), "{over:?}");
    let other = UpgradeStrategyManager::new(Policy::new("riscv64"));
    let chosen = other.decide_service(&service("1.2.3.1", true, true), "1.2.3".parse().unwrap(), &|_| 0).unwrap();
    assert_eq!(chosen.way, Way::Full, "the patch is for another architecture");
}

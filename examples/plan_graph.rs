//! How long choosing takes: 1,000 versions with 10,000 patches and a full package each.
//!
//! `cargo run --release --example plan_graph`

#![allow(clippy::print_stdout)]

use std::time::Instant;
use surefoot::model::Version;
use surefoot::strategy::{Catalogue, Offer, OfferKind, Policy, Prefer, Release, UpgradeStrategyManager};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let version = |number: u64| Version::new(1, 0, 0).with_build(number as u32);
    let mut dice = 1_u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let mut catalogue = Catalogue::default();
    for number in 0..1000 {
        catalogue.releases.push(Release::new(version(number)));
    }
    for number in 0..11_000 {
        let (from, to) = if number < 10_000 { (roll(999), 0) } else { (0, number - 10_000) };
        let (kind, to, bytes) = if number < 10_000 {
            let to = from + 1 + roll((999 - from).min(20));
            (OfferKind::Patch(version(from)), to, 1_000_000 + roll(4_000_000))
        } else {
            (OfferKind::Full, to, 200_000_000)
        };
        let name = number.to_string();
        let space = 2 * bytes;
        let (to, bytes) = (version(to), Some(bytes));
        let (base, tree, architecture) = (None, None, None);
        catalogue.offers.push(Offer { name, kind, to, base, tree, architecture, bytes, space, apply_ms: 100 });
    }
    for prefer in [Prefer::Bytes, Prefer::Time, Prefer::Space] {
        let manager = UpgradeStrategyManager::new(Policy { prefer, ..Policy::new("x86_64") });
        let mut slowest = 0.0_f64;
        for from in 0..100 {
            let start = Instant::now();
            let strategy = manager.decide(&catalogue, version(from * 9))?;
            slowest = slowest.max(start.elapsed().as_secs_f64() * 1000.0);
            if from == 0 {
                println!("{prefer:?}: {strategy}");
            }
        }
        println!("{prefer:?}: slowest of 100 decisions {slowest:.1} ms");
    }
    Ok(())
}

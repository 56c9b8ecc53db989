//! Which way leads from the version that is here to the one that should be. Pure.
//!
//! [`UpgradeStrategyManager`] knows the rules of the device ([`Policy`]) and is shown what there is: a service manifest,
//! or a [`Catalogue`] of packages. It answers with an [`UpgradeStrategy`]: nothing, patches, or a full package, and
//! why. It fetches nothing and looks at no clock.

mod catalogue;
mod graph;
mod manager;
mod service;

pub use catalogue::{Catalogue, Offer, OfferKind, Release};
pub use manager::{Policy, Prefer, Step, StrategyError, UpgradeStrategy, UpgradeStrategyManager, Way, staged_at_once};

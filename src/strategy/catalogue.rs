//! `Catalogue`: what there is to choose from.

use crate::model::{Digest, Version};

/// Every release and every package that a publisher offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The versions that a device may be brought to.
    pub releases: Vec<Release>,
    /// The packages that lead there.
    pub offers: Vec<Offer>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its number.
    pub version: Version,
    /// The channels that it is in; empty for all of them.
    pub channels: Vec<String>,
    /// The oldest version that can become this one; what is older goes through others first.
    pub minimum: Option<Version>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names it for whoever fetches it: an address, or a path in a repository.
    pub name: String,
    /// What it leads from.
    pub kind: OfferKind,
    /// The version that it makes.
    pub to: Version,
    /// The tree that a patch starts from, where one version may be several trees; nothing if that is not told.
    pub base: Option<Digest>,
    /// The tree that it makes, in the same way. A way goes on with a patch of just the tree that it has made.
    pub tree: Option<Digest>,
    /// The architecture that it is for; nothing for all.
    pub architecture: Option<String>,
    /// Bytes to fetch; nothing if that is not told: it counts as more than anything that is told.
    pub bytes: Option<u64>,
    /// Bytes that must be free while it is applied, beside the packages of the whole way: these are fetched first.
    pub space: u64,
    /// Milliseconds that applying it takes, as its publisher estimates.
    pub apply_ms: u64,
}

/// What a package leads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferKind {
    /// This version only; if it is the one that is here, the very tree that is here.
    Patch(Version),
    /// Whatever is there.
    Full,
    /// The version that is here: the blocks of a full package that local content does not have. Whoever has compared
    /// the block map with the tree offers it.
    Blocks(Version),
}

impl Release {
    /// A version in all channels that every older one can become.
    pub fn new(version: Version) -> Self {
        Self { version, channels: Vec::new(), minimum: None }
    }
}

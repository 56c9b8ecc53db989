//! What an update would do to each path, as far as the fronts of its packages are at hand.

use super::blocks::Front;
use super::choose::is_described;
use super::engine::Engine;
use super::follow::{Follower, Look, Site};
use super::package::{patch_changes, under};
use crate::error::Error;
use crate::fetch::{Failure, Request, local_path};
use crate::limits;
use crate::model::{Manifest, ManifestChange};
use crate::package::{Package, Promise, Start, most_front_bytes};
use crate::repository::Release;
use crate::tree::{Described, describe};
use crate::vfs::Vfs;

impl Follower<'_> {
    /// What each package of a way would do to the tree, the first one first. Nothing is fetched for that: it ends with
    /// the first package whose front is neither on this machine nor was needed for the look.
    pub fn preview<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        look: &Look,
    ) -> Result<Vec<Vec<Described>>, Error> {
        let mut out = Vec::new();
        let Some(mut here) = Engine::open(open()?)?.manifest()? else { return Ok(out) };
        for (number, release) in look.packages.iter().enumerate() {
            let known = look.front().filter(|(path, _)| *path == release.path);
            let promise = match known {
                Some((_, Front { promise, .. })) => Some(promise.clone()),
                None => self.local_front(release, look.site()),
            };
            // What a patch has made is not known by its digests, so nothing can be compared with it.
            let comparable = |promise: &Promise| number == 0 || promise.head().start != Start::Anything;
            let Some(promise) = promise.filter(comparable) else { break };
            let Some((before, after)) = both(here, &promise) else { break };
            out.push(describe(&before, &after));
            here = after;
        }
        Ok(out)
    }

    /// The front of a package that is on this machine.
    fn local_front(&self, release: &Release, site: Site) -> Option<Promise> {
        let wanted = self.wanted(release, site);
        let is_local = |address: &&String| matches!(local_path(address), Ok(Some(_)));
        let address = wanted.addresses.iter().find(is_local)?;
        let mut bytes = self.beginning(address, limits::DOWNLOAD_PIECE.min(release.bytes)).ok()?;
        let most = most_front_bytes(&bytes).ok()?.min(release.bytes);
        if most > bytes.len() as u64 {
            bytes = self.beginning(address, most).ok()?;
        }
        let package = Package::open_with_limit(bytes.as_slice(), most.saturating_mul(limits::FRONT_RATIO)).ok()?;
        let package = package.accept_unsigned().ok()?;
        let is_it = package.id() == release.package && is_described(package.promise().head(), release);
        is_it.then(|| package.into_payload().0)
    }

    fn beginning(&self, address: &str, end: u64) -> Result<Vec<u8>, Failure> {
        let request = Request { address: address.into(), range: Some((0, Some(end))), if_range: None };
        let mut response = self.carrier.get(&request)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.body.chunk()?.filter(|_| (bytes.len() as u64) < end) {
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    }
}

/// The tree before and after a package.
fn both(here: Manifest, promise: &Promise) -> Option<(Manifest, Manifest)> {
    let before = under(here, promise.head().policy).ok()?;
    let after = match promise.manifest() {
        Some(target) => target,
        None => {
            let changes = patch_changes(promise, &before, &[]).ok()?;
            let changes = changes.into_iter().map(|change| ManifestChange { path: change.path, after: change.after });
            before.clone().with(changes).ok()?
        }
    };
    Some((before, after))
}

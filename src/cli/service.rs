//! Following a service manifest: fetching it, choosing, and who brings the bytes.

use super::args::{Choosing, Following, Web};
use super::files::read_small;
use super::managed::Managed;
use super::output::Output;
use crate::device::{Attempts, held_of, holds_all_of};
use crate::error::{Code, Error};
use crate::fetch::{self, Carriers, Options, Patience, SystemPace, Wanted};
use crate::limits;
use crate::model::{PatchPackageInfo, ServiceManifest, Version};
use crate::strategy::{Policy, UpgradeStrategy, UpgradeStrategyManager, Way};
use crate::vfs::Vfs;
use std::time::Duration;

/// What the service offers, and what is to be done about it.
pub(super) struct Decision {
    pub(super) manifest: ServiceManifest,
    /// Where the manifest came from: addresses in it are relative to that.
    pub(super) base: String,
    pub(super) strategy: UpgradeStrategy,
}

/// Asks the service, and decides. The tree is only looked at.
pub(super) fn decide(
    way: &Choosing,
    web: &Web,
    architecture: &str,
    managed: &Managed,
    carriers: &Carriers,
) -> Result<Decision, Error> {
    if let Following { channel: Some(_), .. }
    | Following { prefer: Some(_), .. }
    | Following { offline_policy: Some(_), .. } = &way.repository
    {
        return Err(Error::new(
            Code::Usage,
            "a service manifest has no channels, no choice of ways, and never expires",
        ));
    }
    let vfs = managed.open()?;
    let (status, _) = crate::device::peek(&vfs)?;
    let current = installed(&status.version)?;
    let patience = patience(web);
    let limit = limits::SMALL_FILE;
    let bytes = fetch::fetch_small(carriers, &way.from, limit, patience, &SystemPace::default(), &())?;
    let bytes = bytes
        .ok_or_else(|| Error::new(Code::Unavailable, format!("there is nothing at {}", fetch::shown(&way.from))))?;
    let manifest = ServiceManifest::from_json(&bytes)?;
    let mut policy = policy(way, architecture)?;
    if !way.again {
        policy.attempts = Attempts::read(&vfs)?.0;
    }
    // What cannot be told of a package is told when it is chosen.
    let held = |kind: Way| {
        let info = package(&manifest, kind, architecture)?;
        let wanted = wanted(&way.from, &info, manifest.version, &web.mirror).ok()?;
        if is_asked_for_anew(way, &vfs, &wanted).ok()? { None } else { held_of(&vfs, &wanted).ok() }
    };
    let held = |kind: Way| held(kind).map_or(0, |held| held.bytes);
    let strategy = UpgradeStrategyManager::new(policy).decide_service(&manifest, current, &held)?;
    Ok(Decision { manifest, base: way.from.clone(), strategy })
}

/// All of it is here and has led to nothing, nobody says what it should be, and another try is asked for.
pub(super) fn is_asked_for_anew<V: Vfs>(way: &Choosing, vfs: &V, wanted: &Wanted) -> Result<bool, Error> {
    Ok(way.again && wanted.digest.is_none() && holds_all_of(vfs, wanted)?)
}

/// What a manifest says of its patch, or of its full package.
pub(super) fn package(manifest: &ServiceManifest, way: Way, architecture: &str) -> Option<PatchPackageInfo> {
    if way == Way::Patch {
        return manifest.patch_package(architecture).cloned();
    }
    let full = manifest.full_package(architecture)?.clone();
    let (url, hash, signature, size) = (full.url, full.hash, full.signature, full.size);
    Some(PatchPackageInfo { url, hash, signature, size, ..PatchPackageInfo::default() })
}

/// What is to be fetched of a package of the manifest that came from `base`.
pub(super) fn wanted(
    base: &str,
    info: &PatchPackageInfo,
    version: Version,
    mirrors: &[String],
) -> Result<Wanted, Error> {
    Ok(Wanted {
        addresses: addresses(base, &info.url, mirrors)?,
        size: info.size,
        digest: info.digest()?,
        signature: info.signature_bytes()?,
        label: version.to_string(),
        ..Wanted::default()
    })
}

/// The rules that were asked for.
pub(super) fn policy(way: &Choosing, architecture: &str) -> Result<Policy, Error> {
    let mut policy = Policy::new(architecture);
    policy.max_bytes = way.max_bytes;
    policy.force_full = way.force_full;
    for text in &way.hold {
        policy.hold.insert(Version::parse(text).map_err(|error| Error::new(Code::Version, error.to_string()))?);
    }
    Ok(policy)
}

/// The version that a tree is, where it has to be one that others can be compared with.
pub(super) fn installed(version: &str) -> Result<Version, Error> {
    Version::parse(version).map_err(|error| {
        Error::new(Code::Version, "the version that is installed cannot be compared with others").because(error)
    })
}

/// Says what is to be done, to people.
pub(super) fn tell(strategy: &UpgradeStrategy, output: &Output) {
    output.line(strategy);
}

/// The addresses of a package: where it is published, and the same name at each mirror.
fn addresses(base: &str, url: &str, mirrors: &[String]) -> Result<Vec<String>, Error> {
    let odd = |why: String| Error::new(Code::Usage, why);
    let first = fetch::resolve(base, url).map_err(odd)?;
    let plain = first.split(['?', '#']).next().unwrap_or_default();
    let name = plain.rsplit('/').next().unwrap_or_default().to_owned();
    let mirrored = mirrors.iter().map(|mirror| format!("{}/{name}", mirror.trim_end_matches('/')));
    Ok(std::iter::once(first).chain(mirrored).collect())
}

/// Who brings the bytes. The environment says which proxies there are; the library never asks it.
#[cfg(feature = "http")]
#[allow(clippy::disallowed_methods)]
pub(super) fn carriers(web: &Web) -> Result<Carriers, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_uppercase()));
    let mut authorities = Vec::new();
    for path in &web.ca {
        authorities.extend_from_slice(&read_small(path)?);
        authorities.push(b'\n');
    }
    let options = fetch::HttpOptions {
        connect_timeout: Duration::from_secs(web.connect_timeout),
        stall_timeout: Duration::from_secs(web.stall_timeout),
        authorities,
        proxies: fetch::Proxies {
            // In capitals it could come from a request to a CGI program.
            http: variable("http_proxy"),
            https: either("https_proxy"),
            all: either("all_proxy"),
            none_for: either("no_proxy"),
        },
        ..fetch::HttpOptions::default()
    };
    Ok(Carriers::with_web(fetch::HttpCarrier::new(&options)?))
}

#[cfg(not(feature = "http"))]
pub(super) fn carriers(web: &Web) -> Result<Carriers, Error> {
    for path in &web.ca {
        read_small(path)?;
    }
    Ok(Carriers::local())
}

/// How packages are fetched. Room is needed for what is unpacked, too: how much is told by nobody, but it is not less
/// than what is packed. Old content stays where it is until it is no longer needed, so it takes none.
pub(super) fn options(web: &Web, size: Option<u64>) -> Options {
    Options { patience: patience(web), bytes_per_second: web.limit_rate, room: size.unwrap_or(0), ..Options::default() }
}

fn patience(web: &Web) -> Patience {
    Patience { attempts: web.retries, ..Patience::default() }
}

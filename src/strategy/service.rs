//! The rules of the service manifest, as the service that publishes it has them.

use super::manager::{Needed, Policy};
use super::{Step, StrategyError, UpgradeStrategy, UpgradeStrategyManager, Way};
use crate::model::{ServiceManifest, Version};

impl UpgradeStrategyManager {
    /// Same version or older: none. Forced: full. Same base and a patch for this architecture: patch. Else the full
    /// package of this architecture, or that for all. `held` tells how many bytes of the patch, or of the full package,
    /// are here.
    pub fn decide_service(
        &self,
        manifest: &ServiceManifest,
        current: Version,
        held: &dyn Fn(Way) -> u64,
    ) -> Result<UpgradeStrategy, StrategyError> {
        let Policy { architecture, force_full, max_bytes, target, .. } = &self.policy;
        let to = manifest.version;
        if let Some(version) = target.filter(|target| *target != to) {
            return Err(StrategyError::Target { version, why: format!("the service offers {to}") });
        }
        if to <= current {
            let what = if to == current { "is the newest version" } else { "is newer than what the service offers" };
            return Ok(UpgradeStrategy::none(current, format!("{current} {what}")));
        }
        if let Some(why) = self.policy.refusal(&to) {
            return Ok(UpgradeStrategy::none(current, format!("{to} is passed over: {why}")));
        }
        let patch = manifest.patch_package(architecture);
        let (way, name, size, reason) = match (patch, manifest.full_package(architecture)) {
            (Some(patch), _) if current.can_patch_to(&to) && !force_full => {
                let base = format!("{current} and {to} have the same base and there is a patch for {architecture}");
                (Way::Patch, &patch.url, patch.size, base)
            }
            (_, Some(full)) => {
                let why = if *force_full {
                    "the full package was asked for".to_owned()
                } else if patch.is_some() {
                    format!("{current} and {to} do not have the same base")
                } else {
                    format!("there is no patch for {architecture}")
                };
                (Way::Full, &full.url, full.size, why)
            }
            _ => return Err(StrategyError::NoWay { from: current, to, architecture: architecture.clone() }),
        };
        let bytes = size.map(|size| size.saturating_sub(held(way)));
        if let Some(allowed) = *max_bytes
            && bytes.is_none_or(|bytes| bytes > allowed)
        {
            return Err(StrategyError::OverBytes { from: current, to, needed: Needed(bytes), allowed });
        }
        // It is not told what it unpacks to, but that is not less than what is packed.
        let space = bytes.unwrap_or(0).saturating_add(size.unwrap_or(0));
        let step = Step { kind: way, from: current, to, name: name.clone(), bytes };
        Ok(UpgradeStrategy { way, from: current, to, steps: vec![step], bytes, space, reason })
    }
}

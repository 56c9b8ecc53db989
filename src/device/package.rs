//! Applying a package: from what it promises to the changes of a transaction.

use super::engine::{Change, Engine, Payload, Report, Request, Settings, Sink, Source};
use super::observer::Observer;
use crate::codec::v1;
use crate::error::{Code, Error, Finding};
use crate::model::{Difference, Manifest, TreePath, Version};
use crate::package::{self, Head, Package, Promise, Start, Verified};
use crate::tree;
use crate::vfs::Vfs;
use std::collections::HashMap;
use std::io::Read;

/// What a caller allows a package to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageSettings {
    /// How the transaction is run.
    pub settings: Settings,
    /// The architecture of this device; nothing to take any package.
    pub architecture: Option<String>,
    /// Install an older version over a newer one.
    pub allow_downgrade: bool,
}

impl<V: Vfs> Engine<V> {
    /// Applies a package whose manifest is verified. The payload is read as a stream, so the package may still be
    /// arriving; nothing of the tree is changed before all of it is stored and verified.
    pub fn apply<R: Read>(
        &mut self,
        package: Package<R, Verified>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        self.require_idle()?;
        let (promise, payload) = package.into_payload();
        let head = promise.head().clone();
        let current = self.current()?;
        refuse_by_head(&head, &current.version, settings)?;
        let policy = head.policy;
        let recorded = current
            .manifest(&self.vfs)?
            .ok_or_else(|| Error::new(Code::Untracked, "the content of the tree is not recorded"))?;
        let recorded = recorded.under(policy).map_err(|error| {
            Error::new(Code::Base, "the recorded tree does not fit the package's policy").because(error)
        })?;
        let changes = match &head.start {
            Start::Base { digest, version } => {
                if v1::tree_digest(&recorded) != *digest {
                    return Err(wrong_base(&recorded, &promise, version, &current.version));
                }
                patch_changes(&promise)
            }
            Start::Anything => full_changes(&recorded, &promise)?,
        };
        drop(recorded);
        let names: Vec<TreePath> = promise.changes().iter().map(|change| change.path.clone()).collect();
        drop(promise);
        let request = Request {
            policy: Some(policy),
            version: Some(head.to.clone()),
            target: Some(head.target),
            settings: settings.settings.clone(),
            ..Request::new(changes, format!("{} -> {}", shown(&current.version), head.to))
        };
        self.commit(request, &mut FromPackage { payload, names }, observer)
    }
}

fn shown(version: &str) -> &str {
    if version.is_empty() { "(no version)" } else { version }
}

fn refuse_by_head(head: &Head, current: &str, settings: &PackageSettings) -> Result<(), Error> {
    if let (Some(wanted), Some(here)) = (&head.architecture, &settings.architecture)
        && wanted != here
    {
        return Err(Error::new(Code::Architecture, format!("the package is for {wanted}, this device is {here}")));
    }
    if let (Ok(to), Ok(from)) = (head.to.parse::<Version>(), current.parse::<Version>())
        && to < from
        && !settings.allow_downgrade
    {
        return Err(Error::new(Code::Downgrade, format!("the package would install {to} over {from}")));
    }
    Ok(())
}

/// Says which of the touched paths are not what the package starts from.
fn wrong_base(recorded: &Manifest, promise: &Promise, version: &str, current: &str) -> Error {
    let policy = recorded.policy();
    let findings: Vec<Finding> = promise
        .changes()
        .iter()
        .filter_map(|change| {
            let difference = match (recorded.get(&change.path), change.before) {
                (None, None) => return None,
                (None, Some(_)) => Difference::Missing,
                (Some(_), None) => Difference::Unexpected,
                (Some(node), Some(print)) if v1::node_digest(node, policy).fingerprint() == print => return None,
                (Some(_), Some(_)) => Difference::Content,
            };
            Some(Finding { path: change.path.clone(), difference })
        })
        .collect();
    let tail = if findings.is_empty() { "; it differs outside of what the package touches" } else { "" };
    Error::new(
        Code::Base,
        format!("the package starts from version {version}, the tree is version {}{tail}", shown(current)),
    )
    .listing(findings)
}

fn patch_changes(promise: &Promise) -> Vec<Change> {
    promise
        .changes()
        .iter()
        .map(|change| Change {
            path: change.path.clone(),
            after: change.node().cloned(),
            source: match change.source() {
                None | Some(package::Source::None) => Source::None,
                Some(package::Source::Payload) => Source::Payload,
                Some(package::Source::Base(path)) => Source::Base(path.clone()),
                Some(package::Source::Change(index)) => Source::Change(*index as u32),
            },
        })
        .collect()
}

/// From whatever is recorded to everything that a full package holds.
fn full_changes(recorded: &Manifest, promise: &Promise) -> Result<Vec<Change>, Error> {
    let target = promise
        .manifest()
        .ok_or_else(|| Error::new(Code::PackageFormat, "a full package does not hold a whole tree"))?;
    let changes = tree::changes(recorded, &target);
    let at: HashMap<&TreePath, usize> = changes.iter().enumerate().map(|(at, change)| (&change.path, at)).collect();
    let all = promise.changes();
    let source_of = |path: &TreePath| {
        let position = all.binary_search_by(|change| change.path.cmp(path)).ok()?;
        Some(match all[position].source()? {
            package::Source::None => Source::None,
            package::Source::Payload => Source::Payload,
            package::Source::Base(path) => Source::Base(path.clone()),
            package::Source::Change(other) => {
                let first = &all[*other].path;
                // The first one may be in the tree already, and then nothing changes there.
                at.get(first).map_or_else(|| Source::Base(first.clone()), |at| Source::Change(*at as u32))
            }
        })
    };
    Ok(changes
        .iter()
        .map(|change| Change {
            path: change.path.clone(),
            after: change.after.clone(),
            source: change.after.as_ref().and_then(|_| source_of(&change.path)).unwrap_or(Source::None),
        })
        .collect())
}

struct FromPackage<R> {
    payload: package::Payload<R>,
    /// The paths of the package's changes, by index.
    names: Vec<TreePath>,
}

impl<R: Read> Payload for FromPackage<R> {
    fn deliver(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        // What nobody wants is not read, and so not decoded.
        while let Some(mut content) = self.payload.next_content()? {
            let path = &self.names[content.change()];
            if sink.wants(path) {
                sink.take(path, &mut content)?;
            }
        }
        Ok(())
    }
}

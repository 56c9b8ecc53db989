//! Fetching and applying what a look at a repository has chosen.

use super::attempts::Attempts;
use super::blocks::Blocks;
use super::choose::is_described;
use super::downloads::Downloads;
use super::engine::{Engine, Report};
use super::follow::{Follower, Look};
use super::observer::{Observer, Progress};
use super::package::PackageSettings;
use crate::error::{Code, Error};
use crate::fetch::{Options, Wanted};
use crate::model::Version;
use crate::package::{Package, Verified};
use crate::repository::Release;
use crate::strategy::staged_at_once;
use crate::vfs::Vfs;
use std::io::Read;

impl Follower<'_> {
    /// Fetches what a look has chosen, and applies it. On trial, that is the first package only: each version is tried
    /// before another one is built on it. A look is over when another one has believed something newer, or when another
    /// version is here: what it has chosen is refused then, and has to be looked for again.
    pub fn install<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        look: &Look,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<Option<Report>, Error> {
        let vfs = open()?;
        let downloads = Downloads::open(&vfs)?;
        let count = if settings.settings.trial { 1 } else { look.packages.len() };
        let packages: Vec<(&Release, Wanted)> =
            look.packages.iter().take(count).map(|release| (release, self.wanted(release, look.site()))).collect();
        // What is left of earlier downloads and not among these leads nowhere any more; but what was fetched to choose this
        // way serves the next look, if this way does not lead to its end.
        downloads.keep_only(&packages.iter().map(|(_, wanted)| wanted).chain(&look.looked_into).collect::<Vec<_>>())?;
        let mut blocks = look.blocks.as_ref();
        let bytes = |release: &Release| look.blocks.as_ref().map_or(release.bytes, |blocks| blocks.sections.bytes());
        let total = packages.iter().map(|(release, _)| bytes(release)).fold(0, u64::saturating_add);
        let mut left = Vec::new();
        for (release, wanted) in &packages {
            let held = downloads.held(wanted)?;
            let missing = |blocks: &Blocks| blocks.sections.bytes_besides(&held.pieces);
            left.push(blocks.map_or(release.bytes.saturating_sub(held.bytes), missing));
        }
        let staged: Vec<u64> = packages.iter().map(|(release, _)| release.space_bytes).collect();
        let room = staged_at_once(&staged, look.keep);
        let (mut before, mut received) = (0, look.received);
        for (number, (release, wanted)) in packages.iter().enumerate() {
            let so_far = u64::saturating_add(before, bytes(release));
            // What is here of those that come later takes its room already.
            let left = left.iter().skip(number + 1).copied().fold(0, u64::saturating_add);
            let mut fetch = |wanted: &Wanted| {
                let most_bytes = self.rules.max_bytes.map(|most| most.saturating_sub(received));
                let options = Options { room: room.saturating_add(left), most_bytes, ..self.options.clone() };
                let part = Part { observer, before, total };
                downloads.bring(wanted, self.carrier, &options, (&part, &mut received))
            };
            let part = blocks.map(|Blocks { sections, .. }| wanted.only(sections.clone()));
            match fetch(part.as_ref().unwrap_or(wanted)) {
                // All of it serves as well, and may be right where the parts are not.
                Err(error) if part.is_some() && error.fails_in_parts() => {
                    fetch(wanted)?;
                    blocks = None;
                }
                fetched => {
                    fetched?;
                }
            }
            before = so_far;
        }
        let mut engine = Engine::open(open()?)?;
        let recovered = engine.recover(observer)?;
        if recovered.trial {
            return Err(Error::new(Code::Pending, "a trial is under way"));
        }
        let here = Version::parse(&engine.current()?.version).ok();
        let mut attempts = Attempts::read(&vfs)?;
        if let Some(here) = here {
            attempts.settle(&vfs, here)?;
        }
        if packages.is_empty() {
            return Ok(None);
        }
        // The tree was not locked since the look.
        if here != Some(look.strategy.from) || engine.stored_trust()? != look.trust {
            return Err(Error::new(
                Code::Locked,
                "another process has looked or installed since this look: look again",
            ));
        }
        let mut done: Option<Report> = None;
        for (release, wanted) in &packages {
            let settings = PackageSettings { allow_downgrade: look.downgrade, ..settings.clone() };
            // In the place of what was not fetched anything of its length will do.
            let padding = if blocks.is_some() { release.bytes } else { 0 };
            let read = downloads.read(wanted)?.chain(std::io::repeat(0).take(padding));
            // What was fetched cannot be opened: that was no try.
            attempts.note(&vfs, release.version)?;
            let applied = Package::open(read.take(if blocks.is_some() { release.bytes } else { u64::MAX }))
                .map_err(Error::from)
                .and_then(|package| Ok(package.accept_unsigned()?))
                .and_then(|package| {
                    refuse_other(&package, release)?;
                    match blocks {
                        Some(blocks) => engine.apply_blocks(package, blocks, &settings, observer),
                        None => engine.apply(package, &settings, observer),
                    }
                });
            let report = applied.map_err(|error| {
                attempts.judge(&vfs, release.version, &error);
                match &done {
                    None => error,
                    Some(Report { to, .. }) => {
                        let what = format!("{to} was installed on the way to {}, which failed", look.strategy.to);
                        Error::new(error.code(), what).because(error)
                    }
                }
            })?;
            if !report.trial {
                // Written with the next one.
                attempts.0.remove(&release.version);
            }
            done = Some(match done {
                None => report,
                Some(first) => Report { from: first.from, steps: first.steps.saturating_add(report.steps), ..report },
            });
        }
        // From here on a failure costs some space, and nothing else.
        downloads.keep_only(&[])?;
        // What is on trial stays noted until it is confirmed.
        if done.as_ref().is_some_and(|report| !report.trial) {
            attempts.clear(&vfs)?;
        }
        Ok(done)
    }
}

/// Is this the package that the metadata describes? Its name is, and then so is everything in it; what else is said
/// of it must not be something else.
fn refuse_other<R: Read>(package: &Package<R, Verified>, release: &Release) -> Result<(), Error> {
    if package.id() != release.package {
        let what = format!("{} holds package {}, not {}", release.path, package.id(), release.package);
        return Err(Error::new(Code::Digest, what));
    }
    if is_described(package.promise().head(), release) {
        return Ok(());
    }
    Err(Error::new(Code::Format, format!("{} is described as something else than it is", release.path)))
}

/// One download of several.
struct Part<'a> {
    observer: &'a dyn Observer,
    before: u64,
    total: u64,
}

impl Observer for Part<'_> {
    fn report(&self, progress: Progress) {
        self.observer.report(Progress { done: self.before + progress.done, total: self.total, ..progress });
    }

    fn cancelled(&self) -> bool {
        self.observer.cancelled()
    }
}

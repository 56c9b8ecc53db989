//! `Follower`: a tree follows a repository: looks, chooses, fetches, applies.
//!
//! What is believed of the repository is durable before anything is built on it, what is fetched waits in the state
//! directory through any loss of power, and only then the tree is worked on: as by [`Engine::apply`].

use super::blocks::{Blocks, Front};
use super::choose::decide;
use super::downloads::Watching;
use super::engine::{Engine, Report};
use super::observer::{Observer, Phase, Progress};
use super::package::PackageSettings;
use crate::error::{Code, Error};
use crate::fetch::{self, Asking, Carrier, Failure, FetchError, Options, SystemPace, Verdict, Wanted};
use crate::repository::{
    Answer, Client, Clock, METADATA_DIRECTORY, Notice, OfflinePolicy, Release, RepositoryError, Request, Step, Stored,
    TARGETS_DIRECTORY, blob_name,
};
use crate::strategy::{Policy, UpgradeStrategy, Way};
use crate::vfs::Vfs;

/// A tree's way to its repository, and the rules by which it follows.
pub struct Follower<'a> {
    /// Where the repository is, and copies of it: addresses of folders, the best first. Whoever has answered last is asked
    /// first for what comes next, and the others for what that one does not give, or gives wrong.
    pub addresses: Vec<String>,
    /// Who brings the bytes.
    pub carrier: &'a dyn Carrier,
    /// How they are fetched.
    pub options: Options,
    /// What the device knows of the time.
    pub clock: Clock,
    /// What is done about metadata that has expired.
    pub offline: OfflinePolicy,
    /// Which version is chosen, and by which way. An older version needs the permission of the repository besides
    /// `allow_downgrade`; how often each was tried is read from the state directory, unless `again` is asked for.
    pub rules: Policy,
    /// Try versions that were given up.
    pub again: bool,
}

/// What a look at a repository has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What is to be done.
    pub strategy: UpgradeStrategy,
    /// The packages for it, in the order in which they are applied.
    pub packages: Vec<Release>,
    /// What was accepted although not everything is as it should be.
    pub notices: Vec<Notice>,
    /// Packages that the repository describes in a way that nobody understands; they are passed over.
    pub unusable: Vec<RepositoryError>,
    /// The way leads back, and the repository permits it.
    pub downgrade: bool,
    site: Site,
    /// Updates that can be taken back.
    pub(super) keep: u32,
    /// What was believed of the repository when the look was over.
    pub(super) trust: Stored,
    /// The full package of which the front was fetched, by its path.
    front: Option<(String, Front)>,
    /// The full package of which something was fetched, to know its front.
    pub(super) looked_into: Option<Wanted>,
    /// What of it is missing here, if the way is to fetch that.
    pub(super) blocks: Option<Blocks>,
    /// Bytes of packages that came over the wire for the look.
    pub(super) received: u64,
}

impl Look {
    pub(super) fn front(&self) -> Option<&(String, Front)> {
        self.front.as_ref()
    }

    pub(super) fn site(&self) -> Site {
        self.site
    }
}

/// Where the packages of a repository are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Their names carry digests.
    pub(super) consistent: bool,
    /// The number of the address that has answered last: it is asked first.
    pub(super) answered: usize,
}

impl Follower<'_> {
    /// Looks at the repository and decides; `open` opens the tree, more than once. Nothing of the tree changes; what is
    /// believed is kept.
    ///
    /// The tree is locked while something is read or kept, and not while something is fetched.
    pub fn look<V: Vfs>(&self, open: &dyn Fn() -> Result<V, Error>, observer: &dyn Observer) -> Result<Look, Error> {
        observer.report(Progress { phase: Phase::Check, done: 0, total: 0 });
        let engine = Engine::open(open()?)?;
        let mut client = engine.repository_client(self.clock, self.offline)?;
        let mut known = engine.stored_trust()?;
        drop(engine);
        client.look_for_everything();
        let mut answered = 0;
        loop {
            let (role, bytes) = match client.step()? {
                Step::Done => break,
                Step::Fetch(request) => {
                    self.ask(&mut client, &request, &mut answered, observer)?;
                    continue;
                }
                Step::Keep(kept) => (kept.role, Some(kept.bytes)),
                Step::Forget(role) => (role, None),
            };
            let mut engine = Engine::open(open()?)?;
            // Of two who look at once, the slower one could bring back what is older.
            if engine.stored_trust()? != known {
                return Err(Error::new(Code::Locked, "another process looks at the repository"));
            }
            engine.keep_trust(&role, bytes.as_deref())?;
            known = engine.stored_trust()?;
        }
        let engine = Engine::open(open()?)?;
        let (offered, unusable) = self.offered(&client, &engine, answered)?;
        drop(engine);
        let first = decide(&offered, None);
        let mut received = 0;
        let candidate = self.worth_looking_into(&offered, &first);
        let looked_into = candidate.map(|(release, _)| self.wanted(release, offered.site));
        let front = match candidate {
            Some(candidate) => self.front(open, &offered, candidate, (observer, &mut received))?,
            None => None,
        };
        let (chosen, blocks) = match &front {
            Some((release, front)) => self.choose_again(open, &offered, (first, release, front), received)?,
            None => (first, None),
        };
        let (strategy, downgrade) = chosen?;
        let of_step = |name: &String| offered.usable.iter().find(|release| release.path == *name).cloned();
        let packages = strategy.steps.iter().filter_map(|step| of_step(&step.name)).collect();
        let front = front.map(|(release, front)| (release.path.clone(), front));
        let blocks = blocks.filter(|_| strategy.way == Way::Blocks);
        let (notices, site, trust) = (client.notices().to_vec(), offered.site, offered.trust);
        let keep = offered.rules.keep;
        Ok(Look {
            strategy,
            packages,
            notices,
            unusable,
            downgrade,
            site,
            keep,
            trust,
            front,
            looked_into,
            blocks,
            received,
        })
    }

    /// Recovers, looks, and installs what was chosen; the whole of an update in one call.
    pub fn update<V: Vfs>(
        &self,
        open: &dyn Fn() -> Result<V, Error>,
        settings: &PackageSettings,
        observer: &dyn Observer,
    ) -> Result<(Look, Option<Report>), Error> {
        let mut engine = Engine::open(open()?)?;
        if engine.recover(observer)?.trial {
            return Err(Error::new(Code::Pending, "a trial is under way"));
        }
        drop(engine);
        let look = self.look(open, observer)?;
        let report = self.install(open, &look, settings, observer)?;
        Ok((look, report))
    }

    /// Asks the addresses for a file of metadata, until one has it and it is believed: first the one that has answered
    /// last.
    ///
    /// That a file which may be missing is missing is not the word of one address alone: a copy that is behind would
    /// end the chain of roots there. Once one has said so the others are asked once, and one that fails has no say.
    fn ask(
        &self,
        client: &mut Client,
        request: &Request,
        answered: &mut usize,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let of = |address: &String| fetch::below_quoted(&fetch::below(address, METADATA_DIRECTORY), &request.name);
        let addresses: Vec<String> = self.addresses.iter().map(of).collect();
        let mut errors: Vec<Option<Error>> = addresses.iter().map(|_| None).collect();
        let mut missing = None;
        let mut judge = |address: usize, came: Result<Option<Vec<u8>>, Failure>| {
            let answer = match came {
                Ok(Some(bytes)) => client.answer(Answer::Bytes(bytes)).map_err(Error::from),
                Ok(None) if !request.optional => client.answer(Answer::Missing).map_err(Error::from),
                // Stores that do not list what they hold say 403 of what they do not hold, too.
                Ok(None) | Err(Failure::Status { status: 403, .. }) if request.optional => {
                    missing = Some(());
                    return Verdict::Last;
                }
                Ok(None) => Ok(()),
                Err(Failure::TooLong) => {
                    Err(RepositoryError::TooLong { file: request.name.clone(), most: request.most }.into())
                }
                Err(failure) => Err(FetchError::of(&addresses[address], failure, request.most).into()),
            };
            match answer {
                Ok(()) => Verdict::Good,
                Err(error) => {
                    errors[address] = Some(error);
                    Verdict::Bad
                }
            }
        };
        let (pace, watch) = (SystemPace::default(), Watching(observer));
        let asking = Asking {
            carrier: self.carrier,
            patience: self.options.patience,
            pace: &pace,
            watch: &watch,
            limit: request.most,
        };
        match (asking.ask(&addresses, *answered, &mut judge)?, missing) {
            (Some(address), _) => *answered = address,
            // That it has nothing newer does not make an address the one to ask first: it may be behind.
            (None, Some(())) => client.answer(Answer::Missing).map_err(|refused| match refused {
                RepositoryError::Missing { .. } => errors.into_iter().flatten().next().unwrap_or_else(|| {
                    let at: Vec<String> = addresses.iter().map(|address| fetch::shown(address)).collect();
                    Error::new(Code::RepositoryMissing, format!("{refused}: there is nothing at {}", at.join(", ")))
                }),
                refused => refused.into(),
            })?,
            (None, None) => {
                let first = errors.into_iter().flatten().next();
                return Err(first.unwrap_or_else(|| Error::new(Code::Usage, "a repository without an address")));
            }
        }
        Ok(())
    }

    pub(super) fn wanted(&self, release: &Release, site: Site) -> Wanted {
        let path = format!("{TARGETS_DIRECTORY}/{}", blob_name(&release.path, &release.digest, site.consistent));
        let mut addresses: Vec<String> = self.addresses.iter().map(|address| fetch::below(address, &path)).collect();
        let first = site.answered.min(addresses.len());
        addresses.rotate_left(first);
        // 5.7.3: no more bytes than the metadata says, and with the digest that it says.
        Wanted {
            addresses,
            size: Some(release.bytes),
            digest: Some(release.digest),
            signature: None,
            blocks: release.blocks.clone(),
            sections: None,
            label: release.version.to_string(),
        }
    }
}

impl std::fmt::Debug for Follower<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, options, clock, offline, rules, again, .. } = self;
        let mut out = f.debug_struct("Follower");
        out.field("addresses", addresses).field("options", options).field("clock", clock).field("offline", offline);
        out.field("rules", rules).field("again", again).finish_non_exhaustive()
    }
}

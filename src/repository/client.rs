//! `Client`: the client workflow of TUF (section 5 of the specification) as a state machine without input or output.
//!
//! [`Client::step`] says what comes next: a file to fetch and how long it may be, or bytes to keep, durably, before
//! anything else is asked; [`Client::answer`] takes the file. An answer that is refused changes nothing, so a better
//! one, from another mirror, may follow. Whatever is lost on the way, power included, a new client over what was kept
//! goes on from there: every step leaves something that can be believed.

use super::delegation::{Loaded, Search, not_asked, not_loaded, search, unloaded};
use super::metadata::{Body, FileInfo, Key, Role, Root, Snapshot, Target, Targets, Timestamp};
use super::policy::{Clock, Notice, OfflinePolicy};
use super::release::Release;
use super::signed::Signed;
use super::{Moment, RepositoryError, metadata_name, role, stored_name};
use crate::limits;
use crate::trust::Keyring;
use std::collections::{BTreeMap, VecDeque};

/// What a device has kept of earlier looks: the bytes of metadata, by the names of their roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(pub BTreeMap<String, Vec<u8>>);

/// What a device believes before it has kept anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Root metadata that it was given, among what is stored.
    Stored,
    /// The first root metadata that every one of these keys has signed.
    Keys(Keyring),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This file is needed.
    Fetch(Request),
    /// These bytes are believed from now on, and must be durable before the next step is asked for.
    Keep(Kept),
    /// What is kept of this role is not believed any more: it must be gone, durably, before the next step is asked for.
    Forget(String),
    /// Nothing: everything that was asked for is known.
    Done,
}

/// A metadata file that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name in the directory of metadata, escaped as an address needs it.
    pub name: String,
    /// How many bytes of it to read at most: one that goes on is refused.
    pub most: u64,
    /// It may be missing, and that is no failure: the next root.
    pub optional: bool,
}

/// Metadata to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of which role.
    pub role: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The file.
    Bytes(Vec<u8>),
    /// There is no such file.
    Missing,
}

/// A target that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The role that describes it.
    pub role: &'a str,
    /// What it says.
    pub target: &'a Target,
    /// Names of files carry digests.
    pub consistent: bool,
}

/// One look at a repository.
#[derive(Clone, Debug)]
pub struct Client {
    clock: Clock,
    policy: OfflinePolicy,
    anchor: Anchor,
    stored: Stored,
    phase: Phase,
    root: Option<Root>,
    timestamp: Option<Timestamp>,
    /// The trusted snapshot: of an earlier look, until there is a newer one.
    snapshot: Option<Snapshot>,
    targets: Loaded,
    /// Length of all that is loaded of these.
    targets_bytes: u64,
    wanted: Wanted,
    /// What must be durable before anything else.
    effects: VecDeque<Step>,
    notices: Vec<Notice>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The first root is looked for, this version next.
    Anchor(u64),
    /// Newer roots are looked for; so many have come.
    Root(u32),
    /// No newer root is looked for: what is said of the last one is not the fault of whoever was asked.
    Rooted,
    Timestamp,
    Snapshot,
    /// The metadata of a delegator's role.
    Targets(String, String),
    /// The roles at the top are known.
    Ready,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Path(String),
    Everything,
}

impl Client {
    /// Begins a look with what is kept. The clock is asked once, here: it is the fixed update start time (5.1).
    pub fn new(stored: Stored, anchor: Anchor, clock: Clock, policy: OfflinePolicy) -> Result<Self, RepositoryError> {
        // 5.2: load the trusted root metadata. That it may have expired does not matter yet.
        let root = match stored.0.get(role::ROOT) {
            Some(bytes) => Some(read_root(&stored_name(role::ROOT), bytes).map_err(damaged)?.body),
            None => None,
        };
        let phase = match (&root, &anchor) {
            (Some(_), _) => Phase::Root(0),
            (None, Anchor::Keys(keys)) if !keys.is_empty() => Phase::Anchor(1),
            (None, _) => return Err(RepositoryError::Anchor),
        };
        Ok(Self {
            clock,
            policy,
            anchor,
            stored,
            phase,
            root,
            timestamp: None,
            snapshot: None,
            targets: Loaded::new(),
            targets_bytes: 0,
            wanted: Wanted::Nothing,
            effects: VecDeque::new(),
            notices: Vec::new(),
        })
    }

    /// What comes next.
    pub fn step(&mut self) -> Result<Step, RepositoryError> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Ok(effect);
            }
            match self.phase.clone() {
                Phase::Anchor(version) => return Ok(fetch_root(version)),
                // 5.3.1: the next root may be signed by other keys altogether, so one leads to the next.
                Phase::Root(_) => return Ok(fetch_root(self.next_root()?)),
                Phase::Rooted => self.finish_root()?,
                // 5.4.1: download the timestamp metadata, up to a fixed number of bytes.
                Phase::Timestamp => {
                    let name = metadata_name(role::TIMESTAMP, None);
                    return Ok(Step::Fetch(Request { name, most: limits::TIMESTAMP_BYTES, optional: false }));
                }
                Phase::Snapshot if self.snapshot_is_known()? => {
                    self.phase = Phase::Targets(role::ROOT.into(), role::TARGETS.into());
                }
                // 5.5.1: download the snapshot metadata, up to the length that the timestamp says.
                Phase::Snapshot => return self.fetch::<Snapshot>(role::SNAPSHOT, self.snapshot_info()?),
                Phase::Targets(delegator, name) => {
                    if let Some((targets, bytes)) = self.known_targets(&delegator, &name)? {
                        self.load(delegator, name, targets, bytes);
                    } else {
                        // 5.6.1: download the targets metadata, up to the length that the snapshot says.
                        let mut step = self.fetch::<Targets>(&name, self.targets_info(&name)?)?;
                        if let Step::Fetch(Request { most, .. }) = &mut step {
                            *most = self.most_targets_bytes(&name)?;
                        }
                        return Ok(step);
                    }
                }
                Phase::Ready => match self.needed() {
                    Some((delegator, name)) => self.phase = Phase::Targets(delegator, name),
                    None => {
                        self.note_passed_over();
                        return Ok(Step::Done);
                    }
                },
            }
        }
    }

    /// Takes what came of the last request.
    pub fn answer(&mut self, answer: Answer) -> Result<(), RepositoryError> {
        match (self.phase.clone(), answer) {
            (Phase::Anchor(version), Answer::Bytes(bytes)) => self.on_first_root(version, bytes),
            // Without any root it is no repository that anybody could be asked to trust.
            (Phase::Anchor(1), Answer::Missing) => {
                Err(RepositoryError::Missing { file: metadata_name(role::ROOT, Some(1)) })
            }
            (Phase::Anchor(_), Answer::Missing) => Err(RepositoryError::Anchor),
            (Phase::Root(count), Answer::Bytes(bytes)) => self.on_root(count, bytes),
            (Phase::Root(_), Answer::Missing) => {
                self.phase = Phase::Rooted;
                Ok(())
            }
            (Phase::Timestamp, Answer::Bytes(bytes)) => self.on_timestamp(bytes),
            (Phase::Timestamp, Answer::Missing) => Err(missing(role::TIMESTAMP)),
            (Phase::Snapshot, Answer::Bytes(bytes)) => self.on_snapshot(bytes),
            (Phase::Snapshot, Answer::Missing) => Err(missing(role::SNAPSHOT)),
            (Phase::Targets(delegator, name), Answer::Bytes(bytes)) => self.on_targets(delegator, name, bytes),
            (Phase::Targets(_, name), Answer::Missing) => Err(missing(&name)),
            // Nothing was asked for.
            (Phase::Rooted | Phase::Ready, _) => Ok(()),
        }
    }

    /// Asks for the target at a path; what is done then is done by [`Client::step`].
    pub fn look_for(&mut self, path: &str) {
        self.wanted = Wanted::Path(path.into());
    }

    /// Asks for the metadata of every delegated role, within bounds.
    pub fn look_for_everything(&mut self) {
        self.wanted = Wanted::Everything;
    }

    /// The target at a path, if the metadata that is loaded has it.
    pub fn found(&self, path: &str) -> Option<Found<'_>> {
        let consistent = self.root.as_ref()?.consistent_snapshot;
        // 5.7.1: what is wanted is looked up in its targets metadata. 5.7.2: if that has nothing about it, there is none.
        match search(&self.targets, path) {
            Search::Found((_, role), target) => Some(Found { role, target, consistent }),
            Search::Missing | Search::Needs(..) => None,
        }
    }

    /// Every package that the metadata that is loaded describes, and what is wrong with those that cannot be used.
    pub fn releases(&self) -> (Vec<Release>, Vec<RepositoryError>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (path, target) in self.all_targets() {
            match Release::read(path, target) {
                Ok(Some(release)) => good.push(release),
                Ok(None) => {}
                Err(error) => bad.push(error),
            }
        }
        (good, bad)
    }

    /// Every target of the metadata that is loaded: whoever is asked first about its path decides, and nobody else.
    pub fn all_targets(&self) -> impl Iterator<Item = (&str, &Target)> {
        let asked = |edge, path: &str| matches!(search(&self.targets, path), Search::Found(found, _) if found == edge);
        self.targets.iter().flat_map(move |(edge, targets)| {
            let paths = targets.targets.iter().map(|(path, target)| (path.as_str(), target));
            paths.filter(move |(path, _)| asked(edge, path))
        })
    }

    /// What was accepted although not everything is as it should be.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The trusted root metadata.
    pub fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// The trusted timestamp metadata.
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref()
    }

    /// The trusted snapshot metadata; before the look is over it may be that of an earlier one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The trusted targets metadata at the top.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.get(&(role::ROOT.to_owned(), role::TARGETS.to_owned()))
    }

    /// Goes on until nothing is left to do, with these two: to fetch, and to keep the bytes of a role or forget it.
    pub fn run<E>(
        &mut self,
        fetch: &mut dyn FnMut(&Request) -> Result<Answer, E>,
        keep: &mut Keep<'_, E>,
    ) -> Result<(), RunError<E>> {
        loop {
            match self.step().map_err(RunError::Refused)? {
                Step::Fetch(request) => {
                    let answer = fetch(&request).map_err(RunError::Driver)?;
                    self.answer(answer).map_err(RunError::Refused)?;
                }
                Step::Keep(kept) => keep(&kept.role, Some(&kept.bytes)).map_err(RunError::Driver)?,
                Step::Forget(role) => keep(&role, None).map_err(RunError::Driver)?,
                Step::Done => return Ok(()),
            }
        }
    }

    fn trusted_root(&self) -> Result<&Root, RepositoryError> {
        self.root.as_ref().ok_or(RepositoryError::Anchor)
    }

    fn next_root(&self) -> Result<u64, RepositoryError> {
        // 5.3.2: N is the version of the trusted root metadata.
        let version = self.trusted_root()?.version;
        version.checked_add(1).ok_or_else(|| RepositoryError::malformed("root.json", "there is no next version"))
    }

    fn fetch<T: Body>(&self, name: &str, info: &FileInfo) -> Result<Step, RepositoryError> {
        let version = self.trusted_root()?.consistent_snapshot.then_some(info.version);
        let most = info.length.unwrap_or(T::MOST).min(T::MOST);
        Ok(Step::Fetch(Request { name: metadata_name(name, version), most, optional: false }))
    }

    /// A device that was given keys believes the first root that all of them have signed, and that is signed by itself.
    fn on_first_root(&mut self, version: u64, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let file = metadata_name(role::ROOT, Some(version));
        too_long(&file, &bytes, limits::ROOT_BYTES)?;
        let Anchor::Keys(keys) = &self.anchor else { return Err(RepositoryError::Anchor) };
        // What is no root of this version says nothing: another mirror may have it.
        let root = read_root(&file, &bytes)?;
        if root.body.version != version {
            return Err(RepositoryError::malformed(&file, format!("it is version {}", root.body.version)));
        }
        if keys.keys().all(|key| root.is_signed_by(&Key::ed25519(key))) {
            self.root = Some(root.body);
            self.keep(role::ROOT, bytes);
            self.phase = Phase::Root(0);
        } else if version >= u64::from(limits::ROOT_ROTATIONS) {
            return Err(RepositoryError::Anchor);
        } else {
            self.phase = Phase::Anchor(version + 1);
        }
        Ok(())
    }

    fn on_root(&mut self, count: u32, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let (trusted, version) = (self.trusted_root()?, self.next_root()?);
        let file = metadata_name(role::ROOT, Some(version));
        too_long(&file, &bytes, limits::ROOT_BYTES)?;
        let root: Signed<Root> = Signed::parse(&file, &bytes)?;
        // 5.3.4: check for an arbitrary software attack: signed as the trusted root asks, and as it asks itself.
        root.verify(&trusted.keys, top_role(trusted, role::ROOT)?)?;
        root.verify(&root.body.keys, top_role(&root.body, role::ROOT)?)?;
        // 5.3.5: check for a rollback attack: it is version N+1 and no other.
        if root.body.version < version {
            return Err(RepositoryError::Rollback { file, trusted: version - 1, offered: root.body.version });
        }
        if root.body.version > version {
            return Err(RepositoryError::malformed(&file, format!("it is version {}", root.body.version)));
        }
        // 5.3.6: whether it has expired does not matter yet. 5.3.7: it is the trusted one. 5.3.8: persist it.
        self.root = Some(root.body);
        self.keep(role::ROOT, bytes);
        // 5.3.9: go on with 5.3.2, unless too many have come.
        self.phase = if count + 1 < limits::ROOT_ROTATIONS { Phase::Root(count + 1) } else { Phase::Rooted };
        Ok(())
    }

    fn finish_root(&mut self) -> Result<(), RepositoryError> {
        let root = self.trusted_root()?;
        // 5.3.11: what was signed by keys that do not count any more is forgotten, timestamp and snapshot together, so
        // that version numbers which an attacker has driven up do not count. This is decided by the signatures that
        // are there and not by what has changed just now: it is the same after a crash in between. The snapshot goes
        // last, since it may be what shows the rotation.
        let timestamp = self.stored_role::<Timestamp>(root, role::TIMESTAMP)?;
        let snapshot = self.stored_role::<Snapshot>(root, role::SNAPSHOT)?;
        let forget = timestamp == Trusted::Rotated || snapshot == Trusted::Rotated;
        let (timestamp, snapshot) = if forget { (None, None) } else { (timestamp.into_body(), snapshot.into_body()) };
        // 5.3.10: check for a freeze attack. The moment at which the trusted timestamp was signed is over.
        let floor = timestamp.as_ref().and_then(|timestamp| timestamp.signed_at);
        let notice = self.policy.check("root.json", root.expires, self.clock, floor)?;
        self.notices.extend(notice);
        if let (Clock::Now(clock), Some(signed)) = (self.clock, floor)
            && clock < signed
        {
            self.notices.push(Notice::ClockBehind { clock, signed });
        }
        (self.timestamp, self.snapshot) = (timestamp, snapshot);
        if forget {
            for name in [role::TIMESTAMP, role::SNAPSHOT] {
                self.stored.0.remove(name);
                self.effects.push_back(Step::Forget(name.into()));
            }
        }
        // 5.3.12: whether names carry versions is asked of the trusted root wherever a name is made.
        self.phase = Phase::Timestamp;
        Ok(())
    }

    fn on_timestamp(&mut self, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let file = metadata_name(role::TIMESTAMP, None);
        too_long(&file, &bytes, limits::TIMESTAMP_BYTES)?;
        let root = self.trusted_root()?;
        let timestamp: Signed<Timestamp> = Signed::parse(&file, &bytes)?;
        // 5.4.2: check for an arbitrary software attack.
        timestamp.verify(&root.keys, top_role(root, role::TIMESTAMP)?)?;
        let new = timestamp.body;
        if let Some(old) = &self.timestamp {
            // 5.4.3.1: check for a rollback attack.
            if new.version < old.version {
                return Err(RepositoryError::Rollback { file, trusted: old.version, offered: new.version });
            }
            // The same version is discarded: what is trusted already stays, and must still be valid. What an earlier
            // look has not got any more is fetched now.
            if new.version == old.version {
                let notice = self.policy.check(&file, old.expires, self.clock, old.signed_at)?;
                self.notices.extend(notice);
                self.phase = Phase::Snapshot;
                return Ok(());
            }
            // 5.4.3.2: nor does it lead to an older snapshot.
            let (trusted, offered) = (snapshot_version(old), snapshot_version(&new));
            if offered < trusted {
                return Err(RepositoryError::Rollback { file: "snapshot.json".into(), trusted, offered });
            }
        }
        // The moment at which it was signed will be the least that it can be, and counts as far as the root vouches for
        // whoever signs: a timestamp that was signed when the root had expired, so it says, moves nothing.
        let floor = self.floor().max(new.signed_at);
        if let (Some(signed), Err(_)) =
            (new.signed_at, self.policy.check("root.json", root.expires, self.clock, new.signed_at))
        {
            return Err(RepositoryError::SignedLate { file, signed, expires: root.expires });
        }
        // 5.4.4: check for a freeze attack.
        let notice = self.policy.check(&file, new.expires, self.clock, floor)?;
        self.notices.extend(notice);
        // 5.4.5: persist the timestamp metadata.
        self.timestamp = Some(new);
        self.keep(role::TIMESTAMP, bytes);
        self.phase = Phase::Snapshot;
        Ok(())
    }

    fn on_snapshot(&mut self, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let file = metadata_name(role::SNAPSHOT, None);
        let (root, info) = (self.trusted_root()?, self.snapshot_info()?);
        too_long(&file, &bytes, info.length.unwrap_or(Snapshot::MOST).min(Snapshot::MOST))?;
        // 5.5.2: check against the digest that the timestamp names.
        info.matches(&bytes).map_err(|why| RepositoryError::mismatch(&file, why))?;
        let snapshot: Signed<Snapshot> = Signed::parse(&file, &bytes)?;
        // 5.5.3: check for an arbitrary software attack.
        snapshot.verify(&root.keys, top_role(root, role::SNAPSHOT)?)?;
        let new = snapshot.body;
        // 5.5.4: check against the version that the timestamp names.
        if new.version != info.version {
            return Err(RepositoryError::mismatch(&file, format!("it has version {}", new.version)));
        }
        // 5.5.5: check for a rollback attack: nothing that was listed is gone, or older.
        for (name, old) in self.snapshot.iter().flat_map(|old| &old.meta) {
            match new.meta.get(name) {
                None => return Err(RepositoryError::Unlisted { file: name.clone() }),
                Some(info) if info.version < old.version => {
                    let (trusted, offered) = (old.version, info.version);
                    return Err(RepositoryError::Rollback { file: name.clone(), trusted, offered });
                }
                Some(_) => {}
            }
        }
        // 5.5.6: check for a freeze attack.
        let notice = self.policy.check(&file, new.expires, self.clock, self.floor())?;
        self.notices.extend(notice);
        // 5.5.7: persist the snapshot metadata.
        self.snapshot = Some(new);
        self.keep(role::SNAPSHOT, bytes);
        self.phase = Phase::Targets(role::ROOT.into(), role::TARGETS.into());
        Ok(())
    }

    fn on_targets(&mut self, delegator: String, name: String, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let file = metadata_name(&name, None);
        too_long(&file, &bytes, self.most_targets_bytes(&name)?)?;
        // Several may delegate to one role, with different keys. It has one file, which has to satisfy each of them.
        let loaded = self.targets.keys().any(|(_, other)| *other == name);
        if loaded && self.stored.0.get(&name) != Some(&bytes) {
            return Err(RepositoryError::mismatch(&file, "it is another file than before, for another delegator"));
        }
        let (targets, notice) = self.check_targets(&delegator, &name, &bytes)?;
        self.notices.extend(notice);
        let length = bytes.len() as u64;
        // 5.6.6: persist the targets metadata.
        self.keep(&name, bytes);
        self.load(delegator, name, targets, length);
        Ok(())
    }

    fn load(&mut self, delegator: String, name: String, targets: Targets, bytes: u64) {
        self.targets.insert((delegator, name), targets);
        self.targets_bytes += bytes;
        self.phase = Phase::Ready;
    }

    /// So long a role's metadata may be: all of it is in memory at once, whoever has delegated to whom.
    fn most_targets_bytes(&self, name: &str) -> Result<u64, RepositoryError> {
        let most = self.targets_info(name)?.length.unwrap_or(Targets::MOST).min(Targets::MOST);
        Ok(most.min(limits::ALL_TARGETS_BYTES.saturating_sub(self.targets_bytes)))
    }

    fn check_targets(
        &self,
        delegator: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(Targets, Option<Notice>), RepositoryError> {
        let file = metadata_name(name, None);
        let info = self.targets_info(name)?;
        // 5.6.2: check against the digest that the snapshot names.
        info.matches(bytes).map_err(|why| RepositoryError::mismatch(&file, why))?;
        let targets: Signed<Targets> = Signed::parse(&file, bytes)?;
        // 5.6.3: check for an arbitrary software attack, by the keys that who delegates has named.
        let (keys, role) = self.delegated_keys(delegator, name)?;
        targets.verify(keys, role)?;
        // 5.6.4: check against the version that the snapshot names.
        if targets.body.version != info.version {
            return Err(RepositoryError::mismatch(&file, format!("it has version {}", targets.body.version)));
        }
        // 5.6.5: check for a freeze attack.
        let notice = self.policy.check(&file, targets.body.expires, self.clock, self.floor())?;
        Ok((targets.body, notice))
    }

    fn delegated_keys(&self, delegator: &str, name: &str) -> Result<(&BTreeMap<String, Key>, &Role), RepositoryError> {
        let root = self.trusted_root()?;
        if delegator == role::ROOT {
            return Ok((&root.keys, top_role(root, name)?));
        }
        let above = self.targets.iter().find(|((_, role), _)| role == delegator).map(|(_, targets)| targets);
        let delegations = above.and_then(|targets| targets.delegations.as_ref());
        let found = delegations.and_then(|all| {
            let one = all.roles.iter().find(|one| one.name == name)?;
            Some((&all.keys, &one.role))
        });
        found.ok_or_else(|| RepositoryError::malformed(name, format!("{delegator} does not delegate to it")))
    }

    fn snapshot_info(&self) -> Result<&FileInfo, RepositoryError> {
        self.timestamp.as_ref().and_then(Timestamp::snapshot).ok_or_else(|| missing(role::TIMESTAMP))
    }

    fn targets_info(&self, name: &str) -> Result<&FileInfo, RepositoryError> {
        let info = self.snapshot.as_ref().and_then(|snapshot| snapshot.info(name));
        info.ok_or_else(|| RepositoryError::mismatch(&metadata_name(name, None), "the snapshot does not list it"))
    }

    /// Is the snapshot that is kept the one that the timestamp names, and still valid?
    fn snapshot_is_known(&mut self) -> Result<bool, RepositoryError> {
        let info = self.snapshot_info()?;
        let (Some(snapshot), Some(bytes)) = (&self.snapshot, self.stored.0.get(role::SNAPSHOT)) else {
            return Ok(false);
        };
        if snapshot.version != info.version || info.matches(bytes).is_err() {
            return Ok(false);
        }
        match self.policy.check("snapshot.json", snapshot.expires, self.clock, self.floor()) {
            Ok(notice) => {
                self.notices.extend(notice);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// The targets metadata that is kept, if it is the one that the snapshot names.
    fn known_targets(&mut self, delegator: &str, name: &str) -> Result<Option<(Targets, u64)>, RepositoryError> {
        let most = self.most_targets_bytes(name)?;
        let Some(bytes) = self.stored.0.get(name) else { return Ok(None) };
        let length = bytes.len() as u64;
        let Ok((targets, notice)) = self.check_targets(delegator, name, bytes) else { return Ok(None) };
        if length > most {
            return Err(RepositoryError::TooLong { file: metadata_name(name, None), most });
        }
        self.notices.extend(notice);
        Ok(Some((targets, length)))
    }

    /// What is missing for what was asked for.
    fn needed(&self) -> Option<(String, String)> {
        match &self.wanted {
            Wanted::Nothing => None,
            Wanted::Everything => unloaded(&self.targets),
            Wanted::Path(path) => match search(&self.targets, path) {
                Search::Needs(delegator, name) => Some((delegator, name)),
                Search::Found(..) | Search::Missing => None,
            },
        }
    }

    /// Says that there were more roles than are visited.
    fn note_passed_over(&mut self) {
        let more = match &self.wanted {
            Wanted::Nothing => None,
            Wanted::Everything => not_loaded(&self.targets),
            Wanted::Path(path) => not_asked(&self.targets, path),
        };
        if let Some((_, role)) = more {
            let notice = Notice::PassedOver { role };
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
    }

    /// A moment that is over for sure.
    fn floor(&self) -> Option<Moment> {
        self.timestamp.as_ref().and_then(|timestamp| timestamp.signed_at)
    }

    fn stored_role<T: Body>(&self, root: &Root, name: &str) -> Result<Trusted<T>, RepositoryError> {
        let Some(bytes) = self.stored.0.get(name) else { return Ok(Trusted::Absent) };
        let signed: Signed<T> = Signed::parse(&stored_name(name), bytes).map_err(damaged)?;
        match signed.verify(&root.keys, top_role(root, name)?) {
            Ok(()) => Ok(Trusted::Good(signed.body)),
            Err(_) => Ok(Trusted::Rotated),
        }
    }

    fn keep(&mut self, role: &str, bytes: Vec<u8>) {
        self.stored.0.insert(role.into(), bytes.clone());
        self.effects.push_back(Step::Keep(Kept { role: role.into(), bytes }));
    }
}

/// What is left of metadata of an earlier look.
#[derive(PartialEq, Eq)]
enum Trusted<T> {
    Absent,
    Good(T),
    /// The keys that have signed it do not count any more.
    Rotated,
}

impl<T> Trusted<T> {
    fn into_body(self) -> Option<T> {
        match self {
            Self::Good(body) => Some(body),
            Self::Absent | Self::Rotated => None,
        }
    }
}

/// Keeps the bytes of a role durably, or forgets it without any.
pub type Keep<'a, E> = dyn FnMut(&str, Option<&[u8]>) -> Result<(), E> + 'a;

/// Why [`Client::run`] has ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError<E> {
    /// What came is not believed.
    #[error(transparent)]
    Refused(RepositoryError),
    /// Fetching or keeping failed.
    #[error("fetching or keeping failed")]
    Driver(E),
}

// 5.3.3: try downloading version N+1 of the root metadata, up to a fixed number of bytes.
fn fetch_root(version: u64) -> Step {
    let name = metadata_name(role::ROOT, Some(version));
    Step::Fetch(Request { name, most: limits::ROOT_BYTES, optional: true })
}

/// Root metadata that is signed by itself.
fn read_root(file: &str, bytes: &[u8]) -> Result<Signed<Root>, RepositoryError> {
    let root: Signed<Root> = Signed::parse(file, bytes)?;
    root.verify(&root.body.keys, top_role(&root.body, role::ROOT)?)?;
    Ok(root)
}

fn top_role<'a>(root: &'a Root, name: &str) -> Result<&'a Role, RepositoryError> {
    root.role(name).ok_or_else(|| RepositoryError::malformed("root.json", format!("the role {name} is missing")))
}

fn snapshot_version(timestamp: &Timestamp) -> u64 {
    timestamp.snapshot().map_or(0, |info| info.version)
}

fn too_long(file: &str, bytes: &[u8], most: u64) -> Result<(), RepositoryError> {
    if bytes.len() as u64 > most { Err(RepositoryError::TooLong { file: file.into(), most }) } else { Ok(()) }
}

fn missing(name: &str) -> RepositoryError {
    RepositoryError::Missing { file: metadata_name(name, None) }
}

/// What was believed once and cannot be read now has been damaged.
fn damaged(error: RepositoryError) -> RepositoryError {
    match error {
        RepositoryError::Malformed { file, why } => RepositoryError::Damaged { file, why },
        other => other,
    }
}

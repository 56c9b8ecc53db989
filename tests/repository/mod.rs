//! Repositories: the client of TUF against honest and hostile repositories in memory, what a device keeps of them, and
//! what a publisher makes.

mod attacks;
mod follow;
mod interrupted;
mod publisher;
mod reference;
mod state;
mod stopped;
mod workflow;

use serde_json::json;
use std::collections::BTreeMap;
use surefoot::model::{Digest, Version};
use surefoot::repository::*;
use surefoot::trust::SecretKey;

/// The time at which everything here happens.
pub(super) fn now() -> Moment {
    Moment::parse("2030-06-01T12:00:00Z").unwrap()
}

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::generate([seed; 32])
}

/// A publisher in memory, who signs whatever a test wants.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) root: Root,
    pub(super) targets: Targets,
    pub(super) delegated: BTreeMap<String, (Targets, Vec<u8>)>,
    pub(super) snapshot: Snapshot,
    pub(super) timestamp: Timestamp,
    /// Seeds of the keys that sign for a role.
    pub(super) signers: BTreeMap<&'static str, Vec<u8>>,
    /// What is served: metadata by its name.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Snapshot and timestamp tell lengths and digests.
    pub(super) hashes: bool,
}

impl Publisher {
    /// One with a key of its own for each role, and one package.
    pub(super) fn new() -> Self {
        let expires = now().plus_days(30);
        let head = |kind: &str| json!({"_type": kind, "spec_version": "1.0.31", "version": 1, "expires": expires});
        let with = |kind: &str, member: &str, value: serde_json::Value| {
            let mut head = head(kind);
            head[member] = value;
            head
        };
        let mut root = with("root", "keys", json!({}));
        root["roles"] = json!({});
        root["consistent_snapshot"] = json!(true);
        let mut publisher = Self {
            root: serde_json::from_value(root).unwrap(),
            targets: serde_json::from_value(with("targets", "targets", json!({}))).unwrap(),
            delegated: BTreeMap::new(),
            snapshot: serde_json::from_value(with("snapshot", "meta", json!({}))).unwrap(),
            timestamp: serde_json::from_value(with("timestamp", "meta", json!({}))).unwrap(),
            signers: BTreeMap::new(),
            files: BTreeMap::new(),
            hashes: true,
        };
        for (seed, name) in (1..).zip(role::TOP) {
            publisher.set_keys(name, &[seed], 1);
        }
        publisher.add("1.0.0", b"the package");
        publisher.publish_root();
        publisher.publish();
        publisher
    }

    /// Gives a role other keys; not published yet.
    pub(super) fn set_keys(&mut self, name: &'static str, seeds: &[u8], threshold: u64) {
        let keys = seeds.iter().map(|seed| Key::ed25519(&key(*seed).public()));
        let ids: Vec<String> = keys.clone().map(|key| key.id()).collect();
        self.root.keys.extend(keys.map(|key| (key.id(), key)));
        self.root.roles.insert(name.into(), Role::new(ids, threshold));
        self.signers.insert(name, seeds.to_vec());
    }

    /// Adds a full package.
    pub(super) fn add(&mut self, version: &str, content: &[u8]) {
        let release = release(version, content);
        self.targets.targets.insert(release.path.clone(), release.to_target());
    }

    /// Delegates paths to a role of this key.
    pub(super) fn delegate(&mut self, name: &str, paths: &[&str], seed: u8, terminating: bool) {
        let key = Key::ed25519(&key(seed).public());
        let delegations = self
            .targets
            .delegations
            .get_or_insert_with(|| serde_json::from_value(json!({"keys": {}, "roles": []})).unwrap());
        delegations.roles.push(Delegation {
            name: name.into(),
            role: Role::new(vec![key.id()], 1),
            terminating,
            paths: Some(paths.iter().map(|path| (*path).into()).collect()),
            path_hash_prefixes: None,
        });
        delegations.keys.insert(key.id(), key);
        let mut targets = self.targets.clone();
        (targets.version, targets.delegations) = (1, None);
        targets.targets.clear();
        self.delegated.insert(name.into(), (targets, vec![seed]));
    }

    pub(super) fn sign<T: Body>(&self, body: &T) -> Vec<u8> {
        sign_by(body, &self.signers[T::TYPE])
    }

    /// Serves the root as it is, as the version that it has.
    pub(super) fn publish_root(&mut self) {
        let name = metadata_name("root", Some(self.root.version));
        self.files.insert(name, self.sign(&self.root));
    }

    /// Serves the next version of the root, signed by these.
    pub(super) fn next_root(&mut self, signers: &[u8]) {
        self.root.version += 1;
        self.files.insert(metadata_name("root", Some(self.root.version)), sign_by(&self.root, signers));
    }

    /// Serves targets, snapshot and timestamp as they are.
    pub(super) fn publish(&mut self) {
        let targets = self.sign(&self.targets);
        self.put("targets", self.targets.version, targets);
        for (name, (body, signers)) in self.delegated.clone() {
            self.put(&name, body.version, sign_by(&body, &signers));
        }
        self.publish_snapshot();
    }

    pub(super) fn publish_snapshot(&mut self) {
        let bytes = self.sign(&self.snapshot);
        self.files.insert(self.name("snapshot", self.snapshot.version), bytes.clone());
        let info = self.info(self.snapshot.version, &bytes);
        self.timestamp.meta = [("snapshot.json".to_owned(), info)].into();
        self.publish_timestamp();
    }

    pub(super) fn publish_timestamp(&mut self) {
        self.files.insert("timestamp.json".into(), self.sign(&self.timestamp));
    }

    /// The next versions of everything but the root.
    pub(super) fn release_next(&mut self) {
        self.targets.version += 1;
        self.snapshot.version += 1;
        self.timestamp.version += 1;
        self.publish();
    }

    fn put(&mut self, role: &str, version: u64, bytes: Vec<u8>) {
        let info = self.info(version, &bytes);
        self.snapshot.meta.insert(format!("{role}.json"), info);
        self.files.insert(self.name(role, version), bytes);
    }

    fn name(&self, role: &str, version: u64) -> String {
        metadata_name(role, self.root.consistent_snapshot.then_some(version))
    }

    fn info(&self, version: u64, bytes: &[u8]) -> FileInfo {
        let info = FileInfo::of(version, bytes);
        if self.hashes { info } else { FileInfo { length: None, hashes: None, ..info } }
    }

    /// A device that was given the first root.
    pub(super) fn device(&self) -> Device {
        Device { stored: Stored([("root".to_owned(), self.files["1.root.json"].clone())].into()), ..Device::default() }
    }
}

pub(super) fn sign_by<T: Body>(body: &T, seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
    sign(body, &keys.iter().collect::<Vec<_>>()).unwrap()
}

/// A full package of these bytes.
pub(super) fn release(version: &str, content: &[u8]) -> Release {
    let mut release = Release {
        path: String::new(),
        bytes: content.len() as u64,
        digest: Digest::of(content),
        blocks: None,
        version: Version::parse(version).unwrap(),
        architecture: None,
        channels: vec!["stable".into()],
        kind: ReleaseKind::Full,
        target: Digest([1; 32]),
        package: Digest([2; 32]),
        memory_bytes: 1 << 20,
        space_bytes: 4096,
        minimum: None,
        downgrade_from: Vec::new(),
        notes: String::new(),
    };
    release.path = release.usual_path();
    release
}

/// What a device keeps, and how it looks for updates.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) stored: Stored,
    pub(super) clock: Clock,
    pub(super) policy: OfflinePolicy,
    pub(super) anchor: Anchor,
    /// The names of the files that it has asked for.
    pub(super) asked: Vec<String>,
}

impl Default for Device {
    fn default() -> Self {
        let (clock, policy) = (Clock::Now(now()), OfflinePolicy::Strict);
        Self { stored: Stored::default(), clock, policy, anchor: Anchor::Stored, asked: Vec::new() }
    }
}

impl Device {
    /// One look at what is served.
    pub(super) fn look(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<Client, RepositoryError> {
        self.look_for(files, None)
    }

    /// One look for a path; everything that is delegated without one.
    pub(super) fn look_for(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        path: Option<&str>,
    ) -> Result<Client, RepositoryError> {
        let mut client = Client::new(self.stored.clone(), self.anchor.clone(), self.clock, self.policy)?;
        match path {
            Some(path) => client.look_for(path),
            None => client.look_for_everything(),
        }
        let (stored, asked) = (&mut self.stored, &mut self.asked);
        asked.clear();
        let mut fetch = |request: &Request| -> Result<Answer, ()> {
            asked.push(request.name.clone());
            // As a transport does: not a byte more than is asked for, but one to see that there are more.
            let most = usize::try_from(request.most).unwrap() + 1;
            let cut = |bytes: &Vec<u8>| bytes[..bytes.len().min(most)].to_vec();
            Ok(files.get(&request.name).map_or(Answer::Missing, |bytes| Answer::Bytes(cut(bytes))))
        };
        let mut keep = |role: &str, bytes: Option<&[u8]>| {
            match bytes {
                Some(bytes) => _ = stored.0.insert(role.into(), bytes.into()),
                None => _ = stored.0.remove(role),
            }
            Ok(())
        };
        client.run(&mut fetch, &mut keep).map_err(|error| match error {
            RunError::Refused(error) => error,
            RunError::Driver(()) => unreachable!("memory does not fail"),
        })?;
        Ok(client)
    }

    /// The version of what is kept of a role; 0 for nothing.
    pub(super) fn version(&self, role: &str) -> u64 {
        let Some(bytes) = self.stored.0.get(role) else { return 0 };
        serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["signed"]["version"].as_u64().unwrap()
    }

    pub(super) fn versions(&self) -> [u64; 4] {
        role::TOP.map(|name| self.version(name))
    }
}

//! Copies of a repository: a mirror, and a bundle. Everything is verified on the way, so a copy is not led astray.

use super::check::{Known, all_targets, blob_place, files};
use super::{Publisher, check, lock, metadata_place, place, read};
use crate::error::{Code, Error};
use crate::fetch::{self, Carrier, Download, Files, Options, SystemPace, Wanted};
use crate::limits;
use crate::model::{Hasher, Version};
use crate::repository::{
    Anchor, Answer, Body, Client, Clock, METADATA_DIRECTORY, OfflinePolicy, Release, Request, Root, RunError, Signed,
    Snapshot, Stored, TARGETS_DIRECTORY, Target, Targets, Timestamp, blob_name, metadata_name, role,
};
use crate::vfs::{Place, Rename, Vfs};
use std::collections::BTreeMap;
use std::io::Write;
use tar::Header;

/// A repository that is copied: a folder, on this machine, elsewhere, or in a bundle.
pub struct Source<'a> {
    /// Its address.
    pub address: &'a str,
    /// Who brings what is in it.
    pub carrier: &'a dyn Carrier,
    /// How that is fetched.
    pub options: Options,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("address", &fetch::shown(self.address)).finish_non_exhaustive()
    }
}

/// What was seen of a repository: nothing that was not verified.
struct Seen {
    client: Client,
    /// Every root, the first one first.
    roots: Vec<(String, Vec<u8>)>,
    /// So many of the last roots may come after the timestamp, which devices believe under the root before them as well.
    late: usize,
    /// What the timestamp leads to.
    chain: Vec<(String, Vec<u8>)>,
    timestamp: (String, Vec<u8>),
    targets: BTreeMap<String, Target>,
}

impl Source<'_> {
    /// Looks from what a copy holds on, or from the first root of the repository. On the way there must be the root
    /// that is trusted, if one is given.
    fn see(
        &self,
        known: Option<Known>,
        trusted: Option<&[u8]>,
        clock: Clock,
        policy: OfflinePolicy,
    ) -> Result<Seen, Error> {
        // Where there is no whole copy yet, there is no old one to be believed until the new one is.
        let first_copy = known.is_none();
        let Known { mut roots, stored } = known.map_or_else(|| self.first(), Ok)?;
        let mut kept = stored.0.clone();
        let mut client = Client::new(stored, Anchor::Stored, clock, policy)?;
        client.look_for_everything();
        let mut fetch = |request: &Request| -> Result<Answer, Error> {
            Ok(self.metadata(&request.name, request.most)?.map_or(Answer::Missing, Answer::Bytes))
        };
        let mut keep = |name: &str, bytes: Option<&[u8]>| {
            if let (role::ROOT, Some(bytes)) = (name, bytes) {
                let version = roots.keys().next_back().map_or(1, |last| last + 1);
                roots.insert(version, bytes.to_vec());
            }
            kept.extend(bytes.map(|bytes| (name.to_owned(), bytes.to_vec())));
            Ok(())
        };
        match client.run(&mut fetch, &mut keep) {
            Ok(()) => {}
            Err(RunError::Refused(error)) => return Err(error.into()),
            Err(RunError::Driver(error)) => return Err(error),
        }
        leads_to(&roots, trusted)?;
        let missing = || Error::new(Code::Internal, "a look that is complete lacks metadata");
        let (root, snapshot) = (client.root().ok_or_else(missing)?, client.snapshot().ok_or_else(missing)?);
        if !root.consistent_snapshot {
            return Err(Error::new(Code::BadMetadata, "a repository without consistent snapshots cannot be copied"));
        }
        let roots: Vec<(String, Vec<u8>)> =
            roots.into_iter().map(|(version, bytes)| (metadata_name(role::ROOT, Some(version)), bytes)).collect();
        let believed = |(name, bytes): &&(String, Vec<u8>)| match Signed::<Root>::parse(name, bytes) {
            Ok(root) => is_signed_as_asked(&kept, &root.body),
            Err(_) => false,
        };
        let late = match first_copy {
            true => 0,
            false => roots.iter().rev().skip(1).take_while(believed).count(),
        };
        let mut chain = Vec::new();
        for (name, info) in &snapshot.meta {
            let role = name.strip_suffix(".json").unwrap_or(name);
            let file = metadata_name(role, Some(info.version));
            if let Some(bytes) = kept.get(role) {
                chain.push((file, bytes.clone()));
            } else if info.hashes.is_some()
                && let Some(bytes) = self.metadata(&file, info.length.unwrap_or(limits::TARGETS_BYTES))?
            {
                // No delegation leads to it, so the digest in the snapshot is all that vouches for it.
                info.matches(&bytes).map_err(|why| Error::new(Code::Mixed, format!("{file}: {why}")))?;
                chain.push((file, bytes));
            }
        }
        let of = |role: &str| kept.get(role).cloned().ok_or_else(missing);
        chain.push((metadata_name(role::SNAPSHOT, Some(snapshot.version)), of(role::SNAPSHOT)?));
        let timestamp = (metadata_name(role::TIMESTAMP, None), of(role::TIMESTAMP)?);
        let targets = all_targets(&client);
        Ok(Seen { roots, late, client, chain, timestamp, targets })
    }

    /// The first root of the repository: what is followed without anything else to trust.
    fn first(&self) -> Result<Known, Error> {
        let first = metadata_name(role::ROOT, Some(1));
        let none = || Error::new(Code::NoRepository, format!("there is no {first}: this is no repository"));
        let bytes = self.metadata(&first, limits::ROOT_BYTES)?.ok_or_else(none)?;
        let version = Signed::<Root>::parse(&first, &bytes)?.body.version;
        if version != 1 {
            return Err(Error::new(Code::BadMetadata, format!("{first} is version {version}")));
        }
        let stored = Stored(BTreeMap::from([(role::ROOT.to_owned(), bytes.clone())]));
        Ok(Known { roots: BTreeMap::from([(1, bytes)]), stored })
    }

    fn metadata(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let address = fetch::below_quoted(&fetch::below(self.address, METADATA_DIRECTORY), name);
        let pace = SystemPace::default();
        Ok(fetch::fetch_small(self.carrier, &address, most, self.options.patience, &pace, &())?)
    }

    fn blob(&self, path: &str, target: &Target) -> Result<(String, Wanted), Error> {
        let digest = target.digest().ok_or_else(|| Error::new(Code::BadMetadata, format!("{path} has no SHA-256")))?;
        let name = format!("{TARGETS_DIRECTORY}/{}", blob_name(path, &digest, true));
        let address = fetch::below(self.address, &name);
        let label = path.to_owned();
        let blocks = Release::read(path, target).ok().flatten().and_then(|release| release.blocks);
        Ok((name, Wanted { size: Some(target.length), digest: Some(digest), blocks, label, ..Wanted::at(address) }))
    }
}

/// Makes a copy of a repository, or brings one up to date: packages first, the pointer last. Everything is verified on
/// the way, from what the copy holds on, or else from the first root of the repository; it must lead to this root
/// metadata, if one is given. What is written is what was verified. Interrupted, it goes on where it was.
///
/// Gives the number of packages that were copied.
pub fn mirror<W: Vfs>(
    source: &Source<'_>,
    copy: W,
    root: Option<&[u8]>,
    clock: Clock,
    policy: OfflinePolicy,
) -> Result<usize, Error> {
    let lock = lock(&copy)?;
    let known = Known::read(&copy)?;
    let first_copy = known.is_none();
    let mut seen = source.see(known, root, clock, policy)?;
    let Seen { client, .. } = &seen;
    let missing = || Error::new(Code::Internal, "a look that is complete lacks metadata");
    let writer = Publisher {
        root: client.root().ok_or_else(missing)?.clone(),
        targets: client.targets().ok_or_else(missing)?.clone(),
        snapshot: client.snapshot().ok_or_else(missing)?.clone(),
        timestamp: client.timestamp().ok_or_else(missing)?.clone(),
        vfs: copy,
        changed: false,
        unfinished: false,
        stamped_by: None,
        clock_is_right: false,
        adopts: false,
        adopted: false,
        _lock: lock,
    };
    writer.ensure_directories(&place(METADATA_DIRECTORY)?)?;
    writer.ensure_directories(&place(TARGETS_DIRECTORY)?)?;
    let mut copied = 0;
    if let Err(error) = writer.fetch_all(source, &seen.targets, &mut copied) {
        // Its publisher may have taken it out, and collected garbage, since the look: then something newer says so.
        if error.code() != Code::RepositoryMissing {
            return Err(error);
        }
        let newer = source.see(Known::read(&writer.vfs)?, root, clock, policy)?;
        if newer.timestamp == seen.timestamp {
            return Err(error);
        }
        writer.fetch_all(source, &newer.targets, &mut copied)?;
        seen = newer;
    }
    let Seen { roots, late, chain, timestamp, .. } = seen;
    writer.vfs.sync_all()?;
    if first_copy {
        writer.remove_roots_after(roots.len() as u64)?;
    }
    // Roots and timestamp are all that ever is between the old copy and the new one. Where the new timestamp is signed
    // for the root of the old copy as well, it comes before those that follow, and there is nothing between.
    let (early, late) = roots.split_at(roots.len() - late);
    for (name, bytes) in chain.iter().chain(early).chain([&timestamp]).chain(late) {
        if read(&writer.vfs, &metadata_place(name)?, limits::TARGETS_BYTES)?.as_ref() != Some(bytes) {
            writer.replace(name, bytes)?;
        }
    }
    Ok(copied)
}

/// Has everything at the top that was kept the signatures that this root asks for?
fn is_signed_as_asked(kept: &BTreeMap<String, Vec<u8>>, root: &Root) -> bool {
    fn is_signed<T: Body>(kept: &BTreeMap<String, Vec<u8>>, root: &Root) -> bool {
        kept.get(T::TYPE).is_some_and(|bytes| check::<T>(T::TYPE, bytes, root).is_ok())
    }
    is_signed::<Targets>(kept, root) && is_signed::<Snapshot>(kept, root) && is_signed::<Timestamp>(kept, root)
}

/// Asks that the roots go through the one that is trusted.
fn leads_to(roots: &BTreeMap<u64, Vec<u8>>, trusted: Option<&[u8]>) -> Result<(), Error> {
    let Some(trusted) = trusted else { return Ok(()) };
    let trusted = Signed::<Root>::parse("the root metadata that was given", trusted)?.body;
    let name = metadata_name(role::ROOT, Some(trusted.version));
    match roots.get(&trusted.version) {
        Some(bytes) if Signed::<Root>::parse(&name, bytes)?.body == trusted => Ok(()),
        Some(_) => Err(Error::new(Code::BadMetadata, format!("{name} is not the root metadata that is trusted"))),
        None => Err(Error::new(Code::Rollback, format!("the repository does not lead to {name}, which is trusted"))),
    }
}

impl<V: Vfs> Publisher<V> {
    /// Removes roots with higher versions than this: of another repository, whose first copy was interrupted here. No
    /// root leads to them, so devices would refuse the repository because of them.
    fn remove_roots_after(&self, last: u64) -> Result<(), Error> {
        for (name, at) in files(&self.vfs, &place(METADATA_DIRECTORY)?)? {
            let version = name.strip_suffix(".root.json").and_then(|version| version.parse::<u64>().ok());
            if version.is_some_and(|version| version > last) {
                self.vfs.remove_file(&at)?;
            }
        }
        Ok(())
    }

    /// Fetches the packages that are not here yet, and counts them.
    fn fetch_all(
        &self,
        source: &Source<'_>,
        targets: &BTreeMap<String, Target>,
        copied: &mut usize,
    ) -> Result<(), Error> {
        for (path, target) in targets {
            let at = blob_place(path, target)?;
            if self.holds(&at, target.length, target.digest())? {
                continue;
            }
            if let Some(parent) = at.path.parent() {
                self.ensure_directories(&Place { root: at.root, path: parent })?;
            }
            self.fetch(source, &source.blob(path, target)?.1, &at)?;
            *copied += 1;
        }
        Ok(())
    }

    /// Fetches a package beside its place, where another try goes on, and gives it its name when it is verified.
    fn fetch(&self, source: &Source<'_>, wanted: &Wanted, at: &Place) -> Result<(), Error> {
        let files = Files {
            content: place(&format!("{TARGETS_DIRECTORY}/.part"))?,
            memory: place(&format!("{TARGETS_DIRECTORY}/.have"))?,
        };
        let pace = SystemPace::default();
        let Source { carrier, options, .. } = source;
        let download = Download { vfs: &self.vfs, files: &files, carrier: *carrier, pace: &pace, options, watch: &() };
        download.run(wanted).map_err(|error| match error.missing() {
            true => Error::new(Code::RepositoryMissing, format!("{} is not in the repository", wanted.label)),
            false => error.into(),
        })?;
        // A web server of another user reads it.
        self.vfs.set_mode(&files.content, 0o644)?;
        self.vfs.rename(&files.content, at, Rename::Replace)?;
        Ok(download.remove()?)
    }
}

/// Writes a repository into one file: all of its metadata, and its packages, or those that make one of these versions.
///
/// Gives the number of packages. A bundle is a tar archive; equal repositories give equal bytes.
pub fn bundle(
    source: &Source<'_>,
    versions: &[Version],
    clock: Clock,
    policy: OfflinePolicy,
    out: &mut dyn Write,
) -> Result<usize, Error> {
    let seen = source.see(None, None, clock, policy)?;
    for (name, bytes) in seen.roots.iter().chain(&seen.chain).chain([&seen.timestamp]) {
        put(out, &format!("{METADATA_DIRECTORY}/{name}"), bytes.len() as u64, &mut |out| write(out, bytes))?;
    }
    let mut count = 0;
    for (path, target) in &seen.targets {
        let version = Release::read(path, target)?.map(|release| release.version);
        if !versions.is_empty() && !version.is_some_and(|version| versions.contains(&version)) {
            continue;
        }
        let (name, wanted) = source.blob(path, target)?;
        put(out, &name, target.length, &mut |out| source.copy(&wanted, out))?;
        count += 1;
    }
    if count == 0 && !versions.is_empty() {
        return Err(Error::new(Code::NotPublished, "none of these versions is in the repository"));
    }
    write(out, &[0; 1024])?;
    Ok(count)
}

impl Source<'_> {
    /// Copies a package as it is read, and verifies it.
    fn copy(&self, wanted: &Wanted, out: &mut dyn Write) -> Result<(), Error> {
        let request = fetch::Request { address: wanted.addresses.concat(), range: None, if_range: None };
        let failed = |why: fetch::Failure| match why {
            fetch::Failure::Status { status: 404 | 410, .. } => {
                Error::new(Code::RepositoryMissing, format!("{} is not in the repository", wanted.label))
            }
            why => Error::new(Code::Unavailable, format!("{} cannot be read: {why}", wanted.label)),
        };
        let mut response = self.carrier.get(&request).map_err(failed)?;
        if response.head.status != 200 {
            return Err(failed(fetch::Failure::Status { status: response.head.status, retry_after: None }));
        }
        let (mut hasher, mut length) = (Hasher::new(), 0_u64);
        while let Some(chunk) = response.body.chunk().map_err(failed)? {
            hasher.update(chunk);
            length = length.saturating_add(chunk.len() as u64);
            if wanted.size.is_some_and(|size| length > size) {
                break;
            }
            write(out, chunk)?;
        }
        if wanted.size != Some(length) || wanted.digest != Some(hasher.finish()) {
            return Err(Error::new(Code::Digest, format!("{} is not what the repository says", wanted.label)));
        }
        Ok(())
    }
}

/// Writes a member of a tar archive.
fn put(
    out: &mut dyn Write,
    name: &str,
    length: u64,
    content: &mut dyn FnMut(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    if header.set_path(name).is_err() {
        // Too long for the header: it comes before, as the content of a member of its own.
        let mut long = Header::new_gnu();
        let text = [name.as_bytes(), b"\0"].concat();
        finish(&mut long, b'L', text.len() as u64);
        write(out, long.as_bytes())?;
        write(out, &text)?;
        pad(out, text.len() as u64)?;
        header = Header::new_gnu();
    }
    finish(&mut header, b'0', length);
    write(out, header.as_bytes())?;
    content(out)?;
    pad(out, length)
}

fn finish(header: &mut Header, kind: u8, length: u64) {
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(length);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
}

fn pad(out: &mut dyn Write, length: u64) -> Result<(), Error> {
    write(out, &[0; 512][..(length.next_multiple_of(512) - length) as usize])
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes).map_err(|error| {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        Error::new(if full { Code::Space } else { Code::Io }, "writing the bundle failed").because(error)
    })
}

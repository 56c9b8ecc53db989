//! Packages of a repository: from a file to a target.

use super::{Publisher, place};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{BlockMap, Digest, Hasher, Kind, Version};
use crate::package::{Package, PackageError, Promise, Start, Verified};
use crate::repository::{Base, Release, ReleaseKind, TARGETS_DIRECTORY, blob_name};
use crate::tree::hash_file;
use crate::vfs::{FileType, Place, Vfs};
use std::io::{self, Read};

/// What the publisher says about a package besides what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageTerms {
    /// The channels that it is in.
    pub channels: Vec<String>,
    /// The oldest version that can become it; nothing for every one.
    pub minimum: Option<Version>,
    /// Versions that it may replace although they are newer.
    pub downgrade_from: Vec<Version>,
}

/// What became of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(Release),
    /// It was there; its terms are these now.
    Changed(Release),
    /// It was there, on the same terms.
    Known(Release),
}

impl Added {
    /// The package.
    pub fn release(&self) -> &Release {
        match self {
            Self::New(release) | Self::Changed(release) | Self::Known(release) => release,
        }
    }
}

/// Reads a package to its end, checks every byte of it, and tells what can be said about it; not what its blocks are,
/// which cannot be told before its length is known.
pub fn read_release(read: impl Read, terms: &PackageTerms) -> Result<Release, Error> {
    let mut hashing = Hashing { read, hasher: Hasher::new(), bytes: 0 };
    // Whoever signs the targets vouches for it.
    let package = Package::open(&mut hashing)?.accept_unsigned()?;
    let id = package.id();
    let promise = read_through(package)?;
    let head = promise.head();
    let version = |text: &str| Version::parse(text).map_err(|error| Error::new(Code::Version, error.to_string()));
    let kind = match &head.start {
        Start::Anything => ReleaseKind::Full,
        Start::Base { version: from, digest } => ReleaseKind::Patch(Base { version: version(from)?, digest: *digest }),
    };
    let mut release = Release {
        path: String::new(),
        bytes: hashing.bytes,
        digest: hashing.hasher.finish(),
        blocks: None,
        version: version(&head.to)?,
        architecture: head.architecture.clone(),
        channels: terms.channels.clone(),
        kind,
        target: head.target,
        package: id,
        memory_bytes: promise.memory(),
        space_bytes: space(&promise),
        minimum: terms.minimum,
        downgrade_from: terms.downgrade_from.clone(),
        notes: head.notes.clone(),
    };
    release.check().map_err(|why| Error::new(Code::Usage, why))?;
    release.path = release.usual_path();
    Ok(release)
}

/// Reads everything, so that everything has been checked: contents of a full package, segments of a patch.
fn read_through<R: Read>(package: Package<R, Verified>) -> Result<Promise, Error> {
    if package.promise().head().start != Start::Anything {
        let (promise, mut segments) = package.into_segments();
        while segments.next_segment()?.is_some() {}
        return Ok(promise);
    }
    let (promise, mut payload) = package.into_payload();
    let mut buffer = vec![0; limits::COPY_BUFFER];
    while let Some(mut content) = payload.next_content()? {
        while content.read(&mut buffer).map_err(PackageError::from)? > 0 {}
    }
    Ok(promise)
}

/// The digests of the blocks of a package, if it is one of which these are published.
fn blocks_of(read: impl Read, length: u64, digest: Digest) -> Result<Option<BlockMap>, Error> {
    let Some(block) = BlockMap::usual_block(length) else { return Ok(None) };
    let mut hashing = Hashing { read, hasher: Hasher::new(), bytes: 0 };
    let (mut digests, mut buffer) = (Vec::new(), vec![0; limits::COPY_BUFFER]);
    while hashing.bytes < length {
        let mut hasher = Hasher::new();
        let mut one = (&mut hashing).take(block);
        loop {
            match one.read(&mut buffer).map_err(failed)? {
                0 => break,
                got => hasher.update(&buffer[..got]),
            }
        }
        digests.push(hasher.finish());
        if digests.len() as u64 * block > hashing.bytes {
            break;
        }
    }
    let same = hashing.bytes == length && hashing.hasher.finish() == digest;
    let blocks = BlockMap::new(block, length, digests).filter(|_| same);
    Ok(Some(blocks.ok_or_else(changed_meanwhile)?))
}

fn failed(error: io::Error) -> Error {
    Error::new(Code::Io, "reading the package failed").because(error)
}

fn changed_meanwhile() -> Error {
    Error::new(Code::Foreign, "the package was changed while it was copied")
}

/// Bytes of everything that is staged: contents in whole blocks, and one for every other object.
fn space(promise: &Promise) -> u64 {
    let block = limits::JOURNAL_BLOCK as u64;
    let size = |kind: &Kind| match kind {
        Kind::File { size, .. } => size.div_ceil(block).max(1) * block,
        Kind::Directory | Kind::Symlink { .. } => block,
    };
    promise.changes().iter().filter_map(|change| change.node()).map(|node| size(&node.kind)).sum()
}

impl<V: Vfs> Publisher<V> {
    /// Takes a package in: its bytes, which `open` gives more than once, and what is said about it. [`Publisher::commit`]
    /// publishes it.
    ///
    /// A version is never replaced by other bytes; what was damaged at its place is written again.
    pub fn add(
        &mut self,
        open: &mut dyn FnMut() -> Result<Box<dyn Read>, Error>,
        terms: &PackageTerms,
    ) -> Result<Added, Error> {
        let mut release = read_release(open()?, terms)?;
        self.refuse_other_tree(&release)?;
        release.blocks = blocks_of(open()?, release.bytes, release.digest)?;
        let target = release.to_target();
        let added = match self.targets.targets.get(&release.path) {
            Some(known) if known.digest() != Some(release.digest) => {
                let what = format!("{} is published with other content; give it another version", release.path);
                return Err(Error::new(Code::Published, what));
            }
            Some(known) if *known == target => Added::Known(release),
            Some(_) => Added::Changed(release),
            None => Added::New(release),
        };
        let release = added.release();
        let at = self.blob(release)?;
        if !self.holds(&at, release.bytes, Some(release.digest))? {
            self.ensure_directories(&Place {
                root: at.root,
                path: at.path.parent().unwrap_or_else(|| at.path.clone()),
            })?;
            let mut hashing = Hashing { read: open()?, hasher: Hasher::new(), bytes: 0 };
            self.write(&at, &mut |_, buffer| hashing.read(buffer).map_err(failed))?;
            if hashing.hasher.finish() != release.digest {
                self.vfs.remove_file(&at)?;
                return Err(changed_meanwhile());
            }
        }
        if !matches!(added, Added::Known(_)) {
            self.targets.targets.insert(release.path.clone(), target);
            self.changed = true;
        }
        Ok(added)
    }

    /// Takes versions out of the targets: nobody is led to them any more. Their bytes stay until gc.
    pub fn remove(&mut self, versions: &[Version]) -> Result<Vec<String>, Error> {
        let mut gone = Vec::new();
        for release in self.releases()? {
            if versions.contains(&release.version) {
                self.targets.targets.remove(&release.path);
                gone.push(release.path);
            }
        }
        self.changed |= !gone.is_empty();
        Ok(gone)
    }

    /// Every package of the targets.
    pub fn releases(&self) -> Result<Vec<Release>, Error> {
        let mut releases = Vec::new();
        for (path, target) in &self.targets.targets {
            releases.extend(Release::read(path, target)?);
        }
        Ok(releases)
    }

    /// Is this very content there? Its size alone would let damage stay for ever.
    pub(super) fn holds(&self, at: &Place, bytes: u64, digest: Option<Digest>) -> Result<bool, Error> {
        let stat = self.vfs.stat(at)?.filter(|stat| stat.kind == FileType::File && stat.size == bytes);
        Ok(stat.is_some() && Some(hash_file(&self.vfs, at)?.1) == digest)
    }

    fn blob(&self, release: &Release) -> Result<Place, Error> {
        let name = blob_name(&release.path, &release.digest, self.root.consistent_snapshot);
        Ok(place(&format!("{TARGETS_DIRECTORY}/{name}"))?)
    }

    /// Two packages that make the same version for the same devices make the same tree.
    fn refuse_other_tree(&self, release: &Release) -> Result<(), Error> {
        let other = |known: &Release| {
            known.version == release.version
                && known.architecture == release.architecture
                && known.target != release.target
        };
        match self.releases()?.iter().find(|known| other(known)) {
            None => Ok(()),
            Some(known) => Err(Error::new(
                Code::Published,
                format!("version {} is published with another tree, in {}", known.version, known.path),
            )),
        }
    }
}

/// Counts and hashes what is read.
struct Hashing<R> {
    read: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.read.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}

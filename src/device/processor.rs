//! `PatchProcessor`: from where a package is to new content that waits beside the tree.
//!
//! The order of the states is in the types: only what is downloaded can be verified, only what is verified can be
//! staged, and only what is staged can be applied.

use super::observer::{Observer, Phase, Progress};
use super::stock::{PatchWarning, Planned, Stock};
use super::{Engine, Report, Settings};
use crate::error::{Code, Error};
use crate::fetch::local_path;
use crate::model::{Digest, Operations, PatchPackageInfo};
use crate::package::legacy::{HashingReader, LegacyError, list_top, read_members, verify_bytes};
use crate::trust::{Keyring, Signature, StreamVerifier};
use crate::vfs::{OsFiles, RootId, Vfs};
use std::fmt;
use std::io::{self, Read};

/// Where packages come from.
pub trait PackageSource: Send + Sync {
    /// Opens the package at an address, from its beginning. Called once to verify it and once to read it.
    fn open(&self, url: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Gets a package to where [`PackageSource::open`] reads it, and gives the address that it has there. A package
    /// that can be read where it is stays where it is.
    fn bring(&self, info: &PatchPackageInfo, observer: &dyn Observer) -> Result<String, Error> {
        let total = info.size.unwrap_or(0);
        observer.report(Progress { phase: Phase::Download, done: 0, total });
        drop(self.open(&info.url).map_err(|error| unavailable(&info.url, error))?);
        observer.report(Progress { phase: Phase::Download, done: total, total });
        Ok(info.url.clone())
    }
}

impl PackageSource for OsFiles {
    /// An address is a path or a `file:` URL.
    fn open(&self, url: &str) -> io::Result<Box<dyn Read + Send>> {
        let refuse = |why: String| io::Error::new(io::ErrorKind::Unsupported, why);
        let path = local_path(url).map_err(refuse)?;
        let path = path.ok_or_else(|| refuse("it must be downloaded first, or its path given".into()))?;
        Ok(Box::new(self.open_file(&path)?))
    }
}

/// Gets, verifies and unpacks packages of the service manifest.
pub struct PatchProcessor {
    source: Box<dyn PackageSource>,
    keyring: Keyring,
    allow_unsigned: bool,
    unpacked_limit: Option<u64>,
}

/// A package that can be read, but is not verified.
#[derive(Clone, Debug)]
#[must_use = "it is only good for being verified"]
pub struct DownloadedPatch {
    info: PatchPackageInfo,
}

/// A package whose every byte is what was published, and signed by a trusted key unless that is not asked for.
#[derive(Clone, Debug)]
#[must_use = "it is only good for being extracted"]
pub struct VerifiedPatch {
    info: PatchPackageInfo,
    digest: Digest,
    size: u64,
    signer: Option<Digest>,
}

/// A package whose content is stored beside the tree, which is untouched; dropping it removes the content again.
#[must_use = "dropped, it changes nothing"]
pub struct StagedPatch<'a, V: Vfs> {
    stock: Stock<'a, V>,
    planned: Planned,
    version: Option<String>,
}

/// What an applied patch did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PatchReport {
    /// The transaction.
    #[serde(flatten)]
    pub report: Report,
    /// What was not as expected.
    pub warnings: Vec<PatchWarning>,
}

impl PatchProcessor {
    /// One that takes packages from the disk, signed by one of these keys.
    pub fn new(keyring: Keyring) -> Self {
        Self { source: Box::new(OsFiles), keyring, allow_unsigned: false, unpacked_limit: None }
    }

    /// Takes packages from somewhere else.
    #[must_use]
    pub fn from_source(mut self, source: impl PackageSource + 'static) -> Self {
        self.source = Box::new(source);
        self
    }

    /// Accepts a package that nobody has signed, and any at all if no key is trusted. A wrong signature is refused
    /// all the same wherever there is a key to tell.
    #[must_use]
    pub fn allow_unsigned(mut self, allowed: bool) -> Self {
        self.allow_unsigned = allowed;
        self
    }

    /// Most bytes that a package may unpack to; without it, what is free on the file system.
    #[must_use]
    pub fn limit_unpacked(mut self, bytes: u64) -> Self {
        self.unpacked_limit = Some(bytes);
        self
    }

    /// Trusts these keys, too.
    pub fn trust(&mut self, keyring: &Keyring) -> Result<(), Error> {
        for key in keyring.keys() {
            self.keyring.insert(key.clone())?;
        }
        Ok(())
    }

    pub(super) fn set_source(&mut self, source: Box<dyn PackageSource>) {
        self.source = source;
    }

    pub(super) fn set_allow_unsigned(&mut self, allowed: bool) {
        self.allow_unsigned = allowed;
    }

    pub(super) fn set_unpacked_limit(&mut self, bytes: Option<u64>) {
        self.unpacked_limit = bytes;
    }

    /// Gets a package to where it can be read: fetches what is missing of it, if its source is one that fetches.
    pub fn download_patch(&self, info: &PatchPackageInfo, observer: &dyn Observer) -> Result<DownloadedPatch, Error> {
        // What nobody could verify when it is here is not fetched.
        drop(self.verifier(info)?);
        let url = self.source.bring(info, observer)?;
        Ok(DownloadedPatch { info: PatchPackageInfo { url, ..info.clone() } })
    }

    /// [`PatchProcessor::download_patch`] for those who have a runtime and must not wait: the work is done on a thread
    /// of its own. A future that is dropped stops it, and nothing that arrived is lost by that.
    #[cfg(feature = "http")]
    pub async fn download_patch_async(
        self: std::sync::Arc<Self>,
        info: PatchPackageInfo,
        observer: std::sync::Arc<dyn Observer + Send>,
    ) -> Result<DownloadedPatch, Error> {
        let work = move |left: std::sync::Arc<std::sync::atomic::AtomicBool>| {
            self.download_patch(&info, &UntilLeft { observer: &*observer, left: &left })
        };
        crate::fetch::on_a_thread(work).await?
    }

    /// Reads the whole package once, in constant memory: length, digest and signature must be those published.
    pub fn verify_patch_integrity(
        &self,
        patch: DownloadedPatch,
        observer: &dyn Observer,
    ) -> Result<VerifiedPatch, Error> {
        let info = patch.info;
        let mut verifier = self.verifier(&info)?;
        let total = info.size.unwrap_or(0);
        let mut read = Metered { read: self.open(&info.url)?, observer, phase: Phase::Verify, done: 0, total };
        let digest = verify_bytes(&mut read, &info, &mut |bytes| {
            if let Some(verifier) = &mut verifier {
                verifier.update(bytes);
            }
        })?;
        let size = read.done;
        let signer = verifier.map(StreamVerifier::finish).transpose()?;
        Ok(VerifiedPatch { info, digest, size, signer })
    }

    /// What verifies the signature; nothing if the package is accepted without.
    fn verifier(&self, info: &PatchPackageInfo) -> Result<Option<StreamVerifier>, Error> {
        match info.signature_bytes()? {
            _ if self.keyring.is_empty() && self.allow_unsigned => Ok(None),
            None if self.allow_unsigned => Ok(None),
            _ if self.keyring.is_empty() => Err(Error::new(Code::NoKeys, "no key is trusted to sign packages")),
            None => Err(Error::new(Code::Unsigned, "the package is not signed")),
            Some(bytes) => Ok(Some(StreamVerifier::new(&self.keyring, &Signature(bytes))?)),
        }
    }

    /// The operations of a full package, which nobody lists: everything at the top of a verified package replaces what is
    /// in the tree under the same name, directories as a whole, and everything else stays.
    pub fn list_full<V: Vfs>(
        &self,
        patch: &VerifiedPatch,
        engine: &Engine<V>,
        observer: &dyn Observer,
    ) -> Result<Operations, Error> {
        let free = engine.vfs().space(RootId::STATE)?.free_bytes;
        let limit = self.unpacked_limit.unwrap_or(free);
        let read = self.open(&patch.info.url)?;
        let read = Metered { read, observer, phase: Phase::Verify, done: 0, total: patch.size };
        Ok(list_top(read, limit).map_err(|error| self.too_large(error, free))?.validate()?)
    }

    /// Stores the content of a verified package beside the tree of an engine, and compares the package with the
    /// operations and these with the tree. Nothing of the tree changes.
    ///
    /// The bytes that are unpacked are digested once more on the way: they are those that were verified, or nothing
    /// comes of them.
    pub fn extract_patch<'a, V: Vfs>(
        &self,
        patch: VerifiedPatch,
        operations: &Operations,
        engine: &'a mut Engine<V>,
        observer: &dyn Observer,
    ) -> Result<StagedPatch<'a, V>, Error> {
        let free = engine.vfs().space(RootId::STATE)?.free_bytes;
        let limit = self.unpacked_limit.unwrap_or(free);
        let mut stock = Stock::new(engine)?;
        let read =
            Metered { read: self.open(&patch.info.url)?, observer, phase: Phase::Stage, done: 0, total: patch.size };
        let mut hashing = HashingReader::new(read);
        let unpacked = read_members(&mut hashing, operations, limit, &mut |member| Ok(stock.put(member)?));
        unpacked.map_err(|failure| match failure {
            Failure::Package(error) => self.too_large(error, free),
            Failure::Store(error) => error,
        })?;
        let (size, digest) = (hashing.length(), hashing.finish());
        if (size, digest) != (patch.size, patch.digest) {
            return Err(Error::new(Code::Digest, "the package changed after it was verified"));
        }
        let mut planned = stock.plan(operations)?;
        if patch.signer.is_none() {
            planned.warnings.insert(0, PatchWarning::Unverified);
        }
        let version = patch.info.version.map(|version| version.to_string());
        Ok(StagedPatch { stock, planned, version })
    }

    /// What nobody has bounded is bounded by what is free.
    fn too_large(&self, error: LegacyError, free: u64) -> Error {
        match error {
            LegacyError::TooLarge(_) if self.unpacked_limit.is_none() => {
                Error::new(Code::Space, format!("the package unpacks to more than the {free} bytes that are free"))
            }
            error => error.into(),
        }
    }

    fn open(&self, url: &str) -> Result<Box<dyn Read + Send>, Error> {
        self.source.open(url).map_err(|error| unavailable(url, error))
    }
}

impl DownloadedPatch {
    /// What was published about it.
    pub fn info(&self) -> &PatchPackageInfo {
        &self.info
    }
}

impl VerifiedPatch {
    /// What was published about it.
    pub fn info(&self) -> &PatchPackageInfo {
        &self.info
    }

    /// The digest that it has.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The key that has signed it; nothing if it was accepted without.
    pub fn signer(&self) -> Option<Digest> {
        self.signer
    }
}

impl<V: Vfs> StagedPatch<'_, V> {
    /// What is not as expected.
    pub fn warnings(&self) -> &[PatchWarning] {
        &self.planned.warnings
    }

    /// How many paths it looks at; those that are as they should be already will not be touched.
    pub fn paths(&self) -> usize {
        self.planned.changes.len()
    }

    /// Says which version it makes, if that was not published.
    pub fn or_version(mut self, version: Option<String>) -> Self {
        self.version = self.version.or(version);
        self
    }

    /// Makes it happen: all of it or, wherever it is interrupted, nothing of it.
    pub fn apply(self, settings: &Settings, observer: &dyn Observer) -> Result<PatchReport, Error> {
        let Self { stock, planned: Planned { changes, warnings }, version } = self;
        let title = version.as_ref().map_or_else(|| "patch".to_owned(), |version| format!("patch to {version}"));
        let report = stock.commit(changes, version, &title, settings, observer)?;
        Ok(PatchReport { report, warnings })
    }
}

impl fmt::Debug for PatchProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchProcessor")
            .field("keyring", &self.keyring)
            .field("allow_unsigned", &self.allow_unsigned)
            .finish_non_exhaustive()
    }
}

impl<V: Vfs> fmt::Debug for StagedPatch<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedPatch")
            .field("stock", &self.stock)
            .field("planned", &self.planned)
            .field("version", &self.version)
            .finish()
    }
}

/// Why members could not be stored.
enum Failure {
    Package(LegacyError),
    Store(Error),
}

impl From<LegacyError> for Failure {
    fn from(error: LegacyError) -> Self {
        Self::Package(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn unavailable(url: &str, error: io::Error) -> Error {
    Error::new(Code::Unavailable, format!("the package {url:?} cannot be read")).because(error)
}

/// An observer that wants to stop once nobody waits any more.
#[cfg(feature = "http")]
struct UntilLeft<'a> {
    observer: &'a dyn Observer,
    left: &'a std::sync::atomic::AtomicBool,
}

#[cfg(feature = "http")]
impl Observer for UntilLeft<'_> {
    fn report(&self, progress: Progress) {
        self.observer.report(progress);
    }

    fn cancelled(&self) -> bool {
        self.left.load(std::sync::atomic::Ordering::Relaxed) || self.observer.cancelled()
    }
}

/// A reader that tells how far it is, and stops when it is asked to.
struct Metered<'a, R> {
    read: R,
    observer: &'a dyn Observer,
    phase: Phase,
    done: u64,
    total: u64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.observer.cancelled() {
            return Err(io::Error::other(Error::new(Code::Cancelled, "stopped on request")));
        }
        let length = self.read.read(buffer)?;
        self.done += length as u64;
        self.observer.report(Progress { phase: self.phase, done: self.done, total: self.total.max(self.done) });
        Ok(length)
    }
}

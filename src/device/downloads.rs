//! The downloads of one tree, in its state directory.

use super::layout::{self, Id};
use super::observer::{Observer, Phase, Progress};
use super::processor::PackageSource;
use super::store::ensure_bare_dir;
use crate::error::{Code, Error};
use crate::fetch::{
    self, Carrier, Download, FetchError, Fetched, Files, Held, Options, Pending, SystemPace, Wanted, Watch,
};
use crate::limits;
use crate::model::{Digest, Hasher, PatchPackageInfo, Time};
use crate::vfs::{Access, OsFiles, OsVfs, Stat, Vfs};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The downloads of one tree: holds their lock, not that of the tree, which can be worked on meanwhile.
pub struct Downloads<'v, V: Vfs = OsVfs> {
    vfs: &'v V,
    _lock: V::Lock,
}

impl<'v, V: Vfs> Downloads<'v, V> {
    /// Takes the lock.
    pub fn open(vfs: &'v V) -> Result<Self, Error> {
        ensure_bare_dir(vfs, &layout::downloads())?;
        let lock = vfs.lock(&layout::downloads_lock())?;
        let lock = lock.ok_or_else(|| Error::new(Code::Locked, "another process fetches packages for this tree"))?;
        Ok(Self { vfs, _lock: lock })
    }

    /// Fetches what is missing of a content and verifies it. It stays here until it is forgotten.
    pub fn fetch(
        &self,
        wanted: &Wanted,
        carrier: &dyn Carrier,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Fetched, Error> {
        Ok(self.bring(wanted, carrier, options, (observer, &mut 0))?)
    }

    /// The same; bytes that come over the wire are added to `received`, however it ends.
    pub(super) fn bring(
        &self,
        wanted: &Wanted,
        carrier: &dyn Carrier,
        options: &Options,
        (observer, received): (&dyn Observer, &mut u64),
    ) -> Result<Fetched, FetchError> {
        let files = files(wanted.name());
        let (pace, watch) = (SystemPace::default(), Watching(observer));
        let download = Download { vfs: self.vfs, files: &files, carrier, pace: &pace, options, watch: &watch };
        download.run_counted(wanted, received)
    }

    /// Reads a content that was fetched, from its beginning.
    pub(super) fn read(&self, wanted: &Wanted) -> Result<impl Read + use<'v, V>, Error> {
        let file = self.vfs.open(&layout::download_content(wanted.name()), Access::Read)?;
        let reader = Reader { vfs: self.vfs, file, offset: 0 };
        Ok(BufReader::with_capacity(limits::COPY_BUFFER, reader))
    }

    /// What is here of a content.
    pub(super) fn held(&self, wanted: &Wanted) -> Result<Held, Error> {
        held_of(self.vfs, wanted)
    }

    /// Counts that a content was refused. It goes if it was fetched [`limits::REFUSED_SECONDS`] ago, or at a time that is
    /// still to come; each refusal makes it older by its part of that, since the clock may never get there.
    pub fn refuse(&self, wanted: &Wanted) -> Result<(), Error> {
        let at = layout::download_content(wanted.name());
        let Some(Stat { mtime, .. }) = self.vfs.stat(&at)? else { return Ok(()) };
        let age = self.vfs.now().seconds.saturating_sub(mtime.seconds);
        if !(0..limits::REFUSED_SECONDS).contains(&age) {
            return self.forget(wanted);
        }
        let seconds = mtime.seconds.saturating_sub(limits::REFUSED_SECONDS / limits::REFUSALS);
        self.vfs.set_mtime(&at, Time { seconds, ..mtime }).or_else(|_| self.forget(wanted))
    }

    /// The digest of so many bytes at the beginning of a content that was fetched.
    pub(super) fn digest(&self, wanted: &Wanted, bytes: u64) -> Result<Digest, Error> {
        let failed = |error: io::Error| Error::new(Code::Io, "reading what was fetched failed").because(error);
        let mut read = self.read(wanted)?.take(bytes);
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; limits::COPY_BUFFER]);
        loop {
            match read.read(&mut buffer).map_err(failed)? {
                0 => return Ok(hasher.finish()),
                length => hasher.update(&buffer[..length]),
            }
        }
    }

    /// Removes every download but these.
    pub fn keep_only(&self, wanted: &[&Wanted]) -> Result<(), Error> {
        let kept: BTreeSet<Id> = wanted.iter().map(|wanted| wanted.name()).collect();
        ids(self.vfs)?.difference(&kept).try_for_each(|id| self.remove(*id))
    }

    /// Removes what is here of a content.
    pub(super) fn forget(&self, wanted: &Wanted) -> Result<(), Error> {
        self.remove(wanted.name())
    }

    fn remove(&self, id: Id) -> Result<(), Error> {
        // What remembers goes first: bytes that nothing remembers are begun anew.
        for at in [layout::download_memory(id), layout::download_content(id)] {
            if self.vfs.stat(&at)?.is_some() {
                self.vfs.remove_file(&at)?;
            }
        }
        Ok(())
    }

    /// Where the bytes of a content are, in the state directory at this path.
    pub fn path(wanted: &Wanted, state: &Path) -> PathBuf {
        state.join(layout::download_content(wanted.name()).path.to_string())
    }
}

impl<V: Vfs> std::fmt::Debug for Downloads<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downloads").finish_non_exhaustive()
    }
}

/// The downloads that wait to go on. Takes no lock.
pub fn pending_downloads<V: Vfs>(vfs: &V) -> Result<Vec<Pending>, Error> {
    let mut out = Vec::new();
    for id in ids(vfs)? {
        out.extend(fetch::pending(vfs, &files(id))?);
    }
    Ok(out)
}

/// What is here of contents, by the names of their downloads.
pub(super) fn held<V: Vfs>(vfs: &V) -> Result<BTreeMap<Id, Held>, Error> {
    ids(vfs)?.into_iter().map(|id| Ok((id, fetch::held(vfs, &files(id))?))).collect()
}

/// What is here of a content. Takes no lock.
pub fn held_of<V: Vfs>(vfs: &V, wanted: &Wanted) -> Result<Held, Error> {
    Ok(fetch::held(vfs, &files(wanted.name()))?)
}

/// Is all of a content here, as far as its length is known? Takes no lock.
pub fn holds_all_of<V: Vfs>(vfs: &V, wanted: &Wanted) -> Result<bool, Error> {
    let pending = fetch::pending(vfs, &files(wanted.name()))?;
    Ok(pending.is_some_and(|pending| pending.total.is_none_or(|total| pending.done == total)))
}

/// A source of packages that fetches them from wherever they are into the state directory of a tree, and goes on where
/// it was interrupted.
pub struct DownloadSource {
    vfs: OsVfs,
    state: PathBuf,
    carrier: Arc<dyn Carrier>,
    options: Options,
}

impl DownloadSource {
    /// For the tree at this path with its state there.
    pub fn new(tree: &Path, state: &Path, carrier: Arc<dyn Carrier>, options: Options) -> Result<Self, Error> {
        Ok(Self { vfs: OsVfs::open(tree, state)?, state: state.into(), carrier, options })
    }
}

impl std::fmt::Debug for DownloadSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DownloadSource").field("state", &self.state).finish_non_exhaustive()
    }
}

impl PackageSource for DownloadSource {
    fn open(&self, url: &str) -> io::Result<Box<dyn Read + Send>> {
        PackageSource::open(&OsFiles, url)
    }

    fn bring(&self, info: &PatchPackageInfo, observer: &dyn Observer) -> Result<String, Error> {
        let wanted = Wanted {
            size: info.size,
            digest: info.digest()?,
            signature: info.signature_bytes()?,
            label: info.version.map_or_else(|| fetch::shown(&info.url), |version| version.to_string()),
            ..Wanted::at(&info.url)
        };
        Downloads::open(&self.vfs)?.fetch(&wanted, &*self.carrier, &self.options, observer)?;
        let path = Downloads::<OsVfs>::path(&wanted, &self.state);
        let not_text = |_| Error::new(Code::Path, "the path of the state directory is not text");
        path.into_os_string().into_string().map_err(not_text)
    }
}

struct Reader<'v, V: Vfs> {
    vfs: &'v V,
    file: V::File,
    offset: u64,
}

impl<V: Vfs> Read for Reader<'_, V> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.vfs.read_at(&self.file, self.offset, buffer).map_err(|error| error.source)?;
        self.offset += length as u64;
        Ok(length)
    }
}

pub(super) struct Watching<'a>(pub(super) &'a dyn Observer);

impl Watch for Watching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.report(Progress { phase: Phase::Download, done, total: total.unwrap_or(0) });
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

fn files(id: Id) -> Files {
    Files { content: layout::download_content(id), memory: layout::download_memory(id) }
}

fn ids<V: Vfs>(vfs: &V) -> Result<BTreeSet<Id>, Error> {
    if vfs.stat(&layout::downloads())?.is_none() {
        return Ok(BTreeSet::new());
    }
    Ok(vfs.list(&layout::downloads())?.iter().filter_map(|name| layout::download_id(name)).collect())
}

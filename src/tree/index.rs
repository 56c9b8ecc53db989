//! The stat cache: which content a file had when it was last read.

use super::read::Evidence;
use super::scan::Seen;
use crate::codec::DecodeError;
use crate::codec::v1::{IndexEntry, decode_index, encode_index, index_key};
use crate::model::{Digest, Entry, Kind, Time, TreePath};
use crate::vfs::{FileType, Stat};

/// What each file looked like when its content was read: as long as it looks so, it need not be read again.
///
/// It only ever saves work: one that is missing or damaged is as good as an empty one. It is true for as long as the
/// kernel's word is, so after a crash it counts only if everything was synced when it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Sorted by key, no key twice.
    files: Vec<Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    key: u64,
    evidence: Evidence,
    digest: Digest,
}

/// A file that changed this shortly before the scan could change again without another time stamp: the clocks of some
/// file systems tick only every two seconds.
const SETTLED_SECONDS: i64 = 2;

impl Index {
    /// The files of a scan that began at `moment`, except those that changed right before.
    pub(super) fn from_scan(entries: &[Entry], seen: &[Seen], moment: Time) -> Self {
        let settled = |time: Time| {
            Time { seconds: time.seconds.saturating_add(SETTLED_SECONDS), nanoseconds: time.nanoseconds } < moment
        };
        let known = entries.iter().zip(seen).filter_map(|(entry, seen)| {
            let Kind::File { digest, .. } = &entry.node.kind else { return None };
            let evidence = seen.evidence(&entry.node);
            (settled(evidence.mtime) && settled(evidence.ctime)).then(|| Known {
                key: index_key(&entry.path),
                evidence,
                digest: *digest,
            })
        });
        let mut files: Vec<Known> = known.collect();
        files.sort_unstable_by_key(|known| known.key);
        files.dedup_by_key(|known| known.key);
        Self { files }
    }

    /// The digest of the file at `path`, if it looks as it did when it was read.
    pub fn lookup(&self, path: &TreePath, stat: &Stat) -> Option<Digest> {
        if stat.kind != FileType::File {
            return None;
        }
        let at = self.files.binary_search_by_key(&index_key(path), |known| known.key).ok()?;
        let known = &self.files[at];
        (known.evidence == Evidence::of(stat)).then_some(known.digest)
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Does it know no file?
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The bytes of an index file.
    pub fn encode(&self) -> Vec<u8> {
        let time = |time: Time| (time.seconds, time.nanoseconds);
        encode_index(self.files.iter().map(|known| IndexEntry {
            key: known.key,
            size: known.evidence.size,
            mtime: time(known.evidence.mtime),
            ctime: time(known.evidence.ctime),
            inode: known.evidence.inode,
            digest: known.digest.0,
        }))
    }

    /// Reads an index file. On any error the caller goes on without an index.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let time = |(seconds, nanoseconds)| Time { seconds, nanoseconds };
        let files = decode_index(bytes, |entry| {
            let (mtime, ctime) = (time(entry.mtime), time(entry.ctime));
            let evidence = Evidence { size: entry.size, mtime, ctime, inode: entry.inode };
            Known { key: entry.key, evidence, digest: Digest(entry.digest) }
        })?;
        Ok(Self { files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::{MemoryVfs, NOW, path};
    use crate::tree::{Walk, scan, scan_indexed};
    use crate::vfs::{Place, Vfs};

    fn sample() -> MemoryVfs {
        let vfs = MemoryVfs::new();
        vfs.directory("d");
        vfs.file("d/f", b"content");
        vfs.file("e", b"");
        vfs.symlink("l", "e");
        vfs.link("d/f", "z");
        vfs
    }

    fn indexed(vfs: &MemoryVfs, index: Option<&Index>) -> (crate::model::Manifest, Index) {
        let result = scan_indexed(vfs, &Walk::default(), index, &|_, _| ()).unwrap();
        assert_eq!(
            result.0,
            scan(vfs, &Walk::default(), &|_, _| ()).unwrap(),
            "with and without an index it is the same"
        );
        result
    }

    #[test]
    fn what_looks_the_same_is_not_read_again() {
        let vfs = sample();
        let (manifest, index) = indexed(&vfs, None);
        assert_eq!(index.len(), 3, "files only, each under every name");
        vfs.reads.lock().unwrap().clear();
        let again = scan_indexed(&vfs, &Walk::default(), Some(&index), &|_, _| ()).unwrap();
        assert_eq!(again, (manifest, index.clone()));
        assert!(vfs.reads.lock().unwrap().is_empty());

        vfs.change("d/f", |object| {
            object.content = b"CONTENT".to_vec();
            object.stat.ctime.nanoseconds += 1;
        });
        let (manifest, next) = indexed(&vfs, Some(&index));
        assert_eq!(manifest.get(&path("z")).unwrap().kind, Kind::File { size: 7, digest: Digest::of(b"CONTENT") });
        assert_ne!(next, index);
    }

    #[test]
    fn every_part_of_the_evidence_counts() {
        let vfs = sample();
        let (_, index) = indexed(&vfs, None);
        let stat = vfs.stat(&Place::tree(&path("d/f"))).unwrap().unwrap();
        assert_eq!(index.lookup(&path("d/f"), &stat), Some(Digest::of(b"content")));
        assert_eq!(index.lookup(&path("d"), &stat), None);
        assert_eq!(index.lookup(&path("e"), &stat), None);
        let changes: [fn(&mut Stat); 5] = [
            |stat| stat.size += 1,
            |stat| stat.mtime.nanoseconds += 1,
            |stat| stat.ctime.seconds -= 1,
            |stat| stat.inode += 1,
            |stat| stat.kind = FileType::Symlink,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = stat;
            change(&mut other);
            assert_eq!(index.lookup(&path("d/f"), &other), None, "change {number}");
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_left_out() {
        for (seconds, nanoseconds, kept) in
            [(-3, 0, true), (-2, 0, false), (-1, 0, false), (0, 0, false), (9, 0, false)]
        {
            let time = Time { seconds: NOW.seconds + seconds, nanoseconds };
            for which in ["mtime", "ctime"] {
                let vfs = sample();
                vfs.change("e", |object| {
                    *(if which == "mtime" { &mut object.stat.mtime } else { &mut object.stat.ctime }) = time;
                });
                let (_, index) = indexed(&vfs, None);
                let stat = vfs.stat(&Place::tree(&path("e"))).unwrap().unwrap();
                assert_eq!(index.lookup(&path("e"), &stat).is_some(), kept, "{which} {seconds}");
            }
        }
    }

    #[test]
    fn an_index_file_reads_back_or_is_refused() {
        let (_, index) = indexed(&sample(), None);
        let bytes = index.encode();
        assert_eq!(Index::decode(&bytes).unwrap(), index);
        assert!(Index::decode(&bytes[..bytes.len() - 1]).is_err());
        assert_eq!(Index::decode(&Index::default().encode()).unwrap().len(), 0);
    }
}

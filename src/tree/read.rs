//! Reading one object of a tree: content, metadata, or both.

use super::walk::gone_is_changed;
use super::{Progress, TreeError};
use crate::limits;
use crate::model::{Digest, Hasher, Kind, Metadata, Node, Time, Xattrs};
use crate::vfs::{Access, FileType, IoError, Place, Stat, Vfs};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads what stands at a place, its content included; nothing if nothing is there. Hard links are not looked at.
pub fn node_at<V: Vfs>(vfs: &V, at: &Place) -> Result<Option<Node>, TreeError> {
    match vfs.stat(at)? {
        Some(stat) => node_of(vfs, at, &stat).map(Some),
        None => Ok(None),
    }
}

/// Reads what stands at a place, given its `stat`; an error if it is something else by now.
pub fn node_of<V: Vfs>(vfs: &V, at: &Place, stat: &Stat) -> Result<Node, TreeError> {
    let kind = match stat.kind {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target: link_target(vfs, at)? },
        FileType::File => {
            let file = open(vfs, at)?;
            let xattrs = fitting(vfs.xattrs_of(&file, at), at)?;
            let digest = content_of(vfs, &file, at, &Evidence::of(stat), &Meter::new(&|_, _| (), stat.size))?;
            let metadata = Metadata { xattrs, ..bare_metadata(stat) };
            return Ok(Node::new(Kind::File { size: stat.size, digest }, metadata));
        }
        FileType::Other => return Err(TreeError::Special { paths: vec![at.path.clone()], found: 1 }),
    };
    Ok(Node::new(kind, metadata_of(vfs, at, stat)?))
}

/// Reads a file to its end: how many bytes, and their digest. The caller knows that nobody writes to it.
pub fn hash_file<V: Vfs>(vfs: &V, at: &Place) -> Result<(u64, Digest), TreeError> {
    hash(vfs, &open(vfs, at)?, at, None, &mut |_| ())
}

/// The metadata of what stands at a place, given its `stat`.
pub fn metadata_of<V: Vfs>(vfs: &V, at: &Place, stat: &Stat) -> Result<Metadata, TreeError> {
    Ok(Metadata { xattrs: xattrs_of(vfs, at, stat.kind)?, ..bare_metadata(stat) })
}

/// The metadata that `stat` tells: all but the extended attributes.
pub fn bare_metadata(stat: &Stat) -> Metadata {
    let mode = if stat.kind == FileType::Symlink { 0o777 } else { stat.mode };
    Metadata { mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs: Xattrs::new() }
}

/// The extended attributes of a file or directory; a link has none that are recorded.
pub(super) fn xattrs_of<V: Vfs>(vfs: &V, at: &Place, kind: FileType) -> Result<Xattrs, TreeError> {
    if !matches!(kind, FileType::File | FileType::Directory) {
        return Ok(Xattrs::new());
    }
    fitting(vfs.xattrs(at), at)
}

/// What no format can hold is refused here, and not when it is read back.
fn fitting(found: Result<Xattrs, IoError>, at: &Place) -> Result<Xattrs, TreeError> {
    let xattrs = found.map_err(|error| gone_is_changed(error, at))?;
    let fits = |(name, value): &(Box<[u8]>, Box<[u8]>)| {
        name.len() <= limits::XATTR_NAME_BYTES && value.len() <= limits::XATTR_VALUE_BYTES
    };
    if xattrs.len() > limits::XATTRS || !xattrs.iter().all(fits) {
        return Err(TreeError::Xattrs { at: at.clone() });
    }
    Ok(xattrs)
}

/// What a symbolic link points to.
pub(super) fn link_target<V: Vfs>(vfs: &V, at: &Place) -> Result<Box<[u8]>, TreeError> {
    vfs.read_link(at).map_err(|error| gone_is_changed(error, at))
}

/// What tells, without reading a file, that it is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) inode: u64,
}

impl Evidence {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, inode: stat.inode }
    }
}

/// The digest of a file that is, before and after it is read, as `before` says.
pub(super) fn content<V: Vfs>(vfs: &V, at: &Place, before: &Evidence, meter: &Meter<'_>) -> Result<Digest, TreeError> {
    content_of(vfs, &open(vfs, at)?, at, before, meter)
}

fn content_of<V: Vfs>(
    vfs: &V,
    file: &V::File,
    at: &Place,
    before: &Evidence,
    meter: &Meter<'_>,
) -> Result<Digest, TreeError> {
    // Where it should end it is not asked for more: one that has grown meanwhile shows by its length.
    let (read, digest) = hash(vfs, file, at, Some(before.size), &mut |read| meter.add(read))?;
    let after = vfs.stat(at)?.filter(|stat| stat.kind == FileType::File);
    if read != before.size || after.is_none_or(|stat| Evidence::of(&stat) != *before) {
        return Err(TreeError::Changed { at: at.clone() });
    }
    Ok(digest)
}

fn open<V: Vfs>(vfs: &V, at: &Place) -> Result<V::File, TreeError> {
    vfs.open(at, Access::Read).map_err(|error| gone_is_changed(error, at))
}

/// Reads a file to its end, or as far as `size`: how many bytes, and their digest.
fn hash<V: Vfs>(
    vfs: &V,
    file: &V::File,
    at: &Place,
    size: Option<u64>,
    took: &mut dyn FnMut(u64),
) -> Result<(u64, Digest), TreeError> {
    let mut left = size.unwrap_or(u64::MAX);
    // Most files are small: no more memory than the file fills.
    let mut buffer = vec![0; limits::COPY_BUFFER.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let mut hasher = Hasher::new();
    let mut offset = 0;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = vfs.read_at(file, offset, &mut buffer[..most])?;
        let Some(bytes) = buffer[..most].get(..read) else {
            return Err(IoError::new("read", at, ErrorKind::InvalidData).into());
        };
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        offset += read as u64;
        left -= read as u64;
        took(read as u64);
    }
    Ok((offset, hasher.finish()))
}

/// Counts the bytes that all threads together have read.
pub(super) struct Meter<'a> {
    done: AtomicU64,
    total: u64,
    progress: Progress<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: Progress<'a>, total: u64) -> Self {
        progress(0, total);
        Self { done: AtomicU64::new(0), total, progress }
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(done, self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::{Disturb, MemoryVfs, path};

    #[test]
    fn a_single_object_is_read_whole() {
        let vfs = MemoryVfs::new();
        vfs.file("f", &vec![7; limits::COPY_BUFFER * 2 + 5]);
        vfs.file("empty", b"");
        vfs.symlink("l", "nowhere");
        vfs.change("f", |object| object.xattrs = vec![(b"user.a".as_slice().into(), b"1".as_slice().into())]);
        let at = |text| Place::tree(&path(text));
        let node = node_at(&vfs, &at("f")).unwrap().unwrap();
        let digest = Digest::of(&vec![7; limits::COPY_BUFFER * 2 + 5]);
        assert_eq!(node.kind, Kind::File { size: limits::COPY_BUFFER as u64 * 2 + 5, digest });
        assert_eq!((node.metadata.mode, node.metadata.xattrs.len(), &node.leader), (0o644, 1, &None));
        assert_eq!(hash_file(&vfs, &at("f")).unwrap(), (node.kind.size(), digest));
        assert_eq!(hash_file(&vfs, &at("empty")).unwrap(), (0, Digest::of(b"")));
        let link = node_at(&vfs, &at("l")).unwrap().unwrap();
        assert_eq!(link.kind, Kind::Symlink { target: b"nowhere".as_slice().into() });
        assert_eq!(link.metadata.mode, 0o777);
        assert!(node_at(&vfs, &at("")).unwrap().unwrap().is_directory());
        assert_eq!(node_at(&vfs, &at("gone")).unwrap(), None);
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_no_content() {
        let at = Place::tree(&path("f"));
        let disturbances: [(&str, Disturb); 5] = [
            ("grows", |vfs| vfs.change("f", |object| object.content.push(b'x'))),
            ("shrinks", |vfs| vfs.change("f", |object| object.content.truncate(3))),
            ("touched", |vfs| vfs.change("f", |object| object.stat.mtime.seconds += 1)),
            ("changed", |vfs| vfs.change("f", |object| object.stat.ctime.nanoseconds += 1)),
            ("removed", |vfs| vfs.remove("f")),
        ];
        for (what, disturb) in disturbances {
            let vfs = MemoryVfs::new();
            vfs.file("f", &[1; 1000]);
            vfs.on_read("f", disturb);
            let result = node_at(&vfs, &at);
            assert!(matches!(&result, Err(TreeError::Changed { at: found }) if *found == at), "{what}: {result:?}");
        }
    }

    #[test]
    fn what_no_format_can_hold_is_refused() {
        let vfs = MemoryVfs::new();
        vfs.file("f", b"");
        vfs.change("f", |object| {
            let named = |n: usize| (format!("user.{n:03}").into_bytes().into(), Box::default());
            object.xattrs = (0..=limits::XATTRS).map(named).collect();
        });
        vfs.special("pipe");
        let result = node_at(&vfs, &Place::tree(&path("f")));
        assert!(matches!(result, Err(TreeError::Xattrs { .. })), "{result:?}");
        let result = node_at(&vfs, &Place::tree(&path("pipe")));
        assert!(matches!(result, Err(TreeError::Special { found: 1, .. })), "{result:?}");
    }
}

//! Reading a whole tree into a manifest.

use super::read::{self, Evidence, Meter};
use super::walk::{each, walk};
use super::{Index, Progress, TreeError};
use crate::limits;
use crate::model::{Digest, Entry, Kind, Manifest, Node, Policy, Time, TreePath, Xattrs};
use crate::vfs::{FileType, Place, RootId, Stat, Vfs};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

/// How a tree is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// What counts as identity; everything is recorded whatever counts.
    pub policy: Policy,
    /// The state directory lies at the top of the tree, and is no part of it.
    pub state_inside: bool,
}

/// Reads the managed tree into a manifest.
pub fn scan<V: Vfs>(vfs: &V, how: &Walk, progress: Progress<'_>) -> Result<Manifest, TreeError> {
    let start = Place { root: RootId::TREE, path: TreePath::root() };
    let found = Found::collect(vfs, &start, how.state_inside, None)?;
    Ok(Manifest::new(how.policy, found.read(vfs, &start, progress)?.entries)?)
}

/// Reads the managed tree into a manifest, without reading again the files that are as the index knows them; and
/// gives the next index.
pub fn scan_indexed<V: Vfs>(
    vfs: &V,
    how: &Walk,
    index: Option<&Index>,
    progress: Progress<'_>,
) -> Result<(Manifest, Index), TreeError> {
    // Before the first look: a change after that is not older.
    let moment = vfs.now();
    let start = Place { root: RootId::TREE, path: TreePath::root() };
    let found = Found::collect(vfs, &start, how.state_inside, index)?.read(vfs, &start, progress)?;
    let next = Index::from_scan(&found.entries, &found.seen, moment);
    Ok((Manifest::new(how.policy, found.entries)?, next))
}

/// Reads what stands at a place and below it, in order, under paths of its root; nothing if nothing is there.
///
/// Hard-link groups are told by the names below the place only.
pub fn scan_below<V: Vfs>(vfs: &V, at: &Place) -> Result<Vec<Entry>, TreeError> {
    if vfs.stat(at)?.is_none() {
        return Ok(Vec::new());
    }
    Ok(Found::collect(vfs, at, false, None)?.read(vfs, at, &|_, _| ())?.entries)
}

/// What a manifest does not keep of an entry, but reading it needs.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    ctime: Time,
    inode: u64,
    /// Its content is still to be read.
    unread: bool,
}

impl Seen {
    /// What tells that the file is still this one.
    pub(super) fn evidence(&self, node: &Node) -> Evidence {
        Evidence { size: node.kind.size(), mtime: node.metadata.mtime, ctime: self.ctime, inode: self.inode }
    }
}

/// A tree that is being read. One value per entry, filled in place: a large tree is in memory only once.
struct Found {
    entries: Vec<Entry>,
    seen: Vec<Seen>,
    /// Bytes still to be read.
    unread: u64,
}

impl Found {
    /// Looks at everything, in order, and reads nothing yet.
    fn collect<V: Vfs>(vfs: &V, start: &Place, state_inside: bool, index: Option<&Index>) -> Result<Self, TreeError> {
        let mut found = Self { entries: Vec::new(), seen: Vec::new(), unread: 0 };
        // The first name of each file that has several.
        let mut groups = HashMap::new();
        let (mut special, mut specials) = (Vec::new(), 0);
        walk(vfs, start, state_inside, &mut |path, stat| {
            if stat.kind == FileType::Other {
                specials += 1;
                if special.len() < limits::LISTED {
                    special.push(path);
                }
                return Ok(());
            }
            found.take(start.root, path, stat, &mut groups, index)
        })?;
        if specials > 0 {
            return Err(TreeError::Special { paths: special, found: specials });
        }
        Ok(found)
    }

    fn take(
        &mut self,
        root: RootId,
        path: TreePath,
        stat: &Stat,
        groups: &mut HashMap<(u64, u64), usize>,
        index: Option<&Index>,
    ) -> Result<(), TreeError> {
        let known = index.and_then(|index| index.lookup(&path, stat));
        let kind = match stat.kind {
            FileType::File => Kind::File { size: stat.size, digest: known.unwrap_or(Digest([0; 32])) },
            FileType::Symlink => Kind::Symlink { target: Box::default() },
            FileType::Directory | FileType::Other => Kind::Directory,
        };
        let mut leader = None;
        if stat.kind == FileType::File && stat.links > 1 {
            match groups.entry((stat.device, stat.inode)) {
                Slot::Vacant(slot) => _ = slot.insert(self.entries.len()),
                Slot::Occupied(first) => {
                    let (first, seen) = (&self.entries[*first.get()], &self.seen[*first.get()]);
                    if seen.evidence(&first.node) != Evidence::of(stat) {
                        return Err(TreeError::Changed { at: Place { root, path } });
                    }
                    leader = Some(first.path.clone());
                }
            }
        }
        let unread = stat.kind == FileType::File && leader.is_none() && known.is_none();
        self.unread += if unread { stat.size } else { 0 };
        self.seen.push(Seen { ctime: stat.ctime, inode: stat.inode, unread });
        self.entries.push(Entry { path, node: Node { kind, metadata: read::bare_metadata(stat), leader } });
        Ok(())
    }

    /// Reads what only the objects themselves tell: contents, targets, extended attributes.
    fn read<V: Vfs>(mut self, vfs: &V, start: &Place, progress: Progress<'_>) -> Result<Self, TreeError> {
        let meter = Meter::new(progress, self.unread);
        let seen = &self.seen;
        each(vfs.threads(), &mut self.entries, |number, entry| {
            if entry.node.leader.is_some() {
                return Ok(());
            }
            let at = Place { root: start.root, path: entry.path.clone() };
            let evidence = seen[number].evidence(&entry.node);
            entry.node.metadata.xattrs = match &entry.node.kind {
                Kind::Symlink { .. } => Xattrs::new(),
                Kind::Directory => read::xattrs_of(vfs, &at, FileType::Directory)?,
                Kind::File { .. } => read::xattrs_of(vfs, &at, FileType::File)?,
            };
            match &mut entry.node.kind {
                Kind::Symlink { target } => *target = read::link_target(vfs, &at)?,
                Kind::File { digest, .. } if seen[number].unread => {
                    *digest = read::content(vfs, &at, &evidence, &meter)?;
                }
                Kind::File { .. } | Kind::Directory => {}
            }
            Ok(())
        })?;
        self.follow_leaders();
        Ok(self)
    }

    /// Gives every further name of a file what its first name has.
    fn follow_leaders(&mut self) {
        for number in 0..self.entries.len() {
            let (before, rest) = self.entries.split_at_mut(number);
            let node = &mut rest[0].node;
            let Some(leader) = &node.leader else { continue };
            if let Ok(first) = before.binary_search_by(|entry| entry.path.cmp(leader)) {
                node.kind = before[first].node.kind.clone();
                node.metadata = before[first].node.metadata.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Metadata;
    use crate::tree::STATE_NAME;
    use crate::tree::testing::{MemoryVfs, path, paths};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn sample() -> MemoryVfs {
        let vfs = MemoryVfs::new();
        for directory in ["a", "a/empty", "b", ".surefoot", "b/.surefoot"] {
            vfs.directory(directory);
        }
        vfs.file("a/one", b"one");
        vfs.file("a.txt", b"text");
        vfs.file(".surefoot/journal", b"not part of it");
        vfs.file("b/.surefoot/part", b"of it");
        vfs.symlink("b/link", "../a");
        vfs.link("a/one", "b/two");
        vfs.link("a/one", "a/three");
        vfs
    }

    fn whole(vfs: &MemoryVfs) -> Result<Manifest, TreeError> {
        scan(vfs, &Walk { policy: Policy::default(), state_inside: true }, &|_, _| ())
    }

    #[test]
    fn a_tree_is_read_in_order_with_its_hard_links() {
        let mut vfs = sample();
        let manifest = whole(&vfs).unwrap();
        let expected = [
            ".",
            "a",
            "a/empty",
            "a/one",
            "a/three",
            "a.txt",
            "b",
            "b/.surefoot",
            "b/.surefoot/part",
            "b/link",
            "b/two",
        ];
        assert_eq!(paths(manifest.entries()), expected);
        let node = |text| manifest.get(&path(text)).unwrap();
        assert_eq!(node("a/one").kind, Kind::File { size: 3, digest: Digest::of(b"one") });
        assert_eq!(node("a/one").leader, None);
        for member in ["a/three", "b/two"] {
            assert_eq!(node(member), &Node { leader: Some(path("a/one")), ..node("a/one").clone() });
        }
        assert_eq!(node("b/link").kind, Kind::Symlink { target: b"../a".as_slice().into() });
        assert_eq!(node("b/link").metadata, Metadata { mode: 0o777, ..node("b/link").metadata.clone() });
        vfs.threads = 4;
        assert_eq!(whole(&vfs).unwrap(), manifest, "any number of threads reads the same");
    }

    #[test]
    fn the_state_directory_is_passed_over_only_at_the_top_and_only_on_request() {
        let manifest = scan(&sample(), &Walk::default(), &|_, _| ()).unwrap();
        assert!(manifest.get(&path(".surefoot/journal")).is_some());
        assert_eq!(STATE_NAME, b".surefoot");
    }

    #[test]
    fn a_file_with_a_name_outside_the_tree_stands_alone() {
        let vfs = MemoryVfs::new();
        vfs.file("f", b"x");
        vfs.change("f", |object| object.stat.links = 5);
        assert_eq!(whole(&vfs).unwrap().get(&path("f")).unwrap().leader, None);
    }

    #[test]
    fn special_files_are_listed_all_at_once_and_mounts_stop_the_walk() {
        let vfs = sample();
        (0..limits::LISTED + 5).for_each(|n| vfs.special(&format!("a/pipe{n:02}")));
        match whole(&vfs) {
            Err(TreeError::Special { paths, found }) => {
                assert_eq!((paths.len(), found), (limits::LISTED, limits::LISTED + 5));
                assert_eq!(paths[1], path("a/pipe01"));
            }
            other => panic!("{other:?}"),
        }
        let vfs = sample();
        vfs.change("b", |object| object.stat.mount_point = true);
        let result = whole(&vfs);
        assert!(matches!(&result, Err(TreeError::Mount { at }) if at.path == path("b")), "{result:?}");
        let vfs = sample();
        vfs.change("", |object| object.stat.mount_point = true);
        assert!(whole(&vfs).is_ok(), "the tree itself may be a mount point");
    }

    #[test]
    fn a_change_during_the_scan_is_told() {
        for threads in [1, 4] {
            let mut vfs = sample();
            vfs.threads = threads;
            vfs.on_read("a.txt", |vfs| vfs.change("a.txt", |object| object.content.push(b'!')));
            let result = whole(&vfs);
            assert!(matches!(&result, Err(TreeError::Changed { at }) if at.path == path("a.txt")), "{result:?}");
        }
    }

    #[test]
    fn progress_counts_every_byte_once() {
        let mut vfs = sample();
        vfs.threads = 2;
        let (most, total) = (AtomicU64::new(0), AtomicU64::new(0));
        let progress = |done, all| {
            most.fetch_max(done, Ordering::Relaxed);
            total.store(all, Ordering::Relaxed);
        };
        scan(&vfs, &Walk { policy: Policy::default(), state_inside: true }, &progress).unwrap();
        assert_eq!((most.into_inner(), total.into_inner()), (3 + 4 + 5, 3 + 4 + 5));
    }

    #[test]
    fn a_part_of_a_tree_is_read_under_its_own_paths() {
        let vfs = sample();
        let below = |text| scan_below(&vfs, &Place::tree(&path(text))).unwrap();
        assert_eq!(paths(&below("a")), ["a", "a/empty", "a/one", "a/three"]);
        assert_eq!(paths(&below("a.txt")), ["a.txt"]);
        assert_eq!(below("b").last().unwrap().node.leader, None, "its leader is elsewhere");
        assert_eq!(below("gone"), []);
        let all = whole(&vfs).unwrap();
        assert_eq!(below("a")[1..], all.below(&path("a")).cloned().collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_stays_small() {
        // 200,000 entries with paths of 60 bytes take about 45 MB while they are read.
        assert!(size_of::<Entry>() + size_of::<Seen>() <= 168, "{}", size_of::<Entry>() + size_of::<Seen>());
    }
}

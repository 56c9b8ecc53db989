//! Comparing what is on the disk with what should be there.

use super::read::{self, Evidence, Meter};
use super::walk::{each, walk};
use super::{Index, Progress, TreeError};
use crate::model::{Difference, Entry, Finding, Kind, Manifest, TreePath};
use crate::vfs::{FileType, Place, Stat, Vfs};
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};

/// How much of a tree is compared.
#[derive(Clone, Copy, Debug)]
pub enum Depth<'a> {
    /// These paths only, their contents included; nothing below them. They are compared with each other name of their
    /// hard-link group, but a name that no manifest knows is not found.
    Touched(&'a [TreePath]),
    /// Everything, but files that are as the index knows them are not read.
    Index(&'a Index),
    /// Everything, every byte.
    Full,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What is not as it should be, by path, one difference each. Empty: the tree is as the manifest says.
    pub findings: Vec<Finding>,
    /// How many regular files were compared.
    pub checked_files: u64,
    /// How many bytes were read for that.
    pub hashed_bytes: u64,
}

/// Compares the managed tree with its manifest. With `state_inside`, the state directory at its top is passed over.
pub fn verify<V: Vfs>(
    vfs: &V,
    manifest: &Manifest,
    state_inside: bool,
    depth: Depth<'_>,
    progress: Progress<'_>,
) -> Result<Verification, TreeError> {
    let mut check = Check::new(vfs, manifest);
    match depth {
        Depth::Touched(paths) => check.look_at(paths)?,
        Depth::Index(index) => check.look_everywhere(state_inside, Some(index))?,
        Depth::Full => check.look_everywhere(state_inside, None)?,
    }
    check.finish(progress)
}

/// A comparison under way: first everything is looked at, in order; then the files that look right are read.
struct Check<'a, V> {
    vfs: &'a V,
    manifest: &'a Manifest,
    /// What differs, by number of the entry.
    different: BTreeMap<usize, Difference>,
    strays: Vec<TreePath>,
    to_read: Vec<Unread>,
    /// Further names of a file, and its first name: what is true of that is true of them.
    members: Vec<(usize, usize)>,
    checked_files: u64,
}

/// A file that has the right type and size.
struct Unread {
    /// Number of its entry.
    entry: usize,
    stat: Stat,
    /// It is not in the hard-link group where it should be.
    strange_links: bool,
    difference: Option<Difference>,
}

impl<'a, V: Vfs> Check<'a, V> {
    fn new(vfs: &'a V, manifest: &'a Manifest) -> Self {
        Self {
            vfs,
            manifest,
            different: BTreeMap::new(),
            strays: Vec::new(),
            to_read: Vec::new(),
            members: Vec::new(),
            checked_files: 0,
        }
    }

    fn look_everywhere(&mut self, state_inside: bool, index: Option<&Index>) -> Result<(), TreeError> {
        let entries = self.manifest.entries();
        // The entry of the first name of each file that has several; nothing if that is a stray.
        let mut groups: HashMap<(u64, u64), Option<usize>> = HashMap::new();
        let mut next = 0;
        walk(self.vfs, &Place::tree(&TreePath::root()), state_inside, &mut |path, stat| {
            while entries.get(next).is_some_and(|entry| entry.path < path) {
                self.different.insert(next, Difference::Missing);
                next += 1;
            }
            let number = entries.get(next).filter(|entry| entry.path == path).map(|_| next);
            let leader = match groups.entry((stat.device, stat.inode)) {
                _ if stat.kind != FileType::File || stat.links < 2 => None,
                Slot::Vacant(slot) => {
                    slot.insert(number);
                    None
                }
                Slot::Occupied(first) => Some(*first.get()),
            };
            let Some(number) = number else {
                self.strays.push(path);
                return Ok(());
            };
            next += 1;
            let expected = entries[number].node.leader.as_ref();
            match leader {
                Some(Some(first)) if expected == Some(&entries[first].path) => {
                    // The same file, and the manifest holds both names to be the same.
                    self.checked_files += 1;
                    self.members.push((number, first));
                    Ok(())
                }
                _ => self.compare(number, stat, leader.is_some() || expected.is_some(), index),
            }
        })?;
        self.different.extend((next..entries.len()).map(|missing| (missing, Difference::Missing)));
        Ok(())
    }

    fn look_at(&mut self, paths: &[TreePath]) -> Result<(), TreeError> {
        let mut paths: Vec<&TreePath> = paths.iter().collect();
        paths.sort_unstable();
        paths.dedup();
        let strange = self.strange_links(&paths)?;
        for path in paths {
            match (self.manifest.position(path).ok(), self.vfs.stat(&Place::tree(path))?) {
                (None, None) => {}
                (Some(number), None) => _ = self.different.insert(number, Difference::Missing),
                (_, Some(stat)) if stat.mount_point && !path.is_root() => {
                    return Err(TreeError::Mount { at: Place::tree(path) });
                }
                (None, Some(_)) => self.strays.push(path.clone()),
                (Some(number), Some(stat)) => {
                    self.compare(number, &stat, strange.binary_search(&path).is_ok(), None)?;
                }
            }
        }
        Ok(())
    }

    /// Which of these paths are not the same file as another name of their group. Sorted, as `paths` are.
    fn strange_links<'p>(&self, paths: &[&'p TreePath]) -> Result<Vec<&'p TreePath>, TreeError> {
        let mut strange = Vec::new();
        let identity = |path: &TreePath| -> Result<_, TreeError> {
            Ok(self.vfs.stat(&Place::tree(path))?.map(|stat| (stat.device, stat.inode)))
        };
        for Entry { path: member, node } in self.manifest.entries() {
            let Some(leader) = &node.leader else { continue };
            // It shows at the further name, as it does when everything is compared; else at the first.
            let touched = paths.binary_search(&member).or_else(|_| paths.binary_search(&leader));
            if let Ok(at) = touched
                && identity(member)? != identity(leader)?
            {
                strange.push(paths[at]);
            }
        }
        strange.sort_unstable();
        Ok(strange)
    }

    /// Compares an entry with what stands there, as far as that needs no reading of contents.
    fn compare(
        &mut self,
        number: usize,
        stat: &Stat,
        strange_links: bool,
        index: Option<&Index>,
    ) -> Result<(), TreeError> {
        let Entry { path, node } = &self.manifest.entries()[number];
        let difference = match (&node.kind, stat.kind) {
            (Kind::File { size, digest }, FileType::File) => {
                self.checked_files += 1;
                let known = index.and_then(|index| index.lookup(path, stat));
                if stat.size != *size || known.is_some_and(|known| known != *digest) {
                    Some(Difference::Content)
                } else if known.is_some() {
                    self.metadata_difference(number, stat, strange_links)?
                } else {
                    self.to_read.push(Unread { entry: number, stat: *stat, strange_links, difference: None });
                    None
                }
            }
            (Kind::Directory, FileType::Directory) => self.metadata_difference(number, stat, false)?,
            (Kind::Symlink { target }, FileType::Symlink) => {
                if read::link_target(self.vfs, &Place::tree(path))? == *target {
                    self.metadata_difference(number, stat, false)?
                } else {
                    Some(Difference::Target)
                }
            }
            _ => Some(Difference::Type),
        };
        self.different.extend(difference.map(|difference| (number, difference)));
        Ok(())
    }

    fn metadata_difference(
        &self,
        number: usize,
        stat: &Stat,
        strange_links: bool,
    ) -> Result<Option<Difference>, TreeError> {
        let Entry { path, node } = &self.manifest.entries()[number];
        let found = match read::metadata_of(self.vfs, &Place::tree(path), stat) {
            // More than any manifest can ask for.
            Err(TreeError::Xattrs { .. }) => return Ok(Some(Difference::Xattrs)),
            found => found?,
        };
        let difference = node.metadata.difference(&found, self.manifest.policy());
        Ok(difference.or(strange_links.then_some(Difference::Links)))
    }

    /// Reads what is to be read, and gathers the findings.
    fn finish(mut self, progress: Progress<'_>) -> Result<Verification, TreeError> {
        let entries = self.manifest.entries();
        let meter = Meter::new(progress, self.to_read.iter().map(|unread| unread.stat.size).sum());
        let mut to_read = std::mem::take(&mut self.to_read);
        each(self.vfs.threads(), &mut to_read, |_, unread| {
            let Entry { path, node } = &entries[unread.entry];
            let (size, evidence) = (unread.stat.size, Evidence::of(&unread.stat));
            let digest = read::content(self.vfs, &Place::tree(path), &evidence, &meter)?;
            unread.difference = if node.kind == (Kind::File { size, digest }) {
                self.metadata_difference(unread.entry, &unread.stat, unread.strange_links)?
            } else {
                Some(Difference::Content)
            };
            Ok(())
        })?;
        let read = to_read.into_iter().filter_map(|unread| Some((unread.entry, unread.difference?)));
        self.different.extend(read);
        for (member, first) in self.members {
            if let Some(difference) = self.different.get(&first).copied() {
                self.different.insert(member, difference);
            }
        }
        let finding = |(number, difference): (usize, _)| Finding { path: entries[number].path.clone(), difference };
        let mut findings: Vec<Finding> = self.different.into_iter().map(finding).collect();
        findings.extend(self.strays.into_iter().map(|path| Finding { path, difference: Difference::Unexpected }));
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Verification { findings, checked_files: self.checked_files, hashed_bytes: meter.done() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::model::Policy;
    use crate::tree::testing::{MemoryVfs, path};
    use crate::tree::{Walk, scan, scan_indexed};

    fn sample() -> MemoryVfs {
        let vfs = MemoryVfs::new();
        for directory in [".surefoot", "d", "d/sub", "e"] {
            vfs.directory(directory);
        }
        vfs.file(".surefoot/journal", b"passed over");
        vfs.file("d/f", b"content");
        vfs.file("d/sub/g", b"more");
        vfs.file("one", b"linked");
        vfs.symlink("s", "target");
        vfs.link("one", "two");
        vfs.link("one", "e/three");
        vfs
    }

    const WALK: Walk = Walk { policy: Policy { owner: true, mtime: false }, state_inside: true };

    fn silent(_: u64, _: u64) {}

    /// What each depth finds after a change.
    fn found(change: impl Fn(&mut MemoryVfs)) -> String {
        let mut vfs = sample();
        let (manifest, index) = scan_indexed(&vfs, &WALK, None, &silent).unwrap();
        change(&mut vfs);
        let full = verify(&vfs, &manifest, true, Depth::Full, &silent).unwrap();
        let quick = verify(&vfs, &manifest, true, Depth::Index(&index), &silent).unwrap();
        assert_eq!(full.findings, quick.findings);
        assert_eq!(full.checked_files, quick.checked_files);
        assert!(quick.hashed_bytes <= full.hashed_bytes);
        vfs.threads = 3;
        assert_eq!(verify(&vfs, &manifest, true, Depth::Full, &silent).unwrap(), full);
        let touched: Vec<_> = full.findings.iter().map(|finding| finding.path.clone()).collect();
        let touched = verify(&vfs, &manifest, true, Depth::Touched(&touched), &silent).unwrap();
        let known = |finding: &&Finding| finding.difference != Difference::Links;
        assert_eq!(
            touched.findings.iter().filter(known).collect::<Vec<_>>(),
            full.findings.iter().filter(known).collect::<Vec<_>>()
        );
        assert!(full.findings.windows(2).all(|pair| pair[0].path < pair[1].path));
        let scanned = scan(&vfs, &WALK, &silent);
        if let Ok(scanned) = scanned {
            let same = crate::tree::changes(&manifest, &scanned).is_empty();
            assert_eq!(full.findings.is_empty(), same, "it agrees with the comparison of manifests");
        }
        let shown = |finding: &Finding| format!("{}: {:?}", finding.path, finding.difference);
        full.findings.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_tree_that_is_as_recorded_has_no_findings() {
        assert_eq!(found(|_| ()), "");
        let vfs = sample();
        let (manifest, index) = scan_indexed(&vfs, &WALK, None, &silent).unwrap();
        let full = verify(&vfs, &manifest, true, Depth::Full, &silent).unwrap();
        assert_eq!((full.checked_files, full.hashed_bytes), (5, 7 + 4 + 6), "five names of three files");
        vfs.reads.lock().unwrap().clear();
        let quick = verify(&vfs, &manifest, true, Depth::Index(&index), &silent).unwrap();
        assert_eq!((quick.checked_files, quick.hashed_bytes), (5, 0));
        assert!(vfs.reads.lock().unwrap().is_empty());
        let outside = verify(&vfs, &manifest, false, Depth::Full, &silent).unwrap();
        assert_eq!(outside.findings.len(), 2, "the state directory is a stray unless it belongs there");
    }

    #[test]
    fn every_difference_is_found() {
        let rewrite = |object: &mut crate::tree::testing::Object| {
            object.content[0] ^= 1;
            object.stat.ctime.nanoseconds += 1;
        };
        assert_eq!(found(|vfs| vfs.change("d/f", rewrite)), "d/f: Content");
        assert_eq!(found(|vfs| vfs.change("d/f", |object| object.content.push(0))), "d/f: Content");
        assert_eq!(found(|vfs| vfs.change("d", |object| object.stat.mode = 0o700)), "d: Mode");
        assert_eq!(found(|vfs| vfs.change("d/f", |object| object.stat.uid = 1)), "d/f: Owner");
        assert_eq!(found(|vfs| vfs.change("d/f", |object| object.stat.mtime.seconds = 1)), "", "time does not count");
        assert_eq!(found(|vfs| vfs.change("s", |object| object.content.push(b'x'))), "s: Target");
        assert_eq!(found(|vfs| vfs.change("s", |object| object.stat.gid = 1)), "s: Owner");
        let attribute = (b"user.x".as_slice().into(), Box::default());
        assert_eq!(found(|vfs| vfs.change("d/f", |object| object.xattrs = vec![attribute.clone()])), "d/f: Xattrs");
        let many = vec![attribute; limits::XATTRS + 1];
        assert_eq!(found(|vfs| vfs.change("d", |object| object.xattrs = many.clone())), "d: Xattrs");
    }

    #[test]
    fn what_is_missing_and_what_should_not_be_there_is_listed() {
        assert_eq!(found(|vfs| vfs.remove("d")), "d: Missing, d/f: Missing, d/sub: Missing, d/sub/g: Missing");
        assert_eq!(found(|vfs| vfs.remove("s")), "s: Missing", "the last one");
        let stray = found(|vfs| {
            vfs.directory("d/new");
            vfs.file("d/new/file", b"");
            vfs.special("zz");
        });
        assert_eq!(stray, "d/new: Unexpected, d/new/file: Unexpected, zz: Unexpected");
        let replaced = found(|vfs| {
            vfs.remove("d/sub");
            vfs.file("d/sub", b"");
            vfs.remove("s");
            vfs.special("s");
            vfs.remove("d/f");
            vfs.directory("d/f");
            vfs.file("d/f/x", b"");
        });
        assert_eq!(replaced, "d/f: Type, d/f/x: Unexpected, d/sub: Type, d/sub/g: Missing, s: Type");
    }

    #[test]
    fn hard_links_are_part_of_the_tree() {
        let broken = found(|vfs| {
            vfs.remove("two");
            vfs.file("two", b"linked");
        });
        assert_eq!(broken, "two: Links");
        let joined = found(|vfs| {
            vfs.remove("d/sub/g");
            vfs.link("d/f", "d/sub/g");
        });
        assert_eq!(joined, "d/sub/g: Content");
        assert_eq!(found(|vfs| vfs.link("one", "a")), "a: Unexpected, e/three: Links, one: Links, two: Links");
        assert_eq!(found(|vfs| vfs.remove("e/three")), "e/three: Missing, one: Links, two: Links");
        let all = found(|vfs| vfs.change("two", |object| object.stat.mode = 0o600));
        assert_eq!(all, "e/three: Mode, one: Mode, two: Mode", "what is true of one name is true of all");
    }

    #[test]
    fn touched_paths_alone_are_looked_at() {
        let vfs = sample();
        let manifest = scan(&vfs, &WALK, &silent).unwrap();
        vfs.change("d/f", |object| object.content[0] ^= 1);
        vfs.remove("two");
        vfs.file("two", b"linked");
        let touched = |texts: &[&str]| {
            let paths: Vec<_> = texts.iter().map(|text| path(text)).collect();
            let result = verify(&vfs, &manifest, true, Depth::Touched(&paths), &silent).unwrap();
            result
                .findings
                .iter()
                .map(|finding| format!("{}: {:?}", finding.path, finding.difference))
                .collect::<Vec<_>>()
        };
        assert_eq!(touched(&["d/sub/g", "d", "s", "nowhere"]), Vec::<String>::new());
        assert_eq!(touched(&["d/f", "d/f", "d"]), ["d/f: Content"]);
        assert_eq!(touched(&["two"]), ["two: Links"]);
        assert_eq!(touched(&["one"]), Vec::<String>::new());
        assert_eq!(touched(&["e/three", "one", "two"]), ["two: Links"]);
        assert_eq!(touched(&["e/three", "one"]), ["e/three: Links"], "it has lost a name");
    }

    #[test]
    fn a_mount_point_stops_the_comparison() {
        let vfs = sample();
        let manifest = scan(&vfs, &WALK, &silent).unwrap();
        vfs.change("d", |object| object.stat.mount_point = true);
        let result = verify(&vfs, &manifest, true, Depth::Full, &silent);
        assert!(matches!(&result, Err(TreeError::Mount { at }) if at.path == path("d")), "{result:?}");
        let result = verify(&vfs, &manifest, true, Depth::Touched(&[path("d")]), &silent);
        assert!(matches!(&result, Err(TreeError::Mount { at }) if at.path == path("d")), "{result:?}");
    }
}

//! A small tree in memory, and manifests, for the tests of this folder.

use crate::model::{Digest, Entry, Kind, Manifest, Metadata, Node, Policy, Time, TreePath, Xattrs};
use crate::vfs::{Access, Capabilities, FileType, IoError, Place, Rename, RootId, Session, Space, Stat, Vfs};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::sync::Mutex;

/// The time of day of every [`MemoryVfs`].
pub(super) const NOW: Time = Time { seconds: 1000, nanoseconds: 0 };

pub(super) fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

pub(super) fn paths(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.to_string()).collect()
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) stat: Stat,
    pub(super) content: Vec<u8>,
    pub(super) xattrs: Xattrs,
}

/// What happens to a tree while it is read.
pub(super) type Disturb = fn(&MemoryVfs);

/// A tree in memory that can only be read through [`Vfs`].
pub(super) struct MemoryVfs {
    pub(super) threads: usize,
    /// The files opened so far.
    pub(super) reads: Mutex<Vec<TreePath>>,
    names: Mutex<BTreeMap<TreePath, u64>>,
    objects: Mutex<HashMap<u64, Object>>,
    disturbances: Mutex<HashMap<TreePath, Disturb>>,
}

impl MemoryVfs {
    pub(super) fn new() -> Self {
        let vfs = Self {
            threads: 1,
            reads: Mutex::default(),
            names: Mutex::default(),
            objects: Mutex::default(),
            disturbances: Mutex::default(),
        };
        vfs.directory("");
        vfs
    }

    pub(super) fn directory(&self, at: &str) {
        self.add(at, FileType::Directory, b"");
    }

    pub(super) fn file(&self, at: &str, content: &[u8]) {
        self.add(at, FileType::File, content);
    }

    pub(super) fn symlink(&self, at: &str, target: &str) {
        self.add(at, FileType::Symlink, target.as_bytes());
    }

    pub(super) fn special(&self, at: &str) {
        self.add(at, FileType::Other, b"");
    }

    fn add(&self, at: &str, kind: FileType, content: &[u8]) {
        let mut objects = self.objects.lock().unwrap();
        let inode = objects.len() as u64 + 1;
        let time = Time { seconds: 100, nanoseconds: 5 };
        let mode = if kind == FileType::Directory { 0o755 } else { 0o644 };
        #[rustfmt::skip]
        let stat = Stat {
            kind, size: 0, mode, uid: 10, gid: 20, mtime: time, ctime: time, inode, device: 1, links: 1,
            mount_point: false, immutable: false,
        };
        objects.insert(inode, Object { stat, content: content.to_vec(), xattrs: Xattrs::new() });
        self.names.lock().unwrap().insert(path(at), inode);
    }

    pub(super) fn link(&self, from: &str, to: &str) {
        let inode = self.names.lock().unwrap()[&path(from)];
        self.names.lock().unwrap().insert(path(to), inode);
        self.change(from, |object| object.stat.links += 1);
    }

    /// Removes it and all that is below.
    pub(super) fn remove(&self, at: &str) {
        let at = path(at);
        self.names.lock().unwrap().retain(|name, _| *name != at && !name.is_below(&at));
    }

    pub(super) fn change(&self, at: &str, change: impl FnOnce(&mut Object)) {
        let inode = self.names.lock().unwrap()[&path(at)];
        change(self.objects.lock().unwrap().get_mut(&inode).unwrap());
    }

    /// Calls `disturb` once, when the file is first read.
    pub(super) fn on_read(&self, at: &str, disturb: Disturb) {
        self.disturbances.lock().unwrap().insert(path(at), disturb);
    }

    fn object(&self, operation: &'static str, at: &Place) -> Result<Object, IoError> {
        assert_eq!(at.root, RootId::TREE);
        let inode = self.names.lock().unwrap().get(&at.path).copied();
        let inode = inode.ok_or_else(|| IoError::new(operation, at, ErrorKind::NotFound))?;
        Ok(self.objects.lock().unwrap()[&inode].clone())
    }
}

/// Makes the methods that would write: it can only be read.
macro_rules! refused {
    ($($name:ident($($argument:ty),*) -> $result:ty;)+) => {
        $(fn $name(&self, $(_: $argument),*) -> Result<$result, IoError> {
            Err(IoError::new(stringify!($name), "a tree that is only read", ErrorKind::ReadOnlyFilesystem))
        })+
    };
}

impl Vfs for MemoryVfs {
    type File = (TreePath, Object);
    type Lock = ();

    fn stat(&self, at: &Place) -> Result<Option<Stat>, IoError> {
        let object = match self.object("stat", at) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            object => object?,
        };
        Ok(Some(Stat { size: object.content.len() as u64, ..object.stat }))
    }

    fn list(&self, at: &Place) -> Result<Vec<Box<[u8]>>, IoError> {
        self.object("list", at)?;
        let names = self.names.lock().unwrap();
        let children = names.keys().filter(|name| name.parent().as_ref() == Some(&at.path));
        // In no particular order: the last one first.
        Ok(children.rev().map(|name| name.name().into()).collect())
    }

    fn read_link(&self, at: &Place) -> Result<Box<[u8]>, IoError> {
        Ok(self.object("read link", at)?.content.into())
    }

    fn xattrs(&self, at: &Place) -> Result<Xattrs, IoError> {
        Ok(self.object("read attributes", at)?.xattrs)
    }

    fn open(&self, at: &Place, _: Access) -> Result<Self::File, IoError> {
        let object = self.object("open", at)?;
        if object.stat.kind != FileType::File {
            return Err(IoError::new("open", at, ErrorKind::InvalidInput));
        }
        self.reads.lock().unwrap().push(at.path.clone());
        Ok((at.path.clone(), object))
    }

    fn read_at(&self, (path, opened): &Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let disturb = self.disturbances.lock().unwrap().remove(path);
        if let Some(disturb) = disturb {
            disturb(self);
        }
        let now = self.object("read", &Place::tree(path)).unwrap_or_else(|_| opened.clone());
        let rest = now.content.get(offset as usize..).unwrap_or_default();
        // Short reads are the rule here.
        let length = rest.len().min(buffer.len()).min(100_000);
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn now(&self) -> Time {
        NOW
    }

    fn is_member(&self, _: u32) -> bool {
        true
    }

    fn user(&self) -> u32 {
        0
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn sync_all_reports(&self) -> bool {
        true
    }

    refused! {
        create(&Place) -> Self::File;
        write_at(&Self::File, u64, &[u8]) -> ();
        set_len(&Self::File, u64) -> ();
        sync_file(&Self::File) -> ();
        sync_all() -> ();
        mkdir(&Place) -> ();
        symlink(&[u8], &Place) -> ();
        link(&Place, &Place) -> ();
        rename(&Place, &Place, Rename) -> ();
        remove_file(&Place) -> ();
        remove_dir(&Place) -> ();
        set_mode(&Place, u32) -> ();
        set_owner(&Place, u32, u32) -> ();
        set_mtime(&Place, Time) -> ();
        set_xattr(&Place, &[u8], Option<&[u8]>) -> ();
        capabilities(&Place) -> Capabilities;
        folds_case(&Place) -> bool;
        space(RootId) -> Space;
        lock(&Place) -> Option<Self::Lock>;
        session() -> Session;
        fresh_id() -> [u8; 16];
    }
}

/// A manifest from notes: `/` directory, `=content` file (`!` at the end: executable), `@target` link, `>leader`
/// another name.
pub(super) fn manifest_of(notes: &[(&str, &str)]) -> Manifest {
    let mut nodes = BTreeMap::from([(TreePath::root(), Node::new(Kind::Directory, Metadata::default()))]);
    for (at, note) in notes {
        let (mark, rest) = note.split_at(1);
        let content = rest.trim_end_matches('!');
        let mode = if rest.ends_with('!') { 0o755 } else { 0o644 };
        let metadata = Metadata { mode, ..Metadata::default() };
        let node = match mark {
            "/" => Node::new(Kind::Directory, metadata),
            "=" => {
                let (size, digest) = (content.len() as u64, Digest::of(content.as_bytes()));
                Node::new(Kind::File { size, digest }, metadata)
            }
            "@" => {
                let target = content.as_bytes().into();
                Node::new(Kind::Symlink { target }, Metadata { mode: 0o777, ..metadata })
            }
            _ => Node { leader: Some(path(content)), ..nodes[&path(content)].clone() },
        };
        nodes.insert(path(at), node);
    }
    of_nodes(Policy::default(), nodes)
}

fn of_nodes(policy: Policy, nodes: BTreeMap<TreePath, Node>) -> Manifest {
    Manifest::new(policy, nodes.into_iter().map(|(path, node)| Entry { path, node }).collect()).unwrap()
}

/// Small trees with few names, contents and modes, so that two of them have much in common: directories, files, links
/// and hard-link groups.
pub(super) fn any_manifest() -> impl Strategy<Value = Manifest> {
    let place = prop::collection::vec(prop::sample::select(vec!["a", "b", "a.b", "c"]), 1..4);
    let entry = (place, 0..13u8, 0..3u8, 0..3u32, 0..3usize);
    (0..4u8, prop::collection::vec(entry, 0..60)).prop_map(|(policy, drawn)| {
        let drawn: BTreeMap<TreePath, _> = drawn
            .into_iter()
            .map(|(names, kind, content, other, group)| (path(&names.join("/")), (kind, content, other, group)))
            .collect();
        let root = Node::new(Kind::Directory, Metadata::default());
        let mut nodes = BTreeMap::from([(TreePath::root(), root)]);
        for (at, (kind, content, other, group)) in drawn {
            if at.parent().and_then(|parent| nodes.get(&parent)).is_none_or(|parent| !parent.is_directory()) {
                continue;
            }
            let xattrs = if other == 2 { vec![(b"user.x".as_slice().into(), Box::from([content]))] } else { vec![] };
            let mtime = Time { seconds: i64::from(other), nanoseconds: 7 };
            let metadata = Metadata { mode: 0o600 + other / 2, uid: other % 2, gid: 3, mtime, xattrs };
            let node = match kind {
                0..6 => Node::new(Kind::Directory, metadata),
                6 => {
                    let metadata = Metadata { mode: 0o777, xattrs: vec![], ..metadata };
                    Node::new(Kind::Symlink { target: Box::from([b'a' + content]) }, metadata)
                }
                7..10 => {
                    let (size, digest) = (u64::from(content), Digest::of(&vec![b'x'; content.into()]));
                    Node::new(Kind::File { size, digest }, metadata)
                }
                _ => {
                    let leaders: Vec<_> =
                        nodes.iter().filter(|(_, node): &(_, &Node)| node.is_file() && node.leader.is_none()).collect();
                    let Some((leader, first)) = leaders.get(group % leaders.len().max(1)) else { continue };
                    Node { leader: Some((*leader).clone()), ..(*first).clone() }
                }
            };
            nodes.insert(at, node);
        }
        of_nodes(Policy::from_bits(policy).unwrap(), nodes)
    })
}

#[test]
fn the_random_trees_are_not_trivial() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let trees: Vec<_> = (0..200).map(|_| any_manifest().new_tree(&mut runner).unwrap().current()).collect();
    let large = trees.iter().filter(|tree| tree.entries().len() >= 8).count();
    let linked = trees.iter().filter(|tree| tree.entries().iter().any(|entry| entry.node.leader.is_some())).count();
    assert!(large > 80 && linked > 60, "{large} of 200 are large, {linked} have hard links");
}

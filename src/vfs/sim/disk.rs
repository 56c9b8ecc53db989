//! A disk image: a table of inodes that forks share, and the effects that change it.

use super::content::{Content, PAGE, Piece};
use super::hash::Hash;
use crate::model::Time;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Names an inode for ever; what `stat` shows is [`Inode::number`], which may be used again.
pub(super) type Id = u64;
/// A name in a directory.
pub(super) type Name = Arc<[u8]>;
/// Extended attributes by name.
pub(super) type Attributes = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The root directory.
pub(super) const ROOT: Id = 1;
const FAN: usize = 16;
/// So many inodes with consecutive ids.
type Chunk = [Option<Arc<Inode>>; FAN];

/// A disk image. A clone costs one reference; what is changed afterwards is copied.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    chunks: Arc<Vec<Arc<Chunk>>>,
    /// Inodes that lost their last name, or never had one, since [`Disk::settle`].
    loose: Vec<Id>,
    /// How many inodes there are.
    pub(super) inodes: u64,
    /// How many pages are allocated.
    pub(super) pages: u64,
}

/// A file, directory or symbolic link.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) number: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    /// How many entries of directories point here.
    pub(super) names: u32,
    pub(super) xattrs: Arc<Attributes>,
    pub(super) mark: Option<Mark>,
    hash: OnceLock<Hash>,
}

/// What keeps an inode from being changed, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is marked immutable (`chattr +i`).
    Immutable,
    /// Another file system is mounted on it.
    MountPoint,
}

/// What an inode is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Directory(Directory),
    Symlink(Name),
}

/// The entries of a directory, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) entries: Arc<BTreeMap<Name, Id>>,
    /// How many of the entries are directories.
    pub(super) directories: u64,
    home: Option<(Id, Name)>,
}

/// One atomic change of a disk.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) change: Change,
    /// The number of the call, among those that mutate or sync.
    pub(super) call: u64,
    pub(super) time: Time,
}

/// What an effect changes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Bytes of a file.
    Data { id: Id, pieces: Vec<Piece> },
    /// Length of a file.
    Size { id: Id, length: u64, shrink: bool },
    /// Permission bits.
    Mode { id: Id, mode: u32 },
    /// Owner and group; of a file this clears what gives privileges.
    Owner { id: Id, uid: u32, gid: u32 },
    /// Time of last modification.
    Modified { id: Id, mtime: Time },
    /// One extended attribute.
    Xattr { id: Id, name: Box<[u8]>, value: Option<Box<[u8]>> },
    /// What keeps it from being changed.
    Mark { id: Id, mark: Option<Mark> },
    /// Entries of directories, together, with the inode that they are the first to name.
    Entries { made: Option<(Id, Arc<Inode>)>, links: Vec<Link> },
}

/// One entry of a directory: what the name holds from now on.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) directory: Id,
    pub(super) name: Name,
    pub(super) id: Option<Id>,
}

/// Which bytes of an effect's data make it to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tear {
    /// Only the first this many bytes.
    Bytes(u64),
    /// Only the units (of so many bytes) that a number made from `salt` picks.
    Units { unit: usize, salt: u64 },
}

impl Clone for Inode {
    fn clone(&self) -> Self {
        let (body, xattrs) = (self.body.clone(), self.xattrs.clone());
        Self { body, xattrs, hash: OnceLock::new(), ..*self }
    }
}

impl Disk {
    /// A disk with an empty root directory.
    pub(super) fn new(root: Inode) -> Self {
        let mut disk = Self { chunks: Arc::default(), loose: Vec::new(), inodes: 0, pages: 0 };
        disk.insert(ROOT, Arc::new(Inode { names: 1, ..root }));
        disk
    }

    pub(super) fn inode(&self, id: Id) -> Option<&Inode> {
        self.chunks.get(id as usize / FAN)?[id as usize % FAN].as_deref()
    }

    pub(super) fn directory(&self, id: Id) -> Option<&Directory> {
        match &self.inode(id)?.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(super) fn file(&self, id: Id) -> Option<&Content> {
        match &self.inode(id)?.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    /// A path of every inode, for people: the first one.
    pub(super) fn names(&self, names: &mut BTreeMap<Id, String>) {
        let mut next = vec![(ROOT, String::new())];
        while let Some((id, path)) = next.pop() {
            if names.contains_key(&id) {
                continue;
            }
            if let Some(directory) = self.directory(id) {
                let slash = if path.is_empty() { "" } else { "/" };
                let below = directory.entries.iter().rev();
                next.extend(below.map(|(name, id)| (*id, format!("{path}{slash}{}", name.escape_ascii()))));
            }
            names.insert(id, path);
        }
    }

    /// Every inode, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Inode)> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        slots.enumerate().filter_map(|(id, slot)| Some((id as Id, slot.as_deref()?)))
    }

    /// Is the directory `id` the directory `ancestor`, or somewhere below it?
    pub(super) fn is_within(&self, id: Id, ancestor: Id) -> bool {
        let mut at = id;
        // A chain longer than the number of inodes has a loop, which does not lead to the root.
        for _ in 0..=self.inodes {
            if at == ancestor {
                return true;
            }
            match self.directory(at).and_then(|directory| directory.home.as_ref()) {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
        true
    }

    /// Applies an effect. What it needs and is not there (an inode whose creation was lost) is left out; an entry that
    /// would close a loop of directories makes all of the effect void; a directory that gets a second name loses the
    /// first.
    pub(super) fn apply(&mut self, effect: &Effect) {
        let time = effect.time;
        match &effect.change {
            Change::Data { id, pieces } => self.change_content(*id, time, |content| {
                pieces.iter().for_each(|piece| content.put(piece, piece.start, piece.end));
            }),
            Change::Size { id, length, shrink } => {
                self.change_content(*id, time, |content| content.set_length(*length, *shrink));
            }
            Change::Mode { id, mode } => self.change(*id, time, |inode| inode.mode = *mode),
            Change::Owner { id, uid, gid } => self.change(*id, time, |inode| {
                (inode.uid, inode.gid) = (*uid, *gid);
                if let Body::File(_) = inode.body {
                    let group_runs = inode.mode & 0o010 != 0;
                    inode.mode &= if group_runs { !0o6000 } else { !0o4000 };
                    if inode.xattrs.contains_key(&b"security.capability"[..]) {
                        Arc::make_mut(&mut inode.xattrs).remove(&b"security.capability"[..]);
                    }
                }
            }),
            Change::Modified { id, mtime } => self.change(*id, time, |inode| inode.mtime = *mtime),
            Change::Mark { id, mark } => self.change(*id, time, |inode| inode.mark = *mark),
            Change::Xattr { id, name, value } => self.change(*id, time, |inode| {
                let xattrs = Arc::make_mut(&mut inode.xattrs);
                match value {
                    Some(value) => xattrs.insert(name.clone(), value.clone()),
                    None => xattrs.remove(name),
                };
            }),
            Change::Entries { made, links } => {
                if let Some((id, inode)) = made {
                    self.insert(*id, inode.clone());
                    self.loose.push(*id);
                }
                let loops = |link: &Link| {
                    link.id.is_some_and(|id| self.directory(id).is_some() && self.is_within(link.directory, id))
                };
                if !links.iter().any(loops) {
                    links.iter().for_each(|link| self.set_entry(link, time));
                }
            }
        }
    }

    /// Applies a part of the data of an effect.
    pub(super) fn apply_torn(&mut self, effect: &Effect, tear: Tear) {
        let Change::Data { id, pieces } = &effect.change else {
            return self.apply(effect);
        };
        self.change_content(*id, effect.time, |content| {
            let mut before = 0;
            for piece in pieces {
                match tear {
                    Tear::Bytes(count) => {
                        let left = usize::try_from(count.saturating_sub(before)).unwrap_or(usize::MAX);
                        if left > 0 {
                            content.put(piece, piece.start, piece.end.min(piece.start + left));
                        }
                    }
                    Tear::Units { unit, salt } => {
                        let mut at = piece.start;
                        while at < piece.end {
                            let end = ((at / unit + 1) * unit).min(piece.end);
                            let place = (piece.index * PAGE + at) / unit;
                            if super::hash::mix(salt, place as u64) >> 20 & 1 == 1 {
                                content.put(piece, at, end);
                            }
                            at = end;
                        }
                    }
                }
                before += (piece.end - piece.start) as u64;
            }
        });
    }

    /// Gives the pages of data that was lost, where nothing was written before, what the disk held there.
    pub(super) fn rot(&mut self, effect: &Effect) {
        if let Change::Data { id, pieces } = &effect.change {
            self.change_pages(*id, |content| pieces.iter().for_each(|piece| content.rot(piece.index, *id)));
        }
    }

    /// Drops the bytes beyond the end of a file.
    pub(super) fn trim(&mut self, id: Id) {
        if self.file(id).is_some_and(Content::reaches_beyond) {
            self.change_pages(id, Content::trim);
        }
    }

    /// Frees every inode without a name, except those that are open.
    pub(super) fn settle(&mut self, is_open: impl Fn(Id) -> bool) {
        while let Some(id) = self.loose.pop() {
            let Some(inode) = self.inode(id) else { continue };
            if inode.names > 0 || is_open(id) {
                continue;
            }
            let below: Vec<Id> = match &inode.body {
                Body::Directory(directory) => directory.entries.values().copied().collect(),
                Body::File(content) => {
                    self.pages -= content.allocated();
                    Vec::new()
                }
                Body::Symlink(_) => Vec::new(),
            };
            self.slot(id).take();
            self.inodes -= 1;
            below.into_iter().for_each(|child| self.unname(child, None));
        }
    }

    /// Looks again at an inode that was open when it lost its last name.
    pub(super) fn closed(&mut self, id: Id) {
        self.loose.push(id);
    }

    /// A hash of everything that can be seen.
    pub(super) fn hash(&self) -> Hash {
        let mut hash = Hash::default();
        self.all().for_each(|(id, inode)| hash.merge(inode.hash(id)));
        hash
    }

    /// A hash of everything that can be seen but the times.
    pub(super) fn hash_without_times(&self) -> Hash {
        let mut hash = Hash::default();
        self.all().for_each(|(id, inode)| hash.merge(inode.hash_of(id, false)));
        hash
    }

    fn set_entry(&mut self, link: &Link, time: Time) {
        if self.directory(link.directory).is_none() {
            return;
        }
        let target = link.id.filter(|id| self.inode(*id).is_some());
        let target_is_directory = target.is_some_and(|id| self.directory(id).is_some());
        if let Some(id) = target
            && let Some((parent, name)) = self.directory(id).and_then(|directory| directory.home.clone())
            && (parent, &name) != (link.directory, &link.name)
            && self.directory(parent).is_some_and(|directory| directory.entries.get(&name) == Some(&id))
        {
            self.set_entry(&Link { directory: parent, name, id: None }, time);
        }
        let old = self.directory(link.directory).and_then(|directory| directory.entries.get(&link.name).copied());
        if old == target {
            return;
        }
        let old_is_directory = old.is_some_and(|id| self.directory(id).is_some());
        self.change(link.directory, time, |inode| {
            inode.mtime = time;
            if let Body::Directory(directory) = &mut inode.body {
                directory.directories += u64::from(target_is_directory);
                directory.directories -= u64::from(old_is_directory);
                let entries = Arc::make_mut(&mut directory.entries);
                match target {
                    Some(id) => entries.insert(link.name.clone(), id),
                    None => entries.remove(&link.name),
                };
            }
        });
        if let Some(id) = old {
            self.unname(id, Some(time));
        }
        if let Some(id) = target {
            self.change(id, time, |inode| {
                inode.names += 1;
                if let Body::Directory(directory) = &mut inode.body {
                    directory.home = Some((link.directory, link.name.clone()));
                }
            });
        }
    }

    fn unname(&mut self, id: Id, time: Option<Time>) {
        if let Some(inode) = self.slot_mut(id) {
            inode.names -= 1;
            inode.ctime = time.unwrap_or(inode.ctime);
            if inode.names == 0 {
                self.loose.push(id);
            }
        }
    }

    fn change(&mut self, id: Id, time: Time, how: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.slot_mut(id) {
            inode.ctime = time;
            how(inode);
        }
    }

    fn change_content(&mut self, id: Id, time: Time, how: impl FnOnce(&mut Content)) {
        self.change_pages(id, how);
        self.change(id, time, |inode| inode.mtime = time);
    }

    fn change_pages(&mut self, id: Id, how: impl FnOnce(&mut Content)) {
        if let Some(inode) = self.slot_mut(id)
            && let Body::File(content) = &mut inode.body
        {
            let before = content.allocated();
            how(content);
            let after = content.allocated();
            self.pages = self.pages + after - before;
        }
    }

    fn insert(&mut self, id: Id, inode: Arc<Inode>) {
        *self.slot(id) = Some(inode);
        self.inodes += 1;
    }

    fn slot(&mut self, id: Id) -> &mut Option<Arc<Inode>> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = id as usize / FAN;
        while chunks.len() <= chunk {
            chunks.push(Arc::default());
        }
        &mut Arc::make_mut(&mut chunks[chunk])[id as usize % FAN]
    }

    fn slot_mut(&mut self, id: Id) -> Option<&mut Inode> {
        self.inode(id)?;
        let inode = Arc::make_mut(self.slot(id).as_mut()?);
        inode.hash.take();
        Some(inode)
    }
}

impl Inode {
    /// An inode without a name.
    pub(super) fn new(body: Body, number: u64, mode: u32, owner: (u32, u32), time: Time) -> Self {
        let (uid, gid) = owner;
        let (xattrs, mark, hash) = (Arc::default(), None, OnceLock::new());
        Self { body, number, mode, uid, gid, mtime: time, ctime: time, names: 0, xattrs, mark, hash }
    }

    fn hash(&self, id: Id) -> Hash {
        *self.hash.get_or_init(|| self.hash_of(id, true))
    }

    fn hash_of(&self, id: Id, times: bool) -> Hash {
        let mut hash = Hash::default();
        let mark = self.mark.map_or(0, |mark| mark as u64 + 1);
        let numbers = [id, self.number, self.mode.into(), self.uid.into(), self.gid.into(), mark];
        numbers.iter().for_each(|number| hash.add(*number));
        for time in [self.mtime, self.ctime].iter().filter(|_| times) {
            hash.add(time.seconds as u64);
            hash.add(time.nanoseconds.into());
        }
        for (name, value) in self.xattrs.iter() {
            hash.add_bytes(name);
            hash.add_bytes(value);
        }
        match &self.body {
            Body::File(content) => hash.absorb(content.hash()),
            Body::Symlink(target) => hash.add_bytes(target),
            Body::Directory(directory) => {
                for (name, id) in directory.entries.iter() {
                    hash.add_bytes(name);
                    hash.add(*id);
                }
            }
        }
        hash
    }
}

impl Body {
    /// An empty directory.
    pub(super) fn directory() -> Self {
        Self::Directory(Directory { entries: Arc::default(), directories: 0, home: None })
    }
}

impl Change {
    /// Is it content or length of a file, rather than metadata?
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Size { .. })
    }

    /// The inode that it belongs to; nothing for entries of directories.
    pub(super) fn inode(&self) -> Option<Id> {
        match self {
            Self::Data { id, .. }
            | Self::Size { id, .. }
            | Self::Mode { id, .. }
            | Self::Owner { id, .. }
            | Self::Modified { id, .. }
            | Self::Mark { id, .. }
            | Self::Xattr { id, .. } => Some(*id),
            Self::Entries { .. } => None,
        }
    }

    /// The inodes and directories that it touches.
    pub(super) fn touched(&self) -> Vec<Id> {
        match self {
            Self::Entries { links, .. } => links.iter().map(|link| link.directory).collect(),
            other => other.inode().into_iter().collect(),
        }
    }

    /// How many bytes of data it holds.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Data { pieces, .. } => pieces.iter().map(|piece| (piece.end - piece.start) as u64).sum(),
            _ => 0,
        }
    }
}

impl Effect {
    /// In words; `name` says what an inode is called.
    pub(super) fn describe(&self, name: &dyn Fn(Id) -> String) -> String {
        match &self.change {
            Change::Data { id, pieces } => {
                let start = pieces.first().map_or(0, |piece| piece.index * PAGE + piece.start);
                format!("bytes {start}..{} of {}", start as u64 + self.change.bytes(), name(*id))
            }
            Change::Size { id, length, .. } => format!("length {length} of {}", name(*id)),
            Change::Mode { id, mode } => format!("mode {mode:o} of {}", name(*id)),
            Change::Owner { id, uid, gid } => format!("owner {uid}:{gid} of {}", name(*id)),
            Change::Modified { id, .. } => format!("time of {}", name(*id)),
            Change::Mark { id, .. } => format!("mark of {}", name(*id)),
            Change::Xattr { id, name: attribute, .. } => {
                format!("attribute {} of {}", attribute.escape_ascii(), name(*id))
            }
            Change::Entries { made, links } => {
                let entries: Vec<String> = links
                    .iter()
                    .map(|Link { directory, name: entry, id }| {
                        let parent = if *directory == ROOT { String::new() } else { format!("{}/", name(*directory)) };
                        let held = match (id, made) {
                            (None, _) => "nothing".into(),
                            (Some(id), Some(_)) => format!("new inode {id}"),
                            (Some(id), None) => format!("inode {id}"),
                        };
                        format!("{parent}{} holds {held}", entry.escape_ascii())
                    })
                    .collect();
                entries.join(", ")
            }
        }
    }
}

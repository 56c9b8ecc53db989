//! A tree as a value that tests compare.

use super::content::Content;
use super::disk::{Body, Disk, Id, ROOT};
use super::{STATE_NAME, SimVfs};
use crate::model::{Time, TreePath, Xattrs};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How many differences are listed.
const LISTED: usize = 12;

/// The root of the tree and everything below it, the state directory left out: types, modes, owners, contents, link
/// targets, extended attributes and hard-link groups, and the times if they were asked for. Directory by directory, by
/// name; the root is the first, with an empty path.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    nodes: Vec<(Box<[u8]>, SnapshotNode)>,
}

/// One entry of a [`Snapshot`].
#[derive(Clone, PartialEq, Eq)]
struct SnapshotNode {
    body: SnapshotBody,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Option<Time>,
    xattrs: Xattrs,
    /// Which entry (its place in the list) is the first name of the same file.
    leader: Option<usize>,
}

/// What one path holds, and whose that is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// The path.
    pub path: String,
    /// Whose it is.
    pub side: Side,
    /// What it holds.
    pub text: String,
}

/// Which of two trees a path is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The one before.
    Old,
    /// The one after.
    New,
    /// Neither.
    Neither,
}

#[derive(Clone, PartialEq, Eq)]
enum SnapshotBody {
    File(Content),
    Directory,
    Symlink(Box<[u8]>),
}

impl Snapshot {
    /// What is not the same in `other`, for people to read; nothing if all is.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let (mine, theirs) = (self.lines(), other.lines());
        let paths: std::collections::BTreeSet<_> = mine.keys().chain(theirs.keys()).collect();
        let mut lines = Vec::new();
        for path in paths {
            match (mine.get(path), theirs.get(path)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => lines.push(format!("{path}: {a} | {b}")),
                (Some(a), None) => lines.push(format!("{path}: {a} | missing")),
                (None, Some(b)) => lines.push(format!("{path}: missing | {b}")),
                (None, None) => {}
            }
        }
        let more = lines.len().saturating_sub(LISTED);
        lines.truncate(LISTED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Some(lines.join("\n"))
    }

    /// Of every path where this, `old` and `new` are not all the same: whose it is.
    pub fn between(&self, old: &Self, new: &Self) -> Vec<Found> {
        if self == old && self == new {
            return Vec::new();
        }
        let (mine, old, new) = (self.lines(), old.lines(), new.lines());
        let paths: std::collections::BTreeSet<_> = mine.keys().chain(old.keys()).chain(new.keys()).collect();
        let missing = "missing".to_owned();
        let found = |path: &String| {
            let (here, old, new) = (mine.get(path), old.get(path), new.get(path));
            let side = match (here == old, here == new) {
                (true, true) => return None,
                (true, false) => Side::Old,
                (false, true) => Side::New,
                (false, false) => Side::Neither,
            };
            Some(Found { path: path.clone(), side, text: here.unwrap_or(&missing).clone() })
        };
        paths.into_iter().filter_map(found).collect()
    }

    /// Does every file and link hold what it does in one of these, and stand nothing where neither has anything?
    pub fn holds_only(&self, old: &Self, new: &Self) -> bool {
        let body = |of: &Self, path: &[u8]| {
            of.nodes.binary_search_by(|(known, _)| order(known, path)).ok().map(|at| of.nodes[at].1.body.clone())
        };
        self.nodes
            .iter()
            .all(|(path, node)| [old, new].iter().any(|of| body(of, path).is_some_and(|body| body == node.body)))
    }

    /// The paths below the root, as text.
    pub fn paths(&self) -> Vec<String> {
        let below = self.nodes.iter().filter(|(path, _)| !path.is_empty());
        below.map(|(path, _)| path.escape_ascii().to_string()).collect()
    }

    fn lines(&self) -> BTreeMap<String, String> {
        let name = |path: &[u8]| if path.is_empty() { ".".to_owned() } else { path.escape_ascii().to_string() };
        self.nodes.iter().map(|(path, node)| (name(path), self.line(node))).collect()
    }

    fn line(&self, node: &SnapshotNode) -> String {
        let mut line = match &node.body {
            SnapshotBody::Directory => "directory".to_owned(),
            SnapshotBody::Symlink(target) => format!("link to {}", target.escape_ascii()),
            SnapshotBody::File(content) => {
                let bytes = content.to_vec();
                let shown = &bytes[..bytes.len().min(24)];
                let readable = shown.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
                let shown = if readable { format!(" \"{}\"", shown.escape_ascii()) } else { String::new() };
                format!("file of {} bytes{shown} (hash {:032x})", bytes.len(), content.hash().value())
            }
        };
        let _ = write!(line, " {:o} {}:{}", node.mode, node.uid, node.gid);
        if let Some(time) = node.mtime {
            let _ = write!(line, " at {}.{:09}", time.seconds, time.nanoseconds);
        }
        for (name, value) in &node.xattrs {
            let _ = write!(line, " {}={}", name.escape_ascii(), value.escape_ascii());
        }
        if let Some((path, _)) = node.leader.and_then(|leader| self.nodes.get(leader)) {
            let _ = write!(line, " same file as {}", path.escape_ascii());
        }
        line
    }
}

/// The order in which a tree is walked: a directory before what is in it, names as bytes.
fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.lines()).finish()
    }
}

impl SimVfs {
    /// The tree as it can be seen now, without times.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(false)
    }

    /// The tree as it can be seen now, with the time of last modification of every entry.
    pub fn snapshot_with_times(&self) -> Snapshot {
        self.snapshot_of(true)
    }

    /// A hash of everything that can be seen now but the times, inode numbers and the state directory included.
    pub fn hash_without_times(&self) -> u128 {
        self.state().live.hash_without_times().value()
    }

    /// Every path below the state directory, sorted.
    pub fn state_listing(&self) -> Vec<String> {
        let state = self.state();
        let root = state.live.directory(ROOT).and_then(|root| root.entries.get(STATE_NAME)).copied();
        let mut found = Vec::new();
        if let Some(id) = root {
            walk(&state.live, id, &mut Vec::new(), &mut |path, _| found.push(path.escape_ascii().to_string()));
        }
        found.sort();
        found
    }

    fn snapshot_of(&self, times: bool) -> Snapshot {
        let disk = self.state().live.clone();
        let mut nodes: Vec<(Box<[u8]>, SnapshotNode)> = Vec::new();
        let mut leaders: BTreeMap<Id, usize> = BTreeMap::new();
        let mut visit = |path: &[u8], id| {
            let Some(inode) = disk.inode(id) else { return };
            let several = inode.names > 1 && !matches!(inode.body, Body::Directory(_));
            let first = several.then(|| *leaders.entry(id).or_insert(nodes.len()));
            let recorded = inode.xattrs.iter().filter(|(name, _)| super::calls::is_recorded(name));
            let xattrs = recorded.map(|(name, value)| (name.clone(), value.clone())).collect();
            nodes.push((
                path.into(),
                SnapshotNode {
                    body: match &inode.body {
                        Body::File(content) => SnapshotBody::File(content.clone()),
                        Body::Directory(_) => SnapshotBody::Directory,
                        Body::Symlink(target) => SnapshotBody::Symlink(target[..].into()),
                    },
                    mode: inode.mode,
                    uid: inode.uid,
                    gid: inode.gid,
                    mtime: times.then_some(inode.mtime),
                    xattrs,
                    leader: first.filter(|first| *first != nodes.len()),
                },
            ));
        };
        visit(&[], ROOT);
        walk(&disk, ROOT, &mut Vec::new(), &mut visit);
        Snapshot { nodes }
    }
}

/// Visits everything below a directory, a directory before what is in it; the state directory is left out.
fn walk(disk: &Disk, directory: Id, path: &mut Vec<u8>, visit: &mut dyn FnMut(&[u8], Id)) {
    let Some(entries) = disk.directory(directory).map(|directory| &directory.entries) else { return };
    let before = path.len();
    for (name, id) in entries.iter() {
        if directory == ROOT && name[..] == *STATE_NAME {
            continue;
        }
        if before > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        visit(path, *id);
        walk(disk, *id, path, visit);
        path.truncate(before);
    }
}

/// The place of a path of a test, which is known to be one.
#[allow(clippy::expect_used, reason = "the path is a literal of a test")]
pub(super) fn place(path: &str) -> crate::vfs::Place {
    crate::vfs::Place::tree(&TreePath::parse(path).expect("a path of a test"))
}

//! A tree as it is, read without any code of the program.

use super::at;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Everything that counts of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    mode: u32,
    owner: (u32, u32),
    time: Option<(i64, i64)>,
    length: usize,
    content: u64,
    attributes: Vec<(OsString, Vec<u8>)>,
    /// The first name of the same file, if it has several.
    linked: Option<PathBuf>,
}

/// A tree by its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Node>);

impl Snapshot {
    /// Reads a tree, its state directory left out. Times count if the policy of the tree says so.
    pub fn of(root: &Path, times: bool) -> Result<Self, String> {
        let (mut nodes, mut groups, mut left) = (BTreeMap::new(), BTreeMap::new(), vec![PathBuf::new()]);
        while let Some(path) = left.pop() {
            let full = root.join(&path);
            let metadata = fs::symlink_metadata(&full).map_err(at(&full))?;
            let content = if metadata.is_symlink() {
                fs::read_link(&full).map_err(at(&full))?.into_os_string().into_vec()
            } else if metadata.is_dir() {
                for entry in fs::read_dir(&full).map_err(at(&full))? {
                    let name = entry.map_err(at(&full))?.file_name();
                    if !(path.as_os_str().is_empty() && name == ".surefoot") {
                        left.push(path.join(name));
                    }
                }
                Vec::new()
            } else {
                fs::read(&full).map_err(at(&full))?
            };
            let mut hasher = DefaultHasher::new();
            hasher.write(&content);
            if metadata.is_file() && metadata.nlink() > 1 {
                groups.entry(metadata.ino()).or_insert_with(Vec::new).push(path.clone());
            }
            let node = Node {
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                time: times.then(|| (metadata.mtime(), metadata.mtime_nsec())),
                length: content.len(),
                content: hasher.finish(),
                attributes: attributes(&full)?,
                linked: None,
            };
            nodes.insert(path, node);
        }
        // Links from elsewhere (from slots, for example) are nobody's business.
        for mut group in groups.into_values().filter(|group| group.len() > 1) {
            group.sort();
            for path in &group {
                if let Some(node) = nodes.get_mut(path) {
                    node.linked = group.first().cloned();
                }
            }
        }
        Ok(Self(nodes))
    }

    /// How many paths there are, the root among them.
    pub fn paths(&self) -> usize {
        self.0.len()
    }

    /// What differs, in a few words.
    pub fn difference(&self, other: &Self) -> String {
        let all: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing: Vec<_> = all.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path)).collect();
        let mut out = format!("{} paths differ", differing.len());
        for path in differing.iter().take(3) {
            out += &format!("; {}: {:?} is not {:?}", path.display(), self.0.get(*path), other.0.get(*path));
        }
        out
    }
}

/// The attributes of users; those of the system are not for everybody to set.
fn attributes(path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, String> {
    let text = |error: rustix::io::Errno| format!("attributes of {}: {error}", path.display());
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).map_err(text)?;
    let mut out = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).map_err(text)?;
        value.truncate(length);
        out.push((name.to_owned(), value));
    }
    out.sort();
    Ok(out)
}

//! A copy of some paths of a tree, on any file system.

use crate::limits;
use crate::model::{Entry, Kind, Manifest, Node, TreePath};
use crate::vfs::{IoError, Place, Vfs};
use std::collections::BTreeSet;

/// Adds what these paths cannot be without: the other names of hard-linked files, and the directories on the way.
pub fn add_what_belongs(paths: &mut BTreeSet<TreePath>, tree: &Manifest) {
    let mut leaders = BTreeSet::new();
    for Entry { path, node } in tree.entries() {
        if let Some(leader) = node.leader.as_ref().filter(|leader| paths.contains(path) || paths.contains(*leader)) {
            leaders.insert(leader.clone());
        }
    }
    for Entry { path, node } in tree.entries() {
        if leaders.contains(path) || node.leader.as_ref().is_some_and(|leader| leaders.contains(leader)) {
            paths.insert(path.clone());
        }
    }
    let above: Vec<TreePath> =
        paths.iter().flat_map(|path| std::iter::successors(path.parent(), TreePath::parent)).collect();
    paths.extend(above);
    paths.insert(TreePath::root());
}

/// Makes what `tree` holds at these paths (see [`add_what_belongs`]) in an empty tree; `content` makes each file, which
/// is dressed afterwards.
pub fn copy<V: Vfs>(
    to: &V,
    tree: &Manifest,
    paths: &BTreeSet<TreePath>,
    content: &dyn Fn(&Place) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut directories = Vec::new();
    for path in paths {
        let Some(node) = tree.get(path) else { continue };
        let at = Place::tree(path);
        match (&node.kind, &node.leader) {
            (Kind::Directory, _) => {
                if !path.is_root() {
                    to.mkdir(&at)?;
                }
                directories.push((at, node));
            }
            (Kind::Symlink { target }, _) => {
                to.symlink(target, &at)?;
                dress(to, &at, node, tree)?;
            }
            (Kind::File { .. }, Some(leader)) => to.link(&Place::tree(leader), &at)?,
            (Kind::File { .. }, None) => {
                content(&at)?;
                dress(to, &at, node, tree)?;
            }
        }
    }
    // Last, and from the leaves up: a mode may forbid writing, and writing changes the time.
    for (at, node) in directories.into_iter().rev() {
        dress(to, &at, node, tree)?;
    }
    Ok(())
}

/// Copies the bytes of an open file into an empty one. Stretches of zeros become holes.
pub fn copy_bytes<A: Vfs, B: Vfs>(from: (&A, &A::File), to: (&B, &B::File)) -> Result<(), IoError> {
    let mut buffer = vec![0; limits::COPY_BUFFER];
    let mut offset = 0;
    loop {
        let length = from.0.read_at(from.1, offset, &mut buffer)?;
        if length == 0 {
            return to.0.set_len(to.1, offset);
        }
        if buffer[..length].iter().any(|byte| *byte != 0) {
            to.0.write_at(to.1, offset, &buffer[..length])?;
        }
        offset += length as u64;
    }
}

/// Gives an object its metadata: owner first, since that clears bits of the mode; attributes before the mode, which may
/// forbid them, and from the last, since an ACL sets the mode as well; time last.
fn dress<V: Vfs>(to: &V, at: &Place, node: &Node, tree: &Manifest) -> Result<(), IoError> {
    let metadata = &node.metadata;
    if tree.policy().owner {
        to.set_owner(at, metadata.uid, metadata.gid)?;
    }
    for (name, value) in metadata.xattrs.iter().rev() {
        to.set_xattr(at, name, Some(value))?;
    }
    if !matches!(node.kind, Kind::Symlink { .. }) {
        to.set_mode(at, metadata.mode)?;
    }
    to.set_mtime(at, metadata.mtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Policy;
    use crate::tree::{Walk, scan};
    use crate::vfs::sim::Options;
    use crate::vfs::{Access, SimVfs};

    /// Once a sparse file was copied with all of its zeros, for which there may be no room.
    #[test]
    fn holes_are_not_filled() {
        let (from, to) = (SimVfs::new(), SimVfs::with(Options { trace: true, ..Options::default() }));
        let mut bytes = vec![0; 5 * limits::COPY_BUFFER + 7];
        bytes[3 * limits::COPY_BUFFER] = 1;
        from.write_file("a", &bytes).write_file("b", "");
        for name in ["a", "b"] {
            let at = Place::tree(&TreePath::parse(name).unwrap());
            copy_bytes((&from, &from.open(&at, Access::Read).unwrap()), (&to, &to.create(&at).unwrap())).unwrap();
        }
        let writes = to.trace().iter().filter(|call| call.text.starts_with("write ")).count();
        assert!(to.read_file("a") == Some(bytes) && to.read_file("b") == Some(Vec::new()), "the same bytes");
        assert_eq!(writes, 1);
    }

    /// A user who is not root could not build a package of what its owner may not write to, if it had attributes: the copy
    /// on which the package is proven got its mode first.
    #[test]
    fn what_its_owner_may_not_write_to_is_copied_with_its_attributes() {
        let disk = || SimVfs::with(Options { user: 1000, ..Options::default() });
        let (from, to) = (disk(), disk());
        from.write_file("d/a", "a").attribute("d/a", "user.a", "1").attribute("d/a", "user.b", "2").chmod("d/a", 0o444);
        from.attribute("d", "user.d", "3").chmod("d", 0o555);
        let how = Walk { policy: Policy { owner: true, mtime: true }, state_inside: true };
        let tree = scan(&from, &how, &|_, _| ()).unwrap();
        let paths = tree.entries().iter().map(|entry| entry.path.clone()).collect();
        let content = |at: &Place| copy_bytes((&from, &from.open(at, Access::Read)?), (&to, &to.create(at)?));
        copy(&to, &tree, &paths, &content).unwrap();
        assert_eq!(to.snapshot_with_times().difference(&from.snapshot_with_times()), None);
    }
}

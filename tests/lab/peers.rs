//! Other ways to update a tree, for the record.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const FROM: &str = "SUREFOOT_LAB_FROM";
pub(super) const TO: &str = "SUREFOOT_LAB_TO";

/// The updater that everybody writes first: each file under a temporary name, then renamed over the old one.
#[test]
#[ignore = "a process of the lab"]
fn naive_updater() {
    let (Some(from), Some(to)) = (std::env::var_os(FROM), std::env::var_os(TO)) else { return };
    update(Path::new(&from), Path::new(&to), Path::new("")).unwrap();
}

fn update(from: &Path, to: &Path, below: &Path) -> io::Result<()> {
    let wanted = names(&from.join(below))?;
    for name in names(&to.join(below))?.difference(&wanted) {
        remove(&to.join(below).join(name))?;
    }
    for name in &wanted {
        let path = below.join(name);
        let (source, target) = (from.join(&path), to.join(&path));
        let metadata = fs::symlink_metadata(&source)?;
        if fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir() != metadata.is_dir()) {
            remove(&target)?;
        }
        if metadata.is_dir() {
            if !target.is_dir() {
                fs::create_dir(&target)?;
            }
            update(from, to, &path)?;
            adopt(&source, &target)?;
        } else if fs::symlink_metadata(&target).is_err() || !same(&source, &target)? {
            let temporary = to.join(below).join(".temporary");
            remove(&temporary)?;
            if metadata.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&source)?, &temporary)?;
            } else {
                fs::write(&temporary, fs::read(&source)?)?;
            }
            adopt(&source, &temporary)?;
            fs::rename(&temporary, &target)?;
        } else {
            adopt(&source, &target)?;
        }
    }
    if below.as_os_str().is_empty() { adopt(from, to) } else { Ok(()) }
}

fn names(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn same(source: &Path, target: &Path) -> io::Result<bool> {
    let kinds = [fs::symlink_metadata(source)?, fs::symlink_metadata(target)?].map(|metadata| metadata.file_type());
    if kinds[0] != kinds[1] {
        return Ok(false);
    }
    if kinds[0].is_symlink() {
        return Ok(fs::read_link(source)? == fs::read_link(target)?);
    }
    Ok(fs::read(source)? == fs::read(target)?)
}

/// Mode, owner, attribute and time of the source.
fn adopt(source: &Path, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(source)?;
    std::os::unix::fs::lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        fs::set_permissions(target, metadata.permissions())?;
        let mut value = [0_u8; 256];
        if let Ok(length) = rustix::fs::lgetxattr(source, "user.lab", &mut value[..]) {
            rustix::fs::lsetxattr(target, "user.lab", &value[..length], rustix::fs::XattrFlags::empty())?;
        }
    }
    let time = rustix::fs::Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, target, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

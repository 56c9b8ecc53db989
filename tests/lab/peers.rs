//! Other ways to update a tree, for the record.

use super::workload::Prepared;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use surefoot::cli::lab::{Hunt, Orders, Snapshot, Start, run};
use surefoot::crashtest::blockdev::Budget;

const FROM: &str = "SUREFOOT_LAB_FROM";
const TO: &str = "SUREFOOT_LAB_TO";
/// Each call that changes something is held up so long.
const HELD_UP: &str = "inject=%file,write,copy_file_range:delay_exit=400";

/// Records what a peer does and cuts it until the time is over: how many states there were, how many of them were
/// neither old nor new, and how many were not new after it had run once more.
pub(super) fn hunt(orders: Orders, prepared: &Prepared, peer: &str) -> Result<[u64; 3], String> {
    let (update, fs, seed) = (prepared.update.clone(), orders.file_system, orders.seed);
    let mut hunt = Hunt::new(orders)?;
    let start = hunt.start(&update, Start::Plain)?;
    let command = command(peer, &prepared.new_tree, &hunt.machine.root());
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let traced =
        [&["-f", "-qq", "-o", "/dev/null", "-e", "trace=%file,write,copy_file_range", "-e", HELD_UP], &words[..]];
    let mut counts = [0; 3];
    for round in 0.. {
        if hunt.is_over() {
            break;
        }
        let recording = hunt.record(&start, seed + round, |_| run("strace", &traced.concat()).map(drop))?;
        let mut seen = HashSet::new();
        for cut in recording.cuts(&Budget { seed: seed + round, most: 120 }) {
            let (image, hash) = recording.image(&cut);
            if hunt.is_over() || !seen.insert(hash) {
                continue;
            }
            hunt.machine.load(image)?;
            hunt.machine.mount(fs)?;
            let tree = || Snapshot::of(&hunt.machine.root(), update.times);
            let whole = tree().is_ok_and(|tree| tree == update.old || tree == update.new);
            // It may fail on what it finds; then the tree is what counts.
            let _ = run(words[0], &words[1..]);
            let repaired = tree().is_ok_and(|tree| tree == update.new);
            counts = [counts[0] + 1, counts[1] + u64::from(!whole), counts[2] + u64::from(!repaired)];
            hunt.machine.unmount()?;
        }
    }
    Ok(counts)
}

/// The command of a peer.
fn command(peer: &str, new_tree: &Path, root: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    if peer == "rsync" {
        return vec!["rsync".into(), "-aHX".into(), "--delete".into(), format!("{}/", text(new_tree)), text(root)];
    }
    let program = std::env::current_exe().unwrap();
    let paths = [format!("{FROM}={}", text(new_tree)), format!("{TO}={}", text(root))];
    let arguments = ["lab::peers::naive_updater", "--exact", "--ignored", "--nocapture"].map(str::to_owned);
    [&["env".to_owned()][..], &paths, &[text(&program)], &arguments].concat()
}

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

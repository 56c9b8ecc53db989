//! What goes wrong on real file systems without a loss of power: no space, failing disks, a read-only mount, immutable
//! directories, strangers in the tree. Each ends old, new, or with a stated stop; and once the fault is gone, recovery
//! ends old or new.

use super::SUREFOOT;
use super::workload::Prepared;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use surefoot::cli::lab::{Hunt, Machine, Orders, Snapshot, Start, Update, about, run};
use surefoot::crashtest::blockdev::Fault;

/// How often each kind of end was seen, by fault.
pub(super) type Ends = BTreeMap<String, u64>;

/// The faults, by name.
pub(super) const FAULTS: [&str; 8] = [
    "full before",
    "filled meanwhile",
    "one write fails",
    "writes fail from then on",
    "a flush fails",
    "turned read-only",
    "directory made immutable",
    "strangers write",
];

/// What a command told.
struct Told {
    exit: Option<i32>,
    /// The code of its error, empty if there was none.
    code: String,
    text: String,
}

impl Told {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let error = lines.rfind(|line| line["type"] == "error");
        let code = error.map(|error| error["code"].as_str().unwrap_or_default().to_owned()).unwrap_or_default();
        Self { exit: output.status.code(), code, text }
    }

    /// Done, or a stop with a code that says so.
    fn is_stated(&self) -> bool {
        match self.exit {
            Some(0) => true,
            Some(1..=8) => !self.code.is_empty() && self.code != "internal.unexpected",
            _ => false,
        }
    }

    /// It said that the tree is as it was.
    fn says_old(&self) -> bool {
        matches!(self.exit, Some(1..=7))
    }

    fn end(&self) -> String {
        if self.exit == Some(0) { "done".to_owned() } else { self.code.clone() }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}: {}", self.exit, self.text.trim())
    }
}

/// Tries every fault many times; the error is the first that ends as it must not.
pub(super) fn hunt(orders: Orders, prepared: &Prepared) -> Result<Ends, String> {
    let mut ends = Ends::new();
    let (fs, seed) = (orders.file_system, orders.seed);
    let mut hunt = Hunt::new(orders)?;
    let image = hunt.start(&prepared.update, Start::Old)?;
    let mut trial = Trial { hunt, prepared };
    for round in 0..u64::MAX {
        let fault = FAULTS[(round % FAULTS.len() as u64) as usize];
        if trial.hunt.is_over() && round >= FAULTS.len() as u64 * 2 {
            break;
        }
        let mut dice = Dice(seed ^ round << 32);
        trial.hunt.machine.load(image.clone())?;
        trial.hunt.machine.mount(fs)?;
        let end = trial.one(fault, &mut dice, round / FAULTS.len() as u64);
        let end = end.map_err(|error| format!("{}: {fault}, round {round}, seed {seed}: {error}", fs.name))?;
        trial.hunt.machine.unmount()?;
        *ends.entry(format!("{fault}: {end}")).or_default() += 1;
    }
    Ok(ends)
}

/// Numbers that look random and repeat with their seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// A worker that tries faults.
struct Trial<'a> {
    hunt: Hunt,
    prepared: &'a Prepared,
}

impl Trial<'_> {
    fn one(&mut self, fault: &str, dice: &mut Dice, turn: u64) -> Result<String, String> {
        let update = &*self.prepared.update;
        let machine = &self.hunt.machine;
        let (mount, root) = (machine.mount_point(), machine.root());
        let ballast = mount.join("ballast");
        // Anywhere in the whole of it.
        let (name, most) = HOLDS[dice.below(HOLDS.len() as u64) as usize];
        let call = (name, 1 + dice.below(most));
        let (told, lift) = match fault {
            // From nothing free to what is enough, in steps.
            "full before" => {
                fill(&ballast, 4096 * (turn * 7 % 250))?;
                (Told::of(apply(update, &root)), Lift::Remove(ballast))
            }
            "filled meanwhile" => {
                let but = 4096 * dice.below(8);
                let (told, ()) = apply_held(update, &root, call, || fill(&ballast, but))?;
                (told, Lift::Remove(ballast))
            }
            "one write fails" | "writes fail from then on" | "a flush fails" => {
                // Most of them before the last write there is.
                let most = 1 + dice.below(60);
                let number = dice.below(most);
                machine.disk.set_fault(match fault {
                    "one write fails" => Fault::Write(number),
                    "writes fail from then on" => Fault::WritesFrom(number),
                    _ => Fault::Flush(number / 8),
                });
                (Told::of(apply(update, &root)), Lift::Reboot)
            }
            "turned read-only" => (apply_held(update, &root, call, || give_up(machine))?.0, Lift::Reboot),
            "directory made immutable" => {
                let directory = root.join(["a-r/z", "a-r/gone", "swap", "chain"][dice.below(4) as usize]);
                // It may be gone by then.
                let mark = || Ok(run("chattr", &["+i", directory.to_str().unwrap()]).is_ok());
                let (told, marked) = apply_held(update, &root, call, mark)?;
                (told, if marked { Lift::Unmark(directory) } else { Lift::None })
            }
            _ => {
                let stranger = root.join(["a-r/gone/stranger", "a-r/z/stranger", "top"][dice.below(3) as usize]);
                let write = || {
                    Ok(fs::write(mount.join("stranger"), STRANGE).is_ok()
                        && fs::rename(mount.join("stranger"), &stranger).is_ok())
                };
                let (told, written) = apply_held(update, &root, call, write)?;
                if written && !holds(&mount, STRANGE.as_bytes())? {
                    return Err(format!("what a stranger wrote is gone after {told}"));
                }
                (told, Lift::Stranger(stranger))
            }
        };
        if !told.is_stated() {
            return Err(format!("no stated end: {told}"));
        }
        self.after(&told, lift)?;
        Ok(told.end())
    }

    /// The fault is lifted; recovery ends old or new, as was told, and the next update works.
    fn after(&mut self, told: &Told, lift: Lift) -> Result<(), String> {
        let (prepared, update) = (self.prepared, &*self.prepared.update);
        let (fs, machine) = (self.hunt.orders.file_system, &mut self.hunt.machine);
        let root = machine.root();
        let text = root.to_str().unwrap().to_owned();
        match lift {
            Lift::None => {}
            Lift::Remove(path) => {
                fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                // btrfs gives space back when it commits.
                run("sync", &["-f", machine.mount_point().to_str().unwrap()])?;
            }
            Lift::Reboot => {
                let image = machine.disk.image();
                machine.load(image)?;
                machine.mount(fs)?;
            }
            Lift::Unmark(path) => {
                // Wherever it was moved to.
                let mount = machine.mount_point();
                run("chattr", &["-f", "-R", "-i", mount.to_str().unwrap()])
                    .or_else(|_| run("chattr", &["-i", path.to_str().unwrap()]))?;
            }
            Lift::Stranger(path) => {
                if fs::read(&path).is_ok_and(|content| content == STRANGE.as_bytes()) {
                    fs::remove_file(&path).unwrap();
                    // Where something of ours had been, somebody has to decide which version it is.
                    if path.ends_with("top") {
                        let directory = prepared.new_tree.parent().unwrap();
                        let tree = if told.exit == Some(0) { "new" } else { "old" };
                        let from = directory.join(tree).join("top");
                        run("cp", &["-a", from.to_str().unwrap(), path.to_str().unwrap()])?;
                    }
                    let parent = path.parent().unwrap();
                    let from =
                        prepared.new_tree.parent().unwrap().join("old").join(parent.strip_prefix(&root).unwrap());
                    let new = prepared.new_tree.join(parent.strip_prefix(&root).unwrap());
                    let from = if told.exit == Some(0) || !from.exists() { new } else { from };
                    run("touch", &["-r", from.to_str().unwrap(), parent.to_str().unwrap()])?;
                }
            }
        }
        let recover = |rest: &[&str]| {
            let arguments = [&["recover"], rest].concat();
            Told::of(spawn(Command::new(SUREFOOT).args(about(&text, &arguments))))
        };
        let mut recovered = recover(&[]);
        if recovered.code == "apply.sync-failed" {
            machine.unmount()?;
            machine.reboot()?;
            machine.mount(fs)?;
            recovered = recover(&[]);
        }
        if recovered.exit != Some(0) {
            return Err(format!("after {told} recovery stops: {recovered}"));
        }
        let tree = Snapshot::of(&root, update.times)?;
        let (is_old, is_new) = (tree == update.old, tree == update.new);
        if !is_old && !is_new {
            let (old, new) = (tree.difference(&update.old), tree.difference(&update.new));
            return Err(format!("after {told} mixed: against old {old}; against new {new}"));
        }
        if (told.exit == Some(0) && !is_new) || (told.says_old() && !is_old) {
            return Err(format!("{told}, but the tree is {}", if is_old { "old" } else { "new" }));
        }
        let then = if is_old { Told::of(apply(update, &root)) } else { recover(&[]) };
        let tree = Snapshot::of(&root, update.times)?;
        if then.exit == Some(0) && tree == update.new { Ok(()) } else { Err(format!("and then {then}")) }
    }
}

/// The file system finds that it cannot go on, and turns read-only or shuts down, whoever has files open: ext4 has a
/// switch for it, the others see their disk fail.
fn give_up(machine: &Machine) -> Result<(), String> {
    let mount = machine.mount_point();
    match machine.error_switch() {
        Some(switch) => fs::write(&switch, "1").map_err(|error| format!("{}: {error}", switch.display()))?,
        None => {
            machine.disk.set_fault(Fault::WritesFrom(0));
            let _ = fs::write(mount.join("last"), "something that has to be written");
            let directory =
                rustix::fs::open(&mount, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let _ = directory.and_then(rustix::fs::syncfs);
        }
    }
    match fs::write(mount.join("none"), "") {
        Ok(()) => Err("the file system goes on".to_owned()),
        Err(_) => Ok(()),
    }
}

/// How a fault is lifted.
enum Lift {
    None,
    Remove(PathBuf),
    Reboot,
    Unmark(PathBuf),
    Stranger(PathBuf),
}

const STRANGE: &str = "written by somebody else, and to be kept\n";

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Begins to apply.
fn apply(update: &Update, root: &Path) -> Child {
    let package = update.package.to_str().unwrap();
    spawn(Command::new(SUREFOOT).args(about(root.to_str().unwrap(), &["apply", package, "--allow-unsigned"])))
}

/// Where a program is held: at one of so many of these calls.
const HOLDS: [(&str, u64); 8] = [
    ("renameat2", 50),
    ("renameat2", 50),
    ("pwrite64", 40),
    ("utimensat", 30),
    ("mkdirat", 3),
    ("unlinkat", 4),
    ("syncfs", 2),
    ("fdatasync", 1),
];

/// How long it is held there.
const HELD_MS: u64 = 200;

/// Applies, and is held at the call of this number while something else happens.
fn apply_held<T>(
    update: &Update,
    root: &Path,
    (call, number): (&str, u64),
    meanwhile: impl FnOnce() -> Result<T, String>,
) -> Result<(Told, T), String> {
    let package = update.package.to_str().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
    command.arg("-e").arg(format!("inject={call}:delay_enter={}:when={number}", HELD_MS * 1000));
    let mut child =
        spawn(command.arg(SUREFOOT).args(about(root.to_str().unwrap(), &["apply", package, "--allow-unsigned"])));
    wait_for_hold(&mut child);
    let answer = meanwhile();
    Ok((Told::of(child), answer?))
}

/// Waits until what is traced stands still, or has gone through.
fn wait_for_hold(tracer: &mut Child) {
    let children = format!("/proc/{0}/task/{0}/children", tracer.id());
    let mut still = 0;
    // Each call stops it for a moment; this one for longer.
    while still < 10 && tracer.try_wait().unwrap().is_none() {
        let child = fs::read_to_string(&children).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        still = if state == Some('t') { still + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes all space but so many bytes.
fn fill(path: &Path, but: u64) -> Result<(), String> {
    let file = fs::File::create(path).map_err(|error| error.to_string())?;
    let mut length = 0;
    // Ever smaller pieces: what is said to be free is not always to be had.
    let mut piece = 64 << 20;
    while piece >= 4096 {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), length, piece) {
            Ok(()) => length += piece,
            Err(_) => piece /= 2,
        }
    }
    file.set_len(length.saturating_sub(but)).map_err(|error| error.to_string())
}

/// Is there a file with this content below, wherever?
fn holds(directory: &Path, content: &[u8]) -> Result<bool, String> {
    for entry in fs::read_dir(directory).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let metadata = fs::symlink_metadata(&path).map_err(|error| error.to_string())?;
        let found = if metadata.is_dir() {
            holds(&path, content)?
        } else {
            metadata.is_file() && fs::read(&path).is_ok_and(|read| read == content)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

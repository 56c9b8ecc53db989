//! A machine whose disk is in memory: it boots, runs, loses its power and boots again, under this kernel.

use super::at;
use crate::crashtest::blockdev::{BLOCK, Device, Export, Image};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::{CString, OsStr};
use std::fs;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MEBIBYTE: u64 = 1 << 20;
/// The largest file system fits.
const LARGEST_MIB: u64 = 320;
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// Waits until the process `$1` is gone, or has ended but for threads that wait for the disk. Then what is mounted or
/// set up over the file `disk` of the folder `$2` goes, as far as it had come (in `/proc` that folder is called `$3`).
const WARDEN: &str = r#"trap '' INT TERM HUP
while grep -qs '^State:[[:space:]]*[^ZX[:space:]]' /proc/$1/status; do sleep 0.3; done
mount -t fusectl fusectl /sys/fs/fuse/connections
while read -r _ _ device _ path _; do
    [ "$path" = "$3/disk" ] && echo 1 > /sys/fs/fuse/connections/${device#*:}/abort
done < /proc/self/mountinfo
for device in /sys/block/loop*; do
    grep -qsxF "$2/disk" $device/loop/backing_file && losetup --detach /dev/${device##*/}
done
umount -l "$2/mount" "$2/disk"
rm -r "$2""#;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A file system of the lab: how it is made and mounted.
#[derive(Debug, PartialEq)]
pub struct FileSystem {
    /// What it is called here.
    pub name: &'static str,
    /// What the kernel calls it.
    pub kind: &'static str,
    /// The command that makes it; the words `DEVICE` and `SIZE` stand for these.
    format: &'static [&'static str],
    /// What it takes when it is empty.
    least_mib: u64,
    options: &'static str,
}

const EXT4: &[&str] = &[
    "mkfs.ext4",
    "-q",
    "-F",
    "-b",
    "4096",
    "-E",
    "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    "DEVICE",
    "SIZE",
];

/// All of them.
pub const FILE_SYSTEMS: [FileSystem; 4] = [
    FileSystem {
        name: "ext4-ordered",
        kind: "ext4",
        format: EXT4,
        least_mib: 64,
        options: "data=ordered,errors=remount-ro",
    },
    FileSystem {
        name: "ext4-writeback",
        kind: "ext4",
        format: EXT4,
        least_mib: 64,
        options: "data=writeback,noauto_da_alloc,errors=remount-ro",
    },
    FileSystem {
        name: "xfs",
        kind: "xfs",
        format: &["mkfs.xfs", "-q", "-f", "-K", "-d", "size=SIZE", "DEVICE"],
        least_mib: 300,
        options: "",
    },
    FileSystem {
        name: "btrfs",
        kind: "btrfs",
        format: &["mkfs.btrfs", "-q", "-f", "-K", "-b", "SIZE", "DEVICE"],
        least_mib: 128,
        options: "nodiscard",
    },
];

impl FileSystem {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FILE_SYSTEMS.iter().find(|fs| fs.name == name)
    }

    /// What this host lacks for it.
    pub fn missing(&self) -> Option<String> {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(self.kind)) {
            return Some(format!("the kernel has no {}", self.kind));
        }
        let tools = [self.format[0], if self.kind == "btrfs" { "btrfs" } else { "mkfs.ext4" }];
        tools.iter().find(|tool| !is_program(tool)).map(|tool| format!("{tool} is not installed"))
    }
}

/// Is there a program of this name?
pub fn is_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|path| path.join(name).is_file()))
}

/// Runs a program that must succeed; gives what it says.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String, String> {
    let program = program.as_ref();
    let name = program.display();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        return Err(format!("{name} {}: {}: {text}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The machine. It lives in a mount namespace of its own, and so does the thread that made it, from then on.
pub struct Machine {
    /// Its disk.
    pub disk: Device,
    /// A directory of its own, on the host.
    scratch: Scratch,
    room_mib: u64,
    export: Option<Export>,
    /// Where the kernel is told that nobody serves the disk any more.
    connection: PathBuf,
    device: String,
    /// Cleans up if this process is killed: the kernel would wait for ever for a disk that nobody serves.
    warden: Option<Child>,
    mounted: Option<&'static FileSystem>,
    boots: u64,
    /// It does not leave its thread.
    here: PhantomData<*const ()>,
}

impl Machine {
    /// A machine whose file systems have so much more room than they take when they are empty. The error says what the
    /// host lacks.
    pub fn new(room_mib: u64) -> Result<Self, String> {
        leave_namespace().map_err(|error| format!("no mount namespace of its own: {error}"))?;
        let scratch = Scratch::new()?;
        let folder = scratch.0.to_str().ok_or("a path that is no text")?;
        let mut warden = Command::new("sh");
        warden.args(["-c", WARDEN, "warden", &std::process::id().to_string(), folder, &folder.replace(' ', "\\040")]);
        let warden = warden.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let warden = Some(warden.map_err(|error| format!("sh: {error}"))?);
        let file = scratch.0.join("disk");
        fs::write(&file, "").map_err(at(&file))?;
        let mount_point = scratch.0.join("mount");
        fs::create_dir(&mount_point).map_err(at(&mount_point))?;
        let boot_id = scratch.0.join("boot_id");
        fs::write(&boot_id, "").map_err(at(&boot_id))?;
        rustix::mount::mount_bind(&boot_id, BOOT_ID)
            .map_err(|error| format!("cannot mount over {BOOT_ID}: {error}"))?;
        let disk = Device::new((LARGEST_MIB + room_mib) * (MEBIBYTE / BLOCK as u64));
        let export = Export::new(&disk, &file).map_err(|error| format!("no FUSE: {error}"))?;
        let path = file.to_str().ok_or("a path that is no text")?;
        let device = run("losetup", &["--find", "--show", "--sector-size", "4096", path])?;
        let connection = connection(&file)?;
        let mut machine = Self {
            disk,
            scratch,
            room_mib,
            export: Some(export),
            connection,
            device,
            warden,
            mounted: None,
            boots: 0,
            here: PhantomData,
        };
        machine.reboot()?;
        Ok(machine)
    }

    /// Where the file system is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.scratch.0.join("mount")
    }

    /// The tree that is updated.
    pub fn root(&self) -> PathBuf {
        self.mount_point().join("tree")
    }

    /// An empty file system.
    pub fn format(&mut self, fs: &'static FileSystem) -> Result<Image, String> {
        self.unmount()?;
        self.disk.load(Image::default());
        let size = format!("{}m", fs.least_mib + self.room_mib);
        let words: Vec<String> =
            fs.format.iter().map(|word| word.replace("DEVICE", &self.device).replace("SIZE", &size)).collect();
        run(fs.format[0], &words.iter().skip(1).map(String::as_str).collect::<Vec<_>>())?;
        run("blockdev", &["--flushbufs", &self.device])?;
        let mut image = self.disk.image();
        image.settle();
        Ok(image)
    }

    /// Puts this on the disk, with the power off.
    pub fn load(&mut self, image: Image) -> Result<(), String> {
        self.unmount()?;
        self.disk.load(image);
        self.reboot()
    }

    /// The kernel takes the disk as it is: the journal is replayed.
    pub fn mount(&mut self, fs: &'static FileSystem) -> Result<(), String> {
        if self.mounted.is_some() {
            return Err("it is mounted".to_owned());
        }
        let before = self.disk.served().0;
        let data = CString::new(fs.options).map_err(|error| error.to_string())?;
        let mounted = rustix::mount::mount(
            self.device.as_str(),
            self.mount_point(),
            fs.kind,
            MountFlags::NOATIME,
            data.as_c_str(),
        );
        mounted.map_err(|error| format!("cannot be mounted: {error}"))?;
        self.mounted = Some(fs);
        if self.disk.served().0 == before {
            return Err(format!("what was mounted was not read from the disk: who holds {}?", self.device));
        }
        Ok(())
    }

    /// Everything is written and let go of.
    pub fn unmount(&mut self) -> Result<(), String> {
        let Some(fs) = self.mounted else { return Ok(()) };
        for attempt in 0.. {
            match rustix::mount::unmount(self.mount_point(), UnmountFlags::empty()) {
                Ok(()) => break,
                // Whatever another thread starts has what is open here until it is a program of its own.
                Err(rustix::io::Errno::BUSY) if attempt < 3000 => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => {
                    let holders = holders(&self.mount_point()).join(", ");
                    return Err(format!("cannot be unmounted: {error}; held by: {holders}"));
                }
            }
        }
        self.mounted = None;
        if fs.kind == "btrfs" {
            run("btrfs", &["device", "scan", "--forget", &self.device])?;
        }
        Ok(())
    }

    /// A boot of its own, as far as anybody can tell.
    pub fn reboot(&mut self) -> Result<(), String> {
        self.boots += 1;
        // Machines of one process differ by their devices.
        let machine = self.device.bytes().fold(std::process::id(), |id, byte| id.rotate_left(5) ^ u32::from(byte));
        let id = format!("{machine:08x}-0000-4000-8000-{:012x}\n", self.boots);
        let path = self.scratch.0.join("boot_id");
        fs::write(&path, id).map_err(at(&path))
    }

    /// A place for what does not belong on the disk.
    pub fn scratch(&self) -> &Path {
        &self.scratch.0
    }
}

/// Which processes have something open below a folder, as far as that can be seen.
fn holders(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let links = ["cwd", "root", "exe"].into_iter().map(|name| process.join(name)).chain(open);
        if let Some(link) = links.filter_map(|link| fs::read_link(link).ok()).find(|to| to.starts_with(folder)) {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            out.push(format!("{} ({}): {}", process.display(), command.trim(), link.display()));
        }
    }
    out
}

impl Machine {
    /// Where ext4 is told that it found an error; it then turns read-only.
    pub fn error_switch(&self) -> Option<PathBuf> {
        let name = Path::new(&self.device).file_name()?.to_str()?;
        let path = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        path.exists().then_some(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            tracing::warn!("{error}");
            // What is still mounted sees a disk that is gone; otherwise everybody waits for it.
            let _ = fs::write(&self.connection, "1");
            let _ = rustix::mount::unmount(self.mount_point(), UnmountFlags::DETACH);
        }
        if let Some(mut warden) = self.warden.take() {
            let _ = warden.kill();
            let _ = warden.wait();
        }
        let _ = run("losetup", &["--detach", &self.device]);
        drop(self.export.take());
        let _ = rustix::mount::unmount(BOOT_ID, UnmountFlags::empty());
    }
}

/// Why the lab cannot run on this host.
pub fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for path in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(path).exists() {
            return Some(format!("there is no {path}"));
        }
    }
    let tools = ["losetup", "blockdev", "strace"];
    tools.iter().find(|tool| !is_program(tool)).map(|tool| format!("{tool} is not installed"))
}

/// What the connection of a mounted FUSE file is told to be aborted by.
fn connection(file: &Path) -> Result<PathBuf, String> {
    let number = fs::metadata(file).map_err(at(file))?.dev();
    let path = Path::new(CONNECTIONS).join(number.to_string()).join("abort");
    if !path.exists() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("fusectl", CONNECTIONS, "fusectl", flags, None)
            .map_err(|error| format!("cannot mount {CONNECTIONS}: {error}"))?;
    }
    Ok(path)
}

/// This thread, and what it starts, sees mounts of its own from now on.
fn leave_namespace() -> rustix::io::Result<()> {
    // What is unsafe about it are shared file descriptors, which stay as they are.
    #[expect(deprecated, reason = "its successor is unsafe for other flags than this one")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// A directory that is removed with what is in it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one, among the temporary files of this host.
    pub fn new() -> Result<Self, String> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| error.to_string())?;
        let path = std::env::temp_dir().join(format!("surefoot-lab-{:016x}", u64::from_ne_bytes(bytes)));
        fs::create_dir(&path).map_err(at(&path))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

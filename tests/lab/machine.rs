//! A machine whose disk is in memory: it boots, runs, loses its power and boots again, under this kernel.

use rustix::mount::{MountFlags, UnmountFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use surefoot::crashtest::blockdev::{Device, Export, Image};

const MEBIBYTE: u64 = 1 << 20;
/// The largest file system fits.
const DISK: u64 = 320 * MEBIBYTE;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A file system of the lab: how it is made and mounted.
#[derive(Debug, PartialEq)]
pub(super) struct Fs {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    format: &'static [&'static str],
    size: &'static [&'static str],
    options: &'static str,
}

const EXT4: &[&str] =
    &["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];

pub(super) const FILE_SYSTEMS: [Fs; 4] = [
    Fs { name: "ext4-ordered", kind: "ext4", format: EXT4, size: &["64M"], options: "data=ordered,errors=remount-ro" },
    Fs {
        name: "ext4-writeback",
        kind: "ext4",
        format: EXT4,
        size: &["64M"],
        options: "data=writeback,noauto_da_alloc,errors=remount-ro",
    },
    Fs { name: "xfs", kind: "xfs", format: &["mkfs.xfs", "-q", "-f", "-K", "-d", "size=300m"], size: &[], options: "" },
    Fs {
        name: "btrfs",
        kind: "btrfs",
        format: &["mkfs.btrfs", "-q", "-f", "-K", "-b", "128M"],
        size: &[],
        options: "nodiscard",
    },
];

impl Fs {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FILE_SYSTEMS.iter().find(|fs| fs.name == name)
    }

    /// What this host lacks for it.
    pub(super) fn missing(&self) -> Option<String> {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(self.kind)) {
            return Some(format!("the kernel has no {}", self.kind));
        }
        let tools = [self.format[0], if self.kind == "btrfs" { "btrfs" } else { "mount" }];
        tools.iter().find(|tool| !is_program(tool)).map(|tool| format!("{tool} is not installed"))
    }
}

pub(super) fn is_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|path| path.join(name).is_file()))
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        return Err(format!("{program} {}: {}: {text}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The machine. It must live in a mount namespace of its own.
pub(super) struct Machine {
    pub(super) disk: Device,
    pub(super) scratch: tempfile::TempDir,
    export: Option<Export>,
    device: String,
    /// Detaches the loop device when this process is gone, however it went.
    warden: Option<Child>,
    mounted: Option<&'static Fs>,
    boots: u64,
}

impl Machine {
    /// The error says what the host lacks.
    pub(super) fn new() -> Result<Self, String> {
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let text = |error: std::io::Error| error.to_string();
        let file = scratch.path().join("disk");
        fs::write(&file, "").map_err(text)?;
        fs::create_dir(scratch.path().join("mount")).map_err(text)?;
        let boot_id = scratch.path().join("boot_id");
        fs::write(&boot_id, "").map_err(text)?;
        rustix::mount::mount_bind(&boot_id, BOOT_ID)
            .map_err(|error| format!("cannot mount over {BOOT_ID}: {error}"))?;
        let disk = Device::new(DISK / 4096);
        let export = Export::new(&disk, &file).map_err(|error| format!("no FUSE: {error}"))?;
        let path = file.to_str().ok_or("a path that is no text")?;
        let device = run("losetup", &["--find", "--show", "--sector-size", "4096", path])?;
        let script = format!("trap '' INT TERM HUP; cat > /dev/null; losetup --detach {device} 2> /dev/null");
        let warden = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().map_err(text)?;
        let mut machine =
            Self { disk, scratch, export: Some(export), device, warden: Some(warden), mounted: None, boots: 0 };
        machine.reboot();
        Ok(machine)
    }

    /// Where the file system is mounted.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.scratch.path().join("mount")
    }

    /// The tree that is updated.
    pub(super) fn root(&self) -> PathBuf {
        self.mount_point().join("tree")
    }

    /// An empty file system.
    pub(super) fn format(&mut self, fs: &'static Fs) -> Result<Image, String> {
        self.power_off();
        self.disk.load(Image::default());
        let arguments: Vec<&str> =
            fs.format[1..].iter().copied().chain([self.device.as_str()]).chain(fs.size.iter().copied()).collect();
        run(fs.format[0], &arguments)?;
        run("blockdev", &["--flushbufs", &self.device])?;
        let mut image = self.disk.image();
        image.settle();
        Ok(image)
    }

    /// Puts this on the disk, with the power off.
    pub(super) fn load(&mut self, image: Image) {
        self.power_off();
        self.disk.load(image);
        self.reboot();
    }

    /// The kernel takes the disk as it is: the journal is replayed.
    pub(super) fn mount(&mut self, fs: &'static Fs) -> Result<(), String> {
        self.mount_with(fs, fs.options)
    }

    fn mount_with(&mut self, fs: &'static Fs, options: &str) -> Result<(), String> {
        assert!(self.mounted.is_none(), "it is mounted");
        let before = self.disk.served().0;
        let data = std::ffi::CString::new(options).unwrap();
        let mounted = rustix::mount::mount(
            self.device.as_str(),
            self.mount_point(),
            fs.kind,
            MountFlags::NOATIME,
            data.as_c_str(),
        );
        mounted.map_err(|error| format!("cannot be mounted: {error}"))?;
        self.mounted = Some(fs);
        assert!(
            self.disk.served().0 > before,
            "what was mounted was not read from the disk: who holds {}?",
            self.device
        );
        Ok(())
    }

    /// Everything is written and let go of.
    pub(super) fn unmount(&mut self) -> Result<(), String> {
        let Some(fs) = self.mounted.take() else { return Ok(()) };
        for attempt in 0.. {
            match rustix::mount::unmount(self.mount_point(), UnmountFlags::empty()) {
                Ok(()) => break,
                Err(rustix::io::Errno::BUSY) if attempt < 200 => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => return Err(format!("cannot be unmounted: {error}")),
            }
        }
        if fs.kind == "btrfs" {
            run("btrfs", &["device", "scan", "--forget", &self.device])?;
        }
        Ok(())
    }

    /// A boot of its own, as far as anybody can tell.
    pub(super) fn reboot(&mut self) {
        self.boots += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}\n", std::process::id(), self.boots);
        fs::write(self.scratch.path().join("boot_id"), id).unwrap();
    }

    fn power_off(&mut self) {
        self.unmount().unwrap();
    }

    /// Makes the mounted file system read-only, or writable again.
    pub(super) fn remount(&self, read_only: bool) -> Result<(), String> {
        let mut flags = MountFlags::NOATIME;
        flags.set(MountFlags::RDONLY, read_only);
        rustix::mount::mount_remount(self.mount_point(), flags, "").map_err(|error| format!("remount: {error}"))
    }
}

impl Machine {
    /// Where ext4 is told that it found an error; it then turns read-only.
    pub(super) fn error_switch(&self) -> Option<PathBuf> {
        let name = Path::new(&self.device).file_name()?.to_str()?;
        let path = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        path.exists().then_some(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{error}");
        }
        if let Some(mut warden) = self.warden.take() {
            drop(warden.stdin.take());
            let _ = warden.wait();
        }
        drop(self.export.take());
        let _ = rustix::mount::unmount(BOOT_ID, UnmountFlags::empty());
    }
}

/// Why the lab cannot run on this host.
pub(super) fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for path in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(path).exists() {
            return Some(format!("there is no {path}"));
        }
    }
    let tools = ["unshare", "losetup", "blockdev", "strace"];
    tools.iter().find(|tool| !is_program(tool)).map(|tool| format!("{tool} is not installed"))
}

//! The device as a file that the kernel can put a loop device on, served through `/dev/fuse`.
//!
//! One file, mounted over a file, read and written without the kernel's cache, so that each request of the loop device
//! arrives here once and in order. Only what a loop device needs is spoken.

use super::device::Device;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, IoSlice, retry_on_intr};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The most that one request reads or writes.
const REQUEST: usize = 1 << 20;
/// The bytes before what a request has to say.
const HEADER: usize = 40;
/// The protocol that is spoken.
const VERSION: [u32; 2] = [7, 31];
/// Requests larger than a page; the number of pages is given.
const FLAGS: u32 = 1 << 5 | 1 << 22;
/// Answers to open: do not cache.
const DIRECT: u32 = 1;

/// A device that is served until this is dropped.
pub struct Export {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Export {
    /// Serves the device as the file at this path, which must exist; needs the right to mount.
    pub fn new(device: &Device, path: &Path) -> io::Result<Self> {
        let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let options = format!("fd={},rootmode=100600,user_id=0,group_id=0,max_read={REQUEST}", fuse.as_raw_fd());
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("surefoot-lab", path, "fuse", flags, CString::new(options)?.as_c_str())?;
        let device = device.clone();
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || serve(&fuse, &device));
        match thread {
            Ok(thread) => Ok(Self { path: path.to_owned(), thread: Some(thread) }),
            Err(error) => {
                let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
                Err(error)
            }
        }
    }
}

impl Drop for Export {
    /// The thread ends when the kernel has let go of the file; if something still holds it, it is left to itself.
    fn drop(&mut self) {
        // A loop device that was just detached lets go of it a little later.
        let gone = (0..200).any(|_| match rustix::mount::unmount(&self.path, UnmountFlags::empty()) {
            Err(Errno::BUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                false
            }
            unmounted => unmounted.is_ok(),
        });
        if let Some(thread) = self.thread.take().filter(|_| gone) {
            let _ = thread.join();
        }
    }
}

fn serve(fuse: &OwnedFd, device: &Device) {
    let mut request = vec![0; REQUEST + HEADER + BODY];
    loop {
        let length = match retry_on_intr(|| rustix::io::read(fuse, &mut request[..])) {
            Ok(length) => length,
            // A request that was taken back before it could be read.
            Err(Errno::NOENT | Errno::AGAIN) => continue,
            Err(_) => return,
        };
        let Some((unique, answer)) = answer(device, &request[..length]) else { continue };
        let (error, body) = answer.map_or_else(|error| (-error.raw_os_error(), Vec::new()), |body| (0, body));
        let mut header = Vec::with_capacity(16);
        header.extend(((16 + body.len()) as u32).to_ne_bytes());
        header.extend(error.to_ne_bytes());
        header.extend(unique.to_ne_bytes());
        // Nobody waits any more if this fails.
        let _ = retry_on_intr(|| rustix::io::writev(fuse, &[IoSlice::new(&header), IoSlice::new(&body)]));
    }
}

/// What stands before the data of a write, and is all of a read.
const BODY: usize = 40;

/// The number of a request and its answer; None where no answer is expected.
fn answer(device: &Device, request: &[u8]) -> Option<(u64, Result<Vec<u8>, Errno>)> {
    let u32_at = |at: usize| request.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let u64_at = |at: usize| request.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let (code, unique) = (u32_at(4), u64_at(8));
    let (offset, size) = (u64_at(HEADER + 8), u32_at(HEADER + 16) as usize);
    let answer = match code {
        // Forget, interrupt, forget many: no answer.
        2 | 36 | 42 => return None,
        26 => Ok(initialized()),
        3 => Ok(attributes(device)),
        14 => Ok(words(&[0, 0, DIRECT, 0])),
        15 => {
            let mut bytes = vec![0; size.min(REQUEST)];
            device.read(offset, &mut bytes).map_err(|_| Errno::IO).map(|length| {
                bytes.truncate(length);
                bytes
            })
        }
        16 => {
            let data = request.get(HEADER + BODY..).unwrap_or_default();
            let written = device.write(offset, &data[..size.min(data.len())]);
            written.map_err(|_| Errno::IO).map(|length| words(&[length as u32, 0]))
        }
        17 => Ok(words(&[0; 20])),
        20 => device.flush().map_err(|_| Errno::IO).map(|()| Vec::new()),
        // Set attributes, release, flush (that is: close), destroy.
        4 => Ok(attributes(device)),
        18 | 25 | 38 => Ok(Vec::new()),
        _ => Err(Errno::NOSYS),
    };
    Some((unique, answer))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn initialized() -> Vec<u8> {
    let pages = (REQUEST / 4096) as u32;
    // Version, read-ahead, flags, background and congestion, the largest write, granularity of times, pages; unused.
    let mut out = words(&[VERSION[0], VERSION[1], 0, FLAGS, 16 | 12 << 16, REQUEST as u32, 1, pages]);
    out.resize(64, 0);
    out
}

fn attributes(device: &Device) -> Vec<u8> {
    // How long this holds, in seconds and nanoseconds; then a file that nobody else may touch.
    let mut out = words(&[3600, 0, 0, 0]);
    for number in [1, device.bytes(), device.bytes() / 512, 0, 0, 0] {
        out.extend(number.to_ne_bytes());
    }
    out.extend(words(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]));
    out
}

//! `OsFiles`: files of the real disk that lie outside of any managed tree.

use super::CAREFULLY;
use rustix::fs as sys;
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use std::fs;
use std::io;
use std::path::Path;

/// Files of the real disk that lie outside of any managed tree: packages that somebody names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OsFiles;

impl OsFiles {
    /// Opens a regular file for reading; a link to one is followed, anything else refused without waiting for it.
    pub fn open_file(&self, path: &Path) -> io::Result<fs::File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | CAREFULLY;
        let descriptor = retry_on_intr(|| sys::open(path, flags, Mode::empty()))?;
        let found = sys::fstat(&descriptor)?;
        if sys::FileType::from_raw_mode(found.st_mode) == sys::FileType::RegularFile {
            Ok(fs::File::from(descriptor))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"content").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        sys::mknodat(sys::CWD, at("pipe"), sys::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["file", "link"] {
            let mut text = String::new();
            OsFiles.open_file(&at(name)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content", "{name}");
        }
        for name in ["", "pipe"] {
            assert_eq!(OsFiles.open_file(&at(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(OsFiles.open_file(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

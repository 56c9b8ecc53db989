//! The files that the command line itself reads and writes: keys, packages, entries.

use crate::error::{Code, Error};
use crate::limits;
use crate::trust::{Keyring, SecretKey, Zeroizing};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// An error of a call to the system about a file.
pub(super) fn failed(operation: &str, path: &Path, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::Space,
        _ => Code::Io,
    };
    Error::new(code, format!("{operation} failed at {}", path.display())).because(error)
}

/// Reads a small text file: a key, or a JSON entry.
pub(super) fn read_small(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = File::open(path).map_err(|error| failed("open", path, error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limits::SMALL_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed("read", path, error))?;
    if bytes.len() as u64 > limits::SMALL_FILE {
        return Err(Error::new(Code::Limit, format!("{} is longer than a small file may be", path.display())));
    }
    Ok(bytes)
}

/// Adds the public keys in these files to a keyring.
pub(super) fn add_trusted(keyring: &mut Keyring, files: &[PathBuf]) -> Result<(), Error> {
    for path in files {
        let named = |error: crate::trust::TrustError| {
            Error::new(Code::Key, format!("{} holds no public keys", path.display())).because(error)
        };
        let bytes = read_small(path)?;
        let keys = Keyring::from_pem(&String::from_utf8_lossy(&bytes)).map_err(named)?;
        for key in keys.keys() {
            keyring.insert(key.clone())?;
        }
    }
    Ok(())
}

/// Reads the secret keys in these files.
pub(super) fn read_secrets(files: &[PathBuf]) -> Result<Vec<SecretKey>, Error> {
    files.iter().map(|path| read_secret(path)).collect()
}

/// Reads the secret key in a file.
pub(super) fn read_secret(path: &Path) -> Result<SecretKey, Error> {
    let bytes = read_small(path)?;
    let bad = || Error::new(Code::Key, format!("{} holds no secret key", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|error| bad().because(error))?;
    SecretKey::from_pem(text).map_err(|error| bad().because(error))
}

/// Opens a package for reading as a stream.
pub(super) fn open_package(path: &Path) -> Result<BufReader<File>, Error> {
    let unavailable =
        |error: io::Error| Error::new(Code::Unavailable, format!("open failed at {}", path.display())).because(error);
    let file = File::open(path).map_err(unavailable)?;
    Ok(BufReader::with_capacity(limits::COPY_BUFFER, file))
}

/// Writes a file that must not exist yet.
pub(super) fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
        let exists = error.kind() == io::ErrorKind::AlreadyExists;
        let what = if exists { "it is there already, and keys are never overwritten" } else { "create failed" };
        Error::new(Code::Io, format!("{}: {what}", path.display())).because(error)
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is of no use to anybody.
        let _ = fs::remove_file(path);
        return Err(failed("write", path, error));
    }
    Ok(())
}

/// The beginning of a file, to see what it is.
pub(super) fn starts_with(path: &Path, magic: &[u8]) -> Result<bool, Error> {
    let mut start = vec![0; magic.len()];
    let mut file = File::open(path).map_err(|error| failed("open", path, error))?;
    match file.read_exact(&mut start) {
        Ok(()) => Ok(start == magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// A file in the making: under its own name only when it is complete, and gone if it never is.
pub(super) struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
}

impl Draft {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let temporary = beside(path, "part")?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&temporary);
        let file = file.map_err(|error| failed("create", &temporary, error))?;
        Ok(Self { path: path.into(), temporary, file: Some(file) })
    }

    /// Where it is written.
    pub(super) fn file(&mut self) -> Result<&mut File, Error> {
        self.file.as_mut().ok_or_else(|| Error::new(Code::Internal, "the file is complete already"))
    }

    /// Where it is for now.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes it durable and gives it its name.
    pub(super) fn complete(mut self) -> Result<(), Error> {
        if let Some(file) = self.file.take() {
            let done = file
                .sync_all()
                .and_then(|()| fs::rename(&self.temporary, &self.path))
                .and_then(|()| File::open(directory_of(&self.path))?.sync_all());
            if let Err(error) = done {
                let _ = fs::remove_file(&self.temporary);
                return Err(failed("write", &self.path, error));
            }
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A file without a name beside `path`, for what is in between.
pub(super) fn spool(path: &Path) -> Result<File, Error> {
    let temporary = beside(path, "spool")?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary);
    let file = file.map_err(|error| failed("create", &temporary, error))?;
    fs::remove_file(&temporary).map_err(|error| failed("remove", &temporary, error))?;
    Ok(file)
}

/// A new name in the directory of `path`.
pub(super) fn beside(path: &Path, what: &str) -> Result<PathBuf, Error> {
    let name =
        path.file_name().ok_or_else(|| Error::new(Code::Usage, format!("{} does not name a file", path.display())))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-"));
    for byte in random::<8>()? {
        hidden.push(format!("{byte:02x}"));
    }
    Ok(directory_of(path).join(hidden))
}

/// The directory that a path is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// A path with something added to its last name.
pub(super) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Bytes from the system's source of randomness.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => done += length,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(
                    Error::new(Code::Io, "reading the source of randomness failed").because(io::Error::from(error))
                );
            }
        }
    }
    Ok(bytes)
}

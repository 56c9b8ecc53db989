//! A disk that somebody meddles with.

use surefoot::model::{Time, Xattrs};
use surefoot::vfs::sim::{SimFile, SimLock};
use surefoot::vfs::{Access, Capabilities, IoError, Place, Rename, RootId, Session, SimVfs, Space, Stat, Vfs};

/// A disk that does something right before each rename, or whose state directory is elsewhere.
pub(super) struct Meddled<F> {
    pub(super) disk: SimVfs,
    pub(super) together: bool,
    pub(super) before_rename: F,
}

pub(super) fn elsewhere(disk: &SimVfs) -> Meddled<fn(&SimVfs, [&Place; 2])> {
    Meddled { disk: disk.clone(), together: false, before_rename: |_, _| () }
}

macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> $answer { self.disk.$name($($argument),*) })*
    };
}

impl<F: Fn(&SimVfs, [&Place; 2]) + Send + Sync> Vfs for Meddled<F> {
    type File = SimFile;
    type Lock = SimLock;

    fn rename(&self, from: &Place, to: &Place, how: Rename) -> Result<(), IoError> {
        (self.before_rename)(&self.disk, [from, to]);
        self.disk.rename(from, to, how)
    }

    fn same_file_system(&self) -> Result<bool, IoError> {
        Ok(self.together)
    }

    passed_on! {
        stat(at: &Place) -> Result<Option<Stat>, IoError>;
        list(at: &Place) -> Result<Vec<Box<[u8]>>, IoError>;
        read_link(at: &Place) -> Result<Box<[u8]>, IoError>;
        xattrs(at: &Place) -> Result<Xattrs, IoError>;
        open(at: &Place, access: Access) -> Result<SimFile, IoError>;
        create(at: &Place) -> Result<SimFile, IoError>;
        read_at(file: &SimFile, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;
        write_at(file: &SimFile, offset: u64, bytes: &[u8]) -> Result<(), IoError>;
        set_len(file: &SimFile, length: u64) -> Result<(), IoError>;
        sync_file(file: &SimFile) -> Result<(), IoError>;
        sync_all() -> Result<(), IoError>;
        mkdir(at: &Place) -> Result<(), IoError>;
        symlink(target: &[u8], at: &Place) -> Result<(), IoError>;
        link(from: &Place, to: &Place) -> Result<(), IoError>;
        remove_file(at: &Place) -> Result<(), IoError>;
        remove_dir(at: &Place) -> Result<(), IoError>;
        set_mode(at: &Place, mode: u32) -> Result<(), IoError>;
        set_owner(at: &Place, uid: u32, gid: u32) -> Result<(), IoError>;
        set_mtime(at: &Place, mtime: Time) -> Result<(), IoError>;
        set_xattr(at: &Place, name: &[u8], value: Option<&[u8]>) -> Result<(), IoError>;
        capabilities(scratch: &Place) -> Result<Capabilities, IoError>;
        sync_all_reports() -> bool;
        folds_case(directory: &Place) -> Result<bool, IoError>;
        space(root: RootId) -> Result<Space, IoError>;
        lock(at: &Place) -> Result<Option<SimLock>, IoError>;
        session() -> Result<Session, IoError>;
        now() -> Time;
        fresh_id() -> Result<[u8; 16], IoError>;
        user() -> u32;
        is_member(gid: u32) -> bool;
        threads() -> usize;
    }
}

//! Judges that fit many a run.

use crate::vfs::SimVfs;

/// Is what was found what was there before, or what should come of it? Once that was promised it must be the latter.
pub fn old_or_new(found: Option<Vec<u8>>, old: &[u8], new: &[u8], promised: bool) -> Result<(), String> {
    match found.as_deref() {
        Some(bytes) if bytes == new => Ok(()),
        Some(bytes) if bytes == old && !promised => Ok(()),
        Some(bytes) if bytes == old => Err("what was promised is lost".into()),
        Some(bytes) => Err(format!("neither old nor new: \"{}\"", bytes[..bytes.len().min(64)].escape_ascii())),
        None => Err("it is gone".into()),
    }
}

/// Does an act, and asks that it changes nothing: a second recovery has nothing to do.
pub fn quiet<T>(disk: &SimVfs, act: impl FnOnce(&SimVfs) -> Result<T, String>) -> Result<T, String> {
    let before = disk.mutations();
    let done = act(disk)?;
    match disk.mutations() - before {
        0 => Ok(done),
        changes => Err(format!("not quiet: {changes} changes where there was nothing to do")),
    }
}

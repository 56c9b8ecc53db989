//! The names in the state directory: one function for each.
//!
//! ```text
//! journal                    the write-ahead journal; says which generation the tree is
//! lock                       locked by the process that works on the tree
//! config                     what the tree trusts and keeps (JSON)
//! history                    what happened, a JSON object a line
//! index                      stat cache: sizes, times and digests of files
//! poison                     a sync failed in the session named in it
//! trust/<role>.json          metadata of the repository that is believed: of each role the newest
//! attempts                   how often each version was tried (JSON)
//! downloads/lock             locked by the process that fetches
//! downloads/<id>.part        bytes of a content, each at its place
//! downloads/<id>.have        which of them are here
//! scratch/                   for probing the file system
//! manifests/<id>             what the tree holds: whole, or changes to another
//! generations/<id>/state     version, digest, parent, manifests
//! generations/<id>/plan      the steps that made it from its parent
//! generations/<id>/unpacked  which segments of a patch were unpacked into the slots, before the transaction
//! generations/<id>/slots/<n> new objects before, old ones after
//! generations/<id>/aside/<n> old objects, where the file system cannot exchange
//! set-aside/<id>-<folder>-<n> what a sweep found there and did not know; never deleted
//! ```

use crate::model::{PathError, TreePath};
use crate::repository::stored_name;
use crate::vfs::{Place, RootId};

/// The usual name of the state directory, inside the tree. No package may hold an entry of this name at the top.
pub const STATE_DIRECTORY: &str = ".surefoot";

/// Identity of a transaction and of the generation that it makes.
pub(super) type Id = [u8; 16];

fn at(path: &str) -> Place {
    let path = TreePath::parse(path).unwrap_or_else(|_| TreePath::root());
    Place { root: RootId::STATE, path }
}

pub(super) fn root() -> Place {
    at("")
}

/// What may stand in a state directory that has no journal: an init that was cut off has left it. A history is added to.
pub(super) fn is_of_init(name: &[u8]) -> bool {
    const NAMES: [&str; 11] = [
        "journal.new",
        "lock",
        "config",
        "config.new",
        "history",
        "poison",
        "scratch",
        "trust",
        "manifests",
        "generations",
        "downloads",
    ];
    NAMES.iter().any(|known| known.as_bytes() == name)
}

pub(super) fn journal() -> Place {
    at("journal")
}

pub(super) fn journal_new() -> Place {
    at("journal.new")
}

pub(super) fn lock() -> Place {
    at("lock")
}

pub(super) fn config() -> Place {
    at("config")
}

pub(super) fn config_new() -> Place {
    at("config.new")
}

pub(super) fn history() -> Place {
    at("history")
}

pub(super) fn history_old() -> Place {
    at("history.old")
}

pub(super) fn index() -> Place {
    at("index")
}

pub(super) fn index_new() -> Place {
    at("index.new")
}

pub(super) fn poison() -> Place {
    at("poison")
}

pub(super) fn attempts() -> Place {
    at("attempts")
}

pub(super) fn attempts_new() -> Place {
    at("attempts.new")
}

pub(super) fn downloads() -> Place {
    at("downloads")
}

pub(super) fn downloads_lock() -> Place {
    at("downloads/lock")
}

pub(super) fn download_content(id: Id) -> Place {
    at(&format!("downloads/{}.part", hex(id)))
}

pub(super) fn download_memory(id: Id) -> Place {
    at(&format!("downloads/{}.have", hex(id)))
}

/// The id of a name in the folder of downloads.
pub(super) fn download_id(name: &[u8]) -> Option<Id> {
    let name = name.strip_suffix(b".part").or_else(|| name.strip_suffix(b".have"))?;
    unhex(name)
}

pub(super) fn scratch() -> Place {
    at("scratch")
}

pub(super) fn trust() -> Place {
    at("trust")
}

/// The metadata of a role: its name ends in `.json`.
pub(super) fn trust_of(role: &str) -> Place {
    at(&format!("trust/{}", stored_name(role)))
}

pub(super) fn trust_new() -> Place {
    at("trust/new")
}

/// Whatever has this name there.
pub(super) fn trust_named(name: &[u8]) -> Result<Place, PathError> {
    let mut place = trust();
    place.path = place.path.join(name)?;
    Ok(place)
}

pub(super) fn manifests() -> Place {
    at("manifests")
}

pub(super) fn manifest(id: Id) -> Place {
    at(&format!("manifests/{}", hex(id)))
}

pub(super) fn generations() -> Place {
    at("generations")
}

pub(super) fn generation(id: Id) -> Place {
    at(&format!("generations/{}", hex(id)))
}

pub(super) fn generation_state(id: Id) -> Place {
    at(&format!("generations/{}/state", hex(id)))
}

pub(super) fn plan(id: Id) -> Place {
    at(&format!("generations/{}/plan", hex(id)))
}

pub(super) fn unpacked(id: Id) -> Place {
    at(&format!("generations/{}/unpacked", hex(id)))
}

pub(super) fn slots(id: Id) -> Place {
    at(&format!("generations/{}/slots", hex(id)))
}

pub(super) fn slot(id: Id, number: u32) -> Place {
    at(&format!("generations/{}/slots/{number:06}", hex(id)))
}

pub(super) fn asides(id: Id) -> Place {
    at(&format!("generations/{}/aside", hex(id)))
}

pub(super) fn aside(id: Id, number: u32) -> Place {
    at(&format!("generations/{}/aside/{number:06}", hex(id)))
}

pub(super) fn set_asides() -> Place {
    at("set-aside")
}

/// Where an object of a transaction's folder goes, `slots/<n>` or `aside/<n>`.
pub(super) fn set_aside(id: Id, object: &Place) -> Place {
    let name = String::from_utf8_lossy(object.path.name());
    let folder = object.path.parent().map(|folder| String::from_utf8_lossy(folder.name()).into_owned());
    at(&format!("set-aside/{}-{}-{name}", hex(id), folder.unwrap_or_default()))
}

/// The name of an id.
pub(super) fn hex(id: Id) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or('0');
    id.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The id of a name.
pub(super) fn unhex(name: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(name).ok().filter(|text| text.len() == 32)?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(0..16) {
        *byte = u8::from_str_radix(&text[2 * pair..2 * pair + 2], 16).ok()?;
    }
    (hex(id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_path_and_ids_read_back() {
        let id = [0xab; 16];
        for place in [slot(id, 7), aside(id, 7), plan(id), manifest(id), set_aside(id, &slot(id, 1))] {
            assert!(!place.path.is_root(), "{place}");
        }
        assert_ne!(set_aside(id, &slot(id, 1)), set_aside(id, &aside(id, 1)), "one is lost to the other");
        assert_eq!(unhex(hex(id).as_bytes()), Some(id));
        assert_eq!(download_id(download_content(id).path.name()), Some(id));
        assert_eq!(download_id(download_memory(id).path.name()), Some(id));
        assert_eq!(download_id(downloads_lock().path.name()), None);
        assert_eq!(unhex(b"ABABABABABABABABABABABABABABABAB"), None);
        assert_eq!(unhex("\u{e9}".repeat(16).as_bytes()), None);
    }
}

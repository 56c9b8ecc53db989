//! What the files of a repository are called, and those that a device keeps of it.
//!
//! ```text
//! metadata/<n>.root.json        every version there ever was
//! metadata/<n>.snapshot.json    metadata/<n>.targets.json    metadata/<n>.<role>.json
//! metadata/timestamp.json       the pointer: the one file that is ever replaced
//! targets/<folder>/<sha256>.<name>
//! ```

use crate::model::Digest;
use crate::trust::unhex;

/// Where the metadata of a repository is.
pub const METADATA_DIRECTORY: &str = "metadata";
/// Where its packages are.
pub const TARGETS_DIRECTORY: &str = "targets";

/// The name of a metadata file in the repository, its version where it has one in its name.
pub fn metadata_name(role: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{version}.{}.json", escape(role)),
        None => format!("{}.json", escape(role)),
    }
}

/// The name under which a device keeps the metadata of a role.
pub fn stored_name(role: &str) -> String {
    metadata_name(role, None)
}

/// The role whose metadata a device keeps under this name; nothing for other names.
pub fn stored_role(name: &str) -> Option<String> {
    let escaped = name.strip_suffix(".json")?;
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [a, b, behind @ ..]) => {
                let digits = [*a, *b];
                bytes.extend(unhex(std::str::from_utf8(&digits).ok()?)?);
                behind
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    // One spelling for each role.
    String::from_utf8(bytes).ok().filter(|role| escape(role) == escaped)
}

/// The path of a target below the directory of targets. With consistent snapshots the digest stands before its name.
pub fn blob_name(path: &str, digest: &Digest, consistent: bool) -> String {
    match (consistent, path.rsplit_once('/')) {
        (false, _) => path.to_owned(),
        (true, Some((folder, name))) => format!("{folder}/{digest}.{name}"),
        (true, None) => format!("{digest}.{path}"),
    }
}

/// A role's name as part of a file name or address: everything but letters, digits, `_`, `-`, `.` and `~` as `%NN`.
pub fn escape(role: &str) -> String {
    let mut out = String::with_capacity(role.len());
    for byte in role.bytes() {
        match byte {
            b'_' | b'-' | b'.' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_role_leaves_its_folder() {
        assert_eq!(metadata_name("root", Some(3)), "3.root.json");
        assert_eq!(metadata_name("timestamp", None), "timestamp.json");
        assert_eq!(metadata_name("../a b\u{e9}?#", Some(1)), "1...%2Fa%20b%C3%A9%3F%23.json");
        assert_eq!(stored_name(".."), "...json");
        assert_eq!(stored_name("/"), "%2F.json");
        for role in ["root", "..", "a/b", "%", "%41", "\u{e9} "] {
            assert_eq!(stored_role(&stored_name(role)).as_deref(), Some(role));
        }
        for other in ["new", "root", "%2f.json", "%41.json", "%.json", "%4.json", "a b.json", "%FF.json"] {
            assert_eq!(stored_role(other), None, "{other}");
        }
    }

    #[test]
    fn a_blob_has_its_digest_before_its_name() {
        let digest = Digest([0xab; 32]);
        assert_eq!(blob_name("a/b/c.sf", &digest, true), format!("a/b/{digest}.c.sf"));
        assert_eq!(blob_name("c.sf", &digest, true), format!("{digest}.c.sf"));
        assert_eq!(blob_name("a/c.sf", &digest, false), "a/c.sf");
    }
}

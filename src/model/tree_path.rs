//! `TreePath`: a path inside a tree that cannot leave it.

use crate::limits;
use std::cmp::Ordering;
use std::fmt;

/// A validated relative path: the names from the root of a tree to an entry, joined by `/`.
///
/// Names are bytes and are kept exactly as they are; a name need not be UTF-8. There is no empty name, no `.` and no
/// `..`, no NUL, no leading or trailing slash, so no caller can express an escape. The empty path is the root itself.
///
/// Paths are ordered by components, so that a directory comes right before everything below it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Box<[u8]>);

/// Why some bytes are not a [`TreePath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It starts with a slash.
    #[error("path {0:?} is absolute")]
    Absolute(String),
    /// A component is empty, `.` or `..`.
    #[error("path {0:?} has an empty component, '.' or '..'")]
    Component(String),
    /// A NUL byte.
    #[error("path {0:?} has a NUL byte")]
    Nul(String),
    /// Longer than [`limits::PATH_BYTES`], [`limits::NAME_BYTES`] or [`limits::PATH_DEPTH`] allow.
    #[error("path {0:?} is too long or too deep")]
    TooLong(String),
}

impl TreePath {
    /// The root of the tree: the empty path.
    pub fn root() -> Self {
        Self(Box::default())
    }

    /// Validates `bytes`; the empty string is the root.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        let shown = || escape(&bytes[..bytes.len().min(200)]);
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > limits::PATH_BYTES {
            return Err(PathError::TooLong(shown()));
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute(shown()));
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul(shown()));
        }
        for (depth, name) in bytes.split(|byte| *byte == b'/').enumerate() {
            if name.is_empty() || name == b"." || name == b".." {
                return Err(PathError::Component(shown()));
            }
            if name.len() > limits::NAME_BYTES || depth >= limits::PATH_DEPTH {
                return Err(PathError::TooLong(shown()));
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The entry `name` (one or several components) below this one.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(PathError::Component(self.to_string()));
        }
        if self.is_root() {
            return Self::parse(name);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::parse(bytes)
    }

    /// The directory that holds this entry; nothing for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].into()))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        &self.0[cut..]
    }

    /// The names from the root down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Is it the root?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Is it strictly below `ancestor`?
    pub fn is_below(&self, ancestor: &Self) -> bool {
        if ancestor.is_root() {
            return !self.is_root();
        }
        self.0.len() > ancestor.0.len() && self.0.starts_with(&ancestor.0) && self.0[ancestor.0.len()] == b'/'
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Shows bytes as text: printable UTF-8 as it is, backslashes doubled, everything else as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    c.encode_utf8(&mut buffer).bytes().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
                }
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { "" })?;
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for TreePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every other byte: that is the order by components, without splitting.
        let same = self.0.iter().zip(other.0.iter()).take_while(|(a, b)| a == b).count();
        let rank = |path: &Self| path.0.get(same).map(|byte| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 });
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_leave_the_tree_is_a_path() {
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b", "/"] {
            assert!(TreePath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TreePath::parse("n".repeat(256)).is_err());
        assert!(TreePath::parse("d/".repeat(300) + "x").is_err());
        for good in ["a", "a/b", "...", "..a", "a b", "-"] {
            assert_eq!(TreePath::parse(good).unwrap().as_bytes(), good.as_bytes());
        }
    }

    #[test]
    fn a_directory_comes_right_before_what_is_below_it() {
        let mut paths: Vec<_> = ["a.txt", "a/b", "b", "a", "a-b", "a/b/c", "a/b.c", ""]
            .iter()
            .map(|p| TreePath::parse(p).unwrap())
            .collect();
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [".", "a", "a/b", "a/b/c", "a/b.c", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn names_that_are_not_text_are_kept_and_shown_escaped() {
        let path = TreePath::parse(b"caf\xe9/\x07\\x").unwrap();
        assert_eq!(path.as_bytes(), b"caf\xe9/\x07\\x");
        assert_eq!(path.to_string(), "caf\\xe9/\\x07\\\\x");
    }

    #[test]
    fn parents_and_names() {
        let path = TreePath::parse("a/b/c").unwrap();
        assert_eq!(path.name(), b"c");
        assert_eq!(path.parent().unwrap().to_string(), "a/b");
        assert_eq!(TreePath::parse("a").unwrap().parent(), Some(TreePath::root()));
        assert_eq!(TreePath::root().parent(), None);
        assert_eq!(TreePath::root().join("a").unwrap().join("b/c").unwrap(), path);
        assert!(path.join("").is_err() && path.join("..").is_err() && TreePath::root().join("").is_err());
        assert!(path.is_below(&TreePath::parse("a").unwrap()) && path.is_below(&TreePath::root()));
        assert!(!TreePath::parse("ab").unwrap().is_below(&TreePath::parse("a").unwrap()));
    }
}

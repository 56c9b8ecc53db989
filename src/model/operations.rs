//! `PatchOperations`: what a patch of the service manifest does, as published and as checked.

use crate::limits;
use crate::model::{PathError, TreePath};
use serde::{Deserialize, Deserializer, Serialize};

/// The operations of a patch as the service manifest lists them; not checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatchOperations {
    /// What is replaced.
    #[serde(deserialize_with = "null_as_default")]
    pub replace: ReplaceOperations,
    /// What is deleted.
    #[serde(deserialize_with = "null_as_default")]
    pub delete: DeleteOperations,
}

/// What a patch replaces, or adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplaceOperations {
    /// Files.
    #[serde(deserialize_with = "null_as_default")]
    pub files: Vec<String>,
    /// Directories, each as a whole: what the package does not contain is gone afterwards.
    #[serde(deserialize_with = "null_as_default")]
    pub directories: Vec<String>,
}

/// What a patch deletes; that something is missing already is no error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteOperations {
    /// Files.
    #[serde(deserialize_with = "null_as_default")]
    pub files: Vec<String>,
    /// Directories, with everything in them.
    #[serde(deserialize_with = "null_as_default")]
    pub directories: Vec<String>,
}

/// The checked operations of a patch: every list sorted, and no path of them the same as or inside another.
///
/// What is listed twice, or inside a directory that is listed for the same, is covered by the other and gone from the
/// lists; [`Operations::required_files`] and [`Operations::required_directories`] still name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    replace_files: Vec<TreePath>,
    replace_directories: Vec<TreePath>,
    delete_files: Vec<TreePath>,
    delete_directories: Vec<TreePath>,
    required_files: Vec<TreePath>,
    required_directories: Vec<TreePath>,
}

/// Why the operations of a patch cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationsError {
    /// Not a path inside the tree.
    #[error("the {list} list: {source}")]
    Path {
        /// Which list.
        list: &'static str,
        /// What is wrong with it.
        source: PathError,
    },
    /// The tree itself.
    #[error("the {0} list names the root of the tree")]
    Root(&'static str),
    /// The state of surefoot.
    #[error("{0} belongs to surefoot itself")]
    Reserved(TreePath),
    /// Too many to be meant.
    #[error("{0} paths are listed, more than {max}", max = limits::OPERATIONS)]
    TooMany(usize),
    /// Both replaced and deleted, or one inside the other.
    #[error("{first} is to be {}, and {second} is to be {}", past(*.first_replaced), past(!.first_replaced))]
    Contradiction {
        /// The one path.
        first: TreePath,
        /// The other: the same path, or one inside it.
        second: TreePath,
        /// Is the first the one that is replaced?
        first_replaced: bool,
    },
    /// Listed as a file and as a directory.
    #[error("{0} is listed both as a file and as a directory")]
    TwoKinds(TreePath),
    /// Inside something that is listed as a file.
    #[error("{inner} is listed, but {file}, in which it would be, is listed as a file")]
    InsideFile {
        /// What is listed as a file.
        file: TreePath,
        /// What is listed inside it.
        inner: TreePath,
    },
    /// JSON cannot hold a name that is not text.
    #[error("{0} is not text, so the service manifest cannot name it")]
    NotText(TreePath),
}

/// The directory of surefoot's own state, which no operation may touch.
const RESERVED: &[u8] = b".surefoot";

impl PatchOperations {
    /// Checks every path, and that the lists make sense together.
    ///
    /// A leading `./` is dropped, and the trailing slash of a directory.
    pub fn validate(&self) -> Result<Operations, OperationsError> {
        let listed = self.replace.files.len()
            + self.replace.directories.len()
            + self.delete.files.len()
            + self.delete.directories.len();
        if listed > limits::OPERATIONS {
            return Err(OperationsError::TooMany(listed));
        }
        Operations::new(
            paths("replace.files", &self.replace.files, false)?,
            paths("replace.directories", &self.replace.directories, true)?,
            paths("delete.files", &self.delete.files, false)?,
            paths("delete.directories", &self.delete.directories, true)?,
        )
    }
}

fn paths(list: &'static str, texts: &[String], directories: bool) -> Result<Vec<TreePath>, OperationsError> {
    let path = |text: &String| {
        let mut name = text.strip_prefix("./").unwrap_or(text);
        if directories && name != "/" {
            name = name.strip_suffix('/').unwrap_or(name);
        }
        if name.is_empty() || name == "." {
            return Err(OperationsError::Root(list));
        }
        TreePath::parse(name).map_err(|source| OperationsError::Path { list, source })
    };
    texts.iter().map(path).collect()
}

/// One listed path; sorting puts what is inside a path right after it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    path: TreePath,
    replaced: bool,
    directory: bool,
}

impl Operations {
    /// Checks that the lists make sense together.
    pub fn new(
        replace_files: Vec<TreePath>,
        replace_directories: Vec<TreePath>,
        delete_files: Vec<TreePath>,
        delete_directories: Vec<TreePath>,
    ) -> Result<Self, OperationsError> {
        let lists = [
            (replace_files, true, false),
            (replace_directories, true, true),
            (delete_files, false, false),
            (delete_directories, false, true),
        ];
        let mut all = Vec::new();
        for (list, replaced, directory) in lists {
            all.extend(list.into_iter().map(|path| Listed { path, replaced, directory }));
        }
        if all.len() > limits::OPERATIONS {
            return Err(OperationsError::TooMany(all.len()));
        }
        all.sort();
        all.dedup();
        let mut out = Self::default();
        let mut outer: Option<Listed> = None;
        let mut before: Option<Listed> = None;
        for listed in all {
            if listed.path.is_root() {
                return Err(OperationsError::Root("operations"));
            }
            if listed.path.components().next() == Some(RESERVED) {
                return Err(OperationsError::Reserved(listed.path));
            }
            check_pair(before.as_ref(), &listed)?;
            let covered = match &outer {
                Some(outer) if listed.path.is_below(&outer.path) => {
                    check_pair(Some(outer), &listed)?;
                    true
                }
                _ => false,
            };
            out.take(&listed, covered);
            if !covered {
                outer = Some(listed.clone());
            }
            before = Some(listed);
        }
        Ok(out)
    }

    fn take(&mut self, listed: &Listed, covered: bool) {
        let (list, required) = match (listed.replaced, listed.directory) {
            (true, false) => (&mut self.replace_files, Some(&mut self.required_files)),
            (true, true) => (&mut self.replace_directories, Some(&mut self.required_directories)),
            (false, false) => (&mut self.delete_files, None),
            (false, true) => (&mut self.delete_directories, None),
        };
        if !covered {
            list.push(listed.path.clone());
        }
        if let Some(required) = required {
            required.push(listed.path.clone());
        }
    }

    /// The files that are replaced, sorted.
    pub fn replace_files(&self) -> &[TreePath] {
        &self.replace_files
    }

    /// The directories that are replaced as a whole, sorted.
    pub fn replace_directories(&self) -> &[TreePath] {
        &self.replace_directories
    }

    /// The files that are deleted, sorted.
    pub fn delete_files(&self) -> &[TreePath] {
        &self.delete_files
    }

    /// The directories that are deleted with everything in them, sorted.
    pub fn delete_directories(&self) -> &[TreePath] {
        &self.delete_directories
    }

    /// The files that the package must hold: those to replace, and those listed inside a directory to replace.
    pub fn required_files(&self) -> &[TreePath] {
        &self.required_files
    }

    /// The directories that the package must hold, likewise.
    pub fn required_directories(&self) -> &[TreePath] {
        &self.required_directories
    }

    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.required_files.is_empty()
            && self.required_directories.is_empty()
            && self.delete_files.is_empty()
            && self.delete_directories.is_empty()
    }

    /// Is `path` one of the files to replace?
    pub fn replaces_file(&self, path: &TreePath) -> bool {
        self.replace_files.binary_search(path).is_ok()
    }

    /// Is `path` a directory to replace, or inside one?
    pub fn replaces_within(&self, path: &TreePath) -> bool {
        // No listed directory is inside another, so that none stands between a directory and what is in it.
        let at = self.replace_directories.partition_point(|directory| directory <= path);
        at.checked_sub(1)
            .and_then(|at| self.replace_directories.get(at))
            .is_some_and(|directory| directory == path || path.is_below(directory))
    }

    /// Is something to replace strictly below `path`?
    pub fn replaces_below(&self, path: &TreePath) -> bool {
        [&self.replace_files, &self.replace_directories].into_iter().any(|list| {
            let at = list.partition_point(|listed| listed <= path);
            list.get(at).is_some_and(|next| next.is_below(path))
        })
    }
}

/// Can `second`, which is the same as `first`, below it or after it, be listed beside it?
fn check_pair(first: Option<&Listed>, second: &Listed) -> Result<(), OperationsError> {
    let Some(first) = first else { return Ok(()) };
    let same = first.path == second.path;
    if !same && !second.path.is_below(&first.path) {
        return Ok(());
    }
    if first.replaced != second.replaced {
        return Err(OperationsError::Contradiction {
            first: first.path.clone(),
            second: second.path.clone(),
            first_replaced: first.replaced,
        });
    }
    if same {
        return Err(OperationsError::TwoKinds(first.path.clone()));
    }
    if !first.directory {
        return Err(OperationsError::InsideFile { file: first.path.clone(), inner: second.path.clone() });
    }
    Ok(())
}

/// The published form: directories with a trailing slash.
impl TryFrom<&Operations> for PatchOperations {
    type Error = OperationsError;

    fn try_from(operations: &Operations) -> Result<Self, OperationsError> {
        Ok(Self {
            replace: ReplaceOperations {
                files: texts(&operations.required_files, "")?,
                directories: texts(&operations.required_directories, "/")?,
            },
            delete: DeleteOperations {
                files: texts(&operations.delete_files, "")?,
                directories: texts(&operations.delete_directories, "/")?,
            },
        })
    }
}

fn texts(paths: &[TreePath], end: &str) -> Result<Vec<String>, OperationsError> {
    let text = |path: &TreePath| {
        let text = std::str::from_utf8(path.as_bytes()).map_err(|_| OperationsError::NotText(path.clone()))?;
        Ok(format!("{text}{end}"))
    };
    paths.iter().map(text).collect()
}

/// Reads `null` like a missing field.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn past(replaced: bool) -> &'static str {
    if replaced { "replaced" } else { "deleted" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operations(lists: [&[&str]; 4]) -> PatchOperations {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let [replace_files, replace_directories, delete_files, delete_directories] = lists;
        PatchOperations {
            replace: ReplaceOperations { files: own(replace_files), directories: own(replace_directories) },
            delete: DeleteOperations { files: own(delete_files), directories: own(delete_directories) },
        }
    }

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    fn shown(paths: &[TreePath]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_are_sorted_and_cleaned() {
        let listed = operations([
            &["z", "./a", "a", "front/x.js"],
            &["front/", "front", "lib/b/", "lib/"],
            &["old/x"],
            &["old"],
        ]);
        let checked = listed.validate().unwrap();
        assert_eq!(shown(checked.replace_files()), ["a", "z"]);
        assert_eq!(shown(checked.replace_directories()), ["front", "lib"]);
        assert_eq!(shown(checked.delete_files()), [""; 0]);
        assert_eq!(shown(checked.delete_directories()), ["old"]);
        assert_eq!(shown(checked.required_files()), ["a", "front/x.js", "z"]);
        assert_eq!(shown(checked.required_directories()), ["front", "lib", "lib/b"]);
        let again = PatchOperations::try_from(&checked).unwrap();
        assert_eq!(again.replace.directories, ["front/", "lib/", "lib/b/"]);
        assert_eq!(again.validate().unwrap(), checked);
        assert!(operations([&[], &[], &[], &[]]).validate().unwrap().is_empty());
        assert!(!checked.is_empty());
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for bad in ["/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\0b", "/"] {
            for list in 0..4 {
                let mut lists: [&[&str]; 4] = [&[]; 4];
                let bad = [bad];
                lists[list] = &bad;
                let error = operations(lists).validate().unwrap_err();
                assert!(matches!(error, OperationsError::Path { .. }), "{bad:?} {error}");
            }
        }
        assert!(matches!(operations([&["a/"], &[], &[], &[]]).validate(), Err(OperationsError::Path { .. })));
        for root in ["", ".", "./"] {
            for list in 0..4 {
                let mut lists: [&[&str]; 4] = [&[]; 4];
                let root = [root];
                lists[list] = &root;
                let error = operations(lists).validate().unwrap_err();
                assert!(matches!(error, OperationsError::Root(_)), "{root:?} {error}");
            }
        }
    }

    #[test]
    fn the_state_of_surefoot_is_out_of_bounds() {
        for (at, name) in [(0, ".surefoot/journal"), (1, ".surefoot/"), (2, ".surefoot"), (3, ".surefoot/store")] {
            let mut lists: [&[&str]; 4] = [&[]; 4];
            let names = [name];
            lists[at] = &names;
            assert!(matches!(operations(lists).validate(), Err(OperationsError::Reserved(_))), "{name}");
        }
        assert!(operations([&[".surefoot2", "a/.surefoot"], &[], &[], &[]]).validate().is_ok());
    }

    #[test]
    fn contradictions_are_named() {
        let cases: [([&[&str]; 4], &str); 8] = [
            ([&["a"], &[], &["a"], &[]], "a is to be deleted, and a is to be replaced"),
            ([&[], &["a"], &[], &["a/"]], "a is to be deleted, and a is to be replaced"),
            ([&["a/b"], &[], &[], &["a"]], "a is to be deleted, and a/b is to be replaced"),
            ([&[], &["a"], &["a/b/c"], &[]], "a is to be replaced, and a/b/c is to be deleted"),
            ([&["a/x"], &["a"], &["a/y"], &[]], "a is to be replaced, and a/y is to be deleted"),
            ([&["a"], &["a"], &[], &[]], "a is listed both as a file and as a directory"),
            ([&[], &[], &["a"], &["a"]], "a is listed both as a file and as a directory"),
            ([&["a", "a/b"], &[], &[], &[]], "a/b is listed, but a, in which it would be, is listed as a file"),
        ];
        for (lists, message) in cases {
            assert_eq!(operations(lists).validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn names_beside_each_other_do_not_hide_what_is_inside() {
        // '-' and '.' sort before '/' as bytes; the order by components keeps 'a/b' right after 'a'.
        let error = operations([&["a/b"], &[], &["a-b", "a.b"], &["a"]]).validate().unwrap_err();
        assert!(matches!(error, OperationsError::Contradiction { .. }), "{error}");
        assert!(operations([&["a-b", "ab"], &["a"], &["a.b"], &[]]).validate().is_ok());
    }

    #[test]
    fn it_says_what_a_path_is_to_the_lists() {
        let checked = operations([&["etc/app/app.conf"], &["front", "x/lib"], &["old"], &[]]).validate().unwrap();
        assert!(checked.replaces_file(&path("etc/app/app.conf")));
        assert!(!checked.replaces_file(&path("etc/app")) && !checked.replaces_file(&path("old")));
        assert!(checked.replaces_within(&path("front")) && checked.replaces_within(&path("front/a/b")));
        assert!(!checked.replaces_within(&path("front2")) && !checked.replaces_within(&path("x")));
        assert!(checked.replaces_below(&path("etc")) && checked.replaces_below(&path("x")));
        assert!(checked.replaces_below(&TreePath::root()));
        assert!(!checked.replaces_below(&path("front")) && !checked.replaces_below(&path("old")));
    }

    #[test]
    fn too_many_paths_and_names_that_are_not_text() {
        let many = PatchOperations {
            delete: DeleteOperations { files: vec!["a".into(); limits::OPERATIONS + 1], directories: vec![] },
            ..Default::default()
        };
        assert_eq!(many.validate(), Err(OperationsError::TooMany(limits::OPERATIONS + 1)));
        let odd = TreePath::parse(b"caf\xe9").unwrap();
        let checked = Operations::new(vec![odd.clone()], vec![], vec![], vec![]).unwrap();
        assert_eq!(PatchOperations::try_from(&checked), Err(OperationsError::NotText(odd)));
    }

    #[test]
    fn nulls_and_missing_lists_are_empty() {
        let json = r#"{"replace": {"files": null, "other": 1}, "delete": null}"#;
        assert_eq!(serde_json::from_str::<PatchOperations>(json).unwrap(), PatchOperations::default());
        assert_eq!(serde_json::from_str::<PatchOperations>("{}").unwrap(), PatchOperations::default());
        assert!(serde_json::from_str::<PatchOperations>(r#"{"replace": {"files": "a"}}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_passes_is_disjoint(
            lists in proptest::array::uniform4(proptest::collection::vec("[ab.-]{1,2}(/[ab]){0,2}", 0..4))
        ) {
            let [a, b, c, d] = lists;
            let listed = PatchOperations {
                replace: ReplaceOperations { files: a, directories: b },
                delete: DeleteOperations { files: c, directories: d },
            };
            if let Ok(checked) = listed.validate() {
                let lists = [
                    checked.replace_files(), checked.replace_directories(),
                    checked.delete_files(), checked.delete_directories(),
                ];
                let all: Vec<_> = lists.concat();
                for (at, one) in all.iter().enumerate() {
                    for other in &all[at + 1..] {
                        prop_assert!(one != other && !one.is_below(other) && !other.is_below(one));
                    }
                }
                prop_assert!(lists.iter().all(|list| list.is_sorted()));
                for file in checked.required_files() {
                    prop_assert!(checked.replaces_file(file) || checked.replaces_within(file));
                }
            }
        }
    }
}

//! Bytes as paths: two of them, apart by a newline.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};
use surefoot::model::TreePath;

fuzz_target!(|data: &[u8]| {
    let (a, b) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &data[..0]),
    };
    let (a, b) = (TreePath::parse(a), TreePath::parse(b));
    for path in [&a, &b].into_iter().flatten() {
        check(path);
    }
    if let (Ok(a), Ok(b)) = (a, b) {
        let (mine, theirs): (Vec<_>, Vec<_>) = (a.components().collect(), b.components().collect());
        assert_eq!(a.cmp(&b), mine.cmp(&theirs), "the order is that of the components");
        assert_eq!(b.is_below(&a), theirs.len() > mine.len() && theirs.starts_with(&mine));
        if let Ok(joined) = a.join(b.as_bytes()) {
            assert!(joined.is_below(&a) && joined.name() == b.name() && joined > a);
            check(&joined);
        }
    }
});

fn check(path: &TreePath) {
    assert_eq!(TreePath::parse(path.as_bytes()).as_ref(), Ok(path));
    let count = path.components().count();
    assert_eq!(count == 0, path.is_root());
    assert_eq!(path.components().collect::<Vec<_>>().join(&b'/'), path.as_bytes());
    assert!(!path.to_string().contains('\n'));
    if let Ok(text) = std::str::from_utf8(path.as_bytes()) {
        assert!(Path::new(text).components().all(|part| matches!(part, Component::Normal(_))));
        assert_eq!(Path::new(text).components().count(), count);
    }
    match path.parent() {
        Some(parent) => {
            assert!(path.is_below(&parent) && *path > parent);
            assert_eq!(parent.join(path.name()).as_ref(), Ok(path));
        }
        None => assert!(path.is_root()),
    }
}

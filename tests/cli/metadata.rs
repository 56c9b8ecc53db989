//! Capabilities and ACLs, from one real tree through a package to another and back.

use super::Place;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::path::Path;

const CAPABILITY: &str = "security.capability";
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A capability set as the kernel stores it: version 2 with the effective bit, and the permitted ones.
fn capability(permitted: u32) -> Vec<u8> {
    [0x0200_0001_u32, permitted, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An ACL as the kernel stores it: what the user with this id may, besides the bits of `mode`.
fn acl(user: u32, may: u16, mode: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let group = mode >> 3 & 7;
    let entries =
        [(1, mode >> 6, NOBODY), (2, may, user), (4, group, NOBODY), (16, group, NOBODY), (32, mode & 7, NOBODY)];
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        out.extend([(tag as u16).to_le_bytes(), bits.to_le_bytes()].concat());
        out.extend(id.to_le_bytes());
    }
    out
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    let length = getxattr(path, name, &mut bytes[..]).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// Paths, attributes, and what they are before and after.
type Row = (&'static str, &'static str, Option<Vec<u8>>, Option<Vec<u8>>);

#[test]
fn capabilities_and_acls_travel_in_packages_and_come_back() {
    let place = Place::new();
    place.good(&["keygen", "-o", "key"]);
    for tree in ["old", "new"] {
        for (path, content) in [("tool", tree), ("same", "same"), ("shared/secret", "secret"), ("gains", "gains")] {
            place.write(&format!("{tree}/{path}"), content);
        }
    }
    let rows: [Row; 6] = [
        // With other content, with the same, lost and gained.
        ("tool", CAPABILITY, Some(capability(1 << 10)), Some(capability(1 << 12))),
        ("same", CAPABILITY, Some(capability(1 << 10)), Some(capability(1 << 13))),
        ("gains", CAPABILITY, None, Some(capability(1 << 10))),
        ("shared/secret", ACCESS, Some(acl(1234, 4, 0o640)), Some(acl(4321, 6, 0o660))),
        ("shared", DEFAULT, Some(acl(1234, 5, 0o750)), None),
        ("bin", ACCESS, None, Some(acl(1234, 7, 0o775))),
    ];
    for (path, name, before, after) in &rows {
        for (tree, value) in [("old", before), ("new", after)] {
            let Some(value) = value else { continue };
            if let Err(error) = setxattr(place.path(&format!("{tree}/{path}")), *name, value, XattrFlags::empty()) {
                return println!("SKIPPED: {name} cannot be set here: {error}");
            }
        }
    }
    let assert_like = |tree: &str| {
        for (path, name, before, after) in &rows {
            let wanted = if tree == "old" { before } else { after };
            assert_eq!(&attribute(&place.path(&format!("dev/{path}")), name), wanted, "{path}, {name}, as in {tree}");
        }
        let ran = place.good(&["diff", "dev", tree]);
        assert_eq!(ran.stdout, "no difference\n");
    };
    place.good(&["build", "old", "new", "--from", "1.0.0", "--to", "1.0.0.1", "--key", "key", "-o", "up.sf"]);
    place.copy("old", "dev");
    place.good(&["--root", "dev", "init", "--version", "1.0.0", "--trust", "key.pub"]);
    assert_like("old");
    place.good(&["--root", "dev", "apply", "up.sf"]);
    assert_like("new");
    place.good(&["--root", "dev", "verify"]);
    // What somebody takes away or adds is told by its path.
    for (path, name, value) in [("same", CAPABILITY, capability(1 << 21)), ("shared/secret", ACCESS, acl(7, 7, 0o660))]
    {
        let at = place.path(&format!("dev/{path}"));
        let right = attribute(&at, name).unwrap();
        setxattr(&at, name, &value, XattrFlags::empty()).unwrap();
        let error = place.bad(&["--root", "dev", "verify"], 4, "tree.changed");
        assert_eq!(error["findings"], serde_json::json!([{"path": path, "difference": "xattrs"}]));
        setxattr(&at, name, &right, XattrFlags::empty()).unwrap();
    }
    place.good(&["--root", "dev", "verify"]);
    place.good(&["--root", "dev", "rollback"]);
    assert_like("old");
    place.good(&["--root", "dev", "verify"]);
    // The same by a full package, into an empty tree.
    place.good(&["build", "--full", "new", "--to", "1.0.0.1", "--key", "key", "-o", "full.sf"]);
    place.good(&["--root", "dev", "apply", "full.sf"]);
    assert_like("new");
    assert!(fs::metadata(place.path("dev/tool")).unwrap().is_file());
}

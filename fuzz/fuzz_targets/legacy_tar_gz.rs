//! Archives of the service manifest, with operations that come with them (see `archive::read`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use surefoot::model::{Operations, TreePath};
use surefoot::package::legacy::{LegacyError, LegacyWriter, Member, MemberKind, read_members};
use surefoot_fuzz::archive::{self, Input};

#[derive(Debug, PartialEq)]
enum Held {
    Directory,
    File(Vec<u8>),
    Symlink(Box<[u8]>),
}

type Members = BTreeMap<TreePath, (u32, Held)>;

fuzz_target!(|data: &[u8]| {
    let Some(Input { operations, limit, archive }) = archive::read(data) else { return };
    // Leaving the content to be passed over must come to the same verdict.
    let passed = read_members(&archive[..], &operations, limit, &mut |_| Ok::<_, LegacyError>(()));
    let members = match members(&archive, &operations, limit) {
        Ok(members) => members,
        Err(error) => {
            assert!(passed.is_err(), "{error}");
            return;
        }
    };
    passed.expect("the same archive");
    let mut bytes = 0;
    for (path, (mode, held)) in &members {
        assert!(operations.replaces_file(path) || operations.replaces_within(path), "{path} is not listed");
        assert!(mode & !0o777 == 0);
        let above = path.parent().expect("the root is no member");
        if let Some((_, above)) = members.get(&above) {
            assert_eq!(*above, Held::Directory, "{path} is inside something else");
        }
        if let Held::File(content) = held {
            bytes += content.len() as u64;
        }
    }
    assert!(bytes <= limit);
    for path in operations.required_files() {
        assert!(matches!(members[path].1, Held::File(_)));
    }
    for path in operations.required_directories() {
        assert!(matches!(members[path].1, Held::Directory));
    }

    let mut writer = LegacyWriter::new(Vec::new(), &operations);
    for (path, (mode, held)) in &members {
        match held {
            Held::Directory => writer.directory(path, *mode),
            Held::File(content) => writer.file(path, *mode, content.len() as u64, &mut &content[..]),
            Held::Symlink(target) => writer.symlink(path, target),
        }
        .unwrap();
    }
    let again = writer.finish().unwrap();
    assert_eq!(self::members(&again, &operations, 1 << 30).unwrap(), members);
});

fn members(archive: &[u8], operations: &Operations, limit: u64) -> Result<Members, LegacyError> {
    let mut members = Members::new();
    read_members(archive, operations, limit, &mut |Member { path, mode, kind }| {
        let held = match kind {
            MemberKind::Directory => Held::Directory,
            MemberKind::Symlink { target } => Held::Symlink(target),
            MemberKind::File { size, content } => {
                assert!(size <= limit);
                let mut bytes = Vec::new();
                content
                    .read_to_end(&mut bytes)
                    .map_err(|source| LegacyError::Content { path: path.clone(), source })?;
                assert_eq!(bytes.len() as u64, size);
                Held::File(bytes)
            }
        };
        assert!(members.insert(path.clone(), (mode, held)).is_none(), "{path} twice");
        Ok::<_, LegacyError>(())
    })?;
    Ok(members)
}

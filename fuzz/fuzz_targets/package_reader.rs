//! Packages, read to their end in three ways. The first byte says how the input becomes one (see `container`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Read;
use surefoot::model::Digest;
use surefoot::package::{Package, PackageError, Promise, Start, add_signature};
use surefoot::trust::{Keyring, SecretKey};
use surefoot_fuzz::container::{self, CODED, CONTENTS, RAW};

/// Most bytes of a manifest, and of all contents that are read.
const MOST: u64 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let mode = *mode % 3;
    let package = match mode {
        RAW => rest.to_vec(),
        CODED | CONTENTS => match container::build(mode, rest) {
            Some(package) => package,
            None => return,
        },
        _ => unreachable!(),
    };
    let Ok(opened) = Package::open_with_limit(&package[..], MOST) else {
        assert_ne!(mode, CONTENTS, "the container is right");
        return;
    };
    let shown = opened.inspect_untrusted();
    let mut keyring = Keyring::new();
    keyring.insert(SecretKey::generate([1; 32]).public()).unwrap();
    assert!(opened.verify(&keyring).is_err(), "forged");
    let Ok(promise) = shown else { return };
    if promise.payload_bytes() > MOST {
        return;
    }
    let read = read(&package, &promise);
    let skipped = skip(&package);
    let mut signed = Vec::new();
    let key = SecretKey::generate([2; 32]);
    let copied = add_signature(&package[..], &mut signed, &key);
    match read {
        Ok(()) => {
            skipped.expect("all of it is passed over too");
            copied.unwrap();
            let mut keyring = Keyring::new();
            keyring.insert(key.public()).unwrap();
            let verified = Package::open(&signed[..]).unwrap().verify(&keyring).unwrap();
            assert_eq!(*verified.promise(), promise);
            assert!(container_is_fixed(&package, promise.packed_bytes()));
        }
        Err(error) => assert_ne!(mode, CONTENTS, "what was promised is there: {error}"),
    }
});

fn read(package: &[u8], promise: &Promise) -> Result<(), PackageError> {
    let opened = Package::open(package)?.accept_unsigned()?;
    if promise.head().start != Start::Anything {
        let (again, mut segments) = opened.into_segments();
        assert_eq!(again, *promise);
        let mut count = 0;
        while let Some((segment, bytes)) = segments.next_segment()? {
            assert_eq!((segment.packed, segment.digest), (bytes.len() as u64, Digest::of(&bytes)));
            count += 1;
        }
        assert_eq!(count, promise.segments().len());
        return Ok(());
    }
    let (again, mut payload) = opened.into_payload();
    assert_eq!(again, *promise);
    let mut count = 0;
    let mut buffer = Vec::new();
    while let Some(mut content) = payload.next_content()? {
        buffer.clear();
        let (size, digest) = (content.size(), content.digest());
        // Every third one is left to the reader to pass over.
        if count % 3 != 2 {
            content.read_to_end(&mut buffer).map_err(PackageError::from)?;
            assert_eq!((buffer.len() as u64, Digest::of(&buffer)), (size, digest), "what is given out is as promised");
        }
        count += 1;
    }
    assert_eq!(count, promise.contents().count());
    assert!(payload.next_content()?.is_none(), "the end stays the end");
    Ok(())
}

fn skip(package: &[u8]) -> Result<(), PackageError> {
    let package = Package::open(package)?.accept_unsigned()?;
    if package.promise().head().start != Start::Anything {
        let (_, mut segments) = package.into_segments();
        while segments.next_segment()?.is_some() {}
        return Ok(());
    }
    let (_, mut payload) = package.into_payload();
    while payload.next_content()?.is_some() {}
    Ok(())
}

/// Nothing is in a package but its manifest, which signs for the segments.
fn container_is_fixed(package: &[u8], packed: u64) -> bool {
    let manifest = u32::from_le_bytes([package[10], package[11], package[12], package[13]]);
    let signatures = 96 * u64::from(package[14 + manifest as usize]);
    package.len() as u64 == 15 + u64::from(manifest) + signatures + packed
}

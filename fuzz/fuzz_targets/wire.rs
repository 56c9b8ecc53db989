//! Bytes as every type of the wire; the first byte says which. What decodes encodes to the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use surefoot::codec::{self, v1};
use surefoot::model::{Digest, Node};
use surefoot::transaction::Plan;
use surefoot::tree::Index;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 13 {
        0 => canonical::<v1::Record>(bytes),
        1 => canonical::<v1::PlanHeader>(bytes),
        2 => canonical::<v1::Plan>(bytes),
        3 => canonical::<v1::Generation>(bytes),
        4 => compact::<v1::PackageManifest>(bytes),
        5 => compact::<v1::Change>(bytes),
        6 => canonical::<v1::ManifestHeader>(bytes),
        7 => canonical::<v1::Entry>(bytes),
        8 => {
            if let Ok(plan) = Plan::decode(bytes) {
                assert_eq!(plan.encode().0, bytes);
                let twice = plan.clone().inverse([1; 16]).inverse(plan.transaction);
                assert_eq!(twice.steps, plan.steps);
            }
        }
        9 => {
            if let Ok(manifest) = v1::decode_manifest(bytes) {
                assert_eq!(v1::encode_manifest(&manifest), bytes);
                assert_eq!(v1::tree_digest(&manifest), v1::tree_digest(&manifest.clone()));
            }
        }
        10 => {
            if let Ok((policy, changes)) = v1::decode_manifest_delta(bytes) {
                let again = changes.iter().map(|change| (&change.path, change.after.as_ref()));
                assert_eq!(v1::encode_manifest_delta(policy, again), bytes);
            }
        }
        11 => {
            let mut index = bytes.to_vec();
            index.extend_from_slice(&Digest::of(bytes).0);
            if let Ok(entries) = v1::decode_index(&index, |entry| entry) {
                assert_eq!(v1::encode_index(entries.into_iter()), index);
                assert_eq!(Index::decode(&index).expect("entries are sound").encode(), index);
            }
        }
        _ => {
            let Ok(wire) = codec::decode::<v1::Node>(bytes) else { return };
            if let Ok(node) = Node::try_from(wire.clone()) {
                assert_eq!(v1::Node::from(&node), wire);
            }
        }
    }
});

fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok((value, used)) = codec::decode_prefix::<T>(bytes) {
        assert_eq!(codec::encode(&value), bytes[..used]);
        assert_eq!(codec::decode::<T>(bytes).is_ok(), used == bytes.len());
    }
}

fn compact<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode_compact::<T>(bytes) {
        assert_eq!(codec::encode_compact(&value), bytes);
    }
}

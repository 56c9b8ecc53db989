//! Bytes as each kind of metadata of a repository.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::repository::{
    Body, Key, OfflinePolicy, Release, Role, Root, Signed, Snapshot, Targets, Timestamp, add_signature, sign, signers,
    stored_name, stored_role,
};
use surefoot::trust::SecretKey;

fuzz_target!(|bytes: &[u8]| {
    if let Some(root) = check::<Root>(bytes) {
        for role in root.roles.values() {
            let signed: Signed<Root> = Signed::parse("root.json", bytes).expect("it was read before");
            let _ = signed.verify(&root.keys, role);
        }
    }
    if let Some(targets) = check::<Targets>(bytes) {
        for (path, target) in &targets.targets {
            if let Ok(Some(release)) = Release::read(path, target) {
                let again = Release::read(path, &release.to_target()).expect("what was read is good");
                assert_eq!(again, Some(release));
            }
            for delegation in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
                let _ = delegation.covers(path);
                assert_eq!(stored_role(&stored_name(&delegation.name)).as_ref(), Some(&delegation.name));
            }
        }
    }
    check::<Snapshot>(bytes);
    check::<Timestamp>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(policy) = text.parse::<OfflinePolicy>()
    {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
});

fn check<T: Body + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let signed: Signed<T> = Signed::parse("file", bytes).ok()?;
    let key = SecretKey::generate([9; 32]);
    let public = Key::ed25519(&key.public());
    let (keys, role) = ([(public.id(), public.clone())].into(), Role::new(vec![public.id()], 1));
    assert!(signed.verify(&keys, &role).is_err(), "forged");
    let _ = signers("file", bytes);
    // With our signature added it says the same and is believed.
    let ours = add_signature("file", bytes, &key).expect("it was read before");
    let read: Signed<T> = Signed::parse("file", &ours).expect("a signature breaks nothing");
    assert_eq!(read.body, signed.body);
    assert_eq!(read.verify(&keys, &role), Ok(()));
    // Written anew it says the same.
    let anew = sign(&signed.body, &[&key]).expect("what was read can be written");
    assert_eq!(Signed::<T>::parse("file", &anew).expect("and read again").body, signed.body);
    Some(signed.body)
}

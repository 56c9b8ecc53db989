//! Texts as keys, keyrings and signatures.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::trust::{Keyring, PublicKey, SecretKey, Signature};

fuzz_target!(|text: &str| {
    if let Ok(key) = PublicKey::from_pem(text) {
        assert_eq!(PublicKey::from_pem(&key.to_pem()).unwrap().id(), key.id());
    }
    if let Ok(key) = SecretKey::from_pem(text) {
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public().id(), key.public().id());
        key.public().verify(b"domain", b"bytes", &key.sign(b"domain", b"bytes")).unwrap();
    }
    if let Ok(keyring) = Keyring::from_pem(text) {
        assert!(!keyring.is_empty());
        assert_eq!(Keyring::from_pem(&keyring.to_pem()).unwrap(), keyring);
    }
    if let Ok(signature) = Signature::parse(text) {
        assert_eq!(Signature::parse(&signature.to_string()).unwrap(), signature);
        let key = SecretKey::generate([1; 32]).public();
        assert!(key.verify(b"domain", b"bytes", &signature).is_err(), "forged");
    }
});

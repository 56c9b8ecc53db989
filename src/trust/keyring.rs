//! The keys that are trusted.

use super::{PublicKey, Signature, TrustError};
use crate::limits;
use crate::model::Digest;
use std::collections::BTreeMap;
use std::fmt;

/// A set of public keys that are trusted alike: one good signature by one of them is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<Digest, PublicKey>);

impl Keyring {
    /// One that trusts nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the public keys of a PEM text, one or several; what stands between them is ignored, as PEM has it.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let mut keyring = Self::new();
        let mut rest = text;
        while let Some(begin) = rest.find("-----BEGIN ") {
            let block = &rest[begin..];
            let end = block.find("-----END ").and_then(|at| Some(at + 9 + block[at + 9..].find("-----")? + 5));
            let end = end.ok_or_else(|| TrustError::Key { kind: "public", reason: "cut short".into() })?;
            keyring.insert(PublicKey::from_pem(&block[..end])?)?;
            rest = &block[end..];
        }
        if keyring.is_empty() {
            return Err(TrustError::Key { kind: "public", reason: "no PEM block".into() });
        }
        Ok(keyring)
    }

    /// All keys as one PEM text.
    pub fn to_pem(&self) -> String {
        self.keys().map(PublicKey::to_pem).collect()
    }

    /// Trusts a key; false if it was trusted already.
    pub fn insert(&mut self, key: PublicKey) -> Result<bool, TrustError> {
        let id = key.id();
        if self.0.len() >= limits::TRUSTED_KEYS && !self.contains(&id) {
            return Err(TrustError::TooManyKeys(limits::TRUSTED_KEYS));
        }
        Ok(self.0.insert(id, key).is_none())
    }

    /// Stops trusting a key; false if it was not trusted.
    pub fn remove(&mut self, id: &Digest) -> bool {
        self.0.remove(id).is_some()
    }

    /// Is this key trusted?
    pub fn contains(&self, id: &Digest) -> bool {
        self.0.contains_key(id)
    }

    /// The keys, by their names.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }

    /// Does it trust nobody?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks that one of `signatures`, each with the name of its key, is a good one of `domain` and `bytes` by a trusted
    /// key; tells which key.
    pub fn verify_any(
        &self,
        domain: &[u8],
        bytes: &[u8],
        signatures: &[(Digest, Signature)],
    ) -> Result<Digest, TrustError> {
        if self.is_empty() {
            return Err(TrustError::NoKeys);
        }
        if signatures.is_empty() {
            return Err(TrustError::Unsigned);
        }
        let mut error = TrustError::Untrusted(signatures.iter().map(|(id, _)| *id).collect());
        for (id, signature) in signatures {
            match self.0.get(id).map(|key| key.verify(domain, bytes, signature)) {
                Some(Ok(())) => return Ok(*id),
                Some(Err(wrong)) => error = wrong,
                None => {}
            }
        }
        Err(error)
    }
}

/// Verifies the plain signature (no domain, no name of a key) of bytes that come piece by piece, in constant memory.
pub struct StreamVerifier(Vec<(Digest, ed25519_dalek::StreamVerifier)>);

impl StreamVerifier {
    /// Begins; every key of the ring is tried.
    pub fn new(keyring: &Keyring, signature: &Signature) -> Result<Self, TrustError> {
        if keyring.is_empty() {
            return Err(TrustError::NoKeys);
        }
        Ok(Self(keyring.0.iter().filter_map(|(id, key)| Some((*id, key.verifier(signature)?))).collect()))
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|(_, verifier)| verifier.update(bytes));
    }

    /// The name of the key whose signature of all these bytes it is.
    pub fn finish(self) -> Result<Digest, TrustError> {
        self.0
            .into_iter()
            .find_map(|(id, verifier)| verifier.finalize_and_verify().ok().map(|()| id))
            .ok_or(TrustError::Wrong)
    }
}

impl fmt::Debug for StreamVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamVerifier with {} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SecretKey;

    fn keys() -> [SecretKey; 3] {
        [1, 2, 3].map(|seed| SecretKey::generate([seed; 32]))
    }

    fn ring(keys: &[&SecretKey]) -> Keyring {
        let mut ring = Keyring::new();
        keys.iter().for_each(|key| assert!(ring.insert(key.public()).unwrap()));
        ring
    }

    #[test]
    fn one_good_signature_of_a_trusted_key_is_enough_and_nothing_less_is() {
        let [a, b, c] = keys();
        let by = |key: &SecretKey, bytes: &[u8]| (key.public().id(), key.sign(b"domain", bytes));
        let verify =
            |ring: &Keyring, signatures: &[(Digest, Signature)]| ring.verify_any(b"domain", b"bytes", signatures);
        let trusted = ring(&[&a, &b]);
        assert_eq!(verify(&trusted, &[by(&c, b"bytes"), by(&b, b"bytes")]), Ok(b.public().id()));
        assert_eq!(verify(&trusted, &[by(&a, b"other"), by(&b, b"bytes")]), Ok(b.public().id()));
        assert_eq!(verify(&trusted, &[by(&a, b"other")]), Err(TrustError::Wrong));
        assert_eq!(verify(&trusted, &[by(&c, b"bytes")]), Err(TrustError::Untrusted(vec![c.public().id()])));
        // A name does not make a signature.
        assert_eq!(verify(&trusted, &[(a.public().id(), c.sign(b"domain", b"bytes"))]), Err(TrustError::Wrong));
        assert_eq!(verify(&trusted, &[(a.public().id(), a.sign(b"", b"bytes"))]), Err(TrustError::Wrong));
        assert_eq!(verify(&trusted, &[]), Err(TrustError::Unsigned));
        assert_eq!(verify(&Keyring::new(), &[by(&a, b"bytes")]), Err(TrustError::NoKeys));
    }

    #[test]
    fn a_stream_verifies_in_pieces_under_any_key_of_the_ring() {
        let [a, b, c] = keys();
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n * n) as u8).collect();
        let check = |ring: &Keyring, signature: &Signature, bytes: &[u8], piece: usize| {
            let mut verifier = StreamVerifier::new(ring, signature).unwrap();
            bytes.chunks(piece).for_each(|piece| verifier.update(piece));
            verifier.finish()
        };
        let trusted = ring(&[&a, &b]);
        for piece in [1, 777, 10_000] {
            assert_eq!(check(&trusted, &b.sign(b"", &bytes), &bytes, piece), Ok(b.public().id()));
            assert_eq!(check(&trusted, &b.sign(b"", &bytes), &bytes[1..], piece), Err(TrustError::Wrong));
            assert_eq!(check(&trusted, &c.sign(b"", &bytes), &bytes, piece), Err(TrustError::Wrong));
        }
        assert_eq!(check(&trusted, &Signature([0; 64]), &bytes, 777), Err(TrustError::Wrong));
        assert!(StreamVerifier::new(&Keyring::new(), &c.sign(b"", b"")).is_err());
    }

    #[test]
    fn a_ring_reads_its_own_text_and_refuses_other_keys_in_it() {
        let [a, b, c] = keys();
        let trusted = ring(&[&a, &b]);
        let text = format!("# ours\n{}", trusted.to_pem().replace("\n-----B", "\nof the publisher\n-----B"));
        assert_eq!(Keyring::from_pem(&text).unwrap(), trusted);
        assert!(Keyring::from_pem("").is_err());
        assert!(Keyring::from_pem(&(text.clone() + &c.to_pem())).is_err());
        assert!(Keyring::from_pem(&text[..text.len() - 10]).is_err());
        let mut smaller = trusted;
        assert!(smaller.remove(&a.public().id()) && !smaller.remove(&a.public().id()));
        assert!(smaller.contains(&b.public().id()) && !smaller.contains(&a.public().id()));
    }
}

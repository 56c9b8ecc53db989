//! `RoleKey`: a public key of a repository's role, of one of the kinds that TUF names.

use super::{PublicKey, Signature, TrustError};

/// A public key of a role. Which kinds there are is decided here: others are refused by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoleKey {
    /// `ed25519`.
    Ed25519(PublicKey),
    /// `ecdsa-sha2-nistp256`.
    #[cfg(feature = "ecdsa")]
    EcdsaP256(super::ecdsa::EcdsaKey),
}

impl RoleKey {
    /// Reads the text of a key of this type and scheme.
    pub fn parse(kind: &str, scheme: &str, public: &str) -> Result<Self, TrustError> {
        match (kind, scheme) {
            ("ed25519", "ed25519") => {
                let bytes = unhex(public).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                let bytes = bytes
                    .ok_or_else(|| TrustError::Key { kind: "public", reason: "not 64 hexadecimal digits".into() })?;
                PublicKey::from_bytes(&bytes).map(Self::Ed25519)
            }
            #[cfg(feature = "ecdsa")]
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                super::ecdsa::EcdsaKey::from_pem(public).map(Self::EcdsaP256)
            }
            _ => Err(TrustError::KeyKind { kind: shorten(kind), scheme: shorten(scheme) }),
        }
    }

    /// What makes it this key and no other: two keys with equal bytes are one key, whatever they are called.
    pub fn identity(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => [b"ed25519".as_slice(), &key.to_bytes()].concat(),
            #[cfg(feature = "ecdsa")]
            Self::EcdsaP256(key) => [b"ecdsa-p256".as_slice(), &key.to_bytes()].concat(),
        }
    }

    /// Is this the signature of `bytes`?
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> Result<(), TrustError> {
        match self {
            Self::Ed25519(key) => {
                let signature = signature.try_into().map_err(|_| TrustError::Wrong)?;
                key.verify(b"", bytes, &Signature(signature))
            }
            #[cfg(feature = "ecdsa")]
            Self::EcdsaP256(key) => key.verify(bytes, signature),
        }
    }
}

/// The beginning of a text of a stranger.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// The bytes of an even number of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SecretKey;

    #[test]
    fn an_ed25519_key_is_64_digits_and_other_kinds_are_refused_by_name() {
        let secret = SecretKey::generate([5; 32]);
        let public = hex(&secret.public().to_bytes());
        let key = RoleKey::parse("ed25519", "ed25519", &public).unwrap();
        assert_eq!(key, RoleKey::parse("ed25519", "ed25519", &public.to_uppercase()).unwrap());
        let signature = secret.sign(b"", b"bytes").0;
        assert_eq!(key.verify(b"bytes", &signature), Ok(()));
        assert_eq!(key.verify(b"other", &signature), Err(TrustError::Wrong));
        assert_eq!(key.verify(b"bytes", &signature[1..]), Err(TrustError::Wrong));
        assert!(matches!(RoleKey::parse("ed25519", "ed25519", &public[2..]), Err(TrustError::Key { .. })));
        assert!(matches!(RoleKey::parse("ed25519", "ed25519", &"g".repeat(64)), Err(TrustError::Key { .. })));
        assert_eq!(RoleKey::parse("ed25519", "ed25519", &format!("01{}", "0".repeat(62))), Err(TrustError::WeakKey));
        for (kind, scheme) in [("rsa", "rsassa-pss-sha256"), ("ed25519", "rsassa-pss-sha256"), ("sphincs", "x")] {
            let error = RoleKey::parse(kind, scheme, &public).unwrap_err();
            assert!(matches!(&error, TrustError::KeyKind { kind: named, .. } if named == kind), "{error}");
        }
        if cfg!(not(feature = "ecdsa")) {
            assert!(matches!(RoleKey::parse("ecdsa", "ecdsa-sha2-nistp256", &public), Err(TrustError::KeyKind { .. })));
        }
    }

    #[test]
    fn hexadecimal_digits_read_back() {
        assert_eq!(unhex("00ffA0"), Some(vec![0, 255, 160]));
        assert_eq!(hex(&[0, 255, 160]), "00ffa0");
        assert_eq!((unhex("0"), unhex("0g"), unhex("\u{e9}")), (None, None, None));
    }
}

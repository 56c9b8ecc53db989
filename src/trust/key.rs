//! The two halves of an Ed25519 key, in the notation of `openssl`.

use super::{Signature, TrustError, Zeroizing};
use crate::model::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::ed25519::signature::MultipartSigner as _;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::fmt;

/// DER of an Ed25519 PKCS#8 key of version 1 (RFC 8410, section 7) up to the 32 secret bytes. Version 2 adds the public
/// key, which older `openssl` refuses.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// DER of an Ed25519 SPKI key (RFC 8410, section 4) up to the 32 public bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The half of a key that signs. Its memory is wiped when it is dropped.
pub struct SecretKey(SigningKey);

/// The half of a key that verifies; never a weak one.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SecretKey {
    /// A new key from 32 bytes that the caller took from the system's source of randomness.
    pub fn generate(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// Reads a PKCS#8 PEM file (`openssl genpkey -algorithm ed25519`), not encrypted.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let key = SigningKey::from_pkcs8_pem(text)
            .map_err(|error| TrustError::Key { kind: "secret", reason: error.to_string() })?;
        Ok(Self(key))
    }

    /// The PKCS#8 PEM file.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; 48]);
        der[..16].copy_from_slice(&PKCS8_PREFIX);
        der[16..].copy_from_slice(self.0.as_bytes());
        let mut body = Zeroizing::new([0; 64]);
        // 48 bytes are exactly 64 digits.
        let _ = STANDARD.encode_slice(der.as_slice(), body.as_mut_slice());
        // Never grows, so no copy stays behind in memory that is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        body.iter().for_each(|digit| text.push(char::from(*digit)));
        text.push_str("\n-----END PRIVATE KEY-----\n");
        text
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `domain` and `bytes`, one after the other. A domain keeps a signature from being taken for one of another
    /// kind; an empty one gives the plain Ed25519 signature of the bytes.
    pub fn sign(&self, domain: &[u8], bytes: &[u8]) -> Signature {
        Signature(self.0.multipart_sign(&[domain, bytes]).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {:?}", self.public())
    }
}

impl PublicKey {
    /// Reads an SPKI PEM file (`openssl pkey -pubout`).
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let key = VerifyingKey::from_public_key_pem(text)
            .map_err(|error| TrustError::Key { kind: "public", reason: error.to_string() })?;
        Self::strong(key)
    }

    /// Reads the 32 bytes of RFC 8032.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, TrustError> {
        let key = VerifyingKey::from_bytes(bytes)
            .map_err(|error| TrustError::Key { kind: "public", reason: error.to_string() })?;
        Self::strong(key)
    }

    /// The 32 bytes of RFC 8032.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    fn strong(key: VerifyingKey) -> Result<Self, TrustError> {
        if key.is_weak() { Err(TrustError::WeakKey) } else { Ok(Self(key)) }
    }

    /// The SPKI PEM file.
    pub fn to_pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(self.der()))
    }

    /// The name of the key: the SHA-256 of its SPKI DER.
    pub fn id(&self) -> Digest {
        Digest::of(&self.der())
    }

    /// Is this the signature of `domain` and `bytes`, one after the other? As strict as `verify_strict`.
    pub fn verify(&self, domain: &[u8], bytes: &[u8], signature: &Signature) -> Result<(), TrustError> {
        let mut verifier = self.verifier(signature).ok_or(TrustError::Wrong)?;
        verifier.update(domain);
        verifier.update(bytes);
        verifier.finalize_and_verify().map_err(|_| TrustError::Wrong)
    }

    /// A verifier that takes the message piece by piece; nothing if no message has this signature.
    ///
    /// What `verify_strict` asks besides: the key and the point R of the signature are not of small order. The first
    /// holds of every value of this type; the second is asked here.
    pub(super) fn verifier(&self, signature: &Signature) -> Option<ed25519_dalek::StreamVerifier> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        let point = VerifyingKey::from_bytes(signature.r_bytes()).ok()?;
        if point.is_weak() {
            return None;
        }
        self.0.verify_stream(&signature).ok()
    }

    fn der(&self) -> [u8; 44] {
        let mut der = [0; 44];
        der[..12].copy_from_slice(&SPKI_PREFIX);
        der[12..].copy_from_slice(self.0.as_bytes());
        der
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey {}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::EncodePublicKey as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn keys_read_their_own_notation() {
        let secret = SecretKey::generate([7; 32]);
        let again = SecretKey::from_pem(&secret.to_pem()).unwrap();
        assert_eq!(again.0.as_bytes(), secret.0.as_bytes());
        let public = secret.public();
        assert_eq!(PublicKey::from_pem(&public.to_pem()).unwrap(), public);
        assert_eq!(public.der().as_slice(), public.0.to_public_key_der().unwrap().as_bytes());
        assert_eq!(public.id(), Digest::of(&public.der()));
        assert!(PublicKey::from_pem(&secret.to_pem()).is_err());
        assert!(SecretKey::from_pem(&public.to_pem()).is_err());
        assert!(SecretKey::from_pem("").is_err());
        assert!(!format!("{secret:?}").contains(&secret.to_pem()[30..40]));
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        // Section 7.1, test 3.
        let seed = bytes("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
        let public = bytes("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
        let expected = bytes(
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        );
        let secret = SecretKey::generate(seed.try_into().unwrap());
        assert_eq!(secret.0.verifying_key().as_bytes().as_slice(), public);
        for (domain, rest) in [(&b""[..], &[0xaf, 0x82][..]), (&[0xaf], &[0x82]), (&[0xaf, 0x82], &[])] {
            let signature = secret.sign(domain, rest);
            assert_eq!(signature.0.as_slice(), expected);
            assert_eq!(secret.public().verify(domain, rest, &signature), Ok(()));
            assert_eq!(secret.public().verify(domain, b"other", &signature), Err(TrustError::Wrong));
        }
    }

    #[test]
    fn verification_agrees_with_verify_strict_and_refuses_points_of_small_order() {
        let secret = SecretKey::generate([3; 32]);
        let signature = secret.sign(b"", b"message");
        let agree = |signature: &Signature, message: &[u8]| {
            let strict = secret
                .0
                .verifying_key()
                .verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0))
                .is_ok();
            assert_eq!(secret.public().verify(b"", message, signature).is_ok(), strict);
            strict
        };
        assert!(agree(&signature, b"message"));
        for bit in 0..512 {
            let mut changed = signature.clone();
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!agree(&changed, b"message"), "bit {bit}");
        }
        let mut small = [0; 32];
        small[0] = 1;
        assert_eq!(PublicKey::from_bytes(&small), Err(TrustError::WeakKey));
        let mut neutral = signature;
        neutral.0[..32].copy_from_slice(&small);
        assert!(!agree(&neutral, b"message") && secret.public().verifier(&neutral).is_none());
    }

    /// Runs `openssl`; nothing where there is none.
    fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(output.stdout)
    }

    #[test]
    fn openssl_reads_our_keys_and_we_read_its() {
        let Some(theirs) = openssl(&["genpkey", "-algorithm", "ed25519"], b"") else {
            println!("skipped: there is no openssl here");
            return;
        };
        let secret = SecretKey::from_pem(std::str::from_utf8(&theirs).unwrap()).unwrap();
        let public = openssl(&["pkey", "-pubout"], &theirs).unwrap();
        assert_eq!(PublicKey::from_pem(std::str::from_utf8(&public).unwrap()).unwrap(), secret.public());
        assert_eq!(secret.public().to_pem().as_bytes(), public);
        assert_eq!(secret.to_pem().as_bytes(), theirs);

        let ours = SecretKey::generate([9; 32]);
        let public = openssl(&["pkey", "-pubout"], ours.to_pem().as_bytes()).unwrap();
        assert_eq!(ours.public().to_pem().as_bytes(), public);
        assert_eq!(Digest::of(&openssl(&["pkey", "-pubin", "-outform", "DER"], &public).unwrap()), ours.public().id());

        let temporary = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let (key, message) = (temporary(ours.to_pem().as_bytes()), temporary(b"the package"));
        let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_string();
        let signature =
            openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &path(&key), "-in", &path(&message)], b"").unwrap();
        assert_eq!(signature, ours.sign(b"", b"the package").0);
    }
}

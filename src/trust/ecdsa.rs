//! ECDSA over P-256 with SHA-256, as metadata of repositories may be signed (feature `ecdsa`).

use super::TrustError;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;

/// A public key of ECDSA over P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcdsaKey(VerifyingKey);

impl EcdsaKey {
    /// Reads an SPKI PEM text.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let key = VerifyingKey::from_public_key_pem(text)
            .map_err(|error| TrustError::Key { kind: "public", reason: error.to_string() })?;
        Ok(Self(key))
    }

    /// The point, compressed.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_sec1_point(true).as_bytes().to_vec()
    }

    /// Is this the signature of `bytes`, in DER?
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> Result<(), TrustError> {
        let signature = Signature::from_der(signature).map_err(|_| TrustError::Wrong)?;
        self.0.verify(bytes, &signature).map_err(|_| TrustError::Wrong)
    }
}

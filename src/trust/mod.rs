//! Who may change a tree: Ed25519 keys, signatures, the set of keys that is trusted, and keys of a repository's roles.
//!
//! Everything here works on bytes; no file, clock or source of randomness is touched.

#[cfg(feature = "ecdsa")]
mod ecdsa;
mod key;
mod keyring;
mod role_key;
mod signature;

pub use ed25519_dalek::pkcs8::spki::der::zeroize::Zeroizing;
pub use key::{PublicKey, SecretKey};
pub use keyring::{Keyring, StreamVerifier};
pub use role_key::{RoleKey, hex, unhex};
pub use signature::Signature;

use crate::model::Digest;

/// Why a key or a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A key that cannot be read, or is of another kind.
    #[error("not an Ed25519 {kind} key: {reason}")]
    Key {
        /// `secret` or `public`.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A public key under which anybody can make signatures.
    #[error("the public key is weak")]
    WeakKey,
    /// A public key of a kind that cannot be used here.
    #[error("a key of type {kind:?} with scheme {scheme:?} is not supported")]
    KeyKind {
        /// Its type, as TUF names it.
        kind: String,
        /// Its scheme.
        scheme: String,
    },
    /// More keys than [`crate::limits::TRUSTED_KEYS`].
    #[error("more than {0} keys are trusted")]
    TooManyKeys(usize),
    /// A text that is not a signature.
    #[error("not a signature: {0}")]
    Malformed(String),
    /// There is no key to verify with.
    #[error("no key is trusted")]
    NoKeys,
    /// There is no signature.
    #[error("there is no signature")]
    Unsigned,
    /// Signed, but by no key that is trusted.
    #[error("signed by no trusted key (key {})", join(.0))]
    Untrusted(Vec<Digest>),
    /// The signature is not one of these bytes under a trusted key.
    #[error("the signature is wrong")]
    Wrong,
}

fn join(keys: &[Digest]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

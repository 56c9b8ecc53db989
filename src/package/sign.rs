//! The signatures of a package.

use super::layout::{self, Piece, Signatures};
use super::promise::Promise;
use super::{PackageError, reader};
use crate::codec::v1::PACKAGE_DOMAIN;
use crate::limits;
use crate::model::Digest;
use crate::trust::SecretKey;
use std::io::{Read, Write};

/// Copies a package and adds a signature; one that the same key has made before is replaced. Tells the name of the
/// package that was signed.
///
/// The payload is copied unchanged, and its segments are checked by their digests.
pub fn add_signature(read: impl Read, out: &mut dyn Write, key: &SecretKey) -> Result<Digest, PackageError> {
    let mut front = reader::read_front(read, limits::PACKAGE_MANIFEST)?;
    let promise = Promise::decode(&front.manifest)?;
    add(&mut front.signatures, key, &front.manifest)?;
    layout::write_front(out, &front.packed, &front.signatures)?;
    let mut read = front.rest;
    for (index, segment) in promise.segments().iter().enumerate() {
        let mut piece = Piece::new(read, segment.packed);
        layout::copy_piece(out, segment.packed, &mut piece)?;
        let digest;
        (digest, read) = piece.finish()?;
        if digest != segment.digest {
            return Err(PackageError::Digest(format!("segment {index}")));
        }
    }
    layout::expect_end(&mut read)?;
    Ok(Digest::of(&front.manifest))
}

/// Signs the bytes of a manifest.
pub(super) fn add(signatures: &mut Signatures, key: &SecretKey, manifest: &[u8]) -> Result<(), PackageError> {
    let id = key.public().id();
    signatures.retain(|(other, _)| *other != id);
    let at = signatures.partition_point(|(other, _)| other.0 < id.0);
    signatures.insert(at, (id, key.sign(PACKAGE_DOMAIN, manifest)));
    if signatures.len() > limits::SIGNATURES {
        return Err(PackageError::Limit { what: "signatures", most: limits::SIGNATURES as u64 });
    }
    Ok(())
}

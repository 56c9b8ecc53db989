//! The signatures of a package.

use super::layout::{self, MANIFEST, Member, SIGNATURES};
use super::promise::Promise;
use super::{PackageError, reader};
use crate::codec;
use crate::codec::v1::{PACKAGE_DOMAIN, SignatureBlock};
use crate::limits;
use crate::model::Digest;
use crate::trust::{SecretKey, Signature};
use std::io::{Read, Write};

/// Longest member with signatures, in bytes: a count, and 96 bytes for each.
pub(super) const MOST_BYTES: u64 = 8 + 96 * limits::SIGNATURES as u64;

/// Copies a package and adds a signature; one that the same key has made before is replaced. Tells the name of the
/// package that was signed.
///
/// The payload is copied unchanged, and checked: nobody should sign for a package that cannot be applied.
pub fn add_signature(read: impl Read, out: &mut dyn Write, key: &SecretKey) -> Result<Digest, PackageError> {
    let mut packed = Vec::new();
    let (manifest, mut signatures, mut read) = reader::read_front(read, limits::PACKAGE_MANIFEST, Some(&mut packed))?;
    let promise = Promise::decode(&manifest)?;
    add(&mut signatures, key, &manifest)?;
    layout::write_member(out, MANIFEST, &packed)?;
    layout::write_member(out, SIGNATURES, &encode(&signatures))?;
    for (index, segment) in promise.segments().iter().enumerate() {
        let name = layout::segment_name(index);
        layout::expect_header(&mut read, &name, segment.packed)?;
        let mut member = Member::new(read, segment.packed);
        layout::copy_member(out, &name, segment.packed, &mut member)?;
        let digest;
        (digest, read) = member.finish()?;
        if digest != segment.digest {
            return Err(PackageError::Digest(format!("segment {index}")));
        }
    }
    layout::expect_end(&mut read)?;
    layout::write_end(out)?;
    Ok(Digest::of(&manifest))
}

/// Signs the bytes of a manifest.
pub(super) fn add(
    signatures: &mut Vec<(Digest, Signature)>,
    key: &SecretKey,
    manifest: &[u8],
) -> Result<(), PackageError> {
    let id = key.public().id();
    signatures.retain(|(other, _)| *other != id);
    signatures.push((id, key.sign(PACKAGE_DOMAIN, manifest)));
    if signatures.len() > limits::SIGNATURES {
        return Err(PackageError::Limit { what: "signatures", most: limits::SIGNATURES as u64 });
    }
    Ok(())
}

pub(super) fn encode(signatures: &[(Digest, Signature)]) -> Vec<u8> {
    let block = |(id, signature): &(Digest, Signature)| {
        let mut halves = [[0; 32]; 2];
        halves[0].copy_from_slice(&signature.0[..32]);
        halves[1].copy_from_slice(&signature.0[32..]);
        SignatureBlock { key: id.0, signature: halves }
    };
    codec::encode(&signatures.iter().map(block).collect::<Vec<_>>())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(Digest, Signature)>, PackageError> {
    let blocks: Vec<SignatureBlock> = codec::decode(bytes)?;
    let mut signatures: Vec<(Digest, Signature)> = Vec::with_capacity(blocks.len());
    for block in blocks {
        let id = Digest(block.key);
        if signatures.iter().any(|(other, _)| *other == id) {
            return Err(PackageError::malformed("two signatures of one key"));
        }
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&block.signature[0]);
        bytes[32..].copy_from_slice(&block.signature[1]);
        signatures.push((id, Signature(bytes)));
    }
    Ok(signatures)
}

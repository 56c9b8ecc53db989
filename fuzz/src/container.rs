//! Packages from fuzz input.

use surefoot::codec::{self, v1};
use surefoot::model::{Digest, Entry, Manifest, Node, Policy};

/// First byte of an input: the rest is a package.
pub const RAW: u8 = 0;
/// The rest is a manifest and segments as they are coded: container, digests of segments and the target are made.
pub const CODED: u8 = 1;
/// The rest is a manifest and contents one after the other: everything that follows from these is made.
pub const CONTENTS: u8 = 2;

/// Makes a package from a manifest (length in four bytes, then so many bytes) and a payload; nothing if the manifest
/// does not decode, and then the container is of no interest.
pub fn build(mode: u8, data: &[u8]) -> Option<Vec<u8>> {
    let (length, data) = data.split_first_chunk::<4>()?;
    let (manifest, payload) = data.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut manifest: v1::PackageManifest = codec::decode_compact(manifest).ok()?;
    let segments = if mode == CONTENTS { fill(&mut manifest, payload)? } else { cut(&mut manifest, payload) };
    if manifest.kind == v1::PackageKind::Full
        && let Some(tree) = tree(&manifest)
    {
        manifest.target = v1::tree_digest(&tree).0;
    }
    let packed = zstd::bulk::compress(&codec::encode_compact(&manifest), 1).ok()?;
    let length = u32::try_from(packed.len()).ok()?;
    // Signed by nobody.
    let head = [&b"surefoot\x01\0"[..], &length.to_le_bytes(), &packed, &[0]].concat();
    Some([head, segments.concat()].concat())
}

/// The input with these parts.
pub fn write(mode: u8, manifest: &v1::PackageManifest, payload: &[u8]) -> Vec<u8> {
    let manifest = codec::encode_compact(manifest);
    [&[mode], &(manifest.len() as u32).to_le_bytes()[..], &manifest, payload].concat()
}

/// The segments, as long as they say, and their digests.
fn cut(manifest: &mut v1::PackageManifest, mut payload: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    for segment in &mut manifest.segments {
        let length = usize::try_from(segment.packed).unwrap_or(usize::MAX).min(payload.len());
        let (bytes, rest) = payload.split_at(length);
        payload = rest;
        segment.digest = Digest::of(bytes).0;
        segments.push(bytes.to_vec());
    }
    segments
}

/// Gives each file of the payload the size that it says, or what is left, and codes the segments.
fn fill(manifest: &mut v1::PackageManifest, mut payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    let mut kinds = Vec::new();
    for change in &mut manifest.changes {
        if let Some((v1::Node { kind: v1::Kind::File(size, digest), .. }, v1::Source::Payload)) = &mut change.after {
            let length = usize::try_from(*size).unwrap_or(usize::MAX).min(payload.len());
            let (bytes, rest) = payload.split_at(length);
            payload = rest;
            (*size, *digest) = (length as u64, Digest::of(bytes).0);
            contents.push(bytes);
        }
        kinds.push(change.after.as_ref().map(|(node, _)| node.kind.clone()));
    }
    for (index, change) in manifest.changes.iter_mut().enumerate() {
        if let Some((node, v1::Source::Change(earlier))) = &mut change.after
            && let Some(Some(kind)) = kinds[..index].get(*earlier as usize)
        {
            node.kind = kind.clone();
        }
    }
    let contents = contents.concat();
    let mut rest = contents.as_slice();
    let mut segments = Vec::new();
    let last = manifest.segments.len().saturating_sub(1);
    for (index, segment) in manifest.segments.iter_mut().enumerate() {
        let most = if index == last { rest.len() } else { segment.unpacked as usize & 0xFFFF };
        let (plain, behind) = rest.split_at(most.min(rest.len()));
        rest = behind;
        let coded = if segment.codec == 1 { zstd::bulk::compress(plain, 1).ok()? } else { plain.to_vec() };
        segment.unpacked = plain.len() as u64;
        segment.packed = coded.len() as u64;
        segment.digest = Digest::of(&coded).0;
        if !plain.is_empty() {
            segments.push(coded);
        }
    }
    manifest.segments.retain(|segment| segment.unpacked > 0);
    Some(segments)
}

fn tree(manifest: &v1::PackageManifest) -> Option<Manifest> {
    let mut entries = Vec::new();
    for change in &manifest.changes {
        let (node, _) = change.after.clone()?;
        entries.push(Entry { path: v1::tree_path(&change.path).ok()?, node: Node::try_from(node).ok()? });
    }
    Manifest::new(Policy::from_bits(manifest.policy)?, entries).ok()
}

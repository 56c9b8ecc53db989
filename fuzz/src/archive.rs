//! Archives of the service manifest from fuzz input.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use surefoot::model::{DeleteOperations, Operations, PatchOperations, ReplaceOperations};

/// Bit of the first byte: the rest is a tar, and is put into gzip; otherwise it is the gzip.
pub const TAR: u8 = 1;
/// Bit of the first byte: the checksums of the tar's headers are put right.
pub const SUMS: u8 = 2;

const BLOCK: usize = 512;

/// What one input says.
pub struct Input {
    /// What the archive is to do.
    pub operations: Operations,
    /// How much may be unpacked.
    pub limit: u64,
    /// The archive.
    pub archive: Vec<u8>,
}

/// Reads an input: flags, limit in blocks of 1 KiB, the operations up to a NUL, the archive.
///
/// The operations are lines of a letter and a path: `f` and `d` replace a file or directory, `F` and `D` delete it.
pub fn read(data: &[u8]) -> Option<Input> {
    let [flags, limit, rest @ ..] = data else { return None };
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (text, archive) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let listed = |kind: &str| text.lines().filter_map(|line| line.strip_prefix(kind).map(str::to_owned)).collect();
    let operations = PatchOperations {
        replace: ReplaceOperations { files: listed("f"), directories: listed("d") },
        delete: DeleteOperations { files: listed("F"), directories: listed("D") },
    };
    let mut archive = archive.to_vec();
    if flags & TAR != 0 {
        if flags & SUMS != 0 {
            put_sums_right(&mut archive);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&archive).ok()?;
        archive = gzip.finish().ok()?;
    }
    Some(Input { operations: operations.validate().ok()?, limit: u64::from(*limit) * 1024, archive })
}

/// The input with these parts.
pub fn write(flags: u8, limit: u8, operations: &str, archive: &[u8]) -> Vec<u8> {
    [&[flags, limit], operations.as_bytes(), b"\0", archive].concat()
}

fn put_sums_right(tar: &mut [u8]) {
    let mut at = 0_usize;
    while let Some(block) = tar.get_mut(at..at.saturating_add(BLOCK)) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().unwrap_or(0);
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        at = at.saturating_add(BLOCK).saturating_add(blocks.saturating_mul(BLOCK));
    }
}

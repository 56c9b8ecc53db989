//! Type information of kernel modules (BTF): where it names types and strings of the kernel by number.

/// Names are mapped like addresses from here on, types like addresses from zero on.
pub(super) const NAMES: u64 = 1 << 32;

/// Visits every 32-bit word that names a type or a string: where it is, and where its map begins.
///
/// The word may be changed then: where the others are does not depend on it.
pub(super) fn each_number(bytes: &mut [u8], mut visit: impl FnMut(&mut [u8], usize, u64)) {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        let taken = bytes.get(at..at.checked_add(4)?)?;
        Some(taken.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    let header = (word(bytes, 0), word(bytes, 4), word(bytes, 8), word(bytes, 12));
    let (Some(magic), Some(length), Some(offset), Some(types)) = header else { return };
    if magic & 0xFF_FFFF != 0x01_EB9F {
        return;
    }
    let mut at = (length as usize).saturating_add(offset as usize);
    let end = at.saturating_add(types as usize).min(bytes.len());
    while at + 12 <= end {
        let Some(info) = word(bytes, at + 4) else { return };
        let (count, kind) = ((info & 0xFFFF) as usize, info >> 24 & 0x1F);
        visit(bytes, at, NAMES);
        // Pointers, typedefs, modifiers, functions, variables, tags: a type. Others: a size, or nothing.
        if matches!(kind, 2 | 8..=14 | 17 | 18) {
            visit(bytes, at + 8, 0);
        }
        at += 12;
        // For each element that follows: its words, and which are names (N) and types (T).
        let (count, width, name, kind_at) = match kind {
            1 | 14 | 17 => (1, 4, None, None),
            3 => (1, 12, None, Some(0)),
            4 | 5 => (count, 12, Some(0), Some(4)),
            6 => (count, 8, Some(0), None),
            13 => (count, 8, Some(0), Some(4)),
            15 => (count, 12, None, Some(0)),
            19 => (count, 12, Some(0), None),
            2 | 7..=12 | 16 | 18 => (0, 0, None, None),
            _ => return,
        };
        for _ in 0..count {
            if at + width > end {
                return;
            }
            if let Some(name) = name {
                visit(bytes, at + name, NAMES);
            }
            if let Some(kind_at) = kind_at {
                visit(bytes, at + kind_at, 0);
            }
            if kind == 3 {
                visit(bytes, at + 4, 0);
            }
            at += width;
        }
    }
}

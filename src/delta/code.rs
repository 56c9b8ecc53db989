//! Literals that are x86-64 code: distances in them become places.
//!
//! Code that is new calls functions and reads variables by their distance from the instruction, so what names one thing
//! has other bytes wherever it stands. As places in the new content they are equal, and a packer finds that.

/// Distances of more than this are left alone: with one byte that is 0 or 255 few bytes are taken for distances that are
/// none.
const FAR: i64 = 1 << 24;
/// The longest form: an opcode of two bytes, one that says what it works on, the distance.
const LONGEST: usize = 7;

/// Bytes that one of the forms begins with.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let all = [0x0f, 0x39, 0x3b, 0x89, 0x8b, 0x8d, 0xe8, 0xe9];
    let mut at = 0;
    while at < all.len() {
        begins[all[at]] = true;
        at += 1;
    }
    begins
};

/// Bytes before a run in which an instruction may begin whose distance is in the run.
pub(super) const BEFORE: usize = 3;

/// The last bytes of what is made, when these follow.
pub(super) fn last(before: [u8; BEFORE], bytes: &[u8]) -> [u8; BEFORE] {
    bytes[bytes.len().saturating_sub(BEFORE)..].iter().fold(before, |[_, second, third], byte| [second, third, *byte])
}

/// Turns the distances in a run of literals into places, and tells how many. The run begins at `place` of what is made,
/// after these bytes.
///
/// From the end, since the way back goes from the start: what one step looks at is then what the other one has left.
#[cfg(feature = "publish")]
pub(super) fn to_places(before: [u8; BEFORE], run: &mut [u8], place: u64) -> usize {
    let mut turned = 0;
    let mut bytes = [&before, &*run].concat();
    for at in (0..bytes.len()).rev() {
        change(&mut bytes, BEFORE, at, place, |[a, b, c, d], end| {
            turned += 1;
            let [a, b, c, d] = fold(i64::from(i32::from_le_bytes([a, b, c, d])) + end).to_le_bytes();
            [c, b, a, d]
        });
    }
    run.copy_from_slice(&bytes[BEFORE..]);
    turned
}

/// Turns the places in a run back into distances, as far as it can be told: of a run that goes on, its last bytes have
/// to wait. Gives how many bytes are done. The first `fixed` bytes are known already; what follows them begins at `place`.
pub(super) fn to_distances(bytes: &mut [u8], fixed: usize, place: u64, is_last: bool) -> usize {
    let done = if is_last { bytes.len() } else { (bytes.len() + 1).saturating_sub(LONGEST) };
    for at in 0..done {
        change(bytes, fixed, at, place, |[c, b, a, d], end| {
            fold(i64::from(i32::from_le_bytes([a, b, c, d])) - end).to_le_bytes()
        });
    }
    done
}

/// The number from minus [`FAR`] to [`FAR`] - 1 that differs from this one by a multiple of twice that.
fn fold(value: i64) -> i32 {
    ((value + FAR).rem_euclid(2 * FAR) - FAR) as i32
}

/// Changes the distance of what may be an instruction that begins here, given its four bytes and the place behind them.
/// Its last byte says whether it is near: 0 or 255, before and after.
#[inline]
fn change(bytes: &mut [u8], fixed: usize, at: usize, place: u64, to: impl FnOnce([u8; 4], i64) -> [u8; 4]) {
    if !BEGINS[usize::from(bytes[at])] {
        return;
    }
    let start = match bytes[at..] {
        // Call, jump.
        [0xe8 | 0xe9, ..] => at + 1,
        // Compare, store, load, take the address: relative to the next instruction.
        [0x39 | 0x3b | 0x89 | 0x8b | 0x8d, what, ..] if what & 0xc7 == 5 => at + 2,
        // The same of vectors and the like; jumps on a condition stay in their function, and are better left alone.
        [0x0f, form, what, ..] if form & 0xf0 != 0x80 && what & 0xc7 == 5 => at + 3,
        _ => return,
    };
    if start < fixed {
        return;
    }
    if let Some(&[a, b, c, d @ (0 | 0xff)]) = bytes.get(start..).and_then(<[u8]>::first_chunk) {
        let end = (place % (2 * FAR as u64)) as i64 + (start - fixed) as i64 + 4;
        bytes[start..start + 4].copy_from_slice(&to([a, b, c, d], end));
    }
}

#[cfg(all(test, feature = "publish"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_of_one_function_become_equal() {
        // call +0x20 at 0, call +0x10 at 16, lea rax, [rip - 2] at 32, a jump that is too far, one that is cut off.
        let mut run = vec![0x90; 48];
        run[..5].copy_from_slice(&[0xe8, 0x20, 0, 0, 0]);
        run[16..21].copy_from_slice(&[0xe8, 0x10, 0, 0, 0]);
        run[32..39].copy_from_slice(&[0x48, 0x8d, 0x05, 0xfe, 0xff, 0xff, 0xff]);
        run[40..45].copy_from_slice(&[0xe9, 1, 2, 3, 4]);
        run[45..].copy_from_slice(&[0xe8, 0, 0]);
        let before = run.clone();
        assert_eq!(to_places([0; BEFORE], &mut run, 0x1000), 3);
        assert_eq!(run[..5], [0xe8, 0x00, 0x10, 0x25, 0]);
        assert_eq!(run[16..21], run[..5]);
        assert_eq!(run[34..39], [0x05, 0x00, 0x10, 0x25, 0]);
        assert_eq!(run[40..], before[40..]);
        assert_eq!(to_distances(&mut run, 0, 0x1000, true), 48);
        assert_eq!(run, before);
    }

    #[test]
    fn an_instruction_may_begin_before_the_run() {
        let mut run = vec![0x20, 0, 0, 0, 0x90];
        assert_eq!(to_places([0, 0x90, 0xe8], &mut run, 0x1000), 1);
        assert_eq!(run, [0, 0x10, 0x24, 0, 0x90]);
        // Its distance must not begin there, since that is there already.
        let mut run = vec![0, 0, 0, 0x90];
        assert_eq!(to_places([0, 0xe8, 0x20], &mut run, 0x1000), 0);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let often = prop::sample::select(vec![0xe8_u8, 0xe9, 0x8b, 0x0f, 5, 0, 0xff]);
        prop::collection::vec(prop_oneof![often, any::<u8>()], 0..200)
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_back_in_whatever_pieces(
            run in bytes(),
            before in any::<[u8; BEFORE]>(),
            place in 0..u64::MAX / 2,
            piece in LONGEST + BEFORE..40,
        ) {
            let mut coded = run.clone();
            to_places(before, &mut coded, place);
            let (mut made, mut held, mut fixed) = (Vec::new(), before.to_vec(), BEFORE);
            let mut rest = coded.as_slice();
            loop {
                let (now, later) = rest.split_at(rest.len().min(piece - held.len()));
                held.extend_from_slice(now);
                rest = later;
                let done = to_distances(&mut held, fixed, place + made.len() as u64, rest.is_empty());
                made.extend(held.drain(..done).skip(fixed));
                fixed = fixed.saturating_sub(done);
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(made, run);
        }
    }
}

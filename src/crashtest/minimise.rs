//! Delta debugging: the fewest things that still make something fail.

/// How often it may be tried. What is left after that is shown as it is.
const TRIES: usize = 2000;

/// A subset of `items` that fails, none of whose elements can be left out. All of them fail together.
pub(super) fn minimise(items: Vec<usize>, fails: &mut dyn FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut left = items;
    let mut parts = 2;
    let mut tries = TRIES;
    if left.is_empty() || fails(&[]) {
        return Vec::new();
    }
    while left.len() > 1 {
        let size = left.len().div_ceil(parts);
        let smaller = (0..left.len()).step_by(size).find_map(|start| {
            let without: Vec<usize> =
                left[..start].iter().chain(&left[(start + size).min(left.len())..]).copied().collect();
            tries = tries.checked_sub(1)?;
            fails(&without).then_some(without)
        });
        match smaller {
            Some(smaller) => {
                left = smaller;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 || tries == 0 => break,
            None => parts = (2 * parts).min(left.len()),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_fails_and_needs_each_of_its_elements() {
        let needed = [3, 77, 78];
        let mut tries = 0;
        let left = minimise((0..200).collect(), &mut |items| {
            tries += 1;
            needed.iter().all(|item| items.contains(item))
        });
        assert_eq!(left, needed);
        assert!(tries < 200, "{tries}");
        assert_eq!(minimise((0..9).collect(), &mut |items| items.contains(&4)), [4]);
        assert!(minimise((0..9).collect(), &mut |_| true).is_empty());
    }
}

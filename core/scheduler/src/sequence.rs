//! What comes after what, as lists of places.
//!
//! In: how many things there are, and pairs of places of which the first comes before the second. Out: an order that
//! holds them all, who waits for whom, and the waits that say something new.

use std::collections::BTreeSet;

/// Things in an order that holds all pairs.
pub(crate) struct Sequence {
    /// By place: the places that come before it directly.
    pub before: Vec<Vec<usize>>,
    /// All places, each after those before it; among those that could come next the smallest. What is on a circle is
    /// missing.
    pub order: Vec<usize>,
}

/// Puts `count` things into an order.
pub(crate) fn sequence(count: usize, pairs: &[(usize, usize)]) -> Sequence {
    let (mut before, mut after) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for (first, then) in pairs {
        before[*then].push(*first);
        after[*first].push(*then);
    }
    let mut open: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> = (0..count).filter(|at| open[*at] == 0).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for then in &after[at] {
            open[*then] -= 1;
            if open[*then] == 0 {
                ready.insert(*then);
            }
        }
    }
    Sequence { before, order }
}

/// Leaves out of `waits` what others of them wait for anyway; `earlier` gives the waits of an earlier thing, all of them
/// before it.
pub(crate) fn drop_detours<'a>(waits: &mut Vec<usize>, earlier: impl Fn(usize) -> &'a [usize]) {
    let Some(oldest) = waits.iter().min().copied().filter(|_| waits.len() > 1) else { return };
    let mut implied: BTreeSet<usize> = BTreeSet::new();
    let mut open: Vec<usize> = waits.iter().flat_map(|first| earlier(*first)).copied().collect();
    while let Some(first) = open.pop() {
        if first >= oldest && implied.insert(first) {
            open.extend(earlier(first));
        }
    }
    waits.retain(|first| !implied.contains(first));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_after_what_it_waits_for() {
        let found = sequence(4, &[(3, 0), (0, 1), (3, 1)]);
        assert_eq!(found.order, [2, 3, 0, 1]);
        assert_eq!(found.before[1], [0, 3]);
        assert_eq!(sequence(3, &[(0, 1), (1, 0)]).order, [2], "a circle has no order");
    }

    #[test]
    fn a_wait_that_follows_from_another_is_left_out() {
        let earlier: Vec<Vec<usize>> = vec![vec![], vec![0], vec![1], vec![]];
        let mut waits = vec![0, 2, 3];
        drop_detours(&mut waits, |at| &earlier[at]);
        assert_eq!(waits, [2, 3]);
    }
}

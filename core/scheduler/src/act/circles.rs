//! What if orders contradict each other?
//!
//! Whoever waits for itself waits for ever. Where orders form a circle, the one that closes it is left out: a plan that
//! cannot be carried out helps nobody, and whatever may not run twice is judged again before it is started.

/// The pairs without those that close a circle; `count` is how many actions there are.
pub(super) fn without_circles(count: usize, pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (first, then) in &pairs {
        after[*first].push(*then);
    }
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnTheWay,
        Done,
    }
    let mut seen = vec![Seen::No; count];
    let mut closing: Vec<(usize, usize)> = Vec::new();
    for start in 0..count {
        if seen[start] != Seen::No {
            continue;
        }
        // The way from the start to here: each action with the next of its followers to look at.
        let mut way = vec![(start, 0)];
        seen[start] = Seen::OnTheWay;
        while let Some((here, next)) = way.last_mut() {
            let Some(then) = after[*here].get(*next).copied() else {
                seen[*here] = Seen::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match seen[then] {
                Seen::No => {
                    seen[then] = Seen::OnTheWay;
                    way.push((then, 0));
                }
                Seen::OnTheWay => closing.push((*here, then)),
                Seen::Done => {}
            }
        }
    }
    if closing.is_empty() {
        return pairs;
    }
    closing.sort_unstable();
    pairs.into_iter().filter(|pair| closing.binary_search(pair).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_closes_a_circle_is_left_out() {
        let open = vec![(0, 1), (0, 2), (1, 2), (2, 3)];
        assert_eq!(without_circles(4, open.clone()), open);
        assert_eq!(without_circles(3, vec![(0, 1), (1, 2), (2, 0)]), [(0, 1), (1, 2)]);
        assert_eq!(without_circles(4, vec![(1, 2), (2, 1), (2, 3)]), [(1, 2), (2, 3)]);
        assert_eq!(without_circles(1, vec![(0, 0)]), []);
        assert_eq!(without_circles(0, Vec::new()), []);
    }
}

//! What did the client live through? Outages and answers that must not be, from a list of requests.
//!
//! Pure: times in microseconds of one clock, requests in, findings out.
//! Not here: making requests (`client.rs`), looking at nodes (`sampler.rs`).

/// One request of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When the connection was begun.
    pub began_us: u64,
    /// When the whole answer was there, or the request failed.
    pub ended_us: u64,
    /// The node that answered; none if it failed.
    pub answer: Option<String>,
}

/// A node was given the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// When.
    pub at_us: u64,
    /// To whom.
    pub node: String,
}

/// A time in which the client was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Start of the first request that was not answered as before.
    pub from_us: u64,
    /// End of the first good answer after it.
    pub until_us: u64,
}

impl Outage {
    /// How long, in milliseconds.
    pub fn ms(self) -> f64 {
        ms(self.until_us.saturating_sub(self.from_us))
    }
}

/// Microseconds as milliseconds with one digit.
pub fn ms(us: u64) -> f64 {
    // Far below 2^52: exact.
    (us as f64 / 100.0).round() / 10.0
}

/// The longest time without an answer that ends after `fault_us`.
///
/// It lasts from the start of the first request that failed, or that was still without an answer when the last answer
/// before the gap came, to the end of the first good answer after the gap. Requests overlap, so that one that hangs
/// blinds nobody. None if there was no answer after the fault.
pub fn longest_outage(requests: &[Request], fault_us: u64) -> Option<Outage> {
    let mut good: Vec<&Request> = requests.iter().filter(|request| request.answer.is_some()).collect();
    good.sort_by_key(|request| request.ended_us);
    let before = good.partition_point(|request| request.ended_us <= fault_us);
    good.get(before)?;
    let pairs = good[before.saturating_sub(1)..].windows(2).map(|pair| (pair[0], pair[1]));
    let (last, next) = pairs.max_by_key(|(last, next)| next.ended_us - last.ended_us)?;
    let is_unanswered = |request: &&Request| {
        request.began_us > last.began_us && (request.answer.is_none() || request.ended_us > last.ended_us)
    };
    let from_us = requests.iter().filter(is_unanswered).map(|request| request.began_us).min().unwrap_or(last.ended_us);
    Some(Outage { from_us: from_us.min(next.ended_us), until_us: next.ended_us })
}

/// When the first good answer of `node` to a request begun after `after_us` was there.
pub fn first_answer_of(requests: &[Request], node: &str, after_us: u64) -> Option<u64> {
    let answers = requests.iter().filter(|r| r.answer.as_deref() == Some(node) && r.began_us >= after_us);
    answers.map(|request| request.ended_us).min()
}

/// Answers that prove that two nodes served at once: an answer of X whose request began after the first answer of
/// Y ≠ X, with X not granted in between. One sentence each.
pub fn double_answers(requests: &[Request], grants: &[Grant]) -> Vec<String> {
    let mut good: Vec<(&Request, &str)> =
        requests.iter().filter_map(|request| Some((request, request.answer.as_deref()?))).collect();
    good.sort_by_key(|(request, _)| request.ended_us);
    let mut found = Vec::new();
    let mut current: Option<(&str, u64)> = None;
    for (request, node) in good {
        let Some((serving, since_us)) = current else {
            current = Some((node, request.ended_us));
            continue;
        };
        if serving == node {
            continue;
        }
        let is_granted = grants.iter().any(|g| g.node == node && (since_us..=request.ended_us).contains(&g.at_us));
        if is_granted {
            current = Some((node, request.ended_us));
        } else if request.began_us > since_us {
            found.push(format!(
                "{node} answered a request begun at {} ms, though {serving} had answered since {} ms and {node} was \
                 granted nothing in between",
                ms(request.began_us),
                ms(since_us)
            ));
        }
    }
    found
}

/// Smallest, middle and largest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

/// The spread of some values; none if there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { min, median: (median * 10.0).round() / 10.0, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(began_ms: u64, ended_ms: u64, node: &str) -> Request {
        Request { began_us: began_ms * 1000, ended_us: ended_ms * 1000, answer: Some(node.to_owned()) }
    }

    fn failed(began_ms: u64, ended_ms: u64) -> Request {
        Request { began_us: began_ms * 1000, ended_us: ended_ms * 1000, answer: None }
    }

    fn granted(at_ms: u64, node: &str) -> Grant {
        Grant { at_us: at_ms * 1000, node: node.to_owned() }
    }

    #[test]
    fn an_outage_lasts_from_the_first_unanswered_request_to_the_first_new_answer() {
        let requests =
            [answered(0, 1, "a"), answered(5, 6, "a"), failed(10, 1010), failed(15, 1015), answered(400, 401, "b")];
        let outage = longest_outage(&requests, 8_000).expect("an outage");
        assert_eq!(outage, Outage { from_us: 10_000, until_us: 401_000 });
        assert_eq!(outage.ms(), 391.0);
    }

    #[test]
    fn a_request_that_hangs_through_the_outage_counts_from_its_start() {
        let requests = [answered(0, 1, "a"), answered(5, 310, "b"), failed(10, 12), answered(305, 306, "b")];
        assert_eq!(longest_outage(&requests, 2_000), Some(Outage { from_us: 5_000, until_us: 306_000 }));
    }

    #[test]
    fn an_old_request_that_fails_late_does_not_lengthen_the_outage() {
        let requests = [failed(0, 1000), answered(495, 496, "a"), failed(505, 506), answered(530, 531, "a")];
        assert_eq!(longest_outage(&requests, 500_000), Some(Outage { from_us: 505_000, until_us: 531_000 }));
    }

    #[test]
    fn without_an_answer_there_is_no_end() {
        assert_eq!(longest_outage(&[answered(0, 1, "a"), failed(5, 6)], 2_000), None);
    }

    #[test]
    fn two_nodes_that_take_turns_without_a_grant_are_found_out() {
        let requests = [answered(0, 1, "a"), answered(5, 6, "b"), answered(10, 11, "a")];
        assert_eq!(double_answers(&requests, &[]).len(), 1);
    }

    #[test]
    fn a_takeover_with_a_grant_is_no_double_answer() {
        let requests = [answered(0, 1, "a"), answered(50, 51, "b"), answered(100, 101, "a")];
        assert_eq!(double_answers(&requests, &[granted(40, "b"), granted(90, "a")]), Vec::<String>::new());
    }

    #[test]
    fn a_late_answer_to_an_early_request_is_no_double_answer() {
        let requests = [answered(0, 1, "a"), answered(50, 51, "b"), answered(49, 60, "a")];
        assert_eq!(double_answers(&requests, &[granted(40, "b")]), Vec::<String>::new());
    }

    #[test]
    fn the_old_node_answering_after_the_new_one_is_found_out() {
        let requests = [answered(0, 1, "a"), answered(50, 51, "b"), answered(55, 56, "a")];
        let found = double_answers(&requests, &[granted(40, "b")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a answered"), "{found:?}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(spread([3.0, 1.0, 2.0, 10.0]), Some(Spread { min: 1.0, median: 2.5, max: 10.0 }));
        assert_eq!(spread([]), None);
    }
}

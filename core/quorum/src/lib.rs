//! How many votes are enough, and how many members should vote at all?
//!
//! More than half of the voters agree or nothing is agreed: any two majorities share a voter, so no two
//! contradicting decisions are possible. Voters stay an odd and small number, because every write waits for a
//! majority of them; further members follow as learners.
//!
//! Not here: who votes (`core/consensus`), leases, witness policy.

/// Votes needed to act: more than half of `voters`; 1..=`voters` for at least one voter.
///
/// Half is not enough: two nodes without a witness need both. No voters can never act: the answer is 1, which
/// nobody can give.
///
/// Source: Gifford, "Weighted Voting for Replicated Data", SOSP 1979.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Are `votes` of `voters` enough to act?
pub const fn is_majority(votes: usize, voters: usize) -> bool {
    votes >= quorum(voters)
}

/// How many of `members` (the witness counted) should vote: 1→1, 2→2, 3–4→3, 5–6→5, from 7 on 7.
///
/// Two members without a witness vote both: one of them alone would be a single point of failure for the log.
pub const fn voter_target(members: usize) -> usize {
    match members {
        0..=2 => members,
        3..=4 => 3,
        5..=6 => 5,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_majorities_share_a_voter() {
        for voters in 1..=64 {
            assert!(2 * quorum(voters) > voters, "{voters} voters");
            assert!(quorum(voters) <= voters, "{voters} voters can act when all agree");
        }
    }

    #[test]
    fn half_of_the_voters_is_no_majority() {
        assert!(!is_majority(1, 2));
        assert!(!is_majority(2, 4));
        assert!(is_majority(2, 3));
        assert!(is_majority(1, 1));
    }

    #[test]
    fn nobody_acts_for_an_empty_cluster() {
        assert!(!is_majority(0, 0));
    }

    #[test]
    fn the_number_of_voters_grows_with_the_cluster_up_to_seven() {
        let targets: Vec<usize> = (0..=9).map(voter_target).collect();
        assert_eq!(targets, [0, 1, 2, 3, 3, 5, 5, 7, 7, 7]);
    }
}

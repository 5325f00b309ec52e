//! What speaks for and against each node, in one number, and what that number is made of?
//!
//! A score changes only together with the source of the change, so that there is none without reasons. Sources are kept
//! where somebody asked for them; elsewhere they are dropped on the spot and cost nothing.
//!
//! In: scores with their sources. Out: scores, and for each node the entries that add up to its score.
//! Not here: names and sentences (`reasons/`), what is added when (`criteria.rs`, `ties.rs`, …).

use std::ops::Deref;

use model::situation::Score;

use crate::world::{NodeIx, RscIx};

/// Where a part of a score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// What the node offers to every resource.
    Base,
    /// How healthy the node is.
    Health,
    /// A location, by its place in the situation.
    Location(u32),
    /// Something that happened to a resource: which of its bans.
    Ban(RscIx, u32),
    /// It waits for another node, which was shut down.
    Lock(NodeIx),
    /// A resource runs there, and wants to stay.
    Stickiness(RscIx),
    /// A resource failed there too often.
    Failures(RscIx),
    /// Locations name the nodes where it may run, and not this one.
    NotNamed,
    /// Remote nodes and guests do not run such a resource.
    Remote,
    /// It is not to run at all.
    Disabled,
    /// It follows another, by the place of the tie.
    Follows(u32),
    /// It would follow another, and that runs nowhere.
    FollowsNothing(u32),
    /// Another, which follows it through this tie or others, would like to see it there, or not.
    Wish(RscIx, u32),
    /// What wishes it away must not keep it away.
    WishLimit,
    /// There is too little room.
    Capacity,
    /// What its agent says of how fit it is to lead there.
    Fitness,
    /// There is no word of its agent.
    NoFitness,
    /// What it is told to be there at most, or at least.
    RoleLimit,
    /// The ticket to lead is not there.
    Ticket,
    /// As many instances run as are wanted.
    Enough,
    /// The node has as many instances as it may have.
    FullOfInstances,
    /// The collective that it is part of may not run there.
    Parent(RscIx),
    /// It left the configuration, or is one instance too many.
    Removed,
    /// The node takes nothing.
    Unusable,
    /// It belongs into the container that is there.
    Container,
}

/// A part of the score of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub node: NodeIx,
    pub score: Score,
    pub source: Source,
}

/// Scores of a resource by node; none: it may not even be considered there.
///
/// Reads as a slice. A copy is a draft: what is written to it counts once it is put in the original's place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    scores: Vec<Option<Score>>,
    /// None: nobody asks.
    entries: Option<Vec<Entry>>,
    /// No sum of points becomes a must or a must not.
    only_ranks: bool,
}

/// The sum of two scores; where points only rank, points stay points.
fn sum(a: Score, b: Score, only_ranks: bool) -> Score {
    let sum = a + b;
    if !only_ranks || !sum.is_mandatory() || a.is_mandatory() || b.is_mandatory() {
        return sum;
    }
    if sum.is_must() { Score::MOST } else { -Score::MOST }
}

impl Deref for Table {
    type Target = [Option<Score>];

    fn deref(&self) -> &Self::Target {
        &self.scores
    }
}

impl Table {
    /// What it begins with.
    pub fn new(scores: Vec<Option<Score>>, is_asked: bool) -> Self {
        let mut table = Table { scores, entries: is_asked.then(Vec::new), only_ranks: false };
        if let Some(entries) = &mut table.entries {
            let offered = (0_u32..).zip(&table.scores).filter_map(|(at, score)| Some((NodeIx(at), (*score)?)));
            entries.extend(offered.filter(|(_, score)| *score != Score::ZERO).map(|(node, score)| Entry {
                node,
                score,
                source: Source::Base,
            }));
        }
        table
    }

    /// The same, in which no sum of points becomes a must or a must not.
    pub fn only_ranking(self, only_ranks: bool) -> Self {
        Table { only_ranks, ..self }
    }

    /// Lets the node be considered, with this to begin with; anew if it was already.
    pub fn begin(&mut self, node: NodeIx, score: Score, source: Source) {
        self.scores[node.0 as usize] = Some(score);
        if let Some(entries) = &mut self.entries {
            entries.retain(|entry| entry.node != node);
        }
        self.tell(node, score, source);
    }

    /// Adds to the score of a node, if it is considered.
    pub fn add(&mut self, node: NodeIx, score: Score, source: Source) {
        if let Some(known) = &mut self.scores[node.0 as usize] {
            *known = sum(*known, score, self.only_ranks);
            self.tell(node, score, source);
        }
    }

    /// The node must not be taken.
    pub fn rule_out(&mut self, node: NodeIx, source: Source) {
        self.add(node, Score::MUST_NOT, source);
    }

    /// No node must be taken.
    pub fn rule_out_all(&mut self, source: Source) {
        for at in (0_u32..).take(self.scores.len()) {
            self.rule_out(NodeIx(at), source);
        }
    }

    /// Brings the score of a node to this, whatever it was.
    pub fn limit(&mut self, node: NodeIx, to: Score, source: Source) {
        match self.scores[node.0 as usize] {
            Some(known) if known.is_mandatory() || to.is_mandatory() => self.begin(node, to, source),
            Some(known) => self.add(node, Score::of(i64::from(to.value()) - i64::from(known.value())), source),
            None => {}
        }
    }

    /// What the score of a node is made of.
    pub fn entries(&self, node: NodeIx) -> impl Iterator<Item = Entry> + '_ {
        self.entries.iter().flatten().filter(move |entry| entry.node == node).copied()
    }

    fn tell(&mut self, node: NodeIx, score: Score, source: Source) {
        if let Some(entries) = &mut self.entries
            && score != Score::ZERO
        {
            entries.push(Entry { node, score, source });
        }
    }
}

/// One number for each resource, such as how fit an instance is to lead, with its sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights {
    scores: Vec<Score>,
    /// By resource; none: nobody asks.
    entries: Option<Vec<Vec<(Score, Source)>>>,
    /// No sum of points becomes a must or a must not.
    only_ranks: bool,
}

impl Weights {
    pub fn new(scores: Vec<Score>, is_asked: bool, only_ranks: bool) -> Self {
        let entries = is_asked.then(|| vec![Vec::new(); scores.len()]);
        Weights { scores, entries, only_ranks }
    }

    pub fn get(&self, rsc: RscIx) -> Score {
        self.scores[rsc.0 as usize]
    }

    /// Begins anew.
    pub fn begin(&mut self, rsc: RscIx, score: Score, source: Source) {
        self.scores[rsc.0 as usize] = score;
        if let Some(entries) = &mut self.entries {
            entries[rsc.0 as usize] = vec![(score, source)];
        }
    }

    pub fn add(&mut self, rsc: RscIx, score: Score, source: Source) {
        let known = &mut self.scores[rsc.0 as usize];
        *known = sum(*known, score, self.only_ranks);
        if let Some(entries) = &mut self.entries {
            entries[rsc.0 as usize].push((score, source));
        }
    }

    /// What the number is made of.
    pub fn entries(&self, rsc: RscIx) -> &[(Score, Source)] {
        self.entries.as_ref().map_or(&[], |entries| entries[rsc.0 as usize].as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeIx = NodeIx(0);
    const B: NodeIx = NodeIx(1);

    fn sum(table: &Table, node: NodeIx) -> Score {
        table.entries(node).fold(Score::ZERO, |sum, entry| sum + entry.score)
    }

    #[test]
    fn what_is_told_of_a_node_adds_up_to_its_score() {
        let mut table = Table::new(vec![Some(Score::of(5)), None], true);
        table.add(A, Score::of(100), Source::Health);
        table.add(B, Score::of(100), Source::Health);
        assert_eq!((table[0], table[1]), (Some(Score::of(105)), None));
        table.begin(B, Score::ZERO, Source::Base);
        table.rule_out_all(Source::Disabled);
        table.limit(A, Score::of(1), Source::WishLimit);
        assert_eq!((sum(&table, A), sum(&table, B)), (Score::of(1), Score::MUST_NOT));
        assert_eq!((table[0], table[1]), (Some(Score::of(1)), Some(Score::MUST_NOT)));
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_no_trace() {
        let mut table = Table::new(vec![Some(Score::ZERO)], true);
        table.add(A, Score::of(50), Source::Health);
        let mut draft = table.clone();
        draft.rule_out(A, Source::Capacity);
        assert_eq!((table[0], sum(&table, A)), (Some(Score::of(50)), Score::of(50)));
        assert_eq!(sum(&draft, A), Score::MUST_NOT);
    }

    #[test]
    fn where_points_only_rank_no_sum_of_them_is_a_must() {
        let most = Score::of(999_999);
        for (only_ranks, expected) in [(true, -most), (false, Score::MUST_NOT)] {
            let mut table = Table::new(vec![Some(Score::ZERO)], false).only_ranking(only_ranks);
            table.add(A, -most, Source::Health);
            table.add(A, -most, Source::Health);
            assert_eq!(table[0], Some(expected));
            table.rule_out(A, Source::Capacity);
            assert_eq!(table[0], Some(Score::MUST_NOT));
        }
    }

    #[test]
    fn nothing_is_kept_where_nobody_asks() {
        let mut table = Table::new(vec![Some(Score::of(5))], false);
        table.add(A, Score::of(7), Source::Health);
        assert_eq!((table[0], table.entries(A).count()), (Some(Score::of(12)), 0));
    }
}

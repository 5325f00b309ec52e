//! What has been agreed, as the first node that applied each entry saw it; and the state that follows from it.

use std::collections::BTreeMap;

use consensus::Committed;
use model::{Bugs, ClusterState, HistoryEntry, Holder, LogIndex, Term, UnitName};
use state::{Command, Entry};

use crate::trace::fnv;

/// The agreed log, and the state after all of it.
pub(crate) struct Agreed {
    /// The log index of the first of `kept`.
    first: u64,
    kept: Vec<Kept>,
    pub state: ClusterState,
    bugs: Bugs,
}

/// One agreed entry.
struct Kept {
    term: Term,
    content: u64,
    /// Of the state after it.
    fingerprint: u64,
}

/// An entry that was just taken in.
pub(crate) struct Taken {
    pub index: LogIndex,
    pub term: Term,
    pub command: Command,
    pub is_accepted: bool,
    pub holders_before: BTreeMap<UnitName, Holder>,
    pub events: Vec<HistoryEntry>,
}

impl Agreed {
    pub fn new(bugs: Bugs) -> Self {
        Agreed { first: 2, kept: Vec::new(), state: ClusterState::default(), bugs }
    }

    /// The cluster begins with this state.
    pub fn found(&mut self, state: ClusterState) {
        self.first = state.applied.0 + 1;
        self.state = state;
    }

    pub fn last(&self) -> LogIndex {
        LogIndex(self.first + self.kept.len() as u64 - 1)
    }

    pub fn knows(&self, index: LogIndex) -> bool {
        self.kept(index).is_some()
    }

    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.kept(index).map(|kept| kept.term)
    }

    pub fn fingerprint(&self, index: LogIndex) -> Option<u64> {
        self.kept(index).map(|kept| kept.fingerprint)
    }

    /// Is this the entry that was agreed on at its place? None: nothing was, so far.
    pub fn is_same(&self, entry: &Committed) -> Option<bool> {
        self.kept(entry.index).map(|kept| kept.term == entry.term && kept.content == fnv(&entry.data))
    }

    /// Takes the next entry; none for an entry of the log itself.
    pub fn apply(&mut self, entry: &Committed) -> Option<Taken> {
        assert!(entry.index.0 == self.last().0 + 1, "entry {} is seen before {}", entry.index, self.last().0 + 1);
        let mut taken = None;
        if entry.data.is_empty() {
            self.state.applied = entry.index;
        } else {
            let holders_before = self.state.holders.clone();
            let decoded = Entry::decode(&entry.data).expect("a node applied it");
            let applied = state::apply(&mut self.state, entry.index, &decoded, self.bugs);
            taken = Some(Taken {
                index: entry.index,
                term: entry.term,
                command: decoded.command,
                is_accepted: applied.verdict.is_ok(),
                holders_before,
                events: applied.events,
            });
        }
        let fingerprint = fingerprint(&self.state);
        self.kept.push(Kept { term: entry.term, content: fnv(&entry.data), fingerprint });
        taken
    }

    fn kept(&self, index: LogIndex) -> Option<&Kept> {
        let place = usize::try_from(index.0.checked_sub(self.first)?).ok()?;
        self.kept.get(place)
    }
}

/// A hash of what differs when two nodes apply an entry differently.
pub(crate) fn fingerprint(state: &ClusterState) -> u64 {
    let mut bytes = Vec::with_capacity(2048);
    for (unit, holder) in &state.holders {
        bytes.extend_from_slice(unit.as_str().as_bytes());
        let kind = match holder.state {
            model::HolderState::Held => 1,
            model::HolderState::Releasing => 2,
            model::HolderState::Blocked { .. } => 3,
        };
        number(&mut bytes, &[holder.node.0, holder.incarnation.0, holder.grant.0, kind]);
    }
    for (resource, nodes) in &state.known {
        bytes.extend_from_slice(resource.as_str().as_bytes());
        for (node, known) in nodes {
            let op = known.op;
            number(&mut bytes, &[node.0, known.state as u64, known.incarnation.0, op.epoch.0, op.index, known.digest]);
        }
    }
    for nodes in state.failures.values() {
        for (node, failures) in nodes {
            number(&mut bytes, &[node.0, u64::from(failures.count), u64::from(failures.is_permanent)]);
        }
    }
    for (id, member) in &state.members {
        number(&mut bytes, &[id.0, member.incarnation.0, member.state as u64, u64::from(member.flap_penalty)]);
        number(&mut bytes, &[member.dead.len() as u64]);
    }
    number(&mut bytes, &[state.config.profile as u64, state.config.groups.len() as u64]);
    for (name, resource) in &state.config.resources {
        bytes.extend_from_slice(name.as_str().as_bytes());
        number(&mut bytes, &[resource.parameters_digest(), resource.class as u64, u64::from(resource.failures_max)]);
    }
    for (name, node) in &state.config.nodes {
        bytes.extend_from_slice(name.as_str().as_bytes());
        node.fence.iter().for_each(|device| bytes.extend_from_slice(device.as_str().as_bytes()));
    }
    for (id, token) in &state.tokens {
        number(&mut bytes, &[*id, u64::from(token.wrong), token.expires.0]);
    }
    for (unit, free) in &state.proven_free {
        bytes.extend_from_slice(unit.as_str().as_bytes());
        number(&mut bytes, &[free.0]);
    }
    for key in state.actions.keys() {
        bytes.extend_from_slice(key.as_bytes());
    }
    let last = state.history.back().map_or(0, |entry| entry.index.0);
    number(
        &mut bytes,
        &[state.applied.0, state.epoch.0, state.coordinator.0, state.config_version.0, state.refused, last],
    );
    fnv(&bytes)
}

fn number(bytes: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
}

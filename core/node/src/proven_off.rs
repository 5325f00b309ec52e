//! Was a node proven off, and is it heard all the same? Then what proved it told a lie.
//!
//! A beat may be on its way while the power goes: so a node that was silent and is heard again counts a moment after the
//! proof, and one that never fell silent counts after the time that a silence takes to be noticed.
//!
//! In: fences that were agreed on, reports of heartbeats. Out: the lie, as a problem, until an operator clears it.
//! Not here: what is done about it (the node hears that its life is over, and ends what it runs).

use std::time::Duration;

use liveness::PeerReport;
use model::{FenceName, Incarnation, Instant, MemberState, NodeId, Problem, ProblemKind};
use state::Command;

use crate::input::Moment;
use crate::node::Node;

/// A beat that left before the power went arrives within this.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// What is added to the time of silence that shows a peer to be silent.
const MARGIN: Duration = Duration::from_secs(1);

/// A life that is proven to be over, as this node knows from the log.
#[derive(Clone, Debug)]
pub(crate) struct ProvenOff {
    incarnation: Incarnation,
    at: Instant,
    /// Who proved it; none if a person attested it.
    devices: Vec<FenceName>,
    is_heard: bool,
}

impl Node {
    /// An entry was applied: if it proves that a node is off, that node should be heard no more.
    pub(crate) fn note_proven_off(&mut self, now: Moment, command: &Command) {
        if let Command::Clear { resource: None, node, .. } = command {
            self.proven_off.retain(|id, _| node.is_some_and(|cleared| cleared != *id));
        }
        let (Command::FenceDone { node, incarnation, .. } | Command::ManualConfirm { node, incarnation, .. }) = command
        else {
            return;
        };
        if self.state.members.get(node).is_some_and(|member| member.state == MemberState::Fenced) {
            let end = self.state.ends.get(node);
            let devices = end.map(|end| end.cut_off_by.clone()).unwrap_or_default();
            let off = ProvenOff { incarnation: *incarnation, at: now.at, devices, is_heard: false };
            self.proven_off.insert(*node, off);
        }
    }

    /// A report about a peer came, and the one before is still known.
    pub(crate) fn compare_with_proof(&mut self, now: Moment, report: &PeerReport) {
        let was_silent = self.peers.get(&report.id).is_none_or(|peer| !peer.report.is_heard);
        let Some(off) = self.proven_off.get_mut(&report.id) else { return };
        if off.incarnation != report.incarnation || !report.is_heard || off.is_heard {
            return;
        }
        let waited = now.at.since(off.at);
        if was_silent && waited >= ON_ITS_WAY || waited >= report.limit + MARGIN {
            off.is_heard = true;
        }
    }

    /// The proofs that turned out to be wrong, as problems.
    pub(crate) fn lies(&self) -> impl Iterator<Item = Problem> {
        self.proven_off.keys().filter_map(|node| self.lie(*node))
    }

    fn lie(&self, node: NodeId) -> Option<Problem> {
        let off = self.proven_off.get(&node).filter(|off| off.is_heard)?;
        let name = self.state.name_of(node);
        let text = if off.devices.is_empty() {
            format!(
                "{name} was attested to be off, and was heard afterwards in the same boot: what it held may have run twice. \
                 Compare the data of its services, then `cardea clear {name}`"
            )
        } else {
            let devices: Vec<&str> = off.devices.iter().map(|device| device.as_str()).collect();
            let devices = devices.join(", ");
            format!(
                "{devices} said that {name} was off, and {name} was heard afterwards in the same boot: what it held may \
                 have run twice. Check the plugs of {devices} (`cardea fence test {name}`) and the data of its services, \
                 then `cardea clear {name}`"
            )
        };
        Some(Problem::new(ProblemKind::FenceLied, name, text))
    }
}

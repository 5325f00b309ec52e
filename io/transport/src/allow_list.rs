//! Who may talk to this node? Its current members, on every port.
//!
//! A node number is the log index of its admission, so a number that the applied log has passed and that is no
//! member belongs to a node that was removed. A higher one may belong to a member that this node does not know yet,
//! because its log is behind: its certificate proves it, a datagram does not.
//!
//! ```text
//!                        certificate     sealed datagram, heartbeat
//!   member               yes             yes
//!   not known yet        yes             no
//!   removed              no              no
//!   no state yet         everybody       everybody     (this node is joining)
//! ```
//!
//! In: the members, whenever they change. Out: answers, and an end for the connections of who is a member no longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::NodeId;
use tokio::sync::watch;

/// The nodes that are listened to. Clones share it.
#[derive(Clone, Debug)]
pub struct AllowList(Arc<watch::Sender<Allowed>>);

#[derive(Debug, Default)]
struct Allowed {
    members: BTreeSet<NodeId>,
    newest: NodeId,
}

impl Allowed {
    fn is_member(&self, node: NodeId) -> bool {
        self.members.is_empty() || self.members.contains(&node)
    }

    fn may_connect(&self, node: NodeId) -> bool {
        self.is_member(node) || node > self.newest
    }
}

impl Default for AllowList {
    /// Allows everybody, until the members are known.
    fn default() -> Self {
        AllowList(Arc::new(watch::Sender::new(Allowed::default())))
    }
}

impl AllowList {
    /// Replaces the members. Nodes up to `newest` that are not among them have been removed: their connections end
    /// at once. Without any member, everybody is allowed.
    pub fn set_members(&self, members: BTreeSet<NodeId>, newest: NodeId) {
        self.0.send_if_modified(|allowed| {
            let is_new = allowed.members != members || allowed.newest != newest;
            *allowed = Allowed { members, newest };
            is_new
        });
    }

    /// Does a datagram of this node count?
    pub fn is_member(&self, node: NodeId) -> bool {
        self.0.borrow().is_member(node)
    }

    /// Does a certificate of this node count?
    pub(crate) fn may_connect(&self, node: NodeId) -> bool {
        self.0.borrow().may_connect(node)
    }

    /// Waits until a certificate of this node does not count.
    pub(crate) async fn refusal(&self, node: NodeId) {
        let mut changes = self.0.subscribe();
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = changes.wait_for(|allowed| !allowed.may_connect(node)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_count_removed_nodes_do_not_and_unknown_ones_need_a_certificate() {
        let list = AllowList::default();
        assert!(list.is_member(NodeId(7)) && list.may_connect(NodeId(7)), "a joining node knows nobody");
        list.set_members([NodeId(1), NodeId(9)].into(), NodeId(20));
        assert!(list.is_member(NodeId(9)) && list.may_connect(NodeId(9)));
        assert!(!list.is_member(NodeId(7)) && !list.may_connect(NodeId(7)), "it was removed");
        assert!(!list.is_member(NodeId(21)) && list.may_connect(NodeId(21)), "it may have been admitted since");
        list.set_members([NodeId(1), NodeId(9)].into(), NodeId(30));
        assert!(!list.may_connect(NodeId(21)), "the log has passed it");
    }
}

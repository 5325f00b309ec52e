//! One machine: power, clock, disk, identity, the worker process with its two halves, and what really runs on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use liveness::{Path, Progress, Pulse, PulseOrder};
use model::{CallKey, Domain, Incarnation, NodeId, NodeName, NodeRole, ResourceName};
use node::{Addresses, Halt, Input, Node};

use crate::agents::{Call, Service};
use crate::clock::{At, Clock};
use crate::disk::Disk;

/// Datagrams that a socket keeps for a process that does not read them.
pub(crate) const SOCKET_MAX: usize = 600;

/// One machine.
pub(crate) struct Machine {
    pub name: NodeName,
    pub role: NodeRole,
    /// Known from its admission on.
    pub id: Option<NodeId>,
    pub is_on: bool,
    /// Counts boots.
    pub boot: u64,
    /// Each boot shows the same life: a planted bug.
    pub lives_once: bool,
    /// From power to the worker; none: a fraction of a second.
    pub boots_in: Option<u64>,
    /// When its present boot ends, or ended: its daemon starts then.
    pub booted_at: At,
    /// When it last got its power, and lost it.
    pub powered_at: At,
    pub lost_power_at: At,
    pub clock: Clock,
    pub disk: Disk,
    /// Its disk had an error in this boot: nobody knows what was stored, and its daemon takes no part until the next one.
    pub broke: bool,
    /// An earlier content of its disk came back.
    pub was_restored: bool,
    /// An earlier content of the disk, as a backup or a snapshot keeps it.
    pub saved: Option<Disk>,
    /// The identities that the operating system shows.
    pub machine_id: String,
    pub storage_uuid: String,
    /// The feature level of the program that is installed.
    pub level: u8,
    /// The addresses that the operating system has given to its interfaces.
    pub addresses: BTreeSet<IpAddr>,
    /// The addresses that its worker uses, as it has stored them for the next one.
    pub stored: Addresses,
    pub worker: Option<Worker>,
    pub services: BTreeMap<ResourceName, Service>,
    /// The operating system starts these when it boots, whatever the cluster wants.
    pub starts_at_boot: BTreeSet<ResourceName>,
    /// What a fence device has cut it off from.
    pub cut_off: BTreeSet<Domain>,
    pub calls: BTreeMap<CallKey, Call>,
    /// Why the worker ended for good in this boot.
    pub halted: Option<Halt>,
    /// Everything on the machine stands still until then.
    pub frozen_until: At,
    pub pulse_stalled_until: At,
    pub node_stalled_until: At,
    pub seam_stalled_until: At,
    /// Packets from outside fill its sockets until then…
    pub flooded_until: At,
    /// … and so many of 1000 that the others send find no room.
    pub drowned: u64,
    /// When the last report and the last order between its halves arrive: the next one comes no earlier.
    pub seam_busy_until: [At; 2],
    /// Since when nothing has disturbed it; in the future while something does.
    pub quiet_since: At,
}

/// The worker process.
pub(crate) struct Worker {
    /// Names this process among all that ever were.
    pub life: u64,
    pub node: Node,
    pub pulse: Option<Pulse>,
    pub salt: u128,
    pub node_inbox: VecDeque<Input>,
    pub pulse_inbox: VecDeque<PulseIn>,
    /// What the pulse sees of the rest.
    pub progress: Progress,
    /// Heartbeats that the kernel dropped.
    pub drops: u64,
    /// How many of them the pulse knows of.
    pub drops_told: u64,
    pub node_wake: At,
    pub pulse_wake: At,
}

/// What waits for the pulse.
pub(crate) enum PulseIn {
    Beat {
        at: At,
        bytes: Rc<[u8]>,
        path: Path,
    },
    Order(Box<PulseOrder>),
    /// The kernel had no room for some beats.
    Drops,
}

impl Machine {
    /// One that has never been on.
    pub fn new(name: &str, role: NodeRole) -> Self {
        Machine {
            name: name.into(),
            role,
            id: None,
            is_on: false,
            boot: 0,
            lives_once: false,
            boots_in: None,
            booted_at: 0,
            powered_at: 0,
            lost_power_at: 0,
            clock: Clock::new(0, 0, 0, 0),
            disk: Disk::default(),
            broke: false,
            was_restored: false,
            saved: None,
            machine_id: format!("machine-{name}"),
            storage_uuid: format!("disk-{name}"),
            level: state::LEVEL,
            addresses: BTreeSet::new(),
            stored: Addresses::default(),
            worker: None,
            services: BTreeMap::new(),
            starts_at_boot: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            calls: BTreeMap::new(),
            halted: None,
            frozen_until: 0,
            pulse_stalled_until: 0,
            node_stalled_until: 0,
            seam_stalled_until: 0,
            flooded_until: 0,
            drowned: 0,
            seam_busy_until: [0; 2],
            quiet_since: 0,
        }
    }

    /// The worker process ends, and with it whatever held it up.
    pub fn end_stalls(&mut self, now: At) {
        self.pulse_stalled_until = 0;
        self.node_stalled_until = 0;
        self.seam_stalled_until = 0;
        self.seam_busy_until = [0; 2];
        self.quiet_since = self.quiet_since.min(now.max(self.frozen_until));
    }

    /// The life of the kernel: readable, and never the same twice.
    pub fn incarnation(&self, index: usize) -> Incarnation {
        let boot = if self.lives_once { 1 } else { self.boot };
        Incarnation((index as u64 + 1) * 1_000_000 + boot)
    }

    /// Does it show the identities that it was admitted with?
    pub fn is_itself(&self) -> bool {
        self.machine_id == format!("machine-{}", self.name) && self.storage_uuid == format!("disk-{}", self.name)
    }

    /// Could a worker run here, and take part in a cluster of this feature level, without a word from a person?
    pub fn is_able(&self, level: u8) -> bool {
        self.why_unable(level).is_none()
    }

    /// Why a person has to act before this machine takes part again.
    pub fn why_unable(&self, level: u8) -> Option<&'static str> {
        if !self.is_itself() {
            Some("shows another identity")
        } else if self.halted == Some(Halt::Left) {
            Some("was told to leave")
        } else if self.disk.meta().is_empty() {
            Some("has lost what it stored")
        } else if self.broke {
            Some("has had an error of its disk and must boot")
        } else if self.level < level {
            Some("runs an older program")
        } else {
            None
        }
    }

    /// Until when the pulse stands still.
    pub fn pulse_gate(&self) -> At {
        self.frozen_until.max(self.pulse_stalled_until)
    }

    /// Until when the rest of the worker stands still.
    pub fn node_gate(&self) -> At {
        self.frozen_until.max(self.node_stalled_until)
    }

    /// Has nothing disturbed it for `long`, and does its worker run?
    pub fn is_quiet_for(&self, now: At, long: u64) -> bool {
        let is_disturbed = self.disk.is_hung || self.disk.fails || self.disk.has_errors;
        // A flood that takes nothing away is no excuse: heartbeats are read and sent all the same.
        let drowned_until = if self.drowned > 0 { self.flooded_until } else { 0 };
        let quiet_since = self.quiet_since.max(self.disk.slow_until).max(drowned_until);
        self.is_on && self.worker.is_some() && !is_disturbed && quiet_since.saturating_add(long) <= now
    }
}

//! Bugs planted on purpose, so that the simulator can prove that its invariants catch them.
//!
//! Without the cargo feature `planted-bugs` (only the simulator turns it on) no bug can be switched on and
//! every question answers `false` at compile time.

/// One planted bug; see `sim/src/mutants.rs` for what each is caught by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Bug {
    /// A Condemn frees the holders at once, without FenceDone.
    NoWaitForFenceDone,
    /// A Grant is accepted while another node still holds the unit, and the scheduler asks for it.
    GrantWithoutRelease,
    /// The executor takes operations of an older epoch.
    EpochIgnored,
    /// The executor reports a stop as done without having run it to its end.
    StopAssumed,
    /// The executor spawns first and journals afterwards.
    JournalAfterSpawn,
    /// Elections without pre-vote and without the election by detector's care.
    PreVoteOff,
    /// One node applies an entry differently, and nobody compares digests.
    DigestSkipped,
    /// A fence counts as done as soon as the agent says so, without reading the status back.
    ReadBackSkipped,
    /// A member that hears the suspect is not asked: one node's word condemns.
    EvidenceSkipped,
    /// A vote is sent before the hard state is durable.
    VoteBeforePersist,
    /// The executor takes an operation that is older than the last one of the resource.
    OlderOpTaken,
    /// A new boot does not free what the former life held.
    HoldersOutliveBoot,
    /// A status that reads on is taken for off.
    StatusMisread,
    /// A node that was fenced does not announce its next life.
    FencedStaysOut,
    /// The executor's journal is lost with its worker (planted in the simulator).
    JournalLost,
    /// Writes count as durable as soon as they are asked for (planted in the simulator).
    DurableTooEarly,
    /// A fence device takes another plug for the node (planted in the simulator).
    WrongPlug,
    /// A check of an adopted service says that it does not run (planted in the simulator).
    AdoptionForgets,
    /// A machine shows the same life after each boot (planted in the simulator).
    SameLife,
    /// Some starts never tell their end (planted in the simulator).
    ResultLost,
    /// The cluster file is not checked (planted in the simulator).
    FileUnchecked,
    /// A Grant is accepted, and proposed, without a word from the other members about what they run.
    ElsewhereUnasked,
    /// A follower keeps its own entries where the leader's are others.
    ConflictKept,
    /// Entries are acknowledged before they are durable.
    AckBeforePersist,
    /// A silence is condemned at once, though one fault can cut all links.
    HoldDownSkipped,
    /// An `off` is called without the agreement that precedes it.
    OffUnagreed,
    /// Who hears nobody counts as in contact as long as it is heard.
    OneWayContact,
    /// A member that is heard and does not answer is left alone.
    SickTolerated,
    /// That a stop cost a node is forgotten.
    StopCostForgotten,
    /// Machines are given no time to boot.
    PatienceSkipped,
    /// A node writes another history than the others for as long as it has this bug (planted by stories).
    HistoryGarbled,
    /// Who was condemned for its silence and is heard again is cut off all the same.
    SpareSkipped,
    /// The answer of a fence device to an earlier question counts for whoever is asked about now.
    LateAnswerTaken,
    /// Newer entries are used though a member that is online cannot read them.
    RaiseUnasked,
    /// A stop that could not begin counts as failed where nothing was started.
    NotBegunBlocks,
    /// A stop that could not begin counts as done where something ran.
    NotBegunBelieved,
}

/// The set of planted bugs that are on; empty and immutable in the product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bugs {
    #[cfg(feature = "planted-bugs")]
    bits: u64,
}

impl Bugs {
    /// No planted bug.
    pub const NONE: Bugs = Bugs {
        #[cfg(feature = "planted-bugs")]
        bits: 0,
    };

    /// Is this bug planted? Always `false` in the product.
    #[cfg(feature = "planted-bugs")]
    pub const fn has(self, bug: Bug) -> bool {
        self.bits & (1 << bug as u64) != 0
    }

    /// Is this bug planted? Always `false` in the product.
    #[cfg(not(feature = "planted-bugs"))]
    pub const fn has(self, _bug: Bug) -> bool {
        false
    }

    /// The same set with `bug` planted.
    #[cfg(feature = "planted-bugs")]
    pub const fn with(self, bug: Bug) -> Self {
        Bugs { bits: self.bits | (1 << bug as u64) }
    }
}

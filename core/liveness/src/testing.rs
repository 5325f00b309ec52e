//! Values that tests of several files share.

use model::Incarnation;

use crate::{Beat, BeatFlags, BeatKind, Facts};

/// A beat that says nothing.
pub(crate) fn beat() -> Beat {
    Beat {
        incarnation: Incarnation(1),
        kind: BeatKind::Beat,
        flags: BeatFlags::NONE,
        sent_at_us: 0,
        late_us: 0,
        own_stall_ms: 0,
        next_by_ms: 50,
        echo: None,
        loss_permille: 0,
        ages: Vec::new(),
        facts: Facts::default(),
        health: None,
        two_lives: None,
    }
}

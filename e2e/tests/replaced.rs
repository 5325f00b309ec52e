//! Is everything of a service still found, and ended, after whatever supervises it was replaced?

use anyhow::Result;
use e2e::wild::Wild;

#[test]
fn after_every_worker_was_replaced_a_stop_a_move_and_a_standby_leave_nothing_running() -> Result<()> {
    let wild = Wild::up()?;
    // The supervisor of a node that has just booted is its process 2; the fourth round gives every node another one.
    for round in 0..5 {
        let left = wild.replace_and_stop(round)?;
        assert!(left.is_empty(), "round {round}: {left:?}\n{}", wild.lab.logs());
    }
    Ok(())
}

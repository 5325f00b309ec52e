//! When is it so? Real processes take their time; a test asks again until it is so, and fails only long after.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest wait for anything; generous, because a busy machine is no fault.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is something; what it says meanwhile is told when patience ends.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() > PATIENCE => {
                bail!("not within {PATIENCE:?}: {what}; at last: {last}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

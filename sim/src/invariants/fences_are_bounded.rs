//! Fence devices take the power of a machine at most twice for each thing that went wrong: a fence is no reason for
//! the next one.

/// Fences that took effect, and what went wrong.
#[derive(Default)]
pub(crate) struct Fences {
    hits: u64,
    faults: u64,
}

impl Fences {
    /// Something goes wrong, or a person asks for something.
    pub fn on_fault(&mut self) {
        self.faults += 1;
    }

    /// A device cuts off a machine that had power.
    pub fn on_hit(&mut self, name: &str) -> Result<(), String> {
        self.hits += 1;
        if self.hits <= 2 * self.faults + 1 {
            return Ok(());
        }
        Err(format!("{name} is cut off: that is fence {} after {} faults", self.hits, self.faults))
    }
}

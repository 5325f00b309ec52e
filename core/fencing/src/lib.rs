//! How is a lost node made sure to be off?
//!
//! ```text
//!   Condemned in the state ─► level 1: off ─► status … until it reads off ─┐
//!                             level 2: …                                   ├─► FenceDone, with the evidence
//!                             (until what it holds is covered)            ─┘
//!                             all failed ─► pause 1 s … 30 s, a problem for the operator, from level 1 again
//! ```
//!
//! An agent's word is not enough: a level counts when the device's status reads off afterwards. A call that gives no
//! answer in time has failed; what it says later counts for nothing. `reboot` is never used: a machine that comes
//! back by itself proves nothing. Before every call the state is asked whether this incarnation is still condemned,
//! so that a late call does not hit a machine that has booted and joined.
//!
//! Source: SAFETY §4.7.

mod fencing;

pub use fencing::{FenceTest, Fencing, FencingAction, FencingInput};

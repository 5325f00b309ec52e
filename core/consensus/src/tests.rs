//! Stories: whole clusters of this crate alone, in virtual time, on a network and disks that misbehave.

mod chaos;
mod cluster;
mod disk;
mod elections;
mod garbage;
mod log;

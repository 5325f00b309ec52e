//! What does a node cost that has nothing to do? Supervisor and worker together, each node a value.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::{Lab, processes};

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must};

/// What /proc counts processor time in, per second: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is settled before the measuring begins.
const SETTLING: Duration = Duration::from_secs(5);

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    thread::sleep(SETTLING);
    let names = lab.names()?;
    let pids = names
        .iter()
        .map(|name| Ok([lab.supervisor(name)?.pid, lab.worker(name)?.pid]))
        .collect::<Result<Vec<[i32; 2]>>>()?;
    let ticks = || -> Result<Vec<u64>> {
        let of_node = |pids: &[i32; 2]| pids.iter().map(|pid| processes::ticks(*pid)).sum::<Option<u64>>();
        pids.iter().map(|pids| of_node(pids).context("a daemon has ended")).collect()
    };
    let (before, begun) = (ticks()?, Instant::now());
    thread::sleep(Duration::from_secs(if line.quick { 10 } else { 60 }));
    let (after, minutes) = (ticks()?, begun.elapsed().as_secs_f64() / 60.0);
    let memory = |fields: &[&str]| -> Result<Vec<f64>> {
        let of_node = |pids: &[i32; 2]| pids.iter().map(|pid| processes::memory_kib(*pid, fields)).sum::<Option<u64>>();
        pids.iter().map(|pids| Ok(mib(of_node(pids).context("the memory of a daemon cannot be read")?))).collect()
    };
    #[expect(clippy::cast_precision_loss, reason = "a few hundred ticks")]
    let seconds = before.iter().zip(&after).map(|(before, after)| (after - before) as f64 / TICKS_PER_SECOND / minutes);
    let seconds: Vec<f64> = seconds.map(|value| (value * 1000.0).round() / 1000.0).collect();
    let note = "supervisor and worker together; a value for each of three nodes";
    Ok(vec![
        Figure::new(Row::Rest, "one node at rest: resident memory", "MiB", Must::WorstAtMost(32.0), memory(&["Rss"])?)
            .noted(note),
        Figure::new(
            Row::Rest,
            "one node at rest: private memory",
            "MiB",
            Must::WorstAtMost(20.0),
            memory(&["Private_Clean", "Private_Dirty"])?,
        )
        .noted(note),
        // The heartbeat threads do equal work, and are charged for up to twice as much of it, depending on where they run.
        Figure::new(Row::Rest, "one node at rest: processor seconds a minute", "s", Must::MedianAtMost(0.6), seconds)
            .noted(note),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mib(kib: u64) -> f64 {
    ((kib as f64 / 1024.0) * 10.0).round() / 10.0
}

//! How long from three powered-off nodes with a configuration on their disks to the first page?

use std::thread;

use anyhow::{Context as _, Result};
use e2e::{Lab, now_us, until};
use rustix::process::Signal;

use super::{Row, SERVICE};
use crate::Line;
use crate::client::Client;
use crate::figure::{Figure, Must};

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let runs = if line.quick { 1 } else { 5 };
    let values = (0..runs).map(|_| once(&lab)).collect::<Result<Vec<f64>>>()?;
    let what = "cold start of all three daemons until the service answers";
    let note = "from the order to power on, after a clean stop of all, to the client's first page";
    Ok(vec![Figure::new(Row::ColdStart, what, "s", Must::MedianAtMost(3.0), values).noted(note)])
}

fn once(lab: &Lab) -> Result<f64> {
    let names = lab.names()?;
    for name in &names {
        lab.signal_daemon(name, Signal::TERM)?;
    }
    until("all daemons have ended", || {
        let left: Vec<&String> = names.iter().filter(|name| lab.supervisor(name).is_ok()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    })?;
    for name in &names {
        lab.must(&["crash", name])?;
    }
    let client = Client::start(lab, SERVICE, None)?;
    let begun_us = now_us();
    thread::scope(|scope| -> Result<()> {
        let starts: Vec<_> = names.iter().map(|name| scope.spawn(|| lab.must(&["start", name]))).collect();
        for start in starts {
            start.join().expect("a start of a node does not panic")?;
        }
        Ok(())
    })?;
    let first_us = client.seen()?.first_us.context("the service did not answer within two minutes")?;
    lab.wait_until_whole()?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
    Ok((first_us.saturating_sub(begun_us) / 1000) as f64 / 1000.0)
}

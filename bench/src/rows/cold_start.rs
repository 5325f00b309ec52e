//! How long from three powered-off nodes with a configuration on their disks to the first page?

use std::thread;

use anyhow::{Context as _, Result};
use e2e::{Lab, now_us, until};
use rustix::process::Signal;

use super::{Row, SERVICE};
use crate::Line;
use crate::client::Client;
use crate::figure::{Figure, Must};

/// How the cluster went down before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Every daemon was told to end, and the power went off after that.
    Ended,
    /// The power failed on all nodes at once.
    PowerFailed,
}

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let runs = if line.quick { 1 } else { 5 };
    let values = |before| (0..runs).map(|_| once(&lab, before)).collect::<Result<Vec<f64>>>();
    let must = Must::MedianAtMost(3.0);
    let (ended, failed) = (values(Before::Ended)?, values(Before::PowerFailed)?);
    Ok(vec![
        Figure::new(Row::ColdStart, "cold start of all three daemons until the service answers", "s", must, ended)
            .noted("from the order to power on, after all daemons were told to end, to the client's first page"),
        Figure::new(Row::ColdStart, "the same after a power failure of all nodes at once", "s", must, failed),
    ])
}

fn once(lab: &Lab, before: Before) -> Result<f64> {
    let names = lab.names()?;
    match before {
        Before::Ended => {
            end_daemons(lab, &names)?;
        }
        // Without cables nobody acts on the loss of another while the power goes off, node by node.
        Before::PowerFailed => {
            for name in &names {
                lab.must(&["cut", name])?;
            }
        }
    }
    for name in &names {
        lab.must(&["crash", name])?;
    }
    lab.must(&["heal"])?;
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

/// Ends all daemons in order. Those that are left when no majority is there any more have nobody to hand over to: they
/// are told a second time.
fn end_daemons(lab: &Lab, names: &[String]) -> Result<()> {
    let left = || names.iter().filter(|name| lab.supervisor(name).is_ok()).collect::<Vec<&String>>();
    for name in names {
        lab.signal_daemon(name, Signal::TERM)?;
    }
    until("a daemon hands over and ends", || {
        if left().len() < names.len() { Ok(()) } else { Err(format!("{:?} run", left())) }
    })?;
    let alone = until("nobody has a majority, or all have ended", || {
        let left = left();
        let is_quorate = |name: &&&String| lab.node(name).status().is_ok_and(|status| status["quorate"] == true);
        if left.iter().any(|name| is_quorate(&name)) { Err(format!("{left:?} run")) } else { Ok(left) }
    })?;
    for name in alone {
        // It may end between the look and the signal.
        let _ = lab.signal_daemon(name, Signal::TERM);
    }
    until("all daemons have ended", || if left().is_empty() { Ok(()) } else { Err(format!("{:?} run", left())) })
}

//! What is left of a service, or moved, when everything that supervises it is replaced, or a local user does his worst?

use std::time::Duration;

use anyhow::Result;
use e2e::wild::{Attack, Wild};

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must};

pub(super) fn replaced(line: &Line) -> Result<Vec<Figure>> {
    let rounds = if line.quick { 4 } else { 20 };
    let wild = Wild::up()?;
    let mut left = Vec::new();
    for round in 0..rounds {
        left.extend(wild.replace_and_stop(round)?);
    }
    let note = format!(
        "{rounds} rounds of stop, move, standby of one node after the other{}",
        left.first().map(|left| format!("; first: {left}")).unwrap_or_default()
    );
    let what = "every worker replaced, then the service taken away: processes left";
    Ok(vec![Figure::new(Row::Replaced, what, "", Must::WorstAtMost(0.0), vec![count(left.len())]).noted(&note)])
}

pub(super) fn attacks(line: &Line) -> Result<Vec<Figure>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(vec![Figure::not_measured(Row::Attacks, "it takes root to be somebody else")]);
    }
    let time = Duration::from_secs(if line.quick { 4 } else { 20 });
    let figures = Attack::ALL.into_iter().map(|attack| {
        let what = format!("{}: moves, verdicts, double runs", attack.words());
        let figure = |values| Figure::new(Row::Attacks, &what, "", Must::WorstAtMost(0.0), values);
        // A lab that was harmed is no place for the next attack.
        match Wild::up().and_then(|wild| wild.suffer(attack, time)) {
            Ok(harm) => {
                let first = harm.moves.first().or(harm.verdicts.first()).cloned().unwrap_or_default();
                let note = format!("{} s of uid 65534 on the serving node {first}", time.as_secs());
                figure(vec![count(harm.moves.len()), count(harm.verdicts.len()), count(harm.doubles)])
                    .noted(note.trim())
            }
            Err(error) => figure(Vec::new()).noted(&format!("{error:#}")),
        }
    });
    Ok(figures.collect())
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

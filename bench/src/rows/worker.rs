//! What does the sudden death of a worker cost? Nothing: no verdict, no fence, and every start happens once.

use anyhow::{Result, ensure};
use e2e::counted::{Counted, SERVICE, UNIT};
use e2e::{now_us, processes, until};

use super::{Row, VERDICTS};
use crate::Line;
use crate::figure::{Figure, Must};

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let each = if line.quick { 1 } else { 5 };
    let counted = Counted::up()?;
    let lab = &counted.lab;
    let since = now_us();
    let mut wrong = Vec::new();
    let mut kills = 0;
    let mut expected = counted.counts();
    let mut check = |when: &str, expected| {
        kills += 1;
        let counts = counted.counts();
        if counts != expected {
            wrong.push(format!("{when}: {counts:?}, not {expected:?}"));
        }
        counts
    };

    for _ in 0..each {
        let place = lab.place_of(SERVICE)?;
        let service = lab.running(&place, "1000000");
        let worker = lab.worker(&place)?;
        processes::kill(&worker);
        until("another worker answers", || match lab.worker(&place) {
            Ok(now) if now != worker => lab.node(&place).status().map(|_| ()).map_err(|error| format!("{error:#}")),
            Ok(_) => Err("it is still the old one".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        })?;
        lab.wait_until_whole()?;
        ensure!(lab.running(&place, "1000000") == service, "the service did not survive the worker of {place}");
        expected = check("idle", expected);
    }
    for _ in 0..each {
        let began = now_us();
        lab.leader()?.must(&["stop", UNIT])?;
        counted.kill_inside("stop", began)?;
        counted.wait_until_stopped()?;
        expected.agent_stops += 1;
        expected = check("inside a stop", expected);

        let began = now_us();
        lab.leader()?.must(&["start", UNIT])?;
        counted.kill_inside("start", began)?;
        lab.wait_until_whole()?;
        expected.agent_starts += 1;
        expected.service_starts += 1;
        expected = check("inside a start", expected);
    }
    for _ in 0..each {
        counted.stop()?;
        expected.agent_stops += 1;
        counted.hold_the_note()?;
        lab.leader()?.must(&["start", UNIT])?;
        expected.agent_starts += 1;
        expected.service_starts += 1;
        counted.kill_before_the_note(expected.service_starts)?;
        lab.wait_until_whole()?;
        expected = check("between spawn and note", expected);
    }

    let verdicts = lab.events_of(&VERDICTS, since)?;
    let of = |kinds: &[&str]| {
        let found = verdicts.iter().filter(|event| kinds.iter().any(|kind| event["event"] == *kind)).count();
        vec![f64::from(u32::try_from(found).unwrap_or(u32::MAX))]
    };
    let must = Must::WorstAtMost(0.0);
    let note = format!(
        "{kills} kills: idle, inside a stop, inside a start, between spawn and note, {each} each{}{}",
        verdicts.first().map(|event| format!("; first verdict: {event}")).unwrap_or_default(),
        wrong.first().map(|wrong| format!("; {wrong}")).unwrap_or_default()
    );
    let starts_wrong = f64::from(u32::try_from(wrong.len()).unwrap_or(u32::MAX));
    Ok(vec![
        Figure::new(Row::Worker, "worker killed: verdicts", "", must, of(&["suspect", "condemned"])).noted(&note),
        Figure::new(Row::Worker, "worker killed: fences", "", must, of(&["fence-called", "fenced"])),
        Figure::new(
            Row::Worker,
            "worker killed: starts or stops not carried out exactly once",
            "",
            must,
            vec![starts_wrong],
        ),
    ])
}

//! Does anybody mind a network that loses every fifth packet? The client's packets are spared.

use anyhow::{Context as _, Result, bail};
use e2e::{Lab, now_us};
use serde_json::Value;

use super::{Row, SERVICE, VERDICTS};
use crate::Line;
use crate::client::Client;
use crate::figure::{Figure, Must};

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let before = lab.status().map_err(anyhow::Error::msg)?;
    let place = lab.place_of("web")?;
    let seconds = if line.quick { 20 } else { 180 };
    let since = now_us();
    lab.must(&["loss", "20"])?;
    let seen = Client::start(&lab, SERVICE, Some(seconds))?.seen()?;
    lab.must(&["loss", "0"])?;
    let verdicts = lab.events_of(&VERDICTS, since)?;
    let after = lab.wait_until_whole()?;
    if lab.place_of("web")? != place {
        bail!("the service moved: {verdicts:?}");
    }
    let term = |status: &Value| status["term"].as_u64().context("a status has a term");
    let (terms, leaders) = (term(&after)? - term(&before)?, lab.events_of(&["leader"], since)?.len());
    let changes = usize::try_from(terms)?.max(leaders);
    let must = Must::WorstAtMost(0.0);
    let note = format!(
        "{seconds} s, {} requests of the client, {} failed, longest time between answers {:.1} ms{}",
        seen.requests,
        seen.failed,
        ms(seen.longest_us),
        verdicts.first().map(|event| format!("; first verdict: {event}")).unwrap_or_default()
    );
    Ok(vec![
        Figure::new(Row::Loss, "20 % loss: lost verdicts", "", must, vec![count(verdicts.len())]).noted(&note),
        Figure::new(Row::Loss, "20 % loss: leader changes", "", must, vec![count(changes)]),
        Figure::new(Row::Loss, "20 % loss: gaps over 100 ms for the client", "", must, vec![count(seen.gaps_us.len())]),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

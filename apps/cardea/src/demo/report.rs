//! What does the demo say at the end? A table for people, JSON for programs, and whether the figures are reached.

use std::collections::BTreeMap;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use super::judge::{Spread, spread};

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The process of the service is killed.
    Kill,
    /// The serving node loses its power.
    Poweroff,
    /// It is cut from both networks.
    Cut,
    /// Every process on it is stopped.
    Freeze,
    /// It hears nothing, and is heard.
    Deaf,
    /// It hears all, and nobody hears it.
    Mute,
    /// The service is moved by hand.
    Move,
}

impl Fault {
    /// The faults of a demo that nobody asked for others.
    pub const USUAL: [Fault; 5] = [Fault::Kill, Fault::Poweroff, Fault::Cut, Fault::Freeze, Fault::Move];

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Poweroff => "poweroff",
            Fault::Cut => "cut",
            Fault::Freeze => "freeze",
            Fault::Deaf => "deaf",
            Fault::Mute => "mute",
            Fault::Move => "move",
        }
    }

    /// As a person says it.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Kill => "the service process is killed",
            Fault::Poweroff => "the serving node loses power",
            Fault::Cut => "its network is cut, both cables",
            Fault::Freeze => "it is frozen, every process",
            Fault::Deaf => "it hears nothing and is heard",
            Fault::Mute => "it hears all and nobody hears it",
            Fault::Move => "the service is moved by hand",
        }
    }

    /// The median that `--check` demands, in milliseconds; for a killed process, beyond the service's own start.
    fn limit_ms(self) -> f64 {
        match self {
            Fault::Kill => 60.0,
            Fault::Poweroff | Fault::Cut | Fault::Freeze | Fault::Mute => 500.0,
            Fault::Deaf => 600.0,
            Fault::Move => 100.0,
        }
    }
}

/// One fault and what came of it. Times in milliseconds after the fault; none where there is no such stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The fault.
    pub fault: Fault,
    /// Did the node that was hit lead?
    pub leader: bool,
    /// The run, from 1.
    pub run: u32,
    /// The node that was hit.
    pub node: String,
    /// The node that serves after it.
    pub to: String,
    /// The fault was noticed.
    pub detected_ms: Option<f64>,
    /// Another leader was elected.
    pub elected_ms: Option<f64>,
    /// The node was condemned.
    pub condemned_ms: Option<f64>,
    /// It was proven off.
    pub fenced_ms: Option<f64>,
    /// The service was given to its next node.
    pub granted_ms: Option<f64>,
    /// The address was there.
    pub address_ms: Option<f64>,
    /// The service was ready.
    pub ready_ms: Option<f64>,
    /// The client had its first answer.
    pub client_ms: Option<f64>,
    /// How long the service itself took to start.
    pub start_ms: Option<f64>,
    /// How long the client was not served.
    pub outage_ms: f64,
    /// Why the service is where it is.
    pub reason: String,
}

/// The result of a demo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many runs.
    pub runs: u32,
    /// Every fault, in order.
    pub steps: Vec<Step>,
    /// The outages, by fault.
    pub summary: BTreeMap<String, Summary>,
    /// Answers that prove that two nodes served at once.
    pub double_answers: usize,
    /// Looks that found two powered nodes with the address and a responder.
    pub double_holders: usize,
    /// Did the service come back each time, and never answer from two nodes?
    pub ok: bool,
    /// What was wrong, one sentence each.
    pub problems: Vec<String>,
}

/// The figures of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The outages.
    pub outage_ms: Figures,
}

/// A spread, for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Smallest.
    pub min: f64,
    /// Middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl From<Spread> for Figures {
    fn from(spread: Spread) -> Figures {
        Figures { min: spread.min, median: spread.median, max: spread.max }
    }
}

/// The outages by fault.
pub fn summary(steps: &[Step]) -> BTreeMap<String, Summary> {
    let of = |fault: Fault| spread(steps.iter().filter(|s| s.fault == fault).map(|s| s.outage_ms));
    let found = Fault::value_variants().iter().copied().filter_map(|fault| Some((fault, of(fault)?)));
    found.map(|(fault, spread)| (fault.as_str().to_owned(), Summary { outage_ms: spread.into() })).collect()
}

/// The figures of these faults that are missed, one sentence each; empty if all are reached.
pub fn missed(faults: &[Fault], steps: &[Step]) -> Vec<String> {
    let of = |fault: Fault| {
        // What is over and above the service's own start is ours.
        let ours = |step: &Step| match fault {
            Fault::Kill => (step.outage_ms - step.start_ms.unwrap_or(0.0)).max(0.0),
            Fault::Poweroff | Fault::Cut | Fault::Freeze | Fault::Deaf | Fault::Mute | Fault::Move => step.outage_ms,
        };
        spread(steps.iter().filter(|step| step.fault == fault).map(ours))
    };
    faults
        .iter()
        .filter_map(|fault| match of(*fault) {
            None => Some(format!("{}: nothing was measured", fault.as_str())),
            Some(spread) if spread.median > fault.limit_ms() => {
                Some(format!("{}: median {:.1} ms, at most {:.0}", fault.as_str(), spread.median, fault.limit_ms()))
            }
            Some(_) => None,
        })
        .collect()
}

/// The table: a line per fault, medians over the runs, leaders and followers apart.
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "fault",
        "hit",
        "detected",
        "elected",
        "condemned",
        "fenced",
        "granted",
        "address",
        "ready",
        "client",
        "outage ms (min – max)",
    ]);
    for fault in Fault::value_variants().iter().copied() {
        for leader in [true, false] {
            let steps: Vec<&Step> =
                report.steps.iter().filter(|step| step.fault == fault && step.leader == leader).collect();
            let Some(outage) = spread(steps.iter().map(|step| step.outage_ms)) else { continue };
            let median = |of: fn(&Step) -> Option<f64>| {
                spread(steps.iter().filter_map(|step| of(step)))
                    .map_or_else(|| "–".to_owned(), |found| format!("{:.0}", found.median))
            };
            table.add_row([
                fault.as_str().to_owned(),
                if leader { "leader" } else { "follower" }.to_owned(),
                median(|s| s.detected_ms),
                median(|s| s.elected_ms),
                median(|s| s.condemned_ms),
                median(|s| s.fenced_ms),
                median(|s| s.granted_ms),
                median(|s| s.address_ms),
                median(|s| s.ready_ms),
                median(|s| s.client_ms),
                format!("{:.0} ({:.0} – {:.0})", outage.median, outage.min, outage.max),
            ]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fault: Fault, outage_ms: f64, start_ms: Option<f64>) -> Step {
        Step {
            fault,
            leader: true,
            run: 1,
            node: "a".to_owned(),
            to: "b".to_owned(),
            detected_ms: None,
            elected_ms: None,
            condemned_ms: None,
            fenced_ms: None,
            granted_ms: None,
            address_ms: None,
            ready_ms: None,
            client_ms: None,
            start_ms,
            outage_ms,
            reason: String::new(),
        }
    }

    fn good() -> Vec<Step> {
        vec![
            step(Fault::Kill, 80.0, Some(30.0)),
            step(Fault::Poweroff, 400.0, None),
            step(Fault::Cut, 400.0, None),
            step(Fault::Freeze, 500.0, None),
            step(Fault::Move, 90.0, None),
        ]
    }

    #[test]
    fn the_start_of_the_service_itself_is_not_held_against_us() {
        assert_eq!(missed(&Fault::USUAL, &good()), Vec::<String>::new());
    }

    #[test]
    fn a_median_above_its_figure_is_a_miss_and_so_is_none() {
        let mut steps = good();
        steps[4].outage_ms = 101.0;
        steps.remove(1);
        let missed = missed(&Fault::USUAL, &steps);
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[0].starts_with("poweroff") && missed[1].starts_with("move"));
    }

    #[test]
    fn the_json_has_the_names_that_are_promised() {
        let steps = good();
        let report = Report {
            runs: 1,
            summary: summary(&steps),
            steps,
            double_answers: 0,
            double_holders: 0,
            ok: true,
            problems: vec![],
        };
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["summary"]["poweroff"]["outage_ms"]["median"], 400.0);
        assert_eq!(json["steps"][1]["fault"], "poweroff");
        assert_eq!(json["steps"][1]["leader"], true);
        assert!(json["steps"][1].get("detected_ms").is_some());
    }
}

//! How is a judgement shown? As sentences with numbered actions, or as JSON; with the reasons that were asked for.
//!
//! The same for a CIB, a cluster file and the running cluster.

use std::collections::BTreeSet;

use anyhow::Context as _;
use model::situation::Situation;
use scheduler::reasons::{Explanation, changed, explanation, story};
use scheduler::{Ask, Judgement, NoMajority, Reasons};
use serde_json::{Value, json};

/// What changes and why, and for each of `why` what speaks for and against every node. That there would be no majority
/// comes first.
///
/// # Errors
/// If `why` names what is not there.
pub fn as_text(situation: &Situation, why: &[String], no_majority: Option<&NoMajority>) -> anyhow::Result<String> {
    let asked = why.iter().cloned().chain(changed(&scheduler::judge(situation))).collect();
    let (judgement, reasons, explanations) = told(situation, asked, why)?;
    let mut out = no_majority.map(|none| format!("{none}\n")).unwrap_or_default();
    out += &story(&judgement, &reasons);
    for explained in &explanations {
        out += &format!("\n{}\n", explained.decision);
        for node in &explained.nodes {
            let sign = if node.can_run { "+" } else { "-" };
            out += &format!("  {sign} {}: {}\n", node.node, node.because.join("; "));
        }
    }
    Ok(out)
}

/// The same as fields.
///
/// # Errors
/// If `why` names what is not there.
pub fn as_json(situation: &Situation, why: &[String], no_majority: Option<&NoMajority>) -> anyhow::Result<Value> {
    let (judgement, reasons, explanations) = told(situation, why.iter().cloned().collect(), why)?;
    let mut value = self::judgement(&judgement)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("version".to_owned(), json!(api::VERSION));
        if let Some(no_majority) = no_majority {
            object.insert("no_majority".to_owned(), json!(no_majority.to_string()));
        }
        object.insert("causes".to_owned(), serde_json::to_value(&reasons.causes)?);
        if !why.is_empty() {
            object.insert("why".to_owned(), serde_json::to_value(explanations)?);
            object.insert("weighings".to_owned(), serde_json::to_value(&reasons.weighings)?);
        }
    }
    Ok(value)
}

/// A judgement alone, without reasons.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn judgement(judgement: &Judgement) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(judgement)?;
    if let Some(object) = value.as_object_mut()
        && let Some(current) = object.remove("current")
    {
        object.insert("current".to_owned(), json!({ "placement": current }));
    }
    Ok(value)
}

fn told(
    situation: &Situation,
    asked: BTreeSet<String>,
    why: &[String],
) -> anyhow::Result<(Judgement, Reasons, Vec<Explanation>)> {
    let (judgement, reasons) = scheduler::judge_telling(situation, &Ask::Of(asked));
    let explanations = why
        .iter()
        .map(|name| {
            explanation(&judgement, &reasons, name)
                .with_context(|| format!("there is no resource `{name}`; there are: {}", names(situation)))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok((judgement, reasons, explanations))
}

/// What could be asked about.
fn names(situation: &Situation) -> String {
    let names: Vec<&str> = situation.resources.iter().map(|resource| resource.name.as_str()).collect();
    names.join(", ")
}

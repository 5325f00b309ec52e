//! A judgement in words: what is decided, where everything ends up, then what is done, numbered.

use std::fmt;

use model::situation::Role;

use super::emit::{Done, Place, Told};

impl Place {
    /// Several places: `on a, on b (promoted)`.
    pub fn in_words(places: &[Place]) -> String {
        if places.is_empty() {
            return "stopped".to_owned();
        }
        let each = places.iter().map(|place| match place.role {
            Role::Promoted => format!("on {} (promoted)", place.node),
            Role::Unknown | Role::Stopped | Role::Started | Role::Unpromoted => format!("on {}", place.node),
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(resource) = &self.resource else { return write!(f, "{} {}", word(self.action, self.op), self.node) };
        write!(f, "{}", self.action)?;
        if let (Some(phase), Some(of)) = (self.phase, self.of) {
            write!(f, " ({phase} {of})")?;
        }
        write!(f, " {resource} on {}", self.node)?;
        match self.interval {
            Some(ms) if ms.is_multiple_of(1000) => write!(f, " every {}s", ms / 1000),
            Some(ms) => write!(f, " every {ms}ms"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", word(self.action, self.op))?;
        for part in [&self.resource, &self.node].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from != to => write!(f, " from {from} to {to}")?,
            (_, Some(to)) => write!(f, " on {to}")?,
            (Some(from), None) => write!(f, " on {from}")?,
            (None, None) => {}
        }
        if self.blocked {
            write!(f, ", which cannot be done")?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// What an operator calls an action.
fn word(action: &'static str, op: Option<&'static str>) -> &'static str {
    if (action, op) == ("fence", Some("on")) { "unfence" } else { action }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Judgement;

    #[test]
    fn a_judgement_reads_as_sentences() {
        let told = Told {
            action: "move",
            resource: Some("db".to_owned()),
            from: Some("a".to_owned()),
            to: Some("b".to_owned()),
            reason: Some("node availability".to_owned()),
            ..Told::default()
        };
        assert_eq!(told.to_string(), "move db from a to b: node availability");
        assert_eq!(Judgement::default().to_string(), "nothing would be started, stopped or moved\n");
        let check = Done {
            action: "monitor",
            resource: Some("db".to_owned()),
            node: "b".to_owned(),
            interval: Some(1500),
            ..Done::default()
        };
        assert_eq!(check.to_string(), "monitor db on b every 1500ms");
    }
}

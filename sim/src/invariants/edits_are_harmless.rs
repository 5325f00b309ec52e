//! A change of the cluster file, whatever mistake is in it, cuts nobody off, and starts and stops nothing that it does not
//! speak of.

use std::collections::BTreeSet;

use model::{ClusterConfig, ResourceName, UnitName};

/// What the edits so far do not speak of.
pub(crate) struct Edits {
    /// The text before the first of them, and what it says.
    pub base: (String, ClusterConfig),
    untouched: BTreeSet<ResourceName>,
}

impl Edits {
    /// Nothing has been edited yet.
    pub fn new(text: String, config: ClusterConfig) -> Self {
        let untouched = config.resources.keys().cloned().collect();
        Edits { base: (text, config), untouched }
    }

    /// The file changes.
    pub fn on_edit(&mut self, old: &ClusterConfig, new: &ClusterConfig) {
        let touched = touched(old, new);
        self.untouched.retain(|resource| !touched.contains(&old.unit_of(resource)));
    }

    /// Something happens while nothing but edits goes wrong.
    pub fn check(&self, what: &str, subject: &str, detail: &str) -> Result<(), String> {
        match what {
            "condemned" => Err(format!("{subject} is condemned for a mistake in the file: {detail}")),
            "start" | "stop" if self.untouched.contains(&ResourceName::from(subject)) => {
                Err(format!("{what} of {subject} on {detail}, of which no edit speaks"))
            }
            _ => Ok(()),
        }
    }
}

/// The units that the change speaks of, and those that are tied to them.
fn touched(old: &ClusterConfig, new: &ClusterConfig) -> BTreeSet<UnitName> {
    let bare = |config: &ClusterConfig| ClusterConfig {
        resources: Default::default(),
        groups: Default::default(),
        ..config.clone()
    };
    let (old_units, new_units) = (old.units(), new.units());
    let all: BTreeSet<UnitName> = old_units.keys().chain(new_units.keys()).cloned().collect();
    if bare(old) != bare(new) {
        return all;
    }
    let is_same = |name: &UnitName| {
        let (Some(one), Some(other)) = (old_units.get(name), new_units.get(name)) else { return false };
        one.members == other.members
            && one.placement == other.placement
            && one.members.iter().all(|member| old.resources.get(*member) == new.resources.get(*member))
    };
    let mut touched: BTreeSet<UnitName> = all.iter().filter(|name| !is_same(name)).cloned().collect();
    let ties = old_units.iter().chain(&new_units).flat_map(|(name, unit)| {
        let leaning = &unit.placement.leaning;
        let others = leaning.with.keys().chain(leaning.apart.keys()).chain(&unit.placement.after);
        others.map(|other| (name.clone(), other.clone())).collect::<Vec<_>>()
    });
    let ties: Vec<(UnitName, UnitName)> = ties.collect();
    loop {
        let before = touched.len();
        for (one, other) in &ties {
            if touched.contains(one) || touched.contains(other) {
                touched.extend([one.clone(), other.clone()]);
            }
        }
        if touched.len() == before {
            return touched;
        }
    }
}

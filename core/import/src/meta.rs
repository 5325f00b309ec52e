//! How is a resource treated? Its settings, once it is known which value of each holds.
//!
//! Values come, the nearest first, from the element itself, its blocks, the blocks of what it lies in, the defaults of
//! the cluster, and at last from what the element above ended up with.

use model::ResourceName;
use model::situation::{Meta, MultipleActive, NoQuorum, Options, Requires, Score};

use crate::blocks::Table;
use crate::source::{Element, Source};
use crate::values::{self, Colours};

/// What kind of thing the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// One service.
    Primitive {
        /// It is a fence device.
        is_fence_device: bool,
        /// It is the connection to a remote node; guests have connections too, but these do not move.
        is_connection: bool,
        /// It lets a remote node, which is no guest, be reached.
        moves_live: bool,
    },
    Group,
    Clone,
    Bundle,
}

/// What settings depend on beside their own values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub colours: Colours,
    pub is_fencing_enabled: bool,
    pub ignores_quorum: bool,
    /// Something in the configuration uses unfencing.
    pub uses_unfencing: bool,
}

impl Defaults {
    pub(crate) fn new(options: &Options, colours: Colours, uses_unfencing: bool) -> Defaults {
        Defaults {
            colours,
            is_fencing_enabled: options.is_fencing_enabled,
            ignores_quorum: options.no_quorum == NoQuorum::Ignore,
            uses_unfencing,
        }
    }
}

/// Values that fail are the same as values that are not there, with a remark.
struct Reader<'s, 't, 'a> {
    source: &'s Source<'a>,
    at: Element<'a>,
    table: &'t Table<'a>,
}

impl<'a> Reader<'_, '_, 'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.table.get(name).copied().filter(|text| !text.eq_ignore_ascii_case("default"))
    }

    fn value<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.get(name)?;
        let value = read(text);
        if value.is_none() {
            self.source.remark(self.at, format!("{name}={text:?} means nothing; the default holds"));
        }
        value
    }

    /// What is written and is not true is false: whoever mistypes `is-managed="false"` means hands off.
    fn is(&self, name: &str, default: bool) -> bool {
        let Some(text) = self.get(name) else { return default };
        values::boolean(text).unwrap_or_else(|| {
            self.source.remark(self.at, format!("{name}={text:?} is not true, and so counts as false"));
            false
        })
    }

    /// As [`Reader::is`], for settings of groups, whose default holds instead.
    fn is_or_default(&self, name: &str, default: bool) -> bool {
        self.value(name, values::boolean).unwrap_or(default)
    }

    fn count(&self, name: &str, old: &str, least: i64) -> Option<u32> {
        let name = if self.get(name).is_some() { name } else { old };
        self.value(name, |text| values::count(text, least))
    }
}

/// Reads the settings of an element from the values that hold for it.
pub(crate) fn read<'a>(
    source: &Source<'a>,
    at: Element<'a>,
    table: &Table<'a>,
    sort: Sort,
    defaults: Defaults,
) -> Meta {
    let reader = Reader { source, at, table };
    let score = |name: &str| reader.value(name, |text| values::score(text, defaults.colours));
    let is_clone = sort == Sort::Clone;
    let moves_live = matches!(sort, Sort::Primitive { moves_live: true, .. });
    let clone_node_max = reader.count("clone-node-max", "clone_node_max", 0).unwrap_or(1);
    let is_promotable = is_clone && reader.is("promotable", false);
    let promoted = |name, old| reader.count(name, old, 0).unwrap_or(1) * u32::from(is_promotable);
    Meta {
        priority: score("priority").unwrap_or_default().value(),
        is_managed: reader.is("is-managed", true),
        is_maintenance: reader.is("maintenance", false),
        target_role: reader.value("target-role", values::role),
        stickiness: score("resource-stickiness").unwrap_or(if is_clone { Score::of(1) } else { Score::ZERO }),
        is_firm: false,
        held_on: None,
        is_critical: reader.is("critical", true),
        failures_max: failures_max(score("migration-threshold")),
        failure_timeout_s: reader.value("failure-timeout", values::seconds).filter(|s| *s > 0),
        requires: requires(&reader, sort, defaults),
        multiple_active: reader.value("multiple-active", multiple_active).unwrap_or(MultipleActive::StopStart),
        allows_migration: reader.is("allow-migrate", moves_live),
        allows_unhealthy: reader.is("allow-unhealthy-nodes", false),
        container: reader.get("container").map(ResourceName::from).filter(|c| Some(c.as_str()) != at.attribute("id")),
        uses_host_attributes: reader.get("container-attribute-target").is_some_and(|target| target == "host"),
        is_ordered: reader.is_or_default("ordered", !is_clone),
        is_collocated: reader.is_or_default("collocated", true),
        clone_max: reader.count("clone-max", "clone_max", 0),
        clone_node_max,
        clone_min: reader.count("clone-min", "clone-min", 0).unwrap_or(0),
        is_unique: is_clone && reader.is("globally-unique", clone_node_max > 1),
        is_interleaved: reader.is("interleave", false),
        notifies: reader.is("notify", false),
        is_promotable,
        promoted_max: promoted("promoted-max", "master-max"),
        promoted_node_max: promoted("promoted-node-max", "master-node-max"),
    }
}

/// 0 means never; INFINITY is a number like others, which a failed start reaches.
fn failures_max(threshold: Option<Score>) -> Option<u32> {
    match threshold.unwrap_or(Score::MUST).value() {
        0 => None,
        value => Some(u32::try_from(value).unwrap_or(Score::MUST.value() as u32)),
    }
}

fn multiple_active(text: &str) -> Option<MultipleActive> {
    match text.to_ascii_lowercase().as_str() {
        "stop_start" | "restart" => Some(MultipleActive::StopStart),
        "stop_only" => Some(MultipleActive::StopOnly),
        "block" => Some(MultipleActive::Block),
        "stop_unexpected" => Some(MultipleActive::StopUnexpected),
        _ => None,
    }
}

fn requires(reader: &Reader<'_, '_, '_>, sort: Sort, defaults: Defaults) -> Requires {
    let is_fence_device = matches!(sort, Sort::Primitive { is_fence_device: true, .. });
    let is_connection = matches!(sort, Sort::Primitive { is_connection: true, .. });
    let said = reader.value("requires", |text| match text.to_ascii_lowercase().as_str() {
        "nothing" => Some(Requires::Nothing),
        "quorum" => Some(Requires::Quorum),
        "fencing" => Some(Requires::Fencing),
        "unfencing" => Some(Requires::Unfencing),
        _ => None,
    });
    let wanted = said.unwrap_or({
        if is_fence_device || is_connection {
            Requires::Quorum
        } else if defaults.uses_unfencing {
            Requires::Unfencing
        } else if defaults.is_fencing_enabled {
            Requires::Fencing
        } else if defaults.ignores_quorum {
            Requires::Nothing
        } else {
            Requires::Quorum
        }
    });
    match wanted {
        Requires::Unfencing if is_fence_device || !defaults.is_fencing_enabled => Requires::Quorum,
        Requires::Nothing | Requires::Quorum | Requires::Exclusion | Requires::Fencing | Requires::Unfencing => wanted,
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;
    use model::situation::Role;

    fn meta(values: &[(&'static str, &'static str)], sort: Sort) -> Meta {
        let document = Document::parse("<primitive id=\"p\"/>").expect("well-formed");
        let source = Source::new(&document, 0);
        let defaults = Defaults {
            colours: Colours::default(),
            is_fencing_enabled: true,
            ignores_quorum: false,
            uses_unfencing: false,
        };
        read(&source, document.root_element(), &values.iter().copied().collect(), sort, defaults)
    }

    const PLAIN: Sort = Sort::Primitive { is_fence_device: false, is_connection: false, moves_live: false };

    #[test]
    fn nothing_said_means_the_defaults() {
        let meta = meta(&[], PLAIN);
        assert!(meta.is_managed && meta.is_critical && !meta.allows_migration);
        assert_eq!((meta.target_role, meta.failures_max), (None, Some(1_000_000)));
        assert_eq!((meta.requires, meta.promoted_max), (Requires::Fencing, 0));
    }

    #[test]
    fn old_roles_and_numbers_are_understood() {
        let values = [("target-role", "Slave"), ("migration-threshold", "0"), ("failure-timeout", "1500ms")];
        let meta = meta(&values, PLAIN);
        assert_eq!(meta.target_role, Some(Role::Unpromoted));
        assert_eq!((meta.failures_max, meta.failure_timeout_s), (None, Some(2)));
    }

    #[test]
    fn a_mistyped_boolean_is_false_whatever_the_default() {
        let typos = [
            ("is-managed", "flase"),
            ("critical", "fasle"),
            ("maintenance", "ture"),
            ("globally-unique", "ture"),
            ("ordered", "fasle"),
            ("collocated", "fasle"),
            ("clone-node-max", "2"),
        ];
        let group = meta(&typos, Sort::Group);
        assert!(!group.is_managed && !group.is_critical && !group.is_maintenance);
        assert!(group.is_ordered && group.is_collocated, "the default holds for these");
        assert!(!meta(&typos, Sort::Clone).is_unique);
        assert!(!meta(&[("is-managed", "")], PLAIN).is_managed);
        assert!(meta(&[("is-managed", "default")], PLAIN).is_managed);
    }

    #[test]
    fn clones_stay_a_little_and_are_unique_where_several_share_a_node() {
        let clone = meta(&[("clone-node-max", "2"), ("promotable", "yes"), ("master-max", "3")], Sort::Clone);
        assert!(clone.is_unique && clone.is_promotable && !clone.is_ordered);
        assert_eq!((clone.stickiness, clone.promoted_max, clone.promoted_node_max), (Score::of(1), 3, 1));
    }

    #[test]
    fn fence_devices_and_connections_need_only_quorum() {
        let sort = Sort::Primitive { is_fence_device: true, is_connection: false, moves_live: false };
        assert_eq!(meta(&[], sort).requires, Requires::Quorum);
        assert_eq!(meta(&[("requires", "unfencing")], sort).requires, Requires::Quorum);
        let sort = Sort::Primitive { is_fence_device: false, is_connection: true, moves_live: true };
        assert!(meta(&[], sort).allows_migration);
    }
}

//! What holds for the whole cluster? The blocks of `crm_config`, and the attributes of the document itself.

use model::situation::{FenceHow, NoQuorum, Options, Score, Strategy};

use crate::blocks::{self, Table};
use crate::rules::Circumstances;
use crate::source::{Element, Source};
use crate::values::{self, Colours};

/// The block that comes before all others.
const FIRST_BLOCK: &str = "cib-bootstrap-options";

/// Options that say something to other parts of a cluster, or about it, and nothing to a scheduler.
const NOT_OURS: [&str; 30] = [
    "batch-limit",
    "cluster-delay",
    "cluster-infrastructure",
    "cluster-ipc-limit",
    "cluster-recheck-interval",
    "cluster-name",
    "cluster_name",
    "crmd-finalization-timeout",
    "crmd-integration-timeout",
    "crmd-transition-delay",
    "dc-deadtime",
    "dc-version",
    "election-timeout",
    "enable-acl",
    "fence-reaction",
    "fencing-max-attempts",
    "fencing-reaction",
    "fencing-timeout",
    "fencing-watchdog-timeout",
    "join-finalization-timeout",
    "join-integration-timeout",
    "last-lrm-refresh",
    "load-threshold",
    "maintenance-mode-reason",
    "migration-limit",
    "node-action-limit",
    "pe-error-series-max",
    "pe-input-series-max",
    "pe-warn-series-max",
    "shutdown-escalation",
];
const NOT_OURS_OLD: [&str; 6] = [
    "stonith-max-attempts",
    "stonith-timeout",
    "stonith-watchdog-timeout",
    "transition-delay",
    "transition-idle-timeout",
    "transition-cluster-delay",
];

/// How the health of a node is made a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HealthStrategy {
    #[default]
    None,
    MigrateOnRed,
    OnlyGreen,
    Progressive,
    Custom,
}

/// Settings of the whole cluster, with those that only the reader needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings<'a> {
    pub options: Options,
    pub cluster_name: Option<&'a str>,
    pub health: HealthStrategy,
    /// Where the sum of a node's health begins.
    pub health_base: Score,
    pub colours: Colours,
    /// The id of the member that leads.
    pub leader_id: Option<&'a str>,
    /// Options that became defaults of resources and operations later.
    pub old_defaults: OldDefaults<'a>,
}

/// Defaults that a CIB before schema 3.0 has among its options; `rsc_defaults` and `op_defaults` come before them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldDefaults<'a> {
    pub of_resources: Table<'a>,
    /// What an action may take.
    pub timeout: Option<&'a str>,
}

/// Reads them. Whether there is a fence device among the resources is not known yet; only a watchdog counts here.
pub(crate) fn read<'a>(source: &Source<'a>, cib: Element<'a>) -> Settings<'a> {
    let section = source.section("crm_config");
    let mut all = section.map(|s| blocks::read(source, &[s], "cluster_property_set")).unwrap_or_default();
    all.sort_by_key(|block| block.id != Some(FIRST_BLOCK));
    let mut table = Table::new();
    blocks::fill(&mut table, &all, &Circumstances::default());
    let mut old_defaults = OldDefaults::default();
    if source.is_older_than(3) {
        for (old, new) in BEFORE_3 {
            if let Some(value) = table.remove(old) {
                table.entry(new).or_insert(value);
            }
        }
        old_defaults = take_old_defaults(&mut table);
    }
    let reader = Reader { source, at: section.unwrap_or(cib), table, cib };
    let settings = Settings { old_defaults, ..reader.settings() };
    reader.remark_unknown();
    settings
}

/// Takes out of the options what became defaults.
fn take_old_defaults<'a>(options: &mut Table<'a>) -> OldDefaults<'a> {
    let mut found = OldDefaults::default();
    for (old, new) in RESOURCE_DEFAULTS_BEFORE_3 {
        if let Some(value) = options.remove(old) {
            found.of_resources.entry(new).or_insert(value);
        }
    }
    for name in FAILURE_STICKINESS_BEFORE_3 {
        // Of all weights only this one has an equivalent.
        if options.get(name).is_some_and(|value| value.eq_ignore_ascii_case("-INFINITY")) {
            options.remove(name);
            found.of_resources.entry("migration-threshold").or_insert("1");
        }
    }
    for name in TIMEOUT_BEFORE_3 {
        found.timeout = found.timeout.or(options.get(name).copied());
        options.remove(name);
    }
    found
}

struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    at: Element<'a>,
    cib: Element<'a>,
    table: Table<'a>,
}

/// Names that are read, today's first.
const BOOLEANS: [&str; 13] = [
    "symmetric-cluster",
    "fencing-enabled",
    "startup-fencing",
    "concurrent-fencing",
    "fence-remote-without-quorum",
    "stop-removed-resources",
    "cancel-removed-actions",
    "enable-startup-probes",
    "maintenance-mode",
    "stop-all-resources",
    "shutdown-lock",
    "have-watchdog",
    "start-failure-is-fatal",
];
const OTHERS: [&str; 11] = [
    "no-quorum-policy",
    "fencing-action",
    "priority-fencing-delay",
    "node-pending-timeout",
    "placement-strategy",
    "shutdown-lock-limit",
    "node-health-strategy",
    "node-health-base",
    "node-health-green",
    "node-health-yellow",
    "node-health-red",
];
const OLD_NAMES: [(&str, &str); 4] = [
    ("fencing-enabled", "stonith-enabled"),
    ("fencing-action", "stonith-action"),
    ("stop-removed-resources", "stop-orphan-resources"),
    ("cancel-removed-actions", "stop-orphan-actions"),
];

/// What options of a CIB before schema 3.0 are called since then.
const BEFORE_3: [(&str, &str); 14] = [
    ("cluster_recheck_interval", "cluster-recheck-interval"),
    ("dc_deadtime", "dc-deadtime"),
    ("election_timeout", "election-timeout"),
    ("no_quorum_policy", "no-quorum-policy"),
    ("remove_after_stop", "remove-after-stop"),
    ("shutdown_escalation", "shutdown-escalation"),
    ("startup_fencing", "startup-fencing"),
    ("stonith_action", "stonith-action"),
    ("stonith_enabled", "stonith-enabled"),
    ("stop_orphan_actions", "stop-orphan-actions"),
    ("stop_orphan_resources", "stop-orphan-resources"),
    ("symmetric_cluster", "symmetric-cluster"),
    ("transition_idle_timeout", "cluster-delay"),
    ("cluster_delay", "cluster-delay"),
];

/// Options of a CIB before schema 3.0 that are defaults of resources since then.
const RESOURCE_DEFAULTS_BEFORE_3: [(&str, &str); 4] = [
    ("default-resource-stickiness", "resource-stickiness"),
    ("default_resource_stickiness", "resource-stickiness"),
    ("is-managed-default", "is-managed"),
    ("is_managed_default", "is-managed"),
];
const FAILURE_STICKINESS_BEFORE_3: [&str; 2] =
    ["default-resource-failure-stickiness", "default_resource_failure_stickiness"];
const TIMEOUT_BEFORE_3: [&str; 2] = ["default-action-timeout", "default_action_timeout"];

impl<'a> Reader<'_, 'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let old = || OLD_NAMES.iter().find(|(new, _)| *new == name).and_then(|(_, old)| self.table.get(old));
        self.table.get(name).or_else(old).copied()
    }

    /// A value, or the default with a remark if it means nothing.
    fn value<T>(&self, name: &str, default: T, read: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.get(name) else { return default };
        read(text).unwrap_or_else(|| {
            self.source.remark(self.at, format!("{name}={text:?} means nothing; the default holds"));
            default
        })
    }

    fn is(&self, name: &str, default: bool) -> bool {
        self.value(name, default, values::boolean)
    }

    fn settings(&self) -> Settings<'a> {
        let has_quorum = self.cib.attribute("have-quorum").and_then(values::boolean).unwrap_or(false);
        let is_fencing_enabled = self.is("fencing-enabled", true);
        let fences_unseen = self.is("startup-fencing", true);
        let had_quorum = self.cib.attribute("no-quorum-panic").and_then(values::boolean).unwrap_or(false);
        let mut no_quorum = self.value("no-quorum-policy", NoQuorum::Stop, no_quorum);
        if no_quorum == NoQuorum::Fence && !(is_fencing_enabled && (has_quorum || had_quorum)) {
            no_quorum = NoQuorum::Stop;
        }
        let lock_limit_s = self.value("shutdown-lock-limit", 0, values::seconds);
        let health = self.value("node-health-strategy", HealthStrategy::None, health_strategy);
        let options = Options {
            has_quorum,
            no_quorum,
            is_symmetric: self.is("symmetric-cluster", true),
            is_fencing_enabled,
            has_fence_device: self.is("have-watchdog", false),
            fence_action: self.value("fencing-action", FenceHow::Reboot, fence_action),
            fences_unseen: is_fencing_enabled && fences_unseen,
            fences_concurrently: self.is("concurrent-fencing", true),
            priority_fencing_delay_s: self
                .value("priority-fencing-delay", 0, |text| values::seconds(text).and_then(|s| u32::try_from(s).ok())),
            node_pending_timeout_s: self.value("node-pending-timeout", 0, values::seconds),
            fences_remote_without_quorum: self.is("fence-remote-without-quorum", false),
            stops_removed: self.is("stop-removed-resources", true),
            cancels_removed: self.is("cancel-removed-actions", true),
            probes_at_start: self.is("enable-startup-probes", true),
            strategy: self.value("placement-strategy", Strategy::Default, strategy),
            is_maintenance: self.is("maintenance-mode", false),
            stops_all: self.is("stop-all-resources", false),
            points_only_rank: false,
            shutdown_lock_s: self.is("shutdown-lock", false).then_some(lock_limit_s),
            coordinator: None,
        };
        Settings {
            options,
            cluster_name: self.get("cluster-name"),
            health,
            health_base: self.health_score("node-health-base", Score::ZERO),
            colours: self.colours(health),
            leader_id: self.cib.attribute("dc-uuid"),
            old_defaults: OldDefaults::default(),
        }
    }

    fn health_score(&self, name: &str, default: Score) -> Score {
        self.value(name, default, |text| values::score(text, Colours::default()))
    }

    fn colours(&self, health: HealthStrategy) -> Colours {
        let (red, yellow) = (Score::MUST_NOT, Score::ZERO);
        match health {
            HealthStrategy::None => Colours::default(),
            HealthStrategy::MigrateOnRed => Colours { red, yellow, green: Score::ZERO },
            HealthStrategy::OnlyGreen => Colours { red, yellow: Score::MUST_NOT, green: Score::ZERO },
            HealthStrategy::Progressive | HealthStrategy::Custom => Colours {
                red: self.health_score("node-health-red", red),
                yellow: self.health_score("node-health-yellow", yellow),
                green: self.health_score("node-health-green", Score::ZERO),
            },
        }
    }

    fn remark_unknown(&self) {
        for name in self.table.keys() {
            let is_known = BOOLEANS.contains(name)
                || OTHERS.contains(name)
                || OLD_NAMES.iter().any(|(_, old)| old == name)
                || NOT_OURS.contains(name)
                || NOT_OURS_OLD.contains(name);
            if !is_known {
                self.source.remark(self.at, format!("the option {name} is not known; it has no effect"));
            }
        }
    }
}

fn no_quorum(text: &str) -> Option<NoQuorum> {
    match text.to_ascii_lowercase().as_str() {
        "stop" => Some(NoQuorum::Stop),
        "freeze" => Some(NoQuorum::Freeze),
        "ignore" => Some(NoQuorum::Ignore),
        "demote" => Some(NoQuorum::Demote),
        "fence" | "suicide" => Some(NoQuorum::Fence),
        _ => None,
    }
}

fn fence_action(text: &str) -> Option<FenceHow> {
    match text.to_ascii_lowercase().as_str() {
        "reboot" => Some(FenceHow::Reboot),
        "off" | "poweroff" => Some(FenceHow::Off),
        _ => None,
    }
}

fn strategy(text: &str) -> Option<Strategy> {
    match text.to_ascii_lowercase().as_str() {
        "default" => Some(Strategy::Default),
        "utilization" => Some(Strategy::Utilization),
        "balanced" => Some(Strategy::Balanced),
        "minimal" => Some(Strategy::Minimal),
        _ => None,
    }
}

fn health_strategy(text: &str) -> Option<HealthStrategy> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Some(HealthStrategy::None),
        "migrate-on-red" => Some(HealthStrategy::MigrateOnRed),
        "only-green" => Some(HealthStrategy::OnlyGreen),
        "progressive" => Some(HealthStrategy::Progressive),
        "custom" => Some(HealthStrategy::Custom),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn options(attributes: &str, sets: &str) -> (Options, usize) {
        let text = format!("<cib {attributes}><configuration><crm_config>{sets}</crm_config></configuration></cib>");
        let document = Document::parse(&text).expect("well-formed");
        let source = Source::new(&document, 0);
        let options = read(&source, document.root_element()).options;
        (options, source.into_remarks().len())
    }

    #[test]
    fn the_first_block_comes_before_higher_scores() {
        let (options, remarks) = options(
            r#"have-quorum="1""#,
            r#"<cluster_property_set id="x" score="9"><nvpair name="symmetric-cluster" value="true"/>
               <nvpair name="maintenance-mode" value="on"/></cluster_property_set>
               <cluster_property_set id="cib-bootstrap-options"><nvpair name="symmetric-cluster" value="false"/>
               </cluster_property_set>"#,
        );
        assert!(options.has_quorum && options.is_maintenance && !options.is_symmetric);
        assert_eq!(remarks, 0);
    }

    #[test]
    fn old_names_hold_and_unknown_ones_are_remarked() {
        let (options, remarks) = options(
            "",
            r#"<cluster_property_set><nvpair name="stonith-enabled" value="false"/>
               <nvpair name="no-quorum-policy" value="suicide"/><nvpair name="shutdown-lock" value="true"/>
               <nvpair name="shutdown-lock-limit" value="30min"/><nvpair name="startup-fencing" value="perhaps"/>
               <nvpair name="colour" value="blue"/></cluster_property_set>"#,
        );
        assert!(!options.is_fencing_enabled && !options.has_quorum && !options.fences_unseen);
        assert_eq!(options.no_quorum, NoQuorum::Stop, "nobody can be fenced");
        assert_eq!(options.shutdown_lock_s, Some(1800));
        assert_eq!(remarks, 2);
    }
}

//! Which operations has a resource, and how long may each of its actions take?
//!
//! An attribute of `op` comes before its blocks, and these before `op_defaults`. What nobody says is 20 seconds.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{OnFail, Operation, Role};

use crate::blocks::{self, Block, Table};
use crate::resources::Body;
use crate::rules::{Agent, Circumstances};
use crate::source::{Element, Source};
use crate::values;

/// What an action may take if nobody says, in milliseconds.
const TIMEOUT_MS: u32 = 20_000;

/// Actions that may have no operation of their own.
const ACTIONS: [&str; 9] =
    ["start", "stop", "monitor", "promote", "demote", "migrate_to", "migrate_from", "notify", "reload"];

/// An operation as it is written, before defaults.
pub(crate) struct Written<'a> {
    pub id: String,
    pub name: &'a str,
    pub interval_ms: u32,
    /// Attributes, and what the blocks add to them.
    pub table: Table<'a>,
    /// Blocks of parameters of its own.
    pub own: Vec<Block<'a>>,
}

impl Written<'static> {
    /// An operation that nobody wrote.
    pub(crate) fn implied(resource: &str, name: &'static str, interval_s: u32, timeout: Option<&'static str>) -> Self {
        Written {
            id: format!("{resource}-{name}-{interval_s}s"),
            name,
            interval_ms: interval_s * 1000,
            table: timeout.map(|timeout| ("timeout", timeout)).into_iter().collect(),
            own: Vec::new(),
        }
    }
}

/// `op_defaults`.
pub(crate) struct OperationDefaults<'a> {
    blocks: Vec<Block<'a>>,
    /// What they come to, if that is the same for all.
    settled: Option<Table<'a>>,
}

impl<'a> OperationDefaults<'a> {
    /// `old_timeout` is what an action may take where `op_defaults` do not say it.
    pub(crate) fn read(source: &Source<'a>, old_timeout: Option<&'a str>) -> OperationDefaults<'a> {
        let section = source.section("op_defaults");
        let mut blocks = section.map(|s| blocks::read(source, &[s], "meta_attributes")).unwrap_or_default();
        if let Some(timeout) = old_timeout {
            blocks.push(Block::of(&Table::from([("timeout", timeout)])));
        }
        let settled = blocks::are_same_for_all(&blocks).then(|| {
            let mut table = Table::new();
            blocks::fill(&mut table, &blocks, &Circumstances::default());
            table
        });
        OperationDefaults { blocks, settled }
    }

    fn value(&self, key: &str, agent: Agent<'_>, name: &str, interval_ms: u32) -> Option<&'a str> {
        if let Some(table) = &self.settled {
            return table.get(key).copied();
        }
        let circumstances =
            Circumstances { agent: Some(agent), operation: Some((name, interval_ms)), ..Circumstances::default() };
        let holding = self.blocks.iter().filter(|b| b.rule.as_ref().is_none_or(|rule| rule.holds(&circumstances)));
        holding.flat_map(|block| &block.pairs).find(|(name, _)| *name == key).map(|(_, value)| *value)
    }
}

/// The operations of a primitive as they are written; those of its template that it does not replace come last.
pub(crate) fn written<'a>(source: &Source<'a>, body: &Body<'a>, agent: Agent<'_>) -> Vec<Written<'a>> {
    let elements = |parent: Element<'a>| -> Vec<Element<'a>> {
        let lists = source.children(parent, "operations");
        lists.flat_map(|list| list.children().filter(|child| child.has_tag_name("op"))).collect()
    };
    let mut ops: Vec<Written<'a>> =
        elements(body.element).into_iter().filter_map(|op| one(source, op, agent)).collect();
    if let Some(template) = body.template {
        let key = |op: &Written<'a>| (op.name, op.table.get("role").and_then(|text| narrow(text)));
        let replaced: BTreeSet<_> = ops.iter().map(key).collect();
        let more = elements(template).into_iter().filter_map(|op| one(source, op, agent));
        let more: Vec<_> = more.filter(|op| !replaced.contains(&key(op))).collect();
        ops.extend(more);
    }
    ops
}

/// What a resource requires according to its operations `start` and `promote`, as CIBs before schema 3.0 may say it; what
/// the resource says itself comes before it.
pub(crate) fn old_requires<'a>(source: &Source<'a>, body: &Body<'a>) -> Option<Block<'a>> {
    let lists = body.template.into_iter().chain([body.element]).flat_map(|part| source.children(part, "operations"));
    let ops = lists.flat_map(|list| list.children().filter(|child| child.has_tag_name("op")));
    let mut found = Table::new();
    let says =
        |element: Element<'a>| element.attribute("requires").is_some() || element.attribute("name") == Some("requires");
    for op in ops.filter(|op| op.descendants().any(says)) {
        let mut said = op.attribute("requires");
        for kind in ["meta_attributes", "instance_attributes"] {
            let mut table = Table::new();
            blocks::fill(&mut table, &blocks::read(source, &[op], kind), &Circumstances::default());
            said = said.or(table.get("requires").copied());
        }
        let Some(requires) = said else { continue };
        let counts = source.is_older_than(3) && matches!(op.attribute("name"), Some("start" | "promote"));
        if counts {
            found.insert("requires", requires);
        } else {
            source.remark(op, "`requires` of an operation has no effect; say it of the resource");
        }
    }
    (!found.is_empty()).then(|| Block::of(&found))
}

/// No role, started and unpromoted are the same to a template.
fn narrow(text: &str) -> Option<Role> {
    values::role(text).filter(|role| !matches!(role, Role::Started | Role::Unpromoted))
}

fn one<'a>(source: &Source<'a>, element: Element<'a>, agent: Agent<'_>) -> Option<Written<'a>> {
    let Some(name) = element.attribute("name") else {
        source.remark(element, "an operation without name; it is left out");
        return None;
    };
    let mut table: Table<'a> = element.attributes().map(|a| (a.name(), a.value())).collect();
    let circumstances = Circumstances { agent: Some(agent), ..Circumstances::default() };
    blocks::fill(&mut table, &blocks::read(source, &[element], "meta_attributes"), &circumstances);
    let Some(interval_ms) = values::interval_ms(table.get("interval").copied()) else {
        source.remark(element, format!("the interval {:?} is no time; the operation is left out", table["interval"]));
        return None;
    };
    let id = element.attribute("id").unwrap_or(name).to_owned();
    Some(Written { id, name, interval_ms, table, own: blocks::read(source, &[element], "instance_attributes") })
}

/// With defaults: the operations, and what each action without one may take.
pub(crate) fn settle<'a>(
    source: &Source<'a>,
    at: Element<'a>,
    written: &[Written<'a>],
    defaults: &OperationDefaults<'a>,
    agent: Agent<'_>,
    fence_timeout: Option<&str>,
) -> (Vec<Operation>, BTreeMap<String, u32>) {
    let settled = Settling { source, at, written, defaults, agent, fence_timeout };
    let operations = written.iter().map(|op| settled.operation(op)).collect();
    let timeouts = ACTIONS.iter().map(|name| ((*name).to_owned(), settled.timeout_of_action(name))).collect();
    (operations, timeouts)
}

struct Settling<'s, 'a> {
    source: &'s Source<'a>,
    at: Element<'a>,
    written: &'s [Written<'a>],
    defaults: &'s OperationDefaults<'a>,
    agent: Agent<'s>,
    /// Fence devices: what a check may take.
    fence_timeout: Option<&'s str>,
}

impl<'a> Settling<'_, 'a> {
    fn value(&self, op: &Written<'a>, key: &str) -> Option<&'a str> {
        let said = op.table.get(key).copied();
        said.or_else(|| self.defaults.value(key, self.agent, op.name, op.interval_ms))
    }

    fn operation(&self, op: &Written<'a>) -> Operation {
        let role = self.value(op, "role").filter(|text| !text.eq_ignore_ascii_case("default"));
        let role = role.and_then(|text| {
            let role = values::role(text);
            if role.is_none() {
                self.source.remark(self.at, format!("{}: {text:?} is no role; it holds in every role", op.id));
            }
            role
        });
        let on_fail = self.value(op, "on-fail").and_then(|text| self.on_fail(op, text));
        let is_enabled = self.value(op, "enabled").and_then(values::boolean).unwrap_or(true);
        Operation {
            id: op.id.clone(),
            name: op.name.to_owned(),
            interval_ms: op.interval_ms,
            timeout_ms: self.timeout(op),
            role,
            on_fail,
            is_enabled,
        }
    }

    fn on_fail(&self, op: &Written<'a>, text: &str) -> Option<OnFail> {
        match text.to_ascii_lowercase().as_str() {
            "ignore" | "nothing" => Some(OnFail::Ignore),
            "demote" => Some(OnFail::Demote),
            "restart" => Some(OnFail::Restart),
            "restart-container" => Some(OnFail::RestartContainer),
            "ban" | "migrate" => Some(OnFail::Ban),
            "block" => Some(OnFail::Block),
            "stop" => Some(OnFail::Stop),
            "standby" => Some(OnFail::Standby),
            "fence" | "suicide" => Some(OnFail::Fence),
            "default" => None,
            _ => {
                self.source.remark(self.at, format!("{}: on-fail={text:?} is unknown; the default holds", op.id));
                None
            }
        }
    }

    fn timeout(&self, op: &Written<'a>) -> u32 {
        let is_check = op.name == "start" || (op.name == "monitor" && op.interval_ms == 0);
        let fence = self.fence_timeout.filter(|_| is_check);
        let said = op.table.get("timeout").copied();
        let said = said.or_else(|| (op.name == "monitor" && op.interval_ms == 0).then(|| self.of_shortest())?);
        let text = fence.or(said).or_else(|| self.defaults.value("timeout", self.agent, op.name, op.interval_ms));
        milliseconds(text)
    }

    fn timeout_of_action(&self, name: &str) -> u32 {
        let find = |name: &str| self.written.iter().find(|op| op.name == name && op.interval_ms == 0);
        let migrate = || name.starts_with("migrate_").then(|| find("migrate"))?;
        if let Some(op) = find(name).or_else(migrate) {
            return self.timeout(op);
        }
        let fence = self.fence_timeout.filter(|_| matches!(name, "start" | "monitor"));
        let shortest = || (name == "monitor").then(|| self.of_shortest())?;
        milliseconds(fence.or_else(shortest).or_else(|| self.defaults.value("timeout", self.agent, name, 0)))
    }

    /// What the most frequent check may take.
    fn of_shortest(&self) -> Option<&'a str> {
        let is_enabled = |op: &&Written<'a>| op.table.get("enabled").and_then(|t| values::boolean(t)).unwrap_or(true);
        let checks = self.written.iter().filter(|op| op.name == "monitor" && op.interval_ms > 0).filter(is_enabled);
        checks.min_by_key(|op| op.interval_ms)?.table.get("timeout").copied()
    }
}

fn milliseconds(text: Option<&str>) -> u32 {
    let said = text.and_then(values::milliseconds).filter(|ms| *ms > 0);
    said.map_or(TIMEOUT_MS, |ms| u32::try_from(ms).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use model::situation::{OnFail, Role};

    use crate::testing::{block, dummy, primitive, read};

    #[test]
    fn the_nearest_timeout_holds() {
        let ops = r#"<operations><op name="monitor" interval="30" timeout="9"/><op name="monitor" interval="10" timeout="8"
            role="Master" on-fail="fence"/><op name="stop" interval="0"><meta_attributes><nvpair name="timeout" value="50"/>
            </meta_attributes></op><op name="migrate" interval="0" timeout="3min"/></operations>"#;
        let defaults = r#"<op_defaults><meta_attributes><nvpair name="timeout" value="5"/></meta_attributes>
            <meta_attributes><rule><op_expression name="promote"/></rule><nvpair name="timeout" value="6"/>
            </meta_attributes></op_defaults>"#;
        let imported = read(&format!("<resources>{}</resources>{defaults}", dummy("p", ops)), "");
        let it = primitive(&imported.situation.resources[0]);
        let timeouts = ["start", "stop", "promote", "monitor", "migrate_to"].map(|name| it.default_timeouts_ms[name]);
        assert_eq!(timeouts, [5000, 50_000, 6000, 8000, 180_000]);
        assert_eq!((it.operations[1].role, it.operations[1].on_fail), (Some(Role::Promoted), Some(OnFail::Fence)));
    }

    #[test]
    fn fence_devices_say_themselves_what_a_check_may_take() {
        let parameters = block("instance_attributes", &[("pcmk_monitor_timeout", "77s")]);
        let ops =
            r#"<operations><op name="start" interval="0" timeout="5"/><op name="monitor" interval="60"/></operations>"#;
        let device = format!(r#"<primitive id="f" class="stonith" type="fence_x">{parameters}{ops}</primitive>"#);
        let situation = read(&format!("<resources>{device}</resources>"), "").situation;
        let it = primitive(&situation.resources[0]);
        assert_eq!((it.default_timeouts_ms["start"], it.default_timeouts_ms["monitor"]), (77_000, 77_000));
        assert_eq!(it.operations[1].timeout_ms, 20_000);
        assert!(situation.options.has_fence_device);
    }

    #[test]
    fn what_is_no_time_is_no_operation() {
        let ops = r#"<operations><op name="monitor" interval="often"/><op interval="10"/></operations>"#;
        let imported = read(&format!("<resources>{}</resources>", dummy("p", ops)), "");
        assert!(primitive(&imported.situation.resources[0]).operations.is_empty());
        assert_eq!(imported.not_understood.len(), 2);
    }
}

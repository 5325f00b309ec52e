//! What does each node report of its resources?
//!
//! In the order of the status; nothing is sorted or judged here, but whether a definition has changed since.

use std::collections::BTreeMap;

use model::NodeName;
use model::situation::{Definition, NodeHistory, NodeKind, OperationRecord, Primitive, ResourceHistory};

use crate::digests::{Current, Parameters};
use crate::nodes::{self, Nodes};
use crate::resources::{Resources, each_primitive};
use crate::source::{Element, Source};
use crate::values;

/// Operations whose record tells which parameters they were called with.
const COMPARED: [&str; 4] = ["start", "promote", "migrate_from", "monitor"];

/// Stands for the node where the container of a connection runs.
const HOST: &str = "#uname";

/// Reads the history of every known node.
pub(crate) fn read<'a>(source: &Source<'a>, nodes: &Nodes, resources: &Resources<'a>) -> Vec<NodeHistory> {
    let mut primitives = BTreeMap::new();
    for resource in &resources.list {
        each_primitive(resource, &mut |name, primitive| {
            primitives.insert(name.as_str(), primitive);
        });
    }
    let reader = Reader { source, nodes, resources, primitives };
    let states = nodes::states(source, nodes);
    states.into_iter().map(|(state, at)| reader.node(state, &nodes.facts[at].name)).collect()
}

/// The resources in a node's report.
pub(crate) fn reported<'a>(state: Element<'a>) -> impl Iterator<Item = Element<'a>> {
    let inside = |name: &'static str| move |e: Element<'a>| e.children().filter(move |child| child.has_tag_name(name));
    inside("lrm")(state).flat_map(inside("lrm_resources")).flat_map(inside("lrm_resource"))
}

struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    nodes: &'s Nodes,
    resources: &'s Resources<'a>,
    primitives: BTreeMap<&'s str, &'s Primitive>,
}

impl<'a> Reader<'_, 'a> {
    fn node(&self, state: Element<'a>, node: &NodeName) -> NodeHistory {
        let resources = reported(state).filter_map(|element| self.resource(element, node)).collect();
        NodeHistory { node: node.clone(), resources }
    }

    fn resource(&self, element: Element<'a>, node: &NodeName) -> Option<ResourceHistory> {
        let Some(name) = element.attribute("id") else {
            self.source.remark(element, "a history without name; it is left out");
            return None;
        };
        let without_number = name.rsplit_once(':').map_or(name, |(name, _)| name);
        let found = self.primitives.get_key_value(name).or_else(|| self.primitives.get_key_value(without_number));
        let class = element.attribute("class").unwrap_or_default();
        let agent = element.attribute("type").unwrap_or_default();
        let definition = found.map(|(name, primitive)| (*name, *primitive));
        let records = element.children().filter(|child| child.has_tag_name("lrm_rsc_op"));
        Some(ResourceHistory {
            name: name.to_owned(),
            class: class.to_owned(),
            provider: element.attribute("provider").map(str::to_owned),
            agent: agent.to_owned(),
            container: element.attribute("container").map(str::to_owned),
            locked_since: element.attribute("shutdown-lock").and_then(values::integer).filter(|since| *since > 0),
            operations: records.filter_map(|record| self.operation(record, definition, node)).collect(),
        })
    }

    fn operation(
        &self,
        record: Element<'a>,
        definition: Option<(&str, &Primitive)>,
        node: &NodeName,
    ) -> Option<OperationRecord> {
        let number = |name: &str| record.attribute(name).and_then(values::integer);
        let small = |name: &str| number(name).and_then(|value| i32::try_from(value).ok());
        let text = |name: &str| record.attribute(name);
        let (Some(id), Some(operation)) = (text("id"), text("operation")) else {
            self.source.remark(record, "a record without id or operation; it is left out");
            return None;
        };
        let interval_ms = number("interval").and_then(|ms| u32::try_from(ms).ok()).unwrap_or(0);
        let magic = text("transition-magic").and_then(Magic::parse).unwrap_or_default();
        let key = text("transition-key").and_then(Key::parse).or(magic.key).unwrap_or_default();
        let is_compared = COMPARED.contains(&operation);
        Some(OperationRecord {
            id: id.to_owned(),
            operation: operation.to_owned(),
            interval_ms,
            call_id: number("call-id").unwrap_or(0),
            transition: key.transition,
            transition_action: key.action,
            status: small("op-status").or(magic.status).unwrap_or(-1),
            rc: small("rc-code").or(magic.rc).unwrap_or(-1),
            rc_expected: key.expected,
            changed_at: number("last-rc-change"),
            ran_at: number("last-run"),
            exit_reason: text("exit-reason").unwrap_or_default().to_owned(),
            migrate_source: text("migrate_source").map(NodeName::from),
            migrate_target: text("migrate_target").map(NodeName::from),
            definition: definition.filter(|_| is_compared).map_or(Definition::Same, |(name, primitive)| {
                self.compare(record, name, primitive, operation, interval_ms, node)
            }),
        })
    }

    fn compare(
        &self,
        record: Element<'a>,
        name: &str,
        primitive: &Primitive,
        operation: &str,
        interval_ms: u32,
        node: &NodeName,
    ) -> Definition {
        let mut timeout_ms = None;
        if interval_ms > 0 {
            let same = |op: &&model::situation::Operation| op.name == operation && op.interval_ms == interval_ms;
            // One that is not configured any more has nothing to be compared with.
            let Some(configured) = primitive.operations.iter().find(same) else { return Definition::Same };
            timeout_ms = Some(configured.timeout_ms);
        }
        let own = if self.resources.own_parameters.is_empty() {
            None
        } else {
            self.resources.own_parameters.get(&(name.to_owned(), operation.to_owned(), interval_ms))
        };
        let compare = |parameters: &Parameters| {
            let is_fence_device = primitive.is_fence_device();
            Current { parameters, own, timeout_ms, is_fence_device }.compare(record)
        };
        let parameters = primitive.parameters_on.get(node).unwrap_or(&primitive.parameters);
        let result = compare(parameters);
        if !result.takes_effect() || parameters.get("addr").is_none_or(|address| address != HOST) {
            return result;
        }
        // The connection into a container is recorded with the host on which that ran then.
        let mut parameters = parameters.clone();
        let hosts = self.nodes.facts.iter().filter(|facts| !matches!(facts.kind, NodeKind::Guest { .. }));
        let mut is_same_by = |host: &NodeName| {
            parameters.insert("addr".to_owned(), host.0.clone());
            !compare(&parameters).takes_effect()
        };
        if hosts.map(|facts| &facts.name).any(&mut is_same_by) { Definition::Same } else { result }
    }
}

/// `action:transition:expected:uuid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    action: i64,
    transition: i64,
    expected: Option<i32>,
}

impl Key {
    fn parse(text: &str) -> Option<Key> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(values::integer);
        let (action, transition) = (number()?, number()?);
        let expected = number().and_then(|value| i32::try_from(value).ok());
        Some(Key { action, transition, expected })
    }
}

/// `status:rc;key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Magic {
    status: Option<i32>,
    rc: Option<i32>,
    key: Option<Key>,
}

impl Magic {
    fn parse(text: &str) -> Option<Magic> {
        let (result, key) = text.split_once(';')?;
        let (status, rc) = result.split_once(':')?;
        let number = |text: &str| values::integer(text).and_then(|value| i32::try_from(value).ok());
        Some(Magic { status: number(status), rc: number(rc), key: Key::parse(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digests;
    use crate::testing::{block, dummy, read};

    #[test]
    fn a_record_is_compared_with_the_definition_of_today() {
        let ops = r#"<operations><op name="monitor" interval="10" timeout="30"/></operations>"#;
        let inside = block("instance_attributes", &[("port", "1")]) + ops;
        let record = |operation: &str, interval_ms: u32, digest: &str| {
            format!(
                r#"<lrm_rsc_op id="p_{operation}_{interval_ms}" operation="{operation}" interval="{interval_ms}" call-id="5"
                rc-code="0" op-status="0" transition-key="1:2:0:x" op-digest="{digest}" last-rc-change="9"/>"#
            )
        };
        let start = digests::of([("port", "1")]);
        let monitor = digests::of([("CRM_meta_timeout", "30000"), ("port", "1")]);
        let records = [
            record("start", 0, &start),
            record("monitor", 10_000, &monitor),
            record("monitor", 0, "old"),
            record("monitor", 99_000, "of an operation that is gone"),
            record("stop", 0, "not compared"),
        ];
        let status = format!(
            r#"<node_state uname="b"><lrm><lrm_resources><lrm_resource id="p" class="ocf" provider="pacemaker"
            type="Dummy">{}</lrm_resource></lrm_resources></lrm></node_state>"#,
            records.concat()
        );
        let situation = read(&format!("<resources>{}</resources>", dummy("p", &inside)), &status).situation;
        let history = &situation.history[0];
        assert_eq!(history.node, "b".into());
        let operations = &history.resources[0].operations;
        let definitions: Vec<_> = operations.iter().map(|operation| operation.definition).collect();
        let (same, changed) = (Definition::Same, Definition::Changed);
        assert_eq!(definitions, [same, same, changed, same, same]);
        assert_eq!((operations[0].call_id, operations[0].transition, operations[0].rc_expected), (5, 2, Some(0)));
        assert_eq!((operations[0].changed_at, operations[0].ran_at), (Some(9), None));
    }

    #[test]
    fn keys_and_magic_are_taken_apart() {
        let key = Key { action: 6, transition: 3, expected: Some(7) };
        assert_eq!(Key::parse("6:3:7:871e5928-80bf"), Some(key));
        assert_eq!(Magic::parse("0:7;6:3:7:x"), Some(Magic { status: Some(0), rc: Some(7), key: Some(key) }));
        assert_eq!(Key::parse("6:3").and_then(|key| key.expected), None);
        assert_eq!(Key::parse("x"), None);
        assert_eq!(Magic::parse("-1:193"), None);
    }
}

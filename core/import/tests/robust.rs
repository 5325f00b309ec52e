//! Does anything in a document make the reader panic, or the scheduler that decides upon what was read?
//!
//! One document with a little of everything is damaged in many ways, the same ones in every run.

use std::collections::BTreeSet;

use model::situation::{ResourceKind, Situation};
use scheduler::Judgement;

/// A little of everything that the reader knows.
const WHOLE: &str = r##"<cib have-quorum="1" dc-uuid="1" execution-date="1785499200" no-quorum-panic="0">
<configuration>
<crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="o1" name="stonith-enabled" value="true"/>
<nvpair id="o2" name="node-health-strategy" value="progressive"/>
<nvpair id="o3" name="node-health-base" value="10"/>
<nvpair id="o4" name="shutdown-lock" value="true"/>
<nvpair id="o5" name="priority-fencing-delay" value="15s"/>
</cluster_property_set></crm_config>
<nodes>
<node id="1" uname="a" score="10"><instance_attributes id="na"><nvpair id="na1" name="#health-disk" value="red"/></instance_attributes>
<utilization id="nu"><nvpair id="nu1" name="cpu" value="8"/></utilization></node>
<node id="2" uname="b" type="member"/>
<node id="r1" uname="r1" type="remote"/>
</nodes>
<resources>
<template id="t" class="ocf" provider="heartbeat" type="db"><operations id="tops"><op id="top1" name="monitor" interval="10s"/></operations></template>
<primitive id="p" template="t"><meta_attributes id="pm" score="3"><nvpair id="pm1" name="target-role" value="Started"/>
<rule id="pmr" boolean-op="or" score="0"><date_expression id="d1" operation="in_range" start="2026-01-01" end="2026-12-31 23:59:59 +01:00"/>
<date_expression id="d2" operation="date_spec"><date_spec id="ds" hours="9-16" weekdays="1-5" weeks="1-53"/></date_expression>
<date_expression id="d3" operation="in_range" start="2026-W31-5"><duration id="du" months="3" days="2"/></date_expression></rule></meta_attributes>
<instance_attributes id="pi"><nvpair id="pi1" name="port" value="1"/><rule id="pir"><expression id="pie" attribute="#uname" operation="eq" value="a"/></rule></instance_attributes>
<operations id-ref="tops"/></primitive>
<primitive id="f" class="stonith" type="fence_x"><meta_attributes id="fm"><nvpair id="fm1" name="provides" value="unfencing"/></meta_attributes></primitive>
<primitive id="r1" class="ocf" provider="pacemaker" type="remote"><instance_attributes id="ri"><nvpair id="ri1" name="reconnect_interval" value="90s"/></instance_attributes></primitive>
<group id="g"><primitive id="vm" class="ocf" provider="heartbeat" type="VirtualDomain"><meta_attributes id="vmm">
<nvpair id="vmm1" name="remote-node" value="guest"/><nvpair id="vmm2" name="migration-threshold" value="INFINITY"/></meta_attributes>
<operations id="vmo"><op id="vmo1" name="monitor" interval="PT30S" timeout="20ms" on-fail="restart" role="Slave"><instance_attributes id="vmoi"><nvpair id="vmoi1" name="depth" value="1"/></instance_attributes></op></operations></primitive></group>
<clone id="c"><meta_attributes id="cm"><nvpair id="cm1" name="clone-node-max" value="2"/><nvpair id="cm2" name="promotable" value="true"/></meta_attributes>
<primitive id="ci" class="ocf" provider="pacemaker" type="Stateful"/></clone>
<bundle id="web"><podman image="web:1" replicas="2" promoted-max="1" replicas-per-host="2" options="-x"/>
<network ip-range-start="192.0.2.250" control-port="9999" host-netmask="24"><port-mapping id="pp" port="80" internal-port="8080"/></network>
<storage><storage-mapping id="sm" source-dir-root="/srv" target-dir="/www" options="rw"/></storage>
<primitive id="httpd" class="ocf" provider="heartbeat" type="apache"/></bundle>
</resources>
<constraints>
<rsc_location id="l1" rsc="p" node="a" score="100" resource-discovery="exclusive"/>
<rsc_location id="l2" rsc-pattern="^(p|c)$"><rule id="lr" score-attribute="w-%1" role="Promoted"><expression id="le" attribute="w-%1" operation="gt" value="5" type="number"/></rule></rsc_location>
<rsc_location id="l3" rsc="p"><rule id="lr3" score="INFINITY"><rule id-ref="lr"/><expression id="le3" attribute="port" operation="lte" value="port" value-source="param"/></rule></rsc_location>
<rsc_colocation id="k1" rsc="g" with-rsc="c" with-rsc-role="Master" score="INFINITY"/>
<rsc_colocation id="k2" score="-5"><resource_set id="s1" sequential="false"><resource_ref id="p"/><resource_ref id="tag"/></resource_set><resource_set id="s2"><resource_ref id="web"/></resource_set></rsc_colocation>
<rsc_order id="q1" first="c" first-action="promote" then="g" kind="Optional" symmetrical="false"/>
<rsc_order id="q2"><resource_set id="s3" require-all="false"><resource_ref id="p"/><resource_ref id="g"/></resource_set><resource_set id="s4" action="start" sequential="true"><resource_ref id="web"/></resource_set></rsc_order>
<rsc_ticket id="x1" rsc="p" ticket="T" loss-policy="fence"/>
</constraints>
<fencing-topology><fencing-level id="fl" target-pattern="^[ab]$" index="1" devices="f"/></fencing-topology>
<tags><tag id="tag"><obj_ref id="vm"/><obj_ref id="f"/></tag></tags>
<rsc_defaults><meta_attributes id="rd"><nvpair id="rd1" name="resource-stickiness" value="100"/><rule id="rdr"><rsc_expression id="rde" class="ocf"/></rule></meta_attributes></rsc_defaults>
<op_defaults><meta_attributes id="od"><nvpair id="od1" name="timeout" value="1min"/><rule id="odr"><op_expression id="ode" name="monitor" interval="10s"/></rule></meta_attributes></op_defaults>
<alerts><alert id="al" path="/x"/></alerts>
</configuration>
<status>
<node_state id="1" uname="a" in_ccm="1720597967" crmd="online" join="member" expected="member">
<transient_attributes id="1"><instance_attributes id="ta"><nvpair id="ta1" name="w-p" value="7"/><nvpair id="ta2" name="shutdown" value="0"/></instance_attributes></transient_attributes>
<lrm id="1"><lrm_resources><lrm_resource id="p" class="ocf" provider="heartbeat" type="db">
<lrm_rsc_op id="p_start_0" operation="start" interval="0" call-id="10" rc-code="0" op-status="0" transition-key="1:2:0:x" transition-magic="0:0;1:2:0:x" crm_feature_set="3.0.14" op-digest="ab" op-restart-digest="cd" op-force-restart=" port " op-secure-digest="ef" op-secure-params=" passwd " last-rc-change="1785499000"/>
<lrm_rsc_op id="p_monitor_10000" operation="monitor" interval="10000" call-id="-1" rc-code="193" op-status="-1" transition-key="1:2:0:x"/></lrm_resource>
<lrm_resource id="ci:0" class="ocf" provider="pacemaker" type="Stateful"/><lrm_resource id="gone" class="ocf" provider="pacemaker" type="remote" container="vm"/></lrm_resources></lrm></node_state>
<tickets><ticket_state id="T" granted="true" standby="false"/></tickets>
</status>
</cib>"##;

/// Values that somebody may have meant.
const STRANGE: [&str; 30] = [
    "",
    " ",
    "-",
    "-1",
    "0",
    "1",
    "99999999999999999999",
    "-99999999999999999999",
    "4294967296",
    "INFINITY",
    "-INFINITY",
    "true",
    "Nö",
    "P",
    "PT",
    "P99999999999D",
    "P999999999Y",
    "99999999999h",
    "9999-12-31 23:59:59",
    "0001-01-01 -23:59",
    "%1%9%",
    "[",
    "(((((",
    "a{255}",
    "tag",
    "p",
    "web-0",
    "guest",
    "::::",
    "é:;é",
];

/// Xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Where attributes begin (at the blank) and end (behind the quote).
fn attributes(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (equals, _) in text.match_indices("=\"") {
        let begin = text[..equals].rfind(' ').unwrap_or(equals);
        if let Some(end) = text[equals + 2..].find('"') {
            found.push((begin, equals + 2 + end + 1));
        }
    }
    found
}

/// Damages a document once.
fn damage(text: &str, dice: &mut Dice) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let attributes = attributes(text);
    let (begin, end) = attributes[dice.below(attributes.len())];
    let (other_begin, other_end) = attributes[dice.below(attributes.len())];
    let value = |begin: usize, end: usize| {
        let equals = begin + text[begin..end].find('=').unwrap_or(0);
        (equals + 2, end - 1)
    };
    let (from, to) = value(begin, end);
    match dice.below(6) {
        0 => format!("{}{}", &text[..begin], &text[end..]),
        1 => format!("{}{}{}", &text[..from], STRANGE[dice.below(STRANGE.len())], &text[to..]),
        2 => {
            let (other_from, other_to) = value(other_begin, other_end);
            format!("{}{}{}", &text[..from], &text[other_from..other_to], &text[to..])
        }
        3 => {
            let gone = dice.below(lines.len());
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| format!("{line}\n")).collect()
        }
        4 => {
            let twice = dice.below(lines.len());
            let again = |at: usize| if at == twice { 2 } else { 1 };
            lines.iter().enumerate().map(|(at, line)| format!("{line}\n").repeat(again(at))).collect()
        }
        _ => {
            let (from, to) = (dice.below(lines.len()), dice.below(lines.len()));
            let mut lines = lines.clone();
            lines.swap(from, to);
            lines.join("\n")
        }
    }
}

/// What holds whatever the document says.
fn makes_sense(situation: &Situation, judgement: &Judgement) {
    let bundles = situation.resources.iter().filter_map(|resource| match &resource.kind {
        ResourceKind::Bundle(bundle) => Some(&bundle.replicas),
        _ => None,
    });
    let inside = bundles.flatten().filter_map(|replica| replica.node.as_ref());
    let known: BTreeSet<&str> =
        situation.nodes.iter().map(|node| &node.name).chain(inside).map(|n| n.as_str()).collect();
    for (resource, places) in &judgement.placement() {
        for place in places {
            assert!(known.contains(place.node.as_str()), "{resource} is on {}, which does not exist", place.node);
        }
    }
    let (current, placement) = (judgement.current(), judgement.placement());
    // Primitives that are nothing but themselves, of which nobody knows that they run.
    for resource in &situation.resources {
        let ResourceKind::Primitive(_) = resource.kind else { continue };
        let name = resource.name.as_str();
        let now = current.get(name).map_or(0, Vec::len);
        let then = placement.get(name).map_or(0, Vec::len);
        assert!(then <= now.max(1), "{name} was on {now} nodes and goes to {then}");
    }
    let mut waits = vec![0; judgement.actions.len()];
    for (first, then) in &judgement.order {
        assert!(first != then && *first < waits.len(), "an action waits for itself or for nothing");
        waits[*then] += 1;
    }
    let mut open: Vec<usize> = (0..waits.len()).filter(|at| waits[*at] == 0).collect();
    let mut done = 0;
    while let Some(at) = open.pop() {
        done += 1;
        for (_, then) in judgement.order.iter().filter(|(first, _)| *first == at) {
            waits[*then] -= 1;
            if waits[*then] == 0 {
                open.push(*then);
            }
        }
    }
    assert_eq!(done, judgement.actions.len(), "actions wait for each other in a circle: {judgement:#?}");
}

#[test]
fn the_whole_document_is_understood() {
    let imported = import::cib(WHOLE, import::Time::Recorded { otherwise: 0 }).expect("a CIB");
    let places: Vec<&str> = imported.not_understood.iter().map(|remark| remark.place.as_str()).collect();
    assert_eq!(places, ["alerts, line 50"], "{:#?}", imported.not_understood);
}

/// A file comes of it, and that can be read.
fn is_written(cib: &str) {
    let time = import::Time::Recorded { otherwise: 0 };
    let file = import::cluster_file(cib, time, scheduler::situation_of).expect("what can be read can be written");
    if let Err(found) = config::parse_for_planning(&file.text) {
        panic!("{found:#?} in\n{}", file.text);
    }
}

#[test]
fn a_damaged_document_is_read_or_refused() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut read, mut refused) = (0_u32, 0_u32);
    for _ in 0..10_000 {
        let mut text = WHOLE.to_owned();
        for _ in 0..=dice.below(8) {
            text = damage(&text, &mut dice);
        }
        match import::cib(&text, import::Time::Recorded { otherwise: 0 }) {
            Ok(imported) => {
                read += 1;
                let judgement = scheduler::judge(&imported.situation);
                let again = scheduler::judge(&imported.situation);
                assert_eq!(format!("{judgement:?}"), format!("{again:?}"), "equal situations, equal judgements");
                makes_sense(&imported.situation, &judgement);
                if read % 10 == 0 {
                    is_written(&text);
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 300 && refused > 300, "{read} read, {refused} refused: the damage is too small or too big");
}

#[test]
fn references_that_go_in_circles_come_to_an_end() {
    let rules = r#"<rule id="r"><rule id-ref="r"/><rule id-ref="r"/><rule id-ref="s"/></rule><rule id="s"><rule id-ref="r"/></rule>"#;
    let text = format!(
        r#"<cib><configuration><nodes><node id="1" uname="a"/></nodes><resources><primitive id="p" class="ocf"
        provider="pacemaker" type="Dummy"/></resources><constraints><rsc_location rsc="p">{rules}</rsc_location>
        </constraints></configuration></cib>"#
    );
    let imported = import::cib(&text, import::Time::Recorded { otherwise: 0 }).expect("a CIB");
    assert!(!imported.not_understood.is_empty());
}

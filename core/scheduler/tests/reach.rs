//! What is done on remote nodes, on guests and in containers, as what is reported of them tells?

use model::situation::Situation;
use scheduler::{Judgement, judge};

/// Members `a` and `b` with this configuration and these reports; nothing is wrong with either.
fn situation(resources: &str, on_a: &str, on_b: &str, more_states: &str) -> Situation {
    let state = |node: &str, reports: &str| {
        format!(
            r#"<node_state id="{node}" uname="{node}" in_ccm="true" crmd="online" join="member" expected="member">
               <lrm><lrm_resources>{reports}</lrm_resources></lrm></node_state>"#
        )
    };
    let device = r#"<primitive id="power" class="stonith" type="fence_lab"/>"#;
    let cib = format!(
        r#"<cib have-quorum="1" dc-uuid="a"><configuration><nodes><node id="a" uname="a"/><node id="b" uname="b"/></nodes>
           <resources>{device}{resources}</resources></configuration>
           <status>{}{}{more_states}</status></cib>"#,
        state("a", on_a),
        state("b", on_b)
    );
    import::cib(&cib, import::Time::At(1_700_000_000)).expect("a CIB").situation
}

const NO_PARAMETERS: &str = r#"op-digest="f2317cad3d54cec5d7d7aa7d0bf35cf8""#;

/// One report: the resource, its agent, and `OPERATION RC EXPECTED REST` for each operation.
fn report(resource: &str, agent: &str, operations: &[(&str, i32, i32, &str)]) -> String {
    let records = (1..).zip(operations).map(|(call, (operation, rc, expected, rest))| {
        format!(
            r#"<lrm_rsc_op id="{resource}_{operation}_{call}" operation="{operation}" call-id="{call}" op-status="0"
               rc-code="{rc}" transition-key="1:1:{expected}:x" {rest}/>"#
        )
    });
    let records: String = records.collect();
    format!(r#"<lrm_resource id="{resource}" class="ocf" provider="pacemaker" {agent}>{records}</lrm_resource>"#)
}

fn started(resource: &str, agent: &str) -> String {
    report(resource, agent, &[("start", 0, 0, &format!(r#"interval="0" {NO_PARAMETERS}"#))])
}

fn has(judgement: &Judgement, step: &str) -> bool {
    judgement.actions.iter().any(|done| done.to_string() == step)
}

fn is_before(judgement: &Judgement, first: &str, then: &str) -> bool {
    let find = |step: &str| judgement.actions.iter().position(|done| done.to_string() == step);
    let (Some(first), Some(then)) = (find(first), find(then)) else { return false };
    let mut open = vec![then];
    while let Some(at) = open.pop() {
        if at == first {
            return true;
        }
        open.extend(judgement.order.iter().filter(|(_, after)| *after == at).map(|(before, _)| *before));
    }
    false
}

const DB: &str = r#"<primitive id="db" class="ocf" provider="pacemaker" type="Dummy"/>"#;
const REMOTE: &str = r#"type="remote""#;
const DUMMY: &str = r#"type="Dummy""#;

fn remote_state(attributes: &str) -> String {
    format!(
        r#"<node_state remote_node="true" id="far" uname="far">
           <transient_attributes><instance_attributes>{attributes}</instance_attributes></transient_attributes>
           <lrm><lrm_resources>{}</lrm_resources></lrm></node_state>"#,
        started("db", DUMMY)
    )
}

/// Otherwise the remote node would have to be fenced for a change of the configuration.
#[test]
fn a_remote_node_that_left_the_configuration_is_emptied_before_its_connection_ends() {
    let judgement = judge(&situation(DB, &started("far", REMOTE), "", &remote_state("")));
    assert!(is_before(&judgement, "stop db on far", "stop far on a"), "{judgement}");
    assert!(!has(&judgement, "fence far"), "{judgement}");
}

#[test]
fn a_remote_node_that_wants_to_leave_is_emptied_before_its_connection_ends() {
    let far = r#"<primitive id="far" class="ocf" provider="pacemaker" type="remote"/>"#;
    let leaves = remote_state(r#"<nvpair name="shutdown" value="1700000000"/>"#);
    // That it was found down on another node, which is read later, changes nothing.
    let down_on_b = report("far", REMOTE, &[("monitor", 7, 7, r#"interval="0""#)]);
    let judgement = judge(&situation(&format!("{far}{DB}"), &started("far", REMOTE), &down_on_b, &leaves));
    assert!(is_before(&judgement, "stop db on far", "stop far on a"), "{judgement}");
    assert!(!has(&judgement, "start far on b"), "{judgement}");
}

/// The node may still run everything: only a fence makes sure.
#[test]
fn a_lost_connection_is_not_forgotten_before_its_node_was_fenced() {
    let far = r#"<primitive id="far" class="ocf" provider="pacemaker" type="remote"><instance_attributes>
                 <nvpair name="reconnect_interval" value="60"/></instance_attributes></primitive>"#;
    let long_ago = r#"interval="0" last-rc-change="1000""#;
    let lost = [("start", 0, 0, long_ago), ("monitor", 1, 0, r#"interval="20000" last-rc-change="2000""#)];
    let judgement = judge(&situation(&format!("{far}{DB}"), &report("far", REMOTE, &lost), "", &remote_state("")));
    assert!(has(&judgement, "fence far"), "{judgement}");
    assert!(has(&judgement, "stop far on a") && !has(&judgement, "start far on a"), "{judgement}");
}

#[test]
fn an_answer_that_says_nothing_is_a_failure_even_if_it_was_expected() {
    let odd = report("db", DUMMY, &[("start", 1, 1, &format!(r#"interval="0" {NO_PARAMETERS}"#))]);
    let judgement = judge(&situation(DB, &odd, "", ""));
    assert!(has(&judgement, "stop db on a"), "{judgement}");
}

/// What failed may be tried again there when its definition changed, not when nobody knows whether it did.
#[test]
fn a_failure_without_a_recorded_definition_counts() {
    let ops = r#"<operations><op name="monitor" interval="10" id="m"/></operations>"#;
    let meta = r#"<meta_attributes><nvpair name="migration-threshold" value="1"/><nvpair
                  name="resource-stickiness" value="1"/></meta_attributes>"#;
    let db = format!(r#"<primitive id="db" class="ocf" provider="pacemaker" type="Dummy">{ops}{meta}</primitive>"#);
    let counted = |digest: &str| {
        let failed = format!(
            r#"<lrm_resource id="db" class="ocf" provider="pacemaker" type="Dummy">
               <lrm_rsc_op id="db_last_0" operation="start" interval="0" call-id="1" op-status="0" rc-code="0"
               transition-key="1:1:0:x" {NO_PARAMETERS}/>
               <lrm_rsc_op id="db_last_failure_0" operation="monitor" interval="10000" call-id="2" op-status="0"
               rc-code="1" transition-key="1:1:0:x" {digest}/></lrm_resource>"#
        );
        let mut situation = situation(&db, &failed, "", "");
        let count = ("fail-count-db#monitor_10000".to_owned(), "1".to_owned());
        situation.nodes[0].attributes.extend([count]);
        judge(&situation)
    };
    let changed = counted(r#"op-digest="0""#);
    assert!(has(&changed, "start db on a"), "{changed}");
    let unrecorded = counted("");
    assert!(has(&unrecorded, "start db on b"), "{unrecorded}");
}

/// Whether anything still runs there cannot be known, nor can anything be done about it.
#[test]
fn nothing_is_done_on_a_guest_whose_host_is_lost_and_cannot_be_fenced() {
    let machine = r#"<primitive id="machine" class="ocf" provider="pacemaker" type="Dummy"><meta_attributes>
                     <nvpair name="remote-node" value="guest"/></meta_attributes></primitive>"#;
    let state = remote_state("").replace("far", "guest");
    let on_a = started("machine", DUMMY) + &started("guest", REMOTE);
    let mut situation = situation(&format!("{machine}{DB}"), &on_a, "", &state);
    situation.options.has_quorum = false;
    let seen = situation.nodes[0].seen.as_mut().expect("seen");
    (seen.is_member, seen.is_process_up) = (Some(false), false);
    let judgement = judge(&situation);
    assert!(judgement.actions.iter().all(|done| done.node == "b"), "{judgement}");
}

/// To be in a machine means to be on the guest that it is, not beside it.
#[test]
fn what_has_a_guest_for_its_container_runs_on_that_guest() {
    let machine = r#"<primitive id="machine" class="ocf" provider="pacemaker" type="Dummy"><meta_attributes>
                     <nvpair name="remote-node" value="guest"/></meta_attributes></primitive>"#;
    let inside = r#"<primitive id="db" class="ocf" provider="pacemaker" type="Dummy"><meta_attributes>
                    <nvpair name="container" value="machine"/></meta_attributes></primitive>"#;
    let judgement = judge(&situation(&format!("{machine}{inside}"), "", "", ""));
    assert!(has(&judgement, "start db on guest"), "{judgement}");
}

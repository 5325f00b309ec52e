//! When is a node unfenced, and what happens before and after?

use model::situation::Situation;
use scheduler::{Judgement, carried_out, judge};

/// A device that unfences, and a clone that needs it; `a` and `b` run both, each with these attributes and these
/// records of the device.
fn situation(attributes: &str, device_on_a: &str, device_on_b: &str) -> Situation {
    let pair = |name: &str, value: &str| format!(r#"<nvpair name="{name}" value="{value}"/>"#);
    let device = format!(
        r#"<primitive id="device" class="stonith" type="fence_disk"><meta_attributes>{}</meta_attributes></primitive>"#,
        pair("provides", "unfencing")
    );
    let service = r#"<clone id="all"><primitive id="db" class="ocf" provider="lab" type="Db"/></clone>"#;
    let digest = "f2317cad3d54cec5d7d7aa7d0bf35cf8";
    let record = |resource: &str, operation: &str, rc: u8, digest: &str| {
        format!(
            r#"<lrm_rsc_op id="{resource}_last_0" operation="{operation}" interval="0" call-id="3" op-status="0"
               rc-code="{rc}" transition-key="1:1:{rc}:x" op-digest="{digest}"/>"#
        )
    };
    let states: String = [("a", attributes, device_on_a), ("b", &*pair("#node-unfenced", "1700000000"), device_on_b)]
        .iter()
        .map(|(node, attributes, device)| {
            let (rc, operation) = if *device == "stopped" { (7, "monitor") } else { (0, "start") };
            let device_digest = if *device == "changed" { "0" } else { digest };
            format!(
                r#"<node_state id="{node}" uname="{node}" in_ccm="true" crmd="online" join="member" expected="member">
                   <transient_attributes><instance_attributes>{attributes}</instance_attributes></transient_attributes>
                   <lrm><lrm_resources><lrm_resource id="device" class="stonith" type="fence_disk">{}</lrm_resource>
                   <lrm_resource id="db" class="ocf" provider="lab" type="Db">{}</lrm_resource></lrm_resources></lrm>
                   </node_state>"#,
                record("device", operation, rc, device_digest),
                record("db", "start", 0, digest)
            )
        })
        .collect();
    let cib = format!(
        r#"<cib have-quorum="1" dc-uuid="b"><configuration><nodes><node id="a" uname="a"/><node id="b" uname="b"/></nodes>
           <resources>{device}{service}</resources></configuration><status>{states}</status></cib>"#
    );
    import::cib(&cib, import::Time::At(1_700_000_000)).expect("a CIB").situation
}

/// `start db on a`, `unfence a`, … in the order of the actions; checks left out.
fn steps(judgement: &Judgement) -> Vec<String> {
    let real = judgement.actions.iter().filter(|done| done.action != "monitor" && done.action != "probe");
    real.map(ToString::to_string).collect()
}

fn is_before(judgement: &Judgement, first: &str, then: &str) -> bool {
    let find = |step: &str| judgement.actions.iter().position(|done| done.to_string() == step).expect("a step");
    let (first, then) = (find(first), find(then));
    let mut open = vec![then];
    while let Some(at) = open.pop() {
        if at == first {
            return true;
        }
        open.extend(judgement.order.iter().filter(|(_, after)| *after == at).map(|(before, _)| *before));
    }
    false
}

#[test]
fn what_runs_on_a_node_that_was_never_unfenced_stops_for_it_and_comes_back() {
    let judgement = judge(&situation("", "stopped", "running"));
    let unfencing = judgement.actions.iter().find(|done| done.action == "fence").expect("an unfencing");
    assert_eq!((unfencing.node.as_str(), unfencing.op), ("a", Some("on")));
    assert!(is_before(&judgement, "stop db on a", "unfence a"), "{judgement}");
    assert!(is_before(&judgement, "unfence a", "start db on a"), "{judgement}");
    assert!(!steps(&judgement).contains(&"stop db on b".to_owned()), "{judgement}");
}

#[test]
fn a_node_is_unfenced_once() {
    let unfenced = r##"<nvpair name="#node-unfenced" value="1700000000"/>"##;
    assert_eq!(steps(&judge(&situation(unfenced, "stopped", "running"))), Vec::<String>::new());
    let before = situation("", "stopped", "running");
    let after = carried_out(&before, &judge(&before));
    assert_eq!(steps(&judge(&after)), Vec::<String>::new());
}

#[test]
fn a_device_that_changed_unfences_the_node_where_it_runs() {
    let unfenced = r##"<nvpair name="#node-unfenced" value="1700000000"/>"##;
    let judgement = judge(&situation(unfenced, "changed", "stopped"));
    assert!(is_before(&judgement, "unfence a", "start device on a"), "{judgement}");
    assert!(is_before(&judgement, "stop db on a", "unfence a"), "{judgement}");
    assert!(!steps(&judgement).iter().any(|step| step.ends_with(" b")), "{judgement}");
}

//! Nodes come and go in the file, and what a person wrote stays.

use std::net::IpAddr;

use config::{add_node, initial, parse, remove_node};
use model::{FenceName, NodeConfig, NodeName, ResourceName};

fn node(last: u8) -> NodeConfig {
    NodeConfig { links: vec![IpAddr::from([10, 0, 0, last]), IpAddr::from([10, 0, 1, last])], ..NodeConfig::default() }
}

fn name(name: &str) -> NodeName {
    NodeName::from(name)
}

#[test]
fn init_and_two_joins_make_a_cluster_of_three() {
    let founded = initial("shop", "lan", &name("a"), &node(1));
    assert!(parse(&founded).expect("a new file is valid").warnings.is_empty());
    let text = add_node(&founded, &name("b"), &node(2)).expect("b joins");
    let text = add_node(&text, &name("c"), &node(3)).expect("c joins");
    assert!(text.starts_with(&founded), "only added to");
    let tables = &text[text.find("[nodes.a]").expect("the first node")..];
    assert_eq!(
        tables,
        "[nodes.a]\nlinks = [\"10.0.0.1\", \"10.0.1.1\"]\n\n[nodes.b]\nlinks = [\"10.0.0.2\", \"10.0.1.2\"]\n\n\
         [nodes.c]\nlinks = [\"10.0.0.3\", \"10.0.1.3\"]\n"
    );
    let config = parse(&text).expect("valid").config;
    assert_eq!(config.name, "shop");
    assert_eq!(config.nodes, [(name("a"), node(1)), (name("b"), node(2)), (name("c"), node(3))].into());
}

#[test]
fn a_name_with_dots_is_quoted() {
    let text = initial("shop", "lan", &name("a.example.org"), &node(1));
    assert_eq!(parse(&text).expect("valid").config.nodes, [(name("a.example.org"), node(1))].into());
}

const COMMENTED: &str = r#"# our shop
cluster = "shop"   # the name

# the left rack
[nodes.a]
links = ["10.0.0.1", "10.0.1.1"] # eth0, eth1
# the right rack
[nodes.b]
links = ["10.0.0.2", "10.0.1.2"]

[nodes.c]
links = ["10.0.0.3", "10.0.1.3"]

[fence.pdu]
agent = "fence_apc"
plugs = { a = "1", c = "3" }

# the till
[resources.till]
agent = "ocf:heartbeat:Dummy"
class = "best-effort"
prefer = ["c"] # near the door

[resources.shop]
agent = "ocf:heartbeat:Dummy"
class = "best-effort"
prefer = ["a", "c"]
"#;

#[test]
fn a_joining_node_stands_behind_the_other_nodes_and_nothing_else_moves() {
    let text = add_node(COMMENTED, &name("d"), &node(4)).expect("d joins");
    let added = "\n[nodes.d]\nlinks = [\"10.0.0.4\", \"10.0.1.4\"]\n";
    assert_eq!(text, COMMENTED.replace("\n\n[fence.pdu]", &format!("\n{added}\n[fence.pdu]")));
}

#[test]
fn a_node_that_is_there_is_brought_up_to_date_with_its_comments() {
    assert_eq!(add_node(COMMENTED, &name("a"), &node(1)).expect("as it is"), COMMENTED);
    let moved = NodeConfig { fence: vec![FenceName::from("pdu")], ..node(9) };
    let text = add_node(COMMENTED, &name("a"), &moved).expect("a has other addresses");
    assert!(text.contains("links = [\"10.0.0.9\", \"10.0.1.9\"] # eth0, eth1\nfence = [\"pdu\"]\n"), "{text}");
    assert!(text.contains("# the left rack\n[nodes.a]"));
    let kept = add_node(&text, &name("a"), &NodeConfig::default()).expect("nothing new is known");
    assert_eq!(kept, text);
}

#[test]
fn an_inline_table_takes_a_node_too() {
    let text = "cluster = \"shop\"\nnodes = { a = { links = [\"10.0.0.1\", \"10.0.1.1\"] } }\n";
    let text = add_node(text, &name("b"), &node(2)).expect("b joins");
    assert_eq!(parse(&text).expect("valid").config.nodes.len(), 2);
}

#[test]
fn a_removed_node_is_named_nowhere() {
    let text = remove_node(COMMENTED, &name("c")).expect("c leaves");
    assert!(!text.contains("nodes.c") && !text.contains("\"c\"") && !text.contains("c = \"3\""), "{text}");
    assert!(text.contains("# the till") && text.contains("# the right rack") && text.contains("a = \"1\""), "{text}");
    let config = parse(&text).expect("valid").config;
    assert_eq!(config.nodes.len(), 2);
}

#[test]
fn a_removed_node_is_neither_liked_nor_avoided() {
    let liked = COMMENTED
        .replace("prefer = [\"c\"]", "prefer = { c = 20 }\navoid = { a = 5 }")
        .replace("prefer = [\"a\", \"c\"]", "prefer = { a = 30, c = 20 }\nonly = [\"a\", \"c\"]");
    let text = remove_node(&liked, &name("c")).expect("c leaves");
    let config = parse(&text).expect("valid").config;
    let placement = |resource: &str| &config.resources[&ResourceName::from(resource)].placement;
    assert_eq!((placement("till").prefer.len(), placement("till").leaning.avoid.len()), (0, 1));
    assert_eq!(placement("shop").leaning.prefer, [(name("a"), 30)].into());
    assert_eq!(placement("shop").leaning.only, [name("a")].into());
    let nowhere = COMMENTED.replace("prefer = [\"c\"]", "only = [\"c\"]");
    let findings = remove_node(&nowhere, &name("c")).expect_err("it could run nowhere");
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["config::empty"]);
}

#[test]
fn an_edit_that_would_break_the_file_is_refused() {
    let codes = |result: Result<String, Vec<config::Diagnostic>>| -> Vec<&'static str> {
        let findings = result.expect_err("refused");
        assert!(findings.iter().all(|f| f.span.is_none()), "the edited text is not the caller's: {findings:?}");
        findings.iter().map(|f| f.code).collect()
    };
    assert_eq!(codes(add_node(COMMENTED, &name("d"), &node(1))), ["config::duplicate_address"; 2]);
    assert_eq!(codes(add_node(COMMENTED, &name("d d"), &node(4))), ["config::bad_name"]);
    assert_eq!(codes(add_node(COMMENTED, &name("d"), &NodeConfig::default())), ["config::bad_links"]);
    assert_eq!(codes(remove_node(COMMENTED, &name("x"))), ["config::unknown_node"]);
    let exclusive = COMMENTED
        .replace("class = \"best-effort\"\n", "")
        .replace("agent = \"fence_apc\"\nplugs = { a = \"1\", c = \"3\" }", "agent = \"fence_apc\"")
        .replace("links =", "fence = [\"pdu\"]\nlinks =");
    parse(&exclusive).expect("three fenced nodes are safe");
    assert_eq!(codes(add_node(&exclusive, &name("d"), &node(4))), ["config::unfenced"; 2]);
    assert_eq!(codes(remove_node(&exclusive, &name("c"))), ["config::two_voters"]);
}

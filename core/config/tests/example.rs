//! The examples of the repository are what the documents say they are.

use std::time::Duration;

use config::parse;
use model::{Class, NodeName, ParameterValue, ResourceName, UnitName};

const EXAMPLE: &str = include_str!("../../../examples/floating-web/cluster.toml");

#[test]
fn the_example_is_a_cluster_without_a_warning() {
    let parsed = parse(EXAMPLE).expect("the example is valid");
    assert_eq!(parsed.warnings, []);
    let config = parsed.config;
    assert_eq!(config.name, "floating-web");
    assert_eq!(config.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    for (number, node) in (1..).zip(config.nodes.values()) {
        let links: Vec<String> = node.links.iter().map(ToString::to_string).collect();
        assert_eq!(links, [format!("10.77.1.{number}"), format!("10.77.2.{number}")]);
        assert_eq!(node.fence.len(), 1);
    }
    assert_eq!(config.fence_devices.len(), 1);
    assert_eq!(config.units().len(), 1, "one group, so one unit");
    let site = UnitName::from("site");
    assert_eq!(config.members_of(&site), [&ResourceName::from("address"), &ResourceName::from("web")]);
    assert!(config.is_exclusive(&site));
}

const TWO_RACKS: &str = include_str!("../../../examples/two-racks/cluster.toml");

/// Whoever looks for a word finds it there.
#[test]
fn the_second_example_shows_every_word_about_where_something_runs() {
    let parsed = parse(TWO_RACKS).expect("the example is valid");
    assert_eq!(parsed.warnings, []);
    let config = parsed.config;
    let placement = |unit: &str| config.units()[&UnitName::from(unit)].placement.clone();
    let copies = placement("db").copies.expect("db has copies");
    assert_eq!((copies.count, copies.promotion.map(|promotion| promotion.count)), (Some(2), Some(1)));
    assert_eq!(placement("shop").preferred(), [(&NodeName::from("a"), 200), (&NodeName::from("b"), 50)].into());
    assert_eq!(placement("backup").leaning.apart[&UnitName::from("shop")].by.as_deref(), Some("rack"));
    for word in ["avoid", "only", "with", "apart", "after", "copies", "promote", "ticket", "needs", "failures"] {
        assert!(TWO_RACKS.lines().any(|line| line.starts_with(&format!("{word} = "))), "{word}");
    }
}

#[test]
fn the_example_tells_its_agents_what_they_read() {
    let config = parse(EXAMPLE).expect("the example is valid").config;
    let text = |text: &str| ParameterValue::Text(text.to_owned());
    let web = &config.resources[&ResourceName::from("web")];
    assert_eq!(web.parameters["command"], text("[\"cardea-web\"]"));
    assert_eq!(web.parameters["http"], text("http://10.77.1.100:8080/"));
    assert_eq!((web.monitor.every, web.monitor.timeout), (Duration::from_secs(5), Duration::from_secs(2)));
    assert_eq!((web.timeouts.start, web.timeouts.stop), (Duration::from_secs(20), Duration::from_secs(20)));
    assert_eq!((web.class, web.failures_max, web.placement.stickiness), (Class::Exclusive, 3, 100));
    let address = &config.resources[&ResourceName::from("address")];
    assert_eq!(address.parameters["address"], text("10.77.1.100/24"));
}

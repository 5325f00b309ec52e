//! The example of the repository is what the README says it is.

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

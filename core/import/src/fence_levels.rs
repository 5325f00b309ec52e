//! Which fence devices are tried for a node, and in which order? The levels of `fencing-topology`.

use std::collections::BTreeMap;

use model::{NodeName, ResourceName};

use crate::nodes::Nodes;
use crate::patterns::Pattern;
use crate::source::{Element, Source};
use crate::values;

/// The devices of each level, by node.
pub(crate) fn read<'a>(source: &Source<'a>, nodes: &Nodes) -> BTreeMap<NodeName, Vec<Vec<ResourceName>>> {
    let mut levels: BTreeMap<NodeName, BTreeMap<i64, Vec<ResourceName>>> = BTreeMap::new();
    let section = source.section("fencing-topology");
    let elements = section.iter().flat_map(|s| s.children().filter(|child| child.has_tag_name("fencing-level")));
    for element in elements {
        let index = element.attribute("index").and_then(values::integer).filter(|index| (1..=9).contains(index));
        let devices = element.attribute("devices").unwrap_or_default().split(',').map(str::trim);
        let devices: Vec<ResourceName> = devices.filter(|name| !name.is_empty()).map(ResourceName::from).collect();
        let (Some(index), false) = (index, devices.is_empty()) else {
            source.remark(element, "a level needs an index in 1..=9 and devices; it is left out");
            continue;
        };
        for node in targets(source, nodes, element) {
            levels.entry(node).or_default().entry(index).or_default().extend(devices.iter().cloned());
        }
    }
    levels.into_iter().map(|(node, levels)| (node, levels.into_values().collect())).collect()
}

fn targets<'a>(source: &Source<'a>, nodes: &Nodes, element: Element<'a>) -> Vec<NodeName> {
    let pick = |fits: &dyn Fn(&str, &BTreeMap<String, String>) -> bool| {
        let fitting = nodes.views().filter(|(name, view)| fits(name.as_str(), view));
        fitting.map(|(name, _)| name.clone()).collect()
    };
    if let Some(target) = element.attribute("target") {
        return pick(&|name, _| name.eq_ignore_ascii_case(target));
    }
    if let Some(text) = element.attribute("target-pattern") {
        let Some(pattern) = Pattern::parse(text) else {
            source.remark(element, format!("the pattern {text:?} is not understood; it matches nothing"));
            return Vec::new();
        };
        return pick(&|name, _| pattern.find(name).is_some());
    }
    if let (Some(attribute), Some(value)) = (element.attribute("target-attribute"), element.attribute("target-value")) {
        return pick(&|_, view| view.get(attribute).is_some_and(|actual| actual == value));
    }
    source.remark(element, "a level without target; it is left out");
    Vec::new()
}

#[cfg(test)]
mod tests {
    use crate::testing::read;

    #[test]
    fn levels_come_by_index_and_targets_by_name_pattern_or_attribute() {
        let level = |rest: &str| format!("<fencing-level {rest}/>");
        let levels = [
            r#"target="a" index="2" devices="disk""#,
            r#"target-pattern="^[ab]$" index="1" devices="power1,power2""#,
            r##"target-attribute="#uname" target-value="b" index="1" devices="more""##,
            r#"target="a" index="0" devices="never""#,
            r#"index="1" devices="whose""#,
        ];
        let imported = read(&format!("<fencing-topology>{}</fencing-topology>", levels.map(level).concat()), "");
        let told = |node: &str| {
            let levels = &imported.situation.fence_levels[&node.into()];
            let names = levels.iter().map(|level| level.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("+"));
            names.collect::<Vec<_>>()
        };
        assert_eq!(told("a"), ["power1+power2", "disk"]);
        assert_eq!(told("b"), ["power1+power2+more"]);
        assert_eq!(imported.not_understood.len(), 2);
    }
}

//! Which nodes were unfenced with the fence devices of today?
//!
//! A node remembers `DEVICE:AGENT:DIGEST,` for each device, once over all parameters and once without the private
//! ones. Where only the latter fits, what is read is a copy with masked passwords, and the former is made to fit.

use model::situation::{NodeFacts, Primitive, Resource};

use crate::digests;
use crate::resources::each_primitive;

/// Parameters that are private in every fence device.
const PRIVATE: [&str; 3] = ["passwd", "password", "user"];

/// Adds today's digest of a device to what a node was unfenced with, if only private parameters differ.
pub(crate) fn forgive_masked(nodes: &mut [NodeFacts], resources: &[Resource]) {
    for resource in resources {
        each_primitive(resource, &mut |name, device| {
            let Some(today) = device.all_digest.as_ref().filter(|_| device.unfences) else { return };
            let entry = |digest: &str| format!("{name}:{}:{digest},", device.agent);
            let without_private = entry(&secure_digest(device));
            for facts in nodes.iter_mut() {
                let is_masked =
                    facts.attributes.get("#digests-secure").is_some_and(|all| all.contains(&without_private));
                if let (true, Some(all)) = (is_masked, &mut facts.unfenced_with)
                    && !all.contains(&entry(today))
                {
                    all.push_str(&entry(today));
                }
            }
        });
    }
}

fn secure_digest(device: &Primitive) -> String {
    let kept = device.parameters.iter().filter(|(name, _)| !PRIVATE.contains(&name.as_str()));
    digests::of(kept.map(|(name, value)| (name.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block, primitive, read};

    #[test]
    fn a_masked_password_is_no_other_device() {
        let secure = digests::of([("login", "admin")]);
        let attributes = |id: &str, secure: &str| {
            let pairs = [("#digests-all", "f:fence_x:old,"), ("#digests-secure", secure)];
            let block = block("instance_attributes", &pairs);
            format!(r#"<node_state id="{id}"><transient_attributes>{block}</transient_attributes></node_state>"#)
        };
        let inside = block("meta_attributes", &[("provides", "unfencing")])
            + &block("instance_attributes", &[("login", "admin"), ("passwd", "****")]);
        let device =
            format!(r#"<resources><primitive id="f" class="stonith" type="fence_x">{inside}</primitive></resources>"#);
        let status = attributes("1", &format!("f:fence_x:{secure},")) + &attributes("2", "f:fence_x:other,");
        let situation = read(&device, &status).situation;
        let today = primitive(&situation.resources[0]).all_digest.clone().expect("a fence device has one");
        assert_eq!(situation.nodes[0].unfenced_with, Some(format!("f:fence_x:old,f:fence_x:{today},")));
        assert_eq!(situation.nodes[1].unfenced_with.as_deref(), Some("f:fence_x:old,"));
    }
}

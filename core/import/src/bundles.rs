//! What is in a bundle? Containers, their addresses, the connections into them, and the clone that runs inside.
//!
//! Everything but the primitive is made up: names, agents and their parameters follow from the bundle, and must be the
//! same to the byte as those that another scheduler made, else a container is restarted for nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::NodeName;
use model::situation::{Bundle, Meta, Replica, Resource, ResourceKind};

use crate::digests::{EXTERNAL_ADDRESS, Parameters};
use crate::meta::{self, Sort};
use crate::nodes::Implied;
use crate::operations::Written;
use crate::resources::{Above, Reader};
use crate::rules::Agent;
use crate::source::Element;
use crate::values;

/// The more there are, the surer it is a mistake; every one costs memory.
const REPLICAS_MAX: u32 = 256;
const PORT: &str = "3121";
const KEY: &str = "/etc/pacemaker/authkey";
const LOGS: &str = "/var/log/pacemaker/bundles";
const LOGS_INSIDE: &str = "/var/log";
const DAEMON: &str = "/usr/sbin/pacemaker-remoted";

/// A bundle as it is written.
struct Plan<'a> {
    id: &'a str,
    engine: Element<'a>,
    network: Option<Element<'a>>,
    primitive: Option<Element<'a>>,
    promoted_max: u32,
    replicas: u32,
    per_host_max: u32,
}

fn engine(bundle: Element<'_>) -> Option<Element<'_>> {
    bundle.children().find(|child| matches!(child.tag_name().name(), "docker" | "podman" | "rkt"))
}

fn written(bundle: Element<'_>) -> Option<Plan<'_>> {
    let child = |name: &str| bundle.children().find(|child| child.has_tag_name(name));
    let engine = engine(bundle)?;
    let count = |name: &str, least| engine.attribute(name).and_then(|text| values::count(text, least));
    let promoted_max = count("promoted-max", 0).or_else(|| count("masters", 0)).unwrap_or(0);
    Some(
        Plan {
            id: bundle.attribute("id")?,
            engine,
            network: child("network"),
            primitive: child("primitive"),
            promoted_max,
            replicas: count("replicas", 1).unwrap_or(promoted_max.max(1)).min(REPLICAS_MAX),
            per_host_max: count("replicas-per-host", 1).unwrap_or(1),
        }
        .sharing_no_port(),
    )
}

/// The nodes that a bundle brings.
pub(crate) fn implied_nodes(bundle: Element<'_>) -> Vec<Implied> {
    let Some(written) = written(bundle).filter(|written| written.primitive.is_some() && !written.is_out_of_reach())
    else {
        return Vec::new();
    };
    let node =
        |number| Implied::Guest { name: written.node(number), container: written.container(number), is_bundle: true };
    (0..written.replicas).map(node).collect()
}

impl<'a> Plan<'a> {
    /// A port of the host leads into one container.
    fn sharing_no_port(self) -> Self {
        let shares = self.network("ip-range-start").is_none() && self.network("control-port").is_some();
        if shares { Plan { per_host_max: 1, ..self } } else { self }
    }

    /// Does nothing lead to what runs inside?
    fn is_out_of_reach(&self) -> bool {
        self.primitive.is_some() && self.network("ip-range-start").is_none() && self.network("control-port").is_none()
    }

    fn node(&self, number: u32) -> String {
        format!("{}-{number}", self.id)
    }

    fn container(&self, number: u32) -> String {
        format!("{}-{}-{number}", self.id, self.engine.tag_name().name())
    }

    fn network(&self, name: &str) -> Option<&'a str> {
        self.network?.attribute(name)
    }

    fn port(&self) -> &'a str {
        self.network("control-port").unwrap_or(PORT)
    }

    /// The address of a replica, if the bundle has addresses.
    fn address(&self, number: u32) -> Option<String> {
        let first = self.network("ip-range-start")?;
        match first.parse() {
            Ok(IpAddr::V4(ip)) => Some(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(number)).to_string()),
            Ok(IpAddr::V6(ip)) => Some(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(u128::from(number))).to_string()),
            Err(_) => None,
        }
    }

    /// What is mounted: from where, to where, with which options, and whether each replica has its own folder.
    fn mounts(&self, bundle: Element<'a>) -> Vec<(&'a str, &'a str, Option<&'a str>, bool)> {
        let storage = bundle.children().filter(|child| child.has_tag_name("storage"));
        let mappings = storage.flat_map(|s| s.children().filter(|child| child.has_tag_name("storage-mapping")));
        let mut mounts: Vec<_> = mappings
            .filter_map(|mapping| {
                let (plain, root) = (mapping.attribute("source-dir"), mapping.attribute("source-dir-root"));
                let target = mapping.attribute("target-dir")?;
                Some((plain.or(root)?, target, mapping.attribute("options"), plain.is_none()))
            })
            .collect();
        if self.primitive.is_some() {
            let has_logs = mounts.iter().any(|(_, target, ..)| *target == LOGS_INSIDE);
            mounts.push((KEY, KEY, None, false));
            if !has_logs {
                mounts.push((LOGS, LOGS_INSIDE, None, true));
            }
        }
        mounts
    }

    /// Which ports lead from the host into the container.
    fn ports(&self) -> Vec<(&'a str, &'a str)> {
        let mappings = self.network.into_iter().flat_map(|n| n.children().filter(|c| c.has_tag_name("port-mapping")));
        let mut ports: Vec<_> = mappings
            .filter_map(|mapping| {
                let source = mapping.attribute("port").or(mapping.attribute("range"))?;
                Some((source, mapping.attribute("internal-port").unwrap_or(source)))
            })
            .collect();
        if self.primitive.is_some() {
            ports.push((self.port(), self.port()));
        }
        ports
    }

    /// What the container's agent is called with.
    fn container_parameters(&self, bundle: Element<'a>, number: u32) -> Parameters {
        let engine = |name: &str| self.engine.attribute(name);
        let address = self.address(number);
        let node = self.node(number);
        let mut options = String::new();
        if self.engine.has_tag_name("docker") {
            options += " --restart=no";
        }
        if address.is_some() {
            options += &format!(" -h {node}");
        }
        options += " -e PCMK_stderr=1";
        if let Some(network) = engine("network") {
            options += &format!(" --net={network}");
        }
        options += &format!(" -e PCMK_remote_port={}", self.port());
        let mut folders = Vec::new();
        for (from, to, mount_options, is_own) in self.mounts(bundle) {
            let from = if is_own { format!("{from}/{node}") } else { from.to_owned() };
            options += &format!(" -v {from}:{to}");
            if let Some(mount_options) = mount_options {
                options += &format!(":{mount_options}");
            }
            if is_own {
                folders.push(from);
            }
        }
        for (outside, inside) in self.ports() {
            match &address {
                Some(address) => options += &format!(" -p {address}:{outside}:{inside}"),
                None if engine("network") != Some("host") => options += &format!(" -p {outside}:{inside}"),
                None => {}
            }
        }
        if let Some(more) = engine("options") {
            options += &format!(" {more}");
        }
        options.push(' ');
        let adds_hosts = self.network("add-host").and_then(values::boolean).unwrap_or(true);
        for other in (0..self.replicas).filter(|_| adds_hosts) {
            if let Some(address) = self.address(other) {
                options += &format!(" --add-host={}:{address}", self.node(other));
            }
        }
        let mut parameters = Parameters::new();
        let mut put = |name: &str, value: &str| parameters.insert(name.to_owned(), value.to_owned());
        put("image", engine("image").unwrap_or_default());
        put("allow_pull", "true");
        put("force_kill", "false");
        put("reuse", "false");
        put("run_opts", &options);
        put("mount_points", &folders.join(","));
        put("monitor_cmd", "/bin/true");
        let command = engine("run-command").or(self.primitive.map(|_| DAEMON));
        if let Some(command) = command {
            put("run_cmd", command);
        }
        parameters
    }
}

/// Reads a bundle.
pub(crate) fn read<'a>(reader: &mut Reader<'_, 'a>, element: Element<'a>) -> Option<Resource> {
    let Some(written) = written(element) else {
        reader.source.remark(element, "a bundle needs an id and `docker` or `podman`; it is left out");
        return None;
    };
    if !reader.claim(element, written.id) {
        return None;
    }
    if written.is_out_of_reach() {
        let what = "nothing leads to the primitive inside: its `network` needs `control-port` or `ip-range-start`; \
                    the bundle is left out";
        reader.source.remark(element, what);
        return None;
    }
    if written.replicas == REPLICAS_MAX {
        reader.source.remark(element, format!("there are {REPLICAS_MAX} replicas at most"));
    }
    let level = reader.level(element, None);
    let meta = meta::read(reader.source, element, &level.settled, Sort::Bundle, reader.defaults);
    if written.network("ip-range-start").is_some() && written.address(0).is_none() {
        reader.source.remark(element, "ip-range-start is no address; the containers have none");
    }
    let inside = written.primitive.and_then(|primitive| inside(reader, &written, element, primitive, &level));
    let mut replicas = Vec::new();
    for number in 0..written.replicas {
        replicas.extend(replica(reader, &written, element, &level, number, inside.is_some()));
    }
    let bundle = Bundle { replicas, per_host_max: written.per_host_max, promoted_max: written.promoted_max, inside };
    Some(Resource { name: written.id.into(), meta, kind: ResourceKind::Bundle(Box::new(bundle)) })
}

fn replica<'a>(
    reader: &mut Reader<'_, 'a>,
    written: &Plan<'a>,
    at: Element<'a>,
    level: &Above<'_, 'a>,
    number: u32,
    has_inside: bool,
) -> Option<Replica> {
    let (node, container) = (written.node(number), written.container(number));
    let agent = Agent {
        class: Some("ocf"),
        provider: Some("heartbeat"),
        agent: Some(match written.engine.tag_name().name() {
            "podman" => "podman",
            "rkt" => "rkt",
            _ => "docker",
        }),
    };
    if !reader.claim(at, &container) {
        return None;
    }
    let parameters = written.container_parameters(at, number);
    let monitor = [Written::implied(&container, "monitor", 60, None)];
    let mut inner = reader.implicit(at, &container, agent, Default::default(), Some(level), parameters, &monitor);
    if let (ResourceKind::Primitive(primitive), true) = (&mut inner.kind, has_inside) {
        primitive.holds = Some(node.as_str().into());
    }
    let address = written.address(number).map(|ip| {
        let name = format!("{}-ip-{ip}", written.id);
        let agent = Agent { class: Some("ocf"), provider: Some("heartbeat"), agent: Some("IPaddr2") };
        let mut parameters = Parameters::from([("ip".to_owned(), ip)]);
        if let Some(nic) = written.network("host-interface") {
            parameters.insert("nic".to_owned(), nic.to_owned());
        }
        let mask = written.network("host-netmask").unwrap_or("32");
        parameters.insert("cidr_netmask".to_owned(), mask.to_owned());
        let monitor = [Written::implied(&name, "monitor", 60, None)];
        reader.implicit(at, &name, agent, Default::default(), Some(level), parameters, &monitor)
    });
    let connection = (has_inside && reader.claim(at, &node)).then(|| {
        let addr = written.address(number).unwrap_or_else(|| "#uname".to_owned());
        let parameters = [("addr", addr), ("port", written.port().to_owned())];
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let monitor = [Written::implied(&node, "monitor", 30, Some("30s"))];
        reader.connection(at, &node, &container, Default::default(), Some(level), parameters, &monitor)
    });
    let node = connection.as_ref().map(|_| node.as_str().into());
    Some(Replica { container: inner, address, connection, node })
}

/// The clone of the primitive, one instance for each replica.
fn inside<'a>(
    reader: &mut Reader<'_, 'a>,
    written: &Plan<'a>,
    at: Element<'a>,
    primitive: Element<'a>,
    level: &Above<'_, 'a>,
) -> Option<Resource> {
    let leads = written.promoted_max > 0;
    let name = format!("{}-{}", written.id, if leads { "master" } else { "clone" });
    if !reader.claim(at, &name) {
        return None;
    }
    let mut settled = reader.table(&[], &[], Some(level), Agent::default());
    // Settings of the bundle hold for the clone, too: it may be promotable by these alone.
    let inherited = meta::read(reader.source, at, &settled, Sort::Clone, reader.defaults);
    let is_promotable = leads || inherited.is_promotable;
    let promoted_max = if leads { written.promoted_max } else { inherited.promoted_max };
    let meta = Meta {
        is_ordered: true,
        clone_max: Some(written.replicas),
        clone_node_max: written.per_host_max,
        is_unique: written.per_host_max > 1,
        is_promotable,
        promoted_max: if is_promotable { promoted_max } else { 0 },
        promoted_node_max: u32::from(is_promotable),
        ..inherited
    };

    settled.entry("resource-stickiness").or_insert("1");
    let clone = Above { parent: Some(level), meta: Vec::new(), parameters: Vec::new(), settled };
    let mut child = reader.primitive(primitive, Some(&clone))?;
    if let ResourceKind::Primitive(primitive) = &mut child.kind {
        for number in 0..written.replicas {
            let Some(address) = written.address(number) else { break };
            let node = NodeName(written.node(number));
            let there = primitive.parameters_on.entry(node).or_insert_with(|| primitive.parameters.clone());
            there.insert(EXTERNAL_ADDRESS.to_owned(), address);
        }
    }
    Some(Resource { name: name.as_str().into(), meta, kind: ResourceKind::Clone(Box::new(child)) })
}

#[cfg(test)]
mod tests {
    use model::situation::NodeKind;

    use super::*;
    use crate::testing::{block, dummy, primitive, read};

    fn bundle(engine: &str, inside: &str) -> (Bundle, Vec<model::situation::NodeFacts>) {
        let meta = block("meta_attributes", &[("target-role", "Stopped"), ("notify", "true")]);
        let text = format!(r#"<resources><bundle id="web">{meta}{engine}{inside}</bundle></resources>"#);
        let situation = read(&text, "").situation;
        match situation.resources.into_iter().next().map(|resource| resource.kind) {
            Some(ResourceKind::Bundle(bundle)) => (*bundle, situation.nodes),
            other => panic!("no bundle: {other:?}"),
        }
    }

    #[test]
    fn a_bundle_unfolds_into_containers_addresses_connections_and_a_clone() {
        let network =
            r#"<network ip-range-start="192.0.2.254" control-port="9000"><port-mapping port="80"/></network>"#;
        let storage = r#"<storage><storage-mapping source-dir-root="/srv" target-dir="/www" options="rw"/></storage>"#;
        let inside = format!("{network}{storage}{}", dummy("httpd", ""));
        let (bundle, nodes) = bundle(r#"<podman image="web:1" replicas="2" promoted-max="1"/>"#, &inside);
        let one = &bundle.replicas[1];
        assert_eq!(one.container.name.as_str(), "web-podman-1");
        assert_eq!(one.container.meta.target_role, Some(model::situation::Role::Stopped));
        assert_eq!(one.address.as_ref().map(|r| r.name.as_str()), Some("web-ip-192.0.2.255"));
        assert_eq!(one.node, Some("web-1".into()));
        let options = &primitive(&one.container).parameters["run_opts"];
        assert_eq!(
            options,
            " -h web-1 -e PCMK_stderr=1 -e PCMK_remote_port=9000 -v /srv/web-1:/www:rw \
             -v /etc/pacemaker/authkey:/etc/pacemaker/authkey -v /var/log/pacemaker/bundles/web-1:/var/log \
             -p 192.0.2.255:80:80 -p 192.0.2.255:9000:9000  --add-host=web-0:192.0.2.254 --add-host=web-1:192.0.2.255"
        );
        assert_eq!(primitive(&one.container).parameters["mount_points"], "/srv/web-1,/var/log/pacemaker/bundles/web-1");
        let inside = bundle.inside.expect("a clone");
        assert_eq!(inside.name.as_str(), "web-master");
        assert!(inside.meta.is_promotable && inside.meta.notifies && inside.meta.is_ordered && !inside.meta.is_unique);
        assert_eq!(inside.meta.clone_max, Some(2));
        assert!(matches!(nodes[2].kind, NodeKind::Guest { is_bundle: true, .. }));
    }

    #[test]
    fn without_a_primitive_there_are_containers_only() {
        let (bundle, nodes) = bundle(r#"<docker image="x" network="host" options="--user=root"/>"#, "");
        assert_eq!((bundle.replicas.len(), bundle.inside.is_some(), nodes.len()), (1, false, 2));
        let it = primitive(&bundle.replicas[0].container);
        let expected = " --restart=no -e PCMK_stderr=1 --net=host -e PCMK_remote_port=3121 --user=root ";
        assert_eq!(it.parameters["run_opts"], expected);
        assert!(!it.parameters.contains_key("run_cmd") && bundle.replicas[0].connection.is_none());
    }
}

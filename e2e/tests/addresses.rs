//! Can addresses, networks and the profile change on a running cluster, and does a wrong change take nothing away?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::processes::Process;
use e2e::{Lab, now_us, until};
use serde_json::Value;

/// What says that somebody was taken for dead, or that a service was touched.
const TROUBLE: [&str; 8] =
    ["suspect", "condemned", "fence-called", "fenced", "stopped", "failed", "released", "started"];

/// The service: one node after the other may run it.
const SITE: &str = "
[resources.address]
agent = \"cardea:ip\"
address = \"10.77.1.100/24\"

[resources.web]
agent = \"cardea:process\"
command = [\"cardea-web\"]
http = \"http://10.77.1.100:8080/\"

[groups.site]
members = [\"address\", \"web\"]
";

/// A lab, and the file that its cluster has.
struct Changing {
    lab: Lab,
    names: Vec<String>,
    links: BTreeMap<String, Vec<String>>,
    profile: &'static str,
}

impl Changing {
    fn up(nodes: u8) -> Result<Changing> {
        let lab = Lab::up(&["--nodes", &nodes.to_string()])?;
        let names = lab.names()?;
        let address = |network: u8, host: usize| format!("10.77.{network}.{}", host + 1);
        let links = names.iter().enumerate().map(|(n, name)| (name.clone(), vec![address(1, n), address(2, n)]));
        let mut links: BTreeMap<String, Vec<String>> = links.collect();
        // The lab gives its witness the last of the low addresses.
        if let Some(of_witness) = links.get_mut("w") {
            *of_witness = vec!["10.77.1.9".to_owned(), "10.77.2.9".to_owned()];
        }
        let changing = Changing { lab, names, links, profile: "lan" };
        changing.lab.wait_until_whole()?;
        Ok(changing)
    }

    fn file(&self, links: &BTreeMap<String, Vec<String>>, profile: &str) -> String {
        let mut text = format!("cluster = \"lab\"\nprofile = \"{profile}\"\n");
        for (name, links) in links {
            let list: Vec<String> = links.iter().map(|link| format!("\"{link}\"")).collect();
            let rest = if name == "w" { "role = \"witness\"" } else { "fence = [\"switch\"]" };
            let _ = write!(text, "\n[nodes.{name}]\nlinks = [{}]\n{rest}\n", list.join(", "));
        }
        text + "\n[fence.switch]\nagent = \"fence_lab\"\nip = \"10.77.1.254,10.77.2.254\"\n" + SITE
    }

    fn workers(&self) -> Result<Vec<Process>> {
        self.names.iter().map(|name| self.lab.worker(name)).collect()
    }

    fn add(&self, name: &str, address: &str, interface: &str) -> Result<()> {
        self.lab.exec(name, &["ip", "address", "add", &format!("{address}/24"), "dev", interface])?.ok()?;
        Ok(())
    }

    /// The former addresses that a node still uses, from what it keeps for its next worker.
    fn former(&self, name: &str) -> Result<Vec<Value>, String> {
        let path = self.lab.node(name).root.join("var/lib/cardea/pulse.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let peers = file["peers"].as_array().cloned().unwrap_or_default();
        let all = peers.iter().map(|peer| &peer["former"]).chain([&file["own_former"]]);
        Ok(all.filter(|former| !former.is_null()).cloned().collect())
    }

    /// Applies other links or another profile, and nobody notices: no verdict, no new worker, no touch of the service.
    fn apply(&mut self, what: &str, links: BTreeMap<String, Vec<String>>, profile: &'static str) -> Result<()> {
        let (since, workers, before) = (now_us(), self.workers()?, self.status()?);
        let file = self.lab.write("next.toml", &self.file(&links, profile))?;
        let said = self.lab.node(&self.names[0]).must(&["apply", &file, "--yes"])?;
        ensure!(said.out.contains("applied"), "{what}: {}", said.out);
        until(&format!("{what}: every node uses the new addresses alone"), || {
            for name in &self.names {
                let status = self.lab.node(name).status().map_err(|error| format!("{name}: {error:#}"))?;
                let of = |node: &Value| -> Vec<String> {
                    let links = node["links"].as_array().cloned().unwrap_or_default();
                    links.iter().filter_map(|link| link["address"].as_str().map(str::to_owned)).collect()
                };
                for node in status["nodes"].as_array().into_iter().flatten() {
                    let wanted = links.get(node["name"].as_str().unwrap_or_default());
                    if wanted != Some(&of(node))
                        || node["links"].as_array().into_iter().flatten().any(|l| l["state"] == "down")
                    {
                        return Err(format!("{name}: {node}"));
                    }
                }
                if status["problems"] != serde_json::json!([]) {
                    return Err(format!("{name}: {}", status["problems"]));
                }
                let former = self.former(name)?;
                if !former.is_empty() {
                    return Err(format!("{name} still uses {former:?}"));
                }
            }
            Ok(())
        })
        .map_err(|error| error.context(self.lab.logs()))?;
        self.expect_calm(what, since, &workers, &before)?;
        (self.links, self.profile) = (links, profile);
        Ok(())
    }

    fn status(&self) -> Result<Value> {
        until("somebody leads", || self.lab.status())
    }

    fn expect_calm(&self, what: &str, since: u64, workers: &[Process], before: &Value) -> Result<()> {
        let trouble = self.lab.events_of(&TROUBLE, since)?;
        ensure!(trouble.is_empty(), "{what}: {trouble:?}\n{}", self.lab.logs());
        ensure!(self.workers()? == workers, "{what}: a worker was replaced\n{}", self.lab.logs());
        let after = self.status()?;
        let terms = after["term"].as_u64().unwrap_or(0) - before["term"].as_u64().unwrap_or(0);
        ensure!(terms <= 1, "{what}: {terms} terms");
        let since = |status: &Value| -> Vec<Value> {
            status["resources"].as_array().into_iter().flatten().map(|one| one["since"].clone()).collect()
        };
        ensure!(since(&after) == since(before), "{what}: {after}");
        Ok(())
    }

    /// A file that is refused, whether planned or applied, with these words.
    fn expect_refusal(&self, what: &str, links: &BTreeMap<String, Vec<String>>, words: &[&str]) -> Result<()> {
        let version = self.status()?["config_version"].clone();
        let file = self.lab.write("wrong.toml", &self.file(links, self.profile))?;
        for command in [&["plan", &file][..], &["apply", &file, "--yes"]] {
            for name in self.names.iter().filter(|name| *name != "w") {
                let said = self.lab.node(name).cardea(command)?;
                ensure!(said.exit_status == Some(1), "{what}: {said:?}");
                for word in words {
                    ensure!(said.err.contains(word), "{what}: `{word}` is not in: {}", said.err);
                }
            }
        }
        ensure!(self.status()?["config_version"] == version, "{what}: nothing was changed");
        Ok(())
    }

    fn with(&self, change: impl Fn(&str, &mut Vec<String>)) -> BTreeMap<String, Vec<String>> {
        let mut links = self.links.clone();
        links.iter_mut().for_each(|(name, links)| change(name, links));
        links
    }
}

/// All that a running cluster of so many nodes is asked to change.
fn change_everything(nodes: u8) -> Result<()> {
    let mut cluster = Changing::up(nodes)?;
    let last = cluster.names[usize::from(nodes) - 1].clone();

    let lacks = cluster.with(|name, links| {
        if name == last {
            links[0] = "10.77.1.77".to_owned()
        }
    });
    cluster.expect_refusal(
        "an address that the node lacks",
        &lacks,
        &["does not have the address 10.77.1.77", "eth0", "ip address add"],
    )?;
    if nodes > 1 {
        let swapped = cluster.with(|name, links| {
            if name == last {
                links.reverse()
            }
        });
        cluster.expect_refusal("another order of links", &swapped, &["not in the same order", "network 1"])?;
    }

    cluster.add(&last, "10.77.1.201", "eth0")?;
    let one = cluster.with(|name, links| {
        if name == last {
            links[0] = "10.77.1.201".to_owned()
        }
    });
    cluster.apply("another address of one node", one, "lan")?;

    let other = |link: &str| {
        let (network, host) = link.rsplit_once('.').unwrap_or_default();
        let host: u8 = host.parse().unwrap_or_default();
        format!("{network}.{}", if host < 50 { host + 50 } else { host - 100 })
    };
    for (name, links) in &cluster.links {
        for (link, interface) in links.iter().zip(["eth0", "eth1"]) {
            cluster.add(name, &other(link), interface)?;
        }
    }
    let all = cluster.with(|_, links| *links = links.iter().map(|link| other(link)).collect());
    cluster.apply("other addresses of all nodes on both networks", all, "lan")?;
    let both = cluster.links.clone();
    cluster.apply("the first network goes", cluster.with(|_, links| drop(links.remove(0))), "lan")?;
    cluster.apply("it comes back", both.clone(), "lan")?;
    cluster.apply("the links of all in another order", cluster.with(|_, links| links.reverse()), "lan")?;
    cluster.apply("another profile", cluster.links.clone(), "wan")?;
    Ok(())
}

#[test]
fn addresses_networks_and_profile_of_three_nodes_change_and_nobody_notices() -> Result<()> {
    change_everything(3)
}

#[test]
fn addresses_networks_and_profile_of_two_nodes_and_a_witness_change_and_nobody_notices() -> Result<()> {
    change_everything(2)
}

#[test]
fn addresses_networks_and_profile_of_five_nodes_change_and_nobody_notices() -> Result<()> {
    change_everything(5)
}

#[test]
fn addresses_networks_and_profile_of_one_node_change_and_nobody_notices() -> Result<()> {
    change_everything(1)
}

/// An address that its node has and that nobody reaches takes nothing away, says what to do, and there is a way back.
#[test]
fn an_address_that_carries_nothing_takes_nothing_away() -> Result<()> {
    let cluster = Changing::up(3)?;
    let (since, workers, before) = (now_us(), cluster.workers()?, cluster.status()?);
    let version = before["config_version"].as_u64().unwrap_or(0);
    cluster.add("c", "10.99.9.3", "eth0")?;
    cluster.add("c", "10.99.8.3", "eth1")?;
    let links = cluster.with(|name, links| {
        if name == "c" {
            *links = vec!["10.99.9.3".to_owned(), "10.99.8.3".to_owned()];
        }
    });
    let file = cluster.lab.write("next.toml", &cluster.file(&links, "lan"))?;
    cluster.lab.node("a").must(&["apply", &file, "--yes"])?;
    let problem = |name: &str| -> Result<String, String> {
        let status = cluster.lab.node(name).status().map_err(|error| format!("{error:#}"))?;
        Ok(status["problems"].to_string())
    };
    let back = format!("cardea rollback {version}");
    for name in ["a", "b", "c"] {
        until("the doubt is a problem", || {
            let problems = problem(name)?;
            let is_said = ["10.99.9.3", "10.99.8.3", "the former ones stay in use", &back]
                .iter()
                .all(|word| problems.contains(word));
            if is_said { Ok(()) } else { Err(problems) }
        })?;
    }
    cluster.expect_calm("an address that carries nothing", since, &workers, &before)?;

    // The next worker knows of it as well, though its log may not.
    let worker = cluster.lab.worker("c")?;
    e2e::processes::kill(&worker);
    until("another worker is heard", || {
        let now = cluster.lab.worker("c").map_err(|error| error.to_string())?;
        if now.pid == worker.pid {
            return Err("it is still the old one".to_owned());
        }
        let problems = problem("c")?;
        if problems.contains("the former ones stay in use") { Ok(()) } else { Err(problems) }
    })?;
    let (since, workers, before) = (now_us(), cluster.workers()?, cluster.status()?);

    cluster.lab.node("a").must(&["rollback", &version.to_string(), "--yes"])?;
    for name in ["a", "b", "c"] {
        until("all is well again", || {
            let (problems, former) = (problem(name)?, cluster.former(name)?);
            if problems == "[]" && former.is_empty() { Ok(()) } else { Err(format!("{problems} {former:?}")) }
        })?;
    }
    cluster.expect_calm("the way back", since, &workers, &before)
}

/// A profile counts as soon as it is applied, for a lab that begins with it, and after all machines lost their power.
#[test]
fn a_node_that_stands_still_for_most_of_a_second_is_not_lost_with_longer_times() -> Result<()> {
    let mut cluster = Changing::up(3)?;
    cluster.apply("times for several sites", cluster.links.clone(), "wan")?;
    stand_still(&cluster.lab)?;
    cluster.lab.must(&["crash", "--all"])?;
    cluster.lab.must(&["start", "a", "b", "c"])?;
    cluster.lab.wait_until_whole()?;
    stand_still(&cluster.lab)?;
    let file = cluster.file(&cluster.links, "cloud");
    drop(cluster);

    let lab = Lab::with_file(&file)?;
    lab.wait_until_whole()?;
    stand_still(&lab)
}

fn stand_still(lab: &Lab) -> Result<()> {
    let since = now_us();
    let serving = lab.place_of("web")?;
    let leader = lab.leader()?.name;
    let still = lab.names()?.into_iter().find(|name| *name != leader && *name != serving).unwrap_or(serving);
    lab.must(&["freeze", &still])?;
    std::thread::sleep(Duration::from_millis(800));
    lab.must(&["thaw", &still])?;
    lab.wait_until_whole()?;
    let verdicts = lab.events_of(&["suspect", "condemned", "fence-called"], since)?;
    ensure!(verdicts.is_empty(), "{verdicts:?}\n{}", lab.logs());
    Ok(())
}

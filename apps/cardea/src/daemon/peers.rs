//! What do other daemons ask over their TLS streams, and what does a node that wants to join?
//!
//! A request of an operator is passed on to the leader's daemon; so is a join, with the proof that belongs to its
//! connection, since only the leader can admit. Messages of the node machines are handed to the worker's loop.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::{ClusterState, MemberState, NodeConfig, NodeId, NodeName, NodeRole};
use node::Answer as NodeAnswer;
use serde::{Deserialize, Serialize};
use state::Command;
use transport::{Answer, Authority, Handler, JoinRequest, Renewal, Streams, StreamsConfig, StreamsHandle};

use super::node_file::{NodeFile, PulseFile, PulsePeer};
use super::own_links::{self, Has, Interface};
use super::worker::{Hub, Work};
use super::{examine, http};

/// How long the leader may take over a join.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// The longest id of a storage or machine, in bytes.
const ID_BYTES_MAX: usize = 128;

/// What a joining node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinDetails {
    /// Its name.
    pub name: String,
    /// Its address on each network.
    pub links: Vec<IpAddr>,
    /// The identity of its storage.
    pub storage_uuid: String,
    /// Its machine id.
    pub machine_id: String,
    /// The addresses of its interfaces; an older program does not say.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
}

/// Everything that a new member needs.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinGrant {
    /// Who it is now.
    pub node: NodeFile,
    /// Where the others are.
    pub pulse: PulseFile,
    /// Its certificate, DER in base64.
    pub certificate: String,
    /// The cluster's heartbeat key, in base64.
    pub cluster_key: String,
    /// The authority's key, PKCS #8 DER in base64; witnesses do not get it.
    pub authority_key: Option<String>,
}

/// What one daemon asks another.
#[derive(Serialize, Deserialize)]
enum Question {
    Request(serde_json::Value),
    Join {
        request: String,
        exporter: [u8; 32],
    },
    Renew {
        certificate_request: String,
    },
    Examine {
        text: String,
    },
    /// What is wrong, as the other one sees it.
    Problems,
    /// Does the asked node have these addresses?
    Links {
        wanted: Vec<IpAddr>,
    },
}

struct Peers {
    hub: Arc<Hub>,
    runtime: tokio::runtime::Handle,
}

/// Listens for the other members, and for nodes that want to join.
pub fn start(hub: &Arc<Hub>, config: StreamsConfig) -> anyhow::Result<StreamsHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handler = Arc::new(Peers { hub: hub.clone(), runtime: runtime.handle().clone() });
    std::thread::Builder::new()
        .name("peers".into())
        .stack_size(512 * 1024)
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Streams::start(config, handler).context("cannot listen for the other members")
}

impl Handler for Peers {
    fn on_message(&self, from: NodeId, bytes: Vec<u8>) {
        if let Ok(message) = wire::decode(&bytes) {
            self.hub.tell(Work::Message { from, message });
        }
    }

    fn on_newcomer(&self, node: NodeId, address: IpAddr) {
        self.hub.tell(Work::Newcomer { node, address });
    }

    fn on_request(&self, from: NodeId, request: Vec<u8>, answer: Answer) {
        let hub = self.hub.clone();
        self.runtime.spawn(async move {
            let said = match serde_json::from_slice(&request) {
                Ok(Question::Request(forwarded)) => http::on_forwarded(&hub, from, forwarded).await,
                Ok(Question::Join { request, exporter }) => match may_pass_on(&hub.picture().view.state, from) {
                    Ok(()) => pack(admit_encoded(&hub, &request, &exporter).await),
                    Err(why) => pack::<()>(Err(anyhow!(why))),
                },
                Ok(Question::Examine { text }) => match may_pass_on(&hub.picture().view.state, from) {
                    Ok(()) => pack(examine(&hub, text).await),
                    Err(why) => pack::<()>(Err(anyhow!(why))),
                },
                Ok(Question::Renew { certificate_request }) => pack(renew_for(&hub, from, &certificate_request)),
                Ok(Question::Problems) => pack(Ok(hub.board().say(&hub.picture().view))),
                Ok(Question::Links { wanted }) => pack(has_links(&hub, from, &wanted)),
                Err(cause) => pack::<()>(Err(anyhow!("not a question: {cause}"))),
            };
            answer.send(said);
        });
    }

    fn on_join(&self, request: Vec<u8>, exporter: [u8; 32], answer: Answer) {
        let hub = self.hub.clone();
        self.runtime.spawn(async move { answer.send(pack(join(&hub, &request, exporter).await)) });
    }
}

/// Only a member that takes part and may run things passes on what operators and joining nodes ask: whoever can do
/// that can do everything. The certificate says which node it is; what it is, the agreed state says.
pub fn may_pass_on(state: &ClusterState, node: NodeId) -> Result<(), String> {
    let name = state.name_of(node);
    match state.members.get(&node).map(|member| (member.role, member.state)) {
        Some((NodeRole::Member, MemberState::Online)) => Ok(()),
        Some((NodeRole::Witness, _)) => {
            Err(format!("{name} is a witness, which may ask for nothing; ask on a member that runs resources"))
        }
        Some((NodeRole::Member, state)) => Err(format!("{name} is {state:?} and may ask for nothing")),
        None => Err(format!("node {node} is no member")),
    }
}

/// A result as bytes: whoever asked gets the reason of a failure as text.
fn pack<T: Serialize>(result: anyhow::Result<T>) -> Vec<u8> {
    let result: Result<T, String> = result.map_err(|cause| format!("{cause:#}"));
    serde_json::to_vec(&result).expect("answers are plain data")
}

/// Reads what [`pack`] wrote.
pub fn unpack<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> anyhow::Result<T> {
    let result: Result<T, String> = serde_json::from_slice(bytes).context("the answer makes no sense")?;
    result.map_err(|text| anyhow!(text))
}

/// A forwarded operator's request as bytes for [`Hub::ask_peer`].
pub fn request_question(forwarded: serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(&Question::Request(forwarded)).expect("questions are plain data")
}

/// The question what a node's agents do not take of a file, as bytes for [`Hub::ask_peer`].
pub fn examine_question(text: String) -> Vec<u8> {
    serde_json::to_vec(&Question::Examine { text }).expect("questions are plain data")
}

async fn examine(hub: &Arc<Hub>, text: String) -> anyhow::Result<Vec<agents::Misfit>> {
    let own = NodeName(hub.picture().view.state.name_of(hub.own()));
    examine::here(hub.paths().root(), own, text).await.map_err(|why| anyhow!(why))
}

/// The question for another node's problems as bytes for [`Hub::ask_peer`].
pub fn problems_question() -> Vec<u8> {
    serde_json::to_vec(&Question::Problems).expect("questions are plain data")
}

/// A question about a node's own addresses as bytes for [`Hub::ask_peer`].
pub fn links_question(wanted: &[IpAddr]) -> Vec<u8> {
    serde_json::to_vec(&Question::Links { wanted: wanted.to_vec() }).expect("questions are plain data")
}

/// What this machine has, for another member.
fn has_links(hub: &Hub, from: NodeId, wanted: &[IpAddr]) -> anyhow::Result<Has> {
    if !hub.picture().view.state.members.contains_key(&from) {
        bail!("node {from} is no member");
    }
    if wanted.len() > config::LINKS_MAX {
        bail!("a node has at most {} links", config::LINKS_MAX);
    }
    own_links::here(wanted).context("cannot find out which addresses this machine has")
}

/// Refuses links that do not fit those of the members, before the file is asked.
fn refuse_unfitting_links(state: &ClusterState, details: &JoinDetails, role: NodeRole) -> anyhow::Result<()> {
    let name = &details.name;
    let members = || state.config.nodes.iter().filter(|(other, node)| other.as_str() != name && !node.links.is_empty());
    let full = members().filter(|(_, node)| node.role == NodeRole::Member).max_by_key(|(_, node)| node.links.len());
    if let (NodeRole::Member, Some((other, node))) = (role, full)
        && node.links.len() != details.links.len()
    {
        let list: Vec<String> = node.links.iter().map(ToString::to_string).collect();
        bail!(
            "{name} comes with {}, and the members have {}\n  give one `--link ADDRESS` of {name} for each network, in \
             this order: {other} has {}",
            links_counted(details.links.len()),
            links_counted(node.links.len()),
            list.join(", ")
        );
    }
    let others = members().map(|(other, node)| (other.as_str(), node.links.as_slice()));
    let has = Has { missing: Vec::new(), interfaces: details.interfaces.clone() };
    own_links::judge(name, &details.links, &has, others).map_err(|wrong| anyhow!("{wrong}\n  {}", wrong.next()))
}

fn links_counted(count: usize) -> String {
    if count == 1 { "1 link".to_owned() } else { format!("{count} links") }
}

async fn join(hub: &Arc<Hub>, request: &[u8], exporter: [u8; 32]) -> anyhow::Result<JoinGrant> {
    let picture = hub.picture();
    match picture.view.leader.filter(|_| picture.view.is_quorate) {
        None => bail!("this member does not belong to a majority; join by a member that does"),
        Some(_) if may_pass_on(&picture.view.state, hub.own()).is_err() => {
            bail!("this is a witness, which lets nobody in; join by a member that runs resources")
        }
        Some(leader) if leader == hub.own() => admit(hub, request, &exporter).await,
        Some(leader) => {
            let question = Question::Join { request: BASE64.encode(request), exporter };
            let bytes = hub.ask_peer(leader, serde_json::to_vec(&question)?, JOIN_PATIENCE).await?;
            unpack(&bytes)
        }
    }
}

async fn admit_encoded(hub: &Arc<Hub>, request: &str, exporter: &[u8; 32]) -> anyhow::Result<JoinGrant> {
    let request = BASE64.decode(request).context("not base64")?;
    admit(hub, &request, exporter).await
}

/// Admits a node, if its token is good: the leader's part of a join.
async fn admit(hub: &Arc<Hub>, request: &[u8], exporter: &[u8; 32]) -> anyhow::Result<JoinGrant> {
    let request = JoinRequest::parse(request).ok_or_else(|| anyhow!("the request to join makes no sense"))?;
    let view = hub.picture().view.clone();
    let state = &view.state;
    let token = state
        .tokens
        .get(&request.token)
        .ok_or_else(|| anyhow!("this token is unknown, used up or burnt; make a new one with `cardea token create`"))?;
    if !request.is_proven(&token.secret_hash, exporter) {
        let _ = propose(hub, Command::WrongToken { id: request.token }).await;
        bail!("the token's secret is wrong; copy the token whole");
    }
    if token.expires < host::identity::wall() {
        bail!("this token has expired; make a new one with `cardea token create`");
    }
    let details: JoinDetails =
        serde_json::from_slice(&request.details).context("the request to join makes no sense")?;
    if details.storage_uuid.len() > ID_BYTES_MAX || details.machine_id.len() > ID_BYTES_MAX {
        bail!("the request to join makes no sense: its ids are too long");
    }
    let authority = Authority::load(&hub.paths().identity())?
        .ok_or_else(|| anyhow!("the leader has no authority key (it is a witness); `cardea lead NODE` first"))?;
    // What the joiner becomes is bound to its token.
    let role = token.role;
    let is_witness = role == NodeRole::Witness;
    let name = NodeName(details.name.clone());
    refuse_unfitting_links(state, &details, role)?;
    let current = state.config_history.back().map(|record| record.text.clone()).unwrap_or_default();
    let wanted = NodeConfig { links: details.links.clone(), role, ..NodeConfig::default() };
    let text = config::add_node(&current, &name, &wanted).map_err(|found| {
        let first = found.first().map(|diagnostic| diagnostic.message.clone()).unwrap_or_default();
        anyhow!("the cluster file does not take {name}: {first}\n  write [nodes.{name}] with its fence devices into the cluster file, apply it, and join again")
    })?;
    let parsed = config::parse(&text).map_err(|_| anyhow!("the cluster file is not valid any more"))?;
    let command = Command::Admit {
        name: name.clone(),
        role,
        storage_uuid: details.storage_uuid.clone(),
        machine_id: details.machine_id.clone(),
        config_text: text,
        config: Box::new(parsed.config.clone()),
        expected_version: state.config_version,
        token: Some(request.token),
    };
    let id = NodeId(propose(hub, command).await?);
    let certificate = transport::issue(&authority, &request.certificate_request, id, hub.cluster())?;
    let links = |name: &NodeName| parsed.config.nodes.get(name).map(|node| node.links.clone()).unwrap_or_default();
    Ok(JoinGrant {
        node: NodeFile {
            version: 1,
            cluster: hub.cluster(),
            cluster_name: state.config.name.clone(),
            id: id.0,
            name: details.name,
            storage_uuid: details.storage_uuid,
            is_witness,
        },
        pulse: PulseFile {
            version: 1,
            profile: state.config.profile,
            config_version: id.0,
            own: details.links,
            own_former: Vec::new(),
            peers: state
                .members
                .iter()
                .map(|(id, member)| PulsePeer {
                    id: id.0,
                    links: links(&member.name),
                    former: Vec::new(),
                    incarnation: Some(member.incarnation.0).filter(|known| *known != 0),
                })
                .collect(),
            voters: view.voters.iter().map(|id| id.0).collect(),
        },
        certificate: BASE64.encode(certificate),
        cluster_key: BASE64.encode(hub.key().bytes()),
        authority_key: (!is_witness).then(|| BASE64.encode(authority.key())),
    })
}

/// Puts a command of a join into the log; the index of its entry.
async fn propose(hub: &Arc<Hub>, command: Command) -> anyhow::Result<u64> {
    match http::ask_node(hub, node::Request::Propose(Box::new(command)), "join".to_owned()).await {
        Ok(NodeAnswer::Done { index }) => Ok(index),
        Ok(NodeAnswer::Refused(why)) => bail!("{why}"),
        Ok(NodeAnswer::NotLeader { .. } | NodeAnswer::FenceTests(_)) => bail!("the leader has just changed; try again"),
        Err(refused) => bail!("{}", refused.message),
    }
}

/// A new certificate for a member whose own gets old.
fn renew_for(hub: &Arc<Hub>, node: NodeId, certificate_request: &str) -> anyhow::Result<String> {
    if !hub.picture().view.state.members.contains_key(&node) {
        bail!("node {node} is no member");
    }
    let authority =
        Authority::load(&hub.paths().identity())?.ok_or_else(|| anyhow!("this member has no authority key"))?;
    let request = BASE64.decode(certificate_request).context("not base64")?;
    Ok(BASE64.encode(transport::issue(&authority, &request, node, hub.cluster())?))
}

/// Renews this node's certificate when its time has come: looks now and then once a day.
pub fn keep_renewed(hub: &Arc<Hub>, streams: &StreamsHandle) -> anyhow::Result<()> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const AGAIN: Duration = Duration::from_secs(600);
    let (hub, streams) = (hub.clone(), streams.clone());
    std::thread::Builder::new().name("renewal".into()).stack_size(256 * 1024).spawn(move || {
        loop {
            let pause = match renew(&hub, &streams) {
                Ok(()) => DAY,
                Err(cause) => {
                    tracing::warn!("this node's certificate could not be renewed: {cause:#}; it is tried again");
                    AGAIN
                }
            };
            std::thread::sleep(pause);
        }
    })?;
    Ok(())
}

/// A voter signs for itself; a witness asks the leader.
fn renew(hub: &Arc<Hub>, streams: &StreamsHandle) -> anyhow::Result<()> {
    let renewed = match transport::renew(&hub.paths().identity())? {
        Renewal::NotDue => return Ok(()),
        Renewal::Done(renewed) => *renewed,
        Renewal::NeedsVoter(identity) => {
            let leader = hub.picture().view.leader.ok_or_else(|| anyhow!("nobody leads"))?;
            let question = Question::Renew { certificate_request: BASE64.encode(identity.request()?) };
            let bytes = streams.request(leader, serde_json::to_vec(&question)?, JOIN_PATIENCE).wait()?;
            let renewed = identity.renewed(&BASE64.decode(unpack::<String>(&bytes)?)?)?;
            renewed.save(&hub.paths().identity())?;
            renewed
        }
    };
    streams.set_identity(&renewed)?;
    tracing::info!("this node's certificate was renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{B, C, W, change, view};
    use super::*;

    #[test]
    fn only_online_members_that_run_resources_pass_something_on() {
        let mut view = view();
        change(&mut view, |state| state.members.get_mut(&C).expect("c").state = MemberState::Left);
        assert_eq!(may_pass_on(&view.state, B), Ok(()));
        assert!(may_pass_on(&view.state, W).is_err_and(|why| why.contains("witness")));
        assert!(may_pass_on(&view.state, C).is_err_and(|why| why.starts_with("c is")));
        assert!(may_pass_on(&view.state, NodeId(77)).is_err_and(|why| why.contains("no member")));
    }

    /// Says what is wrong with the links of a joining node, and never speaks of anything else.
    #[test]
    fn links_that_do_not_fit_those_of_the_members_are_refused_with_the_right_ones() {
        let view = view();
        let judged = |links: &[&str], interfaces: &[&str], role: NodeRole| {
            let ip = |text: &&str| -> IpAddr { text.parse().expect("an address") };
            let interface = |text: &&str| Interface { name: "eth0".to_owned(), address: ip(text), prefix: 24 };
            let details = JoinDetails {
                name: "d".to_owned(),
                links: links.iter().map(ip).collect(),
                storage_uuid: "d".to_owned(),
                machine_id: "d".to_owned(),
                interfaces: interfaces.iter().map(interface).collect(),
            };
            refuse_unfitting_links(&view.state, &details, role).map_err(|cause| format!("{cause:#}"))
        };
        let (both, member) = (["10.0.0.5", "10.0.1.5"], NodeRole::Member);
        assert_eq!(judged(&both, &both, member), Ok(()));
        assert_eq!(judged(&both, &[], member), Ok(()), "an older program does not say what it has");
        let one = judged(&both[..1], &both, member).expect_err("one is missing");
        assert!(one.contains("d comes with 1 link, and the members have 2 links"), "{one}");
        assert!(one.contains("--link ADDRESS") && one.contains("10.0.0.") && one.contains("10.0.1."), "{one}");
        assert_eq!(judged(&both[..1], &both, NodeRole::Witness), Ok(()), "a witness may have fewer");
        let swapped = judged(&["10.0.1.5", "10.0.0.5"], &both, member).expect_err("the other way round");
        assert!(swapped.contains("not in the same order") && swapped.contains("links of d"), "{swapped}");
    }
}

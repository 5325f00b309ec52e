//! What do sealing, a question and two connected peers cost? Prints microseconds and memory.
//!
//! `cargo run --release -p transport --example costs`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{LinkId, NodeId};
use transport::{
    AllowList, Answer, ClusterKey, Handler, Identity, Label, NodeKey, Opener, Sealer, Streams, StreamsConfig,
    create_authority, issue,
};

struct Echo;

impl Handler for Echo {
    fn on_newcomer(&self, _from: NodeId, _address: IpAddr) {}
    fn on_message(&self, _from: NodeId, _message: Vec<u8>) {}
    fn on_request(&self, _from: NodeId, request: Vec<u8>, answer: Answer) {
        answer.send(request);
    }
    fn on_join(&self, _request: Vec<u8>, _exporter: [u8; 32], _answer: Answer) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = ClusterKey::generate();
    let (mut sealer, mut opener) = (Sealer::new(&key), Opener::new(&key));
    let (a, b, link) = (NodeId(1), NodeId(2), LinkId(0));
    let header = [7; 40];
    let mut body = Vec::with_capacity(300);
    let rounds = 200_000;
    let before = Instant::now();
    for seq in 0..rounds {
        body.clear();
        body.extend_from_slice(&[1; 200]);
        sealer.seal(Label::Beat, a, b, 9, link, seq, &header, &mut body);
        opener.open(Label::Beat, a, b, 9, link, seq, &header, &mut body).ok_or("it opens")?;
    }
    println!("seal and open: {:.2} µs", before.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    let before = Instant::now();
    for salt in 0..10_000 {
        opener.open(Label::Beat, a, b, salt + 10, link, 1, &header, &mut body);
    }
    println!("refuse a made-up session: {:.2} µs", before.elapsed().as_secs_f64() * 1e6 / 1e4);

    memory("before streams")?;
    let authority = create_authority(1)?;
    let nodes: Vec<_> = (1..=3)
        .map(|node| {
            let own = NodeKey::generate()?;
            let certificate = issue(&authority, &own.request()?, NodeId(node), 1)?;
            let identity = Identity::new(authority.certificate(), &certificate, &own, key.clone())?;
            let config =
                StreamsConfig { listen: vec!["127.0.0.1:0".parse()?], identity, allowed: AllowList::default() };
            Ok::<_, Box<dyn std::error::Error>>(Streams::start(config, Arc::new(Echo))?)
        })
        .collect::<Result<_, _>>()?;
    for node in &nodes {
        node.set_peers((1..=3).map(NodeId).zip(nodes.iter().map(|n| n.listening())).collect::<BTreeMap<_, _>>());
    }
    memory("three nodes in one process")?;
    for node in &nodes {
        (1..=3).for_each(|to| {
            node.send(NodeId(to), vec![1; 1000]);
        });
    }
    let mut took = Vec::new();
    for _ in 0..100 {
        let before = Instant::now();
        nodes[0].request(b, vec![1; 300], Duration::from_secs(5)).wait()?;
        took.push(before.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    println!("a question and its answer: median {:.2} ms, worst {:.2} ms", took[50], took[99]);
    memory("with all connections")
}

fn memory(when: &str) -> Result<(), Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    println!("{when}: {} resident, {} of it private", of("VmRSS:"), of("RssAnon:"));
    Ok(())
}

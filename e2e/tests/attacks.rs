//! Can a user without rights, or a member of low rank, do more than it may?

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::{Lab, Node, cluster_file, now_us, skip_without_root, until};
use rustix::process::{Resource, Rlimit, Uid};
use serde_json::{Value, json};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

/// What says that somebody was taken for dead.
const VERDICTS: [&str; 4] = ["suspect", "condemned", "fence-called", "fenced"];

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip_without_root("attacks of another user");
    }
    is_root
}

/// Lets every user reach this file, as on a real machine: labs lie in folders of their own.
fn open_the_way_to(path: &Path) -> Result<()> {
    for folder in path.ancestors().skip(1).take_while(|folder| folder.parent().is_some()) {
        let mode = folder.metadata()?.permissions().mode();
        if mode & 0o011 != 0o011 {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | 0o011))?;
        }
    }
    Ok(())
}

/// Runs this as a user without rights.
fn as_nobody<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<Result<T>> {
    std::thread::spawn(move || {
        let nobody = Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
        Ok(act())
    })
}

fn socket_of(node: &Node) -> Result<PathBuf> {
    let socket = node.root.join("run/cardea/api.sock");
    open_the_way_to(&socket)?;
    Ok(socket)
}

/// Sends a question and reads what comes back until the daemon closes.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn answers_at_once(node: &Node) -> Result<Value> {
    let begun = Instant::now();
    let status = node.status()?;
    assert!(begun.elapsed() < Duration::from_secs(1), "root waited {:?}", begun.elapsed());
    Ok(status)
}

#[test]
fn a_thousand_idle_connections_of_a_local_user_change_nothing() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    let (node, service) = (lab.node(&place), lab.running(&place, "web"));
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let socket = socket_of(&node)?;
    let over = Arc::new(AtomicBool::new(false));
    let attack = {
        let over = over.clone();
        as_nobody(move || {
            let mut open = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                open.extend(UnixStream::connect(&socket));
                if open.len() > 1000 {
                    open.pop_front();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            open.len()
        })
    };
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(200));
        answers_at_once(&node)?;
    }
    over.store(true, Ordering::Relaxed);
    let opened = attack.join().expect("the attacker lives")?;
    assert_eq!(opened, 1000);
    assert_eq!((lab.place_of("web")?, lab.running(&place, "web")), (place, service));
    let verdicts = lab.events_of(&VERDICTS, since)?;
    assert!(verdicts.is_empty(), "{verdicts:?}");
    Ok(())
}

#[test]
fn large_questions_keep_nobody_waiting_and_are_not_for_everybody() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let node = lab.leader()?;
    let socket = socket_of(&node)?;
    let plan = |resources: usize| {
        let services: String = (0..resources)
            .map(|number| format!("[resources.r{number}]\nagent = \"cardea:process\"\ncommand = [\"x\"]\n"))
            .collect();
        json!({ "text": cluster_file(&["a", "b", "c"], &services) }).to_string()
    };
    let (large, own) = (plan(900), socket.clone());
    let asked = std::thread::spawn(move || ask(&own, "POST", "/v1/plan", &large));
    for _ in 0..20 {
        answers_at_once(&node)?;
    }
    let answer = asked.join().expect("the asker lives")?;
    assert!(answer.starts_with("HTTP/1.1 200") || answer.contains("busy"), "{answer}");
    let why: Vec<String> = (0..20_000).map(|_| "web".to_owned()).collect();
    let endless = ask(&socket, "POST", "/v1/what-if", &json!({ "what_if": [], "why": why }).to_string())?;
    assert!(endless.starts_with("HTTP/1.1 403"), "{endless}");
    if is_root() {
        let (large, small, own) = (plan(900), plan(3), socket.clone());
        let said = as_nobody(move || {
            let ask = |text: &str| ask(&own, "POST", "/v1/plan", text);
            (ask(&large), ask(&small))
        });
        let (large, small) = said.join().expect("the asker lives")?;
        assert!(large?.starts_with("HTTP/1.1 403"));
        assert!(small?.starts_with("HTTP/1.1 200"));
    }
    Ok(())
}

#[test]
fn secrets_do_not_get_into_the_cluster_file_and_the_file_is_not_for_everybody() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let node = lab.leader()?;
    let file = cluster_file(&["a", "b", "c"], "")
        .replace("agent = \"fence_lab\"\n", "agent = \"fence_lab\"\npassword = \"hush\"\n");
    let path = lab.write("secret.toml", &file)?;
    for words in [["check", &path], ["apply", &path]] {
        let said = node.cardea(&words)?;
        assert_ne!(said.exit_status, Some(0), "{said:?}");
        let told = said.out + &said.err;
        assert!(told.contains("password = { file = \"/etc/cardea/secrets/"), "{told}");
    }
    until("the copy is written", || {
        let data = node.root.join("etc/cardea/cluster.toml").metadata().map_err(|error| error.to_string())?;
        match data.permissions().mode() & 0o777 {
            0o640 => Ok(()),
            mode => Err(format!("{mode:o}")),
        }
    })
}

#[test]
fn a_witness_may_ask_for_nothing_and_history_names_who_passed_a_request_on() -> Result<()> {
    let lab = Lab::up(&["--nodes", "2"])?;
    lab.wait_until_whole()?;
    let leader = lab.leader()?.name;
    let witness = lab.node("w");
    if leader != "w" {
        let said = witness.cardea(&["token", "create"])?;
        assert_eq!(said.exit_status, Some(1), "{said:?}");
        assert!(said.err.contains("witness"), "{said:?}");
    }
    let other = ["a", "b"].into_iter().find(|name| *name != leader).context("there are two")?;
    lab.node(other).must(&["maintenance", "--reason", "bell\u{7} and \u{1b}[2J screen"])?;
    let history = lab.node(&leader).api().get("/v1/history?limit=5")?;
    let entries = history.as_array().cloned().unwrap_or_default();
    let entry = entries.iter().find(|entry| entry["reason"].as_str().is_some_and(|why| why.contains("bell")));
    let entry = entry.with_context(|| format!("no such entry in {history}"))?;
    let told = entry.to_string();
    assert!(told.contains(&format!("via {other}")), "{told}");
    assert!(!told.contains("\\u001b") && !told.contains("\\u0007"), "{told}");
    Ok(())
}

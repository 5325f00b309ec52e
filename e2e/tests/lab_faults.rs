//! Does each fault of the lab do what its name says, no more, and until it is healed?

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::{Lab, until};
use serde_json::{Value, json};

/// What every node of these labs does instead of running a daemon.
const IDLE: [&str; 2] = ["sleep", "1000"];

/// Waits for a datagram until it is there, or until a moment after the sender has ended.
const LISTENER: &str = "\
import os, socket, sys
address, heard, sent = sys.argv[1:]
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind((address, 9999))
listener.settimeout(0.2)
open(heard, 'w').write('ready')
said = 'silence'
is_over = False
while said == 'silence' and not is_over:
    is_over = os.path.exists(sent)
    try:
        listener.recv(9)
        said = 'heard'
    except OSError:
        pass
open(heard, 'w').write(said)
";

const SENDER: &str = "\
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3): sender.sendto(b'x', (sys.argv[1], 9999))
";

/// Does a datagram get from one node to the other? Both know each other's hardware address, so that what is tested is one
/// direction alone.
fn arrives(lab: &Lab, from: &str, (to, address): (&str, &str)) -> Result<bool> {
    let (heard, sent) = (lab.dir().join("heard"), lab.dir().join("sent"));
    for file in [&heard, &sent] {
        let _ = std::fs::remove_file(file);
    }
    let said = || std::fs::read_to_string(&heard).unwrap_or_default();
    let (heard_at, sent_at) = (heard.to_string_lossy().into_owned(), sent.to_string_lossy().into_owned());
    std::thread::scope(|scope| -> Result<()> {
        let listener = scope.spawn(|| lab.exec(to, &["python3", "-c", LISTENER, address, &heard_at, &sent_at]));
        let listens = until("somebody listens", || if said().is_empty() { Err("nobody".to_owned()) } else { Ok(()) });
        let done = listens.and_then(|()| lab.exec(from, &["python3", "-c", SENDER, address])?.ok().map(|_| ()));
        std::fs::write(&sent, "")?;
        listener.join().expect("the listener does not panic")?.ok()?;
        done
    })?;
    Ok(said() == "heard")
}

/// Tells every node the hardware addresses of the others.
fn introduce(lab: &Lab) -> Result<()> {
    let mut known = Vec::new();
    for (host, node) in (1..).zip(["a", "b", "c"]) {
        let shown = lab.exec(node, &["ip", "-o", "link", "show", "eth0"])?.ok()?.out;
        let hardware = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        known.push((node, format!("10.77.1.{host}"), hardware.context("an address")?.to_owned()));
    }
    for (node, ..) in &known {
        for (_, address, hardware) in known.iter().filter(|(other, ..)| other != node) {
            let words = ["ip", "neigh", "replace", address, "lladdr", hardware, "dev", "eth0", "nud", "permanent"];
            lab.exec(node, &words)?.ok()?;
        }
    }
    Ok(())
}

#[test]
fn what_is_lost_is_lost_in_one_direction_until_it_is_healed() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "3"], &IDLE)?;
    let said = lab.lab(&["deaf", "c"])?;
    if said.exit_status != Some(0) {
        assert!(said.err.contains("nft"), "a refusal names what is missing: {}", said.err);
        e2e::skip("losing packets", said.err.trim());
        return Ok(());
    }
    introduce(&lab)?;
    let [a, b, c] = [("a", "10.77.1.1"), ("b", "10.77.1.2"), ("c", "10.77.1.3")];
    let arrives = |from: (&str, &str), to| arrives(&lab, from.0, to);
    let faults = |node: usize| -> Result<Value> { Ok(lab.lab_status()?["nodes"][node]["faults"].clone()) };
    assert_eq!((faults(0)?, faults(2)?), (json!([]), json!(["deaf"])));
    assert!(!arrives(a, c)?, "who is deaf hears nobody");
    assert!(arrives(c, a)?, "and is heard");
    assert!(arrives(a, b)?, "the others hear each other");

    // Nothing but a repair ends a fault, a new boot neither.
    lab.must(&["crash", "c"])?;
    lab.must(&["start", "c"])?;
    introduce(&lab)?;
    assert!(!arrives(a, c)?);
    lab.must(&["heal", "c"])?;
    assert_eq!(faults(2)?, json!([]));
    assert!(arrives(a, c)?);

    lab.must(&["mute", "b"])?;
    assert!(!arrives(b, a)?, "who is mute is not heard");
    assert!(arrives(a, b)?, "and hears");
    lab.must(&["heal"])?;

    lab.must(&["cut", "a", "b", "--one-way"])?;
    assert_eq!(faults(1)?, json!(["does not hear a"]));
    assert!(!arrives(a, b)?);
    assert!(arrives(b, a)? && arrives(a, c)? && arrives(c, b)?);
    lab.must(&["cut", "a", "b"])?;
    assert!(!arrives(b, a)?, "without the word it is both ways");
    lab.must(&["heal", "a"])?;
    assert!(arrives(a, b)? && arrives(b, a)?, "either end heals it");

    lab.must(&["cut", "a"])?;
    lab.must(&["crash", "a"])?;
    lab.must(&["start", "a"])?;
    assert_eq!(lab.lab_status()?["nodes"][0]["links"][1]["state"], "cut", "a port stays closed while its node boots");
    introduce(&lab)?;
    assert!(!arrives(a, b)?);
    lab.must(&["heal"])?;
    assert!(arrives(a, b)?);
    Ok(())
}

#[test]
fn a_site_loses_power_at_once_and_one_machine_boots_late() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "3"], &IDLE)?;
    let power = || -> Result<Vec<String>> {
        let status = lab.lab_status()?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        Ok(nodes.iter().map(|node| node["power"].as_str().unwrap_or_default().to_owned()).collect())
    };
    lab.must(&["crash", "--all"])?;
    assert_eq!(power()?, ["off", "off", "off"]);
    lab.must(&["start", "a", "b"])?;
    lab.must(&["start", "c", "--boot-takes", "2s"])?;
    assert_eq!(power()?, ["on", "on", "on"], "who boots has power");
    let sleeps = |node: &str| !lab.running(node, "1000").is_empty();
    until("a runs its daemon", || if sleeps("a") { Ok(()) } else { Err("no daemon".to_owned()) })?;
    assert!(!sleeps("c"), "c boots still");
    until("c runs its daemon", || if sleeps("c") { Ok(()) } else { Err("no daemon".to_owned()) })?;
    let said = lab.lab(&["crash"])?;
    assert_eq!(said.exit_status, Some(2), "all is said, not left out: {}", said.err);
    Ok(())
}

#[test]
fn a_node_that_reboots_itself_comes_back_and_one_that_halts_does_not() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "1"], &IDLE)?;
    let boot = || -> Result<Value> { Ok(lab.lab_status()?["nodes"][0]["boot_id"].clone()) };
    let before = boot()?;
    let call = |command: &str| {
        let script = format!("import ctypes\nctypes.CDLL(None).reboot({command})");
        lab.exec("a", &["python3", "-c", &script])
    };
    // The magic key would reach the machine that the lab runs on: it is blind in a node.
    lab.exec("a", &["sh", "-c", "test ! -e /proc/sysrq-trigger || echo b > /proc/sysrq-trigger"])?.ok()?;
    call("0x01234567")?;
    until("another boot", || {
        let status = lab.lab_status().map_err(|error| error.to_string())?;
        let node = &status["nodes"][0];
        if node["power"] == "on" && node["boot_id"] != before { Ok(()) } else { Err(status.to_string()) }
    })?;
    until("its daemon runs", || if lab.running("a", "1000").is_empty() { Err("none".to_owned()) } else { Ok(()) })?;
    call("0x4321fedc")?;
    until("it is off", || {
        let status = lab.lab_status().map_err(|error| error.to_string())?;
        if status["nodes"][0]["power"] == "off" { Ok(()) } else { Err(status.to_string()) }
    })?;
    Ok(())
}

/// An `off` that the lab acknowledged holds: services start elsewhere because of it.
#[test]
fn a_node_that_is_cut_off_while_it_reboots_stays_off() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "1"], &IDLE)?;
    let power = || -> Result<Value> { Ok(lab.lab_status()?["nodes"][0]["power"].clone()) };
    for round in 0..30 {
        std::thread::scope(|scope| -> Result<()> {
            let reboot = scope
                .spawn(|| lab.exec("a", &["python3", "-c", "import ctypes\nctypes.CDLL(None).reboot(0x01234567)"]));
            // Python takes some 20 ms to begin.
            std::thread::sleep(Duration::from_millis(2 * round));
            lab.must(&["crash", "a"])?;
            let at_once = power()?;
            // Its command ends with it, or finds it off.
            let _ = reboot.join();
            std::thread::sleep(Duration::from_millis(300));
            anyhow::ensure!(at_once == "off" && power()? == "off", "in round {round} it is on again");
            Ok(())
        })?;
        lab.must(&["start", "a"])?;
    }
    Ok(())
}

#[test]
fn a_worker_or_its_disk_hangs_while_its_heartbeats_go_on() -> Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.node("a");
    let worker = lab.worker("a")?;
    let states = || -> Vec<(String, char)> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", worker.pid)).into_iter().flatten().flatten();
        let read = |path: std::path::PathBuf| {
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            Some((name.to_owned(), rest.chars().next()?))
        };
        threads.filter_map(|thread| read(thread.path())).collect()
    };
    let standing =
        || states().iter().filter(|(_, state)| *state == 't').map(|(name, _)| name.clone()).collect::<Vec<_>>();
    lab.must(&["hang-disk", "a"])?;
    assert_eq!(standing(), ["disk"]);
    assert_eq!(lab.lab_status()?["nodes"][0]["faults"], json!(["hung disk"]));
    // The answer needs the disk.
    let mut asked = node.start(&["stop", "site"])?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(asked.try_wait()?.is_none(), "nothing is agreed without a disk");
    lab.must(&["heal"])?;
    assert_eq!(standing(), Vec::<String>::new());
    asked.wait()?;
    node.must(&["start", "site"])?;

    lab.must(&["hang-worker", "a"])?;
    assert_eq!(standing().len(), 1, "{:?}", states());
    assert!(states().iter().any(|(name, state)| name == "pulse" && *state != 't'), "{:?}", states());
    lab.must(&["heal"])?;
    assert_eq!(standing(), Vec::<String>::new());
    lab.wait_until_whole()?;
    lab.must(&["hang-worker", "a"])?;
    lab.must(&["crash", "a"])?;
    lab.must(&["start", "a"])?;
    lab.wait_until_whole()?;
    Ok(())
}

//! How does the cluster reach the lab's power switch? Through `fence_lab`, an agent that speaks the fence-agents
//! protocol: `name=value` lines on standard input, an exit status, words on standard output.
//!
//! Every address of the switch is asked at the same time and the first answer wins, so that a dead network costs
//! nothing. Exit status: 0 done (and on, for `status`), 2 off (for `status`), 1 failed.
//!
//! The same agent stands in for others (`fence_ipmilan`, …) that a cluster file names: under such a name it asks the
//! lab's switch, whatever address it is told. It starts with nothing but the standard library, because a failover waits
//! for it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::layout::POWER_SWITCH_PORT;

/// Longest time to a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Longest time from a question to its answer, unless `timeout` says otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Where a stand-in finds the lab's switch.
const STAND_IN_FILE: &str = "/run/cardea-lab/power-switch";

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Power switch of a Cardea lab">
  <longdesc>Cuts and gives power to the nodes of a lab made by `cardea lab up`.</longdesc>
  <vendor-url>https://www.apache.org/licenses/LICENSE-2.0</vendor-url>
  <parameters>
    <parameter name="action" unique="0" required="1">
      <content type="string" default="off"/>
      <shortdesc lang="en">What to do: on, off, reboot, status, monitor, list, metadata</shortdesc>
    </parameter>
    <parameter name="ip" unique="0" required="1">
      <content type="string"/>
      <shortdesc lang="en">Addresses of the switch, separated by commas; all are tried at once</shortdesc>
    </parameter>
    <parameter name="port" unique="0" required="1">
      <content type="string"/>
      <shortdesc lang="en">The plug: the node's name</shortdesc>
    </parameter>
    <parameter name="plug" unique="0" required="0" obsoletes="port">
      <content type="string"/>
      <shortdesc lang="en">The plug: the node's name</shortdesc>
    </parameter>
  </parameters>
  <actions>
    <action name="on" automatic="0"/>
    <action name="off"/>
    <action name="reboot"/>
    <action name="status"/>
    <action name="monitor"/>
    <action name="list"/>
    <action name="metadata"/>
  </actions>
</resource-agent>
"#;

/// Runs the agent under the name `called` with standard input as its parameters.
pub fn main(called: &str) -> ExitCode {
    let mut text = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut text) {
        eprintln!("could not read the parameters: {error}");
        return ExitCode::FAILURE;
    }
    let mut parameters = parse(&text);
    if called != "fence_lab"
        && let Ok(addresses) = std::fs::read_to_string(STAND_IN_FILE)
    {
        parameters.insert("ip".to_owned(), addresses.trim().to_owned());
    }
    match run(&parameters) {
        Ok(answer) => {
            print!("{}", answer.text);
            let _ = io::stdout().flush();
            ExitCode::from(answer.exit_status)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Answer {
    exit_status: u8,
    text: String,
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn run(parameters: &BTreeMap<String, String>) -> Result<Answer, String> {
    let action = parameters.get("action").or_else(|| parameters.get("option")).map_or("off", String::as_str);
    let done = |text: String| Ok(Answer { exit_status: 0, text });
    match action {
        "metadata" => done(METADATA.to_owned()),
        "status" => {
            let is_off = ask(parameters, "status")? == "off";
            let text = format!("Status: {}\n", if is_off { "OFF" } else { "ON" });
            Ok(Answer { exit_status: if is_off { 2 } else { 0 }, text })
        }
        "monitor" if plug(parameters).is_none() => {
            ask_switch(&addresses(parameters)?, "list\n", limit(parameters)).and_then(|_| done(String::new()))
        }
        "monitor" => ask(parameters, "status").and_then(|_| done(String::new())),
        "list" => {
            let answer = ask_switch(&addresses(parameters)?, "list\n", limit(parameters))?;
            done(answer.split_ascii_whitespace().map(|plug| format!("{plug},\n")).collect())
        }
        "off" => ask(parameters, "off").and_then(|_| done("Success: Powered OFF\n".to_owned())),
        "on" => ask(parameters, "on").and_then(|_| done("Success: Powered ON\n".to_owned())),
        "reboot" => {
            ask(parameters, "off")?;
            ask(parameters, "on")?;
            done("Success: Rebooted\n".to_owned())
        }
        other => Err(format!("unknown action `{other}`: say on, off, reboot, status, monitor, list or metadata")),
    }
}

fn plug(parameters: &BTreeMap<String, String>) -> Option<&str> {
    ["plug", "port", "nodename"].iter().find_map(|name| parameters.get(*name)).map(String::as_str)
}

fn limit(parameters: &BTreeMap<String, String>) -> Duration {
    parameters.get("timeout").and_then(|text| text.parse().ok()).map_or(ANSWER_LIMIT, Duration::from_secs)
}

fn addresses(parameters: &BTreeMap<String, String>) -> Result<Vec<SocketAddr>, String> {
    let text = parameters.get("ip").or_else(|| parameters.get("ipaddr")).ok_or("`ip` says where the switch is")?;
    let port = match parameters.get("ipport") {
        None => POWER_SWITCH_PORT,
        Some(text) => text.parse().map_err(|_| format!("`ipport` is no port: {text}"))?,
    };
    text.split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| match address.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, port)),
            Err(_) => address.parse().map_err(|_| format!("`{address}` is no IP address")),
        })
        .collect()
}

fn ask(parameters: &BTreeMap<String, String>, word: &str) -> Result<String, String> {
    let plug = plug(parameters).ok_or("`port` says which plug")?;
    if plug.contains(char::is_whitespace) {
        return Err(format!("`{plug}` is no plug"));
    }
    ask_switch(&addresses(parameters)?, &format!("{word} {plug}\n"), limit(parameters))
}

/// Asks all addresses at once; the first `ok` wins, else the last error. Who is left behind ends with the process.
fn ask_switch(addresses: &[SocketAddr], question: &str, limit: Duration) -> Result<String, String> {
    if let [only] = addresses {
        return ask_address(*only, question, limit);
    }
    let (sender, receiver) = mpsc::channel();
    for address in addresses {
        let (sender, question, address) = (sender.clone(), question.to_owned(), *address);
        thread::spawn(move || sender.send(ask_address(address, &question, limit)));
    }
    drop(sender);
    let mut last = "`ip` names no address".to_owned();
    for answer in receiver {
        match answer {
            Ok(word) => return Ok(word),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_address(address: SocketAddr, question: &str, limit: Duration) -> Result<String, String> {
    let failed = |error: io::Error| format!("no answer from the power switch {address}: {error}");
    let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    (&stream).write_all(question.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
    match line.trim_end().split_once(' ') {
        Some(("ok", word)) => Ok(word.to_owned()),
        Some(("error", reason)) => Err(format!("the power switch {address} refused: {reason}")),
        _ => Err(format!("the power switch {address} answered nonsense: {line:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A switch that answers one question and remembers it.
    fn switch(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a caller");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a line");
            (&stream).write_all(answer.as_bytes()).expect("an answer");
            line
        });
        (address, asked)
    }

    fn parameters(address: SocketAddr, action: &str) -> BTreeMap<String, String> {
        parse(&format!("# a comment\naction={action}\nip={}\nipport={}\nport=a\n", address.ip(), address.port()))
    }

    #[test]
    fn status_off_has_its_own_exit_status() {
        let (address, asked) = switch("ok off\n");
        let answer = run(&parameters(address, "status")).expect("an answer");
        assert_eq!((answer.exit_status, answer.text.as_str()), (2, "Status: OFF\n"));
        assert_eq!(asked.join().expect("asked"), "status a\n");
    }

    #[test]
    fn a_refusal_of_the_switch_is_a_failure() {
        let (address, _asked) = switch("error there is no plug a\n");
        assert!(run(&parameters(address, "off")).is_err_and(|error| error.contains("no plug a")));
    }

    #[test]
    fn one_dead_address_does_not_hide_the_living_one() {
        let (address, _asked) = switch("ok on\n");
        let dead = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port nobody listens on");
        assert_eq!(ask_switch(&[dead, address], "status a\n", ANSWER_LIMIT), Ok("on".to_owned()));
    }

    #[test]
    fn metadata_names_every_action() {
        let answer = run(&parse("action=metadata")).expect("an answer");
        for action in ["on", "off", "reboot", "status", "monitor", "list", "metadata"] {
            assert!(answer.text.contains(&format!("<action name=\"{action}\"")), "{action}");
        }
    }

    #[test]
    fn without_a_plug_nothing_is_cut() {
        assert!(run(&parse("action=off\nip=127.0.0.1")).is_err());
        assert!(run(&parse("action=explode\nip=127.0.0.1\nport=a")).is_err());
    }
}

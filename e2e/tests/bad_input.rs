//! What does somebody read who makes a mistake, or whose machine has a fault? One clear sentence with the next step.
//!
//! Every case is a command, its exit status and its words, kept in `tests/bad_input/NAME.txt`. `UPDATE_GOLDENS=1` writes
//! what is missing or has changed; the difference is then read like code. Bad agents are in `agents.rs`.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use e2e::{Api, Said, cardea, processes, run, until};

macro_rules! kept {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("bad_input/", $name, ".txt")))),*] };
}

/// What is kept, inside the program: who runs it may not be able to read this folder. A new case begins as an empty file.
const KEPT: &[(&str, &str)] = kept![
    "apply_broken_file",
    "apply_drops_a_member",
    "check_cycle",
    "check_member_twice",
    "check_no_file",
    "check_no_toml",
    "check_same_address",
    "check_unfenced",
    "check_unknown_key",
    "check_unknown_node",
    "check_unknown_resource",
    "check_wrong_type",
    "daemon_folder_not_writable",
    "daemon_port_taken",
    "daemon_state_is_garbage",
    "daemon_state_is_newer",
    "daemon_twice",
    "daemon_without_cluster",
    "explain_unknown",
    "import_file_is_there",
    "import_no_cib",
    "init_bad_name",
    "init_host_name",
    "init_disk_full",
    "init_folder_not_writable",
    "init_twice",
    "join_bad_token",
    "join_nobody_there",
    "lead_unknown",
    "move_unknown_unit",
    "plan_cib_bad_time",
    "plan_cib_no_cib",
    "plan_cib_no_xml",
    "plan_what_if_no_event",
    "plan_what_if_unknown_node",
    "plan_what_if_unknown_resource",
    "rehearse_broken_file",
    "remove_last",
    "restart_without_daemon",
    "show_unknown_version",
    "standby_unknown_node",
    "status_without_daemon",
    "wrong_usage",
];

/// A node's disk in a folder of its own, and an address on the loopback network that is its alone.
struct Disk {
    folder: tempfile::TempDir,
    address: String,
}

impl Disk {
    fn new() -> Result<Disk> {
        let below = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or("/var/tmp".into(), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in(below)?;
        // Tests run as processes or as threads of one process: the folder's name is unlike any other.
        let name = folder.path().file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        let sum = name
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        let [.., a, b, c] = sum.to_be_bytes();
        let address = format!("127.{}.{}.{}", 1 + a % 250, b, 1 + c % 250);
        Ok(Disk { folder, address })
    }

    /// With a cluster of one.
    fn founded() -> Result<Disk> {
        let disk = Disk::new()?;
        disk.cardea(&["init", "--cluster", "solo", "--node", "a", "--link", &disk.address])?.ok()?;
        Ok(disk)
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(cardea());
        command.arg("--root").arg(self.root()).args(words).env("CARDEA_LOG", "error");
        command
    }

    /// A daemon that goes on where it should refuse is killed after a while: exit status 137.
    fn cardea(&self, words: &[&str]) -> Result<Said> {
        let command = self.command(words);
        let mut limited = Command::new("timeout");
        limited
            .args(["--signal=KILL", "15"])
            .arg(command.get_program())
            .args(command.get_args())
            .env("CARDEA_LOG", "error");
        run(&mut limited)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Compares what a command said with what is kept.
    fn expect(&self, name: &str, words: &[&str]) -> Result<()> {
        self.expect_said(name, words, &self.cardea(words)?)
    }

    fn expect_said(&self, name: &str, words: &[&str], said: &Said) -> Result<()> {
        let root = self.root().to_string_lossy().into_owned();
        let plain = |text: &str| {
            let text = text.replace(&root, "ROOT").replace(&self.address, "ADDRESS");
            match text.split_once("(pid ").and_then(|(before, after)| Some((before, after.split_once(')')?.1))) {
                Some((before, after)) => format!("{before}(pid PID){after}"),
                None => text,
            }
        };
        let mut text =
            format!("$ cardea {}\nexit status {:?}\n", plain(&words.join(" ")), said.exit_status.unwrap_or(-1));
        for (stream, words) in [("out", &said.out), ("err", &said.err)] {
            if !words.trim().is_empty() {
                let _ = write!(text, "--- {stream}\n{}\n", plain(words.trim_end()));
            }
        }
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_input").join(format!("{name}.txt"));
        let (_, kept) = KEPT.iter().find(|(known, _)| *known == name).context("a case that is not in the list")?;
        if *kept != text && std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, &text)?;
            return Ok(());
        }
        assert_eq!(*kept, text, "{} differs; UPDATE_GOLDENS=1 writes it", path.display());
        Ok(())
    }

    fn start(&self) -> Result<Solo<'_>> {
        let mut command = self.command(&["daemon"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let solo = Solo { disk: self, child };
        until("the node is its own majority", || {
            let status = self.api().get("/v1/status").map_err(|error| format!("{error:#}"))?;
            if status["quorate"] == true && status["nodes"][0]["eligible"] == true {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })?;
        Ok(solo)
    }

    fn api(&self) -> Api {
        Api::new(self.root().join("run/cardea/api.sock"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for process in processes::mentioning(&self.root().to_string_lossy()) {
            processes::kill(&process);
        }
    }
}

/// A running daemon; its end takes everything with it.
struct Solo<'a> {
    disk: &'a Disk,
    child: Child,
}

impl Drop for Solo<'_> {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        // The supervisor first, so that it starts no other worker.
        for process in processes::below(pid).iter().chain(&processes::mentioning(&self.disk.root().to_string_lossy())) {
            processes::kill(process);
        }
        let _ = self.child.wait();
    }
}

const HEAD: &str = "cluster = \"solo\"\n\n[nodes.a]\nlinks = [\"ADDRESS\"]\nfence = [\"switch\"]\n\n[fence.switch]\nagent = \"AGENT\"\nip = \"127.0.0.1\"\n\n";

fn head(address: &str, agent: &str) -> String {
    HEAD.replace("ADDRESS", address).replace("AGENT", agent)
}

#[test]
fn mistakes_in_a_cluster_file_are_shown_where_they_are() -> Result<()> {
    let disk = Disk::new()?;
    let sleeper = |name: &str, more: &str| {
        format!("[resources.{name}]\nagent = \"cardea:process\"\ncommand = [\"sleep\", \"9\"]\n{more}\n")
    };
    let cases = [
        ("unknown_key", sleeper("web", "prefers = [\"a\"]")),
        ("wrong_type", sleeper("web", "failures_max = \"three\"")),
        ("unknown_node", sleeper("web", "prefer = [\"aa\"]")),
        ("unknown_resource", sleeper("web", "") + "[groups.site]\nmembers = [\"wep\"]\n"),
        ("cycle", sleeper("one", "after = [\"two\"]") + &sleeper("two", "after = [\"one\"]")),
        ("member_twice", sleeper("web", "") + "[groups.site]\nmembers = [\"web\", \"web\"]\n"),
        ("same_address", "[resources.x]\nagent = \"cardea:ip\"\naddress = \"10.0.0.9/24\"\n\n[resources.y]\nagent = \"cardea:ip\"\naddress = \"10.0.0.9/24\"\n".to_owned()),
        ("no_toml", "[resources.web\n".to_owned()),
    ];
    for (name, more) in cases {
        let file = disk.write(&format!("{name}.toml"), &(head("10.0.0.1", "fence_lab") + &more))?;
        disk.expect(&format!("check_{name}"), &["check", &file])?;
        let told = disk.cardea(&["check", &file, "--json"])?;
        assert_eq!(told.exit_status, Some(1));
        let first = &told.json()?["diagnostics"][0];
        assert!(first["line"].is_number() && first["column"].is_number(), "{first}");
    }
    let unfenced = head("10.0.0.1", "fence_lab").replace("fence = [\"switch\"]\n", "") + &sleeper("web", "");
    let file = disk.write("unfenced.toml", &unfenced)?;
    disk.expect("check_unfenced", &["check", &file])?;
    disk.expect("check_no_file", &["check", "no-such-file.toml"])
}

#[test]
fn what_is_no_cib_is_said_to_be_none() -> Result<()> {
    let disk = Disk::new()?;
    let torn = disk.write("torn.xml", "<cib><configuration>")?;
    disk.expect("plan_cib_no_xml", &["plan", "--cib", &torn])?;
    let other = disk.write("other.xml", "<domain><name>guest</name></domain>")?;
    disk.expect("plan_cib_no_cib", &["plan", "--cib", &other])?;
    let empty = disk.write("empty.xml", "<cib><configuration/><status/></cib>")?;
    disk.expect("plan_cib_bad_time", &["plan", "--cib", &empty, "--now", "tomorrow"])?;
    disk.expect("import_no_cib", &["import", "pacemaker", &other])?;
    let there = disk.write("cluster.toml", "cluster = \"shop\"\n")?;
    disk.expect("import_file_is_there", &["import", "pacemaker", &empty, "--out", &there])
}

#[test]
fn what_cannot_happen_is_not_supposed() -> Result<()> {
    let disk = Disk::new()?;
    let web = "[resources.web]\nagent = \"cardea:process\"\ncommand = [\"sleep\", \"9\"]\n";
    let file = disk.write("cluster.toml", &(head("10.0.0.1", "fence_lab") + web))?;
    let suppose = |event: &'static str| ["plan", file.as_str(), "--what-if", event];
    disk.expect("plan_what_if_no_event", &suppose("node=a:gone"))?;
    disk.expect("plan_what_if_unknown_node", &suppose("node=z:lost"))?;
    disk.expect("plan_what_if_unknown_resource", &suppose("resource=wb:failed"))?;
    let broken = disk.write("broken.toml", "cluster = ")?;
    disk.expect("rehearse_broken_file", &["rehearse", &broken])
}

#[test]
fn a_node_that_is_not_set_up_says_what_to_do_first() -> Result<()> {
    let disk = Disk::new()?;
    disk.expect("daemon_without_cluster", &["daemon"])?;
    disk.expect("status_without_daemon", &["status"])?;
    disk.expect("join_bad_token", &["join", &disk.address, "--token", "abc", "--node", "b", "--link", &disk.address])?;
    let token = format!("0123456789abcdef.{}.{}", "0".repeat(32), "0".repeat(64));
    disk.expect(
        "join_nobody_there",
        &["join", &disk.address, "--token", &token, "--node", "b", "--link", &disk.address],
    )?;
    disk.expect("restart_without_daemon", &["daemon", "--restart"])?;
    disk.expect("init_bad_name", &["init", "--cluster", "solo", "--node", "a b", "--link", &disk.address])?;
    disk.expect("init_host_name", &["init", "--cluster", "solo", "--node", "a", "--link", "db1"])?;
    let absent = disk.cardea(&["init", "--cluster", "solo", "--node", "a", "--link", "192.0.2.77"])?;
    assert_eq!(absent.exit_status, Some(1), "{absent:?}");
    assert!(absent.err.contains("a does not have the address 192.0.2.77; it has"), "{}", absent.err);
    assert!(absent.err.contains("ip address add 192.0.2.77/PREFIX"), "{}", absent.err);
    disk.expect("wrong_usage", &["move"])?;
    disk.cardea(&["init", "--cluster", "solo", "--node", "a", "--link", &disk.address])?.ok()?;
    disk.expect("init_twice", &["init", "--cluster", "solo", "--node", "a", "--link", &disk.address])
}

#[test]
fn a_disk_that_cannot_be_used_is_named_and_nothing_is_lost() -> Result<()> {
    let blocked = Disk::new()?;
    // A file where the folder should be: not even root can write there.
    blocked.write("var/lib/cardea", "")?;
    blocked.expect(
        "init_folder_not_writable",
        &["init", "--cluster", "solo", "--node", "a", "--link", &blocked.address],
    )?;

    let newer = Disk::founded()?;
    let node_file = newer.root().join("var/lib/cardea/node.json");
    let text = std::fs::read_to_string(&node_file)?;
    assert!(text.contains("\"version\": 1") || text.contains("\"version\":1"), "{text}");
    std::fs::write(
        &node_file,
        text.replacen("\"version\": 1", "\"version\": 99", 1).replacen("\"version\":1", "\"version\":99", 1),
    )?;
    newer.expect("daemon_state_is_newer", &["daemon"])?;
    std::fs::write(&node_file, text)?;
    drop(newer.start()?);

    let garbled = Disk::founded()?;
    std::fs::write(garbled.root().join("var/lib/cardea/node.json"), "{")?;
    garbled.expect("daemon_state_is_garbage", &["daemon"])?;

    // Root may write everywhere; the unprivileged run of these tests sees what others see.
    if !rustix::process::geteuid().is_root() {
        let readonly = Disk::founded()?;
        let folder = readonly.root().join("run");
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500))?;
        readonly.expect("daemon_folder_not_writable", &["daemon"])?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        drop(readonly.start()?);
    }
    Ok(())
}

#[test]
fn a_full_disk_is_named_at_the_start() -> Result<()> {
    let disk = Disk::new()?;
    let folder = disk.root().join("var/lib");
    std::fs::create_dir_all(&folder)?;
    // In a mount namespace of its own, the disk of the node is a few pages large.
    let script = "mount -t tmpfs -o size=16k,mode=755 none \"$0\" && shift 0 && exec \"$@\"";
    let words = ["init", "--cluster", "solo", "--node", "a", "--link", &disk.address];
    let mut command = Command::new("unshare");
    let wraps = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    command.args([wraps, "sh", "-c", script]).arg(&folder).arg(cardea()).arg("--root").arg(disk.root()).args(words);
    let said = run(&mut command)?;
    disk.expect_said("init_disk_full", &words, &said)
}

#[test]
fn a_taken_port_is_named() -> Result<()> {
    let disk = Disk::founded()?;
    let taken = UdpSocket::bind((disk.address.as_str(), 7600))?;
    disk.expect("daemon_port_taken", &["daemon"])?;
    drop(taken);
    drop(disk.start()?);
    Ok(())
}

#[test]
fn what_a_running_cluster_cannot_do_is_refused_with_the_next_step() -> Result<()> {
    let disk = Disk::founded()?;
    let _solo = disk.start()?;
    let agent = disk.write("fence_nothing", "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755))?;
    let head = head(&disk.address, &agent);
    let file = disk.write("dropped.toml", &head.replace("[nodes.a]", "[nodes.b]"))?;
    disk.expect("apply_drops_a_member", &["apply", &file, "--yes"])?;
    let file = disk.write("broken.toml", &(head.clone() + "[resources.web]\nagent = \"cardea:proces\"\n"))?;
    disk.expect("apply_broken_file", &["apply", &file, "--yes"])?;
    let secret = head.replace("ip = \"127.0.0.1\"", "password = { file = \"/no/such/secret\" }");
    let file = disk.write("secret.toml", &secret)?;
    disk.cardea(&["apply", &file, "--yes"])?.ok()?;
    let tested = disk.cardea(&["fence", "test"])?;
    assert_eq!(tested.exit_status, Some(1), "{tested:?}");
    assert!(tested.out.contains("/no/such/secret"), "the unreadable secret is named: {}", tested.out);
    disk.expect("daemon_twice", &["daemon"])?;
    for (name, words) in [
        ("move_unknown_unit", vec!["move", "web"]),
        ("standby_unknown_node", vec!["standby", "aa"]),
        ("explain_unknown", vec!["explain", "web"]),
        ("remove_last", vec!["remove", "a"]),
        ("lead_unknown", vec!["lead", "b"]),
        ("show_unknown_version", vec!["history", "--show", "99"]),
    ] {
        disk.expect(name, &words)?;
    }
    Ok(())
}

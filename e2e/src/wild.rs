//! Does a service stay what it is while somebody does his worst? A lab with one exclusive group: a program that
//! leaves a child behind, and an OCF agent that is asked every second.
//!
//! In: an attack, or a change of everything that supervises. Out: what it did to the service. The attacks are those of a
//! local user without rights on the serving node; they end by themselves and reach nothing outside the lab.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{Lab, cluster_file, now_us};
use crate::processes::{self, Process};
use crate::wait::until;
use crate::{cardea, run};

/// The group.
pub const UNIT: &str = "both";

/// The program, and what is in the command lines of its processes.
pub const SERVICE: &str = "service";
const SERVICE_WORD: &str = "100000";

/// What says that somebody was taken for dead.
const VERDICTS: [&str; 4] = ["suspect", "condemned", "fence-called", "fenced"];

/// Everybody's user number for nobody.
const NOBODY: &str = "65534";

const PROGRAM: &str = "#!/bin/sh\n(setsid sleep 1000001 &)\nexec sleep 1000000\n";

const AGENT: &str = r#"#!/bin/sh
case "$1" in
meta-data) cat <<END
<?xml version="1.0"?><resource-agent name="asked"><version>1.0</version><parameters/><actions>
<action name="start" timeout="20s"/><action name="stop" timeout="20s"/><action name="monitor" timeout="20s"/>
</actions></resource-agent>
END
;;
start) : > "$HA_RSCTMP/asked" ;;
stop) rm -f "$HA_RSCTMP/asked" ;;
monitor) test -e "$HA_RSCTMP/asked" || exit 7 ;;
esac
"#;

/// What a local user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A thousand connections to the API that ask nothing.
    IdleConnections,
    /// A lock on every file of the daemon that can be opened, while the worker is replaced.
    HeldLocks,
    /// Processes that look like those of the service, while it is stopped and started.
    ForgedMarks,
    /// Connections, while the worker has few file descriptors.
    NoDescriptors,
    /// Processes, until the node can have no more.
    FullProcessTable,
}

impl Attack {
    /// All of them. The last leaves the node's processes in a control group.
    pub const ALL: [Attack; 5] = [
        Attack::IdleConnections,
        Attack::HeldLocks,
        Attack::ForgedMarks,
        Attack::NoDescriptors,
        Attack::FullProcessTable,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Attack::IdleConnections => "1 000 idle connections",
            Attack::HeldLocks => "held locks while the worker is replaced",
            Attack::ForgedMarks => "forged marks while the service is stopped and started",
            Attack::NoDescriptors => "no file descriptors left",
            Attack::FullProcessTable => "full process table",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Attack::IdleConnections | Attack::NoDescriptors => "connections",
            Attack::HeldLocks => "locks",
            Attack::ForgedMarks => "marks",
            Attack::FullProcessTable => "forks",
        }
    }
}

/// The attacker: every process that it makes ends with it, or by an alarm of its own.
const ATTACKER: &str = r#"
import fcntl, os, resource, signal, socket, sys, time
what, root, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
end = time.monotonic() + seconds
signal.alarm(int(seconds) + 60)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
if what == "connections":
    ready()
    held = []
    while time.monotonic() < end:
        if len(held) < 1000:
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(0.2)
            try:
                one.connect(root + "/run/cardea/api.sock")
                held.append(one)
            except OSError:
                one.close()
                time.sleep(0.02)
        else:
            time.sleep(0.1)
        if len(held) % 50 == 49 or len(held) == 1000:
            alive = []
            for one in held:
                one.setblocking(False)
                try:
                    closed = one.recv(1) == b""
                except BlockingIOError:
                    closed = False
                except OSError:
                    closed = True
                if closed:
                    one.close()
                else:
                    alive.append(one)
            held = alive
elif what == "locks":
    ready()
    held = {}
    while time.monotonic() < end:
        for folder, _, names in os.walk(root + "/run"):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    found = os.stat(path)
                    if (found.st_dev, found.st_ino) in held or not os.path.isfile(path):
                        continue
                    opened = open(path, "rb")
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held[(found.st_dev, found.st_ino)] = opened
                except OSError:
                    pass
        time.sleep(0.001)
elif what == "marks":
    marks = {"PATH": "/usr/bin:/bin", "CARDEA_RUN": root + "/run/cardea", "CARDEA_OP": "1.1.1"}
    children = []
    def child(resource_name, action):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.setsid()
            own = dict(marks, CARDEA_RESOURCE=resource_name, CARDEA_ACTION=action)
            os.execve("/bin/sleep", ["sleep", str(int(seconds) + 30)], own)
        children.append((pid, resource_name, action))
    for action in ("start", "stop", "monitor"):
        for name in ("service", "agent"):
            child(name, action)
    ready()
    while time.monotonic() < end:
        for one in list(children):
            if os.waitpid(one[0], os.WNOHANG)[0]:
                children.remove(one)
                child(one[1], one[2])
        time.sleep(0.002)
    for one in children:
        os.kill(one[0], signal.SIGKILL)
elif what == "forks":
    ready()
    children = []
    while time.monotonic() < end:
        try:
            if len(children) >= 3000:
                raise OSError
            pid = os.fork()
            if pid == 0:
                signal.alarm(int(seconds) + 60)
                while True:
                    signal.pause()
            children.append(pid)
        except OSError:
            time.sleep(0.005)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"#;

/// What an attack did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// Grants to another node.
    pub moves: Vec<String>,
    /// Nodes taken for dead.
    pub verdicts: Vec<String>,
    /// Looks that found the service on two nodes.
    pub doubles: usize,
}

impl Harm {
    /// Was nothing harmed?
    pub fn is_none(&self) -> bool {
        *self == Harm::default()
    }
}

/// The lab.
#[derive(Debug)]
pub struct Wild {
    /// It.
    pub lab: Lab,
}

impl Wild {
    /// A lab in which both run.
    pub fn up() -> Result<Wild> {
        let lab = Lab::reserve()?;
        let empty = lab.write("empty.toml", &cluster_file(&["a", "b", "c"], ""))?;
        lab.must(&["up", "--file", &empty])?;
        let program = lab.program("program", PROGRAM)?;
        for node in lab.nodes()? {
            let folder = node.root.join("usr/lib/ocf/resource.d/test");
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("asked"), AGENT)?;
            std::fs::set_permissions(folder.join("asked"), std::fs::Permissions::from_mode(0o755))?;
        }
        let more = format!(
            "[resources.agent]\nagent = \"ocf:test:asked\"\nmonitor = {{ every = \"1s\" }}\n\n\
             [resources.{SERVICE}]\nagent = \"cardea:process\"\ncommand = [\"{program}\"]\nmonitor = {{ every = \"1s\" }}\n\n\
             [groups.{UNIT}]\nmembers = [\"agent\", \"{SERVICE}\"]\n"
        );
        let file = lab.write("both.toml", &cluster_file(&["a", "b", "c"], &more))?;
        lab.wait_until_whole()?;
        lab.leader()?.must(&["apply", &file, "--yes"])?;
        let wild = Wild { lab };
        wild.lab.wait_until_whole()?;
        // In its first life a node runs `init` or `join` before its daemon; from the next one on the supervisor is its
        // process 2.
        wild.lab.must(&["crash", "--all"])?;
        wild.lab.must(&["start", "--all"])?;
        wild.lab.wait_until_whole()?;
        Ok(wild)
    }

    /// The processes of the service on a node, in the order of their numbers, whoever their parents are.
    pub fn running(&self, node: &str) -> Vec<Process> {
        let found = self.lab.running(node, SERVICE_WORD).into_iter();
        let mut found: Vec<Process> = found.filter(|process| process.argv[0].ends_with("sleep")).collect();
        found.sort_by_key(|process| process.pid);
        found
    }

    /// Replaces the worker of a node, as `daemon --restart` does.
    pub fn replace_worker(&self, node: &str) -> Result<()> {
        let old = self.lab.worker(node)?;
        let root = self.lab.node(node).root.to_string_lossy().into_owned();
        self.lab.exec(node, &["cardea", "--root", &root, "daemon", "--restart"])?.ok()?;
        self.wait_for_another(node, &old)
    }

    /// Kills the supervisor of a node; the next one has another number.
    pub fn replace_supervisor(&self, node: &str) -> Result<()> {
        let (supervisor, worker) = (self.lab.supervisor(node)?, self.lab.worker(node)?);
        processes::kill(&supervisor);
        self.wait_for_another(node, &worker)
    }

    fn wait_for_another(&self, node: &str, old: &Process) -> Result<()> {
        until("another worker answers", || match self.lab.worker(node) {
            Ok(now) if now == *old => Err("it is still the old one".to_owned()),
            Ok(_) => self.lab.node(node).status().map(|_| ()).map_err(|error| format!("{error:#}")),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// Replaces every worker, then takes the service from every node by another way each round: stop, move, standby.
    /// Returns what was left running where nothing should.
    pub fn replace_and_stop(&self, round: usize) -> Result<Vec<String>> {
        let names = self.lab.names()?;
        for name in &names {
            if round % 4 == 3 {
                self.replace_supervisor(name)?;
            }
            self.replace_worker(name)?;
        }
        self.lab.wait_until_whole()?;
        let place = self.lab.place_of(SERVICE)?;
        ensure!(!self.running(&place).is_empty(), "the service has no process on {place}");
        let asked = self.lab.leader()?;
        let is_stopped = || {
            let resource = self.lab.resource(SERVICE)?;
            if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
        };
        match round % 3 {
            0 => {
                asked.must(&["stop", UNIT])?;
                until("both are stopped", is_stopped)?;
                let left = self.left_on(&names);
                self.lab.leader()?.must(&["start", UNIT])?;
                self.lab.wait_until_whole()?;
                Ok(left)
            }
            1 => {
                let target = names.iter().find(|name| **name != place).context("another node")?;
                asked.must(&["move", UNIT, "--to", target])?;
                until("it runs there", || {
                    let now = self.lab.place_now(SERVICE)?;
                    if now == *target { Ok(()) } else { Err(now) }
                })?;
                let others: Vec<String> = names.iter().filter(|name| *name != target).cloned().collect();
                Ok(self.left_on(&others))
            }
            _ => {
                // One node after the other, until the last has it.
                let mut left = Vec::new();
                for _ in 1..names.len() {
                    let place = self.lab.place_of(SERVICE)?;
                    self.lab.leader()?.must(&["standby", &place, "--yes"])?;
                    until("it runs elsewhere", || {
                        let now = self.lab.place_now(SERVICE)?;
                        if now == place { Err(now) } else { Ok(()) }
                    })?;
                    left.extend(self.left_on(&[place]));
                }
                for name in &names {
                    self.lab.leader()?.cardea(&["standby", name, "--off"])?;
                }
                self.lab.wait_until_whole()?;
                Ok(left)
            }
        }
    }

    fn left_on(&self, nodes: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for node in nodes {
            found.extend(self.running(node).iter().map(|left| format!("{node}: {left:?}")));
        }
        found
    }

    /// Lets a local user of the serving node attack for this long; returns the harm. As root only: it takes a second
    /// user.
    pub fn suffer(&self, attack: Attack, time: Duration) -> Result<Harm> {
        let lab = &self.lab;
        let names = lab.names()?;
        let place = lab.place_of(SERVICE)?;
        let service = self.running(&place);
        ensure!(!service.is_empty(), "the service has no process");
        let since = now_us();
        let mut harm = Harm::default();
        self.let_everybody_in(&place)?;
        let mut attacker = Attacker::start(lab, &place, attack, time)?;
        let _few = match attack {
            Attack::NoDescriptors => {
                let worker = lab.worker(&place)?.pid.to_string();
                run(Command::new("prlimit").args(["--pid", &worker, "--nofile=256:256"]))?.ok()?;
                None
            }
            Attack::FullProcessTable => Some(FewProcesses::of(lab, &place)?),
            Attack::IdleConnections | Attack::HeldLocks | Attack::ForgedMarks => None,
        };
        attacker.go()?;
        let begun = Instant::now();
        let mut acted = false;
        while begun.elapsed() < time {
            if !acted && begun.elapsed() > time / 4 {
                acted = true;
                match attack {
                    Attack::HeldLocks => self.replace_worker(&place)?,
                    Attack::ForgedMarks => self.stop_and_start(&names)?,
                    Attack::IdleConnections | Attack::NoDescriptors | Attack::FullProcessTable => {}
                }
            }
            harm.doubles += usize::from(names.iter().filter(|name| !self.running(name).is_empty()).count() > 1);
            thread::sleep(Duration::from_millis(100));
        }
        attacker.wait()?;
        drop(_few);
        lab.wait_until_whole()?;
        let shown = |events: Vec<Value>| events.iter().map(Value::to_string).collect::<Vec<String>>();
        // A worker that was replaced tells old news, which others do not.
        let is_news = |event: &Value| attack != Attack::HeldLocks || event["node"] != place.as_str();
        harm.verdicts = shown(lab.events_of(&VERDICTS, since)?.into_iter().filter(is_news).collect());
        if attack != Attack::ForgedMarks {
            let granted = lab.events_of(&["granted"], since)?.into_iter();
            harm.moves = shown(granted.filter(|event| event["subject"] == UNIT && is_news(event)).collect());
            if self.running(&place) != service {
                harm.moves.push(format!("it does not run on {place} as before"));
            }
        }
        Ok(harm)
    }

    fn stop_and_start(&self, names: &[String]) -> Result<()> {
        self.lab.leader()?.must(&["stop", UNIT])?;
        until("both are stopped", || {
            let resource = self.lab.resource(SERVICE)?;
            if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
        })?;
        let left = self.left_on(names);
        ensure!(left.is_empty(), "stopped, and yet it runs: {left:?}");
        self.lab.leader()?.must(&["start", UNIT])?;
        self.lab.place_of(SERVICE).map(|_| ())
    }

    /// The folders above a node's own are for the lab's user alone; on a real machine nothing hides `/run`.
    fn let_everybody_in(&self, node: &str) -> Result<()> {
        let root = self.lab.node(node).root;
        let above = self.lab.dir().parent().context("a lab has a folder above it")?;
        for folder in root.ancestors().take_while(|folder| folder.starts_with(above)) {
            let mode = std::fs::metadata(folder)?.permissions().mode();
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | 0o011))?;
        }
        Ok(())
    }
}

/// An attacker at work inside a node.
struct Attacker(Child);

impl Attacker {
    fn start(lab: &Lab, node: &str, attack: Attack, time: Duration) -> Result<Attacker> {
        let root = lab.node(node).root.to_string_lossy().into_owned();
        let seconds = time.as_secs_f64().to_string();
        let mut command = Command::new(cardea());
        command.args(["lab", "--dir"]).arg(lab.dir()).args(["exec", node, "--", "setpriv"]);
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--", "python3", "-c", ATTACKER]);
        command.args([attack.script(), &root, &seconds]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the attacker")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut said)?;
        let attacker = Attacker(child);
        ensure!(said.trim() == "ready", "the attacker did not begin: {said}");
        Ok(attacker)
    }

    fn go(&mut self) -> Result<()> {
        let mut stdin = self.0.stdin.take().context("a pipe")?;
        Ok(stdin.write_all(b"go\n")?)
    }

    fn wait(&mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "the attacker ended with {status}");
        Ok(())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // Its end ends the command in the node.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many more processes and threads a node may have than it has.
const PROCESSES_MORE: usize = 50;

/// A control group of this node alone, with a limit of processes. Its end sets everybody free.
struct FewProcesses {
    folder: PathBuf,
}

impl FewProcesses {
    fn of(lab: &Lab, node: &str) -> Result<FewProcesses> {
        let above = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].iter().map(Path::new);
        let above = above.into_iter().find(|path| path.join("cgroup.procs").exists());
        let Some(above) = above else { bail!("there is no control group for processes") };
        let folder = above.join(format!("cardea-e2e-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let few = FewProcesses { folder };
        ensure!(few.folder.join("pids.max").exists(), "{} cannot limit processes", above.display());
        for process in lab.processes_of(node).into_iter().chain(attackers(lab)) {
            std::fs::write(few.folder.join("cgroup.procs"), process.pid.to_string())?;
        }
        let now: usize = std::fs::read_to_string(few.folder.join("pids.current"))?.trim().parse()?;
        std::fs::write(few.folder.join("pids.max"), (now + PROCESSES_MORE).to_string())?;
        Ok(few)
    }
}

/// The attackers of this lab: children of its hub, inside a node.
fn attackers(lab: &Lab) -> Vec<Process> {
    lab.processes().into_iter().filter(|process| process.argv.iter().any(|word| word == ATTACKER)).collect()
}

impl Drop for FewProcesses {
    fn drop(&mut self) {
        let _ = std::fs::write(self.folder.join("pids.max"), "max");
        let above = self.folder.parent().map(|above| above.join("cgroup.procs")).unwrap_or_default();
        // What was born meanwhile is found by the next look.
        for _ in 0..100 {
            let members = std::fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines() {
                let _ = std::fs::write(&above, pid);
            }
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left over", self.folder.display());
    }
}

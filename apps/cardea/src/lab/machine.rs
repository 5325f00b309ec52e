//! Is this node on? One machine of the lab: power, freeze, commands inside.
//!
//! Powered on, it is a process tree in namespaces of its own whose PID 1 is ours. Powered off, its ports are closed
//! first, then PID 1 is killed and with it, by the kernel, everything else; it counts as off only when that is seen. A
//! node that calls `reboot(2)` ends in the same way, and is switched on again by the hub.
//!
//! In: orders of the hub. Out: processes. Not here: ports and bridges (`switches.rs`), what PID 1 does (`inside.rs`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use host::network::{Listeners, Netlink};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::hang::{Hang, Part};
use super::inside::Inside;
use super::layout::{NetworkLayout, NodeLayout};
use super::processes::{self, PidNamespace};
use super::switches::{Plug, Switches};

/// Longest time in which a killed node must be gone, and a frozen one must stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all machines of a lab share.
pub struct Site {
    /// The lab's folder.
    pub folder: PathBuf,
    /// The networks.
    pub networks: Vec<NetworkLayout>,
    /// The bridges and ports.
    pub switches: Mutex<Switches>,
    /// The command line of the daemon after `--root DIR`, by default this binary's `daemon`.
    pub daemon: Option<Vec<String>>,
    /// Where the power switch listens.
    pub power_switch: String,
    /// Names of fence agents that this binary stands in for.
    pub fence_agents: Vec<String>,
    /// Files that every node has below /run/cardea-lab, by name.
    pub files: BTreeMap<String, String>,
}

/// One machine.
pub struct Machine {
    /// What it is called and where it is reached.
    pub layout: NodeLayout,
    position: usize,
    site: Arc<Site>,
    machine_id: String,
    power: Mutex<Power>,
    // Beside the power, so that whoever looks does not wait while the machine is switched.
    probe: Mutex<Option<Arc<Mutex<Probe>>>>,
    hangs: Mutex<BTreeMap<Part, Hang>>,
    boot_takes: Mutex<Duration>,
}

/// How a node ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnEnd {
    /// It rebooted.
    Reboot,
    /// It stays off.
    Off,
}

enum Power {
    Off,
    On(On),
}

struct On {
    child: Child,
    orders: ChildStdin,
    pidfd: Arc<OwnedFd>,
    namespace: PidNamespace,
    is_frozen: bool,
    boot_id: String,
}

struct Booted {
    child: Child,
    orders: ChildStdin,
    pidfd: OwnedFd,
    probe: Probe,
}

/// A window into the network namespace of a powered node: nothing enters it again and again.
pub struct Probe {
    netlink: Netlink,
    listeners: Listeners,
    // Slow where many connections are open; for kernels that cannot tell otherwise.
    table: File,
}

impl Probe {
    fn open() -> io::Result<Probe> {
        Ok(Probe {
            netlink: Netlink::open()?,
            listeners: Listeners::open()?,
            table: File::open("/proc/thread-self/net/tcp")?,
        })
    }

    /// Has the node this address?
    pub fn has_address(&mut self, address: IpAddr) -> io::Result<bool> {
        Ok(self.netlink.addresses()?.iter().any(|(_, found)| *found == address))
    }

    /// Does somebody listen there, on this port of this address or of all?
    pub fn has_listener(&mut self, address: IpAddr, port: u16) -> io::Result<bool> {
        use std::io::{Read as _, Seek as _};
        if let IpAddr::V4(address) = address
            && let Ok(found) = self.listeners.contain(address, port)
        {
            return Ok(found);
        }
        let mut table = String::new();
        self.table.rewind()?;
        self.table.read_to_string(&mut table)?;
        Ok(listens(&table, address, port))
    }
}

/// Is there a listener in a table as /proc/net/tcp shows it?
fn listens(table: &str, address: IpAddr, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let IpAddr::V4(address) = address else { return false };
    let wanted = format!("{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()));
    let any = format!("00000000:{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (words.next(), words.next(), words.next());
        state == Some(LISTEN) && local.is_some_and(|local| local == wanted || local == any)
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine that is off.
    pub fn new(site: Arc<Site>, position: usize, layout: NodeLayout) -> anyhow::Result<Machine> {
        let machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
        let machine = Machine {
            layout,
            position,
            site,
            machine_id,
            power: Mutex::new(Power::Off),
            probe: Mutex::new(None),
            hangs: Mutex::default(),
            boot_takes: Mutex::default(),
        };
        let agents = machine.root().join("usr/sbin");
        fs::create_dir_all(&agents)?;
        fs::create_dir_all(machine.root().join("etc"))?;
        fs::write(machine.root().join("etc/machine-id"), format!("{}\n", machine.machine_id))?;
        for agent in &machine.site.fence_agents {
            std::os::unix::fs::symlink(machine.site.folder.join("bin/cardea"), agents.join(agent))?;
        }
        Ok(machine)
    }

    /// Its disk.
    pub fn root(&self) -> PathBuf {
        self.site.folder.join("nodes").join(&self.layout.name)
    }

    /// The socket of its daemon.
    pub fn api_socket(&self) -> PathBuf {
        self.root().join("run/cardea/api.sock")
    }

    /// Its position in the layout.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Is it on? Waits while it is being switched.
    pub fn is_on(&self) -> bool {
        matches!(*locked(&self.power), Power::On(_))
    }

    /// Is it on and frozen?
    pub fn is_frozen(&self) -> bool {
        matches!(&*locked(&self.power), Power::On(on) if on.is_frozen)
    }

    /// Its boot id; none while it is off.
    pub fn boot_id(&self) -> Option<String> {
        match &*locked(&self.power) {
            Power::Off => None,
            Power::On(on) => Some(on.boot_id.clone()),
        }
    }

    /// The window into its network; none while it is off.
    pub fn probe(&self) -> Option<Arc<Mutex<Probe>>> {
        locked(&self.probe).clone()
    }

    /// Switches it on, with a fresh boot id; one that is on stays as it is.
    pub fn power_on(&self) -> anyhow::Result<()> {
        self.switch_on(&mut locked(&self.power))
    }

    fn switch_on(&self, power: &mut Power) -> anyhow::Result<()> {
        if matches!(*power, Power::On(_)) {
            return Ok(());
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
        // What lives below /run on a real machine does not survive its power cut.
        match fs::remove_dir_all(self.root().join("run")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let made = thread::scope(|scope| {
            scope
                .spawn(|| self.boot(&boot_id))
                .join()
                .unwrap_or_else(|_| Err(anyhow!("booting {} panicked", self.layout.name)))
        });
        let made = made.and_then(|mut booted| match processes::namespace_of(Pid::from_child(&booted.child)) {
            Some(namespace) => Ok((booted, namespace)),
            None => {
                booted.child.wait()?;
                bail!("PID 1 ended at once")
            }
        });
        match made {
            Ok((Booted { child, orders, pidfd, probe }, namespace)) => {
                *locked(&self.probe) = Some(Arc::new(Mutex::new(probe)));
                *power = Power::On(On { child, orders, pidfd: Arc::new(pidfd), namespace, is_frozen: false, boot_id });
                Ok(())
            }
            Err(error) => {
                let _ = locked(&self.site.switches).unplug(self.position);
                Err(error.context(format!("could not switch on {}", self.layout.name)))
            }
        }
    }

    /// Makes the namespaces, cables and PID 1; on a thread of its own, which is in other namespaces ever after.
    ///
    /// As soon as PID 1 runs, this thread sees its /proc: whatever is to be seen through the hub's is opened before.
    fn boot(&self, boot_id: &str) -> anyhow::Result<Booted> {
        host::namespace::enter_new_node()?;
        let network = host::namespace::own_network()?;
        let probe = Probe::open()?;
        let mut netlink = Netlink::open()?;
        {
            let mut switches = locked(&self.site.switches);
            for number in 0..self.layout.addresses.len() {
                switches.plug(Plug { node: self.position, network: number }, network.as_fd())?;
            }
        }
        let loopback = netlink.index_of("lo")?;
        netlink.set_up(loopback, true)?;
        for (number, address) in self.layout.addresses.iter().enumerate() {
            let link = netlink.index_of(&format!("eth{number}"))?;
            netlink.add_address(link, *address, self.site.networks[number].prefix)?;
            netlink.set_up(link, true)?;
        }
        locked(&self.site.switches).settle(self.position)?;
        let inside = Inside {
            name: self.layout.name.clone(),
            root: self.root(),
            boot_id: boot_id.to_owned(),
            machine_id: self.machine_id.clone(),
            daemon: self.site.daemon.clone().unwrap_or_else(|| {
                ["/proc/self/exe", "--root", &self.root().to_string_lossy(), "daemon", "--reboot", "namespace"]
                    .map(str::to_owned)
                    .to_vec()
            }),
            log: self.site.folder.join(format!("{}.log", self.layout.name)),
            power_switch: self.site.power_switch.clone(),
            files: self.site.files.clone(),
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg("lab-node").arg(serde_json::to_string(&inside)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("PATH", self.path_variable());
        let mut child = command.spawn().context("could not start PID 1 of the node")?;
        let orders = child.stdin.take().expect("stdin is a pipe");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer)?;
        if answer.trim() != "ready" {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{}", answer.trim().strip_prefix("error ").unwrap_or("PID 1 of the node ended at once"));
        }
        Ok(Booted { child, orders, pidfd, probe })
    }

    fn path_variable(&self) -> String {
        let own = self.site.folder.join("bin");
        format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", own.display())
    }

    /// Makes its boots take this long from now on: the daemon starts so much later than the power is on.
    pub fn set_boot_takes(&self, time: Duration) {
        *locked(&self.boot_takes) = time;
    }

    /// Starts its daemon, unless it runs, when the rest of the boot is over.
    pub fn start_daemon(&self) -> anyhow::Result<()> {
        self.order_daemon(&mut locked(&self.power))
    }

    fn order_daemon(&self, power: &mut Power) -> anyhow::Result<()> {
        let after = *locked(&self.boot_takes);
        match power {
            Power::Off => bail!("{} is off: switch it on with `cardea lab start {0}`", self.layout.name),
            Power::On(on) => Ok(on.orders.write_all(format!("daemon {}\n", after.as_millis()).as_bytes())?),
        }
    }

    /// Cuts its power: returns when no process of it is left and its cables are gone. One that is off stays so.
    pub fn power_off(&self) -> anyhow::Result<()> {
        let mut power = locked(&self.power);
        let Power::On(on) = &mut *power else { return Ok(()) };
        self.take_down(on)?;
        *power = Power::Off;
        Ok(())
    }

    /// Closes its ports, as the first part of a power failure that hits several nodes at once.
    pub fn isolate(&self) -> io::Result<()> {
        locked(&self.site.switches).disable(self.position)
    }

    /// The descriptor that becomes readable when PID 1 ends, and the boot that it belongs to; none while it is off.
    pub fn life(&self) -> Option<(Arc<OwnedFd>, String)> {
        match &*locked(&self.power) {
            Power::Off => None,
            Power::On(on) => Some((Arc::clone(&on.pidfd), on.boot_id.clone())),
        }
    }

    /// Notices that the boot ended by itself, and begins the next one if that was a reboot; none if it goes on, or was
    /// ended from outside.
    ///
    /// Nobody sees it without power meanwhile: whoever cuts a rebooting machine off would find nothing to do, and the
    /// machine would boot all the same.
    pub fn follow_own_end(&self, boot_id: &str) -> anyhow::Result<Option<OwnEnd>> {
        let mut power = locked(&self.power);
        let Power::On(on) = &mut *power else { return Ok(None) };
        if on.boot_id != boot_id {
            return Ok(None);
        }
        let Some(status) = on.child.try_wait()? else { return Ok(None) };
        self.take_down(on)?;
        *power = Power::Off;
        // What the kernel says of a PID namespace that called reboot(2).
        let reboots = status.signal() == Some(Signal::HUP.as_raw());
        if !reboots {
            return Ok(Some(OwnEnd::Off));
        }
        self.switch_on(&mut power)?;
        self.order_daemon(&mut power)?;
        Ok(Some(OwnEnd::Reboot))
    }

    fn take_down(&self, on: &mut On) -> anyhow::Result<()> {
        locked(&self.site.switches).disable(self.position)?;
        match rustix::process::pidfd_send_signal(&on.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let deadline = Instant::now() + PATIENCE;
        // The kernel takes its time to remove cables; the processes die meanwhile.
        locked(&self.site.switches).unplug(self.position)?;
        wait_readable(&on.pidfd, PATIENCE).with_context(|| format!("{} does not die", self.layout.name))?;
        on.child.wait()?;
        while !processes::members(on.namespace)?.is_empty() {
            if Instant::now() > deadline {
                bail!("{} still has processes", self.layout.name);
            }
            processes::signal(on.namespace, Signal::KILL)?;
            thread::yield_now();
        }
        *locked(&self.probe) = None;
        locked(&self.hangs).clear();
        Ok(())
    }

    /// Lets a part of its daemon hang, until it is repaired or the power goes off.
    pub fn hang(&self, part: Part) -> anyhow::Result<()> {
        let namespace = match &*locked(&self.power) {
            Power::Off => bail!("{} is off", self.layout.name),
            Power::On(on) => on.namespace,
        };
        let mut hangs = locked(&self.hangs);
        if let Entry::Vacant(free) = hangs.entry(part) {
            free.insert(Hang::start(namespace, part).with_context(|| format!("{} goes on", self.layout.name))?);
        }
        Ok(())
    }

    /// Lets everything that hangs go on.
    pub fn end_hangs(&self) {
        locked(&self.hangs).clear();
    }

    /// The parts that hang.
    pub fn hanging(&self) -> Vec<Part> {
        locked(&self.hangs).keys().copied().collect()
    }

    /// Stops every process of it, as a hanging hypervisor would; returns when none can run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        let mut power = locked(&self.power);
        let Power::On(on) = &mut *power else { bail!("{} is off", self.layout.name) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            processes::signal(on.namespace, Signal::STOP)?;
            if processes::are_stopped(on.namespace)? {
                on.is_frozen = true;
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not stand still", self.layout.name);
            }
            thread::yield_now();
        }
    }

    /// Lets every process of it go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        let mut power = locked(&self.power);
        let Power::On(on) = &mut *power else { bail!("{} is off", self.layout.name) };
        processes::signal(on.namespace, Signal::CONT)?;
        on.is_frozen = false;
        Ok(())
    }

    /// Every process of it, as the hub numbers them; none while it is off.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        match &*locked(&self.power) {
            Power::Off => Ok(Vec::new()),
            Power::On(on) => processes::members(on.namespace),
        }
    }

    /// Starts a command inside, with these ends for its input and output. Its working directory is the node's disk.
    pub fn spawn(&self, argv: &[String], stdin: Stdio, stdout: Stdio, stderr: Stdio) -> anyhow::Result<Child> {
        let pidfd = match &*locked(&self.power) {
            Power::Off => bail!("{} is off: switch it on with `cardea lab start {0}`", self.layout.name),
            Power::On(on) => Arc::clone(&on.pidfd),
        };
        let Some((program, arguments)) = argv.split_first() else { bail!("there is no command to run") };
        let (root, path) = (self.root(), self.path_variable());
        thread::scope(|scope| {
            let spawned = scope.spawn(|| -> anyhow::Result<Child> {
                host::namespace::join_node(pidfd.as_fd())?;
                let mut command = Command::new(find_program(program, &path));
                command.args(arguments).stdin(stdin).stdout(stdout).stderr(stderr);
                command.current_dir(&root).env("PATH", &path).env("CARDEA_ROOT", &root);
                command.spawn().with_context(|| format!("could not run {program}"))
            });
            spawned.join().unwrap_or_else(|_| Err(anyhow!("running {program} panicked")))
        })
    }

    /// Runs a command inside to its end; returns what it printed, or an error with what it said.
    pub fn run(&self, argv: &[String]) -> anyhow::Result<String> {
        let child = self.spawn(argv, Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` on {} ended with {}: {}", argv.join(" "), self.layout.name, output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn find_program(program: &str, path: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|p| p.exists()).unwrap_or_else(|| program.into())
}

fn wait_readable(fd: &OwnedFd, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Ok(0) => bail!("no end within {limit:?}"),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 64014D0A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 64014D0A:1F91 FE014D0A:8000 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1
";

    #[test]
    fn only_a_listening_socket_counts() {
        let address: IpAddr = "10.77.1.100".parse().expect("an address");
        assert!(listens(TABLE, address, 8080));
        assert!(!listens(TABLE, address, 8081), "a connection is no listener");
        assert!(listens(TABLE, address, 22), "all addresses include this one");
        assert!(!listens(TABLE, "10.77.1.1".parse().expect("an address"), 8080));
    }
}

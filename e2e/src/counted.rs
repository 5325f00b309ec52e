//! How often was it really started? A lab whose two resources count their own starts and stops in files, and take half
//! a second for each: time enough to kill what called them.
//!
//! `slow` is an OCF agent that takes its time; `service` is a program of `cardea:process` that starts after it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{Lab, cluster_file};
use crate::processes;
use crate::wait::until;

/// The group of both resources.
pub const UNIT: &str = "both";

/// The OCF agent.
pub const SLOW: &str = "slow";

/// The program.
pub const SERVICE: &str = "service";

const AGENT: &str = r#"#!/bin/sh
case "$1" in
meta-data) cat <<END
<?xml version="1.0"?><resource-agent name="slow"><version>1.0</version><parameters/><actions>
<action name="start" timeout="20s"/><action name="stop" timeout="20s"/><action name="monitor" timeout="20s"/>
</actions></resource-agent>
END
;;
start) echo "$$" >> FILES/agent-starts; sleep 0.5; : > "$HA_RSCTMP/slow" ;;
stop) test -e "$HA_RSCTMP/slow" && echo "$$" >> FILES/agent-stops; sleep 0.5; rm -f "$HA_RSCTMP/slow" ;;
monitor) test -e "$HA_RSCTMP/slow" || exit 7 ;;
esac
"#;

const PROGRAM: &str = r#"#!/bin/sh
echo "$$" >> FILES/service-starts
exec sleep 1000000
"#;

/// The lab.
#[derive(Debug)]
pub struct Counted {
    /// It.
    pub lab: Lab,
    files: PathBuf,
}

/// How often each was called so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Starts of the agent.
    pub agent_starts: usize,
    /// Stops of the agent that found something to stop.
    pub agent_stops: usize,
    /// Starts of the program.
    pub service_starts: usize,
}

impl Counted {
    /// A lab in which both have been started once.
    pub fn up() -> Result<Counted> {
        let counted = Counted::idle()?;
        counted.apply()?;
        counted.lab.wait_until_whole()?;
        Ok(counted)
    }

    /// A lab that knows neither yet.
    pub fn idle() -> Result<Counted> {
        let lab = Lab::reserve()?;
        let empty = lab.write("empty.toml", &cluster_file(&["a", "b", "c"], ""))?;
        lab.must(&["up", "--file", &empty])?;
        let files = Path::new(&empty).parent().context("a folder")?.join("counts");
        std::fs::create_dir(&files)?;
        let in_place = |text: &str| text.replace("FILES", &files.to_string_lossy());
        lab.program("program", &in_place(PROGRAM))?;
        for node in lab.nodes()? {
            let folder = node.root.join("usr/lib/ocf/resource.d/test");
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("slow"), in_place(AGENT))?;
            std::fs::set_permissions(folder.join("slow"), std::fs::Permissions::from_mode(0o755))?;
        }
        lab.wait_until_whole()?;
        Ok(Counted { lab, files })
    }

    /// Gives the cluster both to run.
    pub fn apply(&self) -> Result<()> {
        let program = self.files.with_file_name("program");
        let more = format!(
            "[resources.{SLOW}]\nagent = \"ocf:test:slow\"\nmonitor = {{ every = \"10m\" }}\n\n\
             [resources.{SERVICE}]\nagent = \"cardea:process\"\ncommand = [\"{}\"]\nmonitor = {{ every = \"10m\" }}\n\n\
             [groups.{UNIT}]\nmembers = [\"{SLOW}\", \"{SERVICE}\"]\n",
            program.display()
        );
        let file = self.lab.write("both.toml", &cluster_file(&["a", "b", "c"], &more))?;
        self.lab.leader()?.must(&["apply", &file, "--yes"])?;
        Ok(())
    }

    /// How often each was called so far.
    pub fn counts(&self) -> Counts {
        let lines = |name: &str| std::fs::read_to_string(self.files.join(name)).unwrap_or_default().lines().count();
        Counts {
            agent_starts: lines("agent-starts"),
            agent_stops: lines("agent-stops"),
            service_starts: lines("service-starts"),
        }
    }

    /// Stops both; returns when they are.
    pub fn stop(&self) -> Result<()> {
        self.lab.leader()?.must(&["stop", UNIT])?;
        self.wait_until_stopped()
    }

    /// Waits until both are stopped.
    pub fn wait_until_stopped(&self) -> Result<()> {
        until("both are stopped", || {
            let resource = self.lab.resource(SLOW)?;
            if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
        })
    }

    /// Kills the worker that has just begun this operation of the agent; returns its node.
    pub fn kill_inside(&self, operation: &str, since_us: u64) -> Result<String> {
        let event = until(&format!("a {operation} begins"), || {
            let events = self.lab.events_of(&["op-begun"], since_us).map_err(|error| error.to_string())?;
            let is_it = |event: &&Value| {
                event["subject"] == SLOW && event["reason"].as_str().is_some_and(|reason| reason.starts_with(operation))
            };
            events.iter().find(is_it).cloned().ok_or_else(|| format!("{events:?}"))
        })?;
        let node = event["node"].as_str().context("an event has a node")?.to_owned();
        processes::kill(&self.lab.worker(&node)?);
        Ok(node)
    }

    /// Lets the next start of the program on any node hang between its spawn and the note of it.
    ///
    /// The note is written to a file that is then renamed: a pipe in its place, which nobody reads, holds the writer.
    pub fn hold_the_note(&self) -> Result<()> {
        for node in self.lab.nodes()? {
            let folder = node.root.join("run/cardea/services");
            std::fs::create_dir_all(&folder)?;
            let pipe = folder.join(format!("{SERVICE}.new"));
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
                .with_context(|| format!("making the pipe {}", pipe.display()))?;
        }
        Ok(())
    }

    /// Kills the worker that hangs in its note, once the program has been started for the `count`th time; returns its
    /// node.
    pub fn kill_before_the_note(&self, count: usize) -> Result<String> {
        let place = until("the program is started", || {
            let started = self.counts().service_starts;
            if started < count {
                return Err(format!("{started} starts"));
            }
            let resource = self.lab.resource(SERVICE)?;
            resource["node"].as_str().map(str::to_owned).ok_or_else(|| resource.to_string())
        })?;
        // Who hangs in the old pipe hangs on; who comes next finds none.
        for node in self.lab.nodes()? {
            std::fs::remove_file(node.root.join(format!("run/cardea/services/{SERVICE}.new")))?;
        }
        let note = self.lab.node(&place).root.join("run/cardea/services").join(SERVICE);
        anyhow::ensure!(!note.exists(), "the note is written already: {}", note.display());
        processes::kill(&self.lab.worker(&place)?);
        Ok(place)
    }
}

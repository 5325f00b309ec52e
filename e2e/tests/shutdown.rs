//! Can a whole site be switched off in order, with real services, and does it come up again as if nothing had been?

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::{Lab, cluster_file, run, skip, skip_without_root, until};
use rustix::process::Signal;

const AGENTS: &str = "/usr/lib/ocf/resource.d/heartbeat";
const MEMBERS: [&str; 3] = ["a", "b", "c"];

/// Each round is one shutdown; more of them with `CARDEA_SHUTDOWNS`.
fn rounds() -> usize {
    std::env::var("CARDEA_SHUTDOWNS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// The programs of PostgreSQL, if it is installed.
fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists())
}

/// An empty database that its user can open, and the cluster file that runs it and a web server.
struct Site {
    folder: tempfile::TempDir,
    file: String,
}

impl Site {
    fn prepare(bin: &Path) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        for name in ["data", "socket", "log"] {
            std::fs::create_dir(path(name))?;
            run(Command::new("chown").args(["postgres", &path(name)]))?.ok()?;
        }
        let initdb = format!("{} -D {} -A trust", bin.join("initdb").display(), path("data"));
        run(Command::new("runuser").args(["-u", "postgres", "--", "sh", "-c", &format!("cd / && {initdb}")]))?.ok()?;
        // A node's /run is empty, and the folder for sockets that PostgreSQL was built with would be there; the agent
        // looks into this one.
        let settings = Path::new(&path("data")).join("postgresql.conf");
        let text = std::fs::read_to_string(&settings).with_context(|| settings.display().to_string())?;
        std::fs::write(&settings, format!("{text}\nunix_socket_directories = '{}'\n", path("socket")))?;
        let conf = format!(
            "pid /run/nginx.pid;\nerror_log {0}/nginx.log;\nevents {{}}\nhttp {{ access_log off; server {{ listen 8099; \
             location / {{ return 200 up; }} }} }}\n",
            folder.path().display()
        );
        std::fs::write(path("nginx.conf"), conf)?;
        let more = format!(
            "[resources.db]\nagent = \"ocf:heartbeat:pgsql\"\npgctl = \"{}\"\npsql = \"{}\"\npgdata = \"{}\"\n\
             pgdba = \"postgres\"\nsocketdir = \"{}\"\nlogfile = \"{}/pg.log\"\nstart = {{ timeout = \"60s\" }}\n\
             stop = {{ timeout = \"60s\" }}\nprefer = [\"b\"]\n\n\
             [resources.www]\nagent = \"ocf:heartbeat:nginx\"\nconfigfile = \"{}\"\nstart = {{ timeout = \"30s\" }}\n\
             stop = {{ timeout = \"30s\" }}\nprefer = [\"c\"]\nafter = [\"db\"]\n",
            bin.join("pg_ctl").display(),
            bin.join("psql").display(),
            path("data"),
            path("socket"),
            path("log"),
            path("nginx.conf")
        );
        Ok(Site { file: cluster_file(&MEMBERS, &more), folder })
    }

    /// How often PostgreSQL had to recover, and how often it found that it had been shut down.
    fn starts(&self) -> Result<(usize, usize)> {
        let log = self.folder.path().join("log/pg.log");
        let text = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let count = |words: &[&str]| text.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
        let recovered = count(&["not properly shut down", "was interrupted", "redo starts"]);
        Ok((recovered, count(&["database system was shut down"])))
    }
}

fn both_run(lab: &Lab) -> Result<()> {
    for (resource, place) in [("db", "b"), ("www", "c")] {
        until(&format!("{resource} runs on {place}"), || {
            let found = lab.resource(resource)?;
            if found["state"] == "running" && found["node"] == place { Ok(()) } else { Err(found.to_string()) }
        })
        .with_context(|| lab.logs())?;
    }
    Ok(())
}

fn all_daemons_have_ended(lab: &Lab) -> Result<()> {
    for name in MEMBERS {
        until(&format!("the daemon of {name} has ended"), || match lab.supervisor(name) {
            Ok(process) => Err(format!("{process:?}")),
            Err(_) => Ok(()),
        })
        .with_context(|| lab.logs())?;
        assert!(lab.running(name, "postgres").is_empty(), "PostgreSQL runs on on {name}");
        assert!(lab.running(name, "nginx").is_empty(), "nginx runs on on {name}");
    }
    Ok(())
}

/// Where it is in the history, the newest one.
fn last(history: &serde_json::Value, event: &str, subject: &str) -> Option<u64> {
    let entries = history.as_array()?.iter().rev();
    entries.into_iter().find(|entry| entry["event"] == event && entry["subject"] == subject)?["index"].as_u64()
}

#[test]
fn a_site_with_a_database_is_switched_off_in_order_and_on_again() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        skip_without_root("PostgreSQL in a lab");
        return Ok(());
    }
    let Some(bin) = postgres() else {
        skip("PostgreSQL", "it is not installed");
        return Ok(());
    };
    let missing: Vec<&str> =
        ["pgsql", "nginx"].into_iter().filter(|agent| !Path::new(AGENTS).join(agent).exists()).collect();
    if !missing.is_empty() || !Path::new("/usr/sbin/nginx").exists() {
        skip("OCF agents", &format!("{missing:?} of the package resource-agents, or nginx, are missing"));
        return Ok(());
    }
    let site = Site::prepare(&bin)?;
    let lab = Lab::with_file(&site.file)?;
    both_run(&lab)?;
    for round in 0..rounds() {
        let (recovered, clean) = site.starts()?;
        assert_eq!(recovered, 0, "PostgreSQL recovered before round {round}");
        if round % 2 == 0 {
            let asked = lab.node("a");
            let said = asked.cardea(&["shutdown", "--all"])?;
            ensure!(said.exit_status == Some(1) && said.err.contains("--yes"), "it asks first: {said:?}");
            ensure!(said.err.contains("db") && said.err.contains("www"), "it says what stops: {said:?}");
            let said = asked.must(&["shutdown", "--all", "--yes", "--reason", "new power supply"])?;
            ensure!(said.out.contains("has ended"), "it waits for the end: {said:?}");
        } else {
            // As systemd does when all machines are told to shut down.
            for name in MEMBERS {
                lab.signal_daemon(name, Signal::TERM)?;
            }
        }
        all_daemons_have_ended(&lab)?;
        lab.must(&["crash", "--all"])?;
        lab.must(&["start", "--all"])?;
        both_run(&lab)?;
        let history = lab.leader()?.must(&["history", "--limit", "1000", "--json"])?.json()?;
        for event in ["condemned", "fenced", "failed", "stop-failed"] {
            let found = history.as_array().into_iter().flatten().find(|entry| entry["event"] == event);
            assert!(found.is_none(), "round {round}: {found:?}\n{}", lab.logs());
        }
        if round % 2 == 0 {
            assert!(last(&history, "shutdown", "lab") < last(&history, "shutdown-off", "lab"), "{history}");
            let (www, db) = (last(&history, "released", "www"), last(&history, "released", "db"));
            assert!(www.is_some() && www < db, "what rests on the database stops first: {www:?} {db:?}");
        }
        let (recovered_now, clean_now) = site.starts()?;
        assert_eq!(recovered_now, 0, "PostgreSQL recovered in round {round}");
        assert!(clean_now > clean, "PostgreSQL found that it had been shut down: {clean} then {clean_now}");
    }
    Ok(())
}

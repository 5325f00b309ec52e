//! Cardea: the one binary. `cardea daemon` and the roles that it starts, every operator command, the lab and the demo.
//!
//! Started under the name of a fence agent (`fence_…`) or as `cardea-web`, it is that program. The lab re-executes it in
//! hidden roles. Nothing here starts a thread: a lab must enter its namespaces before there is a second one.

mod commands;
mod daemon;
mod demo;
mod diagnostics;
mod lab;
mod misfits;
mod shown;
#[cfg(test)]
mod unit_file;
mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The commands as people look for them; `cardea COMMAND --help` says more of each.
const HELP: &str = "\
{about}

{usage-heading} {usage}

See what is:
  status       problems, nodes, links, resources
  explain      why a group or resource runs where it runs, or why not
  history      what happened and why; earlier versions of the cluster file
  events       what happens on this node, line by line

Change what should be:
  check        points at mistakes in a cluster file
  plan         what a cluster file would change, or what would follow if something happened
  rehearse     plays every loss of a node through
  apply        makes a cluster file current
  rollback     makes an earlier version current again

Act:
  move         moves a group or resource, once
  start, stop  starts what was stopped; stops until it is started again
  standby      lets a node run nothing
  maintenance  keeps hands off a node, or off everything
  clear        forgets failures
  fence        cuts a node off; tests the devices; attests that a node is off
  lead         lets another node lead
  shutdown     ends this node, or the whole site, in order

Members:
  init         begins a cluster on this node
  token        lets a new node in
  join         enters a cluster
  remove       removes a node that is off or has left
  daemon       runs this node; systemd starts it

Move here:
  import       writes a cluster file from what another cluster manager is configured with

Try it:
  demo         a service survives every common failure, here, in minutes
  lab          a cluster in namespaces on this machine, to play with

Options:
{options}

Exit codes: 0 done or so already, 1 refused or failed (the reason is on stderr, with --json on stdout), 2 wrong usage.
";

/// Keeps services running while machines die.
#[derive(Debug, Parser)]
#[command(
    name = "cardea",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CARDEA_GIT_ID"), ")"),
    arg_required_else_help = true,
    help_template = HELP
)]
struct Cli {
    /// Everything of the node lies below this folder: etc/cardea, var/lib/cardea, run/cardea.
    #[arg(long, global = true, env = "CARDEA_ROOT", default_value = "/", value_name = "DIR")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(commands::status::StatusArgs),
    Check(commands::check::CheckArgs),
    Plan(commands::plan::PlanArgs),
    Rehearse(commands::rehearse::RehearseArgs),
    Apply(commands::apply::ApplyArgs),
    History(commands::history::HistoryArgs),
    Rollback(commands::apply::RollbackArgs),
    Explain(commands::explain::ExplainArgs),
    Events(commands::events::EventsArgs),
    Move(commands::change::MoveArgs),
    Standby(commands::change::StandbyArgs),
    Maintenance(commands::change::MaintenanceArgs),
    /// Starts a group or resource that an operator stopped.
    Start(commands::change::UnitArgs),
    /// Stops a group or resource until it is started again.
    Stop(commands::change::UnitArgs),
    Clear(commands::change::ClearArgs),
    Fence(commands::fence::FenceArgs),
    /// Lets another node lead the cluster; services stay where they are.
    Lead(commands::change::NodeArgs),
    Shutdown(commands::shutdown::ShutdownArgs),
    Init(commands::init::InitArgs),
    Token(commands::token::TokenArgs),
    Join(commands::join::JoinArgs),
    /// Removes a node that is off, or has left, from the cluster.
    Remove(commands::change::NodeArgs),
    Daemon(commands::daemon::DaemonArgs),
    Import(commands::import::ImportArgs),
    Demo(commands::demo::DemoArgs),
    Lab(commands::lab::LabArgs),
    #[command(hide = true)]
    Web(commands::web::WebArgs),
    /// PID 1 of a lab.
    #[command(hide = true)]
    LabHub {
        /// What it is told, as JSON in a file.
        orders: PathBuf,
    },
    /// PID 1 of a node of a lab.
    #[command(hide = true)]
    LabNode {
        /// What it is told, as JSON.
        inside: String,
    },
    /// Holds a thread of a node's daemon still.
    #[command(hide = true)]
    LabHold {
        /// Its number.
        thread: i32,
    },
}

fn main() -> ExitCode {
    let mut arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    match called {
        Some(agent) if agent.starts_with("fence_") => return lab::fence_agent::main(agent),
        Some("cardea-web") => {
            arguments.insert(1, "web".into());
        }
        Some(_) | None => {}
    }
    let is_json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let Cli { root, command } = Cli::parse_from(arguments);
    match run(&root, command) {
        Ok(exit_status) => ExitCode::from(u8::try_from(exit_status).unwrap_or(1)),
        Err(error) => {
            if is_json {
                // Whoever reads JSON gets the refusal as such; who has closed the pipe does not want it.
                let _ = commands::print_json(&commands::refusal_of(&error));
            } else {
                eprintln!("cardea: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Carries out a command; returns the exit status.
fn run(root: &Path, command: Command) -> anyhow::Result<i32> {
    use commands::{
        apply, change, check, events, explain, fence, history, init, join, plan, rehearse, shutdown, status, token,
    };
    let done = |()| 0;
    match command {
        Command::Shutdown(args) => shutdown::run(root, args).map(done),
        Command::Status(args) => status::run(root, &args),
        Command::Check(args) => check::run(root, &args),
        Command::Plan(args) => plan::run(root, &args).map(done),
        Command::Rehearse(args) => rehearse::run(&args),
        Command::Apply(args) => apply::run(root, args).map(done),
        Command::History(args) => history::run(root, &args).map(done),
        Command::Rollback(args) => apply::rollback(root, args).map(done),
        Command::Explain(args) => explain::run(root, &args).map(done),
        Command::Events(args) => events::run(root, &args).map(done),
        Command::Move(args) => change::move_unit(root, args).map(done),
        Command::Standby(args) => change::standby(root, args).map(done),
        Command::Maintenance(args) => change::maintenance(root, args).map(done),
        Command::Start(args) => change::start(root, args).map(done),
        Command::Stop(args) => change::stop(root, args).map(done),
        Command::Clear(args) => change::clear(root, args).map(done),
        Command::Fence(args) => fence::run(root, args),
        Command::Lead(args) => change::lead(root, args).map(done),
        Command::Init(args) => init::run(root, &args).map(done),
        Command::Token(args) => token::run(root, args).map(done),
        Command::Join(args) => join::run(root, args).map(done),
        Command::Remove(args) => change::remove(root, args).map(done),
        Command::Daemon(args) => commands::daemon::run(root, &args),
        Command::Import(args) => commands::import::run(&args).map(done),
        Command::Demo(args) => commands::demo::run(args),
        Command::Lab(args) => commands::lab::run(args),
        Command::Web(args) => commands::web::run(args),
        Command::LabHub { orders } => {
            let text = std::fs::read_to_string(&orders).context("the hub's orders cannot be read")?;
            lab::hub::run(serde_json::from_str(&text).context("the hub's orders make no sense")?)
        }
        Command::LabNode { inside } => {
            lab::inside::run(&serde_json::from_str(&inside).context("the node's orders make no sense")?)?;
            Ok(0)
        }
        Command::LabHold { thread } => lab::hang::run(thread).map(done),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_contradict_nobody() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_command() {
        let command = Cli::command();
        for known in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = known.get_name();
            let is_named = HELP.lines().any(|line| {
                let words = line.strip_prefix("  ").and_then(|line| line.split("  ").next()).unwrap_or_default();
                words.split(", ").any(|word| word == name)
            });
            assert!(is_named, "`cardea --help` does not mention {name}");
        }
    }

    /// Every command and option that people see says what it is for.
    #[test]
    fn everything_has_a_help_text() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{path}: `{}` has no help", argument.get_id());
            }
            for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                look(below, &path);
            }
        }
        look(&Cli::command(), "");
    }
}

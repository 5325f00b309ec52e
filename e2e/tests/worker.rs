//! Does a service notice that the daemon beside it died, was replaced, or was sent away?

use anyhow::Result;
use e2e::counted::{Counted, Counts, SERVICE, UNIT};
use e2e::processes::{self, Process};
use e2e::{Lab, now_us, until};
use rustix::process::Signal;

/// What says that somebody was taken for dead.
const VERDICTS: [&str; 4] = ["suspect", "condemned", "fence-called", "fenced"];

fn nobody_was_in_doubt(lab: &Lab, since_us: u64) -> Result<()> {
    let verdicts = lab.events_of(&VERDICTS, since_us)?;
    assert!(verdicts.is_empty(), "{verdicts:?}\n{}", lab.logs());
    Ok(())
}

fn replaced(lab: &Lab, node: &str, worker: &Process) -> Result<()> {
    until("another worker answers", || {
        let now = lab.worker(node).map_err(|error| error.to_string())?;
        if now.pid == worker.pid {
            return Err("it is still the old one".to_owned());
        }
        lab.node(node).status().map(|_| ()).map_err(|error| format!("{error:#}"))
    })
}

#[test]
fn a_worker_that_is_killed_costs_no_verdict_no_fence_and_no_service() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    let service = lab.running(&place, "web");
    for _ in 0..3 {
        let worker = lab.worker(&place)?;
        processes::kill(&worker);
        replaced(&lab, &place, &worker)?;
        lab.wait_until_whole()?;
    }
    assert_eq!(lab.running(&place, "web"), service, "the service never noticed");
    nobody_was_in_doubt(&lab, since)?;

    // The new worker watches what the old one started: a death is noticed, and the service is back in place.
    processes::kill(&service[0]);
    until("the service is another process", || {
        let now = lab.running(&place, "web");
        if now.is_empty() || now == service { Err(format!("{now:?}")) } else { Ok(()) }
    })?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, place);

    let worker = lab.worker(&place)?;
    let service = lab.running(&place, "web");
    let root = lab.node(&place).root.to_string_lossy().into_owned();
    lab.exec(&place, &["cardea", "--root", &root, "daemon", "--restart"])?.ok()?;
    replaced(&lab, &place, &worker)?;
    lab.wait_until_whole()?;
    assert_eq!(lab.running(&place, "web"), service, "services stay when the daemon is replaced");
    nobody_was_in_doubt(&lab, since)?;

    let second = lab.exec(&place, &["cardea", "--root", &root, "daemon"])?;
    assert_ne!(second.exit_status, Some(0));
    assert!(second.err.contains("already runs"), "two daemons on one root are refused: {}", second.err);
    assert_eq!(lab.running(&place, "web"), service);
    lab.wait_until_whole()?;
    nobody_was_in_doubt(&lab, since)
}

#[test]
fn what_a_dead_worker_had_begun_is_carried_out_exactly_once() -> Result<()> {
    let counted = Counted::idle()?;
    let lab = &counted.lab;
    let since = now_us();
    let counts = |agent_starts, agent_stops, service_starts| Counts { agent_starts, agent_stops, service_starts };
    counted.apply()?;
    counted.kill_inside("start", since)?;
    lab.wait_until_whole()?;
    assert_eq!(counted.counts(), counts(1, 0, 1), "{}", lab.logs());

    let place = lab.place_of(SERVICE)?;
    let since_stop = now_us();
    lab.leader()?.must(&["stop", UNIT])?;
    counted.kill_inside("stop", since_stop)?;
    counted.wait_until_stopped()?;
    assert_eq!(lab.running(&place, "1000000"), [], "what is stopped does not run");
    assert_eq!(counted.counts(), counts(1, 1, 1), "{}", lab.logs());

    counted.hold_the_note()?;
    lab.leader()?.must(&["start", UNIT])?;
    let place = counted.kill_before_the_note(2)?;
    lab.wait_until_whole()?;
    assert_eq!(counted.counts(), counts(2, 1, 2), "{}", lab.logs());
    assert_eq!(lab.running(&place, "1000000").len(), 1, "the one that was started is the one that is kept");
    nobody_was_in_doubt(lab, since)
}

#[test]
fn a_serving_node_that_is_told_to_end_hands_over_first_and_nobody_is_fenced() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    lab.leader()?.must(&["lead", &place])?;
    until("the serving node leads", || {
        let leader = lab.status()?["leader"].as_str().map(str::to_owned);
        if leader.as_deref() == Some(place.as_str()) { Ok(()) } else { Err(format!("{leader:?}")) }
    })?;
    lab.wait_until_whole()?;
    lab.signal_daemon(&place, Signal::TERM)?;
    let next = until("the service runs elsewhere", || {
        let next = lab.place_now("web")?;
        if next == place { Err(format!("still on {place}")) } else { Ok(next) }
    })?;
    until("the daemon has ended", || lab.supervisor(&place).map_or(Ok(()), |left| Err(format!("{left:?}"))))?;
    // Whatever ends with another status than 0 is started again by the node's PID 1, as by systemd.
    assert!(!lab.logs().contains("is started again"), "{}", lab.logs());
    assert_eq!(lab.running(&place, "web"), []);
    let member = lab.member(&place).map_err(anyhow::Error::msg)?;
    assert_eq!(member["state"], "left", "{member}");
    let fences = lab.events_of(&["condemned", "fence-called", "fenced"], since)?;
    assert!(fences.is_empty(), "{fences:?}");

    lab.must(&["start", &place])?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, next, "who comes back takes nothing");
    Ok(())
}

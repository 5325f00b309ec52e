//! Stories of members: who is admitted, which life counts, who leaves, who flaps.

mod common;

use common::{A, B, C, Cluster, W, incarnation};
use model::{ActionKind, Domain, MemberState, NodeRole, ResourceState, Term, UnitName, WallTime};
use state::{Command, is_suppressed};

fn join_as(cluster: &Cluster, change: impl FnOnce(&mut String, &mut String, &mut String, &mut bool)) -> Command {
    let mut command = cluster.join(B, 2);
    if let Command::Join { boot_id, machine_id, storage_uuid, old_heard_recently, .. } = &mut command {
        change(boot_id, machine_id, storage_uuid, old_heard_recently);
    }
    command
}

#[test]
fn a_new_boot_of_the_same_machine_frees_what_its_old_life_held() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.must(cluster.join(B, 2));
    assert_eq!(cluster.holder("site"), None);
    assert!(cluster.state.proven_free.contains_key(&UnitName::from("site")));
    assert_eq!(cluster.state.members[&B].incarnation, incarnation(B, 2));
    assert_eq!(cluster.knows("web", B), ResourceState::Unknown, "it is to be probed");
    assert_eq!(cluster.refused(cluster.join(B, 1)), "this incarnation of b is dead for ever; the node must boot again");
    assert_eq!(cluster.refused(cluster.grant("site", A)), "address is unknown on b, not known to be stopped");
}

#[test]
fn a_new_life_without_proof_waits_for_the_fence() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    let tail = "): fence it, or confirm that it is off";
    let needs = |why: &str| format!("the previous life of b must be proven off first ({why}{tail}");
    let same_boot = join_as(&cluster, |boot, _, _, _| *boot = "boot-2-1".into());
    assert_eq!(cluster.refused(same_boot), needs("it has not booted anew"));
    let other_machine = join_as(&cluster, |_, machine, _, _| *machine = "machine-x".into());
    assert_eq!(cluster.refused(other_machine.clone()), needs("it is not the same machine"));
    let no_machine = join_as(&cluster, |_, machine, _, _| machine.clear());
    assert_eq!(cluster.refused(no_machine), needs("it is not the same machine"));
    let heard = join_as(&cluster, |_, _, _, heard| *heard = true);
    assert_eq!(cluster.refused(heard), needs("it was heard just now"));
    cluster.must(cluster.confirm(B));
    cluster.must(other_machine);
    assert_eq!(cluster.state.members[&B].machine_id, "machine-x");
}

#[test]
fn a_condemned_life_ends_by_a_proven_new_boot() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.must(cluster.condemn(B));
    assert_eq!(cluster.refused(cluster.join(B, 1)), "b is condemned");
    cluster.must(cluster.join(B, 2));
    assert_eq!((cluster.holder("site"), cluster.state.members[&B].state), (None, MemberState::Online));
}

#[test]
fn another_storage_is_another_node() {
    let mut cluster = Cluster::ready();
    let command = join_as(&cluster, |_, _, storage, _| *storage = "disk-x".into());
    assert!(cluster.refused(command).starts_with("the storage of b is not the one it was admitted with"));
}

#[test]
fn joining_twice_is_refused_and_harmless() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.refused(cluster.join(B, 1)), "b has already joined");
}

#[test]
fn a_node_leaves_empty_handed_and_comes_back_in_the_same_boot() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    let leave = Command::Leave { node: B, incarnation: incarnation(B, 1), epoch: cluster.epoch() };
    cluster.must(Command::Act { action: ActionKind::Leave(B), reason: "SIGTERM".into() });
    assert_eq!(cluster.refused(leave.clone()), "b still holds site");
    cluster.must(cluster.begin_release("site"));
    cluster.see(B, "web", ResourceState::Stopped);
    cluster.see(B, "address", ResourceState::Stopped);
    cluster.must(cluster.release("site"));
    cluster.must(leave.clone());
    assert_eq!(cluster.state.members[&B].state, MemberState::Left);
    assert_eq!(cluster.refused(leave), "b is left, not online");
    assert_eq!(cluster.refused(cluster.grant("site", B)), "b is left, not online");
    cluster.must(cluster.join(B, 1));
    assert_eq!(cluster.state.members[&B].state, MemberState::Online);
    assert!(cluster.state.actions.is_empty(), "it no longer leaves");
    assert_eq!(cluster.knows("web", B), ResourceState::Unknown, "much may have happened meanwhile");
    assert_eq!(cluster.state.members[&B].flap_penalty, 0, "leaving in order is no flap");
}

#[test]
fn a_node_that_changed_its_mind_stays() {
    let mut cluster = Cluster::ready();
    cluster.must(Command::Act { action: ActionKind::Leave(B), reason: "SIGTERM".into() });
    cluster.must(cluster.join(B, 1));
    assert!(cluster.state.actions.is_empty());
    assert_eq!(cluster.knows("web", B), ResourceState::Stopped, "it was never away");
}

#[test]
fn a_node_that_is_lost_three_times_is_suppressed_for_a_while() {
    let mut cluster = Cluster::ready();
    for boot in 2..5 {
        assert!(!is_suppressed(&cluster.state.members[&B], cluster.now));
        cluster.must(cluster.condemn(B));
        cluster.must(cluster.join(B, boot));
        cluster.now.0 += 10_000;
    }
    let is_away = |cluster: &Cluster, minutes: u64| {
        is_suppressed(&cluster.state.members[&B], WallTime(cluster.now.0 + minutes * 60_000))
    };
    assert!(is_away(&cluster, 0));
    assert!(is_away(&cluster, 9));
    assert!(!is_away(&cluster, 10), "2900 has decayed below 800");
    let mut again = Cluster { state: cluster.state.clone(), ..cluster };
    again.now.0 += 8 * 60_000;
    again.must(again.condemn(B));
    again.must(again.join(B, 9));
    assert!(is_away(&again, 0), "a suppressed node that flaps stays suppressed");
    again.must(Command::Clear { resource: None, node: Some(B), reason: "new cable".into() });
    assert!(!is_away(&again, 0));
}

#[test]
fn the_penalty_halves_in_five_minutes_whichever_way_the_clock_was_wrong() {
    let mut member = Cluster::ready().state.members[&B].clone();
    let minute = 60_000;
    member.flap_at = WallTime(100 * minute);
    member.flap_penalty = 3000;
    let at = |minutes: u64| member.flap_penalty_at(WallTime(minutes * minute));
    assert_eq!((at(100), at(105), at(110)), (3000, 1500, 750));
    // A clock that was ahead must not suppress for as long as it was ahead.
    assert_eq!((at(95), at(90), at(0)), (1500, 750, 0));
    assert!(at(102) < 3000 && at(102) > 1500);
    assert_eq!(member.flap_penalty_at(WallTime(u64::MAX)), 0);
}

#[test]
fn a_token_admits_one_node_of_its_kind_in_time() {
    let mut cluster = Cluster::ready();
    let token = |id: u64, role, name: Option<&str>| Command::AddToken {
        id,
        secret_hash: vec![1; 32],
        expires: WallTime(10_000),
        role,
        name: name.map(Into::into),
    };
    cluster.must(token(7, NodeRole::Member, Some("d")));
    cluster.must(token(8, NodeRole::Member, None));
    let admit = |cluster: &Cluster, name: &str, used: u64| {
        let mut command = cluster.admit(name, &["a", "b", "c", "w", name]);
        if let Command::Admit { token, .. } = &mut command {
            *token = Some(used);
        }
        command
    };
    let unknown = "no such join token, or it was used; make a new one with `cardea token create`";
    assert_eq!(cluster.refused(admit(&cluster, "d", 9)), unknown);
    assert_eq!(cluster.refused(admit(&cluster, "e", 7)), "the join token is for another name");
    cluster.must(admit(&cluster, "d", 7));
    assert_eq!(cluster.state.members[&model::NodeId(cluster.state.applied.0)].name.as_str(), "d");
    assert!(!cluster.state.tokens.contains_key(&7), "it is used up");
    for wrong in 1..=5 {
        assert!(cluster.state.tokens.contains_key(&8), "burnt after {wrong} wrong secrets");
        cluster.must(Command::WrongToken { id: 8 });
    }
    assert_eq!(cluster.refused(Command::WrongToken { id: 8 }), unknown);
    cluster.must(token(10, NodeRole::Member, None));
    cluster.now = WallTime(10_001);
    let mut late = admit(&cluster, "e", 10);
    if let Command::Admit { config, .. } = &mut late {
        **config = common::file(&["a", "b", "c", "d", "e", "w"]);
    }
    assert_eq!(cluster.refused(late), "the join token has expired; make a new one with `cardea token create`");
}

/// The clock of a leader was a year ahead while a node was lost three times: that is forgiven by a right clock.
#[test]
fn a_wrong_clock_suppresses_nobody_for_long() {
    let mut cluster = Cluster::ready();
    let right = cluster.now;
    cluster.now = WallTime(right.0 + 365 * 24 * 3_600_000);
    for boot in 2..5 {
        cluster.must(cluster.condemn(B));
        cluster.must(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network]));
        cluster.must(cluster.join(B, boot));
    }
    assert!(is_suppressed(&cluster.state.members[&B], cluster.now));
    assert!(!is_suppressed(&cluster.state.members[&B], right));
}

/// A member that lies about itself cannot fill the log of all.
#[test]
fn an_endless_identity_is_refused() {
    let mut cluster = Cluster::ready();
    let mut join = cluster.join(B, 2);
    if let Command::Join { boot_id, .. } = &mut join {
        *boot_id = "x".repeat(129);
    }
    let why = "an identity of the machine or storage of b is longer than any real one";
    assert_eq!(cluster.refused(join), why);
    let mut admit = cluster.admit("d", &["a", "b", "c", "w", "d"]);
    if let Command::Admit { machine_id, .. } = &mut admit {
        *machine_id = "x".repeat(129);
    }
    assert_eq!(cluster.refused(admit), why.replace(" b ", " d "));
}

#[test]
fn names_and_disks_are_taken_once_and_the_file_must_name_the_newcomer() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.refused(cluster.admit("b", &["a", "b", "c", "w"])), "a member named `b` exists already");
    let mut copied = cluster.admit("d", &["a", "b", "c", "w", "d"]);
    if let Command::Admit { storage_uuid, .. } = &mut copied {
        *storage_uuid = "disk-b".into();
    }
    assert_eq!(cluster.refused(copied), "this storage already belongs to the member `b`: a copied disk cannot join");
    assert_eq!(cluster.refused(cluster.admit("d", &["a", "b", "c", "w"])), "the file has no node `d`");
    let dropping = cluster.admit("d", &["a", "b", "w", "d"]);
    assert!(cluster.refused(dropping).starts_with("the file drops the member `c`"));
}

#[test]
fn only_what_is_off_and_holds_nothing_is_removed() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    let remove = |node| Command::Remove { node, reason: "sold".into() };
    assert_eq!(cluster.refused(remove(B)), "b still holds site");
    assert!(cluster.refused(remove(C)).contains("it is online; stop its daemon"));
    cluster.must(cluster.condemn(C));
    assert_eq!(cluster.refused(remove(C)), "c is condemned");
    cluster.must(cluster.confirm(C));
    cluster.must(remove(C));
    assert!(!cluster.state.members.contains_key(&C));
    assert_eq!(cluster.refused(remove(C)), "node 3 is not a member");
    cluster.must(Command::Leave { node: W, incarnation: incarnation(W, 1), epoch: cluster.epoch() });
    cluster.must(remove(W));
}

#[test]
fn at_cold_start_a_node_may_lead_before_it_has_joined() {
    let mut cluster = Cluster::ready();
    cluster.must(Command::Coordinator { node: A, incarnation: incarnation(A, 2), term: Term(2) });
    cluster.must(cluster.join(A, 2));
    assert_eq!(cluster.state.members[&A].incarnation, incarnation(A, 2));
}

/// A daemon ends in maintenance: its member stays, with all that it holds, and is back by a Join of the same life.
#[test]
fn who_ends_in_maintenance_stays_a_holder() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    let gone = |cluster: &Cluster| Command::Gone { node: B, incarnation: incarnation(B, 1), epoch: cluster.epoch() };
    assert_eq!(cluster.refused(gone(&cluster)), "b is not in maintenance");
    cluster.must(Command::Act { action: ActionKind::NodeMaintenance(B), reason: "an upgrade".into() });
    cluster.must(gone(&cluster));
    assert!(cluster.state.gone.contains(&B));
    assert_eq!((cluster.holder("site"), cluster.state.members[&B].state), (Some(B), MemberState::Online));
    cluster.must(cluster.join(B, 1));
    assert!(cluster.state.gone.is_empty());
    assert_eq!(cluster.holder("site"), Some(B));
    // A new boot ends everything that was held before.
    cluster.must(gone(&cluster));
    cluster.must(cluster.join(B, 2));
    assert!(cluster.state.gone.is_empty());
    assert_eq!(cluster.holder("site"), None);
}

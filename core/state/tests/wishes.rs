//! Stories of what people want: versions of the file, actions, and how a state becomes bytes.

mod common;

use std::net::Ipv4Addr;

use common::{A, B, C, Cluster, W};
use model::{
    ActionKind, AgentName, Bugs, Class, ConfigVersion, Domain, LogIndex, NodeRole, ParameterValue, ResourceState,
    UnitName, WallTime,
};
use state::{CodecError, Command, Entry, action_key, decode_snapshot, digest, encode_snapshot, parameters_digest};

fn configure(cluster: &Cluster, change: impl FnOnce(&mut model::ClusterConfig)) -> Command {
    let mut config = cluster.state.config.clone();
    change(&mut config);
    Command::Configure {
        expected_version: cluster.state.config_version,
        text: "text".into(),
        config: Box::new(config),
        reason: "tuning".into(),
    }
}

/// While nodes take other addresses and may let go of the present ones at once, any two of them find each other over a
/// network on which neither address changes.
#[test]
fn addresses_change_on_one_network_after_another() {
    let mut cluster = Cluster::ready();
    cluster.state.level = 3;
    let with = |cluster: &Cluster, links: [[u8; 2]; 3]| {
        configure(cluster, |config| {
            for (node, [one, other]) in config.nodes.values_mut().zip(links) {
                node.links = vec![Ipv4Addr::new(10, 0, 1, one).into(), Ipv4Addr::new(10, 0, 2, other).into()];
            }
        })
    };
    cluster.must(with(&cluster, [[1, 1], [2, 2], [3, 3]]));
    let all = cluster.refused(with(&cluster, [[11, 11], [12, 12], [13, 13]]));
    assert!(all.starts_with("`a` and `b` would not find each other"), "{all}");
    let crosswise = cluster.refused(with(&cluster, [[1, 11], [12, 2], [3, 3]]));
    assert!(crosswise.starts_with("`a` and `b` would not find each other"), "{crosswise}");
    let one = cluster.refused(with(&cluster, [[1, 1], [2, 2], [13, 13]]));
    assert!(one.starts_with("`a` and `c` would not find each other"), "{one}");
    cluster.must(with(&cluster, [[11, 1], [12, 2], [13, 3]]));
    cluster.must(with(&cluster, [[11, 11], [12, 12], [13, 13]]));
    // Where every node keeps the former addresses until the new ones are proven, all may change.
    cluster.state.level = 4;
    cluster.must(with(&cluster, [[1, 1], [2, 2], [3, 3]]));
}

#[test]
fn of_two_changes_of_one_version_one_wins() {
    let mut cluster = Cluster::ready();
    let (first, second) = (configure(&cluster, |_| {}), configure(&cluster, |_| {}));
    let made_from = cluster.state.config_version;
    cluster.must(first);
    assert_eq!(cluster.state.config_version, ConfigVersion(cluster.state.applied.0));
    let current = cluster.state.config_version;
    assert_eq!(
        cluster.refused(second),
        format!(
            "this was made from version {made_from} of the cluster file, and version {current} is current, applied by \
             cluster (tuning)"
        )
    );
}

#[test]
fn thirty_two_versions_are_kept() {
    let mut cluster = Cluster::ready();
    for _ in 0..40 {
        let command = configure(&cluster, |_| {});
        cluster.must(command);
    }
    assert_eq!(cluster.state.config_history.len(), 32);
    assert_eq!(cluster.state.config_history.back().map(|record| record.version), Some(cluster.state.config_version));
}

#[test]
fn a_file_neither_drops_a_member_nor_changes_its_role() {
    let mut cluster = Cluster::ready();
    let drop = configure(&cluster, |config| {
        config.nodes.remove(&"b".into());
    });
    let wanted = "the file drops the member `b`, or changes its role: use `cardea remove` and `cardea join`";
    assert_eq!(cluster.refused(drop), wanted);
    let role = configure(&cluster, |config| config.nodes.get_mut(&"b".into()).expect("b").role = NodeRole::Witness);
    assert_eq!(cluster.refused(role), wanted);
}

#[test]
fn a_held_group_is_not_taken_apart() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    let apart = configure(&cluster, |config| config.groups.get_mut(&"site".into()).expect("site").members.truncate(1));
    assert_eq!(
        cluster.refused(apart),
        "`web` would change from unit `site` to `web` while `site` is held: stop it first (`cardea stop site`)"
    );
}

#[test]
fn nothing_becomes_exclusive_while_a_node_is_not_proven_off() {
    let mut cluster = Cluster::ready();
    cluster.must(cluster.condemn(B));
    let strict = configure(&cluster, |config| {
        config.resources.get_mut(&"cache".into()).expect("cache").class = Class::Exclusive;
    });
    let why = "`cache` cannot become exclusive: it may run on b, which must stop it or be proven off first";
    assert_eq!(cluster.refused(strict), why);
}

/// Two copies were tolerable: they do not become a double run by a word of the file.
#[test]
fn nothing_becomes_exclusive_that_may_run_twice() {
    let mut cluster = Cluster::ready();
    cluster.run("cache", A);
    for state in [ResourceState::Running, ResourceState::Failed, ResourceState::Blocked, ResourceState::Unknown] {
        cluster.see(B, "cache", state);
        let strict = configure(&cluster, |config| {
            config.resources.get_mut(&"cache".into()).expect("cache").class = Class::Exclusive;
        });
        assert!(cluster.refused(strict).starts_with("`cache` cannot become exclusive: it may run on b"), "{state:?}");
    }
    cluster.see(B, "cache", ResourceState::Stopped);
    let strict = configure(&cluster, |config| {
        config.resources.get_mut(&"cache".into()).expect("cache").class = Class::Exclusive;
    });
    cluster.must(strict);
}

/// The grant of a group did not ask for what joins it later: nothing starts that before it is known to run nowhere else.
#[test]
fn what_joins_a_held_group_is_barred_until_it_is_known_to_run_nowhere_else() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    let join = configure(&cluster, |config| {
        config.resources.insert("extra".into(), common::resource(Class::Exclusive));
        config.groups.get_mut(&"site".into()).expect("site").members.push("extra".into());
    });
    cluster.must(join);
    let is_barred = |cluster: &Cluster| cluster.state.barred.contains(&"extra".into());
    assert!(is_barred(&cluster), "nobody has looked for it");
    cluster.see(B, "extra", ResourceState::Running);
    cluster.see(C, "extra", ResourceState::Stopped);
    assert!(is_barred(&cluster), "it runs on b");
    cluster.see(B, "extra", ResourceState::Stopped);
    assert!(!is_barred(&cluster), "whatever is known on the holder itself");
}

/// What was a unit of its own and is known to run nowhere else may start at once; what runs elsewhere may not.
#[test]
fn what_is_regrouped_is_barred_only_while_it_may_run_elsewhere() {
    for (state, expected) in [(ResourceState::Stopped, false), (ResourceState::Running, true)] {
        let mut cluster = Cluster::ready();
        cluster.run("site", A);
        cluster.see(C, "db", state);
        let regrouped = configure(&cluster, |config| {
            config.groups.get_mut(&"site".into()).expect("site").members.push("db".into());
        });
        cluster.must(regrouped);
        assert_eq!(cluster.state.barred.contains(&"db".into()), expected, "{state:?}");
        cluster.must(cluster.condemn(C));
        cluster.must(cluster.fence_done(C, "power", &[Domain::Storage, Domain::Network]));
        assert!(cluster.state.barred.is_empty(), "c is proven off");
    }
}

/// Nothing stays barred that the next grant asks for itself.
#[test]
fn a_bar_ends_with_the_holder() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    cluster.see(C, "db", ResourceState::Running);
    let regrouped = configure(&cluster, |config| {
        config.groups.get_mut(&"site".into()).expect("site").members.push("db".into());
    });
    cluster.must(regrouped);
    cluster.must(cluster.begin_release("site"));
    for resource in ["web", "address", "db"] {
        cluster.see(A, resource, ResourceState::Stopped);
    }
    cluster.must(cluster.release("site"));
    assert!(cluster.state.barred.is_empty());
    assert_eq!(cluster.refused(cluster.grant("site", B)), "db is running on c, not known to be stopped");
}

#[test]
fn new_parameters_begin_with_a_clean_record() {
    let mut cluster = Cluster::ready();
    cluster.see_failure(A, "db", true);
    cluster.see(A, "db", ResourceState::Stopped);
    cluster.must(cluster.grant("db", B));
    cluster.must(cluster.begin_release("db"));
    cluster.see(B, "db", ResourceState::Stopped);
    cluster.must(cluster.release("db"));
    let unchanged = configure(&cluster, |_| {});
    cluster.must(unchanged);
    assert!(cluster.state.failures.contains_key(&"db".into()));
    assert!(cluster.state.proven_free.contains_key(&UnitName::from("db")));
    let change = configure(&cluster, |config| {
        let db = config.resources.get_mut(&"db".into()).expect("db");
        db.parameters.insert("port".into(), ParameterValue::Text("5432".into()));
    });
    cluster.must(change);
    assert!(cluster.state.failures.is_empty());
    assert!(!cluster.state.proven_free.contains_key(&UnitName::from("db")), "nobody proved this one free");
}

#[test]
fn a_digest_of_parameters_tells_agents_and_values_apart_and_is_never_zero() {
    let one = common::resource(Class::Exclusive);
    let mut two = one.clone();
    two.parameters.insert("port".into(), ParameterValue::Text("1".into()));
    let mut three = one.clone();
    three.agent = AgentName::Native("ip".into());
    let mut slower = one.clone();
    slower.monitor.every *= 2;
    let digests = [&one, &two, &three, &slower].map(parameters_digest);
    assert!(digests[0] != digests[1] && digests[0] != digests[2] && digests[1] != digests[2]);
    assert_eq!(digests[0], digests[3], "a new interval needs no restart");
    assert!(digests.iter().all(|digest| *digest != 0));
}

#[test]
fn a_move_is_over_when_everything_runs_where_it_was_sent() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    let go = |node| Command::Act { action: ActionKind::Move("site".into(), node), reason: "test".into() };
    assert_eq!(cluster.refused(go(A)), "site runs on a already");
    assert_eq!(cluster.refused(go(W)), "w is a witness and runs nothing");
    cluster.must(go(B));
    assert_eq!(action_key(&cluster.state, &ActionKind::Move("site".into(), B)), "move:site");
    cluster.must(cluster.begin_release("site"));
    cluster.see(A, "web", ResourceState::Stopped);
    cluster.see(A, "address", ResourceState::Stopped);
    cluster.must(cluster.release("site"));
    cluster.must(cluster.grant("site", B));
    cluster.see(B, "address", ResourceState::Running);
    assert_eq!(cluster.state.actions.len(), 1, "web does not run yet");
    cluster.see(B, "web", ResourceState::Running);
    assert!(cluster.state.actions.is_empty());
    assert_eq!(cluster.last_event(), "moved site: to b, as asked");
}

#[test]
fn a_move_of_a_unit_that_returns_by_itself_lasts_until_it_is_undone() {
    let mut cluster = Cluster::ready();
    let failback = configure(&cluster, |config| {
        config.resources.get_mut(&"db".into()).expect("db").placement.failback = true;
    });
    cluster.must(failback);
    cluster.must(Command::Act { action: ActionKind::Move("db".into(), B), reason: String::new() });
    cluster.run("db", B);
    assert_eq!(cluster.state.actions.len(), 1);
    cluster.must(Command::Undo { action: ActionKind::Move("db".into(), B), reason: String::new() });
    assert!(cluster.state.actions.is_empty());
}

#[test]
fn a_move_to_a_node_that_dies_is_forgotten() {
    let mut cluster = Cluster::ready();
    cluster.must(Command::Act { action: ActionKind::Move("site".into(), B), reason: String::new() });
    cluster.must(cluster.condemn(B));
    assert!(cluster.state.actions.is_empty());
}

#[test]
fn wishes_name_what_exists_and_can_be_taken_back_once() {
    let mut cluster = Cluster::ready();
    let stop = |unit: &str| ActionKind::Stop(unit.into());
    let act = |action| Command::Act { action, reason: String::new() };
    assert_eq!(cluster.refused(act(stop("nothing"))), "`nothing` is not a unit of the configuration");
    assert_eq!(cluster.refused(act(stop("web"))), "`web` is not a unit of the configuration");
    assert_eq!(cluster.refused(act(ActionKind::Standby(model::NodeId(99)))), "node 99 is not a member");
    cluster.must(act(stop("site")));
    cluster.must(Command::Undo { action: stop("site"), reason: String::new() });
    let again = Command::Undo { action: stop("site"), reason: String::new() };
    assert_eq!(cluster.refused(again), "nobody asked for that: there is nothing to undo");
    let clear = Command::Clear { resource: Some("nothing".into()), node: None, reason: String::new() };
    assert_eq!(cluster.refused(clear), "`nothing` is not a resource of the configuration");
}

/// A shutdown of the site is a wish to leave for each that is online; an older program could not read it.
#[test]
fn a_shutdown_asks_all_that_are_online_to_leave() {
    let mut cluster = Cluster::ready();
    let act = Command::Act { action: ActionKind::ShutDown, reason: "new power supply".into() };
    assert_eq!(act.level(), 4);
    let entry = Entry { at: WallTime(0), actor: "root@a".into(), command: act.clone() };
    assert!(Entry::decode_at(&entry.encode(), 3).is_err() && Entry::decode_at(&entry.encode(), 4).is_ok());
    let level = std::mem::replace(&mut cluster.state.level, 3);
    assert!(cluster.refused(act.clone()).starts_with("a member runs an older Cardea"));
    cluster.state.level = level;
    cluster.must(cluster.condemn(C));
    cluster.must(act);
    let wished: Vec<String> = cluster.state.actions.keys().cloned().collect();
    assert_eq!(wished, ["leave:a", "leave:b", "leave:w", "shutdown"]);
    cluster.must(Command::Undo { action: ActionKind::ShutDown, reason: "it is started again".into() });
    assert!(cluster.state.action(&ActionKind::ShutDown).is_none());
    assert!(cluster.last_event().starts_with("shutdown-off"), "{}", cluster.last_event());
}

/// Wishes stand in the history under their own names, and about what they are about.
#[test]
fn the_history_names_wishes() {
    let mut cluster = Cluster::ready();
    let act = |action| Command::Act { action, reason: "new disks".into() };
    let undo = |action| Command::Undo { action, reason: "done".into() };
    let mut told = Vec::new();
    for command in [
        act(ActionKind::Standby(B)),
        undo(ActionKind::Standby(B)),
        act(ActionKind::NodeMaintenance(B)),
        undo(ActionKind::NodeMaintenance(B)),
        act(ActionKind::Stop("site".into())),
        undo(ActionKind::Stop("site".into())),
        act(ActionKind::Move("site".into(), B)),
        undo(ActionKind::Move("site".into(), B)),
        act(ActionKind::Leave(B)),
    ] {
        cluster.must(command);
        told.push(cluster.last_event());
    }
    let expected = [
        "standby b: new disks",
        "standby-off b: done",
        "maintenance b: new disks",
        "maintenance-off b: done",
        "stop site: new disks",
        "start site: done",
        "move site: to b: new disks",
        "move-off site: done",
        "leave b: new disks",
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_history_keeps_the_last_thousand_events() {
    let mut cluster = Cluster::ready();
    for _ in 0..1_100 {
        cluster.must(Command::Clear { resource: None, node: None, reason: String::new() });
    }
    assert_eq!(cluster.state.history.len(), 1_000);
    assert_eq!(cluster.state.history.back().map(|event| event.index), Some(cluster.state.applied));
}

#[test]
fn a_snapshot_is_the_same_state_and_damage_is_found() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    cluster.see_failure(A, "web", false);
    let bytes = encode_snapshot(&cluster.state);
    let back = decode_snapshot(&bytes).expect("a good snapshot");
    assert_eq!(back, cluster.state);
    assert_eq!(digest(&back), digest(&cluster.state));
    assert_eq!(bytes[1..9], digest(&cluster.state).to_le_bytes());
    for position in [0, 5, 20, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        assert!(decode_snapshot(&damaged).is_err(), "byte {position}");
    }
    assert!(decode_snapshot(&bytes[..bytes.len() - 1]).is_err());
    assert_eq!(decode_snapshot(&[]), Err(CodecError::Empty { what: "snapshot" }));
}

#[test]
fn digests_differ_as_soon_as_one_refusal_does() {
    let cluster = Cluster::ready();
    let mut other = Cluster { state: cluster.state.clone(), ..Cluster::ready() };
    other.state.refused += 1;
    assert_ne!(digest(&cluster.state), digest(&other.state));
}

#[test]
fn an_entry_of_a_newer_version_says_so() {
    let entry = Entry { at: WallTime(5), actor: "cluster".into(), command: Command::Nothing };
    let mut bytes = entry.encode();
    bytes[0] = 9;
    assert_eq!(
        Entry::decode(&bytes).map_err(|error| error.to_string()),
        Err("the log entry has version 9, this build reads version 1: install the newer Cardea".to_owned())
    );
    let mut long = entry.encode();
    long.push(0);
    assert!(Entry::decode(&long).is_err());
}

/// These bytes lie in logs on disk: a change of the encoding must not lose them.
#[test]
fn a_stored_entry_stays_readable() {
    let entry = Entry {
        at: WallTime(1_700_000_000_000),
        actor: "cluster".into(),
        command: Command::Grant {
            unit: "site".into(),
            node: A,
            incarnation: model::Incarnation(0xfeed),
            epoch: model::Epoch(9),
            reason: "it fits".into(),
        },
    };
    let bytes: String = entry.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes, "01831b0000018bcfe5680067636c757374657282058564736974650119feed096769742066697473");
}

#[test]
fn whatever_the_bytes_nothing_panics() {
    let bytes = encode_snapshot(&Cluster::ready().state);
    let entry = Cluster::ready().admit("d", &["a", "d"]);
    let entry = Entry { at: WallTime(5), actor: "cluster".into(), command: entry }.encode();
    let mut dice: u64 = 1;
    for round in 0..2_000_usize {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut damaged = entry.clone();
        let position = usize::try_from(dice >> 33).unwrap_or(0) % damaged.len();
        damaged[position] = u8::try_from(dice >> 24 & 0xff).unwrap_or(0);
        damaged.truncate(damaged.len() - round % 7);
        drop(Entry::decode(&damaged));
        drop(decode_snapshot(&bytes[..round % bytes.len()]));
    }
}

#[test]
#[should_panic(expected = "is applied after entry")]
fn an_entry_applied_twice_is_a_bug() {
    let mut cluster = Cluster::ready();
    let entry = Entry { at: WallTime(5), actor: "cluster".into(), command: Command::Nothing };
    let index = LogIndex(cluster.state.applied.0);
    state::apply(&mut cluster.state, index, &entry, Bugs::NONE);
}

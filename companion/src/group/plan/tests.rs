//! Plans for every kind of group.

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A server without a configuration.
fn fresh(port: u16) -> Observed {
    Observed {
        address: address(port),
        replicates: None,
        in_cluster: false,
        keys: 0,
        layout: None,
        appendonly: false,
        appendfsync: "everysec".to_owned(),
        save: SAVE.to_owned(),
        min_replicas: 0,
        is_busy: false,
        fixed: None,
    }
}

fn wanted() -> Wanted {
    Wanted {
        persistence: Persistence::Aof,
        min_replicas: 1,
        fixed: Some("abc".to_owned()),
        force: BTreeSet::new(),
    }
}

/// The state after the actions.
fn done(mut servers: Vec<Observed>, actions: &[Action]) -> Vec<Observed> {
    for action in actions {
        let primary = servers[0].clone();
        let server = servers.iter_mut().find(|s| s.address == action.server);
        let server = server.unwrap();
        match &action.what {
            Step::WriteLayout => {
                server.layout = Some(LAYOUT);
                server.keys += 1;
            }
            Step::Set("appendonly", value) => server.appendonly = value == "yes",
            Step::Set("appendfsync", value) => server.appendfsync.clone_from(value),
            Step::Set("save", value) => server.save.clone_from(value),
            Step::Set(_, value) => server.min_replicas = value.parse().unwrap(),
            Step::Replicate(of) => {
                server.replicates = Some((*of, Link::Up));
                (server.keys, server.layout) = (primary.keys, primary.layout);
                server.fixed = primary.fixed;
            }
            Step::Wait(_) => {}
            Step::LoadFixed(version) => {
                // Replication copies it.
                for server in &mut servers {
                    server.fixed = Some((*version, "abc".to_owned()));
                }
            }
        }
    }
    servers
}

#[test]
fn fresh_servers_become_a_group_in_four_steps_and_then_nothing_is_left_to_do() {
    let servers = vec![fresh(1), fresh(2), fresh(3)];
    let actions = plan(&servers, &wanted()).unwrap();
    let text: Vec<String> = actions.iter().map(ToString::to_string).collect();
    assert_eq!(text[0], "10.0.0.1:1: data structure: write layout 2");
    assert_eq!(
        text[1],
        "10.0.0.1:1: persistence: set appendonly to \"yes\""
    );
    assert!(text.contains(&"10.0.0.1:3: replication: follow 10.0.0.1:1".to_owned()));
    assert_eq!(
        text.last().unwrap(),
        "10.0.0.1:1: fixed data: load version 1"
    );
    let after = done(servers, &actions);
    assert_eq!(plan(&after, &wanted()), Ok(vec![]));
}

#[test]
fn a_drift_is_mended_by_the_step_that_it_touches_alone() {
    let servers = vec![fresh(1), fresh(2)];
    let group = done(servers.clone(), &plan(&servers, &wanted()).unwrap());
    let mut drifted = group.clone();
    drifted[1].appendonly = false;
    let actions = plan(&drifted, &wanted()).unwrap();
    let step = Step::Set("appendonly", "yes".to_owned());
    assert_eq!(actions.iter().map(|a| &a.what).collect::<Vec<_>>(), [&step]);

    let mut another = wanted();
    another.fixed = Some("def".to_owned());
    let actions = plan(&group, &another).unwrap();
    let steps: Vec<&Step> = actions.iter().map(|a| &a.what).collect();
    assert_eq!(steps, [&Step::LoadFixed(2)], "a new version");
}

#[test]
fn a_replica_that_has_not_got_it_yet_is_waited_for() {
    let servers = vec![fresh(1), fresh(2)];
    let mut group = done(servers.clone(), &plan(&servers, &wanted()).unwrap());
    group[1].fixed = None;
    let actions = plan(&group, &wanted()).unwrap();
    assert!(
        matches!(
            actions[..],
            [Action {
                what: Step::Wait(_),
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn after_a_failover_the_primary_is_whom_the_others_follow() {
    let mut old = fresh(1);
    old.replicates = Some((address(2), Link::Up));
    let mut new = fresh(2);
    (new.keys, new.layout) = (5, Some(LAYOUT));
    let servers = vec![old, new, fresh(3)];
    assert_eq!(primary(&servers).unwrap().address, address(2));
    let actions = plan(&servers, &wanted()).unwrap();
    assert!(actions.contains(&Action {
        server: address(3),
        what: Step::Replicate(address(2)),
    }));
    assert!(
        !actions
            .iter()
            .any(|a| a.what == Step::Replicate(address(1)))
    );
}

#[test]
fn what_is_not_ours_is_refused_and_nothing_is_touched() {
    let refused = |servers: &[Observed]| plan(servers, &wanted()).unwrap_err();
    let mut foreign = fresh(1);
    foreign.keys = 7;
    assert!(matches!(
        refused(&[foreign])[..],
        [Refusal::Foreign { keys: 7, .. }]
    ));

    let mut newer = fresh(1);
    (newer.keys, newer.layout) = (9, Some(LAYOUT + 1));
    assert!(matches!(refused(&[newer])[..], [Refusal::Newer { .. }]));

    let mut strange = fresh(2);
    strange.replicates = Some((address(9), Link::Up));
    let found = refused(&[fresh(1), strange]);
    assert!(
        matches!(found[..], [Refusal::ReplicaOfAnother { .. }]),
        "{found:?}"
    );

    let mut own = fresh(2);
    own.keys = 3;
    let servers = [fresh(1), own];
    let found = refused(&servers);
    assert!(
        matches!(found[..], [Refusal::WouldLose { .. }]),
        "{found:?}"
    );
    assert!(found[0].to_string().contains("--force-replica 10.0.0.1:2"));
    let mut forced = wanted();
    forced.force.insert(address(2));
    assert!(plan(&servers, &forced).is_ok());

    assert!(matches!(
        refused(&[fresh(1), fresh(1)])[..],
        [Refusal::Twice { .. }]
    ));
}

#[test]
fn a_group_of_before_is_found_by_its_data() {
    let mut known = fresh(2);
    (known.keys, known.layout) = (5, Some(LAYOUT));
    let servers = [fresh(1), known];
    let actions = plan(&servers, &wanted()).unwrap();
    assert!(actions.contains(&Action {
        server: address(1),
        what: Step::Replicate(address(2)),
    }));
}

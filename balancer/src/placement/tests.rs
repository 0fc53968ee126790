//! Placing by settings, by Envoy's configuration, and by assumption.

use std::num::NonZeroU32;

use unitring_routing::hash::HashFunction;
use unitring_routing::membership::{Cause, State};

use super::*;
use crate::discovery::cluster::Policy;

fn found(fallback: Fallback) -> Found {
    Found {
        cluster: Some(Cluster {
            policy: Policy {
                fallback,
                ..Policy::default()
            },
            ..Cluster::default()
        }),
        knows_localities: true,
        ..Found::default()
    }
}

fn ring(min_size: u64) -> Fallback {
    Fallback::RingHash {
        hash: HashFunction::Murmur2,
        min_size: Some(min_size),
        max_size: None,
        hashing: Default::default(),
    }
}

fn placing(settings: &str, found: &Found) -> Placing {
    let settings = Settings::of(&format!(r#"{{"service": "a"{settings}}}"#));
    Placing::of(&settings, found, &found.members)
}

#[test]
fn a_ring_is_envoys_unless_the_settings_say_otherwise() {
    let shape = |settings: &str, fallback| placing(settings, &found(fallback)).rule.shape;
    let hash = HashFunction::Murmur2;
    let max_size = POINTS_MAX;
    let envoys = Shape::Envoy {
        hash,
        min_size: 77,
        max_size,
    };
    assert_eq!(shape("", ring(77)), envoys);
    let own = Shape::Envoy {
        hash,
        min_size: 99,
        max_size,
    };
    assert_eq!(shape(r#", "ring": {"min_size": 99}"#, ring(77)), own);
    let table_size = NonZeroU32::new(17);
    let maglev = || Fallback::Maglev {
        table_size,
        hashing: Default::default(),
    };
    let table = Shape::Maglev {
        table_size: NonZeroU32::new(17).unwrap(),
    };
    assert_eq!(shape("", maglev()), table);
    assert!(matches!(
        shape(r#", "ring": {"fill": "fixed"}"#, maglev()),
        Shape::Fixed { .. }
    ));
    let usual = Settings::of(r#"{"service": "a"}"#).rule.shape;
    assert_eq!(shape("", Fallback::Other), usual);
}

#[test]
fn thresholds_are_envoys_unless_the_settings_say_otherwise() {
    let mut found = found(ring(1024));
    let cluster = found.cluster.as_mut().unwrap();
    cluster.panic_threshold = Some(0);
    cluster.overprovisioning_factor = Some(150);
    let rule = placing("", &found).rule.health;
    assert_eq!(
        (rule.panic_threshold, rule.overprovisioning_factor),
        (0, 150)
    );
    found.overprovisioning_factor = Some(200);
    let rule = placing(r#", "health": {"panic_threshold": 40}"#, &found)
        .rule
        .health;
    assert_eq!(
        (rule.panic_threshold, rule.overprovisioning_factor),
        (40, 200)
    );
}

#[test]
fn what_depends_on_what_is_not_known_is_left_to_envoy() {
    let member = |n: u32, priority, weight: u32, state| Member {
        priority,
        state,
        weight: weight.try_into().unwrap(),
        ..Member::new(&n.to_string(), &format!("10.0.0.1:{n}"))
    };
    let mut known = found(ring(1024));
    known.members = vec![
        member(1, 0, 9, State::Serving),
        member(2, 0, 1, State::Failed(Cause::Told)),
        member(3, 1, 1, State::Serving),
    ];
    assert_eq!(placing("", &known).left, None);
    known.cluster.as_mut().unwrap().by_eds = true;
    let unsure = Some(LeftAll::UnknownWeighting);
    assert_eq!(placing("", &known).left, unsure);
    let said = r#", "health": {"weighted_priority_health": false}"#;
    assert_eq!(placing(said, &known).left, None);
    known.members[1].state = State::Serving;
    assert_eq!(placing("", &known).left, None, "it makes no difference");
    // With one priority it may decide whether that priority panics.
    let all = known.members.clone();
    let sick = State::Failed(Cause::Told);
    known.members = vec![
        member(1, 0, 9, State::Serving),
        member(2, 0, 1, sick),
        member(3, 0, 1, sick),
    ];
    assert_eq!(placing("", &known).left, unsure);
    known.members = all;
    known.cluster.as_mut().unwrap().policy.has_subsets = true;
    assert_eq!(placing("", &known).left, Some(LeftAll::Subsets));
    known.cluster = None;
    assert_eq!(placing("", &known).left, Some(LeftAll::UnknownConfig));
    known.members.pop();
    assert_eq!(placing("", &known).left, None, "one priority");
    known.knows_localities = false;
    assert_eq!(placing("", &known).left, Some(LeftAll::UnknownConfig));
}

#[test]
fn a_setting_that_contradicts_the_cluster_is_told_and_one_that_agrees_is_not() {
    let told = |settings: &str, found: &Found| {
        let settings = Settings::of(&format!(r#"{{"service": "a"{settings}}}"#));
        let lines = contradictions(&settings, found);
        let first = |line: &String| line.split(' ').next().map(str::to_owned);
        lines.iter().filter_map(first).collect::<Vec<_>>()
    };
    let mut found = found(ring(77));
    let nothing: [&str; 0] = [];
    assert_eq!(told("", &found), nothing);
    let identity = |identity| format!(r#", "ring": {{"identity": "{identity}"}}"#);
    let health = r#", "health": {"panic_threshold": 40, "overprovisioning_factor": 200,
        "weighted_priority_health": true}"#;
    let all = [
        "health.panic_threshold",
        "health.overprovisioning_factor",
        "health.weighted_priority_health",
    ];
    assert_eq!(told(health, &found), all);
    assert_eq!(told(r#", "ring": {"min_size": 99}"#, &found), ["ring"]);
    assert_eq!(told(&identity("id"), &found), ["ring.identity"]);
    assert_eq!(told(&identity("address"), &found), nothing);
    found.has_hash_keys = true;
    assert_eq!(told(&identity("address"), &found), ["ring.identity"]);
    found.has_hash_keys = false;
    found.overprovisioning_factor = Some(200);
    let cluster = found.cluster.as_mut().unwrap();
    cluster.panic_threshold = Some(40);
    cluster.weighted_priority_health = true;
    let mut by_hostname = ring(77);
    if let Fallback::RingHash { hashing, .. } = &mut by_hostname {
        hashing.by_hostname = true;
    }
    cluster.policy.fallback = by_hostname;
    cluster.policy.hash_balance_factor = Some(150);
    assert_eq!(told(health, &found), ["hash_balance_factor"]);
    let both = ["ring.identity", "hash_balance_factor"];
    assert_eq!(told(&identity("address"), &found), both);
    assert_eq!(told(&identity("id"), &found), ["hash_balance_factor"]);
    let cluster = found.cluster.as_mut().unwrap();
    (cluster.by_eds, cluster.weighted_priority_health) = (true, false);
    assert_eq!(told(health, &found), ["hash_balance_factor"], "not shown");
    found.cluster = None;
    assert_eq!(told(health, &found), nothing);
}

#[test]
fn the_runtimes_threshold_comes_before_the_clusters_and_after_the_settings() {
    let mut found = found(ring(1024));
    let threshold =
        |settings: &str, found: &Found| placing(settings, found).rule.health.panic_threshold;
    found.runtime.panic_threshold = Some(7);
    assert_eq!(threshold("", &found), 7);
    if let Some(cluster) = &mut found.cluster {
        cluster.panic_threshold = Some(20);
    }
    assert_eq!(threshold("", &found), 7);
    let own = r#", "health": {"panic_threshold": 40}"#;
    assert_eq!(threshold(own, &found), 40);
    found.cluster = None;
    assert_eq!(threshold("", &found), 7, "whatever else is hidden");
}

#[test]
fn where_a_hidden_runtime_decides_all_is_left_to_envoy() {
    let mut found = found(ring(1024));
    found.hides_runtime = true;
    let members = |failed: usize| {
        let member = |n: usize| Member {
            state: if n < failed {
                State::Failed(Cause::ActiveCheck)
            } else {
                State::Serving
            },
            ..Member::new(&n.to_string(), &format!("10.0.0.1:{n}"))
        };
        (0..4).map(member).collect::<Vec<_>>()
    };
    found.members = members(1);
    assert_eq!(
        placing("", &found).left,
        None,
        "none panics, whatever it says"
    );
    found.members = members(2);
    assert_eq!(placing("", &found).left, Some(LeftAll::UnknownRuntime));
    let own = r#", "health": {"panic_threshold": 50}"#;
    assert_eq!(placing(own, &found).left, None);
    found.hides_runtime = false;
    assert_eq!(placing("", &found).left, None);
}

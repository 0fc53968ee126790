use super::*;
use crate::drift::Wrong;
use unitring_protocol::snapshot::InstanceRest;
use unitring_routing::bounded::Reason;
use unitring_routing::membership::Member;

struct Idle;

impl Loads for Idle {
    fn take(&self, _: usize) {}
    fn give_back(&self, _: usize) {}
    fn in_flight(&self, _: usize) -> u64 {
        1
    }
    fn estimate(&self, _: usize) -> u64 {
        0
    }
    fn total(&self) -> u64 {
        0
    }
}

fn member(port: u16) -> Member {
    let address = format!("10.0.0.1:{port}");
    Member::new(&address, &address)
}

fn balancer(load: &str) -> Balancer {
    let json = format!(r#"{{"service": "orders", "load": {load}}}"#);
    let mut balancer = Balancer::new(&Settings::of(&json));
    let members: Vec<Member> = (1..=4).map(member).collect();
    let placing = Placing::unasked(&Settings::of(&json));
    let directory = Directory::first(&members, placing);
    balancer.install(directory).unwrap();
    balancer
}

fn fleet(id: &str, in_flight: u64) -> Fleet {
    let rest = vec![InstanceRest {
        id: id.parse().unwrap(),
        in_flight,
        before: 0,
        own: 0,
        updates_per_1000_s: 0,
    }];
    let service = "orders".parse().unwrap();
    Fleet {
        received_ms: 10_000,
        rest: ServiceSnapshot {
            service,
            reporters: 1,
            rank: Some(0),
            rest,
        },
    }
}

#[test]
fn a_request_without_a_key_or_without_instances_is_left_to_envoy() {
    assert_eq!(balancer("{}").decide(None, &Idle), Err(Fallback::NoKey));
    let settings = Settings::of(r#"{"service": "orders"}"#);
    assert_eq!(
        Balancer::new(&settings).decide(Some(1), &Idle),
        Err(Fallback::NoRing)
    );
}

#[test]
fn the_rest_of_the_fleet_fills_an_instance_until_the_snapshot_is_stale() {
    let mut balancer = balancer(r#"{"min_capacity": 1, "stale_after": "5s"}"#);
    let first = |balancer: &Balancer| {
        let choice = balancer.decide(Some(1), &Idle).unwrap();
        (
            balancer
                .table()
                .host(choice.candidates.first())
                .unwrap()
                .id
                .clone(),
            choice.reason,
        )
    };
    let (owner, reason) = first(&balancer);
    assert_eq!(reason, Reason::Primary);
    balancer.set_fleet(fleet(&owner, 50));
    assert_eq!(first(&balancer).1, Reason::Overflow);
    assert!(!balancer.drop_stale_fleet(15_000));
    assert_eq!(first(&balancer).1, Reason::Overflow);
    assert!(balancer.drop_stale_fleet(15_001));
    assert_eq!(first(&balancer), (owner, Reason::Primary));
}

#[test]
fn of_the_free_places_an_envoy_leaves_the_others_their_part() {
    let mut balancer = balancer(r#"{"balance_factor": 0, "min_capacity": 0, "max_in_flight": 9}"#);
    let owner = balancer.decide(Some(1), &Idle).unwrap().candidates.first();
    let id = balancer.table().host(owner).unwrap().id.clone();
    let reason = |balancer: &Balancer| {
        let choice = balancer.decide(Some(1), &Idle).unwrap();
        (choice.candidates.first() == owner, choice.reason)
    };
    // One place is free, and the other Envoy has more requests there, so it falls to that
    // Envoy. All other instances have room.
    balancer.set_fleet(fleet(&id, 8));
    assert_eq!(reason(&balancer), (false, Reason::Overflow));
    // An older companion does not say how to divide.
    let mut undivided = fleet(&id, 8);
    undivided.rest.rank = None;
    balancer.set_fleet(undivided);
    assert_eq!(reason(&balancer), (true, Reason::Primary));
}

#[test]
fn what_the_gauges_do_not_know_counts_for_the_bound() {
    let mut balancer = balancer(r#"{"balance_factor": 0, "min_capacity": 0, "max_in_flight": 3}"#);
    let owner = balancer.decide(Some(1), &Idle).unwrap().candidates.first();
    let id = balancer.table().host(owner).unwrap().id.clone();
    let drift = |more| Drift {
        instances: vec![Wrong {
            id: id.clone(),
            more,
        }],
    };
    let reason = |balancer: &Balancer| balancer.decide(Some(1), &Idle).unwrap().reason;
    balancer.set_drift(drift(2));
    assert_eq!(reason(&balancer), Reason::Primary);
    balancer.set_drift(drift(3));
    assert_eq!(reason(&balancer), Reason::Overflow);
    balancer.set_drift(drift(-3));
    assert_eq!(reason(&balancer), Reason::Primary);
}

#[test]
fn updates_count_in_the_bound_and_no_request_is_refused_for_them() {
    let owner_of = |balancer: &Balancer| balancer.decide(Some(1), &Idle).unwrap();
    let mut bounded = balancer(r#"{"balance_factor": 100, "min_capacity": 3}"#);
    let owner = owner_of(&bounded).candidates.first();
    let id = bounded.table().host(owner).unwrap().id.clone();
    bounded.set_update_loads(&[(id.clone(), 2)]);
    assert_eq!(owner_of(&bounded).reason, Reason::Primary);
    assert_eq!(bounded.update_load_of(&id), 2);
    bounded.set_update_loads(&[(id.clone(), 30)]);
    assert_eq!(owner_of(&bounded).reason, Reason::Overflow);
    bounded.set_update_loads(&[]);
    assert_eq!(owner_of(&bounded).reason, Reason::Primary);

    let mut capped = balancer(r#"{"balance_factor": 0, "min_capacity": 0, "max_in_flight": 3}"#);
    let all: Vec<_> = (1..=4)
        .map(|port| (format!("10.0.0.1:{port}"), 30))
        .collect();
    capped.set_update_loads(&all);
    assert_eq!(owner_of(&capped).reason, Reason::Primary);
}

#[test]
fn a_picture_beyond_all_numbers_neither_fills_an_instance_nor_lifts_its_cap() {
    /// Requests of this process on each instance.
    struct Held(u64);
    impl Loads for Held {
        fn take(&self, _: usize) {}
        fn give_back(&self, _: usize) {}
        fn in_flight(&self, _: usize) -> u64 {
            self.0 + 1
        }
        fn estimate(&self, _: usize) -> u64 {
            self.0
        }
        fn total(&self) -> u64 {
            4 * self.0
        }
    }
    let mut balancer = balancer(r#"{"min_capacity": 1, "max_in_flight": 6}"#);
    let mut all = fleet("10.0.0.1:1", u64::MAX);
    let [first] = all.rest.rest.as_slice() else {
        unreachable!("it has one")
    };
    let id = |port| format!("10.0.0.1:{port}").parse().unwrap();
    let of = |port| InstanceRest {
        id: id(port),
        before: u64::MAX,
        ..first.clone()
    };
    all.rest.rest = (1..=4).map(of).collect();
    balancer.set_fleet(all);
    // Of two Envoys each has three places.
    let reason = |held| balancer.decide(Some(1), &Held(held)).unwrap().reason;
    assert_ne!(reason(2), Reason::Full);
    assert_eq!(reason(3), Reason::Full);
}

#[test]
fn with_scope_process_the_fleet_does_not_count() {
    let mut balancer = balancer(r#"{"min_capacity": 1, "scope": "process"}"#);
    balancer.set_fleet(fleet("10.0.0.1:1", 1_000));
    assert_eq!((0..4).map(|host| balancer.rest_of(host)).sum::<u64>(), 0);
}

#[test]
fn under_a_cap_the_list_has_no_end_before_the_last_retry() {
    let mut balancer = balancer(r#"{"max_in_flight": 3}"#);
    let choice = balancer.decide(Some(1), &Idle).unwrap();
    let [first, full, _] = choice.candidates.as_slice() else {
        unreachable!("three are wanted")
    };
    let address = |host: &_| balancer.table().host(*host).unwrap().address.clone();
    let (first, full) = (address(first), address(full));
    let others = (1..=4).map(|port| format!("10.0.0.1:{port}"));
    let others = others.filter(|other| *other != first);
    let instances = others.map(|id| Wrong { id, more: 3 }).collect();
    balancer.set_drift(Drift { instances });
    let choice = balancer.decide(Some(1), &Idle).unwrap();
    let mut header = String::new();
    balancer.write_candidates(&choice, &mut header);
    assert!(!header.contains(&full), "{header}");
    assert_eq!(header, [first.as_str(); 3].join(","));
}

#[test]
fn candidates_are_written_as_envoy_reads_them() {
    let balancer = balancer("{}");
    let choice = balancer.decide(Some(1), &Idle).unwrap();
    let mut header = "leftover".to_owned();
    balancer.write_candidates(&choice, &mut header);
    let parts: Vec<&str> = header.split(',').collect();
    assert_eq!(parts.len(), 3);
    assert!(
        parts
            .iter()
            .all(|part| part.parse::<std::net::SocketAddr>().is_ok()),
        "{header}"
    );
}

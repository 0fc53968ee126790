//! The decisions of a table for a key, and how tables differ.

use std::num::NonZeroU32;

use super::*;
use crate::hash::{HashFunction, xxh64};
use crate::membership::{Cause, Locality, State, Warmth};

const SHAPE: Shape = Shape::Fixed {
    hash: HashFunction::XxHash64,
    virtual_nodes: NonZeroU32::new(160).unwrap(),
    max_size: 1 << 20,
};
const RULE: Rule = Rule {
    shape: SHAPE,
    identity: Identity::Address,
    health: HealthRule {
        panic_threshold: 50,
        overprovisioning_factor: 140,
        weighted: false,
    },
};

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
    Member::new(&format!("i{port}"), &format!("10.0.0.1:{port}"))
}

fn pick(table: &Table, key: &str) -> (String, Reason) {
    let hash = xxh64(key.as_bytes());
    let choice = table.choose(hash, 3, &Bound::default(), &Idle).unwrap();
    let host = table.host(choice.candidates.first()).unwrap();
    (host.id.clone(), choice.reason)
}

fn keys() -> impl Iterator<Item = String> {
    (0..500).map(|n| format!("user-{n}"))
}

#[test]
fn a_key_of_an_ejected_owner_says_so_and_the_others_stay() {
    let all = [1, 2, 3, 4].map(member);
    let before = Table::build(&all, RULE).unwrap();
    for state in [State::Failed(Cause::GatewayFailures), State::Draining] {
        let mut sick = all.clone();
        sick[2].state = state;
        let after = before.update(&sick).unwrap();
        for key in keys() {
            let (owner, reason) = pick(&before, &key);
            assert_eq!(reason, Reason::Primary);
            let (now, reason) = pick(&after, &key);
            if owner == sick[2].id {
                assert_eq!(reason, Reason::Ejected);
                assert_ne!(now, owner);
            } else {
                assert_eq!((now, reason), (owner, Reason::Primary));
            }
        }
        assert!((0.15..0.35).contains(&after.moved_from(&before)));
        let back = after.update(&all).unwrap();
        assert_eq!(back.moved_from(&before), 0.0);
        assert_eq!(back.version(), before.version());
    }
}

#[test]
fn an_instance_that_warms_up_takes_its_keys_step_by_step_and_no_others_move() {
    let mut all = [1, 2, 3, 4].map(member);
    let mut table = Table::build(&all[..3], RULE).unwrap();
    let mut share = 0.0;
    for percent in [10, 40, 70, 100] {
        all[3].warmth = Warmth::new(percent).unwrap();
        let next = table.update(&all).unwrap();
        for key in keys() {
            let (was, _) = pick(&table, &key);
            let (is, _) = pick(&next, &key);
            assert!(is == was || is == all[3].id, "{key}: {was} to {is}");
        }
        let moved = next.moved_from(&table);
        assert!(moved > 0.01, "at {percent} %");
        share += moved;
        table = next;
    }
    assert!((0.2..0.3).contains(&share), "about a quarter: {share}");
}

#[test]
fn by_id_an_instance_keeps_its_keys_at_another_address() {
    let rule = Rule {
        identity: Identity::Id,
        ..RULE
    };
    let all = [1, 2, 3, 4].map(member);
    let before = Table::build(&all, rule).unwrap();
    let mut restarted = all.clone();
    restarted[1].address = "10.9.9.9:80".to_owned();
    let after = before.update(&restarted).unwrap();
    assert_eq!(after.moved_from(&before), 0.0);
    assert_eq!(after.version(), before.version());
    assert_eq!(after.hosts()[1].address, "10.9.9.9:80");
    let by_address = Table::build(&all, RULE).unwrap();
    assert!(
        by_address
            .update(&restarted)
            .unwrap()
            .moved_from(&by_address)
            > 0.3
    );
}

#[test]
fn a_version_changes_with_members_weights_and_rule() {
    let all = [1, 2].map(member);
    let mut heavy = all.clone();
    heavy[0].weight = NonZeroU32::new(2).unwrap();
    let version = |members: &[Member]| Table::build(members, RULE).unwrap().version();
    assert_eq!(version(&all), version(&all));
    assert_ne!(version(&all), version(&all[..1]));
    assert_ne!(version(&all), version(&heavy));
    let envoy = Rule {
        shape: Shape::Envoy {
            hash: HashFunction::XxHash64,
            min_size: 1024,
            max_size: 1 << 20,
        },
        ..RULE
    };
    assert_ne!(version(&all), Table::build(&all, envoy).unwrap().version());
}

#[test]
fn nobody_is_chosen_from_nobody() {
    let table = Table::build(&[], RULE).unwrap();
    let chosen = table.choose(1, 3, &Bound::default(), &Idle);
    assert_eq!(chosen, Err(Left::NoRing));
}

/// Four instances in each of two priorities.
fn two_priorities() -> Vec<Member> {
    let of = |priority: u16| {
        (1..=4).map(move |n| Member {
            priority: priority.into(),
            ..member(10 * priority + n)
        })
    };
    of(0).chain(of(1)).collect()
}

#[test]
fn a_key_falls_to_a_priority_by_itself_and_stays_in_it_when_it_overflows() {
    struct OwnerFull(HostIndex);
    impl Loads for OwnerFull {
        fn take(&self, _: usize) {}
        fn give_back(&self, _: usize) {}
        fn in_flight(&self, host: usize) -> u64 {
            if host == self.0.get() { 1_000 } else { 1 }
        }
        fn estimate(&self, host: usize) -> u64 {
            self.in_flight(host)
        }
        fn total(&self) -> u64 {
            100
        }
    }
    let mut all = two_priorities();
    all[0].state = State::Failed(Cause::ActiveCheck);
    all[1].state = State::Failed(Cause::OutlierDetection);
    let table = Table::build(&all, RULE).unwrap();
    let bound = Bound {
        balance_factor: 125.try_into().ok(),
        ..Bound::default()
    };
    let mut first = 0;
    for key in keys() {
        let hash = xxh64(key.as_bytes());
        // 140 % of two in four.
        let expected = u32::from(hash % 100 + 1 > 70);
        let owner = table.owner(hash).unwrap();
        assert_eq!(table.host(owner).unwrap().priority, expected);
        first += 1 - expected;
        let choice = table.choose(hash, 8, &bound, &OwnerFull(owner)).unwrap();
        assert_eq!(choice.reason, Reason::Overflow);
        for candidate in choice.candidates.as_slice() {
            let host = table.host(*candidate).unwrap();
            assert_eq!((host.priority, host.state), (expected, State::Serving));
        }
    }
    assert!((300..400).contains(&first), "{first}");
}

#[test]
fn where_a_priority_fails_the_share_of_moved_keys_is_its_own() {
    let all = two_priorities();
    let before = Table::build(&all, RULE).unwrap();
    let mut half = all.clone();
    half[0].state = State::Draining;
    half[0].excluded = true;
    half[1].state = State::Failed(Cause::Told);
    half[2].state = State::Failed(Cause::Told);
    // One of three that count is healthy: 46 % of keys stay in the first priority, all of them on
    // that one.
    let after = before.update(&half).unwrap();
    assert_eq!(after.hosts().len(), 5);
    let counted = keys().filter(|key| {
        let hash = xxh64(key.as_bytes());
        let id = |table: &Table| table.host(table.owner(hash).unwrap()).unwrap().id.clone();
        id(&before) != id(&after)
    });
    let counted = counted.count() as f64 / 500.0;
    let moved = after.moved_from(&before);
    assert!((moved - counted).abs() < 0.05, "{moved}, counted {counted}");
    assert_eq!(pick(&after, "user-1").1, Reason::Ejected);
}

#[test]
fn the_last_degraded_instances_are_used_and_a_key_without_anybody_is_left() {
    let mut all = [1, 2].map(member);
    all[0].state = State::Degraded;
    all[1].state = State::Failed(Cause::ActiveCheck);
    let rule = Rule {
        health: HealthRule {
            panic_threshold: 0,
            ..RULE.health
        },
        ..RULE
    };
    let table = Table::build(&all, rule).unwrap();
    assert_eq!(pick(&table, "a").0, "i1");
    all[0].state = State::Failed(Cause::ActiveCheck);
    let table = table.update(&all).unwrap();
    let left = table.choose(1, 3, &Bound::default(), &Idle);
    assert_eq!(left, Err(Left::NoRing));
}

#[test]
fn keys_of_an_instance_that_no_header_can_name_are_left_and_the_others_are_not() {
    let mut all = [1, 2, 3, 4].map(member);
    all[1].steerable = false;
    let table = Table::build(&all, RULE).unwrap();
    for key in keys() {
        let hash = xxh64(key.as_bytes());
        let owner = table.host(table.owner(hash).unwrap()).unwrap();
        match table.choose(hash, 8, &Bound::default(), &Idle) {
            Err(left) => assert_eq!((left, &owner.id), (Left::Unnameable, &all[1].id)),
            Ok(choice) => {
                assert_eq!(table.host(choice.candidates.first()), Some(owner));
                assert_eq!(choice.candidates.as_slice().len(), 3);
                assert!(
                    choice
                        .candidates
                        .as_slice()
                        .iter()
                        .all(|host| host.get() != 1)
                );
            }
        }
    }
}

#[test]
fn keys_of_a_name_that_several_addresses_have_are_left_and_the_others_are_not() {
    let mut all = [1, 2, 3, 4].map(member);
    for at in [1, 3] {
        all[at].hash_key = Some("same".to_owned());
    }
    // For each key: whether it is left to Envoy, and whether an instance with the shared name owns
    // it.
    let left = |all: &[Member], shape: Shape| -> Vec<(bool, bool)> {
        let table = Table::build(all, Rule { shape, ..RULE }).unwrap();
        let is_left = |key: String| {
            let hash = xxh64(key.as_bytes());
            let chosen = table.choose(hash, 3, &Bound::default(), &Idle);
            let owner = table.host(table.owner(hash).unwrap()).unwrap();
            (chosen == Err(Left::Ambiguous), owner.hash_key.is_some())
        };
        keys().map(is_left).collect()
    };
    let ring = Shape::Envoy {
        hash: HashFunction::XxHash64,
        min_size: 1024,
        max_size: 1 << 20,
    };
    let maglev = Shape::Maglev {
        table_size: NonZeroU32::new(251).unwrap(),
    };
    let these = |is: Vec<(bool, bool)>| is.iter().all(|(is_left, is_same)| is_left == is_same);
    let all_are = |is: Vec<(bool, bool)>| is.iter().all(|(is_left, _)| *is_left);
    let none_is = |is: Vec<(bool, bool)>| is.iter().all(|(is_left, _)| !is_left);
    assert!(these(left(&all, ring)) && these(left(&all, maglev)));
    // The order of the two decides which slots are free for the others.
    all[1].weight = NonZeroU32::new(2).unwrap();
    assert!(these(left(&all, ring)) && all_are(left(&all, maglev)));
    // An address that occurs twice is known, whichever of the two entries owns the key.
    all[1].weight = all[3].weight;
    all[3].address = all[1].address.clone();
    assert!(none_is(left(&all, ring)) && none_is(left(&all, maglev)));
}

#[test]
fn an_address_that_is_there_twice_has_both_shares_and_is_one_candidate() {
    let mut all = [1, 2, 3, 4].map(member);
    all[3].address = all[0].address.clone();
    all[3].id = all[0].id.clone();
    let rule = Rule {
        shape: Shape::Envoy {
            hash: HashFunction::XxHash64,
            min_size: 1024,
            max_size: 1 << 20,
        },
        ..RULE
    };
    let table = Table::build(&all, rule).unwrap();
    assert_eq!(table.points(), 1024);
    for key in keys() {
        let hash = xxh64(key.as_bytes());
        let choice = table.choose(hash, 8, &Bound::default(), &Idle).unwrap();
        assert_eq!(choice.candidates.as_slice().len(), 3);
        assert!(
            choice
                .candidates
                .as_slice()
                .iter()
                .all(|host| host.get() < 3)
        );
    }
    let bound = Bound {
        balance_factor: 100.try_into().ok(),
        ..Bound::default()
    };
    let mut hosts = HostIndex::all(3);
    let capacities = hosts.by_ref().map(|host| table.capacity(&bound, host, 99));
    assert_eq!(capacities.collect::<Vec<_>>(), [50, 25, 25]);
}

#[test]
fn localities_with_weights_share_by_them_and_one_without_weight_gets_nothing() {
    let mut all = [1, 2, 3, 4, 5].map(member);
    for (member, (index, weight)) in
        all.iter_mut()
            .zip([(1, 90), (0, 10), (1, 90), (0, 10), (2, 0)])
    {
        member.locality = Some(Locality {
            index,
            weight,
            all: 100,
        });
    }
    let rule = Rule {
        shape: Shape::Envoy {
            hash: HashFunction::XxHash64,
            min_size: 1024,
            max_size: 1 << 20,
        },
        ..RULE
    };
    let table = Table::build(&all, rule).unwrap();
    let ids: Vec<&str> = table.hosts().iter().map(|host| host.id.as_str()).collect();
    assert_eq!(ids, ["i2", "i4", "i1", "i3"]);
    let heavy = keys().filter(|key| ["i1", "i3"].contains(&pick(&table, key).0.as_str()));
    let heavy = heavy.count();
    assert!((420..480).contains(&heavy), "{heavy} of 500");
}

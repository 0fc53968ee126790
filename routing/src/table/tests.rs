//! What a table says of a key, and how tables differ.

use std::num::NonZeroU32;

use super::*;
use crate::hash::xxh64;
use crate::membership::{Cause, State, Warmth};

const SHAPE: Shape = Shape::Fixed {
    hash: HashFunction::XxHash64,
    virtual_nodes: NonZeroU32::new(160).unwrap(),
    max_size: 1 << 20,
};
const RULE: Rule = Rule {
    shape: SHAPE,
    identity: Identity::Address,
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
    let address = format!("10.0.0.1:{port}");
    Member {
        id: format!("i{port}"),
        address,
        weight: NonZeroU32::MIN,
        warmth: Warmth::FULL,
        state: State::Serving,
    }
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
    assert_eq!(table.choose(1, 3, &Bound::default(), &Idle), None);
}

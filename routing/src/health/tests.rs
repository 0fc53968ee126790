//! The loads of priorities, by cases of Envoy's own arithmetic.

use super::*;
use crate::membership::Cause;
use proptest::prelude::*;

const SICK: State = State::Failed(Cause::ActiveCheck);

/// Members with this many of each state in each priority: healthy, degraded, failed, draining.
fn members(priorities: &[[usize; 4]]) -> Vec<Member> {
    let states = [State::Serving, State::Degraded, SICK, State::Draining];
    let mut members = Vec::new();
    for (priority, counts) in (0..).zip(priorities) {
        for (state, count) in states.iter().zip(counts) {
            for _ in 0..*count {
                let address = format!("10.0.0.1:{}", members.len());
                members.push(Member {
                    state: *state,
                    excluded: *state == State::Draining,
                    priority,
                    ..Member::new(&address, &address)
                });
            }
        }
    }
    members
}

/// Healthy share, degraded share and panic of each priority.
fn loads(priorities: &[[usize; 4]], threshold: u32) -> Vec<(u32, u32, bool)> {
    let rule = HealthRule {
        panic_threshold: threshold,
        ..HealthRule::default()
    };
    let loads = priority_loads(&members(priorities), &rule);
    loads
        .iter()
        .map(|l| (l.healthy, l.degraded, l.panics))
        .collect()
}

#[test]
fn a_priority_makes_up_for_its_sick_hosts_and_then_hands_over() {
    assert_eq!(loads(&[[4, 0, 0, 0]], 50), [(100, 0, false)]);
    assert_eq!(loads(&[[3, 0, 1, 0]], 50), [(100, 0, false)]);
    let half = [[2, 0, 2, 0], [2, 0, 0, 0]];
    assert_eq!(loads(&half, 50), [(70, 0, false), (30, 0, false)]);
    let none = [[0, 0, 4, 0], [2, 0, 0, 0]];
    assert_eq!(loads(&none, 50), [(0, 0, false), (100, 0, false)]);
}

#[test]
fn degraded_hosts_come_after_the_healthy_ones_of_every_priority() {
    let all = [[1, 3, 0, 0], [1, 0, 3, 0]];
    assert_eq!(loads(&all, 50), [(35, 30, false), (35, 0, false)]);
    assert_eq!(loads(&[[0, 2, 2, 0]], 50), [(0, 100, false)]);
}

#[test]
fn too_few_hosts_panic_and_all_priorities_share_by_their_hosts() {
    assert_eq!(loads(&[[1, 0, 2, 0]], 50), [(100, 0, true)]);
    assert_eq!(loads(&[[1, 0, 1, 0]], 50), [(100, 0, false)]);
    let both = [[0, 0, 3, 0], [0, 0, 1, 0]];
    assert_eq!(loads(&both, 50), [(75, 0, true), (25, 0, true)]);
    assert_eq!(loads(&[[1, 0, 3, 0]], 0), [(100, 0, false)]);
    assert_eq!(loads(&[[0, 0, 3, 0]], 0), [(100, 0, false)]);
}

#[test]
fn draining_hosts_are_in_no_denominator() {
    assert_eq!(loads(&[[1, 0, 0, 3]], 50), [(100, 0, false)]);
    assert_eq!(loads(&[[0, 0, 0, 3]], 50), [(100, 0, true)]);
}

#[test]
fn weights_count_only_where_the_rule_says_so() {
    let mut all = members(&[[1, 0, 1, 0], [1, 0, 0, 0]]);
    all[0].weight = 9.try_into().unwrap();
    let share = |weighted| {
        let rule = HealthRule {
            weighted,
            ..HealthRule::default()
        };
        priority_loads(&all, &rule)[0].healthy
    };
    assert_eq!((share(false), share(true)), (70, 100));
}

#[test]
fn a_service_of_nobody_and_a_priority_that_envoy_cannot_have_are_no_load() {
    assert_eq!(priority_loads(&[], &HealthRule::default()), []);
    let far = Member {
        priority: u32::MAX,
        ..Member::new("a", "a")
    };
    assert_eq!(priority_loads(&[far], &HealthRule::default()), []);
}

proptest! {
    #[test]
    fn the_shares_add_up_to_all_keys(
        priorities in prop::collection::vec([0usize..5, 0usize..5, 0usize..5, 0usize..3], 1..4),
        threshold in 0u32..=100,
    ) {
        let loads = loads(&priorities, threshold);
        let sum: u32 = loads.iter().map(|(healthy, degraded, _)| healthy + degraded).sum();
        prop_assert_eq!(sum, if loads.is_empty() { 0 } else { 100 });
    }
}

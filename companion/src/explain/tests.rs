//! What is explained, and what is refused.

use super::*;
use crate::loads::samples;

fn load(reporter: &str, in_flight: [u64; 4], scope: LoadScope) -> StoredLoad {
    let instance = |(n, in_flight): (u16, u64)| InstanceLoad {
        id: format!("i{n}").parse().unwrap(),
        in_flight,
        ..samples::instance(&format!("10.0.0.1:{n}"))
    };
    StoredLoad {
        bound: Some(BoundReport {
            balance_factor: 125,
            min_capacity: 2,
            max_in_flight: 0,
            scope,
        }),
        ..samples::stored(reporter, (1..).zip(in_flight).map(instance).collect())
    }
}

fn key(key: &str) -> Question {
    Question {
        key: key.to_owned(),
        ..Question::default()
    }
}

/// A key of the first instance.
fn of_first(all: &[StoredLoad]) -> String {
    let owner = |key: &String| {
        let answer = explain(&self::key(key), &all[0], all).unwrap();
        answer.owner.id == "i1"
    };
    (0..).map(|n| format!("user-{n}")).find(owner).unwrap()
}

#[test]
fn the_reported_bound_applies_to_the_load_of_the_fleet_or_of_the_reporter_alone() {
    for (scope, reason) in [
        (LoadScope::Fleet, "overflow"),
        (LoadScope::Process, "primary"),
    ] {
        let all = [
            load("a", [1, 0, 0, 0], scope),
            load("b", [9, 0, 0, 0], scope),
        ];
        let answer = explain(&key(&of_first(&all)), &all[0], &all).unwrap();
        assert_eq!(answer.reason, reason, "{scope:?}");
        assert_eq!(answer.owner.id, "i1");
        assert_eq!(answer.candidates[0].id == "i1", reason == "primary");
    }
}

#[test]
fn another_bound_can_be_asked_for() {
    let all = [load("a", [9, 0, 0, 0], LoadScope::Fleet)];
    let off = Question {
        bound: Some(OFF),
        ..key(&of_first(&all))
    };
    let answer = explain(&off, &all[0], &all).unwrap();
    assert_eq!((answer.reason, answer.owner.capacity), ("primary", None));
}

#[test]
fn without_an_instance_its_share_moves_and_with_one_it_takes_a_share() {
    let all = [load("a", [0; 4], LoadScope::Fleet)];
    let first = of_first(&all);
    let gone = Question {
        without: "i1".parse().ok(),
        ..key(&first)
    };
    let change = explain(&gone, &all[0], &all).unwrap().change.unwrap();
    assert!((0.2..0.3).contains(&change.moved), "{}", change.moved);
    assert_ne!(change.owner.as_deref(), Some("i1"));
    let newcomer = Newcomer {
        id: "i5".parse().unwrap(),
        address: "10.0.0.1:5".parse().unwrap(),
        weight: NonZeroU32::MIN,
    };
    let more = Question {
        with: Some(newcomer),
        ..key(&first)
    };
    let change = explain(&more, &all[0], &all).unwrap().change.unwrap();
    assert!((0.15..0.25).contains(&change.moved), "{}", change.moved);
}

#[test]
fn an_instance_that_is_not_there_cannot_go_and_one_that_is_cannot_come() {
    let all = [load("a", [0; 4], LoadScope::Fleet)];
    let gone = Question {
        without: "i9".parse().ok(),
        ..key("a")
    };
    let error = explain(&gone, &all[0], &all).unwrap_err().to_string();
    assert_eq!(error, "instance i9 is not reported");
    let again = Question {
        with: Some(Newcomer {
            id: "i1".parse().unwrap(),
            address: "10.0.0.9:1".parse().unwrap(),
            weight: NonZeroU32::MIN,
        }),
        ..key("a")
    };
    let error = explain(&again, &all[0], &all).unwrap_err().to_string();
    assert_eq!(error, "instance i1 is there already");
}

//! The life of an instance that fails, and of a new one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use unitring_routing::membership::Warmth;

use super::*;
use crate::directory::Shown;
use crate::directory::stat_names::StatNames;
use crate::placement::Placing;

fn member(n: u16) -> Member {
    Member::new(&format!("i{n}"), &format!("10.0.0.1:{n}"))
}

/// A service whose instances fail as a test says.
struct Service {
    judge: Judge,
    found: Vec<Member>,
    directory: Option<Directory>,
    failures: RefCell<BTreeMap<String, u64>>,
}

impl Service {
    fn of(instances: u16, settings: &str) -> Self {
        let json = format!(r#"{{"service": "orders", {settings}}}"#);
        let mut service = Self {
            judge: Judge::new(&Settings::of(&json)),
            found: (1..=instances).map(member).collect(),
            directory: None,
            failures: RefCell::default(),
        };
        service.at(0);
        service
    }

    fn fails(&self, id: &str, times: u64) {
        *self.failures.borrow_mut().entry(id.to_owned()).or_default() += times;
    }

    /// Judges, and returns which instances do not serve and which are not warm.
    fn at(&mut self, now_ms: u64) -> (Vec<String>, Vec<(String, u8)>) {
        let failures = |id: &str| self.failures.borrow().get(id).copied().unwrap_or(0);
        let before = self.directory.as_ref();
        let verdict = self.judge.judge(&self.found, before, failures, now_ms);
        for id in &verdict.forgiven {
            self.failures.borrow_mut().remove(id);
        }
        let placing = Placing::unasked(&Settings::of(r#"{"service": "orders"}"#));
        let before = self.directory.take();
        let before = before.unwrap_or_else(|| Directory::empty(placing));
        let names = &mut StatNames::default();
        let after = before.with(&verdict.members, placing, names, |_| Shown::default());
        self.directory = Some(after);
        let out = verdict.members.iter().filter(|m| m.state != State::Serving);
        let cold = verdict.members.iter().filter(|m| m.warmth != Warmth::FULL);
        (
            out.map(|m| m.id.clone()).collect(),
            cold.map(|m| (m.id.clone(), m.warmth.percent())).collect(),
        )
    }

    fn out_at(&mut self, now_ms: u64) -> Vec<String> {
        self.at(now_ms).0
    }
}

const EJECTION: &str = r#""ejection": {"consecutive_failures": 3, "base": "1s", "max": "3s"}"#;

#[test]
fn an_ejection_ends_in_a_trial_and_each_further_one_lasts_twice_as_long_up_to_the_most() {
    let mut service = Service::of(4, EJECTION);
    service.fails("i1", 2);
    assert!(service.out_at(100).is_empty());
    service.fails("i1", 1);
    assert_eq!(service.out_at(200), ["i1"]);
    assert_eq!(service.out_at(1_199), ["i1"]);
    assert!(service.out_at(1_200).is_empty(), "on trial");
    service.fails("i1", 1);
    assert_eq!(service.out_at(1_300), ["i1"], "one failure is enough");
    assert_eq!(service.out_at(3_299), ["i1"], "two seconds");
    assert!(service.out_at(3_300).is_empty());
    service.fails("i1", 1);
    assert_eq!(service.out_at(3_400), ["i1"]);
    assert_eq!(service.out_at(6_399), ["i1"], "three seconds and not four");
    assert!(service.out_at(6_400).is_empty());
    assert!(service.out_at(9_400).is_empty(), "the trial is passed");
    service.fails("i1", 2);
    assert!(service.out_at(9_500).is_empty(), "its past is forgotten");
    assert!(!service.judge.is_busy());
}

#[test]
fn failures_during_an_ejection_do_not_count_in_the_trial() {
    let mut service = Service::of(4, EJECTION);
    service.fails("i1", 3);
    assert_eq!(service.out_at(0), ["i1"]);
    service.fails("i1", 9);
    assert!(service.out_at(1_000).is_empty());
    assert!(service.out_at(1_100).is_empty());
}

#[test]
fn no_more_than_the_greatest_share_is_out_but_one_always_may_be() {
    let mut service = Service::of(4, EJECTION);
    for n in 1..=4 {
        service.fails(&format!("i{n}"), 5);
    }
    assert_eq!(service.out_at(0), ["i1", "i2"], "half of them");
    let mut alone = Service::of(1, EJECTION);
    alone.fails("i1", 5);
    assert_eq!(alone.out_at(0), ["i1"]);
    let none = r#""ejection": {"consecutive_failures": 1, "max_percent": 0}"#;
    let mut service = Service::of(2, none);
    service.fails("i1", 5);
    assert!(service.out_at(0).is_empty());
}

#[test]
fn envoys_own_verdict_stays_and_an_instance_that_left_starts_anew() {
    let mut service = Service::of(3, EJECTION);
    service.found[1].state = State::Failed(Cause::ActiveCheck);
    service.fails("i1", 3);
    assert_eq!(service.out_at(0), ["i1", "i2"]);
    let gone = service.found.remove(0);
    assert_eq!(service.out_at(10), ["i2"]);
    service.found.push(gone);
    assert_eq!(service.out_at(20), ["i2"]);
}

#[test]
fn another_vm_goes_on_from_what_the_first_remembered() {
    let mut first = Service::of(4, EJECTION);
    first.fails("i1", 3);
    first.out_at(0);
    let memory = crate::stored::encode(first.judge.memory());
    let mut second = Service::of(4, EJECTION);
    let memory = crate::stored::decode(&memory).unwrap();
    second.judge.remember(memory);
    assert_eq!(second.out_at(999), ["i1"]);
    assert!(second.out_at(1_000).is_empty());
}

#[test]
fn a_clock_that_jumps_back_does_not_prolong_an_ejection() {
    let mut service = Service::of(4, EJECTION);
    service.fails("i1", 3);
    assert_eq!(service.out_at(10_000_000), ["i1"]);
    assert_eq!(service.out_at(1_000), ["i1"]);
    assert!(service.out_at(2_000).is_empty());
}

const SLOW: &str = r#""slow_start": {"window": "10s", "start_percent": 20}"#;

#[test]
fn an_instance_that_comes_warms_up_in_steps_and_those_of_the_start_are_warm() {
    let mut service = Service::of(2, SLOW);
    assert!(service.at(0).1.is_empty());
    service.found.push(member(3));
    assert_eq!(service.at(1_000).1, [("i3".to_owned(), 20)]);
    assert_eq!(service.at(1_999).1, [("i3".to_owned(), 20)]);
    assert_eq!(service.at(6_000).1, [("i3".to_owned(), 60)]);
    assert!(service.judge.is_busy());
    assert!(service.at(11_000).1.is_empty());
    assert!(!service.judge.is_busy());
}

#[test]
fn a_slow_start_begins_when_the_first_check_passes_and_anew_after_a_failure() {
    let mut service = Service::of(2, SLOW);
    let sick = State::Failed(Cause::ActiveCheck);
    service.found.push(Member {
        state: sick,
        ..member(3)
    });
    service.at(1_000);
    service.found[2].state = State::Serving;
    assert_eq!(service.at(5_000).1, [("i3".to_owned(), 20)]);
    assert!(service.at(15_000).1.is_empty());
    service.found[0].state = sick;
    service.at(16_000);
    service.found[0].state = State::Serving;
    assert_eq!(service.at(17_000).1, [("i1".to_owned(), 20)]);
}

#[test]
fn one_that_was_unhealthy_when_the_process_started_is_not_new() {
    let mut service = Service::of(2, SLOW);
    let mut fresh = Service {
        directory: None,
        ..Service::of(2, SLOW)
    };
    fresh.found[0].state = State::Failed(Cause::ActiveCheck);
    fresh.at(0);
    fresh.found[0].state = State::Serving;
    assert!(fresh.at(1_000).1.is_empty());
    assert!(service.at(1_000).1.is_empty());
}

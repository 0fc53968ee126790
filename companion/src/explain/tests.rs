//! Answers and refusals of `explain`.

use unitring_protocol::report::{InstanceLoad, RingHash, RingShape};

use super::*;
use crate::loads::samples;

fn load(reporter: &str, in_flight: [u64; 4], scope: LoadScope) -> StoredLoad {
    let instance = |(n, in_flight): (u16, u64)| InstanceLoad {
        id: format!("i{n}").parse().unwrap(),
        in_flight,
        ..samples::instance(&format!("10.0.0.1:{n}"))
    };
    let instances = (1..).zip(in_flight).map(instance);
    let mut load = samples::stored(reporter, instances.collect());
    samples::reported_mut(&mut load).bound = Some(BoundReport {
        balance_factor: 125,
        min_capacity: 2,
        max_in_flight: 0,
        scope,
    });
    load
}

fn key(key: &str) -> Question {
    Question {
        key: key.to_owned(),
        ..Question::default()
    }
}

/// A key that the first instance owns.
fn of_first(all: &[StoredLoad]) -> String {
    let owner = |key: &String| {
        let answer = explain(&self::key(key), &all[0], all).unwrap();
        answer.owner.unwrap().id == "i1"
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
        assert_eq!(answer.owner.unwrap().id, "i1");
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
    assert_eq!(answer.reason, "primary");
    assert_eq!(answer.owner.unwrap().capacity, None);
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

/// Two instances in each of two priorities, each passed to `change`.
fn two_priorities(change: impl Fn(&mut InstanceLoad)) -> StoredLoad {
    let mut load = load("a", [0; 4], LoadScope::Fleet);
    for (number, instance) in (0..).zip(&mut load.instances) {
        instance.priority = number / 2;
        change(instance);
    }
    load
}

/// The priorities that keys go to.
fn priorities(load: &StoredLoad) -> BTreeSet<Option<u32>> {
    let all = std::slice::from_ref(load);
    let keys = (0..200).map(|n| format!("user-{n}"));
    let of = |key: String| {
        let answer = explain(&self::key(&key), load, all).unwrap();
        assert_eq!(
            answer.candidates[0].priority,
            answer.owner.unwrap().priority
        );
        answer.candidates[0].priority
    };
    keys.map(of).collect()
}

#[test]
fn a_key_falls_to_a_priority_as_health_and_its_rule_say() {
    let well = two_priorities(|_| {});
    assert_eq!(priorities(&well), [Some(0)].into());
    let first_fails = two_priorities(|instance| instance.healthy = instance.priority > 0);
    assert_eq!(priorities(&first_fails), [Some(1)].into());
    let one_fails = two_priorities(|instance| instance.healthy = instance.id.as_str() != "i1");
    assert_eq!(priorities(&one_fails), [Some(0), Some(1)].into());
    // An instance that Envoy leaves out of its count does not lower a priority's health.
    let one_leaves = two_priorities(|instance| {
        instance.draining = instance.id.as_str() == "i1";
        instance.excluded = instance.draining;
    });
    assert_eq!(priorities(&one_leaves), [Some(0)].into());
    let mut eager = one_fails;
    samples::reported_mut(&mut eager).ring.health = Some(report::HealthReport {
        panic_threshold: 0,
        overprovisioning_factor: 200,
        weighted_priority_health: false,
    });
    assert_eq!(priorities(&eager), [Some(0)].into());
    let flat = load("a", [0; 4], LoadScope::Fleet);
    assert_eq!(priorities(&flat), [None].into());
}

#[test]
fn degraded_instances_hash_keys_and_weights_of_localities_count_as_the_filter_counts_them() {
    let share = |load: &StoredLoad, id: &str| {
        let all = std::slice::from_ref(load);
        let keys = (0..400).map(|n| format!("user-{n}"));
        let owns = |key: &String| {
            let answer = explain(&self::key(key), load, all).unwrap();
            answer.candidates[0].id == id
        };
        keys.filter(owns).count()
    };
    let mut degraded = load("a", [0; 4], LoadScope::Fleet);
    degraded.instances[0].degraded = true;
    assert_eq!(share(&degraded, "i1"), 0);
    // Nine of ten keys go to the first two.
    let mut zones = load("a", [0; 4], LoadScope::Fleet);
    samples::reported_mut(&mut zones).ring.localities = vec![90, 10];
    samples::reported_mut(&mut zones).ring.shape = RingShape::Envoy {
        min_size: 1024,
        max_size: 8_388_608,
        hash: RingHash::XxHash,
    };
    for instance in &mut zones.instances[2..] {
        instance.locality = 1;
    }
    let first = share(&zones, "i1") + share(&zones, "i2");
    assert!((330..390).contains(&first), "{first}");
    // Swapping the hash keys of two instances swaps their keys.
    let plain = load("a", [0; 4], LoadScope::Fleet);
    let mut swapped = plain.clone();
    swapped.instances[0].hash_key = Some(plain.instances[1].address.clone());
    swapped.instances[1].hash_key = Some(plain.instances[0].address.clone());
    assert_eq!(share(&swapped, "i1"), share(&plain, "i2"));
    assert_ne!(share(&swapped, "i1"), share(&plain, "i1"));
}

#[test]
fn a_key_that_the_filter_leaves_to_envoy_says_so_and_why() {
    let why = |load: &StoredLoad, key: &str| {
        let answer = explain(&self::key(key), load, std::slice::from_ref(load)).unwrap();
        assert_eq!((answer.reason, answer.candidates.len()), ("fallback", 0));
        (answer.owner.map(|owner| owner.id), answer.because.unwrap())
    };
    let mut pipe = load("a", [0; 4], LoadScope::Fleet);
    let key = of_first(std::slice::from_ref(&pipe));
    // Placed by id, so that the key keeps its owner.
    samples::reported_mut(&mut pipe).ring.identity = report::Identity::Id;
    let key_of = |load: &StoredLoad| {
        let is_first = |key: &String| {
            let answer = explain(&self::key(key), load, std::slice::from_ref(load)).unwrap();
            answer.owner.unwrap().id == "i1"
        };
        (0..).map(|n| format!("user-{n}")).find(is_first).unwrap()
    };
    let by_id = key_of(&pipe);
    for address in ["/run/a.sock", "[fe80::1%3]:80"] {
        pipe.instances[0].address = address.to_owned();
        let (owner, because) = why(&pipe, &by_id);
        assert_eq!(owner.as_deref(), Some("i1"));
        assert_eq!(because, "a request header cannot name the owner");
    }
    let mut whole = load("a", [0; 4], LoadScope::Fleet);
    samples::reported_mut(&mut whole).ring.points = 0;
    let expected = "the filter leaves all keys of this service to Envoy";
    assert_eq!(why(&whole, &key), (None, expected));
    whole.instances.clear();
    let expected = "no instance takes requests, as far as the filter knows";
    assert_eq!(why(&whole, &key), (None, expected));
}

#[test]
fn whether_the_ring_is_that_of_the_report_is_told() {
    let mut load = load("a", [0; 4], LoadScope::Fleet);
    let ask = |load: &StoredLoad| explain(&key("ada"), load, std::slice::from_ref(load)).unwrap();
    let first = ask(&load);
    assert!(!first.as_reported);
    samples::reported_mut(&mut load).ring.version = first.ring.version;
    assert!(ask(&load).as_reported);
    load.instances.pop();
    assert!(!ask(&load).as_reported);
}

#[test]
fn an_address_that_is_listed_twice_carries_its_load_once() {
    let mut once = load("a", [4, 0, 0, 0], LoadScope::Fleet);
    let capacity = |load: &StoredLoad| {
        let all = std::slice::from_ref(load);
        let answer = explain(&key(&of_first(all)), load, all).unwrap();
        let owner = answer.owner.unwrap();
        (owner.in_flight, owner.capacity.unwrap())
    };
    let before = capacity(&once);
    let twice = InstanceLoad {
        in_flight: 0,
        ..once.instances[0].clone()
    };
    once.instances.push(twice);
    let after = capacity(&once);
    assert_eq!((after.0, before.0), (4, 4));
    assert!(after.1 <= 2 * before.1, "{after:?} of {before:?}");
}

#[test]
fn what_updates_count_as_weighs_like_requests_and_is_shown_apart() {
    let busy = load("a", [9, 0, 0, 0], LoadScope::Fleet);
    let mut all = [load("a", [0; 4], LoadScope::Fleet)];
    let question = key(&of_first(&all));
    (
        all[0].instances[0].in_flight,
        all[0].instances[0].update_load,
    ) = (2, 7);
    let [updating, busy] = [&all[0], &busy].map(|by| {
        let answer = explain(&question, by, std::slice::from_ref(by)).unwrap();
        (answer.owner.unwrap(), answer.candidates[0].id.clone())
    });
    assert_eq!(updating.1, busy.1);
    assert_ne!(updating.1, "i1", "it is over its capacity");
    let (owner, busy) = (updating.0, busy.0);
    assert_eq!((owner.in_flight, owner.update_load), (2, Some(7)));
    assert_eq!((busy.in_flight, busy.update_load), (9, None));
    assert_eq!(owner.capacity, busy.capacity);
}

#[test]
fn weights_as_large_as_they_can_be_do_not_overflow() {
    let instance = |n: u32| InstanceLoad {
        weight: u32::MAX,
        in_flight: u64::MAX,
        priority: n % 3 * 1_000_000_000,
        locality: n,
        ..samples::instance(&format!("10.0.{}.{}:80", n / 256, n % 256))
    };
    let mut huge = samples::stored("a", (0..16_384).map(instance).collect());
    samples::reported_mut(&mut huge).bound = Some(BoundReport {
        balance_factor: u32::MAX,
        min_capacity: u64::MAX,
        max_in_flight: u64::MAX,
        scope: LoadScope::Fleet,
    });
    samples::reported_mut(&mut huge).ring.health = Some(report::HealthReport {
        panic_threshold: u32::MAX,
        overprovisioning_factor: u32::MAX,
        weighted_priority_health: true,
    });
    samples::reported_mut(&mut huge).ring.localities = vec![u32::MAX; 16_384];
    samples::reported_mut(&mut huge).ring.shape = RingShape::Envoy {
        min_size: 1024,
        max_size: 8_388_608,
        hash: RingHash::XxHash,
    };
    let all = vec![huge; 3];
    let answer = explain(&key("ada"), &all[0], &all).unwrap();
    assert_eq!(answer.owner.unwrap().weight, u32::MAX);
}

#[test]
fn the_load_of_another_unit_explains_nothing() {
    let mut foreign = load("a", [0; 4], LoadScope::Fleet);
    foreign.source = loads::LoadSource::Unit("west".parse().unwrap());
    let all = std::slice::from_ref(&foreign);
    let refused = explain(&key("ada"), &foreign, all).unwrap_err();
    assert!(matches!(refused, ExplainError::NoShape));
    assert!(parts(&foreign, all).is_err());
    assert!(loads::latest(all).is_none());
}

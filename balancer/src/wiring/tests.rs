//! Which mistakes the filter sees, and how often it logs them.

use super::*;
use crate::discovery::cluster::{Hashing, Policy};

fn settings(more: &str) -> Settings {
    Settings::of(&format!(r#"{{"service": "orders"{more}}}"#))
}

fn cluster(headers: Option<&[&str]>) -> Cluster {
    let owned = |headers: &[&str]| headers.iter().map(|h| (*h).to_owned()).collect();
    Cluster {
        policy: Policy {
            steer_headers: headers.map(owned),
            has_subsets: false,
            fallback: Fallback::Maglev {
                table_size: None,
                hashing: Hashing::default(),
            },
            ..Policy::default()
        },
        ..Cluster::default()
    }
}

#[test]
fn a_policy_must_read_the_filters_header_and_fall_back_to_a_ring() {
    let kinds = |cluster: &Cluster| {
        let checked = check_policy(&settings(""), cluster);
        let found = checked.into_iter().filter(|(_, mistake)| mistake.is_some());
        found.map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&cluster(Some(&["x-unitring-host"]))), []);
    assert_eq!(kinds(&cluster(Some(&["x-other"]))), [Kind::SteerHeader]);
    assert_eq!(kinds(&cluster(Some(&[]))), [Kind::SteerHeader]);
    assert_eq!(kinds(&cluster(None)), [Kind::SteerHeader]);
    let mut other = cluster(Some(&["x-unitring-host"]));
    other.policy.fallback = Fallback::Other;
    assert_eq!(kinds(&other), [Kind::FallbackPolicy]);
}

#[test]
fn outlier_detection_that_can_eject_nobody_is_told() {
    let mut cluster = cluster(None);
    let by = |runtime, cluster: &Cluster, hosts| {
        check_outlier_detection(&settings(""), cluster, runtime, hosts).is_some()
    };
    let seen = |cluster: &Cluster, hosts| by(Runtime::default(), cluster, hosts);
    assert!(!seen(&cluster, 4), "there is none");
    cluster.outlier_ejection_percent = Some(10);
    assert!(seen(&cluster, 9) && !seen(&cluster, 10));
    let runtime = |percent| Runtime {
        max_ejection_percent: Some(percent),
        ..Runtime::default()
    };
    assert!(!by(runtime(50), &cluster, 9) && by(runtime(0), &cluster, 10));
    cluster.always_ejects_one = true;
    assert!(!seen(&cluster, 4));
}

#[test]
fn no_route_may_remove_what_the_filter_writes_or_reads() {
    let route = |from_requests: &[&str], from_answers: &[&str]| Route {
        virtual_host: "all".to_owned(),
        hash_policy: Vec::new(),
        retries_answers: false,
        removes_from_requests: from_requests.iter().map(|&name| name.to_owned()).collect(),
        removes_from_answers: from_answers.iter().map(|&name| name.to_owned()).collect(),
        changes: Vec::new(),
    };
    let (off, on) = (settings(""), settings(r#", "capture": {"mode": "count"}"#));
    let update = route(&["x-user-id"], &["x-unitring-update"]);
    assert_eq!(check_headers(&off, std::slice::from_ref(&update)), None);
    let mistake = check_headers(&on, std::slice::from_ref(&update)).unwrap();
    assert!(
        mistake
            .seen
            .contains("removes x-unitring-update from answers"),
        "{}",
        mistake.seen
    );
    let steer = route(&["x-unitring-host"], &[]);
    let mistake = check_headers(&off, &[update, steer.clone()]).unwrap();
    assert!(
        mistake
            .seen
            .contains("removes x-unitring-host from requests"),
        "{}",
        mistake.seen
    );
    let other = settings(r#", "steer": {"header": "x-place"}"#);
    assert_eq!(check_headers(&other, &[steer]), None);
}

#[test]
fn samples_speak_once_there_are_enough_of_them() {
    let mut samples = Samples::default();
    assert_eq!(samples.look(3, 3), None);
    assert!(samples.look(4, 4).unwrap().is_some());
    assert_eq!(samples.look(7, 4), None);
    assert_eq!(samples.look(8, 5), Some(None), "one of four is a retry");
}

#[test]
fn a_mistake_is_told_at_once_then_with_growing_pauses_and_no_more_once_it_is_mended() {
    let mut wiring = Wiring::default();
    let mistake = || Some(Mistake::new("seen", "mend"));
    wiring.set(Kind::Stats, mistake());
    wiring.set(Kind::Service, mistake());
    let lines = wiring.warnings(1_000);
    let expected =
        ["service", "stats"].map(|kind| format!("wired wrongly: {kind}: seen; mend: mend"));
    assert_eq!(lines, expected);
    wiring.set(Kind::Service, None);
    wiring.set(Kind::Stats, mistake());
    assert!(wiring.warnings(60_999).is_empty());
    assert_eq!(wiring.warnings(61_000).len(), 1);
    assert!(wiring.warnings(180_999).is_empty(), "twice as long");
    assert_eq!(wiring.warnings(181_000).len(), 1);
    let kinds: Vec<String> = wiring.findings().into_iter().map(|f| f.kind).collect();
    assert_eq!(kinds, ["stats"]);
    wiring.set(Kind::Stats, None);
    assert!(wiring.warnings(10_000_000).is_empty() && !wiring.has(Kind::Stats));
}

#[test]
fn every_kind_is_listed_in_its_order() {
    assert!(Kind::ALL.is_sorted());
}

#[test]
fn statuses_matter_only_where_the_filter_ejects() {
    let told = |more: &str, hidden| check_statuses(&settings(more), hidden, true);
    assert_eq!(told("", None), None);
    for hidden in [Hidden::Refused, Hidden::NotKept, Hidden::RetriesNotKept] {
        assert!(told("", Some(hidden)).is_some(), "{hidden:?}");
        assert_eq!(
            told(r#", "ejection": {"consecutive_failures": 0}"#, Some(hidden)),
            None
        );
    }
    let elsewhere = |hidden| check_statuses(&settings(""), Some(hidden), false);
    assert_eq!(elsewhere(Hidden::NotKept), None, "another cluster counts");
    assert!(elsewhere(Hidden::Refused).is_some());
}

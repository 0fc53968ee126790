//! A filter's report, the companion's answer to it, and its explanations.

use anyhow::Result;
use unitring::testing::{
    LoadReport, Newcomer, Owner, Question, StoredLoad, advance, check, explain, in_flight,
    instances, latest, rest,
};
use unitring_protocol::report::{Report, RingShape};

use super::feed;

const VALID: [&str; 3] = [
    include_str!("../../../../protocol/tests/golden/report_first.json"),
    r#"{"version": 1, "reporter": "e~1", "sequence": 5, "interval_ms": 1000, "services": [{"service":
        "orders", "ring": {"version": "r", "points": 16, "shape": {"fill": "envoy", "min_size": 16,
        "max_size": 64, "hash": "murmur_hash_2"}, "identity": "id"}, "bound": {"balance_factor": 125,
        "min_capacity": 1, "max_in_flight": 9, "scope": "fleet"}, "fallbacks": 2, "instances":
        [{"id": "a", "address": "10.0.0.1:1", "weight": 1, "healthy": true, "warmth": 10, "calls": 4,
        "in_flight": 3, "updates": 1}, {"id": "b", "address": "10.0.0.1:2", "weight": 2, "healthy":
        false, "draining": true, "calls": 9, "in_flight": 8, "updates": 0}], "events": [{"number": 7,
        "at_ms": 1, "kind": "ejected", "instance": "b", "reason": "why", "ring": "r", "moved": 0.5}]}]}"#,
    r#"{"version": 1, "reporter": "e~2", "sequence": 5, "interval_ms": 1000, "services": [{"service":
        "orders", "ring": {"version": "r", "points": 17, "shape": {"fill": "maglev", "table_size": 17}},
        "fallbacks": 0, "instances": [{"id": "c", "address": "10.0.0.1:3", "weight": 3, "healthy": true,
        "calls": 4, "failures": 2, "in_flight": 3, "updates": 1, "priority": 1, "locality": 1, "degraded": true,
        "excluded": true, "hash_key": "k"}], "wiring": [{"kind": "steer_header", "seen": "s", "mend": "m"}]}]}"#,
];

#[test]
fn a_report_of_any_bytes_is_refused_or_taken_and_explained() -> Result<()> {
    let valid = VALID.map(|text| text.as_bytes().to_vec());
    let mut loads: Vec<StoredLoad> = Vec::new();
    let owner = Owner::unit(&"east".parse()?);
    feed(&valid, 3, |input| {
        let Ok(report) = serde_json::from_slice::<Report>(input) else {
            return false;
        };
        if check(&report).is_err() {
            return false;
        }
        // The companion uses its own clock.
        let now_ms = 1_700_000_000_000;
        for service in &report.services {
            // Often the previous reporter, often a new one.
            let last = loads.iter().find(|load| load.reporter == report.reporter);
            let report = LoadReport::of_reporter(&report, service.clone(), &owner);
            let Some(advance) = advance(last, &report, now_ms) else {
                continue;
            };
            loads.retain(|load| load.reporter != report.reporter);
            loads.truncate(3);
            loads.push(advance.next);
            let answer = rest(&service.service, &loads, Some(&report.reporter));
            assert!(serde_json::to_vec(&answer).is_ok());
            assert!(in_flight(&loads).len() <= instances(&loads).len());
            if let Some(by) = latest(&loads).filter(|by| is_small(by)) {
                explain_all(by, &loads);
            }
        }
        true
    })
}

fn explain_all(by: &StoredLoad, loads: &[StoredLoad]) {
    let newcomer = Newcomer {
        id: "new".parse().unwrap(),
        address: "10.0.0.9:9".parse().unwrap(),
        weight: std::num::NonZeroU32::MAX,
    };
    let gone = by.instances.first().map(|instance| instance.id.clone());
    for (without, with) in [(None, None), (gone, None), (None, Some(newcomer))] {
        let with = with.filter(|_| matches!(shape(by), Some(RingShape::Maglev { .. })));
        let question = Question {
            key: "ada".to_owned(),
            without,
            with,
            ..Question::default()
        };
        if let Ok(answer) = explain(&question, by, loads) {
            assert!(serde_json::to_vec(&answer).is_ok());
        }
    }
}

fn shape(load: &StoredLoad) -> Option<RingShape> {
    load.source.reported().map(|reported| reported.ring.shape)
}

/// Like `loads::is_small`, for the content of a report.
fn is_small(load: &StoredLoad) -> bool {
    let weights = || {
        load.instances
            .iter()
            .map(|instance| u64::from(instance.weight))
    };
    let (least, sum) = (weights().min().unwrap_or(1).max(1), weights().sum::<u64>());
    let Some(shape) = shape(load) else {
        return true;
    };
    match shape {
        RingShape::Envoy {
            min_size, max_size, ..
        } => max_size <= 512 || min_size.saturating_add(sum / least) <= 512,
        RingShape::Fixed {
            virtual_nodes,
            max_size,
            ..
        } => {
            let points = u64::from(virtual_nodes).saturating_mul(sum);
            points <= 512 || max_size <= 512 || points > max_size
        }
        RingShape::Maglev { table_size } => table_size <= 512 || table_size > 5_000_011,
    }
}

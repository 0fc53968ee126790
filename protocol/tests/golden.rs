//! The wire format, byte for byte: filters and companions of different ages, and units that are
//! updated one after another, must understand each other.
//!
//! Each file of `golden/` decodes to the value here, and the value encodes to the file. A failure
//! after a change of a type means that the change needs a new `PROTOCOL_VERSION`, or a default.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::envelope::{
    Body, Echo, Envelope, FixedPart, FixedState, Part, Repair, ReporterLoads, ServiceLoads,
    UnitEvent,
};
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};
use unitring_protocol::report::{
    BoundReport, EventKind, Finding, HealthReport, Identity, InstanceEvent, InstanceLoad,
    LoadScope, Report, RingHash, RingReport, RingShape, ServiceReport,
};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot, Snapshot};
use unitring_protocol::updates::{Failed, Update, Updated, Updates};

#[track_caller]
fn is_golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, file: &str) {
    let decoded: T = serde_json::from_str(file).unwrap();
    assert_eq!(&decoded, value);
    assert_eq!(
        serde_json::to_string_pretty(value).unwrap(),
        file.trim_end()
    );
}

#[test]
fn a_report() {
    let report = Report {
        version: 1,
        reporter: "edge-1~00000000000000ff".parse().unwrap(),
        sequence: 1_700_000_000_123,
        interval_ms: 1_000,
        services: vec![ServiceReport {
            service: "orders".parse().unwrap(),
            ring: RingReport {
                version: "04de5c15ac83683f".to_owned(),
                points: 1029,
                shape: RingShape::Envoy {
                    min_size: 1024,
                    max_size: 8_388_608,
                    hash: RingHash::XxHash,
                },
                identity: Identity::Address,
                health: Some(HealthReport {
                    panic_threshold: 50,
                    overprovisioning_factor: 140,
                    weighted_priority_health: true,
                }),
                localities: vec![90, 10],
            },
            bound: Some(BoundReport {
                balance_factor: 125,
                min_capacity: 16,
                max_in_flight: 0,
                scope: LoadScope::Fleet,
            }),
            fallbacks: 2,
            instances: vec![InstanceLoad {
                id: "10.0.0.5:8080".parse().unwrap(),
                address: "10.0.0.5:8080".to_owned(),
                weight: 3,
                healthy: true,
                draining: true,
                degraded: true,
                excluded: true,
                priority: 1,
                locality: 1,
                hash_key: Some("cart-1".to_owned()),
                warmth: 30,
                calls: 41,
                failures: 3,
                in_flight: 5,
                updates: 7,
                update_bytes: 700,
                updates_refused: 2,
                updates_dropped: 1,
                update_load: 4,
            }],
            events: vec![InstanceEvent {
                number: 1_700_000_000_100,
                at_ms: 1_700_000_000_100,
                kind: EventKind::Removed,
                instance: "10.0.0.6:8080".parse().unwrap(),
                reason: "no longer discovered".to_owned(),
                ring: "04de5c15ac83683f".to_owned(),
                moved: 0.25,
            }],
            wiring: vec![Finding {
                kind: "steer_header".to_owned(),
                seen: "override_host reads x-other".to_owned(),
                mend: "override_host_sources: [{ header: x-unitring-host }]".to_owned(),
            }],
        }],
    };
    is_golden(&report, include_str!("golden/report.json"));
}

#[test]
fn a_report_of_before_bounds_and_draining_means_what_it_did() {
    let file = include_str!("golden/report_first.json");
    let report: Report = serde_json::from_str(file).unwrap();
    let service = &report.services[0];
    assert_eq!(service.bound, None);
    assert_eq!(service.ring.identity, Identity::Address);
    assert_eq!((service.ring.health, service.wiring.len()), (None, 0));
    let instance = &service.instances[0];
    let expected = InstanceLoad {
        weight: 3,
        calls: 41,
        in_flight: 5,
        updates: 7,
        ..InstanceLoad::new(instance.id.clone(), instance.address.clone())
    };
    assert_eq!(instance, &expected);
}

#[test]
fn a_snapshot() {
    let snapshot = Snapshot {
        version: 1,
        events_through: 1_700_000_000_100,
        services: vec![ServiceSnapshot {
            service: "orders".parse().unwrap(),
            reporters: 2,
            rank: Some(1),
            rest: vec![InstanceRest {
                id: "10.0.0.5:8080".parse().unwrap(),
                in_flight: 9,
                before: 4,
                own: 2,
                updates_per_1000_s: 0,
            }],
        }],
    };
    is_golden(&snapshot, include_str!("golden/snapshot.json"));
}

#[test]
fn a_snapshot_of_before_places_were_divided_means_what_it_did() {
    let file = include_str!("golden/snapshot_first.json");
    let snapshot: Snapshot = serde_json::from_str(file).unwrap();
    let service = &snapshot.services[0];
    assert_eq!((service.reporters, service.rank), (2, None));
    let rest = &service.rest[0];
    assert_eq!((rest.in_flight, rest.before, rest.own), (9, 0, 0));
}

fn record(key: &str, value: Option<&[u8]>) -> Record {
    Record {
        id: RecordId {
            dataset: "carts".parse().unwrap(),
            key: key.parse().unwrap(),
        },
        version: Version {
            clock: Clock {
                ms: 1_700_000_000_123,
                counter: 4,
            },
            unit: "east".parse().unwrap(),
        },
        value: value.map(|bytes| Value(bytes.to_vec())),
        expires_ms: None,
    }
}

fn from_east(body: Body) -> Envelope {
    Envelope {
        version: 1,
        from: "east".parse().unwrap(),
        body,
    }
}

fn at(sequence: u64) -> Position {
    Position {
        incarnation: 1_700_000_000_000,
        sequence,
    }
}

#[test]
fn ops_a_put_and_a_delete() {
    let ops = vec![
        Op {
            sequence: 11,
            record: record("users/42", Some(b"\x00\xffhello")),
            over: Some("1600000000000.0@west".parse().unwrap()),
            trace: None,
        },
        Op {
            sequence: 12,
            record: record("users/43", None),
            over: None,
            trace: None,
        },
    ];
    let part = |skipped: bool| Part {
        bucket: 17,
        incarnation: 1_700_000_000_000,
        skipped,
        ops: ops.clone(),
        passed: skipped.then_some(13).into_iter().collect(),
    };
    let parts = vec![part(false), part(true)];
    is_golden(
        &from_east(Body::Ops { parts }),
        include_str!("golden/ops.json"),
    );
}

#[test]
fn an_op_with_the_span_that_made_it() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let op = Op {
        sequence: 11,
        record: record("users/42", None),
        over: None,
        trace: Some(trace.parse().unwrap()),
    };
    is_golden(&op, include_str!("golden/op_traced.json"));
}

#[test]
fn digests() {
    let positions = [
        ("east".parse().unwrap(), at(12)),
        ("west".parse().unwrap(), at(3)),
    ];
    let buckets = vec![BucketState {
        bucket: 17,
        digest: Digest(0x00ab_cdef_0123_4567),
        positions: positions.into(),
    }];
    let body = Body::Digests {
        sent_ms: 1_700_000_000_500,
        interval_ms: Some(10_000),
        epoch: 2_833_333,
        echoes: vec![Echo {
            unit: "west".parse().unwrap(),
            sent_ms: 1_700_000_000_100,
            heard_ms: 1_700_000_000_120,
        }],
        fixed: Some(FixedState {
            version: 2,
            checksum: "00ff".to_owned(),
        }),
        store: Some(u64::MAX),
        buckets,
    };
    is_golden(&from_east(body), include_str!("golden/digests.json"));
}

#[test]
fn a_repair_and_its_request() {
    let request = from_east(Body::RepairRequest {
        buckets: vec![17, 200],
    });
    is_golden(&request, include_str!("golden/repair_request.json"));
    let body = Body::Repair(Repair {
        bucket: 17,
        records: vec![record("users/43", None)],
        positions: [("east".parse().unwrap(), at(12))].into(),
        clock: Clock {
            ms: 1_700_000_000_400,
            counter: 1,
        },
        is_last: true,
    });
    is_golden(&from_east(body), include_str!("golden/repair.json"));
}

#[test]
fn fixed_data_and_their_request() {
    let request = from_east(Body::FixedRequest {});
    is_golden(&request, include_str!("golden/fixed_request.json"));
    let values = [("EUR".to_owned(), "2".to_owned())];
    let body = Body::Fixed(FixedPart {
        state: FixedState {
            version: 2,
            checksum: "00ff".to_owned(),
        },
        number: 0,
        of: 1,
        datasets: [("currencies".to_owned(), values.into())].into(),
    });
    is_golden(&from_east(body), include_str!("golden/fixed.json"));
}

#[test]
fn loads_and_events() {
    let service = || "orders".parse().unwrap();
    let instance = || "10.0.0.5:8080".parse().unwrap();
    let services = vec![ServiceLoads {
        service: service(),
        reporters: vec![ReporterLoads {
            reporter: "edge-1~00000000000000ff".parse().unwrap(),
            sequence: 1_700_000_000_123,
            interval_ms: 1_000,
            in_flight: [(instance(), 5)].into(),
            update_load: std::collections::BTreeMap::new(),
        }],
    }];
    is_golden(
        &from_east(Body::Loads { services }),
        include_str!("golden/loads.json"),
    );
    let events = vec![UnitEvent {
        at_ms: 1_700_000_000_100,
        event: EventKind::Ejected,
        service: service(),
        instance: instance(),
        reason: "5 failures in a row".to_owned(),
    }];
    is_golden(
        &from_east(Body::Events { events }),
        include_str!("golden/events.json"),
    );
}

#[test]
fn a_field_of_a_later_version_is_ignored_and_a_message_of_a_later_kind_is_an_error() {
    let snapshot = r#"{"version": 1, "events_through": 0, "services": [], "later": true}"#;
    assert!(serde_json::from_str::<Snapshot>(snapshot).is_ok());
    let envelope = r#"{"version": 1, "from": "east", "body": {"kind": "later"}}"#;
    assert!(serde_json::from_str::<Envelope>(envelope).is_err());
}

#[test]
fn updates() {
    let update = |sequence, key: &str| Update {
        sequence,
        dataset: "carts".parse().unwrap(),
        key: key.parse().unwrap(),
        delete: false,
        ttl_ms: None,
        value: None,
    };
    let updates = Updates {
        version: 1,
        source: "edge-1~00000000000000ff".parse().unwrap(),
        vm: 7,
        service: "orders".parse().unwrap(),
        updates: vec![
            Update {
                ttl_ms: Some(60_000),
                value: Some(Value(b"two".to_vec())),
                ..update(1_700_000_001, "ada/é")
            },
            Update {
                delete: true,
                ..update(1_700_000_002, "bob")
            },
            update(1_700_000_003, "eve"),
        ],
    };
    is_golden(&updates, include_str!("golden/updates.json"));
}

#[test]
fn what_became_of_updates() {
    let answer = |failed| Updated { version: 1, failed };
    let failed = Failed {
        sequence: 1_700_000_002,
        status: 403,
        error: "dataset carts: not allowed".to_owned(),
    };
    is_golden(&answer(vec![failed]), include_str!("golden/updated.json"));
    is_golden(&answer(vec![]), "{\n  \"version\": 1\n}");
}

//! What is on the wire today, byte for byte: filters and companions of different ages, and units
//! that are updated one after the other, must understand each other.
//!
//! Each file of `golden/` decodes to the value here and the value encodes to the file. A test that
//! fails after a change of a type says: this needs a new `PROTOCOL_VERSION`, or a default.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::record::{Clock, Op, Record, RecordId, Value, Version};
use unitring_protocol::report::{
    BoundReport, EventKind, Identity, InstanceEvent, InstanceLoad, LoadScope, Report, RingHash,
    RingReport, RingShape, ServiceReport,
};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot, Snapshot};

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
                warmth: 30,
                calls: 41,
                in_flight: 5,
                updates: 7,
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
    let instance = &service.instances[0];
    assert_eq!((instance.draining, instance.warmth), (false, 100));
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

#[test]
fn ops_a_put_and_a_delete() {
    let ops = vec![
        Op {
            sequence: 11,
            record: record("users/42", Some(b"\x00\xffhello")),
        },
        Op {
            sequence: 12,
            record: record("users/43", None),
        },
    ];
    is_golden(
        &from_east(Body::Ops { bucket: 17, ops }),
        include_str!("golden/ops.json"),
    );
}

#[test]
fn digests() {
    let positions = [("east".parse().unwrap(), 12), ("west".parse().unwrap(), 3)].into();
    let digest = Digest(0x00ab_cdef_0123_4567);
    let buckets = vec![BucketState {
        bucket: 17,
        digest,
        positions,
    }];
    is_golden(
        &from_east(Body::Digests { buckets }),
        include_str!("golden/digests.json"),
    );
}

#[test]
fn a_repair_and_its_request() {
    let request = from_east(Body::RepairRequest {
        buckets: vec![17, 200],
    });
    is_golden(&request, include_str!("golden/repair_request.json"));
    let positions = [("east".parse().unwrap(), 12)].into();
    let body = Body::Repair {
        bucket: 17,
        records: vec![record("users/43", None)],
        positions,
    };
    is_golden(&from_east(body), include_str!("golden/repair.json"));
}

#[test]
fn a_field_of_a_later_version_is_ignored_and_a_message_of_a_later_kind_is_an_error() {
    let snapshot = r#"{"version": 1, "events_through": 0, "services": [], "later": true}"#;
    assert!(serde_json::from_str::<Snapshot>(snapshot).is_ok());
    let envelope = r#"{"version": 1, "from": "east", "body": {"kind": "later"}}"#;
    assert!(serde_json::from_str::<Envelope>(envelope).is_err());
}

//! Laws of the rule: order and repetition of the changes do not matter.

use proptest::prelude::*;
use unitring_protocol::record::{Clock, RecordId, Value};

use super::*;

fn rules() -> Rules {
    Rules::of("east".parse().unwrap(), true)
}

fn record(version: &str, value: Option<&str>) -> Record {
    Record {
        id: RecordId {
            dataset: "d".parse().unwrap(),
            key: "k".parse().unwrap(),
        },
        version: version.parse().unwrap(),
        value: value.map(|value| Value(value.as_bytes().to_vec())),
        expires_ms: None,
    }
}

fn op(version: &str, over: Option<&str>) -> Op {
    Op {
        sequence: 1,
        record: record(version, Some("v")),
        over: over.map(|over| over.parse().unwrap()),
        trace: None,
    }
}

#[test]
fn a_change_that_knew_what_is_there_is_no_conflict() {
    let there: Mark = "5.0@north".parse().unwrap();
    let gone: Mark = "5.0@north!".parse().unwrap();
    let ours: Mark = "5.0@east".parse().unwrap();
    let decided = |there: &Mark, op: &Op| decide_op(&rules(), Some(there), op, false, 9);
    for (there, op, expected) in [
        (&there, op("6.0@west", Some("5.0@north")), Decision::Put),
        (
            &there,
            op("6.0@west", Some("4.0@north")),
            Decision::Conflict(Stays::Change),
        ),
        (
            &there,
            op("6.0@west", None),
            Decision::Conflict(Stays::Change),
        ),
        (&gone, op("6.0@west", None), Decision::Put),
        (&there, op("6.0@north", None), Decision::Put),
        (&there, op("4.0@west", None), Decision::Keep),
        (
            &ours,
            op("4.0@west", None),
            Decision::Conflict(Stays::There),
        ),
    ] {
        assert_eq!(decided(there, &op), expected, "{there} {op:?}");
    }
}

#[test]
fn what_is_forgotten_stays_so() {
    let op = op("6.0@west", None);
    assert_eq!(decide_op(&rules(), None, &op, true, 9), Decision::Keep);
    assert_eq!(decide_op(&rules(), None, &op, false, 9), Decision::Put);
    let record = record("6.0@west", None);
    assert_eq!(
        decide_record(&rules(), None, &record, true, 9),
        Decision::Refuse(Refusal::Fenced)
    );
    assert_eq!(
        decide_record(&rules(), None, &record, false, 9),
        Decision::Put
    );
}

#[test]
fn what_is_of_the_future_is_not_taken_and_not_written() {
    let now_ms = 5;
    let at = |ahead: u64| format!("{}.0@west", now_ms + ahead);
    let over = crate::replica::bounds::AHEAD_MS_MAX + 1;
    let refused = Decision::Refuse(Refusal::Ahead);
    let decided = |op: &Op| decide_op(&rules(), None, op, false, now_ms);
    assert_eq!(decided(&op(&at(over), None)), refused);
    assert_eq!(decided(&op(&at(over - 1), None)), Decision::Put);
    let record = record(&at(over), Some("v"));
    assert_eq!(
        decide_record(&rules(), None, &record, false, now_ms),
        refused
    );
    let bucket = Bucket {
        clock: record.version.clock,
        ..Bucket::default()
    };
    let write = |rules: &Rules| {
        let change = Change::from(Some(&b"v"[..]));
        decide_write(rules, (bucket, true), None, &Condition::Any, change, now_ms)
    };
    assert_eq!(write(&rules()), WriteDecision::Ahead(ClockAhead(over)));
    // Without peers to take it, order within the unit is enough.
    let alone = Rules {
        has_peers: false,
        ..rules()
    };
    assert!(matches!(write(&alone), WriteDecision::Put(_)));
}

#[test]
fn no_value_is_not_an_empty_value() {
    let lost = Record {
        expires_ms: Some(100),
        ..record("6.0@west", None)
    };
    assert_eq!(
        decide_record(&rules(), None, &lost, false, 99),
        Decision::Keep
    );
    // Once it has expired for this unit, too, only its date matters.
    assert_eq!(
        decide_record(&rules(), None, &lost, false, 100),
        Decision::Put
    );
    let empty = Record {
        expires_ms: Some(100),
        ..record("6.0@west", Some(""))
    };
    assert_eq!(
        decide_record(&rules(), None, &empty, false, 99),
        Decision::Put
    );
}

fn marks() -> impl Strategy<Value = Mark> {
    let unit = prop_oneof![Just("east"), Just("north"), Just("West")];
    (0..4_u64, 0..3_u32, unit, any::<bool>()).prop_map(|(ms, counter, unit, is_deleted)| Mark {
        version: Version {
            clock: Clock { ms, counter },
            unit: unit.parse().unwrap(),
        },
        is_deleted,
        expires_ms: None,
    })
}

proptest! {
    /// In any order, with any repetition, the latest version wins in the end.
    #[test]
    fn the_latest_version_stays_in_any_order(
        marks in prop::collection::vec(marks(), 1..12),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut orders = [marks.clone(), marks.clone()];
        let middle = shuffled.index(marks.len());
        orders[1].rotate_left(middle);
        orders[1].extend(marks.clone());
        let last = marks.iter().map(|mark| mark.version.clone()).max();
        for order in orders {
            let mut there: Option<Mark> = None;
            for mark in order {
                let op = Op {
                    sequence: 1,
                    record: Record { version: mark.version.clone(), ..record("1.0@east", None) },
                    over: None,
                    trace: None,
                };
                if decide_op(&rules(), there.as_ref(), &op, false, 9).is_put() {
                    there = Some(mark);
                }
            }
            prop_assert_eq!(there.map(|mark| mark.version), last.clone());
        }
    }

    /// A write here is later than every version that its bucket has seen.
    #[test]
    fn a_write_is_later_than_what_is_there(there in marks(), now_ms in 0..6_u64) {
        let bucket = Bucket { clock: there.version.clock, ..Bucket::default() };
        let change = Change::Put { value: b"v", expires_ms: None };
        let decision = decide_write(&rules(), (bucket, true), Some(&there), &Condition::Any, change, now_ms);
        let WriteDecision::Put(put) = decision else { panic!("{decision:?}") };
        prop_assert!(put.mark.version > there.version);
        prop_assert_eq!(put.bucket.clock, put.mark.version.clock);
        prop_assert_eq!(put.over, Some(there.version));
    }
}

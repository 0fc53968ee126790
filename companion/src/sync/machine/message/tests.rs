//! Messages as other units send them, and as nobody should.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use unitring_protocol::envelope::{Part, Repair};
use unitring_protocol::record::RecordId;

use super::*;

/// The bucket of `d/k`.
fn bucket() -> u8 {
    crate::replica::digest::bucket_of(&RecordId {
        dataset: "d".parse().unwrap(),
        key: "k".parse().unwrap(),
    })
}

fn read(body: &str) -> (Body, Asides) {
    read_bytes(body.as_bytes())
}

fn read_bytes(body: &[u8]) -> (Body, Asides) {
    let head = br#"{"version":1,"from":"west","body":"#;
    let message = [head, body, b"}"].concat();
    let (envelope, aside) = decode(&message, &"east".parse().unwrap()).unwrap();
    assert_eq!(envelope.from.as_str(), "west");
    (envelope.body, aside)
}

/// An op with this text in place of its fields.
fn op(sequence: u64, rest: &str) -> String {
    format!(r#"{{"sequence":{sequence},"dataset":"d",{rest}}}"#)
}

fn good(sequence: u64) -> String {
    op(sequence, r#""key":"k","at":"5.0@west","value":"dg==""#)
}

fn ops(ops: &[String]) -> (Part, Asides) {
    let body = format!(
        r#"{{"kind":"ops","parts":[{{"bucket":{},"incarnation":1,"ops":[{}]}}]}}"#,
        bucket(),
        ops.join(",")
    );
    let (Body::Ops { mut parts }, aside) = read(&body) else {
        panic!("{body}")
    };
    (parts.remove(0), aside)
}

/// What can be wrong with an op of `d/…`, and a word of the reason.
fn bad_ops() -> Vec<(String, &'static str)> {
    let inexact = format!(r#""key":"k","at":"{}.0@west""#, 1_u64 << 53);
    let large = format!(
        r#""key":"k","at":"5.0@west","value":"{}""#,
        "x".repeat(1_500_000)
    );
    let nested = format!(
        r#""key":"k","at":"5.0@west","value":{}{}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    vec![
        (inexact, "2^53"),
        (r#""key":"k","at":"no version""#.to_owned(), "version"),
        (
            r#""key":"k","at":"5.0@west","value":"?""#.to_owned(),
            "Invalid",
        ),
        (large, "1 MiB"),
        (
            r#""key":"a\u0001","at":"5.0@west","value":"dg==""#.to_owned(),
            "control",
        ),
        (
            r#""key":"other","at":"5.0@west","value":"dg==""#.to_owned(),
            "bucket",
        ),
        (
            r#""key":"k","at":"5.0@west","expires":1e400"#.to_owned(),
            "number",
        ),
        (
            r#""key":"k","at":"5.0@west","expires":1180591620717411303424"#.to_owned(),
            "invalid type",
        ),
        (r#""key":"k","at":"5.0@west","expires":-1"#.to_owned(), "-1"),
        (
            r#""key":"k\ud800","at":"5.0@west","value":"dg==""#.to_owned(),
            "hex escape",
        ),
        (
            r#""key":"k","at":"5.0@west","value":"\ud800""#.to_owned(),
            "hex escape",
        ),
        (r#""key":"k","key":"k","at":"5.0@west""#.to_owned(), "key"),
        (nested, "invalid type"),
        (
            r#""key":"k","at":"1180591620717411303424.0@west""#.to_owned(),
            "version",
        ),
    ]
}

#[test]
fn an_op_that_cannot_be_read_is_set_aside_alone_and_its_sequence_is_passed() {
    for (bad, why) in bad_ops() {
        let (part, aside) = ops(&[good(1), op(2, &bad), good(3)]);
        let sequences: Vec<u64> = part.ops.iter().map(|op| op.sequence).collect();
        assert_eq!(sequences, [1, 3], "{why}");
        let is_named = !bad.contains(r#""key":"k","key""#);
        if is_named {
            assert_eq!(part.passed, BTreeSet::from([2]), "{why}");
            assert!(
                aside.named[0].name.starts_with("d/"),
                "{:?}",
                aside.named[0]
            );
        }
        assert_eq!((aside.count, aside.named.len()), (1, 1), "{why}");
        assert!(aside.named[0].why.contains(why), "{:?}", aside.named[0]);
    }
}

#[test]
fn an_op_without_a_sequence_that_can_be_read_leaves_a_gap_and_the_others() {
    for bad in ["1e400", "-2", "1180591620717411303424", "\"2\"", "null"] {
        let bad = format!(r#"{{"sequence":{bad},"dataset":"d","key":"k","at":"5.0@west"}}"#);
        let (part, aside) = ops(&[good(1), bad, good(3), "7".to_owned()]);
        let sequences: Vec<u64> = part.ops.iter().map(|op| op.sequence).collect();
        assert_eq!(sequences, [1, 3]);
        assert_eq!(part.passed, BTreeSet::new());
        assert_eq!(aside.count, 2);
        assert_eq!(aside.named[0].name, "d/k");
        assert_eq!(aside.named[1].name, "?/?");
    }
    let (part, aside) = ops(&[good(1), good(1 << 53)]);
    assert_eq!((part.ops.len(), aside.count), (1, 1));
    assert!(part.passed.is_empty());
}

#[test]
fn bytes_that_are_no_text_condemn_only_the_string_that_has_them() {
    let bad = op(2, r#""key":"k?","at":"5.0@west","value":"dg==""#).into_bytes();
    let at = bad.iter().position(|byte| *byte == b'?').unwrap();
    let bad = [&bad[..at], b"\xff\xfe", &bad[at + 1..]].concat();
    let head = format!(
        r#"{{"kind":"ops","parts":[{{"bucket":{},"incarnation":1,"ops":[{},"#,
        bucket(),
        good(1)
    );
    let tail = format!(",{}]}}]}}", good(3));
    let body = [head.as_bytes(), &bad, tail.as_bytes()].concat();
    let (Body::Ops { parts }, aside) = read_bytes(&body) else {
        panic!()
    };
    assert_eq!(parts[0].ops.len(), 2);
    assert_eq!(parts[0].passed, BTreeSet::from([2]));
    assert_eq!(aside.count, 1);
}

#[test]
fn a_part_that_cannot_be_read_and_a_wrong_passed_sequence_condemn_nothing_else() {
    let part = |head: &str| format!(r#"{{{head},"ops":[{}],"passed":[1,-3,1e400,4]}}"#, good(2));
    let right = part(&format!(r#""bucket":{},"incarnation":1"#, bucket()));
    let wrong = part(r#""bucket":256,"incarnation":1"#);
    let later = part(r#""bucket":1,"incarnation":1180591620717411303424"#);
    let body = format!(r#"{{"kind":"ops","parts":[{wrong},{right},{later}]}}"#);
    let (Body::Ops { parts }, aside) = read(&body) else {
        panic!()
    };
    assert_eq!((parts.len(), parts[0].ops.len()), (1, 1));
    assert_eq!(parts[0].passed, BTreeSet::from([1, 4]));
    assert_eq!(aside.count, 4);
}

#[test]
fn a_record_or_position_of_a_repair_that_cannot_be_read_is_set_aside_alone() {
    let right = r#"{"dataset":"d","key":"k","at":"5.0@west","value":"dg=="}"#;
    for (bad, _) in bad_ops() {
        let bad = format!(r#"{{"dataset":"d",{bad}}}"#);
        let body = format!(
            r#"{{"kind":"repair","bucket":{},"records":[{right},{bad},{right}],"clock":{{"ms":1e400,"counter":0}},
            "positions":{{"west":"5.7","no unit":"5.7","north":"5.1180591620717411303424","a\ud800":"5.7","south":5e400}},
            "is_last":true}}"#,
            bucket()
        );
        let (Body::Repair(repair), aside) = read(&body) else {
            panic!()
        };
        let Repair {
            records, positions, ..
        } = &repair;
        assert_eq!((records.len(), positions.len()), (2, 1), "{bad}");
        assert!(repair.is_last);
        assert_eq!(repair.clock.ms, 0);
        // The record, the clock, and four positions.
        assert_eq!(aside.count, 6, "{:?}", aside.named);
    }
}

#[test]
fn of_digests_requests_loads_and_events_only_what_cannot_be_read_is_left_out() {
    let digest = r#""digest":"00000000000000ff""#;
    let body = format!(
        r#"{{"kind":"digests","sent_ms":1,"interval_ms":-1,"epoch":2,"echoes":[{{"unit":"a b","sent_ms":1,"heard_ms":1}},
        {{"unit":"east","sent_ms":1,"heard_ms":1}}],"fixed":{{"version":1e400,"checksum":""}},"store":-1,
        "buckets":[{{"bucket":1,{digest},"positions":{{"west":"5.7","\ud800":"5.7"}}}},{{"bucket":-1,{digest},"positions":{{}}}}]}}"#
    );
    let (body, aside) = read(&body);
    let Body::Digests {
        interval_ms,
        echoes,
        fixed,
        store,
        buckets,
        ..
    } = body
    else {
        panic!()
    };
    assert_eq!((interval_ms, fixed, store), (None, None, None));
    assert_eq!((echoes.len(), buckets.len()), (1, 1));
    assert_eq!(buckets[0].positions.len(), 1);
    assert_eq!(aside.count, 6, "{:?}", aside.named);

    let (body, aside) = read(r#"{"kind":"repair_request","buckets":[1,256,-1,1e400,"x",2]}"#);
    let buckets = vec![1, 2];
    assert_eq!((body, aside.count), (Body::RepairRequest { buckets }, 4));

    let (body, aside) = read(
        r#"{"kind":"loads","services":[{"service":"s","reporters":[
        {"reporter":"e~1","sequence":1,"interval_ms":1000,"in_flight":{"a":1,"b,c":1,"d":1e400,"e":-1,"\ud800":1}},
        {"reporter":"e~2","sequence":1e400,"interval_ms":1000,"in_flight":{}}]},{"service":"\ud800","reporters":[]}]}"#,
    );
    let Body::Loads { services } = body else {
        panic!()
    };
    assert_eq!((services.len(), services[0].reporters.len()), (1, 1));
    assert_eq!(services[0].reporters[0].in_flight.len(), 1);
    assert_eq!(aside.count, 6, "{:?}", aside.named);

    let event = |at: &str, kind: &str| {
        format!(r#"{{"at_ms":{at},"event":"{kind}","service":"s","instance":"a","reason":"why"}}"#)
    };
    let all = [
        event("1", "added"),
        event("1e400", "added"),
        event("2", "unheard_of"),
        event("3", "removed"),
    ];
    let (body, aside) = read(&format!(
        r#"{{"kind":"events","events":[{}]}}"#,
        all.join(",")
    ));
    let Body::Events { events } = body else {
        panic!()
    };
    assert_eq!((events.len(), aside.count), (2, 2));
}

#[test]
fn of_a_list_that_is_too_long_no_more_than_its_bound_is_kept() {
    let numbers = |count: u64| {
        let all: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        all.join(",")
    };
    let million = numbers(1_000_000);
    let (bucket, last) = (bucket(), good(2_000_000));
    let body = format!(
        r#"{{"kind":"ops","parts":[{{"bucket":{bucket},"incarnation":1,"ops":[{last}],"passed":[{million}]}}]}}"#
    );
    let (Body::Ops { parts }, aside) = read(&body) else {
        panic!()
    };
    assert_eq!((parts[0].ops.len(), parts[0].passed.len()), (1, 1_024));
    assert_eq!(aside.count, 1);
    assert!(
        aside.named[0].why.contains("998976 more"),
        "{:?}",
        aside.named
    );

    let many: Vec<String> = (1..=3_000).map(good).collect();
    let (part, aside) = ops(&many);
    assert_eq!((part.ops.len(), aside.count), (1_024, 1));
    let (Body::RepairRequest { buckets }, aside) = read(&format!(
        r#"{{"kind":"repair_request","buckets":[{}]}}"#,
        vec!["1"; 100_000].join(",")
    )) else {
        panic!()
    };
    assert_eq!((buckets.len(), aside.count), (1_024, 1));
    let positions: Vec<String> = (0..100_000).map(|it| format!(r#""u{it}":"1.1""#)).collect();
    let body = format!(
        r#"{{"kind":"digests","sent_ms":1,"epoch":2,"buckets":[{{"bucket":1,"digest":"ff","positions":{{{}}}}}]}}"#,
        positions.join(",")
    );
    let (Body::Digests { buckets, .. }, aside) = read(&body) else {
        panic!()
    };
    assert_eq!((buckets[0].positions.len(), aside.count), (1_024, 1));
}

#[test]
fn every_kind_of_message_is_read_as_its_type_says() {
    for text in [
        include_str!("../../../../../protocol/tests/golden/ops.json"),
        include_str!("../../../../../protocol/tests/golden/repair.json"),
        include_str!("../../../../../protocol/tests/golden/repair_request.json"),
        include_str!("../../../../../protocol/tests/golden/digests.json"),
        include_str!("../../../../../protocol/tests/golden/fixed_request.json"),
        include_str!("../../../../../protocol/tests/golden/fixed.json"),
        include_str!("../../../../../protocol/tests/golden/loads.json"),
        include_str!("../../../../../protocol/tests/golden/events.json"),
    ] {
        let expected: Envelope = serde_json::from_str(text).unwrap();
        let mut body = expected.body.clone();
        // The golden records name any bucket.
        match &mut body {
            Body::Ops { parts } => parts.iter_mut().for_each(|part| part.ops.clear()),
            Body::Repair(repair) => repair.records.clear(),
            _ => {}
        }
        let bytes = encode(&expected.from, &body).unwrap();
        assert_eq!(encoded_bytes(&expected.from, &body), bytes.len());
        let (envelope, aside) = decode(&bytes, &"reader".parse().unwrap()).unwrap();
        assert_eq!((envelope.body, aside), (body, Asides::default()));
        // With the records, each is set aside for its bucket alone, or is there.
        let (envelope, aside) = decode(text.as_bytes(), &"reader".parse().unwrap()).unwrap();
        let count = |body: &Body| match body {
            Body::Ops { parts } => parts.iter().map(|part| part.ops.len()).sum(),
            Body::Repair(repair) => repair.records.len(),
            _ => 0,
        };
        let (all, kept) = (count(&expected.body), count(&envelope.body));
        assert_eq!(aside.count, (all - kept) as u64);
        assert!(aside.named.iter().all(|it| it.why.contains("bucket")));
    }
}

#[test]
fn what_is_no_envelope_is_no_message() {
    let unit = "east".parse().unwrap();
    for text in [
        "",
        "7",
        "[]",
        "{}",
        r#"{"version":1}"#,
        r#"{"version":1e400,"from":"west","body":{"kind":"fixed_request"}}"#,
        r#"{"version":1,"from":"a b","body":{"kind":"fixed_request"}}"#,
        r#"{"version":1,"from":"west","body":{"kind":"later"}}"#,
        r#"{"version":1,"from":"west","body":7}"#,
        r#"{"version":1,"from":"east","body":{"kind":"fixed_request"}}"#,
        r#"{"version":1,"from":"west","body":{"kind":"ops"}}"#,
    ] {
        assert!(decode(text.as_bytes(), &unit).is_err(), "{text}");
    }
    // Whatever a newer program writes, it is told as such.
    let newer = decode(br#"{"version":2,"from":[],"later":1}"#, &unit);
    assert!(matches!(newer, Err(Poison::Newer(2))));
}

proptest! {
    #[test]
    fn whatever_else_comes_in_a_message_the_good_ops_are_read(
        bad in prop::collection::vec((0..14_usize, 0..4_usize), 0..12),
    ) {
        let all = bad_ops();
        let mut texts = Vec::new();
        let mut expected = Vec::new();
        for (number, (which, goods)) in bad.into_iter().enumerate() {
            let first = 10 * number as u64;
            for sequence in first + 1..=first + goods as u64 {
                texts.push(good(sequence));
                expected.push(sequence);
            }
            texts.push(op(first + 9, &all[which].0));
        }
        let (part, _) = ops(&texts);
        let sequences: Vec<u64> = part.ops.iter().map(|op| op.sequence).collect();
        prop_assert_eq!(sequences, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(at in 0..2_000_usize, bytes in prop::collection::vec(any::<u8>(), 0..8)) {
        let value = json!({"kind": "ops", "parts": [{"bucket": bucket(), "incarnation": 1, "ops": [
            serde_json::from_str::<Value>(&good(1)).unwrap()], "passed": [2]}]});
        let message = json!({"version": 1, "from": "west", "body": value}).to_string();
        let mut message = message.into_bytes();
        let at = at % message.len();
        let end = (at + bytes.len()).min(message.len());
        message.splice(at..end, bytes);
        drop(decode(&message, &"east".parse().unwrap()));
    }
}

#[test]
fn a_position_before_the_first_op_is_left_out() {
    let positions = json!({"east": "7.0", "north": "7.1", "west": format!("{}.1", 1_u64 << 53)});
    let repair = json!({"kind": "repair", "bucket": 1, "records": [], "positions": positions,
        "clock": {"ms": 1, "counter": 0}, "is_last": true});
    let message = json!({"version": 1, "from": "west", "body": repair}).to_string();
    let (envelope, _) = decode(message.as_bytes(), &"east".parse().unwrap()).unwrap();
    let Body::Repair(repair) = envelope.body else {
        panic!("{envelope:?}")
    };
    let units: Vec<&str> = repair.positions.keys().map(UnitId::as_str).collect();
    assert_eq!(units, ["north"]);
}

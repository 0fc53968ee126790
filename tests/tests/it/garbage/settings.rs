//! The filter's settings, as JSON and as a protobuf Struct.

use anyhow::Result;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use unitring_balancer::balancer::Balancer;
use unitring_balancer::health::Judge;
use unitring_balancer::reporter::{Reporter, reporter_id};
use unitring_balancer::settings::{Services, Settings, Source};

use super::{feed, loads};

const VALID: [&str; 4] = [
    r#"{"service": "orders", "key": [{"header": "x-user-id"}, {"cookie": "sid"}, {"query": "user"},
        {"source_ip": true}, {"path": true, "terminal": true}],
        "ring": {"algorithm": "ring_hash", "hash": "xx_hash", "fill": "fixed", "min_size": 16,
        "max_size": 4096, "virtual_nodes": 4, "identity": "address"}, "explain": false, "access_log": true}"#,
    r#"{"service": "orders", "ring": {"algorithm": "maglev", "table_size": 17, "identity": "id"},
        "load": {"balance_factor": 125, "min_capacity": 16, "scope": "fleet", "stale_after": "5s",
        "max_in_flight": 9, "threshold": 7, "update_threshold": 5}, "slow_start": {"window": "10s", "start_percent": 10}}"#,
    r#"{"service": "orders", "ring": {"min_size": 16}, "ejection": {"consecutive_failures": 5,
        "base": "5s", "max": "300s", "max_percent": 50}, "discovery": {"source": "static",
        "interval": "1s", "instances": [{"id": "a", "address": "10.0.0.5:8080", "weight": 1},
        {"address": "[::1]:80", "weight": 7}]}}"#,
    r#"{"services": [{"service": "a", "steer": {"header": "x-h", "candidates": 8}},
        {"service": "b", "load": {"balance_factor": 0}}], "ring": {"min_size": 16}, "companion":
        {"cluster": "unitring", "interval": "1s", "timeout": "2s", "token": "t"},
        "capture": {"mode": "off", "body_bytes_max": 65536, "queue_max": 4096}}"#,
];

#[test]
fn settings_of_any_bytes_are_refused_or_work() -> Result<()> {
    let valid = in_both_forms(&VALID)?;
    feed(&valid, 1, |input| match Services::parse(input) {
        Ok(services) => {
            services.all.iter().for_each(work);
            true
        }
        Err(error) => {
            // The log line has some text.
            assert!(!error.to_string().is_empty());
            false
        }
    })
}

/// Settings of the native module's policy, which become rings and picks.
#[test]
fn settings_of_a_policy_of_any_bytes_are_refused_or_work() -> Result<()> {
    const VALID: [&str; 2] = [
        r#"{"service": "orders", "alias": "o", "ring": {"algorithm": "ring_hash", "fill": "fixed",
            "min_size": 16, "max_size": 4096, "virtual_nodes": 4, "locality_weights": true},
            "load": {"balance_factor": 125, "min_capacity": 16, "max_in_flight": 9, "threshold": 7}}"#,
        r#"{"service": "orders", "ring": {"algorithm": "maglev", "table_size": 17}, "health":
            {"panic_threshold": 50, "overprovisioning_factor": 140, "weighted_priority_health": true},
            "companion": {"cluster": "unitring", "interval": "1s", "timeout": "2s", "token": "t"}}"#,
    ];
    let valid = in_both_forms(&VALID)?;
    feed(&valid, 6, |input| match Settings::of_policy(input) {
        Ok(settings) => {
            work(&settings);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    })
}

fn work(settings: &Settings) {
    let members = match &settings.discovery.source {
        Source::Static(members) => members.clone(),
        Source::Admin { .. } | Source::Companion => loads::members(),
    };
    if !loads::is_small(settings.rule.shape, &members) {
        return;
    }
    let now_ms = 1_700_000_000_000;
    let mut judge = Judge::new(settings);
    for (look, failures) in [(0, 0), (1, u64::MAX), (2, 1)] {
        let before = (look > 0).then(|| loads::directory(&members[..1]));
        judge.judge(
            &members,
            before.as_ref(),
            |_| failures,
            now_ms + look * 10_000,
        );
    }
    let verdict = judge.judge(&members, None, |_| 0, now_ms);
    let mut balancer = Balancer::new(settings);
    if balancer
        .install(loads::directory(&verdict.members))
        .is_err()
    {
        return;
    }
    loads::choose(&balancer, [None, Some(0), Some(u64::MAX)]);
    let mut reporter = Reporter::new(reporter_id("edge", 1));
    let entries = balancer.directory().entries().iter();
    let instances = entries.map(|entry| (&**entry, Default::default()));
    let report = reporter.report(settings, balancer.table(), instances, 0, Vec::new(), now_ms);
    assert!(serde_json::to_vec(&report).is_ok());
}

/// Each of these as JSON, and as Envoy passes it on.
fn in_both_forms(texts: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut forms: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    for text in texts {
        if let Some(Kind::StructValue(fields)) = encoded(&serde_json::from_str(text)?).kind {
            forms.push(fields.encode_to_vec());
        }
    }
    Ok(forms)
}

/// JSON in the encoding in which Envoy hands over a `google.protobuf.Struct`.
fn encoded(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(encoded).collect(),
        }),
        serde_json::Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), encoded(value)));
            Kind::StructValue(Struct {
                fields: fields.collect(),
            })
        }
    };
    Value { kind: Some(kind) }
}

//! Hand-made reports of a filter, for content or moments that no real filter produces.

use serde_json::{Value, json};

/// A report with these services.
pub fn report(reporter: &str, sequence: u64, services: Vec<Value>) -> Value {
    json!({
        "version": 1, "reporter": reporter, "sequence": sequence, "interval_ms": 1000,
        "services": services,
    })
}

/// The report of a service whose instances have 160 virtual nodes each.
pub fn service(name: &str, instances: Vec<Value>) -> Value {
    json!({
        "service": name,
        "ring": {
            "version": "r", "points": 160,
            "shape": { "fill": "fixed", "virtual_nodes": 160, "max_size": 8_000_000 },
        },
        "fallbacks": 0,
        "instances": instances,
    })
}

/// An instance that is serving and has answered ten requests.
pub fn instance(id: &str, address: &str, in_flight: u64) -> Value {
    json!({
        "id": id, "address": address, "weight": 1, "healthy": true, "calls": 10,
        "in_flight": in_flight, "updates": 0,
    })
}

/// A name, percent-encoded as a segment of a path.
pub fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let part = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(part).collect()
}

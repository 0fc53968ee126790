//! A source of the hash key, in the filter's form and in Envoy's.

use serde_json::{Value, json};
use unitring_tests::traffic::keys::Numbers;

#[derive(Debug, Clone)]
pub(super) struct Source {
    kind: Kind,
    terminal: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Header(&'static str),
    Cookie,
    Query,
    SourceIp,
    Path,
}

const KINDS: [Kind; 8] = [
    Kind::Header("x-a"),
    Kind::Header("x-b"),
    Kind::Header("host"),
    Kind::Header("x-forwarded-for"),
    Kind::Cookie,
    Kind::Query,
    Kind::SourceIp,
    Kind::Path,
];

/// Each kind alone, and random lists up to `count` lists in total.
pub(super) fn lists(count: usize, numbers: &mut Numbers) -> Vec<Vec<Source>> {
    let alone = |kind: &Kind| {
        vec![Source {
            kind: *kind,
            terminal: false,
        }]
    };
    let mut lists: Vec<Vec<Source>> = KINDS.iter().map(alone).collect();
    while lists.len() < count {
        let random = (0..2 + numbers.below(3)).map(|_| Source {
            kind: numbers.pick(&KINDS),
            terminal: numbers.below(3) == 0,
        });
        lists.push(random.collect());
    }
    lists
}

impl Source {
    /// The entry of the filter's `key`.
    pub(super) fn setting(&self) -> Value {
        let mut setting = match self.kind {
            Kind::Header(name) => json!({"header": name}),
            Kind::Cookie => json!({"cookie": "sid"}),
            Kind::Query => json!({"query": "user"}),
            Kind::SourceIp => json!({"source_ip": true}),
            Kind::Path => json!({"path": true}),
        };
        setting["terminal"] = json!(self.terminal);
        setting
    }

    /// The entry of a route's `hash_policy`.
    pub(super) fn hash_policy(&self) -> Value {
        let mut policy = match self.kind {
            Kind::Header(name) => json!({"header": {"header_name": name}}),
            Kind::Cookie => json!({"cookie": {"name": "sid"}}),
            Kind::Query => json!({"query_parameter": {"name": "user"}}),
            Kind::SourceIp => json!({"connection_properties": {"source_ip": true}}),
            Kind::Path => json!({"header": {"header_name": ":path"}}),
        };
        policy["terminal"] = json!(self.terminal);
        policy
    }
}

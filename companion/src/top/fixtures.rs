//! Samples for the tests of the pure parts.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::answers::{Ready, Service};
use super::model::Model;
use super::sample::{Content, Sample, View, Want};
use super::state::State;
use crate::top::TopFlags;
use clap::{Args as _, Command, FromArgMatches as _};

/// The flags of this command line.
pub(super) fn flags(arguments: &[&str]) -> TopFlags {
    let command = TopFlags::augment_args(Command::new("top"));
    let matches = command.get_matches_from([&["top"], arguments].concat());
    TopFlags::from_arg_matches(&matches).unwrap()
}

pub(super) fn model(arguments: &[&str]) -> Model {
    let flags = flags(arguments);
    Model::new(State::new(&flags).unwrap(), flags.interval)
}

pub(super) fn instance(id: &str, calls: u64) -> Value {
    json!({"id": id, "address": id, "healthy": true, "draining": false, "warmth": 100, "calls": calls,
        "failures": calls / 10, "in_flight": 3, "updates_per_s": 0.5})
}

pub(super) fn service(name: &str, instances: &[Value]) -> Service {
    Service::deserialize(
        json!({"service": name, "instances": instances, "registry": [],
        "reporters": [{"reporter": "edge-1", "ring": "a1", "fallbacks": 0}]}),
    )
    .unwrap()
}

/// The answers of a healthy unit at this second.
pub(super) fn sample(second: u64, content: Content) -> Sample {
    let ready = json!({"unit": "east", "role": "leader", "ready": true, "checks": {"store": "ok"}});
    Sample {
        at: Duration::from_secs(second),
        at_ms: 1_764_400_000_000 + second * 1_000,
        ready: Ready::deserialize(ready).unwrap(),
        content,
    }
}

pub(super) fn want(view: View) -> Want {
    Want {
        view,
        service: None,
        has_shares: false,
    }
}

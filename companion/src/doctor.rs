//! `unitring doctor`: mistakes in the setup of Envoy, the companion, its store and the other units, each with its
//! code, its consequence and how to mend it.
//!
//! Pure: the shells in [`crate::cli::doctor`] read files and ask servers, and pass on the answers. The rules trust
//! none of them: for any JSON, there is a finding or there is none.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`envoy`] | the text of a bootstrap, or `/config_dump` → clusters, listeners, routes |
//! | `managers`, `routes`, `services` | these → what of it is ours, and what leads to it |
//! | `rules` | these, the companion's answers, and probes → findings |
//! | [`code`] | every kind of finding |
//! | [`finding`] | a finding, as it is shown |

pub(crate) mod code;
pub(crate) mod envoy;
pub(crate) mod finding;
mod json;
mod managers;
mod routes;
mod rules;
mod services;

use serde_json::Value;
use unitring_balancer::settings::KeySource;

pub(crate) use code::{Code, Severity};
use envoy::Envoy;
pub(crate) use finding::Finding;
pub(crate) use rules::probes::{Answered, Located, Probe};

/// The answers of a companion.
#[derive(Debug)]
pub(crate) struct Answers {
    /// `GET /readyz`.
    pub ready: Value,
    /// `GET /v1/units`, or why not.
    pub units: Result<Value, String>,
    /// `GET /v1/services`, or why not.
    pub services: Result<Vec<Value>, String>,
    /// `GET /v1/group`, where there is one.
    pub group: Option<Value>,
}

/// A service that an Envoy places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub service: String,
    /// The filter's key; empty with the native module, which has the route's.
    pub key: Vec<KeySource>,
    /// Whether it is reported to a companion.
    pub reports: bool,
}

/// The services that an Envoy places.
pub(crate) fn known(envoy: &Envoy, only: Option<&str>) -> Vec<Known> {
    let managers = managers::managers(envoy);
    let policies: Vec<_> = envoy.clusters.iter().filter_map(managers::policy).collect();
    let placed = services::placed(&managers, &policies);
    let known = placed.iter().map(|placed| Known {
        service: placed.settings.service.to_string(),
        key: placed.settings.key.clone(),
        reports: placed.settings.companion.is_some(),
    });
    known
        .filter(|known| only.is_none_or(|only| only == known.service))
        .collect()
}

/// The findings of an Envoy.
pub(crate) fn of_envoy(source: &str, envoy: &Envoy, only: Option<&str>) -> Vec<Finding> {
    from(source, rules::examine(envoy, only))
}

/// The findings of a companion, its store, and the other units.
pub(crate) fn of_companion(
    source: &str,
    answers: &Answers,
    known: &[Known],
    only: Option<&str>,
) -> Vec<Finding> {
    let mut found = rules::companion::judge(answers, known, only);
    found.extend(rules::store::judge(answers));
    found.extend(rules::units::judge(answers));
    from(source, found)
}

/// The findings of the answers to probes.
pub(crate) fn of_probes(source: &str, probes: &[Probe]) -> Vec<Finding> {
    from(source, rules::probes::judge(source, probes))
}

/// The finding that a source could not be read or reached.
pub(crate) fn of_source(source: &str, code: Code, seen: &str, mend: &str) -> Finding {
    Finding::new(code, source, seen, mend).of(source)
}

/// Each once, the gravest first. Several filters look at the same cluster.
fn from(source: &str, found: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = found.into_iter().map(|one| one.of(source)).collect();
    all.sort_by(|one, other| one.order().cmp(&other.order()));
    all.dedup();
    all
}

#[cfg(test)]
mod tests;

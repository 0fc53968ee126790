//! 05xx: what a companion says of itself, and of what the filters told it.

use serde_json::Value;
use unitring_protocol::PROTOCOL_VERSION;

use super::super::code::Code;
use super::super::finding::{Finding, shown};
use super::super::json::{at, list, number, text};
use super::super::{Answers, Known};
use crate::states::Check;

/// The companion's own findings, and those of the filters. `known` are the services that should be reported.
pub(in super::super) fn judge(
    answers: &Answers,
    known: &[Known],
    only: Option<&str>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(not_ready(&answers.ready));
    for (path, answer) in [
        ("GET /v1/units", answers.units.as_ref().err()),
        ("GET /v1/services", answers.services.as_ref().err()),
    ] {
        found.extend(answer.map(|error| {
            let mend = "unitring status  # and where a token is needed: --token, or UNITRING_TOKEN, with the role read";
            Finding::new(Code::NotAllowed, path, error, mend)
        }));
    }
    if let Ok(units) = &answers.units {
        found.extend(version(units));
    }
    if let Ok(services) = &answers.services {
        let asked = |name: &str| only.is_none_or(|only| only == name);
        let services: Vec<&Value> = services
            .iter()
            .filter(|service| asked(text(service, "service").unwrap_or_default()))
            .collect();
        for service in &services {
            found.extend(miswired(service));
        }
        found.extend(unreported(&services, known));
    }
    found
}

fn not_ready(ready: &Value) -> Option<Finding> {
    let checks = at(ready, "checks").and_then(Value::as_object);
    let bad: Vec<String> = checks
        .into_iter()
        .flatten()
        // The group has a finding of its own.
        .filter(|(name, _)| *name != "group")
        .map(|(name, state)| {
            (
                name,
                Check::from(state.as_str().unwrap_or("unknown").to_owned()),
            )
        })
        .filter(|(_, check)| !check.is_ok())
        .map(|(name, check)| format!("{name}: {check}"))
        .collect();
    (!bad.is_empty()).then(|| {
        let mend = "unitring status  # shows what each part waits for";
        Finding::new(Code::NotReady, "GET /readyz", &bad.join("; "), mend)
    })
}

fn version(units: &Value) -> Option<Finding> {
    const PATH: &str = "GET /v1/units";
    let ours = env!("CARGO_PKG_VERSION");
    let Some(protocol) = number(units, "protocol") else {
        let seen = format!("the companion does not tell its version, this program is {ours}");
        let mend = "a companion and a program of one version";
        return Some(Finding::new(Code::Version, PATH, &seen, mend));
    };
    if protocol != u64::from(PROTOCOL_VERSION) {
        let seen =
            format!("the companion speaks protocol {protocol}, this program {PROTOCOL_VERSION}");
        let mend =
            "filters, companions and this program of one protocol: unitring --version shows it";
        return Some(Finding::new(Code::Protocol, PATH, &seen, mend));
    }
    let theirs = text(units, "version").unwrap_or("?");
    (theirs != ours).then(|| {
        let seen = format!("the companion is {theirs}, this program is {ours}");
        Finding::new(
            Code::Version,
            PATH,
            &seen,
            "a companion and a program of one version",
        )
    })
}

fn miswired(service: &Value) -> Vec<Finding> {
    let name = text(service, "service").unwrap_or_default();
    let reporters = list(service, "reporters").iter();
    let findings = reporters.flat_map(|reporter| {
        let who = text(reporter, "reporter").unwrap_or_default();
        list(reporter, "wiring").iter().map(move |finding| {
            let part = |field| text(finding, field).unwrap_or_default();
            Finding::new(
                Code::Miswired,
                &format!("service {name}, reporter {who}"),
                &format!("{}: {}", part("kind"), part("seen")),
                &shown(part("mend")),
            )
        })
    });
    findings.collect()
}

/// Services that no filter reports on.
fn unreported(services: &[&Value], known: &[Known]) -> Vec<Finding> {
    let reported = |name: &str| {
        let mut services = services.iter();
        services.any(|service| {
            text(service, "service") == Some(name) && !list(service, "reporters").is_empty()
        })
    };
    let missing = known
        .iter()
        .filter(|known| known.reports && !reported(&known.service));
    let missing = missing.map(|known| {
        let seen = format!(
            "service {}: no Envoy has reported on it in the last intervals",
            known.service
        );
        let mend = "does Envoy run, and does companion.cluster lead to this companion?";
        Finding::new(Code::NoReports, "GET /v1/services", &seen, mend)
    });
    missing.collect()
}

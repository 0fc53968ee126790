//! The rules: each file checks one side of an Envoy, or one answer of the companion. A rule says what it saw and
//! how to mend it; the consequence stands with the finding's code.

mod access_log;
pub(super) mod companion;
mod exposure;
mod health;
pub(super) mod probes;
mod retries;
mod routes;
pub(super) mod store;
pub(super) mod units;
mod wasm;
mod wiring;

use super::code::Code;
use super::envoy::Envoy;
use super::finding::Finding;
use super::managers::{Manager, Policy, Routes, managers, policy};
use super::services::placed;

/// The input of every rule about an Envoy.
struct View<'a> {
    envoy: &'a Envoy,
    managers: &'a [Manager<'a>],
    policies: &'a [Policy],
}

/// Everything that is found of an Envoy. `only` limits it to one service.
pub(super) fn examine(envoy: &Envoy, only: Option<&str>) -> Vec<Finding> {
    let managers = managers(envoy);
    let policies: Vec<Policy> = envoy.clusters.iter().filter_map(policy).collect();
    let view = View {
        envoy,
        managers: &managers,
        policies: &policies,
    };
    let mut found = wiring::settings(&view);
    let services = placed(&managers, &policies);
    let asked = |name: &str| only.is_none_or(|only| only == name);
    let services: Vec<_> = services
        .into_iter()
        .filter(|service| asked(service.settings.service.as_str()))
        .collect();
    let may_come = envoy.has_more_listeners
        || envoy.has_more_clusters
        || managers
            .iter()
            .any(|manager| !manager.unseen_filters.is_empty());
    if services.is_empty() && found.is_empty() && !may_come {
        let seen = match only {
            Some(name) => {
                format!("neither the filter nor the native module places the service {name}")
            }
            None => "neither the filter nor the native module is there".to_owned(),
        };
        let mend = "copy the filter and the policy of the cluster from envoy/envoy.yaml";
        found.push(Finding::new(
            Code::NothingPlaced,
            "static_resources",
            &seen,
            mend,
        ));
    }
    for service in &services {
        found.extend(wiring::service(&view, service));
        found.extend(wasm::service(&view, service));
        found.extend(routes::service(&view, service));
        found.extend(retries::service(&view, service));
        found.extend(health::service(&view, service));
        found.extend(exposure::service(&view, service));
    }
    found.extend(access_log::all(&view));
    found.extend(exposure::admin(&view, &services));
    found.extend(unseen(&view));
    found
}

fn unseen(view: &View<'_>) -> Vec<Finding> {
    let mut all = view.envoy.unseen.clone();
    for manager in view.managers {
        if let Routes::Unseen(what) = &manager.routes {
            all.push((manager.place.clone(), what.clone()));
        }
        for name in &manager.unseen_filters {
            let what = format!("the http filter {name} comes by ECDS");
            all.push((manager.place.clone(), what));
        }
    }
    let mend = "unitring doctor --admin http://127.0.0.1:9901  # looks at the running Envoy";
    let found = all.iter();
    found
        .map(|(place, what)| Finding::new(Code::Unseen, place, what, mend))
        .collect()
}

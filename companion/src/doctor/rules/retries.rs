//! 02xx: whether retries reach the candidates, and how many may run.

use serde_json::Value;

use super::super::code::Code;
use super::super::finding::Finding;
use super::super::json::{at, list, number, text};
use super::super::routes::{RouteTo, routes_to};
use super::super::services::{Placed, Shell};
use super::View;

/// Envoy's own `max_retries`.
const RETRIES_DEFAULT: u64 = 3;

/// The retries of a request whose instance fails.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let name = service.settings.service.as_str();
    let managers = service.managers.iter();
    let routes: Vec<RouteTo<'_>> = managers
        .flat_map(|manager| routes_to(manager, name))
        .collect();
    let mut found: Vec<Finding> = routes
        .iter()
        .filter_map(|route| one(service, route))
        .collect();
    if routes.iter().any(|route| retries(route).is_some()) {
        found.extend(budget(view, name));
    }
    found
}

/// The retry policy, if it retries at all.
fn retries<'a>(route: &'a RouteTo<'_>) -> Option<&'a Value> {
    let policy = route.retry_policy()?;
    let is_on = text(policy, "retry_on").is_some_and(|on| !on.is_empty());
    is_on.then_some(policy)
}

fn one(service: &Placed<'_>, route: &RouteTo<'_>) -> Option<Finding> {
    let candidates = service.settings.steer.candidates as u64;
    let Some(policy) = retries(route) else {
        let mend = format!(
            "retry_policy: {{ retry_on: \"connect-failure,reset,gateway-error\", num_retries: {} }}",
            candidates.saturating_sub(1)
        );
        let seen = "there is no retry_policy with retry_on";
        return (candidates > 1).then(|| Finding::new(Code::NoRetries, &route.place, seen, &mend));
    };
    if let Shell::Native(_) = service.shell {
        let predicates = list(policy, "retry_host_predicate").iter();
        let mut names = predicates.filter_map(|predicate| text(predicate, "name"));
        let has = names.any(|name| name.contains("previous_hosts"));
        return (!has).then(|| predicate(&route.place));
    }
    // Envoy's default is one.
    let tries = number(policy, "num_retries").unwrap_or(1);
    let fits = tries.checked_add(1) == Some(candidates);
    (!fits).then(|| {
        let seen = format!("num_retries is {tries}, and steer.candidates is {candidates}");
        let mend = match candidates {
            1 => "steer: { candidates: 3 }  # in the filter's settings, with num_retries: 2 here"
                .to_owned(),
            _ => format!("num_retries: {}", candidates.saturating_sub(1)),
        };
        Finding::new(Code::RetryCount, &route.place, &seen, &mend)
    })
}

fn predicate(place: &str) -> Finding {
    let seen = "retry_policy has no predicate previous_hosts";
    let mend = "retry_host_predicate:
  - name: envoy.retry_host_predicates.previous_hosts
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    Finding::new(Code::RetryPredicate, place, seen, mend)
}

/// Whether more retries than Envoy's default may run at a time.
fn budget(view: &View<'_>, name: &str) -> Option<Finding> {
    let cluster = view.envoy.cluster(name)?;
    let thresholds = list(&cluster.json, "circuit_breakers.thresholds").iter();
    let mut thresholds =
        thresholds.filter(|one| matches!(text(one, "priority"), None | Some("DEFAULT")));
    let seen = match thresholds.next() {
        Some(threshold) if at(threshold, "retry_budget").is_some() => return None,
        Some(threshold) => match number(threshold, "max_retries") {
            Some(retries) if retries > RETRIES_DEFAULT => return None,
            Some(retries) => format!("cluster {name}: max_retries is {retries}"),
            None => format!(
                "cluster {name}: neither retry_budget nor max_retries is set, and Envoy's default is 3 at a time"
            ),
        },
        None => format!(
            "cluster {name}: there are no circuit_breakers, and Envoy's default is 3 retries at a time"
        ),
    };
    let mend = "circuit_breakers:\n  thresholds:\n    - retry_budget: { budget_percent: { value: 50 }, min_retry_concurrency: 64 }";
    Some(Finding::new(
        Code::RetryBudget,
        &cluster.path("circuit_breakers"),
        &seen,
        mend,
    ))
}

//! 01xx: how the filter is loaded, which stats it has, and what Envoy lets it see.

use serde_json::Value;
use unitring_balancer::discovery::paths::RUNTIME;
use unitring_balancer::settings::{CaptureMode, Source};

use super::super::code::Code;
use super::super::finding::{Finding, shown};
use super::super::json::{at, is_true, list, text};
use super::super::managers::Routes;
use super::super::routes::{clusters_of, routes_to};
use super::super::services::{Placed, Shell};
use super::View;

/// The filter's requirements on Envoy.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let Shell::Filter(filter) = &service.shell else {
        return Vec::new();
    };
    let mut found = bypasses(view, service);
    let (place, wasm) = (&filter.place, filter.wasm);
    if text(wasm, "failure_policy") != Some("FAIL_RELOAD") {
        let seen = match text(wasm, "failure_policy") {
            Some(other) => format!("failure_policy is {other}"),
            None => "failure_policy is not set, and Envoy's default is FAIL_CLOSED".to_owned(),
        };
        let mend = "failure_policy: FAIL_RELOAD\nreload_config: { backoff: { base_interval: 0.05s, max_interval: 0.5s } }";
        found.push(Finding::new(Code::VmStaysDead, place, &seen, mend));
    }
    if service.settings.capture.mode == CaptureMode::Sync
        && !is_true(wasm, "allow_on_headers_stop_iteration")
    {
        let seen = "capture.mode is sync, and allow_on_headers_stop_iteration is not true";
        let mend = "allow_on_headers_stop_iteration: true";
        found.push(Finding::new(Code::BodiesHidden, place, seen, mend));
    }
    found.extend(stats(view, service));
    found.extend(admin_paths(view, service));
    found
}

/// Ways to the service that do not pass the filter.
fn bypasses(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let name = service.settings.service.as_str();
    let mut found = Vec::new();
    for manager in view.managers {
        let places = manager
            .filters
            .iter()
            .flat_map(|filter| filter.settings.iter());
        // A filter with one service places every request that passes it.
        let mut places = places.filter(|of| of.all.iter().any(|one| one.service.as_str() == name));
        if places.next().is_some()
            || manager
                .filters
                .iter()
                .any(|filter| filter.settings.is_err())
        {
            continue;
        }
        let place = match manager.routes {
            Routes::Tcp(cluster) if cluster == name => manager.place.clone(),
            Routes::Tcp(_) | Routes::Unseen(_) => continue,
            Routes::Seen(_) => match routes_to(manager, name).into_iter().next() {
                Some(route) => route.place,
                None => continue,
            },
        };
        let seen = format!("leads to the cluster {name}, and has no filter for it");
        let mend = format!(
            "the filter of {} here, too, or no route to {}",
            service
                .managers
                .first()
                .map_or("the other listener", |manager| manager.place.as_str()),
            shown(name)
        );
        found.push(Finding::new(Code::Bypassed, &place, &seen, &mend));
    }
    found
}

/// Whether a `stats_matcher` takes the filter's stats away.
fn stats(view: &View<'_>, service: &Placed<'_>) -> Option<Finding> {
    let matcher = at(&view.envoy.bootstrap, "stats_config.stats_matcher")?;
    let name = format!(
        "wasmcustom.unitring.{}.in_flight",
        service.settings.stat_name
    );
    let matches = |list_of: &str| -> Vec<Option<bool>> {
        let patterns = list(matcher, list_of).iter();
        patterns.map(|pattern| matches(pattern, &name)).collect()
    };
    let seen = if is_true(matcher, "reject_all") {
        "reject_all: true".to_owned()
    } else if at(matcher, "inclusion_list").is_some() {
        // A pattern that is not understood may match.
        let all = matches("inclusion_list.patterns");
        if all.iter().any(|one| *one != Some(false)) {
            return None;
        }
        format!("no pattern of inclusion_list matches {name}")
    } else {
        let all = matches("exclusion_list.patterns");
        if !all.contains(&Some(true)) {
            return None;
        }
        format!("a pattern of exclusion_list matches {name}")
    };
    let mend = "stats_config:\n  stats_matcher:\n    inclusion_list:\n      patterns: [{ prefix: wasmcustom. }]  # beside yours";
    Some(Finding::new(
        Code::StatsExcluded,
        "stats_config.stats_matcher",
        &seen,
        mend,
    ))
}

/// Whether a pattern of Envoy matches a name; nothing for one that is not understood here.
fn matches(pattern: &Value, name: &str) -> Option<bool> {
    let (pattern, name) = match is_true(pattern, "ignore_case") {
        true => (pattern.to_string().to_lowercase(), name.to_lowercase()),
        false => (pattern.to_string(), name.to_owned()),
    };
    let pattern: Value = serde_json::from_str(&pattern).ok()?;
    let of = |field: &str| text(&pattern, field);
    if let Some(exact) = of("exact") {
        return Some(name == exact);
    }
    if let Some(prefix) = of("prefix") {
        return Some(name.starts_with(prefix));
    }
    if let Some(suffix) = of("suffix") {
        return Some(name.ends_with(suffix));
    }
    of("contains").map(|part| name.contains(part))
}

/// Whether `allow_paths` refuses what the filter reads.
fn admin_paths(view: &View<'_>, service: &Placed<'_>) -> Option<Finding> {
    let Source::Admin { .. } = service.settings.discovery.source else {
        return None;
    };
    let allowed = list(&view.envoy.bootstrap, "admin.allow_paths");
    if allowed.is_empty() {
        return None;
    }
    let is_refused = |path: &&&str| {
        let mut each = allowed.iter().map(|pattern| matches(pattern, path));
        each.all(|one| one == Some(false))
    };
    // As the filter asks: with a query.
    let mut asked = vec!["/clusters?filter=x", "/config_dump?resource=x"];
    let mut layers = list(&view.envoy.bootstrap, "layered_runtime.layers").iter();
    if layers.any(|layer| layer.get("admin_layer").is_none()) {
        asked.push(RUNTIME);
    }
    let refused: Vec<&str> = asked.iter().filter(is_refused).copied().collect();
    let refused: Vec<&str> = refused
        .iter()
        .filter_map(|path| path.split('?').next())
        .collect();
    if refused.is_empty() {
        return None;
    }
    let seen = format!("allow_paths has no pattern for {}", refused.join(" and "));
    let lines: Vec<String> = refused
        .iter()
        .map(|path| match *path {
            // A prefix would let changes of the runtime through.
            RUNTIME => format!("    - exact: {path}"),
            _ => format!("    - prefix: {path}"),
        })
        .collect();
    let mend = format!("admin:\n  allow_paths:\n{}", lines.join("\n"));
    Some(Finding::new(
        Code::AdminPaths,
        "admin.allow_paths",
        &seen,
        &mend,
    ))
}

/// The ways to a cluster, each with its place.
pub(super) fn ways_to<'a>(view: &View<'a>, cluster: &str) -> Vec<String> {
    let ways = view.managers.iter().flat_map(clusters_of);
    ways.filter(|(_, name)| *name == cluster)
        .map(|(place, _)| place)
        .collect()
}

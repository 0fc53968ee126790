//! 02xx: what the routes to a service hash, and which headers they take away. The rules are the filter's own; here
//! each mistake gets the place of its route.

use std::slice;

use unitring_balancer::discovery::routes;
use unitring_balancer::settings::{KeyFrom, KeySource, Settings, Source};
use unitring_balancer::wiring::check_headers;
use unitring_balancer::wiring::keys::{Keys, check_routes};

use super::super::code::Code;
use super::super::finding::{Finding, shown};
use super::super::json::{is_true, list};
use super::super::managers::{Manager, Routes};
use super::super::routes::{RouteTo, routes_to};
use super::super::services::{Placed, Shell, as_filter_reads};
use super::View;

/// The requirements of the filter on the routes to the service.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let name = service.settings.service.as_str();
    let cluster = view.envoy.cluster(name);
    let cluster = cluster.and_then(|cluster| as_filter_reads(cluster).ok());
    let has_own_hash = cluster
        .as_ref()
        .is_some_and(|cluster| !cluster.policy.hash_policy.is_empty());
    let mut found = Vec::new();
    for manager in &service.managers {
        let leading = routes_to(manager, name);
        let others = Others::new(manager, service.settings, &leading);
        for route in leading {
            found.extend(match service.shell {
                Shell::Filter(_) if !has_own_hash && others.has(&route, name) => None,
                Shell::Filter(_) => {
                    let routes = routes::Routes {
                        naming: vec![route.read.clone()],
                        ..routes::Routes::default()
                    };
                    // Other filters of this manager were asked before.
                    let keys = Keys::default();
                    let mistake = check_routes(service.settings, cluster.as_ref(), &routes, &keys);
                    mistake.map(|mistake| {
                        let place = match has_own_hash {
                            true => &service.place,
                            false => &route.place,
                        };
                        let mend = hash_policy(&service.settings.key);
                        Finding::new(Code::HashPolicy, place, &mistake.seen, &mend)
                    })
                }
                Shell::Native(_) => (route.read.hash_policy.is_empty() && !has_own_hash)
                    .then(|| unhashed(&route.place)),
            });
            found.extend(headers(service, &route));
            found.extend(attempts(service, &route));
        }
        if let (Shell::Native(_), Routes::Tcp(cluster)) = (&service.shell, &manager.routes)
            && *cluster == name
            && list(manager.json, "hash_policy").is_empty()
        {
            found.push(unhashed(&manager.place));
        }
    }
    found
}

/// The filters of one service in a manager, which routes switch on and off.
struct Others {
    own: Keys,
    /// Those of all filters.
    all: Keys,
    /// Whether a route is for the filter itself.
    has_own_route: bool,
}

impl Others {
    fn new(manager: &Manager<'_>, settings: &Settings, routes: &[RouteTo<'_>]) -> Self {
        let filters = manager.filters.iter();
        let services = filters.filter_map(|filter| filter.settings.as_ref().ok());
        let services = services.flat_map(|services| &services.all);
        let mut all = Keys::default();
        for (number, settings) in (0..).zip(services) {
            all.tell(settings, number, 0);
        }
        let mut own = Keys::default();
        own.tell(settings, 0, 0);
        let is_own =
            |route: &RouteTo<'_>| own.has(Some(settings.service.as_str()), &route.read.hash_policy);
        Self {
            has_own_route: routes.iter().any(is_own),
            own,
            all,
        }
    }

    /// Whether a route is for another of the filters.
    fn has(&self, route: &RouteTo<'_>, service: &str) -> bool {
        let has = |keys: &Keys| keys.has(Some(service), &route.read.hash_policy);
        self.has_own_route && !has(&self.own) && has(&self.all)
    }
}

fn unhashed(place: &str) -> Finding {
    let seen = "there is no hash_policy, so that each request goes to an instance at random";
    let mend =
        "hash_policy:\n  - header: { header_name: x-user-id }  # for tcp_proxy: source_ip: {}";
    Finding::new(Code::HashPolicy, place, seen, mend)
}

/// The filter's key as the `hash_policy` of a route.
fn hash_policy(key: &[KeySource]) -> String {
    let mut lines =
        "hash_policy:  # the filter's key, or change the key in the filter's settings".to_owned();
    for source in key {
        let what = match &source.from {
            KeyFrom::Header(name) => format!("header: {{ header_name: \"{}\" }}", shown(name)),
            KeyFrom::Cookie(name) => format!("cookie: {{ name: \"{}\" }}", shown(name)),
            KeyFrom::Query(name) => format!("query_parameter: {{ name: \"{}\" }}", shown(name)),
            KeyFrom::SourceIp => "connection_properties: { source_ip: true }".to_owned(),
        };
        lines.push_str(&format!("\n  - {what}"));
        if source.terminal {
            lines.push_str("\n    terminal: true");
        }
    }
    lines
}

fn headers(service: &Placed<'_>, route: &RouteTo<'_>) -> Option<Finding> {
    let Shell::Filter(_) = service.shell else {
        return None;
    };
    let mistake = check_headers(service.settings, slice::from_ref(&route.read))?;
    Some(Finding::new(
        Code::HeaderRemoved,
        &route.place,
        &mistake.seen,
        &mistake.mend,
    ))
}

/// Whether the filter and Envoy agree on which of them sends the number of attempts.
fn attempts(service: &Placed<'_>, route: &RouteTo<'_>) -> Option<Finding> {
    let Shell::Filter(filter) = &service.shell else {
        return None;
    };
    const FIELD: &str = "include_attempt_count_in_response";
    let tells = is_true(route.host, FIELD);
    let reads = service.settings.steer.attempts_in_response;
    let counts_by_envoy = matches!(service.settings.discovery.source, Source::Admin { .. });
    let finding =
        |code, place: &str, seen: &str, mend: &str| Some(Finding::new(code, place, seen, mend));
    match (counts_by_envoy, reads, tells) {
        (true, true, _) => finding(
            Code::AttemptCountUnneeded,
            &filter.place,
            "steer.attempts_in_response is true, and with discovery.source admin the filter takes attempts from Envoy's own counts",
            "steer: {}  # without attempts_in_response",
        ),
        (false, true, false) => finding(
            Code::AttemptCount,
            &route.place,
            &format!(
                "steer.attempts_in_response is true, and the virtual host does not set {FIELD}"
            ),
            &format!("virtual_hosts:\n  - {FIELD}: true"),
        ),
        (false, false, true) => finding(
            Code::AttemptCountUnneeded,
            &filter.place,
            &format!("the virtual host sets {FIELD}, and steer.attempts_in_response is false"),
            "steer: { attempts_in_response: true }",
        ),
        _ => None,
    }
}

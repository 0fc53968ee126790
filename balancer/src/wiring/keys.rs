//! The inputs that routes and filters hash → whether every filter has the key of the routes that lead to it.
//!
//! Envoy does not tell a filter which route configuration it serves. But filters with other keys, on
//! other listeners or switched on by other routes, know each other: they share their keys. So a
//! route is wrong if it hashes what none of them does, or if none hashes what this filter does.

mod changes;

use super::Mistake;
use crate::discovery::cluster::Cluster;
use crate::discovery::routes::{HashFrom, HashSource, Route, Routes};
use crate::settings::{KeyFrom, KeySource, Settings};
use crate::stored::stored;

/// A key that was not told for this long belongs to a filter that is gone.
const KEPT_MS: u64 = 120_000;
/// The most keys that are kept.
const KEYS_MAX: usize = 1_024;

/// The keys of the filters of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    known: Vec<Known>,
}

stored!(Keys { known });

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// A hash of the filter's settings.
    filter: u64,
    service: String,
    key: String,
    told_ms: u64,
}

stored!(Known {
    filter,
    service,
    key,
    told_ms
});

impl Keys {
    /// Adds a filter's key, or renews it.
    pub fn tell(&mut self, settings: &Settings, filter: u64, now_ms: u64) {
        let service = settings.service.as_str();
        self.known.retain(|known| {
            let is_same = known.filter == filter && known.service == service;
            !is_same && now_ms.abs_diff(known.told_ms) <= KEPT_MS
        });
        if self.known.len() < KEYS_MAX {
            self.known.push(Known {
                filter,
                service: service.to_owned(),
                key: listed(&wanted(settings)),
                told_ms: now_ms,
            });
        }
    }

    /// Whether a filter of this service, or of any, hashes these sources.
    pub fn has(&self, service: Option<&str>, sources: &[HashSource]) -> bool {
        let key = listed(sources);
        let mut known = self.known.iter();
        known
            .any(|known| service.is_none_or(|service| service == known.service) && known.key == key)
    }
}

/// Checks that the routes to the cluster, or the cluster's own hash policy if it has one, hash what
/// the filter hashes. `keys` are those of all filters.
pub fn check_routes(
    settings: &Settings,
    cluster: Option<&Cluster>,
    routes: &Routes,
    keys: &Keys,
) -> Option<Mistake> {
    let wanted = wanted(settings);
    let own = cluster.map_or(&[][..], |cluster| &cluster.policy.hash_policy);
    let service = settings.service.as_str();
    differing(service, &wanted, own, routes, keys).or_else(|| {
        let mut naming = routes.naming.iter();
        naming.find_map(|route| {
            let is_hashed_so = own == wanted || route.hash_policy == wanted;
            changes::of_key(&wanted, route).filter(|_| is_hashed_so)
        })
    })
}

/// The mistake that the cluster's own hash policy, if it has one, or else a route hashes other sources than `wanted`.
fn differing(
    service: &str,
    wanted: &[HashSource],
    own: &[HashSource],
    routes: &Routes,
    keys: &Keys,
) -> Option<Mistake> {
    if !own.is_empty() {
        return (own != wanted).then(|| {
            Mistake::new(
                format!(
                    "the cluster hashes {}, the filter hashes {}",
                    listed(own),
                    listed(wanted)
                ),
                "the same sources in the cluster's hash_policy (of the ring's consistent_hashing_lb_config, or of \
                 HttpProtocolOptions) and in the filter's key",
            )
        });
    }
    let naming = &routes.naming;
    let differs = |route: &&Route| route.hash_policy != wanted;
    let is_mine = |route: &Route| keys.has(Some(service), &route.hash_policy);
    let differing = naming
        .iter()
        .find(|route| differs(route) && !is_mine(route));
    let differing = differing.or_else(|| {
        let none = naming.iter().all(|route| differs(&route));
        naming.first().filter(|_| none)
    });
    if let Some(route) = differing {
        return Some(mistake(route, "", wanted));
    }
    let route = deciding(routes, wanted, keys)?;
    Some(mistake(route, " that may lead to the service", wanted))
}

/// A route that may lead to the service, and hashes what no filter does. It may lead to other clusters alone; so where
/// others name the service, one without a hash policy is for those.
fn deciding<'a>(routes: &'a Routes, wanted: &[HashSource], keys: &Keys) -> Option<&'a Route> {
    let is_only_way = routes.naming.is_empty();
    let mut deciding = routes.deciding.iter();
    let differing = deciding.find(|route| {
        let hashes = &route.hash_policy;
        let may_lead_here = is_only_way || !hashes.is_empty();
        may_lead_here && hashes != wanted && !keys.has(None, hashes)
    });
    differing.or_else(|| {
        let mut deciding = routes.deciding.iter();
        let none = is_only_way && deciding.all(|route| route.hash_policy != wanted);
        routes.deciding.first().filter(|_| none)
    })
}

fn mistake(route: &Route, which: &str, wanted: &[HashSource]) -> Mistake {
    let seen = if route.hash_policy.is_empty() {
        "has no hash_policy".to_owned()
    } else {
        format!("hashes {}", listed(&route.hash_policy))
    };
    Mistake::new(
        format!(
            "a route of virtual host {}{which} {seen}, the filter hashes {}",
            route.virtual_host,
            listed(wanted)
        ),
        "the same sources in the route's hash_policy and in the filter's key",
    )
}

fn wanted(settings: &Settings) -> Vec<HashSource> {
    settings.key.iter().map(as_policy).collect()
}

fn as_policy(source: &KeySource) -> HashSource {
    HashSource {
        from: match &source.from {
            KeyFrom::Header(name) => HashFrom::Header(name.clone()),
            KeyFrom::Cookie(name) => HashFrom::Cookie(name.clone()),
            KeyFrom::Query(name) => HashFrom::Query(name.clone()),
            KeyFrom::SourceIp => HashFrom::SourceIp,
        },
        terminal: source.terminal,
    }
}

fn listed(sources: &[HashSource]) -> String {
    let source = |source: &HashSource| {
        let text = match &source.from {
            HashFrom::Header(name) => format!("header {name}"),
            HashFrom::Cookie(name) => format!("cookie {name}"),
            HashFrom::Query(name) => format!("query {name}"),
            HashFrom::SourceIp => "source_ip".to_owned(),
            HashFrom::Other => "something else".to_owned(),
        };
        if source.terminal {
            text + " (terminal)"
        } else {
            text
        }
    };
    let all: Vec<String> = sources.iter().map(source).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests;

//! `/config_dump` of routes → how the routes to a cluster hash and retry.

use crate::json::{self, Json, JsonError};

use super::DiscoveryError;

/// What the routes configure for a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// The routes that name it.
    pub naming: Vec<Route>,
    /// The routes that decide by the request where they lead. They may lead to the cluster.
    pub deciding: Vec<Route>,
    /// Whether a route to another cluster may retry an answer that is no failure. That may be an
    /// aggregate cluster, which leads to the cluster, too.
    pub others_retry_answers: bool,
}

impl Routes {
    /// Whether gRPC calls that Envoy retried were failures, whose status is 200 as that of any other:
    /// no route that may lead to the cluster retries anything else, and such a route is known at all.
    pub fn retry_failures_alone(&self) -> bool {
        let mut all = self.naming.iter().chain(&self.deciding).peekable();
        all.peek().is_some()
            && !self.others_retry_answers
            && !all.any(|route| route.retries_answers)
    }

    /// Whether a route may lead to the cluster, other than by an aggregate cluster.
    pub fn may_lead_here(&self) -> bool {
        !(self.naming.is_empty() && self.deciding.is_empty())
    }

    /// Adds what another answer says.
    pub fn append(&mut self, mut other: Self) {
        self.naming.append(&mut other.naming);
        self.deciding.append(&mut other.deciding);
        self.others_retry_answers |= other.others_retry_answers;
    }
}

/// A route to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The virtual host of the route.
    pub virtual_host: String,
    /// The sources of its hash, in order.
    pub hash_policy: Vec<HashSource>,
    /// Whether it may retry an answer that is no failure, such as a 409 or a 429. Envoy counts the
    /// retried attempt as an error all the same.
    pub retries_answers: bool,
    /// Headers that it removes from requests, in lower case.
    pub removes_from_requests: Vec<String>,
    /// Headers that it removes from answers before any filter sees them, in lower case.
    pub removes_from_answers: Vec<String>,
    /// Headers of requests that it sets or rewrites before Envoy hashes them, in lower case; `:path` and
    /// `:authority` among them.
    pub changes: Vec<String>,
}

/// One entry of a `hash_policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashSource {
    /// What is hashed.
    pub from: HashFrom,
    /// Whether later entries are ignored once this one gives a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashFrom {
    /// A request header, in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// The client's address.
    SourceIp,
    /// Something that the filter can't hash, such as a header that is rewritten first.
    Other,
}

const FIELDS: [&str; 40] = [
    "configs",
    "route_config",
    "virtual_hosts",
    "name",
    "routes",
    "route",
    "cluster",
    "cluster_header",
    "cluster_specifier_plugin",
    "inline_cluster_specifier_plugin",
    "weighted_clusters",
    "clusters",
    "hash_policy",
    "header",
    "header_name",
    "regex_rewrite",
    "cookie",
    "ttl",
    "path",
    "query_parameter",
    "connection_properties",
    "source_ip",
    "filter_state",
    "terminal",
    "retry_policy",
    "retry_policy_typed_config",
    "retry_on",
    "retriable_status_codes",
    "retriable_headers",
    FROM_REQUESTS,
    FROM_ANSWERS,
    TO_REQUESTS,
    "key",
    "append_action",
    "prefix_rewrite",
    "path_rewrite",
    "path_rewrite_policy",
    "host_rewrite_literal",
    "host_rewrite_header",
    "host_rewrite_path_regex",
];

const FROM_REQUESTS: &str = "request_headers_to_remove";
const FROM_ANSWERS: &str = "response_headers_to_remove";
const TO_REQUESTS: &str = "request_headers_to_add";

/// Fields of a route that rewrite a header, and that header.
const REWRITES: [(&str, &str); 7] = [
    ("prefix_rewrite", ":path"),
    ("regex_rewrite", ":path"),
    ("path_rewrite", ":path"),
    ("path_rewrite_policy", ":path"),
    ("host_rewrite_literal", ":authority"),
    ("host_rewrite_header", ":authority"),
    ("host_rewrite_path_regex", ":authority"),
];

/// Tokens of `retry_on` that may retry an answer that is no failure.
const ANSWERS: [&str; 7] = [
    "retriable-4xx",
    "retriable-headers",
    "envoy-ratelimited",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "internal",
];

/// The routes that lead to a cluster, directly or by weight, and those that may.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(service: &str, body: &[u8]) -> Result<Routes, DiscoveryError> {
    let answer = json::read(body, &FIELDS)?;
    let mut found = Routes::default();
    for config in answer.list("configs")?.unwrap_or_default() {
        let Some(config) = config.field("route_config")? else {
            continue;
        };
        for host in config.list("virtual_hosts")?.unwrap_or_default() {
            for route in host.list("routes")?.unwrap_or_default() {
                let Some(action) = route.field("route")? else {
                    continue;
                };
                let mut weighed = weighed(action).iter();
                let one = weighed.find(|cluster| is_named(cluster, "name", service));
                let places = [Some(config), Some(host), Some(route), one];
                let read = self::route(host, action, &places)?;
                let decides = decides(action);
                let names = one.is_some() || is_named(action, "cluster", service);
                found.others_retry_answers |= !decides && !names && read.retries_answers;
                if decides {
                    found.deciding.push(read.clone());
                }
                if names {
                    found.naming.push(read);
                }
            }
        }
    }
    Ok(found)
}

/// Whether a route's cluster depends on the request.
fn decides(action: &Json) -> bool {
    let has = |json: &Json, name| json.field(name).is_ok_and(|field| field.is_some());
    has(action, "cluster_header")
        || has(action, "cluster_specifier_plugin")
        || has(action, "inline_cluster_specifier_plugin")
        || weighed(action)
            .iter()
            .any(|cluster| has(cluster, "cluster_header"))
}

/// The clusters that a route weighs against each other.
fn weighed(action: &Json) -> &[Json] {
    let weighted = action.field("weighted_clusters").ok().flatten();
    let clusters = weighted.and_then(|weighted| weighted.list("clusters").ok()?);
    clusters.unwrap_or_default()
}

fn is_named(json: &Json, field: &'static str, service: &str) -> bool {
    json.text(field).is_ok_and(|name| name == Some(service))
}

/// `places` are all that may name headers to remove.
fn route(host: &Json, action: &Json, places: &[Option<&Json>]) -> Result<Route, JsonError> {
    Ok(Route {
        virtual_host: host.text("name")?.unwrap_or_default().to_owned(),
        hash_policy: hash_policy(action)?,
        retries_answers: may_retry_answers(&[action, host])?,
        removes_from_requests: removed(places, FROM_REQUESTS),
        removes_from_answers: removed(places, FROM_ANSWERS),
        changes: changed(places, action)?,
    })
}

fn changed(places: &[Option<&Json>], action: &Json) -> Result<Vec<String>, JsonError> {
    let mut headers = Vec::new();
    let weighed = places.last().copied().flatten();
    for place in [Some(action), weighed].into_iter().flatten() {
        for (field, header) in REWRITES {
            // An empty text is as no text at all.
            let is_empty = place.text(field).is_ok_and(|text| text == Some(""));
            if place.field(field)?.is_some() && !is_empty {
                headers.push(header.to_owned());
            }
        }
    }
    let lists = places.iter().flatten();
    for added in lists
        .filter_map(|place| place.list(TO_REQUESTS).ok()?)
        .flatten()
    {
        // Where the client sent none, the filter finds no key, either.
        let is_if_absent = added.text("append_action")? == Some("ADD_IF_ABSENT");
        let Some(header) = added.field("header")?.filter(|_| !is_if_absent) else {
            continue;
        };
        headers.extend(header.text("key")?.map(header_of_key));
    }
    Ok(headers)
}

/// The name of a header as Envoy keeps it.
fn header_of_key(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "host" => ":authority".to_owned(),
        _ => name,
    }
}

fn removed(places: &[Option<&Json>], field: &'static str) -> Vec<String> {
    let lists = places
        .iter()
        .flatten()
        .filter_map(|place| place.list(field).ok()?);
    let names = lists.flatten().filter_map(|name| match name {
        Json::Text(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

/// The `hash_policy` of a route, or of a cluster's ring.
pub(super) fn hash_policy(json: &Json) -> Result<Vec<HashSource>, JsonError> {
    let policy = json.list("hash_policy")?.unwrap_or_default();
    policy.iter().map(source).collect()
}

fn source(json: &Json) -> Result<HashSource, JsonError> {
    let name = |part: &Json, field| {
        part.text(field)
            .map(|name| name.unwrap_or_default().to_owned())
    };
    let from = if let Some(header) = json.field("header")? {
        if header.field("regex_rewrite")?.is_some() {
            HashFrom::Other
        } else {
            HashFrom::Header(header_of_key(&name(header, "header_name")?))
        }
    } else if let Some(cookie) = json.field("cookie")? {
        HashFrom::Cookie(name(cookie, "name")?)
    } else if let Some(query) = json.field("query_parameter")? {
        HashFrom::Query(name(query, "name")?)
    } else if let Some(connection) = json.field("connection_properties")? {
        if connection.flag("source_ip")? {
            HashFrom::SourceIp
        } else {
            HashFrom::Other
        }
    } else {
        HashFrom::Other
    };
    Ok(HashSource {
        from,
        terminal: json.flag("terminal")?,
    })
}

/// Whether the retry policy of the first of these places that has one may retry an answer that is no
/// failure. A policy that is an extension may retry anything.
pub(super) fn may_retry_answers(places: &[&Json]) -> Result<bool, JsonError> {
    for place in places {
        if let Some(retry) = place.field("retry_policy")? {
            return retries_answers(retry);
        }
        if place.field("retry_policy_typed_config")?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn retries_answers(retry: &Json) -> Result<bool, JsonError> {
    let tokens = retry.text("retry_on")?.unwrap_or_default();
    let mut tokens = tokens.split(',').map(str::trim);
    let codes = retry.list("retriable_status_codes")?.unwrap_or_default();
    let is_answer = |code: &Json| !matches!(code, Json::Number(500..600));
    Ok(tokens.any(|token| {
        ANSWERS.contains(&token)
            || (token == "retriable-status-codes" && codes.iter().any(is_answer))
    }))
}

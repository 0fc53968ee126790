//! `/config_dump` of routes → how the routes to a cluster hash and retry.

use crate::json::{self, Json, JsonError};

use super::DiscoveryError;

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

const FIELDS: [&str; 25] = [
    "configs",
    "route_config",
    "virtual_hosts",
    "name",
    "routes",
    "route",
    "cluster",
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
    "retry_on",
    "retriable_status_codes",
    "retriable_headers",
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

/// The routes that lead to a cluster, directly or by weight.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(service: &str, body: &[u8]) -> Result<Vec<Route>, DiscoveryError> {
    let answer = json::read(body, &FIELDS)?;
    let mut found = Vec::new();
    for config in answer.list("configs")?.unwrap_or_default() {
        let Some(config) = config.field("route_config")? else {
            continue;
        };
        for host in config.list("virtual_hosts")?.unwrap_or_default() {
            for route in host.list("routes")?.unwrap_or_default() {
                let action = route.field("route")?;
                if let Some(action) = action.filter(|action| leads_to(action, service)) {
                    found.push(self::route(host, action)?);
                }
            }
        }
    }
    Ok(found)
}

fn leads_to(action: &Json, service: &str) -> bool {
    if action
        .text("cluster")
        .is_ok_and(|name| name == Some(service))
    {
        return true;
    }
    let weighted = action.field("weighted_clusters").ok().flatten();
    let clusters = weighted.and_then(|weighted| weighted.list("clusters").ok()?);
    let mut clusters = clusters.unwrap_or_default().iter();
    clusters.any(|cluster| cluster.text("name").is_ok_and(|name| name == Some(service)))
}

fn route(host: &Json, action: &Json) -> Result<Route, JsonError> {
    let retry = action.field("retry_policy")?;
    let retry = match retry {
        Some(retry) => Some(retry),
        None => host.field("retry_policy")?,
    };
    Ok(Route {
        virtual_host: host.text("name")?.unwrap_or_default().to_owned(),
        hash_policy: hash_policy(action)?,
        retries_answers: match retry {
            Some(retry) => retries_answers(retry)?,
            None => false,
        },
    })
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
            let name = name(header, "header_name")?.to_ascii_lowercase();
            // Envoy keeps the header `host` as `:authority`.
            let is_host = name == "host";
            HashFrom::Header(if is_host {
                ":authority".to_owned()
            } else {
                name
            })
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

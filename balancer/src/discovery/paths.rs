//! A service → the paths that ask for it alone.
//!
//! A name may contain any character. The admin interface filters by a regular expression, so
//! special characters are escaped, and then all is percent-encoded.

use std::fmt::Write as _;

/// The hosts of one cluster with their counters, as text, which costs a quarter of the same as
/// JSON.
pub fn clusters(service: &str) -> String {
    format!("/clusters?filter={}", exactly(service))
}

/// The cluster's endpoints. `name` is the name of its endpoints, which for EDS may differ from the
/// cluster's.
pub fn endpoints(name: &str, via_api: bool) -> String {
    let resource = if via_api {
        "dynamic_endpoint_configs"
    } else {
        "static_endpoint_configs"
    };
    format!(
        "/config_dump?include_eds&resource={resource}&name_regex={}",
        exactly(name)
    )
}

/// The cluster's policy and thresholds.
pub fn cluster(service: &str, via_api: bool) -> String {
    let resource = if via_api {
        "dynamic_active_clusters"
    } else {
        "static_clusters"
    };
    const MASK: &str = "cluster.name,cluster.type,cluster.load_balancing_policy,cluster.lb_policy,\
        cluster.alt_stat_name,cluster.common_lb_config,cluster.load_assignment.policy,cluster.outlier_detection,\
        cluster.typed_extension_protocol_options";
    format!(
        "/config_dump?resource={resource}&name_regex={}&mask={MASK}",
        exactly(service)
    )
}

/// Envoy's runtime, all layers of it. Envoy cannot be asked for one key.
pub const RUNTIME: &str = "/runtime";

/// The layers of the runtime, as the bootstrap has them. No name matches, so that Envoy writes no
/// clusters, listeners and routes to throw them away.
pub const RUNTIME_LAYERS: &str = "/config_dump?mask=bootstrap.layered_runtime&name_regex=%5E%24";

/// The routes of the bootstrap and of listeners, or with `via_api` those that came by RDS.
pub fn routes(via_api: bool) -> &'static str {
    if via_api {
        "/config_dump?resource=dynamic_route_configs"
    } else {
        "/config_dump?resource=static_route_configs"
    }
}

/// The counts of a cluster's answers by their status, and of those that were retried; and what tells
/// whether Envoy keeps all of these.
pub fn statuses(stat_name: &str) -> String {
    const STATUS: &str = "(retry\\.)?upstream_rq_[0-9][0-9][0-9]";
    const OTHERS: &str =
        "upstream_rq_(retry|completed|rx_reset|pending_failure_eject|per_try_timeout)";
    const CLOSED: &str = "upstream_cx_destroy_remote_with_active_rq";
    let name = escaped(stat_name);
    let filter = format!(r"^cluster\.{name}\.({STATUS}|{OTHERS}|{CLOSED})$");
    format!("/stats?filter={}", encoded(&filter))
}

/// The companion's list of a service's registered instances.
pub fn registry(service: &str) -> String {
    format!("/v1/services/{}/instances", encoded(service))
}

/// A regular expression that matches this text alone, percent-encoded.
fn exactly(text: &str) -> String {
    encoded(&format!("^{}$", escaped(text)))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _written = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_asks_for_exactly_one_cluster_whatever_its_name() {
        assert_eq!(clusters("a.b-c"), "/clusters?filter=%5Ea%5C.b%5C-c%24");
        let odd = clusters("outbound|8080||o é");
        let expected = "/clusters?filter=%5Eoutbound%5C%7C8080%5C%7C%5C%7Co%20%C3%A9%24";
        assert_eq!(odd, expected);
        let path = endpoints("a", true);
        assert!(
            path.ends_with("dynamic_endpoint_configs&name_regex=%5Ea%24"),
            "{path}"
        );
        assert_eq!(registry("a/b c"), "/v1/services/a%2Fb%20c/instances");
    }
}

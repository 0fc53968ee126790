//! The findings of answers from Envoy's admin interface.

mod answers;

use std::num::NonZeroU32;

use proptest::prelude::*;
use unitring_routing::hash::HashFunction;
use unitring_routing::membership::{Cause, Identity, Locality, Member, State};

use super::cluster::{Fallback, Hashing, Policy};
use super::look::{Ask, Look, Reply};
use super::page::HostCounts;
use super::routes::{HashFrom, HashSource, Routes};
use super::*;

/// The lines of a host, as Envoy writes them.
fn host(service: &str, address: &str, lines: &[(&str, &str)]) -> String {
    let line = |(name, value): (&str, &str)| format!("{service}::{address}::{name}::{value}\n");
    let usual = [
        ("cx_active", "1"),
        ("cx_connect_fail", "2"),
        ("rq_active", "3"),
        ("rq_error", "4"),
        ("rq_pending_active", "1"),
        ("rq_success", "5"),
        ("rq_timeout", "1"),
        ("rq_total", "9"),
        ("hostname", ""),
        ("health_flags", "healthy"),
        ("weight", "1"),
        ("region", ""),
        ("zone", ""),
        ("sub_zone", ""),
        ("priority", "0"),
        ("success_rate", "-1"),
    ];
    let value = |name: &str, usual| {
        let set = lines.iter().find(|(other, _)| *other == name);
        set.map_or(usual, |(_, value)| *value)
    };
    let all = usual.map(|(name, usual)| line((name, value(name, usual))));
    all.concat()
}

fn page(service: &str, hosts: &[String]) -> String {
    format!(
        "{service}::observability_name::{service}\n{service}::default_priority::max_connections::1024\n\
         {service}::added_via_api::true\n{service}::eds_service_name::eds/{service}\n{}",
        hosts.concat()
    )
}

fn look(service: &str, page: &str) -> Look {
    let mut look = Look::default();
    let next = look.on_page(service, page.as_bytes(), 1_000).unwrap();
    assert_eq!(next, Some(Ask::Endpoints));
    look
}

#[test]
fn hosts_come_in_envoys_order_with_weight_health_and_counts() {
    let name = "outbound|80||o::x";
    let flags = "/failed_active_hc/pending_active_hc";
    let hosts = [
        host(name, "10.0.0.9:80", &[("weight", "3")]),
        host(name, "[::1]:80", &[("health_flags", flags)]),
        host(name, "/tmp/a::b", &[("priority", "1")]),
        host(
            name,
            "[fe80::1%1]:80",
            &[("health_flags", "/degraded_eds_health")],
        ),
        host(
            name,
            "10.0.0.9:80",
            &[("health_flags", "/eds_status_draining")],
        ),
    ];
    let look = look(name, &page(name, &hosts));
    assert_eq!(
        look.path(name, Ask::Endpoints),
        paths::endpoints("eds/outbound|80||o::x", true)
    );
    let found = look.found(None);
    let seen: Vec<_> = found
        .members
        .iter()
        .map(|m| {
            (
                m.address.as_str(),
                m.weight.get(),
                m.state,
                m.excluded,
                m.steerable,
            )
        })
        .collect();
    let checked = State::Failed(Cause::ActiveCheck);
    let expected = [
        ("10.0.0.9:80", 3, State::Serving, false, true),
        ("[::1]:80", 1, checked, true, true),
        ("/tmp/a::b", 1, State::Serving, false, false),
        ("[fe80::1%1]:80", 1, State::Degraded, false, false),
        ("10.0.0.9:80", 1, State::Draining, true, true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(found.members[2].priority, 1);
    let counts = HostCounts {
        calls: 9,
        errors: 4,
        successes: 5,
        sure: 3,
        in_flight: 4,
    };
    let of = |id: &str| {
        found
            .counts
            .iter()
            .find(|(other, _)| other == id)
            .unwrap()
            .1
    };
    assert_eq!(of("[::1]:80"), counts);
    assert_eq!(
        of("10.0.0.9:80"),
        counts.plus(counts),
        "listed twice, one instance"
    );
    assert_eq!(found.counts.len(), 4);
}

#[test]
fn a_host_about_to_be_removed_is_used_and_each_verdict_has_its_cause() {
    for (flags, expected) in [
        ("/pending_dynamic_removal", State::Serving),
        (
            "/failed_outlier_check",
            State::Failed(Cause::OutlierDetection),
        ),
        ("/failed_eds_health", State::Failed(Cause::Told)),
        ("/degraded_active_hc", State::Degraded),
        (
            "/failed_active_hc/degraded_eds_health",
            State::Failed(Cause::ActiveCheck),
        ),
    ] {
        let hosts = [host("a", "10.0.0.1:80", &[("health_flags", flags)])];
        let found = look("a", &page("a", &hosts)).found(None);
        assert_eq!(found.members[0].state, expected, "{flags}");
    }
}

const ENDPOINTS: &[u8] = br#"{"configs": [{"endpoint_config": {"endpoints": [
    {"locality": {"region": "r", "zone": "b"}, "load_balancing_weight": 90, "lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}},
         "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "k1"}}}},
        {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}},
         "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": ["odd"]}}}}]},
    {"locality": {"region": "r", "zone": "a"}, "load_balancing_weight": 10, "lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "::1", "port_value": 80}}}}]},
    {"priority": 1, "lb_endpoints": [
        {"endpoint": {"address": {"pipe": {"path": "/tmp/x"}}},
         "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "k2"}}}}]}],
    "policy": {"overprovisioning_factor": 200}}}]}"#;

const CLUSTER: &[u8] = br#"{"configs": [{"cluster": {"name": "a", "type": "EDS",
    "common_lb_config": {"healthy_panic_threshold": {"value": 29.5}},
    "outlier_detection": {"consecutive_5xx": 3},
    "load_balancing_policy": {"policies": [{"typed_extension_config": {"typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
        "override_host_sources": [{"header": "X-Unitring-Host"}],
        "fallback_policy": {"policies": [{"typed_extension_config": {"typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
            "hash_function": "MURMUR_HASH_2", "minimum_ring_size": "77",
            "consistent_hashing_lb_config": {"use_hostname_for_hashing": true, "hash_balance_factor": 150},
            "locality_weighted_lb_config": {}}}}]}}}}]}}}]}"#;

fn configured() -> Look {
    let hosts = [
        host(
            "a",
            "10.0.0.1:80",
            &[("region", "r"), ("zone", "b"), ("hostname", "h")],
        ),
        host(
            "a",
            "10.0.0.1:80",
            &[("region", "r"), ("zone", "b"), ("hostname", "h")],
        ),
        host("a", "[::1]:80", &[("region", "r"), ("zone", "a")]),
        host("a", "/tmp/x", &[("priority", "1")]),
    ];
    let mut look = look("a", &page("a", &hosts));
    assert_eq!(
        look.take("a", Ask::Endpoints, Reply::Body(ENDPOINTS), (0, 0))
            .unwrap(),
        Some(Ask::Cluster)
    );
    look.take("a", Ask::Cluster, Reply::Body(CLUSTER), (0, 0))
        .unwrap();
    look.take("a", Ask::Runtime, Reply::Body(NO_RUNTIME), (0, 0))
        .unwrap();
    look
}

const NO_RUNTIME: &[u8] = br#"{"layers": ["admin"], "entries": {}}"#;

#[test]
fn localities_hash_keys_and_the_policy_come_from_the_configuration() {
    let found = configured().found(None);
    let placed: Vec<_> = found
        .members
        .iter()
        .map(|m| {
            (
                m.hash_key.as_deref(),
                m.locality.map(|l| (l.index, l.weight, l.all)),
            )
        })
        .collect();
    let expected = [
        (Some("k1"), Some((0, 90, 100))),
        (Some("h"), Some((0, 90, 100))),
        (Some(""), Some((1, 10, 100))),
        (Some("k2"), Some((2, 0, 0))),
    ];
    assert_eq!(placed, expected);
    assert_eq!(found.overprovisioning_factor, Some(200));
    let cluster = found.cluster.unwrap();
    assert!(cluster.by_eds && !cluster.weighted_priority_health);
    assert_eq!(cluster.panic_threshold, Some(29), "cut off");
    assert_eq!(cluster.outlier_ejection_percent, Some(10));
    let fallback = Fallback::RingHash {
        hash: HashFunction::Murmur2,
        min_size: Some(77),
        max_size: None,
        hashing: Hashing {
            by_hostname: true,
            by_locality: true,
        },
    };
    let policy = Policy {
        steer_headers: Some(vec!["x-unitring-host".to_owned()]),
        has_subsets: false,
        fallback,
        hash_policy: Vec::new(),
        hash_balance_factor: Some(150),
    };
    assert_eq!(cluster.policy, policy);
    assert!(found.has_hash_keys);
    let by_address = configured().found(Some(Identity::Address));
    assert!(by_address.has_hash_keys, "what a setting ignores is seen");
    assert!(
        by_address
            .members
            .iter()
            .all(|member| member.hash_key.is_none())
    );
}

#[test]
fn an_endpoint_of_an_internal_listener_has_its_hash_key_and_no_header_can_name_it() {
    let mut look = look("a", &page("a", &[host("a", "envoy://inner/e1", &[])]));
    let endpoints = br#"{"configs": [{"endpoint_config": {"endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "inner", "endpoint_id": "e1"}}},
         "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "k"}}}}]}]}}]}"#;
    look.take("a", Ask::Endpoints, Reply::Body(endpoints), (0, 0))
        .unwrap();
    let found = look.found(None);
    let [member] = &found.members[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (member.hash_key.as_deref(), member.steerable),
        (Some("k"), false)
    );
}

#[test]
fn the_configuration_is_asked_for_when_hosts_change_and_now_and_then() {
    let mut look = configured();
    let same = [host("a", "10.0.0.1:80", &[])];
    let same = page("a", &same);
    let mut next = |page: &str, now| {
        let next = look.on_page("a", page.as_bytes(), now).unwrap();
        look.take("a", Ask::Runtime, Reply::Body(NO_RUNTIME), (0, 0))
            .unwrap();
        next
    };
    assert_eq!(next(&same, 2_000), Some(Ask::Endpoints), "other hosts");
    assert_eq!(next(&same, 3_000), None);
    let healthy = page(
        "a",
        &[host(
            "a",
            "10.0.0.1:80",
            &[("health_flags", "/failed_eds_health")],
        )],
    );
    let runtime = Some(Ask::Runtime);
    assert_eq!(next(&healthy, 4_000), runtime, "health is on the page");
    assert_eq!(next(&healthy, 5_000), None);
    assert_eq!(next(&healthy, 11_000), Some(Ask::Endpoints), "now and then");
}

#[test]
fn by_id_a_hostname_is_the_id_unless_several_have_it_or_it_is_none() {
    let host = |n: u8, name: &str| host("a", &format!("10.0.0.1:{n}"), &[("hostname", name)]);
    let hosts = [
        host(1, "a"),
        host(2, "dns"),
        host(3, "dns"),
        host(4, ""),
        host(5, "a,b"),
    ];
    let found = look("a", &page("a", &hosts)).found(Some(Identity::Id));
    let ids: Vec<_> = found.members.iter().map(|m| m.id.as_str()).collect();
    let others = ["10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4", "10.0.0.1:5"];
    assert_eq!(ids[0], "a");
    assert_eq!(ids[1..], others);
}

#[test]
fn without_the_configuration_what_depends_on_it_is_not_known() {
    let zone = |name| host("a", &format!("10.0.0.1:{name}"), &[("zone", name)]);
    let found = |hosts: &[String]| {
        let mut look = look("a", &page("a", hosts));
        look.take("a", Ask::Endpoints, Reply::Refused, (0, 0))
            .unwrap();
        look.take("a", Ask::Cluster, Reply::Refused, (0, 0))
            .unwrap();
        look.found(None)
    };
    let one = found(&[zone("1"), zone("1")]);
    assert!(one.knows_localities && one.cluster.is_none());
    let two = found(&[zone("1"), zone("2")]);
    assert!(!two.knows_localities);
    assert_eq!(two.members[0].locality, None::<Locality>);
}

#[test]
fn an_answer_without_the_cluster_is_an_error_and_not_an_empty_service() {
    let error = page::read("orders", b"").unwrap_err();
    assert_eq!(error.to_string(), "Envoy has no cluster named orders");
    let error = page::read("orders", b"<html>no").unwrap_err();
    assert!(matches!(error, DiscoveryError::NoPage(_)), "{error}");
    let none = page("orders", &[]);
    assert_eq!(page::read("orders", none.as_bytes()).unwrap().hosts, []);
}

#[test]
fn a_threshold_is_the_whole_number_that_envoys_doubles_make_of_it() {
    for (percent, expected) in [
        ("50", 50),
        ("29", 28),
        ("14.6", 14),
        ("0.9", 0),
        ("100", 100),
    ] {
        let json = format!(
            r#"{{"configs": [{{"cluster": {{"common_lb_config": {{"healthy_panic_threshold":
                {{"value": {percent}}}}}}}}}]}}"#
        );
        let cluster = cluster::read(json.as_bytes()).unwrap().unwrap();
        assert_eq!(cluster.panic_threshold, Some(expected), "{percent}");
    }
}

#[test]
fn subsets_and_policies_that_are_no_ring_are_known_as_such() {
    let cluster = |policy: &str| {
        let json =
            format!(r#"{{"configs": [{{"cluster": {{"load_balancing_policy": {policy}}}}}]}}"#);
        cluster::read(json.as_bytes()).unwrap().unwrap().policy
    };
    let listed = |config: &str| {
        format!(r#"{{"policies": [{{"typed_extension_config": {{"typed_config": {config}}}}}]}}"#)
    };
    let least = "x/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    let least = listed(&format!(r#"{{"@type": "{least}"}}"#));
    assert_eq!(cluster(&least), Policy::default());
    let maglev = listed(r#"{"@type": "x/a.b.Maglev", "table_size": "17"}"#);
    let subset = |inner: &str| {
        listed(&format!(
            r#"{{"@type": "x/a.b.Subset", "subset_lb_policy": {inner}}}"#
        ))
    };
    let steered = |fallback: &str| {
        listed(&format!(
            r#"{{"@type": "x/a.b.OverrideHost", "override_host_sources": [{{"header": "h"}}],
            "fallback_policy": {fallback}}}"#
        ))
    };
    let fallback = Fallback::Maglev {
        table_size: NonZeroU32::new(17),
        hashing: Hashing::default(),
    };
    for (policy, has_subsets) in [
        (steered(&maglev), false),
        (subset(&steered(&maglev)), true),
        (steered(&subset(&maglev)), true),
    ] {
        let expected = Policy {
            steer_headers: Some(vec!["h".to_owned()]),
            has_subsets,
            fallback: fallback.clone(),
            ..Policy::default()
        };
        assert_eq!(cluster(&policy), expected, "{policy}");
    }
}

#[test]
fn routes_to_the_cluster_are_found_with_their_key_and_what_they_retry() {
    let body = br#"{"configs": [{"route_config": {"response_headers_to_remove": ["X-A"], "virtual_hosts": [
        {"name": "all", "retry_policy": {"retry_on": "5xx, retriable-4xx"}, "response_headers_to_remove": ["x-b"],
        "routes": [
            {"request_headers_to_remove": ["X-C"], "route": {"cluster": "a", "hash_policy": [
                {"header": {"header_name": "X-User-Id"}, "terminal": true},
                {"cookie": {"name": "sid", "ttl": "0s"}},
                {"connection_properties": {"source_ip": true}},
                {"header": {"header_name": "x", "regex_rewrite": {}}}]}},
            {"route": {"cluster": "b"}},
            {"route": {"weighted_clusters": {"clusters": [{"name": "b", "request_headers_to_remove": ["x-d"]},
                {"name": "a", "request_headers_to_remove": ["x-e", 7]}]},
                "retry_policy": {"retry_on": "retriable-status-codes", "retriable_status_codes": [503]}}},
            {"redirect": {}}]}]}}]}"#;
    let routes = routes::read("a", body).unwrap().naming;
    assert_eq!(routes.len(), 2);
    let source = |from, terminal| HashSource { from, terminal };
    let expected = [
        source(HashFrom::Header("x-user-id".to_owned()), true),
        source(HashFrom::Cookie("sid".to_owned()), false),
        source(HashFrom::SourceIp, false),
        source(HashFrom::Other, false),
    ];
    assert_eq!(routes[0].hash_policy, expected);
    assert!(routes[0].retries_answers, "a 409 would be retried");
    assert!(!routes[1].retries_answers && routes[1].hash_policy.is_empty());
    let removed = |at: usize| {
        (
            routes[at].removes_from_requests.join(" "),
            routes[at].removes_from_answers.join(" "),
        )
    };
    assert_eq!(removed(0), ("x-c".to_owned(), "x-a x-b".to_owned()));
    assert_eq!(removed(1), ("x-e".to_owned(), "x-a x-b".to_owned()));
    assert_eq!(routes::read("a", b"{}").unwrap(), Routes::default());
}

#[test]
fn what_a_route_changes_of_a_request_before_it_is_hashed_is_found() {
    let changes = |route: &str, action: &str| {
        let body = format!(
            r#"{{"configs": [{{"route_config": {{"request_headers_to_add": [{{"header": {{"key": "X-All"}}}}],
            "virtual_hosts": [{{"routes": [{{{route} "route": {{{action} "cluster": "a"}}}}]}}]}}}}]}}"#
        );
        routes::read("a", body.as_bytes()).unwrap().naming[0]
            .changes
            .join(" ")
    };
    assert_eq!(changes("", ""), "x-all");
    assert_eq!(changes("", r#""prefix_rewrite": "","#), "x-all");
    for rewrite in [
        r#""prefix_rewrite": "/b","#,
        r#""regex_rewrite": {"pattern": {"regex": "a"}},"#,
        r#""path_rewrite_policy": {"name": "p"},"#,
    ] {
        assert_eq!(changes("", rewrite), ":path x-all", "{rewrite}");
    }
    let host = r#""host_rewrite_literal": "b","#;
    assert_eq!(changes("", host), ":authority x-all");
    let added = r#""request_headers_to_add": [{"header": {"key": "Host"}},
        {"header": {"key": "x-b"}, "append_action": "ADD_IF_ABSENT"}, {"append_action": "ADD_IF_ABSENT"}, {}],"#;
    assert_eq!(changes(added, ""), "x-all :authority");
}

#[test]
fn errors_are_failures_only_if_no_route_that_may_lead_to_the_cluster_retries_answers() {
    let alone = |routes: &str| {
        let body = format!(
            r#"{{"configs": [{{"route_config": {{"virtual_hosts": [{{"routes": [{routes}]}}]}}}}]}}"#
        );
        let routes = routes::read("a", body.as_bytes()).unwrap();
        routes.retry_failures_alone()
    };
    let plain = r#"{"route": {"cluster": "a", "retry_policy": {"retry_on": "5xx"}}}"#;
    let other = r#"{"route": {"cluster": "b", "retry_policy": {"retry_on": "retriable-4xx"}}}"#;
    assert!(!alone(""), "no route is known");
    assert!(!alone(other), "it may be an aggregate cluster");
    assert!(alone(plain) && !alone(&format!("{plain}, {other}")));
    let extension = r#"{"route": {"cluster": "a", "retry_policy_typed_config": {"@type": "x"}}}"#;
    assert!(!alone(extension), "it may retry anything");
    for cluster in [
        r#""cluster_header": "x""#,
        r#""cluster_specifier_plugin": "p""#,
        r#""inline_cluster_specifier_plugin": {}"#,
        r#""weighted_clusters": {"clusters": [{"cluster_header": "x"}]}"#,
    ] {
        let deciding = |on: &str| {
            let retry = format!(r#""retry_policy": {{"retry_on": "{on}"}}"#);
            format!(r#"{plain}, {{"route": {{{cluster}, {retry}}}}}"#)
        };
        assert!(alone(&deciding("5xx")), "{cluster}");
        assert!(!alone(&deciding("retriable-4xx")), "{cluster}");
    }
}

#[test]
fn a_clusters_own_retry_policy_is_read() {
    let retries = |on: &str| {
        let json = format!(
            r#"{{"configs": [{{"cluster": {{"typed_extension_protocol_options": {{
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {{"@type": "x",
                "retry_policy": {{"retry_on": "{on}", "retriable_status_codes": [429]}}}}}}}}}}]}}"#
        );
        cluster::read(json.as_bytes())
            .unwrap()
            .unwrap()
            .retries_answers
    };
    assert!(retries("5xx,retriable-status-codes"));
    assert!(!retries("5xx"));
}

fn drop_all(bytes: &[u8]) {
    drop(page::read("orders", bytes));
    drop(endpoints::read(bytes));
    drop(cluster::read(bytes));
    drop(routes::read("orders", bytes));
    let mut look = Look::default();
    drop(look.on_page("orders", bytes, 0));
    for ask in [
        Ask::Endpoints,
        Ask::Cluster,
        Ask::Runtime,
        Ask::RuntimeLayers,
        Ask::Statuses,
    ] {
        drop(look.take("orders", ask, Reply::Body(bytes), (0, 0)));
    }
    let _members: Vec<Member> = look.found(None).members;
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes: Vec<u8>) {
        drop_all(&bytes);
    }

    #[test]
    fn decoding_something_like_an_answer_never_panics(
        cut: prop::sample::Index, value in "[a-z0-9:/\\[\\]{}\"-]{0,8}",
    ) {
        for whole in [ENDPOINTS, CLUSTER, page("orders", &[host("orders", "a:1", &[])]).as_bytes()] {
            let (head, tail) = whole.split_at(cut.index(whole.len()));
            let odd = [head, value.as_bytes(), tail].concat();
            drop_all(&odd);
            drop_all(head);
        }
    }
}

//! The answers of Envoy's admin interface: the page of hosts, and its configuration.

use anyhow::Result;
use unitring_balancer::balancer::Balancer;
use unitring_balancer::directory::Shown;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::discovery::look::{Ask, Look, Reply};
use unitring_balancer::placement::Placing;
use unitring_balancer::wiring;
use unitring_routing::membership::Identity;

use super::{feed, loads};

const PAGE: &str = "\
orders::added_via_api::true\norders::eds_service_name::x\n\
orders::10.0.0.9:80::cx_active::0\norders::10.0.0.9:80::rq_total::7\norders::10.0.0.9:80::rq_error::1\n\
orders::10.0.0.9:80::hostname::a\norders::10.0.0.9:80::health_flags::/failed_active_hc\n\
orders::10.0.0.9:80::weight::3\norders::10.0.0.9:80::region::r\norders::10.0.0.9:80::zone::\n\
orders::10.0.0.9:80::sub_zone::\norders::10.0.0.9:80::priority::0\n\
orders::[::1]:80::cx_active::0\norders::[::1]:80::health_flags::healthy\norders::[::1]:80::weight::1\n\
orders::[::1]:80::region::\norders::[::1]:80::zone::\norders::[::1]:80::sub_zone::\n\
orders::/tmp/x::cx_active::0\norders::/tmp/x::health_flags::/eds_status_draining\n\
orders::/tmp/x::weight::1\norders::/tmp/x::priority::1\n\
orders::10.0.0.9:80::cx_active::0\norders::10.0.0.9:80::weight::1\n";

const ENDPOINTS: &str = r#"{"configs": [{"endpoint_config": {"endpoints": [
    {"locality": {"region": "r"}, "load_balancing_weight": 3, "lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}}},
         "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "k"}}}}]},
    {"load_balancing_weight": 1, "lb_endpoints": []}], "policy": {"overprovisioning_factor": 200}}}]}"#;

const CLUSTER: &str = r#"{"configs": [{"cluster": {"type": "EDS",
    "common_lb_config": {"healthy_panic_threshold": {"value": 29.5}},
    "outlier_detection": {"max_ejection_percent": 20},
    "load_balancing_policy": {"policies": [{"typed_extension_config": {"typed_config": {
        "@type": "x/y.OverrideHost", "override_host_sources": [{"header": "h"}],
        "fallback_policy": {"policies": [{"typed_extension_config": {"typed_config": {
            "@type": "x/y.RingHash", "minimum_ring_size": "16", "maximum_ring_size": "64",
            "locality_weighted_lb_config": {}}}}]}}}}]}}}]}"#;

#[test]
fn answers_of_any_bytes_are_refused_or_make_a_ring() -> Result<()> {
    let settings = [
        loads::SERVICE.to_owned(),
        loads::SERVICE.replace("\"min_size\": 16", "\"identity\": \"id\", \"min_size\": 16"),
    ];
    let settings = settings.map(|json| loads::settings(&json));
    let valid = [PAGE, ENDPOINTS, CLUSTER].map(|text| text.as_bytes().to_vec());
    let mut balancer = settings.each_ref().map(Balancer::new);
    let mut names = StatNames::default();
    let mut look = Look::default();
    look.on_page("orders", PAGE.as_bytes(), 0)?;
    let (mut turn, mut now_ms) = (0, 0);
    feed(&valid, 4, |input| {
        turn = 1 - turn;
        now_ms += 1_000;
        let settings = &settings[turn];
        // Each page is read as the answer to any of the questions.
        let mut is_taken = look.on_page("orders", input, now_ms).is_ok();
        for ask in [
            Ask::Endpoints,
            Ask::Cluster,
            Ask::Runtime,
            Ask::RuntimeLayers,
            Ask::Statuses,
        ] {
            is_taken |= look
                .take("orders", ask, Reply::Body(input), (now_ms, now_ms))
                .is_ok();
        }
        if !is_taken {
            return false;
        }
        let identity = [None, Some(Identity::Id)][turn];
        let found = look.found(identity);
        let placing = Placing::of(settings, &found, &found.members);
        if let Some(cluster) = &found.cluster {
            drop(wiring::check_policy(settings, cluster));
            drop(wiring::check_outlier_detection(
                settings,
                cluster,
                found.runtime,
                found.members.len(),
            ));
        }
        if !loads::is_small(placing.rule.shape, &found.members) {
            return true;
        }
        // From the previous state, as in a filter.
        let balancer = &mut balancer[turn];
        let before = balancer.directory().clone();
        let after = before.with(&found.members, placing, &mut names, |_| Shown::default());
        assert!(
            before.changes(&found.members, placing.rule.identity).len()
                <= before.entries().len() * 2 + found.members.len() * 2
        );
        if let Ok(old) = balancer.install(after) {
            let moved = balancer.table().moved_from(&old);
            assert!((0.0..=1.0).contains(&moved), "{moved}");
            loads::choose(balancer, [None, Some(0), Some(u64::MAX)]);
        }
        true
    })
}

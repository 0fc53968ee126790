//! The answer of Envoy's admin interface.

use anyhow::Result;
use unitring_plugin::balancer::Balancer;
use unitring_plugin::directory::Shown;
use unitring_plugin::discovery::members;
use unitring_routing::membership::Identity;

use super::{feed, loads};

const VALID: [&str; 2] = [
    r#"{"cluster_statuses": [{"name": "other"}, {"name": "orders", "host_statuses": [
        {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}}, "weight": 3,
         "health_status": {"eds_health_status": "HEALTHY"}, "stats": [{"name": "cx_total"}]},
        {"address": {"socket_address": {"address": "::1", "port_value": 80}}, "hostname": "b",
         "health_status": {"failed_active_health_check": true}, "priority": 0},
        {"address": {"pipe": {"path": "/tmp/x"}}},
        {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
         "health_status": {"eds_health_status": "DRAINING"}},
        {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 80}}, "priority": 1}]}]}"#,
    r#"{"cluster_statuses": [{"name": "orders", "host_statuses": [
        {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 1}}, "hostname": "a"},
        {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 2}}, "hostname": "a",
         "health_status": {"failed_outlier_check": true, "pending_dynamic_removal": true}}]}]}"#,
];

#[test]
fn clusters_of_any_bytes_are_refused_or_make_a_ring() -> Result<()> {
    let settings = [
        loads::SERVICE.to_owned(),
        loads::SERVICE.replace("\"min_size\": 16", "\"identity\": \"id\", \"min_size\": 16"),
    ];
    let settings = settings.map(|json| loads::settings(&json));
    let valid = VALID.map(|text| text.as_bytes().to_vec());
    let mut balancer = settings.each_ref().map(Balancer::new);
    let mut turn = 0;
    feed(&valid, 4, |input| {
        turn = 1 - turn;
        let identity = [Identity::Address, Identity::Id][turn];
        let Ok(members) = members("orders", identity, input) else {
            return false;
        };
        if !loads::is_small(settings[turn].rule.shape, &members) {
            return true;
        }
        // From what was there before, as a filter does.
        let balancer = &mut balancer[turn];
        let before = balancer.directory().clone();
        let after = before.with(&members, |_| Shown::default());
        assert!(
            before.changes(&members, identity).len()
                <= before.entries().len() * 2 + members.len() * 2
        );
        if let Ok(old) = balancer.install(after) {
            let moved = balancer.table().moved_from(&old);
            assert!((0.0..=1.0).contains(&moved), "{moved}");
            loads::choose(balancer, [None, Some(0), Some(u64::MAX)]);
        }
        true
    })
}

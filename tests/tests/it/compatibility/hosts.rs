//! The hosts of a cluster that may be chosen: those among which Envoy's own policy would choose.
//!
//! The hosts have no servers. Both Envoys report their chosen host in a header, and get the hosts from
//! the same file (EDS).

mod removed;
mod runtime;
mod unanswered;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Answer, Envoy, keys};

use super::changes::{Watched, typed};
use super::nobody_judges;

const KEYS: usize = 150;
const FALLBACK: &str = "/load_balancing_policy/policies/0/typed_extension_config/typed_config\
    /fallback_policy/policies/0/typed_extension_config/typed_config";

/// Envoy's own policy and the filter over the same hosts.
struct Fronts {
    native: Envoy,
    filtered: Envoy,
    hosts: Watched,
}

/// The host that Envoy chose, and the first host that the filter named.
type Chosen = (String, Option<String>);

impl Fronts {
    /// Starts both Envoys with the hosts of these localities, in the form of EDS.
    async fn start(localities: Value, change: impl Fn(&mut Value) -> Result<()>) -> Result<Self> {
        Self::start_with(json!({"endpoints": localities}), |config| {
            config.edit_cluster("orders", change)
        })
        .await
    }

    async fn start_with(
        assignment: Value,
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        let hosts = Watched::new()?;
        put_all(&hosts, assignment)?;
        let config = nobody_judges(EnvoyConfig::shipped("envoy.yaml")?)?
            .node("hosts")?
            .edit_cluster("orders", |cluster| {
                let fields = cluster.as_object_mut().context("not an object")?;
                fields.remove("load_assignment");
                cluster["type"] = json!("EDS");
                cluster["eds_cluster_config"] = json!({"eds_config": hosts.source()});
                Ok(())
            })?
            .edit_connections(|manager| {
                let host = manager.pointer_mut("/route_config/virtual_hosts/0");
                let host = host.context("no host")?;
                let told = |name: &str, value| json!({"header": {"key": name, "value": value}});
                host["response_headers_to_add"] = json!([
                    told("x-chosen", "%UPSTREAM_HOST%"),
                    told("x-named", "%REQ(x-unitring-host)%"),
                ]);
                let route = host.pointer_mut("/routes/0/route").context("no route")?;
                let fields = route.as_object_mut().context("not an object")?;
                fields.remove("retry_policy");
                Ok(())
            })?;
        let config = change(config)?;
        let native = Envoy::start(&config.clone().without_filter()?).await?;
        let filtered = Envoy::start(&config).await?;
        Ok(Self {
            native,
            filtered,
            hosts,
        })
    }

    /// Waits until the filter has seen the present hosts.
    async fn looks_again(&self) -> Result<()> {
        let looks = self.filtered.ours("discovery.done").await?;
        until("three looks", async || {
            ensure!(self.filtered.ours("discovery.done").await? >= looks + 3);
            Ok(())
        })
        .await
    }

    /// Waits until both Envoys choose the same host for every key, and the choices are as expected.
    async fn agree(&self, expected: impl Fn(&[Chosen]) -> bool) -> Result<()> {
        until("both to choose alike, and as expected", async || {
            let all = self.agree_now().await?;
            ensure!(expected(&all), "{all:?}");
            Ok(())
        })
        .await
    }

    /// What both Envoys choose for each key.
    async fn agree_now(&self) -> Result<Vec<Chosen>> {
        let mut all = Vec::new();
        for key in keys(KEYS) {
            let native = self.native.get(&key).await?;
            let placed = self.filtered.get(&key).await?;
            let by_envoy = native.header("x-chosen").unwrap_or_default();
            let (chosen, first) = chosen(&placed);
            ensure!(chosen == by_envoy, "{placed:?}: {key} is {by_envoy}'s");
            ensure!(
                first.as_ref().is_none_or(|first| *first == chosen),
                "{placed:?}: {key} was not named first"
            );
            all.push((chosen, first));
        }
        Ok(all)
    }
}

fn chosen(answer: &Answer) -> Chosen {
    let chosen = answer.header("x-chosen").unwrap_or_default();
    let named = answer.header("x-named").unwrap_or_default();
    let first = named.split(',').next().unwrap_or_default();
    let first = (!first.is_empty() && first != "-").then(|| first.to_owned());
    (chosen.to_owned(), first)
}

fn put(hosts: &Watched, localities: Value) -> Result<()> {
    put_all(hosts, json!({"endpoints": localities}))
}

fn put_all(hosts: &Watched, mut assignment: Value) -> Result<()> {
    assignment["cluster_name"] = json!("orders");
    let kind = "envoy.config.endpoint.v3.ClusterLoadAssignment";
    hosts.put(&typed(kind, assignment))
}

/// The host of this number, in this state by EDS.
fn host(number: u8, health: &str) -> Value {
    let address = json!({"address": format!("127.0.0.{number}"), "port_value": 1});
    json!({"endpoint": {"address": {"socket_address": address}}, "health_status": health})
}

fn name(number: u8) -> String {
    format!("127.0.0.{number}:1")
}

fn locality(priority: u32, hosts: &[Value]) -> Value {
    json!({
        "priority": priority,
        "locality": {"zone": priority.to_string()},
        "lb_endpoints": hosts,
    })
}

fn unchanged(_: &mut Value) -> Result<()> {
    Ok(())
}

/// Whether the filter named a host for every key, and exactly these hosts were chosen.
fn all_named(chosen: &[Chosen], hosts: &[u8]) -> bool {
    let names: Vec<String> = hosts.iter().map(|number| name(*number)).collect();
    chosen
        .iter()
        .all(|(host, named)| named.is_some() && names.contains(host))
        && names
            .iter()
            .all(|name| chosen.iter().any(|(host, _)| host == name))
}

#[tokio::test]
async fn a_lower_priority_takes_the_keys_that_the_first_cannot() -> Result<()> {
    let lower = || locality(1, &[host(5, "HEALTHY"), host(6, "HEALTHY")]);
    let first = |states: [&str; 4]| {
        let hosts = (1..).zip(states).map(|(number, state)| host(number, state));
        locality(0, &hosts.collect::<Vec<_>>())
    };
    let of = |states| json!([first(states), lower()]);
    let fronts = Fronts::start(of(["HEALTHY"; 4]), unchanged).await?;
    fronts
        .agree(|chosen| all_named(chosen, &[1, 2, 3, 4]))
        .await?;
    put(
        &fronts.hosts,
        of(["UNHEALTHY", "UNHEALTHY", "UNHEALTHY", "HEALTHY"]),
    )?;
    fronts.agree(|chosen| all_named(chosen, &[4, 5, 6])).await?;
    put(&fronts.hosts, of(["UNHEALTHY"; 4]))?;
    fronts.agree(|chosen| all_named(chosen, &[5, 6])).await?;
    put(&fronts.hosts, of(["HEALTHY"; 4]))?;
    fronts
        .agree(|chosen| all_named(chosen, &[1, 2, 3, 4]))
        .await
}

#[tokio::test]
async fn the_clusters_own_panic_threshold_decides_who_gets_keys() -> Result<()> {
    let of = |state: &str| {
        let unhealthy = |number| host(number, state);
        json!([locality(
            0,
            &[unhealthy(1), unhealthy(2), unhealthy(3), host(4, "HEALTHY")]
        )])
    };
    let panics = Fronts::start(of("UNHEALTHY"), unchanged).await?;
    panics
        .agree(|chosen| all_named(chosen, &[1, 2, 3, 4]))
        .await?;
    let never = Fronts::start(of("UNHEALTHY"), |cluster| {
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
        Ok(())
    });
    never.await?.agree(|chosen| all_named(chosen, &[4])).await
}

#[tokio::test]
async fn a_degraded_or_draining_instance_gets_no_key_while_others_suffice() -> Result<()> {
    let of = |state: &str| {
        let healthy = |number| host(number, "HEALTHY");
        json!([locality(
            0,
            &[healthy(1), host(2, state), healthy(3), healthy(4)]
        )])
    };
    let fronts = Fronts::start(of("HEALTHY"), unchanged).await?;
    fronts
        .agree(|chosen| all_named(chosen, &[1, 2, 3, 4]))
        .await?;
    for state in ["DEGRADED", "HEALTHY", "DRAINING", "UNKNOWN", "TIMEOUT"] {
        put(&fronts.hosts, of(state))?;
        let everybody = ["HEALTHY", "UNKNOWN"].contains(&state);
        let expected: &[u8] = if everybody { &[1, 2, 3, 4] } else { &[1, 3, 4] };
        let agreed = fronts.agree(|chosen| all_named(chosen, expected)).await;
        agreed.with_context(|| state.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn only_degraded_instances_left_are_used_where_ring_hash_answers_503() -> Result<()> {
    let degraded = [host(1, "DEGRADED"), host(2, "DEGRADED")];
    let fronts = Fronts::start(json!([locality(0, &degraded)]), |cluster| {
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
        Ok(())
    })
    .await?;
    until("the filter to use them", async || {
        for key in keys(KEYS) {
            let native = fronts.native.get(&key).await?;
            ensure!(native.header("x-chosen").is_none_or(|chosen| chosen == "-"));
            let placed = fronts.filtered.get(&key).await?;
            let chosen = placed.header("x-chosen").unwrap_or_default();
            ensure!(
                [name(1), name(2)].contains(&chosen.to_owned()),
                "{placed:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn localities_get_keys_by_their_weights() -> Result<()> {
    let weighted = |zone: &str, weight: u32, numbers: [u8; 2]| {
        json!({
            "locality": {"zone": zone},
            "load_balancing_weight": weight,
            "lb_endpoints": numbers.map(|number| host(number, "HEALTHY")),
        })
    };
    let of = |a, b| json!([weighted("a", a, [1, 2]), weighted("b", b, [3, 4])]);
    let fronts = Fronts::start(of(90, 10), |cluster| {
        let fallback = cluster.pointer_mut(FALLBACK).context("no fallback")?;
        fallback["locality_weighted_lb_config"] = json!({});
        Ok(())
    })
    .await?;
    let of_a = |chosen: &[Chosen]| {
        let in_a = |(host, _): &&Chosen| [name(1), name(2)].contains(host);
        chosen.iter().filter(in_a).count()
    };
    let all = |chosen: &[Chosen]| all_named(chosen, &[1, 2, 3, 4]);
    fronts
        .agree(|chosen| all(chosen) && of_a(chosen) > KEYS * 3 / 4)
        .await?;
    put(&fronts.hosts, of(10, 90))?;
    fronts
        .agree(|chosen| all(chosen) && of_a(chosen) < KEYS / 4)
        .await
}

#[tokio::test]
async fn health_by_weight_of_an_eds_cluster_is_left_to_envoy_until_a_setting_says_it() -> Result<()>
{
    let weighted = |number, health, weight: u32| {
        let mut host = host(number, health);
        host["load_balancing_weight"] = json!(weight);
        host
    };
    // By number two thirds are healthy, by weight a fifth.
    let first = [
        weighted(1, "HEALTHY", 1),
        weighted(2, "HEALTHY", 1),
        weighted(3, "UNHEALTHY", 8),
    ];
    let assignment = json!({
        "endpoints": [locality(0, &first), locality(1, &[host(4, "HEALTHY")])],
        "policy": {"weighted_priority_health": true},
    });
    let untold = Fronts::start_with(assignment.clone(), Ok).await?;
    until("the filter to leave it", async || {
        untold.filtered.get("user-0").await?;
        let left = "wasmcustom.unitring.orders.fallback.left";
        ensure!(untold.filtered.stat(left).await? > 0);
        Ok(())
    })
    .await?;
    let nobody = |chosen: &[Chosen]| chosen.iter().all(|(_, named)| named.is_none());
    untold.agree(nobody).await?;
    let told = Fronts::start_with(assignment, |config| {
        config.setting("health.weighted_priority_health", json!(true))
    });
    told.await?
        .agree(|chosen| all_named(chosen, &[1, 2, 4]))
        .await
}

#[tokio::test]
async fn an_instance_is_placed_by_its_hash_key() -> Result<()> {
    let hosts = [1, 2, 3].map(|number| {
        let mut host = host(number, "HEALTHY");
        let hash_key = format!("orders-{number}");
        host["metadata"] = json!({"filter_metadata": {"envoy.lb": {"hash_key": hash_key}}});
        host
    });
    let fronts = Fronts::start(json!([locality(0, &hosts)]), unchanged).await?;
    fronts.agree(|chosen| all_named(chosen, &[1, 2, 3])).await
}

#[tokio::test]
async fn an_address_that_is_listed_twice_has_both_shares() -> Result<()> {
    let hosts = [1, 2, 3, 2].map(|number| host(number, "HEALTHY"));
    let fronts = Fronts::start(json!([locality(0, &hosts)]), unchanged).await?;
    fronts.agree(|chosen| all_named(chosen, &[1, 2, 3])).await
}

/// Whether the filter left exactly the keys of the one host with an odd address to Envoy.
fn odd_is_left(chosen: &[Chosen]) -> bool {
    let is_odd = |host: &str| !host.starts_with("127.");
    let is_right = |(host, named): &Chosen| named.is_none() == is_odd(host);
    chosen.iter().all(is_right) && chosen.iter().any(|(host, _)| is_odd(host))
}

#[tokio::test]
async fn keys_of_a_host_that_a_header_cannot_name_are_left_to_envoy_and_others_are_not()
-> Result<()> {
    for address in [
        json!({"pipe": {"path": "/nowhere/orders.sock"}}),
        json!({"socket_address": {"address": "fe80::1%lo", "port_value": 1}}),
    ] {
        let odd = json!({"endpoint": {"address": address}});
        let hosts = [host(1, "HEALTHY"), odd, host(3, "HEALTHY")];
        let fronts = Fronts::start(json!([locality(0, &hosts)]), unchanged).await?;
        let agreed = fronts.agree(odd_is_left).await;
        agreed.with_context(|| address.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn instances_of_ipv6_are_placed_as_those_of_ipv4() -> Result<()> {
    let six = json!({"socket_address": {"address": "::1", "port_value": 1}});
    let six = json!({"endpoint": {"address": six}});
    let hosts = [host(1, "HEALTHY"), six, host(3, "HEALTHY")];
    let fronts = Fronts::start(json!([locality(0, &hosts)]), unchanged).await?;
    let agreed = fronts.agree(|chosen| {
        chosen.iter().all(|(_, named)| named.is_some())
            && chosen.iter().any(|(chosen, _)| chosen == "[::1]:1")
    });
    agreed.await
}

//! Hosts that come from names: every address that a name resolves to has the metadata of its endpoint.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;

use super::{KEYS, Pair, edit_route, nobody_judges};

/// Turns the cluster into this kind, with `localhost` in place of the address of each endpoint.
fn resolved(config: EnvoyConfig, kind: &str) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        cluster["type"] = json!(kind);
        cluster["dns_lookup_family"] = json!("V4_ONLY");
        for endpoint in endpoints(cluster)? {
            endpoint["endpoint"]["address"]["socket_address"]["address"] = json!("localhost");
        }
        Ok(())
    })
}

fn endpoints(cluster: &mut Value) -> Result<&mut Vec<Value>> {
    let endpoints = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
    endpoints.and_then(Value::as_array_mut).context("none")
}

/// The same as a cluster of the extension that has replaced both kinds.
fn by_extension(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        let fields = cluster.as_object_mut().context("not an object")?;
        fields.remove("type");
        fields.remove("dns_lookup_family");
        cluster["cluster_type"] = json!({
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_lookup_family": "V4_ONLY",
            },
        });
        Ok(())
    })
}

/// Gives each endpoint a hash key.
fn with_hash_keys(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        for (number, endpoint) in endpoints(cluster)?.iter_mut().enumerate() {
            endpoint["metadata"] = hash_key(&format!("orders-{number}"));
        }
        Ok(())
    })
}

fn hash_key(key: &str) -> Value {
    json!({"filter_metadata": {"envoy.lb": {"hash_key": key}}})
}

#[tokio::test]
async fn instances_of_strict_dns_are_placed_by_what_their_names_resolve_to() -> Result<()> {
    let pair = Pair::start(&|config| resolved(config, "STRICT_DNS")).await?;
    pair.agree("/").await?;
    pair.is_idle().await
}

#[tokio::test]
async fn the_one_host_of_logical_dns_gets_every_key() -> Result<()> {
    let instances = Instance::start_all(&["a"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = with_hash_keys(resolved(config, "LOGICAL_DNS")?)?;
    let native = config.clone().without_filter()?;
    let pair = Pair::of(instances, &native, &config).await?;
    pair.agree("/").await?;
    Ok(())
}

#[tokio::test]
async fn an_instance_of_strict_dns_is_placed_by_the_hash_key_of_its_endpoint() -> Result<()> {
    for is_extension in [false, true] {
        let pair = Pair::start(&|config| {
            let config = with_hash_keys(resolved(config, "STRICT_DNS")?)?;
            if is_extension {
                by_extension(config)
            } else {
                Ok(config)
            }
        })
        .await?;
        let placed = pair.agree("/").await?;
        let plain = EnvoyConfig::shipped("envoy.yaml")?.instances(&pair.instances, &[])?;
        let plain = Envoy::start(&resolved(plain, "STRICT_DNS")?.without_filter()?).await?;
        plain.has_healthy(4).await?;
        let by_address = plain.owners(&keys(KEYS)).await?;
        assert_ne!(placed, by_address, "the hash keys count");
    }
    Ok(())
}

#[tokio::test]
async fn addresses_of_one_name_that_share_a_hash_key_are_left_to_envoy() -> Result<()> {
    // No server listens there: what counts is Envoy's choice.
    let config = nobody_judges(EnvoyConfig::shipped("envoy.yaml")?)?;
    let config = config.edit_cluster("orders", |cluster| {
        cluster["type"] = json!("STRICT_DNS");
        cluster["dns_lookup_family"] = json!("ALL");
        let endpoint = |name: &str, key: &str| {
            let address = json!({"address": name, "port_value": 1});
            json!({"endpoint": {"address": {"socket_address": address}}, "metadata": hash_key(key)})
        };
        // The first has two addresses, of IPv4 and of IPv6.
        *endpoints(cluster)? = vec![
            endpoint("localhost", "both"),
            endpoint("127.0.0.2", "second"),
            endpoint("127.0.0.3", "third"),
        ];
        Ok(())
    })?;
    let config = edit_route(config, |route| {
        route
            .as_object_mut()
            .context("none")?
            .remove("retry_policy");
        Ok(())
    })?;
    let config = config.edit_connections(|manager| {
        let host = manager.pointer_mut("/route_config/virtual_hosts/0");
        let told = |name: &str, value| json!({"header": {"key": name, "value": value}});
        host.context("no host")?["response_headers_to_add"] = json!([
            told("x-chosen", "%UPSTREAM_HOST%"),
            told("x-named", "%REQ(x-unitring-host)%"),
        ]);
        Ok(())
    })?;
    let native = Envoy::start(&config.clone().without_filter()?).await?;
    let filtered = Envoy::start(&config).await?;
    for envoy in [&native, &filtered] {
        envoy.has_healthy(4).await?;
    }
    until("both to choose alike", async || {
        let mut left = BTreeSet::new();
        for key in keys(KEYS) {
            let by_envoy = native.get(&key).await?;
            let placed = filtered.get(&key).await?;
            let by_envoy = by_envoy.header("x-chosen").unwrap_or_default();
            let chosen = placed.header("x-chosen").unwrap_or_default();
            let named = placed.header("x-named").unwrap_or_default();
            if by_envoy.starts_with("127.0.0.2:") || by_envoy.starts_with("127.0.0.3:") {
                ensure!(chosen == by_envoy, "{key}: {chosen}, not {by_envoy}");
                ensure!(named.starts_with(chosen), "{key}: {named}");
            } else {
                // Which of the two Envoy takes depends on an unstable sort of its own.
                ensure!(named.trim_matches('-').is_empty(), "{key}: {named}");
                ensure!(["127.0.0.1:1", "[::1]:1"].contains(&chosen), "{chosen}");
                left.insert(key);
            }
        }
        ensure!(!left.is_empty() && left.len() < KEYS, "{left:?}");
        Ok(())
    })
    .await
}

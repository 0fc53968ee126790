//! What is compared: each chooses an instance for the same requests, in its own way.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;
use unitring_tests::{deadline, programs};

use crate::clients::{Client, Owners};
use crate::lookup::Ring;
use crate::picker::Picker;
use crate::upstream::Upstream;

/// Instances of the service.
pub(crate) const INSTANCES: u32 = 4;

const BALANCE_FACTOR: u32 = 125;

/// One of them.
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) config: EnvoyConfig,
    /// Whether the client itself says where its requests go.
    pub(crate) client_names_instance: bool,
    /// Whether it is ours.
    has_our_filter: bool,
    pub(crate) picker: Option<Picker>,
}

/// All of them, and what they share.
pub(crate) struct Systems {
    /// The first is what the others are compared with.
    pub(crate) all: Vec<System>,
    pub(crate) owners: Owners,
    _companion: Companion,
}

impl System {
    fn new(name: &'static str, config: EnvoyConfig) -> Self {
        Self {
            name,
            config,
            client_names_instance: false,
            has_our_filter: false,
            picker: None,
        }
    }

    fn ours(name: &'static str, config: EnvoyConfig) -> Self {
        Self {
            has_our_filter: true,
            ..Self::new(name, config)
        }
    }

    /// Waits until it chooses by all instances.
    pub(crate) async fn is_ready(&self, envoy: &Envoy) -> Result<()> {
        if self.has_our_filter {
            envoy.has_eligible(INSTANCES.into()).await?;
            // Every worker follows within a tick; its first answer says so.
            deadline::until("the filter to steer", async || {
                let answer = envoy.get("user-0").await?;
                let fallbacks = envoy.stats("wasmcustom.unitring.orders.fallback").await?;
                anyhow::ensure!(answer.status == 200, "{}", answer.status);
                let before: u64 = fallbacks.values().sum();
                envoy.get("user-0").await?;
                tokio::time::sleep(std::time::Duration::from_millis(600)).await;
                let fallbacks = envoy.stats("wasmcustom.unitring.orders.fallback").await?;
                anyhow::ensure!(fallbacks.values().sum::<u64>() == before, "left to Envoy");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// All systems, or those whose name has this in it.
pub(crate) async fn all(upstream: &Upstream, only: Option<&str>) -> Result<Systems> {
    let instances = upstream.addresses.as_slice();
    let companion = Settings::default().start().await?;
    let picker = Picker::start(instances).await?;
    let shipped = EnvoyConfig::shipped("envoy.yaml")?
        .companion(&companion)?
        .unchecked()?
        .edit_cluster("orders", |cluster| {
            let place = "/load_assignment/endpoints/0/lb_endpoints";
            *cluster.pointer_mut(place).context("no endpoints")? = endpoints(instances);
            Ok(())
        })?;
    // Only our filter has a use for it.
    let plain = shipped.clone().edit_connections(|manager| {
        let host = manager.pointer_mut("/route_config/virtual_hosts/0");
        let host = host.and_then(Value::as_object_mut).context("no host")?;
        host.remove("include_attempt_count_in_response");
        Ok(())
    })?;
    let native = plain.clone().without_filter()?;
    let bound = json!({"consistent_hashing_lb_config": {"hash_balance_factor": BALANCE_FACTOR}});
    let steered = plain.clone().edit_connections(|manager| {
        let filters = manager.pointer_mut("/http_filters").context("no filters")?;
        filters.as_array_mut().context("not a list")?.remove(0);
        Ok(())
    })?;
    let asking = plain
        .clone()
        .with_filter(ext_proc())?
        .add_cluster(picker_cluster(picker.port))?;
    let nothing = programs::example_filter("nothing")?;
    let lookup = plain
        .clone()
        .filter(&programs::example_filter("lookup")?)?
        .configuration(
            "google.protobuf.StringValue",
            json!(
                instances
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        )?;
    let filter = shipped
        .clone()
        .setting("load.balance_factor", json!(BALANCE_FACTOR))?
        // Its own look at Envoy's clusters is not a request's.
        .setting("discovery.interval", json!("60s"))?;
    let quiet = filter.clone().setting("explain", json!(false))?;
    let alone = |config: EnvoyConfig| {
        config
            .setting("load.scope", json!("process"))?
            .setting("companion.cluster", json!(""))
    };
    let mut all = vec![
        System::new(
            "Envoy RING_HASH",
            policy(&native, "ring_hash.v3.RingHash", json!({}))?,
        ),
        System::new(
            "Envoy RING_HASH, `hash_balance_factor`",
            policy(&native, "ring_hash.v3.RingHash", bound)?,
        ),
        System::new(
            "Envoy MAGLEV",
            policy(&native, "maglev.v3.Maglev", json!({}))?,
        ),
        System {
            client_names_instance: true,
            ..System::new("`override_host`, the client names the instance", steered)
        },
        System::new(
            "Lua filter that looks up the ring",
            plain
                .clone()
                .with_filter(lua(&Ring::new(instances).as_lua()))?,
        ),
        System {
            picker: Some(picker),
            ..System::new("`ext_proc` with a native picker (tonic)", asking)
        },
        System::new(
            "Wasm filter of the SDK that does nothing, on RING_HASH",
            plain
                .clone()
                .filter(&nothing)?
                .edit_cluster("orders", |cluster| {
                    let ring_hash = policies("ring_hash.v3.RingHash", json!({}))?;
                    put(cluster, "load_balancing_policy", ring_hash)
                })?,
        ),
        System::new(
            "Wasm filter that looks up the ring, and no more, without the SDK",
            lookup,
        ),
        System::ours("**unitring**, `scope: process`", alone(quiet.clone())?),
        System::ours(
            "**unitring**, `scope: fleet`",
            quiet.setting("load.scope", json!("fleet"))?,
        ),
        System::ours("**unitring**, `scope: process`, `explain`", alone(filter)?),
    ];
    if let Some(only) = only {
        all.retain(|system| only.split(',').any(|part| system.name.contains(part)));
    }
    let owners = owners(&shipped, &mut all).await?;
    Ok(Systems {
        all,
        owners,
        _companion: companion,
    })
}

/// Where the filter sends each key; so must Lua and the picker, since they say that they do the same.
async fn owners(shipped: &EnvoyConfig, all: &mut [System]) -> Result<Owners> {
    let ours = System::ours("", shipped.clone());
    let envoy = Envoy::start(&ours.config).await?;
    ours.is_ready(&envoy).await?;
    let owners = Client::connect(&envoy, &ours, &Owners::new())
        .await?
        .owners()
        .await?;
    for system in all.iter().filter(|system| is_lookup(system.name)) {
        let envoy = Envoy::start(&system.config).await?;
        let theirs = Client::connect(&envoy, system, &owners)
            .await?
            .owners()
            .await?;
        anyhow::ensure!(theirs == owners, "{} chooses otherwise", system.name);
    }
    Ok(owners)
}

fn is_lookup(name: &str) -> bool {
    ["looks up", "ext_proc", "override_host"]
        .iter()
        .any(|part| name.contains(part))
}

fn policy(native: &EnvoyConfig, kind: &str, settings: Value) -> Result<EnvoyConfig> {
    let policies = policies(kind, settings)?;
    native.clone().edit_cluster("orders", |cluster| {
        put(cluster, "load_balancing_policy", policies)
    })
}

fn policies(kind: &str, mut settings: Value) -> Result<Value> {
    let kind = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{kind}");
    put(&mut settings, "@type", json!(kind))?;
    let policy = json!({"typed_extension_config": {"name": "policy", "typed_config": settings}});
    Ok(json!({"policies": [policy]}))
}

fn lua(script: &str) -> Value {
    json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    })
}

fn ext_proc() -> Value {
    json!({
        "name": "picker",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}, "timeout": "60s"},
            "message_timeout": "60s",
            "mutation_rules": {"allow_all_routing": true},
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SKIP",
                "request_trailer_mode": "SKIP",
                "response_trailer_mode": "SKIP",
            },
        },
    })
}

fn picker_cluster(port: u16) -> Value {
    let http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    json!({
        "name": "picker",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            http: {
                "@type": format!("type.googleapis.com/{http}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": endpoints(&[address])}],
        },
    })
}

fn endpoints(instances: &[SocketAddr]) -> Value {
    let endpoints = instances.iter().map(|instance| {
        let address = json!({"address": instance.ip(), "port_value": instance.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    });
    endpoints.collect()
}

fn put(object: &mut Value, field: &str, value: Value) -> Result<()> {
    let fields = object.as_object_mut().context("not an object")?;
    fields.insert(field.to_owned(), value);
    Ok(())
}

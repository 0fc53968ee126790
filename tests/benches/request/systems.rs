//! The compared systems: each chooses an instance for the same requests, in its own way.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;
use unitring_tests::{deadline, programs};

use crate::base::{BALANCE_FACTOR, Base, RING_HASH, endpoints};
use crate::clients::{Client, Owners};
use crate::lookup::Ring;
use crate::picker::Picker;
use crate::upstream::Upstream;

/// Instances of the service.
pub(crate) const INSTANCES: u32 = 4;

pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) config: EnvoyConfig,
    /// Whether the client itself names the instance.
    pub(crate) client_names_instance: bool,
    /// For our filter, how many instances it must know before it is ready.
    pub(crate) ours_of: Option<usize>,
    /// Whether the filter must know the load of the fleet before it is ready, too.
    pub(crate) reports: bool,
    /// The data update that each answer announces, with `KEY` for the request's key.
    pub(crate) announces: Option<&'static str>,
    /// Envoy's workers.
    pub(crate) workers: u32,
    pub(crate) picker: Option<Picker>,
}

/// All systems, and what they share.
pub(crate) struct Systems {
    /// The others are compared with the first.
    pub(crate) all: Vec<System>,
    pub(crate) owners: Owners,
    _companion: Companion,
}

impl System {
    pub(crate) fn new(name: &'static str, config: EnvoyConfig) -> Self {
        Self {
            name,
            config,
            client_names_instance: false,
            ours_of: None,
            reports: false,
            announces: None,
            workers: 1,
            picker: None,
        }
    }

    /// Waits until the system chooses among all instances.
    pub(crate) async fn is_ready(&self, envoy: &Envoy) -> Result<()> {
        let ours = self.config.shell().stats();
        if let Some(instances) = self.ours_of {
            envoy.has_eligible(u64::try_from(instances)?).await?;
            // Every worker follows within a tick; its first answer shows that.
            let fallbacks = format!("{ours}.fallback");
            deadline::until("every worker to choose", async || {
                let answer = envoy.get("user-0").await?;
                let before = envoy.stats(&fallbacks).await?;
                anyhow::ensure!(answer.status == 200, "{}", answer.status);
                let before: u64 = before.values().sum();
                envoy.get("user-0").await?;
                tokio::time::sleep(std::time::Duration::from_millis(600)).await;
                let now = envoy.stats(&fallbacks).await?;
                anyhow::ensure!(now.values().sum::<u64>() == before, "left to Envoy");
                Ok(())
            })
            .await?;
        }
        if self.reports {
            deadline::until("the fleet's load", async || {
                let sent = envoy.stat(&format!("{ours}.report.sent")).await?;
                anyhow::ensure!(sent > 0, "no report was answered");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// All systems, or those whose name contains `only`.
pub(crate) async fn all(upstream: &Upstream, only: Option<&str>) -> Result<Systems> {
    let instances = upstream.addresses.as_slice();
    let companion = Settings::default().start().await?;
    let picker = Picker::start(instances).await?;
    let base = Base::new(instances, &companion)?;
    let plain = || base.plain();
    let bound = json!({"consistent_hashing_lb_config": {"hash_balance_factor": BALANCE_FACTOR}});
    let steered = plain().edit_connections(|manager| {
        let filters = manager.pointer_mut("/http_filters").context("no filters")?;
        filters.as_array_mut().context("not a list")?.remove(0);
        Ok(())
    })?;
    let asking = plain()
        .with_filter(ext_proc())?
        .add_cluster(picker_cluster(picker.port))?;
    let names: Vec<String> = instances.iter().map(ToString::to_string).collect();
    let lookup = plain()
        .filter(&programs::example_filter("lookup")?)?
        .configuration("google.protobuf.StringValue", json!(names.join(",")))?;
    let mut all = vec![
        base.ring_hash()?,
        System::new(
            "Envoy RING_HASH, `hash_balance_factor`",
            base.policy(RING_HASH, bound)?,
        ),
        System::new("Envoy MAGLEV", base.policy("maglev.v3.Maglev", json!({}))?),
        System {
            client_names_instance: true,
            ..System::new("`override_host`, the client names the instance", steered)
        },
        System::new(
            "Lua filter that looks up the ring",
            plain().with_filter(lua(&Ring::new(instances).as_lua()))?,
        ),
        System {
            picker: Some(picker),
            ..System::new("`ext_proc` with a native picker (tonic)", asking)
        },
        base.nothing()?,
        System::new(
            "Wasm filter that looks up the ring, and no more, without the SDK",
            lookup,
        ),
        base.native_process()?,
        base.native_fleet()?,
        base.process()?,
        base.fleet()?,
        base.counting_updates()?,
        base.logging()?,
        base.listed()?,
        base.explaining()?,
    ];
    if let Some(only) = only {
        all.retain(|system| only.split(',').any(|part| system.name.contains(part)));
    }
    let owners = owners(&base, &all).await?;
    Ok(Systems {
        all,
        owners,
        _companion: companion,
    })
}

/// The instance that the filter chooses for each key. The native module, Lua and the picker must choose the same.
async fn owners(base: &Base, all: &[System]) -> Result<Owners> {
    let ours = base.process()?;
    let envoy = Envoy::start(&ours.config).await?;
    ours.is_ready(&envoy).await?;
    let owners = Client::connect(&envoy, &ours, &Owners::new())
        .await?
        .owners()
        .await?;
    for system in all.iter().filter(|system| is_compared(system.name)) {
        let envoy = Envoy::start(&system.config).await?;
        let theirs = Client::connect(&envoy, system, &owners)
            .await?
            .owners()
            .await?;
        anyhow::ensure!(theirs == owners, "{} chooses otherwise", system.name);
    }
    Ok(owners)
}

fn is_compared(name: &str) -> bool {
    ["looks up", "ext_proc", "override_host", "native,"]
        .iter()
        .any(|part| name.contains(part))
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

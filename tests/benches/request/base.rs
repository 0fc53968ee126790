//! The configuration that all systems vary: the shipped one, with the instances of the benchmark.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use unitring_tests::companion::Companion;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::programs;

use crate::systems::System;

/// For every system with a bound.
pub(crate) const BALANCE_FACTOR: u32 = 125;

/// The configurations that the systems derive from, all with the same instances.
pub(crate) struct Base {
    /// With the filter.
    shipped: EnvoyConfig,
    /// The same without the parts that only our filter needs.
    plain: EnvoyConfig,
    /// With the native module, and in all else as `plain`.
    native: EnvoyConfig,
    instances: usize,
    addresses: Vec<SocketAddr>,
}

impl Base {
    pub(crate) fn new(instances: &[SocketAddr], companion: &Companion) -> Result<Self> {
        let shipped = EnvoyConfig::shipped("envoy.yaml")?
            .companion(companion)?
            .unchecked()?
            .edit_cluster("orders", |cluster| {
                let place = "/load_assignment/endpoints/0/lb_endpoints";
                *cluster.pointer_mut(place).context("no endpoints")? = endpoints(instances);
                Ok(())
            })?
            .setting("load.balance_factor", json!(BALANCE_FACTOR))?
            // The discovery's own reads of Envoy's clusters are no part of a request.
            .setting("discovery.interval", json!("60s"))?;
        let plain = shipped.clone().edit_connections(|manager| {
            let host = manager.pointer_mut("/route_config/virtual_hosts/0");
            let host = host.and_then(Value::as_object_mut).context("no host")?;
            host.remove("response_headers_to_remove");
            Ok(())
        })?;
        let native =
            with_module(plain.clone())?.setting("load.balance_factor", json!(BALANCE_FACTOR))?;
        Ok(Self {
            shipped,
            plain,
            native,
            instances: instances.len(),
            addresses: instances.to_vec(),
        })
    }

    /// Envoy without a filter, with this policy.
    pub(crate) fn policy(&self, kind: &str, settings: Value) -> Result<EnvoyConfig> {
        with_policy(self.plain.clone().without_filter()?, kind, settings)
    }

    /// For the filter of an example, without the parts that only our filter needs.
    pub(crate) fn plain(&self) -> EnvoyConfig {
        self.plain.clone()
    }

    /// The system that all others are compared with.
    pub(crate) fn ring_hash(&self) -> Result<System> {
        let config = self.policy(RING_HASH, json!({}))?;
        Ok(System::new("Envoy RING_HASH", config))
    }

    /// The systems that the tables of scale compare: Envoy's policy, and both shells with either scope.
    pub(crate) fn shells(&self) -> Result<[System; 5]> {
        Ok([
            self.ring_hash()?,
            self.native_process()?,
            self.native_fleet()?,
            self.process()?,
            self.fleet()?,
        ])
    }

    /// A filter of the SDK that does nothing.
    pub(crate) fn nothing(&self) -> Result<System> {
        let nothing = self.plain().filter(&programs::example_filter("nothing")?)?;
        let nothing = with_policy(nothing, RING_HASH, json!({}))?;
        let name = "Wasm filter of the SDK that does nothing, on RING_HASH";
        Ok(System::new(name, nothing))
    }

    /// Our filter, with the load of this process alone.
    pub(crate) fn process(&self) -> Result<System> {
        let config = alone(self.quiet()?)?;
        Ok(self.ours("**unitring**, `scope: process`", config))
    }

    /// The same with a preset number of virtual nodes for each instance, which makes a larger ring.
    pub(crate) fn fixed(&self) -> Result<System> {
        let config = alone(self.quiet()?)?.setting("ring.fill", json!("fixed"))?;
        Ok(self.ours("**unitring**, `scope: process`, `fill: fixed`", config))
    }

    /// Our filter, with the load of the fleet.
    pub(crate) fn fleet(&self) -> Result<System> {
        let config = self.quiet()?.setting("load.scope", json!("fleet"))?;
        Ok(System {
            reports: true,
            ..self.ours("**unitring**, `scope: fleet`", config)
        })
    }

    /// The native module, with the load of this process alone.
    pub(crate) fn native_process(&self) -> Result<System> {
        let config = alone(self.native.clone())?;
        Ok(self.ours("**unitring**, native, `scope: process`", config))
    }

    /// The same with a preset number of virtual nodes for each instance, which makes a larger ring.
    pub(crate) fn native_fixed(&self) -> Result<System> {
        let config = alone(self.native.clone())?.setting("ring.fill", json!("fixed"))?;
        let name = "**unitring**, native, `scope: process`, `fill: fixed`";
        Ok(self.ours(name, config))
    }

    /// The native module, with the load of the fleet.
    pub(crate) fn native_fleet(&self) -> Result<System> {
        let config = self.native.clone().setting("load.scope", json!("fleet"))?;
        Ok(System {
            reports: true,
            ..self.ours("**unitring**, native, `scope: fleet`", config)
        })
    }

    /// Our filter, with its choice in filter state, for an access log.
    pub(crate) fn logging(&self) -> Result<System> {
        let config = alone(self.quiet()?)?.setting("access_log", json!(true))?;
        Ok(self.ours("**unitring**, `scope: process`, `access_log`", config))
    }

    /// Our filter, with its choice in response headers.
    pub(crate) fn explaining(&self) -> Result<System> {
        let config = alone(self.shipped.clone())?;
        Ok(self.ours("**unitring**, `scope: process`, `explain`", config))
    }

    /// Our filter, which counts data updates and so reads the answer.
    pub(crate) fn counting_updates(&self) -> Result<System> {
        let config = alone(self.quiet()?)?.setting("capture.mode", json!("count"))?;
        Ok(self.ours(
            "**unitring**, `scope: process`, `capture.mode: count`",
            config,
        ))
    }

    /// Our filter with this mode of capture, and answers that announce this update.
    pub(crate) fn capturing(
        &self,
        name: &'static str,
        mode: &str,
        announces: Option<&'static str>,
    ) -> Result<System> {
        let config = self
            .quiet()?
            .setting("load.scope", json!("process"))?
            .setting("capture.mode", json!(mode))?
            .setting("companion.interval", json!("60s"))?;
        Ok(System {
            announces,
            ..self.ours(name, config)
        })
    }

    /// Our filter without Envoy's counts, so that it counts by each answer.
    pub(crate) fn listed(&self) -> Result<System> {
        let listed = self
            .addresses
            .iter()
            .map(|at| json!({"address": at.to_string()}));
        let source = json!({"source": "static", "instances": listed.collect::<Vec<_>>()});
        let config = alone(self.quiet()?)?.setting("discovery", source)?;
        Ok(self.ours(
            "**unitring**, `scope: process`, `discovery: static`",
            config,
        ))
    }

    fn quiet(&self) -> Result<EnvoyConfig> {
        self.shipped.clone().setting("explain", json!(false))
    }

    fn ours(&self, name: &'static str, config: EnvoyConfig) -> System {
        System {
            ours_of: Some(self.instances),
            ..System::new(name, config)
        }
    }
}

/// Envoy's policy that all systems are compared with.
pub(crate) const RING_HASH: &str = "ring_hash.v3.RingHash";

fn with_policy(config: EnvoyConfig, kind: &str, settings: Value) -> Result<EnvoyConfig> {
    let policies = policies(kind, settings)?;
    config.edit_cluster("orders", |cluster| {
        put(cluster, "load_balancing_policy", policies)
    })
}

/// A configuration with the native module for its policy, and the rest of `envoy/native.yaml` that this needs.
fn with_module(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let native = EnvoyConfig::shipped("native.yaml")?;
    let policy = native.cluster("orders")?;
    let policy = policy.get("load_balancing_policy");
    let policy = policy.context("no policy")?.clone();
    let native = native.on_ports(0, 0);
    let retries = "/route_config/virtual_hosts/0/routes/0/route/retry_policy";
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let by_native = native.pointer(&format!("{manager}{retries}"));
    let by_native = by_native.context("no retry policy")?.clone();
    let extensions = native.get("bootstrap_extensions");
    config
        .without_filter()?
        .edit_cluster("orders", |cluster| {
            put(cluster, "load_balancing_policy", policy)
        })?
        .edit_connections(|manager| {
            *manager.pointer_mut(retries).context("no retry policy")? = by_native;
            Ok(())
        })?
        .field("bootstrap_extensions", extensions.context("none")?.clone())
}

fn alone(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config
        .setting("load.scope", json!("process"))?
        .setting("companion.cluster", json!(""))
}

pub(crate) fn policies(kind: &str, mut settings: Value) -> Result<Value> {
    let kind = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{kind}");
    put(&mut settings, "@type", json!(kind))?;
    let policy = json!({"typed_extension_config": {"name": "policy", "typed_config": settings}});
    Ok(json!({"policies": [policy]}))
}

pub(crate) fn endpoints(instances: &[SocketAddr]) -> Value {
    let endpoints = instances.iter().map(|instance| {
        let address = json!({"address": instance.ip(), "port_value": instance.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    });
    endpoints.collect()
}

pub(crate) fn put(object: &mut Value, field: &str, value: Value) -> Result<()> {
    let fields = object.as_object_mut().context("not an object")?;
    fields.insert(field.to_owned(), value);
    Ok(())
}

//! The shipped Envoy configurations, moved to free ports, and variants of them.
//!
//! The tests use the files that users copy: a test only states how its configuration differs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::companion::Companion;
use crate::instance::Instance;
use crate::programs;
use crate::shell::{Shell, native_settings};

/// The ports that the shipped files name.
pub const LISTENER: u16 = 10_000;
/// Envoy's admin interface.
pub const ADMIN: u16 = 9901;
/// The companion's HTTP.
pub const COMPANION: u16 = 7001;
/// The companion's gRPC.
pub const COMPANION_XDS: u16 = 7002;

/// Fields that tests use and Envoy 1.36 does not know, with the minor version of Envoy 1 that added them.
const NEWER: [(&str, u32); 2] = [("allow_paths", 37), ("detect_degraded_hosts", 38)];

/// An Envoy configuration.
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    json: Value,
}

impl EnvoyConfig {
    /// A test's own configuration, which must listen on [`LISTENER`] and [`ADMIN`].
    pub fn own(json: Value) -> Self {
        Self { json }
    }

    /// A file of `envoy/`, with the filter that was built.
    ///
    /// # Errors
    /// The file or the filter is missing.
    pub fn shipped(name: &str) -> Result<Self> {
        let path = programs::root()?.join("envoy").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut json: Value =
            serde_yaml_ng::from_str(&text).with_context(|| path.display().to_string())?;
        // Operators who drain Envoys through the admin interface, or change the runtime, have to allow these
        // paths, too.
        if let Some(paths) = json
            .pointer_mut("/admin/allow_paths")
            .and_then(Value::as_array_mut)
        {
            paths.push(json!({"exact": "/healthcheck/fail"}));
            paths.push(json!({"prefix": "/drain_listeners"}));
            paths.push(json!({"prefix": "/runtime_modify"}));
        }
        let config = Self { json };
        match config.shell() {
            Shell::Filter => config.filter(&programs::filter()?),
            Shell::Native => Ok(config.module(&programs::native()?)),
        }
    }

    /// The shell that it loads.
    pub fn shell(&self) -> Shell {
        let policy = "envoy.load_balancing_policies.dynamic_modules";
        match self.json.to_string().contains(policy) {
            true => Shell::Native,
            false => Shell::Filter,
        }
    }

    /// The same, with another build of the native module.
    pub fn module(mut self, path: &Path) -> Self {
        replace(&mut self.json, "filename", &|file| {
            let is_module = file.as_str().is_some_and(|file| file.ends_with(".so"));
            is_module.then(|| json!(path))
        });
        self
    }

    /// The same, with another build of the filter.
    ///
    /// # Errors
    /// The file has no filter.
    pub fn filter(self, path: &Path) -> Result<Self> {
        self.edit_filter(|config| set(config, "/vm_config/code/local/filename", json!(path)))
    }

    /// The same, with all settings replaced.
    ///
    /// # Errors
    /// The file has none.
    pub fn settings(self, value: Value) -> Result<Self> {
        self.edit_settings(|settings| {
            *settings = value;
            Ok(())
        })
    }

    /// The same, with a setting that only the filter has.
    ///
    /// # Errors
    /// As [`EnvoyConfig::setting`].
    pub fn of_filter(self, path: &str, value: Value) -> Result<Self> {
        match self.shell() {
            Shell::Filter => self.setting(path, value),
            Shell::Native => Ok(self),
        }
    }

    /// The same, with a configuration of the filter in another form.
    ///
    /// # Errors
    /// The file has no filter.
    pub fn configuration(self, kind: &str, value: Value) -> Result<Self> {
        let any = json!({"@type": format!("type.googleapis.com/{kind}"), "value": value});
        self.edit_filter(|config| set(config, "/configuration", any))
    }

    /// The same, with these instances and their weights.
    ///
    /// # Errors
    /// The file has no cluster `orders`.
    pub fn instances(self, instances: &[Instance], weights: &[u64]) -> Result<Self> {
        self.endpoints("orders", endpoints_of(instances, weights))
    }

    /// The same, with this list of endpoints in a cluster.
    ///
    /// # Errors
    /// The file has no such cluster.
    pub fn endpoints(self, cluster: &str, endpoints: Value) -> Result<Self> {
        self.edit_cluster(cluster, |cluster| {
            let place = "/load_assignment/endpoints/0/lb_endpoints";
            set(cluster, place, endpoints)
        })
    }

    /// The same, reporting to this companion.
    ///
    /// # Errors
    /// Does not fail at present.
    pub fn companion(mut self, companion: &Companion) -> Result<Self> {
        move_port(&mut self.json, COMPANION, companion.port);
        move_port(&mut self.json, COMPANION_XDS, companion.xds_port);
        Ok(self)
    }

    /// The same, with this port in place of the other one.
    pub fn moved(mut self, from: u16, to: u16) -> Self {
        move_port(&mut self.json, from, to);
        self
    }

    /// The same, with one of the settings changed, as `setting("load.balance_factor", …)`.
    ///
    /// # Errors
    /// The file has none.
    pub fn setting(self, path: &str, value: Value) -> Result<Self> {
        self.edit_settings(|settings| {
            let mut place = settings;
            for field in path.split('.') {
                let fields = place.as_object_mut().context("not an object")?;
                place = fields
                    .entry(field)
                    .or_insert_with(|| Value::Object(Map::new()));
            }
            *place = value;
            Ok(())
        })
    }

    /// Changes the fields of the filter's Wasm configuration.
    ///
    /// # Errors
    /// The file has no filter.
    pub fn edit_filter_fields(self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Self> {
        self.edit_filter(|config| {
            change(config.as_object_mut().context("not an object")?);
            Ok(())
        })
    }

    /// With connections dealt out to the workers in turn; otherwise the kernel may give all of them to
    /// one worker.
    ///
    /// # Errors
    /// The file has no listener.
    pub fn balanced(mut self) -> Result<Self> {
        let listener = self.json.pointer_mut("/static_resources/listeners/0");
        let fields = listener.and_then(Value::as_object_mut).context("none")?;
        let balance = json!({"exact_balance": {}});
        fields.insert("connection_balance_config".to_owned(), balance);
        Ok(self)
    }

    /// With a node id, which Envoy needs to subscribe to its instances.
    ///
    /// # Errors
    /// The file is no object.
    pub fn node(self, id: &str) -> Result<Self> {
        self.field("node", json!({"id": id, "cluster": id}))
    }

    /// Makes any change to the bootstrap.
    ///
    /// # Errors
    /// The error of the change.
    pub fn edit(mut self, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<Self> {
        change(&mut self.json)?;
        Ok(self)
    }

    /// Sets this field of the bootstrap.
    ///
    /// # Errors
    /// The file is no object.
    pub fn field(mut self, name: &str, value: Value) -> Result<Self> {
        let fields = self.json.as_object_mut().context("not an object")?;
        fields.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Without the filter: the cluster's policy becomes its fallback, Envoy's RING_HASH.
    ///
    /// # Errors
    /// The file does not have the expected form.
    pub fn without_filter(self) -> Result<Self> {
        self.by_fallback()?.edit_connections(|manager| {
            let filters = manager.pointer_mut("/http_filters").context("no filters")?;
            filters.as_array_mut().context("not a list")?.remove(0);
            Ok(())
        })
    }

    /// With the fallback of the policy of `orders` as its policy.
    ///
    /// # Errors
    /// The file does not have the expected form.
    pub fn by_fallback(self) -> Result<Self> {
        self.edit_cluster("orders", |cluster| {
            let fallback = "/load_balancing_policy/policies/0/typed_extension_config/typed_config/fallback_policy";
            let fallback = cluster.pointer(fallback).context("no fallback")?.clone();
            set(cluster, "/load_balancing_policy", fallback)
        })
    }

    /// With this HTTP filter in place of ours.
    ///
    /// # Errors
    /// The file has no filter.
    pub fn with_filter(self, filter: Value) -> Result<Self> {
        self.edit_connections(|manager| set(manager, "/http_filters/0", filter))
    }

    /// Adds a cluster.
    ///
    /// # Errors
    /// The file has no clusters.
    pub fn add_cluster(mut self, cluster: Value) -> Result<Self> {
        let clusters = self.json.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).context("none")?;
        clusters.push(cluster);
        Ok(self)
    }

    /// Adds an aggregate cluster `both` over these clusters.
    ///
    /// # Errors
    /// The file has no clusters.
    pub fn add_aggregate(self, clusters: &[&str]) -> Result<Self> {
        let kind = "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig";
        self.add_cluster(json!({
            "name": "both",
            "connect_timeout": "1s",
            "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {
                "name": "envoy.clusters.aggregate",
                "typed_config": {"@type": kind, "clusters": clusters},
            },
        }))
    }

    /// Without active health checks and outlier detection of `orders`, so that only the filter detects
    /// failures.
    ///
    /// # Errors
    /// The file has no cluster `orders`.
    pub fn unchecked(self) -> Result<Self> {
        self.edit_cluster("orders", |cluster| {
            let fields = cluster.as_object_mut().context("not an object")?;
            fields.remove("health_checks");
            fields.remove("outlier_detection");
            Ok(())
        })
    }

    /// With routes that wait for the end of an answer without a limit: Envoy's default ends an answer 15 s after its
    /// request, also one that a test holds open.
    ///
    /// # Errors
    /// The file has no routes.
    pub fn patient(self) -> Result<Self> {
        self.edit_connections(|manager| {
            let routes = manager.pointer_mut("/route_config/virtual_hosts/0/routes");
            let routes = routes.and_then(Value::as_array_mut).context("no routes")?;
            for route in routes.iter_mut().filter_map(|route| route.get_mut("route")) {
                route["timeout"] = json!("0s");
            }
            Ok(())
        })
    }

    /// A copy of a cluster.
    ///
    /// # Errors
    /// The cluster is missing.
    pub fn cluster(&self, name: &str) -> Result<Value> {
        let clusters = self.json.pointer("/static_resources/clusters");
        let mut clusters = clusters.and_then(Value::as_array).into_iter().flatten();
        let cluster = clusters.find(|cluster| cluster.get("name") == Some(&json!(name)));
        Ok(cluster
            .with_context(|| format!("no cluster {name}"))?
            .clone())
    }

    /// Makes any change to a cluster.
    ///
    /// # Errors
    /// The cluster is missing, or the change fails.
    pub fn edit_cluster(
        mut self,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Self> {
        let clusters = self.json.pointer_mut("/static_resources/clusters");
        let mut clusters = clusters.and_then(Value::as_array_mut).into_iter().flatten();
        let cluster = clusters.find(|cluster| cluster.get("name") == Some(&json!(name)));
        change(cluster.with_context(|| format!("no cluster {name}"))?)?;
        Ok(self)
    }

    /// Adds a cluster: a copy of `from` under another name and with other instances.
    ///
    /// # Errors
    /// The file has no such cluster.
    pub fn copy_cluster(mut self, from: &str, name: &str, instances: &[Instance]) -> Result<Self> {
        let clusters = self.json.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).context("none")?;
        let of_name = |cluster: &&Value| cluster.get("name") == Some(&json!(from));
        let mut cluster = clusters.iter().find(of_name).context("none")?.clone();
        set(&mut cluster, "/name", json!(name))?;
        set(&mut cluster, "/load_assignment/cluster_name", json!(name))?;
        let endpoints = "/load_assignment/endpoints/0/lb_endpoints";
        set(&mut cluster, endpoints, endpoints_of(instances, &[]))?;
        clusters.push(cluster);
        Ok(self)
    }

    /// Makes any change to a listener.
    ///
    /// # Errors
    /// The listener is missing, or the change fails.
    pub fn edit_listener(
        mut self,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Self> {
        let mut listeners = self.listeners();
        let listener = listeners.find(|listener| listener.get("name") == Some(&json!(name)));
        change(listener.with_context(|| format!("no listener {name}"))?)?;
        drop(listeners);
        Ok(self)
    }

    /// Makes any change to the connection manager: that of the first listener that has one.
    ///
    /// # Errors
    /// The connection manager is missing, or the change fails.
    pub fn edit_connections(
        mut self,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Self> {
        let place = "/filter_chains/0/filters/0/typed_config";
        let mut all = self.listeners().filter_map(|one| one.pointer_mut(place));
        let manager = all.find(|filter| filter.get("http_filters").is_some());
        change(manager.context("no connection manager")?)?;
        drop(all);
        Ok(self)
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut Value> {
        let listeners = self.json.pointer_mut("/static_resources/listeners");
        listeners
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
    }

    fn edit_settings(mut self, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<Self> {
        if self.shell() == Shell::Native {
            let settings = native_settings(&mut self.json);
            change(settings.context("no settings of the native module")?)?;
            return Ok(self);
        }
        self.edit_filter(|config| {
            let settings = config.pointer_mut("/configuration/value");
            change(settings.context("no settings")?)
        })
    }

    fn edit_filter(self, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<Self> {
        self.edit_connections(|manager| {
            let filter = manager.pointer_mut("/http_filters/0/typed_config/config");
            change(filter.context("no filter")?)
        })
    }

    /// The same for this version of Envoy, without the fields that it does not know:
    /// `docs/compatibility.md` tells users to leave them out.
    pub fn for_version(&self, version: &str) -> Self {
        Self {
            json: without_newer(self.json.clone(), version),
        }
    }

    /// The same for the Envoy that the tests run with.
    pub fn for_asked_version(&self) -> Self {
        self.for_version(&programs::asked_envoy().unwrap_or_default())
    }

    /// The bootstrap that Envoy is started with, on these ports.
    pub fn on_ports(&self, listener: u16, admin: u16) -> Value {
        let mut json = self.json.clone();
        move_port(&mut json, LISTENER, listener);
        move_port(&mut json, ADMIN, admin);
        json
    }
}

/// A part of a configuration, without the fields that this version of Envoy does not know.
pub fn without_newer(mut json: Value, version: &str) -> Value {
    for (field, since) in NEWER {
        if is_before(version, since) {
            remove_field(&mut json, field);
        }
    }
    json
}

/// Whether a version of Envoy is before this minor version of Envoy 1; an empty one is not.
pub fn is_before(version: &str, minor: u32) -> bool {
    let own = version.split('.').nth(1).map(str::parse);
    own.and_then(Result::ok).is_some_and(|own: u32| own < minor)
}

/// These ports of 127.0.0.1 as Envoy's list of endpoints.
pub fn endpoints_at(ports: &[u16]) -> Value {
    let endpoints = ports.iter().map(|port| {
        let address = json!({"address": "127.0.0.1", "port_value": port});
        json!({"endpoint": {"address": {"socket_address": address}}})
    });
    endpoints.collect()
}

/// These instances as Envoy's list of endpoints, each with its weight or 1.
pub fn endpoints_of(instances: &[Instance], weights: &[u64]) -> Value {
    let endpoints = instances
        .iter()
        .zip(weights.iter().chain(std::iter::repeat(&1)))
        .map(|(instance, weight)| {
            let address = json!({"address": "127.0.0.1", "port_value": instance.port});
            json!({
                "endpoint": {"address": {"socket_address": address}},
                "load_balancing_weight": weight,
            })
        });
    endpoints.collect()
}

fn set(value: &mut Value, path: &str, new: Value) -> Result<()> {
    *value
        .pointer_mut(path)
        .with_context(|| format!("no {path}"))? = new;
    Ok(())
}

/// Removes this field from every object.
fn remove_field(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(name);
            fields
                .values_mut()
                .for_each(|field| remove_field(field, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove_field(item, name)),
        _ => {}
    }
}

/// Changes this port to the other one in every address.
fn move_port(value: &mut Value, from: u16, to: u16) {
    replace(value, "port_value", &|port| {
        (*port == json!(from)).then(|| json!(to))
    });
}

/// Replaces the fields of this name for which `other` has another value, in every object.
fn replace(value: &mut Value, name: &str, other: &impl Fn(&Value) -> Option<Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match other(value).filter(|_| field == name) {
                    Some(new) => *value = new,
                    None => replace(value, name, other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, name, other)),
        _ => {}
    }
}

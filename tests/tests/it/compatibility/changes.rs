//! Changes while Envoy runs, by files that it watches; and a service that several listeners share.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::config::{EnvoyConfig, endpoints_of};
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::ports;

use super::{KEYS, Pair, ask, is_steered, steers_to_carts, with_carts};

/// A resource in a file that Envoy reads again when it is replaced.
pub(super) struct Watched {
    folder: TempDir,
    version: Cell<u32>,
}

impl Watched {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            folder: TempDir::with_prefix("unitring-watched-")?,
            version: Cell::new(0),
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("resource.json")
    }

    /// The reference to the file in Envoy's configuration.
    pub(super) fn source(&self) -> Value {
        json!({"path_config_source": {"path": self.path()}, "resource_api_version": "V3"})
    }

    pub(super) fn put(&self, resource: &Value) -> Result<()> {
        self.version.set(self.version.get() + 1);
        let version = self.version.get().to_string();
        let text = json!({"version_info": version, "resources": [resource]}).to_string();
        // Envoy notices a file that is moved into place.
        let new = self.folder.path().join("new");
        fs::write(&new, text)?;
        fs::rename(new, self.path())?;
        Ok(())
    }
}

pub(super) fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{kind}"));
    value
}

#[tokio::test]
async fn settings_that_ecds_changes_hold_at_once() -> Result<()> {
    let watched = Watched::new()?;
    let filter = RefCell::new(Value::Null);
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let native = config.clone().without_filter()?;
    let config = config.node("e")?.edit_connections(|manager| {
        let ours = manager.pointer_mut("/http_filters/0").context("none")?;
        *filter.borrow_mut() = ours["typed_config"].take();
        *ours = json!({
            "name": "unitring",
            "config_discovery": {
                "config_source": watched.source(),
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        });
        Ok(())
    })?;
    let put = |fill: &str| {
        let mut filter = filter.borrow().clone();
        let settings = filter.pointer_mut("/config/configuration/value");
        settings.context("no settings")?["ring"] = json!({"fill": fill});
        let resource = json!({"name": "unitring", "typed_config": filter});
        let kind = "envoy.config.core.v3.TypedExtensionConfig";
        watched.put(&typed(kind, resource))
    };
    put("envoy")?;
    let pair = Pair::of(instances, &native, &config).await?;
    let before = pair.agree("/").await?;
    for fill in ["fixed", "envoy"] {
        put(fill)?;
        until("the other placement", async || {
            let mut moved = 0;
            for (key, owner) in &before {
                let answer = ask(&pair.filtered, "/", key).await?;
                // Meanwhile the new filter may not know the instances yet.
                is_steered(&answer, &pair.instances)?;
                moved += usize::from(answer.instance != *owner);
            }
            ensure!((moved > 0) == (fill == "fixed"), "{moved} moved");
            Ok(())
        })
        .await?;
    }
    pair.is_idle().await
}

#[tokio::test]
async fn a_route_that_rds_turns_to_another_service_is_followed_at_once() -> Result<()> {
    let watched = Watched::new()?;
    let carts = Instance::start_all(&["x", "y", "z"]).await?;
    let routes = RefCell::new(Value::Null);
    let put = |cluster: &str| {
        let mut routes = routes.borrow().clone();
        let route = routes.pointer_mut("/virtual_hosts/0/routes/0/route");
        route.context("no route")?["cluster"] = json!(cluster);
        watched.put(&routes)
    };
    let pair = Pair::start(&|config| {
        let config = with_carts(config, &carts)?.node("e")?;
        let config = config.edit_connections(|manager| {
            let mut all = manager["route_config"].take();
            all["name"] = json!("all");
            *routes.borrow_mut() = typed("envoy.config.route.v3.RouteConfiguration", all);
            let fields = manager.as_object_mut().context("not an object")?;
            fields.remove("route_config");
            manager["rds"] = json!({"route_config_name": "all", "config_source": watched.source()});
            Ok(())
        })?;
        put("orders")?;
        Ok(config)
    })
    .await?;
    steers_to_carts(&pair.filtered, carts.len()).await?;
    pair.agree("/").await?;
    put("carts")?;
    for envoy in [&pair.native, &pair.filtered] {
        until("the other cluster to answer", async || {
            let answer = ask(envoy, "/", "user-0").await?;
            ensure!(carts.iter().any(|cart| cart.id == answer.instance));
            Ok(())
        })
        .await?;
    }
    for key in keys(KEYS) {
        let native = ask(&pair.native, "/", &key).await?;
        let placed = ask(&pair.filtered, "/", &key).await?;
        assert_eq!(placed.instance, native.instance, "{key}");
        is_steered(&placed, &carts)?;
    }
    pair.is_idle().await
}

#[tokio::test]
async fn a_cluster_that_cds_replaces_is_followed() -> Result<()> {
    let watched = Watched::new()?;
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let cluster = RefCell::new(Value::Null);
    let config = config.edit_cluster("orders", |orders| {
        *cluster.borrow_mut() = orders.clone();
        orders["name"] = json!("unused");
        Ok(())
    })?;
    let config = config
        .edit_connections(|manager| {
            manager["route_config"]["validate_clusters"] = json!(false);
            Ok(())
        })?
        .node("e")?
        .field("dynamic_resources", json!({"cds_config": watched.source()}))?;
    let put = |instances: &[Instance], weights: &[u64]| {
        let mut cluster = cluster.borrow().clone();
        let endpoints = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
        *endpoints.context("none")? = endpoints_of(instances, weights);
        watched.put(&typed("envoy.config.cluster.v3.Cluster", cluster))
    };
    put(&instances, &[])?;
    let filtered = Envoy::start(&config).await?;
    filtered.steers_to(4).await?;
    for (count, weights) in [(4, [1, 1, 1, 1]), (4, [1, 2, 3, 4]), (3, [1, 2, 3, 4])] {
        let (now, _) = instances.split_at(count);
        put(now, &weights)?;
        let native = EnvoyConfig::shipped("envoy.yaml")?.instances(now, &weights)?;
        let native = Envoy::start(&native.without_filter()?).await?;
        native.has_healthy(count).await?;
        let expected = native.owners(&keys(KEYS)).await?;
        until("the filter to have the same placement", async || {
            for (key, owner) in &expected {
                let answer = ask(&filtered, "/", key).await?;
                ensure!(answer.instance == *owner, "{key}: {answer:?}");
                is_steered(&answer, &instances)?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn several_listeners_of_one_service_place_alike() -> Result<()> {
    let second = ports::free()?;
    let mut pair = Pair::start(&|config| {
        config.edit(|bootstrap| {
            let listeners = bootstrap.pointer_mut("/static_resources/listeners");
            let listeners = listeners.and_then(Value::as_array_mut).context("none")?;
            let mut other = listeners.first().context("no listener")?.clone();
            other["name"] = json!("second");
            other["address"]["socket_address"]["port_value"] = json!(second);
            listeners.push(other);
            Ok(())
        })
    })
    .await?;
    let owners = pair.agree("/").await?;
    pair.filtered.port = second;
    assert_eq!(pair.agree("/").await?, owners);
    pair.is_idle().await
}

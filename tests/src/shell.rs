//! The two shells of the balancer inside Envoy, for tests of what both promise.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::EnvoyConfig;

/// A shell of the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Shell {
    /// The filter, in a virtual machine.
    Filter,
    /// The native module, as the cluster's policy.
    Native,
}

impl Shell {
    /// The smallest file of `envoy/` with it.
    ///
    /// # Errors
    /// The file, or what Envoy loads by it, is missing.
    pub fn config(self) -> Result<EnvoyConfig> {
        EnvoyConfig::shipped(match self {
            Self::Filter => "envoy.yaml",
            Self::Native => "native.yaml",
        })
    }

    /// The same with instances from the companion's registry.
    ///
    /// # Errors
    /// As [`Shell::config`].
    pub fn by_registry(self) -> Result<EnvoyConfig> {
        let eds = EnvoyConfig::shipped("eds.yaml")?;
        if self == Self::Filter {
            return Ok(eds);
        }
        let xds = eds.cluster("unitring_xds")?;
        let node = eds.on_ports(0, 0).get("node").cloned();
        let eds = eds.cluster("orders")?;
        self.config()?
            .edit_cluster("orders", |orders| {
                let fields = orders.as_object_mut().context("not an object")?;
                fields.remove("load_assignment");
                orders["type"] = json!("EDS");
                for field in ["eds_cluster_config", "ignore_health_on_host_removal"] {
                    orders[field] = eds.get(field).context("not in eds.yaml")?.clone();
                }
                Ok(())
            })?
            .add_cluster(xds)?
            .field("node", node.context("no node")?)
    }

    /// The file of `envoy/` for TCP services.
    ///
    /// # Errors
    /// As [`Shell::config`].
    pub fn tcp(self) -> Result<EnvoyConfig> {
        EnvoyConfig::shipped(match self {
            Self::Filter => "tcp.yaml",
            Self::Native => "native-tcp.yaml",
        })
    }

    /// The word that the shell shows for a host that is unhealthy for this reason. Envoy tells a policy no reasons.
    pub fn reason(self, why: &'static str) -> &'static str {
        match self {
            Self::Filter => why,
            Self::Native => "unhealthy",
        }
    }

    /// The start of the names of the stats of the service `orders`.
    pub fn stats(self) -> &'static str {
        match self {
            Self::Filter => "wasmcustom.unitring.orders",
            Self::Native => "dynamicmodulescustom.unitring.orders",
        }
    }
}

/// The place of the settings in a bootstrap with the native module.
pub(crate) fn native_settings(bootstrap: &mut Value) -> Option<&mut Value> {
    let clusters = bootstrap.pointer_mut("/static_resources/clusters")?;
    let mut clusters = clusters.as_array_mut()?.iter_mut();
    let orders = clusters.find(|cluster| cluster["name"] == "orders")?;
    orders.pointer_mut(
        "/load_balancing_policy/policies/0/typed_extension_config/typed_config/lb_policy_config/value",
    )
}

/// Makes tests of functions that take a [`Shell`], one for each shell.
#[macro_export]
macro_rules! on_both_shells {
    ($($name:ident),* $(,)?) => {
        mod filter {
            $(#[tokio::test]
            async fn $name() -> ::anyhow::Result<()> {
                super::$name($crate::shell::Shell::Filter).await
            })*
        }
        mod native {
            $(#[tokio::test]
            async fn $name() -> ::anyhow::Result<()> {
                super::$name($crate::shell::Shell::Native).await
            })*
        }
    };
}

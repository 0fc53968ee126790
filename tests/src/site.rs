//! Complete sets of servers: an Envoy with its companion and instances, and a unit node.

use anyhow::Result;

use crate::companion::{Companion, Settings};
use crate::config::EnvoyConfig;
use crate::envoy::Envoy;
use crate::instance::Instance;
use crate::rabbit::Rabbit;
use crate::redis::Redis;
use crate::shell::Shell;

/// One Envoy with the filter, its companion on the embedded store, and instances a, b, c, d.
#[derive(Debug)]
pub struct Site {
    /// The Envoy that takes the requests.
    pub envoy: Envoy,
    pub companion: Companion,
    /// The instances of `orders`.
    pub instances: Vec<Instance>,
}

impl Site {
    /// Starts everything with the shipped `envoy.yaml`, and waits until the filter steers.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(Ok).await
    }

    /// The same with a changed configuration.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start_with(
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        Self::start_with_workers(1, change).await
    }

    /// The same with several workers, each of which has its own VM.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start_with_workers(
        workers: u32,
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        Self::start_in(Shell::Filter, workers, change).await
    }

    /// The same with this shell of the balancer.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start_in(
        shell: Shell,
        workers: u32,
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let companion = Settings::default().start().await?;
        let config = shell
            .config()?
            .instances(&instances, &[])?
            .companion(&companion)?;
        let envoy = Envoy::start_with_workers(&change(config)?, workers).await?;
        envoy.steers_to(instances.len()).await?;
        Ok(Self {
            envoy,
            companion,
            instances,
        })
    }

    /// The instance of this name.
    ///
    /// # Panics
    /// There is no such instance.
    #[allow(
        clippy::expect_used,
        reason = "a test that asks for another name is wrong"
    )]
    pub fn instance(&mut self, id: &str) -> &mut Instance {
        self.instances
            .iter_mut()
            .find(|instance| instance.id == id)
            .expect("a, b, c or d")
    }
}

/// A unit node: a companion and its Redis.
#[derive(Debug)]
pub struct UnitNode {
    pub companion: Companion,
    /// Its store.
    pub redis: Redis,
}

impl UnitNode {
    /// Starts a unit that syncs with its peers through this broker.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start(name: &str, peers: &[&str], rabbit: &Rabbit) -> Result<Self> {
        let redis = Redis::start().await?;
        let companion = Settings::unit(name, peers, &redis, rabbit).start().await?;
        companion.is_ready().await?;
        Ok(Self { companion, redis })
    }
}

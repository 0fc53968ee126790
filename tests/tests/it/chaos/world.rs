//! The servers that the actions hit: two Envoys with the balancer, and one without as the control, over the
//! same instances, which all three get from the companion's registry.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::shell::Shell;
use unitring_tests::traffic::Running;
use unitring_tests::traffic::keys::Numbers;

use super::plan::Action;

const FIRST_INSTANCES: [&str; 5] = ["a", "b", "c", "d", "e"];
const WORKERS: u32 = 2;
/// Long enough that some requests are in flight on an instance that dies.
const SERVICE_TIME: Duration = Duration::from_millis(80);

/// All servers of a test.
pub(super) struct World {
    pub(super) companion: Companion,
    pub(super) filtered: Vec<Envoy>,
    pub(super) control: Envoy,
    pub(super) instances: Vec<Instance>,
    /// Events that the companion must have in the end: the kind, and the instance's name.
    pub(super) expected_events: BTreeSet<(&'static str, String)>,
    config: EnvoyConfig,
    added: u32,
}

impl World {
    pub(super) async fn start(shell: Shell) -> Result<Self> {
        let companion = Settings::default().start().await?;
        let config = patient(shell.by_registry()?.companion(&companion)?)?;
        let config = match shell {
            Shell::Filter => config.setting("discovery.interval", json!("250ms"))?,
            Shell::Native => config,
        };
        let mut instances = Vec::new();
        for id in FIRST_INSTANCES {
            instances.push(started(id).await?);
        }
        for instance in &instances {
            companion.register(instance).await?;
        }
        let filtered = vec![
            Envoy::start_with_workers(&config, WORKERS).await?,
            Envoy::start_with_workers(&config, WORKERS).await?,
        ];
        // Envoy at its best: its retries avoid the instances that have failed. With the shipped policy
        // alone, a key's retries go to the same dead instance again.
        let alone = patient(EnvoyConfig::shipped("eds.yaml")?.companion(&companion)?)?;
        let alone = alone.without_filter()?.edit_connections(|manager| {
            let policy = "/route_config/virtual_hosts/0/routes/0/route/retry_policy";
            let policy = manager.pointer_mut(policy).context("no retry policy")?;
            let kind = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
            let predicate = json!({"name": "previous", "typed_config": {"@type": kind}});
            policy["retry_host_predicate"] = json!([predicate]);
            policy["host_selection_retry_max_attempts"] = json!(10);
            Ok(())
        })?;
        let world = Self {
            companion,
            filtered,
            control: Envoy::start_with_workers(&alone, WORKERS).await?,
            instances,
            expected_events: BTreeSet::new(),
            config,
            added: 0,
        };
        world.has_healthy(world.instances.len()).await?;
        Ok(world)
    }

    /// Performs the action, and waits until everything is healthy again.
    pub(super) async fn act(
        &mut self,
        action: Action,
        numbers: &mut Numbers,
        load: &Running,
    ) -> Result<()> {
        let some_instance = below(numbers, self.instances.len())?;
        match action {
            Action::KillInstance => {
                self.kill_until_ejected(some_instance).await?;
                self.revive(some_instance).await
            }
            Action::PauseInstance => {
                self.instances[some_instance].pause().await?;
                self.is_ejected(some_instance).await?;
                self.instances[some_instance].resume()?;
                self.recovers(some_instance).await
            }
            Action::AddInstance => self.add().await,
            Action::RemoveInstance => self.remove(some_instance).await,
            Action::StopCompanion => {
                self.companion.stop().await?;
                self.kill_until_ejected(some_instance).await?;
                self.companion.restart().await?;
                self.revive(some_instance).await
            }
            Action::KillCompanion => {
                self.companion.kill()?;
                self.companion.restart().await?;
                self.companion.is_ready().await
            }
            Action::ReplaceEnvoy => {
                let which = below(numbers, self.filtered.len())?;
                self.replace_envoy(which, load).await
            }
        }
    }

    async fn kill_until_ejected(&mut self, which: usize) -> Result<()> {
        self.instances[which].kill()?;
        self.is_ejected(which).await
    }

    async fn is_ejected(&mut self, which: usize) -> Result<()> {
        self.expect("ejected", self.instances[which].address());
        self.has_healthy(self.instances.len() - 1).await
    }

    async fn revive(&mut self, which: usize) -> Result<()> {
        self.instances[which].restart().await?;
        self.instances[which].take(SERVICE_TIME).await?;
        self.recovers(which).await
    }

    async fn recovers(&mut self, which: usize) -> Result<()> {
        self.expect("recovered", self.instances[which].address());
        self.has_healthy(self.instances.len()).await
    }

    async fn add(&mut self) -> Result<()> {
        self.added += 1;
        let instance = started(&format!("added-{}", self.added)).await?;
        self.companion.register(&instance).await?;
        self.expect("added", instance.id.clone());
        self.expect("added", instance.address());
        self.instances.push(instance);
        self.has_healthy(self.instances.len()).await
    }

    async fn remove(&mut self, which: usize) -> Result<()> {
        let instance = self.instances.remove(which);
        self.companion.unregister(&instance.id).await?;
        self.expect("removed", instance.id.clone());
        self.expect("removed", instance.address());
        self.has_healthy(self.instances.len()).await?;
        until("the removed instance to be idle", async || {
            let load = instance.load().await?;
            ensure!(load.in_flight == 0, "{load:?}");
            Ok(())
        })
        .await
    }

    /// Like a roll-out: no new requests, drain, SIGTERM, start.
    async fn replace_envoy(&mut self, which: usize, load: &Running) -> Result<()> {
        let mut leaving = self.filtered.remove(which);
        load.turn_to(&self.filtered.iter().collect::<Vec<_>>());
        leaving.drain().await?;
        // One may still have been on its way to it when no other was left there.
        load.passes(0).await?;
        has_nothing_in_flight(&leaving).await?;
        leaving.stop().await?;
        let envoy = Envoy::start_with_workers(&self.config, WORKERS).await?;
        envoy.steers_to(self.instances.len()).await?;
        self.filtered.push(envoy);
        load.turn_to(&self.filtered.iter().collect::<Vec<_>>());
        Ok(())
    }

    async fn has_healthy(&self, count: usize) -> Result<()> {
        for envoy in &self.filtered {
            envoy.steers_to(count).await?;
        }
        self.control.has_healthy(count).await
    }

    fn expect(&mut self, kind: &'static str, instance: String) {
        self.expected_events.insert((kind, instance));
    }
}

/// With more time for a request: a paused instance holds its requests until it is resumed. Whether that exceeds a
/// timeout depends on the machine, not on the balancer.
fn patient(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let route = "/route_config/virtual_hosts/0/routes/0/route";
        let route = manager.pointer_mut(route).context("no route")?;
        route["timeout"] = json!("120s");
        Ok(())
    })
}

/// Waits until every gauge of requests in flight is zero. The native module has no gauge, so its report counts.
pub(super) async fn has_nothing_in_flight(envoy: &Envoy) -> Result<()> {
    if envoy.shell == Shell::Native {
        return Ok(());
    }
    until("in-flight to be zero everywhere", async || {
        let mut gauges = envoy.stats("wasmcustom.unitring.orders.").await?;
        gauges.retain(|name, _| name.ends_with(".in_flight"));
        ensure!(!gauges.is_empty(), "no gauge at all");
        gauges.retain(|_, count| *count != 0);
        ensure!(gauges.is_empty(), "{gauges:?}");
        Ok(())
    })
    .await
}

async fn started(id: &str) -> Result<Instance> {
    let instance = Instance::start(id).await?;
    instance.take(SERVICE_TIME).await?;
    Ok(instance)
}

fn below(numbers: &mut Numbers, end: usize) -> Result<usize> {
    Ok(usize::try_from(numbers.below(u64::try_from(end)?))?)
}

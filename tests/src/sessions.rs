//! The shipped example of a service that keeps its sessions in the unit group: two units, each with Envoy,
//! companion, Redis and two instances of `envoy/sessions.py`.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::companion::Companion;
use crate::config::EnvoyConfig;
use crate::deadline::until;
use crate::envoy::Envoy;
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::unit_group::{Brokers, UnitGroup};

/// Ports that `sessions.yaml` names beside the usual ones: where instances read, and the instances.
const READ: u16 = 10_001;
const INSTANCES: [u16; 2] = [8081, 8082];

/// One unit's part of the service.
#[derive(Debug)]
pub struct Side {
    pub envoy: Envoy,
    instances: Vec<Process>,
    _folder: TempDir,
}

/// Both units.
#[derive(Debug)]
pub struct Sessions {
    /// Companions, stores, the broker.
    pub group: UnitGroup,
    /// Envoys and instances, in the order of the group's members.
    pub sides: Vec<Side>,
}

impl Sessions {
    /// Starts everything.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start() -> Result<Self> {
        let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
        let mut sides = Vec::new();
        for member in &group.members {
            sides.push(Side::start(&member.companion).await?);
        }
        Ok(Self { group, sides })
    }

    /// Ends everything of the first unit, as a fire would.
    ///
    /// # Errors
    /// A process cannot be ended.
    pub fn lose_the_first(&mut self) -> Result<()> {
        let side = self.sides.first_mut().context("no unit")?;
        side.envoy.kill()?;
        for instance in &mut side.instances {
            instance.kill()?;
        }
        let member = self.group.members.first_mut().context("no unit")?;
        member.companion.kill()?;
        member.redis.kill()
    }
}

impl Side {
    async fn start(companion: &Companion) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-sessions-")?;
        let script = programs::root()?.join("envoy/sessions.py");
        let read = ports::free()?;
        let mut config = EnvoyConfig::shipped("sessions.yaml")?
            .companion(companion)?
            .moved(READ, read)
            // The caller may log in at once.
            .setting("discovery.interval", json!("250ms"))?
            // On a busy machine it takes longer to store a session and to read it. Shorter than `stream_idle_timeout`.
            .setting("capture.timeout", json!("12s"))?
            .edit_listener("sessions_read", |listener| {
                let route = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/route";
                let route = listener.pointer_mut(route).context("no route")?;
                route["timeout"] = json!("12s");
                Ok(())
            })?;
        let mut instances = Vec::new();
        for place in INSTANCES {
            let port = ports::free()?;
            let mut command = Command::new("python3");
            command.arg(&script).args(["--port", &port.to_string()]);
            command.args(["--envoy", &format!("http://127.0.0.1:{read}")]);
            let name = format!("sessions-{port}");
            let mut process = Process::start(&name, &mut command, folder.path())?;
            process.listens(([127, 0, 0, 1], port)).await?;
            instances.push(process);
            config = config.moved(place, port);
        }
        let envoy = Envoy::start(&config).await?;
        until("the instances to be known", async || {
            let known = envoy
                .stat("wasmcustom.unitring.sessions.instances_eligible")
                .await?;
            let healthy = envoy.stat("cluster.sessions.membership_healthy").await?;
            anyhow::ensure!((known, healthy) == (2, 2), "{known}, {healthy}");
            Ok(())
        })
        .await?;
        Ok(Self {
            envoy,
            instances,
            _folder: folder,
        })
    }
}

//! One unit of the demo: Envoy, the companion, instances that come and go.

use std::path::Path;

use serde_json::json;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::child::Child;
use super::configuration::configuration;
use super::instance::Instance;
use super::placed::placed;
use super::ports::{Ports, UnitPorts};
use super::programs::Programs;
use super::servers::{Broker, Redis};
use super::{DemoError, Protocol, create, web, write};

pub(super) const FIRST_INSTANCES: [&str; 4] = ["a", "b", "c", "d"];

/// The parts that a unit starts with.
pub(super) struct Ground<'a> {
    pub(super) protocol: Protocol,
    pub(super) programs: &'a Programs,
    pub(super) folder: &'a Path,
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) others: Vec<&'a str>,
    pub(super) broker: Option<&'a Broker>,
}

pub(super) struct Place {
    pub(super) name: String,
    protocol: Protocol,
    envoy: Child,
    companion: Child,
    redis: Option<Redis>,
    pub(super) ports: UnitPorts,
    instances: Mutex<Vec<Instance>>,
    more_ports: Mutex<Ports>,
    index: usize,
}

impl Place {
    pub(super) async fn start(ground: &Ground<'_>, ports: &mut Ports) -> Result<Self, DemoError> {
        let index = ground.index;
        let unit_ports = ports.unit(index)?;
        let folder = ground.folder.join(ground.name);
        create(&folder)?;
        let redis = match &ground.programs.servers {
            Some(servers) => Some(Redis::start(servers, &folder, ports).await?),
            None => None,
        };
        let companion = companion(ground, &folder, unit_ports, redis.as_ref()).await?;
        let mut instances = Vec::new();
        for id in FIRST_INSTANCES {
            let instance = Instance::start(ground.protocol, id, ports.instance(index)?).await?;
            register(&instance, unit_ports.companion).await?;
            instances.push(instance);
        }
        let envoy = envoy(ground, &folder, unit_ports).await?;
        placed(ground.protocol, &ground.programs.shell, unit_ports).await?;
        Ok(Self {
            name: ground.name.to_owned(),
            protocol: ground.protocol,
            envoy,
            companion,
            redis,
            ports: unit_ports,
            instances: Mutex::new(instances),
            more_ports: Mutex::new(Ports::new(None)),
            index,
        })
    }

    /// Waits until one of its programs ends, and returns the error.
    pub(super) async fn ended(&self) -> DemoError {
        let redis = async {
            match &self.redis {
                Some(redis) => redis.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.envoy.ended() => error,
            error = self.companion.ended() => error,
            error = redis => error,
        }
    }

    /// Starts and registers another instance; returns a text about it.
    pub(super) async fn add_instance(&self) -> Result<String, String> {
        let mut instances = self.instances.lock().await;
        let is_taken = |id: &str| instances.iter().any(|one| one.id == id && one.is_alive());
        let mut letters = ('a'..='z').map(String::from);
        let id = letters.find(|id| !is_taken(id));
        let id = id.ok_or("there are 26 instances already")?;
        let words = |error: DemoError| error.to_string();
        let port = self.more_ports.lock().await.instance(self.index);
        let instance = Instance::start(self.protocol, &id, port.map_err(words)?).await;
        let instance = instance.map_err(words)?;
        register(&instance, self.ports.companion)
            .await
            .map_err(words)?;
        let text = format!("added {id} at {}", instance.address());
        instances.retain(|one| one.id != id);
        instances.push(instance);
        Ok(text)
    }

    /// Kills an instance. It stays registered: Envoy's health checks notice.
    pub(super) async fn kill_instance(&self, id: &str) -> Result<String, String> {
        let mut instances = self.instances.lock().await;
        let instance = instances.iter_mut().find(|instance| instance.id == id);
        let instance = instance.ok_or_else(|| format!("there is no instance {id}"))?;
        instance.kill();
        Ok(format!(
            "killed {id}; it is still registered: curl -X DELETE {}/v1/services/orders/instances/{id}",
            self.ports.companion_address()
        ))
    }

    pub(super) fn describe(&self, with_name: bool) -> String {
        let heading = if with_name {
            format!("unit {}\n", self.name)
        } else {
            String::new()
        };
        let scheme = match self.protocol {
            Protocol::Http => "http://",
            Protocol::Tcp => "",
        };
        let redis = self.redis.as_ref();
        let redis = redis.map(|redis| format!("\n  Redis      127.0.0.1:{}", redis.port));
        format!(
            "{heading}  Envoy      {scheme}127.0.0.1:{}   admin http://127.0.0.1:{}\n  \
             companion  http://{}   EDS 127.0.0.1:{}\n  \
             console    http://{}/ui\n  \
             instances  a b c d, of the service `orders`   control 127.0.0.1:{}{}",
            self.ports.listener,
            self.ports.admin,
            self.ports.companion_address(),
            self.ports.xds,
            self.ports.companion_address(),
            self.ports.control,
            redis.unwrap_or_default(),
        )
    }
}

async fn companion(
    ground: &Ground<'_>,
    folder: &Path,
    ports: UnitPorts,
    redis: Option<&Redis>,
) -> Result<Child, DemoError> {
    let mut command = Command::new(&ground.programs.unitring);
    command.arg("serve");
    // Settings for other companions in this terminal do not apply here.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNITRING_") {
            command.env_remove(name);
        }
    }
    command
        .env("UNITRING_UNIT", ground.name)
        .env("UNITRING_LISTEN", format!("127.0.0.1:{}", ports.companion))
        .env("UNITRING_XDS_LISTEN", format!("127.0.0.1:{}", ports.xds));
    match (redis, ground.broker) {
        (Some(redis), Some(broker)) => {
            let url = format!("redis://127.0.0.1:{}/", redis.port);
            command
                .env("UNITRING_STORE_KIND", "redis")
                .env("UNITRING_STORE_REDIS_URL", url)
                .env("UNITRING_SYNC_AMQP_URL", broker.url())
                .env("UNITRING_SYNC_PEERS", ground.others.join(","));
        }
        _ => {
            command.env("UNITRING_STORE_PATH", folder.join("unitring.redb"));
        }
    }
    let process = Child::start("companion", command, folder)?;
    let url = format!("http://127.0.0.1:{}/readyz", ports.companion);
    process.ready(async || web::is_well(&url).await).await?;
    Ok(process)
}

async fn envoy(ground: &Ground<'_>, folder: &Path, ports: UnitPorts) -> Result<Child, DemoError> {
    let programs = ground.programs;
    let config = folder.join("envoy.yaml");
    let text = configuration(
        ground.protocol,
        ports,
        &programs.shell,
        programs.knows_allow_paths,
    )?;
    write(&config, &text)?;
    let mut command = Command::new(&programs.envoy);
    command
        .arg("--config-path")
        .arg(&config)
        .args(["--concurrency", "2", "--disable-hot-restart"]);
    let process = Child::start("envoy", command, folder)?;
    let url = format!("http://127.0.0.1:{}/ready", ports.admin);
    process.ready(async || web::is_well(&url).await).await?;
    Ok(process)
}

async fn register(instance: &Instance, companion: u16) -> Result<(), DemoError> {
    let id = &instance.id;
    let url = format!("http://127.0.0.1:{companion}/v1/services/orders/instances/{id}");
    let body = json!({"address": instance.address(), "weight": 1}).to_string();
    let answer = web::request("PUT", &url, &body).await;
    let answer = answer.map_err(DemoError::Request)?;
    if !(200..300).contains(&answer.status) {
        let (status, body) = (answer.status, answer.body);
        return Err(DemoError::Request(format!(
            "register {id}: {status} {body}"
        )));
    }
    Ok(())
}

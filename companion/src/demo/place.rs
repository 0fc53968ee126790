//! One unit of the demo: Envoy with `envoy/eds.yaml`, the companion, instances that come and go.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::child::Child;
use super::instance::Instance;
use super::ports::Ports;
use super::programs::Programs;
use super::servers::{Broker, Redis};
use super::{DemoError, create, web, write};

pub(super) const FIRST_INSTANCES: [&str; 4] = ["a", "b", "c", "d"];
const CONFIG: &str = include_str!("../../../envoy/eds.yaml");
/// How long Envoy may take until it sends keys to all instances.
const PLACED_TIMEOUT: Duration = Duration::from_secs(30);

/// The parts that a unit starts with.
pub(super) struct Ground<'a> {
    pub(super) programs: &'a Programs,
    pub(super) folder: &'a Path,
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) others: Vec<&'a str>,
    pub(super) broker: Option<&'a Broker>,
}

/// A running unit.
pub(super) struct Place {
    pub(super) name: String,
    envoy: Child,
    companion: Child,
    redis: Option<Redis>,
    instances: Mutex<Vec<Instance>>,
    ports: UnitPorts,
    more_ports: Mutex<Ports>,
    index: usize,
}

/// The ports of a unit.
#[derive(Debug, Clone, Copy)]
struct UnitPorts {
    listener: u16,
    admin: u16,
    companion: u16,
    xds: u16,
    control: u16,
}

impl Place {
    pub(super) async fn start(ground: &Ground<'_>, ports: &mut Ports) -> Result<Self, DemoError> {
        let index = ground.index;
        let unit_ports = UnitPorts {
            listener: ports.listener(index)?,
            admin: ports.admin(index)?,
            companion: ports.companion(index)?,
            xds: ports.xds(index)?,
            control: ports.control(index)?,
        };
        let folder = ground.folder.join(ground.name);
        create(&folder)?;
        let redis = match &ground.programs.servers {
            Some(servers) => Some(Redis::start(servers, &folder, ports).await?),
            None => None,
        };
        let companion = companion(ground, &folder, unit_ports, redis.as_ref()).await?;
        let mut instances = Vec::new();
        for id in FIRST_INSTANCES {
            let instance = Instance::start(id, ports.instance(index)?).await?;
            register(&instance, unit_ports.companion).await?;
            instances.push(instance);
        }
        let envoy = envoy(ground.programs, &folder, unit_ports).await?;
        placed(unit_ports.listener, unit_ports.admin).await?;
        Ok(Self {
            name: ground.name.to_owned(),
            envoy,
            companion,
            redis,
            instances: Mutex::new(instances),
            ports: unit_ports,
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
        let instance = Instance::start(&id, port.map_err(words)?).await;
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
            self.companion()
        ))
    }

    /// The port of the control server.
    pub(super) fn control_port(&self) -> u16 {
        self.ports.control
    }

    /// The companion's address for curl.
    pub(super) fn companion(&self) -> String {
        format!("127.0.0.1:{}", self.ports.companion)
    }

    pub(super) fn describe(&self, with_name: bool) -> String {
        let heading = if with_name {
            format!("unit {}\n", self.name)
        } else {
            String::new()
        };
        let redis = self.redis.as_ref();
        let redis = redis.map(|redis| format!("\n  Redis      127.0.0.1:{}", redis.port));
        format!(
            "{heading}  Envoy      http://127.0.0.1:{}   admin http://127.0.0.1:{}\n  \
             companion  http://{}   EDS 127.0.0.1:{}\n  \
             instances  a b c d, of the service `orders`   control 127.0.0.1:{}{}",
            self.ports.listener,
            self.ports.admin,
            self.companion(),
            self.ports.xds,
            self.ports.control,
            redis.unwrap_or_default(),
        )
    }

    pub(super) fn suggestions(&self) -> String {
        let companion = self.companion();
        let control = format!("127.0.0.1:{}", self.ports.control);
        let lines = [
            (
                format!(
                    "curl -i -H 'x-user-id: ada' 127.0.0.1:{}/",
                    self.ports.listener
                ),
                "who answers, and why",
            ),
            (
                format!("curl '{companion}/v1/services/orders/locate?key=ada'"),
                "the same, without a request",
            ),
            (
                format!("curl -X POST {control}/instances"),
                "adds e, which takes its share of keys",
            ),
            (
                format!("curl -X DELETE {control}/instances/b"),
                "kills b: callers do not notice",
            ),
            (
                format!("curl {companion}/v1/services/orders"),
                "the loads of all instances",
            ),
            (
                format!("curl '{companion}/v1/events?format=json'"),
                "what happened to them",
            ),
            (
                format!("curl -X PUT {companion}/v1/data/profiles/ada -d hello"),
                "writes a record",
            ),
            (format!("curl {companion}/v1/data/profiles/ada"), "reads it"),
        ];
        lines
            .map(|(command, why)| format!("  {command:<60} # {why}"))
            .join("\n")
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

async fn envoy(programs: &Programs, folder: &Path, ports: UnitPorts) -> Result<Child, DemoError> {
    let config = folder.join("envoy.yaml");
    let text = configuration(ports, &programs.filter, programs.knows_allow_paths);
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

/// `envoy/eds.yaml` with these ports and this filter.
fn configuration(ports: UnitPorts, filter: &Path, knows_allow_paths: bool) -> String {
    let moved = [
        (10_000, ports.listener),
        (9901, ports.admin),
        (7001, ports.companion),
        (7002, ports.xds),
    ];
    let field = |port: u16| format!("port_value: {port} ");
    // Through names that are no ports: a new port may equal an old one.
    let named = moved.iter().fold(CONFIG.to_owned(), |text, (from, _)| {
        text.replace(&field(*from), &format!("port_value: @{from} "))
    });
    let text = moved.iter().fold(named, |text, (from, to)| {
        text.replace(&format!("port_value: @{from} "), &field(*to))
    });
    let text = text.replace("target/unitring.wasm", &json!(filter).to_string());
    if knows_allow_paths {
        return text;
    }
    let mut lines = Vec::new();
    let mut is_list = false;
    for line in text.lines() {
        is_list = match line.trim_start() {
            "allow_paths:" => true,
            item => is_list && item.starts_with('-'),
        };
        if !is_list {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
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

/// Waits until the filter places requests, and Envoy finds all instances healthy.
async fn placed(listener: u16, admin: u16) -> Result<(), DemoError> {
    let begin = Instant::now();
    let service = format!("http://127.0.0.1:{listener}/");
    let eligible = format!(
        "http://127.0.0.1:{admin}/stats?filter=%5Ewasmcustom.unitring.orders.instances_eligible%24"
    );
    let awaited = format!(": {}", FIRST_INSTANCES.len());
    loop {
        let seen = match web::request("GET", &service, "").await {
            Ok(answer) if answer.status == 200 && answer.reason.is_some() => {
                let stat = web::request("GET", &eligible, "").await;
                match stat {
                    Ok(stat) if stat.body.trim_end().ends_with(&awaited) => return Ok(()),
                    Ok(stat) => stat.body,
                    Err(error) => error,
                }
            }
            Ok(answer) => format!("{} {}", answer.status, answer.body),
            Err(error) => error,
        };
        if begin.elapsed() > PLACED_TIMEOUT {
            let waited = PLACED_TIMEOUT.as_secs();
            return Err(DemoError::Request(format!(
                "requests are not placed after {waited} s: {seen}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: UnitPorts = UnitPorts {
        listener: 7001,
        admin: 12,
        companion: 13,
        xds: 14,
        control: 15,
    };

    #[test]
    fn the_shipped_configuration_is_moved_to_other_ports_and_to_the_filter() {
        let text = configuration(PORTS, Path::new("/else where/f.wasm"), true);
        let ports = |port: u16| text.matches(&format!("port_value: {port} }}")).count();
        assert_eq!([10_000, 9901, 7002].map(ports), [0, 0, 0]);
        assert_eq!([7001, 12, 13, 14].map(ports), [1, 2, 1, 1]);
        assert_eq!(text.matches("filename: \"/else where/f.wasm\"").count(), 1);
        assert!(text.contains("allow_paths"));
    }

    #[test]
    fn an_envoy_that_does_not_know_allow_paths_is_given_none() {
        let text = configuration(PORTS, Path::new("f"), false);
        assert!(!text.contains("allow_paths:") && !text.contains("- exact: /ready"));
        assert!(text.contains("static_resources:\n  listeners:\n    - name: ingress"));
    }
}

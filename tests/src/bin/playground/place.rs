//! One unit of the playground: Envoy with `eds.yaml`, the companion, instances that come and go.

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::{ADMIN, COMPANION, COMPANION_XDS, EnvoyConfig, LISTENER};
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::ports::free_from;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;

const FIRST_INSTANCES: [&str; 4] = ["a", "b", "c", "d"];
const INSTANCES_MAX: usize = 26;
const INSTANCE_PORT: u16 = 8081;
const CONTROL_PORT: u16 = 7003;
/// From the ports of one unit to those of the next.
const UNIT_STEP: usize = 10;

/// A running unit.
pub(crate) struct Place {
    pub(crate) name: String,
    /// Where instances are added and killed.
    pub(crate) control: TcpListener,
    envoy: Envoy,
    companion: Companion,
    instances: Mutex<Vec<Instance>>,
    redis: Option<Redis>,
    /// Added to every default port.
    step: u16,
}

impl Place {
    pub(crate) async fn start(
        index: usize,
        name: &str,
        peers: &[&str],
        rabbit: Option<&Rabbit>,
    ) -> Result<Self> {
        let step = u16::try_from(index * UNIT_STEP)?;
        let (redis, settings) = match rabbit {
            None => (None, Settings::default()),
            Some(rabbit) => {
                let redis = Redis::start().await?;
                let settings = Settings::unit(name, peers, &redis, rabbit);
                (Some(redis), settings)
            }
        };
        let port = free_from(COMPANION + step)?;
        let companion = settings
            .start_on(port, free_from((COMPANION_XDS + step).max(port + 1))?)
            .await?;
        let mut instances = Vec::new();
        for id in FIRST_INSTANCES {
            instances.push(add(id, step, &companion).await?);
        }
        let config = EnvoyConfig::shipped("eds.yaml")?.companion(&companion)?;
        let envoy = Envoy::start_on(
            &config,
            2,
            free_from(LISTENER + step)?,
            free_from(ADMIN + step)?,
        )
        .await?;
        envoy.steers_to(instances.len()).await?;
        let control = TcpListener::bind(("127.0.0.1", free_from(CONTROL_PORT + step)?)).await?;
        let (name, instances) = (name.to_owned(), Mutex::new(instances));
        Ok(Self {
            name,
            control,
            envoy,
            companion,
            instances,
            redis,
            step,
        })
    }

    /// Starts and registers one more instance, and says which.
    pub(crate) async fn add_instance(&self) -> Result<String> {
        let mut instances = self.instances.lock().await;
        let taken = |id: &str| instances.iter().any(|instance| instance.id == id);
        let mut letters = ('a'..='z').map(String::from).take(INSTANCES_MAX);
        let id = letters
            .find(|id| !taken(id))
            .context("there are 26 instances already")?;
        let instance = add(&id, self.step, &self.companion).await?;
        let address = instance.address();
        instances.push(instance);
        Ok(format!("added {id} at {address}"))
    }

    /// Kills an instance. It stays registered: Envoy's health checks notice.
    pub(crate) async fn kill_instance(&self, id: &str) -> Result<String> {
        let mut instances = self.instances.lock().await;
        match instances.iter_mut().find(|instance| instance.id == id) {
            Some(instance) => instance.kill()?,
            None => bail!("there is no instance {id}"),
        }
        let remove = format!(
            "curl -X DELETE {}/v1/services/orders/instances/{id}",
            self.companion()
        );
        Ok(format!("killed {id}; it is still registered: {remove}"))
    }

    /// The companion's address, as curl takes it.
    pub(crate) fn companion(&self) -> String {
        format!("127.0.0.1:{}", self.companion.port)
    }

    pub(crate) fn describe(&self, with_name: bool) -> String {
        let heading = if with_name {
            format!("unit {}\n", self.name)
        } else {
            String::new()
        };
        let redis = self
            .redis
            .as_ref()
            .map(|redis| format!("\n  Redis      127.0.0.1:{}", redis.port));
        format!(
            "{heading}  Envoy      http://127.0.0.1:{}   admin http://127.0.0.1:{}\n  \
             companion  http://{}   EDS 127.0.0.1:{}\n  \
             instances  a b c d, of the service `orders`   control {}{}",
            self.envoy.port,
            self.envoy.admin_port,
            self.companion(),
            self.companion.xds_port,
            self.control(),
            redis.unwrap_or_default(),
        )
    }

    pub(crate) fn suggestions(&self) -> String {
        let (companion, control) = (self.companion(), self.control());
        let lines = [
            (
                format!("curl -i -H 'x-user-id: ada' 127.0.0.1:{}/", self.envoy.port),
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

    fn control(&self) -> String {
        self.control
            .local_addr()
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}

async fn add(id: &str, step: u16, companion: &Companion) -> Result<Instance> {
    let instance = Instance::start_on(id, free_from(INSTANCE_PORT + step)?).await?;
    companion.register(&instance).await?;
    Ok(instance)
}

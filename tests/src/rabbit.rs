//! A real RabbitMQ node of its own: own Erlang port mapper, own cookie, own database.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::{self, PATIENCE};
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::usage;

/// A running RabbitMQ.
#[derive(Debug)]
pub struct Rabbit {
    node: Process,
    // Last: with it goes the folder of the logs.
    place: Place,
}

/// The port mapper and the cookie of nodes that know each other.
#[derive(Debug)]
struct Home {
    port: u16,
    // Erlang would start one as a daemon, which no test would end.
    _process: Process,
    folder: TempDir,
}

#[derive(Debug)]
struct Place {
    port: u16,
    distribution: u16,
    home: Arc<Home>,
    folder: TempDir,
}

impl Home {
    async fn start() -> Result<Arc<Self>> {
        let (port, folder) = (ports::free()?, TempDir::with_prefix("unitring-epmd-")?);
        let mut command = Command::new(programs::part("epmd")?);
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        let mut process = Process::start("epmd", &mut command, folder.path())?;
        process.ready(async || connects(port).await).await?;
        Ok(Arc::new(Self {
            port,
            _process: process,
            folder,
        }))
    }
}

impl Rabbit {
    /// Starts one; takes about ten seconds.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with these lines in its configuration file.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_with(lines: &[&str]) -> Result<Self> {
        ports::with_fresh_ports(async || {
            let place = Place::new(&Home::start().await?)?;
            place.configure(lines)?;
            let node = place.spawn().await?;
            Ok(Self { place, node })
        })
        .await
    }

    /// Starts one with this Erlang term as its `advanced.config`, which has what `rabbitmq.conf` cannot say.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_with_term(term: &str) -> Result<Self> {
        ports::with_fresh_ports(async || {
            let place = Place::new(&Home::start().await?)?;
            place.configure(&[])?;
            fs::write(place.folder.path().join("advanced.config"), term)?;
            let node = place.spawn().await?;
            Ok(Self { place, node })
        })
        .await
    }

    /// Starts this many nodes as one cluster.
    ///
    /// # Errors
    /// They do not come up, or do not find each other.
    pub async fn cluster(count: usize) -> Result<Vec<Self>> {
        ports::with_fresh_ports(async || {
            let home = Home::start().await?;
            let places: Result<Vec<Place>> = (0..count).map(|_| Place::new(&home)).collect();
            let places = places?;
            let mut lines =
                vec!["cluster_formation.peer_discovery_backend = classic_config".to_owned()];
            let nodes = (1..).zip(&places);
            lines.extend(nodes.map(|(number, place)| {
                let node = place.node_name();
                format!("cluster_formation.classic_config.nodes.{number} = {node}")
            }));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut cluster = Vec::with_capacity(count);
            // One after the other: the first node makes the cluster, and the others find it.
            for place in places {
                place.configure(&lines)?;
                let node = place.spawn().await?;
                cluster.push(Self { place, node });
            }
            Ok(cluster)
        })
        .await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Puts these lines into its configuration file, for its next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        self.place.configure(lines)
    }

    /// `amqp://guest:guest@127.0.0.1:<port>/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.place.port)
    }

    /// Waits until these quorum queues survive a kill. RabbitMQ confirms their declaration up to
    /// half a second before their names are on disk; one that is lost in between has no leader after
    /// the restart, for ever (seen on 3.10.8).
    ///
    /// # Errors
    /// They never come to disk.
    pub async fn keeps(&self, queues: &[&str]) -> Result<()> {
        let node = self.place.node_name();
        let folder = self.place.folder.path().join("mnesia").join(&node);
        let names = folder.join("quorum").join(&node).join("names.dets");
        deadline::until("the queues to be on disk", async || {
            let bytes = fs::read(&names)?;
            let text = String::from_utf8_lossy(&bytes);
            let missing: Vec<_> = queues
                .iter()
                .filter(|queue| !text.contains(**queue))
                .collect();
            ensure!(missing.is_empty(), "{missing:?} are not");
            Ok(())
        })
        .await
    }

    /// Its Erlang machine's process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn process(&self) -> Result<u32> {
        usage::program_below(self.node.id(), "beam.smp")
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.node.kill()
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.node.kill()?;
        self.node = self.place.spawn().await?;
        Ok(())
    }
}

impl Place {
    fn new(home: &Arc<Home>) -> Result<Self> {
        Ok(Self {
            port: ports::free()?,
            distribution: ports::free()?,
            home: Arc::clone(home),
            folder: TempDir::with_prefix("unitring-rabbit-")?,
        })
    }

    fn configure(&self, lines: &[&str]) -> Result<()> {
        let advanced = self.folder.path().join("advanced.config");
        if !advanced.exists() {
            fs::write(advanced, "[].\n")?;
        }
        let text = lines.join("\n") + "\n";
        fs::write(self.folder.path().join("rabbitmq.conf"), text)?;
        Ok(())
    }

    fn node_name(&self) -> String {
        format!("unitring{}@localhost", self.port)
    }

    async fn spawn(&self) -> Result<Process> {
        let folder = self.folder.path();
        let mut command = Command::new(programs::part("rabbitmq-server")?);
        command
            .env("HOME", self.home.folder.path())
            .env("ERL_EPMD_PORT", self.home.port.to_string())
            .env("RABBITMQ_NODENAME", self.node_name())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOGS", "-")
            // Many of them share few cores: none waits by turning in circles.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none",
            )
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            // Not this machine's own configuration in /etc/rabbitmq.
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env(
                "RABBITMQ_ADVANCED_CONFIG_FILE",
                folder.join("advanced.config"),
            )
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("environment"));
        let mut process = Process::start("rabbitmq", &mut command, folder)?;
        // On a busy machine its start took more than two minutes.
        process
            .ready_within(3 * PATIENCE, async || speaks_amqp(self.port).await)
            .await?;
        Ok(process)
    }
}

async fn connects(port: u16) -> Result<()> {
    TcpStream::connect(("127.0.0.1", port)).await?;
    Ok(())
}

/// The server's first frame after the client's greeting is Connection.Start, a method frame.
async fn speaks_amqp(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let kind = stream.read_u8().await?;
    ensure!(kind == 1, "frame of type {kind}");
    Ok(())
}

//! A TCP service: instances that speak first, clients from any address of this machine, and an Envoy with the shipped
//! `tcp.yaml` before them.
//!
//! The program of an instance is `bin/tcp_instance`, which documents what a client can ask of it.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::companion::{Companion, Settings};
use crate::config::{EnvoyConfig, endpoints_at};
use crate::deadline::{PATIENCE, until};
use crate::envoy::Envoy;
use crate::gauges::has_in_flight_at;
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::shell::Shell;

/// A running instance.
#[derive(Debug)]
pub struct TcpInstance {
    /// The name in its greeting.
    pub id: String,
    /// The port on 127.0.0.1.
    pub port: u16,
    options: Vec<String>,
    process: Process,
    folder: TempDir,
}

/// The instance's own count of its connections.
#[derive(Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// The most that were open.
    pub peak: usize,
}

impl TcpInstance {
    /// Starts an instance on a free port.
    ///
    /// # Errors
    /// The instance does not come up.
    pub async fn start(id: &str, options: &[&str]) -> Result<Self> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        ports::with_fresh_ports(async || {
            let port = ports::free()?;
            let folder = TempDir::with_prefix("unitring-tcp-")?;
            let process = spawn(id, port, &options, &folder).await?;
            Ok(Self {
                id: id.to_owned(),
                port,
                options: options.clone(),
                process,
                folder,
            })
        })
        .await
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its own count of connections.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn connections(&self) -> Result<Connections> {
        let mut asked = Connection::open(self.port, Ipv4Addr::LOCALHOST, "load").await?;
        let told = asked.line().await?;
        let (open, peak) = told.split_once(' ').context("no two numbers")?;
        Ok(Connections {
            open: open.parse()?,
            peak: peak.parse()?,
        })
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends SIGKILL: connections close without notice.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts the same instance again, on its port.
    ///
    /// # Errors
    /// The instance does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.id, self.port, &self.options, &self.folder).await?;
        Ok(())
    }
}

async fn spawn(id: &str, port: u16, options: &[String], folder: &TempDir) -> Result<Process> {
    let mut command = Command::new(programs::built("tcp_instance")?);
    command.args([id, &port.to_string()]).args(options);
    let mut process = Process::start(&format!("tcp-{id}"), &mut command, folder.path())?;
    process.listens(([127, 0, 0, 1], port)).await?;
    Ok(process)
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The instance that greeted.
    pub instance: String,
    /// The address from which the instance saw it come.
    pub seen_from: String,
    /// The stream after the greeting.
    pub stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to this port from this client address, reads the greeting, and says what the connection is for.
    ///
    /// # Errors
    /// Nothing listens, or no instance greets.
    pub async fn open(port: u16, client: Ipv4Addr, purpose: &str) -> Result<Self> {
        Self::open_with(port, client, "", purpose).await
    }

    /// The same, with bytes that the client sends before it is greeted.
    ///
    /// # Errors
    /// Nothing listens, or no instance greets.
    pub async fn open_with(
        port: u16,
        client: Ipv4Addr,
        first: &str,
        purpose: &str,
    ) -> Result<Self> {
        let stream = connect(port, client).await?;
        let mut this = Self {
            instance: String::new(),
            seen_from: String::new(),
            stream: BufReader::new(stream),
        };
        this.stream.write_all(first.as_bytes()).await?;
        let greeting = this.line().await?;
        let (instance, from) = greeting.split_once(' ').context("no greeting")?;
        (this.instance, this.seen_from) = (instance.to_owned(), from.to_owned());
        let purpose = format!("{purpose}\n");
        this.stream.write_all(purpose.as_bytes()).await?;
        Ok(this)
    }

    /// A line without its end.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut line)).await??;
        let line = line.strip_suffix('\n');
        Ok(line.context("the connection ended")?.to_owned())
    }

    /// Sends these bytes and waits until they have come back.
    ///
    /// # Errors
    /// The connection ended, or other bytes came.
    pub async fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        timeout(PATIENCE, self.stream.read_exact(&mut back)).await??;
        ensure!(back == bytes, "another echo");
        Ok(())
    }

    /// Reads until the other end closes; returns what came.
    ///
    /// # Errors
    /// It ends by a reset, or not at all.
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await??;
        Ok(rest)
    }
}

/// A bare connection to this port of 127.0.0.1 from this client address.
///
/// # Errors
/// Nothing listens.
pub async fn connect(port: u16, client: Ipv4Addr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((client, 0).into())?;
    let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An own address for each of up to 65,000 clients: each is another key.
pub fn client(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// An Envoy with the shipped `tcp.yaml`, its companion, and instances a, b, c, d.
#[derive(Debug)]
pub struct TcpSite {
    /// The Envoy that takes the connections.
    pub envoy: Envoy,
    pub companion: Companion,
    /// The instances of `orders`.
    pub instances: Vec<TcpInstance>,
}

impl TcpSite {
    /// Starts everything, and waits until the filter steers.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(1, &[], Ok).await
    }

    /// The same with this many workers, instances with these options, and a changed configuration.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start_with(
        workers: u32,
        options: &[&str],
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        Self::start_in(Shell::Filter, workers, options, change).await
    }

    /// The same with this shell of the balancer.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start_in(
        shell: Shell,
        workers: u32,
        options: &[&str],
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        let mut instances = Vec::new();
        for id in ["a", "b", "c", "d"] {
            instances.push(TcpInstance::start(id, options).await?);
        }
        let ports: Vec<u16> = instances.iter().map(|instance| instance.port).collect();
        let (envoy, companion) = front(shell, &ports, workers, change).await?;
        Ok(Self {
            envoy,
            companion,
            instances,
        })
    }

    /// Waits until this many connections are in flight, by the filter's gauges, or by the native module's report.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn has_in_flight(&self, expected: u64) -> Result<()> {
        has_in_flight_at(&self.envoy, &self.companion, expected).await
    }

    /// A client's connection through Envoy.
    ///
    /// # Errors
    /// No instance greets.
    pub async fn open(&self, client: Ipv4Addr, purpose: &str) -> Result<Connection> {
        Connection::open(self.envoy.port, client, purpose).await
    }

    /// The instance of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn instance(&mut self, id: &str) -> Result<&mut TcpInstance> {
        let mut all = self.instances.iter_mut();
        all.find(|instance| instance.id == id)
            .with_context(|| format!("no instance {id}"))
    }

    /// The address of the instance of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn address_of(&self, id: &str) -> Result<String> {
        let found = self.instances.iter().find(|instance| instance.id == id);
        Ok(found
            .with_context(|| format!("no instance {id}"))?
            .address())
    }
}

/// Waits until no byte moves between Envoy and the instances any more, after some have.
///
/// # Errors
/// The deadline passes first.
pub async fn all_is_still(envoy: &Envoy) -> Result<()> {
    let mut before = 0;
    until("all ways to be full", async || {
        let stats = envoy.stats("cluster.orders.upstream_cx").await?;
        let both = stats
            .iter()
            .filter(|(name, _)| name.ends_with("x_bytes_total"));
        let moved: u64 = both.map(|(_, bytes)| bytes).sum();
        let is_still = moved == before && moved > 0;
        before = moved;
        ensure!(is_still, "{moved} bytes");
        Ok(())
    })
    .await
}

/// The shipped file for TCP services, changed, before servers on these ports of 127.0.0.1, with its companion.
///
/// # Errors
/// A server does not come up.
pub async fn front(
    shell: Shell,
    ports: &[u16],
    workers: u32,
    change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
) -> Result<(Envoy, Companion)> {
    let companion = Settings::default().start().await?;
    let config = shell
        .tcp()?
        .endpoints("orders", endpoints_at(ports))?
        .companion(&companion)?;
    let envoy = Envoy::start_with_workers(&change(config)?, workers).await?;
    envoy.steers_to(ports.len()).await?;
    Ok((envoy, companion))
}

/// `tcp.yaml` without the filter and its tunnel: Envoy's `tcp_proxy`, which hashes the client's address.
///
/// # Errors
/// The file does not have the expected form.
pub fn plain(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.by_fallback()?.edit(|bootstrap| {
        let listeners = bootstrap.pointer_mut("/static_resources/listeners");
        let listeners = listeners
            .and_then(Value::as_array_mut)
            .context("no listeners")?;
        listeners.truncate(1);
        let proxy = listeners
            .first_mut()
            .and_then(|listener| listener.pointer_mut("/filter_chains/0/filters/0/typed_config"));
        let fields = proxy
            .and_then(Value::as_object_mut)
            .context("no tcp_proxy")?;
        fields.remove("tunneling_config");
        fields.insert("cluster".to_owned(), json!("orders"));
        fields.insert("hash_policy".to_owned(), json!([{"source_ip": {}}]));
        Ok(())
    })
}

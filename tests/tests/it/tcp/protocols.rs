//! Servers as they are, behind the shipped `tcp.yaml`: a cache whose clients stay with their instance, and a mail server,
//! which speaks first.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::page_part::with;
use unitring_tests::process::Process;
use unitring_tests::redis::Redis;
use unitring_tests::shell::Shell;
use unitring_tests::tcp::{client, connect, front};
use unitring_tests::{ports, programs};

const CLIENTS: u16 = 12;
const POOL: usize = 5;

/// With a health check that the page shows, and without the bound: the servers do not share their data.
fn with_check(config: EnvoyConfig, check: &str) -> Result<EnvoyConfig> {
    with(
        config.setting("load.balance_factor", json!(0))?,
        "tcp.md",
        check,
    )
}

/// A client of Redis with one connection.
struct RedisClient(BufReader<TcpStream>);

impl RedisClient {
    async fn connect(port: u16, client: Ipv4Addr) -> Result<Self> {
        Ok(Self(BufReader::new(connect(port, client).await?)))
    }

    /// Sends a command, and returns the first line of the answer.
    async fn ask(&mut self, command: &str) -> Result<String> {
        self.0
            .write_all(format!("{command}\r\n").as_bytes())
            .await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }
}

#[tokio::test]
async fn all_connections_of_a_pool_find_what_one_of_them_wrote() -> Result<()> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Redis::start_with(&[]).await?);
    }
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    let (envoy, _companion) = front(Shell::Filter, &ports, 1, |config| {
        with_check(config, "ping")
    })
    .await?;
    let mut pools = Vec::new();
    for number in 0..CLIENTS {
        let connections = (0..POOL).map(|_| RedisClient::connect(envoy.port, client(number)));
        pools.push(try_join_all(connections).await?);
    }
    for (number, pool) in pools.iter_mut().enumerate() {
        let writer = pool.first_mut().context("none")?;
        let said = writer.ask(&format!("SETNX session-{number} x")).await?;
        ensure!(said == ":1", "{said}");
        for connection in pool {
            let said = connection.ask(&format!("EXISTS session-{number}")).await?;
            ensure!(said == ":1", "client {number}: {said}");
        }
    }
    // Each record is on one server, and more than one server is used.
    let mut sizes = Vec::new();
    for port in ports {
        let mut direct = RedisClient::connect(port, Ipv4Addr::LOCALHOST).await?;
        let size = direct.ask("DBSIZE").await?;
        sizes.push(size.trim_start_matches(':').parse::<u16>()?);
    }
    ensure!(sizes.iter().sum::<u16>() == CLIENTS, "{sizes:?}");
    ensure!(
        sizes.iter().filter(|size| **size > 0).count() > 1,
        "{sizes:?}"
    );
    super::checks_pass(&envoy, "orders", 3).await
}

/// A mail server, whose log has each mail that it took.
async fn mail_server(folder: &TempDir) -> Result<(u16, Process)> {
    ports::with_fresh_ports(async || {
        let port = ports::free()?;
        let mut command = Command::new(programs::part("aiosmtpd")?);
        command.args(["--nosetuid", "--listen", &format!("127.0.0.1:{port}")]);
        command.env("PYTHONUNBUFFERED", "1");
        let name = format!("mail-{port}");
        let mut process = Process::start(&name, &mut command, folder.path())?;
        process.listens(([127, 0, 0, 1], port)).await?;
        Ok((port, process))
    })
    .await
}

#[tokio::test]
async fn mail_goes_through_the_server_of_its_sender_which_speaks_first() -> Result<()> {
    let folder = TempDir::with_prefix("unitring-mail-")?;
    let mut servers = BTreeMap::new();
    for _ in 0..3 {
        let (port, process) = mail_server(&folder).await?;
        servers.insert(port, process);
    }
    let ports: Vec<u16> = servers.keys().copied().collect();
    let (envoy, companion) = front(Shell::Filter, &ports, 1, |config| {
        with_check(config, "greeting")
    })
    .await?;
    let mail = folder.path().join("mail.txt");
    let mut used = BTreeMap::new();
    for number in 0..CLIENTS {
        let client = client(number);
        let subject = format!("Subject: number {number} from {client}");
        std::fs::write(&mail, format!("{subject}\r\n\r\nHello.\r\n"))?;
        let output = tokio::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "100",
                "--interface",
            ])
            .arg(client.to_string())
            .args([
                "--mail-from",
                "a@example.com",
                "--mail-rcpt",
                "b@example.com",
            ])
            .arg("--upload-file")
            .arg(&mail)
            .arg(format!("smtp://127.0.0.1:{}", envoy.port))
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let owner = companion.owner_of(&client.to_string()).await?;
        let port: u16 = owner.rsplit(':').next().context("no port")?.parse()?;
        let server = servers
            .get(&port)
            .with_context(|| format!("{owner} is none of them"))?;
        until("the mail to be there", async || {
            let log = server.log();
            ensure!(log.contains(&subject), "{client}: not at {owner}: {log}");
            Ok(())
        })
        .await?;
        *used.entry(port).or_insert(0) += 1;
    }
    ensure!(used.len() > 1, "{used:?}");
    super::checks_pass(&envoy, "orders", 3).await
}

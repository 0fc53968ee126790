//! A primary, its replicas, and the Sentinels that monitor them.
#![allow(clippy::indexing_slicing)] // the places come from the lists themselves

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Redis;
use crate::process::Process;
use crate::{deadline, ports, programs};

/// The name by which the Sentinels know the primary.
pub const NAME: &str = "orders";
/// The number of Sentinels; two of them must agree.
const SENTINELS: usize = 3;

/// A primary and its replicas, with their Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers; the first one began as the primary.
    pub servers: Vec<Redis>,
    sentinels: Vec<(u16, Process)>,
    folder: TempDir,
    silence: Duration,
}

impl Sentinels {
    /// Starts a primary with this many replicas, and the Sentinels. `lines` are added to the
    /// configuration of the servers. The Sentinels consider a primary down after this silence: where
    /// none is killed, it is long, or a busy machine has a fail-over.
    ///
    /// # Errors
    /// The servers do not come up.
    pub async fn start(replicas: usize, lines: &[&str], silence: Duration) -> Result<Self> {
        let primary = Redis::start_with(lines).await?;
        let of = format!("replicaof 127.0.0.1 {}", primary.port);
        let mut servers = vec![primary];
        for _ in 0..replicas {
            let mut own = lines.to_vec();
            own.push(&of);
            servers.push(Redis::start_with(&own).await?);
        }
        let folder = TempDir::with_prefix("unitring-sentinels-")?;
        let mut all = Self {
            servers,
            sentinels: Vec::new(),
            folder,
            silence,
        };
        let linked = format!("connected_slaves:{replicas}");
        deadline::until("the replicas are linked", async || {
            let info = all.servers[0].cli(&["INFO", "replication"])?;
            let online = info.matches("state=online").count();
            ensure!(info.contains(&linked) && online == replicas, "{info}");
            Ok(())
        })
        .await?;
        for index in 0..SENTINELS {
            let sentinel = all.start_sentinel(index).await?;
            all.sentinels.push(sentinel);
        }
        deadline::until(
            "the Sentinels know each other and the replicas",
            async || {
                for (port, _) in &all.sentinels {
                    let seen = cli(*port, &["SENTINEL", "MASTER", NAME])?;
                    let seen: Vec<&str> = seen.lines().collect();
                    let field = |name: &str| {
                        let at = seen.iter().position(|field| *field == name);
                        at.and_then(|at| seen.get(at + 1)).copied().unwrap_or("?")
                    };
                    let others = (SENTINELS - 1).to_string();
                    ensure!(field("num-other-sentinels") == others, "{seen:?}");
                    ensure!(field("num-slaves") == replicas.to_string(), "{seen:?}");
                }
                Ok(())
            },
        )
        .await?;
        Ok(all)
    }

    async fn start_sentinel(&self, index: usize) -> Result<(u16, Process)> {
        let port = ports::free()?;
        let folder = self.folder.path().join(index.to_string());
        fs::create_dir_all(&folder)?;
        let configuration = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {NAME} {}\nsentinel failover-timeout {NAME} 3000\n",
            folder.display(),
            self.servers[0].port,
            self.silence.as_millis()
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new(programs::part("redis-server")?);
        command.arg(&configuration).arg("--sentinel");
        let mut process = Process::start("sentinel", &mut command, &folder)?;
        process.ready(async || super::answers(port).await).await?;
        Ok((port, process))
    }

    /// `redis-sentinel://127.0.0.1:<port>,…/orders`.
    pub fn url(&self) -> String {
        let hosts = self.sentinels.iter();
        let hosts: Vec<String> = hosts.map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://{}/{NAME}", hosts.join(","))
    }

    /// The index in `servers` of the server that most Sentinels report as the primary.
    ///
    /// # Errors
    /// The Sentinels don't answer, or do not agree.
    pub fn primary(&self) -> Result<usize> {
        let mut said: BTreeMap<u16, usize> = BTreeMap::new();
        for (port, _) in &self.sentinels {
            // A killed Sentinel has no vote.
            let Ok(address) = cli(*port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]) else {
                continue;
            };
            let port = address.lines().nth(1).context("no address")?.parse()?;
            *said.entry(port).or_default() += 1;
        }
        let most = said.iter().find(|(_, votes)| **votes > SENTINELS / 2);
        let (port, _) = most.with_context(|| format!("they do not agree: {said:?}"))?;
        let server = self.servers.iter().position(|server| server.port == *port);
        server.with_context(|| format!("{port} is none of the servers"))
    }

    /// Kills one Sentinel for good.
    ///
    /// # Errors
    /// The Sentinel cannot be killed.
    pub fn kill_sentinel(&mut self, index: usize) -> Result<()> {
        self.sentinels[index].1.kill()
    }

    /// Waits until every other server replicates the primary, and another fail-over is possible.
    ///
    /// # Errors
    /// The servers take too long.
    pub async fn settled(&self) -> Result<usize> {
        deadline::until("all servers follow one primary", async || {
            let primary = self.primary()?;
            for (place, server) in self.servers.iter().enumerate() {
                let info = server.cli(&["INFO", "replication"])?;
                let follows = format!("master_port:{}", self.servers[primary].port);
                let is_well = match place == primary {
                    true => info.contains("role:master"),
                    false => info.contains(&follows) && info.contains("master_link_status:up"),
                };
                ensure!(is_well, "{place}: {info}");
            }
            Ok(())
        })
        .await?;
        self.primary()
    }
}

fn cli(port: u16, arguments: &[&str]) -> Result<String> {
    super::cli(&["-p", &port.to_string()], arguments)
}

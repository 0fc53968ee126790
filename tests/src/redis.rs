//! A real Redis that does not lose acknowledged writes; below it Sentinels, a Redis Cluster and Redis
//! with TLS.

pub mod cluster;
pub mod sentinel;
pub mod tls;

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline;
use crate::ports;
use crate::process::Process;
use crate::programs;

const CONFIGURATION: &str = "redis.conf";

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    /// Its port on 127.0.0.1.
    pub port: u16,
    process: Process,
    folder: TempDir,
}

impl Redis {
    /// Starts Redis on a free port, with every write on disk before its answer.
    ///
    /// # Errors
    /// Redis does not come up.
    pub async fn start() -> Result<Self> {
        let durable = ["save \"\"", "appendonly yes", "appendfsync always"];
        Self::start_with(&durable).await
    }

    /// Starts Redis with its own defaults and these lines in its configuration file.
    ///
    /// # Errors
    /// Redis does not come up.
    pub async fn start_with(lines: &[&str]) -> Result<Self> {
        ports::with_fresh_ports(async || {
            let (port, folder) = (ports::free()?, TempDir::with_prefix("unitring-redis-")?);
            let own = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nrepl-diskless-sync-delay 0\n",
                folder.path().display()
            );
            let text = own + &lines.join("\n") + "\n";
            fs::write(folder.path().join(CONFIGURATION), text)?;
            let process = Self::spawn(port, &folder, &[]).await?;
            Ok(Self {
                port,
                process,
                folder,
            })
        })
        .await
    }

    async fn spawn(port: u16, folder: &TempDir, options: &[&str]) -> Result<Process> {
        let mut command = Command::new(programs::part("redis-server")?);
        command.arg(folder.path().join(CONFIGURATION)).args(options);
        let mut process = Process::start("redis", &mut command, folder.path())?;
        process.ready(async || answers(port).await).await?;
        Ok(process)
    }

    /// `redis://127.0.0.1:<port>/`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Runs `redis-cli` with these arguments and returns its output.
    ///
    /// # Errors
    /// `redis-cli` fails, or Redis answers with an error.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        cli(&["-p", &self.port.to_string()], arguments)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts Redis again, on the same port and data.
    ///
    /// # Errors
    /// Redis does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Self::spawn(self.port, &self.folder, &[]).await?;
        Ok(())
    }

    /// The same, as a replica of the server on this port.
    ///
    /// # Errors
    /// Redis does not come up.
    pub async fn restart_as_replica_of(&mut self, port: u16) -> Result<()> {
        self.process.kill()?;
        let options = ["--replicaof", "127.0.0.1", &port.to_string()];
        self.process = Self::spawn(self.port, &self.folder, &options).await?;
        Ok(())
    }

    /// Waits until this replica's link to its primary is up: a replica answers before.
    ///
    /// # Errors
    /// It never is.
    pub async fn follows(&self) -> Result<()> {
        deadline::until("the replica to follow", async || {
            let info = self.cli(&["INFO", "replication"])?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await
    }

    /// The process, for signals.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

async fn answers(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    ensure!(
        &answer == b"+PONG",
        "answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// Runs `redis-cli` against the server that the options name.
fn cli(options: &[&str], arguments: &[&str]) -> Result<String> {
    let output = Command::new(programs::part("redis-cli")?)
        .args(options)
        .arg("-e")
        .args(arguments)
        .output()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.success(), "redis-cli {arguments:?}: {text}");
    Ok(text.trim_end().to_owned())
}

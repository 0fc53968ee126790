//! A real Redis that keeps what it acknowledged.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ports;
use crate::process::Process;
use crate::programs;

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    /// Its port on 127.0.0.1.
    pub port: u16,
    process: Process,
    folder: TempDir,
}

impl Redis {
    /// Starts one on a free port, with every write on disk before its answer.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start() -> Result<Self> {
        ports::with_fresh_ports(async || {
            let (port, folder) = (ports::free()?, TempDir::with_prefix("unitring-redis-")?);
            let process = Self::spawn(port, &folder).await?;
            Ok(Self {
                port,
                process,
                folder,
            })
        })
        .await
    }

    async fn spawn(port: u16, folder: &TempDir) -> Result<Process> {
        let mut command = Command::new(programs::part("redis-server")?);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(folder.path());
        let mut process = Process::start("redis", &mut command, folder.path())?;
        process.ready(async || answers(port).await).await?;
        Ok(process)
    }

    /// `redis://127.0.0.1:<port>/`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Self::spawn(self.port, &self.folder).await?;
        Ok(())
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

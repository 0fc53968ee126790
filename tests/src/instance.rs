//! An instance of a service: a child process that answers with the request that it received.
//!
//! The program is `bin/instance`, which documents what a request can ask of it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use reqwest::{Client, Method, Response};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::tally::Load;

/// A running instance.
#[derive(Debug)]
pub struct Instance {
    /// The name in its answers.
    pub id: String,
    /// The port on 127.0.0.1.
    pub port: u16,
    process: Process,
    client: Client,
    folder: TempDir,
}

impl Instance {
    /// Starts an instance on a free port.
    ///
    /// # Errors
    /// The instance does not come up.
    pub async fn start(id: &str) -> Result<Self> {
        ports::with_fresh_ports(async || Self::start_on(id, ports::free()?).await).await
    }

    /// Starts several instances, on ports in ascending order.
    ///
    /// # Errors
    /// An instance does not come up.
    pub async fn start_all(ids: &[&str]) -> Result<Vec<Self>> {
        let mut instances = Vec::new();
        for id in ids {
            instances.push(Self::start(id).await?);
        }
        Ok(instances)
    }

    /// Starts an instance on this port.
    ///
    /// # Errors
    /// The instance does not come up.
    pub async fn start_on(id: &str, port: u16) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-instance-")?;
        let process = Self::spawn(id, port, &folder).await?;
        Ok(Self {
            id: id.to_owned(),
            port,
            process,
            client: Client::new(),
            folder,
        })
    }

    async fn spawn(id: &str, port: u16, folder: &TempDir) -> Result<Process> {
        let mut command = Command::new(programs::built("instance")?);
        command.args([id, &port.to_string()]);
        let mut process = Process::start(&format!("instance-{id}"), &mut command, folder.path())?;
        let url = format!("http://127.0.0.1:{port}/healthz");
        process.answers(&url).await?;
        Ok(process)
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The load as the instance counts it.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn load(&self) -> Result<Load> {
        Ok(self.ask(Method::GET, "/__load").await?.json().await?)
    }

    /// Resets the instance's peak, average and number of requests.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn reset_load(&self) -> Result<()> {
        self.ask(Method::POST, "/__load/reset").await.map(drop)
    }

    /// Sets the duration of every request from now on, until the instance restarts.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn take(&self, service_time: Duration) -> Result<()> {
        let path = format!("/__slow?ms={}", service_time.as_millis());
        self.ask(Method::POST, &path).await.map(drop)
    }

    /// The same, with at most this many requests in progress at a time; the others wait, as for a thread
    /// pool.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn take_with_workers(&self, service_time: Duration, workers: u32) -> Result<()> {
        let path = format!("/__slow?ms={}&workers={workers}", service_time.as_millis());
        self.ask(Method::POST, &path).await.map(drop)
    }

    /// Lets the answers to requests with `held=1` end.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn release(&self) -> Result<()> {
        self.ask(Method::POST, "/__release").await.map(drop)
    }

    /// Every answer has this status from now on; 0 ends that.
    ///
    /// # Errors
    /// The instance does not answer.
    pub async fn fail_with(&self, status: u16) -> Result<()> {
        let path = format!("/__fail?status={status}");
        self.ask(Method::POST, &path).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Response> {
        let url = format!("http://{}{path}", self.address());
        let response = self.client.request(method, url).send().await?;
        Ok(response.error_for_status()?)
    }

    /// Sends SIGSTOP: connections stay open, new ones succeed, and the instance answers nothing.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn pause(&self) -> Result<()> {
        self.process.pause().await
    }

    /// Continues after [`Self::pause`], with the requests that arrived meanwhile.
    ///
    /// # Errors
    /// The system refuses.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
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
        self.process = Self::spawn(&self.id, self.port, &self.folder).await?;
        Ok(())
    }
}

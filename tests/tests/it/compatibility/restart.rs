//! A hot restart: two Envoy processes serve at once, and the new one takes over the counts.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use tempfile::TempDir;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{keys, send};
use unitring_tests::instance::Instance;
use unitring_tests::process::Process;
use unitring_tests::{ports, programs};

use super::KEYS;

/// The two Envoy processes of a hot restart.
struct Restarting {
    folder: TempDir,
    port: u16,
    admin_port: u16,
    client: Client,
}

impl Restarting {
    fn start(&self, name: &str, which: &[&str]) -> Result<Process> {
        let mut command = Command::new(programs::part("envoy")?);
        command.arg("--config-path").arg(self.file());
        command.args(["--concurrency", "1", "--log-level", "warning"]);
        // The old process lives for long enough to end what it has in flight.
        command.args(["--drain-time-s", "1", "--parent-shutdown-time-s", "10"]);
        Process::start(name, command.args(which), self.folder.path())
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("envoy.json")
    }

    async fn admin(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port);
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    async fn stat(&self, name: &str) -> Result<u64> {
        let text = self.admin(&format!("/stats?filter=^{name}$")).await?;
        let value = text.trim().rsplit_once(": ").context("no such stat")?;
        Ok(value.1.parse()?)
    }

    /// The instance that answers for each key; every request must succeed.
    async fn owners(&self) -> Result<Vec<String>> {
        let mut owners = Vec::new();
        for key in keys(KEYS) {
            let url = format!("http://127.0.0.1:{}/", self.port);
            let answer = send(self.client.get(url).header("x-user-id", key)).await?;
            ensure!(answer.status == 200, "{answer:?}");
            owners.push(answer.instance);
        }
        Ok(owners)
    }

    /// Waits until the filter steers to four instances and has no request in flight.
    async fn is_at_rest(&self) -> Result<()> {
        until("four instances and nothing in flight", async || {
            let prefix = "wasmcustom.unitring.orders.";
            let eligible = self.stat(&format!("{prefix}instances_eligible")).await?;
            let in_flight = self.stat(&format!("{prefix}in_flight")).await?;
            ensure!((eligible, in_flight) == (4, 0), "{eligible}, {in_flight}");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_hot_restart_moves_no_key_and_leaves_nothing_in_flight() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let envoy = Restarting {
        folder: TempDir::with_prefix("unitring-restart-")?,
        port: ports::free()?,
        admin_port: ports::free()?,
        client: Client::builder().pool_max_idle_per_host(0).build()?,
    };
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = config.for_asked_version();
    let config = config.on_ports(envoy.port, envoy.admin_port);
    fs::write(envoy.file(), serde_json::to_vec(&config)?)?;
    let base = envoy.folder.path().join("base");
    let path = base.to_str().context("a path that is no text")?;
    let mut first = envoy.start("first", &["--use-dynamic-base-id", "--base-id-path", path])?;
    let ready = format!("http://127.0.0.1:{}/ready", envoy.admin_port);
    first.answers(&ready).await?;
    envoy.is_at_rest().await?;
    let before = envoy.owners().await?;

    let long = format!("http://127.0.0.1:{}/?stream_ms=2000", envoy.port);
    let long = envoy.client.get(long).header("x-user-id", "user-0");
    let long = long.send().await?;
    let base = fs::read_to_string(&base)?;
    let second = ["--base-id", base.trim(), "--restart-epoch", "1"];
    let mut second = envoy.start("second", &second)?;
    second.answers(&ready).await?;
    until("the first one to leave", async || {
        assert_eq!(envoy.owners().await?, before);
        ensure!(first.exited()?.is_some(), "it is there");
        Ok(())
    })
    .await?;
    let told = long.text().await?;
    ensure!(
        told.contains("instance"),
        "what was in flight ended: {told}"
    );
    assert_eq!(envoy.owners().await?, before);
    envoy.is_at_rest().await
}

//! A real Envoy, its answers, and its stats.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::config::EnvoyConfig;
use crate::deadline;
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::shell::Shell;
use crate::usage;

/// A VM of the filter ticks at least four times in this time.
const FOUR_TICKS: Duration = Duration::from_secs(1);

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The port where it takes requests, on 127.0.0.1.
    pub port: u16,
    /// The port of its admin interface.
    pub admin_port: u16,
    /// The shell of the balancer that it loads.
    pub shell: Shell,
    process: Process,
    client: Client,
    _folder: TempDir,
}

/// This many distinct keys.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The instance that answered; empty if none did.
    pub instance: String,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The request that the instance received, as JSON; null if no instance answered.
    pub body: Value,
}

impl Answer {
    /// A header of the answer, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Envoy {
    /// Starts Envoy with one worker.
    ///
    /// # Errors
    /// Envoy does not come up.
    pub async fn start(config: &EnvoyConfig) -> Result<Self> {
        Self::start_with_workers(config, 1).await
    }

    /// Starts Envoy with several workers.
    ///
    /// # Errors
    /// Envoy does not come up.
    pub async fn start_with_workers(config: &EnvoyConfig, workers: u32) -> Result<Self> {
        ports::with_fresh_ports(async || {
            Self::start_on(config, workers, ports::free()?, ports::free()?).await
        })
        .await
    }

    /// Starts this version of Envoy, instead of the one that the tests run with, with one worker.
    ///
    /// # Errors
    /// Envoy does not come up.
    pub async fn start_version(version: &str, config: &EnvoyConfig) -> Result<Self> {
        ports::with_fresh_ports(async || {
            let envoy = Command::new(programs::envoy(version)?);
            let config = config.for_version(version);
            Self::start_as(envoy, &config, 1, ports::free()?, ports::free()?).await
        })
        .await
    }

    async fn start_on(
        config: &EnvoyConfig,
        workers: u32,
        port: u16,
        admin_port: u16,
    ) -> Result<Self> {
        let envoy = Command::new(programs::part("envoy")?);
        let config = config.for_asked_version();
        Self::start_as(envoy, &config, workers, port, admin_port).await
    }

    /// Starts Envoy as a child of a tool that watches programs, such as `valgrind`.
    ///
    /// # Errors
    /// Envoy does not come up.
    pub async fn start_under(
        tool: impl Fn() -> Command,
        config: &EnvoyConfig,
        workers: u32,
    ) -> Result<Self> {
        ports::with_fresh_ports(async || {
            let mut watched = tool();
            watched.arg(programs::part("envoy")?);
            Self::start_as(watched, config, workers, ports::free()?, ports::free()?).await
        })
        .await
    }

    async fn start_as(
        command: Command,
        config: &EnvoyConfig,
        workers: u32,
        port: u16,
        admin_port: u16,
    ) -> Result<Self> {
        let (mut process, folder) = spawn(command, config, workers, port, admin_port)?;
        let url = format!("http://127.0.0.1:{admin_port}/ready");
        process.answers(&url).await?;
        Ok(Self {
            port,
            admin_port,
            shell: config.shell(),
            process,
            client: Client::new(),
            _folder: folder,
        })
    }

    /// Starts an Envoy that must refuse this configuration, and returns its output.
    ///
    /// # Errors
    /// Envoy came up.
    pub async fn refuses(config: &EnvoyConfig) -> Result<String> {
        let envoy = Command::new(programs::part("envoy")?);
        let config = config.for_asked_version();
        let (mut process, _folder) = spawn(envoy, &config, 1, ports::free()?, ports::free()?)?;
        deadline::until(
            "Envoy to refuse its configuration",
            async || match process.exited()? {
                Some(status) if status.success() => bail!("it ended without an error"),
                Some(_) => Ok(process.log()),
                None => bail!("it runs"),
            },
        )
        .await
    }

    /// A GET with the header `x-user-id: ada` and these fields of the query.
    ///
    /// # Errors
    /// Does not fail at present.
    pub fn asking(&self, query: &[(&str, &str)]) -> Result<RequestBuilder> {
        let url = reqwest::Url::parse_with_params(&self.url("/"), query)?;
        Ok(self.client.get(url).header("x-user-id", "ada"))
    }

    /// A request through this Envoy.
    pub fn request(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sends a request with this key.
    ///
    /// # Errors
    /// There is no HTTP answer.
    pub async fn get(&self, key: &str) -> Result<Answer> {
        send(self.request("/").header("x-user-id", key)).await
    }

    /// The instance that answers for each of these keys; every answer must be 200.
    ///
    /// # Errors
    /// An answer is not 200.
    pub async fn owners(&self, keys: &[String]) -> Result<BTreeMap<String, String>> {
        let mut owners = BTreeMap::new();
        for key in keys {
            let Answer {
                status,
                instance,
                body,
                ..
            } = self.get(key).await?;
            ensure!(status == 200, "{key}: {status} {body}");
            owners.insert(key.clone(), instance);
        }
        Ok(owners)
    }

    /// Waits until the expected instance answers for each of these keys.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn has_owners(&self, expected: &BTreeMap<String, String>) -> Result<()> {
        let keys: Vec<String> = expected.keys().cloned().collect();
        deadline::until("each key to be where it was", async || {
            let now = self.owners(&keys).await?;
            ensure!(now == *expected, "{now:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the filter considers this many instances eligible.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn has_eligible(&self, expected: u64) -> Result<()> {
        let what = format!("{expected} eligible instances");
        deadline::until(&what, async || {
            let eligible = self.ours("instances_eligible").await?;
            ensure!(eligible == expected, "{eligible}");
            Ok(())
        })
        .await
    }

    /// Waits until this many instances are healthy, and every VM of the filter steers to them.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn steers_to(&self, instances: usize) -> Result<()> {
        let expected = u64::try_from(instances)?;
        let what = format!("{instances} instances to be healthy and steered to");
        deadline::until(&what, async || {
            let healthy = self.stat("cluster.orders.membership_healthy").await?;
            let eligible = self.ours("instances_eligible").await?;
            ensure!(
                (healthy, eligible) == (expected, expected),
                "{healthy}, {eligible}"
            );
            Ok(())
        })
        .await?;
        if self.shell == Shell::Native {
            // Envoy itself tells the module of every change.
            return Ok(());
        }
        // Envoy's hosts are pending until their first check, and the filter reads them on its own timer:
        // only its second read from now on certainly began after now. Workers adopt what it found at their ticks.
        let looks = async || self.ours("discovery.done").await;
        let (seen, since) = (looks().await?, Instant::now());
        deadline::until("the filter to have seen that", async || {
            let done = looks().await?;
            ensure!(done >= seen + 2, "{seen} looks before, {done} now");
            ensure!(since.elapsed() >= FOUR_TICKS, "workers may not know");
            Ok(())
        })
        .await
    }

    /// Waits until Envoy considers this many instances healthy, with or without the filter.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn has_healthy(&self, instances: usize) -> Result<()> {
        let expected = u64::try_from(instances)?;
        deadline::until(&format!("{instances} healthy instances"), async || {
            let healthy = self.stat("cluster.orders.membership_healthy").await?;
            ensure!(healthy == expected, "{healthy}");
            Ok(())
        })
        .await
    }

    /// Counters and gauges whose names start with this prefix; Envoy creates them when they first move.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.admin("/stats").await?;
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        let ours = pairs.filter(|(name, _)| name.starts_with(prefix));
        Ok(ours
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// One counter or gauge; 0 if Envoy does not have it yet.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        Ok(self.stats(name).await?.get(name).copied().unwrap_or(0))
    }

    /// A stat of the balancer for the service `orders`; 0 if Envoy does not have it yet.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn ours(&self, name: &str) -> Result<u64> {
        self.stat(&format!("{}.{name}", self.shell.stats())).await
    }

    pub fn shell(&self) -> Shell {
        self.shell
    }

    /// The version of this Envoy, such as `1.40.0`.
    ///
    /// # Errors
    /// Envoy's answer has no version.
    pub async fn version(&self) -> Result<String> {
        let info: Value = serde_json::from_str(&self.admin("/server_info").await?)?;
        let version = info.get("version").and_then(Value::as_str);
        // `<commit>/<version>/Clean/…`
        let version = version.and_then(|version| version.split('/').nth(1));
        version.map(str::to_owned).context("no version")
    }

    /// Reads a page of the admin interface.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port);
        Ok(self
            .client
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    /// Fails Envoy's health check and drains its listeners, as before a roll-out, and waits until the
    /// requests in flight have ended. Callers must send no new requests.
    ///
    /// # Errors
    /// The requests do not end.
    pub async fn drain(&self) -> Result<()> {
        self.order("/healthcheck/fail").await?;
        self.order("/drain_listeners?graceful&skip_exit").await?;
        deadline::until("the requests in flight to end", async || {
            let active = self.stat("http.ingress.downstream_rq_active").await?;
            ensure!(active == 0, "{active} are left");
            Ok(())
        })
        .await
    }

    /// Sends SIGTERM, and waits until the process is gone. Requests in flight are cut, so call
    /// [`Self::drain`] first.
    ///
    /// # Errors
    /// The process cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Sends SIGKILL: clients and instances see their connections close without notice.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The resident memory of the process, including V8's.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.process.id())
    }

    /// Sends a POST to the admin interface.
    ///
    /// # Errors
    /// The admin interface refuses it.
    pub async fn order(&self, path: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port);
        self.client.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// There is no HTTP answer.
pub async fn send(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.context("the answer's body")?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let instance = body
        .get("instance")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Ok(Answer {
        status,
        instance,
        headers,
        body,
    })
}

fn spawn(
    mut command: Command,
    config: &EnvoyConfig,
    workers: u32,
    port: u16,
    admin_port: u16,
) -> Result<(Process, TempDir)> {
    let folder = TempDir::with_prefix("unitring-envoy-")?;
    let file = folder.path().join("envoy.json");
    fs::write(
        &file,
        serde_json::to_vec_pretty(&config.on_ports(port, admin_port))?,
    )?;
    command
        .arg("--config-path")
        .arg(&file)
        .arg("--disable-hot-restart");
    command.args(["--concurrency", &workers.to_string()]);
    // An access log is written at once, in place of every ten seconds.
    command.args(["--file-flush-interval-msec", "100"]);
    // Only the balancer's own log lines, which the tests read.
    command.args([
        "--log-level",
        "warning",
        "--component-log-level",
        "wasm:info,dynamic_modules:info",
    ]);
    Ok((
        Process::start("envoy", &mut command, folder.path())?,
        folder,
    ))
}

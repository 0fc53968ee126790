//! The companion as users run it: with the shipped file, and environment variables for what differs.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deadline;
use crate::instance::Instance;
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::rabbit::Rabbit;
use crate::redis::Redis;
use crate::usage;

/// A running companion.
#[derive(Debug)]
pub struct Companion {
    /// Its HTTP port on 127.0.0.1.
    pub port: u16,
    /// Its gRPC port.
    pub xds_port: u16,
    settings: Settings,
    process: Process,
    client: Client,
    folder: TempDir,
}

/// How a companion is started.
#[derive(Debug, Clone)]
pub struct Settings {
    file: &'static str,
    environment: BTreeMap<String, String>,
    outlasts_file_limits: bool,
    open_files: Option<u32>,
}

impl Default for Settings {
    /// One unit on the embedded store.
    fn default() -> Self {
        Self {
            file: "unitring.toml",
            environment: BTreeMap::new(),
            outlasts_file_limits: false,
            open_files: None,
        }
    }
}

impl Settings {
    /// One unit that keeps its data in this Redis.
    pub fn on_redis(redis: &Redis) -> Self {
        Self::at_redis(&redis.url())
    }

    /// One unit whose data is where the URL leads.
    pub fn at_redis(url: &str) -> Self {
        Self::default()
            .variable("UNITRING_STORE_KIND", "redis")
            .variable("UNITRING_STORE_REDIS_URL", url)
    }

    /// A unit of this name that syncs with its peers.
    pub fn unit(name: &str, peers: &[&str], redis: &Redis, rabbit: &Rabbit) -> Self {
        Self {
            file: "unit-east.toml",
            ..Self::default()
        }
        .variable("UNITRING_UNIT", name)
        .variable("UNITRING_STORE_REDIS_URL", &redis.url())
        .variable("UNITRING_SYNC_AMQP_URL", &rabbit.url())
        .variable("UNITRING_SYNC_PEERS", &peers.join(","))
    }

    /// Sets any field, by its environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets a write past a file limit (`prlimit --fsize`) fail, as on a full disk, instead of killing the
    /// companion.
    #[must_use]
    pub fn outlasting_file_limits(mut self) -> Self {
        self.outlasts_file_limits = true;
        self
    }

    /// Lets the companion have so many files open, connections included (`ulimit -n`).
    #[must_use]
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Starts the companion on free ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(&self) -> Result<Companion> {
        ports::with_fresh_ports(async || self.start_on(ports::free()?, ports::free()?).await).await
    }

    /// Starts the companion on these ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_on(&self, port: u16, xds_port: u16) -> Result<Companion> {
        let folder = TempDir::with_prefix("unitring-companion-")?;
        let process = self.spawn(port, xds_port, &folder).await?;
        let settings = self.clone();
        Ok(Companion {
            port,
            xds_port,
            settings,
            process,
            client: Client::new(),
            folder,
        })
    }

    async fn spawn(&self, port: u16, xds_port: u16, folder: &TempDir) -> Result<Process> {
        let program = programs::built("unitring")?;
        let mut command = if self.outlasts_file_limits {
            // A signal that the shell ignores stays ignored in its child.
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
            shell.arg(program);
            shell
        } else if let Some(most) = self.open_files {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]);
            shell.arg(program);
            shell
        } else {
            Command::new(program)
        };
        let file = programs::root()?.join("envoy").join(self.file);
        command
            .arg("serve")
            .arg("--config")
            .arg(file)
            .env("UNITRING_LISTEN", format!("127.0.0.1:{port}"))
            .env("UNITRING_XDS_LISTEN", format!("127.0.0.1:{xds_port}"))
            .current_dir(folder.path());
        if self.file == "unitring.toml" {
            command.env("UNITRING_STORE_PATH", folder.path().join("unitring.redb"));
        }
        command.envs(&self.environment);
        let unit = self
            .environment
            .get("UNITRING_UNIT")
            .map_or("unit", String::as_str);
        let mut process =
            Process::start(&format!("companion-{unit}"), &mut command, folder.path())?;
        if self.environment.contains_key("UNITRING_TLS_CERT") {
            // No client here trusts its certificate.
            let has_said = async || {
                ensure!(log_of(folder, unit)?.contains(" serving "));
                Ok(())
            };
            process.ready(has_said).await?;
            return Ok(process);
        }
        let url = format!("http://127.0.0.1:{port}/healthz");
        process.answers(&url).await?;
        Ok(process)
    }
}

impl Companion {
    /// Makes any call of the API.
    ///
    /// # Errors
    /// There is no HTTP answer.
    pub async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        Ok(self.client.request(method, url).body(body).send().await?)
    }

    /// Makes any call of the API with a token.
    ///
    /// # Errors
    /// There is no HTTP answer.
    pub async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = self.client.request(method, url).bearer_auth(token);
        Ok(request.body(body).send().await?)
    }

    /// Reads JSON from the API.
    ///
    /// # Errors
    /// The answer is anything but a 2xx with JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let response = self.call(Method::GET, path, vec![]).await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "GET {path}: {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("GET {path}: {text}"))
    }

    /// Sends a report; returns the load of the rest of the fleet.
    ///
    /// # Errors
    /// The companion refuses the report.
    pub async fn report(&self, report: &Value) -> Result<Value> {
        let body = report.to_string().into_bytes();
        let response = self.call(Method::POST, "/v1/reports", body).await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "POST /v1/reports: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Runs a command of the program against this companion; returns whether it succeeded, and its
    /// output.
    ///
    /// # Errors
    /// The program does not run.
    pub fn ask(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let url = format!("http://127.0.0.1:{}", self.port);
        let mut command = programs::unitring()?;
        let output = command.args(arguments).env("UNITRING_URL", url).output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(text)?))
    }

    /// Registers an instance of `orders`, or renews it.
    ///
    /// # Errors
    /// The companion refuses.
    pub async fn register(&self, instance: &Instance) -> Result<()> {
        let path = format!("/v1/services/orders/instances/{}", instance.id);
        let body = json!({"address": instance.address(), "weight": 1});
        accepted(
            self.call(Method::PUT, &path, body.to_string().into_bytes())
                .await?,
        )
        .await
    }

    /// Removes an instance of `orders` from the registry.
    ///
    /// # Errors
    /// The companion refuses.
    pub async fn unregister(&self, id: &str) -> Result<()> {
        let path = format!("/v1/services/orders/instances/{id}");
        accepted(self.call(Method::DELETE, &path, vec![]).await?).await
    }

    /// Waits for an event of this kind about the instance of this name or address, with a reason that
    /// contains these words.
    ///
    /// # Errors
    /// The event never comes.
    pub async fn tells(&self, kind: &str, instance: &str, reason: &str) -> Result<Value> {
        deadline::until(&format!("{kind} {instance}: {reason}"), async || {
            let told = self.get("/v1/events?format=json&limit=1000").await?;
            let has = |event: &&Value| {
                let why = event["reason"].as_str().unwrap_or_default();
                event["kind"] == kind && event["instance"] == instance && why.contains(reason)
            };
            let found = told.as_array().into_iter().flatten().find(has).cloned();
            found.with_context(|| told.to_string())
        })
        .await
    }

    /// Writes a record of the dataset `profiles`.
    ///
    /// # Errors
    /// The companion refuses the write.
    pub async fn put_record(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/v1/data/profiles/{key}");
        accepted(
            self.call(Method::PUT, &path, value.as_bytes().to_vec())
                .await?,
        )
        .await
    }

    /// Waits until this unit has the record with this value.
    ///
    /// # Errors
    /// The unit never has it.
    pub async fn has_record(&self, key: &str, value: &str) -> Result<()> {
        deadline::until(&format!("the record {key} to be {value}"), async || {
            let path = format!("/v1/data/profiles/{key}");
            let response = self.call(Method::GET, &path, vec![]).await?;
            let status = response.status();
            let body = response.text().await?;
            ensure!(status.is_success() && body == value, "{status}: {body}");
            Ok(())
        })
        .await
    }

    /// The companion's metrics in the Prometheus text format.
    ///
    /// # Errors
    /// The companion does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.call(Method::GET, "/metrics", vec![]).await?;
        Ok(answer.text().await?)
    }

    /// The value of one metric, by its name and labels.
    ///
    /// # Errors
    /// There is no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.find_map(|rest| rest.strip_prefix(' '));
        let value = value.with_context(|| format!("no {name}: {text}"))?;
        Ok(value.parse()?)
    }

    /// Waits until the metrics have this line.
    ///
    /// # Errors
    /// The metrics never have it.
    pub async fn counts(&self, line: &str) -> Result<()> {
        deadline::until(line, async || {
            let text = self.metrics().await?;
            ensure!(text.lines().any(|found| found == line), "{text}");
            Ok(())
        })
        .await
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// It never does.
    pub async fn is_ready(&self) -> Result<()> {
        deadline::until("the companion to be ready", async || {
            let response = self.call(Method::GET, "/readyz", vec![]).await?;
            let status = response.status();
            ensure!(status.is_success(), "{status}: {}", response.text().await?);
            Ok(())
        })
        .await
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many bytes of memory it has.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.process.id())
    }

    /// Makes it read its settings again.
    ///
    /// # Errors
    /// The system refuses.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends SIGTERM, and waits until the process is gone.
    ///
    /// # Errors
    /// The process cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Starts the companion again, on the same ports and data; kills it first if it runs.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self
            .settings
            .spawn(self.port, self.xds_port, &self.folder)
            .await?;
        Ok(())
    }
}

fn log_of(folder: &TempDir, unit: &str) -> Result<String> {
    let file = folder.path().join(format!("companion-{unit}.log"));
    Ok(std::fs::read_to_string(file)?)
}

async fn accepted(response: Response) -> Result<()> {
    let (status, url) = (response.status(), response.url().clone());
    let text = response.text().await?;
    ensure!(status.is_success(), "{url}: {status}: {text}");
    Ok(())
}

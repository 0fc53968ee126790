//! The companion as users run it: with the shipped file, and environment variables for what differs.

mod settings;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deadline;
use crate::instance::Instance;
use crate::process::Process;
use crate::programs;
use crate::usage;

pub use settings::Settings;

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

    /// The address of the instance of `orders` to which this key belongs, once an Envoy has reported on it.
    ///
    /// # Errors
    /// None ever does.
    pub async fn owner_of(&self, key: &str) -> Result<String> {
        deadline::until("the companion to know the service", async || {
            let path = format!("/v1/services/orders/locate?key={key}");
            let located = self.get(&path).await?;
            let owner = located.pointer("/owner/address").and_then(Value::as_str);
            let owner = owner.map(str::to_owned);
            owner.with_context(|| located.to_string())
        })
        .await
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

async fn accepted(response: Response) -> Result<()> {
    let (status, url) = (response.status(), response.url().clone());
    let text = response.text().await?;
    ensure!(status.is_success(), "{url}: {status}: {text}");
    Ok(())
}

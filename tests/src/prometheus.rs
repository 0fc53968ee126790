//! A Prometheus that scrapes our servers every other second and evaluates the shipped alerts.
//!
//! The alerts' times are shortened, so that a test need not wait for minutes: `for` to `FOR`, and every range to
//! [`RANGE`]. `promtool test rules` tests them as they are.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::deadline::until;
use crate::process::Process;
use crate::{ports, programs};

/// The range that replaces those of the alerts, in Prometheus' form.
pub const RANGE: &str = "10s";

/// What replaces the alerts' `for`: a few evaluations, since on a busy machine one scrape may come too late.
const FOR: &str = "4s";

/// A target: its job, its port, and its unit.
pub type Target<'a> = (&'a str, u16, &'a str);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    client: Client,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with the shipped alerts.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(targets: &[Target<'_>]) -> Result<Self> {
        ports::with_fresh_ports(async || Self::start_on(ports::free()?, targets).await).await
    }

    async fn start_on(port: u16, targets: &[Target<'_>]) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-prometheus-")?;
        let alerts = fs::read_to_string(programs::root()?.join("monitoring/alerts.yml"))?;
        fs::write(folder.path().join("alerts.yml"), shortened(&alerts))?;
        let config = folder.path().join("prometheus.yml");
        // Its own page says how often the rules were evaluated.
        let own = [("prometheus", port, "none")];
        let targets: Vec<Target<'_>> = targets.iter().copied().chain(own).collect();
        fs::write(&config, configuration(&targets))?;
        let mut command = Command::new(programs::part("prometheus")?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start("prometheus", &mut command, folder.path())?;
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        process.answers(&ready).await?;
        Ok(Self {
            port,
            client: Client::new(),
            _process: process,
            _folder: folder,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let url = reqwest::Url::parse_with_params(&url, query)?;
        let answer = self.client.get(url).send().await?;
        let mut body: Value = serde_json::from_str(&answer.text().await?)?;
        let is_done = body.get("status").is_some_and(|status| status == "success");
        ensure!(is_done, "{query:?}: {body}");
        body.get_mut("data").map(Value::take).context("no data")
    }

    /// The series of an expression now.
    ///
    /// # Errors
    /// It does not evaluate.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.get("query", &[("query", expression)]).await?;
        let result = data.get("result").and_then(Value::as_array);
        result.cloned().context("no result")
    }

    /// The alerts that fire.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let data = self.get("alerts", &[]).await?;
        let alerts = data.get("alerts").and_then(Value::as_array);
        let firing = alerts.context("no alerts")?.iter();
        let firing = firing.filter(|alert| alert.get("state").is_some_and(|it| it == "firing"));
        let name = |alert: &Value| {
            alert
                .pointer("/labels/alertname")?
                .as_str()
                .map(str::to_owned)
        };
        Ok(firing.filter_map(name).collect())
    }

    /// An annotation of an alert that fires.
    ///
    /// # Errors
    /// It does not fire, or has none.
    pub async fn annotation(&self, alert: &str, name: &str) -> Result<String> {
        let data = self.get("alerts", &[]).await?;
        let alerts = data.get("alerts").and_then(Value::as_array);
        let mut alerts = alerts.context("no alerts")?.iter();
        let is = |one: &&Value| {
            one.pointer("/labels/alertname")
                .is_some_and(|it| it == alert)
        };
        let found = alerts.find(is).context("it does not fire")?;
        let text = found
            .get("annotations")
            .and_then(|all| all.get(name)?.as_str());
        text.map(str::to_owned)
            .with_context(|| format!("no {name}: {found}"))
    }

    /// Waits until these alerts fire.
    ///
    /// # Errors
    /// One never does.
    pub async fn fires(&self, alerts: &[&str]) -> Result<()> {
        until(&format!("{alerts:?} to fire"), async || {
            let firing = self.firing().await?;
            let all = alerts.iter().all(|alert| firing.contains(*alert));
            ensure!(all, "{firing:?}");
            Ok(())
        })
        .await
    }

    /// Waits until no alert fires.
    ///
    /// # Errors
    /// One fires for good.
    pub async fn is_quiet(&self) -> Result<()> {
        until("no alert to fire", async || {
            let firing = self.firing().await?;
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(())
        })
        .await
    }

    /// How often the rules have been evaluated, each group of them.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn evaluations(&self) -> Result<f64> {
        let expression = "min(prometheus_rule_group_iterations_total)";
        let series = self.query(expression).await?;
        let value = series
            .first()
            .and_then(|one| one.pointer("/value/1")?.as_str());
        Ok(value.context("no evaluation yet")?.parse()?)
    }
}

/// The alerts with short times.
fn shortened(alerts: &str) -> String {
    let mut text = String::new();
    for line in alerts.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            text.push_str(&format!("{}for: {FOR}\n", " ".repeat(indent)));
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('[') {
            text.push_str(before);
            match after.split_once(']') {
                Some((_, after)) => {
                    text.push_str(&format!("[{RANGE}]"));
                    rest = after;
                }
                None => rest = after,
            }
        }
        text.push_str(rest);
        text.push('\n');
    }
    text
}

fn configuration(targets: &[Target<'_>]) -> String {
    // A scrape may take as long as the interval; on a busy machine that is more than a second.
    let mut text = "global: { scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s }\n\
         rule_files: [alerts.yml]\nscrape_configs:\n"
        .to_owned();
    let jobs: BTreeSet<&str> = targets.iter().map(|(job, _, _)| *job).collect();
    for job in jobs {
        let path = match job {
            "unitring-envoy" => "/stats/prometheus",
            _ => "/metrics",
        };
        text.push_str(&format!(
            "  - job_name: {job}\n    metrics_path: {path}\n    static_configs:\n"
        ));
        for (_, port, unit) in targets.iter().filter(|(of, _, _)| *of == job) {
            text.push_str(&format!(
                "      - {{ targets: [\"127.0.0.1:{port}\"], labels: {{ unitring_unit: {unit} }} }}\n"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_short_and_nothing_else_changes() {
        let rule = "        expr: rate(a[5m]) + b{x=\"1\"} > 0\n        for: 10m\n";
        let short = "        expr: rate(a[10s]) + b{x=\"1\"} > 0\n        for: 4s\n";
        assert_eq!(shortened(rule), short);
    }
}

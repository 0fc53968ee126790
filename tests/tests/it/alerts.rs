//! A real Prometheus scrapes two units and an Envoy, with the shipped alerts and the expressions of the dashboards.

mod path;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::{PATIENCE, until, within};
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::programs;
use unitring_tests::prometheus::{Prometheus, RANGE};
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::shell::Shell;

/// Two units; the Envoy reports to the first.
struct Fleet {
    instances: Vec<Instance>,
    envoy: Envoy,
    east: Companion,
    west: Companion,
    west_settings: Settings,
    east_redis: Redis,
    _west_redis: Redis,
    rabbit: Rabbit,
    prometheus: Prometheus,
}

impl Fleet {
    async fn start() -> Result<Self> {
        let rabbit = Rabbit::start().await?;
        // With a limit of memory, so that its part in use is shown.
        let lines = ["appendonly yes", "appendfsync always", "maxmemory 500mb"];
        let (east_redis, west_redis) = (Redis::start_with(&lines).await?, Redis::start().await?);
        create_group(&east_redis)?;
        let east = Settings::unit("east", &["west"], &east_redis, &rabbit);
        let east = east.variable("UNITRING_SYNC_DIGEST_INTERVAL", "1s");
        let east = east.variable("UNITRING_GROUP_SERVERS", &east_redis.url());
        let east = east.start().await?;
        let west_settings = Settings::unit("west", &["east"], &west_redis, &rabbit);
        let west_settings = west_settings.variable("UNITRING_SYNC_DIGEST_INTERVAL", "1s");
        let west = west_settings.start().await?;
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let config = Shell::Filter.config()?.instances(&instances, &[])?;
        let envoy = Envoy::start(&config.companion(&east)?).await?;
        envoy.steers_to(instances.len()).await?;
        let prometheus = Prometheus::start(&[
            ("unitring-companion", east.port, "east"),
            ("unitring-companion", west.port, "west"),
            ("unitring-envoy", envoy.admin_port, "east"),
        ])
        .await?;
        Ok(Self {
            instances,
            envoy,
            east,
            west,
            west_settings,
            east_redis,
            _west_redis: west_redis,
            rabbit,
            prometheus,
        })
    }

    /// Sends some requests and records, so that every metric has a value.
    async fn is_used(&self) -> Result<()> {
        for key in 0..20 {
            self.envoy.get(&format!("key-{key}")).await?;
        }
        self.west.put_record("k", "v").await?;
        self.east.put_record("k2", "v").await
    }

    /// Runs west with its clock moved by this many seconds, or as it is.
    async fn move_clock_of_west(&mut self, seconds: Option<&str>) -> Result<()> {
        let (port, xds_port) = (self.west.port, self.west.xds_port);
        self.west.stop().await?;
        let mut settings = self.west_settings.clone();
        if let Some(seconds) = seconds {
            let library = programs::part("libfaketime.so.1")?;
            settings = settings
                .variable("LD_PRELOAD", library.to_str().context("no path")?)
                .variable("FAKETIME", seconds)
                .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        self.west = settings.start_on(port, xds_port).await?;
        Ok(())
    }
}

/// Makes the server the group of the unit east.
fn create_group(redis: &Redis) -> Result<()> {
    let output = Command::new(programs::built("unitring")?)
        .args(["group", "create", "--unit", "east"])
        .args(["--group-servers", &redis.url()])
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// The expressions of a dashboard, each with its variables filled in.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .filter_map(|target| target["expr"].as_str())
        .map(|expression| {
            expression
                .replace("$__rate_interval", RANGE)
                .replace("$unit", ".*")
                .replace("$service", "orders")
        })
        .collect()
}

/// Every metric that an expression names.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = expression.split(|char| !word(char));
    words
        .filter(|word| word.starts_with("unitring_") && *word != "unitring_unit")
        .collect()
}

#[test]
fn promtool_accepts_the_shipped_files_and_every_alert_has_a_runbook_and_a_test() -> Result<()> {
    let root = programs::root()?;
    for arguments in [
        ["check", "config", "monitoring/prometheus.yml"],
        ["test", "rules", "monitoring/alerts.test.yml"],
    ] {
        let tool = Command::new(programs::part("promtool")?)
            .args(arguments)
            .current_dir(&root)
            .output()?;
        let said = String::from_utf8_lossy(&[tool.stdout, tool.stderr].concat()).into_owned();
        ensure!(tool.status.success(), "{arguments:?}: {said}");
    }
    let alerts = fs::read_to_string(root.join("monitoring/alerts.yml"))?;
    let tests = fs::read_to_string(root.join("monitoring/alerts.test.yml"))?;
    let page = fs::read_to_string(root.join("docs/operate.md"))?;
    let contract = fs::read_to_string(root.join("docs/metrics.md"))?;
    let names: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    ensure!(names.len() >= 20, "{names:?}");
    for name in &names {
        ensure!(
            page.contains(&format!("\n### {name}\n")),
            "{name}: no runbook"
        );
        let anchor = format!("runbook: docs/operate.md#{}", name.to_lowercase());
        ensure!(alerts.contains(&anchor), "{name}: {anchor}");
        for case in ["fires", "stays quiet"] {
            ensure!(
                tests.contains(&format!("- name: {name} {case}\n")),
                "{name} {case}"
            );
        }
    }
    let sections = page.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: Vec<&str> = sections.collect();
    ensure!(sections == names, "{sections:?} {names:?}");
    let mut all: Vec<String> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .map(str::to_owned)
        .collect();
    for file in fs::read_dir(root.join("monitoring/dashboards"))? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(file?.path())?)?;
        all.extend(expressions(&dashboard));
    }
    for metric in all.iter().flat_map(|expression| metrics(expression)) {
        let family = ["_bucket", "_count"]
            .iter()
            .find_map(|end| metric.strip_suffix(end))
            .unwrap_or(metric);
        ensure!(contract.contains(&format!("| `{family}` |")), "{metric}");
    }
    Ok(())
}

#[tokio::test]
async fn no_alert_fires_while_all_is_well_and_each_fires_under_its_fault_and_clears() -> Result<()>
{
    let mut fleet = Fleet::start().await?;
    // With such short times an alert may fire until the units have found each other.
    let mut quiet_since: Option<f64> = None;
    within(
        3 * PATIENCE,
        "no alert in ten evaluations of a fleet in use",
        async || {
            fleet.is_used().await?;
            let now = fleet.prometheus.evaluations().await?;
            let firing = fleet.prometheus.firing().await?;
            if !firing.is_empty() {
                quiet_since = None;
            }
            ensure!(firing.is_empty(), "{firing:?}");
            let since = *quiet_since.get_or_insert(now);
            ensure!(now >= since + 10.0, "none since {since}, it is {now} now");
            Ok(())
        },
    )
    .await?;

    fleet.instances[0].kill()?;
    fleet
        .prometheus
        .fires(&["UnitringInstanceUnhealthy"])
        .await?;
    fleet.instances[0].restart().await?;
    fleet.prometheus.is_quiet().await?;

    fleet.east_redis.kill()?;
    let store = ["UnitringStoreDown", "UnitringGroupDegraded"];
    fleet.prometheus.fires(&store).await?;
    fleet.east_redis.restart().await?;
    fleet.prometheus.is_quiet().await?;

    fleet.rabbit.kill()?;
    let links = ["UnitringLinkDown", "UnitringUnitLinkDown"];
    fleet.prometheus.fires(&links).await?;
    fleet.rabbit.restart().await?;
    fleet.prometheus.is_quiet().await?;

    fleet.move_clock_of_west(Some("+3s")).await?;
    fleet.prometheus.fires(&["UnitringClockSkew"]).await?;
    fleet.move_clock_of_west(None).await?;
    fleet.prometheus.is_quiet().await?;

    let config = Shell::Filter.config()?.instances(&fleet.instances, &[])?;
    let config = config.companion(&fleet.east)?;
    let wrong = config.setting("steer.header", "x-unitring-other".into())?;
    let miswired = Envoy::start(&wrong).await?;
    fleet.prometheus.fires(&["UnitringFilterMiswired"]).await?;
    drop(miswired);
    fleet.prometheus.is_quiet().await?;

    fleet.west.kill()?;
    fleet.prometheus.fires(&["UnitringCompanionDown"]).await?;
    fleet.west.restart().await?;
    fleet.prometheus.is_quiet().await
}

/// Series that are absent in a fleet in which their event never happened, or without a collector of traces.
const MAY_BE_EMPTY: [&str; 3] = ["wiring_findings", "_draining", "_spans_"];

#[tokio::test]
async fn every_expression_of_the_dashboards_has_a_value() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut names = BTreeSet::new();
    for file in fs::read_dir(programs::root()?.join("monitoring/dashboards"))? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(file?.path())?)?;
        names.insert(dashboard["uid"].as_str().context("no uid")?.to_owned());
        for expression in expressions(&dashboard) {
            until(&expression, async || {
                fleet.is_used().await?;
                let series = fleet.prometheus.query(&expression).await?;
                let may_be_empty = MAY_BE_EMPTY.iter().any(|part| expression.contains(part));
                ensure!(may_be_empty || !series.is_empty(), "nothing");
                Ok(())
            })
            .await?;
        }
    }
    ensure!(names.len() == 4, "{names:?}");
    Ok(())
}

//! The metrics keep the contract of docs/metrics.md: names, labels, and which series are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use unitring_tests::collector::Collector;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::scrape::{self, Sample};
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

/// The rows of the filter's table: the name, the type, and the labels.
fn told() -> Result<BTreeMap<String, (String, BTreeSet<String>)>> {
    let page = fs::read_to_string(programs::root()?.join("docs/metrics.md"))?;
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `unitring_filter_")?.split(" | ");
        let name = format!("unitring_filter_{}", cells.next()?.trim_matches('`'));
        let (kind, labels) = (cells.next()?.to_owned(), cells.next()?);
        let labels = labels.split(", ").map(|label| label.trim_matches('`'));
        Some((name, (kind, labels.map(str::to_owned).collect())))
    });
    Ok(rows.collect())
}

async fn shown(site: &Site) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let page = site.envoy.admin("/stats/prometheus").await?;
    scrape::labels(&page, "unitring_filter_")
}

#[tokio::test]
async fn the_page_has_every_metric_of_the_filter_and_no_other() -> Result<()> {
    let site =
        Site::start_with(|config| config.setting("capture", json!({"mode": "async"}))).await?;
    let told = told()?;
    let of_filter = told
        .iter()
        .filter(|(_, (kind, _))| !kind.ends_with("native"));
    let of_filter: BTreeMap<_, _> = of_filter
        .map(|(name, (_, labels))| (name.clone(), labels.clone()))
        .collect();
    until("every metric", async || {
        let shown = shown(&site).await?;
        ensure!(shown == of_filter, "{shown:#?} {of_filter:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_native_module_has_those_that_the_page_says() -> Result<()> {
    let site = Site::start_in(Shell::Native, 1, Ok).await?;
    let told = told()?;
    let of_native = told.iter().filter(|(_, (kind, _))| kind.contains(", "));
    let of_native: BTreeMap<_, _> = of_native
        .map(|(name, (_, labels))| (name.clone(), labels.clone()))
        .collect();
    until("every metric", async || {
        let shown = shown(&site).await?;
        ensure!(shown == of_native, "{shown:#?} {of_native:#?}");
        Ok(())
    })
    .await
}

/// The samples of a metric by the labels that both sides have.
fn by_labels(page: &str, name: &str) -> Result<BTreeMap<(String, String), f64>> {
    let samples = scrape::samples(page)?.into_iter();
    let samples = samples.filter(|sample| sample.name == name);
    let key = |sample: Sample| {
        let label = |name: &str| sample.labels.get(name).cloned().context(name.to_owned());
        Ok(((label("service")?, label("upstream")?), sample.value))
    };
    samples.map(key).collect()
}

#[tokio::test]
async fn the_filter_and_the_companion_show_an_instance_by_the_same_labels() -> Result<()> {
    let site = Site::start().await?;
    for key in 0..60 {
        site.envoy.get(&format!("key-{key}")).await?;
    }
    until("both to have all calls", async || {
        let envoy = site.envoy.admin("/stats/prometheus").await?;
        let companion = site.companion.metrics().await?;
        let envoy = by_labels(&envoy, "unitring_filter_instance_calls_total")?;
        let companion = by_labels(&companion, "unitring_companion_instance_calls_total")?;
        let sum: f64 = envoy.values().sum();
        ensure!(envoy.len() == 4 && sum >= 60.0, "{envoy:?}");
        ensure!(envoy == companion, "{envoy:?} {companion:?}");
        let address = site.instances[0].address();
        ensure!(
            envoy.contains_key(&("orders".to_owned(), address)),
            "{envoy:?}"
        );
        Ok(())
    })
    .await?;
    let sum = |stats: &BTreeMap<String, u64>, end: &str| -> u64 {
        let ours = stats.iter().filter(|(name, _)| name.ends_with(end));
        ours.map(|(_, value)| value).sum()
    };
    until("the names of before to have the same values", async || {
        let old = site.envoy.stats("wasmcustom.unitring.orders.").await?;
        let new = site
            .envoy
            .stats("wasmcustom.unitring_filter.orders;.")
            .await?;
        let (old, new) = (sum(&old, ".calls"), sum(&new, ".calls_total"));
        ensure!(old == new && old >= 60, "{old} {new}");
        Ok(())
    })
    .await?;
    let companion = site.companion.metrics().await?;
    for name in ["healthy", "capacity", "share_ratio"] {
        let name = format!("unitring_companion_instance_{name}");
        let shown = by_labels(&companion, &name)?;
        ensure!(shown.len() == 4, "{name}: {companion}");
        ensure!(shown.values().all(|value| *value > 0.0), "{shown:?}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_without_a_key_are_told_by_both_sides_with_their_reason() -> Result<()> {
    let site = Site::start().await?;
    until("fallbacks", async || {
        site.envoy.request("/").send().await?;
        let envoy = site.envoy.admin("/stats/prometheus").await?;
        let line = r#"unitring_filter_fallback_total{service="orders",reason="no_key"}"#;
        let other = r#"unitring_filter_fallback_total{reason="no_key",service="orders"}"#;
        let value = envoy
            .lines()
            .find_map(|found| found.strip_prefix(line).or(found.strip_prefix(other)));
        let value: f64 = value.context("no such line")?.trim().parse()?;
        let name = "unitring_companion_service_fallbacks_total{service=\"orders\"}";
        let told = site.companion.metric(name).await?;
        ensure!(value > 0.0 && told > 0.0, "{value} {told}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn promtool_accepts_the_page_of_a_lone_unit_which_shows_nothing_that_it_does_not_have()
-> Result<()> {
    let site = Site::start().await?;
    site.envoy.get("ada").await?;
    let times = r#"unitring_companion_request_duration_seconds_count{method="POST",route="/v1/reports",code="2xx"}"#;
    until("a report", async || {
        ensure!(site.companion.metric(times).await? > 0.0);
        Ok(())
    })
    .await?;
    let page = site.companion.metrics().await?;
    scrape::is_accepted(&page)?;
    for absent in [
        "_group_", "_link_up", "_outbox_", "_unit_", "_spans_", "quantile",
    ] {
        ensure!(!page.contains(absent), "{absent}: {page}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        ensure!(site.companion.metric(name).await? > 0.0, "{name}");
    }
    let build = format!(
        "unitring_companion_build_info{{version=\"{}\",",
        env!("CARGO_PKG_VERSION")
    );
    ensure!(page.contains(&build), "{page}");
    Ok(())
}

#[tokio::test]
async fn promtool_accepts_the_page_of_a_unit_with_peers_and_a_group() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, west_redis) = (Redis::start().await?, Redis::start().await?);
    let east = Settings::unit("east", &["west"], &east_redis, &rabbit);
    let east = east.variable("UNITRING_GROUP_SERVERS", &east_redis.url());
    let collector = Collector::start().await?;
    let east = east.variable("UNITRING_TRACE_OTLP", &collector.url());
    let east = east.start().await?;
    let west = Settings::unit("west", &["east"], &west_redis, &rabbit);
    let west = west.start().await?;
    west.put_record("k", "v").await?;
    east.has_record("k", "v").await?;
    until("the lag, the link, the group", async || {
        let page = east.metrics().await?;
        for line in [
            "unitring_companion_link_up 1",
            "unitring_companion_unit_link_up{unit=\"west\"} 1",
            "unitring_companion_unit_lag_seconds_count{unit=\"west\"} 1",
            "unitring_companion_group_servers_away 0",
        ] {
            ensure!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        Ok(())
    })
    .await?;
    scrape::is_accepted(&east.metrics().await?)
}

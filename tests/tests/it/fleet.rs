//! The fleet's load is the sum of the loads of its living Envoys.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Response;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::report;

/// Starts requests that do not end by themselves.
async fn hold(envoy: &Envoy, count: usize) -> Result<Vec<Response>> {
    let requests = (0..count).map(|number| {
        let request = envoy.request("/?stream_ms=120000");
        request.header("x-user-id", format!("user-{number}")).send()
    });
    Ok(try_join_all(requests).await?)
}

async fn carries(companion: &Companion, reporters: usize, in_flight: u64) -> Result<()> {
    let what = format!("{in_flight} in flight, told by {reporters}");
    until(&what, async || {
        let service = companion.get("/v1/services/orders").await?;
        let list = |name| {
            service
                .get(name)
                .and_then(Value::as_array)
                .context("no list")
        };
        let loads = list("instances")?
            .iter()
            .filter_map(|instance| instance["in_flight"].as_u64());
        let seen = (list("reporters")?.len(), loads.sum::<u64>());
        ensure!(seen == (reporters, in_flight), "{service}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_envoy_that_is_killed_leaves_the_fleets_load() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .patient()?
        .instances(&instances, &[])?
        .companion(&companion)?
        .setting("companion.interval", json!("250ms"))?;
    let mut envoys = [Envoy::start(&config).await?, Envoy::start(&config).await?];
    for envoy in &envoys {
        envoy.steers_to(4).await?;
    }
    let held = [hold(&envoys[0], 12).await?, hold(&envoys[1], 8).await?];
    carries(&companion, 2, 20).await?;

    // A killed process gives no requests back: its reports end, and with them its share.
    envoys[0].kill()?;
    carries(&companion, 1, 8).await?;
    drop(held);
    carries(&companion, 1, 0).await
}

#[tokio::test]
async fn the_updates_of_an_instance_are_counted_timed_and_weighed() -> Result<()> {
    let companion = Settings::default().start().await?;
    let send = async |reporter: &str, sequence: u64, updates: u64| {
        let mut instance = report::instance("a", "10.0.0.1:1", 2);
        for (name, count) in [
            ("updates", updates),
            ("update_bytes", 100 * updates),
            ("updates_refused", 2),
            ("updates_dropped", 1),
            ("update_load", 5),
        ] {
            instance[name] = count.into();
        }
        let services = vec![report::service("orders", vec![instance])];
        let mut report = report::report(reporter, sequence, services);
        // A report counts for five intervals, and no other follows.
        report["interval_ms"] = 20_000.into();
        companion.report(&report).await
    };
    send("e~1", 1, 10).await?;
    send("e~2", 1, 20).await?;
    let first = companion.get("/v1/services/orders").await?;
    ensure!(first["instances"][0]["updates_per_s"] == 0.0, "{first}");
    let told = send("e~1", 2, 13).await?;
    let rest = &told["services"][0]["rest"][0];
    ensure!(rest["in_flight"] == 7 && rest["own"] == 7, "{told}");

    let service = companion.get("/v1/services/orders").await?;
    let shown = &service["instances"][0];
    for (name, expected) in [
        ("updates", 33),
        ("update_bytes", 3_300),
        ("updates_refused", 4),
        ("updates_dropped", 2),
        ("in_flight", 4),
        ("update_load", 10),
    ] {
        ensure!(shown[name] == expected, "{name}: {service}");
    }
    // At most the growth in one interval, to one decimal.
    let rate = shown["updates_per_s"].as_f64().context("no rate")?;
    ensure!(rate > 0.0 && rate <= 0.2, "{service}");
    let first = &service["reporters"][0];
    ensure!(first["updates"] == 13, "{service}");
    ensure!(first["updates_per_s"] == rate, "{service}");
    ensure!(service["reporters"][1]["updates_per_s"] == 0.0, "{service}");

    let labels = "{service=\"orders\",upstream=\"a\"}";
    for (name, least) in [
        ("update_bytes_total", 3_300.0),
        ("updates_refused_total", 4.0),
        ("updates_dropped_total", 2.0),
        ("updates_per_second", 0.1),
    ] {
        let metric = format!("unitring_companion_instance_{name}{labels}");
        ensure!(companion.metric(&metric).await? >= least, "{metric}");
    }
    let (_, status) = companion.ask(&["status"])?;
    let line = "a: 4 announcements refused, 2 updates dropped";
    ensure!(status.contains(line) && status.contains("4+10"), "{status}");
    let located = companion.get("/v1/services/orders/locate?key=ada").await?;
    let owner = &located["owner"];
    ensure!(
        owner["in_flight"] == 4 && owner["update_load"] == 10,
        "{located}"
    );
    Ok(())
}

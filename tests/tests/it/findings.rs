//! The wiring mistakes that filters find are shown wherever users look, until they are fixed.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;
use unitring_tests::report::{instance, report, service};

const LINE: &str = "wired wrongly: steer_header (e~1): override_host reads x-other; mend: let it read \
                    x-unitring-host";

fn finding(kind: &str) -> Value {
    json!({
        "kind": kind, "seen": "override_host reads x-other", "mend": "let it read x-unitring-host",
    })
}

async fn reports(
    companion: &Companion,
    reporter: &str,
    sequence: u64,
    findings: Vec<Value>,
) -> Result<()> {
    let instance = instance("10.0.0.1:1", "10.0.0.1:1", 0);
    let mut service = service("orders", vec![instance]);
    service["wiring"] = findings.into();
    let mut report = report(reporter, sequence, vec![service]);
    // A report counts for five intervals, and no other follows.
    report["interval_ms"] = 60_000.into();
    companion.report(&report).await?;
    Ok(())
}

/// The lines of `/readyz`, which stays 200.
async fn told(companion: &Companion) -> Result<Vec<String>> {
    let answer = companion.call(Method::GET, "/readyz", vec![]).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let ready: Value = answer.json().await?;
    ensure!(ready["ready"] == true, "{ready}");
    let lines = ready["wiring"].as_array().context("no wiring")?.iter();
    Ok(lines
        .filter_map(|line| line.as_str().map(ToOwned::to_owned))
        .collect())
}

async fn are_told(companion: &Companion, expected: &[&str]) -> Result<()> {
    until("the findings in /readyz", async || {
        let told = told(companion).await?;
        ensure!(told == expected, "{told:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_wired_wrongly_is_shown_by_every_companion_until_it_is_mended() -> Result<()> {
    let redis = Redis::start().await?;
    let settings = Settings::on_redis(&redis);
    // One companion takes the reports, the other is queried.
    let (taker, companion) = (settings.start().await?, settings.start().await?);
    reports(&taker, "e~0", 1, vec![]).await?;
    are_told(&companion, &[]).await?;
    let both = vec![finding("steer_header"), finding("stats_matcher")];
    reports(&taker, "e~1", 1, both).await?;
    reports(&taker, "e~2", 1, vec![finding("steer_header")]).await?;
    let lines: Vec<String> = [
        ("steer_header", 1),
        ("stats_matcher", 1),
        ("steer_header", 2),
    ]
    .map(|(kind, reporter)| {
        LINE.replace("steer_header", kind)
            .replace("e~1", &format!("e~{reporter}"))
    })
    .into();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    are_told(&companion, &lines).await?;

    let shown = companion.get("/v1/services/orders").await?;
    let wiring: Vec<&Value> = shown["reporters"]
        .as_array()
        .context("no reporters")?
        .iter()
        .map(|reporter| &reporter["wiring"])
        .collect();
    let found = |kinds: &[&str]| Value::from_iter(kinds.iter().map(|kind| finding(kind)));
    ensure!(wiring[0] == &json!([]), "{shown}");
    ensure!(
        wiring[1] == &found(&["steer_header", "stats_matcher"]),
        "{shown}"
    );
    ensure!(wiring[2] == &found(&["steer_header"]), "{shown}");
    let all = companion.get("/v1/services").await?;
    let listed = all["services"][0]["reporters"].as_array();
    let listed = listed.context("no reporters")?.iter();
    let listed: Vec<&Value> = listed.map(|reporter| &reporter["wiring"]).collect();
    ensure!(listed == wiring, "{all}");

    let (is_done, status) = companion.ask(&["status"])?;
    ensure!(
        !is_done && status.starts_with(&lines.join("\n")),
        "{status}"
    );
    for (kind, reporters) in [("steer_header", 2), ("stats_matcher", 1)] {
        let line = format!(
            "unitring_companion_wiring_findings{{service=\"orders\",kind=\"{kind}\"}} {reporters}"
        );
        companion.counts(&line).await?;
    }

    reports(&taker, "e~1", 2, vec![]).await?;
    reports(&taker, "e~2", 2, vec![]).await?;
    are_told(&companion, &[]).await?;
    let (is_done, status) = companion.ask(&["status"])?;
    ensure!(is_done && !status.contains("wired"), "{status}");
    let metrics = companion.metrics().await?;
    ensure!(
        !metrics.contains("unitring_companion_wiring_findings{"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn findings_have_a_bound_and_what_is_cut_is_counted() -> Result<()> {
    let companion = Settings::default().start().await?;
    let mut findings = vec![finding("steer_header"); 20];
    findings[0]["seen"] = "x".repeat(2_000).into();
    findings[1]["mend"] = "clear\u{1b}[2J the\nscreen".into();
    reports(&companion, "e~1", 1, findings).await?;
    companion
        .counts("unitring_companion_findings_cut_total 5")
        .await?;
    let shown = companion.get("/v1/services/orders").await?;
    let kept = &shown["reporters"][0]["wiring"];
    ensure!(kept.as_array().map(Vec::len) == Some(16), "{kept}");
    ensure!(kept[0]["seen"] == "x".repeat(512), "{kept}");
    ensure!(kept[1]["mend"] == "clear [2J the screen", "{kept}");
    ensure!(told(&companion).await?.len() == 16);
    Ok(())
}

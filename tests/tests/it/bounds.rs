//! Invariant 8: every queue, buffer, map, body, retry and label set has a named bound, and a counter for
//! reaching it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use unitring_tests::collector::Collector;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::report::{instance, report as by_hand, service};
use unitring_tests::{ports, programs};

async fn status(companion: &Companion, method: Method, path: &str, body: Vec<u8>) -> Result<u16> {
    Ok(companion.call(method, path, body).await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_many_is_refused_and_counted() -> Result<()> {
    let companion = Settings::default().start().await?;
    let large = vec![b'x'; 9 << 20];
    for path in ["/v1/data/d/k", "/v1/data/d", "/v1/reports", "/v1/updates"] {
        let method = if path.ends_with('k') {
            Method::PUT
        } else {
            Method::POST
        };
        let refused = status(&companion, method, path, large.clone()).await?;
        ensure!(refused == 413, "{path}: {refused}");
    }
    companion
        .counts("unitring_companion_requests_too_large_total 4")
        .await?;

    let mut streams = Vec::new();
    let url = format!("http://127.0.0.1:{}/v1/events", companion.port);
    let client = reqwest::Client::new();
    let open = async || {
        let request = client.get(&url).header("accept", "text/event-stream");
        anyhow::Ok(request.send().await?)
    };
    for _ in 0..128 {
        let stream = open().await?;
        ensure!(stream.status() == 200, "{}", stream.status());
        streams.push(stream);
    }
    ensure!(open().await?.status() == 503);
    companion
        .counts("unitring_companion_event_streams_refused_total 1")
        .await?;
    drop(streams);
    until("a place to be free again", async || {
        let stream = open().await?;
        ensure!(stream.status() == 200, "{}", stream.status());
        Ok(())
    })
    .await
}

/// A report without services, or with this many.
fn report(reporter: &str, services: usize) -> Vec<u8> {
    let service = |number: usize| {
        json!({
            "service": format!("s{number}"),
            "ring": { "version": "r", "points": 17, "shape": { "fill": "maglev", "table_size": 17 } },
            "fallbacks": 0,
            "instances": [],
        })
    };
    let services: Vec<_> = (0..services).map(service).collect();
    let report = json!({
        "version": 1, "reporter": reporter, "sequence": 1, "interval_ms": 60_000, "services": services,
    });
    report.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn reporters_and_what_they_report_have_a_bound() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    let refused = status(&companion, Method::POST, "/v1/reports", report("e~0", 257)).await?;
    ensure!(refused == 400, "{refused}");
    companion
        .counts("unitring_companion_reports_refused_total 1")
        .await?;

    // All reporters that the store remembers but one; they need not have sent a report.
    let script =
        "for number = 2, 4096 do redis.call('ZADD', KEYS[1], ARGV[1], 's0/e~' .. number) end";
    let reporters = "unitring:{local}:reporters";
    redis.cli(&["EVAL", script, "1", reporters, "99999999999999"])?;
    let last = status(&companion, Method::POST, "/v1/reports", report("e~1", 1)).await?;
    ensure!(last == 200, "{last}");
    let one_more = status(&companion, Method::POST, "/v1/reports", report("e~0", 1)).await?;
    ensure!(one_more == 503, "{one_more}");
    companion
        .counts("unitring_companion_reports_refused_total 2")
        .await?;
    companion
        .counts("unitring_companion_writes_too_many_total 1")
        .await
}

#[tokio::test]
async fn no_report_makes_an_instance_look_fuller_than_an_envoy_can_make_it() -> Result<()> {
    let companion = Settings::default().start().await?;
    let lasting = |reporter, sequence, instances| {
        let mut report = by_hand(reporter, sequence, vec![service("orders", instances)]);
        report["interval_ms"] = json!(60_000);
        report
    };
    let honest = instance("a", "10.0.0.1:1", 2);
    let one = companion
        .report(&lasting("e~1", 1, vec![honest.clone()]))
        .await?;
    ensure!(one["services"][0]["rest"][0]["in_flight"] == 0, "{one}");
    // A forged report: every number is the maximum, and the instance appears a hundred times.
    let mut huge = instance("a", "10.0.0.1:1", u64::MAX);
    for name in ["calls", "failures", "updates"] {
        huge[name] = u64::MAX.into();
    }
    huge["weight"] = u32::MAX.into();
    let huge = lasting("e~2", u64::MAX, vec![huge; 100]);
    companion.report(&huge).await?;
    let told = companion.report(&lasting("e~1", 2, vec![honest])).await?;
    let rest = &told["services"][0]["rest"][0];
    ensure!(rest["in_flight"] == 1_000_000 && rest["own"] == 2, "{told}");
    companion
        .counts("unitring_companion_loads_lowered_total 100")
        .await?;
    let shown = companion.get("/v1/services/orders").await?;
    ensure!(shown["instances"][0]["in_flight"] == 1_000_002, "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_is_full_loses_its_oldest_and_says_so() -> Result<()> {
    let (redis, rabbit) = (Redis::start().await?, Rabbit::start().await?);
    // The address has no listener, so everything waits.
    let away = format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports::free()?);
    let settings = Settings::unit("east", &["west"], &redis, &rabbit)
        .variable("UNITRING_SYNC_AMQP_URL", &away)
        .variable("UNITRING_SYNC_OUTBOX_MAX", "20");
    let companion = settings.start().await?;
    for number in 0..40 {
        let path = format!("/v1/data/d/{number}");
        let taken = status(&companion, Method::PUT, &path, b"value".to_vec()).await?;
        ensure!(taken == 201 || taken == 503, "{taken}");
    }
    until("the oldest to have gone", async || {
        let waiting = companion.metric("unitring_companion_outbox_ops").await?;
        let dropped = companion
            .metric("unitring_companion_outbox_dropped_total")
            .await?;
        ensure!(
            dropped > 0.0 && waiting <= 40.0,
            "{waiting} wait, {dropped} are dropped"
        );
        Ok(())
    })
    .await
}

/// The texts between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The source files of a crate, without its tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if matches!(&*name, "tests" | "simulation" | "contract" | "cli") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The parts of the page, with the crates whose bounds each of them names.
const PARTS: [(&str, &[&str]); 3] = [
    ("## The companion", &["companion/src"]),
    (
        "## The filter",
        &["balancer/src", "plugin/src", "routing/src", "protocol/src"],
    ),
    ("## The native module", &["native/src"]),
];

/// Whatever the page names is in the source, and each bound of the source is on the page.
fn each_bound_is_named(root: &Path, page: &str) -> Result<()> {
    for (heading, folders) in PARTS {
        let (_, part) = page.split_once(heading).context(heading)?;
        let part = part.split("\n## ").next().unwrap_or_default();
        let named = named_in(root, folders, part)?;
        let mut files = Vec::new();
        for folder in folders {
            sources(&root.join(folder), &mut files)?;
        }
        for file in files {
            for name in bounds_of(&file)? {
                let bound = (file.clone(), name);
                ensure!(named.contains(&bound), "not in docs/bounds.md: {bound:?}");
            }
        }
    }
    Ok(())
}

/// The bounds that the rows of a part of the page name, each with its file.
fn named_in(root: &Path, folders: &[&str], part: &str) -> Result<BTreeSet<(PathBuf, String)>> {
    let mut named = BTreeSet::new();
    for row in part.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (bounds, _) = row.split_once('|').context("a row without columns")?;
        let (bounds, mut files) = (format!("`{bounds}"), Vec::new());
        for word in quoted(&bounds) {
            if word.ends_with(".rs") {
                // Two crates may have a file of this name.
                let all = folders.iter().map(|folder| root.join(folder).join(word));
                files = all.filter(|path| path.exists()).collect();
                continue;
            }
            let mut is_there = false;
            for file in &files {
                if fs::read_to_string(file)?.contains(word) {
                    is_there = true;
                    named.insert((file.clone(), word.to_owned()));
                }
            }
            ensure!(is_there, "{word} is not there: {row}");
        }
    }
    Ok(named)
}

/// The constants of a file whose names end with `_MAX`.
fn bounds_of(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let names = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("const ")?;
        let (name, _) = rest.split_once(':')?;
        name.ends_with("_MAX").then(|| name.to_owned())
    });
    Ok(names.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_bounds_names_each_and_its_metric() -> Result<()> {
    let root = programs::root()?;
    let page = fs::read_to_string(root.join("docs/bounds.md"))?;
    each_bound_is_named(&root, &page)?;

    let (redis, rabbit) = (Redis::start().await?, Rabbit::start().await?);
    let settings = Settings::unit("east", &["west"], &redis, &rabbit);
    let settings = settings.variable("UNITRING_GROUP_SERVERS", &redis.url());
    let collector = Collector::start().await?;
    let settings = settings.variable("UNITRING_TRACE_OTLP", &collector.url());
    let companion = settings.start().await?;
    // As leader, whose page has all.
    companion.counts("unitring_companion_leader 1").await?;
    companion
        .counts("unitring_companion_group_servers_away 0")
        .await?;
    let stats = fs::read_to_string(root.join("plugin/src/filter/stats.rs"))?;
    until("each metric to be on the page of metrics", async || {
        let text = companion.metrics().await?;
        for word in quoted(&page) {
            if let Some(stat) = word.strip_prefix("unitring.<service>.") {
                ensure!(
                    stats.contains(&format!("\"{stat}\"")),
                    "{word}: no such stat"
                );
            } else if word.starts_with("unitring_") {
                let family = format!("# TYPE {word} ");
                ensure!(text.contains(&family), "{word}: no such metric");
            }
        }
        Ok(())
    })
    .await
}

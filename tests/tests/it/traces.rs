//! Traces: one shows a write from unit to unit, through store, outbox and broker; off, nothing is made; a collector
//! that is away costs nothing but the spans.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use unitring_tests::certificates::Certificates;
use unitring_tests::collector::{Collector, Span};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::ports;
use unitring_tests::proxy::{Link, Proxy};
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::{Brokers, UnitGroup};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const PUT: &str = "PUT /v1/data/{dataset}/{*key}";

fn traced(settings: Settings, collector: &Collector) -> Settings {
    settings.variable("UNITRING_TRACE_OTLP", &collector.url())
}

/// Puts a record, as part of a trace if there is one.
async fn put(companion: &Companion, key: &str, traceparent: Option<&str>) -> Result<()> {
    let url = format!("http://127.0.0.1:{}/v1/data/profiles/{key}", companion.port);
    let mut request = Client::new().put(url).body("value");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(())
}

fn sampled() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

fn noted<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

/// The steps of a write from the unit east to another.
async fn steps(collector: &Collector, to: &str, store: [&str; 2]) -> Result<[Span; 5]> {
    let [writes, applies] = store;
    let request = collector.has("east", PUT, CALLER).await?;
    let write = collector.has("east", writes, &request.id).await?;
    let publish = collector.has("east", "publish", &request.id).await?;
    let apply = collector.has(to, "apply", &publish.id).await?;
    let change = collector.has(to, applies, &apply.id).await?;
    Ok([request, write, publish, apply, change])
}

#[tokio::test]
async fn one_trace_shows_a_write_from_unit_to_unit() -> Result<()> {
    let collector = Collector::start().await?;
    let change = |settings: Settings| traced(settings, &collector);
    let group = UnitGroup::start(2, Brokers::One, change).await?;
    // A tool at the broker: another queue for what goes to the unit north.
    let rabbit = &group.rabbits[0];
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let (options, table) = (QueueDeclareOptions::default(), FieldTable::default());
    channel
        .queue_declare("tool".into(), options, table.clone())
        .await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(
            "tool".into(),
            "unitring.sync".into(),
            "to.north".into(),
            bind,
            table.clone(),
        )
        .await?;
    let consume = BasicConsumeOptions::default();
    let mut seen = channel
        .basic_consume("tool".into(), "tool".into(), consume, table)
        .await?;

    put(&group.members[0].companion, "one", Some(&sampled())).await?;
    group.members[1]
        .companion
        .has_record("one", "value")
        .await?;
    let [request, write, publish, apply, change] =
        steps(&collector, "north", ["EVALSHA write", "EVALSHA apply"]).await?;
    let kinds = [&request, &write, &publish, &apply, &change].map(|span| span.kind);
    assert_eq!(kinds, [2, 3, 4, 5, 3]);
    let spans = collector.trace(TRACE);
    let steps = [&request, &write, &publish, &apply, &change];
    for step in steps {
        assert!(spans.contains(step), "{step:?}");
        assert_eq!(step.failure, None);
    }
    assert_eq!(noted(&request, "http.response.status_code"), "201");
    assert_eq!(noted(&write, "db.system.name"), "redis");
    assert_eq!(noted(&publish, "unitring.to"), "north");
    assert_eq!(publish.events, ["confirmed for north"]);
    assert_eq!(noted(&apply, "unitring.from"), "east");
    let version = noted(&publish, "unitring.version");
    assert!(version.ends_with("@east"), "{version}");
    assert_eq!(noted(&apply, "unitring.version"), version);
    // A key may be a secret, and so may a value.
    for span in &spans {
        let text = format!("{span:?}");
        assert!(
            !text.contains("one\"") && !text.contains("value\""),
            "{text}"
        );
    }

    let header = format!("00-{TRACE}-{}-01", publish.id);
    let header = AMQPValue::LongString(header.into());
    let found = async {
        while let Some(delivery) = seen.next().await {
            let headers = delivery?.properties.headers().clone().unwrap_or_default();
            if headers.inner().get("traceparent") == Some(&header) {
                return Ok(());
            }
        }
        bail!("no more deliveries")
    };
    timeout(PATIENCE, found).await??;

    // Work without a request, such as a look of the leader, makes no span: only a request begins a trace.
    let spans = collector.spans();
    let alone = |span: &&Span| span.parent.is_empty() && span.kind != 2;
    assert_eq!(spans.iter().find(alone), None);
    Ok(())
}

#[tokio::test]
async fn the_embedded_store_keeps_the_trace_of_an_op_over_a_restart() -> Result<()> {
    let collector = Collector::start().await?;
    let rabbit = Rabbit::start().await?;
    let link = Proxy::to(rabbit.port()).await?;
    link.set(Link::Cut);
    let unit = |name: &str, peer: &str, url: &str| {
        traced(Settings::default(), &collector)
            .variable("UNITRING_UNIT", name)
            .variable("UNITRING_SYNC_PEERS", peer)
            .variable("UNITRING_SYNC_AMQP_URL", url)
    };
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", link.port);
    let mut east = unit("east", "west", &url).start().await?;
    let west = unit("west", "east", &rabbit.url()).start().await?;
    put(&east, "two", Some(&sampled())).await?;
    // It waits in the outbox of a process that ends, and the next one reaches the broker.
    collector.has("east", PUT, CALLER).await?;
    east.restart().await?;
    link.set(Link::Up(Duration::ZERO));
    west.has_record("two", "value").await?;
    let [_, write, ..] = steps(&collector, "west", ["write", "change"]).await?;
    assert_eq!(noted(&write, "db.system.name"), "redb");
    Ok(())
}

#[tokio::test]
async fn a_write_at_the_companion_that_does_not_lead_is_traced_as_well() -> Result<()> {
    let collector = Collector::start().await?;
    let rabbit = Rabbit::start().await?;
    let (here, there) = (Redis::start().await?, Redis::start().await?);
    let east = traced(
        Settings::unit("east", &["west"], &here, &rabbit),
        &collector,
    );
    let first = east.start().await?;
    first.is_ready().await?;
    let second = east.start().await?;
    let west = Settings::unit("west", &["east"], &there, &rabbit);
    let west = traced(west, &collector).start().await?;
    for (companion, key) in [(&first, "a"), (&second, "b")] {
        let id = if key == "a" {
            CALLER
        } else {
            "00f067aa0ba902b8"
        };
        put(companion, key, Some(&format!("00-{TRACE}-{id}-01"))).await?;
        west.has_record(key, "value").await?;
        let request = collector.has("east", PUT, id).await?;
        let publish = collector.has("east", "publish", &request.id).await?;
        collector.has("west", "apply", &publish.id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn off_nothing_is_made_and_what_others_trace_is_passed_on() -> Result<()> {
    let collector = Collector::start().await?;
    let rabbit = Rabbit::start().await?;
    let (here, there) = (Redis::start().await?, Redis::start().await?);
    let east = Settings::unit("east", &["west"], &here, &rabbit);
    // The one that leads does not trace, the one that is written to does.
    let quiet = east.start().await?;
    quiet.is_ready().await?;
    let loud = traced(east, &collector).start().await?;
    let west = Settings::unit("west", &["east"], &there, &rabbit);
    let west = traced(west, &collector).start().await?;
    put(&quiet, "off", Some(&sampled())).await?;
    west.has_record("off", "value").await?;
    put(&loud, "on", Some(&sampled())).await?;
    west.has_record("on", "value").await?;
    let request = collector.has("east", PUT, CALLER).await?;
    collector.has("west", "apply", &request.id).await?;
    let applied = collector.trace(TRACE);
    let applied = applied.iter().filter(|span| span.name == "apply").count();
    assert_eq!(applied, 1);
    let page = quiet.metrics().await?;
    assert!(!page.contains("unitring_companion_spans"), "{page}");
    Ok(())
}

#[tokio::test]
async fn the_caller_decides_and_else_the_share_that_is_set() -> Result<()> {
    let collector = Collector::start().await?;
    let none = traced(Settings::default(), &collector).variable("UNITRING_TRACE_SAMPLE", "0");
    let none = none.start().await?;
    let all = traced(Settings::default(), &collector).start().await?;
    put(&none, "silent", None).await?;
    put(&none, "asked", Some(&sampled())).await?;
    collector.has("local", PUT, CALLER).await?;
    put(
        &all,
        "unasked",
        Some(&format!("00-{TRACE}-00f067aa0ba902b9-00")),
    )
    .await?;
    // An invalid context counts as none.
    for garbage in ["", "00-0-0-01", "ff-x", &"9".repeat(4_000)] {
        put(&all, "garbage", Some(garbage)).await?;
    }
    all.get("/v1/data/profiles?prefix=x").await?;
    for path in ["/healthz", "/readyz", "/metrics"] {
        all.call(reqwest::Method::GET, path, vec![]).await?;
    }
    collector.has("local", "GET /v1/data/{dataset}", "").await?;
    let missing = all
        .call(reqwest::Method::GET, "/nothing/here?token=s3cret", vec![])
        .await?;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    collector.has("local", "GET", "").await?;
    let spans = collector.spans();
    let of = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!(of(PUT), 5, "{spans:#?}");
    let unnamed = |span: &&Span| span.name.contains("z") || format!("{span:?}").contains("s3cret");
    assert_eq!(spans.iter().find(unnamed), None);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_the_spans() -> Result<()> {
    let port = ports::free()?;
    let settings = Settings::default()
        .variable("UNITRING_LOG_FORMAT", "json")
        .variable("UNITRING_TRACE_OTLP", &format!("http://127.0.0.1:{port}"));
    let mut companion = settings.start().await?;
    put(&companion, "one", None).await?;
    let said = |companion: &Companion, message: &str| {
        let lines = companion.log();
        let lines = lines.lines().filter(|line| line.contains(message));
        lines.count()
    };
    let away = "the collector takes no spans; they are lost";
    until("the spans to be lost", async || {
        put(&companion, "two", None).await?;
        let lost = companion
            .metric("unitring_companion_spans_lost_total")
            .await?;
        ensure!(lost > 2.0 && said(&companion, away) == 1, "{lost}");
        Ok(())
    })
    .await?;
    let collector = Collector::start_on(port, None).await?;
    until("spans to arrive", async || {
        put(&companion, "three", None).await?;
        ensure!(!collector.spans().is_empty(), "none");
        let sent = companion
            .metric("unitring_companion_spans_exported_total")
            .await?;
        let ended = companion
            .metric("unitring_companion_spans_ended_total")
            .await?;
        ensure!(0.0 < sent && sent < ended, "{sent} of {ended}");
        ensure!(said(&companion, "takes spans again") == 1, "not said");
        Ok(())
    })
    .await?;
    assert_eq!(said(&companion, away), 1);
    // The last spans are sent before the process ends.
    put(&companion, "last", Some(&sampled())).await?;
    companion.stop().await?;
    assert_eq!(collector.trace(TRACE).len(), 2, "request and write");
    Ok(())
}

#[tokio::test]
async fn a_failed_request_is_a_failed_span_and_its_log_line_has_the_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let mut redis = Redis::start().await?;
    let settings = traced(Settings::on_redis(&redis), &collector);
    let companion = settings
        .variable("UNITRING_LOG_FORMAT", "json")
        .start()
        .await?;
    put(&companion, "well", None).await?;
    redis.kill()?;
    let failed = put(&companion, "ill", Some(&sampled())).await;
    assert!(failed.is_err());
    let request = collector.has("local", PUT, CALLER).await?;
    assert!(request.failure.is_some(), "{request:?}");
    assert_eq!(noted(&request, "http.response.status_code"), "503");
    let line = until("the line", async || {
        let log = companion.log();
        let lines = log.lines().filter(|line| line.contains("request failed"));
        let lines = lines.map(serde_json::from_str::<Value>);
        let mut lines = lines.filter_map(Result::ok);
        let line = lines.find(|line| line["trace_id"] == json!(TRACE));
        line.context(log.clone())
    })
    .await?;
    assert!(line["request_id"].is_string(), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_collector_with_tls_is_known_by_its_authority() -> Result<()> {
    let certificates = Certificates::make()?;
    let collector = Collector::start_tls(&certificates).await?;
    let url = collector.url().replace("http://", "https://");
    let settings = Settings::default().variable("UNITRING_TRACE_OTLP", &url);
    let stranger = settings.start().await?;
    let ca = certificates.file("ca.pem").display().to_string();
    let friend = settings.variable("UNITRING_TRACE_TLS_CA", &ca);
    let friend = friend.start().await?;
    put(&stranger, "one", None).await?;
    put(&friend, "two", Some(&sampled())).await?;
    collector.has("local", PUT, CALLER).await?;
    until("the stranger to lose its spans", async || {
        let lost = stranger
            .metric("unitring_companion_spans_lost_total")
            .await?;
        ensure!(lost > 0.0, "none");
        Ok(())
    })
    .await?;
    let others = collector.spans();
    assert!(others.iter().all(|span| span.trace == TRACE), "{others:?}");
    Ok(())
}

#[tokio::test]
async fn who_is_not_let_in_is_not_traced_and_a_full_redis_is_seen_in_the_span() -> Result<()> {
    let collector = Collector::start().await?;
    let redis = Redis::start_with(&["maxmemory 1mb"]).await?;
    let settings = traced(Settings::on_redis(&redis), &collector);
    let companion = settings.variable("UNITRING_TOKEN", "t").start().await?;
    let refused = put(&companion, "stranger", Some(&sampled())).await;
    assert!(refused.is_err());
    let id = "00f067aa0ba902b8";
    let url = format!("http://127.0.0.1:{}/v1/data/profiles/full", companion.port);
    let request = Client::new().put(url).body("value").bearer_auth("t");
    let request = request.header("traceparent", format!("00-{TRACE}-{id}-01"));
    let answer = request.send().await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let request = collector.has("local", PUT, id).await?;
    until("the refused write", async || {
        let spans = collector.spans();
        let writes = spans.iter().filter(|span| span.parent == request.id);
        let mut failures = writes.map(|span| span.failure.as_deref());
        ensure!(failures.any(|failure| failure == Some("OOM")), "{spans:#?}");
        Ok(())
    })
    .await?;
    assert_eq!(request.failure.as_deref(), Some("Service Unavailable"));
    let spans = collector.spans();
    let strangers = spans.iter().filter(|span| span.parent == CALLER);
    assert_eq!(strangers.count(), 0, "{spans:#?}");
    Ok(())
}

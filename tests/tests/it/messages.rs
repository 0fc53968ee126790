//! What travels between units: an entry that cannot be read is set aside alone, and a list without end is cut, in every
//! kind of message. The rest of the message is applied.

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use unitring_routing::hash::xxh64;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::unit;

/// When the sequences of the unit that nobody runs begin, in ms since the Unix epoch.
const INCARNATION: u64 = 1_700_000_000_000;

/// Unit west, and the broker at which somebody speaks in the name of north, its peer that does not run.
struct Listener {
    companion: Companion,
    redis: Redis,
    channel: Channel,
    _rabbit: Rabbit,
}

impl Listener {
    async fn start() -> Result<Self> {
        let (rabbit, redis) = (Rabbit::start().await?, Redis::start().await?);
        let settings = Settings::unit("west", &["north"], &redis, &rabbit)
            .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms");
        let companion = settings.start().await?;
        companion.is_ready().await?;
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&rabbit.url(), properties).await?;
        Ok(Self {
            channel: connection.create_channel().await?,
            companion,
            redis,
            _rabbit: rabbit,
        })
    }

    /// Sends a body in the name of north.
    async fn send(&self, body: &[u8]) -> Result<()> {
        let head = br#"{"version":1,"from":"north","body":"#;
        let message = [head, body, b"}"].concat();
        let (exchange, key) = ("unitring.sync".into(), "to.west".into());
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publish = self
            .channel
            .basic_publish(exchange, key, options, &message, properties);
        publish.await?.await?;
        Ok(())
    }

    /// Sends ops of the bucket of `profiles/<key>`.
    async fn send_ops(&self, key: &str, ops: &[Vec<u8>], rest: &str) -> Result<()> {
        let bucket = bucket(key);
        let head = format!(
            r#"{{"kind":"ops","parts":[{{"bucket":{bucket},"incarnation":{INCARNATION},"ops":["#
        );
        let body = [
            head.as_bytes(),
            &ops.join(&b','),
            b"]",
            rest.as_bytes(),
            b"}]}",
        ]
        .concat();
        self.send(&body).await
    }

    /// Waits until the ops of north are applied up to this one in the bucket of `profiles/<key>`.
    async fn has_applied(&self, key: &str, sequence: u64) -> Result<()> {
        let applied = format!("unitring:{{west:{}}}:applied", bucket(key));
        until("the position to move", async || {
            let position = self.redis.cli(&["HGET", &applied, "north"])?;
            ensure!(
                position == format!("{INCARNATION}.{sequence}"),
                "{position}"
            );
            Ok(())
        })
        .await
    }

    async fn has_set_aside(&self, count: u64) -> Result<()> {
        let line = format!("unitring_companion_records_set_aside_total {count}");
        self.companion.counts(&line).await
    }

    /// The reasons of what is set aside, by name.
    async fn aside(&self) -> Result<Value> {
        let units = self.companion.get("/v1/units").await?;
        Ok(units["sync"]["set_aside"].clone())
    }

    /// Nothing is in the dead-letter queue, and the companion is ready.
    async fn condemned_nothing(&self) -> Result<()> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = "unitring.poison.west".into();
        let queue = self
            .channel
            .queue_declare(name, passive, FieldTable::default());
        ensure!(queue.await?.message_count() == 0);
        let poison = "unitring_companion_poison_messages_total";
        ensure!(self.companion.metric(poison).await? == 0.0);
        self.companion.is_ready().await
    }
}

fn bucket(key: &str) -> u8 {
    xxh64(format!("profiles/{key}").as_bytes()).to_le_bytes()[0]
}

/// An op with these fields beside its sequence and dataset.
fn op(sequence: u64, rest: &str) -> Vec<u8> {
    format!(r#"{{"sequence":{sequence},"dataset":"profiles",{rest}}}"#).into_bytes()
}

fn put(sequence: u64, key: &str, base64: &str) -> Vec<u8> {
    let at = INCARNATION + sequence;
    op(
        sequence,
        &format!(r#""key":"{key}","at":"{at}.0@north","value":"{base64}""#),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_that_cannot_be_read_is_set_aside_alone_and_blocks_nothing() -> Result<()> {
    let west = Listener::start().await?;
    let at = format!("{INCARNATION}.0@north");
    let bad = [
        format!(r#""key":"ada","at":"{at}","expires":1e400"#),
        format!(r#""key":"ada","at":"{at}","expires":1180591620717411303424"#),
        format!(r#""key":"ada","at":"{at}","expires":-1"#),
        format!(r#""key":"half\ud800","at":"{at}","value":"dg==""#),
        r#""key":"ada","at":"1180591620717411303424.0@north""#.to_owned(),
        format!(
            r#""key":"ada","at":"{at}","value":{}1{}"#,
            "[".repeat(9_000),
            "]".repeat(9_000)
        ),
    ];
    let mut ops = vec![put(1, "ada", "b25l")];
    let bad = (2..).zip(&bad).map(|(sequence, bad)| op(sequence, bad));
    ops.extend(bad);
    // Bytes that are no UTF-8.
    let mut bytes = put(8, "ada?", "dg==");
    if let Some(byte) = bytes.iter_mut().find(|byte| **byte == b'?') {
        *byte = 0xff;
    }
    ops.push(bytes);
    ops.push(put(9, "ada", "dHdv"));
    west.send_ops("ada", &ops, "").await?;
    west.companion.has_record("ada", "two").await?;
    west.has_applied("ada", 9).await?;
    west.has_set_aside(7).await?;
    let aside = west.aside().await?;
    let why = aside["north: profiles/ada"].as_str().context("not named")?;
    ensure!(why.contains("number"), "{aside}");
    ensure!(aside["north: profiles/half\\ud800"].is_string(), "{aside}");
    // What comes next is applied as if nothing had been wrong.
    west.send_ops("ada", &[put(10, "ada", "dGhyZWU=")], "")
        .await?;
    west.companion.has_record("ada", "three").await?;
    west.has_applied("ada", 10).await?;
    west.condemned_nothing().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_end_is_cut_and_holds_up_nothing() -> Result<()> {
    let west = Listener::start().await?;
    // As many arguments would be more than Redis takes in a command.
    let passed: Vec<String> = (2..1_000_000_u64).map(|it| it.to_string()).collect();
    let rest = format!(r#","passed":[{}]"#, passed.join(","));
    west.send_ops("ada", &[put(1, "ada", "b25l")], &rest)
        .await?;
    west.companion.has_record("ada", "one").await?;
    west.has_applied("ada", 1_025).await?;
    west.has_set_aside(1).await?;
    let ops: Vec<Vec<u8>> = (1..40_000).map(|it| put(it, "bob", "dHdv")).collect();
    west.send_ops("bob", &ops, "").await?;
    west.companion.has_record("bob", "two").await?;
    west.has_applied("bob", 1_024).await?;
    west.has_set_aside(2).await?;
    let aside = west.aside().await?;
    let why = format!("north: ops of bucket {}", bucket("bob"));
    let why = aside[&why].as_str().context("not named")?;
    ensure!(why.contains("more than the 1024"), "{aside}");
    west.condemned_nothing().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_other_kind_of_message_only_what_cannot_be_read_is_left_out() -> Result<()> {
    let west = Listener::start().await?;
    let (number, at) = (bucket("ada"), format!("{INCARNATION}.0@north"));
    let repair = format!(
        r#"{{"kind":"repair","bucket":{number},"records":[
        {{"dataset":"profiles","key":"ada","at":"{at}","expires":1e400}},
        {{"dataset":"profiles","key":"ada","at":"{at}","value":"b25l"}}],
        "positions":{{"north":"{INCARNATION}.7","a b":"1.1","south":1e400}},"clock":{{"ms":{INCARNATION},"counter":0}},
        "is_last":true}}"#
    );
    west.send(repair.as_bytes()).await?;
    west.companion.has_record("ada", "one").await?;
    west.has_applied("ada", 7).await?;
    west.has_set_aside(3).await?;
    let digests = format!(
        r#"{{"kind":"digests","sent_ms":1,"epoch":1,"store":-1,"fixed":{{"version":1e400,"checksum":"c"}},"buckets":[
        {{"bucket":1e400,"digest":"00","positions":{{}}}},
        {{"bucket":{number},"digest":"00","positions":{{"north":"{INCARNATION}.9"}}}}]}}"#
    );
    west.send(digests.as_bytes()).await?;
    until("the digest that can be read to be compared", async || {
        let units = west.companion.get("/v1/units").await?;
        let compared = &units["sync"]["links"]["north"]["compared"];
        ensure!(compared["missing"] == 2, "{}", units["sync"]["links"]);
        Ok(())
    })
    .await?;
    west.has_set_aside(6).await?;
    let loads = r#"{"kind":"loads","services":[{"service":"bad\ud800","reporters":[]},{"service":"orders","reporters":[
        {"reporter":"e~1","sequence":1e400,"interval_ms":1000,"in_flight":{}},
        {"reporter":"e~2","sequence":1,"interval_ms":60000,"in_flight":{"10.0.0.1:1":5,"10.0.0.2:1":-5}}]}]}"#;
    west.send(loads.as_bytes()).await?;
    until("the load that can be read to count", async || {
        let service = west.companion.get("/v1/services/orders").await?;
        let instances = service["instances"].as_array().context("none")?;
        let counts = |it: &&Value| it["id"] == "10.0.0.1:1" && it["in_flight"] == 5;
        ensure!(instances.iter().any(|it| counts(&it)), "{service}");
        Ok(())
    })
    .await?;
    west.has_set_aside(9).await?;
    let events = r#"{"kind":"events","events":[
        {"at_ms":1e400,"event":"added","service":"orders","instance":"a","reason":"bad"},
        {"at_ms":1700000000000,"event":"added","service":"orders","instance":"b","reason":"good"}]}"#;
    west.send(events.as_bytes()).await?;
    west.companion.tells("added", "b", "good").await?;
    west.has_set_aside(10).await?;
    west.condemned_nothing().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_of_one_record_the_last_is_sent_and_none_is_missed() -> Result<()> {
    let mut rabbit = Rabbit::start().await?;
    let (_east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "first").await?;
    west.has_record("ada", "first").await?;
    // East has heard of west, whose companion knows that sequences can be passed.
    until("the digests of west", async || {
        let units = east.get("/v1/units").await?;
        let compared = &units["sync"]["links"]["west"]["compared"];
        ensure!(compared["comparable"].as_u64() >= Some(1), "{units}");
        Ok(())
    })
    .await?;
    // They wait together for the broker.
    rabbit
        .keeps(&["unitring.sync.east", "unitring.sync.west"])
        .await?;
    rabbit.kill()?;
    for number in 1..=100 {
        east.put_record("ada", &number.to_string()).await?;
    }
    rabbit.restart().await?;
    west.has_record("ada", "100").await?;
    // A message that the broker did not confirm is sent, and counted, again.
    until(
        "all but the first and the last to be left out",
        async || {
            let superseded = east
                .metric("unitring_companion_ops_superseded_total")
                .await?;
            ensure!(superseded >= 99.0, "{superseded}");
            Ok(())
        },
    )
    .await?;
    let applied = format!("unitring:{{west:{}}}:applied", bucket("ada"));
    until("every sequence to be passed", async || {
        let position = west_redis.cli(&["HGET", &applied, "east"])?;
        ensure!(position.ends_with(".101"), "{position}");
        Ok(())
    })
    .await?;
    for name in ["sequence_gaps", "conflicts"] {
        let name = format!("unitring_companion_{name}_total");
        let count = west.metric(&name).await?;
        ensure!(count == 0.0, "{name}: {count}");
    }
    Ok(())
}

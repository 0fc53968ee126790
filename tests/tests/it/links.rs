//! The links between units: which senders may use them, what does not fit through them, and a broker that accepts
//! nothing for a while.

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use reqwest::Method;
use rustix::process::Signal;
use unitring_tests::certificates::Certificates;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::ports;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::site::UnitNode;
use unitring_tests::unit_group::unit;

async fn channel(rabbit: &Rabbit) -> Result<Channel> {
    let url = rabbit.url();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_or_nobody_sent_is_set_aside_and_blocks_nothing() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let east = UnitNode::start("east", &["west"], &rabbit).await?;
    let west = UnitNode::start("west", &["east"], &rabbit).await?;
    let channel = channel(&rabbit).await?;
    let send = async |text: &str| -> Result<()> {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let (exchange, key) = ("unitring.sync".into(), "to.west".into());
        let publish = channel.basic_publish(exchange, key, options, text.as_bytes(), properties);
        publish.await?.await?;
        Ok(())
    };
    send("no message at all").await?;
    send(r#"{"version": 99, "from": "east", "body": {"kind": "later"}}"#).await?;
    send(r#"{"version": 1, "from": "east", "body": {"kind": "ops", "parts": [{"bucket": 1, "incarnation": 1, "ops": [{"sequence": 1, "dataset": "d", "key": "k", "at": "1.0@east"}]}]}}"#).await?;
    send(r#"{"version": 1, "from": "elsewhere", "body": {"kind": "repair_request", "buckets": [1]}}"#).await?;
    east.companion.put_record("after", "them").await?;
    west.companion.has_record("after", "them").await?;
    west.companion
        .counts("unitring_companion_poison_messages_total 2")
        .await?;
    // A record that does not belong to its bucket is set aside alone.
    west.companion
        .counts("unitring_companion_records_set_aside_total 1")
        .await?;
    west.companion
        .counts("unitring_companion_strangers_total 1")
        .await?;
    let units = west.companion.get("/v1/units").await?;
    let stranger = &units["sync"]["strangers"]["elsewhere"];
    ensure!(stranger["messages"] == 1, "{}", units["sync"]);
    until("the other three to be kept apart", async || {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = "unitring.poison.west".into();
        let queue = channel
            .queue_declare(name, passive, FieldTable::default())
            .await?;
        ensure!(queue.message_count() == 3, "{}", queue.message_count());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_speak_tls_with_certificates_to_a_virtual_host_of_their_own() -> Result<()> {
    let (certificates, port) = (Certificates::make()?, ports::free()?);
    let lines = [
        format!("listeners.ssl.default = {port}"),
        format!("ssl_options.cacertfile = {}", certificates.path("ca.pem")),
        format!("ssl_options.certfile = {}", certificates.path("server.pem")),
        format!("ssl_options.keyfile = {}", certificates.path("server.key")),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = true".to_owned(),
        "default_vhost = group".to_owned(),
        "default_user = app".to_owned(),
        "default_pass = s3cret".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let rabbit = Rabbit::start_with(&lines).await?;
    let url = |user: &str| format!("amqps://{user}@127.0.0.1:{port}/group");
    let unit = async |name: &str, peer: &str, user: &str, has_certificate: bool| {
        let redis = Redis::start().await?;
        let mut settings = Settings::unit(name, &[peer], &redis, &rabbit)
            .variable("UNITRING_SYNC_AMQP_URL", &url(user))
            .variable("UNITRING_SYNC_TLS_CA", &certificates.path("ca.pem"));
        if has_certificate {
            settings = settings
                .variable("UNITRING_SYNC_TLS_CERT", &certificates.path("client.pem"))
                .variable("UNITRING_SYNC_TLS_KEY", &certificates.path("client.key"));
        }
        let companion = settings.start().await?;
        Ok::<_, anyhow::Error>((redis, companion))
    };
    let (_east_redis, east) = unit("east", "west", "app:s3cret", true).await?;
    let (_west_redis, west) = unit("west", "east", "app:s3cret", true).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    east.put_record("through", "tls").await?;
    west.has_record("through", "tls").await?;

    let refused = async |companion: &Companion, words: &[&str]| {
        until("the link to be refused, and why", async || {
            let ready = companion.call(Method::GET, "/readyz", vec![]).await?;
            ensure!(ready.status().as_u16() == 503);
            let checks: serde_json::Value = serde_json::from_slice(&ready.bytes().await?)?;
            let link = checks["checks"]["link"].as_str().context("no link")?;
            ensure!(words.iter().any(|word| link.contains(word)), "{link}");
            ensure!(
                !link.contains("s3cret") && !link.contains("wrong"),
                "{link}"
            );
            Ok(())
        })
        .await
    };
    let (_redis, wrong) = unit("east", "west", "app:wrong", true).await?;
    refused(&wrong, &["ACCESS_REFUSED", "refused"]).await?;
    let (_redis, nobody) = unit("east", "west", "app:s3cret", false).await?;
    refused(
        &nobody,
        &["ertificate", "alert", "handshake", "aborted", "IO error"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_nothing_is_said_and_nothing_is_lost() -> Result<()> {
    let mut rabbit = Rabbit::start().await?;
    let east = UnitNode::start("east", &["west"], &rabbit).await?;
    let west = UnitNode::start("west", &["east"], &rabbit).await?;
    east.companion.put_record("before", "1").await?;
    west.companion.has_record("before", "1").await?;
    // West may have it before its confirm has reached east, which would send it again.
    east.companion
        .counts("unitring_companion_outbox_ops 0")
        .await?;
    rabbit
        .keeps(&["unitring.sync.east", "unitring.sync.west"])
        .await?;
    // Under its memory alarm a broker accepts nothing from publishers.
    rabbit.configure(&["vm_memory_high_watermark.absolute = 1MB"])?;
    rabbit.restart().await?;
    east.companion.put_record("during", "2").await?;
    until("the link to say that it is blocked", async || {
        let units = east.companion.get("/v1/units").await?;
        let state = &units["sync"]["links"]["west"]["state"];
        ensure!(
            state
                .as_str()
                .is_some_and(|state| state.contains("blocked")),
            "{state}"
        );
        Ok(())
    })
    .await?;
    east.companion
        .counts("unitring_companion_outbox_ops 1")
        .await?;
    rabbit.configure(&[])?;
    rabbit.restart().await?;
    west.companion.has_record("during", "2").await?;
    east.companion.is_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_held_longer_than_the_broker_allows_comes_again() -> Result<()> {
    // By default half an hour, and looked after once a minute. So short that it is before west's lease ends, a second and
    // a half after its Redis stands still: then west leaves the queue by itself, and no link fails.
    let term = "[{rabbit, [{consumer_timeout, 400}, {channel_tick_interval, 100}]}].";
    let rabbit = Rabbit::start_with_term(term).await?;
    let east = UnitNode::start("east", &["west"], &rabbit).await?;
    let west = UnitNode::start("west", &["east"], &rabbit).await?;
    west.redis.process().pause().await?;
    for number in 0..20 {
        east.companion
            .put_record(&format!("held-{number}"), "v")
            .await?;
    }
    until("the broker to end the channel", async || {
        let failures = west
            .companion
            .metric("unitring_companion_link_failures_total")
            .await?;
        ensure!(failures > 0.0, "the link holds");
        Ok(())
    })
    .await?;
    west.redis.process().signal(Signal::CONT)?;
    for number in 0..20 {
        west.companion
            .has_record(&format!("held-{number}"), "v")
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_in_one_units_name_are_named_and_the_second_says_so() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let unit = async |name: &str, peer: &str| -> Result<(Redis, Companion)> {
        let redis = Redis::start().await?;
        let companion = Settings::unit(name, &[peer], &redis, &rabbit)
            .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms")
            .start()
            .await?;
        Ok((redis, companion))
    };
    let (_redis, east) = unit("east", "west").await?;
    let (_redis, west) = unit("west", "east").await?;
    east.is_ready().await?;
    west.is_ready().await?;
    // A whole second group, by mistake at the same virtual host.
    let (_redis, other_east) = unit("east", "west").await?;
    let (_redis, other_west) = unit("west", "east").await?;
    for (companion, name) in [(&west, "east"), (&east, "west")] {
        until("the namesake to be named", async || {
            let units = companion.get("/v1/units").await?;
            let named = &units["sync"]["namesakes"][name];
            ensure!(named.is_u64(), "{units}");
            Ok(())
        })
        .await?;
        let (is_well, text) = companion.ask(&["status"])?;
        let says = format!("two stores speak in the name of {name}");
        ensure!(!is_well && text.contains(&says), "{text}");
    }
    for other in [&other_east, &other_west] {
        until(
            "the second group to say that it receives nothing",
            async || {
                let units = other.get("/v1/units").await?;
                let inbox = units["sync"]["inbox"].as_str().unwrap_or_default();
                ensure!(
                    inbox.contains("does a second unit use this name"),
                    "{units}"
                );
                Ok(())
            },
        )
        .await?;
        let ready = other.call(Method::GET, "/readyz", vec![]).await?;
        assert_eq!(ready.status().as_u16(), 503);
    }
    // The first group goes on.
    east.put_record("ada", "1").await?;
    west.has_record("ada", "1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_costs_its_own_link_alone() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let bytes = (16 << 20).to_string();
    let unit = async |name: &str, peers: &[&str]| {
        let redis = Redis::start().await?;
        let settings = Settings::unit(name, peers, &redis, &rabbit)
            .variable("UNITRING_SYNC_DIGEST_INTERVAL", "1s")
            .variable("UNITRING_SYNC_QUEUE_BYTES_MAX", &bytes);
        let companion = settings.start().await?;
        companion.is_ready().await?;
        Ok::<_, anyhow::Error>((redis, companion))
    };
    let (_r1, east) = unit("east", &["north", "west"]).await?;
    let (_r2, north) = unit("north", &["east", "west"]).await?;
    let (_r3, mut west) = unit("west", &["east", "north"]).await?;
    // West is away; its queue fills.
    west.kill()?;
    let value = "x".repeat(512 << 10);
    let mut count = 0;
    until("the broker to refuse what is for west", async || {
        count += 1;
        east.put_record(&format!("large-{count}"), &value).await?;
        let refused = east
            .metric("unitring_companion_publishes_failed_total")
            .await?;
        ensure!(refused > 0.0, "{count} records");
        Ok(())
    })
    .await?;
    // North has all of them, and goes on.
    north.has_record(&format!("large-{count}"), &value).await?;
    east.put_record("small", "to north").await?;
    north.has_record("small", "to north").await?;
    // It is counted once a second.
    until("what waits for west to be shown", async || {
        let units = east.get("/v1/units").await?;
        let waiting = units["sync"]["outbox"].as_u64();
        ensure!(waiting > Some(0), "{}", units["sync"]);
        Ok(())
    })
    .await?;
    west.restart().await?;
    west.has_record("small", "to north").await?;
    west.has_record("large-1", &value).await?;
    until("the outbox to be empty", async || {
        let units = east.get("/v1/units").await?;
        ensure!(units["sync"]["outbox"] == 0, "{}", units["sync"]);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_not_heard_is_told_although_its_link_takes_messages() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (_r1, east) = unit("east", "west", &rabbit).await?;
    // It runs, and names another unit.
    let (redis, west) = unit("west", "north", &rabbit).await?;
    let silent = async |is_silent: bool| {
        until("what is heard of west", async || {
            let link = east.get("/v1/units").await?["sync"]["links"]["west"].clone();
            ensure!(link["state"] == "ok", "{link}");
            ensure!(link["silent_ms"].is_u64() == is_silent, "{link}");
            let (is_well, said) = east.ask(&["status"])?;
            let is_told = said.contains("no message from west for ");
            ensure!(is_well != is_silent && is_told == is_silent, "{said}");
            Ok(())
        })
        .await
    };
    silent(true).await?;
    // A broker that takes messages does not make it unready: it can do its work.
    east.is_ready().await?;
    drop(west);
    let settings = Settings::unit("west", &["east"], &redis, &rabbit)
        .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms");
    redis.cli(&["FLUSHALL"])?;
    let west = settings.start().await?;
    west.is_ready().await?;
    silent(false).await
}

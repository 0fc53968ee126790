//! The contract suite of all stores, on a real Redis of every kind.

use std::time::Duration;

use anyhow::Result;
use unitring::testing::{
    Embedded, Health as _, RedisSettings, RedisStore, TlsFiles, Url, Wait, contract,
};
use unitring_tests::deadline::PATIENCE;
use unitring_tests::redis::Redis;
use unitring_tests::redis::cluster::Cluster;
use unitring_tests::redis::sentinel::Sentinels;
use unitring_tests::redis::tls::TlsRedis;

/// Checks all promises on stores with these settings: several units in one Redis.
async fn keeps_the_contract(settings: &RedisSettings) -> Result<()> {
    let open = |unit: &str, has_peers: bool| -> Result<RedisStore> {
        Ok(RedisStore::open(settings, unit.parse()?, has_peers)?)
    };
    contract::all(&contract::Stores::open(Box::new(()), open)?).await;
    contract::leadership(&open("led", true)?, &open("led", true)?).await;
    Ok(())
}

async fn fresh() -> contract::Stores<RedisStore> {
    let server = Redis::start().await.expect("a Redis");
    let settings = RedisSettings::at(Url::new(server.url()));
    let open = |unit: &str, has_peers: bool| {
        RedisStore::open(&settings, unit.parse().expect("a unit"), has_peers)
    };
    contract::Stores::open(Box::new(server), open).expect("its stores")
}

/// Each promise on one Redis, as a test of its own.
mod keeps {
    unitring::with_all_promises!(test_promises crate::store::fresh);
}

#[tokio::test]
async fn one_redis_keeps_that_one_companion_leads() -> Result<()> {
    let server = Redis::start().await?;
    let settings = RedisSettings::at(Url::new(server.url()));
    let open = || RedisStore::open(&settings, "led".parse()?, true).map_err(anyhow::Error::from);
    contract::leadership(&open()?, &open()?).await;
    Ok(())
}

/// Histories that both stores get.
const HISTORIES: u64 = 60;

#[tokio::test]
async fn scripts_in_redis_decide_as_the_rule_in_rust_does() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let settings = RedisSettings::at(Url::new(server.url()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now_ms = u64::try_from(now.as_millis())?;
    for seed in 0..HISTORIES {
        server.cli(&["FLUSHALL"])?;
        let folder = tempfile::tempdir()?;
        let has_peers = seed % 4 > 0;
        let rust = Embedded::open(&folder.path().join("a.redb"), "east".parse()?, has_peers)?;
        let lua = RedisStore::open(&settings, "east".parse()?, has_peers)?;
        contract::differential(&rust, &lua, ("east", seed, now_ms)).await;
    }
    Ok(())
}

#[tokio::test]
async fn scripts_in_redis_merge_events_as_the_rule_in_rust_does() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let settings = RedisSettings::at(Url::new(server.url()));
    for seed in 0..HISTORIES {
        server.cli(&["FLUSHALL"])?;
        let folder = tempfile::tempdir()?;
        let rust = Embedded::open(&folder.path().join("a.redb"), "east".parse()?, true)?;
        let lua = RedisStore::open(&settings, "east".parse()?, true)?;
        contract::event_logs_are_alike(&rust, &lua, seed).await;
    }
    Ok(())
}

#[tokio::test]
async fn companions_of_one_redis_know_what_the_others_took_even_after_a_loss() -> Result<()> {
    let server = Redis::start().await?;
    let settings = RedisSettings::at(Url::new(server.url()));
    let store =
        || RedisStore::open(&settings, "shared".parse()?, true).map_err(anyhow::Error::from);
    let (one, other) = (store()?, store()?);
    contract::shared_fleet(&one, &other).await;
    server.cli(&["FLUSHALL"])?;
    contract::shared_fleet_after_loss(&one, &other).await;
    // Another Redis takes over that lacks the last numbers.
    let numbers = "unitring:{shared}:loads-changes:carts";
    server.cli(&["ZINCRBY", numbers, "-2", ",last"])?;
    contract::shared_fleet(&other, &one).await;
    // An older companion takes reports without a number, and forgets some whose numbers stay.
    let loads = "unitring:{shared}:loads:carts";
    let text = server.cli(&["HGET", loads, "e0"])?;
    server.cli(&["HSET", loads, "old", &text.replace("\"e0\"", "\"old\"")])?;
    server.cli(&["HDEL", loads, "e1-1"])?;
    server.cli(&["HSET", loads, "older", &text.replace("\"e0\"", "\"older\"")])?;
    contract::rest_is_the_sum(&one, "e0", 7_600).await;
    contract::rest_is_the_sum(&other, "e0", 7_600).await;
    Ok(())
}

#[tokio::test]
async fn a_primary_with_replicas_that_are_waited_for_keeps_it() -> Result<()> {
    let primary = Redis::start().await?;
    let of = format!("replicaof 127.0.0.1 {}", primary.port);
    let replica = Redis::start_with(&[&of]).await?;
    replica.follows().await?;
    let wait = Wait {
        replicas: 1,
        timeout: Duration::from_secs(2),
    };
    let settings = RedisSettings {
        wait: Some(wait),
        ..RedisSettings::at(Url::new(primary.url()))
    };
    keeps_the_contract(&settings).await
}

#[tokio::test]
async fn the_primary_that_sentinels_name_keeps_it() -> Result<()> {
    let group = Sentinels::start(1, &[], PATIENCE).await?;
    keeps_the_contract(&RedisSettings::at(Url::new(group.url()))).await
}

#[tokio::test]
async fn a_redis_cluster_keeps_it_and_spreads_the_buckets() -> Result<()> {
    let cluster = Cluster::start(0).await?;
    keeps_the_contract(&RedisSettings::at(Url::new(cluster.url()))).await?;
    for server in &cluster.servers {
        let keys: u64 = server.cli(&["DBSIZE"])?.parse()?;
        assert!(keys > 0, "a primary without keys");
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_behind_tls_with_a_user_of_few_rights_keeps_it() -> Result<()> {
    let user = "user app on >s3cret resetkeys ~unitring:* resetchannels -@all +@read +@write \
                +@scripting +@transaction +@connection";
    let redis = TlsRedis::start(&[user]).await?;
    let at = |login: &str| Url::new(format!("rediss://{login}127.0.0.1:{}/", redis.port));
    let tls = TlsFiles {
        settings: ["store.tls_ca", "store.tls_cert", "store.tls_key"],
        ca: Some(redis.file("ca.pem")),
        identity: Some((redis.file("client.pem"), redis.file("client.key"))),
    };
    let settings = |login: &str, tls: &TlsFiles| RedisSettings {
        tls: tls.clone(),
        ..RedisSettings::at(at(login))
    };
    keeps_the_contract(&settings("app:s3cret@", &tls)).await?;

    let refused = async |settings: &RedisSettings| -> Result<String> {
        let store = RedisStore::open(settings, "east".parse()?, true)?;
        let error = store.check().await.expect_err("it let us in");
        assert!(error.is_transient(), "{error}");
        Ok(error.to_string())
    };
    let wrong = refused(&settings("app:wrong@", &tls)).await?;
    assert!(
        wrong.contains("WRONGPASS") || wrong.contains("authentication"),
        "{wrong}"
    );
    let nobody = TlsFiles {
        identity: None,
        ..tls.clone()
    };
    refused(&settings("app:s3cret@", &nobody)).await?;
    let strangers = TlsFiles::default();
    let unknown = refused(&settings("app:s3cret@", &strangers)).await?;
    assert!(unknown.contains("certificate"), "{unknown}");
    Ok(())
}

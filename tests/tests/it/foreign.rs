//! What another client wrote where unitring keeps its own: nothing is half made for it, it is named with the way out, and
//! everything else goes on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use unitring::testing::{
    Batch, Change, ChangeFeed as _, Condition, Entry, FixedData, FixedStore as _, Fleet as _,
    GroupChange, GroupEvent, Health as _, Housekeeping as _, Leadership as _, Outbox as _, Outcome,
    Page, Records as _, RedisSettings, RedisStore, Registered, Replica as _, StoreError, Url,
    bucket_of,
};
use unitring_protocol::record::{Clock, Position, Record, RecordId, Value};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::unit;

const NOW_MS: u64 = 1_800_000_000_000;

fn open(server: &Redis, has_peers: bool) -> Result<RedisStore> {
    let settings = RedisSettings::at(Url::new(server.url()));
    Ok(RedisStore::open(&settings, "east".parse()?, has_peers)?)
}

fn id(key: &str) -> Result<RecordId> {
    Ok(RecordId {
        dataset: "d".parse()?,
        key: key.parse()?,
    })
}

/// The name of a key of this record's bucket.
fn key_of(id: &RecordId, name: &str) -> String {
    format!("unitring:{{east:{}}}:{name}", bucket_of(id))
}

/// Everything that the server has, as it has it.
fn dump(server: &Redis) -> Result<BTreeMap<String, String>> {
    let script = "local all = {} \
        for _, key in ipairs(redis.call('KEYS', 'unitring:*')) do \
          all[#all + 1] = redis.sha1hex(redis.call('DUMP', key)) .. ' ' .. key \
        end return all";
    let all = server.cli(&["EVAL", script, "0"])?;
    let all = all.lines().filter_map(|line| line.split_once(' '));
    let all = all.filter(|(_, key)| !key.ends_with(":probe"));
    Ok(all
        .map(|(hash, key)| (key.to_owned(), hash.to_owned()))
        .collect())
}

fn corrupt<T: std::fmt::Debug>(answer: Result<T, StoreError>, key: &str) -> Result<()> {
    match answer {
        Err(StoreError::Corrupt(why)) if why.contains(key) && why.contains("delete it") => Ok(()),
        other => Err(anyhow::anyhow!("{key}: {other:?}")),
    }
}

/// A change of another unit.
fn change(id: &RecordId, ms: u64) -> Batch {
    let version = format!("{ms}.0@west").parse().expect("a version");
    Batch::Records {
        records: vec![Record {
            id: id.clone(),
            version,
            value: Some(Value(b"theirs".to_vec())),
            expires_ms: Some(ms + 1_000_000_000_000),
        }],
        positions: BTreeMap::new(),
        clock: Clock::default(),
        is_last: true,
    }
}

#[tokio::test]
async fn a_key_of_another_type_stops_its_bucket_before_anything_is_written() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let (bad, good) = (id("bad")?, id("good")?);
    ensure!(bucket_of(&bad) != bucket_of(&good));
    for name in [
        "versions",
        "meta",
        "applied",
        "gone",
        "outbox",
        "changes",
        "conflicts",
        "fence",
        "cursors",
    ] {
        server.cli(&["FLUSHALL"])?;
        let store = open(&server, true)?;
        for record in [&bad, &good] {
            store.write(record, Some(b"1"), NOW_MS).await?;
        }
        let key = key_of(&bad, name);
        server.cli(&["DEL", &key])?;
        server.cli(&["SET", &key, "another client's"])?;
        let before = dump(&server)?;
        // A put of a record that lasts has no place among what will be gone.
        let puts_stop = ["versions", "meta", "applied", "outbox"].contains(&name);
        let stops = puts_stop || name == "gone";
        let written = store.write(&bad, Some(b"2"), NOW_MS + 1).await;
        match puts_stop {
            true => corrupt(written, &key)?,
            false => drop(written?),
        }
        if puts_stop {
            assert_eq!(dump(&server)?, before, "{name}");
        }
        if stops {
            let before = dump(&server)?;
            let deleted = store.write(&bad, None, NOW_MS + 2).await;
            corrupt(deleted, &key)?;
            assert_eq!(dump(&server)?, before, "{name}");
        }
        // The other bucket is read, written, applied and told as ever.
        store.write(&good, Some(b"2"), NOW_MS + 1).await?;
        let parts = [
            (bucket_of(&bad), change(&bad, NOW_MS + 9)),
            (bucket_of(&good), change(&good, NOW_MS + 9)),
        ];
        let applied = store.apply(&parts, NOW_MS + 9).await?;
        let stops_here = stops && name != "outbox";
        let expected = if stops_here || name == "fence" { 0 } else { 1 };
        assert_eq!(
            (applied[0].changed, applied[1].changed),
            (expected, 1),
            "{name}"
        );
        let states = store.states(NOW_MS).await?;
        ensure!(
            states
                .iter()
                .any(|held| held.state.bucket == bucket_of(&good))
        );
        let waiting = store.waiting().await?;
        ensure!(waiting.contains_key(&bucket_of(&good)), "{name}");
        let asked = [bucket_of(&bad), bucket_of(&good)].map(|it| (it, Position::default()));
        let read = store.outboxes(&asked).await?;
        assert_eq!(read[1].ops.len(), 2, "{name}");
        let through = |bucket: usize| Position {
            incarnation: read[bucket].incarnation,
            sequence: read[bucket].last,
        };
        let cursors = [(asked[0].0, through(0)), (asked[1].0, through(1))];
        let west = "west".parse()?;
        let removed = store
            .confirm(&west, &cursors, std::slice::from_ref(&west))
            .await?;
        ensure!(removed >= 2, "{name}: {removed}");
        ensure!(store.cursors().await?[&west].contains_key(&bucket_of(&good)));
        store.heads().await?;
        store.changes(bucket_of(&bad), 0).await?;
        store.conflicts(10).await?;
        store.recount(bucket_of(&bad), NOW_MS).await?;
        store.reset_clocks(NOW_MS).await?;
        store.shorten(&[(bucket_of(&bad), 1)]).await?;
        store
            .collect(bucket_of(&bad), NOW_MS + 10, &BTreeMap::new())
            .await?;
        if name != "changes" && name != "conflicts" {
            let spoiled = store.spoiled();
            let why = spoiled
                .get(&key)
                .with_context(|| format!("{key}: {spoiled:?}"))?;
            ensure!(why.contains("delete it"), "{why}");
        }
        // The way out.
        server.cli(&["DEL", &key])?;
        store.recount(bucket_of(&bad), NOW_MS).await?;
        store.write(&bad, Some(b"3"), NOW_MS + 20).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_unit_alone_sweeps_the_other_buckets() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let store = open(&server, false)?;
    let (bad, good) = (id("bad")?, id("good")?);
    for record in [&bad, &good] {
        let change = Change::Put {
            value: b"v",
            expires_ms: Some(NOW_MS - 5),
        };
        let any = Condition::Any;
        store.write_if(record, change, &any, NOW_MS - 10).await?;
    }
    let key = key_of(&bad, "meta");
    server.cli(&["DEL", &key])?;
    server.cli(&["SADD", &key, "x"])?;
    assert_eq!(store.sweep(NOW_MS).await?, 1);
    ensure!(store.spoiled().contains_key(&key));
    assert_eq!(server.cli(&["ZCARD", &key_of(&bad, "gone")])?, "1");
    assert_eq!(server.cli(&["EXISTS", &key_of(&good, "versions")])?, "0");
    Ok(())
}

#[tokio::test]
async fn a_value_of_another_type_is_a_lost_value() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let store = open(&server, true)?;
    let record = id("list")?;
    store.write(&record, Some(b"1"), NOW_MS).await?;
    let key = key_of(&record, "r:d/list");
    server.cli(&["DEL", &key])?;
    server.cli(&["RPUSH", &key, "a", "b"])?;
    assert_eq!(store.read(&record).await?, None);
    ensure!(store.spoiled().contains_key(&key), "{:?}", store.spoiled());
    let again = Change::Again;
    let any = Condition::Any;
    let outcome = store.write_if(&record, again, &any, NOW_MS + 1).await?;
    assert_eq!(outcome, Outcome::Nothing);
    let page = Page::first();
    let (records, page) = store.page(bucket_of(&record), page).await?;
    ensure!(records.is_empty() && page.is_done());
    // A peer's repair brings it again, and any write does.
    let found = store.recount(bucket_of(&record), NOW_MS).await?;
    assert_eq!((found.was_wrong, found.lost), (true, 1));
    let parts = [(bucket_of(&record), change(&record, NOW_MS + 5))];
    assert_eq!(store.apply(&parts, NOW_MS + 5).await?[0].changed, 1);
    assert_eq!(server.cli(&["TYPE", &key])?, "string");
    server.cli(&["DEL", &key])?;
    server.cli(&["HSET", &key, "a", "b"])?;
    store.write(&record, Some(b"2"), NOW_MS + 9).await?;
    assert_eq!(server.cli(&["GET", &key])?, "2");
    Ok(())
}

#[tokio::test]
async fn entries_of_another_client_in_an_outbox_are_passed_over() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let store = open(&server, true)?;
    let record = id("k")?;
    let (bucket, outbox) = (bucket_of(&record), key_of(&record, "outbox"));
    store.write(&record, Some(b"1"), NOW_MS).await?;
    // One with a number of its own, which is far behind ours, and one of ours with fields missing.
    server.cli(&["XADD", &outbox, "*", "hello", "world"])?;
    store.write(&record, Some(b"2"), NOW_MS + 1).await?;
    let read = store
        .outboxes(&[(bucket, Position::default())])
        .await?
        .remove(0);
    let values: Vec<_> = read.ops.iter().map(|op| op.record.value.clone()).collect();
    assert_eq!(
        values,
        [b"1", b"2"].map(|value| Some(Value(value.to_vec())))
    );
    assert_eq!(read.passed.len(), 1, "{:?}", read.passed);
    assert_eq!(
        read.last, read.ops[1].sequence,
        "our numbers go on behind it"
    );
    ensure!(store.spoiled().keys().any(|name| name.starts_with(&outbox)));
    let west = "west".parse()?;
    let through = Position {
        incarnation: read.incarnation,
        sequence: read.last,
    };
    let removed = store
        .confirm(&west, &[(bucket, through)], std::slice::from_ref(&west))
        .await?;
    assert_eq!(removed, 3, "it leaves with the others");
    store.write(&record, Some(b"3"), NOW_MS + 2).await?;
    let read = store.outboxes(&[(bucket, through)]).await?.remove(0);
    assert_eq!((read.ops.len(), read.passed.len()), (1, 0));

    // A number at the end of all numbers leaves no room: nothing is written, and the key is named.
    let last = u64::MAX.to_string();
    server.cli(&["XADD", &outbox, &format!("{last}-{last}"), "hello", "world"])?;
    let before = dump(&server)?;
    let refused = store.write(&record, Some(b"4"), NOW_MS + 3).await;
    corrupt(refused, &outbox)?;
    assert_eq!(dump(&server)?, before);
    let read = store.outboxes(&[(bucket, through)]).await?.remove(0);
    assert_eq!((read.ops.len(), read.passed.len()), (1, 0));
    Ok(())
}

#[tokio::test]
async fn numbers_that_are_none_count_as_none() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let store = open(&server, true)?;
    let record = id("k")?;
    store.write(&record, Some(b"1"), NOW_MS).await?;
    let (meta, applied) = (key_of(&record, "meta"), key_of(&record, "applied"));
    for field in [
        "ms",
        "counter",
        "sequence",
        "incarnation",
        "changes",
        "digest",
    ] {
        server.cli(&["HSET", &meta, field, "garbage"])?;
        server.cli(&["HSET", &applied, "west", "garbage", "east", "1.x"])?;
        server.cli(&["HSET", &key_of(&record, "cursors"), "west", "garbage"])?;
        store.states(NOW_MS).await?;
        store.heads().await?;
        store.cursors().await?;
        store
            .outboxes(&[(bucket_of(&record), Position::default())])
            .await?;
        let parts = [(bucket_of(&record), change(&record, NOW_MS + 1))];
        store
            .apply(&parts, NOW_MS + 1)
            .await
            .with_context(|| field.to_owned())?;
        server.cli(&["HSET", &meta, field, "garbage"])?;
        let written = store.write(&record, Some(b"2"), NOW_MS + 2).await;
        ensure!(written.with_context(|| field.to_owned())?.is_some());
        let now = server.cli(&["HGET", &meta, field])?;
        ensure!(now != "garbage", "{field}");
        store.recount(bucket_of(&record), NOW_MS).await?;
        ensure!(
            !store.recount(bucket_of(&record), NOW_MS).await?.was_wrong,
            "{field}"
        );
    }
    Ok(())
}

fn registered(id: &str) -> Result<Registered> {
    Ok(Registered {
        id: id.parse()?,
        address: "10.0.0.1:80".parse()?,
        weight: 1.try_into()?,
        draining: false,
        expires_ms: Some(NOW_MS + 1_000),
    })
}

#[tokio::test]
async fn what_another_client_wrote_beside_the_buckets_stops_nothing_else() -> Result<()> {
    let server = Redis::start_with(&["save \"\""]).await?;
    let store = open(&server, true)?;
    let unit = |name: &str| format!("unitring:{{east}}:{name}");
    let service = "orders".parse()?;
    store
        .register(&service, &registered("a")?, false, NOW_MS)
        .await?;
    // Rows that no unitring wrote.
    server.cli(&["HSET", &unit("registry"), "orders/b", "{garbage", "x", "y"])?;
    server.cli(&["ZADD", &unit("expiry"), "1", "garbage"])?;
    server.cli(&["ZADD", &unit("reporters"), "1", "garbage"])?;
    server.cli(&["HSET", &unit("loads:orders"), "e1", "{garbage"])?;
    server.cli(&[
        "HSET",
        &unit("totals:orders"),
        "garbage",
        "1",
        "a calls",
        "x",
    ])?;
    server.cli(&["XADD", &unit("hints"), "*", "bucket", "garbage"])?;
    server.cli(&["SET", &unit("term"), "garbage"])?;
    server.cli(&["XADD", &unit("events"), "*", "hello", "world"])?;
    assert_eq!(store.registry().await?.instances("orders").count(), 1);
    store
        .register(&service, &registered("b")?, false, NOW_MS)
        .await?;
    assert_eq!(store.registry().await?.instances("orders").count(), 2);
    store.reported().await?;
    store.totals(&service).await?;
    store.loads(&service, NOW_MS).await?;
    store.rest(&service, &"e2".parse()?, NOW_MS).await?;
    store.miswired(NOW_MS).await?;
    store.hints("0-0").await?;
    assert_eq!(store.lead("me").await?, Some(1));
    store.events(None, 100).await?;
    store.log_size().await?;
    assert_eq!(store.expire(NOW_MS + 2_000).await?, 2);

    // The lease must not end between two pictures of the store.
    let lasts = || server.cli(&["PERSIST", &unit("leader")]);
    lasts()?;
    // Keys of another type: nothing is half made.
    for name in ["registry", "expiry", "revision", "events", "events-index"] {
        let key = unit(name);
        server.cli(&["DEL", &key])?;
        server.cli(&["SADD", &key, "x"])?;
        let before = dump(&server)?;
        let refused = store
            .register(&service, &registered("c")?, false, NOW_MS)
            .await;
        corrupt(refused.map(|_| ()), &key)?;
        assert_eq!(dump(&server)?, before, "{name}");
        server.cli(&["DEL", &key])?;
        store
            .register(&service, &registered("c")?, false, NOW_MS)
            .await?;
        store.unregister(&service, &"c".parse()?, NOW_MS).await?;
    }
    for name in ["leader", "term", "agreed"] {
        let key = unit(name);
        lasts()?;
        server.cli(&["DEL", &key])?;
        server.cli(&["SADD", &key, "x"])?;
        let before = dump(&server)?;
        corrupt(store.lead("me").await, &key)?;
        assert_eq!(dump(&server)?, before, "{name}");
        server.cli(&["DEL", &key])?;
        ensure!(store.lead("me").await?.is_some());
    }
    // The fixed data are replaced, whatever is there.
    let mut data = FixedData::default();
    let values = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    data.datasets.insert("d".to_owned(), values);
    server.cli(&["SET", &unit("fixed"), "x"])?;
    server.cli(&["SET", &unit("fixed:d"), "x"])?;
    corrupt(store.fixed().await, &unit("fixed"))?;
    ensure!(store.load_fixed(1, &data).await?);
    assert_eq!(store.fixed_data().await?.context("none")?.1, data);
    let event = Entry::Group(GroupEvent {
        at_ms: NOW_MS,
        kind: GroupChange::GroupDegraded,
        reason: "why".to_owned(),
    });
    ensure!(store.append(9, &event).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_bucket_keeps_no_other_from_the_other_unit_and_is_told() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (_west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "1").await?;
    west.has_record("ada", "1").await?;
    let found = east_redis.cli(&["--scan", "--pattern", "*r:profiles/ada"])?;
    let prefix = found
        .strip_suffix("r:profiles/ada")
        .context("no record")?
        .to_owned();
    for name in ["versions", "outbox", "cursors"] {
        let key = format!("{prefix}{name}");
        east_redis.cli(&["RENAME", &key, "kept"]).ok();
        east_redis.cli(&["SET", &key, "another client's"])?;
        for number in 0..40 {
            let key = format!("{name}-{number}");
            let path = format!("/v1/data/profiles/{key}");
            let put = east.call(Method::PUT, &path, b"v".to_vec()).await?;
            // A key of the bad bucket is refused with the reason.
            if put.status().is_success() && name != "cursors" {
                west.has_record(&key, "v").await?;
            } else if !put.status().is_success() {
                let text = put.text().await?;
                ensure!(text.contains("delete it"), "{text}");
            }
        }
        let path = "/v1/data/profiles/ada";
        let put = east.call(Method::PUT, path, b"x".to_vec()).await?;
        let expected = if name == "cursors" { 200 } else { 500 };
        assert_eq!(
            put.status().as_u16(),
            expected,
            "{name}: {}",
            put.text().await?
        );
        west.put_record(&format!("back-{name}"), "v").await?;
        east.has_record(&format!("back-{name}"), "v").await?;
        until("the key to be named", async || {
            let units = east.get("/v1/units").await?;
            ensure!(units["spoiled"][&key].is_string(), "{units}");
            Ok(())
        })
        .await?;
        let (_, status) = east.ask(&["status"])?;
        ensure!(status.contains("cannot be read"), "{status}");
        // What can be recounted is; of the three, the cursors are no part of it.
        let (is_done, text) = east.ask(&["unit", "repair", "--recount"])?;
        ensure!(is_done == (name != "versions"), "{name}: {text}");
        ensure!(is_done || text.contains(&key), "{text}");
        east_redis.cli(&["DEL", &key])?;
        east_redis.cli(&["RENAME", "kept", &key]).ok();
    }
    let (is_done, text) = east.ask(&["unit", "repair", "--recount"])?;
    ensure!(is_done, "{text}");
    until("what is mended to be named no more", async || {
        let units = east.get("/v1/units").await?;
        ensure!(units["spoiled"] == json!({}), "{}", units["spoiled"]);
        Ok(())
    })
    .await?;
    east.put_record("ada", "2").await?;
    west.has_record("ada", "2").await
}

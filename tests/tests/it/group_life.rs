//! The life of a unit in its group: it starts empty, is away for too long, leaves; and what units send
//! each other beside records.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::proxy::Link;
use unitring_tests::report;
use unitring_tests::unit_group::{Brokers, Member, UnitGroup, held, tombstones};
use unitring_tests::writers::Writers;

async fn put_many(companion: &Companion, name: &str, count: usize) -> Result<()> {
    for number in 0..count {
        companion
            .put_record(&format!("{name}-{number}"), name)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_was_emptied_gets_everything_back_while_it_serves() -> Result<()> {
    let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let [east, north] = &group.members[..] else {
        anyhow::bail!("not two units")
    };
    put_many(&east.companion, "from-east", 200).await?;
    put_many(&north.companion, "from-north", 50).await?;
    let before = group.agree().await?;
    // A running unit loses records, positions and outbox while clients go on writing there.
    let mut writers = Writers::start(2, &[north.companion.port]);
    writers.go_on(200).await?;
    north.redis.cli(&["FLUSHALL"])?;
    writers.go_on(100).await?;
    let flushed = held(&north.redis)?;
    writers.stop().await?;
    let after = group.agree().await?;
    for key in before.keys().chain(flushed.keys()) {
        ensure!(after.contains_key(key), "{key} is gone");
    }
    ensure!(
        north
            .companion
            .metric("unitring_companion_repaired_records_total")
            .await?
            >= 200.0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_was_away_for_longer_than_the_outbox_keeps_is_told_and_repairs() -> Result<()> {
    let small = |settings: Settings| settings.variable("UNITRING_SYNC_OUTBOX_MAX", "100");
    let group = UnitGroup::start(2, Brokers::PerUnit, small).await?;
    let [east, north] = &group.members[..] else {
        anyhow::bail!("not two units")
    };
    put_many(&east.companion, "before", 10).await?;
    group.agree().await?;
    // East cannot reach north's broker. Writes go on, and the outbox stays small.
    east.links[1].set(Link::Cut);
    let mut writers = Writers::start(4, &[east.companion.port]);
    until("the outbox to be shortened", async || {
        let dropped = east
            .companion
            .metric("unitring_companion_outbox_dropped_total")
            .await?;
        ensure!(dropped > 50.0, "{dropped}");
        Ok(())
    })
    .await?;
    writers.stop().await?;
    let missing = held(&east.redis)?.len() - held(&north.redis)?.len();
    ensure!(missing > 100, "{missing}");
    east.links[1].set(Link::Up(std::time::Duration::ZERO));
    let held = group.agree().await?;
    for key in writers.acknowledged().keys() {
        ensure!(held.contains_key(&format!("steady/{key}")), "{key} is lost");
    }
    let skipped = north
        .companion
        .metric("unitring_companion_skipped_buckets_total")
        .await?;
    let repaired = north
        .companion
        .metric("unitring_companion_repaired_records_total")
        .await?;
    ensure!(
        skipped > 0.0 && repaired > 0.0,
        "{skipped} skipped, {repaired} repaired"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_removed_holds_nothing_back_and_nothing_of_it_is_taken() -> Result<()> {
    let brief = |settings: Settings| settings.variable("UNITRING_SYNC_TOMBSTONES_KEPT", "3s");
    let mut group = UnitGroup::start(3, Brokers::One, brief).await?;
    put_many(&group.member("east")?.companion, "k", 5).await?;
    group.agree().await?;
    until("every unit to have compared", async || {
        let units = group.member("east")?.companion.get("/v1/units").await?;
        let at_ms = &units["sync"]["links"]["west"]["compared"]["at_ms"];
        ensure!(at_ms.is_u64(), "{}", units["sync"]);
        Ok(())
    })
    .await?;
    // West is gone for good; without its reports no tombstone may be forgotten.
    let mut west = group.members.pop().context("no west")?;
    west.companion.kill()?;
    let east = group.member("east")?;
    let path = "/v1/data/profiles/k-0";
    east.companion.call(Method::DELETE, path, vec![]).await?;
    group.agree().await?;
    until("the link to west to be silent for long", async || {
        let units = east.companion.get("/v1/units").await?;
        let at_ms = &units["sync"]["links"]["west"]["compared"]["at_ms"];
        let north_ms = &units["sync"]["links"]["north"]["compared"]["at_ms"];
        let apart = north_ms
            .as_u64()
            .zip(at_ms.as_u64())
            .context("not compared")?;
        ensure!(apart.0 > apart.1 + 5_000, "{apart:?}");
        Ok(())
    })
    .await?;
    ensure!(
        tombstones(&east.redis)? == 1,
        "a tombstone that west does not know is gone"
    );

    let (is_done, text) = east.companion.ask(&["unit", "remove", "west"])?;
    ensure!(is_done && text.contains("west is removed"), "{text}");
    let (is_done, text) = east.companion.ask(&["unit", "remove", "nowhere"])?;
    ensure!(!is_done && text.contains("nowhere"), "{text}");
    for member in &group.members {
        until("west to be removed and the tombstone to go", async || {
            let units = member.companion.get("/v1/units").await?;
            let west = &units["sync"]["links"]["west"];
            ensure!(west["state"] == "removed", "{}: {west}", member.name);
            ensure!(units["sync"]["outbox"] == 0, "{}", units["sync"]);
            let left = tombstones(&member.redis)?;
            ensure!(left == 0, "{left} tombstones");
            Ok(())
        })
        .await?;
    }
    // West comes back. The others ignore what it sends and tell it, so it takes no writes any more.
    west.companion.restart().await?;
    let late = "/v1/data/profiles/late";
    refuses_writes(&west.companion, late).await?;
    let mut set_aside = 0.0;
    for member in &group.members {
        let strangers = "unitring_companion_strangers_total";
        set_aside += member.companion.metric(strangers).await?;
    }
    ensure!(set_aside > 0.0, "no message of west was set aside");
    let held = group.agree().await?;
    ensure!(!held.contains_key("profiles/late"), "{held:?}");
    ensure!(!held.contains_key("profiles/k-0"), "{held:?}");

    // West may join again with an empty store, and only with that.
    let (is_done, text) = group.members[0].companion.ask(&["unit", "add", "west"])?;
    ensure!(!is_done && text.contains("still runs"), "{text}");
    comes_back_empty(&mut group, west).await?;

    // A unit that runs while it is removed refuses writes from then on: no other unit would get them.
    let (is_done, text) = group.members[0]
        .companion
        .ask(&["unit", "remove", "west"])?;
    ensure!(is_done, "{text}");
    refuses_writes(&group.member("west")?.companion, late).await?;
    // It sends nothing any more, and still it is not added while it runs.
    let east = &group.members[0].companion;
    until("west to be silent", async || {
        let units = east.get("/v1/units").await?;
        let last_ms = units.pointer("/sync/strangers/west/last_ms");
        let last_ms = last_ms.and_then(Value::as_u64).unwrap_or(0);
        let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        ensure!(last_ms + 4_000 < now_ms, "{units}");
        Ok(())
    })
    .await?;
    until("what west sent last to be long ago", async || {
        let (is_done, text) = east.ask(&["unit", "add", "west"])?;
        ensure!(
            !is_done && text.contains("connected to its broker"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    let west = group
        .members
        .iter()
        .position(|member| member.name == "west");
    let west = group.members.remove(west.context("no west")?);
    comes_back_empty(&mut group, west).await
}

/// Waits until a unit takes no write, since it knows that it was removed. One that it took before reaches no other unit.
async fn refuses_writes(companion: &Companion, path: &str) -> Result<()> {
    until("a unit that was removed to refuse writes", async || {
        let answer = companion.call(Method::PUT, path, b"x".to_vec()).await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(status == 503 && text.contains("removed"), "{status} {text}");
        Ok(())
    })
    .await
}

/// Stops west, empties its store, and adds it again; then it has what the others hold.
async fn comes_back_empty(group: &mut UnitGroup, mut west: Member) -> Result<()> {
    west.companion.kill()?;
    west.redis.cli(&["FLUSHALL"])?;
    until("west to be added once it has stopped", async || {
        let (is_done, text) = group.members[0].companion.ask(&["unit", "add", "west"])?;
        ensure!(is_done && text.contains("in the group again"), "{text}");
        Ok(())
    })
    .await?;
    west.companion.restart().await?;
    group.members.push(west);
    let held = group.agree().await?;
    ensure!(held.contains_key("profiles/k-1"), "{held:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_did_not_know_of_each_other_are_shown_with_what_was_lost() -> Result<()> {
    let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let [east, north] = &group.members[..] else {
        anyhow::bail!("not two units")
    };
    east.companion.put_record("both", "first").await?;
    north.companion.has_record("both", "first").await?;
    // North may have it before its confirm has reached east, which would send it again with its next change.
    let is_sent = "unitring_companion_outbox_ops 0";
    east.companion.counts(is_sent).await?;
    for member in &group.members {
        member.links[0].set(Link::Cut);
    }
    east.companion.put_record("both", "of east").await?;
    north
        .companion
        .put_record("both", "of north, later")
        .await?;
    for member in &group.members {
        member.links[0].set(Link::Up(std::time::Duration::ZERO));
    }
    east.companion.has_record("both", "of north, later").await?;
    for member in &group.members {
        let shown = until("the conflict to be shown", async || {
            let conflicts = member.companion.get("/v1/conflicts").await?;
            conflicts.get(0).cloned().context("none")
        })
        .await?;
        ensure!(
            shown["record"] == json!({"dataset": "profiles", "key": "both"}),
            "{shown}"
        );
        // base64 of "of east"
        ensure!(shown["value"] == "b2YgZWFzdA==", "{}: {shown}", member.name);
        ensure!(
            shown["lost"]
                .as_str()
                .is_some_and(|lost| lost.ends_with("@east")),
            "{shown}"
        );
        ensure!(
            shown["kept"]
                .as_str()
                .is_some_and(|kept| kept.ends_with("@north")),
            "{shown}"
        );
        ensure!(
            member
                .companion
                .metric("unitring_companion_conflicts_total")
                .await?
                == 1.0
        );
        let (is_done, text) = member.companion.ask(&["conflicts"])?;
        ensure!(is_done && text.starts_with("profiles/both: "), "{text}");
    }
    // `unitring status` shows the group: lag, clocks, differences.
    until("the status to show all of it", async || {
        let (is_done, text) = east.companion.ask(&["status"])?;
        ensure!(is_done, "{text}");
        for words in [
            "link       north: ok, its changes take ",
            "of its changes missing, 0 of ",
            "its clock is ",
        ] {
            ensure!(text.contains(words), "{text}");
        }
        Ok(())
    })
    .await
}

/// A service that two units tell each other of, with an unusual name of an Envoy cluster.
const SERVICE: &str = "outbound|8080||orders/a b {é}:%.\"local\"";

/// Sends a filter's report, with an event. Half of the load is what updates count as.
async fn report(companion: &Companion, reporter: &str, sequence: u64, load: u64) -> Result<Value> {
    let update_load = load / 2;
    let mut instance = report::instance("a", "10.0.0.5:8080", load - update_load);
    instance["update_load"] = update_load.into();
    let mut service = report::service(SERVICE, vec![instance]);
    service["events"] = json!([{
        "number": sequence, "at_ms": sequence, "kind": "ejected", "instance": "a",
        "reason": format!("seen by {reporter}"), "ring": "r", "moved": 0.0,
    }]);
    let report = report::report(reporter, sequence, vec![service]);
    companion.report(&report).await
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_and_events_of_one_unit_reach_the_filters_of_the_other_and_expire() -> Result<()> {
    let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let [east, north] = &group.members[..] else {
        anyhow::bail!("not two units")
    };
    let mut sequence = 1;
    let mut rest = async |carries: u64, told: u64| {
        sequence += 1;
        report(&east.companion, "envoy-east", sequence, carries).await?;
        let snapshot = report(&north.companion, "envoy-north", sequence, 1).await?;
        let rest = &snapshot["services"][0]["rest"][0]["in_flight"];
        let seen = rest.as_u64().unwrap_or(0);
        ensure!(seen == told, "{told} for {snapshot}");
        Ok(())
    };
    until("north's filter to know of east's load", async || {
        rest(7, 7).await
    })
    .await?;
    // Events of instances are sent, too, with their unit.
    until("north to show east's event", async || {
        let events = north
            .companion
            .get("/v1/events?format=json&limit=1000")
            .await?;
        let mut events = events.as_array().into_iter().flatten();
        let found = events.find(|event| event["unit"] == "east" && event["kind"] == "ejected");
        let found = found.context("no event of east")?;
        ensure!(found["reason"] == "seen by envoy-east", "{found}");
        ensure!(found["service"] == SERVICE, "{found}");
        Ok(())
    })
    .await?;
    // East's own log has none of its events twice.
    let events = east
        .companion
        .get("/v1/events?format=json&limit=1000")
        .await?;
    let own = events.as_array().into_iter().flatten();
    let from_east = own.filter(|event| event["unit"] == "east").count();
    ensure!(from_east == 0, "{events}");

    // The load of a filter that goes away ends, as in its own unit.
    let mut later = 1_000_000;
    until(
        "the load of a reporter that is gone to expire",
        async || {
            later += 1;
            let snapshot = report(&north.companion, "envoy-north", later, 1).await?;
            let rest = snapshot["services"][0]["rest"]
                .as_array()
                .context("no rest")?;
            let others = rest.iter().filter_map(|one| one["in_flight"].as_u64());
            let others: u64 = others.sum();
            ensure!(others == 0, "{snapshot}");
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_the_fixed_data_spreads_to_every_unit() -> Result<()> {
    let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let [east, north] = &group.members[..] else {
        anyhow::bail!("not two units")
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("fixed.jsonl");
    let create = |lines: &str| -> Result<()> {
        std::fs::write(&file, lines)?;
        let output = std::process::Command::new(programs::built("unitring")?)
            .args(["group", "create"])
            .env("UNITRING_UNIT", "east")
            .env("UNITRING_GROUP_SERVERS", east.redis.url())
            .env("UNITRING_GROUP_FIXED_DATA", &file)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let line = |key: &str, value: &str| {
        format!(
            "{}\n",
            json!({"dataset": "currencies", "key": key, "value": value})
        )
    };
    let spreads = async |version: u64, key: &str, value: &str| {
        until("the fixed data to be the same", async || {
            let (ours, theirs) = (
                east.companion.get("/v1/fixed").await?,
                north.companion.get("/v1/fixed").await?,
            );
            ensure!(
                ours == theirs && theirs["version"] == version,
                "{ours} and {theirs}"
            );
            let path = format!("/v1/fixed/currencies/{key}");
            let answer = north.companion.call(Method::GET, &path, vec![]).await?;
            let text = answer.text().await?;
            ensure!(text == value, "{text}");
            Ok(())
        })
        .await
    };
    create(&line("EUR", "2"))?;
    spreads(1, "EUR", "2").await?;
    create(&(line("EUR", "3") + &line("JPY", "0")))?;
    spreads(2, "JPY", "0").await?;
    let cli = north
        .redis
        .cli(&["HGET", "unitring:{north}:fixed:currencies", "EUR"])?;
    ensure!(cli == "3", "{cli}");
    Ok(())
}

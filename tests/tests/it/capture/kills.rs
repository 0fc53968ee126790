//! Two units, two Envoys with two workers each, and sessions that change in every answer, while instances,
//! companions, a Redis and the broker are killed one after the other: every change that a client saw acknowledged is
//! in both units, once and in order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::{join, try_join_all};
use reqwest::{Client, Url};
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::{Brokers, UnitGroup};

/// Changes that clients see acknowledged; by default as many as fit CI.
fn changes() -> Result<u64> {
    Ok(std::env::var("UNITRING_CAPTURE_CHANGES").map_or(Ok(10_000), |count| count.parse())?)
}

/// Sessions of a unit, each of which one client changes.
const SESSIONS: u64 = 20;

/// State that all clients share.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    is_over: AtomicBool,
    /// By session: the changes that were acknowledged, in order.
    changes: Mutex<BTreeMap<String, Vec<String>>>,
}

struct Unit {
    envoy: Envoy,
    instances: Vec<Instance>,
    door: Door,
}

/// The entry of a unit for its clients.
#[derive(Clone)]
struct Door {
    name: String,
    url: String,
    companion: u16,
}

/// Changes one session again and again. Each try has a name of its own; it becomes the session's value, and a
/// record of its own.
async fn change(door: &Door, session: String, seen: &Seen) -> Result<()> {
    let client = Client::new();
    let read = format!(
        "http://127.0.0.1:{}/v1/data/sessions/{session}",
        door.companion
    );
    let mut tries = 0;
    let mut last = String::new();
    let mut number = 0_u64;
    while !seen.is_over.load(Ordering::Relaxed) {
        number += 1;
        loop {
            tries += 1;
            let change = format!("{session}.{number}.{tries}");
            let update = format!("sessions/{session};body, log/{change}");
            let query = [("update", update.as_str()), ("value", change.as_str())];
            let url = Url::parse_with_params(&door.url, &query)?;
            let request = client.get(url).header("x-user-id", &session);
            let answer = request.timeout(Duration::from_secs(20)).send().await;
            let is_acknowledged = answer.is_ok_and(|answer| answer.status() == 200);
            if is_acknowledged {
                last.clone_from(&change);
                let mut changes = seen
                    .changes
                    .lock()
                    .map_err(|_| anyhow::anyhow!("poisoned"))?;
                changes.entry(session.clone()).or_default().push(change);
                break;
            }
            seen.refused.fetch_add(1, Ordering::Relaxed);
            ensure!(tries < 100_000, "{session} never changes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen.acknowledged.fetch_add(1, Ordering::Relaxed);
        // No earlier try, whose client gave up, has come after it. Every tenth is read: a companion may be away.
        if number.is_multiple_of(10)
            && let Ok(answer) = client.get(&read).send().await
            && answer.status() == 200
        {
            let value = answer.text().await?;
            ensure!(
                value == last,
                "{session} is {value}, and {last} was acknowledged"
            );
        }
    }
    Ok(())
}

/// Waits for this many more acknowledged changes.
async fn go_on(seen: &Seen, more: u64) -> Result<()> {
    let target = seen.acknowledged.load(Ordering::Relaxed) + more;
    until("changes to go on", async || {
        let now = seen.acknowledged.load(Ordering::Relaxed);
        ensure!(now >= target, "{now} of {target}");
        Ok(())
    })
    .await
}

/// Kills one process after the other, all of them at least once, until there are `changes` changes.
async fn kill(group: &mut UnitGroup, units: &mut [Unit], changes: u64, seen: &Seen) -> Result<u32> {
    for step in 0_usize.. {
        let (even, odd) = (step % 2, (step + 1) % 2);
        match step % 6 {
            0 | 3 => {
                let unit = units.get_mut(even).context("no unit")?;
                let instance = unit.instances.first_mut().context("no instance")?;
                instance.kill()?;
                go_on(seen, 100).await?;
                instance.restart().await?;
            }
            1 | 4 => {
                let member = group.members.get_mut(odd).context("no unit")?;
                member.companion.kill()?;
                // The other unit goes on.
                go_on(seen, 50).await?;
                member.companion.restart().await?;
            }
            2 => {
                let rabbit = group.rabbits.first_mut().context("no broker")?;
                rabbit.kill()?;
                go_on(seen, 200).await?;
                rabbit.restart().await?;
            }
            _ => {
                let member = group.members.first_mut().context("no unit")?;
                member.redis.kill()?;
                go_on(seen, 50).await?;
                member.redis.restart().await?;
            }
        }
        go_on(seen, 200).await?;
        if step >= 5 && seen.acknowledged.load(Ordering::Relaxed) >= changes {
            return Ok(u32::try_from(step + 1)?);
        }
    }
    bail!("no end")
}

/// Records of `log` that were not written exactly once in a unit, with their number of writes.
fn written_again(redis: &Redis) -> Result<String> {
    let script = "local count, out = {}, {} \
        for _, key in ipairs(redis.call('KEYS', 'unitring:{*:*}:changes')) do \
          for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do \
            local id = entry[2][2] \
            if string.sub(id, 1, 4) == 'log/' then count[id] = (count[id] or 0) + 1 end \
          end \
        end \
        for id, number in pairs(count) do \
          if number ~= 1 then out[#out + 1] = id .. ' ' .. number end \
        end return out";
    redis.cli(&["EVAL", script, "0"])
}

#[tokio::test]
async fn what_clients_saw_acknowledged_is_in_both_units_once_and_in_order() -> Result<()> {
    let changes = changes()?;
    let mut group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let mut units = Vec::new();
    for member in &group.members {
        let instances = Instance::start_all(&["a", "b", "c"]).await?;
        let config = EnvoyConfig::shipped("envoy.yaml")?
            .instances(&instances, &[])?
            .companion(&member.companion)?
            .setting("capture", json!({"mode": "sync", "timeout": "10s"}))?
            .balanced()?;
        let envoy = Envoy::start_with_workers(&config, 2).await?;
        envoy.steers_to(instances.len()).await?;
        let door = Door {
            name: member.name.clone(),
            url: envoy.url("/"),
            companion: member.companion.port,
        };
        units.push(Unit {
            envoy,
            instances,
            door,
        });
    }
    let seen = Seen::default();
    let doors: Vec<Door> = units.iter().map(|unit| unit.door.clone()).collect();
    let clients = async {
        let all = doors.iter().flat_map(|door| {
            let seen = &seen;
            let session = |number| format!("{}-{number}", door.name);
            (0..SESSIONS).map(move |number| change(door, session(number), seen))
        });
        try_join_all(all).await
    };
    let killer = async {
        let kills = kill(&mut group, &mut units, changes, &seen).await;
        seen.is_over.store(true, Ordering::Relaxed);
        kills
    };
    let (done, kills) = join(clients, killer).await;
    let kills = kills?;
    done?;
    let held = group.agree().await?;
    let value = |key: &str| {
        held.get(key)
            .and_then(|held| held.split_once('\t').map(|(_, value)| value))
    };
    let acknowledged = seen
        .changes
        .lock()
        .map_err(|_| anyhow::anyhow!("poisoned"))?;
    let mut count = 0_u64;
    for (session, changes) in acknowledged.iter() {
        for change in changes {
            ensure!(
                held.contains_key(&format!("log/{change}")),
                "{change} is lost"
            );
            count += 1;
        }
        let last = changes.last().map(String::as_str);
        ensure!(
            value(&format!("sessions/{session}")) == last,
            "{session}: {last:?} was the last"
        );
    }
    for member in &group.members {
        let again = written_again(&member.redis)?;
        ensure!(
            again.trim().is_empty(),
            "{} wrote again: {again}",
            member.name
        );
    }
    for unit in &units {
        ensure!(!unit.envoy.log().contains("wasm trap"), "a VM died");
    }
    let refused = seen.refused.load(Ordering::Relaxed);
    println!("{count} changes acknowledged, {refused} refused, {kills} kills");
    ensure!(
        kills >= 6 && count >= changes,
        "{kills} kills, {count} changes"
    );
    Ok(())
}

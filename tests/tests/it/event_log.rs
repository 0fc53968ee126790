//! The event log keeps what an operator needs for a day: what many Envoys see is one entry, a noisy reporter leaves
//! the others their room, and all of it can be exported.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::programs;
use unitring_tests::redis::Redis;
use unitring_tests::report;

fn now_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}

fn event(number: u64, at_ms: u64, kind: &str, instance: &str) -> Value {
    json!({"number": number, "at_ms": at_ms, "kind": kind, "instance": instance, "reason": "failed active health check",
        "ring": format!("{number:016x}"), "moved": 0.125})
}

async fn tell(
    companion: &Companion,
    reporter: &str,
    sequence: u64,
    events: Vec<Value>,
) -> Result<Value> {
    let instance = report::instance("10.0.0.5:8080", "10.0.0.5:8080", 0);
    let mut service = report::service("orders", vec![instance]);
    service["events"] = json!(events);
    companion
        .report(&report::report(reporter, sequence, vec![service]))
        .await
}

/// The lines that `unitring events --json` prints with these arguments.
fn exported(companion: &Companion, arguments: &[&str]) -> Result<Vec<Value>> {
    let (is_done, text) = companion.ask(&[&["events", "--json"], arguments].concat())?;
    ensure!(is_done, "{text}");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fifty_envoys_report_is_one_entry_that_a_follower_gets_once() -> Result<()> {
    let redis = Redis::start().await?;
    let companions = [
        Settings::on_redis(&redis).start().await?,
        Settings::on_redis(&redis).start().await?,
    ];
    let folder = TempDir::new()?;
    let mut command = Command::new(programs::built("unitring")?);
    let url = format!("http://127.0.0.1:{}", companions[0].port);
    command
        .args(["events", "--json", "--follow"])
        .env("UNITRING_URL", url);
    let mut follower = Process::start("events", &mut command, folder.path())?;
    let at_ms = now_ms()?;
    let reports = (0..50_u64).map(|number| {
        // Each has another ring, as where two instances are ejected in another order.
        let events = vec![
            event(number + 1, at_ms + number * 20, "ejected", "10.0.0.5:8080"),
            event(
                number + 60,
                at_ms + number * 20 + 3_000,
                "recovered",
                "10.0.0.5:8080",
            ),
        ];
        let (first, all) = (vec![events[0].clone()], events);
        let companion = &companions[usize::try_from(number % 2).unwrap_or(0)];
        async move {
            let reporter = format!("edge-{number}");
            tell(companion, &reporter, 1, first).await?;
            // An unconfirmed event is sent again.
            tell(companion, &reporter, 2, all).await
        }
    });
    try_join_all(reports).await?;
    for companion in &companions {
        let told = exported(companion, &["--since", "1h"])?;
        let kinds: Vec<_> = told
            .iter()
            .map(|it| (it["kind"].as_str(), it["seen_by"].as_u64()))
            .collect();
        ensure!(
            kinds == [(Some("ejected"), Some(50)), (Some("recovered"), Some(50))],
            "{told:?}"
        );
        let last = told[0]["last_at_ms"].as_u64();
        ensure!(last == Some(at_ms + 980), "{told:?}");
    }
    let (_, text) = companions[1].ask(&["events"])?;
    ensure!(
        text.lines().count() == 2 && text.matches(" and 49 more").count() == 2,
        "{text}"
    );
    // One more, so that the follower has seen all before it.
    tell(
        &companions[1],
        "edge-0",
        3,
        vec![event(99, at_ms, "warmed", "10.0.0.5:8080")],
    )
    .await?;
    let log = folder.path().join("events.log");
    until("the follower to have the last event", async || {
        let text = fs::read_to_string(&log)?;
        ensure!(text.contains("warmed"), "{text}");
        ensure!(
            text.lines().count() == 3 && text.matches("ejected").count() == 1,
            "{text}"
        );
        Ok(())
    })
    .await?;
    let counted = |name: &'static str| async {
        let sums = companions.iter().map(|companion| companion.metric(name));
        Ok::<f64, anyhow::Error>(try_join_all(sums).await?.iter().sum())
    };
    ensure!(counted("unitring_companion_events_stored_total").await? == 3.0);
    ensure!(counted("unitring_companion_events_merged_total").await? == 98.0);
    ensure!(
        companions[0]
            .metric("unitring_companion_event_log_entries")
            .await?
            == 3.0
    );
    follower.kill()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_an_older_companion_is_kept_counted_and_exported_by_time() -> Result<()> {
    let redis = Redis::start().await?;
    // As the version before wrote it, a second apart, but more than that kept.
    let (end_ms, seconds) = (now_ms()?, 50_000_u64);
    let script = "for n = 1, ARGV[2] do
        local at = string.format('%d', ARGV[1] - (ARGV[2] - n) * 1000)
        redis.call('XADD', KEYS[1], '*', 'event', '{\"at_ms\":' .. at .. ',\"kind\":\"ejected\",\"service\":\"orders\",' ..
          '\"instance\":\"10.0.0.5:8080\",\"reason\":\"failed active health check\",\"ring\":\"0123456789abcdef\",' ..
          '\"moved\":0.125,\"reporter\":\"edge-' .. n % 1000 .. '~0123456789abcdef\"}')
      end
      return 1";
    let key = "unitring:{unit-1}:events";
    redis.cli(&[
        "EVAL",
        script,
        "1",
        key,
        &end_ms.to_string(),
        &seconds.to_string(),
    ])?;
    let companion = Settings::on_redis(&redis)
        .variable("UNITRING_UNIT", "unit-1")
        .start()
        .await?;
    tell(
        &companion,
        "edge-1",
        1,
        vec![event(1, end_ms, "recovered", "10.0.0.5:8080")],
    )
    .await?;
    let begun = Instant::now();
    let all = exported(&companion, &["--since", "24h"])?;
    println!("{} entries exported in {:?}", all.len(), begun.elapsed());
    ensure!(all.len() as u64 == seconds + 1, "{}", all.len());
    let before_s = now_ms()?.saturating_sub(end_ms) / 1_000;
    let hour = exported(&companion, &["--since", "1h"])?;
    let after_s = now_ms()?.saturating_sub(end_ms) / 1_000;
    // One a second up to when this began, and the one that was told.
    let expected = 3_600_u64.saturating_sub(after_s + 1)..=3_602 - before_s.min(3_602);
    let count = u64::try_from(hour.len())?;
    ensure!(expected.contains(&count), "{count}, not {expected:?}");
    ensure!(
        hour.last().is_some_and(|last| last["kind"] == "recovered"),
        "{:?}",
        hour.last()
    );
    let bytes: usize = redis
        .cli(&["--raw", "XRANGE", key, "-", "+"])?
        .lines()
        .skip(2)
        .step_by(3)
        .map(str::len)
        .sum();
    ensure!(
        companion
            .metric("unitring_companion_event_log_bytes")
            .await?
            == bytes as f64,
        "{bytes}"
    );
    println!("mean size of an entry: {} bytes", bytes / all.len());
    ensure!(
        companion
            .metric("unitring_companion_event_log_entries")
            .await?
            == 50_001.0
    );
    let age = companion
        .metric("unitring_companion_event_log_age_seconds")
        .await?;
    ensure!((49_990.0..50_300.0).contains(&age), "{age}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_reporter_leaves_the_others_their_day() -> Result<()> {
    let companion = Settings::default().start().await?;
    let now_ms = now_ms()?;
    tell(
        &companion,
        "edge-1",
        1,
        vec![event(1, now_ms, "ejected", "10.0.0.5:8080")],
    )
    .await?;
    let mut through = 0;
    for sequence in 1..=10 {
        let events = (1..=1_500).map(|number| {
            event(
                through + number,
                now_ms,
                "ejected",
                &format!("invented-{sequence}-{number}"),
            )
        });
        let answer = tell(&companion, "hostile", sequence, events.collect()).await?;
        // Events that are left out are confirmed too, or a filter would repeat them for ever. A report may have 1,024.
        let confirmed = answer["events_through"].as_u64().context("no number")?;
        ensure!(confirmed == through + 1_024, "{answer}");
        through = confirmed;
    }
    let left_out = companion
        .metric("unitring_companion_events_left_out_total")
        .await?;
    let stored = companion
        .metric("unitring_companion_events_stored_total")
        .await?;
    ensure!(
        left_out + stored == 10_241.0 && (2_000.0..4_000.0).contains(&stored),
        "{stored} {left_out}"
    );
    let log = companion.log();
    ensure!(
        log.matches("events left out of the event log").count() == 1,
        "{log}"
    );
    // Other reporters' events are logged as before, and the hostile one's known events are still counted.
    tell(
        &companion,
        "hostile",
        11,
        vec![event(through + 1, now_ms, "ejected", "10.0.0.5:8080")],
    )
    .await?;
    tell(
        &companion,
        "edge-2",
        1,
        vec![event(1, now_ms + 5, "recovered", "10.0.0.5:8080")],
    )
    .await?;
    let all = exported(&companion, &["--since", "1h"])?;
    let first = all.first().context("nothing")?;
    ensure!(
        first["reporter"] == "edge-1" && first["seen_by"] == 2,
        "{first}"
    );
    let last = all.last().context("nothing")?;
    ensure!(last["reporter"] == "edge-2", "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_companion_beside_a_new_one_is_read_and_hides_no_turn() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis)
        .variable("UNITRING_UNIT", "unit-1")
        .start()
        .await?;
    let key = "unitring:{unit-1}:events";
    let at_ms = now_ms()?;
    let older = |at_ms: u64, kind: &str| {
        let text = json!({"at_ms": at_ms, "kind": kind, "service": "orders", "instance": "a", "reason": "r",
            "ring": "", "moved": 0.0, "reporter": "old"});
        redis.cli(&[
            "XADD",
            key,
            "MAXLEN",
            "~",
            "10000",
            "*",
            "event",
            &text.to_string(),
        ])
    };
    let newer = |reporter: &'static str, at_ms: u64, kind: &'static str| {
        let mut event = event(at_ms, at_ms, kind, "a");
        event["reason"] = json!("r");
        tell(&companion, reporter, at_ms, vec![event])
    };
    older(at_ms, "ejected")?;
    newer("e1", at_ms + 1, "ejected").await?;
    newer("e2", at_ms + 2, "ejected").await?;
    older(at_ms + 3, "recovered")?;
    newer("e1", at_ms + 4, "ejected").await?;
    newer("e2", at_ms + 5, "ejected").await?;
    let told = exported(&companion, &["--since", "1h"])?;
    let kinds: Vec<_> = told
        .iter()
        .map(|it| {
            (
                it["kind"].as_str().unwrap_or_default(),
                it["seen_by"].as_u64(),
            )
        })
        .collect();
    let turns = [
        ("ejected", None),
        ("ejected", Some(2)),
        ("recovered", None),
        ("ejected", Some(2)),
    ];
    ensure!(kinds == turns, "{told:?}");
    // An older companion reads entries of one field, which is an event.
    let rows = redis.cli(&["XRANGE", key, "-", "+"])?;
    let rows: Vec<&str> = rows.lines().collect();
    for row in rows.chunks_exact(3) {
        let event: Value = serde_json::from_str(row[2])?;
        ensure!(
            row[1] == "event" && event["reporter"].is_string(),
            "{row:?}"
        );
    }
    ensure!(rows.len() == 12, "{rows:?}");
    // Nothing of the lost log stays behind, and counting begins anew.
    redis.cli(&["DEL", key])?;
    newer("e1", at_ms + 6, "ejected").await?;
    ensure!(exported(&companion, &[])?.len() == 1);
    let index = redis.cli(&["HGETALL", "unitring:{unit-1}:events-index"])?;
    ensure!(index.contains("bytes") && !index.contains(' '), "{index}");
    let left = redis.cli(&["PTTL", "unitring:{unit-1}:events-latest:orders/a"])?;
    let left = Duration::from_millis(left.parse()?);
    ensure!(
        left > Duration::ZERO && left <= Duration::from_secs(60),
        "{left:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_from_some_time_ago_is_not_shown_what_was_before() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis)
        .variable("UNITRING_UNIT", "unit-1")
        .start()
        .await?;
    // All that there is happened, and was stored, three hours ago.
    let before_ms = now_ms()?.saturating_sub(3 * 3_600_000);
    let text = json!({"at_ms": before_ms, "kind": "ejected", "service": "orders", "instance": "a", "reason": "r",
        "ring": "", "moved": 0.0, "reporter": "old"});
    let (key, id) = ("unitring:{unit-1}:events", format!("{before_ms}-0"));
    redis.cli(&["XADD", key, &id, "event", &text.to_string()])?;
    let folder = TempDir::new()?;
    let mut command = Command::new(programs::built("unitring")?);
    command
        .args(["events", "--json", "--since", "15m", "--follow"])
        .env(
            "UNITRING_URL",
            format!("http://127.0.0.1:{}", companion.port),
        );
    let mut follower = Process::start("events", &mut command, folder.path())?;
    let told = event(1, now_ms()?, "recovered", "10.0.0.5:8080");
    tell(&companion, "edge-1", 1, vec![told]).await?;
    let log = folder.path().join("events.log");
    until("the follower to have the event", async || {
        let text = fs::read_to_string(&log)?;
        ensure!(text.contains("recovered"), "{text}");
        ensure!(!text.contains("ejected"), "{text}");
        Ok(())
    })
    .await?;
    follower.kill()
}

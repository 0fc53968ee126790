//! The content of docs/layout.md, read by `redis-cli` alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use unitring_tests::companion::Settings;
use unitring_tests::redis::Redis;

/// The fields of `name value name value …`, as `redis-cli HGETALL` prints them.
fn fields(text: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2);
    pairs
        .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
        .collect()
}

#[tokio::test]
async fn a_plain_client_reads_records_versions_digests_and_changes() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).variable("UNITRING_UNIT", "east");
    let companion = companion.start().await?;
    companion.put_record("ada", "written in east").await?;
    let path = "/v1/data/profiles/ada";
    let read = companion.call(Method::GET, path, vec![]).await?;
    let tag = read.headers().get("etag").context("no tag")?.to_str()?;
    let version = tag.trim_matches('"').to_owned();

    // The record of the page, in the bucket of the page.
    let value = redis.cli(&["GET", "unitring:{east:49}:r:profiles/ada"])?;
    assert_eq!(value, "written in east");
    let versions = fields(&redis.cli(&["HGETALL", "unitring:{east:49}:versions"])?);
    assert_eq!(
        versions,
        BTreeMap::from([("profiles/ada".to_owned(), version.clone())])
    );
    let meta = fields(&redis.cli(&["HGETALL", "unitring:{east:49}:meta"])?);
    assert_eq!(meta["sequence"], "1");
    assert_eq!(meta["changes"], "1");
    let clock = format!("{}.{}@east", meta["ms"], meta["counter"]);
    assert_eq!(clock, version);
    let sha1 = format!("return redis.sha1hex('profiles/ada {version}')");
    let sha1 = redis.cli(&["EVAL", &sha1, "0"])?;
    assert_eq!(meta["digest"], sha1[..16]);
    let changes = redis.cli(&["XRANGE", "unitring:{east:49}:changes", "-", "+"])?;
    let changes: Vec<&str> = changes.lines().collect();
    assert_eq!(changes, ["1-0", "id", "profiles/ada", "mark", &version]);
    assert_eq!(redis.cli(&["GET", "unitring:{east}:layout"])?, "2");

    // A record that expires.
    let brief = format!("{path}?ttl=1h");
    let put = companion
        .call(Method::PUT, &brief, b"brief".to_vec())
        .await?;
    let put: serde_json::Value = put.json().await?;
    let expires = put["expires_ms"].to_string();
    let key = "unitring:{east:49}:r:profiles/ada";
    assert_eq!(redis.cli(&["PEXPIRETIME", key])?, expires);
    let mark = redis.cli(&["HGET", "unitring:{east:49}:versions", "profiles/ada"])?;
    let version = put["version"].as_str().context("no version")?;
    assert_eq!(mark, format!("{version}~{expires}"));
    let score = redis.cli(&["ZSCORE", "unitring:{east:49}:gone", "profiles/ada"])?;
    assert_eq!(score, expires);

    // The stamps of data updates.
    let update = serde_json::json!({
        "version": 1, "source": "e~1", "vm": 26, "service": "orders",
        "updates": [{"sequence": 5, "dataset": "profiles", "key": "ada"}],
    });
    let update = update.to_string().into_bytes();
    companion.call(Method::POST, "/v1/updates", update).await?;
    let key = "unitring:{east:49}:u:profiles/ada";
    let stamps = redis.cli(&["GET", key])?;
    let sha1 = "return redis.sha1hex(string.char(0) .. 'e~1')";
    let source = redis.cli(&["EVAL", sha1, "0"])?;
    let stamp = format!("{}.5.000000000000001a", &source[..16]);
    let (forget_ms, rest) = stamps.split_once(' ').context("no time")?;
    ensure!(
        rest == stamp && forget_ms.parse::<u64>().is_ok(),
        "{stamps}"
    );
    let left: u64 = redis.cli(&["PTTL", key])?.parse()?;
    ensure!((3_500_000..=3_600_000).contains(&left), "{left}");

    // The page names every key.
    let page = std::fs::read_to_string(unitring_tests::programs::root()?.join("docs/layout.md"))?;
    for key in redis.cli(&["--scan"])?.lines() {
        let name = key.split("}:").nth(1).context("no name")?;
        let name = name.split(':').next().unwrap_or(name);
        let is_named = page.contains(&format!("`unitring:{{U}}:{name}"))
            || page.contains(&format!("`unitring:{{U:B}}:{name}"));
        ensure!(is_named, "{key} is not in docs/layout.md");
    }
    Ok(())
}

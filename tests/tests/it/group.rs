//! The group of Redis servers is created, repaired and inspected, and foreign servers are never touched.

mod tls;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::redis::Redis;
use unitring_tests::redis::cluster::Cluster;

/// Redis servers with default settings, and a configuration that names them.
struct Group {
    servers: Vec<Redis>,
    folder: TempDir,
    persistence: &'static str,
}

impl Group {
    async fn fresh(count: usize) -> Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Redis::start_with(&[]).await?);
        }
        let folder = TempDir::new()?;
        let line = r#"{"dataset": "currencies", "key": "EUR", "value": "2"}"#;
        fs::write(folder.path().join("fixed.jsonl"), line)?;
        Ok(Self {
            servers,
            folder,
            persistence: "aof",
        })
    }

    /// Runs `unitring group …`: its exit code and its whole output.
    fn run(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let urls: Vec<String> = self.servers.iter().map(Redis::url).collect();
        let output = Command::new(programs::built("unitring")?)
            .arg("group")
            .args(arguments)
            .args(["--unit", "east", "--group-servers", &urls.join(",")])
            .args(["--group-persistence", self.persistence])
            .args([
                "--group-min-replicas",
                if urls.len() > 1 { "1" } else { "0" },
            ])
            .arg("--group-fixed-data")
            .arg(self.folder.path().join("fixed.jsonl"))
            .output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok((output.status.code().context("killed")?, text))
    }

    /// Runs `unitring group create`, which must succeed.
    fn create(&self) -> Result<String> {
        let (code, text) = self.run(&["create"])?;
        ensure!(code == 0, "{code}: {text}");
        Ok(text)
    }

    fn status(&self) -> Result<(i32, Value)> {
        let (code, text) = self.run(&["status", "--json"])?;
        Ok((code, serde_json::from_str(&text).context(text)?))
    }

    fn keys(&self) -> Result<Vec<String>> {
        self.servers
            .iter()
            .map(|one| one.cli(&["DBSIZE"]))
            .collect()
    }
}

#[tokio::test]
async fn fresh_servers_become_a_group_and_a_second_run_has_nothing_to_do() -> Result<()> {
    let group = Group::fresh(3).await?;
    let (code, text) = group.run(&["create", "--dry-run"])?;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("data structure") && text.contains("nothing was touched"),
        "{text}"
    );
    assert_eq!(group.keys()?, ["0", "0", "0"], "a dry run");

    let text = group.create()?;
    for step in [
        "data structure",
        "persistence",
        "replication",
        "fixed data",
        "verified",
    ] {
        assert!(text.contains(step), "no {step} in {text}");
    }
    let primary = &group.servers[0];
    for server in &group.servers {
        assert_eq!(
            server.cli(&["CONFIG", "GET", "appendonly"])?,
            "appendonly\nyes"
        );
        assert_eq!(server.cli(&["CONFIG", "GET", "save"])?, "save");
        assert_eq!(server.cli(&["GET", "unitring:{east}:layout"])?, "2");
        assert_eq!(
            server.cli(&["HGET", "unitring:{east}:fixed:currencies", "EUR"])?,
            "2"
        );
    }
    let replication = primary.cli(&["INFO", "replication"])?;
    assert!(replication.contains("connected_slaves:2"), "{replication}");
    assert_eq!(
        primary.cli(&["CONFIG", "GET", "min-replicas-to-write"])?,
        "min-replicas-to-write\n1"
    );
    assert!(group.create()?.contains("nothing to do"));

    let (code, status) = group.status()?;
    assert_eq!(
        (code, &status["healthy"]),
        (0, &Value::Bool(true)),
        "{status}"
    );
    assert_eq!(status["servers"][0]["role"], "primary");
    assert_eq!(status["servers"][2]["role"], "replica");
    assert_eq!(status["servers"][2]["fixed"][0], 1);
    Ok(())
}

#[tokio::test]
async fn a_drift_is_mended_and_a_new_version_of_the_fixed_data_spreads() -> Result<()> {
    let mut group = Group::fresh(2).await?;
    group.create()?;
    group.servers[1].cli(&["CONFIG", "SET", "appendonly", "no"])?;
    group.servers[1].cli(&["REPLICAOF", "NO", "ONE"])?;
    let (code, text) = group.run(&["status"])?;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("problem: several primaries"), "{text}");

    // The server holds data now, and only its operator knows whether they matter.
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 3, "{text}");
    let force = format!("127.0.0.1:{}", group.servers[1].port);
    assert!(text.contains(&format!("--force-replica {force}")), "{text}");
    let (code, text) = group.run(&["create", "--force-replica", &force])?;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("follow") && text.contains("appendonly"),
        "{text}"
    );

    let line = r#"{"dataset": "currencies", "key": "JPY", "value": "0"}"#;
    fs::write(group.folder.path().join("fixed.jsonl"), line)?;
    let text = group.create()?;
    assert!(text.contains("fixed data: load version 2"), "{text}");
    let key = "unitring:{east}:fixed:currencies";
    until("the replica to have it", async || {
        let values = group.servers[1].cli(&["HGETALL", key])?;
        ensure!(values == "JPY\n0", "{values}");
        Ok(())
    })
    .await?;

    // The companion reads the fixed data, and writes none.
    let companion = Settings::on_redis(&group.servers[0]).variable("UNITRING_UNIT", "east");
    let companion = companion.start().await?;
    let fixed = companion.get("/v1/fixed").await?;
    assert_eq!(fixed["version"], 2);
    assert_eq!(fixed["datasets"], serde_json::json!(["currencies"]));
    let path = "/v1/fixed/currencies/JPY";
    let value = companion.call(Method::GET, path, vec![]).await?;
    assert_eq!(value.text().await?, "0");
    let gone = companion
        .call(Method::GET, "/v1/fixed/currencies/EUR", vec![])
        .await?;
    assert_eq!(gone.status(), 404);
    let write = companion.call(Method::PUT, path, b"1".to_vec()).await?;
    assert_eq!(write.status(), 405);

    // The settings outlast a restart: they are in the server's own file.
    group.servers[0].restart().await?;
    let appendonly = group.servers[0].cli(&["CONFIG", "GET", "appendonly"])?;
    assert_eq!(appendonly, "appendonly\nyes");
    group.persistence = "both";
    assert!(group.create()?.contains("set save"));
    Ok(())
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_not_touched() -> Result<()> {
    let group = Group::fresh(2).await?;
    group.servers[0].cli(&["SET", "session:1", "of somebody"])?;
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("somebody else's data"), "{text}");
    assert_eq!(group.keys()?, ["1", "0"]);

    group.servers[0].cli(&["SET", "unitring:{east}:layout", "99"])?;
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("newer than") && text.contains("update it"),
        "{text}"
    );

    let strange = Redis::start_with(&[]).await?;
    let group = Group::fresh(2).await?;
    let port = strange.port.to_string();
    group.servers[1].cli(&["REPLICAOF", "127.0.0.1", &port])?;
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("is a replica of") && text.contains("NO ONE"),
        "{text}"
    );
    let (replicas, keys) = (strange.cli(&["INFO", "replication"])?, group.keys()?);
    assert!(replicas.contains("role:master"), "{replicas}");
    assert_eq!(keys, ["0", "0"]);
    Ok(())
}

#[tokio::test]
async fn serve_says_once_that_the_group_is_degraded_and_once_that_it_is_well_again() -> Result<()> {
    let mut group = Group::fresh(2).await?;
    group.create()?;
    let urls: Vec<String> = group.servers.iter().map(Redis::url).collect();
    let companion = Settings::on_redis(&group.servers[0])
        .variable("UNITRING_UNIT", "east")
        .variable("UNITRING_GROUP_SERVERS", &urls.join(","))
        .start()
        .await?;
    let is_healthy = async |expected: bool| {
        until(
            &format!("the group to be healthy: {expected}"),
            async || {
                let status = companion.get("/v1/group").await?;
                ensure!(status["healthy"] == expected, "{status}");
                Ok(status)
            },
        )
        .await
    };
    is_healthy(true).await?;
    group.servers[1].kill()?;
    let status = is_healthy(false).await?;
    let port = group.servers[1].port.to_string();
    assert!(status["problems"].to_string().contains(&port), "{status}");
    // With fewer replicas than `min_replicas` Redis accepts no write, once it has noticed.
    until(
        "the companion to say that it is not ready, and why",
        async || {
            let answer = companion.call(Method::GET, "/readyz", vec![]).await?;
            let (status, ready) = (answer.status().as_u16(), answer.json::<Value>().await?);
            let told = |check: &str| ready["checks"][check].as_str().unwrap_or("").to_owned();
            let is_told =
                told("group").starts_with("degraded: ") && told("store").contains("NOREPLICAS");
            ensure!(status == 503 && is_told, "{status} {ready}");
            Ok(())
        },
    )
    .await?;
    until("a write to be refused", async || {
        let path = "/v1/data/profiles/bob";
        let answer = companion.call(Method::PUT, path, b"x".to_vec()).await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(
            status == 503 && text.contains("NOREPLICAS"),
            "{status} {text}"
        );
        Ok(())
    })
    .await?;
    group.servers[1].restart().await?;
    is_healthy(true).await?;
    companion.is_ready().await?;
    until("a write to be taken", async || {
        companion.put_record("ada", "hello").await
    })
    .await?;

    let metrics = companion.metrics().await?;
    for line in [
        "unitring_companion_group_degradations_total 1\n",
        "unitring_companion_group_replicas_linked 1\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_is_acknowledged_once_the_replicas_have_it() -> Result<()> {
    let group = Group::fresh(2).await?;
    group.create()?;
    let [primary, replica] = &group.servers[..] else {
        anyhow::bail!("not two");
    };
    // This tests only the wait: the primary itself accepts writes without replicas.
    primary.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"])?;
    let companion = Settings::on_redis(primary)
        .variable("UNITRING_UNIT", "east")
        .variable("UNITRING_STORE_WAIT_REPLICAS", "1")
        .variable("UNITRING_STORE_WAIT_TIMEOUT", "2s")
        .start()
        .await?;
    for number in 0..20 {
        // A replica on a busy machine may be late; then the write is refused.
        until("a write to be acknowledged", async || {
            companion.put_record(&format!("k{number}"), "safe").await
        })
        .await?;
    }
    // Checked at once: the replica had each write when it was acknowledged.
    let kept = replica.cli(&["--scan", "--pattern", "unitring:{east:*}:r:profiles/k*"])?;
    assert_eq!(kept.lines().count(), 20, "{kept}");

    // A restarted server has forgotten its scripts.
    primary.cli(&["SCRIPT", "FLUSH"])?;
    companion.put_record("after", "safe").await?;

    replica.process().pause().await?;
    let put = async || -> Result<(u16, String)> {
        let path = "/v1/data/profiles/late";
        let answer = companion.call(Method::PUT, path, b"x".to_vec()).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    let (status, text) = put().await?;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("0 of 1 replicas"), "{text}");
    // Reads do not wait.
    companion.has_record("k1", "safe").await?;
    replica.process().signal(Signal::CONT)?;
    until("a write to be acknowledged again", async || {
        let (status, text) = put().await?;
        ensure!(status == 200, "{status} {text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_is_gone_is_named_and_bad_settings_are_refused() -> Result<()> {
    let mut group = Group::fresh(2).await?;
    group.create()?;
    group.servers[1].kill()?;
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&group.servers[1].port.to_string()), "{text}");
    let (code, status) = group.status()?;
    assert_eq!(code, 1, "{status}");
    assert_eq!(status["servers"][0]["role"], "primary", "{status}");
    assert!(status["servers"][1]["error"].is_string(), "{status}");

    group.persistence = "tape";
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 64, "{text}");
    assert!(
        text.contains("group.persistence") && text.contains("tape"),
        "{text}"
    );
    fs::write(group.folder.path().join("fixed.jsonl"), "{")?;
    group.persistence = "aof";
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("line 1"), "{text}");
    Ok(())
}

#[tokio::test]
async fn servers_of_a_redis_cluster_are_left_to_it() -> Result<()> {
    let cluster = Cluster::start(0).await?;
    let mut group = Group::fresh(0).await?;
    group.servers = cluster.servers;
    let (code, text) = group.run(&["create"])?;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("part of a Redis Cluster"), "{text}");
    let (_, status) = group.status()?;
    let problems = status["problems"].to_string();
    assert!(!problems.contains("several primaries"), "{problems}");
    Ok(())
}

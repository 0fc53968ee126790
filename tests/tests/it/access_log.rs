//! Envoy's access log shows why a request went to its instance; callers do not see that.
//!
//! The formats are those of docs/settings.md.

mod twice;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;
use unitring_tests::page_part::with;
use unitring_tests::site::Site;
use unitring_tests::tcp::{TcpSite, client};

const PAGE: &str = "settings.md";

/// With the JSON log of the page.
fn logged(config: EnvoyConfig) -> Result<EnvoyConfig> {
    with(config, PAGE, "access-log")
}

/// The lines of the JSON log whose path begins so.
fn lines(envoy: &Envoy, path: &str) -> Vec<Value> {
    let log = envoy.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["path"].as_str().is_some_and(|at| at.starts_with(path)))
        .collect()
}

/// Waits for this many such lines.
async fn come(envoy: &Envoy, path: &str, count: usize) -> Result<Vec<Value>> {
    until("lines of the access log", async || {
        let lines = lines(envoy, path);
        ensure!(
            lines.len() == count,
            "{lines:?} for {path}, {count} expected"
        );
        Ok(lines)
    })
    .await
}

fn count(lines: &[Value], reason: &str) -> usize {
    lines.iter().filter(|line| line["reason"] == reason).count()
}

#[tokio::test]
async fn what_the_filter_chose_is_logged_and_neither_told_to_callers_nor_forged() -> Result<()> {
    let site = Site::start_with(logged).await?;
    for key in keys(20) {
        let request = site.envoy.request("/owner").header("x-user-id", &key);
        let forged = request
            .header("x-unitring-reason", "full")
            .header("x-unitring-instance", "127.0.0.1:1")
            .header("wasm.unitring.reason", "full");
        let answer = send(forged).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        let mut names = answer
            .headers
            .keys()
            .map(reqwest::header::HeaderName::as_str);
        ensure!(!names.any(|name| name.contains("unitring")));
    }
    let lines = come(&site.envoy, "/owner", 20).await?;
    let ring = lines.first().context("no line")?["ring"].clone();
    ensure!(ring.is_string(), "{ring}");
    for line in &lines {
        let (reason, status) = (&line["reason"], &line["status"]);
        ensure!(reason == "primary" && status == 200, "{line}");
        ensure!(line["chosen"] == line["upstream"], "{line}");
        ensure!(line["ring"] == ring && line["attempts"] == 1, "{line}");
    }
    // The last report may be of a moment before all instances were checked.
    until("the companion to have a report of that ring", async || {
        let path = "/v1/services/orders/locate?key=ada";
        let located = site.companion.get(path).await?;
        ensure!(located["ring"]["version"] == ring, "{located}, not {ring}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_that_were_not_placed_on_their_owner_can_be_logged_alone() -> Result<()> {
    let site = Site::start_with(|config| with(config, PAGE, "access-log-of-others")).await?;
    for key in keys(5) {
        send(site.envoy.request("/placed").header("x-user-id", key)).await?;
    }
    let answer = send(site.envoy.request("/keyless")).await?;
    let upstream = site.instances.iter().find(|one| one.id == answer.instance);
    let upstream = upstream.context("nobody answered")?.address();
    let expected = format!("/keyless 200 fallback.no_key - {upstream}");
    until("the line", async || {
        let log = site.envoy.log();
        let lines: Vec<_> = log.lines().filter(|line| line.starts_with('/')).collect();
        ensure!(lines == [expected.as_str()], "{lines:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_overflow_and_a_503_for_a_full_service_are_logged_with_their_reason() -> Result<()> {
    let site = Site::start_with(|config| {
        let load = json!({"min_capacity": 1, "max_in_flight": 2, "scope": "process"});
        logged(config)?.patient()?.setting("load", load)
    })
    .await?;
    let held = (0..8).map(|_| {
        let request = site.envoy.request("/held?stream_ms=120000");
        request.header("x-user-id", "hot").send()
    });
    let held = try_join_all(held).await?;
    let refused = send(site.envoy.request("/refused").header("x-user-id", "hot")).await?;
    ensure!(refused.status == 503, "{}", refused.status);
    let lines = come(&site.envoy, "/refused", 1).await?;
    let line = lines.first().context("no line")?;
    ensure!(line["reason"] == "full" && line["status"] == 503, "{line}");
    ensure!(
        line["chosen"] == "-" && line["upstream"].is_null(),
        "{line}"
    );
    ensure!(line["ring"].is_string(), "{line}");
    drop(held);
    let lines = come(&site.envoy, "/held", 8).await?;
    let (owner, over) = (count(&lines, "primary"), count(&lines, "overflow"));
    ensure!(owner > 0 && over > 0, "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_stand_in_for_an_unhealthy_owner_and_a_retry_are_told_apart() -> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .unchecked()?
        .setting("companion.cluster", json!(""))?
        .setting("ejection.consecutive_failures", json!(0))?
        .edit_cluster("orders", |cluster| {
            let first = "/load_assignment/endpoints/0/lb_endpoints/0";
            let first = cluster.pointer_mut(first).context("no endpoint")?;
            first["health_status"] = json!("UNHEALTHY");
            Ok(())
        })?;
    let envoy = Envoy::start(&logged(config)?).await?;
    envoy.steers_to(3).await?;
    let dead = instances.pop().context("no instance")?.address();
    for key in keys(60) {
        let answer = send(envoy.request("/").header("x-user-id", key)).await?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    let lines = come(&envoy, "/", 60).await?;
    let stand_ins = count(&lines, "ejected");
    ensure!(stand_ins > 0 && count(&lines, "primary") > 0, "{lines:?}");
    let (retried, direct): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["chosen"] == dead);
    ensure!(!retried.is_empty(), "no key of {dead}");
    for line in retried {
        let elsewhere = line["chosen"] != line["upstream"];
        ensure!(elsewhere && line["attempts"] == 2, "{line}");
    }
    for line in direct {
        let there = line["chosen"] == line["upstream"];
        ensure!(there && line["attempts"] == 1, "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn where_it_is_off_the_fields_are_empty() -> Result<()> {
    let off = Site::start_with(|config| {
        let config = with(logged(config)?, PAGE, "access-log-of-others")?;
        let config = config.setting("access_log", json!(false))?;
        // Without its filter the text log has every request.
        config.edit_connections(|manager| {
            let log = manager.pointer_mut("/access_log/1");
            let log = log.and_then(Value::as_object_mut).context("no text log")?;
            log.remove("filter");
            Ok(())
        })
    })
    .await?;
    off.envoy.get("ada").await?;
    let lines = come(&off.envoy, "/", 1).await?;
    let line = lines.first().context("no line")?;
    for field in ["reason", "ring", "chosen"] {
        ensure!(line[field].is_null(), "{line}");
    }
    let upstream = line["upstream"].as_str().context("no upstream")?;
    let text = format!("/ 200 - - {upstream}");
    until("the line of text", async || {
        let log = off.envoy.log();
        ensure!(log.lines().any(|line| line == text), "no {text} in {log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_tcp_connection_is_logged_where_the_filter_is() -> Result<()> {
    let site = TcpSite::start_in(unitring_tests::shell::Shell::Filter, 1, &[], |config| {
        let format = json!({
            "path": "%REQ(:AUTHORITY)%",
            "reason": "%FILTER_STATE(wasm.unitring_reason:PLAIN)%",
            "chosen": "%FILTER_STATE(wasm.unitring_instance:PLAIN)%",
            "upstream": "%UPSTREAM_REMOTE_ADDRESS%",
        });
        let kind = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
        let log = json!({
            "name": "json",
            "typed_config": {"@type": kind, "log_format": {"json_format": format}},
        });
        config
            .setting("access_log", json!(true))?
            .edit_connections(|tunnel| {
                let fields = tunnel.as_object_mut().context("not an object")?;
                fields.insert("access_log".to_owned(), json!([log]));
                Ok(())
            })
    })
    .await?;
    let instance = site.open(client(1), "echo").await?.instance;
    let address = site.address_of(&instance)?;
    let lines = come(&site.envoy, "", 1).await?;
    let line = lines.first().context("no line")?;
    ensure!(line["reason"] == "primary", "{line}");
    ensure!(
        line["chosen"] == address && line["upstream"] == address,
        "{line}"
    );
    Ok(())
}

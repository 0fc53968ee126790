//! A service has the name of its Envoy cluster: registry, reports, `locate`, events, metrics and the
//! command line accept it, and the keys and labels derived from it encode its characters.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring::testing::contract::NAMES;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::redis::Redis;
use unitring_tests::report::{escaped, instance, report, service};

fn address(number: usize) -> String {
    format!("10.0.0.1:{number}")
}

/// Registers an instance of each service, and reports one request in flight on it.
async fn fill(companion: &Companion) -> Result<()> {
    for (number, name) in (1..).zip(NAMES) {
        let path = format!("/v1/services/{}/instances/i%2F{number}", escaped(name));
        let body = json!({ "address": address(number), "weight": number });
        let body = body.to_string().into_bytes();
        let put = companion.call(Method::PUT, &path, body).await?;
        ensure!(put.status() == 201, "{name}: {}", put.text().await?);
    }
    let services = (1..).zip(NAMES).map(|(number, name)| {
        let id = format!("i/{number}");
        service(name, vec![instance(&id, &address(number), 1)])
    });
    let mut report = report("e~1", 1, services.collect());
    // So that it counts until the end, however long the commands take.
    report["interval_ms"] = json!(120_000);
    let told = companion.report(&report).await?;
    let told = told["services"].as_array().context("no services")?;
    let names: Vec<&str> = told
        .iter()
        .filter_map(|it| it["service"].as_str())
        .collect();
    ensure!(names == NAMES, "{names:?}");
    Ok(())
}

fn names(list: &Value) -> Vec<String> {
    let services = list["services"].as_array().into_iter().flatten();
    let mut names: Vec<String> = services
        .filter_map(|one| one["service"].as_str().map(ToOwned::to_owned))
        .collect();
    names.sort_unstable();
    names
}

/// The API decodes a path's segment, `%2F` included, and no other service answers.
async fn the_api_takes_them(companion: &Companion) -> Result<()> {
    let mut sorted = NAMES.map(ToOwned::to_owned);
    sorted.sort_unstable();
    let listed = names(&companion.get("/v1/services").await?);
    ensure!(listed == sorted, "{listed:?}");
    for (number, name) in (1..).zip(NAMES) {
        let path = format!("/v1/services/{}", escaped(name));
        let one = companion.get(&path).await?;
        ensure!(one["service"] == name, "{one}");
        ensure!(one["registry"][0]["weight"] == number, "{one}");
        ensure!(one["instances"][0]["address"] == address(number), "{one}");
        let located = companion.get(&format!("{path}/locate?key=ada")).await?;
        ensure!(located["service"] == name, "{located}");
        ensure!(located["owner"]["address"] == address(number), "{located}");
        let instances = companion.get(&format!("{path}/instances")).await?;
        ensure!(instances["instances"][0]["weight"] == number, "{instances}");
        let snapshot = companion.get(&format!("{path}/snapshot")).await?;
        let rest = &snapshot["services"][0];
        ensure!(rest["service"] == name, "{snapshot}");
        ensure!(rest["rest"][0]["in_flight"] == 1, "{snapshot}");
    }
    // A slash that is not encoded ends the name.
    let path = "/v1/services/httproute/default/orders/rule/0";
    let answer = companion.call(Method::GET, path, vec![]).await?;
    ensure!(answer.status() == 404, "{}", answer.status());
    let path = "/v1/services/a%0Ab/instances/i";
    let answer = companion.call(Method::PUT, path, vec![]).await?;
    ensure!(answer.status() == 400, "{}", answer.status());
    Ok(())
}

async fn events_and_metrics_name_them(companion: &Companion) -> Result<()> {
    let events = companion.get("/v1/events?format=json&limit=100").await?;
    let events = events.as_array().context("no events")?;
    let told: Vec<&str> = events
        .iter()
        .filter_map(|event| event["service"].as_str())
        .collect();
    ensure!(told == NAMES, "{told:?}");
    for (number, name) in (1..).zip(NAMES) {
        let label = name.replace('\\', "\\\\").replace('"', "\\\"");
        let labels = format!("{{service=\"{label}\",upstream=\"i/{number}\"}}");
        let metric = format!("unitring_companion_instance_calls_total{labels}");
        let calls = companion.metric(&metric).await?;
        ensure!((calls - 10.0).abs() < 0.5, "{metric} {calls}");
    }
    Ok(())
}

fn the_command_line_takes_them(companion: &Companion) -> Result<()> {
    let say = |arguments: &[&str]| -> Result<String> {
        let (is_done, text) = companion.ask(arguments)?;
        ensure!(is_done, "{arguments:?}: {text}");
        Ok(text)
    };
    let status = say(&["status"])?;
    for (number, name) in (1..).zip(NAMES) {
        let line = format!("service    {name}: 1 instance registered, 1 Envoy reports\n");
        ensure!(status.contains(&line), "{status}");
        let id = format!("i/{number}");
        let listed = say(&["instance", "list", "--service", name])?;
        let expected = format!("{id} ({}), weight {number}\n", address(number));
        ensure!(listed == expected, "{listed}");
        let located = say(&["locate", "--service", name, "--key", "a/b?c&d"])?;
        let expected = format!("owner      {id} ({})\n", address(number));
        ensure!(located.contains(&expected), "{located}");
        let one = ["--service", name, "--id", &id];
        let drained = say(&[&["instance", "drain"], &one[..]].concat())?;
        ensure!(drained.contains("draining"), "{drained}");
        let removed = say(&[&["instance", "remove"], &one[..]].concat())?;
        ensure!(
            removed == format!("{id} is removed from {name}\n"),
            "{removed}"
        );
    }
    Ok(())
}

async fn takes_any_name(companion: &Companion) -> Result<()> {
    fill(companion).await?;
    the_api_takes_them(companion).await?;
    events_and_metrics_name_them(companion).await?;
    the_command_line_takes_them(companion)
}

#[tokio::test]
async fn a_service_may_have_any_name_that_envoy_takes_for_a_cluster() -> Result<()> {
    let companion = Settings::default().start().await?;
    takes_any_name(&companion).await
}

#[tokio::test]
async fn in_redis_a_plain_name_is_a_key_as_it_is_and_any_other_is_encoded() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    takes_any_name(&companion).await?;
    let all = redis.cli(&["--scan"])?;
    for name in [
        "orders",
        "outbound%7C8080%7C%7Corders.default.svc.cluster.local",
        "httproute%2Fdefault%2Forders%2Frule%2F0",
        "a%20b%20%7B%C3%A9%7D%3A%25",
    ] {
        for key in ["loads", "loads-changes", "totals"] {
            let key = format!("unitring:{{local}}:{key}:{name}");
            ensure!(all.lines().any(|found| found == key), "{key}: {all}");
        }
        let member = format!("{name}/e~1");
        let score = redis.cli(&["ZSCORE", "unitring:{local}:reporters", &member])?;
        ensure!(!score.is_empty(), "{member}");
    }
    Ok(())
}

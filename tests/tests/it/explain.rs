//! The filter returns the allocation to the caller, if the settings say so.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::report;
use unitring_tests::site::Site;

const HEADERS: [&str; 3] = [
    "x-unitring-instance",
    "x-unitring-reason",
    "x-unitring-ring",
];

#[tokio::test]
async fn an_explained_answer_names_the_instance_that_gave_it() -> Result<()> {
    let site = Site::start_with(|config| config.setting("explain", json!(true))).await?;
    for number in 0..50 {
        let answer = site.envoy.get(&format!("user-{number}")).await?;
        let said = answer
            .header("x-unitring-instance")
            .unwrap_or_default()
            .to_owned();
        let owner = site
            .instances
            .iter()
            .find(|instance| instance.id == answer.instance);
        assert_eq!(Some(said), owner.map(|owner| owner.address()));
        assert_eq!(answer.header("x-unitring-reason"), Some("primary"));
        assert!(
            answer
                .header("x-unitring-ring")
                .is_some_and(|ring| !ring.is_empty())
        );
    }
    let keyless = unitring_tests::envoy::send(site.envoy.request("/")).await?;
    assert_eq!(keyless.header("x-unitring-reason"), Some("fallback"));
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_not_explained_tells_nothing() -> Result<()> {
    let site = Site::start_with(|config| config.setting("explain", json!(false))).await?;
    let answer = site.envoy.get("ada").await?;
    assert_eq!(answer.status, 200);
    for header in HEADERS {
        assert_eq!(answer.header(header), None);
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_that_did_not_answer_is_not_named() -> Result<()> {
    let mut site = Site::start_with_workers(2, |config| {
        let config = config
            .unchecked()?
            .setting("explain", json!(true))?
            .setting("ejection.consecutive_failures", json!(0))?;
        config.edit_connections(|manager| {
            let route = manager.pointer_mut("/route_config/virtual_hosts/0/routes/0/route");
            route.context("no route")?["timeout"] = json!("5s");
            Ok(())
        })
    })
    .await?;
    // An instance's own failure is its answer.
    for instance in &site.instances {
        instance.fail_with(503).await?;
    }
    let named = site.envoy.get("ada").await?;
    assert_eq!(named.status, 503);
    let addresses: Vec<String> = site.instances.iter().map(Instance::address).collect();
    let said = named.header("x-unitring-instance").map(str::to_owned);
    assert!(said.is_some_and(|said| addresses.contains(&said)));
    // It takes the request, and Envoy's timeout answers.
    for instance in &site.instances {
        instance.fail_with(0).await?;
        instance.take(Duration::from_secs(600)).await?;
    }
    let waited = site.envoy.get("ada").await?;
    assert_eq!((waited.status, waited.header(HEADERS[0])), (504, None));
    // No instance is there: Envoy answers once it has tried the candidates.
    for instance in &mut site.instances {
        instance.kill()?;
    }
    for number in 0..20 {
        let answer = site.envoy.get(&format!("user-{number}")).await?;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("x-unitring-instance"), None, "{answer:?}");
        let reason = answer.header("x-unitring-reason");
        assert!(matches!(reason, Some("primary" | "retry")), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn locate_agrees_with_the_filter() -> Result<()> {
    let site = Site::start().await?;
    // The last report may be of a moment before the filter had its present view.
    until("both to agree on every key", async || {
        for number in 0..50 {
            let key = format!("user-{number}");
            let path = format!("/v1/services/orders/locate?key={key}");
            let located = site.companion.get(&path).await?;
            let answer = site.envoy.get(&key).await?;
            let said = answer.header("x-unitring-instance");
            let owner = located["owner"]["address"].as_str();
            ensure!(owner == said, "{key}: {said:?}, {located}");
            ensure!(located["as_reported"] == true, "{located}");
        }
        Ok(())
    })
    .await
}

/// Instances a and b in the first priority, of which a is unhealthy, c and d in the second.
fn in_two_priorities(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        let endpoints = cluster.pointer_mut("/load_assignment/endpoints");
        let endpoints = endpoints.context("no endpoints")?;
        let all = endpoints
            .pointer("/0/lb_endpoints")
            .and_then(Value::as_array);
        let mut first = all.context("none")?.clone();
        let second = first.split_off(2);
        first[0]["health_status"] = json!("UNHEALTHY");
        *endpoints = json!([
            { "lb_endpoints": first },
            { "priority": 1, "lb_endpoints": second },
        ]);
        Ok(())
    })
}

#[tokio::test]
async fn locate_agrees_with_the_filter_and_tells_the_priority_where_there_are_several() -> Result<()>
{
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .companion(&companion)?;
    let envoy = Envoy::start(&in_two_priorities(config)?).await?;
    envoy.steers_to(3).await?;
    // The last report may be of a moment before the filter had its present view.
    let priorities = until("both to agree on every key", async || {
        let mut priorities = BTreeSet::new();
        for number in 0..60 {
            let key = format!("user-{number}");
            let path = format!("/v1/services/orders/locate?key={key}");
            let located = companion.get(&path).await?;
            let answer = envoy.get(&key).await?;
            let said = answer.header("x-unitring-instance");
            let first = &located["candidates"][0];
            ensure!(
                first["address"].as_str() == said,
                "{key}: {said:?}, {located}"
            );
            ensure!(located["as_reported"] == true, "{located}");
            let is_second = ["c", "d"].contains(&answer.instance.as_str());
            ensure!(first["priority"] == u64::from(is_second), "{located}");
            priorities.insert(is_second);
        }
        Ok(priorities)
    })
    .await?;
    assert_eq!(priorities.len(), 2);
    let (is_done, text) = companion.ask(&["locate", "--key", "user-1"])?;
    ensure!(is_done && text.contains("), priority "), "{text}");
    Ok(())
}

#[tokio::test]
async fn locate_says_of_a_key_that_is_left_to_envoy_that_it_is() -> Result<()> {
    let companion = Settings::default().start().await?;
    let socket = report::instance("/run/a.sock", "/run/a.sock", 0);
    let service = report::service("orders", vec![socket]);
    let mut report = report::report("e~1", 1, vec![service]);
    // A report counts for five intervals, and no other follows.
    report["interval_ms"] = json!(60_000);
    companion.report(&report).await?;
    let located = companion.get("/v1/services/orders/locate?key=ada").await?;
    assert_eq!(located["reason"], "fallback", "{located}");
    assert_eq!(located["owner"]["id"], "/run/a.sock", "{located}");
    let (is_done, text) = companion.ask(&["locate", "--key", "ada"])?;
    let reason = "reason     fallback: a request header cannot name the owner, so Envoy's own policy \
                  chooses\n";
    ensure!(is_done && text.contains(reason), "{text}");
    Ok(())
}

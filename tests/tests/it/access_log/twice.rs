//! Requests that pass a unitring filter twice, and requests that pass the filter of another service.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::instance::Instance;
use unitring_tests::page_part::with;
use unitring_tests::site::Site;

use super::{PAGE, come, logged};

/// Makes any change to the route.
fn edit_route(config: EnvoyConfig, change: impl FnOnce(&mut Value)) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let route = "/route_config/virtual_hosts/0/routes/0/route";
        change(manager.pointer_mut(route).context("no route")?);
        Ok(())
    })
}

/// With a second filter behind the first, with other settings.
fn with_second(config: EnvoyConfig, settings: Value) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let filters = manager.pointer_mut("/http_filters").context("no filters")?;
        let filters = filters.as_array_mut().context("not a list")?;
        let mut second = filters.first().context("no filter")?.clone();
        second["name"] = json!("second");
        second["typed_config"]["config"]["name"] = json!("second");
        second["typed_config"]["config"]["configuration"]["value"] = settings;
        filters.insert(1, second);
        Ok(())
    })
}

#[tokio::test]
async fn each_part_of_an_internal_redirect_is_logged_with_its_own_choice() -> Result<()> {
    let site = Site::start_with(|config| {
        // The instance redirects to `/`, which has no key.
        let config = logged(config)?.setting("key", json!([{"query": "redirect"}]))?;
        edit_route(config, |route| {
            route["internal_redirect_policy"] = json!({"redirect_response_codes": [302]});
            route["hash_policy"] = json!([{"query_parameter": {"name": "redirect"}}]);
        })
    })
    .await?;
    let answer = send(site.envoy.request("/?redirect=1")).await?;
    ensure!(answer.status == 200, "{}", answer.status);
    let lines = come(&site.envoy, "/", 2).await?;
    let of = |status: u16| lines.iter().find(|line| line["status"] == status);
    let first = of(302).context("no redirect")?;
    ensure!(first["reason"] == "primary", "{first}");
    ensure!(first["chosen"] == first["upstream"], "{first}");
    let second = of(200).context("no answer")?;
    ensure!(second["reason"] == "fallback.no_key", "{second}");
    ensure!(second["chosen"] == "-", "{second}");
    Ok(())
}

#[tokio::test]
async fn of_two_filters_the_last_ones_choice_is_logged_as_it_is_used() -> Result<()> {
    let second = json!({
        "service": "orders",
        "key": [{"header": "x-session"}],
        "access_log": true,
        "companion": {"cluster": ""},
    });
    let site = Site::start_with(|config| with_second(logged(config)?, second)).await?;
    let request = site.envoy.request("/by-first").header("x-user-id", "ada");
    send(request).await?;
    let request = site.envoy.request("/by-both").header("x-user-id", "ada");
    send(request.header("x-session", "s-1")).await?;
    // Nothing is left of the first filter's choice.
    let lines = come(&site.envoy, "/by-first", 1).await?;
    let line = lines.first().context("no line")?;
    ensure!(line["reason"] == "fallback.no_key", "{line}");
    ensure!(line["chosen"] == "-", "{line}");
    let lines = come(&site.envoy, "/by-both", 1).await?;
    let line = lines.first().context("no line")?;
    ensure!(line["reason"] == "primary", "{line}");
    ensure!(line["chosen"] == line["upstream"], "{line}");
    Ok(())
}

/// A filter that has no service for any request.
fn for_carts() -> Value {
    json!({
        "services": [{"service": "carts"}],
        "access_log": true,
        "companion": {"cluster": ""},
    })
}

#[tokio::test]
async fn a_filter_without_a_service_for_the_request_sets_no_fields() -> Result<()> {
    let instances = Instance::start_all(&["a", "b"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = with(logged(config)?, PAGE, "access-log-of-others")?;
    let envoy = Envoy::start(&config.settings(for_carts())?).await?;
    envoy.has_healthy(instances.len()).await?;
    envoy.get("ada").await?;
    let lines = come(&envoy, "/", 1).await?;
    let line = lines.first().context("no line")?;
    for field in ["reason", "ring", "chosen"] {
        ensure!(line[field].is_null(), "{line}");
    }
    ensure!(line["status"] == 200, "{line}");
    // Both logs are written together. The expression of the second is false where it fails.
    let log = envoy.log();
    let text = log.lines().find(|line| line.starts_with('/'));
    ensure!(text.is_none(), "{text:?}");
    Ok(())
}

#[tokio::test]
async fn a_filter_without_a_service_for_the_request_leaves_anothers_fields() -> Result<()> {
    let second = for_carts();
    let site = Site::start_with(|config| with_second(logged(config)?, second)).await?;
    send(site.envoy.request("/first").header("x-user-id", "ada")).await?;
    let lines = come(&site.envoy, "/first", 1).await?;
    let line = lines.first().context("no line")?;
    ensure!(line["reason"] == "primary", "{line}");
    ensure!(line["chosen"] == line["upstream"], "{line}");
    Ok(())
}

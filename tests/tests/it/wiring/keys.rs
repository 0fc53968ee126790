//! Keys: the hash policy of every route to the service must be the key of its filter.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::send;
use unitring_tests::ports;

use super::Front;

const ROUTES: &str = "/route_config/virtual_hosts/0/routes";

fn edit_route(
    config: EnvoyConfig,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let route = manager.pointer_mut(&format!("{ROUTES}/0/route"));
        change(route.context("no route")?)
    })
}

/// A route by a header of the request, which Envoy itself sets here.
fn by_header(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let header = json!({"key": "x-cluster", "value": "orders"});
    let kind = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";
    let extension = json!([{"name": "cluster", "typed_config": {
        "@type": kind, "mutations": [{"append": {"header": header}}],
    }}]);
    let config = config.edit_connections(|manager| {
        manager["early_header_mutation_extensions"] = extension;
        Ok(())
    })?;
    edit_route(config, |route| {
        let fields = route.as_object_mut().context("not an object")?;
        fields.remove("cluster");
        route["cluster_header"] = json!("x-cluster");
        Ok(())
    })
}

/// The cluster's own hash policy, in its options of HTTP.
fn of_cluster(config: EnvoyConfig, header: &str) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http_protocol_options": {}},
            "hash_policy": [{"header": {"header_name": header}}],
        }});
        Ok(())
    })
}

/// Waits until the routes were looked at, some looks after the first.
async fn finds_nothing(front: &Front) -> Result<()> {
    front.envoy.steers_to(4).await?;
    let looks = front.envoy.ours("discovery.done").await?;
    until("some looks", async || {
        ensure!(front.envoy.ours("discovery.done").await? >= looks + 3);
        Ok(())
    })
    .await?;
    let log = front.envoy.log();
    ensure!(!log.contains("wired wrongly"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_route_by_a_header_that_hashes_another_key_is_told() -> Result<()> {
    let front = Front::start(|config| {
        edit_route(by_header(config)?, |route| {
            route["hash_policy"] = json!([{"cookie": {"name": "sid"}}]);
            Ok(())
        })
    })
    .await?;
    front.finds("hash_policy", true).await?;
    let right = Front::start(by_header).await?;
    finds_nothing(&right).await
}

#[tokio::test]
async fn a_cluster_whose_options_hash_another_key_is_told_and_its_routes_do_not_count() -> Result<()>
{
    let front = Front::start(|config| of_cluster(config, "x-session")).await?;
    front.finds("hash_policy", true).await?;
    let right = Front::start(|config| {
        edit_route(of_cluster(config, "x-user-id")?, |route| {
            route["hash_policy"] = json!([{"cookie": {"name": "sid"}}]);
            Ok(())
        })
    })
    .await?;
    finds_nothing(&right).await
}

/// A second listener, whose filter and whose route have these keys.
fn second_listener(config: EnvoyConfig, port: u16, key: &str, hashed: &str) -> Result<EnvoyConfig> {
    config.edit(|bootstrap| {
        let listeners = bootstrap.pointer_mut("/static_resources/listeners");
        let listeners = listeners.and_then(Value::as_array_mut).context("none")?;
        let mut other = listeners.first().context("no listener")?.clone();
        other["name"] = json!("second");
        other["address"]["socket_address"]["port_value"] = json!(port);
        let manager = other.pointer_mut("/filter_chains/0/filters/0/typed_config");
        let manager = manager.context("no manager")?;
        let settings = "/http_filters/0/typed_config/config/configuration/value";
        let settings = manager.pointer_mut(settings).context("no settings")?;
        settings["key"] = json!([{"header": key}]);
        let policy = manager.pointer_mut(&format!("{ROUTES}/0/route/hash_policy"));
        *policy.context("no policy")? = json!([{"header": {"header_name": hashed}}]);
        listeners.push(other);
        Ok(())
    })
}

#[tokio::test]
async fn listeners_of_one_service_with_other_keys_are_no_mistake_if_each_has_its_own() -> Result<()>
{
    let port = ports::free()?;
    let mut front =
        Front::start(|config| second_listener(config, port, "x-session", "x-session")).await?;
    finds_nothing(&front).await?;
    front.envoy.port = port;
    // Both listeners' filters count their looks in one stat, so this one's may have been none of those.
    until("the filter of the second to steer", async || {
        let request = front.envoy.request("/").header("x-session", "s0");
        let answer = send(request).await?;
        ensure!(
            answer.header("x-unitring-reason") == Some("primary"),
            "{answer:?}"
        );
        Ok(())
    })
    .await?;
    for number in 0..20 {
        let request = front.envoy.request("/");
        let answer = send(request.header("x-session", format!("s{number}"))).await?;
        let reason = answer.header("x-unitring-reason");
        ensure!(
            answer.status == 200 && reason == Some("primary"),
            "{answer:?}"
        );
    }
    finds_nothing(&front).await?;
    let wrong = Front::start(|config| {
        let port = ports::free()?;
        second_listener(config, port, "x-session", "x-tenant")
    });
    wrong.await?.finds("hash_policy", true).await
}

/// Two filters in one chain, each of which one route switches off.
#[tokio::test]
async fn routes_of_one_service_with_other_keys_are_no_mistake_if_each_has_its_filter() -> Result<()>
{
    let front = Front::start(|config| {
        config.edit_connections(|manager| {
            let filters = manager.pointer_mut("/http_filters");
            let filters = filters.and_then(Value::as_array_mut).context("none")?;
            let mut other = filters.first().context("no filter")?.clone();
            other["name"] = json!("by-session");
            let settings = "/typed_config/config/configuration/value/key";
            let key = other.pointer_mut(settings).context("no key")?;
            *key = json!([{"header": "x-session"}]);
            filters.insert(1, other);
            let routes = manager.pointer_mut(ROUTES);
            let routes = routes.and_then(Value::as_array_mut).context("none")?;
            let mut by_session = routes.first().context("no route")?.clone();
            let off = |filter: &str| {
                let kind = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
                json!({filter: {"@type": kind, "disabled": true}})
            };
            by_session["match"] = json!({"prefix": "/session"});
            by_session["route"]["hash_policy"] = json!([{"header": {"header_name": "x-session"}}]);
            by_session["typed_per_filter_config"] = off("unitring");
            routes[0]["typed_per_filter_config"] = off("by-session");
            routes.insert(0, by_session);
            Ok(())
        })
    })
    .await?;
    finds_nothing(&front).await
}

#[tokio::test]
async fn a_route_that_hashes_another_key_is_told() -> Result<()> {
    let rewritten = json!({"header": {
        "header_name": "x-user-id",
        "regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "b"},
    }});
    for source in [
        json!({"cookie": {"name": "sid"}}),
        json!({"filter_state": {"key": "user"}}),
        rewritten,
    ] {
        let front = Front::start(|config| {
            config.edit_connections(|manager| {
                let policy = "/route_config/virtual_hosts/0/routes/0/route/hash_policy";
                let policy = manager.pointer_mut(policy).context("no hash_policy")?;
                *policy = json!([source]);
                Ok(())
            })
        })
        .await?;
        let found = front.finds("hash_policy", true).await;
        found.with_context(|| source.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_fallback_that_is_no_ring_is_told() -> Result<()> {
    let front = Front::start(|config| {
        config.edit_cluster("orders", |cluster| {
            let policy = "/load_balancing_policy/policies/0/typed_extension_config/typed_config";
            let policy = cluster.pointer_mut(policy).context("no policy")?;
            policy["fallback_policy"] = json!({"policies": [{"typed_extension_config": {
                "name": "envoy.load_balancing_policies.round_robin",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"},
            }}]});
            Ok(())
        })
    })
    .await?;
    front.finds("fallback_policy", true).await
}

#[tokio::test]
async fn a_route_that_changes_the_key_before_envoy_hashes_it_is_told() -> Result<()> {
    let front = Front::start(|config| {
        let config = config.setting("key", json!([{"path": true}]))?;
        config.edit_connections(|manager| {
            let route = "/route_config/virtual_hosts/0/routes/0/route";
            let route = manager.pointer_mut(route).context("no route")?;
            route["hash_policy"] = json!([{"header": {"header_name": ":path"}}]);
            route["prefix_rewrite"] = json!("/elsewhere/");
            Ok(())
        })
    })
    .await?;
    front.finds("hash_policy", true).await
}

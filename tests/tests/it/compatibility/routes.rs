//! Actions of a route besides choosing a cluster, and other ways to choose the cluster.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use unitring_tests::config::{EnvoyConfig, endpoints_of};
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;

use super::{
    KEYS, Pair, add_route, address_of, ask, edit_route, is_idle, is_steered, named, nobody_judges,
    routes, steers_to_carts, with_carts,
};

#[tokio::test]
async fn each_cluster_of_a_weighted_route_has_its_own_placement() -> Result<()> {
    let carts = Instance::start_all(&["x", "y", "z"]).await?;
    let pair = Pair::start(&|config| {
        edit_route(with_carts(config, &carts)?, |route| {
            route.as_object_mut().context("none")?.remove("cluster");
            let weighted = |name| json!({"name": name, "weight": 50});
            route["weighted_clusters"] =
                json!({"clusters": [weighted("orders"), weighted("carts")]});
            Ok(())
        })
    })
    .await?;
    steers_to_carts(&pair.filtered, carts.len()).await?;
    // Envoy chooses the cluster at random, each time.
    let owners = async |envoy: &Envoy, is_ours: bool| -> Result<BTreeMap<_, BTreeSet<String>>> {
        let mut owners: BTreeMap<(String, bool), BTreeSet<String>> = BTreeMap::new();
        for key in keys(KEYS / 2) {
            for _ in 0..12 {
                let answer = ask(envoy, "/", &key).await?;
                let is_cart = carts.iter().any(|cart| cart.id == answer.instance);
                if is_ours {
                    let instances = if is_cart { &carts } else { &pair.instances };
                    is_steered(&answer, instances)?;
                }
                let of = owners.entry((key.clone(), is_cart)).or_default();
                of.insert(answer.instance);
            }
        }
        Ok(owners)
    };
    let native = owners(&pair.native, false).await?;
    let placed = owners(&pair.filtered, true).await?;
    let mut seen = 0;
    for (of, owner) in &placed {
        assert_eq!(owner.len(), 1, "{of:?}");
        if let Some(native) = native.get(of) {
            assert_eq!(owner, native, "{of:?}");
            seen += 1;
        }
    }
    ensure!(seen > KEYS / 2, "only {seen} keys of both");
    pair.is_idle().await
}

#[tokio::test]
async fn a_cluster_that_a_header_names_has_its_own_placement() -> Result<()> {
    let carts = Instance::start_all(&["x", "y", "z"]).await?;
    let pair = Pair::start(&|config| {
        edit_route(with_carts(config, &carts)?, |route| {
            route.as_object_mut().context("none")?.remove("cluster");
            route["cluster_header"] = json!("x-cluster");
            Ok(())
        })
    })
    .await?;
    steers_to_carts(&pair.filtered, carts.len()).await?;
    let ask = async |envoy: &Envoy, cluster: &str, key: &str| {
        let request = envoy.request("/").header("x-user-id", key);
        send(request.header("x-cluster", cluster)).await
    };
    for key in keys(KEYS) {
        for (cluster, instances) in [("orders", &pair.instances), ("carts", &carts)] {
            let native = ask(&pair.native, cluster, &key).await?;
            let placed = ask(&pair.filtered, cluster, &key).await?;
            assert_eq!(placed.instance, native.instance, "{cluster}: {key}");
            is_steered(&placed, instances)?;
        }
        let nobody = ask(&pair.filtered, "nobody", &key).await?;
        assert_eq!(nobody.status, 503, "as Envoy says");
    }
    pair.is_idle().await
}

#[tokio::test]
async fn a_shadow_request_goes_to_the_shadow_cluster_and_leaves_nothing_in_flight() -> Result<()> {
    let shadows = Instance::start_all(&["x", "y", "z"]).await?;
    let pair = Pair::start(&|config| {
        let config = config.copy_cluster("orders", "shadow", &shadows)?;
        edit_route(config, |route| {
            route["request_mirror_policies"] = json!([{"cluster": "shadow"}]);
            Ok(())
        })
    })
    .await?;
    pair.agree("/").await?;
    // The choice is random with and without the filter: Envoy gives a shadow request no hash key.
    until("the shadows of both Envoys' requests", async || {
        let loads = try_join_all(shadows.iter().map(Instance::load)).await?;
        let served: u64 = loads.iter().map(|load| load.served).sum();
        ensure!(served == 2 * u64::try_from(KEYS)?, "{served}");
        Ok(())
    })
    .await?;
    pair.is_idle().await
}

#[tokio::test]
async fn a_shadow_request_to_the_service_itself_goes_where_its_request_went() -> Result<()> {
    let pair = Pair::start(&|config| {
        edit_route(config, |route| {
            route["request_mirror_policies"] = json!([{"cluster": "orders"}]);
            Ok(())
        })
    })
    .await?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for key in keys(KEYS) {
        let answer = ask(&pair.filtered, "/", &key).await?;
        is_steered(&answer, &pair.instances)?;
        *expected.entry(answer.instance).or_default() += 2;
    }
    until("the shadows to arrive", async || {
        for instance in &pair.instances {
            let served = instance.load().await?.served;
            let of = expected.get(&instance.id).copied().unwrap_or(0);
            ensure!(served == of, "{}: {served} of {of}", instance.id);
        }
        Ok(())
    })
    .await?;
    pair.is_idle().await
}

#[tokio::test]
async fn a_request_whose_host_path_and_other_headers_a_route_changes_is_placed_by_its_key()
-> Result<()> {
    let pair = Pair::start(&|config| {
        edit_route(config, |route| {
            route["prefix_rewrite"] = json!("/elsewhere/");
            route["host_rewrite_literal"] = json!("elsewhere");
            Ok(())
        })?
        .edit_connections(|manager| {
            let route = routes(manager)?.last_mut().context("no route")?;
            let added = json!({"header": {"key": "x-other", "value": "somebody"}});
            route["request_headers_to_add"] = json!([added]);
            Ok(())
        })
    })
    .await?;
    pair.agree("/carts").await?;
    let answer = ask(&pair.filtered, "/carts", "ada").await?;
    assert_eq!(answer.body["path"], json!("/elsewhere/carts"));
    assert_eq!(answer.body["headers"]["x-other"][0], json!("somebody"));
    pair.is_idle().await
}

#[tokio::test]
async fn a_hedged_request_is_answered_by_another_candidate() -> Result<()> {
    let pair = Pair::start(&|config| {
        edit_route(nobody_judges(config)?, |route| {
            route["hedge_policy"] = json!({"hedge_on_per_try_timeout": true});
            route["retry_policy"]["per_try_timeout"] = json!("0.5s");
            Ok(())
        })
    })
    .await?;
    let slow = pair.instances.first().context("none")?;
    let mut hedged = 0;
    for key in keys(KEYS) {
        let (owner, path) = (ask(&pair.filtered, "/", &key).await?.instance, "/");
        if owner != slow.id || hedged == 3 {
            continue;
        }
        hedged += 1;
        slow.take(std::time::Duration::from_secs(60)).await?;
        let answer = ask(&pair.filtered, path, &key).await?;
        let (named, slow_address) = (named(&answer), slow.address());
        assert_eq!(named.first(), Some(&slow_address.as_str()));
        let by = address_of(&answer.instance, &pair.instances)?;
        ensure!(named.iter().skip(1).any(|named| *named == by), "{named:?}");
        slow.take(std::time::Duration::ZERO).await?;
    }
    ensure!(hedged > 0, "{} has no key", slow.id);
    pair.is_idle().await
}

#[tokio::test]
async fn an_internal_redirect_is_placed_by_its_key_again() -> Result<()> {
    let pair = Pair::start(&|config| {
        edit_route(config, |route| {
            route["internal_redirect_policy"] = json!({"redirect_response_codes": [302]});
            Ok(())
        })
    })
    .await?;
    let owners = pair.agree("/").await?;
    // The instance that owns the key redirects to `/`.
    assert_eq!(pair.agree("/?redirect=1").await?, owners);
    let redirected = pair.filtered.stat("http.ingress.rq_total").await?;
    ensure!(redirected > 0, "none was redirected");
    pair.is_idle().await
}

/// The first two instances fail every request; the test requests the keys of both.
async fn the_next_that_works_answers(pair: &Pair) -> Result<()> {
    let (failing, working) = pair.instances.split_at(2);
    for instance in failing {
        instance.fail_with(503).await?;
    }
    let mut tried_twice = 0;
    for key in keys(2 * KEYS) {
        let answer = ask(&pair.filtered, "/", &key).await?;
        let named = named(&answer);
        let of_working = |named: &&str| working.iter().any(|instance| instance.address() == *named);
        let place = named.iter().position(of_working).context("none works")?;
        let by = address_of(&answer.instance, working)?;
        assert_eq!(named.get(place), Some(&by.as_str()), "{named:?}");
        tried_twice += usize::from(place == 2);
    }
    ensure!(tried_twice > 0, "no key of which both fail");
    pair.is_idle().await
}

#[tokio::test]
async fn a_retry_that_avoids_previous_hosts_takes_the_candidates_in_turn() -> Result<()> {
    let pair = Pair::start(&|config| {
        edit_route(nobody_judges(config)?, |route| {
            route["retry_policy"]["retry_host_predicate"] = json!([{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            }]);
            route["retry_policy"]["host_selection_retry_max_attempts"] = json!(5);
            Ok(())
        })
    })
    .await?;
    the_next_that_works_answers(&pair).await
}

#[tokio::test]
async fn a_retry_takes_the_candidates_in_turn() -> Result<()> {
    let pair = Pair::start(&nobody_judges).await?;
    the_next_that_works_answers(&pair).await
}

#[tokio::test]
async fn a_retry_stays_in_the_priority_of_its_key_as_with_ring_hash() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c"]).await?;
    let lower = Instance::start_all(&["x", "y"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = nobody_judges(config)?.edit_cluster("orders", |cluster| {
        let localities = cluster.pointer_mut("/load_assignment/endpoints");
        let localities = localities.and_then(Value::as_array_mut).context("none")?;
        localities.push(json!({"priority": 1, "lb_endpoints": endpoints_of(&lower, &[])}));
        Ok(())
    })?;
    let config = edit_route(config, |route| {
        route["retry_policy"]["retry_priority"] = json!({
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        });
        Ok(())
    })?;
    let native = Envoy::start(&config.clone().without_filter()?).await?;
    let filtered = Envoy::start(&config).await?;
    until("the filter to steer", async || {
        let answer = ask(&filtered, "/", "user-0").await?;
        ensure!(!named(&answer).is_empty(), "{answer:?}");
        Ok(())
    })
    .await?;
    for instance in &instances {
        instance.fail_with(503).await?;
    }
    for key in keys(KEYS) {
        // A hash policy selects the priority by the key, whatever the retry asks for.
        assert_eq!(native.get(&key).await?.status, 503, "{key}");
        assert_eq!(filtered.get(&key).await?.status, 503, "{key}");
    }
    is_idle(&filtered).await
}

#[tokio::test]
async fn where_a_route_switches_the_filter_off_envoy_chooses_and_no_client_can() -> Result<()> {
    let pair = Pair::start(&|config| {
        add_route(config, "/off", |route| {
            route["typed_per_filter_config"] = json!({"unitring": {
                "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                "disabled": true,
                "config": {},
            }});
            // Only the route removes a client's own header here.
            route["request_headers_to_remove"] = json!(["x-unitring-host"]);
            Ok(())
        })
    })
    .await?;
    for key in keys(KEYS) {
        let native = ask(&pair.native, "/", &key).await?.instance;
        for instance in &pair.instances {
            let request = pair.filtered.request("/off").header("x-user-id", &key);
            let forged = request.header("x-unitring-host", instance.address());
            let answer = send(forged).await?;
            assert_eq!((answer.status, &answer.instance), (200, &native), "{key}");
            ensure!(named(&answer).is_empty(), "{answer:?}");
        }
    }
    Ok(())
}

/// Adds a filter after ours that sends requests with the header `x-later` to the cluster `carts`.
pub(crate) fn later_filter_to_carts(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let routes = routes(manager)?;
        let mut route = routes.last().context("no route")?.clone();
        let to_carts = json!({"name": "x-to", "string_match": {"exact": "carts"}});
        route["match"] = json!({"prefix": "/", "headers": [to_carts]});
        route["route"]["cluster"] = json!("carts");
        routes.insert(0, route);
        let code = "function envoy_on_request(request)
            if request:headers():get('x-later') then
                request:headers():add('x-to', 'carts')
                request:clearRouteCache()
            end
        end";
        let lua = json!({
            "name": "lua",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": code},
            },
        });
        let filters = manager.pointer_mut("/http_filters");
        let filters = filters.and_then(Value::as_array_mut);
        let filters = filters.context("no filters")?;
        filters.insert(filters.len() - 1, lua);
        Ok(())
    })
}

#[tokio::test]
async fn a_later_filter_may_send_the_request_to_another_cluster() -> Result<()> {
    let carts = Instance::start_all(&["x", "y", "z"]).await?;
    let pair = Pair::start(&|config| {
        later_filter_to_carts(config.copy_cluster("orders", "carts", &carts)?)
    })
    .await?;
    for key in keys(KEYS) {
        let mut chosen = Vec::new();
        for envoy in [&pair.native, &pair.filtered] {
            let request = envoy.request("/").header("x-user-id", &key);
            let answer = send(request.header("x-later", "1")).await?;
            ensure!(answer.status == 200, "{answer:?}");
            ensure!(carts.iter().any(|cart| cart.id == answer.instance));
            chosen.push(answer.instance);
        }
        assert_eq!(chosen.first(), chosen.last(), "{key}");
    }
    pair.is_idle().await
}

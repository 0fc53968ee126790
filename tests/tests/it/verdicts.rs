//! Ejections: a failure counts on the instance where it ran, and an answer that is no failure counts on
//! none.

mod asked;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::site::Site;

/// So many that each instance has some of them: once in 30 million starts one of four has none.
const KEYS: usize = 60;

/// Makes Envoy retry answers with this status, too.
fn retrying(config: EnvoyConfig, status: u16) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let policy = "/route_config/virtual_hosts/0/routes/0/route/retry_policy";
        let policy = manager.pointer_mut(policy).context("no retry_policy")?;
        policy["retry_on"] = json!("connect-failure,reset,gateway-error,retriable-status-codes");
        policy["retriable_status_codes"] = json!([status]);
        Ok(())
    })
}

/// Makes Envoy retry on this.
fn on(config: EnvoyConfig, retry_on: &str) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let policy = "/route_config/virtual_hosts/0/routes/0/route/retry_policy/retry_on";
        let policy = manager.pointer_mut(policy).context("no retry_policy")?;
        *policy = json!(retry_on);
        Ok(())
    })
}

async fn looks(envoy: &Envoy, more: u64) -> Result<()> {
    let name = "wasmcustom.unitring.orders.discovery.done";
    let seen = envoy.stat(name).await?;
    until("the filter to have looked again", async || {
        for number in 0..KEYS {
            envoy.get(&format!("user-{number}")).await?;
        }
        let now = envoy.stat(name).await?;
        ensure!(now >= seen + more, "{now}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_instance_whose_429_or_409_is_retried_is_not_ejected() -> Result<()> {
    for status in [429, 409] {
        let mut site = Site::start_with(|config| retrying(config.unchecked()?, status)).await?;
        site.instance("b").fail_with(status).await?;
        looks(&site.envoy, 5).await?;
        let prefix = "wasmcustom.unitring.orders.";
        let stats = site.envoy.stats(prefix).await?;
        let of = |name: &str| stats.get(&format!("{prefix}{name}")).copied();
        assert_eq!(
            (of("instances_eligible"), of("ejections")),
            (Some(4), Some(0))
        );
        let stat = site.instance("b").address().replace(':', "_");
        assert!(
            of(&format!("instance.{stat}.failures")) > Some(5),
            "as Envoy counts: {stats:?}"
        );
    }
    Ok(())
}

/// With requests of internal clients, whose `x-envoy-retry-on` Envoy heeds.
fn heeding_requests(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        manager["use_remote_address"] = json!(true);
        let own = json!({"address_prefix": "127.0.0.0", "prefix_len": 8});
        manager["internal_address_config"] = json!({"cidr_ranges": [own]});
        Ok(())
    })
}

#[tokio::test]
async fn an_instance_whose_answers_a_request_has_retried_is_not_ejected() -> Result<()> {
    for (status, retry) in [
        (409, &[("x-envoy-retry-on", "retriable-4xx")][..]),
        (
            429,
            &[
                ("x-envoy-retry-on", "retriable-status-codes"),
                ("x-envoy-retriable-status-codes", "429"),
            ],
        ),
    ] {
        let mut site = Site::start_with(|config| heeding_requests(config.unchecked()?)).await?;
        site.instance("b").fail_with(status).await?;
        let looks = site.envoy.ours("discovery.done").await?;
        until("some looks", async || {
            for number in 0..KEYS {
                let mut request = site.envoy.request("/");
                for (name, value) in retry {
                    request = request.header(*name, *value);
                }
                let answer = send(request.header("x-user-id", format!("user-{number}"))).await?;
                ensure!(answer.status == 200, "{answer:?}");
            }
            ensure!(site.envoy.ours("discovery.done").await? >= looks + 6);
            Ok(())
        })
        .await?;
        let stat = site.instance("b").address().replace(':', "_");
        let failures = format!("instance.{stat}.failures");
        ensure!(site.envoy.ours(&failures).await? > 5, "nothing was retried");
        ensure!(site.envoy.ours("ejections").await? == 0, "{status}");
    }
    Ok(())
}

/// A 500 is the application's own answer to that request, as for Envoy's `consecutive_gateway_failure`.
#[tokio::test]
async fn an_instance_that_answers_500_is_not_ejected_whether_that_is_retried_or_not() -> Result<()>
{
    for retry_on in ["connect-failure", "5xx"] {
        let mut site = Site::start_with(|config| on(config.unchecked()?, retry_on)).await?;
        site.instance("b").fail_with(500).await?;
        looks(&site.envoy, 6).await?;
        let stat = site.instance("b").address().replace(':', "_");
        let failures = format!("instance.{stat}.failures");
        ensure!(site.envoy.ours(&failures).await? > 5, "as Envoy counts");
        ensure!(site.envoy.ours("ejections").await? == 0, "{retry_on}");
    }
    Ok(())
}

/// With any other retries, and without retries.
#[tokio::test]
async fn an_instance_that_answers_503_is_ejected() -> Result<()> {
    for retry_on in ["connect-failure", "5xx", "gateway-error,retriable-4xx"] {
        let mut site = Site::start_with(|config| on(config.unchecked()?, retry_on)).await?;
        site.instance("b").fail_with(503).await?;
        until("the failing instance to be ejected", async || {
            for number in 0..KEYS {
                site.envoy.get(&format!("user-{number}")).await?;
            }
            ensure!(site.envoy.ours("ejections").await? > 0, "{retry_on}: none");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Hides the statuses of answers from the filter: older configurations may not allow `/stats`, and a
/// `stats_matcher` may leave the counts out.
fn hiding(config: EnvoyConfig, is_refused: bool, left_out: &str) -> Result<EnvoyConfig> {
    config.edit(|bootstrap| {
        if is_refused {
            let paths = bootstrap.pointer_mut("/admin/allow_paths");
            let paths = paths.and_then(Value::as_array_mut).context("no paths")?;
            paths.retain(|path| path["prefix"] != "/stats");
            // As these tests ask, and not as the filter does.
            paths.push(json!({"exact": "/stats"}));
            return Ok(());
        }
        let left_out = json!({"safe_regex": {"regex": left_out}});
        bootstrap["stats_config"]["stats_matcher"] =
            json!({"exclusion_list": {"patterns": [left_out]}});
        Ok(())
    })
}

const STATUSES: &str = r"cluster\..*upstream_rq_\d+";

async fn ejects(site: &Site) -> Result<()> {
    until("the failing instance to be ejected", async || {
        for number in 0..KEYS {
            site.envoy.get(&format!("user-{number}")).await?;
        }
        ensure!(site.envoy.ours("ejections").await? > 0, "none");
        Ok(())
    })
    .await
}

async fn tells_of_statuses(site: &Site) -> Result<()> {
    until("the log to say so", async || {
        let log = site.envoy.log();
        ensure!(log.contains("wired wrongly: statuses: "), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_statuses_are_not_known_a_503_ejects_if_routes_retry_failures_alone() -> Result<()> {
    for is_refused in [true, false] {
        let mut site = Site::start_with(|config| {
            hiding(on(config.unchecked()?, "5xx")?, is_refused, STATUSES)
        })
        .await?;
        site.instance("b").fail_with(503).await?;
        ejects(&site).await?;
        tells_of_statuses(&site).await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_statuses_are_not_known_and_routes_retry_answers_only_what_is_sure_ejects()
-> Result<()> {
    for is_refused in [true, false] {
        let mut site = Site::start_with(|config| {
            let config = on(config.unchecked()?, "5xx,retriable-4xx")?;
            hiding(config, is_refused, STATUSES)
        })
        .await?;
        site.instance("b").fail_with(503).await?;
        looks(&site.envoy, 6).await?;
        ensure!(site.envoy.ours("ejections").await? == 0, "it is not known");
        tells_of_statuses(&site).await?;
        site.instance("b").kill()?;
        ejects(&site).await?;
    }
    Ok(())
}

/// Such a matcher keeps the statuses of all other answers.
#[tokio::test]
async fn a_stats_matcher_that_leaves_retried_statuses_out_makes_no_429_a_failure() -> Result<()> {
    let mut site = Site::start_with(|config| {
        let config = retrying(config.unchecked()?, 429)?;
        hiding(config, false, r".*\.retry\..*")
    })
    .await?;
    site.instance("b").fail_with(429).await?;
    looks(&site.envoy, 6).await?;
    let stat = site.instance("b").address().replace(':', "_");
    let failures = format!("instance.{stat}.failures");
    ensure!(site.envoy.ours(&failures).await? > 5, "nothing was retried");
    ensure!(site.envoy.ours("ejections").await? == 0, "a 429 is none");
    tells_of_statuses(&site).await
}

/// Another way for requests to the cluster, with the route's `retry_policy`.
fn by_another_way(config: EnvoyConfig, way: &str) -> Result<EnvoyConfig> {
    const ROUTES: &str = "/route_config/virtual_hosts/0/routes";
    const ROUTE: &str = "/route_config/virtual_hosts/0/routes/0/route";
    let mut retry = Value::Null;
    let config = config.edit_connections(|manager| {
        let route = manager.pointer_mut(ROUTE).context("no route")?;
        let fields = route.as_object_mut().context("not an object")?;
        match way {
            "cluster_header" => {
                fields.remove("cluster");
                route["cluster_header"] = json!("x-cluster");
            }
            "aggregate" => route["cluster"] = json!("both"),
            "aggregate beside a plain route" => {
                route["cluster"] = json!("both");
                let mut plain = manager.pointer(ROUTES).context("no routes")?[0].clone();
                plain["match"] = json!({"prefix": "/plain"});
                plain["route"]["cluster"] = json!("orders");
                plain["route"]["retry_policy"] = json!({"retry_on": "gateway-error"});
                let routes = manager.pointer_mut(ROUTES).and_then(Value::as_array_mut);
                routes.context("no routes")?.insert(0, plain);
            }
            _ => retry = fields.remove("retry_policy").context("no retry_policy")?,
        }
        Ok(())
    })?;
    if way.starts_with("aggregate") {
        return config.add_aggregate(&["orders"]);
    }
    if retry.is_null() {
        return Ok(config);
    }
    config.edit_cluster("orders", |cluster| {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http_protocol_options": {}},
            "retry_policy": retry,
        }});
        Ok(())
    })
}

#[tokio::test]
async fn an_instance_whose_429_is_retried_is_not_ejected_whatever_route_leads_to_it() -> Result<()>
{
    for way in [
        "cluster_header",
        "aggregate",
        "aggregate beside a plain route",
        "options of the cluster",
    ] {
        let mut site =
            Site::start_with(|config| by_another_way(retrying(config.unchecked()?, 429)?, way))
                .await?;
        site.instance("b").fail_with(429).await?;
        let looks = site.envoy.ours("discovery.done").await?;
        let mut ran = 0;
        until("some looks", async || {
            for number in 0..KEYS {
                let request = site.envoy.request("/").header("x-cluster", "orders");
                let answer = send(request.header("x-user-id", format!("user-{number}"))).await?;
                ran += u64::from(answer.status == 200);
            }
            ensure!(site.envoy.ours("discovery.done").await? >= looks + 5);
            Ok(())
        })
        .await?;
        ensure!(ran > 0, "{way}: none was served");
        let stat = site.instance("b").address().replace(':', "_");
        let failures = format!("instance.{stat}.failures");
        ensure!(
            site.envoy.ours(&failures).await? > 5,
            "{way}: nothing was retried"
        );
        let ejections = site.envoy.ours("ejections").await?;
        ensure!(ejections == 0, "{way}: {ejections} ejections");
        // The aggregate cluster has the counts. No setting of Envoy would mend that.
        let warned = site.envoy.log().contains("wired wrongly: statuses: ");
        ensure!(!(warned && way == "aggregate"), "{way}");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_refused_ejects_also_where_answers_are_retried() -> Result<()> {
    let mut site = Site::start_with(|config| retrying(config.unchecked()?, 429)).await?;
    site.instance("b").kill()?;
    until("the dead instance to be ejected", async || {
        for number in 0..KEYS {
            let answer = site.envoy.get(&format!("user-{number}")).await?;
            assert_eq!(answer.status, 200, "a retry answers");
        }
        let ejections = site
            .envoy
            .stat("wasmcustom.unitring.orders.ejections")
            .await?;
        ensure!(ejections > 0, "none");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_later_filter_sends_elsewhere_is_charged_to_nobody_here() -> Result<()> {
    // The route leads to another cluster than the filter's service: all of its instances fail.
    let mut site = Site::start_with(|config| {
        let config = config.unchecked()?;
        config.edit(|bootstrap| {
            let clusters = bootstrap.pointer_mut("/static_resources/clusters");
            let clusters = clusters.and_then(Value::as_array_mut).context("none")?;
            let mut other = clusters.first().context("no cluster")?.clone();
            other["name"] = json!("elsewhere");
            other["load_assignment"]["cluster_name"] = json!("elsewhere");
            clusters.push(other);
            let route = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config\
                /route_config/virtual_hosts/0/routes/0/route";
            let route = bootstrap.pointer_mut(route).context("no route")?;
            route["cluster"] = json!("elsewhere");
            Ok(())
        })
    })
    .await?;
    for instance in ["a", "b", "c", "d"] {
        site.instance(instance).fail_with(503).await?;
    }
    looks(&site.envoy, 5).await?;
    let prefix = "wasmcustom.unitring.orders.";
    let stats = site.envoy.stats(prefix).await?;
    let charged = stats.iter().filter(|(name, count)| {
        **count > 0
            && (name.ends_with(".calls")
                || name.ends_with("failures")
                || name.ends_with("ejections"))
    });
    assert_eq!(charged.count(), 0, "{stats:?}");
    Ok(())
}

#[tokio::test]
async fn a_report_of_huge_numbers_makes_nobody_answer_503() -> Result<()> {
    let site = Site::start_with(|config| {
        config.setting("load", json!({"balance_factor": 125, "max_in_flight": 4}))
    })
    .await?;
    let instances = site.instances.iter().map(|instance| {
        json!({"id": instance.address(), "address": instance.address(), "weight": 1, "healthy": true,
            "calls": 0, "in_flight": u64::MAX, "updates": 0})
    });
    let mut report = json!({
        "version": 1, "reporter": "invented", "sequence": 0, "interval_ms": 60_000,
        "services": [{"service": "orders",
            "ring": {"version": "r", "points": 1, "shape": {"fill": "envoy", "min_size": 1, "max_size": 1}},
            "fallbacks": 0, "instances": instances.collect::<Vec<_>>()}],
    });
    let sent = async || {
        site.envoy
            .stat("wasmcustom.unitring.orders.report.sent")
            .await
    };
    for sequence in 1..=3 {
        report["sequence"] = json!(sequence);
        let body = serde_json::to_vec(&report)?;
        let taken = site
            .companion
            .call(Method::POST, "/v1/reports", body)
            .await?;
        ensure!(taken.status() == 200, "{taken:?}");
        let seen = sent().await?;
        until("the filter to have the picture", async || {
            for number in 0..20 {
                let answer = site.envoy.get(&format!("user-{number}")).await?;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            ensure!(sent().await? >= seen + 2);
            Ok(())
        })
        .await?;
    }
    assert_eq!(site.envoy.stat("wasmcustom.unitring.orders.full").await?, 0);
    Ok(())
}

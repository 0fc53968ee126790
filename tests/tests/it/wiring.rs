//! Mistakes that Envoy accepts silently: the filter finds and reports each of them.

mod keys;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::{self, EnvoyConfig};
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::instance::Instance;
use unitring_tests::ports;

const KINDS: [&str; 13] = [
    "discovery_cluster",
    "service",
    "steer_header",
    "choice_unused",
    "stats",
    "companion_cluster",
    "hash_policy",
    "header_removed",
    "fallback_policy",
    "outlier_detection",
    "config_dump",
    "runtime",
    "statuses",
];

/// A front that may be wired wrongly.
struct Front {
    envoy: Envoy,
    companion: Companion,
    _instances: Vec<Instance>,
}

impl Front {
    async fn start(change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>) -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let companion = Settings::default().start().await?;
        let config = EnvoyConfig::shipped("envoy.yaml")?
            .instances(&instances, &[])?
            .companion(&companion)?;
        let envoy = Envoy::start(&change(config)?).await?;
        Ok(Self {
            envoy,
            companion,
            _instances: instances,
        })
    }

    /// Sends requests until the log names this kind; a request must not fail for it.
    async fn tells(&self, kind: &str) -> Result<()> {
        let line = format!("wired wrongly: {kind}: ");
        until(&line, async || {
            for number in 0..8 {
                let answer = self.envoy.get(&format!("user-{number}")).await?;
                assert_eq!(answer.status, 200);
            }
            let log = self.envoy.log();
            ensure!(log.contains(&line), "{log}");
            Ok(())
        })
        .await?;
        let log = self.envoy.log();
        let told: Vec<&str> = log.lines().filter(|told| told.contains(&line)).collect();
        assert!(
            told.iter().all(|told| told.contains("; mend: ")),
            "{told:?}"
        );
        Ok(())
    }

    /// Each kind that has its gauge up.
    async fn shown(&self) -> Result<Vec<&'static str>> {
        let prefix = "wasmcustom.unitring.orders.wiring.";
        let stats = self.envoy.stats(prefix).await?;
        let is_up = |kind: &&&str| stats.get(&format!("{prefix}{kind}")) == Some(&1);
        Ok(KINDS.iter().filter(is_up).copied().collect())
    }

    /// The finding is logged, shown by its gauge, and in the report if there is a companion.
    async fn finds(&self, kind: &'static str, reports: bool) -> Result<()> {
        self.tells(kind).await?;
        until("the gauge to say so", async || {
            let shown = self.shown().await?;
            ensure!(shown == [kind], "{shown:?}");
            Ok(())
        })
        .await?;
        if reports {
            self.reports(kind).await?;
        }
        Ok(())
    }

    async fn reports(&self, kind: &str) -> Result<()> {
        until("the companion to show it", async || {
            let service = self.companion.get("/v1/services/orders").await?;
            let text = service.to_string();
            ensure!(text.contains(&format!("\"kind\":\"{kind}\"")), "{text}");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_discovery_cluster_that_does_not_exist_is_told() -> Result<()> {
    let wrong = json!("envoy_adnim");
    let front = Front::start(|config| config.setting("discovery.cluster", wrong)).await?;
    front.finds("discovery_cluster", true).await
}

#[tokio::test]
async fn an_admin_address_where_nobody_listens_is_told() -> Result<()> {
    let nobody = ports::free()?;
    let front = Front::start(|config| move_cluster(config, "envoy_admin", nobody)).await?;
    front.finds("discovery_cluster", true).await
}

/// A server that answers 200 to everything, without a body, and the admin interface of another Envoy.
#[tokio::test]
async fn what_answers_in_place_of_this_envoys_admin_interface_is_no_service_that_is_misspelt()
-> Result<()> {
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let other = EnvoyConfig::own(json!({
        "admin": {"address": at(config::ADMIN)},
        "static_resources": {"listeners": [{
            "name": "all", "address": at(config::LISTENER),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": {
                "@type": manager, "stat_prefix": "all",
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
                ]}]},
                "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
            }}]}],
        }]},
    }));
    let other = Envoy::start(&other).await?;
    for port in [other.port, other.admin_port] {
        let front = Front::start(|config| move_cluster(config, "envoy_admin", port)).await?;
        front.finds("discovery_cluster", true).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_no_cluster_is_told() -> Result<()> {
    let front = Front::start(|config| {
        let config = config.setting("alias", json!("orders"))?;
        config.setting("service", json!("ordres"))
    })
    .await?;
    front.finds("service", false).await
}

#[tokio::test]
async fn a_companion_cluster_that_does_not_exist_is_told() -> Result<()> {
    let wrong = json!("unirting");
    let front = Front::start(|config| config.setting("companion.cluster", wrong)).await?;
    front.finds("companion_cluster", false).await
}

#[tokio::test]
async fn a_policy_that_reads_another_header_is_told_and_no_choice_is_called_used() -> Result<()> {
    let front = Front::start(|config| {
        config.edit_cluster("orders", |cluster| {
            let policy = "/load_balancing_policy/policies/0/typed_extension_config/typed_config";
            let policy = cluster.pointer_mut(policy).context("no policy")?;
            policy["override_host_sources"] = json!([{"header": "x-other-host"}]);
            // A ring would agree with the filter, and a round of four instances always meets
            // the same of the eight keys.
            policy["fallback_policy"] = json!({"policies": [{"typed_extension_config": {
                "name": "envoy.load_balancing_policies.random",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random"},
            }}]});
            Ok(())
        })
    })
    .await?;
    front.tells("steer_header").await?;
    front.reports("steer_header").await?;
    front.tells("choice_unused").await?;
    let mut reasons = Vec::new();
    for number in 0..40 {
        let answer = front.envoy.get(&format!("user-{number}")).await?;
        reasons.push(
            answer
                .header("x-unitring-reason")
                .unwrap_or_default()
                .to_owned(),
        );
    }
    let unused = reasons.iter().filter(|reason| *reason == "fallback");
    assert!(unused.count() > 0, "{reasons:?}");
    Ok(())
}

#[tokio::test]
async fn a_route_that_removes_a_header_of_the_filter_is_told() -> Result<()> {
    let front = Front::start(|config| {
        config.edit_connections(|manager| {
            let route = "/route_config/virtual_hosts/0/routes/0";
            let route = manager.pointer_mut(route).context("no route")?;
            route["request_headers_to_remove"] = json!(["X-Unitring-Host"]);
            Ok(())
        })
    })
    .await?;
    front.finds("header_removed", true).await
}

#[tokio::test]
async fn a_route_that_removes_the_header_of_data_updates_is_told_and_none_is_counted() -> Result<()>
{
    let front = Front::start(|config| {
        let config = config.setting("capture.mode", json!("count"))?;
        config.edit_connections(|manager| {
            let host = "/route_config/virtual_hosts/0/response_headers_to_remove";
            let removed = manager.pointer_mut(host).and_then(Value::as_array_mut);
            removed.context("no list")?.push(json!("x-unitring-update"));
            Ok(())
        })
    })
    .await?;
    front.finds("header_removed", true).await?;
    for number in 0..8 {
        let request = front.envoy.request("/?update=carts/ada");
        let answer = send(request.header("x-user-id", number)).await?;
        let told = answer.header("x-unitring-update");
        ensure!(answer.status == 200 && told.is_none(), "{answer:?}");
    }
    // A report comes after the ticks at which workers show what they counted.
    let sent = front.envoy.ours("report.sent").await?;
    until("two reports", async || {
        ensure!(front.envoy.ours("report.sent").await? >= sent + 2);
        Ok(())
    })
    .await?;
    let stats = front
        .envoy
        .stats("wasmcustom.unitring.orders.instance.")
        .await?;
    let updates = stats.iter().filter(|(name, _)| name.ends_with(".updates"));
    let updates: u64 = updates.map(|(_, count)| count).sum();
    ensure!(updates == 0, "{stats:?}");
    Ok(())
}

#[tokio::test]
async fn a_stats_matcher_that_leaves_the_filters_stats_out_is_told() -> Result<()> {
    let front = Front::start(|config| {
        config.edit(|bootstrap| {
            let exclusion = json!({"exclusion_list": {"patterns": [{"prefix": "wasmcustom."}]}});
            bootstrap["stats_config"]["stats_matcher"] = exclusion;
            Ok(())
        })
    })
    .await?;
    // It has no gauge to be shown by.
    front.tells("stats").await?;
    front.reports("stats").await
}

#[tokio::test]
async fn a_stats_matcher_that_leaves_some_of_the_filters_stats_out_is_told_with_their_name()
-> Result<()> {
    for (pattern, named) in [
        (json!({"suffix": "in_flight"}), ".in_flight"),
        (json!({"contains": ".instance."}), ".instance."),
        (json!({"suffix": ".calls"}), ".calls"),
        (json!({"suffix": "discovery.done"}), ".discovery.done"),
    ] {
        let front = Front::start(|config| {
            config.edit(|bootstrap| {
                let exclusion = json!({"exclusion_list": {"patterns": [pattern]}});
                bootstrap["stats_config"]["stats_matcher"] = exclusion;
                Ok(())
            })
        })
        .await?;
        front.finds("stats", true).await?;
        let log = front.envoy.log();
        let told = log
            .lines()
            .find(|line| line.contains("wired wrongly: stats: "));
        ensure!(told.is_some_and(|line| line.contains(named)), "{told:?}");
    }
    Ok(())
}

/// A probe of a gauge must not stay in it.
#[tokio::test]
async fn where_all_stats_are_kept_the_check_of_them_leaves_nothing_in_flight() -> Result<()> {
    let front = Front::start(Ok).await?;
    front.envoy.steers_to(4).await?;
    let checked = front.envoy.ours("discovery.done").await? + 12;
    until("some checks", async || {
        ensure!(front.envoy.ours("discovery.done").await? >= checked);
        Ok(())
    })
    .await?;
    // It may be read in the middle of a probe.
    until("nothing to be in flight", async || {
        let stats = front.envoy.stats("wasmcustom.unitring.orders.").await?;
        let busy = |(name, count): &(&String, &u64)| name.contains("in_flight") && **count != 0;
        let busy: Vec<_> = stats.iter().filter(busy).collect();
        ensure!(busy.is_empty(), "{busy:?}");
        Ok(())
    })
    .await?;
    assert_eq!(front.shown().await?, Vec::<&str>::new());
    Ok(())
}

#[tokio::test]
async fn settings_that_contradict_the_cluster_are_told() -> Result<()> {
    let front = Front::start(|config| {
        let health = json!({"overprovisioning_factor": 200, "weighted_priority_health": true});
        let config = config.setting("health", health)?;
        let config = config.setting("ring.identity", json!("address"))?;
        config.edit_cluster("orders", |cluster| {
            let ring = "/load_balancing_policy/policies/0/typed_extension_config/typed_config\
                /fallback_policy/policies/0/typed_extension_config/typed_config";
            let ring = cluster.pointer_mut(ring).context("no ring")?;
            ring["consistent_hashing_lb_config"] =
                json!({"use_hostname_for_hashing": true, "hash_balance_factor": 150});
            Ok(())
        })
    })
    .await?;
    until("the log to tell all", async || {
        let log = front.envoy.log();
        for line in [
            "health.overprovisioning_factor is not as in Envoy's cluster",
            "health.weighted_priority_health is not as in Envoy's cluster",
            "ring.identity is not as in Envoy's cluster",
            "hash_balance_factor 150 of the cluster bounds only what is left to Envoy",
        ] {
            ensure!(log.contains(line), "{line}: {log}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn outlier_detection_that_can_eject_nobody_is_told() -> Result<()> {
    let front = Front::start(|config| {
        config.edit_cluster("orders", |cluster| {
            cluster["outlier_detection"] = json!({"consecutive_5xx": 5});
            Ok(())
        })
    })
    .await?;
    front.finds("outlier_detection", true).await
}

#[tokio::test]
async fn an_admin_interface_that_hides_the_configuration_is_told_and_defaults_are_assumed()
-> Result<()> {
    let front = Front::start(|config| {
        config.edit(|bootstrap| {
            let paths = bootstrap.pointer_mut("/admin/allow_paths");
            let paths = paths.and_then(Value::as_array_mut).context("no paths")?;
            paths.retain(|path| path["prefix"] != "/config_dump");
            Ok(())
        })
    })
    .await?;
    front.envoy.has_eligible(4).await?;
    front.finds("config_dump", true).await
}

#[tokio::test]
async fn an_admin_interface_that_hides_stats_is_told() -> Result<()> {
    let front = Front::start(|config| {
        config.edit(|bootstrap| {
            let paths = bootstrap.pointer_mut("/admin/allow_paths");
            let paths = paths.and_then(Value::as_array_mut).context("no paths")?;
            paths.retain(|path| path["prefix"] != "/stats");
            // As these tests ask, and not as the filter does.
            paths.push(json!({"exact": "/stats"}));
            Ok(())
        })
    })
    .await?;
    front.finds("statuses", true).await
}

#[tokio::test]
async fn the_shipped_files_have_no_mistake() -> Result<()> {
    let front = Front::start(Ok).await?;
    front.envoy.steers_to(4).await?;
    until("some looks, and some samples", async || {
        for number in 0..8 {
            front.envoy.get(&format!("user-{number}")).await?;
        }
        let prefix = "wasmcustom.unitring.orders.";
        let stats = front.envoy.stats(prefix).await?;
        let of = |name: &str| stats.get(&format!("{prefix}{name}")).copied().unwrap_or(0);
        let seen = [
            of("discovery.done"),
            of("choice.sampled"),
            of("report.sent"),
        ];
        ensure!(seen.iter().all(|count| *count >= 8), "{seen:?}");
        ensure!(of("choice.elsewhere") == 0);
        Ok(())
    })
    .await?;
    let log = front.envoy.log();
    assert!(!log.contains("wired wrongly"), "{log}");
    assert_eq!(front.shown().await?, Vec::<&str>::new());
    Ok(())
}

fn move_cluster(config: EnvoyConfig, name: &str, port: u16) -> Result<EnvoyConfig> {
    config.edit_cluster(name, |cluster| {
        let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
        let address = cluster.pointer_mut(address).context("no address")?;
        address["port_value"] = json!(port);
        Ok(())
    })
}

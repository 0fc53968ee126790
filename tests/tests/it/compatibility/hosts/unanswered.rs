//! Questions to the admin interface that are not answered: what was known stays in force.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::{self, EnvoyConfig};
use unitring_tests::deadline::until;

use super::{FALLBACK, Fronts, all_named, host, locality};

/// Makes the filter reach the admin interface through a route of its Envoy, which can be made to answer
/// late, or with 503, where `/config_dump` and `/runtime` are asked for. Envoy itself answers so while
/// its main thread is busy.
fn through_a_route(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let percentage = json!({"numerator": 0});
    let faulty = json!({"envoy.filters.http.fault": {
        "@type": fault,
        "delay": {"fixed_delay": "3s", "percentage": percentage},
        "abort": {"http_status": 503, "percentage": percentage},
    }});
    let to_admin = |prefix: &str, faults: &Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "real_admin"}, "typed_per_filter_config": faults});
    let admin = |name: &str, port: u16| {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({
            "name": name,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        })
    };
    config
        .edit_cluster("envoy_admin", |cluster| {
            *cluster = admin("envoy_admin", config::LISTENER);
            Ok(())
        })?
        .add_cluster(admin("real_admin", config::ADMIN))?
        .edit_connections(|manager| {
            let filters = manager.pointer_mut("/http_filters");
            let filters = filters.and_then(Value::as_array_mut).context("none")?;
            filters.insert(
                1,
                json!({"name": "envoy.filters.http.fault", "typed_config": {"@type": fault}}),
            );
            let routes = manager.pointer_mut("/route_config/virtual_hosts/0/routes");
            let routes = routes.and_then(Value::as_array_mut).context("none")?;
            for (at, (prefix, faults)) in [
                ("/config_dump", &faulty),
                ("/runtime", &faulty),
                ("/clusters", &json!({})),
                ("/stats", &json!({})),
            ]
            .into_iter()
            .enumerate()
            {
                routes.insert(at, to_admin(prefix, faults));
            }
            Ok(())
        })
}

#[tokio::test]
async fn keys_stay_while_the_admin_interface_does_not_answer_what_they_depend_on() -> Result<()> {
    let hosts = [1, 2, 3].map(|number| {
        let mut host = host(number, "HEALTHY");
        let hash_key = format!("orders-{number}");
        host["metadata"] = json!({"filter_metadata": {"envoy.lb": {"hash_key": hash_key}}});
        host
    });
    let assignment = json!({"endpoints": [locality(0, &hosts)]});
    let fronts = Fronts::start_with(assignment, |config| {
        let layers = json!({"layers": [{"name": "admin", "admin_layer": {}}]});
        let config = through_a_route(config)?.field("layered_runtime", layers)?;
        config.edit_cluster("orders", |cluster| {
            let ring = cluster.pointer_mut(FALLBACK).context("no fallback")?;
            ring["hash_function"] = json!("MURMUR_HASH_2");
            Ok(())
        })
    })
    .await?;
    let placed = |chosen: &[_]| all_named(chosen, &[1, 2, 3]);
    fronts.agree(placed).await?;
    let envoy = &fronts.filtered;
    let looks = async || envoy.ours("discovery.done").await;
    let rings = || {
        let log = envoy.log();
        log.lines()
            .filter(|line| line.contains("% of keys moved"))
            .count()
    };
    let before = rings();
    for fault in ["delay.fixed_delay_percent", "abort.abort_percent"] {
        let seen = async || -> Result<u64> {
            let stats = envoy.stats("http.ingress.fault.").await?;
            let injected = stats.iter().filter(|(name, _)| name.ends_with("_injected"));
            Ok(injected.map(|(_, count)| count).sum())
        };
        let (faults, looked) = (seen().await?, looks().await?);
        let set = async |percent: u8| {
            let change = format!("/runtime_modify?fault.http.{fault}={percent}");
            envoy.order(&change).await
        };
        set(100).await?;
        until("some questions without an answer", async || {
            fronts.agree_now().await?;
            let (count, done) = (seen().await?, looks().await?);
            ensure!(
                count >= faults + 3 && done >= looked + 4,
                "{count}, {done} looks"
            );
            Ok(())
        })
        .await?;
        set(0).await?;
    }
    fronts.agree(placed).await?;
    let log = envoy.log();
    // These tests have no companion.
    let others = log
        .lines()
        .filter(|line| !line.contains("companion_cluster"));
    ensure!(
        !others
            .into_iter()
            .any(|line| line.contains("wired wrongly")),
        "{log}"
    );
    ensure!(rings() == before, "{log}");
    Ok(())
}

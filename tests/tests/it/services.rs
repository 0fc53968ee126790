//! Several services in one filter, distinguished by the route's cluster.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::instance::Instance;

/// `orders` with a copy of its cluster and route for each of these services, with their own instances.
fn with_services(config: EnvoyConfig, others: &[(&str, &[Instance])]) -> Result<EnvoyConfig> {
    let mut config = config;
    for (name, instances) in others {
        config = config.copy_cluster("orders", name, instances)?;
        config = config.edit_connections(|manager| {
            let routes = "/route_config/virtual_hosts/0/routes";
            let routes = manager.pointer_mut(routes).and_then(Value::as_array_mut);
            let routes = routes.context("no routes")?;
            let mut route = routes.last().context("no route")?.clone();
            route["match"] = json!({"prefix": format!("/{name}")});
            route["route"]["cluster"] = json!(name);
            routes.insert(0, route);
            Ok(())
        })?;
    }
    Ok(config)
}

#[tokio::test]
async fn each_service_has_its_own_ring_bound_stats_and_events() -> Result<()> {
    let orders = Instance::start_all(&["a", "b", "c"]).await?;
    let carts = Instance::start_all(&["x", "y"]).await?;
    let others = Instance::start_all(&["o"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&orders, &[])?
        .companion(&companion)?;
    let config = with_services(config, &[("carts", &carts), ("others", &others)])?;
    let common = |name: &str| {
        json!({
            "service": name,
            "key": [{"header": "x-user-id"}],
            "discovery": {"source": "admin", "cluster": "envoy_admin"},
            "explain": true,
        })
    };
    let mut limited = common("carts");
    limited["load"] = json!({"balance_factor": 0, "max_in_flight": 1});
    let config = config.settings(json!({
        "services": [common("orders"), limited],
        "companion": {"cluster": "unitring", "interval": "250ms"},
    }))?;
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.steers_to(3).await?;
    until("carts to be steered to", async || {
        let eligible = "wasmcustom.unitring.carts.instances_eligible";
        let eligible = envoy.stat(eligible).await?;
        ensure!(eligible == 2, "{eligible}");
        Ok(())
    })
    .await?;

    // The VM of a worker learns of the instances later than the one that discovers them.
    let mut before = [0, 0];
    until("the VM of each worker to steer to both", async || {
        for _ in 0..8 {
            for (path, count) in ["/", "/carts"].into_iter().zip(&mut before) {
                *count += 1;
                let request = envoy.request(path).header("x-user-id", "ada");
                let answer = send(request.header("connection", "close")).await?;
                let reason = answer.header("x-unitring-reason");
                ensure!(reason == Some("primary"), "{path}: {reason:?}");
            }
        }
        Ok(())
    })
    .await?;

    let ask = async |path: &str, number: usize| {
        let request = envoy.request(path);
        send(request.header("x-user-id", format!("user-{number}"))).await
    };
    let ids = |instances: &[Instance]| -> Vec<String> {
        instances.iter().map(|i| i.id.clone()).collect()
    };
    for number in 0..30 {
        for (path, instances) in [("/", &orders), ("/carts", &carts)] {
            let answer = ask(path, number).await?;
            assert_eq!(answer.status, 200);
            assert!(ids(instances).contains(&answer.instance), "{path}");
            let reason = answer.header("x-unitring-reason");
            assert_eq!(reason, Some("primary"), "{path}");
        }
        // The filter ignores a cluster that is no service, but a client still cannot steer.
        let request = envoy.request("/others").header("x-user-id", "ada");
        let answer = send(request.header("x-unitring-host", "127.0.0.1:1")).await?;
        assert_eq!((answer.status, answer.instance.as_str()), (200, "o"));
        assert_eq!(answer.header("x-unitring-reason"), None);
    }
    until("each service's calls to be counted", async || {
        for (service, instances, before) in
            [("orders", &orders, before[0]), ("carts", &carts, before[1])]
        {
            let stats = envoy
                .stats(&format!("wasmcustom.unitring.{service}."))
                .await?;
            let calls = stats.iter().filter(|(name, _)| name.ends_with(".calls"));
            let (count, sum) = calls.fold((0, 0), |(n, sum), (_, calls)| (n + 1, sum + calls));
            ensure!(
                (count, sum) == (instances.len(), before + 30),
                "{service}: {stats:?}"
            );
        }
        Ok(())
    })
    .await?;

    // The hard cap of one service does not apply to the other.
    let path = "/carts?stream_ms=120000";
    let mut held = Vec::new();
    for number in 0..2 {
        let request = envoy.request(path).header("x-user-id", format!("{number}"));
        held.push(request.send().await?.error_for_status()?);
    }
    assert_eq!(ask("/carts", 1).await?.status, 503);
    assert_eq!(ask("/", 1).await?.status, 200);
    for service in ["orders", "carts"] {
        let path = format!("/v1/services/{service}");
        until("the companion to know both", async || {
            companion.get(&path).await
        })
        .await?;
    }
    drop(held);
    Ok(())
}

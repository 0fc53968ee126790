//! gRPC calls fail by a status in trailers, by one in the headers of an answer without a body, and by one
//! that Envoy makes of a refused connection. The HTTP status is 200 each time.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use serde_json::json;
use tokio::net::TcpSocket;
use tonic::transport::Channel;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::host_counts::{counted, counts_as_envoy};

use crate::compatibility::grpc::{Fails, Running, config, connect, owner};

/// The way in which the calls of one server fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Answered(Fails),
    Refused,
}

/// Where the filter has its counts from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Envoy,
    Answers,
}

/// Three servers that work, and another address.
struct Fleet {
    envoy: Envoy,
    client: ExternalProcessorClient<Channel>,
    _servers: Vec<Running>,
    failing: String,
    /// Keeps the address of a server that is not there.
    _refusing: TcpSocket,
}

impl Fleet {
    async fn start(way: Way, source: Source) -> Result<Self> {
        let mut servers = Vec::new();
        for name in ["a", "b", "c", "d"] {
            servers.push(Running::start(name).await?);
        }
        let refusing = TcpSocket::new_v4()?;
        refusing.bind("127.0.0.1:0".parse()?)?;
        let mut ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
        let failing = ports.first_mut().context("none")?;
        match way {
            Way::Answered(fails) => servers.first().context("none")?.fail(fails),
            Way::Refused => *failing = refusing.local_addr()?.port(),
        }
        let failing = format!("127.0.0.1:{failing}");
        let config = config(&ports)?
            .setting(
                "ejection",
                json!({"consecutive_failures": 5, "base": "300s"}),
            )?
            .setting("capture.mode", json!("count"))?;
        let config = without_retries_but_with_updates(config)?;
        let config = match source {
            Source::Envoy => config,
            Source::Answers => {
                let listed = ports
                    .iter()
                    .map(|port| json!({"address": format!("127.0.0.1:{port}")}));
                let listed: Vec<_> = listed.collect();
                config.setting(
                    "discovery",
                    json!({"source": "static", "instances": listed}),
                )?
            }
        };
        let envoy = Envoy::start(&config).await?;
        match source {
            Source::Envoy => envoy.steers_to(4).await?,
            // All workers know a list from the start.
            Source::Answers => envoy.has_eligible(4).await?,
        }
        let client = ExternalProcessorClient::new(connect(envoy.port).await?);
        Ok(Self {
            envoy,
            client,
            _servers: servers,
            failing,
            _refusing: refusing,
        })
    }

    /// One call of each of `keys` keys; returns how many failed.
    async fn call(&self, keys: usize) -> u64 {
        let mut client = self.client.clone();
        let mut failed = 0;
        for number in 0..keys {
            let called = owner(&mut client, &format!("user-{number}")).await;
            failed += u64::from(called.is_err());
        }
        failed
    }

    async fn of_failing(&self, stat: &str) -> Result<u64> {
        counted(&self.envoy, &self.failing, stat).await
    }

    /// Waits until the calls that an instance answered have an update each, and the others none.
    async fn has_updates(&self, failed: u64, way: Way) -> Result<()> {
        let expected = if way == Way::Refused { 0 } else { failed };
        let foreign = failed - expected;
        until("the updates to be counted", async || {
            let updates = self.of_failing("updates").await?;
            ensure!(updates == expected, "{updates} of {expected}");
            let others = self.envoy.ours("updates.foreign").await?;
            ensure!(others == foreign, "{others} foreign of {foreign}");
            Ok(())
        })
        .await
    }

    /// Calls until the failing instance is ejected and none of its keys fails; returns how many calls failed.
    async fn is_ejected(&self) -> Result<u64> {
        let failed = AtomicU64::new(0);
        until("the failing instance to be ejected", async || {
            let failing = self.call(60).await;
            failed.fetch_add(failing, Ordering::Relaxed);
            let eligible = self.envoy.ours("instances_eligible").await?;
            let ejections = self.envoy.ours("ejections").await?;
            ensure!((eligible, ejections) == (3, 1), "{eligible}, {ejections}");
            // A worker follows within a tick.
            ensure!(failing == 0, "{failing} of 60 fail");
            Ok(())
        })
        .await?;
        Ok(failed.into_inner())
    }
}

/// Every answer announces a data update, also one that Envoy makes itself. Without retries each call has
/// one attempt.
fn without_retries_but_with_updates(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let host = manager.pointer_mut("/route_config/virtual_hosts/0");
        let host = host.context("no host")?;
        let header = json!({"key": "x-unitring-update", "value": "carts/ada"});
        host["response_headers_to_add"] = json!([{"header": header}]);
        let route = host.pointer_mut("/routes/0/route").context("no route")?;
        let fields = route.as_object_mut().context("not an object")?;
        fields.remove("retry_policy");
        Ok(())
    })
}

const WAYS: [Way; 3] = [
    Way::Answered(Fails::InTrailers),
    Way::Answered(Fails::AtOnce),
    Way::Refused,
];

#[tokio::test]
async fn a_grpc_call_that_fails_counts_as_envoy_counts_it_and_ejects() -> Result<()> {
    for way in WAYS {
        let fleet = Fleet::start(way, Source::Envoy).await;
        counts_and_ejects(fleet?, way)
            .await
            .with_context(|| format!("{way:?}"))?;
    }
    Ok(())
}

async fn counts_and_ejects(fleet: Fleet, way: Way) -> Result<()> {
    let failed = fleet.is_ejected().await?;
    assert_eq!(fleet.call(40).await, 0, "its keys are served by others");
    let counts = counts_as_envoy(&fleet.envoy).await?;
    for (address, counts) in &counts {
        let expected = if *address == fleet.failing { failed } else { 0 };
        ensure!(
            counts.errors == expected,
            "{address}: {counts:?}, {failed} failed"
        );
    }
    // A connection that is refused is no call.
    let calls = fleet.of_failing("calls").await?;
    ensure!(
        calls == if way == Way::Refused { 0 } else { failed },
        "{calls}"
    );
    fleet.has_updates(failed, way).await
}

#[tokio::test]
async fn without_envoys_counts_a_grpc_call_is_judged_by_what_its_headers_tell() -> Result<()> {
    for way in WAYS {
        let fleet = Fleet::start(way, Source::Answers).await;
        judged_by_headers(fleet?, way)
            .await
            .with_context(|| format!("{way:?}"))?;
    }
    Ok(())
}

async fn judged_by_headers(fleet: Fleet, way: Way) -> Result<()> {
    if way != Way::Answered(Fails::InTrailers) {
        let failed = fleet.is_ejected().await?;
        until("the failures to be counted", async || {
            let all = fleet.envoy.ours("failures").await?;
            let of_failing = fleet.of_failing("failures").await?;
            ensure!(
                (all, of_failing) == (failed, failed),
                "{all}, {of_failing} of {failed}"
            );
            Ok(())
        })
        .await?;
        return fleet.has_updates(failed, way).await;
    }
    // The filter does not read trailers: such a call is neither a success nor a failure.
    let failed = fleet.call(60).await;
    until("the calls to be counted", async || {
        let calls = fleet.of_failing("calls").await?;
        ensure!(calls == failed, "{calls} of {failed}");
        Ok(())
    })
    .await?;
    assert_eq!(fleet.of_failing("failures").await?, 0);
    assert_eq!(fleet.envoy.ours("ejections").await?, 0);
    Ok(())
}

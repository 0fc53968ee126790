//! How long a worker pauses when one instance of a thousand is added or removed: its longest turn, and
//! the slowest request of a client that sends without a break, around each change, and for the same time
//! without a change.
//!
//! The instances come from a file that Envoy watches, so that only Envoy and the filter work.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;
use unitring_tests::shell::Shell;

use crate::base::{Base, endpoints, put};
use crate::clients::{Client, Owners};
use crate::scale::turns::{self, Turns};
use crate::systems::System;
use crate::upstream::Upstream;
use unitring_tests::statistics::quantile;

const INSTANCES: u32 = 1_000;
/// Changes of each system: the last instance is removed, added, removed …
const CHANGES: usize = 24;
/// Contains Envoy's notice of the file, the filter's read, and the workers' ticks.
const WINDOW: Duration = Duration::from_millis(1_200);

pub(super) async fn measure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let upstream = Upstream::start(INSTANCES).await?;
    let all = upstream.addresses.as_slice();
    let (_, but_one) = all.split_last().context("no instances")?;
    let base = Base::new(all, &companion)?;
    println!(
        "In {:.1} s around a change of one instance of {INSTANCES}, and in as long without, of {CHANGES} changes, one worker, in ms:\n",
        WINDOW.as_secs_f64(),
    );
    println!(
        "| | without: lower quartile | median | worst | with: lower quartile | median | worst |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let mut slowest = Vec::new();
    for system in [
        base.ring_hash()?,
        base.native_process()?,
        base.native_fixed()?,
        base.process()?,
        base.fixed()?,
    ] {
        let folder = TempDir::with_prefix("unitring-stall-")?;
        let file = Endpoints { folder: &folder };
        file.write(all)?;
        let system = System {
            config: looking(
                file.watched(turns::measured(system.config)?)?,
                system.ours_of.is_some(),
            )?,
            ..system
        };
        // With one worker every turn is that of the worker that serves the client.
        let envoy = Envoy::start(&system.config).await?;
        system.is_ready(&envoy).await?;
        let mut client = Client::connect(&envoy, &system, &Owners::new()).await?;
        client.send(4_000).await?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            without.push(Pause::of(&envoy, &mut client, || Ok(())).await?);
            let (before, now) = match change % 2 {
                0 => (all, but_one),
                _ => (but_one, all),
            };
            with.push(Pause::of(&envoy, &mut client, || file.write(now)).await?);
            ensure!(before.len() != now.len(), "no change");
            let expected = u64::try_from(now.len())?;
            let known = envoy.stat("cluster.orders.membership_total").await?;
            ensure!(known == expected, "Envoy did not follow: {known} instances");
            if system.ours_of.is_some() {
                envoy.has_eligible(expected).await?;
            }
        }
        let name = system.name;
        let turns = |pauses: &[Pause]| pauses.iter().map(|pause| pause.turn_ms).collect();
        let requests = |pauses: &[Pause]| pauses.iter().map(|pause| pause.request_ms).collect();
        println!(
            "{}",
            row(
                name,
                "longest turn of the worker",
                turns(&without),
                turns(&with)
            )?
        );
        slowest.push(row(
            name,
            "slowest request",
            requests(&without),
            requests(&with),
        )?);
    }
    println!("{}\n", slowest.join("\n"));
    println!(
        "Turns of the event loop by Envoy's clock, in steps of {} µs; requests of a client that asks one after the other, \
         seen from there. Whatever else the two cores do makes both longer, so the lower quartile says most.\n",
        turns::STEP_US
    );
    Ok(())
}

fn row(name: &str, what: &str, without: Vec<f64>, with: Vec<f64>) -> Result<String> {
    eprintln!("{name}, {what}: {without:.1?} ms without, {with:.1?} with");
    let [without, with] = [without, with].map(|mut times| {
        times.sort_by(f64::total_cmp);
        [0.25, 0.5, 1.0].map(|share| quantile(&times, share).unwrap_or(f64::NAN))
    });
    let cells = without.iter().chain(&with);
    let cells: Vec<String> = cells.map(|ms| format!("{ms:.1}")).collect();
    Ok(format!("| {name}: {what} | {} |", cells.join(" | ")))
}

/// The longest turn and request within a window.
struct Pause {
    turn_ms: f64,
    request_ms: f64,
}

impl Pause {
    async fn of(
        envoy: &Envoy,
        client: &mut Client,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let before = Turns::so_far(envoy).await?;
        change()?;
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < WINDOW {
            let sent = Instant::now();
            client.send(1).await?;
            slowest = slowest.max(sent.elapsed());
        }
        Ok(Self {
            turn_ms: Turns::so_far(envoy).await?.longest_since(&before)?,
            request_ms: slowest.as_secs_f64() * 1e3,
        })
    }
}

/// The file with the instances.
struct Endpoints<'a> {
    folder: &'a TempDir,
}

impl Endpoints<'_> {
    /// Envoy only notices a file that is moved into place.
    fn write(&self, instances: &[SocketAddr]) -> Result<()> {
        let assignment = json!({
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": "orders",
                "endpoints": [{"lb_endpoints": endpoints(instances)}],
            }],
        });
        let new = self.folder.path().join("new.json");
        fs::write(&new, assignment.to_string())?;
        Ok(fs::rename(new, self.folder.path().join("eds.json"))?)
    }

    fn watched(&self, config: EnvoyConfig) -> Result<EnvoyConfig> {
        let path = self.folder.path().join("eds.json");
        config.node("bench")?.edit_cluster("orders", |cluster| {
            let fields = cluster.as_object_mut().context("not an object")?;
            fields.remove("load_assignment");
            put(cluster, "type", json!("EDS"))?;
            let source =
                json!({"resource_api_version": "V3", "path_config_source": {"path": path}});
            put(cluster, "eds_cluster_config", json!({"eds_config": source}))
        })
    }
}

/// With reads of Envoy's clusters frequent enough for a change to fall into the window.
fn looking(config: EnvoyConfig, is_ours: bool) -> Result<EnvoyConfig> {
    if is_ours && config.shell() == Shell::Filter {
        return config.setting("discovery.interval", json!("500ms"));
    }
    Ok(config)
}

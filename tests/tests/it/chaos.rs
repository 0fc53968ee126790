//! Failures of instances, Envoys and the companion: no client gets an error that Envoy alone
//! would not have given, nothing stays in flight, and no event is lost.
//!
//! Two Envoys with the balancer and one without take the same load on the same instances while a seeded
//! schedule runs. `UNITRING_CHAOS_SECONDS=600 UNITRING_CHAOS_SEED=7` runs longer, or repeats a run.

mod plan;
mod world;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::on_both_shells;
use unitring_tests::seed::seed;
use unitring_tests::shell::Shell;
use unitring_tests::traffic::keys::{Keys, Numbers};
use unitring_tests::traffic::{Pace, Running, Traffic};

use plan::Action;
use world::{World, has_nothing_in_flight};

const PER_SECOND: u32 = 50;
/// Requests that must have ended after an action before the next action begins.
const QUIET: u64 = 50;

/// Compares both loads since the last call. There is no tolerance: in each step the filter may cause as
/// many errors as Envoy alone, which mostly has none.
fn compare(filtered: &Running, control: &Running, action: Action, seed: u64) -> Result<()> {
    let (filtered, control) = (filtered.take(), control.take());
    println!(
        "{action:?}: {} requests, {} errors; control {} requests, {} errors",
        filtered.requests(),
        filtered.errors(),
        control.requests(),
        control.errors()
    );
    ensure!(
        filtered.errors() <= control.errors(),
        "seed {seed}, {action:?}: {:?} {:?}, and Envoy alone had {:?} {:?}",
        filtered.statuses,
        filtered.failures,
        control.statuses,
        control.failures
    );
    Ok(())
}

/// Waits until the companion has no request in flight, and all of these events.
async fn is_told(world: &World) -> Result<()> {
    until("the companion to see nothing in flight", async || {
        let service = world.companion.get("/v1/services/orders").await?;
        let instances = service.get("instances").and_then(Value::as_array);
        let instances = instances.context("no instances")?;
        let busy = instances
            .iter()
            .filter(|instance| instance["in_flight"] != 0);
        ensure!(!instances.is_empty() && busy.count() == 0, "{service}");
        Ok(())
    })
    .await?;
    until("all events at the companion", async || {
        let told = world
            .companion
            .get("/v1/events?format=json&limit=1000")
            .await?;
        let text = |event: &Value, field: &str| Some(event.get(field)?.as_str()?.to_owned());
        let told: BTreeSet<(String, String)> = told
            .as_array()
            .context("not a list")?
            .iter()
            .filter_map(|event| Some((text(event, "kind")?, text(event, "instance")?)))
            .collect();
        let missing: Vec<_> = world
            .expected_events
            .iter()
            .filter(|(kind, instance)| !told.contains(&((*kind).to_owned(), instance.clone())))
            .collect();
        ensure!(missing.is_empty(), "missing {missing:?} in {told:?}");
        Ok(())
    })
    .await
}

on_both_shells! { no_client_gets_an_error_that_envoy_alone_would_not_have_given }

async fn no_client_gets_an_error_that_envoy_alone_would_not_have_given(shell: Shell) -> Result<()> {
    let (seed, limit) = (seed("UNITRING_CHAOS_SEED")?, plan::duration()?);
    let mut numbers = Numbers::seeded(seed);
    let mut world = World::start(shell).await?;
    let traffic = Traffic {
        pace: Pace::Open {
            per_second: PER_SECOND,
        },
        keys: Keys {
            count: 500,
            hot_percent: 20,
        },
        seed,
    };
    let filtered = traffic.start(&world.filtered.iter().collect::<Vec<&Envoy>>());
    let control = traffic.start(&[&world.control]);

    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < limit {
        for action in plan::round(&mut numbers) {
            if rounds > 0 && start.elapsed() >= limit {
                break;
            }
            let step = world.act(action, &mut numbers, &filtered).await;
            step.with_context(|| format!("seed {seed}, {action:?}"))?;
            filtered.passes(QUIET).await?;
            control.passes(QUIET).await?;
            compare(&filtered, &control, action, seed)?;
        }
        rounds += 1;
    }

    let (filtered, control) = (filtered.stop().await?, control.stop().await?);
    assert_eq!((filtered.errors(), control.errors()), (0, 0));
    for envoy in &world.filtered {
        has_nothing_in_flight(envoy).await?;
    }
    until("the instances to have nothing in flight", async || {
        for instance in &world.instances {
            let load = instance.load().await?;
            ensure!(load.in_flight == 0, "{}: {load:?}", instance.id);
        }
        Ok(())
    })
    .await?;
    is_told(&world).await
}

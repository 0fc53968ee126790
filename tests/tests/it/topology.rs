//! Invariant 1 for any cluster: the host that the filter would choose for a key, by Envoy's admin pages,
//! is the host that Envoy's own policy chooses, in clusters of any shape and state, while they change.
//!
//! One Envoy without the filter has many random clusters, and reports its chosen host in a header. A
//! failure prints the seed that repeats that Envoy: `UNITRING_SEED=7`. `UNITRING_ROUNDS=100` runs more of
//! them.

mod address;
mod change;
mod cluster;
mod compare;
mod filter;
mod model;
mod pages;
mod policy;
mod random;
mod responder;
mod world;

use std::env;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt};
use unitring_tests::seed::seed;
use unitring_tests::traffic::keys::Numbers;

use compare::{Tally, compare};
use filter::Filter;
use world::World;

const ROUNDS: u64 = 4;
const CHANGES: usize = 2;
const KEYS: usize = 200;
/// Envoys at a time: they wait more than they compute.
const PARALLEL: usize = 2;

#[tokio::test]
async fn whatever_the_cluster_and_its_state_each_key_has_the_owner_that_envoy_gives_it()
-> Result<()> {
    let seed = seed("UNITRING_SEED")?;
    let rounds = match env::var("UNITRING_ROUNDS") {
        Ok(text) => text.parse().context("UNITRING_ROUNDS")?,
        Err(_) if env::var_os("UNITRING_SEED").is_some() => 1,
        Err(_) => ROUNDS,
    };
    let seeds = stream::iter(seed..seed + rounds);
    let rounds: Vec<Result<Tally>> = seeds.map(round).buffer_unordered(PARALLEL).collect().await;
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for round in rounds {
        match round {
            Ok(other) => tally = tally.plus(other),
            Err(error) => failures.push(format!("{error:?}")),
        }
    }
    println!("{tally:#?}");
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    tally.is_enough()
}

/// One Envoy through its states.
async fn round(seed: u64) -> Result<Tally> {
    states(seed)
        .await
        .with_context(|| format!("UNITRING_SEED={seed}"))
}

async fn states(seed: u64) -> Result<Tally> {
    let mut numbers = Numbers::seeded(seed);
    let keys: Vec<String> = (0..KEYS).map(|_| format!("{:x}", numbers.draw())).collect();
    let mut world = World::start(seed, &mut numbers).await?;
    let mut tally = Tally::default();
    let filters: Result<Vec<Filter>> = world.clusters.iter().map(Filter::new).collect();
    let mut filters = filters?;
    for number in 0..=CHANGES {
        let what = || format!("after {number} changes");
        if number > 0 {
            world.change(&mut numbers).await.with_context(what)?;
        }
        world.settle().await.with_context(what)?;
        world.eject(&keys).await.with_context(what)?;
        compare(&world, &mut filters, &keys, &mut tally)
            .await
            .with_context(what)?;
    }
    Ok(tally)
}

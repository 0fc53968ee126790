//! Invariant 1 for any cluster: the host that the filter would choose for a key, by Envoy's admin pages,
//! is the host that Envoy's own policy chooses, in clusters of any shape and state, while they change. The
//! native module, which is itself the policy of each cluster of its worlds, chooses that host, too.
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
mod native;
mod pages;
mod policy;
mod random;
mod responder;
mod shell;
mod world;

use std::env;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;
use unitring_tests::config::is_before;
use unitring_tests::programs;
use unitring_tests::seed::seed;
use unitring_tests::shell::Shell;
use unitring_tests::traffic::keys::Numbers;

use compare::{Tally, compare};
use filter::Filter;
use world::World;

const ROUNDS: u64 = 3;
const NATIVE_ROUNDS: u64 = 1;
const CHANGES: usize = 2;
const KEYS: usize = 200;
/// Envoys at a time: they wait more than they compute.
const PARALLEL: usize = 2;
/// Both tests together: each Envoy has an inotify instance for each cluster by EDS, and a user has 128.
static ENVOYS: Semaphore = Semaphore::const_new(PARALLEL);

#[tokio::test]
async fn whatever_the_cluster_and_its_state_each_key_has_the_owner_that_envoy_gives_it()
-> Result<()> {
    rounds(ROUNDS, Shell::Filter).await
}

#[tokio::test]
async fn whatever_the_cluster_and_its_state_the_native_module_takes_the_owner_of_envoys_policy()
-> Result<()> {
    rounds(NATIVE_ROUNDS, Shell::Native).await
}

async fn rounds(usual: u64, shell: Shell) -> Result<()> {
    let seed = seed("UNITRING_SEED")?;
    let rounds = match env::var("UNITRING_ROUNDS") {
        Ok(text) => text.parse().context("UNITRING_ROUNDS")?,
        Err(_) if env::var_os("UNITRING_SEED").is_some() => 1,
        Err(_) => usual,
    };
    let seeds = stream::iter(seed..seed + rounds);
    let rounds = seeds.map(|seed| round(seed, shell));
    let rounds: Vec<Result<Tally>> = rounds.buffer_unordered(PARALLEL).collect().await;
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

/// How often the clusters change. Envoys before 1.39 crash at some changes, although they run no filter here.
fn changes() -> usize {
    let asked = programs::asked_envoy().unwrap_or_default();
    if is_before(&asked, 39) { 0 } else { CHANGES }
}

/// One Envoy through its states.
async fn round(seed: u64, shell: Shell) -> Result<Tally> {
    let _permit = ENVOYS.acquire().await?;
    states(seed, shell)
        .await
        .with_context(|| format!("UNITRING_SEED={seed}"))
}

async fn states(seed: u64, shell: Shell) -> Result<Tally> {
    let mut numbers = Numbers::seeded(seed);
    if shell == Shell::Native {
        // The worlds of both shells may run at once, so those of one seed have different addresses.
        numbers.draw();
    }
    let keys: Vec<String> = (0..KEYS).map(|_| format!("{:x}", numbers.draw())).collect();
    let mut world = World::start(seed, shell, &mut numbers).await?;
    let mut tally = Tally::default();
    let filters: Result<Vec<Option<Filter>>> = world.clusters.iter().map(Filter::beside).collect();
    let mut filters = filters?;
    for number in 0..=changes() {
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

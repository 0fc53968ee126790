//! Invariant 1 for any cluster: whom the filter would choose for a key, told from Envoy's admin pages,
//! is whom Envoy's own policy chooses, in clusters of any shape and state, while they change.
//!
//! One Envoy without the filter has many random clusters, and says in a header whom it chose. What a
//! failure prints repeats that Envoy: `UNITRING_SEED=7`. `UNITRING_ROUNDS=100` for more of them.

mod address;
mod change;
mod cluster;
mod model;
mod pages;
mod policy;
mod random;
mod responder;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use unitring_routing::key::header_hash;
use unitring_tests::seed::seed;
use unitring_tests::traffic::keys::Numbers;

use cluster::Cluster;
use model::{Model, Owner};
use pages::Pages;
use world::World;

const ROUNDS: u64 = 4;
const CHANGES: usize = 2;
const KEYS: usize = 200;
/// How many Envoys at a time: they wait more than they compute.
const PARALLEL: usize = 2;
const TRIES: usize = 20;

/// What was compared.
#[derive(Debug, Default)]
struct Tally {
    keys: usize,
    unknown: usize,
    /// How often what was seen.
    sights: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn see(&mut self, sight: &'static str, times: usize) {
        *self.sights.entry(sight).or_default() += times;
    }
}

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
    let tallies: Vec<Tally> = seeds
        .map(round)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (keys, unknown) = (sum(|tally| tally.keys), sum(|tally| tally.unknown));
    let mut all = Tally::default();
    for (sight, times) in tallies.iter().flat_map(|tally| &tally.sights) {
        all.see(sight, *times);
    }
    println!("{keys} keys, {unknown} unknown, {:#?}", all.sights);
    ensure!(
        unknown * 20 < keys,
        "{unknown} of {keys} keys are left to Envoy"
    );
    Ok(())
}

/// One Envoy in its states.
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
    for number in 0..=CHANGES {
        let what = || format!("after {number} changes");
        if number > 0 {
            world.change(&mut numbers).await.with_context(what)?;
        }
        world.settle().await.with_context(what)?;
        world.eject(&keys).await.with_context(what)?;
        compare(&world, &keys, &mut tally)
            .await
            .with_context(what)?;
    }
    Ok(tally)
}

async fn compare(world: &World, keys: &[String], tally: &mut Tally) -> Result<()> {
    for _ in 0..TRIES {
        world.settle().await?;
        let before = world.state().await?;
        let mut pages = Vec::new();
        for cluster in &world.clusters {
            pages.push(world.pages(cluster).await?);
        }
        let all: Vec<usize> = (0..world.clusters.len()).collect();
        let owners = world.owners(&all, keys).await?;
        // Asking may itself eject hosts that refuse; then it was asked of two states.
        if world.state().await? != before {
            continue;
        }
        for ((cluster, pages), owners) in world.clusters.iter().zip(&pages).zip(&owners) {
            compare_cluster(cluster, pages, keys, owners, tally)?;
        }
        return Ok(());
    }
    bail!("the hosts never stay as they are")
}

fn compare_cluster(
    cluster: &Cluster,
    pages: &Pages,
    keys: &[String],
    owners: &[Option<String>],
    tally: &mut Tally,
) -> Result<()> {
    let model = Model::read(pages).with_context(|| format!("{pages:?}"))?;
    tally.see("clusters", 1);
    for sight in model.sights().chain(pages.sights()) {
        tally.see(sight, 1);
    }
    let mut differing = Vec::new();
    for (key, owner) in keys.iter().zip(owners) {
        let hash = header_hash(&mut [key.as_bytes()]).context("no hash")?;
        let told = model.owner(hash);
        tally.keys += 1;
        match (&told, owner) {
            (Owner::Unknown(why), _) => {
                tally.unknown += 1;
                tally.see(why, 1);
            }
            (Owner::Nobody, None) => tally.see("keys of nobody", 1),
            (Owner::Host(told), Some(owner)) if told == owner => {}
            _ => differing.push((key, hash % 100 + 1, owner, told)),
        }
    }
    let draws: BTreeSet<u64> = differing.iter().map(|(_, draw, ..)| *draw).collect();
    ensure!(
        differing.is_empty(),
        "{} of {} keys differ, as {:?}; they draw {draws:?} of 100 in\n{}\n{}\n{}\n{}",
        differing.len(),
        keys.len(),
        differing.first(),
        serde_json::to_string(cluster)?,
        pages.hosts,
        pages.endpoints,
        pages.settings,
    );
    Ok(())
}

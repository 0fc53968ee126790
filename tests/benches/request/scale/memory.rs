//! Memory of an Envoy with and without each shell, and a VM's part of it.

use anyhow::Result;
use futures_util::future::try_join_all;
use unitring_tests::companion::Settings;
use unitring_tests::envoy::Envoy;

use crate::base::Base;
use crate::clients::{Client, Owners};
use crate::systems::System;
use crate::upstream::Upstream;
use unitring_tests::statistics::median;

const INSTANCES: u32 = 100;
/// Few workers and many: the memory that an Envoy needs once cancels out.
const WORKERS: [u32; 2] = [1, 5];
const ROUNDS: usize = 3;
/// Enough for every worker to have some.
const CONNECTIONS: usize = 40;
const REQUESTS: usize = 200;

pub(super) async fn measure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let upstream = Upstream::start(INSTANCES).await?;
    let base = Base::new(&upstream.addresses, &companion)?;
    println!(
        "Resident memory in MiB, {INSTANCES} instances, after {} requests:\n",
        CONNECTIONS * REQUESTS
    );
    println!("| | `--concurrency 1` | `--concurrency 5` | a worker |");
    println!("|---|---:|---:|---:|");
    let mut of_workers = Vec::new();
    for system in base.shells()?.into_iter().chain([base.nothing()?]) {
        let few = resident(&system, WORKERS[0]).await?;
        let many = resident(&system, WORKERS[1]).await?;
        let of_worker = (many - few) / f64::from(WORKERS[1] - WORKERS[0]);
        println!(
            "| {} | {few:.1} | {many:.1} | {of_worker:.1} |",
            system.name
        );
        of_workers.push(of_worker);
    }
    if let [ring_hash, _, _, process, fleet, ..] = of_workers.as_slice() {
        println!(
            "\nSo a worker's VM takes {:.1} MiB with `scope: process` and {:.1} MiB with `scope: fleet`.\n",
            process - ring_hash,
            fleet - ring_hash,
        );
    }
    Ok(())
}

async fn resident(system: &System, workers: u32) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let envoy = Envoy::start_with_workers(&system.config, workers).await?;
        system.is_ready(&envoy).await?;
        let owners = Owners::new();
        let clients = (0..CONNECTIONS).map(|_| Client::connect(&envoy, system, &owners));
        let mut clients = try_join_all(clients).await?;
        try_join_all(clients.iter_mut().map(|client| client.send(REQUESTS))).await?;
        let kib = envoy.resident_bytes()? / 1024;
        rounds.push(f64::from(u32::try_from(kib)?) / 1024.0);
    }
    eprintln!("{}, {workers} workers: {rounds:.1?} MiB", system.name);
    median(rounds)
}

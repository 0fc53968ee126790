//! Processor time a request: all systems in turn, several rounds, each against another system in the same
//! round.

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use unitring_tests::envoy::Envoy;
use unitring_tests::usage;

use crate::clients::{Client, Owners};
use crate::systems::System;
use unitring_tests::statistics::median;

const ROUNDS: usize = 9;
/// Requests of a round on each connection.
const REQUESTS: usize = 1_000;
const CONNECTIONS: usize = 4;

/// The figures of one system.
pub(crate) struct Figures {
    /// The ratio of its time to that of the system it is compared with, the median of the rounds.
    pub(crate) ratio: f64,
}

/// `base` gives for each system the index of the system it is compared with.
pub(crate) async fn measure(
    systems: &[System],
    owners: &Owners,
    base: impl Fn(usize) -> usize,
) -> Result<Vec<Figures>> {
    let mut running = Vec::new();
    for system in systems {
        let envoy = Envoy::start_with_workers(&system.config, system.workers).await?;
        system.is_ready(&envoy).await?;
        let clients = (0..CONNECTIONS).map(|_| Client::connect(&envoy, system, owners));
        let clients = try_join_all(clients).await?;
        let helper = system.picker.as_ref().map(|picker| picker.id());
        running.push((envoy, helper, clients));
    }
    let mut ratios = vec![Vec::new(); running.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        let mut times: Vec<f64> = Vec::new();
        for (number, (envoy, helper, clients)) in running.iter_mut().enumerate() {
            let processes: Vec<u32> = [envoy.id()].into_iter().chain(*helper).collect();
            let before = processor_time(&processes)?;
            try_join_all(clients.iter_mut().map(|client| client.send(REQUESTS))).await?;
            let time = processor_time(&processes)? - before;
            times.push(time);
            let base = times.get(base(number)).context("no such system")?;
            if let Some(ratios) = ratios.get_mut(number).filter(|_| round > 0) {
                ratios.push(time / base);
            }
        }
    }
    let figures = ratios.into_iter().map(|ratios| {
        Ok(Figures {
            ratio: median(ratios)?,
        })
    });
    figures.collect()
}

/// Processor seconds of all threads of these processes.
fn processor_time(processes: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for process in processes {
        sum += usage::processor_time(*process)?.as_secs_f64();
    }
    Ok(sum)
}

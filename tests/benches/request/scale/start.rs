//! How long Envoy takes until it is ready, with and without each shell, in turn.

use std::time::Instant;

use anyhow::Result;
use unitring_tests::companion::Settings;
use unitring_tests::envoy::Envoy;

use crate::base::Base;
use crate::upstream::Upstream;
use unitring_tests::statistics::median;

const INSTANCES: u32 = 100;
const WORKERS: u32 = 2;
const ROUNDS: usize = 9;

pub(super) async fn measure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let upstream = Upstream::start(INSTANCES).await?;
    let base = Base::new(&upstream.addresses, &companion)?;
    let systems = [base.ring_hash()?, base.native_process()?, base.process()?];
    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (system, seconds) in systems.iter().zip(&mut seconds) {
            let began = Instant::now();
            let envoy = Envoy::start_with_workers(&system.config, WORKERS).await?;
            seconds.push(began.elapsed().as_secs_f64());
            drop(envoy);
        }
    }
    println!(
        "From Envoy's start until it is ready, two workers, {INSTANCES} instances, median of {ROUNDS} starts in turn:\n"
    );
    println!("| | seconds |");
    println!("|---|---:|");
    for (system, seconds) in systems.iter().zip(seconds) {
        println!("| {} | {:.2} |", system.name, median(seconds)?);
    }
    println!();
    Ok(())
}
